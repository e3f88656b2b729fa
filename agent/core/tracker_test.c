/* Whose fault it is: n paired failures in a window, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/tracker.h"

static struct ferry_tracker tracker;

static enum ferry_verdict see(uint64_t second, bool local, bool peer)
{
	return ferry_tracker_observe(&tracker, second * FERRY_NS_PER_S, local, peer);
}

static void test_convicts_by_pairs(void **state)
{
	(void)state;
	ferry_tracker_init(&tracker, 3, 10 * FERRY_NS_PER_S);
	assert_int_equal(see(100, false, true), FERRY_VERDICT_NONE);
	assert_int_equal(see(101, false, true), FERRY_VERDICT_NONE);
	assert_int_equal(see(110, false, true), FERRY_VERDICT_LOCAL_PATH);
	assert_int_equal(see(111, false, false),
			 FERRY_VERDICT_LOCAL_PATH); /* Takes nothing back. */
	assert_int_equal(see(112, true, false), FERRY_VERDICT_NONE);
	assert_int_equal(see(113, false, true), FERRY_VERDICT_NONE); /* And it counts anew. */
}

static void test_both_failed_moves_nothing(void **state)
{
	(void)state;
	ferry_tracker_init(&tracker, 2, 100 * FERRY_NS_PER_S);
	for (uint64_t i = 0; i < 50; i++)
		assert_int_equal(see(i, false, false), FERRY_VERDICT_NONE);
	assert_int_equal(see(51, false, true), FERRY_VERDICT_NONE);
	assert_int_equal(see(52, false, false), FERRY_VERDICT_NONE);
	assert_int_equal(see(53, false, true), FERRY_VERDICT_LOCAL_PATH);
}

static void test_window(void **state)
{
	(void)state;
	ferry_tracker_init(&tracker, 3, 10 * FERRY_NS_PER_S);
	for (uint64_t i = 0; i < 40; i += 6) /* Never three within ten seconds. */
		assert_int_equal(see(i, false, true), FERRY_VERDICT_NONE);
	assert_int_equal(see(40, false, true), FERRY_VERDICT_LOCAL_PATH); /* 30, 36, 40. */
}

static void test_one_is_enough(void **state)
{
	(void)state;
	ferry_tracker_init(&tracker, 1, 0);
	assert_int_equal(see(5, false, true), FERRY_VERDICT_LOCAL_PATH);
	assert_int_equal(see(6, true, true), FERRY_VERDICT_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_convicts_by_pairs),
		cmocka_unit_test(test_both_failed_moves_nothing),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_one_is_enough),
	};

	return cmocka_run_group_tests_name("tracker", tests, NULL, NULL);
}
