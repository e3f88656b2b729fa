/*
 * store.h - the stable storage port: a node's few small facts that must survive a power cut
 * (its incarnation, each pool's epoch).
 *
 * Owns:    nothing; it is only an interface.
 * Callers: fencing/ownership_epoch.c (epochs), agent/main (incarnation).
 * Thread:  the cluster loop; may block for one fsync.
 * Rooms:   adapters/statefile, tests/sim.
 */
#pragma once

#include "agent/base/base.h"

enum { FERRY_STORE_VALUE_BYTES_MAX = 512 };

struct ferry_store {
	const struct ferry_store_ops *ops;
};

struct ferry_store_ops {
	const char *name;
	/*
	 * Read the value of @key (a-z, 0-9, '-', '.'). Its length, or -ENOENT (never saved),
	 * -EBADMSG (it is damaged: do not go on as if there were none), -EIO, -ENOBUFS.
	 */
	int (*load)(struct ferry_store *store, const char *key, void *ret, size_t size_bytes);
	/* Replace it, all or nothing, durable on return. -EIO, -ENOSPC, -EROFS. */
	int (*save)(struct ferry_store *store, const char *key, const void *value,
		    size_t length_bytes);
};
