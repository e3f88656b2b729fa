/* The index: what is where, who goes next, and in which order of heat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/cache/index.h"

enum { LINES = 6 };

static struct ferry_index cache_index;
static void *memory;
static uint8_t data[LINES * FERRY_CACHE_LINE_BYTES];

static int setup(void **state)
{
	struct ferry_region region;
	size_t bytes = ferry_index_memory_bytes(LINES);

	(void)state;
	memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
	assert_non_null(memory);
	ferry_region_init(&region, memory, bytes);
	assert_int_equal(ferry_index_init(&cache_index, &region, data, LINES), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(memory);
	return 0;
}

static bool has(uint64_t number)
{
	return ferry_index_find(&cache_index, number) != FERRY_INDEX_NONE;
}

static void drop(uint64_t number)
{
	ferry_index_remove(&cache_index, ferry_index_find(&cache_index, number));
}

/* The queue, from newest to oldest. */
static void expect_queue(uint32_t count, const uint64_t *numbers)
{
	uint32_t slot = cache_index.newest;
	uint32_t last = FERRY_INDEX_NONE;

	for (uint32_t i = 0; i < count; i++) {
		assert_int_not_equal(slot, FERRY_INDEX_NONE);
		assert_int_equal(cache_index.lines[slot].number, numbers[i]);
		assert_int_equal(cache_index.lines[slot].newer, last);
		last = slot;
		slot = cache_index.lines[slot].older;
	}
	assert_int_equal(slot, FERRY_INDEX_NONE);
	assert_int_equal(cache_index.oldest, last);
	assert_int_equal(cache_index.lines_count, count);
}

static void finds_what_was_added(void **state)
{
	(void)state;
	assert_int_equal(cache_index.buckets_count, 8); /* No fewer than lines. */
	assert_false(has(7));
	for (uint64_t i = 0; i < LINES; i++) {
		uint32_t slot = ferry_index_add(&cache_index, 1000 * i);

		assert_int_equal(cache_index.lines[slot].heat, 0);
		assert_false(cache_index.lines[slot].is_warm);
		assert_ptr_equal(ferry_index_data(&cache_index, slot),
				 data + slot * FERRY_CACHE_LINE_BYTES);
		assert_int_equal(ferry_index_find(&cache_index, 1000 * i), slot);
	}
	assert_true(ferry_index_is_full(&cache_index));
	assert_false(has(1));
	expect_queue(LINES, (uint64_t[]){5000, 4000, 3000, 2000, 1000, 0});
	assert_int_equal(cache_index.evictions, 0);
	ferry_index_clear(&cache_index);
	expect_queue(0, NULL);
	assert_false(has(1000));
}

static void removes(void **state)
{
	uint32_t slot;

	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		ferry_index_add(&cache_index, i);
	slot = ferry_index_find(&cache_index, 2);
	cache_index.lines[slot].is_warm = true;
	cache_index.warm_count = 1;
	drop(0); /* The oldest, the newest, one between. */
	assert_int_equal(cache_index.warm_count, 1);
	drop(4);
	drop(2);
	assert_int_equal(cache_index.warm_count, 0);
	assert_false(cache_index.lines[slot].is_there);
	assert_false(has(0) || has(2) || has(4));
	expect_queue(2, (uint64_t[]){3, 1});
	assert_int_equal(ferry_index_add(&cache_index, 9), slot); /* Its place is used again. */
	expect_queue(3, (uint64_t[]){9, 3, 1});
	for (uint64_t i = 10; i < 13; i++)
		ferry_index_add(&cache_index, i);
	assert_true(ferry_index_is_full(&cache_index));
	assert_true(has(1) && has(3) && has(9) && has(12));
	assert_int_equal(cache_index.evictions, 0);
}

/* SIEVE: the first from the hand on that was not used since it last came by. */
static void evicts(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < LINES; i++)
		ferry_index_add(&cache_index, i);
	for (uint32_t i = 0; i < 4; i++)
		ferry_index_touch(&cache_index, ferry_index_find(&cache_index, 0));
	ferry_index_touch(&cache_index, ferry_index_find(&cache_index, 2));
	ferry_index_add(&cache_index, 10);
	assert_false(has(1)); /* 0 was used. */
	assert_int_equal(cache_index.lines[ferry_index_find(&cache_index, 0)].heat, 2);
	assert_int_equal(cache_index.evictions, 1);
	ferry_index_add(&cache_index, 11);
	assert_false(has(3)); /* So was 2; the hand goes on from there. */
	assert_int_equal(cache_index.lines[ferry_index_find(&cache_index, 0)].heat, 2);
	ferry_index_add(&cache_index, 12);
	assert_false(has(4));
	drop(5); /* What the hand is at. */
	ferry_index_add(&cache_index, 13);
	ferry_index_add(&cache_index, 14);
	assert_false(has(10));
	expect_queue(LINES, (uint64_t[]){14, 13, 12, 11, 2, 0});
	for (uint64_t i = 0; i < LINES; i++)
		ferry_index_touch(&cache_index, (uint32_t)i);
	ferry_index_add(&cache_index, 15); /* All were used: once around. */
	assert_int_equal(cache_index.lines_count, LINES);
	assert_false(has(11));
}

static void heat_is_bounded(void **state)
{
	uint32_t slot;

	(void)state;
	slot = ferry_index_add(&cache_index, 1);
	cache_index.lines[slot].heat = UINT16_MAX - 1;
	for (int i = 0; i < 3; i++)
		ferry_index_touch(&cache_index, slot);
	assert_int_equal(cache_index.lines[slot].heat, UINT16_MAX);
	assert_true(cache_index.lines[slot].is_visited);
}

/* The hottest first; of equally hot ones the newer. */
static void sorts(void **state)
{
	static const uint16_t heats[] = {0, UINT16_MAX, 2, 3, 1, 0};

	(void)state;
	for (uint64_t i = 0; i < LINES; i++)
		cache_index.lines[ferry_index_add(&cache_index, i)].heat = heats[i];
	cache_index.hand = 3;
	ferry_index_sort(&cache_index);
	expect_queue(LINES, (uint64_t[]){1, 3, 2, 4, 5, 0});
	assert_int_equal(cache_index.hand, FERRY_INDEX_NONE);
	ferry_index_sort(&cache_index);
	expect_queue(LINES, (uint64_t[]){1, 3, 2, 4, 5, 0});
	ferry_index_clear(&cache_index);
	ferry_index_sort(&cache_index);
	expect_queue(0, NULL);
}

static void too_little_memory(void **state)
{
	struct ferry_region region;
	struct ferry_index other;

	(void)state;
	ferry_region_init(&region, memory, ferry_index_memory_bytes(LINES) / 2);
	assert_int_equal(ferry_index_init(&other, &region, data, LINES), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(finds_what_was_added), TEST(removes), TEST(evicts),
		TEST(heat_is_bounded),	    TEST(sorts),   TEST(too_little_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
