#include "agent/cache/index.h"

enum {
	HEAT_CLASSES = 17, /* By the heat's highest bit. */
	SPARED_MAX = 128,  /* Lines that one eviction may spare: it takes bounded time. */
};

static uint32_t *bucket_of(const struct ferry_index *index, uint64_t number)
{
	uint64_t hash = number * UINT64_C(0x9e3779b97f4a7c15); /* Fibonacci hashing (Knuth, 6.4). */

	return &index->buckets[(hash >> 32) & (index->buckets_count - 1)];
}

static uint32_t buckets_for(uint32_t lines_max)
{
	uint32_t count = 1;

	while (count < lines_max)
		count *= 2;
	return count;
}

size_t ferry_index_memory_bytes(uint32_t lines_max)
{
	ferry_assert(lines_max > 0 && lines_max <= FERRY_INDEX_LINES_MAX);
	return lines_max * sizeof(struct ferry_index_line) +
	       buckets_for(lines_max) * sizeof(uint32_t) + 128; /* And what aligns them. */
}

int ferry_index_init(struct ferry_index *index, struct ferry_region *region, void *data,
		     uint32_t lines_max)
{
	ferry_assert(index && data);
	ferry_assert(lines_max > 0 && lines_max <= FERRY_INDEX_LINES_MAX);
	*index = (struct ferry_index){
		.data = data, .lines_max = lines_max, .buckets_count = buckets_for(lines_max)};
	index->lines = ferry_region_take(region, lines_max, sizeof(*index->lines));
	index->buckets = ferry_region_take(region, index->buckets_count, sizeof(*index->buckets));
	if (!index->lines || !index->buckets)
		return -ENOMEM;
	ferry_index_clear(index);
	return 0;
}

void ferry_index_clear(struct ferry_index *index)
{
	ferry_assert(index->buckets);
	memset(index->buckets, 0xff, index->buckets_count * sizeof(*index->buckets));
	_Static_assert(FERRY_INDEX_NONE == UINT32_MAX, "all bits set");
	index->lines_count = 0;
	index->warm_count = 0;
	index->fresh = 0;
	index->free = FERRY_INDEX_NONE;
	index->newest = FERRY_INDEX_NONE;
	index->oldest = FERRY_INDEX_NONE;
	index->hand = FERRY_INDEX_NONE;
}

uint32_t ferry_index_find(const struct ferry_index *index, uint64_t number)
{
	uint32_t slot = *bucket_of(index, number);

	while (slot != FERRY_INDEX_NONE && index->lines[slot].number != number)
		slot = index->lines[slot].hash_next;
	ferry_assert(slot == FERRY_INDEX_NONE || index->lines[slot].is_there);
	return slot;
}

void ferry_index_touch(struct ferry_index *index, uint32_t slot)
{
	struct ferry_index_line *line = &index->lines[slot];

	ferry_assert(slot < index->lines_max);
	ferry_assert(line->is_there);
	line->is_visited = true;
	if (line->heat < UINT16_MAX)
		line->heat++;
}

/* ---- The queue. ---- */

static void queue_prepend(struct ferry_index *index, uint32_t slot)
{
	struct ferry_index_line *line = &index->lines[slot];

	line->newer = FERRY_INDEX_NONE;
	line->older = index->newest;
	if (index->newest != FERRY_INDEX_NONE)
		index->lines[index->newest].newer = slot;
	else
		index->oldest = slot;
	index->newest = slot;
}

static void queue_remove(struct ferry_index *index, uint32_t slot)
{
	const struct ferry_index_line *line = &index->lines[slot];

	if (index->hand == slot)
		index->hand = line->newer;
	if (line->newer != FERRY_INDEX_NONE)
		index->lines[line->newer].older = line->older;
	else
		index->newest = line->older;
	if (line->older != FERRY_INDEX_NONE)
		index->lines[line->older].newer = line->newer;
	else
		index->oldest = line->newer;
}

/* The first from the hand on that was not used since the hand last came by. */
static uint32_t victim_find(struct ferry_index *index)
{
	uint32_t slot = index->hand;

	ferry_assert(index->lines_count > 0);
	for (uint32_t spared = 0;; spared++) {
		struct ferry_index_line *line;

		if (slot == FERRY_INDEX_NONE)
			slot = index->oldest;
		line = &index->lines[slot];
		if (!line->is_visited || spared == SPARED_MAX)
			break;
		line->is_visited = false;
		line->heat /= 2;
		slot = line->newer;
	}
	index->hand = slot;
	return slot;
}

void ferry_index_remove(struct ferry_index *index, uint32_t slot)
{
	struct ferry_index_line *line = &index->lines[slot];
	uint32_t *link = bucket_of(index, line->number);

	ferry_assert(slot < index->lines_max);
	ferry_assert(line->is_there && index->lines_count > 0);
	while (*link != slot) {
		ferry_assert(*link != FERRY_INDEX_NONE);
		link = &index->lines[*link].hash_next;
	}
	*link = line->hash_next;
	queue_remove(index, slot);
	if (line->is_warm)
		index->warm_count--;
	line->is_there = false;
	line->hash_next = index->free;
	index->free = slot;
	index->lines_count--;
}

uint32_t ferry_index_add(struct ferry_index *index, uint64_t number)
{
	uint32_t *bucket = bucket_of(index, number);
	uint32_t slot;

	ferry_assert(ferry_index_find(index, number) == FERRY_INDEX_NONE);
	if (ferry_index_is_full(index)) {
		ferry_index_remove(index, victim_find(index));
		index->evictions++;
	}
	if (index->free != FERRY_INDEX_NONE) {
		slot = index->free;
		index->free = index->lines[slot].hash_next;
	} else {
		slot = index->fresh++;
	}
	ferry_assert(slot < index->lines_max);
	index->lines[slot] =
		(struct ferry_index_line){.number = number, .hash_next = *bucket, .is_there = true};
	*bucket = slot;
	queue_prepend(index, slot);
	index->lines_count++;
	return slot;
}

/* ---- Order of heat. ---- */

static uint32_t heat_class(uint16_t heat)
{
	return heat == 0 ? 0 : 32 - (uint32_t)__builtin_clz(heat);
}

/* A bucket sort, stable within a class, so that of equally hot lines the newer come first. */
void ferry_index_sort(struct ferry_index *index)
{
	uint32_t first[HEAT_CLASSES];
	uint32_t count = 0;

	for (uint32_t i = 0; i < HEAT_CLASSES; i++)
		first[i] = FERRY_INDEX_NONE;
	/* From old to new, each to the front of its class. */
	for (uint32_t slot = index->oldest; slot != FERRY_INDEX_NONE;) {
		struct ferry_index_line *line = &index->lines[slot];
		uint32_t newer = line->newer;
		uint32_t *head = &first[heat_class(line->heat)];

		line->older = *head;
		*head = slot;
		slot = newer;
	}
	/* From the coldest class on, and within it from its old end, to the queue's front. */
	index->newest = FERRY_INDEX_NONE;
	index->oldest = FERRY_INDEX_NONE;
	index->hand = FERRY_INDEX_NONE;
	for (uint32_t i = 0; i < HEAT_CLASSES; i++) {
		uint32_t reversed = FERRY_INDEX_NONE;

		for (uint32_t slot = first[i]; slot != FERRY_INDEX_NONE;) {
			uint32_t older = index->lines[slot].older;

			index->lines[slot].older = reversed;
			reversed = slot;
			slot = older;
		}
		for (uint32_t slot = reversed; slot != FERRY_INDEX_NONE;) {
			uint32_t next = index->lines[slot].older;

			queue_prepend(index, slot);
			slot = next;
			count++;
		}
	}
	ferry_assert(count == index->lines_count);
}
