#include "agent/cache/cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "agent/base/prng.h"
#include "agent/cache/rig.h"

static struct rig rig;

enum { LINE = RIG_LINE_BLOCKS, CHAOS_LINES = 16 };

static int setup(void **state)
{
	(void)state;
	rig_open(&rig, /* lines_max= */ 16, /* tickets_max= */ 32);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

static void reads_hit_what_was_read(void **state)
{
	(void)state;
	assert_false(rig_read(&rig, 0, 2 * LINE));
	assert_true(rig_read(&rig, 0, 2 * LINE));
	assert_true(rig_read(&rig, 3, 10)); /* Across two lines, neither whole. */
	assert_false(rig_read(&rig, 0, 3 * LINE));
	assert_true(rig_read(&rig, 2 * LINE, 1));
	assert_false(rig_read(&rig, 4 * LINE + 1, LINE)); /* Covers no line whole. */
	assert_false(rig_read(&rig, 4 * LINE + 1, LINE));
	assert_int_equal(rig.cache.stats.hits, 3);
	assert_int_equal(rig.cache.stats.misses, 4);
	assert_int_equal(rig.cache.index.lines_count, 3);
}

static void hit_is_never_from_inside(void **state)
{
	struct rig_io io;

	(void)state;
	rig_read(&rig, 0, LINE);
	assert_int_equal(rig_submit(&rig, &io, FERRY_OP_READ, 0, LINE), 0);
	assert_false(io.is_done);
	assert_int_equal(rig.below_count, 0); /* Nothing went down. */
	assert_false(ferry_cache_is_idle(&rig.cache));
	rig_run_tasks(&rig);
	assert_true(io.is_done && io.error == 0);
	assert_true(ferry_cache_is_idle(&rig.cache));
	rig_forget(&io);
}

/* Rule 16's own example. */
static void slow_read_overtaken_by_a_write_does_not_fill(void **state)
{
	struct rig_io slow, write;

	(void)state;
	assert_int_equal(rig_submit(&rig, &slow, FERRY_OP_READ, 0, 2 * LINE), 0);
	rig_land(&rig, 0, UINT32_MAX); /* Old data, on its way up... */
	assert_int_equal(rig_submit(&rig, &write, FERRY_OP_WRITE, 3, 1), 0);
	rig_end(&rig, 1, 0); /* ...when a write begins and ends. */
	rig_end(&rig, 0, 0);
	assert_false(rig_has(&rig, 0)); /* The write's line stays out, */
	assert_true(rig_has(&rig, 1));	/* the other enters. */
	assert_int_equal(rig.cache.stats.overtaken, 1);
	rig_forget(&slow);
	rig_forget(&write);
}

/* The read begins while the write is in flight, and lands before it does. */
static void read_during_a_write_does_not_fill(void **state)
{
	struct rig_io read, write;

	(void)state;
	for (int is_write_first = 0; is_write_first < 2; is_write_first++) {
		assert_int_equal(rig_submit(&rig, &write, FERRY_OP_WRITE, 0, 1), 0);
		assert_int_equal(rig_submit(&rig, &read, FERRY_OP_READ, 0, LINE), 0);
		rig_land(&rig, 1, UINT32_MAX);
		rig_end(&rig, is_write_first ? 0 : 1, 0);
		rig_end(&rig, 0, 0);
		assert_false(rig_has(&rig, 0));
		rig_forget(&read);
		rig_forget(&write);
	}
}

static void writes_populate_whole_lines_when_done(void **state)
{
	struct rig_io write;

	(void)state;
	rig_read(&rig, 0, LINE);
	assert_true(rig_has(&rig, 0));
	assert_int_equal(rig_submit(&rig, &write, FERRY_OP_WRITE, 0, 2 * LINE + 1), 0);
	assert_int_equal(ferry_index_find(&rig.cache.index, 0), FERRY_INDEX_NONE); /* At once. */
	rig_end(&rig, 0, 0);
	assert_true(rig_has(&rig, 0) && rig_has(&rig, 1));
	assert_false(rig_has(&rig, 2)); /* Not whole. */
	rig_forget(&write);
	assert_true(rig_read(&rig, 0, 2 * LINE));
	rig_write(&rig, 1, 1); /* Part of a line. */
	assert_false(rig_has(&rig, 0));
}

/* Which of two overlapping writes came last, nobody knows. */
static void overlapping_writes_do_not_populate(void **state)
{
	struct rig_io a, b;

	(void)state;
	for (uint32_t first = 0; first < 2; first++) {
		assert_int_equal(rig_submit(&rig, &a, FERRY_OP_WRITE, 0, 2 * LINE), 0);
		assert_int_equal(rig_submit(&rig, &b, FERRY_OP_WRITE, LINE, 2 * LINE), 0);
		rig_land(&rig, 1 - first, UINT32_MAX);
		rig_end(&rig, first, 0);
		assert_false(rig_has(&rig, 1));
		rig_end(&rig, 0, 0);
		assert_false(rig_has(&rig, 1));
		rig_forget(&a);
		rig_forget(&b);
	}
	rig_write(&rig, LINE, LINE);
	assert_true(rig_has(&rig, 1));
}

static void discard_and_zeroes_invalidate(void **state)
{
	static const enum ferry_op ops[] = {FERRY_OP_DISCARD, FERRY_OP_WRITE_ZEROES};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(ops); i++) {
		struct rig_io io;

		rig_write(&rig, 0, 2 * LINE);
		assert_int_equal(rig_submit(&rig, &io, ops[i], 1, LINE), 0);
		rig_end(&rig, 0, 0);
		assert_false(rig_has(&rig, 0) || rig_has(&rig, 1));
		rig_forget(&io);
	}
}

/* The application was told of an error; the write itself may yet land. */
static void failed_write_stays_out_until_its_ghost_is_laid(void **state)
{
	struct ferry_io *ghost;
	struct rig_io write;

	(void)state;
	rig_read(&rig, 0, LINE);
	assert_int_equal(rig_submit(&rig, &write, FERRY_OP_WRITE, 0, LINE), 0);
	ghost = rig.below[0];
	rig.ghosts_count = 1;
	rig_end(&rig, 0, -ETIMEDOUT);
	assert_false(rig_has(&rig, 0));
	rig_read(&rig, 0, LINE); /* Reads the old data, */
	assert_false(rig_has(&rig, 0));
	ferry_segments_read(&write.io.segments, 0, rig.disk,
			    FERRY_CACHE_LINE_BYTES); /* it lands, */
	rig.ghosts_count = 0;			     /* and is heard of. */
	assert_non_null(ghost);
	assert_false(rig_read(&rig, 0, LINE));
	assert_true(rig_has(&rig, 0));
	rig_forget(&write);
}

/* A read that began before the ghost was laid may have seen either. */
static void read_begun_before_the_laying_does_not_fill(void **state)
{
	struct rig_io write, read;

	(void)state;
	assert_int_equal(rig_submit(&rig, &write, FERRY_OP_WRITE, 0, LINE), 0);
	rig.ghosts_count = 1;
	rig_end(&rig, 0, -ETIMEDOUT);
	assert_int_equal(rig_submit(&rig, &read, FERRY_OP_READ, 0, LINE), 0);
	rig_land(&rig, 0, UINT32_MAX);
	ferry_segments_read(&write.io.segments, 0, rig.disk, FERRY_CACHE_LINE_BYTES);
	rig.ghosts_count = 0;
	rig_end(&rig, 0, 0);
	assert_false(rig_has(&rig, 0));
	rig_forget(&write);
	rig_forget(&read);
}

static void too_many_doubts_stop_it_until_they_are_over(void **state)
{
	struct rig_io write;

	(void)state;
	rig_write(&rig, 40 * LINE, LINE);
	rig.ghosts_count = 1;
	for (uint32_t i = 0; i < 20; i++) { /* It has 32 tickets. */
		assert_int_equal(rig_submit(&rig, &write, FERRY_OP_WRITE, i, 1), 0);
		rig_end(&rig, 0, -ETIMEDOUT);
		rig_forget(&write);
	}
	assert_false(rig_has(&rig, 40));
	assert_false(rig_read(&rig, 40 * LINE, LINE));
	assert_false(rig_read(&rig, 40 * LINE, LINE));
	rig.ghosts_count = 0;
	assert_false(rig_read(&rig, 40 * LINE, LINE));
	assert_true(rig_read(&rig, 40 * LINE, LINE));
}

static void refusals_below_are_passed_on(void **state)
{
	struct rig_io io;

	(void)state;
	rig.below_refuses = -EAGAIN;
	assert_int_equal(rig_submit(&rig, &io, FERRY_OP_READ, 0, LINE), -EAGAIN);
	rig.below_refuses = -EAGAIN;
	assert_int_equal(rig_submit(&rig, &io, FERRY_OP_WRITE, 0, LINE), -EAGAIN);
	rig_write(&rig, 0, LINE); /* Nothing is left in flight of it. */
	assert_true(rig_has(&rig, 0));
}

static void without_tickets_reads_pass_and_writes_wait(void **state)
{
	struct rig_io ios[33], more;

	(void)state;
	for (uint32_t i = 0; i < 32; i++)
		assert_int_equal(rig_submit(&rig, &ios[i], FERRY_OP_READ, i * LINE, LINE), 0);
	assert_int_equal(rig_submit(&rig, &ios[32], FERRY_OP_READ, 50 * LINE, LINE), 0);
	assert_int_equal(rig_submit(&rig, &more, FERRY_OP_WRITE, 0, LINE), -EAGAIN);
	rig_end_all(&rig);
	assert_false(rig_has(&rig, 50));
	for (uint32_t i = 0; i < 33; i++) {
		assert_true(ios[i].is_done);
		rig_forget(&ios[i]);
	}
	rig_write(&rig, 0, LINE);
}

static void no_buffer_makes_a_miss(void **state)
{
	struct ferry_segments all[8];
	uint32_t count = 0;
	struct rig_io io;

	(void)state;
	rig_read(&rig, 0, LINE);
	while (rig.arena.free_count > 16)
		assert_int_equal(ferry_arena_take(&rig.arena, FERRY_IO_BYTES_MAX, &all[count++]),
				 0);
	assert_int_equal(ferry_arena_take(&rig.arena, FERRY_IO_BYTES_MAX, &all[count++]), 0);
	rig.below_refuses = -EAGAIN;
	assert_int_equal(rig_submit(&rig, &io, FERRY_OP_READ, 0, LINE),
			 -EAGAIN); /* It went down. */
	while (count > 0)
		ferry_segments_drop(&all[--count]);
	assert_true(rig_read(&rig, 0, LINE));
}

static void memory_is_bounded_and_the_used_stays(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		rig_read(&rig, i * LINE, LINE);
	for (uint32_t i = 4; i < 64; i++) {
		for (uint32_t hot = 0; hot < 4; hot++)
			assert_true(rig_read(&rig, hot * LINE, LINE));
		rig_read(&rig, i * LINE, LINE);
		assert_true(rig.cache.index.lines_count <= 16);
	}
	assert_int_equal(rig.cache.index.lines_count, 16);
	assert_int_equal(rig.cache.index.evictions, 64 - 16);
	assert_int_equal(ferry_cache_used_bytes(&rig.cache), 16 * FERRY_CACHE_LINE_BYTES);
}

static void lost_writes_below_empty_it(void **state)
{
	(void)state;
	rig_write(&rig, 0, LINE);
	memset(rig.disk, 0x77, FERRY_CACHE_LINE_BYTES); /* The target came back without it. */
	rig.flush.losses_count++;
	assert_false(rig_read(&rig, 0, LINE));
	assert_true(rig_read(&rig, 0, LINE));
}

/* One write more that no FLUSH has covered, as the router counts. */
static void write_volatile(uint64_t lba)
{
	struct rig_io io;

	assert_int_equal(rig_submit(&rig, &io, FERRY_OP_WRITE, lba, LINE), 0);
	rig.flush.writes_done++;
	rig_end_all(&rig);
	rig_forget(&io);
}

/* The lun may lose it yet, and who had read it here would see it go. */
static void what_is_not_durable_is_not_served(void **state)
{
	(void)state;
	write_volatile(0);
	assert_false(rig_read(&rig, 0, LINE));
	assert_int_equal(rig.cache.stats.volatile_misses, 1);
	assert_false(rig_read(&rig, LINE, LINE)); /* Read, but perhaps not for long. */
	assert_false(rig_read(&rig, LINE, LINE));
	rig.flush.writes_flushed = 1;
	assert_true(rig_read(&rig, 0, LINE));
	assert_true(rig_read(&rig, LINE, LINE));
	assert_int_equal(rig.cache.stats.volatile_misses, 2);
}

static void it_flushes_for_who_only_reads(void **state)
{
	struct rig_io io;

	(void)state;
	write_volatile(0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(rig_submit(&rig, &io, FERRY_OP_READ, 0, LINE), 0);
		assert_int_equal(rig.below_count, i == 0 ? 2 : 1); /* Once a second. */
		if (i == 0)
			assert_int_equal(rig.below[0]->op, FERRY_OP_FLUSH);
		assert_int_equal(ferry_cache_is_idle(&rig.cache), i > 0);
		rig_end_all(&rig);
		rig_forget(&io);
	}
	rig_advance(&rig, FERRY_NS_PER_S);
	assert_int_equal(rig_submit(&rig, &io, FERRY_OP_READ, 0, LINE), 0);
	assert_int_equal(rig.below_count, 2);
	rig_end_all(&rig);
	rig_forget(&io);
}

/* Nor is it given to the next owner, nor kept for later: nobody asks for losses meanwhile. */
static void what_is_not_durable_does_not_move(void **state)
{
	struct ferry_cache_export export;

	(void)state;
	rig_write(&rig, 0, LINE);
	write_volatile(LINE);
	rig_view(&rig, 2, 2, false, true);
	rig.flush.writes_flushed = 1; /* Deposed, nobody expects it to be there any more. */
	assert_int_equal(ferry_cache_export(&rig.cache, &export), 0);
	assert_true(rig_has(&rig, 0));
	assert_false(rig_has(&rig, 1));
}

static void what_is_not_durable_does_not_return(void **state)
{
	(void)state;
	write_volatile(0);
	rig_view(&rig, 0, 1, false, true); /* Released. */
	rig.flush.writes_flushed = 1;
	rig_view(&rig, 1, 2, false, true);
	rig_view(&rig, 1, 2, true, true);
	assert_false(rig_has(&rig, 0));
	assert_false(rig_read(&rig, 0, LINE));
}

/* ---- Whose it is. ---- */

static void it_serves_only_the_owner_with_quorum(void **state)
{
	(void)state;
	rig_write(&rig, 0, LINE);
	rig_view(&rig, 0, 1, false, true); /* Released. */
	assert_int_equal(rig.cache.mode, FERRY_CACHE_HELD);
	assert_false(rig_read(&rig, 0, LINE));
	rig_view(&rig, 1, 2, false, true); /* Claimed anew, by itself: nobody was between. */
	assert_false(rig_read(&rig, 0, LINE));
	rig_view(&rig, 1, 2, true, true);
	assert_true(rig_read(&rig, 0, LINE));
	rig_view(&rig, 1, 2, true, false); /* With two nodes quorum may be on both sides. */
	assert_int_equal(rig.cache.mode, FERRY_CACHE_OFF);
	assert_int_equal(rig.cache.index.lines_count, 0);
	rig_view(&rig, 1, 2, true, true);
	assert_false(rig_read(&rig, 0, LINE));
	assert_true(rig_read(&rig, 0, LINE));
	rig.cache.config.is_majority_real = true;
	rig_view(&rig, 1, 2, true, false);
	assert_false(rig_read(&rig, 0, LINE));
	rig_view(&rig, 1, 2, true, true); /* The epoch is the same: nobody was between. */
	assert_true(rig_read(&rig, 0, LINE));
}

static void another_owner_empties_it(void **state)
{
	struct rig_io slow;

	(void)state;
	rig_write(&rig, 0, LINE);
	assert_int_equal(rig_submit(&rig, &slow, FERRY_OP_READ, 5 * LINE, LINE), 0);
	rig_land(&rig, 0, UINT32_MAX);
	rig_view(&rig, 2, 2, false, true);
	rig_view(&rig, 2, 2, true, true);
	memset(rig.disk, 0x33, sizeof(rig.disk)); /* The other writes. */
	rig_view(&rig, 0, 2, false, true);
	rig_view(&rig, 1, 3, false, true);
	rig_view(&rig, 1, 3, true, true);
	rig_end(&rig, 0, 0); /* What it brings is from the time before. */
	assert_false(rig_has(&rig, 5));
	assert_false(rig_read(&rig, 0, LINE));
	rig_forget(&slow);
}

static void a_gap_in_the_epochs_empties_it(void **state)
{
	(void)state;
	rig_write(&rig, 0, LINE);
	rig_view(&rig, 0, 1, false, true);
	memset(rig.disk, 0x33, sizeof(rig.disk)); /* Who owned 2, this node never heard. */
	rig_view(&rig, 1, 3, false, true);
	rig_view(&rig, 1, 3, true, true);
	assert_false(rig_has(&rig, 0));
	assert_int_equal(rig.cache.heritage.epoch.v, 0);
}

static void a_lost_registration_bars_it(void **state)
{
	(void)state;
	rig_write(&rig, 0, LINE);
	ferry_cache_bar(&rig.cache, true);
	assert_false(rig_has(&rig, 0));
	rig_view(&rig, 1, 1, true, true);
	assert_false(rig_read(&rig, 0, LINE));
	assert_false(rig_read(&rig, 0, LINE));
	ferry_cache_bar(&rig.cache, false);
	assert_false(rig_read(&rig, 0, LINE));
	assert_true(rig_read(&rig, 0, LINE));
	ferry_cache_bar(&rig.cache, true);
	rig_view(&rig, 1, 2, true, true); /* A new epoch, taken anew. */
	assert_false(rig_read(&rig, 0, LINE));
	assert_true(rig_read(&rig, 0, LINE));
}

static void heritage_skips_only_own_claims(void **state)
{
	(void)state;
	rig_view(&rig, 2, 2, true, true);
	assert_int_equal(rig.cache.heritage.owner.v, 1);
	rig_view(&rig, 0, 2, false, true);
	rig_view(&rig, 1, 3, false, true);
	assert_int_equal(rig.cache.heritage.owner.v, 2);
	assert_int_equal(rig.cache.heritage.epoch.v, 2);
	rig_view(&rig, 1, 4, false, true); /* Claimed again. */
	assert_int_equal(rig.cache.heritage.epoch.v, 2);
	rig_view(&rig, 1, 4, true, true);
	rig_view(&rig, 1, 5, false, true); /* 4 was in force: there may be writes. */
	assert_int_equal(rig.cache.heritage.epoch.v, 4);
	rig_view(&rig, 3, 6, false, true); /* Another's claim may have been in force. */
	rig_view(&rig, 1, 7, false, true);
	assert_int_equal(rig.cache.heritage.owner.v, 3);
}

/* ---- Moving. ---- */

static void it_is_exported_hottest_first(void **state)
{
	struct ferry_cache_export export;
	uint32_t heat_last = UINT32_MAX;
	uint32_t count = 0;

	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		for (uint32_t n = 0; n <= (i * 7) % 10; n++)
			rig_read(&rig, i * LINE, LINE);
	assert_int_equal(ferry_cache_export(&rig.cache, &export), -ENODATA); /* It serves. */
	rig_view(&rig, 2, 2, false, true);
	assert_int_equal(ferry_cache_export(&rig.cache, &export), 0);
	assert_int_equal(export.epoch.v, 1);
	for (uint32_t slot = ferry_cache_hottest(&rig.cache); slot != FERRY_INDEX_NONE;
	     slot = ferry_cache_cooler(&rig.cache, slot)) {
		uint32_t heat = rig.cache.index.lines[slot].heat;
		uint32_t class = heat == 0 ? 0 : 32 - (uint32_t)__builtin_clz(heat);

		assert_true(class <= heat_last);
		heat_last = class;
		count++;
	}
	assert_int_equal(count, 10);
	assert_int_equal(heat_last, 0);
}

static void import_takes_only_what_nobody_has_written(void **state)
{
	uint8_t *line = rig.disk;
	struct ferry_epoch epoch = {3};
	uint64_t begun;

	(void)state;
	assert_int_equal(ferry_cache_import_begin(&rig.cache, epoch, &begun), -EBUSY);
	rig_view(&rig, 2, 2, true, true);
	rig_view(&rig, 1, 3, false, true);
	assert_int_equal(ferry_cache_import_begin(&rig.cache, epoch, &begun), 0);
	assert_int_equal(ferry_cache_import(&rig.cache, epoch, begun, 0, 5, line), 0);
	assert_int_equal(ferry_cache_import(&rig.cache, epoch, begun, 0, 5, line), -EEXIST);
	assert_int_equal(ferry_cache_import(&rig.cache, epoch, begun, RIG_LINES, 5, line), -ERANGE);
	assert_int_equal(ferry_cache_import(&rig.cache, (struct ferry_epoch){2}, begun, 1, 5, line),
			 -ESTALE);
	rig_view(&rig, 1, 3, true, true); /* In force, and it goes on in the background. */
	assert_true(rig_read(&rig, 0, LINE));
	assert_int_equal(rig.cache.stats.warm_hits, 1);
	rig_write(&rig, 2 * LINE, 1);
	assert_int_equal(ferry_cache_import(&rig.cache, epoch, begun, 2, 5, line), -ESTALE);
	assert_int_equal(ferry_cache_import(&rig.cache, epoch, begun, 3, 70000,
					    line + 3 * FERRY_CACHE_LINE_BYTES),
			 0);
	assert_true(rig_has(&rig, 3));
	assert_int_equal(rig.cache.index.warm_count, 2);
	for (uint64_t i = 10; i < 24; i++)
		assert_int_equal(ferry_cache_import(&rig.cache, epoch, begun, i, 1, line), 0);
	assert_int_equal(ferry_cache_import(&rig.cache, epoch, begun, 30, 1, line), -ENOSPC);
	rig.flush.losses_count++;
	assert_int_equal(ferry_cache_import(&rig.cache, epoch, begun, 31, 1, line), -ESTALE);
}

/* ---- Against a model. ---- */

struct chaos {
	struct ferry_prng prng;
	struct rig_io ios[24];
	struct rig_io ghosts[4]; /* Writes that were given up on and may land. */
	uint64_t epoch;
	uint32_t owner;
};

static void chaos_submit(struct chaos *chaos)
{
	static const enum ferry_op ops[] = {
		FERRY_OP_READ,	FERRY_OP_READ,	  FERRY_OP_READ,
		FERRY_OP_WRITE, FERRY_OP_WRITE,	  FERRY_OP_WRITE,
		FERRY_OP_FLUSH, FERRY_OP_DISCARD, FERRY_OP_WRITE_ZEROES};
	struct rig_io *io = &chaos->ios[ferry_prng_below(&chaos->prng, 24)];
	enum ferry_op op = ops[ferry_prng_below(&chaos->prng, FERRY_ARRAY_COUNT(ops))];
	uint64_t lba = ferry_prng_below(&chaos->prng, CHAOS_LINES * LINE);
	uint32_t length =
		(uint32_t)(1 + ferry_prng_below(&chaos->prng, op == FERRY_OP_READ ? 9 : 3 * LINE));

	if (io->is_busy)
		return;
	if (ferry_prng_below(&chaos->prng, 2) == 0) { /* Half of them whole lines. */
		lba = lba / LINE * LINE;
		length = (length + LINE - 1) / LINE * LINE;
	}
	if (chaos->owner != 1 && ferry_op_changes_blocks(op))
		return; /* The router would hold it. */
	if (op == FERRY_OP_FLUSH)
		lba = length = 0;
	(void)rig_submit(&rig, io, op, lba, length); /* -EAGAIN is an answer too. */
}

static void chaos_ghost_land(struct chaos *chaos)
{
	struct rig_io *ghost = &chaos->ghosts[ferry_prng_below(&chaos->prng, 4)];

	if (!ghost->is_busy)
		return;
	if (ferry_prng_below(&chaos->prng, 2))
		ferry_segments_read(&ghost->io.segments, 0,
				    rig.disk + ghost->io.lba.v * RIG_BLOCK_BYTES,
				    ghost->io.length_blocks * RIG_BLOCK_BYTES);
	if (ferry_prng_below(&chaos->prng, 2))
		return; /* Landed, or not yet, and nobody knows. */
	rig.ghosts_count--;
	rig_forget(ghost);
}

/* A write ends with an error while its ghost lives. */
static void chaos_ghost_make(struct chaos *chaos, uint32_t which)
{
	struct rig_io *ghost = &chaos->ghosts[ferry_prng_below(&chaos->prng, 4)];
	const struct ferry_io *io = rig.below[which];

	if (ghost->is_busy || io->op != FERRY_OP_WRITE)
		return;
	*ghost = (struct rig_io){.is_busy = true};
	ghost->io.lba = io->lba;
	ghost->io.length_blocks = io->length_blocks;
	ferry_segments_share(&io->segments, &ghost->io.segments);
	rig.ghosts_count++;
	rig_end(&rig, which, -ETIMEDOUT);
}

static bool overlaps_ghost(const struct chaos *chaos, const struct ferry_io *io)
{
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(chaos->ghosts); i++)
		if (chaos->ghosts[i].is_busy && ferry_op_changes_blocks(io->op) &&
		    io->lba.v < chaos->ghosts[i].io.lba.v + chaos->ghosts[i].io.length_blocks &&
		    chaos->ghosts[i].io.lba.v < io->lba.v + io->length_blocks)
			return true;
	return false;
}

static void chaos_below(struct chaos *chaos)
{
	uint64_t what;
	uint32_t which;

	if (rig.below_count == 0)
		return;
	which = (uint32_t)ferry_prng_below(&chaos->prng, rig.below_count);
	if (overlaps_ghost(chaos, rig.below[which]))
		return; /* Rule 4. */
	what = ferry_prng_below(&chaos->prng, 64);
	if (what == 0) {
		chaos_ghost_make(chaos, which);
	} else if (what < 3) { /* FAILED, proven: some blocks are new. */
		rig_land(&rig, which, (uint32_t)ferry_prng_below(&chaos->prng, 9));
		rig_end(&rig, which, -EIO);
	} else if (what < 24) {
		rig_land(&rig, which, (uint32_t)ferry_prng_below(&chaos->prng, 9));
	} else {
		rig_end(&rig, which, 0);
	}
}

static void chaos_own(struct chaos *chaos)
{
	bool has_ghosts = rig.ghosts_count > 0;

	for (uint32_t i = 0; i < rig.below_count; i++)
		has_ghosts |= ferry_op_changes_blocks(rig.below[i]->op);
	if (ferry_prng_below(&chaos->prng, 50) == 0) {
		rig.flush.losses_count++; /* Some block goes back to what it was. */
		memset(rig.disk + ferry_prng_below(&chaos->prng, CHAOS_LINES) * 4096, 0x10, 512);
		return;
	}
	if (ferry_prng_below(&chaos->prng, 3) == 0) {
		rig_view(&rig, chaos->owner, chaos->epoch, true, false);
		rig_view(&rig, chaos->owner, chaos->epoch, true, true);
		return;
	}
	if (chaos->owner == 1 && has_ghosts)
		return; /* It hands over only when quiet. */
	chaos->owner = (uint32_t)(1 + ferry_prng_below(&chaos->prng, 2));
	chaos->epoch++;
	rig_view(&rig, chaos->owner, chaos->epoch, false, true);
	rig_view(&rig, chaos->owner, chaos->epoch, true, true);
	if (chaos->owner != 1)
		memset(rig.disk + ferry_prng_below(&chaos->prng, CHAOS_LINES) * 4096,
		       (int)chaos->epoch & 0xff, 4096);
}

/* What is in the cache while it serves is what is on the disk, always. */
static void chaos_check(struct chaos *chaos)
{
	if (rig.cache.losses_seen == rig.flush.losses_count &&
	    rig.cache.mode == FERRY_CACHE_SERVING)
		for (uint64_t i = 0; i < CHAOS_LINES + 4; i++)
			(void)rig_has(&rig, i);
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(chaos->ios); i++)
		if (chaos->ios[i].is_busy && chaos->ios[i].is_done)
			rig_forget(&chaos->ios[i]);
}

static void chaos_run(uint64_t seed, uint64_t *hits)
{
	static struct chaos chaos;

	rig_open(&rig, 12, 16);
	chaos = (struct chaos){.prng = {seed}, .epoch = 1, .owner = 1};
	rig.cache.config.is_majority_real = seed % 2;
	for (uint32_t i = 0; i < 20000; i++) {
		uint64_t what = ferry_prng_below(&chaos.prng, 1000);

		if (what < 400)
			chaos_submit(&chaos);
		else if (what < 850)
			chaos_below(&chaos);
		else if (what < 900)
			chaos_ghost_land(&chaos);
		else if (what < 995)
			rig_run_tasks(&rig);
		else
			chaos_own(&chaos);
		chaos_check(&chaos);
	}
	*hits += rig.cache.stats.hits;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(chaos.ghosts); i++)
		if (chaos.ghosts[i].is_busy)
			rig_forget(&chaos.ghosts[i]);
	rig_end_all(&rig);
	chaos_check(&chaos);
	rig_close(&rig);
}

static void what_it_holds_is_what_is_on_the_disk(void **state)
{
	uint64_t hits = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++)
		chaos_run(seed, &hits);
	assert_true(hits > 10000);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(reads_hit_what_was_read),
		T(hit_is_never_from_inside),
		T(slow_read_overtaken_by_a_write_does_not_fill),
		T(read_during_a_write_does_not_fill),
		T(writes_populate_whole_lines_when_done),
		T(overlapping_writes_do_not_populate),
		T(discard_and_zeroes_invalidate),
		T(failed_write_stays_out_until_its_ghost_is_laid),
		T(read_begun_before_the_laying_does_not_fill),
		T(too_many_doubts_stop_it_until_they_are_over),
		T(refusals_below_are_passed_on),
		T(without_tickets_reads_pass_and_writes_wait),
		T(no_buffer_makes_a_miss),
		T(memory_is_bounded_and_the_used_stays),
		T(lost_writes_below_empty_it),
		T(what_is_not_durable_is_not_served),
		T(it_flushes_for_who_only_reads),
		T(what_is_not_durable_does_not_move),
		T(what_is_not_durable_does_not_return),
		T(it_serves_only_the_owner_with_quorum),
		T(another_owner_empties_it),
		T(a_gap_in_the_epochs_empties_it),
		T(a_lost_registration_bars_it),
		T(heritage_skips_only_own_claims),
		T(it_is_exported_hottest_first),
		T(import_takes_only_what_nobody_has_written),
		cmocka_unit_test(what_it_holds_is_what_is_on_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
