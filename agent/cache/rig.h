/*
 * rig.h - a cache over a disk in memory, for tests: every I/O below waits until it is told to
 * land, block by block, and to end.
 *
 * Owns:    a loop that runs when told, an arena, the disk, the I/Os below, the cache.
 * Callers: cache_test.c, migrate/warm_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/cache/cache.h"

enum {
	RIG_BLOCK_BYTES = 512,
	RIG_LINE_BLOCKS = FERRY_CACHE_LINE_BYTES / RIG_BLOCK_BYTES,
	RIG_LINES = 512, /* The disk's. */
	RIG_BLOCKS = RIG_LINES * RIG_LINE_BLOCKS,
	RIG_BELOW_MAX = 64,
};

/* An application's I/O. */
struct rig_io {
	struct ferry_io io;
	struct rig *rig;
	bool is_busy;
	bool is_done;
	int error;
};

struct rig {
	struct ferry_loop loop;
	struct ferry_list tasks;
	struct ferry_timer *timer; /* The one that is started, or NULL. */
	uint64_t now_ns;
	struct ferry_arena arena;
	struct ferry_block bottom;
	uint8_t disk[RIG_BLOCKS * RIG_BLOCK_BYTES];
	struct ferry_io *below[RIG_BELOW_MAX]; /* In order of submission; NULL: ended. */
	uint32_t landed_blocks[RIG_BELOW_MAX];
	uint32_t below_count;
	int below_refuses; /* The next submit below says this. */
	uint64_t content;  /* Of the last write. */
	uint32_t ghosts_count;
	struct ferry_flush flush;
	struct ferry_cache cache;
	struct ferry_region region;
	void *memory[3];
};

/* Serving, as node 1, epoch 1. */
void rig_open(struct rig *rig, uint32_t lines_max, uint32_t tickets_max);
void rig_close(struct rig *rig);

void rig_view(struct rig *rig, uint32_t owner, uint64_t epoch, bool is_in_force, bool is_quorate);

/* Submit; a write's blocks are filled with something new. */
int rig_submit(struct rig *rig, struct rig_io *io, enum ferry_op op, uint64_t lba,
	       uint32_t length_blocks);

/* The next @count blocks of that I/O below reach the disk, or come from it. */
void rig_land(struct rig *rig, uint32_t which, uint32_t count);

/* It ends; with 0 all of it has landed. */
void rig_end(struct rig *rig, uint32_t which, int error);

/* Land and end whatever is below. */
void rig_end_all(struct rig *rig);
void rig_run_tasks(struct rig *rig);

/* Let time pass: the timer runs if it is due, and the tasks. */
void rig_advance(struct rig *rig, uint64_t ns);

/* Drop what a read brought. */
void rig_forget(struct rig_io *io);

/* Read one range to its end; whether it was a hit. The data is checked against the disk. */
bool rig_read(struct rig *rig, uint64_t lba, uint32_t length_blocks);
void rig_write(struct rig *rig, uint64_t lba, uint32_t length_blocks);

/* Whether the line is in the cache; if so, it is as on the disk. */
bool rig_has(struct rig *rig, uint64_t number);
