/*
 * wire_fuzz - the wire decoder. The first byte says what is made good, since no fuzzer guesses a
 * checksum: bit 0 the header's CRC, bit 1 magic and version. The rest is the header.
 *
 * What is decoded is valid, and encodes to the very bytes that it came from.
 */
#include "agent/base/checksum.h"
#include "proto/wire.h"

/* It is between who is named and anybody, in the one direction that its type has. */
static void ends_check(const struct ferry_wire_header *header)
{
	const struct ferry_wire_end named = {header->node, header->incarnation};
	const struct ferry_wire_end other = {{header->node.v ^ UINT32_C(1) << 31}, {1}};

	if (named.node.v == 0 || other.node.v == 0)
		return;
	ferry_assert(ferry_wire_is_between(header, &named, &other) !=
		     ferry_wire_is_between(header, &other, &named));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	static const uint8_t BEGIN[] = {'F', 'R', 'R', 'Y', FERRY_WIRE_VERSION, 0};
	const size_t crc_at = FERRY_WIRE_HEADER_BYTES - sizeof(uint32_t);
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES] = {}, again[FERRY_WIRE_HEADER_BYTES];
	struct ferry_wire_header header = {}, twice;
	struct ferry_error error = {};
	uint32_t crc;
	int r;

	if (length_bytes < 1)
		return 0;
	memcpy(bytes, data + 1, ferry_min_u64(length_bytes - 1, sizeof(bytes)));
	if (data[0] & 2)
		memcpy(bytes, BEGIN, sizeof(BEGIN));
	crc = ferry_crc32c(0, bytes, crc_at);
	for (size_t i = 0; i < sizeof(crc) && (data[0] & 1); i++)
		bytes[crc_at + i] = (uint8_t)(crc >> (8 * i));
	r = ferry_wire_decode(bytes, &header, &error);
	if (r < 0) {
		ferry_assert(r == -EBADMSG || r == -EPROTO || r == -EPROTONOSUPPORT);
		ferry_assert(error.code == r && error.message[0] != '\0');
		ferry_assert(header.type == 0); /* Untouched. */
		return 0;
	}
	ferry_assert(ferry_wire_check(&header, NULL) == 0);
	ferry_wire_encode(&header, again);
	ferry_assert(memcmp(bytes, again, sizeof(bytes)) == 0);
	ferry_assert(ferry_wire_decode(again, &twice, NULL) == 0);
	ferry_assert(twice.sequence == header.sequence && twice.type == header.type);
	ends_check(&header);
	return 0;
}
