/* Requesters that break the protocol, whose link breaks, or who start anew. */
#include "agent/core/carrier_stand.h"

static void test_protocol(void **state)
{
	struct ferry_wire_header header = request(1, FERRY_OP_READ);

	(void)state;
	header.node.v = 3; /* In another's name. */
	say(&header);
	assert_int_equal(at.resets, 1);
	header = request(200, FERRY_OP_READ); /* Beyond the window. */
	say(&header);
	assert_int_equal(at.resets, 2);
	assert_int_equal(
		ferry_carrier_accept(&at.carrier, &at.link_in, (struct ferry_incarnation){3}),
		-ESTALE);
}

/* Data only with a WRITE; nothing but requests; no more of them than the window allows. */
static void test_protocol_of_data(void **state)
{
	struct ferry_wire_header header = request(1, FERRY_OP_WRITE);
	struct ferry_segments segments = {0};

	(void)state;
	header.op = FERRY_OP_READ;
	assert_int_equal(at.link_in.on_payload(&at.link_in, &header, &segments), -EPROTO);
	header = request(1, FERRY_OP_WRITE);
	header.type = FERRY_WIRE_LAY;
	assert_int_equal(at.link_in.on_payload(&at.link_in, &header, &segments), -EPROTO);
	header.type = FERRY_WIRE_PONG;
	header.payload_bytes = 0;
	say(&header);
	assert_int_equal(at.resets, 1);
	header = request(1 + FERRY_WIRE_WINDOW_MAX, FERRY_OP_FLUSH);
	say(&header); /* The first beyond it. */
	assert_int_equal(at.resets, 2);
	header = request(FERRY_WIRE_WINDOW_MAX, FERRY_OP_FLUSH);
	header.length_blocks = 0;
	say(&header);
	assert_int_equal(at.resets, 2);
	assert_int_equal(at.path.count, 1);
	header = request(2, FERRY_OP_READ);
	header.incarnation.v = 3; /* In its elder's name. */
	say(&header);
	assert_int_equal(at.resets, 3);
	header = request(3, FERRY_OP_WRITE);
	assert_int_equal(at.link_in.on_payload(&at.link_in, &header, &segments), 0);
	assert_int_equal(segments.length_bytes, 2 * STAND_BLOCK_BYTES);
	at.link_in.on_payload_dropped(&at.link_in, &header, &segments);
	assert_int_equal(segments.count, 0);
}

/* After a break: writes are answered by the new link, a read's data goes by none. */
static void test_link_breaks(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	struct ferry_wire_header read = request(2, FERRY_OP_READ);
	struct ferry_link again = {.ops = &link_ops, .node = {1}, .is_up = true};

	(void)state;
	say(&write);
	say(&read);
	at.link_in.is_up = false;
	at.link_in.on_down(&at.link_in, "test");
	assert_int_equal(ferry_carrier_accept(&at.carrier, &again, (struct ferry_incarnation){4}),
			 0);
	again.on_up(&again, (struct ferry_incarnation){4});
	stand_done(&at.path, 1);
	assert_int_equal(at.replies_count, 0);
	stand_done(&at.path, 0);
	assert_int_equal(at.replies_count, 1);
	assert_int_equal(at.replies[0].sequence, 1);
	assert_int_equal(at.replies[0].outcome, FERRY_OUTCOME_DONE);
	at.link_in.on_down(&at.link_in,
			   "late"); /* The old one's end takes nothing from the new one. */
	at.link_in = again;
	at.carrier.sessions[0].link = &at.link_in;
	read = request(3, FERRY_OP_READ);
	say(&read);
	stand_done(&at.path, 2);
	assert_int_equal(at.replies_count, 2);
}

/* A new agent of the same node: what the old one asked for is answered to nobody. */
static void test_requester_starts_anew(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	assert_int_equal(
		ferry_carrier_accept(&at.carrier, &at.link_in, (struct ferry_incarnation){5}), 0);
	assert_int_equal(at.resets, 1); /* The old connection. */
	stand_done(&at.path, 0);
	assert_int_equal(at.replies_count, 0);
	write.incarnation.v = 5;
	say(&write); /* The same number, and another request. */
	assert_int_equal(at.path.count, 2);
	assert_int_equal(at.carrier.stats.repeated, 0);
	stand_done(&at.path, 1);
	assert_int_equal(at.replies_count, 1);
}

/* The old one's write ends while the new one's of the same number runs: it is no answer to that. */
static void test_elder_ends_late(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	assert_int_equal(
		ferry_carrier_accept(&at.carrier, &at.link_in, (struct ferry_incarnation){5}), 0);
	write.incarnation.v = 5;
	say(&write);
	assert_int_equal(at.path.count, 2);
	stand_done(&at.path, 0);
	say(&write); /* Asked again, as after a break. */
	assert_int_equal(at.carrier.stats.repeated, 1);
	assert_int_equal(at.replies_count, 0);
	stand_done(&at.path, 1);
	assert_int_equal(at.replies_count, 1);
	assert_int_equal(at.replies[0].incarnation.v, 5);
	assert_int_equal(at.replies[0].outcome, FERRY_OUTCOME_DONE);
	say(&write);
	assert_int_equal(at.replies_count, 2);
}

static void test_cut(void **state)
{
	(void)state;
	ferry_carrier_cut(&at.carrier, "test");
	assert_int_equal(at.resets, 1);
	at.link_in.on_down(&at.link_in, "test");
	ferry_carrier_cut(&at.carrier, "test");
	assert_int_equal(at.resets, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, carrier_setup, carrier_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_protocol),	    TEST(test_protocol_of_data),
		TEST(test_link_breaks),	    TEST(test_requester_starts_anew),
		TEST(test_elder_ends_late), TEST(test_cut),
	};

	return cmocka_run_group_tests_name("carrier_link", tests, NULL, NULL);
}
