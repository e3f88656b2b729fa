/*
 * loop.h - the data thread's loop: io_uring for I/O, epoll for readiness, a heap of timers.
 *
 * Everything sleeps in one io_uring_enter(2): block I/O completes there, and the descriptors that
 * are watched sit in one epoll set which is itself polled through the ring. One poll request is
 * armed again before each sleep, so readiness is level-triggered as epoll's is.
 *
 * One turn: completions, ready descriptors, due timers, posted tasks, then submission and sleep.
 * Each of these takes only what was there when it began, tasks also a few rounds of what they post,
 * so that none starves another.
 *
 * Owns:    the ring, the epoll set, the eventfd; timers, tasks and watches are their users'.
 * Callers: agent/main opens and runs it; everything else sees struct ferry_loop only, except
 *          device.c and command.c in this folder, which submit to the ring (ring.h).
 * Thread:  while ferry_uring_loop_run() runs, that thread; while nobody runs it, whoever calls,
 *          and the callers see to it that they are one at a time. ferry_uring_loop_wake() and
 *          ferry_uring_loop_stop(): any thread, at any time between open and close.
 * Rooms:   ring.h is the part that is private to this folder.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/loop.h"

enum {
	FERRY_URING_TIMERS_MAX = 16384, /* Started at once; more is a bug of ours. */
	FERRY_URING_WATCHES_MAX = 4096,
};

struct ferry_uring_loop;

/*
 * Something to look at when another thread called ferry_uring_loop_wake(): the receiving end of
 * a struct ferry_spsc. Calls of wake() may be merged into one run().
 */
struct ferry_uring_waker {
	void (*run)(struct ferry_uring_waker *waker);
	struct ferry_list link; /* The loop's. */
};

/*
 * Make a loop. Start-up only: allocates.
 * -ENOSYS, -EPERM: the kernel is older than 6.1 or io_uring is forbidden; -ENOMEM; -EMFILE.
 */
int ferry_uring_loop_open(struct ferry_uring_loop **ret,
			  struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The port. Valid as long as the loop. */
struct ferry_loop *ferry_uring_loop_of(struct ferry_uring_loop *loop);

/*
 * Have the kernel pin @memory (the arena's, page-aligned) once, so that I/O within it needs no
 * pinning of its own. Once per loop, before I/O. -EBUSY: registered already; -ENOMEM: over
 * RLIMIT_MEMLOCK. After a failure I/O works all the same, only slower.
 */
int ferry_uring_loop_register(struct ferry_uring_loop *loop, void *memory, size_t size_bytes,
			      struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Run until ferry_uring_loop_stop(). May be called again later, always by the same thread.
 * 0, or the error of io_uring_enter(2) that leaves no way to go on.
 */
int ferry_uring_loop_run(struct ferry_uring_loop *loop) FERRY_MUST_CHECK;

/* Have run() return after this turn. Before run(): the next run() returns after one turn. */
void ferry_uring_loop_stop(struct ferry_uring_loop *loop);

/* Have every waker run once, soon, on the loop. Any thread; also from a signal handler. */
void ferry_uring_loop_wake(struct ferry_uring_loop *loop);

/* On the loop. A waker may remove itself from within its run(). */
void ferry_uring_loop_waker_add(struct ferry_uring_loop *loop, struct ferry_uring_waker *waker);
void ferry_uring_loop_waker_remove(struct ferry_uring_loop *loop, struct ferry_uring_waker *waker);

/*
 * Release @loop. NULL is a no-op. No I/O in flight, no watch, timer or task may be left.
 * Returns NULL.
 */
struct ferry_uring_loop *ferry_uring_loop_close(struct ferry_uring_loop *loop);
static inline void ferry_uring_loop_closep(struct ferry_uring_loop **loop)
{
	*loop = ferry_uring_loop_close(*loop);
}
