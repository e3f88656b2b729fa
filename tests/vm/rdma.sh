#!/bin/bash
# rdma.sh - the link port over RDMA in a guest of its own: soft RoCE on its network card. verbs_test's
# two agents both live in it, and speak to each other through the device.
#
# What is counted is what counts; an emulated machine's times say nothing.
#
#     rdma.sh ['PATTERN']       only the tests whose names match
. "$(dirname "$0")/lib.sh"

# What the test is linked with and the guest's image has not.
mkdir "$HOST/lib"
cp "$(ldd "$BUILD/tests/verbs_test" | awk '/libcmocka/ { print $3 }')" "$HOST/lib/" ||
	fail "no cmocka, or verbs_test is not built"

guest_start 1
guest_up 1
guest_must 1 "modprobe -a rdma_rxe rdma_ucm ib_uverbs && rdma link add rxe0 type rxe netdev eth0 &&
	ibv_devinfo -v | grep -E 'hca_id|port_state|max_mw:|MEM_WINDOW_TYPE'"
guest_must 1 "udevadm settle; ls /dev/infiniband; ulimit -l unlimited
	LD_LIBRARY_PATH=/host/lib FERRY_RDMA_ADDRESS=10.99.0.1 /ferry/tests/verbs_test '${1:-*}'"
passed "verbs_test, by soft RoCE"
