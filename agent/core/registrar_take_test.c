/* Taking a lun over, against a fence port that says what the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/registrar_stand.h"

static void take(struct ferry_drained_keys drained)
{
	ferry_registrar_take(&on.registrar, &drained);
}

static void test_takes(void **state)
{
	struct ferry_drained_keys drained = {.keys = {key(2, 1)},
					     .count = 1,
					     .suspects = {key(4, 1), ferry_key_of_nobody()},
					     .suspects_count = 2};

	(void)state;
	own();
	join();
	take(drained);
	/* Nobody is preempted before the lun keeps out whoever is. */
	answer_keys(KEYS(.is_free = true, .generation = 12, .keys = {key(1, 3), key(3, 1)}));
	expect(FERRY_FENCE_RESERVE);
	answer(-EBUSY);
	answer_keys(KEYS(.generation = 12, .keys = {key(2, 1), key(1, 3), key(3, 1), key(3, 2)}));
	expect_preempt(key(3, 1));
	answer(0);
	assert_int_equal(on.router.resets_asked, 0);
	answer_keys(KEYS(.generation = 13, .keys = {key(2, 1), key(1, 3), key(3, 2)}));
	expect_preempt(key(3, 2));
	answer(-ENOENT); /* The lun says what is so. */
	answer_keys(KEYS(.holder = key(2, 1), .generation = 14, .keys = {key(2, 1), key(1, 3)}));
	expect_preempt(
		key(4, 1)); /* What suspects left in flight, unknown to the lun as they are. */
	answer(0);
	expect_preempt(key(3, 1)); /* Their keys are gone: nothing but their names is left. */
	answer(0);
	expect_preempt(key(3, 2));
	assert_int_equal(on.takes, 0);
	answer(0);
	assert_null(on.pending);
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, 0);
	assert_true(is_allowed());
	assert_int_equal(on.router.resets_asked, 0);
	ferry_registrar_verify(&on.registrar); /* It is over. */
	answer_keys(KEYS(.generation = 14, .keys = {key(1, 3)}));
	assert_null(on.pending);
}

/* What a further PREEMPT would hide is looked at first; what has been done stays done. */
static void test_looks_at_a_reset_between_steps(void **state)
{
	struct ferry_drained_keys drained = {.suspects = {key(4, 1)}, .suspects_count = 1};

	(void)state;
	own();
	join();
	take(drained);
	answer_keys(KEYS(.generation = 12, .keys = {key(1, 3), key(3, 1)}));
	expect_preempt(key(3, 1));
	ferry_registrar_look_at_reset(&on.registrar);
	answer(0);
	answer_keys(KEYS(.generation = 13, .keys = {key(1, 3)})); /* It was none. */
	answer_keys(KEYS(.holder = key(1, 3), .generation = 14, .keys = {key(1, 3), key(3, 1)}));
	expect_preempt(key(4, 1)); /* Node 3 is back, and has been preempted once. */
	ferry_registrar_look_at_reset(&on.registrar);
	answer(0);
	answer_keys(KEYS(.generation = 14, .keys = {key(1, 3), key(3, 1)}));
	answer_keys(KEYS(.holder = key(1, 3), .generation = 14, .keys = {key(1, 3), key(3, 1)}));
	expect_preempt(key(3, 1)); /* The next one; and this time it was a restart. */
	ferry_registrar_look_at_reset(&on.registrar);
	answer(-EIO);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 2, .keys = {key(1, 3), key(3, 1)}));
	assert_null(on.pending);
	assert_int_equal(on.registrar.take, FERRY_TAKE_WAITING);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_OUT);
	assert_int_equal(on.takes, 0);
}

/* Where an abort is a LUN RESET, nobody's name is the one for what nobody is known to have sent. */
static void test_takes_with_a_reset(void **state)
{
	struct ferry_drained_keys drained = {.suspects = {ferry_key_of_nobody()},
					     .suspects_count = 1};

	(void)state;
	on.fence.ability.laying = FERRY_LAYING_RESET;
	own();
	join();
	take(drained);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 12, .keys = {key(1, 3)}));
	expect_preempt(ferry_key_of_nobody());
	answer(0);
	assert_int_equal(on.taken, 0);
	on.fence.ability.laying = 0; /* Nothing is proven: that is for the lun to refuse. */
	on.taken = 1;
	take(drained);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 12, .keys = {key(1, 3)}));
	expect_preempt(ferry_key_of_nobody());
	answer(-EOPNOTSUPP);
	assert_int_equal(on.taken, -EOPNOTSUPP);
	assert_null(on.pending);
}

/*
 * Somebody's registration may have been removed before the proof: where each node has been heard,
 * or found registered, it is known who that can have been. Else nobody knows the name.
 */
static void test_takes_where_one_is_forgotten(void **state)
{
	struct ferry_drained_keys drained = {.keys = {key(1, 3)},
					     .count = 1,
					     .suspects = {ferry_key_of_forgotten()},
					     .suspects_count = 1,
					     .nodes = ferry_members_of(3)};

	(void)state;
	on.fence.ability.laying = FERRY_LAYING_REINSTATE;
	own();
	join();
	take(drained);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 12, .keys = {key(1, 3), key(2, 1)}));
	expect_preempt(key(2, 1));
	answer(0);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 13, .keys = {key(1, 3)}));
	expect_preempt(ferry_key_of_forgotten()); /* Node 3 it may be. */
	answer(-EOPNOTSUPP);
	assert_int_equal(on.taken, -EOPNOTSUPP);
	/* Nor is node 9 node 3, which is in the cluster no more and left its registration. */
	take(drained);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 13,
			 .keys = {key(1, 3), key(2, 1), key(9, 1)}));
	expect_preempt(key(2, 1));
	answer(0);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 14, .keys = {key(1, 3), key(9, 1)}));
	expect_preempt(key(9, 1));
	answer(0);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 15, .keys = {key(1, 3)}));
	expect_preempt(ferry_key_of_forgotten());
	answer(-EOPNOTSUPP);
	drained.nodes = ferry_members_of(2);
	take(drained);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 13, .keys = {key(1, 3)}));
	expect_preempt(ferry_key_of_forgotten()); /* Its own name, twice, is one. */
	answer(-EOPNOTSUPP);
	take(drained);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 13, .keys = {key(1, 3), key(2, 1)}));
	expect_preempt(key(2, 1));
	answer(0);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 14, .keys = {key(1, 3)}));
	expect_preempt(key(2, 1)); /* By name once more. */
	answer(0);
	assert_null(on.pending);
	assert_int_equal(on.taken, 0);
}

static void test_takes_once_it_is_registered(void **state)
{
	(void)state;
	own();
	on.view.may_register = false;
	take((struct ferry_drained_keys){});
	assert_null(on.pending);
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.is_free = true, .keys = {key(2, 1)}));
	answer(0);
	expect(FERRY_FENCE_RESERVE);
	answer(0);
	assert_null(on.pending); /* May it? */
	on.view.may_register = true;
	ferry_registrar_poke(&on.registrar);
	answer_keys(KEYS(.generation = 12, .keys = {foreign}));
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, -EPERM);
	assert_int_equal(on.refusals, 1);
}

/* A step failed: from the keys again, but nobody is aborted twice. */
static void test_takes_again_after_an_error(void **state)
{
	struct ferry_drained_keys drained = {.suspects = {key(4, 1), key(5, 1)},
					     .suspects_count = 2};
	struct keys lun = {.holder = key(1, 3), .generation = 12, .keys = {key(1, 3)}};
	struct keys with_one = {
		.holder = key(1, 3), .generation = 12, .keys = {key(1, 3), key(3, 1)}};
	static const int errors[] = {-EIO, -ETIMEDOUT, -ENOTCONN};

	(void)state;
	own();
	join();
	take(drained);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(errors); i++) {
		if (i == 1) {
			answer_keys(with_one);
			expect_preempt(key(3, 1));
		} else if (i == 2) {
			answer_keys(lun);
			expect_preempt(key(4, 1));
			answer(0);
			expect_preempt(key(5, 1));
		}
		answer(errors[i]);
		assert_int_equal(on.takes, 0);
		assert_int_equal(on.router.resets_asked, 0);
		stand_run_ms(&on.stand, REGISTRAR_RETRY_MS - 1);
		assert_null(on.pending);
		stand_run_ms(&on.stand, 2);
	}
	answer_keys(lun);
	expect_preempt(key(5, 1));
	answer(-ENOENT); /* The reservation is gone, and with it what kept the suspect out. */
	assert_int_equal(on.takes, 0);
	stand_run_ms(&on.stand, REGISTRAR_RETRY_MS + 1);
	answer_keys(lun);
	expect_preempt(key(5, 1));
	answer(0);
	expect_preempt(key(3, 1)); /* A suspect too, from when its key was to be removed. */
	answer(0);
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, 0);
}

/* The registration went while it took: all of it again, in a session that has one. */
static void test_loses_the_lun_while_taking(void **state)
{
	(void)state;
	on.view.may_register = true;
	join();
	take((struct ferry_drained_keys){});
	answer_keys(KEYS(.generation = 12, .keys = {key(1, 3), key(3, 1)}));
	expect_preempt(key(3, 1));
	answer(-EACCES);
	assert_false(is_allowed());
	assert_int_equal(on.path.resets, 1);
	assert_int_equal(on.takes, 0);
	ferry_registrar_session(&on.registrar, false);
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.holder = key(3, 1), .generation = 13, .keys = {key(3, 1)}));
	answer(0);
	answer_keys(KEYS(.holder = key(3, 1), .generation = 14, .keys = {key(1, 3)}));
	expect_preempt(key(3, 1));
	answer(0);
	assert_int_equal(on.taken, 0);
}

static void test_session_goes_while_taking(void **state)
{
	(void)state;
	join();
	take((struct ferry_drained_keys){});
	answer_keys(KEYS(.generation = 12, .keys = {key(1, 3), key(3, 1)}));
	ferry_registrar_session(&on.registrar, false);
	answer(0); /* Of no use: who knows what came after. */
	assert_int_equal(on.router.resets_asked, 0);
	assert_int_equal(on.takes, 0);
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 13, .keys = {key(1, 3)}));
	answer(0);
	answer_keys(KEYS(.holder = key(1, 3), .generation = 14, .keys = {key(1, 3)}));
	expect_preempt(key(3, 1));
	answer(0);
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, 0);
}

/* Another has claimed the pool: what the old claim had begun ends unheard. */
static void test_taking_is_dropped(void **state)
{
	(void)state;
	join();
	take((struct ferry_drained_keys){});
	answer_keys(KEYS(.generation = 12, .keys = {key(1, 3), key(3, 1)}));
	ferry_registrar_verify(&on.registrar); /* Waits for the taking. */
	ferry_registrar_drop_take(&on.registrar);
	expect_preempt(key(3, 1));
	answer(0);
	assert_int_equal(on.router.resets_asked, 0);
	answer_keys(KEYS(.generation = 13, .keys = {key(1, 3)})); /* What waited for it. */
	assert_null(on.pending);
	assert_int_equal(on.takes, 0);
	assert_true(is_allowed());
}

/* A new taking while an old one's step is under way begins with the keys, not with its answer. */
static void test_taking_begins_anew(void **state)
{
	(void)state;
	join();
	take((struct ferry_drained_keys){});
	expect(FERRY_FENCE_READ_KEYS);
	take((struct ferry_drained_keys){.keys = {key(3, 1)}, .count = 1});
	answer_keys(KEYS(.generation = 12, .keys = {key(1, 3), key(2, 1)}));
	answer_keys(KEYS(.holder = key(1, 3), .generation = 12, .keys = {key(1, 3), key(3, 1)}));
	assert_null(on.pending);
	assert_int_equal(on.takes, 1);
	assert_int_equal(on.taken, 0);
}

/* Verifying waits for the taking, and is done after it. */
static void test_verifies_after_taking(void **state)
{
	(void)state;
	own();
	join();
	ferry_registrar_verify(&on.registrar);
	take((struct ferry_drained_keys){}); /* Waits in its turn. */
	answer_keys(KEYS(.generation = 12, .keys = {key(1, 3)}));
	answer_keys(KEYS(.holder = key(1, 3), .generation = 12, .keys = {key(1, 3)}));
	assert_int_equal(on.taken, 0);
	assert_null(on.pending);
}

static void test_too_many_suspects(void **state)
{
	struct ferry_drained_keys drained = {.suspects_count = FERRY_KEYS_MAX};

	(void)state;
	for (uint32_t i = 0; i < FERRY_KEYS_MAX; i++)
		drained.suspects[i] = key(100 + i, 1);
	own();
	join();
	take(drained);
	answer_keys(KEYS(.generation = 12, .keys = {key(1, 3), key(100 + FERRY_KEYS_MAX - 1, 1)}));
	expect_preempt(key(100 + FERRY_KEYS_MAX - 1, 1)); /* One that is known. */
	answer(0);
	answer_keys(KEYS(.generation = 13, .keys = {key(1, 3), key(3, 1)}));
	assert_null(on.pending);
	assert_int_equal(on.taken, -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, registrar_setup, registrar_teardown)
		TEST(test_takes),
		TEST(test_takes_with_a_reset),
		TEST(test_looks_at_a_reset_between_steps),
		TEST(test_takes_where_one_is_forgotten),
		TEST(test_takes_once_it_is_registered),
		TEST(test_takes_again_after_an_error),
		TEST(test_loses_the_lun_while_taking),
		TEST(test_session_goes_while_taking),
		TEST(test_taking_is_dropped),
		TEST(test_taking_begins_anew),
		TEST(test_verifies_after_taking),
		TEST(test_too_many_suspects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
