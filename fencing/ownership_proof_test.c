/* What is known of a node that was fenced: by whose word, and of which of its agents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fencing/ownership_stand.h"

static const struct ferry_node third = {3};

static bool is_for_sure(void)
{
	return ferry_ownership_is_fenced_for_sure(&ownership, third);
}

static void test_only_what_was_verified_is_sure(void **state)
{
	(void)state;
	assert_false(is_for_sure());
	hear_fence(2, FERRY_GROUP_FENCED, 3, 1, 0);
	assert_false(is_for_sure());
	hear_fence(2, FERRY_GROUP_FENCED, 2, 1, FERRY_GROUP_PROVEN); /* Of another. */
	assert_false(is_for_sure());
	hear_fence(2, FERRY_GROUP_FENCED, 3, 1, FERRY_GROUP_PROVEN);
	assert_true(is_for_sure());
	hear_fence(2, FERRY_GROUP_FENCED, 3, 1, 0); /* What is proven stays so. */
	assert_true(is_for_sure());
}

/* Who was away is told by a reminder, and believes it as well. */
static void test_a_reminder_proves_as_much(void **state)
{
	(void)state;
	hear_fence(2, FERRY_GROUP_FENCED, 3, 1, FERRY_GROUP_PROVEN | FERRY_GROUP_REMINDS);
	assert_true(is_for_sure());
}

/* A proof is of one agent: not of the one that was started after it. */
static void test_a_proof_is_of_one_agent(void **state)
{
	struct ferry_group_message anew = message_of(FERRY_GROUP_STATE, 0, 0, 0);

	(void)state;
	hear_fence(2, FERRY_GROUP_FENCED, 3, 1, FERRY_GROUP_PROVEN);
	anew.incarnation.v = 2;
	ferry_ownership_message(&ownership, third, &anew);
	assert_false(is_for_sure());
	hear_fence(2, FERRY_GROUP_FENCED, 3, 2, FERRY_GROUP_PROVEN);
	assert_true(is_for_sure());
	hear_fence(2, FERRY_GROUP_FENCED, 3, 1, FERRY_GROUP_PROVEN); /* Late, of its elder. */
	assert_true(is_for_sure());
}

/* The taking that was to prove it is overtaken: only one that comes into force does. */
static void test_an_overtaken_taking_proves_nothing(void **state)
{
	(void)state;
	own(1);
	hear_fence(2, FERRY_GROUP_FENCE, 3, 0, 0);
	all_drain(2);
	ring_of(3, true); /* A majority has to acknowledge anew. */
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	speak(2, 1, 0);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 3);
	all_drain(3);
	says[FERRY_GROUP_FENCED] = 0; /* Reminders, in the new ring. */
	ferry_ownership_taken(&ownership, (struct ferry_epoch){3}, -EIO);
	assert_int_equal(says[FERRY_GROUP_FENCED], 1);
	assert_int_equal(last[FERRY_GROUP_FENCED].flags, 0);
	echo();
	assert_false(is_for_sure());
}

/* Verified here: this node is as sure as those whom it tells. */
static void test_a_taking_in_force_proves_it(void **state)
{
	(void)state;
	own(1);
	hear_fence(2, FERRY_GROUP_FENCE, 3, 0, 0);
	all_drain(2);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	assert_int_equal(last[FERRY_GROUP_FENCED].flags, FERRY_GROUP_PROVEN);
	echo();
	assert_true(is_for_sure());
}

/* The group took nothing just then: who asked hears of it all the same. */
static void test_the_answer_is_said_later(void **state)
{
	(void)state;
	own(1);
	hear_fence(2, FERRY_GROUP_FENCE, 3, 0, 0);
	all_drain(2);
	refusal = -EAGAIN;
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, -EIO);
	assert_int_equal(says[FERRY_GROUP_FENCED], 0);
	refusal = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(says[FERRY_GROUP_FENCED], 1);
	assert_int_equal(last[FERRY_GROUP_FENCED].victim.v, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_only_what_was_verified_is_sure),
		TEST(test_a_reminder_proves_as_much),
		TEST(test_a_proof_is_of_one_agent),
		TEST(test_an_overtaken_taking_proves_nothing),
		TEST(test_a_taking_in_force_proves_it),
		TEST(test_the_answer_is_said_later),
	};

	return cmocka_run_group_tests_name("ownership_proof", tests, NULL, NULL);
}
