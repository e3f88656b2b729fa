/*
 * Publishing, with a stand-in for attrd_updater that writes down how it was called and does as
 * it is told. What real Pacemaker makes of it is in pacemaker.h and tested in the lab.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/pacemaker/pacemaker.h"
#include "agent/adapters/qb/qb.h"

enum { DEADLINE_S = 30 };

static char directory[64];
static char program[96];
static struct ferry_qb_loop *loop;
static struct ferry_pacemaker *pacemaker;
static struct ferry_timer poll_timer;
static int state_calls, state_last;
static uint32_t wanted_state_calls;

static void path_of(char path[128], const char *name)
{
	(void)snprintf(path, 128, "%s/%s", directory, name);
}

static void file_write(const char *name, const char *text, mode_t mode)
{
	char path[128];
	int fd;

	path_of(path, name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void file_remove(const char *name)
{
	char path[128];

	path_of(path, name);
	(void)unlink(path);
}

static const char *calls(void)
{
	static char text[64 * 1024];
	char path[128];
	ssize_t length;
	int fd;

	path_of(path, "calls");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return "";
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	assert_true(length >= 0);
	text[length] = '\0';
	return text;
}

static int calls_count(void)
{
	int count = 0;

	for (const char *c = calls(); *c; c++)
		count += *c == '\n';
	return count;
}

static void on_state(void *context, int error, const char *why)
{
	assert_ptr_equal(context, directory);
	assert_true(error == 0 || (why && strstr(why, program)));
	state_calls++;
	state_last = error;
}

/* The loop runs until everything is published, or so many changes of state were told. */
static void on_poll(struct ferry_timer *timer)
{
	bool is_over = wanted_state_calls ? (uint32_t)state_calls >= wanted_state_calls
					  : ferry_pacemaker_is_settled(pacemaker);

	if (is_over)
		ferry_qb_loop_stop(loop);
	else
		ferry_timer_start_in(ferry_qb_loop_port(loop), timer, FERRY_NS_PER_MS);
}

static void settle(void)
{
	ferry_timer_start_in(ferry_qb_loop_port(loop), &poll_timer, FERRY_NS_PER_MS);
	ferry_qb_loop_run(loop);
}

static int setup(void **state)
{
	struct ferry_pacemaker_config config = {
		.program = program,
		.deadline_ns = 300 * FERRY_NS_PER_MS,
		.retry_ns = 10 * FERRY_NS_PER_MS,
		.on_state = on_state,
		.context = directory,
	};
	char script[512];

	(void)state;
	alarm(DEADLINE_S);
	state_calls = state_last = 0;
	wanted_state_calls = 0;
	poll_timer = (struct ferry_timer){.run = on_poll};
	(void)snprintf(directory, sizeof(directory), "/tmp/ferry-pacemaker-XXXXXX");
	assert_non_null(mkdtemp(directory));
	(void)snprintf(program, sizeof(program), "%s/updater", directory);
	(void)snprintf(script, sizeof(script),
		       "#!/bin/sh\ncd %s || exit 9\n"
		       "[ -e /proc/$$/fd/47 ] && echo leak >>leaks\n"
		       ">started\n[ -e hang ] && exec tail -f /dev/null\n[ -e fail ] && exit "
		       "5\necho \"$*\" "
		       ">>calls\n",
		       directory);
	file_write("updater", script, 0700);
	assert_int_equal(ferry_qb_loop_open(&loop, NULL), 0);
	config.loop = ferry_qb_loop_port(loop);
	assert_int_equal(ferry_pacemaker_open(&config, &pacemaker, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"updater", "calls", "hang", "fail", "leaks", "started"};

	(void)state;
	ferry_pacemaker_close(pacemaker);
	pacemaker = NULL;
	ferry_qb_loop_close(loop);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(names); i++)
		file_remove(names[i]);
	alarm(0);
	return rmdir(directory);
}

static void test_once_per_change_and_no_more(void **state)
{
	(void)state;
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "1", false), 0);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "0", false), 0);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-info", "a b; c", true), 0);
	assert_int_equal(calls_count(), 0); /* Together, when the loop comes round. */
	settle();
	assert_int_equal(calls_count(), 2);
	assert_non_null(strstr(calls(), "--name=ferry-pg --update=0\n"));
	assert_non_null(strstr(calls(), "--name=ferry-info --update=a b; c --private\n"));
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "0", false), 0);
	settle();
	assert_int_equal(calls_count(), 2);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "7", false), 0);
	settle();
	assert_int_equal(calls_count(), 3);
	ferry_pacemaker_refresh(pacemaker);
	settle();
	assert_int_equal(calls_count(), 5);
	assert_int_equal(state_calls, 0);
}

static void test_failure_is_told_once_and_retried(void **state)
{
	(void)state;
	file_write("fail", "", 0600);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "1", false), 0);
	wanted_state_calls = 1;
	settle();
	assert_int_equal(state_last, -EIO);
	file_remove("fail");
	wanted_state_calls = 2;
	settle();
	assert_int_equal(state_last, 0);
	assert_int_equal(state_calls, 2);
	assert_int_equal(calls_count(), 1);
	assert_true(ferry_pacemaker_is_settled(pacemaker));
}

static void test_hanging_one_is_killed(void **state)
{
	(void)state;
	file_write("hang", "", 0600);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "1", false), 0);
	wanted_state_calls = 1;
	settle();
	assert_int_equal(state_last, -EIO);
	/* A change meanwhile: the newest value is what counts. */
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "2", false), 0);
	file_remove("hang");
	wanted_state_calls = 2;
	settle();
	assert_string_equal(calls(), "--name=ferry-pg --update=2\n");
}

static void test_withdraws(void **state)
{
	struct ferry_error error = {0};

	(void)state;
	assert_int_equal(ferry_pacemaker_withdraw(program, "ferry-pg", 0, &error), 0);
	assert_string_equal(calls(), "--name=ferry-pg --delete\n");
	assert_int_equal(ferry_pacemaker_withdraw(program, "a b", 0, &error), -EINVAL);
	assert_int_equal(ferry_pacemaker_withdraw("/nonexistent", "a", 0, &error), -ENOENT);
	file_write("fail", "", 0600);
	assert_int_equal(ferry_pacemaker_withdraw(program, "ferry-pg", 0, &error), -EIO);
	file_remove("fail");
	file_write("hang", "", 0600);
	assert_int_equal(
		ferry_pacemaker_withdraw(program, "ferry-pg", 200 * FERRY_NS_PER_MS, &error),
		-ETIMEDOUT);
	assert_non_null(strstr(error.message, "ferry-pg"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void on_started(struct ferry_timer *timer)
{
	char path[128];

	path_of(path, "started");
	if (access(path, F_OK) == 0)
		ferry_qb_loop_stop(loop);
	else
		ferry_timer_start_in(ferry_qb_loop_port(loop), timer, FERRY_NS_PER_MS);
}

static void test_close_leaves_nothing_running(void **state)
{
	(void)state;
	file_write("hang", "", 0600);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "1", false), 0);
	poll_timer.run = on_started;
	settle();
	ferry_pacemaker_close(pacemaker);
	pacemaker = NULL;
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* No child is left, in any state. */
	assert_int_equal(errno, ECHILD);
}

static void test_descriptors_are_not_inherited(void **state)
{
	char path[128];
	int fd;

	(void)state;
	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(dup2(fd, 47), 47); /* Without O_CLOEXEC, as a library might. */
	assert_int_equal(ferry_pacemaker_set(pacemaker, "ferry-pg", "1", false), 0);
	settle();
	close(fd);
	close(47);
	path_of(path, "leaks");
	assert_int_not_equal(access(path, F_OK), 0);
}

static void test_refuses_what_attrd_would_not_like(void **state)
{
	char long_text[FERRY_PACEMAKER_NAME_BYTES + 1];
	char name[32];
	struct ferry_pacemaker_config config = {.program = "/nonexistent/updater"};
	struct ferry_pacemaker *other = NULL;
	struct ferry_error error = {0};

	(void)state;
	memset(long_text, 'x', sizeof(long_text));
	long_text[FERRY_PACEMAKER_NAME_BYTES] = '\0';
	assert_int_equal(ferry_pacemaker_set(pacemaker, "", "1", false), -EINVAL);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "a b", "1", false), -EINVAL);
	assert_int_equal(ferry_pacemaker_set(pacemaker, long_text, "1", false), -EINVAL);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "a", long_text, false), -EINVAL);
	assert_int_equal(ferry_pacemaker_set(pacemaker, "a", "1\n2", false), -EINVAL);
	for (int i = 0; i < FERRY_PACEMAKER_ATTRIBUTES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "a%d", i);
		assert_int_equal(ferry_pacemaker_set(pacemaker, name, "1", true), 0);
	}
	assert_int_equal(ferry_pacemaker_set(pacemaker, "one-more", "1", true), -ENOSPC);
	config.loop = ferry_qb_loop_port(loop);
	assert_int_equal(ferry_pacemaker_open(&config, &other, &error), -ENOENT);
	assert_non_null(strstr(error.message, "is pacemaker installed?"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_once_per_change_and_no_more, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure_is_told_once_and_retried, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_hanging_one_is_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_withdraws, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_leaves_nothing_running, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptors_are_not_inherited, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_refuses_what_attrd_would_not_like, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
