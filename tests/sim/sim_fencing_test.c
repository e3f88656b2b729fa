/*
 * Scenarios of fencing: takings that were left half done, and what a person answers for. One thing
 * goes wrong, told step by step.
 */
#include "tests/sim/scenario.h"

static bool is_removed(struct sim_cluster *self, void *context)
{
	return self->lun.nexuses[*(uint32_t *)context].key.v == 0;
}

/* Whoever takes has preempted @node, and now waits for the proof. */
static void assert_removed(uint32_t node)
{
	assert_true(sim_cluster_run_until(&cluster, is_removed, &node, 10 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 200 * FERRY_NS_PER_MS);
}

static bool wish_is_over(struct sim_cluster *self, void *context)
{
	return sim_cluster_node(self, *(uint32_t *)context)->wish_error != 1;
}

/* What becomes of node @id's wish; 1: nothing, for so long. */
static int wish_of(uint32_t id)
{
	(void)sim_cluster_run_until(&cluster, wish_is_over, &id, 20 * FERRY_NS_PER_S);
	return sim_cluster_node(&cluster, id)->wish_error;
}

/* Node 1 owns the pool. */
static void begin_on(uint64_t seed, uint32_t nodes_count, struct sim_lun_options options)
{
	sim_cluster_init(&cluster, seed, nodes_count);
	options.latency_ns_max = cluster.lun.options.latency_ns_max;
	options.service_ns_max = cluster.lun.options.service_ns_max;
	cluster.lun.options = options;
	start(/* depth= */ 0);
}

/* On a lun that lays by name. */
static void begin_by_name(uint64_t seed, uint32_t nodes_count)
{
	begin_on(seed, nodes_count,
		 (struct sim_lun_options){.reinstates = true, .has_aptpl = true});
}

/* A person has made sure of the nodes that are missing. */
static void force(uint32_t id)
{
	struct sim_node *node = sim_cluster_node(&cluster, id);
	struct ferry_members missing = sim_cluster_missing(&cluster, id);

	node->wish_error = 1;
	assert_int_equal(ferry_ownership_force(&node->ownership, &missing), 0);
}

/* Node 1 dies for good, with a write of its own in the target's queue. */
static void owner_dies_with_a_write_held(void)
{
	hold_a_write();
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
}

static void restart(uint32_t id)
{
	sim_cluster_crash(&cluster, id, /* is_power_cut= */ false);
	sim_cluster_start(&cluster, id);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
}

static bool is_held(void)
{
	ferry_list_foreach (link, &cluster.lun.commands)
		if (ferry_list_entry(link, struct sim_command, link)->is_held)
			return true;
	return false;
}

/*
 * A taker removes the dead owner's key and dies before the proof. Neither it, started anew, nor the
 * third node, whose agent is younger than the owner's death, has ever heard the owner; nor does the
 * lun know it any more.
 */
static void test_taker_dies_before_the_proof(void **state)
{
	uint32_t three = 3;

	(void)state;
	begin_by_name(701, 3);
	owner_dies_with_a_write_held();
	restart(3);
	sim_cluster_acquire(&cluster, 2);
	assert_removed(1);
	restart(2);
	sim_cluster_acquire(&cluster, 3);
	assert_int_equal(wish_of(3), -EOPNOTSUPP);
	assert_true(is_held());
	/* The owner's node comes back: its login has ended what it had sent, and says so. */
	sim_lun_let_go(&cluster.lun);
	sim_cluster_start(&cluster, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 3);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	end();
}

/* The taker cannot prove it itself, and lives: asked again, it still cannot. */
static void test_taker_remembers_whom_it_removed(void **state)
{
	(void)state;
	begin_by_name(702, 3);
	owner_dies_with_a_write_held();
	restart(3);
	sim_cluster_acquire(&cluster, 3);
	assert_removed(1);
	sim_cluster_node(&cluster, 3)->path.names = 0; /* As if the lun had not told. */
	sim_lun_reset_session(&cluster.lun, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(wish_of(3), -EOPNOTSUPP);
		sim_cluster_acquire(&cluster, 3);
	}
	assert_true(is_held());
	end();
}

/* The ring changes while it waits for the proof: it goes on waiting. */
static void test_ring_changes_before_the_proof(void **state)
{
	uint32_t three = 3;

	(void)state;
	begin_by_name(703, 3);
	owner_dies_with_a_write_held();
	restart(3);
	sim_cluster_acquire(&cluster, 3);
	assert_removed(1);
	restart(2);
	assert_false(owner_is(&cluster, &three));
	assert_true(is_held());
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	end();
}

/* Nobody took the lun in between: the lun knows whom nobody has heard, and that is enough. */
static void test_lun_knows_whom_nobody_has_heard(void **state)
{
	uint32_t three = 3;

	(void)state;
	begin_by_name(704, 3);
	owner_dies_with_a_write_held();
	restart(3);
	restart(2);
	sim_cluster_acquire(&cluster, 3);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	assert_false(owner_is(&cluster, &three)); /* It waits for the write. */
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	end();
}

/* A peer dies for good, with a write of the owner's in the target's queue; its key is removed. */
static void carrier_dies_with_a_write_held(void)
{
	sim_lun_cut(&cluster.lun, 3); /* So that node 2 carries. */
	sim_lun_reset_session(&cluster.lun, 3);
	sim_lun_cut(&cluster.lun, 1);
	sim_lun_reset_session(&cluster.lun, 1);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_lun_hold(&cluster.lun, 2, 1);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_WRITE, 8, 4), 0);
	sim_cluster_run(&cluster, 100 * FERRY_NS_PER_MS);
	assert_true(is_held());
	sim_cluster_crash(&cluster, 2, /* is_power_cut= */ true);
	sim_lun_heal(&cluster.lun, 1);
	sim_lun_heal(&cluster.lun, 3);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.nexuses[2].key.v, 0);
	assert_true(is_held());
}

/*
 * The epoch is in force, and its owner lays what a dead peer carried: it removes the peer's key,
 * and dies before the proof. No agent is left that has ever heard the peer.
 */
static void test_owner_dies_while_it_lays(void **state)
{
	uint32_t three = 3;

	(void)state;
	begin_by_name(705, 3);
	carrier_dies_with_a_write_held();
	restart(3);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	sim_cluster_start(&cluster, 1);
	sim_cluster_acquire(&cluster, 3);
	assert_int_equal(wish_of(3), -EOPNOTSUPP);
	assert_true(is_held());
	sim_lun_let_go(&cluster.lun);
	sim_cluster_start(&cluster, 2);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 3);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	end();
}

/* Node 1 was removed, and what it had sent is proven dead: the owner that saw it has drained. */
static void test_owner_hands_over_without_the_missing(void **state)
{
	uint32_t two = 2;
	uint32_t three = 3;

	(void)state;
	begin_by_name(706, 3);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	assert_int_equal(cluster.lun.nexuses[1].key.v, 0);
	restart(3);
	sim_cluster_acquire(&cluster, 3);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	end();
}

/* Everybody's power was cut, and node 1 stays away: the lun has its name. */
static void test_all_but_the_owner_come_back(void **state)
{
	uint32_t three = 3;

	(void)state;
	begin_by_name(707, 3);
	owner_dies_with_a_write_held();
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_crash(&cluster, i, /* is_power_cut= */ true);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_start(&cluster, i);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 3);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_false(owner_is(&cluster, &three)); /* It waits for the write. */
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	end();
}

/* No way of laying: nobody can prove the dead owner's writes dead. A person can answer for them. */
static void test_forced_where_nothing_proves(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin_on(710, 3, (struct sim_lun_options){.proves_nothing = true, .has_aptpl = true});
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	assert_int_equal(wish_of(2), -EOPNOTSUPP);
	assert_true(cluster.lun.nexuses[1].key.v != 0);
	force(2);
	assert_int_equal(wish_of(2), 0);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	/* Should it be on nevertheless, the lun refuses what it sends from now on. */
	assert_int_equal(cluster.lun.nexuses[1].key.v, 0);
	assert_true(cluster.lun.holder == 2 || cluster.lun.holder == 3);
	end();
}

/* Whose name nobody knows any more: the same. */
static void test_forced_where_a_taker_died(void **state)
{
	uint32_t three = 3;

	(void)state;
	begin_by_name(711, 3);
	owner_dies_with_a_write_held();
	restart(3);
	sim_cluster_acquire(&cluster, 2);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	restart(2);
	sim_cluster_acquire(&cluster, 3);
	assert_int_equal(wish_of(3), -EOPNOTSUPP);
	sim_lun_let_go(&cluster.lun); /* The person has seen to it. */
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	force(3);
	assert_int_equal(wish_of(3), 0);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	end();
}

/*
 * Of two nodes the owner is dead, and the target has lost both registrations: for all the survivor
 * can know, the other has won. A person knows.
 */
static void test_forced_by_a_lone_survivor(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin_on(712, 2, (struct sim_lun_options){.abort_waits = true});
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_lun_restart(&cluster.lun);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	assert_int_equal(wish_of(2), -EACCES);
	assert_int_equal(cluster.lun.nexuses[2].key.v, 0);
	force(2);
	assert_int_equal(wish_of(2), 0);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	end();
}

/* It is no word for a member that is there, and stands still. */
static void test_forced_is_no_word_for_a_member(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin_on(714, 3, (struct sim_lun_options){.proves_nothing = true, .has_aptpl = true});
	sim_cluster_crash(&cluster, 3, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	hold_a_write();
	force(2);
	assert_int_equal(wish_of(2), -EOPNOTSUPP);
	assert_false(owner_is(&cluster, &two));
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	/* Nobody can take it: there is nothing to come to rest. */
	assert_int_equal(cluster.sim.violations, 0);
	sim_cluster_done(&cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taker_dies_before_the_proof),
		cmocka_unit_test(test_taker_remembers_whom_it_removed),
		cmocka_unit_test(test_ring_changes_before_the_proof),
		cmocka_unit_test(test_lun_knows_whom_nobody_has_heard),
		cmocka_unit_test(test_owner_dies_while_it_lays),
		cmocka_unit_test(test_owner_hands_over_without_the_missing),
		cmocka_unit_test(test_all_but_the_owner_come_back),
		cmocka_unit_test(test_forced_where_nothing_proves),
		cmocka_unit_test(test_forced_where_a_taker_died),
		cmocka_unit_test(test_forced_by_a_lone_survivor),
		cmocka_unit_test(test_forced_is_no_word_for_a_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
