#!/bin/bash
# rdma_counts.sh - what one detoured I/O costs on each side, counted: vm2's way to storage is cut, vm3
# carries for it by RDMA, one I/O at a time; figures are the agents' own (`ferry peers`) and the kernel's
# (guest-count), before and after. vm4 is there for the quorum alone. Times are shown beside perftest's
# in the same guests: as ratios they may say something, by themselves nothing.
#
#     rdma_counts.sh [N]        N I/Os of each kind; rdma_counts.py says what must hold
. "$(dirname "$0")/lib.sh"
. "$HERE/nodes.sh"

COUNT=${1:-400}
COUNTS=$WORK/counts
UBLK=yes
RDMA=yes
CACHE=0 # Reads that no path carries are not what is counted.
DEVICE=/dev/ublkb0

by_rdma()
{
	is 2 peers 'any(.peers[]; .node == 3 and .transport == "rdma")'
}

vm3_alone()
{
	is 2 status '.members == [2, 3] and .quorate' && is 2 peers 'any(.peers[]; .node == 4 and .link != "up")'
}

steady()
{
	is 2 status '.pools[0] | .state == "serving" and .ghosts_alive == 0 and .detours > 0'
}

figures()
{
	ask 2 status '{detours: .pools[0].detours, ios: .pools[0].ios}' >"$COUNTS/$1.ios"
	ask 2 peers '.peers[] | select(.node == 3) | .rdma' >"$COUNTS/$1.asker"
	ask 3 peers '.peers[] | select(.node == 2) | .rdma' >"$COUNTS/$1.server"
}

# load NAME OPERATION SIZE [option...]: fio's JSON.
load()
{
	guest_must 2 "fio --name=x --filename=$DEVICE --direct=1 --ioengine=psync --rw=rand$2 --bs=$3 \
		--size=32m --randseed=1 --output-format=json ${*:4}" >"$COUNTS/$1.fio"
}

# counted OPERATION SIZE
counted()
{
	local name=detour.$1.$2 n

	figures "$name.before"
	for n in 2 3; do
		guest_must $n '/host/guest-count begin' >"$WORK/out"
	done
	load "$name" "$1" "$2" "--number_ios=$COUNT"
	guest_must 2 '/host/guest-count end' >"$COUNTS/$name.asker.calls"
	guest_must 3 '/host/guest-count end' >"$COUNTS/$name.server.calls"
	figures "$name.after"
}

# perftest PROGRAM SIZE: its last line of figures; vm3 asks, as it does for a WRITE's data.
perftest()
{
	guest_begin 2 "$1 -d rxe0 -F -s $2 -n 500"
	within 60 guest_do 2 'ss -ltn | grep -q :18515' || fail "$1 does not listen"
	guest_must 3 "$1 -d rxe0 -F -s $2 -n 500 10.99.0.2" | awk -v s="$2" '$1 == s' >"$COUNTS/$1.$2"
	guest_result 2 "$JOB" >"$WORK/out"
	[ -s "$COUNTS/$1.$2" ] || fail "$1: $(cat "$WORK/out")"
}

mkdir "$COUNTS"
cp "$HERE/guest-count" "$HOST"
nodes_up
for n in 2 3; do
	wait_for 120 "vm$n reaches vm3 or vm2 by RDMA" is $n peers '[.peers[].transport] | index("rdma") != null'
done
guest_must 2 "ferry acquire data" >"$WORK/out"
wait_for 240 "vm2 serves the pool" is 2 status '.pools[0].state == "serving"'
guest_must 2 "modprobe ublk_drv && [ \"\$(ferry attach data)\" = $DEVICE ]" >"$WORK/out"
agent_stop 4
wait_for 120 "vm4's agent has left" vm3_alone
wait_for 120 "vm2 reaches vm3 by RDMA" by_rdma
for size in 4k 64k; do
	for operation in read write; do
		load local.$operation.$size $operation $size "--number_ios=$COUNT"
	done
done
note "by its own path: done ($SECONDS s)"

guests_cut 1 2
guest_must 2 "dd if=/dev/zero of=$DEVICE bs=4k count=1 oflag=direct 2>&1" >"$WORK/out"
wait_for 240 "detours, and no ghosts" steady
by_rdma || fail "not by RDMA: $(ask 2 peers .)"
for size in 4k 64k; do
	for operation in read write; do
		counted $operation $size
		note "$operation $size, $COUNT of it: counted ($SECONDS s)"
	done
done
for operation in read write; do
	load depth.$operation.64k $operation 64k --number_ios=$COUNT --ioengine=libaio --iodepth=8
done
perftest ib_read_lat 4096
perftest ib_read_lat 65536
perftest ib_write_bw 65536
by_rdma || fail "no longer by RDMA: $(ask 2 peers .)"
"$HERE/rdma_counts.py" "$COUNTS" || fail "it costs more than it may"
passed "what a detoured I/O costs is what it may ($SECONDS s)"
guest_must 2 'ferry detach data' >"$WORK/out"
agents_end 2 3
