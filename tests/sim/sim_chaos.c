#include "tests/sim/sim_chaos.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CONVERGE_NS_MAX (120 * FERRY_NS_PER_S)

struct chaos {
	struct sim_cluster cluster;
	struct sim_event fault_event;
	uint32_t weights[SIM_FAULTS_COUNT]; /* Drawn: each seed has its own kinds of weather. */
	uint32_t weights_sum;
	uint64_t interval_ns_max;
	bool lies;
	struct sim_result result;
};

const char *sim_fault_name(enum sim_fault fault)
{
	static const char *const names[] = {
		[SIM_FAULT_CUT] = "cut",	 [SIM_FAULT_RESET] = "reset",
		[SIM_FAULT_LUN_OFF] = "lun",	 [SIM_FAULT_CRASH] = "crash",
		[SIM_FAULT_POWER] = "power",	 [SIM_FAULT_FREEZE] = "freeze",
		[SIM_FAULT_ISOLATE] = "isolate", [SIM_FAULT_LINK] = "link",
		[SIM_FAULT_BREAK] = "break",	 [SIM_FAULT_MOVE] = "move",
		[SIM_FAULT_STORE] = "store",
	};

	ferry_assert((size_t)fault < FERRY_ARRAY_COUNT(names));
	return names[fault];
}

/* ---- What a node's start and end leave in the figures. ---- */

static void figures_take(struct chaos *chaos, const struct sim_node *node)
{
	const struct ferry_router_stats *stats;

	if (!node)
		return;
	stats = &node->engine.router.stats;
	chaos->result.detours += stats->detours;
	chaos->result.ghosts_made += stats->ghosts_made;
	chaos->result.ghosts_late += stats->ghosts_laid_late;
	chaos->result.ghosts_aborted += stats->ghosts_laid_abort;
}

/* ---- Faults. ---- */

static void toggle_agent(struct chaos *chaos, uint32_t id, bool is_power_cut)
{
	struct sim_cluster *cluster = &chaos->cluster;

	if (cluster->nodes[id].node) {
		figures_take(chaos, cluster->nodes[id].node);
		sim_cluster_crash(cluster, id, is_power_cut);
	} else {
		sim_cluster_start(cluster, id);
		if (cluster->nodes[id].node)
			cluster->nodes[id].node->path.takes_timeouts_as_failures = chaos->lies;
	}
}

static void toggle_link(struct sim_cluster *cluster, uint32_t id)
{
	uint32_t other = (uint32_t)sim_between(&cluster->sim, SIM_CRASH, 1, cluster->nodes_count);
	bool is_cut = !cluster->net.is_cut[id][other];

	if (other == id)
		return;
	sim_note(&cluster->sim, SIM_FAULT, id, other, "link to n%u is %s", other,
		 is_cut ? "cut" : "whole");
	sim_net_cut(&cluster->net, id, other, is_cut);
	if (!is_cut || sim_chance(&cluster->sim, SIM_CRASH, 500)) /* Else one way only. */
		sim_net_cut(&cluster->net, other, id, is_cut);
}

static void fault_make(struct chaos *chaos, enum sim_fault fault, uint32_t id)
{
	struct sim_cluster *cluster = &chaos->cluster;

	switch (fault) {
	case SIM_FAULT_CUT:
		if (cluster->lun.nexuses[id].is_cut)
			sim_lun_heal(&cluster->lun, id);
		else
			sim_lun_cut(&cluster->lun, id);
		break;
	case SIM_FAULT_RESET:
		sim_lun_reset_session(&cluster->lun, id);
		break;
	case SIM_FAULT_LUN_OFF:
		sim_lun_power(&cluster->lun, cluster->lun.is_off);
		break;
	case SIM_FAULT_CRASH:
		toggle_agent(chaos, id, /* is_power_cut= */ false);
		break;
	case SIM_FAULT_POWER:
		toggle_agent(chaos, id, /* is_power_cut= */ true);
		break;
	case SIM_FAULT_FREEZE:
		if (cluster->nodes[id].is_frozen)
			sim_cluster_wake(cluster, id);
		else
			sim_cluster_freeze(cluster, id);
		break;
	case SIM_FAULT_ISOLATE:
		if (cluster->corosync.nodes[id].side != 0)
			sim_cluster_join_all(cluster);
		else
			sim_cluster_isolate(cluster, id);
		break;
	case SIM_FAULT_LINK:
		toggle_link(cluster, id);
		break;
	case SIM_FAULT_BREAK:
		if (cluster->nodes[id].node && !cluster->nodes[id].is_frozen)
			sim_net_break(&cluster->net, id);
		break;
	case SIM_FAULT_MOVE:
		sim_cluster_acquire(cluster, id);
		break;
	case SIM_FAULT_STORE:
		cluster->nodes[id].store.saves_to_fail = 1;
		break;
	case SIM_FAULTS_COUNT:
	default:
		ferry_unreachable("no such fault");
	}
}

static void fault_run(struct sim_event *event)
{
	struct chaos *chaos = FERRY_CONTAINER_OF(event, struct chaos, fault_event);
	struct sim *sim = &chaos->cluster.sim;
	uint64_t draw = sim_below(sim, SIM_CRASH, chaos->weights_sum);
	uint32_t id = (uint32_t)sim_between(sim, SIM_CRASH, 1, chaos->cluster.nodes_count);
	uint32_t fault = 0;

	while (draw >= chaos->weights[fault])
		draw -= chaos->weights[fault++];
	ferry_assert(fault < SIM_FAULTS_COUNT);
	chaos->result.faults[fault]++;
	fault_make(chaos, (enum sim_fault)fault, id);
	sim_in(sim, event,
	       sim_between(sim, SIM_CRASH, 5 * FERRY_NS_PER_MS, chaos->interval_ns_max));
}

/* ---- One run. ---- */

/* What makes rare meetings likely: few blocks, short queues, threads that wait for each other. */
static void crowding_draw(struct sim_cluster *cluster)
{
	struct sim *sim = &cluster->sim;
	struct sim_node_options *options = &cluster->options;

	if (sim_chance(sim, SIM_WORKLOAD, 500))
		cluster->workload.span_blocks = sim_between(sim, SIM_WORKLOAD, 12, 32);
	if (sim_chance(sim, SIM_CLOCK, 400))
		options->path_depth = (uint32_t)sim_between(sim, SIM_CLOCK, 2, 8);
	if (sim_chance(sim, SIM_CLOCK, 300)) {
		options->stall_per_mille = (uint32_t)sim_between(sim, SIM_CLOCK, 5, 50);
		options->stall_ns_max =
			sim_between(sim, SIM_CLOCK, 50 * FERRY_NS_PER_MS, 4000 * FERRY_NS_PER_MS);
	}
	sim_note(sim, SIM_NODE, 0, options->stall_ns_max,
		 "I/O to %" PRIu64 " blocks, paths take %u, threads wait up to %" PRIu64
		 " ms for %u of 1000 messages",
		 cluster->workload.span_blocks, options->path_depth,
		 options->stall_ns_max / FERRY_NS_PER_MS, options->stall_per_mille);
}

static void options_draw(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;
	struct sim *sim = &cluster->sim;
	struct sim_node_options *options = &cluster->options;

	for (int i = 0; i < SIM_FAULTS_COUNT; i++) {
		chaos->weights[i] = (uint32_t)sim_below(sim, SIM_CRASH, 4);
		if (i == SIM_FAULT_CUT || i == SIM_FAULT_RESET)
			chaos->weights[i] += 2;
		if (i == SIM_FAULT_LUN_OFF || i == SIM_FAULT_STORE)
			chaos->weights[i] /= 2;
		chaos->weights_sum += chaos->weights[i];
	}
	chaos->interval_ns_max =
		sim_between(sim, SIM_CRASH, 100 * FERRY_NS_PER_MS, 2000 * FERRY_NS_PER_MS);
	options->path_timeout_ns =
		sim_between(sim, SIM_CLOCK, 150 * FERRY_NS_PER_MS, 2000 * FERRY_NS_PER_MS);
	options->hold_timeout_ns = sim_between(sim, SIM_CLOCK, 1, 8) * FERRY_NS_PER_S;
	options->drain_timeout_ns =
		sim_between(sim, SIM_CLOCK, 100 * FERRY_NS_PER_MS, 2000 * FERRY_NS_PER_MS);
	options->inflight_max = (uint32_t)sim_between(sim, SIM_CLOCK, 4, 32);
	cluster->workload.depth = (uint32_t)sim_between(sim, SIM_WORKLOAD, 1, 6);
	cluster->workload.strays_per_mille = 3;
	cluster->workload.think_ns_max =
		sim_between(sim, SIM_WORKLOAD, 1 * FERRY_NS_PER_MS, 20 * FERRY_NS_PER_MS);
	cluster->lun.options.preempt_waits = sim_chance(sim, SIM_STORAGE, 250);
	cluster->lun.options.slow_per_mille = (uint32_t)sim_below(sim, SIM_STORAGE, 20);
	cluster->lun.options.slow_ns_max =
		sim_between(sim, SIM_STORAGE, 10 * FERRY_NS_PER_MS, 3000 * FERRY_NS_PER_MS);
	cluster->net.latency_ns_max =
		sim_between(sim, SIM_NETWORK, 50 * FERRY_NS_PER_US, 5000 * FERRY_NS_PER_US);
	sim_note(sim, SIM_NODE, 0, cluster->nodes_count,
		 "%u nodes, path timeout %" PRIu64 " ms, hold %" PRIu64 " s, drain %" PRIu64
		 " ms, depth %u, in flight %u, slow %u per mille up to %" PRIu64
		 " ms, PREEMPT %s, faults up to %" PRIu64 " ms apart",
		 cluster->nodes_count, options->path_timeout_ns / FERRY_NS_PER_MS,
		 options->hold_timeout_ns / FERRY_NS_PER_S,
		 options->drain_timeout_ns / FERRY_NS_PER_MS, cluster->workload.depth,
		 options->inflight_max, cluster->lun.options.slow_per_mille,
		 cluster->lun.options.slow_ns_max / FERRY_NS_PER_MS,
		 cluster->lun.options.preempt_waits ? "then reset" : "and abort",
		 chaos->interval_ns_max / FERRY_NS_PER_MS);
}

static bool is_converged(struct sim_cluster *cluster, void *context)
{
	(void)context;
	return sim_cluster_is_converged(cluster);
}

static void not_converged(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;
	char *what = chaos->result.what;
	size_t size = sizeof(chaos->result.what);
	int used = snprintf(what, size, "not at rest: %u I/Os",
			    sim_workload_running(&cluster->workload));

	chaos->result.exit_code = SIM_EXIT_LIVENESS;
	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		const struct sim_node *node = cluster->nodes[i].node;

		if (!node || used < 0 || (size_t)used >= size)
			continue;
		used += snprintf(what + used, size - (size_t)used,
				 "; n%u %s open %d lane %s reg %u take %u ghosts %u carries %u", i,
				 ferry_ownership_phase_name(node->ownership.phase),
				 node->engine.router.is_open,
				 ferry_lane_state_name(node->engine.router.lanes[0].state),
				 node->engine.registrar.state, node->engine.registrar.take,
				 node->engine.router.ghosts_count, node->engine.carried.jobs_count);
	}
}

static void figures_finish(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;
	struct sim_result *result = &chaos->result;

	for (uint32_t i = 1; i <= cluster->nodes_count; i++)
		figures_take(chaos, cluster->nodes[i].node);
	result->trace_hash = cluster->sim.trace_hash;
	result->steps = cluster->sim.steps;
	result->simulated_ns = cluster->sim.now_ns - 1000 * FERRY_NS_PER_S;
	result->nodes = cluster->nodes_count;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cluster->workload.ended); i++)
		result->ios += cluster->workload.ended[i];
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cluster->workload.errors); i++)
		result->errors += cluster->workload.errors[i];
	result->landed_late = cluster->lun.stats.landed_late;
	result->aborted = cluster->lun.stats.aborted;
	result->conflicts = cluster->lun.stats.conflicts;
	result->preempts = cluster->lun.stats.preempts;
	result->epochs = cluster->epoch_open.v;
	result->stale_reads = cluster->workload.stale_reads;
	if (cluster->sim.violations > 0) {
		result->exit_code = SIM_EXIT_WRONG;
		(void)snprintf(result->what, sizeof(result->what), "%s",
			       cluster->sim.first_violation);
	}
}

/* Safety first: any faults, under load. Then liveness: none, and everything comes to rest. */
static void phases(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;
	struct sim *sim = &cluster->sim;

	sim_cluster_manage(cluster, true);
	sim_cluster_run(cluster, 1500 * FERRY_NS_PER_MS);
	chaos->fault_event = (struct sim_event){.kind = SIM_FAULT, .run = fault_run};
	sim_in(sim, &chaos->fault_event, sim_below(sim, SIM_CRASH, 1 * FERRY_NS_PER_S));
	sim_cluster_run(cluster, sim_between(sim, SIM_CRASH, 2, 15) * FERRY_NS_PER_S);
	sim_cancel(sim, &chaos->fault_event);
	sim_cluster_heal(cluster);
	sim_cluster_run(cluster, sim_between(sim, SIM_CRASH, 0, 3) * FERRY_NS_PER_S);
	cluster->workload.is_stopped = true;
	if (!sim_cluster_run_until(cluster, is_converged, NULL, CONVERGE_NS_MAX)) {
		not_converged(chaos);
		return;
	}
	if (!sim_cluster_read_all(cluster, CONVERGE_NS_MAX)) {
		chaos->result.exit_code = SIM_EXIT_LIVENESS;
		(void)snprintf(chaos->result.what, sizeof(chaos->result.what),
			       "not every block could be read at the end");
	}
}

void sim_chaos_run(uint64_t seed, const struct sim_chaos_options *options, struct sim_result *ret)
{
	struct chaos *chaos = sim_alloc(sizeof(*chaos));
	uint64_t draw = seed * UINT64_C(0x9e3779b97f4a7c15) >> 60;
	uint32_t nodes_count = draw < 10 ? 3 : draw < 13 ? 2 : draw < 15 ? 4 : 5;

	chaos->result.seed = seed;
	chaos->lies = options->takes_timeouts_as_failures;
	sim_cluster_init(&chaos->cluster, seed, nodes_count);
	chaos->cluster.sim.is_tracing = options->is_tracing;
	chaos->cluster.workload.tolerates_stale_reads = !options->strict_reads;
	options_draw(chaos);
	crowding_draw(&chaos->cluster);
	sim_cluster_start_all(&chaos->cluster);
	for (uint32_t i = 1; i <= nodes_count; i++)
		chaos->cluster.nodes[i].node->path.takes_timeouts_as_failures = chaos->lies;
	phases(chaos);
	figures_finish(chaos);
	sim_cluster_done(&chaos->cluster);
	*ret = chaos->result;
	free(chaos);
}
