/* What is kept of writes that only one path's cache has: found, orphaned, dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/keep.h"
#include "tests/sim/core_stand.h"

enum { INFLIGHT = 2 };

static struct stand stand;
static struct ferry_keep keep;
static struct ferry_lane lanes[2]; /* Names only. */

static int setup(void **state)
{
	(void)state;
	stand_open(&stand);
	assert_int_equal(ferry_keep_init(&keep, &stand.region, INFLIGHT, /* chunks_max= */ 3), 0);
	assert_true(keep.is_on);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ferry_keep_clear(&keep);
	assert_int_equal(keep.count, 0);
	assert_int_equal(keep.chunks, 0);
	stand_close(&stand);
	return 0;
}

static void add(struct ferry_lane *lane, enum ferry_op op, uint64_t lba, uint32_t length_blocks)
{
	struct ferry_attempt attempt = {
		.op = op, .flags = 1, .lba = {lba}, .length_blocks = length_blocks};

	if (op == FERRY_OP_WRITE)
		assert_int_equal(ferry_arena_take(&stand.arena, length_blocks * STAND_BLOCK_BYTES,
						  &attempt.segments),
				 0);
	ferry_keep_add(&keep, &attempt, lane);
	ferry_segments_drop(&attempt.segments); /* It has its own use. */
}

static bool has(uint64_t lba, uint32_t length_blocks, bool is_orphan)
{
	return ferry_keep_find(&keep, (struct ferry_lba){lba}, length_blocks, is_orphan) != NULL;
}

static void test_finds_what_overlaps(void **state)
{
	struct ferry_kept *kept;

	(void)state;
	assert_false(has(0, 100, false));
	add(&lanes[0], FERRY_OP_WRITE, 10, 4);
	assert_true(has(13, 1, false) && has(10, 1, false) && has(0, 100, false));
	assert_false(has(14, 4, false) || has(6, 4, false));
	assert_false(has(10, 4, true));
	kept = ferry_keep_find(&keep, (struct ferry_lba){9}, 2, false);
	assert_int_equal(kept->op, FERRY_OP_WRITE);
	assert_int_equal(kept->flags, 1);
	assert_int_equal(kept->length_blocks, 4);
	assert_int_equal(kept->segments.length_bytes, 4 * STAND_BLOCK_BYTES);
	add(NULL, FERRY_OP_DISCARD, 50, 1);
	assert_true(has(50, 1, true));
	assert_false(has(50, 1, false));
	assert_ptr_equal(ferry_keep_next_orphan(&keep, NULL)->lane, NULL);
	assert_int_equal(ferry_keep_next_orphan(&keep, NULL)->lba.v, 50);
}

/* No path has an order of them all. */
static void test_split(void **state)
{
	(void)state;
	add(&lanes[0], FERRY_OP_DISCARD, 10, 4);
	add(&lanes[0], FERRY_OP_DISCARD, 12, 4);
	add(&lanes[1], FERRY_OP_DISCARD, 20, 4);
	add(NULL, FERRY_OP_DISCARD, 10, 4);
	assert_false(ferry_keep_is_split(&keep, (struct ferry_lba){10}, 10));
	assert_true(ferry_keep_is_split(&keep, (struct ferry_lba){10}, 11));
	assert_false(ferry_keep_is_split(&keep, (struct ferry_lba){16}, 10));
}

static void test_flushed(void **state)
{
	(void)state;
	assert_true(ferry_keep_oldest(&keep, NULL) == UINT64_MAX);
	add(&lanes[0], FERRY_OP_DISCARD, 1, 1);
	add(&lanes[1], FERRY_OP_DISCARD, 2, 1);
	add(&lanes[0], FERRY_OP_DISCARD, 3, 1);
	assert_int_equal(ferry_keep_oldest(&keep, NULL), 1);
	assert_int_equal(ferry_keep_oldest(&keep, &lanes[1]), 2);
	ferry_keep_flushed(&keep, &lanes[0], 2); /* Up to there, and only there. */
	assert_false(has(1, 1, false));
	assert_true(has(2, 1, false) && has(3, 1, false));
	assert_int_equal(ferry_keep_oldest(&keep, &lanes[0]), 3);
	assert_int_equal(keep.count, 2);
	ferry_keep_flushed(&keep, &lanes[0], 3);
	assert_true(ferry_keep_oldest(&keep, &lanes[0]) == UINT64_MAX);
}

static void test_orphans(void **state)
{
	(void)state;
	assert_false(ferry_keep_orphan(&keep, NULL));
	assert_null(ferry_keep_next_orphan(&keep, NULL));
	add(&lanes[0], FERRY_OP_DISCARD, 1, 1);
	add(&lanes[1], FERRY_OP_DISCARD, 2, 1);
	assert_true(ferry_keep_orphan(&keep, &lanes[1]));
	assert_false(ferry_keep_orphan(&keep, &lanes[1])); /* It had none any more. */
	assert_true(has(1, 1, false) && has(2, 1, true));
	assert_true(ferry_keep_orphan(&keep, NULL));
	assert_false(ferry_keep_orphan(&keep, NULL));
	assert_true(has(1, 1, true));
	assert_int_equal(ferry_keep_next_orphan(&keep, NULL)->number, 1); /* In their order. */
}

/* Entries and chunks are bounded, with one left for each write in flight. */
static void test_room(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < (FERRY_KEPT_PER_ROUTE - 1) * INFLIGHT; i++) {
		assert_true(ferry_keep_has_room(&keep));
		add(&lanes[0], FERRY_OP_DISCARD, i, 1);
	}
	assert_false(ferry_keep_has_room(&keep));
	for (uint32_t i = 0; i < INFLIGHT; i++)
		add(&lanes[0], FERRY_OP_DISCARD, i, 1);
	ferry_keep_clear(&keep);
	for (uint32_t i = 0; i < 3; i++) {
		assert_true(ferry_keep_has_room(&keep));
		add(&lanes[0], FERRY_OP_WRITE, i, 1);
	}
	assert_false(ferry_keep_has_room(&keep));
	ferry_keep_drop(&keep, ferry_keep_find(&keep, (struct ferry_lba){1}, 1, false));
	assert_true(ferry_keep_has_room(&keep));
	assert_false(has(1, 1, false));
	assert_int_equal(stand.arena.free_count, STAND_CHUNKS - 2);
}

static void test_memory(void **state)
{
	struct ferry_region small;
	struct ferry_keep other;
	void *memory = sim_alloc(ferry_keep_memory_bytes(4));

	(void)state;
	ferry_region_init(&small, memory, ferry_keep_memory_bytes(4));
	assert_int_equal(ferry_keep_init(&other, &small, 4, 1), 0);
	ferry_region_init(&small, memory, ferry_keep_memory_bytes(4) / 2);
	assert_int_equal(ferry_keep_init(&other, &small, 4, 1), -ENOMEM);
	free(memory);
	other = (struct ferry_keep){0};
	ferry_keep_clear(&other); /* It was never on. */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_finds_what_overlaps),
		TEST(test_split),
		TEST(test_flushed),
		TEST(test_orphans),
		TEST(test_room),
		TEST(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
