/* Histories that a disk could have had, and such that none could. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/check/check.h"

enum { SECTORS = 8, ENTRIES = 64 };

static struct ferry_check check;
static struct ferry_check_io ios[16];
static struct ferry_check_finding finding;

static int setup(void **state)
{
	static uint8_t memory[64 * 1024] __attribute__((aligned(64)));
	const struct ferry_check_config config = {.sectors_count = SECTORS, .entries_max = ENTRIES};
	struct ferry_region region;

	(void)state;
	assert_true(ferry_check_memory_bytes(&config) <= sizeof(memory));
	ferry_region_init(&region, memory, ferry_check_memory_bytes(&config));
	return ferry_check_init(&check, &region, &config);
}

static int begin_flags(uint32_t i, enum ferry_op op, uint64_t sector, uint32_t flags)
{
	ios[i] = (struct ferry_check_io){
		.op = op, .flags = flags, .sector = op == FERRY_OP_FLUSH ? 0 : sector};
	ios[i].sectors_count = op == FERRY_OP_FLUSH ? 0 : 1;
	return ferry_check_begin(&check, &ios[i]);
}

static void begin(uint32_t i, enum ferry_op op, uint64_t sector)
{
	assert_int_equal(begin_flags(i, op, sector, 0), 0);
}

static void end(uint32_t i, int error)
{
	ferry_check_end(&check, &ios[i], error);
}

/* A write to sector 0 from start to end; its tag. */
static uint64_t whole_write(int error)
{
	begin(15, FERRY_OP_WRITE, 0);
	end(15, error);
	return ios[15].tag;
}

static void flush(int error)
{
	begin(15, FERRY_OP_FLUSH, 0);
	end(15, error);
}

/* What @i, a read that runs, says of sector 0 having returned @tag. */
static enum ferry_check_verdict sees(uint32_t i, uint64_t tag)
{
	uint8_t bytes[FERRY_CHECK_SECTOR_BYTES];

	ferry_check_encode(tag, 0, bytes);
	return ferry_check_sector(&check, &ios[i], 0, bytes, &finding);
}

static enum ferry_check_verdict whole_read(uint64_t tag)
{
	enum ferry_check_verdict verdict;

	begin(14, FERRY_OP_READ, 0);
	verdict = sees(14, tag);
	end(14, 0);
	return verdict;
}

#define FINE(verdict) assert_int_equal(verdict, FERRY_CHECK_FINE)
#define STALE(verdict) assert_int_equal(verdict, FERRY_CHECK_IS_STALE)
#define LOST(verdict) assert_int_equal(verdict, FERRY_CHECK_IS_LOST)

/* ---- Sectors. ---- */

static void test_sectors(void **state)
{
	uint8_t bytes[FERRY_CHECK_SECTOR_BYTES];
	uint64_t tag;
	uint64_t sector;

	(void)state;
	ferry_check_encode(0, 3, bytes);
	assert_int_equal(ferry_check_decode(bytes, 5, &tag, &sector), FERRY_CHECK_ZEROES);
	ferry_check_encode(7, 3, bytes);
	assert_int_equal(ferry_check_decode(bytes, 3, &tag, &sector), FERRY_CHECK_TAGGED);
	assert_int_equal(tag, 7);
	assert_int_equal(ferry_check_decode(bytes, 4, &tag, &sector), FERRY_CHECK_MISPLACED);
	assert_int_equal(sector, 3);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] ^= 0x10;
		assert_int_equal(ferry_check_decode(bytes, 3, &tag, &sector), FERRY_CHECK_TORN);
		bytes[i] ^= 0x10;
	}
	memset(bytes, 0, sizeof(bytes) / 2);
	assert_int_equal(ferry_check_decode(bytes, 3, &tag, &sector), FERRY_CHECK_TORN);
	memset(bytes, 0xdb, sizeof(bytes));
	assert_int_equal(ferry_check_decode(bytes, 3, &tag, &sector), FERRY_CHECK_TORN);
}

static void test_sectors_read(void **state)
{
	uint8_t bytes[FERRY_CHECK_SECTOR_BYTES] = {1};
	char text[128];

	(void)state;
	begin(0, FERRY_OP_READ, 0);
	assert_int_equal(ferry_check_sector(&check, &ios[0], 0, bytes, &finding),
			 FERRY_CHECK_IS_TORN);
	ferry_check_encode(9, 1, bytes);
	assert_int_equal(ferry_check_sector(&check, &ios[0], 0, bytes, &finding),
			 FERRY_CHECK_IS_MISPLACED);
	assert_int_equal(finding.other, 1);
	ferry_check_describe(&finding, text, sizeof(text));
	assert_string_equal(text, "sector 0 returned write 9 of sector 1");
	assert_int_equal(sees(0, 9), FERRY_CHECK_IS_ALIEN);
	FINE(sees(0, 0));
	end(0, 0);
}

/* ---- A register. ---- */

static void test_acknowledged(void **state)
{
	uint64_t old = whole_write(0);
	uint64_t new = whole_write(0);

	(void)state;
	FINE(whole_read(new));
	STALE(whole_read(old));
	assert_int_equal(finding.other, new);
	STALE(whole_read(0));
}

static void test_overlapping_in_time(void **state)
{
	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	begin(1, FERRY_OP_WRITE, 0);
	begin(2, FERRY_OP_READ, 0); /* Sees any of three. */
	FINE(sees(2, 0));
	FINE(sees(2, ios[0].tag));
	FINE(sees(2, ios[1].tag));
	end(2, 0);
	end(0, 0);
	end(1, 0);
	FINE(whole_read(ios[0].tag));  /* The first has won... */
	STALE(whole_read(ios[1].tag)); /* ...so the second does not come back. */
	STALE(whole_read(0));
}

static void test_seen_is_seen(void **state)
{
	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	FINE(whole_read(0));
	FINE(whole_read(ios[0].tag));
	STALE(whole_read(0));
	end(0, -ETIMEDOUT); /* An error does not take it back. */
	STALE(whole_read(0));
}

static void test_failed(void **state)
{
	uint64_t failed = whole_write(-ETIMEDOUT);
	uint64_t new;

	(void)state;
	FINE(whole_read(0));
	FINE(whole_read(failed)); /* It has landed late... */
	new = whole_write(0);
	STALE(whole_read(failed)); /* ...but may not over newer data. */
	FINE(whole_read(new));
}

static void test_read_that_began_before(void **state)
{
	uint64_t old = whole_write(0);

	(void)state;
	begin(0, FERRY_OP_READ, 0);
	(void)whole_write(0);
	FINE(sees(0, old));
	end(0, 0);
	STALE(whole_read(old));
}

static void test_zeroes_and_discard(void **state)
{
	uint64_t old = whole_write(0);
	uint64_t new;

	(void)state;
	begin(0, FERRY_OP_DISCARD, 0);
	end(0, 0);
	FINE(whole_read(old));
	FINE(whole_read(0));
	FINE(whole_read(old));
	assert_int_equal(whole_read(99), FERRY_CHECK_IS_ALIEN);
	new = whole_write(0);
	STALE(whole_read(0));
	STALE(whole_read(old));
	begin(0, FERRY_OP_WRITE_ZEROES, 0);
	end(0, 0);
	FINE(whole_read(0));
	STALE(whole_read(new));
}

static void test_cancelled(void **state)
{
	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	ferry_check_cancel(&check, &ios[0]);
	assert_int_equal(whole_read(ios[0].tag), FERRY_CHECK_IS_ALIEN);
	assert_int_equal(check.entries_used, SECTORS);
}

/* ---- Durability. ---- */

static void test_loss_before_flush(void **state)
{
	uint64_t first = whole_write(0);
	uint64_t second = whole_write(0);

	(void)state;
	ferry_check_lost(&check);
	begin(0, FERRY_OP_READ, 0); /* Anything since the last durable one... */
	FINE(sees(0, second));
	end(0, 0);
	STALE(whole_read(first)); /* ...until it has been seen. */

	first = whole_write(0);
	second = whole_write(0);
	ferry_check_lost(&check);
	FINE(whole_read(0));
	STALE(whole_read(second)); /* What was lost does not come back. */
	STALE(whole_read(first));
}

static void test_flushed(void **state)
{
	uint64_t old = whole_write(0);
	uint64_t flushed = whole_write(0);
	uint64_t new;

	(void)state;
	begin(0, FERRY_OP_READ, 0); /* So that all of it is remembered. */
	flush(0);
	new = whole_write(0);
	ferry_check_lost(&check);
	LOST(whole_read(old));
	LOST(whole_read(0));
	FINE(whole_read(flushed));
	STALE(whole_read(new));
}

static void test_fua(void **state)
{
	uint64_t old = whole_write(0);

	(void)state;
	assert_int_equal(begin_flags(0, FERRY_OP_WRITE, 0, FERRY_IO_FUA), 0);
	end(0, 0);
	ferry_check_lost(&check);
	LOST(whole_read(old));
	FINE(whole_read(ios[0].tag));
}

static void test_flush_covers_what_was_over(void **state)
{
	(void)state;
	begin(0, FERRY_OP_FLUSH, 0);
	(void)whole_write(0); /* Not before it began: no promise. */
	end(0, 0);
	ferry_check_lost(&check);
	FINE(whole_read(0));

	(void)whole_write(0);
	flush(-EIO); /* Nor is that one. */
	ferry_check_lost(&check);
	FINE(whole_read(0));
}

/* Whoever says that all is durable has to know of the loss. */
static void test_forgotten_loss(void **state)
{
	uint64_t tag = whole_write(0);

	(void)state;
	ferry_check_lost(&check);
	flush(0);
	LOST(whole_read(0));
	FINE(whole_read(tag)); /* It could have survived: then all is well. */
}

static void test_error_is_not_enough(void **state)
{
	(void)state;
	(void)whole_write(0);
	ferry_check_lost(&check);
	flush(-EIO);
	flush(0); /* Nobody has cleared it: rule 11. */
	LOST(whole_read(0));
}

static void test_forgiven(void **state)
{
	uint64_t later;

	(void)state;
	(void)whole_write(0);
	ferry_check_lost(&check);
	flush(-EIO);
	later = whole_write(0); /* After the loss: owed as ever. */
	ferry_check_forgive(&check);
	flush(0);
	FINE(whole_read(later));
	LOST(whole_read(0));

	(void)setup(state);
	(void)whole_write(0);
	ferry_check_lost(&check);
	flush(-EIO);
	ferry_check_forgive(&check);
	flush(0);
	FINE(whole_read(0));
}

/* Told of by one that another had replaced meanwhile: that one's FLUSH does not speak of it. */
static void test_acknowledged_of_the_past(void **state)
{
	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	ferry_check_lost(&check);
	ios[0].is_of_the_past = true;
	end(0, 0);
	flush(0);
	FINE(whole_read(0));
	assert_int_equal(check.sectors_past, 1);

	(void)setup(state); /* It may be there as well; and once it was seen, it is owed. */
	begin(0, FERRY_OP_WRITE, 0);
	ferry_check_lost(&check);
	ios[0].is_of_the_past = true;
	end(0, 0);
	FINE(whole_read(ios[0].tag));
	flush(0);
	LOST(whole_read(0));
}

/* Without a loss, with FUA, or by one that may know, it binds as any other does. */
static void test_acknowledged_of_the_past_in_vain(void **state)
{
	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	ios[0].is_of_the_past = true;
	end(0, 0);
	flush(0);
	LOST(whole_read(0));

	(void)setup(state);
	assert_int_equal(begin_flags(0, FERRY_OP_WRITE, 0, FERRY_IO_FUA), 0);
	ferry_check_lost(&check);
	ios[0].is_of_the_past = true;
	end(0, 0);
	LOST(whole_read(0));

	(void)setup(state);
	begin(0, FERRY_OP_WRITE, 0);
	ferry_check_lost(&check);
	end(0, 0);
	flush(0);
	LOST(whole_read(0));
	assert_int_equal(check.sectors_past, 0);
}

/* Nothing is forgiven before it was lost. */
static void test_forgiven_too_early(void **state)
{
	(void)state;
	(void)whole_write(0);
	ferry_check_forgive(&check);
	ferry_check_lost(&check);
	flush(0);
	LOST(whole_read(0));
}

/* Acknowledged after the loss, but begun before it: the answer may be older than the loss. */
static void test_in_flight_at_the_loss(void **state)
{
	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	begin(1, FERRY_OP_READ, 0);
	ferry_check_lost(&check);
	end(0, 0);
	FINE(sees(1, ios[0].tag)); /* What a read saw then says nothing of now. */
	end(1, 0);
	FINE(whole_read(0));

	(void)setup(state);
	begin(0, FERRY_OP_WRITE, 0);
	ferry_check_lost(&check);
	end(0, 0);
	flush(0);
	LOST(whole_read(0));
}

static void test_seen_then_flushed(void **state)
{
	uint64_t failed = whole_write(-ETIMEDOUT);

	(void)state;
	FINE(whole_read(failed));
	flush(0);
	ferry_check_lost(&check);
	LOST(whole_read(0));

	(void)setup(state);
	(void)whole_write(-ETIMEDOUT);
	flush(0); /* Nobody has promised that one. */
	ferry_check_lost(&check);
	FINE(whole_read(0));
}

/* ---- Bounds. ---- */

/*
 * A write that is tried twice lands, is flushed, is overtaken by one that is durable at once, and
 * lands again: what a lost cache takes back is the second time only.
 */
static void test_landed_twice(void **state)
{
	uint64_t twice, between;

	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	twice = ios[0].tag;
	assert_int_equal(whole_read(twice), FERRY_CHECK_FINE);
	flush(0);
	assert_int_equal(begin_flags(1, FERRY_OP_WRITE, 0, FERRY_IO_FUA), 0);
	between = ios[1].tag;
	end(1, 0);
	assert_int_equal(whole_read(between), FERRY_CHECK_FINE);
	assert_int_equal(whole_read(twice), FERRY_CHECK_FINE);
	assert_int_equal(whole_read(between), FERRY_CHECK_IS_STALE);
	ferry_check_lost(&check);
	assert_int_equal(whole_read(between), FERRY_CHECK_FINE);
	/* What was there before both is not even then. */
	assert_int_equal(whole_read(0), FERRY_CHECK_IS_LOST);
	end(0, -ESHUTDOWN);
}

static void test_read_of_the_past(void **state)
{
	uint64_t held, other;

	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	held = ios[0].tag;
	other = whole_write(0);
	end(0, 0);
	/* A node that was deposed answers from its cache, and does not know of the other. */
	begin(1, FERRY_OP_READ, 0);
	ios[1].is_of_the_past = true;
	assert_int_equal(sees(1, other), FERRY_CHECK_FINE);
	end(1, 0);
	assert_int_equal(whole_read(held), FERRY_CHECK_FINE);
	assert_int_equal(whole_read(other), FERRY_CHECK_IS_STALE);
}

static void test_entries_are_cut(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 10 * ENTRIES; i++) {
		if (begin_flags(0, FERRY_OP_WRITE, i % SECTORS, 0) == -ENOSPC) {
			flush(0);
			begin(0, FERRY_OP_WRITE, i % SECTORS);
		}
		end(0, 0);
	}
	flush(0);
	assert_int_equal(begin_flags(1, FERRY_OP_READ, 0, 0), 0); /* It may still see the old. */
	for (uint32_t i = 0; i < ENTRIES; i++)
		if (begin_flags(0, FERRY_OP_WRITE, 0, FERRY_IO_FUA) == 0)
			end(0, 0);
	assert_int_equal(begin_flags(0, FERRY_OP_WRITE, 0, FERRY_IO_FUA), -ENOSPC);
	end(1, 0);
	assert_int_equal(begin_flags(0, FERRY_OP_WRITE, 0, FERRY_IO_FUA), 0);
	end(0, 0);
	FINE(whole_read(ios[0].tag));
}

/* The first half of write @first, the second of @second, as @i, a read that runs, saw it. */
static enum ferry_check_verdict sees_both(uint32_t i, uint64_t first, uint64_t second)
{
	uint8_t bytes[FERRY_CHECK_SECTOR_BYTES];
	uint8_t other[FERRY_CHECK_SECTOR_BYTES];

	ferry_check_encode(first, 0, bytes);
	ferry_check_encode(second, 0, other);
	memcpy(bytes + sizeof(bytes) / 2, other + sizeof(other) / 2, sizeof(bytes) / 2);
	return ferry_check_sector(&check, &ios[i], 0, bytes, &finding);
}

#define TORN(verdict) assert_int_equal(verdict, FERRY_CHECK_IS_TORN)

static void test_storage_that_tears(void **state)
{
	uint64_t replaced = whole_write(0);
	uint64_t old = whole_write(0);

	(void)state;
	begin(0, FERRY_OP_WRITE, 0);
	begin(1, FERRY_OP_READ, 0);
	TORN(sees_both(1, ios[0].tag, old)); /* A disk. */
	check.config.storage_tears = true;
	FINE(sees_both(1, ios[0].tag, old));
	FINE(sees_both(1, old, ios[0].tag));
	assert_int_equal(check.sectors_mixed, 2);
	TORN(sees_both(1, ios[0].tag, replaced));
	TORN(sees_both(1, ios[0].tag, 1000)); /* That nobody wrote. */
	end(0, 0);
	FINE(sees_both(1, ios[0].tag, old)); /* It ran when the read began. */
	FINE(whole_read(ios[0].tag));
	end(1, 0);
	begin(1, FERRY_OP_READ, 0);
	TORN(sees_both(1, ios[0].tag, old)); /* Over, and nothing is half of it. */
	end(1, 0);
	begin(2, FERRY_OP_WRITE, 0);
	end(2, -EIO);
	begin(1, FERRY_OP_READ, 0);
	FINE(sees_both(1, ios[2].tag, ios[0].tag)); /* It may be at it still. */
	assert_int_equal(check.sectors_mixed, 4);
}

static void test_wrong_configuration(void **state)
{
	static uint8_t memory[4096] __attribute__((aligned(64)));
	struct ferry_check_config config = {.sectors_count = 8, .entries_max = 7};
	struct ferry_region region;

	(void)state;
	ferry_region_init(&region, memory, 64);
	assert_int_equal(ferry_check_init(&check, &region, &config), -EINVAL);
	config.entries_max = 8;
	assert_int_equal(ferry_check_init(&check, &region, &config), -ENOMEM);
	config.sectors_count = 0;
	assert_int_equal(ferry_check_init(&check, &region, &config), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sectors),
		TEST(test_sectors_read),
		TEST(test_acknowledged),
		TEST(test_overlapping_in_time),
		TEST(test_seen_is_seen),
		TEST(test_failed),
		TEST(test_read_that_began_before),
		TEST(test_zeroes_and_discard),
		TEST(test_cancelled),
		TEST(test_loss_before_flush),
		TEST(test_flushed),
		TEST(test_fua),
		TEST(test_flush_covers_what_was_over),
		TEST(test_forgotten_loss),
		TEST(test_error_is_not_enough),
		TEST(test_forgiven),
		TEST(test_acknowledged_of_the_past),
		TEST(test_acknowledged_of_the_past_in_vain),
		TEST(test_forgiven_too_early),
		TEST(test_in_flight_at_the_loss),
		TEST(test_seen_then_flushed),
		TEST(test_landed_twice),
		TEST(test_read_of_the_past),
		TEST(test_entries_are_cut),
		TEST(test_storage_that_tears),
		TEST(test_wrong_configuration),
	};

	return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
