# shellcheck shell=bash
# world.sh - the one process that holds a lab together.
#
# All of a lab lives in one process, mount, network and IPC namespace: its "world".
# The kernel ends every process of a process namespace with its first one, and the
# mounts, bridges and links go with the last. So `down` is one kill, whatever state
# the lab is in, and two labs can't see each other. Inside, process ids are the
# lab's own, which makes pid files safe.

# The tools, and the Debian packages that bring them.
world_check_tools() {
	local need=(unshare:util-linux ip:iproute2 ss:iproute2 nft:nftables flock:util-linux) tool
	[ "$LAB_COROSYNC" = no ] || need+=(corosync:corosync)
	[ "$LAB_PACEMAKER" = no ] || need+=(pacemakerd:pacemaker crm_mon:pacemaker-cli-utils)
	[ "$LAB_FENCE" = no ] || need+=(python3:python3)
	case $LAB_TARGET in
	tgt) need+=(tgtd:tgt cc:gcc) ;;
	lio) need+=(linux.uml:user-mode-linux modprobe:kmod dmsetup:dmsetup) ;;
	esac
	for tool in "${need[@]}"; do
		command -v "${tool%:*}" >/dev/null || die "needs ${tool%:*} (package ${tool#*:})"
	done
}

# The lab's directory is removed by `down`, so it must be ours: new, or empty but
# for files that somebody wants in the nodes.
world_make_dir() {
	[[ $LAB =~ ^/[A-Za-z0-9._/-]+$ ]] ||
		die "FERRY_LAB_DIR: an absolute path without odd characters, please"
	# A unix socket's path has at most 107 bytes.
	[ ${#LAB} -le 80 ] || die "FERRY_LAB_DIR is longer than 80 characters"
	mkdir -p "$LAB"
	local entry
	for entry in "$LAB"/* "$LAB"/.[!.]*; do
		[ ! -e "$entry" ] || [ "${entry##*/}" = inject ] ||
			die "$LAB is in use or not a lab's (try: lab down)"
	done
	: >"$LAB/.ferry-lab"
	chmod 755 "$LAB"
	mkdir -p "$LAB"/{inject,base}/{etc,usr,var,root} "$LAB/nodes" "$LAB/target"
	: >"$LAB/cuts"
}

world_up() {
	[ "$UID" = 0 ] || die "must be root"
	world_check_tools
	world_make_dir
	trap world_up_failed EXIT
	trap 'exit 130' INT TERM HUP
	conf_save
	setsid env -i PATH="$PATH" HOME=/root LC_ALL=C.UTF-8 FERRY_LAB_DIR="$LAB" \
		unshare --mount --propagation slave --net --ipc --pid --fork --kill-child -- \
		"$SELF" __world "$LAB" </dev/null >"$LAB/world.log" 2>&1 &
	disown # Its end is no news for this shell.
	wait_until 10 test -e "$LAB/world.ready" || die "the world did not begin"
	# In the background, since a trap doesn't interrupt a command in the foreground.
	(world_enter up) &
	wait $!
	trap - EXIT
}

world_up_failed() {
	local status=$?
	trap - EXIT
	echo "lab: up failed; the logs' last lines:" >&2
	tail -n 40 "$LAB"/{world,target}.log "$LAB"/nodes/*/console.log >&2 2>/dev/null
	world_down
	exit $((status ? status : 1))
}

# The world's process 1.
world_main() {
	local host_pid
	LAB=$1
	read -r host_pid _ </proc/self/stat # This /proc is still the host's.
	echo "$host_pid" >"$LAB/world.pid"
	conf_load
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t tmpfs -o mode=755 tmpfs /run
	# The luns' bytes: in memory they vanish with the world, on disk with $LAB.
	[ "$LAB_BACKING" = disk ] || mount -t tmpfs -o mode=755,size=100% tmpfs "$LAB/target"
	: >"$LAB/world.ready"
	idle
}

# What a namespace's process 1 does: nothing, and it reaps orphans (bash does).
idle() {
	while :; do
		sleep infinity &
		wait $!
	done
}

# world_enter VERB ARGUMENT...: this script's VERB again, inside the world. Whoever
# ends us ends the command in there too (pdeathsig).
world_enter() {
	local pid
	[ "$UID" = 0 ] || die "must be root"
	if ! read -r pid 2>/dev/null <"$LAB/world.pid" || ! process_is "$pid" __world "$LAB"; then
		die "no lab is up in $LAB"
	fi
	exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/root LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" FERRY_LAB_DIR="$LAB" \
		nsenter --target "$pid" --mount --net --ipc --pid -- \
		setpriv --pdeathsig KILL -- "$SELF" __inside "$@"
}

# Every process of this lab's world that the host can see as such: found by its
# command line, since a killed `up` may have left no pid file.
world_pids() {
	local dir
	for dir in /proc/[0-9]*; do
		if process_is "${dir#/proc/}" __world "$LAB"; then
			echo "${dir#/proc/}"
		fi
	done
}

world_gone() {
	[ -z "$(world_pids)" ]
}

# world_agents_end PID: agents die before the rest of the world. One that died last would unmount
# what lies on its own volume, and wait for itself. Only processes of that world can be seen there;
# the world's parent, still in our own namespace, is passed over.
world_agents_end() {
	[ "$(readlink "/proc/$1/ns/pid")" != "$(readlink /proc/self/ns/pid)" ] || return 0
	# shellcheck disable=SC2016 # The inner shell expands.
	nsenter -t "$1" -p -m -- sh -c '
		pkill -KILL -x ferryd || exit 0
		for _ in $(seq 100); do pgrep -x ferryd >/dev/null || exit 0; sleep 0.05; done' \
		2>/dev/null || true
}

world_down() {
	[ "$UID" = 0 ] || die "must be root"
	local pid pids
	pids=$(world_pids)
	for pid in $pids; do
		world_agents_end "$pid"
	done
	for pid in $pids; do
		kill -KILL "$pid" 2>/dev/null || true
	done
	wait_until 20 world_gone || die "processes $pids do not end"
	[ -e "$LAB/.ferry-lab" ] || return 0
	# Overlays keep their directories busy until the kernel has dropped the mounts.
	wait_until 20 rm -rf --one-file-system "$LAB" || die "can't remove $LAB"
}
