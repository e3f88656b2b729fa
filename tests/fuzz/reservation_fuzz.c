/*
 * reservation_fuzz - what a target says of registrations, reservations and errors. The first byte
 * chooses the parser; the rest is the answer, in memory of just its size.
 */
#include <stdlib.h>

#include "proto/scsi_reservation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

static int parse(uint8_t which, const uint8_t *data, size_t length_bytes)
{
	struct ferry_pr_reservation reservation = {};
	struct ferry_pr_capabilities capabilities = {};
	struct ferry_pr_keys keys = {};
	struct ferry_sense sense = {};
	int r;

	switch (which % 4) {
	case 0:
		r = ferry_pr_get_keys(data, length_bytes, &keys);
		ferry_assert(keys.count <= FERRY_KEYS_MAX);
		ferry_assert(8 + 8 * (size_t)keys.count <= length_bytes || r < 0);
		for (uint32_t i = 0; i < keys.count; i++)
			ferry_assert(ferry_pr_keys_have(&keys, keys.keys[i]));
		return r;
	case 1:
		r = ferry_pr_get_reservation(data, length_bytes, &reservation);
		ferry_assert(reservation.type != 0 || reservation.holder.v == 0);
		return r;
	case 2:
		return ferry_pr_get_capabilities(data, length_bytes, &capabilities);
	default:
		r = ferry_sense_get(data, length_bytes, &sense);
		ferry_assert(sense.key <= 0x0f);
		return r;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	uint8_t *answer;
	int r;

	if (length_bytes < 1)
		return 0;
	answer = malloc(length_bytes); /* Never of no bytes. */
	ferry_assert(answer);
	memcpy(answer, data + 1, length_bytes - 1);
	r = parse(data[0], answer, length_bytes - 1);
	free(answer);
	ferry_assert(r == 0 || r == -EBADMSG || r == -E2BIG);
	return 0;
}
