/*
 * sim_node.h - one start of one node's agent: core and fencing wired as agent/main wires them, on
 * simulated ports. The data and the cluster loop share one simulated loop; what they tell each
 * other takes a moment, as between threads.
 *
 * Owns:    everything of this incarnation; a crash takes it all away at once.
 * Callers: sim_cluster.
 * Thread:  the node's simulated loop.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/core/engine.h"
#include "fencing/ownership.h"
#include "migrate/pull.h"
#include "tests/sim/sim_group.h"
#include "tests/sim/sim_link.h"
#include "tests/sim/sim_path.h"
#include "tests/sim/sim_stonith.h"
#include "tests/sim/sim_store.h"
#include "tests/sim/sim_workload.h"

enum { SIM_ARENA_CHUNKS = 48, SIM_POST_KINDS = 8, SIM_EVENT_KINDS = 32 };

enum sim_post_kind {
	SIM_POST_VIEW = 1, /* To the data side... */
	SIM_POST_TAKE,
	SIM_POST_PEER_PATH,
	SIM_POST_DRAINED, /* ...to the cluster side. */
	SIM_POST_TAKEN,
	SIM_POST_HEALTH,
	SIM_POST_VERDICT,
	SIM_POST_ASK,
	SIM_POST_PREEMPTED,
	SIM_POST_WITNESS,
	SIM_POST_NOTED,
};

struct sim_node;

struct sim_post {
	struct sim_input input;
	struct ferry_list link; /* In node->posts. */
	struct sim_node *node;
	enum sim_post_kind kind;
	struct ferry_view view;
	struct ferry_drained_keys drained;
	struct ferry_node peer;
	bool flag;
	struct ferry_epoch epoch;
	uint64_t word;
	int error;
};

struct sim_node_options {
	uint64_t path_timeout_ns;
	uint64_t hold_timeout_ns;
	uint64_t drain_timeout_ns;
	uint32_t convict_failures;
	uint64_t convict_window_ns;
	uint32_t inflight_max;
	uint32_t cache_lines; /* 0: no read cache. */
	uint64_t drift_ppm_max;
	bool waits_for_ghosts; /* For comparison. */
	bool flushes_by_path;
	uint32_t path_depth;	   /* Commands that a local path takes at once; 0: many. */
	uint32_t stall_per_mille;  /* Of what one thread tells the other, so much waits... */
	uint64_t stall_ns_max;	   /* ...up to this. */
	uint64_t quiesce_time_ns;  /* As configured; 0: none. */
	uint64_t warm_patience_ns; /* A new owner waits so long for the last one's cache. */
};

struct sim_node {
	struct sim *sim;
	uint32_t id;
	struct ferry_incarnation incarnation;
	struct sim_loop loop;
	struct ferry_events events;
	void *memory;
	void *chunks[2];
	void *cache_data;
	struct ferry_region region;
	struct ferry_arena arena;	/* Applications'. */
	struct ferry_arena arena_peers; /* What is carried for peers. */
	struct sim_path path;
	struct sim_transport transport;
	struct sim_link links[SIM_NODES_MAX + 1]; /* Connectors, by node. */
	struct ferry_peer peers[SIM_NODES_MAX + 1];
	struct ferry_carrier carrier;
	struct ferry_engine engine;
	struct sim_group group;
	struct sim_power power;
	struct ferry_power_watch watch; /* Of whose power was cut, where a quiesce time is. */
	struct ferry_ownership ownership;
	struct ferry_pull pull; /* Of the last owner's cache, if there is a cache. */
	uint64_t warm_patience_ns;
	struct ferry_drained_keys drained;
	struct ferry_epoch taking;    /* Installed when the lun was last asked to be taken. */
	struct ferry_members members; /* As the data side has heard. */
	struct sim_client client;
	struct ferry_list posts;
	uint32_t stall_per_mille;
	uint64_t stall_ns_max;
	uint64_t posted_ns[2]; /* In each direction, none overtakes. */
	uint64_t stuck_ns[2];  /* If that is to come: since when nothing is heard. */
	uint64_t events_seen[SIM_EVENT_KINDS];
	/* Whoever waits for a moment; or NULL. */
	void (*on_event)(void *context, uint32_t node, const struct ferry_event *event);
	void *on_event_context;
	uint64_t convictions;
	uint64_t power_takes; /* Takings of what nodes left that were fenced. */
	int wish_error;	      /* What became of the last wish; 1 while it is open. */
	int fence_error;      /* And of the last ferry_ownership_fence(). */
};

/* What an agent finds when it starts. */
struct sim_node_world {
	struct sim *sim;
	struct sim_lun *lun;
	struct sim_net *net;
	struct sim_corosync *corosync;
	struct sim_store *store;
	struct sim_stonith *stonith;
	struct sim_workload *workload;
	uint32_t nodes_count;
	struct sim_node_options options;
};

struct sim_node *sim_node_start(const struct sim_node_world *world, uint32_t id,
				struct ferry_incarnation incarnation);
/* Returns NULL. @is_power_cut: no kernel closes its connections. */
struct sim_node *sim_node_crash(struct sim_node *node, bool is_power_cut);

/* What its cluster side says from now on reaches its data side in @delay_ns at the soonest. */
void sim_node_hears_late(struct sim_node *node, uint64_t delay_ns);
