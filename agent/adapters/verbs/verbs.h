/*
 * verbs.h - the link port over RDMA: reliable connections made by rdma_cm, libibverbs' queues.
 *
 * Messages are those of TCP (proto/wire.h), each in one frame (proto/rdma_frame.h). Data of up to
 * 4 KiB goes with it. Larger data moves by RDMA alone, from chunk to chunk: the receiver of a WRITE
 * reads it from the requester, the answerer of a READ writes it to where the requester wants it.
 * Neither can reach anything else: each range is opened by a memory window of its own, for one
 * connection, and closed before its owner gets it back (rule 9): on_sent() comes after that.
 *
 * An end sends only what the other has said it has room for (credits), so no receive queue runs
 * dry. Errors, a peer's misdeeds among them, end the one connection that they are about.
 *
 * Who may connect: whoever proves, by the cluster's key and a secret of an authenticated TCP
 * connection between the same two agents, that it is the other end of that (proto/rdma_hello.h).
 * What goes over RDMA is not encrypted: docs/security.md.
 *
 * Owns:    the device's objects, registered memory for frames, timers; no message.
 * Callers: core/peer.c and core/carrier.c, by the port; who opens it, as adapters/tcp.
 * Thread:  the data loop, every call and callback. Making and breaking a connection takes
 *          system calls of up to some milliseconds.
 * Rooms:   adapters/verbs: device.c (the queue of completions), connect.c (rdma_cm), link.c (up
 *          and down), send.c, receive.c, move.c (RDMA itself).
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/events.h"
#include "agent/ports/link.h"
#include "proto/rdma_hello.h"

enum {
	FERRY_VERBS_LINKS_MAX = 64,
	FERRY_VERBS_CREDITS = 64,  /* Frames that a peer may have on their way to a link. */
	FERRY_VERBS_OUT_MAX = 160, /* Frames sent whose memory the peer may still touch. */
	FERRY_VERBS_WINDOWS = 256, /* Ranges of memory that one link has open at a time. */
	FERRY_VERBS_QUEUE_MAX = 65536,
};

#define FERRY_VERBS_DEAD_AFTER_NS (3 * FERRY_NS_PER_S) /* Default. */
#define FERRY_VERBS_POLL_NS (20 * FERRY_NS_PER_US)     /* Default. */
#define FERRY_VERBS_CONNECT_NS (5 * FERRY_NS_PER_S)    /* A connection that is not up by then. */
#define FERRY_VERBS_BACKOFF_NS_MIN                                                                 \
	(100 * FERRY_NS_PER_MS)				/* Then doubled, each with jitter, ...     \
							 */
#define FERRY_VERBS_BACKOFF_NS_MAX (2 * FERRY_NS_PER_S) /* ... up to this. */

/* Since opening; of one link but for the last three, which are the device's. */
struct ferry_verbs_counters {
	uint64_t messages_sent; /* PING and PONG included. */
	uint64_t messages_received;
	uint64_t pings_sent; /* Of those, PING and PONG. */
	uint64_t pings_received;
	uint64_t credit_frames_sent;
	uint64_t rdma_reads;
	uint64_t rdma_writes;
	uint64_t bytes_moved;  /* By these, without a copy. */
	uint64_t bytes_copied; /* Data of up to 4 KiB, out of the frame that it came in. */
	uint64_t windows_opened;
	uint64_t posts; /* Calls of ibv_post_send(3) and ibv_post_recv(3). */
	uint64_t waits; /* A message found no credit, no window or no room in the queue. */
	uint64_t ups;
	uint64_t downs;
	uint64_t refusals;
	uint64_t completions;
	uint64_t polls;	  /* Looks at the queue of completions. */
	uint64_t wakeups; /* Of these, because it had been slept. */
};

struct ferry_verbs_config {
	struct ferry_loop *loop;
	struct ferry_events *events; /* May be NULL. */
	struct ferry_auth *auth;     /* Each must outlive the device. */
	struct ferry_wire_end self;
	const char *address; /* This node's own, numeric: it names the device. Not kept. */
	uint16_t port;	     /* Of rdma_cm, to listen on; 0: any. */
	void *memory;	     /* Where all segments lie: whole chunks. */
	size_t memory_bytes;
	uint32_t links_max;
	uint64_t dead_after_ns; /* 0: the default. */
	uint64_t poll_ns;	/* Look on for so long after the last completion; 0: the default. */
	uint64_t seed;		/* Of the jitter. */

	/*
	 * The secret of the newest TCP connection over which @node has proven itself in this
	 * incarnation. -ENOENT: there is none, or it is no member: it is turned away.
	 */
	int (*secret)(void *context, struct ferry_node node, struct ferry_incarnation incarnation,
		      struct ferry_rdma_secret *ret);
	/* As ferry_tcp_listen_config.accept. */
	int (*accept)(void *context, struct ferry_link *link, struct ferry_incarnation incarnation);
	void *context;
};

struct ferry_verbs;

/*
 * Open the device that has the address, register, listen. Start-up only: allocates, locks memory.
 * -ENODEV: no RDMA device has this address; -EOPNOTSUPP: it has no memory windows of type 2;
 * -ENOMEM: also RLIMIT_MEMLOCK; -EINVAL: the address.
 */
int ferry_verbs_open(const struct ferry_verbs_config *config, struct ferry_verbs **ret,
		     struct ferry_error *reterr) FERRY_MUST_CHECK;
uint16_t ferry_verbs_port(const struct ferry_verbs *verbs);

/*
 * An outgoing link to @node at its numeric address; set its callbacks, then enable it. Start-up
 * only. Valid as long as @verbs. -EINVAL, -ENOSPC: links_max.
 */
int ferry_verbs_connect(struct ferry_verbs *verbs, struct ferry_node node, const char *address,
			uint16_t port, struct ferry_link **ret,
			struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Keep an outgoing link up, by this secret from now on, anew after each fall. NULL: cut it and
 * leave it so; on_down() follows. A link that is up does not mind a new secret.
 */
void ferry_verbs_enable(struct ferry_link *link, const struct ferry_rdma_secret *secret);

/* Cut @node's incoming link, if there is one. on_down() follows. */
void ferry_verbs_drop(struct ferry_verbs *verbs, struct ferry_node node, const char *why);

/* Why a link is not up, as the last try or cut had it; empty while it is. */
const char *ferry_verbs_trouble(struct ferry_link *link);
struct ferry_verbs_counters ferry_verbs_counters(struct ferry_link *link);

/*
 * Cut all links and release. NULL is a no-op. Returns NULL. Runs callbacks from inside, as
 * ferry_tcp_link_close(). Not from within a callback.
 */
struct ferry_verbs *ferry_verbs_close(struct ferry_verbs *verbs);
static inline void ferry_verbs_closep(struct ferry_verbs **verbs)
{
	*verbs = ferry_verbs_close(*verbs);
}
