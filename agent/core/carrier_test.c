/* What the carrier carries, and what it refuses (rules 7 and 8). */
#include "agent/core/carrier_stand.h"

static void test_carries(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	struct ferry_wire_header read = request(2, FERRY_OP_READ);

	(void)state;
	say(&write);
	say(&read);
	assert_int_equal(at.path.count, 2);
	assert_int_equal(at.lun.jobs_count, 2);
	stand_done(&at.path, 1);
	stand_done(&at.path, 0);
	assert_int_equal(at.replies_count, 2);
	assert_int_equal(at.replies[0].sequence, 2);
	assert_int_equal(at.replies[0].payload_bytes, 2 * STAND_BLOCK_BYTES);
	assert_int_equal(at.replies[1].outcome, FERRY_OUTCOME_DONE);
}

static void test_standing(void **state)
{
	struct ferry_wire_header header;

	(void)state;
	header = request(1, FERRY_OP_WRITE);
	header.epoch.v = 4;
	expect_refused(&header, FERRY_CAUSE_STALE);
	header = request(2, FERRY_OP_WRITE);
	header.epoch.v = 6;
	expect_refused(&header, FERRY_CAUSE_STALE);
	header = request(3, FERRY_OP_READ);
	header.lineage.bytes[0] = 7;
	expect_refused(&header, FERRY_CAUSE_STALE);
	at.view.is_quorate = false;
	header = request(4, FERRY_OP_READ);
	expect_refused(&header, FERRY_CAUSE_STALE);
	at.view.is_quorate = true;
	at.view.owner.v = 3;
	header = request(5, FERRY_OP_READ);
	expect_refused(&header, FERRY_CAUSE_STALE);
	at.view.owner.v = 1;
	at.view.members.nodes[0].v = 8;
	header = request(6, FERRY_OP_READ);
	expect_refused(&header, FERRY_CAUSE_STALE);
}

static void test_lun_and_range(void **state)
{
	struct ferry_wire_header header = request(1, FERRY_OP_WRITE);

	(void)state;
	header.lun.bytes[15] = 1;
	expect_refused(&header, FERRY_CAUSE_LUN);
	header = request(2, FERRY_OP_READ);
	header.lba.v = 99;
	expect_refused(&header, FERRY_CAUSE_INVALID);
	header = request(3, FERRY_OP_WRITE);
	header.length_blocks = 1; /* Less than its data. */
	expect_refused(&header, FERRY_CAUSE_INVALID);
	header = request(4, FERRY_OP_READ);
	at.path.path.is_up = false;
	expect_refused(&header, FERRY_CAUSE_UNHEALTHY);
}

/* The reply was lost, the requester asks again by the same number: once is enough. */
static void test_asked_again(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	say(&write); /* While it runs. */
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
	assert_int_equal(at.replies_count, 1);
	say(&write); /* And when it is over. */
	assert_int_equal(at.path.count, 1);
	assert_int_equal(at.replies_count, 2);
	assert_int_equal(at.replies[1].outcome, FERRY_OUTCOME_DONE);
	assert_int_equal(at.carrier.stats.repeated, 2);
}

static void test_below_the_floor(void **state)
{
	struct ferry_wire_header later = request(5, FERRY_OP_READ);
	struct ferry_wire_header earlier = request(2, FERRY_OP_WRITE);

	(void)state;
	later.floor = 4;
	say(&later);
	stand_done(&at.path, 0);
	at.path.count = 0;
	expect_refused(&earlier, FERRY_CAUSE_STALE);
}

/* It looks at the moment of submission, not only at receipt. */
static void test_looks_again(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	at.path.submit_error = -EAGAIN;
	say(&write);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.replies_count, 0);
	at.view.epoch.v = 6;
	at.view.owner.v = 3;
	at.path.submit_error = 0;
	at.path.path.on_room(&at.path.path);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.path.count, 0);
	assert_int_equal(at.replies[0].cause, FERRY_CAUSE_STALE);
}

static void test_counts(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	assert_int_equal(at.drains, 0);
	stand_done(&at.path, 0);
	assert_int_equal(at.drains, 1);
	assert_int_equal(at.carrier.stats.carried, 1);
	assert_int_equal(at.carrier.stats.refused, 0);
	at.path.count = 0;
	write = request(2, FERRY_OP_WRITE);
	write.epoch.v = 4;
	expect_refused(&write, FERRY_CAUSE_STALE);
	assert_int_equal(at.carrier.stats.carried, 1);
	assert_int_equal(at.carrier.stats.refused, 1);
	assert_int_equal(at.replies[1].losses, 1);
	assert_int_equal(at.replies[1].type, FERRY_WIRE_REPLY);
}

/* A reply bears the asker's number and what it asked for, and nothing that no reply has. */
static void test_what_a_reply_says(void **state)
{
	struct ferry_wire_header write = request(3, FERRY_OP_WRITE);

	(void)state;
	write.flags = FERRY_IO_FUA;
	write.lba.v = 7;
	say(&write);
	assert_int_equal(at.path.attempts[0]->flags, FERRY_IO_FUA);
	assert_int_equal(at.path.attempts[0]->lba.v, 7);
	assert_int_equal(at.path.attempts[0]->length_blocks, 2);
	assert_int_equal(at.path.attempts[0]->epoch.v, 5);
	at.losses = 6;
	stand_end(&at.path, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	stand_release(&at.path, 0);
	assert_int_equal(at.replies[0].sequence, 3);
	assert_int_equal(at.replies[0].lba.v, 7);
	assert_int_equal(at.replies[0].length_blocks, 2);
	assert_int_equal(at.replies[0].flags, 0);
	assert_int_equal(at.replies[0].floor, 0);
	assert_int_equal(at.replies[0].payload_bytes, 0);
	assert_int_equal(at.replies[0].losses, 6);
	assert_int_equal(at.replies[0].outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(at.replies[0].cause, FERRY_CAUSE_MEDIUM);
}

/* What this lun cannot, it cannot by another path either; what is gone may be elsewhere. */
static void test_path_refuses(void **state)
{
	static const struct {
		int error;
		enum ferry_cause cause;
	} cases[] = {{-EOPNOTSUPP, FERRY_CAUSE_INVALID}, {-ENOTCONN, FERRY_CAUSE_UNHEALTHY}};

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct ferry_wire_header header = request(1 + i, FERRY_OP_DISCARD);

		at.path.submit_error = cases[i].error;
		expect_refused(&header, cases[i].cause);
		assert_int_equal(at.lun.jobs_count, 0);
	}
	assert_int_equal(at.carrier.stats.carried, 0);
}

static uint64_t warm_cursor;

static int on_warm(struct ferry_carrier_lun *self, uint64_t cursor, struct ferry_arena *arena,
		   struct ferry_segments *ret)
{
	(void)self;
	warm_cursor = cursor;
	return cursor == 0 ? -ENODATA : ferry_arena_take(arena, 1000, ret);
}

/* The next owner asks for what the cache has: advice, for who may have it. */
static void test_warm(void **state)
{
	struct ferry_wire_header warm = {.type = FERRY_WIRE_WARM,
					 .node = {1},
					 .incarnation = {4},
					 .lineage = lineage,
					 .epoch = {5},
					 .sequence = 1,
					 .lun = lun_uuid,
					 .cursor = 9};

	(void)state;
	say(&warm);
	assert_int_equal(at.replies[0].type, FERRY_WIRE_WARM_REPLY);
	assert_int_equal(at.replies[0].cause, FERRY_CAUSE_UNHEALTHY); /* It has no cache. */
	at.lun.warm = on_warm;
	warm.sequence = 2;
	say(&warm);
	assert_int_equal(at.replies[1].outcome, FERRY_OUTCOME_DONE);
	assert_int_equal(at.replies[1].payload_bytes, 1000);
	assert_int_equal(at.replies[1].cursor, 0);
	assert_int_equal(warm_cursor, 9);
	assert_int_equal(at.carrier.stats.warmed, 1);
	assert_int_equal(at.lun.jobs_count, 0); /* No change of owner waits for it. */
	say(&warm);				/* Again: its data was not kept. */
	assert_int_equal(at.replies[2].payload_bytes, 1000);
	warm.sequence = 3;
	warm.cursor = 0;
	say(&warm);
	assert_int_equal(at.replies[3].cause, FERRY_CAUSE_UNHEALTHY);
	warm.sequence = 4;
	warm.epoch.v = 4;
	say(&warm);
	assert_int_equal(at.replies[4].cause, FERRY_CAUSE_STALE);
	assert_int_equal(at.carrier.stats.warmed, 2);
}

static void test_bounds(void **state)
{
	struct ferry_link others[4];
	struct ferry_carrier other;
	struct ferry_carrier_config config = at.carrier.config;
	size_t bytes = ferry_carrier_memory_bytes(4);
	struct ferry_region region;
	void *memory = sim_alloc(bytes);

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		others[i] = (struct ferry_link){.ops = &link_ops, .node = {10 + i}};
		assert_int_equal(ferry_carrier_accept(&at.carrier, &others[i],
						      (struct ferry_incarnation){1}),
				 i < 3 ? 0 : -ENOSPC);
	}
	for (uint32_t i = 1; i < FERRY_CARRIER_LUNS_MAX; i++)
		assert_int_equal(ferry_carrier_add_lun(&at.carrier, &at.lun), 0);
	assert_int_equal(ferry_carrier_add_lun(&at.carrier, &at.lun), -ENOSPC);
	ferry_region_init(&region, memory, bytes);
	assert_int_equal(ferry_carrier_init(&other, &region, &config), 0);
	ferry_region_init(&region, memory, bytes / 2);
	assert_int_equal(ferry_carrier_init(&other, &region, &config), -ENOMEM);
	free(memory);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, carrier_setup, carrier_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_carries),	    TEST(test_standing),
		TEST(test_lun_and_range),   TEST(test_asked_again),
		TEST(test_below_the_floor), TEST(test_looks_again),
		TEST(test_counts),	    TEST(test_what_a_reply_says),
		TEST(test_path_refuses),    TEST(test_warm),
		TEST(test_bounds),
	};

	return cmocka_run_group_tests_name("carrier", tests, NULL, NULL);
}
