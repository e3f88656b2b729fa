/* The device goes, or fails, under what is in flight. */
#include <linux/loop.h>
#include <sys/ioctl.h>

#include "agent/adapters/uring/device_stand.h"

/* The file shrinks under us, and comes back. */
static void vanishing_lun(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[FERRY_IO_BYTES_MAX];
	struct trial trial;

	memset(data, PATTERN, sizeof(data));
	io_ok(f, FERRY_OP_WRITE, 0, 2048, 0, data);
	/* In the middle of a block in the middle of this read: a part of it is there. */
	assert_int_equal(truncate(f->file, 512 * 1024 + 100), 0);
	trial = io(f, FERRY_OP_READ, 0, 2048, 0, data);
	assert_int_equal(trial.outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(trial.cause, FERRY_CAUSE_PATH);
	assert_false(ferry_device_path(f->device)->is_up);
	assert_int_equal(f->downs, 1);
	trial_init(f, &trial, FERRY_OP_FLUSH, 0, 0, 0);
	assert_int_equal(trial_submit(&trial), -ENOTCONN);
	assert_int_equal(truncate(f->file, SIZE_BYTES), 0);
	while (f->ups == 0)
		assert_int_equal(ferry_uring_loop_run(f->uring), 0);
	assert_int_equal(f->downs, 1);
	io_ok(f, FERRY_OP_READ, 0, 1024, 0, data);
	expect_bytes(data, 512 * 1024, PATTERN);
}

/* A new session: nothing new, what is in flight ends as it ends, and only then down and up. */
static void renewed(void **state)
{
	struct fixture *f = *state;
	struct ferry_path *path = ferry_device_path(f->device);
	struct trial first, second;

	trial_init(f, &first, FERRY_OP_FLUSH, 0, 0, 0);
	trial_init(f, &second, FERRY_OP_FLUSH, 0, 0, 0);
	assert_int_equal(trial_submit(&first), 0);
	ferry_path_renew(path);
	assert_int_equal(trial_submit(&second), -ENOTCONN);
	assert_int_equal(f->downs, 0);
	run_all(f);
	assert_int_equal(first.outcome, FERRY_OUTCOME_DONE);
	assert_int_equal(f->downs, 1);
	while (f->ups == 0)
		assert_int_equal(ferry_uring_loop_run(f->uring), 0);
	ferry_path_renew(path);	       /* With nothing in flight. */
	assert_int_equal(f->downs, 1); /* Never from inside. */
	while (f->ups == 1)
		assert_int_equal(ferry_uring_loop_run(f->uring), 0);
	assert_int_equal(f->downs, 2);
	io_ok(f, FERRY_OP_FLUSH, 0, 0, 0, NULL);
	ferry_path_renew(path); /* And closed at once. */
}

/* Beyond the end of a block device that shrank, the kernel says ENOSPC. */
static void vanishing_block_device(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[4096];
	struct trial trial;

	if (skip_without_device(f))
		return;
	assert_int_equal(truncate(f->file, SIZE_BYTES / 2), 0);
	assert_int_equal(ioctl(f->loop_fd, LOOP_SET_CAPACITY), 0);
	trial = io(f, FERRY_OP_WRITE, SIZE_BYTES / 512 - 8, 8, 0, data);
	assert_int_equal(trial.outcome, FERRY_OUTCOME_FAILED);
	assert_int_equal(trial.cause, FERRY_CAUSE_PATH);
	assert_int_equal(f->downs, 1);
	assert_int_equal(truncate(f->file, SIZE_BYTES), 0);
	assert_int_equal(ioctl(f->loop_fd, LOOP_SET_CAPACITY), 0);
	while (f->ups == 0)
		assert_int_equal(ferry_uring_loop_run(f->uring), 0);
	trial = io(f, FERRY_OP_READ, SIZE_BYTES / 512 - 8, 8, 0, data);
	assert_int_equal(trial.outcome, FERRY_OUTCOME_DONE);
}

/* A block device whose backing has lost its data: EIO, which proves nothing. */
static void failing_block_device(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[4096];
	struct trial trial;

	if (skip_without_device(f))
		return;
	/* The device keeps its size; reads beyond its file's end fail. */
	assert_int_equal(truncate(f->file, SIZE_BYTES / 2), 0);
	trial = io(f, FERRY_OP_READ, SIZE_BYTES / 512 - 8, 8, 0, data);
	assert_int_equal(trial.outcome, FERRY_OUTCOME_UNKNOWN);
	assert_int_equal(trial.cause, FERRY_CAUSE_PATH);
	/* The device is there, and works elsewhere: to judge that is the tracker's. */
	assert_true(ferry_device_path(f->device)->is_up);
	io_ok(f, FERRY_OP_READ, 0, 8, 0, data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(vanishing_lun, setup_file, teardown),
		cmocka_unit_test_setup_teardown(renewed, setup_file, teardown),
		cmocka_unit_test_setup_teardown(vanishing_block_device, setup_loop_device,
						teardown),
		cmocka_unit_test_setup_teardown(failing_block_device, setup_loop_device, teardown),
	};

	return cmocka_run_group_tests_name("uring_device_loss", tests, NULL, NULL);
}
