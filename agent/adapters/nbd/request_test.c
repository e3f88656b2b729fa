/* Requests and their replies: what each does, in which pieces and order they may come. */
#include "agent/adapters/nbd/client_stand.h"

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_commands), TEST(test_long_ranges),  TEST(test_invalid_requests),
		TEST(test_errors),   TEST(test_out_of_order), TEST(test_fragments),
	};

	return cmocka_run_group_tests_name("nbd_request", tests, NULL, NULL);
}
