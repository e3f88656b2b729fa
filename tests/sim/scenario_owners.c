/* Scenarios: an owner dies, stands still, moves. */
#include "tests/sim/scenario.h"

static void test_owner_crashes(void **state)
{
	uint32_t two = 2;
	uint64_t epoch;

	(void)state;
	begin(111, 3, 4);
	epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
	sim_lun_hold(&cluster.lun, 1, 4);
	sim_cluster_run(&cluster, 50 * FERRY_NS_PER_MS);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
	assert_true(cluster.lun.stats.aborted > 0); /* What node 1 left in the queue. */
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	end();
}

/*
 * Who preempts the dead owner dies itself before the target's queue is empty: the key is gone, the
 * write is not, and the node that left it is back and has drained.
 */
static void test_preempter_crashes(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(119, 3, 0);
	cluster.lun.options.preempt_waits = true;
	hold_a_write();
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 3);
	sim_cluster_run(&cluster, 2500 * FERRY_NS_PER_MS);
	assert_int_equal(cluster.lun.stats.preempts, 1);
	sim_cluster_crash(&cluster, 3, /* is_power_cut= */ true);
	sim_cluster_start(&cluster, 1);
	sim_cluster_start(&cluster, 3);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	assert_int_equal(do_io(2, FERRY_OP_WRITE, 8), 0);
	end();
}

static void test_owner_is_cut_off(void **state)
{
	uint32_t two = 2;
	uint64_t carried;

	(void)state;
	begin(112, 3, 4);
	sim_cluster_isolate(&cluster, 1);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	carried = stats(1)->reads + stats(1)->writes;
	cluster.workload.strays_per_mille = 50;
	sim_cluster_run(&cluster, 20 * FERRY_NS_PER_S);
	cluster.workload.strays_per_mille = 0;
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	/* The minority serves nothing: what was asked there has failed. */
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	assert_int_equal(sim_cluster_node(&cluster, 1)->client.running_count, 0);
	assert_true(stats(1)->reads + stats(1)->writes > carried);
	assert_true(cluster.workload.errors[ETIMEDOUT] > 0);
	end();
}

static void frozen_owner_wakes(uint64_t seed, bool loses_session)
{
	uint32_t two = 2;

	begin(seed, 3, 6);
	cluster.workload.tolerates_stale_reads = true;
	sim_cluster_freeze(&cluster, 1);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	if (loses_session)
		sim_lun_reset_session(&cluster.lun, 1);
	sim_cluster_wake(&cluster, 1);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 2);
	end();
}

static void test_frozen_owner_wakes(void **state)
{
	(void)state;
	frozen_owner_wakes(113, /* loses_session= */ false);
	frozen_owner_wakes(114, /* loses_session= */ true);
}

/* Its disk fails when another claims the pool: it cannot agree, and must not go on either. */
static void test_owner_cannot_save_the_epoch(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(118, 3, 4);
	cluster.nodes[1].store.saves_to_fail = 1000;
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	cluster.workload.strays_per_mille = 200;
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	cluster.workload.strays_per_mille = 0;
	cluster.nodes[1].store.saves_to_fail = 0;
	end();
}

static void test_owner_moves(void **state)
{
	(void)state;
	begin(115, 3, 4);
	for (uint32_t i = 0; i < 12; i++) {
		uint32_t next = 1 + (i + 1) % 3;

		sim_cluster_acquire(&cluster, next);
		assert_true(sim_cluster_run_until(&cluster, owner_is, &next, 10 * FERRY_NS_PER_S));
		sim_cluster_run(&cluster, 200 * FERRY_NS_PER_MS);
	}
	assert_int_equal(cluster.lun.stats.preempts, 0); /* Everyone drained. */
	end();
}

static bool is_taking(struct sim_cluster *self, void *context)
{
	return self->nodes[*(uint32_t *)context].node->ownership.phase == FERRY_OWNERSHIP_TAKING;
}

/* The data side's answer to an older taking proves nothing for the one that is asked for now. */
static void test_answer_to_an_older_taking(void **state)
{
	struct ferry_ownership *ownership;
	uint32_t two = 2;

	(void)state;
	begin(129, 3, 0);
	ownership = &sim_cluster_node(&cluster, 2)->ownership;
	sim_lun_power(&cluster.lun, false);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, is_taking, &two, 10 * FERRY_NS_PER_S));
	ferry_ownership_taken(ownership, (struct ferry_epoch){ownership->claimed.v - 1}, 0);
	assert_int_equal(ownership->phase, FERRY_OWNERSHIP_TAKING);
	assert_false(ownership->view.is_in_force);
	sim_lun_power(&cluster.lun, true);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 60 * FERRY_NS_PER_S));
	end();
}

int scenario_owners(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_owner_crashes),
		cmocka_unit_test(test_preempter_crashes),
		cmocka_unit_test(test_owner_is_cut_off),
		cmocka_unit_test(test_frozen_owner_wakes),
		cmocka_unit_test(test_owner_cannot_save_the_epoch),
		cmocka_unit_test(test_owner_moves),
		cmocka_unit_test(test_answer_to_an_older_taking),
	};

	return cmocka_run_group_tests_name("owners", tests, NULL, NULL);
}
