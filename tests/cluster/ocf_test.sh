#!/bin/bash
# ocf_test.sh POOL_AGENT FERRY FAKE_AGENT: every action of the resource agent and its exit code.
#
# Most of it runs against a stand-in for the ferry command that can be told to be slow, dead or
# refusing, and that keeps a pool's state in files; its answers are laid out as the real command's,
# which is checked last with the real command against an agent with canned answers. Root is needed
# only for what is said to be a device: a loop device over a file of this test.
set -u
agent=$(readlink -f "$1")
ferry=$(readlink -f "$2")
fake=$(readlink -f "$3")
dir=$(mktemp -d "${TMPDIR:-/tmp}/ferry-ocf-XXXXXX")
passed=0
device=
pids=

[ -r /usr/lib/ocf/lib/heartbeat/ocf-shellfuncs ] ||
	{ echo "resource-agents is not installed"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }

finish() {
	local pid
	for pid in $pids; do
		kill -KILL "$pid" 2>/dev/null
	done
	[ -z "$device" ] || losetup --detach "$device"
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() {
	echo "FAILED: $*" >&2
	cat "$dir/err" >&2
	exit 1
}

# ---- The stand-in: state in $dir/{agent,pool,owner,attached}, orders in $dir/hang.ACTION etc. ----

cat >"$dir/ferry" <<'END'
#!/bin/bash
dir=$(dirname "$0")
while [ $# -gt 0 ]; do
	case $1 in
	--socket | --timeout) [ "$1" = --socket ] || limit=$2; shift 2 ;;
	--json) json=yes; shift ;;
	*) words+=("$1"); shift ;;
	esac
done
set -- "${words[@]}"
echo "$*" >>"$dir/calls"
say() { echo "ferry: $2" >&2; exit "$1"; }
[ ! -e "$dir/hard.$1" ] || exec tail -f /dev/null
[ -e "$dir/agent" ] || say 3 "no agent is running here"
if [ -e "$dir/hang.$1" ]; then
	read -r -t "$limit" _ <> <(:)
	say 6 "$1: no answer in time"
fi
if [ -s "$dir/code.$1" ]; then
	say "$(cat "$dir/code.$1")" "$1: told so"
fi
case $1 in
status)
	cat <<-JSON
	{
	  "node": 2,
	  "node_name": "n2",
	  "pools": [
	    {
	      "name": "other",
	      "state": "serving",
	      "owner": 2,
	      "cache": {
	        "reason": "name: pg"
	      }
	    },
	    {
	      "name": "pg",
	      "state": "$(cat "$dir/pool")",
	      "reason": "\"state\": \"fenced\",",
	      "owner": $(cat "$dir/owner"),
	      "cache": {
	        "enabled": true
	      }
	    }
	  ]
	}
	JSON
	;;
acquire) [ "$2" = pg ] || say 4 "no such pool"
	[ ! -e "$dir/served" ] || [ "${3:-}" = --take ] || say 5 "n3 serves it"; echo serving >"$dir/pool"; echo 2 >"$dir/owner" ;;
release) [ ! -e "$dir/used" ] || [ "${3:-}" = --force ] || say 5 "it is in use"; echo standby >"$dir/pool"; echo 0 >"$dir/owner" ;;
attach) cat "$dir/device" ;;
detach) ;;
move) echo standby >"$dir/pool"; echo 3 >"$dir/owner" ;;
*) exit 2 ;;
esac
END
chmod +x "$dir/ferry"

truncate -s 1M "$dir/file"
device=$(losetup --find --show "$dir/file") || { device=; echo "no loop devices here"; exit 77; }

# Everything as new: ferryd runs, the pool is not here, no orders.
reset() {
	rm -rf "$dir"/{hang,hard,code}.* "$dir"/{used,served} "$dir/calls" "$dir/run" "$dir/link"
	mkdir -p "$dir/run"
	: >"$dir/agent"
	: >"$dir/calls"
	echo standby >"$dir/pool"
	echo 0 >"$dir/owner"
	echo "$device" >"$dir/device"
	parameters=(OCF_RESKEY_pool=pg OCF_RESKEY_volume=pgdata
		OCF_RESKEY_device_link="$dir/link/pgdata")
	timeout_ms=8000
	interval_ms=10000
	level=0
}

# act CODE ACTION [NAME=VALUE...]: the action's exit code must be CODE, and it must end in time.
act() {
	local want=$1 action=$2 code begin=$SECONDS
	shift 2
	env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=test HA_RSCTMP="$dir/run" \
		HA_LOGFILE=/dev/null HA_logfacility=none \
		OCF_RESKEY_binary="$dir/ferry" OCF_RESKEY_socket="$dir/socket" \
		OCF_RESKEY_CRM_meta_timeout=$timeout_ms OCF_RESKEY_CRM_meta_interval=$interval_ms \
		OCF_CHECK_LEVEL=$level __OCF_ACTION="$action" "${parameters[@]}" "$@" \
		"$agent" "$action" >"$dir/out" 2>"$dir/err"
	code=$?
	[ "$code" = "$want" ] || fail "line ${BASH_LINENO[0]}: $action $*: exit $code, not $want"
	[ $(((SECONDS - begin) * 1000)) -le $timeout_ms ] ||
		fail "line ${BASH_LINENO[0]}: $action took $((SECONDS - begin)) s of $timeout_ms ms"
	passed=$((passed + 1))
}
# later CMD...: once the agent has met the trouble for the third time, it ends.
later() {
	(
		end=$((SECONDS + 20))
		until [ "$(grep -c . "$dir/calls")" -ge 3 ] || [ $SECONDS -ge $end ]; do
			sleep 0.1
		done
		"$@"
	) &
	pids="$pids $!"
}
probe() { interval_ms=0; act "$1" monitor; interval_ms=10000; }
called() { grep -q "^$1" "$dir/calls" || fail "line ${BASH_LINENO[0]}: never: ferry $1"; }
never() { ! grep -q "^$1" "$dir/calls" || fail "line ${BASH_LINENO[0]}: ferry $1"; }
owned() { echo serving >"$dir/pool"; echo 2 >"$dir/owner"; }
says() { grep -q "$1" "$dir/err" || fail "line ${BASH_LINENO[0]}: does not say: $1"; }
OK=0 GENERIC=1 ARGS=2 UNIMPLEMENTED=3 INSTALLED=5 CONFIGURED=6 NOT_RUNNING=7

# ---- meta-data, usage, validate-all ----

reset
act $OK meta-data
if command -v xmllint >/dev/null && [ -r /usr/share/resource-agents/ra-api-1.dtd ]; then
	xmllint --noout --nonet --dtdvalid /usr/share/resource-agents/ra-api-1.dtd - \
		<"$dir/out" 2>"$dir/err" || fail "the meta-data is not valid"
fi
act $OK usage
act $UNIMPLEMENTED nonsense
act $OK validate-all
act $CONFIGURED validate-all OCF_RESKEY_pool=
act $CONFIGURED validate-all 'OCF_RESKEY_pool=a b'
act $CONFIGURED validate-all OCF_RESKEY_pool=--help
act $CONFIGURED validate-all OCF_RESKEY_pool="$(printf 'x%.0s' {1..32})"
act $OK validate-all OCF_RESKEY_pool="$(printf 'x%.0s' {1..31})"
act $CONFIGURED validate-all OCF_RESKEY_pool=PG
act $CONFIGURED validate-all OCF_RESKEY_volume=pg_data
act $CONFIGURED validate-all OCF_RESKEY_volume=
act $CONFIGURED validate-all OCF_RESKEY_device_link=relative
act $INSTALLED validate-all OCF_RESKEY_binary=/nonexistent/ferry
act $INSTALLED start OCF_RESKEY_binary=/nonexistent/ferry
act $OK stop OCF_RESKEY_binary=/nonexistent/ferry

# ---- Start, monitor, stop; each twice ----

reset
probe $NOT_RUNNING
act $NOT_RUNNING monitor
act $OK start
[ "$(readlink "$dir/link/pgdata")" = "$device" ] || fail "no link to the device"
called "acquire pg"; called "attach pgdata"
act $OK monitor
probe $OK
: >"$dir/calls"
act $OK start
never acquire
act $OK monitor
level=10; act $OK monitor; level=0
echo holding >"$dir/pool"
act $OK monitor
echo serving >"$dir/pool"
act $OK stop
called "detach pgdata"; called "release pg"
[ ! -e "$dir/link/pgdata" ] || fail "the link is still there"
act $NOT_RUNNING monitor
act $OK stop
probe $NOT_RUNNING

# A pool alone, without a device.
reset
parameters=(OCF_RESKEY_pool=pg)
act $OK start
act $OK monitor
act $OK stop
never attach; never detach

# ---- What a start may meet ----

reset; rm "$dir/agent"; timeout_ms=60000
begin=$SECONDS; act $GENERIC start; says 'no agent'
[ $((SECONDS - begin)) -le 15 ] || fail "waited $((SECONDS - begin)) s for no ferryd"
reset; rm "$dir/agent"; later touch "$dir/agent"
act $OK start
reset; echo 5 >"$dir/code.acquire"
act $GENERIC start; says 'told so'
reset; echo 5 >"$dir/code.acquire"; later rm "$dir/code.acquire"
act $OK start
reset
act $ARGS start OCF_RESKEY_pool=missing
reset; : >"$dir/hang.acquire"
act $GENERIC start
reset; : >"$dir/hard.acquire"
act $GENERIC start
reset; : >"$dir/hard.status"
act $GENERIC start
# Another serves it: left alone for a while, since it may just be letting go; then it is taken.
reset; : >"$dir/served"
act $GENERIC start; says 'n3 serves it'; never 'acquire pg --take'
reset; : >"$dir/served"; later rm "$dir/served"
act $OK start; never 'acquire pg --take'
reset; echo 1 >"$dir/code.attach"
act $GENERIC start; says 'cannot be attached'
reset; echo /dev/nonexistent >"$dir/device"
act $GENERIC start; says 'does not appear'
reset; mkdir -p "$dir/link/pgdata"
act $GENERIC start; says 'no link'

# ---- What a monitor may see ----

reset; rm "$dir/agent"
act $NOT_RUNNING monitor; probe $NOT_RUNNING
reset; : >"$dir/hang.status"; act $NOT_RUNNING monitor
reset; act $NOT_RUNNING monitor OCF_RESKEY_pool=missing
for state in acquiring handover releasing fenced; do
	reset; echo $state >"$dir/pool"
	act $GENERIC monitor; probe $GENERIC
done
for state in standby failed; do
	reset; echo $state >"$dir/pool"
	act $NOT_RUNNING monitor; probe $NOT_RUNNING
done
reset; echo serving >"$dir/pool"; echo 3 >"$dir/owner"
act $GENERIC monitor
# Served, but without its device; and the device without its pool.
reset; owned
act $GENERIC monitor; probe $GENERIC; says 'no device'
reset; act $OK start; echo standby >"$dir/pool"; echo 3 >"$dir/owner"
act $GENERIC monitor; says 'is here'
act $OK stop
reset; act $OK start; rm "$dir/link/pgdata"
act $GENERIC monitor
act $OK start; act $OK monitor

# ferryd lives, as its lock says, and does not answer: nobody knows what is served.
exec 8>"$dir/socket.lock"
flock -n 8 || fail "cannot lock"
reset; : >"$dir/served"; timeout_ms=30000
act $OK start; called 'acquire pg --take'
reset; rm "$dir/agent"
act $GENERIC monitor; probe $GENERIC; says 'does not answer'
act $GENERIC stop; says 'may still be served'
reset; owned; : >"$dir/hang.release"
act $GENERIC stop
reset; owned; : >"$dir/hard.release"; : >"$dir/hard.detach"
act $GENERIC stop
reset; owned; echo 5 >"$dir/code.release"
act $GENERIC stop
reset; owned; : >"$dir/hard.detach"
timeout_ms=20000; act $OK stop
called "release pg"
# Refused, since another is the owner long since.
reset; echo 3 >"$dir/owner"; echo 5 >"$dir/code.release"
act $OK stop
reset; owned; echo 5 >"$dir/code.release"; later rm "$dir/code.release"
act $OK stop
# In use: the pool goes all the same.
reset; act $OK start; echo 5 >"$dir/code.detach"
act $OK stop
called "release pg"
[ ! -e "$dir/link/pgdata" ] || fail "the link is still there"
reset; owned; : >"$dir/used"
act $OK stop
called "release pg --force"
reset; owned
act $OK stop
never "release pg --force"
exec 8>&-

# ferryd is gone: nothing can be served.
reset; rm "$dir/agent"
act $OK stop
reset; act $OK start; rm "$dir/agent"
act $NOT_RUNNING monitor
act $OK stop

# ---- Migration ----

reset; act $OK start; : >"$dir/calls"
act $OK migrate_to OCF_RESKEY_CRM_meta_migrate_target=n3
called "detach pgdata"; called "move pg n3"; never release
act $NOT_RUNNING monitor
act $OK stop
reset; owned
act $OK migrate_from OCF_RESKEY_CRM_meta_migrate_source=n1
never acquire; called "attach pgdata"
act $OK monitor
reset; owned; echo 5 >"$dir/code.detach"
act $GENERIC migrate_to OCF_RESKEY_CRM_meta_migrate_target=n3
never move
reset; owned; : >"$dir/used"
act $OK migrate_to OCF_RESKEY_CRM_meta_migrate_target=n3
never "move pg n3 --force"
reset; owned; echo 1 >"$dir/code.move"
act $GENERIC migrate_to OCF_RESKEY_CRM_meta_migrate_target=n3
act $ARGS migrate_to

# ---- The real command's words ----

"$fake" "$dir/socket" >"$dir/fake.out" 2>&1 &
pids="$pids $!"
end=$((SECONDS + 10))
until grep -q ready "$dir/fake.out"; do
	[ $SECONDS -lt $end ] || fail "the agent with canned answers does not start"
	sleep 0.05
done
reset
real=(OCF_RESKEY_binary="$ferry" OCF_RESKEY_volume= OCF_RESKEY_device_link=)
act $OK monitor "${real[@]}"
act $OK start "${real[@]}"
act $NOT_RUNNING monitor "${real[@]}" OCF_RESKEY_pool=missing
act $ARGS start "${real[@]}" OCF_RESKEY_pool=missing
act $GENERIC stop "${real[@]}"; says 'cannot do that'
act $OK migrate_to "${real[@]}" OCF_RESKEY_CRM_meta_migrate_target=n3

if command -v ocf-tester >/dev/null; then
	rm -f "$dir/socket.lock"
	reset
	HA_RSCTMP=$dir/run ocf-tester -n test -o pool=pg -o volume=pgdata \
		-o device_link="$dir/link/pgdata" -o socket="$dir/no.socket" \
		-o binary="$dir/ferry" "$agent" >"$dir/err" 2>&1 ||
		fail "ocf-tester"
	passed=$((passed + 1))
fi
echo "$passed passed, 0 failed"
