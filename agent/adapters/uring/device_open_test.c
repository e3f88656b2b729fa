/* What may be opened, by whom, and what the lun says that it is. */
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "agent/adapters/uring/device_stand.h"

static void held_exclusively(void **state)
{
	struct fixture *f = *state;
	struct ferry_error error = {0};
	struct ferry_device *first = f->device;
	const char *name = f->is_on_loop_device ? f->device_name : f->file;

	if (skip_without_device(f))
		return;
	assert_int_equal(device_open(f, name, 0, 0, &error), -EBUSY);
	assert_int_equal(error.code, -EBUSY);
	assert_non_null(strstr(error.message, name));
	assert_ptr_equal(f->device, first);
	/* Another process, too. */
	if (fork() == 0)
		_exit(device_open(f, name, 0, 0, &error) == -EBUSY ? 0 : 1);
	int status;
	assert_true(wait(&status) > 0);
	assert_int_equal(status, 0);
	assert_int_equal(ferry_device_close(first), 0);
	f->device = NULL;
	assert_int_equal(device_open(f, name, 0, 0, &error), 0);
}

static void identity_of_file(void **state)
{
	struct fixture *f = *state;
	const struct ferry_lun_identity *identity = ferry_device_identity(f->device);
	struct ferry_uuid uuid = identity->uuid;
	struct ferry_error error;

	assert_int_equal(identity->block_bytes, 512);
	assert_int_equal(identity->size_blocks, SIZE_BYTES / 512);
	assert_int_equal(strncmp(identity->wwid, "file.", 5), 0);
	assert_true(identity->can_discard);
	assert_false(ferry_uuid_is_none(&uuid));
	assert_int_equal(ferry_device_path(f->device)->node.v, 3);
	assert_int_equal(ferry_device_path(f->device)->kind, FERRY_PATH_LOCAL);
	assert_null(ferry_device_note(f->device));
	/* The same again; another block size is another lun. */
	assert_int_equal(ferry_device_close(f->device), 0);
	f->device = NULL;
	assert_int_equal(device_open(f, f->file, 0, 512, &error), 0);
	assert_true(ferry_uuid_equal(&ferry_device_identity(f->device)->uuid, &uuid));
	assert_int_equal(ferry_device_close(f->device), 0);
	f->device = NULL;
	assert_int_equal(device_open(f, f->file, 0, 4096, &error), 0);
	assert_int_equal(ferry_device_identity(f->device)->size_blocks, SIZE_BYTES / 4096);
	assert_false(ferry_uuid_equal(&ferry_device_identity(f->device)->uuid, &uuid));
}

static void identity_of_block_device(void **state)
{
	struct fixture *f = *state;
	const struct ferry_lun_identity *identity;
	struct ferry_error error;

	if (skip_without_device(f))
		return;
	identity = ferry_device_identity(f->device);
	assert_int_equal(identity->block_bytes, 512);
	assert_int_equal(identity->size_blocks, SIZE_BYTES / 512);
	/* A loop device has no name of its own, and we say so. */
	assert_int_equal(strncmp(identity->wwid, "dev.7:", 6), 0);
	assert_non_null(ferry_device_note(f->device));
	assert_int_equal(ferry_device_close(f->device), 0);
	f->device = NULL;
	assert_int_equal(device_open(f, f->device_name, 0, 4096, &error), -EINVAL);
	assert_non_null(strstr(error.message, "512"));
	assert_int_equal(ioctl(f->loop_fd, LOOP_SET_BLOCK_SIZE, 4096ul), 0);
	assert_int_equal(device_open(f, f->device_name, 0, 0, &error), 0);
	assert_int_equal(ferry_device_identity(f->device)->block_bytes, 4096);
}

static void refused(void **state)
{
	struct fixture *f = *state;
	struct ferry_error error = {0};
	char other[128];

	snprintf(other, sizeof(other), "%s/none", f->folder);
	assert_int_equal(device_open(f, other, 0, 0, &error), -ENOENT);
	assert_int_equal(device_open(f, f->folder, 0, 0, &error), -ENOTBLK);
	assert_int_equal(device_open(f, "/dev/null", 0, 0, &error), -ENOTBLK);
	assert_int_equal(device_open(f, f->file, FERRY_DEVICE_DEPTH_MAX + 1, 0, &error), -EINVAL);
	assert_int_equal(device_open(f, f->file, 0, 1024, &error), -EINVAL);
	assert_int_equal(truncate(f->file, 4096 + 512), 0);
	assert_int_equal(device_open(f, f->file, 0, 4096, &error), -EINVAL);
	assert_non_null(strstr(error.message, "4608"));
	assert_int_equal(truncate(f->file, 100), 0);
	assert_int_equal(device_open(f, f->file, 0, 0, &error), -EINVAL);
	assert_int_equal(truncate(f->file, 0), 0);
	assert_int_equal(device_open(f, f->file, 0, 0, &error), -EINVAL);
	assert_non_null(strstr(error.message, "empty"));
	assert_null(f->device);
	/* Depths beyond the loop's room; a refused one leaves no reservation behind. */
	assert_int_equal(truncate(f->file, SIZE_BYTES), 0);
	assert_int_equal(device_open(f, f->file, FERRY_DEVICE_DEPTH_MAX, 0, &error), 0);
	struct ferry_device *first = f->device;
	assert_int_equal(device_open(f, f->file, FERRY_DEVICE_DEPTH_MAX, 0, &error), -ENOSPC);
	assert_int_equal(device_open(f, f->file, 512, 0, &error), -EBUSY);
	assert_int_equal(device_open(f, f->file, 1022, 0, &error), -EBUSY);
	assert_ptr_equal(f->device, first);
}

static void read_only_block_device(void **state)
{
	struct fixture *f = *state;
	struct ferry_error error = {0};

	/* Not by BLKROSET: that would stay with the loop device for its next user. */
	if (loop_device_make(f, 512, LO_FLAGS_READ_ONLY) < 0) {
		print_message("no loop devices here: skipped\n");
		skip();
	}
	assert_int_equal(device_open(f, f->device_name, 0, 0, &error), -EROFS);
	assert_non_null(strstr(error.message, "read-only"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(held_exclusively, setup_file, teardown),
		cmocka_unit_test_setup_teardown(held_exclusively, setup_loop_device, teardown),
		cmocka_unit_test_setup_teardown(identity_of_file, setup_file, teardown),
		cmocka_unit_test_setup_teardown(identity_of_block_device, setup_loop_device,
						teardown),
		cmocka_unit_test_setup_teardown(refused, setup_bare, teardown),
		cmocka_unit_test_setup_teardown(read_only_block_device, setup_loop_device,
						teardown),
	};

	return cmocka_run_group_tests_name("uring_device_open", tests, NULL, NULL);
}
