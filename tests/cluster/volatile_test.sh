#!/bin/bash
# volatile_test.sh - the lab's storage can lose what nobody flushed, and only that: without this no
# test of FLUSH or FUA could fail. One agent over the real target, no cluster.
. "$(dirname "$0")/lib.sh"

SOCKET=/run/ferry/nbd.sock

# client WORDS...: each word one step, see below; prints what a step prints.
client() {
	on n1 /usr/bin/python3 - "$@" <<-'PYTHON'
		import sys, nbd
		handle = nbd.NBD()
		handle.connect_uri("nbd+unix:///?socket=/run/ferry/nbd.sock")
		count = 64
		for step in sys.argv[1:]:
		    name, _, letter = step.partition("=")
		    data = letter.encode() * 4096
		    for block in range(count if name in ("write", "fua", "zero", "read") else 0):
		        at = block * 65536
		        if name == "write":
		            handle.pwrite(data, at)
		        elif name == "fua":
		            handle.pwrite(data, at, flags=nbd.CMD_FLAG_FUA)
		        elif name == "zero":
		            handle.zero(4096, at, flags=nbd.CMD_FLAG_NO_HOLE)
		        else:
		            found = bytes(handle.pread(4096, at))
		            print("".join(chr(found[i] or 48) for i in range(0, 4096, 512)))
		    if name == "flush":
		        handle.flush()
	PYTHON
}

agent_alone() {
	on n1 sh -c "setsid $FERRYD --standalone --lun iscsi://10.98.0.254/iqn.2026-11.ferry.lab:disk/1 \
		--nbd unix:$SOCKET --run-dir /run/ferry >/var/log/ferryd.log 2>&1 </dev/null &
		echo \$! >/run/ferryd.pid"
	wait_for 10 "the agent serves" on n1 sh -c "test -S $SOCKET"
	wait_for 10 "its lun answers" is n1 status '.pools[0].state == "serving"'
}

agent_ends() {
	agent_signal n1 KILL
	wait_for 10 "the agent is gone" agent_is_gone n1
	on n1 rm -f $SOCKET
}

# found LETTER: sectors with it, of 512.
found() {
	tr -cd "$1" <"$WORK/read" | wc -c
}

# after_power_cut STEP...: the steps, then a power cut; what is there then goes to $WORK/read.
after_power_cut() {
	agent_alone
	client "$@" || fail "the client's steps failed"
	agent_ends
	"$LAB" target power-cut 7 || fail "no power cut"
	agent_alone
	client read >"$WORK/read" || fail "cannot read"
	agent_ends
}

without_flush() {
	after_power_cut write=a flush write=b
	[ $(($(found a) + $(found b))) -eq 512 ] || fail "neither old nor new: $(cat "$WORK/read")"
	[ "$(found a)" -gt 100 ] && [ "$(found b)" -gt 100 ] ||
		fail "a power cut is to lose some and keep some: $(found a) old, $(found b) new"
	grep -q 'a.*b\|b.*a' "$WORK/read" || fail "no write is torn"
	note "of 512 sectors $(found a) lost; $("$LAB" target losses | tail -1)"
}

with_flush() {
	after_power_cut write=a flush write=c flush
	[ "$(found c)" -eq 512 ] || fail "flushed data is lost: $(cat "$WORK/read")"
}

with_fua() {
	after_power_cut write=a flush fua=d
	[ "$(found d)" -eq 512 ] || fail "FUA writes are lost: $(cat "$WORK/read")"
}

zeroes() {
	after_power_cut write=a flush zero
	[ "$(found 0)" -gt 100 ] && [ "$(found a)" -gt 100 ] ||
		fail "zeroes are to be lost like writes: $(found 0) zeroes, $(found a) old"
	after_power_cut write=a flush zero flush
	[ "$(found 0)" -eq 512 ] || fail "flushed zeroes are lost"
}

# The end of tgtd alone loses nothing.
without_power_cut() {
	agent_alone
	client write=e
	agent_ends
	"$LAB" target restart
	agent_alone
	client read >"$WORK/read"
	agent_ends
	[ "$(found e)" -eq 512 ] || fail "a restart of the target's process lost data"
}

waiting() {
	"$LAB" target losses | grep -q "waiting=$1\$"
}

stalled() {
	agent_alone
	"$LAB" target stall
	client write=f &
	JOBS+=($!)
	wait_for 5 "a request waits in the target" waiting 1
	"$LAB" target resume
	wait $! || fail "the write did not end well"
	waiting 0 || fail "somebody still waits"
	agent_ends
}

# The test of these tests: a target that only says that it flushed.
lying() {
	"$LAB" target lie
	after_power_cut write=a write=g flush
	[ "$(found g)" -lt 512 ] || fail "a lying target lost nothing"
}

begin --bare --backing volatile --size 64
scenario "without FLUSH" without_flush
scenario "with FLUSH" with_flush
scenario "with FUA" with_fua
scenario "zeroes" zeroes
scenario "a restart without a power cut" without_power_cut
scenario "a stall" stalled
scenario "a target that lies" lying
