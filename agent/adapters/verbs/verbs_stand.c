#include "agent/adapters/verbs/verbs_stand.h"

#include <fcntl.h>
#include <time.h>

const char *stand_address(void)
{
	return getenv("FERRY_RDMA_ADDRESS");
}

uint64_t clock_ns(void)
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
void turn(struct world *world)
{
	ferry_timer_start_in(world->loop, &world->pause, FERRY_NS_PER_MS);
	assert_int_equal(ferry_uring_loop_run(world->uring), 0);
}

void wait_ns(struct world *world, uint64_t ns)
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
void fill(struct ferry_segments *segments, uint64_t seed)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < segments->count; i++)
		for (uint32_t j = 0; j < segments->v[i].length_bytes; j++, at++)
			segments->v[i].chunk->data[segments->v[i].offset_bytes + j] =
				byte_at(seed, at);
}

bool is_filled(const struct ferry_segments *segments, uint64_t seed)
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
int request(struct end *end, enum ferry_op op, uint32_t blocks)
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
void answer(struct end *end, const struct ferry_wire_header *header)
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

void end_attach(struct side *side, struct end *end, struct ferry_link *link)
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

int side_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct side *side = context;

	assert_true(incarnation.v > 0);
	end_attach(side, &side->serves, link);
	return 0;
}

int side_secret(void *context, struct ferry_node node, struct ferry_incarnation incarnation,
		struct ferry_rdma_secret *ret)
{
	struct side *side = context;

	if (side->world->has_no_secret || node.v == 0 || incarnation.v == 0)
		return -ENOENT;
	*ret = side->world->secret;
	return 0;
}

int side_open(struct side *side, uint16_t port, struct ferry_error *reterr)
{
	struct ferry_verbs_config config = {
		.loop = side->world->loop,
		.events = &side->world->events,
		.auth = side->world->auth,
		.self = {{side->node}, {side->incarnation}},
		.address = stand_address(),
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

void side_connect(struct side *side, struct side *far)
{
	struct ferry_link *link = NULL;

	assert_int_equal(ferry_verbs_connect(side->verbs, (struct ferry_node){far->node},
					     stand_address(), ferry_verbs_port(far->verbs), &link,
					     NULL),
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
struct world *world_make(uint32_t first)
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

int world_open(void **state)
{
	struct world *world = world_make(0);

	side_connect(&world->side[0], &world->side[1]);
	side_connect(&world->side[1], &world->side[0]);
	*state = world;
	return 0;
}

int world_close(void **state)
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

void all_up(struct world *world)
{
	for (uint32_t i = 0; i < 2; i++) {
		WAIT(world, world->side[i].asks.has_up);
		WAIT(world, world->side[i].serves.has_up);
		world->side[i].serves.is_echo = true;
	}
}

/* Of two links one has fallen; the other carries on. */
void only_one_fell(struct world *world)
{
	struct end *other = &world->side[1].asks;
	uint32_t messages = other->messages;

	assert_int_equal(other->downs + world->side[0].serves.downs, 0);
	assert_int_equal(request(other, FERRY_OP_READ, LARGE_BLOCKS), 0);
	WAIT(world, other->messages == messages + 1 && other->busy == 0);
}
