/* rig_stand.c - see rig.h. */
#include "agent/cache/rig.h"

#include <stdlib.h>

static uint64_t loop_now(struct ferry_loop *loop)
{
	return FERRY_CONTAINER_OF(loop, struct rig, loop)->now_ns;
}

static void loop_post(struct ferry_loop *loop, struct ferry_task *task)
{
	struct rig *rig = FERRY_CONTAINER_OF(loop, struct rig, loop);

	if (task->is_posted)
		return;
	task->is_posted = true;
	ferry_list_append(&rig->tasks, &task->link);
}

static void loop_cancel(struct ferry_loop *loop, struct ferry_task *task)
{
	(void)loop;
	if (task->is_posted)
		ferry_list_remove(&task->link);
	task->is_posted = false;
}

static bool loop_is_current(struct ferry_loop *loop)
{
	(void)loop;
	return true;
}

static void loop_timer_start(struct ferry_loop *loop, struct ferry_timer *timer,
			     uint64_t deadline_ns)
{
	struct rig *rig = FERRY_CONTAINER_OF(loop, struct rig, loop);

	ferry_assert(!rig->timer || rig->timer == timer);
	timer->deadline_ns = deadline_ns;
	timer->heap_slot = 1;
	rig->timer = timer;
}

static void loop_timer_stop(struct ferry_loop *loop, struct ferry_timer *timer)
{
	struct rig *rig = FERRY_CONTAINER_OF(loop, struct rig, loop);

	timer->heap_slot = 0;
	if (rig->timer == timer)
		rig->timer = NULL;
}

static const struct ferry_loop_ops loop_ops = {
	.name = "rig",
	.now_ns = loop_now,
	.timer_start = loop_timer_start,
	.timer_stop = loop_timer_stop,
	.task_post = loop_post,
	.task_cancel = loop_cancel,
	.is_current = loop_is_current,
};

void rig_run_tasks(struct rig *rig)
{
	struct ferry_list *link;

	while ((link = ferry_list_pop(&rig->tasks))) {
		struct ferry_task *task = ferry_list_entry(link, struct ferry_task, link);

		task->is_posted = false;
		task->run(task);
	}
}

void rig_advance(struct rig *rig, uint64_t ns)
{
	struct ferry_timer *timer;

	rig->now_ns += ns;
	rig_run_tasks(rig);
	timer = rig->timer;
	if (timer && timer->deadline_ns <= rig->now_ns) {
		loop_timer_stop(&rig->loop, timer);
		timer->run(timer);
	}
	rig_run_tasks(rig);
}

/* ---- Below the cache. ---- */

static int bottom_submit(struct ferry_block *block, struct ferry_io *io)
{
	struct rig *rig = FERRY_CONTAINER_OF(block, struct rig, bottom);
	int refuses = rig->below_refuses;

	rig->below_refuses = 0;
	if (refuses < 0)
		return refuses;
	ferry_assert(rig->below_count < RIG_BELOW_MAX);
	if (io->op == FERRY_OP_READ)
		ferry_assert(ferry_arena_take(&rig->arena, io->length_blocks * RIG_BLOCK_BYTES,
					      &io->segments) == 0);
	rig->landed_blocks[rig->below_count] = 0;
	rig->below[rig->below_count++] = io;
	return 0;
}

static const struct ferry_block_ops bottom_ops = {.submit = bottom_submit};

void rig_land(struct rig *rig, uint32_t which, uint32_t count)
{
	struct ferry_io *io = rig->below[which];

	for (; count > 0 && rig->landed_blocks[which] < io->length_blocks; count--) {
		uint32_t at = rig->landed_blocks[which]++;
		uint8_t *block = rig->disk + (io->lba.v + at) * RIG_BLOCK_BYTES;

		if (io->op == FERRY_OP_READ)
			ferry_segments_write(&io->segments, at * RIG_BLOCK_BYTES, block,
					     RIG_BLOCK_BYTES);
		else if (io->op == FERRY_OP_WRITE)
			ferry_segments_read(&io->segments, at * RIG_BLOCK_BYTES, block,
					    RIG_BLOCK_BYTES);
		else
			memset(block, io->op == FERRY_OP_DISCARD ? 0xd1 : 0, RIG_BLOCK_BYTES);
	}
}

void rig_end(struct rig *rig, uint32_t which, int error)
{
	struct ferry_io *io = rig->below[which];

	if (error == 0)
		rig_land(rig, which, UINT32_MAX);
	else if (io->op == FERRY_OP_READ)
		ferry_segments_drop(&io->segments);
	memmove(&rig->below[which], &rig->below[which + 1],
		(RIG_BELOW_MAX - which - 1) * sizeof(rig->below[0]));
	memmove(&rig->landed_blocks[which], &rig->landed_blocks[which + 1],
		(RIG_BELOW_MAX - which - 1) * sizeof(rig->landed_blocks[0]));
	rig->below_count--;
	io->on_done(io, error);
}

void rig_end_all(struct rig *rig)
{
	while (rig->below_count > 0)
		rig_end(rig, 0, 0);
	rig_run_tasks(rig);
}

/* ---- Above it. ---- */

static void io_done(struct ferry_io *io, int error)
{
	struct rig_io *self = io->context;

	ferry_assert(self->is_busy && !self->is_done);
	self->is_done = true;
	self->error = error;
	ferry_assert(io->op == FERRY_OP_READ || error < 0 || io->op == FERRY_OP_FLUSH ||
		     io->length_blocks > 0);
}

int rig_submit(struct rig *rig, struct rig_io *io, enum ferry_op op, uint64_t lba,
	       uint32_t length_blocks)
{
	int r;

	*io = (struct rig_io){
		.io = {.op = op, .lba = {lba}, .length_blocks = length_blocks, .on_done = io_done},
		.rig = rig,
		.is_busy = true,
	};
	io->io.context = io;
	if (op == FERRY_OP_WRITE) {
		uint8_t block[RIG_BLOCK_BYTES];

		ferry_assert(ferry_arena_take(&rig->arena, length_blocks * RIG_BLOCK_BYTES,
					      &io->io.segments) == 0);
		rig->content++;
		for (uint32_t i = 0; i < length_blocks; i++) {
			memset(block, (int)(rig->content & 0xff), sizeof(block));
			memcpy(block, &rig->content, sizeof(rig->content));
			memcpy(block + 8, &i, sizeof(i));
			ferry_segments_write(&io->io.segments, i * RIG_BLOCK_BYTES, block,
					     sizeof(block));
		}
	}
	r = ferry_block_submit(&rig->cache.block, &io->io);
	ferry_assert(!io->is_done); /* Never from inside. */
	if (r < 0)
		rig_forget(io);
	return r;
}

void rig_forget(struct rig_io *io)
{
	ferry_segments_drop(&io->io.segments);
	io->is_busy = false;
}

bool rig_read(struct rig *rig, uint64_t lba, uint32_t length_blocks)
{
	uint64_t hits = rig->cache.stats.hits;
	uint8_t block[RIG_BLOCK_BYTES];
	struct rig_io io;

	ferry_assert(rig_submit(rig, &io, FERRY_OP_READ, lba, length_blocks) == 0);
	rig_end_all(rig);
	ferry_assert(io.is_done && io.error == 0);
	ferry_assert(io.io.segments.length_bytes == length_blocks * RIG_BLOCK_BYTES);
	for (uint32_t i = 0; i < length_blocks; i++) {
		ferry_segments_read(&io.io.segments, i * RIG_BLOCK_BYTES, block, sizeof(block));
		ferry_assert(
			memcmp(block, rig->disk + (lba + i) * RIG_BLOCK_BYTES, sizeof(block)) == 0);
	}
	rig_forget(&io);
	return rig->cache.stats.hits > hits;
}

void rig_write(struct rig *rig, uint64_t lba, uint32_t length_blocks)
{
	struct rig_io io;

	ferry_assert(rig_submit(rig, &io, FERRY_OP_WRITE, lba, length_blocks) == 0);
	rig_end_all(rig);
	ferry_assert(io.is_done && io.error == 0);
	rig_forget(&io);
}

bool rig_has(struct rig *rig, uint64_t number)
{
	uint32_t slot = ferry_index_find(&rig->cache.index, number);

	if (slot == FERRY_INDEX_NONE)
		return false;
	ferry_assert(memcmp(ferry_index_data(&rig->cache.index, slot),
			    rig->disk + number * FERRY_CACHE_LINE_BYTES,
			    FERRY_CACHE_LINE_BYTES) == 0);
	return true;
}

/* ---- Opening. ---- */

void rig_view(struct rig *rig, uint32_t owner, uint64_t epoch, bool is_in_force, bool is_quorate)
{
	struct ferry_view view = {.members = {.nodes = {{1}, {2}}, .count = 2},
				  .is_quorate = is_quorate,
				  .epoch = {epoch},
				  .owner = {owner},
				  .is_in_force = is_in_force};

	ferry_cache_set_view(&rig->cache, &view);
}

void rig_open(struct rig *rig, uint32_t lines_max, uint32_t tickets_max)
{
	enum { ARENA_BYTES = 128 * FERRY_CHUNK_BYTES };
	size_t tables_bytes = ferry_cache_memory_bytes(lines_max, tickets_max) +
			      128 * sizeof(struct ferry_chunk) + 64;
	struct ferry_cache_config config = {
		.loop = &rig->loop,
		.arena = &rig->arena,
		.pool = "rig",
		.self = {1},
		.next = &rig->bottom,
		.lines_max = lines_max,
		.tickets_max = tickets_max,
		.ghosts_count = &rig->ghosts_count,
		.flush = &rig->flush,
	};

	memset(rig, 0, sizeof(*rig));
	rig->loop.ops = &loop_ops;
	rig->now_ns = 1;
	ferry_list_init(&rig->tasks);
	rig->memory[0] = aligned_alloc(FERRY_CHUNK_BYTES, ARENA_BYTES);
	rig->memory[1] = aligned_alloc(64, (tables_bytes + 63) / 64 * 64);
	rig->memory[2] = malloc((size_t)lines_max * FERRY_CACHE_LINE_BYTES);
	ferry_assert(rig->memory[0] && rig->memory[1] && rig->memory[2]);
	ferry_region_init(&rig->region, rig->memory[1], tables_bytes);
	ferry_assert(ferry_arena_init(&rig->arena, &rig->region, rig->memory[0], ARENA_BYTES) == 0);
	rig->bottom = (struct ferry_block){.ops = &bottom_ops,
					   .name = "rig",
					   .size_blocks = RIG_BLOCKS,
					   .block_bytes = RIG_BLOCK_BYTES,
					   .can_discard = true,
					   .loop = &rig->loop,
					   .arena = &rig->arena};
	ferry_assert(ferry_cache_init(&rig->cache, &rig->region, rig->memory[2], &config) == 0);
	ferry_region_seal(&rig->region);
	rig_view(rig, 1, 1, true, true);
}

void rig_close(struct rig *rig)
{
	rig_end_all(rig);
	ferry_cache_done(&rig->cache);
	ferry_assert(rig->arena.free_count == rig->arena.chunks_count);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(rig->memory); i++)
		free(rig->memory[i]);
}
