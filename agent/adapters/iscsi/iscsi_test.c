/* iscsi_test.c - the iSCSI path and its fence against a real target, with real cuts. */
#include "agent/adapters/iscsi/iscsi.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/iscsi/rig.h"
#include "agent/adapters/uring/loop.h"

#include <cmocka.h>

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

static struct ferry_uring_loop *loop_owner;
static struct ferry_loop *loop;
static struct ferry_arena arena;
static uint32_t free_at_set_up;
static struct rig rig;
static struct side side_a;
static struct side side_b;
static struct side side_c;

/* Waiting: the loop runs until a condition holds, or a deadline passes. */

struct waiter {
	struct ferry_timer timer;
	bool (*holds)(const void *what);
	const void *what;
	uint64_t deadline_ns;
	bool is_met;
};

static void waiter_run(struct ferry_timer *timer)
{
	struct waiter *waiter = FERRY_CONTAINER_OF(timer, struct waiter, timer);

	waiter->is_met = waiter->holds(waiter->what);
	if (waiter->is_met || ferry_loop_now_ns(loop) >= waiter->deadline_ns)
		ferry_uring_loop_stop(loop_owner);
	else
		ferry_timer_start_in(loop, timer, MS);
}

/* Whether it held in time. */
static bool wait_for(bool (*holds)(const void *what), const void *what, uint64_t ms)
{
	struct waiter waiter = {.timer.run = waiter_run, .holds = holds, .what = what};

	waiter.deadline_ns = ferry_loop_now_ns(loop) + ms * MS;
	ferry_timer_start_in(loop, &waiter.timer, 0);
	assert_int_equal(ferry_uring_loop_run(loop_owner), 0);
	return waiter.is_met;
}

static bool never(const void *what)
{
	(void)what;
	return false;
}

static void pass_time(uint64_t ms)
{
	assert_false(wait_for(never, NULL, ms));
}

static bool is_up(const void *what)
{
	return ((const struct side *)what)->path->is_up;
}

static bool is_down(const void *what)
{
	const struct side *side = what;

	return !side->path->is_up && side->downs == side->ups;
}

static bool is_quiet(const void *what)
{
	return ((const struct side *)what)->in_flight == 0;
}

static bool is_closed(const void *what)
{
	return ((const struct side *)what)->is_closed;
}

static bool has_error(const void *what)
{
	return ferry_iscsi_last_error(((const struct side *)what)->iscsi)[0];
}

static bool is_released(const void *what)
{
	return ((const struct try *)what)->is_released;
}

static bool is_fence_done(const void *what)
{
	return ((const struct fence_try *)what)->is_done;
}

/* The callbacks. */

static void on_state(struct ferry_path *path, bool up, enum ferry_cause cause)
{
	struct side *side = path->context;

	assert_int_equal(up, path->is_up);
	if (up) {
		assert_int_equal(side->ups, side->downs);
		side->ups++;
		return;
	}
	side->downs++;
	side->down_cause = cause;
	side->in_flight_at_down = side->in_flight;
	assert_int_equal(side->ups, side->downs);
}

static void on_room(struct ferry_path *path)
{
	((struct side *)path->context)->rooms++;
}

static void on_unit_attention(struct ferry_path *path, struct ferry_iscsi_unit_attention seen)
{
	struct side *side = path->context;

	if (side->attentions_count < ATTENTIONS_MAX)
		side->attentions[side->attentions_count++] = seen;
}

static void on_closed(void *context)
{
	((struct side *)context)->is_closed = true;
}

static void on_end(struct ferry_attempt *attempt, enum ferry_outcome outcome,
		   enum ferry_cause cause)
{
	struct try *try = FERRY_CONTAINER_OF(attempt, struct try, attempt);

	assert_false(try->is_ended);
	try->is_ended = true;
	try->outcome = outcome;
	try->cause = cause;
	try->ended_ns = ferry_loop_now_ns(loop);
}

static void on_released(struct ferry_attempt *attempt)
{
	struct try *try = FERRY_CONTAINER_OF(attempt, struct try, attempt);

	assert_true(try->is_ended);
	assert_false(try->is_released);
	try->is_released = true;
	try->side->in_flight--;
}

static void on_fence_done(struct ferry_fence_request *request, int error)
{
	struct fence_try *try = FERRY_CONTAINER_OF(request, struct fence_try, request);

	assert_false(try->is_done);
	try->is_done = true;
	try->error = error;
}

/* Doing things. */

static struct ferry_iscsi_config config_of(struct side *side, const char *portal, const char *name)
{
	return (struct ferry_iscsi_config){
		.loop = loop,
		.node = {1},
		.portal = portal,
		.target = RIG_TARGET,
		.initiator = name,
		.lun = 1,
		.isid_qualifier = 7,
		.on_state = on_state,
		.on_room = on_room,
		.on_unit_attention = on_unit_attention,
		.context = side,
	};
}

static void open_side(struct side *side, const struct ferry_iscsi_config *config)
{
	struct ferry_error error = {0};

	*side = (struct side){0};
	if (ferry_iscsi_open(config, &side->iscsi, &error) < 0)
		fail_msg("open: %s", error.message);
	side->path = ferry_iscsi_path(side->iscsi);
}

static void open_up(struct side *side, const char *portal, const char *name)
{
	struct ferry_iscsi_config config = config_of(side, portal, name);

	open_side(side, &config);
	if (!wait_for(is_up, side, 10000))
		fail_msg("not up: %s", ferry_iscsi_last_error(side->iscsi));
}

static void close_side(struct side *side)
{
	if (!side->iscsi)
		return;
	ferry_iscsi_close(side->iscsi, on_closed, side);
	side->iscsi = NULL;
	assert_true(wait_for(is_closed, side, 2000));
	assert_int_equal(side->in_flight, 0);
	*side = (struct side){0};
}

static void submit(struct side *side, struct try *try, enum ferry_op op, uint64_t lba,
		   uint32_t blocks, uint32_t flags, const struct ferry_segments *segments)
{
	*try = (struct try){.side = side};
	try->attempt = (struct ferry_attempt){
		.op = op,
		.flags = flags,
		.lba = {lba},
		.length_blocks = blocks,
		.on_end = on_end,
		.on_released = on_released,
	};
	if (segments)
		try->attempt.segments = *segments;
	assert_int_equal(ferry_path_submit(side->path, &try->attempt), 0);
	side->in_flight++;
	assert_false(try->is_ended); /* Never from inside. */
}

static void expect(struct try *try, enum ferry_outcome outcome, enum ferry_cause cause)
{
	assert_true(wait_for(is_released, try, 5000));
	if (try->outcome != outcome || try->cause != cause)
		fail_msg("outcome %d cause %d, not %d %d", try->outcome, try->cause, outcome,
			 cause);
}

static void do_io(struct side *side, enum ferry_op op, uint64_t lba, uint32_t blocks,
		  uint32_t flags, const struct ferry_segments *segments)
{
	static struct try try;

	submit(side, &try, op, lba, blocks, flags, segments);
	expect(&try, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
}

static void fill(const struct ferry_segments *segments, uint32_t seed)
{
	for (uint32_t i = 0; i < segments->length_bytes; i += 4) {
		uint32_t word = (seed + i) * 2654435761u;

		ferry_segments_write(segments, i, &word, 4);
	}
}

static bool is_filled(const struct ferry_segments *segments, uint32_t seed)
{
	for (uint32_t i = 0; i < segments->length_bytes; i += 4) {
		uint32_t word;

		ferry_segments_read(segments, i, &word, 4);
		if (word != (seed + i) * 2654435761u)
			return false;
	}
	return true;
}

static bool is_zero(const struct ferry_segments *segments, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		uint8_t byte;

		ferry_segments_read(segments, i, &byte, 1);
		if (byte)
			return false;
	}
	return true;
}

static struct ferry_segments take(uint32_t bytes)
{
	struct ferry_segments segments;

	assert_int_equal(ferry_arena_take(&arena, bytes, &segments), 0);
	return segments;
}

/* @other: the victim, or to REGISTER the kept key. */
static void start_fence(struct side *side, struct fence_try *try, enum ferry_fence_op op,
			uint64_t own, uint64_t other)
{
	*try = (struct fence_try){.request = {.op = op, .own = {own}, .on_done = on_fence_done}};
	if (op == FERRY_FENCE_REGISTER)
		try->request.kept.v = other;
	else
		try->request.victim.v = other;
	assert_non_null(ferry_iscsi_fence(side->iscsi));
	ferry_fence_submit(ferry_iscsi_fence(side->iscsi), &try->request);
	assert_false(try->is_done);
}

static int do_fence(struct side *side, struct fence_try *try, enum ferry_fence_op op, uint64_t own,
		    uint64_t other)
{
	start_fence(side, try, op, own, other);
	assert_true(wait_for(is_fence_done, try, 8000));
	return try->error;
}

static bool saw(const struct side *side, uint8_t asc, uint8_t ascq, enum ferry_iscsi_when when)
{
	for (uint32_t i = 0; i < side->attentions_count; i++)
		if (side->attentions[i].asc == asc && side->attentions[i].ascq == ascq &&
		    side->attentions[i].when == when)
			return true;
	return false;
}

/* Fixtures. */

static int set_up(void **state)
{
	(void)state;
	free_at_set_up = arena.free_count;
	rig_create(&rig);
	rig_start(&rig, NULL);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_let_go(&rig);
	rig_cut(0, NULL);
	if (rig.pid > 0)
		(void)kill(rig.pid, SIGCONT);
	close_side(&side_a);
	close_side(&side_b);
	close_side(&side_c);
	rig_destroy(&rig);
	if (arena.free_count == free_at_set_up)
		return 0;
	print_message("%u chunks are missing\n", free_at_set_up - arena.free_count);
	return -1;
}

static int set_up_group(void **state)
{
	static struct ferry_region region;
	struct ferry_error error = {0};
	size_t table_bytes = 64 * 1024;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	if (!rig_enter()) {
		print_message("SKIPPED: no network namespace without root\n");
		exit(0);
	}
	ferry_region_init(&region, aligned_alloc(64, table_bytes), table_bytes);
	assert_int_equal(ferry_arena_init(&arena, &region,
					  aligned_alloc(FERRY_CHUNK_BYTES, ARENA_BYTES),
					  ARENA_BYTES),
			 0);
	if (ferry_uring_loop_open(&loop_owner, &error) < 0)
		fail_msg("loop: %s", error.message);
	loop = ferry_uring_loop_of(loop_owner);
	return 0;
}

static int tear_down_group(void **state)
{
	(void)state;
	loop_owner = ferry_uring_loop_close(loop_owner);
	free(arena.chunks[0].data);
	free(arena.chunks);
	return 0;
}

/* The tests. */

static void test_config_is_checked(void **state)
{
	static const char *const PORTALS[] = {
		NULL,	"",    "localhost:3260", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
		"[::1", "::1", "1.2.3"};
	struct ferry_iscsi_config config;
	struct ferry_iscsi *iscsi = NULL;
	struct ferry_error error;

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(PORTALS); i++) {
		config = config_of(&side_a, PORTALS[i], "iqn.2026-11.test.ferry:a");
		assert_int_equal(ferry_iscsi_open(&config, &iscsi, &error), -EINVAL);
		assert_non_null(strstr(error.message, "portal"));
	}
	config = config_of(&side_a, "[::1]:3260", "a");
	assert_int_equal(ferry_iscsi_open(&config, &iscsi, &error), -EINVAL);
	assert_non_null(strstr(error.message, "initiator"));
	config = config_of(&side_a, "[::1]:3260", "iqn.2026-11.test.ferry:a");
	config.user = "someone";
	assert_int_equal(ferry_iscsi_open(&config, &iscsi, &error), -EINVAL);
	assert_non_null(strstr(error.message, "CHAP"));
	config.user = NULL;
	config.depth = FERRY_ISCSI_DEPTH_MAX + 1;
	assert_int_equal(ferry_iscsi_open(&config, &iscsi, &error), -EINVAL);
	assert_null(iscsi);
}

static void test_data(void **state)
{
	struct ferry_segments mib = take(FERRY_IO_BYTES_MAX);
	struct ferry_segments back = take(FERRY_IO_BYTES_MAX);
	struct ferry_segments small = take(4096);

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	assert_int_equal(ferry_iscsi_identity(side_a.iscsi)->size_blocks, RIG_SIZE_BYTES / 512);
	assert_int_equal(ferry_iscsi_identity(side_a.iscsi)->block_bytes, 512);
	print_message("lun %s, discard %d, volatile cache %d\n",
		      ferry_iscsi_identity(side_a.iscsi)->wwid,
		      ferry_iscsi_identity(side_a.iscsi)->can_discard,
		      ferry_iscsi_identity(side_a.iscsi)->has_volatile_cache);

	fill(&mib, 1);
	do_io(&side_a, FERRY_OP_WRITE, 8, MIB_BLOCKS, 0, &mib);
	do_io(&side_a, FERRY_OP_READ, 8, MIB_BLOCKS, 0, &back);
	assert_true(is_filled(&back, 1));
	fill(&small, 77);
	do_io(&side_a, FERRY_OP_WRITE, 100, 8, FERRY_IO_FUA, &small);
	do_io(&side_a, FERRY_OP_FLUSH, 0, 0, 0, NULL);
	fill(&small, 0);
	do_io(&side_a, FERRY_OP_READ, 100, 8, 0, &small);
	assert_true(is_filled(&small, 77));

	/* Zeroes over the middle; more than one command may carry. */
	do_io(&side_a, FERRY_OP_WRITE, 0, MIB_BLOCKS, 0, &mib);
	do_io(&side_a, FERRY_OP_WRITE_ZEROES, 16, 1024, FERRY_IO_FUA | FERRY_IO_NO_UNMAP, NULL);
	do_io(&side_a, FERRY_OP_READ, 0, MIB_BLOCKS, 0, &back);
	assert_true(is_zero(&back, 16 * 512, 1040 * 512));
	assert_false(is_zero(&back, 0, 16 * 512));
	assert_false(is_zero(&back, 1040 * 512, 1056 * 512));
	do_io(&side_a, FERRY_OP_WRITE_ZEROES, 0, FERRY_IO_RANGE_BYTES_MAX / 512, 0, NULL);
	do_io(&side_a, FERRY_OP_READ, 0, MIB_BLOCKS, 0, &back);
	assert_true(is_zero(&back, 0, FERRY_IO_BYTES_MAX));
	assert_true(ferry_iscsi_identity(side_a.iscsi)->can_discard);
	do_io(&side_a, FERRY_OP_DISCARD, 4096, FERRY_IO_RANGE_BYTES_MAX / 512, 0, NULL);
	ferry_segments_drop(&mib);
	ferry_segments_drop(&back);
	ferry_segments_drop(&small);
}

/*
 * tgtd executes WRITE SAME and UNMAP of whom it refuses WRITE: shared, nobody sends it any, so that
 * none is on its way when its sender is preempted.
 */
static void test_unguarded_ranges_are_not_used(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	struct ferry_segments small = take(4096);
	static struct fence_try fence;
	static struct try try;

	(void)state;
	config.is_shared = true;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a, 10000));
	assert_false(ferry_iscsi_identity(side_a.iscsi)->can_discard);
	fill(&small, 7);
	do_io(&side_a, FERRY_OP_WRITE, 16, 8, 0, &small);
	do_io(&side_a, FERRY_OP_WRITE_ZEROES, 16, 8, FERRY_IO_FUA, NULL);
	do_io(&side_a, FERRY_OP_READ, 16, 8, 0, &small);
	assert_true(is_zero(&small, 0, 4096));

	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), 0);
	submit(&side_a, &try, FERRY_OP_WRITE_ZEROES, 16, 8, 0, NULL);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	ferry_segments_drop(&small);
}

static void test_invalid_is_not_the_path(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try try;

	(void)state;
	open_up(&side_a, "127.0.0.1", "iqn.2026-11.test.ferry:a");
	submit(&side_a, &try, FERRY_OP_READ, RIG_SIZE_BYTES / 512, 8, 0, &small);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_INVALID);
	submit(&side_a, &try, FERRY_OP_WRITE, RIG_SIZE_BYTES / 512 - 4, 8, 0, &small);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_INVALID);
	assert_true(side_a.path->is_up);
	do_io(&side_a, FERRY_OP_WRITE, RIG_SIZE_BYTES / 512 - 8, 8, 0, &small);
	ferry_segments_drop(&small);
}

static void test_many_and_room(void **state)
{
	static struct try tries[TRIES_MAX];
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	struct ferry_segments segments[32];
	struct ferry_segments back = take(8192);
	static struct try extra;

	(void)state;
	config.depth = 32;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a, 10000));
	for (uint32_t round = 0; round < 8; round++) {
		for (uint32_t i = 0; i < 32; i++) {
			segments[i] = take(8192);
			fill(&segments[i], round * 1000 + i);
			submit(&side_a, &tries[i], FERRY_OP_WRITE, (round * 32 + i) * 16, 16, 0,
			       &segments[i]);
		}
		extra = (struct try){.side = &side_a, .attempt = tries[0].attempt};
		assert_int_equal(ferry_path_submit(side_a.path, &extra.attempt), -EAGAIN);
		for (uint32_t i = 0; i < 32; i++) {
			expect(&tries[i], FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
			ferry_segments_drop(&segments[i]);
		}
		assert_int_equal(side_a.rooms, round + 1);
	}
	for (uint32_t i = 0; i < 256; i++) {
		do_io(&side_a, FERRY_OP_READ, i * 16, 16, 0, &back);
		assert_true(is_filled(&back, i / 32 * 1000 + i % 32));
	}
	ferry_segments_drop(&back);
}

static void test_black_hole(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try tries[3];
	uint64_t began_ns;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	rig_cut(1, "drop");
	submit(&side_a, &tries[0], FERRY_OP_WRITE, 0, 8, 0, &small);
	submit(&side_a, &tries[1], FERRY_OP_READ, 0, 8, 0, &small);
	submit(&side_a, &tries[2], FERRY_OP_FLUSH, 0, 0, 0, NULL);
	pass_time(300);
	assert_false(tries[0].is_ended);
	began_ns = ferry_loop_now_ns(loop);
	side_a.path->ops->reset(side_a.path);
	assert_false(tries[0].is_ended); /* Never from inside. */
	assert_false(side_a.path->is_up);
	assert_int_equal(ferry_path_submit(side_a.path, &tries[0].attempt), -ENOTCONN);
	for (int i = 0; i < 3; i++)
		expect(&tries[i], FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_true(tries[2].ended_ns - began_ns < 50 * MS);
	assert_true(wait_for(is_down, &side_a, 100));
	assert_int_equal(side_a.in_flight_at_down, 0);
	pass_time(500);
	assert_int_equal(side_a.ups, 1);
	rig_cut(0, NULL);
	began_ns = ferry_loop_now_ns(loop);
	assert_true(wait_for(is_up, &side_a, 8000));
	print_message("up %llu ms after the heal\n",
		      (unsigned long long)((ferry_loop_now_ns(loop) - began_ns) / MS));
	do_io(&side_a, FERRY_OP_WRITE, 0, 8, 0, &small);
	ferry_segments_drop(&small);
}

/* Nothing is asked of it, and nothing closes it: it says so by itself, and comes back by itself. */
static void test_idle_session_is_cut(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	struct ferry_segments small = take(4096);
	static struct try held;

	(void)state;
	config.idle_timeout_ns = 200 * MS;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a, 10000));
	pass_time(1500); /* It answers. */
	assert_int_equal(side_a.downs, 0);
	rig_cut(1, "drop");
	assert_true(wait_for(is_down, &side_a, 800));
	assert_int_equal(side_a.down_cause, FERRY_CAUSE_PATH);
	assert_true(strstr(ferry_iscsi_last_error(side_a.iscsi), "connect to") ||
		    strstr(ferry_iscsi_last_error(side_a.iscsi), "NOP-Out"));
	rig_cut(0, NULL);
	assert_true(wait_for(is_up, &side_a, 8000));

	/* With something in flight its deadline is the router's. */
	rig_hold(&rig);
	submit(&side_a, &held, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &small);
	pass_time(1500);
	assert_int_equal(side_a.downs, 1);
	assert_false(held.is_ended);
	rig_let_go(&rig);
	expect(&held, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	ferry_segments_drop(&small);
}

static void test_tcp_reset(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try held;
	static struct try next;
	uint64_t began_ns;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	rig_hold(&rig);
	submit(&side_a, &held, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &small); /* In the target. */
	pass_time(100);
	assert_false(held.is_ended);
	rig_cut(1, "reject with tcp reset");
	began_ns = ferry_loop_now_ns(loop);
	submit(&side_a, &next, FERRY_OP_WRITE, 0, 8, 0, &small);
	expect(&next, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	expect(&held, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	print_message("UNKNOWN %llu ms after the reset: %s\n",
		      (unsigned long long)((held.ended_ns - began_ns) / MS),
		      ferry_iscsi_last_error(side_a.iscsi));
	assert_true(held.ended_ns - began_ns < 100 * MS);
	assert_true(next.ended_ns - began_ns < 100 * MS);
	assert_true(wait_for(is_down, &side_a, 100));
	rig_cut(0, NULL);
	rig_let_go(&rig);
	assert_true(wait_for(is_up, &side_a, 8000));
	do_io(&side_a, FERRY_OP_READ, 0, 8, 0, &small);
	ferry_segments_drop(&small);
}

/* The target stops reading: what the socket does not take has provably not left. */
static void test_unsent(void **state)
{
	static struct try tries[FERRY_ISCSI_DEPTH_MAX];
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	struct ferry_segments mib = take(FERRY_IO_BYTES_MAX);
	uint32_t unsent = 0;

	(void)state;
	config.depth = FERRY_ISCSI_DEPTH_MAX;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a, 10000));
	assert_int_equal(kill(rig.pid, SIGSTOP), 0);
	for (uint32_t i = 0; i < FERRY_ISCSI_DEPTH_MAX; i++)
		submit(&side_a, &tries[i], FERRY_OP_WRITE, 0, MIB_BLOCKS, 0, &mib);
	pass_time(200);
	side_a.path->ops->reset(side_a.path);
	assert_true(wait_for(is_quiet, &side_a, 100));
	for (uint32_t i = 0; i < FERRY_ISCSI_DEPTH_MAX; i++) {
		if (tries[i].outcome == FERRY_OUTCOME_FAILED) {
			assert_int_equal(tries[i].cause, FERRY_CAUSE_UNSENT);
			unsent++;
		} else {
			assert_int_equal(tries[i].outcome, FERRY_OUTCOME_UNKNOWN);
			assert_int_equal(unsent, 0); /* In the order of submission. */
		}
	}
	print_message("%u of %u unsent\n", unsent, FERRY_ISCSI_DEPTH_MAX);
	assert_in_range(unsent, 1, FERRY_ISCSI_DEPTH_MAX - 1);
	assert_int_equal(kill(rig.pid, SIGCONT), 0);
	assert_true(wait_for(is_up, &side_a, 8000));
	ferry_segments_drop(&mib);
}

static void test_login_deadline(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	uint64_t began_ns = ferry_loop_now_ns(loop);

	(void)state;
	config.login_timeout_ns = 400 * MS;
	assert_int_equal(kill(rig.pid, SIGSTOP), 0);
	open_side(&side_a, &config);
	assert_true(wait_for(has_error, &side_a, 1000));
	assert_true(ferry_loop_now_ns(loop) - began_ns >= 400 * MS);
	assert_true(ferry_loop_now_ns(loop) - began_ns < 600 * MS);
	assert_string_equal(ferry_iscsi_last_error(side_a.iscsi),
			    "login at 127.0.0.1:3260: no answer within 400 ms");
	assert_int_equal(kill(rig.pid, SIGCONT), 0);
	assert_true(wait_for(is_up, &side_a, 5000));
	assert_int_equal(side_a.downs, 0); /* It was never up before. */
	close_side(&side_a);

	rig_cut(1, "drop");
	open_side(&side_a, &config);
	assert_true(wait_for(has_error, &side_a, 1000));
	assert_non_null(strstr(ferry_iscsi_last_error(side_a.iscsi), "connect to 127.0.0.1:3260"));
}

static void test_target_killed_and_restarted(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try try;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	rig_hold(&rig);
	submit(&side_a, &try, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &small);
	pass_time(50);
	rig_kill(&rig);
	expect(&try, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_true(wait_for(is_down, &side_a, 100));
	pass_time(300);
	assert_non_null(strstr(ferry_iscsi_last_error(side_a.iscsi), "refused"));
	rig_let_go(&rig);
	rig_start(&rig, NULL);
	assert_true(wait_for(is_up, &side_a, 8000));
	do_io(&side_a, FERRY_OP_WRITE, 0, 8, 0, &small);
	for (uint32_t i = 0; i < side_a.attentions_count; i++)
		print_message("attention %02x/%02x when %d\n", side_a.attentions[i].asc,
			      side_a.attentions[i].ascq, side_a.attentions[i].when);
	ferry_segments_drop(&small);
}

static void expect_error(struct ferry_iscsi_config *config, const char *text)
{
	open_side(&side_a, config);
	assert_true(wait_for(has_error, &side_a, 4000));
	if (!strstr(ferry_iscsi_last_error(side_a.iscsi), text))
		fail_msg("\"%s\", not \"%s\"", ferry_iscsi_last_error(side_a.iscsi), text);
	print_message("%s\n", ferry_iscsi_last_error(side_a.iscsi));
	assert_int_equal(side_a.ups, 0);
	assert_null(ferry_iscsi_identity(side_a.iscsi));
	assert_null(ferry_iscsi_fence(side_a.iscsi));
	close_side(&side_a);
}

static void test_wrong_names(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");

	(void)state;
	config.target = RIG_TARGET "x";
	expect_error(&config, "Target not found");
	config.target = RIG_TARGET;
	config.lun = 5;
	expect_error(&config, "no lun 5");
	config.lun = 0;
	expect_error(&config, "lun 0 is not a disk");
	config.lun = 1;
	(void)snprintf(config.expect.wwid, sizeof(config.expect.wwid), "naa.1234");
	expect_error(&config, "another lun");
	config.expect.wwid[0] = '\0';
	config.expect.size_blocks = 1000;
	expect_error(&config, "another size");
	config.expect.size_blocks = 0;
	config.expect.block_bytes = 4096;
	expect_error(&config, "another block size");
	config.portal = "127.0.0.1:1";
	expect_error(&config, "refused");
}

static void test_chap(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");

	(void)state;
	rig_admin(&rig, "--op new --mode account --user ferry --password sesame123456");
	rig_admin(&rig, "--op bind --mode account --tid 1 --user ferry");
	expect_error(&config, "uthenti");
	config.user = "ferry";
	config.password = "wrong1234567";
	expect_error(&config, "uthenti");
	config.password = "sesame123456";
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a, 5000));
	close_side(&side_a);

	/* The target proves itself as well. */
	rig_admin(&rig, "--op new --mode account --user shore --password mutual123456");
	rig_admin(&rig, "--op bind --mode account --tid 1 --user shore --outgoing");
	config.target_user = "shore";
	config.target_password = "mutual123456";
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a, 5000));
	close_side(&side_a);
	config.target_password = "mutual999999";
	expect_error(&config, "CHAP");
}

static void test_another_lun_stays_down(void **state)
{
	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	rig_kill(&rig);
	assert_true(wait_for(is_down, &side_a, 200));
	rig_start(&rig, "scsi_id=ANOTHER");
	pass_time(2500);
	assert_int_equal(side_a.ups, 1);
	assert_false(side_a.path->is_up);
	assert_non_null(strstr(ferry_iscsi_last_error(side_a.iscsi), "another lun"));
	print_message("%s\n", ferry_iscsi_last_error(side_a.iscsi));
}

static void test_reservations(void **state)
{
	struct ferry_segments small = take(4096);
	static struct fence_try fence;
	static struct try try;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 0);
	assert_int_equal(fence.request.holder.v, 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_RESERVE, 0xa, 0), -EACCES);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_PREEMPT, 0xa, 0xb), -EACCES);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x1a, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0x1a), 0); /* Anew. */
	/* No such victim, and nothing that would keep it from writing: no proof. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_PREEMPT, 0xa, 0xb), -ENOENT);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_RESERVE, 0xa, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_RESERVE, 0xa, 0), 0); /* Again. */

	submit(&side_b, &try, FERRY_OP_WRITE, 0, 8, 0, &small);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	do_io(&side_b, FERRY_OP_READ, 0, 8, 0, &small);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), -EBUSY);
	do_io(&side_b, FERRY_OP_WRITE, 0, 8, 0, &small);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 2);
	assert_int_equal(fence.request.holder.v, 0xa);

	/* B fences A, the holder, and is the holder then. */
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0xa), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 1);
	assert_int_equal(fence.request.keys[0].v, 0xb);
	assert_int_equal(fence.request.holder.v, 0xb);
	do_io(&side_b, FERRY_OP_WRITE, 0, 8, 0, &small);

	/* A learns of it: its first command meets the attentions, the next the conflict. */
	submit(&side_a, &try, FERRY_OP_WRITE, 0, 8, 0, &small);
	assert_true(wait_for(is_released, &try, 1000));
	print_message("the fenced node's first write: outcome %d cause %d\n", try.outcome,
		      try.cause);
	assert_int_equal(try.outcome, FERRY_OUTCOME_FAILED);
	submit(&side_a, &try, FERRY_OP_WRITE, 0, 8, 0, &small);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	for (uint32_t i = 0; i < side_a.attentions_count; i++)
		print_message("A: attention %02x/%02x when %d\n", side_a.attentions[i].asc,
			      side_a.attentions[i].ascq, side_a.attentions[i].when);
	for (uint32_t i = 0; i < side_b.attentions_count; i++)
		print_message("B: attention %02x/%02x when %d\n", side_b.attentions[i].asc,
			      side_b.attentions[i].ascq, side_b.attentions[i].when);
	/* Once more, the victim being gone already: still a proof, for the lun is reserved. */
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0xa), 0);
	assert_true(saw(&side_a, 0x2a, 0x03, FERRY_ISCSI_AT_IO));
	ferry_segments_drop(&small);
}

/* Between its reading of the keys and its registering, a node may have been preempted. */
static void test_registers_only_what_was_kept(void **state)
{
	static struct fence_try fence;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	/* It had none as it read, and has one: somebody else of its name is about. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x2a, 0), -EACCES);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x2a, 0xa), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0x2a), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x2a, 0x2a), -EACCES);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x3a, 0x2a), -EACCES);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 1);
	assert_int_equal(fence.request.keys[0].v, 0xb);

	/* The kept key is another nexus': of an older name, here. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	open_up(&side_c, "127.0.0.2:3260", "iqn.2026-11.test.ferry:c");
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0x2a, 0xa), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 3);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0x2a), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xa, 0xa), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 3);
}

static uint64_t preempt_ms(struct side *side, uint64_t own, uint64_t victim)
{
	static struct fence_try fence;
	uint64_t began_ns = ferry_loop_now_ns(loop);

	assert_int_equal(do_fence(side, &fence, FERRY_FENCE_PREEMPT, own, victim), 0);
	return (ferry_loop_now_ns(loop) - began_ns) / MS;
}

/* What was waited out once is dead, as long as nobody knows that the victim has been back. */
static void test_quiesce_is_of_one_preemption(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	static struct fence_try fence;

	(void)state;
	config.laying = FERRY_LAYING_QUIESCE;
	config.quiesce_time_ns = 400 * MS;
	open_side(&side_b, &config);
	assert_true(wait_for(is_up, &side_b, 10000));
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_c, "127.0.0.2:3260", "iqn.2026-11.test.ferry:c");
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xc, 0), 0);
	assert_true(preempt_ms(&side_b, 0xb, 0xa) >= 400);
	assert_true(preempt_ms(&side_b, 0xb, 0xa) < 200);
	/* It comes back, and goes by another's hand. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	(void)preempt_ms(&side_c, 0xc, 0xa);
	assert_true(preempt_ms(&side_b, 0xb, 0xa) >= 400);
	assert_true(preempt_ms(&side_b, 0xb, 0xa) < 200);
}

/*
 * The heart of fencing: a write of A is inside of the target. B's PREEMPT must not be done before
 * that write has landed or is dead. C, a third nexus, has a write there too.
 */
static void test_preempt_waits_for_the_write(void **state)
{
	struct ferry_segments old = take(4096);
	struct ferry_segments new = take(4096);
	static struct fence_try fence;
	static struct try ghost;
	static struct try third;
	static struct try after;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	open_up(&side_c, "127.0.0.2:3260", "iqn.2026-11.test.ferry:c");
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_RESERVE, 0xa, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xc, 0), 0);
	fill(&old, 1);
	fill(&new, 2);
	do_io(&side_a, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &old);
	rig_hold(&rig);
	submit(&side_a, &ghost, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &new);
	submit(&side_c, &third, FERRY_OP_WRITE, SLOW_LBA + 64, 8, 0, &new);
	pass_time(100);
	rig_cut(1, "drop"); /* A's path is gone, its write is not. */
	side_a.path->ops->reset(side_a.path);
	expect(&ghost, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);

	start_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0xa);
	submit(&side_b, &after, FERRY_OP_READ, SLOW_LBA, 8, 0, &old);
	assert_false(wait_for(is_fence_done, &fence, 700));
	rig_let_go(&rig);
	assert_true(wait_for(is_fence_done, &fence, 3000));
	assert_int_equal(fence.error, 0);
	/* Proven: what is on the disk now stays there. */
	{
		uint8_t landed = rig_peek(&rig, (off_t)SLOW_LBA * 512 + 4);

		pass_time(300);
		assert_int_equal(rig_peek(&rig, (off_t)SLOW_LBA * 512 + 4), landed);
	}
	assert_true(wait_for(is_released, &after, 2000));
	assert_true(wait_for(is_released, &third, 2000));
	print_message("third nexus' write across the reset: outcome %d cause %d; B's read: %d %d\n",
		      third.outcome, third.cause, after.outcome, after.cause);
	assert_int_equal(third.outcome, FERRY_OUTCOME_DONE);
	submit(&side_c, &third, FERRY_OP_WRITE, SLOW_LBA + 64, 8, 0, &new);
	assert_true(wait_for(is_released, &third, 2000));
	assert_int_equal(third.cause, FERRY_CAUSE_RESET);
	assert_true(saw(&side_b, 0x29, 0x00, FERRY_ISCSI_AT_OWN_RESET));
	assert_true(saw(&side_c, 0x29, 0x00, FERRY_ISCSI_AT_IO));
	print_message("third nexus' next write: outcome %d cause %d\n", third.outcome, third.cause);
	for (uint32_t i = 0; i < side_c.attentions_count; i++)
		print_message("C: attention %02x/%02x when %d\n", side_c.attentions[i].asc,
			      side_c.attentions[i].ascq, side_c.attentions[i].when);
	for (uint32_t i = 0; i < side_b.attentions_count; i++)
		print_message("B: attention %02x/%02x when %d\n", side_b.attentions[i].asc,
			      side_b.attentions[i].ascq, side_b.attentions[i].when);
	ferry_segments_drop(&old);
	ferry_segments_drop(&new);
}

/*
 * Two have a third preempted at once, as when the owner lays a ghost and a peer does. Whoever comes
 * second finds no such key: a conflict, with its own registration in place.
 */
static void test_two_preempt_one(void **state)
{
	static struct fence_try one;
	static struct fence_try other;
	static struct fence_try fence;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	open_up(&side_c, "127.0.0.2:3260", "iqn.2026-11.test.ferry:c");
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xc, 0), 0);
	for (int i = 0; i < 5; i++) { /* The target may answer one before it hears the other. */
		assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
		assert_int_equal(kill(rig.pid, SIGSTOP), 0);
		start_fence(&side_b, &one, FERRY_FENCE_PREEMPT, 0xb, 0xa);
		start_fence(&side_c, &other, FERRY_FENCE_PREEMPT, 0xc, 0xa);
		pass_time(20);
		assert_int_equal(kill(rig.pid, SIGCONT), 0);
		assert_true(wait_for(is_fence_done, &one, 3000));
		assert_true(wait_for(is_fence_done, &other, 3000));
		assert_int_equal(one.error, 0);
		assert_int_equal(other.error, 0);
	}
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 2);
	/* But of one that is not registered itself it is what it says. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_PREEMPT, 0xa, 0xb), -EACCES);
}

static void test_fence_deadlines(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	static struct fence_try fence;
	static struct fence_try tries[6];

	(void)state;
	config.fence_timeout_ns = 200 * MS;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a, 5000));
	assert_int_equal(kill(rig.pid, SIGSTOP), 0);
	for (int i = 0; i < 6; i++)
		start_fence(&side_a, &tries[i], FERRY_FENCE_READ_KEYS, 0, 0);
	for (int i = 0; i < 6; i++) {
		assert_true(wait_for(is_fence_done, &tries[i], 300));
		assert_int_equal(tries[i].error, -ETIMEDOUT);
	}
	assert_int_equal(kill(rig.pid, SIGCONT), 0);
	pass_time(50);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	start_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0);
	side_a.path->ops->reset(side_a.path);
	assert_true(wait_for(is_fence_done, &fence, 100));
	assert_int_equal(fence.error, -ENOTCONN);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0), -ENOTCONN);
}

static void test_close_is_bounded(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try try;
	uint64_t began_ns;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	assert_int_equal(kill(rig.pid, SIGSTOP), 0);
	submit(&side_a, &try, FERRY_OP_WRITE, 0, 8, 0, &small);
	pass_time(20);
	began_ns = ferry_loop_now_ns(loop);
	close_side(&side_a);
	assert_true(ferry_loop_now_ns(loop) - began_ns < 700 * MS);
	assert_int_equal(try.outcome, FERRY_OUTCOME_UNKNOWN);
	assert_true(try.is_released);
	ferry_segments_drop(&small);
}

/* Faults at random, I/O all the time: each attempt ends once, and the path always comes back. */
static void test_storm(void **state)
{
	static struct try tries[64];
	struct ferry_segments small = take(16384);
	uint32_t seed = 11;
	uint32_t done = 0;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	for (uint32_t round = 0; round < 24; round++) {
		assert_true(wait_for(is_up, &side_a, 8000));
		for (uint32_t i = 0; i < 64; i++)
			submit(&side_a, &tries[i], i % 2 ? FERRY_OP_WRITE : FERRY_OP_READ,
			       (uint64_t)i * 32, 32, 0, &small);
		seed = seed * 1664525 + 1013904223;
		pass_time((seed >> 24) % 8);
		if (round % 3 == 0) {
			side_a.path->ops->reset(side_a.path);
		} else if (round % 3 == 1) {
			rig_cut(1, "reject with tcp reset");
			pass_time(5);
			rig_cut(0, NULL);
		}
		if (!wait_for(is_quiet, &side_a, 1000)) {
			side_a.path->ops->reset(side_a.path);
			assert_true(wait_for(is_quiet, &side_a, 1000));
		}
		for (uint32_t i = 0; i < 64; i++) {
			assert_true(tries[i].is_released);
			done += tries[i].outcome == FERRY_OUTCOME_DONE;
		}
	}
	print_message("%u of %u done, %u sessions\n", done, 24 * 64, side_a.ups);
	assert_true(done > 0);
	assert_true(side_a.ups > 8);
	ferry_segments_drop(&small);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config_is_checked),
		TEST(test_data),
		TEST(test_unguarded_ranges_are_not_used),
		TEST(test_invalid_is_not_the_path),
		TEST(test_many_and_room),
		TEST(test_black_hole),
		TEST(test_idle_session_is_cut),
		TEST(test_tcp_reset),
		TEST(test_unsent),
		TEST(test_login_deadline),
		TEST(test_target_killed_and_restarted),
		TEST(test_wrong_names),
		TEST(test_chap),
		TEST(test_another_lun_stays_down),
		TEST(test_reservations),
		TEST(test_registers_only_what_was_kept),
		TEST(test_quiesce_is_of_one_preemption),
		TEST(test_preempt_waits_for_the_write),
		TEST(test_two_preempt_one),
		TEST(test_fence_deadlines),
		TEST(test_close_is_bounded),
		TEST(test_storm),
	};

	return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
