/* Which takings may have been left half done: after one, whom it removed is known to nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fencing/ownership_stand.h"

/* Of three nodes one has never been heard: only the lun may know what it left there. */
static int setup_of_two(void **state)
{
	(void)state;
	open_as(3, /* has_reservations= */ true);
	ring_of(2, true);
	speak(0, 0, 0);
	return 0;
}

/* Whom the lun is to be taken from besides: nobody it has, or whom it may have forgotten. */
static struct ferry_key taken_from(void)
{
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_TAKING);
	assert_int_equal(drained.suspects_count, 1);
	return drained.suspects[0];
}

static void test_what_has_been_taken_is_settled(void **state)
{
	(void)state;
	own(1);
	assert_int_equal(drained.suspects[0].v, ferry_key_of_nobody().v); /* The first of all. */
	ferry_ownership_preempted(&ownership);
	all_drain(2);
	assert_int_equal(taken_from().v, ferry_key_of_nobody().v);
}

/* A new ring: all of the claim again. */
static void ring_changes(uint64_t epoch)
{
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_DRAINING);
	ring_of(2, true);
	speak(epoch - 1, 1, 0);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, epoch);
}

/* Of its own claims, overtaken: its data thread remembers whom those have removed. */
static void test_own_claims_are_remembered(void **state)
{
	(void)state;
	own(1);
	ferry_ownership_preempted(&ownership);
	echo();
	hear(2, FERRY_GROUP_ACK, 2, 1, 0);
	for (uint64_t epoch = 3; epoch < 6; epoch++) {
		ring_changes(epoch);
		hear(2, FERRY_GROUP_ACK, epoch, 1, 0);
	}
	all_drain(5);
	assert_int_equal(taken_from().v, ferry_key_of_nobody().v);
}

/* Another's, which has died before its epoch was in force. */
static void test_anothers_half_taking_is_forgotten(void **state)
{
	(void)state;
	own(1);
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	echo();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 3);
	all_drain(3);
	assert_int_equal(taken_from().v, ferry_key_of_forgotten().v);
}

/* Its own claims after that one settle nothing. */
static void test_own_claims_above_anothers_settle_nothing(void **state)
{
	(void)state;
	own(1);
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	echo();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	hear(2, FERRY_GROUP_ACK, 3, 1, 0);
	ring_changes(4);
	all_drain(4);
	assert_int_equal(taken_from().v, ferry_key_of_forgotten().v);
}

/* Its own claim, that another's overtook on this node's own disk. */
static void test_anothers_claim_of_the_same_number(void **state)
{
	(void)state;
	own(1);
	ferry_ownership_preempted(&ownership);
	said_count = 0; /* Nobody has heard it. */
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	echo();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 3);
	all_drain(3);
	assert_int_equal(taken_from().v, ferry_key_of_forgotten().v);
}

/* In force at another's: it was taken whole, and its own agent has drained. */
static void test_what_another_served_is_settled(void **state)
{
	(void)state;
	own(1);
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	hear(2, FERRY_GROUP_IN_FORCE, 2, 2, 0);
	echo();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(3);
	assert_int_equal(taken_from().v, ferry_key_of_nobody().v);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_of_two, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_has_been_taken_is_settled),
		TEST(test_own_claims_are_remembered),
		TEST(test_anothers_half_taking_is_forgotten),
		TEST(test_own_claims_above_anothers_settle_nothing),
		TEST(test_anothers_claim_of_the_same_number),
		TEST(test_what_another_served_is_settled),
	};

	return cmocka_run_group_tests_name("ownership_settled", tests, NULL, NULL);
}
