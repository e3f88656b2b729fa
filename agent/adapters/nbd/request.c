#include "agent/adapters/nbd/request.h"

#include <sys/socket.h>

enum { RETRY_NS = 1000 * 1000 };

static void slot_held(struct ferry_nbd_slot *slot, uint32_t held_bytes)
{
	struct ferry_nbd_connection *connection = slot->connection;

	ferry_assert(connection->held_bytes >= slot->held_bytes);
	connection->held_bytes -= slot->held_bytes;
	connection->held_bytes += held_bytes;
	slot->held_bytes = held_bytes;
}

void ferry_nbd_slot_release(struct ferry_nbd_slot *slot)
{
	ferry_assert(slot && slot->connection);
	ferry_assert(!ferry_list_is_linked(&slot->link));
	ferry_segments_drop(&slot->io.segments);
	slot_held(slot, 0);
	ferry_list_prepend(&slot->connection->free, &slot->link);
}

int ferry_nbd_slot_take(struct ferry_nbd_slot *slot)
{
	int r;

	ferry_assert(slot->request.command == FERRY_NBD_CMD_WRITE);
	ferry_assert(slot->io.segments.count == 0);
	r = ferry_arena_take(slot->connection->block->arena, slot->request.length_bytes,
			     &slot->io.segments);
	if (r < 0)
		return r;
	slot_held(slot, slot->request.length_bytes);
	return 0;
}

static void slot_reply(struct ferry_nbd_slot *slot, uint32_t error)
{
	struct ferry_nbd_connection *connection = slot->connection;

	ferry_assert(connection->phase == FERRY_NBD_PHASE_TRANSMISSION ||
		     connection->phase == FERRY_NBD_PHASE_CLOSING);
	ferry_assert(!ferry_list_is_linked(&slot->link));
	slot->header_bytes = ferry_nbd_reply_encode(
		&slot->request, connection->negotiation.has_structured, error, slot->header);
	ferry_list_append(&connection->replies, &slot->link);
	/* Not now: what else completes in this turn of the loop goes in the same packet. */
	ferry_task_post(connection->server->loop, &connection->work);
}

void ferry_nbd_slot_refuse(struct ferry_nbd_slot *slot, uint32_t error)
{
	ferry_assert(error != 0);
	ferry_assert(slot->io.segments.count == 0);
	slot->connection->server->counters.requests_refused++;
	slot_reply(slot, error);
}

static void slot_count_done(const struct ferry_nbd_slot *slot)
{
	struct ferry_nbd_counters *counters = &slot->connection->server->counters;

	if (slot->request.command == FERRY_NBD_CMD_READ)
		counters->read_bytes += slot->request.length_bytes;
	if (slot->request.command == FERRY_NBD_CMD_WRITE)
		counters->write_bytes += slot->request.length_bytes;
}

/* Over: @error is 0 or a negative errno of the block port. */
static void slot_finish(struct ferry_nbd_slot *slot, int error)
{
	struct ferry_nbd_connection *connection = slot->connection;

	ferry_assert(error <= 0);
	if (error < 0 || slot->request.command != FERRY_NBD_CMD_READ) {
		ferry_segments_drop(&slot->io.segments);
		slot_held(slot, 0);
	}
	if (error < 0)
		connection->server->counters.requests_failed++;
	else
		slot_count_done(slot);
	if (connection->phase == FERRY_NBD_PHASE_DEAD) {
		ferry_nbd_slot_release(slot);
		ferry_nbd_connection_reap(connection);
		return;
	}
	slot_reply(slot, ferry_nbd_error_from_errno(error));
}

static void slot_submit(struct ferry_nbd_slot *slot)
{
	struct ferry_nbd_connection *connection = slot->connection;
	struct ferry_nbd_server *server = connection->server;
	int r;

	ferry_assert(!ferry_list_is_linked(&slot->link));
	ferry_assert(connection->phase != FERRY_NBD_PHASE_DEAD);
	r = ferry_block_submit(connection->block, &slot->io);
	if (r == -EAGAIN) {
		ferry_list_append(&connection->parked, &slot->link);
		if (!ferry_list_is_linked(&connection->parked_link))
			ferry_list_append(&server->parked, &connection->parked_link);
		/* Others may fill the volume, and nothing of ours would come back to wake us. */
		if (!ferry_timer_is_started(&server->retry))
			ferry_timer_start_in(server->loop, &server->retry, RETRY_NS);
		return;
	}
	if (r < 0) {
		slot_finish(slot, r);
		return;
	}
	connection->in_flight_count++;
	server->counters.requests_in_flight++;
	ferry_assert(connection->in_flight_count <= FERRY_NBD_REQUESTS_MAX);
}

/* TRIM and WRITE_ZEROES: aim @io at the next part of the range. */
static void slot_next_part(struct ferry_nbd_slot *slot)
{
	const uint32_t part_blocks_max =
		FERRY_IO_RANGE_BYTES_MAX / slot->connection->shape->block_bytes;

	ferry_assert(slot->range_left_blocks > 0);
	ferry_assert(slot->io.op == FERRY_OP_DISCARD || slot->io.op == FERRY_OP_WRITE_ZEROES);
	slot->io.lba.v += slot->io.length_blocks;
	slot->io.length_blocks = (uint32_t)ferry_min_u64(slot->range_left_blocks, part_blocks_max);
	slot->range_left_blocks -= slot->io.length_blocks;
}

static void slot_flush(struct ferry_nbd_slot *slot)
{
	slot->has_flush_left = false;
	slot->io.op = FERRY_OP_FLUSH;
	slot->io.flags = 0;
	slot->io.lba.v = 0;
	slot->io.length_blocks = 0;
}

static void slot_on_done(struct ferry_io *io, int error)
{
	struct ferry_nbd_slot *slot = io->context;
	struct ferry_nbd_connection *connection = slot->connection;
	struct ferry_nbd_server *server = connection->server;

	ferry_assert(connection->in_flight_count > 0);
	ferry_assert(error < 0 || slot->request.command != FERRY_NBD_CMD_READ ||
		     io->segments.length_bytes == slot->request.length_bytes);
	connection->in_flight_count--;
	server->counters.requests_in_flight--;
	if (!ferry_list_is_empty(&server->parked))
		ferry_task_post(server->loop, &server->kick);
	if (error == 0 && connection->phase != FERRY_NBD_PHASE_DEAD) {
		if (slot->range_left_blocks > 0) {
			slot_next_part(slot);
			slot_submit(slot);
			return;
		}
		if (slot->has_flush_left) {
			slot_flush(slot);
			slot_submit(slot);
			return;
		}
	}
	/* What is given up since the agent stops: a device asks the next one for it. */
	if (error == -ESHUTDOWN && connection->phase == FERRY_NBD_PHASE_CLOSING) {
		ferry_nbd_slot_release(slot);
		ferry_nbd_connection_kill(connection);
		return;
	}
	slot_finish(slot, error);
}

static void io_prepare(struct ferry_nbd_slot *slot, enum ferry_op op, uint64_t *counter)
{
	const uint32_t block_bytes = slot->connection->shape->block_bytes;
	const struct ferry_nbd_request *request = &slot->request;

	(*counter)++;
	slot->io.op = op;
	slot->io.flags = 0;
	slot->io.lba.v = request->offset_bytes / block_bytes;
	slot->io.length_blocks = request->length_bytes / block_bytes;
	if ((request->flags & FERRY_NBD_CMD_FUA) &&
	    (op == FERRY_OP_WRITE || op == FERRY_OP_WRITE_ZEROES))
		slot->io.flags |= FERRY_IO_FUA;
	slot->io.on_done = slot_on_done;
	slot->io.context = slot;
	slot->range_left_blocks = 0;
	slot->has_flush_left = false;
	if (op == FERRY_OP_DISCARD || op == FERRY_OP_WRITE_ZEROES) {
		slot->range_left_blocks = slot->io.length_blocks;
		slot->io.length_blocks = 0;
		slot_next_part(slot);
	}
}

void ferry_nbd_slot_start(struct ferry_nbd_slot *slot)
{
	struct ferry_nbd_counters *counters = &slot->connection->server->counters;

	ferry_assert(slot->connection->phase == FERRY_NBD_PHASE_TRANSMISSION);
	ferry_assert(slot->request.command == FERRY_NBD_CMD_WRITE || slot->io.segments.count == 0);
	switch (slot->request.command) {
	case FERRY_NBD_CMD_READ:
		io_prepare(slot, FERRY_OP_READ, &counters->reads);
		slot_held(slot, slot->request.length_bytes);
		break;
	case FERRY_NBD_CMD_WRITE:
		io_prepare(slot, FERRY_OP_WRITE, &counters->writes);
		ferry_assert(slot->io.segments.length_bytes == slot->request.length_bytes);
		break;
	case FERRY_NBD_CMD_FLUSH:
		io_prepare(slot, FERRY_OP_FLUSH, &counters->flushes);
		break;
	case FERRY_NBD_CMD_TRIM:
		io_prepare(slot, FERRY_OP_DISCARD, &counters->trims);
		slot->has_flush_left = slot->request.flags & FERRY_NBD_CMD_FUA;
		break;
	case FERRY_NBD_CMD_WRITE_ZEROES:
		io_prepare(slot, FERRY_OP_WRITE_ZEROES, &counters->write_zeroes);
		if (slot->request.flags & FERRY_NBD_CMD_NO_HOLE)
			slot->io.flags |= FERRY_IO_NO_UNMAP;
		break;
	default: /* What ferry_nbd_request_check() lets pass else is BLOCK_STATUS. */
		ferry_assert(slot->request.command == FERRY_NBD_CMD_BLOCK_STATUS);
		counters->block_statuses++;
		slot_reply(slot, 0);
		return;
	}
	slot_submit(slot);
}

void ferry_nbd_parked_retry(struct ferry_nbd_connection *connection)
{
	struct ferry_list batch;
	struct ferry_list *link;

	ferry_assert(connection);
	if (ferry_list_is_empty(&connection->parked))
		return;
	ferry_list_remove(&connection->parked_link);
	ferry_list_init(&batch);
	ferry_list_move_all(&batch, &connection->parked);
	while ((link = ferry_list_pop(&batch))) {
		slot_submit(ferry_list_entry(link, struct ferry_nbd_slot, link));
		/* Parked again: so would the rest be; keep their order. */
		if (!ferry_list_is_empty(&connection->parked)) {
			ferry_list_move_all(&connection->parked, &batch);
			break;
		}
	}
	ferry_assert(ferry_list_is_empty(&batch));
}

static bool slot_has_data(const struct ferry_nbd_slot *slot)
{
	return slot->request.command == FERRY_NBD_CMD_READ && slot->io.segments.count > 0;
}

static uint32_t slot_reply_bytes(const struct ferry_nbd_slot *slot)
{
	return slot->header_bytes + (slot_has_data(slot) ? slot->io.segments.length_bytes : 0);
}

struct gather {
	struct iovec v[FERRY_NBD_IOV_MAX];
	uint32_t count;
	uint32_t skip_bytes; /* Sent already. */
	size_t total_bytes;
};

static void gather_add(struct gather *gather, uint8_t *bytes, uint32_t length_bytes)
{
	const uint32_t skip_bytes = (uint32_t)ferry_min_u64(gather->skip_bytes, length_bytes);

	ferry_assert(gather->count < FERRY_NBD_IOV_MAX);
	gather->skip_bytes -= skip_bytes;
	if (skip_bytes == length_bytes)
		return;
	gather->v[gather->count].iov_base = bytes + skip_bytes;
	gather->v[gather->count].iov_len = length_bytes - skip_bytes;
	gather->total_bytes += length_bytes - skip_bytes;
	gather->count++;
}

static void gather_replies(struct ferry_nbd_connection *connection, struct gather *gather)
{
	gather->count = 0;
	gather->total_bytes = 0;
	gather->skip_bytes = 0;
	if (connection->out_start < connection->out_end)
		gather_add(gather, connection->out + connection->out_start,
			   connection->out_end - connection->out_start);
	gather->skip_bytes = connection->sent_bytes;
	ferry_list_foreach (link, &connection->replies) {
		struct ferry_nbd_slot *slot = ferry_list_entry(link, struct ferry_nbd_slot, link);

		if (gather->count + 1 + FERRY_SEGMENTS_MAX > FERRY_NBD_IOV_MAX)
			break;
		gather_add(gather, slot->header, slot->header_bytes);
		if (!slot_has_data(slot))
			continue;
		for (uint32_t i = 0; i < slot->io.segments.count; i++) {
			const struct ferry_segment *segment = &slot->io.segments.v[i];

			gather_add(gather, segment->chunk->data + segment->offset_bytes,
				   segment->length_bytes);
		}
	}
	ferry_assert(gather->count == 0 || gather->total_bytes > 0);
}

static void replies_sent(struct ferry_nbd_connection *connection, size_t bytes)
{
	const size_t out_bytes = ferry_min_u64(bytes, connection->out_end - connection->out_start);

	connection->out_start += (uint32_t)out_bytes;
	bytes -= out_bytes;
	while (bytes > 0) {
		struct ferry_nbd_slot *slot =
			ferry_list_entry(connection->replies.next, struct ferry_nbd_slot, link);
		const uint32_t left_bytes = slot_reply_bytes(slot) - connection->sent_bytes;

		ferry_assert(!ferry_list_is_empty(&connection->replies));
		if (bytes < left_bytes) {
			connection->sent_bytes += (uint32_t)bytes;
			return;
		}
		bytes -= left_bytes;
		connection->sent_bytes = 0;
		ferry_list_remove(&slot->link);
		ferry_nbd_slot_release(slot);
	}
}

int ferry_nbd_replies_send(struct ferry_nbd_connection *connection)
{
	const uint64_t now_ns = ferry_loop_now_ns(connection->server->loop);
	struct gather gather;

	ferry_assert(connection->out_start <= connection->out_end);
	if (!connection->is_write_blocked)
		connection->progress_ns = now_ns; /* Its silence begins here, if it does. */
	connection->is_write_blocked = false;
	for (;;) {
		struct msghdr message = {.msg_iov = gather.v};
		ssize_t sent;

		gather_replies(connection, &gather);
		if (gather.count == 0)
			return 0;
		message.msg_iovlen = gather.count;
		sent = sendmsg(connection->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0) {
			const int error = errno;

			if (error != EAGAIN && error != EINTR && error != ENOBUFS)
				return -error;
			connection->is_write_blocked = true;
			return 0;
		}
		connection->progress_ns = now_ns;
		replies_sent(connection, (size_t)sent);
		if ((size_t)sent < gather.total_bytes) {
			connection->is_write_blocked = true;
			return 0;
		}
	}
}
