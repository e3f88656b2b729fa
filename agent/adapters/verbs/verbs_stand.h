/*
 * verbs_stand.h - two agents' devices in one process, each with a link to the other, on one address
 * of this machine that has an RDMA device: FERRY_RDMA_ADDRESS. Without it tests are skipped;
 * tests/vm/rdma.sh has it.
 *
 * Owns:    the loop, the arenas, the key, both sides, what became of each message.
 * Callers: the tests of this room.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/openssl/openssl.h"
#include "agent/adapters/uring/loop.h"
#include "agent/adapters/verbs/room.h"
#include "agent/ports/io.h"

enum {
	ARENA_BYTES = 16 * 1024 * 1024,
	NOTES = 96,
	WAIT_S = 120, /* Emulated machines are slow. */
	LINKS_MAX = 4,
	LARGE_BLOCKS = 128, /* 64 KiB */
};

#define DEAD_AFTER_NS (3 * FERRY_NS_PER_S)

/* One message of the tests: a request, or the answer to one. */
struct note {
	struct ferry_message message;
	struct end *end;
	bool is_busy;
	uint32_t sent_count;
};

/* What hangs on one link, at either end. */
struct end {
	struct side *side;
	struct ferry_link *link;
	struct note notes[NOTES];
	uint32_t ups, downs, messages, dropped;
	uint32_t whole, nothing, unsure, busy;
	uint64_t sequence, bytes;
	bool is_echo;	  /* Answer each request. */
	bool is_keeping;  /* Keep the answers back. */
	bool is_hoarding; /* -ENOBUFS. */
	bool is_waiting;  /* It said so. */
	bool has_up;
	struct ferry_wire_header header; /* The last that came. */
	char why[192];
};

/* One agent. */
struct side {
	struct world *world;
	uint32_t node;
	uint64_t incarnation;
	struct ferry_verbs *verbs;
	void *memory;
	_Alignas(64) uint8_t descriptors[64 * 1024];
	struct ferry_region region;
	struct ferry_arena arena;
	struct end asks;   /* Its outgoing link. */
	struct end serves; /* Its incoming link. */
};

struct world {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_auth *auth;
	struct ferry_timer pause;
	struct ferry_events events;
	struct ferry_event last;
	uint32_t refused_events;
	struct ferry_rdma_secret secret;
	bool has_no_secret;
	struct side side[2]; /* Nodes 1 and 2. */
	char folder[64];
	char key[80];
};

#define WAIT(world, condition)                                                                     \
	do {                                                                                       \
		uint64_t _until_ns = clock_ns() + WAIT_S * FERRY_NS_PER_S;                         \
		while (!(condition)) {                                                             \
			if (clock_ns() > _until_ns)                                                \
				fail_msg("%s:%d: never: %s", __FILE__, __LINE__, #condition);      \
			turn(world);                                                               \
		}                                                                                  \
	} while (0)

#define TEST(function) cmocka_unit_test_setup_teardown(function, world_open, world_close)

/* FERRY_RDMA_ADDRESS. */
const char *stand_address(void);
/* 77 without one. */
#define STAND_RUN(tests) (stand_address() ? cmocka_run_group_tests(tests, NULL, NULL) : 77)

uint64_t clock_ns(void);
/* Run the loop for a millisecond. */
void turn(struct world *world);
void wait_ns(struct world *world, uint64_t ns);
/* The content follows from the seed, so that the far end can verify it. */
void fill(struct ferry_segments *segments, uint64_t seed);
bool is_filled(const struct ferry_segments *segments, uint64_t seed);
/* A WRITE or READ of @blocks, a READ with room for its answer. 0, or why not. */
int request(struct end *end, enum ferry_op op, uint32_t blocks);
/* DONE, and of a READ its data. */
void answer(struct end *end, const struct ferry_wire_header *header);
void end_attach(struct side *side, struct end *end, struct ferry_link *link);
int side_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation);
int side_secret(void *context, struct ferry_node node, struct ferry_incarnation incarnation,
		struct ferry_rdma_secret *ret);
int side_open(struct side *side, uint16_t port, struct ferry_error *reterr);
void side_connect(struct side *side, struct side *far);
/* With both sides, or the second alone. */
struct world *world_make(uint32_t first);
/* Both sides, each with a link to the other: for cmocka. */
int world_open(void **state);
int world_close(void **state);
void all_up(struct world *world);
/* Of two links one has fallen; the other carries on. */
void only_one_fell(struct world *world);
