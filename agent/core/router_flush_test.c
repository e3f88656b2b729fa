/* What a FLUSH may promise: whose answer is believed, and after which losses none is. */
#include "agent/core/router_stand.h"

/* What a FLUSH was to cover is given up with the pool: its late answer promises nothing. */
static void test_deposed_flush_fails(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	submit(1, FERRY_OP_FLUSH, 0);
	submit(2, FERRY_OP_FLUSH, 0);
	ferry_router_close(&at.router);
	ferry_router_depose(&at.router);
	stand_done(&at.paths[0], 1);
	assert_int_equal(at.results[1], -ESHUTDOWN);
	ferry_router_open(&at.router, (struct ferry_epoch){9});
	stand_done(&at.paths[0], 2);
	assert_int_equal(at.results[2], -ESHUTDOWN);
	flush_by_local(3, 0); /* One of its own time is believed. */
}

static void test_failed_flush_stays_failed(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	submit(1, FERRY_OP_FLUSH, 0);
	stand_end(&at.paths[0], 1, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	stand_release(&at.paths[0], 1);
	assert_int_equal(at.results[1], -EIO);
	submit(2, FERRY_OP_FLUSH, 0);
	stand_done(&at.paths[0], 2);
	assert_int_equal(at.results[2], -EIO); /* A later success proves nothing (rule 11). */
	ferry_router_clear_suspect(&at.router);
	submit(3, FERRY_OP_FLUSH, 0);
	stand_done(&at.paths[0], 3);
	assert_int_equal(at.results[3], 0);
}

/* The target restarts, and only the peer that carries is told. */
static void test_peers_losses_fail_the_flush(void **state)
{
	struct stand_path *peer;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	local_is_lost();
	submit(1, FERRY_OP_FLUSH, 0);
	peer = peer_with(1);
	peer_done(peer, 0, 2);
	assert_int_equal(at.results[1], -EIO);
	submit(2, FERRY_OP_FLUSH, 0); /* Nor is the next one believed. */
	for (int i = 1; i < 3; i++)
		for (uint32_t j = 0; j < at.paths[i].count; j++)
			if (at.paths[i].attempts[j])
				peer_done(&at.paths[i], j, 2);
	assert_int_equal(at.results[2], -EIO);
}

/* What the last owner wrote may be read here, and a FLUSH says that it will stay. */
static void test_losses_of_what_was_inherited_fail_the_flush(void **state)
{
	(void)state;
	flush_by_local(0, 0);
	ferry_router_note_reset(&at.router, ferry_router_local(&at.router), "test");
	flush_by_local(1, 0); /* It had been flushed. */
	ferry_router_close(&at.router);
	ferry_router_open(&at.router, (struct ferry_epoch){8});
	ferry_router_note_reset(&at.router, ferry_router_local(&at.router), "test");
	flush_by_local(2, -EIO);
}

/* Only where an abort may reset the lun is a reset during one no news. */
static void test_reset_during_an_abort(void **state)
{
	struct ferry_lane *local = ferry_router_local(&at.router);

	(void)state;
	at.router.config.aborts_may_reset = true;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	ferry_router_expect_reset(&at.router);
	ferry_router_note_reset(&at.router, local, "test");
	ferry_router_reset_answered(&at.router);
	stand_run_ms(&at.stand, 1);
	flush_by_local(1, 0); /* And with it all have been reported. */
	at.router.config.aborts_may_reset = false;
	submit(2, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], at.paths[0].count - 1);
	ferry_router_expect_reset(&at.router);
	ferry_router_note_reset(&at.router, local, "test");
	ferry_router_reset_answered(&at.router);
	flush_by_local(3, -EIO);
}

/* With another's answer, and for a write that is under way when it comes. */
static void test_peers_losses_hit_what_is_in_flight(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	at.router.lanes[0].is_allowed = false;
	submit(1, FERRY_OP_READ, 8);
	at.router.lanes[0].is_allowed = true;
	peer_done(peer_with(1), 0, 2);
	stand_done(&at.paths[0], 0);
	assert_int_equal(at.results[0], 0);
	flush_by_local(2, -EIO);
}

/* An agent that is new cannot know what happened to older writes. */
static void test_new_peer_does_not_vouch(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	for (int i = 1; i < 3; i++) { /* Both agents start anew. */
		at.paths[i].path.on_state(&at.paths[i].path, false, FERRY_CAUSE_PATH);
		at.paths[i].path.on_state(&at.paths[i].path, true, FERRY_CAUSE_NONE);
	}
	stand_run_ms(&at.stand, 1);
	for (int i = 1; i < 3; i++) {
		assert_int_equal(at.paths[i].count, 1);
		at.paths[i].attempts[0]->mark = (struct ferry_mark){.boot = {10}, .losses = 1};
		stand_done(&at.paths[i], 0);
	}
	local_is_lost();
	submit(1, FERRY_OP_FLUSH, 0);
	submit(2, FERRY_OP_READ, 0); /* It does not at.stand in others' way. */
	stand_run_ms(&at.stand, 10);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 3);
	stand_done(peer_with(2), 1);
	assert_int_equal(at.results[2], 0);
	stand_run_ms(&at.stand, 5000);
	assert_int_equal(at.results[1], -ETIMEDOUT);
	/* The node's own path was there all the time: it knows. */
	at.paths[0].path.is_up = true;
	at.router.lanes[0].state = FERRY_LANE_HEALTHY;
	flush_by_local(3, 0);
	submit(4, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], at.paths[0].count - 1);
	local_is_lost();
	submit(5, FERRY_OP_FLUSH, 0); /* What came later, they would know of. */
	stand_run_ms(&at.stand, 10);
	for (int i = 1; i < 3; i++)
		for (uint32_t j = 0; j < at.paths[i].count; j++)
			if (at.paths[i].attempts[j]) {
				at.paths[i].attempts[j]->mark =
					(struct ferry_mark){.boot = {10}, .losses = 1};
				stand_done(&at.paths[i], j);
			}
	assert_int_equal(at.results[5], 0);
}

/* A cache below that forgets says so once: the retry's success proves nothing. */
static void test_lost_writes_fail_the_flush(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	submit(1, FERRY_OP_FLUSH, 0);
	stand_end(&at.paths[0], 1, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST);
	stand_release(&at.paths[0], 1);
	assert_int_equal(at.results[1], -EIO);
	assert_true(at.router.flush.is_suspect);
}

/* FUA by a flush of its own: the error was told to the one beside it, and it was in both. */
static void test_fua_beside_a_loss(void **state)
{
	uint32_t again;

	(void)state;
	submit(0, FERRY_OP_FLUSH, 0);
	submit_flagged(1, FERRY_OP_WRITE, FERRY_IO_FUA, 0);
	submit_flagged(2, FERRY_OP_WRITE, 0, 8);
	stand_end(&at.paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST);
	stand_release(&at.paths[0], 0);
	assert_int_equal(at.results[0], -EIO);
	stand_done(&at.paths[0], 2); /* It promises nothing. */
	assert_int_equal(at.results[2], 0);
	stand_done(&at.paths[0], 1);
	assert_int_equal(at.results[1], 1); /* Not told. */
	stand_run_ms(&at.stand, 1);
	again = peer_with(1)->count - 1;
	assert_int_equal(peer_with(1)->attempts[again]->op, FERRY_OP_WRITE);
	assert_int_equal(peer_with(1)->attempts[again]->flags, FERRY_IO_FUA);
	peer_done(peer_with(1), again, 1); /* Begun after the loss. */
	assert_int_equal(at.results[1], 0);
}

/* What peers have seen of a loss they tell when it is cleared. */
static void test_cleared_asks_peers(void **state)
{
	(void)state;
	stand_run_ms(&at.stand, 100);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 0);
	ferry_router_clear_suspect(&at.router);
	stand_run_ms(&at.stand, 1);
	for (uint32_t i = 1; i < 3; i++) {
		assert_int_equal(at.router.lanes[i].vouches_since, UINT64_MAX);
		assert_int_equal(at.paths[i].count, 1);
		assert_int_equal(at.paths[i].attempts[0]->op, FERRY_OP_READ);
		peer_done(&at.paths[i], 0, 4);
		assert_true(at.router.lanes[i].is_greeted);
		at.paths[i].count = 0;
	}
	assert_false(at.router.flush.is_suspect);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, router_setup, router_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_deposed_flush_fails),
		TEST(test_failed_flush_stays_failed),
		TEST(test_peers_losses_fail_the_flush),
		TEST(test_losses_of_what_was_inherited_fail_the_flush),
		TEST(test_reset_during_an_abort),
		TEST(test_peers_losses_hit_what_is_in_flight),
		TEST(test_new_peer_does_not_vouch),
		TEST(test_lost_writes_fail_the_flush),
		TEST(test_fua_beside_a_loss),
		TEST(test_cleared_asks_peers),
	};

	return cmocka_run_group_tests_name("router_flush", tests, NULL, NULL);
}
