#include "tests/sim/sim_moment.h"

const char *sim_moment_name(enum sim_moment moment)
{
	static const char *const names[SIM_MOMENTS_COUNT] = {
		[SIM_MOMENT_DRAWN] = "its time",     [SIM_MOMENT_CLAIMING] = "a claim",
		[SIM_MOMENT_TAKING] = "a taking",    [SIM_MOMENT_PREEMPTING] = "a preemption",
		[SIM_MOMENT_OWNING] = "a new owner", [SIM_MOMENT_GHOST] = "a ghost",
		[SIM_MOMENT_LAID] = "a laid ghost",  [SIM_MOMENT_FORWARDING] = "a lost path",
	};

	ferry_assert((size_t)moment < SIM_MOMENTS_COUNT);
	return names[moment];
}

const char *sim_aim_name(enum sim_aim aim)
{
	static const char *const names[SIM_AIMS_COUNT] = {
		[SIM_AIM_DRAWN] = "whoever was drawn", [SIM_AIM_OWNER] = "the owner",
		[SIM_AIM_ACTOR] = "who does it",       [SIM_AIM_OTHER] = "another",
		[SIM_AIM_CARRIER] = "who carries",
	};

	ferry_assert((size_t)aim < SIM_AIMS_COUNT);
	return names[aim];
}

static bool is_to(const struct ferry_event *event, const char *phase)
{
	return strcmp(event->to, phase) == 0;
}

enum sim_moment sim_moment_of(const struct ferry_event *event)
{
	if (event->kind == FERRY_EVENT_GHOST_MADE)
		return SIM_MOMENT_GHOST;
	if (event->kind == FERRY_EVENT_GHOST_LAID)
		return SIM_MOMENT_LAID;
	if (event->kind == FERRY_EVENT_PATH_STATE && is_to(event, "FORWARDING"))
		return SIM_MOMENT_FORWARDING;
	if (event->kind == FERRY_EVENT_PATH_STATE && is_to(event, "PROBATION"))
		return SIM_MOMENT_REGISTERED;
	if (event->kind == FERRY_EVENT_EPOCH && is_to(event, "CLAIMING"))
		return SIM_MOMENT_CLAIMING;
	if (event->kind == FERRY_EVENT_EPOCH && is_to(event, "TAKING"))
		return SIM_MOMENT_TAKING;
	if (event->kind == FERRY_EVENT_EPOCH && is_to(event, "OWNING"))
		return SIM_MOMENT_OWNING;
	/* The registrar's; the cluster side says where it is at. */
	if (event->kind == FERRY_EVENT_FENCED && event->to[0] == '\0')
		return SIM_MOMENT_PREEMPTING;
	return SIM_MOMENT_DRAWN;
}

/* A node, neither of the two, whose writes are in the target's queue; or 0. */
static uint32_t carrier_find(const struct sim_cluster *cluster, uint32_t owner, uint32_t actor)
{
	ferry_list_foreach (link, &cluster->lun.commands) {
		const struct sim_command *command =
			ferry_list_entry(link, struct sim_command, link);

		if (command->stage == SIM_COMMAND_AT_TARGET && !command->fence_op &&
		    ferry_op_changes_blocks(command->op) && command->node != owner &&
		    command->node != actor)
			return command->node;
	}
	return 0;
}

uint32_t sim_aim_resolve(const struct sim_cluster *cluster, enum sim_aim aim, uint32_t drawn,
			 uint32_t actor)
{
	uint32_t owner = cluster->lun.owner;
	uint32_t carrier = aim == SIM_AIM_CARRIER ? carrier_find(cluster, owner, actor) : 0;

	if (carrier != 0)
		return carrier;
	if (aim == SIM_AIM_DRAWN || owner == 0)
		return drawn;
	if (aim == SIM_AIM_OWNER)
		return owner;
	if (aim == SIM_AIM_ACTOR)
		return actor ? actor : owner;
	for (uint32_t i = 0; i < cluster->nodes_count; i++) {
		uint32_t id = (drawn - 1 + i) % cluster->nodes_count + 1;

		if (id != owner && id != actor)
			return id;
	}
	return drawn;
}
