#include "tests/sim/sim_cluster.h"

#include <inttypes.h>

#include "agent/base/museum.h"

/* ---- What must hold after every step. ---- */

/*
 * From a new owner's first moment on, nothing of an older epoch may land. Who owns the pool again
 * without anybody else between goes on with what it has.
 */
static void owner_note(struct sim_cluster *cluster, const struct sim_node *owner)
{
	struct sim_lun *lun = &cluster->lun;
	bool is_same;

	if (!owner || owner->engine.router.epoch.v <= cluster->epoch_open.v)
		return;
	cluster->epoch_open = owner->engine.router.epoch;
	is_same = lun->owner == owner->id && lun->owner_incarnation.v == owner->incarnation.v;
	/* The applications of the last one are dead, or have had an error of everything. */
	if (!is_same || cluster->was_deposed)
		ferry_check_forgive(&cluster->workload.check);
	cluster->was_deposed = false;
	if (is_same)
		return;
	lun->owner = owner->id;
	lun->owner_incarnation = owner->incarnation;
	cluster->owner_changes++;
	lun->epoch_floor = cluster->epoch_open;
}

/* An epoch is one agent's, for ever: also after restarts of everybody (rule 12). */
static void opener_check(struct sim_cluster *cluster, const struct sim_node *node)
{
	struct ferry_epoch epoch = node->engine.router.epoch;
	struct sim_opener *opener = &cluster->openers[epoch.v % SIM_EPOCHS_MAX];

	if (opener->epoch.v != epoch.v)
		*opener = (struct sim_opener){epoch, node->id, node->incarnation};
	if (opener->node != node->id || opener->incarnation.v != node->incarnation.v)
		sim_violation(&cluster->sim, node->id,
			      "epoch %" PRIu64 " is node %u's and node %u's", epoch.v, opener->node,
			      node->id);
}

/* Who admits I/O owns the pool with quorum, as far as it has been told (rules 12, 15). */
static void open_check(struct sim_cluster *cluster, const struct sim_node *node)
{
	const struct ferry_view *view = &node->engine.view;

	if (!view->is_quorate || !view->is_in_force || view->owner.v != node->id)
		sim_violation(&cluster->sim, node->id,
			      "open in epoch %" PRIu64 ", though told: owner %u, %s, %s",
			      node->engine.router.epoch.v, view->owner.v,
			      view->is_in_force ? "in force" : "not in force",
			      view->is_quorate ? "quorum" : "no quorum");
	opener_check(cluster, node);
}

/*
 * A majority agreed on the newest epoch, in a ring; in each later ring a majority speaks before
 * anybody believes anything, and one of it was there (rule 12). Of two nodes the lun has the last
 * word.
 */
static void belief_check(struct sim_cluster *cluster, struct sim_cluster_node *slot)
{
	const struct ferry_view *view = &slot->node->ownership.view;
	uint64_t ring = slot->node->group.group.ring;
	struct ferry_epoch before = slot->believed;

	slot->believed.v = 0;
	if (view->is_quorate && view->is_in_force && view->owner.v == slot->node->id)
		slot->believed = view->epoch;
	if (slot->believed.v == before.v || slot->believed.v == 0 || cluster->nodes_count == 2)
		return;
	if (slot->believed.v > cluster->epoch_agreed.v) {
		cluster->epoch_agreed = slot->believed;
		cluster->epoch_agreed_ring = ring;
	} else if (slot->believed.v < cluster->epoch_agreed.v &&
		   ring > cluster->epoch_agreed_ring) {
		sim_violation(&cluster->sim, slot->node->id,
			      "owns epoch %" PRIu64 " in ring %" PRIu64 ", though epoch %" PRIu64
			      " was agreed on in ring %" PRIu64,
			      slot->believed.v, ring, cluster->epoch_agreed.v,
			      cluster->epoch_agreed_ring);
	}
}

static void check(struct sim *sim, void *context)
{
	struct sim_cluster *cluster = context;
	const struct sim_node *newest = NULL;

	(void)sim;
	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		const struct sim_node *node = cluster->nodes[i].node;

		if (node && i == cluster->lun.owner)
			cluster->was_deposed |= node->engine.router.is_deposed;
		if (node)
			belief_check(cluster, &cluster->nodes[i]);
		if (!node || !node->engine.router.is_open)
			continue;
		open_check(cluster, node);
		if (!newest || node->engine.router.epoch.v > newest->engine.router.epoch.v)
			newest = node;
	}
	owner_note(cluster, newest);
}

/* ---- Nodes. ---- */

static void cache_lost(void *context)
{
	struct sim_cluster *cluster = context;

	ferry_check_lost(&cluster->workload.check);
}

static void answer_comes(void *context, uint32_t node, uint32_t by,
			 const struct ferry_wire_header *header)
{
	struct sim_cluster *cluster = context;

	if (header->type == FERRY_WIRE_REPLY && header->op == FERRY_OP_FLUSH &&
	    header->outcome == FERRY_OUTCOME_FAILED)
		sim_lun_flush_failure_told(&cluster->lun, node, by);
}

/* ---- What fencing does to a node. ---- */

static void power_cut(void *context, uint32_t node)
{
	struct sim_cluster *cluster = context;

	sim_cluster_crash(cluster, node, /* is_power_cut= */ true);
	sim_corosync_node_up(&cluster->corosync, node, false); /* Its agent may have been dead. */
}

static void power_on(void *context, uint32_t node)
{
	sim_cluster_start(context, node);
}

void sim_cluster_init(struct sim_cluster *cluster, uint64_t seed, uint32_t nodes_count)
{
	memset(cluster, 0, sizeof(*cluster));
	sim_init(&cluster->sim, seed);
	cluster->sim.check = check;
	cluster->sim.check_context = cluster;
	cluster->nodes_count = nodes_count;
	sim_lun_init(&cluster->lun, &cluster->sim, SIM_LUN_BLOCKS);
	sim_net_init(&cluster->net, &cluster->sim);
	cluster->net.on_answer = answer_comes;
	cluster->net.context = cluster;
	sim_corosync_init(&cluster->corosync, &cluster->sim, nodes_count);
	sim_workload_init(&cluster->workload, &cluster->sim, SIM_LUN_BLOCKS);
	sim_stonith_init(&cluster->stonith, &cluster->sim, &cluster->corosync);
	cluster->stonith.power_cut = power_cut;
	cluster->stonith.power_on = power_on;
	cluster->stonith.context = cluster;
	cluster->lun.on_lost = cache_lost;
	cluster->lun.context = cluster;
	cluster->manager_ns_max = 600 * FERRY_NS_PER_MS;
	for (uint32_t i = 1; i <= nodes_count; i++)
		sim_store_init(&cluster->nodes[i].store, &cluster->sim);
	cluster->options = (struct sim_node_options){
		.path_timeout_ns = 1 * FERRY_NS_PER_S,
		.hold_timeout_ns = 8 * FERRY_NS_PER_S,
		.drain_timeout_ns = 1 * FERRY_NS_PER_S,
		.convict_failures = 3,
		.convict_window_ns = 60 * FERRY_NS_PER_S,
		.inflight_max = 32,
		.warm_patience_ns = 2 * FERRY_NS_PER_S,
	};
}

void sim_cluster_done(struct sim_cluster *cluster)
{
	cluster->sim.check = NULL;
	sim_cancel(&cluster->sim, &cluster->manager_event);
	sim_stonith_stop(&cluster->stonith);
	for (uint32_t i = 1; i <= cluster->nodes_count; i++)
		if (cluster->nodes[i].node)
			cluster->nodes[i].node =
				sim_node_crash(cluster->nodes[i].node, /* is_power_cut= */ true);
	sim_net_done(&cluster->net);
	sim_lun_done(&cluster->lun);
	sim_workload_done(&cluster->workload);
	sim_done(&cluster->sim);
}

void sim_cluster_start(struct sim_cluster *cluster, uint32_t id)
{
	struct sim_cluster_node *slot = &cluster->nodes[id];
	struct sim_node_world world = {
		.sim = &cluster->sim,
		.lun = &cluster->lun,
		.net = &cluster->net,
		.corosync = &cluster->corosync,
		.store = &slot->store,
		.stonith = &cluster->stonith,
		.workload = &cluster->workload,
		.nodes_count = cluster->nodes_count,
		.options = cluster->options,
	};

	if (slot->node)
		return;
	if (slot->incarnation.v == 0 || !FERRY_MUSEUM(SAME_INCARNATION))
		slot->incarnation.v++;
	slot->believed.v = 0;
	slot->node = sim_node_start(&world, id, slot->incarnation);
	slot->node->on_event = cluster->on_event;
	slot->node->on_event_context = cluster->on_event_context;
	if (cluster->after_start)
		cluster->after_start(cluster, slot->node);
}

void sim_cluster_start_all(struct sim_cluster *cluster)
{
	for (uint32_t i = 1; i <= cluster->nodes_count; i++)
		sim_cluster_start(cluster, i);
}

void sim_cluster_crash(struct sim_cluster *cluster, uint32_t id, bool is_power_cut)
{
	struct sim_cluster_node *slot = &cluster->nodes[id];

	if (!slot->node)
		return;
	if (slot->is_frozen)
		sim_cluster_wake(cluster, id);
	if (cluster->before_crash)
		cluster->before_crash(cluster, slot->node);
	slot->node = sim_node_crash(slot->node, is_power_cut);
	if (is_power_cut)
		sim_corosync_node_up(&cluster->corosync, id, false);
}

void sim_cluster_pause(struct sim_cluster *cluster, uint32_t id, enum sim_freeze how)
{
	struct sim_cluster_node *slot = &cluster->nodes[id];

	if (!slot->node || slot->is_frozen)
		return;
	sim_note(&cluster->sim, SIM_FAULT, id, 10, "the %s freezes",
		 how == SIM_FREEZE_AGENT  ? "agent"
		 : how == SIM_FREEZE_NODE ? "node"
					  : "guest, and its clock,");
	slot->is_frozen = true;
	sim_loop_freeze(&slot->node->loop);
	if (how == SIM_FREEZE_GUEST)
		sim_loop_stop_clock(&slot->node->loop);
	if (how != SIM_FREEZE_AGENT)
		sim_corosync_freeze(&cluster->corosync, id, true);
}

void sim_cluster_freeze(struct sim_cluster *cluster, uint32_t id)
{
	sim_cluster_pause(cluster, id, SIM_FREEZE_NODE);
}

void sim_cluster_wake(struct sim_cluster *cluster, uint32_t id)
{
	struct sim_cluster_node *slot = &cluster->nodes[id];

	if (!slot->node || !slot->is_frozen)
		return;
	sim_note(&cluster->sim, SIM_FAULT, id, 11, "wakes");
	slot->is_frozen = false;
	if (slot->node->loop.is_stopped)
		slot->node->client.clock_stood_ns = cluster->sim.now_ns;
	if (cluster->corosync.nodes[id].is_frozen)
		sim_corosync_freeze(&cluster->corosync, id, false);
	sim_loop_wake(&slot->node->loop);
}

void sim_cluster_acquire(struct sim_cluster *cluster, uint32_t id)
{
	struct sim_node *node = cluster->nodes[id].node;

	if (!node || cluster->nodes[id].is_frozen)
		return;
	sim_note(&cluster->sim, SIM_NODE, id, 1, "is to own the pool");
	node->wish_error = 1;
	ferry_ownership_acquire(&node->ownership, /* is_take= */ true);
}

void sim_cluster_release(struct sim_cluster *cluster, uint32_t id, uint32_t next_owner)
{
	struct sim_node *node = cluster->nodes[id].node;

	if (!node || cluster->nodes[id].is_frozen ||
	    node->ownership.phase == FERRY_OWNERSHIP_IDLE ||
	    node->ownership.phase == FERRY_OWNERSHIP_RELEASING)
		return;
	sim_note(&cluster->sim, SIM_NODE, id, 2, "is to release the pool, n%u next", next_owner);
	cluster->releases++;
	node->wish_error = 1;
	ferry_ownership_release(&node->ownership, (struct ferry_node){next_owner});
}

/* Whether @node's agent is gone, and nothing sends its commands again once the machine is off. */
static bool switch_off(struct sim_cluster *cluster, const struct sim_command *command)
{
	if (command->stage != SIM_COMMAND_IN_PIPE || cluster->nodes[command->node].node)
		return false;
	sim_corosync_node_up(&cluster->corosync, command->node, false);
	return true;
}

struct ferry_members sim_cluster_missing(const struct sim_cluster *cluster, uint32_t id)
{
	const struct ferry_view *view = &cluster->nodes[id].node->ownership.view;
	struct ferry_members missing = {.count = 0};

	for (uint32_t i = 1; i <= cluster->nodes_count; i++)
		if (!ferry_view_has_member(view, (struct ferry_node){i}))
			missing.nodes[missing.count++].v = i;
	return missing;
}

bool sim_cluster_force(struct sim_cluster *cluster, uint32_t id)
{
	struct sim_node *node = cluster->nodes[id].node;
	struct ferry_members named;

	/* Of two the lun is the third voice; a person has nothing to add that could be checked. */
	if (!node || cluster->nodes[id].is_frozen || cluster->nodes_count == 2 ||
	    !node->group.group.is_quorate || node->ownership.phase != FERRY_OWNERSHIP_IDLE)
		return false;
	for (uint32_t i = 1; i <= cluster->nodes_count; i++)
		if (cluster->nodes[i].node && cluster->nodes[i].node->engine.router.is_open)
			return false;
	ferry_list_foreach_safe (link, &cluster->lun.commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (command->fence_op || !ferry_op_changes_blocks(command->op) ||
		    command->node == id || command->stage > SIM_COMMAND_AT_TARGET)
			continue;
		if (!switch_off(cluster, command))
			return false;
		sim_command_free(command);
	}
	named = sim_cluster_missing(cluster, id);
	if (ferry_ownership_force(&node->ownership, &named) < 0)
		return false;
	sim_note(&cluster->sim, SIM_NODE, id, 4, "a person has it take the pool by force");
	node->wish_error = 1;
	return true;
}

void sim_cluster_clear(struct sim_cluster *cluster, uint32_t id)
{
	struct sim_node *node = cluster->nodes[id].node;

	if (!node || cluster->nodes[id].is_frozen || !node->engine.router.flush.is_suspect)
		return;
	sim_note(&cluster->sim, SIM_NODE, id, 3, "an administrator clears what is suspect");
	cluster->clears++;
	ferry_router_clear_suspect(&node->engine.router);
	ferry_check_forgive(&cluster->workload.check);
}

void sim_cluster_isolate(struct sim_cluster *cluster, uint32_t id)
{
	uint32_t sides[SIM_NODES_MAX + 1] = {0};

	for (uint32_t i = 1; i <= cluster->nodes_count; i++)
		sides[i] = cluster->corosync.nodes[i].side;
	sides[id] = id + 100; /* A side of its own. */
	sim_cluster_partition(cluster, sides);
}

void sim_cluster_partition(struct sim_cluster *cluster, const uint32_t *sides)
{
	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		sim_note(&cluster->sim, SIM_FAULT, i, sides[i], "is on side %u", sides[i]);
		for (uint32_t j = 1; j <= cluster->nodes_count; j++)
			if (i != j)
				sim_net_cut(&cluster->net, i, j, sides[i] != sides[j]);
	}
	sim_corosync_partition(&cluster->corosync, sides);
}

void sim_cluster_join_all(struct sim_cluster *cluster)
{
	const uint32_t sides[SIM_NODES_MAX + 1] = {0};

	sim_cluster_partition(cluster, sides);
}

void sim_cluster_heal(struct sim_cluster *cluster)
{
	sim_note(&cluster->sim, SIM_FAULT, 0, 14, "faults stop");
	sim_stonith_stop(&cluster->stonith);
	if (cluster->lun.is_off)
		sim_lun_power(&cluster->lun, true);
	if (cluster->lun.is_holding)
		sim_lun_let_go(&cluster->lun);
	if (cluster->lun.is_stalled)
		sim_lun_stall(&cluster->lun, false, false);
	cluster->lun.refuse_left = 0;
	cluster->lun.options.slow_per_mille = 0; /* Slower than patience is a fault, too. */
	cluster->net.delay_ns = 0;
	cluster->net.rdma.late_per_mille = 0;
	sim_cluster_join_all(cluster);
	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		sim_lun_heal(&cluster->lun, i);
		cluster->lun.nexuses[i].slow_ns = 0;
		cluster->nodes[i].store.saves_to_fail = 0;
		if (cluster->lun.nexuses[i].hold_per_mille > 0)
			sim_lun_hold_some(&cluster->lun, i, 0);
		sim_cluster_wake(cluster, i);
		sim_cluster_start(cluster, i);
	}
}

/* ---- Pacemaker, as far as it matters here. ---- */

static void manage(struct sim_event *event)
{
	struct sim_cluster *cluster = FERRY_CONTAINER_OF(event, struct sim_cluster, manager_event);
	uint32_t candidates[SIM_NODES_MAX];
	uint32_t count = 0;
	bool is_wanted = false;

	sim_in(&cluster->sim, event,
	       sim_between(&cluster->sim, SIM_CLOCK, cluster->manager_ns_max / 3,
			   cluster->manager_ns_max));
	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		const struct sim_node *node = cluster->nodes[i].node;

		if (!node || cluster->nodes[i].is_frozen || !node->group.group.is_quorate)
			continue;
		is_wanted |= node->ownership.phase != FERRY_OWNERSHIP_IDLE;
		if (node->engine.has_path)
			candidates[count++] = i;
		if (node->engine.router.is_open && node->engine.router.flush.is_suspect &&
		    sim_chance(&cluster->sim, SIM_CLOCK, cluster->clears_per_mille))
			sim_cluster_clear(cluster, i);
	}
	if (!is_wanted && count > 0)
		sim_cluster_acquire(cluster,
				    candidates[sim_below(&cluster->sim, SIM_CLOCK, count)]);
}

void sim_cluster_manage(struct sim_cluster *cluster, bool is_managed)
{
	cluster->manager_event = (struct sim_event){.kind = SIM_NODE,
						    .value = 99,
						    .run = manage,
						    .heap_slot = cluster->manager_event.heap_slot};
	cluster->is_managed = is_managed;
	if (is_managed)
		sim_in(&cluster->sim, &cluster->manager_event, 100 * FERRY_NS_PER_MS);
	else
		sim_cancel(&cluster->sim, &cluster->manager_event);
}

/* ---- Looking and waiting. ---- */

struct sim_node *sim_cluster_node(struct sim_cluster *cluster, uint32_t id)
{
	ferry_assert(cluster->nodes[id].node);
	return cluster->nodes[id].node;
}

struct sim_node *sim_cluster_owner(struct sim_cluster *cluster)
{
	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		struct sim_node *node = cluster->nodes[i].node;

		if (node && node->engine.router.is_open &&
		    node->engine.router.epoch.v == cluster->epoch_open.v)
			return node;
	}
	return NULL;
}

bool sim_cluster_is_converged(struct sim_cluster *cluster)
{
	if (sim_workload_running(&cluster->workload) > 0 || !sim_cluster_owner(cluster))
		return false;
	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		const struct sim_node *node = cluster->nodes[i].node;

		if (!node || !node->engine.has_path || node->engine.router.ghosts_count > 0 ||
		    node->engine.router.routes_count > 0 || node->engine.carried.jobs_count > 0)
			return false;
	}
	return true;
}

static uint32_t list_length(const struct ferry_list *head)
{
	uint32_t length = 0;

	ferry_list_foreach (link, head)
		length++;
	return length;
}

static const char *leak_of(const struct sim_node *node, const struct sim_node_options *options)
{
	const struct ferry_router *router = &node->engine.router;

	if (router->routes_count > 0 || router->ghosts_count > 0 ||
	    list_length(&router->routes_free) != options->inflight_max + 1)
		return "a route or a ghost";
	if (list_length(&router->tries_free) != options->inflight_max * FERRY_TRIES_PER_ROUTE)
		return "a try";
	if (node->engine.carried.jobs_count > 0)
		return "a carrier's job";
	/* What has not been flushed is kept where each path has a cache of its own. */
	if (!router->keep.is_on && node->arena.free_count != SIM_ARENA_CHUNKS)
		return "a chunk of the applications' arena";
	if (node->arena_peers.free_count != SIM_ARENA_CHUNKS)
		return "a chunk of the peers' arena";
	return node->path.inflight > 0 ? "an attempt on a path" : NULL;
}

const char *sim_cluster_leak(const struct sim_cluster *cluster)
{
	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		const struct sim_node *node = cluster->nodes[i].node;
		const char *leak = node ? leak_of(node, &cluster->options) : NULL;

		if (leak)
			return leak;
	}
	return NULL;
}

bool sim_cluster_run_until(struct sim_cluster *cluster,
			   bool (*done)(struct sim_cluster *cluster, void *context), void *context,
			   uint64_t limit_ns)
{
	uint64_t end_ns = cluster->sim.now_ns + limit_ns;

	while (!done(cluster, context)) {
		if (cluster->sim.heap_count == 0 || cluster->sim.heap[0]->time_ns > end_ns)
			return false;
		(void)sim_step(&cluster->sim); /* There is one. */
	}
	return true;
}

void sim_cluster_run(struct sim_cluster *cluster, uint64_t duration_ns)
{
	sim_run_until(&cluster->sim, cluster->sim.now_ns + duration_ns);
}

static bool is_quiet(struct sim_cluster *cluster, void *context)
{
	(void)context;
	return sim_workload_running(&cluster->workload) == 0;
}

static bool is_converged(struct sim_cluster *cluster, void *context)
{
	(void)context;
	return sim_cluster_is_converged(cluster);
}

bool sim_cluster_read_all(struct sim_cluster *cluster, uint64_t limit_ns)
{
	uint64_t end_ns = cluster->sim.now_ns + limit_ns;
	uint64_t lba = 0;

	while (lba < SIM_LUN_BLOCKS && cluster->sim.now_ns < end_ns) {
		uint64_t reads = cluster->workload.ended[FERRY_OP_READ];
		struct sim_node *owner;

		if (!sim_cluster_run_until(cluster, is_converged, NULL, limit_ns))
			return false;
		owner = sim_cluster_owner(cluster);
		if (sim_client_submit(&owner->client, FERRY_OP_READ, lba, SIM_CLIENT_BLOCKS_MAX) <
		    0)
			return false;
		if (!sim_cluster_run_until(cluster, is_quiet, NULL, limit_ns))
			return false;
		/* A late change of ring or owner may have failed it: once more. */
		if (cluster->workload.ended[FERRY_OP_READ] == reads + 1)
			lba += SIM_CLIENT_BLOCKS_MAX;
	}
	return lba >= SIM_LUN_BLOCKS;
}
