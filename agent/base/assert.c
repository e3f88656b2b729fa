/* assert.c - what happens when one of our own assertions does not hold. */
#include <stdio.h>
#include <stdlib.h>

#include "agent/base/base.h"

_Noreturn void ferry_assert_failed(const char *condition, const char *file, int line,
				   const char *function)
{
	fprintf(stderr, "ferry: %s:%d: %s: assertion failed: %s\n", file, line, function,
		condition);
	abort();
}
