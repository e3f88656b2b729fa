/*
 * snapshot.h - the data thread's figures at one moment, for `ferry status` and its like.
 *
 * Owns:    nothing; the cluster thread lends one struct at a time to the data thread to fill.
 * Callers: data.c fills it, control_lists.c shows it.
 * Thread:  whoever has it.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/cache/cache.h"
#include "agent/core/lane.h"
#include "agent/core/registrar.h"
#include "agent/core/router.h"
#include "agent/fault/fault.h"
#include "agent/ports/control.h"

enum { FERRY_SNAPSHOT_POOLS_MAX = 16 };

struct ferry_snapshot_lane {
	enum ferry_path_kind kind;
	struct ferry_node node;
	bool is_up;
	bool is_allowed;
	bool is_usable;
	enum ferry_lane_state state;
	char reason[FERRY_EVENT_TEXT_MAX];
	char detail[FERRY_EVENT_TEXT_MAX]; /* What the adapter says of it. */
	uint32_t flights;
	uint32_t ghosts;
	struct ferry_lane_stats stats;
};

struct ferry_snapshot_cache {
	bool is_enabled;
	char reason[FERRY_EVENT_TEXT_MAX];
	uint64_t capacity_bytes;
	uint64_t used_bytes;
	uint64_t warm_blocks; /* Lines that came from other nodes' caches, ever. */
	struct ferry_cache_stats stats;
};

struct ferry_snapshot_pool {
	bool is_open;
	struct ferry_lun_identity identity;
	bool has_reservations;
	struct ferry_fence_ability ability; /* What the lun was found to do. */
	bool flushes_by_path;
	bool is_registered;
	bool is_shown;
	bool is_holding;
	bool flush_is_suspect;
	struct ferry_router_stats stats;
	uint32_t ghosts_alive;
	uint32_t routes;
	struct ferry_snapshot_lane lanes[FERRY_LANES_MAX];
	uint32_t lanes_count;
	struct ferry_snapshot_cache cache;
	struct ferry_fault_stats faults;
	uint32_t clients; /* Who uses the volume: NBD clients... */
	uint32_t opens;	  /* ...and descriptors of its file, a loop device's among them. */
	char device[32];  /* That ublk serves, or empty. */
};

struct ferry_snapshot_peer {
	struct ferry_node node;
	bool is_up;
	struct ferry_incarnation incarnation;
	uint64_t rtt_ns;		    /* 0: not known. */
	uint64_t carried_for;		    /* This node did for it. */
	char trouble[FERRY_EVENT_TEXT_MAX]; /* Why it is not up. */
	bool is_rdma;
	char not_rdma[FERRY_EVENT_TEXT_MAX]; /* Why RDMA does not carry, or empty. */
	struct ferry_control_rdma rdma;
};

struct ferry_snapshot {
	struct ferry_snapshot_pool pools[FERRY_SNAPSHOT_POOLS_MAX];
	uint32_t pools_count;
	struct ferry_snapshot_peer peers[FERRY_LANES_MAX];
	uint32_t peers_count;
};
