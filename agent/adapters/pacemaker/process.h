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
