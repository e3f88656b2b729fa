#include "agent/ports/identity.h"

#include <stdio.h>

#include "agent/base/checksum.h"

void ferry_lun_identity_seal(struct ferry_lun_identity *identity)
{
	char text[sizeof(identity->wwid) + 48];
	int length;

	ferry_assert(identity->block_bytes == 512 || identity->block_bytes == 4096);
	ferry_assert(memchr(identity->wwid, '\0', sizeof(identity->wwid)));
	length = snprintf(text, sizeof(text), "%s %llu %u", identity->wwid,
			  (unsigned long long)identity->size_blocks, identity->block_bytes);
	ferry_assert(length > 0 && (size_t)length < sizeof(text));
	identity->uuid = ferry_hash128(text, (size_t)length);
}
