/*
 * sim_workload.h - applications: one client per node that keeps a few tagged I/Os going through
 * the node's volume, and checks what comes back.
 *
 * Owns:    its I/Os.
 * Callers: sim_cluster.
 * Thread:  the node's simulated loop.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/check/check.h"
#include "agent/ports/block.h"
#include "tests/sim/sim_loop.h"

enum { SIM_CLIENT_DEPTH_MAX = 8, SIM_CLIENT_BLOCKS_MAX = 8, SIM_OPS = 8 };

struct sim_client;

struct sim_io {
	struct ferry_io io;
	struct sim_client *client;
	struct sim_input input; /* Thinking before the next one. */
	bool is_running;
	struct ferry_check_io check;
	uint64_t started_ns;
};

struct sim_workload {
	struct sim *sim;
	struct ferry_check check;
	void *memory; /* The checker's. */
	uint64_t size_blocks;
	uint32_t depth;
	uint64_t think_ns_max;
	uint64_t span_blocks;	   /* I/O goes to the first so many: the fewer, the more meet. */
	uint32_t strays_per_mille; /* I/O where the pool is not. */
	uint32_t lines_per_mille;  /* I/O of a whole line of the read cache: else few enter. */
	uint32_t fua_per_mille;	   /* Of writes and write-zeroes. */
	uint32_t shares[SIM_OPS];  /* How often each enum ferry_op is drawn. */
	bool allows_eio;	   /* The lun fails commands for good. */
	bool is_stopped;
	bool tolerates_stale_reads; /* By a node that can't know yet of the epoch after its own. */
	struct sim_client *clients[16];
	uint64_t ended[SIM_OPS]; /* By enum ferry_op, without error. */
	uint64_t errors[160];	 /* By errno. */
	uint64_t stale_reads;
	uint64_t flush_errors;
	uint64_t past_writes;	 /* Acknowledged by a deposed node whose clock had stood still. */
	uint64_t latency_ns_max; /* Of those without error. */
};

struct sim_client {
	struct sim_workload *workload;
	struct sim_loop *loop;
	struct ferry_block *block;
	uint32_t node;
	struct sim_io ios[SIM_CLIENT_DEPTH_MAX];
	uint32_t running_count;
	uint64_t clock_stood_ns; /* Until when: its guest was paused. Of the simulator's time. */
	/* Whether new I/O is to be started, and whether this node is deposed and not told yet. */
	bool (*is_open)(struct sim_client *client);
	bool (*is_deposed)(struct sim_client *client);
	void *context;
};

void sim_workload_init(struct sim_workload *workload, struct sim *sim, uint64_t size_blocks);
void sim_workload_done(struct sim_workload *workload);

void sim_client_start(struct sim_client *client, struct sim_workload *workload,
		      struct sim_loop *loop, struct ferry_block *block);
/* Its node has crashed. */
void sim_client_crash(struct sim_client *client);

/* One I/O by hand, in a free slot; -EBUSY: none is free. */
int sim_client_submit(struct sim_client *client, enum ferry_op op, uint64_t lba,
		      uint32_t length_blocks);
/* Go on after sim_workload.is_stopped was taken back. */
void sim_client_resume(struct sim_client *client);

uint32_t sim_workload_running(const struct sim_workload *workload);
