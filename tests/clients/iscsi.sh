#!/bin/bash
# iscsi.sh - an agent whose lun is on a real iSCSI target: I/O, its path reset, cut for less and
# for longer than I/O is held, the target gone and back, and what status, paths and events say.
# It runs in a network namespace of its own. Exit 77: skipped, the reason is said.
. "$(dirname "$0")/lib.sh"
need tgtd tgtadm nft ip fio nbdinfo qemu-io jq ps

TARGET=iqn.2026-11.io.ferry.test:lun
URL=iscsi://127.0.0.1:3260/$TARGET/1
TGTD=

target_answers() {
	tgtadm --op show --mode sys >/dev/null 2>&1
}

# target BLOCK_BYTES
target() {
	export TGT_IPC_SOCKET=$WORK/tgt.ipc
	tgtd -f -C 0 --iscsi portal=127.0.0.1:3260 >"$WORK/tgtd.log" 2>&1 &
	TGTD=$!
	HELPERS+=("$TGTD")
	until_true 20 target_answers || fail "tgtd does not start"
	tgtadm --lld iscsi --op new --mode target --tid 1 -T "$TARGET" || fail tgtadm
	tgtadm --lld iscsi --op new --mode logicalunit --tid 1 --lun 1 -b "$WORK/disk" \
		--bstype rdwr --blocksize "$1" || fail tgtadm
	tgtadm --lld iscsi --op bind --mode target --tid 1 -I ALL || fail tgtadm
}

target_kill() {
	kill -KILL "$TGTD"
	wait "$TGTD" 2>/dev/null
}

# cut HOW: drop (a black hole, both ways) or reset; heal: no more of it.
cut() {
	nft add table inet cut
	nft add chain inet cut in '{ type filter hook input priority 0 ; }'
	if [ "$1" = drop ]; then
		nft add rule inet cut in tcp dport 3260 drop
		nft add rule inet cut in tcp sport 3260 drop
	else
		nft add rule inet cut in tcp dport 3260 reject with tcp reset
	fi
}

heal() {
	nft delete table inet cut
}

# load SECONDS: verified writes at a moderate rate, for that long; in the background, $LOAD.
load() {
	timeout -k 5 100 fio --name=load --ioengine=nbd --uri="$URI" --rw=randwrite --bs=4k \
		--size=16m --iodepth=8 --time_based --runtime="$1" --rate_iops=2000 \
		--verify=crc32c --verify_fatal=1 --verify_state_save=0 --output-format=json \
		--output="$WORK/load.json" >"$WORK/load.log" 2>&1 &
	LOAD=$!
	HELPERS+=("$LOAD")
	until_true 10 has '.pools[0].ios > 100' status || fail "the load does not begin"
}

load_ends_well() {
	local status=0
	until_true 60 is_gone "$LOAD" || fail "the load does not end"
	wait "$LOAD" || status=$?
	[ $status = 0 ] || fio_failed "$WORK/load.log"
	[ "$(sed -n '/^{/,$p' "$WORK/load.json" | jq '.jobs[0].error')" = 0 ] || fail "I/O failed"
}

event() {
	ferry events --json | jq -es "map(select($1)) | length > 0" >/dev/null
}

path_is() {
	has ".paths[0] | $1" paths
}

iscsi_agent() {
	agent "$1" --lun "$URL" --nbd "unix:$WORK/nbd.sock" --path-timeout 1s "${@:2}"
	URI="nbd+unix:///?socket=$WORK/nbd.sock"
}

test_io() {
	iscsi_agent io
	has '.luns[0] | .open and .size_bytes == 67108864 and .block_bytes == 512' luns ||
		fail "the lun: $SAID"
	path_is '.transport == "iscsi" and .up and .health == "healthy"' || fail "paths: $SAID"
	verify "$URI" 32m
	head -c 64M /dev/urandom >"$WORK/in"
	nbdcopy --flush "$WORK/in" "$URI" || fail "nbdcopy"
	cmp "$WORK/in" "$WORK/disk" || violated "nbdcopy"
	ok "fio --verify and nbdcopy to a lun on a real target"
}

# A reset loses what was in flight, so nothing is known of it: it goes on once that is settled.
test_reset() {
	load 6
	cut reset
	until_true 5 path_is '.up | not' || fail "the reset goes unnoticed: $SAID"
	path_is '.reason != ""' || fail "no reason: $SAID"
	heal
	until_true 20 path_is '.up' || fail "no new session: $SAID"
	load_ends_well
	until_true 10 path_is '.health == "healthy"' || fail "not healthy again: $SAID"
	event '.kind == "path-state"' || fail "no event: $(ferry events)"
	has '.pools[0] | .failures == 0 and .state == "serving"' status || fail "status: $SAID"
	ok "path reset under load: noticed, a new session, no error"
}

test_black_hole() {
	load 8
	cut drop
	until_true 10 path_is '.health != "healthy"' || fail "the hole goes unnoticed: $SAID"
	has '.pools[0] | (.state == "holding" or .ghosts_alive > 0) and .health_reason != ""' \
		status || fail "status: $SAID"
	heal
	load_ends_well
	until_true 20 path_is '.up and .health == "healthy"' || fail "not healthy again: $SAID"
	has '.pools[0] | .failures == 0 and .state == "serving"' status || fail "status: $SAID"
	agent_end
	ok "black hole shorter than the hold timeout: held, then it goes on, no error"
}

test_long_black_hole() {
	local begin status=0
	iscsi_agent long --hold-timeout 3s
	cut drop
	begin=$SECONDS
	timeout 30 qemu-io -f raw -c 'read 0 4k' "$URI" >"$WORK/client.log" 2>&1 || status=$?
	[ $status != 0 ] && [ $status != 124 ] || fail "a read by no path: status $status"
	grep -qi 'input/output error' "$WORK/client.log" || fail "not a clean error"
	[ $((SECONDS - begin)) -le 12 ] || fail "it took $((SECONDS - begin)) s"
	has '.pools[0].failures > 0' status || fail "status counts no failure: $SAID"
	timeout 30 qemu-io -f raw -c 'write -P 7 4k 4k' "$URI" >"$WORK/client.log" 2>&1 &&
		fail "a write by no path"
	heal
	until_true 20 path_is '.up' || fail "no new session: $SAID"
	until_true 20 path_is '.health == "healthy"' || fail "not healthy again: $SAID"
	timeout 60 qemu-io -f raw -c 'write -P 8 4k 4k' -c 'read -P 8 4k 4k' "$URI" \
		>"$WORK/client.log" 2>&1 || fail "no I/O after the hole"
	! grep -qi 'error\|fail' "$WORK/client.log" || fail "an error after the hole"
	ok "black hole longer than the hold timeout: a clean error, and all is well afterwards"
}

test_target_restart() {
	target_kill
	until_true 10 path_is '.up | not' || fail "unnoticed: $SAID"
	target 512
	until_true 20 path_is '.up' || fail "no new session: $SAID"
	timeout 60 qemu-io -f raw -c 'read -P 8 4k 4k' "$URI" >"$WORK/client.log" 2>&1 ||
		fail "no I/O after the target's restart"
	agent_end
	ok "target killed and started again: a new session, I/O goes on"
}

# disk_has OCTAL AT: 4 KiB of that byte, from there on, the first being 1.
disk_has() {
	cmp -s <(head -c 4096 /dev/zero | tr '\0' "\\$1") <(tail -c "+$2" "$WORK/disk" | head -c 4096)
}

# What was acknowledged and not flushed goes with the target's cache, here by another disk behind it:
# it is written anew before anything is read or flushed.
test_target_loses_its_cache() {
	iscsi_agent lost
	timeout 60 qemu-io -f raw -c 'write -P 1 0 64k' -c flush "$URI" >"$WORK/client.log" 2>&1 ||
		fail "no I/O"
	cp "$WORK/disk" "$WORK/flushed"
	# It waits for more, and is killed: at its end it would flush.
	mkfifo "$WORK/commands"
	exec 9<>"$WORK/commands"
	stdbuf -oL qemu-io -t writeback -f raw "$URI" <&9 >"$WORK/writer.log" 2>&1 &
	local writer=$!
	HELPERS+=("$writer")
	echo 'write -P 2 16k 16k' >&9
	until_true 20 grep -q 'wrote 16384' "$WORK/writer.log" ||
		fail "no write: $(cat "$WORK/writer.log")"
	echo 'write -P 3 24k 4k' >&9
	until_true 20 grep -q 'wrote 4096' "$WORK/writer.log" ||
		fail "no write: $(cat "$WORK/writer.log")"
	target_kill
	cp "$WORK/flushed" "$WORK/disk"
	target 512
	until_true 20 path_is '.up' || fail "no new session: $SAID"
	kill -KILL "$writer"
	wait "$writer" 2>/dev/null
	exec 9>&-
	timeout 60 qemu-io -f raw -c 'read -P 2 16k 8k' -c 'read -P 3 24k 4k' -c 'read -P 1 0 16k' \
		-c flush "$URI" >"$WORK/client.log" 2>&1 || fail "I/O: $(cat "$WORK/client.log")"
	! grep -qi 'error\|fail' "$WORK/client.log" || fail "lost: $(cat "$WORK/client.log")"
	agent_end
	disk_has 3 24577 || fail "it is not on the disk"
	ok "target restarted, its cache lost: what was not flushed is written anew"
}

# No answer is no reason to end: the agent waits for its lun, and says so.
test_late_target() {
	target_kill
	agent_begin late --lun "$URL" --nbd "unix:$WORK/nbd.sock" --fuse "$WORK/volume"
	until_true 10 path_is '.reason != "" and (.up | not)' || fail "paths: $SAID"
	has '.volumes[0].serving | not' volumes || fail "it serves nothing: $SAID"
	fails_with 'not answered' ferry attach volume
	fails_with 'no such' nbdinfo "$URI"
	target 512
	until_true 20 has '.volumes[0].serving' volumes || fail "it does not serve: $SAID"
	verify "$URI" 4m
	agent_end
	ok "started before its target: says what it waits for, serves when it comes"
}

test_wrong_lun() {
	refused 2 'iscsi' --standalone --lun iscsi://nowhere --nbd "unix:$WORK/x.sock"
	agent_begin wrong --lun "${URL%/1}/7" --nbd "unix:$WORK/nbd.sock"
	until_true 10 path_is '(.reason | length) > 20' || fail "paths: $SAID"
	has '.volumes[0].serving | not' volumes || fail "it serves: $SAID"
	agent_end
	agent_begin size --lun "$URL" --block-size 4096 --nbd "unix:$WORK/nbd.sock"
	until_true 10 path_is '.reason | test("block")' || fail "paths: $SAID"
	has '.volumes[0].serving | not' volumes || fail "it serves: $SAID"
	agent_end
	ok "no such lun at the target, another block size: not served, the reason is in paths"
}

# Ends in bounded time with the storage gone and I/O waiting for it.
test_stop_in_black_hole() {
	local begin
	iscsi_agent hole
	load 60
	cut drop
	until_true 10 path_is '.health != "healthy"' || fail "unnoticed: $SAID"
	begin=$SECONDS
	agent_end 30
	until_true 10 is_gone "$LOAD" || fail "its client still waits"
	heal
	[ ! -e "$WORK/nbd.sock" ] || fail "its socket is still there"
	ok "SIGTERM in a black hole with I/O waiting: ended after $((SECONDS - begin)) s"
}

enter --net -- "$@"
ip link set lo up
begin
truncate -s 64M "$WORK/disk"
target 512
test_io
test_reset
test_black_hole
test_long_black_hole
test_target_restart
test_target_loses_its_cache
test_late_target
test_wrong_lun
test_stop_in_black_hole
finish
