/*
 * group.h - the membership port: who is in the cluster, whether it has quorum, and messages that
 * all members see in one order.
 *
 * Delivery to oneself is no agreement (design, rule 12): only what members answer is.
 *
 * Owns:    nothing; it is only an interface.
 * Callers: fencing/ownership_messages.c, core of the cluster thread.
 * Thread:  the cluster loop.
 * Rooms:   adapters/corosync, tests/sim.
 */
#pragma once

#include "agent/base/base.h"

enum { FERRY_NODES_MAX = 32, FERRY_GROUP_MESSAGE_BYTES_MAX = 1024 };

/* Nodes; mostly those whose agents are in the group: one without a running agent is not in it. */
struct ferry_members {
	struct ferry_node nodes[FERRY_NODES_MAX]; /* Ascending, but for a whole cluster's. */
	uint32_t count;
};

static inline bool ferry_members_have(const struct ferry_members *members, struct ferry_node node)
{
	for (uint32_t i = 0; i < members->count; i++)
		if (members->nodes[i].v == node.v)
			return true;
	return false;
}

/* A cluster of the nodes 1 to @count, as stands have it. */
static inline struct ferry_members ferry_members_of(uint32_t count)
{
	struct ferry_members members = {.count = count};

	for (uint32_t i = 0; i < count && i < FERRY_NODES_MAX; i++)
		members.nodes[i].v = i + 1;
	return members;
}

struct ferry_group {
	const struct ferry_group_ops *ops;
	struct ferry_node self;
	struct ferry_members nodes; /* The whole cluster's, present or not; for majorities. */
	bool is_quorate;
	uint64_t ring; /* Changes with each change of the cluster's membership; never repeats. */

	/* The owner's, set before joining. */
	void (*on_members)(struct ferry_group *group, const struct ferry_members *members);
	/* Quorum or ring changed. Read is_quorate and ring. */
	void (*on_quorum)(struct ferry_group *group);
	void (*on_message)(struct ferry_group *group, struct ferry_node from, const void *bytes,
			   size_t length_bytes);
	void (*on_lost)(struct ferry_group *group, const char *why); /* The daemon is gone. */
	void *context;
};

struct ferry_group_ops {
	const char *name;
	/* -EAGAIN: flow control; try again later. The message is copied. */
	int (*multicast)(struct ferry_group *group, const void *bytes, size_t length_bytes);
};
