/*
 * system.h - what the agent asks of the kernel for itself: to be on the I/O path (design, last
 * costly shape): locked memory and PR_SET_IO_FLUSHER, so that writeback through its own volume
 * cannot deadlock it.
 *
 * Owns:    nothing.
 * Callers: main.c.
 * Thread:  the starting thread, before others start.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/base/error.h"

struct ferry_system {
	bool is_memory_locked;
	bool is_io_flusher;
	char memory_note[128]; /* Why not, for the log; empty if so. */
	char flusher_note[128];
};

/* Ask for all of it; what is not permitted is noted, never an error. */
void ferry_system_prepare(struct ferry_system *ret);
