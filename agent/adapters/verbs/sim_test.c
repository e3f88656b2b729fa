/* The adapter's own code on devices that are made up: late RDMA, broken connections, any seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/adapters/verbs/cm_stand.h"
#include "agent/ports/io.h"

enum { CHUNKS = 64, ASKED_MAX = 24, SAID_MAX = 128, SEEDS = 24, STEPS = 600, BLOCK_BYTES = 512 };

#define LATE_NS (2 * FERRY_NS_PER_S)

/* A message of either end, from send to on_sent(). */
struct said {
	struct ferry_message message;
	struct end *end;
	struct ferry_segments data; /* A READ's room, until it is answered. */
	bool is_busy;
	bool is_sending;
};

struct end {
	struct world *world;
	struct sim_loop loop;
	struct sim_device device;
	struct ferry_region region;
	void *descriptors;
	uint8_t *memory;
	struct ferry_arena arena;
	struct said said[SAID_MAX];
	uint32_t sending;
	uint64_t heard; /* The highest number that came. */
	uint32_t downs;
	bool is_up;
	bool is_paused;
};

struct world {
	struct sim sim;
	struct end ends[2]; /* Who asks, who answers. */
	uint64_t sequence;
	uint64_t writes, reads, unsure;
};

static struct world world;
static uint32_t stuck_per_mille; /* Of the next world's windows. */

/* ---- Memory: what is free bears a pattern, which nobody may touch. ---- */

static uint8_t byte_of(uint64_t sequence, uint32_t at)
{
	return (uint8_t)(sequence * 37 + at / 512 * 11 + at % 251);
}

static void fill(const struct ferry_segments *segments, uint64_t sequence)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < segments->count; i++)
		for (uint32_t j = 0; j < segments->v[i].length_bytes; j++)
			segments->v[i].chunk->data[j] = byte_of(sequence, at++);
}

static void expect_filled(const struct ferry_segments *segments, uint64_t sequence)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < segments->count; i++)
		for (uint32_t j = 0; j < segments->v[i].length_bytes; j++)
			if (segments->v[i].chunk->data[j] != byte_of(sequence, at++))
				fail_msg("message %u: byte %u is not what was sent",
					 (unsigned int)sequence, at - 1);
}

static int take(struct end *end, uint32_t length_bytes, struct ferry_segments *ret)
{
	int r = ferry_arena_take(&end->arena, length_bytes, ret);

	for (uint32_t i = 0; r == 0 && i < ret->count; i++) {
		const uint8_t *data = ret->v[i].chunk->data;

		/* All bytes are as the first one. */
		if (data[0] != 0xdb || memcmp(data, data + 1, FERRY_CHUNK_BYTES - 1) != 0)
			fail_msg("memory that nobody had was written to");
	}
	return r;
}

static void give_back(struct ferry_segments *segments)
{
	for (uint32_t i = 0; i < segments->count; i++)
		memset(segments->v[i].chunk->data, 0xdb, FERRY_CHUNK_BYTES);
	ferry_segments_drop(segments);
}

/* ---- Messages. ---- */

static void said_over(struct said *said)
{
	if (said->is_sending || said->data.count > 0)
		return;
	said->is_busy = false;
}

static void on_sent(struct ferry_message *message, enum ferry_sent sent)
{
	struct said *said = FERRY_CONTAINER_OF(message, struct said, message);

	assert_true(said->is_busy && said->is_sending);
	said->is_sending = false;
	said->end->sending--;
	world.unsure += sent == FERRY_SENT_UNSURE;
	give_back(&message->segments); /* At once used for something else. */
	said_over(said);
}

/* Of @count_max. */
static struct said *said_take(struct end *end, uint32_t count_max)
{
	for (uint32_t i = 0; i < count_max; i++)
		if (!end->said[i].is_busy) {
			end->said[i] = (struct said){.message = {.on_sent = on_sent}, .end = end};
			return &end->said[i];
		}
	return NULL;
}

static void say(struct said *said)
{
	struct end *end = said->end;

	said->is_busy = said->is_sending = true;
	end->sending++;
	if (ferry_link_send(&sim_device_link(&end->device)->link, &said->message) == 0)
		return;
	said->is_sending = false;
	end->sending--;
	give_back(&said->message.segments);
	give_back(&said->data);
	said_over(said);
}

static void ask(struct end *end)
{
	uint32_t blocks = sim_chance(&world.sim, SIM_WORKLOAD, 300)
				  ? 1 + (uint32_t)sim_below(&world.sim, SIM_WORKLOAD, 8)
				  : 1 + (uint32_t)sim_below(&world.sim, SIM_WORKLOAD, 600);
	bool is_write = sim_chance(&world.sim, SIM_WORKLOAD, 500);
	struct said *said = said_take(end, ASKED_MAX);
	struct ferry_segments segments = {0};

	if (!said || take(end, blocks * BLOCK_BYTES, &segments) < 0)
		return;
	world.sequence++;
	if (is_write) {
		fill(&segments, world.sequence);
		said->message.segments = segments;
	} else {
		said->message.room = said->data = segments;
	}
	said->message.header = (struct ferry_wire_header){
		.type = FERRY_WIRE_REQUEST,
		.payload_bytes = is_write ? segments.length_bytes : 0,
		.node = {1},
		.incarnation = {1},
		.lineage = {{1}},
		.epoch = {1},
		.sequence = world.sequence,
		.lun = {{2}},
		.op = is_write ? FERRY_OP_WRITE : FERRY_OP_READ,
		.length_blocks = blocks,
	};
	say(said);
}

static void answer(struct end *end, const struct ferry_wire_header *request)
{
	struct said *said = said_take(end, SAID_MAX);
	struct ferry_segments segments = {0};

	ferry_assert(said); /* Not many more than were asked. */
	said->message.header = *request;
	said->message.header.type = FERRY_WIRE_REPLY;
	said->message.header.payload_bytes = said->message.header.payload_crc = 0;
	said->message.header.outcome = FERRY_OUTCOME_DONE;
	said->message.header.cause = FERRY_CAUSE_NONE;
	if (request->op == FERRY_OP_READ) {
		if (take(end, request->length_blocks * BLOCK_BYTES, &segments) < 0) {
			said->message.header.outcome = FERRY_OUTCOME_FAILED;
			said->message.header.cause = FERRY_CAUSE_UNHEALTHY;
		} else {
			fill(&segments, request->sequence);
			said->message.segments = segments;
			said->message.header.payload_bytes = segments.length_bytes;
		}
	}
	say(said);
}

/* ---- The port's callbacks. ---- */

static void on_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct end *end = link->context;

	assert_true(!end->is_up && incarnation.v > 0);
	end->is_up = true;
}

static void on_down(struct ferry_link *link, const char *why)
{
	struct end *end = link->context;

	(void)why;
	assert_true(end->is_up);
	assert_int_equal(end->sending, 0); /* Each on_sent() came before. */
	end->is_up = end->is_paused = false;
	end->downs++;
	for (uint32_t i = 0; i < SAID_MAX; i++) { /* Nobody answers any more. */
		give_back(&end->said[i].data);
		said_over(&end->said[i]);
	}
}

static struct said *asked(struct end *end, uint64_t sequence)
{
	for (uint32_t i = 0; i < ASKED_MAX; i++)
		if (end->said[i].data.count > 0 && end->said[i].message.header.sequence == sequence)
			return &end->said[i];
	return NULL;
}

static int on_payload(struct ferry_link *link, const struct ferry_wire_header *header,
		      struct ferry_segments *ret)
{
	struct end *end = link->context;

	if (header->type == FERRY_WIRE_REPLY) {
		struct said *said = asked(end, header->sequence);

		assert_non_null(said);
		ferry_segments_share(&said->data, ret);
		return 0;
	}
	end->is_paused = sim_chance(&world.sim, SIM_WORKLOAD, 100) ||
			 take(end, header->payload_bytes, ret) < 0;
	return end->is_paused ? -ENOBUFS : 0;
}

static void on_payload_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
			       struct ferry_segments *segments)
{
	(void)link;
	if (header->type == FERRY_WIRE_REPLY)
		ferry_segments_drop(segments);
	else
		give_back(segments);
}

static void on_message(struct ferry_link *link, const struct ferry_wire_header *header,
		       struct ferry_segments *segments)
{
	struct end *end = link->context;
	struct said *said = asked(end, header->sequence);

	assert_int_equal(segments->length_bytes, header->payload_bytes);
	expect_filled(segments, header->sequence);
	assert_true(header->sequence > end->heard); /* In order, and once. */
	end->heard = header->sequence;
	if (header->type == FERRY_WIRE_REQUEST) {
		world.writes += segments->count > 0;
		give_back(segments);
		answer(end, header);
		return;
	}
	world.reads += segments->count > 0;
	ferry_segments_drop(segments);
	if (!said)
		return;
	assert_false(said->is_sending && said->message.room.length_bytes > 4096); /* Closed. */
	give_back(&said->data);
	said_over(said);
}

/* ---- A seed. ---- */

static void end_open(struct end *end, uint32_t node)
{
	size_t memory_bytes = (size_t)CHUNKS * FERRY_CHUNK_BYTES;
	struct ferry_link *link;

	sim_loop_init(&end->loop, &world.sim, node);
	end->descriptors = sim_alloc(64 * 1024);
	end->memory = aligned_alloc(FERRY_CHUNK_BYTES, memory_bytes);
	memset(end->memory, 0xdb, memory_bytes);
	ferry_region_init(&end->region, end->descriptors, 64 * 1024);
	assert_int_equal(ferry_arena_init(&end->arena, &end->region, end->memory, memory_bytes), 0);
	sim_device_open(&end->device, &end->loop, node, end->memory, memory_bytes,
			/* links_max= */ 1);
	link = &sim_device_link(&end->device)->link;
	link->on_up = on_up;
	link->on_down = on_down;
	link->on_payload = on_payload;
	link->on_payload_dropped = on_payload_dropped;
	link->on_message = on_message;
	link->context = end;
}

static void end_close(struct end *end)
{
	assert_int_equal(end->arena.free_count, CHUNKS); /* Nothing leaks. */
	sim_device_close(&end->device);
	sim_loop_done(&end->loop);
	free(end->memory);
	free(end->descriptors);
}

static bool is_down(const struct end *end)
{
	return end->device.verbs.links[0].state == VERBS_LINK_DOWN;
}

/* What somebody does at random; mostly ask. */
static void something(bool has_faults)
{
	struct end *end = &world.ends[sim_below(&world.sim, SIM_CRASH, 2)];
	struct ferry_link *link = &sim_device_link(&end->device)->link;
	uint64_t drawn = sim_below(&world.sim, SIM_CRASH, 1000);

	for (int i = 0; i < 2; i++)
		if (world.ends[i].is_paused && !world.ends[i].loop.is_frozen) {
			struct ferry_link *paused = &sim_device_link(&world.ends[i].device)->link;

			world.ends[i].is_paused = false;
			paused->ops->resume(paused);
		}
	if (is_down(&world.ends[0]) && is_down(&world.ends[1]) && !world.ends[0].loop.is_frozen &&
	    !world.ends[1].loop.is_frozen) {
		world.ends[0].heard = world.ends[1].heard = 0;
		sim_device_connect(&world.ends[0].device, &world.ends[1].device);
	}
	if (has_faults && drawn < 4)
		sim_device_break(sim_device_link(&end->device));
	else if (has_faults && drawn < 8 && end->is_up && !end->loop.is_frozen)
		link->ops->reset(link, "the test");
	else if (has_faults && drawn < 12 && !end->loop.is_frozen)
		sim_loop_freeze(&end->loop);
	else if (drawn < 40 && end->loop.is_frozen)
		sim_loop_wake(&end->loop);
	else if (!world.ends[0].loop.is_frozen)
		ask(&world.ends[0]);
}

static void seed_run(uint64_t seed, uint32_t late_per_mille, bool has_faults)
{
	world = (struct world){0};
	sim_init(&world.sim, seed);
	sim_cm_init(&world.sim);
	for (uint32_t i = 0; i < 2; i++) {
		end_open(&world.ends[i], i + 1);
		world.ends[i].device.late_per_mille = late_per_mille;
		world.ends[i].device.late_ns_max = LATE_NS;
		world.ends[i].device.stuck_per_mille = stuck_per_mille;
	}
	for (int i = 0; i < STEPS; i++) {
		something(has_faults);
		sim_run_until(&world.sim, world.sim.now_ns + sim_below(&world.sim, SIM_WORKLOAD,
								       2 * FERRY_NS_PER_MS));
	}
	for (int i = 0; i < 2; i++)
		if (world.ends[i].loop.is_frozen)
			sim_loop_wake(&world.ends[i].loop);
	for (int i = 0; i < 2; i++) {
		struct ferry_link *link = &sim_device_link(&world.ends[i].device)->link;

		link->ops->reset(link, "the end");
	}
	sim_run_until(&world.sim, world.sim.now_ns + FERRY_NS_PER_S);
	assert_true(is_down(&world.ends[0]) && is_down(&world.ends[1]));
}

static void seed_end(void)
{
	end_close(&world.ends[0]);
	end_close(&world.ends[1]);
	sim_cm_done();
	sim_done(&world.sim);
}

/* Nothing goes wrong: no link falls, whatever waits for credits, windows or the queue. */
static void test_without_faults(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		seed_run(seed, /* late_per_mille= */ 0, /* has_faults= */ false);
		assert_int_equal(world.ends[0].downs + world.ends[1].downs, 2);
		assert_int_equal(world.ends[0].device.denied + world.ends[1].device.denied, 0);
		assert_true(world.writes > 100 && world.reads > 100);
		seed_end();
	}
}

static void test_with_faults(void **state)
{
	uint64_t late = 0, downs = 0, unsure = 0, writes = 0, reads = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		seed_run(100 + seed, /* late_per_mille= */ 20, /* has_faults= */ true);
		for (int i = 0; i < 2; i++) {
			late += world.ends[i].device.late;
			downs += world.ends[i].downs;
		}
		unsure += world.unsure;
		writes += world.writes;
		reads += world.reads;
		seed_end();
	}
	print_message("%u writes, %u reads; %u RDMA late, %u links fell, %u unsure\n",
		      (unsigned int)writes, (unsigned int)reads, (unsigned int)late,
		      (unsigned int)downs, (unsigned int)unsure);
	assert_true(late > SEEDS && downs > 4 * SEEDS && unsure > 4 * SEEDS);
	assert_true(writes > 10 * SEEDS && reads > 10 * SEEDS);
}

static uint32_t stuck_count(struct end *end)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < FERRY_VERBS_WINDOWS; i++)
		count += sim_device_link(&end->device)->windows[i].stuck.count;
	return count;
}

/* Up and down once more. */
static void try_again(void)
{
	for (int i = 0; i < 2; i++)
		world.ends[i].heard = 0;
	sim_device_connect(&world.ends[0].device, &world.ends[1].device);
	sim_device_break(sim_device_link(&world.ends[0].device));
	sim_run_until(&world.sim, world.sim.now_ns + FERRY_NS_PER_S);
	assert_true(is_down(&world.ends[0]) && is_down(&world.ends[1]));
}

/* Windows that cannot be closed: what they open is nobody's until they are; all else goes on. */
static void test_with_windows_that_stick(void **state)
{
	uint64_t sticking = 0, writes = 0, reads = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		stuck_per_mille = 300;
		seed_run(200 + seed, /* late_per_mille= */ 20, /* has_faults= */ true);
		stuck_per_mille = 0;
		for (int i = 0; i < 2; i++) {
			struct end *end = &world.ends[i];
			uint32_t held = CHUNKS - end->arena.free_count;

			sticking += end->device.stuck;
			assert_true(held <= stuck_count(end)); /* More than one may hold a chunk. */
			assert_int_equal(held > 0, stuck_count(end) > 0);
			end->device.stuck_per_mille = 0;
		}
		try_again();
		for (int i = 0; i < 2; i++)
			assert_int_equal(stuck_count(&world.ends[i]), 0);
		writes += world.writes;
		reads += world.reads;
		seed_end();
	}
	assert_true(sticking > SEEDS && writes > 10 * SEEDS && reads > 10 * SEEDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_faults),
		cmocka_unit_test(test_with_faults),
		cmocka_unit_test(test_with_windows_that_stick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
