/* The flusher against a disk whose ioctl is the test's: it may hang, and answer what it is told. */
#include "agent/adapters/sgio/flusher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/sgio/private.h"
#include "agent/adapters/uring/loop.h"

enum { REQUESTS = 3, DEADLINE_S = 60 };

struct answer {
	uint16_t host_status;
	uint8_t status;
	uint8_t key, asc, ascq;
	bool is_deferred;
	int error;
};

/* The lock is for what both threads touch. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	const struct answer *answers; /* One after the other, the last one for ever. */
	uint32_t answers_count;
	uint32_t commands;
	bool hangs;
	bool is_hanging;
} disk;

int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	static const uint8_t cdb[10] = {0x35};
	struct sg_io_hdr *header = argument;
	const struct answer *answer;
	uint8_t *sense = header->sbp;

	assert_true(fd >= 0);
	assert_int_equal(request, SG_IO);
	assert_int_equal(header->dxfer_direction, SG_DXFER_NONE);
	assert_int_equal(header->cmd_len, sizeof(cdb));
	assert_memory_equal(header->cmdp, cdb, sizeof(cdb));
	(void)pthread_mutex_lock(&disk.lock);
	disk.commands++;
	while (disk.hangs) {
		disk.is_hanging = true;
		(void)pthread_cond_broadcast(&disk.changed);
		(void)pthread_cond_wait(&disk.changed, &disk.lock);
	}
	disk.is_hanging = false;
	answer = disk.answers;
	if (disk.answers_count > 1) {
		disk.answers++;
		disk.answers_count--;
	}
	(void)pthread_mutex_unlock(&disk.lock);
	header->host_status = answer->host_status;
	header->status = answer->status;
	if (answer->key != 0) {
		memset(sense, 0, 18);
		sense[0] = answer->is_deferred ? 0x71 : 0x70;
		sense[2] = answer->key;
		sense[7] = 10;
		sense[12] = answer->asc;
		sense[13] = answer->ascq;
		header->sb_len_wr = 18;
	}
	errno = answer->error;
	return answer->error ? -1 : 0;
}

static struct ferry_uring_loop *loop;
static struct ferry_sgio_flusher *flusher;
static uint32_t attentions;

static struct trial {
	struct ferry_flusher_request request;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
} trials[REQUESTS];
static uint32_t left_count;

static void on_done(struct ferry_flusher_request *request, enum ferry_outcome outcome,
		    enum ferry_cause cause)
{
	struct trial *trial = FERRY_CONTAINER_OF(request, struct trial, request);

	assert_int_equal(trial->outcome, 0);
	trial->outcome = outcome;
	trial->cause = cause;
	if (--left_count == 0)
		ferry_uring_loop_stop(loop);
}

static void on_unit_attention(uint8_t asc, uint8_t ascq, void *context)
{
	assert_ptr_equal(context, &attentions);
	assert_true(asc == 0x29 || (asc == 0x2a && ascq == 5));
	for (uint32_t i = 0; i < REQUESTS; i++) /* Before anybody believes anything. */
		assert_int_equal(trials[i].outcome, 0);
	attentions++;
}

static int set_up(void **state)
{
	struct ferry_sgio_flusher_config config = {.on_unit_attention = on_unit_attention,
						   .context = &attentions};
	struct ferry_error error;

	(void)state;
	(void)alarm(DEADLINE_S);
	memset(&disk, 0, sizeof(disk));
	memset(trials, 0, sizeof(trials));
	attentions = left_count = 0;
	(void)pthread_mutex_init(&disk.lock, NULL);
	(void)pthread_cond_init(&disk.changed, NULL);
	assert_int_equal(ferry_uring_loop_open(&loop, &error), 0);
	config.loop = ferry_uring_loop_of(loop);
	config.fd = memfd_create("disk", MFD_CLOEXEC);
	assert_true(config.fd >= 0);
	assert_int_equal(ferry_sgio_flusher_open(&config, &flusher, &error), -EOPNOTSUPP);
	assert_int_equal(ferry_sgio_flusher_start(&config, &flusher, &error), 0);
	(void)close(config.fd); /* It has a duplicate. */
	return 0;
}

static void hang(bool hangs)
{
	(void)pthread_mutex_lock(&disk.lock);
	disk.hangs = hangs;
	(void)pthread_cond_broadcast(&disk.changed);
	(void)pthread_mutex_unlock(&disk.lock);
}

static void wait_until_hanging(void)
{
	(void)pthread_mutex_lock(&disk.lock);
	while (!disk.is_hanging)
		(void)pthread_cond_wait(&disk.changed, &disk.lock);
	(void)pthread_mutex_unlock(&disk.lock);
}

static int tear_down(void **state)
{
	(void)state;
	hang(false); /* Of a test that has failed. */
	ferry_sgio_flusher_close(TAKE_PTR(flusher));
	loop = ferry_uring_loop_close(loop);
	return 0;
}

static void submit(uint32_t i)
{
	trials[i] = (struct trial){.request.on_done = on_done};
	left_count++;
	ferry_flusher_submit(ferry_sgio_flusher_port(flusher), &trials[i].request);
	assert_int_equal(trials[i].outcome, 0); /* Never from inside. */
}

static void run_all(void)
{
	while (left_count > 0)
		assert_int_equal(ferry_uring_loop_run(loop), 0);
}

static void expect(uint32_t i, enum ferry_outcome outcome, enum ferry_cause cause)
{
	assert_int_equal(trials[i].outcome, outcome);
	assert_int_equal(trials[i].cause, cause);
}

static void answer_with(const struct answer *answers, uint32_t count)
{
	disk.answers = answers;
	disk.answers_count = count;
	disk.commands = 0;
}

/* ---- Tests. ---- */

/* The target's word, or the kernel's that the way failed. What is neither, and stays so, is a loss.
 */
static void test_ends(void **state)
{
	static const struct {
		struct answer answer;
		enum ferry_outcome outcome;
		enum ferry_cause cause;
		uint32_t commands;
	} cases[] = {
		{{.status = 0}, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE, 1},
		{{.status = 2, .key = 1}, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE, 1},
		{{.status = 0x18}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT, 1},
		/* As LIO says that its backend could not flush. */
		{{.status = 2, .key = 2, .asc = 8}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST, 1},
		{{.status = 2, .key = 3, .asc = 12}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST, 1},
		{{.status = 2, .key = 4}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST, 1},
		{{.status = 2}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST, 1}, /* Without sense. */
		{{.status = 2, .key = 1, .is_deferred = true},
		 FERRY_OUTCOME_FAILED,
		 FERRY_CAUSE_LOST,
		 1},
		{{.status = 2, .key = 5, .asc = 0x20, .is_deferred = true},
		 FERRY_OUTCOME_FAILED,
		 FERRY_CAUSE_LOST,
		 1},
		{{.status = 2, .key = 0xb, .asc = 0x47}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST, 6},
		{{.host_status = 7}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST, 6},
		{{.host_status = 0x10, .status = 2, .key = 4},
		 FERRY_OUTCOME_FAILED,
		 FERRY_CAUSE_LOST,
		 6},
		/* Not executed. */
		{{.status = 2, .key = 2, .asc = 4, .ascq = 1},
		 FERRY_OUTCOME_FAILED,
		 FERRY_CAUSE_PATH,
		 1},
		{{.status = 2, .key = 2, .asc = 4, .ascq = 0xb},
		 FERRY_OUTCOME_FAILED,
		 FERRY_CAUSE_PATH,
		 1},
		{{.status = 2, .key = 5, .asc = 0x25}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH, 1},
		{{.status = 2, .key = 5, .asc = 0x20},
		 FERRY_OUTCOME_FAILED,
		 FERRY_CAUSE_INVALID,
		 1},
		{{.error = EPERM}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_INVALID, 1},
		{{.error = ENOMEM}, FERRY_OUTCOME_FAILED, FERRY_CAUSE_UNSENT, 1},
		/* The way. */
		{{.error = ENODEV}, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, 1},
		{{.error = ENXIO}, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, 1},
		{{.host_status = 1}, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, 1},
		{{.host_status = 3}, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT, 1},
		{{.host_status = 0xd}, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, 1},
		{{.host_status = 0xe}, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, 1},
		{{.host_status = 0xf}, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, 1},
		{{.status = 0x40}, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, 1}, /* TASK ABORTED */
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		answer_with(&cases[i].answer, 1);
		submit(0);
		run_all();
		if (trials[0].outcome != cases[i].outcome || trials[0].cause != cases[i].cause ||
		    disk.commands != cases[i].commands)
			fail_msg("case %zu: outcome %d, cause %d, %u commands", i,
				 (int)trials[0].outcome, (int)trials[0].cause, disk.commands);
	}
	assert_int_equal(attentions, 0);
}

/* What was not executed is sent again, but after a reset somebody has to look first. */
static void test_repeats(void **state)
{
	static const struct answer once[] = {{.status = 2, .key = 6, .asc = 0x2a, .ascq = 5},
					     {.status = 8},
					     {.status = 2, .key = 0xb},
					     {.host_status = 7},
					     {.status = 0}};
	static const struct answer reset[] = {{.status = 2, .key = 6, .asc = 0x29}, {.status = 0}};

	(void)state;
	answer_with(once, FERRY_ARRAY_COUNT(once));
	submit(0);
	run_all();
	expect(0, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	assert_int_equal(disk.commands, FERRY_ARRAY_COUNT(once));
	assert_int_equal(attentions, 1);
	memset(trials, 0, sizeof(trials));
	answer_with(reset, FERRY_ARRAY_COUNT(reset));
	submit(0);
	submit(1);
	run_all();
	expect(0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_RESET);
	assert_int_equal(attentions, 2);
}

/* What comes while a command is out is not covered by it, and all of that by one more. */
static void test_later_ones_wait(void **state)
{
	static const struct answer answers[] = {{.status = 2, .key = 3}, {.status = 0}};

	(void)state;
	answer_with(answers, FERRY_ARRAY_COUNT(answers));
	hang(true);
	submit(0);
	wait_until_hanging();
	submit(1);
	submit(2);
	hang(false);
	run_all();
	assert_int_equal(disk.commands, 2);
	expect(0, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST);
	expect(1, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	expect(2, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
}

/* Closed while it hangs: nobody waits, and nobody is told. */
static void test_closes_while_it_hangs(void **state)
{
	static const struct answer good = {};

	(void)state;
	answer_with(&good, 1);
	hang(true);
	submit(0);
	wait_until_hanging();
	ferry_sgio_flusher_close(TAKE_PTR(flusher));
	(void)pthread_mutex_lock(&disk.lock);
	assert_true(disk.is_hanging);
	disk.hangs = false;
	(void)pthread_cond_broadcast(&disk.changed);
	(void)pthread_mutex_unlock(&disk.lock);
	assert_int_equal(trials[0].outcome, 0);
}

int main(void)
{
#define WITH_LOOP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_LOOP(test_ends),
		WITH_LOOP(test_repeats),
		WITH_LOOP(test_later_ones_wait),
		WITH_LOOP(test_closes_while_it_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
