/*
 * link.h - the transport port: a connection to one peer's agent that carries whole messages.
 *
 * A link carries a fixed-size header (proto/wire.h) and, for some, data. It comes up only after
 * both ends proved that they hold the cluster's key (proto/handshake.h). It loses nothing and
 * reorders nothing while it is up; when it goes down it says for each message whether any of it
 * may have left.
 *
 * Owns:    nothing; it is only an interface.
 * Callers: core/peer.c (requests out, replies in), core/carrier.c (requests in, replies out).
 * Thread:  every call and callback runs on the data loop.
 * Rooms:   adapters/tcp, adapters/verbs, tests/sim.
 */
#pragma once

#include "agent/base/arena.h"
#include "agent/base/base.h"
#include "agent/base/list.h"
#include "agent/ports/loop.h"
#include "proto/wire.h"

enum ferry_sent {
	FERRY_SENT_WHOLE = 1, /* Handed to the network, whole. Says nothing about the peer. */
	FERRY_SENT_NOTHING,   /* The link went down and not one byte of it had left. */
	FERRY_SENT_UNSURE,    /* The link went down with some or all of it on its way. */
};

/*
 * The sender keeps it, its segments and its room until on_sent(). The transport fills in
 * payload_crc.
 */
struct ferry_message {
	struct ferry_wire_header header;
	struct ferry_segments segments; /* The payload; header.payload_bytes is their length. */
	/*
	 * Of a request: where the payload of its answer goes; on_payload() must name its beginning.
	 * A transport may have the peer write there, from send to on_sent(), or ignore it. Else
	 * empty.
	 */
	struct ferry_segments room;
	/*
	 * Exactly once, never from inside send: the memory is the sender's again, and neither this
	 * node nor the peer touches it. With room that may be as late as the answer.
	 */
	void (*on_sent)(struct ferry_message *message, enum ferry_sent sent);
	struct ferry_list link; /* The transport's. */
	uint32_t sent_bytes;	/* The transport's. */
};

struct ferry_link {
	const struct ferry_link_ops *ops;
	struct ferry_node node; /* The peer's. */
	bool is_up;

	/* The owner's callbacks, set before the link is opened. None runs from inside a call. */

	/* Up: the peer has proven itself and said its incarnation. Down: after every on_sent(). */
	void (*on_up)(struct ferry_link *link, struct ferry_incarnation incarnation);
	void (*on_down)(struct ferry_link *link, const char *why);
	/*
	 * A header with a payload arrived and was checked. Put into @ret where the payload is to
	 * go, exactly header->payload_bytes long, and the use of it stays the owner's.
	 * -ENOBUFS: not now: the link stops reading until ops->resume(). -EPROTO: the peer broke
	 * the protocol: the link goes down.
	 */
	int (*on_payload)(struct ferry_link *link, const struct ferry_wire_header *header,
			  struct ferry_segments *ret);
	/* The whole message is here, checksums verified; @segments is what on_payload() gave. */
	void (*on_message)(struct ferry_link *link, const struct ferry_wire_header *header,
			   struct ferry_segments *segments);
	/* The link went down between on_payload() and on_message(): the memory is free again. */
	void (*on_payload_dropped)(struct ferry_link *link, const struct ferry_wire_header *header,
				   struct ferry_segments *segments);
	void *context;
};

struct ferry_link_ops {
	const char *name;
	/* -ENOTCONN: down; on_sent() never runs. Else 0, and on_sent() runs once, later. */
	int (*send)(struct ferry_link *link, struct ferry_message *message);
	/* Read on after -ENOBUFS. */
	void (*resume)(struct ferry_link *link);
	/* Cut the connection, now; it is made anew by the transport while the peer is a member. */
	void (*reset)(struct ferry_link *link, const char *why);
};

static inline int ferry_link_send(struct ferry_link *link, struct ferry_message *message)
{
	ferry_assert(link && link->ops);
	ferry_assert(message->on_sent);
	ferry_assert(message->header.payload_bytes == message->segments.length_bytes);
	if (!link->is_up)
		return -ENOTCONN;
	return link->ops->send(link, message);
}
