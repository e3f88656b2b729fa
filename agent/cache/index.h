/*
 * index.h - which lines of a volume are in the cache, where, and how hot they are.
 *
 * A hash of lines, and SIEVE (Zhang et al., "SIEVE is simpler than LRU", NSDI 2024) to choose what
 * makes room: new lines enter at the front of a queue that a hit never reorders; a hand walks from
 * the old end, spares what was used since it last came by, and takes the first that was not. Each
 * line has a heat, one more per hit and halved whenever the hand spares it, so that the hottest
 * can be told from the merely used when the cache moves.
 *
 * Owns:    the table, the queue, the lines' memory; knows nothing of reads, writes or epochs.
 * Callers: cache.c.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/region.h"

enum {
	/*
	 * ext4, xfs and databases ask in multiples of 4 KiB at such offsets. A larger line would
	 * need reads that nobody asked for before it could enter whole, or waste what it rounds up.
	 */
	FERRY_CACHE_LINE_BYTES = 4096,
};

#define FERRY_INDEX_NONE UINT32_MAX
#define FERRY_INDEX_LINES_MAX (UINT32_C(1) << 24) /* 64 GiB. */

struct ferry_index_line {
	uint64_t number;    /* The volume's offset in lines. */
	uint32_t hash_next; /* In its bucket, or in the free list. */
	uint32_t newer;	    /* In the queue, towards the front. */
	uint32_t older;
	uint64_t mark; /* The cache's. */
	uint16_t heat;
	bool is_there;	 /* Its data is valid. */
	bool is_visited; /* Since the hand last came by. */
	bool is_warm;	 /* It came from another node's cache. */
};

struct ferry_index {
	struct ferry_index_line *lines;
	uint32_t *buckets;
	uint8_t *data;
	uint32_t lines_max;
	uint32_t buckets_count; /* A power of two. */
	uint32_t lines_count;	/* There now. */
	uint32_t warm_count;	/* Of them, warm ones. */
	uint32_t fresh;		/* From here on lines were never used since the last clear. */
	uint32_t free;		/* The first of those that were given back. */
	uint32_t newest;
	uint32_t oldest;
	uint32_t hand;
	uint64_t evictions;
};

/* What ferry_index_init() takes from the region. */
size_t ferry_index_memory_bytes(uint32_t lines_max);

/* @data is lines_max * FERRY_CACHE_LINE_BYTES long. -ENOMEM: the region is too small. */
int ferry_index_init(struct ferry_index *index, struct ferry_region *region, void *data,
		     uint32_t lines_max) FERRY_MUST_CHECK;

/* The slot of line @number, or FERRY_INDEX_NONE. */
uint32_t ferry_index_find(const struct ferry_index *index, uint64_t number);

/* The line was used. */
void ferry_index_touch(struct ferry_index *index, uint32_t slot);

/* A slot for line @number, which is not there yet; another line may have to go. */
uint32_t ferry_index_add(struct ferry_index *index, uint64_t number);

void ferry_index_remove(struct ferry_index *index, uint32_t slot);
void ferry_index_clear(struct ferry_index *index);

/* Put the queue into order of heat: from newest on, the hottest first. */
void ferry_index_sort(struct ferry_index *index);

static inline bool ferry_index_is_full(const struct ferry_index *index)
{
	return index->lines_count == index->lines_max;
}

static inline uint8_t *ferry_index_data(const struct ferry_index *index, uint32_t slot)
{
	ferry_assert(slot < index->lines_max);
	return index->data + (size_t)slot * FERRY_CACHE_LINE_BYTES;
}
