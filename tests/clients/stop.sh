#!/bin/bash
# stop.sh - SIGTERM in the middle of things: ends in bounded time, with 0, and leaves nothing; what
# was acknowledged and flushed is there. (With the storage gone: iscsi.sh.) Exit 77: skipped.
. "$(dirname "$0")/lib.sh"
need losetup mkfs.ext4 e2fsck fio qemu-io nbdinfo jq ps

STOP_S_MAX=30

stopped_clean() {
	[ ! -e "$WORK/nbd.sock" ] && [ ! -e "$WORK/nbd.sock.lock" ] && [ ! -e "$WORK/volume" ] ||
		fail "left behind: $(ls "$WORK")"
	! grep -q 'has not ended\|does not stop' "$WORK"/*.log || fail "it did not end in order"
}

test_idle() {
	local begin=$SECONDS signal
	for signal in TERM INT; do
		agent idle --lun lun.img --nbd "unix:$WORK/nbd.sock" --fuse "$WORK/volume"
		nbdinfo "$URI" >client.out || fail "no volume"
		kill -$signal "$AGENT"
		agent_end 5
	done
	stopped_clean
	ok "idle: SIGTERM, SIGINT, and both; $((SECONDS - begin)) s for two"
}

test_under_load() {
	local begin fio status=0
	agent load --lun lun.img --nbd "unix:$WORK/nbd.sock" --nbd "tcp:127.0.0.1:$(free_port)"
	timeout 60 fio --name=load --ioengine=nbd --uri="$URI" --rw=randrw --bs=4k --size=64m \
		--iodepth=32 --time_based --runtime=50 >"$WORK/fio.log" 2>&1 &
	fio=$!
	HELPERS+=("$fio")
	until_true 10 has '.pools[0].ios > 1000' status || fail "no load: $SAID"
	begin=$SECONDS
	agent_end $STOP_S_MAX
	until_true 10 is_gone "$fio" || fail "the client still waits"
	wait "$fio" || status=$?
	[ $status != 0 ] || fail "the client was not told"
	stopped_clean
	ok "under load by NBD: ended after $((SECONDS - begin)) s, the client is told"
}

# A filesystem that writes when the agent goes: its users get errors, nothing hangs, and all that
# was synced is there afterwards.
test_busy_filesystem() {
	local begin writer dd
	[ -c /dev/fuse ] && [ -c /dev/loop-control ] || return 0
	agent busy --lun lun.img --nbd "unix:$WORK/nbd.sock" --fuse "$WORK/volume"
	attach volume
	mkfs.ext4 -q -F "$DEVICE" && mkdir -p fs && mount "$DEVICE" fs || fail mount
	MOUNTS+=("$WORK/fs")
	head -c 8M /dev/urandom >fs/synced && sync -f fs/synced && cp fs/synced synced || fail write
	(while dd if=/dev/zero of=fs/more bs=1M count=16 conv=fsync status=none; do :; done) \
		>/dev/null 2>&1 &
	writer=$!
	HELPERS+=("$writer")
	until_true 10 [ -s fs/more ] || fail "no load"
	begin=$SECONDS
	agent_end $STOP_S_MAX
	until_true 30 is_gone "$writer" || fail "the writer hangs"
	umount fs 2>/dev/null || umount -l fs || fail "umount"
	MOUNTS=()
	until_true 10 losetup -d "$DEVICE"
	[ ! -e "$WORK/volume" ] || fail "the volume's file is still there"
	ok "under a mounted ext4 that writes: ended after $((SECONDS - begin)) s, nothing hangs"
	agent again --lun lun.img --nbd "unix:$WORK/nbd.sock" --fuse "$WORK/volume"
	attach volume
	mount "$DEVICE" fs || fail "mount again"
	MOUNTS+=("$WORK/fs")
	cmp fs/synced synced || fail "what was synced is gone"
	umount fs
	MOUNTS=()
	e2fsck -fn "$DEVICE" >fsck.out 2>&1 || fail "damaged: $(cat fsck.out)"
	detach volume
	agent_end
	ok "the next agent: the journal replays, what was synced is there, fsck is content"
}

# Many clients that say nothing do not hold it up.
test_silent_clients() {
	local begin helper
	agent silent --lun lun.img --nbd "unix:$WORK/nbd.sock"
	python3 - "$WORK/nbd.sock" <<-'PYTHON' >client.out &
		import socket, sys, time
		held = []
		for i in range(40):
		    s = socket.socket(socket.AF_UNIX)
		    s.connect(sys.argv[1])
		    held.append(s)
		print("ready", flush=True)
		for s in held:
		    while s.recv(4096):
		        pass
	PYTHON
	helper=$!
	HELPERS+=("$helper")
	until_true 10 grep -q ready client.out || fail "not connected"
	begin=$SECONDS
	agent_end $STOP_S_MAX
	until_true 10 is_gone "$helper" || fail "a client is still connected"
	stopped_clean
	ok "with 40 silent clients: ended after $((SECONDS - begin)) s"
}

test_watcher() {
	local watcher status=0
	agent watched --lun lun.img --nbd "unix:$WORK/nbd.sock"
	"$FERRY" -s "$RUN/ferry.sock" events --follow >client.out 2>&1 &
	watcher=$!
	HELPERS+=("$watcher")
	until_true 10 has '.pools | length == 1' status || fail "no status"
	agent_end
	until_true 10 is_gone "$watcher" || fail "who follows events still does"
	wait "$watcher" || status=$?
	[ $status = 3 ] || fail "who follows events ended with $status"
	ok "with somebody who follows events: told, exit code 3"
}

enter -- "$@"
begin
URI="nbd+unix:///?socket=$WORK/nbd.sock"
lun lun.img 128
test_idle
test_under_load
test_busy_filesystem
test_silent_clients
test_watcher
finish
