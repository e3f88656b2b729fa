#include "proto/rdma_frame.h"

#include <inttypes.h>

#include "agent/base/checksum.h"
#include "proto/cursor.h"

enum {
	CRC_AT = 12,
	CRC_END = CRC_AT + 4,
	RESERVED_BYTES = 8,
	PIECES_AT = FERRY_RDMA_HEAD_BYTES + FERRY_WIRE_HEADER_BYTES,
};
_Static_assert(4 + 2 + 2 + 4 + 4 + 8 + RESERVED_BYTES == FERRY_RDMA_HEAD_BYTES, "layout");
_Static_assert(FERRY_RDMA_PIECES_MAX <= UINT16_MAX, "layout");

static uint64_t pieces_length(const struct ferry_rdma_frame *frame)
{
	uint64_t length_bytes = 0;

	for (uint32_t i = 0; i < frame->pieces_count; i++)
		length_bytes += frame->pieces[i].length_bytes;
	return length_bytes;
}

static int pieces_check(const struct ferry_rdma_frame *frame, struct ferry_error *reterr)
{
	bool has_pieces = frame->kind == FERRY_RDMA_OFFER || frame->kind == FERRY_RDMA_ROOM;

	if (frame->pieces_count > FERRY_RDMA_PIECES_MAX || has_pieces != (frame->pieces_count > 0))
		return ferry_error_set(reterr, -EPROTO, "frame from a peer: %" PRIu32 " pieces",
				       frame->pieces_count);
	for (uint32_t i = 0; i < frame->pieces_count; i++) {
		const struct ferry_rdma_piece *piece = &frame->pieces[i];

		if (piece->length_bytes == 0 || piece->length_bytes > FERRY_IO_BYTES_MAX ||
		    piece->address > UINT64_MAX - piece->length_bytes)
			return ferry_error_set(reterr, -EPROTO,
					       "frame from a peer: a piece that cannot be");
	}
	return 0;
}

/* What of a message goes with what kind of frame. */
static bool header_fits(const struct ferry_rdma_frame *frame)
{
	const struct ferry_wire_header *header = &frame->header;
	bool is_large = header->payload_bytes > FERRY_RDMA_INLINE_BYTES_MAX;

	switch (frame->kind) {
	case FERRY_RDMA_CREDIT:
		return true;
	case FERRY_RDMA_MESSAGE:
		return !is_large;
	case FERRY_RDMA_OFFER:
		return is_large && pieces_length(frame) == header->payload_bytes;
	case FERRY_RDMA_ROOM:
		return header->payload_bytes == 0 &&
		       (header->type == FERRY_WIRE_REQUEST || header->type == FERRY_WIRE_WARM) &&
		       pieces_length(frame) <= FERRY_IO_BYTES_MAX;
	case FERRY_RDMA_PLACED:
		return is_large &&
		       (header->type == FERRY_WIRE_REPLY || header->type == FERRY_WIRE_WARM_REPLY);
	}
	return false;
}

static int frame_check(const struct ferry_rdma_frame *frame, struct ferry_error *reterr)
{
	int r;

	if (frame->kind < FERRY_RDMA_CREDIT || frame->kind > FERRY_RDMA_KIND_LAST)
		return ferry_error_set(reterr, -EPROTO, "frame from a peer: unknown kind %u",
				       frame->kind);
	if (frame->credits > FERRY_RDMA_CREDITS_MAX)
		return ferry_error_set(reterr, -EPROTO, "frame from a peer: %" PRIu32 " credits",
				       frame->credits);
	r = pieces_check(frame, reterr);
	if (r < 0)
		return r;
	if (!header_fits(frame))
		return ferry_error_set(reterr, -EPROTO,
				       "frame from a peer: kind %u does not fit its message",
				       frame->kind);
	return 0;
}

/* Of the head and the pieces; the message has its own. */
static uint32_t frame_crc(const uint8_t *bytes, uint32_t pieces_count)
{
	uint32_t crc = ferry_crc32c(0, bytes, CRC_AT);

	crc = ferry_crc32c(crc, bytes + CRC_END, FERRY_RDMA_HEAD_BYTES - CRC_END);
	if (pieces_count > 0)
		crc = ferry_crc32c(crc, bytes + PIECES_AT,
				   (size_t)pieces_count * FERRY_RDMA_PIECE_BYTES);
	return crc;
}

uint32_t ferry_rdma_frame_encode(const struct ferry_rdma_frame *frame,
				 uint8_t ret[FERRY_RDMA_LEAD_BYTES_MAX])
{
	struct ferry_writer writer = ferry_writer_make(ret, FERRY_RDMA_LEAD_BYTES_MAX);
	struct ferry_writer crc;

	ferry_assert(frame_check(frame, NULL) == 0);
	ferry_writer_u32(&writer, FERRY_RDMA_FRAME_MAGIC);
	ferry_writer_u16(&writer, (uint16_t)frame->kind);
	ferry_writer_u16(&writer, (uint16_t)frame->pieces_count);
	ferry_writer_u32(&writer, frame->credits);
	crc = ferry_writer_make(ferry_writer_take(&writer, sizeof(uint32_t)), sizeof(uint32_t));
	ferry_writer_u64(&writer, frame->taken);
	ferry_writer_zeroes(&writer, RESERVED_BYTES);
	if (frame->kind != FERRY_RDMA_CREDIT)
		ferry_wire_encode(&frame->header,
				  ferry_writer_take(&writer, FERRY_WIRE_HEADER_BYTES));
	for (uint32_t i = 0; i < frame->pieces_count; i++) {
		ferry_writer_u64(&writer, frame->pieces[i].address);
		ferry_writer_u32(&writer, frame->pieces[i].key);
		ferry_writer_u32(&writer, frame->pieces[i].length_bytes);
	}
	ferry_writer_u32(&crc, frame_crc(ret, frame->pieces_count));
	return (uint32_t)writer.offset_bytes;
}

/* The length that a frame of this kind has. */
static uint64_t frame_length(const struct ferry_rdma_frame *frame)
{
	uint64_t length_bytes = FERRY_RDMA_HEAD_BYTES;

	if (frame->kind == FERRY_RDMA_CREDIT)
		return length_bytes;
	length_bytes += FERRY_WIRE_HEADER_BYTES;
	if (frame->kind == FERRY_RDMA_MESSAGE)
		length_bytes += frame->header.payload_bytes;
	return length_bytes + (uint64_t)frame->pieces_count * FERRY_RDMA_PIECE_BYTES;
}

static int body_decode(struct ferry_reader *reader, struct ferry_rdma_frame *frame,
		       struct ferry_error *reterr)
{
	const uint8_t *header = ferry_reader_take(reader, FERRY_WIRE_HEADER_BYTES);
	int r;

	if (!header)
		return ferry_error_set(reterr, -EPROTO, "frame from a peer: it is too short");
	r = ferry_wire_decode(header, &frame->header, reterr);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < frame->pieces_count; i++) {
		frame->pieces[i].address = ferry_reader_u64(reader);
		frame->pieces[i].key = ferry_reader_u32(reader);
		frame->pieces[i].length_bytes = ferry_reader_u32(reader);
	}
	return 0;
}

int ferry_rdma_frame_decode(const uint8_t *bytes, size_t length_bytes, struct ferry_rdma_frame *ret,
			    const uint8_t **ret_data, struct ferry_error *reterr)
{
	struct ferry_reader reader = ferry_reader_make(bytes, length_bytes);
	struct ferry_rdma_frame frame = {};
	bool reserved_is_zero;
	uint32_t magic, crc;
	int r = 0;

	ferry_assert(bytes && ret && ret_data);
	magic = ferry_reader_u32(&reader);
	frame.kind = (enum ferry_rdma_kind)ferry_reader_u16(&reader);
	frame.pieces_count = ferry_reader_u16(&reader);
	frame.credits = ferry_reader_u32(&reader);
	crc = ferry_reader_u32(&reader);
	frame.taken = ferry_reader_u64(&reader);
	reserved_is_zero = ferry_reader_zeroes(&reader, RESERVED_BYTES);
	if (reader.has_failed || magic != FERRY_RDMA_FRAME_MAGIC)
		return ferry_error_set(reterr, -EBADMSG, "frame from a peer: it is none");
	if (frame.pieces_count > FERRY_RDMA_PIECES_MAX ||
	    (frame.pieces_count > 0 &&
	     length_bytes != PIECES_AT + (size_t)frame.pieces_count * FERRY_RDMA_PIECE_BYTES))
		return ferry_error_set(reterr, -EPROTO,
				       "frame from a peer: not as long as it says");
	if (frame_crc(bytes, frame.pieces_count) != crc)
		return ferry_error_set(reterr, -EBADMSG, "frame from a peer: it is damaged");
	if (frame.kind != FERRY_RDMA_CREDIT)
		r = body_decode(&reader, &frame, reterr);
	if (r == 0 && !reserved_is_zero)
		r = ferry_error_set(reterr, -EPROTO, "frame from a peer: reserved is not zero");
	if (r == 0)
		r = frame_check(&frame, reterr);
	if (r == 0 && length_bytes != frame_length(&frame))
		r = ferry_error_set(reterr, -EPROTO, "frame from a peer: not as long as it says");
	if (r < 0)
		return r;
	*ret = frame;
	*ret_data = frame.kind == FERRY_RDMA_MESSAGE && frame.header.payload_bytes > 0
			    ? bytes + PIECES_AT
			    : NULL;
	return 0;
}
