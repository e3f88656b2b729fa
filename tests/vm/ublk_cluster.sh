#!/bin/bash
# ublk_cluster.sh - Ferry's main job for an application on a device of ublk: vm2, vm3 and vm4 are a
# cluster, vm1 is the target (see cluster.sh). vm2's way to storage is cut and heals; vm2's agent is
# killed under load, its own epoch follows, and the device goes on; it is killed again, and vm3 takes
# the pool before a new one is there: then vm2's device must not go on.
. "$(dirname "$0")/lib.sh"
. "$HERE/nodes.sh"

UBLK=yes
nodes_up
guest_must 2 "ferry acquire data" >/dev/null
wait_for 240 "vm2 serves the pool" is 2 status '.pools[0].state == "serving"'
guest_must 2 'modprobe ublk_drv && [ "$(ferry attach data)" = /dev/ublkb0 ] &&
	mke2fs -q -t ext4 /dev/ublkb0 && mount /dev/ublkb0 /mnt' >/dev/null
guest_begin 2 "fio --name=app --directory=/mnt --size=16m --rw=randrw --bs=4k --ioengine=libaio \
	--iodepth=8 --direct=1 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --fsync=32 \
	--time_based --runtime=1800 --trigger-file=/run/app.stop --minimal"
APP=$JOB

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
	guest_must 2 'kill -KILL $(cat /run/ferryd.pid)
		until [ ! -e /proc/$(cat /run/ferryd.pid)/exe ]; do sleep 0.1; done; [ -b /dev/ublkb0 ]'
}

ios_go_on
passed "ext4 on ublk in vm2, fio verifies there, by its own path ($SECONDS s)"

guests_cut 1 2
wait_for 240 "detours" is 2 status '.pools[0].detours > 100 and .pools[0].ghosts_alive == 0'
guests_heal
wait_for 240 "the path is trusted again" is 2 status '.pools[0].health | . == "healthy" or
	. == "probation"'
ios_go_on
guest_ended 2 "$APP" && fail "fio: $(guest_result 2 "$APP")"
passed "its way to storage is cut and comes back: $(ask 2 status '.pools[0].detours') detours ($SECONDS s)"

EPOCH=$(ask 2 status '.pools[0].epoch')
agent_kill
guest_must 2 '/host/guest-node agent'
wait_for 240 "vm2 serves the pool again" is 2 status '.pools[0].state == "serving"'
is 2 status ".pools[0].epoch == $((EPOCH + 1))" || fail "not the next epoch: $(ask 2 status .)"
ios_go_on
log_has 2 'is served again' || fail "another device"
guest_must 2 'touch /run/app.stop'
guest_result 2 "$APP" >"$WORK/fio" || fail "fio: $(cat "$WORK/fio")"
grep -q 'verify: bad' "$WORK/fio" && fail "fio: $(cat "$WORK/fio")"
guest_must 2 'umount /mnt && e2fsck -fn /dev/ublkb0' >/dev/null
passed "vm2's agent is killed: the next one goes on, fio saw no error and no wrong byte ($SECONDS s)"

# --- Somebody else had the pool meanwhile: what waits in vm2 is old.
guest_begin 2 'while dd if=/dev/zero of=/dev/ublkb0 bs=4k count=16000 oflag=direct conv=nocreat; do :; done'
OLD=$JOB
ios_go_on 50
agent_kill
guest_must 3 'ferry --timeout 120 acquire data' >/dev/null
wait_for 240 "vm3 serves the pool" is 3 status '.pools[0].state == "serving"'
guest_ended 2 "$OLD" && fail "old writes: $(guest_result 2 "$OLD")"
guest_must 2 '/host/guest-node agent'
guest_result 2 "$OLD" >"$WORK/out"
grep -qE 'Input/output error|No such device' "$WORK/out" || fail "old writes: $(cat "$WORK/out")"
log_has 2 'another may have served the volume since' || fail "not removed"
guest_must 3 'ferry release data' >/dev/null
guest_must 2 'ferry --timeout 120 acquire data' >/dev/null
wait_for 240 "vm2 serves the pool" is 2 status '.pools[0].state == "serving"'
guest_must 2 '[ "$(ferry attach data)" = /dev/ublkb0 ] && ferry detach data' >/dev/null
guest_do 2 'ls /dev/ublkb*' >/dev/null && fail "a device is left behind"
passed "vm3 had the pool meanwhile: vm2's old device gives errors and is removed ($SECONDS s)"
