/* What a write that was carried may leave behind, and laying what its requester left. */
#include "agent/core/carrier_stand.h"

static void test_unknown_leaves_a_ghost(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	stand_end(&at.path, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&at.path, 0);
	assert_int_equal(at.replies[0].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(at.lun.ghost_epoch.v, 5);
}

/* Its deadline passed: the requester is told, and what comes of it later is a ghost or nothing. */
static void test_overdue(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	static const struct ferry_path_ops no_reset = {.name = "stand",
						       .submit = stand_path_submit};

	(void)state;
	at.path.path.ops = &no_reset;
	say(&write);
	stand_run_ms(&at.stand, 1100);
	assert_int_equal(at.replies_count, 1);
	assert_int_equal(at.replies[0].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(at.replies[0].cause, FERRY_CAUSE_TIMEOUT);
	assert_int_equal(at.lun.jobs_count, 1); /* It is still there. */
	assert_int_equal(at.lun.ghost_epoch.v, 0);
	stand_end(&at.path, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&at.path, 0);
	assert_int_equal(at.replies_count, 1);
	assert_int_equal(at.lun.ghost_epoch.v, 5);
	assert_int_equal(at.lun.jobs_count, 0);
}

/* Where nobody aborts, the requester, which has made it a ghost, is told of its end. */
static void test_late_end_is_told(void **state)
{
	struct ferry_wire_header header = request(1, FERRY_OP_WRITE);
	static const struct ferry_path_ops no_reset = {.name = "stand",
						       .submit = stand_path_submit};

	(void)state;
	at.path.path.ops = &no_reset;
	at.lun.answers_at_end = true;
	say(&header);
	header = request(2, FERRY_OP_READ);
	say(&header);
	stand_run_ms(&at.stand, 1100);
	assert_int_equal(at.replies_count, 1); /* A read is nobody's ghost. */
	assert_int_equal(at.replies[0].sequence, 2);
	stand_done(&at.path, 0);
	stand_done(&at.path, 1);
	assert_int_equal(at.replies_count, 2);
	assert_int_equal(at.replies[1].sequence, 1);
	assert_int_equal(at.replies[1].outcome, FERRY_OUTCOME_DONE);
	assert_int_equal(at.lun.jobs_count, 0);
}

/* But not if it hangs while the window fills up behind it, which would close it for all luns. */
static void test_a_late_end_is_not_waited_for_by_all(void **state)
{
	static const struct ferry_path_ops no_reset = {.name = "stand",
						       .submit = stand_path_submit};
	struct ferry_wire_header header = request(1, FERRY_OP_WRITE);

	(void)state;
	at.path.path.ops = &no_reset;
	at.lun.answers_at_end = true;
	header.floor = 1;
	say(&header);
	stand_run_ms(&at.stand, 1100);
	assert_int_equal(at.replies_count, 0);
	header = request(FERRY_WIRE_WINDOW_MAX / 2, FERRY_OP_READ);
	header.floor = 1;
	say(&header);
	assert_int_equal(at.replies_count, 1); /* The path is not used any more. */
	assert_int_equal(at.replies[0].sequence, FERRY_WIRE_WINDOW_MAX / 2);
	header = request(FERRY_WIRE_WINDOW_MAX / 2 + 1, FERRY_OP_READ);
	header.floor = 1;
	say(&header);
	assert_int_equal(at.replies_count, 3);
	assert_int_equal(at.replies[1].sequence, 1);
	assert_int_equal(at.replies[1].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(at.replies[2].sequence, FERRY_WIRE_WINDOW_MAX / 2 + 1);
	stand_done(&at.path, 0);
	assert_int_equal(at.replies_count, 3);
	assert_int_equal(at.lun.jobs_count, 0);
}

/* A read leaves none; of several the newest epoch counts. */
static void test_ghosts_of_epochs(void **state)
{
	struct ferry_wire_header header = request(1, FERRY_OP_READ);

	(void)state;
	say(&header);
	header = request(2, FERRY_OP_DISCARD);
	say(&header);
	at.view.epoch.v = 6;
	header = request(3, FERRY_OP_WRITE);
	header.epoch.v = 6;
	say(&header);
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t which = i == 0 ? 0 : 3 - i; /* The newer write before the older. */

		stand_end(&at.path, which, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		stand_release(&at.path, which);
		assert_int_equal(at.lun.ghost_epoch.v, i == 0 ? 0 : 6);
	}
}

static void test_lay(void **state)
{
	struct ferry_wire_header lay = {.type = FERRY_WIRE_LAY,
					.node = {1},
					.incarnation = {4},
					.lineage = lineage,
					.epoch = {5},
					.sequence = 1,
					.floor = 1,
					.lun = lun_uuid};

	(void)state;
	lay.victim_key = ferry_key_make((struct ferry_node){3}, (struct ferry_incarnation){1}).v;
	say(&lay);
	assert_int_equal(at.lays, 1);
	assert_int_equal(at.replies[0].type, FERRY_WIRE_LAY_REPLY);
	assert_int_equal(at.replies[0].outcome, FERRY_OUTCOME_DONE);
	at.view.owner.v = 3; /* Not the owner any more: only its own nexus is its to have killed. */
	at.view.epoch.v = 6;
	lay.sequence = 2;
	say(&lay);
	assert_int_equal(at.lays, 1);
	assert_int_equal(at.replies[1].cause, FERRY_CAUSE_STALE);
	lay.sequence = 3;
	lay.victim_key = ferry_key_make((struct ferry_node){1}, (struct ferry_incarnation){4}).v;
	say(&lay);
	assert_int_equal(at.lays, 2);
	assert_int_equal(at.carrier.stats.laid, 2);
	assert_int_equal(at.carrier.stats.refused, 1);
	lay.sequence = 4;
	at.lay_error = -EIO; /* Not proven. */
	say(&lay);
	assert_int_equal(at.replies[3].outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(at.replies[3].cause, FERRY_CAUSE_UNHEALTHY);
	lay.sequence = 5;
	at.lay_refusal = -EBUSY;
	say(&lay);
	assert_int_equal(at.replies[4].cause, FERRY_CAUSE_UNHEALTHY);
	assert_int_equal(at.carrier.stats.laid, 2);
	assert_int_equal(at.lun.jobs_count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, carrier_setup, carrier_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_unknown_leaves_a_ghost), TEST(test_overdue),
		TEST(test_late_end_is_told),	   TEST(test_a_late_end_is_not_waited_for_by_all),
		TEST(test_ghosts_of_epochs),	   TEST(test_lay),
	};

	return cmocka_run_group_tests_name("carrier_ghost", tests, NULL, NULL);
}
