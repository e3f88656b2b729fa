/*
 * sim_chaos.h - one seed: a cluster, a workload and faults, all drawn from it; first any faults
 * (safety), then none, and everything has to come to rest (liveness), with nothing left over.
 *
 * Owns:    nothing beyond the run.
 * Callers: ferry_sim.c, sim_test.c, scenario.h, tests/museum.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "tests/sim/sim_fault.h"

/* What is counted over a run; F(name, text). */
#define SIM_FIGURES(F)                                                                             \
	F(ios, "I/Os")                                                                             \
	F(reads, "reads")                                                                          \
	F(writes, "writes")                                                                        \
	F(flushes, "flushes")                                                                      \
	F(discards, "discards")                                                                    \
	F(zeroes, "write-zeroes")                                                                  \
	F(fuas, "FUA")                                                                             \
	F(errors, "errors")                                                                        \
	F(flush_errors, "flushes that failed")                                                     \
	F(detours, "detours")                                                                      \
	F(ghosts_made, "ghosts made")                                                              \
	F(ghosts_late, "laid late")                                                                \
	F(ghosts_aborted, "laid by abort")                                                         \
	F(landed_late, "landed late")                                                              \
	F(aborted, "aborted at the lun")                                                           \
	F(conflicts, "conflicts")                                                                  \
	F(preempts, "preempts")                                                                    \
	F(epochs, "epochs")                                                                        \
	F(owners, "owner changes")                                                                 \
	F(releases, "releases")                                                                    \
	F(losses, "caches lost")                                                                   \
	F(blocks_lost, "blocks lost")                                                              \
	F(attentions, "unit attentions")                                                           \
	F(refused, "refused for good")                                                             \
	F(suspects, "flushes suspect")                                                             \
	F(clears, "cleared")                                                                       \
	F(cache_hits, "cache hits")                                                                \
	F(warm_hits, "warm hits")                                                                  \
	F(imported, "lines imported")                                                              \
	F(convictions, "convictions")                                                              \
	F(carried_again, "answered again")                                                         \
	F(power_cuts, "nodes fenced")                                                              \
	F(power_failures, "fencings failed")                                                       \
	F(power_heard, "fencings believed")                                                        \
	F(power_takes, "taken after them")                                                         \
	F(rdma_reads, "RDMA reads")                                                                \
	F(rdma_writes, "RDMA writes")                                                              \
	F(rdma_late_reads, "late RDMA reads")                                                      \
	F(rdma_late_writes, "late RDMA writes")                                                    \
	F(rdma_cut, "RDMA after the cut")                                                          \
	F(stale_reads, "stale reads of deposed nodes")                                             \
	F(past_writes, "writes told of by paused ones")

struct sim_result {
	uint64_t seed;
	int exit_code; /* 0 or SIM_EXIT_*. */
	uint64_t trace_hash;
	uint64_t steps;
	uint64_t simulated_ns;
	uint32_t nodes;
	uint32_t planned; /* Faults. */
	uint64_t faults[SIM_FAULTS_COUNT];
#define SIM_FIGURE_FIELD(name, text) uint64_t name;
	SIM_FIGURES(SIM_FIGURE_FIELD)
#undef SIM_FIGURE_FIELD
	char what[256]; /* The first thing that was wrong. */
};

struct sim_chaos_options {
	bool is_tracing;
	bool strict_reads;		 /* A deposed node's stale read counts as a violation. */
	bool takes_timeouts_as_failures; /* The canary's mistake. */
	/* For minimising: these faults are left out, and all that would begin later. */
	bool skip[SIM_PLAN_MAX];
	uint64_t faults_ns_max; /* 0: no limit. */
	bool lists_faults;	/* Print what is left of the plan. */
};

void sim_chaos_run(uint64_t seed, const struct sim_chaos_options *options, struct sim_result *ret);
