/*
 * tcp_bench - what a link over loopback costs beside a plain stream, in turns, in one run.
 *
 * The far end is a process of its own. A request is a header and a payload, the answer a header;
 * the plain stream moves as many bytes by blocking calls, and checks and decodes nothing.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/openssl/openssl.h"
#include "agent/adapters/tcp/tcp.h"
#include "agent/adapters/uring/loop.h"
#include "agent/ports/io.h"

enum {
	ARENA_BYTES = 32 * 1024 * 1024,
	WINDOW = 16,
	ROUNDS = 5,
	SMALL_BYTES = 4 * 1024,
	SMALL_COUNT = 20000,
	LARGE_BYTES = 128 * 1024,
	LARGE_COUNT = 16000,
};

struct bench {
	struct ferry_uring_loop *uring;
	struct ferry_region region;
	struct ferry_arena arena;
	_Alignas(64) uint8_t descriptors[128 * 1024];
	struct ferry_message messages[2 * WINDOW];
	bool is_server;
	uint32_t length_bytes;
	uint64_t to_send, answered, to_answer;
	uint64_t sequence;
	struct ferry_link *link;
};

static struct bench bench; /* One a process. */

static void need(bool is_true, const char *what)
{
	if (!is_true) {
		perror(what);
		exit(1);
	}
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * FERRY_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void message_sent(struct ferry_message *message, enum ferry_sent sent)
{
	(void)sent;
	ferry_segments_drop(&message->segments);
	message->on_sent = NULL; /* Free. */
}

static struct ferry_message *message_take(void)
{
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(bench.messages); i++) {
		struct ferry_message *message = &bench.messages[i];

		if (message->on_sent)
			continue;
		memset(message, 0, sizeof(*message));
		message->on_sent = message_sent;
		return message;
	}
	abort();
}

static void request(void)
{
	struct ferry_message *message = message_take();

	need(ferry_arena_take(&bench.arena, bench.length_bytes, &message->segments) == 0, "arena");
	message->header = (struct ferry_wire_header){
		.type = FERRY_WIRE_REQUEST,
		.payload_bytes = bench.length_bytes,
		.node = {1},
		.incarnation = {1},
		.lineage = {{1}},
		.epoch = {1},
		.sequence = ++bench.sequence,
		.lun = {{1}},
		.op = FERRY_OP_WRITE,
		.length_blocks = bench.length_bytes / 512,
	};
	bench.to_send--;
	need(ferry_link_send(bench.link, message) == 0, "send");
}

static void on_message(struct ferry_link *link, const struct ferry_wire_header *header,
		       struct ferry_segments *segments)
{
	ferry_segments_drop(segments);
	if (bench.is_server) {
		struct ferry_message *message = message_take();

		message->header = *header;
		message->header.type = FERRY_WIRE_REPLY;
		message->header.payload_bytes = 0;
		message->header.payload_crc = 0;
		message->header.outcome = FERRY_OUTCOME_DONE;
		message->header.cause = FERRY_CAUSE_NONE;
		need(ferry_link_send(link, message) == 0, "send");
		return;
	}
	if (++bench.answered == bench.to_answer)
		ferry_uring_loop_stop(bench.uring);
	else if (bench.to_send > 0)
		request();
}

static int on_payload(struct ferry_link *link, const struct ferry_wire_header *header,
		      struct ferry_segments *ret)
{
	(void)link;
	return ferry_arena_take(&bench.arena, header->payload_bytes, ret);
}

static void on_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
		       struct ferry_segments *segments)
{
	(void)link;
	(void)header;
	ferry_segments_drop(segments);
}

static void on_change(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	(void)link;
	(void)incarnation;
	if (!bench.is_server)
		ferry_uring_loop_stop(bench.uring);
}

static void on_down(struct ferry_link *link, const char *why)
{
	(void)link;
	(void)why;
	ferry_uring_loop_stop(bench.uring);
}

static int on_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	(void)context;
	(void)incarnation;
	link->on_up = on_change;
	link->on_down = on_down;
	link->on_payload = on_payload;
	link->on_payload_dropped = on_dropped;
	link->on_message = on_message;
	bench.link = link;
	return 0;
}

static bool is_member(struct ferry_node node, void *context)
{
	(void)context;
	return node.v == 1;
}

static struct ferry_handshake_config handshake_of(struct ferry_auth *auth, uint32_t node)
{
	return (struct ferry_handshake_config){.auth = auth,
					       .cluster = "bench",
					       .self = {node},
					       .incarnation = {1},
					       .is_member = is_member};
}

static void bench_open(void)
{
	void *memory = aligned_alloc(FERRY_CHUNK_BYTES, ARENA_BYTES);

	need(memory != NULL, "memory");
	memset(memory, 1, ARENA_BYTES);
	need(ferry_uring_loop_open(&bench.uring, NULL) == 0, "loop");
	ferry_region_init(&bench.region, bench.descriptors, sizeof(bench.descriptors));
	need(ferry_arena_init(&bench.arena, &bench.region, memory, ARENA_BYTES) == 0, "arena");
}

/* The far end: until the link goes down. */
static void link_serve(struct ferry_auth *auth, int port_fd)
{
	struct ferry_tcp_listener *listener = NULL;
	struct ferry_tcp_listen_config config = {.address = "127.0.0.1", .accept = on_accept};
	uint16_t port;

	bench_open();
	bench.is_server = true;
	config.loop = ferry_uring_loop_of(bench.uring);
	config.handshake = handshake_of(auth, 2);
	need(ferry_tcp_listen(&config, &listener, NULL) == 0, "listen");
	port = ferry_tcp_listener_port(listener);
	need(write(port_fd, &port, sizeof(port)) == sizeof(port), "port");
	need(ferry_uring_loop_run(bench.uring) == 0, "run");
	(void)ferry_tcp_listener_close(listener);
}

static uint64_t link_run(uint32_t length_bytes, uint64_t count, uint32_t window)
{
	uint64_t began_ns = clock_ns();

	bench.length_bytes = length_bytes;
	bench.to_send = bench.to_answer = count;
	bench.answered = 0;
	for (uint32_t i = 0; i < window; i++)
		request();
	need(ferry_uring_loop_run(bench.uring) == 0, "run");
	return clock_ns() - began_ns;
}

static void all(ssize_t (*call)(int, void *, size_t), int fd, void *bytes, size_t length_bytes)
{
	for (size_t at = 0; at < length_bytes;) {
		ssize_t n = call(fd, (uint8_t *)bytes + at, length_bytes - at);

		if (n <= 0)
			exit(0); /* The other end is done. */
		at += (size_t)n;
	}
}

static ssize_t call_write(int fd, void *bytes, size_t length_bytes)
{
	return write(fd, bytes, length_bytes);
}

static int plain_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	need(fd >= 0, "socket");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	return fd;
}

/* The far end of the plain stream: each message's length comes first in it. */
static void plain_serve(int port_fd)
{
	static uint8_t bytes[FERRY_WIRE_HEADER_BYTES + LARGE_BYTES];
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t address_bytes = sizeof(address);
	int fd = plain_socket();
	uint32_t length_bytes;

	need(bind(fd, (void *)&address, sizeof(address)) == 0, "bind");
	need(listen(fd, 1) == 0, "listen");
	need(getsockname(fd, (void *)&address, &address_bytes) == 0, "getsockname");
	need(write(port_fd, &address.sin_port, 2) == 2, "port");
	fd = accept(fd, NULL, NULL);
	need(fd >= 0, "accept");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	for (;;) {
		all(read, fd, bytes, FERRY_WIRE_HEADER_BYTES);
		memcpy(&length_bytes, bytes, sizeof(length_bytes));
		all(read, fd, bytes, length_bytes);
		all(call_write, fd, bytes, FERRY_WIRE_HEADER_BYTES);
	}
}

static uint64_t plain_run(int fd, uint32_t length_bytes, uint64_t count, uint32_t window)
{
	static uint8_t bytes[FERRY_WIRE_HEADER_BYTES + LARGE_BYTES];
	uint8_t answer[FERRY_WIRE_HEADER_BYTES];
	uint64_t began_ns = clock_ns();

	memcpy(bytes, &length_bytes, sizeof(length_bytes));
	for (uint64_t i = 0; i < count + window; i++) {
		if (i < count)
			all(call_write, fd, bytes, FERRY_WIRE_HEADER_BYTES + length_bytes);
		if (i >= window)
			all(read, fd, answer, sizeof(answer));
	}
	return clock_ns() - began_ns;
}

static pid_t far_end(struct ferry_auth *auth, uint16_t *ret_port)
{
	int ends[2];
	pid_t pid;

	need(pipe(ends) == 0, "pipe");
	pid = fork();
	need(pid >= 0, "fork");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* Never to be left behind. */
		if (auth)
			link_serve(auth, ends[1]);
		else
			plain_serve(ends[1]);
		_exit(0);
	}
	need(read(ends[0], ret_port, sizeof(*ret_port)) == sizeof(*ret_port), "port");
	return pid;
}

static void tell(const char *name, uint64_t small_ns, uint64_t large_ns)
{
	printf("%-6s 4 KiB ping-pong %6.1f us   128 KiB x %d %7.0f MiB/s\n", name,
	       (double)small_ns / SMALL_COUNT / 1e3, WINDOW,
	       (double)LARGE_COUNT * LARGE_BYTES / (double)FERRY_MIB / ((double)large_ns / 1e9));
}

int main(void)
{
	char folder[] = "/tmp/ferry-bench-XXXXXX";
	char key[64];
	struct ferry_auth *auth = NULL;
	struct ferry_tcp_link *connector = NULL;
	struct ferry_tcp_connect_config config = {.address = "127.0.0.1", .peer = {2}};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	uint64_t total_ns[4] = {};
	pid_t pids[2];
	int fd;

	need(mkdtemp(folder) != NULL, "folder");
	(void)snprintf(key, sizeof(key), "%s/key", folder);
	need(ferry_auth_file_create(key, NULL) == 0, "key");
	need(ferry_auth_file_open(key, &auth, NULL) == 0, "key");
	unlink(key);
	rmdir(folder);
	pids[0] = far_end(auth, &config.port);
	pids[1] = far_end(NULL, &address.sin_port);
	fd = plain_socket();
	need(connect(fd, (void *)&address, sizeof(address)) == 0, "connect");
	bench_open();
	config.loop = ferry_uring_loop_of(bench.uring);
	config.handshake = handshake_of(auth, 1);
	need(ferry_tcp_connect(&config, &connector, NULL) == 0, "connect");
	(void)on_accept(NULL, ferry_tcp_link_of(connector), (struct ferry_incarnation){1});
	ferry_tcp_link_enable(connector, true);
	need(ferry_uring_loop_run(bench.uring) == 0, "run");
	for (uint32_t i = 0; i < ROUNDS; i++) {
		total_ns[0] += link_run(SMALL_BYTES, SMALL_COUNT / ROUNDS, 1);
		total_ns[1] += plain_run(fd, SMALL_BYTES, SMALL_COUNT / ROUNDS, 1);
		total_ns[2] += link_run(LARGE_BYTES, LARGE_COUNT / ROUNDS, WINDOW);
		total_ns[3] += plain_run(fd, LARGE_BYTES, LARGE_COUNT / ROUNDS, WINDOW);
	}
	tell("plain", total_ns[1], total_ns[3]);
	tell("link", total_ns[0], total_ns[2]);
	printf("ratios 4 KiB %.2f   128 KiB %.2f\n", (double)total_ns[1] / (double)total_ns[0],
	       (double)total_ns[3] / (double)total_ns[2]);
	(void)ferry_tcp_link_close(connector);
	close(fd);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(pids); i++)
		(void)waitpid(pids[i], NULL, 0);
	return 0;
}
