/* Scenarios: what a FLUSH promises when caches are lost. */
#include "tests/sim/scenario.h"

/* Its volatile cache is gone, and what was not flushed: a FLUSH must not say that all is well. */
static void test_target_restarts(void **state)
{
	(void)state;
	for (uint64_t seed = 120; seed < 126; seed++) {
		begin(seed, 3, 0);
		for (uint64_t lba = 0; lba < 16; lba += 4)
			assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
		sim_lun_restart(&cluster.lun);
		sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		assert_true(cluster.lun.holder != 0); /* Or nobody would be kept out. */
		sim_cluster_done(&cluster);
	}
}

/*
 * The same behind the kernel's back, whose session outlives its target: nothing fails, nothing is
 * told, but the kernel gives a hint. What it is worth the count of registrations says.
 */
static void test_target_restarts_in_one_session(void **state)
{
	struct sim_node *node;

	(void)state;
	for (uint64_t seed = 136; seed < 140; seed++) {
		begin(seed, 3, 0);
		node = sim_cluster_node(&cluster, 1);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		ferry_engine_maybe_reset(&node->engine); /* It was something else. */
		sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
		for (uint64_t lba = 0; lba < 16; lba += 4) /* Some of them with FUA. */
			assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
		sim_lun_lose_cache(&cluster.lun);
		cluster.lun.generation = 3; /* Registrations are kept, their count is not. */
		ferry_engine_maybe_reset(&node->engine);
		sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		sim_cluster_done(&cluster);
	}
}

/*
 * The same where nothing gives a hint, the target least of all: a FLUSH is looked at, by the
 * owner's path and by a peer's. The target is young: its count shows least.
 */
static void test_target_restarts_unheard(void **state)
{
	(void)state;
	for (uint64_t seed = 180; seed < 190; seed++) {
		sim_cluster_init(&cluster, seed, 3);
		cluster.lun.options.hides_restarts = true;
		cluster.lun.options.has_aptpl = true;
		cluster.lun.generation = 0;
		start(/* depth= */ 0);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
		if (seed % 2 == 0) {
			sim_lun_cut(&cluster.lun, 1);
			sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		}
		for (uint64_t lba = 0; lba < 16; lba += 4)
			assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
		sim_lun_restart_unheard(&cluster.lun);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
		sim_cluster_clear(&cluster, 1);
		sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
		end();
	}
}

/* The same, seen by the peers only: the owner's own path is a black hole all the time. */
static void test_target_restarts_unseen_by_the_owner(void **state)
{
	(void)state;
	for (uint64_t seed = 130; seed < 136; seed++) {
		begin(seed, 3, 0);
		for (uint64_t lba = 0; lba < 16; lba += 4)
			assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
		sim_lun_cut(&cluster.lun, 1);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 16), 0);
		sim_lun_restart(&cluster.lun);
		sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		sim_cluster_done(&cluster);
	}
}

/*
 * Its count of registrations begins anew, and others, who have not seen what was before, have
 * raised it by the time the owner is back.
 */
static void test_target_restarts_and_the_owner_is_last(void **state)
{
	(void)state;
	for (uint64_t seed = 170; seed < 176; seed++) {
		sim_cluster_init(&cluster, seed, 3);
		cluster.lun.generation = 0;
		start(/* depth= */ 0);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		sim_lun_cut(&cluster.lun, 1);
		restart_lun_and_peers();
		for (int i = 0; i < 10; i++) {
			sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
			sim_lun_reset_session(&cluster.lun, 2 + (uint32_t)i % 2);
		}
		sim_lun_heal(&cluster.lun, 1);
		sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		sim_cluster_done(&cluster);
	}
}

/* A peer that starts anew has not seen what was before: it must not pass for a witness. */
static void test_restarted_peers_do_not_vouch(void **state)
{
	(void)state;
	begin(136, 3, 0);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 16), 0);
	sim_lun_restart(&cluster.lun);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_crash(&cluster, i, /* is_power_cut= */ false);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_start(&cluster, i);
	sim_cluster_run(&cluster, 20 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_READ, 0), 0);
	assert_true(do_io(1, FERRY_OP_FLUSH, 0) < 0);
	sim_cluster_done(&cluster);
}

/* ---- Luns where each path has a cache of its own. ---- */

static void begin_by_path(uint64_t seed, uint32_t depth, bool is_known)
{
	sim_cluster_init(&cluster, seed, 3);
	cluster.lun.options.caches_by_path = true;
	cluster.options.flushes_by_path = is_known;
	start(depth);
}

/* Some by its own path, some by a peer's: a FLUSH covers both. */
static void flush_by_every_path(bool is_known)
{
	struct ferry_lane *local;

	begin_by_path(140, 0, is_known);
	for (uint64_t lba = 0; lba < 16; lba += 4)
		assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
	local = ferry_router_local(&sim_cluster_node(&cluster, 1)->engine.router);
	ferry_lane_avoid(local, 10 * FERRY_NS_PER_S);
	for (uint64_t lba = 16; lba < 32; lba += 4)
		assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
	assert_true(stats(1)->detours > 0);
	local->avoid_until_ns = 0;
	local->config.on_change(local, local->config.context);
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
	for (uint32_t i = 1; i <= 3; i++)
		sim_lun_lose_path_cache(&cluster.lun, i);
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(do_io(1, FERRY_OP_READ, lba), 0);
}

static void test_flush_by_every_path(void **state)
{
	(void)state;
	flush_by_every_path(/* is_known= */ true);
	end();
}

/* The rig's own proof: taken for a lun with one cache, the flush is found out. */
static void test_canary_flush_by_one_path(void **state)
{
	(void)state;
	flush_by_every_path(/* is_known= */ false);
	assert_true(cluster.sim.violations > 0);
	sim_cluster_done(&cluster);
}

/* A path is lost, and all that its cache had: it is written anew before anybody can see that. */
static void test_lost_paths_are_replayed(void **state)
{
	(void)state;
	for (uint64_t seed = 141; seed < 151; seed++) {
		begin_by_path(seed, 4, /* is_known= */ true);
		for (int i = 0; i < 24; i++) {
			uint32_t id = (uint32_t)sim_between(&cluster.sim, SIM_CRASH, 1, 3);
			bool is_short = sim_chance(&cluster.sim, SIM_CRASH, 500);

			if (is_short)
				sim_lun_reset_session(&cluster.lun, id);
			else
				sim_lun_cut(&cluster.lun, id);
			sim_lun_lose_path_cache(&cluster.lun, id);
			sim_cluster_run(&cluster, sim_between(&cluster.sim, SIM_CRASH, 1, 3000) *
							  FERRY_NS_PER_MS);
			sim_lun_heal(&cluster.lun, id);
			sim_cluster_run(&cluster, sim_between(&cluster.sim, SIM_CRASH, 1, 2000) *
							  FERRY_NS_PER_MS);
			if (cluster.sim.violations > 0)
				fail_msg("%s", cluster.sim.first_violation);
		}
		assert_int_equal(cluster.workload.errors[EIO], 0);
		end();
	}
}

int scenario_flush(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_target_restarts),
		cmocka_unit_test(test_target_restarts_in_one_session),
		cmocka_unit_test(test_target_restarts_unheard),
		cmocka_unit_test(test_target_restarts_unseen_by_the_owner),
		cmocka_unit_test(test_target_restarts_and_the_owner_is_last),
		cmocka_unit_test(test_restarted_peers_do_not_vouch),
		cmocka_unit_test(test_flush_by_every_path),
		cmocka_unit_test(test_canary_flush_by_one_path),
		cmocka_unit_test(test_lost_paths_are_replayed),
	};

	return cmocka_run_group_tests_name("flush", tests, NULL, NULL);
}
