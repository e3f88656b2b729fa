#include "agent/base/spsc.h"

int ferry_spsc_init(struct ferry_spsc *ring, struct ferry_region *region, uint32_t slots_count,
		    uint32_t slot_bytes)
{
	ferry_assert(ring);
	ferry_assert(slots_count > 0 && (slots_count & (slots_count - 1)) == 0);
	ferry_assert(slot_bytes > 0);
	ring->slots = ferry_region_take(region, slots_count, slot_bytes);
	if (!ring->slots)
		return -ENOMEM;
	ring->slot_bytes = slot_bytes;
	ring->slots_count = slots_count;
	atomic_init(&ring->head, 0);
	atomic_init(&ring->tail, 0);
	return 0;
}

int ferry_spsc_push(struct ferry_spsc *ring, const void *message)
{
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

	ferry_assert(message);
	ferry_assert(tail - head <= ring->slots_count);
	if (tail - head == ring->slots_count)
		return -EAGAIN;
	memcpy(ring->slots + (size_t)(tail & (ring->slots_count - 1)) * ring->slot_bytes, message,
	       ring->slot_bytes);
	atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
	return 0;
}

int ferry_spsc_pop(struct ferry_spsc *ring, void *ret)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	ferry_assert(ret);
	ferry_assert(tail - head <= ring->slots_count);
	if (head == tail)
		return -EAGAIN;
	memcpy(ret, ring->slots + (size_t)(head & (ring->slots_count - 1)) * ring->slot_bytes,
	       ring->slot_bytes);
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	return 0;
}
