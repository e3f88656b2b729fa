#!/bin/bash
# target_test.sh - what the lab's targets are worth: LIO in user-mode Linux, and tgtd.
#
#     target_test.sh PROOF [all]
#
# For each target and each fate of a victim with a write held up inside the target: the way that the
# agent chooses must be safe; the canaries, ways that were seen to fail, must still fail, or the test
# could not. `all`: every way, for the table in docs/fault-model.md. Needs root.
set -u -o pipefail

ROOT=$(readlink -f "$(dirname "$0")/../..")
LAB=$ROOT/deploy/lab/lab
PROOF=${1:?PROOF}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/ferry-target.XXXXXX")
export FERRY_LAB_DIR=$WORK/lab
FAILED=0
PASSED=0

clean_up() {
	"$LAB" down >/dev/null 2>&1
	rm -rf --one-file-system "$WORK"
}
trap clean_up EXIT

# What the program asks for is done from outside of the node that it runs in.
keep_target() {
	local word rest
	while read -r word rest <&"${COPROC[0]}"; do
		case $word in
		verdict)
			VERDICT="$word $rest"
			return
			;;
		hold | pass | release | restart)
			if "$LAB" target "$word" "$rest" >/dev/null 2>"$WORK/error"; then
				echo ok >&"${COPROC[1]}"
			else
				cat "$WORK/error" >&2
				echo failed >&"${COPROC[1]}"
			fi
			;;
		esac
	done
}

# cell TARGET WAY:VICTIM EXPECTED
cell() {
	local target=$1 what=$2 expected=$3 pid word detail
	VERDICT="verdict DIED -"
	LUN=$((LUN + 1)) # Each its own: what a lun keeps is not to be mixed up.
	coproc "$LAB" exec n1 "$PROOF" 10.98.0.254:3260 iqn.2026-11.ferry.lab:disk "$LUN" "$what" \
		2>"$WORK/words"
	pid=$COPROC_PID
	keep_target
	wait "$pid" 2>/dev/null
	read -r _ word detail <<<"$VERDICT"
	printf '  %-4s %-22s %-6s %s\n' "$target" "$what" "$word" "$detail"
	[[ $word =~ ^($expected)$ ]] && PASSED=$((PASSED + 1)) && return
	FAILED=$((FAILED + 1))
	echo "FAILED: $target $what: $word, not $expected" >&2
	tail -n 5 "$WORK/words" >&2
	tail -n 5 "$FERRY_LAB_DIR/target.log" >&2
}

# try_target TARGET
try_target() {
	local target=$1 fate way ways
	"$LAB" up 1 --bare --target "$target" --luns 14 --size 16 || exit 1
	LUN=0
	for fate in holder registrant closed silent reboot; do
		cell "$target" "default:$fate" safe
	done
	case $target in
	lio)
		ways=(abort reset)
		cell lio abort:registrant LATE
		;;
	tgt)
		ways=(abort reinstate)
		cell tgt none:holder LATE
		;;
	esac
	if [ "${ALL:-}" = all ]; then
		for way in "${ways[@]}"; do
			for fate in holder registrant closed silent; do
				"$LAB" target restart # A way that fails may leave LIO stuck.
				cell "$target" "$way:$fate" '.*'
			done
		done
	fi
	"$LAB" down
}

ALL=${2:-}
for target in lio tgt; do
	try_target "$target"
done
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
