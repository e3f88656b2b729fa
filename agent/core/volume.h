/*
 * volume.h - a raw volume: the lun as it is, as front ends see it.
 *
 * Owns:    the count of I/Os in flight, and the quiet that a handover needs.
 * Callers: engine.c opens it; front ends submit through the block port.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/core/router.h"
#include "agent/ports/block.h"

struct ferry_volume_stats {
	uint64_t bytes_read;
	uint64_t bytes_written;
};

struct ferry_volume {
	struct ferry_block block;   /* What front ends see. */
	struct ferry_block bottom;  /* The router, as a filter sees it. */
	struct ferry_block *filter; /* What checked I/O goes to: a cache, or the bottom. */
	struct ferry_router *router;
	/* NULL, or to look, before an I/O is admitted, at what may have happened meanwhile. */
	void (*before)(struct ferry_volume *volume);
	bool is_closed;
	struct ferry_volume_stats stats;
};

void ferry_volume_init(struct ferry_volume *volume, struct ferry_router *router, const char *name,
		       uint64_t size_blocks, uint32_t block_bytes, bool can_discard,
		       bool is_read_only);

/* Put a filter (a cache) over volume->bottom; before the first I/O. */
void ferry_volume_set_filter(struct ferry_volume *volume, struct ferry_block *filter);

/* From here on every submit says -ESHUTDOWN; what is in flight goes on. */
void ferry_volume_close(struct ferry_volume *volume);
