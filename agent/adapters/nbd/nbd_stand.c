#include "agent/adapters/nbd/nbd_stand.h"

#include <stdio.h>

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

void wait_for(sem_t *semaphore)
{
	struct timespec until;

	assert_int_equal(clock_gettime(CLOCK_REALTIME, &until), 0);
	until.tv_sec += PATIENCE_S;
	while (sem_timedwait(semaphore, &until) < 0)
		assert_int_equal(errno, EINTR);
}

void on_loop(struct fixture *fixture, void (*call)(struct fixture *, void *), void *argument)
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

int set_up(void **state)
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

void server_start(struct fixture *fixture)
{
	on_loop(fixture, do_start, NULL);
}

static void on_stopped(void *context)
{
	struct fixture *fixture = context;

	sem_post(&fixture->stopped);
}

void do_stop(struct fixture *fixture, void *argument)
{
	(void)argument;
	ferry_nbd_server_stop(fixture->server, on_stopped, fixture);
}

static void do_behave(struct fixture *fixture, void *argument)
{
	ferry_block_stub_behave(&fixture->stub, *(struct ferry_block_behaviour *)argument);
}

void behave(struct fixture *fixture, struct ferry_block_behaviour behaviour)
{
	on_loop(fixture, do_behave, &behaviour);
}

void do_free(struct fixture *fixture, void *argument)
{
	(void)argument;
	ferry_assert(ferry_nbd_server_counters(fixture->server)->requests_in_flight == 0);
	ferry_assert(ferry_nbd_server_counters(fixture->server)->connections == 0);
	fixture->server = ferry_nbd_server_free(fixture->server);
	ferry_block_stub_done(&fixture->stub);
	/* Not one chunk was lost, whatever the test did. */
	ferry_assert(fixture->arena.free_count == fixture->arena.chunks_count);
}

int tear_down(void **state)
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

struct ferry_nbd_counters counters(struct fixture *fixture)
{
	struct ferry_nbd_counters now;

	on_loop(fixture, do_counters, &now);
	return now;
}

static void do_stub(struct fixture *fixture, void *argument)
{
	*(struct ferry_block_stub *)argument = fixture->stub;
}

struct ferry_block_stub stub(struct fixture *fixture)
{
	struct ferry_block_stub now;

	on_loop(fixture, do_stub, &now);
	return now;
}

static void do_chunks_free(struct fixture *fixture, void *argument)
{
	*(uint32_t *)argument = fixture->arena.free_count;
}

uint32_t chunks_free(struct fixture *fixture)
{
	uint32_t now;

	on_loop(fixture, do_chunks_free, &now);
	return now;
}

static struct ferry_segments taken[ARENA_BYTES / FERRY_CHUNK_BYTES];

void do_take_all(struct fixture *fixture, void *argument)
{
	(void)argument;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(taken); i++)
		ferry_assert(ferry_arena_take(&fixture->arena, 1, &taken[i]) == 0);
}

void do_drop_all(struct fixture *fixture, void *argument)
{
	(void)fixture;
	(void)argument;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(taken); i++)
		ferry_segments_drop(&taken[i]);
}
