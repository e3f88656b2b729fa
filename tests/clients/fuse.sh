#!/bin/bash
# fuse.sh - the FUSE front end by itself: names, sizes, data, refusals, holes, ends.
# usage: fuse.sh BUILD_DIR. Exit 77: skipped, the reason is said.
. "$(dirname "$0")/fuse-lib.sh"
need xfs_io fio cmp dd ps

test_names() {
	volume a 64
	volume b 32
	stand --block-bytes 512 --volume "a:$WORK/a.img" --volume "b:$WORK/b.img"
	[ "$(ls "$WORK/mnt" | tr '\n' ' ')" = "a b " ] || fail "names: $(ls "$WORK/mnt")"
	[ "$(stat -c '%s %a %u %B %b' "$WORK/mnt/a")" = "67108864 600 0 512 131072" ] ||
		fail "attributes: $(stat "$WORK/mnt/a")"
	fails_with "No such file" cat "$WORK/mnt/c"
	fails_with "cannot touch" touch "$WORK/mnt/c"
	fails_with "Operation not permitted" truncate -s 1M "$WORK/mnt/a"
	fails_with "Operation not permitted" truncate -s 128M "$WORK/mnt/a"
	fails_with "Operation not permitted" chmod 666 "$WORK/mnt/a"
	fails_with "cannot remove" rm "$WORK/mnt/a"
	fails_with "Is a directory" dd if="$WORK/mnt" of=/dev/null
	ok "one file per volume, with its size; nothing may be made, removed or resized"
}

test_data() {
	local m=$WORK/mnt/a
	dd if=/dev/urandom of="$WORK/pattern" bs=1M count=64 status=none
	dd if="$WORK/pattern" of="$m" bs=1M conv=notrunc,fsync status=none || fail "write"
	cmp "$WORK/pattern" "$WORK/a.img" || violated "what was written is not what the volume has"
	cmp "$WORK/pattern" "$m" || violated "what was read is not what was written"
	dd if="$m" of="$WORK/back" bs=512 count=4096 skip=7 iflag=direct status=none
	cmp -n $((4096 * 512)) "$WORK/back" "$WORK/pattern" 0 $((7 * 512)) || violated "512-byte reads"
	cmp "$WORK/b.img" <(head -c 32M /dev/zero) || violated "the other volume was touched"
	ok "64 MiB in 1 MiB and in 512-byte requests, compared with the backing file"
	fio --name=verify --filename="$m" --size=32m --ioengine=io_uring --direct=1 --iodepth=32 \
		--rw=randwrite --bssplit=512/10:4k/60:64k/20:256k/10 --verify=crc32c \
		--verify_fatal=1 --do_verify=1 >"$WORK/fio.out" 2>&1 ||
		fio_failed "$WORK/fio.out"
	ok "fio --verify, io_uring, 32 deep, 512 bytes to 256 KiB"
}

test_refusals() {
	local m=$WORK/mnt/a
	fails_with "Invalid argument" dd if=/dev/zero of="$m" bs=1 count=1 conv=notrunc
	fails_with "Invalid argument" dd if="$m" of=/dev/null bs=100 count=1
	fails_with "Invalid argument" xfs_io -c "pwrite -b 512 256 512" "$m"
	fails_with "Invalid argument" xfs_io -c "pread 256 512" "$m"
	fails_with "No space left" xfs_io -c "pwrite 64m 4k" "$m"
	fails_with "Invalid argument" xfs_io -c "fpunch 100 512" "$m"
	fails_with "not supported" fallocate -l 1M "$m"
	fails_with "not supported" fallocate -c -o 0 -l 1M "$m"
	fails_with "fallocate failed" fallocate -z -o 63M -l 2M "$m"
	[ "$(dd if="$m" bs=1M skip=64 count=1 status=none | wc -c)" = 0 ] || fail "read at the end"
	xfs_io -c "pwrite -b 8k $((64 * 1048576 - 4096)) 8k" "$m" 2>&1 | grep -q "wrote 4096" ||
		fail "a write across the end should be cut at the end"
	ok "unaligned, beyond the end, other modes of fallocate: refused"
}

test_holes() {
	local m=$WORK/mnt/a
	dd if="$WORK/pattern" of="$m" bs=1M conv=notrunc status=none
	cp --sparse=never "$WORK/pattern" "$WORK/expected"
	fallocate -p -o 1M -l 30M "$m" || fail "punch"
	dd if=/dev/zero of="$WORK/expected" bs=1M seek=1 count=30 conv=notrunc status=none
	fallocate -z -o $((40 * 1048576 + 512)) -l 1536 "$m" || fail "zero range"
	dd if=/dev/zero of="$WORK/expected" bs=512 seek=$((40 * 2048 + 1)) count=3 conv=notrunc \
		status=none
	cmp "$WORK/expected" "$m" || fail "holes do not read as zeroes, or there are too many"
	ok "punched holes and zeroed ranges read as zeroes, and nothing else does"
}

test_counters() {
	local m=$WORK/mnt/a flushes
	xfs_io -d -s -c "pwrite 0 4k" "$m" >/dev/null
	xfs_io -d -c "pwrite -V 1 -D 4k 4k" "$m" >/dev/null
	stand_stop
	[ "$(counter fua)" = 2 ] || fail "O_SYNC or RWF_DSYNC did not become FUA: $COUNTERS"
	[ "$(counter flushes)" -ge 1 ] || fail "fsync did not become FLUSH: $COUNTERS"
	[ "$(counter refused)" -ge 8 ] || fail "refusals are not counted: $COUNTERS"
	[ "$(counter piece_bytes_max)" = $((8 * 1048576)) ] ||
		fail "ranges are not split: $COUNTERS"
	[ "$(counter in_flight)" = 0 ] || fail "requests were left: $COUNTERS"
	[ ! -e "$WORK/mnt" ] || fail "the mount point was made by the stand and is still there"
	ok "FUA, FLUSH, split ranges; a clean end: $COUNTERS"
}

# Room for two I/Os and 2 MiB of memory: everything must wait, and nothing may be lost.
test_scarcity() {
	volume s 64
	stand --block-bytes 4096 --in-flight 2 --arena-kib 2048 --volume "s:$WORK/s.img"
	fio --name=verify --filename="$WORK/mnt/s" --size=64m --ioengine=io_uring --direct=1 \
		--iodepth=64 --rw=randwrite --bssplit=4k/50:1m/50 --verify=crc32c --verify_fatal=1 \
		--do_verify=1 >"$WORK/fio.out" 2>&1 ||
		fio_failed "$WORK/fio.out"
	fails_with "Invalid argument" xfs_io -c "pwrite 512 512" "$WORK/mnt/s"
	stand_stop
	[ "$(counter again)" -ge 1 ] || fail "the volume was never short of room: $COUNTERS"
	[ "$(counter stalled)" -ge 1 ] || fail "the arena was never empty: $COUNTERS"
	ok "a volume with room for two and 2 MiB of memory, 4096-byte blocks: $COUNTERS"
}

test_read_only_and_single() {
	stand --block-bytes 512 --read-only --volume "a:$WORK/a.img"
	fails_with "Read-only" dd if=/dev/zero of="$WORK/mnt/a" bs=4k count=1 conv=notrunc
	cmp "$WORK/mnt/a" "$WORK/a.img" || fail "read-only volume"
	stand_stop
	stand --single --block-bytes 512 --no-discard --volume "a:$WORK/a.img"
	[ -f "$WORK/mnt" ] || fail "a single volume should be a file"
	dd if="$WORK/pattern" of="$WORK/mnt" bs=64k conv=notrunc,fsync status=none || fail "write"
	cmp "$WORK/pattern" "$WORK/a.img" || fail "single file"
	fails_with "unsupported" fallocate -p -o 0 -l 1M "$WORK/mnt"
	stand_stop
	ok "read-only; a single volume as one file; no holes where the lun has no discard"
}

test_remove() {
	stand --block-bytes 512 --volume "a:$WORK/a.img" --volume "b:$WORK/b.img"
	exec 9<"$WORK/mnt/b"
	kill -USR1 "$STAND_PID"
	until_true 10 stand_said removed || fail "the volume was not removed"
	fails_with "No such device" dd bs=4k count=1 of=/dev/null <&9
	exec 9<&-
	until_true 5 test ! -e "$WORK/mnt/b" || fail "its name is still there"
	cmp "$WORK/mnt/a" "$WORK/a.img" || fail "the other volume suffers"
	stand_stop
	ok "a removed volume: ENODEV to those who had it open, the other one goes on"
}

# The agent dies without a word; the next one cleans the mount and serves.
test_killed() {
	stand --block-bytes 512 --volume "a:$WORK/a.img"
	exec 9<"$WORK/mnt/a"
	kill -KILL "$STAND_PID"
	wait "$STAND_PID" 2>/dev/null
	fails_with "not connected" stat "$WORK/mnt/a"
	stand --block-bytes 512 --volume "a:$WORK/a.img"
	exec 9<&-
	grep -q "removed a mount" "$WORK/stand.err" || fail "it does not say that it cleaned up"
	cmp "$WORK/mnt/a" "$WORK/a.img" || fail "after a kill"
	"$STAND" --mount "$WORK/mnt" --volume "a:$WORK/a.img" 2>"$WORK/second.err" &&
		fail "a second agent was let in"
	grep -q "is mounted already" "$WORK/second.err" || fail "second: $(cat "$WORK/second.err")"
	cmp "$WORK/mnt/a" "$WORK/a.img" || fail "the second agent disturbed the first"
	stand_stop
	ok "killed: the next agent cleans up; a second agent at the same place is refused"
}

# Busy and with I/O that does not end: it detaches, says so, and cuts at the deadline.
test_busy_end() {
	local dd_pid
	stand --block-bytes 512 --close-ms 300 --volume "a:$WORK/a.img"
	kill -USR2 "$STAND_PID"
	until_true 5 stand_said "held: 1" || fail "not held"
	dd if="$WORK/mnt/a" of=/dev/null bs=4k count=1 2>"$WORK/dd.err" &
	dd_pid=$!
	until_true 5 grep -q "" <(ps -o pid= -p $dd_pid)
	until_true 5 is_blocked $dd_pid || fail "the read should wait"
	kill -TERM "$STAND_PID"
	wait $dd_pid && fail "a read was answered by a volume that holds"
	grep -q "still in use" "$WORK/stand.err" || fail "it does not say that the mount is busy"
	grep -q "did not end in time" "$WORK/stand.err" || fail "it does not say what it cut"
	stand_is_gone && fail "it must stay until the I/O is over"
	kill -USR2 "$STAND_PID"
	until_true 10 stand_is_gone || fail "it does not end after its last I/O"
	wait "$STAND_PID" || fail "status $?"
	STAND_PID=
	mountpoint -q "$WORK/mnt" && fail "still mounted"
	ok "busy at the end: detached, said so, callers get an error at the deadline"
}

is_blocked() {
	[ "$(ps -o stat= -p "$1" | cut -c1)" = D ] || [ "$(ps -o stat= -p "$1" | cut -c1)" = S ]
}

begin
test_names
test_data
test_refusals
test_holes
test_counters
test_scarcity
test_read_only_and_single
test_remove
test_killed
test_busy_end
echo "$PASSED passed, 0 failed"
