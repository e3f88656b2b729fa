#!/bin/bash
# ublk_cluster.sh - Ferry's main job for an application on a device of ublk: vm2, vm3 and vm4 are a
# cluster, vm1 is the target (see cluster.sh). vm2's way to storage is cut and heals; vm2's agent is
# killed under load, its own epoch follows, and the device goes on; it is killed again, and vm3 takes
# the pool before a new one is there: then vm2's device must not go on.
. "$(dirname "$0")/lib.sh"
. "$HERE/nodes.sh"
. "$HERE/outlives.sh"

UBLK=yes
DEVICE=/dev/ublkb0
MODULE=ublk_drv
device_up

guests_cut 1 2
wait_for 240 "detours" is 2 status '.pools[0].detours > 100 and .pools[0].ghosts_alive == 0'
guests_heal
wait_for 240 "the path is trusted again" is 2 status '.pools[0].health | . == "healthy" or
	. == "probation"'
ios_go_on
guest_ended 2 "$APP" && fail "fio: $(guest_result 2 "$APP")"
passed "its way to storage is cut and comes back: $(ask 2 status '.pools[0].detours') detours ($SECONDS s)"

device_goes_on
device_is_old 'another node serves it, or what that agent sent' 'ls /dev/ublkb* 2>/dev/null'
