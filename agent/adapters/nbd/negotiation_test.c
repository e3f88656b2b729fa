/* What client and server agree on first: options, exports, and what is no option. */
#include "agent/adapters/nbd/client_stand.h"

enum { ZEROES_BYTES = 124 }; /* After an export, for clients that want them. */

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_options),
		TEST(test_meta_contexts),
		TEST(test_export_name),
		TEST(test_garbage),
	};

	return cmocka_run_group_tests_name("nbd_negotiation", tests, NULL, NULL);
}
