/*
 * command.h - commands to kernel drivers by io_uring: the command port.
 *
 * I/O commands go into the loop's own ring: they are sent off and come back with all other I/O, by
 * the same system call, on the one thread that a driver such as ublk takes them from. Control
 * commands need entries of 128 bytes, which in the loop's ring would double every entry for a few
 * commands a day: they have a small ring of their own, which the loop watches as a descriptor.
 *
 * Owns:    the control ring, and an entry for each command under way.
 * Callers: agent/data.c opens and closes it; adapters/ublk sees the port only.
 * Thread:  the loop's.
 * Rooms:   loop.h; ring.h is the way into the loop's ring.
 */
#pragma once

#include "agent/adapters/uring/loop.h"
#include "agent/ports/command.h"

enum { FERRY_URING_COMMANDS_MAX = 1024 }; /* I/O commands under way, of all drivers. */

struct ferry_uring_commands;

/* Start-up only: allocates. -ENOMEM, -EMFILE; -EINVAL: the kernel has no such rings. */
int ferry_uring_commands_open(struct ferry_uring_loop *loop, struct ferry_uring_commands **ret,
			      struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The port. Valid until close. */
struct ferry_commands *ferry_uring_commands_of(struct ferry_uring_commands *commands);

/*
 * When the loop has run for the last time, right before it is closed: the driver's descriptor may
 * be closed too. What a driver still has is cancelled by the kernel when the ring ends; run() is
 * not called for it. NULL is a no-op. Returns NULL.
 */
struct ferry_uring_commands *ferry_uring_commands_close(struct ferry_uring_commands *commands);
