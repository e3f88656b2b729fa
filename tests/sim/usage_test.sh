#!/bin/bash
# usage_test.sh FERRY_SIM FERRY_MUSEUM: what is wrong is named, and each exit code says what it says.
set -u
sim=$1
museum=$2
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# run CODE WORDS PROGRAM ARGUMENT...: it ends with CODE, and says WORDS.
run() {
	local want=$1 words=$2 code
	shift 2
	timeout -k 5 120 "$@" >"$out" 2>&1
	code=$?
	[ "$code" = "$want" ] || { echo "$*: exit $code, not $want"; cat "$out"; exit 1; }
	grep -Eq -- "$words" "$out" || { echo "$*: no '$words'"; cat "$out"; exit 1; }
}

run 0 '^Exit codes.* 0 nothing' "$sim" --help
run 2 'wants one of --seed, --seeds and --minimise' "$sim"
run 2 'wants one of' "$sim" --seed 1 --seeds 1..2
run 2 'no-such' "$sim" --seed 1 --no-such
run 2 'not an option: 7' "$sim" --seed 1 7
run 2 '--seed wants .* not -1$' "$sim" --seed -1
run 2 '--seed wants .* not  1$' "$sim" --seed ' 1'
run 2 '--seed wants .* not 18446744073709551616$' "$sim" --seed 18446744073709551616
run 2 '--seed wants .* not 1x$' "$sim" --seed 1x
run 2 '--minimise wants .* not -1$' "$sim" --minimise -1
run 2 '--seeds wants .* not 2\.\.1$' "$sim" --seeds 2..1
run 2 '--seeds wants .* not -1\.\.1$' "$sim" --seeds=-1..1
run 2 '--seeds wants .* not 1\.\.-1$' "$sim" --seeds 1..-1
run 2 '--seeds wants .* not 1\.2$' "$sim" --seeds 1.2
run 2 '--jobs wants .* not 65$' "$sim" --seeds 1..2 --jobs 65
run 2 '--jobs wants .* not 0$' "$sim" --seeds 1..2 --jobs 0
run 0 '^2 seeds, 0 bad' "$sim" --seeds 0x1..2

# One rule for all: what the worst seed has shown, and 0 for nothing.
run 129 ' [1-9][0-9]* bad' "$sim" --canary --seeds 1..20
bad=$(sed -n 's/^seed \([0-9]*\): 129: .*/\1/p' "$out" | head -1)
good=$("$sim" --canary --seeds 1..20 --json | sed -n 's/^{"seed":\([0-9]*\),"exit":0,.*/\1/p' | head -1)
run 129 "^seed $bad: 129" "$sim" --canary --seed "$bad"
run 129 'at its least' "$sim" --canary --minimise "$bad"
run 0 '0 bad' "$sim" --canary --seed "$good"
run 0 'nothing is wrong' "$sim" --minimise 1

run 0 '^Exit codes' "$museum" --help
run 2 'wants --piece' "$museum"
run 2 'wants --seeds' "$museum" --piece OVERLAP
run 2 'no such piece .*: NOTHING' "$museum" --piece NOTHING --seeds 1..2
run 2 '--seeds wants .* not 2\.\.1$' "$museum" --piece OVERLAP --seeds 2..1
run 2 '--before wants .* not -1$' "$museum" --piece OVERLAP --seeds 1..2 --before -1
run 2 'no-such' "$museum" --no-such
run 2 'not an option: OVERLAP' "$museum" OVERLAP
run 0 '^OVERLAP +4 +a write is admitted over a ghost$' "$museum" --list
# Words on each: a name, the rules, and more than one.
awk 'NF < 5 { exit 1 }' "$out" || { echo "--list: a piece without words"; cat "$out"; exit 1; }
echo passed
