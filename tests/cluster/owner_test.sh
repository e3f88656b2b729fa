#!/bin/bash
# owner_test.sh - the pool changes hands, in order and in every disorder that the lab can make:
# what was acknowledged as durable is there afterwards, and whoever was deposed writes nothing.
. "$(dirname "$0")/lib.sh"

J1=first J2=second

epoch() {
	ask "$1" status '.pools[0].epoch'
}

knows_epoch() {
	is "$1" status ".pools[0].epoch >= $2"
}

serves() {
	is "$1" status '.pools[0].state == "serving"'
}

members_are() {
	is "$1" status ".members == $2"
}

once() {
	on "$1" /usr/bin/python3 "$HERE/client.py" once "$URI" "$2" 2>&1
}

# own_after_fault NODE: what a cluster manager does: it tries until it is done.
acquires() {
	ferry "$1" acquire data --take >"$WORK/acquire.out" 2>&1
}

# restful NODE: it owns the pool, everyone's path is good.
restful() {
	local node
	for node in n1 n2 n3; do
		wait_for 20 "the agent of $node is ready" agent_is_ready $node
	done
	serves "$1" || own "$1"
	at_rest "$1"
}

# ---- Power. ----

kill_the_owner() {
	local before began
	restful n1
	before=$(epoch n1)
	load n1 $J1
	io_goes n1 3000
	began=$(now_ns)
	"$LAB" kill n1
	wait_for 10 "n2 sees that n1 is gone" members_are n2 '[2,3]'
	wait_for 15 "n2 acquires" acquires n2
	note "taken over $((($(now_ns) - began) / 1000000)) ms after the power cut"
	[ "$(epoch n2)" -gt "$before" ] || fail "no new epoch: $(epoch n2) after $before"
	load_end $J1 && fail "the load of a dead node cannot have ended well"
	check_blocks n2 "$WORK/$J1.journal"
	log_has n2 'preempting a registrant' ||
		fail "the dead node's registration was not preempted"
	load n2 $J2
	io_goes n2
	load_was_clean $J2
	"$LAB" boot n1
	"$LAB" wait >/dev/null || fail "corosync of n1 does not come back"
	agent_start n1
	wait_for 20 "n1's agent is back" agent_is_ready n1
	wait_for 5 "n1 has learnt the epoch" knows_epoch n1 "$(epoch n2)"
	is n1 status '.pools[0].state == "standby" and .pools[0].owner == 2' ||
		fail "n1 is not a standby of n2's: $(ask n1 status .pools[0])"
	once n1 read >"$WORK/once.out" && fail "n1 serves a pool that it does not own"
	at_rest n2
	check_blocks n2 "$WORK/$J1.journal" "$WORK/$J2.journal"
}

# ---- Partition: the owner is alone. ----

partition_the_owner() {
	local before began
	restful n2
	before=$(epoch n2)
	load n2 $J1 --go-on
	io_goes n2 3000
	began=$(now_ns)
	"$LAB" cut n2 cluster
	wait_for 10 "n2 has no quorum" is n2 status '.quorate == false'
	wait_for 10 "n2 holds" is n2 status '.pools[0].state == "holding"'
	wait_for 10 "n3 sees that n2 is gone" members_are n3 '[1,3]'
	wait_for 15 "n3 acquires" acquires n3
	note "taken over $((($(now_ns) - began) / 1000000)) ms after the partition"
	[ "$(epoch n3)" -gt "$before" ] || fail "no new epoch"
	log_has n3 'preempting a registrant' || fail "the old owner was not preempted at the target"
	load n3 $J2
	io_goes n3 3000
	wait_for $((HOLD + 5)) "the minority's I/O fails" is n2 status '.pools[0].failures > 0'
	load_was_clean $J2
	check_blocks n3 "$WORK/$J1.journal" "$WORK/$J2.journal"
	is n2 status '.pools[0].state == "serving"' && fail "the minority says that it serves"
	"$LAB" heal n2 cluster
	wait_for 15 "n2 has learnt the epoch" knows_epoch n2 "$(epoch n3)"
	is n2 status '.pools[0].state != "serving" and .pools[0].owner == 3 and
		(.pools[0].reason | length) > 0' || fail "n2's status: $(ask n2 status .pools[0])"
	note "n2 says: $(ask n2 status '"\(.pools[0].state): \(.pools[0].reason)"')"
	once n2 write >"$WORK/once.out" && fail "a deposed owner takes a write"
	note "a write at the deposed owner: $(cat "$WORK/once.out") ms"
	load_end $J1
	at_rest n3
	check_blocks n3 "$WORK/$J1.journal" "$WORK/$J2.journal"
	serves n3 || fail "n3 does not serve any more"
	forget n2
}

# Applications have had their errors: the node gives up its volume.
forget() {
	ferry "$1" release data >"$WORK/release.out" 2>&1 ||
		fail "$1 cannot give up what it lost: $(cat "$WORK/release.out")"
	is "$1" status '.pools[0].state == "standby"' || fail "$1: $(ask "$1" status .pools[0])"
}

# ---- A frozen owner. ----

freeze_the_owner() {
	local before
	restful n3
	before=$(epoch n3)
	load n3 $J1 --go-on
	io_goes n3
	agent_signal n3 STOP
	wait_for 15 "n1 acquires" acquires n1
	[ "$(epoch n1)" -gt "$before" ] || fail "no new epoch"
	log_has n1 'preempting a registrant' ||
		fail "the frozen node was not preempted at the target"
	load n1 $J2
	io_goes n1
	agent_signal n3 CONT
	wait_for 10 "n3 finds out" knows_epoch n3 "$(epoch n1)"
	is n3 status '.pools[0].state != "serving" and .pools[0].owner == 1' ||
		fail "n3's status: $(ask n3 status .pools[0])"
	once n3 write >"$WORK/once.out" && fail "a deposed owner takes a write"
	once n3 read >"$WORK/once.out" && fail "a deposed owner serves a read"
	io_goes n1
	load_was_clean $J2
	load_end $J1 && fail "the deposed owner's application saw no error"
	note "n3 says: $(ask n3 status '"\(.pools[0].state): \(.pools[0].reason)"');" \
		"its application: $(figure $J1 '.first_errors[0] | .[1] + " " + .[2]')"
	check_blocks n1 "$WORK/$J1.journal" "$WORK/$J2.journal"
	at_rest n1
	forget n3
}

# ---- The agent alone dies. ----

kill_the_agent() {
	local before incarnation
	restful n1
	before=$(epoch n1)
	incarnation=$(ask n1 status .incarnation)
	load n1 $J1
	io_goes n1
	agent_signal n1 KILL
	wait_for 5 "the agent is gone" agent_is_gone n1
	load_end $J1 && fail "the load cannot have ended well"
	agent_start n1
	wait_for 20 "the agent is back" agent_is_ready n1
	is n1 status ".incarnation == $incarnation + 1" || fail "not the next incarnation"
	wait_for 15 "its pool is its own again, unasked" serves n1
	[ "$(epoch n1)" -gt "$before" ] || fail "no new epoch"
	check_blocks n1 "$WORK/$J1.journal"
	load n1 $J2
	io_goes n1
	load_was_clean $J2
	at_rest n1
	check_blocks n1 "$WORK/$J1.journal" "$WORK/$J2.journal"
}

# ---- In order. ----

# hand_over FROM TO LIMIT_MS [--force]
hand_over() {
	local began took
	began=$(now_ns)
	ferry "$1" release data ${4:-} >"$WORK/release.out" 2>&1 ||
		fail "$1 does not release: $(cat "$WORK/release.out")"
	took=$((($(now_ns) - began) / 1000000))
	is "$1" status '.pools[0].state == "standby"' || fail "$1: $(ask "$1" status .pools[0])"
	own "$2"
	note "$1 → $2: released after $took ms, served after $((($(now_ns) - began) / 1000000)) ms"
	[ $took -le "$3" ] || fail "the release took $took ms, more than $3"
}

in_order() {
	local preempted
	restful n1
	preempted=$(log_count n2 'preempting a registrant')
	load n1 $J1
	io_goes n1
	load_was_clean $J1
	hand_over n1 n2 2000
	[ "$(log_count n2 'preempting a registrant')" -eq "$preempted" ] ||
		fail "somebody was preempted although all had drained"
	check_blocks n2 "$WORK/$J1.journal"
	restful n2
}

# The releasing node has no path: its I/O goes by peers, and the release still ends soon.
in_order_without_storage() {
	restful n2
	load n2 $J1
	io_goes n2
	"$LAB" cut n2 storage
	wait_for 20 "the path is convicted" path_is n2 convicted
	hand_over n2 n3 8000 --force
	load_end $J1 && fail "the application of a released volume saw no error"
	check_blocks n3 "$WORK/$J1.journal"
	"$LAB" heal n2 storage
	restful n3
}

# And even when nobody has a path.
release_without_any_storage() {
	local node began
	restful n3
	load n3 $J1
	for node in n1 n2 n3; do
		"$LAB" cut $node storage
	done
	wait_for 20 "I/O is held" io_is_held n3
	began=$(now_ns)
	ferry n3 release data --force >"$WORK/release.out" 2>&1 ||
		fail "n3 does not release: $(cat "$WORK/release.out")"
	note "released after $((($(now_ns) - began) / 1000000)) ms, without any storage"
	[ $((($(now_ns) - began) / 1000000)) -le 10000 ] || fail "the release took too long"
	load_end $J1 && fail "the application of a released volume saw no error"
	for node in n1 n2 n3; do
		"$LAB" heal $node storage
	done
	wait_for 40 "n1 acquires" acquires n1
	check_blocks n1 "$WORK/$J1.journal"
}

# Every agent is asked to stop, and starts again: the epoch goes on from where it was.
all_restart() {
	local node before
	before=$(epoch n1)
	for node in n1 n2 n3; do
		agent_signal $node TERM
	done
	for node in n1 n2 n3; do
		wait_for 25 "the agent of $node stops" agent_is_gone $node
	done
	agents_up
	own n2
	[ "$(epoch n2)" -gt "$before" ] || fail "the epoch did not go on: $(epoch n2) after $before"
	restful n2
}

HOLD=8
export PATH_TIMEOUT=1s HOLD_TIMEOUT=${HOLD}s
begin
agents_up
scenario "power cut of the owner" kill_the_owner
scenario "partition of the owner" partition_the_owner
scenario "the owner's agent freezes" freeze_the_owner
scenario "the owner's agent is killed" kill_the_agent
scenario "in order" in_order
scenario "in order, the releasing node without storage" in_order_without_storage
scenario "release with no storage at all" release_without_any_storage
scenario "all agents restart" all_restart
