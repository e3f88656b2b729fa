#!/bin/bash
# Stock NBD clients against an agent, through a unix socket and TCP.
#
#   run.sh BLOCK_BYTES       FERRY_BUILD_DIR names the build tree
set -euo pipefail

block=${1:?usage: run.sh BLOCK_BYTES}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../violated.sh"
ferryd=${FERRY_BUILD_DIR:?the build tree}/bin/ferryd
export_name=demo
size=$((64 * 1024 * 1024))
work=$(mktemp -d "${TMPDIR:-/tmp}/ferry-clients.XXXXXX")
server=
passed=0

fail() {
	echo "FAILED: $*" >&2
	[ -s "$work/server.log" ] && sed 's/^/server: /' "$work/server.log" >&2
	exit 1
}

cleanup() {
	if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
		kill -TERM "$server" 2>/dev/null || true
		for _ in $(seq 100); do
			kill -0 "$server" 2>/dev/null || break
			sleep 0.05
		done
		kill -KILL "$server" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Every client has a deadline: one that hangs is a failure.
run() {
	timeout --kill-after=5 60 "$@" >"$work/out" 2>&1 || {
		local status=$?
		cat "$work/out" >&2
		fail "status $status: $*"
	}
}

# A client that must fail, and not by its deadline; its output then has the given text.
run_refused() {
	local text=$1 status=0
	shift
	timeout --kill-after=5 60 "$@" >"$work/out" 2>&1 || status=$?
	[ "$status" -ne 124 ] && [ "$status" -ne 137 ] || fail "no answer: $*"
	grep -qi -- "$text" "$work/out" || {
		cat "$work/out" >&2
		fail "not refused with '$text': $*"
	}
}

expect() {
	grep -qE -- "$1" "$work/out" || {
		cat "$work/out" >&2
		fail "'$1' is missing"
	}
}

free_port() {
	python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# Another program may take the port between the look and the bind: then try again.
server_start() {
	truncate -s "$size" "$work/volume.img"
	for _ in 1 2 3 4 5; do
		local port
		port=$(free_port)
		"$ferryd" --standalone --lun "$work/volume.img" --block-size "$block" \
			--name "$export_name" --nbd "unix:$work/nbd.sock" \
			--nbd "tcp:127.0.0.1:$port" >"$work/server.log" 2>&1 &
		server=$!
		unix_uri="nbd+unix:///?socket=$work/nbd.sock"
		unix_named="nbd+unix:///$export_name?socket=$work/nbd.sock"
		tcp_uri="nbd://127.0.0.1:$port/"
		for _ in $(seq 200); do
			if timeout 5 nbdinfo --size "$unix_uri" >/dev/null 2>&1 &&
				timeout 5 nbdinfo --size "$tcp_uri" >/dev/null 2>&1; then
				return
			fi
			kill -0 "$server" 2>/dev/null || break
			sleep 0.05
		done
		kill -0 "$server" 2>/dev/null && fail "the server does not answer"
	done
	fail "the server does not start"
}

step_nbdinfo() {
	local uri
	for uri in "$unix_uri" "$tcp_uri" "$unix_named"; do
		run nbdinfo --json "$uri"
		expect "\"export-size\": $size"
		expect "\"block_size_minimum\": $block"
		expect '"block_size_maximum": 1048576'
		run nbdinfo --can flush "$uri"
		run nbdinfo --can fua "$uri"
		run nbdinfo --can zero "$uri"
		run nbdinfo --can multi-conn "$uri"
		run nbdinfo --can trim "$uri"
		run nbdinfo --map "$uri"
	done
	run nbdinfo --list --json "$unix_uri"
	expect "\"export-name\": \"$export_name\""
	run_refused 'no such export\|ENOENT\|No such' \
		nbdinfo "nbd+unix:///none?socket=$work/nbd.sock"
	run_refused 'TLS\|connection is closed' nbdinfo "nbds+unix:///?socket=$work/nbd.sock"
}

step_nbdcopy() {
	local uri
	for uri in "$unix_uri" "$tcp_uri"; do
		head -c "$size" /dev/urandom >"$work/in.img"
		run nbdcopy --connections=4 --flush "$work/in.img" "$uri"
		run nbdcopy --connections=4 "$uri" "$work/back.img"
		cmp "$work/in.img" "$work/back.img" || violated "nbdcopy: the copy differs"
		cmp "$work/in.img" "$work/volume.img" || violated "nbdcopy: the volume differs"
	done
	# With the largest requests that there may be.
	run nbdcopy --request-size=1048576 "$unix_uri" "$work/back.img"
	cmp "$work/in.img" "$work/back.img" || violated "nbdcopy: the copy in 1 MiB requests differs"
	rm "$work/in.img" "$work/back.img"
}

step_qemu_img() {
	head -c $((size / 2)) /dev/urandom >"$work/in.img"
	truncate -s "$size" "$work/in.img"
	run qemu-img info "$unix_uri"
	run qemu-img convert -n -f raw -O raw "$work/in.img" "$unix_uri"
	run qemu-img compare -f raw -F raw "$work/in.img" "$unix_uri"
	run qemu-img compare -f raw -F raw "$work/in.img" "$tcp_uri"
	run qemu-img convert -f raw -O qcow2 "$unix_uri" "$work/back.qcow2"
	run qemu-img compare -f raw -F qcow2 "$work/in.img" "$work/back.qcow2"
	cmp "$work/in.img" "$work/volume.img" || violated "qemu-img: the volume differs"
	rm "$work/in.img" "$work/back.qcow2"
}

step_qemu_io() {
	run qemu-io -f raw -c 'write -P 0xa1 0 1M' -c 'read -P 0xa1 0 1M' \
		-c 'write -f -P 0xb2 1M 64k' -c 'read -P 0xb2 1M 64k' \
		-c 'write -P 0xc3 4M 20M' -c 'read -P 0xc3 4M 20M' \
		-c 'write -z 8M 12M' -c 'read -P 0 8M 12M' -c 'read -P 0xc3 4M 4M' \
		-c 'write -z -u 20M 1M' -c 'read -P 0 20M 1M' \
		-c 'discard 4M 2M' -c 'flush' -c 'read -P 0xc3 6M 2M' \
		-c 'aio_write -P 0xd4 30M 512k' -c 'aio_write -P 0xd5 31M 512k' -c 'aio_flush' \
		-c 'read -P 0xd4 30M 512k' -c 'read -P 0xd5 31M 512k' "$unix_uri"
	! grep -qi 'fail\|error' "$work/out" || {
		cat "$work/out" >&2
		fail "qemu-io: an error"
	}
	# qemu does the read-modify-write itself, in its own memory, as our block size tells it to.
	run qemu-io -f raw -c 'write -P 0xe5 33554433 5' -c 'read -P 0xe5 33554433 5' "$tcp_uri"
	! grep -qi 'fail\|error' "$work/out" || fail "qemu-io: unaligned"
}

step_fio() {
	local uri
	for uri in "$unix_uri" "$tcp_uri"; do
		timeout --kill-after=5 60 fio --name=verify --ioengine=nbd --uri="$uri" \
			--rw=randwrite --bs=4k,4k \
			--bssplit=4k/60:64k/30:256k/10 --iodepth=32 --size=32M --fsync=64 \
			--verify=crc32c --verify_fatal=1 --do_verify=1 \
			--verify_state_save=0 --randseed=1 >"$work/out" 2>&1 ||
			fio_failed "$work/out"
	done
}

step_odd_requests() {
	run /usr/bin/python3 "$here/odd_requests.py" "$unix_uri" "$size" "$block"
	run /usr/bin/python3 "$here/odd_requests.py" "$tcp_uri" "$size" "$block"
}

# After all the above, it still ends as it should and leaves nothing behind.
step_stop() {
	local status=0
	kill -TERM "$server"
	for _ in $(seq 200); do
		kill -0 "$server" 2>/dev/null || break
		sleep 0.05
	done
	kill -0 "$server" 2>/dev/null && fail "the server does not stop"
	wait "$server" || status=$?
	server=
	[ "$status" -eq 0 ] || fail "the server ended with status $status"
	[ ! -e "$work/nbd.sock" ] || fail "the socket was left behind"
	[ ! -e "$work/nbd.sock.lock" ] || fail "the socket's lock was left behind"
}

cd "$work" # What clients leave in their directory goes with it.
server_start
for step in nbdinfo nbdcopy qemu_img qemu_io fio odd_requests stop; do
	"step_$step"
	passed=$((passed + 1))
	echo "ok $step (block size $block)"
done
echo "$passed passed, 0 failed"
