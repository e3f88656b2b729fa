#include "agent/core/router_private.h"

#include <stdio.h>

#include "agent/base/museum.h"

void ferry_router_emit(struct ferry_router *router, enum ferry_event_kind kind,
		       enum ferry_severity severity, uint64_t value, const char *text)
{
	struct ferry_event event = {.kind = kind,
				    .severity = severity,
				    .value = value,
				    .time_ns = ferry_loop_now_ns(ferry_router_loop(router))};

	(void)snprintf(event.pool, sizeof(event.pool), "%s", router->config.pool);
	ferry_event_emit(router->config.events, event, "%s", text);
}

void ferry_router_emit_suspect(struct ferry_router *router, const char *why)
{
	ferry_router_emit(router, FERRY_EVENT_FLUSH_SUSPECT, FERRY_SEVERITY_ERROR, 0, why);
}

/* ---- News from lanes. ---- */

static void lane_changed(struct ferry_lane *lane, void *context)
{
	struct ferry_router *router = context;

	if (!lane->path->is_up)
		ferry_router_lose(router, lane);
	if (!ferry_list_is_empty(&router->waiting) || !ferry_list_is_empty(&router->awaiting_lay) ||
	    router->is_holding || !lane->is_greeted)
		ferry_router_dispatch_soon(router);
	router->config.on_lanes(router->config.context);
}

/* Who waits until nothing is in flight, to say that it has drained, waited for this, too. */
static void lane_clear(struct ferry_lane *lane, void *context)
{
	struct ferry_router *router = context;

	(void)lane;
	router->config.on_lanes(router->config.context);
}

static void lane_probed(struct ferry_lane *lane, bool works, void *context)
{
	struct ferry_router *router = context;
	enum ferry_verdict before = router->tracker.verdict;
	enum ferry_verdict now;
	bool peer_succeeded = router->peer_done_count != router->peer_done_count_seen;

	ferry_assert(lane == ferry_router_local(router));
	router->peer_done_count_seen = router->peer_done_count;
	now = ferry_tracker_observe(&router->tracker, ferry_loop_now_ns(ferry_router_loop(router)),
				    works, peer_succeeded);
	if (now == FERRY_VERDICT_LOCAL_PATH)
		ferry_lane_convict(lane, "local failures, peers' successes: it will last");
	if (now == before)
		return;
	ferry_router_emit(router, FERRY_EVENT_VERDICT, FERRY_SEVERITY_WARNING,
			  router->tracker.count,
			  now == FERRY_VERDICT_LOCAL_PATH ? "this node's own path is convicted"
							  : "this node's own path works again");
	router->config.on_verdict(now, router->config.context);
}

static void note_loss(struct ferry_router *router, struct ferry_lane *lane, const char *what)
{
	ferry_router_lose(router, lane);
	if (ferry_flush_lost(&router->flush, router->sequence_last))
		ferry_router_emit_suspect(router, what);
}

static void lane_reset(struct ferry_lane *lane, enum ferry_cause cause, void *context)
{
	struct ferry_router *router = context;

	if (cause == FERRY_CAUSE_RESET)
		ferry_router_note_reset(router, lane, "the lun reports a reset");
	else if (cause == FERRY_CAUSE_LOST)
		note_loss(router, lane, "a cache below has lost what was written to it");
	else if (router->keep.is_on) /* And the path's own cache may be gone with it. */
		note_loss(router, lane, "the path was lost");
}

/*
 * The peer does not count the resets that we have it expect. What it counts is a loss, unless it
 * is the first that we hear of this agent: then it vouches for what is sent from now on.
 */
static void lane_marked(struct ferry_lane *lane, struct ferry_mark mark, bool is_done,
			void *context)
{
	struct ferry_router *router = context;

	ferry_assert(mark.boot.v > 0);
	if (lane->mark.boot.v != mark.boot.v) {
		if (!is_done) /* It may have yet to see what is long over. */
			return;
		if (lane->mark.boot.v != 0)
			ferry_router_lose(router, lane); /* Its agent died, maybe its host. */
		lane->mark = mark;
		lane->vouches_since = router->sequence_last + 1;
	} else if (mark.losses > lane->mark.losses) {
		lane->mark = mark;
		note_loss(router, lane, "a peer reports that the lun was reset or restarted");
	}
	lane->is_greeted |= is_done;
}

static void lane_look(void *context)
{
	struct ferry_router *router = context;

	router->config.look_at_durable(router->config.context);
}

/* ---- The room's entrances. ---- */

size_t ferry_router_memory_bytes(uint32_t inflight_max, bool flushes_by_path)
{
	ferry_assert(inflight_max > 0 && inflight_max <= FERRY_ROUTES_MAX);
	return (inflight_max + 1) * sizeof(struct ferry_route) +
	       (flushes_by_path ? ferry_keep_memory_bytes(inflight_max) : 0) +
	       (size_t)inflight_max * FERRY_TRIES_PER_ROUTE * sizeof(struct ferry_try) + 256;
}

int ferry_router_init(struct ferry_router *router, struct ferry_region *region,
		      const struct ferry_router_config *config)
{
	uint32_t tries_count = config->inflight_max * FERRY_TRIES_PER_ROUTE;

	ferry_assert(config->loop && config->arena && config->pool);
	ferry_assert(config->lay && config->on_verdict && config->on_lanes && config->on_idle);
	ferry_assert(config->inflight_max > 0 && config->inflight_max <= FERRY_ROUTES_MAX);
	*router = (struct ferry_router){
		.config = *config,
		.dispatch_task = {.run = ferry_router_dispatch},
		.retry_timer = {.run = ferry_router_retry_now},
		.hold_timer = {.run = ferry_router_hold_over},
		.arena_waiter = {.run = ferry_router_arena_has_room},
		.prng = {.state = config->seed},
	};
	ferry_flush_init(&router->flush);
	ferry_tracker_init(&router->tracker, config->convict_failures, config->convict_window_ns);
	ferry_list_init(&router->routes_free);
	ferry_list_init(&router->tries_free);
	ferry_list_init(&router->running);
	ferry_list_init(&router->waiting);
	ferry_list_init(&router->awaiting_lay);
	ferry_list_init(&router->ghosts);
	/* One is for what is written anew. */
	router->routes =
		ferry_region_take(region, config->inflight_max + 1, sizeof(*router->routes));
	router->tries = ferry_region_take(region, tries_count, sizeof(*router->tries));
	if (!router->routes || !router->tries)
		return -ENOMEM;
	if (config->flushes_by_path && ferry_keep_init(&router->keep, region, config->inflight_max,
						       config->arena->chunks_count / 4) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < config->inflight_max + 1; i++)
		ferry_list_append(&router->routes_free, &router->routes[i].link);
	for (uint32_t i = 0; i < tries_count; i++)
		ferry_list_append(&router->tries_free, &router->tries[i].link);
	return 0;
}

void ferry_router_done(struct ferry_router *router)
{
	ferry_assert(router);
	ferry_assert(router->routes_count == 0);
	ferry_router_keep_clear(router);
	for (uint32_t i = 0; i < router->lanes_count; i++)
		ferry_lane_done(&router->lanes[i]);
	ferry_timer_stop(ferry_router_loop(router), &router->retry_timer);
	ferry_timer_stop(ferry_router_loop(router), &router->hold_timer);
	ferry_task_cancel(ferry_router_loop(router), &router->dispatch_task);
	ferry_arena_unwait(&router->arena_waiter);
}

int ferry_router_add_path(struct ferry_router *router, struct ferry_path *path, bool needs_permit,
			  struct ferry_lane **ret)
{
	const struct ferry_router_config *config = &router->config;
	struct ferry_lane_config lane_config = {
		.loop = config->loop,
		.arena = config->arena,
		.events = config->events,
		.pool = config->pool,
		.block_bytes = config->block_bytes,
		.timeout_ns = config->path_timeout_ns,
		.needs_permit = needs_permit,
		.on_change = lane_changed,
		.on_probe = lane_probed,
		.on_clear = lane_clear,
		.on_reset = lane_reset,
		.on_mark = lane_marked,
		.context = router,
	};

	ferry_assert(router && path);
	if (path->kind == FERRY_PATH_LOCAL && config->look_at_durable)
		lane_config.look_at_durable = lane_look;
	ferry_assert((path->kind == FERRY_PATH_LOCAL) == (router->lanes_count == 0));
	if (router->lanes_count == FERRY_LANES_MAX)
		return -ENOSPC;
	*ret = &router->lanes[router->lanes_count++];
	ferry_lane_init(*ret, path, &lane_config);
	return 0;
}

int ferry_router_submit(struct ferry_router *router, struct ferry_io *io)
{
	struct ferry_list *link;
	struct ferry_route *route;

	ferry_assert(router && router->lanes_count > 0);
	FERRY_ASSERT_ON_LOOP(ferry_router_loop(router));
	ferry_assert(io->on_done && !io->route);
	if (router->is_deposed)
		return -ESHUTDOWN;
	if (router->routes_count >= router->config.inflight_max && io != &router->keep_io)
		return -EAGAIN;
	link = ferry_list_pop(&router->routes_free);
	if (!link)
		return -EAGAIN;
	route = ferry_list_entry(link, struct ferry_route, link);
	*route = (struct ferry_route){.io = io,
				      .started_ns = ferry_loop_now_ns(ferry_router_loop(router))};
	ferry_list_init(&route->link);
	io->route = route;
	router->routes_count++;
	router->stats.reads += io->op == FERRY_OP_READ;
	router->stats.writes += ferry_op_changes_blocks(io->op);
	router->stats.flushes += io->op == FERRY_OP_FLUSH;

	/*
	 * The common way: straight to a lane, unless others wait already. Not for ranges: a lane
	 * may say at once that it cannot, and on_done() must not run from inside.
	 */
	if (router->is_open && ferry_list_is_empty(&router->waiting) &&
	    io->op != FERRY_OP_DISCARD && io->op != FERRY_OP_WRITE_ZEROES &&
	    ferry_route_start(router, route) == FERRY_START_STARTED)
		return 0;
	ferry_route_wait(router, route);
	return 0;
}

void ferry_router_open(struct ferry_router *router, struct ferry_epoch epoch)
{
	ferry_assert(router && epoch.v > 0);
	ferry_assert(epoch.v >= router->epoch.v);
	/* What another path of another node had in a cache of its own, no reset here tells of. */
	if (epoch.v != router->epoch.v && !router->config.flushes_by_path)
		ferry_flush_inherit(&router->flush);
	router->epoch = epoch;
	router->is_open = true;
	router->is_deposed = false;
	ferry_router_dispatch_soon(router);
}

void ferry_router_close(struct ferry_router *router)
{
	ferry_assert(router);
	router->is_open = false;
}

void ferry_router_depose(struct ferry_router *router)
{
	ferry_assert(router && !router->is_open);
	router->is_deposed = true;
	router->deposed_at = router->sequence_last;
	router->is_holding = false;
	/*
	 * Its applications have an error of everything. What they had not flushed was promised to
	 * nobody, and the resets by which others take the lun lose none of the rest.
	 */
	ferry_flush_forget(&router->flush);
	ferry_router_clear_suspect(router);
	ferry_router_keep_clear(router);
	ferry_router_fail_waiting(router, -ESHUTDOWN);
}

void ferry_router_fail_waiting(struct ferry_router *router, int error)
{
	struct ferry_list *lists[] = {&router->waiting, &router->awaiting_lay};

	ferry_assert(router);
	ferry_assert(error < 0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(lists); i++) {
		struct ferry_list failing;
		struct ferry_list *link;

		ferry_list_init(&failing);
		ferry_list_move_all(&failing, lists[i]);
		while ((link = failing.next) != &failing)
			ferry_route_complete(
				router, ferry_list_entry(link, struct ferry_route, link), error);
	}
	ferry_router_hold_timer_restart(router);
}

bool ferry_router_laid(struct ferry_router *router, struct ferry_lane *lane, uint64_t until,
		       const char *by)
{
	uint64_t laid_count = 0;
	uint64_t left_count = 0;

	ferry_assert(router && lane);
	ferry_assert(!lane->is_allowed || lane->path->kind == FERRY_PATH_PEER);
	ferry_list_foreach_safe (link, &router->ghosts) {
		struct ferry_try *ghost = ferry_list_entry(link, struct ferry_try, link);

		if (ghost->flight.lane != lane)
			continue;
		if (ghost->sequence > until && !FERRY_MUSEUM(LAID_TOO_MUCH)) {
			left_count++; /* Sent after the abort was asked for: maybe after it. */
			continue;
		}
		laid_count++;
		ferry_ghost_lay(router, ghost);
	}
	router->stats.ghosts_laid_abort += laid_count;
	if (laid_count > 0)
		ferry_router_emit(router, FERRY_EVENT_GHOST_LAID, FERRY_SEVERITY_NOTICE, laid_count,
				  by);
	return left_count == 0;
}

uint64_t ferry_router_ghost_before(const struct ferry_router *router, const struct ferry_lane *lane,
				   struct ferry_incarnation before)
{
	uint64_t last = 0;

	ferry_assert(router && lane && lane->path->kind == FERRY_PATH_PEER);
	ferry_list_foreach (link, &router->ghosts) {
		const struct ferry_try *ghost = ferry_list_entry(link, struct ferry_try, link);
		struct ferry_incarnation boot = ghost->flight.attempt.mark.boot;

		if (ghost->flight.lane == lane && boot.v != 0 && boot.v < before.v)
			last = ferry_max_u64(last, ghost->sequence);
	}
	return last;
}

bool ferry_router_lane_is_clean(const struct ferry_router *router, const struct ferry_lane *lane)
{
	ferry_assert(router && lane);
	if (lane->flights_count > 0)
		return false;
	ferry_list_foreach (link, &router->ghosts)
		if (ferry_list_entry(link, struct ferry_try, link)->flight.lane == lane)
			return false;
	return true;
}

void ferry_router_note_reset(struct ferry_router *router, struct ferry_lane *lane, const char *what)
{
	ferry_assert(router && what);
	if (lane && router->config.look_at_reset && !router->keep.is_on) {
		lane->is_doubtful = true;
		router->config.look_at_reset(router->config.context);
		return;
	}
	if (lane && (router->config.resets_keep_cache || lane->reset_expected_ns != 0))
		return; /* Of our own making; several may show one after the other. */
	if (!FERRY_MUSEUM(RESET_FORGOTTEN))
		note_loss(router, lane, what);
}

void ferry_router_reset_seen(struct ferry_router *router)
{
	ferry_assert(router);
	ferry_router_local(router)->is_doubtful = false;
	ferry_router_dispatch_soon(router);
}

static void resets_mark(struct ferry_router *router)
{
	for (uint32_t i = 0; i < router->lanes_count; i++)
		router->lanes[i].reset_expected_ns = ferry_loop_now_ns(ferry_router_loop(router));
}

void ferry_router_expect_reset(struct ferry_router *router)
{
	ferry_assert(router);
	if (!router->config.aborts_may_reset)
		return;
	router->resets_asked++;
	resets_mark(router);
}

void ferry_router_reset_answered(struct ferry_router *router)
{
	ferry_assert(router);
	if (!router->config.aborts_may_reset)
		return;
	ferry_assert(router->resets_asked > 0);
	router->resets_asked--;
	resets_mark(router);
}

void ferry_router_clear_suspect(struct ferry_router *router)
{
	ferry_assert(router);
	ferry_flush_clear(&router->flush);
	/* What peers have seen of the same loss they tell now, not with a later write's flush. */
	for (uint32_t i = 1; i < router->lanes_count; i++) {
		router->lanes[i].mark = (struct ferry_mark){};
		router->lanes[i].vouches_since = UINT64_MAX;
		router->lanes[i].is_greeted = false;
	}
	ferry_router_dispatch_soon(router);
}
