#include "tests/sim/sim_chaos.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CONVERGE_NS_MAX (120 * FERRY_NS_PER_S)
#define REST_NS_MAX (20 * FERRY_NS_PER_S)

/*
 * Of 100 luns, those whose PREEMPT AND ABORT waits for what runs are from 30 up to here; those that
 * are laid by reinstatement, as LIO's are, from there on.
 */
enum { ABORT_WAITS_UNTIL = 50, REINSTATES_UNTIL = 75 };

struct chaos {
	struct sim_cluster cluster;
	struct sim_faults faults;
	uint64_t interval_ns_max;
	uint64_t faults_ns; /* How long there are some. */
	uint64_t calm_ns;   /* How long there is load without. */
	enum sim_focus focus;
	bool lies;
	struct sim_result result;
};

/* ---- What a node's start and end leave in the figures. ---- */

static void figures_take(struct sim_result *result, const struct sim_node *node)
{
	const struct ferry_router_stats *stats = &node->engine.router.stats;
	const struct ferry_cache_stats *cache = &node->engine.cache.stats;

	result->detours += stats->detours;
	result->ghosts_made += stats->ghosts_made;
	result->ghosts_late += stats->ghosts_laid_late;
	result->ghosts_aborted += stats->ghosts_laid_abort;
	result->suspects += node->events_seen[FERRY_EVENT_FLUSH_SUSPECT];
	result->cache_hits += cache->hits;
	result->warm_hits += cache->warm_hits;
	result->imported += cache->imported;
	result->convictions += node->convictions;
	result->carried_again += node->carrier.stats.repeated;
	result->power_heard += node->watch.confirmed;
	result->power_takes += node->power_takes;
}

static void before_crash(struct sim_cluster *cluster, const struct sim_node *node)
{
	figures_take(&FERRY_CONTAINER_OF(cluster, struct chaos, cluster)->result, node);
}

static void after_start(struct sim_cluster *cluster, struct sim_node *node)
{
	node->path.takes_timeouts_as_failures =
		FERRY_CONTAINER_OF(cluster, struct chaos, cluster)->lies;
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

static void agents_draw(struct sim *sim, struct sim_node_options *options)
{
	options->path_timeout_ns =
		sim_between(sim, SIM_CLOCK, 150 * FERRY_NS_PER_MS, 2000 * FERRY_NS_PER_MS);
	options->hold_timeout_ns = sim_between(sim, SIM_CLOCK, 1, 8) * FERRY_NS_PER_S;
	options->drain_timeout_ns =
		sim_between(sim, SIM_CLOCK, 100 * FERRY_NS_PER_MS, 2000 * FERRY_NS_PER_MS);
	options->inflight_max = (uint32_t)sim_between(sim, SIM_CLOCK, 4, 32);
	options->cache_lines =
		sim_chance(sim, SIM_CLOCK, 400) ? (uint32_t)sim_between(sim, SIM_CLOCK, 3, 12) : 0;
	options->warm_patience_ns =
		sim_chance(sim, SIM_CLOCK, 500) ? 0 : sim_below(sim, SIM_CLOCK, 2 * FERRY_NS_PER_S);
	options->drift_ppm_max =
		sim_chance(sim, SIM_CLOCK, 500) ? sim_below(sim, SIM_CLOCK, 2000) : 0;
}

static void lun_draw(struct sim *sim, struct sim_lun_options *options)
{
	uint64_t kind = sim_below(sim, SIM_STORAGE, 100);

	options->preempt_waits = kind < 30; /* As tgtd does it. */
	options->abort_waits = kind >= 30 && kind < ABORT_WAITS_UNTIL;
	options->reinstates = kind >= ABORT_WAITS_UNTIL && kind < REINSTATES_UNTIL;
	options->has_aptpl = sim_chance(sim, SIM_STORAGE, 500);
	options->slow_per_mille = (uint32_t)sim_below(sim, SIM_STORAGE, 20);
	options->slow_ns_max =
		sim_between(sim, SIM_STORAGE, 10 * FERRY_NS_PER_MS, 3000 * FERRY_NS_PER_MS);
	if (sim_chance(sim, SIM_STORAGE, 200))
		options->abort_slow_ns_max =
			sim_between(sim, SIM_STORAGE, 50 * FERRY_NS_PER_MS, 900 * FERRY_NS_PER_MS);
}

static void workload_draw(struct sim *sim, struct sim_workload *workload)
{
	workload->depth = (uint32_t)sim_between(sim, SIM_WORKLOAD, 1, 6);
	workload->strays_per_mille = (uint32_t)sim_between(sim, SIM_WORKLOAD, 1, 6);
	workload->lines_per_mille = sim_chance(sim, SIM_WORKLOAD, 500)
					    ? (uint32_t)sim_below(sim, SIM_WORKLOAD, 800)
					    : 0;
	workload->think_ns_max =
		sim_between(sim, SIM_WORKLOAD, 1 * FERRY_NS_PER_MS, 20 * FERRY_NS_PER_MS);
	workload->fua_per_mille = (uint32_t)sim_below(sim, SIM_WORKLOAD, 200);
	workload->shares[FERRY_OP_READ] = 20 + (uint32_t)sim_below(sim, SIM_WORKLOAD, 40);
	workload->shares[FERRY_OP_WRITE] = 20 + (uint32_t)sim_below(sim, SIM_WORKLOAD, 40);
	workload->shares[FERRY_OP_FLUSH] = 1 + (uint32_t)sim_below(sim, SIM_WORKLOAD, 12);
	workload->shares[FERRY_OP_DISCARD] = (uint32_t)sim_below(sim, SIM_WORKLOAD, 6);
	workload->shares[FERRY_OP_WRITE_ZEROES] = (uint32_t)sim_below(sim, SIM_WORKLOAD, 6);
}

static void unheard_draw(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;

	/* Until somebody looks, a cache of this node's would still say what was. */
	cluster->options.cache_lines = 0;
	cluster->lun.generation = 0; /* A young one: a restart shows least there. */
	cluster->lun.options.has_aptpl = true;
	cluster->lun.options.reinstates = false;
	/* What is suspect tells nothing of the next loss; and each FLUSH has the keys read. */
	cluster->workload.shares[FERRY_OP_FLUSH] += 10;
	cluster->clears_per_mille = 900;
	chaos->interval_ns_max = sim_between(&cluster->sim, SIM_CRASH, 100 * FERRY_NS_PER_MS,
					     1500 * FERRY_NS_PER_MS);
}

/* As there; and losses are of what was not flushed. */
static void late_draw(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;

	cluster->options.cache_lines = 0;
	cluster->workload.fua_per_mille = 0;
	cluster->workload.shares[FERRY_OP_FLUSH] += 20;
	chaos->interval_ns_max = sim_between(&cluster->sim, SIM_CRASH, 100 * FERRY_NS_PER_MS,
					     1500 * FERRY_NS_PER_MS);
}

static void laying_draw(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;
	struct sim_workload *workload = &cluster->workload;
	struct sim *sim = &cluster->sim;

	cluster->lun.options.reinstates = false; /* There a login waits as well. */
	cluster->lun.options.abort_waits = !cluster->lun.options.preempt_waits;
	cluster->options.path_timeout_ns =
		sim_between(sim, SIM_CLOCK, 500 * FERRY_NS_PER_MS, 1000 * FERRY_NS_PER_MS);
	workload->shares[FERRY_OP_WRITE] += 60;
	/* Whoever meets a ghost waits: so many that some do not, and not all of them at once. */
	workload->depth = SIM_CLIENT_DEPTH_MAX;
	workload->think_ns_max =
		sim_between(sim, SIM_WORKLOAD, 20 * FERRY_NS_PER_MS, 100 * FERRY_NS_PER_MS);
	/* And something is on its way whenever a link breaks. */
	cluster->net.latency_ns_max =
		sim_between(sim, SIM_NETWORK, 1 * FERRY_NS_PER_MS, 30 * FERRY_NS_PER_MS);
	cluster->net.reconnect_ns =
		sim_between(sim, SIM_NETWORK, 150 * FERRY_NS_PER_MS, 400 * FERRY_NS_PER_MS);
	chaos->faults_ns += 3 * FERRY_NS_PER_S;
	chaos->interval_ns_max =
		sim_between(sim, SIM_CRASH, 500 * FERRY_NS_PER_MS, 4000 * FERRY_NS_PER_MS);
}

/*
 * A lun without reservations: nodes that are missing are fenced by their power, and what they left
 * lands as late as the storage promises. Paths are late at most there (SIM_FAULT_ORPHAN), since
 * without reservations only its own end lays what one has lost.
 */
static void power_draw(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;
	struct sim *sim = &cluster->sim;
	struct sim_lun_options *lun = &cluster->lun.options;
	struct sim_stonith *stonith = &cluster->stonith;
	struct sim_node_options *options = &cluster->options;

	options->quiesce_time_ns =
		sim_between(sim, SIM_CLOCK, 300 * FERRY_NS_PER_MS, 2000 * FERRY_NS_PER_MS);
	options->path_timeout_ns = ferry_max_u64(options->path_timeout_ns, FERRY_NS_PER_S);
	*lun = (struct sim_lun_options){
		.has_no_reservations = true,
		.quiesce_ns = options->quiesce_time_ns / 10 * 9,
		.latency_ns_max = lun->latency_ns_max,
		.service_ns_max = lun->service_ns_max,
		.slow_per_mille = (uint32_t)sim_between(sim, SIM_STORAGE, 20, 300),
		.slow_ns_max = 100 * FERRY_NS_PER_MS,
	};
	cluster->corosync.token_ns_min = 100 * FERRY_NS_PER_MS;
	cluster->corosync.token_ns_max = 400 * FERRY_NS_PER_MS;
	stonith->fails_per_mille = (uint32_t)sim_below(sim, SIM_CRASH, 400);
	stonith->stays_off_per_mille = (uint32_t)sim_below(sim, SIM_CRASH, 1000);
	stonith->forgets_per_mille = (uint32_t)sim_below(sim, SIM_CRASH, 100);
	stonith->only_storage = sim_chance(sim, SIM_CRASH, 100);
	stonith->reaction_ns_max =
		sim_between(sim, SIM_CRASH, 50 * FERRY_NS_PER_MS, 800 * FERRY_NS_PER_MS);
	sim_note(sim, SIM_NODE, 0, options->quiesce_time_ns,
		 "lun: no reservations, quiesce time %" PRIu64 " ms; of 1000 fencings %u fail, %u "
		 "leave nodes off%s, begun within %" PRIu64 " ms",
		 options->quiesce_time_ns / FERRY_NS_PER_MS, stonith->fails_per_mille,
		 stonith->stays_off_per_mille,
		 stonith->only_storage ? ", all of the storage only" : "",
		 stonith->reaction_ns_max / FERRY_NS_PER_MS);
	cluster->workload.shares[FERRY_OP_WRITE] += 60;
	chaos->faults_ns += 10 * FERRY_NS_PER_S;
	chaos->interval_ns_max =
		sim_between(sim, SIM_CRASH, 1000 * FERRY_NS_PER_MS, 5000 * FERRY_NS_PER_MS);
}

/* The few kinds of faults that a seed is about meet what makes them matter. */
static void focus_draw(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;
	struct sim_workload *workload = &cluster->workload;
	struct sim *sim = &cluster->sim;

	if (chaos->focus == SIM_FOCUS_TAKING) {
		cluster->options.path_timeout_ns =
			sim_between(sim, SIM_CLOCK, 150 * FERRY_NS_PER_MS, 600 * FERRY_NS_PER_MS);
		cluster->options.drain_timeout_ns =
			sim_between(sim, SIM_CLOCK, 100 * FERRY_NS_PER_MS, 500 * FERRY_NS_PER_MS);
		workload->shares[FERRY_OP_WRITE] += 60;
		chaos->faults_ns += 5 * FERRY_NS_PER_S;
		chaos->interval_ns_max =
			sim_between(sim, SIM_CRASH, 100 * FERRY_NS_PER_MS, 800 * FERRY_NS_PER_MS);
	} else if (chaos->focus == SIM_FOCUS_RINGS) {
		cluster->corosync.quorum_lag_ns_max =
			sim_between(sim, SIM_NETWORK, 1 * FERRY_NS_PER_MS, 400 * FERRY_NS_PER_MS);
		chaos->interval_ns_max =
			sim_between(sim, SIM_CRASH, 100 * FERRY_NS_PER_MS, 1500 * FERRY_NS_PER_MS);
	} else if (chaos->focus == SIM_FOCUS_FREEZING) {
		cluster->options.cache_lines = (uint32_t)sim_between(sim, SIM_CLOCK, 6, 12);
		workload->lines_per_mille = (uint32_t)sim_between(sim, SIM_WORKLOAD, 500, 950);
		chaos->faults_ns += 5 * FERRY_NS_PER_S;
		cluster->options.drain_timeout_ns =
			sim_between(sim, SIM_CLOCK, 100 * FERRY_NS_PER_MS, 500 * FERRY_NS_PER_MS);
		workload->shares[FERRY_OP_READ] += 60;
		chaos->interval_ns_max =
			sim_between(sim, SIM_CRASH, 500 * FERRY_NS_PER_MS, 3000 * FERRY_NS_PER_MS);
	} else if (chaos->focus == SIM_FOCUS_HANDOVER) {
		cluster->options.cache_lines = (uint32_t)sim_between(sim, SIM_CLOCK, 3, 12);
		workload->lines_per_mille = (uint32_t)sim_between(sim, SIM_WORKLOAD, 500, 950);
		workload->strays_per_mille = (uint32_t)sim_between(sim, SIM_WORKLOAD, 3, 60);
		workload->shares[FERRY_OP_READ] += 40;
		workload->shares[FERRY_OP_FLUSH] += 10;
		chaos->interval_ns_max =
			sim_between(sim, SIM_CRASH, 300 * FERRY_NS_PER_MS, 1500 * FERRY_NS_PER_MS);
	} else if (chaos->focus == SIM_FOCUS_CARRYING) {
		cluster->options.path_depth = (uint32_t)sim_between(sim, SIM_CLOCK, 1, 4);
		cluster->options.path_timeout_ns =
			sim_between(sim, SIM_CLOCK, 150 * FERRY_NS_PER_MS, 3000 * FERRY_NS_PER_MS);
		cluster->options.drain_timeout_ns =
			sim_between(sim, SIM_CLOCK, 30 * FERRY_NS_PER_MS, 300 * FERRY_NS_PER_MS);
		cluster->net.fragile_per_mille = (uint32_t)sim_below(sim, SIM_NETWORK, 40);
		cluster->lun.options.slow_per_mille += (uint32_t)sim_below(sim, SIM_STORAGE, 100);
		if (sim_chance(sim, SIM_STORAGE, 500))
			cluster->lun.options.abort_slow_ns_max = sim_between(
				sim, SIM_STORAGE, 200 * FERRY_NS_PER_MS, 900 * FERRY_NS_PER_MS);
		chaos->interval_ns_max =
			sim_between(sim, SIM_CRASH, 100 * FERRY_NS_PER_MS, 1000 * FERRY_NS_PER_MS);
	} else if (chaos->focus == SIM_FOCUS_LAYING) {
		laying_draw(chaos);
	} else if (chaos->focus == SIM_FOCUS_UNHEARD) {
		unheard_draw(chaos);
	} else if (chaos->focus == SIM_FOCUS_LATE) {
		late_draw(chaos);
	} else if (chaos->focus == SIM_FOCUS_POWER) {
		power_draw(chaos);
	} else if (chaos->focus == SIM_FOCUS_LOSSES) {
		workload->fua_per_mille = 0;
		workload->shares[FERRY_OP_FLUSH] += 10;
		chaos->interval_ns_max =
			sim_between(sim, SIM_CRASH, 100 * FERRY_NS_PER_MS, 1500 * FERRY_NS_PER_MS);
	}
}

static void options_note(const struct chaos *chaos)
{
	const struct sim_cluster *cluster = &chaos->cluster;
	const struct sim_node_options *options = &cluster->options;
	const struct sim_lun_options *lun = &cluster->lun.options;
	struct sim *sim = &chaos->faults.cluster->sim;

	sim_note(sim, SIM_NODE, 0, cluster->nodes_count,
		 "%u nodes, path timeout %" PRIu64 " ms, hold %" PRIu64 " s, drain %" PRIu64
		 " ms, in flight %u, cache %u lines, drift up to %" PRIu64 " ppm",
		 cluster->nodes_count, options->path_timeout_ns / FERRY_NS_PER_MS,
		 options->hold_timeout_ns / FERRY_NS_PER_S,
		 options->drain_timeout_ns / FERRY_NS_PER_MS, options->inflight_max,
		 options->cache_lines, options->drift_ppm_max);
	sim_note(sim, SIM_NODE, 0, lun->preempt_waits,
		 "lun: PREEMPT %s, %s APTPL,%s slow %u per mille up to %" PRIu64 " ms",
		 lun->preempt_waits ? "then reset"
		 : lun->abort_waits ? "and abort, which waits"
		 : lun->reinstates  ? "then a login by the victim's name"
				    : "and abort",
		 lun->has_aptpl ? "with" : "without",
		 lun->caches_by_path ? " a cache for each path," : "", lun->slow_per_mille,
		 lun->slow_ns_max / FERRY_NS_PER_MS);
	sim_note(sim, SIM_NODE, 0, (uint64_t)chaos->focus,
		 "about %s: %u per mille of the faults are aimed; quorum's word and CPG's are up "
		 "to %" PRIu64 " ms apart",
		 sim_focus_name(chaos->focus), chaos->faults.aimed_per_mille,
		 cluster->corosync.quorum_lag_ns_max / FERRY_NS_PER_MS);
	sim_note(sim, SIM_NODE, 0, options->warm_patience_ns,
		 "%u per mille of answers break their link, which is back in %" PRIu64
		 " ms; aborts take up to %" PRIu64 " ms; patience for warmth %" PRIu64
		 " ms; %u per mille I/O of lines, %u strays; a manager looks every %" PRIu64 " ms",
		 cluster->net.fragile_per_mille, cluster->net.reconnect_ns / FERRY_NS_PER_MS,
		 lun->abort_slow_ns_max / FERRY_NS_PER_MS,
		 options->warm_patience_ns / FERRY_NS_PER_MS, cluster->workload.lines_per_mille,
		 cluster->workload.strays_per_mille, cluster->manager_ns_max / FERRY_NS_PER_MS);
	sim_note(sim, SIM_NODE, 0, cluster->workload.depth,
		 "workload: depth %u, FUA %u per mille, %u reads, %u writes, %u flushes, %u "
		 "discards, %u write-zeroes; %u faults in %" PRIu64 " ms",
		 cluster->workload.depth, cluster->workload.fua_per_mille,
		 cluster->workload.shares[FERRY_OP_READ], cluster->workload.shares[FERRY_OP_WRITE],
		 cluster->workload.shares[FERRY_OP_FLUSH],
		 cluster->workload.shares[FERRY_OP_DISCARD],
		 cluster->workload.shares[FERRY_OP_WRITE_ZEROES], chaos->faults.count,
		 chaos->faults_ns / FERRY_NS_PER_MS);
}

static void network_draw(struct sim_cluster *cluster)
{
	struct sim *sim = &cluster->sim;
	struct sim_net *net = &cluster->net;

	net->latency_ns_max =
		sim_between(sim, SIM_NETWORK, 50 * FERRY_NS_PER_US, 5000 * FERRY_NS_PER_US);
	if (sim_chance(sim, SIM_NETWORK, 500))
		net->reconnect_ns =
			sim_between(sim, SIM_NETWORK, 1 * FERRY_NS_PER_MS, 100 * FERRY_NS_PER_MS);
	if (sim_chance(sim, SIM_NETWORK, 400))
		cluster->corosync.quorum_lag_ns_max =
			sim_between(sim, SIM_NETWORK, 1 * FERRY_NS_PER_MS, 100 * FERRY_NS_PER_MS);
}

/* Some seeds' agents are connected by RDMA, mostly. */
static void rdma_draw(struct sim_cluster *cluster)
{
	struct sim_rdma *rdma = &cluster->net.rdma;

	sim_rdma_draw(rdma, cluster->sim.seed, cluster->options.path_timeout_ns);
	if (rdma->links_per_mille > 0)
		sim_note(&cluster->sim, SIM_NODE, 0, rdma->late_per_mille,
			 "RDMA by %u per mille of connections; %u per mille of it late, by up to "
			 "%" PRIu64 " ms; keys die up to %" PRIu64 " ms after their connection",
			 rdma->links_per_mille, rdma->late_per_mille,
			 rdma->late_ns_max / FERRY_NS_PER_MS, rdma->death_ns_max / FERRY_NS_PER_MS);
}

static void options_draw(struct chaos *chaos)
{
	struct sim_cluster *cluster = &chaos->cluster;
	struct sim *sim = &cluster->sim;

	agents_draw(sim, &cluster->options);
	lun_draw(sim, &cluster->lun.options);
	workload_draw(sim, &cluster->workload);
	network_draw(cluster);
	cluster->clears_per_mille = (uint32_t)sim_below(sim, SIM_CLOCK, 600);
	if (sim_chance(sim, SIM_CLOCK, 500))
		cluster->manager_ns_max =
			sim_between(sim, SIM_CLOCK, 20 * FERRY_NS_PER_MS, 600 * FERRY_NS_PER_MS);
	chaos->interval_ns_max =
		sim_between(sim, SIM_CRASH, 100 * FERRY_NS_PER_MS, 2000 * FERRY_NS_PER_MS);
	chaos->faults_ns = sim_between(sim, SIM_CRASH, 2 * FERRY_NS_PER_S, 15 * FERRY_NS_PER_S);
	chaos->calm_ns = sim_between(sim, SIM_CRASH, 0, 3) * FERRY_NS_PER_S;
	focus_draw(chaos);
	sim_faults_draw(&chaos->faults, cluster, chaos->focus, chaos->interval_ns_max,
			chaos->faults_ns);
	cluster->workload.allows_eio = chaos->faults.weights[SIM_FAULT_REFUSE] > 0;
	options_note(chaos);
	rdma_draw(cluster);
}

static void faults_list(const struct chaos *chaos)
{
	for (uint32_t i = 0; i < chaos->faults.count; i++) {
		char text[128];

		if (chaos->faults.plan[i].is_skipped ||
		    chaos->faults.plan[i].at_ns > chaos->faults_ns)
			continue;
		sim_fault_describe(&chaos->faults.plan[i], text, sizeof(text));
		printf("  %3u  %s\n", i, text);
	}
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
	const struct sim_workload *workload = &cluster->workload;
	const struct sim_lun_stats *lun = &cluster->lun.stats;
	struct sim_result *result = &chaos->result;

	for (uint32_t i = 1; i <= cluster->nodes_count; i++)
		if (cluster->nodes[i].node)
			figures_take(result, cluster->nodes[i].node);
	result->trace_hash = cluster->sim.trace_hash;
	result->steps = cluster->sim.steps;
	result->simulated_ns = cluster->sim.now_ns - 1000 * FERRY_NS_PER_S;
	result->nodes = cluster->nodes_count;
	result->planned = chaos->faults.count;
	memcpy(result->faults, chaos->faults.made, sizeof(result->faults));
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(workload->ended); i++)
		result->ios += workload->ended[i];
	result->reads = workload->ended[FERRY_OP_READ];
	result->writes = workload->ended[FERRY_OP_WRITE];
	result->flushes = workload->ended[FERRY_OP_FLUSH];
	result->discards = workload->ended[FERRY_OP_DISCARD];
	result->zeroes = workload->ended[FERRY_OP_WRITE_ZEROES];
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(workload->errors); i++)
		result->errors += workload->errors[i];
	result->flush_errors = workload->flush_errors;
	result->stale_reads = workload->stale_reads;
	result->past_writes = workload->past_writes;
	result->fuas = lun->fuas;
	result->landed_late = lun->landed_late;
	result->aborted = lun->aborted;
	result->conflicts = lun->conflicts;
	result->preempts = lun->preempts;
	result->losses = lun->losses;
	result->blocks_lost = lun->blocks_lost;
	result->attentions = lun->attentions;
	result->refused = lun->refused;
	result->epochs = cluster->epoch_open.v;
	result->owners = cluster->owner_changes;
	result->releases = cluster->releases;
	result->clears = cluster->clears;
	result->power_cuts = cluster->stonith.cuts;
	result->power_failures = cluster->stonith.failures;
	result->rdma_reads = cluster->net.rdma.reads;
	result->rdma_writes = cluster->net.rdma.writes;
	result->rdma_late_reads = cluster->net.rdma.late_reads;
	result->rdma_late_writes = cluster->net.rdma.late_writes;
	result->rdma_cut = cluster->net.rdma.cut;
	if (cluster->sim.violations > 0) {
		result->exit_code = SIM_EXIT_WRONG;
		(void)snprintf(result->what, sizeof(result->what), "%s",
			       cluster->sim.first_violation);
	}
}

static bool is_at_rest(struct sim_cluster *cluster, void *context)
{
	(void)context;
	return sim_cluster_leak(cluster) == NULL;
}

/* Safety first: any faults, under load. Then liveness: none, and everything comes to rest. */
static void phases(struct chaos *chaos, const struct sim_chaos_options *options)
{
	struct sim_cluster *cluster = &chaos->cluster;

	sim_cluster_manage(cluster, true);
	sim_cluster_run(cluster, 1500 * FERRY_NS_PER_MS);
	sim_faults_start(&chaos->faults, options->skip);
	if (chaos->focus == SIM_FOCUS_POWER)
		sim_stonith_start(&cluster->stonith);
	sim_cluster_run(cluster, chaos->faults_ns);
	sim_faults_stop(&chaos->faults);
	sim_cluster_heal(cluster);
	sim_cluster_run(cluster, chaos->calm_ns);
	cluster->workload.is_stopped = true;
	if (!sim_cluster_run_until(cluster, is_converged, NULL, CONVERGE_NS_MAX)) {
		not_converged(chaos);
		return;
	}
	if (!sim_cluster_read_all(cluster, CONVERGE_NS_MAX)) {
		chaos->result.exit_code = SIM_EXIT_LIVENESS;
		(void)snprintf(chaos->result.what, sizeof(chaos->result.what),
			       "not every block could be read at the end");
		return;
	}
	if (!sim_cluster_run_until(cluster, is_at_rest, NULL, REST_NS_MAX))
		sim_violation(&cluster->sim, 0, "left over: %s", sim_cluster_leak(cluster));
}

/* Of 32 seeds eight are about nothing in particular. */
static enum sim_focus focus_of(uint64_t seed)
{
	static const uint32_t shares[SIM_FOCI_COUNT] = {
		[SIM_FOCUS_NONE] = 8,	  [SIM_FOCUS_TAKING] = 3,   [SIM_FOCUS_RINGS] = 3,
		[SIM_FOCUS_FREEZING] = 3, [SIM_FOCUS_HANDOVER] = 5, [SIM_FOCUS_CARRYING] = 5,
		[SIM_FOCUS_LOSSES] = 2,	  [SIM_FOCUS_LAYING] = 3,
	};
	uint64_t part = seed * UINT64_C(0x9e3779b97f4a7c15) >> 51 & 31;
	uint32_t focus = 0;

	while (part >= shares[focus])
		part -= shares[focus++];
	ferry_assert(focus < (uint32_t)SIM_FOCI_COUNT);
	return (enum sim_focus)focus;
}

void sim_chaos_run(uint64_t seed, const struct sim_chaos_options *options, struct sim_result *ret)
{
	static const uint32_t counts[16] = {3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 4, 4, 5, 5, 6, 7};
	struct chaos *chaos = sim_alloc(sizeof(*chaos));
	uint32_t nodes_count = counts[seed * UINT64_C(0x9e3779b97f4a7c15) >> 60];
	bool is_by_path, is_unheard, is_by_power, is_late;

	chaos->result.seed = seed;
	chaos->lies = options->takes_timeouts_as_failures;
	sim_cluster_init(&chaos->cluster, seed, nodes_count);
	chaos->cluster.sim.is_tracing = options->is_tracing;
	chaos->cluster.workload.tolerates_stale_reads = !options->strict_reads;
	chaos->cluster.before_crash = before_crash;
	chaos->cluster.after_start = after_start;
	chaos->faults.cluster = &chaos->cluster;
	/* One in sixteen: each path has a cache of its own. By the seed, like the nodes' count. */
	is_by_path = (seed * UINT64_C(0x9e3779b97f4a7c15) >> 56 & 15) == 3;
	is_by_power = (seed * UINT64_C(0x9e3779b97f4a7c15) >> 56 & 15) == 11;
	/* One in eight, for what it is to find is rare: a target that tells nobody. */
	is_unheard =
		(seed * UINT64_C(0x9e3779b97f4a7c15) >> 44 & 7) == 7 && !is_by_path && !is_by_power;
	/* And in half as many the owner hears late of a target that does. */
	is_late = (seed * UINT64_C(0x9e3779b97f4a7c15) >> 39 & 15) == 7;
	chaos->focus = is_by_path    ? SIM_FOCUS_NONE
		       : is_by_power ? SIM_FOCUS_POWER
		       : is_unheard  ? SIM_FOCUS_UNHEARD
		       : is_late     ? SIM_FOCUS_LATE
				     : focus_of(seed);
	chaos->cluster.lun.options.hides_restarts = is_unheard;
	chaos->cluster.lun.options.caches_by_path = is_by_path;
	chaos->cluster.options.flushes_by_path = is_by_path;
	options_draw(chaos);
	if (options->faults_ns_max != 0)
		chaos->faults_ns = ferry_min_u64(chaos->faults_ns, options->faults_ns_max);
	crowding_draw(&chaos->cluster);
	sim_cluster_start_all(&chaos->cluster);
	phases(chaos, options);
	figures_finish(chaos);
	if (options->lists_faults)
		faults_list(chaos);
	chaos->cluster.before_crash = NULL;
	sim_cluster_done(&chaos->cluster);
	*ret = chaos->result;
	free(chaos);
}
