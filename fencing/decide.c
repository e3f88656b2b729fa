#include "fencing/decide.h"

#include "agent/base/museum.h"
#include "fencing/decide_private.h"

const char *ferry_ownership_phase_name(enum ferry_ownership_phase phase)
{
	static const char *const names[] = {
		[FERRY_OWNERSHIP_IDLE] = "IDLE",	   [FERRY_OWNERSHIP_SYNCING] = "SYNCING",
		[FERRY_OWNERSHIP_CLAIMING] = "CLAIMING",   [FERRY_OWNERSHIP_DRAINING] = "DRAINING",
		[FERRY_OWNERSHIP_TAKING] = "TAKING",	   [FERRY_OWNERSHIP_OWNING] = "OWNING",
		[FERRY_OWNERSHIP_RELEASING] = "RELEASING",
	};

	ferry_assert(phase >= FERRY_OWNERSHIP_IDLE && phase <= FERRY_OWNERSHIP_RELEASING);
	return names[phase];
}

uint32_t ferry_decide_majority(uint32_t nodes_expected)
{
	ferry_assert(nodes_expected > 0);
	return FERRY_MUSEUM(MINORITY) ? 1 : nodes_expected / 2 + 1;
}

/* ---- Who has said what. ---- */

int ferry_decide_member_index(const struct ferry_situation *situation, struct ferry_node node)
{
	for (uint32_t i = 0; i < situation->members->count; i++)
		if (situation->members->nodes[i].v == node.v)
			return (int)i;
	return -1;
}

/* How many members have spoken in this ring, and how many of them see the lun that we see. */
static uint32_t spoken_count(const struct ferry_situation *situation, bool with_this_lun)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < situation->members->count; i++) {
		const struct ferry_ownership_member *member = &situation->known[i];

		count += member->state_ring == situation->ring &&
			 (!with_this_lun || ferry_uuid_equal(&member->lun, &situation->lun));
	}
	return count;
}

static uint32_t acked_count(const struct ferry_situation *situation, bool wants_drained)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < situation->members->count; i++) {
		const struct ferry_ownership_member *member = &situation->known[i];
		struct ferry_epoch has = wants_drained ? member->drained : member->acked;

		count += (member->ack_ring == situation->ring || FERRY_MUSEUM(OLD_RING_ACKS)) &&
			 member->acked_for.v == situation->self.v && has.v == situation->claimed.v;
	}
	return count;
}

/*
 * Those for whom a person answers, as far as they are not there: who is a member speaks for itself.
 */
uint32_t ferry_decide_answered_count(const struct ferry_situation *situation)
{
	const struct ferry_members *named = situation->answered_for;
	uint32_t count = 0;

	for (uint32_t i = 0; situation->is_forced && i < named->count; i++)
		count += named->nodes[i].v != situation->self.v &&
			 ferry_decide_member_index(situation, named->nodes[i]) < 0;
	return count;
}

bool ferry_decide_is_alone(const struct ferry_situation *situation)
{
	return situation->nodes->count == 2 && situation->members->count == 1;
}

/*
 * Of two nodes the other is silent; and this agent has heard it. A later epoch than it had then
 * needs this one's voice, or its power being cut: who starts alone may not know the newest.
 */
static bool is_other_silent(const struct ferry_situation *situation)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX && situation->seen[i].node.v != 0; i++)
		if (ferry_decide_is_silent(situation, situation->seen[i].node))
			return true;
	return false;
}

/*
 * A change of owner: with two nodes both, since each may be the one that is cut off. Unless the lun
 * can say which (it has reservations, and only one of two registrants can preempt the other), or a
 * person does, or the other's power was cut (rules 12 and 14).
 */
static uint32_t voices_needed(const struct ferry_situation *situation)
{
	bool is_alone = ferry_decide_is_alone(situation);
	bool has_word =
		is_alone ? ferry_decide_answered_count(situation) > 0 || is_other_silent(situation)
			 : situation->is_forced;

	if (situation->nodes->count == 2 && (is_alone || situation->is_by_lun) &&
	    (situation->has_reservations || has_word))
		return 1;
	return ferry_decide_majority(situation->nodes->count);
}

/* Whose words make this node's own knowledge current. */
static uint32_t words_needed(const struct ferry_situation *situation)
{
	if (ferry_decide_is_alone(situation))
		return 1; /* Of two: the lun has the last word before it serves. */
	return ferry_decide_majority(situation->nodes->count);
}

bool ferry_decide_is_synced(const struct ferry_situation *situation)
{
	return spoken_count(situation, /* with_this_lun= */ false) >= words_needed(situation);
}

bool ferry_decide_is_answered(const struct ferry_situation *situation)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < situation->members->count; i++)
		count += situation->known[i].has_answered &&
			 situation->known[i].state_ring == situation->ring;
	return count >= words_needed(situation);
}

bool ferry_decide_lun_is_agreed(const struct ferry_situation *situation)
{
	uint32_t spoken = spoken_count(situation, /* with_this_lun= */ false);
	uint32_t agreeing = spoken_count(situation, /* with_this_lun= */ true);

	ferry_assert(agreeing <= spoken);
	return agreeing >= words_needed(situation) && 2 * agreeing > spoken;
}

/* ---- Rights. ---- */

static bool is_mine(const struct ferry_situation *situation)
{
	return situation->owner.v == situation->self.v;
}

static bool is_drained_here(const struct ferry_situation *situation)
{
	return situation->drained.v == situation->epoch.v;
}

/*
 * Of two nodes, whoever lost the lun to the other while they did not hear each other must not come
 * back by itself: it would be two again. The other's word in this ring is the grant, or having won.
 */
static bool has_grant(const struct ferry_situation *situation)
{
	return situation->nodes->count != 2 || !situation->has_reservations || situation->is_sole ||
	       ferry_decide_answered_count(situation) > 0 || spoken_count(situation, false) == 2;
}

/*
 * Registering is by the owner's grant, which is its epoch, for who has nothing older in flight; or
 * for the owner that is about to take the lun. The epoch need not be in force yet: the taker may
 * need another's registration to have its own nexus killed. Nobody leaves a key on a lun that the
 * others don't call by this pool's name.
 */
void ferry_decide_rights(const struct ferry_situation *situation, struct ferry_view *view)
{
	bool is_agreed = ferry_decide_lun_is_agreed(situation);
	bool is_granted = is_mine(situation) ||
			  (is_agreed && (situation->owner.v == 0 || is_drained_here(situation)));

	view->is_quorate = situation->is_quorate && situation->is_synced;
	view->may_register = view->is_quorate && !situation->is_fenced && is_granted;
	view->may_help =
		view->is_quorate && !situation->is_fenced && (is_mine(situation) || is_agreed);
	view->only_if_kept = !has_grant(situation);
	ferry_decide_dead(situation, &view->dead);
}

/* ---- What is next. ---- */

static struct ferry_epoch epoch_highest(const struct ferry_situation *situation)
{
	struct ferry_epoch highest = situation->epoch;

	for (uint32_t i = 0; i < situation->members->count; i++)
		highest.v = ferry_max_u64(highest.v, situation->known[i].epoch.v);
	return highest;
}

bool ferry_decide_is_served_elsewhere(const struct ferry_situation *situation)
{
	int index = ferry_decide_member_index(situation, situation->owner);
	const struct ferry_ownership_member *owner;

	if (!situation->is_in_force || situation->owner.v == 0 || is_mine(situation) || index < 0)
		return false;
	/* It may have let go, or been started anew, while this node was away. */
	owner = &situation->known[index];
	return owner->is_serving || owner->state_ring != situation->ring;
}

static void decide_claim(const struct ferry_situation *situation, struct ferry_decision *ret)
{
	/* Whoever fences the owner has to take it from it. */
	bool is_take = situation->is_take || situation->victim.v != 0;

	if (situation->is_fenced) {
		ret->kind = FERRY_DECISION_REFUSE;
		ret->error = -EPERM;
		ret->why = "this node is fenced from the pool until its agent is started anew";
	} else if (!situation->is_quorate) {
		ret->kind = FERRY_DECISION_HOLD;
		ret->why = "no quorum";
	} else if (!situation->is_synced) {
		ret->kind = FERRY_DECISION_SYNC;
		ret->why = "a majority has not spoken in this ring";
	} else if (!is_take && ferry_decide_is_served_elsewhere(situation)) {
		ret->kind = FERRY_DECISION_REFUSE;
		ret->error = -EPERM;
		ret->why = "another member of the group serves the pool: move it from there, or "
			   "take it with --take, which its applications see as errors";
	} else if (ferry_decide_lun_is_agreed(situation)) {
		ret->kind = FERRY_DECISION_CLAIM;
		ret->epoch.v = epoch_highest(situation).v + 1;
	} else if (spoken_count(situation, false) < situation->members->count) {
		ret->kind = FERRY_DECISION_SYNC;
		ret->why = "those who have not spoken yet may see the same lun";
	} else {
		ret->kind = FERRY_DECISION_REFUSE;
		ret->error = -EPERM;
		ret->why = "other members see another lun under this pool's name: compare their "
			   "configurations";
	}
}

static void decide_draining(const struct ferry_situation *situation, struct ferry_decision *ret)
{
	if (situation->drain_is_over ||
	    acked_count(situation, /* wants_drained= */ true) == situation->members->count)
		ferry_decide_taking(situation, ret);
	else
		ret->kind = FERRY_DECISION_WAIT_DRAIN;
}

static void decide_claiming(const struct ferry_situation *situation, struct ferry_decision *ret)
{
	uint32_t acked = acked_count(situation, /* wants_drained= */ false);
	bool has_both = situation->nodes->count == 2 && situation->members->count == 2;

	if (acked >= voices_needed(situation)) {
		ret->kind = FERRY_DECISION_WAIT_DRAIN;
	} else if (situation->claim_is_over && has_both && acked == 1 &&
		   (situation->has_reservations || situation->is_forced)) {
		ret->kind = FERRY_DECISION_WAIT_DRAIN; /* The other's agent does not answer. */
		ret->is_by_lun = true;
	} else if (situation->claim_is_over) {
		decide_claim(situation, ret); /* Whoever was late for the ring did not answer. */
	} else {
		ret->kind = FERRY_DECISION_WAIT_ACKS;
	}
}

/* The lun has been taken. A change of ring meanwhile asks for the majority anew. */
static void decide_taken(const struct ferry_situation *situation, struct ferry_decision *ret)
{
	if (situation->epoch.v != situation->claimed.v || !is_mine(situation) ||
	    acked_count(situation, /* wants_drained= */ false) < voices_needed(situation))
		decide_claim(situation, ret);
	else if (situation->victim.v != 0 && !situation->keeps_pool)
		ret->kind = FERRY_DECISION_LET_GO;
	else
		ret->kind = FERRY_DECISION_IN_FORCE;
}

static bool is_changing_owner(const struct ferry_situation *situation)
{
	return situation->phase == FERRY_OWNERSHIP_CLAIMING ||
	       situation->phase == FERRY_OWNERSHIP_DRAINING ||
	       situation->phase == FERRY_OWNERSHIP_TAKING;
}

void ferry_decide_next(const struct ferry_situation *situation, struct ferry_decision *ret)
{
	ferry_assert(situation->self.v > 0 && situation->members && situation->known);
	*ret = (struct ferry_decision){.kind = FERRY_DECISION_REST};
	if (!situation->is_quorate && is_changing_owner(situation)) {
		decide_claim(situation, ret); /* Rule 15: whatever has been acknowledged before. */
		return;
	}
	switch (situation->phase) {
	case FERRY_OWNERSHIP_IDLE:
		/* A restarted agent's pool is its own, if the group has not given it away. */
		if (situation->was_owner && !situation->is_fenced && situation->is_quorate &&
		    situation->is_synced && (situation->owner.v == 0 || is_mine(situation)))
			ret->kind = FERRY_DECISION_RECLAIM;
		return;
	case FERRY_OWNERSHIP_SYNCING:
		if (situation->wants_pool)
			decide_claim(situation, ret);
		return;
	case FERRY_OWNERSHIP_CLAIMING:
		decide_claiming(situation, ret);
		return;
	case FERRY_OWNERSHIP_DRAINING:
		decide_draining(situation, ret);
		return;
	case FERRY_OWNERSHIP_TAKING:
		decide_taken(situation, ret);
		return;
	case FERRY_OWNERSHIP_OWNING:
		/* The other of two is gone, or was: the lun, or it, says who goes on. */
		if (!situation->is_in_force || (ferry_decide_is_alone(situation) &&
						situation->has_reservations && !situation->is_sole))
			decide_claim(situation, ret);
		return;
	case FERRY_OWNERSHIP_RELEASING:
	default:
		return;
	}
}

/* ---- Messages. ---- */

static struct ferry_reaction ignore(const char *why)
{
	return (struct ferry_reaction){.kind = FERRY_REACTION_IGNORE, .why = why};
}

static struct ferry_reaction react(enum ferry_reaction_kind kind)
{
	return (struct ferry_reaction){.kind = kind};
}

static struct ferry_reaction decide_state(const struct ferry_situation *situation,
					  struct ferry_node from,
					  const struct ferry_group_message *message)
{
	bool is_in_force = message->flags & FERRY_GROUP_IS_IN_FORCE;
	bool is_others = message->owner.v != situation->self.v;
	struct ferry_reaction reaction = react(FERRY_REACTION_NOTE);

	if (!ferry_uuid_equal(&message->lun, &situation->lun)) {
		/* Its epochs are another lun's; a claim of ours will still be above them. */
		reaction.why = "it sees another lun (identity, size or block size) under this "
			       "pool's name";
		return reaction;
	}
	if (message->epoch.v > situation->epoch.v && situation->nodes->count == 2 &&
	    situation->phase == FERRY_OWNERSHIP_OWNING && !is_in_force &&
	    message->owner.v == from.v && message->ring == situation->ring)
		return react(FERRY_REACTION_CLAIM_ABOVE);
	if (message->epoch.v > situation->epoch.v) {
		/* This node was away. What it owned then, it does not now. */
		reaction.kind = FERRY_REACTION_LEARN;
		reaction.deposes = is_others;
		reaction.is_own_past = !is_others;
	} else if (message->epoch.v == situation->epoch.v && is_in_force &&
		   !situation->is_in_force && message->owner.v != 0 && is_others) {
		reaction.kind = FERRY_REACTION_FOLLOW;
		reaction.deposes = true;
	}
	return reaction;
}

/* The very agent that was fenced, or one before it: it stays out. Its successor is not meant. */
static bool is_fenced_agent(const struct ferry_situation *situation, struct ferry_node from,
			    struct ferry_incarnation incarnation)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX && situation->seen[i].node.v != 0; i++)
		if (situation->seen[i].node.v == from.v)
			return situation->seen[i].fenced.v != 0 &&
			       incarnation.v <= situation->seen[i].fenced.v;
	return false;
}

static struct ferry_reaction decide_claimed(const struct ferry_situation *situation,
					    struct ferry_node from,
					    const struct ferry_group_message *message)
{
	struct ferry_reaction reaction = react(FERRY_REACTION_INSTALL);

	if (message->ring != situation->ring || !situation->is_quorate)
		return ignore("it is not of this quorum's ring: acknowledging were no agreement");
	if (!ferry_uuid_equal(&message->lun, &situation->lun))
		return ignore("it would serve another lun under this pool's name");
	if (is_fenced_agent(situation, from, message->incarnation))
		return ignore("its agent is fenced from the pool until it is started anew");
	if (message->epoch.v == situation->claimed.v && from.v == situation->self.v &&
	    situation->phase == FERRY_OWNERSHIP_CLAIMING &&
	    (situation->epoch.v > message->epoch.v ||
	     (situation->epoch.v == message->epoch.v && !is_mine(situation))))
		return react(FERRY_REACTION_CLAIM_AGAIN);
	if (message->epoch.v <= situation->epoch.v)
		return ignore("its epoch is not above the one that is installed");
	reaction.deposes = from.v != situation->self.v;
	return reaction;
}

static struct ferry_reaction decide_in_force(const struct ferry_situation *situation,
					     struct ferry_node from,
					     const struct ferry_group_message *message)
{
	struct ferry_reaction reaction = react(FERRY_REACTION_INSTALL);

	/*
	 * What comes back may be late: of a ring that is gone, of a claim that was overtaken here
	 * without being saved, of an earlier agent. Who serves has seen the lun taken itself.
	 */
	if (from.v == situation->self.v && !(is_mine(situation) && situation->is_in_force &&
					     message->epoch.v == situation->epoch.v))
		return ignore("it is this node's own: it serves by what it has seen, not by this");
	if (message->epoch.v > situation->epoch.v) { /* Its claim could not be saved here. */
		reaction.deposes = true;
		return reaction;
	}
	/* A claim of the same number that came to nothing was heard here first: not any more. */
	if (message->epoch.v != situation->epoch.v ||
	    (from.v != situation->owner.v && situation->is_in_force))
		return ignore("it is not the owner of the epoch that is installed");
	reaction.kind = FERRY_REACTION_FOLLOW;
	reaction.deposes = from.v != situation->self.v;
	return reaction;
}

/* Who owns the pool does it, and keeps it; without an owner, who asks. */
static struct ferry_reaction decide_fence(const struct ferry_situation *situation,
					  struct ferry_node from,
					  const struct ferry_group_message *message)
{
	bool has_owner = situation->owner.v != 0 && situation->owner.v != message->victim.v &&
			 situation->is_in_force &&
			 ferry_decide_member_index(situation, situation->owner) >= 0;
	struct ferry_node by = has_owner ? situation->owner : from;

	if (by.v != situation->self.v)
		return react(FERRY_REACTION_NOTE);
	if (situation->victim.v != 0)
		return ignore("this node is fencing another already");
	return react(FERRY_REACTION_FENCE);
}

struct ferry_reaction ferry_decide_message(const struct ferry_situation *situation,
					   struct ferry_node from,
					   const struct ferry_group_message *message)
{
	if (ferry_decide_member_index(situation, from) < 0)
		return ignore("its sender is not a member");
	if (!ferry_uuid_equal(&message->lineage, &situation->lineage))
		return ignore("it is another lineage's");
	switch (message->type) {
	case FERRY_GROUP_STATE:
		return decide_state(situation, from, message);
	case FERRY_GROUP_CLAIM:
		return decide_claimed(situation, from, message);
	case FERRY_GROUP_ACK:
		if (message->ring != situation->ring)
			return ignore("it is from before a change of membership");
		return react(FERRY_REACTION_NOTE);
	case FERRY_GROUP_IN_FORCE:
		return decide_in_force(situation, from, message);
	case FERRY_GROUP_RELEASE:
	case FERRY_GROUP_HANDOVER:
		if (message->epoch.v != situation->epoch.v || from.v != situation->owner.v)
			return ignore("it is not the owner of the epoch that is installed");
		return react(FERRY_REACTION_NOBODYS);
	case FERRY_GROUP_FENCE:
		return decide_fence(situation, from, message);
	case FERRY_GROUP_FENCED:
	case FERRY_GROUP_NOTED:
	default:
		return react(FERRY_REACTION_NOTE);
	}
}
