/*
 * io.h - the shape of an I/O and of its attempts.
 *
 * An I/O is what an application asked for; it completes once. An attempt is one try of it on one
 * path; an I/O may have several, each with its own read buffers. That an attempt has ended and
 * that its memory is free again are two events (design, rules 1-9).
 *
 * Owns:    nothing; shapes only.
 * Callers: front ends make I/Os; core/router.c makes attempts; paths end them.
 * Thread:  the data thread of the pool.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/arena.h"
#include "agent/base/base.h"
#include "agent/base/list.h"

enum ferry_op {
	FERRY_OP_READ = 1,
	FERRY_OP_WRITE,
	FERRY_OP_FLUSH,	       /* No range: lba and length_blocks are 0. */
	FERRY_OP_DISCARD,      /* The blocks' content is undefined afterwards. */
	FERRY_OP_WRITE_ZEROES, /* The blocks read as zeroes afterwards. */
};

enum {
	FERRY_IO_FUA = 1u << 0,	     /* Durable when done; WRITE and WRITE_ZEROES only. */
	FERRY_IO_NO_UNMAP = 1u << 1, /* WRITE_ZEROES: keep the space allocated. */
	FERRY_IO_FLAGS_ALL = FERRY_IO_FUA | FERRY_IO_NO_UNMAP,
};

/* The largest range of one DISCARD or WRITE_ZEROES, in bytes; front ends split larger ones. */
enum { FERRY_IO_RANGE_BYTES_MAX = 8 * 1024 * 1024 };

/* A "write" is every command that changes blocks (design, rule 2). */
static inline bool ferry_op_changes_blocks(enum ferry_op op)
{
	return op == FERRY_OP_WRITE || op == FERRY_OP_DISCARD || op == FERRY_OP_WRITE_ZEROES;
}

static inline bool ferry_op_has_data(enum ferry_op op)
{
	return op == FERRY_OP_READ || op == FERRY_OP_WRITE;
}

/* One I/O of an application. The front end owns it and keeps it until on_done(). */
struct ferry_io {
	enum ferry_op op;
	uint32_t flags;
	struct ferry_lba lba;
	uint32_t length_blocks;

	/*
	 * WRITE: the data; the front end's use of it, which it drops after on_done().
	 * READ: empty at submission; filled when on_done() says 0, then the front end's to drop.
	 */
	struct ferry_segments segments;

	/*
	 * Runs exactly once, never from inside submit. @error is 0 or what the application is to
	 * be told: -EIO, -ENOSPC (the lun is full), -ETIMEDOUT (no path for the configured time),
	 * -ESHUTDOWN (the volume is closing).
	 */
	void (*on_done)(struct ferry_io *io, int error);
	void *context; /* The front end's. */

	struct ferry_list link; /* The core's, while the I/O is in its hands. */
	void *route;		/* The core's. */
};

/* What may be concluded about one attempt. */
enum ferry_outcome {
	FERRY_OUTCOME_DONE = 1, /* It happened; durable only after FLUSH or with FUA. */
	FERRY_OUTCOME_FAILED,	/* It is over, proven; each block may be old or new. */
	FERRY_OUTCOME_UNKNOWN,	/* It may yet happen: a write is now a ghost. */
};

/* Why an attempt did not end DONE. */
enum ferry_cause {
	FERRY_CAUSE_NONE = 1, /* DONE. */
	FERRY_CAUSE_UNSENT,   /* FAILED: nothing of it left this node. */
	FERRY_CAUSE_PATH,     /* The path: lost session, reset, transport error. */
	FERRY_CAUSE_TIMEOUT,  /* UNKNOWN: a deadline passed. */
	FERRY_CAUSE_MEDIUM,   /* FAILED: the device's own status: medium or hardware error. */
	FERRY_CAUSE_INVALID,  /* FAILED: the device refuses this request as such. */
	FERRY_CAUSE_NO_SPACE, /* FAILED: a thin lun is full. */
	FERRY_CAUSE_CONFLICT, /* FAILED: reservation conflict: stop, read the keys, ask. */
	FERRY_CAUSE_STALE,    /* FAILED: not the current epoch, or not a member: never executed. */
	FERRY_CAUSE_LUN, /* FAILED: the peer has no such lun, or another size; never executed. */
	FERRY_CAUSE_UNHEALTHY, /* FAILED: the peer's own path does not work; never executed. */
	FERRY_CAUSE_RESET,     /* FAILED: the target was reset or restarted (UNIT ATTENTION 29h). */
	/*
	 * Writes that were acknowledged are lost: a flush that a cache below has failed and will
	 * not fail again, a SCSI deferred error. Of this attempt itself: FAILED or UNKNOWN.
	 */
	FERRY_CAUSE_LOST,
};

/*
 * How many resets and restarts of the lun the agent that carried an attempt had seen when it
 * answered. What the same agent has answered later bears the same count or a higher one.
 */
struct ferry_mark {
	struct ferry_incarnation boot; /* Of that agent, since submitted to a peer. */
	uint64_t losses;	       /* 0: nothing was said. */
};

/* One try on one path. The router owns it and keeps it until on_released(). */
struct ferry_attempt {
	enum ferry_op op;
	uint32_t flags;
	struct ferry_lba lba;
	uint32_t length_blocks;
	struct ferry_epoch epoch;	/* Under which the I/O was admitted. */
	struct ferry_segments segments; /* READ: where to; WRITE: what. Borrowed until released. */

	/* Exactly once, never from inside submit. */
	void (*on_end)(struct ferry_attempt *attempt, enum ferry_outcome outcome,
		       enum ferry_cause cause);
	/* Exactly once, after on_end(): neither kernel nor NIC touches the segments any more. */
	void (*on_released)(struct ferry_attempt *attempt);

	/*
	 * Set by who submitted it: the outcome counts as UNKNOWN from here on, and may be proven
	 * dead by other means. What of it has not left this node must never leave any more.
	 */
	bool is_given_up;

	struct ferry_mark mark; /* The path's: whole before on_end() where a peer has answered. */
	uint64_t sequence;	/* The path's: the request's number on a peer's link. */
	struct ferry_list link; /* The path's, while the attempt is in its hands. */
	void *path_private;	/* The path's. */
};
