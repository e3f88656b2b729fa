/*
 * ownership_stand.h - one node's part in a pool among scripted others, for tests: node 1 of two or
 * three, whose disk, group and data thread do what the test says.
 *
 * Owns:    all of that; one of each.
 * Callers: ownership_test.c, ownership_force_test.c, ownership_wish_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/base/checksum.h"
#include "agent/core/key.h"
#include "fencing/ownership.h"
#include "tests/sim/core_stand.h"

enum { SAID_MAX = 64, RESEND_MS = 20, CLAIM_MS = 500, DRAIN_MS = 3000 };

extern struct stand stand;
extern struct ferry_group group;
extern struct ferry_group_message said[SAID_MAX]; /* Not heard by itself yet. */
extern uint32_t said_count;
extern uint32_t says[FERRY_GROUP_TYPE_LAST + 1]; /* How often, by type. */
extern struct ferry_group_message last[FERRY_GROUP_TYPE_LAST + 1];
extern int refusal;	 /* What multicast() says. */
extern int stored_bytes; /* Or the error of load(). */
extern int save_error;
extern struct ferry_ownership_config config;
extern struct ferry_ownership ownership;
extern struct ferry_view view; /* As last published. */
extern uint32_t takes;
extern struct ferry_drained_keys drained; /* As last asked to take with. */
extern bool peer_has_path[8];
extern uint32_t path_news;
extern uint32_t wishes;
extern int wish;
extern uint32_t fences;
extern int fenced;

/* Three nodes, reservations, all of them there: nobody owns the pool. */
int setup(void **state);
int teardown(void **state);
void open_as(uint32_t nodes, bool has_reservations);
/* Another in the place of the one that is open. */
void reopen_as(uint32_t nodes, bool has_reservations);

/* A new ring of nodes 1 to @count. */
void ring_of(uint32_t count, bool is_quorate);

/* Its own messages come back, in their order. */
void echo(void);

struct ferry_group_message message_of(enum ferry_group_type type, uint64_t epoch, uint32_t owner,
				      uint32_t flags);
void hear(uint32_t from, enum ferry_group_type type, uint64_t epoch, uint32_t owner,
	  uint32_t flags);
void hear_fence(uint32_t from, enum ferry_group_type type, uint32_t victim, uint64_t incarnation,
		uint32_t flags);

/* All of the others say their STATE. */
void speak(uint64_t epoch, uint32_t owner, uint32_t flags);

/* The epoch of its claim is at all of them, and nothing older is in flight anywhere. */
void all_drain(uint64_t epoch);

/* It owns the pool; its claim is to be that epoch. */
void own(uint64_t epoch);
bool is_drained(uint32_t node);
