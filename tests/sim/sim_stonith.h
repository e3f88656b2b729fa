/*
 * sim_stonith.h - Pacemaker's fencing: who is missing from the ring with quorum has its power cut,
 * if that does not fail; and what each node's Pacemaker remembers of it.
 *
 * Owns:    the fencings, and their history.
 * Callers: sim_cluster (what it does to nodes), sim_node (the power port), scenarios.
 * Thread:  looks run on the node's simulated loop.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/ports/power.h"
#include "tests/sim/sim_group.h"

enum { SIM_FENCINGS_MAX = 128 };

struct sim_stonith;

/* One node's fencing, while it is under way. */
struct sim_fencing {
	struct sim_event event;
	struct sim_stonith *stonith;
	uint32_t node;
	enum { SIM_FENCING_IDLE = 0, SIM_FENCING_DUE, SIM_FENCING_ASKED, SIM_FENCING_CUT } stage;
	uint32_t entry;		   /* Of the history. */
	struct sim_event on_event; /* The machine is turned on again. */
};

struct sim_stonith {
	struct sim *sim;
	struct sim_corosync *corosync;
	struct sim_event look_event;
	struct sim_fencing fencings[SIM_NODES_MAX + 1];
	struct ferry_power_fencing history[SIM_FENCINGS_MAX];
	uint32_t history_count;
	uint32_t fails_per_mille;
	uint32_t stays_off_per_mille; /* Else it is turned on again, perhaps before it is said. */
	uint32_t
		forgets_per_mille; /* A node's Pacemaker has just been started: it knows nothing. */
	bool only_storage;	   /* Its devices keep nodes from something, and cut no power. */
	uint64_t reaction_ns_max;
	bool is_on;
	void (*power_cut)(void *context, uint32_t node);
	void (*power_on)(void *context, uint32_t node);
	void *context;
	uint64_t cuts; /* Figures. */
	uint64_t failures;
};

void sim_stonith_init(struct sim_stonith *stonith, struct sim *sim, struct sim_corosync *corosync);
void sim_stonith_start(struct sim_stonith *stonith);
/* What is under way is given up. */
void sim_stonith_stop(struct sim_stonith *stonith);

/* The power port of one node. */
struct sim_power {
	struct ferry_power power;
	struct sim_stonith *stonith;
	struct sim_input read_input; /* The history is read... */
	struct sim_input input;	     /* ...and the answer comes. */
	struct ferry_power_report report;
	bool has_failed;
};

void sim_power_open(struct sim_power *power, struct sim_stonith *stonith, struct sim_loop *loop);
/* Never opened: nothing. */
void sim_power_close(struct sim_power *power);
