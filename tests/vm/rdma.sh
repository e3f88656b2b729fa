#!/bin/bash
# rdma.sh - the link port over RDMA in a guest: soft RoCE on its network card. The two agents of each
# test of adapters/verbs live in that guest, and speak to each other through the device.
#
# What is counted is what counts; an emulated machine's times say nothing.
#
#     rdma.sh [TEST...]         of breach, connect, memory, message; without: all
. "$(dirname "$0")/lib.sh"

[ $# -gt 0 ] || set -- breach connect memory message

# What the tests are linked with and the guest's image has not.
mkdir "$HOST/lib"
cp "$(ldd "$BUILD/tests/verbs_$1_test" | awk '/libcmocka/ { print $3 }')" "$HOST/lib/" ||
	fail "no cmocka, or the tests are not built"

guest_start 1
guest_up 1
guest_must 1 "modprobe -a rdma_rxe rdma_ucm ib_uverbs && rdma link add rxe0 type rxe netdev eth0 &&
	udevadm settle && ibv_devinfo -v | grep -E 'hca_id|MEM_WINDOW_TYPE'"
for name in "$@"; do
	guest_must 1 "LD_LIBRARY_PATH=/host/lib FERRY_RDMA_ADDRESS=10.99.0.1 \
		/ferry/tests/verbs_${name}_test"
	passed "verbs_${name}_test, by soft RoCE"
done
