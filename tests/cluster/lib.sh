# shellcheck shell=bash
# lib.sh - what the cluster tests share: a lab of their own with agents in it, conditions with
# deadlines, and questions to `ferry --json` by jq. Sourced; needs root.
#
# Each test makes its lab and its files under one mktemp directory, so that several may run at the
# same time, and removes all of it however it ends. FERRY_CLUSTER_KEEP=1 leaves the logs.
# FERRY_CLUSTER_ONLY=WORD runs only the scenarios whose names contain WORD.
set -u -o pipefail

HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$HERE/../violated.sh"
ROOT=$(readlink -f "$HERE/../..")
BUILD=${FERRY_BUILD_DIR:-$ROOT/build}
LAB=$ROOT/deploy/lab/lab
FERRYD=$BUILD/bin/ferryd
FERRY=$BUILD/bin/ferry
URI="nbd+unix:///data?socket=/run/ferry/nbd.sock"
JOBS=()
PASSED=0
LOADS=0

note() {
	printf '  %s\n' "$*"
}

# What all say now comes before what has happened: a report may be cut off.
say_state() {
	local node what
	"$LAB" status 2>&1 | sed 's/^/    lab: /'
	for node in n1 n2 n3; do
		for what in status keys peers; do
			ferry $node --timeout 5 $what 2>&1 | sed "s/^/    $node: /"
		done
	done
	for node in n1 n2 n3; do
		"$LAB" exec $node sh -c "cat /var/log/ferryd.log" 2>/dev/null |
			tail -n 60 | sed "s/^/    $node: /"
	done
}

fail() {
	echo "FAILED: ${SCENARIO:-start}: $*" >&2
	say_state >&2
	exit 1
}

clean_up() {
	local status=$? pid
	trap - EXIT INT TERM
	for pid in "${JOBS[@]}"; do
		kill -TERM "$pid" 2>/dev/null
	done
	if [ -n "${FERRY_CLUSTER_KEEP:-}" ]; then
		for node in n1 n2 n3; do
			cp "$FERRY_LAB_DIR/nodes/$node/disk/var/log/ferryd.log" \
				"$WORK/$node.log" 2>/dev/null
		done
		echo "kept: $WORK"
	fi
	[ -z "${FINISH:-}" ] || $FINISH
	"$LAB" down >/dev/null 2>&1
	[ -n "${FERRY_CLUSTER_KEEP:-}" ] || rm -rf --one-file-system "$WORK"
	[ $status -ne 0 ] || echo "passed: $PASSED scenarios in $SECONDS s"
	exit $status
}

# begin [lab option...]: a lab of three nodes, not yet with agents.
begin() {
	local tool
	[ "$(id -u)" = 0 ] || { echo "SKIPPED: needs root"; exit 77; }
	for tool in jq fio /usr/bin/python3 nft corosync iscsi-ls; do
		command -v $tool >/dev/null && continue
		echo "FAILED: $tool is missing; deploy/install-deps.sh installs it"
		exit 1
	done
	[ -x "$FERRYD" ] && [ -x "$FERRY" ] || { echo "FAILED: $FERRYD is not built"; exit 1; }
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/ferry-ct.XXXXXX")
	export FERRY_LAB_DIR=$WORK/lab
	trap clean_up EXIT
	trap 'exit 130' INT TERM
	mkdir -p "$FERRY_LAB_DIR/inject/etc/ferry"
	head -c 128 /dev/urandom >"$FERRY_LAB_DIR/inject/etc/ferry/authkey"
	chmod 600 "$FERRY_LAB_DIR/inject/etc/ferry/authkey"
	config_make >"$FERRY_LAB_DIR/inject/etc/ferry/ferryd.conf"
	${BEFORE_UP:-:}
	# shellcheck disable=SC2086 # Words.
	"$LAB" up 3 ${LAB_UP:---no-pacemaker} "$@" >"$WORK/up.log" 2>&1 ||
		{ cat "$WORK/up.log"; echo "FAILED: the lab does not come up"; exit 1; }
}

# shellcheck disable=SC2120 # refuse_test.sh passes one.
# config_make [lun]: a configuration file; PATH_TIMEOUT, HOLD_TIMEOUT, LUN_MORE and PACEMAKER_MORE
# shape it.
config_make() {
	cat <<-END
		[agent]
		log_level = info
		path_timeout = ${PATH_TIMEOUT:-1s}
		hold_timeout = ${HOLD_TIMEOUT:-20s}
		[lun data]
		iscsi = iscsi://10.98.0.254/iqn.2026-11.ferry.lab:disk/${1:-1}
		${LUN_MORE:-}
		[pool data]
		luns = data
		[volume data]
		lun = data
		[decision]
		failures = 3
		window = 10s
		[pacemaker]
		publish = no
		${PACEMAKER_MORE:-}
		[nbd]
		listen = unix:/run/ferry/nbd.sock
		[fuse]
		mount = /run/ferry/volumes
	END
}

# config_set NODE TEXT: this node's own file, from the agent's next start on.
config_set() {
	"$LAB" exec "$1" tee /etc/ferry/ferryd.conf <<<"$2" >/dev/null
}

on() {
	"$LAB" exec "$@"
}

ferry() {
	local node=$1
	shift
	"$LAB" exec "$node" "$FERRY" "$@"
}

# ask NODE COMMAND FILTER: what `ferry --json COMMAND` says, through jq.
ask() {
	"$LAB" exec "$1" "$FERRY" --timeout 5 --json "$2" 2>/dev/null | jq -r "$3" 2>/dev/null
}

# is NODE COMMAND FILTER: whether the filter says true.
is() {
	[ "$(ask "$@")" = true ]
}

now_ns() {
	/usr/bin/python3 -c 'import time; print(time.monotonic_ns())'
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; else the test has failed.
wait_for() {
	local deadline=$((SECONDS + $1 + 1)) what=$2
	shift 2
	until "$@"; do
		[ $SECONDS -lt $deadline ] || fail "not in time: $what"
		sleep 0.05
	done
}

# never_for SECONDS WHAT COMMAND...: it must not succeed all that time.
never_for() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	while [ $SECONDS -le $deadline ]; do
		! "$@" || fail "$what"
		sleep 0.2
	done
}

# ---- Agents. ----

agent_start() {
	on "$1" sh -c "mkdir -p /run/ferry; chmod 600 /etc/ferry/authkey
		setsid $FERRYD --config /etc/ferry/ferryd.conf \
			>>/var/log/ferryd.log 2>&1 </dev/null &
		echo \$! >/run/ferryd.pid"
}

agent_signal() {
	on "$1" sh -c "kill -$2 \$(cat /run/ferryd.pid)"
}

# Gone, or a zombie that nobody reaps there.
agent_is_gone() {
	! on "$1" sh -c 'grep -q "^State:[[:space:]]*[^ZX]" /proc/$(cat /run/ferryd.pid)/status' \
		2>/dev/null
}

# A standby is ready when it is a member and its lun has answered.
agent_is_ready() {
	is "$1" status '.quorate and .pools[0].state != "failed"'
}

# Its own path is in use: registered and tried.
path_is() {
	is "$1" status ".pools[0].health == \"$2\""
}

# All three ways carry I/O; the local one may still be on probation, which grows with each relapse.
paths_carry() {
	is "$1" paths '[.paths[] | select(.up and (.health == "healthy" and .reason == "" or
		.kind == "local" and .health == "probation"))] | length == 3'
}

# One that was refused, by an agent that did not know it yet as a member, comes again in 2 s.
links_stand() {
	is "$1" peers '[.peers[] | select(.link == "up")] | length == 2'
}

agents_up() {
	local node
	for node in n1 n2 n3; do
		agent_start $node
	done
	for node in n1 n2 n3; do
		wait_for 15 "the agent of $node is ready" agent_is_ready $node
	done
	for node in n1 n2 n3; do
		wait_for 15 "the links of $node stand" links_stand $node
	done
}

log_has() {
	on "$1" grep -q -e "$2" /var/log/ferryd.log
}

# log_count NODE WORDS
log_count() {
	on "$1" grep -c -e "$2" /var/log/ferryd.log || true
}

# No path is left, or ghosts that nobody can lay. (Reads may still come from the cache.)
io_is_held() {
	is "$1" status '.pools[0] | .state == "holding" or .ghosts_alive > 0'
}

# own NODE: it acquires the pool, whoever serves it.
own() {
	ferry "$1" acquire data --take >"$WORK/acquire.out" 2>&1 ||
		fail "$1 cannot acquire the pool: $(cat "$WORK/acquire.out")"
}

at_rest() {
	wait_for 30 "all paths of $1 carry" paths_carry "$1"
}

# ---- The load: client.py in a node. ----

# io_goes NODE [COUNT]: wait until its applications have done that many I/Os more.
io_goes() {
	local before
	before=$(ask "$1" status '.pools[0].ios')
	wait_for 30 "I/O goes on at $1" is "$1" status ".pools[0].ios >= $before + ${2:-1000}"
}

# load NODE NAME [option...]: in the background; load_end NAME waits for it.
load() {
	local node=$1 name=$2
	shift 2
	LOADS=$((LOADS + 1)) # Its tag: no two write the same blocks.
	rm -f "$WORK/$name.journal" "$WORK/$name.journal.stop"
	on "$node" /usr/bin/python3 "$HERE/client.py" load "$URI" "$WORK/$name.journal" \
		--tag $LOADS "$@" \
		>"$WORK/$name.json" 2>"$WORK/$name.err" &
	eval "LOAD_$name=$!"
	JOBS+=($!)
	wait_for 10 "the load begins" test -s "$WORK/$name.journal"
}

# load_end NAME: have it stop, and wait. Its status is the result.
load_end() {
	local pid
	eval "pid=\$LOAD_$1"
	: >"$WORK/$1.journal.stop"
	wait "$pid" && return
	# It says nothing if it died with its node.
	[ "$(jq '.mismatches | length > 0' "$WORK/$1.json" 2>/dev/null)" != true ] ||
		violated "the load $1 read wrong data: $(cat "$WORK/$1.json")"
	return 1
}

# figure NAME FILTER: of a load that has ended.
figure() {
	jq -r "$2" "$WORK/$1.json"
}

load_was_clean() {
	load_end "$1" || fail "the load $1 had errors: $(cat "$WORK/$1.json" "$WORK/$1.err")"
}

check_blocks() {
	local node=$1
	shift
	on "$node" /usr/bin/python3 "$HERE/client.py" check "$URI" "$@" >"$WORK/check.json" 2>&1
	case $? in
	0) ;;
	5) violated "acknowledged data is wrong: $(cat "$WORK/check.json")" ;;
	*) fail "it cannot be checked: $(cat "$WORK/check.json")" ;;
	esac
	note "$(jq -r '"\(.durable) durable blocks, \(.kept) as they have to be"' \
		"$WORK/check.json")"
}

# stall NAME FROM_NS: of a cut at that time. The longest, in ms, that the client saw nothing
# complete, and the longest that one of its requests took.
stall() {
	local in_time=".[0] < $2 + 2000000000 and .[0] + .[1] > $2"
	figure "$1" "[([.gaps[] | select($in_time) | .[1]] | max // 0),
		([.slow[] | select($in_time) | .[1]] | max // 0)] |
		map(. / 1000000 | floor) | join(\" \")"
}

median() {
	printf '%s\n' "$@" | sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'
}

maximum() {
	printf '%s\n' "$@" | sort -n | tail -1
}

# scenario NAME FUNCTION [argument...]
scenario() {
	local began=$SECONDS
	SCENARIO=$1
	shift
	[[ $SCENARIO == *"${FERRY_CLUSTER_ONLY:-}"* ]] || return 0
	echo "scenario: $SCENARIO"
	"$@" || fail "status $?"
	PASSED=$((PASSED + 1))
	echo "ok $PASSED - $SCENARIO ($((SECONDS - began)) s)"
	SCENARIO=
}
