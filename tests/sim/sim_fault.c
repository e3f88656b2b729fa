#include "tests/sim/sim_fault.h"

#include <inttypes.h>
#include <stdio.h>

#define WAIT_NS_MAX (2 * FERRY_NS_PER_S)
#define LATE_NS_MAX (3 * FERRY_NS_PER_S)

static uint64_t draw(struct sim_planned *planned, uint64_t bound)
{
	return ferry_prng_below(&planned->prng, bound);
}

static struct sim_cluster *cluster_of(const struct sim_planned *planned)
{
	return planned->faults->cluster;
}

static struct sim_lun *lun_of(const struct sim_planned *planned)
{
	return &planned->faults->cluster->lun;
}

/* Its next step, or its end, in @delay_ns at most. */
static void step_in(struct sim_planned *planned, uint64_t delay_ns)
{
	struct sim *sim = &cluster_of(planned)->sim;

	sim_at(sim, &planned->end, ferry_min_u64(sim->now_ns + delay_ns, planned->until_ns));
}

/* Whether it goes on: flaps and churns turn often. */
static bool turns(struct sim_planned *planned)
{
	if (cluster_of(planned)->sim.now_ns >= planned->until_ns)
		return false;
	step_in(planned, draw(planned, 1500 * FERRY_NS_PER_MS));
	return true;
}

/* ---- Of the storage. ---- */

static void cut(struct sim_planned *planned)
{
	sim_lun_cut(lun_of(planned), planned->node);
}

static void uncut(struct sim_planned *planned)
{
	sim_lun_heal(lun_of(planned), planned->node);
}

/* Whoever it is by then; mostly the session goes with it, and all is carried at once. */
static void owner_cut(struct sim_planned *planned)
{
	const struct sim_node *owner = sim_cluster_owner(cluster_of(planned));

	if (owner)
		planned->node = owner->id;
	cut(planned);
	if (draw(planned, 4) > 0 && !lun_of(planned)->options.has_no_reservations)
		sim_lun_reset_session(lun_of(planned), planned->node);
}

static void flap(struct sim_planned *planned)
{
	if (!turns(planned) || lun_of(planned)->nexuses[planned->node].is_cut)
		uncut(planned);
	else
		cut(planned);
}

static void reset(struct sim_planned *planned)
{
	sim_lun_reset_session(lun_of(planned), planned->node);
}

static void slow(struct sim_planned *planned)
{
	lun_of(planned)->nexuses[planned->node].slow_ns =
		(1 + draw(planned, 300)) * FERRY_NS_PER_MS;
}

static void unslow(struct sim_planned *planned)
{
	lun_of(planned)->nexuses[planned->node].slow_ns = 0;
}

static void lun_off(struct sim_planned *planned)
{
	if (!lun_of(planned)->is_off)
		sim_lun_power(lun_of(planned), false);
}

static void lun_on(struct sim_planned *planned)
{
	if (lun_of(planned)->is_off)
		sim_lun_power(lun_of(planned), true);
}

static void stall(struct sim_planned *planned)
{
	sim_lun_stall(lun_of(planned), true, draw(planned, 2) == 0);
}

static void unstall(struct sim_planned *planned)
{
	if (lun_of(planned)->is_stalled)
		sim_lun_stall(lun_of(planned), false, false);
}

static void refuse(struct sim_planned *planned)
{
	uint32_t count = 1 + (uint32_t)draw(planned, 4);
	bool is_full = draw(planned, 3) == 0;

	sim_lun_refuse(lun_of(planned), count, is_full ? FERRY_CAUSE_NO_SPACE : FERRY_CAUSE_MEDIUM,
		       /* flush_drops= */ draw(planned, 2) == 0);
}

static void target_power(struct sim_planned *planned)
{
	sim_lun_power_cut(lun_of(planned));
}

static void cache_lost(struct sim_planned *planned)
{
	sim_lun_reset_hard(lun_of(planned));
}

/*
 * And again, some times, while somebody registers at what was restarted, whose REGISTER is then
 * executed by another target. In most of them the owner's own path is away, which would look for
 * itself.
 */
static void unheard(struct sim_planned *planned)
{
	sim_lun_restart_unheard(lun_of(planned));
	if (draw(planned, 4) == 0)
		return;
	if (draw(planned, 4) > 0) {
		owner_cut(planned);
		planned->relapsed = planned->node;
	}
	step_in(planned, 0);
}

static void unheard_again(struct sim_planned *planned)
{
	if (cluster_of(planned)->sim.now_ns >= planned->until_ns) {
		if (planned->relapsed != 0)
			uncut(planned);
		return;
	}
	if (planned->relapses < 3 && sim_lun_is_registering(lun_of(planned)) &&
	    draw(planned, 2) == 0) {
		planned->relapses++;
		sim_lun_restart_unheard(lun_of(planned));
	}
	step_in(planned, draw(planned, 2 * FERRY_NS_PER_MS));
}

static void attention(struct sim_planned *planned)
{
	sim_lun_attention(lun_of(planned), planned->node, SIM_ATTENTION_OTHER);
}

static void path_cache(struct sim_planned *planned)
{
	sim_lun_reset_session(lun_of(planned), planned->node);
	sim_lun_lose_path_cache(lun_of(planned), planned->node);
}

static void hold(struct sim_planned *planned)
{
	sim_lun_hold_some(lun_of(planned), planned->node, 100 + (uint32_t)draw(planned, 901));
}

static void unhold(struct sim_planned *planned)
{
	if (lun_of(planned)->nexuses[planned->node].hold_per_mille > 0)
		sim_lun_hold_some(lun_of(planned), planned->node, 0);
}

/* A peer that waits for a write, which the target has accepted from @since on; or 0. */
static uint32_t carrier_find(const struct sim_planned *planned, uint64_t since)
{
	ferry_list_foreach (link, &lun_of(planned)->commands) {
		const struct sim_command *command =
			ferry_list_entry(link, struct sim_command, link);

		if (command->path && command->stage == SIM_COMMAND_AT_TARGET &&
		    !command->fence_op && ferry_op_changes_blocks(command->op) &&
		    command->accepted >= since && command->node != planned->node &&
		    (planned->relapsed == 0 || command->node == planned->relapsed))
			return command->node;
	}
	return 0;
}

/* Up to which count a waiting abort of @node proves anything, which is back already; or 0. */
static uint64_t back_early(const struct sim_lun *lun, uint32_t node)
{
	ferry_list_foreach (link, &lun->commands) {
		const struct sim_command *command =
			ferry_list_entry(link, struct sim_command, link);

		if (command->fence_op == FERRY_FENCE_PREEMPT && command->path &&
		    command->waits_for == node && lun->nexuses[node].key.v != 0)
			return command->waits_until;
	}
	return 0;
}

/*
 * A peer that carries loses its session with writes in the target's queue, is registered again
 * while an abort of those waits, carries on, and loses the next session as well: the abort's answer
 * comes after that, and says nothing of it.
 */
static void relapse_step(struct sim_planned *planned)
{
	struct sim_lun *lun = lun_of(planned);

	if (planned->relapsed == 0) {
		planned->relapsed = carrier_find(planned, /* since= */ 0);
		planned->relapsed_at = lun->accepted_next;
		if (planned->relapsed != 0)
			sim_lun_hold_some(lun, planned->relapsed, 1000);
		return;
	}
	if (planned->relapses == 1)
		planned->relapsed_at = back_early(lun, planned->relapsed);
	if (planned->relapses == 2 || planned->relapsed_at == 0 ||
	    carrier_find(planned, planned->relapsed_at) == 0)
		return;
	if (++planned->relapses == 2)
		sim_lun_let_go_before(lun, planned->relapsed, planned->relapsed_at);
	sim_lun_reset_session(lun, planned->relapsed);
}

static void relapse(struct sim_planned *planned)
{
	owner_cut(planned);
	step_in(planned, 0);
}

static void relapse_go_on(struct sim_planned *planned)
{
	if (cluster_of(planned)->sim.now_ns < planned->until_ns) {
		relapse_step(planned);
		step_in(planned, draw(planned, 10 * FERRY_NS_PER_MS));
		return;
	}
	if (planned->relapsed != 0)
		sim_lun_hold_some(lun_of(planned), planned->relapsed, 0);
	uncut(planned);
}

/* ---- Of the nodes. ---- */

static void agent_crash(struct sim_planned *planned)
{
	sim_cluster_crash(cluster_of(planned), planned->node, /* is_power_cut= */ false);
}

static void node_power(struct sim_planned *planned)
{
	sim_cluster_crash(cluster_of(planned), planned->node, /* is_power_cut= */ true);
}

static void start(struct sim_planned *planned)
{
	sim_cluster_start(cluster_of(planned), planned->node);
}

static void cluster_power(struct sim_planned *planned)
{
	for (uint32_t i = 1; i <= cluster_of(planned)->nodes_count; i++)
		sim_cluster_crash(cluster_of(planned), i, /* is_power_cut= */ true);
}

/* One after the other. */
static void cluster_start(struct sim_planned *planned)
{
	struct sim_cluster *cluster = cluster_of(planned);

	for (uint32_t i = 1; i <= cluster->nodes_count; i++) {
		if (cluster->nodes[i].node)
			continue;
		sim_cluster_start(cluster, i);
		planned->until_ns = cluster->sim.now_ns + 400 * FERRY_NS_PER_MS;
		step_in(planned, draw(planned, 400 * FERRY_NS_PER_MS));
		return;
	}
}

/* Each turn every agent dies, lives on or is started; the machines stay. */
static void roll(struct sim_planned *planned)
{
	struct sim_cluster *cluster = cluster_of(planned);
	bool is_last = !turns(planned);

	for (uint32_t i = 1; i <= cluster->nodes_count; i++)
		if (is_last || draw(planned, 2) == 0)
			sim_cluster_start(cluster, i);
		else
			sim_cluster_crash(cluster, i, /* is_power_cut= */ false);
}

static void agent_stop(struct sim_planned *planned)
{
	sim_cluster_pause(cluster_of(planned), planned->node, SIM_FREEZE_AGENT);
}

static void freeze(struct sim_planned *planned)
{
	sim_cluster_pause(cluster_of(planned), planned->node, SIM_FREEZE_NODE);
}

static void guest_pause(struct sim_planned *planned)
{
	sim_cluster_pause(cluster_of(planned), planned->node, SIM_FREEZE_GUEST);
}

static void wake(struct sim_planned *planned)
{
	sim_cluster_wake(cluster_of(planned), planned->node);
}

static void move(struct sim_planned *planned)
{
	sim_cluster_acquire(cluster_of(planned), planned->node);
}

static void release(struct sim_planned *planned)
{
	for (uint32_t i = 1; i <= cluster_of(planned)->nodes_count; i++)
		sim_cluster_release(cluster_of(planned), i,
				    planned->other != i ? planned->other : 0);
}

static void force(struct sim_planned *planned)
{
	uint32_t id = sim_aim_resolve(cluster_of(planned), planned->aim, planned->node, 0);

	if (sim_cluster_force(cluster_of(planned), id))
		planned->until_ns = cluster_of(planned)->sim.now_ns;
	if (cluster_of(planned)->sim.now_ns < planned->until_ns)
		step_in(planned, 20 * FERRY_NS_PER_MS);
	else
		sim_cancel(&cluster_of(planned)->sim, &planned->end);
}

static void store(struct sim_planned *planned)
{
	cluster_of(planned)->nodes[planned->node].store.saves_to_fail =
		1 + (uint32_t)draw(planned, 3);
}

/*
 * Its cluster thread waits for a disk, say; what it has to tell the data thread waits as well. In
 * most of them its path is away, so that peers carry, and the target is restarted meanwhile.
 */
static void late(struct sim_planned *planned)
{
	struct sim_node *owner = sim_cluster_owner(cluster_of(planned));

	planned->until_ns = cluster_of(planned)->sim.now_ns;
	if (!owner)
		return;
	planned->node = owner->id;
	sim_node_hears_late(owner, ferry_min_u64(planned->duration_ns, LATE_NS_MAX));
	if (draw(planned, 4) == 0)
		return;
	planned->until_ns += ferry_min_u64(planned->duration_ns, LATE_NS_MAX);
	planned->relapsed = planned->node;
	owner_cut(planned);
	step_in(planned, draw(planned, planned->duration_ns / 4));
}

static void late_go_on(struct sim_planned *planned)
{
	if (cluster_of(planned)->sim.now_ns >= planned->until_ns) {
		if (planned->relapsed != 0)
			uncut(planned);
		return;
	}
	sim_lun_reset_hard(lun_of(planned));
	step_in(planned, planned->until_ns - cluster_of(planned)->sim.now_ns);
}

/* ---- Of the networks. ---- */

static void isolate(struct sim_planned *planned)
{
	sim_cluster_isolate(cluster_of(planned), planned->node);
}

static void partition(struct sim_planned *planned)
{
	uint32_t sides[SIM_NODES_MAX + 1] = {0};

	for (uint32_t i = 1; i <= cluster_of(planned)->nodes_count; i++)
		sides[i] = 1 + (uint32_t)draw(planned, 2);
	sim_cluster_partition(cluster_of(planned), sides);
}

static void join(struct sim_planned *planned)
{
	sim_cluster_join_all(cluster_of(planned));
}

static void churn(struct sim_planned *planned)
{
	if (!turns(planned) || cluster_of(planned)->corosync.nodes[planned->node].side != 0)
		join(planned);
	else
		isolate(planned);
}

static void link(struct sim_planned *planned)
{
	struct sim_net *net = &cluster_of(planned)->net;

	sim_net_cut(net, planned->node, planned->other, true);
	if (draw(planned, 2) == 0) /* Else one way only. */
		sim_net_cut(net, planned->other, planned->node, true);
}

static void relink(struct sim_planned *planned)
{
	sim_net_cut(&cluster_of(planned)->net, planned->node, planned->other, false);
	sim_net_cut(&cluster_of(planned)->net, planned->other, planned->node, false);
}

static void half_open(struct sim_planned *planned)
{
	sim_net_half_open(&cluster_of(planned)->net, planned->node, planned->other);
}

static void sever(struct sim_planned *planned)
{
	const struct sim_cluster_node *slot = &cluster_of(planned)->nodes[planned->node];

	if (slot->node && !slot->is_frozen)
		sim_net_break(&cluster_of(planned)->net, planned->node);
}

static void delay(struct sim_planned *planned)
{
	cluster_of(planned)->net.delay_ns = (1 + draw(planned, 200)) * FERRY_NS_PER_MS;
}

static void undelay(struct sim_planned *planned)
{
	cluster_of(planned)->net.delay_ns = 0;
}

/*
 * Whoever owns the pool loses its path, and a peer dies with a write that it carries; and is back,
 * maybe before anybody has noticed.
 */
static void orphan(struct sim_planned *planned)
{
	owner_cut(planned);
	step_in(planned, 0);
}

static void orphan_go_on(struct sim_planned *planned)
{
	struct sim_cluster *cluster = cluster_of(planned);

	if (cluster->sim.now_ns >= planned->until_ns) {
		if (planned->relapsed != 0)
			sim_cluster_start(cluster, planned->relapsed);
		uncut(planned);
		return;
	}
	if (planned->relapsed == 0) {
		planned->relapsed = carrier_find(planned, /* since= */ 0);
		if (planned->relapsed != 0)
			sim_cluster_crash(cluster, planned->relapsed, draw(planned, 2) == 0);
		step_in(planned, draw(planned, planned->relapsed != 0 ? 1 * FERRY_NS_PER_S
								      : 10 * FERRY_NS_PER_MS));
		return;
	}
	sim_cluster_start(cluster, planned->relapsed);
	step_in(planned, planned->duration_ns);
}

static const struct kind {
	const char *name;
	void (*begin)(struct sim_planned *planned);
	void (*end)(struct sim_planned *planned); /* Of what lasts. */
} kinds[SIM_FAULTS_COUNT] = {
	[SIM_FAULT_CUT] = {"cut", cut, uncut},
	[SIM_FAULT_FLAP] = {"flap", flap, flap},
	[SIM_FAULT_RESET] = {"reset", reset, NULL},
	[SIM_FAULT_SLOW] = {"slow", slow, unslow},
	[SIM_FAULT_LUN_OFF] = {"lun-off", lun_off, lun_on},
	[SIM_FAULT_STALL] = {"stall", stall, unstall},
	[SIM_FAULT_REFUSE] = {"refuse", refuse, NULL},
	[SIM_FAULT_TARGET] = {"target-power", target_power, lun_on},
	[SIM_FAULT_CACHE] = {"cache-lost", cache_lost, NULL},
	[SIM_FAULT_ATTENTION] = {"attention", attention, NULL},
	[SIM_FAULT_CRASH] = {"agent-crash", agent_crash, start},
	[SIM_FAULT_POWER] = {"node-power", node_power, start},
	[SIM_FAULT_CLUSTER] = {"cluster-power", cluster_power, cluster_start},
	[SIM_FAULT_STOP] = {"agent-stop", agent_stop, wake},
	[SIM_FAULT_FREEZE] = {"freeze", freeze, wake},
	[SIM_FAULT_PAUSE] = {"pause", guest_pause, wake},
	[SIM_FAULT_ISOLATE] = {"isolate", isolate, join},
	[SIM_FAULT_PARTITION] = {"partition", partition, join},
	[SIM_FAULT_CHURN] = {"churn", churn, churn},
	[SIM_FAULT_LINK] = {"link", link, relink},
	[SIM_FAULT_BREAK] = {"break", sever, NULL},
	[SIM_FAULT_HALF_OPEN] = {"half-open", half_open, NULL},
	[SIM_FAULT_DELAY] = {"delay", delay, undelay},
	[SIM_FAULT_MOVE] = {"move", move, NULL},
	[SIM_FAULT_RELEASE] = {"release", release, NULL},
	[SIM_FAULT_STORE] = {"store", store, NULL},
	[SIM_FAULT_HOLD] = {"hold", hold, unhold},
	[SIM_FAULT_FORCE] = {"force", force, force},
	[SIM_FAULT_ROLL] = {"roll", roll, roll},
	[SIM_FAULT_OWNER_CUT] = {"owner-cut", owner_cut, uncut},
	[SIM_FAULT_OWN_CACHE] = {"path-cache", path_cache, NULL},
	[SIM_FAULT_RELAPSE] = {"relapse", relapse, relapse_go_on},
	[SIM_FAULT_UNHEARD] = {"unheard", unheard, unheard_again},
	[SIM_FAULT_LATE] = {"late", late, late_go_on},
	[SIM_FAULT_ORPHAN] = {"orphan", orphan, orphan_go_on},
};

const char *sim_fault_name(enum sim_fault fault)
{
	ferry_assert((size_t)fault < SIM_FAULTS_COUNT);
	return kinds[fault].name;
}

/* ---- A fault's course. ---- */

void sim_fault_describe(const struct sim_planned *planned, char *text, size_t size_bytes)
{
	int used =
		snprintf(text, size_bytes, "at %" PRIu64 ".%03" PRIu64 " s: %s n%u",
			 planned->at_ns / FERRY_NS_PER_S, planned->at_ns / FERRY_NS_PER_MS % 1000,
			 sim_fault_name(planned->fault), planned->node);

	if (used > 0 && (size_t)used < size_bytes && kinds[planned->fault].end)
		(void)snprintf(text + used, size_bytes - (size_t)used, " (n%u) for %" PRIu64 " ms",
			       planned->other, planned->duration_ns / FERRY_NS_PER_MS);
	used = (int)strlen(text);
	if (!planned->has_begun && (planned->moment != SIM_MOMENT_DRAWN || planned->aim != 0))
		(void)snprintf(text + used, size_bytes - (size_t)used, ", at %s for %s",
			       sim_moment_name(planned->moment), sim_aim_name(planned->aim));
}

/* What is aimed waits for its moment, but not for ever. */
static bool waits(struct sim_planned *planned)
{
	struct sim *sim = &planned->faults->cluster->sim;

	if (planned->moment == SIM_MOMENT_DRAWN || planned->is_waiting)
		return false;
	planned->is_waiting = true;
	sim_in(sim, &planned->begin, WAIT_NS_MAX);
	return true;
}

/* The moment that some wait for may have come. */
static void moment_came(void *context, uint32_t node, const struct ferry_event *event)
{
	static const uint64_t delays_ns[] = {2 * FERRY_NS_PER_MS, 20 * FERRY_NS_PER_MS,
					     100 * FERRY_NS_PER_MS};
	struct sim_faults *faults = context;
	enum sim_moment moment = sim_moment_of(event);

	if (moment == SIM_MOMENT_DRAWN)
		return;
	for (uint32_t i = 0; i < faults->count; i++) {
		struct sim_planned *planned = &faults->plan[i];

		if (!planned->is_waiting || planned->has_begun || planned->actor != 0 ||
		    planned->moment != moment || !sim_is_due(&planned->begin))
			continue;
		planned->actor = node;
		sim_in(&faults->cluster->sim, &planned->begin,
		       draw(planned, delays_ns[draw(planned, FERRY_ARRAY_COUNT(delays_ns))]));
	}
}

static void begin_run(struct sim_event *event)
{
	struct sim_planned *planned = FERRY_CONTAINER_OF(event, struct sim_planned, begin);
	struct sim *sim = &planned->faults->cluster->sim;
	char text[128];

	if (waits(planned))
		return;
	planned->has_begun = true;
	planned->node = sim_aim_resolve(planned->faults->cluster, planned->aim, planned->node,
					planned->actor);
	if (planned->other == planned->node)
		planned->other = planned->node % planned->faults->cluster->nodes_count + 1;
	sim_fault_describe(planned, text, sizeof(text));
	sim_note(sim, SIM_FAULT, planned->node, planned->fault, "%s", text);
	planned->faults->made[planned->fault]++;
	planned->until_ns = sim->now_ns + planned->duration_ns;
	if (kinds[planned->fault].end)
		step_in(planned, planned->duration_ns);
	kinds[planned->fault].begin(planned);
}

static void end_run(struct sim_event *event)
{
	struct sim_planned *planned = FERRY_CONTAINER_OF(event, struct sim_planned, end);

	kinds[planned->fault].end(planned);
}

void sim_faults_start(struct sim_faults *faults, const bool *skip)
{
	faults->cluster->on_event = moment_came;
	faults->cluster->on_event_context = faults;
	for (uint32_t i = 1; i <= faults->cluster->nodes_count; i++)
		if (faults->cluster->nodes[i].node) {
			faults->cluster->nodes[i].node->on_event = moment_came;
			faults->cluster->nodes[i].node->on_event_context = faults;
		}
	for (uint32_t i = 0; i < faults->count; i++) {
		faults->plan[i].begin =
			(struct sim_event){.kind = SIM_FAULT, .value = 1, .run = begin_run};
		faults->plan[i].end =
			(struct sim_event){.kind = SIM_FAULT, .value = 2, .run = end_run};
		faults->plan[i].is_skipped = skip && skip[i];
		if (!faults->plan[i].is_skipped)
			sim_in(&faults->cluster->sim, &faults->plan[i].begin,
			       faults->plan[i].at_ns);
	}
}

void sim_faults_stop(struct sim_faults *faults)
{
	for (uint32_t i = 0; i < faults->count; i++) {
		sim_cancel(&faults->cluster->sim, &faults->plan[i].begin);
		sim_cancel(&faults->cluster->sim, &faults->plan[i].end);
	}
}
