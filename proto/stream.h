/*
 * stream.h - what moves from one store of blocks to another, as frames: BEGIN, DATA..., END.
 *
 * The warm transfer uses it (migrate/warm.c): each part is a whole stream that says what it is
 * about, brings some blocks, and says where to go on. Frames are little-endian with a CRC32C each,
 * and END has one over all that came before it; docs/wire-format.md has the layout.
 *
 * Owns:    nothing.
 * Callers: migrate/warm.c, tests/fuzz.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/error.h"

enum {
	FERRY_STREAM_MAGIC = 0x54535246, /* "FRST" */
	FERRY_STREAM_VERSION = 1,
	FERRY_STREAM_HEADER_BYTES = 16,
	FERRY_STREAM_BEGIN_BYTES = 88,
	FERRY_STREAM_DATA_BYTES = 32, /* Before the data itself. */
	FERRY_STREAM_END_BYTES = 40,
	FERRY_STREAM_DATA_BYTES_MAX = 65536, /* Of one frame's data. */
	FERRY_STREAM_FRAMES_MAX = 65536,     /* DATA frames of one stream. */
};

enum ferry_stream_kind {
	FERRY_STREAM_BEGIN = 1,
	FERRY_STREAM_DATA,
	FERRY_STREAM_END,
};

/* What the stream is about: blocks of this lun, as this owner left them under this epoch. */
struct ferry_stream_begin {
	struct ferry_uuid lun;
	struct ferry_uuid lineage;
	struct ferry_epoch epoch;
	struct ferry_node owner;
	uint32_t block_bytes;	 /* Offsets and lengths are multiples of it. */
	uint64_t write_sequence; /* Writes that the blocks have seen. */
	uint64_t incarnation;	 /* Of the sender. */
};

struct ferry_stream_data {
	uint64_t offset_bytes; /* Of the lun. */
	uint32_t length_bytes;
	uint32_t heat;
	const uint8_t *bytes; /* Within the frame. */
};

struct ferry_stream_end {
	uint64_t frames_count; /* DATA frames. */
	uint64_t cursor_next;  /* Where the next part begins; 0: there is none. */
};

struct ferry_stream_frame {
	enum ferry_stream_kind kind;
	union {
		struct ferry_stream_begin begin;
		struct ferry_stream_data data;
		struct ferry_stream_end end;
	};
};

/* One stream's beginning to end, on either side. Zero-initialise. */
struct ferry_stream {
	enum ferry_stream_kind last; /* 0: nothing yet. */
	uint32_t block_bytes;
	uint64_t frames_count;
	uint32_t crc; /* Over all frames so far. */
};

/* Append to @bytes, which has room. Returns the frame's length. Order and values are asserted. */
size_t ferry_stream_put_begin(struct ferry_stream *stream, const struct ferry_stream_begin *begin,
			      uint8_t bytes[FERRY_STREAM_BEGIN_BYTES]);
/* data->bytes may lie in @bytes already, at FERRY_STREAM_DATA_BYTES. */
size_t ferry_stream_put_data(struct ferry_stream *stream, const struct ferry_stream_data *data,
			     uint8_t *bytes);
size_t ferry_stream_put_end(struct ferry_stream *stream, uint64_t cursor_next,
			    uint8_t bytes[FERRY_STREAM_END_BYTES]);

/*
 * How long the frame is that begins with these bytes; at most FERRY_STREAM_DATA_BYTES +
 * FERRY_STREAM_DATA_BYTES_MAX. -EBADMSG: not a frame of ours; -EPROTONOSUPPORT: another version.
 */
int ferry_stream_frame_bytes(const uint8_t header[FERRY_STREAM_HEADER_BYTES],
			     struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Read the next frame of @stream, which is all of @bytes and nothing else. After an error the
 * stream is over. -EBADMSG: damaged; -EPROTO: out of order or an invalid field; @reterr says what.
 */
int ferry_stream_get(struct ferry_stream *stream, const uint8_t *bytes, size_t length_bytes,
		     struct ferry_stream_frame *ret, struct ferry_error *reterr) FERRY_MUST_CHECK;

static inline bool ferry_stream_is_complete(const struct ferry_stream *stream)
{
	return stream->last == FERRY_STREAM_END;
}
