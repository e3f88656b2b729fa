/* What people and the data thread wish of a pool: release, words, fencing; two nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fencing/ownership_stand.h"

/* ---- Letting go. ---- */

static void test_releases(void **state)
{
	struct ferry_ownership next;
	struct ferry_error error;

	(void)state;
	own(1);
	ferry_ownership_release(&ownership, (struct ferry_node){0});
	assert_int_equal(says[FERRY_GROUP_RELEASE], 1);
	assert_int_equal(last[FERRY_GROUP_RELEASE].epoch.v, 1);
	assert_int_equal(view.owner.v, 1); /* Until all hear it. */
	assert_int_equal(wishes, 1);
	echo();
	assert_int_equal(view.owner.v, 0);
	assert_false(view.is_in_force);
	assert_int_equal(wishes, 2);
	assert_int_equal(wish, 0);
	assert_int_equal(ferry_ownership_open(&next, &config, &error), 0);
	assert_int_equal(next.view.epoch.v, 1);
	assert_false(next.was_owner); /* Its next agent does not ask for it. */
}

static void test_hands_over(void **state)
{
	(void)state;
	own(1);
	ferry_ownership_release(&ownership, (struct ferry_node){2});
	assert_int_equal(says[FERRY_GROUP_RELEASE], 0);
	assert_int_equal(last[FERRY_GROUP_HANDOVER].owner.v, 2);
	echo();
	assert_int_equal(wish, 0);
	assert_int_equal(view.owner.v, 0);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	hear(2, FERRY_GROUP_IN_FORCE, 2, 2, 0);
	hear(2, FERRY_GROUP_HANDOVER, 2, 3, 0); /* To another. */
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	hear(3, FERRY_GROUP_CLAIM, 3, 3, 0);
	hear(3, FERRY_GROUP_IN_FORCE, 3, 3, 0);
	hear(3, FERRY_GROUP_HANDOVER, 3, 1, 0); /* And back. */
	assert_int_equal(says[FERRY_GROUP_CLAIM], 2);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 4);
}

static void test_releases_what_it_does_not_own(void **state)
{
	(void)state;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	ferry_ownership_release(&ownership, (struct ferry_node){0});
	assert_int_equal(wishes, 1);
	assert_int_equal(wish, 0);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	assert_int_equal(says[FERRY_GROUP_RELEASE], 1); /* Its claim has been heard. */
	all_drain(1);
	assert_int_equal(view.owner.v, 0);
	stand_run_ms(&stand, 2 * DRAIN_MS);
	assert_int_equal(takes, 0);
}

/* ---- Words. ---- */

/* The view is as new as the question once a majority has spoken after hearing it. */
static void test_asks_the_group(void **state)
{
	uint32_t states = says[FERRY_GROUP_STATE];

	(void)state;
	assert_int_equal(view.word, 0);
	ferry_ownership_ask(&ownership, 1);
	assert_int_equal(says[FERRY_GROUP_STATE], states + 1);
	assert_true(last[FERRY_GROUP_STATE].flags & FERRY_GROUP_ASKS);
	hear(2, FERRY_GROUP_STATE, 0, 0, 0); /* Said before it heard. */
	assert_int_equal(view.word, 0);
	echo();
	assert_int_equal(view.word, 0); /* Its own alone proves nothing. */
	hear(3, FERRY_GROUP_STATE, 0, 0, 0);
	assert_int_equal(view.word, 1);
	ferry_ownership_health(&ownership, true); /* A STATE that asks nothing. */
	assert_false(last[FERRY_GROUP_STATE].flags & FERRY_GROUP_ASKS);
	echo();
	ferry_ownership_ask(&ownership, 5);
	ferry_ownership_health(&ownership, false);
	assert_false(last[FERRY_GROUP_STATE].flags & FERRY_GROUP_ASKS); /* It has asked. */
	hear(2, FERRY_GROUP_STATE, 0, 0, 0);
	assert_int_equal(view.word, 1);
	ring_of(2, true); /* In each ring anew. */
	assert_true(last[FERRY_GROUP_STATE].flags & FERRY_GROUP_ASKS);
	assert_int_equal(view.word, 1);
	group.is_quorate = false;
	hear(2, FERRY_GROUP_STATE, 0, 0, 0);
	assert_int_equal(view.word, 1);
	group.is_quorate = true;
	hear(2, FERRY_GROUP_STATE, 0, 0, 0);
	assert_int_equal(view.word, 5);
}

/* ---- The group takes nothing just now. ---- */

static void test_says_it_later(void **state)
{
	(void)state;
	refusal = -EAGAIN;
	ferry_ownership_ask(&ownership, 1);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
	stand_run_ms(&stand, 3 * RESEND_MS);
	says[FERRY_GROUP_STATE] = 0;
	refusal = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(says[FERRY_GROUP_STATE], 1);
	assert_true(last[FERRY_GROUP_STATE].flags & FERRY_GROUP_ASKS);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	stand_run_ms(&stand, 2 * RESEND_MS);
	assert_int_equal(says[FERRY_GROUP_STATE], 1); /* Once. */
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	refusal = -EAGAIN;
	echo();
	assert_int_equal(says[FERRY_GROUP_ACK], 0);
	refusal = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(says[FERRY_GROUP_ACK], 1);
	all_drain(1);
	refusal = -EAGAIN;
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	refusal = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(says[FERRY_GROUP_IN_FORCE], 1);
	refusal = -EAGAIN;
	ferry_ownership_release(&ownership, (struct ferry_node){0});
	refusal = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(says[FERRY_GROUP_RELEASE], 1);
	refusal = -EAGAIN;
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), 0);
	refusal = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(says[FERRY_GROUP_FENCE], 1);
}

/* A deadline that begins meanwhile does not put it off: nobody takes before all is said. */
static void test_says_it_before_the_drain_is_over(void **state)
{
	(void)state;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	refusal = -EAGAIN;
	ferry_ownership_drained(&ownership, (struct ferry_epoch){1});
	hear(2, FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	hear(3, FERRY_GROUP_ACK, 1, 1, FERRY_GROUP_DRAINED);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_DRAINING);
	refusal = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	echo();
	assert_int_equal(takes, 1);
	assert_true(is_drained(1) && is_drained(2) && is_drained(3));
}

/* What was not said yet, of what is over by now, is not said. */
static void test_does_not_say_what_is_over(void **state)
{
	(void)state;
	refusal = -EAGAIN;
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	hear(2, FERRY_GROUP_CLAIM, 3, 2, 0);
	refusal = 0;
	stand_run_ms(&stand, 2 * RESEND_MS);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
	assert_int_equal(says[FERRY_GROUP_ACK], 1);
	echo();
	hear(2, FERRY_GROUP_RELEASE, 3, 2, 0);
	own(4);
	says[FERRY_GROUP_IN_FORCE] = 0;
	refusal = -EAGAIN;
	ferry_ownership_release(&ownership, (struct ferry_node){0});
	hear(2, FERRY_GROUP_CLAIM, 5, 2, 0);
	refusal = 0;
	stand_run_ms(&stand, 2 * RESEND_MS);
	assert_int_equal(says[FERRY_GROUP_RELEASE], 0);
}

/* ---- Losing the lun. ---- */

static void test_preempted(void **state)
{
	(void)state;
	ferry_ownership_preempted(&ownership); /* It has nothing to lose. */
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
	own(1);
	ferry_ownership_preempted(&ownership);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 2);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 2);
	all_drain(2);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	assert_true(view.is_in_force);
}

/* ---- Fencing a node. ---- */

static void test_fence_is_refused(void **state)
{
	(void)state;
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){1}), -EINVAL);
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), 0);
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){2}), -EBUSY);
	ring_of(1, false);
	stand_run_ms(&stand, 60000);
	assert_int_equal(fences, 1);
	assert_int_equal(fenced, -ETIMEDOUT);
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), -EAGAIN);
	reopen_as(3, /* has_reservations= */ false);
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), -EOPNOTSUPP);
}

/* Another owns the pool: it does it, and its word counts. */
static void test_owner_fences(void **state)
{
	(void)state;
	hear(2, FERRY_GROUP_CLAIM, 1, 2, 0);
	hear(2, FERRY_GROUP_IN_FORCE, 1, 2, 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), 0);
		assert_int_equal(last[FERRY_GROUP_FENCE].victim.v, 3);
		echo();
		assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
		hear_fence(2, FERRY_GROUP_FENCED, 2, 1, FERRY_GROUP_PROVEN); /* Of another. */
		hear_fence(2, FERRY_GROUP_FENCED, 3, 1, FERRY_GROUP_PROVEN | FERRY_GROUP_REMINDS);
		assert_int_equal(fences, i);
		hear_fence(2, FERRY_GROUP_FENCED, 3, 1, i == 0 ? 0 : FERRY_GROUP_PROVEN);
		assert_int_equal(fences, i + 1);
		assert_int_equal(fenced, i == 0 ? -EIO : 0);
	}
	stand_run_ms(&stand, 60000);
	assert_int_equal(fences, 2);
}

/* This node owns it: a new epoch without the victim, and it goes on. */
static void test_fences_for_another(void **state)
{
	(void)state;
	own(1);
	hear_fence(2, FERRY_GROUP_FENCE, 3, 0, 0);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 2);
	hear_fence(2, FERRY_GROUP_FENCE, 2, 0, 0); /* One at a time. */
	all_drain(2);
	assert_int_equal(takes, 2);
	assert_true(is_drained(2));
	assert_false(is_drained(3)); /* Whatever it says of itself. */
	assert_int_equal(drained.suspects_count, 1);
	assert_int_equal(ferry_key_node(drained.suspects[0]).v, 3);
	assert_int_equal(says[FERRY_GROUP_FENCED], 0);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	assert_int_equal(says[FERRY_GROUP_FENCED], 1);
	assert_int_equal(last[FERRY_GROUP_FENCED].victim.v, 3);
	assert_int_equal(last[FERRY_GROUP_FENCED].victim_incarnation.v, 1);
	assert_int_equal(last[FERRY_GROUP_FENCED].flags, FERRY_GROUP_PROVEN);
	assert_true(view.is_in_force);
	assert_int_equal(fences, 0); /* It was not asked here. */
	echo();
	hear_fence(2, FERRY_GROUP_FENCE, 3, 0, 0);
	all_drain(3);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){3}, -EIO);
	assert_int_equal(says[FERRY_GROUP_FENCED], 2);
	assert_int_equal(last[FERRY_GROUP_FENCED].flags, 0); /* Not verified. */
}

/* Nobody owns it: who asks does it, and lets go of it. */
static void test_fences_what_nobody_owns(void **state)
{
	(void)state;
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), 0);
	echo();
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 1);
	all_drain(1);
	assert_int_equal(ferry_key_node(drained.suspects[0]).v, 3);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	assert_int_equal(says[FERRY_GROUP_RELEASE], 1);
	assert_int_equal(says[FERRY_GROUP_IN_FORCE], 0);
	assert_false(view.is_in_force);
	echo();
	echo();
	assert_int_equal(fences, 1);
	assert_int_equal(fenced, 0);
	assert_int_equal(view.owner.v, 0);
	assert_int_equal(wishes, 0); /* Nobody wished for the pool. */
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
}

/* Who is fenced registers no more, and who was away is reminded before this node's STATE. */
static void test_reminds(void **state)
{
	(void)state;
	own(1);
	hear_fence(2, FERRY_GROUP_FENCE, 3, 0, 0);
	all_drain(2);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	echo();
	says[FERRY_GROUP_FENCED] = 0;
	ring_of(2, true);
	assert_int_equal(says[FERRY_GROUP_FENCED], 1);
	assert_true(last[FERRY_GROUP_FENCED].flags & FERRY_GROUP_REMINDS);
	assert_int_equal(last[FERRY_GROUP_FENCED].victim.v, 3);
	refusal = -EAGAIN;
	group.ring++;
	ferry_ownership_quorum(&ownership);
	says[FERRY_GROUP_STATE] = 0;
	refusal = 0;
	said_count = 0;
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(says[FERRY_GROUP_STATE], 1);
	assert_int_equal(said[0].type, FERRY_GROUP_FENCED);
}

static void test_is_fenced(void **state)
{
	(void)state;
	speak(0, 0, 0);
	assert_true(view.may_register && view.may_help);
	hear_fence(2, FERRY_GROUP_FENCED, 1, 0, FERRY_GROUP_PROVEN); /* An elder of its own. */
	assert_true(view.may_register);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	hear_fence(2, FERRY_GROUP_FENCE, 1, 0, 0);
	assert_false(view.may_register || view.may_help);
	assert_int_equal(wishes, 1);
	assert_int_equal(wish, -ESTALE);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_IDLE);
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), -EPERM);
}

/* ---- Two nodes: the lun is the third voice. ---- */

static void test_two_nodes(void **state)
{
	(void)state;
	reopen_as(2, /* has_reservations= */ true);
	ring_of(2, true);
	speak(0, 0, 0);
	own(1);
	assert_false(view.only_if_kept);
	ring_of(1, true); /* The other is gone; or this node is. */
	assert_false(view.is_in_force);
	assert_true(view.only_if_kept);
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 2);
	all_drain(2);
	assert_int_equal(takes, 2);
	assert_int_equal(ferry_key_node(drained.suspects[0]).v, 2);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	assert_true(view.is_in_force);
	assert_false(view.only_if_kept); /* It has won. */
	echo();
	group.ring++; /* Again without the other: that is known. */
	ferry_ownership_quorum(&ownership);
	echo();
	assert_true(view.is_in_force);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 2);
	ring_of(2, true);
	speak(1, 1, 0);
	assert_true(view.is_in_force);
	ring_of(1, true); /* That was then. */
	assert_false(view.is_in_force);
}

/* The other is there and does not answer: its agent hangs. The lun says who goes on. */
static void test_two_nodes_by_the_lun(void **state)
{
	(void)state;
	reopen_as(2, /* has_reservations= */ true);
	ring_of(2, true);
	speak(0, 0, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	ferry_ownership_drained(&ownership, (struct ferry_epoch){1});
	echo();
	stand_run_ms(&stand, CLAIM_MS - 10);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_CLAIMING);
	stand_run_ms(&stand, 20);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_DRAINING);
	stand_run_ms(&stand, DRAIN_MS);
	assert_int_equal(takes, 1);
	assert_true(is_drained(1));
	assert_false(is_drained(2));
	ferry_ownership_taken(&ownership, (struct ferry_epoch){1}, 0);
	assert_true(view.is_in_force);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
	reopen_as(2, /* has_reservations= */ false); /* Without them nobody says. */
	ring_of(2, true);
	speak(0, 0, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	stand_run_ms(&stand, CLAIM_MS + 10);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_CLAIMING);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 2);
}

/* A fencing that is over is over: the next change of owner is like any other. */
static void test_after_a_fencing(void **state)
{
	(void)state;
	own(1);
	hear_fence(2, FERRY_GROUP_FENCE, 3, 0, 0);
	all_drain(2);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){2}, 0);
	echo();
	ferry_ownership_preempted(&ownership);
	all_drain(3);
	assert_true(is_drained(3));
	ferry_ownership_taken(&ownership, (struct ferry_epoch){3}, 0);
	echo();
	assert_int_equal(says[FERRY_GROUP_FENCED], 1);
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), 0);
	echo();
	assert_int_equal(last[FERRY_GROUP_CLAIM].epoch.v, 4);
	all_drain(4);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){4}, 0);
	echo();
	assert_int_equal(fences, 1);
	assert_int_equal(fenced, 0);
	assert_int_equal(ferry_ownership_fence(&ownership, (struct ferry_node){3}), 0);
}

/* A wish that was taken back before its time comes to nothing. */
static void test_takes_a_wish_back(void **state)
{
	struct ferry_error error;

	(void)state;
	ring_of(1, false);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	ferry_ownership_release(&ownership, (struct ferry_node){0});
	ring_of(3, true);
	speak(0, 0, 0);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
	own(1);
	ferry_ownership_done(&ownership);
	assert_int_equal(ferry_ownership_open(&ownership, &config, &error), 0);
	assert_true(ownership.was_owner);
	ferry_ownership_release(&ownership, (struct ferry_node){0});
	said_count = 0;
	ring_of(3, true);
	speak(1, 0, 0);
	assert_int_equal(says[FERRY_GROUP_CLAIM], 1);
}

/* What the others say of the lun changes what this node may do, at once. */
static void test_rights_follow_the_others(void **state)
{
	struct ferry_group_message others = message_of(FERRY_GROUP_STATE, 0, 0, 0);

	(void)state;
	assert_true(view.may_register && view.may_help);
	others.lun.bytes[0]++;
	for (uint32_t node = 2; node <= 3; node++)
		ferry_ownership_message(&ownership, (struct ferry_node){node}, &others);
	assert_false(view.may_register || view.may_help);
	assert_false(ferry_ownership_lun_is_agreed(&ownership));
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	assert_int_equal(wish, -EPERM);
	hear(2, FERRY_GROUP_STATE, 0, 0, 0);
	assert_true(view.may_register && view.may_help);
	assert_true(ferry_ownership_lun_is_agreed(&ownership));
	assert_int_equal(says[FERRY_GROUP_CLAIM], 0);
}

/* ---- The target was restarted (docs/decisions/0009). ---- */

static void hear_restart(uint32_t from, uint64_t incarnation, uint64_t number)
{
	struct ferry_group_message message =
		message_of(FERRY_GROUP_STATE, view.epoch.v, view.owner.v, 0);

	message.incarnation.v = incarnation;
	message.restart = number;
	ferry_ownership_message(&ownership, (struct ferry_node){from}, &message);
}

static void hear_noted(uint32_t from, uint64_t epoch, uint32_t victim, uint64_t incarnation,
		       uint64_t number)
{
	struct ferry_group_message message = message_of(FERRY_GROUP_NOTED, epoch, from, 0);

	message.victim.v = victim;
	message.victim_incarnation.v = incarnation;
	message.restart = number;
	ferry_ownership_message(&ownership, (struct ferry_node){from}, &message);
}

/* It has found one: it says so until the owner has answered, this very agent. */
static void test_tells_the_owner(void **state)
{
	uint32_t states;

	(void)state;
	hear(2, FERRY_GROUP_CLAIM, 1, 2, 0);
	hear(2, FERRY_GROUP_IN_FORCE, 1, 2, 0);
	states = says[FERRY_GROUP_STATE];
	ferry_ownership_witness(&ownership, 4);
	ferry_ownership_witness(&ownership, 4);
	assert_int_equal(says[FERRY_GROUP_STATE], states + 1);
	assert_int_equal(last[FERRY_GROUP_STATE].restart, 4);
	hear_noted(3, 1, 1, 1, 4); /* Not the owner; not this epoch; not this node; its elder. */
	hear_noted(2, 2, 1, 1, 4);
	hear_noted(2, 1, 3, 1, 4);
	hear_noted(2, 1, 1, 2, 4);
	assert_int_equal(view.told, 0);
	hear_noted(2, 1, 1, 1, 4);
	assert_int_equal(view.told, 4);
	assert_int_equal(view.told_by.v, 2);
	hear_noted(2, 1, 1, 1, 3); /* Late. */
	assert_int_equal(view.told, 4);
	ferry_ownership_witness(&ownership, 5);
	hear_noted(2, 1, 1, 1, 5);
	assert_int_equal(view.told, 5);
	hear(3, FERRY_GROUP_CLAIM, 2, 3, 0);
	hear(3, FERRY_GROUP_IN_FORCE, 2, 3, 0);
	hear_noted(3, 2, 1, 1, 4); /* The next owner, of an earlier one: of 5 it knows nothing. */
	assert_int_equal(view.told, 5);
	assert_int_equal(view.told_by.v, 2);
	hear_noted(3, 2, 1, 1, 5);
	assert_int_equal(view.told_by.v, 3);
	ferry_ownership_witness(&ownership, 0);
	assert_int_equal(last[FERRY_GROUP_STATE].restart, 0);
}

/* The owner answers once its data thread knows; again if it was not heard. */
static void test_owner_is_told(void **state)
{
	(void)state;
	own(1);
	hear_restart(1, 1, 9); /* Itself has no need to be told. */
	assert_int_equal(view.restarts, 0);
	hear_restart(2, 1, 5);
	assert_int_equal(view.restarts, 1);
	hear_restart(2, 1, 5);
	assert_int_equal(view.restarts, 1); /* The same one. */
	hear_restart(3, 1, 5);
	assert_int_equal(view.restarts, 2);
	assert_int_equal(says[FERRY_GROUP_NOTED], 0);
	ferry_ownership_noted(&ownership, 1);
	assert_int_equal(says[FERRY_GROUP_NOTED], 1);
	assert_int_equal(last[FERRY_GROUP_NOTED].victim.v, 2);
	assert_int_equal(last[FERRY_GROUP_NOTED].victim_incarnation.v, 1);
	assert_int_equal(last[FERRY_GROUP_NOTED].restart, 5);
	assert_int_equal(last[FERRY_GROUP_NOTED].epoch.v, 1);
	ferry_ownership_noted(&ownership, 2);
	assert_int_equal(says[FERRY_GROUP_NOTED], 2);
	assert_int_equal(last[FERRY_GROUP_NOTED].victim.v, 3);
	hear_restart(2, 1, 5); /* It has not heard it. */
	assert_int_equal(says[FERRY_GROUP_NOTED], 3);
	hear_restart(2, 1, 0); /* It has. */
	hear_restart(2, 1, 6);
	assert_int_equal(view.restarts, 3);
	hear_restart(2, 2, 6); /* Another agent of its. */
	assert_int_equal(view.restarts, 4);
	refusal = -EAGAIN;
	ferry_ownership_noted(&ownership, 4);
	refusal = 0;
	assert_int_equal(says[FERRY_GROUP_NOTED], 3);
	stand_run_ms(&stand, RESEND_MS + 1);
	assert_int_equal(says[FERRY_GROUP_NOTED], 4);
	assert_int_equal(last[FERRY_GROUP_NOTED].victim_incarnation.v, 2);
	stand_run_ms(&stand, 2 * RESEND_MS);
	assert_int_equal(says[FERRY_GROUP_NOTED], 4);
}

/* Who was told of it before it owned the pool notes it when it does. */
static void test_next_owner_is_told(void **state)
{
	(void)state;
	hear_restart(2, 1, 5);
	assert_int_equal(view.restarts, 0);
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	echo();
	assert_int_equal(view.owner.v, 1);
	assert_int_equal(view.restarts, 1);
	ferry_ownership_noted(&ownership, 1);
	assert_int_equal(says[FERRY_GROUP_NOTED], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_releases),
		TEST(test_hands_over),
		TEST(test_releases_what_it_does_not_own),
		TEST(test_asks_the_group),
		TEST(test_says_it_later),
		TEST(test_says_it_before_the_drain_is_over),
		TEST(test_does_not_say_what_is_over),
		TEST(test_preempted),
		TEST(test_fence_is_refused),
		TEST(test_owner_fences),
		TEST(test_fences_for_another),
		TEST(test_fences_what_nobody_owns),
		TEST(test_reminds),
		TEST(test_is_fenced),
		TEST(test_two_nodes),
		TEST(test_two_nodes_by_the_lun),
		TEST(test_after_a_fencing),
		TEST(test_takes_a_wish_back),
		TEST(test_rights_follow_the_others),
		TEST(test_tells_the_owner),
		TEST(test_owner_is_told),
		TEST(test_next_owner_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
