/*
 * region.h - memory that is handed down at start and at open, and never grows.
 *
 * Ranks 0-3 call no allocator: whoever opens a pool or a volume makes one region, the rooms take
 * their tables from it, and closing the pool gives the whole region back.
 *
 * Owns:    nothing: the memory belongs to whoever called ferry_region_init().
 * Callers: every open function of ranks 1-3; agent/main and tests make the regions.
 * Thread:  the owner's.
 * Rooms:   rank 0.
 */
#pragma once

#include "agent/base/base.h"

struct ferry_region {
	uint8_t *memory;
	size_t size_bytes;
	size_t used_bytes;
	bool sealed;
};

void ferry_region_init(struct ferry_region *region, void *memory, size_t size_bytes);

/*
 * Take zeroed room for @count objects of @size_bytes, aligned to 64 bytes (a cache line).
 * NULL when the region is too small. Taking from a sealed region is a bug of ours.
 */
void *ferry_region_take(struct ferry_region *region, size_t count,
			size_t size_bytes) FERRY_MUST_CHECK;

/* From here on nothing more may be taken: opening is over. */
void ferry_region_seal(struct ferry_region *region);
