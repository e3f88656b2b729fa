#include "agent/core/router_private.h"

#include "agent/base/museum.h"
#include "agent/core/judge.h"

/* ---- Ranges and ghosts. ---- */

static bool reaches(const struct ferry_attempt *attempt, struct ferry_lba lba,
		    uint32_t length_blocks)
{
	return attempt->lba.v < lba.v + length_blocks &&
	       lba.v < attempt->lba.v + attempt->length_blocks;
}

static bool overlaps(const struct ferry_attempt *attempt, const struct ferry_io *io)
{
	return reaches(attempt, io->lba, io->length_blocks);
}

bool ferry_router_ghost_overlaps(const struct ferry_router *router, struct ferry_lba lba,
				 uint32_t length_blocks)
{
	ferry_list_foreach (link, &router->ghosts)
		if (reaches(&ferry_list_entry(link, struct ferry_try, link)->flight.attempt, lba,
			    length_blocks))
			return true;
	return false;
}

static void try_end(struct ferry_flight *flight, enum ferry_outcome outcome,
		    enum ferry_cause cause);

/* NULL: it is a peer's I/O, or a probe. */
static struct ferry_try *try_of(struct ferry_flight *flight)
{
	return flight->on_end == try_end ? FERRY_CONTAINER_OF(flight, struct ferry_try, flight)
					 : NULL;
}

bool ferry_router_other_write_is_in_flight(const struct ferry_router *router,
					   const struct ferry_route *route)
{
	for (uint32_t i = 0; i < router->lanes_count; i++)
		ferry_list_foreach (link, &router->lanes[i].flights) {
			const struct ferry_try *try =
				try_of(ferry_list_entry(link, struct ferry_flight, link));

			/* Of none any more: laid, or a ghost; those are looked at as ghosts. */
			if (try && try->route && try->route != route &&
			    ferry_op_changes_blocks(try->flight.attempt.op) &&
			    overlaps(&try->flight.attempt, route->io))
				return true;
		}
	return false;
}

/*
 * Its own ghosts are not in a write's way: they bear the same bytes. But what overlaps it and was
 * in flight when they came to be has to end first: acknowledged after it, it would be undone by
 * them.
 */
bool ferry_router_ghost_is_in_the_way(const struct ferry_router *router,
				      const struct ferry_route *route)
{
	if (router->ghosts_count == 0 || !ferry_op_changes_blocks(route->io->op))
		return false;
	if (FERRY_MUSEUM(OVERLAP))
		return false;
	ferry_list_foreach (link, &router->ghosts) {
		const struct ferry_try *ghost = ferry_list_entry(link, struct ferry_try, link);

		if (FERRY_MUSEUM(DONE_IS_LAID) && !ghost->route)
			continue;
		if (ghost->route != route && overlaps(&ghost->flight.attempt, route->io))
			return true;
	}
	if (FERRY_MUSEUM(FLIGHT_BESIDE_GHOST))
		return false;
	return route->ghosts_count > 0 && ferry_router_other_write_is_in_flight(router, route);
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
		ferry_router_dispatch_soon(router);
}

static void route_leave_ghost(struct ferry_router *router, struct ferry_route *route)
{
	route->ghosts_count++;
	route->had_ghosts = true;
	if (router->config.waits_for_ghosts && !router->is_deposed)
		ferry_route_await_lay(router, route);
	else
		ferry_route_wait(router, route);
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
		ferry_router_emit(
			router, FERRY_EVENT_GHOST_MADE, FERRY_SEVERITY_WARNING,
			router->ghosts_count,
			"a write's outcome is unknown: its range takes no write until it is laid");
	if (try->route)
		route_leave_ghost(router, try->route);
	ferry_router_lose(router, try->flight.lane);
	router->config.lay(try->flight.lane, router->config.context);
}

void ferry_ghost_lay(struct ferry_router *router, struct ferry_try *try)
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
		if (--route->ghosts_count == 0 && route->awaits_lay)
			ferry_route_wait(router, route);
	}
	if (!try->has_ended && path->ops->abandon && !FERRY_MUSEUM(GIVEN_UP_RESENT))
		path->ops->abandon(path, &try->flight.attempt);
	try_free_if_over(router, try);
	ferry_router_dispatch_soon(router);
	if (ferry_router_is_idle(router))
		router->config.on_idle(router->config.context);
}

/* The lowest number of what is in flight, or @otherwise. Each lane has its own in order. */
static uint64_t oldest_in_flight(const struct ferry_router *router, uint64_t otherwise)
{
	uint64_t oldest = otherwise;

	for (uint32_t i = 0; i < router->lanes_count; i++) {
		ferry_list_foreach (link, &router->lanes[i].flights) {
			const struct ferry_try *try =
				try_of(ferry_list_entry(link, struct ferry_flight, link));

			if (!try)
				continue;
			oldest = ferry_min_u64(oldest, try->sequence);
			break;
		}
	}
	return oldest;
}

static void router_note_done(struct ferry_router *router, const struct ferry_try *try,
			     const struct ferry_io *io)
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
	if (FERRY_MUSEUM(FLUSH_ONE_PATH) && attempt->op == FERRY_OP_FLUSH)
		ferry_router_keep_clear(router); /* Taken for durable, all of it. */
	if (!ferry_op_changes_blocks(attempt->op))
		return;
	if (router->keep.is_on)
		ferry_router_keep_write(router, try, io);
	else if (!(attempt->flags & FERRY_IO_FUA) &&
		 ferry_flush_wrote(&router->flush, try->sequence,
				   oldest_in_flight(router, try->sequence)))
		ferry_router_emit_suspect(router, "a write was under way when the lun was reset");
}

/* FLUSH tells of what cannot be made durable any more, until somebody clears it (rule 11). */
static enum ferry_next flush_judge(struct ferry_router *router, const struct ferry_try *try,
				   enum ferry_next next, int *error)
{
	struct ferry_flush *flush = &router->flush;

	if (try->sequence <= router->deposed_at) { /* What it was to cover is given up. */
		*error = -ESHUTDOWN;
		return FERRY_NEXT_FAIL;
	}
	if (next == FERRY_NEXT_FAIL && ferry_flush_lost(flush, router->sequence_last))
		ferry_router_emit_suspect(router,
					  "a flush failed: acknowledged writes may be lost");
	if (flush->is_suspect) {
		*error = -EIO;
		return FERRY_NEXT_FAIL;
	}
	if (next != FERRY_NEXT_COMPLETE)
		return next;
	if (!ferry_router_is_vouched(router, try->flight.lane))
		return FERRY_NEXT_RETRY; /* It began anew meanwhile, and knows of nothing. */
	*error = ferry_flush_done(flush, try->flush_covers, try->flush_oldest);
	return FERRY_NEXT_COMPLETE;
}

static void route_try_ended(struct ferry_router *router, struct ferry_try *try,
			    enum ferry_outcome outcome, enum ferry_cause cause)
{
	struct ferry_route *route = TAKE_PTR(try->route);
	bool is_past;
	int error;
	enum ferry_next next = ferry_judge(try->flight.attempt.op, outcome, cause, &error);

	ferry_assert(route && route->io);
	if (route->io->op == FERRY_OP_FLUSH)
		next = flush_judge(router, try, next, &error);
	if (route->io->op == FERRY_OP_READ && next == FERRY_NEXT_COMPLETE &&
	    try->sequence <= try->flight.lane->lost_until)
		next = FERRY_NEXT_RETRY; /* Its path's cache went meanwhile, and what was in it. */
	/*
	 * FUA may be a write and then a flush, and the one beside it was told of the loss: that
	 * this one succeeded says nothing of what was written before that.
	 */
	if (ferry_op_changes_blocks(route->io->op) && (route->io->flags & FERRY_IO_FUA) &&
	    next == FERRY_NEXT_COMPLETE && try->sequence <= router->flush.lost_until)
		next = FERRY_NEXT_RETRY;
	if (FERRY_MUSEUM(PEER_GHOST_FORGOTTEN) && try->flight.lane->path->kind == FERRY_PATH_PEER &&
	    next == FERRY_NEXT_LAY)
		next = FERRY_NEXT_RETRY;
	/*
	 * Acknowledged now it would pass for written in the time of the pool's next owner, whose
	 * FLUSH would say nothing of a loss before that. And that one may have written there:
	 * should the pool be back here, it is neither tried again nor kept for later.
	 */
	is_past = ferry_op_changes_blocks(route->io->op) && try->sequence <= router->deposed_at;
	route->had_ghosts &= !is_past;
	if (is_past && (next == FERRY_NEXT_COMPLETE || next == FERRY_NEXT_RETRY)) {
		next = FERRY_NEXT_FAIL;
		error = -ESHUTDOWN;
	}
	switch (next) {
	case FERRY_NEXT_COMPLETE:
		router_note_done(router, try, route->io);
		if (route->io->op == FERRY_OP_READ) {
			route->io->segments = try->flight.attempt.segments;
			try->flight.attempt.segments.count = 0;
		}
		ferry_route_complete(router, route, error);
		break;
	case FERRY_NEXT_FAIL:
		ferry_route_complete(router, route, error);
		break;
	case FERRY_NEXT_RETRY:
		route->lanes_failed |= ferry_router_lane_bit(router, try->flight.lane);
		ferry_route_wait(router, route);
		break;
	case FERRY_NEXT_LAY:
		route->lanes_failed |= ferry_router_lane_bit(router, try->flight.lane);
		try->route = is_past ? NULL : route;
		ghost_make(router, try);
		if (is_past)
			ferry_route_complete(router, route, -ESHUTDOWN);
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
		ferry_router_emit(router, FERRY_EVENT_GHOST_LAID, FERRY_SEVERITY_NOTICE, 1,
				  "by its own late completion");
		ferry_ghost_lay(router, try);
		return;
	}
	if (try->route)
		route_try_ended(router, try, outcome, cause);
	else if (ferry_router_is_idle(router)) /* No I/O waits for it; who waits to drain may. */
		router->config.on_idle(router->config.context);
	if (FERRY_MUSEUM(EARLY_REUSE))
		ferry_segments_drop(&flight->attempt.segments);
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

int ferry_try_start(struct ferry_router *router, struct ferry_route *route, struct ferry_lane *lane)
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
		.sequence = ++router->sequence_last,
		.flush_covers = router->flush.writes_done,
		.flush_oldest = oldest_in_flight(router, router->sequence_last),
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
