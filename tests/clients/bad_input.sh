#!/bin/bash
# bad_input.sh - what a careless or hostile hand may give an agent that stands alone: options, luns,
# a second agent, garbage on its sockets, a lun that vanishes, kill -9. Each is a clear error, the
# exit code says which kind, and nobody else is disturbed. Exit 77: skipped, the reason is said.
. "$(dirname "$0")/lib.sh"
need losetup mkfs.ext4 nbdinfo qemu-io nbdcopy jq ps

S=(--standalone)

test_options() {
	local here="unix:$WORK/x.sock"
	lun ok.img 16
	refused 2 'unknown option.*--frobnicate' "${S[@]}" --frobnicate
	refused 2 'needs --lun' "${S[@]}"
	refused 2 'needs --nbd, --fuse or --ublk' "${S[@]}" --lun ok.img
	refused 2 'ublk needs --run-dir' "${S[@]}" --lun ok.img --ublk
	refused 2 'goes with --standalone' --lun ok.img
	refused 2 'no --config' "${S[@]}" --config x --lun ok.img --nbd "$here"
	refused 2 'not an option' "${S[@]}" --lun ok.img --nbd "$here" more
	refused 2 'block' "${S[@]}" --lun ok.img --block-size 1000 --nbd "$here"
	refused 2 ' --memory: must be from 8M to 16384M' "${S[@]}" --lun ok.img --memory 1K \
		--nbd "$here"
	refused 2 ' --memory: must be .*not lots' "${S[@]}" --lun ok.img --memory lots \
		--nbd "$here"
	refused 2 ' --path-timeout: must be' "${S[@]}" --lun ok.img --path-timeout -1s \
		--nbd "$here"
	refused 2 ' --cache: size must be' "${S[@]}" --lun ok.img --cache 1T --nbd "$here"
	refused 2 'timeout' "${S[@]}" --lun ok.img --hold-timeout 1s --path-timeout 5s --nbd "$here"
	refused 2 ' --name: ' "${S[@]}" --lun ok.img --name 'a b' --nbd "$here"
	refused 2 ' --log-level: ' "${S[@]}" --lun ok.img --log-level loud --nbd "$here"
	refused 2 'at most 4' "${S[@]}" --lun ok.img --nbd "$here" --nbd "$here" --nbd "$here" \
		--nbd "$here" --nbd "$here"
	refused 2 ' --nbd: listen must' "${S[@]}" --lun ok.img --nbd nowhere
	refused 2 ' --nbd: ' "${S[@]}" --lun ok.img --nbd tcp:127.0.0.1:99999
	refused 2 'line break' "${S[@]}" --lun ok.img --nbd "unix:$WORK/a
b"
	refused 2 'No such file' --config "$WORK/none.conf"
	printf '[agent]\nlog_level = loud\n' >"$WORK/bad.conf"
	refused 2 'bad.conf:2: ' --config "$WORK/bad.conf"
	refused 0 'Usage' --help
	refused 0 'ferryd [0-9]' --version
	[ ! -e "$WORK/x.sock" ] && [ ! -e "$WORK/x.sock.lock" ] || fail "a socket was left behind"
	ok "options and a configuration that are wrong: exit code 2, and which and why"
}

test_check() {
	local conf=$WORK/check.conf
	printf '[agent]\nkey_file = %s/key\n\n[lun a]\niscsi = %s/1\nchap_user = u\n' "$WORK" \
		iscsi://192.0.2.9/iqn.2026-01.org.example:d >"$conf"
	printf 'chap_password_file = %s/chap\n\n[pool p]\nluns = a\n[volume v]\nlun = a\n' \
		"$WORK" >>"$conf"
	refused 2 "key file '$WORK/key'.*ferry keygen" --check --config "$conf"
	"$FERRY" keygen "$WORK/key" || fail keygen
	refused 2 "check.conf:4: .lun a.: chap_password_file: $WORK/chap: No such file" --check \
		--config "$conf"
	echo secret >"$WORK/chap"
	chmod 644 "$WORK/chap"
	refused 2 'check.conf:4: .*others can read it' --check --config "$conf"
	chmod 600 "$WORK/chap"
	refused 0 'warning: .*check.conf: neither .nbd. nor .fuse.' --check --config "$conf"
	refused 0 'the configuration is right' --check --config "$conf"
	refused 2 ' --log-level: must be' --check --config "$conf" --log-level loud
	printf '[fuse]\n' >>"$conf"
	refused 0 '^the configuration is right' --check --config "$conf"
	! grep -q warning <<<"$SAID" || fail "a warning without a reason: $SAID"
	rm "$WORK/key" "$WORK/chap"
	ok "--check: the key, a password's file by line and section, a node that nobody can use"
}

test_luns() {
	local here="unix:$WORK/x.sock" loop
	refused 2 'No such file' "${S[@]}" --lun none.img --nbd "$here"
	: >empty.img
	refused 2 'empty' "${S[@]}" --lun empty.img --nbd "$here"
	head -c 100 /dev/zero >small.img
	refused 2 'no multiple of its block size' "${S[@]}" --lun small.img --nbd "$here"
	head -c $((1048576 + 512)) /dev/zero >odd.img
	refused 2 'no multiple of its block size' "${S[@]}" --lun odd.img \
		--block-size 4096 --nbd "$here"
	mkfifo pipe
	refused 1 'neither a block device nor a regular file' "${S[@]}" --lun pipe \
		--nbd "$here"
	refused 1 'neither a block device nor a regular file' "${S[@]}" --lun /dev/null \
		--nbd "$here"
	refused 1 'neither a block device nor a regular file' "${S[@]}" --lun . --nbd "$here"
	if [ -c /dev/loop-control ]; then
		lun fs.img 64
		mkfs.ext4 -q fs.img
		loop=$(losetup -f --show fs.img) || fail losetup
		LOOPS+=("$loop")
		mkdir -p mnt
		mount "$loop" mnt || fail mount
		MOUNTS+=("$WORK/mnt")
		echo alive >mnt/file
		refused 1 'in use' "${S[@]}" --lun "$loop" --nbd "$here"
		sync -f mnt/file && [ "$(cat mnt/file)" = alive ] || fail "the mount was disturbed"
		umount mnt
		MOUNTS=()
		refused 2 'block size' "${S[@]}" --lun "$loop" --block-size 4096 --nbd "$here"
		losetup -d "$loop"
		LOOPS=()
	fi
	[ ! -e x.sock ] || fail "a socket was left behind"
	ok "luns: missing, empty, of odd size, no lun at all, mounted, other block size: refused"
}

# The first agent serves on, whoever else comes.
test_second_agent() {
	local first loop
	agent first --lun ok.img --nbd "unix:$WORK/nbd.sock" --fuse "$WORK/volume"
	first=$AGENT
	qemu-io -f raw -c 'write -P 0x5a 0 1M' "nbd+unix:///?socket=$WORK/nbd.sock" >client.out ||
		fail "no I/O"
	ln -s ok.img other.img
	refused 1 'another program holds it, maybe another agent' "${S[@]}" --lun ok.img \
		--nbd "unix:$WORK/x.sock"
	refused 1 'another program holds it' "${S[@]}" --lun other.img --nbd "unix:$WORK/x.sock"
	lun second.img 16
	refused 1 'another server listens here' "${S[@]}" --lun second.img \
		--nbd "unix:$WORK/nbd.sock"
	refused 1 'is mounted already' "${S[@]}" --lun second.img --fuse "$WORK/volume"
	refused 1 'another agent serves this socket' "${S[@]}" --lun second.img \
		--nbd "unix:$WORK/x.sock" --run-dir "$WORK/first.run"
	refused 1 'another agent serves this socket' "${S[@]}" --lun small.img \
		--nbd "unix:$WORK/x.sock" --run-dir "$WORK/first.run" # Before the lun is touched.
	refused 1 'not a socket' "${S[@]}" --lun second.img --nbd "unix:$WORK/ok.img"
	refused 1 'does not exist' "${S[@]}" --lun second.img --nbd "unix:$WORK/none/x.sock"
	refused 1 'No such file' "${S[@]}" --lun second.img --nbd "unix:$WORK/x.sock" \
		--run-dir "$WORK/none/run"
	if [ -c /dev/loop-control ]; then # A device by its name, and by another of its names.
		loop=$(losetup -f --show second.img) || fail losetup
		LOOPS+=("$loop")
		agent_begin loop --lun "$loop" --nbd "unix:$WORK/loop.sock"
		until_true 15 has '.volumes[0].serving' volumes ||
			fail "the loop device is not served"
		refused 1 'in use' "${S[@]}" --lun "$loop" --nbd "unix:$WORK/x.sock"
		mknod "$WORK/alias" b 7 "${loop#/dev/loop}" || fail mknod
		refused 1 'in use' "${S[@]}" --lun alias --nbd "unix:$WORK/x.sock"
		agent_end
		losetup -d "$loop"
		LOOPS=()
	fi
	[ ! -e x.sock ] || fail "a socket was left behind"
	AGENT=$first RUN=$WORK/first.run
	has '.pools[0] | .state == "serving" and .failures == 0' status || fail "status: $SAID"
	qemu-io -r -f raw -c 'read -P 0x5a 0 1M' "nbd+unix:///?socket=$WORK/nbd.sock" >client.out &&
		! grep -qi fail client.out || fail "the first agent was disturbed"
	ok "a second agent on the same lun, by any name, socket, mount or run directory: refused"
}

# Bytes that are no gRPC and no NBD, by many connections, while a client works.
test_garbage() {
	local port i
	agent_end
	port=$(free_port)
	agent first --lun ok.img --nbd "unix:$WORK/nbd.sock" --nbd "tcp:127.0.0.1:$port"
	verify "nbd+unix:///?socket=$WORK/nbd.sock" 8m --time_based --runtime=4 &
	HELPERS+=($!)
	for i in $(seq 20); do
		python3 - "$RUN/ferry.sock" "$WORK/nbd.sock" "$port" "$i" <<-'PYTHON' ||
			import random, socket, sys
			random.seed(int(sys.argv[4]))
			def hurl(family, address, prefix=b""):
			    s = socket.socket(family)
			    s.settimeout(0.2)
			    s.connect(address)
			    try:
			        s.sendall(prefix + random.randbytes(random.randrange(1, 70000)))
			        s.recv(65536)
			    except OSError:
			        pass
			    s.close()
			nbd = b"\0\0\0\3IHAVEOPT"
			http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
			for prefix in b"", http2:
			    hurl(socket.AF_UNIX, sys.argv[1], prefix)
			for prefix in b"", nbd, b"\0\0\0\1", nbd + b"\0\0\0\1\xff\xff\xff\xff":
			    hurl(socket.AF_UNIX, sys.argv[2], prefix)
			    hurl(socket.AF_INET, ("127.0.0.1", int(sys.argv[3])), prefix)
		PYTHON
			fail "throwing garbage"
	done
	wait "${HELPERS[-1]}" || fail "a client was disturbed"
	has '.pools[0] | .state == "serving" and .failures == 0' status || fail "status: $SAID"
	nbdinfo "nbd://127.0.0.1:$port" >client.out || fail "the port does not answer any more"
	agent_end
	ok "garbage on the control socket, the NBD socket and port: nobody else is disturbed"
}

# A file that shrinks, a device that goes away: an error to those who touch it, said in status.
test_vanishing_file() {
	lun gone.img 16
	agent gone --lun gone.img --nbd "unix:$WORK/nbd.sock" --hold-timeout 2s --path-timeout 1s
	URI="nbd+unix:///?socket=$WORK/nbd.sock"
	qemu-io -f raw -c 'write -P 7 0 16M' -c flush "$URI" >client.out || fail "no I/O"
	truncate -s 4M gone.img
	timeout 30 qemu-io -f raw -c 'read 8M 4k' "$URI" >client.out 2>&1 &&
		fail "read of what is gone"
	grep -qi 'input/output error' client.out || fail "not a clean error: $(cat client.out)"
	has '.pools[0].failures > 0' status || fail "status: $SAID"
	has '.paths[0] | .health != "healthy" and .reason != ""' paths || fail "paths: $SAID"
	truncate -s 16M gone.img
	until_true 20 has '.paths[0] | .up and .health == "healthy"' paths || fail "paths: $SAID"
	timeout 30 qemu-io -f raw -c 'read -P 7 0 4M' -c 'read -P 0 8M 4M' "$URI" \
		>client.out 2>&1 &&
		! grep -qi fail client.out || fail "it does not come back: $(cat client.out)"
	agent_end
	ok "a file that shrinks under the agent: a clean error, said in status; it recovers"
}

# A device whose own storage answers with errors.
test_failing_device() {
	local loop
	[ -c /dev/loop-control ] || return 0
	lun behind.img 16
	agent behind --lun behind.img --fuse "$WORK/behind" --hold-timeout 2s --path-timeout 1s
	attach volume
	loop=$DEVICE
	agent_begin front --lun "$loop" --nbd "unix:$WORK/nbd.sock" --hold-timeout 2s \
		--path-timeout 1s
	until_true 15 has '.volumes[0].serving' volumes || fail "not served: $SAID"
	qemu-io -f raw -c 'write -P 9 0 1M' "$URI" >client.out || fail "no I/O"
	kill -KILL "${AGENTS[0]}"
	wait "${AGENTS[0]}" 2>/dev/null
	timeout 30 qemu-io -f raw -c 'read 8M 4k' "$URI" >client.out 2>&1 &&
		fail "read of what is gone"
	grep -qi 'input/output error' client.out || fail "not a clean error: $(cat client.out)"
	timeout 30 qemu-io -f raw -c 'write 8M 4k' "$URI" >client.out 2>&1 && fail "write of same"
	has '.pools[0].failures > 0' status || fail "status: $SAID"
	has '.paths[0] | .health != "healthy" and .reason != ""' paths || fail "paths: $SAID"
	agent_end 25
	losetup -d "$loop"
	LOOPS=()
	ok "a device that only gives errors: clean errors, status and paths say it, it stops"
}

test_killed() {
	lun k.img 16
	agent k --lun k.img --nbd "unix:$WORK/nbd.sock" --fuse "$WORK/volume"
	qemu-io -f raw -c 'write -P 3 0 16M' -c flush "$URI" >client.out || fail "no I/O"
	agent_kill
	[ -S nbd.sock ] && [ -S k.run/ferry.sock ] || fail "what was to be stale is gone"
	fails_with 'not connected' stat "$WORK/volume"
	fails_with 'no agent is running' ferry status
	agent k --lun k.img --nbd "unix:$WORK/nbd.sock" --fuse "$WORK/volume"
	grep -q 'removed a mount that an agent had left' k.log || fail "the log does not say it"
	qemu-io -r -f raw -c 'read -P 3 0 16M' "$URI" >client.out && ! grep -qi fail client.out ||
		fail "what was acknowledged is gone"
	[ "$(stat -c %s "$WORK/volume")" = 16777216 ] || fail "the file: $(stat "$WORK/volume")"
	agent_end
	[ ! -e nbd.sock ] && [ ! -e nbd.sock.lock ] || fail "left behind: $(ls "$WORK")"
	! mountpoint -q "$WORK/volume" || fail "still mounted"
	ok "kill -9, then started again: stale sockets and the stale mount are taken over"
}

enter -- "$@"
begin
test_options
test_check
test_luns
test_second_agent
test_garbage
test_vanishing_file
test_failing_device
test_killed
finish
