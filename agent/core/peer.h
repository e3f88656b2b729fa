/*
 * peer.h - the requester's side of a peer's path: our I/O, carried by another node's agent.
 *
 * One ferry_peer per node, one ferry_peer_path per lun on it. Requests are numbered; while the
 * same incarnation of the peer's agent lives, a request whose connection broke is sent again under
 * its old number, and the peer's reply cache makes that harmless (design, rule 8); but not if its
 * deadline has passed meanwhile, for then it may have been proven dead. When the peer is
 * no longer a member, or has started anew, what was sent to it ends UNKNOWN. Where nobody can prove
 * a write dead while its carrier's agent lives, only that one's answer settles it: there it is
 * asked for, however late, until the peer has started anew.
 *
 * Owns:    its outgoing link's callbacks; the window of requests.
 * Callers: engine.c opens and feeds it; the router uses its paths; laying.c its lay call.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/region.h"
#include "agent/ports/events.h"
#include "agent/ports/fence.h"
#include "agent/ports/link.h"
#include "agent/ports/path.h"

enum { FERRY_PEER_LUNS_MAX = 16 };

struct ferry_peer_path {
	struct ferry_path path; /* What the router sees. */
	struct ferry_peer *peer;
	struct ferry_uuid lun;
	struct ferry_uuid lineage;
	bool asks_on; /* Nobody aborts at this lun. */
};

/* A wish to have a nexus killed. The caller owns it until on_done(). */
struct ferry_peer_lay {
	struct ferry_uuid lun;
	struct ferry_uuid lineage;
	struct ferry_epoch epoch;
	struct ferry_key victim;
	/* Exactly once, never from inside: 0 proven dead; or -EIO, -ENOTCONN: not proven. */
	void (*on_done)(struct ferry_peer_lay *lay, int error);
	void *context;
};

/* A wish for the next part of what the peer's cache has. The caller owns it until on_done(). */
struct ferry_peer_warm {
	struct ferry_uuid lun;
	struct ferry_uuid lineage;
	struct ferry_epoch epoch;
	uint64_t cursor;
	/* Room for a stream, the caller's; when done the first received_bytes of it are one. */
	struct ferry_segments segments;
	uint32_t received_bytes;
	/* Exactly once, never from inside: 0; or -ENODATA the peer has nothing for us; -EIO. */
	void (*on_done)(struct ferry_peer_warm *warm, int error);
	void *context;
};

struct ferry_peer_request {
	struct ferry_peer *peer;
	uint64_t sequence;	       /* 0 while the slot is free. */
	struct ferry_attempt *attempt; /* An I/O... */
	struct ferry_peer_lay *lay;    /* ...or a wish to lay... */
	struct ferry_peer_warm *warm;  /* ...or for warmth. */
	struct ferry_peer_path *via;   /* With an attempt. */
	struct ferry_message message;
	bool is_sending;    /* The transport has the message. */
	bool may_have_left; /* Some of it, ever. */
	bool has_ended;	    /* on_end() has run; waits for the transport to be done. */
	bool is_abandoned;  /* Its write is proven dead: never sent again; ends soon. */
	bool is_receiving;  /* Its reply's payload is on its way into the attempt's segments. */
};

struct ferry_peer_config {
	struct ferry_loop *loop;
	struct ferry_events *events;
	struct ferry_node self;
	struct ferry_incarnation incarnation;
};

struct ferry_peer {
	struct ferry_peer_config config;
	struct ferry_link *link;
	struct ferry_node node;
	struct ferry_incarnation incarnation; /* The peer's, when last up; 0 before. */
	struct ferry_peer_path paths[FERRY_PEER_LUNS_MAX];
	uint32_t paths_count;
	struct ferry_peer_request *window; /* FERRY_WIRE_WINDOW_MAX, by sequence. */
	uint64_t sequence_next;
	uint64_t sequence_floor; /* All below are settled. */
	bool was_full;
	struct ferry_task room_task;
	struct ferry_task abandon_task;
	uint64_t requests;
	uint64_t resent;
};

/* -ENOMEM: the region is too small. Takes over @link's callbacks. */
int ferry_peer_init(struct ferry_peer *peer, struct ferry_region *region, struct ferry_link *link,
		    const struct ferry_peer_config *config) FERRY_MUST_CHECK;

/* -ENOSPC: FERRY_PEER_LUNS_MAX. */
int ferry_peer_add_lun(struct ferry_peer *peer, const struct ferry_uuid *lun,
		       const struct ferry_uuid *lineage,
		       struct ferry_peer_path **ret) FERRY_MUST_CHECK;

/*
 * The peer is no member any more: what was sent ends UNKNOWN, but for what is asked on. Its link
 * is down, or being cut: an answer with data that still came would be a breach.
 */
void ferry_peer_lost(struct ferry_peer *peer);

/* 0: warm->on_done() follows. -ENOTCONN, -EAGAIN: it does not. */
int ferry_peer_warm(struct ferry_peer *peer, struct ferry_peer_warm *warm) FERRY_MUST_CHECK;

/* 0: lay->on_done() follows. -ENOTCONN, -EAGAIN: it does not. */
int ferry_peer_lay(struct ferry_peer *peer, struct ferry_peer_lay *lay) FERRY_MUST_CHECK;
