/* decide_take.c - who has drained, who is suspect, and whether the lun may be taken (rules 13, 14).
 */
#include "agent/base/museum.h"
#include "agent/core/key.h"
#include "fencing/decide_private.h"

static bool is_answered_for(const struct ferry_situation *situation, struct ferry_node node)
{
	const struct ferry_members *named = situation->answered_for;

	for (uint32_t i = 0; situation->is_forced && i < named->count; i++)
		if (named->nodes[i].v == node.v)
			return ferry_decide_member_index(situation, node) < 0;
	return false;
}

/*
 * Drained is an agent's word for itself: what its elder at the same node had in flight may land
 * yet (rule 8). Finding no key of the elder's proves nothing: whoever took the lun before may have
 * been overtaken between removing it and the end of the reset. Only a taking that this node itself
 * has seen through settles it.
 */
bool ferry_decide_elder_is_suspect(const struct ferry_ownership_seen *seen)
{
	return seen->incarnation.v > ferry_max_u64(seen->laid.v, 1) &&
	       !FERRY_MUSEUM(OLD_KEY_IGNORED);
}

static struct ferry_key elder_key(const struct ferry_ownership_seen *seen)
{
	ferry_assert(seen->incarnation.v > 1);
	return ferry_key_make(seen->node, (struct ferry_incarnation){seen->incarnation.v - 1});
}

static bool has_drained(const struct ferry_situation *situation,
			const struct ferry_ownership_seen *seen)
{
	int index = ferry_decide_member_index(situation, seen->node);
	const struct ferry_ownership_member *member = &situation->known[index < 0 ? 0 : index];

	if (FERRY_MUSEUM(FENCED_IS_LAID) && index < 0)
		return true;
	return index >= 0 && seen->node.v != situation->victim.v &&
	       member->ack_ring == situation->ring && member->acked_for.v == situation->self.v &&
	       member->incarnation.v == seen->incarnation.v &&
	       member->drained.v == situation->claimed.v;
}

static void suspect_add(struct ferry_drained_keys *keys, struct ferry_key key)
{
	ferry_assert(keys->suspects_count < FERRY_KEYS_MAX);
	keys->suspects[keys->suspects_count++] = key;
}

/*
 * Whether something may be in flight of an agent that has left no name: whose registration was
 * removed, and the proof not seen. A taker that died half way leaves that, and an owner that died
 * while it, or a peer for it, laid what others had carried. An owner that has drained has waited
 * for all of it, and what was before it its taking has proven.
 */
static bool may_be_forgotten(const struct ferry_situation *situation)
{
	if (situation->claimed.v <= 1)
		return false; /* Nobody has ever written. */
	if (situation->settled.v + 1 < situation->claimed.v)
		return true;
	if (situation->served_by.v == situation->self.v)
		return false; /* This agent remembers whom it removes. */
	for (uint32_t i = 0; i < FERRY_NODES_MAX && situation->seen[i].node.v != 0; i++)
		if (situation->seen[i].node.v == situation->served_by.v)
			return situation->seen[i].incarnation.v != situation->served_as.v ||
			       !has_drained(situation, &situation->seen[i]);
	return true;
}

/* Who has drained in this ring, and which of the agents ever heard of has not. */
static void keys_find(const struct ferry_situation *situation, struct ferry_drained_keys *ret)
{
	uint32_t seen_count = 0;

	*ret = (struct ferry_drained_keys){0};
	for (uint32_t i = 0; i < FERRY_NODES_MAX && situation->seen[i].node.v != 0; i++) {
		const struct ferry_ownership_seen *seen = &situation->seen[i];
		bool is_drained = has_drained(situation, seen);

		seen_count++;
		if (is_drained)
			ret->keys[ret->count++] = ferry_key_make(seen->node, seen->incarnation);
		/* Who takes does not preempt itself: it waits for what it carries (engine.c). */
		if (!is_drained && seen->node.v != situation->self.v)
			suspect_add(ret, ferry_key_make(seen->node, seen->incarnation));
		else if (ferry_decide_elder_is_suspect(seen))
			suspect_add(ret, elder_key(seen));
	}
	/*
	 * A node that this agent has never heard may have died with its registration. Elsewhere the
	 * lun has kept that; unless another has removed it, and died before the proof.
	 */
	ret->nodes = *situation->nodes;
	if (seen_count < situation->nodes->count)
		suspect_add(ret, may_be_forgotten(situation) ? ferry_key_of_forgotten()
							     : ferry_key_of_nobody());
}

static bool has_drained_key(const struct ferry_drained_keys *keys, struct ferry_node node)
{
	for (uint32_t i = 0; i < keys->count; i++)
		if (ferry_key_node(keys->keys[i]).v == node.v)
			return true;
	return false;
}

/* A member that goes on with what it has, or has not been heard yet. */
static bool has_undrained_member(const struct ferry_situation *situation,
				 const struct ferry_drained_keys *keys)
{
	for (uint32_t i = 0; i < situation->members->count; i++) {
		struct ferry_node node = situation->members->nodes[i];

		if (node.v != situation->self.v && !has_drained_key(keys, node))
			return true;
	}
	return false;
}

/*
 * Each node of the cluster, heard or not, has drained, or is one of those that a person has named.
 * This one itself waits for what it carries (engine.c).
 */
static bool is_all_answered_for(const struct ferry_situation *situation,
				const struct ferry_drained_keys *keys)
{
	uint32_t others = 0;

	if (!situation->is_forced || has_undrained_member(situation, keys))
		return false;
	for (uint32_t i = 0; i < FERRY_NODES_MAX && situation->seen[i].node.v != 0; i++) {
		struct ferry_node node = situation->seen[i].node;

		if (node.v != situation->self.v && !has_drained_key(keys, node) &&
		    !is_answered_for(situation, node))
			return false;
	}
	for (uint32_t i = 0; i < keys->count; i++)
		others += ferry_key_node(keys->keys[i]).v != situation->self.v;
	return 1 + others + ferry_decide_answered_count(situation) >= situation->nodes->count;
}

static const char *why_refused(const struct ferry_situation *situation,
			       const struct ferry_drained_keys *keys)
{
	if (!situation->is_forced)
		return "the lun has no reservations and not every node has drained: fence "
		       "the missing nodes, or start their agents";
	if (has_undrained_member(situation, keys))
		return "a member of the group has not drained: nobody has answered for it, "
		       "stop its agent first";
	return "a node that is missing has not drained, and nobody has answered for it";
}

static void take(const struct ferry_situation *situation, bool is_answered, bool is_quiet,
		 struct ferry_decision *ret)
{
	bool is_missing = ret->keys.count < situation->nodes->count;

	/* Of a node that is to be fenced from the lun the lun itself has to say so. */
	is_quiet &= is_missing && situation->victim.v == 0;
	ret->kind = FERRY_DECISION_TAKE;
	ret->keys.is_answered_for = is_answered || is_quiet;
	if (is_answered && is_missing)
		ret->why = "taking over by force: a person answers for the nodes that "
			   "have not drained";
	else if (is_quiet)
		ret->why = "taking over: the power of the nodes that have not drained was cut, and "
			   "the quiesce time has passed";
}

void ferry_decide_taking(const struct ferry_situation *situation, struct ferry_decision *ret)
{
	struct ferry_quiesce quiesce;
	bool is_answered;

	keys_find(situation, &ret->keys);
	is_answered = is_all_answered_for(situation, &ret->keys);
	quiesce = ferry_decide_quiesce(situation, &ret->keys);
	if (situation->has_reservations || is_answered || quiesce.kind == FERRY_QUIESCE_PROCEED ||
	    (situation->quiesce_time_ns == 0 && ret->keys.count >= situation->nodes->count)) {
		take(situation, is_answered, quiesce.kind == FERRY_QUIESCE_PROCEED, ret);
	} else if (quiesce.kind == FERRY_QUIESCE_WAIT) {
		ret->kind = FERRY_DECISION_WAIT_QUIESCE;
		ret->until_ns = quiesce.until_ns;
		ret->why = quiesce.why;
	} else { /* Rule 14: nobody can keep the missing ones from writing. */
		ret->kind = FERRY_DECISION_REFUSE;
		ret->error = -EPERM;
		ret->why = why_refused(situation, &ret->keys);
	}
}
