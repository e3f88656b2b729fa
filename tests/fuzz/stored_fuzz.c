/*
 * stored_fuzz - the values in the state directory, once their record's checksum was right. The
 * first byte says which: 0 a pool's epoch, else the incarnation.
 *
 * What is taken is fit to vote with, and makes the very bytes that it came from; the older
 * versions' epochs make the same and nothing more.
 */
#include "proto/stored.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

static void check_epoch(const uint8_t *data, size_t length_bytes)
{
	struct ferry_stored_epoch epoch = {};
	uint8_t again[FERRY_STORED_EPOCH_BYTES];

	if (ferry_stored_epoch_decode(data, length_bytes, &epoch) < 0) {
		ferry_assert(epoch.epoch.v == 0); /* Untouched. */
		return;
	}
	ferry_assert(epoch.epoch.v > 0 && epoch.epoch.v + 1 > epoch.epoch.v);
	ferry_assert(epoch.settled.v <= epoch.epoch.v);
	ferry_stored_epoch_encode(&epoch, again);
	ferry_assert(memcmp(again, data, length_bytes) == 0);
	ferry_assert(epoch.tenure.v <= epoch.tenure_last.v);
	ferry_assert(epoch.tenure_last.v <= epoch.epoch.v);
	if (length_bytes < sizeof(again))
		ferry_assert(epoch.tenure_last.v == 0);
	if (length_bytes < FERRY_STORED_EPOCH_BYTES_SECOND)
		ferry_assert(length_bytes == FERRY_STORED_EPOCH_BYTES_FIRST &&
			     epoch.settled.v == 0);
}

static void check_incarnation(const uint8_t *data, size_t length_bytes)
{
	struct ferry_incarnation incarnation = {0};
	uint8_t again[FERRY_STORED_INCARNATION_BYTES];

	if (ferry_stored_incarnation_decode(data, length_bytes, &incarnation) < 0) {
		ferry_assert(incarnation.v == 0);
		return;
	}
	ferry_assert(incarnation.v + 1 > incarnation.v && length_bytes == sizeof(again));
	ferry_stored_incarnation_encode(incarnation, again);
	ferry_assert(memcmp(again, data, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	if (length_bytes == 0)
		return 0;
	if (data[0] == 0)
		check_epoch(data + 1, length_bytes - 1);
	else
		check_incarnation(data + 1, length_bytes - 1);
	return 0;
}
