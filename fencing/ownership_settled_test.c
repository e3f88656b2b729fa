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
	assert_true(drained.suspects_count > 0);
	return drained.suspects[drained.suspects_count - 1];
}

/* Node 2 claims epoch 2, and then this node the next. */
static void claim_after_another(void)
{
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	echo();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 3);
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
	claim_after_another();
	all_drain(3);
	assert_int_equal(taken_from().v, ferry_key_of_forgotten().v);
}

/* Its own claims after that one settle nothing. */
static void test_own_claims_above_anothers_settle_nothing(void **state)
{
	(void)state;
	own(1);
	claim_after_another();
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
	claim_after_another();
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

/* In force, by the word of somebody else: what its owner left may be forgotten. */
static void test_what_is_served_unheard_is_forgotten(void **state)
{
	(void)state;
	own(1); /* It served itself; and that is no proof of what came later. */
	hear(2, FERRY_GROUP_STATE, 2, 3, FERRY_GROUP_IS_IN_FORCE);
	echo();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(3);
	assert_int_equal(taken_from().v, ferry_key_of_forgotten().v);
}

/* Another agent of the node that served has drained: of its elder's that says nothing. */
static void test_what_an_elder_served_is_forgotten(void **state)
{
	struct ferry_group_message anew = message_of(FERRY_GROUP_STATE, 2, 0, 0);

	(void)state;
	own(1);
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	hear(2, FERRY_GROUP_IN_FORCE, 2, 2, 0);
	anew.incarnation.v = 2;
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &anew);
	echo();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	ferry_ownership_drained(&ownership, (struct ferry_epoch){3});
	echo();
	anew = message_of(FERRY_GROUP_ACK, 3, 1, FERRY_GROUP_DRAINED);
	anew.incarnation.v = 2;
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &anew);
	assert_true(is_drained(2));
	assert_int_equal(taken_from().v, ferry_key_of_forgotten().v);
}

/* Taken only to fence a node: whom that removed this agent remembers all the same. */
static void test_a_fencing_is_remembered(void **state)
{
	(void)state;
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), 0);
	echo();
	all_drain(1);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	echo();
	echo();
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(2);
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
		TEST(test_what_is_served_unheard_is_forgotten),
		TEST(test_what_an_elder_served_is_forgotten),
		TEST(test_a_fencing_is_remembered),
	};

	return cmocka_run_group_tests_name("ownership_settled", tests, NULL, NULL);
}
