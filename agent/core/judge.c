#include "agent/core/judge.h"

#include "agent/base/museum.h"

static enum ferry_next judge_failed(enum ferry_op op, enum ferry_cause cause, int *ret_error)
{
	switch (cause) {
	case FERRY_CAUSE_MEDIUM: /* The same medium behind every path (rule 6). */
	case FERRY_CAUSE_INVALID:
		*ret_error = -EIO;
		return FERRY_NEXT_FAIL;
	case FERRY_CAUSE_LOST:
		/* Maybe this one too: the error is told once, and trying again would hide it. */
		if (op == FERRY_OP_READ)
			return FERRY_NEXT_RETRY;
		*ret_error = -EIO;
		return FERRY_NEXT_FAIL;
	case FERRY_CAUSE_NO_SPACE:
		*ret_error = -ENOSPC;
		return FERRY_NEXT_FAIL;
	case FERRY_CAUSE_UNSENT:
	case FERRY_CAUSE_PATH:
	case FERRY_CAUSE_UNHEALTHY:
	case FERRY_CAUSE_LUN:
	case FERRY_CAUSE_RESET:
		return FERRY_NEXT_RETRY;
	case FERRY_CAUSE_CONFLICT:
	case FERRY_CAUSE_STALE:
		/*
		 * Not executed. Whoever is asked next looks at membership and epoch itself, so a
		 * deposed node finds no path that serves it; it never re-registers by itself.
		 */
		return FERRY_NEXT_RETRY;
	case FERRY_CAUSE_NONE:
	case FERRY_CAUSE_TIMEOUT: /* A timeout proves nothing: never FAILED (rule 1). */
	default:
		break;
	}
	ferry_unreachable("a cause that cannot be FAILED");
}

enum ferry_next ferry_judge(enum ferry_op op, enum ferry_outcome outcome, enum ferry_cause cause,
			    int *ret_error)
{
	ferry_assert(ret_error);
	ferry_assert(op >= FERRY_OP_READ && op <= FERRY_OP_WRITE_ZEROES);
	*ret_error = 0;
	switch (outcome) {
	case FERRY_OUTCOME_DONE:
		return FERRY_NEXT_COMPLETE;
	case FERRY_OUTCOME_FAILED:
		return judge_failed(op, cause, ret_error);
	case FERRY_OUTCOME_UNKNOWN:
		if (FERRY_MUSEUM(TIMEOUT_IS_FAILURE) && cause == FERRY_CAUSE_TIMEOUT)
			return FERRY_NEXT_RETRY;
		if (FERRY_MUSEUM(RESET_IS_FAILURE) && cause == FERRY_CAUSE_PATH)
			return FERRY_NEXT_RETRY;
		return ferry_op_changes_blocks(op) ? FERRY_NEXT_LAY : FERRY_NEXT_RETRY;
	default:
		break;
	}
	ferry_unreachable("an outcome that does not exist");
}
