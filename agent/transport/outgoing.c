#include "agent/transport/transport.h"

static struct ferry_outgoing *outgoing_of(struct ferry_link *port)
{
	return FERRY_CONTAINER_OF(port, struct ferry_outgoing, link);
}

static bool is_request(const struct ferry_wire_header *header)
{
	return header->type == FERRY_WIRE_REQUEST || header->type == FERRY_WIRE_LAY ||
	       header->type == FERRY_WIRE_WARM;
}

/* ---- What was asked by TCP and is not answered. ---- */

static uint64_t *asked_slot(struct ferry_outgoing *outgoing, uint64_t sequence)
{
	return &outgoing->asked[sequence % FERRY_WIRE_WINDOW_MAX];
}

static void asked_note(struct ferry_outgoing *outgoing, const struct ferry_wire_header *header)
{
	uint64_t *slot = asked_slot(outgoing, header->sequence);

	if (!is_request(header))
		return;
	outgoing->asked_count += *slot == 0; /* One that was given up may have had the place. */
	*slot = header->sequence;
}

static void asked_forget(struct ferry_outgoing *outgoing, uint64_t sequence)
{
	uint64_t *slot = asked_slot(outgoing, sequence);

	if (sequence == 0 || *slot != sequence)
		return;
	ferry_assert(outgoing->asked_count > 0);
	*slot = 0;
	outgoing->asked_count--;
}

static void asked_forget_all(struct ferry_outgoing *outgoing)
{
	memset(outgoing->asked, 0, sizeof(outgoing->asked));
	outgoing->asked_count = 0;
}

/* ---- Sending. ---- */

static int message_send(struct ferry_outgoing *outgoing, struct ferry_message *message)
{
	int r = outgoing->current ? ferry_link_send(outgoing->current, message) : -ENOTCONN;

	if (r == 0 && outgoing->current == outgoing->config.tcp)
		asked_note(outgoing, &message->header);
	return r;
}

/* What was held goes by whatever carries now. Not from inside a call. */
static void held_send(struct ferry_outgoing *outgoing)
{
	struct ferry_list *entry;

	outgoing->is_holding = false;
	ferry_timer_stop(outgoing->config.loop, &outgoing->timer);
	while ((entry = ferry_list_pop(&outgoing->held))) {
		struct ferry_message *message = ferry_list_entry(entry, struct ferry_message, link);

		if (message_send(outgoing, message) < 0)
			message->on_sent(message, FERRY_SENT_NOTHING);
	}
}

static int port_send(struct ferry_link *port, struct ferry_message *message)
{
	struct ferry_outgoing *outgoing = outgoing_of(port);

	FERRY_ASSERT_ON_LOOP(outgoing->config.loop);
	if (!outgoing->is_holding)
		return message_send(outgoing, message);
	message->sent_bytes = 0;
	ferry_list_append(&outgoing->held, &message->link);
	return 0;
}

static void port_resume(struct ferry_link *port)
{
	struct ferry_outgoing *outgoing = outgoing_of(port);

	if (outgoing->current)
		outgoing->current->ops->resume(outgoing->current);
}

static void port_reset(struct ferry_link *port, const char *why)
{
	struct ferry_outgoing *outgoing = outgoing_of(port);

	if (outgoing->current)
		outgoing->current->ops->reset(outgoing->current, why);
}

/* Whoever tells of the link tells which it is. */
static const struct ferry_link_ops BY_TCP = {
	.name = "tcp",
	.send = port_send,
	.resume = port_resume,
	.reset = port_reset,
};
static const struct ferry_link_ops BY_RDMA = {
	.name = "rdma",
	.send = port_send,
	.resume = port_resume,
	.reset = port_reset,
};

/* ---- Which one carries. ---- */

static void current_set(struct ferry_outgoing *outgoing, struct ferry_link *link)
{
	outgoing->current = link;
	outgoing->carries_since_ns = ferry_loop_now_ns(outgoing->config.loop);
	outgoing->link.ops = link == outgoing->config.rdma ? &BY_RDMA : &BY_TCP;
}

/* From none. */
static void carry_by(struct ferry_outgoing *outgoing, struct ferry_link *link)
{
	ferry_assert(!outgoing->current && link->is_up);
	current_set(outgoing, link);
	outgoing->link.is_up = true;
	outgoing->link.on_up(&outgoing->link, outgoing->incarnation);
}

/* It went down; each of its on_sent() has run. */
static void leave(struct ferry_outgoing *outgoing, const char *why)
{
	outgoing->current = NULL;
	outgoing->link.is_up = false;
	outgoing->link.on_down(&outgoing->link, why);
}

static void rest(struct ferry_outgoing *outgoing)
{
	outgoing->rested_at_ns = ferry_loop_now_ns(outgoing->config.loop) + outgoing->rest_ns;
	outgoing->rest_ns = ferry_min_u64(2 * outgoing->rest_ns, FERRY_TRANSPORT_REST_NS_MAX);
}

/* Nothing that was asked by TCP is on its way: the core sees no change. */
static void go_to_rdma(struct ferry_outgoing *outgoing)
{
	struct ferry_event event = {.kind = FERRY_EVENT_PEER,
				    .severity = FERRY_SEVERITY_NOTICE,
				    .node = outgoing->link.node,
				    .from = "tcp",
				    .to = "rdma"};

	ferry_assert(outgoing->asked_count == 0 && outgoing->link.is_up);
	event.time_ns = ferry_loop_now_ns(outgoing->config.loop);
	ferry_event_emit(outgoing->config.events, event, "RDMA carries from here on");
	current_set(outgoing, outgoing->config.rdma);
	held_send(outgoing);
}

/* From TCP to RDMA, as soon as may be. */
static void rdma_consider(struct ferry_outgoing *outgoing)
{
	struct ferry_loop *loop = outgoing->config.loop;

	if (!outgoing->config.rdma || !outgoing->config.rdma->is_up ||
	    outgoing->current != outgoing->config.tcp || !outgoing->link.is_up)
		return;
	if (ferry_loop_now_ns(loop) < outgoing->rested_at_ns) {
		ferry_timer_start(loop, &outgoing->timer, outgoing->rested_at_ns);
	} else if (outgoing->asked_count == 0) {
		go_to_rdma(outgoing);
	} else if (!outgoing->is_holding) {
		outgoing->is_holding = true;
		ferry_timer_start_in(loop, &outgoing->timer, FERRY_TRANSPORT_HOLD_NS);
	}
}

static void timer_run(struct ferry_timer *timer)
{
	struct ferry_outgoing *outgoing = FERRY_CONTAINER_OF(timer, struct ferry_outgoing, timer);

	if (outgoing->is_holding) { /* Something takes long there: another time. */
		rest(outgoing);
		held_send(outgoing);
	}
	rdma_consider(outgoing);
}

/* ---- TCP. ---- */

static void tcp_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct ferry_outgoing *outgoing = link->context;

	ferry_assert(!outgoing->is_tcp_up && outgoing->asked_count == 0);
	outgoing->is_tcp_up = true;
	outgoing->incarnation = incarnation;
	/* What the connection before had vouched for is cut; it may not have said so yet. */
	if (!outgoing->current && !outgoing->config.is_rdma_only)
		carry_by(outgoing, link);
	if (outgoing->config.rdma)
		outgoing->config.raise(outgoing->config.context, /* is_wanted= */ true);
}

static void tcp_down(struct ferry_link *link, const char *why)
{
	struct ferry_outgoing *outgoing = link->context;

	outgoing->is_tcp_up = false;
	asked_forget_all(outgoing);
	if (outgoing->config.rdma)
		outgoing->config.raise(outgoing->config.context, /* is_wanted= */ false);
	if (outgoing->current != link)
		return; /* RDMA's own end follows. */
	outgoing->current = NULL;
	held_send(outgoing); /* Each learns that nothing of it has left. */
	leave(outgoing, why);
}

/* ---- RDMA. ---- */

static void rdma_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct ferry_outgoing *outgoing = link->context;

	if (!outgoing->is_tcp_up || incarnation.v != outgoing->incarnation.v)
		link->ops->reset(link, "no TCP connection vouches for it any more");
	else if (!outgoing->current)
		carry_by(outgoing, link);
	else
		rdma_consider(outgoing);
}

static void rdma_down(struct ferry_link *link, const char *why)
{
	struct ferry_outgoing *outgoing = link->context;
	uint64_t now_ns = ferry_loop_now_ns(outgoing->config.loop);

	if (outgoing->current != link) {
		held_send(outgoing);
		return;
	}
	if (now_ns - outgoing->carries_since_ns >= FERRY_TRANSPORT_TRUST_NS)
		outgoing->rest_ns = FERRY_TRANSPORT_REST_NS_MIN;
	if (outgoing->is_tcp_up) /* Else it fell with that, for no fault of its own. */
		rest(outgoing);
	leave(outgoing, why);
	if (outgoing->is_tcp_up && !outgoing->config.is_rdma_only && outgoing->config.tcp->is_up)
		carry_by(outgoing, outgoing->config.tcp);
}

/* ---- Answers: by either. ---- */

static int either_payload(struct ferry_link *link, const struct ferry_wire_header *header,
			  struct ferry_segments *ret)
{
	struct ferry_outgoing *outgoing = link->context;

	return outgoing->link.on_payload(&outgoing->link, header, ret);
}

static void either_payload_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
				   struct ferry_segments *segments)
{
	struct ferry_outgoing *outgoing = link->context;

	outgoing->link.on_payload_dropped(&outgoing->link, header, segments);
}

static void either_message(struct ferry_link *link, const struct ferry_wire_header *header,
			   struct ferry_segments *segments)
{
	struct ferry_outgoing *outgoing = link->context;

	if (link == outgoing->config.tcp)
		asked_forget(outgoing, header->sequence);
	outgoing->link.on_message(&outgoing->link, header, segments);
	if (outgoing->is_holding && outgoing->asked_count == 0)
		rdma_consider(outgoing);
}

/* ---- Opening. ---- */

static void callbacks_set(struct ferry_outgoing *outgoing, struct ferry_link *link)
{
	bool is_tcp = link == outgoing->config.tcp;

	link->on_up = is_tcp ? tcp_up : rdma_up;
	link->on_down = is_tcp ? tcp_down : rdma_down;
	link->on_payload = either_payload;
	link->on_payload_dropped = either_payload_dropped;
	link->on_message = either_message;
	link->context = outgoing;
}

void ferry_outgoing_init(struct ferry_outgoing *outgoing,
			 const struct ferry_outgoing_config *config)
{
	ferry_assert(outgoing && config->loop && config->tcp);
	ferry_assert(!config->rdma || config->raise);
	ferry_assert(config->rdma || !config->is_rdma_only);
	*outgoing = (struct ferry_outgoing){
		.link = {.ops = &BY_TCP, .node = config->tcp->node},
		.config = *config,
		.timer = {.run = timer_run},
		.rest_ns = FERRY_TRANSPORT_REST_NS_MIN,
	};
	ferry_list_init(&outgoing->held);
	callbacks_set(outgoing, config->tcp);
	if (config->rdma)
		callbacks_set(outgoing, config->rdma);
}

bool ferry_outgoing_is_rdma(const struct ferry_outgoing *outgoing)
{
	return outgoing->current && outgoing->current == outgoing->config.rdma;
}

void ferry_outgoing_done(struct ferry_outgoing *outgoing)
{
	ferry_assert(!outgoing->current && ferry_list_is_empty(&outgoing->held));
	ferry_timer_stop(outgoing->config.loop, &outgoing->timer);
}
