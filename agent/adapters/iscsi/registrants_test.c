/* registrants_test.c - who is registered, out of what the lun says, cut at each byte. */
#include "agent/adapters/iscsi/registrants.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROW_BYTES = 24 + 4 + 44 };

/* One full status descriptor at @data. */
static size_t put_row(uint8_t *data, uint8_t node, uint8_t incarnation, const char *port)
{
	memset(data, 0, ROW_BYTES);
	data[0] = 0xfe;
	data[3] = node;
	data[7] = incarnation;
	data[19] = 1; /* The relative target port. */
	data[23] = ROW_BYTES - 24;
	data[24] = 0x45;
	data[27] = ROW_BYTES - 28;
	memcpy(data + 28, port, strlen(port));
	return ROW_BYTES;
}

static size_t put_status(uint8_t *data)
{
	size_t at = 8;

	memset(data, 0, 8);
	at += put_row(data + at, 1, 1, "iqn.2026-11.t:n1,i,0x80fe44190001");
	at += put_row(data + at, 2, 7, "iqn.2026-11.t:n2,i,0x80FE4419000a");
	at += put_row(data + at, 3, 1, "iqn.2026-11.t:n3,i,0x80fe44180001");
	data[7] = (uint8_t)(at - 8);
	return at;
}

static void test_names(void **state)
{
	uint8_t data[8 + 3 * ROW_BYTES];
	struct ferry_iscsi_registrants all;

	(void)state;
	assert_int_equal(ferry_iscsi_registrants_parse(data, put_status(data), &all), 0);
	assert_int_equal(all.count, 3);
	assert_true(all.rows[0].has_name);
	assert_string_equal(all.rows[0].initiator, "iqn.2026-11.t:n1");
	assert_int_equal(all.rows[0].qualifier, 1);
	assert_int_equal(all.rows[0].target_port, 1);
	assert_int_equal(all.rows[1].key.v, UINT64_C(0xfe00000200000007));
	assert_int_equal(all.rows[1].qualifier, 10);
	assert_false(all.rows[2].has_name); /* Not an ISID of ours. */
}

static void test_cut_off(void **state)
{
	uint8_t data[8 + 3 * ROW_BYTES];
	size_t length = put_status(data);
	struct ferry_iscsi_registrants all;

	(void)state;
	for (size_t i = 0; i < length; i++) {
		uint8_t *copy = malloc(i + 1);

		memcpy(copy, data, i);
		assert_int_equal(ferry_iscsi_registrants_parse(copy, i, &all), -EBADMSG);
		if (i >= 8) { /* And if the header says so too, but for whole rows. */
			copy[7] = (uint8_t)(i - 8);
			assert_int_equal(ferry_iscsi_registrants_parse(copy, i, &all),
					 (i - 8) % ROW_BYTES ? -EBADMSG : 0);
		}
		free(copy);
	}
}

static void test_memory(void **state)
{
	uint8_t data[8 + 3 * ROW_BYTES];
	size_t length = put_status(data);
	struct ferry_iscsi_registrants all;
	struct ferry_iscsi_registrants seen = {.count = 0};

	(void)state;
	assert_int_equal(ferry_iscsi_registrants_parse(data, length, &all), 0);
	ferry_iscsi_registrants_merge(&seen, &all);
	/* Node 2 has a new agent, nodes 1 and 3 are gone. */
	data[7] = (uint8_t)put_row(data + 8, 2, 9, "iqn.2026-11.t:m2,i,0x80fe44190002");
	assert_int_equal(ferry_iscsi_registrants_parse(data, 8 + ROW_BYTES, &all), 0);
	ferry_iscsi_registrants_merge(&seen, &all);
	assert_int_equal(seen.count, 3);
	assert_string_equal(ferry_iscsi_registrants_find(
				    &seen, (struct ferry_key){UINT64_C(0xfe00000200000007)})
				    ->initiator,
			    "iqn.2026-11.t:m2");
	assert_non_null(ferry_iscsi_registrants_find(
		&seen, (struct ferry_key){UINT64_C(0xfe00000100000005)}));
	assert_null(ferry_iscsi_registrants_find(&seen,
						 (struct ferry_key){UINT64_C(0xfe00000400000001)}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
