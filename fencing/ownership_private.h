/*
 * ownership_private.h - the insides of one pool's ownership, shared by its files.
 *
 * Owns:    nothing.
 * Callers: ownership.c (entrances, the situation, the view), ownership_step.c (this node's own
 *          part, phase by phase), ownership_ring.c (members and their words),
 *          ownership_messages.c (out and in), ownership_epoch.c (stable storage),
 *          ownership_claim.c (claims and acknowledgements), ownership_take.c (draining, taking,
 *          serving), ownership_quiesce.c (the quiesce time), ownership_move.c (planned moves),
 *          ownership_fence.c (fencing a node), ownership_restart.c (the target's restarts).
 * Thread:  the cluster loop.
 * Rooms:   private to ownership.
 */
#pragma once

#include "fencing/ownership.h"

static inline struct ferry_node ferry_ownership_self(const struct ferry_ownership *ownership)
{
	return ownership->config.group->self;
}

static inline bool ferry_ownership_is_drained_here(const struct ferry_ownership *ownership)
{
	return ownership->drained.v == ownership->view.epoch.v;
}

/* ---- ownership.c ---- */

void ferry_ownership_emit(struct ferry_ownership *ownership, enum ferry_event_kind kind,
			  enum ferry_severity severity, const char *text);

/* What decide.h may know. */
struct ferry_situation ferry_ownership_situation(const struct ferry_ownership *ownership);

/* Give the data thread the view, with the rights that the situation allows. */
void ferry_ownership_view_publish(struct ferry_ownership *ownership);

/* ---- ownership_step.c ---- */

/* Do what is next, as far as that goes without waiting. */
void ferry_ownership_advance(struct ferry_ownership *ownership);
void ferry_ownership_timer_ran(struct ferry_timer *timer);

/* What this node was doing for a wish is over; @error: 0 or a negative errno. */
void ferry_ownership_wish_over(struct ferry_ownership *ownership, int error, const char *why);

/* This node's own part ends: another has the pool. */
void ferry_ownership_deposed(struct ferry_ownership *ownership, const char *why);

/* ---- ownership_ring.c ---- */

/* NULL: it is no member, or has never been heard. */
struct ferry_ownership_member *ferry_ownership_member_find(struct ferry_ownership *ownership,
							   struct ferry_node node);
struct ferry_ownership_seen *ferry_ownership_seen_find(struct ferry_ownership *ownership,
						       struct ferry_node node);

/* Remember the newest incarnation of each node that has ever spoken. */
void ferry_ownership_seen_note(struct ferry_ownership *ownership, struct ferry_node node,
			       struct ferry_incarnation incarnation);

/* A person's word is not for those who are members. */
void ferry_ownership_word_narrow(struct ferry_ownership *ownership);

/* What a STATE says of its sender. */
void ferry_ownership_state_note(struct ferry_ownership *ownership,
				struct ferry_ownership_member *member,
				const struct ferry_group_message *message);

/* Whether a majority has spoken in this ring by now; then go on. */
void ferry_ownership_sync_check(struct ferry_ownership *ownership);

/* Whether a STATE answers this node's last question to the group. */
void ferry_ownership_word_note(struct ferry_ownership *ownership,
			       struct ferry_ownership_member *member,
			       const struct ferry_group_message *message);

/* The newest question has been sent in this ring already, and its answers count. */
bool ferry_ownership_is_word_under_way(const struct ferry_ownership *ownership);

/* ---- ownership_messages.c ---- */

/* Send what is due; what is refused for now is sent a little later. */
void ferry_ownership_messages_flush(struct ferry_ownership *ownership);
void ferry_ownership_resend_ran(struct ferry_timer *timer);

/* ---- ownership_epoch.c ---- */

/* Errors: see ferry_ownership_open(). */
int ferry_ownership_epoch_load(struct ferry_ownership *ownership,
			       struct ferry_error *reterr) FERRY_MUST_CHECK;

/* True if it is on the disk and in the view, which the caller publishes. */
bool ferry_ownership_epoch_install(struct ferry_ownership *ownership, struct ferry_epoch epoch,
				   struct ferry_node owner, bool is_in_force) FERRY_MUST_CHECK;

/* Whether its next agent is to ask for the pool again. Not knowing it costs no more than asking. */
void ferry_ownership_owner_save(struct ferry_ownership *ownership, struct ferry_node owner);

/* ---- ownership_claim.c ---- */

/* This node's own: claim @epoch, or start over, since the claim was overtaken or its ring is gone.
 */
void ferry_ownership_claim_make(struct ferry_ownership *ownership, struct ferry_epoch epoch);
void ferry_ownership_claim_again(struct ferry_ownership *ownership);

/* An epoch is claimed: to the disk, to the data thread, then acknowledged. */
void ferry_ownership_install(struct ferry_ownership *ownership, struct ferry_node from,
			     const struct ferry_group_message *message);

/* Others have it already, and say whose it is. */
void ferry_ownership_learn(struct ferry_ownership *ownership,
			   const struct ferry_group_message *message, bool is_own_past);

/* The epoch that is installed is in force, as @owner's. */
void ferry_ownership_follow(struct ferry_ownership *ownership, struct ferry_node owner);
/* Whose agent serves, by its own word: once that has drained, nothing of its epoch is in flight. */
void ferry_ownership_served_note(struct ferry_ownership *ownership, struct ferry_node from,
				 const struct ferry_group_message *message);

void ferry_ownership_ack_note(struct ferry_ownership *ownership,
			      struct ferry_ownership_member *member,
			      const struct ferry_group_message *message);

/* ---- ownership_take.c ---- */

void ferry_ownership_drain_begin(struct ferry_ownership *ownership, bool is_by_lun);
void ferry_ownership_take_begin(struct ferry_ownership *ownership,
				const struct ferry_decision *decision);

/* ---- ownership_quiesce.c ---- */

/* Nothing but time, or a power fencing, is missing. */
void ferry_ownership_quiesce_wait(struct ferry_ownership *ownership,
				  const struct ferry_decision *decision);
/* A new agent: its elders may be dead after that time. */
void ferry_ownership_quiesce_heard(struct ferry_ownership *ownership);
void ferry_ownership_quiesce_ran(struct ferry_timer *timer);

/* ---- ownership_move.c ---- */

/* This node's own claim came to nothing, by its own will: the others need not wait for it. */
void ferry_ownership_withdrawn(struct ferry_ownership *ownership);

/* The owner has let go of its epoch. */
void ferry_ownership_nobodys(struct ferry_ownership *ownership, struct ferry_node from,
			     const struct ferry_group_message *message);

/* ---- ownership_restart.c ---- */

/* This node may own the pool: the view counts what its data thread has to note. */
void ferry_ownership_restarts_ask(struct ferry_ownership *ownership);

/* A STATE has come; or the owner's answer to this node's. */
void ferry_ownership_restart_hear(struct ferry_ownership *ownership, struct ferry_node from,
				  const struct ferry_group_message *message);
void ferry_ownership_noted_hear(struct ferry_ownership *ownership, struct ferry_node from,
				const struct ferry_group_message *message);

/* What this owner has to answer next; NULL: nothing. */
struct ferry_ownership_told *ferry_ownership_answer_due(struct ferry_ownership *ownership);

/* ---- ownership_fence.c ---- */

/* This node is the one to fence @victim. */
void ferry_ownership_fence_begin(struct ferry_ownership *ownership, struct ferry_node victim);

/* Fencing a node is over here: everybody hears of it, who asked as well. */
void ferry_ownership_fence_finish(struct ferry_ownership *ownership);

/* From here on that agent, and what was before it on its node, may not register. */
void ferry_ownership_victim_note(struct ferry_ownership *ownership, struct ferry_node victim,
				 struct ferry_incarnation incarnation);

void ferry_ownership_fenced_heard(struct ferry_ownership *ownership,
				  const struct ferry_group_message *message);

void ferry_ownership_fence_timer_ran(struct ferry_timer *timer);
