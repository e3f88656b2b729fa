/* Messages: each whole and in order, told of once, and its memory given back, come what may. */
#include <sys/socket.h>

#include "agent/adapters/tcp/tcp_stand.h"
#include "agent/base/prng.h"

/* Random sizes, echoed: everything there and back, whole and in order. */
static void carries_data_both_ways(void **state)
{
	struct world *world = *state;
	struct ferry_prng prng = {.state = 1};
	struct ferry_tcp_counters counters;
	uint32_t requests = 0;

	WAIT(world, world->out.has_up && world->in.has_up);
	world->in.is_echo = true;
	while (requests < 3000) {
		uint32_t blocks = (uint32_t)ferry_prng_below(&prng, 4);

		if (requests % 3 == 0)
			blocks = (uint32_t)ferry_prng_below(&prng, 2049);
		if (requests - world->out.messages < WINDOW && request(&world->out, blocks) == 0)
			requests++;
		else
			turn(world);
	}
	WAIT(world, world->out.messages == requests);
	assert_int_equal(world->in.messages, requests);
	assert_int_equal(world->in.bytes, world->out.bytes);
	WAIT(world, world->out.whole == requests && world->in.whole == requests);
	counters = ferry_tcp_link_counters(world->connector);
	assert_true(counters.bytes_sent > world->out.bytes);
	assert_true(counters.bytes_copied < world->out.bytes / 4);
	print_message("%u requests, %lu MiB each way, %lu %% copied\n", requests,
		      world->out.bytes >> 20, 100 * counters.bytes_copied / world->out.bytes);
}

static void waits_for_room(void **state)
{
	struct world *world = *state;

	WAIT(world, world->out.has_up && world->in.has_up);
	world->in.is_hoarding = true;
	for (int i = 0; i < 40; i++)
		(void)request(&world->out, 600);
	WAIT(world, world->in.is_waiting);
	wait_ns(world, 3 * DEAD_AFTER_NS); /* Neither end takes the other for dead. */
	assert_int_equal(world->in.messages, 0);
	assert_int_equal(world->in.asked, 1);
	assert_int_equal(world->in.downs + world->out.downs, 0);
	world->in.is_hoarding = false;
	world->is_inside = true;
	world->in.link->ops->resume(world->in.link);
	world->is_inside = false;
	WAIT(world, world->in.messages == 40);
	assert_int_equal(world->out.whole, 40);
}

/* Waiting for room, the peer goes: the link ends all the same, by the answer to a PING. */
static void gone_while_waiting(void **state)
{
	struct world *world = *state;
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES];
	struct ferry_wire_header header = raw_header(8);
	int fd = raw_peer(world, RAW_INCARNATION);

	world->raw.is_hoarding = true;
	ferry_wire_encode(&header, bytes);
	assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
	WAIT(world, world->raw.is_waiting);
	close(fd);
	WAIT(world, world->raw.downs == 1);
	assert_int_equal(world->raw.dropped, 0);
}

static void killed_within_a_message(void **state)
{
	struct world *world = *state;
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES + 2048] = {};
	struct ferry_wire_header header = raw_header(128);
	int fd = raw_peer(world, RAW_INCARNATION);

	ferry_wire_encode(&header, bytes);
	assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
	WAIT(world, world->raw.asked == 1);
	close(fd);
	WAIT(world, world->raw.downs == 1);
	assert_int_equal(world->raw.dropped, 1);
	assert_int_equal(world->raw.messages, 0);
	assert_int_equal(world->in.downs, 0); /* Nobody else is disturbed. */
}

/* Anything at any time: every message is told of once, every buffer comes back. */
static void chaos(struct world *world, uint64_t seed)
{
	struct ferry_prng prng = {.state = seed};
	struct end *end;

	world->in.is_echo = true;
	for (int i = 0; i < 400; i++) {
		for (uint64_t n = ferry_prng_below(&prng, 6); n > 0; n--)
			(void)request(&world->out, (uint32_t)ferry_prng_below(&prng, 2049));
		end = ferry_prng_below(&prng, 2) ? &world->out : &world->in;
		world->is_inside = true;
		switch (ferry_prng_below(&prng, 40)) {
		case 0:
			if (end->link)
				end->link->ops->reset(end->link, "chaos");
			break;
		case 1:
			ferry_tcp_link_enable(world->connector, false);
			ferry_tcp_link_enable(world->connector, true);
			break;
		case 2:
			ferry_tcp_listener_drop(world->listener, (struct ferry_node){1}, "chaos");
			break;
		case 3:
		case 4:
			end->is_hoarding = true;
			break;
		default:
			end->is_hoarding = false;
			if (end->is_waiting)
				end->link->ops->resume(end->link);
			break;
		}
		world->is_inside = false;
		turn(world);
	}
}

static void every_message_is_told_of_once(void **state)
{
	struct world *world = *state;

	for (uint64_t seed = 1; seed <= 6; seed++) {
		uint32_t messages;

		chaos(world, seed);
		world->in.is_hoarding = world->out.is_hoarding = false;
		WAIT(world, world->out.has_up && world->in.has_up);
		world->out.link->ops->reset(world->out.link, "and once more");
		WAIT(world, !world->out.has_up && !world->in.has_up);
		WAIT(world, world->out.has_up && world->in.has_up);
		messages = world->out.messages;
		WAIT(world, request(&world->out, 8) == 0);
		WAIT(world, world->out.messages == messages + 1);
		assert_int_equal(world->out.busy, 0);
	}
	print_message("%u times up, %u whole, %u nothing, %u unsure, %u dropped\n", world->out.ups,
		      world->out.whole + world->in.whole, world->out.nothing + world->in.nothing,
		      world->out.unsure + world->in.unsure, world->out.dropped + world->in.dropped);
	assert_true(world->out.whole > 100 && world->out.ups > 12);
	assert_true(world->out.nothing + world->in.nothing > 0);
	assert_true(world->out.unsure + world->in.unsure > 0);
	assert_true(world->out.dropped + world->in.dropped > 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, world_open, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(carries_data_both_ways),
		TEST(waits_for_room),
		TEST(gone_while_waiting),
		TEST(killed_within_a_message),
		TEST(every_message_is_told_of_once),
	};

	return cmocka_run_group_tests_name("tcp_message", tests, NULL, NULL);
}
