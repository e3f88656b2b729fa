/*
 * engine_news.c - what follows from what has changed: older writes that are dead by now, what has
 * drained, the registration, and whether the lun can be taken.
 */
#include "agent/base/museum.h"
#include "agent/core/engine_private.h"

/*
 * Another's newer epoch is in force: before that, whoever had not drained was preempted and aborted
 * (rule 13). So what this node wrote under an older one is dead, by whatever path it went.
 */
static void past_lay(struct ferry_engine *engine)
{
	struct ferry_router *router = &engine->router;

	if (!engine->config.fence || !engine->view.is_in_force ||
	    engine->view.owner.v == engine->config.self.v)
		return;
	if (engine->carried.ghost_epoch.v < engine->view.epoch.v)
		engine->carried.ghost_epoch.v = 0;
	if (engine->view.epoch.v <= router->epoch.v)
		return;
	for (uint32_t i = 0; i < router->lanes_count; i++) {
		struct ferry_lane *lane = &router->lanes[i];

		bool is_elders = lane == ferry_router_local(router) && engine->has_elder;

		if (!ferry_laying_is_wanted(&engine->laying, lane))
			continue;
		if (is_elders && engine->view.epoch.v <= engine->elder_epoch.v)
			continue; /* It may be this epoch's own. */
		ferry_laying_settle(&engine->laying, lane);
		engine->has_elder &= !is_elders;
		(void)ferry_router_laid(router, lane, UINT64_MAX, "the next owner's taking");
	}
}

/* Up to which number what went by @lane is dead: what went to agents older than @before. */
static uint64_t dead_until(const struct ferry_engine *engine, const struct ferry_lane *lane,
			   struct ferry_incarnation before)
{
	return before.v == FERRY_DEAD_ALL
		       ? UINT64_MAX
		       : ferry_router_ghost_before(&engine->router, lane, before);
}

void ferry_engine_dead_lay(struct ferry_engine *engine)
{
	const struct ferry_dead *dead = &engine->view.dead;

	for (uint32_t i = 0; i < dead->count; i++)
		for (uint32_t j = 1; j < engine->router.lanes_count; j++) {
			struct ferry_lane *lane = &engine->router.lanes[j];

			if (engine->peers[j]->node.v != dead->of[i].node.v)
				continue;
			if (ferry_router_laid(&engine->router, lane,
					      dead_until(engine, lane, dead->of[i].before),
					      "the end of who carried it, and the quiesce time") &&
			    ferry_laying_is_wanted(&engine->laying, lane))
				ferry_laying_settle(&engine->laying, lane);
		}
}

/*
 * Whether what this node carried for an older epoch's owner may yet land. A ghost of the epoch
 * itself is for its owner to lay; and it hides none, since what is older is dead once the epoch is
 * in force (past_lay(), which needs reservations).
 */
static bool has_older_carried(const struct ferry_engine *engine)
{
	struct ferry_epoch ghost = engine->carried.ghost_epoch;

	ferry_assert(ghost.v <= engine->view.epoch.v);
	return ghost.v != 0 && (ghost.v < engine->view.epoch.v || !engine->view.is_in_force ||
				!engine->config.fence);
}

static void drained_report(struct ferry_engine *engine)
{
	if (engine->drained.v == engine->view.epoch.v)
		return;
	/* The owner itself goes on with what it has: its older I/O is its own. */
	for (uint32_t i = 0; i < engine->router.lanes_count && !FERRY_MUSEUM(DRAINED_EARLY); i++)
		if (engine->view.owner.v != engine->config.self.v &&
		    !ferry_router_lane_is_clean(&engine->router, &engine->router.lanes[i]))
			return;
	if (engine->carried.jobs_count > 0 || has_older_carried(engine) || engine->has_elder)
		return; /* An elder's key is gone from the lun, its commands may not be. */
	engine->drained = engine->view.epoch;
	engine->config.on_drained(engine, engine->view.epoch);
}

/* The lun says that somebody else took this node's registration, or its target forgot it. */
void ferry_engine_registration_lost(struct ferry_engine *engine)
{
	if (engine->registrar.state != FERRY_REGISTRAR_IN)
		return; /* Its own doing, or known already. */
	if (ferry_engine_cache(engine))
		ferry_cache_bar(&engine->cache, true);
	ferry_registrar_lost(&engine->registrar);
}

static void registration_news(struct ferry_engine *engine)
{
	const struct ferry_lane *local = ferry_router_local(&engine->router);
	bool is_up = local->path->is_up;

	if (!engine->config.fence)
		return;
	if (is_up != engine->session_is_up) {
		engine->session_is_up = is_up;
		ferry_registrar_session(&engine->registrar, is_up);
		return;
	}
	if (engine->registrar.state == FERRY_REGISTRAR_IN && !local->is_allowed)
		ferry_engine_registration_lost(engine); /* A conflict took the permit. */
	else if (engine->registrar.state == FERRY_REGISTRAR_IN && ferry_engine_cache(engine))
		ferry_cache_bar(&engine->cache, false);
	ferry_registrar_poke(&engine->registrar);
}

/*
 * A taker does not preempt itself: what it carried for the last owner has to end first, or its own
 * nexus has to be killed by a peer.
 */
static void take_if_clean(struct ferry_engine *engine)
{
	struct ferry_lane *local = ferry_router_local(&engine->router);

	if (engine->view.owner.v != engine->config.self.v) {
		/* Another claim came in between: its maker is not to be preempted by an old one. */
		engine->wants_take = false;
		if (engine->config.fence)
			ferry_registrar_drop_take(&engine->registrar);
	}
	if (!engine->wants_take || engine->carried.jobs_count > 0)
		return;
	if (engine->carried.ghost_epoch.v != 0 && !FERRY_MUSEUM(TAKER_UNCLEAN)) {
		if (ferry_laying_is_wanted(&engine->laying, local))
			return;
		ferry_engine_lay(local, engine);
		ferry_path_renew(local->path);
		return;
	}
	engine->wants_take = false;
	ferry_registrar_take(&engine->registrar, &engine->take_drained);
}

/*
 * Whoever preempted this node's key has proven dead what was sent to it till then, but only as far
 * as that key went: what is still on its way to us must not be carried under the next one.
 */
static void permit_news(struct ferry_engine *engine)
{
	bool is_allowed = ferry_router_local(&engine->router)->is_allowed;

	if (engine->was_allowed && !is_allowed && engine->config.fence && engine->config.carrier)
		ferry_carrier_cut(engine->config.carrier, "this node's registration is gone");
	engine->was_allowed = is_allowed;
}

void ferry_engine_news(struct ferry_task *task)
{
	struct ferry_engine *engine = FERRY_CONTAINER_OF(task, struct ferry_engine, news_task);
	bool has_path;

	past_lay(engine);
	ferry_engine_dead_lay(engine); /* What was given up since is laid, too. */
	take_if_clean(engine);
	registration_news(engine);
	permit_news(engine);
	has_path = ferry_lane_is_usable(ferry_router_local(&engine->router)) ||
		   (engine->config.fence && ferry_registrar_awaits_owner(&engine->registrar));
	if (has_path != engine->has_path) {
		engine->has_path = has_path;
		engine->config.on_health(engine, has_path);
	}
	if (engine->config.carrier)
		ferry_carrier_look_again(engine->config.carrier);
	drained_report(engine);
}
