#include "agent/cache/cache.h"

#include <stdio.h>

#include "agent/base/museum.h"

#define OWN_FLUSH_NS FERRY_NS_PER_S

enum { LINES_PER_READ_MAX = FERRY_IO_BYTES_MAX / FERRY_CACHE_LINE_BYTES + 1 };

_Static_assert(FERRY_IO_RANGE_BYTES_MAX / FERRY_CACHE_LINE_BYTES + 1 < FERRY_CACHE_STAMPS,
	       "one I/O never meets a stamp twice");

/* The lines that an I/O touches, and of them those that it covers whole. */
struct lines {
	uint64_t first;
	uint64_t end;
	uint64_t whole_first;
	uint64_t whole_end; /* At most whole_first: none. */
	uint64_t offset_bytes;
};

static struct lines lines_of(const struct ferry_cache *cache, const struct ferry_io *io)
{
	uint64_t offset_bytes = io->lba.v * cache->block.block_bytes;
	uint64_t end_bytes = offset_bytes + (uint64_t)io->length_blocks * cache->block.block_bytes;

	ferry_assert(io->length_blocks > 0);
	return (struct lines){
		.first = offset_bytes / FERRY_CACHE_LINE_BYTES,
		.end = (end_bytes + FERRY_CACHE_LINE_BYTES - 1) / FERRY_CACHE_LINE_BYTES,
		.whole_first = (offset_bytes + FERRY_CACHE_LINE_BYTES - 1) / FERRY_CACHE_LINE_BYTES,
		.whole_end = end_bytes / FERRY_CACHE_LINE_BYTES,
		.offset_bytes = offset_bytes,
	};
}

static struct ferry_cache_stamp *stamp_of(struct ferry_cache *cache, uint64_t number)
{
	return &cache->stamps[number % FERRY_CACHE_STAMPS];
}

static void emit(struct ferry_cache *cache, const char *to, const char *why)
{
	struct ferry_event event = {.kind = FERRY_EVENT_CACHE,
				    .severity = FERRY_SEVERITY_INFO,
				    .value = cache->index.lines_count,
				    .time_ns = ferry_loop_now_ns(cache->config.loop)};

	(void)snprintf(event.pool, sizeof(event.pool), "%s", cache->config.pool);
	(void)snprintf(event.to, sizeof(event.to), "%s", to);
	ferry_event_emit(cache->config.events, event, "%s", why);
}

/* ---- The whole of it. ---- */

static void turn(struct ferry_cache *cache, enum ferry_cache_mode mode, const char *name,
		 const char *why)
{
	if (cache->mode == mode)
		return;
	cache->mode = mode;
	cache->is_sorted = false;
	emit(cache, name, why);
}

/* Also what is in flight now, and began in another time, enters no more. */
static void empty(struct ferry_cache *cache)
{
	cache->floor = ++cache->sequence;
	if (cache->index.lines_count > 0)
		cache->stats.drops++;
	ferry_index_clear(&cache->index);
}

static void drop(struct ferry_cache *cache, const char *why)
{
	empty(cache);
	turn(cache, FERRY_CACHE_OFF, "off", why);
}

/* Whether a FLUSH has covered what the line holds. */
static bool is_durable(const struct ferry_cache *cache, uint32_t slot)
{
	return cache->index.lines[slot].mark <= cache->durable;
}

static void hold(struct ferry_cache *cache)
{
	cache->holds_volatile = ferry_flush_has_unflushed(cache->config.flush);
	turn(cache, FERRY_CACHE_HELD, "held", "this node does not serve the pool");
}

/* ---- Writes that may yet land. ---- */

static void ticket_free(struct ferry_cache *cache, struct ferry_cache_ticket *ticket)
{
	ferry_list_prepend(&cache->tickets_free, &ticket->link);
}

/* A write touches its lines no more. */
static void write_leave(struct ferry_cache *cache, const struct ferry_cache_ticket *ticket)
{
	struct lines lines = lines_of(cache, &ticket->inner);

	cache->sequence++;
	for (uint64_t i = lines.first; i < lines.end; i++) {
		struct ferry_cache_stamp *stamp = stamp_of(cache, i);

		ferry_assert(stamp->writes > 0);
		stamp->writes--;
		stamp->sequence = cache->sequence;
	}
}

/* With no ghost alive, none of the doubtful writes can land any more. */
static void settle(struct ferry_cache *cache)
{
	struct ferry_list *link;

	if (*cache->config.ghosts_count > 0)
		return;
	while ((link = ferry_list_pop(&cache->doubtful))) {
		struct ferry_cache_ticket *ticket =
			ferry_list_entry(link, struct ferry_cache_ticket, link);

		write_leave(cache, ticket);
		ticket_free(cache, ticket);
	}
	cache->doubtful_count = 0;
	if (cache->is_blocked) {
		cache->is_blocked = false;
		cache->floor = ++cache->sequence;
	}
}

static void write_doubt(struct ferry_cache *cache, struct ferry_cache_ticket *ticket)
{
	if (cache->doubtful_count < cache->config.tickets_max / 2) {
		ferry_list_append(&cache->doubtful, &ticket->link);
		cache->doubtful_count++;
		return;
	}
	/* Too many to remember one by one: doubt everything. */
	empty(cache);
	cache->is_blocked = true;
	write_leave(cache, ticket);
	ticket_free(cache, ticket);
}

/* What happened below since last time. */
static void look_below(struct ferry_cache *cache)
{
	const struct ferry_flush *flush = cache->config.flush;

	if (cache->mode == FERRY_CACHE_SERVING)
		cache->durable = flush->writes_flushed;
	if (cache->losses_seen != flush->losses_count) {
		cache->losses_seen = flush->losses_count;
		empty(cache); /* The lun may hold less than was acknowledged, and was kept here. */
		emit(cache, "empty", "acknowledged writes may have been lost below");
	}
	if (cache->doubtful_count > 0 || cache->is_blocked)
		settle(cache);
}

static bool may_enter(struct ferry_cache *cache, const struct ferry_cache_ticket *ticket)
{
	return cache->mode == FERRY_CACHE_SERVING && !cache->is_blocked &&
	       ticket->sequence >= cache->floor;
}

static void line_put(struct ferry_cache *cache, uint64_t number,
		     const struct ferry_segments *segments, uint64_t offset_bytes)
{
	uint32_t slot = ferry_index_find(&cache->index, number);

	if (slot == FERRY_INDEX_NONE)
		slot = ferry_index_add(&cache->index, number);
	ferry_segments_read(segments, (uint32_t)offset_bytes, ferry_index_data(&cache->index, slot),
			    FERRY_CACHE_LINE_BYTES);
	/* What is read may have been written just now. */
	cache->index.lines[slot].mark = cache->config.flush->writes_done;
}

/* ---- Writes. ---- */

/* Whether, of all writes, only this one can have changed the line since it began. */
static bool write_was_alone(struct ferry_cache *cache, const struct ferry_cache_ticket *ticket,
			    uint64_t number)
{
	const struct ferry_cache_stamp *stamp = stamp_of(cache, number);

	return stamp->writes == 1 && stamp->sequence == ticket->sequence;
}

static void write_populate(struct ferry_cache *cache, const struct ferry_cache_ticket *ticket)
{
	struct lines lines = lines_of(cache, &ticket->inner);

	if (ticket->inner.op != FERRY_OP_WRITE || !may_enter(cache, ticket))
		return;
	for (uint64_t i = lines.whole_first; i < lines.whole_end; i++) {
		if (!write_was_alone(cache, ticket, i))
			continue;
		line_put(cache, i, &ticket->inner.segments,
			 i * FERRY_CACHE_LINE_BYTES - lines.offset_bytes);
		cache->stats.populated++;
	}
}

static void write_done(struct ferry_io *inner, int error)
{
	struct ferry_cache_ticket *ticket = inner->context;
	struct ferry_cache *cache = ticket->cache;
	struct ferry_io *outer = TAKE_PTR(ticket->outer);

	ferry_assert(outer && error <= 0);
	look_below(cache);
	if (error == 0) {
		write_populate(cache, ticket);
		write_leave(cache, ticket);
		ticket_free(cache, ticket);
	} else {
		write_doubt(cache, ticket);
	}
	outer->on_done(outer, error);
}

static void write_enter(struct ferry_cache *cache, struct ferry_cache_ticket *ticket)
{
	struct lines lines = lines_of(cache, &ticket->inner);

	ticket->sequence = ++cache->sequence;
	cache->writes_count++;
	for (uint64_t i = lines.first; i < lines.end; i++) {
		struct ferry_cache_stamp *stamp = stamp_of(cache, i);
		uint32_t slot = ferry_index_find(&cache->index, i);

		stamp->writes++;
		stamp->sequence = cache->sequence;
		if (slot == FERRY_INDEX_NONE)
			continue;
		ferry_index_remove(&cache->index, slot);
		cache->stats.invalidations++;
	}
}

/* ---- Reads. ---- */

static void read_fill(struct ferry_cache *cache, const struct ferry_cache_ticket *ticket)
{
	struct lines lines = lines_of(cache, &ticket->inner);

	if (!may_enter(cache, ticket))
		return;
	for (uint64_t i = lines.whole_first; i < lines.whole_end; i++) {
		const struct ferry_cache_stamp *stamp = stamp_of(cache, i);

		if ((stamp->writes > 0 || stamp->sequence > ticket->sequence) &&
		    !FERRY_MUSEUM(READ_OVERTAKEN)) {
			cache->stats.overtaken++;
			continue;
		}
		if (ferry_index_find(&cache->index, i) != FERRY_INDEX_NONE)
			continue;
		line_put(cache, i, &ticket->inner.segments,
			 i * FERRY_CACHE_LINE_BYTES - lines.offset_bytes);
		cache->stats.fills++;
	}
}

static void read_done(struct ferry_io *inner, int error)
{
	struct ferry_cache_ticket *ticket = inner->context;
	struct ferry_cache *cache = ticket->cache;
	struct ferry_io *outer = TAKE_PTR(ticket->outer);

	ferry_assert(outer && error <= 0);
	look_below(cache);
	if (error == 0)
		read_fill(cache, ticket);
	outer->segments = inner->segments; /* Its use goes along. */
	ticket_free(cache, ticket);
	outer->on_done(outer, error);
}

static void hits_answer(struct ferry_task *task)
{
	struct ferry_cache *cache = FERRY_CONTAINER_OF(task, struct ferry_cache, hits_task);
	struct ferry_list answering;
	struct ferry_list *link;

	ferry_list_init(&answering);
	ferry_list_move_all(&answering, &cache->hits);
	while ((link = ferry_list_pop(&answering))) {
		struct ferry_cache_ticket *ticket =
			ferry_list_entry(link, struct ferry_cache_ticket, link);
		struct ferry_io *outer = TAKE_PTR(ticket->outer);

		ticket_free(cache, ticket);
		outer->on_done(outer, 0);
	}
}

/* Copy the read's data out of the lines, which are all there. */
static void hit_copy(struct ferry_cache *cache, struct ferry_io *io, const struct lines *lines,
		     const uint32_t *slots)
{
	uint64_t at_bytes = lines->offset_bytes;
	uint64_t end_bytes = at_bytes + io->segments.length_bytes;
	bool is_warm = false;

	for (uint64_t i = lines->first; i < lines->end; i++) {
		uint32_t slot = slots[i - lines->first];
		uint64_t in_line = at_bytes % FERRY_CACHE_LINE_BYTES;
		uint64_t part_bytes =
			ferry_min_u64(FERRY_CACHE_LINE_BYTES - in_line, end_bytes - at_bytes);

		ferry_segments_write(&io->segments, (uint32_t)(at_bytes - lines->offset_bytes),
				     ferry_index_data(&cache->index, slot) + in_line,
				     (uint32_t)part_bytes);
		ferry_index_touch(&cache->index, slot);
		is_warm |= cache->index.lines[slot].is_warm;
		at_bytes += part_bytes;
	}
	ferry_assert(at_bytes == end_bytes);
	cache->stats.hits++;
	cache->stats.warm_hits += is_warm;
}

static void own_flush_done(struct ferry_io *io, int error)
{
	struct ferry_cache *cache = io->context;

	(void)error; /* The router has told of it, and the lines stay as they are. */
	ferry_assert(cache->is_flushing);
	cache->is_flushing = false;
}

/* Whoever reads and never flushes would have nothing of the cache. */
static void own_flush(struct ferry_cache *cache)
{
	uint64_t now_ns = ferry_loop_now_ns(cache->config.loop);

	if (cache->is_flushing || now_ns < cache->flush_next_ns)
		return;
	cache->flush_next_ns = now_ns + OWN_FLUSH_NS;
	cache->flush_io = (struct ferry_io){
		.op = FERRY_OP_FLUSH, .on_done = own_flush_done, .context = cache};
	cache->is_flushing = ferry_block_submit(cache->config.next, &cache->flush_io) == 0;
}

/* Answer @io from here, if all of it is here, durable, and there is a buffer for it now. */
static bool read_hit(struct ferry_cache *cache, struct ferry_io *io,
		     struct ferry_cache_ticket *ticket)
{
	struct lines lines = lines_of(cache, io);
	uint32_t slots[LINES_PER_READ_MAX];
	bool all_durable = true;

	ferry_assert(lines.end - lines.first <= LINES_PER_READ_MAX);
	for (uint64_t i = lines.first; i < lines.end; i++) {
		slots[i - lines.first] = ferry_index_find(&cache->index, i);
		if (slots[i - lines.first] == FERRY_INDEX_NONE)
			return false;
		all_durable &= is_durable(cache, slots[i - lines.first]);
	}
	if (!all_durable) {
		cache->stats.volatile_misses++;
		own_flush(cache);
		return false;
	}
	if (ferry_arena_take(cache->config.arena, io->length_blocks * cache->block.block_bytes,
			     &io->segments) < 0)
		return false;
	hit_copy(cache, io, &lines, slots);
	ticket->outer = io;
	ferry_list_append(&cache->hits, &ticket->link);
	ferry_task_post(cache->config.loop, &cache->hits_task);
	return true;
}

/* ---- The filter. ---- */

static struct ferry_cache_ticket *ticket_take(struct ferry_cache *cache)
{
	struct ferry_list *link = ferry_list_pop(&cache->tickets_free);

	return link ? ferry_list_entry(link, struct ferry_cache_ticket, link) : NULL;
}

/* Send a copy of @io down, to hear of its end before the caller does. */
static int ticket_submit(struct ferry_cache *cache, struct ferry_cache_ticket *ticket,
			 struct ferry_io *io)
{
	bool is_write = ferry_op_changes_blocks(io->op);
	int r;

	ticket->outer = io;
	ticket->inner = (struct ferry_io){.op = io->op,
					  .flags = io->flags,
					  .lba = io->lba,
					  .length_blocks = io->length_blocks,
					  .on_done = is_write ? write_done : read_done,
					  .context = ticket};
	if (io->op == FERRY_OP_WRITE)
		ticket->inner.segments = io->segments; /* Borrowed: the caller keeps its use. */
	if (is_write)
		write_enter(cache, ticket);
	else
		ticket->sequence = cache->sequence;
	r = ferry_block_submit(cache->config.next, &ticket->inner);
	if (r < 0) {
		ticket->outer = NULL;
		if (is_write)
			write_leave(cache, ticket);
		ticket_free(cache, ticket);
	}
	return r;
}

static int cache_submit(struct ferry_block *block, struct ferry_io *io)
{
	struct ferry_cache *cache = FERRY_CONTAINER_OF(block, struct ferry_cache, block);
	struct ferry_cache_ticket *ticket;
	bool is_serving;

	FERRY_ASSERT_ON_LOOP(block->loop);
	look_below(cache);
	is_serving = cache->mode == FERRY_CACHE_SERVING && !cache->is_blocked;
	if (io->op == FERRY_OP_FLUSH || (io->op == FERRY_OP_READ && !is_serving))
		return ferry_block_submit(cache->config.next, io);
	ticket = ticket_take(cache);
	if (!ticket) /* A read that nobody follows cannot enter; a write has to be followed. */
		return io->op == FERRY_OP_READ ? ferry_block_submit(cache->config.next, io)
					       : -EAGAIN;
	ticket->cache = cache;
	if (io->op == FERRY_OP_READ) {
		if (read_hit(cache, io, ticket))
			return 0;
		cache->stats.misses++;
	}
	return ticket_submit(cache, ticket, io);
}

static const struct ferry_block_ops cache_ops = {
	.submit = cache_submit,
};

/* ---- Whose it is. ---- */

/*
 * The last owner before this node's own claim. Claims of its own that never were in force do not
 * break the chain: nobody wrote under them.
 */
static void heritage_follow(struct ferry_cache *cache, const struct ferry_view *view)
{
	bool was_mine = cache->seen_owner.v == cache->config.self.v;

	if (view->epoch.v == cache->seen.epoch.v) {
		if (view->owner.v != 0)
			cache->seen_owner = view->owner;
		cache->was_in_force |= view->is_in_force;
	} else {
		if (cache->seen.epoch.v == 0 || view->epoch.v != cache->seen.epoch.v + 1)
			cache->heritage = (struct ferry_cache_heritage){};
		else if (!was_mine || cache->was_in_force)
			cache->heritage = (struct ferry_cache_heritage){.epoch = cache->seen.epoch,
									.owner = cache->seen_owner};
		cache->seen_owner = view->owner;
		cache->was_in_force = view->is_in_force;
		cache->is_barred = false;
	}
	cache->seen = *view;
}

static void serve(struct ferry_cache *cache, struct ferry_epoch epoch)
{
	/* Own lines of before are true still if nobody else has had the pool since. */
	bool is_kept = cache->epoch.v == epoch.v ||
		       (cache->epoch.v != 0 && cache->heritage.epoch.v == cache->epoch.v &&
			cache->heritage.owner.v == cache->config.self.v);

	if (!is_kept && !FERRY_MUSEUM(KEPT_CACHE))
		empty(cache); /* Another may have owned the pool since. */
	else if (cache->mode == FERRY_CACHE_HELD && cache->holds_volatile)
		empty(cache); /* Nobody has asked meanwhile whether the lun has lost it. */
	cache->epoch = epoch;
	turn(cache, FERRY_CACHE_SERVING, "serving", "this node owns the pool, its epoch in force");
}

void ferry_cache_set_view(struct ferry_cache *cache, const struct ferry_view *view)
{
	bool is_mine;

	ferry_assert(cache && view);
	FERRY_ASSERT_ON_LOOP(cache->config.loop);
	is_mine = view->owner.v == cache->config.self.v;
	look_below(cache);
	heritage_follow(cache, view);
	if (is_mine && view->is_in_force && view->is_quorate && !cache->is_barred)
		serve(cache, view->epoch);
	else if (cache->mode == FERRY_CACHE_SERVING && !view->is_quorate &&
		 !cache->config.is_majority_real)
		drop(cache, "no quorum: another may own the pool");
	else if (cache->mode == FERRY_CACHE_SERVING && !FERRY_MUSEUM(DEPOSED_CACHE))
		hold(cache);
}

void ferry_cache_bar(struct ferry_cache *cache, bool is_barred)
{
	ferry_assert(cache);
	FERRY_ASSERT_ON_LOOP(cache->config.loop);
	if (cache->is_barred == is_barred)
		return;
	cache->is_barred = is_barred;
	if (is_barred) {
		drop(cache, "this node's registration was taken from it");
	} else {
		struct ferry_view view = cache->seen;

		ferry_cache_set_view(cache, &view);
	}
}

void ferry_cache_empty(struct ferry_cache *cache, const char *why)
{
	ferry_assert(cache && why);
	FERRY_ASSERT_ON_LOOP(cache->config.loop);
	empty(cache);
	emit(cache, "empty", why);
}

/* ---- Opening. ---- */

uint32_t ferry_cache_lines(uint64_t bytes)
{
	/* A line's entry, and up to two bucket heads. */
	const uint64_t line_bytes =
		FERRY_CACHE_LINE_BYTES + sizeof(struct ferry_index_line) + 2 * sizeof(uint32_t);

	return (uint32_t)ferry_min_u64(bytes / line_bytes, FERRY_INDEX_LINES_MAX);
}

size_t ferry_cache_memory_bytes(uint32_t lines_max, uint32_t tickets_max)
{
	ferry_assert(tickets_max > 0 && tickets_max <= FERRY_CACHE_TICKETS_MAX);
	return ferry_index_memory_bytes(lines_max) +
	       FERRY_CACHE_STAMPS * sizeof(struct ferry_cache_stamp) +
	       tickets_max * sizeof(struct ferry_cache_ticket) + 128;
}

int ferry_cache_init(struct ferry_cache *cache, struct ferry_region *region, void *data,
		     const struct ferry_cache_config *config)
{
	struct ferry_cache_ticket *tickets;
	int r;

	ferry_assert(config->loop && config->arena && config->next);
	ferry_assert(config->ghosts_count && config->flush && config->pool);
	ferry_assert(FERRY_CACHE_LINE_BYTES % config->next->block_bytes == 0);
	ferry_assert(config->tickets_max > 1 && config->tickets_max <= FERRY_CACHE_TICKETS_MAX);
	*cache = (struct ferry_cache){.block = *config->next,
				      .config = *config,
				      .mode = FERRY_CACHE_OFF,
				      .losses_seen = config->flush->losses_count,
				      .hits_task = {.run = hits_answer}};
	cache->block.ops = &cache_ops;
	ferry_list_init(&cache->tickets_free);
	ferry_list_init(&cache->hits);
	ferry_list_init(&cache->doubtful);
	r = ferry_index_init(&cache->index, region, data, config->lines_max);
	if (r < 0)
		return r;
	cache->stamps = ferry_region_take(region, FERRY_CACHE_STAMPS, sizeof(*cache->stamps));
	tickets = ferry_region_take(region, config->tickets_max, sizeof(*tickets));
	if (!cache->stamps || !tickets)
		return -ENOMEM;
	for (uint32_t i = 0; i < config->tickets_max; i++)
		ferry_list_append(&cache->tickets_free, &tickets[i].link);
	return 0;
}

bool ferry_cache_is_idle(const struct ferry_cache *cache)
{
	ferry_assert(cache);
	return ferry_list_is_empty(&cache->hits) && !cache->is_flushing;
}

void ferry_cache_done(struct ferry_cache *cache)
{
	ferry_assert(ferry_cache_is_idle(cache));
	ferry_task_cancel(cache->config.loop, &cache->hits_task);
}

/* ---- Moving to another node. ---- */

/* What was written and not flushed goes: the lun may have lost it, and nobody would know. */
static void drop_volatile(struct ferry_cache *cache)
{
	uint32_t slot = cache->index.newest;

	while (slot != FERRY_INDEX_NONE) {
		uint32_t next = cache->index.lines[slot].older;

		if (!is_durable(cache, slot))
			ferry_index_remove(&cache->index, slot);
		slot = next;
	}
	cache->holds_volatile = false;
}

int ferry_cache_export(struct ferry_cache *cache, struct ferry_cache_export *ret)
{
	ferry_assert(cache && ret);
	FERRY_ASSERT_ON_LOOP(cache->config.loop);
	look_below(cache);
	if (cache->mode != FERRY_CACHE_HELD || cache->is_blocked)
		return -ENODATA;
	if (cache->holds_volatile)
		drop_volatile(cache);
	if (cache->index.lines_count == 0)
		return -ENODATA;
	if (!cache->is_sorted)
		ferry_index_sort(&cache->index);
	cache->is_sorted = true; /* Until it serves again: held, it only loses lines. */
	*ret = (struct ferry_cache_export){.epoch = cache->epoch,
					   .writes_count = cache->writes_count};
	return 0;
}

uint32_t ferry_cache_hottest(const struct ferry_cache *cache)
{
	ferry_assert(cache->mode == FERRY_CACHE_HELD);
	return cache->index.newest;
}

uint32_t ferry_cache_cooler(const struct ferry_cache *cache, uint32_t slot)
{
	ferry_assert(ferry_cache_has_slot(cache, slot));
	return cache->index.lines[slot].older;
}

bool ferry_cache_has_slot(const struct ferry_cache *cache, uint64_t slot)
{
	return slot < cache->index.fresh && cache->index.lines[slot].is_there;
}

int ferry_cache_import_begin(struct ferry_cache *cache, struct ferry_epoch epoch, uint64_t *ret)
{
	ferry_assert(cache && ret);
	ferry_assert(epoch.v > 0);
	FERRY_ASSERT_ON_LOOP(cache->config.loop);
	if (cache->mode == FERRY_CACHE_SERVING)
		return -EBUSY;
	if (FERRY_MUSEUM(KEPT_CACHE))
		turn(cache, FERRY_CACHE_OFF, "off", "its own lines of before are kept");
	else
		drop(cache, "making room for the last owner's");
	cache->epoch = epoch;
	*ret = cache->sequence;
	return 0;
}

int ferry_cache_import(struct ferry_cache *cache, struct ferry_epoch epoch, uint64_t begun,
		       uint64_t number, uint32_t heat, const void *data)
{
	uint64_t end = cache->block.size_blocks * cache->block.block_bytes / FERRY_CACHE_LINE_BYTES;
	const struct ferry_cache_stamp *stamp = stamp_of(cache, number);
	uint32_t slot;

	ferry_assert(cache && data);
	FERRY_ASSERT_ON_LOOP(cache->config.loop);
	look_below(cache);
	if (number >= end)
		return -ERANGE;
	if (cache->epoch.v != epoch.v || cache->is_blocked || cache->is_barred ||
	    cache->mode == FERRY_CACHE_HELD)
		return -ESTALE;
	if ((begun < cache->floor || stamp->writes > 0 || stamp->sequence > begun) &&
	    !FERRY_MUSEUM(IMPORT_UNCHECKED))
		return -ESTALE;
	if (ferry_index_find(&cache->index, number) != FERRY_INDEX_NONE)
		return -EEXIST;
	if (ferry_index_is_full(&cache->index))
		return -ENOSPC;
	slot = ferry_index_add(&cache->index, number);
	memcpy(ferry_index_data(&cache->index, slot), data, FERRY_CACHE_LINE_BYTES);
	cache->index.lines[slot].heat =
		(uint16_t)ferry_min_u64(heat, FERRY_CACHE_HEAT_IMPORTED_MAX);
	cache->index.lines[slot].is_warm = true;
	cache->index.lines[slot].mark = 0; /* Only what is durable is given away. */
	cache->index.warm_count++;
	cache->stats.imported++;
	return 0;
}
