/* arena_test.c - regions, and the chunks that I/O lives in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/arena.h"

enum { CHUNKS = 20, REGION_BYTES = 64 * 1024 };

struct rig {
	struct ferry_arena arena;
	struct ferry_region region;
	void *memory;
	void *region_memory;
};

static int rig_open(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	if (!rig)
		return -ENOMEM;
	rig->memory = aligned_alloc(FERRY_CHUNK_BYTES, (size_t)CHUNKS * FERRY_CHUNK_BYTES);
	rig->region_memory = aligned_alloc(64, REGION_BYTES);
	if (!rig->memory || !rig->region_memory)
		return -ENOMEM;
	ferry_region_init(&rig->region, rig->region_memory, REGION_BYTES);
	*state = rig;
	return ferry_arena_init(&rig->arena, &rig->region, rig->memory,
				(size_t)CHUNKS * FERRY_CHUNK_BYTES);
}

static int rig_close(void **state)
{
	struct rig *rig = *state;

	free(rig->memory);
	free(rig->region_memory);
	free(rig);
	return 0;
}

static void test_region(void **state)
{
	_Alignas(64) uint8_t memory[256];
	struct ferry_region region;
	uint8_t *first;
	uint8_t *second;

	(void)state;
	memset(memory, 0xff, sizeof(memory));
	ferry_region_init(&region, memory, sizeof(memory));
	assert_null(ferry_region_take(&region, 257, 1));
	assert_null(ferry_region_take(&region, SIZE_MAX, 2));	  /* The product wraps. */
	assert_null(ferry_region_take(&region, SIZE_MAX - 1, 1)); /* The rounding would. */
	assert_int_equal(region.used_bytes, 0);
	first = ferry_region_take(&region, 3, 1);
	second = ferry_region_take(&region, 3, 64);
	assert_ptr_equal(first, memory);
	assert_ptr_equal(second, memory + 64);
	for (size_t i = 0; i < sizeof(memory); i++)
		assert_int_equal(memory[i], 0);
	assert_null(ferry_region_take(&region, 1, 1));

	ferry_region_init(&region, NULL, 0);
	assert_null(ferry_region_take(&region, 0, 8));
	assert_null(ferry_region_take(&region, 1, 8));
}

static void test_sealed_region_is_fatal(void **state)
{
	_Alignas(64) uint8_t memory[64];
	struct ferry_region region;
	int status;
	pid_t pid;

	(void)state;
	ferry_region_init(&region, memory, sizeof(memory));
	ferry_region_seal(&region);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(STDERR_FILENO);
		_exit(ferry_region_take(&region, 1, 1) ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_region_too_small_for_arena(void **state)
{
	struct rig *rig = *state;
	struct ferry_arena arena;
	struct ferry_region small;

	ferry_region_init(&small, rig->region_memory, 64);
	assert_int_equal(
		ferry_arena_init(&arena, &small, rig->memory, (size_t)CHUNKS * FERRY_CHUNK_BYTES),
		-ENOMEM);
}

static void test_take_all_or_none(void **state)
{
	struct rig *rig = *state;
	struct ferry_segments large;
	struct ferry_segments small;
	struct ferry_segments none = {.count = 77};

	assert_int_equal(ferry_arena_take(&rig->arena, FERRY_IO_BYTES_MAX, &large), 0);
	assert_int_equal(large.count, FERRY_SEGMENTS_MAX);
	assert_int_equal(ferry_arena_take(&rig->arena, FERRY_CHUNK_BYTES + 1, &small), 0);
	assert_int_equal(small.v[1].length_bytes, 1);
	ferry_segments_drop(&small);
	assert_int_equal(ferry_arena_take(&rig->arena, FERRY_CHUNK_BYTES + 512, &small), 0);
	assert_int_equal(small.count, 2);
	assert_int_equal(small.v[0].length_bytes, FERRY_CHUNK_BYTES);
	assert_int_equal(small.v[1].length_bytes, 512);
	assert_int_equal(rig->arena.free_count, CHUNKS - FERRY_SEGMENTS_MAX - 2);

	assert_int_equal(ferry_arena_take(&rig->arena, 3 * FERRY_CHUNK_BYTES, &none), -ENOBUFS);
	assert_int_equal(none.count, 77); /* Untouched on failure. */
	assert_int_equal(rig->arena.free_count, 2);
	ferry_segments_drop(&large);
	ferry_segments_drop(&small);
	ferry_segments_drop(&small); /* Empty now: nothing to do. */
	assert_int_equal(rig->arena.free_count, CHUNKS);
}

static void test_chunk_is_free_after_last_user(void **state)
{
	struct rig *rig = *state;
	struct ferry_segments io;
	struct ferry_segments attempt;

	assert_int_equal(ferry_arena_take(&rig->arena, 4096, &io), 0);
	ferry_segments_share(&io, &attempt);
	assert_ptr_equal(attempt.v[0].chunk, io.v[0].chunk);
	ferry_segments_drop(&io);
	assert_int_equal(rig->arena.free_count, CHUNKS - 1); /* A late DMA may still write. */
	ferry_segments_drop(&attempt);
	assert_int_equal(rig->arena.free_count, CHUNKS);
}

struct waiter {
	struct ferry_arena_waiter base;
	struct ferry_arena *arena;
	struct waiter *victim;
	bool again;
	int runs;
};

static void waiter_run(struct ferry_arena_waiter *base)
{
	struct waiter *waiter = FERRY_CONTAINER_OF(base, struct waiter, base);

	waiter->runs++;
	if (waiter->again)
		ferry_arena_wait(waiter->arena, &waiter->base);
	if (waiter->victim)
		ferry_arena_unwait(&waiter->victim->base);
}

static void test_waiters(void **state)
{
	struct rig *rig = *state;
	struct waiter waiters[3] = {{.runs = 0}};
	struct ferry_segments io;
	struct ferry_segments share;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(waiters); i++) {
		waiters[i].arena = &rig->arena;
		waiters[i].base.run = waiter_run;
	}
	waiters[0].again = true;	      /* Waits anew from inside: not woken twice. */
	waiters[0].victim = &waiters[1];      /* Was woken too, but another takes it out first. */
	ferry_arena_unwait(&waiters[1].base); /* Never waited: a no-op. */
	assert_int_equal(ferry_arena_take(&rig->arena, 4096, &io), 0);
	ferry_segments_share(&io, &share);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(waiters); i++)
		ferry_arena_wait(&rig->arena, &waiters[i].base);

	ferry_segments_drop(&share);
	assert_int_equal(waiters[0].runs, 0); /* Nothing became free yet. */
	ferry_segments_drop(&io);
	assert_int_equal(waiters[0].runs, 1);
	assert_int_equal(waiters[1].runs, 0);
	assert_int_equal(waiters[2].runs, 1);
	ferry_arena_unwait(&waiters[0].base);
	assert_true(ferry_list_is_empty(&rig->arena.waiters));
}

static void test_copy_across_chunks(void **state)
{
	struct rig *rig = *state;
	const uint32_t length = 3 * FERRY_CHUNK_BYTES;
	uint8_t *pattern = malloc(length);
	uint8_t *back = calloc(1, length);
	struct ferry_segments io;

	assert_true(pattern && back);
	for (uint32_t i = 0; i < length; i++)
		pattern[i] = (uint8_t)(i * 31 + i / FERRY_CHUNK_BYTES);
	assert_int_equal(ferry_arena_take(&rig->arena, length, &io), 0);
	ferry_segments_write(&io, 0, pattern, length);
	ferry_segments_read(&io, 0, back, length);
	assert_memory_equal(pattern, back, length);

	/* A range that starts and ends inside chunks, and one of no bytes at the end. */
	ferry_segments_write(&io, FERRY_CHUNK_BYTES - 3, "abcdef", 6);
	ferry_segments_read(&io, FERRY_CHUNK_BYTES - 4, back, 8);
	assert_memory_equal(back + 1, "abcdef", 6);
	assert_int_equal(back[0], pattern[FERRY_CHUNK_BYTES - 4]);
	assert_int_equal(back[7], pattern[FERRY_CHUNK_BYTES + 3]);
	ferry_segments_read(&io, length, back, 0);
	ferry_segments_drop(&io);
	free(pattern);
	free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_region),
		cmocka_unit_test(test_sealed_region_is_fatal),
		cmocka_unit_test_setup_teardown(test_region_too_small_for_arena, rig_open,
						rig_close),
		cmocka_unit_test_setup_teardown(test_take_all_or_none, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(test_chunk_is_free_after_last_user, rig_open,
						rig_close),
		cmocka_unit_test_setup_teardown(test_waiters, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(test_copy_across_chunks, rig_open, rig_close),
	};

	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
