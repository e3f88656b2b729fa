/*
 * vpd_fuzz - what a target says of its luns. The first byte chooses the parser; the rest is the
 * answer, in memory of just its size.
 *
 * Whatever is told, names end and are printable, and sizes can be counted.
 */
#include <stdlib.h>

#include "agent/adapters/iscsi/vpd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

typedef int (*parser)(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret);

static void check_text(const char *text, size_t size_bytes)
{
	size_t length = strnlen(text, size_bytes);

	ferry_assert(length < size_bytes);
	for (size_t i = 0; i < length; i++)
		ferry_assert(text[i] >= 0x20 && text[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	static const parser PARSERS[] = {
		ferry_iscsi_vpd_standard, ferry_iscsi_vpd_identification, ferry_iscsi_vpd_serial,
		ferry_iscsi_vpd_limits,	  ferry_iscsi_vpd_provisioning,	  ferry_iscsi_vpd_capacity,
		ferry_iscsi_vpd_caching,  ferry_iscsi_vpd_capabilities,
	};
	struct ferry_iscsi_lun lun = {};
	parser parse;
	uint8_t *answer;
	int r;

	if (length_bytes < 1)
		return 0;
	parse = PARSERS[data[0] % FERRY_ARRAY_COUNT(PARSERS)];
	answer = malloc(length_bytes); /* Never of no bytes. */
	ferry_assert(answer);
	memcpy(answer, data + 1, length_bytes - 1);
	r = parse(answer, length_bytes - 1, &lun);
	free(answer);
	ferry_assert(r == 0 || r == -EBADMSG || r == -ENODEV || r == -ENOTBLK || r == -ENOENT);
	check_text(lun.wwid, sizeof(lun.wwid));
	check_text(lun.vendor, sizeof(lun.vendor));
	check_text(lun.product, sizeof(lun.product));
	check_text(lun.serial, sizeof(lun.serial));
	if (r == 0 && parse == ferry_iscsi_vpd_capacity)
		ferry_assert(lun.size_blocks > 0 &&
			     lun.size_blocks <= UINT64_MAX / lun.block_bytes);
	return 0;
}
