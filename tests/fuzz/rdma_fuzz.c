/*
 * rdma_fuzz - the decoder of frames that come by RDMA. The first byte says what is made good, since
 * no fuzzer guesses a checksum: bit 0 the CRCs, bit 1 magic and version, bit 2 the length.
 *
 * What is decoded is valid, and encodes to the very bytes that it came from.
 */
#include "agent/base/checksum.h"
#include "proto/cursor.h"
#include "proto/rdma_frame.h"

enum { HEADER_AT = FERRY_RDMA_HEAD_BYTES, BODY_AT = HEADER_AT + FERRY_WIRE_HEADER_BYTES };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

static void put_u32(uint8_t *at, uint32_t v)
{
	struct ferry_writer writer = ferry_writer_make(at, sizeof(v));

	ferry_writer_u32(&writer, v);
}

static uint32_t pieces_of(const uint8_t *bytes)
{
	return (uint32_t)ferry_min_u64((uint64_t)bytes[6] | (uint64_t)bytes[7] << 8,
				       FERRY_RDMA_PIECES_MAX);
}

static void make_good(uint8_t *bytes, uint8_t what)
{
	uint8_t *header = bytes + HEADER_AT;
	uint32_t crc;

	if (what & 2) {
		put_u32(bytes, FERRY_RDMA_FRAME_MAGIC);
		put_u32(header, FERRY_WIRE_MAGIC);
		header[4] = FERRY_WIRE_VERSION;
		header[5] = 0;
	}
	if (!(what & 1))
		return;
	put_u32(header + FERRY_WIRE_HEADER_BYTES - 4,
		ferry_crc32c(0, header, FERRY_WIRE_HEADER_BYTES - 4));
	crc = ferry_crc32c(0, bytes, 12);
	crc = ferry_crc32c(crc, bytes + 16, 16);
	if (pieces_of(bytes) > 0)
		crc = ferry_crc32c(crc, bytes + BODY_AT, (size_t)pieces_of(bytes) * 16);
	put_u32(bytes + 12, crc);
}

/* How long a frame has to be that begins so. */
static size_t length_wanted(const uint8_t *bytes)
{
	struct ferry_reader reader = ferry_reader_make(bytes + HEADER_AT + 8, 4);

	if (bytes[4] == FERRY_RDMA_CREDIT)
		return FERRY_RDMA_HEAD_BYTES;
	if (bytes[4] == FERRY_RDMA_MESSAGE)
		return BODY_AT +
		       ferry_min_u64(ferry_reader_u32(&reader), FERRY_RDMA_INLINE_BYTES_MAX);
	return BODY_AT + (size_t)pieces_of(bytes) * 16;
}

static void fuzz_frame(const uint8_t *data, size_t length_bytes, uint8_t what)
{
	uint8_t bytes[FERRY_RDMA_FRAME_BYTES_MAX] = {}, again[FERRY_RDMA_LEAD_BYTES_MAX];
	size_t size_bytes = ferry_min_u64(length_bytes, sizeof(bytes));
	struct ferry_rdma_frame frame = {};
	struct ferry_error error = {};
	const uint8_t *inside = NULL;
	uint32_t lead_bytes;
	int r;

	memcpy(bytes, data, size_bytes);
	make_good(bytes, what);
	if (what & 4)
		size_bytes = length_wanted(bytes);
	r = ferry_rdma_frame_decode(bytes, size_bytes, &frame, &inside, &error);
	if (r < 0) {
		ferry_assert(r == -EBADMSG || r == -EPROTO || r == -EPROTONOSUPPORT);
		ferry_assert(error.code == r && error.message[0] != '\0');
		ferry_assert(frame.kind == 0 && !inside); /* Untouched. */
		return;
	}
	lead_bytes = ferry_rdma_frame_encode(&frame, again);
	ferry_assert(memcmp(bytes, again, lead_bytes) == 0);
	if (inside)
		ferry_assert(inside == bytes + lead_bytes &&
			     lead_bytes + frame.header.payload_bytes == size_bytes);
	else
		ferry_assert(lead_bytes == size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	if (length_bytes >= 1)
		fuzz_frame(data + 1, length_bytes - 1, data[0]);
	return 0;
}
