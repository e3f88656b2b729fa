/*
 * tracker.h - whose fault is it: this node's path, or the storage itself?
 *
 * Paired outcomes: in one interval the local path failed and a peer's worked, or both failed, or
 * the local path worked. One observation per interval, however many I/Os it hit. The rule here is
 * n failures in a window; only pairs "local failed, peer succeeded" count, and a local success
 * takes everything back.
 *
 * Owns:    the times of the last observations that count.
 * Callers: router.c.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2. Pure: time comes in with each observation.
 */
#pragma once

#include "agent/base/base.h"

enum { FERRY_TRACKER_FAILURES_MAX = 32 };

enum ferry_verdict {
	FERRY_VERDICT_NONE = 1,	 /* Nothing to say against this node's path. */
	FERRY_VERDICT_LOCAL_PATH /* This node's own path is broken, and it will last. */
};

struct ferry_tracker {
	uint32_t failures_needed; /* 1..FERRY_TRACKER_FAILURES_MAX */
	uint64_t window_ns;
	uint64_t times_ns[FERRY_TRACKER_FAILURES_MAX];
	uint32_t next;
	uint32_t count;
	enum ferry_verdict verdict;
};

void ferry_tracker_init(struct ferry_tracker *tracker, uint32_t failures_needed,
			uint64_t window_ns);

/*
 * One interval's pair. @peer_succeeded is meaningless when @local_succeeded.
 * Both failed: the storage itself; nothing counts and nothing moves.
 */
enum ferry_verdict ferry_tracker_observe(struct ferry_tracker *tracker, uint64_t now_ns,
					 bool local_succeeded, bool peer_succeeded);
