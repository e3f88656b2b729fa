#include "agent/transport/transport_stand.h"

struct transport_stand w;

/* ---- Links. ---- */

static struct stand_half *half_of(struct ferry_link *link)
{
	return FERRY_CONTAINER_OF(link, struct stand_half, link);
}

static int half_send(struct ferry_link *link, struct ferry_message *message)
{
	struct stand_half *far = half_of(link)->far;
	struct stand_frame *frame = &far->inbox[far->inbox_count++];
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES];
	struct ferry_segment *segment = message->segments.v;

	assert_true(link->is_up && far->inbox_count < STAND_FRAMES_MAX);
	message->header.payload_crc = message->segments.count > 0; /* Any: nobody looks. */
	ferry_wire_encode(&message->header, bytes);
	*frame = (struct stand_frame){.message = message, .header = message->header};
	assert_true(message->segments.count <= 1);
	if (message->segments.count == 1)
		memcpy(frame->data, segment->chunk->data + segment->offset_bytes,
		       segment->length_bytes);
	return 0;
}

static void half_resume(struct ferry_link *link)
{
	(void)link;
}

static void half_reset(struct ferry_link *link, const char *why)
{
	(void)why;
	link->is_up = false;
	half_of(link)->is_cut = true;
}

static const struct ferry_link_ops half_ops = {
	.name = "stand", .send = half_send, .resume = half_resume, .reset = half_reset};

static void halves_init(struct stand_half halves[2])
{
	for (int i = 0; i < 2; i++)
		halves[i] = (struct stand_half){.far = &halves[!i],
						.link = {.ops = &half_ops, .node = {i ? 1 : 2}}};
}

static void told(struct stand_frame *frame, enum ferry_sent sent)
{
	struct ferry_message *message = TAKE_PTR(frame->message);

	if (message)
		message->on_sent(message, sent);
}

void settle(struct stand_half *half)
{
	if (!half->is_cut)
		return;
	half->is_cut = false;
	for (uint32_t i = 0; i < half->far->inbox_count; i++)
		told(&half->far->inbox[i], FERRY_SENT_UNSURE);
	half->link.on_down(&half->link, "test");
}

void cut(struct stand_half *half, const char *why)
{
	if (half->link.is_up)
		half_reset(&half->link, why);
	settle(half);
}

bool deliver(struct stand_half *half)
{
	struct stand_frame frame = half->inbox[0];
	struct ferry_segments segments = {};
	int r = 0;

	if (half->inbox_count == 0 || !half->link.is_up)
		return false;
	told(&half->inbox[0], FERRY_SENT_WHOLE);
	if (frame.header.payload_bytes > 0)
		r = half->link.on_payload(&half->link, &frame.header, &segments);
	if (r == -ENOBUFS)
		return false; /* It waits. */
	assert_int_equal(r, 0);
	memmove(&half->inbox[0], &half->inbox[1], --half->inbox_count * sizeof(half->inbox[0]));
	half->requests += frame.header.type == FERRY_WIRE_REQUEST;
	if (segments.count > 0)
		ferry_segments_write(&segments, 0, frame.data, segments.length_bytes);
	half->link.on_message(&half->link, &frame.header, &segments);
	return true;
}

static struct stand_half *const halves[] = {&w.tcp[0], &w.tcp[1], &w.rdma[0], &w.rdma[1]};

void run(void)
{
	bool is_busy = true;

	while (is_busy) {
		is_busy = false;
		for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(halves); i++) {
			struct stand_half *half = halves[i];

			is_busy |= half->is_cut || deliver(half);
			settle(half);
			if (half->link.is_up && !half->far->link.is_up) {
				cut(half, "the peer closed the connection");
				is_busy = true;
			}
		}
		stand_run_ms(&at.stand, 1);
	}
}

static void connection_begin(struct stand_half pair[2])
{
	for (int i = 0; i < 2; i++) {
		cut(&pair[i], "replaced");
		settle(&pair[i]);
	}
	for (int i = 0; i < 2; i++)
		pair[i].inbox_count = 0;
}

void tcp_connect(void)
{
	connection_begin(w.tcp);
	assert_int_equal(ferry_incoming_tcp(&w.in, &w.tcp[1].link, (struct ferry_incarnation){4}),
			 0);
	w.tcp[1].link.is_up = true;
	w.tcp[1].link.on_up(&w.tcp[1].link, (struct ferry_incarnation){4});
	w.tcp[0].link.is_up = true;
	w.tcp[0].link.on_up(&w.tcp[0].link, (struct ferry_incarnation){9});
}

int rdma_connect(void)
{
	int r;

	connection_begin(w.rdma);
	r = ferry_incoming_rdma(&w.in, &w.rdma[1].link, (struct ferry_incarnation){4});
	if (r < 0)
		return r;
	w.rdma[1].link.is_up = true;
	w.rdma[1].link.on_up(&w.rdma[1].link, (struct ferry_incarnation){4});
	w.rdma[0].link.is_up = true;
	w.rdma[0].link.on_up(&w.rdma[0].link, (struct ferry_incarnation){9});
	return 0;
}

/* As the wiring does. */
static void raise_rdma(void *context, bool is_wanted)
{
	assert_ptr_equal(context, &w);
	w.is_raised = is_wanted;
	if (!is_wanted && w.rdma[0].link.is_up)
		half_reset(&w.rdma[0].link, "no longer wanted");
}

static int accept_link(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	return ferry_carrier_accept(context, link, incarnation);
}

/* ---- I/O. ---- */

static void on_end(struct ferry_attempt *attempt, enum ferry_outcome outcome,
		   enum ferry_cause cause)
{
	struct stand_io *io = FERRY_CONTAINER_OF(attempt, struct stand_io, attempt);

	assert_int_equal(io->outcome, 0); /* Once. */
	io->outcome = outcome;
	io->cause = cause;
}

static void on_released(struct ferry_attempt *attempt)
{
	struct stand_io *io = FERRY_CONTAINER_OF(attempt, struct stand_io, attempt);

	assert_true(io->outcome != 0 && !io->is_released);
	io->is_released = true;
	ferry_segments_drop(&attempt->segments);
}

void submit(uint32_t i, enum ferry_op op)
{
	assert_true(i < STAND_IOS_MAX && w.ios[i].attempt.op == 0);
	w.ios[i].attempt = (struct ferry_attempt){.op = op,
						  .lba = {STAND_IO_BLOCKS * i},
						  .length_blocks = STAND_IO_BLOCKS,
						  .epoch = {5},
						  .on_end = on_end,
						  .on_released = on_released};
	assert_int_equal(ferry_arena_take(&at.stand.arena, STAND_IO_BLOCKS * STAND_BLOCK_BYTES,
					  &w.ios[i].attempt.segments),
			 0);
	assert_int_equal(ferry_path_submit(&w.via->path, &w.ios[i].attempt), 0);
}

uint32_t carried(uint32_t i)
{
	uint32_t count = 0;

	for (uint32_t j = 0; j < at.path.count; j++)
		count += w.carried[j] == STAND_IO_BLOCKS * i;
	return count;
}

void carried_done(uint32_t i)
{
	for (uint32_t j = at.path.count; j-- > 0;)
		if (at.path.attempts[j] && at.path.attempts[j]->lba.v == STAND_IO_BLOCKS * i) {
			stand_done(&at.path, j);
			return;
		}
	fail_msg("I/O %u is not being carried", i);
}

void expect_done(uint32_t i)
{
	assert_int_equal(w.ios[i].outcome, FERRY_OUTCOME_DONE);
	assert_true(w.ios[i].is_released);
}

/* ---- The whole. ---- */

static int counting_submit(struct ferry_path *path, struct ferry_attempt *attempt)
{
	w.carried[at.path.count] = attempt->lba.v;
	return stand_path_submit(path, attempt);
}

static const struct ferry_path_ops counting_ops = {
	.name = "stand", .submit = counting_submit, .reset = stand_path_reset};

static void on_state(struct ferry_path *path, bool is_up, enum ferry_cause cause)
{
	(void)path;
	(void)cause;
	w.ups += is_up;
	w.downs += !is_up;
}

static void on_room(struct ferry_path *path)
{
	(void)path;
}

static int setup(void **state, bool is_rdma_only)
{
	struct ferry_outgoing_config out = {.tcp = &w.tcp[0].link,
					    .rdma = &w.rdma[0].link,
					    .is_rdma_only = is_rdma_only,
					    .raise = raise_rdma,
					    .context = &w};
	struct ferry_incoming_config in = {.accept = accept_link, .context = &at.carrier};
	struct ferry_peer_config peer = {.self = {1}, .incarnation = {4}};

	(void)carrier_setup(state);
	at.path.path.ops = &counting_ops;
	memset(&w, 0, sizeof(w));
	out.loop = peer.loop = &at.stand.loop.loop;
	halves_init(w.tcp);
	halves_init(w.rdma);
	ferry_outgoing_init(&w.out, &out);
	ferry_incoming_init(&w.in, (struct ferry_node){1}, &in);
	assert_int_equal(ferry_peer_init(&w.peer, &at.stand.region, &w.out.link, &peer), 0);
	assert_int_equal(ferry_peer_add_lun(&w.peer, &lun_uuid, &lineage, &w.via), 0);
	w.via->path.on_state = on_state;
	w.via->path.on_room = on_room;
	return 0;
}

int transport_setup(void **state)
{
	return setup(state, /* is_rdma_only= */ false);
}

int transport_setup_rdma_only(void **state)
{
	return setup(state, /* is_rdma_only= */ true);
}

int transport_teardown(void **state)
{
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(halves); i++)
		cut(halves[i], "closing");
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(halves); i++)
		settle(halves[i]);
	ferry_peer_lost(&w.peer);
	ferry_outgoing_done(&w.out);
	for (uint32_t i = 0; i < STAND_IOS_MAX; i++)
		assert_true(w.ios[i].attempt.op == 0 || w.ios[i].is_released);
	assert_true(w.peer.sequence_floor == w.peer.sequence_next);
	return carrier_teardown(state);
}
