/* What is under way here when another's word comes: claimed again above it, or over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fencing/ownership_stand.h"

/* An epoch of its own past is above what this agent has claimed. */
static void test_own_past_is_claimed_above(void **state)
{
	(void)state;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	hear(2, FERRY_GROUP_STATE, 4, 1, FERRY_GROUP_IS_IN_FORCE);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 2);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 5);
	assert_int_equal(wishes, 0);
}

/* Without a wish nothing is claimed above it. */
static void test_own_past_is_left_alone(void **state)
{
	(void)state;
	hear(2, FERRY_GROUP_STATE, 4, 1, FERRY_GROUP_IS_IN_FORCE);
	assert_int_equal(view.owner.v, 0);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
}

/* What another has on its disk counts, whether this one could save it or not. */
static void test_claims_above_what_it_could_not_save(void **state)
{
	(void)state;
	save_error = -EIO;
	hear(2, FERRY_GROUP_STATE, 7, 3, 0);
	assert_int_equal(view.epoch.v, 0);
	save_error = 0;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 8);
}

/* It was letting go, and its word is still on its way: the pool is gone all the same. */
static void test_a_release_that_is_overtaken_is_over(void **state)
{
	(void)state;
	own(1);
	ferry_ownership_release(&ownership, (struct ferry_node){0});
	assert_int_equal(wishes, 1);
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	assert_int_equal(wishes, 2);
	assert_int_equal(wish, 0);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	echo();
	assert_int_equal(wishes, 2); /* Once. */
	assert_int_equal(view.owner.v, 2);
}

/* The group took nothing when the epoch came into force; when it does, that one is overtaken. */
static void test_in_force_is_not_said_of_a_claim(void **state)
{
	(void)state;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(1);
	refusal = -EAGAIN;
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	ferry_ownership_preempted(&ownership);
	refusal = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 2);
	assert_int_equal(says[FERRY_GROUP_IN_FORCE], 0);
}

/* A STATE of a ring that is gone is late: it answers nothing that was asked in this one. */
static void test_late_answers_do_not_count(void **state)
{
	struct ferry_group_message late = message_of(FERRY_GROUP_STATE, 0, 0, 0);

	(void)state;
	ring_of(3, true);
	speak(0, 0, 0);
	ferry_ownership_ask(&ownership, 1);
	echo();
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &late);
	ferry_ownership_message(&ownership, (struct ferry_node){3}, &late);
	assert_int_equal(view.word, 0);
	hear(2, FERRY_GROUP_STATE, 0, 0, 0);
	assert_int_equal(view.word, 1);
}

/* Alone of two, by a person's word; with the other back the next claim waits for its voice. */
static void test_a_persons_word_holds_for_one_wish(void **state)
{
	static const struct ferry_members second = {.nodes = {{2}}, .count = 1};

	(void)state;
	reopen_as(2, /* has_reservations= */ false);
	ring_of(1, true);
	assert_int_equal(ferry_ownership_force(&ownership, &second), 0);
	all_drain(1);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	echo();
	assert_true(view.is_in_force);
	ring_of(2, true);
	speak(1, 1, 0);
	ferry_ownership_preempted(&ownership);
	echo();
	stand_run_ms(&stand, CLAIM_MS + 1);
	echo();
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_CLAIMING);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_own_past_is_claimed_above),
		TEST(test_own_past_is_left_alone),
		TEST(test_claims_above_what_it_could_not_save),
		TEST(test_a_release_that_is_overtaken_is_over),
		TEST(test_in_force_is_not_said_of_a_claim),
		TEST(test_late_answers_do_not_count),
		TEST(test_a_persons_word_holds_for_one_wish),
	};

	return cmocka_run_group_tests_name("ownership_overtaken", tests, NULL, NULL);
}
