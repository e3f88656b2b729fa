/* fence_test.c - reservations at a real target, with a write held up inside of it. */
#include <signal.h>
#include <stdio.h>

#include "agent/adapters/iscsi/iscsi_stand.h"

/*
 * tgtd executes WRITE SAME and UNMAP of whom it refuses WRITE: shared, nobody sends it any, so that
 * none is on its way when its sender is preempted.
 */
static void test_unguarded_ranges_are_not_used(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	struct ferry_segments small = take(4096);
	static struct fence_try fence;
	static struct try try;

	(void)state;
	config.is_shared = true;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a));
	assert_false(ferry_iscsi_identity(side_a.iscsi)->can_discard);
	fill(&small, 7);
	do_io(&side_a, FERRY_OP_WRITE, 16, 8, 0, &small);
	do_io(&side_a, FERRY_OP_WRITE_ZEROES, 16, 8, FERRY_IO_FUA, NULL);
	do_io(&side_a, FERRY_OP_READ, 16, 8, 0, &small);
	assert_true(is_zero(&small, 0, 4096));

	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), 0);
	submit(&side_a, &try, FERRY_OP_WRITE_ZEROES, 16, 8, 0, NULL);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	ferry_segments_drop(&small);
}

static void test_reservations(void **state)
{
	struct ferry_segments small = take(4096);
	static struct fence_try fence;
	static struct try try;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 0);
	assert_int_equal(fence.request.holder.v, 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_RESERVE, 0xa, 0), -EACCES);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_PREEMPT, 0xa, 0xb), -EACCES);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x1a, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0x1a), 0); /* Anew. */
	/* No such victim, and nothing that would keep it from writing: no proof. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_PREEMPT, 0xa, 0xb), -ENOENT);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_RESERVE, 0xa, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_RESERVE, 0xa, 0), 0); /* Again. */

	submit(&side_b, &try, FERRY_OP_WRITE, 0, 8, 0, &small);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	do_io(&side_b, FERRY_OP_READ, 0, 8, 0, &small);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), -EBUSY);
	do_io(&side_b, FERRY_OP_WRITE, 0, 8, 0, &small);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 2);
	assert_int_equal(fence.request.holder.v, 0xa);

	/* B fences A, the holder, and is the holder then. */
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0xa), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 1);
	assert_int_equal(fence.request.keys[0].v, 0xb);
	assert_int_equal(fence.request.holder.v, 0xb);
	do_io(&side_b, FERRY_OP_WRITE, 0, 8, 0, &small);

	/* A learns of it: its first command meets the attentions, the next the conflict. */
	submit(&side_a, &try, FERRY_OP_WRITE, 0, 8, 0, &small);
	assert_true(wait_for(is_released, &try));
	print_message("the fenced node's first write: outcome %d cause %d\n", try.outcome,
		      try.cause);
	assert_int_equal(try.outcome, FERRY_OUTCOME_FAILED);
	submit(&side_a, &try, FERRY_OP_WRITE, 0, 8, 0, &small);
	expect(&try, FERRY_OUTCOME_FAILED, FERRY_CAUSE_CONFLICT);
	print_attentions("A", &side_a);
	print_attentions("B", &side_b);
	/* Once more, the victim being gone already: still a proof, for the lun is reserved. */
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0xa), 0);
	assert_true(saw(&side_a, 0x2a, 0x03, FERRY_ISCSI_AT_IO));
	ferry_segments_drop(&small);
}

/* Between its reading of the keys and its registering, a node may have been preempted. */
static void test_registers_only_what_was_kept(void **state)
{
	static struct fence_try fence;

	(void)state;
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	/* It had none as it read, and has one: somebody else of its name is about. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x2a, 0), -EACCES);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x2a, 0xa), 0);
	/* On a lun that is not reserved it would write on. */
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0x2a), -ENOENT);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0x2a), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x2a, 0x2a), -EACCES);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0x3a, 0x2a), -EACCES);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 1);
	assert_int_equal(fence.request.keys[0].v, 0xb);

	/* The kept key is another nexus': of an older name, here. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	open_up(&side_c, "127.0.0.2:3260", "iqn.2026-11.test.ferry:c");
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0x2a, 0xa), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 3);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0x2a), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xa, 0xa), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 3);
}

static uint64_t preempt_ms(struct side *side, uint64_t own, uint64_t victim)
{
	static struct fence_try fence;
	uint64_t began_ns;

	assert_int_equal(do_fence(side, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0); /* A reset. */
	began_ns = ferry_loop_now_ns(loop);
	assert_int_equal(do_fence(side, &fence, FERRY_FENCE_PREEMPT, own, victim), 0);
	return (ferry_loop_now_ns(loop) - began_ns) / MS;
}

/* What was waited out once is dead, as long as nobody knows that the victim has been back. */
static void test_quiesce_is_of_one_preemption(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_b, "127.0.0.2:3260", "iqn.2026-11.test.ferry:b");
	static struct fence_try fence;

	(void)state;
	config.laying = FERRY_LAYING_QUIESCE;
	config.quiesce_time_ns = 400 * MS;
	open_side(&side_b, &config);
	assert_true(wait_for(is_up, &side_b));
	open_up(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	open_up(&side_c, "127.0.0.2:3260", "iqn.2026-11.test.ferry:c");
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xc, 0), 0);
	assert_true(preempt_ms(&side_b, 0xb, 0xa) >= 400);
	assert_true(preempt_ms(&side_b, 0xb, 0xa) < 200);
	/* It comes back, and goes by another's hand. */
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	(void)preempt_ms(&side_c, 0xc, 0xa);
	assert_true(preempt_ms(&side_b, 0xb, 0xa) >= 400);
	assert_true(preempt_ms(&side_b, 0xb, 0xa) < 200);
}

/*
 * The heart of fencing: a write of A is inside of the target. B's PREEMPT must not be done before
 * that write has landed or is dead. C, a third nexus, has a write there too.
 */
static void test_preempt_waits_for_the_write(void **state)
{
	struct ferry_segments old = take(4096);
	struct ferry_segments new = take(4096);
	static struct fence_try fence;
	static struct try ghost;
	static struct try third;
	static struct try after;

	(void)state;
	open_all();
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_RESERVE, 0xa, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xc, 0), 0);
	fill(&old, 1);
	fill(&new, 2);
	do_io(&side_a, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &old);
	rig_hold(&rig);
	submit(&side_a, &ghost, FERRY_OP_WRITE, SLOW_LBA, 8, 0, &new);
	submit(&side_c, &third, FERRY_OP_WRITE, SLOW_LBA + 64, 8, 0, &new);
	pass_time(100);
	rig_cut(1, "drop"); /* A's path is gone, its write is not. */
	side_a.path->ops->reset(side_a.path);
	expect(&ghost, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);

	start_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0xa);
	submit(&side_b, &after, FERRY_OP_READ, SLOW_LBA, 8, 0, &old);
	pass_time(700);
	assert_false(fence.is_done);
	rig_let_go(&rig);
	assert_true(wait_for(is_fence_done, &fence));
	assert_int_equal(fence.error, 0);
	/* Proven: what is on the disk now stays there. */
	{
		uint8_t landed = rig_peek(&rig, (off_t)SLOW_LBA * 512 + 4);

		pass_time(300);
		assert_int_equal(rig_peek(&rig, (off_t)SLOW_LBA * 512 + 4), landed);
	}
	assert_true(wait_for(is_released, &after));
	assert_true(wait_for(is_released, &third));
	print_message("third nexus' write across the reset: outcome %d cause %d; B's read: %d %d\n",
		      third.outcome, third.cause, after.outcome, after.cause);
	assert_int_equal(third.outcome, FERRY_OUTCOME_DONE);
	submit(&side_c, &third, FERRY_OP_WRITE, SLOW_LBA + 64, 8, 0, &new);
	assert_true(wait_for(is_released, &third));
	assert_int_equal(third.cause, FERRY_CAUSE_RESET);
	assert_true(saw(&side_b, 0x29, 0x00, FERRY_ISCSI_AT_OWN_RESET));
	assert_true(saw(&side_c, 0x29, 0x00, FERRY_ISCSI_AT_IO));
	print_message("third nexus' next write: outcome %d cause %d\n", third.outcome, third.cause);
	print_attentions("C", &side_c);
	print_attentions("B", &side_b);
	ferry_segments_drop(&old);
	ferry_segments_drop(&new);
}

/* It may have been a restart's: the keys are read before they are changed. Reading goes on. */
static void test_no_change_after_a_reset(void **state)
{
	static struct fence_try fence;

	(void)state;
	open_all();
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_RESERVE, 0xb, 0), 0);
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xc, 0), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
		assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
		/* With a LUN RESET, of which the others are told. */
		assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_PREEMPT, 0xb, 0xa), 0);
		if (i == 0) {
			assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
			continue;
		}
		assert_int_equal(i == 1 ? do_fence(&side_c, &fence, FERRY_FENCE_REGISTER, 0xc, 0xc)
					: do_fence(&side_c, &fence, FERRY_FENCE_PREEMPT, 0xc, 0xb),
				 -EIO);
		assert_true(saw(&side_c, 0x29, 0x00, FERRY_ISCSI_AT_IO));
	}
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(fence.request.keys_count, 2); /* None is gone. */
	assert_int_equal(do_fence(&side_c, &fence, FERRY_FENCE_PREEMPT, 0xc, 0xb), 0);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), -EIO);
	assert_int_equal(do_fence(&side_b, &fence, FERRY_FENCE_REGISTER, 0xb, 0), 0);
}

static void test_fence_deadlines(void **state)
{
	struct ferry_iscsi_config config =
		config_of(&side_a, "127.0.0.1:3260", "iqn.2026-11.test.ferry:a");
	static struct fence_try fence;
	static struct fence_try tries[6];

	(void)state;
	config.fence_timeout_ns = 700 * MS;
	open_side(&side_a, &config);
	assert_true(wait_for(is_up, &side_a));
	assert_int_equal(kill(rig.pid, SIGSTOP), 0);
	for (int i = 0; i < 6; i++)
		start_fence(&side_a, &tries[i], FERRY_FENCE_READ_KEYS, 0, 0);
	for (int i = 0; i < 6; i++) {
		assert_true(wait_for(is_fence_done, &tries[i]));
		assert_int_equal(tries[i].error, -ETIMEDOUT);
	}
	assert_int_equal(kill(rig.pid, SIGCONT), 0);
	pass_time(50);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_REGISTER, 0xa, 0), 0);
	start_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0);
	side_a.path->ops->reset(side_a.path);
	assert_true(wait_for(is_fence_done, &fence));
	assert_int_equal(fence.error, -ENOTCONN);
	assert_int_equal(do_fence(&side_a, &fence, FERRY_FENCE_READ_KEYS, 0, 0), -ENOTCONN);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_unguarded_ranges_are_not_used),
		TEST(test_reservations),
		TEST(test_registers_only_what_was_kept),
		TEST(test_quiesce_is_of_one_preemption),
		TEST(test_preempt_waits_for_the_write),
		TEST(test_no_change_after_a_reset),
		TEST(test_fence_deadlines),
	};

	return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
