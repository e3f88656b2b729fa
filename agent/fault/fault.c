#include "agent/fault/fault.h"

enum {
	ODDS = 10000,
	SECONDS_MAX = 86400,
};

#define DELAY_NS_MAX (100 * FERRY_NS_PER_MS)
#define GHOST_NS_MAX (300 * FERRY_NS_PER_MS)
#define HOLE_NS (60 * FERRY_NS_PER_S) /* Where nobody resets the path before. */
#define AGAIN_NS (1 * FERRY_NS_PER_MS)

static struct ferry_fault *of_path(struct ferry_path *path)
{
	return FERRY_CONTAINER_OF(path, struct ferry_fault, path);
}

/* ---- Holds. ---- */

static void timer_restart(struct ferry_fault *fault)
{
	uint64_t due_ns = UINT64_MAX;

	ferry_list_foreach (link, &fault->held) {
		const struct ferry_fault_hold *hold =
			ferry_list_entry(link, struct ferry_fault_hold, link);

		due_ns = ferry_min_u64(due_ns, hold->due_ns);
	}
	if (fault->wants_reset)
		due_ns = 0;
	if (due_ns == UINT64_MAX)
		ferry_timer_stop(fault->loop, &fault->timer);
	else
		ferry_timer_start(fault->loop, &fault->timer, due_ns);
}

static struct ferry_fault_hold *hold_take(struct ferry_fault *fault, enum ferry_fault_kind kind,
					  struct ferry_attempt *outer, uint64_t due_ns)
{
	for (uint32_t i = 0; i < FERRY_FAULT_HOLDS_MAX; i++) {
		struct ferry_fault_hold *hold = &fault->holds[i];

		if (hold->kind != 0)
			continue;
		*hold = (struct ferry_fault_hold){
			.kind = kind, .fault = fault, .outer = outer, .due_ns = due_ns};
		ferry_list_init(&hold->link);
		ferry_list_append(&fault->held, &hold->link);
		return hold;
	}
	return NULL;
}

static void outer_end(struct ferry_fault_hold *hold, enum ferry_outcome outcome,
		      enum ferry_cause cause)
{
	if (hold->has_ended)
		return;
	hold->has_ended = true;
	hold->outer->on_end(hold->outer, outcome, cause);
}

/* @outer has ended, and its memory is nobody's any more. */
static void hold_free(struct ferry_fault_hold *hold)
{
	struct ferry_attempt *outer = hold->outer;

	ferry_assert(hold->has_ended && !hold->is_sent);
	ferry_list_remove(&hold->link);
	hold->kind = 0;
	outer->on_released(outer);
}

/* ---- What was sent in the stead of another. ---- */

static void inner_ended(struct ferry_attempt *inner, enum ferry_outcome outcome,
			enum ferry_cause cause)
{
	struct ferry_fault_hold *hold = FERRY_CONTAINER_OF(inner, struct ferry_fault_hold, inner);
	struct ferry_fault_stats *stats = &hold->fault->stats;

	if (hold->kind == FERRY_FAULT_GHOST && outcome == FERRY_OUTCOME_DONE)
		stats->ghosts_landed++;
	else if (hold->kind == FERRY_FAULT_GHOST && outcome == FERRY_OUTCOME_FAILED)
		stats->ghosts_refused++;
	/* The answer is lost; but a session that ends says so. */
	if (hold->kind == FERRY_FAULT_HOLE_REPLY && outcome == FERRY_OUTCOME_UNKNOWN)
		outer_end(hold, outcome, cause);
}

static void inner_released(struct ferry_attempt *inner)
{
	struct ferry_fault_hold *hold = FERRY_CONTAINER_OF(inner, struct ferry_fault_hold, inner);
	struct ferry_fault *fault = hold->fault;

	hold->is_sent = false;
	if (hold->kind == FERRY_FAULT_GHOST && !hold->is_cut)
		fault->wants_reset = true;
	if (hold->has_ended)
		hold_free(hold);
	timer_restart(fault);
}

static int inner_send(struct ferry_fault_hold *hold)
{
	const struct ferry_attempt *outer = hold->outer;
	int r;

	hold->inner = (struct ferry_attempt){
		.op = outer->op,
		.flags = outer->flags,
		.lba = outer->lba,
		.length_blocks = outer->length_blocks,
		.epoch = outer->epoch,
		.segments = outer->segments,
		.on_end = inner_ended,
		.on_released = inner_released,
	};
	ferry_list_init(&hold->inner.link);
	r = ferry_path_submit(hold->fault->next, &hold->inner);
	hold->is_sent = hold->was_sent = r == 0;
	return r;
}

/* ---- What becomes of each, when its time has come. ---- */

static void delay_over(struct ferry_fault_hold *hold)
{
	struct ferry_attempt *outer = hold->outer;
	int r = -ENOTCONN;

	if (!hold->is_cut && !outer->is_given_up)
		r = ferry_path_submit(hold->fault->next, outer);
	if (r == -EAGAIN) {
		hold->due_ns = ferry_loop_now_ns(hold->fault->loop) + AGAIN_NS;
		return;
	}
	if (r == 0) { /* It is the next path's from here on. */
		ferry_list_remove(&hold->link);
		hold->kind = 0;
		return;
	}
	if (outer->is_given_up)
		outer_end(hold, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
	else
		outer_end(hold, FERRY_OUTCOME_FAILED,
			  r == -EOPNOTSUPP ? FERRY_CAUSE_INVALID : FERRY_CAUSE_UNSENT);
	hold_free(hold);
}

static void ghost_over(struct ferry_fault_hold *hold)
{
	struct ferry_fault *fault = hold->fault;

	if (!hold->has_ended) {
		outer_end(hold, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
		if (hold->was_sent) {
			hold->due_ns = UINT64_MAX;
			if (!hold->is_sent)
				hold_free(hold);
			return;
		}
		hold->due_ns = hold->is_cut ? 0
					    : ferry_loop_now_ns(fault->loop) +
						      ferry_prng_below(&fault->prng, GHOST_NS_MAX);
		return;
	}
	hold->due_ns = UINT64_MAX;
	if (!hold->is_cut && !hold->outer->is_given_up && inner_send(hold) == 0)
		return;
	fault->stats.ghosts_dropped++;
	fault->wants_reset = fault->wants_reset || !hold->is_cut;
	hold_free(hold);
}

static void hold_over(struct ferry_fault_hold *hold)
{
	switch (hold->kind) {
	case FERRY_FAULT_ERROR:
		outer_end(hold, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
		hold_free(hold);
		break;
	case FERRY_FAULT_DELAY:
		delay_over(hold);
		break;
	case FERRY_FAULT_HOLE_REQUEST:
	case FERRY_FAULT_HOLE_REPLY:
		hold->due_ns = UINT64_MAX;
		outer_end(hold, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
		if (!hold->is_sent)
			hold_free(hold);
		break;
	case FERRY_FAULT_GHOST:
		ghost_over(hold);
		break;
	case FERRY_FAULT_KINDS:
	default:
		ferry_unreachable("a fault that does not exist");
	}
}

/* One whose time has come. Whoever is told of its end may submit, so the list is read anew. */
static struct ferry_fault_hold *hold_due(struct ferry_fault *fault)
{
	uint64_t now_ns = ferry_loop_now_ns(fault->loop);

	ferry_list_foreach (link, &fault->held) {
		struct ferry_fault_hold *hold =
			ferry_list_entry(link, struct ferry_fault_hold, link);

		if (hold->due_ns <= now_ns)
			return hold;
	}
	return NULL;
}

/* The session is over: what was held back will never be sent. */
static void holds_cut(struct ferry_fault *fault)
{
	ferry_list_foreach (link, &fault->held) {
		struct ferry_fault_hold *hold =
			ferry_list_entry(link, struct ferry_fault_hold, link);

		hold->is_cut = true;
		if (hold->kind != FERRY_FAULT_GHOST || !hold->is_sent)
			hold->due_ns = 0;
	}
}

static void timer_run(struct ferry_timer *timer)
{
	struct ferry_fault *fault = FERRY_CONTAINER_OF(timer, struct ferry_fault, timer);
	struct ferry_fault_hold *hold;

	while ((hold = hold_due(fault)))
		hold_over(hold);
	if (fault->wants_reset && fault->next->is_up &&
	    (fault->next->ops->reset || fault->next->ops->renew)) {
		holds_cut(fault);
		ferry_path_renew(fault->next);
	}
	fault->wants_reset = false;
	timer_restart(fault);
}

/* ---- The path's ops. ---- */

static bool is_armed(struct ferry_fault *fault)
{
	return fault->until_ns != 0 && ferry_loop_now_ns(fault->loop) < fault->until_ns;
}

static enum ferry_fault_kind fault_draw(struct ferry_fault *fault,
					const struct ferry_attempt *attempt)
{
	const struct ferry_fault_plan *plan = &fault->plan;
	uint64_t dice = ferry_prng_below(&fault->prng, ODDS);
	bool is_write = ferry_op_changes_blocks(attempt->op);

	if (dice < plan->error)
		return FERRY_FAULT_ERROR;
	dice -= plan->error;
	if (dice < plan->delay)
		return FERRY_FAULT_DELAY;
	dice -= plan->delay;
	if (is_write && !fault->can_lay)
		return 0;
	if (dice < plan->hole)
		return ferry_prng_below(&fault->prng, 2) ? FERRY_FAULT_HOLE_REQUEST
							 : FERRY_FAULT_HOLE_REPLY;
	dice -= plan->hole;
	return dice < plan->ghost && is_write ? FERRY_FAULT_GHOST : 0;
}

static uint64_t due_of(struct ferry_fault *fault, enum ferry_fault_kind kind)
{
	uint64_t now_ns = ferry_loop_now_ns(fault->loop);

	switch (kind) {
	case FERRY_FAULT_DELAY:
		return now_ns + ferry_prng_below(&fault->prng, DELAY_NS_MAX);
	case FERRY_FAULT_HOLE_REQUEST:
	case FERRY_FAULT_HOLE_REPLY:
		return now_ns + HOLE_NS;
	case FERRY_FAULT_ERROR:
	case FERRY_FAULT_GHOST:
	case FERRY_FAULT_KINDS:
	default:
		return now_ns;
	}
}

static int fault_submit(struct ferry_path *path, struct ferry_attempt *attempt)
{
	struct ferry_fault *fault = of_path(path);
	struct ferry_fault_hold *hold = NULL;
	enum ferry_fault_kind kind = 0;
	int r;

	if (!fault->next->is_up) /* It is just about to say so. */
		return -ENOTCONN;
	if (is_armed(fault))
		kind = fault_draw(fault, attempt);
	if (kind != 0)
		hold = hold_take(fault, kind, attempt, due_of(fault, kind));
	if (!hold) /* Nothing drawn, or as much is held as may be. */
		return ferry_path_submit(fault->next, attempt);
	if (kind == FERRY_FAULT_HOLE_REPLY ||
	    (kind == FERRY_FAULT_GHOST && ferry_prng_below(&fault->prng, 2) > 0)) {
		r = inner_send(hold);
		if (r < 0) {
			ferry_list_remove(&hold->link);
			hold->kind = 0;
			return r;
		}
	}
	fault->stats.injected[kind]++;
	timer_restart(fault);
	return 0;
}

static void fault_reset(struct ferry_path *path)
{
	struct ferry_fault *fault = of_path(path);

	holds_cut(fault);
	timer_restart(fault);
	fault->next->ops->reset(fault->next);
}

/* What is held back is from before: nothing of it is sent in the new session. */
static void fault_renew(struct ferry_path *path)
{
	struct ferry_fault *fault = of_path(path);

	holds_cut(fault);
	timer_restart(fault);
	fault->next->ops->renew(fault->next);
}

static void fault_abandon(struct ferry_path *path, struct ferry_attempt *attempt)
{
	struct ferry_fault *fault = of_path(path);
	struct ferry_attempt *mine = attempt;

	ferry_list_foreach (link, &fault->held) {
		struct ferry_fault_hold *hold =
			ferry_list_entry(link, struct ferry_fault_hold, link);

		if (hold->outer != attempt)
			continue;
		hold->is_cut = true;
		hold->due_ns = 0;
		mine = hold->is_sent ? &hold->inner : NULL;
	}
	timer_restart(fault);
	if (mine && fault->next->ops->abandon)
		fault->next->ops->abandon(fault->next, mine);
}

/* A path that cannot be reset or renewed has a filter that cannot. */
static const struct ferry_path_ops *ops_like(const struct ferry_path_ops *next)
{
	static const struct ferry_path_ops ops[] = {
		{.name = "fault", .submit = fault_submit, .abandon = fault_abandon},
		{.name = "fault",
		 .submit = fault_submit,
		 .reset = fault_reset,
		 .abandon = fault_abandon},
		{.name = "fault",
		 .submit = fault_submit,
		 .renew = fault_renew,
		 .abandon = fault_abandon},
		{.name = "fault",
		 .submit = fault_submit,
		 .reset = fault_reset,
		 .renew = fault_renew,
		 .abandon = fault_abandon},
	};

	return &ops[(next->reset ? 1 : 0) + (next->renew ? 2 : 0)];
}

/* ---- The next path's news. ---- */

static void next_state(struct ferry_path *next, bool is_up, enum ferry_cause cause)
{
	struct ferry_fault *fault = next->context;

	fault->path.is_up = is_up;
	if (!is_up) { /* What is in flight ends first; never-sent ghosts are over. */
		holds_cut(fault);
		timer_run(&fault->timer);
	}
	fault->path.on_state(&fault->path, is_up, cause);
}

static void next_room(struct ferry_path *next)
{
	struct ferry_fault *fault = next->context;

	fault->path.on_room(&fault->path);
}

/* ---- Opening. ---- */

int ferry_fault_init(struct ferry_fault *fault, struct ferry_region *region,
		     struct ferry_path *next, struct ferry_loop *loop, bool can_lay)
{
	ferry_assert(fault && next && next->ops);
	ferry_assert(region && loop);
	*fault = (struct ferry_fault){
		.path = {.ops = ops_like(next->ops),
			 .kind = next->kind,
			 .node = next->node,
			 .is_up = next->is_up},
		.next = next,
		.loop = loop,
		.can_lay = can_lay,
		.timer = {.run = timer_run},
	};
	ferry_list_init(&fault->held);
	fault->holds = ferry_region_take(region, FERRY_FAULT_HOLDS_MAX, sizeof(*fault->holds));
	if (!fault->holds)
		return -ENOMEM;
	next->on_state = next_state;
	next->on_room = next_room;
	next->context = fault;
	return 0;
}

void ferry_fault_done(struct ferry_fault *fault)
{
	ferry_assert(fault && fault->loop);
	holds_cut(fault);
	timer_run(&fault->timer);
	ferry_timer_stop(fault->loop, &fault->timer);
}

void ferry_fault_arm(struct ferry_fault *fault, const struct ferry_fault_plan *plan)
{
	ferry_assert(fault && plan);
	ferry_assert(plan->error + plan->delay + plan->hole + plan->ghost <= ODDS);
	fault->plan = *plan;
	fault->prng.state = plan->seed;
	fault->until_ns =
		plan->seconds ? ferry_loop_now_ns(fault->loop) + plan->seconds * FERRY_NS_PER_S : 0;
}

struct ferry_path *ferry_fault_outermost(struct ferry_path *path)
{
	struct ferry_fault *fault = path->context;

	return path->on_state == next_state ? &fault->path : path;
}

/* ---- Plans as text. ---- */

/* "NAME=NUMBER" at @text. Its length, or -EINVAL. */
static int word_parse(const char *text, const char *name, uint64_t *ret)
{
	size_t length = strlen(name);
	uint64_t value = 0;

	if (strncmp(text, name, length) != 0 || text[length] != '=')
		return -EINVAL;
	length++;
	if (text[length] < '0' || text[length] > '9')
		return -EINVAL;
	for (; text[length] >= '0' && text[length] <= '9'; length++) {
		if (value > UINT64_MAX / 10 - 1)
			return -EINVAL;
		value = value * 10 + (uint64_t)(text[length] - '0');
	}
	*ret = value;
	return (int)length;
}

int ferry_fault_plan_parse(const char *text, struct ferry_fault_plan *ret)
{
	static const char *const names[] = {"error", "delay", "hole", "ghost", "seconds", "seed"};
	uint64_t values[FERRY_ARRAY_COUNT(names)] = {0};
	uint32_t seen = 0;

	ferry_assert(text && ret);
	*ret = (struct ferry_fault_plan){0};
	if (strcmp(text, "off") == 0)
		return 0;
	for (;;) {
		uint32_t i = 0;
		int length = -EINVAL;

		while (i < FERRY_ARRAY_COUNT(names) &&
		       (length = word_parse(text, names[i], &values[i])) < 0)
			i++;
		if (length < 0 || seen & 1u << i)
			return -EINVAL;
		seen |= 1u << i;
		text += length;
		if (*text == '\0')
			break;
		if (*text++ != ',')
			return -EINVAL;
	}
	for (uint32_t i = 0; i < 4; i++)
		if (values[i] > ODDS)
			return -EINVAL;
	if (values[0] + values[1] + values[2] + values[3] > ODDS || values[4] == 0 ||
	    values[4] > SECONDS_MAX)
		return -EINVAL;
	*ret = (struct ferry_fault_plan){
		.error = (uint32_t)values[0],
		.delay = (uint32_t)values[1],
		.hole = (uint32_t)values[2],
		.ghost = (uint32_t)values[3],
		.seconds = values[4],
		.seed = values[5],
	};
	return 0;
}
