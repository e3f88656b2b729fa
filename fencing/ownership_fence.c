/*
 * ownership_fence.c - fencing a node from the pool: who asked for it, who does it, who is told.
 */
#include "fencing/ownership_private.h"

/* After the drain timeout: what a preemption, and a reset that waits, may take. */
#define FENCE_TIMEOUT_NS (20 * FERRY_NS_PER_S)

static void fence_over(struct ferry_ownership *ownership, int error, const char *why)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;
	struct ferry_node victim = fencing->victim;

	ferry_assert(fencing->is_asked_here);
	ferry_timer_stop(ownership->config.loop, &fencing->timer);
	fencing->is_asked_here = false;
	fencing->ask_is_due = false;
	if (!fencing->is_running)
		fencing->victim.v = 0;
	ownership->config.on_fenced(victim, error, why, ownership->config.context);
}

void ferry_ownership_fence_timer_ran(struct ferry_timer *timer)
{
	struct ferry_ownership *ownership =
		FERRY_CONTAINER_OF(timer, struct ferry_ownership, fencing.timer);

	fence_over(ownership, -ETIMEDOUT,
		   "whoever was to fence the node has not verified it in time");
}

void ferry_ownership_victim_note(struct ferry_ownership *ownership, struct ferry_node victim,
				 struct ferry_incarnation incarnation)
{
	struct ferry_ownership_seen *seen = ferry_ownership_seen_find(ownership, victim);

	if (seen)
		seen->fenced.v = ferry_max_u64(seen->fenced.v, incarnation.v);
	if (victim.v != ferry_ownership_self(ownership).v ||
	    incarnation.v < ownership->config.incarnation.v || ownership->is_fenced)
		return;
	ownership->is_fenced = true;
	ferry_ownership_emit(ownership, FERRY_EVENT_FENCED, FERRY_SEVERITY_ERROR,
			     "this node is fenced from the pool until its agent is started anew");
	if (ownership->phase != FERRY_OWNERSHIP_OWNING)
		ferry_ownership_deposed(ownership, "this node is fenced from the pool");
	ferry_ownership_view_publish(ownership);
}

void ferry_ownership_fence_begin(struct ferry_ownership *ownership, struct ferry_node victim)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;

	if (fencing->victim.v != 0 && fencing->victim.v != victim.v)
		return; /* This node has asked for another itself: one at a time. */
	fencing->victim = victim;
	fencing->is_running = true;
	fencing->is_proven = false;
	fencing->keeps_pool = ownership->wants_pool;
	ownership->wants_pool = true;
	ferry_ownership_claim_again(ownership);
}

void ferry_ownership_fence_finish(struct ferry_ownership *ownership)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;
	bool is_proven = fencing->is_proven;

	ferry_assert(fencing->is_running);
	fencing->is_running = false;
	fencing->answered = fencing->victim;
	fencing->answer_is_due = true;
	if (!fencing->is_asked_here)
		fencing->victim.v = 0;
	ferry_ownership_emit(ownership, FERRY_EVENT_FENCED,
			     is_proven ? FERRY_SEVERITY_NOTICE : FERRY_SEVERITY_ERROR,
			     is_proven ? "a node is fenced from the pool"
				       : "a node could not be fenced from the pool");
	ferry_ownership_messages_flush(ownership);
}

void ferry_ownership_fenced_heard(struct ferry_ownership *ownership,
				  const struct ferry_group_message *message)
{
	const struct ferry_ownership_fencing *fencing = &ownership->fencing;
	struct ferry_ownership_seen *seen = ferry_ownership_seen_find(ownership, message->victim);
	bool is_proven = message->flags & FERRY_GROUP_PROVEN;

	ferry_ownership_victim_note(ownership, message->victim, message->victim_incarnation);
	if (seen && is_proven)
		seen->proven.v = ferry_max_u64(seen->proven.v, message->victim_incarnation.v);
	if (message->flags & FERRY_GROUP_REMINDS)
		return;
	if (fencing->is_asked_here && fencing->victim.v == message->victim.v)
		fence_over(ownership, is_proven ? 0 : -EIO,
			   is_proven ? "its registrations are gone, what it sent is dead"
				     : "it could not be verified at the lun: see the owner's log");
}

bool ferry_ownership_is_fenced_for_sure(const struct ferry_ownership *ownership,
					struct ferry_node node)
{
	ferry_assert(ownership && node.v > 0);
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++) {
		const struct ferry_ownership_seen *seen = &ownership->seen[i];

		if (seen->node.v == node.v)
			return seen->proven.v != 0 && seen->proven.v >= seen->incarnation.v;
	}
	return false;
}

int ferry_ownership_fence(struct ferry_ownership *ownership, struct ferry_node victim)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;

	ferry_assert(ownership && ownership->config.on_fenced);
	ferry_assert(victim.v > 0);
	if (!ownership->config.has_reservations)
		return -EOPNOTSUPP;
	if (victim.v == ferry_ownership_self(ownership).v)
		return -EINVAL;
	if (ownership->is_fenced)
		return -EPERM;
	if (!ownership->view.is_quorate)
		return -EAGAIN;
	if (fencing->victim.v != 0)
		return -EBUSY;
	fencing->victim = victim;
	fencing->is_asked_here = true;
	fencing->ask_is_due = true;
	ferry_timer_start_in(ownership->config.loop, &fencing->timer,
			     ownership->config.drain_timeout_ns + FENCE_TIMEOUT_NS);
	ferry_ownership_messages_flush(ownership);
	return 0;
}
