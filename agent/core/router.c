#include "agent/core/router.h"

#include <stdio.h>

#include "agent/core/judge.h"

static struct ferry_loop *router_loop(const struct ferry_router *router)
{
	return router->config.loop;
}

static uint32_t lane_bit(const struct ferry_router *router, const struct ferry_lane *lane)
{
	return UINT32_C(1) << (lane - router->lanes);
}

static void emit(struct ferry_router *router, enum ferry_event_kind kind,
		 enum ferry_severity severity, uint64_t value, const char *text)
{
	struct ferry_event event = {.kind = kind,
				    .severity = severity,
				    .value = value,
				    .time_ns = ferry_loop_now_ns(router_loop(router))};

	(void)snprintf(event.pool, sizeof(event.pool), "%s", router->config.pool);
	ferry_event_emit(router->config.events, event, "%s", text);
}

/* ---- Ranges and ghosts. ---- */

static bool overlaps(const struct ferry_attempt *attempt, const struct ferry_io *io)
{
	return attempt->lba.v < io->lba.v + io->length_blocks &&
	       io->lba.v < attempt->lba.v + attempt->length_blocks;
}

/* Rule 4: while a ghost lives, no write that overlaps it is admitted. */
static bool ghost_is_in_the_way(const struct ferry_router *router, const struct ferry_route *route)
{
	if (router->ghosts_count == 0 || !ferry_op_changes_blocks(route->io->op))
		return false;
	ferry_list_foreach (link, &router->ghosts) {
		const struct ferry_try *ghost = ferry_list_entry(link, struct ferry_try, link);

		if (overlaps(&ghost->flight.attempt, route->io))
			return true;
	}
	return false;
}

static void dispatch_soon(struct ferry_router *router)
{
	ferry_task_post(router_loop(router), &router->dispatch_task);
}

/* ---- The end of a route. ---- */

static void hold_timer_restart(struct ferry_router *router)
{
	uint64_t oldest_ns = UINT64_MAX;
	struct ferry_list *const lists[] = {&router->waiting, &router->awaiting_lay};

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(lists); i++) {
		ferry_list_foreach (link, lists[i]) {
			const struct ferry_route *route =
				ferry_list_entry(link, struct ferry_route, link);

			oldest_ns = ferry_min_u64(oldest_ns, route->started_ns);
		}
	}
	if (oldest_ns == UINT64_MAX)
		ferry_timer_stop(router_loop(router), &router->hold_timer);
	else
		ferry_timer_start(router_loop(router), &router->hold_timer,
				  oldest_ns + router->config.hold_timeout_ns);
}

static void route_complete(struct ferry_router *router, struct ferry_route *route, int error)
{
	struct ferry_io *io = route->io;
	uint64_t took_ns = ferry_loop_now_ns(router_loop(router)) - route->started_ns;

	ferry_assert(io && io->route == route);
	ferry_assert(error <= 0);
	ferry_list_remove(&route->link);
	route->io = NULL;
	ferry_list_prepend(&router->routes_free, &route->link);
	router->routes_count--;
	router->stats.latency_ns_max = ferry_max_u64(router->stats.latency_ns_max, took_ns);
	if (error < 0) {
		router->stats.errors++;
		if ((router->stats.errors & (router->stats.errors - 1)) == 0) /* 1, 2, 4, ... */
			emit(router, FERRY_EVENT_IO_FAILED, FERRY_SEVERITY_ERROR, (uint64_t)-error,
			     "an application was told of an error");
	}
	io->route = NULL;
	io->on_done(io, error);
	if (ferry_router_is_idle(router))
		router->config.on_idle(router->config.context);
}

/* The tries of a route that has ended count for nothing any more, but for their ghosts. */
static void route_forget_tries(struct ferry_router *router, struct ferry_route *route)
{
	if (route->ghosts_count == 0)
		return;
	ferry_list_foreach (link, &router->ghosts) {
		struct ferry_try *ghost = ferry_list_entry(link, struct ferry_try, link);

		if (ghost->route == route)
			ghost->route = NULL;
	}
	route->ghosts_count = 0;
}

static void route_fail(struct ferry_router *router, struct ferry_route *route, int error)
{
	route_forget_tries(router, route);
	route_complete(router, route, error);
}

static void hold_over(struct ferry_timer *timer)
{
	struct ferry_router *router = FERRY_CONTAINER_OF(timer, struct ferry_router, hold_timer);
	uint64_t now_ns = ferry_loop_now_ns(router_loop(router));
	struct ferry_list *lists[] = {&router->waiting, &router->awaiting_lay};

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(lists); i++) {
		struct ferry_list overdue;
		struct ferry_list *link;

		ferry_list_init(&overdue);
		ferry_list_foreach_safe (entry, lists[i]) {
			struct ferry_route *route =
				ferry_list_entry(entry, struct ferry_route, link);

			if (now_ns - route->started_ns < router->config.hold_timeout_ns)
				continue;
			ferry_list_remove(entry);
			ferry_list_append(&overdue, entry);
		}
		while ((link = overdue.next) != &overdue)
			route_fail(router, ferry_list_entry(link, struct ferry_route, link),
				   -ETIMEDOUT);
	}
	hold_timer_restart(router);
}

/* Put a route back to wait for a lane. */
static void route_wait(struct ferry_router *router, struct ferry_route *route)
{
	if (router->is_deposed) { /* Others write now: it must not be there when we own again. */
		route_fail(router, route, -ESHUTDOWN);
		return;
	}
	ferry_list_remove(&route->link);
	ferry_list_append(&router->waiting, &route->link);
	if (!ferry_timer_is_started(&router->hold_timer))
		hold_timer_restart(router);
	dispatch_soon(router);
}

/* ---- Tries. ---- */

static void try_free_if_over(struct ferry_router *router, struct ferry_try *try)
{
	if (!try->has_ended || !try->is_released || try->is_ghost)
		return;
	ferry_assert(!try->route);
	ferry_assert(try->flight.attempt.segments.count == 0);
	ferry_list_prepend(&router->tries_free, &try->link);
	if (!ferry_list_is_empty(&router->waiting))
		dispatch_soon(router);
}

static void ghost_make(struct ferry_router *router, struct ferry_try *try)
{
	ferry_assert(!try->is_ghost);
	ferry_assert(ferry_op_changes_blocks(try->flight.attempt.op));
	try->is_ghost = true;
	ferry_list_append(&router->ghosts, &try->link);
	router->ghosts_count++;
	router->stats.ghosts_made++;
	if (router->ghosts_count == 1)
		emit(router, FERRY_EVENT_GHOST_MADE, FERRY_SEVERITY_WARNING, router->ghosts_count,
		     "a write's outcome is unknown: its range takes no write until it is laid");
	if (try->route) {
		try->route->ghosts_count++;
		ferry_list_remove(&try->route->link);
		ferry_list_append(&router->awaiting_lay, &try->route->link);
		hold_timer_restart(router);
	}
	router->config.lay(try->flight.lane, router->config.context);
}

/* The ghost is proven dead: whoever waited for it, or for its range, may go on. */
static void ghost_lay(struct ferry_router *router, struct ferry_try *try)
{
	struct ferry_route *route = try->route;
	struct ferry_path *path = try->flight.lane->path;

	ferry_assert(try->is_ghost);
	ferry_assert(router->ghosts_count > 0);
	try->is_ghost = false;
	try->route = NULL;
	ferry_list_remove(&try->link);
	router->ghosts_count--;
	if (route) {
		ferry_assert(route->ghosts_count > 0);
		if (--route->ghosts_count == 0)
			route_wait(router, route);
	}
	if (!try->has_ended && path->ops->abandon)
		path->ops->abandon(path, &try->flight.attempt);
	try_free_if_over(router, try);
	dispatch_soon(router);
	if (ferry_router_is_idle(router))
		router->config.on_idle(router->config.context);
}

static void router_note_done(struct ferry_router *router, const struct ferry_try *try)
{
	const struct ferry_attempt *attempt = &try->flight.attempt;
	struct ferry_lane *lane = try->flight.lane;

	/* What began after the last answer and succeeds: this nexus has reported all of them. */
	if (router->resets_asked == 0 && try->flight.started_ns > lane->reset_expected_ns)
		lane->reset_expected_ns = 0;
	if (lane->path->kind == FERRY_PATH_PEER) {
		router->stats.detours++;
		router->peer_done_count++;
	}
	if (ferry_op_changes_blocks(attempt->op) && !(attempt->flags & FERRY_IO_FUA))
		router->writes_done++;
}

static bool has_unflushed(const struct ferry_router *router)
{
	ferry_assert(router->writes_flushed <= router->writes_done);
	return router->writes_flushed < router->writes_done;
}

/* FLUSH tells of what cannot be made durable any more, until somebody clears it (rule 11). */
static int flush_judge(struct ferry_router *router, const struct ferry_try *try,
		       enum ferry_next next, int error)
{
	if (next == FERRY_NEXT_FAIL && has_unflushed(router))
		router->losses_count++;
	if (next == FERRY_NEXT_FAIL && has_unflushed(router) && !router->flush_is_suspect) {
		router->flush_is_suspect = true;
		emit(router, FERRY_EVENT_FLUSH_SUSPECT, FERRY_SEVERITY_ERROR, 0,
		     "a flush failed: acknowledged writes may be lost");
	}
	if (router->flush_is_suspect)
		return -EIO;
	if (next == FERRY_NEXT_COMPLETE)
		router->writes_flushed = ferry_max_u64(router->writes_flushed, try->flush_covers);
	return error;
}

static void route_try_ended(struct ferry_router *router, struct ferry_try *try,
			    enum ferry_outcome outcome, enum ferry_cause cause)
{
	struct ferry_route *route = TAKE_PTR(try->route);
	int error;
	enum ferry_next next = ferry_judge(try->flight.attempt.op, outcome, cause, &error);

	ferry_assert(route && route->io);
	if (cause == FERRY_CAUSE_RESET)
		ferry_router_note_reset(router, try->flight.lane, "the target reports a reset");
	switch (next) {
	case FERRY_NEXT_COMPLETE:
		router_note_done(router, try);
		if (route->io->op == FERRY_OP_READ) {
			route->io->segments = try->flight.attempt.segments;
			try->flight.attempt.segments.count = 0;
		}
		if (route->io->op == FERRY_OP_FLUSH)
			error = flush_judge(router, try, next, error);
		route_complete(router, route, error);
		break;
	case FERRY_NEXT_FAIL:
		if (route->io->op == FERRY_OP_FLUSH)
			error = flush_judge(router, try, next, error);
		route_complete(router, route, error);
		break;
	case FERRY_NEXT_RETRY:
		route->lanes_failed |= lane_bit(router, try->flight.lane);
		route_wait(router, route);
		break;
	case FERRY_NEXT_LAY:
		route->lanes_failed |= lane_bit(router, try->flight.lane);
		try->route = route;
		ghost_make(router, try);
		if (router->is_deposed)
			route_fail(router, route, -ESHUTDOWN);
		break;
	}
}

static void try_end(struct ferry_flight *flight, enum ferry_outcome outcome, enum ferry_cause cause)
{
	struct ferry_try *try = FERRY_CONTAINER_OF(flight, struct ferry_try, flight);
	struct ferry_router *router = flight->context;

	ferry_assert(!try->has_ended);
	try->has_ended = true;
	if (try->is_ghost) {
		/* An overdue write was heard of after all. */
		if (outcome == FERRY_OUTCOME_UNKNOWN)
			return; /* Still a ghost, now only to be laid by an abort. */
		router->stats.ghosts_laid_late++;
		emit(router, FERRY_EVENT_GHOST_LAID, FERRY_SEVERITY_NOTICE, 1,
		     "by its own late completion");
		ghost_lay(router, try);
		return;
	}
	if (try->route)
		route_try_ended(router, try, outcome, cause);
	try_free_if_over(router, try);
}

static void try_released(struct ferry_flight *flight)
{
	struct ferry_try *try = FERRY_CONTAINER_OF(flight, struct ferry_try, flight);

	ferry_assert(try->has_ended && !try->is_released);
	try->is_released = true;
	ferry_segments_drop(&flight->attempt.segments);
	try_free_if_over(flight->context, try);
}

/* The deadline passed on a path that cannot be reset: UNKNOWN, though its end is still to come. */
static void try_overdue(struct ferry_flight *flight)
{
	struct ferry_try *try = FERRY_CONTAINER_OF(flight, struct ferry_try, flight);

	ferry_assert(!try->has_ended && !try->is_ghost);
	if (try->route)
		route_try_ended(flight->context, try, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
}

/* ---- The choice of a lane. ---- */

static struct ferry_lane *choose_peer(struct ferry_router *router, uint32_t lanes_failed)
{
	struct ferry_lane *candidates[FERRY_LANES_MAX];
	uint32_t count = 0;
	struct ferry_lane *a;
	struct ferry_lane *b;

	for (uint32_t i = 1; i < router->lanes_count; i++)
		if (ferry_lane_is_usable(&router->lanes[i]) && !(lanes_failed & UINT32_C(1) << i))
			candidates[count++] = &router->lanes[i];
	if (count == 0)
		return NULL;
	/* Two at random, the one with less latency times outstanding (Mitzenmacher, 2001). */
	a = candidates[ferry_prng_below(&router->prng, count)];
	b = candidates[ferry_prng_below(&router->prng, count)];
	if ((a->stats.latency_ns + 1) * (a->flights_count + 1) <=
	    (b->stats.latency_ns + 1) * (b->flights_count + 1))
		return a;
	return b;
}

static struct ferry_lane *choose_lane(struct ferry_router *router, struct ferry_route *route)
{
	struct ferry_lane *local = ferry_router_local(router);
	struct ferry_lane *peer;

	if (ferry_lane_is_usable(local) && !(route->lanes_failed & 1))
		return local;
	peer = choose_peer(router, route->lanes_failed);
	if (peer)
		return peer;
	if (route->lanes_failed == 0)
		return NULL;
	/* All that is usable has failed it once: start over, no faster than lanes are avoided. */
	route->lanes_failed = 0;
	if (ferry_lane_is_usable(local))
		return local;
	return choose_peer(router, 0);
}

static int route_start_on(struct ferry_router *router, struct ferry_route *route,
			  struct ferry_lane *lane)
{
	struct ferry_list *link = ferry_list_pop(&router->tries_free);
	struct ferry_io *io = route->io;
	struct ferry_try *try;
	int r = 0;

	if (!link)
		return -EAGAIN; /* Ghosts have them all: wait until some are laid. */
	try = ferry_list_entry(link, struct ferry_try, link);
	*try = (struct ferry_try){
		.flight = {.attempt = {.op = io->op,
				       .flags = io->flags,
				       .lba = io->lba,
				       .length_blocks = io->length_blocks,
				       .epoch = router->epoch},
			   .on_end = try_end,
			   .on_released = try_released,
			   .on_overdue = try_overdue,
			   .context = router},
		.route = route,
		.flush_covers = router->writes_done,
	};
	ferry_list_init(&try->link);
	if (io->op == FERRY_OP_READ)
		r = ferry_arena_take(router->config.arena,
				     io->length_blocks * router->config.block_bytes,
				     &try->flight.attempt.segments);
	else if (io->op == FERRY_OP_WRITE)
		ferry_segments_share(&io->segments, &try->flight.attempt.segments);
	if (r == 0)
		r = ferry_lane_submit(lane, &try->flight);
	if (r < 0) {
		ferry_segments_drop(&try->flight.attempt.segments);
		ferry_list_prepend(&router->tries_free, &try->link);
	}
	return r;
}

/* ---- Dispatching what waits. ---- */

enum start_result { STARTED, WAIT_FOR_ROOM, WAIT_FOR_LANE, WAIT_FOR_GHOST };

static enum start_result route_start(struct ferry_router *router, struct ferry_route *route)
{
	struct ferry_lane *lane;
	int r;

	if (ghost_is_in_the_way(router, route))
		return WAIT_FOR_GHOST;
	lane = choose_lane(router, route);
	if (!lane)
		return WAIT_FOR_LANE;
	r = route_start_on(router, route, lane);
	if (r == 0) {
		ferry_list_remove(&route->link);
		ferry_list_append(&router->running, &route->link);
		return STARTED;
	}
	if (r == -ENOBUFS) {
		if (!router->arena_waiter.link.next ||
		    !ferry_list_is_linked(&router->arena_waiter.link))
			ferry_arena_wait(router->config.arena, &router->arena_waiter);
		return WAIT_FOR_ROOM;
	}
	if (r == -EOPNOTSUPP) {
		/* DISCARD is advice; whoever needs zeroes is told. */
		route_complete(router, route, route->io->op == FERRY_OP_DISCARD ? 0 : -EIO);
		return STARTED;
	}
	if (r == -ENOTCONN) {
		route->lanes_failed |= lane_bit(router, lane);
		ferry_lane_avoid(lane, 10 * FERRY_NS_PER_MS);
		return WAIT_FOR_LANE;
	}
	ferry_assert(r == -EAGAIN);
	return WAIT_FOR_ROOM;
}

static void note_holding(struct ferry_router *router, bool is_holding)
{
	if (router->is_holding == is_holding)
		return;
	router->is_holding = is_holding;
	if (is_holding)
		emit(router, FERRY_EVENT_HOLD, FERRY_SEVERITY_WARNING, router->routes_count,
		     router->is_open ? "no path can carry I/O: holding it"
				     : "no quorum, or no epoch in force: holding I/O");
	else
		emit(router, FERRY_EVENT_RESUME, FERRY_SEVERITY_NOTICE, router->routes_count,
		     "I/O flows again");
}

/* When a lane that is only avoided becomes usable again. */
static void retry_timer_restart(struct ferry_router *router)
{
	uint64_t now_ns = ferry_loop_now_ns(router_loop(router));
	uint64_t soonest_ns = UINT64_MAX;

	for (uint32_t i = 0; i < router->lanes_count; i++)
		if (router->lanes[i].avoid_until_ns > now_ns)
			soonest_ns = ferry_min_u64(soonest_ns, router->lanes[i].avoid_until_ns);
	if (soonest_ns != UINT64_MAX)
		ferry_timer_start(router_loop(router), &router->retry_timer, soonest_ns);
}

static bool can_carry(const struct ferry_router *router)
{
	for (uint32_t i = 0; router->is_open && i < router->lanes_count; i++)
		if (ferry_lane_is_usable(&router->lanes[i]))
			return true;
	return false;
}

static void dispatch(struct ferry_task *task)
{
	struct ferry_router *router = FERRY_CONTAINER_OF(task, struct ferry_router, dispatch_task);
	bool lacks_lane = false;

	ferry_list_foreach_safe (link, &router->waiting) {
		struct ferry_route *route = ferry_list_entry(link, struct ferry_route, link);
		enum start_result result;

		if (!router->is_open) {
			lacks_lane = true;
			break;
		}
		result = route_start(router, route);
		if (result == WAIT_FOR_ROOM)
			break;
		if (result == WAIT_FOR_LANE) {
			lacks_lane = true;
			/* What no lane takes now, none takes for the next one either. */
			if (route->lanes_failed == 0)
				break;
		}
	}
	/* With nothing left that waits, only a way for the next one ends the holding. */
	if (ferry_list_is_empty(&router->waiting) && router->is_holding)
		lacks_lane = !can_carry(router);
	note_holding(router, lacks_lane);
	if (lacks_lane)
		retry_timer_restart(router);
	hold_timer_restart(router);
}

static void retry_now(struct ferry_timer *timer)
{
	dispatch_soon(FERRY_CONTAINER_OF(timer, struct ferry_router, retry_timer));
}

static void arena_has_room(struct ferry_arena_waiter *waiter)
{
	dispatch_soon(FERRY_CONTAINER_OF(waiter, struct ferry_router, arena_waiter));
}

/* ---- News from lanes. ---- */

static void lane_changed(struct ferry_lane *lane, void *context)
{
	struct ferry_router *router = context;

	(void)lane;
	if (!ferry_list_is_empty(&router->waiting) || router->is_holding)
		dispatch_soon(router);
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
	now = ferry_tracker_observe(&router->tracker, ferry_loop_now_ns(router_loop(router)), works,
				    peer_succeeded);
	if (now == FERRY_VERDICT_LOCAL_PATH)
		ferry_lane_convict(lane, "local failures, peers' successes: it will last");
	if (now == before)
		return;
	emit(router, FERRY_EVENT_VERDICT, FERRY_SEVERITY_WARNING, router->tracker.count,
	     now == FERRY_VERDICT_LOCAL_PATH ? "this node's own path is convicted"
					     : "this node's own path works again");
	router->config.on_verdict(now, router->config.context);
}

/* ---- The room's entrances. ---- */

size_t ferry_router_memory_bytes(uint32_t inflight_max)
{
	ferry_assert(inflight_max > 0 && inflight_max <= FERRY_ROUTES_MAX);
	return inflight_max * sizeof(struct ferry_route) +
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
		.dispatch_task = {.run = dispatch},
		.retry_timer = {.run = retry_now},
		.hold_timer = {.run = hold_over},
		.arena_waiter = {.run = arena_has_room},
		.prng = {.state = config->seed},
	};
	ferry_tracker_init(&router->tracker, config->convict_failures, config->convict_window_ns);
	ferry_list_init(&router->routes_free);
	ferry_list_init(&router->tries_free);
	ferry_list_init(&router->running);
	ferry_list_init(&router->waiting);
	ferry_list_init(&router->awaiting_lay);
	ferry_list_init(&router->ghosts);
	router->routes = ferry_region_take(region, config->inflight_max, sizeof(*router->routes));
	router->tries = ferry_region_take(region, tries_count, sizeof(*router->tries));
	if (!router->routes || !router->tries)
		return -ENOMEM;
	for (uint32_t i = 0; i < config->inflight_max; i++)
		ferry_list_append(&router->routes_free, &router->routes[i].link);
	for (uint32_t i = 0; i < tries_count; i++)
		ferry_list_append(&router->tries_free, &router->tries[i].link);
	return 0;
}

void ferry_router_done(struct ferry_router *router)
{
	ferry_assert(router);
	ferry_assert(router->routes_count == 0);
	for (uint32_t i = 0; i < router->lanes_count; i++)
		ferry_lane_done(&router->lanes[i]);
	ferry_timer_stop(router_loop(router), &router->retry_timer);
	ferry_timer_stop(router_loop(router), &router->hold_timer);
	ferry_task_cancel(router_loop(router), &router->dispatch_task);
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
		.context = router,
	};

	ferry_assert(router && path);
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
	FERRY_ASSERT_ON_LOOP(router_loop(router));
	ferry_assert(io->on_done && !io->route);
	if (router->is_deposed)
		return -ESHUTDOWN;
	link = ferry_list_pop(&router->routes_free);
	if (!link)
		return -EAGAIN;
	route = ferry_list_entry(link, struct ferry_route, link);
	*route = (struct ferry_route){.io = io,
				      .started_ns = ferry_loop_now_ns(router_loop(router))};
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
	    route_start(router, route) == STARTED)
		return 0;
	route_wait(router, route);
	return 0;
}

void ferry_router_open(struct ferry_router *router, struct ferry_epoch epoch)
{
	ferry_assert(router && epoch.v > 0);
	ferry_assert(epoch.v >= router->epoch.v);
	router->epoch = epoch;
	router->is_open = true;
	router->is_deposed = false;
	dispatch_soon(router);
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
	router->is_holding = false;
	/*
	 * Its applications have an error of everything. What they had not flushed was promised to
	 * nobody, and the resets by which others take the lun lose none of the rest.
	 */
	ferry_router_clear_suspect(router);
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
			route_fail(router, ferry_list_entry(link, struct ferry_route, link), error);
	}
	hold_timer_restart(router);
}

bool ferry_router_laid(struct ferry_router *router, struct ferry_lane *lane, uint64_t before_ns,
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
		if (ghost->flight.started_ns > before_ns) {
			left_count++; /* Sent after the abort was asked for: maybe after it. */
			continue;
		}
		laid_count++;
		ghost_lay(router, ghost);
	}
	router->stats.ghosts_laid_abort += laid_count;
	if (laid_count > 0)
		emit(router, FERRY_EVENT_GHOST_LAID, FERRY_SEVERITY_NOTICE, laid_count, by);
	return left_count == 0;
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
	if (lane && (router->config.resets_keep_cache || lane->reset_expected_ns != 0))
		return; /* Of our own making; several may show one after the other. */
	if (has_unflushed(router))
		router->losses_count++;
	if (!has_unflushed(router) || router->flush_is_suspect)
		return;
	router->flush_is_suspect = true;
	emit(router, FERRY_EVENT_FLUSH_SUSPECT, FERRY_SEVERITY_ERROR, 0, what);
}

static void resets_mark(struct ferry_router *router)
{
	for (uint32_t i = 0; i < router->lanes_count; i++)
		router->lanes[i].reset_expected_ns = ferry_loop_now_ns(router_loop(router));
}

void ferry_router_expect_reset(struct ferry_router *router)
{
	ferry_assert(router);
	router->resets_asked++;
	resets_mark(router);
}

void ferry_router_reset_answered(struct ferry_router *router)
{
	ferry_assert(router);
	ferry_assert(router->resets_asked > 0);
	router->resets_asked--;
	resets_mark(router);
}

void ferry_router_clear_suspect(struct ferry_router *router)
{
	ferry_assert(router);
	router->flush_is_suspect = false;
	router->writes_flushed = router->writes_done;
}
