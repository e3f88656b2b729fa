# lib.sh - what the tests with stock clients share: agents, a folder, and a clean-up that runs
# whatever happens. Sourced; FERRY_BUILD_DIR names the build tree.
set -u
export LC_ALL=C
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/common.sh"
BUILD=${FERRY_BUILD_DIR:?the build tree}
FERRYD=$BUILD/bin/ferryd
FERRY=$BUILD/bin/ferry
WORK=
AGENTS=()  # Process ids of what agent() started.
HELPERS=() # Of everything else that must not outlive the test.
LOOPS=()
MOUNTS=()
AGENT= # The one that was started last, and its folder.
RUN=

fail() {
	local log
	echo "FAILED: $*" >&2
	for log in "$WORK"/*.log; do
		[ ! -s "$log" ] || tail -n 40 "$log" | sed "s|^|  $(basename "$log"): |" >&2
	done
	exit 1
}

is_gone() {
	local state
	state=$(ps -o stat= -p "$1") || return 0
	[ "${state:0:1}" = Z ]
}

end_process() {
	is_gone "$1" || kill -TERM "$1" 2>/dev/null
	until_true "${2:-10}" is_gone "$1" || kill -KILL "$1" 2>/dev/null
	wait "$1" 2>/dev/null
}

clean_up() {
	local status=$? item
	trap - EXIT
	for item in "${HELPERS[@]}"; do
		kill -CONT "$item" 2>/dev/null
	done
	for item in "${MOUNTS[@]}"; do
		mountpoint -q "$item" && { umount "$item" || umount -l "$item"; }
	done 2>/dev/null
	for item in "${LOOPS[@]}"; do
		losetup -d "$item" 2>/dev/null
	done
	for item in "${AGENTS[@]}" "${HELPERS[@]}"; do
		end_process "$item" 15
	done
	if [ -n "$WORK" ]; then
		for item in "$WORK"/*; do
			while umount -l "$item" 2>/dev/null; do :; done
		done
		rm -rf --one-file-system "$WORK"
	fi
	exit $status
}

# Namespaces of its own for this script: nobody who makes one meanwhile takes a copy of our mounts
# along (which would keep a device busy after we unmounted), and ours go when we go. Arguments:
# unshare's, then --, then the script's own.
enter() {
	local options=(--mount --propagation private)
	while [ "${1:-}" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	[ "$(id -u)" = 0 ] || skip "this needs root"
	[ -n "${FERRY_CLIENTS_INSIDE:-}" ] ||
		FERRY_CLIENTS_INSIDE=1 exec unshare "${options[@]}" "$0" "$@"
}

begin() {
	[ -x "$FERRYD" ] && [ -x "$FERRY" ] || fail "$FERRYD and $FERRY are not built"
	trap clean_up EXIT
	trap 'exit 130' INT TERM
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/ferry-clients.XXXXXX")
	cd "$WORK" || exit 1 # What clients leave in their directory goes with it.
}

# lun NAME MIB: a file for a lun.
lun() {
	truncate -s "$2M" "$WORK/$1"
}

free_port() {
	python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

agent_is_decided() {
	is_gone "$AGENT" || has '.volumes[0].serving' volumes
}

# agent NAME ARGUMENT...: start ferryd --standalone with a run directory, and wait until it serves.
# It is $AGENT, its run directory $RUN, its log $WORK/NAME.log.
agent() {
	agent_begin "$@"
	until_true 15 agent_is_decided || fail "agent $1 does not serve"
	! is_gone "$AGENT" || fail "agent $1 has ended"
}

# The same without waiting.
agent_begin() {
	local name=$1
	shift
	RUN=$WORK/$name.run
	"$FERRYD" --standalone --run-dir "$RUN" "$@" >>"$WORK/$name.log" 2>&1 &
	AGENT=$!
	AGENTS+=("$AGENT")
}

# agent_end [SECONDS]: SIGTERM to $AGENT; it must end with 0 in time and leave nothing.
agent_end() {
	local status=0 i
	kill -TERM "$AGENT"
	until_true "${1:-10}" is_gone "$AGENT" || fail "the agent does not stop"
	wait "$AGENT" || status=$?
	[ $status = 0 ] || fail "the agent ended with status $status"
	[ ! -e "$RUN/ferry.sock" ] || fail "the control socket was left behind"
	for i in "${!AGENTS[@]}"; do
		[ "${AGENTS[i]}" != "$AGENT" ] || unset "AGENTS[i]"
	done
	AGENT=
}

# kill -9, as when the power of its process fails.
agent_kill() {
	local i
	kill -KILL "$AGENT"
	wait "$AGENT" 2>/dev/null
	for i in "${!AGENTS[@]}"; do
		[ "${AGENTS[i]}" != "$AGENT" ] || unset "AGENTS[i]"
	done
	AGENT=
}

# ferry ARGUMENT...: ask $AGENT.
ferry() {
	"$FERRY" -s "$RUN/ferry.sock" "$@"
}

# has JQ ARGUMENT...: the answer to `ferry ARGUMENT... --json` is so.
has() {
	local wanted=$1
	shift
	SAID=$(ferry "$@" --json 2>&1) && jq -e "$wanted" <<<"$SAID" >/dev/null
}

# fails_with MESSAGE COMMAND...: run it, expecting that it says MESSAGE. (The status says little:
# xfs_io returns 0 for some errors.) Every client has a deadline.
fails_with() {
	local expected=$1
	shift
	[ "$1" != ferry ] || set -- "$FERRY" -s "$RUN/ferry.sock" "${@:2}"
	SAID=$(timeout -k 5 60 "$@" 2>&1)
	grep -qi -- "$expected" <<<"$SAID" || fail "expected '$expected' of $*, got: $SAID"
}

# refused CODE MESSAGE ARGUMENT...: ferryd must end with CODE, at once, and say MESSAGE.
refused() {
	local code=$1 expected=$2 status=0
	shift 2
	SAID=$(timeout -k 5 20 "$FERRYD" "$@" 2>&1) || status=$?
	[ "$status" = "$code" ] || fail "ferryd $*: status $status, not $code: $SAID"
	grep -q -- "$expected" <<<"$SAID" || fail "expected '$expected' of ferryd $*, got: $SAID"
}

# attach VOLUME: $DEVICE
attach() {
	DEVICE=$(ferry attach "$1" 2>"$WORK/attach.log") || fail "attach $1"
	LOOPS+=("$DEVICE")
}

# detach VOLUME: takes $DEVICE away.
detach() {
	local i
	ferry detach "$1" 2>"$WORK/attach.log" || fail "detach $1"
	[ ! -e "/sys/block/${DEVICE#/dev/}/loop" ] ||
		[ "$(losetup -n -O BACK-FILE "$DEVICE")" != "$WORK/$1" ] ||
		fail "$DEVICE is still attached"
	for i in "${!LOOPS[@]}"; do
		[ "${LOOPS[i]}" != "$DEVICE" ] || unset "LOOPS[i]"
	done
}

# verify FILE|URI SIZE [fio arguments]: random writes of mixed sizes, 16 deep, read back.
verify() {
	local where=$1 size=$2
	shift 2
	if [[ $where == nbd* ]]; then
		set -- --ioengine=nbd --uri="$where" "$@"
	else
		set -- --ioengine=io_uring --direct=1 --filename="$where" "$@"
	fi
	timeout -k 5 120 fio --name=verify --size="$size" --iodepth=16 --rw=randwrite \
		--bssplit=4k/80:64k/15:256k/5 --verify=crc32c --verify_fatal=1 --do_verify=1 \
		--verify_state_save=0 --output="$WORK/fio.out" "$@" >"$WORK/fio.log" 2>&1 && return
	fio_failed "$WORK/fio.out" "$WORK/fio.log"
}

finish() {
	echo "$PASSED passed, 0 failed"
}
