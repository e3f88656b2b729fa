#!/bin/bash
# fence_ferry_test.sh FENCE_FERRY FERRY FAKE_AGENT: what Pacemaker is told, by each exit code.
# Of n1 the agent is sure, of n3 not in each pool; itself it is n2.
set -u
fence=$1
ferry=$2
fake=$3
dir=$(mktemp -d /tmp/ferry-fence-XXXXXX)
socket=$dir/ferry.sock
agent=
passed=0

finish() {
	[ -z "$agent" ] || kill -KILL "$agent" 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT

fail() {
	echo "FAILED: $*"
	cat "$dir/out" "$dir/err"
	exit 1
} >&2

check() {
	[ "$1" = "$2" ] || fail "exit $2, not $1: $3"
	passed=$((passed + 1))
}

# run CODE OPTION...: by options, as people do.
run() {
	local want=$1
	shift
	timeout -k 5 30 "$fence" --binary "$ferry" --socket "$socket" "$@" >"$dir/out" 2>"$dir/err"
	check "$want" $? "$*"
}

# by_stdin CODE NAME=VALUE...: as Pacemaker does.
by_stdin() {
	local want=$1
	shift
	printf '%s\n' "binary=$ferry" "socket=$socket" "$@" |
		timeout -k 5 30 "$fence" >"$dir/out" 2>"$dir/err"
	check "$want" $? "$*"
}
out() { grep -Eq -- "$1" "$dir/out" || fail "no '$1' in the answer"; }
err() { grep -Eq -- "$1" "$dir/err" || fail "no '$1' in the error"; }

# Without an agent nothing is fenced, and nothing is known.
run 1 -o off -n n1; err 'no agent is running'
run 1 -o status -n n1
run 1 -o monitor
run 1 -o list
run 1 -o on -n n2 --timeout 1; err 'no agent is running'
run 1 -o off -n n1 --binary /nonexistent; err 'No such file'
run 0 -o metadata; out '<action name="on" on_target="1" automatic="1"/>'
grep -q '"reboot"/' "$dir/out" && fail 'it does not reboot'
xmllint --noout "$dir/out" || fail 'the metadata is no XML'
by_stdin 0 action=metadata; out 'resource-agent name="fence_ferry"'
run 0 --help; out '^usage'
run 0 --version; out '^ferry'
run 0 -o validate-all
run 0 -o validate-all -n n9; err 'node n9 was not looked at: .*no agent is running'
run 1 -o validate-all --timeout 0; err 'timeout'
run 1 -o validate-all --timeout soon; err 'timeout'
run 1 -o validate-all --pools ,; err 'pools'
run 1 -o off --no-such-option; err 'no-such-option'
run 1 -o off n1; err 'not an option'
run 1 -o explode -n n1; err 'no such action'

until_said() {
	local end=$((SECONDS + 10))
	until grep -sq "$1" "$dir/agent.out"; do
		[ $SECONDS -lt $end ] || fail "the agent does not say $1"
		sleep 0.02
	done
}

"$fake" "$socket" >"$dir/agent.out" 2>&1 &
agent=$!
until_said ready

run 0 -o off -n n1; out 'Success: n1 is fenced from pg, dark'
run 0 -o reboot -n n1
run 0 -n n1; out Success # off is what is done without a word.
by_stdin 0 action=off port=n1 nodename=other crm_meta_x=1
by_stdin 0 option=off nodename=n1 '# a comment' ''
by_stdin 0 action=off plug=n1 pools=pg; out 'from pg$'
run 1 -o off -n n3; err 'pool dark: NOT verified: no path'; err 'could not be verified'
run 0 -o off -n n3 --pools pg
run 1 -o off -n n3 --pools pg,other; err 'no such pool'
run 1 -o off -n missing; err 'no such thing'
run 1 -o off -n n9; err 'no such node .*: n9$'
run 1 -o validate-all -n n9; err 'no such node .*: n9$'
run 0 -o validate-all -n n3
run 0 -o validate-all -n 2
by_stdin 1 action=validate-all nodename=n9
# Pacemaker's stand-in; what somebody has configured is looked at all the same.
by_stdin 0 action=validate-all nodename=node1 plug=node1
by_stdin 1 action=validate-all nodename=node1 plug=n9
run 1 -o validate-all -n node1
run 1 -o off; err 'no node'
run 1 -o off -n slow --timeout 1; err 'no answer in time'
run 2 -o status -n n1; out OFF
run 0 -o status -n n2; out ON
run 1 -o status -n n3 # Neither is known.
run 0 -o on -n n2 --pools pg
run 0 -o on -n n1
run 1 -o on -n n3; err 'no agent of n3'
run 1 -o monitor; err 'pool dark: this node.s path'
run 0 -o monitor --pools pg
# Who is fenced fences nobody; who was only deposed may.
kill -WINCH "$agent"
until_said '^deposed$'
run 0 -o monitor --pools pg
kill -WINCH "$agent"
until_said '^fenced$'
run 1 -o monitor --pools pg; err 'pool pg: this node is fenced itself.*: its agent is fenced until'
run 1 -o on -n n2 --pools pg; err 'reboot this node'
kill -WINCH "$agent"
until_said '^well$'
run 0 -o monitor --pools pg
run 1 -o monitor --pools other; err 'knows no pool other'
run 0 -o list; [ "$(xargs <"$dir/out")" = "n2 n1 n3" ] || fail list

# An agent that goes in the middle has confirmed nothing.
run 1 -o off -n gone; err 'went away'
wait "$agent"; agent=
echo "$passed passed, 0 failed"
