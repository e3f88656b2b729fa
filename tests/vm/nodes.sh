# shellcheck shell=bash
# nodes.sh - a cluster of guests: vm1 is the kernel's iSCSI target, vm2, vm3 and vm4 are nodes with
# corosync and ferryd, whose lun is a disk of the kernel's own initiator. Sourced after lib.sh.
SERIAL=f00d0002
DISK=$(disk_of $SERIAL)

# ask N COMMAND FILTER: what `ferry --json COMMAND` says in vmN, through jq.
ask()
{
	guest_do "$1" "ferry --timeout 5 --json $2 2>/dev/null" | jq -r "$3" 2>/dev/null
}

# is N COMMAND FILTER: whether the filter says true.
is()
{
	[ "$(ask "$@")" = true ]
}

# wait_for SECONDS WHAT COMMAND...
wait_for()
{
	local what=$2 n

	within "$1" "${@:3}" && return
	for n in 2 3 4; do
		echo "--- vm$n:" >&2
		guest_do $n 'tail -n 25 /var/log/ferryd.log; ferry status; ferry paths' >&2
	done
	fail "not in time: $what"
}

all_agents()
{
	local n

	for n in 2 3 4; do
		is $n status '.quorate and .pools[0].state != "failed" and (.members | length) == 3' ||
			return
	done
}

log_has()
{
	guest_do "$1" "grep -q -e '$2' /var/log/ferryd.log"
}

ferryd_conf()
{
	cat <<-END
		[agent]
		log_level = info
		path_timeout = 5s
		hold_timeout = ${HOLD:-60s}
		memory = 32M
		[cache]
		size = ${CACHE:-8M}
		[lun data]
		device = $DISK
		# What LIO holds of a fenced initiator, with this disk behind it, ends in less.
		quiesce_time = 5s
		[pool data]
		luns = data
		exclusive = yes
		[volume data]
		lun = data
		[decision]
		failures = 2
		window = 30s
		[pacemaker]
		publish = ${PUBLISH:-no}
		[nbd]
		listen = unix:/run/ferry/nbd.sock
		[fuse]
		mount = /run/ferry/volumes
		${UBLK:+[ublk]}
	END
}

# agent_stop N: as its service would be, and until its process is gone.
agent_stop()
{
	guest_must "$1" 'p=$(cat /run/ferryd.pid); kill -TERM $p
		for i in $(seq 600); do [ -e /proc/$p/exe ] || exit 0; sleep 0.1; done; exit 1'
}

# agents_end N...: all of these are stopped, and nobody has complained.
agents_end()
{
	local n

	for n in "$@"; do
		agent_stop "$n"
	done
	nobody_complains "$@"
}

# Guests, target, nodes, agents: until all agents are one group.
nodes_up()
{
	local n jobs=()

	cp "$HERE"/{guest-target,guest-initiator,guest-node} "$HOST"
	head -c 128 /dev/urandom >"$HOST/authkey"
	ferryd_conf >"$HOST/ferryd.conf"
	target_start
	for n in 2 3 4; do
		GUEST_MIB=768 guest_start $n
	done
	guest_up 1
	guest_must 1 "/host/guest-target $SERIAL ${TARGET:-plain}"
	for n in 2 3 4; do
		guest_up $n
		guest_begin $n "/host/guest-node && ${RDMA:+/host/guest-node rdma &&} /host/guest-node agent"
		jobs[n]=$JOB
	done
	note "four guests are up, the target is ready after $SECONDS s"
	for n in 2 3 4; do
		guest_result $n "${jobs[n]}" >"$WORK/out" || fail "vm$n is no node: $(cat "$WORK/out")"
	done
	wait_for 180 "three agents, one group" all_agents
	note "three agents after $SECONDS s"
}
