/* Scenarios: peers and the links to them. */
#include "tests/sim/scenario.h"

static void test_link_lost_with_writes_in_flight(void **state)
{
	uint64_t repeated;

	(void)state;
	begin(108, 2, 6);
	sim_lun_cut(&cluster.lun, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	for (int i = 0; i < 20; i++) { /* Only the agents' network: the members stay. */
		uint64_t pause_ns = sim_below(&cluster.sim, SIM_CRASH, 50 * FERRY_NS_PER_MS);
		struct sim_node *node = sim_cluster_node(&cluster, 1);

		sim_cluster_run(&cluster, 300 * FERRY_NS_PER_MS + pause_ns);
		node->links[2].link.ops->reset(&node->links[2].link, "the scenario");
	}
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	repeated = sim_cluster_node(&cluster, 2)->carrier.stats.repeated;
	assert_true(sim_cluster_node(&cluster, 1)->peers[2].resent > 0);
	assert_true(repeated > 0); /* And answered from what is kept, not run again. */
	assert_int_equal(errors(), 0);
	end();
}

static void test_peer_restarts(void **state)
{
	(void)state;
	begin(109, 3, 6);
	sim_lun_cut(&cluster.lun, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	for (int i = 0; i < 6; i++) {
		uint32_t peer = 2 + (uint32_t)i % 2;

		sim_cluster_crash(&cluster, peer, /* is_power_cut= */ i % 3 == 0);
		sim_cluster_run(&cluster, 400 * FERRY_NS_PER_MS);
		sim_cluster_start(&cluster, peer);
		sim_cluster_run(&cluster, 4 * FERRY_NS_PER_S);
	}
	assert_true(cluster.nodes[2].incarnation.v == 4);
	assert_int_equal(errors(), 0);
	end();
}

static uint32_t ghosts_alive(void)
{
	return sim_cluster_node(&cluster, 1)->engine.router.ghosts_count;
}

static bool is_ghostless(struct sim_cluster *self, void *context)
{
	(void)self;
	(void)context;
	return ghosts_alive() == 0;
}

/* Node 1's applications, at blocks 0 to 31: at once, and not waited for; or one by one. */
static void submit_eight_writes(void)
{
	struct sim_node *owner = sim_cluster_node(&cluster, 1);

	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(sim_client_submit(&owner->client, FERRY_OP_WRITE, lba, 4), 0);
}

static void do_eight(enum ferry_op op)
{
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(do_io(1, op, lba), 0);
}

/*
 * Writes are lost on the way to a peer, proven dead at the lun, and done by another. When the
 * agents' network is back, their numbers are still unanswered: they must not be asked again.
 */
static void test_laid_is_not_asked_again(void **state)
{
	(void)state;
	begin(116, 3, 0);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0); /* By a peer, from here on. */
	sim_net_cut(&cluster.net, 1, 2, true);
	submit_eight_writes();
	assert_true(sim_cluster_run_until(&cluster, is_quiet, NULL, 60 * FERRY_NS_PER_S));
	assert_true(sim_cluster_run_until(&cluster, is_ghostless, NULL, 60 * FERRY_NS_PER_S));
	assert_true(stats(1)->ghosts_laid_abort > 0);
	do_eight(FERRY_OP_WRITE); /* Newer data, by node 3. */
	/* Node 2 has a new session, and so a new registration. */
	sim_lun_reset_session(&cluster.lun, 2);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_net_cut(&cluster.net, 1, 2, false);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	do_eight(FERRY_OP_READ);
	end();
}

/*
 * The same, but the link lives through it: what was under way on it arrives when the peer whose
 * registration was taken has a new one.
 */
static void test_laid_is_not_heard_later(void **state)
{
	(void)state;
	begin_impatient(117, 200 * FERRY_NS_PER_MS);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0); /* By a peer, from here on. */
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	sim_net_cut(&cluster.net, 1, 2, true);
	submit_eight_writes();
	sim_cluster_run(&cluster, 220 * FERRY_NS_PER_MS);
	assert_true(stats(1)->ghosts_laid_abort > 1);
	assert_int_equal(ghosts_alive(), 0);
	do_eight(FERRY_OP_WRITE); /* Newer data, by node 3. */
	/* Node 2 has a new session, and so a new registration. */
	sim_lun_reset_session(&cluster.lun, 2);
	sim_cluster_run(&cluster, 200 * FERRY_NS_PER_MS);
	sim_net_cut(&cluster.net, 1, 2, false);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	do_eight(FERRY_OP_READ);
	end();
}

/* By hand: a link, and a request of an epoch that is gone. */
static void test_stale_epoch_is_refused(void **state)
{
	struct sim_node *carrier;
	uint64_t refused;

	(void)state;
	begin(110, 3, 0);
	carrier = sim_cluster_node(&cluster, 2);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0); /* By a peer. */
	refused = carrier->carrier.stats.refused;
	/* Node 1 hears nothing of its successor, but still reaches node 2. */
	sim_loop_freeze(&sim_cluster_node(&cluster, 1)->loop);
	sim_cluster_acquire(&cluster, 2);
	sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
	sim_loop_wake(&sim_cluster_node(&cluster, 1)->loop);
	assert_true(do_io(1, FERRY_OP_WRITE, 0) < 0);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_true(carrier->carrier.stats.refused >= refused);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 2);
	end();
}

int scenario_peers(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_link_lost_with_writes_in_flight),
		cmocka_unit_test(test_peer_restarts),
		cmocka_unit_test(test_laid_is_not_asked_again),
		cmocka_unit_test(test_laid_is_not_heard_later),
		cmocka_unit_test(test_stale_epoch_is_refused),
	};

	return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
