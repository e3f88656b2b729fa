#include "agent/core/engine.h"

#include <stdio.h>

#include "agent/core/key.h"

static struct ferry_key own_key(const struct ferry_engine *engine)
{
	return ferry_key_make(engine->config.self, engine->config.incarnation);
}

static void news_soon(struct ferry_engine *engine)
{
	ferry_task_post(engine->config.loop, &engine->news_task);
}

/* ---- What the router asks for. ---- */

static void router_lay(struct ferry_lane *lane, void *context)
{
	struct ferry_engine *engine = context;

	if (!engine->config.fence)
		return;
	if (lane == ferry_router_local(&engine->router)) {
		/* Consent: from here on nothing more goes by this nexus. */
		ferry_registrar_note_laid(&engine->registrar);
		ferry_lane_allow(lane, false, "its ghosts are being laid: forward-only");
	}
	ferry_laying_want(&engine->laying, lane);
	news_soon(engine);
}

static void router_verdict(enum ferry_verdict verdict, void *context)
{
	struct ferry_engine *engine = context;

	engine->config.on_verdict(engine, verdict);
}

static void router_news(void *context)
{
	news_soon(context);
}

static void laying_laid(struct ferry_lane *lane, uint64_t before_ns, const char *by, void *context)
{
	struct ferry_engine *engine = context;

	if (!ferry_router_laid(&engine->router, lane, before_ns, by))
		ferry_laying_want(&engine->laying, lane);
	else if (lane == ferry_router_local(&engine->router)) {
		engine->carried.ghost_epoch.v = 0; /* It went by the same nexus. */
		ferry_registrar_was_killed(&engine->registrar);
	}
	news_soon(engine);
}

/* The lun refused an abort: this node's key is gone, and nothing else has told it yet. */
static void laying_unregistered(void *context)
{
	struct ferry_engine *engine = context;

	ferry_registrar_lost(&engine->registrar);
}

static struct ferry_peer *laying_peer_of(struct ferry_lane *lane, void *context)
{
	struct ferry_engine *engine = context;
	size_t index = (size_t)(lane - engine->router.lanes);

	ferry_assert(index > 0 && index < engine->router.lanes_count);
	return engine->peers[index];
}

static bool registrar_is_being_laid(void *context)
{
	struct ferry_engine *engine = context;

	return ferry_laying_is_wanted(&engine->laying, ferry_router_local(&engine->router));
}

/* An older incarnation's key: its writes may still be at the lun, by this very nexus (rule 8). */
static void registrar_old_key(struct ferry_key key, void *context)
{
	struct ferry_engine *engine = context;

	ferry_laying_want_key(&engine->laying, ferry_router_local(&engine->router), key);
}

static void registrar_old_key_over(void *context)
{
	struct ferry_engine *engine = context;

	ferry_laying_settle(&engine->laying, ferry_router_local(&engine->router));
}

static uint64_t registrar_ask(void *context)
{
	struct ferry_engine *engine = context;

	if (!engine->config.on_ask)
		return 0;
	engine->config.on_ask(engine, ++engine->word_asked);
	return engine->word_asked;
}

static void registrar_taken(int error, void *context)
{
	struct ferry_engine *engine = context;

	engine->config.on_taken(engine, error);
}

/* ---- What peers ask for. ---- */

static void peer_lay_done(struct ferry_fence_request *request, int error)
{
	struct ferry_engine *engine = request->context;
	void (*done)(void *, int) = TAKE_PTR(engine->lay_done);

	ferry_assert(done);
	if (error == -EACCES)
		laying_unregistered(engine);
	done(engine->lay_context, error);
}

static int carried_lay(struct ferry_carrier_lun *lun, struct ferry_key victim,
		       void (*done)(void *context, int error), void *done_context)
{
	struct ferry_engine *engine = lun->context;

	if (!engine->config.fence || !lun->lane->path->is_up)
		return -ENOTCONN; /* Whether this node's key is there is for the lun to say. */
	if (engine->lay_done)
		return -EBUSY;
	if (!ferry_key_is_ours(victim) || victim.v == own_key(engine).v)
		return -EINVAL;
	engine->lay_done = done;
	engine->lay_context = done_context;
	engine->lay_request = (struct ferry_fence_request){.op = FERRY_FENCE_PREEMPT,
							   .own = own_key(engine),
							   .victim = victim,
							   .on_done = peer_lay_done,
							   .context = engine};
	ferry_fence_submit(engine->config.fence, &engine->lay_request);
	return 0;
}

static void carried_drained(struct ferry_carrier_lun *lun)
{
	news_soon(lun->context);
}

/* ---- News: what follows from what has changed. ---- */

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

		if (!ferry_laying_is_wanted(&engine->laying, lane))
			continue;
		ferry_laying_settle(&engine->laying, lane);
		(void)ferry_router_laid(router, lane, UINT64_MAX, "the next owner's taking");
	}
}

static void drained_report(struct ferry_engine *engine)
{
	if (engine->drained.v == engine->view.epoch.v)
		return;
	/* The owner itself goes on with what it has: its older I/O is its own. */
	for (uint32_t i = 0; i < engine->router.lanes_count; i++)
		if (engine->view.owner.v != engine->config.self.v &&
		    !ferry_router_lane_is_clean(&engine->router, &engine->router.lanes[i]))
			return;
	if (engine->carried.jobs_count > 0 || engine->carried.ghost_epoch.v != 0)
		return;
	engine->drained = engine->view.epoch;
	engine->config.on_drained(engine, engine->view.epoch);
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
		ferry_registrar_lost(&engine->registrar); /* A conflict took the permit. */
	ferry_registrar_poke(&engine->registrar);
}

/*
 * A taker does not preempt itself: what it carried for the last owner has to end first, or its own
 * nexus has to be killed by a peer.
 */
static void take_if_clean(struct ferry_engine *engine)
{
	struct ferry_lane *local = ferry_router_local(&engine->router);

	if (engine->view.owner.v != engine->config.self.v)
		engine->wants_take = false; /* Another claim came in between. */
	if (!engine->wants_take || engine->carried.jobs_count > 0)
		return;
	if (engine->carried.ghost_epoch.v != 0) {
		if (ferry_laying_is_wanted(&engine->laying, local))
			return;
		router_lay(local, engine);
		if (local->path->is_up && local->path->ops->reset)
			local->path->ops->reset(local->path); /* Only a new session registers. */
		return;
	}
	engine->wants_take = false;
	ferry_registrar_take(&engine->registrar, &engine->take_drained);
}

static void news(struct ferry_task *task)
{
	struct ferry_engine *engine = FERRY_CONTAINER_OF(task, struct ferry_engine, news_task);
	bool has_path;

	past_lay(engine);
	take_if_clean(engine);
	registration_news(engine);
	has_path = ferry_lane_is_usable(ferry_router_local(&engine->router));
	if (has_path != engine->has_path) {
		engine->has_path = has_path;
		engine->config.on_health(engine, has_path);
	}
	if (engine->config.carrier)
		ferry_carrier_look_again(engine->config.carrier);
	drained_report(engine);
}

/* ---- The room's entrances. ---- */

size_t ferry_engine_memory_bytes(const struct ferry_engine_config *config)
{
	return ferry_router_memory_bytes(config->inflight_max);
}

static int router_open(struct ferry_engine *engine, struct ferry_region *region)
{
	const struct ferry_engine_config *config = &engine->config;
	struct ferry_router_config router_config = {
		.loop = config->loop,
		.arena = config->arena,
		.events = config->events,
		.pool = engine->config.pool,
		.self = config->self,
		.block_bytes = config->identity.block_bytes,
		.inflight_max = config->inflight_max,
		.path_timeout_ns = config->path_timeout_ns,
		.hold_timeout_ns = config->hold_timeout_ns,
		.convict_failures = config->convict_failures,
		.convict_window_ns = config->convict_window_ns,
		.seed = config->seed,
		.lay = router_lay,
		.on_verdict = router_verdict,
		.on_lanes = router_news,
		.on_idle = router_news,
		.context = engine,
	};
	struct ferry_lane *lane;
	int r;

	r = ferry_router_init(&engine->router, region, &router_config);
	if (r < 0)
		return r;
	return ferry_router_add_path(&engine->router, config->path, config->fence != NULL, &lane);
}

static void laying_open(struct ferry_engine *engine)
{
	const struct ferry_engine_config *config = &engine->config;
	struct ferry_laying_config laying_config = {
		.loop = config->loop,
		.events = config->events,
		.pool = engine->config.pool,
		.router = &engine->router,
		.fence = config->fence,
		.own = own_key(engine),
		.lun = config->identity.uuid,
		.lineage = config->lineage,
		.view = &engine->view,
		.peer_of = laying_peer_of,
		.on_laid = laying_laid,
		.on_unregistered = laying_unregistered,
		.context = engine,
	};
	struct ferry_registrar_config registrar_config = {
		.loop = config->loop,
		.events = config->events,
		.pool = engine->config.pool,
		.fence = config->fence,
		.router = &engine->router,
		.view = &engine->view,
		.own = own_key(engine),
		.is_being_laid = registrar_is_being_laid,
		.on_old_key = registrar_old_key,
		.on_old_key_over = registrar_old_key_over,
		.ask = registrar_ask,
		.on_taken = registrar_taken,
		.context = engine,
	};

	ferry_laying_init(&engine->laying, &laying_config);
	if (config->fence)
		ferry_registrar_init(&engine->registrar, &registrar_config);
}

int ferry_engine_open(struct ferry_engine *engine, struct ferry_region *region,
		      const struct ferry_engine_config *config)
{
	int r;

	ferry_assert(config->loop && config->arena && config->path);
	ferry_assert(config->on_verdict && config->on_health);
	ferry_assert(config->on_drained && config->on_taken);
	*engine = (struct ferry_engine){.config = *config, .news_task = {.run = news}};
	engine->view.lineage = config->lineage;
	r = router_open(engine, region);
	if (r < 0)
		return r;
	laying_open(engine);
	ferry_volume_init(&engine->volume, &engine->router, engine->config.volume,
			  config->identity.size_blocks, config->identity.block_bytes,
			  config->identity.can_discard, config->is_read_only);
	if (config->carrier) {
		engine->carried = (struct ferry_carrier_lun){
			.uuid = config->identity.uuid,
			.size_blocks = config->identity.size_blocks,
			.block_bytes = config->identity.block_bytes,
			.view = &engine->view,
			.lane = ferry_router_local(&engine->router),
			.lay = carried_lay,
			.on_drained = carried_drained,
			.context = engine,
		};
		r = ferry_carrier_add_lun(config->carrier, &engine->carried);
		if (r < 0)
			return r;
	}
	news_soon(engine);
	return 0;
}

bool ferry_engine_is_idle(const struct ferry_engine *engine)
{
	ferry_assert(engine);
	for (uint32_t i = 0; i < engine->router.lanes_count; i++)
		if (engine->router.lanes[i].flights_count > 0)
			return false;
	return ferry_router_is_idle(&engine->router) && engine->carried.jobs_count == 0;
}

void ferry_engine_done(struct ferry_engine *engine)
{
	ferry_assert(engine);
	ferry_volume_close(&engine->volume);
	if (engine->config.fence)
		ferry_registrar_done(&engine->registrar);
	ferry_laying_done(&engine->laying);
	ferry_router_done(&engine->router);
	ferry_task_cancel(engine->config.loop, &engine->news_task);
}

int ferry_engine_add_peer(struct ferry_engine *engine, struct ferry_peer *peer)
{
	struct ferry_peer_path *via;
	struct ferry_lane *lane;
	int r;

	ferry_assert(engine && peer);
	if (engine->router.lanes_count == FERRY_LANES_MAX)
		return -ENOSPC;
	r = ferry_peer_add_lun(peer, &engine->config.identity.uuid, &engine->config.lineage, &via);
	if (r < 0)
		return r;
	engine->peers[engine->router.lanes_count] = peer;
	return ferry_router_add_path(&engine->router, &via->path, /* needs_permit= */ false, &lane);
}

void ferry_engine_set_view(struct ferry_engine *engine, const struct ferry_view *view)
{
	bool is_mine = view->owner.v == engine->config.self.v;
	bool was_mine = engine->view.owner.v == engine->config.self.v;

	ferry_assert(engine && view);
	FERRY_ASSERT_ON_LOOP(engine->config.loop);
	ferry_assert(view->epoch.v >= engine->view.epoch.v);
	engine->view = *view;
	if (is_mine && view->is_in_force && view->is_quorate)
		ferry_router_open(&engine->router, view->epoch);
	else
		ferry_router_close(&engine->router);
	if (was_mine && !is_mine) /* Deposed: nothing of ours may wait for better times. */
		ferry_router_fail_waiting(&engine->router, -ESHUTDOWN);
	for (uint32_t i = 1; i < engine->router.lanes_count; i++)
		if (!ferry_view_has_member(view, engine->peers[i]->node))
			ferry_lane_set_peer_has_path(&engine->router.lanes[i], false);
	news_soon(engine);
}

void ferry_engine_set_peer_has_path(struct ferry_engine *engine, struct ferry_node node,
				    bool has_path)
{
	ferry_assert(engine && node.v > 0);
	for (uint32_t i = 1; i < engine->router.lanes_count; i++)
		if (engine->peers[i]->node.v == node.v)
			ferry_lane_set_peer_has_path(&engine->router.lanes[i], has_path);
}

void ferry_engine_take(struct ferry_engine *engine, const struct ferry_drained_keys *drained)
{
	ferry_assert(engine && drained);
	if (!engine->config.fence) {
		engine->config.on_taken(engine, 0);
		return;
	}
	engine->take_drained = *drained;
	engine->wants_take = true;
	news_soon(engine);
}

void ferry_engine_unit_attention(struct ferry_engine *engine, uint8_t asc, uint8_t ascq)
{
	ferry_assert(engine);
	if (asc == 0x29) /* POWER ON, RESET, OR BUS DEVICE RESET OCCURRED, and its kin. */
		ferry_router_note_reset(&engine->router, ferry_router_local(&engine->router),
					"the lun reports a reset (29h)");
	else if (asc == 0x2a && (ascq == 0x03 || ascq == 0x04 || ascq == 0x05) &&
		 engine->config.fence) /* Reservations or registrations preempted or released. */
		ferry_registrar_lost(&engine->registrar);
}
