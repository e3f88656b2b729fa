/* What a FLUSH may promise (rules 10 and 11). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/flush.h"

static struct ferry_flush flush;

static int setup(void **state)
{
	(void)state;
	ferry_flush_init(&flush);
	assert_int_equal(flush.losses_seen, 1); /* 0 is what nobody has counted. */
	return 0;
}

static void test_covers_what_was_done_before(void **state)
{
	(void)state;
	assert_false(ferry_flush_has_unflushed(&flush));
	assert_false(ferry_flush_wrote(&flush, 1, 1));
	assert_false(ferry_flush_wrote(&flush, 2, 2));
	assert_true(ferry_flush_has_unflushed(&flush));
	assert_int_equal(flush.unflushed_since, 1);
	assert_int_equal(ferry_flush_done(&flush, 1, 2), 0);
	assert_true(ferry_flush_has_unflushed(&flush)); /* The second came while it ran. */
	assert_int_equal(flush.unflushed_since, 2);
	assert_int_equal(ferry_flush_done(&flush, 2, 3), 0);
	assert_false(ferry_flush_has_unflushed(&flush));
	assert_int_equal(ferry_flush_done(&flush, 1, 1), 0); /* An earlier one ends after it. */
	assert_int_equal(flush.writes_flushed, 2);
	assert_int_equal(flush.unflushed_since, 3);
}

static void test_unflushed_since_starts_anew(void **state)
{
	(void)state;
	assert_false(ferry_flush_wrote(&flush, 1, 1));
	assert_int_equal(ferry_flush_done(&flush, 1, 2), 0);
	assert_false(ferry_flush_wrote(&flush, 9, 7)); /* 7 and 8 are in flight yet. */
	assert_int_equal(flush.unflushed_since, 7);
	assert_false(ferry_flush_wrote(&flush, 8, 8));
	assert_int_equal(flush.unflushed_since, 7);
}

static void test_a_loss_is_suspect_till_cleared(void **state)
{
	(void)state;
	assert_false(ferry_flush_wrote(&flush, 1, 1));
	assert_true(ferry_flush_lost(&flush, 1));
	assert_int_equal(flush.losses_seen, 2);
	assert_false(ferry_flush_lost(&flush, 1)); /* One more, but no news. */
	assert_int_equal(flush.losses_seen, 3);
	assert_int_equal(flush.losses_count, 2);
	assert_int_equal(ferry_flush_done(&flush, 1, 2), -EIO);
	assert_int_equal(ferry_flush_done(&flush, 1, 2), -EIO); /* A later one proves nothing. */
	assert_int_equal(flush.writes_flushed, 0);
	ferry_flush_clear(&flush);
	assert_true(ferry_flush_has_unflushed(&flush));
	assert_true(ferry_flush_lost(&flush, 1)); /* And may be lost again. */
	ferry_flush_clear(&flush);
	assert_int_equal(ferry_flush_done(&flush, 1, 2), 0);
	assert_false(ferry_flush_has_unflushed(&flush));
}

static void test_a_loss_of_nothing(void **state)
{
	(void)state;
	assert_false(ferry_flush_lost(&flush, 0));
	assert_false(ferry_flush_wrote(&flush, 1, 1));
	assert_int_equal(ferry_flush_done(&flush, 1, 2), 0);
	assert_false(ferry_flush_lost(&flush, 1)); /* All of it is durable. */
	assert_false(flush.is_suspect);
	assert_int_equal(flush.losses_count, 0);
	assert_int_equal(flush.losses_seen, 3); /* Others may ask. */
}

/* Executed before the reset or after it, nobody knows. */
static void test_in_flight_at_a_loss(void **state)
{
	(void)state;
	assert_false(ferry_flush_lost(&flush, 5));
	assert_false(ferry_flush_wrote(&flush, 6, 5)); /* Sent after it. */
	assert_true(ferry_flush_wrote(&flush, 5, 5));
	assert_int_equal(ferry_flush_done(&flush, 2, 7), -EIO);
}

static void test_inherited(void **state)
{
	(void)state;
	ferry_flush_inherit(&flush);
	assert_true(ferry_flush_has_unflushed(&flush));
	assert_true(ferry_flush_is_vouched(&flush, 100)); /* Of earlier losses nobody is asked. */
	ferry_flush_inherit(&flush);
	assert_int_equal(flush.writes_done, 1); /* Once is enough. */
	assert_false(ferry_flush_wrote(&flush, 4, 3));
	assert_int_equal(flush.unflushed_since, 3);
	assert_true(ferry_flush_lost(&flush, 4));
}

static void test_vouched(void **state)
{
	(void)state;
	assert_true(ferry_flush_is_vouched(&flush, UINT64_MAX)); /* Nothing to vouch for. */
	assert_false(ferry_flush_wrote(&flush, 4, 3));
	assert_true(ferry_flush_is_vouched(&flush, 3));
	assert_false(ferry_flush_is_vouched(&flush, 4));
	assert_int_equal(ferry_flush_done(&flush, 1, 5), 0);
	assert_true(ferry_flush_is_vouched(&flush, 6));
}

static void test_given_up_and_forgotten(void **state)
{
	(void)state;
	assert_false(ferry_flush_wrote(&flush, 1, 1));
	assert_true(ferry_flush_give_up(&flush));
	assert_false(ferry_flush_give_up(&flush));
	assert_int_equal(ferry_flush_done(&flush, 1, 2), -EIO);
	ferry_flush_forget(&flush);
	assert_false(ferry_flush_has_unflushed(&flush));
	assert_int_equal(ferry_flush_done(&flush, 1, 2), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		TEST(test_covers_what_was_done_before),
		TEST(test_unflushed_since_starts_anew),
		TEST(test_a_loss_is_suspect_till_cleared),
		TEST(test_a_loss_of_nothing),
		TEST(test_in_flight_at_a_loss),
		TEST(test_inherited),
		TEST(test_vouched),
		TEST(test_given_up_and_forgotten),
	};

	return cmocka_run_group_tests_name("flush", tests, NULL, NULL);
}
