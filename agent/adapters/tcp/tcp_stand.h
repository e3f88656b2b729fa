/*
 * tcp_stand.h - node 1's connector and node 2's listener on one loop, for tests, and a peer that
 * has the key but no transport of ours.
 *
 * Owns:    the loop, the arena, the key, both sides, what became of each message.
 * Callers: the tests of this room.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/openssl/openssl.h"
#include "agent/adapters/tcp/tcp.h"
#include "agent/adapters/uring/loop.h"
#include "agent/ports/io.h"

enum {
	ARENA_BYTES = 16 * 1024 * 1024,
	WINDOW = 24,
	WAIT_S = 20,
	RAW_NODE = 9,
	RAW_INCARNATION = 90,
};

#define DEAD_AFTER_NS (300 * FERRY_NS_PER_MS)

/* One message of the tests: a request, or the echo of one. */
struct note {
	struct ferry_message message;
	struct end *end;
	bool is_busy;
	uint32_t sent_count;
};

/* What hangs on one link, at either side. */
struct end {
	struct world *world;
	struct ferry_link *link;
	struct note notes[WINDOW * 4];
	uint32_t ups, downs, messages, dropped, asked;
	uint32_t whole, nothing, unsure, busy;
	uint64_t sequence;
	uint64_t bytes;
	bool is_echo;	  /* Answer each WRITE by a READ's data. */
	bool is_hoarding; /* -ENOBUFS. */
	bool is_waiting;  /* It said so. */
	bool is_breaking; /* -EPROTO. */
	bool has_up;
	struct ferry_wire_header header; /* The last that came. */
	char why[192];
};

struct world {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_auth *auth;
	struct ferry_timer pause;
	struct ferry_events events;
	struct ferry_event last; /* Of a peer or of a stranger. */
	uint32_t refused_events;
	void *memory;
	_Alignas(64) uint8_t descriptors[64 * 1024];
	struct ferry_region region;
	struct ferry_arena arena;
	struct ferry_tcp_listener *listener;
	struct ferry_tcp_link *connector;
	struct end out;	  /* The connector's. */
	struct end in;	  /* The listener's, of node 1. */
	struct end raw;	  /* The listener's, of node RAW_NODE. */
	uint32_t members; /* A bit for each. */
	bool is_inside;	  /* A call into the transport is on the stack. */
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

int world_open(void **state);
int world_close(void **state); /* Fails if a buffer or a message was lost. */

uint64_t clock_ns(void);

/* Run the loop for a millisecond, or for longer. */
void turn(struct world *world);
void wait_ns(struct world *world, uint64_t ns);

void world_listen(struct world *world, uint16_t port);
int end_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation);
struct ferry_handshake_config handshake_of(struct world *world, uint32_t node);
struct ferry_tcp_link *connector_open(struct world *world, struct ferry_auth *auth,
				      uint64_t incarnation, struct end *end);

/* A WRITE request of @blocks, or a FLUSH of none. 0, or why not. */
int request(struct end *end, uint32_t blocks);

/* A stranger: connected, and no more than that. */
int raw_socket(struct world *world);

/* A peer that has the key, but no transport of ours. */
int raw_peer(struct world *world, uint64_t incarnation);
struct ferry_wire_header raw_header(uint32_t blocks);

/* Whether the far end closed it; what it said until then is lost. */
bool is_closed(int fd);
