#include <inttypes.h>

#include "agent/adapters/verbs/room.h"
#include "agent/base/checksum.h"

int verbs_receive_post(struct verbs_link *link, uint32_t index)
{
	struct verbs_in *in = &link->in[index];
	struct ibv_sge sge = {
		.addr = (uintptr_t)in->bytes,
		.length = VERBS_IN_BYTES,
		.lkey = link->verbs->frames_mr->lkey,
	};
	struct ibv_recv_wr wr = {
		.wr_id = verbs_wr_id(link, VERBS_WORK_RECEIVE, index, 0),
		.sg_list = &sge,
		.num_sge = 1,
	};
	struct ibv_recv_wr *bad;
	int r;

	ferry_assert(index < VERBS_IN_MAX);
	in->state = VERBS_IN_POSTED;
	r = ibv_post_recv(link->id->qp, &wr, &bad);
	link->counters.posts++;
	return r > 0 ? -r : r;
}

static void receive_again(struct verbs_link *link, uint32_t index)
{
	int r = verbs_receive_post(link, index);

	if (r < 0)
		verbs_link_cut(link, "RDMA: posting: %s", strerror(-r));
}

/* What a frame says to the link itself, at once: what is in it may have to wait. */
static bool head_heed(struct verbs_link *link, const struct ferry_rdma_frame *frame)
{
	link->received_ns = ferry_loop_now_ns(link->verbs->config.loop);
	link->credits += frame->credits;
	if (link->state == VERBS_LINK_UP && link->credits > link->credits_all) {
		verbs_link_cut(link, "frame from a peer: more credits than there are");
		return false;
	}
	if (!verbs_offers_taken(link, frame->taken)) {
		verbs_link_cut(link, "frame from a peer: it took what was not offered");
		return false;
	}
	return true;
}

void verbs_received(struct verbs_link *link, uint32_t index, uint32_t length_bytes)
{
	struct verbs_in *in = &link->in[index];
	struct ferry_error error = {};

	ferry_assert(index < VERBS_IN_MAX && in->state == VERBS_IN_POSTED);
	if (ferry_rdma_frame_decode(in->bytes, length_bytes, &in->frame, &in->data, &error) < 0) {
		verbs_link_cut(link, "%s", error.message);
		return;
	}
	if (!head_heed(link, &in->frame))
		return;
	if (in->frame.kind == FERRY_RDMA_CREDIT) {
		receive_again(link, index);
		return;
	}
	if (link->order_count == FERRY_VERBS_CREDITS) {
		verbs_link_cut(link, "frame from a peer: it had no credit for it");
		return;
	}
	in->state = VERBS_IN_ARRIVED;
	in->is_greeted = false;
	in->waits_count = 0;
	in->segments = (struct ferry_segments){};
	link->order[(link->order_first + link->order_count++) % VERBS_IN_MAX] = (uint16_t)index;
}

void verbs_in_waited(struct verbs_link *link, uint32_t index)
{
	struct verbs_in *in = &link->in[index];

	ferry_assert(in->waits_count > 0);
	ferry_assert(in->state == VERBS_IN_ARRIVED || in->state == VERBS_IN_MOVING);
	if (--in->waits_count == 0 && in->state == VERBS_IN_MOVING)
		in->state = VERBS_IN_READY;
}

void verbs_moved(struct verbs_link *link, uint32_t index)
{
	struct verbs_in *in = &link->in[index];

	ferry_assert(index < VERBS_IN_MAX && in->state == VERBS_IN_MOVING);
	link->taken++; /* The next frame says so. */
	verbs_in_waited(link, index);
}

/* ---- Beginning: room for the data, and what moves it. ---- */

/* Room that a request has, and windows that its answer closes. Whether to go on. */
static bool in_greet(struct verbs_link *link, struct verbs_in *in, uint32_t index)
{
	const struct ferry_wire_header *header = &in->frame.header;
	bool is_answer = header->type == FERRY_WIRE_REPLY || header->type == FERRY_WIRE_WARM_REPLY;
	struct verbs_out *out = NULL;

	if (!ferry_wire_is_between(header, &link->verbs->config.self, &link->peer)) {
		verbs_link_cut(link, "message from a peer: node or incarnation is not its own");
		return false;
	}
	if (in->frame.kind == FERRY_RDMA_ROOM) {
		struct verbs_room *room = &link->rooms_in[header->sequence % FERRY_WIRE_WINDOW_MAX];

		room->sequence = header->sequence;
		room->pieces_count = in->frame.pieces_count;
		memcpy(room->pieces, in->frame.pieces, sizeof(room->pieces));
	}
	if (is_answer)
		out = verbs_room_out(link, header);
	if (in->frame.kind == FERRY_RDMA_PLACED &&
	    (!out || out->message->room.length_bytes < header->payload_bytes)) {
		verbs_link_cut(link, "message from a peer: placed where there was no room");
		return false;
	}
	if (out) {
		out->answer_at = (int32_t)index;
		in->waits_count++;
		verbs_out_close(link, out);
	}
	in->is_greeted = true;
	return true;
}

/* Have room for the data. Whether to go on. */
static bool in_take_room(struct verbs_link *link, struct verbs_in *in)
{
	const struct ferry_wire_header *header = &in->frame.header;
	struct ferry_segments segments = {};
	int r;

	if (header->payload_bytes == 0)
		return true;
	r = link->link.on_payload(&link->link, header, &segments);
	if (r == -ENOBUFS && link->state == VERBS_LINK_UP) {
		link->is_paused = true;
		return false;
	}
	if (r < 0) {
		verbs_link_cut(link, "message from a peer: refused: %s", strerror(-r));
		return false;
	}
	ferry_assert(segments.length_bytes == header->payload_bytes);
	ferry_assert(verbs_is_registered(link->verbs, &segments));
	in->segments = segments; /* Also if it was cut meanwhile: to be dropped. */
	return link->state == VERBS_LINK_UP;
}

static void in_read(struct verbs_link *link, struct verbs_in *in, uint32_t index)
{
	struct ibv_send_wr wrs[VERBS_MOVES_MAX];
	struct ibv_sge sges[VERBS_MOVES_MAX];
	uint32_t count = verbs_move(link, IBV_WR_RDMA_READ, &in->segments, in->frame.pieces,
				    in->frame.pieces_count, wrs, sges);

	ferry_assert(count > 0); /* As long as the message: the decoder has seen to it. */
	wrs[count - 1].send_flags = IBV_SEND_SIGNALED;
	wrs[count - 1].wr_id = verbs_wr_id(link, VERBS_WORK_MOVE, index, count);
	if (verbs_post(link, wrs, count) < 0)
		return;
	link->counters.rdma_reads += count;
	link->counters.bytes_moved += in->segments.length_bytes;
}

/* Whether it is begun: else it waits, or the link is cut. */
static bool in_begin(struct verbs_link *link, uint32_t index)
{
	struct verbs_in *in = &link->in[index];
	bool is_offer = in->frame.kind == FERRY_RDMA_OFFER;

	ferry_assert(in->state == VERBS_IN_ARRIVED);
	if (!in->is_greeted && !in_greet(link, in, index))
		return false;
	if (is_offer && !verbs_has_room(link, VERBS_MOVES_MAX))
		return false;
	if (!in_take_room(link, in))
		return false;
	in->waits_count += is_offer;
	in->state = in->waits_count > 0 ? VERBS_IN_MOVING : VERBS_IN_READY;
	if (is_offer)
		in_read(link, in, index);
	if (in->data) {
		ferry_segments_write(&in->segments, 0, in->data, in->frame.header.payload_bytes);
		link->counters.bytes_copied += in->frame.header.payload_bytes;
	}
	return link->state == VERBS_LINK_UP;
}

/* ---- Delivering, in the order of arrival. ---- */

static void link_pong(struct verbs_link *link, const struct ferry_wire_header *ping)
{
	if (ferry_list_is_linked(&link->pong.link))
		return; /* The one on its way says as much. */
	link->pong.header = *ping;
	link->pong.header.type = FERRY_WIRE_PONG;
	verbs_enqueue(link, &link->pong);
}

static void in_deliver(struct verbs_link *link, uint32_t index)
{
	struct verbs_in *in = &link->in[index];
	struct ferry_wire_header header = in->frame.header;
	struct ferry_segments segments = in->segments;

	ferry_assert(in->state == VERBS_IN_READY);
	if (segments.length_bytes > 0 &&
	    ferry_crc32c_segments(0, &segments) != header.payload_crc) {
		verbs_link_cut(link, "message from a peer: the payload's checksum is wrong");
		return;
	}
	in->segments = (struct ferry_segments){};
	link->order_first = (link->order_first + 1) % VERBS_IN_MAX;
	link->order_count--;
	link->order_begun--;
	receive_again(link, index);
	link->credits_owed++;
	link->counters.messages_received++;
	link->counters.pings_received +=
		header.type == FERRY_WIRE_PING || header.type == FERRY_WIRE_PONG;
	if (header.type == FERRY_WIRE_PING)
		link_pong(link, &header);
	else if (header.type != FERRY_WIRE_PONG)
		link->link.on_message(&link->link, &header, &segments);
}

void verbs_receive_run(struct verbs_link *link)
{
	ferry_assert(link->is_running);
	while (link->state == VERBS_LINK_UP && !link->is_paused &&
	       link->order_begun < link->order_count) {
		uint32_t at = (link->order_first + link->order_begun) % VERBS_IN_MAX;

		if (!in_begin(link, link->order[at]))
			break;
		link->order_begun++;
	}
	while (link->state == VERBS_LINK_UP && link->order_begun > 0 &&
	       link->in[link->order[link->order_first]].state == VERBS_IN_READY)
		in_deliver(link, link->order[link->order_first]);
}

void verbs_receive_reset(struct verbs_link *link)
{
	ferry_assert(!link->id);
	for (uint32_t i = 0; i < VERBS_IN_MAX; i++) {
		struct verbs_in *in = &link->in[i];
		struct ferry_segments segments = in->segments;

		in->segments = (struct ferry_segments){};
		if (segments.count > 0)
			link->link.on_payload_dropped(&link->link, &in->frame.header, &segments);
	}
	link->order_count = link->order_begun = 0;
}
