/*
 * command.h - the command port: commands to a kernel driver (io_uring's URING_CMD).
 *
 * There are two kinds. An I/O command is small, travels with the data thread's other I/O, and may
 * stay with the driver for as long as that likes: a request that is yet to come. A control command
 * is larger and may block in the kernel, which then does it on a thread of its own.
 *
 * Owns:    nothing; it is only an interface.
 * Callers: adapters/ublk.
 * Thread:  the data loop's.
 * Rooms:   adapters/uring; tests have a driver of their own behind it.
 */
#pragma once

#include "agent/base/base.h"

enum {
	FERRY_COMMAND_IO_BYTES = 16,	  /* What fits into an ordinary submission entry. */
	FERRY_COMMAND_CONTROL_BYTES = 32, /* A larger one has room for 80. */
	FERRY_COMMAND_CONTROLS_MAX = 64,  /* Under way at a time. */
};

/* The caller owns it, and keeps it until run(); at most one submission of it at a time. */
struct ferry_command {
	int fd;
	uint32_t code; /* The driver's. */
	uint8_t payload[FERRY_COMMAND_CONTROL_BYTES];
	/* @result: 0 or more, or a negative errno; the driver's word. Never from inside submit. */
	void (*run)(struct ferry_command *command, int result);
};

struct ferry_commands {
	const struct ferry_commands_ops *ops;
};

struct ferry_commands_ops {
	/* Have room for @count I/O commands at a time. -ENOSPC. */
	int (*reserve)(struct ferry_commands *commands, uint32_t count);
	/* Give it back. Of these commands none may be under way. */
	void (*unreserve)(struct ferry_commands *commands, uint32_t count);
	/* Within the reservation. The first FERRY_COMMAND_IO_BYTES of the payload count. */
	void (*submit)(struct ferry_commands *commands, struct ferry_command *command);
	/* -EBUSY: FERRY_COMMAND_CONTROLS_MAX; -ENOMEM; on errors run() never runs. */
	int (*control)(struct ferry_commands *commands, struct ferry_command *command);
};

static inline void ferry_command_submit(struct ferry_commands *commands,
					struct ferry_command *command)
{
	ferry_assert(commands && commands->ops);
	ferry_assert(command->run && command->fd >= 0);
	commands->ops->submit(commands, command);
}

static inline int ferry_command_control(struct ferry_commands *commands,
					struct ferry_command *command)
{
	ferry_assert(commands && commands->ops);
	ferry_assert(command->run && command->fd >= 0);
	return commands->ops->control(commands, command);
}
