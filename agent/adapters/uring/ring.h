/*
 * ring.h - how the rooms of this folder submit to the loop's ring.
 *
 * Owns:    nothing; a request is its user's.
 * Callers: device.c, command.c.
 * Thread:  the loop's.
 * Rooms:   loop.c.
 */
#pragma once

#include <liburing.h>

#include "agent/adapters/uring/loop.h"

/*
 * The ring's size: how many requests of all users may be outstanding. Each has a submission entry
 * and a completion entry to itself, so neither ring can ever be full.
 */
enum { FERRY_URING_REQUESTS_MAX = 2048 };

/* One request in the ring; at most one submission of it at a time. */
struct ferry_uring_request {
	/* @result is the completion's: >= 0, or a negative errno. Never from inside a queueing. */
	void (*run)(struct ferry_uring_request *request, int result);
};

/* Set @count requests aside for one user. -ENOSPC: FERRY_URING_REQUESTS_MAX. */
int ferry_uring_reserve(struct ferry_uring_loop *loop, uint32_t count) FERRY_MUST_CHECK;
void ferry_uring_unreserve(struct ferry_uring_loop *loop, uint32_t count);

/*
 * @count requests stay in the kernel's hands until the ring ends, which ends them: the loop has run
 * for the last time, and their run() is not called any more.
 */
void ferry_uring_abandon(struct ferry_uring_loop *loop, uint32_t count);

/* An empty submission entry: prepare it, then queue it. Never NULL within the reservation. */
struct io_uring_sqe *ferry_uring_sqe(struct ferry_uring_loop *loop);

/* It leaves for the kernel at the end of this turn, with the others. */
void ferry_uring_queue(struct ferry_uring_loop *loop, struct io_uring_sqe *sqe,
		       struct ferry_uring_request *request);

/* Whether [@memory, @memory + @length_bytes) lies in the registered buffer (index 0). */
bool ferry_uring_is_registered(const struct ferry_uring_loop *loop, const void *memory,
			       size_t length_bytes);
