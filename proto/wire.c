#include "proto/wire.h"

#include <inttypes.h>

#include "agent/base/checksum.h"
#include "agent/ports/io.h"
#include "proto/cursor.h"

/* Where each field lies; docs/wire-format.md says the same to people. */
enum {
	WIRE_AT_MAGIC = 0,
	WIRE_AT_VERSION = 4,
	WIRE_AT_TYPE = 6,
	WIRE_AT_PAYLOAD_BYTES = 8,
	WIRE_AT_PAYLOAD_CRC = 12,
	WIRE_AT_NODE = 16,
	WIRE_AT_OP = 20,
	WIRE_AT_INCARNATION = 24,
	WIRE_AT_LINEAGE = 32,
	WIRE_AT_EPOCH = 48,
	WIRE_AT_SEQUENCE = 56,
	WIRE_AT_FLOOR = 64,
	WIRE_AT_LUN = 72,
	WIRE_AT_LBA = 88,
	WIRE_AT_LENGTH_BLOCKS = 96,
	WIRE_AT_FLAGS = 100,
	WIRE_AT_OUTCOME = 104,
	WIRE_AT_CAUSE = 108,
	WIRE_AT_VICTIM_KEY = 112,
	WIRE_AT_CURSOR = 120,
	WIRE_AT_LOSSES = 128,
	WIRE_AT_RESERVED = 136,
	WIRE_AT_HEADER_CRC = 156,
	WIRE_RESERVED_BYTES = WIRE_AT_HEADER_CRC - WIRE_AT_RESERVED,
	WIRE_SECTOR_BYTES = 512, /* The smallest logical block. */
};

_Static_assert(WIRE_AT_HEADER_CRC + sizeof(uint32_t) == FERRY_WIRE_HEADER_BYTES, "layout");
_Static_assert(WIRE_AT_LINEAGE + sizeof(struct ferry_uuid) == WIRE_AT_EPOCH, "layout");
_Static_assert(WIRE_AT_LUN + sizeof(struct ferry_uuid) == WIRE_AT_LBA, "layout");
_Static_assert(WIRE_AT_VICTIM_KEY + sizeof(uint64_t) == WIRE_AT_CURSOR, "layout");
_Static_assert(WIRE_AT_CURSOR + sizeof(uint64_t) == WIRE_AT_LOSSES, "layout");
_Static_assert(WIRE_AT_LOSSES + sizeof(uint64_t) == WIRE_AT_RESERVED, "layout");
_Static_assert(FERRY_WIRE_PAYLOAD_BYTES_MAX % WIRE_SECTOR_BYTES == 0, "whole blocks");
/* These numbers are on the wire: a change of any of them is a new version. */
_Static_assert(FERRY_WIRE_REQUEST == 1 && FERRY_WIRE_REPLY == 2 && FERRY_WIRE_LAY == 3, "wire");
_Static_assert(FERRY_WIRE_LAY_REPLY == 4 && FERRY_WIRE_PING == 5 && FERRY_WIRE_PONG == 6, "wire");
_Static_assert(FERRY_WIRE_WARM == 7 && FERRY_WIRE_WARM_REPLY == 8, "wire");
_Static_assert(FERRY_OP_READ == 1 && FERRY_OP_WRITE == 2 && FERRY_OP_FLUSH == 3, "wire");
_Static_assert(FERRY_OP_DISCARD == 4 && FERRY_OP_WRITE_ZEROES == 5, "wire");
_Static_assert(FERRY_IO_FUA == 1 && FERRY_IO_NO_UNMAP == 2 && FERRY_IO_FLAGS_ALL == 3, "wire");
_Static_assert(FERRY_OUTCOME_DONE == 1 && FERRY_OUTCOME_UNKNOWN == 3, "wire");
_Static_assert(FERRY_CAUSE_NONE == 1 && FERRY_CAUSE_RESET == 12, "wire");
_Static_assert(FERRY_CAUSE_LOST == 13, "wire");

static int invalid_number(struct ferry_error *reterr, const char *field, uint64_t value)
{
	return ferry_error_set(reterr, -EPROTO, "message from a peer: %s is invalid: %" PRIu64,
			       field, value);
}

static int invalid(struct ferry_error *reterr, const char *what)
{
	return ferry_error_set(reterr, -EPROTO, "message from a peer: %s", what);
}

/* What names a request, and what it is about. PING and PONG name only the asking node. */
static int check_names(const struct ferry_wire_header *header, struct ferry_error *reterr)
{
	bool is_ping = header->type == FERRY_WIRE_PING || header->type == FERRY_WIRE_PONG;

	if (header->node.v == 0)
		return invalid_number(reterr, "node", 0);
	if (header->incarnation.v == 0)
		return invalid_number(reterr, "incarnation", 0);
	if (header->sequence == 0)
		return invalid_number(reterr, "sequence", 0);
	if (ferry_uuid_is_none(&header->lineage) != is_ping)
		return invalid(reterr, is_ping ? "lineage is set" : "lineage is missing");
	if ((header->epoch.v == 0) != is_ping)
		return invalid_number(reterr, "epoch", header->epoch.v);
	if (ferry_uuid_is_none(&header->lun) != is_ping)
		return invalid(reterr, is_ping ? "lun is set" : "lun is missing");
	if (header->type != FERRY_WIRE_REQUEST && header->type != FERRY_WIRE_LAY &&
	    header->type != FERRY_WIRE_WARM && header->floor != 0)
		return invalid_number(reterr, "floor", header->floor);
	if (header->floor > header->sequence) /* Its own floor would forbid it. */
		return invalid_number(reterr, "floor", header->floor);
	if ((header->victim_key != 0) != (header->type == FERRY_WIRE_LAY))
		return invalid_number(reterr, "victim key", header->victim_key);
	if (header->type != FERRY_WIRE_WARM && header->cursor != 0)
		return invalid_number(reterr, "cursor", header->cursor);
	if (header->type != FERRY_WIRE_REPLY && header->losses != 0)
		return invalid_number(reterr, "losses", header->losses);
	return 0;
}

static int check_range(const struct ferry_wire_header *header, uint32_t length_bytes_max,
		       struct ferry_error *reterr)
{
	ferry_assert(length_bytes_max >= WIRE_SECTOR_BYTES);
	if (header->length_blocks == 0)
		return invalid_number(reterr, "length", 0);
	if (header->length_blocks > length_bytes_max / WIRE_SECTOR_BYTES)
		return invalid_number(reterr, "length", header->length_blocks);
	if (header->lba.v > UINT64_MAX - header->length_blocks)
		return invalid_number(reterr, "lba", header->lba.v);
	return 0;
}

/* REQUEST and REPLY: the operation, its flags, its range. */
static int check_op(const struct ferry_wire_header *header, struct ferry_error *reterr)
{
	uint32_t flags_allowed = 0;
	uint32_t length_bytes_max = FERRY_IO_BYTES_MAX;

	switch (header->op) {
	case FERRY_OP_READ:
		break;
	case FERRY_OP_WRITE:
		flags_allowed = FERRY_IO_FUA;
		break;
	case FERRY_OP_FLUSH:
		length_bytes_max = 0;
		break;
	case FERRY_OP_DISCARD:
		length_bytes_max = FERRY_IO_RANGE_BYTES_MAX;
		break;
	case FERRY_OP_WRITE_ZEROES:
		flags_allowed = FERRY_IO_FUA | FERRY_IO_NO_UNMAP;
		length_bytes_max = FERRY_IO_RANGE_BYTES_MAX;
		break;
	default:
		return invalid_number(reterr, "operation", header->op);
	}
	if (header->flags & ~flags_allowed)
		return invalid_number(reterr, "flags", header->flags);
	if (length_bytes_max > 0)
		return check_range(header, length_bytes_max, reterr);
	if (header->lba.v != 0)
		return invalid_number(reterr, "lba of a flush", header->lba.v);
	if (header->length_blocks != 0)
		return invalid_number(reterr, "length of a flush", header->length_blocks);
	return 0;
}

/* Replies but PONG: an outcome, and a cause that can go with it (ports/io.h). */
static int check_outcome(const struct ferry_wire_header *header, struct ferry_error *reterr)
{
	bool is_cause_fitting = false;

	if (header->cause < FERRY_CAUSE_NONE || header->cause > FERRY_CAUSE_LOST)
		return invalid_number(reterr, "cause", header->cause);
	switch (header->outcome) {
	case FERRY_OUTCOME_DONE:
		is_cause_fitting = header->cause == FERRY_CAUSE_NONE;
		break;
	case FERRY_OUTCOME_FAILED: /* A passed deadline proves nothing. */
		is_cause_fitting =
			header->cause != FERRY_CAUSE_NONE && header->cause != FERRY_CAUSE_TIMEOUT;
		break;
	case FERRY_OUTCOME_UNKNOWN: /* The other causes are proofs that it is over. */
		is_cause_fitting =
			header->cause == FERRY_CAUSE_PATH || header->cause == FERRY_CAUSE_TIMEOUT ||
			header->cause == FERRY_CAUSE_RESET || header->cause == FERRY_CAUSE_LOST;
		break;
	default:
		return invalid_number(reterr, "outcome", header->outcome);
	}
	if (!is_cause_fitting)
		return invalid_number(reterr, "cause for this outcome", header->cause);
	return 0;
}

static int check_payload(const struct ferry_wire_header *header, struct ferry_error *reterr)
{
	bool is_stream =
		header->type == FERRY_WIRE_WARM_REPLY && header->outcome == FERRY_OUTCOME_DONE;
	bool must_be = is_stream ||
		       (header->type == FERRY_WIRE_REQUEST && header->op == FERRY_OP_WRITE) ||
		       (header->type == FERRY_WIRE_REPLY && header->op == FERRY_OP_READ &&
			header->outcome == FERRY_OUTCOME_DONE);

	if (!must_be && header->payload_bytes != 0)
		return invalid_number(reterr, "payload length", header->payload_bytes);
	if (!must_be && header->payload_crc != 0)
		return invalid_number(reterr, "payload checksum", header->payload_crc);
	if (!must_be)
		return 0;
	if (header->payload_bytes > FERRY_WIRE_PAYLOAD_BYTES_MAX)
		return invalid_number(reterr, "payload length", header->payload_bytes);
	if (is_stream) /* What is in it, proto/stream.c judges. */
		return header->payload_bytes > 0 ? 0 : invalid_number(reterr, "payload length", 0);
	/* That it fits the lun's block size is the carrier's to see: only it knows the lun. */
	if (header->payload_bytes == 0 || header->payload_bytes % WIRE_SECTOR_BYTES != 0)
		return invalid_number(reterr, "payload length", header->payload_bytes);
	if (header->payload_bytes / WIRE_SECTOR_BYTES < header->length_blocks)
		return invalid_number(reterr, "payload length", header->payload_bytes);
	return 0;
}

int ferry_wire_check(const struct ferry_wire_header *header, struct ferry_error *reterr)
{
	bool has_op = header->type == FERRY_WIRE_REQUEST || header->type == FERRY_WIRE_REPLY;
	bool has_outcome = header->type == FERRY_WIRE_REPLY ||
			   header->type == FERRY_WIRE_LAY_REPLY ||
			   header->type == FERRY_WIRE_WARM_REPLY;
	int r;

	ferry_assert(header);
	if (header->type < FERRY_WIRE_REQUEST || header->type > FERRY_WIRE_TYPE_LAST)
		return invalid_number(reterr, "type", header->type);
	r = check_names(header, reterr);
	if (r < 0)
		return r;
	if (has_op) {
		r = check_op(header, reterr);
		if (r < 0)
			return r;
	} else if (header->op != 0 || header->flags != 0) {
		return invalid(reterr, "operation or flags where none may be");
	} else if (header->lba.v != 0 || header->length_blocks != 0) {
		return invalid(reterr, "lba or length where none may be");
	}
	if (has_outcome) {
		r = check_outcome(header, reterr);
		if (r < 0)
			return r;
	} else if (header->outcome != 0 || header->cause != 0) {
		return invalid(reterr, "outcome or cause where none may be");
	}
	return check_payload(header, reterr);
}

void ferry_wire_encode(const struct ferry_wire_header *header, uint8_t ret[FERRY_WIRE_HEADER_BYTES])
{
	struct ferry_writer writer = ferry_writer_make(ret, FERRY_WIRE_HEADER_BYTES);

	ferry_assert(ret);
	ferry_assert(ferry_wire_check(header, NULL) == 0);
	ferry_writer_u32(&writer, FERRY_WIRE_MAGIC);
	ferry_writer_u16(&writer, FERRY_WIRE_VERSION);
	ferry_writer_u16(&writer, (uint16_t)header->type);
	ferry_writer_u32(&writer, header->payload_bytes);
	ferry_writer_u32(&writer, header->payload_crc);
	ferry_writer_u32(&writer, header->node.v);
	ferry_writer_u32(&writer, header->op);
	ferry_writer_u64(&writer, header->incarnation.v);
	ferry_writer_bytes(&writer, header->lineage.bytes, sizeof(header->lineage.bytes));
	ferry_writer_u64(&writer, header->epoch.v);
	ferry_writer_u64(&writer, header->sequence);
	ferry_writer_u64(&writer, header->floor);
	ferry_writer_bytes(&writer, header->lun.bytes, sizeof(header->lun.bytes));
	ferry_writer_u64(&writer, header->lba.v);
	ferry_writer_u32(&writer, header->length_blocks);
	ferry_writer_u32(&writer, header->flags);
	ferry_writer_u32(&writer, header->outcome);
	ferry_writer_u32(&writer, header->cause);
	ferry_writer_u64(&writer, header->victim_key);
	ferry_writer_u64(&writer, header->cursor);
	ferry_writer_u64(&writer, header->losses);
	ferry_writer_zeroes(&writer, WIRE_RESERVED_BYTES);
	ferry_assert(writer.offset_bytes == WIRE_AT_HEADER_CRC);
	ferry_writer_u32(&writer, ferry_crc32c(0, ret, WIRE_AT_HEADER_CRC));
}

/* Read the fields after the version; the checksum has been found good. */
static bool decode_fields(struct ferry_reader *reader, struct ferry_wire_header *header)
{
	ferry_assert(reader->offset_bytes == WIRE_AT_TYPE);
	header->type = (enum ferry_wire_type)ferry_reader_u16(reader);
	header->payload_bytes = ferry_reader_u32(reader);
	header->payload_crc = ferry_reader_u32(reader);
	header->node.v = ferry_reader_u32(reader);
	header->op = ferry_reader_u32(reader);
	header->incarnation.v = ferry_reader_u64(reader);
	ferry_reader_bytes(reader, header->lineage.bytes, sizeof(header->lineage.bytes));
	header->epoch.v = ferry_reader_u64(reader);
	header->sequence = ferry_reader_u64(reader);
	header->floor = ferry_reader_u64(reader);
	ferry_reader_bytes(reader, header->lun.bytes, sizeof(header->lun.bytes));
	header->lba.v = ferry_reader_u64(reader);
	header->length_blocks = ferry_reader_u32(reader);
	header->flags = ferry_reader_u32(reader);
	header->outcome = ferry_reader_u32(reader);
	header->cause = ferry_reader_u32(reader);
	header->victim_key = ferry_reader_u64(reader);
	header->cursor = ferry_reader_u64(reader);
	header->losses = ferry_reader_u64(reader);
	ferry_assert(reader->offset_bytes == WIRE_AT_RESERVED);
	return ferry_reader_zeroes(reader, WIRE_RESERVED_BYTES);
}

int ferry_wire_decode(const uint8_t bytes[FERRY_WIRE_HEADER_BYTES], struct ferry_wire_header *ret,
		      struct ferry_error *reterr)
{
	struct ferry_reader reader = ferry_reader_make(bytes, FERRY_WIRE_HEADER_BYTES);
	struct ferry_reader tail = ferry_reader_make(bytes, FERRY_WIRE_HEADER_BYTES);
	struct ferry_wire_header header = {};
	uint32_t version;
	bool is_reserved_zero;
	int r;

	ferry_assert(bytes && ret);
	if (ferry_reader_u32(&reader) != FERRY_WIRE_MAGIC)
		return ferry_error_set(reterr, -EBADMSG,
				       "message from a peer: it does not begin as one of ours");
	(void)ferry_reader_take(&tail, WIRE_AT_HEADER_CRC); /* It is there: the size is fixed. */
	if (ferry_reader_u32(&tail) != ferry_crc32c(0, bytes, WIRE_AT_HEADER_CRC))
		return ferry_error_set(reterr, -EBADMSG,
				       "message from a peer: the header's checksum is wrong");
	version = ferry_reader_u16(&reader);
	if (version != FERRY_WIRE_VERSION)
		return ferry_error_set(reterr, -EPROTONOSUPPORT,
				       "message from a peer: version %" PRIu32 ", we speak %d",
				       version, FERRY_WIRE_VERSION);
	is_reserved_zero = decode_fields(&reader, &header);
	ferry_assert(!reader.has_failed);
	if (!is_reserved_zero)
		return invalid(reterr, "reserved bytes are set");
	r = ferry_wire_check(&header, reterr);
	if (r < 0)
		return r;
	*ret = header;
	return 0;
}

bool ferry_wire_is_between(const struct ferry_wire_header *header,
			   const struct ferry_wire_end *self, const struct ferry_wire_end *peer)
{
	bool is_asking = header->type == FERRY_WIRE_REQUEST || header->type == FERRY_WIRE_LAY ||
			 header->type == FERRY_WIRE_WARM || header->type == FERRY_WIRE_PING;
	const struct ferry_wire_end *asker = is_asking ? peer : self;

	ferry_assert(self->node.v > 0 && peer->node.v > 0);
	return header->node.v == asker->node.v && header->incarnation.v == asker->incarnation.v;
}
