#include <stdio.h>

#include "agent/base/museum.h"
#include "agent/core/engine_private.h"
#include "agent/core/key.h"

/* How often the data thread looks at the clock. */
#define TICK_NS (100 * FERRY_NS_PER_MS)
/* Where nothing tells of a restart: how long one may go unseen while nobody flushes. */
#define LOOK_NS (5 * FERRY_NS_PER_S)

static struct ferry_key own_key(const struct ferry_engine *engine)
{
	return ferry_key_make(engine->config.self, engine->config.incarnation);
}

/* In flight, hits on their way, and as many again whose outcome is in doubt. */
static uint32_t cache_tickets(const struct ferry_engine_config *config)
{
	return 2 * config->inflight_max;
}

static void news_soon(struct ferry_engine *engine)
{
	ferry_task_post(engine->config.loop, &engine->news_task);
}

/* ---- What the router asks for. ---- */

void ferry_engine_lay(struct ferry_lane *lane, void *context)
{
	struct ferry_engine *engine = context;

	news_soon(engine);
	if (!engine->config.fence && !engine->config.resetter)
		return;
	if (lane == ferry_router_local(&engine->router)) {
		/* Consent: from here on nothing more goes by this nexus. */
		if (engine->config.fence)
			ferry_registrar_note_laid(&engine->registrar);
		ferry_lane_allow(lane, false, "its ghosts are being laid: forward-only");
	}
	ferry_laying_want(&engine->laying, lane);
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

static bool restarts_go_untold(const struct ferry_engine_config *config)
{
	return config->fence && config->fence->ability.hides_restarts &&
	       config->identity.has_volatile_cache;
}

/* It has raised the count of registrations: had the target been restarted, one would not see it. */
static void look_after_abort(struct ferry_engine *engine)
{
	if (restarts_go_untold(&engine->config) && !engine->registrar.is_over)
		ferry_registrar_verify(&engine->registrar);
}

static void laying_laid(struct ferry_lane *lane, uint64_t until, const char *by, void *context)
{
	struct ferry_engine *engine = context;

	if (!ferry_router_laid(&engine->router, lane, until, by)) {
		ferry_laying_want(&engine->laying, lane);
	} else if (lane == ferry_router_local(&engine->router)) {
		engine->carried.ghost_epoch.v = 0; /* It went by the same nexus. */
		engine->has_elder = false;
		if (engine->config.fence)
			ferry_registrar_was_killed(&engine->registrar);
	}
	if (engine->config.resetter && !ferry_laying_is_wanted(&engine->laying, lane))
		ferry_lane_allow(lane, true, "its ghosts are laid");
	look_after_abort(engine);
	news_soon(engine);
}

/* The lun refused an abort: this node's key is gone, and nothing else has told it yet. */
static void laying_unregistered(void *context)
{
	struct ferry_engine *engine = context;

	ferry_registrar_lost(&engine->registrar);
}

/*
 * A session may have outlived a restart of the target, and have had nothing to say since: then its
 * key may be gone, and the reservation, without which nobody is preempted.
 */
static void laying_delayed(void *context)
{
	struct ferry_engine *engine = context;

	if (engine->config.fence && !engine->registrar.is_over)
		ferry_registrar_verify(&engine->registrar);
}

static bool laying_may_abort(void *context)
{
	struct ferry_engine *engine = context;

	return ferry_registrar_may_abort(&engine->registrar);
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

/* An elder's writes may still be at the lun, by this very nexus (rule 8): a peer is to kill it. */
static void registrar_old_key(struct ferry_key key, void *context)
{
	struct ferry_engine *engine = context;

	/* Where registrations are a session's, the elder's may be there beside the new one. */
	if (engine->config.fence->ability.laying == FERRY_LAYING_RESET)
		engine->laying.victim_local = key;
	engine->has_elder = true;
	engine->elder_epoch = engine->view.epoch;
	ferry_laying_want(&engine->laying, ferry_router_local(&engine->router));
}

static void registrar_preempted(void *context)
{
	struct ferry_engine *engine = context;

	if (engine->config.on_preempted)
		engine->config.on_preempted(engine);
}

static uint64_t registrar_ask(void *context)
{
	struct ferry_engine *engine = context;

	if (!engine->config.on_ask)
		return 0;
	engine->config.on_ask(engine, ++engine->word_asked);
	return engine->word_asked;
}

static void router_look_at_reset(void *context)
{
	struct ferry_engine *engine = context;

	ferry_registrar_look_at_reset(&engine->registrar);
}

static void router_look_at_durable(void *context)
{
	struct ferry_engine *engine = context;

	ferry_registrar_look_at_durable(&engine->registrar);
}

static void registrar_witness(uint64_t number, void *context)
{
	struct ferry_engine *engine = context;

	if (engine->config.on_witness)
		engine->config.on_witness(engine, number);
}

static void registrar_joins(void *context)
{
	struct ferry_engine *engine = context;

	if (engine->config.carrier)
		ferry_carrier_cut(engine->config.carrier,
				  "this node has registered: requests from before are void");
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
	ferry_router_reset_answered(&engine->router);
	if (error == -EACCES)
		laying_unregistered(engine);
	look_after_abort(engine);
	done(engine->lay_context, error);
}

int ferry_engine_preempt(struct ferry_engine *engine, struct ferry_key victim,
			 void (*done)(void *context, int error), void *context)
{
	ferry_assert(engine && done);
	if (!engine->config.fence || !engine->config.path->is_up)
		return -ENOTCONN;
	if (victim.v == 0 || victim.v == own_key(engine).v)
		return -EINVAL;
	/* A key that the target has kept, or restored, does not do: see there. */
	if (!ferry_registrar_may_abort(&engine->registrar))
		return -EAGAIN;
	if (engine->lay_done)
		return -EBUSY;
	engine->lay_done = done;
	engine->lay_context = context;
	engine->lay_request = (struct ferry_fence_request){.op = FERRY_FENCE_PREEMPT,
							   .own = own_key(engine),
							   .victim = victim,
							   .on_done = peer_lay_done,
							   .context = engine};
	ferry_router_expect_reset(&engine->router);
	ferry_fence_submit(engine->config.fence, &engine->lay_request);
	return 0;
}

static int carried_lay(struct ferry_carrier_lun *lun, struct ferry_key victim,
		       void (*done)(void *context, int error), void *done_context)
{
	if (!ferry_key_is_ours(victim))
		return -EINVAL;
	return ferry_engine_preempt(lun->context, victim, done, done_context);
}

static int carried_warm(struct ferry_carrier_lun *lun, uint64_t cursor, struct ferry_arena *arena,
			struct ferry_segments *ret)
{
	struct ferry_engine *engine = lun->context;

	if (!engine->config.on_warm || !ferry_engine_cache(engine))
		return -ENODATA;
	return engine->config.on_warm(engine, cursor, arena, ret);
}

static void carried_drained(struct ferry_carrier_lun *lun)
{
	news_soon(lun->context);
}

/* ---- Time that has passed unseen. ---- */

/* What the data side goes by: while it does not know what was, as if there were no quorum. */
static void view_apply(struct ferry_engine *engine)
{
	struct ferry_view *view = &engine->view;
	bool is_mine = view->owner.v == engine->config.self.v;

	if (view->word < engine->waking_word) {
		view->is_quorate = false;
		view->may_register = false;
		view->may_help = false;
	}
	if (ferry_engine_cache(engine))
		ferry_cache_set_view(&engine->cache, view);
	if (is_mine && view->is_in_force && (view->is_quorate || FERRY_MUSEUM(NO_QUORUM)))
		ferry_router_open(&engine->router, view->epoch);
	else if (!FERRY_MUSEUM(SOURCE_RESUMES) || view->is_in_force || !view->is_quorate)
		ferry_router_close(&engine->router);
}

/* Nothing is served, from the cache neither, before the group has answered. */
static void ask_who_owns(struct ferry_engine *engine, const char *who, uint64_t still_ns)
{
	struct ferry_event event = {.kind = FERRY_EVENT_HOLD,
				    .severity = FERRY_SEVERITY_WARNING,
				    .value = still_ns,
				    .time_ns = engine->awake_ns};

	(void)snprintf(event.pool, sizeof(event.pool), "%s", engine->config.pool);
	ferry_event_emit(engine->config.events, event,
			 "%s stood still for %llu ms: asking the group who owns the pool", who,
			 (unsigned long long)(still_ns / FERRY_NS_PER_MS));
	engine->waking_word = registrar_ask(engine);
	view_apply(engine);
}

/* For how long whoever tells of the group has not run: its news are as old. */
static uint64_t unheard_ns(struct ferry_engine *engine)
{
	uint64_t heard_ns = engine->config.heard_ns ? engine->config.heard_ns(engine) : 0;

	return heard_ns != 0 && heard_ns < engine->awake_ns ? engine->awake_ns - heard_ns : 0;
}

/*
 * This thread was not run for long, or the one that hears the group: a frozen process, a frozen
 * node, a thread that waits for a disk. Meanwhile another may have become the owner.
 */
static void look_at_clock(struct ferry_engine *engine)
{
	uint64_t now_ns = ferry_loop_now_ns(engine->config.loop);
	uint64_t gap_ns = now_ns - engine->awake_ns;
	bool is_asking = engine->view.word < engine->waking_word;

	engine->awake_ns = now_ns;
	if (!engine->config.on_ask)
		return;
	if (gap_ns >= FERRY_ENGINE_FREEZE_NS && !FERRY_MUSEUM(FROZEN_UNAWARE))
		ask_who_owns(engine, "this agent", gap_ns);
	else if (!is_asking && unheard_ns(engine) >= FERRY_ENGINE_FREEZE_NS)
		ask_who_owns(engine, "its cluster thread", unheard_ns(engine));
}

static void volume_looks(struct ferry_volume *volume)
{
	look_at_clock(FERRY_CONTAINER_OF(volume, struct ferry_engine, volume));
}

/* Rule 15: what was held is failed by the router; from then on nothing is held any more. */
static void stop_serving(struct ferry_engine *engine)
{
	bool is_shut = engine->view.owner.v == engine->config.self.v && !engine->router.is_open;

	if (!is_shut)
		engine->shut_ns = 0;
	else if (engine->shut_ns == 0)
		engine->shut_ns = engine->awake_ns;
	else if (engine->awake_ns - engine->shut_ns >= engine->config.hold_timeout_ns)
		ferry_router_fail_waiting(&engine->router, -ETIMEDOUT);
}

/* A FLUSH looks for itself; but who reads what is lost should hear of it, too. */
static void look_at_target(struct ferry_engine *engine)
{
	if (!restarts_go_untold(&engine->config) || !engine->registrar.is_registered ||
	    engine->awake_ns - engine->looked_ns < LOOK_NS)
		return;
	engine->looked_ns = engine->awake_ns;
	ferry_registrar_verify(&engine->registrar);
}

static void tick(struct ferry_timer *timer)
{
	struct ferry_engine *engine = FERRY_CONTAINER_OF(timer, struct ferry_engine, tick_timer);

	look_at_clock(engine);
	stop_serving(engine);
	look_at_target(engine);
	ferry_timer_start_in(engine->config.loop, timer, TICK_NS);
}

/* ---- The room's entrances. ---- */

size_t ferry_engine_memory_bytes(const struct ferry_engine_config *config)
{
	size_t bytes = ferry_router_memory_bytes(config->inflight_max, config->flushes_by_path);

	if (config->cache_lines_max > 0)
		bytes += ferry_cache_memory_bytes(config->cache_lines_max, cache_tickets(config));
	return bytes;
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
		.resets_keep_cache = config->resets_keep_cache,
		.restarts_are_told = config->fence != NULL,
		.aborts_may_reset = config->aborts_may_reset,
		.flushes_by_path = config->flushes_by_path,
		.waits_for_ghosts = config->waits_for_ghosts,
		.look_at_reset = config->fence ? router_look_at_reset : NULL,
		.look_at_durable = restarts_go_untold(config) ? router_look_at_durable : NULL,
		.lay = ferry_engine_lay,
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

static int cache_open(struct ferry_engine *engine, struct ferry_region *region)
{
	const struct ferry_engine_config *config = &engine->config;
	struct ferry_cache_config cache_config = {
		.loop = config->loop,
		.arena = config->arena,
		.events = config->events,
		.pool = engine->config.pool,
		.self = config->self,
		.next = &engine->volume.bottom,
		.lines_max = config->cache_lines_max,
		.tickets_max = cache_tickets(config),
		/* Of two nodes each can think itself the majority, the lun being the third voice.
		 */
		.is_majority_real = false,
		.ghosts_count = &engine->router.ghosts_count,
		.flush = &engine->router.flush,
	};
	int r;

	r = ferry_cache_init(&engine->cache, region, config->cache_data, &cache_config);
	if (r == 0)
		ferry_volume_set_filter(&engine->volume, &engine->cache.block);
	return r;
}

static void laying_open(struct ferry_engine *engine)
{
	const struct ferry_engine_config *config = &engine->config;
	struct ferry_laying_config laying_config = {
		.loop = config->loop,
		.events = config->events,
		.pool = engine->config.pool,
		.router = &engine->router,
		.fence = config->fence ? config->fence : config->resetter,
		.is_alone = config->resetter != NULL,
		.own = own_key(engine),
		.lun = config->identity.uuid,
		.lineage = config->lineage,
		.view = &engine->view,
		.peer_of = laying_peer_of,
		.on_laid = laying_laid,
		.on_unregistered = laying_unregistered,
		.on_delayed = laying_delayed,
		.may_abort = laying_may_abort,
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
		.restarts_go_untold = restarts_go_untold(config),
		.is_being_laid = registrar_is_being_laid,
		.on_old_key = registrar_old_key,
		.on_preempted = registrar_preempted,
		.ask = registrar_ask,
		.on_witness = registrar_witness,
		.on_join = registrar_joins,
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
	ferry_assert(!config->resetter || (!config->fence && !config->carrier));
	ferry_assert(config->on_verdict && config->on_health);
	ferry_assert(config->on_drained && config->on_taken);
	*engine = (struct ferry_engine){.config = *config,
					.news_task = {.run = ferry_engine_news},
					.tick_timer = {.run = tick},
					.awake_ns = ferry_loop_now_ns(config->loop)};
	engine->view.lineage = config->lineage;
	r = router_open(engine, region);
	if (r < 0)
		return r;
	laying_open(engine);
	ferry_volume_init(&engine->volume, &engine->router, engine->config.volume,
			  config->identity.size_blocks, config->identity.block_bytes,
			  config->identity.can_discard, config->is_read_only);
	engine->volume.before = volume_looks;
	ferry_timer_start_in(config->loop, &engine->tick_timer, TICK_NS);
	if (config->cache_lines_max > 0) {
		r = cache_open(engine, region);
		if (r < 0)
			return r;
	}
	if (config->carrier) {
		engine->carried = (struct ferry_carrier_lun){
			.uuid = config->identity.uuid,
			.size_blocks = config->identity.size_blocks,
			.block_bytes = config->identity.block_bytes,
			.view = &engine->view,
			.lane = ferry_router_local(&engine->router),
			.losses = &engine->router.flush.losses_seen,
			.answers_at_end = !config->fence,
			.lay = carried_lay,
			.warm = carried_warm,
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
	if (engine->config.cache_lines_max > 0 && !ferry_cache_is_idle(&engine->cache))
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
	ferry_timer_stop(engine->config.loop, &engine->tick_timer);
	if (ferry_engine_cache(engine))
		ferry_cache_done(&engine->cache);
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
	via->asks_on = !engine->config.fence;
	engine->peers[engine->router.lanes_count] = peer;
	/* With two peers and more, no two parts of the cluster have quorum at once. */
	engine->cache.config.is_majority_real = engine->router.lanes_count >= 2;
	return ferry_router_add_path(&engine->router, &via->path, /* needs_permit= */ false, &lane);
}

struct ferry_peer *ferry_engine_peer(struct ferry_engine *engine, struct ferry_node node)
{
	ferry_assert(engine);
	for (uint32_t i = 1; i < engine->router.lanes_count; i++)
		if (engine->peers[i]->node.v == node.v)
			return engine->peers[i];
	return NULL;
}

/* A member has found the target restarted, and registers there only when this node says so. */
static void restarts_note(struct ferry_engine *engine)
{
	struct ferry_lane *local = ferry_router_local(&engine->router);

	if (engine->view.restarts == engine->restarts)
		return;
	ferry_assert(engine->view.restarts > engine->restarts && engine->config.on_noted);
	engine->restarts = engine->view.restarts;
	ferry_router_note_reset(&engine->router, /* lane= */ NULL,
				"a member reports that the target was restarted");
	/* A session here that lived through it may not have heard of it yet. */
	if (local->path->is_up)
		ferry_router_note_reset(&engine->router, local, "the target was restarted");
	engine->config.on_noted(engine, engine->restarts);
}

void ferry_engine_set_view(struct ferry_engine *engine, const struct ferry_view *view)
{
	bool is_mine = view->owner.v == engine->config.self.v;
	bool was_mine = engine->view.owner.v == engine->config.self.v;
	bool is_new_in_force = view->is_in_force &&
			       (!engine->view.is_in_force || view->epoch.v != engine->view.epoch.v);
	bool is_back = view->is_quorate && !engine->view.is_quorate;

	ferry_assert(engine && view);
	FERRY_ASSERT_ON_LOOP(engine->config.loop);
	ferry_assert(view->epoch.v >= engine->view.epoch.v);
	engine->view = *view;
	restarts_note(engine);
	view_apply(engine);
	/* Nothing of ours may wait for better times. */
	if (was_mine && !is_mine && !FERRY_MUSEUM(SOURCE_RESUMES))
		ferry_router_depose(&engine->router);
	for (uint32_t i = 1; i < engine->router.lanes_count; i++)
		if (!ferry_view_has_member(view, engine->peers[i]->node))
			ferry_lane_set_peer_has_path(&engine->router.lanes[i], false);
	ferry_engine_dead_lay(engine);
	/* Whoever was away may have been preempted: better known now than with a peer's I/O. */
	if (is_new_in_force && is_mine)
		engine->registrar.drained.is_answered_for = false; /* The word has come true. */
	if (((is_new_in_force && !is_mine) || is_back) && engine->config.fence)
		ferry_registrar_verify(&engine->registrar);
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

static bool is_among(struct ferry_key key, const struct ferry_key *keys, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (keys[i].v == key.v)
			return true;
	return false;
}

/*
 * Whom an earlier taking has preempted, and not proven dead before it was dropped, the lun may know
 * no more, and the group may never have heard. What a person has answered for is done for whoever
 * has that word, and proven for nobody, until the pool is served by it.
 */
static bool suspects_keep(struct ferry_engine *engine)
{
	const struct ferry_drained_keys *before = &engine->registrar.drained;
	struct ferry_drained_keys *now = &engine->take_drained;
	uint32_t done = before->is_answered_for ? 0 : engine->registrar.suspects_done;

	for (uint32_t i = done; i < before->suspects_count; i++) {
		struct ferry_key key = before->suspects[i];

		if (ferry_key_node(key).v ==
		    0) /* Who takes says anew whether anybody is missing. */
			continue;
		if (is_among(key, now->keys, now->count) ||
		    is_among(key, now->suspects, now->suspects_count))
			continue;
		if (now->suspects_count == FERRY_KEYS_MAX)
			return false;
		now->suspects[now->suspects_count++] = key;
	}
	return true;
}

void ferry_engine_take(struct ferry_engine *engine, const struct ferry_drained_keys *drained)
{
	ferry_assert(engine && drained);
	if (!engine->config.fence) {
		engine->config.on_taken(engine, 0);
		return;
	}
	ferry_registrar_drop_take(&engine->registrar); /* What it proves is of an older epoch. */
	engine->take_drained = *drained;
	if (!suspects_keep(engine)) {
		engine->config.on_taken(engine, -EIO);
		return;
	}
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
		ferry_engine_registration_lost(engine);
}

void ferry_engine_maybe_reset(struct ferry_engine *engine)
{
	ferry_assert(engine);
	if (engine->config.fence)
		ferry_registrar_verify(&engine->registrar);
}
