/* One lun's registration, against a fence port that says what the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/registrar_stand.h"

static void on_end(struct ferry_flight *flight, enum ferry_outcome outcome, enum ferry_cause cause)
{
	(void)flight;
	(void)outcome;
	(void)cause;
}

static void on_released(struct ferry_flight *flight)
{
	(void)flight;
}

/* ---- Joining. ---- */

static void test_joins(void **state)
{
	(void)state;
	on.view.word = 0;
	ferry_registrar_session(&on.registrar, true);
	assert_int_equal(on.words_asked, 0); /* It had nothing to lose. */
	expect(FERRY_FENCE_READ_KEYS);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_READING);
	ferry_registrar_poke(&on.registrar); /* One request at a time. */
	answer_keys(KEYS(.holder = key(2, 1), .generation = 10, .keys = {key(2, 1)}));
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_null(on.pending);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_ASKING);
	assert_int_equal(on.words_asked,
			 1); /* Does it still have the grant, its key being there? */
	ferry_registrar_poke(&on.registrar);
	assert_false(is_allowed());
	on.view.word = 1;
	on.view.may_register = false;
	ferry_registrar_poke(&on.registrar);
	assert_false(is_allowed()); /* It has not. */
	on.view.may_register = true;
	ferry_registrar_poke(&on.registrar);
	assert_true(is_allowed());
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_IN);
	assert_int_equal(on.joins, 1); /* What peers sent it before may have been proven dead. */
	assert_null(on.pending);
}

static void test_does_not_join_unasked(void **state)
{
	(void)state;
	on.view.may_help = false;
	ferry_registrar_session(&on.registrar, true);
	assert_null(on.pending);
	on.view.may_help = true;
	on.path.path.is_up = false;
	ferry_registrar_poke(&on.registrar);
	assert_null(on.pending);
	on.path.path.is_up = true;
	ferry_registrar_poke(&on.registrar);
	expect(FERRY_FENCE_READ_KEYS);
	answer(-EIO);
}

/* Its key alone lets it abort others; its own I/O waits until nothing older may land. */
static void test_waits_for_what_is_older(void **state)
{
	struct ferry_flight flight = {.attempt = {.op = FERRY_OP_FLUSH},
				      .on_end = on_end,
				      .on_released = on_released,
				      .on_overdue = on_released};

	(void)state;
	on.is_being_laid = true;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 10));
	answer(0);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_ASKING);
	assert_false(is_allowed());
	assert_int_equal(ferry_lane_submit(ferry_router_local(&on.router), &flight), 0);
	on.is_being_laid = false;
	ferry_registrar_poke(&on.registrar);
	assert_false(is_allowed());
	stand_done(&on.path, 0);
	ferry_registrar_poke(&on.registrar);
	assert_true(is_allowed());
}

/* Without a reservation a lun lets everyone write: whoever finds none makes one, owner or not. */
static void test_reserves_what_nobody_has(void **state)
{
	const struct {
		uint32_t owner;
		bool is_in_force;
		struct ferry_key holder;
		bool reserves;
	} cases[] = {
		{1, true, {0}, true},
		{2, true, {0}, true},  /* The owner may have no path. */
		{1, false, {0}, true}, /* On a lun that nobody has reserved nothing is laid. */
		{1, true, key(2, 1), false},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		on.view.owner.v = cases[i].owner;
		on.view.is_in_force = cases[i].is_in_force;
		ferry_registrar_session(&on.registrar, true);
		answer_keys(KEYS(.holder = cases[i].holder, .is_free = cases[i].reserves,
				 .keys = {key(1, 3)}));
		expect(FERRY_FENCE_REGISTER);
		answer(0);
		if (cases[i].reserves) {
			assert_false(is_allowed());
			expect(FERRY_FENCE_RESERVE);
			answer(-EBUSY); /* Somebody was first. */
		}
		assert_null(on.pending);
		assert_true(is_allowed());
		ferry_registrar_session(&on.registrar, false);
		assert_false(is_allowed());
		assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	}
}

/* Whatever it was at: from the keys again, a moment later and no sooner. */
static void test_tries_again(void **state)
{
	(void)state;
	own();
	ferry_registrar_session(&on.registrar, true);
	for (int step = 0; step < 3; step++) {
		if (step > 0) {
			answer_keys(KEYS(.is_free = true, .generation = 1));
			expect(FERRY_FENCE_REGISTER);
		}
		if (step > 1) {
			answer(0);
			expect(FERRY_FENCE_RESERVE);
		}
		answer(step == 0 ? -EBUSY : -ETIMEDOUT);
		assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
		stand_run_ms(&on.stand, REGISTRAR_RETRY_MS - 1);
		assert_null(on.pending);
		stand_run_ms(&on.stand, 2);
		expect(FERRY_FENCE_READ_KEYS);
	}
	answer(-EIO);
}

static void test_foreign_keys(void **state)
{
	(void)state;
	ferry_registrar_session(&on.registrar, true);
	for (int i = 0; i < 2; i++) {
		answer_keys(KEYS(.keys = {key(2, 1), foreign}));
		assert_int_equal(on.registrar.state, FERRY_REGISTRAR_FOREIGN);
		assert_int_equal(on.refusals, 1); /* People are told once. */
		assert_int_equal(on.takes, 0);
		stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	}
	answer_keys(KEYS(.holder = foreign)); /* A holder is as good as a registrant. */
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_FOREIGN);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(KEYS(.keys = {key(2, 1)})); /* They are gone. */
	answer(0);
	assert_true(is_allowed());
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	ferry_registrar_take(&on.registrar, &(struct ferry_drained_keys){});
	answer_keys(KEYS(.keys = {foreign}));
	assert_int_equal(on.refusals, 2);
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, -EPERM);
}

static void test_newer_key_of_its_own(void **state)
{
	(void)state;
	ferry_registrar_session(&on.registrar, true);
	ferry_registrar_take(&on.registrar, &(struct ferry_drained_keys){});
	answer_keys(KEYS(.keys = {key(1, 4)}));
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, -EACCES);
	assert_null(on.pending);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	expect(FERRY_FENCE_READ_KEYS);
	answer(-EIO);
}

/* Of two nodes, the one that hears nobody goes on only if its key was kept. */
static void test_only_if_kept(void **state)
{
	(void)state;
	on.view.only_if_kept = true;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.keys = {key(2, 1)}));
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_int_equal(on.refusals, 1);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(KEYS(.keys = {key(2, 1), key(1, 2)})); /* Its elder's is its own. */
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_true(is_allowed());
}

/* The key was gone when it registered, and by the time of the grant the other is not heard. */
static void test_kept_by_its_own_doing_is_not_kept(void **state)
{
	(void)state;
	on.view.may_register = false;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.keys = {key(2, 1)}));
	answer(0);
	on.view.may_register = on.view.only_if_kept = true;
	ferry_registrar_poke(&on.registrar);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_false(is_allowed());
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(KEYS(.keys = {key(2, 1), key(1, 3)})); /* Its own, from just now. */
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	on.view.only_if_kept = false;
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(KEYS(.keys = {key(2, 1), key(1, 3)}));
	answer(0);
	assert_true(is_allowed());
	on.view.only_if_kept = true; /* The grant was for good. */
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.keys = {key(2, 1), key(1, 3)}));
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_true(is_allowed());
}

/* An elder's commands are this nexus's: it is said who is to be killed, once, before any I/O. */
static void test_elder(void **state)
{
	(void)state;
	on.is_being_laid = true;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.keys = {key(2, 1), key(1, 2)}));
	assert_int_equal(on.old_keys, 0);
	answer(0);
	assert_int_equal(on.old_keys, 1);
	assert_true(on.old_key.v == key(1, 2).v);
	assert_false(is_allowed());
	on.is_being_laid = false;
	ferry_registrar_poke(&on.registrar);
	assert_true(is_allowed());
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.keys = {key(2, 1), key(1, 3)}));
	answer(0);
	assert_int_equal(on.old_keys, 1);
}

/* Frozen, it may have been preempted and know nothing: only a word from now on is a grant. */
static void test_asks_before_it_joins_again(void **state)
{
	(void)state;
	join();
	ferry_registrar_session(&on.registrar, false);
	assert_false(is_allowed());
	on.words_asked = 1000;
	ferry_registrar_session(&on.registrar, true);
	assert_int_equal(on.words_asked, 1001);
	assert_null(on.pending);
	on.view.word = 1001;
	ferry_registrar_poke(&on.registrar);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 11, .keys = {key(2, 1), key(1, 3)}));
	answer(0);
	assert_int_equal(on.words_asked, 1002);
	assert_int_equal(on.joins, 1);
	on.view.word = 1002;
	ferry_registrar_poke(&on.registrar);
	assert_int_equal(on.joins, 2);
	assert_true(is_allowed());
}

/* Requests of the session before are over, whatever they say. */
static void test_session_is_lost_meanwhile(void **state)
{
	(void)state;
	ferry_registrar_session(&on.registrar, true);
	expect(FERRY_FENCE_READ_KEYS);
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.keys = {key(2, 1)}));
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_null(on.pending);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	expect(FERRY_FENCE_READ_KEYS);
	answer(-EIO);
}

/* ---- A target that was restarted has lost what was in its cache (docs/decisions/0009). ---- */

/* A new session, the keys being read; this node has been registered before. */
static void come_back(uint32_t generation)
{
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.holder = key(2, 1), .generation = generation,
			 .keys = {key(2, 1), key(1, 3)}));
}

static void rejoin_and_count_losses(uint32_t generation, uint64_t losses)
{
	uint64_t before = on.router.flush.losses_seen;

	come_back(generation);
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_true(is_allowed());
	assert_int_equal(on.router.flush.losses_seen - before, losses);
}

static void test_lower_count_is_a_restart(void **state)
{
	(void)state;
	join();				/* 10, and 11 by its own registration. */
	rejoin_and_count_losses(11, 0); /* 12. */
	rejoin_and_count_losses(13, 0); /* One of another's; 14. */
	rejoin_and_count_losses(13, 1); /* Anew, and as far as that by now. */
	ferry_registrar_verify(&on.registrar);
	answer_keys(KEYS(.generation = 50, .keys = {key(2, 1), key(1, 3)}));
	rejoin_and_count_losses(49, 1); /* Whatever it was read for. */
	ferry_registrar_session(&on.registrar, false);
	ferry_router_note_reset(&on.router, NULL, "test"); /* It has been told meanwhile. */
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 30, .keys = {key(1, 3)}));
	answer(0);
	assert_int_equal(on.router.flush.losses_seen, 4);
}

/* Of two nodes that are apart the other may have been the first there, and has nobody to tell. */
static void test_apart_is_a_restart(void **state)
{
	(void)state;
	join();
	on.view.only_if_kept = true;
	ferry_registrar_poke(&on.registrar); /* While it is registered it would see it. */
	on.view.only_if_kept = false;
	rejoin_and_count_losses(20, 0);
	ferry_registrar_session(&on.registrar, false);
	on.view.only_if_kept = true;
	ferry_registrar_poke(&on.registrar);
	on.view.only_if_kept = false;
	rejoin_and_count_losses(30, 1);
	rejoin_and_count_losses(40, 0);
}

/* A reset in a session that lives on: while it is looked at, the path is not believed. */
static void report_reset(void)
{
	ferry_router_local(&on.router)->is_doubtful = true;
	ferry_registrar_look_at_reset(&on.registrar);
}

static void test_reset_loses_nothing(void **state)
{
	const struct ferry_lane *lane = ferry_router_local(&on.router);

	(void)state;
	join();
	report_reset();
	report_reset(); /* And another: what is being read may be older. */
	for (int i = 0; i < 2; i++) {
		assert_true(lane->is_doubtful);
		answer_keys(KEYS(.holder = key(2, 1), .generation = on.registrar.generation,
				 .keys = {key(2, 1), key(1, 3)}));
	}
	assert_null(on.pending);
	assert_false(lane->is_doubtful);
	assert_true(is_allowed());
	assert_int_equal(on.router.flush.losses_seen, 1);
}

/* It was a restart: at the count, or because it is lower than it was. */
static void restart_in_session(uint32_t generation, uint64_t losses_seen)
{
	uint32_t resets = on.path.resets;

	join();
	assert_true(on.registrar.generation > generation);
	report_reset();
	answer_keys(KEYS(.holder = key(2, 1), .generation = generation,
			 .keys = {key(2, 1), key(1, 3)}));
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_false(is_allowed());
	assert_int_equal(on.path.resets, resets + 1);
	assert_int_equal(on.router.flush.losses_seen, losses_seen);
	ferry_registrar_session(&on.registrar, false);
	assert_false(ferry_router_local(&on.router)->is_doubtful);
}

static void test_reset_was_a_restart(void **state)
{
	(void)state;
	restart_in_session(2, 1); /* Its owner hears of it by the witness. */
}

static void test_reset_was_a_restart_that_others_saw(void **state)
{
	(void)state;
	own();
	restart_in_session(3, 2);
}

/* The first there: it registers only when the owner knows, and so that all see the count grow. */
static void test_witness(void **state)
{
	(void)state;
	join();
	come_back(2);
	assert_int_equal(on.witness, 1);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_WITNESS);
	assert_null(on.pending);
	assert_int_equal(on.view.word, 1000);
	ferry_registrar_poke(&on.registrar);
	assert_null(on.pending); /* The owner has not answered. */
	on.view.told = 1;
	on.view.told_by.v = 3;
	ferry_registrar_poke(&on.registrar);
	assert_null(on.pending); /* Not the owner. */
	on.view.told_by.v = 2;
	on.view.members.count = 1;
	ferry_registrar_poke(&on.registrar);
	assert_null(on.pending); /* It has left. */
	assert_true(ferry_registrar_awaits_owner(&on.registrar));
	on.view.members.count = 3;
	assert_false(ferry_registrar_awaits_owner(&on.registrar));
	ferry_registrar_poke(&on.registrar);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 1, .keys = {key(2, 1), key(1, 3)}));
	for (int i = 0; i < 3; i++) { /* From 1 to 4, where the keys are 2, or 3. */
		assert_int_equal(on.witness, 1);
		expect(FERRY_FENCE_REGISTER);
		answer(0);
	}
	assert_int_equal(on.witness, 0);
	assert_true(is_allowed());
	assert_int_equal(on.router.flush.losses_seen, 1); /* That is for the owner. */
	assert_false(ferry_registrar_awaits_owner(&on.registrar));
	rejoin_and_count_losses(4, 0);
}

/* Each restart has a number of its own: what was told of an earlier one says nothing. */
static void test_witness_again(void **state)
{
	(void)state;
	join();
	on.view.told = 1;
	on.view.told_by.v = 2;
	for (uint64_t i = 1; i <= 2; i++) {
		come_back(1);
		if (i == 2) {
			assert_int_equal(on.witness, 2);
			assert_null(on.pending);
			break;
		}
		while (!is_allowed()) {
			expect(FERRY_FENCE_REGISTER);
			answer(0);
		}
	}
	ferry_registrar_session(&on.registrar, false);
	assert_int_equal(on.witness, 0); /* Another session, another look. */
}

/* Another was quicker: it has told. */
static void test_witness_is_too_late(void **state)
{
	(void)state;
	join();
	come_back(2);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS - 1);
	assert_null(on.pending);
	stand_run_ms(&on.stand, 2);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 4, .keys = {key(2, 1), key(1, 3)}));
	assert_int_equal(on.witness, 0);
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_true(is_allowed());
}

/* The owner itself: it notes the loss; but a claim that only it has heard of makes nobody one. */
static void test_owner_is_the_witness(void **state)
{
	(void)state;
	own();
	join();
	on.view.word = 0;
	on.words_asked = 0;
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	on.view.word = 1;
	ferry_registrar_poke(&on.registrar);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 1, .keys = {key(2, 1)}));
	assert_int_equal(on.words_asked, 2);
	assert_null(on.pending);
	assert_int_equal(on.router.flush.losses_seen, 2); /* At once: others may hide it soon. */
	on.view.epoch.v++;				  /* In each epoch anew. */
	on.view.word = 2;
	ferry_registrar_poke(&on.registrar);
	assert_int_equal(on.words_asked, 3);
	assert_null(on.pending);
	on.view.may_help = false;
	on.view.word = 3;
	ferry_registrar_poke(&on.registrar);
	assert_null(on.pending);
	on.view.may_help = true;
	assert_int_equal(on.router.flush.losses_seen, 2);
	ferry_registrar_poke(&on.registrar);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 1, .keys = {key(2, 1)}));
	assert_int_equal(on.router.flush.losses_seen, 3); /* And what was answered meanwhile. */
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_ASKING);
}

/* Who becomes the owner while it waits notes it, whatever the keys say the next time. */
static void test_witness_becomes_the_owner(void **state)
{
	(void)state;
	join();
	come_back(2);
	assert_int_equal(on.router.flush.losses_seen, 1);
	own();
	on.view.may_help = false; /* By its own word, so far. */
	ferry_registrar_poke(&on.registrar);
	assert_int_equal(on.router.flush.losses_seen, 2);
	ferry_registrar_poke(&on.registrar);
	assert_int_equal(on.router.flush.losses_seen, 2);
	on.view.may_help = true;
	ferry_registrar_poke(&on.registrar);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 15, .keys = {key(2, 1)}));
	assert_int_equal(on.witness, 0);
	assert_int_equal(on.router.flush.losses_seen, 2);
	answer(-EIO);
}

/* Beside foreign keys it does not register, but may be asked to, and tells of a restart before. */
static void test_witness_beside_foreign_keys(void **state)
{
	struct ferry_fence_request keys = {.generation = 2, .keys_count = 2};

	(void)state;
	join();
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	assert_false(ferry_registrar_may_register_beside(&on.registrar, &keys));
	answer_keys(KEYS(.generation = 2, .keys = {foreign, key(2, 1)}));
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_FOREIGN);
	assert_int_equal(on.witness, 1);
	assert_false(ferry_registrar_awaits_owner(&on.registrar)); /* It could not be one. */
	assert_false(ferry_registrar_may_register_beside(&on.registrar, &keys));
	on.view.told = 1;
	on.view.told_by = on.view.owner;
	assert_true(ferry_registrar_may_register_beside(&on.registrar, &keys));
	on.view.told = 0;
	on.view.owner.v = 0; /* Nobody is promised anything. */
	assert_true(ferry_registrar_may_register_beside(&on.registrar, &keys));
	on.view.owner.v = 2;
	keys.generation = 3;
	assert_true(ferry_registrar_may_register_beside(&on.registrar, &keys));
	assert_false(ferry_registrar_may_abort(&on.registrar));
	ferry_registrar_note_beside(&on.registrar);
	assert_true(ferry_registrar_may_abort(&on.registrar));
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	assert_false(ferry_registrar_may_abort(&on.registrar));
	answer_keys(KEYS(.generation = 3, .keys = {foreign, key(2, 1)}));
	assert_int_equal(on.witness, 0);
}

/* A hint is not lost, whatever this node is at: what it has read may be older than the hint. */
static void test_hint_while_joining(void **state)
{
	(void)state;
	for (int at_step = 0; at_step < 3; at_step++) {
		ferry_registrar_session(&on.registrar, true);
		expect(FERRY_FENCE_READ_KEYS);
		if (at_step == 0)
			ferry_registrar_verify(&on.registrar);
		answer_keys(KEYS(.holder = key(2, 1), .generation = 10, .keys = {key(2, 1)}));
		expect(FERRY_FENCE_REGISTER);
		if (at_step == 1)
			ferry_registrar_verify(&on.registrar);
		if (at_step == 2)
			on.view.may_register = false;
		answer(0);
		if (at_step == 2) {
			assert_int_equal(on.registrar.state, FERRY_REGISTRAR_ASKING);
			assert_null(on.pending);
			assert_true(ferry_registrar_may_abort(&on.registrar));
			ferry_registrar_verify(&on.registrar);
		}
		expect(FERRY_FENCE_READ_KEYS);
		assert_false(is_allowed());
		assert_false(ferry_registrar_may_abort(&on.registrar));
		answer(-EIO); /* Again, until it is read. */
		assert_false(is_allowed());
		on.view.may_register = true;
		stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
		answer_keys(KEYS(.holder = key(2, 1), .generation = 11,
				 .keys = {key(2, 1), key(1, 3)}));
		assert_true(is_allowed());
		assert_true(ferry_registrar_may_abort(&on.registrar));
		ferry_registrar_session(&on.registrar, false);
		assert_false(ferry_registrar_may_abort(&on.registrar));
	}
}

/* While it waits for the grant its key is looked for, and is gone: only a new session asks again.
 */
static void test_key_is_gone_while_asking(void **state)
{
	(void)state;
	on.view.may_register = false;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.generation = 10, .keys = {key(2, 1)}));
	answer(0);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_ASKING);
	report_reset();
	answer_keys(KEYS(.generation = 12, .keys = {key(2, 1)}));
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_int_equal(on.path.resets, 1);
	on.view.may_register = true;
	ferry_registrar_poke(&on.registrar);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	assert_null(on.pending);
	assert_false(is_allowed());
}

/* Its own nexus is being laid, in a session that lives on: peers may still be aborted by it. */
static void test_reset_while_it_is_laid(void **state)
{
	(void)state;
	join();
	ferry_lane_allow(ferry_router_local(&on.router), false, "test");
	ferry_registrar_note_laid(&on.registrar);
	assert_true(ferry_registrar_may_abort(&on.registrar));
	report_reset();
	assert_false(ferry_registrar_may_abort(&on.registrar));
	answer_keys(KEYS(.holder = key(2, 1), .generation = 12, .keys = {key(2, 1)}));
	assert_true(ferry_registrar_may_abort(&on.registrar));
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_null(on.pending);
	report_reset();
	answer_keys(KEYS(.holder = key(2, 1), .generation = 1, .keys = {key(2, 1)}));
	assert_false(ferry_registrar_may_abort(&on.registrar));
	assert_int_equal(on.path.resets, 1);
}

/* The key that was read is gone, and who took it is not known. */
static void test_registering_is_refused(void **state)
{
	(void)state;
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.keys = {key(2, 1), key(1, 3)}));
	expect(FERRY_FENCE_REGISTER);
	assert_true(on.pending->kept.v == key(1, 3).v);
	answer(-EACCES);
	on.view.only_if_kept = true;
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(KEYS(.keys = {key(2, 1), key(1, 3)}));
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_null(on.pending);
}

/* ---- Verifying and losing. ---- */

static void test_verify(void **state)
{
	(void)state;
	ferry_registrar_verify(&on.registrar); /* Not registered: nothing to look for. */
	assert_null(on.pending);
	join();
	ferry_registrar_poke(&on.registrar);
	assert_null(on.pending);
	ferry_registrar_verify(&on.registrar);
	answer_keys(KEYS(.generation = 12, .keys = {key(2, 1), key(1, 3)}));
	assert_true(is_allowed());
	assert_null(on.pending); /* Once. */
	ferry_registrar_verify(&on.registrar);
	expect(FERRY_FENCE_READ_KEYS);
	answer(-ETIMEDOUT);
	assert_true(is_allowed()); /* That says nothing. */
	ferry_registrar_verify(&on.registrar);
	ferry_registrar_verify(
		&on.registrar); /* Once more, since the lun may be another's by now. */
	answer_keys(KEYS(.generation = 12, .keys = {key(2, 1), key(1, 3)}));
	answer_keys(KEYS(.generation = 13, .keys = {key(2, 1), key(1, 2)}));
	assert_false(is_allowed());
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_int_equal(on.path.resets, 1); /* Only a new session may register again. */
	assert_int_equal(on.preempted, 0);
	assert_null(on.pending);
}

/* Who fails it may be at failing all that is asked: at once again would be without end. */
static void test_looks_again_later(void **state)
{
	(void)state;
	join();
	report_reset();
	expect(FERRY_FENCE_READ_KEYS);
	answer(-ENOTCONN);
	assert_null(on.pending);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS - 1);
	assert_null(on.pending);
	stand_run_ms(&on.stand, 2);
	answer_keys(KEYS(.generation = 12, .keys = {key(2, 1), key(1, 3)}));
	assert_false(ferry_router_local(&on.router)->is_doubtful);
}

static void test_verifying_ends_with_the_session(void **state)
{
	(void)state;
	join();
	ferry_registrar_verify(&on.registrar);
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.keys = {key(2, 1)})); /* Of the session before. */
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(KEYS(.generation = 12, .keys = {key(2, 1)}));
	answer(0);
	assert_true(is_allowed());
	ferry_registrar_take(&on.registrar,
			     &(struct ferry_drained_keys){.keys = {key(2, 1)}, .count = 1});
	answer_keys(KEYS(.holder = key(1, 3), .generation = 13, .keys = {key(2, 1), key(1, 3)}));
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, 0);
}

/* Whoever took it from the owner did so by a later epoch: the old one never registers again. */
static void test_owner_is_preempted(void **state)
{
	(void)state;
	own();
	join();
	ferry_registrar_lost(&on.registrar);
	assert_int_equal(on.preempted, 1);
	assert_int_equal(on.path.resets, 1);
	assert_false(is_allowed());
	ferry_registrar_lost(&on.registrar);
	assert_int_equal(on.preempted, 1);
	assert_int_equal(on.path.resets, 1);
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	assert_null(on.pending);
	on.view.epoch.v = 4;
	ferry_registrar_poke(&on.registrar);
	assert_null(on.pending);
	on.view.epoch.v = 6;
	ferry_registrar_poke(&on.registrar);
	expect(FERRY_FENCE_READ_KEYS);
	answer(-EIO);
}

static void test_lost_while_asking(void **state)
{
	(void)state;
	on.view.may_register = false;
	ferry_registrar_session(&on.registrar, true);
	ferry_registrar_lost(&on.registrar); /* It has none to lose. */
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_READING);
	answer_keys(KEYS(.keys = {key(2, 1)}));
	answer(0);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_ASKING);
	own();
	on.view.is_in_force = false;
	ferry_registrar_lost(&on.registrar);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_int_equal(on.preempted, 0); /* Its epoch was in force nowhere. */
	assert_int_equal(on.path.resets, 1);
	on.view.may_register = true;
	ferry_registrar_poke(&on.registrar);
	assert_null(on.pending); /* Not in this session. */
}

static void test_was_killed_at_its_own_wish(void **state)
{
	(void)state;
	join();
	ferry_registrar_note_laid(&on.registrar);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	ferry_registrar_was_killed(&on.registrar);
	assert_int_equal(on.path.resets, 1); /* The session has lived through it: a new one. */
	on.path.path.is_up = false;
	ferry_registrar_was_killed(&on.registrar);
	assert_int_equal(on.path.resets, 1); /* It is lost: a new one comes anyway. */
	on.path.path.is_up = true;
	on.is_being_laid = true;
	ferry_registrar_session(&on.registrar, true);
	expect(FERRY_FENCE_READ_KEYS);
	ferry_registrar_was_killed(&on.registrar);
	assert_int_equal(on.path.resets, 1); /* This session has registered nothing yet. */
	answer_keys(KEYS(.keys = {key(2, 1)}));
	answer(0);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_ASKING);
	ferry_registrar_was_killed(&on.registrar); /* And the key with it. */
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_int_equal(on.path.resets, 2);
}

/* What is answered when it is over starts nothing: its path may be gone by then. */
static void test_answer_after_the_end(void **state)
{
	(void)state;
	ferry_registrar_session(&on.registrar, true);
	expect(FERRY_FENCE_READ_KEYS);
	ferry_registrar_done(&on.registrar);
	answer(-ENOTCONN);
	assert_false(ferry_timer_is_started(&on.registrar.retry_timer));
	assert_null(on.pending);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, registrar_setup, registrar_teardown)
		TEST(test_joins),
		TEST(test_does_not_join_unasked),
		TEST(test_waits_for_what_is_older),
		TEST(test_reserves_what_nobody_has),
		TEST(test_tries_again),
		TEST(test_foreign_keys),
		TEST(test_newer_key_of_its_own),
		TEST(test_only_if_kept),
		TEST(test_kept_by_its_own_doing_is_not_kept),
		TEST(test_elder),
		TEST(test_asks_before_it_joins_again),
		TEST(test_session_is_lost_meanwhile),
		TEST(test_lower_count_is_a_restart),
		TEST(test_apart_is_a_restart),
		TEST(test_reset_loses_nothing),
		TEST(test_reset_was_a_restart),
		TEST(test_reset_was_a_restart_that_others_saw),
		TEST(test_witness),
		TEST(test_witness_again),
		TEST(test_witness_is_too_late),
		TEST(test_owner_is_the_witness),
		TEST(test_witness_becomes_the_owner),
		TEST(test_witness_beside_foreign_keys),
		TEST(test_hint_while_joining),
		TEST(test_key_is_gone_while_asking),
		TEST(test_reset_while_it_is_laid),
		TEST(test_registering_is_refused),
		TEST(test_verify),
		TEST(test_looks_again_later),
		TEST(test_verifying_ends_with_the_session),
		TEST(test_owner_is_preempted),
		TEST(test_lost_while_asking),
		TEST(test_was_killed_at_its_own_wish),
		TEST(test_answer_after_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
