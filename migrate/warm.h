/*
 * warm.h - what a cache knows, out of it as a stream and into another one.
 *
 * Imported cache is advice (design, rule 16). It is taken only if it is of the same lun and
 * lineage, and is what the last owner left: the stream names the owner and the epoch whose writes
 * its lines have all seen, and they must be the ones that this node's own claim follows without a
 * gap (struct ferry_cache_heritage). Then nobody can have written in between: the last owner's
 * lines were frozen when it installed the claim, each line that a write of its was in flight for
 * left out; and this node's own writes since the import began refuse their lines one by one. The
 * number of writes that the lines have seen must be the same in every part: a source that moved on
 * is not believed, and what came of it before is dropped.
 *
 * Owns:    nothing but the state of one import.
 * Callers: the wiring (export), pull.c (import).
 * Thread:  the pool's data loop.
 * Rooms:   rank 3.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/cache/cache.h"
#include "proto/stream.h"

enum {
	FERRY_WARM_LINE_BYTES = FERRY_STREAM_DATA_BYTES + FERRY_CACHE_LINE_BYTES,
	/* A part fits one message. */
	FERRY_WARM_LINES_PER_PART =
		(FERRY_IO_BYTES_MAX - FERRY_STREAM_BEGIN_BYTES - FERRY_STREAM_END_BYTES) /
		FERRY_WARM_LINE_BYTES,
};

/* Whose cache, of what. */
struct ferry_warm_name {
	struct ferry_uuid lun;
	struct ferry_uuid lineage;
	struct ferry_node node; /* This one. */
	struct ferry_incarnation incarnation;
};

/*
 * The part of @cache that begins at @cursor (0: the hottest lines), as one stream in buffers of
 * @arena that are the caller's to drop. -ENODATA: there is nothing to give; -EINVAL: no such
 * cursor; -ENOBUFS.
 */
int ferry_warm_export(struct ferry_cache *cache, const struct ferry_warm_name *name,
		      uint64_t cursor, struct ferry_arena *arena,
		      struct ferry_segments *ret) FERRY_MUST_CHECK;

struct ferry_warm_import {
	struct ferry_cache *cache;
	struct ferry_warm_name name; /* The importer's. */
	struct ferry_epoch epoch;    /* That it has claimed. */
	struct ferry_cache_heritage from;
	uint64_t begun; /* In the cache's sequence of writes. */
	bool has_first;
	struct ferry_stream_begin first; /* What the first part said: so must all. */
	uint64_t lines_count;		 /* Taken. */
	uint64_t refused_count;		 /* Written since, there already, no room. */
};

/*
 * Prepare @cache, which does not serve yet, for what the last owner before @epoch has.
 * -ENODATA: nobody whose cache could be believed; -EALREADY: this node was the last owner itself,
 * and its own lines are still true; -EBUSY: it serves.
 */
int ferry_warm_import_begin(struct ferry_warm_import *import, struct ferry_cache *cache,
			    const struct ferry_warm_name *name,
			    struct ferry_epoch epoch) FERRY_MUST_CHECK;

/*
 * One part. @ret_cursor is where the next begins, 0 after the last. -EBADMSG, -EPROTO,
 * -EPROTONOSUPPORT: it is damaged, and nothing of it was taken; -ESTALE: not what the last owner
 * left; @reterr says why. After an error the import is over.
 */
int ferry_warm_import_part(struct ferry_warm_import *import, const struct ferry_segments *part,
			   uint64_t *ret_cursor, struct ferry_error *reterr) FERRY_MUST_CHECK;
