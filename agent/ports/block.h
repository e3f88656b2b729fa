/*
 * block.h - the block port: a volume as front ends see it.
 *
 * Owns:    nothing; it is only an interface.
 * Callers: adapters/ublk, adapters/nbd, adapters/fuse: bytes in, struct ferry_io out.
 * Thread:  every call and callback runs on the pool's data loop.
 * Rooms:   core/volume.c implements it; tests use stand-ins.
 */
#pragma once

#include "agent/ports/io.h"
#include "agent/ports/loop.h"

struct ferry_block {
	const struct ferry_block_ops *ops;
	const char *name; /* The volume's, as administrators call it. */
	uint64_t size_blocks;
	uint32_t block_bytes;
	bool can_discard;
	bool is_read_only;
	struct ferry_loop *loop;
	struct ferry_arena *arena; /* Where write data is to be put, and read data comes from. */
};

struct ferry_block_ops {
	/*
	 * Start @io. 0: io->on_done() runs exactly once, later, never from inside.
	 * Errors (on_done() never runs): -ERANGE beyond the end; -EINVAL an empty or too long
	 * range, or flags that the op does not have; -EROFS; -EAGAIN too many I/Os in flight: try
	 * again when one of yours is done; -ESHUTDOWN the volume is closed.
	 */
	int (*submit)(struct ferry_block *block, struct ferry_io *io);
};

static inline int ferry_block_submit(struct ferry_block *block, struct ferry_io *io)
{
	ferry_assert(block && block->ops);
	ferry_assert(io->on_done);
	ferry_assert(io->op == FERRY_OP_WRITE || io->segments.count == 0);
	return block->ops->submit(block, io);
}
