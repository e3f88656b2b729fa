/*
 * engine_stand.h - an engine between scripted ports, for tests: node 1's second agent, its path to
 * a lun, a fence, two peers (nodes 2 and 3), and what it carries for them.
 *
 * Owns:    all of that; one of each.
 * Callers: engine_test.c, engine_fence_test.c, laying_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/core/engine.h"
#include "agent/core/key.h"
#include "tests/sim/core_stand.h"

enum { ENGINE_PEERS = 2, ENGINE_IOS_MAX = 8, ENGINE_ASKED_MAX = 8, ENGINE_SENT_MAX = 64 };

/* What the engine is opened with. */
struct engine_wish {
	bool has_fence;
	bool has_resetter;
	bool has_carrier;
	bool has_cache;
	bool has_no_group; /* Nobody to ask. */
	bool is_down;	   /* The local path, at first. */
	uint32_t peers_count;
};

struct engine_peer {
	struct ferry_link link;
	struct ferry_peer peer;
	struct ferry_message *sent[ENGINE_SENT_MAX];
	uint32_t sent_count;
};

struct engine_stand {
	struct stand stand;
	struct stand_path path; /* Its resets: how often a new session was asked for. */
	struct ferry_fence fence;
	uint32_t generation;				     /* Of the lun's keys. */
	struct ferry_fence_request *asked[ENGINE_ASKED_MAX]; /* Of the lun, unanswered. */
	struct engine_peer peers[ENGINE_PEERS];
	struct ferry_carrier carrier;
	struct ferry_link link_in; /* By which node 2 asks. */
	struct ferry_wire_header reply;
	uint32_t replies;
	uint32_t cuts;
	struct ferry_engine engine;
	struct ferry_view view;
	void *cache_data;
	struct ferry_io ios[ENGINE_IOS_MAX];
	int results[ENGINE_IOS_MAX]; /* 1: not done. */

	/* What it has said. */
	uint32_t healths;
	bool has_path;
	uint32_t drains;
	uint64_t drained; /* The epoch, when last said. */
	uint32_t takes;
	int taken;
	uint32_t preempted;
	uint64_t word;	     /* Last asked for; 0: never. */
	uint64_t unheard_ns; /* For how long who hears the group has not run. */
	uint32_t verdicts;
	uint32_t warms;
	uint64_t witness; /* The restart that it has told of last; 0: none is left. */
	uint64_t noted;
};

extern struct engine_stand at;

void engine_open(struct engine_wish wish);
int engine_teardown(void **state);

struct ferry_key key(uint32_t node, uint64_t incarnation);
struct ferry_lane *local(void);

/* at.view, with another word if one was asked for since. */
void look(void);
void run_ms(uint64_t ms);

/* The lun has been asked for it; answer it. NULL: it has not. */
struct ferry_fence_request *asked(enum ferry_fence_op op);
void answer(enum ferry_fence_op op, int error);
void answer_keys(struct ferry_key one, struct ferry_key other, struct ferry_key holder);

/* Up, registered, allowed; node 2 owns the pool. */
void join(void);

/* Node 1 owns the pool, epoch 5. */
void own(void);

void submit(uint32_t i, enum ferry_op op, uint64_t lba);

/* What @peer is asked for and has not answered, the first of such; its reply. NULL: nothing. */
const struct ferry_wire_header *sent(uint32_t peer, enum ferry_wire_type type);
void reply(uint32_t peer, enum ferry_wire_type type, enum ferry_outcome outcome,
	   enum ferry_cause cause);
void peer_up(uint32_t peer, uint64_t incarnation);

/* Node 2 has this node carry a FLUSH. */
void carry(uint64_t sequence, uint64_t epoch);
