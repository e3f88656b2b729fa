/*
 * events.h - the event port: what the core tells people and the other threads.
 *
 * Ranks 0-3 log nothing themselves: they emit typed events, one per state transition, each with
 * its cause. The wiring logs them, keeps the last ones for `ferry events`, and acts on some.
 *
 * Owns:    nothing; shapes only.
 * Callers: ranks 2-3 emit; agent/main and tests/sim receive.
 * Thread:  the emitter's; the sink copies.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"

enum ferry_event_kind {
	FERRY_EVENT_PATH_STATE = 1, /* A path of this node changed state. */
	FERRY_EVENT_GHOST_MADE,	    /* value = how many are now alive. */
	FERRY_EVENT_GHOST_LAID,	    /* value = how many were laid; text = by what. */
	FERRY_EVENT_LAY_FAILED,
	FERRY_EVENT_HOLD, /* Nothing can carry I/O; held until value_ns passes. */
	FERRY_EVENT_RESUME,
	FERRY_EVENT_IO_FAILED,	   /* An application was told of an error. */
	FERRY_EVENT_FLUSH_SUSPECT, /* Acknowledged but unflushed writes may be lost. */
	FERRY_EVENT_VERDICT,	   /* The tracker's judgement of this node's path changed. */
	FERRY_EVENT_EPOCH,	   /* The pool's epoch or owner changed; value = the counter. */
	FERRY_EVENT_FENCED,	   /* This node was fenced from the pool. */
	FERRY_EVENT_REFUSED,	   /* A peer's request was refused; cause says why. */
	FERRY_EVENT_PEER,	   /* A peer's link came up or went down. */
	FERRY_EVENT_HANDOVER,
	FERRY_EVENT_CACHE,
	FERRY_EVENT_ADMIN, /* Something an administrator did, or should. */
};

enum ferry_severity {
	FERRY_SEVERITY_DEBUG = 1,
	FERRY_SEVERITY_INFO,
	FERRY_SEVERITY_NOTICE,
	FERRY_SEVERITY_WARNING,
	FERRY_SEVERITY_ERROR,
};

enum { FERRY_EVENT_NAME_MAX = 32, FERRY_EVENT_TEXT_MAX = 192 };

struct ferry_event {
	enum ferry_event_kind kind;
	enum ferry_severity severity;
	uint64_t time_ns;	/* Monotonic, of the emitter's loop. */
	struct ferry_node node; /* Whom it is about; 0: this node. */
	uint64_t value;
	char pool[FERRY_EVENT_NAME_MAX];
	char from[FERRY_EVENT_NAME_MAX]; /* Old state, or empty. */
	char to[FERRY_EVENT_NAME_MAX];	 /* New state, or empty. */
	char text[FERRY_EVENT_TEXT_MAX]; /* The cause, for people. */
};

struct ferry_events {
	void (*emit)(struct ferry_events *events, const struct ferry_event *event);
};

/* "path-state", "ghost-made": for logs and `ferry events`. Never NULL. */
const char *ferry_event_kind_name(enum ferry_event_kind kind);
const char *ferry_severity_name(enum ferry_severity severity);

/* Fill event.text printf-like and emit. Without @events nobody listens: a no-op. */
void ferry_event_emit(struct ferry_events *events, struct ferry_event event, const char *format,
		      ...) FERRY_PRINTF(3, 4);
