#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "agent/adapters/verbs/room.h"
#include "agent/base/checksum.h"

enum { LINK_TICKS = 12 }; /* How often it is looked at within dead_after. */

static struct ferry_loop *loop_of(const struct verbs_link *link)
{
	return link->verbs->config.loop;
}

static void link_event(struct verbs_link *link, enum ferry_severity severity, const char *from,
		       const char *to, const char *why)
{
	struct ferry_event event = {
		.kind = FERRY_EVENT_PEER,
		.severity = severity,
		.time_ns = ferry_loop_now_ns(loop_of(link)),
		.node = link->link.node,
		.value = link->peer.incarnation.v,
	};

	(void)snprintf(event.from, sizeof(event.from), "%s", from);
	(void)snprintf(event.to, sizeof(event.to), "%s", to);
	ferry_event_emit(link->verbs->config.events, event, "RDMA: %s", why);
}

/* ---- The queue pair. ---- */

int verbs_link_arm(struct verbs_link *link, struct rdma_cm_id *id)
{
	const struct ferry_verbs *verbs = link->verbs;
	struct ibv_qp_init_attr attr = {
		.send_cq = verbs->cq,
		.recv_cq = verbs->cq,
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = VERBS_SQ_MAX,
			.max_recv_wr = VERBS_IN_MAX,
			.max_send_sge = verbs->sge_max,
			.max_recv_sge = 1},
	};
	int r = 0;

	ferry_assert(link->state == VERBS_LINK_DOWN || link->state == VERBS_LINK_GREETING);
	ferry_assert(!link->id || link->id == id);
	link->id = id;
	id->context = link;
	if (rdma_create_qp(id, verbs->pd, &attr) < 0)
		return -errno;
	link->sq_used = 0;
	link->order_first = link->order_count = link->order_begun = 0;
	link->credits_owed = 0;
	link->credits = link->credits_all = 0;
	link->taken = link->offers_taken = 0;
	link->is_paused = false;
	memset(link->rooms_out, 0, sizeof(link->rooms_out));
	memset(link->rooms_in, 0, sizeof(link->rooms_in));
	for (uint32_t i = 0; i < VERBS_IN_MAX && r == 0; i++)
		r = verbs_receive_post(link, i);
	return r;
}

/*
 * Its key is dead; or nobody gets its memory before it is, and the window is tried again each time
 * the link has fallen. Destroying the queue pair alone would not do: its number may be another's.
 */
static void window_close(struct verbs_link *link, struct verbs_window *window)
{
	const struct ferry_segments memory = {
		.v = {window->memory}, .count = 1, .length_bytes = window->memory.length_bytes};
	char text[FERRY_EVENT_TEXT_MAX];
	int r = ibv_dealloc_mw(window->mw);

	window->is_bound = false;
	if (r == 0 || r == EIO) { /* EIO: the kernel took the device away, and every key with it. */
		ferry_segments_drop(&window->stuck);
		window->mw = ibv_alloc_mw(link->verbs->pd, IBV_MW_TYPE_2);
		return;
	}
	if (window->stuck.count > 0)
		return; /* It has been said. */
	ferry_segments_share(&memory, &window->stuck);
	(void)snprintf(text, sizeof(text),
		       "a memory window cannot be closed (%s): %u bytes are used for nothing else",
		       strerror(r), window->memory.length_bytes);
	link_event(link, FERRY_SEVERITY_ERROR, "", "", text);
}

/*
 * Rule 9. A window that was open is deallocated: its key is dead, whatever the peer still sends.
 * Then the queue pair is destroyed, which ends what it was working on. Both calls return when the
 * kernel has seen to it, so no later completion is waited for; those that are still in the queue
 * bear an old generation.
 */
void verbs_link_disarm(struct verbs_link *link)
{
	struct rdma_cm_id *id = link->id;

	if (!id)
		return;
	for (uint32_t i = 0; i < FERRY_VERBS_WINDOWS; i++)
		if (link->windows[i].is_bound)
			window_close(link, &link->windows[i]);
	if (id->qp)
		rdma_destroy_qp(id);
	(void)rdma_destroy_id(id); /* Of a closed connection: there is nothing to do about it. */
	link->id = NULL;
	link->generation++;
	verbs_poll(link->verbs); /* So that the old ones take no place in the queue. */
}

/* A place whose window could not be had again stays empty until it can. */
static void windows_count(struct verbs_link *link)
{
	link->windows_free_count = 0;
	for (uint32_t i = 0; i < FERRY_VERBS_WINDOWS; i++) {
		struct verbs_window *window = &link->windows[i];

		if (window->stuck.count > 0)
			window_close(link, window);
		if (window->stuck.count > 0)
			continue;
		if (!window->mw)
			window->mw = ibv_alloc_mw(link->verbs->pd, IBV_MW_TYPE_2);
		if (window->mw)
			link->windows_free[link->windows_free_count++] = (uint16_t)i;
	}
}

/* ---- Up and down. ---- */

void verbs_link_cut(struct verbs_link *link, const char *format, ...)
{
	va_list arguments;

	ferry_assert(link && format);
	if (link->state != VERBS_LINK_UP && link->state != VERBS_LINK_GREETING)
		return;
	va_start(arguments, format);
	(void)vsnprintf(link->why, sizeof(link->why), format, arguments);
	va_end(arguments);
	ferry_timer_stop(loop_of(link), &link->tick);
	if (link->id && link->id->qp)
		(void)rdma_disconnect(link->id); /* The peer may be gone; it is over anyhow. */
	if (link->state == VERBS_LINK_UP) {
		link->link.is_up = false;
		link->counters.downs++;
	} else {
		link->counters.refusals++;
	}
	link->state = VERBS_LINK_CUT;
	ferry_task_post(loop_of(link), &link->task);
}

void verbs_link_settle(struct verbs_link *link)
{
	bool was_up = link->up_ns != 0;

	ferry_assert(link->state == VERBS_LINK_CUT);
	ferry_assert(!link->is_running);
	ferry_task_cancel(loop_of(link), &link->task);
	verbs_link_disarm(link);
	windows_count(link);
	link->is_running = true;
	verbs_send_reset(link);
	verbs_receive_reset(link);
	if (was_up) {
		link_event(link, FERRY_SEVERITY_WARNING, "up", "down", link->why);
		link->link.on_down(&link->link, link->why);
	}
	link->is_running = false;
	link->state = VERBS_LINK_DOWN;
	/* One that falls as soon as it stands must not be raised ever again at full speed. */
	if (was_up && ferry_loop_now_ns(loop_of(link)) - link->up_ns >= FERRY_VERBS_BACKOFF_NS_MAX)
		link->backoff_ns = FERRY_VERBS_BACKOFF_NS_MIN;
	link->up_ns = 0;
	if (link->role == VERBS_LINK_CONNECTOR)
		verbs_again(link);
}

static void own_message_sent(struct ferry_message *message, enum ferry_sent sent)
{
	(void)message; /* It is out of our hands: that is all one needs to know. */
	ferry_assert(sent != 0);
}

static void link_ping(struct verbs_link *link)
{
	if (ferry_list_is_linked(&link->ping.link))
		return;
	link->pinged_ns = ferry_loop_now_ns(loop_of(link));
	link->ping.header = (struct ferry_wire_header){
		.type = FERRY_WIRE_PING,
		.node = link->verbs->config.self.node,
		.incarnation = link->verbs->config.self.incarnation,
		.sequence = ++link->ping_sequence,
	};
	verbs_enqueue(link, &link->ping);
}

static void link_tick(struct ferry_timer *timer)
{
	struct verbs_link *link = FERRY_CONTAINER_OF(timer, struct verbs_link, tick);
	uint64_t now_ns = ferry_loop_now_ns(loop_of(link));
	uint64_t dead_after_ns = link->verbs->config.dead_after_ns;
	uint64_t ping_after_ns = dead_after_ns / 3;

	if (link->state == VERBS_LINK_GREETING) {
		verbs_link_cut(link, "no connection in time");
		return;
	}
	ferry_assert(link->state == VERBS_LINK_UP);
	/* If it was we who slept (a paused machine), the peer gets the time to be heard. */
	if (now_ns - link->ticked_ns > ping_after_ns)
		link->received_ns = ferry_max_u64(link->received_ns, now_ns - 2 * ping_after_ns);
	link->ticked_ns = now_ns;
	if (!link->is_paused && now_ns - link->received_ns >= dead_after_ns) {
		verbs_link_cut(link, "nothing heard from node %" PRIu32 " for %" PRIu64 " ms",
			       link->link.node.v, (now_ns - link->received_ns) / FERRY_NS_PER_MS);
		return;
	}
	/* To hear of it, to be heard by who listens to nobody just now, and to say what was taken.
	 */
	if ((now_ns - link->received_ns >= ping_after_ns ||
	     now_ns - link->sent_ns >= ping_after_ns) &&
	    now_ns - link->pinged_ns >= ping_after_ns)
		link_ping(link);
	ferry_timer_start_in(loop_of(link), &link->tick, dead_after_ns / LINK_TICKS);
}

void verbs_link_up(struct verbs_link *link, uint32_t credits)
{
	uint64_t now_ns = ferry_loop_now_ns(loop_of(link));
	char text[FERRY_EVENT_TEXT_MAX];

	ferry_assert(link->state == VERBS_LINK_GREETING && link->id);
	ferry_assert(link->link.on_up && link->link.on_down && link->link.on_message);
	ferry_assert(link->link.on_payload && link->link.on_payload_dropped);
	ferry_assert(ferry_list_is_empty(&link->queue));
	link->credits += credits;
	link->credits_all = credits;
	link->up_ns = link->received_ns = link->sent_ns = now_ns;
	link->pinged_ns = link->ticked_ns = now_ns;
	link->why[0] = '\0';
	link->state = VERBS_LINK_UP;
	link->link.is_up = true;
	link->counters.ups++;
	ferry_timer_start_in(loop_of(link), &link->tick,
			     link->verbs->config.dead_after_ns / LINK_TICKS);
	(void)snprintf(text, sizeof(text), "incarnation %" PRIu64, link->peer.incarnation.v);
	link_event(link, FERRY_SEVERITY_NOTICE, "down", "up", text);
	link->is_running = true;
	link->link.on_up(&link->link, link->peer.incarnation);
	link->is_running = false;
	ferry_task_post(loop_of(link), &link->task); /* What came before we were told. */
}

/* Do what can be done. */
static void link_task(struct ferry_task *task)
{
	struct verbs_link *link = FERRY_CONTAINER_OF(task, struct verbs_link, task);

	ferry_assert(!link->is_running);
	link->is_touched = false;
	if (link->state == VERBS_LINK_CUT) {
		verbs_link_settle(link);
		return;
	}
	if (link->state != VERBS_LINK_UP)
		return;
	link->is_running = true;
	verbs_receive_run(link);
	verbs_flush(link);
	link->is_running = false;
}

/* ---- The port. ---- */

static int link_send(struct ferry_link *port, struct ferry_message *message)
{
	struct verbs_link *link = verbs_link_of(port);

	FERRY_ASSERT_ON_LOOP(loop_of(link));
	ferry_assert(message->on_sent);
	if (link->state != VERBS_LINK_UP)
		return -ENOTCONN;
	ferry_assert(verbs_is_registered(link->verbs, &message->segments));
	message->header.payload_crc =
		message->segments.count > 0 ? ferry_crc32c_segments(0, &message->segments) : 0;
	ferry_assert(ferry_wire_check(&message->header, NULL) == 0);
	verbs_enqueue(link, message);
	return 0;
}

static void link_resume(struct ferry_link *port)
{
	struct verbs_link *link = verbs_link_of(port);

	FERRY_ASSERT_ON_LOOP(loop_of(link));
	if (link->state != VERBS_LINK_UP || !link->is_paused)
		return;
	link->is_paused = false;
	link->received_ns = ferry_loop_now_ns(loop_of(link)); /* We did not listen. */
	ferry_task_post(loop_of(link), &link->task);
}

static void link_reset(struct ferry_link *port, const char *why)
{
	FERRY_ASSERT_ON_LOOP(loop_of(verbs_link_of(port)));
	ferry_assert(why);
	verbs_link_cut(verbs_link_of(port), "%s", why);
}

static const struct ferry_link_ops LINK_OPS = {
	.name = "rdma",
	.send = link_send,
	.resume = link_resume,
	.reset = link_reset,
};

const char *ferry_verbs_trouble(struct ferry_link *port)
{
	return port->is_up ? "" : verbs_link_of(port)->why;
}

struct ferry_verbs_counters ferry_verbs_counters(struct ferry_link *port)
{
	const struct verbs_link *link = verbs_link_of(port);
	struct ferry_verbs_counters counters = link->counters;

	counters.polls = link->verbs->polls_count;
	counters.wakeups = link->verbs->wakeups_count;
	return counters;
}

int verbs_link_init(struct verbs_link *link, struct ferry_verbs *verbs, uint16_t index,
		    uint8_t *frames)
{
	*link = (struct verbs_link){
		.link = {.ops = &LINK_OPS},
		.verbs = verbs,
		.index = index,
		.state = VERBS_LINK_DOWN,
		.task = {.run = link_task},
		.tick = {.run = link_tick},
		.backoff_ns = FERRY_VERBS_BACKOFF_NS_MIN,
		.ping = {.on_sent = own_message_sent},
		.pong = {.on_sent = own_message_sent},
	};
	ferry_list_init(&link->queue);
	ferry_list_init(&link->out_free);
	ferry_list_init(&link->offers);
	ferry_list_init(&link->closing);
	ferry_list_init(&link->ping.link);
	ferry_list_init(&link->pong.link);
	for (uint32_t i = 0; i < VERBS_IN_MAX; i++)
		link->in[i].bytes = frames + (size_t)i * VERBS_IN_BYTES;
	frames += (size_t)VERBS_IN_MAX * VERBS_IN_BYTES;
	for (uint32_t i = 0; i < FERRY_VERBS_OUT_MAX; i++) {
		link->out[i].lead = frames + (size_t)i * VERBS_OUT_BYTES;
		ferry_list_init(&link->out[i].link);
		ferry_list_append(&link->out_free, &link->out[i].link);
	}
	link->out_free_count = FERRY_VERBS_OUT_MAX;
	windows_count(link);
	return link->windows_free_count == FERRY_VERBS_WINDOWS ? 0 : -ENOMEM;
}

void verbs_link_done(struct verbs_link *link)
{
	ferry_assert(link->state == VERBS_LINK_DOWN && !link->id);
	link->is_touched = false; /* Others' ends look at the queue, too. */
	ferry_task_cancel(loop_of(link), &link->task);
	ferry_timer_stop(loop_of(link), &link->tick);
	ferry_timer_stop(loop_of(link), &link->again);
	for (uint32_t i = 0; i < FERRY_VERBS_WINDOWS; i++)
		if (link->windows[i].mw && ibv_dealloc_mw(link->windows[i].mw) == 0)
			ferry_segments_drop(&link->windows[i].stuck); /* Or it stays nobody's. */
}
