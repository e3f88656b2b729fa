/*
 * core_stand.h - what the unit tests of core/ share: a simulated loop, an arena, a path that does
 * what the test says.
 *
 * Owns:    its attempts, until the test ends them.
 * Callers: the unit tests of agent/core/.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include <stdlib.h>

#include "agent/core/router.h"
#include "tests/sim/sim_loop.h"

enum { STAND_CHUNKS = 16, STAND_ATTEMPTS_MAX = 32, STAND_BLOCK_BYTES = 512 };

struct stand_path {
	struct ferry_path path;
	struct ferry_attempt *attempts[STAND_ATTEMPTS_MAX]; /* In the order of submission. */
	uint32_t count;
	int submit_error;
	uint32_t resets;
};

struct stand {
	struct sim sim;
	struct sim_loop loop;
	struct ferry_region region;
	void *memory;
	void *chunks;
	struct ferry_arena arena;
};

static inline int stand_path_submit(struct ferry_path *path, struct ferry_attempt *attempt)
{
	struct stand_path *self = FERRY_CONTAINER_OF(path, struct stand_path, path);

	if (self->submit_error < 0)
		return self->submit_error;
	ferry_assert(self->count < STAND_ATTEMPTS_MAX);
	self->attempts[self->count++] = attempt;
	return 0;
}

static inline void stand_path_reset(struct ferry_path *path)
{
	FERRY_CONTAINER_OF(path, struct stand_path, path)->resets++;
}

static inline void stand_path_init(struct stand_path *self, enum ferry_path_kind kind,
				   uint32_t node, bool can_reset)
{
	static const struct ferry_path_ops with_reset = {
		.name = "stand", .submit = stand_path_submit, .reset = stand_path_reset};
	static const struct ferry_path_ops without_reset = {.name = "stand",
							    .submit = stand_path_submit};

	*self = (struct stand_path){.path = {.ops = can_reset ? &with_reset : &without_reset,
					     .kind = kind,
					     .node = {node},
					     .is_up = true}};
}

static inline void stand_end(struct stand_path *self, uint32_t i, enum ferry_outcome outcome,
			     enum ferry_cause cause)
{
	ferry_assert(i < self->count && self->attempts[i]);
	self->attempts[i]->on_end(self->attempts[i], outcome, cause);
}

static inline void stand_release(struct stand_path *self, uint32_t i)
{
	struct ferry_attempt *attempt = TAKE_PTR(self->attempts[i]);

	attempt->on_released(attempt);
}

static inline void stand_done(struct stand_path *self, uint32_t i)
{
	stand_end(self, i, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	stand_release(self, i);
}

static inline void stand_open(struct stand *stand)
{
	int r;

	sim_init(&stand->sim, 1);
	sim_loop_init(&stand->loop, &stand->sim, 1);
	stand->memory = sim_alloc(8 * FERRY_MIB);
	ferry_region_init(&stand->region, stand->memory, 8 * FERRY_MIB);
	stand->chunks = aligned_alloc(FERRY_CHUNK_BYTES, STAND_CHUNKS * FERRY_CHUNK_BYTES);
	r = ferry_arena_init(&stand->arena, &stand->region, stand->chunks,
			     STAND_CHUNKS * FERRY_CHUNK_BYTES);
	ferry_assert(r == 0);
}

static inline void stand_close(struct stand *stand)
{
	ferry_assert(stand->arena.free_count == STAND_CHUNKS); /* Nothing leaks. */
	ferry_assert(stand->loop.timers_count == 0);	       /* Nothing goes on. */
	ferry_assert(ferry_list_is_empty(&stand->loop.tasks));
	sim_loop_done(&stand->loop);
	sim_done(&stand->sim);
	free(stand->memory);
	free(stand->chunks);
}

static inline void stand_run_ms(struct stand *stand, uint64_t ms)
{
	sim_run_until(&stand->sim, stand->sim.now_ns + ms * FERRY_NS_PER_MS);
}

/* ---- A router between such paths, whose news go nowhere. ---- */

static inline void stand_ignore_lane(struct ferry_lane *lane, void *context)
{
	(void)lane;
	(void)context;
}

static inline void stand_ignore_verdict(enum ferry_verdict verdict, void *context)
{
	(void)verdict;
	(void)context;
}

static inline void stand_ignore(void *context)
{
	(void)context;
}

/* Node 1's; a test changes what it is about. */
static inline struct ferry_router_config stand_router_config(struct stand *stand)
{
	return (struct ferry_router_config){
		.loop = &stand->loop.loop,
		.arena = &stand->arena,
		.pool = "pool",
		.self = {1},
		.block_bytes = STAND_BLOCK_BYTES,
		.inflight_max = 8,
		.path_timeout_ns = 1 * FERRY_NS_PER_S,
		.hold_timeout_ns = 5 * FERRY_NS_PER_S,
		.convict_failures = 2,
		.convict_window_ns = 60 * FERRY_NS_PER_S,
		.lay = stand_ignore_lane,
		.on_verdict = stand_ignore_verdict,
		.on_lanes = stand_ignore,
		.on_idle = stand_ignore,
	};
}
