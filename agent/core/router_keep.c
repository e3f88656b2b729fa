#include "agent/core/router_private.h"

#include "agent/base/museum.h"

/* Flush scope "path": flushing each path, and writing anew what a lost one had (rule 10). */

static struct ferry_router *router_of(struct ferry_flight *flight)
{
	return flight->context;
}

void ferry_router_lose(struct ferry_router *router, struct ferry_lane *lane)
{
	if (!router->keep.is_on || FERRY_MUSEUM(LOST_PATH_FORGOTTEN))
		return;
	for (uint32_t i = 0; i < router->lanes_count; i++)
		if (!lane || lane == &router->lanes[i])
			router->lanes[i].lost_until = router->sequence_last;
	if (!ferry_keep_orphan(&router->keep, lane))
		return;
	ferry_router_emit(router, FERRY_EVENT_ADMIN, FERRY_SEVERITY_WARNING, router->keep.count,
			  "a path's cache may be lost: its unflushed writes are written anew");
	ferry_router_dispatch_soon(router);
}

void ferry_router_keep_clear(struct ferry_router *router)
{
	router->replayed = NULL;
	ferry_keep_clear(&router->keep);
}

/* ---- Flushing a path. ---- */

static void flush_overdue(struct ferry_flight *flight)
{
	ferry_router_lose(router_of(flight), flight->lane);
}

static void flush_ended(struct ferry_flight *flight, enum ferry_outcome outcome,
			enum ferry_cause cause)
{
	struct ferry_router *router = router_of(flight);
	struct ferry_keep *keep = &router->keep;

	(void)cause; /* The lane has noted it. */
	if (outcome == FERRY_OUTCOME_DONE) {
		keep->rounds = 0;
		ferry_keep_flushed(keep, flight->lane,
				   router->keep_stamps[flight->lane - router->lanes]);
		return;
	}
	ferry_router_lose(router, flight->lane);
	if (outcome != FERRY_OUTCOME_FAILED || cause == FERRY_CAUSE_UNSENT ||
	    ++keep->rounds < FERRY_KEEP_ROUNDS_MAX)
		return;
	/* Written anew and flushed, again and again, and none of it can be made durable. */
	keep->rounds = 0;
	ferry_router_keep_clear(router);
	if (ferry_flush_give_up(&router->flush))
		ferry_router_emit_suspect(router, "flushes fail: acknowledged writes may be lost");
}

static void flush_released(struct ferry_flight *flight)
{
	struct ferry_router *router = router_of(flight);

	router->keep.lanes_flushed &= ~ferry_router_lane_bit(router, flight->lane);
	ferry_router_dispatch_soon(router);
}

/* Whether somebody waits for what @lane has. */
static bool is_flush_due(const struct ferry_router *router, const struct ferry_lane *lane)
{
	return ferry_keep_oldest(&router->keep, lane) <= router->keep.flush_until;
}

static void lane_look(struct ferry_router *router, struct ferry_lane *lane)
{
	if (!lane->path->is_up || (is_flush_due(router, lane) && !ferry_lane_is_usable(lane)))
		ferry_router_lose(router, lane);
}

static void lane_flush(struct ferry_router *router, uint32_t i)
{
	struct ferry_keep *keep = &router->keep;
	struct ferry_lane *lane = &router->lanes[i];
	int r;

	if (!is_flush_due(router, lane) ||
	    keep->lanes_flushed & ferry_router_lane_bit(router, lane))
		return;
	router->keep_flushes[i] = (struct ferry_flight){
		.attempt = {.op = FERRY_OP_FLUSH, .epoch = router->epoch},
		.on_end = flush_ended,
		.on_released = flush_released,
		.on_overdue = flush_overdue,
		.context = router,
	};
	router->keep_stamps[i] = keep->stamp_last;
	r = ferry_lane_submit(lane, &router->keep_flushes[i]);
	if (r == 0)
		keep->lanes_flushed |= ferry_router_lane_bit(router, lane);
	else if (r != -EAGAIN) /* Full: lane_changed() comes. */
		ferry_router_lose(router, lane);
}

/* ---- Writing anew: an I/O of the router's own, one at a time, in order. ---- */

static void replay_done(struct ferry_io *io, int error)
{
	struct ferry_router *router = FERRY_CONTAINER_OF(io, struct ferry_router, keep_io);
	struct ferry_kept *kept = TAKE_PTR(router->replayed);

	ferry_segments_drop(&io->segments);
	router->keep.is_replaying = false;
	ferry_router_dispatch_soon(router);
	if (!kept)
		return; /* Cleared meanwhile. */
	/* Another path may not know DISCARD, and then it is nobody's loss. */
	if (kept->op == FERRY_OP_DISCARD && !kept->lane)
		ferry_keep_drop(&router->keep, kept);
	if (error != -EIO && error != -ENOSPC)
		return; /* Done; or tried again as long as this node owns the pool. */
	ferry_keep_drop(&router->keep, kept);
	if (ferry_flush_give_up(&router->flush))
		ferry_router_emit_suspect(router, "an acknowledged write could not be kept");
}

/* The first that nothing older which cannot be written yet, and no ghost, is in the way of. */
static struct ferry_kept *replay_next(struct ferry_router *router)
{
	struct ferry_keep *keep = &router->keep;
	struct ferry_kept *kept = NULL;

	while ((kept = ferry_keep_next_orphan(keep, kept)))
		if (!ferry_router_ghost_overlaps(router, kept->lba, kept->length_blocks) &&
		    ferry_keep_find(keep, kept->lba, kept->length_blocks, true) == kept)
			return kept;
	return NULL;
}

static void replay(struct ferry_router *router, struct ferry_kept *kept)
{
	if (router->keep.is_replaying)
		return;
	router->keep_io = (struct ferry_io){.op = kept->op,
					    .flags = kept->flags,
					    .lba = kept->lba,
					    .length_blocks = kept->length_blocks,
					    .on_done = replay_done};
	ferry_segments_share(&kept->segments, &router->keep_io.segments);
	router->keep.is_replaying = true;
	router->replayed = kept;
	if (ferry_router_submit(router, &router->keep_io) < 0) {
		ferry_segments_drop(&router->keep_io.segments);
		router->keep.is_replaying = false;
		router->replayed = NULL;
	}
}

void ferry_router_upkeep(struct ferry_router *router)
{
	struct ferry_kept *kept;

	if (!router->keep.is_on || !router->is_open)
		return;
	for (uint32_t i = 0; i < router->lanes_count; i++)
		lane_look(router, &router->lanes[i]);
	kept = replay_next(router);
	if (kept)
		replay(router, kept);
	if (kept && !router->keep.is_replay_split)
		return;
	for (uint32_t i = 0; i < router->lanes_count; i++)
		lane_flush(router, i);
}

/* ---- What the router does with applications' I/O. ---- */

void ferry_router_keep_write(struct ferry_router *router, const struct ferry_try *try,
			     const struct ferry_io *io)
{
	const struct ferry_attempt *attempt = &try->flight.attempt;
	struct ferry_keep *keep = &router->keep;
	struct ferry_lane *lane = try->flight.lane;

	/* It was on its way when the cache was lost: maybe it was in it. */
	if (try->sequence <= lane->lost_until) {
		lane = NULL;
		ferry_router_dispatch_soon(router);
	}
	if (io == &router->keep_io) {
		if (router->replayed) {
			router->replayed->lane = lane;
			router->replayed->stamp = ++keep->stamp_last;
		}
		return;
	}
	if (attempt->flags & FERRY_IO_FUA)
		return; /* Durable; and nothing older that it overlaps is kept: see below. */
	ferry_keep_add(keep, attempt, lane);
}

/*
 * What a path has taken of it is read, and what was read before a FLUSH has to stay: that path's
 * cache alone must not have it. So it is written anew, as if it had been acknowledged.
 */
void ferry_router_keep_failed(struct ferry_router *router, const struct ferry_route *route)
{
	const struct ferry_io *io = route->io;

	if (!router->keep.is_on || !route->had_ghosts || router->is_deposed ||
	    io == &router->keep_io)
		return;
	ferry_assert(ferry_op_changes_blocks(io->op));
	ferry_keep_add(&router->keep,
		       &(struct ferry_attempt){.op = io->op,
					       .flags = io->flags & ~(uint32_t)FERRY_IO_FUA,
					       .lba = io->lba,
					       .length_blocks = io->length_blocks,
					       .segments = io->segments},
		       /* lane= */ NULL);
	ferry_router_dispatch_soon(router);
}

static enum ferry_start flush_start(struct ferry_router *router, struct ferry_route *route)
{
	struct ferry_keep *keep = &router->keep;

	if (route->keep_until == 0)
		route->keep_until = keep->number_last;
	keep->flush_until = ferry_max_u64(keep->flush_until, route->keep_until);
	if (ferry_keep_oldest(keep, /* lane= */ NULL) <= route->keep_until)
		return FERRY_START_GHOST;
	ferry_route_complete(router, route, router->flush.is_suspect ? -EIO : 0);
	return FERRY_START_STARTED;
}

/* What is written anew waits for flushes too then, which else come after it. */
static bool is_split(struct ferry_keep *keep, const struct ferry_io *io, bool is_replay)
{
	bool is_it = ferry_keep_is_split(keep, io->lba, io->length_blocks);

	if (is_replay)
		keep->is_replay_split = is_it;
	return is_it;
}

enum ferry_start ferry_router_keep_look(struct ferry_router *router, struct ferry_route *route,
					struct ferry_lane **ret_lane)
{
	struct ferry_keep *keep = &router->keep;
	const struct ferry_io *io = route->io;
	bool is_replay = io == &router->keep_io;
	struct ferry_kept *orphan;
	struct ferry_kept *kept;

	*ret_lane = NULL;
	if (!keep->is_on)
		return FERRY_START_MAY;
	if (io->op == FERRY_OP_FLUSH && FERRY_MUSEUM(FLUSH_ONE_PATH))
		return FERRY_START_MAY;
	if (io->op == FERRY_OP_FLUSH)
		return keep->count == 0 && route->keep_until == 0 ? FERRY_START_MAY
								  : flush_start(router, route);
	if (ferry_op_changes_blocks(io->op) && !ferry_keep_has_room(keep) && !is_replay) {
		keep->flush_until = keep->number_last;
		return FERRY_START_GHOST;
	}
	/*
	 * Which of two at once was the last, only the lun would know. And a read goes to the path
	 * that has it; what it saw of one that is not kept yet could be undone by writing anew.
	 */
	if (ferry_router_other_write_is_in_flight(router, route))
		return FERRY_START_GHOST;
	if (is_split(keep, io, is_replay)) {
		keep->flush_until = keep->number_last;
		return FERRY_START_GHOST;
	}
	kept = ferry_keep_find(keep, io->lba, io->length_blocks, /* is_orphan= */ false);
	/* What is durable once it is done must not be written over by what is older. */
	if (kept && !is_replay && io->flags & FERRY_IO_FUA && ferry_op_changes_blocks(io->op)) {
		keep->flush_until = keep->number_last;
		return FERRY_START_GHOST;
	}
	if (kept && !ferry_lane_is_usable(kept->lane)) {
		ferry_router_lose(router, kept->lane);
		kept = NULL;
	}
	orphan = ferry_keep_find(keep, io->lba, io->length_blocks, /* is_orphan= */ true);
	if (is_replay && orphan != router->replayed) {
		/* What it was to follow is lost again: that has to come anew before it. */
		router->replayed = NULL;
		ferry_route_complete(router, route, 0);
		return FERRY_START_STARTED;
	}
	if (!is_replay && orphan)
		return FERRY_START_GHOST;
	if (kept)
		*ret_lane = kept->lane;
	return FERRY_START_MAY;
}
