/*
 * ownership_step.c - this node's own part: what decide.h says is next is done, phase by phase,
 * until it has to wait; and how a wish ends.
 */
#include "fencing/ownership_private.h"

void ferry_ownership_wish_over(struct ferry_ownership *ownership, int error, const char *why)
{
	bool was_fencing = ownership->fencing.is_running;

	ownership->is_take = false;
	ownership->is_forced = false;
	ownership->answered_for.count = 0;
	if (error < 0) {
		ownership->wants_pool = false;
		ownership->phase = FERRY_OWNERSHIP_IDLE;
	}
	if (was_fencing)
		ferry_ownership_fence_finish(ownership);
	if (was_fencing && !ownership->fencing.keeps_pool)
		return; /* Nobody here has wished for the pool. */
	ferry_ownership_emit(ownership, FERRY_EVENT_EPOCH,
			     error < 0 ? FERRY_SEVERITY_ERROR : FERRY_SEVERITY_NOTICE, why);
	ownership->config.on_wish(error, why, ownership->config.context);
}

/* True: something has changed, look again. */
static bool step(struct ferry_ownership *ownership, const struct ferry_decision *decision)
{
	switch (decision->kind) {
	case FERRY_DECISION_RECLAIM:
		ownership->was_owner = false;
		ownership->wants_pool = true;
		ownership->phase = FERRY_OWNERSHIP_SYNCING;
		ferry_ownership_emit(
			ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE,
			"this node owned the pool when its agent ended: claiming it again");
		return true;
	case FERRY_DECISION_CLAIM:
		ferry_ownership_claim_make(ownership, decision->epoch);
		return false;
	case FERRY_DECISION_WAIT_DRAIN:
		if (ownership->phase == FERRY_OWNERSHIP_DRAINING)
			return false;
		ferry_ownership_drain_begin(ownership, decision->is_by_lun);
		return true;
	case FERRY_DECISION_WAIT_QUIESCE:
		ferry_ownership_quiesce_wait(ownership, decision);
		return false;
	case FERRY_DECISION_TAKE:
		ferry_ownership_take_begin(ownership, decision);
		return false;
	case FERRY_DECISION_REFUSE:
		ferry_ownership_wish_over(ownership, decision->error, decision->why);
		return false;
	case FERRY_DECISION_REST:
	case FERRY_DECISION_HOLD:
	case FERRY_DECISION_SYNC:
	case FERRY_DECISION_WAIT_ACKS:
	case FERRY_DECISION_IN_FORCE:
	case FERRY_DECISION_LET_GO:
	default:
		return false;
	}
}

void ferry_ownership_advance(struct ferry_ownership *ownership)
{
	struct ferry_situation situation;
	struct ferry_decision decision;

	do { /* Each round is one phase further: bounded. */
		if (ownership->phase == FERRY_OWNERSHIP_TAKING)
			return; /* ferry_ownership_taken() */
		situation = ferry_ownership_situation(ownership);
		ferry_decide_next(&situation, &decision);
	} while (step(ownership, &decision));
}

void ferry_ownership_timer_ran(struct ferry_timer *timer)
{
	ferry_ownership_advance(FERRY_CONTAINER_OF(timer, struct ferry_ownership, timer));
}

void ferry_ownership_deposed(struct ferry_ownership *ownership, const char *why)
{
	bool was_wanted = ownership->wants_pool;
	bool was_releasing = ownership->phase == FERRY_OWNERSHIP_RELEASING;

	if (ownership->phase == FERRY_OWNERSHIP_IDLE)
		return;
	ownership->wants_pool = false;
	ownership->phase = FERRY_OWNERSHIP_IDLE;
	ownership->claim_is_due = false;
	ownership->in_force_is_due = false;
	ownership->release_is_due = false;
	if (was_wanted)
		ferry_ownership_wish_over(ownership, -ESTALE, why);
	else if (was_releasing) /* Its own word, on its way, will find the epoch another's. */
		ferry_ownership_wish_over(ownership, 0, why);
}
