/* Scenarios: who may wish for the pool, and a wish that nobody has any more. */
#include "tests/sim/scenario.h"

struct phase_of {
	uint32_t id;
	enum ferry_ownership_phase phase;
};

static bool is_in_phase(struct sim_cluster *self, void *context)
{
	const struct phase_of *wanted = context;

	return self->nodes[wanted->id].node->ownership.phase == wanted->phase;
}

static bool is_nobodys(struct sim_cluster *self, void *context)
{
	(void)context;
	for (uint32_t i = 1; i <= self->nodes_count; i++)
		if (self->nodes[i].node && self->nodes[i].node->ownership.view.owner.v != 0)
			return false;
	return true;
}

static void withdraw(uint32_t id)
{
	struct sim_node *node = sim_cluster_node(&cluster, id);

	node->wish_error = 1;
	ferry_ownership_release(&node->ownership, (struct ferry_node){0});
	assert_int_equal(node->wish_error, 0); /* At once. */
	assert_int_equal(node->ownership.phase, FERRY_OWNERSHIP_IDLE);
}

static bool fence_is_over(struct sim_cluster *self, void *context)
{
	return self->nodes[*(uint32_t *)context].node->fence_error <= 0;
}

static void fence(uint32_t by, uint32_t victim)
{
	struct sim_node *node = sim_cluster_node(&cluster, by);

	node->fence_error = 1;
	assert_int_equal(ferry_ownership_fence(&node->ownership, (struct ferry_node){victim}), 0);
	assert_true(sim_cluster_run_until(&cluster, fence_is_over, &by, 60 * FERRY_NS_PER_S));
	assert_int_equal(node->fence_error, 0);
}

/* A fenced node is asked to acquire the pool: its healthy owner goes on, undisturbed. */
static void test_fenced_acquires(void **state)
{
	struct sim_node *three;
	uint64_t epoch;

	(void)state;
	begin(160, 3, 4);
	fence(1, 3);
	three = sim_cluster_node(&cluster, 3);
	epoch = sim_cluster_owner(&cluster)->ownership.view.epoch.v;
	sim_cluster_acquire(&cluster, 3);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_int_equal(three->wish_error, -EPERM);
	/* Nor do the others believe it, should it not know itself. */
	three->ownership.is_fenced = false;
	sim_cluster_acquire(&cluster, 3);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 1);
	assert_int_equal(sim_cluster_owner(&cluster)->ownership.view.epoch.v, epoch);
	assert_int_equal(errors(), 0);
	withdraw(3);
	sim_cluster_crash(&cluster, 3, /* is_power_cut= */ false);
	sim_cluster_start(&cluster, 3); /* Started anew it may. */
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 3);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 3);
	end();
}

static bool is_unsynced(struct sim_cluster *self, void *context)
{
	const struct ferry_view *view = &self->nodes[2].node->ownership.view;

	(void)context;
	return !ferry_view_has_member(view, (struct ferry_node){3}) && !view->is_quorate;
}

/* In a new ring, before anybody has spoken in it, node 2 is asked to acquire what node 1 serves. */
static void test_acquired_in_a_new_ring(void **state)
{
	struct sim_node *two;
	uint32_t one = 1;
	uint64_t epoch;

	(void)state;
	begin(177, 3, 4);
	two = sim_cluster_node(&cluster, 2);
	epoch = two->ownership.view.epoch.v;
	sim_cluster_isolate(&cluster, 3);
	assert_true(sim_cluster_run_until(&cluster, is_unsynced, NULL, 20 * FERRY_NS_PER_S));
	two->wish_error = 1;
	ferry_ownership_acquire(&two->ownership, /* is_take= */ false);
	assert_int_equal(two->wish_error, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(two->wish_error, -EPERM);
	assert_true(owner_is(&cluster, &one));
	assert_int_equal(two->ownership.view.epoch.v, epoch);
	assert_int_equal(errors(), 0);
	end();
}

/* No majority of agents: the wish is withdrawn, and does not come true when they are back. */
static void test_withdrawn_before_the_claim(void **state)
{
	(void)state;
	begin(161, 3, 0);
	sim_cluster_release(&cluster, 1, 0);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_crash(&cluster, i, /* is_power_cut= */ false);
	sim_cluster_acquire(&cluster, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(sim_cluster_node(&cluster, 1)->wish_error, 1);
	withdraw(1);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_start(&cluster, i);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_null(sim_cluster_owner(&cluster));
	end();
}

/*
 * At any step of the way. The others have the epoch on their disks and have let the last owner's
 * go: nobody serves, nobody's applications are told that they do, and the next claim is above it.
 */
static void withdraw_in(uint64_t seed, enum ferry_ownership_phase phase, uint64_t wait_ns)
{
	struct phase_of wanted = {2, phase};
	uint32_t three = 3;
	struct ferry_epoch epoch;

	begin(seed, 3, 4);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_lun_hold(&cluster.lun, 1, 2); /* So that it has not drained, and has to be aborted. */
	sim_cluster_run(&cluster, 50 * FERRY_NS_PER_MS);
	if (phase == FERRY_OWNERSHIP_TAKING)
		sim_lun_stall(&cluster.lun, true, true);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, is_in_phase, &wanted, 20 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, wait_ns);
	assert_int_equal(sim_cluster_node(&cluster, 2)->ownership.phase, phase);
	epoch = sim_cluster_node(&cluster, 2)->ownership.claimed;
	withdraw(2);
	assert_true(sim_cluster_run_until(&cluster, is_nobodys, NULL, 2 * FERRY_NS_PER_S));
	sim_lun_stall(&cluster.lun, false, false);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_null(sim_cluster_owner(&cluster));
	assert_int_equal(sim_cluster_node(&cluster, 2)->wish_error, 0);
	sim_cluster_acquire(&cluster, 3);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	assert_true(sim_cluster_owner(&cluster)->ownership.view.epoch.v > epoch.v);
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	end();
}

static void test_withdrawn_while_claiming(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 8; i++) /* Sent, ordered, heard by some, answered by some. */
		withdraw_in(162 + i, FERRY_OWNERSHIP_CLAIMING, 0);
}

static void test_withdrawn_while_draining(void **state)
{
	(void)state;
	withdraw_in(170, FERRY_OWNERSHIP_DRAINING, 500 * FERRY_NS_PER_MS);
}

static void test_withdrawn_while_taking(void **state)
{
	(void)state;
	withdraw_in(171, FERRY_OWNERSHIP_TAKING, 0);
	withdraw_in(172, FERRY_OWNERSHIP_TAKING, 500 * FERRY_NS_PER_MS);
}

/* A person's word for the missing ends with the wish: the next one has none. */
static void test_consent_ends(void **state)
{
	struct ferry_members missing;
	struct sim_node *one;

	(void)state;
	begin(173, 3, 0);
	sim_cluster_release(&cluster, 1, 0);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_crash(&cluster, i, /* is_power_cut= */ false);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	one = sim_cluster_node(&cluster, 1);
	missing = sim_cluster_missing(&cluster, 1);
	assert_int_equal(missing.count, 2);
	assert_int_equal(ferry_ownership_force(&one->ownership, &missing), 0);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_true(one->ownership.is_forced);
	withdraw(1);
	assert_false(one->ownership.is_forced);
	assert_int_equal(ferry_ownership_force(&one->ownership, &missing),
			 0); /* And can be given anew. */
	withdraw(1);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_start(&cluster, i);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_null(sim_cluster_owner(&cluster));
	end();
}

static bool is_cut_off(struct sim_cluster *self, void *context)
{
	const struct ferry_view *view = &self->nodes[2].node->ownership.view;

	(void)context;
	return !ferry_view_has_member(view, (struct ferry_node){1}) &&
	       ferry_view_has_member(view, (struct ferry_node){3});
}

/*
 * The lun proves nothing; node 3 is off, and a person answers for it at node 2. The owner agrees,
 * has a write that does not end, and is cut off; node 3 is started. Nobody has answered for the
 * owner: its write may land yet.
 */
static void test_consent_is_for_whom_it_names(void **state)
{
	struct ferry_members missing;
	struct phase_of draining = {2, FERRY_OWNERSHIP_DRAINING};
	struct sim_node *two;

	(void)state;
	sim_cluster_init(&cluster, 176, 3);
	cluster.lun.options = (struct sim_lun_options){
		.latency_ns_max = cluster.lun.options.latency_ns_max,
		.service_ns_max = cluster.lun.options.service_ns_max,
		.proves_nothing = true,
		.has_aptpl = true,
	};
	cluster.options.drain_timeout_ns = 10 * FERRY_NS_PER_S; /* It waits for the write. */
	start(/* depth= */ 0);
	sim_cluster_crash(&cluster, 3, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	hold_a_write();
	two = sim_cluster_node(&cluster, 2);
	missing = sim_cluster_missing(&cluster, 2);
	assert_int_equal(missing.count, 1);
	two->wish_error = 1;
	assert_int_equal(ferry_ownership_force(&two->ownership, &missing), 0);
	assert_true(sim_cluster_run_until(&cluster, is_in_phase, &draining, 2 * FERRY_NS_PER_S));
	sim_cluster_start(&cluster, 3);
	sim_cluster_isolate(&cluster, 1);
	assert_true(sim_cluster_run_until(&cluster, is_cut_off, NULL, 20 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 20 * FERRY_NS_PER_S);
	assert_int_equal(two->wish_error, -EPERM);
	assert_null(sim_cluster_owner(&cluster));
	assert_int_equal(cluster.sim.violations, 0);
	sim_cluster_done(&cluster);
}

/* Another claims while the owner's release is on its way: the release has come true all the same.
 */
static bool release_is_overtaken(uint64_t seed)
{
	struct sim_node *one;
	uint32_t two = 2;
	bool is_overtaken;

	begin(seed, 3, 0);
	one = sim_cluster_node(&cluster, 1);
	sim_cluster_acquire(&cluster, 2);
	sim_cluster_run(&cluster, (seed - 180) * 50 * FERRY_NS_PER_US);
	if (one->ownership.phase == FERRY_OWNERSHIP_OWNING)
		sim_cluster_release(&cluster, 1, 0);
	is_overtaken = one->ownership.phase == FERRY_OWNERSHIP_RELEASING;
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	is_overtaken &= one->ownership.released.v < one->ownership.view.epoch.v - 1;
	assert_true(one->wish_error <= 0);
	assert_int_equal(one->ownership.phase, FERRY_OWNERSHIP_IDLE);
	end();
	return is_overtaken;
}

static void test_release_is_overtaken(void **state)
{
	uint32_t count = 0;

	(void)state;
	for (uint64_t i = 0; i < 12; i++)
		count += release_is_overtaken(180 + i);
	assert_true(count > 0);
}

/* The owner is asked to fence a node, and to let go while it does: both come true. */
static void test_released_while_fencing(void **state)
{
	struct sim_node *one;
	uint32_t by = 1;

	(void)state;
	begin(175, 3, 0);
	one = sim_cluster_node(&cluster, 1);
	one->fence_error = 1;
	assert_int_equal(ferry_ownership_fence(&one->ownership, (struct ferry_node){3}), 0);
	while (!one->ownership.fencing.is_running)
		sim_cluster_run(&cluster, FERRY_NS_PER_MS);
	one->wish_error = 1;
	ferry_ownership_release(&one->ownership, (struct ferry_node){0});
	assert_int_equal(one->wish_error, 0);
	assert_true(sim_cluster_run_until(&cluster, fence_is_over, &by, 60 * FERRY_NS_PER_S));
	assert_int_equal(one->fence_error, 0);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_null(sim_cluster_owner(&cluster));
	assert_int_equal(one->ownership.phase, FERRY_OWNERSHIP_IDLE);
	sim_cluster_crash(&cluster, 3, /* is_power_cut= */ false);
	end();
}

int scenario_wishes(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fenced_acquires),
		cmocka_unit_test(test_acquired_in_a_new_ring),
		cmocka_unit_test(test_withdrawn_before_the_claim),
		cmocka_unit_test(test_withdrawn_while_claiming),
		cmocka_unit_test(test_withdrawn_while_draining),
		cmocka_unit_test(test_withdrawn_while_taking),
		cmocka_unit_test(test_consent_ends),
		cmocka_unit_test(test_consent_is_for_whom_it_names),
		cmocka_unit_test(test_release_is_overtaken),
		cmocka_unit_test(test_released_while_fencing),
	};

	return cmocka_run_group_tests_name("wishes", tests, NULL, NULL);
}
