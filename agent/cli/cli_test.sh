#!/bin/bash
# cli_test.sh FERRY FAKE_AGENT: every command of the real ferry against the real server.
set -u
ferry=$1
fake=$2
dir=$(mktemp -d /tmp/ferry-cli-XXXXXX)
socket=$dir/ferry.sock
agent=
follower=
passed=0

finish() {
	local pid
	for pid in $agent $follower; do
		kill -KILL "$pid" 2>/dev/null
	done
	rm -rf "$dir"
}
trap finish EXIT

fail() {
	echo "FAILED: $*" >&2
	echo "--- out"; cat "$dir/out" 2>/dev/null
	echo "--- err"; cat "$dir/err" 2>/dev/null
	exit 1
} >&2

# run CODE ARGUMENT...: ferry must exit with CODE.
run() {
	local want=$1 code
	shift
	timeout -k 5 30 "$ferry" --socket "$socket" "$@" >"$dir/out" 2>"$dir/err"
	code=$?
	[ "$code" = "$want" ] || fail "ferry $*: exit $code, not $want"
	passed=$((passed + 1))
}
out() { grep -Eq -- "$1" "$dir/out" || fail "no '$1' in the answer"; }
out_not() { ! grep -Eq -- "$1" "$dir/out" "$dir/err" || fail "'$1' in what it says"; }
err() { grep -Eq -- "$1" "$dir/err" || fail "no '$1' in the error"; }
json() { jq -e "$1" "$dir/out" >"$dir/jq" 2>&1 || fail "not so: $1"; }

# until_true SECONDS COMMAND...
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "never came true: $*"
		sleep 0.02
	done
}

start_agent() {
	rm -f "$dir/agent.out" # Else the last agent's word could be taken for this one's.
	"$fake" "$socket" >"$dir/agent.out" 2>"$dir/agent.err" &
	agent=$!
	until_true 10 grep -sq ready "$dir/agent.out"
}

# No agent, and bad usage.
run 3 status; err 'no agent is running'
run 2; err 'usage: ferry'
run 0 --help; out 'exit codes'
run 0 move --help; out 'POOL NODE'
run 0 keygen "$dir/authkey"
[ "$(stat -c '%a %s' "$dir/authkey")" = "600 128" ] || fail "the key file is $(stat -c '%a %s' "$dir/authkey")"
run 1 keygen "$dir/authkey"; err 'authkey'
run 0 --version; out '^ferry [0-9]'
run 2 nonsense; err 'no such command: nonsense'
run 2 attach; err 'attach VOLUME'
run 2 status too many
run 2 status --follow
run 2 events --from x
run 2 --timeout 0 status
run 2 --no-such-option status

start_agent
[ "$(stat -c %a "$socket")" = 600 ] || fail "the socket's mode is $(stat -c %a "$socket")"

# A second server must not take the path over.
"$fake" "$socket" >"$dir/out" 2>"$dir/err" && fail "two servers on one socket"
err 'another agent serves this socket'

run 0 status; out 'node 2 \(n2\), incarnation 5, ferry 9.9.9, up 1 h 02 min'
out 'cluster lab: quorate, 3 of 3 agents: 1 2 3'; out 'memory locked, NOT known'
out '^POOL +STATE +OWNER'; out '^pg +SERVING +2 +18446744073709551615 +FORWARDING +1000 +42'
out '0/3 +1.5 MiB, 75% hits +path: session lost \?\? 60 times$'
run 0 status --json; json '.node == 2 and .quorate and .members == [1,2,3] and .io_flusher == false'
json '.pools[0] | .state == "serving" and .health == "forwarding" and .detours == 42'
json '.pools[0].lineage == "00010203-0405-0607-0809-0a0b0c0d0e0f"'
json '.pools[0].cache.hits == 3'
grep -q '"epoch": *18446744073709551615' "$dir/out" || fail "an epoch lost its precision"

run 0 volumes; out '^vol0 +pg +1 MiB +4096 +SERVING +/dev/loop7'; out 'another node owns it'
out '^vol1 +pg +2 MiB +4096 +HOLDING'; out '^vol2 +pg +4 MiB +4096 +STANDBY +- +- +6'
run 0 volumes --json; json '.volumes | length == 3 and .[2].size_bytes == 4194304'
run 0 paths; out '^pg +local +1 +iscsi .* CONVICTED'; [ "$(wc -l <"$dir/out")" = 257 ] || fail rows
run 0 --json paths; json '.paths | length == 256 and .[255].kind == "peer" and .[0].up'
json '.paths[0].reason | length == 191'
run 0 peers; out '1 +n1 +yes +CONNECTING +tcp \(no RDMA device\) +10.0.0.1 +1.2 ms +PROBATION'
out '3 +n3 +NO +DOWN +rdma +'; out 'connection refused'
run 0 peers -j; json '.peers[0].link == "connecting" and .peers[0].not_rdma == "no RDMA device"'
run 0 luns; out 'no luns'
run 0 luns -j; json '.luns == []'
run 0 version; out '^ferry [0-9]'; out '^agent 9.9.9, wire version 1, API ferry.v1'

# Changes.
run 0 attach vol0; [ "$(cat "$dir/out")" = /dev/loop7 ] || fail 'not just the device'
err 'by ublk \(no\?better\)'
run 0 attach late -j; json '.device == "/dev/loop7" and .front_end == "ublk" and (.reason | length) > 0'
run 1 attach nbd; err 'such.sock: No such file.*; the agent shows no files.*NBD clients use nbd.unix:///nbd'
run 0 detach vol0; [ -s "$dir/out" ] && fail 'detach says something'
run 0 acquire pg; out 'epoch 8'
run 0 move pg n3; out '^moved, epoch 9$'
run 0 move pg n2; out '^it is there already, epoch 9$'
run 0 move pg n3 --json; json '.epoch == 9 and (.was_there | not)'
agent_heard() { grep -q "$1" "$dir/agent.out"; }
agent_heard '^acquire pg$' || fail 'an acquire that takes nothing'
run 0 acquire pg --take; agent_heard '^acquire pg take$' || fail 'taking was not said'
run 0 move pg n3 --force; agent_heard '^move pg n3 force$' || fail 'forcing was not said'
agent_heard '^move pg n3$' || fail 'a move that forces nothing'
run 1 release pg --force; run 2 release pg --take; run 2 move pg n3 --take; run 2 acquire pg --yes
run 4 attach missing; err 'attach: there is no such thing'
run 5 acquire theirs; err 'node 1 owns it'
run 1 detach broken; err 'Input/output error'
run 1 release pg; err 'cannot do that'
run 2 attach ''; err 'a name is empty'
run 2 attach "$(printf 'x%.0s' {1..64})"; err 'longer than 63'
run 2 attach "$(printf 'a\377b')"; err 'UTF-8'
run 2 attach "$(printf 'a\nb')"
run 0 attach "$(printf '\303\244%.0s' {1..31})"

# Registrations: as they are; what would be lost is named, and asked for.
# answer CODE TEXT ARGUMENT...: ferry at a terminal, where TEXT is typed.
answer() {
	local want=$1 code
	printf '%s\n' "$2" >"$dir/typed"
	shift 2
	SHELL=/bin/sh timeout -k 5 30 script -qec "'$ferry' --socket '$socket' $*" /dev/null \
		<"$dir/typed" >"$dir/out" 2>"$dir/err"
	code=$?
	tr -d '\r' <"$dir/out" >"$dir/err"
	[ "$code" = "$want" ] || fail "ferry $*: exit $code, not $want"
	passed=$((passed + 1))
}

run 5 clear pg </dev/null; err 'no terminal'
run 0 clear pg --yes; agent_heard '^clear pg$' || fail 'a clearing that forces nothing'
run 0 clear pg --yes --force; agent_heard '^clear pg force$' || fail 'forcing was not said'
run 5 clear theirs --yes; run 2 clear pg --take; run 2 clear
answer 0 pg clear pg; err 'may be lost'; answer 5 yes clear pg

run 0 keys; out '^pg +0xfe00000200000005 +2 +n2 +5 +OWN +yes +-'
out '^pg +0xfe00000900000001 x2 +9 +- +1 +ABSENT +- +STALE'
[ "$(grep -c 0xfe00000900000001 "$dir/out")" = 1 ] || fail 'one key, two rows'
out '^pg +0x0000000000000abc +- +- +- +FOREIGN +yes +-'; out '^pool dark: cannot be read: this'
run 0 keys; out '^pool bare: no registrations$'
run 0 keys -j; json '.luns[0].keys | length == 6 and .[2].state == "older" and .[2].stale'
json '.luns[1].readable == false'
run 0 keys naa.5000 -j; json '.luns | length == 1'
run 0 keys disk1 -j; json '.luns | length == 1 and .[0].name == "disk1"'
run 4 keys nothing; err 'no such pool or lun'
run 2 keys --clean; err 'wants a POOL'
run 2 keys --foreign; err 'for --clean'
run 2 keys --yes; err '--yes is for --clean'; run 2 keys pg --yes
run 0 keys dark; out '^pool dark: cannot be read: this'; out_not 'no registrations'
run 0 keys bare; [ "$(cat "$dir/out")" = 'pool bare: no registrations' ] || fail 'of none it says more'
run 2 status --yes; run 2 acquire pg --force; run 2 keys --pool pg; run 2 keys a b
run 1 keys --clean dark --yes; err 'path does not work'
run 4 keys --clean nothing --yes
run 5 keys --clean pg </dev/null; err 'no terminal'; err '0xfe00000900000001 x2 +node 9'
yes yes | run 5 keys --clean pg; err 'no terminal'
answer 5 no keys --clean pg; err 'nothing was done'
run 0 keys -j; json '.luns[0].keys | length == 6'
answer 0 yes keys --clean pg
err 'node 9 \(not in corosync.s node list\), incarnation 1: no agent of that node'
err 'node 1 \(n1\), incarnation 8: an earlier agent'; err 'foreign registrations stay'
run 0 keys pg -j; json '.luns[0].keys | map(.state) == ["own", "member", "foreign"]'
answer 5 yes keys --clean --foreign pg; err 'NOT Ferry'; err 'abc; it holds the reservation'
answer 0 pg keys --clean --foreign pg
run 0 keys --clean --foreign pg --yes; out 'MEMBER'; err 'nothing to remove: no .* of pg is stale or foreign'
run 0 keys --clean pg --yes; out 'MEMBER'; err 'nothing to remove: no registration of pg is stale$'
run 0 keys --clean bare </dev/null; err 'nothing to remove'
run 0 keys pg -j; json '.luns[0].keys | map(.state) == ["own", "member"]'

# Passing nodes over.
run 2 own pg; err 'wants --force'
run 5 own pg --force </dev/null; err 'no terminal'; err 'Node n3 has not answered. If it still runs'
run 4 own missing --force </dev/null; err 'no such pool on this node: missing'
answer 5 yes own pg --force
err 'Node n3 has not answered. If it still runs, or .* its own, data will be corrupted'
err 'powered off, and that the storage has ended'
agent_heard forced && fail 'it was forced without the answer'
answer 0 pg own pg --force; err 'acquired, epoch 10'
agent_heard '^forced pg without 3$' || fail 'who is passed over was not said'
run 0 own pg --force --yes; out 'acquired, epoch 10'
kill -HUP "$agent" # From now on its node is alone.
until_true 5 agent_heard '^alone$'
answer 5 pg own pg --force; err '2 of 3 agents are needed, 1 here; missing: n1, n3'
run 5 keys --clean pg --yes; err 'no quorum, for the agents of n1, n3 are missing: .* removes none'
run 4 keys --clean nothing --yes
run 5 torture vol1; err 'no quorum, for the agents of n1, n3 are missing: nothing is served'
run 5 torture vol2; err 'no quorum'
grep -q 'powered off' "$dir/err" && fail 'a person was asked for what is not enough'
kill -HUP "$agent"; until_true 5 agent_heard '^together$'
run 4 own missing --force --yes
run 5 fence n1 </dev/null; err 'no terminal'; err 'Node n1 loses all pools'
run 4 fence n9 </dev/null; err 'no such node .*: n9$'; out_not 'loses'
run 4 fence n1 --pool other </dev/null; err 'no such pool on this node: other'
run 4 fence n9 --yes; err 'no such node .*: n9$'
run 5 fence 3 </dev/null; err 'no terminal'
run 4 clear missing </dev/null; err 'no such pool on this node: missing'
answer 5 yes fence n1; err 'Node n1 loses all pools'; err 'nothing was done'
agent_heard 'fenced n1' && fail 'it was fenced without the answer'
answer 0 n1 fence n1; agent_heard '^fenced n1$' || fail 'it was not fenced'
run 0 fence n1 --yes; out '^node 1 \(n1\): fenced'; out '^pg +yes +- +11 +verified'
run 1 fence n3 --yes; out 'NOT fenced'; out '^dark +UNKNOWN .*no path'; err 'could not be verified'
run 0 fence n3 --pool pg --yes -j; json '.fenced and .pools[0].epoch == 11'
run 4 fence missing --yes; run 4 fence n1 --pool other --yes; run 2 fence; run 2 fence '' --yes
run 1 fence n3 --check; out 'NOT fenced'; err 'it is not known whether n3 is fenced'
run 1 fence n2 --check; out 'NOT fenced'; err 'n2 is not fenced'
run 0 fence n1 --check; out ': fenced'; run 1 fence n3 --check -j; json '.fenced | not'
run 0 fence --help; out 'Exit code 0 only if it is fenced'
run 2 fence n3 --yes --pool "$(printf 'x%.0s' {1..64})"

# What is not marked scratch is not touched.
run 5 torture vol0; err 'not marked scratch'; err 'scratch = yes'
run 5 torture vol1; err 'not served just now: another node owns it'
run 5 torture vol2; err 'not served on this node \(another node owns it\): run it where'
run 4 torture missing; err 'no such volume on this node: missing'
run 2 torture; run 2 torture vol0 --seconds 0; run 2 torture vol0 --seed x; run 2 status --seed 3

# In time, and no longer; the agent learns that nobody waits.
begin=$SECONDS
run 6 --timeout 1 attach slow; err 'no answer in time'
[ $((SECONDS - begin)) -lt 5 ] || fail "a timeout of 1 s took $((SECONDS - begin)) s"
until_true 5 grep -q cancelled "$dir/agent.out"

# Many at once: the bounded ones are refused, the rest goes on, and it recovers.
pids=
for i in $(seq 24); do
	timeout 20 "$ferry" -s "$socket" -t 5 attach slow >/dev/null 2>"$dir/many.$i" &
	pids="$pids $!"
done
codes=
for pid in $pids; do wait "$pid"; codes="$codes $?"; done
late=$(echo "$codes" | tr ' ' '\n' | grep -c '^6$')
refused=$(echo "$codes" | tr ' ' '\n' | grep -c '^1$')
[ "$late" -ge 16 ] && [ $((late + refused)) = 24 ] || fail "of 24 at once: $codes"
grep -q 'too many requests at once' "$dir"/many.* || fail 'refused without a word'
run 0 attach vol0

# Events: what is kept, from a number, to come.
run 0 events; out '^NUMBER +TIME +NODE +LEVEL +KIND +POOL +VALUE +CHANGE +CAUSE'
out '^ +1 .* n2 +warning path-state +pg +- →HEALTHY +started'
out '^ +2 .* pg +0xfe00000200000005 -  registered$'
run 0 events --json
[ "$(jq -s 'map(.sequence) == [range(1; length + 1)]' "$dir/out")" = true ] || fail order
run 0 events --from 2; grep -q started "$dir/out" && fail 'an event from before --from'
run 2 events --from 1000000; err 'newest event is'
"$ferry" -s "$socket" events --follow --json >"$dir/follow" 2>"$dir/follow.err" &
follower=$!
until_true 5 grep -q started "$dir/follow"
kill -USR1 "$agent"
until_true 5 grep -q '"to":"SUSPECT"' "$dir/follow"

# A reader that stops reading costs the agent nothing and is told what it missed.
kill -STOP "$follower"
for i in $(seq 6); do kill -USR2 "$agent"; run 0 version; done
kill -CONT "$follower"
last=$("$ferry" -s "$socket" events -j | tail -1 | jq .sequence)
until_true 10 grep -q "\"sequence\":$last," "$dir/follow"
got=$(jq -s 'length + (map(.missed) | add)' "$dir/follow")
[ "$got" = "$last" ] || fail "$got events seen or missed, not $last"
run 0 events; [ "$(wc -l <"$dir/out")" = 1025 ] || fail "$(wc -l <"$dir/out") lines for 1024 events kept"

# Not ours to use: mode and owner keep others out.
chmod 755 "$dir"
cp "$ferry" "$dir/ferry-copy"
setpriv --reuid 65534 --clear-groups "$dir/ferry-copy" -s "$socket" status >"$dir/out" 2>"$dir/err"
[ $? = 1 ] || fail 'a stranger'
err 'Permission denied: are you root'
chmod 666 "$socket" # Root's own mistake: then the peer's user is looked at.
setpriv --reuid 65534 --clear-groups "$dir/ferry-copy" -s "$socket" status >"$dir/out" 2>"$dir/err"
[ $? = 3 ] || fail 'a stranger with the socket wide open'

# An agent that stops ends the streams, and leaves no socket.
kill -TERM "$agent"
wait "$agent" || fail "the agent ended with $?"
grep -q stopped "$dir/agent.out" || fail 'not stopped in order'
wait "$follower"; [ $? = 3 ] || fail 'the follower of an agent that stopped'
grep -q 'went away or is stopping' "$dir/follow.err" || fail 'the follower was not told'
agent= follower=
[ -e "$socket" ] && fail 'the socket is still there'
run 3 status

# One that is killed leaves a dead socket, which the next one takes over.
start_agent
kill -KILL "$agent"; wait "$agent" 2>/dev/null
[ -e "$socket" ] || fail 'where is the socket?'
run 3 status; err 'no agent is running'
start_agent
run 0 status

# One that dies in the middle of a call.
run 3 attach gone; err 'went away'
wait "$agent"; agent=
echo "$passed passed, 0 failed"
