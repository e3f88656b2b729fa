/* What nodes keep on their disks: it comes back as it was, and nonsense does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/stored.h"

static void epoch_comes_back(void **state)
{
	struct ferry_stored_epoch from = {.lineage = {{1, 2}},
					  .epoch = {0x0102030405060708},
					  .owner = {9},
					  .settled = {7},
					  .tenure = {5},
					  .tenure_last = {6}};
	struct ferry_stored_epoch to;
	uint8_t bytes[FERRY_STORED_EPOCH_BYTES + 1] = {0};

	(void)state;
	ferry_stored_epoch_encode(&from, bytes);
	assert_int_equal(ferry_stored_epoch_decode(bytes, FERRY_STORED_EPOCH_BYTES, &to), 0);
	assert_true(ferry_uuid_equal(&to.lineage, &from.lineage));
	assert_true(to.epoch.v == from.epoch.v);
	assert_int_equal(to.owner.v, 9);
	assert_int_equal(to.settled.v, 7);
	assert_int_equal(to.tenure.v, 5);
	assert_int_equal(to.tenure_last.v, 6);
	/* Older agents'. */
	assert_int_equal(ferry_stored_epoch_decode(bytes, FERRY_STORED_EPOCH_BYTES_SECOND, &to), 0);
	assert_int_equal(to.settled.v, 7);
	assert_int_equal(to.tenure.v, 0);
	assert_int_equal(to.tenure_last.v, 0);
	assert_int_equal(ferry_stored_epoch_decode(bytes, FERRY_STORED_EPOCH_BYTES_FIRST, &to), 0);
	assert_int_equal(to.settled.v, 0);
	assert_int_equal(ferry_stored_epoch_decode(bytes, sizeof(bytes), &to), -EBADMSG);
	assert_int_equal(ferry_stored_epoch_decode(bytes, FERRY_STORED_EPOCH_BYTES - 1, &to),
			 -EBADMSG);
}

/* From a first to a last one, neither above the epoch; or none. */
static void tenure_is_one(void **state)
{
	static const struct {
		uint8_t first, last;
		int r;
	} cases[] = {{0, 0, 0},	       {3, 3, 0},	 {2, 3, 0},
		     {3, 2, -EBADMSG}, {0, 2, -EBADMSG}, {3, 4, -EBADMSG}};
	struct ferry_stored_epoch from = {.epoch = {3}}, to;
	uint8_t bytes[FERRY_STORED_EPOCH_BYTES];

	(void)state;
	ferry_stored_epoch_encode(&from, bytes);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		bytes[FERRY_STORED_EPOCH_BYTES_SECOND] = cases[i].first;
		bytes[FERRY_STORED_EPOCH_BYTES_SECOND + 8] = cases[i].last;
		assert_int_equal(ferry_stored_epoch_decode(bytes, sizeof(bytes), &to), cases[i].r);
	}
}

static void incarnation_comes_back(void **state)
{
	struct ferry_incarnation to = {5};
	uint8_t bytes[FERRY_STORED_INCARNATION_BYTES] = {0};

	(void)state;
	assert_int_equal(ferry_stored_incarnation_decode(bytes, sizeof(bytes), &to), -EBADMSG);
	assert_int_equal(to.v, 5);
	ferry_stored_incarnation_encode((struct ferry_incarnation){0x1122334455667788}, bytes);
	assert_int_equal(ferry_stored_incarnation_decode(bytes, sizeof(bytes), &to), 0);
	assert_true(to.v == 0x1122334455667788);
	assert_int_equal(ferry_stored_incarnation_decode(bytes, sizeof(bytes) - 1, &to), -EBADMSG);
	ferry_stored_incarnation_encode((struct ferry_incarnation){UINT64_MAX}, bytes);
	assert_int_equal(ferry_stored_incarnation_decode(bytes, sizeof(bytes), &to), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(epoch_comes_back),
		cmocka_unit_test(tenure_is_one),
		cmocka_unit_test(incarnation_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
