/* checksum_test.c - CRC32C against RFC 3720's vectors; the hash against itself and its meaning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/base/checksum.h"

/* RFC 3720, B.4; the RFC prints the bytes as they go over the wire, least significant first. */
static void test_rfc3720_vectors(void **state)
{
	static const uint8_t read_10[48] = {
		0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
		0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	};
	uint8_t bytes[32];

	(void)state;
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(ferry_crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(ferry_crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
	for (uint8_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i;
	assert_int_equal(ferry_crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
	for (uint8_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(sizeof(bytes) - 1 - i);
	assert_int_equal(ferry_crc32c(0, bytes, sizeof(bytes)), 0x113fdb5c);
	assert_int_equal(ferry_crc32c(0, read_10, sizeof(read_10)), 0xd9963a56);
	assert_int_equal(ferry_crc32c(0, "123456789", 9), 0xe3069283); /* The usual check value. */
	assert_int_equal(ferry_crc32c(0, NULL, 0), 0);
}

/* Bit by bit, from the polynomial: what any faster way must equal at every length and offset. */
static uint32_t crc32c_slowly(const uint8_t *data, size_t length_bytes)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < length_bytes; i++) {
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ ((crc & 1) ? UINT32_C(0x82f63b78) : 0);
	}
	return ~crc;
}

static void test_every_length_and_split(void **state)
{
	uint8_t data[512 + 8];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 167 + 13);
	for (size_t length = 0; length <= 512; length++) {
		const uint8_t *from = data + length % 8;
		uint32_t expected = crc32c_slowly(from, length);
		size_t half = length / 3;

		assert_int_equal(ferry_crc32c(0, from, length), expected);
		assert_int_equal(
			ferry_crc32c(ferry_crc32c(0, from, half), from + half, length - half),
			expected);
	}
}

static void test_segments(void **state)
{
	_Alignas(64) uint8_t region_memory[4096];
	uint8_t *memory = aligned_alloc(FERRY_CHUNK_BYTES, 2 * FERRY_CHUNK_BYTES);
	uint8_t *flat = malloc(FERRY_CHUNK_BYTES + 512);
	struct ferry_region region;
	struct ferry_arena arena;
	struct ferry_segments io;

	(void)state;
	assert_true(memory && flat);
	for (size_t i = 0; i < FERRY_CHUNK_BYTES + 512; i++)
		flat[i] = (uint8_t)(i ^ (i >> 8));
	ferry_region_init(&region, region_memory, sizeof(region_memory));
	assert_int_equal(ferry_arena_init(&arena, &region, memory, 2 * FERRY_CHUNK_BYTES), 0);
	assert_int_equal(ferry_arena_take(&arena, FERRY_CHUNK_BYTES + 512, &io), 0);
	ferry_segments_write(&io, 0, flat, FERRY_CHUNK_BYTES + 512);
	assert_int_equal(ferry_crc32c_segments(0, &io),
			 ferry_crc32c(0, flat, FERRY_CHUNK_BYTES + 512));
	ferry_segments_drop(&io);
	free(flat);
	free(memory);
}

static void test_hash(void **state)
{
	struct ferry_uuid first = ferry_hash128("naa.6001405", 11);
	struct ferry_uuid again = ferry_hash128("naa.6001405", 11);
	struct ferry_uuid other = ferry_hash128("naa.6001404", 11);
	struct ferry_uuid shorter = ferry_hash128("naa.600140", 10);
	struct ferry_uuid empty = ferry_hash128(NULL, 0);

	(void)state;
	assert_true(ferry_uuid_equal(&first, &again));
	assert_false(ferry_uuid_equal(&first, &other));
	assert_false(ferry_uuid_equal(&first, &shorter));
	assert_false(ferry_uuid_is_none(&empty));
	assert_memory_not_equal(first.bytes, first.bytes + 8, 8); /* Two halves, not one twice. */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc3720_vectors),
		cmocka_unit_test(test_every_length_and_split),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_hash),
	};

	return cmocka_run_group_tests_name("checksum", tests, NULL, NULL);
}
