/*
 * ownership_take.c - between a majority's acknowledgement and the first byte: draining, taking the
 * lun, serving; and what the data thread says of it (rule 13).
 */
#include "fencing/ownership_private.h"

void ferry_ownership_drain_begin(struct ferry_ownership *ownership, bool is_by_lun)
{
	struct ferry_loop *loop = ownership->config.loop;

	ownership->phase = FERRY_OWNERSHIP_DRAINING;
	ownership->is_by_lun = is_by_lun;
	ownership->is_quiescing = false;
	ownership->drain_deadline_ns = ferry_loop_now_ns(loop) + ownership->config.drain_timeout_ns;
	ferry_timer_start(loop, &ownership->timer, ownership->drain_deadline_ns);
}

void ferry_ownership_take_begin(struct ferry_ownership *ownership,
				const struct ferry_decision *decision)
{
	if (decision->why)
		ferry_ownership_emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_WARNING,
				     decision->why);
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		ownership->seen[i].taking = ownership->seen[i].incarnation;
	ownership->is_taken_by_word = decision->keys.is_answered_for;
	ownership->phase = FERRY_OWNERSHIP_TAKING;
	ferry_ownership_emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_INFO, "taking the lun");
	ownership->config.take(&decision->keys, ownership->config.context);
}

void ferry_ownership_drained(struct ferry_ownership *ownership, struct ferry_epoch epoch)
{
	ferry_assert(ownership);
	if (epoch.v != ownership->view.epoch.v || ferry_ownership_is_drained_here(ownership))
		return;
	ownership->drained = epoch;
	ownership->ack_is_due = true;
	ferry_ownership_view_publish(ownership);
	ferry_ownership_messages_flush(ownership);
}

/* The epoch was taken to fence a node: it is there, and nobody serves before it is acquired. */
static void let_go(struct ferry_ownership *ownership)
{
	ownership->wants_pool = false;
	ownership->next_owner.v = 0;
	ownership->phase = FERRY_OWNERSHIP_RELEASING;
	ownership->release_is_due = true;
	ferry_ownership_messages_flush(ownership);
}

static void serve(struct ferry_ownership *ownership)
{
	ferry_ownership_owner_save(ownership, ferry_ownership_self(ownership));
	ownership->phase = FERRY_OWNERSHIP_OWNING;
	ownership->view.is_in_force = true;
	ownership->in_force_is_due = true;
	ferry_ownership_view_publish(ownership);
	ferry_ownership_messages_flush(ownership);
	ferry_ownership_wish_over(ownership, 0, "the pool is owned, its epoch in force");
}

static void take_failed(struct ferry_ownership *ownership, int error)
{
	if (error == -EACCES) {
		ownership->view.owner.v = 0; /* This node is out: it waits for nothing. */
		ferry_ownership_view_publish(ownership);
	}
	ferry_ownership_wish_over(
		ownership, error,
		error == -EPERM	   ? "foreign registrations are on the lun"
		: error == -EACCES ? "the other node has taken the lun, or may have: it has to be "
				     "heard first"
				   : "the lun could not be taken");
}

/* A person's word that comes to nothing in the end settles nothing for who has no such word. */
static void settle(struct ferry_ownership *ownership, struct ferry_epoch epoch)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		ownership->seen[i].laid = ownership->seen[i].taking;
	ownership->settled = epoch;
	ownership->served_by = ferry_ownership_self(ownership);
	ownership->served_as = ownership->config.incarnation;
}

void ferry_ownership_taken(struct ferry_ownership *ownership, struct ferry_epoch epoch, int error)
{
	struct ferry_situation situation;
	struct ferry_decision decision;

	ferry_assert(ownership);
	if (ownership->phase != FERRY_OWNERSHIP_TAKING || epoch.v != ownership->claimed.v)
		return; /* Overtaken meanwhile, if only by a claim of its own. */
	if (error < 0) {
		take_failed(ownership, error);
		return;
	}
	situation = ferry_ownership_situation(ownership);
	ferry_decide_next(&situation, &decision);
	if (!ownership->is_taken_by_word || decision.kind == FERRY_DECISION_IN_FORCE)
		settle(ownership, epoch);
	ownership->fencing.is_proven |= ownership->fencing.is_running &&
					!ownership->is_taken_by_word &&
					(decision.kind == FERRY_DECISION_IN_FORCE ||
					 decision.kind == FERRY_DECISION_LET_GO);
	ownership->is_sole =
		decision.kind == FERRY_DECISION_IN_FORCE && ferry_decide_is_alone(&situation);
	if (decision.kind == FERRY_DECISION_IN_FORCE)
		serve(ownership);
	else if (decision.kind == FERRY_DECISION_LET_GO)
		let_go(ownership);
	else
		ferry_ownership_claim_again(ownership);
}

void ferry_ownership_preempted(struct ferry_ownership *ownership)
{
	ferry_assert(ownership);
	if (ownership->phase == FERRY_OWNERSHIP_OWNING)
		ferry_ownership_claim_again(ownership);
}
