/*
 * thread.h - starting a thread beside the one that handles the agent's signals.
 *
 * Owns:    nothing; the thread is the caller's to join.
 * Callers: agent/main.c, agent/adapters/{grpc,nbddev,sgio}.
 * Thread:  any.
 * Rooms:   rank 4.
 */
#pragma once

#include <pthread.h>

#include "agent/base/base.h"

/*
 * Start @run(@context) on a thread of its own, with every signal blocked but those by which a
 * thread itself crashes: these are for the handler that saves the log. @stack_bytes 0: as the
 * system has it. -EINVAL: too small a stack, or no multiple of a page where that is wanted; else as
 * pthread_create(), negative. @ret is untouched then.
 */
int ferry_thread_start(pthread_t *ret, size_t stack_bytes, void *(*run)(void *context),
		       void *context) FERRY_MUST_CHECK;
