/*
 * cursor.h - the one bounded cursor through which all bytes of a wire or a file pass.
 *
 * Little-endian on every machine. A reader that runs out of bytes fails for good and gives zeroes,
 * so that a decoder reads everything first and asks once whether all of it was there.
 *
 * Owns:    nothing: the bytes are the caller's.
 * Callers: every codec in proto/.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"

struct ferry_reader {
	const uint8_t *bytes;
	size_t length_bytes;
	size_t offset_bytes;
	bool has_failed; /* More was read than there was. */
};

struct ferry_writer {
	uint8_t *bytes;
	size_t size_bytes;
	size_t offset_bytes; /* Writing past the end is a bug of ours. */
};

static inline struct ferry_reader ferry_reader_make(const void *bytes, size_t length_bytes)
{
	ferry_assert(bytes || length_bytes == 0);
	return (struct ferry_reader){.bytes = bytes, .length_bytes = length_bytes};
}

static inline size_t ferry_reader_left(const struct ferry_reader *reader)
{
	ferry_assert(reader->offset_bytes <= reader->length_bytes);
	return reader->length_bytes - reader->offset_bytes;
}

/* The next @count bytes, or NULL when there are not as many. */
static inline const uint8_t *ferry_reader_take(struct ferry_reader *reader, size_t count)
{
	const uint8_t *bytes;

	ferry_assert(reader);
	if (reader->has_failed || count > ferry_reader_left(reader)) {
		reader->has_failed = true;
		return NULL;
	}
	bytes = reader->bytes + reader->offset_bytes;
	reader->offset_bytes += count;
	return bytes;
}

static inline uint64_t ferry_reader_uint(struct ferry_reader *reader, size_t count)
{
	const uint8_t *bytes = ferry_reader_take(reader, count);
	uint64_t v = 0;

	ferry_assert(count <= sizeof(v));
	for (size_t i = 0; bytes && i < count; i++)
		v |= (uint64_t)bytes[i] << (8 * i);
	return v;
}

static inline uint16_t ferry_reader_u16(struct ferry_reader *reader)
{
	return (uint16_t)ferry_reader_uint(reader, sizeof(uint16_t));
}

static inline uint32_t ferry_reader_u32(struct ferry_reader *reader)
{
	return (uint32_t)ferry_reader_uint(reader, sizeof(uint32_t));
}

static inline uint64_t ferry_reader_u64(struct ferry_reader *reader)
{
	return ferry_reader_uint(reader, sizeof(uint64_t));
}

static inline void ferry_reader_bytes(struct ferry_reader *reader, void *ret, size_t count)
{
	const uint8_t *bytes = ferry_reader_take(reader, count);

	ferry_assert(ret);
	if (bytes)
		memcpy(ret, bytes, count);
	else
		memset(ret, 0, count);
}

/* Whether the next @count bytes are there and all zero. */
static inline bool ferry_reader_zeroes(struct ferry_reader *reader, size_t count)
{
	const uint8_t *bytes = ferry_reader_take(reader, count);
	uint8_t any = 0;

	for (size_t i = 0; bytes && i < count; i++)
		any |= bytes[i];
	return bytes && any == 0;
}

static inline struct ferry_writer ferry_writer_make(void *bytes, size_t size_bytes)
{
	ferry_assert(bytes);
	return (struct ferry_writer){.bytes = bytes, .size_bytes = size_bytes};
}

static inline uint8_t *ferry_writer_take(struct ferry_writer *writer, size_t count)
{
	uint8_t *bytes;

	ferry_assert(writer->offset_bytes <= writer->size_bytes);
	ferry_assert(count <= writer->size_bytes - writer->offset_bytes);
	bytes = writer->bytes + writer->offset_bytes;
	writer->offset_bytes += count;
	return bytes;
}

static inline void ferry_writer_uint(struct ferry_writer *writer, uint64_t v, size_t count)
{
	uint8_t *bytes = ferry_writer_take(writer, count);

	ferry_assert(count <= sizeof(v));
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
}

static inline void ferry_writer_u16(struct ferry_writer *writer, uint16_t v)
{
	ferry_writer_uint(writer, v, sizeof(v));
}

static inline void ferry_writer_u32(struct ferry_writer *writer, uint32_t v)
{
	ferry_writer_uint(writer, v, sizeof(v));
}

static inline void ferry_writer_u64(struct ferry_writer *writer, uint64_t v)
{
	ferry_writer_uint(writer, v, sizeof(v));
}

static inline void ferry_writer_bytes(struct ferry_writer *writer, const void *from, size_t count)
{
	ferry_assert(from);
	memcpy(ferry_writer_take(writer, count), from, count);
}

static inline void ferry_writer_zeroes(struct ferry_writer *writer, size_t count)
{
	memset(ferry_writer_take(writer, count), 0, count);
}
