#include "tests/sim/sim_link.h"

#include <inttypes.h>
#include <stdlib.h>

#include "agent/base/checksum.h"
#include "tests/sim/sim_path.h"

#define WATCH_NS (150 * FERRY_NS_PER_MS)
#define SILENCE_NS_MAX (600 * FERRY_NS_PER_MS)
#define MOVE_AGAIN_NS (10 * FERRY_NS_PER_MS)

static struct sim_link *of(struct ferry_link *link)
{
	return FERRY_CONTAINER_OF(link, struct sim_link, link);
}

static uint64_t latency_ns(struct sim_net *net)
{
	return net->delay_ns +
	       sim_between(net->sim, SIM_NETWORK, 5 * FERRY_NS_PER_US, net->latency_ns_max);
}

void sim_net_init(struct sim_net *net, struct sim *sim)
{
	*net = (struct sim_net){
		.sim = sim, .latency_ns_max = 200 * FERRY_NS_PER_US, .reconnect_ns = WATCH_NS};
	ferry_list_init(&net->conns);
}

static bool is_cut_between(const struct sim_net *net, uint32_t a, uint32_t b)
{
	return net->is_cut[a][b] || net->is_cut[b][a];
}

/* ---- Connections. ---- */

static void packet_free(struct sim_packet *packet)
{
	ferry_list_remove(&packet->link);
	sim_rdma_cut(packet);
	free(packet->payload);
	free(packet);
}

static void direction_empty(struct sim_direction *direction)
{
	while (!ferry_list_is_empty(&direction->packets))
		packet_free(ferry_list_entry(direction->packets.next, struct sim_packet, link));
	direction->packets_count = 0;
	sim_input_cancel(&direction->input);
	sim_cancel(direction->conn->net->sim, &direction->move_event);
}

static void conn_free(struct sim_conn *conn)
{
	for (int i = 0; i < 2; i++)
		direction_empty(&conn->directions[i]);
	sim_input_cancel(&conn->accept_input);
	sim_input_cancel(&conn->up_input);
	ferry_list_remove(&conn->link);
	free(conn);
}

void sim_net_done(struct sim_net *net)
{
	while (!ferry_list_is_empty(&net->conns))
		conn_free(ferry_list_entry(net->conns.next, struct sim_conn, link));
}

static void direction_kick(struct sim_direction *direction)
{
	struct sim_net *net = direction->conn->net;
	const struct sim_packet *packet;

	if (ferry_list_is_empty(&direction->packets) || direction->is_closed ||
	    direction->is_paused || direction->is_receiving ||
	    sim_input_is_due(&direction->input) || sim_is_due(&direction->move_event) ||
	    net->is_cut[direction->conn->nodes[!direction->to]]
		       [direction->conn->nodes[direction->to]])
		return;
	packet = ferry_list_entry(direction->packets.next, struct sim_packet, link);
	if (packet->is_by_rdma && direction->to == 0 && !packet->is_moved)
		sim_at(net->sim, &direction->move_event,
		       ferry_max_u64(packet->arrives_ns, net->sim->now_ns) +
			       sim_rdma_move_ns(&net->rdma));
	else
		sim_input_at(&direction->input,
			     ferry_max_u64(packet->arrives_ns, net->sim->now_ns));
}

/* Data by RDMA, as soon as the network lets it through. */
static void move_run(struct sim_event *event)
{
	struct sim_direction *direction =
		FERRY_CONTAINER_OF(event, struct sim_direction, move_event);
	const struct sim_conn *conn = direction->conn;
	struct sim_packet *packet =
		ferry_list_entry(direction->packets.next, struct sim_packet, link);

	ferry_assert(!ferry_list_is_empty(&direction->packets) && packet->is_by_rdma);
	if (is_cut_between(conn->net, conn->nodes[0], conn->nodes[1])) {
		sim_in(conn->net->sim, event, MOVE_AGAIN_NS);
		return;
	}
	(void)sim_rdma_move(packet); /* packet_end() looks whether it was. */
	sim_input_in(&direction->input, 0);
}

void sim_net_cut(struct sim_net *net, uint32_t from, uint32_t to, bool is_cut)
{
	net->is_cut[from][to] = is_cut;
	ferry_list_foreach (link, &net->conns) {
		struct sim_conn *conn = ferry_list_entry(link, struct sim_conn, link);

		for (int i = 0; i < 2; i++)
			direction_kick(&conn->directions[i]);
	}
}

static struct sim_packet *packet_append(struct sim_direction *direction)
{
	struct sim_packet *packet = sim_alloc(sizeof(*packet));
	struct sim_net *net = direction->conn->net;

	packet->arrives_ns = net->sim->now_ns + latency_ns(net);
	ferry_list_init(&packet->link);
	ferry_list_append(&direction->packets, &packet->link);
	direction->packets_count++;
	return packet;
}

/* One end lets go; the other hears of it when it can. */
static void conn_close(struct sim_conn *conn, int end, bool is_silent)
{
	struct sim_direction *out = &conn->directions[!end];

	if (end == 1) /* The answers' data is in its memory. */
		ferry_list_foreach (entry, &out->packets)
			sim_rdma_capture(ferry_list_entry(entry, struct sim_packet, link));
	conn->ends[end] = NULL;
	conn->directions[end].is_closed = true;
	direction_empty(&conn->directions[end]);
	sim_input_disown(&conn->directions[end].input);
	sim_input_disown(end == 0 ? &conn->up_input : &conn->accept_input);
	if (!conn->ends[!end]) {
		conn_free(conn);
		return;
	}
	if (is_silent) {
		direction_empty(out);
		return;
	}
	/* A reset throws away what is under way; an orderly end comes after it. */
	if (sim_chance(conn->net->sim, SIM_NETWORK, 500) && !out->is_receiving)
		direction_empty(out);
	packet_append(out)->is_end = true;
	direction_kick(out);
}

/* ---- One end goes down. ---- */

static void link_free(struct sim_link *link)
{
	sim_input_cancel(&link->send_input);
	sim_input_cancel(&link->watch_input);
	sim_input_cancel(&link->down_input);
	ferry_list_remove(&link->in_transport);
	if (!link->is_connector)
		free(link);
}

static void down_run(struct sim_input *input)
{
	struct sim_link *link = FERRY_CONTAINER_OF(input, struct sim_link, down_input);
	struct ferry_list *entry;
	bool is_first = true;

	sim_rdma_down(link);
	while ((entry = ferry_list_pop(&link->sending))) {
		struct ferry_message *message = ferry_list_entry(entry, struct ferry_message, link);

		message->on_sent(message, is_first ? FERRY_SENT_UNSURE : FERRY_SENT_NOTHING);
		is_first = false;
	}
	if (link->has_dropped)
		link->link.on_payload_dropped(&link->link, &link->dropped_header, &link->dropped);
	link->has_dropped = false;
	link->is_going_down = false;
	link->link.on_down(&link->link, "the connection is gone");
	if (link->is_connector)
		sim_input_in(&link->watch_input, link->transport->net->reconnect_ns);
	else
		link_free(link);
}

static void payload_drop(struct sim_link *link)
{
	struct sim_direction *in = &link->conn->directions[link->end];

	if (!in->is_receiving)
		return;
	in->is_receiving = false;
	link->has_dropped = true; /* Told from a fresh stack. */
	link->dropped_header = in->header;
	link->dropped = in->receiving;
}

/* Whether the message is on its way, and done with: else its memory is still open to the peer. */
static bool packet_make(struct sim_link *link, struct ferry_message *message)
{
	struct sim_packet *packet = packet_append(&link->conn->directions[!link->end]);
	bool is_held;

	ferry_wire_encode(&message->header, packet->header);
	packet->payload_bytes = message->segments.length_bytes;
	link->transport->net->messages++;
	is_held = sim_rdma_hold(link, message, packet);
	packet->is_by_rdma = packet->from != NULL;
	if (packet->payload_bytes > 0 && !packet->is_by_rdma) {
		packet->payload = sim_alloc(packet->payload_bytes);
		ferry_segments_read(&message->segments, 0, packet->payload, packet->payload_bytes);
	}
	return !is_held;
}

/* Of the message that was being sent, the whole may have left. */
static void send_last(struct sim_link *link)
{
	struct ferry_message *message;

	if (ferry_list_is_empty(&link->sending) ||
	    !sim_chance(link->transport->net->sim, SIM_NETWORK, 500))
		return;
	message = ferry_list_entry(link->sending.next, struct ferry_message, link);
	ferry_list_remove(&message->link);
	if (packet_make(link, message)) /* It is not told before the others. */
		ferry_list_prepend(&link->sending, &message->link);
}

static void link_cut_off(struct sim_link *link, bool is_silent)
{
	struct sim *sim = link->transport->net->sim;
	uint64_t death_ns;

	if (!link->conn)
		return;
	if (!link->link.is_up) { /* It was only trying. */
		conn_close(TAKE_PTR(link->conn), link->end, /* is_silent= */ false);
		sim_input_in(&link->watch_input, link->transport->net->reconnect_ns);
		return;
	}
	sim_note(sim, SIM_LINK, link->transport->node, link->link.node.v, "%s n%u is down",
		 link->is_connector ? "link to" : "link from", link->link.node.v);
	link->link.is_up = false;
	link->is_going_down = true;
	sim_input_cancel(&link->send_input);
	sim_input_cancel(&link->watch_input);
	send_last(link);
	payload_drop(link);
	death_ns = link->conn->is_rdma ? sim_rdma_death_ns(&link->transport->net->rdma) : 0;
	conn_close(TAKE_PTR(link->conn), link->end, is_silent);
	sim_input_in(&link->down_input, death_ns);
}

static void link_drop(struct sim_link *link)
{
	link_cut_off(link, /* is_silent= */ false);
}

void sim_net_half_open(struct sim_net *net, uint32_t node, uint32_t other)
{
	struct sim_transport *transport = net->transports[node];

	if (!transport)
		return;
	ferry_list_foreach_safe (entry, &transport->links) {
		struct sim_link *link = ferry_list_entry(entry, struct sim_link, in_transport);

		if (link->link.node.v == other)
			link_cut_off(link, /* is_silent= */ true);
	}
}

void sim_net_break(struct sim_net *net, uint32_t node)
{
	sim_note(net->sim, SIM_FAULT, node, 15, "its connections break");
	ferry_list_foreach_safe (link, &net->transports[node]->links)
		link_drop(ferry_list_entry(link, struct sim_link, in_transport));
}

/* ---- Sending. ---- */

static void send_soon(struct sim_link *link)
{
	if (!ferry_list_is_empty(&link->sending) && link->conn &&
	    !sim_input_is_due(&link->send_input) &&
	    link->conn->directions[!link->end].packets_count < SIM_LINK_PACKETS_MAX)
		sim_input_in(&link->send_input, sim_below(link->transport->net->sim, SIM_NETWORK,
							  20 * FERRY_NS_PER_US));
}

/* The connection breaks when something has been done, and he who asked for it does not hear. */
static bool breaks_at(struct sim_link *link, const struct ferry_message *message)
{
	struct sim_net *net = link->transport->net;

	if (message->header.type != FERRY_WIRE_REPLY &&
	    message->header.type != FERRY_WIRE_LAY_REPLY)
		return false;
	return net->fragile_per_mille > 0 &&
	       sim_chance(net->sim, SIM_NETWORK, net->fragile_per_mille);
}

static void send_run(struct sim_input *input)
{
	struct sim_link *link = FERRY_CONTAINER_OF(input, struct sim_link, send_input);
	struct ferry_list *entry = link->sending.next;
	struct ferry_message *message;
	struct ferry_segments segments;
	bool is_done;

	ferry_assert(!ferry_list_is_empty(&link->sending) && link->conn);
	message = ferry_list_entry(entry, struct ferry_message, link);
	if (breaks_at(link, message)) {
		link_drop(link);
		return;
	}
	ferry_list_remove(entry);
	is_done = packet_make(link, message);
	direction_kick(&link->conn->directions[!link->end]);
	segments = message->segments;
	if (is_done) {
		message->on_sent(message, FERRY_SENT_WHOLE);
		sim_poison(&segments);
	}
	send_soon(link);
}

static int link_send(struct ferry_link *link, struct ferry_message *message)
{
	struct sim_link *self = of(link);

	if (self->is_going_down || !self->conn)
		return -ENOTCONN;
	/* Kept when it is sent again: then, too, it has to bring what it brought before. */
	if (message->segments.count > 0 && message->header.payload_crc == 0)
		message->header.payload_crc = ferry_crc32c_segments(0, &message->segments);
	ferry_list_init(&message->link);
	ferry_list_append(&self->sending, &message->link);
	send_soon(self);
	return 0;
}

/* ---- Receiving. ---- */

static void packet_done(struct sim_direction *direction)
{
	struct sim_link *sender = direction->conn->ends[!direction->to];

	packet_free(ferry_list_entry(direction->packets.next, struct sim_packet, link));
	direction->packets_count--;
	direction_kick(direction);
	if (sender && sender->link.is_up)
		send_soon(sender);
}

static const char *type_name(enum ferry_wire_type type)
{
	static const char *const names[] = {
		[FERRY_WIRE_REQUEST] = "REQUEST", [FERRY_WIRE_REPLY] = "REPLY",
		[FERRY_WIRE_LAY] = "LAY",	  [FERRY_WIRE_LAY_REPLY] = "LAY_REPLY",
		[FERRY_WIRE_PING] = "PING",	  [FERRY_WIRE_PONG] = "PONG",
		[FERRY_WIRE_WARM] = "WARM",	  [FERRY_WIRE_WARM_REPLY] = "WARM_REPLY",
	};

	ferry_assert((size_t)type < FERRY_ARRAY_COUNT(names));
	return names[type];
}

/* The room for it is the asker's again before it hears. */
static void answer_heed(struct sim_link *link, const struct ferry_wire_header *header)
{
	const struct sim_net *net = link->transport->net;

	if (!link->is_connector)
		return;
	sim_rdma_answered(link, header->sequence);
	if (net->on_answer)
		net->on_answer(net->context, link->transport->node, link->link.node.v, header);
}

/* The header is here; a payload is given its place first and is complete a little later. */
static void packet_begin(struct sim_link *link, struct sim_direction *direction,
			 const struct sim_packet *packet)
{
	struct sim *sim = link->transport->net->sim;
	struct ferry_segments none = {0};
	struct ferry_wire_header header;
	int r = ferry_wire_decode(packet->header, &header, NULL);

	ferry_assert(r == 0);
	ferry_assert(header.payload_bytes == packet->payload_bytes);
	sim_note(sim, SIM_LINK, link->transport->node, header.sequence,
		 "from n%u: %s %" PRIu64 ", epoch %" PRIu64 ", op %u, outcome %u, cause %u",
		 link->link.node.v, type_name(header.type), header.sequence, header.epoch.v,
		 header.op, header.outcome, header.cause);
	if (packet->payload_bytes == 0) {
		packet_done(direction);
		answer_heed(link, &header);
		link->link.on_message(&link->link, &header, &none);
		return;
	}
	direction->receiving = none;
	r = link->link.on_payload(&link->link, &header, &direction->receiving);
	if (r == -ENOBUFS) {
		direction->is_paused = true;
		return;
	}
	if (r < 0) {
		/* Here every agent keeps to the protocol. */
		sim_violation(sim, link->transport->node, "%s %" PRIu64 " is refused: %d",
			      type_name(header.type), header.sequence, r);
		link_drop(link);
		return;
	}
	ferry_assert(direction->receiving.length_bytes == packet->payload_bytes);
	direction->header = header;
	direction->is_receiving = true;
	if (packet->is_by_rdma && !packet->is_moved)
		sim_in(sim, &direction->move_event, sim_rdma_move_ns(&link->transport->net->rdma));
	else
		sim_input_in(&direction->input, sim_below(sim, SIM_NETWORK, 20 * FERRY_NS_PER_US));
}

static void packet_end(struct sim_link *link, struct sim_direction *direction,
		       const struct sim_packet *packet)
{
	struct ferry_segments segments = direction->receiving;
	struct ferry_wire_header header = direction->header;

	if (!packet->payload) { /* Where it was to be read, the keys are dead. */
		link_drop(link);
		return;
	}
	/* An answer by RDMA lies there already. */
	if (!packet->is_by_rdma || direction->to == 1)
		ferry_segments_write(&segments, 0, packet->payload, packet->payload_bytes);
	if (ferry_crc32c_segments(0, &segments) != header.payload_crc)
		sim_violation(link->transport->net->sim, link->transport->node,
			      "%s %" PRIu64 " brings other data than was sent",
			      type_name(header.type), header.sequence);
	direction->is_receiving = false;
	packet_done(direction);
	answer_heed(link, &header);
	link->link.on_message(&link->link, &header, &segments);
}

static void receive_run(struct sim_input *input)
{
	struct sim_direction *direction = FERRY_CONTAINER_OF(input, struct sim_direction, input);
	struct sim_link *link = direction->conn->ends[direction->to];
	const struct sim_packet *packet;

	ferry_assert(link && !ferry_list_is_empty(&direction->packets));
	packet = ferry_list_entry(direction->packets.next, struct sim_packet, link);
	if (packet->is_end)
		link_drop(link);
	else if (!link->link.is_up)
		return; /* Being set up; up_run() kicks. */
	else if (direction->is_receiving)
		packet_end(link, direction, packet);
	else
		packet_begin(link, direction, packet);
}

static void link_resume(struct ferry_link *link)
{
	struct sim_link *self = of(link);

	if (!self->conn)
		return;
	self->conn->directions[self->end].is_paused = false;
	direction_kick(&self->conn->directions[self->end]);
}

static void link_reset(struct ferry_link *link, const char *why)
{
	struct sim_link *self = of(link);

	sim_note(self->transport->net->sim, SIM_LINK, self->transport->node, link->node.v,
		 "reset of the link with n%u: %s", link->node.v, why);
	link_drop(self);
}

static const struct ferry_link_ops sim_link_ops = {
	.name = "sim",
	.send = link_send,
	.resume = link_resume,
	.reset = link_reset,
};

/* ---- Connecting and keeping alive. ---- */

static bool can_connect(struct sim_transport *from, struct sim_transport *to)
{
	return to && !is_cut_between(from->net, from->node, to->node) && !to->loop->is_frozen &&
	       from->is_member(from, to->node);
}

static void watch_run(struct sim_input *input);

static void link_init(struct sim_link *link, struct sim_transport *transport, uint32_t node,
		      bool is_connector)
{
	*link = (struct sim_link){
		.link = {.ops = &sim_link_ops, .node = {node}},
		.transport = transport,
		.is_connector = is_connector,
		.end = is_connector ? 0 : 1,
	};
	ferry_list_init(&link->sending);
	ferry_list_init(&link->holds);
	ferry_list_init(&link->in_transport);
	ferry_list_append(&transport->links, &link->in_transport);
	sim_input_init(&link->send_input, transport->loop, SIM_LINK, send_run);
	sim_input_init(&link->watch_input, transport->loop, SIM_LINK, watch_run);
	sim_input_init(&link->down_input, transport->loop, SIM_LINK, down_run);
}

static void up_run(struct sim_input *input)
{
	struct sim_conn *conn = FERRY_CONTAINER_OF(input, struct sim_conn, up_input);
	struct sim_link *link = conn->ends[0];

	ferry_assert(link && !link->link.is_up);
	link->link.is_up = true;
	link->heard_ns = conn->net->sim->now_ns;
	sim_input_in(&link->watch_input, WATCH_NS);
	sim_note(conn->net->sim, SIM_LINK, link->transport->node, link->link.node.v,
		 "link to n%u is up", link->link.node.v);
	direction_kick(&conn->directions[0]);
	link->link.on_up(&link->link, conn->incarnations[1]);
}

static void accept_run(struct sim_input *input)
{
	struct sim_conn *conn = FERRY_CONTAINER_OF(input, struct sim_conn, accept_input);
	struct sim_transport *transport = conn->net->transports[conn->nodes[1]];
	struct sim_link *link;

	ferry_assert(transport && conn->ends[0]);
	conn->is_accepted = true;
	if (!transport->is_member(transport, conn->nodes[0])) {
		conn_close(conn, 1, /* is_silent= */ false);
		return;
	}
	link = sim_alloc(sizeof(*link));
	link_init(link, transport, conn->nodes[0], /* is_connector= */ false);
	link->conn = conn;
	link->link.is_up = true;
	link->heard_ns = conn->net->sim->now_ns;
	conn->ends[1] = link;
	if (transport->accept(transport, &link->link, conn->incarnations[0]) < 0) {
		conn->ends[1] = NULL;
		link_free(link);
		conn_close(conn, 1, /* is_silent= */ false);
		return;
	}
	sim_input_in(&link->watch_input, WATCH_NS);
	sim_input_in(&conn->up_input, latency_ns(conn->net));
}

static void connect(struct sim_link *link, struct sim_transport *to)
{
	struct sim_net *net = link->transport->net;
	struct sim_conn *conn = sim_alloc(sizeof(*conn));

	conn->net = net;
	conn->nodes[0] = link->transport->node;
	conn->nodes[1] = to->node;
	conn->incarnations[0] = link->transport->incarnation;
	conn->incarnations[1] = to->incarnation;
	conn->ends[0] = link;
	for (int i = 0; i < 2; i++) {
		conn->directions[i].conn = conn;
		conn->directions[i].to = i;
		conn->directions[i].move_event = (struct sim_event){
			.kind = SIM_LINK, .node = conn->nodes[i], .run = move_run};
		ferry_list_init(&conn->directions[i].packets);
	}
	conn->is_rdma = sim_rdma_is_drawn(&net->rdma);
	sim_input_init(&conn->directions[0].input, link->transport->loop, SIM_LINK, receive_run);
	sim_input_init(&conn->directions[1].input, to->loop, SIM_LINK, receive_run);
	sim_input_init(&conn->accept_input, to->loop, SIM_LINK, accept_run);
	sim_input_init(&conn->up_input, link->transport->loop, SIM_LINK, up_run);
	ferry_list_init(&conn->link);
	ferry_list_append(&net->conns, &conn->link);
	link->conn = conn;
	link->heard_ns = net->sim->now_ns;
	sim_input_in(&conn->accept_input, 2 * latency_ns(net));
}

static void watch_run(struct sim_input *input)
{
	struct sim_link *link = FERRY_CONTAINER_OF(input, struct sim_link, watch_input);
	struct sim_net *net = link->transport->net;
	struct sim_transport *to = net->transports[link->link.node.v];

	sim_input_in(input, (link->conn ? WATCH_NS : net->reconnect_ns) +
				    sim_below(net->sim, SIM_NETWORK, FERRY_NS_PER_MS));
	if (!link->conn) {
		ferry_assert(link->is_connector);
		if (can_connect(link->transport, to))
			connect(link, to);
		return;
	}
	if (to && !to->loop->is_frozen && link->conn->ends[!link->end] &&
	    !is_cut_between(net, link->transport->node, link->link.node.v))
		link->heard_ns = net->sim->now_ns;
	if (net->sim->now_ns - link->heard_ns > SILENCE_NS_MAX)
		link_drop(link);
	else if (!link->transport->is_member(link->transport, link->link.node.v))
		link_drop(link);
}

void sim_link_open(struct sim_link *link, struct sim_transport *transport, uint32_t node)
{
	link_init(link, transport, node, /* is_connector= */ true);
	sim_input_in(&link->watch_input, latency_ns(transport->net));
}

void sim_transport_open(struct sim_transport *transport, struct sim_net *net, struct sim_loop *loop,
			uint32_t node, struct ferry_incarnation incarnation)
{
	transport->net = net;
	transport->loop = loop;
	transport->node = node;
	transport->incarnation = incarnation;
	ferry_list_init(&transport->links);
	ferry_assert(!net->transports[node]);
	net->transports[node] = transport;
}

void sim_transport_crash(struct sim_transport *transport, bool is_power_cut)
{
	struct sim_net *net = transport->net;

	net->transports[transport->node] = NULL;
	while (!ferry_list_is_empty(&transport->links)) {
		struct sim_link *link =
			ferry_list_entry(transport->links.next, struct sim_link, in_transport);

		ferry_list_init(&link->sending);
		if (link->conn)
			conn_close(TAKE_PTR(link->conn), link->end, is_power_cut);
		sim_rdma_forget(link);
		link_free(link);
	}
	/* Connections to it that it has not accepted yet. */
	ferry_list_foreach_safe (entry, &net->conns) {
		struct sim_conn *conn = ferry_list_entry(entry, struct sim_conn, link);

		if (conn->nodes[1] == transport->node && !conn->is_accepted) {
			conn->is_accepted = true;
			conn_close(conn, 1, is_power_cut);
		}
	}
}

void sim_transport_forget(struct sim_transport *transport, uint32_t node)
{
	ferry_list_foreach_safe (entry, &transport->links) {
		struct sim_link *link = ferry_list_entry(entry, struct sim_link, in_transport);

		if (link->link.node.v == node)
			link_drop(link);
	}
}
