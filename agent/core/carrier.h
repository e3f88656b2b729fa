/*
 * carrier.h - the peer's side: carrying another node's I/O to this node's own local path.
 *
 * It carries only for a current member that owns the pool in the current epoch, with quorum, to a
 * lun of the same identity, by its own local path, past any cache; and it looks at all of that at
 * the moment of submission (design, rule 7). Each request runs at most once: the last answers are
 * kept, and a number below what the requester has settled is refused (rule 8).
 *
 * Owns:    its incoming links' callbacks; sessions, jobs and the kept answers.
 * Callers: engine.c; transports hand over links by ferry_carrier_accept().
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/region.h"
#include "agent/core/lane.h"
#include "agent/core/view.h"
#include "agent/ports/fence.h"
#include "agent/ports/link.h"

enum {
	FERRY_CARRIER_LUNS_MAX = 16,
	FERRY_CARRIER_JOBS_PER_SESSION = 2 * FERRY_WIRE_WINDOW_MAX,
};

/* What it needs to know of one lun; the engine fills it and keeps it current. */
struct ferry_carrier_lun {
	struct ferry_uuid uuid;
	uint64_t size_blocks;
	uint32_t block_bytes;
	const struct ferry_view *view;
	struct ferry_lane *lane; /* This node's local one. */
	const uint64_t *losses;	 /* Resets of the lun that this agent has seen, from 1. */
	bool answers_at_end;	 /* Nobody aborts here: a late write's own end is worth the wait. */
	/* Have @victim's nexus killed, for a current owner that asked. -EBUSY, -ENOTCONN: no. */
	int (*lay)(struct ferry_carrier_lun *lun, struct ferry_key victim,
		   void (*on_done)(void *context, int error), void *done_context);
	/*
	 * The next part of what this node's cache has, as a stream in buffers of @arena, for the
	 * owner that has taken the pool over; @ret's use is the carrier's. NULL, -ENODATA: nothing.
	 */
	int (*warm)(struct ferry_carrier_lun *lun, uint64_t cursor, struct ferry_arena *arena,
		    struct ferry_segments *ret);
	void (*on_drained)(struct ferry_carrier_lun *lun); /* Nothing of an older epoch is left. */
	void *context;
	uint32_t jobs_count; /* Carried now, of any epoch. */
	/* The newest epoch of a carried write that ended UNKNOWN: a ghost of this nexus; 0: none.
	 */
	struct ferry_epoch ghost_epoch;
};

enum ferry_answer_state {
	FERRY_ANSWER_NONE = 0,
	FERRY_ANSWER_RUNNING,
	FERRY_ANSWER_KNOWN,
};

/* What became of one request, kept until its number is settled for the requester. */
struct ferry_answer {
	uint64_t sequence;
	enum ferry_answer_state state;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
};

struct ferry_session;

struct ferry_job {
	struct ferry_session *session;
	struct ferry_wire_header request;
	struct ferry_segments data; /* A WRITE's, until it is submitted. */
	struct ferry_carrier_lun *lun;
	struct ferry_flight flight;
	struct ferry_message reply;
	struct ferry_list link; /* In carrier->waiting, or carrier->jobs_free. */
	uint32_t link_number;	/* The session's link that the request came by. */
	bool is_flying;		/* Given to the lane and not released. */
	bool is_sending;	/* The transport has the reply. */
	bool is_counted;	/* In lun->jobs_count. */
	bool has_answered;
};

/* One incarnation of one node that asks. */
struct ferry_session {
	struct ferry_carrier *carrier;
	struct ferry_node node;
	struct ferry_incarnation incarnation;
	struct ferry_link *link; /* NULL while it is down. */
	uint32_t link_number;	 /* Grows with each link. */
	uint64_t floor;		 /* What is older is settled... */
	uint64_t newest;	 /* ...and this the newest that was heard of. */
	struct ferry_answer answers[FERRY_WIRE_WINDOW_MAX];
	bool is_paused;	  /* on_payload() found no buffers. */
	uint64_t carried; /* For the node, whatever its incarnation. */
};

struct ferry_carrier_stats {
	uint64_t carried;
	uint64_t refused;
	uint64_t repeated; /* Requests that were asked again and answered from what is kept. */
	uint64_t laid;
	uint64_t warmed; /* Parts of caches that were handed out. */
};

struct ferry_carrier_config {
	struct ferry_loop *loop;
	struct ferry_arena *arena; /* Peers' own: they cannot starve this node's applications. */
	struct ferry_events *events;
	struct ferry_node self;
	struct ferry_incarnation incarnation;
	uint32_t sessions_max;
};

struct ferry_carrier {
	struct ferry_carrier_config config;
	struct ferry_carrier_lun *luns[FERRY_CARRIER_LUNS_MAX];
	uint32_t luns_count;
	struct ferry_session *sessions;
	struct ferry_list jobs_free;
	struct ferry_list waiting; /* For room on the local path. */
	bool waits_for_path;	   /* The first of them: not for buffers. */
	struct ferry_task retry_task;
	struct ferry_arena_waiter arena_waiter;
	struct ferry_task resume_task;
	struct ferry_carrier_stats stats;
};

/* -ENOMEM: the region is too small. */
int ferry_carrier_init(struct ferry_carrier *carrier, struct ferry_region *region,
		       const struct ferry_carrier_config *config) FERRY_MUST_CHECK;
size_t ferry_carrier_memory_bytes(uint32_t sessions_max);

/* -ENOSPC: FERRY_CARRIER_LUNS_MAX. */
int ferry_carrier_add_lun(struct ferry_carrier *carrier,
			  struct ferry_carrier_lun *lun) FERRY_MUST_CHECK;

/*
 * An incoming link, about to come up: its peer has proven itself. Takes over its callbacks. A newer
 * incarnation of the same node replaces the older one, whose running jobs end unheard.
 * -ENOSPC: more nodes than sessions; -ESTALE: an older incarnation than one seen.
 */
int ferry_carrier_accept(struct ferry_carrier *carrier, struct ferry_link *link,
			 struct ferry_incarnation incarnation) FERRY_MUST_CHECK;

/*
 * A registration of this node's is gone, or just made, the first too: what peers sent until now may
 * have been proven dead by that, and must not be heard under a new one. They ask anew for what
 * still counts.
 */
void ferry_carrier_cut(struct ferry_carrier *carrier, const char *why);

/* How many of @node's I/Os were given to this node's path. */
uint64_t ferry_carrier_carried_for(const struct ferry_carrier *carrier, struct ferry_node node);

/* The view or the local path has changed: what waits is looked at again. */
void ferry_carrier_look_again(struct ferry_carrier *carrier);
