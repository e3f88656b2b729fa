#include "proto/stored.h"

#include "proto/cursor.h"

static bool is_tenure(const struct ferry_stored_epoch *epoch)
{
	return epoch->tenure.v <= epoch->tenure_last.v && epoch->tenure_last.v <= epoch->epoch.v &&
	       (epoch->tenure.v == 0) == (epoch->tenure_last.v == 0);
}

void ferry_stored_epoch_encode(const struct ferry_stored_epoch *epoch,
			       uint8_t ret[FERRY_STORED_EPOCH_BYTES])
{
	struct ferry_writer writer = ferry_writer_make(ret, FERRY_STORED_EPOCH_BYTES);

	ferry_assert(epoch->epoch.v > 0);
	ferry_assert(epoch->settled.v <= epoch->epoch.v && is_tenure(epoch));
	ferry_writer_bytes(&writer, epoch->lineage.bytes, sizeof(epoch->lineage.bytes));
	ferry_writer_u64(&writer, epoch->epoch.v);
	ferry_writer_u32(&writer, epoch->owner.v);
	ferry_writer_u64(&writer, epoch->settled.v);
	ferry_writer_u64(&writer, epoch->tenure.v);
	ferry_writer_u64(&writer, epoch->tenure_last.v);
}

int ferry_stored_epoch_decode(const uint8_t *bytes, size_t length_bytes,
			      struct ferry_stored_epoch *ret)
{
	struct ferry_reader reader = ferry_reader_make(bytes, length_bytes);
	struct ferry_stored_epoch epoch = {0};

	if (length_bytes != FERRY_STORED_EPOCH_BYTES &&
	    length_bytes != FERRY_STORED_EPOCH_BYTES_SECOND &&
	    length_bytes != FERRY_STORED_EPOCH_BYTES_FIRST)
		return -EBADMSG;
	ferry_reader_bytes(&reader, epoch.lineage.bytes, sizeof(epoch.lineage.bytes));
	epoch.epoch.v = ferry_reader_u64(&reader);
	epoch.owner.v = ferry_reader_u32(&reader);
	if (length_bytes >= FERRY_STORED_EPOCH_BYTES_SECOND)
		epoch.settled.v = ferry_reader_u64(&reader);
	if (length_bytes == FERRY_STORED_EPOCH_BYTES) {
		epoch.tenure.v = ferry_reader_u64(&reader);
		epoch.tenure_last.v = ferry_reader_u64(&reader);
	}
	/* A claim has to go above it. */
	if (reader.has_failed || epoch.epoch.v == 0 || epoch.epoch.v == UINT64_MAX ||
	    epoch.settled.v > epoch.epoch.v || !is_tenure(&epoch))
		return -EBADMSG;
	*ret = epoch;
	return 0;
}

void ferry_stored_incarnation_encode(struct ferry_incarnation incarnation,
				     uint8_t ret[FERRY_STORED_INCARNATION_BYTES])
{
	struct ferry_writer writer = ferry_writer_make(ret, FERRY_STORED_INCARNATION_BYTES);

	ferry_assert(incarnation.v > 0);
	ferry_writer_u64(&writer, incarnation.v);
}

int ferry_stored_incarnation_decode(const uint8_t *bytes, size_t length_bytes,
				    struct ferry_incarnation *ret)
{
	struct ferry_reader reader = ferry_reader_make(bytes, length_bytes);
	uint64_t incarnation = ferry_reader_u64(&reader);

	if (length_bytes != FERRY_STORED_INCARNATION_BYTES || incarnation == 0 ||
	    incarnation == UINT64_MAX)
		return -EBADMSG;
	ret->v = incarnation;
	return 0;
}
