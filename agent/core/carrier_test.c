/* What the carrier carries, and what it refuses (rules 7 and 8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/checksum.h"
#include "agent/core/carrier.h"
#include "agent/core/key.h"
#include "tests/sim/core_stand.h"

static struct stand stand;
static struct stand_path path;
static struct ferry_lane lane;
static struct ferry_view view;
static struct ferry_carrier carrier;
static struct ferry_carrier_lun lun;
static struct ferry_link link_in;
static struct ferry_wire_header replies[64];
static uint32_t replies_count;
static uint32_t resets;
static uint32_t lays;
static uint32_t resumes;
static const struct ferry_wire_header *offered; /* Waits in the link; NULL: nothing does. */
static struct ferry_segments offered_data;

static const struct ferry_uuid lineage = {{1}};
static const struct ferry_uuid lun_uuid = {{2}};

static int link_send(struct ferry_link *link, struct ferry_message *message)
{
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES];

	(void)link;
	ferry_wire_encode(&message->header, bytes); /* It has to be sayable. */
	replies[replies_count++] = message->header;
	message->on_sent(message, FERRY_SENT_WHOLE);
	return 0;
}

static void link_reset(struct ferry_link *link, const char *why)
{
	(void)link;
	(void)why;
	resets++;
}

static void link_resume(struct ferry_link *link)
{
	resumes++;
	if (offered) /* As transports do. */
		(void)link->on_payload(link, offered, &offered_data);
}

static const struct ferry_link_ops link_ops = {
	.name = "stand", .send = link_send, .resume = link_resume, .reset = link_reset};

static void on_change(struct ferry_lane *self, void *context)
{
	(void)self;
	(void)context;
	ferry_carrier_look_again(&carrier);
}

static void on_probe(struct ferry_lane *self, bool works, void *context)
{
	(void)self;
	(void)works;
	(void)context;
}

static uint64_t losses;

static void on_reset(struct ferry_lane *self, enum ferry_cause cause, void *context)
{
	(void)self;
	(void)cause;
	(void)context;
	losses++;
}

static void on_mark(struct ferry_lane *self, struct ferry_mark mark, bool is_done, void *context)
{
	(void)self;
	(void)mark;
	(void)is_done;
	(void)context;
}

static int on_lay(struct ferry_carrier_lun *self, struct ferry_key victim,
		  void (*done)(void *context, int error), void *context)
{
	(void)self;
	assert_true(victim.v != 0);
	lays++;
	done(context, 0);
	return 0;
}

static void on_drained(struct ferry_carrier_lun *self)
{
	(void)self;
}

static void lane_open(void)
{
	struct ferry_lane_config config = {.loop = &stand.loop.loop,
					   .arena = &stand.arena,
					   .pool = "pool",
					   .block_bytes = STAND_BLOCK_BYTES,
					   .timeout_ns = 1 * FERRY_NS_PER_S,
					   .on_change = on_change,
					   .on_probe = on_probe,
					   .on_reset = on_reset,
					   .on_mark = on_mark};

	stand_path_init(&path, FERRY_PATH_LOCAL, 2, /* can_reset= */ true);
	ferry_lane_init(&lane, &path.path, &config);
}

static int setup(void **state)
{
	struct ferry_carrier_config config = {.loop = &stand.loop.loop,
					      .arena = &stand.arena,
					      .self = {2},
					      .incarnation = {9},
					      .sessions_max = 4};

	(void)state;
	stand_open(&stand);
	replies_count = resets = lays = resumes = 0;
	offered = NULL;
	losses = 1;
	view = (struct ferry_view){.members = {.nodes = {{1}, {2}, {3}}, .count = 3},
				   .is_quorate = true,
				   .lineage = lineage,
				   .epoch = {5},
				   .owner = {1},
				   .is_in_force = true};
	assert_int_equal(ferry_carrier_init(&carrier, &stand.region, &config), 0);
	lane_open();
	lun = (struct ferry_carrier_lun){.uuid = lun_uuid,
					 .size_blocks = 100,
					 .block_bytes = STAND_BLOCK_BYTES,
					 .view = &view,
					 .lane = &lane,
					 .losses = &losses,
					 .lay = on_lay,
					 .on_drained = on_drained};
	assert_int_equal(ferry_carrier_add_lun(&carrier, &lun), 0);
	link_in = (struct ferry_link){.ops = &link_ops, .node = {1}, .is_up = true};
	assert_int_equal(ferry_carrier_accept(&carrier, &link_in, (struct ferry_incarnation){4}),
			 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < path.count; i++)
		if (path.attempts[i])
			stand_done(&path, i);
	assert_int_equal(lun.jobs_count, 0);
	ferry_lane_done(&lane);
	stand_close(&stand);
	return 0;
}

static struct ferry_wire_header request(uint64_t sequence, enum ferry_op op)
{
	return (struct ferry_wire_header){.type = FERRY_WIRE_REQUEST,
					  .node = {1},
					  .incarnation = {4},
					  .lineage = lineage,
					  .epoch = {5},
					  .sequence = sequence,
					  .floor = 1,
					  .lun = lun_uuid,
					  .op = op,
					  .length_blocks = 2,
					  .payload_bytes =
						  op == FERRY_OP_WRITE ? 2 * STAND_BLOCK_BYTES : 0};
}

static void say(const struct ferry_wire_header *header)
{
	struct ferry_segments segments = {0};

	if (header->payload_bytes > 0)
		assert_int_equal(link_in.on_payload(&link_in, header, &segments), 0);
	link_in.on_message(&link_in, header, &segments);
}

static void expect_refused(const struct ferry_wire_header *header, enum ferry_cause cause)
{
	uint32_t before = replies_count;

	say(header);
	stand_run_ms(&stand, 1);
	assert_int_equal(replies_count, before + 1);
	assert_int_equal(replies[before].outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(replies[before].cause, cause);
	assert_int_equal(path.count, 0);
}

static void test_carries(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	struct ferry_wire_header read = request(2, FERRY_OP_READ);

	(void)state;
	say(&write);
	say(&read);
	assert_int_equal(path.count, 2);
	assert_int_equal(lun.jobs_count, 2);
	stand_done(&path, 1);
	stand_done(&path, 0);
	assert_int_equal(replies_count, 2);
	assert_int_equal(replies[0].sequence, 2);
	assert_int_equal(replies[0].payload_bytes, 2 * STAND_BLOCK_BYTES);
	assert_int_equal(replies[1].outcome, FERRY_OUTCOME_DONE);
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
	view.is_quorate = false;
	header = request(4, FERRY_OP_READ);
	expect_refused(&header, FERRY_CAUSE_STALE);
	view.is_quorate = true;
	view.owner.v = 3;
	header = request(5, FERRY_OP_READ);
	expect_refused(&header, FERRY_CAUSE_STALE);
	view.owner.v = 1;
	view.members.nodes[0].v = 8;
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
	path.path.is_up = false;
	expect_refused(&header, FERRY_CAUSE_UNHEALTHY);
}

/* The reply was lost, the requester asks again by the same number: once is enough. */
static void test_asked_again(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	say(&write); /* While it runs. */
	assert_int_equal(path.count, 1);
	stand_done(&path, 0);
	assert_int_equal(replies_count, 1);
	say(&write); /* And when it is over. */
	assert_int_equal(path.count, 1);
	assert_int_equal(replies_count, 2);
	assert_int_equal(replies[1].outcome, FERRY_OUTCOME_DONE);
	assert_int_equal(carrier.stats.repeated, 2);
}

static void test_below_the_floor(void **state)
{
	struct ferry_wire_header later = request(5, FERRY_OP_READ);
	struct ferry_wire_header earlier = request(2, FERRY_OP_WRITE);

	(void)state;
	later.floor = 4;
	say(&later);
	stand_done(&path, 0);
	path.count = 0;
	expect_refused(&earlier, FERRY_CAUSE_STALE);
}

/* It looks at the moment of submission, not only at receipt. */
static void test_looks_again(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	path.submit_error = -EAGAIN;
	say(&write);
	stand_run_ms(&stand, 1);
	assert_int_equal(replies_count, 0);
	view.epoch.v = 6;
	view.owner.v = 3;
	path.submit_error = 0;
	path.path.on_room(&path.path);
	stand_run_ms(&stand, 1);
	assert_int_equal(path.count, 0);
	assert_int_equal(replies[0].cause, FERRY_CAUSE_STALE);
}

static uint32_t full_count;

static int full_submit(struct ferry_path *self, struct ferry_attempt *attempt)
{
	(void)self;
	(void)attempt;
	full_count++;
	assert_in_range(full_count, 1, 20); /* Else it spins. */
	return -EAGAIN;
}

/* The buffers that it gives back are no news to itself: it waits for the path alone. */
static void test_path_is_full(void **state)
{
	static const struct ferry_path_ops full_ops = {.name = "full", .submit = full_submit};
	const struct ferry_path_ops *ops = path.path.ops;
	struct ferry_wire_header read = request(1, FERRY_OP_READ);
	struct ferry_segments taken;

	(void)state;
	full_count = 0;
	path.path.ops = &full_ops;
	assert_int_equal(ferry_arena_take(&stand.arena, STAND_CHUNKS * FERRY_CHUNK_BYTES, &taken),
			 0);
	say(&read); /* There are no buffers, either. */
	stand_run_ms(&stand, 1);
	assert_int_equal(full_count, 0);
	ferry_segments_drop(&taken);
	stand_run_ms(&stand, 1);
	assert_int_equal(full_count, 1);
	path.path.on_room(&path.path);
	stand_run_ms(&stand, 100);
	assert_int_equal(full_count, 2);
	path.path.ops = ops;
	path.path.on_room(&path.path);
	stand_run_ms(&stand, 1);
	assert_int_equal(path.count, 1);
	stand_done(&path, 0);
	assert_int_equal(replies[0].outcome, FERRY_OUTCOME_DONE);
}

/* The same while somebody else waits for more buffers than there are. */
static void test_path_and_arena_are_full(void **state)
{
	static const struct ferry_path_ops full_ops = {.name = "full", .submit = full_submit};
	const struct ferry_path_ops *ops = path.path.ops;
	struct ferry_wire_header read = request(1, FERRY_OP_READ);
	struct ferry_wire_header write = request(2, FERRY_OP_WRITE);
	struct ferry_segments taken;

	(void)state;
	full_count = 0;
	path.path.ops = &full_ops;
	assert_int_equal(
		ferry_arena_take(&stand.arena, (STAND_CHUNKS - 1) * FERRY_CHUNK_BYTES, &taken), 0);
	lun.size_blocks = 1000;
	write.payload_bytes = 2 * FERRY_CHUNK_BYTES;
	write.length_blocks = write.payload_bytes / STAND_BLOCK_BYTES;
	offered = &write;
	assert_true(link_in.on_payload(&link_in, &write, &offered_data) < 0);
	say(&read);
	stand_run_ms(&stand, 1);
	assert_in_range(full_count, 1, 3);
	assert_in_range(resumes, 1, 3);
	offered = NULL;
	ferry_segments_drop(&taken);
	path.path.ops = ops;
	path.path.on_room(&path.path);
	stand_run_ms(&stand, 1);
	assert_int_equal(path.count, 1);
	stand_done(&path, 0);
	assert_int_equal(carrier.stats.carried, 1);
}

/* Whose data found no room is asked for it again, once. */
static void test_pause(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	struct ferry_segments taken;
	struct ferry_segments segments = {0};

	(void)state;
	for (uint32_t i = 1; i <= 2; i++) {
		assert_int_equal(
			ferry_arena_take(&stand.arena, STAND_CHUNKS * FERRY_CHUNK_BYTES, &taken),
			0);
		assert_true(link_in.on_payload(&link_in, &write, &segments) < 0);
		stand_run_ms(&stand, 1);
		assert_int_equal(resumes, i - 1);
		ferry_segments_drop(&taken);
		stand_run_ms(&stand, 1);
		assert_int_equal(resumes, i);
	}
	ferry_task_post(&stand.loop.loop, &carrier.resume_task);
	stand_run_ms(&stand, 1);
	assert_int_equal(resumes, 2);
	say(&write);
	stand_done(&path, 0);
	assert_int_equal(replies[0].outcome, FERRY_OUTCOME_DONE);
}

static void test_unknown_leaves_a_ghost(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	stand_end(&path, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&path, 0);
	assert_int_equal(replies[0].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(lun.ghost_epoch.v, 5);
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
	assert_int_equal(lays, 1);
	assert_int_equal(replies[0].type, FERRY_WIRE_LAY_REPLY);
	assert_int_equal(replies[0].outcome, FERRY_OUTCOME_DONE);
	view.owner.v = 3; /* Not the owner any more: only its own nexus is its to have killed. */
	view.epoch.v = 6;
	lay.sequence = 2;
	say(&lay);
	assert_int_equal(lays, 1);
	assert_int_equal(replies[1].cause, FERRY_CAUSE_STALE);
	lay.sequence = 3;
	lay.victim_key = ferry_key_make((struct ferry_node){1}, (struct ferry_incarnation){4}).v;
	say(&lay);
	assert_int_equal(lays, 2);
}

static void test_protocol(void **state)
{
	struct ferry_wire_header header = request(1, FERRY_OP_READ);

	(void)state;
	header.node.v = 3; /* In another's name. */
	say(&header);
	assert_int_equal(resets, 1);
	header = request(200, FERRY_OP_READ); /* Beyond the window. */
	say(&header);
	assert_int_equal(resets, 2);
	assert_int_equal(ferry_carrier_accept(&carrier, &link_in, (struct ferry_incarnation){3}),
			 -ESTALE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_carries),
		TEST(test_standing),
		TEST(test_lun_and_range),
		TEST(test_asked_again),
		TEST(test_below_the_floor),
		TEST(test_looks_again),
		TEST(test_path_is_full),
		TEST(test_path_and_arena_are_full),
		TEST(test_pause),
		TEST(test_unknown_leaves_a_ghost),
		TEST(test_lay),
		TEST(test_protocol),
	};

	return cmocka_run_group_tests_name("carrier", tests, NULL, NULL);
}
