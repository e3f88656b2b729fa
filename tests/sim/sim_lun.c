#include "tests/sim/sim_lun.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/base/museum.h"
#include "tests/sim/sim_lun_private.h"
#include "tests/sim/sim_path.h"

static struct sim *sim_of(const struct sim_lun *lun)
{
	return lun->sim;
}

void sim_lun_init(struct sim_lun *lun, struct sim *sim, uint64_t size_blocks)
{
	*lun = (struct sim_lun){
		.sim = sim,
		.options = {.latency_ns_max = 300 * FERRY_NS_PER_US,
			    .service_ns_max = 300 * FERRY_NS_PER_US,
			    .slow_per_mille = 5,
			    .slow_ns_max = 100 * FERRY_NS_PER_MS},
		.identity = {.wwid = "sim.lun",
			     .size_blocks = size_blocks,
			     .block_bytes = SIM_BLOCK_BYTES,
			     .can_discard = true,
			     .has_volatile_cache = true},
		.generation = 100000,
		.bytes = sim_alloc(size_blocks * SIM_BLOCK_BYTES),
		.durable = sim_alloc(size_blocks * SIM_BLOCK_BYTES),
		.is_dirty = sim_alloc(size_blocks * sizeof(bool)),
		.dirty_by = sim_alloc(size_blocks),
	};
	ferry_lun_identity_seal(&lun->identity);
	ferry_list_init(&lun->commands);
	ferry_list_init(&lun->paths);
}

void sim_command_free(struct sim_command *command)
{
	sim_cancel(sim_of(command->lun), &command->event);
	ferry_list_remove(&command->link);
	if (command->ending)
		command->ending->command = NULL;
	free(command->data);
	free(command);
}

void sim_lun_done(struct sim_lun *lun)
{
	while (!ferry_list_is_empty(&lun->commands))
		sim_command_free(ferry_list_entry(lun->commands.next, struct sim_command, link));
	free(lun->bytes);
	free(lun->durable);
	free(lun->is_dirty);
	free(lun->dirty_by);
}

/* ---- Commands on their way. ---- */

uint64_t sim_lun_latency_ns(const struct sim_lun *lun)
{
	return sim_between(sim_of(lun), SIM_STORAGE, 10 * FERRY_NS_PER_US,
			   lun->options.latency_ns_max);
}

void sim_command_capture(struct sim_command *command)
{
	size_t bytes = (size_t)command->length_blocks * SIM_BLOCK_BYTES;

	if (command->op != FERRY_OP_WRITE || command->data || command->fence_op)
		return;
	ferry_assert(command->attempt);
	command->data = sim_alloc(bytes);
	ferry_segments_read(&command->attempt->segments, 0, command->data, (uint32_t)bytes);
}

/* The answer sets out for the initiator. */
void sim_command_reply_in(struct sim_command *command, uint64_t delay_ns)
{
	const struct sim_lun *lun = command->lun;
	uint64_t from_ns = lun->nexuses[command->node].replies_from_ns;

	command->stage = SIM_COMMAND_TO_INITIATOR;
	sim_at(lun->sim, &command->event, ferry_max_u64(lun->sim->now_ns + delay_ns, from_ns));
}

static void reply_soon(struct sim_command *command, enum ferry_outcome outcome,
		       enum ferry_cause cause)
{
	command->outcome = outcome;
	command->cause = cause;
	sim_command_reply_in(command, sim_lun_latency_ns(command->lun));
}

void sim_command_forget(struct sim_command *command)
{
	if (command->path)
		command->stage = SIM_COMMAND_LOST; /* Its session's end will end it. */
	else
		sim_command_free(command);
}

/* ---- Writes, reads and flushes land. ---- */

static bool is_fua(const struct sim_command *command)
{
	return command->flags & FERRY_IO_FUA;
}

static void block_written(struct sim_lun *lun, uint64_t lba, bool is_durable)
{
	lun->is_dirty[lba] = !is_durable;
	if (is_durable)
		memcpy(lun->durable + lba * SIM_BLOCK_BYTES, lun->bytes + lba * SIM_BLOCK_BYTES,
		       SIM_BLOCK_BYTES);
}

static bool is_zeroes(const uint8_t *bytes, size_t size_bytes)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size_bytes - 1) == 0;
}

static void land_change(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;
	uint8_t *to = lun->bytes + command->lba.v * SIM_BLOCK_BYTES;
	size_t bytes = (size_t)command->length_blocks * SIM_BLOCK_BYTES;
	bool is_there = false;
	uint64_t tag = 0;

	if (command->op == FERRY_OP_WRITE) {
		sim_command_capture(command);
		is_there = memcmp(to, command->data, bytes) == 0;
		memcpy(to, command->data, bytes);
		memcpy(&tag, command->data, sizeof(tag));
	} else if (command->op == FERRY_OP_WRITE_ZEROES || sim_chance(lun->sim, SIM_STORAGE, 500)) {
		is_there = is_zeroes(to, bytes);
		memset(to, 0, bytes);
	}
	for (uint64_t i = 0; i < command->length_blocks; i++) {
		uint8_t *by = &lun->dirty_by[command->lba.v + i];

		/* The same once more, by another path's cache: then both have it. */
		*by = (uint8_t)((is_there && lun->is_dirty[command->lba.v + i] ? *by : 0) |
				1u << command->node);
		block_written(lun, command->lba.v + i, is_fua(command));
	}
	lun->stats.landed++;
	lun->stats.fuas += is_fua(command);
	lun->stats.landed_late += !command->path;
	sim_note(lun->sim, SIM_LANDED, command->node, tag ^ command->lba.v << 48,
		 "io %" PRIu64 " at %" PRIu64 "+%u, epoch %" PRIu64 "%s", tag, command->lba.v,
		 command->length_blocks, command->epoch.v, command->path ? "" : ", late");
	if (command->epoch.v < lun->epoch_floor.v)
		sim_violation(lun->sim, command->node,
			      "io %" PRIu64 " of epoch %" PRIu64 " landed after epoch %" PRIu64
			      " was in force",
			      tag, command->epoch.v, lun->epoch_floor.v);
}

static void land_flush(struct sim_lun *lun, uint32_t node)
{
	for (uint64_t i = 0; i < lun->identity.size_blocks; i++)
		if (lun->is_dirty[i] &&
		    (!lun->options.caches_by_path || lun->dirty_by[i] & 1u << node))
			block_written(lun, i, /* is_durable= */ true);
}

/* It fails for good; what it was to change is old or new, each block for itself. */
static void land_refused(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;

	lun->refuse_left--;
	lun->stats.refused++;
	if (ferry_op_changes_blocks(command->op) && lun->refuse_cause == FERRY_CAUSE_MEDIUM) {
		uint32_t length_blocks = command->length_blocks;

		command->length_blocks = (uint32_t)sim_below(lun->sim, SIM_STORAGE, length_blocks);
		if (command->length_blocks > 0)
			land_change(command);
		command->length_blocks = length_blocks;
	} else if (command->op == FERRY_OP_FLUSH && lun->flush_drops) {
		command->drops = true;
	}
	reply_soon(command, FERRY_OUTCOME_FAILED, lun->refuse_cause);
}

static void land_io(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;
	size_t bytes = (size_t)command->length_blocks * SIM_BLOCK_BYTES;

	if (lun->refuse_left > 0 && command->epoch.v != 0 &&
	    (lun->refuse_cause == FERRY_CAUSE_MEDIUM || ferry_op_changes_blocks(command->op))) {
		land_refused(command);
		return;
	}
	if (ferry_op_changes_blocks(command->op)) {
		land_change(command);
	} else if (command->op == FERRY_OP_FLUSH) {
		lun->stats.flushes++;
		land_flush(lun, command->node);
	} else {
		command->data = sim_alloc(bytes);
		memcpy(command->data, lun->bytes + command->lba.v * SIM_BLOCK_BYTES, bytes);
	}
	reply_soon(command, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
}

/* ---- A command's stages. ---- */

void sim_lun_abort_nexus(struct sim_lun *lun, uint32_t node)
{
	ferry_list_foreach_safe (link, &lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (command->node != node || command->stage != SIM_COMMAND_AT_TARGET)
			continue;
		sim_cancel(sim_of(lun), &command->event);
		lun->stats.aborted++;
		sim_command_forget(command);
	}
}

static uint64_t service_ns(const struct sim_lun *lun)
{
	if (sim_chance(sim_of(lun), SIM_STORAGE, lun->options.slow_per_mille))
		return sim_between(sim_of(lun), SIM_STORAGE, lun->options.service_ns_max,
				   lun->options.slow_ns_max);
	return sim_between(sim_of(lun), SIM_STORAGE, 10 * FERRY_NS_PER_US,
			   lun->options.service_ns_max);
}

/* Replies of one session come in order: this one after those that are on their way. */
static uint64_t after_replies_ns(const struct sim_command *command)
{
	uint64_t last_ns = command->lun->sim->now_ns;

	ferry_list_foreach (link, &command->lun->commands) {
		const struct sim_command *other = ferry_list_entry(link, struct sim_command, link);

		if (other->node == command->node && other->stage == SIM_COMMAND_TO_INITIATOR)
			last_ns = ferry_max_u64(last_ns, other->event.time_ns);
	}
	return last_ns - command->lun->sim->now_ns;
}

/* Whether that was the answer. A fence request's initiator mostly looks, and asks once more. */
static bool attention_report(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;
	struct sim_nexus *nexus = &lun->nexuses[command->node];
	uint32_t attentions = nexus->attentions;

	if (!command->path)
		return false;
	nexus->attentions = 0;
	lun->stats.attentions++;
	sim_note(lun->sim, SIM_FENCE, command->node, attentions, "unit attentions %x", attentions);
	command->attentions = attentions;
	if ((attentions & SIM_ATTENTION_RESET) && (command->fence_op == FERRY_FENCE_REGISTER ||
						   command->fence_op == FERRY_FENCE_PREEMPT)) {
		command->error = -EIO; /* Not executed, as the adapters end it: look first. */
		sim_command_reply_in(command, sim_lun_latency_ns(lun));
		return true;
	}
	if (command->fence_op || !(attentions & SIM_ATTENTION_RESET))
		return false;
	command->outcome = FERRY_OUTCOME_FAILED;
	command->cause = FERRY_CAUSE_RESET;
	sim_command_reply_in(command, sim_lun_latency_ns(lun) + after_replies_ns(command));
	nexus->replies_from_ns = command->event.time_ns;
	return true;
}

static uint64_t abort_slow_ns(const struct sim_command *command)
{
	const struct sim_lun *lun = command->lun;

	if ((command->fence_op != FERRY_FENCE_PREEMPT && command->fence_op != FERRY_FENCE_RESET) ||
	    lun->options.abort_slow_ns_max == 0)
		return 0;
	return sim_below(sim_of(lun), SIM_STORAGE, lun->options.abort_slow_ns_max);
}

static void arrive(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;
	const struct sim_nexus *nexus = &lun->nexuses[command->node];

	if (nexus->is_cut) {
		command->stage = SIM_COMMAND_IN_PIPE;
		return;
	}
	if (lun->is_off || command->session != nexus->session) {
		sim_command_forget(command);
		return;
	}
	if (!command->fence_op && ferry_op_changes_blocks(command->op) && lun->holder != 0 &&
	    nexus->key.v == 0) { /* Before any unit attention: SAM-5, 5.14. */
		lun->stats.conflicts++;
		sim_note(lun->sim, SIM_FENCE, command->node, command->lba.v,
			 "reservation conflict for a write at %" PRIu64, command->lba.v);
		reply_soon(command, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
		return;
	}
	if (nexus->attentions != 0 && attention_report(command))
		return;
	command->stage = SIM_COMMAND_AT_TARGET;
	command->accepted = lun->accepted_next++;
	if (lun->is_holding && lun->hold_node == command->node && !command->fence_op &&
	    ferry_op_changes_blocks(command->op) && lun->hold_left > 0) {
		lun->hold_left--;
		command->is_held = true;
		return; /* sim_lun_let_go() */
	}
	if (nexus->hold_per_mille > 0 && !command->fence_op &&
	    ferry_op_changes_blocks(command->op) &&
	    sim_chance(lun->sim, SIM_STORAGE, nexus->hold_per_mille)) {
		if (sim_chance(lun->sim, SIM_STORAGE, 500)) {
			sim_in(lun->sim, &command->event,
			       sim_below(lun->sim, SIM_STORAGE, 3 * FERRY_NS_PER_S));
			return;
		}
		command->is_held = true;
		return; /* sim_lun_hold_some() */
	}
	sim_in(lun->sim, &command->event,
	       service_ns(lun) + nexus->slow_ns + abort_slow_ns(command));
}

static bool is_stuck(const struct sim_command *command)
{
	const struct sim_lun *lun = command->lun;

	return command->is_held || (lun->is_stalled && (!command->fence_op || lun->stalls_fences));
}

/*
 * A FLUSH that fails drops the cache when the owner hears of it: by its own path now, by a peer's
 * answer then. If its answer is lost on the way, the fault model promises nothing.
 */
static void command_answer(struct sim_command *command)
{
	struct sim_lun *lun = command->lun;

	if (command->drops && command->node == lun->owner)
		sim_lun_lose_cache(lun);
	else if (command->drops)
		lun->nexuses[command->node].has_dropped = true;
	sim_path_answered(command->path, command);
}

void sim_lun_flush_failure_told(struct sim_lun *lun, uint32_t node, uint32_t by)
{
	if (lun->nexuses[by].has_dropped && node == lun->owner)
		sim_lun_lose_cache(lun);
	lun->nexuses[by].has_dropped = false;
}

static void command_run(struct sim_event *event)
{
	struct sim_command *command = FERRY_CONTAINER_OF(event, struct sim_command, event);
	struct sim_lun *lun = command->lun;

	switch (command->stage) {
	case SIM_COMMAND_TO_TARGET:
		arrive(command);
		return;
	case SIM_COMMAND_AT_TARGET:
		if (is_stuck(command))
			return; /* sim_lun_stall() */
		if (command->fence_op)
			sim_lun_land_fence(command);
		else
			land_io(command);
		return;
	case SIM_COMMAND_TO_INITIATOR:
		if (lun->nexuses[command->node].is_cut)
			command->stage = SIM_COMMAND_REPLY_STUCK;
		else if (command->path)
			command_answer(command);
		else
			sim_command_free(command);
		return;
	case SIM_COMMAND_IN_PIPE:
	case SIM_COMMAND_REPLY_STUCK:
	case SIM_COMMAND_LOST:
	default:
		break;
	}
	ferry_unreachable("a command's event at a stage without one");
}

struct sim_command *sim_command_new(struct sim_lun *lun, struct sim_path *path, uint32_t node,
				    uint32_t session)
{
	struct sim_command *command = sim_alloc(sizeof(*command));

	*command = (struct sim_command){
		.event = {.kind = SIM_COMMAND, .node = node, .run = command_run},
		.lun = lun,
		.path = path,
		.node = node,
		.session = session,
		.submitted_ns = lun->sim->now_ns,
	};
	ferry_list_init(&command->link);
	ferry_list_append(&lun->commands, &command->link);
	return command;
}

void sim_command_send(struct sim_command *command)
{
	command->stage = SIM_COMMAND_TO_TARGET;
	command->event.value = command->lba.v << 8 | (uint64_t)command->op;
	sim_in(sim_of(command->lun), &command->event, sim_lun_latency_ns(command->lun));
}

bool sim_lun_login(struct sim_lun *lun, uint32_t node, uint32_t *ret_session)
{
	struct sim_nexus *nexus = &lun->nexuses[node];

	ferry_assert(node > 0 && node <= SIM_NODES_MAX);
	if (nexus->is_cut || lun->is_off)
		return false;
	if (lun->options.reinstates && sim_lun_is_running(lun, node, UINT64_MAX)) {
		nexus->session++; /* What is on its way by the old one comes too late... */
		return false;	  /* ...and what is there has to end first. */
	}
	*ret_session = ++nexus->session;
	nexus->attentions = 0; /* The initiator clears them at login: each new nexus has some. */
	return true;
}

/* ---- Faults. ---- */

void sim_lun_cut(struct sim_lun *lun, uint32_t node)
{
	sim_note(lun->sim, SIM_FAULT, node, 1, "storage path cut: a black hole");
	lun->nexuses[node].is_cut = true;
}

void sim_lun_heal(struct sim_lun *lun, uint32_t node)
{
	if (!lun->nexuses[node].is_cut)
		return;
	sim_note(lun->sim, SIM_FAULT, node, 2, "storage path healed");
	lun->nexuses[node].is_cut = false;
	ferry_list_foreach_safe (link, &lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);
		/* What nobody waits for is still retransmitted, by timers of its own. */
		uint64_t delay_ns = sim_lun_latency_ns(lun);

		if (command->node != node)
			continue;
		if (!command->path)
			delay_ns = sim_below(lun->sim, SIM_STORAGE, 1000 * FERRY_NS_PER_MS);
		if (command->stage == SIM_COMMAND_IN_PIPE) {
			command->stage = SIM_COMMAND_TO_TARGET;
			sim_in(lun->sim, &command->event, delay_ns);
		} else if (command->stage == SIM_COMMAND_REPLY_STUCK) {
			if (command->path)
				sim_command_reply_in(command, delay_ns);
			else
				sim_command_free(command);
		}
	}
}

void sim_lun_reset_session(struct sim_lun *lun, uint32_t node)
{
	sim_note(lun->sim, SIM_FAULT, node, 3, "storage session reset");
	ferry_list_foreach (link, &lun->paths) {
		struct sim_path *path = ferry_list_entry(link, struct sim_path, link);

		if (path->node == node)
			sim_path_drop(path, FERRY_CAUSE_PATH);
	}
}

void sim_lun_power(struct sim_lun *lun, bool is_on)
{
	sim_note(lun->sim, SIM_FAULT, 0, is_on ? 5 : 4, "the lun goes %s", is_on ? "on" : "off");
	lun->is_off = !is_on;
	if (is_on)
		return;
	ferry_list_foreach_safe (link, &lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (command->stage != SIM_COMMAND_AT_TARGET)
			continue;
		if (sim_chance(lun->sim, SIM_STORAGE, 500))
			continue; /* It was on its way to the medium already. */
		sim_cancel(lun->sim, &command->event);
		sim_command_forget(command);
	}
	ferry_list_foreach (link, &lun->paths)
		sim_path_drop(ferry_list_entry(link, struct sim_path, link), FERRY_CAUSE_PATH);
}

void sim_lun_lose_cache(struct sim_lun *lun)
{
	lun->stats.losses++;
	sim_note(lun->sim, SIM_FAULT, 0, 8, "the volatile cache is lost");
	for (uint64_t i = 0; i < lun->identity.size_blocks; i++) {
		if (!lun->is_dirty[i])
			continue;
		if (sim_chance(lun->sim, SIM_STORAGE, 500)) {
			lun->stats.blocks_lost++;
			memcpy(lun->bytes + i * SIM_BLOCK_BYTES, lun->durable + i * SIM_BLOCK_BYTES,
			       SIM_BLOCK_BYTES);
		}
		block_written(lun, i, /* is_durable= */ true);
	}
	if (lun->on_lost)
		lun->on_lost(lun->context);
}

/* A reset of whatever kind ends every command without an answer; some writes had got there. */
static void abort_all(struct sim_lun *lun)
{
	ferry_list_foreach_safe (link, &lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (command->stage != SIM_COMMAND_AT_TARGET)
			continue;
		sim_cancel(lun->sim, &command->event);
		if (!command->fence_op && ferry_op_changes_blocks(command->op) &&
		    sim_chance(lun->sim, SIM_STORAGE, 500))
			land_change(command);
		sim_command_forget(command);
	}
}

/*
 * What the target's power going takes along (SPC-4, 5.13.7). The count begins anew: at 0, or, as
 * LIO does, with the registrations that are restored.
 */
static void registrations_lose(struct sim_lun *lun)
{
	uint32_t kept = 0;

	for (uint32_t i = 1; i <= SIM_NODES_MAX && !lun->options.has_aptpl; i++)
		lun->nexuses[i].key.v = 0;
	if (!lun->options.has_aptpl)
		lun->holder = 0;
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++)
		kept += lun->nexuses[i].key.v != 0;
	lun->generation = kept > 0 ? (uint32_t)sim_below(lun->sim, SIM_STORAGE, kept + 1) : 0;
}

/*
 * What a cut network still holds comes to nothing: no transport delivers to a target that has been
 * powered on what was sent to it before (TCP's connection is gone, a Fibre Channel port has to log
 * in anew).
 */
static void pipes_lose(struct sim_lun *lun)
{
	ferry_list_foreach_safe (link, &lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (command->stage == SIM_COMMAND_IN_PIPE)
			sim_command_forget(command);
	}
}

void sim_lun_reset_hard(struct sim_lun *lun)
{
	abort_all(lun);
	pipes_lose(lun);
	sim_lun_lose_cache(lun);
	registrations_lose(lun);
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++)
		sim_lun_attention(lun, i, SIM_ATTENTION_RESET);
}

void sim_lun_power_cut(struct sim_lun *lun)
{
	abort_all(lun);
	sim_lun_lose_cache(lun);
	sim_lun_power(lun, false);
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++)
		lun->nexuses[i].session++; /* What comes late by an old connection is refused. */
	registrations_lose(lun);
}

void sim_lun_lose_path_cache(struct sim_lun *lun, uint32_t node)
{
	sim_note(lun->sim, SIM_FAULT, node, 20, "the path's cache is lost");
	lun->nexuses[node].session++; /* And what the cache was in, with all that it was at. */
	sim_lun_abort_nexus(lun, node);
	for (uint64_t i = 0; i < lun->identity.size_blocks; i++) {
		if (!lun->is_dirty[i] || !(lun->dirty_by[i] & 1u << node))
			continue;
		lun->dirty_by[i] = (uint8_t)(lun->dirty_by[i] & ~(1u << node));
		if (lun->dirty_by[i] != 0)
			continue;
		memcpy(lun->bytes + i * SIM_BLOCK_BYTES, lun->durable + i * SIM_BLOCK_BYTES,
		       SIM_BLOCK_BYTES);
		lun->is_dirty[i] = false;
	}
	if (lun->on_lost)
		lun->on_lost(lun->context);
}

void sim_lun_restart(struct sim_lun *lun)
{
	sim_lun_power_cut(lun);
	sim_lun_power(lun, true);
}

bool sim_lun_is_registering(const struct sim_lun *lun)
{
	ferry_list_foreach (link, &lun->commands) {
		const struct sim_command *command =
			ferry_list_entry(link, struct sim_command, link);

		if (command->fence_op == FERRY_FENCE_REGISTER &&
		    command->stage <= SIM_COMMAND_AT_TARGET)
			return true;
	}
	return false;
}

void sim_lun_restart_unheard(struct sim_lun *lun)
{
	ferry_assert(lun->options.has_aptpl);
	sim_note(lun->sim, SIM_FAULT, 0, 22, "the target is restarted, unheard");
	ferry_list_foreach (link, &lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (command->stage != SIM_COMMAND_AT_TARGET)
			continue;
		if (!command->fence_op && ferry_op_changes_blocks(command->op) &&
		    sim_chance(lun->sim, SIM_STORAGE, 500))
			land_change(command);
		command->waits_for = 0;
		command->is_held = false;
		sim_command_send(command);
	}
	sim_lun_lose_cache(lun);
	registrations_lose(lun);
}

void sim_lun_attention(struct sim_lun *lun, uint32_t node, enum sim_attention attention)
{
	lun->nexuses[node].attentions |= (uint32_t)attention;
}

static void go_on(struct sim_lun *lun)
{
	ferry_list_foreach (link, &lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (command->stage == SIM_COMMAND_AT_TARGET && !sim_is_due(&command->event) &&
		    !is_stuck(command))
			sim_in(lun->sim, &command->event, service_ns(lun));
	}
}

void sim_lun_stall(struct sim_lun *lun, bool is_stalled, bool stalls_fences)
{
	sim_note(lun->sim, SIM_FAULT, 0, 9, "the target %s", is_stalled ? "stalls" : "goes on");
	lun->is_stalled = is_stalled;
	lun->stalls_fences = stalls_fences;
	go_on(lun);
}

void sim_lun_refuse(struct sim_lun *lun, uint32_t count, enum ferry_cause cause, bool flush_drops)
{
	sim_note(lun->sim, SIM_FAULT, 0, 16, "%u commands will fail for good", count);
	lun->refuse_left = count;
	lun->refuse_cause = cause;
	lun->flush_drops = flush_drops;
}

void sim_lun_hold(struct sim_lun *lun, uint32_t node, uint32_t count)
{
	sim_note(lun->sim, SIM_FAULT, node, 6, "writes stay in the target's queue");
	lun->hold_node = node;
	lun->hold_left = count;
	lun->is_holding = true;
}

void sim_lun_let_go(struct sim_lun *lun)
{
	sim_note(lun->sim, SIM_FAULT, (uint32_t)lun->hold_node, 7, "held writes are let go");
	lun->is_holding = false;
	ferry_list_foreach (link, &lun->commands)
		ferry_list_entry(link, struct sim_command, link)->is_held = false;
	go_on(lun);
}

void sim_lun_hold_some(struct sim_lun *lun, uint32_t node, uint32_t per_mille)
{
	sim_note(lun->sim, SIM_FAULT, node, 21, "%u of 1000 writes stay in the target's queue",
		 per_mille);
	lun->nexuses[node].hold_per_mille = per_mille;
	if (per_mille == 0)
		sim_lun_let_go_before(lun, node, UINT64_MAX);
}

void sim_lun_let_go_before(struct sim_lun *lun, uint32_t node, uint64_t before)
{
	ferry_list_foreach (link, &lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (!command->is_held || command->node != node || command->accepted >= before)
			continue;
		command->is_held = false;
		if (command->stage == SIM_COMMAND_AT_TARGET && !sim_is_due(&command->event))
			sim_in(lun->sim, &command->event,
			       sim_below(lun->sim, SIM_STORAGE, 500 * FERRY_NS_PER_MS));
	}
}
