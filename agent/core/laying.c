#include "agent/core/laying.h"

#include <stdio.h>

#include "agent/base/museum.h"
#include "agent/core/key.h"

#define RETRY_NS (150 * FERRY_NS_PER_MS)
enum { OWNER_TRIES = 16, DELAY_TRIES = 8 };

static struct ferry_laying_wish *wish_of(const struct ferry_laying *laying,
					 const struct ferry_lane *lane)
{
	size_t index = (size_t)(lane - laying->config.router->lanes);
	union {
		const struct ferry_laying_wish *in;
		struct ferry_laying_wish *out;
	} wish = {.in = &laying->wishes[index]};

	ferry_assert(index < FERRY_LANES_MAX);
	return wish.out;
}

static void wish_over(struct ferry_laying_wish *wish, int error, const char *by)
{
	struct ferry_laying *laying = wish->laying;
	struct ferry_lane *lane = wish->lane;
	struct ferry_event event = {.kind = FERRY_EVENT_LAY_FAILED,
				    .severity = FERRY_SEVERITY_WARNING,
				    .value = wish->attempts,
				    .time_ns = ferry_loop_now_ns(laying->config.loop)};

	ferry_assert(wish->is_asking);
	wish->is_asking = false;
	if (laying->is_over)
		return;
	ferry_router_reset_answered(laying->config.router);
	if (error == 0 || wish->is_settled) {
		wish->lane = NULL;
		if (lane == ferry_router_local(laying->config.router))
			laying->victim_local = laying->config.own;
		if (wish->is_settled && wish->is_wanted_anew)
			ferry_laying_want(laying, lane);
		else if (!wish->is_settled)
			laying->config.on_laid(lane, wish->asked_at, by, laying->config.context);
		return;
	}
	laying->failures++;
	(void)snprintf(event.pool, sizeof(event.pool), "%s", laying->config.pool);
	if ((wish->attempts & (wish->attempts - 1)) == 0) { /* The 1st, 2nd, 4th, 8th, ... */
		ferry_event_emit(laying->config.events, event, "%s: error %d; trying again", by,
				 -error);
		if (wish->attempts >= DELAY_TRIES &&
		    lane == ferry_router_local(laying->config.router))
			laying->config.on_delayed(laying->config.context);
	}
	ferry_timer_start_in(laying->config.loop, &laying->retry_timer, RETRY_NS);
}

static void peer_answered(struct ferry_peer_lay *lay, int error)
{
	wish_over(lay->context, error, "a peer's abort at the lun");
}

static void lun_answered(struct ferry_fence_request *request, int error)
{
	struct ferry_laying_wish *wish = request->context;
	struct ferry_laying *laying = wish->laying;

	if (error == -EACCES)
		laying->config.on_unregistered(laying->config.context);
	wish_over(wish, error, "this node's abort at the lun");
}

static void lun_was_reset(struct ferry_fence_request *request, int error)
{
	wish_over(request->context, error, "a reset of the lun, in a new session");
}

static bool ask_reset(struct ferry_laying_wish *wish)
{
	struct ferry_laying *laying = wish->laying;
	const struct ferry_lane *local = ferry_router_local(laying->config.router);

	ferry_assert(wish->lane == local && !local->is_allowed);
	if (!local->path->is_up)
		return false;
	wish->by_self = (struct ferry_fence_request){.op = FERRY_FENCE_RESET,
						     .own = laying->config.own,
						     .on_done = lun_was_reset,
						     .context = wish};
	ferry_fence_submit(laying->config.fence, &wish->by_self);
	return true;
}

static bool ask_self(struct ferry_laying_wish *wish, struct ferry_key victim)
{
	struct ferry_laying *laying = wish->laying;
	const struct ferry_lane *local = ferry_router_local(laying->config.router);

	if (wish->lane == local || !local->path->is_up ||
	    !laying->config.may_abort(laying->config.context))
		return false;
	wish->by_self = (struct ferry_fence_request){.op = FERRY_FENCE_PREEMPT,
						     .own = laying->config.own,
						     .victim = victim,
						     .on_done = lun_answered,
						     .context = wish};
	ferry_fence_submit(laying->config.fence, &wish->by_self);
	return true;
}

static bool ask_lane(struct ferry_laying_wish *wish, struct ferry_lane *lane,
		     struct ferry_key victim)
{
	struct ferry_laying *laying = wish->laying;

	if (lane == wish->lane || !lane->path->is_up)
		return false;
	wish->by_peer =
		(struct ferry_peer_lay){.lun = laying->config.lun,
					.lineage = laying->config.lineage,
					.epoch = {ferry_max_u64(laying->config.view->epoch.v, 1)},
					.victim = victim,
					.on_done = peer_answered,
					.context = wish};
	return ferry_peer_lay(laying->config.peer_of(lane, laying->config.context),
			      &wish->by_peer) == 0;
}

/*
 * Who owns the pool is asked first: the abort may reset the lun, and an owner that didn't expect it
 * would take its unflushed writes for lost. Then each time another peer, so that one that cannot
 * does not stand in the way.
 */
/*
 * A LUN RESET that the owner has not been told of looks to it like a restarted target, and its
 * flushes would fail. So it is the one to ask, unless it cannot be reached for some tries.
 */
static bool owner_comes_first(const struct ferry_laying_wish *wish)
{
	const struct ferry_laying *laying = wish->laying;
	struct ferry_node owner = laying->config.view->owner;

	return owner.v != 0 && owner.v != laying->config.router->config.self.v &&
	       ferry_view_has_member(laying->config.view, owner) && wish->attempts < OWNER_TRIES;
}

static bool ask_peer(struct ferry_laying_wish *wish, struct ferry_key victim)
{
	struct ferry_laying *laying = wish->laying;
	struct ferry_router *router = laying->config.router;
	uint32_t peers_count = router->lanes_count - 1;

	for (uint32_t i = 1; i <= peers_count; i++)
		if (router->lanes[i].path->node.v == laying->config.view->owner.v &&
		    wish->attempts % 4 != 3 && ask_lane(wish, &router->lanes[i], victim))
			return true;
	if (owner_comes_first(wish))
		return false; /* A moment later, when the link to it is up again. */
	for (uint32_t i = 0; i < peers_count; i++) {
		struct ferry_lane *lane = &router->lanes[1 + (wish->attempts + i) % peers_count];

		/* Those without a path for I/O may still have a session and a key. */
		if (wish->attempts % 2 == 0 && !lane->peer_has_path)
			continue;
		if (ask_lane(wish, lane, victim))
			return true;
	}
	return false;
}

/*
 * No peer could be asked. A reset ends everybody's commands: only while no other node owns the
 * pool, and where a new session and the reset are known to be a proof; else it is refused.
 */
static bool nobody_else_owns(const struct ferry_laying_wish *wish)
{
	const struct ferry_laying *laying = wish->laying;
	struct ferry_node owner = laying->config.view->owner;

	return wish->lane == ferry_router_local(laying->config.router) && !wish->lane->is_allowed &&
	       (owner.v == 0 || owner.v == laying->config.router->config.self.v);
}

static void wish_try(struct ferry_laying_wish *wish)
{
	struct ferry_laying *laying = wish->laying;
	const struct ferry_lane *local = ferry_router_local(laying->config.router);
	struct ferry_key victim = laying->victim_local;

	ferry_assert(wish->lane && !wish->is_asking);
	if (wish->lane != local) {
		const struct ferry_peer *peer =
			laying->config.peer_of(wish->lane, laying->config.context);

		ferry_assert(peer->incarnation.v > 0); /* It carried for us, so it was up. */
		victim = ferry_key_make(peer->node, peer->incarnation);
	}
	wish->is_asking = true;
	ferry_router_expect_reset(laying->config.router);
	wish->asked_at = laying->config.router->sequence_last;
	/*
	 * Up to there. A peer that is back before the answer would execute after the abort what a
	 * new link asks it for again.
	 */
	if (!FERRY_MUSEUM(LAID_RESENT))
		ferry_lane_give_up(wish->lane);
	if (laying->config.is_alone) {
		wish->attempts++;
		if (ask_reset(wish))
			return;
	} else if ((wish->attempts++ % 3 != 2 && !owner_comes_first(wish) &&
		    ask_self(wish, victim)) ||
		   ask_peer(wish, victim) || (nobody_else_owns(wish) && ask_reset(wish))) {
		return;
	}
	wish->is_asking = false;
	ferry_router_reset_answered(laying->config.router);
	ferry_timer_start_in(laying->config.loop, &laying->retry_timer, RETRY_NS);
}

static void retry_all(struct ferry_timer *timer)
{
	struct ferry_laying *laying = FERRY_CONTAINER_OF(timer, struct ferry_laying, retry_timer);

	for (size_t i = 0; i < FERRY_LANES_MAX; i++)
		if (laying->wishes[i].lane && !laying->wishes[i].is_asking)
			wish_try(&laying->wishes[i]);
}

void ferry_laying_init(struct ferry_laying *laying, const struct ferry_laying_config *config)
{
	ferry_assert(config->loop && config->router);
	ferry_assert(config->peer_of && config->on_laid && config->view);
	ferry_assert(config->on_unregistered && config->on_delayed && config->may_abort);
	*laying = (struct ferry_laying){
		.config = *config, .victim_local = config->own, .retry_timer = {.run = retry_all}};
}

void ferry_laying_done(struct ferry_laying *laying)
{
	laying->is_over = true;
	ferry_timer_stop(laying->config.loop, &laying->retry_timer);
}

void ferry_laying_want(struct ferry_laying *laying, struct ferry_lane *lane)
{
	struct ferry_laying_wish *wish = wish_of(laying, lane);

	wish->is_wanted_anew = wish->lane && wish->is_settled;
	if (!laying->config.fence || wish->lane)
		return; /* Without reservations only its own completion lays a ghost. */
	wish->laying = laying;
	wish->lane = lane;
	wish->is_settled = false;
	wish->attempts = 0;
	/* From a fresh stack, and after what else ended at the same moment: no delay worth it. */
	ferry_timer_start_in(laying->config.loop, &laying->retry_timer, 0);
}

void ferry_laying_settle(struct ferry_laying *laying, struct ferry_lane *lane)
{
	struct ferry_laying_wish *wish = wish_of(laying, lane);

	if (wish->is_asking)
		wish->is_settled = true;
	else
		wish->lane = NULL;
}

bool ferry_laying_is_wanted(const struct ferry_laying *laying, const struct ferry_lane *lane)
{
	const struct ferry_laying_wish *wish = wish_of(laying, lane);

	return wish->lane && (!wish->is_settled || wish->is_wanted_anew);
}
