/*
 * registrants_fuzz - what a target says of who is registered, name and all (READ FULL STATUS), in
 * memory of just its size; then what is known is merged with what is told once more.
 */
#include <stdlib.h>

#include "agent/adapters/iscsi/registrants.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	static struct ferry_iscsi_registrants told, known;
	uint8_t *answer = malloc(length_bytes + 1); /* Never of no bytes. */
	int r;

	ferry_assert(answer);
	memcpy(answer + 1, data, length_bytes);
	r = ferry_iscsi_registrants_parse(answer + 1, length_bytes, &told);
	free(answer);
	ferry_assert(r == 0 || r == -EBADMSG);
	ferry_assert(told.count <= FERRY_KEYS_MAX);
	if (r < 0)
		return 0;
	for (uint32_t i = 0; i < told.count; i++) {
		const struct ferry_iscsi_registrant *row = &told.rows[i];
		size_t length = strnlen(row->initiator, sizeof(row->initiator));

		ferry_assert(length < sizeof(row->initiator));
		ferry_assert(row->has_name == (length > 0));
	}
	known.count = 0;
	ferry_iscsi_registrants_merge(&known, &told);
	ferry_assert(known.count <= told.count);
	ferry_iscsi_registrants_merge(&known, &told);
	ferry_assert(known.count <= told.count);
	return 0;
}
