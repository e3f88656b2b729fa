/* translate.c - the driver's words and ours: labels, limits, requests, results. */
#include <stdio.h>

#include "agent/adapters/ublk/private.h"
#include "agent/base/checksum.h"

enum {
	SECTOR_BYTES = 512, /* The block layer's unit, whatever the block size. */
	HINT_BYTES_SHIFT = 12,
};

static const uint64_t flags_needed = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE |
				     UBLK_F_USER_COPY | UBLK_F_CMD_IOCTL_ENCODE;

static uint8_t shift_of(uint32_t bytes)
{
	ferry_assert(bytes == 512 || bytes == 4096);
	return bytes == 512 ? 9 : 12;
}

/* The upper half says who and which volume, the lower which lun, and since when alone. */
uint64_t ublk_label_of(const struct ferry_ublk_label *label, const char *volume)
{
	struct {
		struct ferry_uuid lun;
		uint64_t tenure;
	} state = {label->lun, label->tenure.v};
	char text[512];
	struct ferry_uuid who, what;
	uint64_t upper, lower;
	int length;

	ferry_assert(label->agent && volume);
	length = snprintf(text, sizeof(text), "ferry/%u/%.250s/%.60s/", label->node.v, label->agent,
			  volume);
	ferry_assert(length > 0 && (size_t)length + sizeof(label->lineage) <= sizeof(text));
	memcpy(text + length, &label->lineage, sizeof(label->lineage));
	who = ferry_hash128(text, (size_t)length + sizeof(label->lineage));
	what = ferry_hash128(&state, sizeof(state));
	memcpy(&upper, &who, sizeof(upper));
	memcpy(&lower, &what, sizeof(lower));
	/* Never 0 in the upper half: other servers have mostly nothing there. */
	return (upper | 1) << 32 | (lower & UINT32_MAX);
}

bool ublk_label_is_kin(uint64_t one, uint64_t other)
{
	return one >> 32 == other >> 32;
}

void ublk_info_make(uint64_t label, int32_t pid, struct ublksrv_ctrl_dev_info *ret)
{
	ferry_assert(pid > 0);
	*ret = (struct ublksrv_ctrl_dev_info){
		.nr_hw_queues = 1,
		.queue_depth = FERRY_UBLK_DEPTH,
		.max_io_buf_bytes = FERRY_IO_BYTES_MAX,
		.dev_id = UINT32_MAX, /* Any. */
		.ublksrv_pid = pid,
		.flags = flags_needed,
		.ublksrv_flags = label,
	};
}

bool ublk_info_is_right(const struct ublksrv_ctrl_dev_info *info)
{
	return (info->flags & flags_needed) == flags_needed && info->nr_hw_queues == 1 &&
	       info->queue_depth == FERRY_UBLK_DEPTH &&
	       info->max_io_buf_bytes >= FERRY_IO_BYTES_MAX;
}

void ublk_params_make(const struct ferry_block *block, struct ublk_params *ret)
{
	uint32_t range_sectors = FERRY_IO_RANGE_BYTES_MAX / SECTOR_BYTES;

	ferry_assert(block->size_blocks > 0);
	*ret = (struct ublk_params){
		.len = sizeof(*ret),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = {.attrs = UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA,
			  .logical_bs_shift = shift_of(block->block_bytes),
			  .physical_bs_shift = shift_of(block->block_bytes),
			  .io_opt_shift = HINT_BYTES_SHIFT,
			  .io_min_shift = HINT_BYTES_SHIFT,
			  .max_sectors = FERRY_IO_BYTES_MAX / SECTOR_BYTES,
			  .dev_sectors = block->size_blocks * (block->block_bytes / SECTOR_BYTES)},
	};
	if (block->is_read_only) {
		ret->basic.attrs |= UBLK_ATTR_READ_ONLY;
		return;
	}
	ret->types |= UBLK_PARAM_TYPE_DISCARD;
	ret->discard.discard_granularity = block->block_bytes;
	ret->discard.max_write_zeroes_sectors = range_sectors;
	ret->discard.max_discard_segments = 1;
	if (block->can_discard)
		ret->discard.max_discard_sectors = range_sectors;
}

bool ublk_params_fit(const struct ferry_block *block, const struct ublk_params *params)
{
	struct ublk_params ours;

	ublk_params_make(block, &ours);
	if ((params->types & ours.types) != ours.types)
		return false;
	return params->basic.dev_sectors == ours.basic.dev_sectors &&
	       params->basic.logical_bs_shift == ours.basic.logical_bs_shift &&
	       params->basic.attrs == ours.basic.attrs &&
	       params->basic.max_sectors == ours.basic.max_sectors &&
	       params->discard.max_discard_sectors == ours.discard.max_discard_sectors &&
	       params->discard.max_write_zeroes_sectors == ours.discard.max_write_zeroes_sectors;
}

static int op_of(uint8_t op, enum ferry_op *ret)
{
	static const enum ferry_op ops[] = {
		[UBLK_IO_OP_READ] = FERRY_OP_READ,
		[UBLK_IO_OP_WRITE] = FERRY_OP_WRITE,
		[UBLK_IO_OP_FLUSH] = FERRY_OP_FLUSH,
		[UBLK_IO_OP_DISCARD] = FERRY_OP_DISCARD,
		[UBLK_IO_OP_WRITE_ZEROES] = FERRY_OP_WRITE_ZEROES,
	};

	if (op >= FERRY_ARRAY_COUNT(ops) || ops[op] == 0)
		return -EOPNOTSUPP;
	*ret = ops[op];
	return 0;
}

int ublk_request_translate(const struct ferry_block *block, const struct ublksrv_io_desc *desc,
			   struct ferry_io *ret)
{
	uint32_t per_block = block->block_bytes / SECTOR_BYTES;
	uint64_t bytes = (uint64_t)desc->nr_sectors * SECTOR_BYTES;
	enum ferry_op op;
	int r;

	ferry_assert(per_block == 1 || per_block == 8);
	r = op_of((uint8_t)desc->op_flags, &op);
	if (r < 0)
		return r;
	if (op == FERRY_OP_FLUSH) {
		*ret = (struct ferry_io){.op = op};
		return 0;
	}
	if (desc->nr_sectors == 0 || desc->nr_sectors % per_block != 0 ||
	    desc->start_sector % per_block != 0)
		return -EINVAL;
	if (bytes > (ferry_op_has_data(op) ? (uint64_t)FERRY_IO_BYTES_MAX
					   : (uint64_t)FERRY_IO_RANGE_BYTES_MAX))
		return -EINVAL;
	if (op == FERRY_OP_DISCARD && !block->can_discard)
		return -EOPNOTSUPP;
	*ret = (struct ferry_io){
		.op = op,
		.lba = {desc->start_sector / per_block},
		.length_blocks = desc->nr_sectors / per_block,
	};
	if (desc->op_flags & UBLK_IO_F_FUA && (op == FERRY_OP_WRITE || op == FERRY_OP_WRITE_ZEROES))
		ret->flags |= FERRY_IO_FUA;
	if (desc->op_flags & UBLK_IO_F_NOUNMAP && op == FERRY_OP_WRITE_ZEROES)
		ret->flags |= FERRY_IO_NO_UNMAP;
	return 0;
}

int32_t ublk_result_of(const struct ferry_io *io, uint32_t block_bytes, int error)
{
	ferry_assert(error <= 0);
	/* Others have meanings to the block layer that are not ours: some have it try again. */
	if (error < 0)
		return error == -ENOSPC || error == -ETIMEDOUT || error == -EOPNOTSUPP ? error
										       : -EIO;
	return ferry_op_has_data(io->op) ? (int32_t)(io->length_blocks * block_bytes) : 0;
}
