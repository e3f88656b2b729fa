/* A question on a thread of its own: the loop goes on while the kernel waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/nbddev/private.h"
#include "agent/adapters/uring/loop.h"

#define URI "nbd+unix:///data?socket=/run/a/nbd.sock"

static struct {
	char folder[64];
	struct nbddev_kernel kernel;
	struct ferry_uring_loop *uring;
	struct ferry_timer timer;
	struct ferry_nbddev_asking *asking;
	sem_t may_go; /* The kernel waits for it. */
	bool has_waited;
	int kept; /* The connection that it took. */
	int answer, fd;
	uint32_t answers;
} at;

static int fake_reconnect(const char *identity, uint32_t index, int fd)
{
	assert_string_equal(identity, URI "#lun");
	assert_int_equal(index, 0);
	while (sem_wait(&at.may_go) < 0)
		assert_int_equal(errno, EINTR);
	at.kept = dup(fd);
	return 0;
}

static int fake_disconnect(uint32_t index)
{
	assert_int_equal(index, 0);
	return 0;
}

static void file_write(const char *name, const char *text)
{
	char path[160];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/nbd0/%s", at.folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fprintf(file, "%s\n", text) > 0);
	assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
	struct ferry_error error;
	char path[160];

	(void)state;
	memset(&at, 0, sizeof(at));
	at.kept = at.fd = -1;
	(void)snprintf(at.folder, sizeof(at.folder), "/tmp/ferry-ask-XXXXXX");
	assert_non_null(mkdtemp(at.folder));
	for (int i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "%s/nbd0%s", at.folder, i ? "/queue" : "");
		assert_int_equal(mkdir(path, 0700), 0);
	}
	file_write("backend", URI "#lun");
	file_write("size", "2048");
	file_write("ro", "0");
	file_write("queue/logical_block_size", "4096");
	at.kernel = (struct nbddev_kernel){
		.sys_block = at.folder, .reconnect = fake_reconnect, .disconnect = fake_disconnect};
	assert_int_equal(sem_init(&at.may_go, 0, 0), 0);
	assert_int_equal(ferry_uring_loop_open(&at.uring, &error), 0);
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"backend", "size", "ro", "queue/logical_block_size",
					    "queue",   ""};
	char path[160];

	(void)state;
	(void)sem_post(&at.may_go); /* Of a test that has failed. */
	at.asking = ferry_nbddev_ask_close(at.asking);
	at.uring = ferry_uring_loop_close(at.uring);
	if (at.kept >= 0)
		(void)close(at.kept);
	if (at.fd >= 0)
		(void)close(at.fd);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/nbd0/%s", at.folder, names[i]);
		(void)remove(path);
	}
	(void)rmdir(at.folder);
	(void)sem_destroy(&at.may_go);
	return 0;
}

static void answered(void *context, int answer, int fd)
{
	assert_ptr_equal(context, &at);
	at.asking = NULL;
	at.answer = answer;
	at.fd = fd;
	at.answers++;
	ferry_uring_loop_stop(at.uring);
}

static void ask(bool goes_on)
{
	struct ferry_nbddev_question question = {
		.uri = URI,
		.goes_on = goes_on,
		.label = "lun",
		.shape = {.size_bytes = 2048 * 512, .block_bytes = 4096}};

	assert_int_equal(nbddev_ask(&at.kernel, ferry_uring_loop_of(at.uring), &question, answered,
				    &at, &at.asking),
			 0);
	assert_int_equal(at.answers, 0); /* Never from inside. */
}

static void timer_ran(struct ferry_timer *timer)
{
	(void)timer;
	at.has_waited = at.answers == 0;
	assert_int_equal(sem_post(&at.may_go), 0);
}

/* The kernel answers when the loop, which it would wait for, has run. */
static void test_loop_goes_on(void **state)
{
	char byte;

	(void)state;
	ask(/* goes_on= */ true);
	at.timer.run = timer_ran;
	ferry_timer_start_in(ferry_uring_loop_of(at.uring), &at.timer, FERRY_NS_PER_MS);
	assert_int_equal(ferry_uring_loop_run(at.uring), 0);
	assert_true(at.has_waited);
	assert_int_equal(at.answers, 1);
	assert_int_equal(at.answer, 0);
	assert_int_equal(write(at.kept, "x", 1), 1);
	assert_int_equal(read(at.fd, &byte, 1), 1);
}

static void test_end(void **state)
{
	(void)state;
	assert_int_equal(sem_post(&at.may_go), 0);
	ask(/* goes_on= */ false);
	assert_int_equal(ferry_uring_loop_run(at.uring), 0);
	assert_int_equal(at.answer, 1);
	assert_int_equal(at.fd, -1);
}

/* Who stops waits for it; what the kernel has taken meanwhile is dead again. */
static void test_close(void **state)
{
	char byte;

	(void)state;
	assert_int_equal(sem_post(&at.may_go), 0);
	ask(/* goes_on= */ true);
	at.asking = ferry_nbddev_ask_close(at.asking);
	assert_null(at.asking);
	assert_int_equal(at.answers, 0);
	assert_true(at.kept >= 0);
	assert_int_equal(read(at.kept, &byte, 1), 0);
	assert_null(ferry_nbddev_ask_close(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_loop_goes_on),
		TEST(test_end),
		TEST(test_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
