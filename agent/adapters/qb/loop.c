#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <qb/qbloop.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/qb/qb.h"
#include "agent/ports/timers.h"

struct ferry_qb_loop {
	struct ferry_loop port;
	qb_loop_t *qb;
	_Atomic pthread_t thread; /* Read by other threads too, by is_current(). */
	uint64_t now_ns;	  /* Of the callback that runs; 0 outside of one. */
	int event_fd;
	int timer_fd;
	int signal_fd;

	struct ferry_list tasks;
	bool is_event_raised; /* By task_post(); so that many posts make one write. */
	void (*wake_run)(void *context);
	void *wake_context;
	void (*signal_run)(void *context, int number);
	void *signal_context;

	struct ferry_watch *watches[FERRY_QB_WATCHES_MAX];
	struct ferry_watch *dispatching;
	bool is_dispatching_dropped; /* qb has no entry for it any more: it must be told. */

	struct ferry_timers timers;
	struct ferry_timer *timers_heap[FERRY_QB_TIMERS_MAX + 1];
};

static struct ferry_qb_loop *loop_of(struct ferry_loop *port)
{
	return FERRY_CONTAINER_OF(port, struct ferry_qb_loop, port);
}

static uint64_t clock_ns(void)
{
	struct timespec now;
	int r;

	r = clock_gettime(CLOCK_MONOTONIC, &now);
	ferry_assert(r == 0);
	return (uint64_t)now.tv_sec * FERRY_NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t loop_now_ns(struct ferry_loop *port)
{
	const struct ferry_qb_loop *loop = loop_of(port);

	return loop->now_ns ? loop->now_ns : clock_ns();
}

static bool loop_is_current(struct ferry_loop *port)
{
	return pthread_equal(loop_of(port)->thread, pthread_self()) != 0;
}

/* Timers: a timerfd is set to the first one. */

/* Set the timerfd to the earliest deadline; 0 would disarm it, so never less than 1 ns. */
static void timers_arm(struct ferry_qb_loop *loop)
{
	struct itimerspec when = {0};
	const struct ferry_timer *first = ferry_timers_first(&loop->timers);
	uint64_t deadline_ns;
	int r;

	if (first) {
		deadline_ns = ferry_max_u64(first->deadline_ns, 1);
		when.it_value.tv_sec = (time_t)(deadline_ns / FERRY_NS_PER_S);
		when.it_value.tv_nsec = (long)(deadline_ns % FERRY_NS_PER_S);
	}
	r = timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
	ferry_assert(r == 0);
}

static void loop_timer_start(struct ferry_loop *port, struct ferry_timer *timer,
			     uint64_t deadline_ns)
{
	struct ferry_qb_loop *loop = loop_of(port);

	FERRY_ASSERT_ON_LOOP(port);
	/* Forever is as good as 292 years, and timerfd's seconds are signed. */
	ferry_timers_start(&loop->timers, timer, ferry_min_u64(deadline_ns, (uint64_t)INT64_MAX));
	if (timer->heap_slot == 1)
		timers_arm(loop);
}

static void loop_timer_stop(struct ferry_loop *port, struct ferry_timer *timer)
{
	FERRY_ASSERT_ON_LOOP(port);
	/* A timerfd that fires for nothing does no harm. */
	ferry_timers_stop(&loop_of(port)->timers, timer);
}

static int32_t on_timer_fd(int32_t fd, int32_t revents, void *data)
{
	struct ferry_qb_loop *loop = data;
	uint64_t expirations;
	ssize_t length;
	uint64_t sequence_end = loop->timers.sequence_next;

	(void)revents;
	length = read(fd, &expirations, sizeof(expirations));
	ferry_assert(length == (ssize_t)sizeof(expirations) || (length < 0 && errno == EAGAIN));
	loop->now_ns = clock_ns();
	for (;;) {
		struct ferry_timer *timer = ferry_timers_first(&loop->timers);

		/* One that was started just now waits a round, so that descriptors get theirs. */
		if (!timer || timer->deadline_ns > loop->now_ns || timer->sequence >= sequence_end)
			break;
		ferry_timers_stop(&loop->timers, timer);
		timer->run(timer);
		loop->now_ns = clock_ns();
	}
	loop->now_ns = 0;
	timers_arm(loop);
	return 0;
}

/* Tasks, and wakes from other threads: one eventfd. */

static void event_raise(int fd)
{
	static const uint64_t one = 1;
	ssize_t length;

	length = write(fd, &one, sizeof(one));
	/* EAGAIN: it stands at its maximum, so it is readable already. */
	ferry_assert(length == (ssize_t)sizeof(one) || (length < 0 && errno == EAGAIN));
}

static void loop_task_post(struct ferry_loop *port, struct ferry_task *task)
{
	struct ferry_qb_loop *loop = loop_of(port);

	FERRY_ASSERT_ON_LOOP(port);
	if (task->is_posted)
		return;
	task->is_posted = true;
	ferry_list_append(&loop->tasks, &task->link);
	if (loop->is_event_raised)
		return;
	loop->is_event_raised = true;
	event_raise(loop->event_fd);
}

static void loop_task_cancel(struct ferry_loop *port, struct ferry_task *task)
{
	FERRY_ASSERT_ON_LOOP(port);
	if (!task->is_posted)
		return;
	task->is_posted = false;
	ferry_list_remove(&task->link);
}

static int32_t on_event_fd(int32_t fd, int32_t revents, void *data)
{
	struct ferry_qb_loop *loop = data;
	struct ferry_list due, *link;
	uint64_t count;
	ssize_t length;

	(void)revents;
	length = read(fd, &count, sizeof(count));
	ferry_assert(length == (ssize_t)sizeof(count) || (length < 0 && errno == EAGAIN));
	loop->is_event_raised = false;
	loop->now_ns = clock_ns();
	if (loop->wake_run)
		loop->wake_run(loop->wake_context);
	ferry_list_init(&due); /* Those that are posted from now on run in the next round. */
	ferry_list_move_all(&due, &loop->tasks);
	while ((link = ferry_list_pop(&due))) {
		struct ferry_task *task = ferry_list_entry(link, struct ferry_task, link);

		task->is_posted = false;
		loop->now_ns = clock_ns();
		task->run(task);
	}
	loop->now_ns = 0;
	return 0;
}

/* Watches. */

static int32_t on_watch(int32_t fd, int32_t revents, void *data)
{
	struct ferry_watch *watch = data;
	struct ferry_qb_loop *loop = watch->loop_private;
	uint32_t ready = 0;

	ferry_assert(loop && watch->fd == fd);
	if (revents & POLLIN)
		ready |= FERRY_WATCH_READ;
	if (revents & POLLOUT)
		ready |= FERRY_WATCH_WRITE;
	if (revents & (POLLERR | POLLHUP | POLLNVAL))
		ready |= watch->wanted;
	loop->dispatching = watch;
	loop->is_dispatching_dropped = false;
	loop->now_ns = clock_ns();
	watch->run(watch, ready);
	loop->now_ns = 0;
	loop->dispatching = NULL;
	/* Else qb would take its deleted entry for a live one. @watch may be freed by now. */
	return loop->is_dispatching_dropped ? -EBADF : 0;
}

static int32_t poll_of(uint32_t wanted)
{
	return ((wanted & FERRY_WATCH_READ) ? POLLIN : 0) |
	       ((wanted & FERRY_WATCH_WRITE) ? POLLOUT : 0);
}

static void watch_drop(struct ferry_qb_loop *loop, struct ferry_watch *watch)
{
	if (loop->dispatching == watch)
		loop->is_dispatching_dropped = true;
	(void)qb_loop_poll_del(loop->qb, watch->fd); /* Ignoring: a closed one is gone anyway. */
}

static int loop_watch_start(struct ferry_loop *port, struct ferry_watch *watch, uint32_t wanted)
{
	struct ferry_qb_loop *loop = loop_of(port);
	struct ferry_watch **slot = NULL;
	int r;

	FERRY_ASSERT_ON_LOOP(port);
	ferry_assert(watch->run && watch->fd >= 0);
	for (size_t i = 0; i < FERRY_QB_WATCHES_MAX; i++) {
		if (loop->watches[i] && loop->watches[i]->fd == watch->fd)
			return -EEXIST;
		if (!loop->watches[i] && !slot)
			slot = &loop->watches[i];
	}
	if (!slot)
		return -ENOSPC;
	if (wanted) { /* With nothing wanted it would still be told of hang-ups, in a loop. */
		r = qb_loop_poll_add(loop->qb, QB_LOOP_HIGH, watch->fd, poll_of(wanted), watch,
				     on_watch);
		if (r < 0) {
			(void)qb_loop_poll_del(loop->qb, watch->fd); /* qb keeps half of it. */
			return r;
		}
	}
	watch->wanted = wanted;
	watch->loop_private = loop;
	*slot = watch;
	return 0;
}

static void loop_watch_set(struct ferry_loop *port, struct ferry_watch *watch, uint32_t wanted)
{
	struct ferry_qb_loop *loop = loop_of(port);
	uint32_t before = watch->wanted;
	int r = 0;

	FERRY_ASSERT_ON_LOOP(port);
	ferry_assert(watch->loop_private == loop);
	if (before == wanted)
		return;
	watch->wanted = wanted;
	if (!wanted)
		watch_drop(loop, watch);
	else if (!before)
		r = qb_loop_poll_add(loop->qb, QB_LOOP_HIGH, watch->fd, poll_of(wanted), watch,
				     on_watch);
	else
		r = qb_loop_poll_mod(loop->qb, QB_LOOP_HIGH, watch->fd, poll_of(wanted), watch,
				     on_watch);
	ferry_assert(r == 0); /* The descriptor is open and was accepted by epoll before. */
}

static void loop_watch_stop(struct ferry_loop *port, struct ferry_watch *watch)
{
	struct ferry_qb_loop *loop = loop_of(port);

	FERRY_ASSERT_ON_LOOP(port);
	if (!watch->loop_private)
		return;
	ferry_assert(watch->loop_private == loop);
	if (watch->wanted)
		watch_drop(loop, watch);
	watch->wanted = 0;
	watch->loop_private = NULL;
	for (size_t i = 0; i < FERRY_QB_WATCHES_MAX; i++) {
		if (loop->watches[i] == watch)
			loop->watches[i] = NULL;
	}
}

static const struct ferry_loop_ops loop_ops = {
	.name = "qb",
	.now_ns = loop_now_ns,
	.timer_start = loop_timer_start,
	.timer_stop = loop_timer_stop,
	.task_post = loop_task_post,
	.task_cancel = loop_task_cancel,
	.watch_start = loop_watch_start,
	.watch_set = loop_watch_set,
	.watch_stop = loop_watch_stop,
	.is_current = loop_is_current,
};

static int32_t on_signal_fd(int32_t fd, int32_t revents, void *data)
{
	struct ferry_qb_loop *loop = data;
	struct signalfd_siginfo info;

	(void)revents;
	if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return 0;
	loop->now_ns = clock_ns();
	loop->signal_run(loop->signal_context, (int)info.ssi_signo);
	loop->now_ns = 0;
	return 0;
}

int ferry_qb_loop_signals(struct ferry_qb_loop *loop, const int *signals, size_t signals_count,
			  void (*run)(void *context, int number), void *context)
{
	sigset_t set;
	int fd, r;

	ferry_assert(run && loop->signal_fd < 0);
	FERRY_ASSERT_ON_LOOP(&loop->port);
	if (signals_count == 0 || signals_count > FERRY_QB_SIGNALS_MAX)
		return -EINVAL;
	sigemptyset(&set);
	for (size_t i = 0; i < signals_count; i++)
		sigaddset(&set, signals[i]);
	r = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r != 0)
		return -r;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	loop->signal_run = run;
	loop->signal_context = context;
	r = qb_loop_poll_add(loop->qb, QB_LOOP_HIGH, fd, POLLIN, loop, on_signal_fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	loop->signal_fd = fd;
	return 0;
}

struct ferry_loop *ferry_qb_loop_port(struct ferry_qb_loop *loop)
{
	ferry_assert(loop);
	return &loop->port;
}

void ferry_qb_loop_on_wake(struct ferry_qb_loop *loop, void (*run)(void *context), void *context)
{
	ferry_assert(loop);
	FERRY_ASSERT_ON_LOOP(&loop->port);
	loop->wake_run = run;
	loop->wake_context = context;
}

void ferry_qb_loop_wake(struct ferry_qb_loop *loop)
{
	event_raise(loop->event_fd);
}

void ferry_qb_loop_run(struct ferry_qb_loop *loop)
{
	ferry_assert(loop);
	ferry_assert(!loop->dispatching);
	loop->thread = pthread_self();
	qb_loop_run(loop->qb);
}

void ferry_qb_loop_stop(struct ferry_qb_loop *loop)
{
	FERRY_ASSERT_ON_LOOP(&loop->port);
	qb_loop_stop(loop->qb);
}

void ferry_qb_loop_close(struct ferry_qb_loop *loop)
{
	if (!loop)
		return;
	ferry_assert(!loop->dispatching);
	if (loop->qb)
		qb_loop_destroy(loop->qb);
	if (loop->event_fd >= 0)
		close(loop->event_fd);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	if (loop->signal_fd >= 0)
		close(loop->signal_fd);
	free(loop);
}

static void loop_closep(struct ferry_qb_loop **loop)
{
	ferry_qb_loop_close(*loop);
}

int ferry_qb_loop_open(struct ferry_qb_loop **ret, struct ferry_error *reterr)
{
	_cleanup_(loop_closep) struct ferry_qb_loop *loop = NULL;
	int r;

	ferry_assert(ret);
	loop = calloc(1, sizeof(*loop));
	if (!loop)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the cluster loop");
	loop->port.ops = &loop_ops;
	ferry_timers_init(&loop->timers, loop->timers_heap, FERRY_QB_TIMERS_MAX + 1);
	loop->thread = pthread_self();
	ferry_list_init(&loop->tasks);
	loop->signal_fd = -1;
	loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->event_fd < 0 || loop->timer_fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "cannot make the cluster loop: %s", strerror(-r));
	}
	loop->qb = qb_loop_create();
	if (!loop->qb)
		return ferry_error_set(reterr, -ENOMEM, "cannot make the cluster loop");
	r = qb_loop_poll_add(loop->qb, QB_LOOP_HIGH, loop->event_fd, POLLIN, loop, on_event_fd);
	if (r == 0)
		r = qb_loop_poll_add(loop->qb, QB_LOOP_HIGH, loop->timer_fd, POLLIN, loop,
				     on_timer_fd);
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot make the cluster loop: %s", strerror(-r));
	*ret = TAKE_PTR(loop);
	return 0;
}
