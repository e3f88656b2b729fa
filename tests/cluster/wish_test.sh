#!/bin/bash
# wish_test.sh - what people and cluster managers wish of a pool: nobody's applications are cut off
# unasked, a wish ends with whoever has it, and an agent alone leaves a cluster's lun alone.
. "$(dirname "$0")/lib.sh"

# code WANT COMMAND...: its exit code; what it says is in $WORK/out.
code() {
	local want=$1 got=0
	shift
	"$@" >"$WORK/out" 2>&1 </dev/null || got=$?
	[ $got = "$want" ] || fail "$*: $got, not $want: $(cat "$WORK/out")"
}

said() {
	grep -q -e "$1" "$WORK/out" || fail "does not say '$1': $(cat "$WORK/out")"
}

state_is() {
	is "$1" status ".pools[0].state == \"$2\""
}

serves() {
	state_is "$1" serving
}

epoch() {
	ask "$1" status '.pools[0].epoch'
}

# ---- A healthy owner. ----

the_owner_is_left_alone() {
	local before
	load n1 calm
	before=$(epoch n1)
	code 5 ferry n2 acquire data
	said 'n1 serves it: `ferry move data n2` there, or --take'
	io_goes n1
	load_was_clean calm
	[ "$(epoch n1)" = "$before" ] || fail "it was deposed for a moment"
	code 0 ferry n2 acquire data --take
	serves n2 || fail "it was not taken"
	code 0 ferry n1 release data # What it lost it may give up.
}

# ---- What is in use. ----

mounted() {
	DEVICE=$(ferry n2 attach data) || fail "it cannot be attached"
	on n2 sh -c "mkfs.ext4 -q -F $DEVICE && mkdir -p /mnt/wish && mount $DEVICE /mnt/wish" ||
		fail "it cannot be mounted"
	on n2 sh -c 'echo not synced >/mnt/wish/file' || fail "it cannot be written"
}

in_use_is_left_alone() {
	mounted
	code 5 ferry n2 release data
	said 'volume data is in use: its file is open 1 times'
	said '--force'
	code 5 ferry n2 move data n3
	said 'is in use'
	serves n2 || fail "it does not serve any more: $(ask n2 status .pools[0])"
	on n2 sh -c 'sync -f /mnt/wish/file && umount /mnt/wish' || fail "the filesystem was disturbed"
	code 5 ferry n2 release data # Its device is still there.
	code 0 ferry n2 detach data
	DEVICE=
	code 0 ferry n2 move data n3 # Just detached is not in use.
	serves n3 || fail "n3 does not serve"
	load n3 busy --go-on
	code 5 ferry n3 release data
	said '1 NBD clients'
	io_goes n3
	code 0 ferry n3 release data --force
	load_end busy && fail "its application saw no error"
	state_is n3 standby || fail "n3: $(ask n3 status .pools[0])"
}

is_detached() {
	code 0 ferry "$1" detach data
	[ ! -e "/sys/block/${2#/dev/}/loop/backing_file" ]
}

# A device whose pool is another's: it gives errors, and can be taken away where it is.
detach_where_it_is_lost() {
	code 0 ferry n2 acquire data
	DEVICE=$(ferry n2 attach data) || fail "it cannot be attached"
	code 0 ferry n1 acquire data --take
	code 0 ferry n2 release data
	on n2 dd if="$DEVICE" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null &&
		fail "a lost volume's device answers"
	# The kernel believes a file's attributes for a second.
	wait_for 5 "its device is taken away" is_detached n2 "$DEVICE"
	DEVICE=
	code 4 ferry n2 detach nothing
	at_rest n1
}

# ---- A target that cannot serve. ----

path_of_n3_is() {
	is n1 paths "[.paths[] | select(.kind == \"peer\" and .node == 3)][0].reason $1"
}

no_path_there() {
	local before
	at_rest n1
	before=$(epoch n1)
	"$LAB" cut n3 storage
	wait_for 20 "n1 knows that n3's path fails" path_of_n3_is '!= ""'
	code 5 ferry n1 move data n3
	said 'no path to the lun that works'
	serves n1 || fail "nobody serves: $(ask n1 status .pools[0])"
	[ "$(epoch n1)" = "$before" ] || fail "it was deposed for a moment"
	code 0 ferry n1 release data
	ferry n3 -t 8 acquire data >"$WORK/acquire.out" 2>&1 &
	JOBS+=($!)
	wait_for 6 "n3 says what it waits for" is n3 status '.pools[0] | .state == "acquiring" and
		(.reason | test("waits for this node.s path to the lun"))'
	wait $!
	[ $? = 6 ] || fail "not in time: $(cat "$WORK/acquire.out")"
	grep -q 'not in time: waits for this node.s path to the lun; withdrawn' \
		"$WORK/acquire.out" || fail "$(cat "$WORK/acquire.out")"
	"$LAB" heal n3 storage
	wait_for 20 "n3's path is back" path_of_n3_is '== ""'
	never_for 2 "n3 serves, unasked" serves n3
	own n1
	at_rest n1
}

# ---- Nobody to agree with. ----

alone() {
	local node
	for node in n2 n3; do
		agent_signal $node TERM
	done
	for node in n2 n3; do
		wait_for 25 "the agent of $node stops" agent_is_gone $node
	done
}

# acquires_in_vain: n1, in the background, for a minute; $ASKER is its pid.
acquires_in_vain() {
	# As a child of this shell, so that it can be killed.
	"$LAB" exec n1 "$FERRY" acquire data >"$WORK/acquire.out" 2>&1 &
	ASKER=$!
	JOBS+=($ASKER)
	wait_for 5 "n1 says what it waits for" is n1 status '.pools[0] | .state == "acquiring" and
		(.reason | test("waits for the agents of n2, n3: 2 of 3 are needed, 1 here"))'
}

never_serves_when_they_are_back() {
	local node
	for node in n2 n3; do
		agent_start $node
	done
	for node in n2 n3; do
		wait_for 20 "the agent of $node is ready" agent_is_ready $node
	done
	never_for 3 "n1 serves, unasked" serves n1
}

without_a_majority() {
	local began
	code 0 ferry n1 release data
	alone
	acquires_in_vain
	began=$(now_ns)
	code 0 ferry n1 release data
	[ $((($(now_ns) - began) / 1000000)) -lt 3000 ] || fail "the release took its time"
	wait $ASKER && fail "the acquire has come true"
	grep -q 'released meanwhile' "$WORK/acquire.out" || fail "$(cat "$WORK/acquire.out")"
	state_is n1 standby || fail "n1: $(ask n1 status .pools[0])"
	code 0 ferry n1 release data # And again.
	code 6 ferry n1 -t 2 acquire data
	said 'waits for the agents of n2, n3: 2 of 3 are needed, 1 here; withdrawn'
	state_is n1 standby || fail "n1: $(ask n1 status .pools[0])"
	acquires_in_vain
	on n1 pkill -KILL -x -f "$FERRY acquire data" || fail "the asker was not found"
	wait_for 3 "the wish ends with its asker" state_is n1 standby
	never_serves_when_they_are_back
	own n1
	at_rest n1
}

# ---- An agent alone. ----

ALONE=/run/alone

alone_begin() {
	on n3 sh -c "mkdir -p $ALONE; setsid $FERRYD --standalone --nbd unix:$ALONE/nbd.sock \
		--lun iscsi://10.98.0.254/iqn.2026-11.ferry.lab:disk/1 --run-dir $ALONE $* \
		>$ALONE/log 2>&1 </dev/null & echo \$! >/run/ferryd.pid"
}

alone_says() {
	on n3 grep -q -e "$1" $ALONE/log
}

alone_end() {
	agent_signal n3 TERM
	wait_for 25 "it stops" agent_is_gone n3
}

standalone() {
	agent_signal n3 TERM
	wait_for 25 "the agent of n3 stops" agent_is_gone n3
	load n1 calm
	alone_begin
	wait_for 15 "it refuses" alone_says 'not served: nodes [1-3].* registered at the lun'
	note "$(on n3 grep -h 'not served' $ALONE/log | tail -1 | sed 's/.*not served/not served/')"
	code 0 ferry n3 --socket $ALONE/ferry.sock status --json
	jq -e '.pools[0] | .state == "failed" and (.reason | test("registered at the lun"))' \
		"$WORK/out" >/dev/null || fail "$(cat "$WORK/out")"
	on n3 /usr/bin/python3 "$HERE/client.py" once "nbd+unix:///volume?socket=$ALONE/nbd.sock" \
		write >"$WORK/out" 2>&1 && fail "it takes a write"
	alone_end
	load_was_clean calm
	check_blocks n1 "$WORK/calm.journal"
	alone_begin --despite-registrations
	wait_for 15 "it serves all the same" alone_serves
	alone_end
	serves n1 || fail "the cluster's owner was disturbed"
}

alone_serves() {
	ferry n3 --socket $ALONE/ferry.sock status --json 2>/dev/null |
		jq -e '.pools[0].state == "serving"' >/dev/null
}

DEVICE=

# Loop devices are the machine's: what a failure leaves would stay.
finish() {
	on n2 umount /mnt/wish 2>/dev/null
	[ -z "$DEVICE" ] || [ ! -e "/sys/block/${DEVICE#/dev/}/loop/backing_file" ] ||
		on n2 losetup --detach "$DEVICE"
}
FINISH=finish

export PATH_TIMEOUT=1s HOLD_TIMEOUT=10s
begin
agents_up
own n1
at_rest n1
scenario "a healthy owner is left alone" the_owner_is_left_alone
scenario "what is in use is left alone" in_use_is_left_alone
scenario "a device whose pool is another's" detach_where_it_is_lost
scenario "a target without a path" no_path_there
scenario "an acquire without a majority" without_a_majority
scenario "an agent alone, and a cluster's lun" standalone
