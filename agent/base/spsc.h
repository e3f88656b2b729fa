/*
 * spsc.h - a bounded ring of fixed-size messages from one thread to one other.
 *
 * How the data, cluster and control threads talk. A full ring is back-pressure: the sender keeps
 * its message and tries again later; the ring never grows.
 *
 * Owns:    the cursors; slots come from a region.
 * Callers: agent/main wiring; tests.
 * Thread:  exactly one pushes, exactly one pops.
 * Rooms:   rank 0.
 */
#pragma once

#include <stdatomic.h>

#include "agent/base/base.h"
#include "agent/base/region.h"

struct ferry_spsc {
	uint8_t *slots;
	uint32_t slot_bytes;
	uint32_t slots_count;		    /* A power of two. */
	_Alignas(64) _Atomic uint32_t head; /* Next to pop. */
	_Alignas(64) _Atomic uint32_t tail; /* Next to push. */
};

/* -ENOMEM: the region is too small. @slots_count is a power of two. */
int ferry_spsc_init(struct ferry_spsc *ring, struct ferry_region *region, uint32_t slots_count,
		    uint32_t slot_bytes) FERRY_MUST_CHECK;

/* Copies one message in. -EAGAIN: full. */
int ferry_spsc_push(struct ferry_spsc *ring, const void *message) FERRY_MUST_CHECK;

/* Copies one message out. -EAGAIN: empty. */
int ferry_spsc_pop(struct ferry_spsc *ring, void *ret) FERRY_MUST_CHECK;
