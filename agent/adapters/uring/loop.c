#include "agent/adapters/uring/loop.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/uring/ring.h"
#include "agent/ports/timers.h"

enum {
	EVENTS_PER_TURN_MAX = 64,	     /* Ready descriptors; the rest stay ready. */
	COMPLETIONS_PER_TURN_MAX = 512,	     /* The rest stay in the ring. */
	TIMERS_PER_TURN_MAX = 512,	     /* The rest stay due. */
	TASK_ROUNDS_PER_TURN_MAX = 4,	     /* Of what tasks post; the rest waits. */
	SLEEP_MS_MAX = 60 * 1000,	     /* Only to keep the arithmetic small. */
	WAKE_SLOT = FERRY_URING_WATCHES_MAX, /* The eventfd's place in epoll's data. */
};
_Static_assert(FERRY_URING_WATCHES_MAX < INT32_MAX, "a slot's number has 32 bits in epoll's data");

/*
 * A watch's place. Events that epoll_wait(2) has already returned name the slot and its
 * generation: a watch that was stopped meanwhile, its slot maybe in new hands, isn't run.
 */
struct watch_slot {
	struct ferry_watch *watch;
	uint32_t generation;
	uint32_t next_free;
};

struct ferry_uring_loop {
	struct ferry_loop loop;
	uint64_t now_ns;
	struct io_uring ring;
	bool has_ring;
	bool is_enabled;
	int epoll_fd;
	int wake_fd;

	/* 0: nobody runs it. */
	_Atomic uintptr_t runner;
	atomic_bool is_stopping;
	atomic_bool is_wake_pending;

	struct ferry_uring_request poll; /* Of epoll_fd. */
	bool is_poll_armed;
	bool is_epoll_ready;
	uint32_t reserved_count;
	uint32_t inflight_count; /* Without poll. */
	uintptr_t registered;
	size_t registered_bytes;

	struct ferry_timers timers;

	struct ferry_list tasks;
	struct ferry_list wakers;

	struct watch_slot *slots;
	uint32_t slots_free;
	uint32_t watches_count;
};

static struct ferry_uring_loop *loop_from(struct ferry_loop *port)
{
	ferry_assert(port);
	return FERRY_CONTAINER_OF(port, struct ferry_uring_loop, loop);
}

static uint64_t clock_read_ns(void)
{
	struct timespec now;

	ferry_assert(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	ferry_assert(now.tv_sec >= 0);
	return (uint64_t)now.tv_sec * FERRY_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Distinct for each living thread, and cheaper than gettid(2). */
static uintptr_t thread_self(void)
{
	_Static_assert(sizeof(pthread_t) == sizeof(uintptr_t), "glibc's is a pointer");
	return (uintptr_t)pthread_self();
}

static bool loop_is_current(struct ferry_loop *port)
{
	uintptr_t runner = atomic_load_explicit(&loop_from(port)->runner, memory_order_relaxed);

	return runner == 0 || runner == thread_self();
}

static uint64_t loop_now_ns(struct ferry_loop *port)
{
	FERRY_ASSERT_ON_LOOP(port);
	return loop_from(port)->now_ns;
}

/* Timers. */

static void loop_timer_stop(struct ferry_loop *port, struct ferry_timer *timer)
{
	FERRY_ASSERT_ON_LOOP(port);
	ferry_timers_stop(&loop_from(port)->timers, timer);
}

static void loop_timer_start(struct ferry_loop *port, struct ferry_timer *timer,
			     uint64_t deadline_ns)
{
	struct ferry_uring_loop *loop = loop_from(port);

	FERRY_ASSERT_ON_LOOP(port);
	/*
	 * The past counts as now: else a timer that starts itself anew, always in the past, would
	 * be before every other due timer for ever.
	 */
	ferry_timers_start(&loop->timers, timer, ferry_max_u64(deadline_ns, loop->now_ns));
}

/* Timers that are started by these callbacks wait for the next turn, even if they are due. */
static void turn_timers(struct ferry_uring_loop *loop)
{
	uint64_t sequence_end = loop->timers.sequence_next;

	for (uint32_t i = 0; i < TIMERS_PER_TURN_MAX; i++) {
		struct ferry_timer *timer = ferry_timers_first(&loop->timers);

		if (!timer || timer->deadline_ns > loop->now_ns || timer->sequence >= sequence_end)
			break;
		ferry_timers_stop(&loop->timers, timer);
		timer->run(timer);
	}
}

/* Tasks. */

static void loop_task_post(struct ferry_loop *port, struct ferry_task *task)
{
	FERRY_ASSERT_ON_LOOP(port);
	ferry_assert(task->run);
	if (task->is_posted)
		return;
	task->is_posted = true;
	ferry_list_init(&task->link);
	ferry_list_append(&loop_from(port)->tasks, &task->link);
}

static void loop_task_cancel(struct ferry_loop *port, struct ferry_task *task)
{
	FERRY_ASSERT_ON_LOOP(port);
	if (!task->is_posted)
		return;
	ferry_assert(ferry_list_is_linked(&task->link));
	ferry_list_remove(&task->link);
	task->is_posted = false;
}

static void tasks_run(struct ferry_uring_loop *loop)
{
	struct ferry_list batch;
	struct ferry_list *link;

	ferry_list_init(&batch);
	ferry_list_move_all(&batch, &loop->tasks);
	while ((link = ferry_list_pop(&batch))) {
		struct ferry_task *task = ferry_list_entry(link, struct ferry_task, link);

		ferry_assert(task->is_posted);
		task->is_posted = false;
		task->run(task);
	}
}

/*
 * Tasks, and those that they post: an answer that one task leads to and another sends does not wait
 * for a system call between the two. One that posts itself for ever has only its rounds.
 */
static void turn_tasks(struct ferry_uring_loop *loop)
{
	for (uint32_t i = 0; i < TASK_ROUNDS_PER_TURN_MAX; i++) {
		if (ferry_list_is_empty(&loop->tasks))
			return;
		tasks_run(loop);
	}
}

/* Watches. */

static struct epoll_event watch_event(const struct ferry_uring_loop *loop,
				      const struct watch_slot *slot, uint32_t wanted)
{
	uint32_t number = (uint32_t)(slot - loop->slots);
	struct epoll_event event = {.data.u64 = (uint64_t)slot->generation << 32 | number};

	ferry_assert(number < FERRY_URING_WATCHES_MAX);
	ferry_assert((wanted & ~(uint32_t)(FERRY_WATCH_READ | FERRY_WATCH_WRITE)) == 0);
	if (wanted & FERRY_WATCH_READ)
		event.events |= EPOLLIN | EPOLLRDHUP;
	if (wanted & FERRY_WATCH_WRITE)
		event.events |= EPOLLOUT;
	/*
	 * epoll reports errors and hang-ups even if nothing is asked for: level-triggered, a dead
	 * socket whose owner wants nothing at the moment would keep the loop spinning.
	 */
	if (wanted == 0)
		event.events = EPOLLET;
	return event;
}

static int loop_watch_start(struct ferry_loop *port, struct ferry_watch *watch, uint32_t wanted)
{
	struct ferry_uring_loop *loop = loop_from(port);
	struct watch_slot *slot;
	struct epoll_event event;

	FERRY_ASSERT_ON_LOOP(port);
	ferry_assert(watch->run);
	if (watch->loop_private)
		return -EEXIST;
	if (loop->slots_free == FERRY_URING_WATCHES_MAX)
		return -ENOSPC;
	slot = &loop->slots[loop->slots_free];
	ferry_assert(!slot->watch);
	event = watch_event(loop, slot, wanted);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0)
		return -errno;
	loop->slots_free = slot->next_free;
	loop->watches_count++;
	slot->watch = watch;
	watch->wanted = wanted;
	watch->loop_private = slot;
	return 0;
}

static void loop_watch_set(struct ferry_loop *port, struct ferry_watch *watch, uint32_t wanted)
{
	struct ferry_uring_loop *loop = loop_from(port);
	struct watch_slot *slot = watch->loop_private;
	struct epoll_event event;

	FERRY_ASSERT_ON_LOOP(port);
	ferry_assert(slot && slot->watch == watch);
	if (wanted == watch->wanted)
		return;
	event = watch_event(loop, slot, wanted);
	/* Fails only if the descriptor was closed first: a bug of ours. */
	ferry_assert(epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) == 0);
	watch->wanted = wanted;
}

static void loop_watch_stop(struct ferry_loop *port, struct ferry_watch *watch)
{
	struct ferry_uring_loop *loop = loop_from(port);
	struct watch_slot *slot = watch->loop_private;

	FERRY_ASSERT_ON_LOOP(port);
	if (!slot)
		return;
	ferry_assert(slot->watch == watch);
	/* As above: the descriptor must still be open. */
	ferry_assert(epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL) == 0);
	slot->watch = NULL;
	slot->generation++;
	slot->next_free = loop->slots_free;
	loop->slots_free = (uint32_t)(slot - loop->slots);
	loop->watches_count--;
	watch->loop_private = NULL;
}

static void wake_run(struct ferry_uring_loop *loop)
{
	struct ferry_list batch;
	struct ferry_list *link;
	uint64_t count;

	/* Only resets the counter; EAGAIN would mean that it is reset already. */
	(void)!read(loop->wake_fd, &count, sizeof(count));
	/*
	 * Cleared before the wakers look, and an exchange like the sender's: whatever was pushed
	 * before a wake() that found it still set is seen by the wakers now.
	 */
	(void)atomic_exchange(&loop->is_wake_pending, false);
	ferry_list_init(&batch);
	ferry_list_move_all(&batch, &loop->wakers);
	while ((link = ferry_list_pop(&batch))) {
		struct ferry_uring_waker *waker =
			ferry_list_entry(link, struct ferry_uring_waker, link);

		ferry_list_append(&loop->wakers, link);
		waker->run(waker);
	}
}

static void watch_run(struct ferry_uring_loop *loop, const struct epoll_event *event)
{
	uint32_t number = (uint32_t)event->data.u64;
	uint32_t generation = (uint32_t)(event->data.u64 >> 32);
	struct ferry_watch *watch;
	uint32_t ready = 0;

	ferry_assert(number < FERRY_URING_WATCHES_MAX);
	watch = loop->slots[number].watch;
	if (!watch || loop->slots[number].generation != generation)
		return; /* Stopped by an earlier callback of this turn. */
	if (event->events & (EPOLLIN | EPOLLRDHUP))
		ready |= FERRY_WATCH_READ;
	if (event->events & EPOLLOUT)
		ready |= FERRY_WATCH_WRITE;
	if (event->events & (EPOLLERR | EPOLLHUP))
		ready |= FERRY_WATCH_READ | FERRY_WATCH_WRITE;
	ready &= watch->wanted; /* An earlier callback may have changed it. */
	if (ready)
		watch->run(watch, ready);
}

static void turn_watches(struct ferry_uring_loop *loop)
{
	struct epoll_event events[EVENTS_PER_TURN_MAX];
	int count;

	if (!loop->is_epoll_ready)
		return;
	loop->is_epoll_ready = false;
	count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN_MAX, /* timeout= */ 0);
	ferry_assert(count >= 0 || errno == EINTR);
	for (int i = 0; i < count; i++)
		if (events[i].data.u64 == WAKE_SLOT)
			wake_run(loop);
		else
			watch_run(loop, &events[i]);
}

/* The ring. */

int ferry_uring_reserve(struct ferry_uring_loop *loop, uint32_t count)
{
	FERRY_ASSERT_ON_LOOP(&loop->loop);
	ferry_assert(loop->reserved_count <= FERRY_URING_REQUESTS_MAX);
	if (count > FERRY_URING_REQUESTS_MAX - loop->reserved_count)
		return -ENOSPC;
	loop->reserved_count += count;
	return 0;
}

void ferry_uring_unreserve(struct ferry_uring_loop *loop, uint32_t count)
{
	FERRY_ASSERT_ON_LOOP(&loop->loop);
	ferry_assert(count <= loop->reserved_count);
	loop->reserved_count -= count;
	ferry_assert(loop->inflight_count <= loop->reserved_count);
}

void ferry_uring_abandon(struct ferry_uring_loop *loop, uint32_t count)
{
	FERRY_ASSERT_ON_LOOP(&loop->loop);
	ferry_assert(count <= loop->inflight_count);
	loop->inflight_count -= count;
}

struct io_uring_sqe *ferry_uring_sqe(struct ferry_uring_loop *loop)
{
	struct io_uring_sqe *sqe;

	FERRY_ASSERT_ON_LOOP(&loop->loop);
	ferry_assert(loop->inflight_count < loop->reserved_count);
	sqe = io_uring_get_sqe(&loop->ring);
	ferry_assert(sqe); /* The ring has more entries than there are reservations. */
	return sqe;
}

void ferry_uring_queue(struct ferry_uring_loop *loop, struct io_uring_sqe *sqe,
		       struct ferry_uring_request *request)
{
	ferry_assert(sqe);
	ferry_assert(request->run);
	io_uring_sqe_set_data(sqe, request);
	loop->inflight_count++;
}

bool ferry_uring_is_registered(const struct ferry_uring_loop *loop, const void *memory,
			       size_t length_bytes)
{
	uintptr_t start = (uintptr_t)memory;

	ferry_assert(memory);
	ferry_assert(length_bytes > 0);
	if (start < loop->registered || length_bytes > loop->registered_bytes)
		return false;
	return start - loop->registered <= loop->registered_bytes - length_bytes;
}

static void poll_run(struct ferry_uring_request *request, int result)
{
	struct ferry_uring_loop *loop = FERRY_CONTAINER_OF(request, struct ferry_uring_loop, poll);

	(void)result; /* Whatever it says, epoll_wait(2) tells what is ready. */
	loop->is_poll_armed = false;
	loop->is_epoll_ready = true;
}

static void poll_arm(struct ferry_uring_loop *loop)
{
	struct io_uring_sqe *sqe;

	if (loop->is_poll_armed)
		return;
	sqe = io_uring_get_sqe(&loop->ring);
	ferry_assert(sqe); /* One entry more than reservations is kept for this. */
	io_uring_prep_poll_add(sqe, loop->epoll_fd, POLLIN);
	io_uring_sqe_set_data(sqe, &loop->poll);
	loop->is_poll_armed = true;
}

static void turn_completions(struct ferry_uring_loop *loop)
{
	struct io_uring_cqe *cqe;

	for (uint32_t i = 0; i < COMPLETIONS_PER_TURN_MAX; i++) {
		struct ferry_uring_request *request;
		int result;

		if (io_uring_cq_ready(&loop->ring) == 0)
			return;
		if (io_uring_peek_cqe(&loop->ring, &cqe) < 0)
			return;
		request = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		io_uring_cqe_seen(&loop->ring, cqe);
		ferry_assert(request && request->run);
		if (request != &loop->poll) {
			ferry_assert(loop->inflight_count > 0);
			loop->inflight_count--;
		}
		request->run(request, result);
	}
}

/* How long nothing is to be done, as far as is known now. */
static uint64_t sleep_ns(const struct ferry_uring_loop *loop)
{
	uint64_t now_ns = clock_read_ns();
	uint64_t limit_ns = SLEEP_MS_MAX * FERRY_NS_PER_MS;
	const struct ferry_timer *timer;

	if (!ferry_list_is_empty(&loop->tasks) || io_uring_cq_ready(&loop->ring) > 0)
		return 0;
	if (atomic_load_explicit(&loop->is_stopping, memory_order_relaxed))
		return 0;
	timer = ferry_timers_first(&loop->timers);
	if (!timer)
		return limit_ns;
	if (timer->deadline_ns <= now_ns)
		return 0;
	return ferry_min_u64(timer->deadline_ns - now_ns, limit_ns);
}

/* Whether a system call would change anything: something to send off, or done and not told yet. */
static bool kernel_is_wanted(const struct ferry_uring_loop *loop)
{
	uint32_t flags = io_uring_smp_load_acquire(loop->ring.sq.kflags);

	return io_uring_sq_ready(&loop->ring) > 0 ||
	       (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* Send off what was queued, sleep until something is to be done. */
static int turn_sleep(struct ferry_uring_loop *loop)
{
	uint64_t delay_ns;
	int r = 0;

	poll_arm(loop);
	delay_ns = sleep_ns(loop);
	if (delay_ns == 0) {
		if (kernel_is_wanted(loop))
			r = io_uring_submit_and_get_events(&loop->ring);
	} else {
		struct __kernel_timespec delay = {
			.tv_sec = (long long)(delay_ns / FERRY_NS_PER_S),
			.tv_nsec = (long long)(delay_ns % FERRY_NS_PER_S),
		};
		struct io_uring_cqe *cqe;

		r = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, /* wait_nr= */ 1, &delay,
						     /* sigmask= */ NULL);
	}
	loop->now_ns = ferry_max_u64(clock_read_ns(), loop->now_ns);
	/*
	 * EAGAIN and EBUSY: the kernel has no memory for requests at the moment; what it did not
	 * take stays in the submission ring and goes with the next turn.
	 */
	if (r >= 0 || r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY)
		return 0;
	return r;
}

static int loop_enable(struct ferry_uring_loop *loop)
{
	int r;

	if (loop->is_enabled)
		return 0;
	/*
	 * From here on the kernel takes submissions from this thread only. By the raw call: 2.3's
	 * shared library does not export the io_uring_enable_rings() that its header declares.
	 */
	r = io_uring_register((unsigned int)loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
			      /* arg= */ NULL, /* nr_args= */ 0);
	if (r < 0)
		return r;
	loop->is_enabled = true;
	return 0;
}

int ferry_uring_loop_run(struct ferry_uring_loop *loop)
{
	uintptr_t nobody = 0;
	int r;

	ferry_assert(loop);
	ferry_assert(atomic_compare_exchange_strong(&loop->runner, &nobody, thread_self()));
	r = loop_enable(loop);
	while (r == 0) {
		r = turn_sleep(loop);
		if (r < 0)
			break;
		turn_completions(loop);
		turn_watches(loop);
		turn_timers(loop);
		turn_tasks(loop);
		if (atomic_exchange(&loop->is_stopping, false))
			break;
	}
	ferry_assert(atomic_load(&loop->runner) == thread_self());
	atomic_store(&loop->runner, 0);
	return r;
}

void ferry_uring_loop_stop(struct ferry_uring_loop *loop)
{
	ferry_assert(loop);
	atomic_store(&loop->is_stopping, true);
	if (atomic_load_explicit(&loop->runner, memory_order_relaxed) != thread_self())
		ferry_uring_loop_wake(loop);
}

void ferry_uring_loop_wake(struct ferry_uring_loop *loop)
{
	static const uint64_t one = 1;

	ferry_assert(loop);
	if (atomic_exchange(&loop->is_wake_pending, true))
		return; /* It is on its way. */
	/* Cannot fail: the counter is at most 1. */
	ferry_assert(write(loop->wake_fd, &one, sizeof(one)) == sizeof(one));
}

void ferry_uring_loop_waker_add(struct ferry_uring_loop *loop, struct ferry_uring_waker *waker)
{
	FERRY_ASSERT_ON_LOOP(&loop->loop);
	ferry_assert(waker->run);
	ferry_list_init(&waker->link);
	ferry_list_append(&loop->wakers, &waker->link);
}

void ferry_uring_loop_waker_remove(struct ferry_uring_loop *loop, struct ferry_uring_waker *waker)
{
	FERRY_ASSERT_ON_LOOP(&loop->loop);
	ferry_assert(ferry_list_is_linked(&waker->link));
	ferry_list_remove(&waker->link);
}

/* Opening and closing. */

static const struct ferry_loop_ops loop_ops = {
	.name = "uring",
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

static int open_ring(struct ferry_uring_loop *loop, struct ferry_error *reterr)
{
	/*
	 * R_DISABLED until run(): the thread that runs the loop need not be the one that opens it.
	 * DEFER_TASKRUN: completions are worked on when this thread asks, never by interrupting it;
	 * TASKRUN_FLAG: it is told that there are some, and need not ask (kernel_is_wanted()).
	 */
	struct io_uring_params params = {
		.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP,
	};
	int r = io_uring_queue_init_params(2 * FERRY_URING_REQUESTS_MAX, &loop->ring, &params);

	if (r < 0)
		return ferry_error_set(reterr, r,
				       "io_uring cannot be set up: %s; Ferry needs Linux 6.1 or "
				       "later, and io_uring allowed (kernel.io_uring_disabled)",
				       strerror(-r));
	loop->has_ring = true;
	ferry_assert(params.sq_entries > FERRY_URING_REQUESTS_MAX);
	ferry_assert(params.cq_entries > FERRY_URING_REQUESTS_MAX);
	return 0;
}

static int open_descriptors(struct ferry_uring_loop *loop, struct ferry_error *reterr)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_SLOT};
	int r;

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "epoll_create1: %s", strerror(-r));
	}
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "eventfd: %s", strerror(-r));
	}
	return 0;
}

int ferry_uring_loop_open(struct ferry_uring_loop **ret, struct ferry_error *reterr)
{
	_cleanup_(ferry_uring_loop_closep) struct ferry_uring_loop *loop = calloc(1, sizeof(*loop));
	struct ferry_timer **heap;
	int r;

	ferry_assert(ret);
	if (!loop)
		return ferry_error_set(reterr, -ENOMEM, "no memory for a loop");
	loop->loop.ops = &loop_ops;
	loop->epoll_fd = -1;
	loop->wake_fd = -1;
	loop->poll.run = poll_run;
	ferry_list_init(&loop->tasks);
	ferry_list_init(&loop->wakers);
	loop->now_ns = clock_read_ns();
	heap = calloc(FERRY_URING_TIMERS_MAX + 1, sizeof(heap[0]));
	loop->slots = calloc(FERRY_URING_WATCHES_MAX, sizeof(loop->slots[0]));
	if (!heap || !loop->slots) {
		free(heap);
		return ferry_error_set(reterr, -ENOMEM, "no memory for a loop");
	}
	ferry_timers_init(&loop->timers, heap, FERRY_URING_TIMERS_MAX + 1);
	for (uint32_t i = 0; i < FERRY_URING_WATCHES_MAX; i++)
		loop->slots[i].next_free = i + 1;

	r = open_ring(loop, reterr);
	if (r < 0)
		return r;
	r = open_descriptors(loop, reterr);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(loop);
	return 0;
}

struct ferry_loop *ferry_uring_loop_of(struct ferry_uring_loop *loop)
{
	ferry_assert(loop);
	ferry_assert(loop->loop.ops);
	return &loop->loop;
}

int ferry_uring_loop_register(struct ferry_uring_loop *loop, void *memory, size_t size_bytes,
			      struct ferry_error *reterr)
{
	struct iovec buffer = {.iov_base = memory, .iov_len = size_bytes};
	int r;

	FERRY_ASSERT_ON_LOOP(&loop->loop);
	ferry_assert(memory && size_bytes > 0);
	if (loop->registered_bytes > 0)
		return ferry_error_set(reterr, -EBUSY, "this loop has its memory already");
	r = io_uring_register_buffers(&loop->ring, &buffer, 1);
	if (r < 0)
		return ferry_error_set(reterr, r,
				       "%zu bytes cannot be registered with io_uring: %s; raise "
				       "LimitMEMLOCK (at most 1 GiB can be registered)",
				       size_bytes, strerror(-r));
	loop->registered = (uintptr_t)memory;
	loop->registered_bytes = size_bytes;
	return 0;
}

struct ferry_uring_loop *ferry_uring_loop_close(struct ferry_uring_loop *loop)
{
	if (!loop)
		return NULL;
	ferry_assert(atomic_load(&loop->runner) == 0);
	ferry_assert(loop->inflight_count == 0 && loop->reserved_count == 0);
	ferry_assert(loop->timers.count == 0 && loop->watches_count == 0);
	ferry_assert(ferry_list_is_empty(&loop->tasks));
	if (loop->has_ring)
		io_uring_queue_exit(&loop->ring); /* Ends the poll request too. */
	if (loop->wake_fd >= 0)
		(void)close(loop->wake_fd); /* An eventfd has nothing left to fail. */
	if (loop->epoll_fd >= 0)
		(void)close(loop->epoll_fd);
	free(loop->slots);
	free(loop->timers.heap);
	free(loop);
	return NULL;
}
