/* Which lane an I/O goes by, what it does when none takes it, and how long it waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/router.h"
#include "tests/sim/core_stand.h"

enum { IOS_MAX = 8, BLOCKS = 4, HOLD_MS = 5000, LANES = 3 };

static struct stand stand;
static struct stand_path paths[FERRY_LANES_MAX];
static struct ferry_router router;
static struct ferry_io ios[IOS_MAX];
static int results[IOS_MAX]; /* 1: not done. */
static uint32_t lays;
static uint32_t idles;
static uint32_t lanes_news;
static uint32_t holds;
static uint32_t resumes;
static uint32_t suspects;

static void on_event(struct ferry_events *self, const struct ferry_event *event)
{
	(void)self;
	assert_string_equal(event->pool, "pool");
	holds += event->kind == FERRY_EVENT_HOLD;
	resumes += event->kind == FERRY_EVENT_RESUME;
	suspects += event->kind == FERRY_EVENT_FLUSH_SUSPECT;
}

static struct ferry_events events = {.emit = on_event};

static void on_lay(struct ferry_lane *lane, void *context)
{
	(void)lane;
	(void)context;
	lays++;
}

static void on_lanes(void *context)
{
	(void)context;
	lanes_news++;
}

static void on_idle(void *context)
{
	(void)context;
	assert_true(ferry_router_is_idle(&router));
	idles++;
}

static void on_done(struct ferry_io *io, int error)
{
	assert_int_equal(results[io - ios], 1); /* Once. */
	results[io - ios] = error;
	ferry_segments_drop(&io->segments);
}

static void end_all(void)
{
	for (uint32_t i = 0; i < LANES; i++) {
		for (uint32_t j = 0; j < paths[i].count; j++)
			if (paths[i].attempts[j]) {
				if (i > 0)
					paths[i].attempts[j]->mark =
						(struct ferry_mark){.boot = {9}, .losses = 1};
				stand_done(&paths[i], j);
			}
		paths[i].count = 0;
	}
}

static int setup(void **state)
{
	struct ferry_router_config config = stand_router_config(&stand);
	struct ferry_lane *lane;

	(void)state;
	stand_open(&stand);
	config.events = &events;
	config.inflight_max = IOS_MAX;
	config.path_timeout_ns = 60 * FERRY_NS_PER_S;
	config.hold_timeout_ns = HOLD_MS * FERRY_NS_PER_MS;
	config.lay = on_lay;
	config.on_lanes = on_lanes;
	config.on_idle = on_idle;
	lays = idles = lanes_news = holds = resumes = suspects = 0;
	assert_int_equal(ferry_router_init(&router, &stand.region, &config), 0);
	for (uint32_t i = 0; i < LANES; i++) {
		stand_path_init(&paths[i], i == 0 ? FERRY_PATH_LOCAL : FERRY_PATH_PEER, i + 1,
				/* can_reset= */ i == 0);
		assert_int_equal(ferry_router_add_path(&router, &paths[i].path, false, &lane), 0);
		if (i > 0)
			ferry_lane_set_peer_has_path(lane, true);
	}
	for (int i = 0; i < IOS_MAX; i++)
		results[i] = 1;
	ferry_router_open(&router, (struct ferry_epoch){7});
	stand_run_ms(&stand, 1);
	end_all(); /* Peers have said what they have seen. */
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	end_all();
	ferry_router_fail_waiting(&router, -ESHUTDOWN);
	ferry_router_done(&router);
	stand_close(&stand);
	return 0;
}

static int try_submit(uint32_t i, enum ferry_op op)
{
	int r;

	ios[i] = (struct ferry_io){
		.op = op, .lba = {8 * i}, .length_blocks = BLOCKS, .on_done = on_done};
	results[i] = 1;
	if (op == FERRY_OP_FLUSH)
		ios[i].lba.v = ios[i].length_blocks = 0;
	if (op == FERRY_OP_WRITE)
		assert_int_equal(ferry_arena_take(&stand.arena, BLOCKS * STAND_BLOCK_BYTES,
						  &ios[i].segments),
				 0);
	r = ferry_router_submit(&router, &ios[i]);
	if (r < 0)
		ferry_segments_drop(&ios[i].segments);
	return r;
}

static void submit(uint32_t i, enum ferry_op op)
{
	assert_int_equal(try_submit(i, op), 0);
}

static void path_set_up(uint32_t i, bool is_up)
{
	paths[i].path.is_up = is_up;
	paths[i].path.on_state(&paths[i].path, is_up, is_up ? FERRY_CAUSE_NONE : FERRY_CAUSE_PATH);
}

static void end(uint32_t i, enum ferry_outcome outcome, enum ferry_cause cause)
{
	uint32_t last = paths[i].count - 1;

	assert_true(paths[i].count > 0);
	stand_end(&paths[i], last, outcome, cause);
	stand_release(&paths[i], last);
	paths[i].count--;
	stand_run_ms(&stand, 1);
}

/* Which path has it. */
static uint32_t path_with_one(void)
{
	assert_int_equal(paths[0].count + paths[1].count + paths[2].count, 1);
	return paths[0].count ? 0 : paths[1].count ? 1 : 2;
}

/* Each lane once; then over again, no faster than lanes are avoided. */
static void test_each_lane_once(void **state)
{
	bool was_on[LANES] = {false};

	(void)state;
	submit(0, FERRY_OP_WRITE);
	for (uint32_t i = 0; i < LANES; i++) {
		uint32_t on = path_with_one();

		assert_int_equal(on == 0, i == 0); /* Its own first. */
		assert_false(was_on[on]);
		was_on[on] = true;
		end(on, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	}
	for (uint32_t i = 0; i < 2; i++) { /* Its own until it is taken to be broken. */
		assert_int_equal(path_with_one(), 0);
		end(0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	}
	assert_int_equal(paths[0].count + paths[1].count + paths[2].count, 0);
	stand_run_ms(&stand, 150); /* The peers have been let alone for long enough. */
	assert_true(path_with_one() != 0);
	assert_int_equal(lays, 0);
	end_all();
	assert_int_equal(results[0], 0);
	assert_int_equal(router.stats.detours, 1);
}

/* What failed on one lane for one I/O says nothing to the next. */
static void test_next_one_has_all_lanes(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE);
	end(0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	submit(1, FERRY_OP_READ);
	assert_int_equal(paths[0].count, 1);
	assert_int_equal(paths[1].count + paths[2].count, 1);
}

static void test_path_is_gone_at_submission(void **state)
{
	(void)state;
	paths[0].submit_error = -ENOTCONN;
	submit(0, FERRY_OP_READ);
	stand_run_ms(&stand, 1);
	assert_true(path_with_one() != 0);
	assert_false(ferry_lane_is_usable(ferry_router_local(&router)));
	paths[0].submit_error = 0;
	stand_run_ms(&stand, 10);
	submit(1, FERRY_OP_READ);
	assert_int_equal(paths[0].count, 1);
}

static void test_path_is_full(void **state)
{
	(void)state;
	paths[0].submit_error = -EAGAIN;
	submit(0, FERRY_OP_READ);
	submit(1, FERRY_OP_READ);
	stand_run_ms(&stand, 100);
	assert_int_equal(paths[0].count + paths[1].count + paths[2].count, 0);
	paths[0].submit_error = 0;
	stand_run_ms(&stand, 100);
	assert_int_equal(paths[0].count, 0); /* It says when. */
	paths[0].path.on_room(&paths[0].path);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[0].count, 2);
	assert_int_equal(paths[0].attempts[0]->lba.v, 0); /* In their order. */
}

static void test_buffers_are_short(void **state)
{
	struct ferry_segments taken;

	(void)state;
	assert_int_equal(ferry_arena_take(&stand.arena, STAND_CHUNKS * FERRY_CHUNK_BYTES, &taken),
			 0);
	submit(0, FERRY_OP_READ);
	submit(1, FERRY_OP_READ);
	stand_run_ms(&stand, 100);
	assert_int_equal(paths[0].count, 0);
	ferry_segments_drop(&taken);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[0].count, 2);
}

static void test_lun_cannot(void **state)
{
	(void)state;
	paths[0].submit_error = -EOPNOTSUPP;
	submit(0, FERRY_OP_DISCARD);
	submit(1, FERRY_OP_WRITE_ZEROES);
	assert_int_equal(results[0], 1); /* Never from inside. */
	stand_run_ms(&stand, 1);
	assert_int_equal(results[0], 0); /* Advice. */
	assert_int_equal(results[1], -EIO);
	assert_int_equal(router.stats.errors, 1);
}

/* Of two peers the one with less latency times outstanding, most of the time. */
static void test_chooses_peers(void **state)
{
	uint32_t counts[LANES] = {0};

	(void)state;
	path_set_up(0, false);
	for (int by = 0; by < 3; by++) { /* By latency, one and the other; by what is in flight. */
		memset(counts, 0, sizeof(counts));
		for (uint32_t i = 0; i < 200; i++) {
			router.lanes[1].stats.latency_ns =
				by == 0 ? FERRY_NS_PER_S : FERRY_NS_PER_MS;
			router.lanes[2].stats.latency_ns =
				by == 1 ? FERRY_NS_PER_S : FERRY_NS_PER_MS;
			router.lanes[2].flights_count = by == 2 ? 3 : 0;
			submit(0, FERRY_OP_READ);
			router.lanes[2].flights_count -= by == 2 ? 3 : 0;
			counts[path_with_one()]++;
			end_all();
		}
		assert_int_equal(counts[0], 0);
		if (by == 1) {
			assert_in_range(counts[1], 130, 170); /* Three of four. */
			assert_int_equal(counts[1] + counts[2], 200);
		}
		if (by == 0)
			assert_in_range(counts[2], 130, 170);
		if (by == 2)
			assert_in_range(counts[1], 130, 170);
	}
}

/* A peer that does not know of losses before the writes proves nothing by a flush. */
static void test_flush_goes_where_losses_are_known(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE);
	end_all();
	path_set_up(0, false);
	router.lanes[1].vouches_since = UINT64_MAX;
	for (uint32_t i = 1; i < 7; i++) {
		submit(i, FERRY_OP_FLUSH);
		assert_int_equal(paths[1].count, 0);
	}
	assert_int_equal(paths[2].count, 6);
	end_all();
	router.lanes[2].vouches_since = UINT64_MAX;
	submit(1, FERRY_OP_WRITE);
	end_all();
	submit(2, FERRY_OP_FLUSH);
	submit(3, FERRY_OP_READ); /* What others can do does not wait for it. */
	stand_run_ms(&stand, 1);
	assert_int_equal(results[2], 1);
	assert_int_equal(paths[1].count + paths[2].count, 1);
}

static void test_holding_is_told_once(void **state)
{
	(void)state;
	ferry_lane_set_peer_has_path(&router.lanes[1], false);
	ferry_lane_set_peer_has_path(&router.lanes[2], false);
	path_set_up(0, false);
	stand_run_ms(&stand, 10);
	assert_int_equal(holds, 0); /* Nothing waits. */
	submit(0, FERRY_OP_READ);
	submit(1, FERRY_OP_READ);
	stand_run_ms(&stand, 10);
	assert_int_equal(holds, 1);
	assert_int_equal(resumes, 0);
	ferry_lane_set_peer_has_path(&router.lanes[1], true);
	stand_run_ms(&stand, 1);
	assert_int_equal(paths[1].count, 2);
	assert_int_equal(resumes, 1);
	assert_int_equal(holds, 1);
	end_all();
	ferry_router_close(&router);
	submit(0, FERRY_OP_READ);
	stand_run_ms(&stand, 1);
	assert_int_equal(holds, 2); /* No quorum. */
	ferry_router_fail_waiting(&router, -ETIMEDOUT);
	assert_int_equal(results[0], -ETIMEDOUT);
	ferry_router_open(&router, (struct ferry_epoch){7});
	stand_run_ms(&stand, 1);
	assert_int_equal(resumes, 2); /* With nothing left that waits: a way for the next one. */
}

/* Nothing waits any more, and there is still no way for the next one. */
static void test_holding_ends_with_a_way(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < LANES; i++)
		path_set_up(i, false);
	submit(0, FERRY_OP_READ);
	stand_run_ms(&stand, 1);
	ferry_router_fail_waiting(&router, -ETIMEDOUT);
	ferry_lane_set_peer_has_path(&router.lanes[1], false); /* News, but no way. */
	stand_run_ms(&stand, 1);
	assert_int_equal(holds, 1);
	assert_int_equal(resumes, 0);
	path_set_up(2, true);
	stand_run_ms(&stand, 1);
	assert_int_equal(resumes, 1);
}

/* What is only avoided is tried again when that is over, and not before. */
static void test_avoided_lanes_come_back(void **state)
{
	(void)state;
	path_set_up(0, false);
	ferry_lane_avoid(&router.lanes[1], 400 * FERRY_NS_PER_MS);
	ferry_lane_avoid(&router.lanes[2], 300 * FERRY_NS_PER_MS);
	submit(0, FERRY_OP_READ);
	stand_run_ms(&stand, 298);
	assert_int_equal(paths[1].count + paths[2].count, 0);
	stand_run_ms(&stand, 4);
	assert_int_equal(path_with_one(), 2);
}

/* Each has its own time from when it came, wherever it waits. */
static void test_patience(void **state)
{
	(void)state;
	router.config.waits_for_ghosts = true;
	submit(0, FERRY_OP_WRITE);
	stand_run_ms(&stand, 1000);
	end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH); /* Waits for its ghost. */
	ferry_lane_set_peer_has_path(&router.lanes[1], false);
	ferry_lane_set_peer_has_path(&router.lanes[2], false);
	submit(1, FERRY_OP_READ); /* Waits for a lane. */
	stand_run_ms(&stand, 2000);
	submit(2, FERRY_OP_READ);
	stand_run_ms(&stand, 1990);
	assert_int_equal(results[0], 1);
	stand_run_ms(&stand, 20);
	assert_int_equal(results[0], -ETIMEDOUT);
	assert_int_equal(results[1], 1);
	stand_run_ms(&stand, 990);
	assert_int_equal(results[1], -ETIMEDOUT);
	assert_int_equal(results[2], 1);
	assert_int_equal(idles, 0);
	stand_run_ms(&stand, 2010);
	assert_int_equal(results[2], -ETIMEDOUT);
	assert_int_equal(router.stats.errors, 3);
	assert_int_equal(router.ghosts_count, 1); /* It lives on without its I/O. */
	end_all();				  /* Probes. */
	assert_false(ferry_router_lane_is_clean(&router, ferry_router_local(&router)));
	assert_true(ferry_router_lane_is_clean(&router, &router.lanes[1]));
	ferry_lane_allow(ferry_router_local(&router), false, "test");
	assert_true(ferry_router_laid(&router, ferry_router_local(&router), UINT64_MAX, "test"));
	assert_true(ferry_router_lane_is_clean(&router, ferry_router_local(&router)));
	assert_true(idles > 0);
}

/* A read was given up and done by another path; its end, when it comes, is news all the same. */
static void test_late_end(void **state)
{
	uint32_t first;

	(void)state;
	path_set_up(0, false);
	submit(0, FERRY_OP_READ);
	first = paths[1].count > 0 ? 1 : 2;
	assert_int_equal(paths[first].count, 1);
	stand_run_ms(&stand, 60 * 1000 + 10);
	assert_int_equal(paths[3 - first].count, 1);
	stand_done(&paths[3 - first], 0);
	assert_int_equal(results[0], 0);
	assert_int_equal(idles, 1);
	assert_false(ferry_router_lane_is_clean(&router, &router.lanes[first]));
	stand_done(&paths[first], 0);
	assert_true(ferry_router_lane_is_clean(&router, &router.lanes[first]));
	assert_int_equal(idles, 2); /* Whoever waits for that looks again. */
}

/* Also if nothing else waits, for a lane or for a ghost. */
static void test_patience_of_one(void **state)
{
	(void)state;
	router.config.waits_for_ghosts = true;
	submit(0, FERRY_OP_WRITE);
	stand_run_ms(&stand, 1000);
	end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_run_ms(&stand, HOLD_MS - 1010);
	end_all();
	assert_int_equal(results[0], 1);
	stand_run_ms(&stand, 20);
	assert_int_equal(results[0], -ETIMEDOUT);
	end_all();
	ferry_lane_allow(ferry_router_local(&router), false, "test");
	(void)ferry_router_laid(&router, ferry_router_local(&router), UINT64_MAX, "test");
	for (uint32_t i = 1; i < LANES; i++)
		path_set_up(i, false);
	submit(1, FERRY_OP_READ);
	stand_run_ms(&stand, HOLD_MS - 10);
	assert_int_equal(results[1], 1);
	stand_run_ms(&stand, 20);
	assert_int_equal(results[1], -ETIMEDOUT);
}

/* No lane is left to try it on beside its ghost; when one comes, it goes. */
static void test_revives(void **state)
{
	(void)state;
	path_set_up(1, false);
	path_set_up(2, false);
	submit(0, FERRY_OP_WRITE);
	end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_int_equal(lays, 1);
	stand_run_ms(&stand, 100);
	assert_int_equal(paths[1].count + paths[2].count, 0);
	path_set_up(2, true);
	stand_run_ms(&stand, 1);
	assert_true(paths[2].count >= 1);
	end_all();
	assert_int_equal(results[0], 0);
	assert_int_equal(router.ghosts_count, 1);
	ferry_lane_allow(ferry_router_local(&router), false, "test");
	(void)ferry_router_laid(&router, ferry_router_local(&router), UINT64_MAX, "test");
}

static void test_counts(void **state)
{
	(void)state;
	submit(0, FERRY_OP_READ);
	submit(1, FERRY_OP_WRITE);
	submit(2, FERRY_OP_FLUSH);
	submit(3, FERRY_OP_DISCARD);
	assert_int_equal(router.routes_count, 4);
	stand_run_ms(&stand, 30);
	end_all();
	assert_int_equal(router.routes_count, 0);
	assert_int_equal(idles, 1);
	assert_int_equal(router.stats.reads, 1);
	assert_int_equal(router.stats.writes, 2);
	assert_int_equal(router.stats.flushes, 1);
	assert_int_equal(router.stats.errors, 0);
	assert_in_range(router.stats.latency_ns_max, 30 * FERRY_NS_PER_MS, 31 * FERRY_NS_PER_MS);
	submit(0, FERRY_OP_READ);
	end_all();
	assert_in_range(router.stats.latency_ns_max, 30 * FERRY_NS_PER_MS, 31 * FERRY_NS_PER_MS);
}

/* Acknowledged writes may be lost: people are told, once, and the application each time. */
static void test_suspects_are_told(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE);
	end_all();
	submit(1, FERRY_OP_FLUSH);
	end_all();
	assert_int_equal(results[1], 0);
	assert_int_equal(suspects, 0);
	submit(0, FERRY_OP_WRITE);
	end_all();
	for (uint32_t i = 1; i <= 2; i++) {
		submit(i, FERRY_OP_FLUSH);
		end(0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
		assert_int_equal(results[i], -EIO);
		assert_int_equal(suspects, 1);
	}
}

static void test_bounds(void **state)
{
	struct ferry_lane *lane;

	(void)state;
	for (uint32_t i = 0; i < IOS_MAX; i++)
		submit(i, FERRY_OP_READ);
	assert_int_equal(ferry_router_submit(&router, &(struct ferry_io){.op = FERRY_OP_FLUSH,
									 .on_done = on_done}),
			 -EAGAIN);
	for (uint32_t i = LANES; i < FERRY_LANES_MAX; i++) {
		stand_path_init(&paths[i], FERRY_PATH_PEER, i + 1, false);
		assert_int_equal(ferry_router_add_path(&router, &paths[i].path, false, &lane), 0);
	}
	assert_int_equal(ferry_router_add_path(&router, &paths[1].path, false, &lane), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_each_lane_once),
		TEST(test_next_one_has_all_lanes),
		TEST(test_path_is_gone_at_submission),
		TEST(test_path_is_full),
		TEST(test_buffers_are_short),
		TEST(test_lun_cannot),
		TEST(test_chooses_peers),
		TEST(test_flush_goes_where_losses_are_known),
		TEST(test_holding_is_told_once),
		TEST(test_holding_ends_with_a_way),
		TEST(test_avoided_lanes_come_back),
		TEST(test_patience),
		TEST(test_late_end),
		TEST(test_patience_of_one),
		TEST(test_revives),
		TEST(test_counts),
		TEST(test_suspects_are_told),
		TEST(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
