#!/bin/bash
# power_test.sh - a lun without reservations: the node that owns the pool loses its power, a real
# pacemaker-fenced makes sure of that, and a survivor takes the pool by itself when the lun's quiesce
# time has passed since, and not before.
. "$(dirname "$0")/lib.sh"

LAB_UP="--plain"
QUIESCE_S=6
export LUN_MORE="quiesce_time = ${QUIESCE_S}s"
export PACEMAKER_MORE="power_agent = fence_lab"

finish() {
	local node
	for node in n1 n2 n3; do
		on $node sh -c 'kill -KILL $(cat /run/ferryd.pid)' 2>/dev/null
	done
}
FINISH=finish

# acquire NODE SECONDS: in the background, as a resource's start would; acquired waits for it.
acquire() {
	ferry "$1" -t "$2" acquire data >"$WORK/acquire.out" 2>&1 &
	ACQUIRING=$!
	JOBS+=($ACQUIRING)
}

acquired() {
	wait "$ACQUIRING" || fail "the pool is not had: $(cat "$WORK/acquire.out")"
}

serves() {
	is "$1" status '.pools[0].state == "serving"'
}

confirmed_count() {
	log_count "$1" "has cut this node's power"
}

confirmed_again() {
	[ "$(confirmed_count "$1")" -gt "$2" ]
}

# not_before_then NODE COUNT: from the confirmation on, all of the quiesce time.
not_before_then() {
	local began took
	wait_for 30 "$1 hears that the power was cut" confirmed_again "$1" "$2"
	began=$(now_ns)
	never_for $((QUIESCE_S - 2)) "$1 serves before the quiesce time is over" serves "$1"
	acquired
	took=$((($(now_ns) - began) / 1000000))
	[ $took -ge $(((QUIESCE_S - 1) * 1000)) ] || fail "$1 served $took ms after the fencing"
	serves "$1" || fail "$1 does not serve"
	note "served $took ms after the fencing was heard of; promised: $QUIESCE_S s"
}

class_is_none() {
	wait_for 30 "it is known what the fence devices do" is n1 luns \
		'.luns[0] | .lun_class == "none" and .laying == "power fencing, quiesce time"'
	acquire n1 30
	acquired
	load n1 calm
	io_goes n1
	load_was_clean calm
}

its_node_is_gone() {
	local before
	before=$(confirmed_count n2)
	load n1 first --depth 8 --go-on
	io_goes n1
	"$LAB" kill n1
	wait_for 10 "n1 is no member any more" is n2 status '.members == [2, 3]'
	acquire n2 60
	not_before_then n2 "$before"
	on n2 crm_mon --one-shot --output-as=xml --include=none,fencing --fence-history=3 |
		grep -o 'action="reboot" target="n1".*status="success"' | sed 's/^/  /' | tail -1
	load n2 second
	io_goes n2
	load_was_clean second
	check_blocks n2 "$WORK/first.journal" "$WORK/second.journal"
}

# A new agent of that node is a member: then it has drained for itself, and nobody is fenced.
comes_back() {
	wait_for 30 "n1's corosync runs" on n1 sh -c "corosync-quorumtool -s >/dev/null 2>&1"
	agent_start n1
	wait_for 15 "the agent of n1 is ready" agent_is_ready n1
	ferry n2 release data >"$WORK/release.out" 2>&1 || fail "$(cat "$WORK/release.out")"
	acquire n1 30
	acquired
	wait_for 30 "Pacemaker has all nodes" sh -c "'$LAB' wait 3 n2"
}

# Its agent alone is gone: what Pacemaker did before says nothing of that.
an_old_fencing() {
	local before
	agent_signal n1 KILL
	wait_for 10 "n1 is no member any more" is n3 status '.members == [2, 3]'
	before=$(confirmed_count n3)
	ferry n3 -t 4 acquire data >"$WORK/acquire.out" 2>&1 && fail "an old fencing is believed"
	grep -q 'until n1 is fenced by its power, or back' "$WORK/acquire.out" ||
		fail "what it waits for: $(cat "$WORK/acquire.out")"
	note "$(cat "$WORK/acquire.out")"
	acquire n3 60
	on n2 stonith_admin --reboot n1 --timeout 60 >"$WORK/fence.out" 2>&1 ||
		fail "$(cat "$WORK/fence.out")"
	not_before_then n3 "$before"
}

begin
agents_up
scenario "the lun has no reservations" class_is_none
scenario "the owner's node is gone, and fenced" its_node_is_gone
scenario "it comes back" comes_back
scenario "an old fencing, and a new one" an_old_fencing
