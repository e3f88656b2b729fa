/* The group's messages: every field comes through, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/checksum.h"
#include "proto/group_message.h"

static struct ferry_group_message example(enum ferry_group_type type)
{
	bool is_noted = type == FERRY_GROUP_NOTED;
	bool has_victim = type == FERRY_GROUP_FENCE || type == FERRY_GROUP_FENCED || is_noted;
	bool has_restart = type == FERRY_GROUP_STATE || is_noted;

	return (struct ferry_group_message){.type = type,
					    .flags = FERRY_GROUP_ASKS | FERRY_GROUP_DRAINED,
					    .pool = {{1, 2}},
					    .lineage = {{3, 4}},
					    .lun = {{5, 6}},
					    .epoch = {0x0102030405060708},
					    .owner = {9},
					    .ring = 0x1112131415161718,
					    .incarnation = {0x2122232425262728},
					    .victim = {has_victim ? 10 : 0},
					    .victim_incarnation = {has_victim ? 11 : 0},
					    .restart = has_restart ? 0x3132333435363738 : 0};
}

static int decode(const uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES], struct ferry_group_message *ret)
{
	struct ferry_error error;

	return ferry_group_message_decode(bytes, FERRY_GROUP_MESSAGE_BYTES, ret, &error);
}

static void seal(uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES])
{
	uint32_t crc = ferry_crc32c(0, bytes, FERRY_GROUP_MESSAGE_BYTES - 4);

	for (int i = 0; i < 4; i++)
		bytes[FERRY_GROUP_MESSAGE_BYTES - 4 + i] = (uint8_t)(crc >> 8 * i);
}

static void every_field_comes_through(void **state)
{
	uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES];
	uint8_t again[FERRY_GROUP_MESSAGE_BYTES];

	(void)state;
	for (enum ferry_group_type type = 1; type <= FERRY_GROUP_TYPE_LAST; type++) {
		struct ferry_group_message from = example(type);
		struct ferry_group_message to;

		memset(bytes, 0xaa, sizeof(bytes));
		ferry_group_message_encode(&from, bytes);
		assert_int_equal(decode(bytes, &to), 0);
		assert_int_equal(to.type, type);
		assert_int_equal(to.flags, from.flags);
		assert_true(ferry_uuid_equal(&to.pool, &from.pool));
		assert_true(ferry_uuid_equal(&to.lineage, &from.lineage));
		assert_true(ferry_uuid_equal(&to.lun, &from.lun));
		assert_true(to.epoch.v == from.epoch.v);
		assert_int_equal(to.owner.v, 9);
		assert_true(to.ring == from.ring);
		assert_true(to.incarnation.v == from.incarnation.v);
		assert_int_equal(to.victim.v, from.victim.v);
		assert_true(to.victim_incarnation.v == from.victim_incarnation.v);
		assert_true(to.restart == from.restart);
		memset(again, 0x55, sizeof(again)); /* No byte is left as it was. */
		ferry_group_message_encode(&to, again);
		assert_memory_equal(bytes, again, sizeof(bytes));
	}
}

static void damage_is_seen(void **state)
{
	struct ferry_group_message from = example(FERRY_GROUP_STATE);
	struct ferry_group_message to;
	struct ferry_error error;
	uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES + 1] = {0};

	(void)state;
	ferry_group_message_encode(&from, bytes);
	for (uint32_t i = 0; i < FERRY_GROUP_MESSAGE_BYTES; i++) {
		bytes[i] ^= 0x10;
		assert_int_equal(decode(bytes, &to), -EBADMSG);
		bytes[i] ^= 0x10;
	}
	assert_int_equal(
		ferry_group_message_decode(bytes, FERRY_GROUP_MESSAGE_BYTES - 1, &to, &error),
		-EBADMSG);
	assert_int_equal(ferry_group_message_decode(bytes, sizeof(bytes), &to, &error), -EBADMSG);
	assert_int_equal(ferry_group_message_decode(bytes, 0, &to, &error), -EBADMSG);
	assert_int_equal(decode(bytes, &to), 0);
	bytes[0] ^= 1; /* Whole, but not one of ours. */
	seal(bytes);
	assert_int_equal(decode(bytes, &to), -EBADMSG);
}

/* Whole, ours, and not to be believed. */
static void nonsense_is_refused(void **state)
{
	static const struct {
		enum ferry_group_type type;
		uint32_t at;
		uint32_t length;
		uint8_t value;
		int error;
	} cases[] = {
		{FERRY_GROUP_STATE, 4, 1, 2, -EPROTONOSUPPORT},
		{FERRY_GROUP_STATE, 6, 1, 0, -EPROTO}, /* Types. */
		{FERRY_GROUP_STATE, 6, 1, FERRY_GROUP_TYPE_LAST + 1, -EPROTO},
		{FERRY_GROUP_ACK, 6, 1, 0, -EPROTO},
		{FERRY_GROUP_ACK, 6, 1, FERRY_GROUP_TYPE_LAST + 1, -EPROTO},
		{FERRY_GROUP_STATE, 8, 1, FERRY_GROUP_FLAGS_ALL + 1, -EPROTO},
		{FERRY_GROUP_STATE, 72, 1, 1, -EPROTO}, /* Reserved. */
		{FERRY_GROUP_STATE, 112, 1, 1, -EPROTO},
		{FERRY_GROUP_STATE, 123, 1, 1, -EPROTO},
		{FERRY_GROUP_STATE, 84, 8, 0, -EPROTO},	   /* No incarnation. */
		{FERRY_GROUP_STATE, 60, 8, 0, 0},	   /* No epoch. */
		{FERRY_GROUP_STATE, 60, 8, 0xff, -EPROTO}, /* The last one. */
		{FERRY_GROUP_CLAIM, 60, 8, 0xff, -EPROTO},
		{FERRY_GROUP_HANDOVER, 60, 8, 0xff, -EPROTO},
		{FERRY_GROUP_IN_FORCE, 60, 8, 0xff, -EPROTO},
		{FERRY_GROUP_FENCE, 60, 8, 0xff, -EPROTO},
		{FERRY_GROUP_CLAIM, 60, 8, 0, -EPROTO},
		{FERRY_GROUP_ACK, 60, 8, 0, -EPROTO},
		{FERRY_GROUP_IN_FORCE, 60, 8, 0, -EPROTO},
		{FERRY_GROUP_RELEASE, 60, 8, 0, -EPROTO},
		{FERRY_GROUP_FENCE, 60, 8, 0, 0},
		{FERRY_GROUP_FENCED, 60, 8, 0, 0},
		{FERRY_GROUP_CLAIM, 68, 4, 0, -EPROTO}, /* Nobody. */
		{FERRY_GROUP_HANDOVER, 68, 4, 0, -EPROTO},
		{FERRY_GROUP_STATE, 68, 4, 0, 0},
		{FERRY_GROUP_RELEASE, 68, 4, 0, 0},
		{FERRY_GROUP_FENCE, 100, 4, 0, -EPROTO}, /* Victims. */
		{FERRY_GROUP_FENCED, 100, 4, 0, -EPROTO},
		{FERRY_GROUP_ACK, 100, 1, 7, -EPROTO},
		{FERRY_GROUP_NOTED, 100, 4, 0, -EPROTO},
		{FERRY_GROUP_NOTED, 60, 8, 0, -EPROTO},
		{FERRY_GROUP_NOTED, 104, 8, 0, -EPROTO}, /* Restarts. */
		{FERRY_GROUP_STATE, 104, 8, 0, 0},
		{FERRY_GROUP_ACK, 104, 1, 1, -EPROTO},
		{FERRY_GROUP_FENCED, 104, 1, 1, -EPROTO},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		struct ferry_group_message from = example(cases[i].type);
		struct ferry_group_message to = {.ring = 77};
		uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES];

		ferry_group_message_encode(&from, bytes);
		memset(bytes + cases[i].at, cases[i].value, cases[i].length);
		seal(bytes);
		assert_int_equal(decode(bytes, &to), cases[i].error);
		if (cases[i].error < 0)
			assert_int_equal(to.ring, 77); /* Untouched. */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_comes_through),
		cmocka_unit_test(damage_is_seen),
		cmocka_unit_test(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
