/*
 * nbd_test.c - the server on a real loop and real sockets, with clients that say anything.
 *
 * The loop runs in a thread of its own; the tests are the client, with plain blocking sockets that
 * give up after PATIENCE_S. What touches the server or the volume is called on the loop.
 */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/nbd/block_stub.h"
#include "agent/adapters/nbd/nbd.h"
#include "agent/adapters/nbd/protocol.h"
#include "agent/adapters/uring/loop.h"

enum {
	PATIENCE_S = 10,
	BLOCK = 512,
	VOLUME_BYTES = 64 * 1024 * 1024,
	ARENA_BYTES = 8 * 1024 * 1024,
	REGION_BYTES = 64 * 1024,
	ZEROES_BYTES = 124,
};

struct fixture {
	char directory[32];
	char path[64];
	char listen[80];
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_region region;
	struct ferry_arena arena;
	void *region_memory, *arena_memory;
	uint8_t *bytes;
	struct ferry_block_stub stub;
	struct ferry_nbd_config config;
	struct ferry_nbd_server *server;
	pthread_t thread;
	struct ferry_uring_waker waker;
	void (*call)(struct fixture *fixture, void *argument);
	void *argument;
	sem_t called;
	sem_t stopped;
	sem_t removed;
};

static void waker_run(struct ferry_uring_waker *waker)
{
	struct fixture *fixture = FERRY_CONTAINER_OF(waker, struct fixture, waker);
	void (*call)(struct fixture *, void *) = fixture->call;

	if (!call)
		return;
	fixture->call = NULL;
	call(fixture, fixture->argument);
	sem_post(&fixture->called);
}

static void wait_for(sem_t *semaphore)
{
	struct timespec until;

	assert_int_equal(clock_gettime(CLOCK_REALTIME, &until), 0);
	until.tv_sec += PATIENCE_S;
	while (sem_timedwait(semaphore, &until) < 0)
		assert_int_equal(errno, EINTR);
}

static void on_loop(struct fixture *fixture, void (*call)(struct fixture *, void *), void *argument)
{
	fixture->argument = argument;
	fixture->call = call;
	ferry_uring_loop_wake(fixture->uring);
	wait_for(&fixture->called);
}

static void *loop_thread(void *context)
{
	struct fixture *fixture = context;

	return ferry_uring_loop_run(fixture->uring) < 0 ? fixture : NULL;
}

static void do_start(struct fixture *fixture, void *argument)
{
	const struct ferry_nbd_export demo = {.name = "demo",
					      .description = "a volume",
					      .block = &fixture->stub.block,
					      .is_default = true};
	const struct ferry_nbd_export fixed = {
		.name = "fixed", .block = &fixture->stub.block, .is_read_only = true};
	struct ferry_error error;

	(void)argument;
	ferry_block_stub_init(&fixture->stub, fixture->loop, &fixture->arena, "demo",
			      fixture->bytes, VOLUME_BYTES / BLOCK, BLOCK);
	ferry_assert(ferry_nbd_server_start(&fixture->config, &fixture->server, &error) == 0);
	ferry_assert(ferry_nbd_server_export_add(fixture->server, &demo, &error) == 0);
	ferry_assert(ferry_nbd_server_export_add(fixture->server, &fixed, &error) == 0);
	ferry_assert(ferry_nbd_server_export_add(fixture->server, &demo, &error) == -EEXIST);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct ferry_error error;

	assert_non_null(fixture);
	(void)snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/ferry-nbd.XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/s", fixture->directory);
	(void)snprintf(fixture->listen, sizeof(fixture->listen), "unix:%s", fixture->path);
	assert_int_equal(ferry_uring_loop_open(&fixture->uring, &error), 0);
	fixture->loop = ferry_uring_loop_of(fixture->uring);
	fixture->region_memory = aligned_alloc(64, REGION_BYTES);
	fixture->arena_memory = aligned_alloc(FERRY_CHUNK_BYTES, ARENA_BYTES);
	fixture->bytes = calloc(1, VOLUME_BYTES);
	assert_non_null(fixture->bytes);
	ferry_region_init(&fixture->region, fixture->region_memory, REGION_BYTES);
	assert_int_equal(ferry_arena_init(&fixture->arena, &fixture->region, fixture->arena_memory,
					  ARENA_BYTES),
			 0);
	fixture->config = (struct ferry_nbd_config){.loop = fixture->loop,
						    .listen = {fixture->listen, "tcp:127.0.0.1:0"},
						    .listen_count = 2};
	sem_init(&fixture->called, 0, 0);
	sem_init(&fixture->stopped, 0, 0);
	sem_init(&fixture->removed, 0, 0);
	fixture->waker.run = waker_run;
	ferry_uring_loop_waker_add(fixture->uring, &fixture->waker);
	assert_int_equal(pthread_create(&fixture->thread, NULL, loop_thread, fixture), 0);
	*state = fixture;
	return 0;
}

static void server_start(struct fixture *fixture)
{
	on_loop(fixture, do_start, NULL);
}

static void on_stopped(void *context)
{
	struct fixture *fixture = context;

	sem_post(&fixture->stopped);
}

static void do_stop(struct fixture *fixture, void *argument)
{
	(void)argument;
	ferry_nbd_server_stop(fixture->server, on_stopped, fixture);
}

static void do_behave(struct fixture *fixture, void *argument)
{
	ferry_block_stub_behave(&fixture->stub, *(struct ferry_block_behaviour *)argument);
}

static void behave(struct fixture *fixture, struct ferry_block_behaviour behaviour)
{
	on_loop(fixture, do_behave, &behaviour);
}

/* As a good volume does. */
#define WELL ((struct ferry_block_behaviour){0})

static void do_free(struct fixture *fixture, void *argument)
{
	(void)argument;
	ferry_assert(ferry_nbd_server_counters(fixture->server)->requests_in_flight == 0);
	ferry_assert(ferry_nbd_server_counters(fixture->server)->connections == 0);
	fixture->server = ferry_nbd_server_free(fixture->server);
	ferry_block_stub_done(&fixture->stub);
	/* Not one chunk was lost, whatever the test did. */
	ferry_assert(fixture->arena.free_count == fixture->arena.chunks_count);
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	void *failed;

	if (fixture->server) {
		behave(fixture, WELL);
		on_loop(fixture, do_stop, NULL);
		wait_for(&fixture->stopped);
		on_loop(fixture, do_free, NULL);
	}
	ferry_uring_loop_stop(fixture->uring);
	assert_int_equal(pthread_join(fixture->thread, &failed), 0);
	assert_null(failed);
	ferry_uring_loop_waker_remove(fixture->uring, &fixture->waker);
	fixture->uring = ferry_uring_loop_close(fixture->uring);
	/* Fails if the server left something behind. */
	assert_int_equal(rmdir(fixture->directory), 0);
	free(fixture->bytes);
	free(fixture->arena_memory);
	free(fixture->region_memory);
	free(fixture);
	return 0;
}

static void do_counters(struct fixture *fixture, void *argument)
{
	*(struct ferry_nbd_counters *)argument = *ferry_nbd_server_counters(fixture->server);
}

static struct ferry_nbd_counters counters(struct fixture *fixture)
{
	struct ferry_nbd_counters now;

	on_loop(fixture, do_counters, &now);
	return now;
}

static void do_stub(struct fixture *fixture, void *argument)
{
	*(struct ferry_block_stub *)argument = fixture->stub;
}

static struct ferry_block_stub stub(struct fixture *fixture)
{
	struct ferry_block_stub now;

	on_loop(fixture, do_stub, &now);
	return now;
}

static void do_chunks_free(struct fixture *fixture, void *argument)
{
	*(uint32_t *)argument = fixture->arena.free_count;
}

static uint32_t chunks_free(struct fixture *fixture)
{
	uint32_t now;

	on_loop(fixture, do_chunks_free, &now);
	return now;
}

/* Poll @condition on the loop's thread until it holds. */
#define UNTIL(condition)                                                                           \
	do {                                                                                       \
		const time_t until = time(NULL) + PATIENCE_S;                                      \
		while (!(condition)) {                                                             \
			assert_true(time(NULL) < until);                                           \
			(void)usleep(1000);                                                        \
		}                                                                                  \
	} while (0)

/* The client. */

static int client_connect(struct fixture *fixture)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture->path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	return fd;
}

/*
 * Not a signal: the kernel, done with an earlier test's ring, interrupts the thread that made it,
 * and sockets with a time limit then give up with EINTR.
 */
static ssize_t receive(int fd, void *bytes, size_t length_bytes)
{
	size_t got_bytes = 0;

	while (got_bytes < length_bytes) {
		ssize_t got = recv(fd, (uint8_t *)bytes + got_bytes, length_bytes - got_bytes, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno != ECONNRESET)
			fail_msg("recv: %s", strerror(errno));
		if (got <= 0)
			break;
		got_bytes += (size_t)got;
	}
	return (ssize_t)got_bytes;
}

static void say(int fd, const void *bytes, size_t length_bytes)
{
	size_t sent_bytes = 0;

	while (sent_bytes < length_bytes) {
		ssize_t sent = send(fd, (const uint8_t *)bytes + sent_bytes,
				    length_bytes - sent_bytes, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			fail_msg("send: %s", strerror(errno));
		sent_bytes += sent > 0 ? (size_t)sent : 0;
	}
}

static void hear(int fd, void *bytes, size_t length_bytes)
{
	assert_int_equal(receive(fd, bytes, length_bytes), length_bytes);
}

/* The server has hung up, and said nothing more before. */
static void hear_end(int fd)
{
	uint8_t byte;

	assert_int_equal(receive(fd, &byte, 1), 0);
	close(fd);
}

static struct ferry_nbd_writer writer_of(uint8_t *bytes, uint32_t size_bytes)
{
	return (struct ferry_nbd_writer){.bytes = bytes, .size_bytes = size_bytes};
}

static int client_greet_as(struct fixture *fixture, uint32_t flags)
{
	uint8_t greeting[FERRY_NBD_GREETING_BYTES];
	uint8_t answer[4];
	struct ferry_nbd_reader reader = {.bytes = greeting, .left_bytes = sizeof(greeting)};
	struct ferry_nbd_writer writer = writer_of(answer, sizeof(answer));
	int fd = client_connect(fixture);

	hear(fd, greeting, sizeof(greeting));
	assert_int_equal(ferry_nbd_read_u64(&reader), FERRY_NBD_MAGIC);
	assert_int_equal(ferry_nbd_read_u64(&reader), FERRY_NBD_OPTION_MAGIC);
	assert_int_equal(ferry_nbd_read_u16(&reader), 3);
	ferry_nbd_write_u32(&writer, flags);
	say(fd, answer, sizeof(answer));
	return fd;
}

static int client_greet(struct fixture *fixture)
{
	return client_greet_as(fixture, 3);
}

static void option_say(int fd, uint32_t option, const void *data, uint32_t length_bytes)
{
	uint8_t header[FERRY_NBD_OPTION_HEADER_BYTES];
	struct ferry_nbd_writer writer = writer_of(header, sizeof(header));

	ferry_nbd_write_u64(&writer, FERRY_NBD_OPTION_MAGIC);
	ferry_nbd_write_u32(&writer, option);
	ferry_nbd_write_u32(&writer, length_bytes);
	say(fd, header, sizeof(header));
	if (length_bytes > 0)
		say(fd, data, length_bytes);
}

/* One answer: its type; its data in @ret. */
static uint32_t option_hear(int fd, uint32_t option, uint8_t ret[4096], uint32_t *ret_bytes)
{
	uint8_t header[20], data[4096];
	struct ferry_nbd_reader reader = {.bytes = header, .left_bytes = sizeof(header)};
	uint32_t type, length_bytes;

	hear(fd, header, sizeof(header));
	assert_int_equal(ferry_nbd_read_u64(&reader), FERRY_NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(ferry_nbd_read_u32(&reader), option);
	type = ferry_nbd_read_u32(&reader);
	length_bytes = ferry_nbd_read_u32(&reader);
	assert_true(length_bytes <= sizeof(data));
	if (length_bytes > 0)
		hear(fd, ret ? ret : data, length_bytes);
	if (ret_bytes)
		*ret_bytes = length_bytes;
	return type;
}

static void option_expect(int fd, uint32_t option, const void *data, uint32_t length_bytes,
			  uint32_t type)
{
	option_say(fd, option, data, length_bytes);
	assert_int_equal(option_hear(fd, option, NULL, NULL), type);
}

/* The data of INFO and GO: name, and wishes for NAME and DESCRIPTION. */
static uint32_t info_data(uint8_t ret[64], const char *name)
{
	struct ferry_nbd_writer writer = writer_of(ret, 64);

	ferry_nbd_write_u32(&writer, (uint32_t)strlen(name));
	ferry_nbd_write_bytes(&writer, name, (uint32_t)strlen(name));
	ferry_nbd_write_u16(&writer, 2);
	ferry_nbd_write_u16(&writer, FERRY_NBD_INFO_NAME);
	ferry_nbd_write_u16(&writer, FERRY_NBD_INFO_DESCRIPTION);
	return writer.used_bytes;
}

/* INFO or GO, all answers to the last; a bit for each kind of information. */
static uint32_t info_ask(int fd, uint32_t option, const char *name)
{
	uint8_t data[64], answer[4096];
	uint32_t type, seen = 0;

	option_say(fd, option, data, info_data(data, name));
	while ((type = option_hear(fd, option, answer, NULL)) == FERRY_NBD_REP_INFO)
		seen |= 1u << answer[1];
	assert_int_equal(type, FERRY_NBD_REP_ACK);
	return seen;
}

static int client_go(struct fixture *fixture, const char *name, bool has_structured)
{
	int fd = client_greet(fixture);

	if (has_structured)
		option_expect(fd, FERRY_NBD_OPT_STRUCTURED_REPLY, NULL, 0, FERRY_NBD_REP_ACK);
	(void)info_ask(fd, FERRY_NBD_OPT_GO, name);
	return fd;
}

static void request_encode(uint8_t ret[FERRY_NBD_REQUEST_BYTES], uint16_t command, uint16_t flags,
			   uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes)
{
	struct ferry_nbd_writer writer = writer_of(ret, FERRY_NBD_REQUEST_BYTES);

	ferry_nbd_write_u32(&writer, FERRY_NBD_REQUEST_MAGIC);
	ferry_nbd_write_u16(&writer, flags);
	ferry_nbd_write_u16(&writer, command);
	ferry_nbd_write_u64(&writer, cookie);
	ferry_nbd_write_u64(&writer, offset_bytes);
	ferry_nbd_write_u32(&writer, length_bytes);
}

static void request_say(int fd, uint16_t command, uint16_t flags, uint64_t cookie,
			uint64_t offset_bytes, uint32_t length_bytes)
{
	uint8_t request[FERRY_NBD_REQUEST_BYTES];

	request_encode(request, command, flags, cookie, offset_bytes, length_bytes);
	say(fd, request, sizeof(request));
}

static uint32_t reply_hear(int fd, uint64_t *ret_cookie)
{
	uint8_t reply[16];
	struct ferry_nbd_reader reader = {.bytes = reply, .left_bytes = sizeof(reply)};
	uint32_t error;

	hear(fd, reply, sizeof(reply));
	assert_int_equal(ferry_nbd_read_u32(&reader), FERRY_NBD_SIMPLE_REPLY_MAGIC);
	error = ferry_nbd_read_u32(&reader);
	*ret_cookie = ferry_nbd_read_u64(&reader);
	return error;
}

static void reply_expect(int fd, uint64_t cookie, uint32_t error)
{
	uint64_t heard;

	assert_int_equal(reply_hear(fd, &heard), error);
	assert_int_equal(heard, cookie);
}

/* One request without data, and its reply. */
static void expect(int fd, uint16_t command, uint16_t flags, uint64_t offset_bytes,
		   uint32_t length_bytes, uint32_t error)
{
	static uint64_t cookie = UINT64_C(0xfeedf00d00000000);

	request_say(fd, command, flags, ++cookie, offset_bytes, length_bytes);
	reply_expect(fd, cookie, error);
}

static void write_expect(int fd, uint16_t flags, uint64_t offset_bytes, uint32_t length_bytes,
			 uint8_t byte, uint32_t error)
{
	uint8_t *data = malloc(length_bytes + 1);

	assert_non_null(data);
	memset(data, byte, length_bytes);
	request_say(fd, FERRY_NBD_CMD_WRITE, flags, 77, offset_bytes, length_bytes);
	say(fd, data, length_bytes);
	reply_expect(fd, 77, error);
	free(data);
}

static void read_hear(int fd, uint32_t length_bytes, uint8_t byte)
{
	uint8_t *data = malloc(length_bytes);

	assert_non_null(data);
	hear(fd, data, length_bytes);
	for (uint32_t i = 0; i < length_bytes; i++)
		assert_int_equal(data[i], byte);
	free(data);
}

static void read_expect(int fd, uint64_t offset_bytes, uint32_t length_bytes, uint8_t byte)
{
	expect(fd, FERRY_NBD_CMD_READ, 0, offset_bytes, length_bytes, 0);
	read_hear(fd, length_bytes, byte);
}

/* The tests. */

static void test_options(void **state)
{
	static const uint8_t big[FERRY_NBD_OPTION_BYTES_MAX + 1];
	struct fixture *fixture = *state;
	uint8_t data[64], answer[4096];
	uint32_t length_bytes;
	int fd;

	server_start(fixture);
	fd = client_greet(fixture);
	option_expect(fd, FERRY_NBD_OPT_STARTTLS, NULL, 0, FERRY_NBD_REP_ERR_UNSUP);
	option_expect(fd, 11, NULL, 0, FERRY_NBD_REP_ERR_UNSUP);
	option_expect(fd, 4711, big, 100, FERRY_NBD_REP_ERR_UNSUP);
	option_expect(fd, 4711, big, sizeof(big) - 1, FERRY_NBD_REP_ERR_UNSUP);
	option_expect(fd, 4711, big, sizeof(big), FERRY_NBD_REP_ERR_TOO_BIG);
	option_expect(fd, FERRY_NBD_OPT_LIST, big, 1, FERRY_NBD_REP_ERR_INVALID);
	option_say(fd, FERRY_NBD_OPT_LIST, NULL, 0);
	assert_int_equal(option_hear(fd, FERRY_NBD_OPT_LIST, answer, &length_bytes),
			 FERRY_NBD_REP_SERVER);
	assert_int_equal(length_bytes, 4 + 4 + 8);
	assert_memory_equal(answer + 4, "demoa volume", 12);
	assert_int_equal(option_hear(fd, FERRY_NBD_OPT_LIST, NULL, NULL), FERRY_NBD_REP_SERVER);
	assert_int_equal(option_hear(fd, FERRY_NBD_OPT_LIST, NULL, NULL), FERRY_NBD_REP_ACK);

	/* All four kinds of information, for the default export too. */
	assert_int_equal(info_ask(fd, FERRY_NBD_OPT_INFO, "demo"), 0xf);
	assert_int_equal(info_ask(fd, FERRY_NBD_OPT_INFO, ""), 0xf);
	length_bytes = info_data(data, "none");
	option_expect(fd, FERRY_NBD_OPT_GO, data, length_bytes, FERRY_NBD_REP_ERR_UNKNOWN);
	option_expect(fd, FERRY_NBD_OPT_GO, data, length_bytes - 1, FERRY_NBD_REP_ERR_INVALID);
	option_expect(fd, FERRY_NBD_OPT_GO, data, 3, FERRY_NBD_REP_ERR_INVALID);
	data[0] = 0xff; /* The name is longer than all there is. */
	option_expect(fd, FERRY_NBD_OPT_INFO, data, length_bytes, FERRY_NBD_REP_ERR_INVALID);

	option_expect(fd, FERRY_NBD_OPT_STRUCTURED_REPLY, big, 1, FERRY_NBD_REP_ERR_INVALID);
	option_expect(fd, FERRY_NBD_OPT_ABORT, NULL, 0, FERRY_NBD_REP_ACK);
	hear_end(fd);
}

static uint32_t context_data(uint8_t ret[64], const char *name, uint32_t queries_count,
			     const char *query)
{
	struct ferry_nbd_writer writer = writer_of(ret, 64);

	ferry_nbd_write_u32(&writer, (uint32_t)strlen(name));
	ferry_nbd_write_bytes(&writer, name, (uint32_t)strlen(name));
	ferry_nbd_write_u32(&writer, queries_count);
	for (uint32_t i = 0; i < queries_count; i++) {
		ferry_nbd_write_u32(&writer, (uint32_t)strlen(query));
		ferry_nbd_write_bytes(&writer, query, (uint32_t)strlen(query));
	}
	return writer.used_bytes;
}

static void test_meta_contexts(void **state)
{
	const uint32_t set = FERRY_NBD_OPT_SET_META_CONTEXT, list = FERRY_NBD_OPT_LIST_META_CONTEXT;
	struct fixture *fixture = *state;
	uint8_t data[64], reply[32];
	struct ferry_nbd_reader reader = {.bytes = reply, .left_bytes = sizeof(reply)};
	uint32_t length_bytes = context_data(data, "demo", 1, "base:allocation");
	int fd;

	server_start(fixture);
	fd = client_greet(fixture);
	option_expect(fd, set, data, length_bytes, FERRY_NBD_REP_ERR_INVALID);
	option_expect(fd, FERRY_NBD_OPT_STRUCTURED_REPLY, NULL, 0, FERRY_NBD_REP_ACK);
	option_expect(fd, set, data, length_bytes - 1, FERRY_NBD_REP_ERR_INVALID);
	option_expect(fd, set, data, context_data(data, "none", 0, ""), FERRY_NBD_REP_ERR_UNKNOWN);
	option_expect(fd, set, data, context_data(data, "demo", 1, "base:"), FERRY_NBD_REP_ACK);
	option_expect(fd, list, data, context_data(data, "demo", 1, "qemu:"), FERRY_NBD_REP_ACK);
	option_expect(fd, list, data, context_data(data, "demo", 0, ""),
		      FERRY_NBD_REP_META_CONTEXT);
	assert_int_equal(option_hear(fd, list, NULL, NULL), FERRY_NBD_REP_ACK);
	/* Named twice, told once. */
	option_expect(fd, set, data, context_data(data, "demo", 2, "base:allocation"),
		      FERRY_NBD_REP_META_CONTEXT);
	assert_int_equal(option_hear(fd, set, NULL, NULL), FERRY_NBD_REP_ACK);
	(void)info_ask(fd, FERRY_NBD_OPT_GO, "demo");

	request_say(fd, FERRY_NBD_CMD_BLOCK_STATUS, FERRY_NBD_CMD_REQ_ONE, 5, BLOCK, 10 * BLOCK);
	hear(fd, reply, sizeof(reply));
	assert_int_equal(ferry_nbd_read_u32(&reader), FERRY_NBD_STRUCTURED_REPLY_MAGIC);
	assert_int_equal(ferry_nbd_read_u32(&reader), 0x00010005);
	assert_int_equal(ferry_nbd_read_u64(&reader), 5);
	assert_int_equal(ferry_nbd_read_u32(&reader), 12);
	assert_int_equal(ferry_nbd_read_u32(&reader), FERRY_NBD_CONTEXT_ALLOCATION);
	assert_int_equal(ferry_nbd_read_u32(&reader), 10 * BLOCK);
	assert_int_equal(ferry_nbd_read_u32(&reader), 0);
	close(fd);
}

static void test_export_name(void **state)
{
	struct fixture *fixture = *state;
	uint8_t answer[10 + ZEROES_BYTES];
	struct ferry_nbd_reader reader = {.bytes = answer, .left_bytes = sizeof(answer)};
	int fd;

	server_start(fixture);
	fd = client_greet_as(fixture, FERRY_NBD_FIXED_NEWSTYLE); /* Wants the zeroes. */
	option_say(fd, FERRY_NBD_OPT_EXPORT_NAME, "fixed", 5);
	hear(fd, answer, sizeof(answer));
	assert_int_equal(ferry_nbd_read_u64(&reader), VOLUME_BYTES);
	assert_int_equal(ferry_nbd_read_u16(&reader), 1 | 2 | 4 | 8 | 256);
	write_expect(fd, 0, 0, BLOCK, 1, FERRY_NBD_EPERM);
	expect(fd, FERRY_NBD_CMD_TRIM, 0, 0, BLOCK, FERRY_NBD_EPERM);
	expect(fd, FERRY_NBD_CMD_WRITE_ZEROES, 0, 0, BLOCK, FERRY_NBD_EPERM);
	read_expect(fd, 0, BLOCK, 0);
	close(fd);
	/* Without the fixed newstyle, and without the zeroes. */
	fd = client_greet_as(fixture, FERRY_NBD_NO_ZEROES);
	option_say(fd, FERRY_NBD_OPT_EXPORT_NAME, "", 0);
	hear(fd, answer, 10);
	read_expect(fd, 0, BLOCK, 0);
	close(fd);
	fd = client_greet(fixture);
	option_say(fd, FERRY_NBD_OPT_EXPORT_NAME, "none", 4);
	hear_end(fd);
}

static void test_garbage(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	struct fixture *fixture = *state;
	uint8_t header[FERRY_NBD_OPTION_HEADER_BYTES];
	struct ferry_nbd_writer writer = writer_of(header, sizeof(header));
	int fd;

	server_start(fixture);
	hear_end(client_greet_as(fixture, 4));
	fd = client_greet(fixture);
	say(fd, http, sizeof(http));
	hear_end(fd);
	fd = client_greet(fixture); /* More data than anyone needs. */
	ferry_nbd_write_u64(&writer, FERRY_NBD_OPTION_MAGIC);
	ferry_nbd_write_u32(&writer, FERRY_NBD_OPT_GO);
	ferry_nbd_write_u32(&writer, UINT32_MAX);
	say(fd, header, sizeof(header));
	hear_end(fd);
	fd = client_greet_as(fixture, 0); /* Knows no answers to options. */
	option_say(fd, FERRY_NBD_OPT_LIST, NULL, 0);
	hear_end(fd);
	fd = client_go(fixture, "demo", false);
	say(fd, http, sizeof(http));
	hear_end(fd);
	fd = client_go(fixture, "demo", false); /* Too much to drain. */
	request_say(fd, FERRY_NBD_CMD_WRITE, 0, 1, 0, 64 * 1024 * 1024 + 1);
	hear_end(fd);
	fd = client_greet(fixture); /* A client that never ends its haggling. */
	for (uint32_t i = 0; i < 256; i++)
		option_expect(fd, 4711, NULL, 0, FERRY_NBD_REP_ERR_UNSUP);
	option_say(fd, 4711, NULL, 0);
	hear_end(fd);
	assert_int_equal(counters(fixture).connections_broken, 7);
	UNTIL(counters(fixture).connections == 0);
}

static void test_commands(void **state)
{
	struct fixture *fixture = *state;
	struct ferry_block_stub seen;
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	write_expect(fd, 0, 4096, 8192, 0xaa, 0);
	read_expect(fd, 4096, 8192, 0xaa);
	assert_int_equal(stub(fixture).fuas, 0);
	write_expect(fd, FERRY_NBD_CMD_FUA, 0, FERRY_IO_BYTES_MAX, 0xbb, 0);
	assert_int_equal(stub(fixture).fuas, 1);
	read_expect(fd, 0, FERRY_IO_BYTES_MAX, 0xbb);
	expect(fd, FERRY_NBD_CMD_FLUSH, 0, 0, 0, 0);
	assert_int_equal(stub(fixture).submits[FERRY_OP_FLUSH], 1);
	expect(fd, FERRY_NBD_CMD_TRIM, 0, 0, 4096, 0);
	assert_int_equal(stub(fixture).submits[FERRY_OP_FLUSH], 1);
	expect(fd, FERRY_NBD_CMD_TRIM, FERRY_NBD_CMD_FUA, 0, 4096, 0);
	seen = stub(fixture);
	assert_int_equal(seen.submits[FERRY_OP_DISCARD], 2);
	assert_int_equal(seen.submits[FERRY_OP_FLUSH], 2);
	assert_int_equal(seen.last_op, FERRY_OP_FLUSH);
	assert_int_equal(seen.fuas, 1); /* DISCARD has none. */
	expect(fd, FERRY_NBD_CMD_WRITE_ZEROES, FERRY_NBD_CMD_FUA | FERRY_NBD_CMD_NO_HOLE, 0, 4096,
	       0);
	assert_int_equal(stub(fixture).no_unmaps, 1);
	assert_int_equal(stub(fixture).fuas, 2);
	read_expect(fd, 0, 4096, 0);
	read_expect(fd, 4096, 4096, 0xbb);
	request_say(fd, FERRY_NBD_CMD_DISC, 0, 0, 0, 0);
	hear_end(fd);
}

static void test_long_ranges(void **state)
{
	struct fixture *fixture = *state;
	struct ferry_block_stub seen;
	int fd;

	memset(fixture->bytes, 0xcc, VOLUME_BYTES);
	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	expect(fd, FERRY_NBD_CMD_WRITE_ZEROES, FERRY_NBD_CMD_FUA, BLOCK, 20 * 1024 * 1024, 0);
	seen = stub(fixture);
	assert_int_equal(seen.submits[FERRY_OP_WRITE_ZEROES], 3);
	assert_int_equal(seen.fuas, 3);
	assert_int_equal(seen.range_bytes_seen_max, FERRY_IO_RANGE_BYTES_MAX);
	read_expect(fd, 0, BLOCK, 0xcc);
	read_expect(fd, BLOCK, FERRY_IO_BYTES_MAX, 0);
	read_expect(fd, BLOCK + 19 * 1024 * 1024, FERRY_IO_BYTES_MAX, 0);
	read_expect(fd, BLOCK + 20 * 1024 * 1024, BLOCK, 0xcc);
	expect(fd, FERRY_NBD_CMD_TRIM, FERRY_NBD_CMD_FUA, 0, VOLUME_BYTES, 0);
	seen = stub(fixture);
	assert_int_equal(seen.submits[FERRY_OP_DISCARD], 8);
	assert_int_equal(seen.submits[FERRY_OP_FLUSH], 1);
	/* The first error ends it. */
	behave(fixture, (struct ferry_block_behaviour){.fail_op = FERRY_OP_DISCARD,
						       .fail_error = -ENOSPC,
						       .fail_count = 1});
	expect(fd, FERRY_NBD_CMD_TRIM, FERRY_NBD_CMD_FUA, 0, VOLUME_BYTES, FERRY_NBD_ENOSPC);
	seen = stub(fixture);
	assert_int_equal(seen.submits[FERRY_OP_DISCARD], 9);
	assert_int_equal(seen.submits[FERRY_OP_FLUSH], 1);
	close(fd);
}

static void test_invalid_requests(void **state)
{
	struct fixture *fixture = *state;
	const uint32_t einval = FERRY_NBD_EINVAL;
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	expect(fd, FERRY_NBD_CMD_READ, 0, VOLUME_BYTES, BLOCK, einval);
	expect(fd, FERRY_NBD_CMD_READ, 0, UINT64_MAX - BLOCK + 1, BLOCK, einval);
	expect(fd, FERRY_NBD_CMD_READ, 0, 1, BLOCK, einval);
	expect(fd, FERRY_NBD_CMD_READ, 0, 0, BLOCK + 1, einval);
	expect(fd, FERRY_NBD_CMD_READ, 0, 0, 0, einval);
	expect(fd, FERRY_NBD_CMD_READ, 0, 0, FERRY_IO_BYTES_MAX + BLOCK, einval);
	expect(fd, FERRY_NBD_CMD_READ, FERRY_NBD_CMD_DF, 0, BLOCK, einval);
	expect(fd, FERRY_NBD_CMD_FLUSH, 0, 0, BLOCK, einval);
	expect(fd, FERRY_NBD_CMD_TRIM, 0, 0, 0, einval);
	expect(fd, FERRY_NBD_CMD_TRIM, 0, 1, BLOCK, einval);
	expect(fd, FERRY_NBD_CMD_WRITE_ZEROES, 1 << 4, 0, BLOCK, einval); /* FAST_ZERO. */
	expect(fd, FERRY_NBD_CMD_WRITE_ZEROES, 0, VOLUME_BYTES - BLOCK, 2 * BLOCK,
	       FERRY_NBD_ENOSPC);
	expect(fd, FERRY_NBD_CMD_BLOCK_STATUS, 0, 0, BLOCK, einval);
	expect(fd, 5, 0, 0, BLOCK, einval);
	expect(fd, 999, 0xffff, UINT64_MAX, UINT32_MAX, einval);
	write_expect(fd, 0, 0, 0, 1, einval);
	write_expect(fd, 0, 0, 1, 1, einval);
	write_expect(fd, 0, 7, BLOCK, 1, einval);
	write_expect(fd, 1 << 7, 0, BLOCK, 1, einval);
	write_expect(fd, 0, 0, 3 * 1024 * 1024 + 1, 1, einval);
	write_expect(fd, 0, VOLUME_BYTES, BLOCK, 1, FERRY_NBD_ENOSPC);
	/* Nothing of it reached the volume, and the connection lives on. */
	assert_int_equal(counters(fixture).requests_refused, 21);
	assert_int_equal(stub(fixture).in_flight_seen_max, 0);
	read_expect(fd, 0, BLOCK, 0);
	close(fd);
}

static void test_errors(void **state)
{
	static const struct {
		int error;
		uint32_t told;
	} cases[] = {{-EIO, FERRY_NBD_EIO},
		     {-ENOSPC, FERRY_NBD_ENOSPC},
		     {-ETIMEDOUT, FERRY_NBD_EIO},
		     {-ESHUTDOWN, FERRY_NBD_ESHUTDOWN},
		     {-EROFS, FERRY_NBD_EPERM}};
	struct fixture *fixture = *state;
	uint8_t chunk[26];
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		struct ferry_block_behaviour failing = {
			.fail_op = FERRY_OP_READ, .fail_error = cases[i].error, .fail_count = 1};

		behave(fixture, failing);
		expect(fd, FERRY_NBD_CMD_READ, 0, 0, BLOCK, cases[i].told);
		failing.fail_op = FERRY_OP_WRITE;
		behave(fixture, failing);
		write_expect(fd, 0, 0, BLOCK, 0xee, cases[i].told);
		/* Refused at once. */
		behave(fixture, (struct ferry_block_behaviour){.refuse_error = cases[i].error});
		write_expect(fd, 0, 0, BLOCK, 0xee, cases[i].told);
		expect(fd, FERRY_NBD_CMD_FLUSH, 0, 0, 0, cases[i].told);
		behave(fixture, WELL);
	}
	assert_int_equal(counters(fixture).requests_failed, 20);
	read_expect(fd, 0, BLOCK, 0);
	close(fd);
	/* In a structured reply, an error is a chunk. */
	fd = client_go(fixture, "demo", true);
	expect(fd, FERRY_NBD_CMD_FLUSH, 0, 0, 0, 0);
	behave(fixture, (struct ferry_block_behaviour){
				.fail_op = FERRY_OP_READ, .fail_error = -EROFS, .fail_count = 1});
	request_say(fd, FERRY_NBD_CMD_READ, FERRY_NBD_CMD_DF, 1, 0, BLOCK);
	hear(fd, chunk, sizeof(chunk));
	assert_int_equal(chunk[6], 0x80);
	assert_int_equal(chunk[23], FERRY_NBD_EPERM);
	close(fd);
}

static void test_out_of_order(void **state)
{
	enum { COUNT = 20 };
	struct fixture *fixture = *state;
	int fd;

	for (uint8_t i = 0; i < COUNT; i++)
		memset(fixture->bytes + i * 4096, i, 4096);
	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.is_held = true, .is_reversed = true});
	fd = client_go(fixture, "demo", false);
	for (uint32_t i = 0; i < COUNT; i++)
		request_say(fd, FERRY_NBD_CMD_READ, 0, i, i * UINT64_C(4096), 4096);
	UNTIL(stub(fixture).in_flight_count == COUNT);
	behave(fixture, WELL);
	for (uint8_t i = COUNT; i-- > 0;) {
		reply_expect(fd, i, 0);
		read_hear(fd, 4096, i);
	}
	close(fd);
}

/* Whatever the pieces are in which bytes arrive. */
static void test_fragments(void **state)
{
	struct fixture *fixture = *state;
	uint8_t bytes[3 * (FERRY_NBD_REQUEST_BYTES + BLOCK)];
	const uint32_t one_bytes = FERRY_NBD_REQUEST_BYTES + BLOCK;
	int fd;

	server_start(fixture);
	for (uint32_t piece_bytes = 1; piece_bytes < one_bytes + 2; piece_bytes += 67) {
		fd = client_go(fixture, "demo", false);
		for (uint32_t i = 0; i < 3; i++) {
			request_encode(bytes + i * one_bytes, FERRY_NBD_CMD_WRITE, 0, i, i * BLOCK,
				       BLOCK);
			memset(bytes + i * one_bytes + FERRY_NBD_REQUEST_BYTES,
			       (int)(i + piece_bytes) & 0xff, BLOCK);
		}
		for (uint32_t i = 0; i < sizeof(bytes); i += piece_bytes)
			say(fd, bytes + i, ferry_min_u64(piece_bytes, sizeof(bytes) - i));
		for (uint32_t i = 0; i < 3; i++)
			reply_expect(fd, i, 0);
		for (uint32_t i = 0; i < 3; i++)
			read_expect(fd, i * BLOCK, BLOCK, (uint8_t)(i + piece_bytes));
		close(fd);
	}
}

static void test_flood(void **state)
{
	enum { COUNT = 2000 };
	static uint8_t requests[COUNT * FERRY_NBD_REQUEST_BYTES];
	struct fixture *fixture = *state;
	bool seen[COUNT] = {false};
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	/* Far more than there are slots, and nobody listens to the replies as yet. */
	for (uint32_t i = 0; i < COUNT; i++)
		request_encode(requests + i * FERRY_NBD_REQUEST_BYTES, FERRY_NBD_CMD_READ, 0, i,
			       (i % 100) * BLOCK, BLOCK);
	say(fd, requests, sizeof(requests));
	for (uint32_t i = 0; i < COUNT; i++) {
		uint64_t cookie;

		assert_int_equal(reply_hear(fd, &cookie), 0);
		assert_true(cookie < COUNT && !seen[cookie]);
		seen[cookie] = true;
		read_hear(fd, BLOCK, 0);
	}
	assert_true(stub(fixture).in_flight_seen_max <= FERRY_NBD_REQUESTS_MAX);
	close(fd);
}

static void test_volume_full(void **state)
{
	struct fixture *fixture = *state;
	int fd[3];

	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.in_flight_max = 2});
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(fd); i++)
		fd[i] = client_go(fixture, "demo", false);
	for (uint32_t n = 0; n < 50; n++)
		for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(fd); i++)
			request_say(fd[i], FERRY_NBD_CMD_READ, 0, n, 0, BLOCK);
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(fd); i++) {
		for (uint32_t n = 0; n < 50; n++) {
			reply_expect(fd[i], n, 0); /* In order, since the volume is. */
			read_hear(fd[i], BLOCK, 0);
		}
		close(fd[i]);
	}
	assert_true(stub(fixture).refusals > 0);
	assert_int_equal(counters(fixture).requests_failed, 0);
}

/* Room comes back by someone else's doing: no completion of ours tells. */
static void test_volume_full_of_others(void **state)
{
	struct fixture *fixture = *state;
	int fd;

	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.refuse_error = -EAGAIN});
	fd = client_go(fixture, "demo", false);
	request_say(fd, FERRY_NBD_CMD_FLUSH, 0, 9, 0, 0);
	UNTIL(stub(fixture).refusals > 2);
	behave(fixture, WELL);
	reply_expect(fd, 9, 0);
	/* And one that leaves while it waits. */
	behave(fixture, (struct ferry_block_behaviour){.refuse_error = -EAGAIN});
	request_say(fd, FERRY_NBD_CMD_FLUSH, 0, 9, 0, 0);
	UNTIL(stub(fixture).refusals > 6);
	close(fd);
	behave(fixture, WELL);
	UNTIL(counters(fixture).connections == 0);
}

static struct ferry_segments taken[ARENA_BYTES / FERRY_CHUNK_BYTES];

static void do_take_all(struct fixture *fixture, void *argument)
{
	(void)argument;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(taken); i++)
		ferry_assert(ferry_arena_take(&fixture->arena, 1, &taken[i]) == 0);
}

static void do_drop_all(struct fixture *fixture, void *argument)
{
	(void)fixture;
	(void)argument;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(taken); i++)
		ferry_segments_drop(&taken[i]);
}

static void test_arena_empty(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t data[100 * 1024];
	int fd[2];

	server_start(fixture);
	memset(data, 0x77, sizeof(data));
	fd[0] = client_go(fixture, "demo", false);
	fd[1] = client_go(fixture, "demo", false);
	on_loop(fixture, do_take_all, NULL);
	for (uint32_t i = 0; i < 2; i++) {
		request_say(fd[i], FERRY_NBD_CMD_WRITE, 0, i, i * UINT64_C(1024 * 1024),
			    sizeof(data));
		say(fd[i], data, sizeof(data));
	}
	/* A flush by a third client passes by those that wait. */
	{
		int other = client_go(fixture, "demo", false);

		expect(other, FERRY_NBD_CMD_FLUSH, 0, 0, 0, 0);
		close(other);
	}
	assert_int_equal(stub(fixture).submits[FERRY_OP_WRITE], 0);
	close(fd[1]); /* It gives up; its half of a request is forgotten. */
	on_loop(fixture, do_drop_all, NULL);
	reply_expect(fd[0], 0, 0);
	read_expect(fd[0], 0, sizeof(data), 0x77);
	close(fd[0]);
}

static void test_slow_reader(void **state)
{
	enum { COUNT = 60, LENGTH = 256 * 1024 };
	struct fixture *fixture = *state;
	int slow, other;

	server_start(fixture);
	slow = client_go(fixture, "demo", false);
	other = client_go(fixture, "demo", false);
	/* 15 MiB, twice the arena, and the client takes none of it. */
	for (uint32_t i = 0; i < COUNT; i++)
		request_say(slow, FERRY_NBD_CMD_READ, 0, i, 0, LENGTH);
	UNTIL(counters(fixture).reads >= 4);
	for (uint32_t i = 0; i < 20; i++) {
		write_expect(other, 0, VOLUME_BYTES / 2, LENGTH, 0x11, 0);
		read_expect(other, VOLUME_BYTES / 2, LENGTH, 0x11);
	}
	assert_true(chunks_free(fixture) >= fixture->arena.chunks_count / 2);
	for (uint32_t i = 0; i < COUNT; i++) {
		reply_expect(slow, i, 0);
		read_hear(slow, LENGTH, 0);
	}
	close(slow);
	close(other);
}

static void test_silent_clients(void **state)
{
	struct fixture *fixture = *state;
	int reader, writer, idle, haggler;

	fixture->config.silence_ns_max = 300 * FERRY_NS_PER_MS;
	fixture->config.handshake_ns_max = 300 * FERRY_NS_PER_MS;
	server_start(fixture);
	idle = client_go(fixture, "demo", false);
	reader = client_go(fixture, "demo", false);
	writer = client_go(fixture, "demo", false);
	haggler = client_greet(fixture);
	for (uint32_t i = 0; i < 8; i++)
		request_say(reader, FERRY_NBD_CMD_READ, 0, i, 0, FERRY_IO_BYTES_MAX);
	request_say(writer, FERRY_NBD_CMD_WRITE, 0, 0, 0, FERRY_IO_BYTES_MAX);
	hear_end(writer);
	hear_end(haggler);
	UNTIL(counters(fixture).connections == 1);
	assert_int_equal(counters(fixture).connections_timed_out, 3);
	assert_int_equal(chunks_free(fixture), fixture->arena.chunks_count);
	/* Who holds nothing may be silent as long as it likes. */
	read_expect(idle, 0, BLOCK, 0);
	close(idle);
	close(reader);
}

static void test_client_gone(void **state)
{
	struct fixture *fixture = *state;
	static const uint8_t data[64 * 1024];
	int fd;

	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.is_held = true});
	fd = client_go(fixture, "demo", false);
	for (uint32_t i = 0; i < 4; i++) {
		request_say(fd, FERRY_NBD_CMD_READ, 0, i, 0, sizeof(data));
		request_say(fd, FERRY_NBD_CMD_WRITE, 0, i, 0, sizeof(data));
		say(fd, data, sizeof(data));
		request_say(fd, FERRY_NBD_CMD_TRIM, FERRY_NBD_CMD_FUA, i, 0, VOLUME_BYTES);
	}
	request_say(fd, FERRY_NBD_CMD_WRITE, 0, 9, 0, sizeof(data));
	say(fd, data, 1000); /* And not the rest. */
	UNTIL(counters(fixture).requests_in_flight == 12);
	close(fd);
	/* The memory is still the volume's, whoever has gone. */
	assert_true(fixture->arena.chunks_count - chunks_free(fixture) >= 4);
	behave(fixture, WELL);
	UNTIL(counters(fixture).requests_in_flight == 0 && counters(fixture).connections == 0);
	assert_int_equal(chunks_free(fixture), fixture->arena.chunks_count);
	/* The rest of the long trims, if any, was for nobody; the server serves on. */
	fd = client_go(fixture, "demo", false);
	read_expect(fd, 0, BLOCK, 0);
	close(fd);
}

static void test_connections_max(void **state)
{
	struct fixture *fixture = *state;
	int a, b;

	fixture->config.connections_max = 2;
	server_start(fixture);
	a = client_go(fixture, "demo", false);
	b = client_go(fixture, "demo", false);
	hear_end(client_connect(fixture));
	assert_int_equal(counters(fixture).connections_refused, 1);
	close(a);
	UNTIL(counters(fixture).connections == 1);
	a = client_go(fixture, "demo", false);
	read_expect(a, 0, BLOCK, 0);
	close(a);
	close(b);
}

static void on_removed(void *context)
{
	struct fixture *fixture = context;

	sem_post(&fixture->removed);
}

static void do_remove(struct fixture *fixture, void *argument)
{
	(void)argument;
	ferry_assert(ferry_nbd_server_export_clients(fixture->server, "demo") == 1);
	ferry_assert(ferry_nbd_server_export_clients(fixture->server, "fixed") == 1);
	ferry_assert(ferry_nbd_server_export_clients(fixture->server, "nowhere") == 0);
	ferry_assert(ferry_nbd_server_export_remove(fixture->server, "demo", on_removed, fixture) ==
		     0);
	ferry_assert(ferry_nbd_server_export_remove(fixture->server, "demo", on_removed, fixture) ==
		     -ENOENT);
}

static void test_export_remove(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[64];
	int demo, fixed, late;

	server_start(fixture);
	demo = client_go(fixture, "demo", false);
	fixed = client_go(fixture, "fixed", false);
	behave(fixture, (struct ferry_block_behaviour){.is_held = true});
	request_say(demo, FERRY_NBD_CMD_FLUSH, 0, 3, 0, 0);
	UNTIL(stub(fixture).in_flight_count == 1);
	on_loop(fixture, do_remove, NULL);
	assert_int_equal(sem_trywait(&fixture->removed), -1);
	late = client_greet(fixture);
	option_expect(late, FERRY_NBD_OPT_GO, data, info_data(data, "demo"),
		      FERRY_NBD_REP_ERR_UNKNOWN);
	option_expect(late, FERRY_NBD_OPT_GO, data, info_data(data, ""), FERRY_NBD_REP_ERR_UNKNOWN);
	close(late);
	behave(fixture, WELL);
	reply_expect(demo, 3, 0); /* What was in flight is answered. */
	hear_end(demo);
	wait_for(&fixture->removed);
	read_expect(fixed, 0, BLOCK, 0);
	close(fixed);
}

static void test_stop_in_flight(void **state)
{
	struct fixture *fixture = *state;
	int quick, stuck;

	fixture->config.stop_ns_max = 200 * FERRY_NS_PER_MS;
	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.is_held = true});
	quick = client_go(fixture, "demo", false);
	stuck = client_greet(fixture);
	request_say(quick, FERRY_NBD_CMD_FLUSH, 0, 3, 0, 0);
	UNTIL(stub(fixture).in_flight_count == 1);
	on_loop(fixture, do_stop, NULL);
	hear_end(stuck);
	hear_end(quick); /* At the deadline, unanswered. */
	assert_int_equal(sem_trywait(&fixture->stopped), -1);
	behave(fixture, WELL);
	wait_for(&fixture->stopped); /* Only when the volume has let go. */
	on_loop(fixture, do_free, NULL);
}

/* It ends while a client waits for memory; the memory comes back when all is over. */
static void test_stop_arena_empty(void **state)
{
	struct fixture *fixture = *state;
	static const uint8_t data[BLOCK];
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	on_loop(fixture, do_take_all, NULL);
	request_say(fd, FERRY_NBD_CMD_FLUSH, 0, 1, 0, 0);
	request_say(fd, FERRY_NBD_CMD_WRITE, 0, 2, 0, BLOCK);
	say(fd, data, sizeof(data));
	reply_expect(fd, 1, 0);
	/* The server reads no further than to what it waits for. */
	UNTIL(stub(fixture).submits[FERRY_OP_FLUSH] == 1);
	on_loop(fixture, do_stop, NULL);
	hear_end(fd);
	wait_for(&fixture->stopped);
	on_loop(fixture, do_drop_all, NULL);
	on_loop(fixture, do_free, NULL);
}

static void do_start_expect(struct fixture *fixture, const char *listen, int error)
{
	const struct ferry_nbd_config config = {
		.loop = fixture->loop, .listen = {listen}, .listen_count = 1};
	struct ferry_nbd_server *server = NULL;
	struct ferry_error message = {0};
	int r = ferry_nbd_server_start(&config, &server, &message);

	if (r != error)
		fprintf(stderr, "%s: %d, not %d: %s\n", listen, r, error, message.message);
	ferry_assert(r == error);
	ferry_assert(r == 0 || message.message[0] != '\0');
	(void)ferry_nbd_server_free(server);
}

static void do_addresses(struct fixture *fixture, void *argument)
{
	static const char *const invalid[] = {
		"",	   "tcp:",	"tcp:127.0.0.1",	 "tcp:127.0.0.1:",
		"tcp::1",  "tcp:::1:5", "tcp:127.0.0.1:65536",	 "tcp:127.0.0.1:-1",
		"unix:",   "nbd.sock",	"tcp:example.invalid:0", "tcp:[::1:10809",
		"tcp:[]:1"};
	char long_path[128], name[80];
	struct stat st;

	(void)argument;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(invalid); i++)
		do_start_expect(fixture, invalid[i], -EINVAL);
	(void)snprintf(long_path, sizeof(long_path), "unix:/tmp/%0113d", 0);
	do_start_expect(fixture, long_path, -EINVAL);
	do_start_expect(fixture, "tcp:0.0.0.0:0", -EACCES);
	do_start_expect(fixture, "tcp:[::]:0", -EACCES);
	do_start_expect(fixture, "tcp:localhost:0", 0);
	do_start_expect(fixture, "tcp:127.8.9.10:0", 0);
	(void)snprintf(name, sizeof(name), "unix:%s/none/s", fixture->directory);
	do_start_expect(fixture, name, -ENOENT);
	/* One that is held; then the same again when it is free. */
	do_start_expect(fixture, fixture->listen, -EADDRINUSE);
	ferry_assert(stat(fixture->path, &st) == 0 && (st.st_mode & 0777) == 0600);
	(void)snprintf(name, sizeof(name), "tcp:127.0.0.1:%u",
		       ferry_nbd_server_port(fixture->server, 1));
	do_start_expect(fixture, name, -EADDRINUSE);
}

static void do_stale(struct fixture *fixture, void *argument)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)argument;
	/* A foreign server without our lock, alive; then dead, its socket left behind. */
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture->path);
	ferry_assert(bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	ferry_assert(listen(fd, 1) == 0);
	do_start_expect(fixture, fixture->listen, -EADDRINUSE);
	ferry_assert(access(fixture->path, F_OK) == 0);
	(void)close(fd);
	do_start_expect(fixture, fixture->listen, 0);
	ferry_assert(access(fixture->path, F_OK) < 0);
	/* Something that isn't ours to remove. */
	fd = open(fixture->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ferry_assert(fd >= 0);
	(void)close(fd);
	do_start_expect(fixture, fixture->listen, -EEXIST);
	ferry_assert(unlink(fixture->path) == 0);
}

static void test_addresses(void **state)
{
	struct fixture *fixture = *state;

	on_loop(fixture, do_stale, NULL);
	server_start(fixture);
	on_loop(fixture, do_addresses, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_options),
		TEST(test_meta_contexts),
		TEST(test_export_name),
		TEST(test_garbage),
		TEST(test_commands),
		TEST(test_long_ranges),
		TEST(test_invalid_requests),
		TEST(test_errors),
		TEST(test_out_of_order),
		TEST(test_fragments),
		TEST(test_flood),
		TEST(test_volume_full),
		TEST(test_volume_full_of_others),
		TEST(test_arena_empty),
		TEST(test_slow_reader),
		TEST(test_silent_clients),
		TEST(test_client_gone),
		TEST(test_connections_max),
		TEST(test_export_remove),
		TEST(test_stop_in_flight),
		TEST(test_stop_arena_empty),
		TEST(test_addresses),
	};

	return cmocka_run_group_tests_name("nbd", tests, NULL, NULL);
}
