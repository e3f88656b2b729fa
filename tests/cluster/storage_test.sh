#!/bin/bash
# storage_test.sh - a node's way to storage fails under a load, in every way that the lab can
# make it fail: the application notices nothing but a bounded stall, ghosts are made and laid,
# the path is convicted and trusted again; and when the storage itself is gone, nothing moves.
. "$(dirname "$0")/lib.sh"

ghosts_are_laid() {
	is n1 status '.pools[0].ghosts_alive == 0'
}

ghosts_laid() {
	ask n1 status '.pools[0].ghosts_laid'
}

detours() {
	ask n1 status '.pools[0].detours'
}

# fio with verification: any block that comes back wrong ends it. $1: its name, rest: where.
fio_start() {
	local name=$1
	shift
	on n1 sh -c 'cd "$0" && exec "$@"' "$WORK" fio --name="$name" --rw=randrw --bs=4k \
		--iodepth=16 --size=32m --time_based --runtime=600 --verify=crc32c \
		--verify_backlog=512 --verify_fatal=1 --fsync=64 --minimal \
		--trigger-file="$WORK/$name.stop" "$@" >"$WORK/$name.fio" 2>&1 &
	FIO=$!
	JOBS+=("$FIO")
}

# ---- One cut of n1's storage, whatever its kind, and its heal. ----

# cut_and_heal END [--reset|--in|--out]: END is the state that the healed path must reach.
cut_and_heal() {
	local end=$1 laid detoured convictions began
	shift
	at_rest n1
	laid=$(ghosts_laid)
	detoured=$(detours)
	convictions=$(log_count n1 'path is convicted')
	"$LAB" target slow 3 3 # So that writes are in flight at any moment.
	load n1 cut
	io_goes n1
	began=$(now_ns)
	"$LAB" cut n1 storage "$@"
	wait_for 10 "a detour" is n1 status ".pools[0].detours > $detoured"
	wait_for 20 "the path is convicted" path_is n1 convicted
	wait_for 5 "all ghosts are laid" ghosts_are_laid
	is n1 status '.pools[0].state == "serving"' || fail "the pool is not served"
	"$LAB" heal n1 storage
	wait_for 20 "the healed path is on probation" path_is n1 probation
	wait_for 60 "the healed path is $end" path_is n1 "$end"
	load_was_clean cut
	"$LAB" target slow 0 0
	[ "$(ghosts_laid)" -gt "$laid" ] || fail "no ghost was made"
	[ "$(log_count n1 'path is convicted')" -gt "$convictions" ] || fail "no conviction logged"
	note "stall, slowest request: $(stall cut "$began") ms," \
		"$(($(ghosts_laid) - laid)) ghosts, $(($(detours) - detoured)) detours," \
		"$(figure cut .acknowledged) writes and flushes"
	check_blocks n1 "$WORK/cut.journal"
}

verified_by_fio() {
	local device
	at_rest n1
	fio_start nbd --ioengine=nbd --uri="$URI"
	fio_cut
	device=$(ferry n1 attach data) || fail "ferry attach: $device"
	LOOP=$device
	on n1 test -b "$device" || fail "ferry attach names no block device: $device"
	at_rest n1
	fio_start loop --ioengine=libaio --direct=1 --filename="$device"
	fio_cut
	loop_end
}

loop_end() {
	[ -z "${LOOP:-}" ] || "$LAB" exec n1 losetup --detach "$LOOP" 2>/dev/null
	LOOP=
}
# shellcheck disable=SC2034 # clean_up() runs it.
FINISH=loop_end

fio_cut() {
	local detoured
	detoured=$(detours)
	io_goes n1
	"$LAB" cut n1 storage
	wait_for 20 "the path is convicted" path_is n1 convicted
	wait_for 5 "detours" is n1 status ".pools[0].detours > $detoured + 100"
	wait_for 5 "all ghosts are laid" ghosts_are_laid
	"$LAB" heal n1 storage
	wait_for 20 "the healed path is on probation" path_is n1 probation
	: >"$WORK/nbd.stop"
	: >"$WORK/loop.stop"
	wait $FIO || fio_failed "$WORK"/*.fio
	rm -f "$WORK/nbd.stop" "$WORK/loop.stop"
}

# ---- The storage itself. ----

target_pause() {
	local before
	at_rest n1
	before=$(ghosts_laid)
	load n1 pause
	io_goes n1
	"$LAB" target stop
	wait_for 20 "I/O is held" io_is_held n1
	never_for 4 "a stopped target convicts nobody" path_is n1 convicted
	"$LAB" target continue
	wait_for 30 "the pool is served again" is n1 status \
		'.pools[0] | .state == "serving" and .ghosts_alive == 0'
	at_rest n1
	wait_for 10 "all ghosts are laid" ghosts_are_laid
	load_was_clean pause
	note "held for $(figure pause .slow_ms_max) ms, $(($(ghosts_laid) - before)) ghosts laid"
	check_blocks n1 "$WORK/pause.journal"
}

# Nobody has a path: I/O waits its time and not longer, nobody is convicted, and it all comes back.
all_cut() {
	local node
	at_rest n1
	load n1 all --go-on
	io_goes n1
	for node in n1 n2 n3; do
		"$LAB" cut $node storage
	done
	wait_for 20 "I/O is held" io_is_held n1
	never_for 3 "both failed, yet it was convicted" path_is n1 convicted
	wait_for $((HOLD + 10)) "held I/O fails at last" is n1 status '.pools[0].failures > 0'
	is n1 status '.pools[0].owner == 1' || fail "the pool has moved"
	path_is n1 convicted && fail "convicted, though nobody has a path"
	for node in n1 n2 n3; do
		"$LAB" heal $node storage
	done
	wait_for 30 "the pool is served again" is n1 status \
		'.pools[0] | .state == "serving" and .ghosts_alive == 0'
	at_rest n1
	wait_for 10 "all ghosts are laid" ghosts_are_laid
	load_end all && fail "no I/O failed, and the hold timeout has passed"
	[ "$(figure all '.lost')" = null ] || fail "the connection was lost: $(figure all .lost)"
	figure all '.first_errors[][2]' | grep -qvx 'EIO\|ETIMEDOUT' &&
		fail "not a clean error: $(figure all .first_errors)"
	note "failed after $(figure all .slow_ms_max) ms; hold timeout $HOLD s"
	[ "$(figure all .slow_ms_max)" -lt $((HOLD * 1000 + 2500)) ] || fail "held for too long"
	[ "$(figure all .slow_ms_max)" -gt $((HOLD * 1000 - 1500)) ] || fail "failed too early"
	check_blocks n1 "$WORK/all.journal"
}

# ---- The stall at a cut, ghosts laid included. ----

# stalls KIND COUNT LIMIT_MS [--reset]
stalls() {
	local kind=$1 count=$2 limit=$3 i slow figures=() slowest=() from=() ghosts median
	shift 3
	ghosts=$(ghosts_laid)
	"$LAB" target slow 3 3
	load n1 stall
	for ((i = 0; i < count; i++)); do
		at_rest n1
		from+=("$(now_ns)")
		"$LAB" cut n1 storage "$@"
		wait_for 20 "detours" is n1 paths \
			'[.paths[] | select(.kind == "local" and .in_flight == 0
			and .health != "healthy")] | length == 1'
		wait_for 10 "all ghosts are laid" ghosts_are_laid
		"$LAB" heal n1 storage
	done
	load_was_clean stall
	"$LAB" target slow 0 0
	for i in "${from[@]}"; do
		read -r i slow < <(stall stall "$i")
		figures+=("$i")
		slowest+=("$slow")
	done
	median=$(median "${figures[@]}")
	note "stall at a cut by $kind, path timeout $PATH_TIMEOUT: median $median ms," \
		"max $(maximum "${figures[@]}") ms of $count (${figures[*]})"
	note "slowest request: median $(median "${slowest[@]}") ms," \
		"max $(maximum "${slowest[@]}") ms (${slowest[*]});" \
		"$(($(ghosts_laid) - ghosts)) ghosts"
	median=$(median "${slowest[@]}") # The stricter one is held to the promise.
	[ "$(($(ghosts_laid) - ghosts))" -gt 0 ] || fail "no ghosts: the load did not write"
	[ "$median" -le "$limit" ] || fail "the median is over $limit ms"
}

stalls_default_timeout() {
	local node
	for node in n1 n2 n3; do
		PATH_TIMEOUT=5s
		config_set $node "$(config_make)"
		agent_signal $node TERM
		wait_for 30 "the agent of $node stops" agent_is_gone $node
	done
	agents_up
	own n1
	stalls "black hole" 1 5500
}

HOLD=10
export PATH_TIMEOUT=1s HOLD_TIMEOUT=${HOLD}s
begin
agents_up
own n1
if [ "${1:-short}" = stalls ]; then # The long form: ten of each.
	scenario "ten cuts by reset" stalls reset 10 500 --reset
	scenario "ten cuts by black hole" stalls "black hole" 10 1500
	scenario "a cut with the default path timeout" stalls_default_timeout
	exit 0
fi
scenario "a black hole under load" cut_and_heal healthy
scenario "reset under load" cut_and_heal healthy --reset
scenario "one way: nothing comes in" cut_and_heal probation --in
scenario "one way: nothing goes out" cut_and_heal probation --out
scenario "fio verifies through NBD and a loop device" verified_by_fio
scenario "the target pauses" target_pause
scenario "no node has a path" all_cut
scenario "stalls by reset" stalls reset 3 500 --reset
scenario "stalls by black hole" stalls "black hole" 3 1500
scenario "a cut with the default path timeout" stalls_default_timeout
