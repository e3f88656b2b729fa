#!/bin/bash
# ublk.sh - one agent that stands alone, in a guest whose kernel has ublk: what a device of its own
# does, and that it outlives the agent. The agent is killed and stopped under load; the application
# sees a pause, no error and no wrong byte.
#
#     FERRY_BUILD_DIR=build-asan tests/vm/ublk.sh      the same with the sanitizers' build
. "$(dirname "$0")/alone.sh"

FRONT_END=--ublk

device_is_gone()
{
	[ -z "$(guest_do $N 'ls /dev/ublkb* /dev/ublkc* 2>/dev/null')" ]
}

nothing_left()
{
	within 10 device_is_gone || fail "a device is left behind"
}

cp "$HERE/direct_disk.py" "$HOST"
alone_up

# --- Without the driver.
agent_start vdb
must 'grep "no ublk: .*modprobe ublk_drv" /var/log/ferryd.log'
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
	device_keeps /dev/ublkb0 $size
	# 20 synchronous writes and 20 flushes all get to the disk as flushes.
	must "f() { awk '{print \$16}' /sys/block/$disk/stat; }; before=\$(f)
		dd if=/dev/zero of=/dev/ublkb0 bs=4k count=20 oflag=direct,dsync 2>&1 &&
		for i in \$(seq 20); do dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 conv=fsync 2>&1; done
		echo \"flushes: \$((\$(f) - before))\"; [ \$((\$(f) - before)) -ge 40 ]"
	device_carries_ext4 /dev/ublkb0 nothing_left
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

# --- The same under agent/check: each sector that is read is one that a disk could have returned. The
# host's page cache, which is the disk here, may tear one that is read while it is written.
must 'cp /ferry/tests/torture_driver /usr/local/bin/ && mkfifo /run/orders
	nbdkit -P /run/direct.pid -U /run/direct.sock python /host/direct_disk.py file=/dev/ublkb0'
guest_begin $N 'torture_driver -t "nbd+unix:///data?socket=/run/direct.sock" <>/run/orders'
APP=$JOB
within 60 grep -qs ready "$HOST/vm$N/out.$APP" || fail "no workload: $(cat "$HOST/vm$N/out.$APP")"
for how in KILL KILL TERM KILL KILL; do
	ios_go_on
	agent_end $how
	agent_start vdb
done
ios_go_on
must 'echo end >/run/orders'
guest_result $N "$APP" >"$WORK/torture" || fail "the checker: $(cat "$WORK/torture")"
tail -n 1 "$WORK/torture" | jq -e '.violations == 0 and .errors == 0 and .cut_off == 0 and
	.writes > 200 and .sectors_checked > 2000' >"$WORK/out" || fail "the checker: $(cat "$WORK/torture")"
note "$(tail -n 1 "$WORK/torture")"
must 'kill $(cat /run/direct.pid)
	for i in $(seq 300); do [ -e /proc/$(cat /run/direct.pid)/exe ] || exit 0; sleep 0.1; done; exit 1'
passed "killed four times, stopped once, under the checker: nothing a disk would not do ($SECONDS s)"

# --- Who stops leaves FLUSHes to its users: what one of its own told of a loss nobody would hear.
flushes()
{
	guest_must $N "awk '{print \$16}' /sys/block/vdb/stat"
}
must 'dd if=/dev/urandom of=/dev/ublkb0 bs=4k count=8 oflag=direct 2>&1'
before=$(flushes)
agent_end TERM
[ "$(flushes)" = "$before" ] || fail "flushed by who stops"
agent_start vdb
must 'dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct conv=fsync 2>&1'
[ "$(flushes)" -gt "$before" ] || fail "not flushed by its user"
passed "stopped: no FLUSH but its users' ($SECONDS s)"

# --- What is no longer the same volume is not served again: its users get errors.
agent_end KILL
agent_start vdc
must 'ferry attach data >/dev/null; [ $(cat /sys/block/ublkb0/queue/logical_block_size) = 4096 ] &&
	grep -q "another lun.s, or another node has served it since" /var/log/ferryd.log && ferry detach data'
nothing_left
agent_end TERM
nobody_complains $N
passed "another lun by the same name: the old device is removed ($SECONDS s)"
