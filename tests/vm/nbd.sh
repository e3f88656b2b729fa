#!/bin/bash
# nbd.sh - one agent that stands alone, in a guest whose kernel has an NBD client and no ublk: what
# `ferry attach` makes of it, and that who uses it gets errors, not silence, when the agent is killed.
#
#     FERRY_BUILD_DIR=build-asan tests/vm/nbd.sh      the same with the sanitizers' build
. "$(dirname "$0")/lib.sh"

N=1
MIB=64
DISKS=(512 4096) # /dev/vdb, /dev/vdc: by their block size.
SOCKET=/run/ferry/nbd.sock

# agent_start DISK [option...]: until it answers; the kernel may still end the I/O of the one before.
agent_start()
{
	guest_must $N "for i in \$(seq 300); do
		ferry status >/dev/null 2>&1 && exit
		[ -e /proc/\$(cat /run/ferryd.pid 2>/dev/null)/exe ] || {
			setsid ferryd --standalone --lun /dev/$1 --name data --nbd unix:$SOCKET --run-dir /run/ferry \
				--memory 32M ${*:2} >>/var/log/ferryd.log 2>&1 </dev/null &
			echo \$! >/run/ferryd.pid
		}
		sleep 0.2
	done; exit 1"
}

# agent_end SIGNAL: and until its process is gone.
agent_end()
{
	guest_must $N "p=\$(cat /run/ferryd.pid); kill -$1 \$p
		for i in \$(seq 300); do [ -e /proc/\$p/exe ] || exit 0; sleep 0.1; done; exit 1"
}

must()
{
	guest_do $N "$@" >"$WORK/out" || {
		guest_do $N 'tail -n 30 /var/log/ferryd.log; ferry status; ferry volumes; dmesg | tail -n 30' >&2
		fail "$* $(cat "$WORK/out")"
	}
}

nothing_left()
{
	must '! cat /sys/block/nbd*/backend 2>/dev/null'
	must 'for i in $(seq 100); do [ "$(ferry --json volumes | jq .volumes[0].clients)" = 0 ] && exit; sleep 0.1
		done; exit 1'
}

for size in "${DISKS[@]}"; do
	truncate -s ${MIB}M "$WORK/disk.$size"
done
GUEST_MIB=1024 guest_start $N \
	-drive "if=none,id=a,file=$WORK/disk.512,format=raw,discard=unmap" \
	-device virtio-blk-pci,drive=a,addr=0x10 \
	-drive "if=none,id=b,file=$WORK/disk.4096,format=raw,discard=unmap" \
	-device virtio-blk-pci,drive=b,addr=0x11,logical_block_size=4096,physical_block_size=4096
guest_up $N
must 'cp /ferry/bin/ferryd /ferry/bin/ferry /usr/local/bin/'

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
	# What is written by one way is read by the other, by the largest requests, also at the very end.
	must "dd if=/dev/urandom of=/run/data bs=1M count=$MIB 2>&1
		r() { awk '{print \$5}' /sys/block/nbd0/stat; }; before=\$(r)
		dd if=/run/data of=/dev/nbd0 bs=1M oflag=direct 2>&1
		echo \"writes: \$((\$(r) - before))\"; [ \$((\$(r) - before)) = $MIB ] &&
		cmp /run/data /dev/nbd0 && dd if=/dev/nbd0 of=/run/tail bs=$size iflag=direct \
			skip=$((MIB * 1048576 / size - 1)) count=9 2>&1 &&
		cmp /run/tail <(tail -c $size /run/data)"
	must "blkdiscard -z -o 1048576 -l 20971520 /dev/nbd0 &&
		cmp -n 20971520 /dev/zero <(dd if=/dev/nbd0 bs=1M skip=1 iflag=direct 2>/dev/null) &&
		cmp -n 1048576 /run/data /dev/nbd0 &&
		cmp <(tail -c +22020097 /run/data) <(tail -c +22020097 /dev/nbd0) &&
		blkdiscard -o 0 -l 50331648 /dev/nbd0 && rm /run/data"
	must "f() { awk '{print \$16}' /sys/block/$disk/stat; }; before=\$(f)
		dd if=/dev/zero of=/dev/nbd0 bs=4k count=20 oflag=direct,dsync 2>&1
		echo \"flushes: \$((\$(f) - before))\"; [ \$((\$(f) - before)) -ge 20 ]"
	must "fio --name=x --filename=/dev/nbd0 --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite \
		--bsrange=$size-1m --bs_unaligned=0 --size=32m --io_size=32m --verify=crc32c --verify_fatal=1 \
		--verify_async=0 --minimal"
	must 'mke2fs -q -t ext4 /dev/nbd0 && mount -o discard /dev/nbd0 /mnt &&
		dd if=/dev/urandom of=/mnt/x bs=64k count=100 conv=fsync 2>&1'
	guest_do $N 'ferry detach data' >"$WORK/out"
	[ $? = 5 ] || fail "detached while it is mounted: $(cat "$WORK/out")"
	must 'sha256sum /mnt/x >/run/sum && umount /mnt && ferry detach data'
	nothing_left
	must 'ferry attach data >/dev/null && mount /dev/nbd0 /mnt && sha256sum -c /run/sum &&
		umount /mnt && e2fsck -fn /dev/nbd0 && ferry detach data && ferry detach data'
	nothing_left
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
must '! dmesg | grep -E "BUG:|WARNING:|Oops|blocked for more than"'
must '! grep -E "ERROR: AddressSanitizer|runtime error|assertion failed" /var/log/ferryd.log'
passed "killed with writes in flight: errors, nothing stale, and a new device ($SECONDS s)"
