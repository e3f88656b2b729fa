/*
 * ownership_quiesce.c - waiting for the lun's quiesce time: for a pool that is to be taken, and for
 * what dead nodes have carried (rules 3 and 14, docs/decisions/0011).
 */
#include "fencing/ownership_private.h"

static bool is_same(const struct ferry_dead *one, const struct ferry_dead *other)
{
	for (uint32_t i = 0; i < one->count && one->count == other->count; i++)
		if (one->of[i].node.v != other->of[i].node.v ||
		    one->of[i].before.v != other->of[i].before.v)
			return false;
	return one->count == other->count;
}

/* The next moment at which time alone changes something. */
static void timer_set(struct ferry_ownership *ownership)
{
	struct ferry_situation situation = ferry_ownership_situation(ownership);
	uint64_t next_ns = ferry_decide_dead_next_ns(&situation);
	bool is_waiting = ownership->phase == FERRY_OWNERSHIP_DRAINING && ownership->is_quiescing;

	if (is_waiting && ownership->quiesce_until_ns > situation.now_ns)
		next_ns = next_ns == 0 ? ownership->quiesce_until_ns
				       : ferry_min_u64(next_ns, ownership->quiesce_until_ns);
	if (next_ns != 0)
		ferry_timer_start(ownership->config.loop, &ownership->quiesce_timer, next_ns);
}

void ferry_ownership_quiesce_wait(struct ferry_ownership *ownership,
				  const struct ferry_decision *decision)
{
	bool is_new = !ownership->is_quiescing || ownership->quiesce_until_ns != decision->until_ns;

	ownership->is_quiescing = true;
	ownership->quiesce_until_ns = decision->until_ns;
	timer_set(ownership);
	if (!is_new)
		return;
	ferry_ownership_emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE, decision->why);
	if (decision->until_ns == 0)
		ferry_power_watch_hurry(ownership->config.power);
}

void ferry_ownership_quiesce_heard(struct ferry_ownership *ownership)
{
	timer_set(ownership);
}

void ferry_ownership_power_news(struct ferry_ownership *ownership)
{
	struct ferry_situation situation;
	struct ferry_view now = {0};

	ferry_assert(ownership);
	situation = ferry_ownership_situation(ownership);
	ferry_decide_rights(&situation, &now);
	if (!is_same(&now.dead, &ownership->view.dead))
		ferry_ownership_view_publish(ownership);
	ferry_ownership_advance(ownership);
	timer_set(ownership);
}

void ferry_ownership_quiesce_ran(struct ferry_timer *timer)
{
	ferry_ownership_power_news(
		FERRY_CONTAINER_OF(timer, struct ferry_ownership, quiesce_timer));
}
