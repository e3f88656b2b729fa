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

const char *ferry_event_kind_name(enum ferry_event_kind kind)
{
	static const char *const names[] = {
		[FERRY_EVENT_PATH_STATE] = "path-state",
		[FERRY_EVENT_GHOST_MADE] = "ghost-made",
		[FERRY_EVENT_GHOST_LAID] = "ghost-laid",
		[FERRY_EVENT_LAY_FAILED] = "lay-failed",
		[FERRY_EVENT_HOLD] = "hold",
		[FERRY_EVENT_RESUME] = "resume",
		[FERRY_EVENT_IO_FAILED] = "io-failed",
		[FERRY_EVENT_FLUSH_SUSPECT] = "flush-suspect",
		[FERRY_EVENT_VERDICT] = "verdict",
		[FERRY_EVENT_EPOCH] = "epoch",
		[FERRY_EVENT_FENCED] = "fenced",
		[FERRY_EVENT_REFUSED] = "refused",
		[FERRY_EVENT_PEER] = "peer",
		[FERRY_EVENT_HANDOVER] = "handover",
		[FERRY_EVENT_CACHE] = "cache",
		[FERRY_EVENT_ADMIN] = "admin",
	};

	if ((size_t)kind >= FERRY_ARRAY_COUNT(names) || !names[kind])
		return "other";
	return names[kind];
}

const char *ferry_severity_name(enum ferry_severity severity)
{
	static const char *const names[] = {
		[FERRY_SEVERITY_DEBUG] = "debug",   [FERRY_SEVERITY_INFO] = "info",
		[FERRY_SEVERITY_NOTICE] = "notice", [FERRY_SEVERITY_WARNING] = "warning",
		[FERRY_SEVERITY_ERROR] = "error",
	};

	if ((size_t)severity >= FERRY_ARRAY_COUNT(names) || !names[severity])
		return "other";
	return names[severity];
}
