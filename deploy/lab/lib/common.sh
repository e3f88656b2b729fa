# shellcheck shell=bash
# common.sh - small things that all parts use.

die() {
	echo "lab: $*" >&2
	exit 1
}

# wait_until SECONDS CMD...: true as soon as CMD is, false when the time is over.
wait_until() {
	local deadline_us=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	until "$@" 2>/dev/null; do
		((${EPOCHREALTIME/./} < deadline_us)) || return 1
		sleep 0.02
	done
}

# process_is PID WORD...: is PID alive with these words, in a row, in its command line?
# Pids are used again; this keeps us from ever signalling a stranger.
process_is() {
	local pid=$1 words
	shift
	mapfile -d '' -t words 2>/dev/null <"/proc/$pid/cmdline" || return 1
	[[ " ${words[*]:-} " == *" $* "* ]]
}

# Everything `up` was told, so that later calls know.
conf_save() {
	local name
	for name in "${!LAB_@}"; do
		printf '%s=%q\n' "$name" "${!name}"
	done >"$LAB/conf"
}

conf_load() {
	# shellcheck source=/dev/null
	. "$LAB/conf"
}

# with_lock NAME CMD...: CMD in a subshell, one at a time.
with_lock() (
	exec 9>"$LAB/$1.lock"
	flock --wait 60 9 || die "$1 is locked"
	shift
	"$@"
)
