/* The way of an I/O over one scripted local path and two scripted peers. */
#include "agent/core/router_stand.h"

static void test_local_path_first(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	submit(1, FERRY_OP_READ, 0);
	assert_int_equal(at.paths[0].count, 2);
	assert_int_equal(at.paths[0].attempts[0]->epoch.v, 7);
	stand_done(&at.paths[0], 0);
	stand_done(&at.paths[0], 1);
	assert_int_equal(at.results[0], 0);
	assert_int_equal(at.results[1], 0);
	assert_int_equal(at.router.stats.detours, 0);
}

static void test_failed_for_the_path_is_retried_at_once(void **state)
{
	struct stand_path *peer;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_end(&at.paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	stand_release(&at.paths[0], 0);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[0], 1);
	assert_int_equal(at.lays, 0);
	peer = peer_with(1);
	assert_int_equal(peer->count, 1);
	stand_done(peer, 0);
	assert_int_equal(at.results[0], 0);
	assert_int_equal(at.router.stats.detours, 1);
}

static void test_medium_error_is_not_retried(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_end(&at.paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	stand_release(&at.paths[0], 0);
	assert_int_equal(at.results[0], -EIO);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 0);
}

/* A path that can be reset is; one that cannot leaves a ghost that may be laid by its end. */
static void test_deadlines(void **state)
{
	struct stand_path *peer;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_run_ms(&at.stand, 1100);
	assert_int_equal(at.paths[0].resets, 1);
	stand_end(&at.paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	stand_release(&at.paths[0], 0);
	stand_run_ms(&at.stand, 1);
	peer = peer_with(1);
	stand_run_ms(&at.stand, 1100);
	assert_int_equal(at.router.ghosts_count, 1);
	assert_int_equal(at.results[0], 1);
	stand_done(peer, 0); /* It was done after all; the write is tried again all the same. */
	assert_int_equal(at.router.stats.ghosts_laid_late, 1);
	assert_int_equal(at.router.ghosts_count, 0);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[0], 1);
	peer = peer == &at.paths[1] ? &at.paths[2] : &at.paths[1];
	assert_int_equal(peer->count, 1);
	assert_int_equal(peer->attempts[0]->op, FERRY_OP_WRITE);
	stand_done(peer, 0);
	assert_int_equal(at.results[0], 0);
}

static void test_nothing_can_carry(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		at.paths[i].path.is_up = false;
		at.paths[i].path.on_state(&at.paths[i].path, false, FERRY_CAUSE_PATH);
	}
	submit(0, FERRY_OP_READ, 0);
	stand_run_ms(&at.stand, 4900);
	assert_int_equal(at.results[0], 1);
	assert_true(at.router.is_holding);
	stand_run_ms(&at.stand, 200);
	assert_int_equal(at.results[0], -ETIMEDOUT);
}

static void test_closed_admits_nothing(void **state)
{
	(void)state;
	ferry_router_close(&at.router);
	submit(0, FERRY_OP_READ, 0);
	stand_run_ms(&at.stand, 100);
	assert_int_equal(at.paths[0].count, 0);
	ferry_router_open(&at.router, (struct ferry_epoch){8});
	stand_run_ms(&at.stand, 100);
	assert_int_equal(at.paths[0].attempts[0]->epoch.v, 8);
	stand_done(&at.paths[0], 0);
	assert_int_equal(at.results[0], 0);
}

/* The next owner takes what it has not heard of for lost before its time, or there. */
static void test_deposed_acknowledges_nothing(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	submit(1, FERRY_OP_READ, 8);
	ferry_router_close(&at.router);
	ferry_router_depose(&at.router);
	stand_done(&at.paths[0], 0);
	stand_done(&at.paths[0], 1);
	assert_int_equal(at.results[0], -ESHUTDOWN);
	assert_int_equal(at.results[1], 0);
	ferry_router_open(&at.router, (struct ferry_epoch){9});
	submit(2, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 2);
	assert_int_equal(at.results[2], 0);
}

/* What was in flight when another took the pool is not tried again when it comes back. */
static void test_deposed_retries_nothing(void **state)
{
	uint32_t tried = 0;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	submit(1, FERRY_OP_WRITE, 8);
	ferry_router_close(&at.router);
	ferry_router_depose(&at.router);
	stand_end(&at.paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	stand_release(&at.paths[0], 0);
	stand_end(&at.paths[0], 1, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&at.paths[0], 1);
	stand_run_ms(&at.stand, 1);
	ferry_router_open(&at.router,
			  (struct ferry_epoch){9}); /* In between others have written. */
	assert_true(
		ferry_router_laid(&at.router, ferry_router_local(&at.router), UINT64_MAX, "test"));
	stand_run_ms(&at.stand, 10);
	for (int i = 0; i < 3; i++)
		for (uint32_t j = 0; j < at.paths[i].count; j++)
			tried += at.paths[i].attempts[j] &&
				 at.paths[i].attempts[j]->op == FERRY_OP_WRITE;
	assert_int_equal(tried, 0);
	assert_int_equal(at.results[0], -ESHUTDOWN);
	assert_int_equal(at.results[1], -ESHUTDOWN);
	assert_int_equal(at.router.ghosts_count, 0);
}

/* The local path is down; a second, in which @detours writes are carried by peers. */
static void second_of(uint32_t detours)
{
	uint64_t until_ns = at.stand.sim.now_ns + FERRY_NS_PER_S;

	for (uint32_t i = 0; i < detours; i++) {
		at.results[i] = 1;
		submit(i, FERRY_OP_WRITE, 8 * i);
		stand_run_ms(&at.stand, 1);
		peers_done();
		assert_int_equal(at.results[i], 0);
	}
	sim_run_until(&at.stand.sim, until_ns);
}

/* In two intervals it failed where peers succeeded: the path is broken, until it works again. */
static void test_pairs_convict_the_local_path(void **state)
{
	(void)state;
	local_is_lost();
	stand_run_ms(&at.stand, 500); /* Each second ends between two probes. */
	second_of(1);
	assert_int_equal(at.verdict, FERRY_VERDICT_NONE);
	second_of(1);
	assert_int_equal(at.verdict, FERRY_VERDICT_LOCAL_PATH);
	assert_int_equal(ferry_router_local(&at.router)->state, FERRY_LANE_CONVICTED);
	at.paths[0].path.is_up = true;
	at.paths[0].path.on_state(&at.paths[0].path, true, FERRY_CAUSE_NONE);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[0].attempts[0]->op, FERRY_OP_READ);
	stand_done(&at.paths[0], 0);
	assert_int_equal(at.verdict, FERRY_VERDICT_NONE);
}

/* Without a peer's success in that very interval it may be the storage; nor do many make two. */
static void test_failures_alone_convict_nobody(void **state)
{
	(void)state;
	local_is_lost();
	stand_run_ms(&at.stand, 500);
	for (int i = 0; i < 3; i++)
		second_of(0);
	second_of(4);
	for (int i = 0; i < 3; i++)
		second_of(0);
	assert_int_equal(at.verdict, FERRY_VERDICT_NONE);
	second_of(1);
	assert_int_equal(at.verdict, FERRY_VERDICT_LOCAL_PATH);
}

/* Nor if it is back before that is heard of: in between others have written all the same. */
static void test_back_before_the_end_retries_nothing(void **state)
{
	uint32_t tried = 0;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	submit(1, FERRY_OP_WRITE, 8);
	ferry_router_close(&at.router);
	ferry_router_depose(&at.router);
	ferry_router_open(&at.router, (struct ferry_epoch){9});
	stand_end(&at.paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	stand_release(&at.paths[0], 0);
	stand_end(&at.paths[0], 1, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&at.paths[0], 1);
	stand_run_ms(&at.stand, 10);
	for (int i = 1; i < 3; i++)
		for (uint32_t j = 0; j < at.paths[i].count; j++)
			tried += at.paths[i].attempts[j]->op == FERRY_OP_WRITE;
	assert_int_equal(tried, 0);
	assert_int_equal(at.results[0], -ESHUTDOWN);
	assert_int_equal(at.results[1], -ESHUTDOWN);
	assert_int_equal(at.router.ghosts_count, 1);
	assert_true(lay(0));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, router_setup, router_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_local_path_first),
		TEST(test_failed_for_the_path_is_retried_at_once),
		TEST(test_medium_error_is_not_retried),
		TEST(test_deadlines),
		TEST(test_nothing_can_carry),
		TEST(test_closed_admits_nothing),
		TEST(test_deposed_acknowledges_nothing),
		TEST(test_deposed_retries_nothing),
		TEST(test_back_before_the_end_retries_nothing),
		TEST(test_pairs_convict_the_local_path),
		TEST(test_failures_alone_convict_nobody),
	};

	return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
