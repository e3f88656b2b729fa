#!/bin/bash
# nbd_cluster.sh - the same cluster as ublk_cluster.sh, for an application on a device of the kernel's
# NBD client: vm2's agent is killed under load, its own epoch follows, and the device goes on; it is
# killed again, and vm3 takes the pool before a new one is there: then vm2's device must not go on.
. "$(dirname "$0")/lib.sh"
. "$HERE/nodes.sh"
. "$HERE/outlives.sh"

HOLD=1200s # Longer than vm3 takes: so that what waits in vm2 is still there.
DEVICE=/dev/nbd0
MODULE=nbd
device_up
device_goes_on
device_is_old 'nbd device is ended' 'cat /sys/block/nbd*/backend 2>/dev/null'
