#include "agent/adapters/iscsi/registrants.h"

#include <string.h>

#include "agent/adapters/iscsi/vpd.h"

enum {
	HEADER_BYTES = 8,
	DESCRIPTOR_BYTES = 24,
	TRANSPORT_HEADER_BYTES = 4,
	/* Format 01b, protocol 5: an iSCSI initiator port's name, "NAME,i,0xISID". */
	TRANSPORT_ISCSI_PORT = 0x45,
	ISID_DIGITS = 12,
};

static int digit_value(uint8_t digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -EBADMSG;
}

/* The port's name, if it is one that a session of ours can have. */
static void name_parse(const uint8_t *text, size_t length_bytes, struct ferry_iscsi_registrant *ret)
{
	static const char SEPARATOR[] = ",i,0x";
	size_t separator_bytes = sizeof(SEPARATOR) - 1;
	size_t name_bytes = 0;
	uint64_t isid = 0;

	while (name_bytes < length_bytes && text[name_bytes] && text[name_bytes] != ',')
		name_bytes++;
	if (name_bytes == 0 || name_bytes >= sizeof(ret->initiator) ||
	    length_bytes - name_bytes < separator_bytes + ISID_DIGITS ||
	    memcmp(text + name_bytes, SEPARATOR, separator_bytes) != 0)
		return;
	for (size_t i = 0; i < ISID_DIGITS; i++) {
		int value = digit_value(text[name_bytes + separator_bytes + i]);

		if (value < 0)
			return;
		isid = isid << 4 | (uint64_t)value;
	}
	if (isid >> 16 != (UINT64_C(0x80000000) | FERRY_ISCSI_ISID))
		return;
	memcpy(ret->initiator, text, name_bytes);
	ret->initiator[name_bytes] = '\0';
	ret->qualifier = (uint16_t)isid;
	ret->has_name = true;
}

int ferry_iscsi_registrants_parse(const uint8_t *data, size_t length_bytes,
				  struct ferry_iscsi_registrants *ret)
{
	size_t end;

	ferry_assert(ret);
	ret->count = 0;
	if (!data || length_bytes < HEADER_BYTES)
		return -EBADMSG;
	end = HEADER_BYTES + (size_t)ferry_iscsi_get_u32(data + 4);
	if (end > length_bytes)
		return -EBADMSG;
	for (size_t at = HEADER_BYTES; at < end;) {
		const uint8_t *row = data + at;
		struct ferry_iscsi_registrant *registrant = &ret->rows[ret->count];
		size_t transport_bytes;

		if (end - at < DESCRIPTOR_BYTES || ret->count == FERRY_KEYS_MAX)
			return -EBADMSG;
		transport_bytes = ferry_iscsi_get_u32(row + 20);
		if (transport_bytes > end - at - DESCRIPTOR_BYTES)
			return -EBADMSG;
		*registrant = (struct ferry_iscsi_registrant){
			.key.v = ferry_iscsi_get_u64(row),
			.target_port = (uint16_t)ferry_iscsi_get_u16(row + 18)};
		row += DESCRIPTOR_BYTES;
		if (transport_bytes > TRANSPORT_HEADER_BYTES && row[0] == TRANSPORT_ISCSI_PORT)
			name_parse(row + TRANSPORT_HEADER_BYTES,
				   transport_bytes - TRANSPORT_HEADER_BYTES, registrant);
		ret->count++;
		at += DESCRIPTOR_BYTES + transport_bytes;
	}
	return 0;
}

void ferry_iscsi_registrants_merge(struct ferry_iscsi_registrants *into,
				   const struct ferry_iscsi_registrants *from)
{
	ferry_assert(into->count <= FERRY_KEYS_MAX);
	ferry_assert(from->count <= FERRY_KEYS_MAX);
	for (uint32_t i = 0; i < from->count; i++) {
		uint32_t at = 0;

		while (at < into->count &&
		       !ferry_key_shares_nexus(into->rows[at].key, from->rows[i].key))
			at++;
		if (at == FERRY_KEYS_MAX)
			continue; /* More nodes than a cluster has: foreign keys. */
		into->rows[at] = from->rows[i];
		if (at == into->count)
			into->count++;
	}
}

const struct ferry_iscsi_registrant *
ferry_iscsi_registrants_find(const struct ferry_iscsi_registrants *all, struct ferry_key key)
{
	ferry_assert(all->count <= FERRY_KEYS_MAX);
	for (uint32_t i = 0; i < all->count; i++)
		if (ferry_key_shares_nexus(all->rows[i].key, key))
			return &all->rows[i];
	return NULL;
}
