#include "agent/ports/timers.h"

static bool is_before(const struct ferry_timer *a, const struct ferry_timer *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns;
	return a->sequence < b->sequence;
}

static void place(struct ferry_timers *timers, uint32_t slot, struct ferry_timer *timer)
{
	ferry_assert(slot >= 1 && slot <= timers->count);
	timers->heap[slot] = timer;
	timer->heap_slot = slot;
}

static void rise(struct ferry_timers *timers, uint32_t slot, struct ferry_timer *timer)
{
	for (; slot > 1 && is_before(timer, timers->heap[slot / 2]); slot /= 2)
		place(timers, slot, timers->heap[slot / 2]);
	place(timers, slot, timer);
}

static void sink(struct ferry_timers *timers, uint32_t slot, struct ferry_timer *timer)
{
	for (;;) {
		uint32_t child = 2 * slot;

		if (child > timers->count)
			break;
		if (child < timers->count &&
		    is_before(timers->heap[child + 1], timers->heap[child]))
			child++;
		if (!is_before(timers->heap[child], timer))
			break;
		place(timers, slot, timers->heap[child]);
		slot = child;
	}
	place(timers, slot, timer);
}

void ferry_timers_init(struct ferry_timers *timers, struct ferry_timer **heap, uint32_t size)
{
	ferry_assert(timers && heap);
	ferry_assert(size > 1);
	*timers = (struct ferry_timers){.heap = heap, .size = size, .sequence_next = 1};
}

void ferry_timers_start(struct ferry_timers *timers, struct ferry_timer *timer,
			uint64_t deadline_ns)
{
	ferry_timers_stop(timers, timer);
	ferry_assert(timers->count + 1 < timers->size);
	timer->deadline_ns = deadline_ns;
	timer->sequence = timers->sequence_next++;
	timers->count++;
	rise(timers, timers->count, timer);
}

void ferry_timers_stop(struct ferry_timers *timers, struct ferry_timer *timer)
{
	uint32_t slot = timer->heap_slot;
	struct ferry_timer *last;

	if (slot == 0)
		return;
	ferry_assert(slot <= timers->count);
	ferry_assert(timers->heap[slot] == timer);
	last = timers->heap[timers->count--];
	timer->heap_slot = 0;
	if (last == timer)
		return;
	if (slot > 1 && is_before(last, timers->heap[slot / 2]))
		rise(timers, slot, last);
	else
		sink(timers, slot, last);
}
