/*
 * flusher.h - the flusher port: has a disk write back its volatile cache, and says how that ended.
 *
 * The kernel folds a flush's end into an errno, and EIO is both the path's failure and the disk's
 * own. Here the two are told apart: after the one the cache is as it was, after the other
 * acknowledged writes may be lost (design, rule 11).
 *
 * Owns:    nothing; it is only an interface.
 * Callers: adapters/uring/device.c.
 * Thread:  the pool's data loop.
 * Rooms:   adapters/sgio/flusher.h.
 */
#pragma once

#include "agent/base/list.h"
#include "agent/ports/io.h"

struct ferry_flusher_request {
	/*
	 * Exactly once, never from inside submit. DONE: all that had been acknowledged when it was
	 * submitted is durable. LOST and RESET as for an attempt. INVALID: the disk takes no such
	 * command, and nobody need ask again. Otherwise nothing is known to be lost.
	 */
	void (*on_done)(struct ferry_flusher_request *request, enum ferry_outcome outcome,
			enum ferry_cause cause);
	struct ferry_list link; /* The flusher's, while the request is in its hands. */
};

struct ferry_flusher {
	const struct ferry_flusher_ops *ops;
};

struct ferry_flusher_ops {
	const char *name;

	/* Borrows @request until on_done(). Any number at once. */
	void (*submit)(struct ferry_flusher *flusher, struct ferry_flusher_request *request);
};

static inline void ferry_flusher_submit(struct ferry_flusher *flusher,
					struct ferry_flusher_request *request)
{
	ferry_assert(flusher && flusher->ops);
	ferry_assert(request && request->on_done);
	flusher->ops->submit(flusher, request);
}
