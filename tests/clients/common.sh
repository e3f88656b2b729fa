# shellcheck shell=bash
# common.sh - what every test with stock clients says and how it waits. Sourced by lib.sh and
# fuse-lib.sh.
. "$(dirname "${BASH_SOURCE[0]}")/../violated.sh"
PASSED=0

skip() {
	echo "SKIPPED: $*"
	exit 77
}

ok() {
	PASSED=$((PASSED + 1))
	echo "ok $PASSED - $*"
}

need() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null ||
			fail "$tool is missing; deploy/install-deps.sh installs it"
	done
}

# until_true SECONDS COMMAND...: wait for a condition, with a deadline.
until_true() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" 2>/dev/null; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.02
	done
}
