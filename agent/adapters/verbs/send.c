#include "agent/adapters/verbs/room.h"

/* ---- The send queue. ---- */

bool verbs_has_room(const struct verbs_link *link, uint32_t count)
{
	ferry_assert(link->sq_used <= VERBS_SQ_MAX && count <= VERBS_SQ_MAX);
	return VERBS_SQ_MAX - link->sq_used >= count;
}

int verbs_post(struct verbs_link *link, struct ibv_send_wr *wrs, uint32_t count)
{
	struct ibv_send_wr *bad;
	int r;

	ferry_assert(verbs_has_room(link, count) && count > 0);
	r = ibv_post_send(link->id->qp, wrs, &bad);
	link->counters.posts++;
	if (r != 0) {
		verbs_link_cut(link, "RDMA: posting: %s", strerror(r > 0 ? r : -r));
		return -EIO;
	}
	link->sq_used += count;
	return 0;
}

/* ---- Frames. ---- */

static uint32_t out_index(const struct verbs_link *link, const struct verbs_out *out)
{
	ferry_assert(out >= link->out && out < link->out + FERRY_VERBS_OUT_MAX);
	return (uint32_t)(out - link->out);
}

static struct verbs_out *out_take(struct verbs_link *link)
{
	struct ferry_list *entry = ferry_list_pop(&link->out_free);
	struct verbs_out *out;

	ferry_assert(entry);
	out = ferry_list_entry(entry, struct verbs_out, link);
	ferry_assert(!out->is_busy);
	link->out_free_count--;
	out->is_busy = out->is_posted = true;
	out->message = NULL;
	out->windows_count = 0;
	out->answer_at = -1;
	return out;
}

/* Nothing of it is in the device's or the peer's hands. */
static void out_finish(struct verbs_link *link, struct verbs_out *out, enum ferry_sent sent)
{
	struct ferry_message *message = out->message;

	ferry_assert(out->is_busy && out->windows_count == 0);
	out->is_busy = false;
	ferry_list_remove(&out->link);
	ferry_list_append(&link->out_free, &out->link);
	link->out_free_count++;
	if (message) {
		link->queue_count--;
		message->on_sent(message, sent);
	}
}

void verbs_sent(struct verbs_link *link, struct verbs_out *out)
{
	ferry_assert(out->is_busy && out->is_posted);
	out->is_posted = false;
	if (out->message) {
		link->counters.messages_sent++;
		link->counters.pings_sent +=
			out->message == &link->ping || out->message == &link->pong;
	}
	/* What is open stays so until the peer has done its part. */
	if (out->windows_count == 0)
		out_finish(link, out, FERRY_SENT_WHOLE);
}

void verbs_out_close(struct verbs_link *link, struct verbs_out *out)
{
	ferry_assert(out->is_busy && out->windows_count > 0);
	ferry_list_remove(&out->link);
	ferry_list_append(&link->closing, &out->link);
}

void verbs_closed(struct verbs_link *link, struct verbs_out *out)
{
	ferry_assert(out->is_busy && !out->is_posted); /* What was posted first completes first. */
	for (uint32_t i = 0; i < out->windows_count; i++) {
		struct verbs_window *window = &link->windows[out->windows[i]];

		window->is_bound = false;
		link->windows_free[link->windows_free_count++] = out->windows[i];
	}
	out->windows_count = 0;
	if (out->answer_at >= 0)
		verbs_in_waited(link, (uint32_t)out->answer_at);
	out_finish(link, out, FERRY_SENT_WHOLE);
}

static void flush_closing(struct verbs_link *link)
{
	while (!ferry_list_is_empty(&link->closing)) {
		struct verbs_out *out =
			ferry_list_entry(link->closing.next, struct verbs_out, link);
		struct ibv_send_wr wrs[FERRY_SEGMENTS_MAX];
		uint32_t count = out->windows_count;

		if (!verbs_has_room(link, count))
			return;
		ferry_list_remove(&out->link);
		verbs_windows_close(link, out, wrs);
		wrs[count - 1].send_flags = IBV_SEND_SIGNALED;
		wrs[count - 1].wr_id =
			verbs_wr_id(link, VERBS_WORK_CLOSE, out_index(link, out), count);
		if (verbs_post(link, wrs, count) < 0)
			return;
	}
}

bool verbs_offers_taken(struct verbs_link *link, uint64_t taken)
{
	while (link->offers_taken < taken) {
		struct ferry_list *entry = ferry_list_pop(&link->offers);

		if (!entry)
			return false;
		link->offers_taken++;
		verbs_out_close(link, ferry_list_entry(entry, struct verbs_out, link));
	}
	return link->offers_taken == taken;
}

struct verbs_out *verbs_room_out(struct verbs_link *link, const struct ferry_wire_header *answer)
{
	uint16_t *place = &link->rooms_out[answer->sequence % FERRY_WIRE_WINDOW_MAX];
	struct verbs_out *out;

	if (*place == 0)
		return NULL;
	out = &link->out[*place - 1];
	if (out->message->header.sequence != answer->sequence)
		return NULL;
	*place = 0;
	return out;
}

/* ---- Messages. ---- */

void verbs_enqueue(struct verbs_link *link, struct ferry_message *message)
{
	ferry_assert(link->queue_count < FERRY_VERBS_QUEUE_MAX);
	message->sent_bytes = 0;
	ferry_list_append(&link->queue, &message->link);
	link->queue_count++;
	if (!link->is_running)
		ferry_task_post(link->verbs->config.loop, &link->task);
}

static struct verbs_room *room_for(struct verbs_link *link, const struct ferry_wire_header *answer)
{
	struct verbs_room *room = &link->rooms_in[answer->sequence % FERRY_WIRE_WINDOW_MAX];
	bool is_answer = answer->type == FERRY_WIRE_REPLY || answer->type == FERRY_WIRE_WARM_REPLY;

	return is_answer && room->sequence == answer->sequence ? room : NULL;
}

/* How its data, or its answer's, is to move. */
static enum ferry_rdma_kind message_kind(struct verbs_link *link,
					 const struct ferry_message *message)
{
	const struct ferry_wire_header *header = &message->header;

	if (header->payload_bytes > 0) {
		if (header->payload_bytes <= FERRY_RDMA_INLINE_BYTES_MAX &&
		    message->segments.count < link->verbs->sge_max)
			return FERRY_RDMA_MESSAGE;
		if (header->payload_bytes > FERRY_RDMA_INLINE_BYTES_MAX && room_for(link, header))
			return FERRY_RDMA_PLACED;
		return FERRY_RDMA_OFFER;
	}
	if ((header->type == FERRY_WIRE_REQUEST || header->type == FERRY_WIRE_WARM) &&
	    message->room.length_bytes > FERRY_RDMA_INLINE_BYTES_MAX &&
	    link->rooms_out[header->sequence % FERRY_WIRE_WINDOW_MAX] == 0)
		return FERRY_RDMA_ROOM;
	return FERRY_RDMA_MESSAGE;
}

/* Whether everything is there that sending it takes. */
static bool message_fits(const struct verbs_link *link, const struct ferry_message *message,
			 enum ferry_rdma_kind kind)
{
	uint32_t windows = 0, requests = 1;

	if (kind == FERRY_RDMA_OFFER)
		windows = message->segments.count;
	else if (kind == FERRY_RDMA_ROOM)
		windows = message->room.count;
	else if (kind == FERRY_RDMA_PLACED)
		requests += VERBS_MOVES_MAX;
	if (link->credits == 0 || link->out_free_count == 0 ||
	    (windows > 0 && link->out_free_count <= VERBS_OUT_SPARE))
		return false;
	return link->windows_free_count >= windows && verbs_has_room(link, requests + windows);
}

/* The SEND itself, behind whatever the chain has to do before it. */
static void send_prepare(struct verbs_link *link, struct verbs_out *out,
			 const struct ferry_rdma_frame *frame, uint32_t before,
			 struct ibv_send_wr *wr, struct ibv_sge *sges)
{
	const struct ferry_segments *data =
		out->kind == FERRY_RDMA_MESSAGE && out->message ? &out->message->segments : NULL;
	int count = 1;

	sges[0] = (struct ibv_sge){
		.addr = (uintptr_t)out->lead,
		.length = ferry_rdma_frame_encode(frame, out->lead),
		.lkey = link->verbs->frames_mr->lkey,
	};
	for (uint32_t i = 0; data && i < data->count; i++)
		sges[count++] = (struct ibv_sge){
			.addr = (uintptr_t)(data->v[i].chunk->data + data->v[i].offset_bytes),
			.length = data->v[i].length_bytes,
			.lkey = verbs_mr_of(link->verbs, &data->v[i])->lkey,
		};
	ferry_assert((uint32_t)count <= link->verbs->sge_max);
	*wr = (struct ibv_send_wr){
		.wr_id = verbs_wr_id(link, VERBS_WORK_SEND, out_index(link, out), before + 1),
		.sg_list = sges,
		.num_sge = count,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
	};
}

/* What has to be done before the SEND: how many requests; 0 may also mean a peer's mistake. */
static uint32_t message_prepare(struct verbs_link *link, struct verbs_out *out,
				struct ferry_rdma_frame *frame, struct ibv_send_wr *wrs,
				struct ibv_sge *sges)
{
	struct ferry_message *message = out->message;
	struct verbs_room *room;
	uint32_t count = 0;

	switch (out->kind) {
	case FERRY_RDMA_OFFER:
		count = verbs_windows_open(link, out, &message->segments, wrs, frame->pieces);
		frame->pieces_count = count;
		ferry_list_append(&link->offers, &out->link);
		break;
	case FERRY_RDMA_ROOM:
		count = verbs_windows_open(link, out, &message->room, wrs, frame->pieces);
		frame->pieces_count = count;
		link->rooms_out[message->header.sequence % FERRY_WIRE_WINDOW_MAX] =
			(uint16_t)(out_index(link, out) + 1);
		break;
	case FERRY_RDMA_PLACED:
		room = room_for(link, &message->header);
		ferry_assert(room);
		room->sequence = 0;
		count = verbs_move(link, IBV_WR_RDMA_WRITE, &message->segments, room->pieces,
				   room->pieces_count, wrs, sges);
		if (count == 0) {
			verbs_link_cut(link, "message from a peer: room for less than it asked");
			break;
		}
		link->counters.rdma_writes += count;
		link->counters.bytes_moved += message->segments.length_bytes;
		break;
	case FERRY_RDMA_CREDIT:
	case FERRY_RDMA_MESSAGE:
		break;
	}
	return count;
}

static void frame_send(struct verbs_link *link, enum ferry_rdma_kind kind,
		       struct ferry_message *message)
{
	struct ibv_send_wr wrs[VERBS_MOVES_MAX + 1];
	struct ibv_sge sges[VERBS_MOVES_MAX + VERBS_SGE_MAX];
	struct verbs_out *out = out_take(link);
	struct ferry_rdma_frame frame = {
		.kind = kind, .credits = link->credits_owed, .taken = link->taken};
	uint32_t count = 0;

	out->kind = kind;
	out->message = message;
	if (message) {
		frame.header = message->header;
		count = message_prepare(link, out, &frame, wrs, sges);
		link->credits--;
	}
	if (link->state != VERBS_LINK_UP)
		return; /* It is in the frame's hands, and told of when the link settles. */
	send_prepare(link, out, &frame, count, &wrs[count], &sges[VERBS_MOVES_MAX]);
	if (count > 0)
		wrs[count - 1].next = &wrs[count];
	if (verbs_post(link, wrs, count + 1) < 0)
		return;
	verbs_windows_opened(link, out);
	link->credits_owed = 0;
	link->sent_ns = ferry_loop_now_ns(link->verbs->config.loop);
}

void verbs_flush(struct verbs_link *link)
{
	ferry_assert(link->is_running);
	if (link->state == VERBS_LINK_UP)
		flush_closing(link);
	while (link->state == VERBS_LINK_UP && !ferry_list_is_empty(&link->queue)) {
		struct ferry_message *message =
			ferry_list_entry(link->queue.next, struct ferry_message, link);
		enum ferry_rdma_kind kind = message_kind(link, message);

		if (!message_fits(link, message, kind)) {
			link->counters.waits++;
			break;
		}
		ferry_list_remove(&message->link);
		frame_send(link, kind, message);
	}
	if (link->state == VERBS_LINK_UP && link->credits_owed >= VERBS_CREDITS_OWED_MAX &&
	    link->out_free_count > 0 && verbs_has_room(link, 1)) {
		link->counters.credit_frames_sent++;
		frame_send(link, FERRY_RDMA_CREDIT, /* message= */ NULL);
	}
}

void verbs_send_reset(struct verbs_link *link)
{
	struct ferry_list *entry;

	ferry_assert(!link->id);
	for (uint32_t i = 0; i < FERRY_VERBS_OUT_MAX; i++) {
		struct verbs_out *out = &link->out[i];

		if (!out->is_busy)
			continue;
		out->windows_count = 0;
		out_finish(link, out, FERRY_SENT_UNSURE);
	}
	while ((entry = ferry_list_pop(&link->queue))) {
		struct ferry_message *message = ferry_list_entry(entry, struct ferry_message, link);

		link->queue_count--;
		message->on_sent(message, FERRY_SENT_NOTHING);
	}
	ferry_assert(link->queue_count == 0);
}
