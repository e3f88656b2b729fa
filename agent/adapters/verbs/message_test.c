/* What goes over a link that is up, and what it costs. */
#include "agent/adapters/verbs/verbs_stand.h"

static void carries_data_both_ways(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_prng prng = {.state = 3};
	struct ferry_verbs_counters near, far;
	uint64_t small_written = 0, small_read = 0, written = 0, read = 0;
	uint32_t requests = 0;

	all_up(world);
	while (requests < 300) {
		static const uint32_t SIZES[] = {1, 7, 8, 9, 100, 128, 129, 1000, 2048};
		uint32_t blocks = SIZES[ferry_prng_below(&prng, FERRY_ARRAY_COUNT(SIZES))];
		enum ferry_op op = ferry_prng_below(&prng, 2) ? FERRY_OP_READ : FERRY_OP_WRITE;

		assert_true(asks->has_up);
		if (requests - asks->messages >= 16 || request(asks, op, blocks) < 0) {
			turn(world);
			continue;
		}
		requests++;
		*(op == FERRY_OP_READ ? &read : &written) += (uint64_t)blocks * 512;
		if (blocks <= 8)
			*(op == FERRY_OP_READ ? &small_read : &small_written) +=
				(uint64_t)blocks * 512;
	}
	WAIT(world, asks->messages == requests && asks->busy == 0 && serves->busy == 0);
	assert_int_equal(asks->bytes, read);
	assert_int_equal(serves->bytes, written);
	near = ferry_verbs_counters(asks->link);
	far = ferry_verbs_counters(serves->link);
	assert_int_equal(near.bytes_copied, small_read);
	assert_int_equal(far.bytes_copied, small_written);
	assert_int_equal(near.bytes_moved, 0); /* All RDMA is the server's. */
	assert_int_equal(far.bytes_moved, read + written - small_read - small_written);
	assert_true(far.rdma_reads > 0 && far.rdma_writes > 0);
	assert_int_equal(near.rdma_reads + near.rdma_writes, 0);
	assert_int_equal(asks->downs + serves->downs, 0);
}

static void show(const char *what, struct ferry_verbs_counters a, struct ferry_verbs_counters b,
		 double n)
{
	print_message(
		"%-22s frames sent %.2f, windows %.2f, RDMA reads %.2f, writes %.2f, "
		"completions %.2f, wake-ups %.2f, posts %.2f, bytes copied %.0f, moved %.0f\n",
		what,
		(double)(b.messages_sent - a.messages_sent + b.credit_frames_sent -
			 a.credit_frames_sent) /
			n,
		(double)(b.windows_opened - a.windows_opened) / n,
		(double)(b.rdma_reads - a.rdma_reads) / n,
		(double)(b.rdma_writes - a.rdma_writes) / n,
		(double)(b.completions - a.completions) / n, (double)(b.wakeups - a.wakeups) / n,
		(double)(b.posts - a.posts) / n, (double)(b.bytes_copied - a.bytes_copied) / n,
		(double)(b.bytes_moved - a.bytes_moved) / n);
}

/* What one I/O costs at each end. */
static void costs_are_known(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;

	all_up(world);
	for (uint32_t i = 0; i < 4; i++) {
		enum ferry_op op = i % 2 ? FERRY_OP_WRITE : FERRY_OP_READ;
		uint32_t blocks = i < 2 ? 8 : LARGE_BLOCKS, n = 50;
		struct ferry_verbs_counters near = ferry_verbs_counters(asks->link);
		struct ferry_verbs_counters far = ferry_verbs_counters(serves->link);
		struct ferry_verbs_counters after;
		char what[64];

		for (uint32_t k = 0; k < n; k++) {
			uint32_t messages = asks->messages;

			assert_int_equal(request(asks, op, blocks), 0);
			WAIT(world, asks->messages > messages && asks->busy == 0);
		}
		WAIT(world, serves->busy == 0);
		after = ferry_verbs_counters(asks->link);
		(void)snprintf(what, sizeof(what), "%s %u KiB: asker", i % 2 ? "WRITE" : "READ",
			       blocks / 2);
		show(what, near, after, n);
		if (blocks > 8) {
			assert_int_equal(after.bytes_copied - near.bytes_copied, 0);
			assert_int_equal(after.windows_opened - near.windows_opened, n);
		}
		after = ferry_verbs_counters(serves->link);
		show("                 server", far, after, n);
		if (blocks > 8) {
			assert_int_equal(after.bytes_copied - far.bytes_copied, 0);
			assert_int_equal(after.rdma_reads - far.rdma_reads,
					 op == FERRY_OP_WRITE ? n : 0);
			assert_int_equal(after.rdma_writes - far.rdma_writes,
					 op == FERRY_OP_READ ? n : 0);
		}
	}
}

/* The far end has no room: what was sent waits there, the rest here, and no queue runs over. */
static void waits_for_room(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_verbs_counters counters;

	all_up(world);
	serves->is_hoarding = true;
	for (uint32_t i = 0; i < 90; i++)
		assert_int_equal(request(asks, FERRY_OP_WRITE, i % 3 ? 8 : 64), 0);
	WAIT(world, serves->is_waiting);
	wait_ns(world, 2 * DEAD_AFTER_NS); /* Neither takes the other for dead. */
	assert_int_equal(serves->messages, 0);
	assert_true(ferry_verbs_counters(asks->link).messages_sent <= FERRY_VERBS_CREDITS + 2);
	assert_true(ferry_verbs_counters(asks->link).waits > 0);
	serves->is_hoarding = false;
	serves->link->ops->resume(serves->link);
	WAIT(world, asks->messages == 90 && asks->busy == 0);
	/* One way only: what is owed is given back by frames of its own. */
	serves->is_keeping = true;
	for (uint32_t sent = 0; sent < 300;) {
		assert_true(asks->has_up);
		if (request(asks, FERRY_OP_WRITE, 8) == 0)
			sent++;
		else
			turn(world);
	}
	WAIT(world, serves->messages == 390 && asks->busy == 0);
	counters = ferry_verbs_counters(serves->link);
	assert_true(counters.credit_frames_sent >= 5);
	assert_int_equal(asks->downs + serves->downs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(carries_data_both_ways),
		TEST(costs_are_known),
		TEST(waits_for_room),
	};

	return STAND_RUN(tests);
}
