/* A registrar where a restart of the target may go untold: docs/decisions/0009. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/registrar_stand.h"

enum {
	RAISED = 34,	/* Above the number of keys by as much: now node 1 tells of it. */
	WITNESSED = 74, /* And by as much: only a witness has raised it so far. */
};

static struct ferry_flight flights[4];
static uint32_t done;
static uint32_t failed;

static void look(void *context)
{
	(void)context;
	ferry_registrar_look_at_durable(&on.registrar);
}

static int set_up(void **state)
{
	int r = registrar_setup(state);

	on.registrar.config.restarts_go_untold = true;
	ferry_router_local(&on.router)->config.look_at_durable = look;
	done = failed = 0;
	return r;
}

static struct keys all_keys(uint32_t generation)
{
	return KEYS(.holder = key(2, 1), .generation = generation, .keys = {key(2, 1), key(1, 3)});
}

static void join_witnessed(void)
{
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 1 + WITNESSED, .keys = {key(2, 1)}));
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_null(on.pending);
	assert_true(is_allowed());
}

static void on_end(struct ferry_flight *flight, enum ferry_outcome outcome, enum ferry_cause cause)
{
	(void)flight;
	(void)cause;
	done += outcome == FERRY_OUTCOME_DONE;
	failed += outcome == FERRY_OUTCOME_FAILED;
}

static void on_released(struct ferry_flight *flight)
{
	(void)flight;
}

static void flush(uint32_t i)
{
	flights[i] = (struct ferry_flight){.attempt = {.op = FERRY_OP_FLUSH},
					   .on_end = on_end,
					   .on_released = on_released,
					   .on_overdue = on_released};
	assert_int_equal(ferry_lane_submit(ferry_router_local(&on.router), &flights[i]), 0);
}

/* A FLUSH is believed by what is read after its end, however often that takes. */
static void test_a_flush_is_looked_at(void **state)
{
	(void)state;
	join_witnessed();
	flush(0);
	flush(1);
	flush(2);
	assert_null(on.pending);
	stand_done(&on.path, 0);
	expect(FERRY_FENCE_READ_KEYS);
	stand_done(&on.path, 1);
	stand_done(&on.path, 2);
	assert_true(ferry_registrar_may_abort(&on.registrar)); /* There is no suspicion. */
	answer_keys(all_keys(2 + WITNESSED));
	assert_int_equal(done, 1);
	answer(-EIO);
	assert_int_equal(done, 1);
	assert_null(on.pending);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(all_keys(2 + WITNESSED));
	assert_int_equal(done, 3); /* Both by one look. */
	assert_null(on.pending);
	assert_int_equal(on.path.resets, 0);
	assert_int_equal(on.router.flush.losses_seen, 1);
}

static void test_a_flush_after_a_restart(void **state)
{
	(void)state;
	own();
	join_witnessed();
	flush(0);
	stand_done(&on.path, 0);
	/* Others, who know nothing, have preempted some meanwhile. */
	answer_keys(all_keys(2 + WITNESSED - 1));
	assert_int_equal(failed, 1);
	assert_int_equal(on.router.flush.losses_seen, 2);
	assert_false(is_allowed());
	assert_int_equal(on.path.resets, 1);
	flush(1); /* By a session that is to go. */
	stand_done(&on.path, 1);
	assert_int_equal(failed, 2);
	assert_int_equal(done, 0);
}

/* The lun is asked, and answers, until nothing is asked any more; what its count is then. */
static uint32_t serve(uint32_t count)
{
	while (on.pending) {
		if (on.pending->op != FERRY_FENCE_REGISTER) {
			answer_keys(all_keys(count));
			continue;
		}
		count++;
		answer(0);
		if (on.registrar.state != FERRY_REGISTRAR_ASKING && !is_allowed())
			expect(FERRY_FENCE_READ_KEYS); /* Each is decided on anew. */
	}
	return count;
}

static void told(uint64_t number)
{
	on.view.told = number;
	on.view.told_by.v = 2;
	ferry_registrar_poke(&on.registrar);
}

/* So that what others change unawares does not hide the next one. */
static void test_the_count_is_raised(void **state)
{
	(void)state;
	own();
	ferry_registrar_session(&on.registrar, true);
	assert_int_equal(serve(9), 2 + WITNESSED + 1);
	assert_int_equal(on.witness, 0); /* It is over. */
	assert_int_equal(on.router.flush.losses_seen, 2);
	assert_true(is_allowed());
}

/* What is on its way when the target is restarted again is not enough to pass for told. */
static void test_tells_once_the_count_is_raised(void **state)
{
	(void)state;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(all_keys(2 + RAISED - 1));
	assert_int_equal(on.witness, 0);
	told(100);
	on.view.told = 0;
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_int_equal(serve(2 + RAISED), 2 + RAISED);
	assert_int_equal(on.witness, 1);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_WITNESS);
	assert_false(ferry_registrar_may_abort(&on.registrar));
	told(1);
	answer_keys(all_keys(2 + RAISED));
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	answer_keys(all_keys(3)); /* It was another target that it was for. */
	assert_int_equal(on.witness, 0);
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_int_equal(serve(4), 2 + RAISED);
	assert_int_equal(on.witness, 2);
	assert_false(is_allowed());
	told(2);
	assert_int_equal(serve(2 + RAISED), 2 + WITNESSED + 1);
	assert_int_equal(on.witness, 0);
	assert_true(is_allowed());
}

/* Somebody else has changed it: maybe at a later target, which that one has raised as far. */
static void test_a_witness_is_not_one_for_ever(void **state)
{
	(void)state;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(all_keys(2 + RAISED));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(on.witness, 1);
		stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
		answer_keys(all_keys(2 + RAISED));
	}
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	on.view.told = 1;
	on.view.told_by.v = 2;
	answer_keys(all_keys(2 + RAISED + 1));
	assert_int_equal(on.witness, 2);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_WITNESS);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(all_keys(2 + WITNESSED)); /* Another has been the witness. */
	assert_int_equal(on.witness, 0);
	expect(FERRY_FENCE_REGISTER);
	answer(-EACCES);
	assert_true(on.registrar.is_unsure);
}

/* Whose key was taken meanwhile does not take another for its own. */
static void test_a_raise_is_refused(void **state)
{
	(void)state;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(all_keys(2));
	expect(FERRY_FENCE_REGISTER);
	answer(-EACCES);
	assert_true(on.registrar.is_unsure);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_null(on.pending);
}

/* Its own PREEMPT raises the count: it looks whether that was another target's. */
static void test_looks_after_a_taking(void **state)
{
	(void)state;
	own();
	join_witnessed();
	ferry_registrar_take(&on.registrar,
			     &(struct ferry_drained_keys){.keys = {key(1, 3)}, .count = 1});
	answer_keys(all_keys(2 + WITNESSED));
	expect_preempt(key(2, 1));
	answer(0);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 2 + WITNESSED, .keys = {key(1, 3)}));
	expect_preempt(key(2, 1)); /* By its name, as what it left behind. */
	answer(0);
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, 0);
	expect(FERRY_FENCE_READ_KEYS);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 2 + WITNESSED, .keys = {key(1, 3)}));
	assert_null(on.pending);
	assert_true(is_allowed());
}

static void test_a_restart_before_a_taking(void **state)
{
	(void)state;
	own();
	join_witnessed();
	ferry_registrar_take(&on.registrar,
			     &(struct ferry_drained_keys){.keys = {key(1, 3)}, .count = 1});
	answer_keys(all_keys(3));
	assert_null(on.pending); /* To preempt would hide it. */
	assert_int_equal(on.takes, 0);
	assert_int_equal(on.router.flush.losses_seen, 2);
	assert_int_equal(on.path.resets, 1);
}

/* A target that breaks its promise: told once more each time, and registered all the same. */
static void test_a_count_that_never_rises(void **state)
{
	uint32_t registers = 0;

	(void)state;
	own();
	ferry_registrar_session(&on.registrar, true);
	while (on.pending && registers < 1000) {
		if (on.pending->op == FERRY_FENCE_READ_KEYS) {
			answer_keys(all_keys(9));
			continue;
		}
		registers++;
		answer(0);
	}
	assert_true(registers < 200);
	assert_true(is_allowed());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, registrar_teardown)
		TEST(test_a_flush_is_looked_at),	  TEST(test_a_flush_after_a_restart),
		TEST(test_the_count_is_raised),		  TEST(test_tells_once_the_count_is_raised),
		TEST(test_a_witness_is_not_one_for_ever), TEST(test_a_raise_is_refused),
		TEST(test_a_count_that_never_rises),	  TEST(test_looks_after_a_taking),
		TEST(test_a_restart_before_a_taking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
