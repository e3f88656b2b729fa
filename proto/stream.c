#include "proto/stream.h"

#include <inttypes.h>

#include "agent/base/checksum.h"
#include "proto/cursor.h"

enum {
	STREAM_AT_CRC = 12,
	STREAM_SECTOR_BYTES = 512,
	STREAM_FAILED = 99, /* stream->last after an error: nothing may follow. */
};

_Static_assert(STREAM_AT_CRC + sizeof(uint32_t) == FERRY_STREAM_HEADER_BYTES, "layout");
/* These numbers are on the wire: a change of any of them is a new version. */
_Static_assert(FERRY_STREAM_BEGIN == 1 && FERRY_STREAM_DATA == 2 && FERRY_STREAM_END == 3, "wire");

/* All of the frame but the checksum itself. */
static uint32_t frame_crc(const uint8_t *bytes, size_t length_bytes)
{
	uint32_t crc = ferry_crc32c(0, bytes, STREAM_AT_CRC);

	return ferry_crc32c(crc, bytes + FERRY_STREAM_HEADER_BYTES,
			    length_bytes - FERRY_STREAM_HEADER_BYTES);
}

/* ---- Writing. ---- */

static struct ferry_writer frame_begin(uint8_t *bytes, enum ferry_stream_kind kind,
				       size_t length_bytes)
{
	struct ferry_writer writer = ferry_writer_make(bytes, length_bytes);

	ferry_assert(length_bytes <= UINT32_MAX);
	ferry_writer_u32(&writer, FERRY_STREAM_MAGIC);
	ferry_writer_u16(&writer, FERRY_STREAM_VERSION);
	ferry_writer_u16(&writer, (uint16_t)kind);
	ferry_writer_u32(&writer, (uint32_t)length_bytes);
	ferry_writer_u32(&writer, 0); /* The checksum's place. */
	return writer;
}

static size_t frame_end(struct ferry_stream *stream, enum ferry_stream_kind kind, uint8_t *bytes,
			size_t length_bytes)
{
	struct ferry_writer writer = ferry_writer_make(bytes + STREAM_AT_CRC, sizeof(uint32_t));

	ferry_writer_u32(&writer, frame_crc(bytes, length_bytes));
	stream->last = kind;
	stream->crc = ferry_crc32c(stream->crc, bytes, length_bytes);
	return length_bytes;
}

size_t ferry_stream_put_begin(struct ferry_stream *stream, const struct ferry_stream_begin *begin,
			      uint8_t bytes[FERRY_STREAM_BEGIN_BYTES])
{
	struct ferry_writer writer =
		frame_begin(bytes, FERRY_STREAM_BEGIN, FERRY_STREAM_BEGIN_BYTES);

	ferry_assert(stream->last == 0);
	ferry_assert(begin->block_bytes >= STREAM_SECTOR_BYTES);
	ferry_writer_bytes(&writer, begin->lun.bytes, sizeof(begin->lun.bytes));
	ferry_writer_bytes(&writer, begin->lineage.bytes, sizeof(begin->lineage.bytes));
	ferry_writer_u64(&writer, begin->epoch.v);
	ferry_writer_u32(&writer, begin->owner.v);
	ferry_writer_u32(&writer, begin->block_bytes);
	ferry_writer_u64(&writer, begin->write_sequence);
	ferry_writer_u64(&writer, begin->incarnation);
	ferry_writer_u64(&writer, 0);
	ferry_assert(writer.offset_bytes == FERRY_STREAM_BEGIN_BYTES);
	stream->block_bytes = begin->block_bytes;
	return frame_end(stream, FERRY_STREAM_BEGIN, bytes, FERRY_STREAM_BEGIN_BYTES);
}

size_t ferry_stream_put_data(struct ferry_stream *stream, const struct ferry_stream_data *data,
			     uint8_t *bytes)
{
	size_t length_bytes = FERRY_STREAM_DATA_BYTES + (size_t)data->length_bytes;
	struct ferry_writer writer = frame_begin(bytes, FERRY_STREAM_DATA, length_bytes);

	ferry_assert(stream->last == FERRY_STREAM_BEGIN || stream->last == FERRY_STREAM_DATA);
	ferry_assert(stream->frames_count < FERRY_STREAM_FRAMES_MAX);
	ferry_assert(data->length_bytes > 0 && data->length_bytes <= FERRY_STREAM_DATA_BYTES_MAX);
	ferry_assert(data->offset_bytes % stream->block_bytes == 0);
	ferry_assert(data->length_bytes % stream->block_bytes == 0);
	ferry_writer_u64(&writer, data->offset_bytes);
	ferry_writer_u32(&writer, data->length_bytes);
	ferry_writer_u32(&writer, data->heat);
	ferry_assert(writer.offset_bytes == FERRY_STREAM_DATA_BYTES);
	memmove(ferry_writer_take(&writer, data->length_bytes), data->bytes, data->length_bytes);
	stream->frames_count++;
	return frame_end(stream, FERRY_STREAM_DATA, bytes, length_bytes);
}

size_t ferry_stream_put_end(struct ferry_stream *stream, uint64_t cursor_next,
			    uint8_t bytes[FERRY_STREAM_END_BYTES])
{
	struct ferry_writer writer = frame_begin(bytes, FERRY_STREAM_END, FERRY_STREAM_END_BYTES);

	ferry_assert(stream->last == FERRY_STREAM_BEGIN || stream->last == FERRY_STREAM_DATA);
	ferry_writer_u64(&writer, stream->frames_count);
	ferry_writer_u64(&writer, cursor_next);
	ferry_writer_u32(&writer, stream->crc);
	ferry_writer_u32(&writer, 0);
	ferry_assert(writer.offset_bytes == FERRY_STREAM_END_BYTES);
	return frame_end(stream, FERRY_STREAM_END, bytes, FERRY_STREAM_END_BYTES);
}

/* ---- Reading. ---- */

static int invalid(struct ferry_error *reterr, const char *field, uint64_t value)
{
	return ferry_error_set(reterr, -EPROTO, "stream: %s is invalid: %" PRIu64, field, value);
}

static int get_begin(struct ferry_stream *stream, struct ferry_reader *reader,
		     struct ferry_stream_begin *begin, struct ferry_error *reterr)
{
	ferry_reader_bytes(reader, begin->lun.bytes, sizeof(begin->lun.bytes));
	ferry_reader_bytes(reader, begin->lineage.bytes, sizeof(begin->lineage.bytes));
	begin->epoch.v = ferry_reader_u64(reader);
	begin->owner.v = ferry_reader_u32(reader);
	begin->block_bytes = ferry_reader_u32(reader);
	begin->write_sequence = ferry_reader_u64(reader);
	begin->incarnation = ferry_reader_u64(reader);
	if (!ferry_reader_zeroes(reader, sizeof(uint64_t)))
		return invalid(reterr, "reserved", 1);
	if (ferry_uuid_is_none(&begin->lun) || ferry_uuid_is_none(&begin->lineage))
		return invalid(reterr, "lun or lineage", 0);
	if (begin->epoch.v == 0)
		return invalid(reterr, "epoch", 0);
	if (begin->owner.v == 0)
		return invalid(reterr, "owner", 0);
	if (begin->incarnation == 0)
		return invalid(reterr, "incarnation", 0);
	if (begin->block_bytes < STREAM_SECTOR_BYTES ||
	    begin->block_bytes > FERRY_STREAM_DATA_BYTES_MAX ||
	    (begin->block_bytes & (begin->block_bytes - 1)) != 0)
		return invalid(reterr, "block size", begin->block_bytes);
	stream->block_bytes = begin->block_bytes;
	return 0;
}

static int get_data(struct ferry_stream *stream, struct ferry_reader *reader,
		    struct ferry_stream_data *data, struct ferry_error *reterr)
{
	data->offset_bytes = ferry_reader_u64(reader);
	data->length_bytes = ferry_reader_u32(reader);
	data->heat = ferry_reader_u32(reader);
	if (data->length_bytes == 0 || data->length_bytes % stream->block_bytes != 0 ||
	    data->length_bytes != ferry_reader_left(reader))
		return invalid(reterr, "length", data->length_bytes);
	if (data->offset_bytes % stream->block_bytes != 0 ||
	    data->offset_bytes > UINT64_MAX - data->length_bytes)
		return invalid(reterr, "offset", data->offset_bytes);
	data->bytes = ferry_reader_take(reader, data->length_bytes);
	if (stream->frames_count >= FERRY_STREAM_FRAMES_MAX)
		return invalid(reterr, "number of frames", stream->frames_count);
	stream->frames_count++;
	return 0;
}

static int get_end(struct ferry_stream *stream, struct ferry_reader *reader,
		   struct ferry_stream_end *end, struct ferry_error *reterr)
{
	uint32_t crc;

	end->frames_count = ferry_reader_u64(reader);
	end->cursor_next = ferry_reader_u64(reader);
	crc = ferry_reader_u32(reader);
	if (!ferry_reader_zeroes(reader, sizeof(uint32_t)))
		return invalid(reterr, "reserved", 1);
	if (end->frames_count != stream->frames_count)
		return invalid(reterr, "number of frames", end->frames_count);
	if (crc != stream->crc)
		return ferry_error_set(reterr, -EBADMSG, "stream: the whole's checksum is wrong");
	return 0;
}

int ferry_stream_frame_bytes(const uint8_t header[FERRY_STREAM_HEADER_BYTES],
			     struct ferry_error *reterr)
{
	struct ferry_reader reader = ferry_reader_make(header, FERRY_STREAM_HEADER_BYTES);
	uint32_t magic = ferry_reader_u32(&reader);
	uint16_t version = ferry_reader_u16(&reader);
	uint16_t kind = ferry_reader_u16(&reader);
	uint32_t length_bytes = ferry_reader_u32(&reader);
	bool is_fitting;

	ferry_assert(header);
	if (magic != FERRY_STREAM_MAGIC)
		return ferry_error_set(reterr, -EBADMSG, "stream: not a frame of ours");
	if (version != FERRY_STREAM_VERSION)
		return ferry_error_set(reterr, -EPROTONOSUPPORT, "stream: version %u, we speak %d",
				       version, FERRY_STREAM_VERSION);
	is_fitting = (kind == FERRY_STREAM_BEGIN && length_bytes == FERRY_STREAM_BEGIN_BYTES) ||
		     (kind == FERRY_STREAM_END && length_bytes == FERRY_STREAM_END_BYTES) ||
		     (kind == FERRY_STREAM_DATA && length_bytes > FERRY_STREAM_DATA_BYTES &&
		      length_bytes <= FERRY_STREAM_DATA_BYTES + FERRY_STREAM_DATA_BYTES_MAX);
	if (!is_fitting)
		return ferry_error_set(reterr, -EBADMSG, "stream: a frame of kind %u, length %u",
				       kind, length_bytes);
	return (int)length_bytes;
}

static int frame_get(struct ferry_stream *stream, const uint8_t *bytes, size_t length_bytes,
		     struct ferry_stream_frame *frame, struct ferry_error *reterr)
{
	struct ferry_reader reader = ferry_reader_make(bytes, length_bytes);
	bool is_in_order;
	uint32_t crc;
	int r;

	if (length_bytes < FERRY_STREAM_HEADER_BYTES)
		return ferry_error_set(reterr, -EBADMSG, "stream: it ends within a frame");
	r = ferry_stream_frame_bytes(bytes, reterr);
	if (r < 0)
		return r;
	if ((size_t)r != length_bytes)
		return ferry_error_set(reterr, -EBADMSG, "stream: it ends within a frame");
	(void)ferry_reader_take(&reader, 6); /* Magic and version: looked at. */
	frame->kind = (enum ferry_stream_kind)ferry_reader_u16(&reader);
	(void)ferry_reader_u32(&reader); /* Its length: likewise. */
	crc = ferry_reader_u32(&reader);
	if (crc != frame_crc(bytes, length_bytes))
		return ferry_error_set(reterr, -EBADMSG, "stream: a frame's checksum is wrong");
	is_in_order = frame->kind == FERRY_STREAM_BEGIN ? stream->last == 0
							: stream->last == FERRY_STREAM_BEGIN ||
								  stream->last == FERRY_STREAM_DATA;
	if (!is_in_order)
		return invalid(reterr, "order of frames: kind", frame->kind);
	if (frame->kind == FERRY_STREAM_BEGIN)
		return get_begin(stream, &reader, &frame->begin, reterr);
	if (frame->kind == FERRY_STREAM_DATA)
		return get_data(stream, &reader, &frame->data, reterr);
	return get_end(stream, &reader, &frame->end, reterr);
}

int ferry_stream_get(struct ferry_stream *stream, const uint8_t *bytes, size_t length_bytes,
		     struct ferry_stream_frame *ret, struct ferry_error *reterr)
{
	struct ferry_stream_frame frame = {};
	int r;

	ferry_assert(stream && ret);
	ferry_assert(bytes || length_bytes == 0);
	r = frame_get(stream, bytes, length_bytes, &frame, reterr);
	if (r < 0) {
		stream->last = (enum ferry_stream_kind)STREAM_FAILED;
		return r;
	}
	stream->last = frame.kind;
	stream->crc = ferry_crc32c(stream->crc, bytes, length_bytes);
	*ret = frame;
	return 0;
}
