#include "agent/adapters/tcp/tcp.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/openssl/openssl.h"
#include "agent/adapters/uring/loop.h"
#include "agent/base/checksum.h"
#include "agent/base/prng.h"
#include "agent/ports/io.h"

enum {
	ARENA_BYTES = 16 * 1024 * 1024,
	WINDOW = 24,
	WAIT_S = 20,
	RAW_NODE = 9,
	RAW_INCARNATION = 90,
};

#define DEAD_AFTER_NS (300 * FERRY_NS_PER_MS)

/* One message of the tests: a request, or the echo of one. */
struct note {
	struct ferry_message message;
	struct end *end;
	bool is_busy;
	uint32_t sent_count;
};

/* What hangs on one link, at either side. */
struct end {
	struct world *world;
	struct ferry_link *link;
	struct note notes[WINDOW * 4];
	uint32_t ups, downs, messages, dropped, asked;
	uint32_t whole, nothing, unsure, busy;
	uint64_t sequence;
	uint64_t bytes;
	bool is_echo;	  /* Answer each WRITE by a READ's data. */
	bool is_hoarding; /* -ENOBUFS. */
	bool is_waiting;  /* It said so. */
	bool is_breaking; /* -EPROTO. */
	bool has_up;
	struct ferry_wire_header header; /* The last that came. */
	char why[192];
};

struct world {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_auth *auth;
	struct ferry_timer pause;
	struct ferry_events events;
	struct ferry_event last; /* Of a peer or of a stranger. */
	uint32_t refused_events;
	void *memory;
	_Alignas(64) uint8_t descriptors[64 * 1024];
	struct ferry_region region;
	struct ferry_arena arena;
	struct ferry_tcp_listener *listener;
	struct ferry_tcp_link *connector;
	struct end out;	  /* The connector's. */
	struct end in;	  /* The listener's, of node 1. */
	struct end raw;	  /* The listener's, of node RAW_NODE. */
	uint32_t members; /* A bit for each. */
	bool is_inside;	  /* A call into the transport is on the stack. */
	char folder[64];
	char key[80];
};

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

/* A WRITE request of @blocks, or a FLUSH of none. 0, or why not. */
static int request(struct end *end, uint32_t blocks)
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

static int end_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct world *world = context;

	assert_true(incarnation.v > 0);
	end_attach(world, link->node.v == RAW_NODE ? &world->raw : &world->in, link);
	return 0;
}

static struct ferry_handshake_config handshake_of(struct world *world, uint32_t node)
{
	return (struct ferry_handshake_config){
		.auth = world->auth,
		.cluster = "harbour",
		.self = {node},
		.incarnation = {node * 10},
		.is_member = is_member,
		.context = world,
	};
}

static void world_listen(struct world *world, uint16_t port)
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

static struct ferry_tcp_link *connector_open(struct world *world, struct ferry_auth *auth,
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

static int world_open(void **state)
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

static int world_close(void **state)
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

static int raw_socket(struct world *world)
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

/* Until the far end closed it. */
static bool is_closed(int fd)
{
	uint8_t bytes[4096];
	ssize_t n;

	do
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (n > 0);
	return n == 0 || errno != EAGAIN;
}

/* A peer that has the key, but no transport of ours. */
static int raw_peer(struct world *world, uint64_t incarnation)
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

static struct ferry_wire_header raw_header(uint32_t blocks)
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

static void comes_up(void **state)
{
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	assert_int_equal(world->in.link->node.v, 1);
	assert_int_equal(world->out.link->node.v, 2);
	wait_ns(world, 4 * DEAD_AFTER_NS); /* Idle is not dead. */
	assert_int_equal(world->out.downs + world->in.downs, 0);
	assert_true(ferry_tcp_link_counters(world->connector).messages_sent >= 4);
	assert_in_range(ferry_tcp_link_rtt_ns(world->connector), 1, FERRY_NS_PER_S);
	assert_string_equal(ferry_tcp_link_trouble(world->connector), "");
}

/* Random sizes, echoed: everything there and back, whole and in order. */
static void carries_data_both_ways(void **state)
{
	struct world *world = *state;
	struct ferry_prng prng = {.state = 1};
	struct ferry_tcp_counters counters;
	uint32_t requests = 0;

	WAIT(world, world->out.has_up && world->in.has_up);
	world->in.is_echo = true;
	while (requests < 3000) {
		uint32_t blocks = (uint32_t)ferry_prng_below(&prng, 4);

		if (requests % 3 == 0)
			blocks = (uint32_t)ferry_prng_below(&prng, 2049);
		if (requests - world->out.messages < WINDOW && request(&world->out, blocks) == 0)
			requests++;
		else
			turn(world);
	}
	WAIT(world, world->out.messages == requests);
	assert_int_equal(world->in.messages, requests);
	assert_int_equal(world->in.bytes, world->out.bytes);
	WAIT(world, world->out.whole == requests && world->in.whole == requests);
	counters = ferry_tcp_link_counters(world->connector);
	assert_true(counters.bytes_sent > world->out.bytes);
	assert_true(counters.bytes_copied < world->out.bytes / 4);
	print_message("%u requests, %lu MiB each way, %lu %% copied\n", requests,
		      world->out.bytes >> 20, 100 * counters.bytes_copied / world->out.bytes);
}

static void waits_for_room(void **state)
{
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	world->in.is_hoarding = true;
	for (int i = 0; i < 40; i++)
		(void)request(&world->out, 600);
	WAIT(world, world->in.is_waiting);
	wait_ns(world, 3 * DEAD_AFTER_NS); /* Neither end takes the other for dead. */
	assert_int_equal(world->in.messages, 0);
	assert_int_equal(world->in.asked, 1);
	assert_int_equal(world->in.downs + world->out.downs, 0);
	world->in.is_hoarding = false;
	world->is_inside = true;
	world->in.link->ops->resume(world->in.link);
	world->is_inside = false;
	WAIT(world, world->in.messages == 40);
	assert_int_equal(world->out.whole, 40);
}

/* Waiting for room, the peer goes: the link ends all the same, by the answer to a PING. */
static void gone_while_waiting(void **state)
{
	struct world *world = *state;
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES];
	struct ferry_wire_header header = raw_header(8);
	int fd = raw_peer(world, RAW_INCARNATION);

	world->raw.is_hoarding = true;
	ferry_wire_encode(&header, bytes);
	assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
	WAIT(world, world->raw.is_waiting);
	close(fd);
	WAIT(world, world->raw.downs == 1);
	assert_int_equal(world->raw.dropped, 0);
}

static void killed_within_a_message(void **state)
{
	struct world *world = *state;
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES + 2048] = {};
	struct ferry_wire_header header = raw_header(128);
	int fd = raw_peer(world, RAW_INCARNATION);

	ferry_wire_encode(&header, bytes);
	assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
	WAIT(world, world->raw.asked == 1);
	close(fd);
	WAIT(world, world->raw.downs == 1);
	assert_int_equal(world->raw.dropped, 1);
	assert_int_equal(world->raw.messages, 0);
	assert_int_equal(world->in.downs, 0); /* Nobody else is disturbed. */
}

static void raw_damage(struct world *world, const void *bytes, size_t length_bytes,
		       const char *word)
{
	uint32_t downs = world->raw.downs;
	int fd = raw_peer(world, RAW_INCARNATION);

	assert_int_equal(send(fd, bytes, length_bytes, MSG_NOSIGNAL), length_bytes);
	WAIT(world, world->raw.downs == downs + 1);
	if (!strstr(world->raw.why, word))
		fail_msg("'%s' lacks '%s'", world->raw.why, word);
	WAIT(world, is_closed(fd));
	close(fd);
}

static void damage_cuts_the_link(void **state)
{
	struct world *world = *state;
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES + 512] = {};
	struct ferry_wire_header header = raw_header(1);

	memset(bytes, 'x', sizeof(bytes));
	raw_damage(world, bytes, sizeof(bytes), "does not begin");
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, sizeof(bytes), "payload's checksum");
	assert_int_equal(world->raw.dropped, 1);
	bytes[60] ^= 1;
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "header's checksum");
	header = raw_header(0);
	header.node.v = 1; /* It speaks for another. */
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "not its own");
	header = raw_header(0);
	header.incarnation.v++;
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "not its own");
	header = raw_header(0);
	header.type = FERRY_WIRE_REPLY; /* To a question of its own. */
	header.outcome = FERRY_OUTCOME_DONE;
	header.cause = FERRY_CAUSE_NONE;
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "not its own");
	world->raw.is_breaking = true;
	header = raw_header(1);
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "refused");
	assert_int_equal(world->raw.messages, 0);
}

static void strangers_are_closed(void **state)
{
	static const char *const WORDS[] = {
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"FRHS\1\0\377\377",
		"FRHS\3\0\050\0",
		"SSH-2.0-x\r\n",
	};
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(WORDS); i++) {
		size_t length_bytes = i == 1 || i == 2 ? 8 : strlen(WORDS[i]);
		int fd = raw_socket(world);

		assert_int_equal(send(fd, WORDS[i], length_bytes, MSG_NOSIGNAL), length_bytes);
		WAIT(world, is_closed(fd));
		close(fd);
	}
	assert_int_equal(ferry_tcp_listener_counters(world->listener).refusals, 4);
	assert_int_equal(world->refused_events, 1); /* Within a second. */
	assert_non_null(strstr(world->last.text, "127.0.0.1:"));
	assert_int_equal(world->in.downs + world->out.downs, 0);
}

static void a_wrong_key_is_turned_away(void **state)
{
	struct world *world = *state;
	struct ferry_auth *auth = NULL;
	struct ferry_tcp_link *other;
	struct end *end = calloc(1, sizeof(*end));
	char path[96];

	WAIT(world, world->in.has_up);
	(void)snprintf(path, sizeof(path), "%s.other", world->key);
	assert_int_equal(ferry_auth_file_create(path, NULL), 0);
	assert_int_equal(ferry_auth_file_open(path, &auth, NULL), 0);
	unlink(path);
	other = connector_open(world, auth, 10, end);
	WAIT(world, ferry_tcp_link_counters(other).refusals == 1);
	WAIT(world, strstr(world->last.text, "key"));
	assert_int_equal(end->ups, 0);
	assert_int_equal(world->in.downs, 0);
	assert_non_null(strstr(ferry_tcp_link_trouble(other), "key"));
	assert_int_equal(ferry_tcp_link_rtt_ns(other), 0);
	(void)ferry_tcp_link_close(other);
	(void)ferry_auth_file_close(auth);
	free(end);
}

static void members_only(void **state)
{
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	world->members = 0;
	world->is_inside = true;
	ferry_tcp_listener_drop(world->listener, (struct ferry_node){1}, "node 1 left");
	world->is_inside = false;
	WAIT(world, world->in.downs == 1 && world->out.downs == 1);
	assert_string_equal(world->in.why, "node 1 left");
	WAIT(world, ferry_tcp_link_counters(world->connector).refusals >= 1);
	assert_false(world->out.link->is_up);
	assert_non_null(strstr(world->last.text, "not a current member"));
	assert_non_null(strstr(ferry_tcp_link_trouble(world->connector), "not a current member"));
	world->members = ~0u;
	WAIT(world, world->out.has_up && world->in.has_up);
}

static void a_flood_is_bounded(void **state)
{
	struct world *world = *state;
	int fds[100];
	uint32_t closed = 0;

	WAIT(world, world->out.has_up);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(fds); i++) {
		fds[i] = raw_socket(world);
		turn(world);
	}
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(fds); i++)
		closed += is_closed(fds[i]);
	assert_true(closed >= FERRY_ARRAY_COUNT(fds) - FERRY_TCP_GREETINGS_MAX);
	world->is_inside = true;
	world->out.link->ops->reset(world->out.link, "test");
	world->is_inside = false;
	WAIT(world, world->out.downs == 1);
	WAIT(world, world->out.ups == 2); /* It gets in all the same. */
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(fds); i++)
		close(fds[i]);
}

static void silence_is_death(void **state)
{
	struct world *world = *state;
	uint64_t began_ns;
	int fd = raw_peer(world, RAW_INCARNATION);

	began_ns = clock_ns();
	WAIT(world, world->raw.downs == 1); /* It takes nothing and says nothing. */
	assert_non_null(strstr(world->raw.why, "nothing heard from node 9"));
	assert_true(clock_ns() - began_ns >= DEAD_AFTER_NS - 20 * FERRY_NS_PER_MS);
	assert_true(clock_ns() - began_ns <= 10 * DEAD_AFTER_NS); /* A busy machine. */
	close(fd);
}

/* One who only hears says PING, too: the far end's own PING may be stuck behind its data. */
static void a_listener_is_heard(void **state)
{
	struct world *world = *state;
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES], heard[FERRY_WIRE_HEADER_BYTES];
	struct ferry_wire_header header = raw_header(0);
	int fd = raw_peer(world, RAW_INCARNATION);

	ferry_wire_encode(&header, bytes);
	do {
		assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
		turn(world);
		assert_true(world->raw.messages < 5000);
	} while (recv(fd, heard, sizeof(heard), MSG_DONTWAIT) != sizeof(heard));
	assert_int_equal(ferry_wire_decode(heard, &header, NULL), 0);
	assert_int_equal(header.type, FERRY_WIRE_PING);
	assert_int_equal(header.node.v, 2);
	assert_true(world->raw.messages > 10);
	close(fd);
	WAIT(world, world->raw.downs == 1);
}

/* Both ends of a connection know it, and it is another one each time. */
static void the_ends_share_a_secret(void **state)
{
	uint8_t secrets[3][FERRY_PROOF_BYTES] = {};
	struct world *world = *state;

	for (uint32_t round = 0; round < 2; round++) {
		WAIT(world, world->out.ups == round + 1 && world->in.ups == round + 1);
		assert_int_equal(ferry_tcp_link_secret(world->connector, secrets[round]), 0);
		assert_int_equal(ferry_tcp_listener_secret(world->listener, (struct ferry_node){1},
							   (struct ferry_incarnation){10},
							   secrets[2]),
				 0);
		assert_memory_equal(secrets[round], secrets[2], FERRY_PROOF_BYTES);
		world->out.link->ops->reset(world->out.link, "the test");
		assert_int_equal(ferry_tcp_link_secret(world->connector, secrets[2]), -ENOTCONN);
		WAIT(world, world->in.downs == round + 1);
	}
	assert_memory_not_equal(secrets[0], secrets[1], FERRY_PROOF_BYTES);
	WAIT(world, world->in.has_up && world->out.has_up);
	assert_int_equal(ferry_tcp_listener_secret(world->listener, (struct ferry_node){1},
						   (struct ferry_incarnation){9}, secrets[2]),
			 -ENOTCONN);
	assert_int_equal(ferry_tcp_listener_secret(world->listener, (struct ferry_node){3},
						   (struct ferry_incarnation){10}, secrets[2]),
			 -ENOTCONN);
}

static void connects_anew(void **state)
{
	struct world *world = *state;
	uint16_t port = ferry_tcp_listener_port(world->listener);

	for (uint32_t round = 1; round <= 3; round++) {
		WAIT(world, world->out.ups == round && world->in.ups == round);
		world->listener = ferry_tcp_listener_close(world->listener);
		assert_int_equal(world->in.downs, round); /* close() says so at once. */
		WAIT(world, world->out.downs == round);
		assert_int_equal(request(&world->out, 1), -ENOTCONN);
		world_listen(world, port);
	}
	WAIT(world, world->out.ups == 4);
	world->is_inside = true;
	ferry_tcp_link_enable(world->connector, false);
	assert_false(world->out.link->is_up);
	world->is_inside = false;
	WAIT(world, world->out.downs == 4 && world->in.downs == 4);
	wait_ns(world, 4 * FERRY_TCP_BACKOFF_NS_MIN);
	assert_int_equal(world->out.ups, 4);
	ferry_tcp_link_enable(world->connector, true);
	WAIT(world, world->out.has_up && world->in.has_up);
}

static void newer_replaces_older(void **state)
{
	struct world *world = *state;
	int first, second, third;

	first = raw_peer(world, RAW_INCARNATION);
	second = raw_peer(world, RAW_INCARNATION + 1);
	WAIT(world, world->raw.ups == 2);
	assert_int_equal(world->raw.downs, 1);
	assert_non_null(strstr(world->raw.why, "replaced by a newer connection of node 9"));
	WAIT(world, is_closed(first));
	third = raw_peer(world, RAW_INCARNATION); /* A ghost of an agent. */
	WAIT(world, is_closed(third));
	assert_int_equal(world->raw.ups, 2);
	assert_true(world->raw.has_up);
	close(first);
	close(second);
	close(third);
}

static void close_tells_all(void **state)
{
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	for (int i = 0; i < 20; i++)
		assert_int_equal(request(&world->out, 16), 0);
	assert_int_equal(world->out.busy, 20);
	world->connector = ferry_tcp_link_close(world->connector);
	assert_int_equal(world->out.nothing, 20);
	assert_int_equal(world->out.downs, 1);
}

static void wrong_configuration(void **state)
{
	struct world *world = *state;
	struct ferry_tcp_listener *listener = NULL;
	struct ferry_tcp_link *connector = NULL;
	struct ferry_tcp_listen_config listen = {
		.loop = world->loop,
		.address = "storage.example",
		.handshake = handshake_of(world, 2),
		.accept = end_accept,
	};
	struct ferry_tcp_connect_config connect = {.loop = world->loop,
						   .address = "127.0.0.1",
						   .peer = {2},
						   .handshake = handshake_of(world, 1)};
	struct ferry_error error = {};

	assert_int_equal(ferry_tcp_listen(&listen, &listener, &error), -EINVAL);
	assert_non_null(strstr(error.message, "'storage.example' is no address"));
	listen.address = "127.0.0.1";
	listen.port = ferry_tcp_listener_port(world->listener);
	assert_int_equal(ferry_tcp_listen(&listen, &listener, &error), -EADDRINUSE);
	assert_non_null(strstr(error.message, "cannot listen on 127.0.0.1:"));
	listen.address = "192.0.2.1";
	assert_int_equal(ferry_tcp_listen(&listen, &listener, &error), -EADDRNOTAVAIL);
	assert_int_equal(ferry_tcp_connect(&connect, &connector, &error), -EINVAL);
	assert_non_null(strstr(error.message, "no port"));
	connect.port = 1;
	connect.handshake.cluster[0] = '\n';
	assert_int_equal(ferry_tcp_connect(&connect, &connector, &error), -EINVAL);
	assert_null(listener);
	assert_null(connector);
}

/* Anything at any time: every message is told of once, every buffer comes back. */
static void chaos(struct world *world, uint64_t seed)
{
	struct ferry_prng prng = {.state = seed};
	struct end *end;

	world->in.is_echo = true;
	for (int i = 0; i < 400; i++) {
		for (uint64_t n = ferry_prng_below(&prng, 6); n > 0; n--)
			(void)request(&world->out, (uint32_t)ferry_prng_below(&prng, 2049));
		end = ferry_prng_below(&prng, 2) ? &world->out : &world->in;
		world->is_inside = true;
		switch (ferry_prng_below(&prng, 40)) {
		case 0:
			if (end->link)
				end->link->ops->reset(end->link, "chaos");
			break;
		case 1:
			ferry_tcp_link_enable(world->connector, false);
			ferry_tcp_link_enable(world->connector, true);
			break;
		case 2:
			ferry_tcp_listener_drop(world->listener, (struct ferry_node){1}, "chaos");
			break;
		case 3:
		case 4:
			end->is_hoarding = true;
			break;
		default:
			end->is_hoarding = false;
			if (end->is_waiting)
				end->link->ops->resume(end->link);
			break;
		}
		world->is_inside = false;
		turn(world);
	}
}

static void every_message_is_told_of_once(void **state)
{
	struct world *world = *state;

	for (uint64_t seed = 1; seed <= 6; seed++) {
		uint32_t messages;

		chaos(world, seed);
		world->in.is_hoarding = world->out.is_hoarding = false;
		WAIT(world, world->out.has_up && world->in.has_up);
		world->out.link->ops->reset(world->out.link, "and once more");
		WAIT(world, !world->out.has_up && !world->in.has_up);
		WAIT(world, world->out.has_up && world->in.has_up);
		messages = world->out.messages;
		WAIT(world, request(&world->out, 8) == 0);
		WAIT(world, world->out.messages == messages + 1);
		assert_int_equal(world->out.busy, 0);
	}
	print_message("%u times up, %u whole, %u nothing, %u unsure, %u dropped\n", world->out.ups,
		      world->out.whole + world->in.whole, world->out.nothing + world->in.nothing,
		      world->out.unsure + world->in.unsure, world->out.dropped + world->in.dropped);
	assert_true(world->out.whole > 100 && world->out.ups > 12);
	assert_true(world->out.nothing + world->in.nothing > 0);
	assert_true(world->out.unsure + world->in.unsure > 0);
	assert_true(world->out.dropped + world->in.dropped > 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, world_open, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_up),
		TEST(carries_data_both_ways),
		TEST(waits_for_room),
		TEST(gone_while_waiting),
		TEST(killed_within_a_message),
		TEST(damage_cuts_the_link),
		TEST(strangers_are_closed),
		TEST(a_wrong_key_is_turned_away),
		TEST(members_only),
		TEST(a_flood_is_bounded),
		TEST(silence_is_death),
		TEST(a_listener_is_heard),
		TEST(the_ends_share_a_secret),
		TEST(connects_anew),
		TEST(newer_replaces_older),
		TEST(close_tells_all),
		TEST(wrong_configuration),
		TEST(every_message_is_told_of_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
