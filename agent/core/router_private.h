/*
 * router_private.h - the router's insides, shared by its files.
 *
 * Owns:    nothing.
 * Callers: router.c (entrances), router_route.c (I/Os, their patience and their end), router_try.c
 *          (tries and ghosts), router_dispatch.c (which lane, and when).
 * Thread:  the pool's data loop.
 * Rooms:   private to the router.
 */
#pragma once

#include "agent/core/router.h"

static inline struct ferry_loop *ferry_router_loop(const struct ferry_router *router)
{
	return router->config.loop;
}

/* Whether a FLUSH by @lane says anything of what is unflushed. */
static inline bool ferry_router_is_vouched(const struct ferry_router *router,
					   const struct ferry_lane *lane)
{
	return router->config.restarts_are_told ||
	       ferry_flush_is_vouched(&router->flush, lane->vouches_since);
}

static inline uint32_t ferry_router_lane_bit(const struct ferry_router *router,
					     const struct ferry_lane *lane)
{
	return UINT32_C(1) << (lane - router->lanes);
}

static inline void ferry_router_dispatch_soon(struct ferry_router *router)
{
	ferry_task_post(ferry_router_loop(router), &router->dispatch_task);
}

void ferry_router_emit(struct ferry_router *router, enum ferry_event_kind kind,
		       enum ferry_severity severity, uint64_t value, const char *text);

void ferry_router_emit_suspect(struct ferry_router *router, const char *why);

/* ---- router_route.c ---- */

/* Put a route back to wait for a lane; or for its ghosts. */
void ferry_route_wait(struct ferry_router *router, struct ferry_route *route);
void ferry_route_await_lay(struct ferry_router *router, struct ferry_route *route);

/* The application is told; @route is free. Its ghosts live on without it. */
void ferry_route_complete(struct ferry_router *router, struct ferry_route *route, int error);

void ferry_router_hold_over(struct ferry_timer *timer);
void ferry_router_hold_timer_restart(struct ferry_router *router);

/* ---- router_try.c ---- */

/* Rule 4: whether something that may yet land keeps @route's I/O from being sent. */
bool ferry_router_ghost_is_in_the_way(const struct ferry_router *router,
				      const struct ferry_route *route);

/* Send @route's I/O on @lane. Errors: ferry_lane_submit()'s, -ENOBUFS. */
int ferry_try_start(struct ferry_router *router, struct ferry_route *route,
		    struct ferry_lane *lane);

/* The ghost is proven dead: whoever waited for it, or for its range, may go on. */
void ferry_ghost_lay(struct ferry_router *router, struct ferry_try *try);

enum ferry_start {
	FERRY_START_MAY = 1,
	FERRY_START_STARTED, /* Or it is over, or waits elsewhere. */
	FERRY_START_NO_ROOM,
	FERRY_START_NO_LANE,
	FERRY_START_GHOST,
};

/* Whether a ghost may yet land in this range. */
bool ferry_router_ghost_overlaps(const struct ferry_router *router, struct ferry_lba lba,
				 uint32_t length_blocks);

/* Whether an overlapping write, not @route's own, is under way. */
bool ferry_router_other_write_is_in_flight(const struct ferry_router *router,
					   const struct ferry_route *route);

/* ---- router_keep.c ---- */

/* What @lane's cache had may be lost; NULL: every lane's. */
void ferry_router_lose(struct ferry_router *router, struct ferry_lane *lane);

/* @try is DONE: a write of an application, or one anew. */
void ferry_router_keep_write(struct ferry_router *router, const struct ferry_try *try,
			     const struct ferry_io *io);

/* @route is about to fail: some path may have it all the same. */
void ferry_router_keep_failed(struct ferry_router *router, const struct ferry_route *route);

/* MAY: it may start; on @ret_lane only, if that is not NULL. */
enum ferry_start ferry_router_keep_look(struct ferry_router *router, struct ferry_route *route,
					struct ferry_lane **ret_lane);

void ferry_router_upkeep(struct ferry_router *router);
void ferry_router_keep_clear(struct ferry_router *router);

/* ---- router_dispatch.c ---- */

enum ferry_start ferry_route_start(struct ferry_router *router, struct ferry_route *route);

void ferry_router_dispatch(struct ferry_task *task);
void ferry_router_retry_now(struct ferry_timer *timer);
void ferry_router_arena_has_room(struct ferry_arena_waiter *waiter);
