/*
 * pull.h - the new owner's side of a warm start: it asks the last owner's agent for what its cache
 * has, the hottest first, part by part.
 *
 * It is an optimisation and never stands in the way: whoever waits for it is told to go on when all
 * is here, when nothing can be had, or when its time is over; what is still to come then comes in
 * the background, up to what the cache holds.
 *
 * Owns:    one import, and the buffers of the one request that is out.
 * Callers: the wiring, when the lun has been taken and the epoch is not in force yet.
 * Thread:  the pool's data loop.
 * Rooms:   rank 3.
 */
#pragma once

#include "agent/core/peer.h"
#include "migrate/warm.h"

struct ferry_pull_config {
	struct ferry_loop *loop;
	struct ferry_arena *arena; /* FERRY_IO_BYTES_MAX of it, while it goes on. */
	struct ferry_events *events;
	const char *pool; /* For events. */
	struct ferry_cache *cache;
	struct ferry_warm_name name;
	/* The requester's side of that node's agent, or NULL. */
	struct ferry_peer *(*peer_of)(struct ferry_node node, void *context);
	/* Once per start, never from inside: go on. */
	void (*on_ready)(void *context);
	void *context;
};

struct ferry_pull {
	struct ferry_pull_config config;
	struct ferry_warm_import import;
	struct ferry_peer *peer;
	struct ferry_peer_warm request;
	bool is_out;	 /* The request is the peer's room's. */
	bool is_running; /* Wants more. */
	bool is_awaited; /* on_ready() is due. */
	struct ferry_timer timer;
	uint64_t started_ns;
	uint64_t bytes;
};

void ferry_pull_init(struct ferry_pull *pull, const struct ferry_pull_config *config);

/*
 * For @epoch, which this node has claimed; on_ready() follows, after @patience_ns at the latest.
 * An older pull ends.
 */
void ferry_pull_start(struct ferry_pull *pull, struct ferry_epoch epoch, uint64_t patience_ns);

/* Ask for no more; on_ready() does not follow. What is out comes back by itself. */
void ferry_pull_stop(struct ferry_pull *pull);
