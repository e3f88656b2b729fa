#!/bin/bash
# flush.sh - a FLUSH that is on its way by a kernel's SCSI disk: the way is cut under it, and the kernel
# gives the session up, which loses nothing, so a peer flushes and nobody sees an error; then the target
# itself cannot flush, which is a loss, and stays one until somebody has looked. vm1 is the kernel's
# iSCSI target, on a dm device that stops or fails when it is told; vm2, vm3 and vm4 are a cluster.
. "$(dirname "$0")/lib.sh"
. "$HERE/nodes.sh"
TARGET=mapped
declare -A FLUSHES=()

# Writes a block for each file that it is given, says so, and flushes when told to.
cat >"$HOST/flush.py" <<-'END'
	import mmap, os, sys, time
	fd = os.open("/run/ferry/volumes/data", os.O_RDWR | os.O_DIRECT)
	page = mmap.mmap(-1, 4096)
	name, block = sys.argv[1], int(sys.argv[2])
	page[:16] = b"%-16s" % name.encode()
	os.pwritev(fd, [page], block * 4096)
	open("/host/%s.written" % name, "w").close()
	while not os.path.exists("/host/%s.go" % name):
	    time.sleep(0.05)
	begun = time.monotonic()
	try:
	    os.fdatasync(fd)
	    print("FLUSH: done, %.1f s" % (time.monotonic() - begun), flush=True)
	except OSError as error:
	    print("FLUSH: %s, %.1f s" % (error.strerror, time.monotonic() - begun), flush=True)
	os._exit(0) # Whoever closes the volume's file flushes it once more.
END

# begin_to_write NAME BLOCK, and written NAME: vm2 has written, and not flushed.
begin_to_write()
{
	guest_begin 2 "python3 /host/flush.py $1 $2"
	FLUSHES[$1]=$JOB
}

written()
{
	within 120 test -e "$HOST/$1.written" || fail "no write: $(cat "$HOST/vm2/out.${FLUSHES[$1]}")"
}

# By its own path.
is_on_its_way()
{
	is 2 paths '[.paths[] | select(.kind == "local") | .in_flight] | add > 0'
}

is_suspect()
{
	guest_do 2 'ferry status' | grep -q 'flushes fail until'
}

disk_state_is()
{
	[ "$(guest_do 2 "cat /sys/block/\$(basename \$(readlink -e $DISK))/device/state")" = "$1" ]
}

# flushed NAME: it is told to flush, and says how that went.
flushed()
{
	touch "$HOST/$1.go"
	guest_result 2 "${FLUSHES[$1]}" >"$WORK/out" || fail "the application: $(cat "$WORK/out")"
	sed 's/^/    vm2: /' "$WORK/out"
}

nodes_up
guest_must 2 "ferry acquire data" >/dev/null
wait_for 240 "vm2 serves the pool" is 2 status '.pools[0].state == "serving"'
guest_do 2 "grep -q 'write back' /sys/block/\$(basename \$(readlink -e $DISK))/queue/write_cache" ||
	fail "the lun has no volatile cache: $DISK"
passed "three nodes, vm2 owns the pool ($SECONDS s)"

# --- The way is cut, the kernel waits for it, and the FLUSH with it. When the kernel tells of its end, a
# later write is not flushed yet: that is what a loss would be of.
begin_to_write cut 1
written cut
guest_must 2 'for t in /sys/class/iscsi_session/session*/recovery_tmo; do echo 30 >$t; done'
guests_cut 1 2
CUT_AT=$(now)
wait_for 60 "vm2's kernel waits for its session" disk_state_is blocked
touch "$HOST/cut.go"
wait_for 60 "the FLUSH is on its way" is_on_its_way
wait_for 120 "the path has failed" is 2 paths \
	'[.paths[] | select(.kind == "local") | .health != "healthy"] | all'
begin_to_write meanwhile 2
flushed cut
grep -q 'FLUSH: done' "$WORK/out" || fail "the application saw an error"
written meanwhile
note "written and not flushed $(since "$CUT_AT") s after the cut"
wait_for 240 "vm2's kernel gives the session up" disk_state_is transport-offline
note "given up $(since "$CUT_AT") s after the cut"
wait_for 120 "what was on its way has ended" is 2 paths \
	'[.paths[] | select(.kind == "local") | .in_flight] | add == 0'
is_suspect && fail "the cut was taken for a loss: $(guest_do 2 'tail -n 20 /var/log/ferryd.log')"
flushed meanwhile
grep -q 'FLUSH: done' "$WORK/out" || fail "a later FLUSH failed"
passed "a FLUSH was on its way when the path was cut: a peer flushed, no error, no loss ($SECONDS s)"
guests_heal
wait_for 240 "the path is trusted again" is 2 status '.pools[0].health | . == "healthy" or
	. == "probation"'

# --- The target's own failure: it says so once, and may well succeed afterwards.
begin_to_write failed 3
written failed
guest_must 1 'dmsetup suspend --nolockfs held
	echo "0 $(blockdev --getsz /dev/vdb) flakey /dev/vdb 0 0 3600 1 error_writes" | dmsetup load held &&
	dmsetup resume held'
flushed failed
grep -q 'FLUSH: Input/output error' "$WORK/out" || fail "a failed FLUSH was not told"
guest_must 1 'dmsetup suspend --nolockfs held
	echo "0 $(blockdev --getsz /dev/vdb) linear /dev/vdb 0" | dmsetup load held && dmsetup resume held'
is_suspect || fail "forgotten: $(guest_do 2 'ferry status')"
begin_to_write again 4
written again
flushed again
grep -q 'FLUSH: Input/output error' "$WORK/out" || fail "a later FLUSH hid the loss"
guest_must 2 "ferry clear data --yes && sync -d /run/ferry/volumes/data"
passed "the target could not flush: a loss, until it is cleared ($SECONDS s)"
agents_end 2 3 4
