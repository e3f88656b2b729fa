/*
 * device_stand.h - two RDMA devices that are made up, on the simulator's queue of events: queue
 * pairs, windows and keys, completions, and faults, under the adapter's own code. How connections
 * are made is cm_stand.h's; here they can be made by hand.
 *
 * Owns:    the devices' objects; what was posted to them.
 * Callers: sim_test.c, admit_stand.c, cm_stand.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/adapters/verbs/room.h"
#include "tests/sim/sim_loop.h"

enum { SIM_DEVICE_COMPLETIONS_MAX = 4096 };

struct sim_device {
	struct sim *sim;
	struct sim_loop *loop;
	struct ferry_verbs verbs; /* The adapter's. */
	struct ibv_context context;
	struct ibv_pd pd;
	struct ibv_cq cq;
	struct ibv_mr mr; /* Of all memory. */
	struct ibv_wc completions[SIM_DEVICE_COMPLETIONS_MAX];
	uint32_t completions_first, completions_count;
	struct sim_input wake_input;
	struct ferry_list windows;
	uint32_t pairs_count;
	uint32_t fails_per_mille; /* Of calls that take memory. */
	uint32_t stuck_per_mille; /* Of windows that are to be deallocated, and are not. */
	uint64_t stuck;
	uint32_t keys;
	uint32_t late_per_mille; /* Of RDMA, which takes up to this. */
	uint64_t late_ns_max;
	uint64_t late;	 /* How much of it was. */
	uint64_t denied; /* RDMA by a key that opens nothing. */
};

void sim_device_open(struct sim_device *device, struct sim_loop *loop, uint32_t node, void *memory,
		     size_t memory_bytes, uint32_t links_max);
/* Its links are closed first, as an agent's are. */
void sim_device_close(struct sim_device *device);

static inline struct verbs_link *sim_device_link(struct sim_device *device)
{
	return &device->verbs.links[0];
}

/* From here on what one sends comes to the other. */
void sim_pair_join(struct ibv_qp *a, struct ibv_qp *b);
/* Both first links are down: a connection between them, which is up at once. */
void sim_device_connect(struct sim_device *a, struct sim_device *b);
/* The connection is broken: both ends hear of it when they can. */
void sim_device_break(struct verbs_link *link);
