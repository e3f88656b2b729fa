/*
 * sim_group.h - the membership port as corosync does it: rings, quorum, one order for messages.
 *
 * A change (a node gone, frozen, cut off, or back) is noticed after the token's timeout; until
 * then messages of the rings concerned wait. Then each side forms a new ring, whose number never
 * comes back. A node that was away hears first that it is alone, then who is there again.
 *
 * Owns:    the rings, messages that are not delivered yet.
 * Callers: sim_node, faults in scenarios.
 * Thread:  deliveries run on the node's simulated loop.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/ports/group.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_lun.h"

struct sim_corosync;

/*
 * What one node's agent is told. CPG tells of messages and members, in one order; quorum is another
 * service, with an order of its own: it may be first, or later by some messages.
 */
enum sim_delivery_kind { SIM_DELIVERY_MESSAGE = 1, SIM_DELIVERY_MEMBERS, SIM_DELIVERY_QUORUM };

struct sim_delivery {
	struct sim_input input;
	struct ferry_list link; /* In group->deliveries. */
	struct sim_group *group;
	enum sim_delivery_kind kind;
	struct ferry_node from;
	size_t length_bytes;
	uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES_MAX];
	bool is_quorate;
	uint64_t ring;
	struct ferry_members members;
};

/* A message that has not got its place in the order yet. */
struct sim_outgoing {
	struct ferry_list link;
	size_t length_bytes;
	uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES_MAX];
};

struct sim_group {
	struct ferry_group group;
	struct sim_corosync *corosync;
	struct sim_loop *loop;
	uint32_t node;
	struct ferry_list deliveries;
	struct ferry_list outgoing;
	struct sim_event order_event;
	/* When the last delivery of each service is due: none comes before it. */
	uint64_t delivered_ns;
	uint64_t quorum_delivered_ns;
};

struct sim_corosync_node {
	struct sim_group *group; /* NULL: no agent. */
	bool is_up;		 /* The machine and its corosync. */
	bool is_frozen;
	uint32_t side; /* Nodes of different sides don't see each other. */
	uint64_t ring;
	bool is_gathering; /* Its ring has lost the token. */
	bool was_away;
};

struct sim_corosync {
	struct sim *sim;
	uint32_t nodes_count;
	struct sim_corosync_node nodes[SIM_NODES_MAX + 1];
	struct sim_event form_event;
	uint64_t ring_next;
	uint64_t token_ns_min;
	uint64_t token_ns_max;
	uint64_t quorum_lag_ns_max; /* How far quorum's word and CPG's may be apart. */
};

void sim_corosync_init(struct sim_corosync *corosync, struct sim *sim, uint32_t nodes_count);

/* An agent joins; on_members() and on_quorum() follow. */
void sim_group_join(struct sim_group *group, struct sim_corosync *corosync, struct sim_loop *loop,
		    uint32_t node);
/* It is gone; the node may live on. */
void sim_group_leave(struct sim_group *group);

void sim_corosync_node_up(struct sim_corosync *corosync, uint32_t node, bool is_up);
void sim_corosync_freeze(struct sim_corosync *corosync, uint32_t node, bool is_frozen);
/* Sides by node number, [1..]. */
void sim_corosync_partition(struct sim_corosync *corosync, const uint32_t *sides);
