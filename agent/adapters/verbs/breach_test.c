/* A peer that breaks the rules loses its connection, and nobody else one. */
#include "agent/adapters/verbs/verbs_stand.h"

/* Send these bytes as they are. */
static void forge_frame(struct end *end, const void *bytes, uint32_t length_bytes)
{
	struct verbs_link *link = verbs_link_of(end->link);
	uint8_t *room = link->out[FERRY_VERBS_OUT_MAX - 1].lead;
	struct ibv_sge sge = {.addr = (uintptr_t)room,
			      .length = length_bytes,
			      .lkey = link->verbs->frames_mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND}, *bad;

	assert_true(length_bytes <= VERBS_OUT_BYTES);
	memcpy(room, bytes, length_bytes);
	wr.wr_id = verbs_wr_id(link, VERBS_WORK_MOVE, 0, 0);
	assert_int_equal(ibv_post_send(link->id->qp, &wr, &bad), 0);
}

static struct ferry_rdma_frame offer_of(const struct end *end, uint32_t blocks)
{
	return (struct ferry_rdma_frame){
		.kind = FERRY_RDMA_OFFER,
		.header = {.type = FERRY_WIRE_REQUEST,
			   .payload_bytes = blocks * 512,
			   .node = {end->side->node},
			   .incarnation = {end->side->incarnation},
			   .lineage = {{1}},
			   .epoch = {1},
			   .sequence = 7,
			   .lun = {{2}},
			   .op = FERRY_OP_WRITE,
			   .length_blocks = blocks},
		.pieces_count = 1,
		.pieces = {{.address = (uintptr_t)end->side->memory,
			    .key = 0x12345678,
			    .length_bytes = blocks * 512}},
	};
}

static void forge_expect(struct world *world, const void *bytes, uint32_t length_bytes,
			 const char *word)
{
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	uint32_t downs = serves->downs;

	all_up(world);
	forge_frame(asks, bytes, length_bytes);
	WAIT(world, serves->downs == downs + 1 && asks->downs == downs + 1);
	if (!strstr(serves->why, word))
		fail_msg("'%s' lacks '%s'", serves->why, word);
	only_one_fell(world);
}

static void breaches_end_the_connection(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	uint8_t bytes[VERBS_OUT_BYTES] = "this is no frame at all";
	struct ferry_rdma_frame frame;
	uint32_t length_bytes;

	all_up(world);
	forge_expect(world, bytes, 64, "it is none");
	frame = offer_of(asks, LARGE_BLOCKS); /* A key that there never was. */
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	forge_expect(world, bytes, length_bytes, "RDMA: ");
	assert_int_equal(serves->dropped, 1);
	frame.header.node.v = 9;
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	forge_expect(world, bytes, length_bytes, "not its own");
	frame = offer_of(asks, LARGE_BLOCKS);
	frame.credits = 1000;
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	forge_expect(world, bytes, length_bytes, "more credits");
	frame.credits = 0;
	frame.taken = 1;
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	forge_expect(world, bytes, length_bytes, "not offered");
	frame.taken = 0;
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	bytes[length_bytes - 1] ^= 1; /* The length of the piece. */
	forge_expect(world, bytes, length_bytes, "damaged");
	assert_int_equal(serves->messages, 0);
}

/* An OFFER of more than its window opens: the device refuses, not we. */
static void oversized_length_is_refused(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	const struct verbs_link *link;
	struct ferry_rdma_piece window;
	uint8_t bytes[VERBS_OUT_BYTES];
	struct ferry_rdma_frame frame;

	all_up(world);
	link = verbs_link_of(serves->link);
	serves->is_hoarding = true; /* So that the window stays open. */
	assert_int_equal(request(asks, FERRY_OP_WRITE, 16), 0);
	WAIT(world, serves->is_waiting);
	window = link->in[link->order[link->order_first]].frame.pieces[0];
	assert_int_equal(window.length_bytes, 16 * 512);
	frame = offer_of(asks, 2 * LARGE_BLOCKS);
	frame.pieces[0].key = window.key;
	frame.pieces[0].address = window.address;
	forge_frame(asks, bytes, ferry_rdma_frame_encode(&frame, bytes));
	WAIT(world, link->order_count == 2);
	serves->is_hoarding = false;
	serves->link->ops->resume(serves->link);
	WAIT(world, serves->downs == 1 && asks->downs == 1);
	assert_non_null(strstr(serves->why, "RDMA: "));
	assert_true(serves->dropped > 0);
	only_one_fell(world);
}

/* More frames than there are credits: the queue runs dry, and that is the peer's end. */
static void no_frames_without_credit(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	uint8_t bytes[VERBS_OUT_BYTES];
	struct ferry_rdma_frame frame;
	uint32_t length_bytes;

	all_up(world);
	serves->is_hoarding = true;
	frame = offer_of(asks, LARGE_BLOCKS);
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	for (uint32_t i = 0; i < FERRY_VERBS_CREDITS + 1; i++)
		forge_frame(asks, bytes, length_bytes);
	WAIT(world, serves->downs == 1 && asks->downs == 1);
	assert_non_null(strstr(serves->why, "no credit"));
	only_one_fell(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(breaches_end_the_connection),
		TEST(oversized_length_is_refused),
		TEST(no_frames_without_credit),
	};

	return STAND_RUN(tests);
}
