/* Taking a pool from others: with --take from a member that serves, or by a person's word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fencing/ownership_stand.h"

/* ---- Not from a member that serves. ---- */

static void two_serves(void)
{
	hear(2, FERRY_GROUP_CLAIM, 1, 2, 0);
	hear(2, FERRY_GROUP_IN_FORCE, 1, 2, 0);
	echo();
}

/* Asked in between: the others have not spoken yet, or there is no quorum. */
static void test_deposes_nobody_unasked(void **state)
{
	(void)state;
	two_serves();
	for (uint32_t i = 0; i < 2; i++) {
		ring_of(i == 0 ? 2 : 1, i == 0);
		ferry_ownership_acquire(&ownership, /* is_take= */ false);
		assert_int_equal(wishes, i);
		if (i > 0)
			ring_of(3, true);
		hear(2, FERRY_GROUP_STATE, 1, 2, FERRY_GROUP_IS_IN_FORCE);
		assert_int_equal(wishes, i + 1);
		assert_int_equal(wish, -EPERM);
		assert_true(ferry_ownership_is_served_elsewhere(&ownership));
		assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	}
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
}

/* Whoever takes for one wish does not for the next. */
static void test_takes_once(void **state)
{
	(void)state;
	two_serves();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	hear(2, FERRY_GROUP_CLAIM, 3, 2, 0);
	assert_int_equal(wish, -ESTALE);
	hear(2, FERRY_GROUP_IN_FORCE, 3, 2, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ false);
	assert_int_equal(wish, -EPERM);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	hear(2, FERRY_GROUP_STATE, 3, 0, 0); /* It has let go; that was not heard here. */
	assert_false(ferry_ownership_is_served_elsewhere(&ownership));
	ferry_ownership_acquire(&ownership, /* is_take= */ false);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 2);
}

/* ---- By a person's word. ---- */

static const struct ferry_members third = {.nodes = {{3}}, .count = 1};

static void test_force(void **state)
{
	(void)state;
	reopen_as(3, /* has_reservations= */ false);
	ring_of(2, true);
	speak(0, 0, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(1);
	assert_int_equal(wish, -EPERM); /* Nobody can keep node 3 from writing. */
	assert_int_equal(takes, 0);
	assert_int_equal(ferry_ownership_force(&ownership, &third), 0);
	assert_int_equal(ferry_ownership_force(&ownership, &third), -EBUSY);
	all_drain(2);
	assert_int_equal(takes, 1);
	assert_true(drained.is_answered_for);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	assert_int_equal(wish, 0);
	echo();
	assert_int_equal(ferry_ownership_force(&ownership, &third), 0); /* It has it. */
	assert_int_equal(wishes, 3);
	ferry_ownership_preempted(&ownership); /* The word held for that one wish. */
	all_drain(3);
	assert_int_equal(takes, 1);
	assert_int_equal(wish, -EPERM);
}

/* Nodes 1 and @other are there; the third is not. No reservations. */
static void pair_of(uint32_t other)
{
	struct ferry_members members = {.nodes = {{1}, {other}}, .count = 2};

	group.ring++;
	group.is_quorate = true;
	ferry_ownership_members(&ownership, &members);
	echo();
	hear(other, FERRY_GROUP_STATE, view.epoch.v, view.owner.v, 0);
	echo();
}

static void begin_pair(uint32_t other)
{
	reopen_as(3, /* has_reservations= */ false);
	pair_of(other);
}

static void drain_with(uint32_t other)
{
	struct ferry_epoch epoch = ownership.claimed;

	echo();
	ferry_ownership_drained(&ownership, epoch);
	echo();
	hear(other, FERRY_GROUP_ACK, epoch.v, 1, FERRY_GROUP_DRAINED);
}

/*
 * The person has named node 2. Node 3 agrees, has a write in flight, and is cut off; node 2 is
 * started: nobody has answered for node 3.
 */
static void test_force_names_nodes(void **state)
{
	static const struct ferry_members second = {.nodes = {{2}}, .count = 1};

	(void)state;
	begin_pair(3);
	assert_int_equal(ferry_ownership_force(&ownership, &second), 0);
	echo();
	ferry_ownership_drained(&ownership, (struct ferry_epoch){1});
	echo();
	hear(3, FERRY_GROUP_ACK, 1, 1, 0);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_DRAINING);
	pair_of(2);
	assert_int_equal(wish, -EPERM);
	assert_int_equal(wishes, 1);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	assert_int_equal(view.owner.v, 0); /* The others need not wait for it. */
	stand_run_ms(&stand, 2 * DRAIN_MS);
	assert_int_equal(takes, 0);
	/* Asked anew, of what is so now, the person may name it. */
	assert_int_equal(ferry_ownership_force(&ownership, &third), 0);
	drain_with(2);
	assert_int_equal(takes, 1);
	assert_true(drained.is_answered_for);
}

/* Who was named, came, and left again is not who was named. */
static void test_force_is_of_that_moment(void **state)
{
	(void)state;
	begin_pair(2);
	assert_int_equal(ferry_ownership_force(&ownership, &third), 0);
	ring_of(3, true);
	assert_int_equal(wishes, 0);
	pair_of(2);
	assert_int_equal(wish, -EPERM);
	/* Nor is who is there, named or not. */
	ring_of(3, true);
	speak(view.epoch.v, 0, 0);
	assert_int_equal(ferry_ownership_force(&ownership, &third), 0);
	assert_int_equal(wishes, 1);
	pair_of(2);
	assert_int_equal(wishes, 2);
	assert_int_equal(wish, -EPERM);
	assert_int_equal(takes, 0);
}

/* It leaves when the taking has begun, having drained: then the next claim is without a word. */
static void test_force_once_taking(void **state)
{
	(void)state;
	begin_pair(2);
	assert_int_equal(ferry_ownership_force(&ownership, &third), 0);
	drain_with(2);
	assert_int_equal(takes, 1);
	pair_of(3);
	assert_int_equal(wishes, 0);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	assert_int_equal(ownership.seen[0].laid.v, 0); /* Nobody was served by that word. */
	drain_with(3);
	assert_int_equal(takes, 1);
	assert_int_equal(wish, -EPERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_deposes_nobody_unasked),
		TEST(test_takes_once),
		TEST(test_force),
		TEST(test_force_names_nodes),
		TEST(test_force_is_of_that_moment),
		TEST(test_force_once_taking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
