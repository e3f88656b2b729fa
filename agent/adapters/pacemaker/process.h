/*
 * process.h - starting one of Pacemaker's commands.
 *
 * Owns:    nothing.
 * Callers: pacemaker.c, stonith.c.
 * Thread:  any.
 * Rooms:   adapters/pacemaker only.
 */
#pragma once

#include <sys/types.h>

#include "agent/base/base.h"

/* @output: its standard output; negative: none. The others are /dev/null; times are in UTC. */
int ferry_process_start(const char *program, char *const arguments[], int output,
			pid_t *ret) FERRY_MUST_CHECK;

/* A descriptor that can be read once the child @pid has ended. Negative errno. */
int ferry_process_descriptor(pid_t pid) FERRY_MUST_CHECK;

/*
 * Kill the child @pid and reap it. One that hangs in the kernel (a program on storage that does not
 * answer) is left to whoever reaps it when this process has ended, after a second.
 */
void ferry_process_kill(pid_t pid);
