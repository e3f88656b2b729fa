#include "proto/scsi_reservation.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_keys(void **state)
{
	/* PRgeneration 5, two registrations. */
	uint8_t data[FERRY_PR_KEYS_BYTES] = {0,	   0,	 0,    5,    0,	   0,	 0,    16,
					     0,	   0,	 0,    0,    0,	   0,	 0,    0x11,
					     0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0};
	struct ferry_pr_keys keys = {.count = 99};

	(void)state;
	assert_int_equal(ferry_pr_get_keys(data, 7, &keys), -EBADMSG);
	assert_int_equal(ferry_pr_get_keys(data, 23, &keys), -EBADMSG); /* One byte is missing. */
	assert_int_equal(keys.count, 99);
	assert_int_equal(ferry_pr_get_keys(data, 24, &keys), 0);
	assert_int_equal(keys.generation, 5);
	assert_int_equal(keys.count, 2);
	assert_int_equal(keys.keys[0].v, 0x11);
	assert_int_equal(keys.keys[1].v, 0x123456789abcdef0);
	assert_true(ferry_pr_keys_have(&keys, (struct ferry_key){0x11}));
	assert_false(ferry_pr_keys_have(&keys, (struct ferry_key){0x12}));
	data[7] = 12; /* One and a half. */
	assert_int_equal(ferry_pr_get_keys(data, sizeof(data), &keys), -EBADMSG);
	data[6] = 2; /* 64 registrations fit, one more does not. */
	data[7] = 0;
	assert_int_equal(ferry_pr_get_keys(data, sizeof(data), &keys), 0);
	assert_int_equal(keys.count, FERRY_KEYS_MAX);
	data[7] = 8;
	assert_int_equal(ferry_pr_get_keys(data, sizeof(data), &keys), -E2BIG);
	data[4] = 0xff;
	data[7] = 0xf8;
	assert_int_equal(ferry_pr_get_keys(data, sizeof(data), &keys), -E2BIG);
}

static void test_reservation(void **state)
{
	uint8_t data[FERRY_PR_RESERVATION_BYTES] = {0, 0, 0, 5, 0, 0, 0, 16, 0, 0, 0,
						    0, 0, 0, 0, 7, 0, 0, 0,  0, 0, 5};
	struct ferry_pr_reservation reservation = {.type = 99};

	(void)state;
	assert_int_equal(ferry_pr_get_reservation(data, 23, &reservation), -EBADMSG);
	assert_int_equal(ferry_pr_get_reservation(data, 4, &reservation), -EBADMSG);
	assert_int_equal(reservation.type, 99);
	assert_int_equal(ferry_pr_get_reservation(data, 24, &reservation), 0);
	assert_int_equal(reservation.holder.v, 7);
	assert_int_equal(reservation.type, FERRY_PR_WRITE_EXCLUSIVE_REGISTRANTS);
	data[21] = 0;
	assert_int_equal(ferry_pr_get_reservation(data, 24, &reservation), -EBADMSG);
	data[7] = 8;
	assert_int_equal(ferry_pr_get_reservation(data, 24, &reservation), -EBADMSG);
	data[7] = 0;
	assert_int_equal(ferry_pr_get_reservation(data, 8, &reservation), 0);
	assert_int_equal(reservation.holder.v, 0);
	assert_int_equal(reservation.type, 0);
}

static void test_capabilities(void **state)
{
	uint8_t data[FERRY_PR_CAPABILITIES_BYTES] = {0, 8, 0x11, 0x80, 0x20};
	struct ferry_pr_capabilities told = {};

	(void)state;
	assert_int_equal(ferry_pr_get_capabilities(data, 7, &told), -EBADMSG);
	assert_int_equal(ferry_pr_get_capabilities(data, 8, &told), 0);
	assert_true(told.keeps && told.has_registrants_type);
	data[2] = 0x10;
	data[4] = 0xca; /* All types but that one. */
	assert_int_equal(ferry_pr_get_capabilities(data, 8, &told), 0);
	assert_false(told.keeps || told.has_registrants_type);
	data[3] = 0; /* It says nothing of types. */
	assert_int_equal(ferry_pr_get_capabilities(data, 8, &told), 0);
	assert_true(told.has_registrants_type);
	data[1] = 4;
	assert_int_equal(ferry_pr_get_capabilities(data, 8, &told), -EBADMSG);
}

static void test_sense(void **state)
{
	const uint8_t fixed[] = {0xf0, 0, 0x66, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0x07, 0, 0, 0, 0};
	const uint8_t descriptor[] = {0x73, 0x03, 0x11, 0x01, 0, 0, 0, 0};
	struct ferry_sense sense = {.key = 99};

	(void)state;
	assert_int_equal(ferry_sense_get(fixed, 0, &sense), -EBADMSG);
	assert_int_equal(ferry_sense_get(fixed, 2, &sense), -EBADMSG);
	assert_int_equal(ferry_sense_get(descriptor, 3, &sense), -EBADMSG);
	assert_int_equal(ferry_sense_get((const uint8_t[]){0x7f, 6, 6, 6}, 4, &sense), -EBADMSG);
	assert_int_equal(sense.key, 99);
	assert_int_equal(ferry_sense_get(fixed, sizeof(fixed), &sense), 0);
	assert_true(sense.key == 6 && sense.asc == 0x29 && sense.ascq == 7 && !sense.is_deferred);
	assert_int_equal(ferry_sense_get(fixed, 8, &sense), 0); /* A key, and no more. */
	assert_true(sense.key == 6 && sense.asc == 0 && sense.ascq == 0);
	assert_int_equal(ferry_sense_get(fixed, 3, &sense), 0);
	assert_int_equal(sense.key, 6);
	assert_int_equal(ferry_sense_get(fixed, 13, &sense), 0); /* To the very byte. */
	assert_true(sense.asc == 0x29 && sense.ascq == 0);
	assert_int_equal(ferry_sense_get(descriptor, 4, &sense), 0);
	assert_true(sense.key == 3 && sense.ascq == 1);
	assert_int_equal(ferry_sense_get(descriptor, sizeof(descriptor), &sense), 0);
	assert_true(sense.key == 3 && sense.asc == 0x11 && sense.ascq == 1 && sense.is_deferred);
}

static void test_commands(void **state)
{
	const uint8_t keys[FERRY_PR_CDB_BYTES] = {0x5e, 0, 0, 0, 0, 0, 0, 2, 8, 0};
	const uint8_t abort[FERRY_PR_CDB_BYTES] = {0x5f, 5, 5, 0, 0, 0, 0, 0, 24, 0};
	const uint8_t registration[FERRY_PR_CDB_BYTES] = {0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0};
	const uint8_t parameters[FERRY_PR_OUT_BYTES] = {0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0,
							0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0};
	uint8_t bytes[FERRY_PR_OUT_BYTES];

	(void)state;
	ferry_pr_in_cdb(FERRY_PR_READ_KEYS, FERRY_PR_KEYS_BYTES, bytes);
	assert_memory_equal(bytes, keys, sizeof(keys));
	ferry_pr_in_cdb(FERRY_PR_REPORT_CAPABILITIES, 8, bytes);
	assert_int_equal(bytes[1], 2);
	ferry_pr_out_cdb(FERRY_PR_PREEMPT_AND_ABORT, bytes);
	assert_memory_equal(bytes, abort, sizeof(abort));
	ferry_pr_out_cdb(FERRY_PR_REGISTER_AND_IGNORE, bytes);
	assert_memory_equal(bytes, registration, sizeof(registration));
	ferry_pr_out_parameters(FERRY_PR_PREEMPT_AND_ABORT, (struct ferry_key){0x102},
				(struct ferry_key){0x0300000000000004}, bytes);
	assert_memory_equal(bytes, parameters, sizeof(parameters));
	ferry_pr_out_parameters(FERRY_PR_REGISTER_AND_IGNORE, (struct ferry_key){0},
				(struct ferry_key){1}, bytes);
	assert_int_equal(bytes[20], 1); /* APTPL */
	ferry_pr_out_cdb(FERRY_PR_REGISTER, bytes);
	assert_true(bytes[1] == 0 && bytes[2] == 0);
	ferry_pr_out_parameters(FERRY_PR_REGISTER, (struct ferry_key){1}, (struct ferry_key){2},
				bytes);
	assert_true(bytes[7] == 1 && bytes[15] == 2 && bytes[20] == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),	     cmocka_unit_test(test_reservation),
		cmocka_unit_test(test_capabilities), cmocka_unit_test(test_sense),
		cmocka_unit_test(test_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
