/*
 * verbs_test - the link port over RDMA: two agents' devices in one process, on one address of this
 * machine that has an RDMA device: FERRY_RDMA_ADDRESS. Skipped without one; tests/vm/rdma.sh has
 * it.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/openssl/openssl.h"
#include "agent/adapters/uring/loop.h"
#include "agent/adapters/verbs/room.h"
#include "agent/base/checksum.h"
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

static const char *address;

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * FERRY_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void pause_over(struct ferry_timer *timer)
{
	ferry_uring_loop_stop(FERRY_CONTAINER_OF(timer, struct world, pause)->uring);
}

/* Run the loop for a millisecond. */
static void turn(struct world *world)
{
	ferry_timer_start_in(world->loop, &world->pause, FERRY_NS_PER_MS);
	assert_int_equal(ferry_uring_loop_run(world->uring), 0);
}

#define WAIT(world, condition)                                                                     \
	do {                                                                                       \
		uint64_t _until_ns = clock_ns() + WAIT_S * FERRY_NS_PER_S;                         \
		while (!(condition)) {                                                             \
			if (clock_ns() > _until_ns)                                                \
				fail_msg("%s:%d: never: %s", __FILE__, __LINE__, #condition);      \
			turn(world);                                                               \
		}                                                                                  \
	} while (0)

static void wait_ns(struct world *world, uint64_t ns)
{
	uint64_t until_ns = clock_ns() + ns;

	WAIT(world, clock_ns() > until_ns);
}

static void event_emit(struct ferry_events *events, const struct ferry_event *event)
{
	struct world *world = FERRY_CONTAINER_OF(events, struct world, events);

	world->last = *event;
	world->refused_events += event->kind == FERRY_EVENT_REFUSED;
}

static void note_sent(struct ferry_message *message, enum ferry_sent sent)
{
	struct note *note = FERRY_CONTAINER_OF(message, struct note, message);
	struct end *end = note->end;

	assert_true(note->is_busy);
	assert_int_equal(++note->sent_count, 1);
	note->is_busy = false;
	end->busy--;
	end->whole += sent == FERRY_SENT_WHOLE;
	end->nothing += sent == FERRY_SENT_NOTHING;
	end->unsure += sent == FERRY_SENT_UNSURE;
	ferry_segments_drop(&message->segments);
	ferry_segments_drop(&message->room);
}

static struct note *note_take(struct end *end)
{
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(end->notes); i++) {
		struct note *note = &end->notes[i];

		if (note->is_busy)
			continue;
		memset(note, 0, sizeof(*note));
		note->end = end;
		note->message.on_sent = note_sent;
		return note;
	}
	return NULL;
}

static uint8_t byte_at(uint64_t seed, uint32_t at)
{
	return (uint8_t)(seed * 37 + at / 512 * 11 + at % 251);
}

/* The content follows from the sequence, so that the far end can verify it. */
static void fill(struct ferry_segments *segments, uint64_t seed)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < segments->count; i++)
		for (uint32_t j = 0; j < segments->v[i].length_bytes; j++, at++)
			segments->v[i].chunk->data[segments->v[i].offset_bytes + j] =
				byte_at(seed, at);
}

static bool is_filled(const struct ferry_segments *segments, uint64_t seed)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < segments->count; i++)
		for (uint32_t j = 0; j < segments->v[i].length_bytes; j++, at++)
			if (segments->v[i].chunk->data[segments->v[i].offset_bytes + j] !=
			    byte_at(seed, at))
				return false;
	return true;
}

static int note_send(struct end *end, struct note *note)
{
	int r = ferry_link_send(end->link, &note->message);

	if (r < 0) {
		ferry_segments_drop(&note->message.segments);
		ferry_segments_drop(&note->message.room);
		return r;
	}
	note->is_busy = true;
	end->busy++;
	return 0;
}

/* A WRITE or READ of @blocks, a READ with room for its answer. 0, or why not. */
static int request(struct end *end, enum ferry_op op, uint32_t blocks)
{
	struct note *note = note_take(end);
	struct ferry_segments segments = {};

	if (!note)
		return -ENOBUFS;
	if (ferry_arena_take(&end->side->arena, blocks * 512, &segments) < 0)
		return -ENOBUFS;
	end->sequence++;
	fill(&segments, op == FERRY_OP_WRITE ? end->sequence : ~end->sequence);
	*(op == FERRY_OP_WRITE ? &note->message.segments : &note->message.room) = segments;
	note->message.header = (struct ferry_wire_header){
		.type = FERRY_WIRE_REQUEST,
		.payload_bytes = op == FERRY_OP_WRITE ? blocks * 512 : 0,
		.node = {end->side->node},
		.incarnation = {end->side->incarnation},
		.lineage = {{1}},
		.epoch = {1},
		.sequence = end->sequence,
		.lun = {{2}},
		.op = op,
		.length_blocks = blocks,
	};
	return note_send(end, note);
}

/* DONE, and of a READ its data, which follows from the sequence as well. */
static void answer(struct end *end, const struct ferry_wire_header *header)
{
	struct note *note = note_take(end);

	assert_non_null(note);
	note->message.header = *header;
	note->message.header.type = FERRY_WIRE_REPLY;
	note->message.header.payload_bytes = 0;
	note->message.header.outcome = FERRY_OUTCOME_DONE;
	note->message.header.cause = FERRY_CAUSE_NONE;
	if (header->op == FERRY_OP_READ) {
		note->message.header.payload_bytes = header->length_blocks * 512;
		assert_int_equal(ferry_arena_take(&end->side->arena, header->length_blocks * 512,
						  &note->message.segments),
				 0);
		fill(&note->message.segments, header->sequence);
	}
	assert_int_equal(note_send(end, note), 0);
}

static void end_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct end *end = link->context;

	assert_true(!end->has_up && link->is_up && incarnation.v > 0);
	end->has_up = true;
	end->ups++;
}

static void end_down(struct ferry_link *link, const char *why)
{
	struct end *end = link->context;

	assert_true(end->has_up && !link->is_up);
	assert_int_equal(end->busy, 0); /* Each on_sent() came before. */
	end->has_up = end->is_waiting = false;
	end->downs++;
	(void)snprintf(end->why, sizeof(end->why), "%s", why);
}

/* The room that a READ has, or memory for a WRITE. */
static int end_payload(struct ferry_link *link, const struct ferry_wire_header *header,
		       struct ferry_segments *ret)
{
	struct end *end = link->context;

	end->is_waiting = end->is_hoarding;
	if (end->is_hoarding)
		return -ENOBUFS;
	if (header->type == FERRY_WIRE_REPLY)
		for (size_t i = 0; i < NOTES; i++) {
			struct note *note = &end->notes[i];

			if (note->is_busy && note->message.header.sequence == header->sequence &&
			    note->message.room.length_bytes == header->payload_bytes) {
				ferry_segments_share(&note->message.room, ret);
				return 0;
			}
		}
	end->is_waiting = ferry_arena_take(&end->side->arena, header->payload_bytes, ret) < 0;
	return end->is_waiting ? -ENOBUFS : 0;
}

static void end_message(struct ferry_link *link, const struct ferry_wire_header *header,
			struct ferry_segments *segments)
{
	struct end *end = link->context;

	assert_int_equal(segments->length_bytes, header->payload_bytes);
	assert_true(is_filled(segments, header->sequence));
	end->messages++;
	end->bytes += segments->length_bytes;
	end->header = *header;
	ferry_segments_drop(segments);
	if (end->is_echo && !end->is_keeping && header->type == FERRY_WIRE_REQUEST)
		answer(end, header);
}

static void end_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
			struct ferry_segments *segments)
{
	struct end *end = link->context;

	assert_int_equal(segments->length_bytes, header->payload_bytes);
	end->dropped++;
	ferry_segments_drop(segments);
}

static void end_attach(struct side *side, struct end *end, struct ferry_link *link)
{
	end->side = side;
	end->link = link;
	link->on_up = end_up;
	link->on_down = end_down;
	link->on_payload = end_payload;
	link->on_message = end_message;
	link->on_payload_dropped = end_dropped;
	link->context = end;
}

static int side_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct side *side = context;

	assert_true(incarnation.v > 0);
	end_attach(side, &side->serves, link);
	return 0;
}

static int side_secret(void *context, struct ferry_node node, struct ferry_incarnation incarnation,
		       struct ferry_rdma_secret *ret)
{
	struct side *side = context;

	if (side->world->has_no_secret || node.v == 0 || incarnation.v == 0)
		return -ENOENT;
	*ret = side->world->secret;
	return 0;
}

static int side_open(struct side *side, uint16_t port, struct ferry_error *reterr)
{
	struct ferry_verbs_config config = {
		.loop = side->world->loop,
		.events = &side->world->events,
		.auth = side->world->auth,
		.self = {{side->node}, {side->incarnation}},
		.address = address,
		.port = port,
		.memory = side->memory,
		.memory_bytes = ARENA_BYTES,
		.links_max = LINKS_MAX,
		.dead_after_ns = DEAD_AFTER_NS,
		.secret = side_secret,
		.accept = side_accept,
		.context = side,
	};

	return ferry_verbs_open(&config, &side->verbs, reterr);
}

static void side_connect(struct side *side, struct side *far)
{
	struct ferry_link *link = NULL;

	assert_int_equal(ferry_verbs_connect(side->verbs, (struct ferry_node){far->node}, address,
					     ferry_verbs_port(far->verbs), &link, NULL),
			 0);
	end_attach(side, &side->asks, link);
	side->serves.side = side;
	ferry_verbs_enable(link, &side->world->secret);
}

/* The same for every process of the test. */
static void key_write(const char *path)
{
	static const char KEY[] = "a key that nobody has but this test, and it has no secrets";
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, KEY, sizeof(KEY)), sizeof(KEY));
	close(fd);
}

/* With both sides, or the second alone. */
static struct world *world_make(uint32_t first)
{
	struct world *world = aligned_alloc(64, (sizeof(*world) + 63) / 64 * 64);
	struct ferry_error error = {};

	memset(world, 0, sizeof(*world));
	(void)snprintf(world->folder, sizeof(world->folder), "/tmp/ferry-verbs-XXXXXX");
	assert_non_null(mkdtemp(world->folder));
	(void)snprintf(world->key, sizeof(world->key), "%s/key", world->folder);
	key_write(world->key);
	assert_int_equal(ferry_auth_file_open(world->key, &world->auth, NULL), 0);
	assert_int_equal(ferry_uring_loop_open(&world->uring, NULL), 0);
	world->loop = ferry_uring_loop_of(world->uring);
	world->pause.run = pause_over;
	world->events.emit = event_emit;
	memset(world->secret.v, 's', sizeof(world->secret.v));
	for (uint32_t i = first; i < 2; i++) {
		struct side *side = &world->side[i];

		side->world = world;
		side->node = i + 1;
		side->incarnation = 10 * (i + 1);
		side->memory = aligned_alloc(FERRY_CHUNK_BYTES, ARENA_BYTES);
		ferry_region_init(&side->region, side->descriptors, sizeof(side->descriptors));
		assert_int_equal(
			ferry_arena_init(&side->arena, &side->region, side->memory, ARENA_BYTES),
			0);
		if (side_open(side, 0, &error) < 0)
			fail_msg("%s", error.message);
	}
	return world;
}

static int world_open(void **state)
{
	struct world *world = world_make(0);

	side_connect(&world->side[0], &world->side[1]);
	side_connect(&world->side[1], &world->side[0]);
	*state = world;
	return 0;
}

static int world_close(void **state)
{
	struct world *world = *state;

	for (uint32_t i = 0; i < 2; i++) {
		struct side *side = &world->side[i];

		side->verbs = ferry_verbs_close(side->verbs);
		assert_int_equal(side->asks.busy + side->serves.busy, 0);
		assert_int_equal(side->arena.free_count, side->arena.chunks_count);
		free(side->memory);
	}
	ferry_timer_stop(world->loop, &world->pause);
	ferry_uring_loop_close(world->uring);
	(void)ferry_auth_file_close(world->auth);
	unlink(world->key);
	rmdir(world->folder);
	free(world);
	return 0;
}

static void all_up(struct world *world)
{
	for (uint32_t i = 0; i < 2; i++) {
		WAIT(world, world->side[i].asks.has_up);
		WAIT(world, world->side[i].serves.has_up);
		world->side[i].serves.is_echo = true;
	}
}

/* ---- What it carries. ---- */

static void comes_up(void **state)
{
	struct world *world = *state;

	all_up(world);
	assert_string_equal(ferry_verbs_trouble(world->side[0].asks.link), "");
	wait_ns(world, 2 * DEAD_AFTER_NS); /* Idle, and not dead. */
	assert_int_equal(world->side[0].asks.downs + world->side[1].serves.downs, 0);
	assert_true(ferry_verbs_counters(world->side[0].asks.link).messages_received > 0);
}

static void carries_data_both_ways(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_prng prng = {.state = 3};
	struct ferry_verbs_counters near, far;
	uint64_t small_written = 0, small_read = 0, written = 0, read = 0;
	uint32_t requests = 0;

	all_up(world);
	while (requests < 300) {
		static const uint32_t SIZES[] = {1, 7, 8, 9, 100, 128, 129, 1000, 2048};
		uint32_t blocks = SIZES[ferry_prng_below(&prng, FERRY_ARRAY_COUNT(SIZES))];
		enum ferry_op op = ferry_prng_below(&prng, 2) ? FERRY_OP_READ : FERRY_OP_WRITE;

		assert_true(asks->has_up);
		if (requests - asks->messages >= 16 || request(asks, op, blocks) < 0) {
			turn(world);
			continue;
		}
		requests++;
		*(op == FERRY_OP_READ ? &read : &written) += (uint64_t)blocks * 512;
		if (blocks <= 8)
			*(op == FERRY_OP_READ ? &small_read : &small_written) +=
				(uint64_t)blocks * 512;
	}
	WAIT(world, asks->messages == requests && asks->busy == 0 && serves->busy == 0);
	assert_int_equal(asks->bytes, read);
	assert_int_equal(serves->bytes, written);
	near = ferry_verbs_counters(asks->link);
	far = ferry_verbs_counters(serves->link);
	assert_int_equal(near.bytes_copied, small_read);
	assert_int_equal(far.bytes_copied, small_written);
	assert_int_equal(near.bytes_moved, 0); /* All RDMA is the server's. */
	assert_int_equal(far.bytes_moved, read + written - small_read - small_written);
	assert_true(far.rdma_reads > 0 && far.rdma_writes > 0);
	assert_int_equal(near.rdma_reads + near.rdma_writes, 0);
	assert_int_equal(asks->downs + serves->downs, 0);
}

static void show(const char *what, struct ferry_verbs_counters a, struct ferry_verbs_counters b,
		 double n)
{
	print_message(
		"%-22s frames sent %.2f, windows %.2f, RDMA reads %.2f, writes %.2f, "
		"completions %.2f, wake-ups %.2f, posts %.2f, bytes copied %.0f, moved %.0f\n",
		what,
		(double)(b.messages_sent - a.messages_sent + b.credit_frames_sent -
			 a.credit_frames_sent) /
			n,
		(double)(b.windows_opened - a.windows_opened) / n,
		(double)(b.rdma_reads - a.rdma_reads) / n,
		(double)(b.rdma_writes - a.rdma_writes) / n,
		(double)(b.completions - a.completions) / n, (double)(b.wakeups - a.wakeups) / n,
		(double)(b.posts - a.posts) / n, (double)(b.bytes_copied - a.bytes_copied) / n,
		(double)(b.bytes_moved - a.bytes_moved) / n);
}

/* What one I/O costs at each end. */
static void costs_are_known(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;

	all_up(world);
	for (uint32_t i = 0; i < 4; i++) {
		enum ferry_op op = i % 2 ? FERRY_OP_WRITE : FERRY_OP_READ;
		uint32_t blocks = i < 2 ? 8 : LARGE_BLOCKS, n = 50;
		struct ferry_verbs_counters near = ferry_verbs_counters(asks->link);
		struct ferry_verbs_counters far = ferry_verbs_counters(serves->link);
		struct ferry_verbs_counters after;
		char what[64];

		for (uint32_t k = 0; k < n; k++) {
			uint32_t messages = asks->messages;

			assert_int_equal(request(asks, op, blocks), 0);
			WAIT(world, asks->messages > messages && asks->busy == 0);
		}
		WAIT(world, serves->busy == 0);
		after = ferry_verbs_counters(asks->link);
		(void)snprintf(what, sizeof(what), "%s %u KiB: asker", i % 2 ? "WRITE" : "READ",
			       blocks / 2);
		show(what, near, after, n);
		if (blocks > 8) {
			assert_int_equal(after.bytes_copied - near.bytes_copied, 0);
			assert_int_equal(after.windows_opened - near.windows_opened, n);
		}
		after = ferry_verbs_counters(serves->link);
		show("                 server", far, after, n);
		if (blocks > 8) {
			assert_int_equal(after.bytes_copied - far.bytes_copied, 0);
			assert_int_equal(after.rdma_reads - far.rdma_reads,
					 op == FERRY_OP_WRITE ? n : 0);
			assert_int_equal(after.rdma_writes - far.rdma_writes,
					 op == FERRY_OP_READ ? n : 0);
		}
	}
}

/* The far end has no room: what was sent waits there, the rest here, and no queue runs over. */
static void waits_for_room(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_verbs_counters counters;

	all_up(world);
	serves->is_hoarding = true;
	for (uint32_t i = 0; i < 90; i++)
		assert_int_equal(request(asks, FERRY_OP_WRITE, i % 3 ? 8 : 64), 0);
	WAIT(world, serves->is_waiting);
	wait_ns(world, 2 * DEAD_AFTER_NS); /* Neither takes the other for dead. */
	assert_int_equal(serves->messages, 0);
	assert_true(ferry_verbs_counters(asks->link).messages_sent <= FERRY_VERBS_CREDITS + 2);
	assert_true(ferry_verbs_counters(asks->link).waits > 0);
	serves->is_hoarding = false;
	serves->link->ops->resume(serves->link);
	WAIT(world, asks->messages == 90 && asks->busy == 0);
	/* One way only: what is owed is given back by frames of its own. */
	serves->is_keeping = true;
	for (uint32_t sent = 0; sent < 300;) {
		assert_true(asks->has_up);
		if (request(asks, FERRY_OP_WRITE, 8) == 0)
			sent++;
		else
			turn(world);
	}
	WAIT(world, serves->messages == 390 && asks->busy == 0);
	counters = ferry_verbs_counters(serves->link);
	assert_true(counters.credit_frames_sent >= 5);
	assert_int_equal(asks->downs + serves->downs, 0);
}

/* ---- Rule 9. ---- */

/* The peer's answer comes long after the requester gave up: its memory has not been given back. */
static void late_answer_touches_no_used_memory(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	uint32_t free_before = world->side[0].arena.free_count;

	all_up(world);
	serves->is_keeping = true;
	assert_int_equal(request(asks, FERRY_OP_READ, LARGE_BLOCKS), 0);
	WAIT(world, serves->messages == 1);
	wait_ns(world, 2 * DEAD_AFTER_NS); /* The requester's time is over. */
	assert_int_equal(asks->busy, 1);
	assert_int_equal(world->side[0].arena.free_count, free_before - 1);
	answer(serves, &serves->header);
	WAIT(world, asks->messages == 1);
	assert_int_equal(asks->whole, 1);
	assert_int_equal(world->side[0].arena.free_count, free_before);
}

/* A request whose room the far end knows, and its pieces there. */
static struct verbs_room learn_room(struct world *world, struct end *asks, struct end *serves)
{
	struct verbs_link *link = verbs_link_of(serves->link);
	struct verbs_room room;
	uint32_t messages = serves->messages;

	serves->is_keeping = true;
	assert_int_equal(request(asks, FERRY_OP_READ, LARGE_BLOCKS), 0);
	WAIT(world, serves->messages == messages + 1);
	room = link->rooms_in[asks->sequence % FERRY_WIRE_WINDOW_MAX];
	assert_int_equal(room.sequence, asks->sequence);
	assert_int_equal(room.pieces_count, 1);
	return room;
}

/* Bare RDMA of the far end's, by no rule of the protocol. */
static void forge_write(struct end *end, struct ferry_rdma_piece piece)
{
	struct verbs_link *link = verbs_link_of(end->link);
	struct ferry_segments segments = {};
	struct ibv_send_wr wrs[VERBS_MOVES_MAX], *bad;
	struct ibv_sge sges[VERBS_MOVES_MAX];
	uint32_t count;

	assert_int_equal(ferry_arena_take(&end->side->arena, piece.length_bytes, &segments), 0);
	fill(&segments, 999);
	count = verbs_move(link, IBV_WR_RDMA_WRITE, &segments, &piece, 1, wrs, sges);
	assert_int_equal(count, 1);
	wrs[0].wr_id = verbs_wr_id(link, VERBS_WORK_MOVE, 0, 0);
	assert_int_equal(ibv_post_send(link->id->qp, wrs, &bad), 0);
	ferry_segments_drop(&segments);
}

/* Of two links one has fallen; the other carries on. */
static void only_one_fell(struct world *world)
{
	struct end *other = &world->side[1].asks;
	uint32_t messages = other->messages;

	assert_int_equal(other->downs + world->side[0].serves.downs, 0);
	assert_int_equal(request(other, FERRY_OP_READ, LARGE_BLOCKS), 0);
	WAIT(world, other->messages == messages + 1 && other->busy == 0);
}

/* The requester's memory is used again after the answer; the far end writes by the old key. */
static void stale_key_is_refused(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_segments again = {};
	struct verbs_room room;

	all_up(world);
	room = learn_room(world, asks, serves);
	answer(serves, &serves->header);
	WAIT(world, asks->messages == 1 && asks->busy == 0);
	assert_int_equal(ferry_arena_take(&world->side[0].arena, LARGE_BLOCKS * 512, &again), 0);
	assert_true((uintptr_t)again.v[0].chunk->data == room.pieces[0].address);
	fill(&again, 555);
	forge_write(serves, room.pieces[0]);
	WAIT(world, serves->downs == 1 && asks->downs == 1);
	assert_true(is_filled(&again, 555));
	ferry_segments_drop(&again);
	only_one_fell(world);
}

/* The connection was cut; its keys open nothing on the next one. */
static void key_dies_with_its_connection(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_segments again = {};
	struct verbs_room room;

	all_up(world);
	room = learn_room(world, asks, serves);
	asks->link->ops->reset(asks->link, "the test");
	WAIT(world, asks->downs == 1 && serves->downs == 1);
	assert_int_equal(asks->unsure, 1);
	assert_int_equal(ferry_arena_take(&world->side[0].arena, LARGE_BLOCKS * 512, &again), 0);
	assert_true((uintptr_t)again.v[0].chunk->data == room.pieces[0].address);
	fill(&again, 555);
	WAIT(world, asks->ups == 2 && serves->ups == 2);
	forge_write(serves, room.pieces[0]);
	WAIT(world, serves->downs == 2 && asks->downs == 2);
	assert_true(is_filled(&again, 555));
	ferry_segments_drop(&again);
	only_one_fell(world);
}

/* A live key opens its own range and no byte beyond, and only to its own connection. */
static void key_opens_no_more_than_it_says(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct verbs_room room;

	all_up(world);
	room = learn_room(world, asks, serves);
	room.pieces[0].address += 512;
	forge_write(serves, room.pieces[0]);
	WAIT(world, serves->downs == 1 && asks->downs == 1);
	assert_int_equal(asks->unsure, 1);
	only_one_fell(world);

	WAIT(world, asks->has_up && serves->has_up);
	room = learn_room(world, asks, serves);
	forge_write(&world->side[1].asks, room.pieces[0]); /* By the other connection. */
	WAIT(world, world->side[1].asks.downs == 1);
	assert_int_equal(asks->downs, 1);
	answer(serves, &serves->header);
	WAIT(world, asks->messages == 1 && asks->busy == 0);
}

/* ---- A peer in a process of its own, which can be frozen. ---- */

struct frozen {
	pid_t pid;
	int to;	  /* It reads its orders here. */
	int from; /* And says what happened. */
};

static char frozen_said(const struct frozen *peer)
{
	struct pollfd ready = {.fd = peer->from, .events = POLLIN};
	char said = 0;

	if (poll(&ready, 1, /* timeout= */ 0) == 1)
		assert_int_equal(read(peer->from, &said, 1), 1);
	return said;
}

/* That process: 'g' when it got a request; at 'w' it writes to where it may, or might once; 'd'
 * when its link is down. It ends by itself when its orders do. */
static int frozen_main(int from, int to)
{
	struct world *world = world_make(1);
	struct end *serves = &world->side[1].serves;
	uint16_t port = ferry_verbs_port(world->side[1].verbs);
	uint32_t messages = 0, downs = 0;
	struct ferry_rdma_piece piece = {};
	struct pollfd orders = {.fd = from, .events = POLLIN};
	char order;

	serves->is_keeping = true;
	assert_int_equal(write(to, &port, sizeof(port)), sizeof(port));
	for (;;) {
		if (poll(&orders, 1, /* timeout= */ 0) == 1) {
			if (read(from, &order, 1) != 1)
				return 0;
			forge_write(serves, piece); /* Before it can know what it slept through. */
		}
		turn(world);
		if (serves->messages > messages) {
			struct verbs_link *link = verbs_link_of(serves->link);

			messages = serves->messages;
			piece = link->rooms_in[serves->header.sequence % FERRY_WIRE_WINDOW_MAX]
					.pieces[0];
			assert_int_equal(write(to, "g", 1), 1);
		}
		if (serves->downs > downs) {
			downs = serves->downs;
			assert_int_equal(write(to, "d", 1), 1);
		}
	}
}

static uint16_t frozen_start(struct frozen *peer)
{
	char from[16], to[16], flag[] = "--peer", path[] = "/proc/self/exe";
	char *arguments[] = {path, flag, from, to, NULL};
	int orders[2], says[2];
	uint16_t port = 0;

	assert_int_equal(pipe(orders) + pipe(says), 0);
	assert_int_equal(fcntl(orders[1], F_SETFD, FD_CLOEXEC), 0); /* It ends when we do. */
	assert_int_equal(fcntl(says[0], F_SETFD, FD_CLOEXEC), 0);
	(void)snprintf(from, sizeof(from), "%d", orders[0]);
	(void)snprintf(to, sizeof(to), "%d", says[1]);
	assert_int_equal(posix_spawn(&peer->pid, path, NULL, NULL, arguments, environ), 0);
	close(orders[0]);
	close(says[1]);
	peer->to = orders[1];
	peer->from = says[0];
	assert_int_equal(read(peer->from, &port, sizeof(port)), sizeof(port));
	return port;
}

/*
 * The peer freezes with a READ's room open. The requester cuts, and uses its memory for something
 * else; then the peer wakes up and writes, as if no time had passed.
 */
static void frozen_peer_writes_nowhere(void **state)
{
	struct world *world = *state;
	struct side *side = &world->side[0];
	struct end *asks = &side->asks;
	struct ferry_segments again = {};
	struct ferry_link *link = NULL;
	struct frozen peer;
	uint16_t port = frozen_start(&peer);
	int status;

	ferry_verbs_enable(asks->link, NULL); /* The neighbour in this process is another one. */
	WAIT(world, !asks->has_up);
	assert_int_equal(ferry_verbs_connect(side->verbs, (struct ferry_node){2}, address, port,
					     &link, NULL),
			 0);
	memset(asks, 0, sizeof(*asks));
	end_attach(side, asks, link);
	ferry_verbs_enable(link, &world->secret);
	WAIT(world, asks->has_up);
	assert_int_equal(request(asks, FERRY_OP_READ, LARGE_BLOCKS), 0);
	WAIT(world, frozen_said(&peer) == 'g');

	assert_int_equal(kill(peer.pid, SIGSTOP), 0);
	WAIT(world, asks->downs == 1);
	assert_non_null(strstr(asks->why, "nothing heard from node 2"));
	assert_int_equal(asks->unsure, 1);
	assert_int_equal(ferry_arena_take(&side->arena, LARGE_BLOCKS * 512, &again), 0);
	fill(&again, 555);
	assert_int_equal(write(peer.to, "w", 1), 1);
	assert_int_equal(kill(peer.pid, SIGCONT), 0);
	WAIT(world, frozen_said(&peer) == 'd');
	assert_true(is_filled(&again, 555));
	ferry_segments_drop(&again);
	WAIT(world, asks->has_up); /* And it is welcome again. */
	close(peer.to);
	assert_int_equal(waitpid(peer.pid, &status, 0), peer.pid);
	assert_int_equal(status, 0);
	WAIT(world, asks->downs == 2); /* A peer that died. */
	close(peer.from);
}

/* ---- A peer that breaks the rules. ---- */

/* Send these bytes as they are. */
static void forge_frame(struct end *end, const void *bytes, uint32_t length_bytes)
{
	struct verbs_link *link = verbs_link_of(end->link);
	uint8_t *room = link->out[FERRY_VERBS_OUT_MAX - 1].lead;
	struct ibv_sge sge = {.addr = (uintptr_t)room,
			      .length = length_bytes,
			      .lkey = link->verbs->frames_mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND}, *bad;

	assert_true(length_bytes <= VERBS_OUT_BYTES);
	memcpy(room, bytes, length_bytes);
	wr.wr_id = verbs_wr_id(link, VERBS_WORK_MOVE, 0, 0);
	assert_int_equal(ibv_post_send(link->id->qp, &wr, &bad), 0);
}

static struct ferry_rdma_frame offer_of(const struct end *end, uint32_t blocks)
{
	return (struct ferry_rdma_frame){
		.kind = FERRY_RDMA_OFFER,
		.header = {.type = FERRY_WIRE_REQUEST,
			   .payload_bytes = blocks * 512,
			   .node = {end->side->node},
			   .incarnation = {end->side->incarnation},
			   .lineage = {{1}},
			   .epoch = {1},
			   .sequence = 7,
			   .lun = {{2}},
			   .op = FERRY_OP_WRITE,
			   .length_blocks = blocks},
		.pieces_count = 1,
		.pieces = {{.address = (uintptr_t)end->side->memory,
			    .key = 0x12345678,
			    .length_bytes = blocks * 512}},
	};
}

static void forge_expect(struct world *world, const void *bytes, uint32_t length_bytes,
			 const char *word)
{
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	uint32_t downs = serves->downs;

	all_up(world);
	forge_frame(asks, bytes, length_bytes);
	WAIT(world, serves->downs == downs + 1 && asks->downs == downs + 1);
	if (!strstr(serves->why, word))
		fail_msg("'%s' lacks '%s'", serves->why, word);
	only_one_fell(world);
}

static void breaches_end_the_connection(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	uint8_t bytes[VERBS_OUT_BYTES] = "this is no frame at all";
	struct ferry_rdma_frame frame;
	uint32_t length_bytes;

	all_up(world);
	forge_expect(world, bytes, 64, "it is none");
	frame = offer_of(asks, LARGE_BLOCKS); /* A key that there never was. */
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	forge_expect(world, bytes, length_bytes, "RDMA: ");
	assert_int_equal(serves->dropped, 1);
	frame.header.node.v = 9;
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	forge_expect(world, bytes, length_bytes, "not its own");
	frame = offer_of(asks, LARGE_BLOCKS);
	frame.credits = 1000;
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	forge_expect(world, bytes, length_bytes, "more credits");
	frame.credits = 0;
	frame.taken = 1;
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	forge_expect(world, bytes, length_bytes, "not offered");
	frame.taken = 0;
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	bytes[length_bytes - 1] ^= 1; /* The length of the piece. */
	forge_expect(world, bytes, length_bytes, "damaged");
	assert_int_equal(serves->messages, 0);
}

/* An OFFER of more than its window opens: the device refuses, not we. */
static void oversized_length_is_refused(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	const struct verbs_link *link;
	struct ferry_rdma_piece window;
	uint8_t bytes[VERBS_OUT_BYTES];
	struct ferry_rdma_frame frame;

	all_up(world);
	link = verbs_link_of(serves->link);
	serves->is_hoarding = true; /* So that the window stays open. */
	assert_int_equal(request(asks, FERRY_OP_WRITE, 16), 0);
	WAIT(world, serves->is_waiting);
	window = link->in[link->order[link->order_first]].frame.pieces[0];
	assert_int_equal(window.length_bytes, 16 * 512);
	frame = offer_of(asks, 2 * LARGE_BLOCKS);
	frame.pieces[0].key = window.key;
	frame.pieces[0].address = window.address;
	forge_frame(asks, bytes, ferry_rdma_frame_encode(&frame, bytes));
	WAIT(world, link->order_count == 2);
	serves->is_hoarding = false;
	serves->link->ops->resume(serves->link);
	WAIT(world, serves->downs == 1 && asks->downs == 1);
	assert_non_null(strstr(serves->why, "RDMA: "));
	assert_true(serves->dropped > 0);
	only_one_fell(world);
}

/* More frames than there are credits: the queue runs dry, and that is the peer's end. */
static void no_frames_without_credit(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	uint8_t bytes[VERBS_OUT_BYTES];
	struct ferry_rdma_frame frame;
	uint32_t length_bytes;

	all_up(world);
	serves->is_hoarding = true;
	frame = offer_of(asks, LARGE_BLOCKS);
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	for (uint32_t i = 0; i < FERRY_VERBS_CREDITS + 1; i++)
		forge_frame(asks, bytes, length_bytes);
	WAIT(world, serves->downs == 1 && asks->downs == 1);
	assert_non_null(strstr(serves->why, "no credit"));
	only_one_fell(world);
}

/* ---- Who may connect. ---- */

static void only_who_proves_itself(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_rdma_secret wrong;

	all_up(world);
	memset(wrong.v, 'w', sizeof(wrong.v));
	ferry_verbs_enable(asks->link, &wrong);
	assert_true(asks->has_up); /* It is not asked again who it is. */
	asks->link->ops->reset(asks->link, "the test");
	WAIT(world, asks->downs == 1);
	WAIT(world, world->refused_events >= 2);
	assert_false(asks->has_up);
	assert_non_null(strstr(world->last.text, "node 1 does not prove itself"));
	assert_non_null(strstr(ferry_verbs_trouble(asks->link), "refused"));
	world->has_no_secret = true;
	ferry_verbs_enable(asks->link, &world->secret);
	WAIT(world, strstr(world->last.text, "no connection by TCP"));
	world->has_no_secret = false;
	WAIT(world, asks->has_up && serves->has_up);
	/* A number that was used is used up. */
	verbs_link_of(serves->link)->number += 1000;
	asks->link->ops->reset(asks->link, "the test");
	WAIT(world, strstr(world->last.text, "an old one"));
	assert_false(asks->has_up);
	only_one_fell(world);
}

static void connects_anew(void **state)
{
	struct world *world = *state;
	struct side *far = &world->side[1];
	struct end *asks = &world->side[0].asks;
	uint16_t port = ferry_verbs_port(far->verbs);

	all_up(world);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(request(asks, FERRY_OP_WRITE, LARGE_BLOCKS), 0);
	far->verbs = ferry_verbs_close(far->verbs); /* The peer dies. */
	WAIT(world, asks->downs == 1);
	assert_int_equal(asks->busy, 0);
	assert_int_equal(asks->whole + asks->nothing + asks->unsure, 10);
	assert_int_equal(request(asks, FERRY_OP_WRITE, 1), -ENOTCONN);
	far->incarnation++;
	assert_int_equal(side_open(far, port, NULL), 0);
	WAIT(world, asks->ups == 2 && far->serves.has_up);
	assert_int_equal(request(asks, FERRY_OP_WRITE, LARGE_BLOCKS), 0);
	WAIT(world, asks->messages > 0 && asks->busy == 0);
	ferry_verbs_enable(asks->link, NULL);
	WAIT(world, asks->downs == 2 && far->serves.downs == 2);
	side_connect(far, &world->side[0]);
}

static void wrong_configuration(void **state)
{
	struct world *world = *state;
	struct ferry_verbs *verbs = NULL;
	struct ferry_error error = {};
	struct ferry_verbs_config config = {
		.loop = world->loop,
		.auth = world->auth,
		.self = {{3}, {30}},
		.address = "127.0.0.1",
		.memory = world->side[0].memory,
		.memory_bytes = ARENA_BYTES,
		.links_max = 1,
		.secret = side_secret,
		.accept = side_accept,
	};

	assert_int_equal(ferry_verbs_open(&config, &verbs, &error), -ENODEV);
	assert_non_null(strstr(error.message, "no RDMA device has this address"));
	config.address = "a name";
	assert_int_equal(ferry_verbs_open(&config, &verbs, &error), -EINVAL);
	assert_null(verbs);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, world_open, world_close)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_up),
		TEST(carries_data_both_ways),
		TEST(costs_are_known),
		TEST(waits_for_room),
		TEST(late_answer_touches_no_used_memory),
		TEST(stale_key_is_refused),
		TEST(key_dies_with_its_connection),
		TEST(frozen_peer_writes_nowhere),
		TEST(key_opens_no_more_than_it_says),
		TEST(breaches_end_the_connection),
		TEST(oversized_length_is_refused),
		TEST(no_frames_without_credit),
		TEST(only_who_proves_itself),
		TEST(connects_anew),
		TEST(wrong_configuration),
	};

	address = getenv("FERRY_RDMA_ADDRESS");
	if (argc == 4)
		return frozen_main((int)strtol(argv[2], NULL, 10), (int)strtol(argv[3], NULL, 10));
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (!address) {
		print_message("skipped: no FERRY_RDMA_ADDRESS\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
