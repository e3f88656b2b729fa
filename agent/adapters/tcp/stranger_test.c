/* Who does not belong, or says what no agent says, gets no further and disturbs nobody. */
#include <stdio.h>
#include <sys/socket.h>

#include "agent/adapters/tcp/tcp_stand.h"

static void raw_damage(struct world *world, const void *bytes, size_t length_bytes,
		       const char *word)
{
	uint32_t downs = world->raw.downs;
	int fd = raw_peer(world, RAW_INCARNATION);

	assert_int_equal(send(fd, bytes, length_bytes, MSG_NOSIGNAL), length_bytes);
	WAIT(world, world->raw.downs == downs + 1);
	if (!strstr(world->raw.why, word))
		fail_msg("'%s' lacks '%s'", world->raw.why, word);
	WAIT(world, is_closed(fd));
	close(fd);
}

static void damage_cuts_the_link(void **state)
{
	struct world *world = *state;
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES + 512] = {};
	struct ferry_wire_header header = raw_header(1);

	memset(bytes, 'x', sizeof(bytes));
	raw_damage(world, bytes, sizeof(bytes), "does not begin");
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, sizeof(bytes), "payload's checksum");
	assert_int_equal(world->raw.dropped, 1);
	bytes[60] ^= 1;
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "header's checksum");
	header = raw_header(0);
	header.node.v = 1; /* It speaks for another. */
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "not its own");
	header = raw_header(0);
	header.incarnation.v++;
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "not its own");
	header = raw_header(0);
	header.type = FERRY_WIRE_REPLY; /* To a question of its own. */
	header.outcome = FERRY_OUTCOME_DONE;
	header.cause = FERRY_CAUSE_NONE;
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "not its own");
	world->raw.is_breaking = true;
	header = raw_header(1);
	ferry_wire_encode(&header, bytes);
	raw_damage(world, bytes, FERRY_WIRE_HEADER_BYTES, "refused");
	assert_int_equal(world->raw.messages, 0);
}

static void strangers_are_closed(void **state)
{
	static const char *const WORDS[] = {
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"FRHS\1\0\377\377",
		"FRHS\3\0\050\0",
		"SSH-2.0-x\r\n",
	};
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(WORDS); i++) {
		size_t length_bytes = i == 1 || i == 2 ? 8 : strlen(WORDS[i]);
		int fd = raw_socket(world);

		assert_int_equal(send(fd, WORDS[i], length_bytes, MSG_NOSIGNAL), length_bytes);
		WAIT(world, is_closed(fd));
		close(fd);
	}
	assert_int_equal(ferry_tcp_listener_counters(world->listener).refusals, 4);
	assert_int_equal(world->refused_events, 1); /* Within a second. */
	assert_non_null(strstr(world->last.text, "127.0.0.1:"));
	assert_int_equal(world->in.downs + world->out.downs, 0);
}

static void a_wrong_key_is_turned_away(void **state)
{
	struct world *world = *state;
	struct ferry_auth *auth = NULL;
	struct ferry_tcp_link *other;
	struct end *end = calloc(1, sizeof(*end));
	char path[96];

	WAIT(world, world->in.has_up);
	(void)snprintf(path, sizeof(path), "%s.other", world->key);
	assert_int_equal(ferry_auth_file_create(path, NULL), 0);
	assert_int_equal(ferry_auth_file_open(path, &auth, NULL), 0);
	unlink(path);
	other = connector_open(world, auth, 10, end);
	WAIT(world, ferry_tcp_link_counters(other).refusals == 1);
	WAIT(world, strstr(world->last.text, "key"));
	assert_int_equal(end->ups, 0);
	assert_int_equal(world->in.downs, 0);
	assert_non_null(strstr(ferry_tcp_link_trouble(other), "key"));
	assert_int_equal(ferry_tcp_link_rtt_ns(other), 0);
	(void)ferry_tcp_link_close(other);
	(void)ferry_auth_file_close(auth);
	free(end);
}

static void members_only(void **state)
{
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	world->members = 0;
	world->is_inside = true;
	ferry_tcp_listener_drop(world->listener, (struct ferry_node){1}, "node 1 left");
	world->is_inside = false;
	WAIT(world, world->in.downs == 1 && world->out.downs == 1);
	assert_string_equal(world->in.why, "node 1 left");
	WAIT(world, ferry_tcp_link_counters(world->connector).refusals >= 1);
	assert_false(world->out.link->is_up);
	assert_non_null(strstr(world->last.text, "not a current member"));
	assert_non_null(strstr(ferry_tcp_link_trouble(world->connector), "not a current member"));
	world->members = ~0u;
	WAIT(world, world->out.has_up && world->in.has_up);
}

static void a_flood_is_bounded(void **state)
{
	struct world *world = *state;
	int fds[100];
	uint32_t closed = 0;

	WAIT(world, world->out.has_up);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(fds); i++) {
		fds[i] = raw_socket(world);
		turn(world);
	}
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(fds); i++)
		closed += is_closed(fds[i]);
	assert_true(closed >= FERRY_ARRAY_COUNT(fds) - FERRY_TCP_GREETINGS_MAX);
	world->is_inside = true;
	world->out.link->ops->reset(world->out.link, "test");
	world->is_inside = false;
	WAIT(world, world->out.downs == 1);
	WAIT(world, world->out.ups == 2); /* It gets in all the same. */
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(fds); i++)
		close(fds[i]);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, world_open, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(damage_cuts_the_link),	  TEST(strangers_are_closed),
		TEST(a_wrong_key_is_turned_away), TEST(members_only),
		TEST(a_flood_is_bounded),
	};

	return cmocka_run_group_tests_name("tcp_stranger", tests, NULL, NULL);
}
