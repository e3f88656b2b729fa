#include "agent/base/checksum.h"

#include <isa-l/crc.h>

uint32_t ferry_crc32c(uint32_t crc, const void *data, size_t length_bytes)
{
	/* ISA-L takes an int and a non-const pointer that it does not write through. */
	union {
		const void *in;
		unsigned char *out;
	} pointer = {.in = data};

	ferry_assert(data || length_bytes == 0);
	ferry_assert(length_bytes <= INT32_MAX);
	return ~crc32_iscsi(pointer.out, (int)length_bytes, ~crc);
}

uint32_t ferry_crc32c_segments(uint32_t crc, const struct ferry_segments *segments)
{
	ferry_assert(segments);
	for (uint32_t i = 0; i < segments->count; i++) {
		const struct ferry_segment *segment = &segments->v[i];

		crc = ferry_crc32c(crc, segment->chunk->data + segment->offset_bytes,
				   segment->length_bytes);
	}
	return crc;
}

/* FNV-1a's loop with a finaliser, from one of two seeds. */
static uint64_t hash64(uint64_t seed, const uint8_t *data, size_t length_bytes)
{
	uint64_t h = seed;

	for (size_t i = 0; i < length_bytes; i++)
		h = (h ^ data[i]) * UINT64_C(0x100000001b3);
	h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
	return h ^ (h >> 31);
}

struct ferry_uuid ferry_hash128(const void *data, size_t length_bytes)
{
	uint64_t parts[2];
	struct ferry_uuid uuid;

	ferry_assert(data || length_bytes == 0);
	parts[0] = hash64(UINT64_C(0xcbf29ce484222325), data, length_bytes);
	parts[1] = hash64(parts[0] ^ UINT64_C(0x9e3779b97f4a7c15), data, length_bytes);
	_Static_assert(sizeof(parts) == sizeof(uuid.bytes), "128 bits");
	for (size_t i = 0; i < sizeof(uuid.bytes); i++) /* The same on every byte order. */
		uuid.bytes[i] = (uint8_t)(parts[i / 8] >> (8 * (i % 8)));
	return uuid;
}
