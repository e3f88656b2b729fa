#!/bin/bash
# clean.sh - nothing of the guests stays: no process (so no namespace, tap or mount, which live as long
# as one), no file. After a test that passed, one that failed, one that was killed in the middle, one
# whose starter was killed, and an image that was half made.
#
#     clean.sh            run by ctest; `clean.sh guest HOW` is the test that it watches
if [ "${1:-}" = guest ]; then
	. "$(dirname "$0")/lib.sh"
	guest_start 2
	guest_up 2
	[ "$(guest_do 2 'echo $((6 * 7))')" = 42 ] || fail "the guest does not answer"
	echo "a guest is up"
	case $2 in
	passes) exit 0 ;;
	fails) fail "as it should" ;;
	*) tail -f /dev/null ;;
	esac
	exit 1
fi
set -u -o pipefail

[ "$(id -u)" = 0 ] || exit 77
SELF=$(readlink -f "$0")
HERE=$(dirname "$SELF")
WORK=$(mktemp -d "${TMPDIR:-/tmp}/ferry-vm-clean.XXXXXX")
trap 'rm -rf --one-file-system "$WORK"' EXIT
export TMPDIR=$WORK/tmp
mkdir "$TMPDIR"
IMAGE=$("$HERE/image.sh") || exit 1

within()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# Processes that have the run's mark in their environment; this shell has it not. In a file, so that
# grep does not find itself.
left()
{
	echo "FERRY_VM_MARK=$1" >"$WORK/mark"
	grep -lasF -f "$WORK/mark" /proc/[0-9]*/environ
	find "$TMPDIR" "$IMAGE/work" -mindepth 1
	grep -F " $WORK/" /proc/mounts
}

nothing_is_left()
{
	[ -z "$(left "$1")" ]
}

is_up()
{
	grep -q 'a guest is up' "$WORK/out"
}

begin()
{
	MARK=$$-$1
	FERRY_VM_MARK=$MARK "${@:3}" "$SELF" guest "$2" >"$WORK/out" 2>&1 &
	RUN=$!
}

fail()
{
	echo "FAILED: $*" >&2
	cat "$WORK/out" >&2
	exit 1
}

check()
{
	within 10 nothing_is_left "$MARK" || fail "$1: left: $(left "$MARK")"
	echo "passed: nothing is left after $1"
}

begin passes passes
wait $RUN || fail "it does not pass"
is_up || fail "it passed without a guest"
check "a test that passed"

begin fails fails
wait $RUN && fail "it does not fail"
grep -q 'FAILED: as it should' "$WORK/out" || fail "it failed of something else"
check "a test that failed"

for signal in TERM HUP KILL; do
	begin $signal waits
	within 240 is_up || fail "no guest"
	nothing_is_left "$MARK" && fail "this test cannot see what runs"
	kill -$signal $RUN
	wait $RUN 2>/dev/null
	check "a test that got $signal"
done

# The shell between is what ctest or make is to a test.
begin starter waits bash -c '"$@"; exit' starter
within 240 is_up || fail "no guest"
kill -KILL $RUN
wait $RUN 2>/dev/null
check "a test whose starter was killed"

# Half an image: what is left of it is in its cache, and goes when the next one is made.
mkdir -p "$WORK/cache/work"
MARK=$$-image
FERRY_VM_CACHE=$WORK/cache FERRY_VM_MARK=$MARK "$HERE/image.sh" >"$WORK/out" 2>&1 &
RUN=$!
within 300 compgen -G "$WORK/cache/build.*/root/etc" >/dev/null || fail "no image is made"
kill -TERM $RUN
wait $RUN 2>/dev/null && fail "an image was made"
check "an image that was half made"
[ ! -e "$WORK/cache/stamp" ] || fail "half an image is taken for one"
