#!/bin/bash
# cluster.sh - Ferry's main job through real kernels: vm1 is the kernel's iSCSI target, vm2, vm3 and vm4
# are a cluster with corosync and ferryd, whose lun is a disk of the kernel's own initiator. An
# application of vm2 writes to ext4 on nbd; vm2's way to storage is cut; peers carry its I/O over TCP;
# the way heals; the pool moves to vm3, which finds each byte; vm2 is fenced.
. "$(dirname "$0")/lib.sh"
. "$HERE/nodes.sh"

# A file of 2 MiB on what is mounted, and its checksum where all can read it.
write_file()
{
	guest_must "$1" "dd if=/dev/urandom of=/mnt/$2 bs=64k count=32 conv=fsync 2>&1 &&
		cd /mnt && sha256sum $2 >>/host/sums" >/dev/null
}

nodes_up
guest_must 2 "ferry acquire data" >/dev/null
wait_for 240 "vm2 serves the pool" is 2 status '.pools[0].state == "serving"'
is 2 luns '.luns[0] | .lun_class == "reservations" and .laying == "preempt, quiesce time"' ||
	fail "the lun is not what it is: $(ask 2 luns .)"
passed "three nodes, one lun with reservations, vm2 owns the pool ($SECONDS s)"

# --- An application.
# The kernel's client does not ask for the largest request that a server takes: it has to be told.
guest_must 2 'modprobe nbd && udevadm settle && nbd-client -unix /run/ferry/nbd.sock -N data /dev/nbd0 &&
	echo 1024 >/sys/block/nbd0/queue/max_sectors_kb &&
	mke2fs -q -t ext4 /dev/nbd0 && mount /dev/nbd0 /mnt' >/dev/null
write_file 2 before
guest_begin 2 "fio --name=app --directory=/mnt --size=16m --rw=randrw --bs=4k --ioengine=libaio \
	--iodepth=8 --direct=1 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --fsync=32 \
	--time_based --runtime=900 --trigger-file=/run/app.stop --minimal"
APP=$JOB
ios_at_least()
{
	is 2 status ".pools[0].ios >= $1"
}
ios_go_on()
{
	wait_for 240 "I/O goes on" ios_at_least $(($(ask 2 status '.pools[0].ios') + ${1:-200}))
}
ios_go_on
passed "ext4 on nbd in vm2, fio verifies there, by its own path ($SECONDS s)"

# --- Its way to storage is cut. All goes on through peers, over TCP.
# One write after another: the cut meets one, and a ghost is made.
guest_begin 2 "dd if=/dev/urandom of=/mnt/ghost bs=4k count=300 oflag=direct 2>&1 &&
	cd /mnt && sha256sum ghost >>/host/sums"
WRITES=$JOB
within 120 eval '[ "$(guest_do 2 "stat -c %s /mnt/ghost 2>/dev/null || echo 0")" -gt 0 ]' || fail "no writes"
CUT_AT=$(now)
guests_cut 1 2
wait_for 240 "detours" is 2 status '.pools[0].detours > 0'
note "the first detour $(since "$CUT_AT") s after the cut (path_timeout: 5 s)"
wait_for 240 "the path is convicted" is 2 status '.pools[0].health == "convicted"'
wait_for 240 "all ghosts are laid" is 2 status '.pools[0].ghosts_alive == 0'
note "convicted, all $(ask 2 status '.pools[0].ghosts_laid') ghosts laid after $(since "$CUT_AT") s"
ios_go_on
write_file 2 meanwhile
guest_result 2 "$WRITES" >"$WORK/out" || fail "writes: $(cat "$WORK/out")"
is 2 status '.pools[0] | .ghosts_laid > 0 and .ghosts_alive == 0' || fail "no ghost was made"
guest_ended 2 "$APP" && fail "fio: $(guest_result 2 "$APP")"
is 2 paths '[.paths[] | select(.kind == "peer") | .ios] | add > 200' ||
	fail "not by peers: $(ask 2 paths .)"
ask 2 paths '.paths[] | "\(.kind) \(.node) \(.transport): \(.ios) I/Os, \(.health)"' | sed 's/^/    vm2: /'
passed "vm2's way to storage is cut: I/O goes by peers, verified ($SECONDS s)"

# --- It heals.
HEALED_AT=$(now)
guests_heal
wait_for 240 "the path is trusted again" is 2 status '.pools[0].health | . == "healthy" or
	. == "probation"'
note "used again $(since "$HEALED_AT") s after the heal"
DETOURS=$(ask 2 status '.pools[0].detours')
ios_go_on
guest_must 2 'touch /run/app.stop'
guest_result 2 "$APP" >"$WORK/fio" || fail "fio: $(cat "$WORK/fio")"
grep -q 'verify: bad' "$WORK/fio" && fail "fio: $(cat "$WORK/fio")"
note "$(ask 2 status '.pools[0] | "\(.ios) I/Os, \(.detours) detours, \(.failures) failures"')"
is 2 status '.pools[0].failures == 0' || fail "the application saw errors"
passed "the way is back, fio saw no error and no wrong byte ($SECONDS s)"

# --- Another node takes over, with another front end.
write_file 2 after
guest_must 2 'umount /mnt && nbd-client -d /dev/nbd0' >/dev/null
guest_must 2 'ferry move data vm3' >/dev/null
wait_for 240 "vm3 serves the pool" is 3 status '.pools[0].state == "serving"'
guest_must 3 'modprobe -a fuse loop && mount "$(ferry attach data)" /mnt &&
	cd /mnt && sha256sum -c /host/sums' >"$WORK/sums"
[ "$(grep -c ': OK$' "$WORK/sums")" = 4 ] || fail "checksums: $(cat "$WORK/sums")"
guest_must 3 'umount /mnt && e2fsck -fn $(ferry attach data) && ferry detach data' >/dev/null
passed "vm3 owns the pool and finds each byte, by FUSE and a loop device ($SECONDS s)"

# --- The target loses power, and what was written and not flushed may be gone. LIO tells nobody, and the
# kernel's session outlives it: that a FLUSH fails nevertheless is Ferry's own doing (decision 0009).
# Whoever closes the volume's file flushes it, so it stays open.
cat >"$HOST/unflushed.py" <<-'END'
	import mmap, os, time
	fd = os.open("/run/ferry/volumes/data", os.O_RDWR | os.O_DIRECT)
	page = mmap.mmap(-1, 4096)
	def write():
	    os.pwritev(fd, [page], 16380 * 4096)
	begun = time.monotonic()
	for i in range(10):
	    write()
	    os.fdatasync(fd)
	print("ten writes and FLUSHes: %.1f s" % (time.monotonic() - begun), flush=True)
	write()
	open("/host/written", "w").close()
	while not os.path.exists("/host/restarted"):
	    time.sleep(0.1)
	try:
	    os.fdatasync(fd)
	except OSError as error:
	    print("FLUSH:", error.strerror, flush=True)
	    os._exit(0)
	os._exit(1)
END
guest_do 3 "grep -q 'write back' /sys/block/\$(basename \$(readlink -e $DISK))/queue/write_cache" ||
	fail "the lun has no volatile cache: $DISK"
guest_begin 3 "python3 /host/unflushed.py"
JOB_3=$JOB
within 120 test -e "$HOST/written" || fail "no writes: $(cat "$HOST/vm3/out.$JOB_3")"
guest_kill 1
target_start
guest_up 1
guest_must 1 "/host/guest-target $SERIAL plain"
touch "$HOST/restarted"
guest_result 3 "$JOB_3" >"$WORK/out" || fail "a FLUSH succeeded after the loss: $(cat "$WORK/out")"
grep -q 'FLUSH: Input/output error' "$WORK/out" || fail "not as a loss: $(cat "$WORK/out")"
sed 's/^/    vm3: /' "$WORK/out"
passed "the target was restarted, unheard: a FLUSH fails ($SECONDS s)"
wait_for 240 "vm3's path works again" is 3 status '.pools[0].health | . == "healthy" or
	. == "probation"'
guest_do 3 "ferry clear data" >"$WORK/out" 2>&1 && fail "cleared without a word: $(cat "$WORK/out")"
guest_must 3 "ferry clear data --yes && sync -d /run/ferry/volumes/data"
passed "cleared: FLUSHes succeed ($SECONDS s)"

# --- Fenced: from now on its writes are refused, whoever sends them.
LAST='bs=4096 seek=16383 count=1 oflag=direct'
guest_must 3 'ferry fence vm2 --yes' >/dev/null
guest_do 2 "dd if=/dev/zero of=$DISK $LAST" >"$WORK/out" && fail "a fenced node wrote"
grep -q 'Invalid exchange' "$WORK/out" || fail "not by a conflict: $(cat "$WORK/out")" # EBADE
passed "vm2 is fenced: the lun refuses its write ($SECONDS s)"
