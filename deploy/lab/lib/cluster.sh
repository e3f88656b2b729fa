# shellcheck shell=bash
# cluster.sh - corosync, Pacemaker and the power switch for fencing.

# ---- configuration, made once, in the layer that all nodes see ----

cluster_configure() {
	local etc=$LAB/base/etc
	mkdir -p "$etc/corosync/uidgid.d"
	cluster_corosync_conf >"$etc/corosync/corosync.conf"
	# Without this, clients of corosync that aren't root are turned away.
	printf 'uidgid {\n\tgid: haclient\n}\n' >"$etc/corosync/uidgid.d/haclient"
	cluster_cib >"$LAB/cib.xml"
}

cluster_corosync_conf() {
	local name
	# token_coefficient 0: the token timeout is as set for any number of nodes. The
	# knet timers are long, so that a busy machine doesn't flap the only link. No
	# real-time scheduling: it needs a right that containers often lack.
	cat <<-END
		totem {
			version: 2
			cluster_name: lab
			transport: knet
			crypto_cipher: none
			crypto_hash: none
			token: $LAB_TOKEN
			token_coefficient: 0
			interface {
				linknumber: 0
				knet_ping_interval: 200
				knet_ping_timeout: 2000
			}
		}
		system {
			sched_rr: no
			move_to_root_cgroup: no
		}
		quorum {
			provider: corosync_votequorum
			$([ "$LAB_NODES" != 2 ] || echo "two_node: 1")
		}
		logging {
			to_stderr: no
			to_syslog: no
			to_logfile: yes
			logfile: /var/log/corosync/corosync.log
			timestamp: hires
		}
		nodelist {
	END
	for name in $(node_names); do
		printf '\tnode {\n\t\tname: %s\n\t\tnodeid: %s\n\t\tring0_addr: %s\n\t}\n' \
			"$name" "${name#n}" "$(network_address "$name" cluster)"
	done
	echo "}"
}

# The first CIB. dc-deadtime: otherwise the first election waits for 20 s. The old
# feature set lets any Pacemaker of version 2 take it and upgrade it.
cluster_cib() {
	local stonith=false
	[ "$LAB_FENCE" = no ] || stonith=true
	cat <<-END
		<cib crm_feature_set="3.0.14" validate-with="pacemaker-3.9"
			admin_epoch="0" epoch="1" num_updates="0">
		 <configuration>
		  <crm_config><cluster_property_set id="cib-bootstrap-options">
		   <nvpair id="opt-dc-deadtime" name="dc-deadtime" value="2s"/>
		   <nvpair id="opt-stonith" name="stonith-enabled" value="$stonith"/>
		  </cluster_property_set></crm_config>
		  <nodes/>
		  <resources>$([ "$LAB_FENCE" = no ] || cluster_fence_resource)</resources>
		  <constraints/>
		 </configuration>
		 <status/>
		</cib>
	END
}

cluster_fence_resource() {
	cat <<-END
		<primitive id="power" class="stonith" type="fence_lab">
			<instance_attributes id="power-attributes">
		 <nvpair id="power-socket" name="socket" value="$LAB/power.sock"/>
		 <nvpair id="power-hosts" name="pcmk_host_list" value="$(node_names | xargs)"/>
		</instance_attributes></primitive>
	END
}

# ---- the power switch: fence_lab (in a node) -> unix socket -> this -> lab kill ----

# A path names the same unix socket in every network namespace, so that no cut stops
# fencing, as with a management network of its own.
cluster_power_switch() {
	install -D -m 755 "$HERE/fence/fence_lab" "$LAB/base/usr/sbin/fence_lab"
	setsid python3 "$HERE/fence/power-switch" "$LAB/power.sock" "$SELF" \
		</dev/null >"$LAB/power.log" 2>&1 &
	wait_until 10 test -S "$LAB/power.sock" ||
		die "the power switch did not start, see $LAB/power.log"
}

# ---- inside a node ----

cluster_services() {
	[ "$LAB_COROSYNC" = yes ] || return 0
	install -d -m 755 /var/log/corosync /var/lib/corosync
	corosync || die "corosync failed" # It returns when it is ready.
	[ "$LAB_PACEMAKER" = yes ] || return 0
	install -d -m 750 -o hacluster -g haclient /run/crm \
		/var/lib/pacemaker{,/cib,/pengine,/blackbox,/cores}
	install -d -m 770 -o hacluster -g haclient /var/log/pacemaker
	[ -e /var/lib/pacemaker/cib/cib.xml ] ||
		install -m 600 -o hacluster -g haclient "$LAB/cib.xml" \
			/var/lib/pacemaker/cib/cib.xml
	PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_logfacility=none \
		setsid pacemakerd </dev/null >/var/log/pacemaker/pacemakerd.out 2>&1 &
}

# Orderly, within bounds: a shutdown may wait for a quorum that never comes.
cluster_halt() {
	local daemon pid
	for daemon in pacemakerd corosync; do
		pid=$(pidof "$daemon") || continue
		kill "$pid"
		wait_until 30 cluster_pid_gone "$pid" || echo "lab: $daemon does not stop" >&2
	done
}

cluster_pid_gone() {
	[ ! -e "/proc/$1" ]
}

# ---- who is a member ----

# The members' names as NODE sees them, one a line. A node that is off sees nothing.
cluster_members() {
	local pid
	pid=$(holder_pid "$1") || return 0
	[ "$LAB_COROSYNC" = yes ] || { echo "$1"; return 0; }
	node_run "$1" corosync-quorumtool -l 2>/dev/null |
		awk '$1 ~ /^[0-9]+$/ { print "n" $1 }' || true
}

# How many nodes NODE sees ready for work: members, and online for its Pacemaker.
cluster_ready_count() {
	if [ "$LAB_PACEMAKER" = yes ]; then
		node_run "$1" crm_mon --output-as=xml 2>/dev/null |
			grep -c \
			'<node name=.* online="true".* pending="false" unclean="false"' || true
	else
		cluster_members "$1" | wc -l
	fi
}

# cluster_wait [N [NODE]]
cluster_wait() {
	local want=${1:-} viewers=${2:-} name
	if [ -z "$viewers" ]; then
		for name in $(node_names); do
			! node_is_on "$name" || viewers+=" $name"
		done
	fi
	[ -n "$want" ] || want=$(wc -w <<<"$viewers")
	[ "$LAB_COROSYNC" = yes ] || return 0
	wait_until 60 cluster_all_see "$want" "$viewers" ||
		die "no agreement on $want members within 60 s"
}

cluster_all_see() {
	local name
	for name in $2; do
		[ "$(cluster_members "$name" | wc -l)" = "$1" ] || return 1
		[ "$(cluster_ready_count "$name")" = "$1" ] || return 1
	done
}
