/*
 * keep.h - what is kept of acknowledged writes until they are durable, on luns where each path has
 * a volatile cache of its own (flush scope "path"; design, rule 10).
 *
 * A write that a path has acknowledged stays here, with its data, until that path has flushed. Is
 * the path lost before, what it had is an orphan: to be written anew by another path, in the order
 * of acknowledgement. What overlaps a kept write goes by the same path, or after it is durable; so
 * kept writes that overlap are all of one path, and their order is that path's. What overlaps kept
 * writes of several paths waits until no more than one path has any of them unflushed.
 *
 * Owns:    the entries; a use of their data's chunks.
 * Callers: the router's files.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/region.h"
#include "agent/core/lane.h"

enum {
	FERRY_KEPT_PER_ROUTE = 4, /* Entries for each I/O that may be in flight. */
	FERRY_KEEP_ROUNDS_MAX = 3,
};

struct ferry_kept {
	struct ferry_list link; /* In kept, in the order of acknowledgement; or in free. */
	enum ferry_op op;
	uint32_t flags;
	struct ferry_lba lba;
	uint32_t length_blocks;
	struct ferry_segments segments; /* A WRITE's. */
	struct ferry_lane *lane;	/* Whose cache has it; NULL: an orphan. */
	uint64_t number;		/* Of acknowledgement. */
	uint64_t stamp;			/* When its lane got it: what a flush covers. */
};

struct ferry_keep {
	bool is_on;
	struct ferry_list kept;
	struct ferry_list free;
	uint32_t count;
	uint32_t count_max; /* Beside what is in flight. */
	uint32_t chunks;
	uint32_t chunks_max;
	uint64_t number_last;
	uint64_t stamp_last;
	uint64_t flush_until;	/* Somebody waits for these to be durable. */
	uint32_t lanes_flushed; /* A bit per lane on which a flush is under way. */
	bool is_replaying;
	bool is_replay_split; /* What is written anew overlaps what two paths have. */
	uint32_t rounds;      /* Flushes that failed in a row. */
};

/* Memory for @inflight_max writes at once; @chunks_max of the data's chunks. -ENOMEM. */
int ferry_keep_init(struct ferry_keep *keep, struct ferry_region *region, uint32_t inflight_max,
		    uint32_t chunks_max) FERRY_MUST_CHECK;
size_t ferry_keep_memory_bytes(uint32_t inflight_max);

/* Whether another write may set out; if not, what there is has to be flushed first. */
static inline bool ferry_keep_has_room(const struct ferry_keep *keep)
{
	return keep->count < keep->count_max && keep->chunks < keep->chunks_max;
}

/* @attempt is DONE on @lane. NULL: @lane may have lost it already. */
void ferry_keep_add(struct ferry_keep *keep, const struct ferry_attempt *attempt,
		    struct ferry_lane *lane);

/* A kept write that overlaps the range, an orphan or one of a path; or NULL. */
struct ferry_kept *ferry_keep_find(struct ferry_keep *keep, struct ferry_lba lba,
				   uint32_t length_blocks, bool is_orphan);

/* Whether those in the range are of several paths: no path has an order of them all. */
bool ferry_keep_is_split(struct ferry_keep *keep, struct ferry_lba lba, uint32_t length_blocks);

/* The number of the oldest one; of @lane's if it is not NULL. UINT64_MAX: none. */
uint64_t ferry_keep_oldest(const struct ferry_keep *keep, const struct ferry_lane *lane);

/* @lane's cache may be lost; NULL: all are. Whether it had any. */
bool ferry_keep_orphan(struct ferry_keep *keep, const struct ferry_lane *lane);
/* The next one after @before, or the first; in the order in which they were written. */
struct ferry_kept *ferry_keep_next_orphan(struct ferry_keep *keep, struct ferry_kept *before);

/* What @lane got until @stamp is durable. */
void ferry_keep_flushed(struct ferry_keep *keep, const struct ferry_lane *lane, uint64_t stamp);

void ferry_keep_drop(struct ferry_keep *keep, struct ferry_kept *kept);
void ferry_keep_clear(struct ferry_keep *keep);
