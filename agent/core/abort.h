/*
 * abort.h - killing one nexus at the lun, also when an earlier try's answer was lost.
 *
 * PREEMPT AND ABORT is no request that one may just repeat: done once, its victim is not registered
 * any more, and asking again says so. But a registration of ours vanishes in two ways only: by such
 * an abort, or because its node registered another key in its place. So: if the victim's node has
 * no key at all, its nexus was aborted since it last wrote; if it has another, that one is killed.
 *
 * Owns:    the walk of one abort.
 * Callers: laying.c, engine.c.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/ports/fence.h"

struct ferry_abort {
	struct ferry_fence *fence;
	struct ferry_fence_request request;
	struct ferry_key victim;
	uint32_t attempts;
	bool is_busy;
	/* Exactly once, never from inside start: 0 proven dead; or ferry_fence_request's errors. */
	void (*on_done)(struct ferry_abort *abort, int error);
	void *context;
};

/* The callbacks are set; nothing is under way. @victim is another node's key than @own. */
void ferry_abort_start(struct ferry_abort *abort, struct ferry_fence *fence, struct ferry_key own,
		       struct ferry_key victim);
