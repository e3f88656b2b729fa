#include "agent/base/arena.h"

int ferry_arena_init(struct ferry_arena *arena, struct ferry_region *region, void *memory,
		     size_t size_bytes)
{
	size_t count = size_bytes / FERRY_CHUNK_BYTES;

	ferry_assert(arena);
	ferry_assert((uintptr_t)memory % FERRY_CHUNK_BYTES == 0);
	ferry_assert(size_bytes % FERRY_CHUNK_BYTES == 0);
	ferry_assert(count <= UINT32_MAX);
	*arena = (struct ferry_arena){.chunks_count = (uint32_t)count,
				      .free_count = (uint32_t)count};
	ferry_list_init(&arena->free);
	ferry_list_init(&arena->waiters);
	arena->chunks = ferry_region_take(region, count, sizeof(arena->chunks[0]));
	if (!arena->chunks)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct ferry_chunk *chunk = &arena->chunks[i];

		chunk->data = (uint8_t *)memory + i * FERRY_CHUNK_BYTES;
		chunk->arena = arena;
		ferry_list_init(&chunk->link);
		ferry_list_append(&arena->free, &chunk->link);
	}
	return 0;
}

int ferry_arena_take(struct ferry_arena *arena, uint32_t length_bytes, struct ferry_segments *ret)
{
	uint32_t count = (length_bytes + FERRY_CHUNK_BYTES - 1) / FERRY_CHUNK_BYTES;
	uint32_t left_bytes = length_bytes;

	ferry_assert(arena);
	ferry_assert(ret);
	ferry_assert(length_bytes > 0 && length_bytes <= FERRY_IO_BYTES_MAX);
	if (arena->free_count < count)
		return -ENOBUFS;
	ret->count = count;
	ret->length_bytes = length_bytes;
	for (uint32_t i = 0; i < count; i++) {
		/* Last in, first out: the chunk that is still in the processor's cache. */
		struct ferry_list *link = ferry_list_pop(&arena->free);
		struct ferry_chunk *chunk;

		ferry_assert(link);
		chunk = ferry_list_entry(link, struct ferry_chunk, link);
		ferry_assert(chunk->users == 0);
		chunk->users = 1;
		ret->v[i].chunk = chunk;
		ret->v[i].offset_bytes = 0;
		ret->v[i].length_bytes = (uint32_t)ferry_min_u64(left_bytes, FERRY_CHUNK_BYTES);
		left_bytes -= ret->v[i].length_bytes;
	}
	arena->free_count -= count;
	ferry_assert(left_bytes == 0);
	return 0;
}

void ferry_arena_wait(struct ferry_arena *arena, struct ferry_arena_waiter *waiter)
{
	ferry_assert(arena);
	ferry_assert(waiter && waiter->run);
	ferry_assert(!waiter->link.next || !ferry_list_is_linked(&waiter->link));
	ferry_list_init(&waiter->link);
	ferry_list_append(&arena->waiters, &waiter->link);
}

void ferry_arena_unwait(struct ferry_arena_waiter *waiter)
{
	ferry_assert(waiter);
	if (waiter->link.next)
		ferry_list_remove(&waiter->link);
}

/* Whether this was its last user. */
static bool chunk_drop(struct ferry_chunk *chunk)
{
	ferry_assert(chunk);
	ferry_assert(chunk->users > 0);
	if (--chunk->users > 0)
		return false;
	ferry_list_prepend(&chunk->arena->free, &chunk->link);
	chunk->arena->free_count++;
	ferry_assert(chunk->arena->free_count <= chunk->arena->chunks_count);
	return true;
}

void ferry_segments_share(const struct ferry_segments *segments, struct ferry_segments *ret)
{
	ferry_assert(segments && ret);
	ferry_assert(segments->count <= FERRY_SEGMENTS_MAX);
	ret->count = segments->count;
	ret->length_bytes = segments->length_bytes;
	for (uint32_t i = 0; i < segments->count; i++) {
		ferry_assert(segments->v[i].chunk->users > 0);
		ret->v[i] = segments->v[i];
		ret->v[i].chunk->users++;
	}
}

void ferry_segments_drop(struct ferry_segments *segments)
{
	struct ferry_arena *arena;
	struct ferry_list woken;
	struct ferry_list *link;
	bool is_any_free = false;

	ferry_assert(segments);
	ferry_assert(segments->count <= FERRY_SEGMENTS_MAX);
	if (segments->count == 0)
		return;
	arena = segments->v[0].chunk->arena;
	for (uint32_t i = 0; i < segments->count; i++)
		is_any_free |= chunk_drop(segments->v[i].chunk);
	segments->count = 0;
	segments->length_bytes = 0;
	if (!is_any_free)
		return;

	ferry_list_init(&woken);
	ferry_list_move_all(&woken, &arena->waiters);
	while ((link = ferry_list_pop(&woken))) {
		struct ferry_arena_waiter *waiter =
			ferry_list_entry(link, struct ferry_arena_waiter, link);

		waiter->run(waiter);
	}
}

/* Walk the segments over one range; exactly one of @from and @to is set. */
static void segments_copy(const struct ferry_segments *segments, uint32_t offset_bytes,
			  const uint8_t *from, uint8_t *to, uint32_t length_bytes)
{
	ferry_assert(offset_bytes <= segments->length_bytes);
	ferry_assert(length_bytes <= segments->length_bytes - offset_bytes);
	for (uint32_t i = 0; i < segments->count && length_bytes > 0; i++) {
		const struct ferry_segment *segment = &segments->v[i];
		uint8_t *data = segment->chunk->data + segment->offset_bytes;
		uint32_t part_bytes;

		if (offset_bytes >= segment->length_bytes) {
			offset_bytes -= segment->length_bytes;
			continue;
		}
		part_bytes =
			(uint32_t)ferry_min_u64(segment->length_bytes - offset_bytes, length_bytes);
		if (from) {
			memcpy(data + offset_bytes, from, part_bytes);
			from += part_bytes;
		} else {
			memcpy(to, data + offset_bytes, part_bytes);
			to += part_bytes;
		}
		length_bytes -= part_bytes;
		offset_bytes = 0;
	}
	ferry_assert(length_bytes == 0);
}

void ferry_segments_write(const struct ferry_segments *segments, uint32_t offset_bytes,
			  const void *from, uint32_t length_bytes)
{
	ferry_assert(segments && from);
	segments_copy(segments, offset_bytes, from, /* to= */ NULL, length_bytes);
}

void ferry_segments_read(const struct ferry_segments *segments, uint32_t offset_bytes, void *to,
			 uint32_t length_bytes)
{
	ferry_assert(segments && to);
	segments_copy(segments, offset_bytes, /* from= */ NULL, to, length_bytes);
}
