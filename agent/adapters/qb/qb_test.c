/* The cluster loop and the log, with the real kernel, real threads and a real crash. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/qb/qb.h"

enum { DEADLINE_S = 30, THREADS = 4, LINES = 500 };

struct bench {
	struct ferry_qb_loop *loop;
	struct ferry_loop *port;
	struct ferry_timer timers[8];
	struct ferry_task task;
	struct ferry_watch watch;
	struct ferry_watch other;
	int order[16];
	uint32_t count;
	uint32_t wanted_count;
	pthread_t thread;
	int pipe[2];
};

static struct bench bench;

static int setup(void **state)
{
	(void)state;
	memset(&bench, 0, sizeof(bench));
	bench.pipe[0] = bench.pipe[1] = -1;
	alarm(DEADLINE_S);
	if (ferry_qb_loop_open(&bench.loop, NULL) < 0)
		return -1;
	bench.port = ferry_qb_loop_port(bench.loop);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ferry_qb_loop_close(bench.loop);
	for (int i = 0; i < 2; i++) {
		if (bench.pipe[i] >= 0)
			close(bench.pipe[i]);
	}
	alarm(0);
	return 0;
}

static void ran(int what)
{
	assert_true(bench.count < FERRY_ARRAY_COUNT(bench.order));
	bench.order[bench.count++] = what;
	if (bench.count == bench.wanted_count)
		ferry_qb_loop_stop(bench.loop);
}

static void on_timer(struct ferry_timer *timer)
{
	assert_true(bench.port->ops->now_ns(bench.port) >= timer->deadline_ns);
	assert_false(ferry_timer_is_started(timer));
	ran((int)(timer - bench.timers));
}

static void test_timers_run_in_order_and_on_time(void **state)
{
	static const uint64_t delays_ms[] = {30, 10, 10, 50, 20, 1};
	uint64_t start_ns;
	uint64_t late_ns;

	(void)state;
	start_ns = ferry_loop_now_ns(bench.port);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(delays_ms); i++) {
		bench.timers[i].run = on_timer;
		ferry_timer_start(bench.port, &bench.timers[i],
				  start_ns + delays_ms[i] * FERRY_NS_PER_MS);
	}
	ferry_loop_now_ns(bench.port);
	bench.port->ops->timer_stop(bench.port, &bench.timers[4]);
	bench.port->ops->timer_stop(bench.port, &bench.timers[4]); /* Twice does no harm. */
	ferry_timer_start(bench.port, &bench.timers[1], start_ns + 40 * FERRY_NS_PER_MS);
	bench.wanted_count = 5;
	ferry_qb_loop_run(bench.loop);
	late_ns = ferry_loop_now_ns(bench.port) - start_ns - 50 * FERRY_NS_PER_MS;
	assert_int_equal(bench.order[0], 5);
	assert_int_equal(bench.order[1], 2);
	assert_int_equal(bench.order[2], 0);
	assert_int_equal(bench.order[3], 1);
	assert_int_equal(bench.order[4], 3);
	assert_true(late_ns < FERRY_NS_PER_S);
}

static void on_task_again(struct ferry_task *task)
{
	if (bench.count < 9) {
		ferry_task_post(bench.port, task);
		ferry_task_post(bench.port, task); /* Posting a posted task is a no-op. */
	}
	ran(7);
}

static void test_task_runs_without_waiting(void **state)
{
	uint64_t start_ns;

	(void)state;
	bench.task.run = on_task_again;
	bench.wanted_count = 10;
	start_ns = ferry_loop_now_ns(bench.port);
	ferry_task_post(bench.port, &bench.task);
	ferry_qb_loop_run(bench.loop);
	assert_int_equal(bench.count, 10);
	/* qb_loop's own jobs would have taken ten times 50 ms. */
	assert_true(ferry_loop_now_ns(bench.port) - start_ns < 300 * FERRY_NS_PER_MS);
}

static void test_task_can_be_cancelled(void **state)
{
	(void)state;
	bench.task.run = on_task_again;
	ferry_task_post(bench.port, &bench.task);
	ferry_task_cancel(bench.port, &bench.task);
	assert_false(bench.task.is_posted);
	bench.timers[1].run = on_timer;
	ferry_timer_start_in(bench.port, &bench.timers[1], FERRY_NS_PER_MS);
	bench.wanted_count = 1;
	ferry_qb_loop_run(bench.loop);
	assert_int_equal(bench.order[0], 1);
}

static void on_readable_moves(struct ferry_watch *watch, uint32_t ready)
{
	char byte;

	assert_int_equal(ready, FERRY_WATCH_READ);
	assert_int_equal(read(watch->fd, &byte, 1), 1);
	/* The same descriptor under another watch, from inside: qb must not mix them up. */
	bench.port->ops->watch_stop(bench.port, watch);
	assert_int_equal(bench.port->ops->watch_start(
				 bench.port, watch == &bench.watch ? &bench.other : &bench.watch,
				 FERRY_WATCH_READ),
			 0);
	ran(byte);
}

static void test_watch_moves_from_inside(void **state)
{
	(void)state;
	assert_int_equal(pipe2(bench.pipe, O_CLOEXEC | O_NONBLOCK), 0);
	bench.watch = (struct ferry_watch){.run = on_readable_moves, .fd = bench.pipe[0]};
	bench.other = bench.watch;
	assert_int_equal(bench.port->ops->watch_start(bench.port, &bench.watch, FERRY_WATCH_READ),
			 0);
	assert_int_equal(bench.port->ops->watch_start(bench.port, &bench.other, FERRY_WATCH_READ),
			 -EEXIST);
	assert_int_equal(write(bench.pipe[1], "abcdefgh", 8), 8);
	bench.wanted_count = 8;
	ferry_qb_loop_run(bench.loop);
	assert_int_equal(bench.order[7], 'h');
}

static void on_hang_up(struct ferry_watch *watch, uint32_t ready)
{
	assert_int_equal(ready, FERRY_WATCH_READ);
	bench.port->ops->watch_stop(bench.port, watch);
	ran(3);
}

static void on_timer_want(struct ferry_timer *timer)
{
	(void)timer;
	assert_int_equal(bench.count, 0); /* A paused watch is silent, even on hang-up. */
	bench.port->ops->watch_set(bench.port, &bench.watch, FERRY_WATCH_READ);
}

static void test_paused_watch_is_silent(void **state)
{
	(void)state;
	assert_int_equal(pipe2(bench.pipe, O_CLOEXEC | O_NONBLOCK), 0);
	bench.watch = (struct ferry_watch){.run = on_hang_up, .fd = bench.pipe[0]};
	assert_int_equal(bench.port->ops->watch_start(bench.port, &bench.watch, 0), 0);
	close(bench.pipe[1]);
	bench.pipe[1] = -1;
	bench.timers[0].run = on_timer_want;
	ferry_timer_start_in(bench.port, &bench.timers[0], 20 * FERRY_NS_PER_MS);
	bench.wanted_count = 1;
	ferry_qb_loop_run(bench.loop);
	assert_int_equal(bench.order[0], 3);
}

static void *wake_from_afar(void *context)
{
	(void)context;
	assert_false(bench.port->ops->is_current(bench.port));
	ferry_qb_loop_wake(bench.loop);
	return NULL;
}

static void on_wake(void *context)
{
	assert_ptr_equal(context, &bench);
	assert_true(bench.port->ops->is_current(bench.port));
	ran(5);
}

static void test_other_thread_wakes(void **state)
{
	(void)state;
	ferry_qb_loop_on_wake(bench.loop, on_wake, &bench);
	bench.wanted_count = 1;
	assert_int_equal(pthread_create(&bench.thread, NULL, wake_from_afar, NULL), 0);
	ferry_qb_loop_run(bench.loop);
	assert_int_equal(pthread_join(bench.thread, NULL), 0);
	assert_int_equal(bench.count, 1);
}

static void on_signal(void *context, int number)
{
	assert_ptr_equal(context, &bench);
	ran(number);
}

static void test_signals_arrive_on_the_loop(void **state)
{
	static const int numbers[] = {SIGUSR1, SIGTERM};

	(void)state;
	assert_int_equal(ferry_qb_loop_signals(bench.loop, numbers, 2, on_signal, &bench), 0);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	assert_int_equal(kill(getpid(), SIGTERM), 0);
	bench.wanted_count = 2;
	ferry_qb_loop_run(bench.loop);
	assert_int_equal(bench.order[0] + bench.order[1], SIGUSR1 + SIGTERM);
}

/* The log. Each test is a child, since a process has one log. */

static char directory[64];

static int log_setup(void **state)
{
	(void)state;
	alarm(DEADLINE_S);
	(void)snprintf(directory, sizeof(directory), "/tmp/ferry-qb-XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static int log_teardown(void **state)
{
	static const char *const names[] = {"err", "blackbox.usr1", "blackbox.fatal"};
	char path[128];

	(void)state;
	alarm(0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		(void)unlink(path);
	}
	return rmdir(directory);
}

static void log_open(void)
{
	const struct ferry_log_config config = {
		.name = "ferry-qb-test",
		.target = FERRY_LOG_STDERR,
		.level = FERRY_SEVERITY_INFO,
		.blackbox_bytes = 64 * 1024,
		.state_dir = directory,
		.self = {2},
	};

	if (ferry_log_open(&config, NULL) < 0)
		_exit(3);
}

static int child_run(int (*body)(void))
{
	char path[128];
	int status = 0;
	pid_t pid;
	int fd;

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)snprintf(path, sizeof(path), "%s/err", directory);
		fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
		dup2(fd, STDERR_FILENO);
		(void)alarm(DEADLINE_S);
		_exit(body());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static char *slurp(const char *name)
{
	static char text[4 * 1024 * 1024];
	char path[128];
	ssize_t length;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	assert_true(length >= 0);
	text[length] = '\0';
	return text;
}

static void *log_a_lot(void *context)
{
	for (int i = 0; i < LINES; i++)
		ferry_log(FERRY_SEVERITY_NOTICE, "thread %s line %d.", (const char *)context, i);
	return NULL;
}

static int body_threads(void)
{
	static char names[THREADS][2] = {"a", "b", "c", "d"};
	pthread_t threads[THREADS];

	log_open();
	for (size_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, log_a_lot, names[i]);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ferry_log_close();
	return 0;
}

static void test_no_line_is_lost_between_threads(void **state)
{
	char wanted[64];
	const char *text;
	int lines = 0;

	(void)state;
	assert_int_equal(child_run(body_threads), 0);
	text = slurp("err");
	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	assert_int_equal(lines, THREADS * LINES);
	for (int i = 0; i < LINES; i++) {
		(void)snprintf(wanted, sizeof(wanted), "thread c line %d.\n", i);
		assert_non_null(strstr(text, wanted));
	}
}

static int body_event(void)
{
	struct ferry_event event = {
		.kind = FERRY_EVENT_PATH_STATE,
		.severity = FERRY_SEVERITY_WARNING,
		.value = 7,
		.pool = "pg",
		.from = "HEALTHY",
		.to = "SUSPECT",
		.text = "session lost",
	};

	log_open();
	ferry_log_event(&event);
	event.severity = FERRY_SEVERITY_DEBUG;
	(void)snprintf(event.text, sizeof(event.text), "for the blackbox only");
	ferry_log_event(&event);
	if (ferry_log_dump("usr1") < 0 || ferry_log_dump("usr1") < 0)
		return 4;
	ferry_log_set_level(FERRY_SEVERITY_ERROR);
	ferry_log(FERRY_SEVERITY_WARNING, "not severe enough");
	ferry_log_close();
	return 0;
}

static void test_event_is_one_line_of_columns(void **state)
{
	const char *text;
	struct stat status;
	char path[128];

	(void)state;
	assert_int_equal(child_run(body_event), 0);
	text = slurp("err");
	assert_non_null(strstr(text, "n2        7 pg           path-state    HEALTHY→SUSPECT "
				     "session lost\n"));
	assert_null(strstr(text, "blackbox only"));
	assert_null(strstr(text, "not severe"));
	(void)snprintf(path, sizeof(path), "%s/blackbox.usr1", directory);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_true(status.st_size > 64 * 1024);
}

static int body_crash(void)
{
	log_open();
	ferry_log(FERRY_SEVERITY_DEBUG, "last words");
	ferry_assert(getpid() == 1);
	return 0;
}

static void test_failed_assertion_dumps_the_blackbox(void **state)
{
	char path[128];
	struct stat status;
	int result;

	(void)state;
	result = child_run(body_crash);
	assert_true(WIFSIGNALED(result) && WTERMSIG(result) == SIGABRT);
	(void)snprintf(path, sizeof(path), "%s/blackbox.fatal", directory);
	assert_int_equal(stat(path, &status), 0);
	assert_true(status.st_size > 64 * 1024);
}

int main(void)
{
	const struct CMUnitTest loop_tests[] = {
		cmocka_unit_test_setup_teardown(test_timers_run_in_order_and_on_time, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_task_runs_without_waiting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_task_can_be_cancelled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_moves_from_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paused_watch_is_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_thread_wakes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals_arrive_on_the_loop, setup, teardown),
	};
	const struct CMUnitTest log_tests[] = {
		cmocka_unit_test_setup_teardown(test_no_line_is_lost_between_threads, log_setup,
						log_teardown),
		cmocka_unit_test_setup_teardown(test_event_is_one_line_of_columns, log_setup,
						log_teardown),
		cmocka_unit_test_setup_teardown(test_failed_assertion_dumps_the_blackbox, log_setup,
						log_teardown),
	};

	/* The log first: its children must not inherit the loop tests' blocked signals. */
	return cmocka_run_group_tests(log_tests, NULL, NULL) +
	       cmocka_run_group_tests(loop_tests, NULL, NULL);
}
