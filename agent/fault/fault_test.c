/* Each fault does what it says, and a filter that is not armed does nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/fault/fault.h"
#include "tests/sim/core_stand.h"

/* Seeds: of the first ghosts that they draw. */
#define GHOST_SENT_AT_ONCE "ghost=10000,seconds=10,seed=1"
#define GHOST_SENT_LATE "ghost=10000,seconds=10,seed=7"

static struct stand stand;
static struct stand_path next;
static struct ferry_fault fault;

/* What the lane would see. */
static struct {
	struct ferry_attempt attempt;
	uint32_t ends;
	uint32_t releases;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
} seen[8];
static uint32_t states;
static uint32_t renews;

static void on_end(struct ferry_attempt *attempt, enum ferry_outcome outcome,
		   enum ferry_cause cause)
{
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(seen); i++) {
		if (&seen[i].attempt != attempt)
			continue;
		seen[i].ends++;
		seen[i].outcome = outcome;
		seen[i].cause = cause;
	}
}

static void on_released(struct ferry_attempt *attempt)
{
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(seen); i++)
		if (&seen[i].attempt == attempt) {
			assert_int_equal(seen[i].ends, 1);
			seen[i].releases++;
		}
}

static void on_state(struct ferry_path *path, bool is_up, enum ferry_cause cause)
{
	assert_ptr_equal(path, &fault.path);
	assert_int_equal(path->is_up, is_up);
	(void)cause;
	states++;
}

static void on_room(struct ferry_path *path)
{
	assert_ptr_equal(path, &fault.path);
}

static void renew(struct ferry_path *path)
{
	assert_ptr_equal(path, &next.path);
	path->is_up = false;
	renews++;
}

/* What a path with @ops has in front of it. */
static void open_fault_over(const struct ferry_path_ops *ops, const char *plan_text, bool can_lay)
{
	struct ferry_fault_plan plan;

	stand_open(&stand);
	memset(seen, 0, sizeof(seen));
	states = renews = 0;
	stand_path_init(&next, FERRY_PATH_LOCAL, 1, true);
	next.path.ops = ops;
	assert_int_equal(
		ferry_fault_init(&fault, &stand.region, &next.path, &stand.loop.loop, can_lay), 0);
	fault.path.on_state = on_state;
	fault.path.on_room = on_room;
	assert_int_equal(ferry_fault_plan_parse(plan_text, &plan), 0);
	ferry_fault_arm(&fault, &plan);
}

static void open_fault(const char *plan_text, bool can_reset, bool can_lay)
{
	stand_path_init(&next, FERRY_PATH_LOCAL, 1, can_reset);
	open_fault_over(next.path.ops, plan_text, can_lay);
}

static void close_fault(void)
{
	ferry_fault_done(&fault);
	assert_true(ferry_list_is_empty(&fault.held));
	stand_close(&stand);
}

static int fly(uint32_t i, enum ferry_op op)
{
	seen[i].attempt = (struct ferry_attempt){.op = op,
						 .length_blocks = op == FERRY_OP_FLUSH ? 0 : 1,
						 .on_end = on_end,
						 .on_released = on_released};
	ferry_list_init(&seen[i].attempt.link);
	if (ferry_op_has_data(op))
		assert_int_equal(ferry_arena_take(&stand.arena, STAND_BLOCK_BYTES,
						  &seen[i].attempt.segments),
				 0);
	return ferry_path_submit(&fault.path, &seen[i].attempt);
}

static void drop(uint32_t i)
{
	ferry_segments_drop(&seen[i].attempt.segments);
}

static void test_disarmed(void **state)
{
	(void)state;
	open_fault("off", true, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	assert_int_equal(next.count, 1);
	assert_ptr_equal(next.attempts[0], &seen[0].attempt); /* The very same. */
	stand_done(&next, 0);
	assert_int_equal(seen[0].releases, 1);
	drop(0);
	close_fault();
}

static void test_error(void **state)
{
	(void)state;
	open_fault("error=10000,seconds=10", true, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	assert_int_equal(seen[0].ends, 0); /* Never from inside. */
	stand_run_ms(&stand, 1);
	assert_int_equal(next.count, 0);
	assert_int_equal(seen[0].outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(seen[0].cause, FERRY_CAUSE_PATH);
	assert_int_equal(seen[0].releases, 1);
	assert_int_equal(fault.stats.injected[FERRY_FAULT_ERROR], 1);
	drop(0);
	close_fault();
}

static void test_delay(void **state)
{
	(void)state;
	open_fault("delay=10000,seconds=10,seed=3", true, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	assert_int_equal(next.count, 0);
	next.submit_error = -EAGAIN; /* And then there is no room. */
	stand_run_ms(&stand, 200);
	next.submit_error = 0;
	assert_int_equal(next.count, 0);
	stand_run_ms(&stand, 5);
	assert_int_equal(next.count, 1);
	stand_done(&next, 0);
	assert_int_equal(seen[0].outcome, FERRY_OUTCOME_DONE);
	drop(0);
	close_fault();
}

/* Whoever gave up on it may have had it proven dead: it is not sent any more. */
static void test_delay_given_up(void **state)
{
	(void)state;
	open_fault("delay=10000,seconds=10,seed=3", false, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	seen[0].attempt.is_given_up = true;
	stand_run_ms(&stand, 200);
	assert_int_equal(next.count, 0);
	assert_int_equal(seen[0].outcome, FERRY_OUTCOME_UNKNOWN);
	drop(0);
	close_fault();
}

/* Sent at once, and answered before or after it was called unknown. */
static void test_ghost_is_out(void **state)
{
	(void)state;
	open_fault(GHOST_SENT_AT_ONCE, true, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	assert_int_equal(next.count, 1);
	stand_done(&next, 0);
	assert_int_equal(seen[0].ends, 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(seen[0].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(seen[0].releases, 1);
	assert_int_equal(next.resets, 1);
	assert_int_equal(fault.stats.ghosts_landed, 1);
	drop(0);
	close_fault();

	open_fault(GHOST_SENT_AT_ONCE, true, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(seen[0].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(seen[0].releases, 0);
	stand_end(&next, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	stand_release(&next, 0);
	assert_int_equal(seen[0].ends, 1);
	assert_int_equal(seen[0].releases, 1);
	assert_int_equal(fault.stats.ghosts_refused, 1);
	drop(0);
	close_fault();
}

/* No room on the path: nothing has happened, and it may be sent again. */
static void test_ghost_without_room(void **state)
{
	(void)state;
	open_fault(GHOST_SENT_AT_ONCE, true, true);
	next.submit_error = -EAGAIN;
	assert_int_equal(fly(0, FERRY_OP_WRITE), -EAGAIN);
	next.submit_error = 0;
	drop(0);
	stand_run_ms(&stand, 1);
	assert_int_equal(seen[0].ends, 0);
	assert_int_equal(fault.stats.injected[FERRY_FAULT_GHOST], 0);
	assert_true(ferry_list_is_empty(&fault.held));
	close_fault();
}

static void test_ghost_lands(void **state)
{
	(void)state;
	open_fault(GHOST_SENT_LATE, true, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	assert_int_equal(fly(1, FERRY_OP_READ), 0); /* A read is no ghost. */
	assert_int_equal(next.count, 1);
	stand_done(&next, 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(seen[0].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(seen[0].releases, 0); /* Its memory is in use. */
	stand_run_ms(&stand, 400);
	assert_int_equal(next.count, 2);
	assert_int_equal(next.attempts[1]->op, FERRY_OP_WRITE);
	stand_done(&next, 1);
	assert_int_equal(seen[0].ends, 1);
	assert_int_equal(seen[0].releases, 1);
	assert_int_equal(fault.stats.ghosts_landed, 1);
	assert_int_equal(next.resets, 0); /* Never from inside. */
	stand_run_ms(&stand, 1);
	assert_int_equal(next.resets, 1);
	drop(0);
	drop(1);
	close_fault();
}

/* After a reset there is a new session, in which an old ghost would be a new write. */
static void test_ghost_dies_with_its_session(void **state)
{
	(void)state;
	open_fault(GHOST_SENT_LATE, true, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	stand_run_ms(&stand, 1);
	fault.path.ops->reset(&fault.path);
	assert_int_equal(next.resets, 1);
	stand_run_ms(&stand, 400);
	assert_int_equal(next.count, 0);
	assert_int_equal(seen[0].releases, 1);
	assert_int_equal(fault.stats.ghosts_dropped, 1);

	assert_int_equal(fly(1, FERRY_OP_WRITE), 0);
	stand_run_ms(&stand, 1);
	next.path.is_up = false;
	next.path.on_state(&next.path, false, FERRY_CAUSE_PATH);
	assert_int_equal(states, 1);
	assert_int_equal(seen[1].releases, 1);
	assert_int_equal(fault.stats.ghosts_dropped, 2);
	drop(0);
	drop(1);
	close_fault();
}

/* As the kernel's disks: there is nothing to reset, but a session of the path's own. */
static void test_renews_what_can_be_renewed(void **state)
{
	static const struct ferry_path_ops ops = {
		.name = "stand", .submit = stand_path_submit, .renew = renew};

	(void)state;
	open_fault("off", false, true);
	assert_null(fault.path.ops->renew);
	ferry_path_renew(&fault.path); /* As without the filter. */
	close_fault();

	open_fault_over(&ops, "delay=10000,seconds=10,seed=3", true);
	assert_null(fault.path.ops->reset);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	ferry_path_renew(&fault.path);
	assert_int_equal(renews, 1);
	assert_int_equal(fly(1, FERRY_OP_WRITE), -ENOTCONN);
	next.path.is_up = true;
	stand_run_ms(&stand, 200);
	assert_int_equal(next.count, 0); /* Never in the new session. */
	assert_int_equal(seen[0].releases, 1);
	drop(0);
	drop(1);
	close_fault();

	open_fault_over(&ops, GHOST_SENT_AT_ONCE, true);
	assert_int_equal(fly(0, FERRY_OP_WRITE), 0);
	stand_run_ms(&stand, 1);
	stand_done(&next, 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(renews, 1);
	drop(0);
	close_fault();
}

/* Of the two holes one sends and one does not; neither answers before the reset. */
static void test_holes(void **state)
{
	uint64_t sent;

	(void)state;
	open_fault("hole=10000,seconds=10,seed=5", true, true);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(fly(i, FERRY_OP_WRITE), 0);
	sent = fault.stats.injected[FERRY_FAULT_HOLE_REPLY];
	assert_true(sent > 0 && sent < 8);
	assert_int_equal(next.count, sent);
	stand_end(&next, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	stand_release(&next, 0);
	for (uint32_t i = 1; i < sent; i++)
		stand_done(&next, i);
	assert_int_equal(fault.stats.ghosts_refused, 0); /* These are no ghosts. */
	stand_run_ms(&stand, 5000);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(seen[i].ends, 0);
	fault.path.ops->reset(&fault.path);
	stand_run_ms(&stand, 1);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(seen[i].outcome, FERRY_OUTCOME_UNKNOWN);
		assert_int_equal(seen[i].releases, 1);
		drop(i);
	}
	assert_int_equal(next.count, sent); /* Nothing more was sent. */
	close_fault();
}

/* Where nothing can abort a nexus, no write is left in the unknown. */
static void test_no_ghosts_without_fence(void **state)
{
	(void)state;
	open_fault("hole=5000,ghost=5000,seconds=10", true, false);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(fly(i, FERRY_OP_WRITE), 0);
	assert_int_equal(next.count, 8);
	for (uint32_t i = 0; i < 8; i++) {
		stand_done(&next, i);
		drop(i);
	}
	close_fault();
}

static void test_disarms_itself(void **state)
{
	(void)state;
	open_fault("error=10000,seconds=2", true, true);
	stand_run_ms(&stand, 2001);
	assert_int_equal(fly(0, FERRY_OP_FLUSH), 0);
	assert_int_equal(next.count, 1);
	stand_done(&next, 0);
	close_fault();
}

static void test_plans(void **state)
{
	static const char *const bad[] = {
		"",
		"error",
		"error=",
		"error=1",
		"error=1,seconds=0",
		"error=1,error=1,seconds=1",
		"error=10001,seconds=1",
		"error=9000,ghost=2000,seconds=1",
		"error=1,seconds=1,",
		"error=1,seconds=86401",
		"error=1 ,seconds=1",
		"error=99999999999999999999999,seconds=1",
		"offf",
	};
	struct ferry_fault_plan plan;

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(bad); i++)
		assert_int_equal(ferry_fault_plan_parse(bad[i], &plan), -EINVAL);
	assert_int_equal(
		ferry_fault_plan_parse("seed=9,ghost=4,hole=3,delay=2,error=1,seconds=60", &plan),
		0);
	assert_int_equal(plan.error, 1);
	assert_int_equal(plan.delay, 2);
	assert_int_equal(plan.hole, 3);
	assert_int_equal(plan.ghost, 4);
	assert_int_equal(plan.seconds, 60);
	assert_int_equal(plan.seed, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disarmed),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_delay),
		cmocka_unit_test(test_delay_given_up),
		cmocka_unit_test(test_ghost_is_out),
		cmocka_unit_test(test_ghost_without_room),
		cmocka_unit_test(test_ghost_lands),
		cmocka_unit_test(test_ghost_dies_with_its_session),
		cmocka_unit_test(test_renews_what_can_be_renewed),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_no_ghosts_without_fence),
		cmocka_unit_test(test_disarms_itself),
		cmocka_unit_test(test_plans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
