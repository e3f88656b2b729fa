#include "agent/adapters/iscsi/vpd.h"

#include <stdio.h>

enum {
	PAGE_HEADER_BYTES = 4,
	DESIGNATOR_HEADER_BYTES = 4,
	DESIGNATOR_T10 = 1,
	DESIGNATOR_EUI = 2,
	DESIGNATOR_NAA = 3,
	DESIGNATOR_NAME = 8,
};

uint32_t ferry_iscsi_get_u16(const uint8_t *data)
{
	return (uint32_t)data[0] << 8 | data[1];
}

uint32_t ferry_iscsi_get_u32(const uint8_t *data)
{
	return ferry_iscsi_get_u16(data) << 16 | ferry_iscsi_get_u16(data + 2);
}

uint64_t ferry_iscsi_get_u64(const uint8_t *data)
{
	return (uint64_t)ferry_iscsi_get_u32(data) << 32 | ferry_iscsi_get_u32(data + 4);
}

/* Copy printable ASCII without blanks at either end; whatever else becomes '_'. */
static void copy_text(const uint8_t *data, size_t length_bytes, char *ret, size_t size_bytes)
{
	size_t used = 0;

	ferry_assert(ret);
	ferry_assert(size_bytes > 0);
	while (length_bytes > 0 && *data == ' ') {
		data++;
		length_bytes--;
	}
	for (; length_bytes > 0 && used + 1 < size_bytes && *data; data++, length_bytes--)
		ret[used++] = *data >= 0x20 && *data < 0x7f ? (char)*data : '_';
	while (used > 0 && ret[used - 1] == ' ')
		used--;
	ret[used] = '\0';
}

int ferry_iscsi_vpd_standard(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret)
{
	ferry_assert(data && ret);
	if (length_bytes < 36)
		return -EBADMSG;
	if (data[0] >> 5 != 0)
		return -ENODEV;
	copy_text(data + 8, 8, ret->vendor, sizeof(ret->vendor));
	copy_text(data + 16, 16, ret->product, sizeof(ret->product));
	return (data[0] & 0x1f) == 0 ? 0 : -ENOTBLK;
}

/*
 * How much a designator is worth as the lun's name; 0 is nothing. The same order as Linux's
 * scsi_vpd_lun_id(), so that a lun has the same name whoever's initiator reaches it.
 */
static unsigned int designator_priority(const uint8_t *designator)
{
	unsigned int length = designator[3];

	if ((designator[1] & 0x30) != 0 || length == 0) /* Of the port or target; or empty. */
		return 0;
	switch (designator[1] & 0x0f) {
	case DESIGNATOR_NAME:
		return 9;
	case DESIGNATOR_NAA:
		switch (designator[4] >> 4) {
		case 6:
			return length == 16 ? 8 : 0;
		case 5:
			return length == 8 ? 5 : 0;
		case 2:
			return length == 8 ? 4 : 0;
		case 3:
			return length == 8 ? 1 : 0;
		default:
			return 0;
		}
	case DESIGNATOR_EUI:
		return length == 16 ? 7 : length == 12 ? 6 : length == 8 ? 3 : 0;
	case DESIGNATOR_T10:
		return 1;
	default:
		return 0;
	}
}

static void name_by(const uint8_t *designator, char *ret, size_t size_bytes)
{
	static const char *const PREFIXES[] = {"", "t10.", "eui.", "naa."};
	unsigned int type = designator[1] & 0x0f;
	size_t used;

	ferry_assert(size_bytes > DESIGNATOR_HEADER_BYTES + 1);
	ret[0] = '\0';
	if (type < FERRY_ARRAY_COUNT(PREFIXES))
		(void)snprintf(ret, size_bytes, "%s", PREFIXES[type]);
	used = strlen(ret);
	if (type != DESIGNATOR_NAA && type != DESIGNATOR_EUI) {
		copy_text(designator + 4, designator[3], ret + used, size_bytes - used);
		return;
	}
	for (unsigned int i = 0; i < designator[3] && used + 3 <= size_bytes; i++, used += 2)
		(void)snprintf(ret + used, size_bytes - used, "%02x", designator[4 + i]);
}

int ferry_iscsi_vpd_identification(const uint8_t *data, size_t length_bytes,
				   struct ferry_iscsi_lun *ret)
{
	unsigned int best = 0;
	size_t end;

	ferry_assert(data && ret);
	if (length_bytes < PAGE_HEADER_BYTES || data[1] != 0x83)
		return -EBADMSG;
	end = ferry_min_u64(PAGE_HEADER_BYTES + ferry_iscsi_get_u16(data + 2), length_bytes);
	for (size_t at = PAGE_HEADER_BYTES; at + DESIGNATOR_HEADER_BYTES < end;) {
		const uint8_t *designator = data + at;
		unsigned int priority;

		at += DESIGNATOR_HEADER_BYTES + (size_t)designator[3];
		if (at > end)
			break; /* Cut off by the allocation length. */
		priority = designator_priority(designator);
		if (priority > 0 && priority >= best) { /* The last of equals, as Linux. */
			name_by(designator, ret->wwid, sizeof(ret->wwid));
			best = priority;
		}
	}
	return best > 0 && ret->wwid[0] ? 0 : -ENOENT;
}

int ferry_iscsi_vpd_serial(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret)
{
	size_t end;

	ferry_assert(data && ret);
	if (length_bytes < PAGE_HEADER_BYTES || data[1] != 0x80)
		return -EBADMSG;
	end = ferry_min_u64(PAGE_HEADER_BYTES + ferry_iscsi_get_u16(data + 2), length_bytes);
	copy_text(data + PAGE_HEADER_BYTES, end - PAGE_HEADER_BYTES, ret->serial,
		  sizeof(ret->serial));
	return 0;
}

int ferry_iscsi_vpd_limits(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret)
{
	ferry_assert(data && ret);
	if (length_bytes < 16 || data[1] != 0xb0)
		return -EBADMSG;
	ret->transfer_blocks_max = ferry_iscsi_get_u32(data + 8);
	if (length_bytes >= 28)
		ret->unmap_blocks_max = ferry_iscsi_get_u32(data + 20);
	if (length_bytes >= 44)
		ret->same_blocks_max = ferry_iscsi_get_u64(data + 36);
	return 0;
}

int ferry_iscsi_vpd_provisioning(const uint8_t *data, size_t length_bytes,
				 struct ferry_iscsi_lun *ret)
{
	ferry_assert(data && ret);
	if (length_bytes < 6 || data[1] != 0xb2)
		return -EBADMSG;
	ret->has_unmap = data[5] & 0x80;
	ret->has_unmap_by_same = data[5] & 0x40;
	ret->unmapped_reads_zeroes = ((data[5] >> 2) & 7) == 1;
	return 0;
}

int ferry_iscsi_vpd_capacity(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret)
{
	uint64_t last;

	ferry_assert(data && ret);
	if (length_bytes < 12)
		return -EBADMSG;
	last = ferry_iscsi_get_u64(data);
	ret->block_bytes = ferry_iscsi_get_u32(data + 8);
	if (last == UINT64_MAX || (ret->block_bytes != 512 && ret->block_bytes != 4096))
		return -EBADMSG;
	ret->size_blocks = last + 1;
	if (ret->size_blocks > UINT64_MAX / ret->block_bytes)
		return -EBADMSG;
	return 0;
}

int ferry_iscsi_vpd_caching(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret)
{
	size_t at;

	ferry_assert(data && ret);
	if (length_bytes < 8)
		return -EBADMSG;
	ret->has_fua = data[3] & 0x10; /* DPOFUA of the device-specific parameter (SBC-3, 6.4.1). */
	at = 8 + (size_t)ferry_iscsi_get_u16(data + 6);
	if (at + 3 > length_bytes || (data[at] & 0x3f) != 0x08)
		return -EBADMSG;
	ret->has_write_cache = data[at + 2] & 0x04;
	return 0;
}

int ferry_iscsi_vpd_capabilities(const uint8_t *data, size_t length_bytes,
				 struct ferry_iscsi_lun *ret)
{
	ferry_assert(ret);
	if (!data || length_bytes < 8 || ferry_iscsi_get_u16(data) < 8)
		return -EBADMSG;
	ret->can_persist = data[2] & 0x01;
	ret->does_persist = data[3] & 0x01;
	return 0;
}
