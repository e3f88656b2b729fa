#include "agent/core/carrier_stand.h"

struct carrier_stand at;
const struct ferry_uuid lineage = {{1}};
const struct ferry_uuid lun_uuid = {{2}};

static int link_send(struct ferry_link *link, struct ferry_message *message)
{
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES];

	(void)link;
	ferry_wire_encode(&message->header, bytes); /* It has to be sayable. */
	at.replies[at.replies_count++] = message->header;
	message->on_sent(message, FERRY_SENT_WHOLE);
	return 0;
}

static void link_reset(struct ferry_link *link, const char *why)
{
	(void)link;
	(void)why;
	at.resets++;
}

static void link_resume(struct ferry_link *link)
{
	at.resumes++;
	if (at.offered) /* As transports do. */
		(void)link->on_payload(link, at.offered, &at.offered_data);
}

const struct ferry_link_ops link_ops = {
	.name = "stand", .send = link_send, .resume = link_resume, .reset = link_reset};

static void on_change(struct ferry_lane *self, void *context)
{
	(void)self;
	(void)context;
	ferry_carrier_look_again(&at.carrier);
}

static void on_probe(struct ferry_lane *self, bool works, void *context)
{
	(void)self;
	(void)works;
	(void)context;
}

static void on_reset(struct ferry_lane *self, enum ferry_cause cause, void *context)
{
	(void)self;
	(void)cause;
	(void)context;
	at.losses++;
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
	if (at.lay_refusal < 0)
		return at.lay_refusal;
	at.lays++;
	done(context, at.lay_error);
	return 0;
}

static void on_drained(struct ferry_carrier_lun *self)
{
	assert_int_equal(self->jobs_count, 0);
	at.drains++;
}

static void lane_open(void)
{
	struct ferry_lane_config config = {.loop = &at.stand.loop.loop,
					   .arena = &at.stand.arena,
					   .pool = "pool",
					   .block_bytes = STAND_BLOCK_BYTES,
					   .timeout_ns = 1 * FERRY_NS_PER_S,
					   .on_change = on_change,
					   .on_probe = on_probe,
					   .on_clear = on_change,
					   .on_reset = on_reset,
					   .on_mark = on_mark};

	stand_path_init(&at.path, FERRY_PATH_LOCAL, 2, /* can_reset= */ true);
	ferry_lane_init(&at.lane, &at.path.path, &config);
}

int carrier_setup(void **state)
{
	struct ferry_carrier_config config = {.loop = &at.stand.loop.loop,
					      .arena = &at.stand.arena,
					      .self = {2},
					      .incarnation = {9},
					      .sessions_max = 4};

	(void)state;
	stand_open(&at.stand);
	at.replies_count = at.resets = at.lays = at.resumes = at.drains = 0;
	at.lay_refusal = at.lay_error = 0;
	at.offered = NULL;
	at.losses = 1;
	at.view = (struct ferry_view){.members = {.nodes = {{1}, {2}, {3}}, .count = 3},
				      .is_quorate = true,
				      .lineage = lineage,
				      .epoch = {5},
				      .owner = {1},
				      .is_in_force = true};
	assert_int_equal(ferry_carrier_init(&at.carrier, &at.stand.region, &config), 0);
	lane_open();
	at.lun = (struct ferry_carrier_lun){.uuid = lun_uuid,
					    .size_blocks = 100,
					    .block_bytes = STAND_BLOCK_BYTES,
					    .view = &at.view,
					    .lane = &at.lane,
					    .losses = &at.losses,
					    .lay = on_lay,
					    .on_drained = on_drained};
	assert_int_equal(ferry_carrier_add_lun(&at.carrier, &at.lun), 0);
	at.link_in = (struct ferry_link){.ops = &link_ops, .node = {1}, .is_up = true};
	assert_int_equal(
		ferry_carrier_accept(&at.carrier, &at.link_in, (struct ferry_incarnation){4}), 0);
	return 0;
}

int carrier_teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < at.path.count; i++)
		if (at.path.attempts[i])
			stand_done(&at.path, i);
	assert_int_equal(at.lun.jobs_count, 0);
	ferry_lane_done(&at.lane);
	stand_close(&at.stand);
	return 0;
}

struct ferry_wire_header request(uint64_t sequence, enum ferry_op op)
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

void say(const struct ferry_wire_header *header)
{
	struct ferry_segments segments = {0};

	if (header->payload_bytes > 0)
		assert_int_equal(at.link_in.on_payload(&at.link_in, header, &segments), 0);
	at.link_in.on_message(&at.link_in, header, &segments);
}

void expect_refused(const struct ferry_wire_header *header, enum ferry_cause cause)
{
	uint32_t before = at.replies_count;

	say(header);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.replies_count, before + 1);
	assert_int_equal(at.replies[before].outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(at.replies[before].cause, cause);
	assert_int_equal(at.path.count, 0);
}
