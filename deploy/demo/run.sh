#!/bin/bash
# run.sh - the main job, shown: a node loses its path to the storage, and its database goes on.
#
#     deploy/demo/run.sh          (make demo)
#
# Three real nodes with corosync and Pacemaker and an iSCSI target in the lab (deploy/lab),
# PostgreSQL on ext4 on a volume of Ferry, a client outside that commits. The storage path of
# PostgreSQL's node is cut; see what becomes of the client, of its commits, and of the database.
#
# Writes report.json and timeline.svg to build/demo. Exits 0 if every promise was kept. Needs root
# and what deploy/install-deps.sh installs; takes 2 to 3 minutes, and leaves nothing running.
#
#     FERRY_BUILD_DIR   where bin/ferry and bin/ferryd are; the report goes to its demo/
#     DEMO_TARGET       the lab's target: tgt (default) or lio
#     DEMO_KEEP=yes     leave the lab up, to look around in it (then: lab down)
set -euo pipefail

if [ $# -gt 0 ]; then # It takes no arguments; --help is all that one may ask.
	sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
	[ "$1" = --help ] || [ "$1" = -h ] || exit 2
	exit 0
fi

here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
build=${FERRY_BUILD_DIR:-$root/build}
out=$build/demo
lab=$root/deploy/lab/lab
scratch=$(mktemp -d "${TMPDIR:-/tmp}/ferry-demo-XXXXXX")
export FERRY_LAB_DIR=$scratch/lab

nodes="n1 n2 n3"
address=10.99.0.100 # PostgreSQL's own, wherever it runs.
link=/run/ferry/dev/pgdata
pg_bin=
client=
watchers=
loop_devices=
begin_s=$SECONDS

# ---------------------------------------------------------------- the telling ----

say()
{
	printf '%4d s  %s\n' $((SECONDS - begin_s)) "$*"
}

# mark NAME [TEXT]: a moment for the report and the picture.
mark()
{
	printf '%s\t%s\t%s\n' "$EPOCHREALTIME" "$1" "${2:-}" >>"$out/moments.tsv"
}

fail()
{
	say "FAILED: $*"
	exit 1
}

# within SECONDS CMD...: CMD becomes true in time.
within()
{
	local end=$((SECONDS + $1))

	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

on()
{
	"$lab" exec "$@"
}

# ---------------------------------------------------------------- the end of it ----

# Agents first: one that is the last of its node's processes to end would have to unmount what is
# mounted over itself, and wait for itself.
agents_kill()
{
	local node

	for node in $nodes; do
		on "$node" sh -c 'kill -KILL "$(cat /run/ferry/pid)"' 2>/dev/null || continue
		within 10 agent_is_gone "$node" || echo "ferryd on $node does not end" >&2
	done
}

# What a node that still had a device leaves behind: the lab's nodes share the machine's loops.
loops_note()
{
	local node device

	for node in $nodes; do
		device=$(on "$node" readlink "$link" 2>/dev/null) || continue
		[ "$(cat "/sys/block/${device#/dev/}/loop/backing_file" 2>/dev/null)" = \
			/run/ferry/volumes/pgdata ] && loop_devices="$loop_devices $device"
	done
	return 0
}

finish()
{
	local status=$? pid device

	trap - EXIT
	set +e
	touch "$scratch/stop" "$scratch/watched"
	for pid in $client $watchers; do
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	logs_keep
	if [ "${DEMO_KEEP:-}" = yes ]; then
		echo "the lab is up: FERRY_LAB_DIR=$FERRY_LAB_DIR $lab status"
		exit $status
	fi
	loops_note
	agents_kill
	"$lab" down
	for device in $loop_devices; do
		losetup --detach "$device" 2>/dev/null
	done
	rm -rf "$scratch"
	[ $status = 0 ] || echo "logs and traces are in $out" >&2
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

logs_keep()
{
	local node log

	for node in $nodes; do
		mkdir -p "$out/logs/$node"
		for log in ferryd.log pacemaker/pacemaker.log postgresql/ferry.log; do
			cp "$FERRY_LAB_DIR/nodes/$node/disk/var/log/$log" \
				"$out/logs/$node/" 2>/dev/null
		done
	done
	return 0
}

# ---------------------------------------------------------------- preparations ----

check_tools()
{
	[ "$(id -u)" = 0 ] || fail "must be root"
	[ -x "$build/bin/ferryd" ] || fail "no $build/bin/ferryd: make build"
	pg_bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
	[ -x "$pg_bin/initdb" ] || fail "no PostgreSQL: deploy/install-deps.sh lab"
	/usr/bin/python3 -c 'import psycopg2' 2>/dev/null ||
		fail "no psycopg2: deploy/install-deps.sh lab"
	command -v crm >/dev/null || fail "no crmsh: deploy/install-deps.sh lab"
}

# Into every node: the programs, the resource agent, the configuration, the cluster's key.
inject()
{
	local dir=$FERRY_LAB_DIR/inject

	mkdir -p "$dir"/{etc/ferry,usr/bin,usr/lib/ocf/resource.d/ferry}
	cp "$build/bin/ferry" "$build/bin/ferryd" "$dir/usr/bin/"
	cp "$root/deploy/ocf/pool" "$dir/usr/lib/ocf/resource.d/ferry/"
	head -c 128 /dev/urandom >"$dir/etc/ferry/authkey"
	chmod 600 "$dir/etc/ferry/authkey"
	cp "$here/ferryd.conf" "$dir/etc/ferry/ferryd.conf"
}

agent_start()
{
	on "$1" sh -c 'mkdir -p /run/ferry
		setsid ferryd </dev/null >>/var/log/ferryd.log 2>&1 & echo $! >/run/ferry/pid'
}

agent_is_gone()
{
	on "$1" sh -c '! kill -0 "$(cat /run/ferry/pid)"'
}

agent_stop()
{
	on "$1" sh -c 'kill "$(cat /run/ferry/pid)"'
	within 30 agent_is_gone "$1" || fail "ferryd on $1 does not stop"
}

# Ready: all agents in the group, and the pool's path works here.
agent_is_ready()
{
	on "$1" ferry status --json >"$scratch/status" &&
		jq -e '(.members | length) == 3 and .quorate and .pools[0].health == "healthy"
			and .pools[0].state != "failed"' "$scratch/status"
}

agents_start()
{
	local node

	for node in $nodes; do
		agent_start "$node"
	done
	for node in $nodes; do
		within 20 agent_is_ready "$node" ||
			fail "ferryd on $node is not ready: $out/logs/$node"
	done
}

where()
{
	on n1 crm_resource --resource "${1:-pg-db}" --locate --quiet 2>/dev/null |
		awk '{ print $1 }'
}

runs_on()
{
	[ "$(where "${2:-pg-db}")" = "$1" ]
}

database_make()
{
	on n1 bash -e -s "$link" "$pg_bin" <<-'END' >"$out/logs/mkfs" 2>&1
		mnt=/var/lib/postgresql/ferry
		mkfs.ext4 -q "$1"
		mkdir -p $mnt
		mount "$1" $mnt
		install -d -m 700 -o postgres -g postgres $mnt/data
		runuser -u postgres -- "$2/initdb" -D $mnt/data -A trust --data-checksums >/dev/null
		cat >>$mnt/data/postgresql.conf <<-CONF
			listen_addresses = '*'
			unix_socket_directories = '/run/postgresql'
			shared_buffers = 16MB
			max_wal_size = 160MB
			min_wal_size = 64MB
		CONF
		echo 'host all all 10.99.0.0/24 trust' >>$mnt/data/pg_hba.conf
		umount $mnt
	END
}

sql()
{
	on client psql --quiet --no-psqlrc --tuples-only --no-align --host "$address" \
		--username postgres "$@"
}

cluster_configure()
{
	on n1 crm -F configure load update "$here/pool.crm" >"$out/logs/crm" 2>&1 ||
		fail "crm: see $out/logs/crm"
	within 30 runs_on n1 pg-pool || fail "the pool does not start: $out/logs/n1"
	within 10 on n1 test -b "$link" || fail "no device"
	database_make || fail "no database: see $out/logs/mkfs"
	sed "s|@PG_BIN@|$pg_bin|g" "$here/database.crm" >"$scratch/database.crm"
	on n1 crm -F configure load update "$scratch/database.crm" >>"$out/logs/crm" 2>&1 ||
		fail "crm: see $out/logs/crm"
	within 40 runs_on n1 || fail "PostgreSQL does not start: $out/logs/n1"
	within 10 sql -c 'select 1' || fail "PostgreSQL does not answer at $address"
	sql >"$out/logs/tables" <<-'END'
		create table accounts(id int primary key, balance int not null, filler text);
		insert into accounts
			select i, 0, repeat('x', 200) from generate_series(1, 100000) i;
		create table commits(worker int, number bigint, at timestamptz,
			primary key(worker, number));
		vacuum analyze;
		checkpoint;
	END
}

# ---------------------------------------------------------------- watching ----

# Everything that is counted, several times a second: at the target, and by each agent.
watch()
{
	local node

	while [ ! -e "$scratch/watched" ]; do
		"$lab" counters 1 2>/dev/null |
			sed "s/^/$EPOCHREALTIME /" >>"$out/counters.txt" || true
		for node in $nodes; do
			on "$node" ferry --timeout 2 status --json 2>/dev/null |
				jq -c "{at: $EPOCHREALTIME, node: \"$node\", pool: .pools[0]}" \
					>>"$out/status.jsonl" || true
		done
		sleep 0.2
	done
}

follow()
{
	on "$1" ferry events --follow --json 2>/dev/null >"$out/events-$1.jsonl"
}

client_start()
{
	rm -f "$scratch/stop"
	on client /usr/bin/python3 "$here/client.py" "$address" "$out/$1" "$scratch/stop" "$2" &
	client=$!
	within 10 grep -q '^ack' "$out/$1" || fail "the client does not commit"
}

client_stop()
{
	touch "$scratch/stop"
	wait "$client" || true
	client=
}

# seconds_pass N: the client must keep committing; this only lets time go by.
seconds_pass()
{
	local end=$((SECONDS + $1))

	while [ $SECONDS -lt $end ]; do
		kill -0 "$client" 2>/dev/null || fail "the client has ended"
		sleep 0.1
	done
}

# acks LOG: how many commits were acknowledged.
acks()
{
	grep -c '^ack' "$out/$1"
}

status_of()
{
	on "$1" ferry status --json | jq -r ".pools[0]$2"
}

moved_away()
{
	local now

	now=$(where)
	[ -n "$now" ] && [ "$now" != n1 ]
}

# commits_more LOG BEFORE COUNT
commits_more()
{
	[ "$(acks "$1")" -ge $(($2 + $3)) ]
}

# ---------------------------------------------------------------- the story ----

bring_up()
{
	inject
	"$lab" up 3 --target "${DEMO_TARGET:-tgt}" --size 512
	say "three nodes are up: corosync, Pacemaker, fencing; an iSCSI target beside them"
	agents_start
	say "ferryd runs on each: $(on n1 ferry status | sed -n 2p)"
	cluster_configure
	say "PostgreSQL on ext4 on a Ferry volume, managed by Pacemaker, runs on $(where)"
}

path_fails()
{
	local node before

	watch &
	watchers="$watchers $!"
	for node in $nodes; do
		follow "$node" &
		watchers="$watchers $!"
	done
	client_start client.tsv 1
	seconds_pass 12
	say "a client outside commits: $(acks client.tsv) transactions so far"
	# A cut is meant to meet writes on their way. A loop device sends nothing else while a flush
	# is, and on this fast storage that is half of the time: writes take a little longer now.
	"$lab" target slow 0 30 2>/dev/null || true # Only tgt can do that.
	seconds_pass 1
	mark cut "n1's storage path is cut"
	"$lab" cut n1 storage
	"$lab" target slow 0 0 2>/dev/null || true
	say "n1's storage path is a black hole now; the cluster's network lives"
	within 90 moved_away || fail "the group did not move away from n1"
	moved_to=$(where)
	mark moved "Pacemaker has started the group on $moved_to"
	say "Pacemaker has moved the group to $moved_to"
	before=$(acks client.tsv)
	within 30 commits_more client.tsv "$before" 1 || fail "no commits after the move"
	say "the client commits again"
	within 60 commits_more client.tsv "$before" 3000 || fail "too few commits after the move"
}

path_heals()
{
	mark heal "n1's storage path is healed"
	"$lab" heal n1
	within 60 agent_is_ready n1 || fail "n1 does not become healthy: $(on n1 ferry status)"
	mark healthy "n1 is healthy again"
	say "the path heals; n1 is healthy again: $(status_of n1 .state), $(status_of n1 .health)"
	runs_on "$moved_to" || fail "the group has moved once more"
	seconds_pass 3
	client_stop
	mark end
}

# Each acknowledged commit must be in the table.
verify()
{
	sql -F ' ' -c "select worker, number from commits" | sort >"$scratch/there"
	awk '$1 == "ack" { print $4, $5 }' "$out/client.tsv" | sort >"$scratch/acknowledged"
	comm -23 "$scratch/acknowledged" "$scratch/there" >"$out/lost.txt"
	awk -F '\t' '$1 == "unknown" || $1 == "failed" { print $4, $5 }' "$out/client.tsv" | sort |
		comm -12 - "$scratch/there" | wc -l >"$out/interrupted_but_there.txt"
	[ ! -s "$out/lost.txt" ] ||
		fail "$(wc -l <"$out/lost.txt") acknowledged commits are not there"
	say "every one of $(wc -l <"$scratch/acknowledged") acknowledged commits is there"
}

# Pacemaker's word that RESOURCE is stopped, or started, everywhere.
settled()
{
	on n1 sh -c "crm resource $1 $2 && crm_resource --wait --timeout=120" \
		>>"$out/logs/crm" 2>&1 || fail "$2 does not $1: $out/logs/crm"
}

# The same once more without warmth: fresh agents, empty caches, the same load for as long.
cold_run()
{
	local node

	settled stop pg
	[ -z "$(where pg-pool)" ] || fail "the pool did not stop"
	for node in $nodes; do
		agent_stop "$node"
	done
	agents_start
	mark cold "a cold start of the same"
	settled start pg
	within 30 sql -c 'select 1' || fail "PostgreSQL does not answer after the cold start"
	client_start client-cold.tsv 1000000
	within 60 commits_more client-cold.tsv 0 3000 || fail "too few commits after the cold start"
	client_stop
	say "the same from a cold start, for comparison"
}

take_down()
{
	local node device

	touch "$scratch/watched"
	settled stop pg-fs
	node=$(where pg-pool)
	[ -n "$node" ] || fail "the pool is not served any more"
	device=$(on "$node" readlink "$link")
	on "$node" e2fsck -fn "$device" >"$out/logs/e2fsck" 2>&1 ||
		fail "the filesystem is not clean: $out/logs/e2fsck"
	say "the filesystem checks clean"
	settled stop pg
	[ -z "$(where pg-pool)" ] || fail "the pool did not stop"
	for node in $nodes; do
		agent_stop "$node"
		! on "$node" grep -qE ' (/run|/var/lib/postgresql)/ferry' /proc/mounts ||
			fail "something of Ferry is mounted on $node"
	done
	loops_note
	[ -z "$loop_devices" ] || fail "still attached: $loop_devices"
	say "all is stopped; nothing is mounted, nothing attached"
}

mkdir -p "$build"
rm -rf "$out"
mkdir -p "$out/logs"
check_tools
say "Ferry's demonstration: a storage path fails under a database"
bring_up
path_fails
path_heals
verify
cold_run
take_down
mark "done"
python3 "$here/report.py" "$out" "$((SECONDS - begin_s))"
