#!/bin/bash
# rdma_cluster.sh - Ferry's main job over RDMA: vm2, vm3 and vm4 are a cluster whose agents have soft
# RoCE, vm1 is the target (see cluster.sh). vm2's way to storage is cut: peers carry its I/O by RDMA.
# RoCE is cut as well: it goes on by TCP. RoCE comes back, and carries again; then the way to storage.
. "$(dirname "$0")/lib.sh"
. "$HERE/nodes.sh"

# Nobody's RoCE passes. The agents know of it by silence.
rdma_cut()
{
	nft -f - <<-END || fail "no packet filter"
		table bridge roce {
			chain forward {
				type filter hook forward priority 0
				udp dport 4791 drop
			}
		}
	END
}

rdma_heal()
{
	nft delete table bridge roce
}

# all_by N TRANSPORT
all_by()
{
	is "$1" peers "(.peers | length) == 2 and all(.peers[]; .link == \"up\" and .transport == \"$2\")"
}

# How much vm2's device has sent.
packets()
{
	guest_do 2 'cat /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts'
}

ios_at_least()
{
	is 2 status ".pools[0].ios >= $1"
}

detours_at_least()
{
	is 2 status ".pools[0].detours >= $1"
}

detours_go_on()
{
	wait_for 240 "detours go on" detours_at_least $(($(ask 2 status '.pools[0].detours') + ${1:-200}))
	guest_ended 2 "$APP" && fail "fio: $(guest_result 2 "$APP")"
}

show_peers()
{
	ask "$1" peers '.peers[] | "\(.name): \(.transport) \(.not_rdma), it carried \(.carried_by_it) I/Os;" +
		" \(.rdma.bytes_moved) bytes by RDMA, \(.rdma.bytes_copied) copied"' |
		sed "s/^/    vm$1: /"
}

UBLK=yes
RDMA=yes
nodes_up
for n in 2 3 4; do
	wait_for 120 "vm$n reaches its peers by RDMA" all_by $n rdma
done
guest_must 2 "ferry acquire data" >/dev/null
wait_for 240 "vm2 serves the pool" is 2 status '.pools[0].state == "serving"'
guest_must 2 'modprobe ublk_drv && [ "$(ferry attach data)" = /dev/ublkb0 ] &&
	mke2fs -q -t ext4 /dev/ublkb0 && mount /dev/ublkb0 /mnt' >/dev/null
guest_begin 2 "fio --name=app --directory=/mnt --size=16m --rw=randrw --bsrange=4k-64k --ioengine=libaio \
	--iodepth=8 --direct=1 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --fsync=32 \
	--time_based --runtime=1800 --trigger-file=/run/app.stop --minimal"
APP=$JOB
wait_for 240 "I/O" ios_at_least 200
passed "three agents reach each other by RDMA; ext4 on ublk in vm2, fio verifies there ($SECONDS s)"

CUT_AT=$(now)
guests_cut 1 2
wait_for 240 "detours" is 2 status '.pools[0].detours > 0'
note "the first detour $(since "$CUT_AT") s after the cut (path_timeout: 5 s)"
SENT=$(packets)
detours_go_on 300
all_by 2 rdma || fail "not by RDMA: $(ask 2 peers .)"
is 2 paths 'all(.paths[] | select(.kind == "peer"); .transport == "rdma")' || fail "$(ask 2 paths .)"
SENT=$(($(packets) - SENT))
[ "$SENT" -gt 300 ] || fail "only $SENT packets by RoCE"
for n in 2 3 4; do
	show_peers $n
done
# Who is asked moves the data: out of vm2's memory, and into it.
for n in 3 4; do
	is $n peers 'any(.peers[]; .node == 2 and .rdma.bytes_moved > 1000000)' || fail "vm$n: $(ask $n peers .)"
done
passed "vm2's way to storage is cut: I/O goes by peers over RDMA, $SENT packets, verified ($SECONDS s)"

CUT_AT=$(now)
rdma_cut
wait_for 240 "all goes by TCP" all_by 2 tcp
note "by TCP $(since "$CUT_AT") s after RoCE was cut"
show_peers 2
is 2 peers 'all(.peers[]; .not_rdma | startswith("rdma: "))' || fail "it does not say why: $(ask 2 peers .)"
detours_go_on
all_by 2 tcp || fail "not by TCP: $(ask 2 peers .)"
wait_for 240 "all ghosts are laid" is 2 status '.pools[0].ghosts_alive == 0'
passed "RoCE is cut as well: it goes on by TCP, and says why ($SECONDS s)"

HEALED_AT=$(now)
rdma_heal
wait_for 240 "RDMA carries again" all_by 2 rdma
note "by RDMA $(since "$HEALED_AT") s after RoCE came back"
SENT=$(packets)
detours_go_on
SENT=$(($(packets) - SENT))
[ "$SENT" -gt 200 ] || fail "only $SENT packets by RoCE"
for n in 3 4; do
	wait_for 120 "vm$n reaches its peers by RDMA" all_by $n rdma
done
passed "RoCE is back, and carries again: $SENT packets ($SECONDS s)"

guests_heal
wait_for 240 "the path is trusted again" is 2 status '.pools[0].health | . == "healthy" or
	. == "probation"'
guest_must 2 'touch /run/app.stop'
guest_result 2 "$APP" >"$WORK/fio" || fail "fio: $(cat "$WORK/fio")"
grep -q 'verify: bad' "$WORK/fio" && fail "fio: $(cat "$WORK/fio")"
note "$(ask 2 status '.pools[0] | "\(.ios) I/Os, \(.detours) detours, \(.failures) failures"')"
is 2 status '.pools[0].failures == 0' || fail "the application saw errors"
guest_must 2 'umount /mnt && e2fsck -fn /dev/ublkb0 && ferry detach data' >/dev/null
passed "the way to storage is back; fio saw no error and no wrong byte ($SECONDS s)"

# --- A device is taken away (the command ends when the agent does: soft RoCE waits for its users).
guest_begin 4 'rdma link delete rxe0'
wait_for 120 "vm4 goes by TCP" all_by 4 tcp
is 4 peers 'all(.peers[]; .not_rdma | startswith("rdma: "))' || fail "it does not say why: $(ask 4 peers .)"
is 2 peers '[.peers[] | {name, transport}] == [{name: "vm3", transport: "rdma"}, {name: "vm4", transport: "tcp"}]' ||
	fail "vm2: $(ask 2 peers .)"
passed "vm4's device is taken away: its agent goes on by TCP, the others by RDMA ($SECONDS s)"
agents_end 2 3 4
passed "the agents have ended, and none complained, nor a kernel ($SECONDS s)"
