/*
 * sim_seeds.h - seeds as people write them: S, and A..B; and what is said to who wrote them wrong.
 *
 * Owns:    nothing.
 * Callers: ferry_sim.c, tests/museum.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/base/base.h"

/* The exit code of wrong usage, as of `ferry`; and of a machine that gives no process or pipe. */
enum { SIM_EXIT_USAGE = 2, SIM_EXIT_FAILED = 1 };

/* @text as a number up to @max, in digits alone: no sign, no blank. @ret: only if it is one. */
bool sim_number_parse(const char *text, uint64_t max, uint64_t *ret);
/* "A..B", A no more than B. */
bool sim_seeds_parse(const char *text, uint64_t *ret_first, uint64_t *ret_last);

/* Say @what, and the wrong @value if there is one, to people; ends the program. */
_Noreturn void sim_usage_error(const char *program, const char *what, const char *value);
