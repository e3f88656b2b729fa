/*
 * record.h - the bytes of one stored value: what a power cut, a bad disk or a mixed-up file may
 * have done to them is found out here.
 *
 * Owns:    nothing.
 * Callers: statefile.c; tests/fuzz.
 * Thread:  any.
 * Rooms:   adapters/statefile only.
 */
#pragma once

#include "agent/adapters/statefile/statefile.h"

/* What a file begins with; little-endian. The value follows, and then the file ends. */
struct ferry_record_head {
	uint64_t magic;
	uint32_t length_bytes; /* Of the value. */
	uint32_t crc;	       /* CRC32C of all the rest: this head with crc 0, and the value. */
	char key[FERRY_STATEFILE_KEY_MAX]; /* Padded with zeroes: a file under another's name. */
};
_Static_assert(sizeof(struct ferry_record_head) == 16 + FERRY_STATEFILE_KEY_MAX, "it has no holes");

struct ferry_record {
	struct ferry_record_head head;
	uint8_t value[FERRY_STORE_VALUE_BYTES_MAX];
};
_Static_assert(sizeof(struct ferry_record) ==
		       sizeof(struct ferry_record_head) + FERRY_STORE_VALUE_BYTES_MAX,
	       "it has no holes");

/* Fill @record; its first sizeof(head) + @length_bytes are what is to be stored. */
void ferry_record_make(struct ferry_record *record, const char *key, const void *value,
		       size_t length_bytes);

/* The value's length if the first @size_bytes of @record are @key's record, or -EBADMSG. */
int ferry_record_check(const struct ferry_record *record, size_t size_bytes, const char *key);
