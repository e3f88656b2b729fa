/* Scenarios: a node is fenced from the pool. */
#include "tests/sim/scenario.h"

static bool fence_is_over(struct sim_cluster *self, void *context)
{
	return self->nodes[*(uint32_t *)context].node->fence_error <= 0;
}

static int fence(uint32_t by, uint32_t victim)
{
	struct sim_node *node = sim_cluster_node(&cluster, by);

	node->fence_error = 1;
	assert_int_equal(ferry_ownership_fence(&node->ownership, (struct ferry_node){victim}), 0);
	assert_true(sim_cluster_run_until(&cluster, fence_is_over, &by, 60 * FERRY_NS_PER_S));
	return node->fence_error;
}

static bool is_sure(uint32_t of, uint32_t victim)
{
	return ferry_ownership_is_fenced_for_sure(&sim_cluster_node(&cluster, of)->ownership,
						  (struct ferry_node){victim});
}

/* A standby, asked for by another standby: the owner does it, and goes on. */
static void test_fence_a_standby(void **state)
{
	uint64_t epoch;

	(void)state;
	begin(130, 3, 4);
	epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
	assert_false(is_sure(2, 3));
	assert_int_equal(fence(2, 3), 0);
	assert_true(is_sure(2, 3));
	assert_int_equal(cluster.lun.nexuses[3].key.v, 0);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 1);
	assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.nexuses[3].key.v, 0); /* And does not come back by itself. */
	assert_true(is_sure(1, 3));
	assert_int_equal(errors(), 0);
	sim_cluster_crash(&cluster, 3, /* is_power_cut= */ false);
	sim_cluster_start(&cluster, 3); /* Started anew, it does. */
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_false(is_sure(2, 3));
	end();
}

/* Node 1 stands still, for long. */
static void freeze_with_a_write_held(void)
{
	hold_a_write();
	sim_cluster_freeze(&cluster, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
}

/* The owner, frozen with a write at the target: nobody serves, and what it sent is dead. */
static void test_fence_the_owner(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(131, 3, 0);
	freeze_with_a_write_held();
	assert_int_equal(fence(2, 1), 0);
	assert_int_equal(cluster.lun.nexuses[1].key.v, 0);
	assert_int_equal(cluster.lun.stats.aborted, 1);
	assert_int_equal(sim_cluster_node(&cluster, 2)->ownership.view.owner.v, 0);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	sim_cluster_wake(&cluster, 1);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S); /* Its own I/O ends with an error. */
	assert_int_equal(do_io(2, FERRY_OP_WRITE, 8), 0);
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.nexuses[1].key.v, 0);
	assert_int_equal(do_io(2, FERRY_OP_READ, 8), 0);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	end();
}

/* Its registration goes at once, but a write of it hangs in the target: that proves nothing. */
static void test_fence_waits_for_the_write(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(133, 3, 0);
	cluster.lun.options.abort_waits = true;
	freeze_with_a_write_held();
	assert_int_not_equal(fence(2, 1), 0);
	assert_int_equal(cluster.lun.nexuses[1].key.v, 0);
	assert_false(is_sure(2, 1));
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(fence(2, 1), 0);
	assert_true(is_sure(2, 1));
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	end();
}

/* No path of the fencing node's: it cannot be verified, and is not said to be. */
static void test_fence_is_not_verified(void **state)
{
	(void)state;
	begin(132, 3, 0);
	sim_cluster_freeze(&cluster, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_lun_power(&cluster.lun, false);
	assert_int_equal(fence(2, 1), -ETIMEDOUT);
	assert_false(is_sure(2, 1));
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	end();
}

int scenario_fencing(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fence_a_standby),
		cmocka_unit_test(test_fence_the_owner),
		cmocka_unit_test(test_fence_waits_for_the_write),
		cmocka_unit_test(test_fence_is_not_verified),
	};

	return cmocka_run_group_tests_name("fencing", tests, NULL, NULL);
}
