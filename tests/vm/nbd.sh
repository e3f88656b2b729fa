#!/bin/bash
# nbd.sh - one agent that stands alone, in a guest whose kernel has an NBD client and no ublk: what
# `ferry attach` makes of it, and that who uses it gets errors, not silence, when the agent is killed.
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
		[ \$(cat backend) = 'nbd+unix:///data?socket=$SOCKET' ]"
	must "[ \$(blockdev --getsize64 /dev/nbd0) = \$(blockdev --getsize64 /dev/$disk) ]"
	device_keeps /dev/nbd0 $size
	must "f() { awk '{print \$16}' /sys/block/$disk/stat; }; before=\$(f)
		dd if=/dev/zero of=/dev/nbd0 bs=4k count=20 oflag=direct,dsync 2>&1
		echo \"flushes: \$((\$(f) - before))\"; [ \$((\$(f) - before)) -ge 20 ]"
	device_carries_ext4 /dev/nbd0 nothing_left
	agent_end TERM
	passed "$size-byte blocks: limits, data, zeroes, discard, flushes, ext4, detach ($SECONDS s)"
done

# --- The agent is killed with writes in flight: they end with errors once the next one has started, the
# device gives nothing but errors, and a new one is right.
agent_start vdb
must 'ferry attach data && mke2fs -q -t ext4 /dev/nbd0 && mount /dev/nbd0 /mnt &&
	dd if=/dev/urandom of=/mnt/x bs=64k count=100 conv=fsync 2>&1 && sha256sum /mnt/x >/run/sum'
# Small ones: they are sent whole, and wait for nothing but their answers.
guest_begin $N 'while dd if=/dev/zero of=/mnt/y bs=4k count=4000 oflag=direct conv=notrunc; do :; done; exit 3'
APP=$JOB
must 'until [ -e /mnt/y ]; do :; done; kill -STOP $(cat /run/ferryd.pid)
	for i in $(seq 100); do [ "$(awk "{print \$9}" /sys/block/nbd0/stat)" -gt 0 ] && exit; sleep 0.1; done; exit 1'
agent_end KILL
agent_start vdb
within 60 guest_ended $N "$APP" || fail "what was in flight never ends"
guest_result $N "$APP" >"$WORK/app" && fail "written though the agent was dead: $(cat "$WORK/app")"
must 'grep "were ended" /var/log/ferryd.log'
must '! dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>&1'
guest_do $N 'ferry attach data' >"$WORK/out"
[ $? = 5 ] || fail "attached while the dead one is mounted: $(cat "$WORK/out")"
must 'umount /mnt && [ "$(ferry attach data)" = /dev/nbd0 ] && e2fsck -fy /dev/nbd0; [ $? -le 1 ] &&
	mount /dev/nbd0 /mnt && sha256sum -c /run/sum && umount /mnt'
# Nobody uses it: it is gone with the next agent.
agent_end KILL
agent_start vdb
nothing_left
must 'ferry attach data && ferry detach data'
nothing_left
agent_end TERM
nobody_complains
passed "killed with writes in flight: errors, nothing stale, and a new device ($SECONDS s)"
