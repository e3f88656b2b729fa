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

static int lay_refusal; /* At once; or what the lun answers. */
static int lay_error;

static int on_lay(struct ferry_carrier_lun *self, struct ferry_key victim,
		  void (*done)(void *context, int error), void *context)
{
	(void)self;
	assert_true(victim.v != 0);
	if (lay_refusal < 0)
		return lay_refusal;
	lays++;
	done(context, lay_error);
	return 0;
}

static uint32_t drains;

static void on_drained(struct ferry_carrier_lun *self)
{
	assert_int_equal(self->jobs_count, 0);
	drains++;
}

static uint64_t warm_cursor;

static int on_warm(struct ferry_carrier_lun *self, uint64_t cursor, struct ferry_arena *arena,
		   struct ferry_segments *ret)
{
	(void)self;
	warm_cursor = cursor;
	return cursor == 0 ? -ENODATA : ferry_arena_take(arena, 1000, ret);
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
	replies_count = resets = lays = resumes = drains = 0;
	lay_refusal = lay_error = 0;
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
	assert_int_equal(ferry_carrier_carried_for(&carrier, link_in.node), 1);
	assert_int_equal(ferry_carrier_carried_for(&carrier, (struct ferry_node){77}), 0);
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
	assert_int_equal(carrier.stats.laid, 2);
	assert_int_equal(carrier.stats.refused, 1);
	lay.sequence = 4;
	lay_error = -EIO; /* Not proven. */
	say(&lay);
	assert_int_equal(replies[3].outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(replies[3].cause, FERRY_CAUSE_UNHEALTHY);
	lay.sequence = 5;
	lay_refusal = -EBUSY;
	say(&lay);
	assert_int_equal(replies[4].cause, FERRY_CAUSE_UNHEALTHY);
	assert_int_equal(carrier.stats.laid, 2);
	assert_int_equal(lun.jobs_count, 0);
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

/* Data only with a WRITE; nothing but requests; no more of them than the window allows. */
static void test_protocol_of_data(void **state)
{
	struct ferry_wire_header header = request(1, FERRY_OP_WRITE);
	struct ferry_segments segments = {0};

	(void)state;
	header.op = FERRY_OP_READ;
	assert_int_equal(link_in.on_payload(&link_in, &header, &segments), -EPROTO);
	header = request(1, FERRY_OP_WRITE);
	header.type = FERRY_WIRE_LAY;
	assert_int_equal(link_in.on_payload(&link_in, &header, &segments), -EPROTO);
	header.type = FERRY_WIRE_PONG;
	header.payload_bytes = 0;
	say(&header);
	assert_int_equal(resets, 1);
	header = request(1 + FERRY_WIRE_WINDOW_MAX, FERRY_OP_FLUSH);
	say(&header); /* The first beyond it. */
	assert_int_equal(resets, 2);
	header = request(FERRY_WIRE_WINDOW_MAX, FERRY_OP_FLUSH);
	header.length_blocks = 0;
	say(&header);
	assert_int_equal(resets, 2);
	assert_int_equal(path.count, 1);
	header = request(2, FERRY_OP_READ);
	header.incarnation.v = 3; /* In its elder's name. */
	say(&header);
	assert_int_equal(resets, 3);
	header = request(3, FERRY_OP_WRITE);
	assert_int_equal(link_in.on_payload(&link_in, &header, &segments), 0);
	assert_int_equal(segments.length_bytes, 2 * STAND_BLOCK_BYTES);
	link_in.on_payload_dropped(&link_in, &header, &segments);
	assert_int_equal(segments.count, 0);
}

static void test_counts(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	assert_int_equal(drains, 0);
	stand_done(&path, 0);
	assert_int_equal(drains, 1);
	assert_int_equal(carrier.stats.carried, 1);
	assert_int_equal(carrier.stats.refused, 0);
	path.count = 0;
	write = request(2, FERRY_OP_WRITE);
	write.epoch.v = 4;
	expect_refused(&write, FERRY_CAUSE_STALE);
	assert_int_equal(carrier.stats.carried, 1);
	assert_int_equal(carrier.stats.refused, 1);
	assert_int_equal(replies[1].losses, 1);
	assert_int_equal(replies[1].type, FERRY_WIRE_REPLY);
}

/* A reply bears the asker's number and what it asked for, and nothing that no reply has. */
static void test_what_a_reply_says(void **state)
{
	struct ferry_wire_header write = request(3, FERRY_OP_WRITE);

	(void)state;
	write.flags = FERRY_IO_FUA;
	write.lba.v = 7;
	say(&write);
	assert_int_equal(path.attempts[0]->flags, FERRY_IO_FUA);
	assert_int_equal(path.attempts[0]->lba.v, 7);
	assert_int_equal(path.attempts[0]->length_blocks, 2);
	assert_int_equal(path.attempts[0]->epoch.v, 5);
	losses = 6;
	stand_end(&path, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	stand_release(&path, 0);
	assert_int_equal(replies[0].sequence, 3);
	assert_int_equal(replies[0].lba.v, 7);
	assert_int_equal(replies[0].length_blocks, 2);
	assert_int_equal(replies[0].flags, 0);
	assert_int_equal(replies[0].floor, 0);
	assert_int_equal(replies[0].payload_bytes, 0);
	assert_int_equal(replies[0].losses, 6);
	assert_int_equal(replies[0].outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(replies[0].cause, FERRY_CAUSE_MEDIUM);
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

		path.submit_error = cases[i].error;
		expect_refused(&header, cases[i].cause);
		assert_int_equal(lun.jobs_count, 0);
	}
	assert_int_equal(carrier.stats.carried, 0);
}

/* Its deadline passed: the requester is told, and what comes of it later is a ghost or nothing. */
static void test_overdue(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	static const struct ferry_path_ops no_reset = {.name = "stand",
						       .submit = stand_path_submit};

	(void)state;
	path.path.ops = &no_reset;
	say(&write);
	stand_run_ms(&stand, 1100);
	assert_int_equal(replies_count, 1);
	assert_int_equal(replies[0].outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(replies[0].cause, FERRY_CAUSE_TIMEOUT);
	assert_int_equal(lun.jobs_count, 1); /* It is still there. */
	assert_int_equal(lun.ghost_epoch.v, 0);
	stand_end(&path, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&path, 0);
	assert_int_equal(replies_count, 1);
	assert_int_equal(lun.ghost_epoch.v, 5);
	assert_int_equal(lun.jobs_count, 0);
}

/* A read leaves none; of several the newest epoch counts. */
static void test_ghosts_of_epochs(void **state)
{
	struct ferry_wire_header header = request(1, FERRY_OP_READ);

	(void)state;
	say(&header);
	header = request(2, FERRY_OP_DISCARD);
	say(&header);
	view.epoch.v = 6;
	header = request(3, FERRY_OP_WRITE);
	header.epoch.v = 6;
	say(&header);
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t which = i == 0 ? 0 : 3 - i; /* The newer write before the older. */

		stand_end(&path, which, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		stand_release(&path, which);
		assert_int_equal(lun.ghost_epoch.v, i == 0 ? 0 : 6);
	}
}

/* After a break: writes are answered by the new link, a read's data goes by none. */
static void test_link_breaks(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	struct ferry_wire_header read = request(2, FERRY_OP_READ);
	struct ferry_link again = {.ops = &link_ops, .node = {1}, .is_up = true};

	(void)state;
	say(&write);
	say(&read);
	link_in.is_up = false;
	link_in.on_down(&link_in, "test");
	assert_int_equal(ferry_carrier_accept(&carrier, &again, (struct ferry_incarnation){4}), 0);
	again.on_up(&again, (struct ferry_incarnation){4});
	stand_done(&path, 1);
	assert_int_equal(replies_count, 0);
	stand_done(&path, 0);
	assert_int_equal(replies_count, 1);
	assert_int_equal(replies[0].sequence, 1);
	assert_int_equal(replies[0].outcome, FERRY_OUTCOME_DONE);
	link_in.on_down(&link_in, "late"); /* The old one's end takes nothing from the new one. */
	link_in = again;
	carrier.sessions[0].link = &link_in;
	read = request(3, FERRY_OP_READ);
	say(&read);
	stand_done(&path, 2);
	assert_int_equal(replies_count, 2);
}

/* A new agent of the same node: what the old one asked for is answered to nobody. */
static void test_requester_starts_anew(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);

	(void)state;
	say(&write);
	assert_int_equal(ferry_carrier_accept(&carrier, &link_in, (struct ferry_incarnation){5}),
			 0);
	assert_int_equal(resets, 1); /* The old connection. */
	stand_done(&path, 0);
	assert_int_equal(replies_count, 0);
	write.incarnation.v = 5;
	say(&write); /* The same number, and another request. */
	assert_int_equal(path.count, 2);
	assert_int_equal(carrier.stats.repeated, 0);
	stand_done(&path, 1);
	assert_int_equal(replies_count, 1);
}

static void test_cut(void **state)
{
	(void)state;
	ferry_carrier_cut(&carrier, "test");
	assert_int_equal(resets, 1);
	link_in.on_down(&link_in, "test");
	ferry_carrier_cut(&carrier, "test");
	assert_int_equal(resets, 1);
}

/* A pause is the link's: the next one reads from the start. */
static void test_pause_ends_with_the_link(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	struct ferry_segments taken;
	struct ferry_segments segments = {0};

	(void)state;
	for (int by_down = 0; by_down < 2; by_down++) {
		assert_int_equal(
			ferry_arena_take(&stand.arena, STAND_CHUNKS * FERRY_CHUNK_BYTES, &taken),
			0);
		assert_int_equal(link_in.on_payload(&link_in, &write, &segments), -ENOBUFS);
		if (by_down)
			link_in.on_down(&link_in, "test");
		assert_int_equal(
			ferry_carrier_accept(&carrier, &link_in, (struct ferry_incarnation){4}), 0);
		ferry_segments_drop(&taken);
		stand_run_ms(&stand, 1);
		assert_int_equal(resumes, 0);
	}
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
	assert_int_equal(replies[0].type, FERRY_WIRE_WARM_REPLY);
	assert_int_equal(replies[0].cause, FERRY_CAUSE_UNHEALTHY); /* It has no cache. */
	lun.warm = on_warm;
	warm.sequence = 2;
	say(&warm);
	assert_int_equal(replies[1].outcome, FERRY_OUTCOME_DONE);
	assert_int_equal(replies[1].payload_bytes, 1000);
	assert_int_equal(replies[1].cursor, 0);
	assert_int_equal(warm_cursor, 9);
	assert_int_equal(carrier.stats.warmed, 1);
	assert_int_equal(lun.jobs_count, 0); /* No change of owner waits for it. */
	say(&warm);			     /* Again: its data was not kept. */
	assert_int_equal(replies[2].payload_bytes, 1000);
	warm.sequence = 3;
	warm.cursor = 0;
	say(&warm);
	assert_int_equal(replies[3].cause, FERRY_CAUSE_UNHEALTHY);
	warm.sequence = 4;
	warm.epoch.v = 4;
	say(&warm);
	assert_int_equal(replies[4].cause, FERRY_CAUSE_STALE);
	assert_int_equal(carrier.stats.warmed, 2);
}

static void test_bounds(void **state)
{
	struct ferry_link others[4];
	struct ferry_carrier other;
	struct ferry_carrier_config config = carrier.config;
	size_t bytes = ferry_carrier_memory_bytes(4);
	struct ferry_region region;
	void *memory = sim_alloc(bytes);

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		others[i] = (struct ferry_link){.ops = &link_ops, .node = {10 + i}};
		assert_int_equal(
			ferry_carrier_accept(&carrier, &others[i], (struct ferry_incarnation){1}),
			i < 3 ? 0 : -ENOSPC);
	}
	for (uint32_t i = 1; i < FERRY_CARRIER_LUNS_MAX; i++)
		assert_int_equal(ferry_carrier_add_lun(&carrier, &lun), 0);
	assert_int_equal(ferry_carrier_add_lun(&carrier, &lun), -ENOSPC);
	ferry_region_init(&region, memory, bytes);
	assert_int_equal(ferry_carrier_init(&other, &region, &config), 0);
	ferry_region_init(&region, memory, bytes / 2);
	assert_int_equal(ferry_carrier_init(&other, &region, &config), -ENOMEM);
	free(memory);
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
		TEST(test_protocol_of_data),
		TEST(test_counts),
		TEST(test_what_a_reply_says),
		TEST(test_path_refuses),
		TEST(test_overdue),
		TEST(test_ghosts_of_epochs),
		TEST(test_link_breaks),
		TEST(test_requester_starts_anew),
		TEST(test_cut),
		TEST(test_pause_ends_with_the_link),
		TEST(test_warm),
		TEST(test_bounds),
	};

	return cmocka_run_group_tests_name("carrier", tests, NULL, NULL);
}
