/* The engine at a lun with reservations: registering, taking, having ghosts laid, carrying. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/engine_stand.h"

static const struct ferry_key none = {0};
static const struct engine_wish fenced = {.has_fence = true, .has_carrier = true, .peers_count = 2};
static uint32_t dones;
static int done_error;

static void on_done(void *context, int error)
{
	assert_ptr_equal(context, &dones);
	dones++;
	done_error = error;
}

static void open_fenced(void)
{
	dones = 0;
	engine_open(fenced);
}

static void end_unknown(uint32_t i)
{
	stand_end(&at.path, i, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&at.path, i);
	run_ms(1);
}

static void path_set_up(bool is_up)
{
	at.path.path.is_up = is_up;
	at.path.path.on_state(&at.path.path, is_up, is_up ? FERRY_CAUSE_NONE : FERRY_CAUSE_PATH);
	run_ms(1);
}

/* ---- The registration. ---- */

static void test_each_session_registers(void **state)
{
	(void)state;
	open_fenced();
	assert_false(at.has_path);
	join();
	assert_int_equal(at.healths, 1);
	path_set_up(false);
	assert_false(at.has_path);
	assert_false(local()->is_allowed);
	path_set_up(true);
	look();
	assert_non_null(asked(FERRY_FENCE_READ_KEYS));
	answer_keys(key(1, 2), key(2, 1), key(2, 1));
	answer(FERRY_FENCE_REGISTER, 0);
	look();
	assert_true(local()->is_allowed);
}

/* Somebody else took the registration: stop, and only a new session registers again. */
static void test_registration_is_lost(void **state)
{
	static const uint8_t preempted[] = {0x03, 0x04, 0x05};

	(void)state;
	open_fenced();
	join();
	own();
	submit(0, FERRY_OP_FLUSH, 0);
	stand_end(&at.path, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	stand_release(&at.path, 0);
	run_ms(1);
	assert_int_equal(at.engine.registrar.state, FERRY_REGISTRAR_OUT);
	assert_int_equal(at.path.resets, 1);
	assert_int_equal(at.preempted, 1);
	assert_int_equal(at.cuts, 2); /* As it joined; and now what peers have sent for that key. */
	assert_int_equal(engine_teardown(NULL), 0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(preempted); i++) {
		open_fenced();
		ferry_engine_unit_attention(&at.engine, 0x2a, preempted[i]); /* Of no account. */
		assert_int_equal(at.path.resets, 0);
		join();
		ferry_engine_unit_attention(&at.engine, 0x2a, 0x01); /* MODE PARAMETERS CHANGED */
		ferry_engine_unit_attention(&at.engine, 0x3f, preempted[i]);
		assert_true(local()->is_allowed);
		assert_int_equal(at.engine.router.flush.losses_seen, 1);
		ferry_engine_unit_attention(&at.engine, 0x2a, preempted[i]);
		assert_false(local()->is_allowed);
		assert_int_equal(at.path.resets, 1);
		assert_int_equal(at.engine.router.flush.losses_seen, 1);
		if (i + 1 < FERRY_ARRAY_COUNT(preempted))
			assert_int_equal(engine_teardown(NULL), 0);
	}
}

/* A LUN RESET loses nothing, a restart does: the keys' count tells one from the other. */
static void test_reset_is_looked_at(void **state)
{
	(void)state;
	open_fenced();
	join();
	own();
	ferry_engine_unit_attention(&at.engine, 0x29, 0x00);
	assert_true(local()->is_doubtful);
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	run_ms(1);
	assert_false(local()->is_doubtful);
	assert_int_equal(at.engine.router.flush.losses_seen, 1);
	assert_true(local()->is_allowed);
	ferry_engine_unit_attention(&at.engine, 0x29, 0x00);
	at.generation = 20;
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	assert_int_equal(at.engine.router.flush.losses_seen, 2);
	assert_false(local()->is_allowed);
	assert_int_equal(at.path.resets, 1);
	ferry_engine_maybe_reset(&at.engine); /* It is out: there is nothing to look for. */
	assert_null(asked(FERRY_FENCE_READ_KEYS));
}

static void test_hint_is_looked_at(void **state)
{
	(void)state;
	open_fenced();
	join();
	ferry_engine_maybe_reset(&at.engine);
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	assert_true(local()->is_allowed);
	assert_null(asked(FERRY_FENCE_READ_KEYS));
}

static void test_unit_attention_without_reservations(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.peers_count = 2});
	ferry_engine_unit_attention(&at.engine, 0x2a, 0x03);
	assert_int_equal(at.path.resets, 0);
	ferry_engine_unit_attention(&at.engine, 0x29, 0x02);
	assert_int_equal(at.engine.router.flush.losses_seen, 2);
}

/* Lost, and another may write: what the cache has is worth nothing until it is let again. */
static void test_cache_is_barred(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.has_fence = true, .has_cache = true, .peers_count = 2});
	own();
	answer_keys(key(2, 1), none, key(2, 1));
	answer(FERRY_FENCE_REGISTER, 0);
	look();
	assert_int_equal(at.engine.cache.mode, FERRY_CACHE_SERVING);
	ferry_engine_unit_attention(&at.engine, 0x2a, 0x03);
	assert_true(at.engine.cache.is_barred);
	run_ms(1);
	assert_true(at.engine.cache.is_barred);
	at.view.epoch.v = 6;
	path_set_up(false);
	path_set_up(true);
	look();
	answer_keys(key(2, 1), none, key(2, 1));
	answer(FERRY_FENCE_REGISTER, 0);
	look();
	assert_int_equal(at.engine.registrar.state, FERRY_REGISTRAR_IN);
	assert_false(at.engine.cache.is_barred);
}

/* Whoever takes the pool may have preempted this node: better known now than with a peer's I/O. */
static void test_verifies_at_each_change_of_owner(void **state)
{
	(void)state;
	open_fenced();
	join();
	look();
	assert_null(asked(FERRY_FENCE_READ_KEYS));
	at.view.epoch.v = 6;
	at.view.is_in_force = false;
	look();
	assert_null(asked(FERRY_FENCE_READ_KEYS)); /* It has not taken it yet. */
	at.view.is_in_force = true;
	look();
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	look();
	assert_null(asked(FERRY_FENCE_READ_KEYS));
	at.view.epoch.v = 7; /* From in force to in force. */
	look();
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	at.view.is_quorate = false;
	look();
	assert_null(asked(FERRY_FENCE_READ_KEYS));
	at.view.is_quorate = true; /* Back from who knows where. */
	look();
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	at.view.epoch.v = 8; /* Its own claim. */
	own();
	assert_null(asked(FERRY_FENCE_READ_KEYS));
	assert_true(local()->is_allowed);
}

/* A member has found the target restarted: what is unflushed is suspect, then it is said. */
static void test_notes_a_restart(void **state)
{
	(void)state;
	open_fenced();
	join();
	own();
	assert_int_equal(at.noted, 0);
	at.view.restarts = 2;
	look();
	assert_int_equal(at.noted, 2);
	assert_int_equal(at.engine.router.flush.losses_seen, 2);
	look();
	assert_int_equal(at.engine.router.flush.losses_seen, 2);
	at.view.restarts = 3;
	look();
	assert_int_equal(at.noted, 3);
	assert_int_equal(at.engine.router.flush.losses_seen, 3);
}

/* The first at a restarted target counts as having a path where nobody owns the pool. */
static void test_witness_waits_for_an_owner(void **state)
{
	(void)state;
	open_fenced();
	at.view.owner.v = 0;
	at.generation = 1;
	look();
	answer_keys(key(2, 1), key(3, 1), key(2, 1));
	assert_int_equal(at.witness, 1);
	run_ms(1);
	look();
	assert_true(at.has_path);
	assert_false(local()->is_allowed);
	at.view.owner.v = 2; /* There is one: it is to be told. */
	if (asked(FERRY_FENCE_READ_KEYS))
		answer_keys(key(2, 1), key(3, 1), key(2, 1));
	look();
	assert_false(at.has_path);
	at.generation = 10; /* Another was quicker. */
	run_ms(400);
	if (asked(FERRY_FENCE_READ_KEYS))
		answer_keys(key(2, 1), key(3, 1), key(2, 1));
	assert_int_equal(at.witness, 0);
	answer(FERRY_FENCE_REGISTER, -EIO);
}

/* ---- Aborts that others wish for. ---- */

static void test_preempts_at_a_wish(void **state)
{
	(void)state;
	open_fenced();
	join();
	assert_int_equal(ferry_engine_preempt(&at.engine, none, on_done, &dones), -EINVAL);
	assert_int_equal(ferry_engine_preempt(&at.engine, key(1, 2), on_done, &dones), -EINVAL);
	at.path.path.is_up = false;
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 1), on_done, &dones), -ENOTCONN);
	at.path.path.is_up = true;
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 1), on_done, &dones), 0);
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 4), on_done, &dones), -EBUSY);
	assert_true(asked(FERRY_FENCE_PREEMPT)->victim.v == key(3, 1).v);
	assert_true(asked(FERRY_FENCE_PREEMPT)->own.v == key(1, 2).v);
	assert_int_equal(at.engine.router.resets_asked, 1);
	assert_int_equal(dones, 0);
	answer(FERRY_FENCE_PREEMPT, -EIO);
	assert_int_equal(at.engine.router.resets_asked, 0);
	assert_int_equal(dones, 1);
	assert_int_equal(done_error, -EIO);
	assert_true(local()->is_allowed);
	assert_int_equal(ferry_engine_preempt(&at.engine, key(1, 1), on_done, &dones), 0);
	answer(FERRY_FENCE_PREEMPT, -EACCES); /* It has no key: that is news. */
	assert_int_equal(dones, 2);
	assert_int_equal(done_error, -EACCES);
	assert_false(local()->is_allowed);
}

/* A PREEMPT hides that the target was restarted from whoever reads the keys after it. */
static void test_preempts_nobody_before_it_has_looked(void **state)
{
	(void)state;
	open_fenced();
	join();
	ferry_engine_unit_attention(&at.engine, 0x29, 0);
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 1), on_done, &dones), -EAGAIN);
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 1), on_done, &dones), 0);
	answer(FERRY_FENCE_PREEMPT, 0);
	path_set_up(false);
	path_set_up(true);
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 1), on_done, &dones), -EAGAIN);
	look();
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 1), on_done, &dones), -EAGAIN);
	answer(FERRY_FENCE_REGISTER, 0);
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 1), on_done, &dones), 0);
	answer(FERRY_FENCE_PREEMPT, 0);
	assert_int_equal(dones, 2);
}

static void test_preempts_for_peers_only_its_own_kind(void **state)
{
	struct ferry_carrier_lun *lun = &at.engine.carried;

	(void)state;
	open_fenced();
	join();
	assert_int_equal(lun->lay(lun, (struct ferry_key){0x1234}, on_done, &dones), -EINVAL);
	assert_null(asked(FERRY_FENCE_PREEMPT));
	assert_int_equal(lun->lay(lun, key(3, 1), on_done, &dones), 0);
	answer(FERRY_FENCE_PREEMPT, 0);
	assert_int_equal(done_error, 0);
}

static void test_preempts_nobody_without_reservations(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.peers_count = 2});
	assert_int_equal(ferry_engine_preempt(&at.engine, key(3, 1), on_done, &dones), -ENOTCONN);
}

/* ---- Ghosts. ---- */

/* By this node's own nexus: a peer kills it, and nothing more goes by it until then. */
static void test_has_its_own_nexus_killed(void **state)
{
	(void)state;
	open_fenced();
	join();
	own();
	peer_up(0, 40);
	submit(0, FERRY_OP_WRITE, 0);
	end_unknown(0);
	assert_false(local()->is_allowed);
	assert_int_equal(at.engine.registrar.state, FERRY_REGISTRAR_OUT);
	/* The same write goes by the peer; beside it, the wish. */
	assert_int_equal(sent(0, FERRY_WIRE_REQUEST)->op, FERRY_OP_WRITE);
	assert_true(sent(0, FERRY_WIRE_LAY)->victim_key == key(1, 2).v);
	assert_int_equal(sent(0, FERRY_WIRE_LAY)->epoch.v, 5);
	reply(0, FERRY_WIRE_LAY, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH); /* No proof. */
	assert_int_equal(at.engine.router.ghosts_count, 1);
	run_ms(140);
	assert_null(sent(0, FERRY_WIRE_LAY));
	run_ms(20);
	reply(0, FERRY_WIRE_LAY, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	reply(0, FERRY_WIRE_REQUEST, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(at.engine.router.ghosts_count, 0);
	assert_int_equal(at.engine.router.resets_asked, 0);
	assert_int_equal(at.results[0], 0);
	assert_false(local()->is_allowed); /* In a new session, if granted. */
}

/* By a peer's: this node kills it. */
static void test_kills_a_peers_nexus(void **state)
{
	(void)state;
	open_fenced();
	join();
	own();
	peer_up(0, 40);
	path_set_up(false);
	submit(0, FERRY_OP_WRITE, 0);
	run_ms(1);
	assert_int_equal(sent(0, FERRY_WIRE_REQUEST)->op, FERRY_OP_WRITE);
	path_set_up(true);
	reply(0, FERRY_WIRE_REQUEST, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	run_ms(1);
	assert_int_equal(at.engine.router.ghosts_count, 1);
	run_ms(300);
	assert_null(asked(FERRY_FENCE_PREEMPT)); /* A key that was kept would do for the lun. */
	look();
	answer_keys(key(2, 40), key(1, 2), key(2, 40));
	answer(FERRY_FENCE_REGISTER, 0);
	run_ms(150);
	assert_true(asked(FERRY_FENCE_PREEMPT)->victim.v == key(2, 40).v);
	answer(FERRY_FENCE_PREEMPT, -ENOENT);
	assert_int_equal(at.engine.router.ghosts_count, 1);
	run_ms(149);
	assert_null(asked(FERRY_FENCE_PREEMPT));
	run_ms(2);
	answer(FERRY_FENCE_PREEMPT, 0);
	assert_int_equal(at.engine.router.ghosts_count, 0);
	assert_int_equal(at.engine.router.resets_asked, 0);
	run_ms(200);
	assert_null(asked(FERRY_FENCE_PREEMPT));
}

/* A node that has the lun for itself: a new session, and a reset of the lun. */
static void test_resets_alone(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.has_resetter = true, .has_no_group = true});
	own();
	submit(0, FERRY_OP_WRITE, 0);
	end_unknown(0);
	assert_false(local()->is_allowed);
	assert_non_null(asked(FERRY_FENCE_RESET));
	answer(FERRY_FENCE_RESET, -ETIMEDOUT);
	assert_false(local()->is_allowed);
	path_set_up(false);
	run_ms(200);
	assert_null(asked(FERRY_FENCE_RESET)); /* Only in a session. */
	path_set_up(true);
	run_ms(200);
	answer(FERRY_FENCE_RESET, 0);
	assert_int_equal(at.engine.router.ghosts_count, 0);
	assert_true(local()->is_allowed);
	run_ms(1);
	stand_done(&at.path, 1); /* A probe... */
	run_ms(1);
	stand_done(&at.path, 2); /* ...and the write. */
	assert_int_equal(at.results[0], 0);
	run_ms(500);
	assert_null(asked(FERRY_FENCE_RESET));
}

static void test_nobody_lays_without_reservations(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.peers_count = 0});
	own();
	submit(0, FERRY_OP_WRITE, 0);
	end_unknown(0);
	run_ms(1000);
	assert_true(local()->is_allowed);
	assert_int_equal(at.engine.router.ghosts_count, 1);
	at.view.epoch.v = 6; /* Another's taking proves nothing here. */
	at.view.owner.v = 2;
	look();
	assert_int_equal(at.engine.router.ghosts_count, 1);
	at.engine.router.ghosts_count = 0; /* For the end. */
}

/* The next owner preempted and aborted whoever had not drained, before its epoch was in force. */
static void test_next_owners_taking_lays(void **state)
{
	(void)state;
	open_fenced();
	join();
	own();
	submit(0, FERRY_OP_WRITE, 0);
	end_unknown(0);
	assert_int_equal(at.engine.router.ghosts_count, 1);
	assert_true(ferry_laying_is_wanted(&at.engine.laying, local()));
	at.view.epoch.v = 6;
	at.view.owner.v = 2;
	at.view.is_in_force = false;
	look();
	assert_int_equal(at.engine.router.ghosts_count, 1);
	assert_int_equal(at.drained, 5);
	at.view.is_in_force = true;
	look();
	assert_int_equal(at.engine.router.ghosts_count, 0);
	assert_false(ferry_laying_is_wanted(&at.engine.laying, local()));
	assert_int_equal(at.drained, 6);
}

/* Its own later epoch says nothing of its own ghosts. */
static void test_own_taking_lays_nothing(void **state)
{
	(void)state;
	open_fenced();
	join();
	own();
	submit(0, FERRY_OP_WRITE, 0);
	end_unknown(0);
	at.view.epoch.v = 6;
	look();
	assert_int_equal(at.engine.router.ghosts_count, 1);
	assert_true(ferry_laying_is_wanted(&at.engine.laying, local()));
	ferry_laying_settle(&at.engine.laying, local());
	(void)ferry_router_laid(&at.engine.router, local(), UINT64_MAX, "test");
}

/* ---- An elder's writes, by the very same nexus. ---- */

static void meet_elder(void)
{
	look();
	answer_keys(key(2, 1), key(1, 1), key(2, 1));
	answer(FERRY_FENCE_REGISTER, 0);
	look();
	assert_true(at.engine.has_elder);
	assert_false(local()->is_allowed); /* Not before they are dead. */
}

static void test_elder_is_laid_by_a_peer(void **state)
{
	(void)state;
	open_fenced();
	peer_up(0, 40);
	meet_elder();
	at.view.epoch.v = 6;
	at.view.is_in_force = false;
	look();
	assert_int_equal(at.drained, 5); /* Its key is gone, its commands may not be. */
	assert_true(sent(0, FERRY_WIRE_LAY)->victim_key ==
		    key(1, 2).v); /* The nexus has one key. */
	reply(0, FERRY_WIRE_LAY, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	run_ms(1);
	assert_false(at.engine.has_elder);
	assert_int_equal(at.drained, 6);
	assert_int_equal(at.path.resets, 1); /* Its own key went with it. */
}

/* Where registrations are a session's, the elder's may be there beside the new one. */
static void test_elder_of_another_session(void **state)
{
	(void)state;
	open_fenced();
	at.fence.ability.laying = FERRY_LAYING_RESET;
	peer_up(0, 40);
	meet_elder();
	run_ms(1);
	assert_true(sent(0, FERRY_WIRE_LAY)->victim_key == key(1, 1).v);
	reply(0, FERRY_WIRE_LAY, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	run_ms(1);
	assert_false(at.engine.has_elder);
	assert_true(at.engine.laying.victim_local.v == key(1, 2).v); /* From now on its own. */
}

/* Of the epoch itself it may be; a later one of another's proves it dead. */
static void test_elder_is_laid_by_the_next_owner(void **state)
{
	(void)state;
	open_fenced();
	meet_elder();
	look();
	assert_true(at.engine.has_elder);
	at.view.epoch.v = 6;
	look();
	assert_false(at.engine.has_elder);
	assert_int_equal(at.drained, 6);
}

/* ---- Taking the lun. ---- */

static void test_takes_without_reservations(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.peers_count = 2});
	ferry_engine_take(&at.engine, &(struct ferry_drained_keys){});
	assert_int_equal(at.takes, 1);
	assert_int_equal(at.taken, 0);
}

static void test_takes(void **state)
{
	struct ferry_drained_keys drained = {.keys = {key(2, 1)}, .count = 1};

	(void)state;
	open_fenced();
	join();
	at.view.epoch.v = 6;
	own();
	ferry_engine_take(&at.engine, &drained);
	run_ms(1);
	answer_keys(key(2, 1), key(1, 2), key(2, 1)); /* Node 2's needs no preempting. */
	assert_int_equal(at.takes, 1);
	assert_int_equal(at.taken, 0);
	run_ms(500);
	assert_int_equal(at.takes, 1);
}

/* Node 2's epoch is over, and nobody has drained. */
static void begin_taking(void)
{
	at.view.epoch.v = 6;
	own();
	ferry_engine_take(&at.engine, &(struct ferry_drained_keys){});
}

/* What it carries for the last owner ends first. */
static void test_takes_when_nothing_is_carried(void **state)
{
	(void)state;
	open_fenced();
	join();
	carry(1, 5);
	assert_int_equal(at.path.count, 1);
	begin_taking();
	run_ms(10);
	assert_null(asked(FERRY_FENCE_READ_KEYS));
	assert_int_equal(at.drained, 5);
	stand_done(&at.path, 0);
	run_ms(1);
	assert_non_null(asked(FERRY_FENCE_READ_KEYS));
	assert_int_equal(at.drained, 6);
	answer(FERRY_FENCE_READ_KEYS, -EIO);
}

/* What it carried may yet land: its own nexus goes first, for who takes does not abort itself. */
static void test_taker_is_clean(void **state)
{
	(void)state;
	open_fenced();
	join();
	peer_up(0, 40);
	carry(1, 5);
	end_unknown(0);
	assert_int_equal(at.engine.carried.ghost_epoch.v, 5);
	assert_true(local()->is_allowed);
	begin_taking();
	run_ms(1);
	assert_false(local()->is_allowed);
	assert_int_equal(at.path.resets, 1); /* And comes up anew. */
	run_ms(1);
	assert_int_equal(at.path.resets, 1);
	assert_true(sent(0, FERRY_WIRE_LAY)->victim_key == key(1, 2).v);
	assert_int_equal(at.takes, 0);
	reply(0, FERRY_WIRE_LAY, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(at.engine.carried.ghost_epoch.v, 0);
	path_set_up(false);
	path_set_up(true);
	look();
	answer_keys(key(2, 1), none, key(2, 1));
	answer(FERRY_FENCE_REGISTER, 0);
	look();
	answer_keys(key(1, 2), none, key(1, 2));
	assert_int_equal(at.taken, 0);
}

/* An old claim preempts nobody for a new one. */
static void test_take_is_overtaken(void **state)
{
	(void)state;
	open_fenced();
	join();
	begin_taking();
	run_ms(1);
	at.view.epoch.v = 7;
	at.view.owner.v = 3;
	look();
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	assert_null(asked(FERRY_FENCE_PREEMPT));
	run_ms(500);
	assert_null(asked(FERRY_FENCE_PREEMPT));
	assert_int_equal(at.takes, 0);
}

static void test_take_is_overtaken_before_it_begins(void **state)
{
	(void)state;
	open_fenced();
	join();
	carry(1, 5);
	begin_taking();
	run_ms(1);
	at.view.epoch.v = 7;
	at.view.owner.v = 3;
	at.view.is_in_force = false;
	look();
	stand_done(&at.path, 0);
	at.view.epoch.v = 8; /* This node's again, but it has not been told to take it. */
	own();
	run_ms(500);
	assert_null(asked(FERRY_FENCE_READ_KEYS));
	assert_int_equal(at.takes, 0);
}

/* A second claim of its own: the first one's taking ends unheard, though the second waits yet. */
static void test_takes_anew(void **state)
{
	(void)state;
	open_fenced();
	join();
	carry(1, 5);
	at.view.epoch.v = 6;
	own();
	stand_done(&at.path, 0);
	ferry_engine_take(&at.engine,
			  &(struct ferry_drained_keys){.keys = {key(2, 1)}, .count = 1});
	run_ms(1);
	assert_non_null(asked(FERRY_FENCE_READ_KEYS));
	at.engine.carried.jobs_count++; /* For the owner of the epoch between. */
	at.view.epoch.v = 8;
	look();
	ferry_engine_take(&at.engine,
			  &(struct ferry_drained_keys){.keys = {key(2, 1)}, .count = 1});
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	run_ms(500);
	assert_int_equal(at.takes, 0);
	at.engine.carried.jobs_count--;
	look();
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
	assert_int_equal(at.takes, 1);
}

static void take_in(uint64_t epoch, bool is_answered_for, bool knows_suspect)
{
	struct ferry_drained_keys drained = {.keys = {key(2, 1)},
					     .count = 1,
					     .suspects = {key(4, 1)},
					     .suspects_count = knows_suspect,
					     .is_answered_for = is_answered_for};

	at.view.epoch.v = epoch;
	at.view.owner.v = 1;
	at.view.is_in_force = false;
	look();
	ferry_engine_take(&at.engine, &drained);
	run_ms(1);
	answer_keys(key(2, 1), key(1, 2), key(2, 1));
}

/* By a person's word, which came to nothing: who takes next without one has no proof from it. */
static void test_a_word_proves_nothing(void **state)
{
	(void)state;
	open_fenced();
	join();
	take_in(6, /* is_answered_for= */ true, /* knows_suspect= */ true);
	assert_true(asked(FERRY_FENCE_PREEMPT)->is_answered_for);
	answer(FERRY_FENCE_PREEMPT, 0);
	assert_int_equal(at.takes, 1);
	assert_int_equal(at.taken, 0);
	take_in(7, /* is_answered_for= */ false, /* knows_suspect= */ false);
	assert_non_null(asked(FERRY_FENCE_PREEMPT));
	assert_true(asked(FERRY_FENCE_PREEMPT)->victim.v == key(4, 1).v);
	assert_false(asked(FERRY_FENCE_PREEMPT)->is_answered_for);
	answer(FERRY_FENCE_PREEMPT, -EOPNOTSUPP);
	assert_int_equal(at.taken, -EOPNOTSUPP);
	take_in(8, /* is_answered_for= */ true, /* knows_suspect= */ false);
	answer(FERRY_FENCE_PREEMPT, 0);
	at.view.is_in_force = true; /* Now the pool has been served by it. */
	look();
	take_in(9, /* is_answered_for= */ false, /* knows_suspect= */ false);
	assert_null(asked(FERRY_FENCE_PREEMPT));
	assert_int_equal(at.takes, 4);
	assert_int_equal(at.taken, 0);
}

/* A ghost that it carried is dead when a later epoch is in force; of the epoch itself it is not. */
static void test_carried_ghosts(void **state)
{
	(void)state;
	open_fenced();
	join();
	carry(1, 5);
	end_unknown(0);
	assert_int_equal(at.engine.carried.ghost_epoch.v, 5);
	look();
	assert_int_equal(at.engine.carried.ghost_epoch.v, 5);
	at.view.epoch.v = 6;
	at.view.is_in_force = false;
	look();
	assert_int_equal(at.engine.carried.ghost_epoch.v, 5);
	assert_int_equal(at.drained, 5);
	at.view.is_in_force = true;
	look();
	assert_int_equal(at.engine.carried.ghost_epoch.v, 0);
	assert_int_equal(at.drained, 6);
}

/* Of those whose writes may yet land none is dropped for want of room. */
static void test_more_suspects_than_can_be(void **state)
{
	struct ferry_drained_keys drained = {.keys = {key(2, 1)}, .count = 1};

	(void)state;
	open_fenced();
	join();
	for (uint32_t i = 0; i < FERRY_KEYS_MAX; i++)
		drained.suspects[drained.suspects_count++] = key(4, 1 + i);
	at.view.epoch.v = 6;
	at.view.owner.v = 1;
	at.view.is_in_force = false;
	look();
	ferry_engine_take(&at.engine, &drained);
	run_ms(1);
	assert_int_equal(at.takes, 0);
	take_in(7, /* is_answered_for= */ false, /* knows_suspect= */ true); /* One of them. */
	assert_int_equal(at.takes, 0);
	drained.suspects[0] = key(4, 1 + FERRY_KEYS_MAX);
	drained.suspects_count = 1;
	ferry_engine_take(&at.engine, &drained);
	assert_int_equal(at.takes, 1);
	assert_int_equal(at.taken, -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_teardown(name, engine_teardown)
		TEST(test_each_session_registers),
		TEST(test_registration_is_lost),
		TEST(test_reset_is_looked_at),
		TEST(test_hint_is_looked_at),
		TEST(test_unit_attention_without_reservations),
		TEST(test_cache_is_barred),
		TEST(test_verifies_at_each_change_of_owner),
		TEST(test_notes_a_restart),
		TEST(test_witness_waits_for_an_owner),
		TEST(test_preempts_at_a_wish),
		TEST(test_preempts_nobody_before_it_has_looked),
		TEST(test_preempts_for_peers_only_its_own_kind),
		TEST(test_preempts_nobody_without_reservations),
		TEST(test_has_its_own_nexus_killed),
		TEST(test_kills_a_peers_nexus),
		TEST(test_resets_alone),
		TEST(test_nobody_lays_without_reservations),
		TEST(test_next_owners_taking_lays),
		TEST(test_own_taking_lays_nothing),
		TEST(test_elder_is_laid_by_a_peer),
		TEST(test_elder_of_another_session),
		TEST(test_elder_is_laid_by_the_next_owner),
		TEST(test_takes_without_reservations),
		TEST(test_takes),
		TEST(test_takes_when_nothing_is_carried),
		TEST(test_taker_is_clean),
		TEST(test_take_is_overtaken),
		TEST(test_take_is_overtaken_before_it_begins),
		TEST(test_takes_anew),
		TEST(test_a_word_proves_nothing),
		TEST(test_more_suspects_than_can_be),
		TEST(test_carried_ghosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
