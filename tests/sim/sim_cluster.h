/*
 * sim_cluster.h - a whole cluster: nodes, networks, the lun, applications, faults, and what must
 * hold after every step.
 *
 * Owns:    all of the simulated world.
 * Callers: scenarios (sim_test.c), ferry_sim.c.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "tests/sim/sim_node.h"

enum { SIM_LUN_BLOCKS = 96, SIM_EPOCHS_MAX = 4096 };

/* Whose epoch it was. */
struct sim_opener {
	struct ferry_epoch epoch;
	uint32_t node;
	struct ferry_incarnation incarnation;
};

struct sim_cluster_node {
	struct sim_node *node; /* NULL: no agent runs. */
	struct sim_store store;
	struct ferry_incarnation incarnation; /* The last one. */
	bool is_frozen;
};

struct sim_cluster {
	struct sim sim;
	struct sim_lun lun;
	struct sim_net net;
	struct sim_corosync corosync;
	struct sim_checker checker;
	struct sim_workload workload;
	struct sim_cluster_node nodes[SIM_NODES_MAX + 1];
	uint32_t nodes_count;
	struct sim_node_options options;
	struct sim_event manager_event; /* What Pacemaker does: somebody is to own the pool. */
	bool is_managed;
	struct ferry_epoch epoch_open; /* The newest under which a node has been open. */
	struct sim_opener openers[SIM_EPOCHS_MAX];
};

void sim_cluster_init(struct sim_cluster *cluster, uint64_t seed, uint32_t nodes_count);
void sim_cluster_done(struct sim_cluster *cluster);

/* ---- Nodes. ---- */
void sim_cluster_start(struct sim_cluster *cluster, uint32_t id);
void sim_cluster_start_all(struct sim_cluster *cluster);
/* The agent alone, or the whole machine. */
void sim_cluster_crash(struct sim_cluster *cluster, uint32_t id, bool is_power_cut);
void sim_cluster_freeze(struct sim_cluster *cluster, uint32_t id);
void sim_cluster_wake(struct sim_cluster *cluster, uint32_t id);
void sim_cluster_acquire(struct sim_cluster *cluster, uint32_t id);

/* Cut @id off from all others: corosync's ring and the agents' network. */
void sim_cluster_isolate(struct sim_cluster *cluster, uint32_t id);
void sim_cluster_join_all(struct sim_cluster *cluster);

/* Faults stop: everything runs, everything is connected. */
void sim_cluster_heal(struct sim_cluster *cluster);

/* Acquire the pool somewhere whenever nobody wants it. */
void sim_cluster_manage(struct sim_cluster *cluster, bool is_managed);

/* ---- Looking and waiting. ---- */
struct sim_node *sim_cluster_node(struct sim_cluster *cluster, uint32_t id);
/* The node that owns the pool in the newest epoch, and is open; or NULL. */
struct sim_node *sim_cluster_owner(struct sim_cluster *cluster);
/* Whether all applications' I/O has ended and all paths are healthy again. */
bool sim_cluster_is_converged(struct sim_cluster *cluster);

/* Run until @done says so; false after @limit_ns. */
bool sim_cluster_run_until(struct sim_cluster *cluster,
			   bool (*done)(struct sim_cluster *cluster, void *context), void *context,
			   uint64_t limit_ns);
void sim_cluster_run(struct sim_cluster *cluster, uint64_t duration_ns);

/* Read every block through the owner and compare; false: it could not within @limit_ns. */
bool sim_cluster_read_all(struct sim_cluster *cluster, uint64_t limit_ns);
