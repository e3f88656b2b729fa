#include "agent/adapters/uring/command.h"

#include <stdlib.h>

#include "agent/adapters/uring/ring.h"

struct entry {
	struct ferry_uring_request request;
	struct ferry_uring_commands *commands;
	struct ferry_command *command;
	struct ferry_list link; /* In free. */
};

struct ferry_uring_commands {
	struct ferry_commands commands;
	struct ferry_uring_loop *loop;
	struct ferry_list free;
	uint32_t reserved_count;
	uint32_t inflight_count; /* I/O commands. */

	struct io_uring ring; /* Of control commands. */
	bool has_ring;
	struct ferry_watch watch;
	uint32_t controls_count;

	struct entry entries[FERRY_URING_COMMANDS_MAX];
};

static struct ferry_uring_commands *commands_from(struct ferry_commands *port)
{
	return FERRY_CONTAINER_OF(port, struct ferry_uring_commands, commands);
}

static struct ferry_loop *loop_of(const struct ferry_uring_commands *commands)
{
	return ferry_uring_loop_of(commands->loop);
}

/* ---- I/O commands. ---- */

static int commands_reserve(struct ferry_commands *port, uint32_t count)
{
	struct ferry_uring_commands *commands = commands_from(port);
	int r;

	ferry_assert(commands->reserved_count <= FERRY_URING_COMMANDS_MAX);
	if (count > FERRY_URING_COMMANDS_MAX - commands->reserved_count)
		return -ENOSPC;
	r = ferry_uring_reserve(commands->loop, count);
	if (r == 0)
		commands->reserved_count += count;
	return r;
}

static void commands_unreserve(struct ferry_commands *port, uint32_t count)
{
	struct ferry_uring_commands *commands = commands_from(port);

	ferry_assert(count <= commands->reserved_count);
	commands->reserved_count -= count;
	ferry_assert(commands->inflight_count <= commands->reserved_count);
	ferry_uring_unreserve(commands->loop, count);
}

static void entry_run(struct ferry_uring_request *request, int result)
{
	struct entry *entry = FERRY_CONTAINER_OF(request, struct entry, request);
	struct ferry_command *command = TAKE_PTR(entry->command);

	ferry_assert(command);
	ferry_assert(entry->commands->inflight_count > 0);
	entry->commands->inflight_count--;
	ferry_list_prepend(&entry->commands->free, &entry->link);
	command->run(command, result);
}

static void sqe_fill(struct io_uring_sqe *sqe, const struct ferry_command *command,
		     size_t payload_bytes)
{
	io_uring_prep_nop(sqe); /* Clears what other kinds of entries use. */
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = command->fd;
	sqe->cmd_op = command->code;
	memcpy(sqe->cmd, command->payload, payload_bytes);
}

static void commands_submit(struct ferry_commands *port, struct ferry_command *command)
{
	struct ferry_uring_commands *commands = commands_from(port);
	struct ferry_list *link = ferry_list_pop(&commands->free);
	struct io_uring_sqe *sqe;
	struct entry *entry;

	ferry_assert(commands->inflight_count < commands->reserved_count);
	ferry_assert(link); /* As many as may be reserved. */
	entry = ferry_list_entry(link, struct entry, link);
	ferry_assert(!entry->command);
	entry->command = command;
	commands->inflight_count++;
	sqe = ferry_uring_sqe(commands->loop);
	sqe_fill(sqe, command, FERRY_COMMAND_IO_BYTES);
	ferry_uring_queue(commands->loop, sqe, &entry->request);
}

/* ---- Control commands. ---- */

static int commands_control(struct ferry_commands *port, struct ferry_command *command)
{
	struct ferry_uring_commands *commands = commands_from(port);
	struct io_uring_sqe *sqe;
	int r;

	FERRY_ASSERT_ON_LOOP(loop_of(commands));
	if (commands->controls_count == FERRY_COMMAND_CONTROLS_MAX)
		return -EBUSY;
	sqe = io_uring_get_sqe(&commands->ring);
	ferry_assert(sqe); /* Each is submitted at once, so the ring is empty. */
	sqe_fill(sqe, command, FERRY_COMMAND_CONTROL_BYTES);
	io_uring_sqe_set_data(sqe, command);
	commands->controls_count++;
	r = io_uring_submit(&commands->ring);
	/* Not taken now: it stays there, and goes with the next one or with the next look. */
	return r < 0 && r != -EAGAIN && r != -EBUSY && r != -EINTR ? r : 0;
}

static void on_controls(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_uring_commands *commands =
		FERRY_CONTAINER_OF(watch, struct ferry_uring_commands, watch);
	struct io_uring_cqe *cqe;

	(void)ready;
	(void)io_uring_submit(&commands->ring); /* What was not taken before; mostly nothing. */
	for (uint32_t i = 0; i < FERRY_COMMAND_CONTROLS_MAX; i++) {
		struct ferry_command *command;
		int result;

		if (io_uring_peek_cqe(&commands->ring, &cqe) < 0)
			return;
		command = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		io_uring_cqe_seen(&commands->ring, cqe);
		ferry_assert(command && commands->controls_count > 0);
		commands->controls_count--;
		command->run(command, result);
	}
}

static const struct ferry_commands_ops commands_ops = {
	.reserve = commands_reserve,
	.unreserve = commands_unreserve,
	.submit = commands_submit,
	.control = commands_control,
};

/* ---- Opening and closing. ---- */

int ferry_uring_commands_open(struct ferry_uring_loop *loop, struct ferry_uring_commands **ret,
			      struct ferry_error *reterr)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SQE128};
	struct ferry_uring_commands *commands = calloc(1, sizeof(*commands));
	int r;

	ferry_assert(loop && ret);
	if (!commands)
		return ferry_error_set(reterr, -ENOMEM, "no memory for commands to drivers");
	commands->commands.ops = &commands_ops;
	commands->loop = loop;
	ferry_list_init(&commands->free);
	for (uint32_t i = 0; i < FERRY_URING_COMMANDS_MAX; i++) {
		commands->entries[i].request.run = entry_run;
		commands->entries[i].commands = commands;
		ferry_list_append(&commands->free, &commands->entries[i].link);
	}
	r = io_uring_queue_init_params(FERRY_COMMAND_CONTROLS_MAX, &commands->ring, &params);
	commands->has_ring = r == 0;
	if (r == 0) {
		commands->watch =
			(struct ferry_watch){.run = on_controls, .fd = commands->ring.ring_fd};
		r = loop_of(commands)->ops->watch_start(loop_of(commands), &commands->watch,
							FERRY_WATCH_READ);
	}
	if (r < 0) {
		(void)ferry_uring_commands_close(commands);
		return ferry_error_set(reterr, r, "no ring for commands to drivers: %s",
				       strerror(-r));
	}
	*ret = commands;
	return 0;
}

struct ferry_commands *ferry_uring_commands_of(struct ferry_uring_commands *commands)
{
	ferry_assert(commands);
	return &commands->commands;
}

struct ferry_uring_commands *ferry_uring_commands_close(struct ferry_uring_commands *commands)
{
	if (!commands)
		return NULL;
	FERRY_ASSERT_ON_LOOP(loop_of(commands));
	loop_of(commands)->ops->watch_stop(loop_of(commands), &commands->watch);
	if (commands->has_ring)
		io_uring_queue_exit(&commands->ring);
	/* Nobody looks at completions any more, so the entries may go. */
	ferry_uring_abandon(commands->loop, commands->inflight_count);
	ferry_uring_unreserve(commands->loop, commands->reserved_count);
	free(commands);
	return NULL;
}
