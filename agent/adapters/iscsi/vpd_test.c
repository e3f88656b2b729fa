/* vpd_test.c - the parsers of what a lun says of itself; every answer also cut short, anywhere. */
#include "agent/adapters/iscsi/vpd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint8_t IDS[] = {
	0x00, 0x83, 0x00, 0x3c,					   /* Header: 60 bytes follow. */
	0x02, 0x01, 0x00, 0x0c, 'I',  'E',  'T',  ' ',	' ',  ' ', /* T10, of the lun. */
	' ',  ' ',  '0',  '0',	'0',  '1',			   /* */
	0x01, 0x13, 0x00, 0x08, 0x60, 0x01, 0x02, 0x03, 0x04,	   /* NAA, but of the port. */
	0x05, 0x06, 0x07,					   /* */
	0x01, 0x03, 0x00, 0x10, 0x60, 0x01, 0x40, 0x5a, 0xbc,	   /* NAA 6, of the lun. */
	0xde, 0xf0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde,	   /* */
	0xf0, 0x12,						   /* */
	0x01, 0x02, 0x00, 0x08, 0,    1,    2,	  3,	4,	   /* EUI-64: worth less. */
	5,    6,    7,
};

static void test_identification(void **state)
{
	struct ferry_iscsi_lun lun = {0};

	(void)state;
	assert_int_equal(sizeof(IDS), 4 + 0x3c);
	assert_int_equal(ferry_iscsi_vpd_identification(IDS, sizeof(IDS), &lun), 0);
	assert_string_equal(lun.wwid, "naa.6001405abcdef0123456789abcdef012");
	/* Cut behind the first designator, it is the T10 name. */
	assert_int_equal(ferry_iscsi_vpd_identification(IDS, 24, &lun), 0);
	assert_string_equal(lun.wwid, "t10.IET     0001");
}

static void test_identification_none(void **state)
{
	static const uint8_t PORT_ONLY[] = {0,	  0x83, 0, 12, 1, 0x13, 0, 8,
					    0x60, 1,	2, 3,  4, 5,	6, 7};
	static const uint8_t EMPTY[] = {0, 0x83, 0, 4, 1, 3, 0, 0};
	static const uint8_t ENDLESS[] = {0, 0x83, 0xff, 0xff, 1, 3, 0, 0xff, 0x60, 1};
	struct ferry_iscsi_lun lun = {0};

	(void)state;
	assert_int_equal(ferry_iscsi_vpd_identification(PORT_ONLY, sizeof(PORT_ONLY), &lun),
			 -ENOENT);
	assert_int_equal(ferry_iscsi_vpd_identification(EMPTY, sizeof(EMPTY), &lun), -ENOENT);
	assert_int_equal(ferry_iscsi_vpd_identification(ENDLESS, sizeof(ENDLESS), &lun), -ENOENT);
	assert_string_equal(lun.wwid, "");
}

static void test_standard(void **state)
{
	uint8_t data[36] = {0, 0, 5, 2, 31};
	struct ferry_iscsi_lun lun = {0};

	(void)state;
	memcpy(data + 8, "LIO-ORG disk\x01           4.0 ", 28);
	assert_int_equal(ferry_iscsi_vpd_standard(data, sizeof(data), &lun), 0);
	assert_string_equal(lun.vendor, "LIO-ORG");
	assert_string_equal(lun.product, "disk_");
	data[0] = 0x0c;
	assert_int_equal(ferry_iscsi_vpd_standard(data, sizeof(data), &lun), -ENOTBLK);
	data[0] = 0x7f;
	assert_int_equal(ferry_iscsi_vpd_standard(data, sizeof(data), &lun), -ENODEV);
	assert_int_equal(ferry_iscsi_vpd_standard(data, 35, &lun), -EBADMSG);
}

static void test_capacity(void **state)
{
	uint8_t data[32] = {0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 2, 0};
	struct ferry_iscsi_lun lun = {0};

	(void)state;
	assert_int_equal(ferry_iscsi_vpd_capacity(data, sizeof(data), &lun), 0);
	assert_int_equal(lun.size_blocks, 0x20000);
	assert_int_equal(lun.block_bytes, 512);
	data[10] = 3;
	assert_int_equal(ferry_iscsi_vpd_capacity(data, sizeof(data), &lun), -EBADMSG);
	data[10] = 0x10;
	assert_int_equal(ferry_iscsi_vpd_capacity(data, sizeof(data), &lun), 0);
	memset(data, 0xff, 8);
	assert_int_equal(ferry_iscsi_vpd_capacity(data, sizeof(data), &lun), -EBADMSG);
	data[0] = 0x0f; /* More bytes than 64 bits count. */
	assert_int_equal(ferry_iscsi_vpd_capacity(data, sizeof(data), &lun), -EBADMSG);
}

static void test_caching(void **state)
{
	uint8_t data[28] = {0, 26, 0, 0x10, 0, 0, 0, 0, 0x08, 0x12, 0x04};
	struct ferry_iscsi_lun lun = {0};

	(void)state;
	assert_int_equal(ferry_iscsi_vpd_caching(data, sizeof(data), &lun), 0);
	assert_true(lun.has_fua && lun.has_write_cache);
	data[3] = data[10] = 0;
	assert_int_equal(ferry_iscsi_vpd_caching(data, sizeof(data), &lun), 0);
	assert_true(!lun.has_fua && !lun.has_write_cache);
	data[7] = 200; /* A block descriptor beyond the end. */
	assert_int_equal(ferry_iscsi_vpd_caching(data, sizeof(data), &lun), -EBADMSG);
}

/* Any bytes, any length: no crash (sanitizers watch), no unterminated text. */
static void test_garbage(void **state)
{
	uint32_t seed = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t length = (size_t)(round % 70);
		uint8_t *data = malloc(length + 1);
		struct ferry_iscsi_lun lun = {0};

		assert_non_null(data);
		for (size_t i = 0; i < length; i++)
			data[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
		if (length > 1)
			data[1] = (uint8_t[]){0x83, 0x80, 0xb0, 0xb2}[round % 4];
		data = realloc(data, length ? length : 1);
		(void)ferry_iscsi_vpd_standard(data, length, &lun);
		(void)ferry_iscsi_vpd_identification(data, length, &lun);
		(void)ferry_iscsi_vpd_serial(data, length, &lun);
		(void)ferry_iscsi_vpd_limits(data, length, &lun);
		(void)ferry_iscsi_vpd_provisioning(data, length, &lun);
		(void)ferry_iscsi_vpd_capacity(data, length, &lun);
		(void)ferry_iscsi_vpd_caching(data, length, &lun);
		assert_non_null(memchr(lun.wwid, '\0', sizeof(lun.wwid)));
		assert_non_null(memchr(lun.serial, '\0', sizeof(lun.serial)));
		free(data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identification), cmocka_unit_test(test_identification_none),
		cmocka_unit_test(test_standard),       cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_caching),	       cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
