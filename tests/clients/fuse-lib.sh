# fuse-lib.sh - what the tests of the FUSE front end share: a stand with volumes in files, and a
# clean-up that runs whatever happens. Sourced with $1: the build directory.
set -u
. "$(dirname "$0")/common.sh"
BUILD=$(realpath "${1:?usage: $0 BUILD_DIR}")
STAND=$BUILD/tests/fuse_stand
WORK=
STAND_PID=
LOOPS=()
MOUNTS=()

fail() {
	echo "FAILED: $*" >&2
	[ -n "$WORK" ] && [ -f "$WORK/stand.err" ] && sed 's/^/  stand: /' "$WORK/stand.err" >&2
	exit 1
}

clean_up() {
	local status=$? item
	trap - EXIT
	for item in "${MOUNTS[@]}"; do
		mountpoint -q "$item" && { umount "$item" || umount -l "$item"; }
	done
	for item in "${LOOPS[@]}"; do
		losetup -d "$item" 2>/dev/null
	done
	if [ -n "$STAND_PID" ] && kill -0 "$STAND_PID" 2>/dev/null; then
		kill -TERM "$STAND_PID"
		until_true 10 stand_is_gone || kill -KILL "$STAND_PID"
		wait "$STAND_PID" 2>/dev/null
	fi
	if [ -n "$WORK" ]; then
		while umount -l "$WORK/mnt" 2>/dev/null; do :; done
		rm -rf --one-file-system "$WORK"
	fi
	exit $status
}

# A mount namespace of its own: nobody who makes one meanwhile takes a copy of our mounts along
# (which would keep a device busy after we unmounted), and ours go when we go.
[ -n "${FERRY_FUSE_TEST_INSIDE:-}" ] || [ "$(id -u)" != 0 ] ||
	FERRY_FUSE_TEST_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"

begin() {
	[ -c /dev/fuse ] || skip "no /dev/fuse: the kernel or the container has no FUSE"
	[ "$(id -u)" = 0 ] || skip "mounting needs root"
	[ -x "$STAND" ] || fail "$STAND is not built"
	trap clean_up EXIT
	trap 'exit 130' INT TERM
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/ferry-fuse.XXXXXX")
	mkdir "$WORK/cwd" && cd "$WORK/cwd" || fail "no $WORK/cwd" # fio leaves files where it is.
}

# volume NAME MIB: its backing file.
volume() {
	truncate -s "$2M" "$WORK/$1.img"
}

stand_is_gone() {
	! kill -0 "$STAND_PID" 2>/dev/null || [ "$(ps -o stat= -p "$STAND_PID" | cut -c1)" = Z ]
}

stand_said() {
	grep -q "$1" "$WORK/stand.out"
}

stand_is_up() {
	stand_said ready || stand_is_gone
}

# stand ARGUMENTS...: start it, mounted at $WORK/mnt, and wait until it serves.
stand() {
	: >"$WORK/stand.out"
	"$STAND" --mount "$WORK/mnt" "$@" >"$WORK/stand.out" 2>"$WORK/stand.err" &
	STAND_PID=$!
	until_true 10 stand_is_up && stand_said ready || fail "the stand does not start"
}

# Stop it cleanly; its counters are in $COUNTERS.
stand_stop() {
	kill -TERM "$STAND_PID"
	until_true 15 stand_is_gone || fail "the stand does not stop"
	wait "$STAND_PID" || fail "the stand failed: status $?"
	STAND_PID=
	COUNTERS=$(grep '^{' "$WORK/stand.out" | tail -1)
}

counter() {
	sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" <<<"$COUNTERS"
}

# fails_with MESSAGE COMMAND...: run it, expecting that it says MESSAGE. (The status says little:
# xfs_io returns 0 for some errors.)
fails_with() {
	local expected=$1
	shift
	SAID=$(LC_ALL=C "$@" 2>&1)
	grep -q "$expected" <<<"$SAID" || fail "expected '$expected' of $*, got: $SAID"
}
