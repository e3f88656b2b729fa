#!/bin/bash
# warm_test.sh - the read cache moves with the pool: the next owner's first reads come from what the
# last one had read and written, and what it says is what is on the lun.
. "$(dirname "$0")/lib.sh"

MIB=16

# fio_on NODE NAME [option...]: over the first MIB of the volume, checked against what was written.
fio_on() {
	local node=$1 name=$2
	shift 2
	on "$node" fio --name="$name" --ioengine=nbd --uri="$URI" --bs=8k --size=${MIB}M \
		--iodepth=16 --verify=crc32c --verify_state_save=0 "$@" \
		>"$WORK/fio.out" 2>&1 && return
	fio_failed "$WORK/fio.out"
}

cache() {
	ask "$1" status ".pools[0].cache.$2"
}

# Sectors that the target itself has given out.
storage_sectors() {
	"$LAB" counters 1 | sed -n 's/.*read_sectors=\([0-9]*\).*/\1/p'
}

# moved_warm FROM TO: TO has the pool now, and reads all of it without asking the storage.
moved_warm() {
	local lines misses sectors
	lines=$(cache "$2" warm_blocks)
	[ "$lines" -ge $((MIB * 256)) ] || fail "only $lines lines came: $(cache "$2" reason)"
	log_has "$2" "all of the last owner's cache is here" ||
		fail "the warm start did not end well"
	misses=$(cache "$2" misses)
	sectors=$(storage_sectors)
	fio_on "$2" check --rw=randread
	[ "$(cache "$2" misses)" = "$misses" ] || fail "$(($(cache "$2" misses) - misses)) misses"
	sectors=$(($(storage_sectors) - sectors))
	[ $sectors -lt 2048 ] || fail "the storage was asked for $sectors sectors" # But for probes.
	note "$1 → $2: $lines lines came; of $((MIB * 2048)) sectors the storage gave $sectors"
}

release_and_acquire() {
	own n1
	at_rest n1
	fio_on n1 fill --rw=randwrite --do_verify=1
	is n1 status '.pools[0].cache.enabled' || fail "no cache: $(cache n1 reason)"
	ferry n1 release data >/dev/null || fail "n1 cannot release"
	own n2
	moved_warm n1 n2
}

# Nobody asks the old owner, but its agent lives.
claim_from_the_owner() {
	at_rest n2
	own n3
	moved_warm n2 n3
	ferry n2 release data >/dev/null || fail "n2 cannot give up what it lost"
}

# Its path is cut and its ghosts are laid, by a peer, at its own wish: the cache is true all along.
claim_after_a_cut() {
	at_rest n3
	"$LAB" cut n3 storage
	fio_on n3 again --rw=randwrite --do_verify=1
	own n1
	moved_warm n3 n1
	"$LAB" heal n3 storage
	ferry n3 release data >/dev/null || fail "n3 cannot give up what it lost"
}

acquires() {
	ferry "$1" acquire data --take >"$WORK/acquire.out" 2>&1
}

# Dead owners say nothing: the next one starts cold, and soon.
cold_after_a_kill() {
	local lines
	at_rest n1
	lines=$(cache n2 warm_blocks)
	"$LAB" kill n1
	wait_for 15 "n2 acquires" acquires n2
	[ "$(cache n2 warm_blocks)" = "$lines" ] || fail "from whom did that come?"
	fio_on n2 check --rw=randread
}

begin
agents_up
scenario release-and-acquire release_and_acquire
scenario claim-from-the-owner claim_from_the_owner
scenario claim-after-a-cut claim_after_a_cut
scenario cold-after-a-kill cold_after_a_kill
