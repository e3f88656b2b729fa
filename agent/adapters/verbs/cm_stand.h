/*
 * cm_stand.h - rdma_cm that is made up, on the simulator's queue of events: identifiers, what is
 * asked of each other and answered, and all that may come instead, late, or not at all.
 *
 * It holds the caller to the contract of librdmacm(3): each event acknowledged once, no identifier
 * destroyed before that, twice or not at all, no call in a state that it is not for.
 *
 * Owns:    identifiers, events that were not taken yet.
 * Callers: admit_stand.c, both tests; device_stand.c and the adapter, by --wrap.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/adapters/verbs/device_stand.h"

enum { SIM_CM_NODES_MAX = 3, SIM_CM_PRIVATE_BYTES = 255 };

/* What one agent's kernel has of it. */
struct sim_cm_node {
	struct sim_device *device; /* NULL: the agent does not run. */
	struct rdma_event_channel channel;
	struct rdma_cm_id *listener;
	struct ferry_list events; /* In the order in which they are told. */
	struct sim_input input;
	bool is_removed; /* The device; until the agent is started anew. */
};

struct sim_cm {
	struct sim *sim;
	struct sim_cm_node nodes[SIM_CM_NODES_MAX];	/* By number; 0 is nobody's. */
	uint32_t opening;				/* Whose the next channel is. */
	struct ferry_list ids;				/* All there are. */
	uint32_t ids_count, events_count;		/* Neither freed, nor given back. */
	uint32_t fails_per_mille;			/* Of calls. */
	uint32_t faults_per_mille;			/* Of what should come of them. */
	uint64_t seen[RDMA_CM_EVENT_TIMEWAIT_EXIT + 1]; /* So often told. */
	uint64_t forged;

	/* @node asks with this; @node has accepted who asked with that. */
	void (*on_connect)(uint32_t node, const void *bytes, size_t length_bytes);
	void (*on_accept)(uint32_t node, const struct rdma_cm_id *id, const void *bytes,
			  size_t length_bytes);
};

extern struct sim_cm sim_cm;

void sim_cm_init(struct sim *sim);
/* Nothing is left of any agent. */
void sim_cm_done(void);

/* The agent starts: connect.c opens its channel, and a listener on it. That it may not. */
int sim_cm_open(struct sim_device *device, uint32_t node);
/* Its links are closed; also of what could not be opened. */
void sim_cm_close(uint32_t node);

/* Somebody asks @node to connect. */
void sim_cm_intrude(uint32_t node, const void *bytes, uint8_t length_bytes);
/* Tell of this, as may come at any time. False: not of an identifier in this state. */
bool sim_cm_tell(struct rdma_cm_id *id, enum rdma_cm_event_type type);
/* The device of @node goes away. */
void sim_cm_remove(uint32_t node);
/* The answer that came to this was not its peer's. */
bool sim_cm_is_forged(const struct rdma_cm_id *id);
