#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const kind_names[] = {
	[SIM_LOOP] = "loop",   [SIM_POST] = "post",   [SIM_COMMAND] = "command",
	[SIM_PATH] = "path",   [SIM_FENCE] = "fence", [SIM_LINK] = "link",
	[SIM_GROUP] = "group", [SIM_CLIENT] = "io",   [SIM_FAULT] = "FAULT",
	[SIM_EVENT] = "event", [SIM_LANDED] = "land", [SIM_NODE] = "node",
};

void *sim_alloc(size_t size_bytes)
{
	/* Whole cache lines: regions are made of it too. */
	size_t lines_bytes = (size_bytes + 63) / 64 * 64;
	void *memory = aligned_alloc(64, lines_bytes);

	ferry_assert(size_bytes > 0);
	ferry_assert(memory);
	memset(memory, 0, lines_bytes);
	return memory;
}

void sim_init(struct sim *sim, uint64_t seed)
{
	struct ferry_prng splitter = {.state = seed};

	*sim = (struct sim){
		.seed = seed,
		.now_ns = 1000 * FERRY_NS_PER_S, /* A machine that has been up for a while. */
		.sequence_next = 1,
		.trace_hash = UINT64_C(0xcbf29ce484222325), /* FNV-1a's offset basis. */
	};
	for (size_t i = 0; i < SIM_STREAMS_COUNT; i++)
		sim->streams[i].state = ferry_prng_next(&splitter);
}

void sim_done(struct sim *sim)
{
	free(sim->heap);
	sim->heap = NULL;
}

/* ---- The heap. ---- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
	if (a->time_ns != b->time_ns)
		return a->time_ns < b->time_ns;
	return a->sequence < b->sequence;
}

static void heap_place(struct sim *sim, uint32_t slot, struct sim_event *event)
{
	sim->heap[slot - 1] = event;
	event->heap_slot = slot;
}

static void heap_sift(struct sim *sim, uint32_t slot)
{
	struct sim_event *event = sim->heap[slot - 1];

	while (slot > 1 && is_before(event, sim->heap[slot / 2 - 1])) {
		heap_place(sim, slot, sim->heap[slot / 2 - 1]);
		slot /= 2;
	}
	for (;;) {
		uint32_t child = 2 * slot;

		if (child > sim->heap_count)
			break;
		if (child < sim->heap_count && is_before(sim->heap[child], sim->heap[child - 1]))
			child++;
		if (!is_before(sim->heap[child - 1], event))
			break;
		heap_place(sim, slot, sim->heap[child - 1]);
		slot = child;
	}
	heap_place(sim, slot, event);
}

void sim_cancel(struct sim *sim, struct sim_event *event)
{
	uint32_t slot = event->heap_slot;
	struct sim_event *last;

	if (slot == 0)
		return;
	ferry_assert(sim->heap[slot - 1] == event);
	event->heap_slot = 0;
	last = sim->heap[--sim->heap_count];
	if (last == event)
		return;
	heap_place(sim, slot, last);
	heap_sift(sim, slot);
}

void sim_at(struct sim *sim, struct sim_event *event, uint64_t time_ns)
{
	ferry_assert(event->run && event->kind != 0);
	ferry_assert(time_ns >= sim->now_ns);
	sim_cancel(sim, event);
	if (sim->heap_count == sim->heap_size) {
		sim->heap_size = sim->heap_size ? 2 * sim->heap_size : 256;
		sim->heap = realloc(sim->heap, sim->heap_size * sizeof(*sim->heap));
		ferry_assert(sim->heap);
	}
	event->time_ns = time_ns;
	event->sequence = sim->sequence_next++;
	sim->heap_count++;
	heap_place(sim, sim->heap_count, event);
	heap_sift(sim, sim->heap_count);
}

void sim_in(struct sim *sim, struct sim_event *event, uint64_t delay_ns)
{
	sim_at(sim, event, sim->now_ns + delay_ns);
}

/* ---- Steps and trace. ---- */

static void hash_mix(struct sim *sim, uint64_t v)
{
	for (int i = 0; i < 8; i++) {
		sim->trace_hash ^= (v >> (8 * i)) & 0xff;
		sim->trace_hash *= UINT64_C(0x100000001b3); /* FNV-1a's prime. */
	}
}

bool sim_step(struct sim *sim)
{
	struct sim_event *event;

	if (sim->heap_count == 0)
		return false;
	event = sim->heap[0];
	ferry_assert(event->time_ns >= sim->now_ns);
	ferry_assert(event->sequence < sim->sequence_next);
	sim_cancel(sim, event);
	sim->now_ns = event->time_ns;
	sim->steps++;
	ferry_assert(sim->steps < SIM_STEPS_MAX);
	hash_mix(sim, (uint64_t)event->kind << 32 | event->node);
	hash_mix(sim, event->time_ns);
	hash_mix(sim, event->value);
	event->run(event);
	if (sim->check)
		sim->check(sim, sim->check_context);
	return true;
}

void sim_run_until(struct sim *sim, uint64_t time_ns)
{
	ferry_assert(time_ns >= sim->now_ns);
	while (sim->heap_count > 0 && sim->heap[0]->time_ns <= time_ns)
		(void)sim_step(sim); /* There is one. */
	sim->now_ns = time_ns;
}

uint64_t sim_below(struct sim *sim, enum sim_stream stream, uint64_t bound)
{
	ferry_assert(stream < SIM_STREAMS_COUNT);
	return ferry_prng_below(&sim->streams[stream], bound);
}

uint64_t sim_between(struct sim *sim, enum sim_stream stream, uint64_t low, uint64_t high)
{
	ferry_assert(low <= high);
	return low + sim_below(sim, stream, high - low + 1);
}

bool sim_chance(struct sim *sim, enum sim_stream stream, uint32_t per_mille)
{
	return sim_below(sim, stream, 1000) < per_mille;
}

static void trace_line(const struct sim *sim, enum sim_kind kind, uint32_t node, const char *text)
{
	uint64_t us = (sim->now_ns - 1000 * FERRY_NS_PER_S) / FERRY_NS_PER_US;

	printf("%6" PRIu64 ".%06" PRIu64 "  n%-2u %-8s %s\n", us / 1000000, us % 1000000, node,
	       kind_names[kind], text);
}

void sim_note(struct sim *sim, enum sim_kind kind, uint32_t node, uint64_t value,
	      const char *format, ...)
{
	char text[256];
	va_list arguments;

	hash_mix(sim, (uint64_t)kind << 32 | node);
	hash_mix(sim, value);
	if (!sim->is_tracing)
		return;
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	trace_line(sim, kind, node, text);
}

void sim_violation(struct sim *sim, uint32_t node, const char *format, ...)
{
	char text[sizeof(sim->first_violation)];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	hash_mix(sim, UINT64_C(0xbad) << 32 | node);
	if (sim->violations++ == 0)
		(void)snprintf(sim->first_violation, sizeof(sim->first_violation), "%s", text);
	if (sim->is_tracing) {
		char line[sizeof(text) + 16];

		(void)snprintf(line, sizeof(line), "VIOLATION: %s", text);
		trace_line(sim, SIM_FAULT, node, line);
	}
}
