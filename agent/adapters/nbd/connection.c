#include "agent/adapters/nbd/connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include "agent/adapters/nbd/request.h"

/* A client that holds memory is looked at so many times before its silence is too long. */
enum { SILENCE_LOOKS = 4 };

/* One client may hold this part of the arena, unless the configuration says otherwise. */
enum { HELD_SHARE = 8 };

static uint32_t in_bytes(const struct ferry_nbd_connection *connection)
{
	return connection->in_end - connection->in_start;
}

static bool is_open(const struct ferry_nbd_connection *connection)
{
	return connection->phase != FERRY_NBD_PHASE_FREE &&
	       connection->phase != FERRY_NBD_PHASE_DEAD;
}

static bool is_receiving_phase(const struct ferry_nbd_connection *connection)
{
	return is_open(connection) && connection->phase != FERRY_NBD_PHASE_CLOSING;
}

static bool has_unsent(const struct ferry_nbd_connection *connection)
{
	return connection->out_start < connection->out_end ||
	       !ferry_list_is_empty(&connection->replies);
}

/* Back-pressure: whether reading on would take something that there is none of at the moment. */
static bool is_blocked(const struct ferry_nbd_connection *connection)
{
	if (connection->phase != FERRY_NBD_PHASE_TRANSMISSION)
		return connection->out_start < connection->out_end;
	if (connection->receiving)
		return connection->wants_arena;
	return ferry_list_is_empty(&connection->free) ||
	       !ferry_list_is_empty(&connection->parked) ||
	       in_bytes(connection) >= FERRY_NBD_REQUEST_BYTES;
}

void ferry_nbd_connection_reap(struct ferry_nbd_connection *connection)
{
	ferry_assert(connection->phase == FERRY_NBD_PHASE_DEAD);
	if (connection->in_flight_count > 0)
		return;
	ferry_assert(connection->held_bytes == 0);
	connection->phase = FERRY_NBD_PHASE_FREE;
	ferry_nbd_server_connection_freed(connection);
}

static void slots_release_all(struct ferry_list *slots)
{
	struct ferry_list *link;

	ferry_assert(slots);
	while ((link = ferry_list_pop(slots)))
		ferry_nbd_slot_release(ferry_list_entry(link, struct ferry_nbd_slot, link));
}

/* Forget the request that is half here: nobody was told anything about it. */
static void receiving_drop(struct ferry_nbd_connection *connection)
{
	ferry_arena_unwait(&connection->waiter);
	connection->wants_arena = false;
	connection->is_draining = false;
	connection->drain_bytes = 0;
	if (connection->receiving)
		ferry_nbd_slot_release(TAKE_PTR(connection->receiving));
	ferry_assert(!connection->receiving);
}

void ferry_nbd_connection_kill(struct ferry_nbd_connection *connection)
{
	struct ferry_loop *loop = connection->server->loop;

	if (!is_open(connection))
		return;
	loop->ops->watch_stop(loop, &connection->watch);
	(void)close(connection->watch.fd); /* Nothing can be done about an error. */
	connection->watch.fd = -1;
	ferry_timer_stop(loop, &connection->timer);
	ferry_task_cancel(loop, &connection->work);
	/* First: what is released below may wake waiters for the arena. */
	connection->phase = FERRY_NBD_PHASE_DEAD;
	receiving_drop(connection);
	ferry_list_remove(&connection->parked_link);
	slots_release_all(&connection->parked);
	slots_release_all(&connection->replies);
	ferry_task_cancel(loop, &connection->work);
	ferry_nbd_connection_reap(connection);
}

/* After anything happened: what is to be awaited next. May kill the connection. */
static void connection_settle(struct ferry_nbd_connection *connection)
{
	struct ferry_loop *loop = connection->server->loop;
	uint32_t wanted = 0;

	if (!is_open(connection))
		return;
	if (connection->phase == FERRY_NBD_PHASE_CLOSING && connection->in_flight_count == 0 &&
	    ferry_list_is_empty(&connection->parked) && !has_unsent(connection)) {
		ferry_nbd_connection_kill(connection);
		return;
	}
	if (is_receiving_phase(connection) && !is_blocked(connection))
		wanted |= FERRY_WATCH_READ;
	if (connection->is_write_blocked && has_unsent(connection))
		wanted |= FERRY_WATCH_WRITE;
	loop->ops->watch_set(loop, &connection->watch, wanted);
}

void ferry_nbd_connection_drain(struct ferry_nbd_connection *connection)
{
	if (!is_receiving_phase(connection))
		return;
	if (connection->phase != FERRY_NBD_PHASE_TRANSMISSION) {
		ferry_nbd_connection_kill(connection);
		return;
	}
	connection->phase = FERRY_NBD_PHASE_CLOSING;
	receiving_drop(connection);
	connection_settle(connection);
}

/* The client broke the protocol: nothing it says from here on can be understood. */
static void connection_broken(struct ferry_nbd_connection *connection)
{
	connection->server->counters.connections_broken++;
	ferry_nbd_connection_kill(connection);
}

static void transmission_start(struct ferry_nbd_connection *connection)
{
	struct ferry_nbd_server *server = connection->server;
	struct ferry_nbd_export_slot *export = &server->exports[connection->negotiation.export];

	ferry_assert(connection->phase == FERRY_NBD_PHASE_OPTIONS);
	ferry_assert(export->is_used && !export->is_removing);
	connection->phase = FERRY_NBD_PHASE_TRANSMISSION;
	connection->block = export->block;
	connection->shape = &export->shape;
	export->connections_count++;
	connection->held_bytes_max = server->config.held_bytes_max;
	if (connection->held_bytes_max == 0)
		connection->held_bytes_max =
			export->block->arena->chunks_count / HELD_SHARE * FERRY_CHUNK_BYTES;
	ferry_timer_start_in(server->loop, &connection->timer,
			     server->config.silence_ns_max / SILENCE_LOOKS);
}

/* Act on the verdict about one option. 1: go on; negative errno: broken. */
static int option_verdict(struct ferry_nbd_connection *connection,
			  const struct ferry_nbd_writer *writer, enum ferry_nbd_verdict verdict)
{
	connection->out_start = 0;
	connection->out_end = writer->used_bytes;
	switch (verdict) {
	case FERRY_NBD_CONTINUE:
		return 1;
	case FERRY_NBD_TRANSMIT:
		transmission_start(connection);
		return 1;
	case FERRY_NBD_CLOSE:
		connection->phase = FERRY_NBD_PHASE_CLOSING; /* The handshake's deadline runs. */
		return 1;
	case FERRY_NBD_DISCONNECT:
		return -EPROTO;
	}
	ferry_assert(false);
	return -EPROTO;
}

/* One step of the handshake: 1 if there was one, 0 when more bytes are needed. */
static int consume_option(struct ferry_nbd_connection *connection)
{
	struct ferry_nbd_writer writer = {.bytes = connection->out,
					  .size_bytes = sizeof(connection->out)};
	const uint8_t *in = connection->in + connection->in_start;
	struct ferry_nbd_option *option = &connection->option;
	int r;

	ferry_assert(connection->out_start == connection->out_end);
	if (connection->phase == FERRY_NBD_PHASE_FLAGS) {
		if (in_bytes(connection) < FERRY_NBD_CLIENT_FLAGS_BYTES)
			return 0;
		connection->in_start += FERRY_NBD_CLIENT_FLAGS_BYTES;
		connection->phase = FERRY_NBD_PHASE_OPTIONS;
		r = ferry_nbd_negotiation_flags(&connection->negotiation, in);
		return r < 0 ? r : 1;
	}
	if (in_bytes(connection) < FERRY_NBD_OPTION_HEADER_BYTES)
		return 0;
	r = ferry_nbd_option_decode(in, option);
	if (r < 0)
		return r;
	if (option->length_bytes > FERRY_NBD_OPTION_DRAIN_BYTES_MAX)
		return -EPROTO;
	if (option->length_bytes > FERRY_NBD_OPTION_BYTES_MAX) {
		connection->in_start += FERRY_NBD_OPTION_HEADER_BYTES;
		connection->is_draining = true;
		connection->drain_bytes = option->length_bytes;
		return 1;
	}
	if (in_bytes(connection) < FERRY_NBD_OPTION_HEADER_BYTES + option->length_bytes)
		return 0;
	connection->in_start += FERRY_NBD_OPTION_HEADER_BYTES + option->length_bytes;
	return option_verdict(connection, &writer,
			      ferry_nbd_negotiation_option(&connection->negotiation, option,
							   in + FERRY_NBD_OPTION_HEADER_BYTES,
							   &writer));
}

/* The last byte to be thrown away is gone: say what was wrong. */
static int drain_end(struct ferry_nbd_connection *connection)
{
	struct ferry_nbd_writer writer = {.bytes = connection->out,
					  .size_bytes = sizeof(connection->out)};

	ferry_assert(connection->is_draining && connection->drain_bytes == 0);
	connection->is_draining = false;
	if (connection->receiving) {
		ferry_nbd_slot_refuse(TAKE_PTR(connection->receiving), connection->drain_error);
		return 1;
	}
	ferry_assert(connection->phase == FERRY_NBD_PHASE_OPTIONS);
	return option_verdict(connection, &writer,
			      ferry_nbd_negotiation_too_big(&connection->negotiation,
							    &connection->option, &writer));
}

static int consume_drain(struct ferry_nbd_connection *connection)
{
	const uint32_t part_bytes =
		(uint32_t)ferry_min_u64(connection->drain_bytes, in_bytes(connection));

	ferry_assert(connection->is_draining);
	connection->in_start += part_bytes;
	connection->drain_bytes -= part_bytes;
	if (connection->drain_bytes > 0)
		return 0;
	return drain_end(connection);
}

/* The data of a WRITE that came along with its header. */
static int consume_data(struct ferry_nbd_connection *connection)
{
	struct ferry_nbd_slot *slot = connection->receiving;
	uint32_t part_bytes;

	ferry_assert(slot);
	if (connection->wants_arena)
		return 0;
	part_bytes = (uint32_t)ferry_min_u64(
		slot->request.length_bytes - connection->received_bytes, in_bytes(connection));
	if (part_bytes > 0)
		ferry_segments_write(&slot->io.segments, connection->received_bytes,
				     connection->in + connection->in_start, part_bytes);
	connection->in_start += part_bytes;
	connection->received_bytes += part_bytes;
	if (connection->received_bytes < slot->request.length_bytes)
		return 0;
	connection->receiving = NULL;
	ferry_nbd_slot_start(slot);
	return 1;
}

/* Take memory for the data of the WRITE in @receiving, or wait for it. */
static void receiving_take(struct ferry_nbd_connection *connection)
{
	int r;

	ferry_assert(connection->receiving);
	r = ferry_nbd_slot_take(connection->receiving);
	connection->wants_arena = r < 0;
	connection->progress_ns = ferry_loop_now_ns(connection->server->loop);
	if (r < 0)
		ferry_arena_wait(connection->block->arena, &connection->waiter);
}

static int receiving_start(struct ferry_nbd_connection *connection, struct ferry_nbd_slot *slot,
			   uint32_t error)
{
	ferry_assert(!connection->receiving);
	ferry_assert(!connection->is_draining);
	if (error && slot->request.length_bytes > FERRY_NBD_DRAIN_BYTES_MAX) {
		ferry_nbd_slot_release(slot);
		return -EPROTO;
	}
	connection->receiving = slot;
	connection->received_bytes = 0;
	if (!error) {
		receiving_take(connection);
		return 1;
	}
	connection->drain_error = error;
	connection->drain_bytes = slot->request.length_bytes;
	connection->is_draining = true;
	return 1;
}

/* Whether one more request of @length_bytes would hold too much of the arena. */
static bool holds_too_much(const struct ferry_nbd_connection *connection,
			   const struct ferry_nbd_request *request)
{
	if (request->command != FERRY_NBD_CMD_READ && request->command != FERRY_NBD_CMD_WRITE)
		return false;
	if (connection->held_bytes == 0 || request->length_bytes > FERRY_IO_BYTES_MAX)
		return false;
	return request->length_bytes >
	       ferry_max_u64(connection->held_bytes_max, connection->held_bytes) -
		       connection->held_bytes;
}

static int consume_request(struct ferry_nbd_connection *connection)
{
	struct ferry_nbd_request request;
	struct ferry_nbd_slot *slot;
	uint32_t error;
	int r;

	ferry_assert(connection->phase == FERRY_NBD_PHASE_TRANSMISSION);
	ferry_assert(!connection->receiving);
	if (in_bytes(connection) < FERRY_NBD_REQUEST_BYTES)
		return 0;
	r = ferry_nbd_request_decode(connection->in + connection->in_start, &request);
	if (r < 0)
		return r;
	if (ferry_list_is_empty(&connection->free) || !ferry_list_is_empty(&connection->parked) ||
	    holds_too_much(connection, &request))
		return 0; /* Until something is done: is_blocked(). */
	connection->in_start += FERRY_NBD_REQUEST_BYTES;
	if (request.command == FERRY_NBD_CMD_DISC) {
		connection->phase = FERRY_NBD_PHASE_CLOSING;
		return 0;
	}
	slot = ferry_list_entry(ferry_list_pop(&connection->free), struct ferry_nbd_slot, link);
	slot->request = request;
	error = ferry_nbd_request_check(&request, connection->shape,
					connection->negotiation.has_structured,
					connection->negotiation.has_allocation);
	if (request.command == FERRY_NBD_CMD_WRITE)
		return receiving_start(connection, slot, error);
	if (error)
		ferry_nbd_slot_refuse(slot, error);
	else
		ferry_nbd_slot_start(slot);
	return 1;
}

/* One step ahead in what was received: 1 if there was one, 0 if not, negative errno: broken. */
static int consume(struct ferry_nbd_connection *connection)
{
	ferry_assert(connection->in_start <= connection->in_end);
	switch (connection->phase) {
	case FERRY_NBD_PHASE_FLAGS:
	case FERRY_NBD_PHASE_OPTIONS:
		if (connection->is_draining)
			return consume_drain(connection);
		if (is_blocked(connection))
			return 0;
		return consume_option(connection);
	case FERRY_NBD_PHASE_TRANSMISSION:
		if (connection->is_draining)
			return consume_drain(connection);
		if (connection->receiving)
			return consume_data(connection);
		return consume_request(connection);
	case FERRY_NBD_PHASE_FREE:
	case FERRY_NBD_PHASE_CLOSING:
	case FERRY_NBD_PHASE_DEAD:
		return 0;
	}
	return 0;
}

/*
 * Where the next bytes go: first what is missing of the data at hand, then the buffer. Returns the
 * bytes that the former takes; *ret_count of @v are filled.
 */
static uint32_t receive_plan(struct ferry_nbd_connection *connection,
			     struct iovec v[FERRY_SEGMENTS_MAX + 1], int *ret_count)
{
	const bool is_transmission = connection->phase == FERRY_NBD_PHASE_TRANSMISSION;
	const struct ferry_nbd_slot *slot = connection->receiving;
	uint32_t direct_bytes = 0, skip_bytes = connection->received_bytes, room_bytes;
	int count = 0;

	if (connection->is_draining) {
		ferry_assert(connection->drain_bytes > 0);
		direct_bytes =
			(uint32_t)ferry_min_u64(connection->drain_bytes, FERRY_NBD_SCRATCH_BYTES);
		v[count++] = (struct iovec){.iov_base = connection->server->scratch,
					    .iov_len = direct_bytes};
		*ret_count = count;
		return direct_bytes;
	}
	for (uint32_t i = 0; slot && i < slot->io.segments.count; i++) {
		const struct ferry_segment *segment = &slot->io.segments.v[i];
		const uint32_t skipped_bytes =
			(uint32_t)ferry_min_u64(skip_bytes, segment->length_bytes);

		skip_bytes -= skipped_bytes;
		if (skipped_bytes == segment->length_bytes)
			continue;
		v[count++] = (struct iovec){.iov_base = segment->chunk->data +
							segment->offset_bytes + skipped_bytes,
					    .iov_len = segment->length_bytes - skipped_bytes};
		direct_bytes += segment->length_bytes - skipped_bytes;
	}
	room_bytes = (is_transmission ? FERRY_NBD_AHEAD_BYTES : FERRY_NBD_IN_BYTES);
	ferry_assert(connection->in_start == 0 && connection->in_end < room_bytes);
	v[count++] = (struct iovec){.iov_base = connection->in + connection->in_end,
				    .iov_len = room_bytes - connection->in_end};
	*ret_count = count;
	return direct_bytes;
}

/* One readv(2). 1: maybe there is more; 0: nothing more at the moment; negative errno. */
static int receive_once(struct ferry_nbd_connection *connection)
{
	struct iovec v[FERRY_SEGMENTS_MAX + 1];
	size_t asked_bytes = 0;
	uint32_t direct_bytes, part_bytes;
	ssize_t got;
	int count;

	/* What is left over is less than one header or one option; it moves to the front. */
	if (connection->in_start > 0) {
		memmove(connection->in, connection->in + connection->in_start,
			in_bytes(connection));
		connection->in_end -= connection->in_start;
		connection->in_start = 0;
	}
	direct_bytes = receive_plan(connection, v, &count);
	for (int i = 0; i < count; i++)
		asked_bytes += v[i].iov_len;
	got = readv(connection->watch.fd, v, count);
	if (got < 0) {
		const int error = errno;

		return error == EAGAIN || error == EINTR ? 0 : -error;
	}
	if (got == 0) {
		connection->has_ended = true;
		return 0;
	}
	connection->progress_ns = ferry_loop_now_ns(connection->server->loop);
	part_bytes = (uint32_t)ferry_min_u64((uint64_t)got, direct_bytes);
	if (connection->is_draining)
		connection->drain_bytes -= part_bytes;
	else
		connection->received_bytes += part_bytes;
	connection->in_end += (uint32_t)got - part_bytes;
	return (size_t)got == asked_bytes ? 1 : 0;
}

/* Receive and act on it. 0, or a negative errno: the connection is to be cut. */
static int connection_receive(struct ferry_nbd_connection *connection, bool is_readable)
{
	for (uint32_t i = 0;; i++) {
		int r;

		do
			r = consume(connection);
		while (r > 0);
		if (r < 0)
			return r;
		if (!is_receiving_phase(connection) || is_blocked(connection))
			return 0;
		if (!is_readable || i == FERRY_NBD_READ_ROUNDS_MAX)
			return 0;
		r = receive_once(connection);
		if (r < 0)
			return r;
		is_readable = r > 0;
		if (connection->has_ended) {
			/* It may have closed but one direction: what is in flight is answered. */
			ferry_nbd_connection_drain(connection);
			return 0;
		}
	}
}

/* Whatever can be done now: send, retry, receive. May kill the connection. */
static void connection_pump(struct ferry_nbd_connection *connection, bool is_readable)
{
	int r;

	if (!is_open(connection))
		return;
	r = ferry_nbd_replies_send(connection);
	if (r == 0) {
		ferry_nbd_parked_retry(connection);
		if (connection->wants_arena && !ferry_list_is_linked(&connection->waiter.link))
			receiving_take(connection);
		r = connection_receive(connection, is_readable);
	}
	if (r == 0 && is_open(connection) && connection->out_start < connection->out_end) {
		r = ferry_nbd_replies_send(connection);
		/* The client may have sent the next option along with the last. */
		if (in_bytes(connection) > 0)
			ferry_task_post(connection->server->loop, &connection->work);
	}
	if (r == -EPROTO || r == -EBADMSG)
		connection_broken(connection);
	else if (r < 0)
		ferry_nbd_connection_kill(connection); /* Reset by the client: its own affair. */
	else
		connection_settle(connection);
}

static void connection_ready(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_nbd_connection *connection =
		FERRY_CONTAINER_OF(watch, struct ferry_nbd_connection, watch);

	connection_pump(connection, ready & FERRY_WATCH_READ);
}

static void connection_work(struct ferry_task *task)
{
	struct ferry_nbd_connection *connection =
		FERRY_CONTAINER_OF(task, struct ferry_nbd_connection, work);

	/* One that was not read for lack of something likely has more by now. */
	connection_pump(connection, !(connection->watch.wanted & FERRY_WATCH_READ));
}

static void connection_chunks_free(struct ferry_arena_waiter *waiter)
{
	struct ferry_nbd_connection *connection =
		FERRY_CONTAINER_OF(waiter, struct ferry_nbd_connection, waiter);

	ferry_task_post(connection->server->loop, &connection->work);
}

void ferry_nbd_connection_kick(struct ferry_nbd_connection *connection)
{
	ferry_assert(is_open(connection));
	ferry_task_post(connection->server->loop, &connection->work);
}

/* The handshake took too long, or it is time to look whether the client is silent too long. */
static void connection_timer(struct ferry_timer *timer)
{
	struct ferry_nbd_connection *connection =
		FERRY_CONTAINER_OF(timer, struct ferry_nbd_connection, timer);
	struct ferry_nbd_server *server = connection->server;
	const bool is_awaited = (connection->is_write_blocked && has_unsent(connection)) ||
				(connection->receiving && !connection->wants_arena);
	const uint64_t silence_ns = ferry_loop_now_ns(server->loop) - connection->progress_ns;

	ferry_assert(is_open(connection));
	if (!connection->shape || (is_awaited && silence_ns >= server->config.silence_ns_max)) {
		server->counters.connections_timed_out++;
		ferry_nbd_connection_kill(connection);
		return;
	}
	ferry_timer_start_in(server->loop, timer, server->config.silence_ns_max / SILENCE_LOOKS);
}

void ferry_nbd_connection_init(struct ferry_nbd_connection *connection,
			       struct ferry_nbd_server *server)
{
	ferry_assert(connection && server);
	ferry_assert(connection->phase == 0);
	connection->server = server;
	connection->phase = FERRY_NBD_PHASE_FREE;
	connection->watch.fd = -1;
	connection->watch.run = connection_ready;
	connection->timer.run = connection_timer;
	connection->work.run = connection_work;
	connection->waiter.run = connection_chunks_free;
	ferry_list_init(&connection->link);
	ferry_list_init(&connection->parked_link);
	ferry_list_init(&connection->waiter.link);
	ferry_list_init(&connection->free);
	ferry_list_init(&connection->parked);
	ferry_list_init(&connection->replies);
	for (uint32_t i = 0; i < FERRY_NBD_REQUESTS_MAX; i++) {
		struct ferry_nbd_slot *slot = &connection->slots[i];

		slot->connection = connection;
		ferry_list_init(&slot->link);
		ferry_list_append(&connection->free, &slot->link);
	}
}

static int watch_begin(struct ferry_nbd_connection *connection, int fd)
{
	struct ferry_nbd_server *server = connection->server;
	int r;

	ferry_assert(connection->phase == FERRY_NBD_PHASE_FREE);
	ferry_assert(connection->in_flight_count == 0 && connection->held_bytes == 0);
	connection->watch.fd = fd;
	r = server->loop->ops->watch_start(server->loop, &connection->watch, FERRY_WATCH_READ);
	if (r < 0) {
		connection->watch.fd = -1;
		return r;
	}
	connection->negotiation = (struct ferry_nbd_negotiation){
		.shapes = server->shapes, .export_default = &server->export_default};
	connection->block = NULL;
	connection->shape = NULL;
	connection->in_start = 0;
	connection->in_end = 0;
	connection->out_start = 0;
	connection->out_end = 0;
	connection->sent_bytes = 0;
	connection->has_ended = false;
	connection->is_write_blocked = false;
	connection->progress_ns = ferry_loop_now_ns(server->loop);
	return 0;
}

int ferry_nbd_connection_open(struct ferry_nbd_connection *connection, int fd)
{
	struct ferry_nbd_server *server = connection->server;
	struct ferry_nbd_writer writer = {.bytes = connection->out,
					  .size_bytes = sizeof(connection->out)};
	int r = watch_begin(connection, fd);

	if (r < 0)
		return r;
	connection->phase = FERRY_NBD_PHASE_FLAGS;
	ferry_nbd_negotiation_greet(&writer);
	connection->out_end = writer.used_bytes;
	ferry_timer_start_in(server->loop, &connection->timer, server->config.handshake_ns_max);
	ferry_task_post(server->loop, &connection->work); /* Sends the greeting. */
	return 0;
}

int ferry_nbd_connection_adopt(struct ferry_nbd_connection *connection, int fd, uint32_t export)
{
	int r = watch_begin(connection, fd);

	if (r < 0)
		return r;
	connection->phase = FERRY_NBD_PHASE_OPTIONS;
	connection->negotiation.export = export;
	transmission_start(connection);
	return 0;
}
