#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/adapters/tcp/room.h"
#include "agent/base/checksum.h"

enum {
	LINK_HEADERS_MAX = 32, /* Messages that one sendmsg(2) begins. */
	LINK_IOVECS_MAX = 64,
	LINK_ROUNDS_MAX = 16, /* System calls in one callback: others want to run, too. */
	LINK_TICKS = 12,      /* How often it is looked at within dead_after. */
	/* When payloads are large, little is read ahead: it would be copied. */
	LINK_READAHEAD_BYTES_SMALL = 2 * 1024,
	LINK_PAYLOAD_BYTES_LARGE = 16 * 1024,
};

_Static_assert(LINK_IOVECS_MAX > 1 + FERRY_SEGMENTS_MAX, "any message fits in one call");
_Static_assert(LINK_READAHEAD_BYTES_SMALL <= (int)FERRY_TCP_BUFFER_BYTES, "within the buffer");

static struct tcp_link *tcp_link_of(struct ferry_link *link)
{
	return FERRY_CONTAINER_OF(link, struct tcp_link, link);
}

/* A descriptor that wants nothing is not watched: its errors would keep the loop awake. */
static void link_watch(struct tcp_link *link)
{
	uint32_t wanted = 0;
	int r;

	ferry_assert(link->state == TCP_LINK_UP);
	if (!link->is_paused)
		wanted |= FERRY_WATCH_READ;
	if (link->is_blocked)
		wanted |= FERRY_WATCH_WRITE;
	if (link->is_watched && wanted) {
		link->loop->ops->watch_set(link->loop, &link->watch, wanted);
	} else if (link->is_watched) {
		link->loop->ops->watch_stop(link->loop, &link->watch);
		link->is_watched = false;
	} else if (wanted) {
		r = link->loop->ops->watch_start(link->loop, &link->watch, wanted);
		link->is_watched = r == 0;
		if (r < 0)
			tcp_link_cut(link, "cannot watch the socket: %s", strerror(-r));
	}
}

static void link_event(struct tcp_link *link, enum ferry_severity severity, const char *to,
		       const char *why)
{
	struct ferry_event event = {
		.kind = FERRY_EVENT_PEER,
		.severity = severity,
		.time_ns = ferry_loop_now_ns(link->loop),
		.node = link->link.node,
		.value = link->peer_incarnation.v,
	};

	(void)snprintf(event.from, sizeof(event.from), "%s",
		       severity == FERRY_SEVERITY_WARNING ? "up" : "down");
	(void)snprintf(event.to, sizeof(event.to), "%s", to);
	ferry_event_emit(link->events, event, "%s", why);
}

void tcp_link_cut(struct tcp_link *link, const char *format, ...)
{
	va_list arguments;

	ferry_assert(link && format);
	if (link->state != TCP_LINK_UP)
		return;
	va_start(arguments, format);
	(void)vsnprintf(link->why, sizeof(link->why), format, arguments);
	va_end(arguments);
	ferry_timer_stop(link->loop, &link->tick);
	if (link->is_watched)
		link->loop->ops->watch_stop(link->loop, &link->watch);
	link->is_watched = false;
	(void)close(link->watch.fd); /* What was in it is UNSURE anyway. */
	link->watch.fd = -1;
	link->state = TCP_LINK_CUT;
	link->link.is_up = false;
	link->counters.downs++;
	ferry_task_post(link->loop, &link->task);
}

void tcp_link_settle(struct tcp_link *link)
{
	struct ferry_list *entry;

	ferry_assert(link->state == TCP_LINK_CUT);
	ferry_assert(!link->is_running);
	ferry_task_cancel(link->loop, &link->task);
	link->is_running = true;
	while ((entry = ferry_list_pop(&link->queue))) {
		struct ferry_message *message = ferry_list_entry(entry, struct ferry_message, link);

		link->queue_count--;
		message->on_sent(message,
				 message->sent_bytes > 0 ? FERRY_SENT_UNSURE : FERRY_SENT_NOTHING);
	}
	ferry_assert(link->queue_count == 0);
	if (link->segments.count > 0) {
		struct ferry_segments segments = link->segments;

		link->segments = (struct ferry_segments){};
		link->link.on_payload_dropped(&link->link, &link->header, &segments);
	}
	link->has_header = false;
	link_event(link, FERRY_SEVERITY_WARNING, "down", link->why);
	link->link.on_down(&link->link, link->why);
	link->is_running = false;
	link->state = TCP_LINK_DOWN;
	link->on_over(link);
}

static uint64_t message_length(const struct ferry_message *message)
{
	return FERRY_WIRE_HEADER_BYTES + (uint64_t)message->segments.length_bytes;
}

static void link_enqueue(struct tcp_link *link, struct ferry_message *message)
{
	ferry_assert(link->queue_count < FERRY_TCP_QUEUE_MAX);
	message->sent_bytes = 0;
	ferry_list_append(&link->queue, &message->link);
	link->queue_count++;
	ferry_task_post(link->loop, &link->task);
}

static int link_send(struct ferry_link *port, struct ferry_message *message)
{
	struct tcp_link *link = tcp_link_of(port);

	FERRY_ASSERT_ON_LOOP(link->loop);
	ferry_assert(message->on_sent);
	if (link->state != TCP_LINK_UP)
		return -ENOTCONN;
	message->header.payload_crc =
		message->segments.count > 0 ? ferry_crc32c_segments(0, &message->segments) : 0;
	ferry_assert(ferry_wire_check(&message->header, NULL) == 0);
	link_enqueue(link, message);
	return 0;
}

static void link_resume(struct ferry_link *port)
{
	struct tcp_link *link = tcp_link_of(port);

	FERRY_ASSERT_ON_LOOP(link->loop);
	if (link->state != TCP_LINK_UP || !link->is_paused)
		return;
	link->is_resuming = true;
	ferry_task_post(link->loop, &link->task);
}

static void link_reset(struct ferry_link *port, const char *why)
{
	struct tcp_link *link = tcp_link_of(port);

	FERRY_ASSERT_ON_LOOP(link->loop);
	ferry_assert(why);
	tcp_link_cut(link, "%s", why);
}

static const struct ferry_link_ops LINK_OPS = {
	.name = "tcp",
	.send = link_send,
	.resume = link_resume,
	.reset = link_reset,
};

/* Add one piece, but for the first *skip bytes of it. Whether there was room. */
static bool iovec_add(struct iovec *iovecs, uint32_t *count, void *data, uint32_t length_bytes,
		      uint32_t *skip_bytes)
{
	uint32_t skip = (uint32_t)ferry_min_u64(*skip_bytes, length_bytes);

	*skip_bytes -= skip;
	if (skip == length_bytes)
		return true;
	if (*count == LINK_IOVECS_MAX)
		return false;
	iovecs[(*count)++] = (struct iovec){
		.iov_base = (uint8_t *)data + skip,
		.iov_len = length_bytes - skip,
	};
	return true;
}

static bool iovec_add_segments(struct iovec *iovecs, uint32_t *count,
			       const struct ferry_segments *segments, uint32_t *skip_bytes)
{
	for (uint32_t i = 0; i < segments->count; i++) {
		const struct ferry_segment *segment = &segments->v[i];

		if (!iovec_add(iovecs, count, segment->chunk->data + segment->offset_bytes,
			       segment->length_bytes, skip_bytes))
			return false;
	}
	return true;
}

/* The front of the queue, as far as one call takes it. */
static uint32_t link_gather(struct tcp_link *link, struct iovec *iovecs,
			    uint8_t headers[][FERRY_WIRE_HEADER_BYTES])
{
	uint32_t headers_count = 0;
	uint32_t count = 0;

	ferry_list_foreach (entry, &link->queue) {
		struct ferry_message *message = ferry_list_entry(entry, struct ferry_message, link);
		uint32_t skip_bytes = message->sent_bytes;

		if (headers_count == LINK_HEADERS_MAX)
			break;
		/* Half a header may have left before: it comes out the same each time. */
		ferry_wire_encode(&message->header, headers[headers_count]);
		if (!iovec_add(iovecs, &count, headers[headers_count], FERRY_WIRE_HEADER_BYTES,
			       &skip_bytes))
			break;
		headers_count++;
		if (!iovec_add_segments(iovecs, &count, &message->segments, &skip_bytes))
			break;
	}
	ferry_assert(count > 0 && count <= LINK_IOVECS_MAX);
	return count;
}

/* @sent_bytes more of the queue left; those that left whole are their owners' again. */
static void link_sent(struct tcp_link *link, uint64_t sent_bytes)
{
	struct ferry_list whole;
	struct ferry_list *entry;

	ferry_list_init(&whole);
	link->counters.bytes_sent += sent_bytes;
	while (sent_bytes > 0) {
		struct ferry_message *message;
		uint64_t left_bytes;

		ferry_assert(!ferry_list_is_empty(&link->queue));
		message = ferry_list_entry(link->queue.next, struct ferry_message, link);
		left_bytes = message_length(message) - message->sent_bytes;
		if (sent_bytes < left_bytes) {
			message->sent_bytes += (uint32_t)sent_bytes;
			break;
		}
		sent_bytes -= left_bytes;
		ferry_list_remove(&message->link);
		ferry_list_append(&whole, &message->link);
		link->queue_count--;
		link->counters.messages_sent++;
	}
	/* Apart, since a callback may send more, or cut the link. */
	while ((entry = ferry_list_pop(&whole))) {
		struct ferry_message *message = ferry_list_entry(entry, struct ferry_message, link);

		message->on_sent(message, FERRY_SENT_WHOLE);
	}
}

static void link_flush(struct tcp_link *link)
{
	uint8_t headers[LINK_HEADERS_MAX][FERRY_WIRE_HEADER_BYTES];
	struct iovec iovecs[LINK_IOVECS_MAX];
	ssize_t n;

	ferry_assert(link->is_running);
	for (uint32_t i = 0; i < LINK_ROUNDS_MAX; i++) {
		struct msghdr msg = {.msg_iov = iovecs};

		if (link->state != TCP_LINK_UP || link->is_blocked ||
		    ferry_list_is_empty(&link->queue))
			return;
		msg.msg_iovlen = link_gather(link, iovecs, headers);
		n = sendmsg(link->watch.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			link->is_blocked = true;
			link_watch(link);
			return;
		}
		if (n < 0) {
			tcp_link_cut(link, "sending to the peer: %s", strerror(errno));
			return;
		}
		link->sent_ns = ferry_loop_now_ns(link->loop);
		link_sent(link, (uint64_t)n);
	}
	if (link->state == TCP_LINK_UP)
		ferry_task_post(link->loop, &link->task);
}

static void own_message_sent(struct ferry_message *message, enum ferry_sent sent)
{
	(void)message; /* It is out of the queue: that is all one needs to know. */
	ferry_assert(sent != 0);
}

static void link_ping(struct tcp_link *link)
{
	if (ferry_list_is_linked(&link->ping.link))
		return;
	link->pinged_ns = ferry_loop_now_ns(link->loop);
	link->ping.header = (struct ferry_wire_header){
		.type = FERRY_WIRE_PING,
		.node = link->self,
		.incarnation = link->incarnation,
		.sequence = ++link->ping_sequence,
	};
	link_enqueue(link, &link->ping);
}

static void link_pong(struct tcp_link *link)
{
	if (ferry_list_is_linked(&link->pong.link))
		return; /* The one on its way says as much. */
	link->pong.header = link->header;
	link->pong.header.type = FERRY_WIRE_PONG;
	link_enqueue(link, &link->pong);
}

/* Decode the header that lies in the buffer. Whether to go on. */
static bool link_take_header(struct tcp_link *link)
{
	struct ferry_wire_end self = {link->self, link->incarnation};
	struct ferry_wire_end peer = {link->link.node, link->peer_incarnation};
	struct ferry_error error = {};

	ferry_assert(!link->has_header);
	if (ferry_wire_decode(link->buffer + link->buffer_start, &link->header, &error) < 0) {
		tcp_link_cut(link, "%s", error.message);
		return false;
	}
	if (!ferry_wire_is_between(&link->header, &self, &peer)) {
		tcp_link_cut(link, "message from a peer: node or incarnation is not its own");
		return false;
	}
	link->buffer_start += FERRY_WIRE_HEADER_BYTES;
	link->has_header = true;
	link->payload_bytes = 0;
	link->readahead_bytes = link->header.payload_bytes >= LINK_PAYLOAD_BYTES_LARGE
					? LINK_READAHEAD_BYTES_SMALL
					: FERRY_TCP_BUFFER_BYTES;
	return true;
}

/* Have room for the payload. Whether to go on. */
static bool link_take_room(struct tcp_link *link)
{
	struct ferry_segments segments = {};
	int r;

	ferry_assert(link->has_header);
	if (link->header.payload_bytes == 0 || link->segments.count > 0)
		return true;
	r = link->link.on_payload(&link->link, &link->header, &segments);
	if (r >= 0) {
		ferry_assert(segments.length_bytes == link->header.payload_bytes);
		link->segments = segments; /* Also if it was cut meanwhile: to be dropped. */
	} else if (r == -ENOBUFS && link->state == TCP_LINK_UP) {
		link->is_paused = true;
		link->is_resuming = false;
		link_watch(link);
	} else {
		tcp_link_cut(link, "message from a peer: refused: %s", strerror(-r));
	}
	return r >= 0 && link->state == TCP_LINK_UP;
}

/* Move what was read ahead of the payload to where it belongs. */
static void link_take_readahead(struct tcp_link *link)
{
	uint32_t missing_bytes = link->header.payload_bytes - link->payload_bytes;
	uint32_t here_bytes = link->buffer_end - link->buffer_start;
	uint32_t length_bytes = (uint32_t)ferry_min_u64(missing_bytes, here_bytes);

	if (length_bytes == 0)
		return;
	ferry_segments_write(&link->segments, link->payload_bytes,
			     link->buffer + link->buffer_start, length_bytes);
	link->payload_bytes += length_bytes;
	link->buffer_start += length_bytes;
	link->counters.bytes_copied += length_bytes;
}

static void link_deliver(struct tcp_link *link)
{
	struct ferry_segments segments = link->segments;

	ferry_assert(link->has_header && link->payload_bytes == link->header.payload_bytes);
	if (link->payload_bytes > 0 &&
	    ferry_crc32c_segments(0, &segments) != link->header.payload_crc) {
		tcp_link_cut(link, "message from a peer: the payload's checksum is wrong");
		return;
	}
	link->has_header = false;
	link->segments = (struct ferry_segments){};
	link->counters.messages_received++;
	if (link->header.type == FERRY_WIRE_PING)
		link_pong(link);
	else if (link->header.type != FERRY_WIRE_PONG)
		link->link.on_message(&link->link, &link->header, &segments);
}

/* All whole messages that are in the buffer, and the beginning of the next. */
static void link_digest(struct tcp_link *link)
{
	while (link->state == TCP_LINK_UP && !link->is_paused) {
		if (!link->has_header) {
			if (link->buffer_end - link->buffer_start < FERRY_WIRE_HEADER_BYTES)
				break;
			if (!link_take_header(link))
				return;
		}
		if (!link_take_room(link))
			return;
		link_take_readahead(link);
		if (link->payload_bytes < link->header.payload_bytes)
			break;
		link_deliver(link);
	}
}

/* Read once: the payload to its place, what follows it to the buffer. The count, 0 or an error. */
static ssize_t link_read(struct tcp_link *link, bool *ret_is_drained)
{
	struct iovec iovecs[LINK_IOVECS_MAX];
	uint32_t skip_bytes = link->payload_bytes;
	uint32_t missing_bytes = 0;
	uint32_t count = 0;
	uint64_t room_bytes;
	ssize_t n;

	if (link->has_header) {
		ferry_assert(link->buffer_start == link->buffer_end);
		missing_bytes = link->header.payload_bytes - link->payload_bytes;
		ferry_assert(missing_bytes > 0);
		ferry_assert(iovec_add_segments(iovecs, &count, &link->segments, &skip_bytes));
	}
	memmove(link->buffer, link->buffer + link->buffer_start,
		link->buffer_end - link->buffer_start);
	link->buffer_end -= link->buffer_start;
	link->buffer_start = 0;
	ferry_assert(link->buffer_end < FERRY_WIRE_HEADER_BYTES);
	iovecs[count++] = (struct iovec){
		.iov_base = link->buffer + link->buffer_end,
		.iov_len = link->readahead_bytes - link->buffer_end,
	};
	room_bytes = missing_bytes + (uint64_t)(link->readahead_bytes - link->buffer_end);
	n = readv(link->watch.fd, iovecs, (int)count);
	if (n < 0)
		return -errno;
	*ret_is_drained = (uint64_t)n < room_bytes;
	if ((uint64_t)n > missing_bytes)
		link->buffer_end += (uint32_t)n - missing_bytes;
	link->payload_bytes += (uint32_t)ferry_min_u64((uint64_t)n, missing_bytes);
	return n;
}

static void link_receive(struct tcp_link *link)
{
	bool is_drained = false;

	ferry_assert(link->is_running);
	for (uint32_t i = 0; i < LINK_ROUNDS_MAX && !is_drained; i++) {
		ssize_t n;

		if (link->state != TCP_LINK_UP || link->is_paused)
			return;
		n = link_read(link, &is_drained);
		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n < 0) {
			tcp_link_cut(link, "receiving from the peer: %s", strerror((int)-n));
			return;
		}
		if (n == 0) {
			tcp_link_cut(link, "the peer closed the connection");
			return;
		}
		link->received_ns = ferry_loop_now_ns(link->loop);
		link->counters.bytes_received += (uint64_t)n;
		link_digest(link);
	}
}

static void link_ready(struct ferry_watch *watch, uint32_t ready)
{
	struct tcp_link *link = FERRY_CONTAINER_OF(watch, struct tcp_link, watch);

	ferry_assert(link->state == TCP_LINK_UP);
	ferry_assert(!link->is_running);
	link->is_running = true;
	if ((ready & FERRY_WATCH_WRITE) && link->is_blocked) {
		link->is_blocked = false;
		link_watch(link);
	}
	if (ready & FERRY_WATCH_READ)
		link_receive(link);
	link_flush(link); /* The answers, too, without waiting for the task. */
	link->is_running = false;
}

static void link_task(struct ferry_task *task)
{
	struct tcp_link *link = FERRY_CONTAINER_OF(task, struct tcp_link, task);

	ferry_assert(!link->is_running);
	if (link->state == TCP_LINK_CUT) {
		tcp_link_settle(link);
		return;
	}
	link->is_running = true;
	if (link->state == TCP_LINK_UP && link->is_resuming) {
		link->is_resuming = false;
		link->is_paused = false;
		link->received_ns = ferry_loop_now_ns(link->loop); /* We did not listen. */
		link_digest(link);
		if (link->state == TCP_LINK_UP)
			link_watch(link);
	}
	link_flush(link);
	link->is_running = false;
}

static void link_tick(struct ferry_timer *timer)
{
	struct tcp_link *link = FERRY_CONTAINER_OF(timer, struct tcp_link, tick);
	uint64_t now_ns = ferry_loop_now_ns(link->loop);
	uint64_t ping_after_ns = link->dead_after_ns / 3;
	bool is_quiet;

	ferry_assert(link->state == TCP_LINK_UP);
	/* If it was we who slept (a paused machine), the peer gets the time to be heard. */
	if (now_ns - link->ticked_ns > ping_after_ns)
		link->received_ns = ferry_max_u64(link->received_ns, now_ns - 2 * ping_after_ns);
	link->ticked_ns = now_ns;
	if (!link->is_paused && now_ns - link->received_ns >= link->dead_after_ns) {
		tcp_link_cut(link, "nothing heard from node %" PRIu32 " for %" PRIu64 " ms",
			     link->link.node.v, (now_ns - link->received_ns) / FERRY_NS_PER_MS);
		return;
	}
	/* To hear of it, and to be heard by one who listens to nobody just now. */
	is_quiet = now_ns - link->received_ns >= ping_after_ns ||
		   now_ns - link->sent_ns >= ping_after_ns;
	if (is_quiet && now_ns - link->pinged_ns >= ping_after_ns)
		link_ping(link);
	ferry_timer_start_in(link->loop, &link->tick, link->dead_after_ns / LINK_TICKS);
}

void tcp_link_init(struct tcp_link *link, struct ferry_loop *loop, struct ferry_events *events,
		   const struct ferry_handshake_config *handshake, uint64_t dead_after_ns)
{
	ferry_assert(link && loop && handshake);
	*link = (struct tcp_link){
		.link = {.ops = &LINK_OPS},
		.loop = loop,
		.events = events,
		.self = handshake->self,
		.incarnation = handshake->incarnation,
		.dead_after_ns = dead_after_ns ? dead_after_ns : FERRY_TCP_DEAD_AFTER_NS,
		.state = TCP_LINK_DOWN,
		.watch = {.run = link_ready, .fd = -1},
		.task = {.run = link_task},
		.tick = {.run = link_tick},
		.ping = {.on_sent = own_message_sent},
		.pong = {.on_sent = own_message_sent},
	};
	ferry_list_init(&link->queue);
	ferry_list_init(&link->ping.link);
	ferry_list_init(&link->pong.link);
}

int tcp_link_buffer_take(struct tcp_link *link)
{
	ferry_assert(!link->buffer);
	link->buffer = malloc(FERRY_TCP_BUFFER_BYTES);
	return link->buffer ? 0 : -ENOMEM;
}

int tcp_link_secret(const struct tcp_link *link, uint8_t ret[FERRY_PROOF_BYTES])
{
	ferry_assert(link && ret);
	if (link->state != TCP_LINK_UP)
		return -ENOTCONN;
	memcpy(ret, link->secret, sizeof(link->secret));
	return 0;
}

void tcp_link_adopt(struct tcp_link *link, int fd, struct tcp_greeting *greeting)
{
	struct ferry_incarnation incarnation = greeting->handshake.peer_incarnation;
	uint64_t now_ns = ferry_loop_now_ns(link->loop);
	char text[FERRY_EVENT_TEXT_MAX];
	int r;

	ferry_assert(link->state == TCP_LINK_DOWN && fd >= 0);
	ferry_assert(link->link.on_up && link->link.on_down && link->link.on_message);
	ferry_assert(link->link.on_payload && link->link.on_payload_dropped);
	ferry_assert(ferry_list_is_empty(&link->queue) && link->buffer);
	tcp_socket_tune(fd, link->dead_after_ns);
	link->watch.fd = fd;
	link->link.node = greeting->handshake.peer;
	link->peer_incarnation = incarnation;
	link->up_ns = link->received_ns = link->sent_ns = now_ns;
	link->pinged_ns = link->ticked_ns = now_ns;
	link->is_blocked = link->is_paused = link->is_resuming = link->has_header = false;
	link->buffer_start = link->buffer_end = 0;
	link->payload_bytes = 0;
	link->features = greeting->handshake.features;
	r = ferry_handshake_secret(&greeting->handshake, link->secret);
	link->segments = (struct ferry_segments){};
	link->readahead_bytes = FERRY_TCP_BUFFER_BYTES;
	link->state = TCP_LINK_UP;
	link->link.is_up = true;
	link->counters.ups++;
	ferry_timer_start_in(link->loop, &link->tick, link->dead_after_ns / LINK_TICKS);
	(void)snprintf(text, sizeof(text), "%s, incarnation %" PRIu64, greeting->name,
		       incarnation.v);
	link_event(link, FERRY_SEVERITY_NOTICE, "up", text);
	link_watch(link);
	link->is_running = true;
	link->link.on_up(&link->link, incarnation);
	link->is_running = false;
	if (r < 0)
		tcp_link_cut(link, "no digest: %s", strerror(-r));
}

void tcp_link_done(struct tcp_link *link)
{
	ferry_assert(link->state == TCP_LINK_DOWN);
	ferry_assert(!link->is_running && link->queue_count == 0);
	ferry_task_cancel(link->loop, &link->task);
	ferry_timer_stop(link->loop, &link->tick);
	free(link->buffer);
	link->buffer = NULL;
}

void tcp_counters_add(struct ferry_tcp_counters *sum, const struct ferry_tcp_counters *counters)
{
	ferry_assert(sum && counters);
	sum->messages_sent += counters->messages_sent;
	sum->messages_received += counters->messages_received;
	sum->bytes_sent += counters->bytes_sent;
	sum->bytes_received += counters->bytes_received;
	sum->bytes_copied += counters->bytes_copied;
	sum->ups += counters->ups;
	sum->downs += counters->downs;
	sum->refusals += counters->refusals;
}
