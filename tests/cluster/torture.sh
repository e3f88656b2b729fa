#!/bin/bash
# torture.sh [--seconds N] [--seed S] [--without FAULT] [--lie] - three nodes, storage with a volatile cache, the
# tagged workload on whoever owns the pool, and everything that can break breaking at random:
# torture.py has the list. Passes if no read ever returned what a disk could not have returned, and
# all works again when the faults have stopped.
#
# --lie: the target answers flushes and does not do them. This must be found; a canary.
. "$(dirname "$0")/lib.sh"

TORTURE_SECONDS=60
TORTURE_SEED=$(($(date +%s) % 1000000))
LIE=
OPTIONS=()

while [ $# -gt 0 ]; do
	case $1 in
	--seconds) TORTURE_SECONDS=${2:?}; shift ;;
	--seed) TORTURE_SEED=${2:?}; shift ;;
	--without) OPTIONS+=(--without "${2:?}"); shift ;;
	--lie) LIE=1 ;;
	*) echo "usage: torture.sh [--seconds N] [--seed S] [--without FAULT] [--lie]" >&2; exit 1 ;;
	esac
	shift
done

# The front end is where the driver, outside of all nodes, can reach it; and no mount is left behind
# by agents that are killed.
node_config() {
	HOLD_TIMEOUT=10s config_make |
		sed -e "s|^listen = .*|listen = unix:$WORK/$1.sock|" -e '/^\[fuse\]/,$d'
}

# In the background, so that a signal is not kept waiting for its end.
torture() {
	local options=(--seconds "$TORTURE_SECONDS" --seed "$TORTURE_SEED" --work "$WORK")
	[ -z "$LIE" ] || options+=(--target-only)
	options+=("${OPTIONS[@]}")
	FERRY_LAB=$LAB FERRY=$FERRY FERRYD=$FERRYD DRIVER=$BUILD/tests/torture_driver \
		/usr/bin/python3 "$HERE/torture.py" "${options[@]}" &
	JOBS+=($!)
	wait $!
}

honest() {
	torture
	case $? in
	0) ;;
	2) violated "seed $TORTURE_SEED" ;;
	*) fail "seed $TORTURE_SEED" ;;
	esac
}

lying() {
	local status=0
	"$LAB" target lie
	torture >"$WORK/lie.out" 2>&1 || status=$?
	[ $status -eq 2 ] || { cat "$WORK/lie.out"; fail "the lie was not found: $status"; }
	note "$(grep -c VIOLATION "$WORK/lie.out") violations found, as it has to be"
}

begin --backing volatile --size 16 --token 800
for node in n1 n2 n3; do
	config_set $node "$(node_config $node)"
done
agents_up
own n1
if [ -n "$LIE" ]; then
	scenario "a target that lies" lying
else
	scenario "torture, seed $TORTURE_SEED, $TORTURE_SECONDS s" honest
fi
