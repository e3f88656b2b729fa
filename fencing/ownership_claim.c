/*
 * ownership_claim.c - claims and their acknowledgements: this node's own, and what becomes here of
 * the epochs of others.
 */
#include "fencing/ownership_private.h"

#define CLAIM_TIMEOUT_NS (500 * FERRY_NS_PER_MS)

void ferry_ownership_claim_make(struct ferry_ownership *ownership, struct ferry_epoch epoch)
{
	struct ferry_loop *loop = ownership->config.loop;

	ferry_assert(epoch.v > ownership->view.epoch.v);
	/* The claim before was this node's: what its taking has removed the data side remembers. */
	if (ownership->claimed.v == epoch.v - 1 &&
	    ownership->settled.v + 1 == ownership->claimed.v &&
	    (ownership->view.epoch.v < ownership->claimed.v ||
	     ownership->view.owner.v == ferry_ownership_self(ownership).v))
		ownership->settled = ownership->claimed;
	ownership->claimed = epoch;
	ownership->phase = FERRY_OWNERSHIP_CLAIMING;
	ownership->is_by_lun = false;
	ownership->in_force_is_due = false;
	ownership->release_is_due = false; /* It was the last epoch that was to be released. */
	ownership->claim_is_due = true;
	ownership->claim_deadline_ns = ferry_loop_now_ns(loop) + CLAIM_TIMEOUT_NS;
	ferry_timer_start(loop, &ownership->timer, ownership->claim_deadline_ns);
	ferry_ownership_emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_INFO,
			     "claiming the pool");
	ferry_ownership_messages_flush(ownership);
}

void ferry_ownership_claim_again(struct ferry_ownership *ownership)
{
	ownership->claim_is_due = false;
	ownership->in_force_is_due = false;
	ownership->phase = FERRY_OWNERSHIP_SYNCING;
	ferry_ownership_advance(ownership);
}

/* It was in force; by whose agent, its own word will tell. */
static void settle(struct ferry_ownership *ownership, struct ferry_epoch epoch)
{
	ownership->settled = epoch;
	ownership->served_by.v = 0;
}

void ferry_ownership_served_note(struct ferry_ownership *ownership, struct ferry_node from,
				 const struct ferry_group_message *message)
{
	const struct ferry_view *view = &ownership->view;
	bool says_so = message->type == FERRY_GROUP_IN_FORCE ||
		       (message->type == FERRY_GROUP_STATE &&
			message->flags & FERRY_GROUP_IS_IN_FORCE && message->owner.v == from.v);
	struct ferry_ownership_member *member = ferry_ownership_member_find(ownership, from);

	if (member &&
	    (says_so || message->type == FERRY_GROUP_STATE ||
	     message->type == FERRY_GROUP_RELEASE || message->type == FERRY_GROUP_HANDOVER))
		member->is_serving = says_so;

	if (!says_so || !view->is_in_force || view->owner.v != from.v ||
	    view->epoch.v != message->epoch.v)
		return;
	ownership->served_by = from;
	ownership->served_as = message->incarnation;
}

void ferry_ownership_install(struct ferry_ownership *ownership, struct ferry_node from,
			     const struct ferry_group_message *message)
{
	bool is_in_force = message->type == FERRY_GROUP_IN_FORCE;

	if (is_in_force)
		settle(ownership, message->epoch);
	if (!ferry_ownership_epoch_install(ownership, message->epoch, from, is_in_force)) {
		if (from.v == ferry_ownership_self(ownership).v)
			ferry_ownership_wish_over(ownership, -EIO, "the epoch could not be saved");
		return;
	}
	ferry_ownership_emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE,
			     "a new epoch is installed");
	ownership->ack_is_due = true;
	ferry_ownership_view_publish(ownership);
	ferry_ownership_messages_flush(ownership);
	if (ownership->phase == FERRY_OWNERSHIP_IDLE)
		ferry_ownership_withdrawn(ownership); /* While it was on its way. */
}

void ferry_ownership_learn(struct ferry_ownership *ownership,
			   const struct ferry_group_message *message, bool is_own_past)
{
	struct ferry_node owner = is_own_past ? (struct ferry_node){0} : message->owner;
	bool is_in_force = message->flags & FERRY_GROUP_IS_IN_FORCE && !is_own_past;

	if (message->flags & FERRY_GROUP_IS_IN_FORCE) /* Its own past too has been. */
		settle(ownership, message->epoch);
	if (!ferry_ownership_epoch_install(ownership, message->epoch, owner, is_in_force))
		return;
	ferry_ownership_emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE,
			     "learnt a newer epoch");
	ownership->state_is_due = true;
	ferry_ownership_view_publish(ownership);
	/* What is under way for a lower one will not be answered any more. */
	if (is_own_past && ownership->phase != FERRY_OWNERSHIP_IDLE &&
	    ownership->phase != FERRY_OWNERSHIP_RELEASING)
		ferry_ownership_claim_again(ownership);
}

void ferry_ownership_follow(struct ferry_ownership *ownership, struct ferry_node owner)
{
	ownership->view.owner = owner;
	ownership->view.is_in_force = true;
	ownership->served_by.v = 0;
	if (ownership->settled.v < ownership->view.epoch.v &&
	    owner.v != ferry_ownership_self(ownership).v) {
		ownership->settled = ownership->view.epoch;
		ferry_ownership_owner_save(ownership, (struct ferry_node){0});
	}
	ferry_ownership_view_publish(ownership);
}

void ferry_ownership_ack_note(struct ferry_ownership *ownership,
			      struct ferry_ownership_member *member,
			      const struct ferry_group_message *message)
{
	member->ack_ring = message->ring;
	member->acked = message->epoch;
	member->acked_for = message->owner;
	member->epoch = message->epoch;
	member->incarnation = message->incarnation;
	if (message->flags & FERRY_GROUP_DRAINED)
		member->drained = message->epoch;
	ferry_ownership_advance(ownership);
}
