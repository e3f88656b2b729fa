/* The whole table of rules 1-6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/judge.h"

static void expect(enum ferry_op op, enum ferry_outcome outcome, enum ferry_cause cause,
		   enum ferry_next next, int error)
{
	int got = 1;

	assert_int_equal(ferry_judge(op, outcome, cause, &got), next);
	assert_int_equal(got, error);
}

static void test_table(void **state)
{
	static const struct {
		enum ferry_cause cause;
		enum ferry_next next;
		int error;
	} failed[] = {
		{FERRY_CAUSE_UNSENT, FERRY_NEXT_RETRY, 0},
		{FERRY_CAUSE_PATH, FERRY_NEXT_RETRY, 0},
		{FERRY_CAUSE_MEDIUM, FERRY_NEXT_FAIL, -EIO},
		{FERRY_CAUSE_INVALID, FERRY_NEXT_FAIL, -EIO},
		{FERRY_CAUSE_NO_SPACE, FERRY_NEXT_FAIL, -ENOSPC},
		{FERRY_CAUSE_CONFLICT, FERRY_NEXT_RETRY, 0},
		{FERRY_CAUSE_STALE, FERRY_NEXT_RETRY, 0},
		{FERRY_CAUSE_LUN, FERRY_NEXT_RETRY, 0},
		{FERRY_CAUSE_UNHEALTHY, FERRY_NEXT_RETRY, 0},
		{FERRY_CAUSE_RESET, FERRY_NEXT_RETRY, 0},
	};
	static const enum ferry_cause unknown[] = {FERRY_CAUSE_PATH, FERRY_CAUSE_TIMEOUT,
						   FERRY_CAUSE_RESET, FERRY_CAUSE_LOST};

	(void)state;
	for (int i = FERRY_OP_READ; i <= FERRY_OP_WRITE_ZEROES; i++) {
		enum ferry_op op = (enum ferry_op)i;
		bool is_write = op == FERRY_OP_WRITE || op == FERRY_OP_DISCARD ||
				op == FERRY_OP_WRITE_ZEROES;

		expect(op, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE, FERRY_NEXT_COMPLETE, 0);
		for (size_t j = 0; j < FERRY_ARRAY_COUNT(failed); j++)
			expect(op, FERRY_OUTCOME_FAILED, failed[j].cause, failed[j].next,
			       failed[j].error);
		expect(op, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST,
		       op == FERRY_OP_READ ? FERRY_NEXT_RETRY : FERRY_NEXT_FAIL,
		       op == FERRY_OP_READ ? 0 : -EIO);
		for (size_t j = 0; j < FERRY_ARRAY_COUNT(unknown); j++)
			expect(op, FERRY_OUTCOME_UNKNOWN, unknown[j],
			       is_write ? FERRY_NEXT_LAY : FERRY_NEXT_RETRY, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_table)};

	return cmocka_run_group_tests_name("judge", tests, NULL, NULL);
}
