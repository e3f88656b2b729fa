#include "tests/sim/sim_path.h"

#include <stdlib.h>

#define FENCE_TIMEOUT_NS (2 * FERRY_NS_PER_S)

static struct sim *sim_of(const struct sim_path *path)
{
	return path->loop->sim;
}

void sim_poison(const struct ferry_segments *segments)
{
	for (uint32_t i = 0; i < segments->count; i++) {
		const struct ferry_segment *segment = &segments->v[i];

		if (segment->chunk->users == 0)
			memset(segment->chunk->data + segment->offset_bytes, 0xdb,
			       segment->length_bytes);
	}
}

/* ---- Endings. ---- */

static void ending_free(struct sim_ending *ending)
{
	sim_input_cancel(&ending->input);
	ferry_list_remove(&ending->link);
	if (ending->command)
		ending->command->ending = NULL;
	free(ending->data);
	free(ending);
}

static void ending_release(struct sim_ending *ending)
{
	struct sim_path *path = ending->path;
	struct ferry_attempt *attempt = ending->attempt;
	struct ferry_segments segments = attempt->segments;

	if (ending->command) {
		/* From here on the write's bytes are what they are now. */
		sim_command_capture(ending->command);
		ending->command->attempt = NULL;
		if (attempt->op == FERRY_OP_READ)
			sim_command_free(TAKE_PTR(ending->command));
	}
	/* The last moment at which a late answer to a read may scribble on its buffer. */
	if (attempt->op == FERRY_OP_READ && ending->outcome == FERRY_OUTCOME_UNKNOWN)
		for (uint32_t i = 0; i < segments.count; i++)
			memset(segments.v[i].chunk->data + segments.v[i].offset_bytes, 0xa5,
			       segments.v[i].length_bytes);
	ending_free(ending);
	attempt->on_released(attempt);
	sim_poison(&segments);
	ferry_assert(path->inflight > 0);
	path->inflight--;
	if (path->was_full && path->path.is_up) {
		path->was_full = false;
		path->path.on_room(&path->path);
	}
}

static void ending_run(struct sim_input *input)
{
	struct sim_ending *ending = FERRY_CONTAINER_OF(input, struct sim_ending, input);
	struct ferry_attempt *attempt = ending->attempt;

	if (ending->attentions != 0 && ending->path->on_attention && ending->path->path.is_up)
		ending->path->on_attention(ending->path, ending->attentions);
	if (ending->request) {
		struct ferry_fence_request *request = ending->request;
		int error = ending->error;

		memcpy(request->keys, ending->answer.keys, sizeof(request->keys));
		request->keys_count = ending->answer.keys_count;
		request->holder = ending->answer.holder;
		request->generation = ending->answer.generation;
		ending_free(ending);
		request->on_done(request, error);
		return;
	}
	if (ending->is_ended) {
		ending_release(ending);
		return;
	}
	if (ending->data)
		ferry_segments_write(&attempt->segments, 0, ending->data,
				     attempt->length_blocks * SIM_BLOCK_BYTES);
	ending->is_ended = true;
	ending->attentions = 0;
	sim_input_in(&ending->input,
		     sim_below(sim_of(ending->path), SIM_STORAGE,
			       ending->outcome == FERRY_OUTCOME_DONE ? 20 * FERRY_NS_PER_US
								     : 2 * FERRY_NS_PER_MS));
	attempt->on_end(attempt, ending->outcome, ending->cause);
}

static struct sim_ending *ending_new(struct sim_path *path)
{
	struct sim_ending *ending = sim_alloc(sizeof(*ending));

	ending->path = path;
	sim_input_init(&ending->input, path->loop, SIM_PATH, ending_run);
	ferry_list_init(&ending->link);
	ferry_list_append(&path->endings, &ending->link);
	return ending;
}

void sim_path_answered(struct sim_path *path, struct sim_command *command)
{
	struct sim_ending *ending = ending_new(path);

	ferry_assert(command->path == path);
	ending->attempt = command->attempt;
	ending->request = command->request;
	ending->outcome = command->outcome;
	ending->cause = command->cause;
	ending->attentions = command->attentions;
	ending->error = command->error;
	ending->answer = command->answer;
	for (uint32_t i = 1; command->request && i <= SIM_NODES_MAX; i++)
		path->names |= (path->lun->nexuses[i].key.v != 0 ? 1u : 0) << i;
	if (command->op == FERRY_OP_READ && command->outcome == FERRY_OUTCOME_DONE)
		ending->data = TAKE_PTR(command->data);
	sim_command_free(command);
	sim_input_in(&ending->input, 0);
}

/* ---- The session. ---- */

static void login_later(struct sim_path *path)
{
	sim_input_in(&path->login_input, sim_between(sim_of(path), SIM_STORAGE,
						     20 * FERRY_NS_PER_MS, 150 * FERRY_NS_PER_MS));
}

static void login_run(struct sim_input *input)
{
	struct sim_path *path = FERRY_CONTAINER_OF(input, struct sim_path, login_input);

	if (!sim_lun_login(path->lun, path->node, &path->session)) {
		login_later(path);
		return;
	}
	sim_note(sim_of(path), SIM_PATH, path->node, path->session, "session %u is up",
		 path->session);
	path->path.is_up = true;
	path->is_told_up = true;
	path->path.on_state(&path->path, true, FERRY_CAUSE_NONE);
}

static void state_run(struct sim_input *input)
{
	struct sim_path *path = FERRY_CONTAINER_OF(input, struct sim_path, state_input);

	ferry_assert(!path->path.is_up);
	path->is_told_up = false;
	login_later(path);
	path->path.on_state(&path->path, false, FERRY_CAUSE_PATH);
}

/* Of an attempt nothing may have left the node: then that is proven. */
static bool is_unsent(const struct sim_path *path, const struct sim_command *command)
{
	if (command->stage != SIM_COMMAND_TO_TARGET && command->stage != SIM_COMMAND_IN_PIPE)
		return false;
	return sim_chance(sim_of(path), SIM_STORAGE, 200);
}

static void command_give_up(struct sim_path *path, struct sim_command *command,
			    enum ferry_cause cause)
{
	struct sim_ending *ending = ending_new(path);
	bool is_over = is_unsent(path, command);

	command->path = NULL;
	ending->attempt = command->attempt;
	ending->request = command->request;
	ending->error = -ETIMEDOUT;
	ending->outcome = is_over ? FERRY_OUTCOME_FAILED : FERRY_OUTCOME_UNKNOWN;
	ending->cause = is_over ? FERRY_CAUSE_UNSENT : cause;
	if (path->takes_timeouts_as_failures && !is_over) {
		ending->outcome = FERRY_OUTCOME_FAILED;
		ending->cause = FERRY_CAUSE_PATH;
	}
	command->request = NULL;
	sim_input_in(&ending->input, sim_below(sim_of(path), SIM_STORAGE, 1 * FERRY_NS_PER_MS));
	if (command->fence_op) {
		if (is_over || command->stage == SIM_COMMAND_LOST)
			sim_command_free(command);
		return;
	}
	if (is_over || command->stage == SIM_COMMAND_LOST) {
		sim_command_free(command);
		return;
	}
	command->ending = ending;
	ending->command = command;
}

void sim_path_drop(struct sim_path *path, enum ferry_cause cause)
{
	if (!path->path.is_up)
		return;
	sim_note(sim_of(path), SIM_PATH, path->node, path->session, "session %u is lost",
		 path->session);
	path->path.is_up = false;
	sim_input_cancel(&path->fence_input);
	ferry_list_foreach_safe (link, &path->lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);

		if (command->path == path)
			command_give_up(path, command, cause);
	}
	sim_input_in(&path->state_input, 1 * FERRY_NS_PER_MS);
}

static void path_reset(struct ferry_path *path)
{
	sim_path_drop(FERRY_CONTAINER_OF(path, struct sim_path, path), FERRY_CAUSE_TIMEOUT);
}

/* ---- Submitting. ---- */

static int path_submit(struct ferry_path *path, struct ferry_attempt *attempt)
{
	struct sim_path *self = FERRY_CONTAINER_OF(path, struct sim_path, path);
	struct sim_command *command;

	if (self->inflight == (self->depth ? self->depth : SIM_PATH_DEPTH)) {
		self->was_full = true;
		return -EAGAIN;
	}
	self->inflight++;
	command = sim_command_new(self->lun, self, self->node, self->session);
	command->op = attempt->op;
	command->flags = attempt->flags;
	command->lba = attempt->lba;
	command->length_blocks = attempt->length_blocks;
	command->epoch = attempt->epoch;
	command->attempt = attempt;
	sim_command_send(command);
	return 0;
}

static void fence_deadline(struct sim_input *input)
{
	struct sim_path *path = FERRY_CONTAINER_OF(input, struct sim_path, fence_input);
	uint64_t oldest_ns = UINT64_MAX;

	ferry_list_foreach (link, &path->lun->commands) {
		const struct sim_command *command =
			ferry_list_entry(link, struct sim_command, link);

		if (command->path == path && command->request)
			oldest_ns = ferry_min_u64(oldest_ns, command->submitted_ns);
	}
	if (oldest_ns == UINT64_MAX)
		return;
	if (oldest_ns + FENCE_TIMEOUT_NS > sim_of(path)->now_ns)
		sim_input_at(input, oldest_ns + FENCE_TIMEOUT_NS);
	else
		sim_path_drop(path, FERRY_CAUSE_TIMEOUT);
}

static void fence_submit(struct ferry_fence *fence, struct ferry_fence_request *request)
{
	struct sim_path *self = FERRY_CONTAINER_OF(fence, struct sim_path, fence);
	struct sim_command *command;

	if (!self->path.is_up) {
		struct sim_ending *ending = ending_new(self);

		ending->request = request;
		ending->error = -ENOTCONN;
		sim_input_in(&ending->input, 0);
		return;
	}
	command = sim_command_new(self->lun, self, self->node, self->session);
	command->fence_op = request->op;
	command->own = request->own;
	command->victim = request->victim;
	command->kept = request->kept;
	command->is_answered_for = request->is_answered_for;
	command->request = request;
	sim_command_send(command);
	if (!sim_input_is_due(&self->fence_input))
		sim_input_in(&self->fence_input, FENCE_TIMEOUT_NS);
}

static const struct ferry_path_ops sim_path_ops = {
	.name = "sim",
	.submit = path_submit,
	.reset = path_reset,
};

/* The kernel cannot be asked to give up: what is in flight ends when it ends. */
static const struct ferry_path_ops sim_device_ops = {
	.name = "sim",
	.submit = path_submit,
};

static const struct ferry_fence_ops sim_fence_ops = {
	.name = "sim",
	.submit = fence_submit,
};

static enum ferry_laying_way laying_of(const struct sim_lun_options *options)
{
	if (options->proves_nothing)
		return 0;
	return options->reinstates	? FERRY_LAYING_REINSTATE
	       : options->preempt_waits ? FERRY_LAYING_RESET
					: FERRY_LAYING_ABORT;
}

void sim_path_open(struct sim_path *path, struct sim_lun *lun, struct sim_loop *loop, uint32_t node)
{
	*path = (struct sim_path){
		.path = {.ops = lun->options.has_no_reservations ? &sim_device_ops : &sim_path_ops,
			 .kind = FERRY_PATH_LOCAL,
			 .node = {node}},
		.fence = {.ops = &sim_fence_ops},
		.lun = lun,
		.loop = loop,
		.node = node,
	};
	path->fence.ability.laying = laying_of(&lun->options);
	path->fence.ability.hides_restarts = lun->options.hides_restarts;
	ferry_list_init(&path->endings);
	ferry_list_init(&path->link);
	ferry_list_append(&lun->paths, &path->link);
	sim_input_init(&path->state_input, loop, SIM_PATH, state_run);
	sim_input_init(&path->login_input, loop, SIM_PATH, login_run);
	sim_input_init(&path->fence_input, loop, SIM_PATH, fence_deadline);
	login_later(path);
}

/*
 * What a machine had sent stays at the target, for as long as that may take; what an agent had,
 * where the network held it.
 */
static void linger(struct sim_command *command, bool is_power_cut)
{
	struct sim_lun *lun = command->lun;
	bool is_under_way =
		command->stage == SIM_COMMAND_TO_TARGET || command->stage == SIM_COMMAND_AT_TARGET;

	if (lun->options.quiesce_ns == 0 || !ferry_op_changes_blocks(command->op) ||
	    !(command->stage == SIM_COMMAND_IN_PIPE || (is_power_cut && is_under_way)))
		return;
	command->stage = SIM_COMMAND_AT_TARGET;
	sim_in(lun->sim, &command->event,
	       sim_below(lun->sim, SIM_STORAGE, lun->options.quiesce_ns));
}

void sim_path_crash(struct sim_path *path, bool is_power_cut)
{
	ferry_list_foreach_safe (link, &path->lun->commands) {
		struct sim_command *command = ferry_list_entry(link, struct sim_command, link);
		bool is_mine =
			command->path == path || (command->ending && command->ending->path == path);

		if (!is_mine)
			continue;
		sim_command_capture(command);
		command->path = NULL;
		command->attempt = NULL;
		command->request = NULL;
		/* What had not left the machine dies with it; the rest is on its way. */
		if (is_unsent(path, command) || command->op == FERRY_OP_READ ||
		    command->stage == SIM_COMMAND_LOST)
			sim_command_free(command);
		else
			linger(command, is_power_cut);
	}
	while (!ferry_list_is_empty(&path->endings))
		ending_free(ferry_list_entry(path->endings.next, struct sim_ending, link));
	sim_input_cancel(&path->state_input);
	sim_input_cancel(&path->login_input);
	sim_input_cancel(&path->fence_input);
	ferry_list_remove(&path->link);
}
