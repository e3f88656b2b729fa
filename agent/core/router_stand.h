/*
 * router_stand.h - a router between scripted paths, for tests: its own node's to the lun, and two
 * peers'.
 *
 * Owns:    all of that; one of each.
 * Callers: router_test.c, router_ghost_test.c, router_flush_test.c, router_keep_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/router.h"
#include "tests/sim/core_stand.h"

enum { ROUTER_IOS_MAX = 8 };

struct router_stand {
	struct stand stand;
	struct stand_path paths[3]; /* The local one first. */
	struct ferry_router router;
	struct ferry_io ios[ROUTER_IOS_MAX];
	int results[ROUTER_IOS_MAX]; /* 1: not done. */
	uint32_t lays;
	enum ferry_verdict verdict;
};

extern struct router_stand at;

/* Open, in epoch 7; the peers have said what they have seen: one reset. */
int router_setup(void **state);
int router_setup_by_path(void **state); /* Each path has a cache of its own. */
int router_teardown(void **state);

/* Four blocks. */
void submit(uint32_t i, enum ferry_op op, uint64_t lba);
void submit_flagged(uint32_t i, enum ferry_op op, uint32_t flags, uint64_t lba);

/* Submit a FLUSH, which the local path ends at once. */
void flush_by_local(uint32_t io, int expected);

/* The peer that has been asked for @count attempts. */
struct stand_path *peer_with(uint32_t count);

/* DONE, by an agent that has seen @losses resets. */
void peer_done(struct stand_path *path, uint32_t i, uint64_t losses);

/* All that the peers have, by agents that have seen no other reset. */
void peers_done(void);

/* All that path @i has. */
void end_all(int i);

/* The last that @path has been asked for. */
void end_unknown(struct stand_path *path);

void local_is_lost(void);

/* The ghosts of lane @i. */
bool lay(uint32_t i);
