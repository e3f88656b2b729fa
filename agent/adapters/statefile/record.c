#include "agent/adapters/statefile/record.h"

#include <endian.h>

#include "agent/base/checksum.h"

#define MAGIC UINT64_C(0x3152545359525246) /* "FRRYSTR1", little-endian. */

static uint32_t record_crc(const struct ferry_record *record, uint32_t length_bytes)
{
	struct ferry_record_head head = record->head;

	ferry_assert(length_bytes <= sizeof(record->value));
	head.crc = 0;
	return ferry_crc32c(ferry_crc32c(0, &head, sizeof(head)), record->value, length_bytes);
}

void ferry_record_make(struct ferry_record *record, const char *key, const void *value,
		       size_t length_bytes)
{
	ferry_assert(length_bytes <= sizeof(record->value));
	ferry_assert(strlen(key) <= sizeof(record->head.key));
	memset(record, 0, sizeof(*record));
	record->head.magic = htole64(MAGIC);
	record->head.length_bytes = htole32((uint32_t)length_bytes);
	memcpy(record->head.key, key, strlen(key)); /* Ends in zeroes, or fills the field. */
	memcpy(record->value, value, length_bytes);
	record->head.crc = htole32(record_crc(record, (uint32_t)length_bytes));
}

int ferry_record_check(const struct ferry_record *record, size_t size_bytes, const char *key)
{
	uint32_t length_bytes;

	ferry_assert(record && key);
	if (size_bytes < sizeof(record->head) || record->head.magic != htole64(MAGIC))
		return -EBADMSG;
	length_bytes = le32toh(record->head.length_bytes);
	if (length_bytes > FERRY_STORE_VALUE_BYTES_MAX ||
	    length_bytes != size_bytes - sizeof(record->head))
		return -EBADMSG;
	if (strncmp(record->head.key, key, sizeof(record->head.key)) != 0)
		return -EBADMSG;
	if (le32toh(record->head.crc) != record_crc(record, length_bytes))
		return -EBADMSG;
	return (int)length_bytes;
}
