#!/bin/bash
# corosync_test.sh TEST: runs TEST beside a corosync of its own: one node, in its own network,
# mount, process and IPC namespaces, all of which end with their first process.
set -u
test=$(readlink -f "$1")
command -v corosync >/dev/null || { echo 'skipped: corosync is not installed'; exit 77; }
[ "$(id -u)" = 0 ] || { echo 'skipped: namespaces want root'; exit 77; }
if [ "${2:-}" != inside ]; then
	exec timeout -k 5 100 unshare -m -n -p -u -i --mount-proc --fork --kill-child -- \
		"$0" "$test" inside
fi

set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=32m tmpfs /run
mount -t tmpfs -o mode=1777,size=256m tmpfs /dev/shm
mount -t tmpfs -o mode=755,size=32m tmpfs /var/lib/corosync
mount -t tmpfs -o mode=755,size=32m tmpfs /var/log
mkdir -p /var/log/corosync /run/corosync-test
mount -t tmpfs -o mode=755,size=1m tmpfs /etc/corosync
ip link set lo up
cat >/etc/corosync/corosync.conf <<'C'
totem {
    version: 2
    cluster_name: alone
    transport: knet
    crypto_cipher: none
    crypto_hash: none
    token: 1000
}
system {
    sched_rr: no
    move_to_root_cgroup: no
}
quorum {
    provider: corosync_votequorum
    expected_votes: 1
}
logging {
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: /var/log/corosync/corosync.log
}
nodelist {
    node {
        name: first
        nodeid: 7
        ring0_addr: 127.0.0.1
    }
}
C
set +e
"$test" alone # Starts and stops corosync itself, by name: it is alone in this process namespace.
code=$?
[ $code = 0 ] || tail -20 /var/log/corosync/corosync.log
exit $code
