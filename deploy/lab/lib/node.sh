# shellcheck shell=bash
# node.sh - namespaces that can be entered, and those that are whole nodes.
#
# A holder is a process that keeps namespaces: "st" and "client" have a network of
# their own, n1..nN have network, mounts, processes, hostname and IPC. To end a
# node's process 1 is a clean power cut: the kernel ends the rest at once.

node_names() {
	local i
	for ((i = 1; i <= LAB_NODES; i++)); do
		echo "n$i"
	done
}

node_known() {
	node_names | grep -xF -- "$1" >/dev/null || die "no node $1 here"
}

# ------------------------------------------------------------------ holders ----

# holder_start NAME UNSHARE-OPTION...
holder_start() {
	local name=$1 dir=$LAB/nodes/$1
	shift
	mkdir -p "$dir"
	rm -f "$dir"/{pid,wired,ready}
	setsid unshare "$@" --fork --kill-child -- "$SELF" __holder "$name" "$LAB" \
		</dev/null >>"$dir/console.log" 2>&1 9>&- &
	disown # Its end is no news for this shell.
	wait_until 10 holder_pid "$name" >/dev/null || die "$name did not start"
}

# The process that holds NAME's namespaces, if it is on.
holder_pid() {
	local pid
	read -r pid 2>/dev/null <"$LAB/nodes/$1/pid" || return 1
	process_is "$pid" __holder "$1" "$LAB" || return 1
	echo "$pid"
}

holder_main() {
	local name=$1 pid
	read -r pid _ </proc/self/stat # This /proc is still the world's.
	echo "$pid" >"$LAB/nodes/$name/pid.new"
	mv "$LAB/nodes/$name/pid.new" "$LAB/nodes/$name/pid"
	case $name in n[0-9]*) node_main "$name" ;; esac
	idle
}

# node_exec NAME CMD...: never returns.
node_exec() {
	local name=${1:?NODE} pid
	shift
	[ $# -gt 0 ] || set -- bash
	pid=$(holder_pid "$name") || die "$name is off"
	case $name in
	n[0-9]*) set -- --mount --net --pid --uts --ipc -- setpriv --pdeathsig KILL -- "$@" ;;
	*) set -- --net -- "$@" ;;
	esac
	export TGT_IPC_SOCKET=$LAB/target/tgtd.ipc # So that tgtadm works in st.
	exec nsenter --target "$pid" "$@"
}

# The same, but it returns.
node_run() {
	(node_exec "$@")
}

# -------------------------------------------------------------------- power ----

node_is_on() {
	holder_pid "$1" >/dev/null
}

node_boot() {
	with_lock "$1" node_boot_locked "$1"
}

node_boot_locked() {
	local name=$1
	! node_is_on "$name" || return 0
	holder_start "$name" --mount --net --pid --uts --ipc
	network_plug "$name" cluster
	network_plug "$name" storage
	with_lock cuts network_change apply # A cut outlives a power cycle.
	: >"$LAB/nodes/$name/wired"
	wait_until 60 node_booted_or_off "$name" ||
		die "$name hangs, see $LAB/nodes/$name/console.log"
	[ -e "$LAB/nodes/$name/ready" ] || die "$name failed, see $LAB/nodes/$name/console.log"
}

node_booted_or_off() {
	[ -e "$LAB/nodes/$1/ready" ] || ! node_is_on "$1"
}

node_kill() {
	with_lock "$1" node_kill_locked "$1"
}

node_kill_locked() {
	local pid
	if pid=$(holder_pid "$1"); then
		kill -KILL "$pid"
		wait_until 20 node_is_off "$1" || die "$1 does not end"
	fi
	network_unplug "$1"
}

node_is_off() {
	! node_is_on "$1"
}

node_stop() {
	local name=$1
	! node_is_on "$name" || node_run "$name" "$SELF" __halt || true
	node_kill "$name"
}

# ------------------------------------------------------- inside a node, as pid 1 ----

node_main() {
	local name=$1 dir=$LAB/nodes/$1
	node_mounts "$name" "$dir"
	wait_until 20 test -e "$dir/wired" || die "$name: no cable"
	cluster_services
	: >"$dir/ready"
}

# Its own disk: what a node writes under these stays its own and outlives its power.
# Lowest is the host, then what the lab makes for all nodes, then $LAB/inject.
node_mounts() {
	local name=$1 dir=$2 top path
	mount --make-rprivate /
	for top in etc usr var root; do
		mkdir -p "$dir/disk/$top" "$dir/work/$top"
		mount -t overlay "$name-$top" "/$top" -o \
			"lowerdir=$LAB/inject/$top:$LAB/base/$top:/$top"\
",upperdir=$dir/disk/$top,workdir=$dir/work/$top"
	done
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t tmpfs -o mode=755,size=256m tmpfs /run
	mount -t tmpfs -o mode=1777,size=1g tmpfs /dev/shm # Corosync's rings and PostgreSQL's.
	# Pacemaker's "panic" would reboot the host.
	for path in /proc/sysrq-trigger /dev/watchdog /dev/watchdog[0-9]*; do
		[ ! -e "$path" ] || mount --bind /dev/null "$path"
	done
	echo "$name" >/proc/sys/kernel/hostname
	install -d -m 755 /run/lock /run/resource-agents
	if id postgres >/dev/null 2>&1; then
		install -d -m 2775 -o postgres -g postgres /run/postgresql
	fi
}
