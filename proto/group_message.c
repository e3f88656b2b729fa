#include "proto/group_message.h"

#include "agent/base/checksum.h"
#include "proto/cursor.h"

/* Everything but the checksum, which comes last. */
enum { CHECKED_BYTES = FERRY_GROUP_MESSAGE_BYTES - 4, RESERVED_BYTES = 12 };
_Static_assert(4 + 2 + 2 + 4 + 16 + 16 + 16 + 8 + 4 + 4 + 8 + 8 + 8 + 4 + 8 + RESERVED_BYTES ==
		       CHECKED_BYTES,
	       "the layout of docs/wire-format.md");

void ferry_group_message_encode(const struct ferry_group_message *message,
				uint8_t ret[FERRY_GROUP_MESSAGE_BYTES])
{
	struct ferry_writer writer = ferry_writer_make(ret, FERRY_GROUP_MESSAGE_BYTES);

	ferry_assert(message->type >= 1 && message->type <= FERRY_GROUP_TYPE_LAST);
	ferry_assert(!(message->flags & ~(uint32_t)FERRY_GROUP_FLAGS_ALL));
	ferry_writer_u32(&writer, FERRY_GROUP_MAGIC);
	ferry_writer_u16(&writer, FERRY_GROUP_VERSION);
	ferry_writer_u16(&writer, (uint16_t)message->type);
	ferry_writer_u32(&writer, message->flags);
	ferry_writer_bytes(&writer, message->pool.bytes, sizeof(message->pool.bytes));
	ferry_writer_bytes(&writer, message->lineage.bytes, sizeof(message->lineage.bytes));
	ferry_writer_bytes(&writer, message->lun.bytes, sizeof(message->lun.bytes));
	ferry_writer_u64(&writer, message->epoch.v);
	ferry_writer_u32(&writer, message->owner.v);
	ferry_writer_zeroes(&writer, 4);
	ferry_writer_u64(&writer, message->ring);
	ferry_writer_u64(&writer, message->incarnation.v);
	ferry_writer_u64(&writer, message->victim_incarnation.v);
	ferry_writer_u32(&writer, message->victim.v);
	ferry_writer_u64(&writer, message->restart);
	ferry_writer_zeroes(&writer, RESERVED_BYTES);
	ferry_writer_u32(&writer, ferry_crc32c(0, ret, CHECKED_BYTES));
	ferry_assert(writer.offset_bytes == FERRY_GROUP_MESSAGE_BYTES);
}

static int message_check(const struct ferry_group_message *message, bool reserved_is_zero,
			 struct ferry_error *reterr)
{
	bool is_noted = message->type == FERRY_GROUP_NOTED;
	bool is_fencing = message->type == FERRY_GROUP_FENCE || message->type == FERRY_GROUP_FENCED;

	if (message->type < 1 || message->type > FERRY_GROUP_TYPE_LAST)
		return ferry_error_set(reterr, -EPROTO, "group message: unknown type %u",
				       message->type);
	if (message->flags & ~(uint32_t)FERRY_GROUP_FLAGS_ALL)
		return ferry_error_set(reterr, -EPROTO, "group message: unknown flags %#x",
				       message->flags);
	if (!reserved_is_zero)
		return ferry_error_set(reterr, -EPROTO,
				       "group message: reserved bytes are not zero");
	if (message->incarnation.v == 0)
		return ferry_error_set(reterr, -EPROTO, "group message: no incarnation");
	if (message->type != FERRY_GROUP_STATE && !is_fencing && message->epoch.v == 0)
		return ferry_error_set(reterr, -EPROTO, "group message: no epoch");
	if (message->epoch.v == UINT64_MAX) /* None comes after it, and no node would keep it. */
		return ferry_error_set(reterr, -EPROTO, "group message: an epoch that cannot be");
	if ((message->type == FERRY_GROUP_CLAIM || message->type == FERRY_GROUP_HANDOVER) &&
	    message->owner.v == 0)
		return ferry_error_set(reterr, -EPROTO,
				       "group message: a claim for, or handover to, nobody");
	if ((is_fencing || is_noted) != (message->victim.v != 0))
		return ferry_error_set(reterr, -EPROTO, "group message: a victim out of place");
	if (message->type != FERRY_GROUP_STATE && is_noted != (message->restart != 0))
		return ferry_error_set(reterr, -EPROTO, "group message: a restart out of place");
	return 0;
}

int ferry_group_message_decode(const void *bytes, size_t length_bytes,
			       struct ferry_group_message *ret, struct ferry_error *reterr)
{
	struct ferry_reader reader = ferry_reader_make(bytes, length_bytes);
	struct ferry_group_message message = {0};
	uint32_t magic;
	uint32_t version;
	bool reserved_is_zero;
	int r;

	ferry_assert(ret);
	if (length_bytes != FERRY_GROUP_MESSAGE_BYTES)
		return ferry_error_set(reterr, -EBADMSG, "group message: %zu bytes, not %d",
				       length_bytes, FERRY_GROUP_MESSAGE_BYTES);
	magic = ferry_reader_u32(&reader);
	version = ferry_reader_u16(&reader);
	message.type = (enum ferry_group_type)ferry_reader_u16(&reader);
	message.flags = ferry_reader_u32(&reader);
	ferry_reader_bytes(&reader, message.pool.bytes, sizeof(message.pool.bytes));
	ferry_reader_bytes(&reader, message.lineage.bytes, sizeof(message.lineage.bytes));
	ferry_reader_bytes(&reader, message.lun.bytes, sizeof(message.lun.bytes));
	message.epoch.v = ferry_reader_u64(&reader);
	message.owner.v = ferry_reader_u32(&reader);
	reserved_is_zero = ferry_reader_zeroes(&reader, 4);
	message.ring = ferry_reader_u64(&reader);
	message.incarnation.v = ferry_reader_u64(&reader);
	message.victim_incarnation.v = ferry_reader_u64(&reader);
	message.victim.v = ferry_reader_u32(&reader);
	message.restart = ferry_reader_u64(&reader);
	reserved_is_zero &= ferry_reader_zeroes(&reader, RESERVED_BYTES);
	if (magic != FERRY_GROUP_MAGIC ||
	    ferry_reader_u32(&reader) != ferry_crc32c(0, bytes, CHECKED_BYTES))
		return ferry_error_set(reterr, -EBADMSG, "group message: not one, or damaged");
	if (version != FERRY_GROUP_VERSION)
		return ferry_error_set(reterr, -EPROTONOSUPPORT,
				       "group message: version %u; this agent speaks %d", version,
				       FERRY_GROUP_VERSION);
	ferry_assert(!reader.has_failed);
	r = message_check(&message, reserved_is_zero, reterr);
	if (r < 0)
		return r;
	*ret = message;
	return 0;
}
