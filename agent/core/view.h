/*
 * view.h - what the data thread knows of the cluster: set by the cluster thread, read at every
 * admission and at every carried request.
 *
 * Owns:    nothing.
 * Callers: engine.c sets it; router.c, carrier.c and registrar.c read it.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/ports/group.h"

/* Of the agents of @node that are older than @before nothing can land any more. */
struct ferry_dead_agents {
	struct ferry_node node;
	struct ferry_incarnation before; /* FERRY_DEAD_ALL: all that it has had. */
};

#define FERRY_DEAD_ALL UINT64_MAX

struct ferry_dead {
	struct ferry_dead_agents of[FERRY_NODES_MAX];
	uint32_t count;
};

struct ferry_view {
	struct ferry_members members; /* Agents that are members now. */
	bool is_quorate;
	struct ferry_uuid lineage;
	struct ferry_epoch epoch; /* Installed here: what is older is refused. */
	struct ferry_node owner;  /* Of this epoch; 0: nobody yet. */
	bool is_in_force;	  /* A majority has it; the owner may admit I/O. */
	bool may_register;	  /* The owner's grant, or nobody owns the pool. */
	bool only_if_kept;	  /* And only if the lun still has a key of this node's. */
	/*
	 * A node's power was cut, or an agent of it has a successor; and the lun's quiesce time has
	 * passed since.
	 */
	struct ferry_dead dead;
	bool may_help; /* Have its key on the lun, to abort others, if not for its own I/O. */
	/*
	 * The newest ferry_engine_config.on_ask() that the group has answered: this view is at
	 * least as new as that question.
	 */
	uint64_t word;
	/*
	 * Restarts of the target that members have told of, which this owner has to note; and the
	 * newest of this agent's own (config.on_witness()) that an owner has noted, and which.
	 */
	uint64_t restarts;
	uint64_t told;
	struct ferry_node told_by;
};

static inline bool ferry_view_has_member(const struct ferry_view *view, struct ferry_node node)
{
	for (uint32_t i = 0; i < view->members.count; i++)
		if (view->members.nodes[i].v == node.v)
			return true;
	return false;
}
