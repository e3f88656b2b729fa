#include "agent/adapters/uring/device_stand.h"

#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>

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

int device_open(struct fixture *f, const char *path, uint32_t depth, uint32_t block_bytes,
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

void file_make(const char *path, off_t size_bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size_bytes), 0);
	close(fd);
}

int loop_device_make(struct fixture *f, uint32_t block_bytes, uint32_t flags)
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

int setup_bare(void **state)
{
	(void)signal(SIGABRT, aborted); /* abort(3) goes on afterwards. */
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

int setup_file(void **state)
{
	struct ferry_error error;

	setup_bare(state);
	if (device_open(&the_fixture, the_fixture.file, 0, 0, &error) < 0)
		return setup_failed(&error);
	return 0;
}

int setup_file_fixed(void **state)
{
	struct ferry_error error = {0};

	if (setup_file(state) < 0)
		return -1;
	if (ferry_uring_loop_register(the_fixture.uring, the_fixture.memory, ARENA_BYTES, &error) <
	    0)
		print_message("not registered: %s\n", error.message);
	return 0;
}

int setup_loop_device(void **state)
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

int teardown(void **state)
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

void trial_init(struct fixture *f, struct trial *trial, enum ferry_op op, uint64_t lba,
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

int trial_submit(struct trial *trial)
{
	int r = ferry_path_submit(ferry_device_path(trial->fixture->device), &trial->attempt);

	if (r == 0)
		trial->fixture->left_count++;
	return r;
}

void run_all(struct fixture *f)
{
	while (f->left_count > 0)
		assert_int_equal(ferry_uring_loop_run(f->uring), 0);
}

struct trial io(struct fixture *f, enum ferry_op op, uint64_t lba, uint32_t length_blocks,
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

void io_ok(struct fixture *f, enum ferry_op op, uint64_t lba, uint32_t length_blocks,
	   uint32_t flags, uint8_t *data)
{
	struct trial trial = io(f, op, lba, length_blocks, flags, data);

	if (trial.outcome != FERRY_OUTCOME_DONE)
		fail_msg("op %d at %llu: outcome %d, cause %d", (int)op, (unsigned long long)lba,
			 (int)trial.outcome, (int)trial.cause);
}

void expect_bytes(const uint8_t *data, size_t length_bytes, uint8_t value)
{
	for (size_t i = 0; i < length_bytes; i++)
		if (data[i] != value)
			fail_msg("byte %zu is %02x, not %02x", i, data[i], value);
}

bool skip_without_device(struct fixture *f)
{
	if (f->device)
		return false;
	print_message("no loop devices here: skipped\n");
	skip();
	return true;
}
