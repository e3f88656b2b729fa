#!/bin/bash
# ublk.sh - one agent that stands alone, in a guest whose kernel has ublk: what a device of its own
# does, and that it outlives the agent. The agent is killed and stopped under load; the application
# sees a pause, no error and no wrong byte.
#
#     FERRY_BUILD_DIR=build-asan tests/vm/ublk.sh      the same with the sanitizers' build
. "$(dirname "$0")/lib.sh"

N=1
DISKS=(512 4096) # /dev/vdb, /dev/vdc: by their block size.

# agent_start DISK: as a service it would be started again, too, while the kernel still ends the I/O of
# the one before, which has the disk open till then.
agent_start()
{
	guest_must $N "for i in \$(seq 300); do
		ferry status >/dev/null 2>&1 && exit
		[ -e /proc/\$(cat /run/ferryd.pid 2>/dev/null)/exe ] || {
			setsid ferryd --standalone --lun /dev/$1 --name data --ublk --run-dir /run/ferry \
				--memory 32M >>/var/log/ferryd.log 2>&1 </dev/null &
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

say_all()
{
	guest_do $N 'tail -n 30 /var/log/ferryd.log; ferry status; ferry volumes; ls /dev/ublk*
		dmesg | tail -n 20' >&2
}

must()
{
	guest_do $N "$@" >"$WORK/out" || {
		say_all
		fail "$* $(cat "$WORK/out")"
	}
}

ios()
{
	guest_do $N "ferry --timeout 5 --json status" | jq -r '.pools[0].ios'
}

ios_at_least()
{
	[ "$(ios)" -ge "$1" ] 2>/dev/null
}

# Since an agent is new its count begins at 0.
ios_go_on()
{
	within 120 ios_at_least $(($(ios) + 200)) || {
		say_all
		fail "I/O does not go on"
	}
}

device_is_gone()
{
	[ -z "$(guest_do $N 'ls /dev/ublkb* /dev/ublkc* 2>/dev/null')" ]
}

for size in "${DISKS[@]}"; do
	truncate -s 96M "$WORK/disk.$size"
done
GUEST_MIB=1024 guest_start $N \
	-drive "if=none,id=a,file=$WORK/disk.512,format=raw,discard=unmap" \
	-device virtio-blk-pci,drive=a,addr=0x10 \
	-drive "if=none,id=b,file=$WORK/disk.4096,format=raw,discard=unmap" \
	-device virtio-blk-pci,drive=b,addr=0x11,logical_block_size=4096,physical_block_size=4096
guest_up $N
must 'cp /ferry/bin/ferryd /ferry/bin/ferry /usr/local/bin/'

# --- Without the driver.
agent_start vdb
guest_do $N 'ferry attach data' >"$WORK/out" && fail "attached without a driver"
grep -q 'modprobe ublk_drv' "$WORK/out" || fail "not why: $(cat "$WORK/out")"
agent_end TERM
must 'modprobe ublk_drv'
passed "without the driver: it is said what to do ($SECONDS s)"

# --- Each block size.
for i in 0 1; do
	disk=vd$(printf %b "\\x$((62 + i))")
	size=${DISKS[i]}
	agent_start "$disk"
	must '[ "$(ferry attach data)" = /dev/ublkb0 ] && [ "$(ferry attach data)" = /dev/ublkb0 ]'
	must "ferry --json attach data | jq -e '.front_end == \"ublk\" and .reason == \"\"'"
	must "cd /sys/block/ublkb0/queue && [ \$(cat logical_block_size) = $size ] &&
		[ \$(cat max_sectors_kb) = 1024 ] && [ \"\$(cat write_cache)\" = 'write back' ] &&
		[ \$(cat fua) = 1 ] && [ \$(cat discard_max_bytes) = 8388608 ] &&
		[ \$(cat write_zeroes_max_bytes) = 8388608 ]"
	must "[ \$(blockdev --getsize64 /dev/ublkb0) = \$(blockdev --getsize64 /dev/$disk) ]"
	# What is written by one way is read by the other, also at the very end.
	must "dd if=/dev/urandom of=/run/data bs=1M count=96 2>&1 &&
		dd if=/run/data of=/dev/ublkb0 bs=1M oflag=direct 2>&1 &&
		cmp /run/data /dev/ublkb0 && dd if=/dev/ublkb0 of=/run/tail bs=$size iflag=direct \
			skip=$((96 * 1048576 / size - 1)) count=9 2>&1 &&
		cmp /run/tail <(tail -c $size /run/data)"
	must "blkdiscard -z -o 1048576 -l 20971520 /dev/ublkb0 &&
		cmp -n 20971520 /dev/zero <(dd if=/dev/ublkb0 bs=1M skip=1 iflag=direct 2>/dev/null) &&
		cmp -n 1048576 /run/data /dev/ublkb0 &&
		cmp <(tail -c +22020097 /run/data) <(tail -c +22020097 /dev/ublkb0) &&
		blkdiscard -o 0 -l 67108864 /dev/ublkb0 && rm /run/data"
	# 20 synchronous writes and 20 flushes all get to the disk as flushes.
	must "f() { awk '{print \$16}' /sys/block/$disk/stat; }; before=\$(f)
		dd if=/dev/zero of=/dev/ublkb0 bs=4k count=20 oflag=direct,dsync 2>&1 &&
		for i in \$(seq 20); do dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 conv=fsync 2>&1; done
		echo \"flushes: \$((\$(f) - before))\"; [ \$((\$(f) - before)) -ge 40 ]"
	must "fio --name=x --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite \
		--bsrange=$size-1m --bs_unaligned=0 --size=64m --io_size=64m --verify=crc32c --verify_fatal=1 \
		--verify_async=0 --minimal"
	must 'mke2fs -q -t ext4 /dev/ublkb0 && mount -o discard /dev/ublkb0 /mnt &&
		dd if=/dev/urandom of=/mnt/x bs=64k count=200 conv=fsync 2>&1'
	guest_do $N 'ferry detach data' >"$WORK/out"
	[ $? = 5 ] || fail "detached while it is mounted: $(cat "$WORK/out")"
	must 'sha256sum /mnt/x >/run/sum && umount /mnt && ferry detach data'
	within 10 device_is_gone || fail "a device is left behind"
	must 'ferry attach data >/dev/null && mount /dev/ublkb0 /mnt && sha256sum -c /run/sum &&
		umount /mnt && e2fsck -fn /dev/ublkb0 && ferry detach data && ferry detach data'
	within 10 device_is_gone || fail "a device is left behind"
	agent_end TERM
	passed "$size-byte blocks: limits, data, zeroes, discard, flushes, ext4, detach ($SECONDS s)"
done

# --- The agent dies, and is stopped, under load; the device stays, I/O goes on.
agent_start vdb
must 'ferry attach data && mke2fs -q -t ext4 /dev/ublkb0 && mount /dev/ublkb0 /mnt'
guest_begin $N "fio --name=app --directory=/mnt --size=16m --rw=randrw --bs=4k --ioengine=libaio \
	--iodepth=16 --direct=1 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --fsync=32 \
	--time_based --runtime=900 --trigger-file=/run/app.stop --minimal"
APP=$JOB
ios_go_on
for how in KILL KILL TERM KILL; do
	agent_end $how
	must '[ -b /dev/ublkb0 ]'
	guest_ended $N "$APP" && fail "fio ended: $(guest_result $N "$APP")"
	before=$SECONDS
	agent_start vdb
	ios_go_on
	note "SIG$how: goes on with the next agent, $((SECONDS - before)) s after its start"
	must "ferry --json volumes | jq -e '.volumes[0].device == \"/dev/ublkb0\"'"
done
must 'touch /run/app.stop'
guest_result $N "$APP" >"$WORK/fio" || fail "fio: $(cat "$WORK/fio")"
grep -q 'verify: bad' "$WORK/fio" && fail "fio: $(cat "$WORK/fio")"
must '[ "$(grep -c "is served again" /var/log/ferryd.log)" = 4 ]'
must 'umount /mnt && e2fsck -fn /dev/ublkb0'
passed "killed three times and stopped once: fio saw no error and no wrong byte ($SECONDS s)"

# --- What is no longer the same volume is not served again: its users get errors.
agent_end KILL
agent_start vdc
must 'ferry attach data >/dev/null; [ $(cat /sys/block/ublkb0/queue/logical_block_size) = 4096 ] &&
	grep -q "the volume is no longer what it was" /var/log/ferryd.log && ferry detach data'
within 10 device_is_gone || fail "a device is left behind"
agent_end TERM
must '! dmesg | grep -E "BUG:|WARNING:|Oops|blocked for more than"'
must '! grep -E "ERROR: AddressSanitizer|runtime error|assertion failed" /var/log/ferryd.log'
passed "another lun by the same name: the old device is removed ($SECONDS s)"
