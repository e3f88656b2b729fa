#include "agent/adapters/uring/device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/uring/conclude.h"
#include "agent/adapters/uring/device_private.h"
#include "agent/adapters/uring/multipath.h"
#include "agent/base/prng.h"

enum {
	ARENA_BYTES = 8 * 1024 * 1024,
	SIZE_BYTES = 16 * 1024 * 1024,
	PATTERN = 0xa5,
};

struct fixture {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_device *device;
	struct ferry_arena arena;
	struct ferry_timer guard;
	char folder[64];
	char file[96];
	void *memory;
	char device_name[32]; /* What is opened: the file, or a loop device on it. */
	int loop_fd;
	bool is_on_loop_device;

	uint32_t ups, downs;
	uint32_t rooms;
	uint32_t left_count; /* Attempts not yet released. */
};

/* One attempt and what became of it. */
struct trial {
	struct ferry_attempt attempt;
	struct fixture *fixture;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	bool is_released;
};

static void guard_run(struct ferry_timer *timer)
{
	(void)timer;
	fail_msg("the test did not end in time");
}

static void on_state(struct ferry_path *path, bool is_up, enum ferry_cause cause)
{
	struct fixture *f = path->context;

	assert_int_equal(path->is_up, is_up);
	assert_int_equal(cause, is_up ? FERRY_CAUSE_NONE : FERRY_CAUSE_PATH);
	if (is_up)
		f->ups++;
	else
		f->downs++;
	ferry_uring_loop_stop(f->uring);
}

static void on_room(struct ferry_path *path)
{
	((struct fixture *)path->context)->rooms++;
}

static int device_open(struct fixture *f, const char *path, uint32_t depth, uint32_t block_bytes,
		       struct ferry_error *reterr)
{
	struct ferry_device_config config = {.path = path,
					     .node.v = 3,
					     .depth = depth,
					     .block_bytes = block_bytes,
					     .on_state = on_state,
					     .on_room = on_room,
					     .context = f};

	return ferry_device_open(f->uring, &config, &f->device, reterr);
}

static void file_make(const char *path, off_t size_bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size_bytes), 0);
	close(fd);
}

/* A loop device that goes away by itself with our descriptor, however this process ends. */
static int loop_device_make(struct fixture *f, uint32_t block_bytes, uint32_t flags)
{
	struct loop_config config = {.block_size = block_bytes,
				     .info.lo_flags = LO_FLAGS_AUTOCLEAR | flags};
	int control_fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file_fd = open(f->file, O_RDWR | O_CLOEXEC);

	assert_true(file_fd >= 0);
	config.fd = (uint32_t)file_fd;
	f->loop_fd = -1;
	for (int tries = 0; control_fd >= 0 && tries < 50 && f->loop_fd < 0; tries++) {
		int number = ioctl(control_fd, LOOP_CTL_GET_FREE);

		if (number < 0)
			break;
		snprintf(f->device_name, sizeof(f->device_name), "/dev/loop%d", number);
		f->loop_fd = open(f->device_name, O_RDWR | O_CLOEXEC);
		if (f->loop_fd >= 0 && ioctl(f->loop_fd, LOOP_CONFIGURE, &config) < 0) {
			close(f->loop_fd); /* Another was faster. */
			f->loop_fd = -1;
		}
	}
	close(file_fd);
	if (control_fd >= 0)
		close(control_fd);
	return f->loop_fd >= 0 ? 0 : -ENODEV;
}

static void setup_common(struct fixture *f)
{
	struct ferry_error error;
	struct ferry_region region;
	static _Alignas(64) uint8_t descriptors[32768];
	const char *parent = getenv("TMPDIR");

	memset(f, 0, sizeof(*f));
	f->loop_fd = -1;
	f->guard.run = guard_run;
	snprintf(f->folder, sizeof(f->folder), "%.32s/ferry-uring.XXXXXX",
		 parent ? parent : "/tmp");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->file, sizeof(f->file), "%s/lun", f->folder);
	file_make(f->file, SIZE_BYTES);
	assert_int_equal(ferry_uring_loop_open(&f->uring, &error), 0);
	f->loop = ferry_uring_loop_of(f->uring);
	f->memory = aligned_alloc(FERRY_CHUNK_BYTES, ARENA_BYTES);
	assert_non_null(f->memory);
	ferry_region_init(&region, descriptors, sizeof(descriptors));
	assert_int_equal(ferry_arena_init(&f->arena, &region, f->memory, ARENA_BYTES), 0);
	ferry_timer_start_in(f->loop, &f->guard, 100 * FERRY_NS_PER_S);
}

static struct fixture the_fixture;

/* One of our own asserts failed: leave nothing behind all the same. */
static void aborted(int signal_number)
{
	(void)signal_number;
	(void)unlink(the_fixture.file);
	(void)rmdir(the_fixture.folder);
}

static int setup_bare(void **state)
{
	setup_common(&the_fixture);
	*state = &the_fixture;
	return 0;
}

/* No teardown follows a setup that failed. */
static int setup_failed(const struct ferry_error *error)
{
	print_error("%s\n", error->message);
	aborted(0);
	return -1;
}

static int setup_file(void **state)
{
	struct ferry_error error;

	setup_bare(state);
	if (device_open(&the_fixture, the_fixture.file, 0, 0, &error) < 0)
		return setup_failed(&error);
	return 0;
}

/* The same, with the arena registered. */
static int setup_file_fixed(void **state)
{
	struct ferry_error error = {0};

	if (setup_file(state) < 0)
		return -1;
	if (ferry_uring_loop_register(the_fixture.uring, the_fixture.memory, ARENA_BYTES, &error) <
	    0)
		print_message("not registered: %s\n", error.message);
	return 0;
}

static int setup_loop_device(void **state)
{
	struct ferry_error error;

	setup_bare(state);
	if (loop_device_make(&the_fixture, 512, 0) < 0)
		return 0; /* The tests skip themselves. */
	the_fixture.is_on_loop_device = true;
	if (device_open(&the_fixture, the_fixture.device_name, 0, 0, &error) < 0)
		return setup_failed(&error);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	r = ferry_device_close(f->device);
	if (f->loop_fd >= 0)
		close(f->loop_fd);
	ferry_timer_stop(f->loop, &f->guard);
	if (r == 0) {
		f->uring = ferry_uring_loop_close(f->uring);
		free(f->memory);
	}
	unlink(f->file);
	rmdir(f->folder);
	assert_int_equal(r, 0);
	assert_int_equal(f->arena.free_count, f->arena.chunks_count);
	return 0;
}

static void on_end(struct ferry_attempt *attempt, enum ferry_outcome outcome,
		   enum ferry_cause cause)
{
	struct trial *trial = FERRY_CONTAINER_OF(attempt, struct trial, attempt);

	assert_int_equal(trial->outcome, 0);
	assert_int_equal(outcome == FERRY_OUTCOME_DONE, cause == FERRY_CAUSE_NONE);
	trial->outcome = outcome;
	trial->cause = cause;
}

static void on_released(struct ferry_attempt *attempt)
{
	struct trial *trial = FERRY_CONTAINER_OF(attempt, struct trial, attempt);

	assert_int_not_equal(trial->outcome, 0);
	assert_false(trial->is_released);
	trial->is_released = true;
	if (--trial->fixture->left_count == 0)
		ferry_uring_loop_stop(trial->fixture->uring);
}

static void trial_init(struct fixture *f, struct trial *trial, enum ferry_op op, uint64_t lba,
		       uint32_t length_blocks, uint32_t flags)
{
	memset(trial, 0, sizeof(*trial));
	trial->fixture = f;
	trial->attempt = (struct ferry_attempt){.op = op,
						.flags = flags,
						.lba.v = lba,
						.length_blocks = length_blocks,
						.on_end = on_end,
						.on_released = on_released};
}

static int trial_submit(struct trial *trial)
{
	int r = ferry_path_submit(ferry_device_path(trial->fixture->device), &trial->attempt);

	if (r == 0)
		trial->fixture->left_count++;
	return r;
}

static void run_all(struct fixture *f)
{
	while (f->left_count > 0)
		assert_int_equal(ferry_uring_loop_run(f->uring), 0);
}

/* One I/O, from submission to release; @data is read into or written from. */
static struct trial io(struct fixture *f, enum ferry_op op, uint64_t lba, uint32_t length_blocks,
		       uint32_t flags, uint8_t *data)
{
	uint32_t block_bytes = ferry_device_identity(f->device)->block_bytes;
	struct trial trial;

	trial_init(f, &trial, op, lba, length_blocks, flags);
	if (ferry_op_has_data(op))
		assert_int_equal(ferry_arena_take(&f->arena, length_blocks * block_bytes,
						  &trial.attempt.segments),
				 0);
	if (op == FERRY_OP_WRITE)
		ferry_segments_write(&trial.attempt.segments, 0, data, length_blocks * block_bytes);
	assert_int_equal(trial_submit(&trial), 0);
	assert_int_equal(trial.outcome, 0); /* Never from inside. */
	run_all(f);
	assert_true(trial.is_released);
	if (op == FERRY_OP_READ && trial.outcome == FERRY_OUTCOME_DONE)
		ferry_segments_read(&trial.attempt.segments, 0, data, length_blocks * block_bytes);
	ferry_segments_drop(&trial.attempt.segments);
	return trial;
}

static void io_ok(struct fixture *f, enum ferry_op op, uint64_t lba, uint32_t length_blocks,
		  uint32_t flags, uint8_t *data)
{
	struct trial trial = io(f, op, lba, length_blocks, flags, data);

	if (trial.outcome != FERRY_OUTCOME_DONE)
		fail_msg("op %d at %llu: outcome %d, cause %d", (int)op, (unsigned long long)lba,
			 (int)trial.outcome, (int)trial.cause);
}

static void expect_bytes(const uint8_t *data, size_t length_bytes, uint8_t value)
{
	for (size_t i = 0; i < length_bytes; i++)
		if (data[i] != value)
			fail_msg("byte %zu is %02x, not %02x", i, data[i], value);
}

static bool skip_without_device(struct fixture *f)
{
	if (f->device)
		return false;
	print_message("no loop devices here: skipped\n");
	skip();
	return true;
}

/* Every op, against what the file itself holds. */
static void every_op(void **state)
{
	struct fixture *f = *state;
	static uint8_t out[FERRY_IO_BYTES_MAX], in[FERRY_IO_BYTES_MAX], zero[FERRY_IO_BYTES_MAX];
	struct ferry_prng prng = {.state = 11};
	int fd;

	if (skip_without_device(f))
		return;
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(ferry_prng_next(&prng) | 1);
	/* One block, a chunk, and 1 MiB in sixteen segments, at an odd place. */
	io_ok(f, FERRY_OP_WRITE, 1, 1, 0, out);
	io_ok(f, FERRY_OP_READ, 1, 1, 0, in);
	assert_memory_equal(in, out, 512);
	io_ok(f, FERRY_OP_WRITE, 8, 128, FERRY_IO_FUA, out);
	io_ok(f, FERRY_OP_READ, 8, 128, 0, in);
	assert_memory_equal(in, out, 128 * 512);
	io_ok(f, FERRY_OP_WRITE, 3001, 2048, 0, out);
	io_ok(f, FERRY_OP_READ, 3001, 2048, 0, in);
	assert_memory_equal(in, out, sizeof(out));
	io_ok(f, FERRY_OP_FLUSH, 0, 0, 0, NULL);
	/* A file sees it in the same place; under a loop device after the flush. */
	fd = open(f->file, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, in, sizeof(in), 3001 * 512), sizeof(in));
	close(fd);
	assert_memory_equal(in, out, sizeof(out));

	/* Zeroes in the middle, exactly there, in each of the ways. */
	for (uint32_t flags = 0; flags <= FERRY_IO_FLAGS_ALL; flags++) {
		io_ok(f, FERRY_OP_WRITE, 3001, 2048, 0, out);
		io_ok(f, FERRY_OP_WRITE_ZEROES, 3002, 2046, flags, NULL);
		io_ok(f, FERRY_OP_READ, 3001, 2048, 0, in);
		assert_memory_equal(in, out, 512);
		assert_memory_equal(in + 512, zero, 2046 * 512);
		assert_memory_equal(in + 2047 * 512, out + 2047 * 512, 512);
	}
	io_ok(f, FERRY_OP_WRITE, 3001, 2048, 0, out);
	io_ok(f, FERRY_OP_DISCARD, 3002, 2046, 0, NULL);
	io_ok(f, FERRY_OP_READ, 3001, 2048, 0, in);
	assert_memory_equal(in, out, 512);
	assert_memory_equal(in + 2047 * 512, out + 2047 * 512, 512);
	/* The largest range, and the very end. */
	io_ok(f, FERRY_OP_WRITE, SIZE_BYTES / 512 - 1, 1, 0, out);
	io_ok(f, FERRY_OP_WRITE_ZEROES, SIZE_BYTES / 512 - FERRY_IO_RANGE_BYTES_MAX / 512,
	      FERRY_IO_RANGE_BYTES_MAX / 512, FERRY_IO_NO_UNMAP, NULL);
	io_ok(f, FERRY_OP_READ, SIZE_BYTES / 512 - 1, 1, 0, in);
	expect_bytes(in, 512, 0);
}

/* The kernel does less than was asked, at a segment's edge, within one, within a block. */
static void short_io(void **state)
{
	static const uint32_t short_bytes[] = {65536, 3 * 65536 + 512, 512, 65536 + 700, 1048064};
	struct fixture *f = *state;
	static uint8_t out[FERRY_IO_BYTES_MAX], in[FERRY_IO_BYTES_MAX];
	struct ferry_prng prng = {.state = 5};

	for (size_t i = 0; i < 2 * FERRY_ARRAY_COUNT(short_bytes); i++) {
		enum ferry_op op = i % 2 == 0 ? FERRY_OP_WRITE : FERRY_OP_READ;
		uint32_t left_bytes = short_bytes[i / 2];
		struct ferry_device_request *request;
		struct trial trial;

		trial_init(f, &trial, op, 5, 2048, op == FERRY_OP_WRITE ? FERRY_IO_FUA : 0);
		assert_int_equal(ferry_arena_take(&f->arena, sizeof(out), &trial.attempt.segments),
				 0);
		if (op == FERRY_OP_WRITE) {
			for (size_t j = 0; j < sizeof(out); j++)
				out[j] = (uint8_t)ferry_prng_next(&prng);
			ferry_segments_write(&trial.attempt.segments, 0, out, sizeof(out));
		}
		assert_int_equal(trial_submit(&trial), 0);
		/* What is queued is looked at by the kernel only when this turn ends. */
		request = trial.attempt.path_private;
		/* Direct writes of a part of a block do not come about: EINVAL. */
		if (op == FERRY_OP_WRITE)
			left_bytes -= left_bytes % 512;
		for (size_t j = 0; j < FERRY_SEGMENTS_MAX; j++) {
			request->parts[j].iov_len =
				ferry_min_u64(request->parts[j].iov_len, left_bytes);
			left_bytes -= (uint32_t)request->parts[j].iov_len;
		}
		run_all(f);
		if (short_bytes[i / 2] % 512 != 0 && op == FERRY_OP_READ) {
			assert_int_equal(trial.outcome, FERRY_OUTCOME_FAILED);
		} else {
			assert_int_equal(trial.outcome, FERRY_OUTCOME_DONE);
			ferry_segments_read(&trial.attempt.segments, 0, in, sizeof(in));
			assert_memory_equal(in, out, sizeof(in));
		}
		ferry_segments_drop(&trial.attempt.segments);
	}
}

static uint64_t flushes_of(const struct fixture *f)
{
	unsigned long long v[16] = {0};
	char path[64], text[512];
	char *at = text;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/%s/stat", f->device_name + strlen("/dev/"));
	file = fopen(path, "re");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(v); i++)
		v[i] = strtoull(at, &at, 10);
	return v[15]; /* Documentation/block/stat.rst: flush I/Os. */
}

/* FUA reaches the device: it has no FUA of its own, so each makes the kernel flush it. */
static void fua_is_sent(void **state)
{
	static const enum ferry_op ops[] = {FERRY_OP_WRITE, FERRY_OP_WRITE_ZEROES};
	struct fixture *f = *state;
	static uint8_t data[2 * FERRY_CHUNK_BYTES];
	uint64_t before;

	if (skip_without_device(f))
		return;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(ops); i++) {
		for (uint32_t blocks = 8; blocks <= 256; blocks *= 32) {
			before = flushes_of(f);
			io_ok(f, ops[i], 0, blocks, 0, data);
			assert_int_equal(flushes_of(f), before);
			io_ok(f, ops[i], 0, blocks, FERRY_IO_FUA, data);
			assert_true(flushes_of(f) > before);
		}
	}
	before = flushes_of(f);
	io_ok(f, FERRY_OP_FLUSH, 0, 0, 0, NULL);
	assert_true(flushes_of(f) > before);
}

static void discard_gives_space_back(void **state)
{
	struct fixture *f = *state;
	static uint8_t out[FERRY_IO_BYTES_MAX];
	struct stat before, after;

	memset(out, PATTERN, sizeof(out));
	io_ok(f, FERRY_OP_WRITE, 0, 2048, FERRY_IO_FUA, out);
	assert_int_equal(stat(f->file, &before), 0);
	io_ok(f, FERRY_OP_DISCARD, 0, 2048, 0, NULL);
	assert_int_equal(stat(f->file, &after), 0);
	assert_true(after.st_blocks < before.st_blocks);
	assert_int_equal(after.st_size, SIZE_BYTES);
	/* And NO_UNMAP keeps it. */
	io_ok(f, FERRY_OP_WRITE, 0, 2048, FERRY_IO_FUA, out);
	assert_int_equal(stat(f->file, &before), 0);
	io_ok(f, FERRY_OP_WRITE_ZEROES, 0, 2048, FERRY_IO_NO_UNMAP | FERRY_IO_FUA, NULL);
	assert_int_equal(stat(f->file, &after), 0);
	assert_true(after.st_blocks >= before.st_blocks);
}

/* More than the depth: refused, told when there is room, and nothing is lost. */
static void full_queue(void **state)
{
	struct fixture *f = *state;
	struct ferry_error error;
	struct trial trials[9];

	assert_int_equal(device_open(f, f->file, 8, 0, &error), 0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(trials); i++) {
		trial_init(f, &trials[i], FERRY_OP_READ, i, 1, 0);
		assert_int_equal(ferry_arena_take(&f->arena, 512, &trials[i].attempt.segments), 0);
		assert_int_equal(trial_submit(&trials[i]), i < 8 ? 0 : -EAGAIN);
	}
	assert_int_equal(ferry_device_close(f->device), -EBUSY);
	assert_int_equal(f->rooms, 0);
	run_all(f);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(trials[i].outcome, FERRY_OUTCOME_DONE);
	assert_int_equal(trials[8].outcome, 0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(trials); i++)
		ferry_segments_drop(&trials[i].attempt.segments);
	/* Closing: nothing is accepted any more, and nobody is called to come. */
	trial_init(f, &trials[8], FERRY_OP_FLUSH, 0, 0, 0);
	assert_int_equal(trial_submit(&trials[8]), -ENOTCONN);
	assert_int_equal(f->rooms, 0);
	assert_int_equal(ferry_device_close(f->device), 0);
	f->device = NULL;

	assert_int_equal(device_open(f, f->file, 8, 0, &error), 0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(trials); i++) {
		trial_init(f, &trials[i], FERRY_OP_FLUSH, 0, 0, 0);
		assert_int_equal(trial_submit(&trials[i]), i < 8 ? 0 : -EAGAIN);
	}
	run_all(f);
	assert_int_equal(f->rooms, 1);
	assert_int_equal(trial_submit(&trials[8]), 0);
	run_all(f);
	assert_int_equal(f->rooms, 1);
}

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

/* Many at random, each slot's own extent, contents checked at each read. */
enum { RANDOM_OPS = 100000, RANDOM_SLOTS = 64, RANDOM_BLOCKS = 8 };

struct random_slot {
	struct trial trial;
	uint32_t number;
	uint64_t stamps[SIZE_BYTES / 4096 / RANDOM_SLOTS]; /* What each 4 KiB should hold. */
	uint32_t place;
};

struct random_run {
	struct fixture *fixture;
	struct ferry_prng prng;
	struct random_slot slots[RANDOM_SLOTS];
	uint32_t started, ended, refused;
};

static struct random_run random_run;

static void random_next(struct random_slot *slot);

static void random_released(struct ferry_attempt *attempt)
{
	struct random_slot *slot = FERRY_CONTAINER_OF(attempt, struct random_slot, trial.attempt);
	uint64_t stamps[512];

	assert_int_equal(slot->trial.outcome, FERRY_OUTCOME_DONE);
	random_run.ended++;
	if (attempt->op == FERRY_OP_READ) {
		ferry_segments_read(&attempt->segments, 0, stamps, sizeof(stamps));
		for (size_t i = 0; i < FERRY_ARRAY_COUNT(stamps); i++)
			assert_int_equal(stamps[i], slot->stamps[slot->place]);
	}
	ferry_segments_drop(&attempt->segments);
	random_next(slot);
}

static void random_next(struct random_slot *slot)
{
	static const enum ferry_op ops[] = {FERRY_OP_READ,    FERRY_OP_READ,	    FERRY_OP_WRITE,
					    FERRY_OP_WRITE,   FERRY_OP_WRITE,	    FERRY_OP_READ,
					    FERRY_OP_DISCARD, FERRY_OP_WRITE_ZEROES};
	struct fixture *f = random_run.fixture;
	enum ferry_op op = ops[ferry_prng_below(&random_run.prng, FERRY_ARRAY_COUNT(ops))];
	uint64_t stamp = ferry_prng_next(&random_run.prng);
	uint64_t stamps[512];

	if (random_run.started == RANDOM_OPS) {
		if (random_run.ended == RANDOM_OPS)
			ferry_uring_loop_stop(f->uring);
		return;
	}
	random_run.started++;
	slot->place = (uint32_t)ferry_prng_below(&random_run.prng, FERRY_ARRAY_COUNT(slot->stamps));
	/* The slots' places are interleaved, so neighbours are in flight together. */
	trial_init(f, &slot->trial, op, ((uint64_t)slot->place * RANDOM_SLOTS + slot->number) * 8,
		   8, 0);
	slot->trial.attempt.on_released = random_released;
	if (ferry_op_has_data(op))
		assert_int_equal(ferry_arena_take(&f->arena, 4096, &slot->trial.attempt.segments),
				 0);
	if (op == FERRY_OP_WRITE) {
		for (size_t i = 0; i < FERRY_ARRAY_COUNT(stamps); i++)
			stamps[i] = stamp;
		ferry_segments_write(&slot->trial.attempt.segments, 0, stamps, sizeof(stamps));
		slot->stamps[slot->place] = stamp;
	} else if (op != FERRY_OP_READ) {
		slot->stamps[slot->place] = 0; /* A hole in a file reads as zeroes. */
	}
	assert_int_equal(ferry_path_submit(ferry_device_path(f->device), &slot->trial.attempt), 0);
}

static void nothing_is_lost(void **state)
{
	struct fixture *f = *state;

	memset(&random_run, 0, sizeof(random_run));
	random_run.fixture = f;
	random_run.prng.state = 42;
	for (uint32_t i = 0; i < RANDOM_SLOTS; i++) {
		random_run.slots[i].number = i;
		random_next(&random_run.slots[i]);
	}
	assert_int_equal(ferry_uring_loop_run(f->uring), 0);
	assert_int_equal(random_run.ended, RANDOM_OPS);
}

static void conclusions(void **state)
{
	static const struct {
		bool is_block_device;
		enum ferry_op op;
		bool is_whole;
		int error;
		enum ferry_outcome outcome;
		enum ferry_cause cause;
	} cases[] = {
		{false, FERRY_OP_WRITE, true, -EIO, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM},
		{false, FERRY_OP_WRITE, true, -ENOSPC, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NO_SPACE},
		{false, FERRY_OP_READ, true, -EINVAL, FERRY_OUTCOME_FAILED, FERRY_CAUSE_INVALID},
		{false, FERRY_OP_WRITE, true, -ESTALE, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_READ, true, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -ENOLINK, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -ENODEV, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -ENOMEM, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, true, -ETIMEDOUT, FERRY_OUTCOME_UNKNOWN,
		 FERRY_CAUSE_TIMEOUT},
		{true, FERRY_OP_WRITE, true, -ENODATA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM},
		{true, FERRY_OP_WRITE, true, -EREMOTEIO, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM},
		{true, FERRY_OP_WRITE, true, -ENOSPC, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NO_SPACE},
		{true, FERRY_OP_WRITE, true, -EBADE, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT},
		{true, FERRY_OP_WRITE, true, -EOPNOTSUPP, FERRY_OUTCOME_FAILED,
		 FERRY_CAUSE_INVALID},
		{true, FERRY_OP_WRITE, true, -EPERM, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT},
		/* One of several commands' errors proves nothing of the others. */
		{true, FERRY_OP_WRITE, false, -ENODATA, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_DISCARD, false, -EBADE, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, FERRY_OP_WRITE, false, -EPERM, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT},
		{true, FERRY_OP_READ, false, -ENODATA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		struct ferry_conclusion conclusion = ferry_conclude(
			cases[i].is_block_device, cases[i].op, cases[i].is_whole, cases[i].error);

		if (conclusion.outcome != cases[i].outcome || conclusion.cause != cases[i].cause)
			fail_msg("case %zu: outcome %d, cause %d", i, (int)conclusion.outcome,
				 (int)conclusion.cause);
		assert_int_equal(conclusion.is_path_gone, cases[i].error == -ENODEV);
	}
	/* Nothing that the kernel may come up with makes a failed write a certainty by accident. */
	for (int error = -1; error > -4096; error--)
		assert_int_not_equal(ferry_conclude(true, FERRY_OP_WRITE, false, error).outcome,
				     FERRY_OUTCOME_DONE);
}

/* What fsync says once is all that will be known of the writes that are gone (rule 11). */
static void conclusions_of_flushes(void **state)
{
	static const struct {
		bool is_block_device;
		bool is_cached;
		enum ferry_op op;
		int error;
		enum ferry_outcome outcome;
		enum ferry_cause cause;
	} cases[] = {
		{false, true, FERRY_OP_FLUSH, -EIO, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST},
		{false, true, FERRY_OP_FLUSH, -ENOSPC, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NO_SPACE},
		{false, true, FERRY_OP_FLUSH, -EINTR, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH},
		{false, true, FERRY_OP_WRITE, -EIO, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_FLUSH, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_FLUSH, -ENOLINK, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_FLUSH, -ENODEV, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_WRITE, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_WRITE_ZEROES, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, true, FERRY_OP_WRITE, -ENOSPC, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NO_SPACE},
		{true, false, FERRY_OP_FLUSH, -EIO, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_LOST},
		{true, false, FERRY_OP_FLUSH, -ENODATA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST},
		/* Only the way to the disk was lost, and another may flush it. */
		{true, false, FERRY_OP_FLUSH, -ENOLINK, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, false, FERRY_OP_FLUSH, -ENODEV, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH},
		{true, false, FERRY_OP_FLUSH, -EBADE, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		struct ferry_conclusion conclusion =
			ferry_conclude_sync(cases[i].is_block_device, cases[i].is_cached,
					    cases[i].op, /* is_whole= */ true, cases[i].error);

		if (conclusion.outcome != cases[i].outcome || conclusion.cause != cases[i].cause)
			fail_msg("case %zu: outcome %d, cause %d", i, (int)conclusion.outcome,
				 (int)conclusion.cause);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conclusions),
		cmocka_unit_test(conclusions_of_flushes),
		cmocka_unit_test_setup_teardown(every_op, setup_file, teardown),
		cmocka_unit_test_setup_teardown(every_op, setup_file_fixed, teardown),
		cmocka_unit_test_setup_teardown(every_op, setup_loop_device, teardown),
		cmocka_unit_test_setup_teardown(short_io, setup_file, teardown),
		cmocka_unit_test_setup_teardown(fua_is_sent, setup_loop_device, teardown),
		cmocka_unit_test_setup_teardown(discard_gives_space_back, setup_file, teardown),
		cmocka_unit_test_setup_teardown(full_queue, setup_bare, teardown),
		cmocka_unit_test_setup_teardown(vanishing_lun, setup_file, teardown),
		cmocka_unit_test_setup_teardown(renewed, setup_file, teardown),
		cmocka_unit_test_setup_teardown(vanishing_block_device, setup_loop_device,
						teardown),
		cmocka_unit_test_setup_teardown(failing_block_device, setup_loop_device, teardown),
		cmocka_unit_test_setup_teardown(held_exclusively, setup_file, teardown),
		cmocka_unit_test_setup_teardown(held_exclusively, setup_loop_device, teardown),
		cmocka_unit_test_setup_teardown(identity_of_file, setup_file, teardown),
		cmocka_unit_test_setup_teardown(identity_of_block_device, setup_loop_device,
						teardown),
		cmocka_unit_test_setup_teardown(refused, setup_bare, teardown),
		cmocka_unit_test_setup_teardown(read_only_block_device, setup_loop_device,
						teardown),
		cmocka_unit_test_setup_teardown(nothing_is_lost, setup_file, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_lost, setup_file_fixed, teardown),
	};

	(void)signal(SIGABRT, aborted); /* abort(3) goes on afterwards. */
	return cmocka_run_group_tests_name("uring_device", tests, NULL, NULL);
}
