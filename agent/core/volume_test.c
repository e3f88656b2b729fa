/* What a volume refuses before anything is done about it, and what it lets through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/volume.h"
#include "tests/sim/core_stand.h"

enum { SIZE_BLOCKS = 100000 };

static struct stand stand;
static struct stand_path path;
static struct ferry_router router;
static struct ferry_volume volume;
static struct ferry_io io;
static int result;
static uint32_t looks;

static void on_done(struct ferry_io *self, int error)
{
	result = error;
	ferry_segments_drop(&self->segments);
}

static void before(struct ferry_volume *self)
{
	assert_ptr_equal(self, &volume);
	looks++;
}

static int setup(void **state)
{
	struct ferry_router_config config = stand_router_config(&stand);
	struct ferry_lane *lane;

	(void)state;
	stand_open(&stand);
	assert_int_equal(ferry_router_init(&router, &stand.region, &config), 0);
	stand_path_init(&path, FERRY_PATH_LOCAL, 1, /* can_reset= */ true);
	assert_int_equal(ferry_router_add_path(&router, &path.path, false, &lane), 0);
	ferry_router_open(&router, (struct ferry_epoch){7});
	ferry_volume_init(&volume, &router, "volume", SIZE_BLOCKS, STAND_BLOCK_BYTES,
			  /* can_discard= */ true, /* is_read_only= */ false);
	volume.before = before;
	looks = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < path.count; i++)
		if (path.attempts[i])
			stand_done(&path, i);
	ferry_router_done(&router);
	stand_close(&stand);
	return 0;
}

static int submit(enum ferry_op op, uint64_t lba, uint32_t length_blocks, uint32_t flags)
{
	result = 1;
	io = (struct ferry_io){.op = op,
			       .flags = flags,
			       .lba = {lba},
			       .length_blocks = length_blocks,
			       .on_done = on_done};
	return ferry_block_submit(&volume.block, &io);
}

/* A write with buffers for @data_blocks, which need not be what it says. */
static int submit_write(uint64_t lba, uint32_t length_blocks, uint32_t data_blocks, uint32_t flags)
{
	struct ferry_segments data;
	int r;

	assert_int_equal(ferry_arena_take(&stand.arena, data_blocks * STAND_BLOCK_BYTES, &data), 0);
	result = 1;
	io = (struct ferry_io){.op = FERRY_OP_WRITE,
			       .flags = flags,
			       .lba = {lba},
			       .length_blocks = length_blocks,
			       .segments = data,
			       .on_done = on_done};
	r = ferry_block_submit(&volume.block, &io);
	if (r < 0)
		ferry_segments_drop(&io.segments);
	return r;
}

static void expect_done(uint32_t count)
{
	stand_run_ms(&stand, 1);
	assert_int_equal(path.count, count);
	assert_int_equal(result, 1);
	stand_done(&path, count - 1);
	assert_int_equal(result, 0);
	assert_int_equal(looks, count);
}

static void test_range(void **state)
{
	(void)state;
	assert_int_equal(submit(FERRY_OP_READ, SIZE_BLOCKS, 1, 0), -ERANGE);
	assert_int_equal(submit(FERRY_OP_READ, SIZE_BLOCKS - 1, 2, 0), -ERANGE);
	assert_int_equal(submit(FERRY_OP_READ, UINT64_MAX, 2, 0), -ERANGE); /* Wraps. */
	assert_int_equal(submit(FERRY_OP_DISCARD, 0, SIZE_BLOCKS + 1, 0), -ERANGE);
	assert_int_equal(submit_write(SIZE_BLOCKS - 1, 2, 2, 0), -ERANGE);
	assert_int_equal(path.count, 0);
	assert_int_equal(looks, 0);
	assert_int_equal(submit(FERRY_OP_READ, SIZE_BLOCKS - 2, 2, 0), 0);
	expect_done(1);
	assert_int_equal(volume.stats.bytes_read, 2 * STAND_BLOCK_BYTES);
}

/* Requests are of whole blocks: no block at all, or data that is not as long, is none. */
static void test_length(void **state)
{
	uint32_t io_blocks = FERRY_IO_BYTES_MAX / STAND_BLOCK_BYTES;
	uint32_t range_blocks = FERRY_IO_RANGE_BYTES_MAX / STAND_BLOCK_BYTES;

	(void)state;
	assert_int_equal(submit(FERRY_OP_READ, 0, 0, 0), -EINVAL);
	assert_int_equal(submit(FERRY_OP_READ, 0, io_blocks + 1, 0), -EINVAL);
	assert_int_equal(submit(FERRY_OP_DISCARD, 0, range_blocks + 1, 0), -EINVAL);
	assert_int_equal(submit_write(0, 2, 1, 0), -EINVAL);
	assert_int_equal(submit_write(0, 1, 2, 0), -EINVAL);
	assert_int_equal(submit(FERRY_OP_FLUSH, 0, 1, 0), -EINVAL);
	assert_int_equal(submit(FERRY_OP_FLUSH, 1, 0, 0), -EINVAL);
	assert_int_equal(path.count, 0);
	assert_int_equal(submit(FERRY_OP_DISCARD, 0, range_blocks, 0), 0);
	expect_done(1);
	assert_int_equal(submit_write(4, 2, 2, 0), 0);
	expect_done(2);
	assert_int_equal(submit(FERRY_OP_FLUSH, 0, 0, 0), 0);
	expect_done(3);
	assert_int_equal(volume.stats.bytes_written, 2 * STAND_BLOCK_BYTES);
	assert_int_equal(volume.stats.bytes_read, 0);
}

static void test_flags(void **state)
{
	(void)state;
	assert_int_equal(submit(FERRY_OP_READ, 0, 1, FERRY_IO_FUA), -EINVAL);
	assert_int_equal(submit(FERRY_OP_DISCARD, 0, 1, FERRY_IO_FUA), -EINVAL);
	assert_int_equal(submit(FERRY_OP_FLUSH, 0, 0, FERRY_IO_FUA), -EINVAL);
	assert_int_equal(submit_write(0, 1, 1, FERRY_IO_NO_UNMAP), -EINVAL);
	assert_int_equal(path.count, 0);
	assert_int_equal(submit_write(0, 1, 1, FERRY_IO_FUA), 0);
	expect_done(1);
	assert_int_equal(submit(FERRY_OP_WRITE_ZEROES, 0, 1, FERRY_IO_FUA | FERRY_IO_NO_UNMAP), 0);
	expect_done(2);
}

static void test_read_only(void **state)
{
	(void)state;
	volume.block.is_read_only = true;
	assert_int_equal(submit_write(0, 1, 1, 0), -EROFS);
	assert_int_equal(submit(FERRY_OP_WRITE_ZEROES, 0, 1, 0), -EROFS);
	assert_int_equal(submit(FERRY_OP_DISCARD, 0, 1, 0), -EROFS);
	assert_int_equal(path.count, 0);
	assert_int_equal(submit(FERRY_OP_READ, 0, 1, 0), 0);
	expect_done(1);
	assert_int_equal(submit(FERRY_OP_FLUSH, 0, 0, 0), 0);
	expect_done(2);
}

/* DISCARD is advice; whoever needs zeroes is told that they cannot be had this way. */
static void test_path_cannot(void **state)
{
	(void)state;
	path.submit_error = -EOPNOTSUPP;
	assert_int_equal(submit(FERRY_OP_DISCARD, 0, 1, 0), 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(result, 0);
	assert_int_equal(submit(FERRY_OP_WRITE_ZEROES, 0, 1, 0), 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(result, -EIO);
	path.submit_error = 0;
}

static void test_epoch(void **state)
{
	(void)state;
	assert_int_equal(submit(FERRY_OP_READ, 0, 1, 0), 0);
	assert_int_equal(path.attempts[0]->epoch.v, 7);
	expect_done(1);
	ferry_router_close(&router);
	assert_int_equal(submit(FERRY_OP_READ, 0, 1, 0), 0);
	stand_run_ms(&stand, 1);
	assert_int_equal(path.count, 1); /* Held: no epoch is in force here. */
	assert_int_equal(result, 1);
	ferry_router_open(&router, (struct ferry_epoch){9});
	stand_run_ms(&stand, 1);
	assert_int_equal(path.attempts[1]->epoch.v, 9);
	expect_done(2);
}

static uint32_t filtered;

static int filter_submit(struct ferry_block *block, struct ferry_io *self)
{
	(void)block;
	filtered++;
	return ferry_block_submit(&volume.bottom, self);
}

static void test_filter(void **state)
{
	static const struct ferry_block_ops filter_ops = {.submit = filter_submit};
	struct ferry_block filter = {.ops = &filter_ops, .size_blocks = SIZE_BLOCKS};

	(void)state;
	assert_int_equal(volume.bottom.size_blocks, SIZE_BLOCKS);
	assert_int_equal(volume.bottom.block_bytes, STAND_BLOCK_BYTES);
	filtered = 0;
	ferry_volume_set_filter(&volume, &filter);
	assert_int_equal(submit(FERRY_OP_READ, SIZE_BLOCKS, 1, 0), -ERANGE);
	assert_int_equal(filtered, 0); /* It sees only what has been checked. */
	assert_int_equal(submit(FERRY_OP_READ, 0, 1, 0), 0);
	assert_int_equal(filtered, 1);
	expect_done(1);
}

static void test_closed(void **state)
{
	(void)state;
	assert_int_equal(submit(FERRY_OP_READ, 0, 1, 0), 0);
	ferry_volume_close(&volume);
	stand_done(&path, 0);
	assert_int_equal(result, 0); /* What is in flight goes on. */
	assert_int_equal(submit(FERRY_OP_READ, 0, 1, 0), -ESHUTDOWN);
	assert_int_equal(submit(FERRY_OP_FLUSH, 0, 0, 0), -ESHUTDOWN);
	assert_int_equal(path.count, 1);
	assert_int_equal(looks, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_range),	TEST(test_length), TEST(test_flags),  TEST(test_read_only),
		TEST(test_path_cannot), TEST(test_epoch),  TEST(test_filter), TEST(test_closed),
	};

	return cmocka_run_group_tests_name("volume", tests, NULL, NULL);
}
