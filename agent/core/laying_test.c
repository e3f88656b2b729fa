/* Whom to ask to kill a nexus, and what counts as an answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/engine_stand.h"

enum { RETRY_MS = 150 };

static void open_fenced(void)
{
	engine_open((struct engine_wish){.has_fence = true, .peers_count = 2});
	join();
}

/* This node owns the pool, and both peers' agents are there. */
static void own_with_peers(void)
{
	open_fenced();
	own();
	peer_up(0, 40);
	peer_up(1, 50);
}

static struct ferry_lane *lane_of(uint32_t peer)
{
	return &at.engine.router.lanes[1 + peer];
}

/* As after an UNKNOWN: nothing goes by the nexus any more. */
static void want_own(void)
{
	ferry_registrar_note_laid(&at.engine.registrar);
	ferry_lane_allow(local(), false, "test");
	ferry_laying_want(&at.engine.laying, local());
	run_ms(1);
}

static void refuse(uint32_t peer)
{
	reply(peer, FERRY_WIRE_LAY, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNHEALTHY);
}

/* One that cannot does not stand in the way. */
static void test_asks_another_each_time(void **state)
{
	uint32_t asked_count[2] = {0};

	(void)state;
	own_with_peers();
	want_own();
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t peer = sent(0, FERRY_WIRE_LAY) ? 0 : 1;

		assert_non_null(sent(peer, FERRY_WIRE_LAY));
		assert_null(sent(!peer, FERRY_WIRE_LAY)); /* One at a time. */
		asked_count[peer]++;
		refuse(peer);
		run_ms(RETRY_MS + 1);
	}
	assert_int_equal(asked_count[0], 4);
	assert_int_equal(asked_count[1], 4);
	assert_int_equal(at.engine.laying.failures, 8);
	assert_int_equal(at.engine.router.resets_asked, 1);
	ferry_laying_want(&at.engine.laying, local()); /* One wish. */
	run_ms(1);
	reply(sent(0, FERRY_WIRE_LAY) ? 0 : 1, FERRY_WIRE_LAY, FERRY_OUTCOME_DONE,
	      FERRY_CAUSE_NONE);
	assert_false(ferry_laying_is_wanted(&at.engine.laying, local()));
	assert_int_equal(at.engine.router.resets_asked, 0);
	run_ms(RETRY_MS + 1);
	assert_null(sent(0, FERRY_WIRE_LAY));
	assert_null(sent(1, FERRY_WIRE_LAY));
}

/* A reset that the owner was not told of looks to it like a loss: it is the one to ask. */
static void test_asks_the_owner_first(void **state)
{
	(void)state;
	open_fenced();
	at.view.owner.v = 3;
	at.view.is_in_force = false;
	look();
	peer_up(0, 40);
	peer_up(1, 50);
	want_own();
	for (uint32_t i = 0; i < 4; i++) {
		assert_null(sent(0, FERRY_WIRE_LAY));
		if (sent(1, FERRY_WIRE_LAY)) /* Not each time. */
			refuse(1);
		run_ms(RETRY_MS + 1);
	}
	assert_true(at.engine.laying.failures >= 3);
	if (sent(1, FERRY_WIRE_LAY))
		refuse(1);
	at.peers[1].link.is_up = false; /* It cannot be reached, for a while: */
	at.peers[1].peer.paths[0].path.is_up = false;
	run_ms(10 * (RETRY_MS + 1));
	assert_null(sent(0, FERRY_WIRE_LAY)); /* a moment later, then... */
	run_ms(6 * (RETRY_MS + 1));
	assert_non_null(sent(0, FERRY_WIRE_LAY)); /* ...or never. */
	assert_null(asked(FERRY_FENCE_RESET));
}

/* It fails and fails: the target may have lost the registrations beneath a session that lives. */
static void test_looks_at_the_keys_when_it_takes_long(void **state)
{
	(void)state;
	open_fenced();
	own();
	peer_up(0, 40);
	want_own();
	for (uint32_t i = 1; i <= 8; i++) {
		assert_null(asked(FERRY_FENCE_READ_KEYS));
		refuse(0);
		run_ms(RETRY_MS + 1);
	}
	assert_non_null(asked(FERRY_FENCE_READ_KEYS));
}

/* Nothing is asked again when it is over. */
static void test_answer_after_the_end(void **state)
{
	(void)state;
	open_fenced();
	own();
	peer_up(0, 40);
	want_own();
	ferry_laying_done(&at.engine.laying);
	refuse(0);
	assert_false(ferry_timer_is_started(&at.engine.laying.retry_timer));
}

/* An owner that is no member any more is not waited for. */
static void test_owner_has_left(void **state)
{
	(void)state;
	open_fenced();
	at.view.owner.v = 3;
	at.view.is_in_force = false;
	at.view.members.count = 2;
	look();
	peer_up(0, 40);
	want_own();
	assert_non_null(sent(0, FERRY_WIRE_LAY));
}

/* Those without a path for I/O may still have a session and a key: asked every other time. */
static void test_asks_those_without_a_path(void **state)
{
	(void)state;
	own_with_peers();
	ferry_engine_set_peer_has_path(&at.engine, (struct ferry_node){3}, false);
	want_own();
	for (uint32_t i = 0; i < 4; i++) {
		if (i % 2 == 0) {
			assert_null(sent(0, FERRY_WIRE_LAY));
			refuse(1);
		} else {
			assert_null(sent(1, FERRY_WIRE_LAY));
			refuse(0);
		}
		run_ms(RETRY_MS + 1);
	}
}

/* Nobody can be asked: a reset ends everybody's commands, so only if nobody else owns the pool. */
static void test_resets_what_nobody_else_owns(void **state)
{
	static const uint32_t owners[] = {0, 1, 2};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(owners); i++) {
		open_fenced();
		at.view.members.count = 1;
		at.view.owner.v = owners[i];
		at.view.is_in_force = false;
		look();
		want_own();
		run_ms(5 * RETRY_MS);
		if (owners[i] == 2) {
			assert_null(asked(FERRY_FENCE_RESET));
			break;
		}
		assert_non_null(asked(FERRY_FENCE_RESET));
		answer(FERRY_FENCE_RESET, 0);
		assert_false(ferry_laying_is_wanted(&at.engine.laying, local()));
		assert_int_equal(engine_teardown(NULL), 0);
	}
}

/* A peer's nexus: by this node itself if it has a path, or by another, never by the victim. */
static void test_peers_nexus(void **state)
{
	(void)state;
	own_with_peers();
	ferry_laying_want(&at.engine.laying, lane_of(0));
	run_ms(1);
	assert_true(asked(FERRY_FENCE_PREEMPT)->victim.v == key(2, 40).v);
	at.path.path.is_up = false;
	answer(FERRY_FENCE_PREEMPT, -ENOTCONN);
	for (uint32_t i = 0; i < 4; i++) {
		run_ms(RETRY_MS + 1);
		assert_null(asked(FERRY_FENCE_PREEMPT));
		assert_null(asked(FERRY_FENCE_RESET));
		assert_null(sent(0, FERRY_WIRE_LAY));
		assert_true(sent(1, FERRY_WIRE_LAY)->victim_key == key(2, 40).v);
		refuse(1);
	}
	assert_true(local()->is_allowed);
	at.path.path.is_up = true;
	for (uint32_t i = 0; i < 3 && !asked(FERRY_FENCE_PREEMPT); i++) {
		if (sent(1, FERRY_WIRE_LAY))
			refuse(1);
		run_ms(RETRY_MS + 1);
	}
	answer(FERRY_FENCE_PREEMPT, -EACCES); /* Its own key is gone: that is news. */
	assert_false(local()->is_allowed);
	assert_true(ferry_laying_is_wanted(&at.engine.laying, lane_of(0)));
}

/* Every third time a peer, though this node could: it may be its own path that cannot. */
static void test_peers_nexus_by_turns(void **state)
{
	uint32_t by_self = 0;
	uint32_t by_peer = 0;

	(void)state;
	own_with_peers();
	ferry_laying_want(&at.engine.laying, lane_of(0));
	run_ms(1);
	for (uint32_t i = 0; i < 9; i++) {
		if (asked(FERRY_FENCE_PREEMPT)) {
			by_self++;
			answer(FERRY_FENCE_PREEMPT, -EIO);
		} else {
			by_peer++;
			refuse(1);
		}
		run_ms(RETRY_MS + 1);
	}
	assert_int_equal(by_self, 6);
	assert_int_equal(by_peer, 3);
}

/*
 * The answer counts for what was in flight when it was asked for. A peer whose link is back before
 * that is not asked for it again: it would execute it after the abort.
 */
static void test_gives_up_what_is_in_flight(void **state)
{
	struct ferry_link *link = &at.peers[0].link;
	struct ferry_message *write;

	(void)state;
	own_with_peers();
	at.path.path.is_up = false;
	ferry_engine_set_peer_has_path(&at.engine, at.peers[1].link.node, false);
	submit(0, FERRY_OP_WRITE, 8);
	run_ms(1);
	assert_int_equal(sent(0, FERRY_WIRE_REQUEST)->op, FERRY_OP_WRITE);
	write = TAKE_PTR(at.peers[0].sent[at.peers[0].sent_count - 1]);
	write->on_sent(write, FERRY_SENT_WHOLE);
	ferry_laying_want(&at.engine.laying, lane_of(0));
	run_ms(1);
	assert_non_null(sent(1, FERRY_WIRE_LAY));
	link->is_up = false;
	link->on_down(link, "test");
	assert_int_equal(at.engine.router.ghosts_count, 1);
	peer_up(0, 40);
	assert_int_equal(at.results[0], 1); /* One ghost there is enough. */
	reply(1, FERRY_WIRE_LAY, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(at.engine.router.ghosts_count, 0);
	run_ms(100); /* It is avoided for that long. */
	reply(0, FERRY_WIRE_REQUEST, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(at.results[0], 0);
}

/* It is known to be dead by other means: the answer is no news, unless there are new ones. */
static void test_settled_meanwhile(void **state)
{
	(void)state;
	open_fenced();
	own();
	peer_up(0, 40);
	ferry_laying_want(&at.engine.laying, lane_of(0));
	ferry_laying_settle(&at.engine.laying, lane_of(0)); /* Before anybody was asked. */
	run_ms(RETRY_MS);
	assert_null(asked(FERRY_FENCE_PREEMPT));
	ferry_laying_want(&at.engine.laying, lane_of(0));
	run_ms(1);
	assert_non_null(asked(FERRY_FENCE_PREEMPT));
	ferry_laying_settle(&at.engine.laying, lane_of(0));
	assert_false(ferry_laying_is_wanted(&at.engine.laying, lane_of(0)));
	answer(FERRY_FENCE_PREEMPT, -EIO);
	run_ms(RETRY_MS + 1);
	assert_null(asked(FERRY_FENCE_PREEMPT));
	ferry_laying_want(&at.engine.laying, lane_of(0));
	run_ms(1);
	ferry_laying_settle(&at.engine.laying, lane_of(0));
	ferry_laying_want(&at.engine.laying, lane_of(0));
	assert_true(ferry_laying_is_wanted(&at.engine.laying, lane_of(0)));
	answer(FERRY_FENCE_PREEMPT, 0); /* Of the ones before. */
	assert_true(ferry_laying_is_wanted(&at.engine.laying, lane_of(0)));
	run_ms(1);
	answer(FERRY_FENCE_PREEMPT, 0);
	assert_false(ferry_laying_is_wanted(&at.engine.laying, lane_of(0)));
	assert_int_equal(at.engine.router.resets_asked, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_teardown(name, engine_teardown)
		TEST(test_asks_another_each_time),
		TEST(test_asks_the_owner_first),
		TEST(test_looks_at_the_keys_when_it_takes_long),
		TEST(test_answer_after_the_end),
		TEST(test_owner_has_left),
		TEST(test_asks_those_without_a_path),
		TEST(test_resets_what_nobody_else_owns),
		TEST(test_peers_nexus),
		TEST(test_peers_nexus_by_turns),
		TEST(test_gives_up_what_is_in_flight),
		TEST(test_settled_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
