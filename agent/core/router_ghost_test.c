/* Ghosts: what waits for one, what may go beside it, and what lays it. */
#include "agent/core/router_stand.h"

/* UNKNOWN: the retry waits for the proof, overlapping writes wait, the rest flows. */
static void test_ghost(void **state)
{
	uint32_t before;

	(void)state;
	at.router.config.waits_for_ghosts = true;
	submit(0, FERRY_OP_WRITE, 8);
	stand_end(&at.paths[0], 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&at.paths[0], 0);
	assert_int_equal(at.lays, 1);
	submit(1, FERRY_OP_WRITE, 11); /* Overlaps by one block. */
	submit(2, FERRY_OP_WRITE, 12); /* Does not. */
	submit(3, FERRY_OP_READ, 8);   /* A read may. */
	submit(4, FERRY_OP_WRITE_ZEROES, 5);
	stand_run_ms(&at.stand, 10);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 2);
	for (int i = 1; i <= 2; i++)
		for (uint32_t j = 0; j < at.paths[i].count; j++)
			stand_done(&at.paths[i], j);
	assert_int_equal(at.results[2], 0);
	assert_int_equal(at.results[3], 0);
	assert_int_equal(at.results[0], 1);
	assert_int_equal(at.results[1], 1);
	before = at.paths[1].count + at.paths[2].count;

	assert_true(
		ferry_router_laid(&at.router, ferry_router_local(&at.router), UINT64_MAX, "test"));
	stand_run_ms(&at.stand, 10);
	assert_int_equal(at.router.stats.ghosts_laid_abort, 1);
	assert_int_equal(at.paths[1].count + at.paths[2].count, before + 3);
	for (int i = 1; i <= 2; i++)
		for (uint32_t j = 0; j < at.paths[i].count; j++)
			if (at.paths[i].attempts[j])
				stand_done(&at.paths[i], j);
	for (int i = 0; i < 5; i++)
		assert_int_equal(at.results[i], 0);
}

/* The same bytes may go elsewhere at once; no others, until the ghost is laid. */
static void retry_beside_the_ghost(enum ferry_op op)
{
	uint32_t before;

	submit(0, op, 8);
	stand_run_ms(&at.stand, 1);
	end_unknown(&at.paths[0]);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 1);
	assert_int_equal(peer_with(1)->attempts[0]->op, op);
	stand_done(peer_with(1), 0);
	assert_int_equal(at.results[0], 0);
	assert_int_equal(at.router.ghosts_count, 1);
	before = at.paths[1].count + at.paths[2].count;
	submit(1, FERRY_OP_WRITE, 11);
	submit(2, FERRY_OP_DISCARD, 5);
	submit(3, FERRY_OP_WRITE_ZEROES, 8);
	submit(4, FERRY_OP_WRITE, 12);
	submit(5, FERRY_OP_READ, 8);
	stand_run_ms(&at.stand, 10);
	assert_int_equal(at.paths[1].count + at.paths[2].count, before + 2);
	end_all(1);
	end_all(2);
	assert_true(lay(0));
	stand_run_ms(&at.stand, 10);
	end_all(1);
	end_all(2);
	for (int i = 0; i < 6; i++)
		assert_int_equal(at.results[i], 0);
}

static void test_write_is_retried_beside_its_ghost(void **state)
{
	(void)state;
	retry_beside_the_ghost(FERRY_OP_WRITE);
}

static void test_discard_is_retried_beside_its_ghost(void **state)
{
	(void)state;
	retry_beside_the_ghost(FERRY_OP_DISCARD);
}

static void test_zeroes_are_retried_beside_their_ghost(void **state)
{
	(void)state;
	retry_beside_the_ghost(FERRY_OP_WRITE_ZEROES);
}

/* Acknowledged after the retry, an overlapping write would be undone by the ghost. */
static void test_retry_waits_for_what_overlaps_it(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 8);
	submit(1, FERRY_OP_WRITE, 10);
	stand_end(&at.paths[0], 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&at.paths[0], 0);
	stand_run_ms(&at.stand, 10);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 0);
	stand_done(&at.paths[0], 1);
	stand_run_ms(&at.stand, 10);
	assert_int_equal(at.results[1], 0);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 1);
	end_all(1);
	end_all(2);
	assert_int_equal(at.results[0], 0);
	assert_true(lay(0));
}

/* And if that one is a ghost too, both wait for the other's to be laid. */
static void test_two_ghosts_that_overlap(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 8);
	submit(1, FERRY_OP_WRITE, 10);
	for (uint32_t i = 0; i < 2; i++) {
		stand_end(&at.paths[0], i, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		stand_release(&at.paths[0], i);
	}
	stand_run_ms(&at.stand, 10);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 0);
	assert_true(lay(0));
	stand_run_ms(&at.stand, 10);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 2);
	end_all(1);
	end_all(2);
	assert_int_equal(at.results[0], 0);
	assert_int_equal(at.results[1], 0);
}

/* One ghost on each lane; then it waits for all of them. */
static void test_several_ghosts_of_one_write(void **state)
{
	struct stand_path *first;
	struct stand_path *second;

	(void)state;
	submit(0, FERRY_OP_WRITE, 8);
	end_unknown(&at.paths[0]);
	first = peer_with(1);
	second = first == &at.paths[1] ? &at.paths[2] : &at.paths[1];
	end_unknown(first);
	assert_int_equal(second->count, 1);
	end_unknown(second);
	assert_int_equal(at.router.ghosts_count, 3);
	assert_int_equal(at.paths[0].count + at.paths[1].count + at.paths[2].count, 3);
	submit(1, FERRY_OP_WRITE, 8);
	assert_true(lay(0));
	assert_true(lay(1));
	stand_run_ms(&at.stand, 150);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 2);
	assert_true(lay(2));
	stand_run_ms(&at.stand, 150);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 4); /* Both, in whatever order. */
	end_all(1);
	end_all(2);
	assert_int_equal(at.results[0], 0);
	assert_int_equal(at.results[1], 0);
}

/* Ghosts in every slot: that is holding, and it ends. */
static void test_ghosts_fill_all_slots(void **state)
{
	uint32_t done = 0;

	(void)state;
	for (uint32_t i = 0; at.router.ghosts_count < ROUTER_IOS_MAX * FERRY_TRIES_PER_ROUTE; i++) {
		struct ferry_lane *lane = &at.router.lanes[1 + i % 2];

		ferry_lane_allow(&at.router.lanes[0], false, "test");
		lane->avoid_until_ns = 0;
		at.router.lanes[1 + (i + 1) % 2].avoid_until_ns = UINT64_MAX;
		at.results[0] = 1;
		submit(0, FERRY_OP_WRITE, 8 * i);
		stand_run_ms(&at.stand, 1);
		stand_end(&at.paths[1 + i % 2], 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		stand_release(&at.paths[1 + i % 2], 0);
		at.paths[1 + i % 2].count = 0;
		ferry_router_fail_waiting(&at.router, -ESHUTDOWN);
		done++;
	}
	assert_int_equal(done, ROUTER_IOS_MAX * FERRY_TRIES_PER_ROUTE);
	assert_false(at.router.is_holding);
	at.router.lanes[1].avoid_until_ns = 0;
	submit(1, FERRY_OP_READ, 0);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[1].count, 0);
	assert_true(at.router.is_holding);
	assert_true(lay(2));
	stand_run_ms(&at.stand, 1);
	assert_false(at.router.is_holding);
	assert_int_equal(at.paths[1].count, 1);
	stand_done(&at.paths[1], 0);
	assert_int_equal(at.results[1], 0);
	assert_true(lay(1));
	at.router.lanes[2].avoid_until_ns = 0;
}

/* What set out after the abort was asked for is not covered by its answer. */
static void test_later_ghost_is_not_laid(void **state)
{
	uint64_t asked_at;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	asked_at = at.router.sequence_last; /* At the very same time. */
	submit(1, FERRY_OP_WRITE, 100);
	for (uint32_t i = 0; i < 2; i++) {
		stand_end(&at.paths[0], i, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		stand_release(&at.paths[0], i);
	}
	assert_false(
		ferry_router_laid(&at.router, ferry_router_local(&at.router), asked_at, "test"));
	assert_int_equal(at.router.ghosts_count, 1);
	assert_true(
		ferry_router_laid(&at.router, ferry_router_local(&at.router), UINT64_MAX, "test"));
	ferry_router_fail_waiting(&at.router, -ESHUTDOWN);
	assert_int_equal(at.results[0], -ESHUTDOWN);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, router_setup, router_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_ghost),
		TEST(test_write_is_retried_beside_its_ghost),
		TEST(test_discard_is_retried_beside_its_ghost),
		TEST(test_zeroes_are_retried_beside_their_ghost),
		TEST(test_retry_waits_for_what_overlaps_it),
		TEST(test_two_ghosts_that_overlap),
		TEST(test_several_ghosts_of_one_write),
		TEST(test_ghosts_fill_all_slots),
		TEST(test_later_ghost_is_not_laid),
	};

	return cmocka_run_group_tests_name("router_ghost", tests, NULL, NULL);
}
