#!/bin/bash
# nbd.sh - one agent that stands alone, in a guest whose kernel has an NBD client and no ublk: what
# `ferry attach` makes of it, and that it outlives the agent: who uses it sees a pause where the next
# one can go on, and else errors, not silence.
#
#     FERRY_BUILD_DIR=build-asan tests/vm/nbd.sh      the same with the sanitizers' build
. "$(dirname "$0")/alone.sh"

SOCKET=/run/ferry/nbd.sock
FRONT_END="--nbd unix:$SOCKET"

nothing_left()
{
	must '! cat /sys/block/nbd*/backend 2>/dev/null'
	must 'for i in $(seq 100); do [ "$(ferry --json volumes | jq .volumes[0].clients)" = 0 ] && exit; sleep 0.1
		done; exit 1'
}

alone_up

# --- Without the driver, which the kernel would load by itself.
must 'echo "install nbd /bin/false" >/etc/modprobe.d/no-nbd.conf'
agent_start vdb
guest_do $N 'ferry attach data' >"$WORK/out" && fail "attached without a driver"
grep -q 'modprobe nbd' "$WORK/out" || fail "not why: $(cat "$WORK/out")"
agent_end TERM
must 'modprobe fuse && modprobe loop && mkdir -p /run/files'
agent_start vdb --fuse /run/files/data
must 'ferry --json attach data | jq -e ".front_end == \"fuse, loop\" and (.reason | test(\"modprobe nbd\"))"'
# Where there is a loop device it stays the device, whatever comes later.
must 'rm /etc/modprobe.d/no-nbd.conf && modprobe nbd'
must 'ferry --json attach data | jq -e ".front_end == \"fuse, loop\"" && ferry detach data'
must 'ferry --json attach data | jq -e ".front_end == \"nbd\"" && ferry detach data'
agent_end TERM
passed "without the driver: it is said what to do; the order of front ends ($SECONDS s)"

# --- Each block size.
for i in 0 1; do
	disk=vd$(printf %b "\\x$((62 + i))")
	size=${DISKS[i]}
	agent_start "$disk"
	must '[ "$(ferry attach data)" = /dev/nbd0 ] && [ "$(ferry attach data)" = /dev/nbd0 ]'
	must "ferry --json attach data | jq -e '.front_end == \"nbd\" and .reason == \"\"' &&
		ferry --json volumes | jq -e '.volumes[0].device == \"/dev/nbd0\" and .volumes[0].clients == 1'"
	must "cd /sys/block/nbd0 && [ \$(cat queue/logical_block_size) = $size ] &&
		[ \$(cat queue/max_sectors_kb) = 1024 ] && [ \"\$(cat queue/write_cache)\" = 'write back' ] &&
		[ \$(cat queue/fua) = 1 ] && [ \$(cat queue/discard_max_bytes) -gt 0 ] &&
		[[ \$(cat backend) = 'nbd+unix:///data?socket=$SOCKET#'* ]]"
	must "[ \$(blockdev --getsize64 /dev/nbd0) = \$(blockdev --getsize64 /dev/$disk) ]"
	device_keeps /dev/nbd0 $size
	must "f() { awk '{print \$16}' /sys/block/$disk/stat; }; before=\$(f)
		dd if=/dev/zero of=/dev/nbd0 bs=4k count=20 oflag=direct,dsync 2>&1
		echo \"flushes: \$((\$(f) - before))\"; [ \$((\$(f) - before)) -ge 20 ]"
	device_carries_ext4 /dev/nbd0 nothing_left
	agent_end TERM
	passed "$size-byte blocks: limits, data, zeroes, discard, flushes, ext4, detach ($SECONDS s)"
done

# --- The agent dies, and is stopped, under load; the device stays, I/O goes on.
agent_start vdb
must 'ferry attach data && mke2fs -q -t ext4 /dev/nbd0 && mount /dev/nbd0 /mnt'
guest_begin $N "fio --name=app --directory=/mnt --size=16m --rw=randrw --bs=4k --ioengine=libaio \
	--iodepth=16 --direct=1 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --fsync=32 \
	--time_based --runtime=900 --trigger-file=/run/app.stop --minimal"
APP=$JOB
ios_go_on
for how in KILL KILL TERM KILL; do
	agent_end $how
	must '[ -s /sys/block/nbd0/backend ]'
	guest_ended $N "$APP" && fail "fio ended: $(guest_result $N "$APP")"
	before=$SECONDS
	agent_start vdb
	ios_go_on
	note "SIG$how: goes on with the next agent, $((SECONDS - before)) s after its start"
	must '[ "$(ferry attach data)" = /dev/nbd0 ]'
done
must 'touch /run/app.stop'
guest_result $N "$APP" >"$WORK/fio" || fail "fio: $(cat "$WORK/fio")"
grep -q 'verify: bad' "$WORK/fio" && fail "fio: $(cat "$WORK/fio")"
must '[ "$(grep -c "is served again" /var/log/ferryd.log)" = 4 ]'
must 'umount /mnt && e2fsck -fn /dev/nbd0'
passed "killed three times and stopped once: fio saw no error and no wrong byte ($SECONDS s)"

# --- No next agent comes: what is new gets errors after the hold timeout; the next one serves it again.
must 'ferry detach data'
agent_end TERM
agent_start vdb --hold-timeout 6s
must 'ferry attach data'
agent_end KILL
must '! timeout 60 dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>&1'
agent_start vdb
must 'timeout 60 dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>&1'
passed "no agent: errors after the hold timeout ($SECONDS s)"

# --- The next agent has another lun by that name: what was in flight ends with errors, the device gives
# nothing else, and nothing of it gets to that lun.
must 'mount /dev/nbd0 /mnt'
# Small ones: they are sent whole, and wait for nothing but their answers.
guest_begin $N 'while dd if=/dev/urandom of=/mnt/y bs=4k count=4000 oflag=direct conv=notrunc; do :; done; exit 3'
APP=$JOB
must 'until [ -e /mnt/y ]; do :; done; kill -STOP $(cat /run/ferryd.pid)
	for i in $(seq 100); do [ "$(awk "{print \$9}" /sys/block/nbd0/stat)" -gt 0 ] && exit; sleep 0.1; done; exit 1'
must 'sha256sum /dev/vdc >/run/sum'
agent_end KILL
agent_start vdc
within 60 guest_ended $N "$APP" || fail "what was in flight never ends"
guest_result $N "$APP" >"$WORK/app" && fail "written though the agent was dead: $(cat "$WORK/app")"
must '! dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>&1'
guest_do $N 'ferry attach data' >"$WORK/out"
[ $? = 5 ] || fail "attached while the dead one is mounted: $(cat "$WORK/out")"
must 'umount /mnt && [ "$(ferry attach data)" = /dev/nbd0 ] &&
	[ "$(cat /sys/block/nbd0/queue/logical_block_size)" = 4096 ]'
must 'ferry detach data && echo 3 >/proc/sys/vm/drop_caches && sha256sum -c /run/sum'
nothing_left
agent_end TERM
nobody_complains $N
passed "another lun by the same name: errors, nothing stale, and a new device ($SECONDS s)"
