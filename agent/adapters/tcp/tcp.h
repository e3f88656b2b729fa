/*
 * tcp.h - the link port over TCP, for where there is no RDMA device.
 *
 * Two halves. A connector keeps one outgoing link to one peer: it connects, proves itself, comes
 * up, and when it goes down connects anew by itself. A listener turns those who connect to this
 * node, and have proven themselves, into incoming links, one per peer node. A link's messages go
 * from and to the arena's chunks without a copy, but for what a read-ahead happened to catch.
 *
 * A link that is up is alive: each end says something at least every dead_after / 3 (PING), and an
 * end that hears nothing for dead_after cuts the link. An end that doesn't read because its owner
 * said -ENOBUFS goes on saying PING, and is not dead.
 *
 * Owns:    sockets, timers, the queues' links; messages and their memory stay their senders'.
 * Callers: agent/main opens, enables and closes; core/peer.c and core/carrier.c by the port.
 * Thread:  the data loop, every call and callback.
 * Rooms:   adapters/tcp: link.c (a link that is up), greet.c (the handshake), connect.c, listen.c.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/events.h"
#include "agent/ports/link.h"
#include "proto/handshake.h"

enum {
	FERRY_TCP_GREETINGS_MAX = 32,	    /* Half-open incoming connections; more are closed. */
	FERRY_TCP_INCOMING_MAX = 32,	    /* Peers with an incoming link: corosync's nodes. */
	FERRY_TCP_BUFFER_BYTES = 64 * 1024, /* Read-ahead of one link. */
	FERRY_TCP_QUEUE_MAX = 65536,	    /* Messages in one link's hands; more is our bug. */
};

#define FERRY_TCP_DEAD_AFTER_NS (3 * FERRY_NS_PER_S)	/* Default. */
#define FERRY_TCP_CONNECT_NS (2 * FERRY_NS_PER_S)	/* A connection that is not made by then. */
#define FERRY_TCP_GREET_NS (5 * FERRY_NS_PER_S)		/* A handshake that is not over. */
#define FERRY_TCP_BACKOFF_NS_MIN (50 * FERRY_NS_PER_MS) /* Then doubled, each with jitter, ... */
#define FERRY_TCP_BACKOFF_NS_MAX (2 * FERRY_NS_PER_S)	/* ... up to this. */

/* Since opening. */
struct ferry_tcp_counters {
	uint64_t messages_sent; /* Handed to the socket whole; PING and PONG included. */
	uint64_t messages_received;
	uint64_t bytes_sent;
	uint64_t bytes_received;
	uint64_t bytes_copied; /* Payload that had been read ahead. */
	uint64_t ups;	       /* Connections that came up. */
	uint64_t downs;	       /* Of these, cut for whatever reason. */
	uint64_t refusals;     /* Connections that failed or were refused before that. */
};

struct ferry_tcp_connect_config {
	struct ferry_loop *loop;
	struct ferry_events *events; /* May be NULL. Each must outlive the link. */
	const char *address;	     /* Of the peer, numeric, IPv4 or IPv6. Not kept. */
	uint16_t port;
	struct ferry_node peer;
	struct ferry_handshake_config handshake; /* role and wanted are filled in here. */
	uint64_t dead_after_ns;			 /* 0: the default. */
	uint64_t seed;				 /* Of the jitter. */
};

struct ferry_tcp_link; /* A connector. */

/*
 * Make an outgoing link; it starts to connect at ferry_tcp_link_enable(). Start-up only:
 * allocates. -EINVAL: address, port or cluster name; -ENOMEM.
 */
int ferry_tcp_connect(const struct ferry_tcp_connect_config *config, struct ferry_tcp_link **ret,
		      struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The port: set its callbacks before enabling. Valid as long as the connector. */
struct ferry_link *ferry_tcp_link_of(struct ferry_tcp_link *connector);

/* Whether the link is to be up: while the peer is a member. Cuts it when not; on_down() follows. */
void ferry_tcp_link_enable(struct ferry_tcp_link *connector, bool is_enabled);

/* The kernel's smoothed round trip; 0: not up, or not known. */
uint64_t ferry_tcp_link_rtt_ns(const struct ferry_tcp_link *connector);

/* Why it is not up, as the last try or the last cut had it; empty while it is up. */
const char *ferry_tcp_link_trouble(const struct ferry_tcp_link *connector);

/* What both ends have, of enum FERRY_HANDSHAKE_FEATURE_*; 0: also while it is not up. */
uint64_t ferry_tcp_link_features(const struct ferry_tcp_link *connector);

/*
 * What both ends of the connection that is up know, and nobody else: by it they admit each other's
 * RDMA (proto/rdma_hello.h). -ENOTCONN.
 */
int ferry_tcp_link_secret(const struct ferry_tcp_link *connector,
			  uint8_t ret[FERRY_PROOF_BYTES]) FERRY_MUST_CHECK;

struct ferry_tcp_counters ferry_tcp_link_counters(const struct ferry_tcp_link *connector);

/*
 * Cut and release. NULL is a no-op. Returns NULL. The one call that runs callbacks from inside:
 * if the link was up, each on_sent() and on_down(). Not from within a callback of this link.
 */
struct ferry_tcp_link *ferry_tcp_link_close(struct ferry_tcp_link *connector);
static inline void ferry_tcp_link_closep(struct ferry_tcp_link **connector)
{
	*connector = ferry_tcp_link_close(*connector);
}

struct ferry_tcp_listen_config {
	struct ferry_loop *loop;
	struct ferry_events *events; /* May be NULL. Each must outlive the listener. */
	const char *address;	     /* To listen on, numeric, IPv4 or IPv6. Not kept. */
	uint16_t port;		     /* 0: any; ferry_tcp_listener_port() says which. */
	struct ferry_handshake_config handshake; /* role is filled in here. */
	uint64_t dead_after_ns;			 /* 0: the default. */

	/*
	 * A peer has proven itself. Set @link's callbacks (they may be set from before: a node
	 * has the same struct ferry_link at each connection) and return 0; on_up() follows at
	 * once. Or a negative errno: the connection is closed. The link is the listener's, valid
	 * as long as the listener, and free for another node once it is down.
	 */
	int (*accept)(void *context, struct ferry_link *link, struct ferry_incarnation incarnation);
	void *context;
};

struct ferry_tcp_listener;

/*
 * Listen. Start-up only: allocates.
 * -EINVAL: address or cluster name; -EADDRINUSE, -EADDRNOTAVAIL, or other errors of bind(2).
 */
int ferry_tcp_listen(const struct ferry_tcp_listen_config *config, struct ferry_tcp_listener **ret,
		     struct ferry_error *reterr) FERRY_MUST_CHECK;

uint16_t ferry_tcp_listener_port(const struct ferry_tcp_listener *listener);

/* Cut @node's incoming link, if there is one: it is no member any more. on_down() follows. */
void ferry_tcp_listener_drop(struct ferry_tcp_listener *listener, struct ferry_node node,
			     const char *why);

/* As ferry_tcp_link_secret(), of @node's incoming link in this incarnation. */
int ferry_tcp_listener_secret(const struct ferry_tcp_listener *listener, struct ferry_node node,
			      struct ferry_incarnation incarnation,
			      uint8_t ret[FERRY_PROOF_BYTES]) FERRY_MUST_CHECK;

/* The sum over all incoming links. */
struct ferry_tcp_counters ferry_tcp_listener_counters(const struct ferry_tcp_listener *listener);

/* As ferry_tcp_link_close(), for all incoming links. */
struct ferry_tcp_listener *ferry_tcp_listener_close(struct ferry_tcp_listener *listener);
static inline void ferry_tcp_listener_closep(struct ferry_tcp_listener **listener)
{
	*listener = ferry_tcp_listener_close(*listener);
}
