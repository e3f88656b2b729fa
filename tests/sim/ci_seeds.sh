#!/bin/sh
# ci_seeds.sh FERRY_SIM [COUNT [JOBS]]: fresh seeds, derived from the commit; prints the figures.
# It fails if a seed is bad, or if a figure that says what was tried is near zero.
set -eu
sim=$1
count=${2:-10000}
jobs=${3:-2}
commit=$(git -C "$(dirname "$0")" rev-parse HEAD)
# The first twelve hexadecimal digits: far from the seeds that tests name.
first=$(printf '%d' "0x$(printf '%.12s' "$commit")")
last=$((first + count - 1))
out=$(mktemp)
trap 'rm -f "$out"' EXIT
echo "seeds $first..$last of commit $commit"
status=0
"$sim" --seeds "$first..$last" --jobs "$jobs" --json >"$out" || status=$?
grep -v '"exit":0,' "$out" | grep '"seed":' || true
python3 - "$out" "$count" <<'PYTHON' || status=1
import json
import sys

# May be rare: what needs a slow abort to be overtaken, and what ought not to be at all.
RARE = {"ghosts_late", "stale_reads", "past_writes", "imported"}

total = json.loads(open(sys.argv[1]).read().splitlines()[-1])
count = int(sys.argv[2])
faults = total.pop("faults")
for name, value in {**total, **faults}.items():
    print(f"{name:>16} {value}")
low = [name for name, value in {**total, **faults}.items()
       if name not in RARE | {"bad"} and value < count / 50]
if low:
    print("near zero: " + ", ".join(low))
    sys.exit(1)
PYTHON
exit $status
