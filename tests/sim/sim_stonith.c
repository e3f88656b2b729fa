#include "tests/sim/sim_stonith.h"

#define LOOK_NS (100 * FERRY_NS_PER_MS)

static uint64_t wall_s(const struct sim_stonith *stonith)
{
	return stonith->sim->now_ns / FERRY_NS_PER_S;
}

/* ---- Who is missing. ---- */

/* Whether a ring with quorum has all but @node and perhaps others. */
static bool is_missing(const struct sim_corosync *corosync, uint32_t node)
{
	for (uint32_t i = 1; i <= corosync->nodes_count; i++) {
		const struct sim_corosync_node *from = &corosync->nodes[i];
		uint32_t present = 0;

		if (i == node || from->ring == 0 || !from->is_up || from->is_frozen ||
		    from->is_gathering || from->ring == corosync->nodes[node].ring)
			continue;
		for (uint32_t j = 1; j <= corosync->nodes_count; j++)
			present += corosync->nodes[j].ring == from->ring;
		if (2 * present > corosync->nodes_count || corosync->nodes_count == 2)
			return true;
	}
	return false;
}

/* ---- One fencing. ---- */

static void history_end(struct sim_stonith *stonith, struct sim_fencing *fencing,
			enum ferry_power_result result)
{
	struct ferry_power_fencing *entry = &stonith->history[fencing->entry];

	entry->result = result;
	entry->ended_s = wall_s(stonith);
	stonith->failures += result != FERRY_POWER_CUT;
	fencing->stage = SIM_FENCING_IDLE;
}

static void ask(struct sim_stonith *stonith, struct sim_fencing *fencing)
{
	fencing->entry = stonith->history_count++;
	stonith->history[fencing->entry] = (struct ferry_power_fencing){
		.node = {fencing->node}, .result = FERRY_POWER_PENDING};
	fencing->stage = SIM_FENCING_ASKED;
	sim_note(stonith->sim, SIM_FAULT, fencing->node, 20, "is to be fenced");
	sim_in(stonith->sim, &fencing->event,
	       sim_between(stonith->sim, SIM_CRASH, 10 * FERRY_NS_PER_MS, 300 * FERRY_NS_PER_MS));
}

/* The device does it, and says so some time after. */
static void act(struct sim_stonith *stonith, struct sim_fencing *fencing)
{
	struct sim *sim = stonith->sim;

	if (!is_missing(stonith->corosync, fencing->node) ||
	    sim_chance(sim, SIM_CRASH, stonith->fails_per_mille)) {
		sim_note(sim, SIM_FAULT, fencing->node, 21, "is not fenced: that failed");
		history_end(stonith, fencing, FERRY_POWER_PROVES_NOT);
		return;
	}
	fencing->stage = SIM_FENCING_CUT;
	sim_in(sim, &fencing->event, sim_below(sim, SIM_CRASH, 700 * FERRY_NS_PER_MS));
	if (stonith->only_storage)
		return;
	sim_note(sim, SIM_FAULT, fencing->node, 22, "is fenced");
	stonith->cuts++;
	stonith->power_cut(stonith->context, fencing->node);
	if (!sim_chance(sim, SIM_CRASH, stonith->stays_off_per_mille))
		sim_in(sim, &fencing->on_event,
		       sim_between(sim, SIM_CRASH, 50 * FERRY_NS_PER_MS, 4 * FERRY_NS_PER_S));
}

static void fencing_run(struct sim_event *event)
{
	struct sim_fencing *fencing = FERRY_CONTAINER_OF(event, struct sim_fencing, event);
	struct sim_stonith *stonith = fencing->stonith;

	if (fencing->stage == SIM_FENCING_DUE && is_missing(stonith->corosync, fencing->node) &&
	    stonith->history_count < SIM_FENCINGS_MAX)
		ask(stonith, fencing);
	else if (fencing->stage == SIM_FENCING_DUE)
		fencing->stage = SIM_FENCING_IDLE;
	else if (fencing->stage == SIM_FENCING_ASKED)
		act(stonith, fencing);
	else
		history_end(stonith, fencing, FERRY_POWER_CUT);
}

static void turn_on(struct sim_event *event)
{
	struct sim_fencing *fencing = FERRY_CONTAINER_OF(event, struct sim_fencing, on_event);

	fencing->stonith->power_on(fencing->stonith->context, fencing->node);
}

/* A node that was fenced, and stays away, is fenced once. */
static bool is_settled(const struct sim_stonith *stonith, uint32_t node)
{
	const struct sim_fencing *fencing = &stonith->fencings[node];

	return !stonith->corosync->nodes[node].is_up && stonith->history_count > 0 &&
	       stonith->history[fencing->entry].node.v == node &&
	       stonith->history[fencing->entry].result == FERRY_POWER_CUT;
}

static void look(struct sim_event *event)
{
	struct sim_stonith *stonith = FERRY_CONTAINER_OF(event, struct sim_stonith, look_event);

	for (uint32_t i = 1; i <= stonith->corosync->nodes_count; i++) {
		struct sim_fencing *fencing = &stonith->fencings[i];

		if (fencing->stage != SIM_FENCING_IDLE || !is_missing(stonith->corosync, i) ||
		    is_settled(stonith, i))
			continue;
		fencing->stage = SIM_FENCING_DUE;
		sim_in(stonith->sim, &fencing->event,
		       sim_below(stonith->sim, SIM_CRASH, stonith->reaction_ns_max));
	}
	sim_in(stonith->sim, event, LOOK_NS);
}

void sim_stonith_init(struct sim_stonith *stonith, struct sim *sim, struct sim_corosync *corosync)
{
	*stonith = (struct sim_stonith){
		.sim = sim,
		.corosync = corosync,
		.look_event = {.kind = SIM_FAULT, .value = 3, .run = look},
		.reaction_ns_max = 500 * FERRY_NS_PER_MS,
	};
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++)
		stonith->fencings[i] = (struct sim_fencing){
			.event = {.kind = SIM_FAULT, .value = 4, .node = i, .run = fencing_run},
			.on_event = {.kind = SIM_FAULT, .value = 5, .node = i, .run = turn_on},
			.stonith = stonith,
			.node = i,
		};
}

void sim_stonith_start(struct sim_stonith *stonith)
{
	stonith->is_on = true;
	sim_in(stonith->sim, &stonith->look_event, LOOK_NS);
}

void sim_stonith_stop(struct sim_stonith *stonith)
{
	stonith->is_on = false;
	sim_cancel(stonith->sim, &stonith->look_event);
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++) {
		struct sim_fencing *fencing = &stonith->fencings[i];

		if (fencing->stage > SIM_FENCING_DUE)
			history_end(stonith, fencing,
				    fencing->stage == SIM_FENCING_CUT ? FERRY_POWER_CUT
								      : FERRY_POWER_PROVES_NOT);
		fencing->stage = SIM_FENCING_IDLE;
		sim_cancel(stonith->sim, &fencing->event);
		sim_cancel(stonith->sim, &fencing->on_event);
	}
}

/* ---- The power port. ---- */

static void power_look(struct ferry_power *self)
{
	struct sim_power *power = FERRY_CONTAINER_OF(self, struct sim_power, power);
	struct sim *sim = power->stonith->sim;

	ferry_assert(!sim_input_is_due(&power->read_input) && !sim_input_is_due(&power->input));
	power->report.asked_s = wall_s(power->stonith);
	sim_input_in(&power->read_input, sim_below(sim, SIM_CLOCK, 50 * FERRY_NS_PER_MS));
}

static void power_read(struct sim_input *input)
{
	struct sim_power *power = FERRY_CONTAINER_OF(input, struct sim_power, read_input);
	struct sim_stonith *stonith = power->stonith;
	struct ferry_power_report *report = &power->report;

	report->count = sim_chance(stonith->sim, SIM_CLOCK, stonith->forgets_per_mille)
				? 0
				: stonith->history_count;
	memcpy(report->fencings, stonith->history, report->count * sizeof(report->fencings[0]));
	report->cuts_power = !stonith->only_storage;
	power->has_failed = sim_chance(stonith->sim, SIM_CLOCK, 50);
	sim_input_in(&power->input, sim_below(stonith->sim, SIM_CLOCK, 50 * FERRY_NS_PER_MS));
}

static void power_answer(struct sim_input *input)
{
	struct sim_power *power = FERRY_CONTAINER_OF(input, struct sim_power, input);

	power->report.answered_s = wall_s(power->stonith);
	power->power.on_report(&power->power, power->has_failed ? NULL : &power->report,
			       power->has_failed ? "no answer" : NULL);
}

static const struct ferry_power_ops sim_power_ops = {.name = "sim", .look = power_look};

void sim_power_open(struct sim_power *power, struct sim_stonith *stonith, struct sim_loop *loop)
{
	*power = (struct sim_power){.power = {.ops = &sim_power_ops}, .stonith = stonith};
	sim_input_init(&power->read_input, loop, SIM_NODE, power_read);
	sim_input_init(&power->input, loop, SIM_NODE, power_answer);
}

void sim_power_close(struct sim_power *power)
{
	if (!power->stonith)
		return;
	sim_input_cancel(&power->read_input);
	sim_input_cancel(&power->input);
}
