#include "agent/transport/transport.h"

static struct ferry_incoming *incoming_of(struct ferry_link *port)
{
	return FERRY_CONTAINER_OF(port, struct ferry_incoming, link);
}

/* ---- To the carrier. ---- */

static int port_send(struct ferry_link *port, struct ferry_message *message)
{
	struct ferry_incoming *incoming = incoming_of(port);

	return incoming->current ? ferry_link_send(incoming->current, message) : -ENOTCONN;
}

static void port_resume(struct ferry_link *port)
{
	struct ferry_incoming *incoming = incoming_of(port);

	if (incoming->current)
		incoming->current->ops->resume(incoming->current);
}

/* Both, at once: what was sent until now must not be heard by the other one later. */
static void port_reset(struct ferry_link *port, const char *why)
{
	struct ferry_incoming *incoming = incoming_of(port);

	port->is_up = false;
	if (incoming->rdma && incoming->rdma->is_up)
		incoming->rdma->ops->reset(incoming->rdma, why);
	if (incoming->tcp)
		incoming->tcp->ops->reset(incoming->tcp, why);
}

static const struct ferry_link_ops PORT_OPS = {
	.name = "tcp or rdma",
	.send = port_send,
	.resume = port_resume,
	.reset = port_reset,
};

static void leave(struct ferry_incoming *incoming, const char *why)
{
	incoming->current = NULL;
	incoming->link.is_up = false;
	incoming->link.on_down(&incoming->link, why);
}

/*
 * Something comes by @link: it carries from here on. A peer that speaks by TCP has given its RDMA
 * up, and what it has still on its way there must never be heard. One that speaks by RDMA has left
 * nothing on TCP. Whether it may.
 */
static bool follow(struct ferry_incoming *incoming, struct ferry_link *link)
{
	if (incoming->current == link)
		return true;
	if (link == incoming->tcp && incoming->rdma && incoming->rdma->is_up)
		incoming->rdma->ops->reset(incoming->rdma, "the peer went back to TCP");
	if (incoming->current)
		leave(incoming, "the peer speaks by another way");
	if (!incoming->tcp || incoming->config.accept(incoming->config.context, &incoming->link,
						      incoming->incarnation) < 0) {
		link->ops->reset(link, "refused");
		return false;
	}
	incoming->current = link;
	incoming->link.is_up = true;
	incoming->link.on_up(&incoming->link, incoming->incarnation);
	return true;
}

/* ---- Requests: by either. ---- */

static int either_payload(struct ferry_link *link, const struct ferry_wire_header *header,
			  struct ferry_segments *ret)
{
	struct ferry_incoming *incoming = link->context;

	if (!follow(incoming, link))
		return -EPROTO;
	return incoming->link.on_payload(&incoming->link, header, ret);
}

static void either_payload_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
				   struct ferry_segments *segments)
{
	struct ferry_incoming *incoming = link->context;

	incoming->link.on_payload_dropped(&incoming->link, header, segments);
}

static void either_message(struct ferry_link *link, const struct ferry_wire_header *header,
			   struct ferry_segments *segments)
{
	struct ferry_incoming *incoming = link->context;

	if (follow(incoming, link))
		incoming->link.on_message(&incoming->link, header, segments);
	else
		ferry_segments_drop(segments);
}

/* ---- Ups and downs. ---- */

static void tcp_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct ferry_incoming *incoming = link->context;

	ferry_assert(incoming->tcp == link && !incoming->current);
	ferry_assert(incoming->incarnation.v == incarnation.v);
	incoming->current = link;
	incoming->link.is_up = true;
	incoming->link.on_up(&incoming->link, incarnation);
}

static void tcp_down(struct ferry_link *link, const char *why)
{
	struct ferry_incoming *incoming = link->context;

	ferry_assert(incoming->tcp == link);
	incoming->tcp = NULL;
	if (incoming->rdma && incoming->rdma->is_up)
		incoming->rdma->ops->reset(incoming->rdma, "the TCP connection has ended that "
							   "vouched for it");
	if (incoming->current)
		leave(incoming, why);
}

static void rdma_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct ferry_incoming *incoming = link->context;

	/* Else it waits: the peer says when it is to carry. */
	if (!incoming->tcp || incoming->incarnation.v != incarnation.v)
		link->ops->reset(link, "no TCP connection vouches for it any more");
}

static void rdma_down(struct ferry_link *link, const char *why)
{
	struct ferry_incoming *incoming = link->context;

	if (incoming->current == link)
		leave(incoming, why);
}

static void callbacks_set(struct ferry_incoming *incoming, struct ferry_link *link, bool is_tcp)
{
	link->on_up = is_tcp ? tcp_up : rdma_up;
	link->on_down = is_tcp ? tcp_down : rdma_down;
	link->on_payload = either_payload;
	link->on_payload_dropped = either_payload_dropped;
	link->on_message = either_message;
	link->context = incoming;
}

void ferry_incoming_init(struct ferry_incoming *incoming, struct ferry_node node,
			 const struct ferry_incoming_config *config)
{
	ferry_assert(incoming && node.v > 0 && config->accept);
	*incoming = (struct ferry_incoming){
		.link = {.ops = &PORT_OPS, .node = node},
		.config = *config,
	};
}

int ferry_incoming_tcp(struct ferry_incoming *incoming, struct ferry_link *link,
		       struct ferry_incarnation incarnation)
{
	int r;

	ferry_assert(link->node.v == incoming->link.node.v && incarnation.v > 0);
	ferry_assert(!incoming->tcp && !incoming->current); /* An older one has gone down first. */
	r = incoming->config.accept(incoming->config.context, &incoming->link, incarnation);
	if (r < 0)
		return r;
	incoming->tcp = link;
	incoming->incarnation = incarnation;
	callbacks_set(incoming, link, /* is_tcp= */ true);
	return 0;
}

int ferry_incoming_rdma(struct ferry_incoming *incoming, struct ferry_link *link,
			struct ferry_incarnation incarnation)
{
	ferry_assert(link->node.v == incoming->link.node.v && incarnation.v > 0);
	if (!incoming->tcp || incoming->incarnation.v != incarnation.v)
		return -ENOTCONN;
	incoming->rdma = link;
	callbacks_set(incoming, link, /* is_tcp= */ false);
	return 0;
}
