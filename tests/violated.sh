# shellcheck shell=bash
# violated.sh - what came back is not what was written: of that there is no second try. Sourced by
# clients/common.sh and cluster/lib.sh, which have fail().

# violated WORDS...: tests/all fails by it, though a second try may pass.
violated() {
	[ -z "${FERRY_VIOLATIONS:-}" ] ||
		echo "$(basename "$0"): ${SCENARIO:-}: $*" >>"$FERRY_VIOLATIONS"
	fail "$@"
}

# fio_failed FILE...: a fio that verifies has, and says there why. Of another block, or none, it has
# other words than of a wrong byte in the right one, and all of them on its standard error.
fio_failed() {
	! cat "$@" | grep -qE 'verify: bad|verify failed' || violated "fio: $(cat "$@")"
	fail "fio: $(cat "$@")"
}
