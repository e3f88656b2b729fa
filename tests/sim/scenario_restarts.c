/* Scenarios: agents that start anew or have stood still, clusters that lose power or quorum. */
#include "tests/sim/scenario.h"

/* Nobody asks for it: the pool of a killed agent is its own when it is back. */
static void test_killed_agent_reclaims(void **state)
{
	uint32_t one = 1;
	uint64_t epoch;
	uint64_t landed_late;

	(void)state;
	begin(140, 3, 4);
	epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
	sim_lun_hold(&cluster.lun, 1, 2);
	sim_cluster_run(&cluster, 50 * FERRY_NS_PER_MS);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
	sim_cluster_start(&cluster, 1);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 10 * FERRY_NS_PER_S));
	assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
	landed_late = cluster.lun.stats.landed_late; /* Before it was back, they may. */
	sim_lun_let_go(&cluster.lun);		     /* Its elder's writes: they are dead. */
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.stats.landed_late, landed_late);
	end();
}

static void test_killed_agent_does_not_reclaim(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(141, 3, 0);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	sim_cluster_start(&cluster, 1);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 2); /* It was given away. */
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	sim_cluster_start(&cluster, 1);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 2);
	end();
}

/* All lose power; the keys of all are on the lun, and nobody is registered who could abort. */
static void test_whole_cluster_restarts(void **state)
{
	(void)state;
	for (int way = 0; way < 2; way++) {
		uint32_t one = 1;
		uint64_t epoch;

		begin(142, 3, 4);
		cluster.lun.options.preempt_waits = way == 1;
		epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
		for (uint32_t i = 1; i <= 3; i++)
			sim_cluster_crash(&cluster, i, /* is_power_cut= */ true);
		sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		sim_cluster_start(&cluster, 1); /* One alone decides nothing. */
		sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		assert_int_equal(sim_cluster_node(&cluster, 1)->ownership.view.is_in_force, 0);
		sim_cluster_start(&cluster, 2);
		sim_cluster_start(&cluster, 3);
		assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 20 * FERRY_NS_PER_S));
		assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
		end();
	}
}

/* Only the agent stands still; the group goes on without it. What it reads then it may not have. */
static void test_frozen_agent_serves_no_read(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(143, 3, 0);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 8), 0);
	sim_loop_freeze(&sim_cluster_node(&cluster, 1)->loop);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	sim_loop_wake(&sim_cluster_node(&cluster, 1)->loop);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_READ, 8, 4), 0);
	/* By the view that it had, it is open still; but it has looked at the clock. */
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	assert_true(sim_cluster_run_until(&cluster, is_quiet, NULL, 60 * FERRY_NS_PER_S));
	assert_true(errors() > 0);
	end();
}

/* Nobody took the pool meanwhile: it goes on, after the group's word. */
static void test_frozen_agent_goes_on(void **state)
{
	(void)state;
	begin(144, 3, 0);
	sim_loop_freeze(&sim_cluster_node(&cluster, 1)->loop);
	sim_cluster_run(&cluster, 700 * FERRY_NS_PER_MS);
	sim_loop_wake(&sim_cluster_node(&cluster, 1)->loop);
	assert_int_equal(do_io(1, FERRY_OP_READ, 8), 0);
	assert_true(sim_cluster_node(&cluster, 1)->engine.waking_word > 0);
	assert_int_equal(errors(), 0);
	end();
}

/* Rule 15: held for the time that is configured, then failed; and from then on at once. */
static void test_no_quorum_stops_serving(void **state)
{
	uint64_t began_ns;

	(void)state;
	begin(145, 3, 0);
	sim_cluster_isolate(&cluster, 1);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	began_ns = cluster.sim.now_ns;
	assert_true(do_io(1, FERRY_OP_READ, 8) < 0);
	assert_true(cluster.sim.now_ns - began_ns > 4 * FERRY_NS_PER_S);
	sim_cluster_run(&cluster, cluster.options.hold_timeout_ns);
	began_ns = cluster.sim.now_ns;
	assert_true(do_io(1, FERRY_OP_READ, 8) < 0);
	assert_true(cluster.sim.now_ns - began_ns < 1 * FERRY_NS_PER_S);
	end();
}

static bool is_out(struct sim_cluster *self, void *context)
{
	(void)context;
	return self->nodes[1].node->engine.registrar.state == FERRY_REGISTRAR_OUT;
}

/* Its key is back on the lun. */
static bool is_registered(struct sim_cluster *self, void *context)
{
	(void)context;
	return self->lun.nexuses[1].key.v != 0;
}

/* Somebody outside removes the owner's key: it has to be made the owner anew. */
static void test_owner_is_preempted_from_outside(void **state)
{
	uint32_t one = 1;
	uint64_t epoch;

	(void)state;
	begin(146, 3, 0);
	epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
	cluster.lun.nexuses[1].key.v = 0;
	cluster.lun.generation++;
	(void)do_io(1, FERRY_OP_WRITE, 8);
	assert_true(sim_cluster_run_until(&cluster, is_out, NULL, 20 * FERRY_NS_PER_S));
	assert_true(sim_cluster_run_until(&cluster, is_registered, NULL, 20 * FERRY_NS_PER_S));
	assert_true(sim_cluster_node(&cluster, 1)->engine.view.epoch.v > epoch);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 20 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 8), 0);
	end();
}

int scenario_restarts(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_agent_reclaims),
		cmocka_unit_test(test_killed_agent_does_not_reclaim),
		cmocka_unit_test(test_whole_cluster_restarts),
		cmocka_unit_test(test_frozen_agent_serves_no_read),
		cmocka_unit_test(test_frozen_agent_goes_on),
		cmocka_unit_test(test_no_quorum_stops_serving),
		cmocka_unit_test(test_owner_is_preempted_from_outside),
	};

	return cmocka_run_group_tests_name("restarts", tests, NULL, NULL);
}
