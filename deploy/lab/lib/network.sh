# shellcheck shell=bash
# network.sh - two switches, the cables to them, and cuts.
#
# The world's network namespace holds two bridges, "cluster" (10.99.0.0/24) and
# "storage" (10.98.0.0/24). Somebody's cable to a bridge is NAME-BRIDGE at the bridge
# and BRIDGE in NAME. All faults are made in the switch: the nodes have no part in
# them and can't tell them from the real thing.

network_make() {
	local bridge
	ip link set dev lo up
	for bridge in cluster storage; do
		ip link add name "$bridge" type bridge # Without STP it forwards at once.
		sysctl -qw "net.ipv6.conf.$bridge.disable_ipv6=1"
		ip link set dev "$bridge" up
	done
	mkdir -p "$LAB/base/etc"
	{
		echo "127.0.0.1 localhost"
		local name
		for name in $(node_names) client; do
			echo "$(network_address "$name" cluster) $name"
		done
		echo "10.98.0.254 st"
	} >"$LAB/base/etc/hosts"
	mount --bind "$LAB/base/etc/hosts" /etc/hosts # For client and st; nodes have their own.
}

# network_address NAME BRIDGE
network_address() {
	local net=10.99.0
	[ "$2" = cluster ] || net=10.98.0
	case $1 in
	client) echo "$net.253" ;;
	st) echo "$net.254" ;;
	admin) echo "$net.252" ;;
	*) echo "$net.${1#n}" ;;
	esac
}

# network_plug NAME BRIDGE [PORT]: a cable from the switch to NAME's namespace.
# There TCP's congestion control is the one that every kernel lets a namespace choose, whatever the
# host prefers: BBR paces by its own guess, and where a round trip takes microseconds it guesses
# wrong: tgtd stood still for 30 to 50 ms at a time, a MiB unsent and nothing on its way.
network_plug() {
	local name=$1 bridge=$2 port=${3:-$1} pid
	pid=$(holder_pid "$name") || die "$name is off"
	ip link add name "$port-$bridge" type veth peer name "$bridge" netns "$pid"
	ip link set dev "$port-$bridge" master "$bridge" up
	nsenter --target "$pid" --net sh -c "
		ip link set dev lo up
		sysctl -qw net.ipv6.conf.$bridge.disable_ipv6=1
		sysctl -qw net.ipv4.tcp_congestion_control=reno
		ip addr add $(network_address "$port" "$bridge")/24 dev $bridge
		ip link set dev $bridge up"
}

network_unplug() {
	ip link del dev "$1-cluster" 2>/dev/null || true
	ip link del dev "$1-storage" 2>/dev/null || true
}

# ---- cuts: $LAB/cuts has one per line, "NODE BRIDGE PEER|- both|in|out|reset" ----

network_cut() {
	local node=${1:?NODE} bridge=${2:-} peer=- how=both word
	node_known "$node"
	[[ $bridge =~ ^(storage|cluster)$ ]] || die "cut: storage or cluster?"
	shift 2
	for word in "$@"; do
		case $word in
		--in | --out | --reset) how=${word#--} ;;
		st | client | n[0-9]*) peer=$word ;;
		*) die "cut: what is $word?" ;;
		esac
	done
	[ "$how" != reset ] || network_break "$node" "$bridge" "$peer"
	with_lock cuts network_change add "$node" "$bridge" "$peer" "$how"
	# Once more, for what was made or sent between the two steps above.
	[ "$how" != reset ] || network_break "$node" "$bridge" "$peer"
}

network_heal() {
	node_known "${1:?NODE}"
	with_lock cuts network_change heal "$1" "${2:-}"
}

# Change the list of cuts, then install all of it in one transaction.
network_change() {
	local act=$1 node=${2:-} bridge=${3:-}
	shift
	case $act in
	add) grep -qxF "$*" "$LAB/cuts" || echo "$*" >>"$LAB/cuts" ;;
	heal) sed -i "/^$node ${bridge:-[a-z]*} /d" "$LAB/cuts" ;;
	apply) ;;
	esac
	nft -f - <<-END
		table bridge lab
		delete table bridge lab
		table bridge lab {
			chain forward {
				type filter hook forward priority 0;
				$(network_drops)
			}
		}
		table netdev lab
		delete table netdev lab
		$(network_resets storage)
		$(network_resets cluster)
	END
}

network_drops() {
	local node bridge peer how
	while read -r node bridge peer how; do
		local from="iifname \"$node-$bridge\"" to="oifname \"$node-$bridge\""
		if [ "$peer" != - ]; then
			from+=" oifname \"$peer-$bridge\"" to+=" iifname \"$peer-$bridge\""
		fi
		case $how in both | out) echo "$from drop" ;; esac
		case $how in both | in) echo "$to drop" ;; esac
	done <"$LAB/cuts"
}

# A bridge can't send resets on every kernel, its ports can: at a port's ingress.
network_resets() {
	local port ports=() node bridge peer how rules=''
	for port in /sys/class/net/*-"$1"; do
		[ ! -e "$port" ] || ports+=("\"${port##*/}\"")
	done
	while read -r node bridge peer how; do
		[ "$how $bridge" = "reset $1" ] || continue
		local from="iifname \"$node-$bridge\"" to=''
		if [ "$peer" != - ]; then
			from+=" ip daddr $(network_address "$peer" "$bridge")"
			to="iifname \"$peer-$bridge\""
		fi
		to+=" ip daddr $(network_address "$node" "$bridge")"
		rules+="$from meta l4proto tcp reject with tcp reset"$'\n'
		rules+="$to meta l4proto tcp reject with tcp reset"$'\n'
	done <"$LAB/cuts"
	[ -n "$rules" ] && [ ${#ports[@]} -gt 0 ] || return 0
	local IFS=,
	cat <<-END
		table netdev lab {
			chain $1 {
				type filter hook ingress devices = { ${ports[*]} } priority 0;
				$rules
			}
		}
	END
}

# Reset the connections that exist, idle ones too. A killed socket sends a reset to
# the other end and itself ends with ECONNABORTED; so the far ends go first, and NODE
# sees the real thing. (It kills what is left itself: LIO's sockets are out of reach.)
network_break() {
	local node=$1 bridge=$2 peer=$3 address far
	address=$(network_address "$node" "$bridge")
	local from=() to=()
	if [ "$peer" != - ]; then
		from=(src "$(network_address "$peer" "$bridge")")
		to=(dst "$(network_address "$peer" "$bridge")")
	fi
	for far in st client $(node_names); do
		network_kill_sockets "$far" dst "$address" "${from[@]}"
	done
	network_kill_sockets "$node" src "$address" "${to[@]}"
}

network_kill_sockets() {
	local pid
	pid=$(holder_pid "$1") || return 0
	shift
	nsenter --target "$pid" --net ss --no-header --tcp --kill "$@" >/dev/null || true
}
