/*
 * group_fuzz - the decoder of what agents tell the group. The first byte says what is made good,
 * since no fuzzer guesses a checksum: bit 0 the CRC, bit 1 magic and version, bit 2 the length.
 *
 * What is decoded is valid, and encodes to the very bytes that it came from.
 */
#include "agent/base/checksum.h"
#include "proto/cursor.h"
#include "proto/group_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

static void make_good(uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES], uint8_t what)
{
	const size_t crc_at = FERRY_GROUP_MESSAGE_BYTES - sizeof(uint32_t);
	struct ferry_writer writer = ferry_writer_make(bytes, 6);

	if (what & 2) {
		ferry_writer_u32(&writer, FERRY_GROUP_MAGIC);
		ferry_writer_u16(&writer, FERRY_GROUP_VERSION);
	}
	writer = ferry_writer_make(bytes + crc_at, sizeof(uint32_t));
	if (what & 1)
		ferry_writer_u32(&writer, ferry_crc32c(0, bytes, crc_at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES] = {}, again[FERRY_GROUP_MESSAGE_BYTES];
	struct ferry_group_message message = {};
	struct ferry_error error = {};
	size_t size_bytes;
	int r;

	if (length_bytes < 1)
		return 0;
	size_bytes = ferry_min_u64(length_bytes - 1, sizeof(bytes));
	memcpy(bytes, data + 1, size_bytes);
	make_good(bytes, data[0]);
	if (data[0] & 4)
		size_bytes = sizeof(bytes);
	r = ferry_group_message_decode(bytes, size_bytes, &message, &error);
	if (r < 0) {
		ferry_assert(r == -EBADMSG || r == -EPROTO || r == -EPROTONOSUPPORT);
		ferry_assert(error.code == r && error.message[0] != '\0');
		ferry_assert(message.type == 0); /* Untouched. */
		return 0;
	}
	ferry_group_message_encode(&message, again);
	ferry_assert(memcmp(bytes, again, sizeof(bytes)) == 0);
	return 0;
}
