/* What nodes keep on their disks: it comes back as it was, and nonsense does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/stored.h"

static void epoch_comes_back(void **state)
{
	struct ferry_stored_epoch from = {
		.lineage = {{1, 2}}, .epoch = {0x0102030405060708}, .owner = {9}, .settled = {7}};
	struct ferry_stored_epoch to;
	uint8_t bytes[FERRY_STORED_EPOCH_BYTES + 1] = {0};

	(void)state;
	ferry_stored_epoch_encode(&from, bytes);
	assert_int_equal(ferry_stored_epoch_decode(bytes, FERRY_STORED_EPOCH_BYTES, &to), 0);
	assert_true(ferry_uuid_equal(&to.lineage, &from.lineage));
	assert_true(to.epoch.v == from.epoch.v);
	assert_int_equal(to.owner.v, 9);
	assert_int_equal(to.settled.v, 7);
	assert_int_equal(ferry_stored_epoch_decode(bytes, FERRY_STORED_EPOCH_BYTES_FIRST, &to), 0);
	assert_int_equal(to.settled.v, 0); /* An older agent's. */
	assert_int_equal(ferry_stored_epoch_decode(bytes, sizeof(bytes), &to), -EBADMSG);
	assert_int_equal(ferry_stored_epoch_decode(bytes, FERRY_STORED_EPOCH_BYTES - 1, &to),
			 -EBADMSG);
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
		cmocka_unit_test(incarnation_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
