/*
 * ownership_move.c - planned moves: the owner lets go, for nobody in particular or for the next
 * (rule 17).
 */
#include "fencing/ownership_private.h"

void ferry_ownership_withdrawn(struct ferry_ownership *ownership)
{
	if (ownership->view.owner.v != ferry_ownership_self(ownership).v)
		return; /* Not heard yet, even here: then it is said when it is. */
	ownership->release_is_due = true;
	ferry_ownership_messages_flush(ownership);
}

/*
 * What has been acknowledged cannot be taken back, and need not be: no epoch is in force before its
 * claimant has said so, which this one does not do any more. The epoch stays on the disks,
 * nobody's, and the next claim is above it. A taking that is under way ends with the ownership
 * (engine.c).
 */
static void withdraw(struct ferry_ownership *ownership)
{
	ownership->phase = FERRY_OWNERSHIP_IDLE;
	ownership->claim_is_due = false;
	ownership->in_force_is_due = false;
	ferry_ownership_withdrawn(ownership);
	ferry_ownership_wish_over(ownership, 0, "the pool was not owned");
}

void ferry_ownership_release(struct ferry_ownership *ownership, struct ferry_node next_owner)
{
	ferry_assert(ownership);
	ferry_assert(next_owner.v != ferry_ownership_self(ownership).v);
	ownership->next_owner = next_owner;
	ownership->was_owner = false;
	if (ownership->fencing.is_running) {
		/* What it does now it does for the fencing; at its end nobody is to serve. */
		ownership->fencing.keeps_pool = false;
		ownership->config.on_wish(0, "the pool is given up", ownership->config.context);
		return;
	}
	ownership->wants_pool = false;
	if (ownership->phase != FERRY_OWNERSHIP_OWNING) {
		withdraw(ownership);
		return;
	}
	/* The wiring has closed the volume and waited for its I/O before it called. */
	ownership->phase = FERRY_OWNERSHIP_RELEASING;
	ownership->release_is_due = true;
	ferry_ownership_messages_flush(ownership);
}

void ferry_ownership_nobodys(struct ferry_ownership *ownership, struct ferry_node from,
			     const struct ferry_group_message *message)
{
	bool is_own = from.v == ferry_ownership_self(ownership).v;
	bool is_take = ownership->is_take;

	ownership->view.owner.v = 0;
	ownership->view.is_in_force = false;
	ownership->released = message->epoch;
	ferry_ownership_view_publish(ownership);
	if (is_own)
		ferry_ownership_owner_save(ownership, (struct ferry_node){0});
	if (is_own && ownership->phase == FERRY_OWNERSHIP_RELEASING) {
		ownership->phase = FERRY_OWNERSHIP_IDLE;
		ferry_ownership_wish_over(ownership, 0, "the pool is released");
		if (ownership->wants_pool) /* It was asked for again meanwhile. */
			ferry_ownership_acquire(ownership, is_take);
	}
	if (message->type == FERRY_GROUP_HANDOVER &&
	    message->owner.v == ferry_ownership_self(ownership).v) {
		ferry_ownership_emit(ownership, FERRY_EVENT_HANDOVER, FERRY_SEVERITY_NOTICE,
				     "the owner hands the pool over to this node");
		ferry_ownership_acquire(ownership, /* is_take= */ false);
	}
}
