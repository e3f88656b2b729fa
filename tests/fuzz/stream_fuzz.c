/*
 * stream_fuzz - the stream's decoder. The first byte says what is made good, since no fuzzer
 * guesses a checksum: bit 0 each frame's CRC, bit 1 each frame's magic and version, bit 2 END's
 * CRC over the whole. The rest is frames, one after another.
 *
 * What is got is valid, and is put as the very bytes that it came from.
 */
#include "agent/base/checksum.h"
#include "proto/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

enum { INPUT_MAX = 8192, KIND_AT = 6, CRC_AT = 12, WHOLE_CRC_AT = 32 };

static void put_u32(uint8_t *bytes, uint32_t v)
{
	for (size_t i = 0; i < sizeof(v); i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
}

static void make_good(uint8_t *frame, size_t length_bytes, uint8_t what, uint32_t whole_crc)
{
	if ((what & 4) && frame[KIND_AT] == FERRY_STREAM_END &&
	    length_bytes == FERRY_STREAM_END_BYTES)
		put_u32(frame + WHOLE_CRC_AT, whole_crc);
	if (what & 1)
		put_u32(frame + CRC_AT, ferry_crc32c(ferry_crc32c(0, frame, CRC_AT),
						     frame + FERRY_STREAM_HEADER_BYTES,
						     length_bytes - FERRY_STREAM_HEADER_BYTES));
}

static void put_again(struct ferry_stream *out, const struct ferry_stream_frame *frame,
		      const uint8_t *bytes, size_t length_bytes)
{
	static uint8_t again[INPUT_MAX];
	size_t put_bytes;

	if (frame->kind == FERRY_STREAM_BEGIN)
		put_bytes = ferry_stream_put_begin(out, &frame->begin, again);
	else if (frame->kind == FERRY_STREAM_DATA)
		put_bytes = ferry_stream_put_data(out, &frame->data, again);
	else
		put_bytes = ferry_stream_put_end(out, frame->end.cursor_next, again);
	ferry_assert(put_bytes == length_bytes);
	ferry_assert(memcmp(again, bytes, length_bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	static const uint8_t BEGIN[] = {'F', 'R', 'S', 'T', FERRY_STREAM_VERSION, 0};
	static uint8_t bytes[INPUT_MAX];
	struct ferry_stream stream = {}, out = {};
	struct ferry_stream_frame frame;
	struct ferry_error error = {};
	size_t at = 1;
	int r = 0;

	if (length_bytes < 1 || length_bytes > INPUT_MAX)
		return 0;
	memcpy(bytes, data, length_bytes);
	while (r == 0 && at + FERRY_STREAM_HEADER_BYTES <= length_bytes) {
		size_t frame_bytes = length_bytes - at;

		if (data[0] & 2)
			memcpy(bytes + at, BEGIN, sizeof(BEGIN));
		r = ferry_stream_frame_bytes(bytes + at, &error);
		if (r >= 0 && (size_t)r <= frame_bytes) {
			frame_bytes = (size_t)r;
			make_good(bytes + at, frame_bytes, data[0], stream.crc);
		}
		r = ferry_stream_get(&stream, bytes + at, frame_bytes, &frame, &error);
		if (r == 0)
			put_again(&out, &frame, bytes + at, frame_bytes);
		at += frame_bytes;
	}
	if (r < 0) {
		ferry_assert(r == -EBADMSG || r == -EPROTO || r == -EPROTONOSUPPORT);
		ferry_assert(error.code == r && error.message[0] != '\0');
		ferry_assert(!ferry_stream_is_complete(&stream));
	}
	return 0;
}
