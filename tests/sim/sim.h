/*
 * sim.h - the simulated world: one heap of events, one clock, one seed.
 *
 * Everything that happens is an event, ordered by (time_ns, sequence). The seed is split into
 * streams, so that, say, one more random delay on the network does not change what the storage
 * does. Each event, and each note, goes into the trace's hash: by kind, time, node and a small
 * value, never by an address. The same seed gives the same hash.
 *
 * Owns:    the heap, the clock, the streams of random numbers, the trace, the violations found.
 * Callers: everything else in tests/sim.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/prng.h"

enum sim_stream {
	SIM_STORAGE = 0,
	SIM_NETWORK,
	SIM_CLOCK,
	SIM_WORKLOAD,
	SIM_CRASH,
	SIM_STREAMS_COUNT,
};

/* What an event or a note is about; the numbers go into the hash. */
enum sim_kind {
	SIM_LOOP = 1, /* A timer or a task of a node. */
	SIM_POST,     /* A message between the two loops of a node. */
	SIM_COMMAND,  /* A command's way to, in and from the lun. */
	SIM_PATH,     /* A session at the lun. */
	SIM_FENCE,
	SIM_LINK,
	SIM_GROUP,
	SIM_CLIENT,
	SIM_FAULT,
	SIM_EVENT, /* What the core says. */
	SIM_LANDED,
	SIM_NODE,
};

/* Exit codes of ferry-sim (house style, section 8); the values are compared, never computed. */
enum { SIM_EXIT_OK = 0, SIM_EXIT_CRASH = 127, SIM_EXIT_LIVENESS = 128, SIM_EXIT_WRONG = 129 };

/* A run of many thousand steps a simulated second goes nowhere. */
enum { SIM_STEPS_MAX = 4 * 1000 * 1000 };

struct sim;

struct sim_event {
	uint64_t time_ns;
	uint64_t sequence;
	uint32_t heap_slot; /* 1-based; 0 while it is not due at all. */
	enum sim_kind kind;
	uint32_t node; /* 0: nobody's. */
	uint64_t value;
	void (*run)(struct sim_event *event);
};

struct sim {
	uint64_t seed;
	uint64_t now_ns;
	uint64_t sequence_next;
	uint64_t trace_hash;
	uint64_t steps;
	struct sim_event **heap;
	uint32_t heap_count;
	uint32_t heap_size;
	struct ferry_prng streams[SIM_STREAMS_COUNT];
	bool is_tracing;
	void (*check)(struct sim *sim, void *context); /* Invariants, after each step. */
	void *check_context;
	uint64_t violations;
	char first_violation[256];
};

void sim_init(struct sim *sim, uint64_t seed);
void sim_done(struct sim *sim);

/* Have @event->run called at @time_ns (not in the past). One that is due already is moved. */
void sim_at(struct sim *sim, struct sim_event *event, uint64_t time_ns);
void sim_in(struct sim *sim, struct sim_event *event, uint64_t delay_ns);
void sim_cancel(struct sim *sim, struct sim_event *event);

static inline bool sim_is_due(const struct sim_event *event)
{
	return event->heap_slot != 0;
}

/* One event; false when nothing is left to happen. */
bool sim_step(struct sim *sim);
void sim_run_until(struct sim *sim, uint64_t time_ns);

uint64_t sim_below(struct sim *sim, enum sim_stream stream, uint64_t bound);
/* @low..@high, both included. */
uint64_t sim_between(struct sim *sim, enum sim_stream stream, uint64_t low, uint64_t high);
bool sim_chance(struct sim *sim, enum sim_stream stream, uint32_t per_mille);

/* One line of the trace, hashed by everything but its text. */
void sim_note(struct sim *sim, enum sim_kind kind, uint32_t node, uint64_t value,
	      const char *format, ...) FERRY_PRINTF(5, 6);

/* A broken promise: the run goes on, and is a failure. */
void sim_violation(struct sim *sim, uint32_t node, const char *format, ...) FERRY_PRINTF(3, 4);

void *sim_alloc(size_t size_bytes);
