/*
 * loop.h - the loop port: time, timers, tasks and file descriptors of one thread.
 *
 * Owns:    nothing; it is only an interface.
 * Callers: ranks 2-4, each object on its one owning loop. Ranks 2-3 never watch descriptors.
 * Thread:  every call and callback runs on the loop's own thread.
 * Rooms:   adapters/uring (data thread), adapters/qb (cluster thread), tests/sim.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/list.h"

struct ferry_loop {
	const struct ferry_loop_ops *ops;
};

/* Zero-initialise, set run, start. The caller owns it and stops it before freeing it. */
struct ferry_timer {
	void (*run)(struct ferry_timer *timer);
	uint64_t deadline_ns;
	uint64_t sequence;  /* The loop's: ties break by order of start. */
	uint32_t heap_slot; /* The loop's: 1-based; 0 while stopped. */
};

/* Something to do soon, on this loop, with a fresh stack. */
struct ferry_task {
	void (*run)(struct ferry_task *task);
	struct ferry_list link; /* The loop's. */
	bool is_posted;
};

enum { FERRY_WATCH_READ = 1u << 0, FERRY_WATCH_WRITE = 1u << 1 };

struct ferry_watch {
	void (*run)(struct ferry_watch *watch, uint32_t ready); /* An error counts as ready. */
	int fd;
	uint32_t wanted;
	void *loop_private;
};

struct ferry_loop_ops {
	const char *name;

	/* Monotonic nanoseconds; constant within one callback. */
	uint64_t (*now_ns)(struct ferry_loop *loop);

	/* (Re)start: run() once at or after @deadline_ns, never from inside. Cannot fail. */
	void (*timer_start)(struct ferry_loop *loop, struct ferry_timer *timer,
			    uint64_t deadline_ns);
	void (*timer_stop)(struct ferry_loop *loop, struct ferry_timer *timer);

	/* Run once, soon. Posting a posted task is a no-op. */
	void (*task_post)(struct ferry_loop *loop, struct ferry_task *task);
	void (*task_cancel)(struct ferry_loop *loop, struct ferry_task *task);

	/*
	 * Level-triggered readiness of watch->fd. Optional: NULL in the simulator.
	 * -EEXIST: fd is watched already; -ENOSPC: FERRY_WATCHES_MAX; or epoll_ctl(2)'s errors.
	 */
	int (*watch_start)(struct ferry_loop *loop, struct ferry_watch *watch, uint32_t wanted);
	void (*watch_set)(struct ferry_loop *loop, struct ferry_watch *watch, uint32_t wanted);
	/* After this, run() is not called again and the descriptor may be closed. */
	void (*watch_stop)(struct ferry_loop *loop, struct ferry_watch *watch);

	/* Whether the calling thread is the loop's own. */
	bool (*is_current)(struct ferry_loop *loop);
};

#define FERRY_ASSERT_ON_LOOP(loop) ferry_assert((loop)->ops->is_current(loop))

static inline uint64_t ferry_loop_now_ns(struct ferry_loop *loop)
{
	return loop->ops->now_ns(loop);
}

static inline void ferry_timer_start(struct ferry_loop *loop, struct ferry_timer *timer,
				     uint64_t deadline_ns)
{
	ferry_assert(timer->run);
	loop->ops->timer_start(loop, timer, deadline_ns);
}

static inline void ferry_timer_start_in(struct ferry_loop *loop, struct ferry_timer *timer,
					uint64_t delay_ns)
{
	ferry_timer_start(loop, timer, ferry_loop_now_ns(loop) + delay_ns);
}

static inline void ferry_timer_stop(struct ferry_loop *loop, struct ferry_timer *timer)
{
	loop->ops->timer_stop(loop, timer);
}

static inline bool ferry_timer_is_started(const struct ferry_timer *timer)
{
	return timer->heap_slot != 0;
}

static inline void ferry_task_post(struct ferry_loop *loop, struct ferry_task *task)
{
	ferry_assert(task->run);
	loop->ops->task_post(loop, task);
}

static inline void ferry_task_cancel(struct ferry_loop *loop, struct ferry_task *task)
{
	loop->ops->task_cancel(loop, task);
}
