/*
 * iscsi_stand.h - for tests: initiators at the rig's target, on one loop, and what became of what
 * they were asked to do.
 *
 * Owns:    the loop, the arena, the sides.
 * Callers: iscsi_test.c, fence_test.c.
 * Thread:  the test's.
 * Rooms:   tests of adapters/iscsi.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/adapters/iscsi/iscsi.h"
#include "agent/adapters/iscsi/rig.h"
#include "agent/adapters/uring/loop.h"

enum {
	ARENA_BYTES = 8 * 1024 * 1024,
	ATTENTIONS_MAX = 64,
	TRIES_MAX = 256,
	MIB_BLOCKS = 2048,
	SLOW_LBA = MIB_BLOCKS, /* The second MiB: see slow_disk.c. */
};

#define MS FERRY_NS_PER_MS

/* One attempt and what became of it. */
struct
try {
	struct ferry_attempt attempt;
	struct side *side;
	bool is_ended;
	bool is_released;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	uint64_t ended_ns;
};

/* One initiator. */
struct side {
	struct ferry_iscsi *iscsi;
	struct ferry_path *path;
	uint32_t ups;
	uint32_t downs;
	enum ferry_cause down_cause;
	uint32_t in_flight;
	uint32_t in_flight_at_down;
	uint32_t rooms;
	struct ferry_iscsi_unit_attention attentions[ATTENTIONS_MAX];
	uint32_t attentions_count;
	bool is_closed;
};

struct fence_try {
	struct ferry_fence_request request;
	bool is_done;
	int error;
};

extern struct ferry_uring_loop *loop_owner;
extern struct ferry_loop *loop;
extern struct ferry_arena arena;
extern struct rig rig;
extern struct side side_a;
extern struct side side_b;
extern struct side side_c;

/*
 * Whether it holds at last. The deadline is a busy machine's: a test that wants something to be
 * quick measures it, against what would be slow.
 */
bool wait_for(bool (*holds)(const void *what), const void *what);
void pass_time(uint64_t ms);
bool is_up(const void *what);
bool is_down(const void *what);
bool is_quiet(const void *what);
bool has_error(const void *what);
bool is_released(const void *what);
bool is_fence_done(const void *what);
struct ferry_iscsi_config config_of(struct side *side, const char *portal, const char *name);
void open_side(struct side *side, const struct ferry_iscsi_config *config);
void open_up(struct side *side, const char *portal, const char *name);
void open_all(void); /* A by the first portal, B and C by the second. */
void close_side(struct side *side);
void submit(struct side *side, struct try *try, enum ferry_op op, uint64_t lba, uint32_t blocks,
	    uint32_t flags, const struct ferry_segments *segments);
void expect(struct try *try, enum ferry_outcome outcome, enum ferry_cause cause);
void do_io(struct side *side, enum ferry_op op, uint64_t lba, uint32_t blocks, uint32_t flags,
	   const struct ferry_segments *segments);
void fill(const struct ferry_segments *segments, uint32_t seed);
bool is_filled(const struct ferry_segments *segments, uint32_t seed);
bool is_zero(const struct ferry_segments *segments, uint32_t from, uint32_t to);
struct ferry_segments take(uint32_t bytes);
/* @other: the victim, or to REGISTER the kept key. */
void start_fence(struct side *side, struct fence_try *try, enum ferry_fence_op op, uint64_t own,
		 uint64_t other);
int do_fence(struct side *side, struct fence_try *try, enum ferry_fence_op op, uint64_t own,
	     uint64_t other);
bool saw(const struct side *side, uint8_t asc, uint8_t ascq, enum ferry_iscsi_when when);
void print_attentions(const char *name, const struct side *side);
int set_up(void **state);
int tear_down(void **state);
int set_up_group(void **state);
int tear_down_group(void **state);
