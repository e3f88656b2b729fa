#include "agent/adapters/nbd/block_stub.h"

static struct ferry_block_stub *stub_from(struct ferry_block *block)
{
	return FERRY_CONTAINER_OF(block, struct ferry_block_stub, block);
}

static void stub_schedule(struct ferry_block_stub *stub)
{
	if (stub->behaviour.is_held || ferry_list_is_empty(&stub->queue))
		return;
	if (stub->behaviour.delay_ns == 0)
		ferry_task_post(stub->block.loop, &stub->task);
	else if (!ferry_timer_is_started(&stub->timer))
		ferry_timer_start_in(stub->block.loop, &stub->timer, stub->behaviour.delay_ns);
}

static int stub_check(const struct ferry_block_stub *stub, const struct ferry_io *io)
{
	const struct ferry_block *block = &stub->block;
	const bool is_range = io->op == FERRY_OP_DISCARD || io->op == FERRY_OP_WRITE_ZEROES;
	const uint64_t bytes = (uint64_t)io->length_blocks * block->block_bytes;

	/* Here the contract is asserted: a front end that breaks it is what is tested. */
	ferry_assert(io->op == FERRY_OP_FLUSH || io->length_blocks > 0);
	ferry_assert(!(io->flags & ~(uint32_t)FERRY_IO_FLAGS_ALL));
	ferry_assert(!(io->flags & FERRY_IO_FUA) || io->op == FERRY_OP_WRITE ||
		     io->op == FERRY_OP_WRITE_ZEROES);
	ferry_assert(io->op != FERRY_OP_WRITE || io->segments.length_bytes == bytes);
	ferry_assert(!is_range || bytes <= FERRY_IO_RANGE_BYTES_MAX);
	ferry_assert(is_range || bytes <= FERRY_IO_BYTES_MAX);
	ferry_assert(io->op != FERRY_OP_FLUSH || (io->lba.v == 0 && io->length_blocks == 0));
	if (io->lba.v > block->size_blocks || io->length_blocks > block->size_blocks - io->lba.v)
		return -ERANGE;
	if (block->is_read_only && ferry_op_changes_blocks(io->op))
		return -EROFS;
	return 0;
}

static int stub_submit(struct ferry_block *block, struct ferry_io *io)
{
	struct ferry_block_stub *stub = stub_from(block);
	int r;

	FERRY_ASSERT_ON_LOOP(block->loop);
	r = stub_check(stub, io);
	if (r == 0)
		r = stub->behaviour.refuse_error;
	if (r == 0 && stub->behaviour.in_flight_max > 0 &&
	    stub->in_flight_count >= stub->behaviour.in_flight_max)
		r = -EAGAIN;
	if (r < 0) {
		stub->refusals++;
		return r;
	}
	stub->in_flight_count++;
	if (stub->in_flight_count > stub->in_flight_seen_max)
		stub->in_flight_seen_max = stub->in_flight_count;
	stub->submits[io->op]++;
	stub->last_op = io->op;
	if (io->flags & FERRY_IO_FUA)
		stub->fuas++;
	if (io->flags & FERRY_IO_NO_UNMAP)
		stub->no_unmaps++;
	if (io->op == FERRY_OP_DISCARD || io->op == FERRY_OP_WRITE_ZEROES)
		stub->range_bytes_seen_max =
			ferry_max_u64(stub->range_bytes_seen_max,
				      (uint64_t)io->length_blocks * block->block_bytes);
	ferry_list_init(&io->link);
	if (stub->behaviour.is_reversed)
		ferry_list_prepend(&stub->queue, &io->link);
	else
		ferry_list_append(&stub->queue, &io->link);
	stub_schedule(stub);
	return 0;
}

/* -ENOBUFS: the arena is empty. */
static int stub_carry_out(struct ferry_block_stub *stub, struct ferry_io *io)
{
	const uint32_t length_bytes = io->length_blocks * stub->block.block_bytes;
	uint8_t *bytes = stub->bytes + io->lba.v * stub->block.block_bytes;
	int r;

	switch (io->op) {
	case FERRY_OP_READ:
		r = ferry_arena_take(stub->block.arena, length_bytes, &io->segments);
		if (r < 0)
			return r;
		ferry_segments_write(&io->segments, 0, bytes, length_bytes);
		return 0;
	case FERRY_OP_WRITE:
		ferry_segments_read(&io->segments, 0, bytes, length_bytes);
		return 0;
	case FERRY_OP_DISCARD:
	case FERRY_OP_WRITE_ZEROES:
		memset(bytes, 0, length_bytes);
		return 0;
	case FERRY_OP_FLUSH:
		return 0;
	}
	ferry_assert(false);
	return 0;
}

static void stub_run(struct ferry_block_stub *stub)
{
	struct ferry_list batch;
	struct ferry_list *link;

	if (stub->behaviour.is_held)
		return;
	ferry_list_init(&batch);
	ferry_list_move_all(&batch, &stub->queue);
	while ((link = ferry_list_pop(&batch))) {
		struct ferry_io *io = ferry_list_entry(link, struct ferry_io, link);
		int error = 0;

		if (io->op == stub->behaviour.fail_op && stub->behaviour.fail_count > 0) {
			stub->behaviour.fail_count--;
			error = stub->behaviour.fail_error;
		} else if (stub_carry_out(stub, io) == -ENOBUFS) {
			ferry_list_prepend(&batch, link);
			ferry_list_move_all(&batch, &stub->queue);
			ferry_list_move_all(&stub->queue, &batch);
			if (!ferry_list_is_linked(&stub->waiter.link))
				ferry_arena_wait(stub->block.arena, &stub->waiter);
			return;
		}
		stub->in_flight_count--;
		io->on_done(io, error);
	}
}

static void stub_task(struct ferry_task *task)
{
	stub_run(FERRY_CONTAINER_OF(task, struct ferry_block_stub, task));
}

static void stub_timer(struct ferry_timer *timer)
{
	stub_run(FERRY_CONTAINER_OF(timer, struct ferry_block_stub, timer));
}

static void stub_chunks_free(struct ferry_arena_waiter *waiter)
{
	struct ferry_block_stub *stub = FERRY_CONTAINER_OF(waiter, struct ferry_block_stub, waiter);

	ferry_task_post(stub->block.loop, &stub->task);
}

void ferry_block_stub_init(struct ferry_block_stub *stub, struct ferry_loop *loop,
			   struct ferry_arena *arena, const char *name, uint8_t *bytes,
			   uint64_t size_blocks, uint32_t block_bytes)
{
	static const struct ferry_block_ops ops = {.submit = stub_submit};

	ferry_assert(stub && bytes);
	ferry_assert(loop && arena);
	*stub = (struct ferry_block_stub){
		.block = {.ops = &ops,
			  .name = name,
			  .size_blocks = size_blocks,
			  .block_bytes = block_bytes,
			  .can_discard = true,
			  .loop = loop,
			  .arena = arena},
		.bytes = bytes,
		.timer.run = stub_timer,
		.task.run = stub_task,
		.waiter.run = stub_chunks_free,
	};
	ferry_list_init(&stub->queue);
	ferry_list_init(&stub->waiter.link);
}

void ferry_block_stub_behave(struct ferry_block_stub *stub, struct ferry_block_behaviour behaviour)
{
	ferry_assert(stub);
	stub->behaviour = behaviour;
	stub_schedule(stub);
}

void ferry_block_stub_done(struct ferry_block_stub *stub)
{
	ferry_assert(ferry_list_is_empty(&stub->queue));
	ferry_assert(stub->in_flight_count == 0);
	ferry_timer_stop(stub->block.loop, &stub->timer);
	ferry_task_cancel(stub->block.loop, &stub->task);
	ferry_arena_unwait(&stub->waiter);
}
