/*
 * decide_quiesce.c - power fencing, or an agent's end, and then the quiesce time: in the place of
 * drained, and of an abort (rules 3 and 14).
 */
#include "agent/base/museum.h"
#include "agent/core/key.h"
#include "fencing/decide_private.h"

static uint64_t silent_ns(const struct ferry_situation *situation, struct ferry_node node)
{
	for (uint32_t i = 0; situation->power && situation->power[i].node.v != 0; i++)
		if (situation->power[i].node.v == node.v)
			return situation->power[i].silent_ns;
	return 0;
}

bool ferry_decide_is_silent(const struct ferry_situation *situation, struct ferry_node node)
{
	return situation->quiesce_time_ns > 0 && node.v != situation->self.v &&
	       ferry_decide_member_index(situation, node) < 0 && silent_ns(situation, node) != 0;
}

/* After what has been silent since @since_ns nothing of it can land any more. */
static uint64_t dead_ns(const struct ferry_situation *situation, uint64_t since_ns)
{
	return since_ns + (FERRY_MUSEUM(POWER_IS_LAID) ? 0 : situation->quiesce_time_ns);
}

static const struct ferry_ownership_seen *seen_find(const struct ferry_situation *situation,
						    struct ferry_node node)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX && situation->seen[i].node.v != 0; i++)
		if (situation->seen[i].node.v == node.v)
			return &situation->seen[i];
	return NULL;
}

/* From when on nothing of @node can land any more; 0: not by what is known now. */
static uint64_t node_dead_ns(const struct ferry_situation *situation, struct ferry_node node)
{
	return ferry_decide_is_silent(situation, node)
		       ? dead_ns(situation, silent_ns(situation, node))
		       : 0;
}

/*
 * And of those whose successor has been heard: they were gone by then. With reservations the lun
 * says it itself.
 */
static uint64_t elders_dead_ns(const struct ferry_situation *situation, struct ferry_node node,
			       struct ferry_incarnation *ret_before)
{
	const struct ferry_ownership_seen *seen = seen_find(situation, node);

	if (!seen || seen->incarnation.v <= 1 || node.v == situation->self.v ||
	    situation->has_reservations || situation->quiesce_time_ns == 0)
		return 0;
	*ret_before = seen->incarnation;
	return FERRY_MUSEUM(ELDER_FORGOTTEN) ? 0 : dead_ns(situation, seen->heard_ns);
}

void ferry_decide_dead(const struct ferry_situation *situation, struct ferry_dead *ret)
{
	ret->count = 0;
	for (uint32_t i = 0; i < situation->nodes->count; i++) {
		struct ferry_dead_agents dead = {.node = situation->nodes->nodes[i]};
		uint64_t all_ns = node_dead_ns(situation, dead.node);
		uint64_t elders_ns = elders_dead_ns(situation, dead.node, &dead.before);

		if (all_ns != 0 && all_ns <= situation->now_ns)
			dead.before.v = FERRY_DEAD_ALL;
		else if (elders_ns == 0 || elders_ns > situation->now_ns)
			continue;
		ret->of[ret->count++] = dead;
	}
}

uint64_t ferry_decide_dead_next_ns(const struct ferry_situation *situation)
{
	uint64_t next_ns = UINT64_MAX;

	for (uint32_t i = 0; i < situation->nodes->count; i++) {
		struct ferry_node node = situation->nodes->nodes[i];
		struct ferry_incarnation before;
		const uint64_t at_ns[] = {node_dead_ns(situation, node),
					  elders_dead_ns(situation, node, &before)};

		for (size_t j = 0; j < FERRY_ARRAY_COUNT(at_ns); j++)
			if (at_ns[j] > situation->now_ns)
				next_ns = ferry_min_u64(next_ns, at_ns[j]);
	}
	return next_ns == UINT64_MAX ? 0 : next_ns;
}

/* Whom all of it is known of: who has drained, and who is silent. */
struct accounted {
	uint32_t drained;
	uint32_t silent;
	uint64_t since_ns; /* The last of them. */
};

/* A drained agent speaks for itself; its elders were gone when it was first heard. */
static void drained_count(const struct ferry_situation *situation,
			  const struct ferry_drained_keys *keys, struct accounted *ret)
{
	for (uint32_t i = 0; i < keys->count; i++) {
		const struct ferry_ownership_seen *seen =
			seen_find(situation, ferry_key_node(keys->keys[i]));

		ferry_assert(seen);
		ret->drained++;
		if (ferry_decide_elder_is_suspect(seen))
			ret->since_ns = ferry_max_u64(ret->since_ns, seen->heard_ns);
	}
}

static void silent_count(const struct ferry_situation *situation, struct accounted *ret)
{
	for (uint32_t i = 0; situation->power && situation->power[i].node.v != 0; i++) {
		struct ferry_node node = situation->power[i].node;

		if (!ferry_decide_is_silent(situation, node))
			continue;
		ret->silent++;
		ret->since_ns = ferry_max_u64(ret->since_ns, silent_ns(situation, node));
	}
}

static bool are_members_drained(const struct ferry_situation *situation,
				const struct ferry_drained_keys *keys)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < keys->count; i++)
		count += ferry_decide_member_index(situation, ferry_key_node(keys->keys[i])) >= 0;
	return count == situation->members->count;
}

struct ferry_quiesce ferry_decide_quiesce(const struct ferry_situation *situation,
					  const struct ferry_drained_keys *keys)
{
	struct ferry_quiesce quiesce = {.kind = FERRY_QUIESCE_NO};
	struct accounted accounted = {0};

	if (situation->quiesce_time_ns == 0 || !are_members_drained(situation, keys))
		return quiesce;
	drained_count(situation, keys, &accounted);
	silent_count(situation, &accounted);
	if (accounted.drained + accounted.silent < situation->nodes->count) {
		quiesce.kind = situation->power ? FERRY_QUIESCE_WAIT : FERRY_QUIESCE_NO;
		quiesce.why = "waits until the power of a missing node is known to have been cut";
		return quiesce;
	}
	if (accounted.since_ns != 0)
		quiesce.until_ns = dead_ns(situation, accounted.since_ns);
	quiesce.kind =
		situation->now_ns < quiesce.until_ns ? FERRY_QUIESCE_WAIT : FERRY_QUIESCE_PROCEED;
	quiesce.why = "waits for the lun's quiesce time: what is gone may have left writes there";
	return quiesce;
}
