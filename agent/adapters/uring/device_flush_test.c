/* Flushed by a flusher in the kernel's place. */
#include "agent/adapters/uring/device_stand.h"

static struct {
	struct ferry_flusher port;
	struct ferry_loop *loop;
	struct ferry_task answer;
	struct ferry_list waiting;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	uint32_t asked;
} fake;

static void answer_run(struct ferry_task *task)
{
	struct ferry_list *link = ferry_list_pop(&fake.waiting);

	assert_ptr_equal(task, &fake.answer);
	while (link) {
		struct ferry_flusher_request *request =
			ferry_list_entry(link, struct ferry_flusher_request, link);

		link = ferry_list_pop(&fake.waiting);
		request->on_done(request, fake.outcome, fake.cause);
	}
}

static void fake_submit(struct ferry_flusher *flusher, struct ferry_flusher_request *request)
{
	assert_ptr_equal(flusher, &fake.port);
	fake.asked++;
	ferry_list_append(&fake.waiting, &request->link);
	ferry_task_post(fake.loop, &fake.answer);
}

static int set_up(void **state)
{
	static const struct ferry_flusher_ops ops = {.name = "fake", .submit = fake_submit};
	struct fixture *f;
	int r = setup_file(state);

	f = *state;
	memset(&fake, 0, sizeof(fake));
	fake.port.ops = &ops;
	fake.loop = f->loop;
	fake.answer.run = answer_run;
	ferry_list_init(&fake.waiting);
	ferry_device_flush_by(f->device, &fake.port);
	assert_true(ferry_device_descriptor(f->device) >= 0);
	return r;
}

static void expect(struct fixture *f, enum ferry_op op, uint32_t flags, enum ferry_outcome outcome,
		   enum ferry_cause cause)
{
	static uint8_t data[4096];
	uint32_t length_blocks = op == FERRY_OP_FLUSH ? 0 : 8;
	struct trial trial = io(f, op, 0, length_blocks, flags, data);

	assert_int_equal(trial.outcome, outcome);
	assert_int_equal(trial.cause, cause);
}

/* A FLUSH, and the second half of each write with FUA; nothing else. */
static void asks_the_flusher(void **state)
{
	struct fixture *f = *state;

	fake.outcome = FERRY_OUTCOME_DONE;
	fake.cause = FERRY_CAUSE_NONE;
	expect(f, FERRY_OP_FLUSH, 0, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(fake.asked, 1);
	expect(f, FERRY_OP_WRITE, 0, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	expect(f, FERRY_OP_READ, 0, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(fake.asked, 1);
	expect(f, FERRY_OP_WRITE, FERRY_IO_FUA, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(fake.asked, 2);
	expect(f, FERRY_OP_WRITE_ZEROES, FERRY_IO_FUA, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(fake.asked, 3);
}

/* The way was lost: no loss. And a write is over, for it had ended before. */
static void path_fails(void **state)
{
	struct fixture *f = *state;

	fake.outcome = FERRY_OUTCOME_UNKNOWN;
	fake.cause = FERRY_CAUSE_PATH;
	expect(f, FERRY_OP_FLUSH, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	expect(f, FERRY_OP_WRITE, FERRY_IO_FUA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
	fake.cause = FERRY_CAUSE_TIMEOUT;
	expect(f, FERRY_OP_WRITE, FERRY_IO_FUA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
	expect(f, FERRY_OP_FLUSH, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
	assert_true(ferry_device_path(f->device)->is_up);
}

static void disk_fails(void **state)
{
	struct fixture *f = *state;

	fake.outcome = FERRY_OUTCOME_FAILED;
	fake.cause = FERRY_CAUSE_LOST;
	expect(f, FERRY_OP_FLUSH, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST);
	expect(f, FERRY_OP_WRITE, FERRY_IO_FUA, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST);
	fake.cause = FERRY_CAUSE_RESET;
	expect(f, FERRY_OP_FLUSH, 0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_RESET);
}

/* The disk knows no such command: the kernel flushes from then on, also after a write with FUA. */
static void falls_back(void **state)
{
	struct fixture *f = *state;

	fake.outcome = FERRY_OUTCOME_FAILED;
	fake.cause = FERRY_CAUSE_INVALID;
	expect(f, FERRY_OP_WRITE, FERRY_IO_FUA, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(fake.asked, 1);
	expect(f, FERRY_OP_FLUSH, 0, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	expect(f, FERRY_OP_WRITE, FERRY_IO_FUA, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(fake.asked, 1);
}

int main(void)
{
#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, set_up, teardown)
	const struct CMUnitTest tests[] = {
		WITH_FILE(asks_the_flusher),
		WITH_FILE(path_fails),
		WITH_FILE(disk_fails),
		WITH_FILE(falls_back),
	};

	return cmocka_run_group_tests_name("uring_device_flush", tests, NULL, NULL);
}
