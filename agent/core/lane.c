#include "agent/core/lane.h"

#include <stdio.h>

#include "agent/base/museum.h"

enum {
	FAILURES_IN_ROW_MAX = 3, /* Failures, each proven harmless, until I/O goes elsewhere. */
	TRIAL_SUCCESSES = 32,	 /* What PROBATION asks for, beside its time. */
};
#define PROBE_INTERVAL_NS (1 * FERRY_NS_PER_S)
#define PROBATION_NS_MIN (2 * FERRY_NS_PER_S)
#define PROBATION_NS_MAX (60 * FERRY_NS_PER_S)
#define RELAPSE_WINDOW_NS (120 * FERRY_NS_PER_S)

static struct ferry_loop *lane_loop(const struct ferry_lane *lane)
{
	return lane->config.loop;
}

const char *ferry_lane_state_name(enum ferry_lane_state state)
{
	switch (state) {
	case FERRY_LANE_HEALTHY:
		return "HEALTHY";
	case FERRY_LANE_SUSPECT:
		return "SUSPECT";
	case FERRY_LANE_FORWARDING:
		return "FORWARDING";
	case FERRY_LANE_CONVICTED:
		return "CONVICTED";
	case FERRY_LANE_PROBATION:
		return "PROBATION";
	default:
		return "?";
	}
}

static const char *cause_text(enum ferry_cause cause)
{
	static const char *const texts[] = {
		[FERRY_CAUSE_NONE] = "none",
		[FERRY_CAUSE_UNSENT] = "nothing could be sent",
		[FERRY_CAUSE_PATH] = "the path failed",
		[FERRY_CAUSE_TIMEOUT] = "no answer in time",
		[FERRY_CAUSE_MEDIUM] = "medium error",
		[FERRY_CAUSE_INVALID] = "invalid request",
		[FERRY_CAUSE_NO_SPACE] = "no space",
		[FERRY_CAUSE_CONFLICT] = "reservation conflict",
		[FERRY_CAUSE_STALE] = "stale epoch or no member",
		[FERRY_CAUSE_LUN] = "not the same lun",
		[FERRY_CAUSE_UNHEALTHY] = "the peer's own path does not work",
		[FERRY_CAUSE_RESET] = "the target was reset",
		[FERRY_CAUSE_LOST] = "acknowledged writes are lost",
	};

	if ((size_t)cause >= FERRY_ARRAY_COUNT(texts) || !texts[cause])
		return "?";
	return texts[cause];
}

static void lane_set_state(struct ferry_lane *lane, enum ferry_lane_state state, const char *reason)
{
	enum ferry_lane_state old = lane->state;
	uint64_t now_ns = ferry_loop_now_ns(lane_loop(lane));
	struct ferry_event event = {.kind = FERRY_EVENT_PATH_STATE,
				    .severity = state == FERRY_LANE_HEALTHY
							? FERRY_SEVERITY_NOTICE
							: FERRY_SEVERITY_WARNING,
				    .time_ns = now_ns,
				    .node = lane->path->node};

	if (old == state && strcmp(lane->reason, reason) == 0)
		return;
	lane->state = state;
	(void)snprintf(lane->reason, sizeof(lane->reason), "%s", reason);
	(void)snprintf(event.pool, sizeof(event.pool), "%s", lane->config.pool);
	(void)snprintf(event.from, sizeof(event.from), "%s", ferry_lane_state_name(old));
	(void)snprintf(event.to, sizeof(event.to), "%s", ferry_lane_state_name(state));
	ferry_event_emit(lane->config.events, event, "%s path: %s",
			 lane->path->kind == FERRY_PATH_LOCAL ? "local" : "peer", reason);
	if (state == FERRY_LANE_HEALTHY)
		lane->healthy_since_ns = now_ns;
	if (state == FERRY_LANE_FORWARDING && lane->path->kind == FERRY_PATH_LOCAL &&
	    !ferry_timer_is_started(&lane->probe_timer))
		ferry_timer_start(lane_loop(lane), &lane->probe_timer, now_ns + PROBE_INTERVAL_NS);
	lane->config.on_change(lane, lane->config.context);
}

/* The path does not work: I/O goes elsewhere from here on. A relapse makes the next trial longer.
 */
static void lane_forward(struct ferry_lane *lane, const char *reason)
{
	uint64_t now_ns = ferry_loop_now_ns(lane_loop(lane));

	if (lane->state == FERRY_LANE_FORWARDING || lane->state == FERRY_LANE_CONVICTED)
		return;
	if (lane->state == FERRY_LANE_PROBATION ||
	    now_ns - lane->healthy_since_ns < RELAPSE_WINDOW_NS)
		lane->probation_ns = ferry_min_u64(2 * lane->probation_ns, PROBATION_NS_MAX);
	else
		lane->probation_ns = PROBATION_NS_MIN;
	lane_set_state(lane, FERRY_LANE_FORWARDING, reason);
}

static void lane_note_success(struct ferry_lane *lane)
{
	uint64_t now_ns = ferry_loop_now_ns(lane_loop(lane));

	lane->failures_in_row = 0;
	if (lane->state == FERRY_LANE_SUSPECT)
		lane_set_state(lane, FERRY_LANE_HEALTHY, "works again");
	if (lane->state != FERRY_LANE_PROBATION)
		return;
	if (lane->trial_left > 0)
		lane->trial_left--;
	if (lane->trial_left == 0 && now_ns >= lane->healthy_since_ns)
		lane_set_state(lane, FERRY_LANE_HEALTHY, "stood its trial");
}

static void lane_note_path_failure(struct ferry_lane *lane, enum ferry_outcome outcome,
				   enum ferry_cause cause)
{
	if (lane->path->kind == FERRY_PATH_PEER)
		ferry_lane_avoid(lane, 100 * FERRY_NS_PER_MS);
	else if (outcome == FERRY_OUTCOME_UNKNOWN || lane->failures_in_row >= FAILURES_IN_ROW_MAX ||
		 lane->state == FERRY_LANE_PROBATION)
		lane_forward(lane, cause_text(cause));
	else if (lane->state == FERRY_LANE_HEALTHY)
		lane_set_state(lane, FERRY_LANE_SUSPECT, cause_text(cause));
}

static void lane_note_failure(struct ferry_lane *lane, enum ferry_outcome outcome,
			      enum ferry_cause cause)
{
	lane->failures_in_row++;
	switch (cause) {
	case FERRY_CAUSE_PATH:
	case FERRY_CAUSE_TIMEOUT:
	case FERRY_CAUSE_UNSENT:
		lane_note_path_failure(lane, outcome, cause);
		break;
	case FERRY_CAUSE_LOST: /* If only it answered. */
		if (outcome == FERRY_OUTCOME_UNKNOWN)
			lane_note_path_failure(lane, outcome, cause);
		else
			lane->failures_in_row = 0;
		break;
	case FERRY_CAUSE_CONFLICT:
		if (lane->path->kind == FERRY_PATH_LOCAL)
			ferry_lane_allow(lane, false, "reservation conflict");
		else
			ferry_lane_avoid(lane, 500 * FERRY_NS_PER_MS);
		break;
	case FERRY_CAUSE_STALE:
	case FERRY_CAUSE_UNHEALTHY:
		ferry_lane_avoid(lane, 200 * FERRY_NS_PER_MS);
		break;
	case FERRY_CAUSE_LUN:
		ferry_lane_avoid(lane, 5 * FERRY_NS_PER_S);
		break;
	case FERRY_CAUSE_NONE:
	case FERRY_CAUSE_MEDIUM:
	case FERRY_CAUSE_INVALID:
	case FERRY_CAUSE_NO_SPACE:
	case FERRY_CAUSE_RESET:
	default: /* Says nothing about the path: it answered. */
		lane->failures_in_row = 0;
		break;
	}
}

static void deadline_restart(struct ferry_lane *lane)
{
	ferry_list_foreach (link, &lane->flights) {
		const struct ferry_flight *flight =
			ferry_list_entry(link, struct ferry_flight, link);

		if (flight->is_overdue)
			continue;
		ferry_timer_start(lane_loop(lane), &lane->deadline_timer,
				  flight->started_ns + lane->config.timeout_ns);
		return;
	}
	ferry_timer_stop(lane_loop(lane), &lane->deadline_timer);
}

/* FUA too: where the disk has none, the kernel or the path writes and then flushes. */
static bool is_to_be_durable(const struct ferry_attempt *attempt)
{
	return attempt->op == FERRY_OP_FLUSH || (attempt->flags & FERRY_IO_FUA);
}

/* Its end is told. */
static void flight_over(struct ferry_flight *flight, enum ferry_outcome outcome,
			enum ferry_cause cause)
{
	struct ferry_attempt *attempt = &flight->attempt;
	struct ferry_lane *lane = flight->lane;
	uint64_t took_ns = ferry_loop_now_ns(lane_loop(lane)) - flight->started_ns;
	bool was_first = lane->flights.next == &flight->link;

	ferry_assert(lane->flights_count > 0);
	ferry_assert((outcome == FERRY_OUTCOME_DONE) == (cause == FERRY_CAUSE_NONE));
	ferry_list_remove(&flight->link);
	lane->flights_count--;
	lane->stats.ended++;
	if (was_first)
		deadline_restart(lane);

	if (outcome == FERRY_OUTCOME_DONE) {
		lane->stats.done++;
		lane->stats.latency_ns += took_ns / 8;
		lane->stats.latency_ns -= lane->stats.latency_ns / 8;
		if (!flight->is_overdue)
			lane_note_success(lane);
	} else {
		if (outcome == FERRY_OUTCOME_FAILED)
			lane->stats.failed++;
		else
			lane->stats.unknown++;
		lane_note_failure(lane, outcome, cause);
	}
	if ((cause == FERRY_CAUSE_RESET || cause == FERRY_CAUSE_LOST) &&
	    lane->path->kind == FERRY_PATH_LOCAL)
		lane->config.on_reset(lane, cause, lane->config.context);
	if (attempt->mark.losses != 0)
		lane->config.on_mark(lane, attempt->mark, outcome == FERRY_OUTCOME_DONE,
				     lane->config.context);
	/* What it made durable may be what a restart has left of it. */
	if (lane->is_doubtful && is_to_be_durable(attempt) && outcome == FERRY_OUTCOME_DONE) {
		outcome = FERRY_OUTCOME_FAILED;
		cause = FERRY_CAUSE_UNHEALTHY;
	}
	flight->on_end(flight, outcome, cause);
}

static void flight_end(struct ferry_attempt *attempt, enum ferry_outcome outcome,
		       enum ferry_cause cause)
{
	struct ferry_flight *flight = FERRY_CONTAINER_OF(attempt, struct ferry_flight, attempt);
	struct ferry_lane *lane = flight->lane;

	ferry_assert(flight->held == 0);
	if (outcome != FERRY_OUTCOME_DONE || !is_to_be_durable(attempt) ||
	    !lane->config.look_at_durable || FERRY_MUSEUM(FLUSH_BELIEVED)) {
		flight_over(flight, outcome, cause);
		return;
	}
	flight->held = ++lane->held_last;
	lane->config.look_at_durable(lane->config.context);
}

static void flight_released(struct ferry_attempt *attempt)
{
	struct ferry_flight *flight = FERRY_CONTAINER_OF(attempt, struct ferry_flight, attempt);

	if (flight->held != 0) {
		flight->is_released = true; /* It is told when its end has been. */
		return;
	}
	ferry_assert(!ferry_list_is_linked(&flight->link)); /* Ended first. */
	flight->on_released(flight);
}

static struct ferry_flight *held_first(const struct ferry_lane *lane, uint64_t until)
{
	ferry_list_foreach (link, &lane->flights) {
		struct ferry_flight *flight = ferry_list_entry(link, struct ferry_flight, link);

		if (flight->held != 0 && flight->held <= until)
			return flight;
	}
	return NULL;
}

void ferry_lane_durable(struct ferry_lane *lane, uint64_t until, bool is_same)
{
	struct ferry_flight *flight;

	ferry_assert(lane && until <= lane->held_last);
	while ((flight = held_first(lane, until))) { /* Anew: who is told may submit. */
		flight->held = 0;
		flight_over(flight, is_same ? FERRY_OUTCOME_DONE : FERRY_OUTCOME_FAILED,
			    is_same ? FERRY_CAUSE_NONE : FERRY_CAUSE_UNHEALTHY);
		if (flight->is_released)
			flight->on_released(flight);
	}
}

int ferry_lane_submit(struct ferry_lane *lane, struct ferry_flight *flight)
{
	int r;

	ferry_assert(lane && lane->path);
	FERRY_ASSERT_ON_LOOP(lane_loop(lane));
	ferry_assert(flight->on_end && flight->on_released && flight->on_overdue);
	flight->lane = lane;
	flight->is_overdue = false;
	flight->is_released = false;
	flight->held = 0;
	flight->attempt.is_given_up = false;
	flight->attempt.mark = (struct ferry_mark){};
	flight->started_ns = ferry_loop_now_ns(lane_loop(lane));
	flight->attempt.on_end = flight_end;
	flight->attempt.on_released = flight_released;
	ferry_list_init(&flight->attempt.link);
	r = ferry_path_submit(lane->path, &flight->attempt);
	if (r < 0)
		return r;
	ferry_list_init(&flight->link);
	ferry_list_append(&lane->flights, &flight->link);
	lane->flights_count++;
	if (!ferry_timer_is_started(&lane->deadline_timer))
		deadline_restart(lane);
	return 0;
}

void ferry_lane_give_up(struct ferry_lane *lane)
{
	ferry_assert(lane);
	ferry_list_foreach (link, &lane->flights)
		ferry_list_entry(link, struct ferry_flight, link)->attempt.is_given_up = true;
}

/* A deadline passed: the oldest attempts had no answer. */
static void deadline_passed(struct ferry_timer *timer)
{
	struct ferry_lane *lane = FERRY_CONTAINER_OF(timer, struct ferry_lane, deadline_timer);
	uint64_t now_ns = ferry_loop_now_ns(lane_loop(lane));

	if (lane->path->kind == FERRY_PATH_LOCAL)
		lane_forward(lane, cause_text(FERRY_CAUSE_TIMEOUT));
	else
		ferry_lane_avoid(lane, 1 * FERRY_NS_PER_S);
	if (lane->path->ops->reset) {
		/* Ends everything, soon; should it not, we ask again after another timeout. */
		lane->stats.resets++;
		ferry_timer_start(lane_loop(lane), timer, now_ns + lane->config.timeout_ns);
		lane->path->ops->reset(lane->path);
		return;
	}
	for (;;) {
		struct ferry_flight *overdue = NULL;

		ferry_list_foreach (link, &lane->flights) {
			struct ferry_flight *flight =
				ferry_list_entry(link, struct ferry_flight, link);

			if (flight->is_overdue)
				continue;
			if (now_ns - flight->started_ns >= lane->config.timeout_ns)
				overdue = flight;
			break;
		}
		if (!overdue)
			break;
		overdue->is_overdue = true;
		overdue->attempt.is_given_up = true;
		overdue->on_overdue(overdue); /* May submit, so the list is read anew. */
	}
	deadline_restart(lane);
}

/* ---- Probing a local path that does not work. ---- */

static void probe_finish(struct ferry_lane *lane, bool works)
{
	uint64_t now_ns = ferry_loop_now_ns(lane_loop(lane));

	if (lane->state != FERRY_LANE_FORWARDING && lane->state != FERRY_LANE_CONVICTED)
		return;
	lane->config.on_probe(lane, works, lane->config.context);
	if (!works) {
		ferry_timer_start(lane_loop(lane), &lane->probe_timer, now_ns + PROBE_INTERVAL_NS);
		return;
	}
	lane->failures_in_row = 0;
	lane->trial_left = TRIAL_SUCCESSES;
	lane->healthy_since_ns = now_ns + lane->probation_ns;
	lane_set_state(lane, FERRY_LANE_PROBATION, "a probe succeeded");
	/* With no I/O to show it, probes do. */
	ferry_timer_start(lane_loop(lane), &lane->probe_timer, now_ns + PROBE_INTERVAL_NS / 8);
}

static void probe_ended(struct ferry_flight *flight, enum ferry_outcome outcome,
			enum ferry_cause cause)
{
	struct ferry_lane *lane = flight->context;

	ferry_assert(lane->probe_is_flying);
	(void)cause; /* The lane has noted it. */
	probe_finish(lane, outcome == FERRY_OUTCOME_DONE);
	if (lane->flights_count == 0)
		lane->config.on_clear(lane, lane->config.context);
}

static void probe_released(struct ferry_flight *flight)
{
	struct ferry_lane *lane = flight->context;

	ferry_assert(lane->probe_is_flying);
	lane->probe_is_flying = false;
	ferry_segments_drop(&flight->attempt.segments);
	if (lane->state == FERRY_LANE_PROBATION && !ferry_timer_is_started(&lane->probe_timer))
		ferry_timer_start_in(lane_loop(lane), &lane->probe_timer, PROBE_INTERVAL_NS / 8);
}

static void probe_overdue(struct ferry_flight *flight)
{
	probe_finish(flight->context, /* works= */ false);
}

/* Read a block. -ENOBUFS: buffers are short, which says nothing about the path. */
static int probe_send(struct ferry_lane *lane, struct ferry_epoch epoch)
{
	int r;

	ferry_assert(!lane->probe_is_flying);
	lane->probe = (struct ferry_flight){
		.attempt = {.op = FERRY_OP_READ, .length_blocks = 1, .epoch = epoch},
		.on_end = probe_ended,
		.on_released = probe_released,
		.on_overdue = probe_overdue,
		.context = lane,
	};
	r = ferry_arena_take(lane->config.arena, lane->config.block_bytes,
			     &lane->probe.attempt.segments);
	if (r < 0)
		return r;
	lane->probe_is_flying = true;
	r = ferry_lane_submit(lane, &lane->probe);
	if (r < 0) {
		lane->probe_is_flying = false;
		ferry_segments_drop(&lane->probe.attempt.segments);
	}
	return r;
}

static void probe_run(struct ferry_timer *timer)
{
	struct ferry_lane *lane = FERRY_CONTAINER_OF(timer, struct ferry_lane, probe_timer);
	int r;

	if (lane->state == FERRY_LANE_HEALTHY || lane->state == FERRY_LANE_SUSPECT)
		return;
	if (!lane->path->is_up || !lane->is_allowed || lane->probe_is_flying) {
		if (lane->state == FERRY_LANE_PROBATION)
			return;
		probe_finish(lane, /* works= */ false);
		return;
	}
	r = probe_send(lane, (struct ferry_epoch){});
	if (r == -ENOBUFS)
		ferry_timer_start_in(lane_loop(lane), timer, PROBE_INTERVAL_NS);
	else if (r < 0 && lane->state != FERRY_LANE_PROBATION)
		probe_finish(lane, /* works= */ false);
}

void ferry_lane_greet(struct ferry_lane *lane, struct ferry_epoch epoch)
{
	ferry_assert(lane && epoch.v > 0);
	if (lane->is_greeted || lane->probe_is_flying || !ferry_lane_is_usable(lane))
		return;
	(void)probe_send(lane, epoch); /* If not now, then the next time. */
}

/* ---- The path's own news. ---- */

static void path_state(struct ferry_path *path, bool is_up, enum ferry_cause cause)
{
	struct ferry_lane *lane = path->context;

	ferry_assert(lane->path == path);
	if (path->kind == FERRY_PATH_PEER)
		lane->is_greeted = false;
	else if (!is_up)
		lane->config.on_reset(lane, FERRY_CAUSE_PATH, lane->config.context);
	if (!is_up)
		ferry_lane_durable(lane, lane->held_last, /* is_same= */ false);
	if (!is_up && path->kind == FERRY_PATH_LOCAL)
		lane_forward(lane, cause_text(cause));
	if (is_up && path->kind == FERRY_PATH_LOCAL &&
	    (lane->state == FERRY_LANE_FORWARDING || lane->state == FERRY_LANE_CONVICTED))
		ferry_timer_start_in(lane_loop(lane), &lane->probe_timer, 0);
	lane->config.on_change(lane, lane->config.context);
}

static void path_room(struct ferry_path *path)
{
	struct ferry_lane *lane = path->context;

	ferry_assert(lane->path == path);
	lane->config.on_change(lane, lane->config.context);
}

void ferry_lane_init(struct ferry_lane *lane, struct ferry_path *path,
		     const struct ferry_lane_config *config)
{
	ferry_assert(path && path->ops);
	ferry_assert(config->loop && config->on_change && config->on_probe && config->on_clear);
	ferry_assert(config->on_reset && config->on_mark);
	ferry_assert(config->timeout_ns > 0);
	*lane = (struct ferry_lane){
		.config = *config,
		.path = path,
		.state = FERRY_LANE_HEALTHY,
		.reason = "opened",
		.is_allowed = !config->needs_permit,
		.vouches_since = path->kind == FERRY_PATH_LOCAL ? 0 : UINT64_MAX,
		.is_greeted = path->kind == FERRY_PATH_LOCAL,
		.probation_ns = PROBATION_NS_MIN,
		.deadline_timer = {.run = deadline_passed},
		.probe_timer = {.run = probe_run},
	};
	ferry_list_init(&lane->flights);
	path->on_state = path_state;
	path->on_room = path_room;
	path->context = lane;
	if (!path->is_up && path->kind == FERRY_PATH_LOCAL)
		lane_forward(lane, "not connected yet");
}

void ferry_lane_done(struct ferry_lane *lane)
{
	ferry_assert(lane->flights_count == 0);
	ferry_assert(!lane->probe_is_flying);
	ferry_timer_stop(lane_loop(lane), &lane->deadline_timer);
	ferry_timer_stop(lane_loop(lane), &lane->probe_timer);
}

bool ferry_lane_is_usable(const struct ferry_lane *lane)
{
	ferry_assert(lane && lane->path);
	if (!lane->path->is_up || !lane->is_allowed)
		return false;
	if (lane->path->kind == FERRY_PATH_PEER && !lane->peer_has_path)
		return false;
	if (lane->state == FERRY_LANE_FORWARDING || lane->state == FERRY_LANE_CONVICTED)
		return false;
	return ferry_loop_now_ns(lane_loop(lane)) >= lane->avoid_until_ns;
}

void ferry_lane_allow(struct ferry_lane *lane, bool is_allowed, const char *why)
{
	ferry_assert(lane && why);
	if (!is_allowed) /* Who is not registered looks at nothing. */
		ferry_lane_durable(lane, lane->held_last, /* is_same= */ false);
	if (lane->is_allowed == is_allowed)
		return;
	lane->is_allowed = is_allowed;
	if (!is_allowed && lane->state == FERRY_LANE_FORWARDING)
		lane_set_state(lane, lane->state, why); /* For another reason from now on. */
	else if (!is_allowed)
		lane_forward(lane, why);
	else if (lane->path->is_up)
		ferry_timer_start_in(lane_loop(lane), &lane->probe_timer, 0);
	lane->config.on_change(lane, lane->config.context);
}

void ferry_lane_convict(struct ferry_lane *lane, const char *why)
{
	ferry_assert(lane && why);
	if (lane->state == FERRY_LANE_FORWARDING)
		lane_set_state(lane, FERRY_LANE_CONVICTED, why);
}

void ferry_lane_avoid(struct ferry_lane *lane, uint64_t delay_ns)
{
	ferry_assert(lane);
	ferry_assert(delay_ns > 0);
	lane->avoid_until_ns =
		ferry_max_u64(lane->avoid_until_ns, ferry_loop_now_ns(lane_loop(lane)) + delay_ns);
}

void ferry_lane_set_peer_has_path(struct ferry_lane *lane, bool has_path)
{
	ferry_assert(lane);
	ferry_assert(lane->path->kind == FERRY_PATH_PEER);
	if (lane->peer_has_path == has_path)
		return;
	lane->peer_has_path = has_path;
	lane->config.on_change(lane, lane->config.context);
}
