#include "agent/adapters/uring/device.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include "agent/adapters/uring/conclude.h"
#include "agent/adapters/uring/device_private.h"

enum { PROBE_DELAY_MS = 1000 };

static struct ferry_device *device_from(struct ferry_path *path)
{
	ferry_assert(path && path->ops == &ferry_device_path_ops);
	return FERRY_CONTAINER_OF(path, struct ferry_device, path);
}

static uint64_t attempt_bytes(const struct ferry_device *device,
			      const struct ferry_attempt *attempt)
{
	return (uint64_t)attempt->length_blocks * device->identity.block_bytes;
}

/* What of the segments is still to be done, into request->parts; their count. */
static unsigned int parts_from_segments(struct ferry_device_request *request)
{
	const struct ferry_segments *segments = &request->attempt->segments;
	uint32_t skip_bytes = request->done_bytes;
	unsigned int count = 0;

	ferry_assert(segments->count > 0 && segments->count <= FERRY_SEGMENTS_MAX);
	ferry_assert(request->done_bytes < segments->length_bytes);
	for (uint32_t i = 0; i < segments->count; i++) {
		const struct ferry_segment *segment = &segments->v[i];

		if (skip_bytes >= segment->length_bytes) {
			skip_bytes -= segment->length_bytes;
			continue;
		}
		request->parts[count++] = (struct iovec){
			.iov_base = segment->chunk->data + segment->offset_bytes + skip_bytes,
			.iov_len = segment->length_bytes - skip_bytes,
		};
		skip_bytes = 0;
	}
	ferry_assert(count > 0);
	return count;
}

/* The same for zeroes: one block of memory, many times. Maybe not all in one step. */
static unsigned int parts_from_zeroes(struct ferry_device_request *request)
{
	struct ferry_device *device = request->device;
	uint64_t left_bytes = attempt_bytes(device, request->attempt) - request->done_bytes;
	unsigned int count = 0;

	ferry_assert(left_bytes > 0);
	while (left_bytes > 0 && count < FERRY_SEGMENTS_MAX) {
		uint64_t part_bytes = ferry_min_u64(left_bytes, FERRY_DEVICE_ZEROES_BYTES);

		request->parts[count++] = (struct iovec){
			.iov_base = device->zeroes,
			.iov_len = part_bytes,
		};
		left_bytes -= part_bytes;
	}
	ferry_assert(count > 0);
	return count;
}

static void data_queue(struct ferry_device_request *request, struct io_uring_sqe *sqe,
		       unsigned int parts_count, uint64_t offset_bytes)
{
	struct ferry_device *device = request->device;
	const struct iovec *part = &request->parts[0];
	bool is_fixed = parts_count == 1 &&
			ferry_uring_is_registered(device->loop, part->iov_base, part->iov_len);

	if (request->attempt->op == FERRY_OP_READ) {
		if (is_fixed)
			io_uring_prep_read_fixed(sqe, device->fd, part->iov_base,
						 (unsigned int)part->iov_len, offset_bytes,
						 /* buf_index= */ 0);
		else
			io_uring_prep_readv(sqe, device->fd, part, parts_count, offset_bytes);
		return;
	}
	if (is_fixed)
		io_uring_prep_write_fixed(sqe, device->fd, part->iov_base,
					  (unsigned int)part->iov_len, offset_bytes,
					  /* buf_index= */ 0);
	else
		io_uring_prep_writev(sqe, device->fd, part, parts_count, offset_bytes);
	if ((request->attempt->flags & FERRY_IO_FUA) && !device->is_fua_two_steps)
		sqe->rw_flags = RWF_DSYNC;
}

/* Send the request's present step, or what is left of it. */
static void request_queue(struct ferry_device_request *request)
{
	struct ferry_device *device = request->device;
	struct ferry_attempt *attempt = request->attempt;
	uint64_t start_bytes = attempt->lba.v * device->identity.block_bytes;
	uint64_t length_bytes = attempt_bytes(device, attempt);
	struct io_uring_sqe *sqe;

	if (request->step == FERRY_DEVICE_STEP_SYNC && device->flusher) {
		ferry_flusher_submit(device->flusher, &request->flush);
		return;
	}
	sqe = ferry_uring_sqe(device->loop);
	switch (request->step) {
	case FERRY_DEVICE_STEP_DATA:
		data_queue(request, sqe, parts_from_segments(request),
			   start_bytes + request->done_bytes);
		break;
	case FERRY_DEVICE_STEP_ZERO_WRITE:
		data_queue(request, sqe, parts_from_zeroes(request),
			   start_bytes + request->done_bytes);
		break;
	case FERRY_DEVICE_STEP_PUNCH:
		io_uring_prep_fallocate(sqe, device->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)start_bytes, (off_t)length_bytes);
		break;
	case FERRY_DEVICE_STEP_ZERO_RANGE:
		io_uring_prep_fallocate(sqe, device->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					(off_t)start_bytes, (off_t)length_bytes);
		break;
	case FERRY_DEVICE_STEP_SYNC:
		io_uring_prep_fsync(sqe, device->fd, IORING_FSYNC_DATASYNC);
		break;
	}
	ferry_uring_queue(device->loop, sqe, &request->ring);
}

static enum ferry_device_step step_first(const struct ferry_device *device,
					 const struct ferry_attempt *attempt)
{
	switch (attempt->op) {
	case FERRY_OP_READ:
	case FERRY_OP_WRITE:
		return FERRY_DEVICE_STEP_DATA;
	case FERRY_OP_FLUSH:
		return FERRY_DEVICE_STEP_SYNC;
	case FERRY_OP_DISCARD:
		return FERRY_DEVICE_STEP_PUNCH;
	case FERRY_OP_WRITE_ZEROES:
		if (!(attempt->flags & FERRY_IO_NO_UNMAP) && !device->lacks_punch)
			return FERRY_DEVICE_STEP_PUNCH;
		if (!device->lacks_zero_range)
			return FERRY_DEVICE_STEP_ZERO_RANGE;
		return FERRY_DEVICE_STEP_ZERO_WRITE;
	}
	ferry_assert(false && "an op that is none");
	return FERRY_DEVICE_STEP_SYNC;
}

static void device_check_attempt(const struct ferry_device *device,
				 const struct ferry_attempt *attempt)
{
	uint64_t size_blocks = device->identity.size_blocks;

	ferry_assert((attempt->flags & ~(uint32_t)FERRY_IO_FLAGS_ALL) == 0);
	if (attempt->op == FERRY_OP_FLUSH)
		return;
	ferry_assert(attempt->lba.v < size_blocks);
	ferry_assert(attempt->length_blocks <= size_blocks - attempt->lba.v);
	if (ferry_op_has_data(attempt->op))
		ferry_assert(attempt->segments.length_bytes == attempt_bytes(device, attempt));
	else
		ferry_assert(attempt_bytes(device, attempt) <= FERRY_IO_RANGE_BYTES_MAX);
}

static int device_submit(struct ferry_path *path, struct ferry_attempt *attempt)
{
	struct ferry_device *device = device_from(path);
	struct ferry_device_request *request;
	struct ferry_list *link;

	FERRY_ASSERT_ON_LOOP(ferry_uring_loop_of(device->loop));
	device_check_attempt(device, attempt);
	if (attempt->op == FERRY_OP_DISCARD && !device->identity.can_discard)
		return -EOPNOTSUPP;
	link = ferry_list_pop(&device->free);
	if (!link) {
		ferry_assert(device->inflight_count == device->depth);
		device->is_room_wanted = true;
		return -EAGAIN;
	}
	request = ferry_list_entry(link, struct ferry_device_request, link);
	ferry_assert(!request->attempt);
	request->attempt = attempt;
	request->step = step_first(device, attempt);
	request->done_bytes = 0;
	attempt->path_private = request;
	device->inflight_count++;
	request_queue(request);
	return 0;
}

/* The path is down, and told to be so once nothing is in flight any more. */
static void device_settle(struct ferry_device *device)
{
	if (!device->is_going_down || device->inflight_count > 0)
		return;
	device->is_going_down = false;
	if (!device->is_closing)
		ferry_timer_start_in(ferry_uring_loop_of(device->loop), &device->probe_timer,
				     PROBE_DELAY_MS * FERRY_NS_PER_MS);
	if (device->path.on_state)
		device->path.on_state(&device->path, false, FERRY_CAUSE_PATH);
}

static void device_down(struct ferry_device *device)
{
	if (!device->path.is_up)
		return;
	device->path.is_up = false;
	device->is_going_down = true;
}

void ferry_device_settle_run(struct ferry_task *task)
{
	device_settle(FERRY_CONTAINER_OF(task, struct ferry_device, settle));
}

/*
 * The kernel sends a command again that was aborted, or whose session was lost: as long as an
 * attempt has not ended, what is proven dead at the lun may get there once more.
 */
static void device_renew(struct ferry_path *path)
{
	struct ferry_device *device = device_from(path);

	FERRY_ASSERT_ON_LOOP(ferry_uring_loop_of(device->loop));
	device_down(device);
	if (device->inflight_count == 0) /* Else with the last one. */
		ferry_task_post(ferry_uring_loop_of(device->loop), &device->settle);
}

static void request_end(struct ferry_device_request *request, enum ferry_outcome outcome,
			enum ferry_cause cause)
{
	struct ferry_device *device = request->device;
	struct ferry_attempt *attempt = TAKE_PTR(request->attempt);

	ferry_assert(attempt && attempt->path_private == request);
	ferry_assert(device->inflight_count > 0);
	attempt->path_private = NULL;
	ferry_list_prepend(&device->free, &request->link);
	device->inflight_count--;
	device->is_in_callback = true; /* Which may call ferry_device_close(). */
	attempt->on_end(attempt, outcome, cause);
	attempt->on_released(attempt); /* The kernel is done with it: that was the completion. */

	if (device->is_room_wanted && device->path.is_up && device->path.on_room) {
		device->is_room_wanted = false;
		device->path.on_room(&device->path);
	}
	device->is_in_callback = false;
	device_settle(device);
}

/* Whether the device is shorter than it was when it was opened. */
static bool device_is_short(const struct ferry_device *device)
{
	int64_t size_bytes = ferry_device_size_bytes(device->fd, device->is_block_device);

	return size_bytes < 0 ||
	       (uint64_t)size_bytes < device->identity.size_blocks * device->identity.block_bytes;
}

static void request_fail(struct ferry_device_request *request, int error)
{
	struct ferry_device *device = request->device;
	const struct ferry_attempt *attempt = request->attempt;
	bool is_whole = attempt->op == FERRY_OP_WRITE && attempt->segments.count == 1 &&
			attempt->segments.length_bytes <= device->whole_bytes_max;
	/* Where the device has no FUA, the kernel writes and then flushes: which failed? */
	bool is_fua_sync = (attempt->flags & FERRY_IO_FUA) && device->identity.has_volatile_cache &&
			   !device->is_fua_two_steps;
	bool is_sync = request->step == FERRY_DEVICE_STEP_SYNC || is_fua_sync;
	struct ferry_conclusion conclusion =
		is_sync ? ferry_conclude_sync(device->is_block_device, device->is_cached,
					      attempt->op, is_whole, error)
			: ferry_conclude(device->is_block_device, attempt->op, is_whole, error);

	/* Beyond the end of a block device, too, the kernel says ENOSPC, and sends nothing. */
	if (device->is_block_device && error == -ENOSPC && device_is_short(device))
		conclusion =
			(struct ferry_conclusion){FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH, true};
	if (conclusion.is_path_gone)
		device_down(device);
	request_end(request, conclusion.outcome, conclusion.cause);
}

/* The next step, unless the attempt was given up: what has not left must never leave then. */
static void request_go_on(struct ferry_device_request *request)
{
	if (request->attempt->is_given_up)
		request_end(request, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
	else
		request_queue(request);
}

static void sync_or_end(struct ferry_device_request *request)
{
	ferry_assert(request->step != FERRY_DEVICE_STEP_SYNC);
	if (!(request->attempt->flags & FERRY_IO_FUA)) {
		request_end(request, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
		return;
	}
	request->step = FERRY_DEVICE_STEP_SYNC;
	request_go_on(request);
}

/* A read or write came to @count_bytes: go on, or it is over. */
static void data_run(struct ferry_device_request *request, uint32_t count_bytes)
{
	struct ferry_device *device = request->device;
	uint64_t length_bytes = attempt_bytes(device, request->attempt);

	/* A part of a block is none: direct I/O can only go on from a block's start. */
	count_bytes -= count_bytes % device->identity.block_bytes;
	if (count_bytes == 0) {
		/* The end of the file or device, before the end that it had. It is over. */
		device_down(device);
		request_end(request, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH);
		return;
	}
	ferry_assert(count_bytes <= length_bytes - request->done_bytes);
	request->done_bytes += count_bytes;
	if (request->done_bytes < length_bytes)
		request_go_on(request);
	else if (device->is_fua_two_steps)
		sync_or_end(request);
	else
		request_end(request, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
}

/* The device knows no such command: take the next best. */
static void request_demote(struct ferry_device_request *request)
{
	struct ferry_device *device = request->device;

	ferry_assert(!ferry_op_has_data(request->attempt->op));
	if (request->step == FERRY_DEVICE_STEP_PUNCH)
		device->lacks_punch = true;
	else
		device->lacks_zero_range = true;
	if (request->attempt->op == FERRY_OP_DISCARD) {
		/* To do nothing is a way to discard; from the next on we say that we cannot. */
		device->identity.can_discard = false;
		request_end(request, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
		return;
	}
	request->step = step_first(device, request->attempt);
	request_go_on(request);
}

void ferry_device_request_run(struct ferry_uring_request *ring, int result)
{
	struct ferry_device_request *request =
		FERRY_CONTAINER_OF(ring, struct ferry_device_request, ring);

	ferry_assert(request->attempt);
	switch (request->step) {
	case FERRY_DEVICE_STEP_DATA:
	case FERRY_DEVICE_STEP_ZERO_WRITE:
		if (result < 0)
			request_fail(request, result);
		else
			data_run(request, (uint32_t)result);
		return;
	case FERRY_DEVICE_STEP_PUNCH:
	case FERRY_DEVICE_STEP_ZERO_RANGE:
		if (result == -EOPNOTSUPP)
			request_demote(request);
		else if (result < 0)
			request_fail(request, result);
		else
			sync_or_end(request);
		return;
	case FERRY_DEVICE_STEP_SYNC:
		if (result < 0)
			request_fail(request, result);
		else
			request_end(request, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
		return;
	}
	ferry_assert(false && "a step that is none");
}

void ferry_device_flush_run(struct ferry_flusher_request *flush, enum ferry_outcome outcome,
			    enum ferry_cause cause)
{
	struct ferry_device_request *request =
		FERRY_CONTAINER_OF(flush, struct ferry_device_request, flush);
	struct ferry_conclusion conclusion;

	ferry_assert(request->attempt);
	ferry_assert(request->step == FERRY_DEVICE_STEP_SYNC);
	if (cause == FERRY_CAUSE_INVALID) { /* The disk knows no such command: the kernel knows. */
		request->device->flusher = NULL;
		request_go_on(request);
		return;
	}
	conclusion = ferry_conclude_flush(request->attempt->op, outcome, cause);
	request_end(request, conclusion.outcome, conclusion.cause);
}

/* The probe: read the last block once a second while the path is down. */

void ferry_device_probe_timer_run(struct ferry_timer *timer)
{
	struct ferry_device *device = FERRY_CONTAINER_OF(timer, struct ferry_device, probe_timer);
	uint64_t last = device->identity.size_blocks - 1;
	struct io_uring_sqe *sqe;

	ferry_assert(!device->path.is_up && !device->is_closing);
	ferry_assert(!device->is_probing);
	sqe = ferry_uring_sqe(device->loop);
	io_uring_prep_read(sqe, device->fd, device->probe_block, device->identity.block_bytes,
			   last * device->identity.block_bytes);
	device->is_probing = true;
	ferry_uring_queue(device->loop, sqe, &device->probe);
}

void ferry_device_probe_run(struct ferry_uring_request *request, int result)
{
	struct ferry_device *device = FERRY_CONTAINER_OF(request, struct ferry_device, probe);

	ferry_assert(device->is_probing);
	ferry_assert(!device->path.is_up);
	device->is_probing = false;
	if (device->is_closing)
		return;
	if (result != (int)device->identity.block_bytes || device_is_short(device)) {
		ferry_timer_start_in(ferry_uring_loop_of(device->loop), &device->probe_timer,
				     PROBE_DELAY_MS * FERRY_NS_PER_MS);
		return;
	}
	device->path.is_up = true;
	device->is_room_wanted = false; /* Who waited was told that the path went down. */
	if (device->path.on_state)
		device->path.on_state(&device->path, true, FERRY_CAUSE_NONE);
}

struct ferry_path *ferry_device_path(struct ferry_device *device)
{
	ferry_assert(device);
	ferry_assert(device->path.ops == &ferry_device_path_ops);
	return &device->path;
}

const struct ferry_lun_identity *ferry_device_identity(const struct ferry_device *device)
{
	ferry_assert(device);
	ferry_assert(device->identity.size_blocks > 0);
	return &device->identity;
}

int ferry_device_descriptor(const struct ferry_device *device)
{
	ferry_assert(device);
	ferry_assert(device->fd >= 0);
	return device->fd;
}

void ferry_device_flush_by(struct ferry_device *device, struct ferry_flusher *flusher)
{
	ferry_assert(device && flusher);
	ferry_assert(device->inflight_count == 0 && !device->flusher);
	if (!device->identity.has_volatile_cache)
		return;
	device->flusher = flusher;
	device->is_fua_two_steps = true;
}

const char *ferry_device_note(const struct ferry_device *device)
{
	ferry_assert(device);
	return device->note[0] ? device->note : NULL;
}

const struct ferry_path_ops ferry_device_path_ops = {
	.name = "uring",
	.submit = device_submit,
	.reset = NULL, /* The kernel cannot be asked to give up. */
	.renew = device_renew,
};
