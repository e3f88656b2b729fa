/*
 * fault.h - faults of our own making: a filter around a path that, while it is armed, makes some
 * attempts end as attempts end on a bad day. For `ferry torture`, on pools marked scratch only.
 *
 * Kinds, each with its probability:
 *  - error: FAILED by the path; nothing was sent.
 *  - delay: it is sent a while later.
 *  - hole:  a black hole. The request is lost, or it is carried out and the answer is lost.
 *  - ghost: UNKNOWN at once, and a write may yet land: it has been sent already, or is sent a
 *           while later unless the path was reset or went down meanwhile. When that is over the
 * path is reset, or renewed: no path that lost track of a write goes on in the same session.
 *
 * A ghost of ours is like any other: what is sent late goes out in the session in which it was
 * submitted, so it is dead once this node's nexus has been aborted at the lun. Where nothing can
 * abort a nexus (no fence), writes get no holes and no ghosts.
 *
 * An attempt that draws nothing goes straight to the next path, and its end straight back. The
 * plan disarms itself when its time is over.
 *
 * Owns:    the attempts that it holds back, and copies of those that it tells otherwise.
 * Callers: the wiring (agent/data_pool.c) puts it between a pool's local path and its lane.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2: pure, memory from a region.
 */
#pragma once

#include "agent/base/prng.h"
#include "agent/base/region.h"
#include "agent/ports/path.h"

enum { FERRY_FAULT_HOLDS_MAX = 64, FERRY_FAULT_TEXT_BYTES = 64 };

enum ferry_fault_kind {
	FERRY_FAULT_ERROR = 1,
	FERRY_FAULT_DELAY,
	FERRY_FAULT_HOLE_REQUEST,
	FERRY_FAULT_HOLE_REPLY,
	FERRY_FAULT_GHOST,
	FERRY_FAULT_KINDS,
};

/* How many of 10000 attempts; all 0: disarmed. */
struct ferry_fault_plan {
	uint32_t error;
	uint32_t delay;
	uint32_t hole;
	uint32_t ghost;
	uint64_t seconds; /* It disarms itself then. */
	uint64_t seed;
};

struct ferry_fault_stats {
	uint64_t injected[FERRY_FAULT_KINDS]; /* By kind. */
	uint64_t ghosts_landed;		      /* Sent late, and carried out. */
	uint64_t ghosts_refused;	      /* Sent late, and refused: the nexus was dead. */
	uint64_t ghosts_dropped;	      /* Never sent: the session had gone. */
};

struct ferry_fault_hold {
	enum ferry_fault_kind kind; /* 0: free. */
	struct ferry_fault *fault;
	struct ferry_attempt *outer; /* As it came. */
	struct ferry_attempt inner;  /* HOLE_REPLY, GHOST: as it was sent. */
	uint64_t due_ns;
	bool was_sent;	/* @inner, ever. */
	bool is_sent;	/* @inner is the next path's, until it is released. */
	bool has_ended; /* @outer. */
	bool is_cut;	/* The session is over: what has not been sent must not be any more. */
	struct ferry_list link;
};

struct ferry_fault {
	struct ferry_path path; /* What the lane sees. */
	struct ferry_path *next;
	struct ferry_loop *loop;
	bool can_lay; /* A nexus can be aborted at the lun. */
	struct ferry_fault_plan plan;
	uint64_t until_ns;
	struct ferry_prng prng;
	struct ferry_fault_stats stats;
	struct ferry_fault_hold *holds;
	struct ferry_list held; /* In the order in which they came. */
	struct ferry_timer timer;
	bool wants_reset; /* A ghost is over. */
};

static inline size_t ferry_fault_memory_bytes(void)
{
	return FERRY_FAULT_HOLDS_MAX * sizeof(struct ferry_fault_hold) + 64;
}

/* Around @next, whose callbacks it takes over; disarmed. -ENOMEM: the region is too small. */
int ferry_fault_init(struct ferry_fault *fault, struct ferry_region *region,
		     struct ferry_path *next, struct ferry_loop *loop,
		     bool can_lay) FERRY_MUST_CHECK;
/* What it holds ends; nothing more may be submitted. */
void ferry_fault_done(struct ferry_fault *fault);

/* From now on; replaces the plan before. What is held goes on as it was drawn. */
void ferry_fault_arm(struct ferry_fault *fault, const struct ferry_fault_plan *plan);

/* The path that the lane sees, of one whose next may be @path. */
struct ferry_path *ferry_fault_outermost(struct ferry_path *path);

/*
 * "error=20,delay=100,hole=1,ghost=5,seconds=60,seed=7", in any order, each at most once; or
 * "off". -EINVAL: it is not that, or the probabilities are more than 10000 together, or there is
 * no time or too much (86400).
 */
int ferry_fault_plan_parse(const char *text, struct ferry_fault_plan *ret) FERRY_MUST_CHECK;
