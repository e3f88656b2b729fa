/*
 * qb.h - libqb: the cluster thread's loop, and the log with its blackbox.
 *
 * The loop implements agent/ports/loop.h. Its timers and tasks are its own, on one timerfd and
 * one eventfd: qb_loop's jobs may wait 50 ms and its timers count milliseconds.
 *
 * The log may be written from any thread. libqb drops a line that one thread logs while another
 * is in the logger, so lines are serialised here; stderr and syslog are written by libqb's log
 * thread, so that a log device that hangs (it may lie on a Ferry volume) never holds up an I/O.
 * The blackbox is memory, written at once, and complete in a crash.
 *
 * Owns:    the qb_loop, its descriptors; the process's one log.
 * Callers: agent/main; tests.
 * Thread:  the loop: the one that runs it, but for _wake(). The log: any.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/events.h"
#include "agent/ports/loop.h"

enum { FERRY_QB_WATCHES_MAX = 256, FERRY_QB_TIMERS_MAX = 4096, FERRY_QB_SIGNALS_MAX = 8 };

struct ferry_qb_loop;

/* Start-up only. The opening thread is the loop's own until another runs it. */
int ferry_qb_loop_open(struct ferry_qb_loop **ret, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* NULL is a no-op. Watches that are still started are dropped; timers and tasks never run. */
void ferry_qb_loop_close(struct ferry_qb_loop *loop);

struct ferry_loop *ferry_qb_loop_port(struct ferry_qb_loop *loop);

/* Until ferry_qb_loop_stop(), which a callback calls. May be run again. */
void ferry_qb_loop_run(struct ferry_qb_loop *loop);
void ferry_qb_loop_stop(struct ferry_qb_loop *loop);

/*
 * Have @run called on the loop after ferry_qb_loop_wake(), which any thread and any signal
 * handler may call. Several wakes may come as one. How rings from other threads are drained.
 */
void ferry_qb_loop_on_wake(struct ferry_qb_loop *loop, void (*run)(void *context), void *context);
void ferry_qb_loop_wake(struct ferry_qb_loop *loop);

/*
 * Have @run called on the loop for each of @signals. They are blocked in the calling thread, by
 * signalfd's rule: call it before any other thread starts, so that all inherit the mask. Once
 * per loop. -EINVAL: more than FERRY_QB_SIGNALS_MAX.
 */
int ferry_qb_loop_signals(struct ferry_qb_loop *loop, const int *signals, size_t signals_count,
			  void (*run)(void *context, int number), void *context) FERRY_MUST_CHECK;

enum ferry_log_target { FERRY_LOG_STDERR = 1, FERRY_LOG_SYSLOG };

struct ferry_log_config {
	const char *name; /* The program's, for syslog and the blackbox. */
	enum ferry_log_target target;
	enum ferry_severity level; /* What is less severe goes to the blackbox only. */
	uint32_t blackbox_bytes;   /* 0: none. */
	const char *state_dir;	   /* Where the blackbox is dumped; NULL: nowhere. */
	struct ferry_node self;	   /* Stands for "this node" in events. */
};

/*
 * Start-up only; once per process. Starts libqb's log thread, so call it after daemonising and
 * with signals blocked as other threads want them. Also has SIGABRT, SIGSEGV and SIGBUS dump
 * the blackbox to state_dir/blackbox.fatal before they kill the process.
 */
int ferry_log_open(const struct ferry_log_config *config,
		   struct ferry_error *reterr) FERRY_MUST_CHECK;
/* Everything that was logged is written out. */
void ferry_log_close(void);

void ferry_log_set_level(enum ferry_severity level);
void ferry_log_set_self(struct ferry_node self);

/* One line; cut at 480 bytes. Before ferry_log_open(), and after _close(), to stderr. */
void ferry_log(enum ferry_severity severity, const char *format, ...) FERRY_PRINTF(2, 3);

/* One line of fixed columns: node, epoch or value, pool, kind, old→new, cause. */
void ferry_log_event(const struct ferry_event *event);

/*
 * Write the blackbox to state_dir/blackbox.@suffix, replacing an older one; read it with
 * qb-blackbox. -ENOENT: no blackbox or no state_dir; or open(2)'s errors.
 */
int ferry_log_dump(const char *suffix) FERRY_MUST_CHECK;
