/* Scenarios: two nodes, where the lun is the third voice. */
#include "tests/sim/scenario.h"

static void test_two_nodes_take_over(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(147, 2, 4);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	end();
}

/* Each believes the other dead, and both want the pool: one gets it, the other stops. */
static void test_two_nodes_apart(void **state)
{
	(void)state;
	for (uint64_t seed = 150; seed < 160; seed++) {
		uint32_t open_count = 0;

		begin(seed, 2, 4);
		sim_cluster_isolate(&cluster, 1);
		sim_cluster_run(&cluster,
				sim_below(&cluster.sim, SIM_CRASH, 2000) * FERRY_NS_PER_MS);
		sim_cluster_acquire(&cluster, 2);
		sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
		sim_cluster_acquire(&cluster, 1); /* Trying again does not help it. */
		sim_cluster_acquire(&cluster, 2);
		sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
		for (uint32_t i = 1; i <= 2; i++)
			open_count += sim_cluster_node(&cluster, i)->engine.router.is_open;
		assert_int_equal(open_count, 1);
		assert_true((cluster.lun.nexuses[1].key.v != 0) !=
			    (cluster.lun.nexuses[2].key.v != 0));
		end();
	}
}

static bool has_key_at_lun(struct sim_cluster *self, void *context)
{
	return self->lun.nexuses[*(uint32_t *)context].key.v != 0;
}

/*
 * A paused guest has lost the lun to the other, wakes, and registers by what it last heard: that
 * the other is there. When it then finds itself alone, that key is no proof of having won.
 */
static void test_two_nodes_wakes_alone(void **state)
{
	uint32_t one = 1;
	uint32_t two = 2;

	(void)state;
	for (uint64_t seed = 160; seed < 170; seed++) {
		begin(seed, 2, 4);
		sim_cluster_pause(&cluster, 2, SIM_FREEZE_GUEST);
		sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
		assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 10 * FERRY_NS_PER_S));
		assert_false(has_key_at_lun(&cluster, &two));
		sim_lun_reset_session(&cluster.lun, 2);
		sim_cluster_wake(&cluster, 2);
		sim_cluster_run(&cluster, 200 * FERRY_NS_PER_MS); /* Before the ring forms. */
		sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
		for (int i = 0; i < 20; i++) {
			sim_cluster_acquire(&cluster, 2);
			sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
			assert_false(sim_cluster_node(&cluster, 2)->engine.router.is_open);
		}
		end();
	}
}

int scenario_two_nodes(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_nodes_take_over),
		cmocka_unit_test(test_two_nodes_apart),
		cmocka_unit_test(test_two_nodes_wakes_alone),
	};

	return cmocka_run_group_tests_name("two nodes", tests, NULL, NULL);
}
