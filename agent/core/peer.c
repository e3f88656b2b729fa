#include "agent/core/peer.h"

#include <stdio.h>

#include "agent/base/museum.h"

static struct ferry_peer_request *slot_of(struct ferry_peer *peer, uint64_t sequence)
{
	return &peer->window[sequence % FERRY_WIRE_WINDOW_MAX];
}

static void emit(struct ferry_peer *peer, enum ferry_severity severity, const char *to,
		 const char *text)
{
	struct ferry_event event = {.kind = FERRY_EVENT_PEER,
				    .severity = severity,
				    .node = peer->node,
				    .time_ns = ferry_loop_now_ns(peer->config.loop)};

	(void)snprintf(event.to, sizeof(event.to), "%s", to);
	ferry_event_emit(peer->config.events, event, "%s", text);
}

/* ---- The window. ---- */

static void room_announce(struct ferry_task *task)
{
	struct ferry_peer *peer = FERRY_CONTAINER_OF(task, struct ferry_peer, room_task);

	for (uint32_t i = 0; i < peer->paths_count; i++)
		peer->paths[i].path.on_room(&peer->paths[i].path);
}

static void request_free(struct ferry_peer *peer, struct ferry_peer_request *request)
{
	ferry_assert(request->sequence != 0);
	ferry_assert(!request->is_sending && !request->is_receiving);
	request->sequence = 0;
	while (peer->sequence_floor < peer->sequence_next &&
	       slot_of(peer, peer->sequence_floor)->sequence != peer->sequence_floor)
		peer->sequence_floor++;
	if (peer->was_full) {
		peer->was_full = false;
		ferry_task_post(peer->config.loop, &peer->room_task);
	}
}

static struct ferry_peer_request *request_take(struct ferry_peer *peer)
{
	struct ferry_peer_request *request;

	if (peer->sequence_next - peer->sequence_floor >= FERRY_WIRE_WINDOW_MAX) {
		peer->was_full = true;
		return NULL;
	}
	request = slot_of(peer, peer->sequence_next);
	ferry_assert(request->sequence == 0);
	*request = (struct ferry_peer_request){.peer = peer, .sequence = peer->sequence_next++};
	peer->requests++;
	return request;
}

/* The request whose number a reply bears, or NULL: it is settled already. */
static struct ferry_peer_request *request_find(struct ferry_peer *peer, uint64_t sequence)
{
	struct ferry_peer_request *request = slot_of(peer, sequence);

	if (sequence == 0 || request->sequence != sequence || request->has_ended)
		return NULL;
	return request;
}

/*
 * The attempt has ended and neither the transport nor, where it was offered to it, the peer touches
 * message or segments any more.
 */
static void request_release(struct ferry_peer_request *request)
{
	bool is_offered = request->is_sending && !FERRY_MUSEUM(OFFER_FORGOTTEN);
	struct ferry_attempt *attempt;

	if (!request->has_ended || is_offered || request->is_receiving)
		return;
	attempt = TAKE_PTR(request->attempt);
	ferry_segments_drop(&request->message.segments);
	ferry_segments_drop(&request->message.room);
	if (!request->is_sending) /* The museum's is not done with. */
		request_free(request->peer, request);
	if (attempt)
		attempt->on_released(attempt);
}

static void request_end(struct ferry_peer_request *request, enum ferry_outcome outcome,
			enum ferry_cause cause)
{
	ferry_assert(request->sequence != 0);
	ferry_assert(!request->has_ended);
	request->has_ended = true;
	if (request->attempt)
		request->attempt->on_end(request->attempt, outcome, cause);
	else if (request->warm)
		request->warm->on_done(request->warm, outcome == FERRY_OUTCOME_DONE	? 0
						      : outcome == FERRY_OUTCOME_FAILED ? -ENODATA
											: -EIO);
	else
		request->lay->on_done(request->lay, outcome == FERRY_OUTCOME_DONE ? 0 : -EIO);
	request_release(request);
}

/* ---- Sending. ---- */

static void message_sent(struct ferry_message *message, enum ferry_sent sent)
{
	struct ferry_peer_request *request =
		FERRY_CONTAINER_OF(message, struct ferry_peer_request, message);

	ferry_assert(request->is_sending);
	request->is_sending = false;
	if (sent != FERRY_SENT_NOTHING)
		request->may_have_left = true;
	request_release(request);
}

static void request_send(struct ferry_peer_request *request)
{
	ferry_assert(!request->is_sending && !request->has_ended);
	request->message.header.floor = request->peer->sequence_floor;
	request->message.on_sent = message_sent;
	request->is_sending = true;
	if (ferry_link_send(request->peer->link, &request->message) < 0)
		request->is_sending = false; /* Down: link_up() sends it again. */
}

static int path_submit(struct ferry_path *path, struct ferry_attempt *attempt)
{
	struct ferry_peer_path *via = FERRY_CONTAINER_OF(path, struct ferry_peer_path, path);
	struct ferry_peer *peer = via->peer;
	struct ferry_peer_request *request;

	ferry_assert(path->is_up);
	request = request_take(peer);
	if (!request)
		return -EAGAIN;
	request->attempt = attempt;
	request->via = via;
	attempt->sequence = request->sequence;
	attempt->mark.boot = peer->incarnation; /* Sent again, it is to the same. */
	request->message.header = (struct ferry_wire_header){
		.type = FERRY_WIRE_REQUEST,
		.node = peer->config.self,
		.incarnation = peer->config.incarnation,
		.lineage = via->lineage,
		.epoch = attempt->epoch,
		.sequence = request->sequence,
		.lun = via->lun,
		.op = attempt->op,
		.flags = attempt->flags,
		.lba = attempt->lba,
		.length_blocks = attempt->length_blocks,
	};
	if (attempt->op == FERRY_OP_WRITE) {
		ferry_segments_share(&attempt->segments, &request->message.segments);
		request->message.header.payload_bytes = attempt->segments.length_bytes;
	} else if (attempt->op == FERRY_OP_READ) {
		ferry_segments_share(&attempt->segments, &request->message.room);
	}
	request_send(request);
	return 0;
}

int ferry_peer_lay(struct ferry_peer *peer, struct ferry_peer_lay *lay)
{
	struct ferry_peer_request *request;

	ferry_assert(peer && lay->on_done);
	ferry_assert(lay->victim.v != 0);
	if (!peer->link->is_up)
		return -ENOTCONN;
	request = request_take(peer);
	if (!request)
		return -EAGAIN;
	request->lay = lay;
	request->message.header = (struct ferry_wire_header){
		.type = FERRY_WIRE_LAY,
		.node = peer->config.self,
		.incarnation = peer->config.incarnation,
		.lineage = lay->lineage,
		.epoch = lay->epoch,
		.sequence = request->sequence,
		.lun = lay->lun,
		.victim_key = lay->victim.v,
	};
	request_send(request);
	return 0;
}

int ferry_peer_warm(struct ferry_peer *peer, struct ferry_peer_warm *warm)
{
	struct ferry_peer_request *request;

	ferry_assert(peer && warm->on_done);
	ferry_assert(warm->segments.length_bytes > 0);
	if (!peer->link->is_up)
		return -ENOTCONN;
	request = request_take(peer);
	if (!request)
		return -EAGAIN;
	request->warm = warm;
	warm->received_bytes = 0;
	request->message.header = (struct ferry_wire_header){
		.type = FERRY_WIRE_WARM,
		.node = peer->config.self,
		.incarnation = peer->config.incarnation,
		.lineage = warm->lineage,
		.epoch = warm->epoch,
		.sequence = request->sequence,
		.lun = warm->lun,
		.cursor = warm->cursor,
	};
	ferry_segments_share(&warm->segments, &request->message.room);
	request_send(request);
	return 0;
}

/* ---- Replies. ---- */

static bool reply_fits(const struct ferry_peer_request *request,
		       const struct ferry_wire_header *header)
{
	const struct ferry_attempt *attempt = request->attempt;
	bool is_read_done;

	if (request->warm)
		return header->type == FERRY_WIRE_WARM_REPLY &&
		       header->payload_bytes <= request->warm->segments.length_bytes;
	if (!attempt)
		return header->type == FERRY_WIRE_LAY_REPLY && header->payload_bytes == 0;
	is_read_done = attempt->op == FERRY_OP_READ && header->outcome == FERRY_OUTCOME_DONE;
	return header->type == FERRY_WIRE_REPLY && header->op == attempt->op &&
	       header->lba.v == attempt->lba.v && header->length_blocks == attempt->length_blocks &&
	       header->payload_bytes == (is_read_done ? attempt->segments.length_bytes : 0);
}

/* Another use of the first @length_bytes of @room, and no more. */
static void share_front(const struct ferry_segments *room, uint32_t length_bytes,
			struct ferry_segments *ret)
{
	struct ferry_segments front = {.length_bytes = length_bytes};

	ferry_assert(length_bytes > 0 && length_bytes <= room->length_bytes);
	while (length_bytes > 0) {
		struct ferry_segment *segment = &front.v[front.count];

		*segment = room->v[front.count++];
		segment->length_bytes =
			(uint32_t)ferry_min_u64(segment->length_bytes, length_bytes);
		length_bytes -= segment->length_bytes;
	}
	ferry_segments_share(&front, ret);
}

/*
 * What was given up is still asked for: a request that is answered with data ends by its answer or
 * with its link, so that there is room for it however late it comes. Data that nobody asked for, or
 * that comes twice, is a breach.
 */
static int link_payload(struct ferry_link *link, const struct ferry_wire_header *header,
			struct ferry_segments *ret)
{
	struct ferry_peer *peer = link->context;
	struct ferry_peer_request *request = request_find(peer, header->sequence);

	if (!request || !reply_fits(request, header) || request->is_receiving)
		return -EPROTO;
	request->is_receiving = true;
	if (request->warm)
		share_front(&request->warm->segments, header->payload_bytes, ret);
	else
		ferry_segments_share(&request->attempt->segments, ret);
	return 0;
}

static void link_payload_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
				 struct ferry_segments *segments)
{
	struct ferry_peer *peer = link->context;
	struct ferry_peer_request *request = slot_of(peer, header->sequence);

	ferry_assert(request->sequence == header->sequence && request->is_receiving);
	ferry_segments_drop(segments);
	request->is_receiving = false;
	request_release(request);
}

static void link_message(struct ferry_link *link, const struct ferry_wire_header *header,
			 struct ferry_segments *segments)
{
	struct ferry_peer *peer = link->context;
	struct ferry_peer_request *request = request_find(peer, header->sequence);

	if (segments->count > 0) {
		struct ferry_peer_request *receiving = slot_of(peer, header->sequence);

		ferry_assert(receiving->sequence == header->sequence && receiving->is_receiving);
		ferry_segments_drop(segments);
		receiving->is_receiving = false;
		if (!request)
			request_release(receiving); /* Given up while its data came in. */
	}
	if (!request)
		return; /* A second reply to what is settled. */
	if (!reply_fits(request, header) || header->outcome == 0) {
		emit(peer, FERRY_SEVERITY_ERROR, "reset", "a reply does not fit its request");
		link->ops->reset(link, "a reply does not fit its request");
		return;
	}
	request->may_have_left = true;
	if (request->attempt)
		request->attempt->mark =
			(struct ferry_mark){.boot = peer->incarnation, .losses = header->losses};
	if (request->warm)
		request->warm->received_bytes = header->payload_bytes;
	request_end(request, (enum ferry_outcome)header->outcome, (enum ferry_cause)header->cause);
}

/* ---- The link's ups and downs. ---- */

static void paths_set_up(struct ferry_peer *peer, bool is_up)
{
	for (uint32_t i = 0; i < peer->paths_count; i++) {
		struct ferry_path *path = &peer->paths[i].path;

		path->is_up = is_up;
		path->on_state(path, is_up, is_up ? FERRY_CAUSE_NONE : FERRY_CAUSE_PATH);
	}
}

/* Its outcome is known by the peer's answer, or never: it may be asked for at any time. */
static bool is_asked_on(const struct ferry_peer_request *request)
{
	return request->attempt && request->via->asks_on && !FERRY_MUSEUM(ASKED_NO_MORE) &&
	       ferry_op_changes_blocks(request->attempt->op);
}

/* It may be proven dead already, and its blocks written anew. */
static bool is_given_up(const struct ferry_peer_request *request)
{
	return request->attempt && request->attempt->is_given_up && !is_asked_on(request) &&
	       !FERRY_MUSEUM(GIVEN_UP_RESENT);
}

static void sent_end(struct ferry_peer *peer, bool is_another)
{
	for (uint64_t i = peer->sequence_floor; i < peer->sequence_next; i++) {
		struct ferry_peer_request *request = request_find(peer, i);
		bool may_have_left;

		if (!request)
			continue;
		may_have_left = request->may_have_left || request->is_sending;
		if (may_have_left && (is_another || !is_asked_on(request)))
			request_end(request, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
		else if (!may_have_left)
			request_end(request, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
	}
}

static void link_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct ferry_peer *peer = link->context;

	if (peer->incarnation.v != 0 && peer->incarnation.v != incarnation.v)
		sent_end(peer, /* is_another= */ true); /* It knows nothing of these. */
	peer->incarnation = incarnation;
	for (uint64_t i = peer->sequence_floor; i < peer->sequence_next; i++) {
		struct ferry_peer_request *request = request_find(peer, i);

		if (!request || request->is_sending || request->is_abandoned)
			continue;
		if (is_given_up(request)) {
			request_end(request,
				    request->may_have_left ? FERRY_OUTCOME_UNKNOWN
							   : FERRY_OUTCOME_FAILED,
				    request->may_have_left ? FERRY_CAUSE_PATH : FERRY_CAUSE_UNSENT);
			continue;
		}
		peer->resent += request->may_have_left;
		request_send(request);
	}
	emit(peer, FERRY_SEVERITY_NOTICE, "up", link->ops->name);
	paths_set_up(peer, true);
}

static void link_down(struct ferry_link *link, const char *why)
{
	struct ferry_peer *peer = link->context;

	for (uint64_t i = peer->sequence_floor; i < peer->sequence_next; i++) {
		struct ferry_peer_request *request = request_find(peer, i);

		if (!request)
			continue;
		/* Writes that may have left stay: their number asks again on the next link. */
		if (!request->may_have_left || FERRY_MUSEUM(BREAK_IS_UNSENT))
			request_end(request, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT);
		else if (!request->attempt || !ferry_op_changes_blocks(request->attempt->op) ||
			 is_given_up(request))
			request_end(request, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	}
	emit(peer, FERRY_SEVERITY_WARNING, "down", why);
	paths_set_up(peer, false);
}

void ferry_peer_lost(struct ferry_peer *peer)
{
	ferry_assert(peer);
	FERRY_ASSERT_ON_LOOP(peer->config.loop);
	sent_end(peer, /* is_another= */ false);
}

/* ---- Opening. ---- */

/* From a fresh stack: what was abandoned ends. */
static void abandoned_end(struct ferry_task *task)
{
	struct ferry_peer *peer = FERRY_CONTAINER_OF(task, struct ferry_peer, abandon_task);

	for (uint64_t i = peer->sequence_floor; i < peer->sequence_next; i++) {
		struct ferry_peer_request *request = request_find(peer, i);

		if (request && request->is_abandoned)
			request_end(request, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	}
}

static void path_abandon(struct ferry_path *path, struct ferry_attempt *attempt)
{
	struct ferry_peer *peer = FERRY_CONTAINER_OF(path, struct ferry_peer_path, path)->peer;
	struct ferry_peer_request *request = request_find(peer, attempt->sequence);

	ferry_assert(ferry_op_changes_blocks(attempt->op)); /* link_payload() relies on it. */
	if (!request || request->attempt != attempt)
		return; /* It is ending by itself. */
	request->is_abandoned = true;
	ferry_task_post(peer->config.loop, &peer->abandon_task);
}

static const struct ferry_path_ops peer_path_ops = {
	.name = "peer",
	.submit = path_submit,
	.abandon = path_abandon,
};

int ferry_peer_init(struct ferry_peer *peer, struct ferry_region *region, struct ferry_link *link,
		    const struct ferry_peer_config *config)
{
	ferry_assert(peer && link && config->loop);
	ferry_assert(config->incarnation.v > 0);
	*peer = (struct ferry_peer){
		.config = *config,
		.link = link,
		.node = link->node,
		.sequence_next = 1,
		.sequence_floor = 1,
		.room_task = {.run = room_announce},
		.abandon_task = {.run = abandoned_end},
	};
	peer->window = ferry_region_take(region, FERRY_WIRE_WINDOW_MAX, sizeof(*peer->window));
	if (!peer->window)
		return -ENOMEM;
	link->on_up = link_up;
	link->on_down = link_down;
	link->on_payload = link_payload;
	link->on_payload_dropped = link_payload_dropped;
	link->on_message = link_message;
	link->context = peer;
	return 0;
}

int ferry_peer_add_lun(struct ferry_peer *peer, const struct ferry_uuid *lun,
		       const struct ferry_uuid *lineage, struct ferry_peer_path **ret)
{
	struct ferry_peer_path *via;

	ferry_assert(peer && lun && lineage);
	if (peer->paths_count == FERRY_PEER_LUNS_MAX)
		return -ENOSPC;
	via = &peer->paths[peer->paths_count++];
	*via = (struct ferry_peer_path){
		.path = {.ops = &peer_path_ops,
			 .kind = FERRY_PATH_PEER,
			 .node = peer->node,
			 .is_up = peer->link->is_up},
		.peer = peer,
		.lun = *lun,
		.lineage = *lineage,
	};
	*ret = via;
	return 0;
}
