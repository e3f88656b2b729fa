#include "migrate/warm.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "agent/cache/rig.h"

enum { LINE = RIG_LINE_BLOCKS, LINES = 400 };

static struct rig source; /* Node 1, the last owner. */
static struct rig target; /* Node 2. */

static const struct ferry_warm_name source_name = {{{1}}, {{2}}, {1}, {10}};
static const struct ferry_warm_name target_name = {{{1}}, {{2}}, {2}, {20}};

/* The source has owned epoch 1; the target has claimed 2, and the source knows. */
static int setup(void **state)
{
	(void)state;
	rig_open(&source, LINES, 32);
	rig_open(&target, LINES, 32);
	target.cache.config.self.v = 2;
	for (uint32_t i = 0; i < 300; i++) {
		rig_write(&source, i * LINE, LINE);
		rig_write(&target, i * LINE, LINE); /* The same lun: the same content. */
	}
	for (uint32_t i = 0; i < 300; i += 3)
		rig_read(&source, i * LINE, LINE);
	memcpy(target.disk, source.disk, sizeof(target.disk));
	rig_view(&source, 2, 2, false, true);
	rig_view(&target, 2, 2, false, true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_close(&source);
	rig_close(&target);
	return 0;
}

static int move_part(struct ferry_warm_import *import, uint64_t *cursor, struct ferry_error *why)
{
	struct ferry_segments part;
	int r;

	assert_int_equal(
		ferry_warm_export(&source.cache, &source_name, *cursor, &source.arena, &part), 0);
	r = ferry_warm_import_part(import, &part, cursor, why);
	ferry_segments_drop(&part);
	return r;
}

static void begin(struct ferry_warm_import *import)
{
	assert_int_equal(ferry_warm_import_begin(import, &target.cache, &target_name,
						 (struct ferry_epoch){2}),
			 0);
}

static void all_of_it_moves_the_hottest_first(void **state)
{
	struct ferry_warm_import import;
	struct ferry_error why;
	uint64_t cursor = 0;

	(void)state;
	begin(&import);
	assert_int_equal(move_part(&import, &cursor, &why), 0);
	assert_int_equal(import.lines_count, FERRY_WARM_LINES_PER_PART);
	assert_int_not_equal(cursor, 0);
	for (uint64_t i = 0; i < 300; i += 3) /* What was read is in the first part. */
		assert_true(rig_has(&target, i));
	assert_int_equal(move_part(&import, &cursor, &why), 0);
	assert_int_equal(cursor, 0);
	assert_int_equal(import.lines_count, 300);
	rig_view(&target, 2, 2, true, true);
	for (uint64_t i = 0; i < 300; i++)
		assert_true(rig_read(&target, i * LINE, LINE));
	assert_int_equal(target.cache.stats.warm_hits, 300);
	assert_int_equal(target.cache.stats.drops, 1); /* Its own old lines, before. */
}

static void what_the_target_wrote_since_is_refused(void **state)
{
	struct ferry_warm_import import;
	struct ferry_error why;
	uint64_t cursor = 0;

	(void)state;
	begin(&import);
	rig_view(&target, 2, 2, true, true); /* In force: it comes in the background. */
	rig_write(&target, 0, 2);
	rig_write(&target, 3 * LINE, LINE);
	assert_int_equal(move_part(&import, &cursor, &why), 0);
	assert_int_equal(move_part(&import, &cursor, &why), 0);
	assert_false(rig_has(&target, 0));
	for (uint64_t i = 0; i < 300; i++)
		(void)rig_has(&target, i); /* As on the target's disk. */
	assert_int_equal(import.refused_count, 2);
}

static void in_flight_at_the_claim_is_left_out(void **state)
{
	struct ferry_warm_import import;
	struct rig_io write;
	struct ferry_error why;
	uint64_t cursor = 0;

	(void)state;
	rig_view(&source, 1, 3, true, true);
	rig_write(&source, 401 * LINE, LINE);
	assert_int_equal(rig_submit(&source, &write, FERRY_OP_WRITE, 400 * LINE, LINE), 0);
	rig_view(&source, 2, 4, false, true);
	rig_view(&target, 1, 3, true, true);
	rig_view(&target, 2, 4, false, true);
	rig_end(&source, 0, 0);
	rig_forget(&write);
	assert_int_equal(ferry_warm_import_begin(&import, &target.cache, &target_name,
						 (struct ferry_epoch){4}),
			 0);
	(void)move_part(&import, &cursor, &why);
	assert_int_equal(import.lines_count, 1);
	assert_int_equal(ferry_index_find(&target.cache.index, 400), FERRY_INDEX_NONE);
}

/* Each in turn is not what it should be. */
static void only_the_last_owners_own_is_believed(void **state)
{
	struct ferry_warm_name names[] = {source_name, source_name, source_name};
	static const char *const words[] = {"lun", "lineage", "owner"};
	struct ferry_warm_import import;
	struct ferry_segments part;
	struct ferry_error why;
	uint64_t cursor;

	(void)state;
	names[0].lun.bytes[15] = 1;
	names[1].lineage.bytes[15] = 1;
	names[2].node.v = 3;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(names); i++) {
		begin(&import);
		assert_int_equal(
			ferry_warm_export(&source.cache, &names[i], 0, &source.arena, &part), 0);
		assert_int_equal(ferry_warm_import_part(&import, &part, &cursor, &why), -ESTALE);
		assert_non_null(strstr(why.message, words[i]));
		assert_int_equal(target.cache.index.lines_count, 0);
		ferry_segments_drop(&part);
	}
	begin(&import);
	source.cache.epoch.v = 7; /* Not the epoch before. */
	cursor = 0;
	assert_int_equal(move_part(&import, &cursor, &why), -ESTALE);
	assert_non_null(strstr(why.message, "epoch"));
	assert_int_equal(target.cache.index.lines_count, 0);
}

static void nobody_to_ask_is_a_cold_start(void **state)
{
	struct ferry_warm_import import;

	(void)state;
	/* Overtaken: not this claim. */
	assert_int_equal(ferry_warm_import_begin(&import, &target.cache, &target_name,
						 (struct ferry_epoch){3}),
			 -ENODATA);
	/* A gap: somebody has had 3, and nobody says who. */
	rig_view(&target, 2, 4, false, true);
	assert_int_equal(ferry_warm_import_begin(&import, &target.cache, &target_name,
						 (struct ferry_epoch){4}),
			 -ENODATA);
	/* Own lines are better than anybody's. */
	rig_view(&target, 2, 4, true, true);
	rig_view(&target, 0, 4, false, true);
	rig_view(&target, 2, 5, false, true);
	assert_int_equal(ferry_warm_import_begin(&import, &target.cache, &target_name,
						 (struct ferry_epoch){5}),
			 -EALREADY);
}

static void a_source_that_moves_on_is_not_believed(void **state)
{
	struct ferry_warm_import import;
	struct ferry_error why;
	uint64_t cursor = 0;

	(void)state;
	begin(&import);
	assert_int_equal(move_part(&import, &cursor, &why), 0);
	source.cache.writes_count++;
	assert_int_equal(move_part(&import, &cursor, &why), -ESTALE);
	assert_int_equal(target.cache.index.lines_count, 0); /* Nor what came before. */
}

static void damage_is_refused_whole(void **state)
{
	struct ferry_warm_import import;
	struct ferry_segments part, cut;
	struct ferry_error why;
	uint64_t cursor;

	(void)state;
	assert_int_equal(ferry_warm_export(&source.cache, &source_name, 0, &source.arena, &part),
			 0);
	for (uint32_t at = 0; at < part.length_bytes; at += 1009) {
		uint8_t *byte = &part.v[at / FERRY_CHUNK_BYTES].chunk->data[at % FERRY_CHUNK_BYTES];

		begin(&import);
		*byte ^= 4;
		assert_true(ferry_warm_import_part(&import, &part, &cursor, &why) < 0);
		assert_int_equal(target.cache.index.lines_count, 0);
		*byte ^= 4;
	}
	for (uint32_t chunks = 1; chunks < part.count; chunks++) { /* Truncated. */
		cut = part;
		cut.count = chunks;
		cut.length_bytes = chunks * FERRY_CHUNK_BYTES;
		begin(&import);
		assert_true(ferry_warm_import_part(&import, &cut, &cursor, &why) < 0);
		assert_int_equal(target.cache.index.lines_count, 0);
	}
	cut = part; /* Whole frames, and no END. */
	cut.length_bytes -= FERRY_STREAM_END_BYTES;
	cut.v[cut.count - 1].length_bytes -= FERRY_STREAM_END_BYTES;
	begin(&import);
	assert_int_equal(ferry_warm_import_part(&import, &cut, &cursor, &why), -EPROTO);
	assert_int_equal(target.cache.index.lines_count, 0);
	begin(&import);
	assert_int_equal(ferry_warm_import_part(&import, &part, &cursor, &why), 0);
	ferry_segments_drop(&part);
}

static void a_strange_cursor_is_refused(void **state)
{
	static const uint64_t cursors[] = {301, 1000, UINT32_MAX, UINT64_MAX};
	struct ferry_segments part;

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cursors); i++)
		assert_int_equal(ferry_warm_export(&source.cache, &source_name, cursors[i],
						   &source.arena, &part),
				 -EINVAL);
	rig_view(&source, 1, 3, true, true);
	assert_int_equal(ferry_warm_export(&source.cache, &source_name, 0, &source.arena, &part),
			 -ENODATA);
}

static void more_than_fits_is_left(void **state)
{
	struct ferry_warm_import import;
	struct ferry_error why;
	uint64_t cursor = 0;

	(void)state;
	rig_close(&target);
	rig_open(&target, 100, 32);
	target.cache.config.self.v = 2;
	memcpy(target.disk, source.disk, sizeof(target.disk));
	rig_view(&target, 2, 2, false, true);
	begin(&import);
	assert_int_equal(move_part(&import, &cursor, &why), 0);
	assert_int_equal(import.lines_count, 100);
	for (uint64_t i = 0; i < 300; i += 3)
		assert_true(rig_has(&target, i)); /* The hot ones. */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(all_of_it_moves_the_hottest_first),
		T(what_the_target_wrote_since_is_refused),
		T(in_flight_at_the_claim_is_left_out),
		T(only_the_last_owners_own_is_believed),
		T(nobody_to_ask_is_a_cold_start),
		T(a_source_that_moves_on_is_not_believed),
		T(damage_is_refused_whole),
		T(a_strange_cursor_is_refused),
		T(more_than_fits_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
