#include "agent/adapters/tcp/tcp_stand.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "agent/base/prng.h"

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

static bool is_member(struct ferry_node node, void *context)
{
	return (((struct world *)context)->members >> node.v) & 1;
}

static void note_sent(struct ferry_message *message, enum ferry_sent sent)
{
	struct note *note = FERRY_CONTAINER_OF(message, struct note, message);
	struct end *end = note->end;

	assert_false(end->world->is_inside);
	assert_true(note->is_busy);
	assert_int_equal(++note->sent_count, 1);
	note->is_busy = false;
	end->busy--;
	end->whole += sent == FERRY_SENT_WHOLE;
	end->nothing += sent == FERRY_SENT_NOTHING;
	end->unsure += sent == FERRY_SENT_UNSURE;
	ferry_segments_drop(&message->segments);
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

/* The content follows from the sequence, so that the far end can verify it. */
static void fill(struct ferry_segments *segments, uint64_t seed)
{
	struct ferry_prng prng = {.state = seed};

	for (uint32_t i = 0; i < segments->count; i++) {
		uint64_t *words =
			(void *)(segments->v[i].chunk->data + segments->v[i].offset_bytes);

		for (uint32_t at = 0; at < segments->v[i].length_bytes / 8; at++)
			words[at] = ferry_prng_next(&prng);
	}
}

static void verify(const struct ferry_segments *segments, uint64_t seed)
{
	struct ferry_prng prng = {.state = seed};

	for (uint32_t i = 0; i < segments->count; i++) {
		const uint64_t *words =
			(void *)(segments->v[i].chunk->data + segments->v[i].offset_bytes);

		for (uint32_t at = 0; at < segments->v[i].length_bytes / 8; at++) {
			uint64_t word = ferry_prng_next(&prng);

			if (words[at] != word)
				assert_int_equal(words[at], word);
		}
	}
}

int request(struct end *end, uint32_t blocks)
{
	struct note *note = note_take(end);
	struct ferry_segments segments = {};
	int r;

	if (!note || (blocks > 0 && ferry_arena_take(&end->world->arena, blocks * 512, &segments)))
		return -ENOBUFS;
	end->sequence++;
	fill(&segments, end->sequence);
	note->message.segments = segments;
	note->message.header = (struct ferry_wire_header){
		.type = FERRY_WIRE_REQUEST,
		.payload_bytes = blocks * 512,
		.node = {1},
		.incarnation = {10},
		.lineage = {{1}},
		.epoch = {1},
		.sequence = end->sequence,
		.lun = {{2}},
		.op = blocks > 0 ? FERRY_OP_WRITE : FERRY_OP_FLUSH,
		.length_blocks = blocks,
	};
	end->world->is_inside = true;
	r = ferry_link_send(end->link, &note->message);
	end->world->is_inside = false;
	if (r < 0) {
		ferry_segments_drop(&note->message.segments);
		return r;
	}
	note->is_busy = true;
	end->busy++;
	return 0;
}

/* The READ reply that has the data of the WRITE that came. */
static void echo(struct end *end, const struct ferry_wire_header *header,
		 const struct ferry_segments *segments)
{
	struct note *note = note_take(end);

	if (!note)
		return; /* Not answered: chaos sends more than fits. */
	ferry_segments_share(segments, &note->message.segments);
	note->message.header = *header;
	note->message.header.type = FERRY_WIRE_REPLY;
	note->message.header.op = header->payload_bytes ? FERRY_OP_READ : FERRY_OP_FLUSH;
	note->message.header.outcome = FERRY_OUTCOME_DONE;
	note->message.header.cause = FERRY_CAUSE_NONE;
	end->world->is_inside = true;
	assert_int_equal(ferry_link_send(end->link, &note->message), 0);
	end->world->is_inside = false;
	note->is_busy = true;
	end->busy++;
}

static void end_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct end *end = link->context;

	assert_false(end->world->is_inside || end->has_up);
	assert_true(link->is_up && incarnation.v > 0);
	end->has_up = true;
	end->ups++;
}

static void end_down(struct ferry_link *link, const char *why)
{
	struct end *end = link->context;

	assert_false(end->world->is_inside || link->is_up);
	assert_true(end->has_up);
	assert_int_equal(end->busy, 0); /* Each on_sent() came before. */
	end->has_up = false;
	end->is_waiting = false;
	end->downs++;
	(void)snprintf(end->why, sizeof(end->why), "%s", why);
}

static int end_payload(struct ferry_link *link, const struct ferry_wire_header *header,
		       struct ferry_segments *ret)
{
	struct end *end = link->context;

	assert_false(end->world->is_inside);
	end->asked++;
	if (end->is_breaking)
		return -EPROTO;
	end->is_waiting = end->is_hoarding ||
			  ferry_arena_take(&end->world->arena, header->payload_bytes, ret) < 0;
	return end->is_waiting ? -ENOBUFS : 0;
}

static void end_message(struct ferry_link *link, const struct ferry_wire_header *header,
			struct ferry_segments *segments)
{
	struct end *end = link->context;

	assert_false(end->world->is_inside);
	assert_int_equal(segments->length_bytes, header->payload_bytes);
	verify(segments, header->sequence);
	end->messages++;
	end->bytes += segments->length_bytes;
	end->header = *header;
	if (end->is_echo)
		echo(end, header, segments);
	ferry_segments_drop(segments);
}

static void end_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
			struct ferry_segments *segments)
{
	struct end *end = link->context;

	assert_false(end->world->is_inside);
	assert_int_equal(segments->length_bytes, header->payload_bytes);
	end->dropped++;
	ferry_segments_drop(segments);
}

static void end_attach(struct world *world, struct end *end, struct ferry_link *link)
{
	end->world = world;
	end->link = link;
	link->on_up = end_up;
	link->on_down = end_down;
	link->on_payload = end_payload;
	link->on_message = end_message;
	link->on_payload_dropped = end_dropped;
	link->context = end;
}

int end_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct world *world = context;

	assert_true(incarnation.v > 0);
	end_attach(world, link->node.v == RAW_NODE ? &world->raw : &world->in, link);
	return 0;
}

struct ferry_handshake_config handshake_of(struct world *world, uint32_t node)
{
	return (struct ferry_handshake_config){
		.auth = world->auth,
		.cluster = "harbour",
		.self = {node},
		.incarnation = {node * 10},
		.is_member = is_member,
		.context = world,
		.features = FERRY_HANDSHAKE_FEATURE_RDMA | 2u << node,
	};
}

void world_listen(struct world *world, uint16_t port)
{
	struct ferry_tcp_listen_config config = {
		.loop = world->loop,
		.events = &world->events,
		.address = "127.0.0.1",
		.port = port,
		.handshake = handshake_of(world, 2),
		.dead_after_ns = DEAD_AFTER_NS,
		.accept = end_accept,
		.context = world,
	};
	struct ferry_error error = {};

	if (ferry_tcp_listen(&config, &world->listener, &error) < 0)
		fail_msg("%s", error.message);
}

struct ferry_tcp_link *connector_open(struct world *world, struct ferry_auth *auth,
				      uint64_t incarnation, struct end *end)
{
	struct ferry_tcp_connect_config config = {
		.loop = world->loop,
		.events = &world->events,
		.address = "127.0.0.1",
		.port = ferry_tcp_listener_port(world->listener),
		.peer = {2},
		.handshake = handshake_of(world, 1),
		.dead_after_ns = DEAD_AFTER_NS,
	};
	struct ferry_tcp_link *connector = NULL;

	config.handshake.auth = auth;
	config.handshake.incarnation.v = incarnation;
	assert_int_equal(ferry_tcp_connect(&config, &connector, NULL), 0);
	end_attach(world, end, ferry_tcp_link_of(connector));
	world->is_inside = true;
	ferry_tcp_link_enable(connector, true);
	world->is_inside = false;
	return connector;
}

int world_open(void **state)
{
	struct world *world = aligned_alloc(_Alignof(struct world), sizeof(*world));

	memset(world, 0, sizeof(*world));
	(void)snprintf(world->folder, sizeof(world->folder), "/tmp/ferry-tcp-XXXXXX");
	assert_non_null(mkdtemp(world->folder));
	(void)snprintf(world->key, sizeof(world->key), "%s/key", world->folder);
	assert_int_equal(ferry_auth_file_create(world->key, NULL), 0);
	assert_int_equal(ferry_auth_file_open(world->key, &world->auth, NULL), 0);
	assert_int_equal(ferry_uring_loop_open(&world->uring, NULL), 0);
	world->loop = ferry_uring_loop_of(world->uring);
	world->pause.run = pause_over;
	world->events.emit = event_emit;
	world->members = ~0u;
	world->memory = aligned_alloc(FERRY_CHUNK_BYTES, ARENA_BYTES);
	ferry_region_init(&world->region, world->descriptors, sizeof(world->descriptors));
	assert_int_equal(
		ferry_arena_init(&world->arena, &world->region, world->memory, ARENA_BYTES), 0);
	world_listen(world, 0);
	world->connector = connector_open(world, world->auth, 10, &world->out);
	*state = world;
	return 0;
}

int world_close(void **state)
{
	struct world *world = *state;

	world->connector = ferry_tcp_link_close(world->connector);
	world->listener = ferry_tcp_listener_close(world->listener);
	ferry_timer_stop(world->loop, &world->pause);
	(void)ferry_uring_loop_close(world->uring);
	(void)ferry_auth_file_close(world->auth);
	/* Every buffer came back, whatever happened to its message. */
	assert_int_equal(world->arena.free_count, world->arena.chunks_count);
	assert_int_equal(world->out.busy + world->in.busy + world->raw.busy, 0);
	assert_int_equal(world->out.ups, world->out.downs);
	assert_int_equal(world->in.ups, world->in.downs);
	free(world->memory);
	unlink(world->key);
	rmdir(world->folder);
	free(world);
	return 0;
}

int raw_socket(struct world *world)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(ferry_tcp_listener_port(world->listener)),
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

bool is_closed(int fd)
{
	uint8_t bytes[4096];
	ssize_t n;

	do
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (n > 0);
	return n == 0 || errno != EAGAIN;
}

int raw_peer(struct world *world, uint64_t incarnation)
{
	struct ferry_handshake_config config = handshake_of(world, RAW_NODE);
	uint8_t bytes[FERRY_HANDSHAKE_FRAME_BYTES_MAX], out[2 * FERRY_HANDSHAKE_FRAME_BYTES_MAX];
	struct ferry_handshake handshake;
	uint32_t out_bytes = 0;
	int fd = raw_socket(world);

	config.role = FERRY_HANDSHAKE_CONNECTOR;
	config.wanted.v = 2;
	config.incarnation.v = incarnation;
	assert_int_equal(ferry_handshake_start(&handshake, &config, out, &out_bytes, NULL), 0);
	while (handshake.state == FERRY_HANDSHAKE_RUNNING) {
		uint32_t wants = ferry_handshake_wants(&handshake);

		assert_int_equal(send(fd, out, out_bytes, MSG_NOSIGNAL), out_bytes);
		WAIT(world, recv(fd, bytes, wants, MSG_PEEK | MSG_DONTWAIT) == (ssize_t)wants);
		assert_int_equal(recv(fd, bytes, wants, 0), wants);
		assert_int_equal(ferry_handshake_read(&handshake, bytes, out, &out_bytes, NULL), 0);
	}
	assert_int_equal(handshake.state, FERRY_HANDSHAKE_COMPLETE);
	WAIT(world, world->raw.has_up);
	return fd;
}

struct ferry_wire_header raw_header(uint32_t blocks)
{
	return (struct ferry_wire_header){
		.type = FERRY_WIRE_REQUEST,
		.payload_bytes = blocks * 512,
		.node = {RAW_NODE},
		.incarnation = {RAW_INCARNATION},
		.lineage = {{1}},
		.epoch = {1},
		.sequence = 1,
		.lun = {{2}},
		.op = blocks > 0 ? FERRY_OP_WRITE : FERRY_OP_FLUSH,
		.length_blocks = blocks,
	};
}
