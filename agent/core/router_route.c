#include "agent/core/router_private.h"

void ferry_router_hold_timer_restart(struct ferry_router *router)
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
		ferry_timer_stop(ferry_router_loop(router), &router->hold_timer);
	else
		ferry_timer_start(ferry_router_loop(router), &router->hold_timer,
				  oldest_ns + router->config.hold_timeout_ns);
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

void ferry_route_complete(struct ferry_router *router, struct ferry_route *route, int error)
{
	struct ferry_io *io = route->io;
	uint64_t took_ns = ferry_loop_now_ns(ferry_router_loop(router)) - route->started_ns;

	ferry_assert(io && io->route == route);
	ferry_assert(error <= 0);
	route_forget_tries(router, route);
	if (error < 0)
		ferry_router_keep_failed(router, route);
	ferry_list_remove(&route->link);
	route->io = NULL;
	ferry_list_prepend(&router->routes_free, &route->link);
	router->routes_count--;
	router->stats.latency_ns_max = ferry_max_u64(router->stats.latency_ns_max, took_ns);
	if (error < 0) {
		router->stats.errors++;
		if ((router->stats.errors & (router->stats.errors - 1)) == 0) /* 1, 2, 4, ... */
			ferry_router_emit(router, FERRY_EVENT_IO_FAILED, FERRY_SEVERITY_ERROR,
					  (uint64_t)-error, "an application was told of an error");
	}
	io->route = NULL;
	io->on_done(io, error);
	if (ferry_router_is_idle(router))
		router->config.on_idle(router->config.context);
}

void ferry_router_hold_over(struct ferry_timer *timer)
{
	struct ferry_router *router = FERRY_CONTAINER_OF(timer, struct ferry_router, hold_timer);
	uint64_t now_ns = ferry_loop_now_ns(ferry_router_loop(router));
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
			ferry_route_complete(router,
					     ferry_list_entry(link, struct ferry_route, link),
					     -ETIMEDOUT);
	}
	ferry_router_hold_timer_restart(router);
}

void ferry_route_wait(struct ferry_router *router, struct ferry_route *route)
{
	if (router->is_deposed) { /* Others write now: it must not be there when we own again. */
		ferry_route_complete(router, route, -ESHUTDOWN);
		return;
	}
	ferry_list_remove(&route->link);
	route->awaits_lay = false;
	ferry_list_append(&router->waiting, &route->link);
	if (!ferry_timer_is_started(&router->hold_timer))
		ferry_router_hold_timer_restart(router);
	ferry_router_dispatch_soon(router);
}

void ferry_route_await_lay(struct ferry_router *router, struct ferry_route *route)
{
	ferry_assert(route->ghosts_count > 0);
	ferry_list_remove(&route->link);
	route->awaits_lay = true;
	ferry_list_append(&router->awaiting_lay, &route->link);
	ferry_router_hold_timer_restart(router);
}
