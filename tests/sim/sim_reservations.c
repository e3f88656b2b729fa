/* sim_reservations.c - what the lun does with requests to its reservations. */
#include <inttypes.h>

#include "agent/base/museum.h"
#include "agent/core/key.h"
#include "tests/sim/sim_lun_private.h"
#include "tests/sim/sim_path.h"

/* SPC-4 5.13, Write Exclusive - Registrants Only. */

static uint32_t node_of_key(const struct sim_lun *lun, struct ferry_key key)
{
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++)
		if (key.v != 0 && lun->nexuses[i].key.v == key.v)
			return i;
	return 0;
}

/* Whether commands of @node's, or anybody's, accepted before @until are in the target's queue. */
bool sim_lun_is_running(const struct sim_lun *lun, uint32_t node, uint64_t until)
{
	ferry_list_foreach (link, &lun->commands) {
		const struct sim_command *command =
			ferry_list_entry(link, struct sim_command, link);

		if (command->stage == SIM_COMMAND_AT_TARGET && !command->fence_op &&
		    command->accepted < until && (node == SIM_ALL_NODES || command->node == node))
			return true;
	}
	return false;
}

/* Whether a newer agent of the victim's node is registered: its login has ended the elder's. */
static bool has_successor(const struct sim_lun *lun, struct ferry_key victim)
{
	uint32_t node = ferry_key_node(victim).v;

	return node > 0 && node <= SIM_NODES_MAX && lun->nexuses[node].key.v > victim.v;
}

/* A login by @node's name: its session is over, and it hears so unless it is cut off. */
static void reinstate(struct sim_command *command, uint32_t node)
{
	struct sim_lun *lun = command->lun;

	sim_note(lun->sim, SIM_FENCE, command->node, node, "logs in by node %u's name", node);
	lun->nexuses[node].session++;
	command->waits_for = node;
	ferry_list_foreach (link, &lun->paths) {
		struct sim_path *path = ferry_list_entry(link, struct sim_path, link);

		if (path->node == node && !lun->nexuses[node].is_cut)
			sim_path_drop(path, FERRY_CAUSE_PATH);
	}
}

/* Whose nexus a login by the victim's name would end; 0: the name is not known. */
static uint32_t name_known(const struct sim_command *command)
{
	uint32_t node = ferry_key_node(command->victim).v;

	if (node == 0 || node > SIM_NODES_MAX)
		return 0;
	return command->path && command->path->names & 1u << node ? node : 0;
}

/* The lun does not know the victim. */
static int preempt_unknown(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;
	uint32_t by_name = name_known(command);

	if (lun->options.reinstates && has_successor(lun, command->victim))
		return 0;
	/*
	 * An earlier PREEMPT's answer was lost, or the victim has another key now: asking again
	 * goes on where it was left. Without a reservation nothing keeps the victim from writing
	 * on.
	 */
	if (lun->holder == 0)
		return -ENOENT;
	if (lun->options.proves_nothing)
		return 0;
	if (!lun->options.reinstates)
		command->waits_for = SIM_ALL_NODES;
	else if (by_name != 0)
		reinstate(command, by_name);
	else if (!command->is_answered_for)
		return -EOPNOTSUPP; /* Nobody's, or the name is not known. */
	return 0;
}

static int preempt(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;
	uint32_t victim = node_of_key(lun, command->victim);

	if (lun->nexuses[command->node].key.v != command->own.v)
		return -EACCES;
	if (lun->options.proves_nothing && !command->is_answered_for)
		return -EOPNOTSUPP;
	command->waits_until = lun->accepted_next;
	if (victim == 0)
		return preempt_unknown(command);
	if (lun->holder == 0)
		return -ENOENT; /* The adapters look first: what is on its way would be let in. */
	lun->nexuses[victim].key.v = 0;
	sim_lun_attention(lun, victim, SIM_ATTENTION_PREEMPTED);
	lun->generation++;
	lun->stats.preempts++;
	if (lun->holder == victim)
		lun->holder = command->node;
	sim_note(lun->sim, SIM_FENCE, command->node, victim, "preempts node %u", victim);
	if (FERRY_MUSEUM(PREEMPT_ONLY))
		return 0; /* As an adapter would that sends PREEMPT, not PREEMPT AND ABORT. */
	if (lun->options.proves_nothing)
		return 0;
	if (lun->options.reinstates)
		reinstate(command, victim);
	else if (lun->options.preempt_waits || lun->options.abort_waits)
		command->waits_for = victim;
	else if (!lun->options.preempt_lies)
		sim_lun_abort_nexus(lun, victim);
	return 0;
}

static void keys_read(const struct sim_lun *lun, struct ferry_fence_request *ret)
{
	ret->keys_count = 0;
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++)
		if (lun->nexuses[i].key.v != 0)
			ret->keys[ret->keys_count++] = lun->nexuses[i].key;
	ret->holder = lun->holder != 0 ? lun->nexuses[lun->holder].key : (struct ferry_key){0};
	ret->generation = lun->generation;
}

static int fence_execute(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;
	struct sim_nexus *nexus = &lun->nexuses[command->node];

	switch (command->fence_op) {
	case FERRY_FENCE_READ_KEYS:
		keys_read(lun, &command->answer);
		return 0;
	case FERRY_FENCE_REGISTER:
		if (nexus->key.v != command->kept.v)
			return -EACCES;
		nexus->key = command->own;
		lun->generation++;
		return 0;
	case FERRY_FENCE_RESERVE:
		if (nexus->key.v != command->own.v)
			return -EACCES;
		if (lun->holder != 0 && lun->holder != command->node)
			return -EBUSY;
		lun->holder = command->node;
		return 0;
	case FERRY_FENCE_PREEMPT:
		return preempt(command);
	case FERRY_FENCE_RESET: /* Login has ended the session before; what it began is waited for.
				 */
		if (lun->options.reinstates)
			return 0; /* And has ended it. */
		if (!lun->options.preempt_waits)
			return -EOPNOTSUPP;
		command->waits_until = lun->accepted_next;
		command->waits_for = SIM_ALL_NODES;
		return 0;
	default:
		break;
	}
	ferry_unreachable("a fence operation that does not exist");
}

void sim_lun_land_fence(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;

	if (command->waits_for == 0)
		command->error = fence_execute(command);
	if (command->waits_for != 0 &&
	    sim_lun_is_running(lun, command->waits_for, command->waits_until)) {
		sim_in(lun->sim, &command->event, 1 * FERRY_NS_PER_MS); /* LUN RESET waits. */
		return;
	}
	if (command->waits_for != 0 && lun->options.preempt_waits) /* The LUN RESET is done. */
		for (uint32_t i = 1; i <= SIM_NODES_MAX; i++)
			if (i != command->node)
				sim_lun_attention(lun, i, SIM_ATTENTION_RESET);
	sim_note(lun->sim, SIM_FENCE, command->node, (uint64_t)command->fence_op,
		 "fence op %u: %d, generation %u", command->fence_op, command->error,
		 lun->generation);
	sim_command_reply_in(command, sim_lun_latency_ns(lun));
}
