/* Without buffers, or room in the path: it waits, and goes on by itself. */
#include "agent/core/carrier_stand.h"

static uint32_t full_count;

static int full_submit(struct ferry_path *self, struct ferry_attempt *attempt)
{
	(void)self;
	(void)attempt;
	full_count++;
	assert_in_range(full_count, 1, 20); /* Else it spins. */
	return -EAGAIN;
}

/* The buffers that it gives back are no news to itself: it waits for the path alone. */
static void test_path_is_full(void **state)
{
	static const struct ferry_path_ops full_ops = {.name = "full", .submit = full_submit};
	const struct ferry_path_ops *ops = at.path.path.ops;
	struct ferry_wire_header read = request(1, FERRY_OP_READ);
	struct ferry_segments taken;

	(void)state;
	full_count = 0;
	at.path.path.ops = &full_ops;
	assert_int_equal(
		ferry_arena_take(&at.stand.arena, STAND_CHUNKS * FERRY_CHUNK_BYTES, &taken), 0);
	say(&read); /* There are no buffers, either. */
	stand_run_ms(&at.stand, 1);
	assert_int_equal(full_count, 0);
	ferry_segments_drop(&taken);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(full_count, 1);
	at.path.path.on_room(&at.path.path);
	stand_run_ms(&at.stand, 100);
	assert_int_equal(full_count, 2);
	at.path.path.ops = ops;
	at.path.path.on_room(&at.path.path);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
	assert_int_equal(at.replies[0].outcome, FERRY_OUTCOME_DONE);
}

/* The same while somebody else waits for more buffers than there are. */
static void test_path_and_arena_are_full(void **state)
{
	static const struct ferry_path_ops full_ops = {.name = "full", .submit = full_submit};
	const struct ferry_path_ops *ops = at.path.path.ops;
	struct ferry_wire_header read = request(1, FERRY_OP_READ);
	struct ferry_wire_header write = request(2, FERRY_OP_WRITE);
	struct ferry_segments taken;

	(void)state;
	full_count = 0;
	at.path.path.ops = &full_ops;
	assert_int_equal(
		ferry_arena_take(&at.stand.arena, (STAND_CHUNKS - 1) * FERRY_CHUNK_BYTES, &taken),
		0);
	at.lun.size_blocks = 1000;
	write.payload_bytes = 2 * FERRY_CHUNK_BYTES;
	write.length_blocks = write.payload_bytes / STAND_BLOCK_BYTES;
	at.offered = &write;
	assert_true(at.link_in.on_payload(&at.link_in, &write, &at.offered_data) < 0);
	say(&read);
	stand_run_ms(&at.stand, 1);
	assert_in_range(full_count, 1, 3);
	assert_in_range(at.resumes, 1, 3);
	at.offered = NULL;
	ferry_segments_drop(&taken);
	at.path.path.ops = ops;
	at.path.path.on_room(&at.path.path);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
	assert_int_equal(at.carrier.stats.carried, 1);
	assert_int_equal(ferry_carrier_carried_for(&at.carrier, at.link_in.node), 1);
	assert_int_equal(ferry_carrier_carried_for(&at.carrier, (struct ferry_node){77}), 0);
}

/* Whose data found no room is asked for it again, once. */
static void test_pause(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	struct ferry_segments taken;
	struct ferry_segments segments = {0};

	(void)state;
	for (uint32_t i = 1; i <= 2; i++) {
		assert_int_equal(
			ferry_arena_take(&at.stand.arena, STAND_CHUNKS * FERRY_CHUNK_BYTES, &taken),
			0);
		assert_true(at.link_in.on_payload(&at.link_in, &write, &segments) < 0);
		stand_run_ms(&at.stand, 1);
		assert_int_equal(at.resumes, i - 1);
		ferry_segments_drop(&taken);
		stand_run_ms(&at.stand, 1);
		assert_int_equal(at.resumes, i);
	}
	ferry_task_post(&at.stand.loop.loop, &at.carrier.resume_task);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.resumes, 2);
	say(&write);
	stand_done(&at.path, 0);
	assert_int_equal(at.replies[0].outcome, FERRY_OUTCOME_DONE);
}

/* A pause is the link's: the next one reads from the start. */
static void test_pause_ends_with_the_link(void **state)
{
	struct ferry_wire_header write = request(1, FERRY_OP_WRITE);
	struct ferry_segments taken;
	struct ferry_segments segments = {0};

	(void)state;
	for (int by_down = 0; by_down < 2; by_down++) {
		assert_int_equal(
			ferry_arena_take(&at.stand.arena, STAND_CHUNKS * FERRY_CHUNK_BYTES, &taken),
			0);
		assert_int_equal(at.link_in.on_payload(&at.link_in, &write, &segments), -ENOBUFS);
		if (by_down)
			at.link_in.on_down(&at.link_in, "test");
		assert_int_equal(ferry_carrier_accept(&at.carrier, &at.link_in,
						      (struct ferry_incarnation){4}),
				 0);
		ferry_segments_drop(&taken);
		stand_run_ms(&at.stand, 1);
		assert_int_equal(at.resumes, 0);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, carrier_setup, carrier_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_path_is_full),
		TEST(test_path_and_arena_are_full),
		TEST(test_pause),
		TEST(test_pause_ends_with_the_link),
	};

	return cmocka_run_group_tests_name("carrier_room", tests, NULL, NULL);
}
