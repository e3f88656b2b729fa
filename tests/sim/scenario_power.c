/* Scenarios: a lun without reservations, nodes whose power is cut, and a promised quiesce time. */
#include "tests/sim/scenario.h"

#define QUIESCE_NS (2 * FERRY_NS_PER_S)

static void begin_plain(uint64_t seed, uint32_t nodes_count)
{
	sim_cluster_init(&cluster, seed, nodes_count);
	cluster.lun.options.has_no_reservations = true;
	cluster.lun.options.quiesce_ns = QUIESCE_NS / 10 * 9;
	cluster.options.quiesce_time_ns = QUIESCE_NS;
	cluster.stonith.stays_off_per_mille = 1000;
	start(/* depth= */ 0);
	sim_stonith_start(&cluster.stonith);
}

static bool is_believed(struct sim_cluster *self, void *context)
{
	(void)context;
	return sim_cluster_node(self, 2)->watch.confirmed > 0;
}

/* Its last write may land all that time. */
static void test_taken_after_the_quiesce_time(void **state)
{
	uint32_t two = 2;

	(void)state;
	for (uint64_t seed = 200; seed < 220; seed++) {
		uint64_t confirmed_ns;

		begin_plain(seed, seed % 2 == 0 ? 3 : 2);
		assert_int_equal(sim_client_submit(&sim_cluster_node(&cluster, 1)->client,
						   FERRY_OP_WRITE, 8, 4),
				 0);
		sim_cluster_run(&cluster, 200 * FERRY_NS_PER_US);
		sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
		sim_cluster_acquire(&cluster, 2);
		assert_true(
			sim_cluster_run_until(&cluster, is_believed, NULL, 20 * FERRY_NS_PER_S));
		confirmed_ns = cluster.sim.now_ns;
		sim_cluster_acquire(&cluster, 2); /* Refused before, if n1 was a member yet. */
		assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
		assert_true(cluster.sim.now_ns >= confirmed_ns + QUIESCE_NS);
		end();
	}
}

/* Nobody knows whether it is off. */
static void test_not_without_fencing(void **state)
{
	(void)state;
	begin_plain(221, 3);
	cluster.stonith.fails_per_mille = 1000;
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	for (int i = 0; i < 20; i++) {
		sim_cluster_acquire(&cluster, 2);
		sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
		assert_false(sim_cluster_node(&cluster, 2)->engine.router.is_open);
	}
	assert_true(cluster.stonith.failures > 1);
	end();
}

static uint32_t ghosts(void)
{
	return sim_cluster_node(&cluster, 1)->engine.router.ghosts_count;
}

static bool has_no_ghosts(struct sim_cluster *self, void *context)
{
	(void)self;
	(void)context;
	return ghosts() == 0;
}

/* n1 has lost its path; writes of its own wait there, and others where n2 carries them. */
static void carry_held(void)
{
	cluster.stonith.fails_per_mille = 1000;
	sim_lun_hold(&cluster.lun, 2, 4);
	sim_lun_hold_some(&cluster.lun, 3, 0);
	sim_lun_cut(&cluster.lun, 1);
	for (uint64_t lba = 0; lba < 32; lba += 4) /* Some by each of the two peers. */
		assert_int_equal(sim_client_submit(&sim_cluster_node(&cluster, 1)->client,
						   FERRY_OP_WRITE, lba, 4),
				 0);
	sim_cluster_run(&cluster, 1500 * FERRY_NS_PER_MS);
	assert_true(cluster.lun.hold_left < 4);
}

/* A peer dies with what it carries: its ghost is laid when it can land no more, and not before. */
static void test_peers_ghost(void **state)
{
	uint64_t dead_ns;

	(void)state;
	begin_plain(222, 3);
	carry_held();
	sim_cluster_crash(&cluster, 2, /* is_power_cut= */ true);
	sim_lun_heal(&cluster.lun, 1);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_true(ghosts() > 0);
	cluster.stonith.fails_per_mille = 0;
	dead_ns = cluster.sim.now_ns + QUIESCE_NS;
	sim_cluster_run(&cluster, QUIESCE_NS / 2);
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, has_no_ghosts, NULL, 30 * FERRY_NS_PER_S));
	assert_true(cluster.sim.now_ns >= dead_ns);
	assert_true(stats(1)->ghosts_laid_abort > 0);
	end();
}

/* The same, and it is back long before that: nobody is to cut its power. */
static void test_peers_ghost_though_it_is_back(void **state)
{
	uint64_t back_ns;

	(void)state;
	begin_plain(225, 3);
	carry_held();
	sim_cluster_crash(&cluster, 2, /* is_power_cut= */ true);
	sim_lun_heal(&cluster.lun, 1);
	sim_lun_let_go(&cluster.lun);
	back_ns = cluster.sim.now_ns;
	sim_cluster_start(&cluster, 2);
	sim_cluster_run(&cluster, QUIESCE_NS);
	assert_true(ghosts() > 0);
	assert_true(sim_cluster_run_until(&cluster, has_no_ghosts, NULL, 4 * FERRY_NS_PER_S));
	assert_true(cluster.sim.now_ns >= back_ns + QUIESCE_NS);
	assert_true(stats(1)->ghosts_laid_abort > 0);
	assert_int_equal(cluster.stonith.cuts, 0);
	end();
}

/* It was cut off, and is the same agent: it tells what became of them. */
static void test_peers_ghost_is_asked_for(void **state)
{
	(void)state;
	begin_plain(224, 3);
	carry_held();
	sim_cluster_isolate(&cluster, 2);
	sim_lun_heal(&cluster.lun, 1);
	sim_cluster_run(&cluster, 6 * FERRY_NS_PER_S);
	assert_true(ghosts() > 0);
	sim_lun_let_go(&cluster.lun);
	sim_cluster_join_all(&cluster);
	assert_true(sim_cluster_run_until(&cluster, has_no_ghosts, NULL, 4 * FERRY_NS_PER_S));
	assert_int_equal(stats(1)->ghosts_laid_abort, 0);
	assert_int_equal(cluster.stonith.cuts, 0);
	end();
}

int scenario_power(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken_after_the_quiesce_time),
		cmocka_unit_test(test_not_without_fencing),
		cmocka_unit_test(test_peers_ghost),
		cmocka_unit_test(test_peers_ghost_though_it_is_back),
		cmocka_unit_test(test_peers_ghost_is_asked_for),
	};

	return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
