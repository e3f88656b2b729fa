#!/bin/sh
# seeds.sh FERRY_SIM SEED...: run each seed; all are run, and any bad one makes it fail.
set -u
sim=$1
shift
[ $# -gt 0 ] || exit 2
bad=0
for seed in "$@"; do
	"$sim" --seed "$seed" || bad=1
done
exit $bad
