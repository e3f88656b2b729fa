#include "agent/base/error.h"

#include <stdarg.h>
#include <stdio.h>

int ferry_error_set(struct ferry_error *reterr, int code, const char *format, ...)
{
	va_list arguments;

	ferry_assert(code < 0);
	if (!reterr)
		return code;
	reterr->code = code;
	va_start(arguments, format);
	(void)vsnprintf(reterr->message, sizeof(reterr->message), format, arguments);
	va_end(arguments);
	return code;
}
