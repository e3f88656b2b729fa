/* sim_plan.c - which faults a seed has, when, and at what they are aimed. */
#include "tests/sim/sim_fault.h"

/*
 * Where each path has a cache of its own: of the paths only. A change of owner in the midst of a
 * replay leaves older bytes over newer ones, which the core does not hold yet.
 */
static void weights_by_path(struct sim_faults *faults)
{
	static const enum sim_fault of_paths[] = {SIM_FAULT_CUT, SIM_FAULT_FLAP, SIM_FAULT_RESET,
						  SIM_FAULT_SLOW, SIM_FAULT_OWN_CACHE};
	uint32_t weights[SIM_FAULTS_COUNT] = {[SIM_FAULT_OWN_CACHE] = 4};

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(of_paths); i++)
		weights[of_paths[i]] += faults->weights[of_paths[i]];
	memcpy(faults->weights, weights, sizeof(weights));
}

/*
 * Where the lun has no reservations (sim_chaos.c): of nodes and the cluster's network, and what has
 * peers carry.
 */
static void weights_by_power(struct sim_faults *faults)
{
	static const bool is_of_nodes[SIM_FAULTS_COUNT] = {
		[SIM_FAULT_CRASH] = true,  [SIM_FAULT_POWER] = true,
		[SIM_FAULT_STOP] = true,   [SIM_FAULT_FREEZE] = true,
		[SIM_FAULT_PAUSE] = true,  [SIM_FAULT_ISOLATE] = true,
		[SIM_FAULT_CHURN] = true,  [SIM_FAULT_PARTITION] = true,
		[SIM_FAULT_MOVE] = true,   [SIM_FAULT_RELEASE] = true,
		[SIM_FAULT_STORE] = true,  [SIM_FAULT_ROLL] = true,
		[SIM_FAULT_ORPHAN] = true,
	};

	for (size_t i = 0; i < SIM_FAULTS_COUNT; i++)
		if (!is_of_nodes[i])
			faults->weights[i] = 0;
	faults->weights[SIM_FAULT_POWER] += 2;
}

static const struct focus {
	const char *name;
	uint32_t aimed_per_mille_max;
	uint32_t long_per_mille; /* Faults that last longer than most. */
	/* What it is about, and what goes with it: at most so heavy. 0 ends them. */
	struct {
		enum sim_fault fault;
		uint32_t weight_max;
	} kinds[14];
} foci[SIM_FOCI_COUNT] = {
	[SIM_FOCUS_NONE] = {.name = "everything",
			    .aimed_per_mille_max = 500,
			    .long_per_mille = 200},
	[SIM_FOCUS_TAKING] = {.name = "taking",
			      .aimed_per_mille_max = 900,
			      .long_per_mille = 200,
			      .kinds = {{SIM_FAULT_FORCE, 24},
					{SIM_FAULT_CRASH, 16},
					{SIM_FAULT_HOLD, 24},
					{SIM_FAULT_FLAP, 24},
					{SIM_FAULT_MOVE, 24},
					{SIM_FAULT_RESET, 6},
					{SIM_FAULT_POWER, 6},
					{SIM_FAULT_STALL, 6},
					{SIM_FAULT_BREAK, 6},
					{SIM_FAULT_FREEZE, 6},
					{SIM_FAULT_ISOLATE, 6}}},
	[SIM_FOCUS_RINGS] = {.name = "rings",
			     .aimed_per_mille_max = 900,
			     .long_per_mille = 200,
			     .kinds = {{SIM_FAULT_ROLL, 24},
				       {SIM_FAULT_CHURN, 24},
				       {SIM_FAULT_ISOLATE, 6},
				       {SIM_FAULT_PARTITION, 6},
				       {SIM_FAULT_MOVE, 6},
				       {SIM_FAULT_FREEZE, 6},
				       {SIM_FAULT_POWER, 6},
				       {SIM_FAULT_CLUSTER, 6},
				       {SIM_FAULT_STORE, 6},
				       {SIM_FAULT_STOP, 6}}},
	[SIM_FOCUS_FREEZING] = {.name = "freezing",
				.aimed_per_mille_max = 900,
				.long_per_mille = 600,
				.kinds = {{SIM_FAULT_STOP, 24},
					  {SIM_FAULT_FREEZE, 24},
					  {SIM_FAULT_MOVE, 16},
					  {SIM_FAULT_PAUSE, 6},
					  {SIM_FAULT_RESET, 6},
					  {SIM_FAULT_ISOLATE, 6}}},
	[SIM_FOCUS_HANDOVER] = {.name = "handovers",
				.aimed_per_mille_max = 200,
				.long_per_mille = 200,
				.kinds = {{SIM_FAULT_MOVE, 30},
					  {SIM_FAULT_OWNER_CUT, 8},
					  {SIM_FAULT_DELAY, 6},
					  {SIM_FAULT_RELEASE, 4},
					  {SIM_FAULT_FREEZE, 4},
					  {SIM_FAULT_STOP, 4},
					  {SIM_FAULT_ISOLATE, 3}}},
	[SIM_FOCUS_CARRYING] = {.name = "carrying",
				.aimed_per_mille_max = 300,
				.long_per_mille = 200,
				.kinds = {{SIM_FAULT_OWNER_CUT, 20},
					  {SIM_FAULT_LINK, 12},
					  {SIM_FAULT_BREAK, 8},
					  {SIM_FAULT_HALF_OPEN, 6},
					  {SIM_FAULT_MOVE, 16},
					  {SIM_FAULT_HOLD, 10},
					  {SIM_FAULT_SLOW, 6},
					  {SIM_FAULT_DELAY, 12},
					  {SIM_FAULT_RESET, 4},
					  {SIM_FAULT_STALL, 4},
					  {SIM_FAULT_CRASH, 4}}},
	[SIM_FOCUS_LAYING] = {.name = "laying",
			      .aimed_per_mille_max = 600,
			      .long_per_mille = 700,
			      .kinds = {{SIM_FAULT_RELAPSE, 36},
					{SIM_FAULT_HOLD, 3},
					{SIM_FAULT_OWNER_CUT, 3},
					{SIM_FAULT_RESET, 3},
					{SIM_FAULT_BREAK, 6},
					{SIM_FAULT_SLOW, 3},
					{SIM_FAULT_MOVE, 3}}},
	[SIM_FOCUS_UNHEARD] = {.name = "unheard restarts",
			       .aimed_per_mille_max = 300,
			       .long_per_mille = 200,
			       .kinds = {{SIM_FAULT_UNHEARD, 36},
					 {SIM_FAULT_OWNER_CUT, 12},
					 {SIM_FAULT_MOVE, 6},
					 {SIM_FAULT_CRASH, 6},
					 {SIM_FAULT_BREAK, 6},
					 {SIM_FAULT_RESET, 6}}},
	[SIM_FOCUS_LATE] = {.name = "late owners",
			    .aimed_per_mille_max = 300,
			    .long_per_mille = 300,
			    .kinds = {{SIM_FAULT_TARGET, 24},
				      {SIM_FAULT_LATE, 30},
				      {SIM_FAULT_OWNER_CUT, 30},
				      {SIM_FAULT_MOVE, 3},
				      {SIM_FAULT_RESET, 3}}},
	[SIM_FOCUS_LOSSES] = {.name = "losses",
			      .aimed_per_mille_max = 300,
			      .long_per_mille = 200,
			      .kinds = {{SIM_FAULT_TARGET, 16},
					{SIM_FAULT_OWNER_CUT, 24},
					{SIM_FAULT_CRASH, 16},
					{SIM_FAULT_BREAK, 6},
					{SIM_FAULT_CUT, 6},
					{SIM_FAULT_RESET, 6},
					{SIM_FAULT_MOVE, 6}}},
	[SIM_FOCUS_POWER] = {.name = "fencing",
			     .aimed_per_mille_max = 600,
			     .long_per_mille = 600,
			     .kinds = {{SIM_FAULT_POWER, 30},
				       {SIM_FAULT_FREEZE, 20},
				       {SIM_FAULT_ISOLATE, 20},
				       {SIM_FAULT_STOP, 6},
				       {SIM_FAULT_PAUSE, 6},
				       {SIM_FAULT_PARTITION, 6},
				       {SIM_FAULT_CHURN, 6},
				       {SIM_FAULT_CRASH, 6},
				       {SIM_FAULT_ROLL, 3},
				       {SIM_FAULT_MOVE, 12},
				       {SIM_FAULT_RELEASE, 6},
				       {SIM_FAULT_ORPHAN, 24}}},
};

const char *sim_focus_name(enum sim_focus focus)
{
	ferry_assert((size_t)focus < SIM_FOCI_COUNT);
	return foci[focus].name;
}

static void weights_focus(struct sim_faults *faults)
{
	const struct focus *focus = &foci[faults->focus];
	struct sim *sim = &faults->cluster->sim;

	if (faults->focus == SIM_FOCUS_NONE)
		return;
	for (size_t i = 0; i <= SIM_FAULT_RELAPSE; i++)
		if (!sim_chance(sim, SIM_CRASH, 200))
			faults->weights[i] = 0;
	for (size_t i = 0; focus->kinds[i].weight_max != 0; i++) {
		uint32_t max = focus->kinds[i].weight_max;

		faults->weights[focus->kinds[i].fault] +=
			(uint32_t)sim_between(sim, SIM_CRASH, max >= 16 ? max / 3 : 0, max);
	}
}

static void weights_draw(struct sim_faults *faults)
{
	struct sim *sim = &faults->cluster->sim;

	for (int i = 0; i < SIM_FAULT_OWN_CACHE; i++) /* Half of the kinds in each seed. */
		faults->weights[i] = sim_chance(sim, SIM_CRASH, 500)
					     ? 1 + (uint32_t)sim_below(sim, SIM_CRASH, 4)
					     : 0;
	faults->weights[SIM_FAULT_CUT] += 2;
	faults->weights[SIM_FAULT_RESET] += 2;
	faults->weights[SIM_FAULT_CRASH] += 1;
	faults->weights[SIM_FAULT_BREAK] += 1;
	/* These stop everybody, or nearly. */
	faults->weights[SIM_FAULT_CLUSTER] = (faults->weights[SIM_FAULT_CLUSTER] + 2) / 3;
	faults->weights[SIM_FAULT_LUN_OFF] = (faults->weights[SIM_FAULT_LUN_OFF] + 1) / 2;
	weights_focus(faults);
	/* A clock that stood still, and a restart that nobody tells of: docs/decisions/0009. */
	if (faults->focus == SIM_FOCUS_UNHEARD)
		faults->weights[SIM_FAULT_PAUSE] = 0;
	if (faults->cluster->lun.options.caches_by_path)
		weights_by_path(faults);
	if (faults->cluster->lun.options.has_no_reservations)
		weights_by_power(faults);
}

/* Where a kind of fault does most harm: half of what is aimed is aimed so. */
static const struct target {
	enum sim_moment moment;
	enum sim_aim aim;
} targets[SIM_FAULTS_COUNT] = {
	[SIM_FAULT_CUT] = {SIM_MOMENT_DRAWN, SIM_AIM_OWNER},
	[SIM_FAULT_FLAP] = {SIM_MOMENT_OWNING, SIM_AIM_OWNER},
	[SIM_FAULT_RESET] = {SIM_MOMENT_REGISTERED, SIM_AIM_ACTOR},
	[SIM_FAULT_HOLD] = {SIM_MOMENT_FORWARDING, SIM_AIM_OTHER},
	[SIM_FAULT_STALL] = {SIM_MOMENT_GHOST, SIM_AIM_DRAWN},
	[SIM_FAULT_MOVE] = {SIM_MOMENT_GHOST, SIM_AIM_OTHER},
	[SIM_FAULT_CRASH] = {SIM_MOMENT_PREEMPTING, SIM_AIM_ACTOR},
	[SIM_FAULT_POWER] = {SIM_MOMENT_OWNING, SIM_AIM_ACTOR},
	[SIM_FAULT_FORCE] = {SIM_MOMENT_GHOST, SIM_AIM_CARRIER},
	[SIM_FAULT_ROLL] = {SIM_MOMENT_OWNING, SIM_AIM_DRAWN},
	[SIM_FAULT_STOP] = {SIM_MOMENT_DRAWN, SIM_AIM_OWNER},
	[SIM_FAULT_FREEZE] = {SIM_MOMENT_TAKING, SIM_AIM_ACTOR},
	[SIM_FAULT_PAUSE] = {SIM_MOMENT_DRAWN, SIM_AIM_OWNER},
	[SIM_FAULT_ISOLATE] = {SIM_MOMENT_CLAIMING, SIM_AIM_ACTOR},
	[SIM_FAULT_CHURN] = {SIM_MOMENT_TAKING, SIM_AIM_ACTOR},
	[SIM_FAULT_BREAK] = {SIM_MOMENT_LAID, SIM_AIM_ACTOR},
	[SIM_FAULT_STORE] = {SIM_MOMENT_CLAIMING, SIM_AIM_OTHER},
};

static void target_draw(struct sim_faults *faults, struct sim_planned *planned)
{
	struct sim *sim = &faults->cluster->sim;

	if (!sim_chance(sim, SIM_CRASH, faults->aimed_per_mille))
		return;
	planned->moment = (enum sim_moment)sim_below(sim, SIM_CRASH, SIM_MOMENTS_COUNT);
	planned->aim = (enum sim_aim)sim_below(sim, SIM_CRASH, SIM_AIMS_COUNT);
	if (sim_chance(sim, SIM_CRASH, 500)) {
		planned->moment = targets[planned->fault].moment;
		planned->aim = targets[planned->fault].aim;
	}
}

static void planned_draw(struct sim_faults *faults, struct sim_planned *planned, uint64_t at_ns,
			 uint32_t weights_sum)
{
	struct sim *sim = &faults->cluster->sim;
	uint32_t nodes_count = faults->cluster->nodes_count;
	uint64_t drawn = sim_below(sim, SIM_CRASH, weights_sum);
	uint32_t fault = 0;

	while (drawn >= faults->weights[fault])
		drawn -= faults->weights[fault++];
	ferry_assert(fault < SIM_FAULTS_COUNT);
	*planned = (struct sim_planned){
		.faults = faults,
		.fault = (enum sim_fault)fault,
		.node = 1 + (uint32_t)sim_below(sim, SIM_CRASH, nodes_count),
		.at_ns = at_ns,
	};
	planned->other = planned->node % nodes_count + 1;
	if (nodes_count > 2)
		planned->other =
			(planned->node + (uint32_t)sim_below(sim, SIM_CRASH, nodes_count - 1)) %
				nodes_count +
			1;
	/* Mostly short, at times longer than any patience. */
	planned->duration_ns =
		sim_between(sim, SIM_CRASH, 5 * FERRY_NS_PER_MS,
			    sim_chance(sim, SIM_CRASH, foci[faults->focus].long_per_mille)
				    ? 12 * FERRY_NS_PER_S
				    : 2 * FERRY_NS_PER_S);
	planned->prng.state = ferry_prng_next(&sim->streams[SIM_CRASH]);
	target_draw(faults, planned);
}

/* Where a focus is on a moment most is aimed; elsewhere nothing, or some. */
static void aims_draw(struct sim_faults *faults)
{
	struct sim *sim = &faults->cluster->sim;
	uint32_t max = foci[faults->focus].aimed_per_mille_max;

	if (max > 500 || sim_chance(sim, SIM_CRASH, 400))
		faults->aimed_per_mille =
			(uint32_t)sim_between(sim, SIM_CRASH, max > 500 ? 300 : 50, max);
}

void sim_faults_draw(struct sim_faults *faults, struct sim_cluster *cluster, enum sim_focus focus,
		     uint64_t interval_ns_max, uint64_t length_ns)
{
	uint32_t weights_sum = 0;
	uint64_t at_ns = 0;

	memset(faults, 0, sizeof(*faults));
	faults->cluster = cluster;
	faults->focus = focus;
	weights_draw(faults);
	aims_draw(faults);
	for (int i = 0; i < SIM_FAULTS_COUNT; i++)
		weights_sum += faults->weights[i];
	while (faults->count < SIM_PLAN_MAX) {
		at_ns +=
			sim_between(&cluster->sim, SIM_CRASH, 5 * FERRY_NS_PER_MS, interval_ns_max);
		if (at_ns >= length_ns)
			break;
		planned_draw(faults, &faults->plan[faults->count++], at_ns, weights_sum);
	}
}
