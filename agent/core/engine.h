/*
 * engine.h - the data side of one pool on one node: its volume, router, registration, laying and
 * what it carries for peers, put together.
 *
 * The cluster side (fencing/) decides who owns the pool and tells the engine by a view; the engine
 * obeys and reports back by callbacks. In ferryd the two live on two threads and talk by rings; in
 * the simulator by events.
 *
 * Owns:    the rooms of core/ for one pool; not paths, peers, carrier or arenas.
 * Callers: agent/main.c's wiring, tests/sim.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/cache/cache.h"
#include "agent/core/carrier.h"
#include "agent/core/laying.h"
#include "agent/core/peer.h"
#include "agent/core/registrar.h"
#include "agent/core/router.h"
#include "agent/core/view.h"
#include "agent/core/volume.h"
#include "agent/ports/identity.h"

/* A thread that was not run for so long asks the group before it serves anything. */
#define FERRY_ENGINE_FREEZE_NS (500 * FERRY_NS_PER_MS)

struct ferry_engine;

struct ferry_engine_config {
	struct ferry_loop *loop;
	struct ferry_arena *arena;
	struct ferry_events *events;
	struct ferry_node self;
	struct ferry_incarnation incarnation;
	char pool[FERRY_EVENT_NAME_MAX];
	char volume[FERRY_EVENT_NAME_MAX];
	struct ferry_uuid lineage;
	struct ferry_lun_identity identity;
	struct ferry_path *path;       /* This node's own to the lun. */
	struct ferry_fence *fence;     /* NULL: the lun has no reservations. */
	struct ferry_fence *resetter;  /* Or NULL; alone: only RESET is asked of it. */
	struct ferry_carrier *carrier; /* NULL: stands alone, carries for nobody. */
	bool is_read_only;
	bool resets_keep_cache; /* See struct ferry_router_config. */
	bool aborts_may_reset;	/* Likewise. */
	bool flushes_by_path;	/* Likewise. */
	bool waits_for_ghosts;	/* Likewise. */
	uint32_t inflight_max;
	uint64_t path_timeout_ns;
	uint64_t hold_timeout_ns;
	uint32_t convict_failures;
	uint64_t convict_window_ns;
	uint64_t seed;

	/*
	 * The read cache: lines_max * FERRY_CACHE_LINE_BYTES of memory, or 0 and none. Only where
	 * nobody else writes to the lun: it has reservations, or somebody answers for it (rule 16).
	 */
	void *cache_data;
	uint32_t cache_lines_max;
	/* The next owner asks for what the cache has (struct ferry_carrier_lun's warm). Or NULL. */
	int (*on_warm)(struct ferry_engine *engine, uint64_t cursor, struct ferry_arena *arena,
		       struct ferry_segments *ret);

	/* All run on the data loop; none from inside a call of the engine's but set_view's. */
	void (*on_verdict)(struct ferry_engine *engine, enum ferry_verdict verdict);
	/* Whether this node could carry I/O for others has changed. */
	void (*on_health)(struct ferry_engine *engine, bool has_path);
	/* Nothing that was admitted under an older epoch is in flight here any more. */
	void (*on_drained)(struct ferry_engine *engine, struct ferry_epoch epoch);
	/* ferry_engine_take() is over: 0, or why this node cannot have the lun to itself. */
	void (*on_taken)(struct ferry_engine *engine, int error);
	/* For ferry_ownership_preempted(). NULL: there is no group. */
	void (*on_preempted)(struct ferry_engine *engine);
	/*
	 * Have ferry_ownership_ask() ask the group; a view with that word follows. NULL: there is
	 * no group, or a stale view cannot do harm.
	 */
	void (*on_ask)(struct ferry_engine *engine, uint64_t word);
	/* With on_ask: when who calls ferry_engine_set_view() last ran; 0: not yet. Or NULL. */
	uint64_t (*heard_ns)(struct ferry_engine *engine);
	/* For ferry_ownership_witness(), ferry_ownership_noted(). NULL: there is no group. */
	void (*on_witness)(struct ferry_engine *engine, uint64_t number);
	void (*on_noted)(struct ferry_engine *engine, uint64_t restarts);
	void *context;
};

struct ferry_engine {
	struct ferry_engine_config config;
	struct ferry_view view;
	struct ferry_router router;
	struct ferry_volume volume;
	struct ferry_cache cache; /* If config.cache_lines_max. */
	struct ferry_registrar registrar;
	struct ferry_laying laying;
	struct ferry_carrier_lun carried;
	struct ferry_peer *peers[FERRY_LANES_MAX]; /* By lane. */
	bool session_is_up;
	bool was_allowed; /* Whether the local lane had its permit when last looked at. */
	bool has_path;	  /* As last reported. */
	struct ferry_timer tick_timer;
	uint64_t awake_ns;		/* When this thread last looked at the clock. */
	uint64_t waking_word;		/* What view.word has to be before anything is served. */
	uint64_t looked_ns;		/* Where restarts go untold: when it last looked. */
	uint64_t shut_ns;		/* Since when its own pool's I/O is held; 0: it is not. */
	struct ferry_epoch elder_epoch; /* What was installed when its key was replaced. */
	bool has_elder;			/* Its agent before may have writes at the lun, unlaid. */
	struct ferry_epoch drained;	/* As last reported. */
	struct ferry_task news_task;
	uint64_t word_asked;
	uint64_t restarts; /* Noted, of those that view.restarts tells of. */
	bool wants_take;   /* As soon as nothing that was carried for others is left. */
	struct ferry_drained_keys take_drained;

	/* One wish of a peer's at a time to kill a nexus. */
	struct ferry_fence_request lay_request;
	void (*lay_done)(void *context, int error);
	void *lay_context;
};

size_t ferry_engine_memory_bytes(const struct ferry_engine_config *config);

/* -ENOMEM: the region is too small; -ENOSPC: too many luns. */
int ferry_engine_open(struct ferry_engine *engine, struct ferry_region *region,
		      const struct ferry_engine_config *config) FERRY_MUST_CHECK;

/* Stop timers. Nothing may be in flight: ferry_engine_is_idle(). */
void ferry_engine_done(struct ferry_engine *engine);
bool ferry_engine_is_idle(const struct ferry_engine *engine);

/* A peer's agent that may carry this pool's I/O. -ENOSPC. */
int ferry_engine_add_peer(struct ferry_engine *engine, struct ferry_peer *peer) FERRY_MUST_CHECK;

/* The requester's side of @node's agent, or NULL. */
struct ferry_peer *ferry_engine_peer(struct ferry_engine *engine, struct ferry_node node);

/* What the cluster thread knows now. */
void ferry_engine_set_view(struct ferry_engine *engine, const struct ferry_view *view);

/* What @node announced of its own path to this lun. */
void ferry_engine_set_peer_has_path(struct ferry_engine *engine, struct ferry_node node,
				    bool has_path);

/* Become the only one that writes; on_taken() follows. Those in @drained need no preempting. */
void ferry_engine_take(struct ferry_engine *engine, const struct ferry_drained_keys *drained);

/*
 * An administrator's wish: remove @victim's registration, a foreign one too, and have what came by
 * it aborted. @done as in ferry_carrier_lun.lay. -ENOTCONN; -EBUSY: another such wish is under way;
 * -EINVAL: this agent's own; -EAGAIN: this session has not registered yet, or is to be looked at.
 */
int ferry_engine_preempt(struct ferry_engine *engine, struct ferry_key victim,
			 void (*done)(void *context, int error), void *context) FERRY_MUST_CHECK;

/* A hint that the target may have been restarted: look whether it counts registrations anew. */
void ferry_engine_maybe_reset(struct ferry_engine *engine);

/* The lun said something unasked (a SCSI UNIT ATTENTION; SPC-4, annex D). */
void ferry_engine_unit_attention(struct ferry_engine *engine, uint8_t asc, uint8_t ascq);

/* NULL: it has none. */
static inline struct ferry_cache *ferry_engine_cache(struct ferry_engine *engine)
{
	return engine->config.cache_lines_max > 0 ? &engine->cache : NULL;
}

static inline struct ferry_block *ferry_engine_block(struct ferry_engine *engine)
{
	return &engine->volume.block;
}
