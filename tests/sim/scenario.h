/*
 * scenario.h - what the scenarios share: a cluster where one thing goes wrong, told step by step.
 *
 * Owns:    one cluster for each file of scenarios.
 * Callers: scenario_*.c, sim_test.c, sim_fencing_test.c.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/key.h"
#include "tests/sim/sim_chaos.h"

/* Each file's, by subject; how many of them failed. */
int scenario_aborts(void);
int scenario_paths(void);
int scenario_power(void);
int scenario_ghosts(void);
int scenario_flush(void);
int scenario_peers(void);
int scenario_owners(void);
int scenario_fencing(void);
int scenario_rdma(void);
int scenario_restarts(void);
int scenario_targets(void);
int scenario_two_nodes(void);
int scenario_wishes(void);

static struct sim_cluster cluster;

static inline bool owner_is(struct sim_cluster *self, void *context)
{
	const struct sim_node *owner = sim_cluster_owner(self);

	return owner && owner->id == *(uint32_t *)context && owner->engine.has_path;
}

static inline bool is_converged(struct sim_cluster *self, void *context)
{
	(void)context;
	return sim_cluster_is_converged(self);
}

/* @nodes_count agents; node 1 owns the pool; applications are quiet unless @depth says so. */
static inline void start(uint32_t depth)
{
	uint32_t one = 1;

	cluster.workload.depth = depth;
	cluster.workload.is_stopped = depth == 0;
	cluster.lun.options.slow_per_mille = 0;
	sim_cluster_start_all(&cluster);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 1);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 10 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S); /* Trials are stood. */
}

static inline void begin(uint64_t seed, uint32_t nodes_count, uint32_t depth)
{
	sim_cluster_init(&cluster, seed, nodes_count);
	start(depth);
}

static inline void begin_impatient(uint64_t seed, uint64_t path_timeout_ns)
{
	sim_cluster_init(&cluster, seed, 3);
	cluster.options.path_timeout_ns = path_timeout_ns;
	start(/* depth= */ 0);
}

/* Faults stop, everything comes to rest, every block is what it may be. */
static inline void end(void)
{
	sim_cluster_heal(&cluster);
	cluster.workload.is_stopped = true;
	sim_cluster_manage(&cluster, true);
	assert_true(sim_cluster_run_until(&cluster, is_converged, NULL, 120 * FERRY_NS_PER_S));
	assert_true(sim_cluster_read_all(&cluster, 60 * FERRY_NS_PER_S));
	if (cluster.sim.violations > 0)
		fail_msg("%s", cluster.sim.first_violation);
	sim_cluster_done(&cluster);
}

/* A write of node 1's, at block 8, is in the target's queue, and stays there. */
static inline void hold_a_write(void)
{
	sim_lun_hold(&cluster.lun, 1, 1);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_WRITE, 8, 4), 0);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_MS);
}

/* The target is restarted; so are the agents of nodes 2 and 3, which know nothing of before. */
static inline void restart_lun_and_peers(void)
{
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_crash(&cluster, i, /* is_power_cut= */ false);
	sim_lun_restart(&cluster.lun);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_start(&cluster, i);
}

static inline const struct ferry_router_stats *stats(uint32_t id)
{
	return &sim_cluster_node(&cluster, id)->engine.router.stats;
}

static inline enum ferry_lane_state lane_state(uint32_t id)
{
	return sim_cluster_node(&cluster, id)->engine.router.lanes[0].state;
}

static inline uint64_t errors(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cluster.workload.errors); i++)
		sum += cluster.workload.errors[i];
	return sum;
}

static inline bool is_quiet(struct sim_cluster *self, void *context)
{
	(void)context;
	return sim_workload_running(&self->workload) == 0;
}

/* One I/O on @id's volume, to its end; its error. */
static inline int do_io(uint32_t id, enum ferry_op op, uint64_t lba)
{
	uint64_t before[FERRY_ARRAY_COUNT(cluster.workload.errors)];

	memcpy(before, cluster.workload.errors, sizeof(before));
	assert_int_equal(sim_client_submit(&sim_cluster_node(&cluster, id)->client, op, lba, 4), 0);
	assert_true(sim_cluster_run_until(&cluster, is_quiet, NULL, 60 * FERRY_NS_PER_S));
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(before); i++)
		if (cluster.workload.errors[i] != before[i])
			return -(int)i;
	return 0;
}
