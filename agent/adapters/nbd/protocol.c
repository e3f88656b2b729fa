#include "agent/adapters/nbd/protocol.h"

#include <endian.h>

#include "agent/base/arena.h"

enum {
	REPLY_FLAG_DONE = 1,
	REPLY_OFFSET_DATA = 1,
	REPLY_BLOCK_STATUS = 5,
	REPLY_ERROR = (1 << 15) + 1,
};

const uint8_t *ferry_nbd_read_bytes(struct ferry_nbd_reader *reader, uint32_t length_bytes)
{
	const uint8_t *bytes;

	ferry_assert(reader);
	if (reader->has_failed || length_bytes > reader->left_bytes) {
		reader->has_failed = true;
		return NULL;
	}
	bytes = reader->bytes;
	reader->bytes += length_bytes;
	reader->left_bytes -= length_bytes;
	return bytes;
}

uint16_t ferry_nbd_read_u16(struct ferry_nbd_reader *reader)
{
	const uint8_t *bytes = ferry_nbd_read_bytes(reader, sizeof(uint16_t));
	uint16_t value;

	if (!bytes)
		return 0;
	memcpy(&value, bytes, sizeof(value));
	return be16toh(value);
}

uint32_t ferry_nbd_read_u32(struct ferry_nbd_reader *reader)
{
	const uint8_t *bytes = ferry_nbd_read_bytes(reader, sizeof(uint32_t));
	uint32_t value;

	if (!bytes)
		return 0;
	memcpy(&value, bytes, sizeof(value));
	return be32toh(value);
}

uint64_t ferry_nbd_read_u64(struct ferry_nbd_reader *reader)
{
	const uint8_t *bytes = ferry_nbd_read_bytes(reader, sizeof(uint64_t));
	uint64_t value;

	if (!bytes)
		return 0;
	memcpy(&value, bytes, sizeof(value));
	return be64toh(value);
}

void ferry_nbd_write_bytes(struct ferry_nbd_writer *writer, const void *bytes,
			   uint32_t length_bytes)
{
	ferry_assert(writer && writer->used_bytes <= writer->size_bytes);
	ferry_assert(length_bytes <= writer->size_bytes - writer->used_bytes);
	if (length_bytes > 0)
		memcpy(writer->bytes + writer->used_bytes, bytes, length_bytes);
	writer->used_bytes += length_bytes;
}

void ferry_nbd_write_u16(struct ferry_nbd_writer *writer, uint16_t value)
{
	value = htobe16(value);
	ferry_nbd_write_bytes(writer, &value, sizeof(value));
}

void ferry_nbd_write_u32(struct ferry_nbd_writer *writer, uint32_t value)
{
	value = htobe32(value);
	ferry_nbd_write_bytes(writer, &value, sizeof(value));
}

void ferry_nbd_write_u64(struct ferry_nbd_writer *writer, uint64_t value)
{
	value = htobe64(value);
	ferry_nbd_write_bytes(writer, &value, sizeof(value));
}

int ferry_nbd_option_decode(const uint8_t bytes[FERRY_NBD_OPTION_HEADER_BYTES],
			    struct ferry_nbd_option *ret)
{
	struct ferry_nbd_reader reader = {.bytes = bytes,
					  .left_bytes = FERRY_NBD_OPTION_HEADER_BYTES};
	struct ferry_nbd_option option;

	ferry_assert(bytes && ret);
	if (ferry_nbd_read_u64(&reader) != FERRY_NBD_OPTION_MAGIC)
		return -EBADMSG;
	option.option = ferry_nbd_read_u32(&reader);
	option.length_bytes = ferry_nbd_read_u32(&reader);
	ferry_assert(!reader.has_failed && reader.left_bytes == 0);
	*ret = option;
	return 0;
}

int ferry_nbd_request_decode(const uint8_t bytes[FERRY_NBD_REQUEST_BYTES],
			     struct ferry_nbd_request *ret)
{
	struct ferry_nbd_reader reader = {.bytes = bytes, .left_bytes = FERRY_NBD_REQUEST_BYTES};
	struct ferry_nbd_request request;

	ferry_assert(bytes && ret);
	if (ferry_nbd_read_u32(&reader) != FERRY_NBD_REQUEST_MAGIC)
		return -EBADMSG;
	request.flags = ferry_nbd_read_u16(&reader);
	request.command = ferry_nbd_read_u16(&reader);
	request.cookie = ferry_nbd_read_u64(&reader);
	request.offset_bytes = ferry_nbd_read_u64(&reader);
	request.length_bytes = ferry_nbd_read_u32(&reader);
	ferry_assert(!reader.has_failed && reader.left_bytes == 0);
	*ret = request;
	return 0;
}

/* Which command flags @command may carry; FUA is tolerated, without effect, where nothing is
 * written: libnbd and others send it freely. */
static uint32_t command_flags(uint16_t command, bool has_structured)
{
	switch (command) {
	case FERRY_NBD_CMD_READ:
		return FERRY_NBD_CMD_FUA | (has_structured ? FERRY_NBD_CMD_DF : 0);
	case FERRY_NBD_CMD_WRITE_ZEROES:
		return FERRY_NBD_CMD_FUA | FERRY_NBD_CMD_NO_HOLE;
	case FERRY_NBD_CMD_BLOCK_STATUS:
		return FERRY_NBD_CMD_FUA | FERRY_NBD_CMD_REQ_ONE;
	default:
		return FERRY_NBD_CMD_FUA;
	}
}

static uint32_t range_check(const struct ferry_nbd_request *request,
			    const struct ferry_nbd_shape *shape, bool is_write)
{
	const uint32_t beyond = is_write ? FERRY_NBD_ENOSPC : FERRY_NBD_EINVAL;

	ferry_assert(shape->block_bytes > 0);
	ferry_assert(shape->size_bytes % shape->block_bytes == 0);
	if (request->length_bytes == 0)
		return FERRY_NBD_EINVAL;
	if (request->offset_bytes % shape->block_bytes != 0 ||
	    request->length_bytes % shape->block_bytes != 0)
		return FERRY_NBD_EINVAL;
	if (request->offset_bytes > shape->size_bytes ||
	    request->length_bytes > shape->size_bytes - request->offset_bytes)
		return beyond;
	return 0;
}

uint32_t ferry_nbd_request_check(const struct ferry_nbd_request *request,
				 const struct ferry_nbd_shape *shape, bool has_structured,
				 bool has_allocation)
{
	const bool is_writable = !(shape->flags & FERRY_NBD_READ_ONLY);

	ferry_assert(request);
	ferry_assert(shape && shape->name);
	if (request->flags & ~command_flags(request->command, has_structured))
		return request->command == FERRY_NBD_CMD_DISC ? 0 : FERRY_NBD_EINVAL;
	switch (request->command) {
	case FERRY_NBD_CMD_DISC:
		return 0;
	case FERRY_NBD_CMD_READ:
		if (request->length_bytes > FERRY_IO_BYTES_MAX)
			return FERRY_NBD_EINVAL;
		return range_check(request, shape, /* is_write= */ false);
	case FERRY_NBD_CMD_WRITE:
		if (!is_writable)
			return FERRY_NBD_EPERM;
		if (request->length_bytes > FERRY_IO_BYTES_MAX)
			return FERRY_NBD_EINVAL;
		return range_check(request, shape, /* is_write= */ true);
	case FERRY_NBD_CMD_FLUSH:
		if (request->offset_bytes != 0 || request->length_bytes != 0)
			return FERRY_NBD_EINVAL;
		return 0;
	case FERRY_NBD_CMD_TRIM:
		if (!is_writable)
			return FERRY_NBD_EPERM;
		if (!(shape->flags & FERRY_NBD_SEND_TRIM))
			return FERRY_NBD_EINVAL;
		return range_check(request, shape, /* is_write= */ false);
	case FERRY_NBD_CMD_WRITE_ZEROES:
		if (!is_writable)
			return FERRY_NBD_EPERM;
		return range_check(request, shape, /* is_write= */ true);
	case FERRY_NBD_CMD_BLOCK_STATUS:
		if (!has_allocation)
			return FERRY_NBD_EINVAL;
		return range_check(request, shape, /* is_write= */ false);
	default:
		return FERRY_NBD_EINVAL;
	}
}

uint32_t ferry_nbd_error_from_errno(int error)
{
	ferry_assert(error <= 0);
	switch (-error) {
	case 0:
		return 0;
	case ENOSPC:
		return FERRY_NBD_ENOSPC;
	case ESHUTDOWN:
		return FERRY_NBD_ESHUTDOWN;
	case EROFS:
	case EPERM:
		return FERRY_NBD_EPERM;
	case EINVAL:
	case ERANGE:
	case EOPNOTSUPP:
		return FERRY_NBD_EINVAL;
	default: /* The protocol has no word for a timeout. */
		return FERRY_NBD_EIO;
	}
}

static void chunk_encode(struct ferry_nbd_writer *writer, uint16_t type, uint64_t cookie,
			 uint32_t length_bytes)
{
	ferry_nbd_write_u32(writer, FERRY_NBD_STRUCTURED_REPLY_MAGIC);
	ferry_nbd_write_u16(writer, REPLY_FLAG_DONE);
	ferry_nbd_write_u16(writer, type);
	ferry_nbd_write_u64(writer, cookie);
	ferry_nbd_write_u32(writer, length_bytes);
}

uint32_t ferry_nbd_reply_encode(const struct ferry_nbd_request *request, bool has_structured,
				uint32_t error, uint8_t ret[FERRY_NBD_REPLY_HEADER_BYTES_MAX])
{
	struct ferry_nbd_writer writer = {.bytes = ret,
					  .size_bytes = FERRY_NBD_REPLY_HEADER_BYTES_MAX};
	const bool is_read = request->command == FERRY_NBD_CMD_READ;
	const bool is_status = request->command == FERRY_NBD_CMD_BLOCK_STATUS;

	ferry_assert(request && ret);
	ferry_assert(!is_status || has_structured || error);
	if (!has_structured || !(is_read || is_status)) {
		ferry_nbd_write_u32(&writer, FERRY_NBD_SIMPLE_REPLY_MAGIC);
		ferry_nbd_write_u32(&writer, error);
		ferry_nbd_write_u64(&writer, request->cookie);
	} else if (error) {
		chunk_encode(&writer, REPLY_ERROR, request->cookie, 6);
		ferry_nbd_write_u32(&writer, error);
		ferry_nbd_write_u16(&writer, 0); /* No text. */
	} else if (is_read) {
		chunk_encode(&writer, REPLY_OFFSET_DATA, request->cookie,
			     8 + request->length_bytes);
		ferry_nbd_write_u64(&writer, request->offset_bytes);
	} else {
		/* Nothing is known about holes of a raw lun: all of it is data, in one extent. */
		chunk_encode(&writer, REPLY_BLOCK_STATUS, request->cookie, 12);
		ferry_nbd_write_u32(&writer, FERRY_NBD_CONTEXT_ALLOCATION);
		ferry_nbd_write_u32(&writer, request->length_bytes);
		ferry_nbd_write_u32(&writer, 0);
	}
	ferry_assert(writer.used_bytes >= 16);
	return writer.used_bytes;
}
