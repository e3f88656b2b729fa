/* Scenarios: the target is restarted, and whoever promises what was in its cache has to know. */
#include "tests/sim/scenario.h"

/* Node 1 owns the pool at a target that was restarted before: its count of changes is small. */
static void begin_low(uint64_t seed, uint32_t nodes_count, bool has_aptpl)
{
	sim_cluster_init(&cluster, seed, nodes_count);
	cluster.lun.options.has_aptpl = has_aptpl;
	cluster.workload.fua_per_mille = 0;
	start(/* depth= */ 0);
	sim_lun_restart(&cluster.lun);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_true(cluster.lun.generation < 32);
	/* What node 1 inherited when it took the pool is lost; from here on it is its own. */
	if (do_io(1, FERRY_OP_FLUSH, 0) != 0) {
		sim_cluster_clear(&cluster, 1);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
	}
}

/*
 * Unheard by the owner, which carries on by peers; and those have registered more often by the time
 * it comes back than ever before.
 */
static void restarted_again(uint64_t seed, bool has_aptpl)
{
	begin_low(seed, 3, has_aptpl);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	sim_lun_cut(&cluster.lun, 1);
	sim_lun_restart(&cluster.lun);
	for (int i = 0; i < 12; i++) {
		sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
		sim_lun_reset_session(&cluster.lun, 2 + (uint32_t)i % 2);
	}
	sim_lun_heal(&cluster.lun, 1);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
	end();
}

static void test_restarted_again(void **state)
{
	(void)state;
	for (uint64_t seed = 700; seed < 704; seed++)
		restarted_again(seed, seed % 2 == 0);
}

/* The same with peers whose agents are new: they compare with nothing that they knew. */
static void test_restarted_again_and_new_peers(void **state)
{
	(void)state;
	for (uint64_t seed = 710; seed < 714; seed++) {
		begin_low(seed, 3, seed % 2 == 0);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		sim_lun_cut(&cluster.lun, 1);
		restart_lun_and_peers();
		sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_READ, 0), 0); /* By one of them. */
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		end();
	}
}

/* After the loss it is as before: an administrator has looked, and by peers all goes on. */
static void test_told_owner_goes_on_by_peers(void **state)
{
	(void)state;
	begin_low(720, 3, /* has_aptpl= */ true);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	sim_lun_cut(&cluster.lun, 1);
	sim_lun_restart(&cluster.lun);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
	sim_cluster_clear(&cluster, 1);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 4), 0);
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
	assert_true(stats(1)->detours > 0);
	end();
}

/* While the owner is frozen nobody registers; when it wakes it is told first. */
static void test_witness_waits_for_a_frozen_owner(void **state)
{
	(void)state;
	begin_low(730, 3, /* has_aptpl= */ false);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	sim_cluster_pause(&cluster, 1, SIM_FREEZE_AGENT);
	sim_lun_restart(&cluster.lun);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	for (uint32_t i = 2; i <= 3; i++) {
		const struct sim_node *node = sim_cluster_node(&cluster, i);

		assert_int_equal(node->engine.registrar.state, FERRY_REGISTRAR_WITNESS);
		assert_false(node->engine.has_path);
		assert_int_equal(cluster.lun.nexuses[i].key.v, 0);
	}
	sim_cluster_wake(&cluster, 1);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
	end();
}

/* Nobody owns the pool: nobody registers, but everybody could; who is asked to is the first. */
static void test_witnesses_without_an_owner(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin_low(740, 3, /* has_aptpl= */ false);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_lun_restart(&cluster.lun);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	for (uint32_t i = 2; i <= 3; i++) {
		assert_int_equal(cluster.lun.nexuses[i].key.v, 0);
		assert_true(sim_cluster_node(&cluster, i)->engine.has_path);
	}
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	assert_true(sim_cluster_node(&cluster, 3)->engine.has_path);
	assert_int_equal(do_io(2, FERRY_OP_WRITE, 0), 0);
	assert_int_equal(do_io(2, FERRY_OP_FLUSH, 0), 0); /* Its own, and nothing else is owed. */
	end();
}

/* Of two nodes that are apart one may have been the witness, and has nobody to tell. */
static void test_two_nodes_apart_at_a_restart(void **state)
{
	(void)state;
	for (uint64_t seed = 750; seed < 754; seed++) {
		begin_low(seed, 2, /* has_aptpl= */ true);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		sim_cluster_isolate(&cluster, 1);
		sim_lun_cut(&cluster.lun, 1);
		sim_lun_restart(&cluster.lun);
		sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
		sim_lun_heal(&cluster.lun, 1);
		sim_cluster_join_all(&cluster);
		sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		if (sim_cluster_owner(&cluster) && sim_cluster_owner(&cluster)->id == 1)
			assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		end();
	}
}

static void on_preempted(void *context, int error)
{
	*(int *)context = error;
}

/*
 * LIO counts the keys that it restores, so that one PREEMPT is enough to hide the restart. A peer
 * that hears the owner's wish to have its own nexus killed is up at the target first.
 */
static void preempted_before_anybody_has_looked(uint64_t seed, int *tries)
{
	struct sim_node *owner;
	struct sim_node *first = NULL;
	int error = 1;
	int r;

	sim_cluster_init(&cluster, seed, 3);
	cluster.lun.options.has_aptpl = true;
	cluster.lun.generation = 0; /* A young target: what nodes remember of it is no help. */
	cluster.workload.fua_per_mille = 0;
	start(/* depth= */ 0);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
	owner = sim_cluster_node(&cluster, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	sim_lun_hold(&cluster.lun, 1, 1);
	(void)sim_client_submit(&owner->client, FERRY_OP_WRITE, 32, 4);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_MS);
	sim_lun_power_cut(&cluster.lun);
	assert_true(cluster.lun.generation <= 3);
	cluster.lun.generation = 3; /* As LIO counts the keys that it has restored. */
	sim_cluster_run(&cluster, 300 * FERRY_NS_PER_MS);
	sim_lun_power(&cluster.lun, true);
	while (!first) {
		sim_cluster_run(&cluster, 20 * FERRY_NS_PER_US);
		for (uint32_t i = 1; i <= 3; i++)
			if (sim_cluster_node(&cluster, i)->path.path.is_up)
				first = sim_cluster_node(&cluster, i);
	}
	for (int i = 0; first != owner && i < 1000; i++) {
		r = ferry_engine_preempt(
			&first->engine,
			ferry_key_make((struct ferry_node){1}, owner->engine.config.incarnation),
			on_preempted, &error);
		if (r == 0)
			break;
		assert_int_equal(r, -EAGAIN);
		sim_cluster_run(&cluster, 1 * FERRY_NS_PER_MS);
	}
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	*tries += first != owner && error != 1;
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
	end();
}

static void test_preempted_before_anybody_has_looked(void **state)
{
	int tries = 0;

	(void)state;
	for (uint64_t seed = 790; seed < 806; seed++)
		preempted_before_anybody_has_looked(seed, &tries);
	assert_true(tries > 4);
}

/* ---- Resets that a session lives through (29h): looked at, not believed. ---- */

/* The cache is gone and no session: the keys and their count tell that it was no LUN RESET. */
static void test_cache_lost_in_a_session(void **state)
{
	(void)state;
	for (uint64_t seed = 760; seed < 768; seed++) {
		sim_cluster_init(&cluster, seed, 3);
		cluster.lun.options.has_aptpl = seed % 2 == 0;
		cluster.lun.options.preempt_waits = seed % 4 < 2;
		cluster.workload.fua_per_mille = 0;
		start(/* depth= */ 0);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		sim_lun_reset_hard(&cluster.lun);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
		assert_true(cluster.lun.holder != 0); /* It has been reserved anew. */
		sim_cluster_clear(&cluster, 1);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 4), 0);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
		end();
	}
}

/* The same while the owner's I/O goes by peers, whose sessions live on, too. */
static void test_cache_lost_in_a_peers_session(void **state)
{
	(void)state;
	for (uint64_t seed = 770; seed < 774; seed++) {
		begin_low(seed, 3, seed % 2 == 0);
		sim_lun_cut(&cluster.lun, 1);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		sim_lun_reset_hard(&cluster.lun);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		end();
	}
}

/* Somebody's LUN RESET: the keys are there, and their count. Nothing is lost, and no FLUSH fails.
 */
static void test_lun_reset_loses_nothing(void **state)
{
	(void)state;
	begin_low(780, 3, /* has_aptpl= */ false);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	for (uint32_t i = 1; i <= 3; i++)
		sim_lun_attention(&cluster.lun, i, SIM_ATTENTION_RESET);
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
	assert_int_equal(errors(), 1); /* begin_low()'s. */
	end();
}

int scenario_targets(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restarted_again),
		cmocka_unit_test(test_restarted_again_and_new_peers),
		cmocka_unit_test(test_told_owner_goes_on_by_peers),
		cmocka_unit_test(test_witness_waits_for_a_frozen_owner),
		cmocka_unit_test(test_witnesses_without_an_owner),
		cmocka_unit_test(test_two_nodes_apart_at_a_restart),
		cmocka_unit_test(test_preempted_before_anybody_has_looked),
		cmocka_unit_test(test_cache_lost_in_a_session),
		cmocka_unit_test(test_cache_lost_in_a_peers_session),
		cmocka_unit_test(test_lun_reset_loses_nothing),
	};

	return cmocka_run_group_tests_name("targets", tests, NULL, NULL);
}
