/* Scenarios: what a path does wrong, and what all paths do. */
#include "tests/sim/scenario.h"

static void test_black_hole(void **state)
{
	(void)state;
	begin(101, 3, 8);
	sim_lun_cut(&cluster.lun, 1);
	sim_cluster_run(&cluster, 20 * FERRY_NS_PER_S);
	assert_int_equal(errors(), 0);
	assert_true(stats(1)->ghosts_made > 0);
	assert_int_equal(stats(1)->ghosts_laid_abort, stats(1)->ghosts_made);
	assert_true(stats(1)->detours > 500);
	assert_int_equal(lane_state(1), FERRY_LANE_CONVICTED);
	assert_int_equal(sim_cluster_node(&cluster, 1)->convictions, 1);
	/* The path's timeout, then an abort and a retry. */
	assert_true(stats(1)->latency_ns_max <
		    cluster.options.path_timeout_ns + 500 * FERRY_NS_PER_MS);
	sim_lun_heal(&cluster.lun, 1);
	sim_cluster_run(&cluster, 70 * FERRY_NS_PER_S);
	assert_int_equal(lane_state(1), FERRY_LANE_HEALTHY);
	assert_int_equal(errors(), 0);
	end();
}

static void test_reset(void **state)
{
	(void)state;
	begin(102, 3, 6);
	cluster.workload.latency_ns_max = 0;
	/* Until one meets a write that is on its way, and ten times in any case. */
	for (int i = 0; i < 10 || (i < 100 && stats(1)->ghosts_made == 0); i++) {
		sim_lun_reset_session(&cluster.lun, 1);
		sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
	}
	assert_int_equal(errors(), 0);
	assert_true(stats(1)->ghosts_made > 0);
	assert_int_equal(stats(1)->ghosts_laid_abort, stats(1)->ghosts_made);
	assert_true(cluster.workload.latency_ns_max < 500 * FERRY_NS_PER_MS);
	end();
}

static void test_all_paths_lost(void **state)
{
	(void)state;
	begin(106, 3, 0);
	for (uint32_t i = 1; i <= 3; i++)
		sim_lun_cut(&cluster.lun, i);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), -ETIMEDOUT);
	assert_int_equal(do_io(1, FERRY_OP_READ, 0), -ETIMEDOUT);
	assert_true(sim_cluster_node(&cluster, 1)->events_seen[FERRY_EVENT_HOLD] > 0);
	for (uint32_t i = 1; i <= 3; i++)
		sim_lun_heal(&cluster.lun, i);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	end();
}

static void test_lun_fails(void **state)
{
	(void)state;
	begin(107, 3, 2);
	sim_lun_power(&cluster.lun, false);
	sim_cluster_run(&cluster, 30 * FERRY_NS_PER_S);
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(sim_cluster_node(&cluster, i)->convictions, 0);
		assert_int_equal(sim_cluster_node(&cluster, i)->engine.router.tracker.verdict,
				 FERRY_VERDICT_NONE);
	}
	assert_int_equal(sim_cluster_owner(&cluster)->id, 1); /* Nothing moves. */
	end();
}

int scenario_paths(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_black_hole),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_all_paths_lost),
		cmocka_unit_test(test_lun_fails),
	};

	return cmocka_run_group_tests_name("paths", tests, NULL, NULL);
}
