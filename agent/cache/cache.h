/*
 * cache.h - the read cache of one volume: a filter between the volume and its router.
 *
 * It is written through: a write goes down first, and what it wrote enters when it is DONE. A line
 * enters from a read only if no write touched it since that read began (design, rule 16): every
 * write stamps its lines at its submission and at its end, and a line that a write is in flight
 * for takes nothing. A write that did not end well may yet land: its lines stay out until no ghost
 * is alive. A line is served only once a FLUSH has covered it: until then the lun may lose what it
 * holds, and whoever had read it here would see it go. What the cache holds is true only while this
 * node alone can have changed the lun, so it follows the view of ownership: it serves while this
 * node owns the pool, holds still (for the next owner to ask for it) when it no longer does, and is
 * dropped when it cannot be sure.
 *
 * Owns:    the index, the lines' data, and one ticket per I/O that it has to follow.
 * Callers: core/volume.c submits through it; core/engine.c tells it the view; migrate/warm.c takes
 *          lines out and puts lines in.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/region.h"
#include "agent/cache/index.h"
#include "agent/core/flush.h"
#include "agent/core/view.h"
#include "agent/ports/block.h"
#include "agent/ports/events.h"

enum {
	/* Stamps are kept by line number modulo this: more than the longest I/O has lines. */
	FERRY_CACHE_STAMPS = 4096,
	FERRY_CACHE_TICKETS_MAX = 8192,
	FERRY_CACHE_HEAT_IMPORTED_MAX = 255, /* A past that must not outlive the present. */
};

enum ferry_cache_mode {
	FERRY_CACHE_OFF = 1, /* Empty; I/O goes past. */
	FERRY_CACHE_SERVING,
	FERRY_CACHE_HELD, /* I/O goes past; the lines are there still, for who comes next. */
};

struct ferry_cache_stats {
	uint64_t hits; /* Reads, not lines. */
	uint64_t misses;
	uint64_t volatile_misses; /* Of them, for a line that is here but not durable. */
	uint64_t warm_hits;	  /* Of the hits, those with a line that came from another node. */
	uint64_t fills;		  /* Lines, from here on. */
	uint64_t populated;	  /* By writes. */
	uint64_t invalidations;	  /* By writes. */
	uint64_t overtaken;	  /* Read, but not entered: a write had touched them. */
	uint64_t imported;
	uint64_t drops; /* Times that the whole of it was dropped. */
};

struct ferry_cache_config {
	struct ferry_loop *loop;
	struct ferry_arena *arena; /* For the data of hits. */
	struct ferry_events *events;
	const char *pool; /* For events. */
	struct ferry_node self;
	struct ferry_block *next; /* Whatever is below: the router, as a block. */
	uint32_t lines_max;
	uint32_t tickets_max; /* I/Os that it follows at once. */
	/*
	 * Quorum is a majority that cannot be had on two sides at once: then its passing loss,
	 * with the epoch unchanged, has broken nothing.
	 */
	bool is_majority_real;
	/* The router's: ghosts alive now; what is flushed, and what may have been lost. */
	const uint32_t *ghosts_count;
	const struct ferry_flush *flush;
};

/* What is known of the writes to lines of equal number modulo FERRY_CACHE_STAMPS. */
struct ferry_cache_stamp {
	uint64_t sequence; /* When the last of them began or ended. */
	uint32_t writes;   /* In flight, or in doubt. */
};

/* One I/O on its way. */
struct ferry_cache_ticket {
	struct ferry_cache *cache;
	struct ferry_io *outer; /* The caller's; NULL once it is answered. */
	struct ferry_io inner;	/* What goes down. */
	uint64_t sequence;	/* The cache's, when it began. */
	struct ferry_list link; /* In tickets_free, hits or doubtful. */
};

/* Who had the pool before, without a gap that anybody could have written in. */
struct ferry_cache_heritage {
	struct ferry_epoch epoch; /* 0: nobody that is known. */
	struct ferry_node owner;
};

struct ferry_cache {
	struct ferry_block block; /* What the volume submits to. */
	struct ferry_cache_config config;
	struct ferry_index index;
	enum ferry_cache_mode mode;
	struct ferry_epoch epoch; /* Of the owner whose writes the lines have seen all of. */
	bool is_sorted;		  /* HELD: by heat. */
	bool is_barred;		  /* Exclusivity was broken in this epoch: no serving. */
	uint64_t sequence;	  /* Grows with every beginning and end of a write. */
	uint64_t floor;		  /* What began before it neither fills nor populates. */
	uint64_t writes_count;	  /* Ever: "write sequence". */
	uint64_t losses_seen;
	uint64_t durable; /* Lines marked up to here are; while it serves, flush->writes_flushed. */
	bool holds_volatile; /* HELD: some line may not be. */
	bool is_flushing;
	uint64_t flush_next_ns;
	struct ferry_io flush_io; /* Its own. */
	struct ferry_cache_stamp *stamps;
	struct ferry_list tickets_free;
	struct ferry_list hits;	    /* To be answered by the task. */
	struct ferry_list doubtful; /* Writes that may yet land. */
	uint32_t doubtful_count;
	bool is_blocked; /* More doubt than tickets: nothing is served until it is over. */
	struct ferry_task hits_task;

	struct ferry_view seen; /* The last view, and of its epoch: */
	struct ferry_node seen_owner;
	bool was_in_force;
	struct ferry_cache_heritage heritage;
	struct ferry_cache_stats stats;
};

/* How many lines @bytes have room for, tables included; 0: too little for a cache. */
uint32_t ferry_cache_lines(uint64_t bytes);

/* What ferry_cache_init() takes from the region, beside the lines' data. */
size_t ferry_cache_memory_bytes(uint32_t lines_max, uint32_t tickets_max);

/*
 * @data is lines_max * FERRY_CACHE_LINE_BYTES long. config->next is complete: the cache's block has
 * its shape. -ENOMEM: the region is too small.
 */
int ferry_cache_init(struct ferry_cache *cache, struct ferry_region *region, void *data,
		     const struct ferry_cache_config *config) FERRY_MUST_CHECK;

/* Whether it has nothing of its own still to answer; what went down is the router's. */
bool ferry_cache_is_idle(const struct ferry_cache *cache);

/* Nothing may be in flight. */
void ferry_cache_done(struct ferry_cache *cache);

/* What the cluster thread knows now; before the router hears of it. */
void ferry_cache_set_view(struct ferry_cache *cache, const struct ferry_view *view);

/*
 * This node's registration was taken from it, not by its own wish: somebody else may write. Barred
 * it stays until a new epoch, or until it is let again, empty.
 */
void ferry_cache_bar(struct ferry_cache *cache, bool is_barred);

/* What it holds may be wrong, whatever the reason: begin with nothing. */
void ferry_cache_empty(struct ferry_cache *cache, const char *why);

/* ---- For who moves it to another node. ---- */

struct ferry_cache_export {
	struct ferry_epoch epoch;
	uint64_t writes_count;
};

/*
 * Be read by the next owner, without what the lun may yet lose. -ENODATA: nothing that it could
 * use. The lines are walked by
 * ferry_cache_hottest() and _cooler(); they are all of them true as long as writes_count is what
 * was said.
 */
int ferry_cache_export(struct ferry_cache *cache, struct ferry_cache_export *ret) FERRY_MUST_CHECK;
uint32_t ferry_cache_hottest(const struct ferry_cache *cache);
uint32_t ferry_cache_cooler(const struct ferry_cache *cache, uint32_t slot);

/* Whether @slot, from a peer's cursor, is a line that is there. */
bool ferry_cache_has_slot(const struct ferry_cache *cache, uint64_t slot);

/*
 * Begin to take in what the heritage's owner had, for @epoch, which this node has claimed. @ret is
 * where in the sequence of writes it began. -EBUSY: it serves.
 */
int ferry_cache_import_begin(struct ferry_cache *cache, struct ferry_epoch epoch,
			     uint64_t *ret) FERRY_MUST_CHECK;

/*
 * One line, true when the import began. -ESTALE: written since, or the cache was dropped or turned
 * to another epoch since; -EEXIST; -ENOSPC: full; -ERANGE: beyond the volume's end.
 */
int ferry_cache_import(struct ferry_cache *cache, struct ferry_epoch epoch, uint64_t begun,
		       uint64_t number, uint32_t heat, const void *data) FERRY_MUST_CHECK;

static inline uint64_t ferry_cache_used_bytes(const struct ferry_cache *cache)
{
	return (uint64_t)cache->index.lines_count * FERRY_CACHE_LINE_BYTES;
}
