/* Scenarios: all of them, and the simulator itself. */
#include "tests/sim/scenario.h"

static void test_same_seed_same_trace(void **state)
{
	const struct sim_chaos_options options = {0};

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct sim_result first;
		struct sim_result second;

		sim_chaos_run(seed, &options, &first);
		sim_chaos_run(seed, &options, &second);
		assert_int_equal(first.exit_code, second.exit_code);
		assert_true(first.trace_hash == second.trace_hash);
		assert_true(first.steps == second.steps && first.steps > 1000);
	}
}

/* What long runs have found. */
static void test_seeds_of_old(void **state)
{
	static const uint64_t seeds[] = {426, 603, 687, 1398, 1830, 2162, 2493};
	const struct sim_chaos_options options = {0};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(seeds); i++) {
		struct sim_result result;

		sim_chaos_run(seeds[i], &options, &result);
		if (result.exit_code != 0)
			fail_msg("seed %u: %s", (unsigned int)seeds[i], result.what);
	}
}

/* Timeouts taken for failures: the oldest mistake of all. It must not stay hidden. */
static void test_canary_timeouts_as_failures(void **state)
{
	const struct sim_chaos_options options = {.takes_timeouts_as_failures = true};
	bool is_caught = false;

	(void)state;
	for (uint64_t seed = 1; seed <= 60 && !is_caught; seed++) {
		struct sim_result result;

		sim_chaos_run(seed, &options, &result);
		is_caught = result.exit_code == SIM_EXIT_WRONG;
	}
	assert_true(is_caught);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_seed_same_trace),
		cmocka_unit_test(test_seeds_of_old),
		cmocka_unit_test(test_canary_timeouts_as_failures),
	};
	int failed = 0;

	failed += scenario_paths();
	failed += scenario_ghosts();
	failed += scenario_flush();
	failed += scenario_peers();
	failed += scenario_owners();
	failed += scenario_fencing();
	failed += scenario_rdma();
	failed += scenario_restarts();
	failed += scenario_targets();
	failed += scenario_two_nodes();
	failed += scenario_power();
	failed += scenario_wishes();
	failed += scenario_aborts();
	failed += cmocka_run_group_tests_name("the simulator", tests, NULL, NULL);
	return failed;
}
