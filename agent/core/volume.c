#include "agent/core/volume.h"

/* 0, or why this request is refused before anything is done about it. */
static int request_check(const struct ferry_volume *volume, const struct ferry_io *io)
{
	const struct ferry_block *block = &volume->block;
	uint64_t bytes = (uint64_t)io->length_blocks * block->block_bytes;
	uint32_t flags_allowed = 0;

	if (volume->is_closed)
		return -ESHUTDOWN;
	if (ferry_op_changes_blocks(io->op) && block->is_read_only)
		return -EROFS;
	if (io->op == FERRY_OP_WRITE || io->op == FERRY_OP_WRITE_ZEROES)
		flags_allowed |= FERRY_IO_FUA;
	if (io->op == FERRY_OP_WRITE_ZEROES)
		flags_allowed |= FERRY_IO_NO_UNMAP;
	if (io->flags & ~flags_allowed)
		return -EINVAL;
	if (io->op == FERRY_OP_FLUSH)
		return io->lba.v == 0 && io->length_blocks == 0 ? 0 : -EINVAL;
	if (io->length_blocks == 0)
		return -EINVAL;
	if (io->lba.v >= block->size_blocks || io->length_blocks > block->size_blocks - io->lba.v)
		return -ERANGE; /* Cannot wrap. */
	if (bytes > (ferry_op_has_data(io->op) ? FERRY_IO_BYTES_MAX : FERRY_IO_RANGE_BYTES_MAX))
		return -EINVAL;
	if (io->op == FERRY_OP_WRITE && io->segments.length_bytes != bytes)
		return -EINVAL;
	return 0;
}

static int volume_submit(struct ferry_block *block, struct ferry_io *io)
{
	struct ferry_volume *volume = FERRY_CONTAINER_OF(block, struct ferry_volume, block);
	uint64_t bytes = (uint64_t)io->length_blocks * block->block_bytes;
	int r;

	FERRY_ASSERT_ON_LOOP(block->loop);
	r = request_check(volume, io);
	if (r < 0)
		return r;
	if (volume->before)
		volume->before(volume);
	r = ferry_block_submit(volume->filter, io);
	if (r < 0)
		return r;
	if (io->op == FERRY_OP_READ)
		volume->stats.bytes_read += bytes;
	else if (io->op == FERRY_OP_WRITE)
		volume->stats.bytes_written += bytes;
	return 0;
}

static const struct ferry_block_ops volume_ops = {
	.submit = volume_submit,
};

static int bottom_submit(struct ferry_block *block, struct ferry_io *io)
{
	struct ferry_volume *volume = FERRY_CONTAINER_OF(block, struct ferry_volume, bottom);

	io->route = NULL;
	return ferry_router_submit(volume->router, io);
}

static const struct ferry_block_ops bottom_ops = {
	.submit = bottom_submit,
};

void ferry_volume_init(struct ferry_volume *volume, struct ferry_router *router, const char *name,
		       uint64_t size_blocks, uint32_t block_bytes, bool can_discard,
		       bool is_read_only)
{
	ferry_assert(volume && router && name);
	ferry_assert(size_blocks > 0);
	ferry_assert(block_bytes == router->config.block_bytes);
	*volume = (struct ferry_volume){
		.block = {.ops = &volume_ops,
			  .name = name,
			  .size_blocks = size_blocks,
			  .block_bytes = block_bytes,
			  .can_discard = can_discard,
			  .is_read_only = is_read_only,
			  .loop = router->config.loop,
			  .arena = router->config.arena},
		.router = router,
	};
	volume->bottom = volume->block;
	volume->bottom.ops = &bottom_ops;
	volume->filter = &volume->bottom;
}

void ferry_volume_set_filter(struct ferry_volume *volume, struct ferry_block *filter)
{
	ferry_assert(volume && filter);
	ferry_assert(filter->size_blocks == volume->block.size_blocks);
	volume->filter = filter;
}

void ferry_volume_close(struct ferry_volume *volume)
{
	ferry_assert(volume);
	volume->is_closed = true;
}
