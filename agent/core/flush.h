/*
 * flush.h - what a FLUSH may promise: which acknowledged writes are not durable yet, and whether
 * some of them may have been lost (design, rules 10 and 11).
 *
 * Writes bear the router's numbers, in the order in which they were sent. A reset or restart of
 * the lun, or a flush that failed, makes what is unflushed suspect: every FLUSH fails from there
 * on, until an administrator has looked. A later one that succeeds proves nothing.
 *
 * Of a restart the owner knows before anybody carries anything at the target, where there are
 * registrations (docs/decisions/0009). Elsewhere a node sees of resets what its own nexus is told.
 * Peers count those that they see, and each of their answers bears the count (struct ferry_mark).
 * So there a FLUSH through a peer is proof only if the owner knows the peer's count from before the
 * oldest unflushed write: then the peer vouches.
 *
 * Owns:    counters; pure.
 * Callers: the router's files; carrier.c tells peers losses_seen.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/base.h"

struct ferry_flush {
	bool is_suspect;      /* Acknowledged, unflushed writes may be lost. */
	uint64_t writes_done; /* Without FUA, ever; and how many of them a FLUSH has covered: */
	uint64_t writes_flushed;
	/* None of the unflushed ones has a lower number; UINT64_MAX: none is our own. */
	uint64_t unflushed_since;
	uint64_t lost_until;   /* The newest number when a loss was last seen. */
	uint64_t losses_count; /* Times that some of them may have been lost, ever. */
	uint64_t losses_seen;  /* Resets and the like, whoever's writes they hit; from 1. */
};

void ferry_flush_init(struct ferry_flush *flush);

static inline bool ferry_flush_has_unflushed(const struct ferry_flush *flush)
{
	ferry_assert(flush->writes_flushed <= flush->writes_done);
	return flush->writes_flushed < flush->writes_done;
}

/*
 * This node owns the lun from here on: what others wrote last may be unflushed, and its
 * applications may read it and have it flushed. Losses that are seen from here on count; nobody is
 * asked about earlier ones, of which those who had been promised have been told.
 */
void ferry_flush_inherit(struct ferry_flush *flush);

/*
 * A write without FUA is DONE. @oldest: no write in flight, this one included, has a lower number.
 * True: it is news that writes are suspect.
 */
bool ferry_flush_wrote(struct ferry_flush *flush, uint64_t sequence,
		       uint64_t oldest) FERRY_MUST_CHECK;

/*
 * What the lun had not made durable may be gone; @newest is the last number given. True: it is
 * news that writes are suspect.
 */
bool ferry_flush_lost(struct ferry_flush *flush, uint64_t newest) FERRY_MUST_CHECK;

/* Whether a path whose losses are known to us since the number @since would tell of any. */
static inline bool ferry_flush_is_vouched(const struct ferry_flush *flush, uint64_t since)
{
	return !ferry_flush_has_unflushed(flush) || since <= flush->unflushed_since;
}

/* Unflushed writes are known to be lost. True: it is news. */
bool ferry_flush_give_up(struct ferry_flush *flush) FERRY_MUST_CHECK;

/*
 * A FLUSH is DONE that was started when writes_done was @covers and @oldest the lowest number in
 * flight. What the application is told: 0 or -EIO.
 */
int ferry_flush_done(struct ferry_flush *flush, uint64_t covers, uint64_t oldest);

/*
 * An administrator has looked. What is unflushed stays so: among it is what was written after the
 * loss, and the next loss is one more.
 */
void ferry_flush_clear(struct ferry_flush *flush);

/* Nobody expects the unflushed writes to be there any more. */
void ferry_flush_forget(struct ferry_flush *flush);
