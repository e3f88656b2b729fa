/*
 * conclude.h - what an error of the kernel proves about an attempt (design, rules 1 and 6).
 *
 * Owns:    nothing.
 * Callers: device.c.
 * Thread:  any.
 * Rooms:   private to adapters/uring.
 */
#pragma once

#include "agent/ports/io.h"

struct ferry_conclusion {
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	bool is_path_gone; /* The device itself is away; the path is down. */
};

/*
 * @error: a negative errno of a completion. @is_whole: the attempt went to the device as one
 * command at most, so the error is that command's own.
 */
struct ferry_conclusion ferry_conclude(bool is_block_device, enum ferry_op op, bool is_whole,
				       int error);

/*
 * The same for the part of a FLUSH or of a FUA write that makes durable what was written before.
 * @is_cached: the kernel has a cache of its own under this descriptor, or may have.
 */
struct ferry_conclusion ferry_conclude_sync(bool is_block_device, bool is_cached, enum ferry_op op,
					    bool is_whole, int error);

/* The same, where it was a flusher that did that. */
struct ferry_conclusion ferry_conclude_flush(enum ferry_op op, enum ferry_outcome outcome,
					     enum ferry_cause cause);
