#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>

#include "agent/adapters/fuse/internal.h"

struct range {
	struct ferry_lba lba;
	uint64_t length_blocks;
};

/*
 * What applications ask for, as whole blocks within the volume. A range that begins within and
 * ends beyond is cut at the end, as block devices do it; length 0: all of it lies beyond.
 */
static int range_check(const struct ferry_block *block, off_t offset, uint64_t length_bytes,
		       struct range *ret)
{
	uint64_t mask = block->block_bytes - 1;
	uint64_t lba, length_blocks;

	ferry_assert(block->block_bytes == 512 || block->block_bytes == 4096);
	ferry_assert(ret);
	if (offset < 0 || length_bytes == 0)
		return -EINVAL;
	if (((uint64_t)offset & mask) != 0 || (length_bytes & mask) != 0)
		return -EINVAL;
	lba = (uint64_t)offset / block->block_bytes;
	length_blocks = length_bytes / block->block_bytes;
	if (lba >= block->size_blocks)
		length_blocks = 0;
	else
		length_blocks = ferry_min_u64(length_blocks, block->size_blocks - lba);
	*ret = (struct range){.lba = {lba}, .length_blocks = length_blocks};
	return 0;
}

static void refuse(struct ferry_fuse *fuse, fuse_req_t req, int error)
{
	ferry_assert(error > 0);
	fuse->counters.refused++;
	(void)fuse_reply_err(req, error); /* The caller gave up: nobody to tell. */
}

/* The volume of @ino, or NULL after having refused @req. */
static struct fuse_volume *volume_of(fuse_req_t req, fuse_ino_t ino)
{
	struct ferry_fuse *fuse = fuse_req_userdata(req);
	struct fuse_volume *volume = fuse_volume_find(fuse, ino);

	FERRY_ASSERT_ON_LOOP(fuse->loop);
	if (fuse->is_closing) {
		refuse(fuse, req, ESHUTDOWN);
		return NULL;
	}
	if (!volume) {
		refuse(fuse, req, ino == FUSE_ROOT_ID && !fuse->is_single_file ? EISDIR : ENODEV);
		return NULL;
	}
	return volume;
}

static void io_done(struct ferry_io *io, int error);

static struct fuse_request *request_new(struct fuse_volume *volume, fuse_req_t req)
{
	struct ferry_fuse *fuse = volume->fuse;
	struct ferry_list *link = ferry_list_pop(&fuse->free);
	struct fuse_request *request;

	ferry_assert(link); /* We do not read requests that have no room. */
	request = ferry_list_entry(link, struct fuse_request, link);
	ferry_assert(!request->req);
	*request = (struct fuse_request){
		.req = req,
		.volume = volume,
		.io = {.on_done = io_done, .context = request},
	};
	ferry_list_init(&request->link);
	volume->in_flight++;
	fuse->counters.in_flight++;
	return request;
}

static void reply_read(struct fuse_request *request)
{
	const struct ferry_segments *segments = &request->io.segments;
	struct iovec iov[FERRY_SEGMENTS_MAX];

	ferry_assert(segments->count > 0 && segments->count <= FERRY_SEGMENTS_MAX);
	ferry_assert(segments->length_bytes ==
		     request->io.length_blocks * request->volume->block->block_bytes);
	for (uint32_t i = 0; i < segments->count; i++) {
		const struct ferry_segment *segment = &segments->v[i];

		iov[i].iov_base = segment->chunk->data + segment->offset_bytes;
		iov[i].iov_len = segment->length_bytes;
	}
	request->volume->fuse->counters.read_bytes += segments->length_bytes;
	if (segments->count == 1) /* Without libfuse's allocation for the vector. */
		(void)fuse_reply_buf(request->req, iov[0].iov_base, iov[0].iov_len);
	else
		(void)fuse_reply_iov(request->req, iov, (int)segments->count);
}

/* Answer, and give the request back. @error is 0 or negative. */
static void request_end(struct fuse_request *request, int error)
{
	struct fuse_volume *volume = request->volume;
	struct ferry_fuse *fuse = volume->fuse;
	uint32_t written_bytes = request->io.length_blocks * volume->block->block_bytes;

	ferry_assert(error <= 0);
	ferry_assert(volume->in_flight > 0 && fuse->counters.in_flight > 0);
	if (error < 0) {
		fuse->counters.failed++;
		(void)fuse_reply_err(request->req, -error);
	} else if (request->io.op == FERRY_OP_READ) {
		reply_read(request);
	} else if (request->io.op == FERRY_OP_WRITE) {
		fuse->counters.write_bytes += written_bytes;
		(void)fuse_reply_write(request->req, written_bytes);
	} else {
		(void)fuse_reply_err(request->req, 0);
	}
	ferry_segments_drop(&request->io.segments);
	request->req = NULL;
	ferry_list_prepend(&fuse->free, &request->link);
	volume->in_flight--;
	fuse->counters.in_flight--;
}

/* Submit; true if it is the volume's now or over, false if the volume has no room. */
static bool request_submit(struct fuse_request *request)
{
	struct ferry_block *block = request->volume->block;
	int r;

	ferry_assert(request->req);
	ferry_assert(!ferry_list_is_linked(&request->link));
	r = ferry_block_submit(block, &request->io);
	if (r == -EAGAIN)
		return false;
	if (r < 0)
		request_end(request, r);
	return true;
}

void fuse_volume_retry(struct fuse_volume *volume)
{
	struct ferry_fuse *fuse = volume->fuse;

	/* Bounded by FERRY_FUSE_REQUESTS_MAX: nothing is added to the list here. */
	while (!ferry_list_is_empty(&volume->waiting)) {
		struct ferry_list *link = ferry_list_pop(&volume->waiting);
		struct fuse_request *request = ferry_list_entry(link, struct fuse_request, link);

		if (request_submit(request))
			continue;
		ferry_list_prepend(&volume->waiting, &request->link);
		/* Nothing of ours may be in flight there whose end would tell us of room. */
		if (!ferry_timer_is_started(&fuse->retry_timer))
			ferry_timer_start_in(fuse->loop, &fuse->retry_timer,
					     FERRY_FUSE_RETRY_MS * FERRY_NS_PER_MS);
		return;
	}
}

static void request_start(struct fuse_request *request)
{
	struct fuse_volume *volume = request->volume;

	ferry_assert(volume->block);
	ferry_assert(!ferry_list_is_linked(&request->link));
	ferry_list_append(&volume->waiting, &request->link);
	fuse_volume_retry(volume);
	fuse_request_over(volume); /* It may have been refused at once. */
}

/* A long range goes on with its next piece; true if there was one. */
static bool request_next_piece(struct fuse_request *request)
{
	struct ferry_io *io = &request->io;
	uint64_t piece_max = FERRY_IO_RANGE_BYTES_MAX / request->volume->block->block_bytes;

	ferry_assert(request->left_blocks > 0);
	ferry_assert(io->op == FERRY_OP_WRITE_ZEROES);
	io->lba.v += io->length_blocks;
	io->length_blocks = (uint32_t)ferry_min_u64(request->left_blocks, piece_max);
	request->left_blocks -= io->length_blocks;
	request_start(request);
	return true;
}

static void io_done(struct ferry_io *io, int error)
{
	struct fuse_request *request = io->context;
	struct fuse_volume *volume = request->volume;

	ferry_assert(request->req);
	FERRY_ASSERT_ON_LOOP(volume->fuse->loop);
	if (error == 0 && request->left_blocks > 0 && !volume->fuse->is_closing) {
		(void)request_next_piece(request);
		return;
	}
	if (error == 0 && request->left_blocks > 0)
		error = -ESHUTDOWN;
	request_end(request, error);
	fuse_volume_retry(volume);
	fuse_request_over(volume);
}

void fuse_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		  struct fuse_file_info *fi)
{
	struct fuse_volume *volume = volume_of(req, ino);
	struct fuse_request *request;
	struct range range;
	int r;

	(void)fi; /* Files are known by their inode number alone. */
	if (!volume)
		return;
	r = size > FERRY_IO_BYTES_MAX ? -EINVAL : range_check(volume->block, offset, size, &range);
	if (r < 0) {
		refuse(volume->fuse, req, -r);
		return;
	}
	if (range.length_blocks == 0) {
		(void)fuse_reply_buf(req, /* buf= */ NULL, 0); /* The end of the file. */
		return;
	}
	request = request_new(volume, req);
	request->io.op = FERRY_OP_READ;
	request->io.lba = range.lba;
	request->io.length_blocks = (uint32_t)range.length_blocks;
	volume->fuse->counters.reads++;
	request_start(request);
}

/* Give the write its memory and start it; false if the arena has none now. */
static bool write_start(struct fuse_request *request, const char *data)
{
	uint32_t bytes = request->io.length_blocks * request->volume->block->block_bytes;

	ferry_assert(request->io.op == FERRY_OP_WRITE);
	ferry_assert(bytes <= FERRY_IO_BYTES_MAX);
	if (ferry_arena_take(request->volume->block->arena, bytes, &request->io.segments) < 0)
		return false;
	ferry_segments_write(&request->io.segments, /* offset_bytes= */ 0, data, bytes);
	request_start(request);
	return true;
}

void fuse_stalled_retry(struct ferry_fuse *fuse)
{
	struct fuse_request *request = fuse->stalled;
	struct fuse_volume *volume;

	if (!request)
		return;
	volume = request->volume;
	ferry_arena_unwait(&fuse->arena_waiter);
	if (!fuse->is_closing && !volume->is_removed) {
		/* Others may have been quicker: wait again. */
		if (!write_start(request, fuse->stalled_data)) {
			ferry_arena_wait(volume->block->arena, &fuse->arena_waiter);
			return;
		}
	} else {
		request_end(request, -ESHUTDOWN);
		fuse_request_over(volume);
	}
	fuse->stalled = NULL;
	fuse->stalled_data = NULL;
	fuse_reading_update(fuse);
}

void fuse_op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		   struct fuse_file_info *fi)
{
	struct fuse_volume *volume = volume_of(req, ino);
	struct fuse_request *request;
	struct ferry_fuse *fuse;
	struct range range;
	int r;

	if (!volume)
		return;
	fuse = volume->fuse;
	ferry_assert(!fuse->stalled); /* We do not read on while one write waits. */
	r = size > FERRY_IO_BYTES_MAX ? -EINVAL : range_check(volume->block, offset, size, &range);
	if (r == 0 && volume->block->is_read_only)
		r = -EROFS;
	if (r == 0 && range.length_blocks == 0)
		r = -ENOSPC;
	if (r < 0) {
		refuse(fuse, req, -r);
		return;
	}
	request = request_new(volume, req);
	request->io.op = FERRY_OP_WRITE;
	/* O_SYNC includes O_DSYNC's bit. The kernel sets it for RWF_DSYNC too. */
	request->io.flags = (fi->flags & O_DSYNC) ? FERRY_IO_FUA : 0;
	request->io.lba = range.lba;
	request->io.length_blocks = (uint32_t)range.length_blocks;
	fuse->counters.writes++;
	if (write_start(request, data))
		return;
	fuse->counters.stalled++;
	fuse->stalled = request;
	fuse->stalled_data = data;
	ferry_arena_wait(volume->block->arena, &fuse->arena_waiter);
}

static void flush(fuse_req_t req, fuse_ino_t ino)
{
	struct fuse_volume *volume = volume_of(req, ino);
	struct fuse_request *request;

	if (!volume)
		return;
	ferry_assert(volume->block);
	request = request_new(volume, req);
	request->io.op = FERRY_OP_FLUSH;
	volume->fuse->counters.flushes++;
	request_start(request);
}

void fuse_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync; /* There is no metadata of a volume that could be left out. */
	(void)fi;
	flush(req, ino);
}

/* close(2) of one descriptor. */
void fuse_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_volume *volume = volume_of(req, ino);

	(void)fi;
	if (!volume)
		return;
	if (volume->block->is_read_only)
		(void)fuse_reply_err(req, 0);
	else
		flush(req, ino);
}

/* EOPNOTSUPP, never ENOSYS: with that the kernel would not ask again for any other mode either. */
static int fallocate_check(const struct fuse_volume *volume, int mode, uint32_t *ret_flags)
{
	uint32_t flags;

	ferry_assert(volume->block);
	ferry_assert(ret_flags);
	if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		flags = 0;
	else if (mode == FALLOC_FL_ZERO_RANGE ||
		 mode == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
		flags = FERRY_IO_NO_UNMAP;
	else
		return -EOPNOTSUPP;
	if (volume->block->is_read_only)
		return -EROFS;
	/*
	 * A hole is made to give space back. Where the lun has no discard, mkfs would make us
	 * write zeroes all over it, for nothing.
	 */
	if (flags == 0 && !volume->block->can_discard)
		return -EOPNOTSUPP;
	*ret_flags = flags;
	return 0;
}

void fuse_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		       struct fuse_file_info *fi)
{
	struct fuse_volume *volume = volume_of(req, ino);
	struct fuse_request *request;
	struct range range;
	uint32_t flags;
	int r;

	(void)fi;
	if (!volume)
		return;
	r = fallocate_check(volume, mode, &flags);
	if (r == 0)
		r = length <= 0 ? -EINVAL
				: range_check(volume->block, offset, (uint64_t)length, &range);
	if (r == 0 && range.length_blocks == 0)
		r = -ENOSPC;
	/* It would have to grow. */
	if (r == 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0 &&
	    range.length_blocks < (uint64_t)length / volume->block->block_bytes)
		r = -ENOSPC;
	if (r < 0) {
		refuse(volume->fuse, req, -r);
		return;
	}
	request = request_new(volume, req);
	request->io.op = FERRY_OP_WRITE_ZEROES;
	request->io.flags = flags;
	request->io.lba = range.lba;
	request->left_blocks = range.length_blocks;
	volume->fuse->counters.zeroes++;
	(void)request_next_piece(request);
}
