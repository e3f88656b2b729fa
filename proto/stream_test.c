#include "proto/stream.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct ferry_stream_begin begin = {
	.lun = {{1, 2}},
	.lineage = {{3, 4}},
	.epoch = {0x1122},
	.owner = {7},
	.block_bytes = 512,
	.write_sequence = 0x99,
	.incarnation = 5,
};

/* A stream of two blocks; where its frames begin and where it ends. */
static size_t make(uint8_t *bytes, size_t ends[4])
{
	struct ferry_stream stream = {};
	struct ferry_stream_data data = {.length_bytes = 512, .heat = 3};
	uint8_t block[512];
	size_t at;

	at = ends[0] = ferry_stream_put_begin(&stream, &begin, bytes);
	for (uint8_t i = 0; i < 2; i++) {
		memset(block, 0xa0 + i, sizeof(block));
		data.offset_bytes = 4096 + 512 * (uint64_t)i;
		data.bytes = block;
		at += ferry_stream_put_data(&stream, &data, bytes + at);
		ends[1 + i] = at;
	}
	at += ferry_stream_put_end(&stream, 42, bytes + at);
	ends[3] = at;
	assert_true(ferry_stream_is_complete(&stream));
	return at;
}

static int get_all(const uint8_t *bytes, const size_t ends[4], struct ferry_stream_frame frames[4],
		   struct ferry_error *reterr)
{
	struct ferry_stream stream = {};
	size_t at = 0;
	int r = 0;

	for (size_t i = 0; i < 4 && r == 0; i++) {
		r = ferry_stream_get(&stream, bytes + at, ends[i] - at, &frames[i], reterr);
		at = ends[i];
	}
	assert_int_equal(ferry_stream_is_complete(&stream), r == 0);
	return r;
}

static void what_is_put_is_got(void **state)
{
	struct ferry_stream_frame frames[4];
	uint8_t bytes[2048];
	size_t ends[4];

	(void)state;
	make(bytes, ends);
	assert_int_equal(ferry_stream_frame_bytes(bytes, NULL), FERRY_STREAM_BEGIN_BYTES);
	assert_int_equal(get_all(bytes, ends, frames, NULL), 0);
	assert_memory_equal(&frames[0].begin, &begin, sizeof(begin));
	assert_int_equal(frames[2].data.offset_bytes, 4608);
	assert_int_equal(frames[2].data.heat, 3);
	assert_int_equal(frames[2].data.bytes[511], 0xa1);
	assert_int_equal(frames[3].end.frames_count, 2);
	assert_int_equal(frames[3].end.cursor_next, 42);
}

/* The bytes that docs/wire-format.md promises: a change of them is a change of version. */
static void layout_is_the_documented_one(void **state)
{
	static const uint8_t BEGIN[88] =
		{
			'F',  'R',	'S',	  'T', 1,	    0,	      1,
			0,    88,	0,	  0,   0,	    0x35,     0xe9,
			0x2a, 0x85,	1,	  2,   [32] = 3,    4,	      [48] = 0x22,
			0x11, [56] = 7, [60] = 0, 2,   [64] = 0x99, [72] = 5,
		};
	static const uint8_t DATA[36] = {
		'F', 'R', 'S', 'T', 1, 0, 2, 0, 0x20, 2, 0, 0, 0, 0, 0,	   0,	 0,    0x10,
		0,   0,	  0,   0,   0, 0, 0, 2, 0,    0, 3, 0, 0, 0, 0xa0, 0xa0, 0xa0, 0xa0,
	};
	static const uint8_t END[16] = {2, 0, 0, 0, 0, 0, 0, 0, 42};
	uint8_t bytes[2048];
	size_t ends[4];

	(void)state;
	assert_int_equal(make(bytes, ends), 88 + 2 * (32 + 512) + 40);
	assert_memory_equal(bytes, BEGIN, sizeof(BEGIN));
	memset(bytes + ends[0] + 12, 0, 4); /* The checksum: any. */
	assert_memory_equal(bytes + ends[0], DATA, sizeof(DATA));
	assert_memory_equal(bytes + ends[2] + 16, END, sizeof(END));
}

static void every_flipped_bit_is_noticed(void **state)
{
	struct ferry_stream_frame frames[4];
	struct ferry_error error = {};
	uint8_t bytes[2048];
	size_t ends[4];
	size_t length_bytes;

	(void)state;
	length_bytes = make(bytes, ends);
	for (size_t bit = 0; bit < length_bytes * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_true(get_all(bytes, ends, frames, &error) < 0);
		assert_true(error.message[0] != '\0');
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
}

static void order_is_kept(void **state)
{
	static const uint8_t orders[][4] = {{1, 0, 2, 3}, {0, 0, 1, 3}, {0, 1, 3, 2}, {0, 3, 3, 3},
					    {0, 1, 1, 3}, {3, 0, 1, 2}, {0, 2, 1, 3}};
	uint8_t bytes[2048];
	size_t ends[4];

	(void)state;
	make(bytes, ends);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(orders); i++) {
		struct ferry_stream stream = {};
		struct ferry_stream_frame frame;
		int r = 0;

		for (size_t n = 0; n < 4 && r == 0; n++) {
			size_t from = orders[i][n] == 0 ? 0 : ends[orders[i][n] - 1];

			r = ferry_stream_get(&stream, bytes + from, ends[orders[i][n]] - from,
					     &frame, NULL);
		}
		assert_true(r < 0);
		/* After an error it is over. */
		assert_true(ferry_stream_get(&stream, bytes, ends[0], &frame, NULL) < 0);
	}
}

static void truncated_frames_are_refused(void **state)
{
	uint8_t bytes[2048];
	size_t ends[4];

	(void)state;
	make(bytes, ends);
	for (size_t length = 0; length < ends[0]; length++) {
		struct ferry_stream stream = {};
		struct ferry_stream_frame frame;

		assert_int_equal(ferry_stream_get(&stream, bytes, length, &frame, NULL), -EBADMSG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_got),
		cmocka_unit_test(layout_is_the_documented_one),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(order_is_kept),
		cmocka_unit_test(truncated_frames_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
