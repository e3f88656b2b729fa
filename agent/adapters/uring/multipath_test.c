#include "agent/adapters/uring/multipath.h"

#include <linux/dm-ioctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

/* The list as the kernel lays it out: retrieve_status() in drivers/md/dm-ioctl.c. */
struct table {
	_Alignas(8) uint8_t bytes[4096];
	size_t size_bytes;
	uint32_t count;
};

static void table_add(struct table *table, const char *type, const char *parameters)
{
	struct dm_target_spec target = {.length = 2048};
	size_t start = table->size_bytes;
	size_t end = start + sizeof(target) + strlen(parameters) + 1;

	end = (end + 7) & ~(size_t)7;
	assert_true(end <= sizeof(table->bytes));
	target.next = (uint32_t)end;
	memcpy(target.target_type, type, strlen(type));
	memcpy(table->bytes + start, &target, sizeof(target));
	memcpy(table->bytes + start + sizeof(target), parameters, strlen(parameters) + 1);
	table->size_bytes = end;
	table->count++;
}

static int table_queues(const struct table *table)
{
	return ferry_multipath_table_queues(table->bytes, table->size_bytes, table->count);
}

static void tables(void **state)
{
	static const struct {
		const char *type;
		const char *parameters;
		int result;
	} cases[] = {
		{"multipath", "0 0 1 1 service-time 0 2 1 8:16 1 8:32 1 ", 0},
		{"multipath", "1 queue_if_no_path 0 1 1 service-time 0 1 1 8:16 1 ", 1},
		{"multipath", "2 retain_attached_hw_handler queue_if_no_path 1 alua 1 1", 1},
		{"multipath", "3 queue_if_no_path queue_mode bio 0 1 1 round-robin 0", 1},
		{"multipath", "2 queue_mode rq 0 1 1 service-time 0 1 1 8:16 1 ", 0},
		/* Not a feature: beyond their count. */
		{"multipath", "0 1 queue_if_no_path 1 1", 0},
		{"multipath", "1 queue_if_no_path_x 0 1 1", 0},
		{"multipath", "", -EBADMSG},
		{"multipath", "x", -EBADMSG},
		{"multipath", "3 queue_mode rq", -EBADMSG},
		{"multipath", "99999999999999999999 a", -EBADMSG},
		{"linear", "8:16 2048", 0},
		{"linear", "1 queue_if_no_path", 0},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		struct table table = {0};

		table_add(&table, cases[i].type, cases[i].parameters);
		if (table_queues(&table) != cases[i].result)
			fail_msg("'%s' gives %d", cases[i].parameters, table_queues(&table));
	}
}

static void damaged_tables(void **state)
{
	struct table table = {0};
	struct dm_target_spec target;

	(void)state;
	assert_int_equal(table_queues(&table), 0);
	table_add(&table, "linear", "8:16 0");
	table_add(&table, "multipath", "1 queue_if_no_path 0 0 0");
	assert_int_equal(table_queues(&table), 1);
	/* Cut anywhere: never read beyond the end, never "fine". */
	for (size_t size = 0; size < table.size_bytes - 8; size++)
		assert_int_equal(ferry_multipath_table_queues(table.bytes, size, table.count),
				 -EBADMSG);
	/* One target more than there is. */
	table.count = 3;
	assert_int_equal(table_queues(&table), 1);
	memcpy(&target, table.bytes, sizeof(target));
	target.next = 0; /* Leads to itself. */
	memcpy(table.bytes, &target, sizeof(target));
	assert_int_equal(table_queues(&table), -EBADMSG);
	target.next = UINT32_MAX;
	memcpy(table.bytes, &target, sizeof(target));
	assert_int_equal(table_queues(&table), -EBADMSG);
}

static char root[64];

static void sh(const char *format, ...) FERRY_PRINTF(1, 2);
static void sh(const char *format, ...)
{
	char command[512];
	va_list arguments;
	int length;

	length = snprintf(command, sizeof(command), "cd '%s' && ", root);
	va_start(arguments, format);
	vsnprintf(command + length, sizeof(command) - (size_t)length, format, arguments);
	va_end(arguments);
	assert_int_equal(system(command), 0);
}

/* A device in the stand-in for sysfs. */
static void device_add(const char *number, const char *uuid)
{
	sh("mkdir -p dev/block/%s/slaves", number);
	if (uuid)
		sh("mkdir dev/block/%s/dm && echo '%s' > dev/block/%s/dm/uuid", number, uuid,
		   number);
}

static void slave_add(const char *number, const char *slave)
{
	sh("mkdir dev/block/%s/slaves/s%s && echo %s > dev/block/%s/slaves/s%s/dev", number, slave,
	   slave, number, slave);
}

static int setup(void **state)
{
	const char *parent = getenv("TMPDIR");

	(void)state;
	snprintf(root, sizeof(root), "%.32s/ferry-sysfs.XXXXXX", parent ? parent : "/tmp");
	assert_non_null(mkdtemp(root));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sh("rm -rf '%s'", root);
	return 0;
}

static uint32_t asked;

static int ask_nothing(dev_t number)
{
	(void)number;
	asked++;
	return -EACCES;
}

/* 253:7 queues, and nothing else. */
static int ask_seven(dev_t number)
{
	asked++;
	return major(number) == 253 && minor(number) == 7;
}

static void walks_down(void **state)
{
	struct ferry_error error = {0};

	(void)state;
	asked = 0;
	/* A disk; a map on it; a logical volume on two maps, one of which queues. */
	device_add("8:0", NULL);
	device_add("8:16", NULL);
	device_add("253:7", "mpath-3600140500000000");
	slave_add("253:7", "8:0");
	device_add("253:1", "mpath-3600140511111111");
	slave_add("253:1", "8:16");
	device_add("253:9", "LVM-abc");
	slave_add("253:9", "253:1");
	assert_int_equal(ferry_multipath_check(root, makedev(8, 0), ask_seven, &error), 0);
	assert_int_equal(asked, 0);
	assert_int_equal(ferry_multipath_check(root, makedev(253, 1), ask_seven, &error), 0);
	assert_int_equal(ferry_multipath_check(root, makedev(253, 9), ask_seven, &error), 0);
	assert_int_equal(error.code, 0);
	slave_add("253:9", "253:7");
	assert_int_equal(ferry_multipath_check(root, makedev(253, 9), ask_seven, &error), -EMLINK);
	assert_non_null(strstr(error.message, "253:7"));
	assert_non_null(strstr(error.message, "queue_if_no_path"));
	assert_int_equal(ferry_multipath_check(root, makedev(253, 7), ask_seven, &error), -EMLINK);
	/* Nobody can tell: of a multipath map that is a no, of another map it does not matter. */
	assert_int_equal(ferry_multipath_check(root, makedev(253, 1), ask_nothing, &error),
			 -EMLINK);
	device_add("253:3", "CRYPT-x");
	slave_add("253:3", "8:0");
	assert_int_equal(ferry_multipath_check(root, makedev(253, 3), ask_nothing, &error), 0);
}

static void partition_of_a_map(void **state)
{
	struct ferry_error error = {0};

	(void)state;
	/* As in sysfs: dev/block holds links, a partition lies in its disk's folder. */
	sh("mkdir -p dev/block disk/part/holders disk/slaves/m");
	sh("echo 1 > disk/part/partition");
	sh("ln -s ../../disk dev/block/9:0 && ln -s ../../disk/part dev/block/9:1");
	sh("echo 253:7 > disk/slaves/m/dev");
	device_add("253:7", "mpath-1");
	assert_int_equal(ferry_multipath_check(root, makedev(9, 1), ask_seven, &error), -EMLINK);
}

static void endless_stack(void **state)
{
	struct ferry_error error = {0};

	(void)state;
	device_add("253:1", "LVM-a");
	slave_add("253:1", "253:1");
	assert_int_equal(ferry_multipath_check(root, makedev(253, 1), ask_seven, &error), -EMLINK);
	assert_non_null(strstr(error.message, "more devices"));
}

/* The real one, on whatever is here: an answer or an error, never a claim. */
static void ask_really(void **state)
{
	(void)state;
	assert_true(ferry_multipath_ask(makedev(259, 65535)) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables),
		cmocka_unit_test(damaged_tables),
		cmocka_unit_test_setup_teardown(walks_down, setup, teardown),
		cmocka_unit_test_setup_teardown(partition_of_a_map, setup, teardown),
		cmocka_unit_test_setup_teardown(endless_stack, setup, teardown),
		cmocka_unit_test(ask_really),
	};

	return cmocka_run_group_tests_name("uring_multipath", tests, NULL, NULL);
}
