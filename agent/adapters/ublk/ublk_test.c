/* The ublk front end, with a driver of the test's own (ublk_stand.h) and a volume in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "agent/adapters/nbd/block_stub.h"
#include "agent/adapters/ublk/private.h"
#include "agent/adapters/ublk/ublk_stand.h"
#include "agent/adapters/uring/loop.h"

enum { VOLUME_BYTES = 4 * 1024 * 1024, CHUNKS = 32, SECTOR = 512 };

static struct {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_arena arena;
	uint8_t *memory;
	uint8_t tables[CHUNKS * sizeof(struct ferry_chunk) + 4096] __attribute__((aligned(64)));
	uint8_t *bytes;
	struct ferry_block_stub volume;
	struct ublk_stand stand;
	struct ferry_ublk *ublk;
	struct ferry_timer guard;
	struct ferry_task look;
	bool (*is_it)(void);

	struct ferry_events events;
	int error;
	char text[FERRY_EVENT_TEXT_MAX];
	uint32_t answers, removals, leaves;
} at;

static void guard_run(struct ferry_timer *timer)
{
	(void)timer;
	fail_msg("the test did not end in time");
}

static void look_run(struct ferry_task *task)
{
	if (at.is_it())
		ferry_uring_loop_stop(at.uring);
	else
		ferry_task_post(at.loop, task);
}

/* Run the loop until @is_it. */
static void until(bool (*is_it)(void))
{
	at.is_it = is_it;
	ferry_timer_start_in(at.loop, &at.guard, 20 * FERRY_NS_PER_S);
	ferry_task_post(at.loop, &at.look);
	assert_int_equal(ferry_uring_loop_run(at.uring), 0);
	ferry_timer_stop(at.loop, &at.guard);
}

static uint32_t turns_left;

static bool is_quiet(void)
{
	return turns_left-- == 0;
}

static void some_turns(void)
{
	turns_left = 20;
	until(is_quiet);
}

static void ublk_open(void)
{
	struct ferry_ublk_config config = {.loop = at.loop,
					   .commands = &at.stand.commands,
					   .events = at.events.emit ? &at.events : NULL,
					   .devices = at.stand.folder};

	assert_int_equal(ferry_ublk_open(&config, &at.ublk, NULL), 0);
}

static struct ferry_ublk_volume shown(void)
{
	return (struct ferry_ublk_volume){
		.block = &at.volume.block,
		.label = {.agent = "/run/ferry", .node = {1}, .lineage = {{1}}, .lun = {{2}}},
		.may_recover = true};
}

static void add(void)
{
	struct ferry_ublk_volume volume = shown();

	assert_int_equal(ferry_ublk_add(at.ublk, &volume, NULL), 0);
}

static int setup(void **state)
{
	struct ferry_region region;

	(void)state;
	memset(&at, 0, sizeof(at));
	assert_int_equal(ferry_uring_loop_open(&at.uring, NULL), 0);
	at.loop = ferry_uring_loop_of(at.uring);
	at.guard.run = guard_run;
	at.look.run = look_run;
	at.memory = aligned_alloc(FERRY_CHUNK_BYTES, CHUNKS * FERRY_CHUNK_BYTES);
	at.bytes = calloc(1, VOLUME_BYTES);
	assert_true(at.memory && at.bytes);
	ferry_region_init(&region, at.tables, sizeof(at.tables));
	assert_int_equal(
		ferry_arena_init(&at.arena, &region, at.memory, CHUNKS * FERRY_CHUNK_BYTES), 0);
	ferry_block_stub_init(&at.volume, at.loop, &at.arena, "data", at.bytes,
			      VOLUME_BYTES / SECTOR, SECTOR);
	ublk_stand_init(&at.stand, at.loop);
	ublk_open();
	return 0;
}

static bool has_answer(void)
{
	return at.answers > 0;
}

static void on_done(int error, const char *text, void *context)
{
	assert_ptr_equal(context, &at);
	at.error = error;
	(void)snprintf(at.text, sizeof(at.text), "%s", text);
	at.answers++;
}

static int attach(void)
{
	at.answers = 0;
	ferry_ublk_attach(at.ublk, &at.volume.block, on_done, &at);
	until(has_answer);
	assert_int_equal(at.answers, 1);
	return at.error;
}

static int detach(void)
{
	at.answers = 0;
	ferry_ublk_detach(at.ublk, &at.volume.block, on_done, &at);
	until(has_answer);
	assert_int_equal(at.answers, 1);
	return at.error;
}

static void on_removed(void *context)
{
	assert_ptr_equal(context, &at);
	at.removals++;
}

static bool is_removed(void)
{
	return at.removals > 0;
}

static void on_left(void *context)
{
	(void)context;
	at.leaves++;
}

static bool has_left(void)
{
	return at.leaves > 0;
}

static int teardown(void **state)
{
	(void)state;
	at.removals = 0;
	if (at.ublk && ferry_ublk_remove(at.ublk, &at.volume.block, on_removed, &at) == 0)
		until(is_removed);
	for (uint32_t i = 0; i < UBLK_STAND_DEVICES && at.ublk; i++)
		assert_false(at.stand.devices[i].is_there);
	if (at.ublk)
		assert_int_equal(at.stand.reserved_count, 0);
	at.ublk = ferry_ublk_free(at.ublk);
	ublk_stand_done(&at.stand);
	ferry_block_stub_done(&at.volume);
	assert_int_equal(at.arena.free_count, CHUNKS);
	at.uring = ferry_uring_loop_close(at.uring);
	free(at.memory);
	free(at.bytes);
	return 0;
}

static uint32_t awaited_tag;

static bool is_answered(void)
{
	return at.stand.devices[0].slots[awaited_tag].is_answered;
}

static int32_t answer_of(uint32_t tag)
{
	awaited_tag = tag;
	until(is_answered);
	return at.stand.devices[0].slots[tag].result;
}

static int32_t ask(uint32_t tag, uint32_t op_flags, uint64_t sector, uint32_t sectors)
{
	ublk_stand_ask(&at.stand, 0, tag, op_flags, sector, sectors);
	return answer_of(tag);
}

/* ---- The driver's words and ours. ---- */

static const struct {
	uint32_t block_bytes, op_flags;
	uint64_t sector;
	uint32_t sectors;
	int r;
	struct ferry_io io;
} requests[] = {
	{512, UBLK_IO_OP_READ, 7, 1, 0, {.op = FERRY_OP_READ, .lba = {7}, .length_blocks = 1}},
	{4096, UBLK_IO_OP_READ, 8, 16, 0, {.op = FERRY_OP_READ, .lba = {1}, .length_blocks = 2}},
	{512,
	 UBLK_IO_OP_WRITE | UBLK_IO_F_FUA,
	 0,
	 2048,
	 0,
	 {.op = FERRY_OP_WRITE, .flags = FERRY_IO_FUA, .length_blocks = 2048}},
	{512,
	 UBLK_IO_OP_READ | UBLK_IO_F_FUA | UBLK_IO_F_META,
	 0,
	 1,
	 0,
	 {.op = FERRY_OP_READ, .length_blocks = 1}},
	{512, UBLK_IO_OP_FLUSH, 0, 0, 0, {.op = FERRY_OP_FLUSH}},
	{512, UBLK_IO_OP_FLUSH, 99, 99, 0, {.op = FERRY_OP_FLUSH}},
	{4096,
	 UBLK_IO_OP_DISCARD,
	 16384,
	 16384,
	 0,
	 {.op = FERRY_OP_DISCARD, .lba = {2048}, .length_blocks = 2048}},
	{512,
	 UBLK_IO_OP_WRITE_ZEROES | UBLK_IO_F_NOUNMAP | UBLK_IO_F_FUA,
	 1,
	 16384,
	 0,
	 {.op = FERRY_OP_WRITE_ZEROES,
	  .flags = FERRY_IO_NO_UNMAP | FERRY_IO_FUA,
	  .lba = {1},
	  .length_blocks = 16384}},
	{512, UBLK_IO_OP_READ, 0, 0, -EINVAL, {0}},
	{512, UBLK_IO_OP_READ, 0, 2049, -EINVAL, {0}},
	{512, UBLK_IO_OP_DISCARD, 0, 16385, -EINVAL, {0}},
	{4096, UBLK_IO_OP_READ, 4, 8, -EINVAL, {0}},
	{4096, UBLK_IO_OP_WRITE, 8, 4, -EINVAL, {0}},
	{512, UBLK_IO_OP_WRITE, 0, UINT32_MAX, -EINVAL, {0}},
	{512, UBLK_IO_OP_WRITE_SAME, 0, 1, -EOPNOTSUPP, {0}},
	{512, 6, 0, 1, -EOPNOTSUPP, {0}},
	{512, 0xff, 0, 1, -EOPNOTSUPP, {0}},
};

static void test_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(requests); i++) {
		struct ferry_block block = {.block_bytes = requests[i].block_bytes,
					    .size_blocks = 1,
					    .can_discard = true};
		struct ublksrv_io_desc desc = {.op_flags = requests[i].op_flags,
					       .start_sector = requests[i].sector,
					       .nr_sectors = requests[i].sectors};
		struct ferry_io io = {0};

		assert_int_equal(ublk_request_translate(&block, &desc, &io), requests[i].r);
		assert_int_equal(io.op, requests[i].io.op);
		assert_int_equal(io.flags, requests[i].io.flags);
		assert_int_equal(io.lba.v, requests[i].io.lba.v);
		assert_int_equal(io.length_blocks, requests[i].io.length_blocks);
		block.can_discard = false;
		if (io.op == FERRY_OP_DISCARD)
			assert_int_equal(ublk_request_translate(&block, &desc, &io), -EOPNOTSUPP);
	}
}

static void test_results(void **state)
{
	struct ferry_io write = {.op = FERRY_OP_WRITE, .length_blocks = 256};
	struct ferry_io flush = {.op = FERRY_OP_FLUSH};

	(void)state;
	assert_int_equal(ublk_result_of(&write, 4096, 0), 1024 * 1024);
	assert_int_equal(ublk_result_of(&flush, 4096, 0), 0);
	assert_int_equal(ublk_result_of(&write, 512, -ENOSPC), -ENOSPC);
	assert_int_equal(ublk_result_of(&write, 512, -ETIMEDOUT), -ETIMEDOUT);
	/* To the block layer these would be reasons to try again, for ever. */
	assert_int_equal(ublk_result_of(&write, 512, -ENOMEM), -EIO);
	assert_int_equal(ublk_result_of(&write, 512, -EBUSY), -EIO);
	assert_int_equal(ublk_result_of(&write, 512, -EAGAIN), -EIO);
	assert_int_equal(ublk_result_of(&flush, 512, -ESHUTDOWN), -EIO);
}

static void test_limits(void **state)
{
	struct ferry_block block = {.block_bytes = 4096, .size_blocks = 1000, .can_discard = true};
	struct ublk_params params, other;

	(void)state;
	ublk_params_make(&block, &params);
	assert_int_equal(params.types, UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD);
	assert_int_equal(params.basic.attrs, UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA);
	assert_int_equal(params.basic.logical_bs_shift, 12);
	assert_int_equal(params.basic.dev_sectors, 8000);
	assert_int_equal(params.basic.max_sectors, 2048);
	assert_int_equal(params.discard.max_discard_sectors, 16384);
	assert_int_equal(params.discard.max_write_zeroes_sectors, 16384);
	assert_int_equal(params.discard.max_discard_segments, 1);
	assert_true(ublk_params_fit(&block, &params));

	other = params;
	other.basic.dev_sectors--;
	assert_false(ublk_params_fit(&block, &other));
	other = params;
	other.basic.logical_bs_shift = 9;
	assert_false(ublk_params_fit(&block, &other));
	block.can_discard = false;
	assert_false(ublk_params_fit(&block, &params));
	ublk_params_make(&block, &params);
	assert_int_equal(params.discard.max_discard_sectors, 0);
	assert_int_not_equal(params.discard.discard_granularity, 0); /* The driver insists. */
	block.is_read_only = true;
	assert_false(ublk_params_fit(&block, &params));
	ublk_params_make(&block, &params);
	assert_int_equal(params.types, UBLK_PARAM_TYPE_BASIC);
	assert_true(params.basic.attrs & UBLK_ATTR_READ_ONLY);
}

static void test_labels(void **state)
{
	struct ferry_ublk_label label = shown().label, other = label;
	uint64_t ours = ublk_label_of(&label, "data");

	(void)state;
	assert_true(ublk_label_of(&label, "data") == ours);
	assert_false(ublk_label_is_kin(ours, 0)); /* What others leave there. */
	assert_false(ublk_label_is_kin(ours, UINT32_MAX));
	assert_false(ublk_label_is_kin(ours, ublk_label_of(&label, "data2")));
	other.node.v = 2;
	assert_false(ublk_label_is_kin(ours, ublk_label_of(&other, "data")));
	other = label;
	other.agent = "/run/other";
	assert_false(ublk_label_is_kin(ours, ublk_label_of(&other, "data")));
	other = label;
	other.lineage.bytes[5]++;
	assert_false(ublk_label_is_kin(ours, ublk_label_of(&other, "data")));
	other = label;
	other.lun.bytes[15]++;
	assert_true(ublk_label_is_kin(ours, ublk_label_of(&other, "data")));
	assert_true(ours != ublk_label_of(&other, "data"));
	other = label;
	other.tenure.v++;
	assert_true(ublk_label_is_kin(ours, ublk_label_of(&other, "data")));
	assert_true(ours != ublk_label_of(&other, "data"));
}

/* ---- A device. ---- */

static void test_attach(void **state)
{
	(void)state;
	assert_int_equal(attach(), -ENODEV); /* Not shown. */
	assert_int_equal(detach(), -ENODEV);
	add();
	assert_string_equal(ferry_ublk_device(at.ublk, &at.volume.block), "");
	assert_int_equal(attach(), 0);
	assert_string_equal(at.text, "/dev/ublkb0");
	assert_string_equal(ferry_ublk_device(at.ublk, &at.volume.block), "/dev/ublkb0");
	assert_string_equal(at.stand.trace, "APS");
	assert_int_equal(at.stand.devices[0].params.basic.dev_sectors, VOLUME_BYTES / SECTOR);
	assert_int_equal(attach(), 0); /* Twice is once. */
	assert_string_equal(at.text, "/dev/ublkb0");
	assert_string_equal(at.stand.trace, "APS");
	assert_int_equal(detach(), 0);
	assert_string_equal(at.stand.trace, "APSXD");
	assert_false(at.stand.devices[0].is_there);
	assert_string_equal(ferry_ublk_device(at.ublk, &at.volume.block), "");
	assert_int_equal(detach(), 0); /* Likewise. */
	assert_int_equal(attach(), 0);
}

static void on_event(struct ferry_events *events, const struct ferry_event *event)
{
	assert_ptr_equal(events, &at.events);
	(void)snprintf(at.text, sizeof(at.text), "%s", event->text);
}

static void test_no_driver(void **state)
{
	char path[96];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/ublk-control", at.stand.folder);
	assert_int_equal(remove(path), 0);
	at.ublk = ferry_ublk_free(at.ublk);
	at.events.emit = on_event;
	ublk_open();
	assert_non_null(strstr(at.text, "modprobe ublk_drv"));
	add();
	assert_int_equal(attach(), -ENODEV);
	assert_non_null(strstr(at.text, "modprobe ublk_drv"));
}

/* Each step fails once: no device is left, and the next try has one. */
static void test_each_step_fails(void **state)
{
	static const uint32_t codes[] = {UBLK_U_CMD_ADD_DEV, UBLK_U_CMD_SET_PARAMS,
					 UBLK_U_IO_FETCH_REQ, UBLK_U_CMD_START_DEV};

	(void)state;
	add();
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(codes); i++) {
		at.stand.fail_code = codes[i];
		at.stand.fail_result = -EPERM;
		assert_int_equal(attach(), -EPERM);
		assert_non_null(strstr(at.text, "ublk driver"));
		assert_false(at.stand.devices[0].is_there);
		at.stand.fail_code = 0;
		assert_int_equal(attach(), 0);
		assert_int_equal(detach(), 0);
		at.stand.trace[0] = '\0';
		memset(at.stand.trace, 0, sizeof(at.stand.trace));
	}
}

/* ---- Requests. ---- */

static void test_io(void **state)
{
	uint8_t *data = malloc(FERRY_IO_BYTES_MAX), *back = malloc(FERRY_IO_BYTES_MAX);
	struct ferry_ublk_counters counters;

	(void)state;
	assert_true(data && back);
	for (uint32_t i = 0; i < FERRY_IO_BYTES_MAX; i++)
		data[i] = (uint8_t)(i * 7 + i / 4096);
	add();
	assert_int_equal(attach(), 0);
	ublk_stand_data_write(&at.stand, 0, 3, data, FERRY_IO_BYTES_MAX);
	assert_int_equal(ask(3, UBLK_IO_OP_WRITE | UBLK_IO_F_FUA, 1000, 2048), FERRY_IO_BYTES_MAX);
	assert_memory_equal(at.bytes + 1000 * SECTOR, data, FERRY_IO_BYTES_MAX);
	assert_int_equal(at.volume.fuas, 1);
	assert_int_equal(ask(63, UBLK_IO_OP_READ, 1000, 2048), FERRY_IO_BYTES_MAX);
	ublk_stand_data_read(&at.stand, 0, 63, back, FERRY_IO_BYTES_MAX);
	assert_memory_equal(back, data, FERRY_IO_BYTES_MAX);
	assert_int_equal(ask(0, UBLK_IO_OP_READ, 1001, 1), SECTOR);
	ublk_stand_data_read(&at.stand, 0, 0, back, SECTOR);
	assert_memory_equal(back, data + SECTOR, SECTOR);
	assert_int_equal(ask(0, UBLK_IO_OP_FLUSH, 0, 0), 0);
	assert_int_equal(ask(0, UBLK_IO_OP_WRITE_ZEROES | UBLK_IO_F_NOUNMAP, 1000, 1), 0);
	assert_int_equal(at.bytes[1000 * SECTOR + 1], 0);
	assert_int_equal(at.volume.no_unmaps, 1);
	assert_int_equal(ask(0, UBLK_IO_OP_DISCARD, 1001, 7), 0);
	ferry_ublk_counters_get(at.ublk, &counters);
	assert_int_equal(counters.reads, 2);
	assert_int_equal(counters.writes, 1);
	assert_int_equal(counters.fuas, 1);
	assert_int_equal(counters.flushes, 1);
	assert_int_equal(counters.zeroes, 1);
	assert_int_equal(counters.discards, 1);
	assert_int_equal(counters.refused + counters.failed, 0);
	free(data);
	free(back);
}

static void test_io_errors(void **state)
{
	struct ferry_ublk_counters counters;

	(void)state;
	add();
	assert_int_equal(attach(), 0);
	assert_int_equal(ask(0, UBLK_IO_OP_READ, 0, 4096), -EIO); /* Too long. */
	assert_int_equal(ask(0, UBLK_IO_OP_WRITE_SAME, 0, 1), -EOPNOTSUPP);
	assert_int_equal(ask(0, UBLK_IO_OP_READ, VOLUME_BYTES / SECTOR, 1), -EIO);
	ferry_block_stub_behave(&at.volume,
				(struct ferry_block_behaviour){.fail_op = FERRY_OP_WRITE,
							       .fail_count = 1,
							       .fail_error = -ENOSPC});
	assert_int_equal(ask(0, UBLK_IO_OP_WRITE, 0, 8), -ENOSPC);
	assert_int_equal(ask(0, UBLK_IO_OP_WRITE, 0, 8), 8 * SECTOR);
	ferry_ublk_counters_get(at.ublk, &counters);
	assert_int_equal(counters.refused, 2);
	assert_int_equal(counters.failed, 4);
}

static bool are_all_answered(void)
{
	for (uint32_t i = 0; i < FERRY_UBLK_DEPTH; i++)
		if (!at.stand.devices[0].slots[i].is_answered)
			return false;
	return true;
}

/* More than the arena holds, and more than the volume takes: all are served, none is lost. */
static void test_no_room(void **state)
{
	uint8_t data[64 * 1024];

	(void)state;
	add();
	assert_int_equal(attach(), 0);
	ferry_block_stub_behave(&at.volume, (struct ferry_block_behaviour){.delay_ns = 1000000,
									   .in_flight_max = 3});
	for (uint32_t tag = 0; tag < FERRY_UBLK_DEPTH; tag++) {
		memset(data, (int)(tag + 1), sizeof(data));
		ublk_stand_data_write(&at.stand, 0, tag, data, sizeof(data));
		/* 1 MiB each of what 2 MiB of arena are for; they overlap but for their starts. */
		ublk_stand_ask(&at.stand, 0, tag, UBLK_IO_OP_WRITE, tag * 2, 2048);
	}
	until(are_all_answered);
	for (uint32_t tag = 0; tag < FERRY_UBLK_DEPTH; tag++) {
		assert_int_equal(at.stand.devices[0].slots[tag].result, FERRY_IO_BYTES_MAX);
		assert_int_equal(at.bytes[tag * 1024], tag + 1);
	}
	assert_true(at.volume.refusals == 0 || at.volume.in_flight_seen_max <= 3);
	/* What has no memory to wait for: the volume alone is full. */
	for (uint32_t tag = 0; tag < FERRY_UBLK_DEPTH; tag++)
		ublk_stand_ask(&at.stand, 0, tag, UBLK_IO_OP_FLUSH, 0, 0);
	until(are_all_answered);
	assert_true(at.volume.refusals > 0);
	assert_int_equal(at.volume.in_flight_seen_max, 3);
}

/* ---- The end, and the next agent. ---- */

static void test_removed_while_it_starts(void **state)
{
	(void)state;
	add();
	at.answers = 0;
	ferry_ublk_attach(at.ublk, &at.volume.block, on_done, &at);
	assert_int_equal(ferry_ublk_remove(at.ublk, &at.volume.block, on_removed, &at), 0);
	assert_int_equal(ferry_ublk_remove(at.ublk, &at.volume.block, on_removed, &at), -EALREADY);
	until(is_removed);
	assert_int_equal(at.error, -ESHUTDOWN);
	assert_int_equal(ferry_ublk_remove(at.ublk, &at.volume.block, on_removed, &at), -ENOENT);
	add();
	assert_int_equal(attach(), 0);
}

/* The agent is gone without a word; a new one is there, which shows the volume. */
static void agent_dies(void)
{
	at.ublk->devices[0].is_leaving = true;
	at.volume.behaviour.is_held = false;
	ferry_block_stub_behave(&at.volume, at.volume.behaviour);
	some_turns(); /* The volume in memory has no other end for its I/O. */
	ublk_stand_server_died(&at.stand);
	at.ublk = ferry_ublk_free(at.ublk);
	at.stand.reserved_count = 0;
	memset(at.stand.trace, 0, sizeof(at.stand.trace));
	ublk_open();
}

static bool is_served(void)
{
	return at.ublk->devices[0].state == UBLK_LIVE;
}

static bool has_none(void)
{
	return at.ublk->devices[0].state == UBLK_NONE;
}

/* A device with one write that the dead agent has not answered. */
static void device_left(void)
{
	uint8_t data[SECTOR];

	add();
	assert_int_equal(attach(), 0);
	memset(data, 0x5a, sizeof(data));
	ublk_stand_data_write(&at.stand, 0, 9, data, sizeof(data));
	ferry_block_stub_behave(&at.volume,
				(struct ferry_block_behaviour){.fail_op = FERRY_OP_WRITE,
							       .fail_count = 1,
							       .fail_error = -EIO,
							       .is_held = true});
	ublk_stand_ask(&at.stand, 0, 9, UBLK_IO_OP_WRITE, 77, 1);
	some_turns();
	assert_int_equal(at.volume.in_flight_count, 1);
	agent_dies();
	assert_true(at.stand.devices[0].slots[9].is_asked);
	memset(at.bytes, 0, VOLUME_BYTES);
}

static void test_recovered(void **state)
{
	struct ferry_ublk_counters counters;

	(void)state;
	device_left();
	ublk_stand_ask(&at.stand, 0, 10, UBLK_IO_OP_FLUSH, 0, 0); /* While there is no agent. */
	at.stand.devices[0].busy_count = 2;
	add();
	until(is_served);
	assert_string_equal(at.stand.trace, "ipRipRipRE");
	assert_string_equal(ferry_ublk_device(at.ublk, &at.volume.block), "/dev/ublkb0");
	assert_int_equal(answer_of(9), SECTOR);
	assert_int_equal(at.bytes[77 * SECTOR], 0x5a);
	assert_int_equal(answer_of(10), 0);
	ferry_ublk_counters_get(at.ublk, &counters);
	assert_int_equal(counters.recovered, 1);
	assert_int_equal(attach(), 0); /* The same. */
	assert_int_equal(at.stand.devices[0].recoveries, 1);
	assert_int_equal(detach(), 0);
}

/* The kernel has not noticed yet that the agent is dead. */
static void test_waits_for_the_dead(void **state)
{
	(void)state;
	device_left();
	at.stand.devices[0].info.state = UBLK_S_DEV_LIVE;
	add();
	at.answers = 0;
	ferry_ublk_attach(at.ublk, &at.volume.block, on_done, &at);
	some_turns();
	assert_int_equal(at.answers, 0);
	assert_string_equal(at.stand.trace, "i");
	at.stand.devices[0].info.state = UBLK_S_DEV_QUIESCED;
	until(has_answer);
	assert_int_equal(at.error, 0);
	assert_int_equal(answer_of(9), SECTOR);
}

static void added_run(struct ferry_command *command, int result)
{
	(void)command;
	assert_int_equal(result, 0);
	at.answers++;
}

/* One more device, of another server. */
static void other_device_add(void)
{
	struct ublksrv_ctrl_dev_info info;
	struct ublksrv_ctrl_cmd words = {
		.dev_id = UINT32_MAX, .queue_id = UINT16_MAX, .addr = (uintptr_t)&info};
	struct ferry_command command = {.fd = 0, .code = UBLK_U_CMD_ADD_DEV, .run = added_run};

	ublk_info_make(7, 1, &info);
	memcpy(command.payload, &words, sizeof(words));
	at.answers = 0;
	assert_int_equal(ferry_command_control(&at.stand.commands, &command), 0);
	until(has_answer);
}

/* Shown only to be withdrawn: what an earlier agent has left goes, and nothing else. */
static void test_cleared(void **state)
{
	struct ublk_stand_device *devices = at.stand.devices;
	struct ferry_ublk_volume volume = shown();

	(void)state;
	device_left();
	other_device_add();
	volume.may_recover = false;
	for (uint32_t ours = 0; ours < 2; ours++) { /* Whichever is looked at first. */
		uint64_t label = ublk_label_of(&volume.label, "data");

		devices[ours].info.ublksrv_flags = label;
		devices[1 - ours].info.ublksrv_flags = 7;
		at.removals = 0;
		assert_int_equal(ferry_ublk_add(at.ublk, &volume, NULL), 0);
		assert_int_equal(ferry_ublk_remove(at.ublk, &at.volume.block, on_removed, &at), 0);
		until(is_removed);
		assert_false(devices[ours].is_there);
		assert_int_equal(devices[ours].recoveries, 0);
		if (ours == 0) {
			assert_true(devices[1].is_there);
			other_device_add(); /* It takes the free number. */
		}
	}
	ublk_stand_done(&at.stand); /* The other's is left. */
	ublk_stand_init(&at.stand, at.loop);
}

static void test_not_recovered(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		struct ferry_ublk_volume volume = shown();

		device_left();
		if (i == 0)
			volume.may_recover = false;
		else if (i == 1)
			volume.label.lun.bytes[0]++;
		else if (i == 2)
			at.stand.devices[0].params.basic.dev_sectors++;
		else if (i == 3)
			volume.label.tenure.v++;
		else
			at.stand.devices[0].info.state = UBLK_S_DEV_DEAD;
		assert_int_equal(ferry_ublk_add(at.ublk, &volume, NULL), 0);
		until(has_none);
		assert_false(at.stand.devices[0].is_there);
		assert_int_equal(at.stand.devices[0].recoveries, 0);
		assert_int_equal(attach(), 0); /* A new one. */
		assert_int_equal(detach(), 0);
		at.removals = 0;
		assert_int_equal(ferry_ublk_remove(at.ublk, &at.volume.block, on_removed, &at), 0);
		until(is_removed);
	}
}

/* Another's device is nobody's business. */
static void test_others_are_left_alone(void **state)
{
	struct ferry_ublk_volume volume = shown();

	(void)state;
	device_left();
	volume.label.agent = "/run/other";
	assert_int_equal(ferry_ublk_add(at.ublk, &volume, NULL), 0);
	until(has_none);
	assert_string_equal(at.stand.trace, "i");
	assert_int_equal(attach(), 0);
	assert_string_equal(at.text, "/dev/ublkb1");
	assert_true(at.stand.devices[0].is_there);
	assert_int_equal(detach(), 0);
	at.stand.devices[0].info.ublksrv_flags = at.ublk->devices[0].label; /* For the teardown. */
	at.removals = 0;
	assert_int_equal(ferry_ublk_remove(at.ublk, &at.volume.block, on_removed, &at), 0);
	until(is_removed);
	volume.may_recover = false;
	assert_int_equal(ferry_ublk_add(at.ublk, &volume, NULL), 0);
	until(has_none);
}

/* An agent that is stopped answers what it has begun, and leaves the rest to the next one. */
static void test_leaves(void **state)
{
	struct ublk_stand_slot *slots = at.stand.devices[0].slots;

	(void)state;
	add();
	assert_int_equal(attach(), 0);
	ferry_block_stub_behave(&at.volume,
				(struct ferry_block_behaviour){.fail_op = FERRY_OP_WRITE,
							       .fail_count = 1,
							       .fail_error = -ESHUTDOWN,
							       .in_flight_max = 2,
							       .is_held = true});
	ublk_stand_ask(&at.stand, 0, 1, UBLK_IO_OP_FLUSH, 0, 0);
	ublk_stand_ask(&at.stand, 0, 2, UBLK_IO_OP_WRITE, 0, 1);
	ublk_stand_ask(&at.stand, 0, 3, UBLK_IO_OP_FLUSH, 0, 0); /* Has no room yet. */
	some_turns();
	assert_int_equal(ferry_ublk_leave(at.ublk, &at.volume.block, on_left, &at), 0);
	assert_int_equal(ferry_ublk_leave(at.ublk, &at.volume.block, on_left, &at), -EALREADY);
	some_turns();
	assert_int_equal(at.leaves, 0);
	at.volume.behaviour.is_held = false;
	ferry_block_stub_behave(&at.volume, at.volume.behaviour);
	until(has_left);
	ublk_stand_ask(&at.stand, 0, 4, UBLK_IO_OP_FLUSH, 0, 0);
	some_turns();
	assert_true(slots[1].is_answered);
	assert_false(slots[2].is_answered || slots[3].is_answered || slots[4].is_answered);
	assert_true(at.stand.devices[0].is_there);
	agent_dies();
	add();
	until(is_served);
	assert_int_equal(answer_of(2), SECTOR);
	assert_int_equal(answer_of(3), 0);
	assert_int_equal(answer_of(4), 0);
}

/* It was left for the next agent, and may not stay after all: nobody waits for an answer for ever.
 */
static void test_left_and_removed(void **state)
{
	struct ublk_stand_slot *slots = at.stand.devices[0].slots;

	(void)state;
	add();
	assert_int_equal(attach(), 0);
	ferry_block_stub_behave(&at.volume,
				(struct ferry_block_behaviour){.fail_op = FERRY_OP_WRITE,
							       .fail_count = 1,
							       .fail_error = -EIO,
							       .in_flight_max = 1,
							       .is_held = true});
	ublk_stand_ask(&at.stand, 0, 1, UBLK_IO_OP_WRITE, 0, 1);
	ublk_stand_ask(&at.stand, 0, 2, UBLK_IO_OP_FLUSH, 0, 0); /* Has no room yet. */
	some_turns();
	assert_int_equal(ferry_ublk_leave(at.ublk, &at.volume.block, on_left, &at), 0);
	at.volume.behaviour.is_held = false;
	ferry_block_stub_behave(&at.volume, at.volume.behaviour);
	until(has_left);
	ublk_stand_ask(&at.stand, 0, 3, UBLK_IO_OP_FLUSH, 0, 0);
	some_turns();
	for (int i = 1; i <= 3; i++)
		assert_false(slots[i].is_answered);
	assert_int_equal(ferry_ublk_remove(at.ublk, &at.volume.block, on_removed, &at), 0);
	until(is_removed);
	for (int i = 1; i <= 3; i++) {
		assert_true(slots[i].is_answered);
		assert_int_equal(slots[i].result, -EIO);
	}
	assert_false(at.stand.devices[0].is_there);
}

/* What a FLUSH has told of no later one would: it is answered. */
static void test_leaves_no_loss_untold(void **state)
{
	struct ublk_stand_slot *slots = at.stand.devices[0].slots;

	(void)state;
	add();
	assert_int_equal(attach(), 0);
	ferry_block_stub_behave(&at.volume,
				(struct ferry_block_behaviour){.fail_op = FERRY_OP_FLUSH,
							       .fail_count = 1,
							       .fail_error = -EIO,
							       .is_held = true});
	ublk_stand_ask(&at.stand, 0, 1, UBLK_IO_OP_FLUSH, 0, 0);
	some_turns();
	assert_int_equal(ferry_ublk_leave(at.ublk, &at.volume.block, on_left, &at), 0);
	at.volume.behaviour.is_held = false;
	ferry_block_stub_behave(&at.volume, at.volume.behaviour);
	until(has_left);
	some_turns();
	assert_true(slots[1].is_answered);
	assert_int_equal(slots[1].result, -EIO);
	agent_dies();
	add();
	until(is_served);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_requests),
		TEST(test_results),
		TEST(test_limits),
		TEST(test_labels),
		TEST(test_attach),
		TEST(test_no_driver),
		TEST(test_each_step_fails),
		TEST(test_io),
		TEST(test_io_errors),
		TEST(test_no_room),
		TEST(test_removed_while_it_starts),
		TEST(test_recovered),
		TEST(test_waits_for_the_dead),
		TEST(test_cleared),
		TEST(test_not_recovered),
		TEST(test_others_are_left_alone),
		TEST(test_leaves),
		TEST(test_left_and_removed),
		TEST(test_leaves_no_loss_untold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
