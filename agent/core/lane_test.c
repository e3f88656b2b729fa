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
static uint32_t changes;
static uint32_t clears;
static uint32_t marks;
static bool mark_is_done;
static enum ferry_cause reset_cause;

static void on_change(struct ferry_lane *self, void *context)
{
	(void)self;
	(void)context;
	changes++;
}

static void on_probe(struct ferry_lane *self, bool works, void *context)
{
	(void)self;
	(void)context;
	probes_done += works;
	probes_failed += !works;
}

static void on_clear(struct ferry_lane *self, void *context)
{
	(void)context;
	assert_int_equal(self->flights_count, 0);
	clears++;
}

static void on_reset(struct ferry_lane *self, enum ferry_cause cause, void *context)
{
	(void)self;
	(void)context;
	reset_cause = cause;
	resets++;
}

static void on_mark(struct ferry_lane *self, struct ferry_mark mark, bool is_done, void *context)
{
	(void)self;
	(void)context;
	assert_int_equal(mark.losses, 3);
	mark_is_done = is_done;
	marks++;
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
					   .on_clear = on_clear,
					   .on_reset = on_reset,
					   .on_mark = on_mark};

	stand_open(&stand);
	overdue = probes_failed = probes_done = resets = changes = clears = marks = 0;
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
	assert_int_equal(clears, 0);
	stand_done(&path, 0);
	assert_int_equal(clears, 1); /* Whoever drains has waited for it. */
	lane.is_greeted = true;	     /* The router's part. */
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
	assert_string_equal(lane.reason, "reservation conflict");
	close_lane();
	open_lane(FERRY_PATH_LOCAL, true, false);
	path.path.is_up = false;
	path.path.on_state(&path.path, false, FERRY_CAUSE_PATH);
	assert_string_equal(lane.reason, "the path failed");
	ferry_lane_allow(&lane, false, "consent"); /* The same state, for another reason. */
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	assert_string_equal(lane.reason, "consent");
	close_lane();
}

/* It flies and ends so. */
static void end_with(enum ferry_outcome outcome, enum ferry_cause cause)
{
	fly(0);
	stand_end(&path, path.count - 1, outcome, cause);
	stand_release(&path, path.count - 1);
	path.count = 0;
}

/* Time passes, probes succeed; no longer than until it is in that state. */
static void probe_while_not(enum ferry_lane_state state, uint64_t ms)
{
	for (uint64_t i = 0; i < ms / 10 && lane.state != state; i++) {
		stand_run_ms(&stand, 10);
		for (uint32_t j = 0; j < path.count; j++)
			stand_done(&path, j);
		path.count = 0;
	}
}

static void probe_until(enum ferry_lane_state state, uint64_t ms)
{
	probe_while_not(state, ms);
	assert_int_equal(lane.state, state);
}

/* Three in a row that are proven harmless; what answers otherwise says nothing of the path. */
static void test_failures_in_row(void **state)
{
	static const enum ferry_cause answers[] = {FERRY_CAUSE_MEDIUM,	 FERRY_CAUSE_INVALID,
						   FERRY_CAUSE_NO_SPACE, FERRY_CAUSE_RESET,
						   FERRY_CAUSE_LOST,	 FERRY_CAUSE_NONE};

	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(answers); i++) {
		end_with(FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
		end_with(FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
		assert_int_equal(lane.state, FERRY_LANE_SUSPECT);
		end_with(answers[i] == FERRY_CAUSE_NONE ? FERRY_OUTCOME_DONE : FERRY_OUTCOME_FAILED,
			 answers[i]);
	}
	assert_int_equal(lane.state, FERRY_LANE_HEALTHY);
	for (int i = 0; i < 3; i++) {
		assert_true(ferry_lane_is_usable(&lane));
		end_with(FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
	}
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	stand_run_ms(&stand, 1010);
	assert_int_equal(path.count, 1); /* The probe. */
	stand_done(&path, 0);
	path.count = 0;
	probe_until(FERRY_LANE_HEALTHY, 20000);
	end_with(FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH); /* It counts anew. */
	assert_int_equal(lane.state, FERRY_LANE_SUSPECT);
	close_lane();
}

/* Of what may have been lost only an answer says that the path works. */
static void test_lost_without_an_answer(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	end_with(FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST);
	assert_int_equal(lane.state, FERRY_LANE_HEALTHY);
	assert_int_equal(resets, 1);
	assert_int_equal(reset_cause, FERRY_CAUSE_LOST);
	end_with(FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST);
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	assert_string_equal(lane.reason, "acknowledged writes are lost"); /* `ferry status` */
	assert_int_equal(resets, 2);
	close_lane();
}

static void test_counts(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	end_with(FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	end_with(FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	end_with(FERRY_OUTCOME_FAILED, FERRY_CAUSE_RESET);
	assert_int_equal(resets, 1);
	assert_int_equal(reset_cause, FERRY_CAUSE_RESET);
	end_with(FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_int_equal(resets, 1);
	assert_int_equal(lane.stats.ended, 4);
	assert_int_equal(lane.stats.done, 1);
	assert_int_equal(lane.stats.failed, 2);
	assert_int_equal(lane.stats.unknown, 1);
	assert_int_equal(lane.stats.resets, 0);
	assert_int_equal(lane.flights_count, 0);
	close_lane();
}

/* The mean of what is DONE comes near to what each takes, and a timeout is none. */
static void test_latency(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_PEER, false, false);
	for (int i = 0; i < 80; i++) {
		fly(0);
		stand_run_ms(&stand, 8);
		stand_done(&path, 0);
		path.count = 0;
	}
	assert_in_range(lane.stats.latency_ns, 6500000, 8000000);
	fly(0);
	stand_run_ms(&stand, 900);
	stand_end(&path, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	stand_release(&path, 0);
	assert_in_range(lane.stats.latency_ns, 6500000, 8000000);
	close_lane();
}

/* How long a peer is left alone, by what it said. */
static void test_avoids(void **state)
{
	static const struct {
		enum ferry_outcome outcome;
		enum ferry_cause cause;
		uint64_t ms;
	} cases[] = {
		{FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, 100},
		{FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT, 100},
		{FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT, 500},
		{FERRY_OUTCOME_FAILED, FERRY_CAUSE_STALE, 200},
		{FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNHEALTHY, 200},
		{FERRY_OUTCOME_FAILED, FERRY_CAUSE_LUN, 5000},
		{FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST, 100},
	};

	(void)state;
	open_lane(FERRY_PATH_PEER, false, false);
	ferry_lane_set_peer_has_path(&lane, true);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		end_with(cases[i].outcome, cases[i].cause);
		assert_int_equal(lane.state, FERRY_LANE_HEALTHY);
		assert_true(lane.is_allowed);
		stand_run_ms(&stand, cases[i].ms - 2);
		assert_false(ferry_lane_is_usable(&lane));
		stand_run_ms(&stand, 3);
		assert_true(ferry_lane_is_usable(&lane));
	}
	ferry_lane_avoid(&lane, 50 * FERRY_NS_PER_MS); /* The longer one counts. */
	ferry_lane_avoid(&lane, 10 * FERRY_NS_PER_MS);
	stand_run_ms(&stand, 40);
	assert_false(ferry_lane_is_usable(&lane));
	assert_int_equal(resets, 0);
	close_lane();
}

/* Each relapse makes the next trial twice as long, up to a minute; a long good time forgets. */
static uint64_t trial_ms(void)
{
	uint64_t before_ns;

	end_with(FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	probe_until(FERRY_LANE_PROBATION, 5000);
	before_ns = stand.sim.now_ns;
	probe_until(FERRY_LANE_HEALTHY, 100000);
	return (stand.sim.now_ns - before_ns) / FERRY_NS_PER_MS;
}

static void test_relapses(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	stand_run_ms(&stand, 121000);
	assert_in_range(trial_ms(), 2000, 4200); /* 32 successes take their time, too. */
	assert_in_range(trial_ms(), 4000, 4300);
	assert_in_range(trial_ms(), 8000, 8300);
	stand_run_ms(&stand, 110000);
	assert_in_range(trial_ms(), 16000, 16300);
	assert_in_range(trial_ms(), 32000, 32300);
	assert_in_range(trial_ms(), 60000, 60300);
	assert_in_range(trial_ms(), 60000, 60300);
	stand_run_ms(&stand, 121000);
	assert_in_range(trial_ms(), 2000, 4200);
	close_lane();
}

/* On trial one failure is enough, however harmless. */
static void test_trial_is_lost(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	stand_run_ms(&stand, 121000);
	end_with(FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	probe_until(FERRY_LANE_PROBATION, 5000);
	end_with(FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	probe_until(FERRY_LANE_PROBATION, 5000);
	for (int i = 0; i < 100; i++) /* Successes alone do not end it before its time. */
		end_with(FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	probe_while_not(FERRY_LANE_HEALTHY, 3900);
	assert_int_equal(lane.state, FERRY_LANE_PROBATION);
	probe_until(FERRY_LANE_HEALTHY, 300);
	close_lane();
}

/* Whoever waits for a lane hears of it, and of nothing that is not news. */
static void test_tells_of_changes(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_PEER, false, false);
	ferry_lane_set_peer_has_path(&lane, false);
	assert_int_equal(changes, 0);
	ferry_lane_set_peer_has_path(&lane, true);
	assert_int_equal(changes, 1);
	path.path.on_room(&path.path);
	assert_int_equal(changes, 2);
	lane.is_greeted = true;
	path.path.is_up = false;
	path.path.on_state(&path.path, false, FERRY_CAUSE_PATH);
	assert_int_equal(changes, 3);
	assert_false(lane.is_greeted); /* It may be another agent. */
	assert_int_equal(lane.state, FERRY_LANE_HEALTHY);
	assert_int_equal(resets, 0);
	close_lane();
	open_lane(FERRY_PATH_LOCAL, true, true);
	ferry_lane_allow(&lane, false, "again");
	assert_int_equal(changes, 0);
	ferry_lane_allow(&lane, true, "test");
	assert_int_equal(changes, 1);
	path.path.is_up = false;
	path.path.on_state(&path.path, false, FERRY_CAUSE_PATH);
	assert_true(changes > 1);
	assert_int_equal(resets, 1);
	assert_int_equal(reset_cause, FERRY_CAUSE_PATH);
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	close_lane();
}

static void test_marks(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_PEER, false, false);
	end_with(FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(marks, 0); /* It said nothing. */
	for (int i = 0; i < 2; i++) {
		fly(0);
		path.attempts[0]->mark = (struct ferry_mark){.boot = {9}, .losses = 3};
		if (i == 0)
			stand_done(&path, 0);
		else
			stand_end(&path, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_STALE);
		if (i == 1)
			stand_release(&path, 0);
		path.count = 0;
		assert_int_equal(marks, i + 1);
		assert_int_equal(mark_is_done, i == 0);
	}
	close_lane();
}

/* A reset that helps nothing is asked for again, a timeout later. */
static void test_resets_again(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	fly(0);
	stand_run_ms(&stand, 1010);
	assert_int_equal(path.resets, 1);
	stand_run_ms(&stand, 980);
	assert_int_equal(path.resets, 1);
	stand_run_ms(&stand, 20);
	assert_int_equal(path.resets, 2);
	assert_int_equal(lane.stats.resets, 2);
	stand_done(&path, 0);
	stand_run_ms(&stand, 500);
	assert_int_equal(path.resets, 2);
	close_lane();
}

/* The deadline is the oldest flight's that still has one. */
static void test_deadline_follows_the_oldest(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	fly(0);
	stand_run_ms(&stand, 600);
	fly(1);
	stand_done(&path, 0);
	stand_run_ms(&stand, 900);
	assert_int_equal(path.resets, 0);
	stand_run_ms(&stand, 110);
	assert_int_equal(path.resets, 1);
	close_lane();
	open_lane(FERRY_PATH_PEER, false, false);
	fly(0);
	stand_run_ms(&stand, 1010);
	assert_int_equal(overdue, 1);
	assert_true(path.attempts[0]->is_given_up);
	stand_done(&path, 0); /* Late: no success to count on. */
	assert_int_equal(lane.stats.done, 1);
	stand_run_ms(&stand, 3000);
	assert_int_equal(overdue, 1);
	close_lane();
}

/* A lane that was not there at first is not used before it has been tried. */
static void test_opens_down(void **state)
{
	(void)state;
	open_lane(FERRY_PATH_LOCAL, true, false);
	close_lane();
	stand_open(&stand);
	stand_path_init(&path, FERRY_PATH_LOCAL, 1, true);
	path.path.is_up = false;
	ferry_lane_init(&lane, &path.path, &lane.config);
	assert_int_equal(lane.state, FERRY_LANE_FORWARDING);
	assert_true(lane.is_greeted);
	path.path.is_up = true;
	path.path.on_state(&path.path, true, FERRY_CAUSE_NONE);
	stand_run_ms(&stand, 1);
	assert_int_equal(path.count, 1);
	stand_done(&path, 0);
	assert_int_equal(lane.state, FERRY_LANE_PROBATION);
	path.count = 0;
	stand_run_ms(&stand, 130); /* With no I/O to show it, probes do. */
	assert_int_equal(path.count, 1);
	close_lane();
}

/* ---- Where a restart of the target may go untold. ---- */

static uint32_t looks;
static uint32_t ends[FERRY_OUTCOME_UNKNOWN + 1];
static uint32_t releases;

static void on_look(void *context)
{
	(void)context;
	looks++;
}

static void count_end(struct ferry_flight *flight, enum ferry_outcome outcome,
		      enum ferry_cause cause)
{
	assert_int_equal(releases, ends[FERRY_OUTCOME_DONE] + ends[FERRY_OUTCOME_FAILED]);
	assert_true(outcome == FERRY_OUTCOME_DONE || cause == FERRY_CAUSE_UNHEALTHY);
	(void)flight;
	ends[outcome]++;
}

static void count_release(struct ferry_flight *flight)
{
	(void)flight;
	releases++;
}

static void fly_counted(uint32_t i, enum ferry_op op, uint32_t flags)
{
	flights[i] = (struct ferry_flight){
		.attempt = {.op = op, .flags = flags, .length_blocks = op != FERRY_OP_FLUSH},
		.on_end = count_end,
		.on_released = count_release,
		.on_overdue = on_overdue};
	assert_int_equal(ferry_lane_submit(&lane, &flights[i]), 0);
}

static void open_untold(void)
{
	open_lane(FERRY_PATH_LOCAL, /* can_reset= */ false, /* needs_permit= */ true);
	ferry_lane_allow(&lane, true, "test");
	lane.config.look_at_durable = on_look;
	looks = releases = 0;
	memset(ends, 0, sizeof(ends));
}

/* A restart that is being looked at: what is to be durable by its word may be what is left. */
static void test_doubtful(void **state)
{
	(void)state;
	open_untold();
	lane.config.look_at_durable = NULL;
	lane.is_doubtful = true;
	fly_counted(0, FERRY_OP_FLUSH, 0);
	fly_counted(1, FERRY_OP_WRITE_ZEROES, FERRY_IO_FUA);
	fly_counted(2, FERRY_OP_WRITE_ZEROES, 0);
	for (uint32_t i = 0; i < 3; i++)
		stand_done(&path, i);
	assert_int_equal(ends[FERRY_OUTCOME_FAILED], 2);
	assert_int_equal(ends[FERRY_OUTCOME_DONE], 1);
	assert_int_equal(releases, 3);
	close_lane();
}

/* What was to be made durable is believed when the target was looked at, after its end. */
static void test_held_until_looked_at(void **state)
{
	(void)state;
	open_untold();
	fly_counted(0, FERRY_OP_FLUSH, 0);
	fly_counted(1, FERRY_OP_WRITE_ZEROES, FERRY_IO_FUA); /* It may be a write and a flush. */
	fly_counted(2, FERRY_OP_WRITE_ZEROES, 0);
	stand_done(&path, 2);
	assert_int_equal(looks, 0);
	assert_int_equal(ends[FERRY_OUTCOME_DONE], 1);
	stand_done(&path, 0);
	assert_int_equal(looks, 1);
	stand_done(&path, 1);
	assert_int_equal(looks, 2);
	assert_int_equal(ends[FERRY_OUTCOME_DONE], 1);
	assert_int_equal(lane.flights_count, 2);
	ferry_lane_durable(&lane, 1, /* is_same= */ true); /* The second ended after that look. */
	assert_int_equal(ends[FERRY_OUTCOME_DONE], 2);
	assert_int_equal(lane.flights_count, 1);
	ferry_lane_durable(&lane, 2, /* is_same= */ false);
	assert_int_equal(ends[FERRY_OUTCOME_FAILED], 1);
	assert_int_equal(releases, 3);
	fly_counted(3, FERRY_OP_FLUSH, 0);
	stand_end(&path, 3, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	ferry_lane_durable(&lane, lane.held_last, /* is_same= */ true);
	assert_int_equal(ends[FERRY_OUTCOME_DONE], 3);
	assert_int_equal(releases, 3); /* Its memory is the path's still. */
	stand_release(&path, 3);
	assert_int_equal(releases, 4);
	close_lane();
}

/* Nobody is going to look: it is tried again elsewhere. */
static void test_held_ends_with_the_path(void **state)
{
	(void)state;
	open_untold();
	fly_counted(0, FERRY_OP_FLUSH, 0);
	stand_done(&path, 0);
	ferry_lane_allow(&lane, false, "test");
	assert_int_equal(ends[FERRY_OUTCOME_FAILED], 1);
	fly_counted(1, FERRY_OP_FLUSH, 0);
	stand_done(&path, 1);
	ferry_lane_allow(&lane, false, "once more"); /* It was not allowed anyway. */
	assert_int_equal(ends[FERRY_OUTCOME_FAILED], 2);
	fly_counted(2, FERRY_OP_FLUSH, 0);
	stand_done(&path, 2);
	path.path.is_up = false;
	path.path.on_state(&path.path, false, FERRY_CAUSE_PATH);
	assert_int_equal(ends[FERRY_OUTCOME_FAILED], 3);
	assert_int_equal(lane.flights_count, 0);
	close_lane();
}

static void test_held_for_too_long(void **state)
{
	(void)state;
	open_untold();
	fly_counted(0, FERRY_OP_FLUSH, 0);
	stand_done(&path, 0);
	stand_run_ms(&stand, 999);
	assert_int_equal(overdue, 0);
	stand_run_ms(&stand, 2);
	assert_int_equal(overdue, 1);
	assert_false(ferry_lane_is_usable(&lane));
	ferry_lane_durable(&lane, 1, /* is_same= */ true);
	assert_int_equal(ends[FERRY_OUTCOME_DONE], 1);
	close_lane();
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(ferry_lane_state_name(FERRY_LANE_HEALTHY), "HEALTHY");
	assert_string_equal(ferry_lane_state_name(FERRY_LANE_PROBATION), "PROBATION");
	assert_string_equal(ferry_lane_state_name((enum ferry_lane_state)0), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_doubtful),
		cmocka_unit_test(test_held_until_looked_at),
		cmocka_unit_test(test_held_ends_with_the_path),
		cmocka_unit_test(test_held_for_too_long),
		cmocka_unit_test(test_suspect_and_back),
		cmocka_unit_test(test_forwarding_probation_healthy),
		cmocka_unit_test(test_deadline_resets),
		cmocka_unit_test(test_deadline_without_reset),
		cmocka_unit_test(test_probe_is_not_sent),
		cmocka_unit_test(test_greeting),
		cmocka_unit_test(test_permit),
		cmocka_unit_test(test_failures_in_row),
		cmocka_unit_test(test_lost_without_an_answer),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_latency),
		cmocka_unit_test(test_avoids),
		cmocka_unit_test(test_relapses),
		cmocka_unit_test(test_trial_is_lost),
		cmocka_unit_test(test_tells_of_changes),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_resets_again),
		cmocka_unit_test(test_deadline_follows_the_oldest),
		cmocka_unit_test(test_opens_down),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
