/*
 * nbd_server.c - the NBD front end over a file that is mapped into memory, without an agent.
 *
 *   nbd_server FILE BLOCK_BYTES ADDRESS...
 *
 * ADDRESS as in struct ferry_nbd_config. Prints one line for each, "listening unix:PATH" or
 * "listening tcp:PORT", serves until SIGTERM or SIGINT, prints its counters and exits with 0.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/nbd/block_stub.h"
#include "agent/adapters/nbd/nbd.h"
#include "agent/adapters/uring/loop.h"

enum { ARENA_BYTES = 64 * 1024 * 1024, REGION_BYTES = 1024 * 1024 };

struct program {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_region region;
	struct ferry_arena arena;
	struct ferry_block_stub stub;
	struct ferry_nbd_server *server;
	struct ferry_watch signals;
	bool is_stopping;
};

static _Noreturn void fail(const char *what, int error)
{
	fprintf(stderr, "nbd_server: %s: %s\n", what, strerror(error));
	exit(1);
}

static void on_stopped(void *context)
{
	struct program *program = context;

	program->loop->ops->watch_stop(program->loop, &program->signals);
	ferry_uring_loop_stop(program->uring);
}

static void on_signal(struct ferry_watch *watch, uint32_t ready)
{
	struct program *program = FERRY_CONTAINER_OF(watch, struct program, signals);
	struct signalfd_siginfo info;

	(void)ready;
	if (read(watch->fd, &info, sizeof(info)) != sizeof(info) || program->is_stopping)
		return;
	program->is_stopping = true;
	ferry_nbd_server_stop(program->server, on_stopped, program);
}

static void signals_watch(struct program *program)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		fail("sigprocmask", errno);
	program->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (program->signals.fd < 0)
		fail("signalfd", errno);
	program->signals.run = on_signal;
	r = program->loop->ops->watch_start(program->loop, &program->signals, FERRY_WATCH_READ);
	if (r < 0)
		fail("watch", -r);
}

static void memory_open(struct program *program)
{
	void *memory = aligned_alloc(64, REGION_BYTES);
	void *arena = aligned_alloc(FERRY_CHUNK_BYTES, ARENA_BYTES);
	int r;

	if (!memory || !arena)
		fail("memory", ENOMEM);
	ferry_region_init(&program->region, memory, REGION_BYTES);
	r = ferry_arena_init(&program->arena, &program->region, arena, ARENA_BYTES);
	if (r < 0)
		fail("arena", -r);
}

static void block_open(struct program *program, const char *path, uint32_t block_bytes)
{
	struct stat st;
	void *bytes;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		fail(path, errno);
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		fail(path, errno);
	(void)close(fd);
	ferry_block_stub_init(&program->stub, program->loop, &program->arena, "demo", bytes,
			      (uint64_t)st.st_size / block_bytes, block_bytes);
}

static void server_open(struct program *program, int count, char **addresses)
{
	struct ferry_nbd_config config = {.loop = program->loop};
	const struct ferry_nbd_export demo = {.name = "demo",
					      .description = "a file",
					      .block = &program->stub.block,
					      .is_default = true};
	const struct ferry_nbd_export fixed = {.name = "demo-ro",
					       .description = "a file, read-only",
					       .block = &program->stub.block,
					       .is_read_only = true};
	struct ferry_error error;

	for (int i = 0; i < count && i < FERRY_NBD_LISTENERS_MAX; i++)
		config.listen[config.listen_count++] = addresses[i];
	if (ferry_nbd_server_start(&config, &program->server, &error) < 0 ||
	    ferry_nbd_server_export_add(program->server, &demo, &error) < 0 ||
	    ferry_nbd_server_export_add(program->server, &fixed, &error) < 0) {
		fprintf(stderr, "nbd_server: %s\n", error.message);
		exit(1);
	}
	for (uint32_t i = 0; i < config.listen_count; i++) {
		if (ferry_nbd_server_port(program->server, i) == 0)
			printf("listening %s\n", config.listen[i]);
		else
			printf("listening tcp:%u\n", ferry_nbd_server_port(program->server, i));
	}
	(void)fflush(stdout);
}

static void counters_print(const struct ferry_nbd_counters *counters)
{
	printf("connections %lu reads %lu writes %lu flushes %lu trims %lu zeroes %lu "
	       "refused %lu failed %lu broken %lu in_flight %lu\n",
	       counters->connections_accepted, counters->reads, counters->writes, counters->flushes,
	       counters->trims, counters->write_zeroes, counters->requests_refused,
	       counters->requests_failed, counters->connections_broken,
	       counters->requests_in_flight);
}

int main(int argc, char **argv)
{
	static struct program program;
	struct ferry_error error;
	int r;

	if (argc < 4) {
		fprintf(stderr, "usage: nbd_server FILE BLOCK_BYTES ADDRESS...\n");
		return 2;
	}
	if (ferry_uring_loop_open(&program.uring, &error) < 0) {
		fprintf(stderr, "nbd_server: %s\n", error.message);
		return 1;
	}
	program.loop = ferry_uring_loop_of(program.uring);
	memory_open(&program);
	block_open(&program, argv[1], (uint32_t)strtoul(argv[2], NULL, 10));
	signals_watch(&program);
	server_open(&program, argc - 3, argv + 3);
	r = ferry_uring_loop_run(program.uring);
	counters_print(ferry_nbd_server_counters(program.server));
	ferry_block_stub_done(&program.stub);
	program.server = ferry_nbd_server_free(program.server);
	program.uring = ferry_uring_loop_close(program.uring);
	return r < 0 ? 1 : 0;
}
