/* Power fencing and then the quiesce time: who is believed to be silent, and what follows for a
 * pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fencing/ownership_stand.h"

enum { QUIESCE_MS = 30000, LOOK_MS = 500 };

static struct ferry_power power;
static struct ferry_power_watch watch;
static struct ferry_power_report history;
static uint32_t looks;
static uint64_t wall_s; /* Goes on with whatever happens. */
static bool is_looking;

static void power_look(struct ferry_power *self)
{
	assert_ptr_equal(self, &power);
	assert_false(is_looking); /* One at a time. */
	is_looking = true;
	looks++;
}

static const struct ferry_power_ops power_ops = {.name = "stand", .look = power_look};

static void on_change(void *context)
{
	(void)context;
	ferry_ownership_power_news(&ownership);
}

/* The look under way ends: the history as it is. */
static void answer(void)
{
	assert_true(is_looking);
	is_looking = false;
	history.asked_s = history.answered_s = ++wall_s;
	power.on_report(&power, &history, NULL);
}

static void no_answer(void)
{
	assert_true(is_looking);
	is_looking = false;
	power.on_report(&power, NULL, "no answer");
}

/* Of the look under way, or of the next one that comes. */
static void answer_soon(void)
{
	if (!is_looking)
		stand_run_ms(&stand, 20000);
	answer();
}

static void fenced_entry(uint32_t node, enum ferry_power_result result)
{
	history.fencings[history.count++] = (struct ferry_power_fencing){
		.node = {node},
		.result = result,
		.ended_s = result == FERRY_POWER_PENDING ? 0 : ++wall_s};
}

static const struct ferry_power_node *known(uint32_t node)
{
	const struct ferry_power_node *found = &watch.nodes[node - 2]; /* All but this one. */

	assert_int_equal(found->node.v, node);
	return found;
}

static bool is_silent(uint32_t node)
{
	return known(node)->silent_ns != 0;
}

static void members_are(uint32_t count, bool is_quorate)
{
	struct ferry_members members = {.nodes = {{1}, {2}, {3}}, .count = count};

	ferry_power_watch_members(&watch, &members);
	ferry_power_watch_quorum(&watch, is_quorate);
	ring_of(count, is_quorate);
}

static void open_with(uint32_t nodes, bool has_reservations, uint64_t quiesce_ms)
{
	struct ferry_power_watch_config watching = {.loop = &stand.loop.loop,
						    .power = &power,
						    .self = {1},
						    .nodes = {{1}, {2}, {3}},
						    .nodes_count = nodes,
						    .on_change = on_change};
	struct ferry_ownership_config changed;
	struct ferry_error error;

	open_as(nodes, has_reservations);
	ferry_ownership_done(&ownership);
	power = (struct ferry_power){.ops = &power_ops};
	history = (struct ferry_power_report){.cuts_power = true};
	looks = 0;
	wall_s = 1000;
	is_looking = false;
	ferry_power_watch_init(&watch, &watching);
	changed = config;
	changed.quiesce_time_ns = quiesce_ms * FERRY_NS_PER_MS;
	changed.power = &watch;
	assert_int_equal(ferry_ownership_open(&ownership, &changed, &error), 0);
	members_are(nodes, true);
	speak(0, 0, 0);
	answer();
	assert_true(known(2)->is_clean);
}

static int begin(void **state)
{
	(void)state;
	open_with(3, /* has_reservations= */ false, QUIESCE_MS);
	return 0;
}

static int end(void **state)
{
	ferry_power_watch_done(&watch);
	return teardown(state);
}

/* Node 3 is gone, nodes 1 and 2 have drained; this one wants the pool. */
static void wait_without_third(void)
{
	members_are(2, true);
	speak(view.epoch.v, 0, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(ownership.claimed.v);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_DRAINING);
	assert_int_equal(takes, 0);
}

static void test_takes_after_the_quiesce_time(void **state)
{
	(void)state;
	wait_without_third();
	assert_true(ownership.is_quiescing);
	assert_true(ownership.quiesce_until_ns == 0);
	fenced_entry(3, FERRY_POWER_CUT);
	answer_soon();
	assert_true(is_silent(3));
	stand_run_ms(&stand, QUIESCE_MS - 1);
	assert_int_equal(takes, 0);
	assert_int_equal(view.dead.count, 0);
	stand_run_ms(&stand, 2);
	assert_int_equal(takes, 1);
	assert_int_equal(view.dead.count, 1);
	assert_int_equal(view.dead.of[0].node.v, 3);
	assert_true(view.dead.of[0].before.v == FERRY_DEAD_ALL);
	assert_true(drained.is_answered_for);
	ferry_ownership_taken(&ownership, ownership.claimed, 0);
	assert_int_equal(wish, 0);
}

/* It is back while the time runs: then it speaks for itself. */
static void test_comes_back(void **state)
{
	(void)state;
	wait_without_third();
	fenced_entry(3, FERRY_POWER_CUT);
	answer_soon();
	stand_run_ms(&stand, QUIESCE_MS / 2);
	members_are(3, true);
	assert_false(is_silent(3));
	stand_run_ms(&stand, QUIESCE_MS);
	assert_int_equal(takes, 0);
	assert_int_equal(view.dead.count, 0);
	/* And it leaves again: that fencing was before. */
	if (is_looking)
		answer();
	members_are(2, true);
	answer_soon();
	answer_soon();
	assert_false(is_silent(3));
	fenced_entry(3, FERRY_POWER_CUT);
	answer_soon();
	assert_true(is_silent(3));
}

/* What is under way at the first look may have cut the power before. */
static void test_under_way(void **state)
{
	(void)state;
	members_are(2, true);
	members_are(3, true);
	fenced_entry(3, FERRY_POWER_PENDING);
	answer_soon();
	assert_false(known(3)->is_clean);
	history.fencings[0].result = FERRY_POWER_CUT;
	history.fencings[0].ended_s = ++wall_s;
	members_are(2, true);
	answer_soon();
	assert_false(is_silent(3));
	assert_true(known(3)->is_clean);
}

/* An old one that the first look has not shown: times are whole seconds, and tell not even so. */
static void test_told_late(void **state)
{
	(void)state;
	members_are(2, true);
	members_are(3, true);
	answer(); /* Begun before it was back. */
	answer_soon();
	assert_true(known(3)->is_clean);
	fenced_entry(3, FERRY_POWER_CUT);
	history.fencings[0].ended_s = known(3)->clean_s;
	members_are(2, true);
	answer_soon();
	assert_false(is_silent(3));
	history.fencings[0].ended_s = known(3)->clean_s + 1;
	answer_soon();
	assert_true(is_silent(3));
}

/* It became a member while the history was read: neither the one thing nor the other. */
static void test_passed(void **state)
{
	(void)state;
	members_are(2, true);
	assert_true(is_looking); /* For node 3. */
	fenced_entry(3, FERRY_POWER_CUT);
	members_are(3, true);
	answer();
	assert_false(is_silent(3));
	assert_false(known(3)->is_clean);
	answer_soon();
	assert_true(known(3)->is_clean);
	assert_false(is_silent(3));
}

/* Apart from the majority, others may have had it. */
static void test_apart(void **state)
{
	(void)state;
	members_are(2, true);
	fenced_entry(3, FERRY_POWER_CUT);
	answer_soon();
	assert_true(is_silent(3));
	members_are(2, false);
	assert_false(is_silent(3));
	members_are(2, true);
	answer_soon();
	answer_soon();
	assert_false(is_silent(3));
	fenced_entry(3, FERRY_POWER_CUT);
	answer_soon();
	assert_true(is_silent(3));
	members_are(1, true); /* Quorum's word comes later. */
	assert_false(is_silent(3));
}

static void test_looks_less_and_less_often(void **state)
{
	uint32_t before;

	(void)state;
	stand_run_ms(&stand, 60000);
	assert_int_equal(looks, 1); /* All is known of those that are there. */
	members_are(2, true);
	assert_int_equal(looks, 2);
	for (int i = 0; i < 10; i++) {
		no_answer();
		stand_run_ms(&stand, 8000);
	}
	before = looks;
	no_answer();
	stand_run_ms(&stand, 7999);
	assert_int_equal(looks, before);
	stand_run_ms(&stand, 2);
	assert_int_equal(looks, before + 1);
	no_answer();
	ferry_power_watch_hurry(&watch);
	assert_int_equal(looks, before + 2);
	no_answer();
	stand_run_ms(&stand, 2 * LOOK_MS + 1);
	assert_int_equal(looks, before + 3);
}

/* An agent that was started anew has a forerunner; its writes may land for as long. */
static void test_elders_are_waited_for(void **state)
{
	struct ferry_group_message message;

	(void)state;
	message = message_of(FERRY_GROUP_STATE, 0, 0, 0);
	message.incarnation.v = 2;
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &message);
	stand_run_ms(&stand, 1000);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	ferry_ownership_drained(&ownership, (struct ferry_epoch){1});
	echo();
	hear(3, FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	message = message_of(FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	message.incarnation.v = 2;
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &message);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_DRAINING);
	stand_run_ms(&stand, QUIESCE_MS - 1001);
	assert_int_equal(takes, 0);
	stand_run_ms(&stand, 2);
	assert_int_equal(takes, 1);
	assert_false(drained.is_answered_for);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	assert_int_equal(wish, 0);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_OWNING);
}

static void hear_agent(uint32_t node, uint64_t incarnation)
{
	struct ferry_group_message message = message_of(FERRY_GROUP_STATE, 0, 0, 0);

	message.incarnation.v = incarnation;
	ferry_ownership_message(&ownership, (struct ferry_node){node}, &message);
}

/* What a peer's last agent has carried may land for as long, too; then it is dead. */
static void test_elders_are_dead_after_it(void **state)
{
	(void)state;
	stand_run_ms(&stand, 2 * QUIESCE_MS);
	assert_int_equal(view.dead.count, 0); /* First agents have no elders. */
	hear_agent(3, 4);
	stand_run_ms(&stand, QUIESCE_MS - 1);
	hear_agent(3, 4); /* Nothing new. */
	hear_agent(2, 7);
	assert_int_equal(view.dead.count, 0);
	stand_run_ms(&stand, 2);
	assert_int_equal(view.dead.count, 1);
	assert_int_equal(view.dead.of[0].node.v, 3);
	assert_int_equal(view.dead.of[0].before.v, 4);
	stand_run_ms(&stand, QUIESCE_MS);
	assert_int_equal(view.dead.count, 2);
	assert_int_equal(view.dead.of[0].node.v, 2);
	assert_int_equal(view.dead.of[0].before.v, 7);
	hear_agent(3, 5); /* And its time begins anew: an older one is as dead, but not told of. */
	members_are(3, true);
	assert_int_equal(view.dead.count, 1);
	stand_run_ms(&stand, QUIESCE_MS + 1);
	assert_int_equal(view.dead.count, 2);
	assert_int_equal(view.dead.of[1].before.v, 5);
}

/* Where the lun has reservations, or promises nothing, time proves nothing. */
static void test_elders_without_that_promise(void **state)
{
	static const struct {
		bool has_reservations;
		uint64_t quiesce_ms;
	} luns[] = {{true, QUIESCE_MS}, {false, 0}};

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(luns); i++) {
		(void)end(state);
		open_with(3, luns[i].has_reservations, luns[i].quiesce_ms);
		hear_agent(3, 4);
		stand_run_ms(&stand, 2 * QUIESCE_MS);
		members_are(3, true);
		assert_int_equal(view.dead.count, 0);
	}
}

/* A wish that waits can be withdrawn, and another's claim ends it. */
static void test_wait_ends(void **state)
{
	(void)state;
	wait_without_third();
	ferry_ownership_release(&ownership, (struct ferry_node){0});
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	fenced_entry(3, FERRY_POWER_CUT);
	answer_soon();
	stand_run_ms(&stand, 2 * QUIESCE_MS);
	assert_int_equal(takes, 0);
	assert_int_equal(view.dead.count, 1); /* Whoever owns it wants to know. */
}

/* Without a promise nothing follows from a fencing. */
static void test_no_promise(void **state)
{
	(void)state;
	(void)end(state);
	open_with(3, /* has_reservations= */ false, 0);
	members_are(2, true);
	fenced_entry(3, FERRY_POWER_CUT);
	answer_soon();
	assert_true(is_silent(3));
	speak(0, 0, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(1);
	assert_int_equal(wish, -EPERM);
	assert_int_equal(takes, 0);
	stand_run_ms(&stand, 2 * QUIESCE_MS);
	assert_int_equal(view.dead.count, 0);
}

/* Of two nodes the other has no voice any more. */
static void test_of_two(void **state)
{
	(void)state;
	(void)end(state);
	open_with(2, /* has_reservations= */ false, QUIESCE_MS);
	members_are(1, true);
	echo();
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	ferry_ownership_drained(&ownership, ownership.claimed);
	echo();
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_CLAIMING);
	fenced_entry(2, FERRY_POWER_CUT);
	answer_soon();
	assert_true(is_silent(2));
	for (int i = 0; i < 3; i++) { /* It has claimed anew since. */
		echo();
		ferry_ownership_drained(&ownership, ownership.claimed);
		stand_run_ms(&stand, RESEND_MS);
	}
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_DRAINING);
	assert_int_equal(takes, 0);
	stand_run_ms(&stand, QUIESCE_MS);
	assert_int_equal(takes, 1);
}

static void test_what_devices_do(void **state)
{
	(void)state;
	assert_true(watch.cuts_power);
	members_are(2, true);
	no_answer();
	assert_true(watch.cuts_power);
	history.cuts_power = false;
	answer_soon();
	assert_false(watch.cuts_power);
}

int main(void)
{
#define RUN(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		RUN(test_takes_after_the_quiesce_time),
		RUN(test_comes_back),
		RUN(test_under_way),
		RUN(test_told_late),
		RUN(test_passed),
		RUN(test_apart),
		RUN(test_looks_less_and_less_often),
		RUN(test_elders_are_waited_for),
		RUN(test_elders_are_dead_after_it),
		RUN(test_elders_without_that_promise),
		RUN(test_wait_ends),
		RUN(test_no_promise),
		RUN(test_of_two),
		RUN(test_what_devices_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
