#include "migrate/pull.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/cache/rig.h"
#include "agent/core/carrier.h"

enum { LINE = RIG_LINE_BLOCKS, LINES = 300, PATIENCE_NS = 1000000 };

/* One end of a connection; what is sent waits until it is delivered. */
struct end {
	struct ferry_link link;
	struct end *other;
	struct ferry_message *sent[8];
	uint32_t sent_count;
	uint32_t resets;
};

/* Node 1 has owned the pool; node 2 has claimed it, and asks over a link. All on one loop. */
static struct rig source, target;
static struct end near_end, far_end; /* Of the target's peer, of the source's carrier. */
static struct ferry_peer peer;
static struct ferry_carrier carrier;
static struct ferry_carrier_lun lun;
static struct ferry_view view; /* The source's. */
static const uint64_t losses = 1;
static struct ferry_lane lane; /* Never used: no I/O is carried here. */
static struct ferry_pull pull;
static uint32_t ready_count;
static void *memory;

static const struct ferry_uuid lun_uuid = {{1}}, lineage = {{2}};

static int end_send(struct ferry_link *link, struct ferry_message *message)
{
	struct end *end = FERRY_CONTAINER_OF(link, struct end, link);

	ferry_assert(end->sent_count < FERRY_ARRAY_COUNT(end->sent));
	end->sent[end->sent_count++] = message;
	return 0;
}

static void end_reset(struct ferry_link *link, const char *why)
{
	(void)why;
	FERRY_CONTAINER_OF(link, struct end, link)->resets++;
}

static const struct ferry_link_ops end_ops = {.name = "test", .send = end_send, .reset = end_reset};

/* Bring everything that this end has sent to the other, as bytes. */
static void deliver(struct end *end)
{
	while (end->sent_count > 0) {
		struct ferry_message *message = end->sent[--end->sent_count];
		struct ferry_link *to = &end->other->link;
		struct ferry_wire_header header;
		struct ferry_segments payload = {};
		uint8_t bytes[FERRY_WIRE_HEADER_BYTES];
		static uint8_t data[FERRY_IO_BYTES_MAX];

		ferry_wire_encode(&message->header, bytes);
		assert_int_equal(ferry_wire_decode(bytes, &header, NULL), 0);
		if (header.payload_bytes > 0) {
			assert_int_equal(to->on_payload(to, &header, &payload), 0);
			assert_int_equal(payload.length_bytes, header.payload_bytes);
			ferry_segments_read(&message->segments, 0, data, header.payload_bytes);
			ferry_segments_write(&payload, 0, data, header.payload_bytes);
		}
		message->on_sent(message, FERRY_SENT_WHOLE);
		to->on_message(to, &header, &payload);
	}
}

static void round_trip(void)
{
	deliver(&near_end);
	deliver(&far_end);
}

static int on_warm(struct ferry_carrier_lun *self, uint64_t cursor, struct ferry_arena *arena,
		   struct ferry_segments *ret)
{
	struct ferry_warm_name name = {
		.lun = lun_uuid, .lineage = lineage, .node = {1}, .incarnation = {10}};

	assert_ptr_equal(self, &lun);
	return ferry_warm_export(&source.cache, &name, cursor, arena, ret);
}

static int on_lay(struct ferry_carrier_lun *self, struct ferry_key victim,
		  void (*on_done)(void *context, int error), void *context)
{
	(void)self;
	(void)victim;
	(void)on_done;
	(void)context;
	return -ENOTCONN;
}

static void on_drained(struct ferry_carrier_lun *self)
{
	(void)self;
}

static struct ferry_peer *peer_of(struct ferry_node node, void *context)
{
	(void)context;
	return node.v == 1 ? &peer : NULL;
}

static void on_ready(void *context)
{
	assert_null(context);
	ready_count++;
}

static void carrier_open(struct ferry_region *region)
{
	struct ferry_carrier_config config = {.loop = &target.loop,
					      .arena = &source.arena,
					      .self = {1},
					      .incarnation = {10},
					      .sessions_max = 1};

	assert_int_equal(ferry_carrier_init(&carrier, region, &config), 0);
	view = (struct ferry_view){.members = {.nodes = {{1}, {2}}, .count = 2},
				   .is_quorate = true,
				   .lineage = lineage,
				   .epoch = {2},
				   .owner = {2}};
	lun = (struct ferry_carrier_lun){.uuid = lun_uuid,
					 .size_blocks = RIG_BLOCKS,
					 .block_bytes = RIG_BLOCK_BYTES,
					 .view = &view,
					 .lane = &lane,
					 .losses = &losses,
					 .lay = on_lay,
					 .warm = on_warm,
					 .on_drained = on_drained};
	assert_int_equal(ferry_carrier_add_lun(&carrier, &lun), 0);
	assert_int_equal(
		ferry_carrier_accept(&carrier, &far_end.link, (struct ferry_incarnation){20}), 0);
}

static int setup(void **state)
{
	size_t size_bytes = ferry_carrier_memory_bytes(1) + 256 * 1024;
	struct ferry_peer_config peer_config = {.self = {2}, .incarnation = {20}};
	struct ferry_pull_config config = {.pool = "rig",
					   .name = {lun_uuid, lineage, {2}, {20}},
					   .peer_of = peer_of,
					   .on_ready = on_ready};
	struct ferry_region region;

	(void)state;
	rig_open(&source, LINES, 32);
	rig_open(&target, LINES, 32);
	target.cache.config.self.v = 2;
	for (uint32_t i = 0; i < LINES; i++)
		rig_write(&source, i * LINE, LINE);
	memcpy(target.disk, source.disk, sizeof(target.disk));
	rig_view(&source, 2, 2, false, true);
	rig_view(&target, 2, 2, false, true);
	ready_count = 0;
	size_bytes = (size_bytes + 63) / 64 * 64;
	memory = aligned_alloc(64, size_bytes);
	ferry_region_init(&region, memory, size_bytes);
	near_end = (struct end){.link = {.ops = &end_ops, .node = {1}, .is_up = true},
				.other = &far_end};
	far_end = (struct end){.link = {.ops = &end_ops, .node = {2}, .is_up = true},
			       .other = &near_end};
	peer_config.loop = &target.loop;
	assert_int_equal(ferry_peer_init(&peer, &region, &near_end.link, &peer_config), 0);
	carrier_open(&region);
	config.loop = &target.loop;
	config.arena = &target.arena;
	config.cache = &target.cache;
	ferry_pull_init(&pull, &config);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ferry_pull_stop(&pull);
	assert_int_equal(near_end.resets + far_end.resets, 0);
	rig_close(&source); /* Sees that every buffer came back. */
	rig_close(&target);
	free(memory);
	return 0;
}

static void start(void)
{
	ferry_pull_start(&pull, (struct ferry_epoch){2}, PATIENCE_NS);
	assert_int_equal(ready_count, 0); /* Never from inside. */
}

static void all_of_it_comes_before_it_is_ready(void **state)
{
	(void)state;
	start();
	round_trip();
	rig_advance(&target, 0);
	assert_int_equal(ready_count, 0);
	round_trip();
	rig_advance(&target, 0);
	assert_int_equal(ready_count, 1);
	assert_int_equal(pull.import.lines_count, LINES);
	assert_int_equal(carrier.stats.warmed, 2);
	rig_view(&target, 2, 2, true, true);
	for (uint32_t i = 0; i < LINES; i++)
		assert_true(rig_read(&target, i * LINE, LINE));
	rig_advance(&target, 10 * PATIENCE_NS);
	assert_int_equal(ready_count, 1);
}

static void nobody_waits_longer_than_the_patience(void **state)
{
	(void)state;
	start();
	round_trip();
	rig_advance(&target, PATIENCE_NS - 1);
	assert_int_equal(ready_count, 0);
	rig_advance(&target, 1);
	assert_int_equal(ready_count, 1);
	rig_view(&target, 2, 2, true, true); /* It serves; the rest comes in the background. */
	rig_write(&target, 0, 1);
	round_trip();
	rig_advance(&target, 0);
	assert_int_equal(pull.import.lines_count + pull.import.refused_count, LINES);
	for (uint32_t i = 0; i < LINES; i++)
		(void)rig_has(&target, i);
	assert_int_equal(ready_count, 1);
}

static void refusals_make_a_cold_start(void **state)
{
	(void)state;
	view.owner.v = 3; /* Another has claimed it: not ours to be told. */
	start();
	round_trip();
	rig_advance(&target, 0);
	assert_int_equal(ready_count, 1);
	assert_int_equal(target.cache.index.lines_count, 0);
	assert_int_equal(carrier.stats.warmed, 0);
}

static void a_source_that_owns_it_again_gives_nothing(void **state)
{
	(void)state;
	rig_view(&source, 1, 3, true, true);
	start();
	round_trip();
	rig_advance(&target, 0);
	assert_int_equal(ready_count, 1);
	assert_int_equal(pull.import.lines_count, 0);
}

static void a_lost_link_makes_a_cold_start(void **state)
{
	(void)state;
	start();
	near_end.sent[0]->on_sent(near_end.sent[0], FERRY_SENT_UNSURE);
	near_end.sent_count = 0;
	near_end.link.is_up = false;
	near_end.link.on_down(&near_end.link, "cut");
	rig_advance(&target, 0);
	assert_int_equal(ready_count, 1);
	ready_count = 0;
	start(); /* It is still down. */
	rig_advance(&target, 0);
	assert_int_equal(ready_count, 1);
}

static void stopped_it_lets_the_late_answer_go(void **state)
{
	(void)state;
	start();
	ferry_pull_stop(&pull);
	ferry_pull_start(&pull, (struct ferry_epoch){2},
			 PATIENCE_NS); /* The old request is still out. */
	rig_advance(&target, 0);
	assert_int_equal(ready_count, 1);
	round_trip();
	rig_advance(&target, 10 * PATIENCE_NS);
	assert_int_equal(target.cache.index.lines_count, 0);
	assert_int_equal(ready_count, 1);
}

/* A peer's I/O goes past the cache: what the carrier carries it never sees (rule 7). */
static void carried_io_does_not_touch_the_cache(void **state)
{
	struct ferry_cache_stats before = source.cache.stats;
	struct ferry_wire_header request = {.type = FERRY_WIRE_REQUEST,
					    .node = {2},
					    .incarnation = {20},
					    .lineage = lineage,
					    .epoch = {2},
					    .sequence = 1,
					    .lun = lun_uuid,
					    .op = FERRY_OP_READ,
					    .length_blocks = LINE};
	struct ferry_segments none = {};
	static struct ferry_path path;

	(void)state;
	lane.path = &path; /* Down: whatever the cache may have, the answer is that. */
	far_end.link.on_message(&far_end.link, &request, &none);
	assert_int_equal(far_end.sent_count, 1);
	assert_int_equal(far_end.sent[0]->header.cause, FERRY_CAUSE_UNHEALTHY);
	far_end.sent[0]->on_sent(far_end.sent[0], FERRY_SENT_WHOLE);
	far_end.sent_count = 0;
	assert_memory_equal(&before, &source.cache.stats, sizeof(before));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(all_of_it_comes_before_it_is_ready),
		T(nobody_waits_longer_than_the_patience),
		T(refusals_make_a_cold_start),
		T(a_source_that_owns_it_again_gives_nothing),
		T(a_lost_link_makes_a_cold_start),
		T(stopped_it_lets_the_late_answer_go),
		T(carried_io_does_not_touch_the_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
