#include "proto/scsi_reservation.h"

enum {
	OPCODE_IN = 0x5e,
	OPCODE_OUT = 0x5f,
	SCOPE_LU = 0x0,
	APTPL = 1u << 0,	     /* Byte 20 of OUT's parameters. */
	CAPABILITY_PTPL_C = 1u << 0, /* Byte 2. */
	CAPABILITY_TMV = 1u << 7,    /* Byte 3: the mask of types is valid. */
	TYPE_BIT_WR_EX_RO = 1u << 5, /* Byte 4. */
	SENSE_FIXED = 0x70,
	SENSE_FIXED_DEFERRED = 0x71,
	SENSE_DESCRIPTOR = 0x72,
	SENSE_DESCRIPTOR_DEFERRED = 0x73,
};

static uint32_t get_u16(const uint8_t *data)
{
	return (uint32_t)data[0] << 8 | data[1];
}

static uint32_t get_u32(const uint8_t *data)
{
	return get_u16(data) << 16 | get_u16(data + 2);
}

static uint64_t get_u64(const uint8_t *data)
{
	return (uint64_t)get_u32(data) << 32 | get_u32(data + 4);
}

static void put_u64(uint8_t *data, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		data[i] = (uint8_t)(value >> (56 - 8 * i));
}

void ferry_pr_in_cdb(enum ferry_pr_in action, uint16_t allocation_bytes,
		     uint8_t ret[FERRY_PR_CDB_BYTES])
{
	ferry_assert(action >= FERRY_PR_READ_KEYS && action <= FERRY_PR_REPORT_CAPABILITIES);
	memset(ret, 0, FERRY_PR_CDB_BYTES);
	ret[0] = OPCODE_IN;
	ret[1] = (uint8_t)(action - FERRY_PR_READ_KEYS);
	ret[7] = (uint8_t)(allocation_bytes >> 8);
	ret[8] = (uint8_t)allocation_bytes;
}

static bool is_registration(enum ferry_pr_out action)
{
	return action == FERRY_PR_REGISTER || action == FERRY_PR_REGISTER_AND_IGNORE;
}

void ferry_pr_out_cdb(enum ferry_pr_out action, uint8_t ret[FERRY_PR_CDB_BYTES])
{
	ferry_assert(action >= FERRY_PR_REGISTER && action <= FERRY_PR_REGISTER_AND_IGNORE);
	memset(ret, 0, FERRY_PR_CDB_BYTES);
	ret[0] = OPCODE_OUT;
	ret[1] = (uint8_t)(action - FERRY_PR_REGISTER);
	/* A registration has neither scope nor type: targets may refuse one that says so. */
	if (!is_registration(action))
		ret[2] = SCOPE_LU << 4 | FERRY_PR_WRITE_EXCLUSIVE_REGISTRANTS;
	ret[8] = FERRY_PR_OUT_BYTES;
}

void ferry_pr_out_parameters(enum ferry_pr_out action, struct ferry_key own, struct ferry_key other,
			     uint8_t ret[FERRY_PR_OUT_BYTES])
{
	memset(ret, 0, FERRY_PR_OUT_BYTES);
	put_u64(ret, own.v);
	put_u64(ret + 8, other.v);
	if (is_registration(action))
		ret[20] = APTPL;
}

int ferry_pr_get_keys(const uint8_t *data, size_t length_bytes, struct ferry_pr_keys *ret)
{
	uint32_t told_bytes;

	ferry_assert(data || length_bytes == 0);
	ferry_assert(ret);
	if (length_bytes < 8)
		return -EBADMSG;
	/* What it has to say, not what it has sent: of a long list it sends as much as fits. */
	told_bytes = get_u32(data + 4);
	if (told_bytes % 8 != 0)
		return -EBADMSG;
	if (told_bytes > 8 * FERRY_KEYS_MAX)
		return -E2BIG;
	if (told_bytes > length_bytes - 8)
		return -EBADMSG;
	ret->generation = get_u32(data);
	ret->count = told_bytes / 8;
	for (uint32_t i = 0; i < ret->count; i++)
		ret->keys[i].v = get_u64(data + 8 + 8 * (size_t)i);
	return 0;
}

int ferry_pr_get_reservation(const uint8_t *data, size_t length_bytes,
			     struct ferry_pr_reservation *ret)
{
	uint32_t told_bytes;

	ferry_assert(data || length_bytes == 0);
	ferry_assert(ret);
	if (length_bytes < 8)
		return -EBADMSG;
	told_bytes = get_u32(data + 4);
	if (told_bytes == 0) {
		*ret = (struct ferry_pr_reservation){};
		return 0;
	}
	if (told_bytes < 16 || length_bytes < FERRY_PR_RESERVATION_BYTES)
		return -EBADMSG;
	if ((data[21] & 0x0f) == 0)
		return -EBADMSG; /* Reserved, but by no type. */
	*ret = (struct ferry_pr_reservation){.holder = {get_u64(data + 8)},
					     .type = data[21] & 0x0f};
	return 0;
}

int ferry_pr_get_capabilities(const uint8_t *data, size_t length_bytes,
			      struct ferry_pr_capabilities *ret)
{
	ferry_assert(data || length_bytes == 0);
	ferry_assert(ret);
	if (length_bytes < FERRY_PR_CAPABILITIES_BYTES ||
	    get_u16(data) < FERRY_PR_CAPABILITIES_BYTES)
		return -EBADMSG;
	*ret = (struct ferry_pr_capabilities){
		.keeps = data[2] & CAPABILITY_PTPL_C,
		.has_registrants_type =
			!(data[3] & CAPABILITY_TMV) || (data[4] & TYPE_BIT_WR_EX_RO),
	};
	return 0;
}

int ferry_sense_get(const uint8_t *data, size_t length_bytes, struct ferry_sense *ret)
{
	uint8_t format;

	ferry_assert(data || length_bytes == 0);
	ferry_assert(ret);
	if (length_bytes < 1)
		return -EBADMSG;
	format = data[0] & 0x7f;
	switch (format) {
	case SENSE_FIXED:
	case SENSE_FIXED_DEFERRED:
		if (length_bytes < 3)
			return -EBADMSG;
		*ret = (struct ferry_sense){.key = data[2] & 0x0f,
					    .asc = length_bytes > 12 ? data[12] : 0,
					    .ascq = length_bytes > 13 ? data[13] : 0};
		break;
	case SENSE_DESCRIPTOR:
	case SENSE_DESCRIPTOR_DEFERRED:
		if (length_bytes < 4)
			return -EBADMSG;
		*ret = (struct ferry_sense){.key = data[1] & 0x0f, .asc = data[2], .ascq = data[3]};
		break;
	default:
		return -EBADMSG;
	}
	ret->is_deferred = format == SENSE_FIXED_DEFERRED || format == SENSE_DESCRIPTOR_DEFERRED;
	return 0;
}
