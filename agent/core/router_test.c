/* The router on one scripted local path and two scripted peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/router.h"
#include "tests/sim/core_stand.h"

enum { IOS_MAX = 8 };

static struct stand stand;
static struct stand_path paths[3];
static struct ferry_router router;
static struct ferry_io ios[IOS_MAX];
static int results[IOS_MAX]; /* 1: not done. */
static uint32_t lays;
static bool flushes_by_path;
static enum ferry_verdict verdict;

static void on_lay(struct ferry_lane *lane, void *context)
{
	(void)context;
	lays++;
	if (lane == ferry_router_local(&router))
		ferry_lane_allow(lane, false, "consent");
}

static void on_verdict(enum ferry_verdict now, void *context)
{
	(void)context;
	verdict = now;
}

static void nothing(void *context)
{
	(void)context;
}

static void on_done(struct ferry_io *io, int error)
{
	assert_int_equal(results[io - ios], 1); /* Once. */
	results[io - ios] = error;
	ferry_segments_drop(&io->segments);
}

/* DONE, by an agent that has seen @losses resets. */
static void peer_done(struct stand_path *path, uint32_t i, uint64_t losses)
{
	path->attempts[i]->mark = (struct ferry_mark){.boot = {9}, .losses = losses};
	stand_done(path, i);
}

static int setup(void **state)
{
	struct ferry_router_config config = {
		.loop = &stand.loop.loop,
		.arena = &stand.arena,
		.pool = "pool",
		.self = {1},
		.block_bytes = STAND_BLOCK_BYTES,
		.inflight_max = IOS_MAX,
		.flushes_by_path = flushes_by_path,
		.path_timeout_ns = 1 * FERRY_NS_PER_S,
		.hold_timeout_ns = 5 * FERRY_NS_PER_S,
		.convict_failures = 2,
		.convict_window_ns = 60 * FERRY_NS_PER_S,
		.lay = on_lay,
		.on_verdict = on_verdict,
		.on_lanes = nothing,
		.on_idle = nothing,
	};
	struct ferry_lane *lane;

	(void)state;
	stand_open(&stand);
	lays = 0;
	verdict = FERRY_VERDICT_NONE;
	assert_int_equal(ferry_router_init(&router, &stand.region, &config), 0);
	for (uint32_t i = 0; i < 3; i++) {
		stand_path_init(&paths[i], i == 0 ? FERRY_PATH_LOCAL : FERRY_PATH_PEER, i + 1,
				i == 0);
		assert_int_equal(ferry_router_add_path(&router, &paths[i].path, false, &lane), 0);
		if (i > 0)
			ferry_lane_set_peer_has_path(lane, true);
	}
	for (int i = 0; i < IOS_MAX; i++)
		results[i] = 1;
	ferry_router_open(&router, (struct ferry_epoch){7});
	stand_run_ms(&stand, 1);
	for (uint32_t i = 1; i < 3; i++) { /* Peers are asked what they have seen so far. */
		assert_int_equal(paths[i].count, 1);
		assert_int_equal(paths[i].attempts[0]->op, FERRY_OP_READ);
		peer_done(&paths[i], 0, 1);
		paths[i].count = 0;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) /* Probes, and what a test left. */
		for (uint32_t j = 0; j < paths[i].count; j++)
			if (paths[i].attempts[j])
				stand_done(&paths[i], j);
	ferry_router_done(&router);
	flushes_by_path = false;
	stand_close(&stand);
	return 0;
}

static void submit_flagged(uint32_t i, enum ferry_op op, uint32_t flags, uint64_t lba)
{
	ios[i] = (struct ferry_io){
		.op = op, .flags = flags, .lba = {lba}, .length_blocks = 4, .on_done = on_done};
	if (op == FERRY_OP_FLUSH)
		ios[i].lba.v = ios[i].length_blocks = 0;
	if (op == FERRY_OP_WRITE)
		assert_int_equal(
			ferry_arena_take(&stand.arena, 4 * STAND_BLOCK_BYTES, &ios[i].segments), 0);
	assert_int_equal(ferry_router_submit(&router, &ios[i]), 0);
}

static void submit(uint32_t i, enum ferry_op op, uint64_t lba)
{
	submit_flagged(i, op, /* flags= */ 0, lba);
}

static struct stand_path *peer_with(uint32_t count)
{
	return paths[1].count == count ? &paths[1] : &paths[2];
}

static void test_local_path_first(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	submit(1, FERRY_OP_READ, 0);
	assert_int_equal(paths[0].count, 2);
	assert_int_equal(paths[0].attempts[0]->epoch.v, 7);
	stand_done(&paths[0], 0);
	stand_done(&paths[0], 1);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], 0);
	assert_int_equal(router.stats.detours, 0);
}

static void test_failed_for_the_path_is_retried_at_once(void **state)
{
	struct stand_path *peer;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_end(&paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	stand_release(&paths[0], 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(results[0], 1);
	assert_int_equal(lays, 0);
	peer = peer_with(1);
	assert_int_equal(peer->count, 1);
	stand_done(peer, 0);
	assert_int_equal(results[0], 0);
	assert_int_equal(router.stats.detours, 1);
}

static void test_medium_error_is_not_retried(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_end(&paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	stand_release(&paths[0], 0);
	assert_int_equal(results[0], -EIO);
	assert_int_equal(paths[1].count + paths[2].count, 0);
}

/* UNKNOWN: the retry waits for the proof, overlapping writes wait, the rest flows. */
static void test_ghost(void **state)
{
	uint32_t before;

	(void)state;
	router.config.waits_for_ghosts = true;
	submit(0, FERRY_OP_WRITE, 8);
	stand_end(&paths[0], 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&paths[0], 0);
	assert_int_equal(lays, 1);
	submit(1, FERRY_OP_WRITE, 11); /* Overlaps by one block. */
	submit(2, FERRY_OP_WRITE, 12); /* Does not. */
	submit(3, FERRY_OP_READ, 8);   /* A read may. */
	submit(4, FERRY_OP_WRITE_ZEROES, 5);
	stand_run_ms(&stand, 10);
	assert_int_equal(paths[1].count + paths[2].count, 2);
	for (int i = 1; i <= 2; i++)
		for (uint32_t j = 0; j < paths[i].count; j++)
			stand_done(&paths[i], j);
	assert_int_equal(results[2], 0);
	assert_int_equal(results[3], 0);
	assert_int_equal(results[0], 1);
	assert_int_equal(results[1], 1);
	before = paths[1].count + paths[2].count;

	assert_true(ferry_router_laid(&router, ferry_router_local(&router), UINT64_MAX, "test"));
	stand_run_ms(&stand, 10);
	assert_int_equal(router.stats.ghosts_laid_abort, 1);
	assert_int_equal(paths[1].count + paths[2].count, before + 3);
	for (int i = 1; i <= 2; i++)
		for (uint32_t j = 0; j < paths[i].count; j++)
			if (paths[i].attempts[j])
				stand_done(&paths[i], j);
	for (int i = 0; i < 5; i++)
		assert_int_equal(results[i], 0);
}

static void end_all(int i)
{
	for (uint32_t j = 0; j < paths[i].count; j++)
		if (paths[i].attempts[j])
			stand_done(&paths[i], j);
}

static void end_unknown(struct stand_path *path)
{
	stand_end(path, path->count - 1, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(path, path->count - 1);
	stand_run_ms(&stand, 1);
}

static bool lay(uint32_t i)
{
	return ferry_router_laid(&router, &router.lanes[i], UINT64_MAX, "test");
}

/* The same bytes may go elsewhere at once; no others, until the ghost is laid. */
static void retry_beside_the_ghost(enum ferry_op op)
{
	uint32_t before;

	submit(0, op, 8);
	stand_run_ms(&stand, 1);
	end_unknown(&paths[0]);
	assert_int_equal(paths[1].count + paths[2].count, 1);
	assert_int_equal(peer_with(1)->attempts[0]->op, op);
	stand_done(peer_with(1), 0);
	assert_int_equal(results[0], 0);
	assert_int_equal(router.ghosts_count, 1);
	before = paths[1].count + paths[2].count;
	submit(1, FERRY_OP_WRITE, 11);
	submit(2, FERRY_OP_DISCARD, 5);
	submit(3, FERRY_OP_WRITE_ZEROES, 8);
	submit(4, FERRY_OP_WRITE, 12);
	submit(5, FERRY_OP_READ, 8);
	stand_run_ms(&stand, 10);
	assert_int_equal(paths[1].count + paths[2].count, before + 2);
	end_all(1);
	end_all(2);
	assert_true(lay(0));
	stand_run_ms(&stand, 10);
	end_all(1);
	end_all(2);
	for (int i = 0; i < 6; i++)
		assert_int_equal(results[i], 0);
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
	stand_end(&paths[0], 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&paths[0], 0);
	stand_run_ms(&stand, 10);
	assert_int_equal(paths[1].count + paths[2].count, 0);
	stand_done(&paths[0], 1);
	stand_run_ms(&stand, 10);
	assert_int_equal(results[1], 0);
	assert_int_equal(paths[1].count + paths[2].count, 1);
	end_all(1);
	end_all(2);
	assert_int_equal(results[0], 0);
	assert_true(lay(0));
}

/* And if that one is a ghost too, both wait for the other's to be laid. */
static void test_two_ghosts_that_overlap(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 8);
	submit(1, FERRY_OP_WRITE, 10);
	for (uint32_t i = 0; i < 2; i++) {
		stand_end(&paths[0], i, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		stand_release(&paths[0], i);
	}
	stand_run_ms(&stand, 10);
	assert_int_equal(paths[1].count + paths[2].count, 0);
	assert_true(lay(0));
	stand_run_ms(&stand, 10);
	assert_int_equal(paths[1].count + paths[2].count, 2);
	end_all(1);
	end_all(2);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], 0);
}

/* One ghost on each lane; then it waits for all of them. */
static void test_several_ghosts_of_one_write(void **state)
{
	struct stand_path *first;
	struct stand_path *second;

	(void)state;
	submit(0, FERRY_OP_WRITE, 8);
	end_unknown(&paths[0]);
	first = peer_with(1);
	second = first == &paths[1] ? &paths[2] : &paths[1];
	end_unknown(first);
	assert_int_equal(second->count, 1);
	end_unknown(second);
	assert_int_equal(router.ghosts_count, 3);
	assert_int_equal(paths[0].count + paths[1].count + paths[2].count, 3);
	submit(1, FERRY_OP_WRITE, 8);
	assert_true(lay(0));
	assert_true(lay(1));
	stand_run_ms(&stand, 150);
	assert_int_equal(paths[1].count + paths[2].count, 2);
	assert_true(lay(2));
	stand_run_ms(&stand, 150);
	assert_int_equal(paths[1].count + paths[2].count, 4); /* Both, in whatever order. */
	end_all(1);
	end_all(2);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], 0);
}

/* Ghosts in every slot: that is holding, and it ends. */
static void test_ghosts_fill_all_slots(void **state)
{
	uint32_t done = 0;

	(void)state;
	for (uint32_t i = 0; router.ghosts_count < IOS_MAX * FERRY_TRIES_PER_ROUTE; i++) {
		struct ferry_lane *lane = &router.lanes[1 + i % 2];

		ferry_lane_allow(&router.lanes[0], false, "test");
		lane->avoid_until_ns = 0;
		router.lanes[1 + (i + 1) % 2].avoid_until_ns = UINT64_MAX;
		results[0] = 1;
		submit(0, FERRY_OP_WRITE, 8 * i);
		stand_run_ms(&stand, 1);
		stand_end(&paths[1 + i % 2], 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		stand_release(&paths[1 + i % 2], 0);
		paths[1 + i % 2].count = 0;
		ferry_router_fail_waiting(&router, -ESHUTDOWN);
		done++;
	}
	assert_int_equal(done, IOS_MAX * FERRY_TRIES_PER_ROUTE);
	assert_false(router.is_holding);
	router.lanes[1].avoid_until_ns = 0;
	submit(1, FERRY_OP_READ, 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[1].count, 0);
	assert_true(router.is_holding);
	assert_true(lay(2));
	stand_run_ms(&stand, 1);
	assert_false(router.is_holding);
	assert_int_equal(paths[1].count, 1);
	stand_done(&paths[1], 0);
	assert_int_equal(results[1], 0);
	assert_true(lay(1));
	router.lanes[2].avoid_until_ns = 0;
}

/* What set out after the abort was asked for is not covered by its answer. */
static void test_later_ghost_is_not_laid(void **state)
{
	uint64_t asked_at;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	asked_at = router.sequence_last; /* At the very same time. */
	submit(1, FERRY_OP_WRITE, 100);
	for (uint32_t i = 0; i < 2; i++) {
		stand_end(&paths[0], i, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		stand_release(&paths[0], i);
	}
	assert_false(ferry_router_laid(&router, ferry_router_local(&router), asked_at, "test"));
	assert_int_equal(router.ghosts_count, 1);
	assert_true(ferry_router_laid(&router, ferry_router_local(&router), UINT64_MAX, "test"));
	ferry_router_fail_waiting(&router, -ESHUTDOWN);
	assert_int_equal(results[0], -ESHUTDOWN);
}

/* A path that can be reset is; one that cannot leaves a ghost that may be laid by its end. */
static void test_deadlines(void **state)
{
	struct stand_path *peer;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_run_ms(&stand, 1100);
	assert_int_equal(paths[0].resets, 1);
	stand_end(&paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	stand_release(&paths[0], 0);
	stand_run_ms(&stand, 1);
	peer = peer_with(1);
	stand_run_ms(&stand, 1100);
	assert_int_equal(router.ghosts_count, 1);
	assert_int_equal(results[0], 1);
	stand_done(peer, 0); /* It was done after all; the write is tried again all the same. */
	assert_int_equal(router.stats.ghosts_laid_late, 1);
	assert_int_equal(router.ghosts_count, 0);
	stand_run_ms(&stand, 4000);
	for (int i = 1; i <= 2; i++)
		for (uint32_t j = 0; j < paths[i].count; j++)
			if (paths[i].attempts[j])
				stand_done(&paths[i], j);
	assert_true(results[0] == 0 || results[0] == -ETIMEDOUT);
}

static void test_nothing_can_carry(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		paths[i].path.is_up = false;
		paths[i].path.on_state(&paths[i].path, false, FERRY_CAUSE_PATH);
	}
	submit(0, FERRY_OP_READ, 0);
	stand_run_ms(&stand, 4900);
	assert_int_equal(results[0], 1);
	assert_true(router.is_holding);
	stand_run_ms(&stand, 200);
	assert_int_equal(results[0], -ETIMEDOUT);
}

static void test_closed_admits_nothing(void **state)
{
	(void)state;
	ferry_router_close(&router);
	submit(0, FERRY_OP_READ, 0);
	stand_run_ms(&stand, 100);
	assert_int_equal(paths[0].count, 0);
	ferry_router_open(&router, (struct ferry_epoch){8});
	stand_run_ms(&stand, 100);
	assert_int_equal(paths[0].attempts[0]->epoch.v, 8);
	stand_done(&paths[0], 0);
	assert_int_equal(results[0], 0);
}

/* What was in flight when another took the pool is not tried again when it comes back. */
static void test_deposed_retries_nothing(void **state)
{
	uint32_t tried = 0;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	submit(1, FERRY_OP_WRITE, 8);
	ferry_router_close(&router);
	ferry_router_depose(&router);
	stand_end(&paths[0], 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	stand_release(&paths[0], 0);
	stand_end(&paths[0], 1, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&paths[0], 1);
	stand_run_ms(&stand, 1);
	ferry_router_open(&router, (struct ferry_epoch){9}); /* In between others have written. */
	assert_true(ferry_router_laid(&router, ferry_router_local(&router), UINT64_MAX, "test"));
	stand_run_ms(&stand, 10);
	for (int i = 0; i < 3; i++)
		for (uint32_t j = 0; j < paths[i].count; j++)
			tried += paths[i].attempts[j] && paths[i].attempts[j]->op == FERRY_OP_WRITE;
	assert_int_equal(tried, 0);
	assert_int_equal(results[0], -ESHUTDOWN);
	assert_int_equal(results[1], -ESHUTDOWN);
	assert_int_equal(router.ghosts_count, 0);
}

static void flush_by_local(uint32_t io, int expected)
{
	submit(io, FERRY_OP_FLUSH, 0);
	stand_done(&paths[0], paths[0].count - 1);
	assert_int_equal(results[io], expected);
}

/* What a FLUSH was to cover is given up with the pool: its late answer promises nothing. */
static void test_deposed_flush_fails(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	submit(1, FERRY_OP_FLUSH, 0);
	submit(2, FERRY_OP_FLUSH, 0);
	ferry_router_close(&router);
	ferry_router_depose(&router);
	stand_done(&paths[0], 1);
	assert_int_equal(results[1], -ESHUTDOWN);
	ferry_router_open(&router, (struct ferry_epoch){9});
	stand_done(&paths[0], 2);
	assert_int_equal(results[2], -ESHUTDOWN);
	flush_by_local(3, 0); /* One of its own time is believed. */
}

static void test_failed_flush_stays_failed(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	submit(1, FERRY_OP_FLUSH, 0);
	stand_end(&paths[0], 1, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	stand_release(&paths[0], 1);
	assert_int_equal(results[1], -EIO);
	submit(2, FERRY_OP_FLUSH, 0);
	stand_done(&paths[0], 2);
	assert_int_equal(results[2], -EIO); /* A later success proves nothing (rule 11). */
	ferry_router_clear_suspect(&router);
	submit(3, FERRY_OP_FLUSH, 0);
	stand_done(&paths[0], 3);
	assert_int_equal(results[3], 0);
}

/* ---- What a FLUSH may promise. ---- */

static void local_is_lost(void)
{
	paths[0].path.is_up = false;
	paths[0].path.on_state(&paths[0].path, false, FERRY_CAUSE_PATH);
}

/* The target restarts, and only the peer that carries is told. */
static void test_peers_losses_fail_the_flush(void **state)
{
	struct stand_path *peer;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	local_is_lost();
	submit(1, FERRY_OP_FLUSH, 0);
	peer = peer_with(1);
	peer_done(peer, 0, 2);
	assert_int_equal(results[1], -EIO);
	submit(2, FERRY_OP_FLUSH, 0); /* Nor is the next one believed. */
	for (int i = 1; i < 3; i++)
		for (uint32_t j = 0; j < paths[i].count; j++)
			if (paths[i].attempts[j])
				peer_done(&paths[i], j, 2);
	assert_int_equal(results[2], -EIO);
}

/* What the last owner wrote may be read here, and a FLUSH says that it will stay. */
static void test_losses_of_what_was_inherited_fail_the_flush(void **state)
{
	(void)state;
	flush_by_local(0, 0);
	ferry_router_note_reset(&router, ferry_router_local(&router), "test");
	flush_by_local(1, 0); /* It had been flushed. */
	ferry_router_close(&router);
	ferry_router_open(&router, (struct ferry_epoch){8});
	ferry_router_note_reset(&router, ferry_router_local(&router), "test");
	flush_by_local(2, -EIO);
}

/* Only where an abort may reset the lun is a reset during one no news. */
static void test_reset_during_an_abort(void **state)
{
	struct ferry_lane *local = ferry_router_local(&router);

	(void)state;
	router.config.aborts_may_reset = true;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	ferry_router_expect_reset(&router);
	ferry_router_note_reset(&router, local, "test");
	ferry_router_reset_answered(&router);
	stand_run_ms(&stand, 1);
	flush_by_local(1, 0); /* And with it all have been reported. */
	router.config.aborts_may_reset = false;
	submit(2, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], paths[0].count - 1);
	ferry_router_expect_reset(&router);
	ferry_router_note_reset(&router, local, "test");
	ferry_router_reset_answered(&router);
	flush_by_local(3, -EIO);
}

/* With another's answer, and for a write that is under way when it comes. */
static void test_peers_losses_hit_what_is_in_flight(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	router.lanes[0].is_allowed = false;
	submit(1, FERRY_OP_READ, 8);
	router.lanes[0].is_allowed = true;
	peer_done(peer_with(1), 0, 2);
	stand_done(&paths[0], 0);
	assert_int_equal(results[0], 0);
	flush_by_local(2, -EIO);
}

/* An agent that is new cannot know what happened to older writes. */
static void test_new_peer_does_not_vouch(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	for (int i = 1; i < 3; i++) { /* Both agents start anew. */
		paths[i].path.on_state(&paths[i].path, false, FERRY_CAUSE_PATH);
		paths[i].path.on_state(&paths[i].path, true, FERRY_CAUSE_NONE);
	}
	stand_run_ms(&stand, 1);
	for (int i = 1; i < 3; i++) {
		assert_int_equal(paths[i].count, 1);
		paths[i].attempts[0]->mark = (struct ferry_mark){.boot = {10}, .losses = 1};
		stand_done(&paths[i], 0);
	}
	local_is_lost();
	submit(1, FERRY_OP_FLUSH, 0);
	submit(2, FERRY_OP_READ, 0); /* It does not stand in others' way. */
	stand_run_ms(&stand, 10);
	assert_int_equal(paths[1].count + paths[2].count, 3);
	stand_done(peer_with(2), 1);
	assert_int_equal(results[2], 0);
	stand_run_ms(&stand, 5000);
	assert_int_equal(results[1], -ETIMEDOUT);
	/* The node's own path was there all the time: it knows. */
	paths[0].path.is_up = true;
	router.lanes[0].state = FERRY_LANE_HEALTHY;
	flush_by_local(3, 0);
	submit(4, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], paths[0].count - 1);
	local_is_lost();
	submit(5, FERRY_OP_FLUSH, 0); /* What came later, they would know of. */
	stand_run_ms(&stand, 10);
	for (int i = 1; i < 3; i++)
		for (uint32_t j = 0; j < paths[i].count; j++)
			if (paths[i].attempts[j]) {
				paths[i].attempts[j]->mark =
					(struct ferry_mark){.boot = {10}, .losses = 1};
				stand_done(&paths[i], j);
			}
	assert_int_equal(results[5], 0);
}

/* A cache below that forgets says so once: the retry's success proves nothing. */
static void test_lost_writes_fail_the_flush(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	submit(1, FERRY_OP_FLUSH, 0);
	stand_end(&paths[0], 1, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST);
	stand_release(&paths[0], 1);
	assert_int_equal(results[1], -EIO);
	assert_true(router.flush.is_suspect);
}

/* ---- Where each path has a cache of its own (rule 10). ---- */

static int setup_by_path(void **state)
{
	flushes_by_path = true;
	return setup(state);
}

static void peers_done(void)
{
	for (int i = 1; i < 3; i++)
		for (uint32_t j = 0; j < paths[i].count; j++)
			if (paths[i].attempts[j])
				peer_done(&paths[i], j, 1);
	stand_run_ms(&stand, 1);
}

/* A FLUSH goes to each path that has something; and to no other. */
static void test_flush_goes_to_every_path(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	router.lanes[0].is_allowed = false;
	submit(1, FERRY_OP_WRITE, 8);
	router.lanes[0].is_allowed = true;
	peers_done();
	submit(2, FERRY_OP_FLUSH, 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[0].count, 2);
	assert_int_equal(peer_with(2)->attempts[1]->op, FERRY_OP_FLUSH);
	assert_int_equal(paths[1].count + paths[2].count, 2);
	stand_done(&paths[0], 1);
	stand_run_ms(&stand, 1);
	assert_int_equal(results[2], 1);
	peers_done();
	assert_int_equal(results[2], 0);
	assert_int_equal(router.keep.count, 0);
}

/* A path is lost: its unflushed writes are written anew, in order, before anything relies on it. */
static void test_lost_path_is_replayed(void **state)
{
	uint8_t byte = 0;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) { /* The second one over the first. */
		submit(i, FERRY_OP_WRITE, 2 * i);
		ferry_segments_write(&ios[i].segments, 0, &(uint8_t){(uint8_t)(7 + i)}, 1);
		stand_done(&paths[0], i);
	}
	local_is_lost();
	submit(2, FERRY_OP_FLUSH, 0);
	submit(3, FERRY_OP_READ, 3);
	submit(4, FERRY_OP_WRITE, 0);
	submit(5, FERRY_OP_READ, 20);
	for (uint32_t i = 0; i < 2; i++) {
		struct stand_path *peer = &paths[1];

		stand_run_ms(&stand, 1);
		for (int j = 1; j < 3; j++) /* 20 flows; 0 to 5 wait. */
			for (uint32_t k = 0; k < paths[j].count; k++) {
				if (!paths[j].attempts[k])
					continue;
				if (paths[j].attempts[k]->op == FERRY_OP_READ) {
					assert_int_equal(paths[j].attempts[k]->lba.v, 20);
					peer_done(&paths[j], k, 1);
					continue;
				}
				peer = &paths[j];
				assert_int_equal(paths[j].attempts[k]->op, FERRY_OP_WRITE);
				assert_int_equal(paths[j].attempts[k]->lba.v, 2 * i);
				ferry_segments_read(&paths[j].attempts[k]->segments, 0, &byte, 1);
			}
		assert_int_equal(byte, 7 + i);
		assert_int_equal(results[2], 1);
		assert_int_equal(results[3], 1);
		assert_int_equal(results[4], 1);
		peer_done(peer, peer->count - 1, 1);
	}
	for (int i = 0; i < 5; i++) {
		stand_run_ms(&stand, 1);
		peers_done();
	}
	for (int i = 2; i < 6; i++)
		assert_int_equal(results[i], 0);
	assert_false(router.flush.is_suspect);
}

/* A reset seen by a peer: what it had goes anew; a write that was under way too. */
static void test_peers_loss_is_replayed(void **state)
{
	uint32_t i;

	(void)state;
	router.lanes[0].is_allowed = false;
	submit(0, FERRY_OP_WRITE, 0);
	stand_run_ms(&stand, 1);
	i = paths[1].count == 1 ? 1 : 2;
	router.lanes[3 - i].avoid_until_ns = UINT64_MAX;
	submit(1, FERRY_OP_READ, 30);
	stand_run_ms(&stand, 1);
	peer_done(&paths[i], 1, 2); /* The read's answer tells. */
	peer_done(&paths[i], 0, 2);
	stand_run_ms(&stand, 1);
	assert_int_equal(results[0], 0);
	/* What it read may be older than the write: that is asked again. */
	assert_int_equal(paths[i].count, 4);
	assert_int_equal(results[1], 1);
	assert_int_equal(paths[i].attempts[2]->op, FERRY_OP_READ);
	assert_int_equal(paths[i].attempts[3]->op, FERRY_OP_WRITE);
	peer_done(&paths[i], 2, 2);
	peer_done(&paths[i], 3, 2);
	submit(2, FERRY_OP_FLUSH, 0);
	stand_run_ms(&stand, 1);
	peer_done(&paths[i], 4, 2);
	stand_run_ms(&stand, 1);
	assert_int_equal(results[1], 0);
	assert_int_equal(results[2], 0);
	router.lanes[3 - i].avoid_until_ns = 0;
}

/*
 * What was acknowledged as durable is not written over by what is older, not for a moment: the
 * agent may be killed, or deposed, before the newer bytes follow. So what it overlaps is flushed
 * before it starts.
 */
static void test_durable_write_over_a_kept_one(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	assert_int_equal(router.keep.count, 1);
	submit_flagged(1, FERRY_OP_WRITE, FERRY_IO_FUA, 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[0].count, 2);
	assert_int_equal(paths[0].attempts[1]->op, FERRY_OP_FLUSH);
	stand_done(&paths[0], 1);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[0].attempts[2]->flags, FERRY_IO_FUA);
	stand_done(&paths[0], 2);
	assert_int_equal(results[1], 0);
	assert_int_equal(router.keep.count, 0);
	local_is_lost();
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[1].count + paths[2].count, 0); /* Nothing is written anew. */
}

/* What is kept is bounded: flushes are forced. */
static void test_kept_writes_are_bounded(void **state)
{
	uint32_t flushes = 0;

	(void)state;
	for (uint32_t i = 0; i < 20; i++) {
		results[0] = 1;
		submit(0, FERRY_OP_WRITE, 8 * i);
		for (int j = 0; j < 4 && results[0] == 1; j++) {
			uint32_t last = paths[0].count - 1;

			stand_run_ms(&stand, 1);
			last = paths[0].count - 1;
			flushes += paths[0].attempts[last]->op == FERRY_OP_FLUSH;
			stand_done(&paths[0], last);
		}
		assert_int_equal(results[0], 0);
		assert_true(router.keep.chunks <= STAND_CHUNKS / 4);
	}
	assert_true(flushes >= 4);
}

/* A flush that the path's cache fails: written anew, and flushed again. */
static void test_failed_flush_of_a_path_is_replayed(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&paths[0], 0);
	submit(1, FERRY_OP_FLUSH, 0);
	stand_run_ms(&stand, 1);
	stand_end(&paths[0], 1, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST);
	stand_release(&paths[0], 1);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[0].attempts[2]->op, FERRY_OP_WRITE);
	stand_done(&paths[0], 2);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[0].attempts[3]->op, FERRY_OP_FLUSH);
	assert_int_equal(results[1], 1);
	stand_done(&paths[0], 3);
	stand_run_ms(&stand, 1);
	assert_int_equal(results[1], 0);
}

/* What peers have seen of a loss they tell when it is cleared. */
static void test_cleared_asks_peers(void **state)
{
	(void)state;
	stand_run_ms(&stand, 100);
	assert_int_equal(paths[1].count + paths[2].count, 0);
	ferry_router_clear_suspect(&router);
	stand_run_ms(&stand, 1);
	for (uint32_t i = 1; i < 3; i++) {
		assert_int_equal(router.lanes[i].vouches_since, UINT64_MAX);
		assert_int_equal(paths[i].count, 1);
		assert_int_equal(paths[i].attempts[0]->op, FERRY_OP_READ);
		peer_done(&paths[i], 0, 4);
		assert_true(router.lanes[i].is_greeted);
		paths[i].count = 0;
	}
	assert_false(router.flush.is_suspect);
}

int main(void)
{
#define BY_PATH(name) cmocka_unit_test_setup_teardown(name, setup_by_path, teardown)
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_local_path_first),
		TEST(test_failed_for_the_path_is_retried_at_once),
		TEST(test_medium_error_is_not_retried),
		TEST(test_ghost),
		TEST(test_write_is_retried_beside_its_ghost),
		TEST(test_discard_is_retried_beside_its_ghost),
		TEST(test_zeroes_are_retried_beside_their_ghost),
		TEST(test_retry_waits_for_what_overlaps_it),
		TEST(test_two_ghosts_that_overlap),
		TEST(test_several_ghosts_of_one_write),
		TEST(test_ghosts_fill_all_slots),
		TEST(test_later_ghost_is_not_laid),
		TEST(test_deadlines),
		TEST(test_nothing_can_carry),
		TEST(test_closed_admits_nothing),
		TEST(test_deposed_retries_nothing),
		TEST(test_deposed_flush_fails),
		TEST(test_failed_flush_stays_failed),
		TEST(test_peers_losses_fail_the_flush),
		TEST(test_losses_of_what_was_inherited_fail_the_flush),
		TEST(test_reset_during_an_abort),
		TEST(test_peers_losses_hit_what_is_in_flight),
		TEST(test_new_peer_does_not_vouch),
		TEST(test_lost_writes_fail_the_flush),
		TEST(test_cleared_asks_peers),
		BY_PATH(test_flush_goes_to_every_path),
		BY_PATH(test_lost_path_is_replayed),
		BY_PATH(test_peers_loss_is_replayed),
		BY_PATH(test_durable_write_over_a_kept_one),
		BY_PATH(test_kept_writes_are_bounded),
		BY_PATH(test_failed_flush_of_a_path_is_replayed),
		BY_PATH(test_local_path_first),
	};

	return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
