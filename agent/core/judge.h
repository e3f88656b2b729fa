/*
 * judge.h - what is to be done after one attempt has ended: the design's rules 1-6 as a function.
 *
 * Owns:    nothing; pure.
 * Callers: router_try.c.
 * Thread:  any.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/ports/io.h"

enum ferry_next {
	FERRY_NEXT_COMPLETE = 1, /* Tell the application that it is done. */
	FERRY_NEXT_FAIL,	 /* Tell the application an error; retrying would not help. */
	FERRY_NEXT_RETRY,	 /* Try again, on another path if there is one. */
	FERRY_NEXT_LAY,		 /* A ghost: try again only after it is proven dead. */
};

/*
 * @ret_error is what the application is told on FERRY_NEXT_FAIL, else 0.
 */
enum ferry_next ferry_judge(enum ferry_op op, enum ferry_outcome outcome, enum ferry_cause cause,
			    int *ret_error);
