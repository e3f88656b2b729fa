# shellcheck shell=bash
# outlives.sh - sourced, after nodes.sh: a device in vm2 that outlives its agent, whatever makes it; vm3
# serves the volume, too. DEVICE, MODULE: what is made by which driver.

ios_at_least()
{
	is 2 status ".pools[0].ios >= $1"
}

ios_go_on()
{
	local ios

	ios=$(ask 2 status '.pools[0].ios')
	wait_for 240 "I/O goes on" ios_at_least $((ios + ${1:-200}))
}

agent_kill()
{
	guest_must 2 "kill -KILL \$(cat /run/ferryd.pid)
		until [ ! -e /proc/\$(cat /run/ferryd.pid)/exe ]; do sleep 0.1; done; [ -b $DEVICE ]"
}

# The cluster; fio runs on the device, and goes on till device_goes_on ends it.
device_up()
{
	nodes_up
	guest_must 2 "ferry acquire data" >/dev/null
	wait_for 240 "vm2 serves the pool" is 2 status '.pools[0].state == "serving"'
	guest_must 2 "modprobe $MODULE && [ \"\$(ferry attach data)\" = $DEVICE ] &&
		mke2fs -q -t ext4 $DEVICE && mount $DEVICE /mnt" >/dev/null
	guest_begin 2 "fio --name=app --directory=/mnt --size=16m --rw=randrw --bs=4k --ioengine=libaio \
		--iodepth=8 --direct=1 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --fsync=32 \
		--time_based --runtime=1800 --trigger-file=/run/app.stop --minimal"
	APP=$JOB
	ios_go_on
	passed "ext4 on $DEVICE in vm2, fio verifies there, by its own path ($SECONDS s)"
}

device_goes_on()
{
	local epoch

	epoch=$(ask 2 status '.pools[0].epoch')
	agent_kill
	guest_must 2 '/host/guest-node agent'
	wait_for 240 "vm2 serves the pool again" is 2 status '.pools[0].state == "serving"'
	is 2 status ".pools[0].epoch == $((epoch + 1))" || fail "not the next epoch: $(ask 2 status .)"
	ios_go_on
	log_has 2 'is served again' || fail "another device"
	guest_must 2 'touch /run/app.stop'
	guest_result 2 "$APP" >"$WORK/fio" || fail "fio: $(cat "$WORK/fio")"
	grep -q 'verify: bad' "$WORK/fio" && fail "fio: $(cat "$WORK/fio")"
	guest_must 2 "umount /mnt && e2fsck -fn $DEVICE" >/dev/null
	passed "vm2's agent is killed: the next one goes on, fio saw no error and no wrong byte ($SECONDS s)"
}

# device_is_old LOG LEFT: somebody else had the pool meanwhile: what waits in vm2 is old. LOG: what its
# agent says; LEFT: prints what is left of a device.
device_is_old()
{
	local old

	guest_begin 2 "while dd if=/dev/zero of=$DEVICE bs=4k count=16000 oflag=direct conv=nocreat; do :; done"
	old=$JOB
	ios_go_on 50
	agent_kill
	guest_must 3 'ferry --timeout 120 acquire data' >/dev/null
	wait_for 240 "vm3 serves the pool" is 3 status '.pools[0].state == "serving"'
	guest_ended 2 "$old" && fail "old writes: $(guest_result 2 "$old")"
	guest_must 2 '/host/guest-node agent'
	guest_result 2 "$old" >"$WORK/out"
	grep -qE 'Input/output error|No such device' "$WORK/out" || fail "old writes: $(cat "$WORK/out")"
	log_has 2 "$1" || fail "not removed"
	guest_must 3 'ferry release data' >/dev/null
	guest_must 2 'ferry --timeout 120 acquire data' >/dev/null
	wait_for 240 "vm2 serves the pool" is 2 status '.pools[0].state == "serving"'
	guest_must 2 "[ \"\$(ferry attach data)\" = $DEVICE ] && ferry detach data" >/dev/null
	[ -z "$(guest_do 2 "$2")" ] || fail "a device is left behind"
	passed "vm3 had the pool meanwhile: vm2's old device gives errors and is removed ($SECONDS s)"
}
