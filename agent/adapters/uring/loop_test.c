#include "agent/adapters/uring/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/spsc.h"

/* What every test has: a loop, and a timer that fails the test if it never ends. */
struct fixture {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_timer guard;
	char trace[64];
	size_t trace_length;
};

static struct fixture *current;

static void guard_run(struct ferry_timer *timer)
{
	(void)timer;
	fail_msg("the test did not end in time");
}

static int setup(void **state)
{
	static struct fixture fixture;
	struct ferry_error error;

	memset(&fixture, 0, sizeof(fixture));
	assert_int_equal(ferry_uring_loop_open(&fixture.uring, &error), 0);
	fixture.loop = ferry_uring_loop_of(fixture.uring);
	fixture.guard.run = guard_run;
	current = &fixture;
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	fixture->uring = ferry_uring_loop_close(fixture->uring);
	return 0;
}

static void run(struct fixture *fixture)
{
	ferry_timer_start_in(fixture->loop, &fixture->guard, 20 * FERRY_NS_PER_S);
	assert_int_equal(ferry_uring_loop_run(fixture->uring), 0);
	ferry_timer_stop(fixture->loop, &fixture->guard);
}

static void trace(char letter)
{
	assert_true(current->trace_length < sizeof(current->trace) - 1);
	current->trace[current->trace_length++] = letter;
}

struct lettered {
	struct ferry_timer timer;
	struct ferry_task task;
	char letter;
	char task_letter; /* If set: the timer posts the task, which only says so. */
	bool is_last;
	struct lettered *victim;
	uint32_t restarts;
};

static void lettered_timer(struct ferry_timer *timer)
{
	struct lettered *self = FERRY_CONTAINER_OF(timer, struct lettered, timer);

	assert_false(ferry_timer_is_started(timer));
	assert_true(ferry_loop_now_ns(current->loop) >= timer->deadline_ns);
	trace(self->letter);
	if (self->task_letter)
		ferry_task_post(current->loop, &self->task);
	if (self->victim)
		ferry_timer_stop(current->loop, &self->victim->timer);
	if (self->restarts > 0) {
		self->restarts--;
		ferry_timer_start(current->loop, timer, 0);
	}
	if (self->is_last)
		ferry_uring_loop_stop(current->uring);
}

static void timers_run_in_order(void **state)
{
	struct fixture *f = *state;
	struct lettered t[6] = {0};
	uint64_t start_ns = ferry_loop_now_ns(f->loop);
	static const uint64_t delay_ms[] = {30, 10, 20, 10, 40, 15};

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(t); i++) {
		t[i].timer.run = lettered_timer;
		t[i].letter = (char)('a' + i);
		ferry_timer_start(f->loop, &t[i].timer, start_ns + delay_ms[i] * FERRY_NS_PER_MS);
	}
	t[4].is_last = true;
	/* Started anew: later than all but the last. A stop before, and one from a callback. */
	ferry_timer_start(f->loop, &t[1].timer, start_ns + 35 * FERRY_NS_PER_MS);
	ferry_timer_stop(f->loop, &t[2].timer);
	ferry_timer_stop(f->loop, &t[2].timer);
	t[3].victim = &t[5];
	run(f);
	assert_string_equal(f->trace, "dabe");
	assert_true(ferry_loop_now_ns(f->loop) >= start_ns + 40 * FERRY_NS_PER_MS);
	assert_true(ferry_loop_now_ns(f->loop) < start_ns + 5 * FERRY_NS_PER_S);
}

static void lettered_task(struct ferry_task *task);

static void timer_restarted_in_the_past_starves_nobody(void **state)
{
	struct fixture *f = *state;
	struct lettered again = {.timer.run = lettered_timer,
				 .task.run = lettered_task,
				 .letter = 'x',
				 .task_letter = 't',
				 .restarts = 3};
	struct lettered other = {.timer.run = lettered_timer, .letter = 'o'};
	struct lettered last = {.timer.run = lettered_timer, .letter = 'z', .is_last = true};

	ferry_timer_start(f->loop, &again.timer, 0);
	ferry_timer_start(f->loop, &other.timer, 0);
	ferry_timer_start_in(f->loop, &last.timer, 5 * FERRY_NS_PER_MS);
	run(f);
	/* Once in each turn, so that the turn's tasks come in between. */
	assert_string_equal(f->trace, "xotxtxtxtz");
}

static void many_timers(void **state)
{
	struct fixture *f = *state;
	enum { COUNT = 5000 };
	struct lettered *t = calloc(COUNT, sizeof(*t));
	uint64_t start_ns = ferry_loop_now_ns(f->loop);
	uint64_t seed = 7;

	for (uint32_t i = 0; i < COUNT; i++) {
		t[i].timer.run = guard_run;
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		ferry_timer_start(f->loop, &t[i].timer, start_ns + FERRY_NS_PER_S * (seed >> 40));
	}
	/* Stop in another order; the heap's own asserts check each step. */
	for (uint32_t i = 0; i < COUNT; i++)
		ferry_timer_stop(f->loop, &t[(i * 1237u) % COUNT].timer);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_false(ferry_timer_is_started(&t[i].timer));
	free(t);
}

static void lettered_task(struct ferry_task *task)
{
	struct lettered *self = FERRY_CONTAINER_OF(task, struct lettered, task);

	assert_false(task->is_posted);
	if (self->task_letter) {
		trace(self->task_letter);
		return;
	}
	trace(self->letter);
	if (self->victim)
		ferry_task_cancel(current->loop, &self->victim->task);
	if (self->restarts > 0) {
		self->restarts--;
		ferry_task_post(current->loop, task);
	} else if (self->is_last) {
		ferry_uring_loop_stop(current->uring);
	}
}

static void tasks_run_once_in_order(void **state)
{
	struct fixture *f = *state;
	struct lettered t[4] = {0};

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(t); i++) {
		t[i].task.run = lettered_task;
		t[i].letter = (char)('a' + i);
		ferry_task_post(f->loop, &t[i].task);
		ferry_task_post(f->loop, &t[i].task);
	}
	t[0].victim = &t[2]; /* Cancelled though its turn has begun. */
	t[1].restarts = 2;
	t[1].is_last = true;
	run(f);
	assert_string_equal(f->trace, "abdbb");
}

/* What tasks post runs in the same turn, but a few times only: then it is the others' turn. */
static void tasks_of_tasks_run_in_the_same_turn(void **state)
{
	struct fixture *f = *state;
	struct lettered turns = {.timer.run = lettered_timer, .letter = 'x', .restarts = 1};
	struct lettered again = {
		.task.run = lettered_task, .letter = 'a', .restarts = 5, .is_last = true};

	ferry_timer_start(f->loop, &turns.timer, 0);
	ferry_task_post(f->loop, &again.task);
	run(f);
	assert_string_equal(f->trace, "xaaaaxaa");
}

struct posting {
	struct ferry_task task;
	struct ferry_timer timer;
	struct ferry_watch watch;
	uint64_t task_runs;
	uint64_t watch_runs;
};

static void posting_task(struct ferry_task *task)
{
	FERRY_CONTAINER_OF(task, struct posting, task)->task_runs++;
	ferry_task_post(current->loop, task);
}

static void posting_watch(struct ferry_watch *watch, uint32_t ready)
{
	struct posting *self = FERRY_CONTAINER_OF(watch, struct posting, watch);

	assert_int_equal(ready, FERRY_WATCH_WRITE);
	self->watch_runs++;
}

static void posting_timer(struct ferry_timer *timer)
{
	struct posting *self = FERRY_CONTAINER_OF(timer, struct posting, timer);

	if (self->watch_runs > 100 && self->task_runs > 100)
		ferry_uring_loop_stop(current->uring);
	else
		ferry_timer_start(current->loop, timer, 0);
}

/* A task, a timer and a watch that are always ready: each goes on. */
static void nobody_starves(void **state)
{
	struct fixture *f = *state;
	struct posting p = {
		.task.run = posting_task, .timer.run = posting_timer, .watch.run = posting_watch};
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	p.watch.fd = fds[1];
	ferry_task_post(f->loop, &p.task);
	ferry_timer_start(f->loop, &p.timer, 0);
	assert_int_equal(f->loop->ops->watch_start(f->loop, &p.watch, FERRY_WATCH_WRITE), 0);
	run(f);
	f->loop->ops->watch_stop(f->loop, &p.watch);
	ferry_task_cancel(f->loop, &p.task);
	close(fds[0]);
	close(fds[1]);
}

struct watched {
	struct ferry_watch watch;
	struct ferry_watch *victim;
	struct ferry_watch *heir; /* Started in the victim's place. */
	uint32_t runs;
	uint32_t stop_after;
	uint32_t read_bytes;
	uint32_t ready;
};

static void watched_run(struct ferry_watch *watch, uint32_t ready)
{
	struct watched *self = FERRY_CONTAINER_OF(watch, struct watched, watch);
	char bytes[16];

	self->runs++;
	self->ready = ready;
	if (self->victim)
		current->loop->ops->watch_stop(current->loop, self->victim);
	if (self->heir && !self->heir->loop_private)
		assert_int_equal(current->loop->ops->watch_start(current->loop, self->heir,
								 FERRY_WATCH_READ),
				 0);
	if (self->read_bytes > 0)
		assert_int_equal(read(watch->fd, bytes, self->read_bytes), self->read_bytes);
	if (self->stop_after > 0 && self->runs == self->stop_after)
		ferry_uring_loop_stop(current->uring);
}

static void watches_are_level_triggered(void **state)
{
	struct fixture *f = *state;
	struct watched w = {.watch.run = watched_run, .read_bytes = 1, .stop_after = 5};
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
			 0);
	w.watch.fd = fds[0];
	assert_int_equal(f->loop->ops->watch_start(f->loop, &w.watch, FERRY_WATCH_READ), 0);
	assert_int_equal(f->loop->ops->watch_start(f->loop, &w.watch, FERRY_WATCH_READ), -EEXIST);
	/* One write, five runs that read a byte each. */
	assert_int_equal(write(fds[1], "12345", 5), 5);
	run(f);
	assert_int_equal(w.runs, 5);
	assert_int_equal(w.ready, FERRY_WATCH_READ);

	/* Without being read it stays ready; both directions at once. */
	f->loop->ops->watch_set(f->loop, &w.watch, FERRY_WATCH_READ | FERRY_WATCH_WRITE);
	w.read_bytes = 0;
	w.stop_after = 8;
	assert_int_equal(write(fds[1], "6", 1), 1);
	run(f);
	assert_int_equal(w.runs, 8);
	assert_int_equal(w.ready, FERRY_WATCH_READ | FERRY_WATCH_WRITE);
	f->loop->ops->watch_stop(f->loop, &w.watch);
	f->loop->ops->watch_stop(f->loop, &w.watch);
	close(fds[0]);
	close(fds[1]);
}

/* The peer is gone, and the owner wants nothing: no spinning; when it wants again it hears. */
static void unwanted_watch_sleeps(void **state)
{
	struct fixture *f = *state;
	struct watched w = {.watch.run = watched_run, .stop_after = 1};
	struct lettered last = {.timer.run = lettered_timer, .letter = 'z', .is_last = true};
	struct timespec before, after;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
			 0);
	w.watch.fd = fds[0];
	assert_int_equal(f->loop->ops->watch_start(f->loop, &w.watch, 0), 0);
	close(fds[1]);
	ferry_timer_start_in(f->loop, &last.timer, 300 * FERRY_NS_PER_MS);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	run(f);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	assert_int_equal(w.runs, 0);
	assert_true((after.tv_sec - before.tv_sec) * 1000 +
			    (after.tv_nsec - before.tv_nsec) / 1000000 <
		    150);
	f->loop->ops->watch_set(f->loop, &w.watch, FERRY_WATCH_READ);
	run(f);
	assert_int_equal(w.runs, 1);
	f->loop->ops->watch_stop(f->loop, &w.watch);
	close(fds[0]);
}

/* Two ready in one batch; the first stops the other, which may not run, nor who takes its place. */
static void stopped_watch_does_not_run(void **state)
{
	struct fixture *f = *state;
	struct watched w[2] = {{.watch.run = watched_run, .stop_after = 1},
			       {.watch.run = watched_run, .stop_after = 1}};
	struct watched heir = {.watch.run = watched_run};
	int quiet[2];
	int fds[2][2];

	assert_int_equal(pipe2(quiet, O_CLOEXEC), 0);
	heir.watch.fd = quiet[0];
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pipe2(fds[i], O_CLOEXEC), 0);
		w[i].watch.fd = fds[i][0];
		w[i].victim = &w[1 - i].watch;
		w[i].heir = &heir.watch;
		assert_int_equal(f->loop->ops->watch_start(f->loop, &w[i].watch, FERRY_WATCH_READ),
				 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
	}
	run(f);
	assert_int_equal(w[0].runs + w[1].runs, 1);
	assert_int_equal(heir.runs, 0);
	assert_non_null(heir.watch.loop_private);
	f->loop->ops->watch_stop(f->loop, &heir.watch);
	close(quiet[0]);
	close(quiet[1]);
	for (size_t i = 0; i < 2; i++) {
		f->loop->ops->watch_stop(f->loop, &w[i].watch);
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

static void watch_errors(void **state)
{
	struct fixture *f = *state;
	struct ferry_watch watch = {.run = posting_watch, .fd = -1};
	struct ferry_watch twice = {.run = posting_watch};
	int fds[2];

	assert_int_equal(f->loop->ops->watch_start(f->loop, &watch, FERRY_WATCH_READ), -EBADF);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	watch.fd = twice.fd = fds[0];
	assert_int_equal(f->loop->ops->watch_start(f->loop, &watch, FERRY_WATCH_READ), 0);
	assert_int_equal(f->loop->ops->watch_start(f->loop, &twice, FERRY_WATCH_READ), -EEXIST);
	f->loop->ops->watch_stop(f->loop, &watch);
	close(fds[0]);
	close(fds[1]);
}

enum { MESSAGES = 200000 };

struct sender {
	struct ferry_uring_loop *loop;
	struct ferry_spsc ring;
	struct ferry_uring_waker waker;
	struct ferry_uring_waker bystander;
	uint64_t received;
	bool is_loop_foreign;
};

static void *sender_main(void *argument)
{
	struct sender *sender = argument;

	sender->is_loop_foreign = !ferry_uring_loop_of(sender->loop)
					   ->ops->is_current(ferry_uring_loop_of(sender->loop));
	for (uint64_t i = 1; i <= MESSAGES; i++) {
		while (ferry_spsc_push(&sender->ring, &i) == -EAGAIN)
			sched_yield();
		ferry_uring_loop_wake(sender->loop);
	}
	return NULL;
}

static void sender_received(struct ferry_uring_waker *waker)
{
	struct sender *sender = FERRY_CONTAINER_OF(waker, struct sender, waker);
	uint64_t message;

	while (ferry_spsc_pop(&sender->ring, &message) == 0) {
		assert_int_equal(message, sender->received + 1);
		sender->received = message;
	}
	if (sender->received == MESSAGES)
		ferry_uring_loop_stop(sender->loop);
}

static void bystander_run(struct ferry_uring_waker *waker)
{
	ferry_uring_loop_waker_remove(current->uring, waker);
	trace('b');
}

static void wake_from_another_thread(void **state)
{
	struct fixture *f = *state;
	struct sender *sender = aligned_alloc(64, (sizeof(*sender) + 63) / 64 * 64);
	static _Alignas(64) uint8_t memory[4096];
	struct ferry_region region;
	pthread_t thread;

	memset(sender, 0, sizeof(*sender));
	sender->loop = f->uring;
	sender->waker.run = sender_received;
	sender->bystander.run = bystander_run;
	ferry_region_init(&region, memory, sizeof(memory));
	assert_int_equal(ferry_spsc_init(&sender->ring, &region, 64, sizeof(uint64_t)), 0);
	ferry_uring_loop_waker_add(f->uring, &sender->bystander);
	ferry_uring_loop_waker_add(f->uring, &sender->waker);
	assert_int_equal(pthread_create(&thread, NULL, sender_main, sender), 0);
	run(f);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(sender->received, MESSAGES);
	assert_string_equal(f->trace, "b");
	ferry_uring_loop_waker_remove(f->uring, &sender->waker);
	free(sender);
}

struct runner {
	struct ferry_uring_loop *loop;
	struct ferry_task task;
	_Atomic bool is_running;
	int result;
};

static void runner_task(struct ferry_task *task)
{
	FERRY_CONTAINER_OF(task, struct runner, task)->is_running = true;
}

static void *runner_main(void *argument)
{
	struct runner *runner = argument;

	runner->result = ferry_uring_loop_run(runner->loop);
	return NULL;
}

/* Opened here, run there, stopped from here, closed here: as agent/main does. */
static void stop_from_another_thread(void **state)
{
	struct fixture *f = *state;
	struct runner runner = {.loop = f->uring, .task.run = runner_task, .result = 1};
	pthread_t thread;

	assert_true(f->loop->ops->is_current(f->loop));
	ferry_task_post(f->loop, &runner.task);
	assert_int_equal(pthread_create(&thread, NULL, runner_main, &runner), 0);
	while (!runner.is_running)
		sched_yield();
	assert_false(f->loop->ops->is_current(f->loop));
	ferry_uring_loop_stop(f->uring);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(runner.result, 0);
	assert_true(f->loop->ops->is_current(f->loop));
}

static void stop_before_run(void **state)
{
	struct fixture *f = *state;

	ferry_uring_loop_stop(f->uring);
	run(f);
	ferry_uring_loop_stop(f->uring);
	run(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(timers_run_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_restarted_in_the_past_starves_nobody, setup,
						teardown),
		cmocka_unit_test_setup_teardown(many_timers, setup, teardown),
		cmocka_unit_test_setup_teardown(tasks_run_once_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(tasks_of_tasks_run_in_the_same_turn, setup,
						teardown),
		cmocka_unit_test_setup_teardown(nobody_starves, setup, teardown),
		cmocka_unit_test_setup_teardown(watches_are_level_triggered, setup, teardown),
		cmocka_unit_test_setup_teardown(unwanted_watch_sleeps, setup, teardown),
		cmocka_unit_test_setup_teardown(stopped_watch_does_not_run, setup, teardown),
		cmocka_unit_test_setup_teardown(watch_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(wake_from_another_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_from_another_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_before_run, setup, teardown),
	};

	return cmocka_run_group_tests_name("uring_loop", tests, NULL, NULL);
}
