#!/bin/bash
# scratch_test.sh - `ferry torture`: refuses what is not marked scratch, finds nothing wrong with a
# volume that keeps its word under the agent's own faults, and finds it when one does not.
. "$(dirname "$0")/lib.sh"

fault_is_some() {
	jq -e ".$1 > 0" "$WORK/report.json" >/dev/null || fail "no $1: $(cat "$WORK/report.json")"
}

refused() {
	ferry n1 torture data >"$WORK/out" 2>&1
	[ $? -eq 5 ] || fail "not refused: $(cat "$WORK/out")"
	grep -q 'not marked scratch' "$WORK/out" || fail "no reason: $(cat "$WORK/out")"
	ferry n1 torture nonesuch >"$WORK/out" 2>&1
	[ $? -eq 4 ] || fail "a volume that is not there: $(cat "$WORK/out")"
	is n1 status '.pools[0].state == "serving" and .pools[0].ios == 0' ||
		fail "it was touched"
}

mark_scratch() {
	local node
	for node in n1 n2 n3; do
		agent_signal $node TERM
	done
	for node in n1 n2 n3; do
		wait_for 25 "the agent of $node stops" agent_is_gone $node
		config_set $node "$(config_make | sed 's/^\[pool data\]/&\nscratch = yes/')"
	done
	agents_up
	ferry n2 torture data >"$WORK/out" 2>&1
	[ $? -eq 5 ] || fail "not refused where it is not served: $(cat "$WORK/out")"
	own n1
	at_rest n1
}

keeps_its_word() {
	ferry n1 torture data --seconds 30 --seed 7 --report "$WORK/report.json" >"$WORK/out" 2>&1
	case $? in
	0) ;;
	7) violated "$(cat "$WORK/out" "$WORK/report.json")" ;;
	*) fail "$(cat "$WORK/out" "$WORK/report.json")" ;;
	esac
	for figure in reads writes flushes errors_injected delays_injected ghosts_injected \
		ghosts_laid detours; do
		fault_is_some $figure
	done
	jq -e '.requests_lost + .answers_lost > 0 and .violations == 0 and
		.sectors_mixed == 0 and .all_read_at_end' \
		"$WORK/report.json" >/dev/null || fail "$(cat "$WORK/report.json")"
	note "$(jq -c . "$WORK/report.json")"
}

# By a filesystem, or by another run.
in_use_is_refused() {
	local pid codes
	DEVICE=$(ferry n1 attach data) || fail "it cannot be attached"
	on n1 sh -c "mkfs.ext4 -q -F $DEVICE && mkdir -p /mnt/scratch && mount $DEVICE /mnt/scratch &&
		echo mine >/mnt/scratch/file && sync -f /mnt/scratch/file" || fail "no filesystem"
	ferry n1 torture data --seconds 1 >"$WORK/out" 2>&1
	[ $? -eq 5 ] || fail "it overwrites what is mounted: $(cat "$WORK/out")"
	grep -q 'in use, and this would overwrite it: its file is open 1 times' "$WORK/out" ||
		fail "$(cat "$WORK/out")"
	on n1 sh -c "umount /mnt/scratch && e2fsck -fn $DEVICE" >"$WORK/out" 2>&1 ||
		fail "the filesystem was disturbed: $(cat "$WORK/out")"
	ferry n1 detach data || fail "it cannot be detached"
	DEVICE=
	ferry n1 torture data --seconds 5 --seed 9 >"$WORK/first" 2>&1 &
	pid=$!
	JOBS+=($pid)
	ferry n1 torture data --seconds 5 --seed 10 >"$WORK/second" 2>&1
	codes=$?
	wait $pid
	codes=$codes:$? # Whichever was first.
	[ $codes = 5:0 ] || [ $codes = 0:5 ] || fail "$codes: $(cat "$WORK/first" "$WORK/second")"
	cat "$WORK/first" "$WORK/second" | grep -q 'another run' || fail "why it was refused"
}

# Something else writes to the lun: to all of it, since what the agent has cached it does not read.
does_not() {
	local before pid
	before=$(ask n1 status '.pools[0].ios')
	ferry n1 torture data --seconds 8 --seed 8 --report "$WORK/report.json" >"$WORK/out" 2>&1 &
	pid=$!
	JOBS+=($pid)
	wait_for 10 "it has begun" is n1 status ".pools[0].ios > $before + 2000"
	on st dd if=/dev/urandom of="$FERRY_LAB_DIR/target/lun1.img" bs=64k count=64 \
		conv=notrunc status=none
	wait $pid
	[ $? -eq 7 ] || fail "not found: $(cat "$WORK/out")"
	grep -q 'VIOLATION' "$WORK/report.json" || fail "no history: $(head -3 "$WORK/report.json")"
}

DEVICE=

finish() {
	on n1 umount /mnt/scratch 2>/dev/null
	[ -z "$DEVICE" ] || on n1 losetup --detach "$DEVICE"
}
FINISH=finish

export PATH_TIMEOUT=1s
begin
agents_up
own n1
scenario "what is not marked is refused" refused
scenario "marked scratch" mark_scratch
scenario "a volume that is in use" in_use_is_refused
scenario "a volume that keeps its word" keeps_its_word
scenario "a volume that does not" does_not
