#include "agent/core/router_private.h"

/* ---- The choice of a lane. ---- */

/*
 * Whether @route's I/O may go by @lane now. A FLUSH goes only where a loss would be known: an agent
 * that was not heard of before the writes knows of none.
 */
static bool lane_serves(const struct ferry_router *router, const struct ferry_route *route,
			const struct ferry_lane *lane)
{
	if (!ferry_lane_is_usable(lane))
		return false;
	return route->io->op != FERRY_OP_FLUSH ||
	       (!lane->is_doubtful && ferry_router_is_vouched(router, lane));
}

static struct ferry_lane *choose_peer(struct ferry_router *router, const struct ferry_route *route)
{
	struct ferry_lane *candidates[FERRY_LANES_MAX];
	uint32_t count = 0;
	struct ferry_lane *a;
	struct ferry_lane *b;

	for (uint32_t i = 1; i < router->lanes_count; i++)
		if (lane_serves(router, route, &router->lanes[i]) &&
		    !(route->lanes_failed & UINT32_C(1) << i))
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

	if (lane_serves(router, route, local) && !(route->lanes_failed & 1))
		return local;
	peer = choose_peer(router, route);
	if (peer)
		return peer;
	if (route->lanes_failed == 0 || route->ghosts_count > 0)
		return NULL; /* One ghost on each lane is enough. */
	/* All that is usable has failed it once: start over, no faster than lanes are avoided. */
	route->lanes_failed = 0;
	if (lane_serves(router, route, local))
		return local;
	return choose_peer(router, route);
}

/* ---- Dispatching what waits. ---- */

enum ferry_start ferry_route_start(struct ferry_router *router, struct ferry_route *route)
{
	struct ferry_lane *lane;
	enum ferry_start may = ferry_router_keep_look(router, route, &lane);
	int r;

	if (may != FERRY_START_MAY)
		return may;
	if (ferry_router_ghost_is_in_the_way(router, route))
		return FERRY_START_GHOST;
	if (!lane)
		lane = choose_lane(router, route);
	if (!lane && route->ghosts_count > 0) {
		ferry_route_await_lay(router, route);
		return FERRY_START_STARTED;
	}
	if (!lane)
		return FERRY_START_NO_LANE;
	r = ferry_try_start(router, route, lane);
	if (r == 0) {
		ferry_list_remove(&route->link);
		ferry_list_append(&router->running, &route->link);
		return FERRY_START_STARTED;
	}
	if (r == -ENOBUFS) {
		if (!router->arena_waiter.link.next ||
		    !ferry_list_is_linked(&router->arena_waiter.link))
			ferry_arena_wait(router->config.arena, &router->arena_waiter);
		return FERRY_START_NO_ROOM;
	}
	if (r == -EOPNOTSUPP) {
		/* DISCARD is advice; whoever needs zeroes is told. */
		ferry_route_complete(router, route, route->io->op == FERRY_OP_DISCARD ? 0 : -EIO);
		return FERRY_START_STARTED;
	}
	if (r == -ENOTCONN) {
		route->lanes_failed |= ferry_router_lane_bit(router, lane);
		ferry_lane_avoid(lane, 10 * FERRY_NS_PER_MS);
		return FERRY_START_NO_LANE;
	}
	ferry_assert(r == -EAGAIN);
	return FERRY_START_NO_ROOM;
}

/* @why: what keeps I/O from flowing, or NULL. */
static void note_holding(struct ferry_router *router, const char *why)
{
	if (router->is_holding == (why != NULL))
		return;
	router->is_holding = why != NULL;
	ferry_router_emit(router, why ? FERRY_EVENT_HOLD : FERRY_EVENT_RESUME,
			  why ? FERRY_SEVERITY_WARNING : FERRY_SEVERITY_NOTICE,
			  router->routes_count, why ? why : "I/O flows again");
}

/* When a lane that is only avoided becomes usable again. */
static void retry_timer_restart(struct ferry_router *router)
{
	uint64_t now_ns = ferry_loop_now_ns(ferry_router_loop(router));
	uint64_t soonest_ns = UINT64_MAX;

	for (uint32_t i = 0; i < router->lanes_count; i++)
		if (router->lanes[i].avoid_until_ns > now_ns)
			soonest_ns = ferry_min_u64(soonest_ns, router->lanes[i].avoid_until_ns);
	if (soonest_ns != UINT64_MAX)
		ferry_timer_start(ferry_router_loop(router), &router->retry_timer, soonest_ns);
}

static bool can_carry(const struct ferry_router *router)
{
	for (uint32_t i = 0; router->is_open && i < router->lanes_count; i++)
		if (ferry_lane_is_usable(&router->lanes[i]))
			return true;
	return false;
}

/* Have peers that are new here say what they have seen; whether one of them has yet to. */
static bool peers_greet(struct ferry_router *router)
{
	bool is_due = false;

	for (uint32_t i = 1; router->is_open && i < router->lanes_count; i++) {
		ferry_lane_greet(&router->lanes[i], router->epoch);
		is_due |= !router->lanes[i].is_greeted;
	}
	return is_due;
}

static const char *why_held(const struct ferry_router *router, bool lacks_lane)
{
	if (!router->is_open)
		return lacks_lane ? "no quorum, or no epoch in force: holding I/O" : NULL;
	if (lacks_lane)
		return "no path can carry I/O: holding it";
	if (!ferry_list_is_empty(&router->waiting) && ferry_list_is_empty(&router->tries_free))
		return "too many writes may yet land: holding I/O until some are laid";
	return NULL;
}

/* Those that found no lane to be tried on beside their ghosts: perhaps there is one by now. */
static void revive(struct ferry_router *router)
{
	if (router->config.waits_for_ghosts || !router->is_open)
		return;
	ferry_list_foreach_safe (link, &router->awaiting_lay) {
		struct ferry_route *route = ferry_list_entry(link, struct ferry_route, link);

		if (choose_lane(router, route))
			ferry_route_wait(router, route);
	}
}

void ferry_router_dispatch(struct ferry_task *task)
{
	struct ferry_router *router = FERRY_CONTAINER_OF(task, struct ferry_router, dispatch_task);
	bool lacks_lane = false;

	revive(router);
	ferry_list_foreach_safe (link, &router->waiting) {
		struct ferry_route *route = ferry_list_entry(link, struct ferry_route, link);
		enum ferry_start result;

		if (!router->is_open) {
			lacks_lane = true;
			break;
		}
		result = ferry_route_start(router, route);
		if (result == FERRY_START_NO_ROOM)
			break;
		if (result == FERRY_START_NO_LANE) {
			lacks_lane = true;
			/* What no lane takes now, none takes for the next one either. */
			if (route->lanes_failed == 0 && route->io->op != FERRY_OP_FLUSH)
				break;
		}
	}
	/* With nothing left that waits, only a way for the next one ends the holding. */
	if (ferry_list_is_empty(&router->waiting) && router->is_holding)
		lacks_lane = !can_carry(router);
	ferry_router_upkeep(router);
	note_holding(router, why_held(router, lacks_lane));
	if (peers_greet(router) || lacks_lane || !ferry_list_is_empty(&router->awaiting_lay))
		retry_timer_restart(router);
	ferry_router_hold_timer_restart(router);
}

void ferry_router_retry_now(struct ferry_timer *timer)
{
	ferry_router_dispatch_soon(FERRY_CONTAINER_OF(timer, struct ferry_router, retry_timer));
}

void ferry_router_arena_has_room(struct ferry_arena_waiter *waiter)
{
	ferry_router_dispatch_soon(FERRY_CONTAINER_OF(waiter, struct ferry_router, arena_waiter));
}
