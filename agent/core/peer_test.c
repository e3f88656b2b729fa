/* Requests to a peer's agent: their numbers, their ends, and what a broken link does to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/checksum.h"
#include "agent/core/key.h"
#include "agent/core/peer.h"
#include "tests/sim/core_stand.h"

enum { BLOCKS = 4, SENT_MAX = 2 * FERRY_WIRE_WINDOW_MAX };

/* An attempt and what became of it. */
struct tried {
	struct ferry_attempt attempt;
	enum ferry_outcome outcome; /* 0: it has not ended. */
	enum ferry_cause cause;
	bool is_released;
};

static struct stand stand;
static struct ferry_link link_out;
static struct ferry_peer peer;
static struct ferry_peer_path *vias[2];
static struct ferry_message *sent[SENT_MAX]; /* Handed to the link, in order. */
static uint32_t sent_count;
static int send_error;
static uint32_t resets;
static uint32_t ups;
static uint32_t downs;
static uint32_t rooms;
static struct tried tried[FERRY_WIRE_WINDOW_MAX + 1];
static struct ferry_peer_lay lay;
static struct ferry_peer_warm warm;
static int answered; /* What a lay or a warm was told; 1: nothing yet. */

static const struct ferry_uuid luns[2] = {{{1}}, {{2}}};
static const struct ferry_uuid lineage = {{9}};

static int link_send(struct ferry_link *link, struct ferry_message *message)
{
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES];
	struct ferry_message copy = *message;

	(void)link;
	if (send_error < 0)
		return send_error;
	if (copy.segments.count > 0) /* The transport's to fill in, in what it sends. */
		copy.header.payload_crc = ferry_crc32c_segments(0, &copy.segments);
	ferry_wire_encode(&copy.header, bytes); /* It has to be sayable. */
	assert_true(sent_count < SENT_MAX);
	sent[sent_count++] = message;
	return 0;
}

static void link_reset(struct ferry_link *link, const char *why)
{
	(void)link;
	(void)why;
	resets++;
}

static const struct ferry_link_ops link_ops = {
	.name = "stand", .send = link_send, .reset = link_reset};

static void on_state(struct ferry_path *path, bool is_up, enum ferry_cause cause)
{
	assert_int_equal(path->is_up, is_up);
	assert_int_equal(cause, is_up ? FERRY_CAUSE_NONE : FERRY_CAUSE_PATH);
	ups += is_up;
	downs += !is_up;
}

static void on_room(struct ferry_path *path)
{
	(void)path;
	rooms++;
}

static void come_up(uint64_t incarnation)
{
	link_out.is_up = true;
	link_out.on_up(&link_out, (struct ferry_incarnation){incarnation});
}

static void go_down(void)
{
	link_out.is_up = false;
	link_out.on_down(&link_out, "test");
}

static int setup(void **state)
{
	struct ferry_peer_config config = {
		.loop = &stand.loop.loop, .self = {1}, .incarnation = {7}};

	(void)state;
	stand_open(&stand);
	link_out = (struct ferry_link){.ops = &link_ops, .node = {2}};
	sent_count = resets = ups = downs = rooms = 0;
	send_error = 0;
	answered = 1;
	assert_int_equal(ferry_peer_init(&peer, &stand.region, &link_out, &config), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ferry_peer_add_lun(&peer, &luns[i], &lineage, &vias[i]), 0);
		assert_int_equal(vias[i]->path.kind, FERRY_PATH_PEER);
		assert_int_equal(vias[i]->path.node.v, 2);
		assert_false(vias[i]->path.is_up);
		vias[i]->path.on_state = on_state;
		vias[i]->path.on_room = on_room;
	}
	come_up(40);
	assert_int_equal(ups, 2);
	assert_true(vias[0]->path.is_up && vias[1]->path.is_up);
	return 0;
}

static void on_end(struct ferry_attempt *attempt, enum ferry_outcome outcome,
		   enum ferry_cause cause)
{
	struct tried *self = FERRY_CONTAINER_OF(attempt, struct tried, attempt);

	assert_int_equal(self->outcome, 0); /* Once. */
	self->outcome = outcome;
	self->cause = cause;
}

static void on_released(struct ferry_attempt *attempt)
{
	struct tried *self = FERRY_CONTAINER_OF(attempt, struct tried, attempt);

	assert_int_not_equal(self->outcome, 0);
	assert_false(self->is_released);
	self->is_released = true;
	ferry_segments_drop(&attempt->segments);
}

/* Nothing leaks, and nothing is left behind. */
static int teardown(void **state)
{
	(void)state;
	assert_true(peer.sequence_floor == peer.sequence_next);
	stand_close(&stand);
	return 0;
}

static int submit(uint32_t i, enum ferry_op op, int via)
{
	int r;

	tried[i] = (struct tried){.attempt = {.op = op,
					      .lba = {8 * i},
					      .length_blocks = op == FERRY_OP_FLUSH ? 0 : BLOCKS,
					      .epoch = {5},
					      .on_end = on_end,
					      .on_released = on_released}};
	if (op == FERRY_OP_FLUSH)
		tried[i].attempt.lba.v = 0;
	if (ferry_op_has_data(op))
		assert_int_equal(ferry_arena_take(&stand.arena, BLOCKS * STAND_BLOCK_BYTES,
						  &tried[i].attempt.segments),
				 0);
	r = ferry_path_submit(&vias[via]->path, &tried[i].attempt);
	if (r < 0)
		ferry_segments_drop(&tried[i].attempt.segments);
	return r;
}

static void expect_end(uint32_t i, enum ferry_outcome outcome, enum ferry_cause cause)
{
	assert_int_equal(tried[i].outcome, outcome);
	assert_int_equal(tried[i].cause, cause);
}

static void is_sent(uint32_t i, enum ferry_sent how)
{
	struct ferry_message *message = TAKE_PTR(sent[i]);

	message->on_sent(message, how);
}

static struct ferry_wire_header reply_to(const struct ferry_wire_header *request,
					 enum ferry_outcome outcome, enum ferry_cause cause)
{
	struct ferry_wire_header reply = *request;

	reply.type = request->type == FERRY_WIRE_LAY	? FERRY_WIRE_LAY_REPLY
		     : request->type == FERRY_WIRE_WARM ? FERRY_WIRE_WARM_REPLY
							: FERRY_WIRE_REPLY;
	reply.payload_bytes = reply.payload_crc = 0;
	reply.outcome = outcome;
	reply.cause = cause;
	return reply;
}

static void hear(const struct ferry_wire_header *reply)
{
	struct ferry_segments segments = {0};

	if (reply->payload_bytes > 0)
		assert_int_equal(link_out.on_payload(&link_out, reply, &segments), 0);
	link_out.on_message(&link_out, reply, &segments);
}

static void finish(uint32_t i)
{
	struct ferry_wire_header reply =
		reply_to(&sent[i]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);

	is_sent(i, FERRY_SENT_WHOLE);
	hear(&reply);
}

/* ---- Requests and replies. ---- */

static void test_says_who_asks_for_what(void **state)
{
	const struct ferry_wire_header *header;

	(void)state;
	assert_int_equal(submit(0, FERRY_OP_WRITE_ZEROES, 0), 0);
	assert_int_equal(submit(1, FERRY_OP_WRITE, 1), 0);
	assert_int_equal(sent_count, 2);
	header = &sent[1]->header;
	assert_int_equal(header->type, FERRY_WIRE_REQUEST);
	assert_int_equal(header->node.v, 1);
	assert_int_equal(header->incarnation.v, 7);
	assert_int_equal(header->epoch.v, 5);
	assert_true(ferry_uuid_equal(&header->lineage, &lineage));
	assert_true(ferry_uuid_equal(&header->lun, &luns[1]));
	assert_int_equal(header->sequence, 2);
	assert_int_equal(tried[1].attempt.sequence, 2);
	assert_int_equal(header->floor, 1);
	assert_int_equal(header->op, FERRY_OP_WRITE);
	assert_int_equal(header->lba.v, 8);
	assert_int_equal(header->length_blocks, BLOCKS);
	assert_int_equal(header->payload_bytes, BLOCKS * STAND_BLOCK_BYTES);
	assert_int_equal(header->payload_crc, 0); /* One pass over the data: the transport's. */
	assert_int_equal(sent[0]->header.payload_bytes, 0);
	assert_true(ferry_uuid_equal(&sent[0]->header.lun, &luns[0]));
	assert_int_equal(peer.requests, 2);
	finish(0);
	finish(1);
}

/* The end is one thing, the memory another: both reply and transport have to be done with it. */
static void test_ends_and_is_released(void **state)
{
	struct ferry_wire_header reply;

	(void)state;
	assert_int_equal(submit(0, FERRY_OP_WRITE, 0), 0);
	reply = reply_to(&sent[0]->header, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	reply.losses = 3;
	hear(&reply);
	expect_end(0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	assert_int_equal(tried[0].attempt.mark.boot.v, 40);
	assert_int_equal(tried[0].attempt.mark.losses, 3);
	assert_false(tried[0].is_released);
	hear(&reply); /* Once more: it is settled. */
	assert_int_equal(resets, 0);
	is_sent(0, FERRY_SENT_WHOLE);
	assert_true(tried[0].is_released);
	hear(&reply);
	assert_int_equal(resets, 0);

	assert_int_equal(submit(1, FERRY_OP_WRITE, 0), 0);
	is_sent(1, FERRY_SENT_WHOLE);
	assert_int_equal(tried[1].outcome, 0);
	assert_false(tried[1].is_released);
	reply = reply_to(&peer.window[2].message.header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	hear(&reply);
	expect_end(1, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_true(tried[1].is_released);
}

static void test_reads_into_its_own_segments(void **state)
{
	struct ferry_wire_header reply;
	struct ferry_segments data = {0};

	(void)state;
	assert_int_equal(submit(0, FERRY_OP_READ, 0), 0);
	reply = reply_to(&sent[0]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	reply.payload_bytes = BLOCKS * STAND_BLOCK_BYTES;
	is_sent(0, FERRY_SENT_WHOLE);
	assert_int_equal(link_out.on_payload(&link_out, &reply, &data), 0);
	assert_int_equal(data.length_bytes, BLOCKS * STAND_BLOCK_BYTES);
	assert_ptr_equal(data.v[0].chunk, tried[0].attempt.segments.v[0].chunk);
	assert_int_equal(link_out.on_payload(&link_out, &reply, &data), -EPROTO); /* Twice. */
	assert_int_equal(tried[0].outcome, 0);
	link_out.on_message(&link_out, &reply, &data);
	expect_end(0, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_true(tried[0].is_released);
	assert_int_equal(link_out.on_payload(&link_out, &reply, &data), -EPROTO); /* Settled. */
	reply.sequence = 0;
	assert_int_equal(link_out.on_payload(&link_out, &reply, &data), -EPROTO);
}

/* The link is cut; the request is not settled by what does not answer it. */
static void test_reply_does_not_fit(void **state)
{
	struct ferry_wire_header good;
	struct ferry_wire_header bad[9];
	struct ferry_segments none = {0};

	(void)state;
	assert_int_equal(submit(0, FERRY_OP_WRITE, 0), 0);
	good = reply_to(&sent[0]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	for (int i = 0; i < 9; i++)
		bad[i] = good;
	bad[0].type = FERRY_WIRE_LAY_REPLY;
	bad[1].type = FERRY_WIRE_WARM_REPLY;
	bad[2].op = FERRY_OP_DISCARD;
	bad[3].lba.v++;
	bad[4].length_blocks--;
	bad[5].outcome = 0;
	bad[6].type = FERRY_WIRE_REQUEST;
	for (uint32_t i = 0; i < 7; i++) {
		link_out.on_message(&link_out, &bad[i], &none);
		assert_int_equal(resets, i + 1);
		assert_int_equal(tried[0].outcome, 0);
	}
	good.payload_bytes = BLOCKS * STAND_BLOCK_BYTES; /* A write's has no data. */
	assert_int_equal(link_out.on_payload(&link_out, &good, &none), -EPROTO);
	finish(0);

	assert_int_equal(submit(1, FERRY_OP_READ, 0), 0);
	good = reply_to(&sent[1]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	link_out.on_message(&link_out, &good, &none); /* A read's that is DONE has. */
	assert_int_equal(resets, 8);
	good.payload_bytes = STAND_BLOCK_BYTES;
	assert_int_equal(link_out.on_payload(&link_out, &good, &none), -EPROTO);
	is_sent(1, FERRY_SENT_WHOLE);
	good = reply_to(&peer.window[2].message.header, FERRY_OUTCOME_FAILED, FERRY_CAUSE_STALE);
	hear(&good);
	expect_end(1, FERRY_OUTCOME_FAILED, FERRY_CAUSE_STALE);
}

/* What waits for its data is not done with by anything else. */
static void test_gives_up_while_data_comes_in(void **state)
{
	struct ferry_wire_header reply;
	struct ferry_segments data = {0};

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(submit(i, FERRY_OP_READ, 0), 0);
		reply = reply_to(&sent[i]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
		reply.payload_bytes = BLOCKS * STAND_BLOCK_BYTES;
		is_sent(i, FERRY_SENT_WHOLE);
		assert_int_equal(link_out.on_payload(&link_out, &reply, &data), 0);
		ferry_peer_lost(&peer);
		expect_end(i, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		assert_false(tried[i].is_released);
		if (i == 0)
			link_out.on_message(&link_out, &reply, &data);
		else
			link_out.on_payload_dropped(&link_out, &reply, &data);
		assert_int_equal(data.count, 0);
		assert_true(tried[i].is_released);
	}
	assert_int_equal(submit(2, FERRY_OP_READ, 0), 0);
	reply = reply_to(&sent[2]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	reply.payload_bytes = BLOCKS * STAND_BLOCK_BYTES;
	is_sent(2, FERRY_SENT_WHOLE);
	assert_int_equal(link_out.on_payload(&link_out, &reply, &data), 0);
	link_out.on_payload_dropped(&link_out, &reply, &data);
	assert_int_equal(tried[2].outcome, 0); /* It may be asked for again. */
	hear(&reply);
	expect_end(2, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
}

/* ---- The window. ---- */

static void on_lay_done(struct ferry_peer_lay *self, int error)
{
	assert_ptr_equal(self, &lay);
	assert_int_equal(answered, 1);
	answered = error;
}

static void test_window(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < FERRY_WIRE_WINDOW_MAX; i++)
		assert_int_equal(submit(i, FERRY_OP_FLUSH, 0), 0);
	finish(1); /* Not the oldest: no room yet. */
	assert_int_equal(rooms, 0);
	assert_int_equal(submit(FERRY_WIRE_WINDOW_MAX, FERRY_OP_FLUSH, 0), -EAGAIN);
	lay = (struct ferry_peer_lay){.victim = {1}, .on_done = on_lay_done};
	assert_int_equal(ferry_peer_lay(&peer, &lay), -EAGAIN);
	finish(0);
	assert_int_equal(rooms, 0); /* From a fresh stack. */
	stand_run_ms(&stand, 1);
	assert_int_equal(rooms, 2);
	assert_int_equal(peer.sequence_floor, 3);
	assert_int_equal(submit(FERRY_WIRE_WINDOW_MAX, FERRY_OP_FLUSH, 0), 0);
	assert_int_equal(sent[FERRY_WIRE_WINDOW_MAX]->header.floor, 3);
	assert_int_equal(sent[FERRY_WIRE_WINDOW_MAX]->header.sequence, FERRY_WIRE_WINDOW_MAX + 1);
	for (uint32_t i = 2; i <= FERRY_WIRE_WINDOW_MAX; i++)
		finish(i);
	stand_run_ms(&stand, 1);
	assert_int_equal(rooms, 2); /* Nobody waits. */
}

/* ---- The link's ups and downs. ---- */

static void test_link_breaks(void **state)
{
	(void)state;
	assert_int_equal(submit(0, FERRY_OP_WRITE, 0), 0);
	assert_int_equal(submit(1, FERRY_OP_WRITE, 0), 0);
	assert_int_equal(submit(2, FERRY_OP_READ, 0), 0);
	assert_int_equal(submit(3, FERRY_OP_FLUSH, 0), 0);
	assert_int_equal(submit(4, FERRY_OP_DISCARD, 0), 0);
	assert_int_equal(submit(5, FERRY_OP_DISCARD, 0), 0);
	is_sent(0, FERRY_SENT_NOTHING);
	is_sent(1, FERRY_SENT_UNSURE);
	is_sent(2, FERRY_SENT_WHOLE);
	is_sent(3, FERRY_SENT_WHOLE);
	is_sent(4, FERRY_SENT_WHOLE);
	is_sent(5, FERRY_SENT_WHOLE);
	tried[5].attempt.is_given_up = true;
	go_down();
	assert_int_equal(downs, 2);
	expect_end(0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	expect_end(2, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	expect_end(3, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	expect_end(5, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_int_equal(tried[1].outcome, 0); /* Their numbers ask again. */
	assert_int_equal(tried[4].outcome, 0);
	sent_count = 0;
	come_up(40);
	assert_int_equal(sent_count, 2);
	assert_int_equal(peer.resent, 2);
	assert_int_equal(sent[0]->header.sequence, 2);
	assert_int_equal(sent[0]->header.payload_bytes, BLOCKS * STAND_BLOCK_BYTES);
	assert_int_equal(sent[1]->header.sequence, 5);
	assert_int_equal(sent[0]->header.floor, 2); /* What has ended is settled. */
	finish(0);
	finish(1);
	expect_end(1, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	expect_end(4, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
}

/* A new agent knows nothing of what the last one was asked. */
static void test_peer_starts_anew(void **state)
{
	(void)state;
	assert_int_equal(submit(0, FERRY_OP_WRITE, 0), 0);
	is_sent(0, FERRY_SENT_WHOLE);
	send_error = -ENOTCONN;
	assert_int_equal(submit(1, FERRY_OP_WRITE, 0), 0);
	send_error = 0;
	come_up(41);
	expect_end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	expect_end(1, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	assert_int_equal(sent_count, 1);
	assert_int_equal(peer.resent, 0);
	assert_int_equal(peer.incarnation.v, 41);
}

/* The transport could not take it after all: it goes when it can. */
static void test_sends_what_could_not_be_sent(void **state)
{
	(void)state;
	send_error = -ENOTCONN;
	assert_int_equal(submit(0, FERRY_OP_WRITE, 0), 0);
	assert_int_equal(submit(1, FERRY_OP_WRITE, 0), 0);
	send_error = 0;
	tried[1].attempt.is_given_up = true; /* What has not left must not. */
	come_up(40);
	expect_end(1, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	assert_true(tried[1].is_released);
	assert_int_equal(sent_count, 1);
	assert_int_equal(peer.resent, 0);
	assert_int_equal(submit(2, FERRY_OP_WRITE, 0), 0);
	come_up(40); /* What the transport has is not given to it twice. */
	assert_int_equal(sent_count, 2);
	finish(0);
	finish(1);
}

/* Its deadline passed while the link was down: it may be proven dead, and is not sent again. */
static void test_given_up_is_not_sent_again(void **state)
{
	(void)state;
	assert_int_equal(submit(0, FERRY_OP_WRITE, 0), 0);
	is_sent(0, FERRY_SENT_WHOLE);
	go_down();
	assert_int_equal(tried[0].outcome, 0);
	tried[0].attempt.is_given_up = true;
	come_up(40);
	expect_end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_true(tried[0].is_released);
	assert_int_equal(sent_count, 1);
}

/* Where a READ's answer goes is the transport's to write to until it says that it is not. */
static void test_room_is_held_until_sent(void **state)
{
	const struct ferry_segments *room;

	(void)state;
	assert_int_equal(submit(0, FERRY_OP_READ, 0), 0);
	room = &sent[0]->room;
	assert_int_equal(sent[0]->segments.count, 0);
	assert_int_equal(room->length_bytes, BLOCKS * STAND_BLOCK_BYTES);
	assert_ptr_equal(room->v[0].chunk, tried[0].attempt.segments.v[0].chunk);
	assert_int_equal(room->v[0].chunk->users, 2);
	ferry_peer_lost(&peer);
	expect_end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_int_equal(tried[0].attempt.segments.v[0].chunk->users, 2);
	assert_false(tried[0].is_released); /* The peer may still write there. */
	is_sent(0, FERRY_SENT_UNSURE);
	assert_true(tried[0].is_released);
	assert_int_equal(submit(1, FERRY_OP_WRITE, 0), 0);
	assert_int_equal(sent[1]->room.count, 0);
	finish(1);
}

/*
 * Where nobody aborts, only its answer settles a write: it is asked for by its number, though it
 * was given up, and though the peer was no member meanwhile; until that agent is gone.
 */
static void test_is_asked_on(void **state)
{
	struct ferry_wire_header reply;

	(void)state;
	vias[0]->asks_on = true;
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(submit(i, i == 2 ? FERRY_OP_READ : FERRY_OP_WRITE, 0), 0);
	for (uint32_t i = 0; i < 3; i++)
		is_sent(i, FERRY_SENT_UNSURE);
	tried[0].attempt.is_given_up = tried[1].attempt.is_given_up = true;
	go_down();
	ferry_peer_lost(&peer);
	expect_end(2, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_int_equal(tried[0].outcome, 0);
	come_up(40);
	assert_int_equal(sent_count, 5);
	assert_int_equal(sent[3]->header.sequence, 1);
	reply = reply_to(&sent[3]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	is_sent(3, FERRY_SENT_WHOLE);
	hear(&reply);
	expect_end(0, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	is_sent(4, FERRY_SENT_UNSURE);
	go_down();
	ferry_peer_lost(&peer);
	come_up(41);
	expect_end(1, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_int_equal(sent_count, 5);
}

/* What a WRITE has offered is the peer's to read until the transport says that it is not. */
static void test_offer_is_held_until_sent(void **state)
{
	const struct ferry_segments *offer;
	struct ferry_wire_header reply;

	(void)state;
	assert_int_equal(submit(0, FERRY_OP_WRITE, 0), 0);
	offer = &sent[0]->segments;
	reply = reply_to(&sent[0]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	vias[0]->path.ops->abandon(&vias[0]->path, &tried[0].attempt);
	stand_run_ms(&stand, 1);
	expect_end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_false(tried[0].is_released);
	assert_int_equal(offer->count, 1);
	assert_int_equal(offer->v[0].chunk->users, 2);
	hear(&reply); /* Carried after all; nobody waits for that. */
	assert_false(tried[0].is_released);
	is_sent(0, FERRY_SENT_WHOLE);
	assert_true(tried[0].is_released);
	hear(&reply);
	assert_int_equal(resets, 0); /* A late answer is no breach. */
}

/* A READ's deadline has passed, the link lives: its answer goes to where it was asked for. */
static void test_late_read_is_received(void **state)
{
	struct ferry_wire_header reply;
	struct ferry_segments data = {0};

	(void)state;
	assert_int_equal(submit(0, FERRY_OP_READ, 0), 0);
	reply = reply_to(&sent[0]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	reply.payload_bytes = BLOCKS * STAND_BLOCK_BYTES;
	is_sent(0, FERRY_SENT_WHOLE);
	tried[0].attempt.is_given_up = true;
	for (uint32_t i = 1; i < FERRY_WIRE_WINDOW_MAX; i++) { /* As late as can be. */
		assert_int_equal(submit(i, FERRY_OP_FLUSH, 0), 0);
		finish(i);
	}
	assert_int_equal(submit(FERRY_WIRE_WINDOW_MAX, FERRY_OP_FLUSH, 0), -EAGAIN);
	assert_false(tried[0].is_released);
	assert_int_equal(link_out.on_payload(&link_out, &reply, &data), 0);
	assert_ptr_equal(data.v[0].chunk, tried[0].attempt.segments.v[0].chunk);
	link_out.on_message(&link_out, &reply, &data);
	expect_end(0, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_true(tried[0].is_released);
	assert_int_equal(resets, 0);
	stand_run_ms(&stand, 1); /* There is room again. */
}

static void test_abandoned_is_not_sent_again(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(submit(i, FERRY_OP_WRITE, 0), 0);
		if (i < 2)
			is_sent(i, FERRY_SENT_WHOLE);
	}
	go_down();
	expect_end(2, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	vias[0]->path.ops->abandon(&vias[0]->path, &tried[0].attempt);
	vias[0]->path.ops->abandon(&vias[0]->path, &tried[2].attempt); /* It is ending by itself. */
	assert_int_equal(tried[0].outcome, 0);			       /* From a fresh stack. */
	sent_count = 0;
	is_sent(2, FERRY_SENT_NOTHING);
	assert_true(tried[2].is_released);
	come_up(40);
	assert_int_equal(sent_count, 1);
	assert_int_equal(sent[0]->header.sequence, 2);
	stand_run_ms(&stand, 1);
	expect_end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_int_equal(tried[1].outcome, 0);
	finish(0);
}

/* No member any more: what may have left is unknown, the rest has not happened. */
static void test_peer_is_lost(void **state)
{
	(void)state;
	assert_int_equal(submit(0, FERRY_OP_WRITE, 0), 0);
	send_error = -ENOTCONN;
	assert_int_equal(submit(1, FERRY_OP_WRITE, 0), 0);
	send_error = 0;
	assert_int_equal(submit(2, FERRY_OP_WRITE, 0), 0);
	is_sent(1, FERRY_SENT_WHOLE);
	ferry_peer_lost(&peer);
	expect_end(0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH); /* The transport has it yet. */
	expect_end(1, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	expect_end(2, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_false(tried[0].is_released);
	assert_true(tried[1].is_released && tried[2].is_released);
	ferry_peer_lost(&peer); /* Nothing is left to end. */
	is_sent(0, FERRY_SENT_NOTHING);
	assert_true(tried[0].is_released);
}

/* ---- Wishes. ---- */

static void on_warm_done(struct ferry_peer_warm *self, int error)
{
	assert_ptr_equal(self, &warm);
	assert_int_equal(answered, 1);
	answered = error;
}

static const struct {
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	int lay;
	int warm;
} answers[] = {
	{FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE, 0, 0},
	{FERRY_OUTCOME_FAILED, FERRY_CAUSE_STALE, -EIO, -ENODATA},
	{FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, -EIO, -EIO},
};

static void test_lays(void **state)
{
	struct ferry_wire_header reply;

	(void)state;
	lay = (struct ferry_peer_lay){.lun = luns[1],
				      .lineage = lineage,
				      .epoch = {6},
				      .victim = {0xfe77},
				      .on_done = on_lay_done};
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(answers); i++) {
		answered = 1;
		assert_int_equal(ferry_peer_lay(&peer, &lay), 0);
		assert_int_equal(sent[i]->header.type, FERRY_WIRE_LAY);
		assert_int_equal(sent[i]->header.node.v, 1);
		assert_int_equal(sent[i]->header.incarnation.v, 7);
		assert_int_equal(sent[i]->header.epoch.v, 6);
		assert_int_equal(sent[i]->header.sequence, i + 1);
		assert_int_equal(sent[i]->header.victim_key, 0xfe77);
		assert_true(ferry_uuid_equal(&sent[i]->header.lun, &luns[1]));
		assert_true(ferry_uuid_equal(&sent[i]->header.lineage, &lineage));
		reply = reply_to(&sent[i]->header, answers[i].outcome, answers[i].cause);
		is_sent(i, FERRY_SENT_WHOLE);
		assert_int_equal(answered, 1);
		hear(&reply);
		assert_int_equal(answered, answers[i].lay);
	}
	answered = 1;
	assert_int_equal(ferry_peer_lay(&peer, &lay), 0);
	reply = reply_to(&sent[3]->header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	reply.type = FERRY_WIRE_REPLY;
	hear(&reply); /* Whatever else is DONE, it proves nothing here. */
	assert_int_equal(answered, 1);
	assert_int_equal(resets, 1);
	is_sent(3, FERRY_SENT_WHOLE);
	go_down();
	assert_int_equal(answered, -EIO);
	assert_int_equal(ferry_peer_lay(&peer, &lay), -ENOTCONN);
}

static void test_warms(void **state)
{
	struct ferry_wire_header reply;
	struct ferry_segments data = {0};

	(void)state;
	warm = (struct ferry_peer_warm){.lun = luns[0],
					.lineage = lineage,
					.epoch = {6},
					.cursor = 77,
					.on_done = on_warm_done};
	assert_int_equal(
		ferry_arena_take(&stand.arena, 2 * FERRY_CHUNK_BYTES + 100, &warm.segments), 0);
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(answers); i++) {
		answered = 1;
		warm.received_bytes = 5;
		assert_int_equal(ferry_peer_warm(&peer, &warm), 0);
		assert_int_equal(warm.received_bytes, 0);
		assert_int_equal(sent[i]->header.type, FERRY_WIRE_WARM);
		assert_int_equal(sent[i]->header.node.v, 1);
		assert_int_equal(sent[i]->header.incarnation.v, 7);
		assert_int_equal(sent[i]->header.epoch.v, 6);
		assert_int_equal(sent[i]->header.sequence, i + 1);
		assert_int_equal(sent[i]->header.cursor, 77);
		assert_true(ferry_uuid_equal(&sent[i]->header.lun, &luns[0]));
		assert_true(ferry_uuid_equal(&sent[i]->header.lineage, &lineage));
		reply = reply_to(&sent[i]->header, answers[i].outcome, answers[i].cause);
		is_sent(i, FERRY_SENT_WHOLE);
		if (answers[i].outcome == FERRY_OUTCOME_DONE) { /* As much of it as there is. */
			reply.payload_bytes = FERRY_CHUNK_BYTES + 10;
			assert_int_equal(link_out.on_payload(&link_out, &reply, &data), 0);
			assert_int_equal(data.count, 2);
			assert_int_equal(data.length_bytes, FERRY_CHUNK_BYTES + 10);
			assert_int_equal(data.v[0].length_bytes, FERRY_CHUNK_BYTES);
			assert_int_equal(data.v[1].length_bytes, 10);
			assert_ptr_equal(data.v[1].chunk, warm.segments.v[1].chunk);
		}
		link_out.on_message(&link_out, &reply, &data);
		assert_int_equal(answered, answers[i].warm);
		assert_int_equal(warm.received_bytes, reply.payload_bytes);
	}
	answered = 1;
	assert_int_equal(ferry_peer_warm(&peer, &warm), 0);
	is_sent(3, FERRY_SENT_WHOLE);
	reply = reply_to(&peer.window[4].message.header, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	reply.payload_bytes = 2 * FERRY_CHUNK_BYTES + 101; /* More than there is room for. */
	assert_int_equal(link_out.on_payload(&link_out, &reply, &data), -EPROTO);
	reply.payload_bytes--;
	assert_int_equal(link_out.on_payload(&link_out, &reply, &data), 0);
	link_out.on_payload_dropped(&link_out, &reply, &data);
	go_down();
	assert_int_equal(answered, -EIO);
	assert_int_equal(ferry_peer_warm(&peer, &warm), -ENOTCONN);
	ferry_segments_drop(&warm.segments);
}

static void test_bounds(void **state)
{
	struct ferry_peer_config config = {
		.loop = &stand.loop.loop, .self = {1}, .incarnation = {7}};
	struct ferry_region small;
	struct ferry_peer_path *via;
	_Alignas(64) uint8_t bytes[64];
	struct ferry_peer other;

	(void)state;
	ferry_region_init(&small, bytes, sizeof(bytes));
	assert_int_equal(ferry_peer_init(&other, &small, &link_out, &config), -ENOMEM);
	for (int i = 2; i < FERRY_PEER_LUNS_MAX; i++) {
		assert_int_equal(ferry_peer_add_lun(&peer, &luns[0], &lineage, &via), 0);
		assert_true(via->path.is_up); /* As the link is. */
	}
	assert_int_equal(ferry_peer_add_lun(&peer, &luns[0], &lineage, &via), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_says_who_asks_for_what),
		TEST(test_ends_and_is_released),
		TEST(test_reads_into_its_own_segments),
		TEST(test_reply_does_not_fit),
		TEST(test_gives_up_while_data_comes_in),
		TEST(test_window),
		TEST(test_link_breaks),
		TEST(test_peer_starts_anew),
		TEST(test_sends_what_could_not_be_sent),
		TEST(test_given_up_is_not_sent_again),
		TEST(test_room_is_held_until_sent),
		TEST(test_is_asked_on),
		TEST(test_offer_is_held_until_sent),
		TEST(test_late_read_is_received),
		TEST(test_abandoned_is_not_sent_again),
		TEST(test_peer_is_lost),
		TEST(test_lays),
		TEST(test_warms),
		TEST(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
