/* queue.c - requests: from the kernel, into the volume, and back. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/adapters/ublk/private.h"

enum {
	DESCS_BYTES = (FERRY_UBLK_DEPTH * sizeof(struct ublksrv_io_desc) + 4095) / 4096 * 4096,
	RETRY_MS = 1,
};

static struct ferry_block *block_of(const struct ublk_slot *slot)
{
	return slot->device->volume.block;
}

static uint16_t tag_of(const struct ublk_slot *slot)
{
	return (uint16_t)(slot - slot->device->slots);
}

/* Give the slot to the kernel, with @result of what was in it, if @code commits something. */
static void slot_offer(struct ublk_slot *slot, uint32_t code, int32_t result)
{
	struct ublk_device *device = slot->device;
	struct ublksrv_io_cmd words = {.tag = tag_of(slot), .result = result};

	ferry_assert(!slot->has_request);
	ferry_assert(device->fd >= 0);
	slot->command.fd = device->fd;
	slot->command.code = code;
	memcpy(slot->command.payload, &words, sizeof(words));
	device->fetches_count++;
	ferry_command_submit(device->ublk->config.commands, &slot->command);
}

static void slot_empty(struct ublk_slot *slot)
{
	ferry_assert(slot->has_request);
	ferry_assert(slot->device->requests_count > 0);
	ferry_segments_drop(&slot->io.segments);
	slot->has_request = false;
	slot->device->requests_count--;
	ublk_device_news(slot->device);
}

/*
 * The next agent may have better luck with what has failed, and is asked for it again. But a FLUSH
 * that was tried has told of a loss that nobody else knows of: asked again, it would succeed (rule
 * 11).
 */
static bool is_for_the_next(const struct ublk_slot *slot, int error)
{
	return error == -ESHUTDOWN || (error < 0 && slot->io.op != FERRY_OP_FLUSH);
}

static void slot_end(struct ublk_slot *slot, int error)
{
	struct ublk_device *device = slot->device;

	slot_empty(slot);
	slot->is_kept = device->is_leaving && is_for_the_next(slot, error);
	if (slot->is_kept)
		return; /* It stays unanswered. */
	device->ublk->counters.failed += error < 0;
	slot_offer(slot, UBLK_U_IO_COMMIT_AND_FETCH_REQ,
		   ublk_result_of(&slot->io, block_of(slot)->block_bytes, error));
}

/* Copy all of the segments to or from the application's pages. */
static int data_copy(struct ublk_slot *slot, bool is_from_application)
{
	const struct ferry_segments *segments = &slot->io.segments;
	off_t offset = (off_t)ublk_data_offset(tag_of(slot));
	struct iovec parts[FERRY_SEGMENTS_MAX];
	ssize_t count;

	ferry_assert(segments->count > 0 && segments->count <= FERRY_SEGMENTS_MAX);
	for (uint32_t i = 0; i < segments->count; i++) {
		parts[i].iov_base = segments->v[i].chunk->data + segments->v[i].offset_bytes;
		parts[i].iov_len = segments->v[i].length_bytes;
	}
	count = is_from_application
			? preadv(slot->device->fd, parts, (int)segments->count, offset)
			: pwritev(slot->device->fd, parts, (int)segments->count, offset);
	/* The pages are pinned by the request: there is nothing to wait for, or to be short of. */
	return count == (ssize_t)segments->length_bytes ? 0 : -EIO;
}

static void io_done(struct ferry_io *io, int error);

/* Submit; false: there is no room now. */
static bool slot_submit(struct ublk_slot *slot)
{
	struct ublk_device *device = slot->device;
	struct ferry_block *block = block_of(slot);
	struct ferry_io *io = &slot->io;
	int r = 0;

	if (io->op == FERRY_OP_WRITE && io->segments.count == 0) {
		if (ferry_arena_take(block->arena, io->length_blocks * block->block_bytes,
				     &io->segments) < 0) {
			device->is_arena_wanted = true;
			return false;
		}
		r = data_copy(slot, /* is_from_application= */ true);
	}
	if (r == 0)
		r = ferry_block_submit(block, io);
	if (r == -EAGAIN)
		return false;
	if (r < 0)
		slot_end(slot, r);
	return true;
}

/* In order; the first that has no room stops it. */
static void waiting_retry(struct ublk_device *device)
{
	struct ferry_ublk *ublk = device->ublk;

	device->is_arena_wanted = false;
	while (!ferry_list_is_empty(&device->waiting)) {
		struct ferry_list *link = ferry_list_pop(&device->waiting);

		if (slot_submit(ferry_list_entry(link, struct ublk_slot, link)))
			continue;
		ferry_list_prepend(&device->waiting, link);
		if (device->is_arena_wanted)
			ferry_arena_wait(device->volume.block->arena, &device->arena_waiter);
		else if (!ferry_timer_is_started(&device->retry_timer))
			ferry_timer_start_in(ublk->config.loop, &device->retry_timer,
					     RETRY_MS * FERRY_NS_PER_MS);
		return;
	}
}

/* Whoever waits for the arena is in its list already, and is called. */
static void waiting_poke(struct ublk_device *device)
{
	if (!device->is_arena_wanted || ferry_list_is_empty(&device->waiting))
		waiting_retry(device);
}

static void on_arena_room(struct ferry_arena_waiter *waiter)
{
	struct ublk_device *device = FERRY_CONTAINER_OF(waiter, struct ublk_device, arena_waiter);

	device->is_arena_wanted = false;
	ferry_task_post(device->ublk->config.loop, &device->retry_task);
}

static void on_retry_task(struct ferry_task *task)
{
	waiting_poke(FERRY_CONTAINER_OF(task, struct ublk_device, retry_task));
}

static void on_retry_timer(struct ferry_timer *timer)
{
	waiting_poke(FERRY_CONTAINER_OF(timer, struct ublk_device, retry_timer));
}

static void io_done(struct ferry_io *io, int error)
{
	struct ublk_slot *slot = io->context;
	struct ublk_device *device = slot->device;

	ferry_assert(slot->has_request);
	FERRY_ASSERT_ON_LOOP(device->ublk->config.loop);
	if (error == 0 && io->op == FERRY_OP_READ)
		error = data_copy(slot, /* is_from_application= */ false);
	slot_end(slot, error);
	waiting_poke(device);
}

static void count(struct ferry_ublk_counters *counters, const struct ferry_io *io)
{
	counters->reads += io->op == FERRY_OP_READ;
	counters->writes += io->op == FERRY_OP_WRITE;
	counters->flushes += io->op == FERRY_OP_FLUSH;
	counters->discards += io->op == FERRY_OP_DISCARD;
	counters->zeroes += io->op == FERRY_OP_WRITE_ZEROES;
	counters->fuas += (io->flags & FERRY_IO_FUA) != 0;
}

static void slot_begin(struct ublk_slot *slot)
{
	struct ublk_device *device = slot->device;
	/* Once: it is the kernel's memory. */
	struct ublksrv_io_desc desc = device->descs[tag_of(slot)];
	int r;

	ferry_assert(!slot->has_request);
	slot->has_request = true;
	device->requests_count++;
	r = ublk_request_translate(block_of(slot), &desc, &slot->io);
	slot->io.on_done = io_done;
	slot->io.context = slot;
	if (r < 0) {
		device->ublk->counters.refused++;
		slot->io.op = FERRY_OP_FLUSH; /* Nothing of it can be told. */
		slot_end(slot, r);
		return;
	}
	count(&device->ublk->counters, &slot->io);
	ferry_list_append(&device->waiting, &slot->link);
	waiting_poke(device);
}

static void slot_fetched(struct ferry_command *command, int result)
{
	struct ublk_slot *slot = FERRY_CONTAINER_OF(command, struct ublk_slot, command);
	struct ublk_device *device = slot->device;

	ferry_assert(device->fetches_count > 0 && device->fd >= 0);
	device->fetches_count--;
	slot->is_kept = result == UBLK_IO_RES_OK && device->is_leaving;
	if (slot->is_kept)
		return; /* It stays unanswered: the kernel asks the next agent. */
	if (result == UBLK_IO_RES_OK) {
		slot_begin(slot);
		return;
	}
	/* ABORT: the device is stopped. Any other: the kernel did not take the slot. */
	if (result != UBLK_IO_RES_ABORT)
		device->queue_error = result;
	ublk_device_news(device);
}

void ublk_queue_init(struct ublk_device *device)
{
	device->fd = -1;
	device->arena_waiter.run = on_arena_room;
	device->retry_task.run = on_retry_task;
	device->retry_timer.run = on_retry_timer;
	ferry_list_init(&device->waiting);
	ferry_list_init(&device->arena_waiter.link);
	for (uint32_t i = 0; i < FERRY_UBLK_DEPTH; i++) {
		device->slots[i] = (struct ublk_slot){.device = device};
		device->slots[i].command.run = slot_fetched;
		ferry_list_init(&device->slots[i].link);
	}
}

int ublk_queue_open(struct ublk_device *device)
{
	struct ferry_ublk *ublk = device->ublk;
	char path[300];
	void *memory;

	ferry_assert(device->fd < 0 && device->fetches_count == 0);
	(void)snprintf(path, sizeof(path), "%.250s/ublkc%u", ublk->folder, device->id);
	device->fd = open(path, O_RDWR | O_CLOEXEC);
	if (device->fd < 0)
		return -errno;
	memory = mmap(NULL, DESCS_BYTES, PROT_READ, MAP_SHARED | MAP_POPULATE, device->fd,
		      UBLKSRV_CMD_BUF_OFFSET);
	if (memory == MAP_FAILED)
		return -errno;
	device->descs = memory;
	device->queue_error = 0;
	for (uint32_t i = 0; i < FERRY_UBLK_DEPTH; i++)
		slot_offer(&device->slots[i], UBLK_U_IO_FETCH_REQ, 0);
	return 0;
}

bool ublk_queue_is_over(const struct ublk_device *device)
{
	return device->fetches_count == 0 && device->requests_count == 0;
}

void ublk_queue_leave(struct ublk_device *device)
{
	struct ferry_list *link;

	ferry_assert(device->is_leaving);
	while ((link = ferry_list_pop(&device->waiting))) {
		struct ublk_slot *slot = ferry_list_entry(link, struct ublk_slot, link);

		slot_empty(slot);
		slot->is_kept = true;
	}
}

void ublk_queue_refuse(struct ublk_device *device)
{
	ferry_assert(!device->is_leaving);
	for (uint32_t i = 0; i < FERRY_UBLK_DEPTH; i++) {
		struct ublk_slot *slot = &device->slots[i];

		if (!slot->is_kept)
			continue;
		slot->is_kept = false;
		device->ublk->counters.failed++;
		slot_offer(slot, UBLK_U_IO_COMMIT_AND_FETCH_REQ, -EIO);
	}
}

void ublk_queue_close(struct ublk_device *device)
{
	ferry_timer_stop(device->ublk->config.loop, &device->retry_timer);
	ferry_task_cancel(device->ublk->config.loop, &device->retry_task);
	if (ferry_list_is_linked(&device->arena_waiter.link))
		ferry_arena_unwait(&device->arena_waiter);
	if (device->descs)
		/* The interface has no const; nothing is written. */
		(void)munmap((void *)(uintptr_t)device->descs, DESCS_BYTES);
	device->descs = NULL;
	if (device->fd >= 0)
		(void)close(device->fd);
	device->fd = -1;
	for (uint32_t i = 0; i < FERRY_UBLK_DEPTH; i++)
		device->slots[i].is_kept = false; /* The kernel's again, or the next agent's. */
}
