/* One node's part in who owns a pool: what it claims, saves, publishes and waits for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/key.h"
#include "fencing/ownership_stand.h"

/* ---- The disk. ---- */

static void test_opens_with_what_is_stored(void **state)
{
	struct ferry_ownership other;
	struct ferry_error error;
	struct ferry_ownership_config others = config;

	(void)state;
	assert_int_equal(view.epoch.v, 0);
	own(1);
	assert_int_equal(ferry_ownership_open(&other, &config, &error), 0);
	assert_int_equal(other.view.epoch.v, 1);
	assert_true(other.was_owner);
	assert_int_equal(other.view.owner.v, 0); /* It has just started: nobody serves. */
	assert_false(view.is_in_force);
	stored_bytes--;
	assert_int_equal(ferry_ownership_open(&other, &config, &error), -EBADMSG);
	stored_bytes = 0;
	assert_int_equal(ferry_ownership_open(&other, &config, &error), -EBADMSG);
	stored_bytes = -EIO;
	assert_int_equal(ferry_ownership_open(&other, &config, &error), -EIO);
	stored_bytes = 28;
	others.lineage.bytes[0] = 6;
	assert_int_equal(ferry_ownership_open(&other, &others, &error), -EBADMSG);
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0); /* Another has it by now. */
	assert_int_equal(ferry_ownership_open(&other, &config, &error), 0);
	assert_int_equal(other.view.epoch.v, 2);
	assert_false(other.was_owner);
}

/* Since when it has been this node's alone: an agent after the next one knows it, too. */
static void test_tenure(void **state)
{
	struct ferry_ownership next;
	struct ferry_error error;

	(void)state;
	own(1);
	assert_int_equal(ownership.tenure.v, 1);
	ferry_ownership_preempted(&ownership); /* It takes its own pool anew. */
	all_drain(2);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	echo();
	assert_int_equal(ownership.tenure.v, 1);
	assert_int_equal(ownership.tenure_last.v, 2);
	hear(2, FERRY_GROUP_CLAIM, 3, 2, 0); /* Another has it... */
	assert_int_equal(ferry_ownership_open(&next, &config, &error), 0);
	assert_int_equal(next.tenure.v, 1); /* ...which is nothing of this node's. */
	assert_int_equal(next.tenure_last.v, 2);
	hear(2, FERRY_GROUP_RELEASE, 3, 0, 0);
	own(4);
	assert_int_equal(ownership.tenure.v, 4);
	/* Should its agent die at once: the next one does not take it for its elder's elder's. */
	assert_int_equal(ferry_ownership_open(&next, &config, &error), 0);
	assert_int_equal(next.tenure.v, 4);
	assert_int_equal(next.tenure_last.v, 4);
}

/* By a person's word: the newest epoch's number may be the same, and another node's. */
static void test_tenure_by_force(void **state)
{
	(void)state;
	own(1);
	ferry_ownership_preempted(&ownership);
	all_drain(2);
	ownership.is_forced = true;
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	echo();
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_OWNING);
	assert_int_equal(ownership.tenure.v, 2);
}

static void test_acknowledges_nothing_unsaved(void **state)
{
	(void)state;
	own(1);
	echo();
	says[FERRY_GROUP_ACK] = 0;
	save_error = -EIO;
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	assert_int_equal(says[FERRY_GROUP_ACK], 0);
	assert_int_equal(view.epoch.v, 1);
	assert_int_equal(view.owner.v, 0); /* But nobody owns by the older one any more. */
	assert_false(view.is_in_force);
	save_error = 0;
	hear(2, FERRY_GROUP_IN_FORCE, 2, 2, 0);
	assert_int_equal(view.epoch.v, 2);
	assert_int_equal(view.owner.v, 2);
	assert_true(view.is_in_force);
	assert_int_equal(ownership.settled.v, 2);
}

static void test_claims_nothing_unsaved(void **state)
{
	(void)state;
	save_error = -ENOSPC;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	assert_int_equal(wishes, 1);
	assert_int_equal(wish, -EIO);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	assert_int_equal(says[FERRY_GROUP_ACK], 0);
}

/* An agent that is started anew asks for what its node owned; once. */
static void test_reclaims(void **state)
{
	struct ferry_error error;

	(void)state;
	own(1);
	ferry_ownership_done(&ownership);
	assert_int_equal(ferry_ownership_open(&ownership, &config, &error), 0);
	said_count = 0;
	ring_of(3, true);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	speak(1, 0, 0);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 2);
	all_drain(2);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	assert_int_equal(wish, 0);
	assert_true(view.is_in_force);
}

/* ---- Becoming the owner. ---- */

static void test_claims_drains_takes(void **state)
{
	(void)state;
	assert_true(view.is_quorate);
	assert_int_equal(view.members.count, 3);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 1);
	assert_int_equal(last[FERRY_GROUP_CLAIM].owner.v, 1);
	assert_int_equal(view.owner.v, 0);
	echo();
	assert_int_equal(view.epoch.v, 1);
	assert_int_equal(view.owner.v, 1);
	assert_false(view.is_in_force);
	assert_int_equal(says[FERRY_GROUP_ACK], 1);
	assert_int_equal(last[FERRY_GROUP_ACK].flags, 0);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_CLAIMING); /* One of three. */
	hear(2, FERRY_GROUP_ACK, 1, 2, FERRY_GROUP_DRAINED);	     /* For another's claim. */
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_CLAIMING);
	hear(2, FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_DRAINING);
	hear(3, FERRY_GROUP_ACK, 1, 1, 0);
	ferry_ownership_drained(&ownership, (struct ferry_epoch){0}); /* Of an older one. */
	assert_int_equal(says[FERRY_GROUP_ACK], 1);
	ferry_ownership_drained(&ownership, (struct ferry_epoch){1});
	ferry_ownership_drained(&ownership, (struct ferry_epoch){1});
	assert_int_equal(says[FERRY_GROUP_ACK], 2);
	assert_int_equal(last[FERRY_GROUP_ACK].flags, FERRY_GROUP_DRAINED);
	echo();
	assert_int_equal(takes, 0);
	hear(3, FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	assert_int_equal(takes, 1);
	assert_int_equal(drained.count, 3);
	assert_int_equal(drained.suspects_count, 0);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){0}, 0); /* Not of this one. */
	assert_int_equal(wishes, 0);
	assert_false(view.is_in_force);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	assert_int_equal(wishes, 1);
	assert_int_equal(wish, 0);
	assert_true(view.is_in_force);
	assert_int_equal(says[FERRY_GROUP_IN_FORCE], 1);
	assert_int_equal(last[FERRY_GROUP_IN_FORCE].epoch.v, 1);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, -EIO); /* It is over. */
	assert_int_equal(wishes, 1);
	ferry_ownership_acquire(&ownership, /* is_take= */ true); /* It has it. */
	assert_int_equal(wishes, 2);
	assert_int_equal(wish, 0);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
}

/* The voice that makes the majority is the last that drains: there is nothing to wait for. */
static void test_takes_at_once(void **state)
{
	(void)state;
	ring_of(2, true);
	speak(0, 0, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(1);
	assert_int_equal(takes, 1);
}

/* Those who have not drained in time are preempted. */
static void test_drain_timeout(void **state)
{
	(void)state;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	echo();
	ferry_ownership_drained(&ownership, (struct ferry_epoch){1});
	echo();
	hear(2, FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	stand_run_ms(&stand, DRAIN_MS - 10);
	assert_int_equal(takes, 0);
	stand_run_ms(&stand, 20);
	assert_int_equal(takes, 1);
	assert_true(is_drained(1) && is_drained(2));
	assert_int_equal(drained.suspects_count, 1);
	assert_int_equal(ferry_key_node(drained.suspects[0]).v, 3);
}

/* Whoever was late for the ring did not answer: once more. */
static void test_claim_timeout(void **state)
{
	(void)state;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	stand_run_ms(&stand, CLAIM_MS - 10);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	stand_run_ms(&stand, 20);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 2);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 2);
	assert_int_equal(wishes, 0);
}

static void test_waits_for_quorum_and_for_words(void **state)
{
	(void)state;
	ring_of(1, false);
	assert_false(view.is_quorate);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
	ring_of(2, true);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
	assert_false(view.is_quorate); /* Nobody has spoken in this ring. */
	hear(2, FERRY_GROUP_STATE, 0, 0, 0);
	assert_true(view.is_quorate);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
}

/* The ring that the claim was made in is gone. */
static void test_new_ring_claims_anew(void **state)
{
	(void)state;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	group.ring++;
	ferry_ownership_quorum(&ownership);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	hear(2, FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_SYNCING);
	echo();
	speak(1, 1, 0);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 2);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 2);
	all_drain(2);
	assert_int_equal(takes, 1);
	ring_of(2, true); /* Now while the lun is being taken. */
	speak(2, 1, 0);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	assert_false(view.is_in_force); /* A majority in this ring has not acknowledged it. */
	assert_int_equal(says[FERRY_GROUP_CLAIM], 3);
}

/*
 * Of two nodes the other goes while the lun is being taken with its consent: it has to be preempted
 * all the same, for it may be taking the lun itself.
 */
static void test_the_other_of_two_goes_meanwhile(void **state)
{
	(void)state;
	reopen_as(2, /* has_reservations= */ true);
	ring_of(2, true);
	speak(0, 0, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	hear(2, FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	stand_run_ms(&stand, DRAIN_MS); /* What this one carries takes long. */
	assert_int_equal(takes, 1);
	assert_true(is_drained(2));
	ring_of(1, true);
	ferry_ownership_drained(&ownership, (struct ferry_epoch){1});
	echo();
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	assert_false(view.is_in_force);
	all_drain(2);
	assert_int_equal(takes, 2);
	assert_false(is_drained(2));
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	echo();
	assert_true(view.is_in_force);
}

static void test_taking_fails(void **state)
{
	static const int errors[] = {-EIO, -EPERM, -EACCES};

	(void)state;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(errors); i++) {
		ferry_ownership_acquire(&ownership, /* is_take= */ true);
		all_drain(i + 1);
		ferry_ownership_taken(&ownership, (struct ferry_epoch){i + 1}, errors[i]);
		assert_int_equal(wishes, i + 1);
		assert_int_equal(wish, errors[i]);
		assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
		assert_false(view.is_in_force);
		assert_int_equal(view.owner.v, errors[i] == -EACCES ? 0 : 1);
		echo();
	}
	assert_int_equal(says[FERRY_GROUP_IN_FORCE], 0);
}

/* ---- Others' words. ---- */

static void test_installs_anothers_claim(void **state)
{
	(void)state;
	hear(2, FERRY_GROUP_CLAIM, 3, 2, 0);
	assert_int_equal(view.epoch.v, 3);
	assert_int_equal(view.owner.v, 2);
	assert_false(view.is_in_force);
	assert_int_equal(last[FERRY_GROUP_ACK].epoch.v, 3);
	assert_int_equal(last[FERRY_GROUP_ACK].owner.v, 2);
	hear(2, FERRY_GROUP_IN_FORCE, 3, 2, 0);
	assert_true(view.is_in_force);
	hear(3, FERRY_GROUP_IN_FORCE, 3, 3, 0); /* Not its owner. */
	assert_int_equal(view.owner.v, 2);
	hear(2, FERRY_GROUP_RELEASE, 3, 2, 0);
	assert_int_equal(view.owner.v, 0);
	assert_false(view.is_in_force);
	assert_int_equal(wishes, 0); /* None was its own. */
}

static void test_hears_only_its_own(void **state)
{
	struct ferry_group_message message = message_of(FERRY_GROUP_CLAIM, 3, 2, 0);

	(void)state;
	message.pool.bytes[0]++;
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &message);
	message = message_of(FERRY_GROUP_CLAIM, 3, 2, 0);
	message.lineage.bytes[0]++;
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &message);
	hear(4, FERRY_GROUP_CLAIM, 3, 4, 0); /* No member. */
	assert_int_equal(view.epoch.v, 0);
}

static void test_is_deposed(void **state)
{
	(void)state;
	own(1);
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	assert_int_equal(wishes, 2);
	assert_int_equal(wish, -ESTALE);
	assert_int_equal(view.owner.v, 2);
	assert_false(view.is_in_force);
	stand_run_ms(&stand, 5000);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1); /* It asks no more. */
}

/* It was away: others have it already, and say whose it is. */
static void test_learns(void **state)
{
	uint32_t states = says[FERRY_GROUP_STATE];

	(void)state;
	hear(2, FERRY_GROUP_STATE, 4, 3, FERRY_GROUP_IS_IN_FORCE);
	assert_int_equal(view.epoch.v, 4);
	assert_int_equal(view.owner.v, 3);
	assert_true(view.is_in_force);
	assert_true(says[FERRY_GROUP_STATE] > states); /* It says so. */
	assert_int_equal(ownership.settled.v, 4);      /* Its taking was not left half done. */
	hear(2, FERRY_GROUP_STATE, 5, 3, 0);
	assert_int_equal(ownership.settled.v, 4);
	assert_false(view.is_in_force);
	hear(3, FERRY_GROUP_STATE, 5, 3, FERRY_GROUP_IS_IN_FORCE);
	assert_true(view.is_in_force);
	hear(2, FERRY_GROUP_STATE, 6, 1, FERRY_GROUP_IS_IN_FORCE);
	assert_int_equal(view.owner.v, 0); /* A past of its own: nobody's. */
	assert_false(view.is_in_force);
}

static void test_paths_of_others(void **state)
{
	struct ferry_group_message message =
		message_of(FERRY_GROUP_STATE, 0, 0, FERRY_GROUP_HAS_PATH);

	(void)state;
	path_news = 0;
	hear(2, FERRY_GROUP_STATE, 0, 0, FERRY_GROUP_HAS_PATH);
	hear(2, FERRY_GROUP_STATE, 0, 0, FERRY_GROUP_HAS_PATH);
	assert_int_equal(path_news, 1);
	assert_true(peer_has_path[2]);
	message.lun.bytes[0]++; /* To another lun. */
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &message);
	assert_int_equal(path_news, 2);
	assert_false(peer_has_path[2]);
	hear(2, FERRY_GROUP_STATE, 0, 0, FERRY_GROUP_HAS_PATH);
	hear(2, FERRY_GROUP_STATE, 0, 0, 0);
	assert_int_equal(path_news, 4);
	assert_false(peer_has_path[2]);
}

static void test_tells_its_own_path(void **state)
{
	uint32_t states = says[FERRY_GROUP_STATE];

	(void)state;
	ferry_ownership_health(&ownership, false);
	assert_int_equal(says[FERRY_GROUP_STATE], states);
	ferry_ownership_health(&ownership, true);
	assert_int_equal(says[FERRY_GROUP_STATE], states + 1);
	assert_int_equal(last[FERRY_GROUP_STATE].flags, FERRY_GROUP_HAS_PATH | FERRY_GROUP_DRAINED);
	ferry_ownership_health(&ownership, true);
	assert_int_equal(says[FERRY_GROUP_STATE], states + 1);
}

/* Whoever speaks for the first time may not have heard this node; and whoever asks. */
static void test_answers_states(void **state)
{
	struct ferry_group_message message = message_of(FERRY_GROUP_STATE, 0, 0, 0);
	uint32_t states = says[FERRY_GROUP_STATE];

	(void)state;
	hear(2, FERRY_GROUP_STATE, 0, 0, 0);
	assert_int_equal(says[FERRY_GROUP_STATE], states);
	hear(2, FERRY_GROUP_STATE, 0, 0, FERRY_GROUP_ASKS);
	assert_int_equal(says[FERRY_GROUP_STATE], states + 1);
	message.incarnation.v = 2;
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &message);
	assert_int_equal(says[FERRY_GROUP_STATE], states + 2);
	message.ring = 99;
	ferry_ownership_message(&ownership, (struct ferry_node){2}, &message);
	assert_int_equal(says[FERRY_GROUP_STATE], states + 3);
	hear(1, FERRY_GROUP_STATE, 0, 0, FERRY_GROUP_ASKS); /* Itself needs no answer. */
	assert_int_equal(says[FERRY_GROUP_STATE], states + 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_opens_with_what_is_stored),
		TEST(test_tenure),
		TEST(test_tenure_by_force),
		TEST(test_acknowledges_nothing_unsaved),
		TEST(test_claims_nothing_unsaved),
		TEST(test_reclaims),
		TEST(test_claims_drains_takes),
		TEST(test_takes_at_once),
		TEST(test_drain_timeout),
		TEST(test_claim_timeout),
		TEST(test_waits_for_quorum_and_for_words),
		TEST(test_new_ring_claims_anew),
		TEST(test_the_other_of_two_goes_meanwhile),
		TEST(test_taking_fails),
		TEST(test_installs_anothers_claim),
		TEST(test_hears_only_its_own),
		TEST(test_is_deposed),
		TEST(test_learns),
		TEST(test_paths_of_others),
		TEST(test_tells_its_own_path),
		TEST(test_answers_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
