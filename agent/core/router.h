/*
 * router.h - the heart: outcomes in, decisions out. Which path, when to retry, what is a ghost.
 *
 * Each application I/O becomes a route, each try of it on a lane a try. A route completes once. A
 * write whose try ended UNKNOWN leaves a ghost: its range takes no other write until the ghost is
 * laid (design, rules 1-6). The same write is tried on another lane at once: it bears the same
 * bytes, so its ghost can do no harm (docs/decisions/0006).
 *
 * Owns:    routes, tries and ghosts of one shard; the lanes.
 * Callers: volume.c (I/O in); engine.c (lanes, news of peers, laying); carrier.c uses its local
 *          lane.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/prng.h"
#include "agent/base/region.h"
#include "agent/core/flush.h"
#include "agent/core/keep.h"
#include "agent/core/lane.h"
#include "agent/core/tracker.h"

enum {
	FERRY_LANES_MAX = 32, /* The local one and one per peer. */
	FERRY_ROUTES_MAX = 4096,
	FERRY_TRIES_PER_ROUTE = 3, /* On average; ghosts outlive their routes. */
};

/* One application I/O in the router's hands. */
struct ferry_route {
	struct ferry_io *io;
	struct ferry_list link; /* In waiting, in awaiting_lay, in running, or in free. */
	uint64_t started_ns;
	uint32_t lanes_failed; /* A bit per lane on which a try of it did not end DONE. */
	uint32_t ghosts_count; /* Tries of it that are ghosts still. */
	bool had_ghosts;       /* Some path may have it, or may have had it. */
	uint64_t keep_until;   /* FLUSH, by path: what has to be durable first. */
	bool awaits_lay;       /* In awaiting_lay: no lane is left to try beside its ghosts. */
};

/* One try of one route on one lane. */
struct ferry_try {
	struct ferry_flight flight;
	struct ferry_route *route; /* NULL once the route does not wait for this try any more. */
	struct ferry_list link;	   /* In ghosts while is_ghost; else in tries_free when free. */
	bool is_ghost;
	bool has_ended;
	bool is_released;
	uint64_t sequence;     /* In the order of sending. */
	uint64_t flush_covers; /* FLUSH: flush.writes_done when it was started... */
	uint64_t flush_oldest; /* ...and the lowest number in flight. */
};

struct ferry_router_stats {
	uint64_t reads;
	uint64_t writes;
	uint64_t flushes;
	uint64_t errors;  /* I/Os that an application was told had failed. */
	uint64_t detours; /* I/Os that were completed through a peer. */
	uint64_t ghosts_made;
	uint64_t ghosts_laid_late; /* By their own completion. */
	uint64_t ghosts_laid_abort;
	uint64_t held_now;
	uint64_t latency_ns_max; /* Since it was last read. */
};

struct ferry_router_config {
	struct ferry_loop *loop;
	struct ferry_arena *arena; /* For the data of reads. */
	struct ferry_events *events;
	const char *pool;
	struct ferry_node self;
	uint32_t block_bytes;
	uint32_t inflight_max;	  /* Routes; at most FERRY_ROUTES_MAX. */
	uint64_t path_timeout_ns; /* For each try. */
	uint64_t hold_timeout_ns; /* For each I/O, from its submission: then an error. */
	uint32_t convict_failures;
	uint64_t convict_window_ns;
	uint64_t seed; /* For the choice among peers. */
	/*
	 * A reset that a session lives through is somebody's LUN RESET and loses no cache: known
	 * of targets where aborts are done so (docs/decisions/0003).
	 */
	bool resets_keep_cache;
	/*
	 * Whoever carries at a restarted target does so after this node has noted it: by the
	 * registrations (docs/decisions/0009). Elsewhere peers vouch for what they have seen.
	 */
	bool restarts_are_told;
	bool aborts_may_reset; /* Some way of aborting here resets the lun (ports/fence.h). */
	bool flushes_by_path;  /* A FLUSH covers only what its own path acknowledged. */
	bool waits_for_ghosts; /* A write is tried again only when its ghosts are laid. */

	/*
	 * The lun reports a reset in a session that lives on. Look whether it was a restart;
	 * ferry_router_reset_seen() follows, unless the session ends. NULL: nobody can look.
	 */
	void (*look_at_reset)(void *context);
	/* The local lane's (lane.h). NULL: its path tells of every restart, or nobody can look. */
	void (*look_at_durable)(void *context);
	/* Have the ghosts of @lane's nexus laid; ferry_router_laid() follows, some time. */
	void (*lay)(struct ferry_lane *lane, void *context);
	/* The tracker changed its mind about this node's path. */
	void (*on_verdict)(enum ferry_verdict verdict, void *context);
	/* Usability of some lane may have changed. */
	void (*on_lanes)(void *context);
	/* No I/O and no ghost is left (after ferry_router_stop()); or less is in flight since. */
	void (*on_idle)(void *context);
	void *context;
};

struct ferry_router {
	struct ferry_router_config config;
	struct ferry_lane lanes[FERRY_LANES_MAX]; /* [0] is the local one. */
	uint32_t lanes_count;
	struct ferry_epoch epoch;
	bool is_open;	 /* May start new tries: this node owns the pool, epoch in force. */
	bool is_holding; /* An event has been emitted for it. */
	bool is_deposed; /* Another owns what this node owned: nothing is taken in, nothing waits.
			  */
	struct ferry_route *routes;
	struct ferry_try *tries;
	struct ferry_list routes_free;
	struct ferry_list tries_free;
	struct ferry_list running;	/* Routes with a try in flight. */
	struct ferry_list waiting;	/* Routes that wait for a lane, room, or a ghost's range. */
	struct ferry_list awaiting_lay; /* Routes that wait for their own ghosts. */
	struct ferry_list ghosts;
	uint32_t ghosts_count;
	uint32_t routes_count;
	struct ferry_task dispatch_task;
	struct ferry_timer retry_timer; /* A lane's avoidance ends. */
	struct ferry_timer hold_timer;	/* The oldest route's patience ends. */
	struct ferry_arena_waiter arena_waiter;
	struct ferry_prng prng;
	struct ferry_tracker tracker;
	uint64_t peer_done_count; /* DONE through peers, ever; and at the last probe: */
	uint64_t peer_done_count_seen;
	uint32_t resets_asked;	/* Aborts asked for and not yet answered. */
	uint64_t sequence_last; /* Of tries. */
	uint64_t deposed_at;	/* And what it was when the pool was last lost. */
	struct ferry_flush flush;
	struct ferry_keep keep;	     /* If config.flushes_by_path... */
	struct ferry_io keep_io;     /* ...what it writes anew now... */
	struct ferry_kept *replayed; /* ...and for whom. */
	struct ferry_flight keep_flushes[FERRY_LANES_MAX];
	uint64_t keep_stamps[FERRY_LANES_MAX]; /* What each of them covers. */
	struct ferry_router_stats stats;
};

/* What ferry_router_init() takes from the region, in bytes. */
size_t ferry_router_memory_bytes(uint32_t inflight_max, bool flushes_by_path);

/* -ENOMEM: the region is too small. */
int ferry_router_init(struct ferry_router *router, struct ferry_region *region,
		      const struct ferry_router_config *config) FERRY_MUST_CHECK;

/* Stop the timers. Nothing may be in flight. */
void ferry_router_done(struct ferry_router *router);

/* Add a path, the local one first. -ENOSPC: FERRY_LANES_MAX. */
int ferry_router_add_path(struct ferry_router *router, struct ferry_path *path, bool needs_permit,
			  struct ferry_lane **ret) FERRY_MUST_CHECK;

static inline struct ferry_lane *ferry_router_local(struct ferry_router *router)
{
	ferry_assert(router->lanes_count > 0);
	return &router->lanes[0];
}

/*
 * 0: io->on_done() runs once, later. -EAGAIN: inflight_max I/Os are here already. -ESHUTDOWN: the
 * pool is another node's now.
 */
int ferry_router_submit(struct ferry_router *router, struct ferry_io *io) FERRY_MUST_CHECK;

/*
 * Open: this node owns the pool under @epoch and a majority has it. Closed: what is in flight
 * ends, what waits goes on waiting (and fails when its time is over), nothing new is tried.
 */
void ferry_router_open(struct ferry_router *router, struct ferry_epoch epoch);
void ferry_router_close(struct ferry_router *router);

/* The pool is another node's, or nobody's: what waits fails, and so does what comes. */
void ferry_router_depose(struct ferry_router *router);

/* Fail all that waits, with @error. */
void ferry_router_fail_waiting(struct ferry_router *router, int error);

/* The number of the last ghost that a peer's agent older than @before carried by @lane; 0: none. */
uint64_t ferry_router_ghost_before(const struct ferry_router *router, const struct ferry_lane *lane,
				   struct ferry_incarnation before);

/*
 * Every ghost of @lane's nexus up to number @until (sequence_last when the abort was asked for) is
 * proven dead, by whom @by says. Whether none is left on the lane.
 */
bool ferry_router_laid(struct ferry_router *router, struct ferry_lane *lane, uint64_t until,
		       const char *by);

/* Whether ghosts or flights of this lane live. */
bool ferry_router_lane_is_clean(const struct ferry_router *router, const struct ferry_lane *lane);

/*
 * The lun was reset or restarted: what was acknowledged and not flushed may be lost. @lane is
 * where it was seen, NULL for news from elsewhere.
 */
void ferry_router_note_reset(struct ferry_router *router, struct ferry_lane *lane,
			     const char *what);

/* What was asked for by config.look_at_reset(): whether the local lane may be believed again. */
void ferry_router_reset_seen(struct ferry_router *router);

/*
 * An abort is being asked for. Where that may take a LUN RESET, every nexus will report it once,
 * before or after the abort itself is answered, and it loses nothing. Elsewhere a reset that is
 * seen meanwhile is somebody else's, and a loss.
 */
void ferry_router_expect_reset(struct ferry_router *router);

/* That abort has been answered, well or not; once for each expectation. */
void ferry_router_reset_answered(struct ferry_router *router);

/* An administrator has looked: flushes may succeed again. */
void ferry_router_clear_suspect(struct ferry_router *router);

static inline bool ferry_router_is_idle(const struct ferry_router *router)
{
	return router->routes_count == 0 && router->ghosts_count == 0;
}
