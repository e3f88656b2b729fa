#include "agent/ports/events.h"

#include <stdarg.h>
#include <stdio.h>

void ferry_event_emit(struct ferry_events *events, struct ferry_event event, const char *format,
		      ...)
{
	va_list arguments;

	ferry_assert(event.kind != 0);
	ferry_assert(event.severity != 0);
	if (!events)
		return;
	va_start(arguments, format);
	(void)vsnprintf(event.text, sizeof(event.text), format, arguments);
	va_end(arguments);
	events->emit(events, &event);
}
