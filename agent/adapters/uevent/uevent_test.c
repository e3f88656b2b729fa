/*
 * What events say, and whose they are, in a sysfs of the test's own. That the kernel sends such
 * events, tests/vm shows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/uevent/private.h"
#include "agent/adapters/uring/loop.h"

#define RESET "SDEV_UA=POWER_ON_RESET_OCCURRED"

static void test_reads_events(void **state)
{
	static const char reset[] =
		"change@/devices/x/2:0:0:0\0ACTION=change\0"
		"DEVPATH=/devices/x/2:0:0:0\0SUBSYSTEM=scsi\0" RESET "\0DEVTYPE=scsi_device";
	static const char other[] = "change@/d\0DEVPATH=/d\0SDEV_UA=MODE_PARAMETERS_CHANGED";
	static const char odd[] = "change@/d\0" RESET "\0X=" RESET;

	(void)state;
	assert_string_equal(ferry_uevent_reset_of(reset, sizeof(reset)), "/devices/x/2:0:0:0");
	assert_null(ferry_uevent_reset_of(reset, sizeof(reset) - 1)); /* Cut off. */
	assert_null(ferry_uevent_reset_of(other, sizeof(other)));
	assert_null(ferry_uevent_reset_of(odd, sizeof(odd)));
	assert_null(ferry_uevent_reset_of(NULL, 0));
}

static char sysfs[] = "/tmp/ferry-uevent-sys.XXXXXX";

static void in_sysfs(const char *what)
{
	char command[512];

	(void)snprintf(command, sizeof(command), "cd %s && %s", sysfs, what);
	assert_int_equal(system(command), 0);
}

static bool is_beneath(uint32_t minor_number, const char *devpath)
{
	return ferry_uevent_is_beneath(sysfs, makedev(8, minor_number), devpath);
}

static void test_finds_what_is_beneath(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(sysfs));
	in_sysfs("for d in 0/block/sda 1/block/sdb 2/block/sdc; do"
		 " h=devices/host/${d%%/*}:0:0:0; mkdir -p $h/block/${d##*/};"
		 " echo 6 >$h/scsi_level; ln -s ../.. $h/block/${d##*/}/device; done");
	in_sysfs("mkdir -p devices/host/0:0:0:0/block/sda/sda1 dev/block devices/virtual/ram0"
		 " devices/virtual/dm-0/slaves devices/virtual/dm-1/slaves;"
		 " echo 1 >devices/host/0:0:0:0/block/sda/sda1/partition");
	in_sysfs("cd devices/virtual/dm-0/slaves; ln -s ../../../host/0:0:0:0/block/sda;"
		 " ln -s ../../../host/1:0:0:0/block/sdb; ln -s ../../dm-0 ../../dm-1/slaves/");
	in_sysfs("cd dev/block; ln -s ../../devices/host/0:0:0:0/block/sda 8:0;"
		 " ln -s ../../devices/host/0:0:0:0/block/sda/sda1 8:1;"
		 " ln -s ../../devices/virtual/dm-1 8:2; ln -s ../../devices/virtual/ram0 8:3");

	assert_true(is_beneath(0, "/devices/host/0:0:0:0"));
	assert_false(is_beneath(0, "/devices/host/1:0:0:0"));
	assert_false(is_beneath(0, "/devices/host/0:0:0:0/block"));
	assert_true(is_beneath(0, NULL));
	assert_true(is_beneath(1, "/devices/host/0:0:0:0"));
	assert_true(is_beneath(2, "/devices/host/0:0:0:0"));
	assert_true(is_beneath(2, "/devices/host/1:0:0:0"));
	assert_false(is_beneath(2, "/devices/host/2:0:0:0"));
	assert_false(is_beneath(3, NULL));
	assert_false(is_beneath(4, NULL));
	/* A path that was added since. */
	in_sysfs("ln -s ../../../host/2:0:0:0/block/sdc devices/virtual/dm-0/slaves/");
	assert_true(is_beneath(2, "/devices/host/2:0:0:0"));
	in_sysfs("rm -r dev devices");
	assert_int_equal(rmdir(sysfs), 0);
}

static void never(void *context)
{
	(void)context;
	fail();
}

static void test_a_file_has_no_events(void **state)
{
	struct ferry_uevent_config config = {.path = "/dev/null", .on_reset = never};
	struct ferry_uring_loop *loop;
	struct ferry_uevent *uevent = NULL;
	struct ferry_error error;

	(void)state;
	assert_int_equal(ferry_uring_loop_open(&loop, &error), 0);
	config.loop = ferry_uring_loop_of(loop);
	assert_int_equal(ferry_uevent_open(&config, &uevent, &error), -EOPNOTSUPP);
	config.path = "/nonexistent";
	assert_int_equal(ferry_uevent_open(&config, &uevent, &error), -ENOENT);
	assert_null(uevent);
	ferry_uevent_close(uevent);
	loop = ferry_uring_loop_close(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_events),
		cmocka_unit_test(test_finds_what_is_beneath),
		cmocka_unit_test(test_a_file_has_no_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
