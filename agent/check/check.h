/*
 * check.h - whether what applications saw could have been a disk: every sector is a linearizable
 * register (Herlihy and Wing, 1990) that is durable at FLUSH and FUA. It looks from outside, at
 * I/Os begun and ended and at what reads returned, and knows nothing of paths or nodes.
 *
 * Each write carries a tag of its own. What a read may return of a sector:
 *
 *  - A write that began before the read ended and was not *replaced* before the read began.
 *  - A write is replaced by one that began after it had ended and that is *known*: acknowledged,
 *    or seen by a read that has ended. Between writes that overlap in time nothing is promised
 *    until one that was acknowledged is seen to have lost: then it does not come back.
 *  - A write that ended with an error, or whose application died, may have happened or not, and
 *    may still: until a later one is known (design, rule 4).
 *  - A write that has not been acknowledged may happen more than once: tried on one path after
 *    the other, it lands, is overtaken by one that overlaps it in time, and lands again.
 *  - A DISCARD leaves what was there or zeroes, now one, now the other, never anything else.
 *
 * What is durable: a write with FUA when it is acknowledged; all that was acknowledged before a
 * FLUSH began, or was seen, when that FLUSH has succeeded.
 *
 * The volatile cache may be lost: each sector that was not durable keeps its newest content or
 * falls back to any that no durable one had replaced. The caller says when, at or after the moment
 * itself and before anything new may have reached the target's new cache; all that ran at that
 * moment is in doubt as well. What is in doubt binds no read, until it is seen or
 *
 *  - a FLUSH that began after it was acknowledged succeeds: that FLUSH said that it is there. So
 *    whoever forgets a loss is found out by the next read, whatever happened between.
 *  - Unless the doubt was *forgiven* first: those who had been promised have been told (a FLUSH
 *    failed with EIO and an administrator cleared it, or their node is gone and another owns the
 *    pool). Then it stays in doubt until it is written again. Only what had been lost by then is
 *    forgiven: what was acknowledged later, or survived, is owed as before. An error alone
 *    forgives nothing: flushes have to go on failing until somebody clears them (rule 11).
 *    Forgiven from the start is what ran at the loss and was acknowledged *of the past* (0009): who
 *    was told so has no FLUSH that succeeds any more, and another's never heard of it.
 *
 * A sector is written at once, unless the storage is said to tear (a file in a page cache does; a
 * disk does not): then a read beside its write may return bytes of both, which binds no other read.
 *
 * This is sound: a real disk is never accused, however its cache behaves. It is not complete: two
 * concurrent writes of which reads see one, then the other, then the first again pass.
 *
 * Owns:    each sector's history, cut to what may still be returned.
 * Callers: tests/sim (every seed), `ferry torture` (a scratch volume of a real cluster).
 * Thread:  the caller's, one.
 * Rooms:   rank 2: pure, memory from a region.
 */
#pragma once

#include "agent/base/list.h"
#include "agent/base/region.h"
#include "agent/ports/io.h"

enum { FERRY_CHECK_SECTOR_BYTES = 512, FERRY_CHECK_SECTORS_MAX = 1 << 24 };

/* ---- What a sector looks like: tag, address, filling made of both, CRC32C. ---- */

enum ferry_check_content {
	FERRY_CHECK_ZEROES = 1, /* Tag 0. */
	FERRY_CHECK_TAGGED,
	FERRY_CHECK_MISPLACED, /* Whole, and of another address. */
	FERRY_CHECK_TORN,      /* Anything else. */
};

/* @to: FERRY_CHECK_SECTOR_BYTES. @tag 0 is zeroes. */
void ferry_check_encode(uint64_t tag, uint64_t sector, void *to);

/* @ret_tag, @ret_sector: what it says of itself; 0 for zeroes and for what is torn. */
enum ferry_check_content ferry_check_decode(const void *from, uint64_t sector, uint64_t *ret_tag,
					    uint64_t *ret_sector);

/* ---- The checker. ---- */

enum ferry_check_verdict {
	FERRY_CHECK_FINE = 1,
	FERRY_CHECK_IS_TORN,
	FERRY_CHECK_IS_MISPLACED,
	FERRY_CHECK_IS_ALIEN, /* No I/O of ours wrote it, or it was replaced long ago. */
	FERRY_CHECK_IS_STALE, /* It was replaced, for certain, before the read began. */
	FERRY_CHECK_IS_LOST,  /* The same, and what replaced it had been promised to be durable. */
};

/* What was wrong with one sector. */
struct ferry_check_finding {
	enum ferry_check_verdict verdict;
	uint64_t sector;
	uint64_t tag;	/* That was read; 0: zeroes. */
	uint64_t other; /* MISPLACED: the sector that it names; STALE, LOST: what replaced it. */
};

/* One I/O of an application; the caller's, from begin to end. */
struct ferry_check_io {
	enum ferry_op op;
	uint32_t flags; /* FERRY_IO_FUA. */
	uint64_t sector;
	uint32_t sectors_count; /* 0: FLUSH. */
	/*
	 * READ: by one who may not know yet what has replaced it. A write: acknowledged by one that
	 * another has replaced, and that could not know it.
	 */
	bool is_of_the_past;
	uint64_t tag;	/* Set by begin: its number; WRITE: for ferry_check_encode(). */
	uint64_t start; /* The checker's. */
	struct ferry_list link;
};

struct ferry_check_config {
	uint64_t sectors_count; /* At first each holds zeroes, durably. */
	uint32_t entries_max;	/* Writes remembered, over all sectors. */
	uint64_t tag_first;	/* So that tags of an earlier run are told apart; 0 is 1. */
	bool storage_tears;	/* A read beside a write may return bytes of both. */
};

struct ferry_check_entry;

struct ferry_check {
	struct ferry_check_config config;
	struct ferry_list *sectors; /* Of entries, oldest first. */
	struct ferry_list entries_free;
	struct ferry_list volatiles; /* Entries of which a lost cache takes something back. */
	struct ferry_list running;   /* I/Os, oldest first. */
	uint32_t entries_used;
	uint64_t clock; /* Ticks at each call that changes something. */
	uint64_t lost;	/* When the cache was last lost. */
	uint64_t tag_next;
	uint64_t sectors_checked;
	uint64_t sectors_mixed; /* Bytes of several writes, one of which ran. */
	uint64_t sectors_past;	/* Acknowledged of the past, and forgiven. */
};

size_t ferry_check_memory_bytes(const struct ferry_check_config *config);

/* -ENOMEM: the region is too small. -EINVAL: no sectors, too many, or fewer entries than those. */
int ferry_check_init(struct ferry_check *check, struct ferry_region *region,
		     const struct ferry_check_config *config) FERRY_MUST_CHECK;

/*
 * Before @io is submitted. -ENOSPC: too much is remembered; end something, FLUSH, try again.
 * @io->op, flags, sector and sectors_count are the caller's.
 */
int ferry_check_begin(struct ferry_check *check, struct ferry_check_io *io) FERRY_MUST_CHECK;

/* It was refused, and nothing of it went anywhere. */
void ferry_check_cancel(struct ferry_check *check, struct ferry_check_io *io);

/*
 * Before the end of a READ that succeeded: its sector @index came back as @from. @ret is filled in
 * unless FINE. A read of the past binds no other.
 */
enum ferry_check_verdict ferry_check_sector(struct ferry_check *check,
					    const struct ferry_check_io *io, uint32_t index,
					    const void *from, struct ferry_check_finding *ret);

/* It ended: 0 or what the application was told. An application that dies: -ESHUTDOWN. */
void ferry_check_end(struct ferry_check *check, struct ferry_check_io *io, int error);

/* The volatile cache was lost, whole or in part. */
void ferry_check_lost(struct ferry_check *check);

/* Those who had been promised what is in doubt now have been told. */
void ferry_check_forgive(struct ferry_check *check);

/* For people: "sector 7 returned write 12, which write 19 had replaced". */
void ferry_check_describe(const struct ferry_check_finding *finding, char *text, size_t size_bytes);
