/* More than there is room for, or than a client takes: it waits, and disturbs nobody else. */
#include "agent/adapters/nbd/client_stand.h"

static void test_flood(void **state)
{
	enum { COUNT = 2000 };
	static uint8_t requests[COUNT * FERRY_NBD_REQUEST_BYTES];
	struct fixture *fixture = *state;
	bool seen[COUNT] = {false};
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	/* Far more than there are slots, and nobody listens to the replies as yet. */
	for (uint32_t i = 0; i < COUNT; i++)
		request_encode(requests + i * FERRY_NBD_REQUEST_BYTES, FERRY_NBD_CMD_READ, 0, i,
			       (i % 100) * BLOCK, BLOCK);
	say(fd, requests, sizeof(requests));
	for (uint32_t i = 0; i < COUNT; i++) {
		uint64_t cookie;

		assert_int_equal(reply_hear(fd, &cookie), 0);
		assert_true(cookie < COUNT && !seen[cookie]);
		seen[cookie] = true;
		read_hear(fd, BLOCK, 0);
	}
	assert_true(stub(fixture).in_flight_seen_max <= FERRY_NBD_REQUESTS_MAX);
	close(fd);
}

/* A large reply leaves at once, and its memory is free, though the client has yet to listen. */
static void test_large_reply(void **state)
{
	enum { LENGTH = 384 * 1024 };
	struct fixture *fixture = *state;
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	request_say(fd, FERRY_NBD_CMD_READ, 0, 1, 0, LENGTH);
	UNTIL(stub(fixture).submits[FERRY_OP_READ] == 1);
	UNTIL(chunks_free(fixture) == fixture->arena.chunks_count);
	reply_expect(fd, 1, 0);
	read_hear(fd, LENGTH, 0);
	close(fd);
}

static void test_volume_full(void **state)
{
	struct fixture *fixture = *state;
	int fd[3];

	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.in_flight_max = 2});
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(fd); i++)
		fd[i] = client_go(fixture, "demo", false);
	for (uint32_t n = 0; n < 50; n++)
		for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(fd); i++)
			request_say(fd[i], FERRY_NBD_CMD_READ, 0, n, 0, BLOCK);
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(fd); i++) {
		for (uint32_t n = 0; n < 50; n++) {
			reply_expect(fd[i], n, 0); /* In order, since the volume is. */
			read_hear(fd[i], BLOCK, 0);
		}
		close(fd[i]);
	}
	assert_true(stub(fixture).refusals > 0);
	assert_int_equal(counters(fixture).requests_failed, 0);
}

/* Room comes back by someone else's doing: no completion of ours tells. */
static void test_volume_full_of_others(void **state)
{
	struct fixture *fixture = *state;
	int fd;

	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.refuse_error = -EAGAIN});
	fd = client_go(fixture, "demo", false);
	request_say(fd, FERRY_NBD_CMD_FLUSH, 0, 9, 0, 0);
	UNTIL(stub(fixture).refusals > 2);
	behave(fixture, WELL);
	reply_expect(fd, 9, 0);
	/* And one that leaves while it waits. */
	behave(fixture, (struct ferry_block_behaviour){.refuse_error = -EAGAIN});
	request_say(fd, FERRY_NBD_CMD_FLUSH, 0, 9, 0, 0);
	UNTIL(stub(fixture).refusals > 6);
	close(fd);
	behave(fixture, WELL);
	UNTIL(counters(fixture).connections == 0);
}

static void test_arena_empty(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t data[100 * 1024];
	int fd[2];

	server_start(fixture);
	memset(data, 0x77, sizeof(data));
	fd[0] = client_go(fixture, "demo", false);
	fd[1] = client_go(fixture, "demo", false);
	on_loop(fixture, do_take_all, NULL);
	for (uint32_t i = 0; i < 2; i++) {
		request_say(fd[i], FERRY_NBD_CMD_WRITE, 0, i, i * UINT64_C(1024 * 1024),
			    sizeof(data));
		say(fd[i], data, sizeof(data));
	}
	/* A flush by a third client passes by those that wait. */
	{
		int other = client_go(fixture, "demo", false);

		expect(other, FERRY_NBD_CMD_FLUSH, 0, 0, 0, 0);
		close(other);
	}
	assert_int_equal(stub(fixture).submits[FERRY_OP_WRITE], 0);
	close(fd[1]); /* It gives up; its half of a request is forgotten. */
	on_loop(fixture, do_drop_all, NULL);
	reply_expect(fd[0], 0, 0);
	read_expect(fd[0], 0, sizeof(data), 0x77);
	close(fd[0]);
}

static void test_slow_reader(void **state)
{
	enum { COUNT = 60, LENGTH = 256 * 1024 };
	struct fixture *fixture = *state;
	int slow, other;

	server_start(fixture);
	slow = client_go(fixture, "demo", false);
	other = client_go(fixture, "demo", false);
	/* 15 MiB, twice the arena, and the client takes none of it. */
	for (uint32_t i = 0; i < COUNT; i++)
		request_say(slow, FERRY_NBD_CMD_READ, 0, i, 0, LENGTH);
	UNTIL(counters(fixture).reads >= 4);
	for (uint32_t i = 0; i < 20; i++) {
		write_expect(other, 0, VOLUME_BYTES / 2, LENGTH, 0x11, 0);
		read_expect(other, VOLUME_BYTES / 2, LENGTH, 0x11);
	}
	assert_true(chunks_free(fixture) >= fixture->arena.chunks_count / 2);
	for (uint32_t i = 0; i < COUNT; i++) {
		reply_expect(slow, i, 0);
		read_hear(slow, LENGTH, 0);
	}
	close(slow);
	close(other);
}

static void test_silent_clients(void **state)
{
	struct fixture *fixture = *state;
	int reader, writer, idle, haggler;

	fixture->config.silence_ns_max = 300 * FERRY_NS_PER_MS;
	fixture->config.handshake_ns_max = 300 * FERRY_NS_PER_MS;
	server_start(fixture);
	idle = client_go(fixture, "demo", false);
	reader = client_go(fixture, "demo", false);
	writer = client_go(fixture, "demo", false);
	haggler = client_greet(fixture);
	for (uint32_t i = 0; i < 8; i++)
		request_say(reader, FERRY_NBD_CMD_READ, 0, i, 0, FERRY_IO_BYTES_MAX);
	request_say(writer, FERRY_NBD_CMD_WRITE, 0, 0, 0, FERRY_IO_BYTES_MAX);
	hear_end(writer);
	hear_end(haggler);
	UNTIL(counters(fixture).connections == 1);
	assert_int_equal(counters(fixture).connections_timed_out, 3);
	assert_int_equal(chunks_free(fixture), fixture->arena.chunks_count);
	/* Who holds nothing may be silent as long as it likes. */
	read_expect(idle, 0, BLOCK, 0);
	close(idle);
	close(reader);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_flood),	   TEST(test_large_reply),
		TEST(test_volume_full),	   TEST(test_volume_full_of_others),
		TEST(test_arena_empty),	   TEST(test_slow_reader),
		TEST(test_silent_clients),
	};

	return cmocka_run_group_tests_name("nbd_pressure", tests, NULL, NULL);
}
