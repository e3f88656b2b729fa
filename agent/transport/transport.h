/*
 * transport.h - which of two links to one peer carries: RDMA while it stands, else TCP.
 *
 * TCP comes first and vouches for RDMA, which lives no longer than the connection that did so:
 * the two are one connection with two ways. One way at a time carries; the connector chooses it,
 * the acceptor follows the first message that comes by the other (docs/decisions/0013).
 *
 * To RDMA one goes when nothing that was asked by TCP waits for its answer; what is sent meanwhile
 * is held, for a bounded time. So the core sees nothing of it. Away from RDMA one goes when it
 * falls: to the core the link goes down, and comes up again by TCP, like any link that broke.
 *
 * Owns:    both links' callbacks; the messages that are held.
 * Callers: agent/data_peers.c; core/peer.c and core/carrier.c by the link port.
 * Thread:  the data loop.
 * Rooms:   rank 2: outgoing.c (we ask), incoming.c (we are asked).
 */
#pragma once

#include "agent/ports/events.h"
#include "agent/ports/link.h"

#define FERRY_TRANSPORT_HOLD_NS (200 * FERRY_NS_PER_MS) /* Longer nothing is held... */
/* ...and RDMA that fell, or could not be gone to, is left alone: then doubled up to the maximum. */
#define FERRY_TRANSPORT_REST_NS_MIN FERRY_NS_PER_S
#define FERRY_TRANSPORT_REST_NS_MAX (300 * FERRY_NS_PER_S)
#define FERRY_TRANSPORT_TRUST_NS (60 * FERRY_NS_PER_S) /* Having carried so long clears that. */

struct ferry_outgoing_config {
	struct ferry_loop *loop;
	struct ferry_events *events; /* May be NULL. */
	struct ferry_link *tcp;	     /* Both must outlive this, but for their callbacks. */
	struct ferry_link *rdma;     /* NULL: there is none. */
	bool is_rdma_only;	     /* TCP vouches, and never carries. */
	/* With rdma: keep it up by what TCP, which is up, vouches for; or cut it, leave it so. */
	void (*raise)(void *context, bool is_wanted);
	void *context;
};

/* The requester's end. */
struct ferry_outgoing {
	struct ferry_link link; /* What core/peer.c sees. */
	struct ferry_outgoing_config config;
	struct ferry_link *current; /* Carries; NULL: none does. */
	bool is_tcp_up;
	struct ferry_incarnation incarnation; /* The peer's, as TCP has it. */

	uint64_t asked[FERRY_WIRE_WINDOW_MAX]; /* By TCP and not answered, by sequence; 0: none. */
	uint32_t asked_count;
	bool is_holding; /* To go to RDMA once there are none. */
	struct ferry_list held;

	struct ferry_timer timer; /* Holding: it takes too long. Else RDMA has rested. */
	uint64_t rested_at_ns;
	uint64_t rest_ns;
	uint64_t carries_since_ns;
};

/* Start-up only. Takes over both links' callbacks; those of outgoing->link are to be set. */
void ferry_outgoing_init(struct ferry_outgoing *outgoing,
			 const struct ferry_outgoing_config *config);
bool ferry_outgoing_is_rdma(const struct ferry_outgoing *outgoing);
/* Both links are closed: nothing of this is in the loop any more. */
void ferry_outgoing_done(struct ferry_outgoing *outgoing);

struct ferry_incoming_config {
	/* As ferry_tcp_listen_config.accept, for each time that another way begins to carry. */
	int (*accept)(void *context, struct ferry_link *link, struct ferry_incarnation incarnation);
	void *context;
};

/*
 * The carrier's end, of one node. An answer's on_sent() may come after on_down(), if it was on its
 * way by RDMA when the peer went back to TCP.
 */
struct ferry_incoming {
	struct ferry_link link; /* What core/carrier.c sees. */
	struct ferry_incoming_config config;
	struct ferry_link *tcp;	 /* NULL: it is down... */
	struct ferry_link *rdma; /* ...as this may be, too: it says so. */
	struct ferry_link *current;
	struct ferry_incarnation incarnation;
};

void ferry_incoming_init(struct ferry_incoming *incoming, struct ferry_node node,
			 const struct ferry_incoming_config *config);

/*
 * Those two are the transports' accept(). TCP: errors of the config's. RDMA: -ENOTCONN: no TCP
 * connection of this incarnation vouches for it.
 */
int ferry_incoming_tcp(struct ferry_incoming *incoming, struct ferry_link *link,
		       struct ferry_incarnation incarnation) FERRY_MUST_CHECK;
int ferry_incoming_rdma(struct ferry_incoming *incoming, struct ferry_link *link,
			struct ferry_incarnation incarnation) FERRY_MUST_CHECK;
