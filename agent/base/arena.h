/*
 * arena.h - the buffers of I/O: fixed chunks with a count of their users.
 *
 * All data of I/O lives in chunks of one region that is locked, and registered with io_uring and
 * with verbs by its address and size. A chunk goes back to the free list when its last user drops
 * it; so memory that the kernel or a NIC may still touch cannot be used again (design, rule 9).
 *
 * Owns:    the chunks' descriptors and the free list; the memory is the caller's.
 * Callers: front ends (write data), core/router.c (read data), core/carrier.c (peers' data).
 * Thread:  one: the data thread that the arena belongs to.
 * Rooms:   rank 0.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/list.h"
#include "agent/base/region.h"

enum {
	FERRY_CHUNK_BYTES = 64 * 1024,
	FERRY_IO_BYTES_MAX = 1024 * 1024, /* The largest read or write that carries data. */
	FERRY_SEGMENTS_MAX = FERRY_IO_BYTES_MAX / FERRY_CHUNK_BYTES,
};

struct ferry_chunk {
	uint8_t *data; /* FERRY_CHUNK_BYTES, aligned to FERRY_CHUNK_BYTES. */
	struct ferry_arena *arena;
	struct ferry_list link;
	uint32_t users;
};

struct ferry_segment {
	struct ferry_chunk *chunk;
	uint32_t offset_bytes; /* Within the chunk. */
	uint32_t length_bytes; /* Never zero. */
};

/* The data of one I/O or of one attempt, in order; holds one use of each chunk. */
struct ferry_segments {
	uint32_t count;
	uint32_t length_bytes; /* The sum over the segments. */
	struct ferry_segment v[FERRY_SEGMENTS_MAX];
};

/* Someone who found the arena empty. run() is called when chunks came back: post a task there. */
struct ferry_arena_waiter {
	struct ferry_list link;
	void (*run)(struct ferry_arena_waiter *waiter);
};

struct ferry_arena {
	struct ferry_chunk *chunks;
	struct ferry_list free;
	struct ferry_list waiters;
	uint32_t chunks_count;
	uint32_t free_count;
};

/*
 * Cut @memory (aligned to FERRY_CHUNK_BYTES, a multiple of it) into chunks; descriptors come from
 * @region. -ENOMEM: the region is too small.
 */
int ferry_arena_init(struct ferry_arena *arena, struct ferry_region *region, void *memory,
		     size_t size_bytes) FERRY_MUST_CHECK;

/*
 * Take chunks for @length_bytes (1..FERRY_IO_BYTES_MAX), all or none. Every segment starts at the
 * chunk's start; all but the last are whole chunks. -ENOBUFS: not now; ferry_arena_wait().
 */
int ferry_arena_take(struct ferry_arena *arena, uint32_t length_bytes,
		     struct ferry_segments *ret) FERRY_MUST_CHECK;

/* Have @waiter->run called once, when chunks are free again. A waiter waits at most once. */
void ferry_arena_wait(struct ferry_arena *arena, struct ferry_arena_waiter *waiter);
void ferry_arena_unwait(struct ferry_arena_waiter *waiter);

/* Another user of the same data: @ret holds its own use of each chunk. */
void ferry_segments_share(const struct ferry_segments *segments, struct ferry_segments *ret);

/* Drop this use and empty @segments. Empty segments are a no-op. */
void ferry_segments_drop(struct ferry_segments *segments);

/* Copy to or from plain memory; the range must lie within the segments. */
void ferry_segments_write(const struct ferry_segments *segments, uint32_t offset_bytes,
			  const void *from, uint32_t length_bytes);
void ferry_segments_read(const struct ferry_segments *segments, uint32_t offset_bytes, void *to,
			 uint32_t length_bytes);
