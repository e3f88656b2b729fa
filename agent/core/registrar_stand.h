/*
 * registrar_stand.h - a registrar on a scripted fence port, for tests: node 1's third agent, whose
 * lun answers what the test says.
 *
 * Owns:    a loop, a router with one local path, the registrar, what it has asked of the lun.
 * Callers: registrar_test.c, registrar_take_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/core/key.h"
#include "agent/core/registrar.h"
#include "tests/sim/core_stand.h"

enum { REGISTRAR_RETRY_MS = 300 };

struct registrar_stand {
	struct stand stand;
	struct stand_path path; /* Its resets: how often a new session was asked for. */
	struct ferry_router router;
	struct ferry_registrar registrar;
	struct ferry_view view;
	struct ferry_fence fence;
	struct ferry_events events;
	struct ferry_fence_request *pending; /* What the lun has been asked; NULL: nothing. */
	bool is_being_laid;
	uint64_t words_asked;
	uint32_t old_keys;
	struct ferry_key old_key;
	uint32_t preempted;
	uint64_t witness; /* The restart that it has told of last; 0: none is left. */
	uint32_t joins;
	uint32_t takes;
	int taken;
	uint32_t refusals; /* That an administrator was told of. */
};

/* What the lun says of its registrations. */
struct keys {
	struct ferry_key holder;  /* 0: node 2's agent, */
	bool is_free;		  /* or nobody. */
	uint32_t generation;	  /* 0: high, as on a target that has been there for long. */
	struct ferry_key keys[4]; /* The first that is 0 ends them. */
};
#define KEYS(...) ((struct keys){__VA_ARGS__})

extern struct registrar_stand on;
extern const struct ferry_key foreign;

/* Node 2 owns the pool, and grants. */
int registrar_setup(void **state);
int registrar_teardown(void **state);

struct ferry_key key(uint32_t node, uint64_t incarnation);
bool is_allowed(void);

/* What the lun is asked just now. */
void expect(enum ferry_fence_op op);
void expect_preempt(struct ferry_key victim);

/* And what it answers. */
void answer(int error);
void answer_keys(struct keys keys);

/* As node 2's: registered there, and this node's key is on the lun too. */
void join(void);

/* The pool is this node's. */
void own(void);
