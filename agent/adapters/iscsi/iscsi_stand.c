#include "agent/adapters/iscsi/iscsi_stand.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { WAIT_MS_MAX = 20 * 1000 };

struct ferry_uring_loop *loop_owner;
struct ferry_loop *loop;
struct ferry_arena arena;
static uint32_t free_at_set_up;
struct rig rig;
struct side side_a;
struct side side_b;
struct side side_c;

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

static bool run_for(bool (*holds)(const void *what), const void *what, uint64_t ms)
{
	struct waiter waiter = {.timer.run = waiter_run, .holds = holds, .what = what};

	waiter.deadline_ns = ferry_loop_now_ns(loop) + ms * MS;
	ferry_timer_start_in(loop, &waiter.timer, 0);
	assert_int_equal(ferry_uring_loop_run(loop_owner), 0);
	return waiter.is_met;
}

bool wait_for(bool (*holds)(const void *what), const void *what)
{
	return run_for(holds, what, WAIT_MS_MAX);
}

static bool never(const void *what)
{
	(void)what;
	return false;
}

void pass_time(uint64_t ms)
{
	assert_false(run_for(never, NULL, ms));
}

bool is_up(const void *what)
{
	return ((const struct side *)what)->path->is_up;
}

bool is_down(const void *what)
{
	const struct side *side = what;

	return !side->path->is_up && side->downs == side->ups;
}

bool is_quiet(const void *what)
{
	return ((const struct side *)what)->in_flight == 0;
}

static bool is_closed(const void *what)
{
	return ((const struct side *)what)->is_closed;
}

bool has_error(const void *what)
{
	return ferry_iscsi_last_error(((const struct side *)what)->iscsi)[0];
}

bool is_released(const void *what)
{
	return ((const struct try *)what)->is_released;
}

bool is_fence_done(const void *what)
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

struct ferry_iscsi_config config_of(struct side *side, const char *portal, const char *name)
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

void open_side(struct side *side, const struct ferry_iscsi_config *config)
{
	struct ferry_error error = {0};

	*side = (struct side){0};
	if (ferry_iscsi_open(config, &side->iscsi, &error) < 0)
		fail_msg("open: %s", error.message);
	side->path = ferry_iscsi_path(side->iscsi);
}

void open_up(struct side *side, const char *portal, const char *name)
{
	struct ferry_iscsi_config config = config_of(side, portal, name);

	open_side(side, &config);
	if (!wait_for(is_up, side))
		fail_msg("not up: %s", ferry_iscsi_last_error(side->iscsi));
}

void open_all(void)
{
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	open_up(&side_c, "127.0.0.2:3260", "iqn.2026-11.test.ferry:c");
}

void close_side(struct side *side)
{
	if (!side->iscsi)
		return;
	ferry_iscsi_close(side->iscsi, on_closed, side);
	side->iscsi = NULL;
	assert_true(wait_for(is_closed, side));
	assert_int_equal(side->in_flight, 0);
	*side = (struct side){0};
}

void submit(struct side *side, struct try *try, enum ferry_op op, uint64_t lba, uint32_t blocks,
	    uint32_t flags, const struct ferry_segments *segments)
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

void expect(struct try *try, enum ferry_outcome outcome, enum ferry_cause cause)
{
	assert_true(wait_for(is_released, try));
	if (try->outcome != outcome || try->cause != cause)
		fail_msg("outcome %d cause %d, not %d %d", try->outcome, try->cause, outcome,
			 cause);
}

void do_io(struct side *side, enum ferry_op op, uint64_t lba, uint32_t blocks, uint32_t flags,
	   const struct ferry_segments *segments)
{
	static struct try try;

	submit(side, &try, op, lba, blocks, flags, segments);
	expect(&try, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
}

void fill(const struct ferry_segments *segments, uint32_t seed)
{
	for (uint32_t i = 0; i < segments->length_bytes; i += 4) {
		uint32_t word = (seed + i) * 2654435761u;

		ferry_segments_write(segments, i, &word, 4);
	}
}

bool is_filled(const struct ferry_segments *segments, uint32_t seed)
{
	for (uint32_t i = 0; i < segments->length_bytes; i += 4) {
		uint32_t word;

		ferry_segments_read(segments, i, &word, 4);
		if (word != (seed + i) * 2654435761u)
			return false;
	}
	return true;
}

bool is_zero(const struct ferry_segments *segments, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		uint8_t byte;

		ferry_segments_read(segments, i, &byte, 1);
		if (byte)
			return false;
	}
	return true;
}

struct ferry_segments take(uint32_t bytes)
{
	struct ferry_segments segments;

	assert_int_equal(ferry_arena_take(&arena, bytes, &segments), 0);
	return segments;
}

void start_fence(struct side *side, struct fence_try *try, enum ferry_fence_op op, uint64_t own,
		 uint64_t other)
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

int do_fence(struct side *side, struct fence_try *try, enum ferry_fence_op op, uint64_t own,
	     uint64_t other)
{
	start_fence(side, try, op, own, other);
	assert_true(wait_for(is_fence_done, try));
	return try->error;
}

bool saw(const struct side *side, uint8_t asc, uint8_t ascq, enum ferry_iscsi_when when)
{
	for (uint32_t i = 0; i < side->attentions_count; i++)
		if (side->attentions[i].asc == asc && side->attentions[i].ascq == ascq &&
		    side->attentions[i].when == when)
			return true;
	return false;
}

void print_attentions(const char *name, const struct side *side)
{
	for (uint32_t i = 0; i < side->attentions_count; i++)
		print_message("%s: attention %02x/%02x when %d\n", name, side->attentions[i].asc,
			      side->attentions[i].ascq, side->attentions[i].when);
}

/* Fixtures. */

int set_up(void **state)
{
	(void)state;
	free_at_set_up = arena.free_count;
	rig_create(&rig);
	rig_start(&rig, NULL);
	return 0;
}

int tear_down(void **state)
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

int set_up_group(void **state)
{
	static struct ferry_region region;
	struct ferry_error error = {0};
	size_t table_bytes = 64 * 1024;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	if (!rig_enter()) {
		print_message("SKIPPED: no network namespace without root\n");
		exit(77);
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

int tear_down_group(void **state)
{
	(void)state;
	loop_owner = ferry_uring_loop_close(loop_owner);
	free(arena.chunks[0].data);
	free(arena.chunks);
	return 0;
}
