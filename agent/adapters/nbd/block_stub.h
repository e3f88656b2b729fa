/*
 * block_stub.h - a volume in memory, for tests: late, out of order, full or failing at will.
 *
 * Owns:    its bytes and the I/Os in its hands.
 * Callers: nbd_stand.h.
 * Thread:  the loop's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/ports/block.h"
#include "agent/ports/loop.h"

/* How it behaves. */
struct ferry_block_behaviour {
	uint64_t delay_ns;	/* 0: in the next turn of the loop. */
	bool is_reversed;	/* What came last is done first. */
	bool is_held;		/* Nothing is done, until it behaves otherwise. */
	uint32_t in_flight_max; /* Beyond: -EAGAIN; 0: no limit. */
	enum ferry_op fail_op;	/* The next fail_count I/Os of this op... */
	uint32_t fail_count;
	int fail_error;	  /* ...end with this. */
	int refuse_error; /* Every submit says this, if it isn't 0. */
};

struct ferry_block_stub {
	struct ferry_block block;
	uint8_t *bytes;

	struct ferry_block_behaviour behaviour;

	/* What it saw. */
	uint32_t in_flight_count, in_flight_seen_max;
	uint64_t submits[FERRY_OP_WRITE_ZEROES + 1];
	uint64_t fuas, no_unmaps, refusals;
	uint64_t range_bytes_seen_max; /* Of DISCARD and WRITE_ZEROES. */
	enum ferry_op last_op;

	struct ferry_list queue;
	struct ferry_timer timer;
	struct ferry_task task;
	struct ferry_arena_waiter waiter;
};

/* @bytes is the volume's content, size_blocks * block_bytes long; the caller's. */
void ferry_block_stub_init(struct ferry_block_stub *stub, struct ferry_loop *loop,
			   struct ferry_arena *arena, const char *name, uint8_t *bytes,
			   uint64_t size_blocks, uint32_t block_bytes);

/* From now on; what was held may be done. */
void ferry_block_stub_behave(struct ferry_block_stub *stub, struct ferry_block_behaviour behaviour);

/* No I/O may be in flight. */
void ferry_block_stub_done(struct ferry_block_stub *stub);
