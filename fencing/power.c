#include "fencing/power.h"

#include "agent/base/museum.h"

#define PERIOD_MIN_NS (500 * FERRY_NS_PER_MS)
#define PERIOD_MAX_NS (8 * FERRY_NS_PER_S)

enum ferry_power_verdict ferry_power_judge(const struct ferry_power_node *node,
					   const struct ferry_power_report *report,
					   const char **why)
{
	bool is_pending = false;

	*why = NULL;
	if (node->is_passed) {
		*why = "it became a member while the history was read";
		return FERRY_POWER_NOTHING;
	}
	for (uint32_t i = 0; i < report->count; i++) {
		const struct ferry_power_fencing *fencing = &report->fencings[i];
		/* In the very second of the clean look it may have ended before that. */
		bool is_new = node->is_clean && fencing->ended_s > node->newest_s &&
			      fencing->ended_s > node->clean_s &&
			      fencing->ended_s <= report->answered_s;

		if (fencing->node.v != node->node.v)
			continue;
		is_pending |= fencing->result == FERRY_POWER_PENDING;
		if (fencing->result != FERRY_POWER_CUT)
			continue;
		if (!is_new && !FERRY_MUSEUM(OLD_FENCING))
			*why = "it is not known to have begun since the node was last a member";
		else if (!report->cuts_power)
			*why = "a fence device of the cluster is not known to cut the power";
		else
			return FERRY_POWER_CONFIRMED;
	}
	return is_pending || node->is_clean ? FERRY_POWER_NOTHING : FERRY_POWER_CLEAN;
}

static void emit(struct ferry_power_watch *watch, enum ferry_severity severity,
		 struct ferry_node node, const char *text)
{
	struct ferry_event event = {.kind = FERRY_EVENT_FENCED,
				    .severity = severity,
				    .node = node,
				    .value = node.v,
				    .time_ns = ferry_loop_now_ns(watch->config.loop)};

	ferry_event_emit(watch->config.events, event, "%s", text);
}

static void clean(struct ferry_power_node *node, const struct ferry_power_report *report)
{
	node->is_clean = true;
	node->clean_s = report->asked_s;
	node->newest_s = 0;
	for (uint32_t i = 0; i < report->count; i++)
		if (report->fencings[i].node.v == node->node.v)
			node->newest_s = ferry_max_u64(node->newest_s, report->fencings[i].ended_s);
}

/* Whether the next look may tell something. */
static bool is_looking_for(const struct ferry_power_node *node)
{
	return !node->is_clean || (!node->is_member && node->silent_ns == 0);
}

static void look(struct ferry_power_watch *watch)
{
	ferry_timer_stop(watch->config.loop, &watch->timer);
	if (watch->is_looking)
		return;
	for (uint32_t i = 0; watch->nodes[i].node.v != 0; i++)
		if (is_looking_for(&watch->nodes[i])) {
			watch->is_looking = true;
			ferry_power_look(watch->config.power);
			return;
		}
}

static void timer_ran(struct ferry_timer *timer)
{
	look(FERRY_CONTAINER_OF(timer, struct ferry_power_watch, timer));
}

static void look_soon(struct ferry_power_watch *watch)
{
	watch->period_ns = PERIOD_MIN_NS;
	look(watch);
}

/* True: the node is known to be silent from here on. */
static bool hear(struct ferry_power_watch *watch, struct ferry_power_node *node,
		 const struct ferry_power_report *report, const char **why)
{
	switch (ferry_power_judge(node, report, why)) {
	case FERRY_POWER_CLEAN:
		clean(node, report);
		return false;
	case FERRY_POWER_CONFIRMED:
		if (node->silent_ns != 0)
			return false;
		node->silent_ns = ferry_loop_now_ns(watch->config.loop);
		watch->confirmed++;
		emit(watch, FERRY_SEVERITY_NOTICE, node->node,
		     "the cluster has cut this node's power: the quiesce time runs");
		return true;
	case FERRY_POWER_NOTHING:
	default:
		return false;
	}
}

static void on_report(struct ferry_power *power, const struct ferry_power_report *report,
		      const char *why)
{
	struct ferry_power_watch *watch = power->context;
	bool is_changed = false;

	ferry_assert(watch->is_looking);
	watch->is_looking = false;
	if (report)
		watch->cuts_power = report->cuts_power;
	for (uint32_t i = 0; watch->nodes[i].node.v != 0; i++) {
		struct ferry_power_node *node = &watch->nodes[i];
		bool is_missing = !node->is_member && !node->is_passed;
		const char *refusal = NULL;

		is_changed |= report && hear(watch, node, report, &refusal);
		node->is_passed = false;
		if (refusal && is_missing && node->silent_ns == 0)
			why = refusal;
	}
	if (why && !watch->was_refused)
		emit(watch, FERRY_SEVERITY_WARNING, (struct ferry_node){0}, why);
	watch->was_refused = why != NULL;
	watch->period_ns = ferry_min_u64(2 * watch->period_ns, PERIOD_MAX_NS);
	ferry_timer_start_in(watch->config.loop, &watch->timer, watch->period_ns);
	if (is_changed)
		watch->config.on_change(watch->config.context);
}

/* What was seen before counts no more, and what is being read neither. */
static void forget(struct ferry_power_watch *watch, struct ferry_power_node *node)
{
	if (FERRY_MUSEUM(OLD_FENCING))
		return;
	node->is_clean = false;
	node->silent_ns = 0;
	node->is_passed = watch->is_looking;
}

static bool is_among(const struct ferry_members *members, struct ferry_node node)
{
	for (uint32_t i = 0; i < members->count; i++)
		if (members->nodes[i].v == node.v)
			return true;
	return false;
}

/*
 * Fewer than a majority moved along with this node: there may have been another ring meanwhile, and
 * its members are not known here. Of two nodes none writes without this one's voice, or its power
 * being cut.
 */
static bool is_apart(const struct ferry_power_watch *watch, uint32_t members_count)
{
	uint32_t nodes = watch->config.nodes_count;

	return nodes > 2 && members_count < nodes / 2 + 1;
}

void ferry_power_watch_members(struct ferry_power_watch *watch, const struct ferry_members *members)
{
	ferry_assert(watch && members);
	for (uint32_t i = 0; watch->nodes[i].node.v != 0; i++) {
		struct ferry_power_node *node = &watch->nodes[i];
		bool is_member = is_among(members, node->node);

		if ((is_member && !node->is_member) || is_apart(watch, members->count))
			forget(watch, node);
		node->is_member = is_member;
	}
	look_soon(watch);
}

void ferry_power_watch_quorum(struct ferry_power_watch *watch, bool is_quorate)
{
	ferry_assert(watch);
	for (uint32_t i = 0; !is_quorate && watch->nodes[i].node.v != 0; i++)
		forget(watch, &watch->nodes[i]);
	look_soon(watch);
}

void ferry_power_watch_hurry(struct ferry_power_watch *watch)
{
	ferry_assert(watch);
	look_soon(watch);
}

void ferry_power_watch_init(struct ferry_power_watch *watch,
			    const struct ferry_power_watch_config *config)
{
	uint32_t count = 0;

	ferry_assert(config->loop && config->power && config->on_change);
	ferry_assert(config->nodes_count <= FERRY_NODES_MAX);
	*watch = (struct ferry_power_watch){
		.config = *config, .timer = {.run = timer_ran}, .period_ns = PERIOD_MIN_NS};
	for (uint32_t i = 0; i < config->nodes_count; i++)
		if (config->nodes[i].v != config->self.v)
			watch->nodes[count++].node = config->nodes[i];
	config->power->on_report = on_report;
	config->power->context = watch;
}

void ferry_power_watch_done(struct ferry_power_watch *watch)
{
	ferry_assert(watch);
	ferry_timer_stop(watch->config.loop, &watch->timer);
}
