/*
 * sim_chaos.h - one seed: a cluster, a workload and faults, all drawn from it; first any faults
 * (safety), then none, and everything has to come to rest (liveness).
 *
 * Owns:    nothing beyond the run.
 * Callers: ferry_sim.c, sim_test.c.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "tests/sim/sim_cluster.h"

enum sim_fault {
	SIM_FAULT_CUT = 0, /* A black hole on a storage path; or its end. */
	SIM_FAULT_RESET,
	SIM_FAULT_LUN_OFF,
	SIM_FAULT_CRASH,
	SIM_FAULT_POWER,
	SIM_FAULT_FREEZE,
	SIM_FAULT_ISOLATE,
	SIM_FAULT_LINK,
	SIM_FAULT_BREAK, /* Connections between agents, at once made anew. */
	SIM_FAULT_MOVE,
	SIM_FAULT_STORE,
	SIM_FAULTS_COUNT,
};

const char *sim_fault_name(enum sim_fault fault);

struct sim_result {
	uint64_t seed;
	int exit_code; /* 0 or SIM_EXIT_*. */
	uint64_t trace_hash;
	uint64_t steps;
	uint64_t simulated_ns;
	uint32_t nodes;
	uint64_t faults[SIM_FAULTS_COUNT];
	uint64_t ios;
	uint64_t errors;
	uint64_t detours;
	uint64_t ghosts_made;
	uint64_t ghosts_late;
	uint64_t ghosts_aborted;
	uint64_t landed_late;
	uint64_t aborted;
	uint64_t conflicts;
	uint64_t preempts;
	uint64_t epochs;
	uint64_t stale_reads;
	char what[256]; /* The first thing that was wrong. */
};

struct sim_chaos_options {
	bool is_tracing;
	bool strict_reads;		 /* A deposed node's stale read counts as a violation. */
	bool takes_timeouts_as_failures; /* The canary's mistake. */
};

void sim_chaos_run(uint64_t seed, const struct sim_chaos_options *options, struct sim_result *ret);
