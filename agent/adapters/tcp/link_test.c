/* A link comes up, is noticed when it dies, and comes up anew. */
#include <sys/socket.h>

#include "agent/adapters/tcp/tcp_stand.h"

static void comes_up(void **state)
{
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	assert_int_equal(world->in.link->node.v, 1);
	assert_int_equal(world->out.link->node.v, 2);
	wait_ns(world, 4 * DEAD_AFTER_NS); /* Idle is not dead. */
	assert_int_equal(world->out.downs + world->in.downs, 0);
	assert_true(ferry_tcp_link_counters(world->connector).messages_sent >= 4);
	assert_in_range(ferry_tcp_link_rtt_ns(world->connector), 1, FERRY_NS_PER_S);
	assert_string_equal(ferry_tcp_link_trouble(world->connector), "");
}

static void silence_is_death(void **state)
{
	struct world *world = *state;
	uint64_t began_ns;
	int fd = raw_peer(world, RAW_INCARNATION);

	began_ns = clock_ns();
	WAIT(world, world->raw.downs == 1); /* It takes nothing and says nothing. */
	assert_non_null(strstr(world->raw.why, "nothing heard from node 9"));
	assert_true(clock_ns() - began_ns >= DEAD_AFTER_NS - 20 * FERRY_NS_PER_MS);
	assert_true(clock_ns() - began_ns <= 10 * DEAD_AFTER_NS); /* A busy machine. */
	close(fd);
}

/* One who only hears says PING, too: the far end's own PING may be stuck behind its data. */
static void a_listener_is_heard(void **state)
{
	struct world *world = *state;
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES], heard[FERRY_WIRE_HEADER_BYTES];
	struct ferry_wire_header header = raw_header(0);
	int fd = raw_peer(world, RAW_INCARNATION);

	ferry_wire_encode(&header, bytes);
	do {
		assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
		turn(world);
		assert_true(world->raw.messages < 5000);
	} while (recv(fd, heard, sizeof(heard), MSG_DONTWAIT) != sizeof(heard));
	assert_int_equal(ferry_wire_decode(heard, &header, NULL), 0);
	assert_int_equal(header.type, FERRY_WIRE_PING);
	assert_int_equal(header.node.v, 2);
	assert_true(world->raw.messages > 10);
	close(fd);
	WAIT(world, world->raw.downs == 1);
}

/* Both ends of a connection know it, and it is another one each time. */
static void the_ends_share_a_secret(void **state)
{
	uint8_t secrets[3][FERRY_PROOF_BYTES] = {};
	struct world *world = *state;

	for (uint32_t round = 0; round < 2; round++) {
		WAIT(world, world->out.ups == round + 1 && world->in.ups == round + 1);
		assert_int_equal(ferry_tcp_link_features(world->connector),
				 FERRY_HANDSHAKE_FEATURE_RDMA);
		assert_int_equal(ferry_tcp_link_secret(world->connector, secrets[round]), 0);
		assert_int_equal(ferry_tcp_listener_secret(world->listener, (struct ferry_node){1},
							   (struct ferry_incarnation){10},
							   secrets[2]),
				 0);
		assert_memory_equal(secrets[round], secrets[2], FERRY_PROOF_BYTES);
		world->out.link->ops->reset(world->out.link, "the test");
		assert_int_equal(ferry_tcp_link_secret(world->connector, secrets[2]), -ENOTCONN);
		assert_int_equal(ferry_tcp_link_features(world->connector), 0);
		WAIT(world, world->in.downs == round + 1);
	}
	assert_memory_not_equal(secrets[0], secrets[1], FERRY_PROOF_BYTES);
	WAIT(world, world->in.has_up && world->out.has_up);
	assert_int_equal(ferry_tcp_listener_secret(world->listener, (struct ferry_node){1},
						   (struct ferry_incarnation){9}, secrets[2]),
			 -ENOTCONN);
	assert_int_equal(ferry_tcp_listener_secret(world->listener, (struct ferry_node){3},
						   (struct ferry_incarnation){10}, secrets[2]),
			 -ENOTCONN);
}

static void connects_anew(void **state)
{
	struct world *world = *state;
	uint16_t port = ferry_tcp_listener_port(world->listener);

	for (uint32_t round = 1; round <= 3; round++) {
		WAIT(world, world->out.ups == round && world->in.ups == round);
		world->listener = ferry_tcp_listener_close(world->listener);
		assert_int_equal(world->in.downs, round); /* close() says so at once. */
		WAIT(world, world->out.downs == round);
		assert_int_equal(request(&world->out, 1), -ENOTCONN);
		world_listen(world, port);
	}
	WAIT(world, world->out.ups == 4);
	world->is_inside = true;
	ferry_tcp_link_enable(world->connector, false);
	assert_false(world->out.link->is_up);
	world->is_inside = false;
	WAIT(world, world->out.downs == 4 && world->in.downs == 4);
	wait_ns(world, 4 * FERRY_TCP_BACKOFF_NS_MIN);
	assert_int_equal(world->out.ups, 4);
	ferry_tcp_link_enable(world->connector, true);
	WAIT(world, world->out.has_up && world->in.has_up);
}

static void newer_replaces_older(void **state)
{
	struct world *world = *state;
	int first, second, third;

	first = raw_peer(world, RAW_INCARNATION);
	second = raw_peer(world, RAW_INCARNATION + 1);
	WAIT(world, world->raw.ups == 2);
	assert_int_equal(world->raw.downs, 1);
	assert_non_null(strstr(world->raw.why, "replaced by a newer connection of node 9"));
	WAIT(world, is_closed(first));
	third = raw_peer(world, RAW_INCARNATION); /* A ghost of an agent. */
	WAIT(world, is_closed(third));
	assert_int_equal(world->raw.ups, 2);
	assert_true(world->raw.has_up);
	close(first);
	close(second);
	close(third);
}

static void close_tells_all(void **state)
{
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	for (int i = 0; i < 20; i++)
		assert_int_equal(request(&world->out, 16), 0);
	assert_int_equal(world->out.busy, 20);
	world->connector = ferry_tcp_link_close(world->connector);
	assert_int_equal(world->out.nothing, 20);
	assert_int_equal(world->out.downs, 1);
}

static void wrong_configuration(void **state)
{
	struct world *world = *state;
	struct ferry_tcp_listener *listener = NULL;
	struct ferry_tcp_link *connector = NULL;
	struct ferry_tcp_listen_config listen = {
		.loop = world->loop,
		.address = "storage.example",
		.handshake = handshake_of(world, 2),
		.accept = end_accept,
	};
	struct ferry_tcp_connect_config connect = {.loop = world->loop,
						   .address = "127.0.0.1",
						   .peer = {2},
						   .handshake = handshake_of(world, 1)};
	struct ferry_error error = {};

	assert_int_equal(ferry_tcp_listen(&listen, &listener, &error), -EINVAL);
	assert_non_null(strstr(error.message, "'storage.example' is no address"));
	listen.address = "127.0.0.1";
	listen.port = ferry_tcp_listener_port(world->listener);
	assert_int_equal(ferry_tcp_listen(&listen, &listener, &error), -EADDRINUSE);
	assert_non_null(strstr(error.message, "cannot listen on 127.0.0.1:"));
	listen.address = "192.0.2.1";
	assert_int_equal(ferry_tcp_listen(&listen, &listener, &error), -EADDRNOTAVAIL);
	assert_int_equal(ferry_tcp_connect(&connect, &connector, &error), -EINVAL);
	assert_non_null(strstr(error.message, "no port"));
	connect.port = 1;
	connect.handshake.cluster[0] = '\n';
	assert_int_equal(ferry_tcp_connect(&connect, &connector, &error), -EINVAL);
	assert_null(listener);
	assert_null(connector);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, world_open, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_up),
		TEST(silence_is_death),
		TEST(a_listener_is_heard),
		TEST(the_ends_share_a_secret),
		TEST(connects_anew),
		TEST(newer_replaces_older),
		TEST(close_tells_all),
		TEST(wrong_configuration),
	};

	return cmocka_run_group_tests_name("tcp_link", tests, NULL, NULL);
}
