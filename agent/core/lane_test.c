/* A lane's states, deadlines and probes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/lane.h"
#include "tests/sim/core_stand.h"

static struct stand stand;
static struct stand_path path;
static struct ferry_lane lane;
static struct ferry_flight flights[8];
static uint32_t overdue;
static uint32_t probes_failed;
static uint32_t probes_done;
static uint32_t resets;

static void on_change(struct ferry_lane *self, void *context)
{
	(void)self;
	(void)context;
}

static void on_probe(struct ferry_lane *self, bool works, void *context)
{
	(void)self;
	(void)context;
	probes_done += works;
	probes_failed += !works;
}

static void on_reset(struct ferry_lane *self, enum ferry_cause cause, void *context)
{
	(void)self;
	(void)cause;
	(void)context;
	resets++;
}

static void on_mark(struct ferry_lane *self, struct ferry_mark mark, bool is_done, void *context)
{
	(void)self;
	(void)mark;
	(void)is_done;
	(void)context;
}

static void on_end(struct ferry_flight *flight, enum ferry_outcome outcome, enum ferry_cause cause)
{
	(void)flight;
	(void)outcome;
	(void)cause;
}

static void on_released(struct ferry_flight *flight)
{
	(void)flight;
}

static void on_overdue(struct ferry_flight *flight)
{
	(void)flight;
	overdue++;
}

static void open_lane(enum ferry_path_kind kind, bool can_reset, bool needs_permit)
{
	struct ferry_lane_config config = {.loop = &stand.loop.loop,
					   .arena = &stand.arena,
					   .pool = "pool",
					   .block_bytes = STAND_BLOCK_BYTES,
					   .timeout_ns = 1 * FERRY_NS_PER_S,
					   .needs_permit = needs_permit,
					   .on_change = on_change,
					   .on_probe = on_probe,
					   .on_reset = on_reset,
					   .on_mark = on_mark};

	stand_open(&stand);
	overdue = probes_failed = probes_done = resets = 0;
	stand_path_init(&path, kind, 1, can_reset);
	ferry_lane_init(&lane, &path.path, &config);
}

static void close_lane(void)
{
	for (uint32_t i = 0; i < path.count; i++)
		if (path.attempts[i])
			stand_done(&path, i);
	ferry_lane_done(&lane);
	stand_close(&stand);
}

static void fly(uint32_t i)
{
	flights[i] = (struct ferry_flight){.attempt = {.op = FERRY_OP_FLUSH},
					   .on_end = on_end,
					   .on_released = on_released,
					   .on_overdue = on_overdue};
	assert_int_equal(ferry_lane_submit(&lane, &flights[i]), 0);
}

static void test_suspect_and_back(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	for (uint32_t i = 0; i < 2; i++) {
		fly(i);
		stand_end(&path, i, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
		stand_release(&path, i);
		assert_int_equal(lane.state, FERRY_LANE_SUSPECT);
		assert_true(ferry_lane_is_usable(&lane));
	}
	fly(2);
	stand_done(&path, 2);
	assert_int_equal(lane.state, FERRY_LANE_HEALTHY);
	close_lane();
}

/* A trial is won by probes alone where there is no I/O; a relapse makes the next one longer. */
static void test_forwarding_probation_healthy(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	stand_run_ms(&stand, 1);
	fly(0);
	stand_end(&path, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&path, 0);
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	assert_false(ferry_lane_is_usable(&lane));
	path.path.is_up = false;
	stand_run_ms(&stand, 3500);
	assert_int_equal(probes_failed, 3);
	ferry_lane_convict(&lane, "test");
	assert_int_equal(lane.state, FERRY_LANE_CONVICTED);
	path.path.is_up = true;
	path.path.on_state(&path.path, true, FERRY_CAUSE_NONE);
	stand_run_ms(&stand, 1);
	assert_int_equal(path.count, 2);
	stand_done(&path, 1);
	assert_int_equal(lane.state, FERRY_LANE_PROBATION);
	assert_true(ferry_lane_is_usable(&lane));
	path.count = 0;
	for (uint32_t i = 0; i < 400 && lane.state == FERRY_LANE_PROBATION; i++) {
		stand_run_ms(&stand, 50);
		for (uint32_t j = 0; j < path.count; j++)
			stand_done(&path, j);
		path.count = 0;
	}
	assert_int_equal(lane.state, FERRY_LANE_HEALTHY);
	close_lane();
}

static void test_deadline_resets(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	fly(0);
	stand_run_ms(&stand, 600);
	fly(1);
	stand_run_ms(&stand, 390);
	assert_int_equal(path.resets, 0);
	stand_run_ms(&stand, 20);
	assert_int_equal(path.resets, 1); /* One for all that is in flight. */
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	assert_int_equal(overdue, 0);
	close_lane();
}

static void test_deadline_without_reset(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_PEER, false, false);
	ferry_lane_set_peer_has_path(&lane, true);
	fly(0);
	stand_run_ms(&stand, 500);
	fly(1);
	stand_run_ms(&stand, 510);
	assert_int_equal(overdue, 1);
	assert_false(ferry_lane_is_usable(&lane)); /* Avoided for a while. */
	stand_run_ms(&stand, 500);
	assert_int_equal(overdue, 2);
	stand_run_ms(&stand, 1100);
	assert_true(ferry_lane_is_usable(&lane));
	close_lane();
}

/* A probe that cannot even be sent has failed; short buffers say nothing about the path. */
static void test_probe_is_not_sent(void **state)
{
	struct ferry_segments taken;

	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	fly(0);
	stand_end(&path, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&path, 0);
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	assert_int_equal(ferry_arena_take(&stand.arena, STAND_CHUNKS * FERRY_CHUNK_BYTES, &taken),
			 0);
	stand_run_ms(&stand, 3500);
	assert_int_equal(probes_failed, 0);
	ferry_segments_drop(&taken);
	path.submit_error = -EAGAIN;
	stand_run_ms(&stand, 3500);
	assert_in_range(probes_failed, 2, 4);
	path.submit_error = 0;
	probes_failed = 0;
	stand_run_ms(&stand, 1500);
	assert_int_equal(probes_failed, 0);
	assert_int_equal(path.count, 2);
	stand_done(&path, 1);
	assert_int_equal(probes_done, 1);
	close_lane();
}

/* A peer is asked once for what it has seen, and again when its link was down meanwhile. */
static void test_greeting(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_PEER, false, false);
	ferry_lane_greet(&lane, (struct ferry_epoch){5}); /* It has no path: it is of no use. */
	assert_int_equal(path.count, 0);
	ferry_lane_set_peer_has_path(&lane, true);
	ferry_lane_greet(&lane, (struct ferry_epoch){5});
	assert_int_equal(path.count, 1);
	assert_int_equal(path.attempts[0]->epoch.v, 5);
	ferry_lane_greet(&lane, (struct ferry_epoch){5}); /* While it is being asked. */
	assert_int_equal(path.count, 1);
	stand_done(&path, 0);
	lane.is_greeted = true; /* The router's part. */
	ferry_lane_greet(&lane, (struct ferry_epoch){5});
	assert_int_equal(path.count, 1);
	close_lane();
}

static void test_permit(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, true);
	assert_false(ferry_lane_is_usable(&lane));
	ferry_lane_allow(&lane, true, "test");
	assert_true(ferry_lane_is_usable(&lane));
	fly(0);
	stand_end(&path, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	stand_release(&path, 0);
	assert_false(lane.is_allowed); /* Stop: it is not the path's fault. */
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	close_lane();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_suspect_and_back),
		cmocka_unit_test(test_forwarding_probation_healthy),
		cmocka_unit_test(test_deadline_resets),
		cmocka_unit_test(test_deadline_without_reset),
		cmocka_unit_test(test_probe_is_not_sent),
		cmocka_unit_test(test_greeting),
		cmocka_unit_test(test_permit),
	};

	return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
