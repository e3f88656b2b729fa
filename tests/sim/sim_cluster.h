/*
 * sim_cluster.h - a whole cluster: nodes, networks, the lun, applications, faults, and what must
 * hold after every step.
 *
 * Owns:    all of the simulated world.
 * Callers: scenarios (scenario_*.c), ferry_sim.c.
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
	struct ferry_epoch believed; /* It owns the pool in this one, as far as it knows; or 0. */
};

struct sim_cluster {
	struct sim sim;
	struct sim_lun lun;
	struct sim_net net;
	struct sim_corosync corosync;
	struct sim_stonith stonith;
	struct sim_workload workload;
	struct sim_cluster_node nodes[SIM_NODES_MAX + 1];
	uint32_t nodes_count;
	struct sim_node_options options;
	struct sim_event manager_event; /* What Pacemaker does: somebody is to own the pool. */
	bool is_managed;
	uint64_t manager_ns_max;   /* From one of its looks to the next. */
	uint32_t clears_per_mille; /* Of the manager's looks at an owner whose flushes fail. */
	/* A node's agent is about to be gone; or NULL. */
	void (*before_crash)(struct sim_cluster *cluster, const struct sim_node *node);
	void (*after_start)(struct sim_cluster *cluster, struct sim_node *node); /* Or NULL. */
	/* A node's agent says something; or NULL. */
	void (*on_event)(void *context, uint32_t node, const struct ferry_event *event);
	void *on_event_context;
	bool was_deposed; /* The last owner: its applications have been told. */
	uint64_t owner_changes;
	uint64_t clears;
	uint64_t releases;
	struct ferry_epoch epoch_open;	 /* The newest under which a node has been open. */
	struct ferry_epoch epoch_agreed; /* The newest that a node has thought in force... */
	uint64_t epoch_agreed_ring;	 /* ...first in this ring. */
	struct sim_opener openers[SIM_EPOCHS_MAX];
};

void sim_cluster_init(struct sim_cluster *cluster, uint64_t seed, uint32_t nodes_count);
void sim_cluster_done(struct sim_cluster *cluster);

/* ---- Nodes. ---- */
void sim_cluster_start(struct sim_cluster *cluster, uint32_t id);
void sim_cluster_start_all(struct sim_cluster *cluster);
/* The agent alone, or the whole machine. */
void sim_cluster_crash(struct sim_cluster *cluster, uint32_t id, bool is_power_cut);
/* The agent alone (SIGSTOP), the machine, or the machine as a guest whose clock stops too. */
enum sim_freeze { SIM_FREEZE_AGENT = 1, SIM_FREEZE_NODE, SIM_FREEZE_GUEST };

void sim_cluster_pause(struct sim_cluster *cluster, uint32_t id, enum sim_freeze how);
void sim_cluster_freeze(struct sim_cluster *cluster, uint32_t id); /* SIM_FREEZE_NODE */
void sim_cluster_wake(struct sim_cluster *cluster, uint32_t id);
void sim_cluster_acquire(struct sim_cluster *cluster, uint32_t id);
void sim_cluster_release(struct sim_cluster *cluster, uint32_t id, uint32_t next_owner);
/*
 * A person has @id take the pool by force, and answers for who does not answer (design, rule 14):
 * nobody serves, who is silent is switched off, and nothing but @id's own is left at the lun.
 * False: not so, or not now.
 */
bool sim_cluster_force(struct sim_cluster *cluster, uint32_t id);
/* Whose agents @id does not find in its group: whom a person is asked for. */
struct ferry_members sim_cluster_missing(const struct sim_cluster *cluster, uint32_t id);
/* An administrator has looked at flushes that fail, and has the owner go on. */
void sim_cluster_clear(struct sim_cluster *cluster, uint32_t id);

/* Cut @id off from all others: corosync's ring and the agents' network. */
void sim_cluster_isolate(struct sim_cluster *cluster, uint32_t id);
/* The same by sides: nodes of different sides, [1..], do not hear each other. */
void sim_cluster_partition(struct sim_cluster *cluster, const uint32_t *sides);
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

/* What has not been given back though nothing is under way any more; NULL: all is at rest. */
const char *sim_cluster_leak(const struct sim_cluster *cluster);

/* Run until @done says so; false after @limit_ns. */
bool sim_cluster_run_until(struct sim_cluster *cluster,
			   bool (*done)(struct sim_cluster *cluster, void *context), void *context,
			   uint64_t limit_ns);
void sim_cluster_run(struct sim_cluster *cluster, uint64_t duration_ns);

/* Read every block through the owner and compare; false: it could not within @limit_ns. */
bool sim_cluster_read_all(struct sim_cluster *cluster, uint64_t limit_ns);
