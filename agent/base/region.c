#include "agent/base/region.h"

enum { REGION_ALIGNMENT = 64 };

void ferry_region_init(struct ferry_region *region, void *memory, size_t size_bytes)
{
	ferry_assert(region);
	ferry_assert(memory || size_bytes == 0);
	ferry_assert((uintptr_t)memory % REGION_ALIGNMENT == 0);
	*region = (struct ferry_region){.memory = memory, .size_bytes = size_bytes};
}

void *ferry_region_take(struct ferry_region *region, size_t count, size_t size_bytes)
{
	size_t wanted_bytes;
	uint8_t *taken;

	ferry_assert(region);
	ferry_assert(!region->sealed);
	ferry_assert(region->used_bytes <= region->size_bytes);
	if (!region->memory) /* An empty region has not even room for nothing. */
		return NULL;
	if (__builtin_mul_overflow(count, size_bytes, &wanted_bytes) ||
	    wanted_bytes > SIZE_MAX - REGION_ALIGNMENT)
		return NULL;
	wanted_bytes = (wanted_bytes + REGION_ALIGNMENT - 1) & ~(size_t)(REGION_ALIGNMENT - 1);
	if (wanted_bytes > region->size_bytes - region->used_bytes)
		return NULL;
	taken = region->memory + region->used_bytes;
	region->used_bytes += wanted_bytes;
	memset(taken, 0, wanted_bytes);
	return taken;
}

void ferry_region_seal(struct ferry_region *region)
{
	ferry_assert(region);
	ferry_assert(!region->sealed);
	region->sealed = true;
}
