/* Attempts on a device: each operation, whole, as often as it is asked for. */
#include <sys/mman.h>
#include <sys/stat.h>

#include "agent/adapters/uring/device_private.h"
#include "agent/adapters/uring/device_stand.h"
#include "agent/base/prng.h"

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

/* Given up in the midst: its next part stays here. What may land was on its way before. */
static void given_up(void **state)
{
	static uint8_t old[2048 * 512], in[2048 * 512];
	struct fixture *f = *state;
	struct ferry_device_request *request;
	struct trial trial;

	memset(old, 7, sizeof(old));
	io_ok(f, FERRY_OP_WRITE, 5, 2048, 0, old);
	trial_init(f, &trial, FERRY_OP_WRITE, 5, 2048, 0);
	assert_int_equal(ferry_arena_take(&f->arena, sizeof(old), &trial.attempt.segments), 0);
	ferry_segments_write(&trial.attempt.segments, 0, in, sizeof(in)); /* Zeroes. */
	assert_int_equal(trial_submit(&trial), 0);
	request = trial.attempt.path_private;
	request->parts[0].iov_len = 512; /* The kernel does less than was asked. */
	for (size_t i = 1; i < FERRY_SEGMENTS_MAX; i++)
		request->parts[i].iov_len = 0;
	trial.attempt.is_given_up = true;
	run_all(f);
	assert_int_equal(trial.outcome, FERRY_OUTCOME_FAILED);
	assert_true(trial.is_released);
	ferry_segments_drop(&trial.attempt.segments);
	io_ok(f, FERRY_OP_READ, 5, 2048, 0, in);
	expect_bytes(in, 512, 0);
	assert_memory_equal(in + 512, old + 512, sizeof(in) - 512);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_op, setup_file, teardown),
		cmocka_unit_test_setup_teardown(every_op, setup_file_fixed, teardown),
		cmocka_unit_test_setup_teardown(every_op, setup_loop_device, teardown),
		cmocka_unit_test_setup_teardown(short_io, setup_file, teardown),
		cmocka_unit_test_setup_teardown(given_up, setup_file, teardown),
		cmocka_unit_test_setup_teardown(fua_is_sent, setup_loop_device, teardown),
		cmocka_unit_test_setup_teardown(discard_gives_space_back, setup_file, teardown),
		cmocka_unit_test_setup_teardown(full_queue, setup_bare, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_lost, setup_file, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_lost, setup_file_fixed, teardown),
	};

	return cmocka_run_group_tests_name("uring_device", tests, NULL, NULL);
}
