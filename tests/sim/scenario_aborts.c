/* Scenarios: aborts that take their time. */
#include "tests/sim/scenario.h"

/*
 * Three agents are stopped and do not drain in time. When they go on they drain and, preempted, are
 * back long before the next abort is answered: the taker has its due all the same.
 */
static void test_preempted_come_back(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(130, 7, 0);
	cluster.lun.options.abort_slow_ns_max = 1500 * FERRY_NS_PER_MS;
	for (uint32_t i = 3; i <= 5; i++) /* Their paths are on trial then, and probed. */
		sim_lun_reset_session(&cluster.lun, i);
	sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
	for (uint32_t i = 3; i <= 5; i++)
		sim_cluster_pause(&cluster, i, SIM_FREEZE_AGENT);
	sim_cluster_acquire(&cluster, 2);
	sim_cluster_run(&cluster, 1100 * FERRY_NS_PER_MS);
	for (uint32_t i = 3; i <= 5; i++)
		sim_cluster_wake(&cluster, i);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	assert_true(cluster.lun.stats.preempts > 3);  /* They were back... */
	assert_true(cluster.lun.stats.preempts <= 6); /* ...and went once more, by name. */
	end();
}

int scenario_aborts(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_preempted_come_back),
	};

	return cmocka_run_group_tests_name("aborts", tests, NULL, NULL);
}
