#!/bin/bash
# test.sh - does the lab do what its README says? Needs root. Takes about a minute.
#
#   test.sh [tgt|lio|clean...]     default: all
#
# Every wait is a condition with a deadline. The labs made here are always removed.
set -u
cd "$(dirname "$(readlink -f "$0")")" || exit 1
base=$(mktemp -d "${TMPDIR:-/tmp}/ferry-lab-test-XXXXXX")
trap 'finish' EXIT
trap 'exit 130' INT TERM
url=iscsi://10.98.0.254/iqn.2026-11.ferry.lab:disk
passed=0 failed=0

lab() { ./lab "$@"; }
use() { export FERRY_LAB_DIR=$base/$1; }
used() { [ ! -e "$base/$1" ] || FERRY_LAB_DIR=$base/$1 ./lab down; }

finish() {
	local name
	for name in a b tgt lio broken killed; do
		used "$name"
	done
	rm -rf "$base"
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
	exit
}

# check TEXT CMD...: CMD must succeed. refuse TEXT CMD...: it must not.
check() {
	local text=$1 output
	shift
	if output=$("$@" 2>&1); then
		passed=$((passed + 1))
		echo "ok   $text"
	else
		failed=$((failed + 1))
		echo "FAIL $text: $*"
		[ -z "$output" ] || echo "     ${output//$'\n'/$'\n     '}"
	fi
}
refuse() {
	check "$1" not "${@:2}"
}
not() { ! "$@"; }

# within SECONDS CMD...: CMD becomes true in time.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

reaches() { lab exec "$1" timeout -k 1 2 iscsi-inq "$url/${2:-1}" >/dev/null 2>&1; }
member_count() { [ "$(lab members "$1" | wc -l)" = "$2" ]; }
pings() { lab exec "$1" ping -c 1 -W 1 "$2" >/dev/null; }

# How does a new connection from NODE to the target end: "connected", "refused" or "timeout"?
connects() {
	local answer
	answer=$(lab exec "$1" python3 - <<-'END'
		import socket
		try:
		    socket.create_connection(("10.98.0.254", 3260), 1)
		    print("connected")
		except ConnectionRefusedError:
		    print("refused")
		except TimeoutError:
		    print("timeout")
	END
	)
	[ "$answer" = "$2" ] || { echo "$answer instead of $2"; return 1; }
}

# Hold a connection that says nothing; FILE gets "held", then how it ended.
hold_connection() {
	lab exec "$1" python3 -u - >"$2" 2>&1 <<-'END' &
		import socket
		held = socket.create_connection(("10.98.0.254", 3260), 2)
		print("held")
		held.settimeout(20)
		try:
		    print("closed" if held.recv(1) == b"" else "data")
		except ConnectionResetError:
		    print("reset")
		except OSError as error:
		    print(error)
	END
	within 5 grep -qs held "$2"
}

reads_of() { lab counters 1 | sed 's/.* reads=\([0-9]*\) .*/\1/'; }
counts_reads() {
	local before after
	before=$(reads_of)
	lab exec n1 timeout -k 1 1 iscsi-perf -b 8 -m 4 "$url/1" >/dev/null 2>&1
	after=$(reads_of)
	[ "$after" -gt "$((before + 10))" ] || { echo "reads: $before, then $after"; return 1; }
}

# A mark in the command line of every process of a lab, or its mounts or files.
nothing_left() {
	local dir=$base/$1 left
	echo "$dir" >"$base/pattern" # In a file, so that grep doesn't find itself.
	left=$(env -u FERRY_LAB_DIR grep -lasF -f "$base/pattern" \
		/proc/[0-9]*/cmdline /proc/[0-9]*/environ /proc/[0-9]*/mountinfo)
	[ -z "$left" ] && [ ! -e "$dir" ] && return 0
	echo "left: $left $(ls -d "$dir" 2>/dev/null)"
	return 1
}

test_tgt() {
	use tgt
	mkdir -p "$FERRY_LAB_DIR/inject/etc"
	echo injected >"$FERRY_LAB_DIR/inject/etc/ferry-lab-mark"
	check "up 3 with Pacemaker, fencing and tgt" lab up 3 --luns 2 || return
	check "a file was injected into n2" lab exec n2 grep -q injected /etc/ferry-lab-mark
	check "/etc is private" lab exec n1 sh -c 'echo x >/etc/ferry-lab-private'
	refuse "and not seen by n2" lab exec n2 test -e /etc/ferry-lab-private
	check "mlock works" lab exec n1 python3 -c \
		'import ctypes; exit(ctypes.CDLL(None).mlockall(3) != 0)'
	for node in n1 n2 n3; do
		check "$node reaches both luns" eval "reaches $node 1 && reaches $node 2"
	done
	refuse "the client doesn't reach storage" pings client 10.98.0.254
	check "the client reaches n1" pings client n1
	check "the target counts reads" counts_reads

	check "cut n1 storage" lab cut n1 storage
	check "a new connection hangs" connects n1 timeout
	check "n2 still reaches the target" reaches n2
	check "n1 sees 3 members" member_count n1 3
	check "heal" lab heal n1 storage
	check "n1 reaches the target again" reaches n1

	check "a connection is held" hold_connection n1 "$base/held"
	check "cut n1 storage --reset" lab cut n1 storage --reset
	check "the idle connection was reset" eval \
		"within 5 grep -q reset $base/held || ! cat $base/held"
	check "a new connection is refused" connects n1 refused
	check "heal" lab heal n1
	check "n1 reaches the target again" reaches n1

	check "cut n1 storage --in" lab cut n1 storage --in
	check "what n1 sends arrives" arrives_from n1
	check "no answer comes back" connects n1 timeout
	check "heal" lab heal n1 storage

	check "cut n1 cluster n2" lab cut n1 cluster n2
	refuse "n1 doesn't reach n2" pings n1 n2
	check "n1 reaches n3" pings n1 n3
	check "heal" lab heal n1 cluster
	check "all agree again" lab wait 3

	check "target stop" lab target stop
	refuse "no answer" reaches n2
	check "target continue" lab target continue
	check "an answer" reaches n2
	check "target restart" lab target restart
	check "an answer" reaches n2

	check "kill n3" lab kill n3
	check "Pacemaker has n3 powered on again" within 30 node_is_on n3
	check "and all agree" within 30 lab wait 3
	check "down" lab down
	check "nothing is left" nothing_left tgt
}

# With only the answers cut, the target's machine sees NODE's requests.
arrives_from() {
	local before
	before=$(received)
	lab exec "$1" ping -c 1 -W 1 10.98.0.254 >/dev/null
	[ "$(received)" -gt "$before" ]
}
received() { lab exec st cat /proc/net/snmp | awk '/^Icmp: [0-9]/ { print $10 }'; } # InEchos
node_is_on() { lab status | grep -q "^$1 on"; }

test_two() {
	use a
	check "lab a up" lab up 3 --no-pacemaker
	use b
	check "lab b up beside it" lab up 2 --no-pacemaker --chap ferry:ferry-secret1
	refuse "without CHAP no login" reaches n1
	url=iscsi://ferry%ferry-secret1@10.98.0.254/iqn.2026-11.ferry.lab:disk \
		check "with CHAP, login" reaches n1
	use a
	check "kill n2" lab kill n2
	check "membership 2" lab wait 2
	check "membership 2, as n1 sees it" member_count n1 2
	check "boot n2" lab boot n2
	check "membership 3" lab wait 3
	check "n3 stops in order" lab stop n3
	check "membership 2" lab wait 2
	check "lab a down" lab down
	check "nothing of a is left" nothing_left a
	use b
	check "lab b never noticed" member_count n1 2
	check "lab b down" lab down
	check "nothing of b is left" nothing_left b
}

# The target's luns over two nodes, with what only LIO has.
test_lio() {
	use lio
	check "up 2 with lio" lab up 2 --target lio --luns 2 --no-pacemaker
	check "n1 reaches both luns" eval "reaches n1 1 && reaches n1 2"
	check "n2 reaches lun 1" reaches n2
	check "its serial is lun 1's" eval \
		"lab exec n1 iscsi-inq -e 1 -c 128 $url/1 | grep -q FE44-1AB0-0001"
	check "the target counts reads" counts_reads
	check "cut n1 storage --reset" lab cut n1 storage --reset
	check "a new connection is refused" connects n1 refused
	check "heal" lab heal n1
	check "n1 reaches lun 1" reaches n1
	check "target stop" lab target stop
	refuse "no answer" reaches n1
	check "target continue" lab target continue
	check "an answer" reaches n1
	check "target restart" lab target restart
	check "an answer" reaches n1
	check "down" lab down
	check "nothing is left" nothing_left lio
}

test_clean() {
	use broken
	mkdir -p "$FERRY_LAB_DIR/inject/usr/sbin"
	printf '#!/bin/sh\nexit 1\n' >"$FERRY_LAB_DIR/inject/usr/sbin/corosync"
	chmod +x "$FERRY_LAB_DIR/inject/usr/sbin/corosync"
	refuse "up fails when corosync does" lab up 2 --no-pacemaker
	check "and leaves nothing" nothing_left broken

	# A script that is killed in the middle can't clean up; `down` can.
	use killed
	lab up 3 >/dev/null 2>&1 &
	local up=$!
	check "up has begun" within 10 test -e "$FERRY_LAB_DIR/nodes/n1/pid"
	kill -KILL $up
	wait $up 2>/dev/null
	check "down after up was killed" lab down
	check "nothing is left" nothing_left killed
	check "down once more" lab down
}

for name in "${@:-all}"; do
	case $name in
	all) test_tgt; test_two; test_lio; test_clean ;;
	tgt | two | lio | clean) "test_$name" ;;
	*) echo "no test $name" >&2; exit 2 ;;
	esac
done
