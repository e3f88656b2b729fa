/*
 * error.h - what the control plane tells a person about a failure.
 *
 * Owns:    nothing; the caller holds the struct.
 * Callers: everything that opens, parses or configures.
 * Thread:  any.
 * Rooms:   rank 0.
 */
#pragma once

#include "agent/base/base.h"

enum { FERRY_ERROR_MESSAGE_MAX = 320 };

struct ferry_error {
	int code; /* Negative errno; 0 while nothing has failed. */
	char message[FERRY_ERROR_MESSAGE_MAX];
};

/*
 * Fill @reterr (may be NULL) and return @code, so that callers write
 * `return ferry_error_set(reterr, -EINVAL, "…")`. Says what was wrong and what to do about it.
 */
int ferry_error_set(struct ferry_error *reterr, int code, const char *format, ...)
	FERRY_PRINTF(3, 4);
