/*
 * sim_checker.h - whether what applications saw could have been a disk: each block is a register
 * that is linearizable (Herlihy and Wing, 1990), and more than that.
 *
 * Each write writes its own tag into all of its blocks. A read must return, for each block, a
 * write that no other write had replaced for certain before the read began. A write that ended
 * with an error, or whose application died with its node, may have happened or not; but it may not
 * happen any more once a later write has been acknowledged (design, rule 4).
 *
 * Owns:    each block's history, cut to what may still be returned.
 * Callers: sim_workload.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "tests/sim/sim.h"

enum { SIM_HISTORY_MAX = 8192 };

struct sim_write {
	uint64_t tag;	/* 0: zeroes. */
	uint64_t start; /* All by the checker's own clock, which ticks at each call. */
	uint64_t end;	/* UINT64_MAX while it runs. */
	uint64_t known; /* Acknowledged, or seen by a read that has ended; else UINT64_MAX. */
};

struct sim_history {
	struct sim_write writes[SIM_HISTORY_MAX];
	uint32_t count;
};

struct sim_checker {
	struct sim *sim;
	struct sim_history *blocks;
	uint64_t size_blocks;
	uint64_t clock;
	uint64_t reads_checked;
};

void sim_checker_init(struct sim_checker *checker, struct sim *sim, uint64_t size_blocks);
void sim_checker_done(struct sim_checker *checker);

uint64_t sim_checker_now(struct sim_checker *checker);

/* @oldest: when the oldest I/O that still runs began; what no later read can return is cut. */
void sim_checker_write_begin(struct sim_checker *checker, uint64_t tag, uint64_t lba,
			     uint32_t length_blocks, uint64_t oldest);
void sim_checker_write_end(struct sim_checker *checker, uint64_t tag, uint64_t start, uint64_t lba,
			   uint32_t length_blocks, bool is_acknowledged);

/* Whether a read that began at @start and has just ended may have returned @tag for @lba. */
bool sim_checker_read(struct sim_checker *checker, uint64_t start, uint64_t lba, uint64_t tag);
