/* iscsi_test.c - the iSCSI path against a real target, with real cuts. */
#include <signal.h>
#include <stdio.h>

#include "agent/adapters/iscsi/iscsi_stand.h"

static void test_config_is_checked(void **state)
{
	static const char *const PORTALS[] = {
		NULL,	"",    "localhost:3260", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
		"[::1", "::1", "1.2.3"};
	struct ferry_iscsi_config config;
	struct ferry_iscsi *iscsi = NULL;
	struct ferry_error error;

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(PORTALS); i++) {
		config = config_of(&side_a, PORTALS[i], "iqn.2026-11.test.ferry:a");
		assert_int_equal(ferry_iscsi_open(&config, &iscsi, &error), -EINVAL);
		assert_non_null(strstr(error.message, "portal"));
	}
	config = config_of(&side_a, "[::1]:3260", "a");
	assert_int_equal(ferry_iscsi_open(&config, &iscsi, &error), -EINVAL);
	assert_non_null(strstr(error.message, "initiator"));
	config = config_of(&side_a, "[::1]:3260", "iqn.2026-11.test.ferry:a");
	config.user = "someone";
	assert_int_equal(ferry_iscsi_open(&config, &iscsi, &error), -EINVAL);
	assert_non_null(strstr(error.message, "CHAP"));
	config.user = NULL;
	config.depth = FERRY_ISCSI_DEPTH_MAX + 1;
	assert_int_equal(ferry_iscsi_open(&config, &iscsi, &error), -EINVAL);
	assert_null(iscsi);
}

static void test_data(void **state)
{
	struct ferry_segments mib = take(FERRY_IO_BYTES_MAX);
	struct ferry_segments back = take(FERRY_IO_BYTES_MAX);
	struct ferry_segments small = take(4096);

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	assert_int_equal(ferry_iscsi_identity(side_a.iscsi)->size_blocks, RIG_SIZE_BYTES / 512);
	assert_int_equal(ferry_iscsi_identity(side_a.iscsi)->block_bytes, 512);
	print_message("lun %s, discard %d, volatile cache %d\n",
		      ferry_iscsi_identity(side_a.iscsi)->wwid,
		      ferry_iscsi_identity(side_a.iscsi)->can_discard,
		      ferry_iscsi_identity(side_a.iscsi)->has_volatile_cache);

	fill(&mib, 1);
	do_io(&side_a, FERRY_OP_WRITE, 8, MIB_BLOCKS, 0, &mib);
	do_io(&side_a, FERRY_OP_READ, 8, MIB_BLOCKS, 0, &back);
	assert_true(is_filled(&back, 1));
	fill(&small, 77);
	do_io(&side_a, FERRY_OP_WRITE, 100, 8, FERRY_IO_FUA, &small);
	do_io(&side_a, FERRY_OP_FLUSH, 0, 0, 0, NULL);
	fill(&small, 0);
	do_io(&side_a, FERRY_OP_READ, 100, 8, 0, &small);
	assert_true(is_filled(&small, 77));

	/* Zeroes over the middle; more than one command may carry. */
	do_io(&side_a, FERRY_OP_WRITE, 0, MIB_BLOCKS, 0, &mib);
	do_io(&side_a, FERRY_OP_WRITE_ZEROES, 16, 1024, FERRY_IO_FUA | FERRY_IO_NO_UNMAP, NULL);
	do_io(&side_a, FERRY_OP_READ, 0, MIB_BLOCKS, 0, &back);
	assert_true(is_zero(&back, 16 * 512, 1040 * 512));
	assert_false(is_zero(&back, 0, 16 * 512));
	assert_false(is_zero(&back, 1040 * 512, 1056 * 512));
	do_io(&side_a, FERRY_OP_WRITE_ZEROES, 0, FERRY_IO_RANGE_BYTES_MAX / 512, 0, NULL);
	do_io(&side_a, FERRY_OP_READ, 0, MIB_BLOCKS, 0, &back);
	assert_true(is_zero(&back, 0, FERRY_IO_BYTES_MAX));
	assert_true(ferry_iscsi_identity(side_a.iscsi)->can_discard);
	do_io(&side_a, FERRY_OP_DISCARD, 4096, FERRY_IO_RANGE_BYTES_MAX / 512, 0, NULL);
	ferry_segments_drop(&mib);
	ferry_segments_drop(&back);
	ferry_segments_drop(&small);
}

static void test_invalid_is_not_the_path(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try try;

	(void)state;
	open_up(&side_a, "127.0.0.1", "iqn.2026-11.test.ferry:a");
	submit(&side_a, &try, FERRY_OP_READ, RIG_SIZE_BYTES / 512, 8, 0, &small);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_INVALID);
	submit(&side_a, &try, FERRY_OP_WRITE, RIG_SIZE_BYTES / 512 - 4, 8, 0, &small);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_INVALID);
	assert_true(side_a.path->is_up);
	do_io(&side_a, FERRY_OP_WRITE, RIG_SIZE_BYTES / 512 - 8, 8, 0, &small);
	ferry_segments_drop(&small);
}

static void test_many_and_room(void **state)
{
	static struct try tries[TRIES_MAX];
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	struct ferry_segments segments[32];
	struct ferry_segments back = take(8192);
	static struct try extra;

	(void)state;
	config.depth = 32;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a));
	for (uint32_t round = 0; round < 8; round++) {
		for (uint32_t i = 0; i < 32; i++) {
			segments[i] = take(8192);
			fill(&segments[i], round * 1000 + i);
			submit(&side_a, &tries[i], FERRY_OP_WRITE, (round * 32 + i) * 16, 16, 0,
			       &segments[i]);
		}
		extra = (struct try){.side = &side_a, .attempt = tries[0].attempt};
		assert_int_equal(ferry_path_submit(side_a.path, &extra.attempt), -EAGAIN);
		for (uint32_t i = 0; i < 32; i++) {
			expect(&tries[i], FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
			ferry_segments_drop(&segments[i]);
		}
		assert_int_equal(side_a.rooms, round + 1);
	}
	for (uint32_t i = 0; i < 256; i++) {
		do_io(&side_a, FERRY_OP_READ, i * 16, 16, 0, &back);
		assert_true(is_filled(&back, i / 32 * 1000 + i % 32));
	}
	ferry_segments_drop(&back);
}

static void test_black_hole(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try tries[3];
	uint64_t began_ns;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	rig_cut(1, "drop");
	submit(&side_a, &tries[0], FERRY_OP_WRITE, 0, 8, 0, &small);
	submit(&side_a, &tries[1], FERRY_OP_READ, 0, 8, 0, &small);
	submit(&side_a, &tries[2], FERRY_OP_FLUSH, 0, 0, 0, NULL);
	pass_time(300);
	assert_false(tries[0].is_ended);
	began_ns = ferry_loop_now_ns(loop);
	side_a.path->ops->reset(side_a.path);
	assert_false(tries[0].is_ended); /* Never from inside. */
	assert_false(side_a.path->is_up);
	assert_int_equal(ferry_path_submit(side_a.path, &tries[0].attempt), -ENOTCONN);
	for (int i = 0; i < 3; i++)
		expect(&tries[i], FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_true(tries[2].ended_ns - began_ns < 1000 * MS); /* TCP goes on for minutes. */
	assert_true(wait_for(is_down, &side_a));
	assert_int_equal(side_a.in_flight_at_down, 0);
	pass_time(500);
	assert_int_equal(side_a.ups, 1);
	rig_cut(0, NULL);
	began_ns = ferry_loop_now_ns(loop);
	assert_true(wait_for(is_up, &side_a));
	print_message("up %llu ms after the heal\n",
		      (unsigned long long)((ferry_loop_now_ns(loop) - began_ns) / MS));
	do_io(&side_a, FERRY_OP_WRITE, 0, 8, 0, &small);
	ferry_segments_drop(&small);
}

/* Nothing is asked of it, and nothing closes it: it says so by itself, and comes back by itself. */
static void test_idle_session_is_cut(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	struct ferry_segments small = take(4096);
	static struct try held;

	(void)state;
	config.idle_timeout_ns = 700 * MS; /* A busy target answers by then. */
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a));
	pass_time(2500); /* It answers. */
	assert_int_equal(side_a.downs, 0);
	rig_cut(1, "drop");
	assert_true(wait_for(is_down, &side_a));
	assert_int_equal(side_a.down_cause, FERRY_CAUSE_PATH);
	assert_true(strstr(ferry_iscsi_last_error(side_a.iscsi), "connect to") ||
		    strstr(ferry_iscsi_last_error(side_a.iscsi), "NOP-Out"));
	rig_cut(0, NULL);
	assert_true(wait_for(is_up, &side_a));

	/* With something in flight its deadline is the router's. */
	rig_hold(&rig);
	submit(&side_a, &held, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &small);
	pass_time(2500);
	assert_int_equal(side_a.downs, 1);
	assert_false(held.is_ended);
	rig_let_go(&rig);
	expect(&held, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	ferry_segments_drop(&small);
}

static void test_tcp_reset(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try held;
	static struct try next;
	uint64_t began_ns;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	rig_hold(&rig);
	submit(&side_a, &held, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &small); /* In the target. */
	pass_time(100);
	assert_false(held.is_ended);
	rig_cut(1, "reject with tcp reset");
	began_ns = ferry_loop_now_ns(loop);
	submit(&side_a, &next, FERRY_OP_WRITE, 0, 8, 0, &small);
	expect(&next, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	expect(&held, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	print_message("UNKNOWN %llu ms after the reset: %s\n",
		      (unsigned long long)((held.ended_ns - began_ns) / MS),
		      ferry_iscsi_last_error(side_a.iscsi));
	/* By the reset; TCP by itself would go on trying for many seconds. */
	assert_true(held.ended_ns - began_ns < 2000 * MS);
	assert_true(next.ended_ns - began_ns < 2000 * MS);
	assert_true(wait_for(is_down, &side_a));
	rig_cut(0, NULL);
	rig_let_go(&rig);
	assert_true(wait_for(is_up, &side_a));
	do_io(&side_a, FERRY_OP_READ, 0, 8, 0, &small);
	ferry_segments_drop(&small);
}

/* The target stops reading: what the socket does not take has provably not left. */
static void test_unsent(void **state)
{
	static struct try tries[FERRY_ISCSI_DEPTH_MAX];
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	struct ferry_segments mib = take(FERRY_IO_BYTES_MAX);
	uint32_t unsent = 0;

	(void)state;
	config.depth = FERRY_ISCSI_DEPTH_MAX;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a));
	assert_int_equal(kill(rig.pid, SIGSTOP), 0);
	for (uint32_t i = 0; i < FERRY_ISCSI_DEPTH_MAX; i++)
		submit(&side_a, &tries[i], FERRY_OP_WRITE, 0, MIB_BLOCKS, 0, &mib);
	pass_time(200);
	side_a.path->ops->reset(side_a.path);
	assert_true(wait_for(is_quiet, &side_a));
	for (uint32_t i = 0; i < FERRY_ISCSI_DEPTH_MAX; i++) {
		if (tries[i].outcome == FERRY_OUTCOME_FAILED) {
			assert_int_equal(tries[i].cause, FERRY_CAUSE_UNSENT);
			unsent++;
		} else {
			assert_int_equal(tries[i].outcome, FERRY_OUTCOME_UNKNOWN);
			assert_int_equal(unsent, 0); /* In the order of submission. */
		}
	}
	print_message("%u of %u unsent\n", unsent, FERRY_ISCSI_DEPTH_MAX);
	assert_in_range(unsent, 1, FERRY_ISCSI_DEPTH_MAX - 1);
	assert_int_equal(kill(rig.pid, SIGCONT), 0);
	assert_true(wait_for(is_up, &side_a));
	ferry_segments_drop(&mib);
}

static void test_login_deadline(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	uint64_t began_ns = ferry_loop_now_ns(loop);

	(void)state;
	config.login_timeout_ns = 1500 * MS;
	assert_int_equal(kill(rig.pid, SIGSTOP), 0);
	open_side(&side_a, &config);
	assert_true(wait_for(has_error, &side_a));
	assert_true(ferry_loop_now_ns(loop) - began_ns >= 1500 * MS);
	assert_string_equal(ferry_iscsi_last_error(side_a.iscsi),
			    "login at 127.0.0.1:3260: no answer within 1500 ms");
	assert_int_equal(kill(rig.pid, SIGCONT), 0);
	assert_true(wait_for(is_up, &side_a));
	assert_int_equal(side_a.downs, 0); /* It was never up before. */
	close_side(&side_a);

	rig_cut(1, "drop");
	open_side(&side_a, &config);
	assert_true(wait_for(has_error, &side_a));
	assert_non_null(strstr(ferry_iscsi_last_error(side_a.iscsi), "connect to 127.0.0.1:3260"));
}

static bool is_refused(const void *what)
{
	return strstr(ferry_iscsi_last_error(((const struct side *)what)->iscsi), "refused");
}

static void test_target_killed_and_restarted(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try try;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	rig_hold(&rig);
	submit(&side_a, &try, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &small);
	pass_time(50);
	rig_kill(&rig);
	expect(&try, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	assert_true(wait_for(is_down, &side_a));
	assert_true(wait_for(is_refused, &side_a));
	rig_let_go(&rig);
	rig_start(&rig, NULL);
	assert_true(wait_for(is_up, &side_a));
	do_io(&side_a, FERRY_OP_WRITE, 0, 8, 0, &small);
	print_attentions("A", &side_a);
	ferry_segments_drop(&small);
}

static void expect_error(struct ferry_iscsi_config *config, const char *text)
{
	open_side(&side_a, config);
	assert_true(wait_for(has_error, &side_a));
	if (!strstr(ferry_iscsi_last_error(side_a.iscsi), text))
		fail_msg("\"%s\", not \"%s\"", ferry_iscsi_last_error(side_a.iscsi), text);
	print_message("%s\n", ferry_iscsi_last_error(side_a.iscsi));
	assert_int_equal(side_a.ups, 0);
	assert_null(ferry_iscsi_identity(side_a.iscsi));
	assert_null(ferry_iscsi_fence(side_a.iscsi));
	close_side(&side_a);
}

static void test_wrong_names(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");

	(void)state;
	config.target = RIG_TARGET "x";
	expect_error(&config, "Target not found");
	config.target = RIG_TARGET;
	config.lun = 5;
	expect_error(&config, "no lun 5");
	config.lun = 0;
	expect_error(&config, "lun 0 is not a disk");
	config.lun = 1;
	(void)snprintf(config.expect.wwid, sizeof(config.expect.wwid), "naa.1234");
	expect_error(&config, "another lun");
	config.expect.wwid[0] = '\0';
	config.expect.size_blocks = 1000;
	expect_error(&config, "another size");
	config.expect.size_blocks = 0;
	config.expect.block_bytes = 4096;
	expect_error(&config, "another block size");
	config.portal = "127.0.0.1:1";
	expect_error(&config, "refused");
}

static void test_chap(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");

	(void)state;
	rig_admin(&rig, "--op new --mode account --user ferry --password sesame123456");
	rig_admin(&rig, "--op bind --mode account --tid 1 --user ferry");
	expect_error(&config, "uthenti");
	config.user = "ferry";
	config.password = "wrong1234567";
	expect_error(&config, "uthenti");
	config.password = "sesame123456";
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a));
	close_side(&side_a);

	/* The target proves itself as well. */
	rig_admin(&rig, "--op new --mode account --user shore --password mutual123456");
	rig_admin(&rig, "--op bind --mode account --tid 1 --user shore --outgoing");
	config.target_user = "shore";
	config.target_password = "mutual123456";
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a));
	close_side(&side_a);
	config.target_password = "mutual999999";
	expect_error(&config, "CHAP");
}

static bool is_another_lun(const void *what)
{
	return strstr(ferry_iscsi_last_error(((const struct side *)what)->iscsi), "another lun");
}

static void test_another_lun_stays_down(void **state)
{
	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	rig_kill(&rig);
	assert_true(wait_for(is_down, &side_a));
	rig_start(&rig, "scsi_id=ANOTHER");
	assert_true(wait_for(is_another_lun, &side_a));
	pass_time(1500); /* It tries again, and stays down. */
	assert_int_equal(side_a.ups, 1);
	assert_false(side_a.path->is_up);
	print_message("%s\n", ferry_iscsi_last_error(side_a.iscsi));
}

/*
 * Two have a third preempted at once, as when the owner lays a ghost and a peer does. Whoever comes
 * second finds no such key: a conflict, with its own registration in place.
 */
static void test_two_preempt_one(void **state)
{
	static struct fence_try one;
	static struct fence_try other;
	static struct fence_try fence;

	(void)state;
	open_all();
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xc, 0), 0);
	for (int i = 0; i < 5; i++) { /* The target may answer one before it hears the other. */
		assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
		assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
		assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
		assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
		assert_int_equal(kill(rig.pid, SIGSTOP), 0);
		start_fence(&side_b, &one, FERRY_FENCE_PREEMPT, 0xb, 0xa);
		start_fence(&side_c, &other, FERRY_FENCE_PREEMPT, 0xc, 0xa);
		pass_time(20);
		assert_int_equal(kill(rig.pid, SIGCONT), 0);
		assert_true(wait_for(is_fence_done, &one));
		assert_true(wait_for(is_fence_done, &other));
		/* The first one's LUN RESET may end the second's wish, which is then asked anew. */
		assert_true(one.error == 0 || other.error == 0);
		if (one.error == -EIO)
			assert_int_equal(do_fence(&side_b, &one, FERRY_FENCE_PREEMPT, 0xb, 0xa), 0);
		if (other.error == -EIO)
			assert_int_equal(do_fence(&side_c, &other, FERRY_FENCE_PREEMPT, 0xc, 0xa),
					 0);
		assert_int_equal(one.error, 0);
		assert_int_equal(other.error, 0);
	}
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 2);
	/* But of one that is not registered itself it is what it says. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_PREEMPT, 0xa, 0xb), -EACCES);
}

static void test_close_is_bounded(void **state)
{
	struct ferry_segments small = take(4096);
	static struct try try;
	uint64_t began_ns;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	assert_int_equal(kill(rig.pid, SIGSTOP), 0);
	submit(&side_a, &try, FERRY_OP_WRITE, 0, 8, 0, &small);
	pass_time(20);
	began_ns = ferry_loop_now_ns(loop);
	close_side(&side_a);
	assert_true(ferry_loop_now_ns(loop) - began_ns < 3000 * MS); /* For ever, by the target. */
	assert_int_equal(try.outcome, FERRY_OUTCOME_UNKNOWN);
	assert_true(try.is_released);
	ferry_segments_drop(&small);
}

/* Faults at random, I/O all the time: each attempt ends once, and the path always comes back. */
static void test_storm(void **state)
{
	static struct try tries[64];
	struct ferry_segments small = take(16384);
	uint32_t seed = 11;
	uint32_t done = 0;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	for (uint32_t round = 0; round < 24; round++) {
		assert_true(wait_for(is_up, &side_a));
		for (uint32_t i = 0; i < 64; i++)
			submit(&side_a, &tries[i], i % 2 ? FERRY_OP_WRITE : FERRY_OP_READ,
			       (uint64_t)i * 32, 32, 0, &small);
		seed = seed * 1664525 + 1013904223;
		pass_time((seed >> 24) % 8);
		if (round % 3 == 0) {
			side_a.path->ops->reset(side_a.path);
		} else if (round % 3 == 1) {
			rig_cut(1, "reject with tcp reset");
			pass_time(5);
			rig_cut(0, NULL);
		}
		for (int i = 0; i < 100 && side_a.in_flight > 0; i++)
			pass_time(10);
		if (side_a.in_flight > 0) /* The cut was over before TCP met it. */
			side_a.path->ops->reset(side_a.path);
		assert_true(wait_for(is_quiet, &side_a));
		for (uint32_t i = 0; i < 64; i++) {
			assert_true(tries[i].is_released);
			done += tries[i].outcome == FERRY_OUTCOME_DONE;
		}
	}
	print_message("%u of %u done, %u sessions\n", done, 24 * 64, side_a.ups);
	assert_true(done > 0);
	assert_true(side_a.ups > 8);
	ferry_segments_drop(&small);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config_is_checked),
		TEST(test_data),
		TEST(test_invalid_is_not_the_path),
		TEST(test_many_and_room),
		TEST(test_black_hole),
		TEST(test_idle_session_is_cut),
		TEST(test_tcp_reset),
		TEST(test_unsent),
		TEST(test_login_deadline),
		TEST(test_target_killed_and_restarted),
		TEST(test_wrong_names),
		TEST(test_chap),
		TEST(test_another_lun_stays_down),
		TEST(test_two_preempt_one),
		TEST(test_close_is_bounded),
		TEST(test_storm),
	};

	return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
