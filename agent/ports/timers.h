/*
 * timers.h - started timers in the order in which they are due: a binary heap by (deadline,
 * sequence), for those who implement the loop port.
 *
 * Owns:    its array of pointers, handed in; the timers are their users'.
 * Callers: adapters/uring, adapters/qb.
 * Thread:  the loop's own.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/ports/loop.h"

struct ferry_timers {
	struct ferry_timer **heap; /* 1-based: slot 0 is unused. */
	uint32_t size;		   /* Of heap, slot 0 included. */
	uint32_t count;
	uint64_t sequence_next; /* Timers of one deadline run in the order of their start. */
};

/* @heap has room for @size pointers, one more than there may be timers. */
void ferry_timers_init(struct ferry_timers *timers, struct ferry_timer **heap, uint32_t size);

/* (Re)start. No more than size - 1 may be started. */
void ferry_timers_start(struct ferry_timers *timers, struct ferry_timer *timer,
			uint64_t deadline_ns);

/* One that is not started stays so. */
void ferry_timers_stop(struct ferry_timers *timers, struct ferry_timer *timer);

/* The next one to run, or NULL. */
static inline struct ferry_timer *ferry_timers_first(const struct ferry_timers *timers)
{
	return timers->count > 0 ? timers->heap[1] : NULL;
}
