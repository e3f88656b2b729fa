/* To RDMA, away from it, and back: nothing is lost, nothing is carried twice, nothing hangs. */
#include "agent/transport/transport_stand.h"

static struct stand_half *const tcp_1 = &w.tcp[0];
static struct stand_half *const tcp_2 = &w.tcp[1];
static struct stand_half *const rdma_1 = &w.rdma[0];
static struct stand_half *const rdma_2 = &w.rdma[1];

static bool is_rdma(void)
{
	return ferry_outgoing_is_rdma(&w.out);
}

/* Both are up, and nothing is in flight. */
static void both_up(void)
{
	tcp_connect();
	assert_true(w.is_raised);
	assert_int_equal(rdma_connect(), 0);
	run();
	assert_true(is_rdma());
}

static void write_whole(uint32_t i)
{
	submit(i, FERRY_OP_WRITE);
	run();
	assert_int_equal(carried(i), 1);
	carried_done(i);
	run();
	expect_done(i);
}

static void test_tcp_alone(void **state)
{
	(void)state;
	assert_false(w.out.link.is_up);
	tcp_connect();
	assert_int_equal(w.ups, 1);
	write_whole(0);
	assert_int_equal(tcp_2->requests, 1);
	assert_string_equal(w.out.link.ops->name, "tcp");
	cut(tcp_1, "test");
	assert_int_equal(w.downs, 1);
	assert_false(w.is_raised);
}

/* The core does not see it; the carrier hears of another link. */
static void test_goes_to_rdma(void **state)
{
	uint32_t number;

	(void)state;
	tcp_connect();
	write_whole(0);
	assert_int_equal(rdma_connect(), 0);
	assert_true(is_rdma());
	assert_string_equal(w.out.link.ops->name, "rdma");
	number = at.carrier.sessions[0].link_number;
	write_whole(1);
	submit(2, FERRY_OP_READ);
	run();
	carried_done(2);
	run();
	expect_done(2);
	assert_int_equal(tcp_2->requests, 1);
	assert_int_equal(rdma_2->requests, 2);
	assert_int_equal(at.carrier.sessions[0].link_number, number + 1);
	assert_int_equal(w.ups, 1);
	assert_int_equal(w.downs, 0);
	assert_true(tcp_1->link.is_up && tcp_2->link.is_up);
}

/* What is in flight on TCP ends there; what comes meanwhile is held, and goes by RDMA. */
static void test_goes_under_load(void **state)
{
	(void)state;
	tcp_connect();
	submit(0, FERRY_OP_WRITE);
	run();
	assert_int_equal(rdma_connect(), 0);
	assert_false(is_rdma());
	submit(1, FERRY_OP_WRITE);
	submit(2, FERRY_OP_READ);
	run();
	assert_int_equal(carried(1) + carried(2), 0);
	carried_done(0);
	run();
	assert_true(is_rdma());
	assert_int_equal(carried(1), 1);
	assert_int_equal(rdma_2->requests, 2);
	carried_done(1);
	carried_done(2);
	run();
	for (uint32_t i = 0; i < 3; i++)
		expect_done(i);
	assert_int_equal(w.downs, 0);
}

/* Something takes long: what was held goes by TCP, and it is tried again. */
static void test_holds_for_a_bounded_time(void **state)
{
	(void)state;
	tcp_connect();
	submit(0, FERRY_OP_WRITE);
	run();
	assert_int_equal(rdma_connect(), 0);
	submit(1, FERRY_OP_WRITE);
	stand_run_ms(&at.stand, 190);
	run();
	assert_int_equal(carried(1), 0);
	stand_run_ms(&at.stand, 20);
	run();
	assert_int_equal(carried(1), 1);
	assert_int_equal(tcp_2->requests, 2);
	submit(2, FERRY_OP_WRITE); /* Nothing is held while it rests. */
	run();
	assert_int_equal(carried(2), 1);
	for (uint32_t i = 0; i < 3; i++)
		carried_done(i);
	run();
	assert_false(is_rdma());
	stand_run_ms(&at.stand, 1000);
	assert_true(is_rdma());
	write_whole(3);
	assert_int_equal(rdma_2->requests, 1);
}

/* One that was given up, and never answered, keeps nobody from going when its place is taken. */
static void test_goes_past_what_was_abandoned(void **state)
{
	(void)state;
	tcp_connect();
	submit(0, FERRY_OP_WRITE);
	run();
	w.via->path.ops->abandon(&w.via->path, &w.ios[0].attempt);
	run();
	assert_int_equal(w.ios[0].outcome, FERRY_OUTCOME_UNKNOWN);
	w.peer.sequence_next += FERRY_WIRE_WINDOW_MAX - 1;
	w.peer.sequence_floor = w.peer.sequence_next;
	write_whole(1);
	assert_int_equal(rdma_connect(), 0);
	assert_true(is_rdma());
	carried_done(0); /* An answer that nobody wants. */
	run();
	write_whole(2);
}

static void test_rdma_falls_while_held(void **state)
{
	(void)state;
	tcp_connect();
	submit(0, FERRY_OP_WRITE);
	run();
	assert_int_equal(rdma_connect(), 0);
	submit(1, FERRY_OP_WRITE);
	cut(rdma_1, "test");
	run();
	assert_int_equal(carried(1), 1);
	assert_int_equal(tcp_2->requests, 2);
	carried_done(0);
	carried_done(1);
	run();
	expect_done(1);
	assert_int_equal(w.downs, 0);
}

/* Nothing of what was held has left: it ends FAILED, not UNKNOWN. */
static void test_tcp_falls_while_held(void **state)
{
	(void)state;
	tcp_connect();
	submit(0, FERRY_OP_WRITE);
	run();
	assert_int_equal(rdma_connect(), 0);
	submit(1, FERRY_OP_WRITE);
	cut(tcp_1, "test");
	run();
	assert_false(w.out.link.is_up);
	assert_false(rdma_1->link.is_up);
	assert_int_equal(w.ios[1].outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(w.ios[1].cause, FERRY_CAUSE_UNSENT);
	assert_int_equal(w.ios[0].outcome, 0); /* It asks again, by its number. */
	carried_done(0);
	tcp_connect();
	run();
	expect_done(0);
	assert_int_equal(carried(0), 1);
}

/* Its writes are asked for again by TCP, by their numbers; a read ends, and may be tried anew. */
static void test_rdma_falls_in_flight(void **state)
{
	(void)state;
	both_up();
	submit(0, FERRY_OP_WRITE); /* Is carried. */
	submit(1, FERRY_OP_READ);
	run();
	submit(2, FERRY_OP_WRITE); /* Is on its way. */
	cut(rdma_1, "test");
	assert_int_equal(w.downs, 1);
	assert_int_equal(w.ups, 2);
	assert_int_equal(w.ios[1].outcome, FERRY_OUTCOME_UNKNOWN);
	run();
	assert_int_equal(carried(0), 1);
	assert_int_equal(carried(2), 1);
	for (uint32_t i = 0; i < 3; i++)
		carried_done(i);
	run();
	expect_done(0);
	expect_done(2);
	assert_int_equal(tcp_2->requests, 2);
}

/* The other end is the first to know: the same. */
static void test_rdma_falls_at_the_carrier(void **state)
{
	(void)state;
	both_up();
	submit(0, FERRY_OP_WRITE);
	run();
	cut(rdma_2, "test");
	carried_done(0); /* The answer goes by TCP: the peer will hear that RDMA fell. */
	run();
	expect_done(0);
	assert_int_equal(carried(0), 1);
	write_whole(1);
	assert_int_equal(tcp_2->requests, 1);
}

/* RDMA fell at the carrier: what the peer sends by TCP is heard of by nobody yet, and cut too. */
static void test_carrier_cuts_what_follows_rdma(void **state)
{
	(void)state;
	both_up();
	write_whole(0);
	submit(1, FERRY_OP_WRITE);
	cut(rdma_2, "test");
	cut(rdma_1, "test");
	assert_int_equal(tcp_2->inbox_count, 1); /* Asked again. */
	w.ios[1].attempt.is_given_up = true;
	ferry_carrier_cut(&at.carrier, "test");
	assert_false(deliver(tcp_2));
	run();
	assert_int_equal(w.ios[1].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(carried(1), 0);
}

/* It went to RDMA and back before the carrier had heard anything there. */
static void test_unheard_rdma_is_not_heard(void **state)
{
	(void)state;
	both_up();
	submit(0, FERRY_OP_WRITE);
	w.ios[0].attempt.is_given_up = true;
	cut(rdma_1, "test");
	assert_int_equal(rdma_2->inbox_count, 1);
	submit(1, FERRY_OP_READ);
	assert_true(deliver(tcp_2));
	assert_int_equal(carried(1), 1);
	assert_true(deliver(rdma_2));
	assert_false(rdma_2->link.is_up);
	run();
	assert_int_equal(carried(0), 0);
	carried_done(1);
	run();
	expect_done(1);
}

/* A connection that was cut vouches for nothing, though it has not said yet that it is down. */
static void test_cut_tcp_vouches_for_nothing(void **state)
{
	(void)state;
	tcp_connect();
	ferry_carrier_cut(&at.carrier, "test");
	assert_int_equal(ferry_incoming_rdma(&w.in, &rdma_2->link, (struct ferry_incarnation){4}),
			 -ENOTCONN);
	run();
}

/* The socket could not be watched: it is cut before it says that it is up. */
static void test_tcp_is_cut_as_it_comes_up(void **state)
{
	(void)state;
	tcp_1->is_cut = true;
	tcp_1->link.on_up(&tcp_1->link, (struct ferry_incarnation){9});
	assert_int_equal(w.ups, 0);
	settle(tcp_1);
	assert_int_equal(w.downs, 0);
	tcp_connect();
	write_whole(0);
}

/* What lies unread at the carrier when the peer goes back to TCP is never heard. */
static void test_late_rdma_is_not_heard(void **state)
{
	(void)state;
	both_up();
	write_whole(0);
	submit(1, FERRY_OP_WRITE);
	w.ios[1].attempt.is_given_up = true; /* It took too long. */
	cut(rdma_1, "test");
	assert_int_equal(w.ios[1].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(rdma_2->inbox_count, 1);
	submit(2, FERRY_OP_WRITE); /* By TCP. */
	assert_true(deliver(tcp_2));
	assert_false(rdma_2->link.is_up);
	assert_false(deliver(rdma_2));
	run();
	assert_int_equal(carried(1), 0);
	carried_done(2);
	run();
	expect_done(2);
}

/* A registration was lost: nothing that was sent before is heard, by neither. */
static void test_carrier_cuts_both(void **state)
{
	(void)state;
	both_up();
	write_whole(0);
	submit(1, FERRY_OP_WRITE);
	ferry_carrier_cut(&at.carrier, "test");
	assert_false(deliver(rdma_2));
	assert_false(tcp_2->link.is_up);
	run();
	assert_int_equal(carried(1), 0);
	assert_false(tcp_1->link.is_up || rdma_1->link.is_up);
	tcp_connect();
	run();
	assert_int_equal(carried(1), 1); /* It asks anew. */
	carried_done(1);
	run();
	expect_done(1);
}

/* TCP's end is RDMA's, at both ends. It has not failed itself, and need not rest. */
static void test_tcp_falls_under_rdma(void **state)
{
	(void)state;
	both_up();
	submit(0, FERRY_OP_WRITE);
	run();
	cut(tcp_1, "test");
	assert_false(w.is_raised || rdma_1->link.is_up);
	assert_true(w.out.link.is_up); /* Until RDMA has told of all that it had. */
	run();
	assert_false(w.out.link.is_up);
	tcp_connect();
	assert_int_equal(rdma_connect(), 0);
	run();
	carried_done(0);
	run();
	expect_done(0);
	assert_int_equal(carried(0), 1);
	assert_true(is_rdma());
	cut(tcp_2, "test");
	assert_false(rdma_2->link.is_up || w.in.link.is_up);
	settle(rdma_2);
	assert_int_equal(rdma_connect(), -ENOTCONN);
}

/* TCP is back before RDMA has said that it fell. */
static void test_tcp_is_back_at_once(void **state)
{
	(void)state;
	both_up();
	submit(0, FERRY_OP_WRITE);
	run();
	cut(tcp_1, "test");
	tcp_connect();
	assert_int_equal(w.ups, 1);
	run();
	assert_int_equal(w.ups, 2);
	assert_int_equal(w.downs, 1);
	assert_true(w.out.link.is_up && !is_rdma());
	carried_done(0);
	run();
	expect_done(0);
	assert_int_equal(carried(0), 1);
}

/* Another agent was started there: what it has by RDMA is not what TCP had. */
static void test_of_another_incarnation(void **state)
{
	(void)state;
	tcp_connect();
	rdma_1->link.is_up = true;
	rdma_1->link.on_up(&rdma_1->link, (struct ferry_incarnation){10});
	assert_false(rdma_1->link.is_up);
	assert_false(is_rdma());
	assert_int_equal(ferry_incoming_rdma(&w.in, &rdma_2->link, (struct ferry_incarnation){5}),
			 -ENOTCONN);
	settle(rdma_1);
	write_whole(0);
}

/* After a fall RDMA rests, longer each time, up to a bound; having carried long it is trusted. */
static void test_flapping(void **state)
{
	uint64_t rest_ms = 1000;

	(void)state;
	both_up();
	for (uint32_t i = 0; i < 10; i++) {
		cut(rdma_1, "test");
		run();
		assert_int_equal(rdma_connect(), 0);
		assert_false(is_rdma());
		stand_run_ms(&at.stand, rest_ms - 50);
		assert_false(is_rdma());
		write_whole(i);
		stand_run_ms(&at.stand, 50);
		assert_true(is_rdma());
		rest_ms = ferry_min_u64(2 * rest_ms, 300000);
	}
	assert_int_equal(tcp_2->requests, 10);
	stand_run_ms(&at.stand, 61000);
	cut(rdma_1, "test");
	run();
	assert_int_equal(rdma_connect(), 0);
	stand_run_ms(&at.stand, 1000);
	assert_true(is_rdma());
}

static void test_rdma_only(void **state)
{
	(void)state;
	tcp_connect();
	assert_false(w.out.link.is_up);
	assert_int_equal(rdma_connect(), 0);
	assert_true(w.out.link.is_up);
	write_whole(0);
	cut(rdma_1, "test");
	run();
	assert_false(w.out.link.is_up);
	assert_int_equal(rdma_connect(), 0);
	write_whole(1);
	assert_int_equal(tcp_2->requests, 0);
	assert_int_equal(rdma_2->requests, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, transport_setup, transport_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_tcp_alone),
		TEST(test_goes_to_rdma),
		TEST(test_goes_under_load),
		TEST(test_holds_for_a_bounded_time),
		TEST(test_goes_past_what_was_abandoned),
		TEST(test_rdma_falls_while_held),
		TEST(test_tcp_falls_while_held),
		TEST(test_rdma_falls_in_flight),
		TEST(test_rdma_falls_at_the_carrier),
		TEST(test_late_rdma_is_not_heard),
		TEST(test_unheard_rdma_is_not_heard),
		TEST(test_carrier_cuts_what_follows_rdma),
		TEST(test_cut_tcp_vouches_for_nothing),
		TEST(test_tcp_is_cut_as_it_comes_up),
		TEST(test_carrier_cuts_both),
		TEST(test_tcp_falls_under_rdma),
		TEST(test_tcp_is_back_at_once),
		TEST(test_of_another_incarnation),
		TEST(test_flapping),
		cmocka_unit_test_setup_teardown(test_rdma_only, transport_setup_rdma_only,
						transport_teardown),
	};

	return cmocka_run_group_tests_name("transport", tests, NULL, NULL);
}
