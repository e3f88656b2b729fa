/*
 * state_fuzz - the files of the state directory. The first byte says what is made good, since no
 * fuzzer guesses a checksum: bit 0 the whole record, of the bytes as its value; bit 1 then damages
 * one bit of it, by the second and third byte.
 *
 * A record that is taken makes the very bytes that it came from; a damaged one is never taken.
 */
#include "agent/adapters/statefile/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

#define KEY "pool.data.epoch"

static void damage(struct ferry_record *record, size_t size_bytes, size_t where)
{
	((uint8_t *)record)[where / 8 % size_bytes] ^= (uint8_t)(1u << where % 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	static const size_t HEAD_BYTES = sizeof(struct ferry_record_head);
	struct ferry_record record = {}, again;
	size_t size_bytes;
	bool is_whole, is_damaged;
	int r;

	if (length_bytes < 3)
		return 0;
	is_whole = data[0] & 1;
	is_damaged = is_whole && data[0] & 2;
	if (is_whole) {
		size_bytes = ferry_min_u64(length_bytes - 3, sizeof(record.value));
		ferry_record_make(&record, data[0] & 4 ? "pool.other.epoch" : KEY, data + 3,
				  size_bytes);
		size_bytes += HEAD_BYTES;
	} else {
		size_bytes = ferry_min_u64(length_bytes - 3, sizeof(record));
		memcpy(&record, data + 3, size_bytes);
	}
	if (is_damaged)
		damage(&record, size_bytes, (size_t)data[1] << 8 | data[2]);
	r = ferry_record_check(&record, size_bytes, KEY);
	ferry_assert(r == -EBADMSG || (r >= 0 && (size_t)r + HEAD_BYTES == size_bytes));
	if (is_whole)
		ferry_assert((r >= 0) == (!is_damaged && !(data[0] & 4)));
	if (r < 0)
		return 0;
	ferry_record_make(&again, KEY, record.value, (size_t)r);
	ferry_assert(memcmp(&record, &again, size_bytes) == 0);
	return 0;
}
