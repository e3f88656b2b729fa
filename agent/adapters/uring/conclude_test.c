/* What an error of the kernel's is taken for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/adapters/uring/conclude.h"

static void conclusions(void **state)
{
	static const struct {
		bool is_block_device;
		enum ferry_op op;
		bool is_whole;
		int error;
		enum ferry_outcome outcome;
		enum ferry_cause cause;
	} cases[] = {
		{false, FERRY_OP_WRITE, true, -EIO, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM},
		{false, FERRY_OP_WRITE, true, -ENOSPC, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NO_SPACE},
		{false, FERRY_OP_READ, true, -EINVAL, FERRY_OUTCOME_FAILED, FERRY_CAUSE_INVALID},
		{false, FERRY_OP_WRITE, true, -ESTALE, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_READ, true, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -ENOLINK, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -ENODEV, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -ENOMEM, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -ETIMEDOUT, FERRY_OUTCOME_UNKNOWN,
		 FERRY_CAUSE_TIMEOUT},
		{true, FERRY_OP_WRITE, true, -ENODATA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM},
		{true, FERRY_OP_WRITE, true, -EREMOTEIO, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM},
		{true, FERRY_OP_WRITE, true, -ENOSPC, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NO_SPACE},
		{true, FERRY_OP_WRITE, true, -EBADE, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT},
		{true, FERRY_OP_WRITE, true, -EOPNOTSUPP, FERRY_OUTCOME_FAILED,
		 FERRY_CAUSE_INVALID},
		{true, FERRY_OP_WRITE, true, -EPERM, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT},
		/* One of several commands' errors proves nothing of the others. */
		{true, FERRY_OP_WRITE, false, -ENODATA, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_DISCARD, false, -EBADE, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, false, -EPERM, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT},
		{true, FERRY_OP_READ, false, -ENODATA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		struct ferry_conclusion conclusion = ferry_conclude(
			cases[i].is_block_device, cases[i].op, cases[i].is_whole, cases[i].error);

		if (conclusion.outcome != cases[i].outcome || conclusion.cause != cases[i].cause)
			fail_msg("case %zu: outcome %d, cause %d", i, (int)conclusion.outcome,
				 (int)conclusion.cause);
		assert_int_equal(conclusion.is_path_gone, cases[i].error == -ENODEV);
	}
	/* Nothing that the kernel may come up with makes a failed write a certainty by accident. */
	for (int error = -1; error > -4096; error--)
		assert_int_not_equal(ferry_conclude(true, FERRY_OP_WRITE, false, error).outcome,
				     FERRY_OUTCOME_DONE);
}

/* What fsync says once is all that will be known of the writes that are gone (rule 11). */
static void conclusions_of_flushes(void **state)
{
	static const struct {
		bool is_block_device;
		bool is_cached;
		enum ferry_op op;
		int error;
		enum ferry_outcome outcome;
		enum ferry_cause cause;
	} cases[] = {
		{false, true, FERRY_OP_FLUSH, -EIO, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST},
		{false, true, FERRY_OP_FLUSH, -ENOSPC, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NO_SPACE},
		{false, true, FERRY_OP_FLUSH, -EINTR, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH},
		{false, true, FERRY_OP_WRITE, -EIO, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_FLUSH, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_FLUSH, -ENOLINK, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_FLUSH, -ENODEV, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_WRITE, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_WRITE_ZEROES, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_WRITE, -ENOSPC, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NO_SPACE},
		{true, false, FERRY_OP_FLUSH, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, false, FERRY_OP_FLUSH, -ENODATA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST},
		/* Only the way to the disk was lost, and another may flush it. */
		{true, false, FERRY_OP_FLUSH, -ENOLINK, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, false, FERRY_OP_FLUSH, -ENODEV, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, false, FERRY_OP_FLUSH, -EBADE, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		struct ferry_conclusion conclusion =
			ferry_conclude_sync(cases[i].is_block_device, cases[i].is_cached,
					    cases[i].op, /* is_whole= */ true, cases[i].error);

		if (conclusion.outcome != cases[i].outcome || conclusion.cause != cases[i].cause)
			fail_msg("case %zu: outcome %d, cause %d", i, (int)conclusion.outcome,
				 (int)conclusion.cause);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conclusions),
		cmocka_unit_test(conclusions_of_flushes),
	};

	return cmocka_run_group_tests_name("uring_conclude", tests, NULL, NULL);
}
