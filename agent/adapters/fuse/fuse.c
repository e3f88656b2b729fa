#include "agent/adapters/fuse/fuse.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/adapters/fuse/internal.h"

/* Requests may be read: there is room for one more, and the buffer is free. */
static bool may_read(const struct ferry_fuse *fuse)
{
	return !fuse->is_cut && !fuse->stalled && !ferry_list_is_empty(&fuse->free);
}

void fuse_reading_update(struct ferry_fuse *fuse)
{
	bool is_wanted = may_read(fuse);

	ferry_assert(fuse->loop);
	if (fuse->is_cut || is_wanted == fuse->is_reading)
		return;
	fuse->is_reading = is_wanted;
	fuse->loop->ops->watch_set(fuse->loop, &fuse->watch, is_wanted ? FERRY_WATCH_READ : 0);
}

/* From here on the kernel is not heard, and gets no answers: it fails what is left by itself. */
static void cut(struct ferry_fuse *fuse)
{
	int null_fd;

	if (fuse->is_cut)
		return;
	fuse->loop->ops->watch_stop(fuse->loop, &fuse->watch);
	fuse->is_reading = false;
	fuse->is_cut = true;
	/*
	 * I/Os may still be in flight, whose answers libfuse will write to this descriptor: so
	 * its number must not become another file's before the last of them. Replacing it is what
	 * closes the connection.
	 */
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd >= 0) {
		(void)dup3(null_fd, fuse->fd, O_CLOEXEC);
		(void)close(null_fd);
	}
}

static void on_readable(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_fuse *fuse = FERRY_CONTAINER_OF(watch, struct ferry_fuse, watch);

	(void)ready; /* An error shows in the read. */
	ferry_assert(!fuse->is_cut);
	for (int i = 0; i < FERRY_FUSE_TURN_MAX && may_read(fuse); i++) {
		int r = fuse_session_receive_buf(fuse->session, &fuse->buffer);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			break;
		if (r <= 0) {
			/* ENODEV: unmounted, by us or by an administrator. */
			if (!fuse->is_closing)
				ferry_event_emit(fuse->events,
						 (struct ferry_event){
							 .kind = FERRY_EVENT_ADMIN,
							 .severity = FERRY_SEVERITY_WARNING,
							 .time_ns = ferry_loop_now_ns(fuse->loop),
						 },
						 "somebody unmounted %s: volumes are not "
						 "available there until the agent starts anew",
						 fuse->mountpoint);
			fuse->is_mounted = false;
			cut(fuse);
			return;
		}
		fuse_session_process_buf(fuse->session, &fuse->buffer);
	}
	fuse_reading_update(fuse);
}

/* Chunks came back: not from inside the arena, try with a fresh stack. */
static void on_arena_room(struct ferry_arena_waiter *waiter)
{
	struct ferry_fuse *fuse = FERRY_CONTAINER_OF(waiter, struct ferry_fuse, arena_waiter);

	ferry_assert(fuse->stalled);
	ferry_task_post(fuse->loop, &fuse->arena_task);
}

static void on_arena_task(struct ferry_task *task)
{
	fuse_stalled_retry(FERRY_CONTAINER_OF(task, struct ferry_fuse, arena_task));
}

static void on_retry_timer(struct ferry_timer *timer)
{
	struct ferry_fuse *fuse = FERRY_CONTAINER_OF(timer, struct ferry_fuse, retry_timer);

	for (size_t i = 0; i < FERRY_FUSE_VOLUMES_MAX; i++) {
		struct fuse_volume *volume = &fuse->volumes[i];

		if (!volume->block || ferry_list_is_empty(&volume->waiting))
			continue;
		fuse_volume_retry(volume);
		fuse_request_over(volume);
	}
}

static void on_removed_task(struct ferry_task *task)
{
	struct fuse_volume *volume = FERRY_CONTAINER_OF(task, struct fuse_volume, removed_task);
	void (*on_removed)(void *context) = volume->on_removed;
	void *context = volume->context;

	ferry_assert(volume->is_removed);
	ferry_assert(volume->in_flight == 0);
	volume->block = NULL;
	volume->is_removed = false;
	on_removed(context);
}

void fuse_request_over(struct fuse_volume *volume)
{
	struct ferry_fuse *fuse = volume->fuse;

	if (volume->is_removed && volume->in_flight == 0)
		ferry_task_post(fuse->loop, &volume->removed_task);
	if (fuse->is_closing && fuse->counters.in_flight == 0)
		ferry_task_post(fuse->loop, &fuse->close_task);
	fuse_reading_update(fuse);
}

static void fuse_free(struct ferry_fuse *fuse)
{
	if (!fuse)
		return;
	ferry_assert(fuse->counters.in_flight == 0);
	if (fuse->session)
		fuse_session_destroy(fuse->session); /* Closes the descriptor too. */
	free(fuse->buffer.mem);
	free(fuse);
}

static void fuse_freep(struct ferry_fuse **fuse)
{
	fuse_free(*fuse);
}

/* In flight is nothing any more, or the deadline has come. */
static void on_close_task(struct ferry_task *task)
{
	struct ferry_fuse *fuse = FERRY_CONTAINER_OF(task, struct ferry_fuse, close_task);
	void (*on_closed)(void *context) = fuse->on_closed;
	void *context = fuse->close_context;

	ferry_assert(fuse->is_closing);
	cut(fuse);
	if (fuse->counters.in_flight > 0)
		return; /* The last one's end posts this task again. */
	ferry_timer_stop(fuse->loop, &fuse->close_timer);
	ferry_timer_stop(fuse->loop, &fuse->retry_timer);
	ferry_task_cancel(fuse->loop, &fuse->arena_task);
	for (size_t i = 0; i < FERRY_FUSE_VOLUMES_MAX; i++)
		if (fuse->volumes[i].removed_task.is_posted) {
			ferry_task_cancel(fuse->loop, &fuse->volumes[i].removed_task);
			on_removed_task(&fuse->volumes[i].removed_task);
		}
	fuse_free(fuse);
	on_closed(context);
}

static void on_close_timer(struct ferry_timer *timer)
{
	struct ferry_fuse *fuse = FERRY_CONTAINER_OF(timer, struct ferry_fuse, close_timer);

	ferry_event_emit(fuse->events,
			 (struct ferry_event){
				 .kind = FERRY_EVENT_ADMIN,
				 .severity = FERRY_SEVERITY_WARNING,
				 .time_ns = ferry_loop_now_ns(fuse->loop),
				 .value = fuse->counters.in_flight,
			 },
			 "%u requests did not end in time while %s was closed: their callers get "
			 "an error",
			 fuse->counters.in_flight, fuse->mountpoint);
	ferry_task_post(fuse->loop, &fuse->close_task);
}

void ferry_fuse_close(struct ferry_fuse *fuse, uint64_t deadline_ns,
		      void (*on_closed)(void *context), void *context)
{
	ferry_assert(fuse && on_closed);
	FERRY_ASSERT_ON_LOOP(fuse->loop);
	ferry_assert(!fuse->is_closing);
	fuse->is_closing = true;
	fuse->on_closed = on_closed;
	fuse->close_context = context;
	/*
	 * The kernel does not wait for us in this: a plain unmount needs that nobody has a file
	 * open, a lazy one only takes the name away.
	 */
	fuse_unmount(fuse);
	fuse_stalled_retry(fuse); /* It is refused now. */
	if (fuse->counters.in_flight == 0)
		ferry_task_post(fuse->loop, &fuse->close_task);
	else
		ferry_timer_start(fuse->loop, &fuse->close_timer, deadline_ns);
}

static int session_start(struct ferry_fuse *fuse, struct ferry_error *reterr)
{
	char name[] = "ferry";
	char *argv[] = {name, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	char fd_path[32];
	int r;

	fuse->session = fuse_session_new(&args, &ferry_fuse_lowlevel_ops,
					 sizeof(ferry_fuse_lowlevel_ops), fuse);
	fuse_opt_free_args(&args);
	if (!fuse->session)
		return ferry_error_set(reterr, -ENOMEM, "libfuse gave no session");
	r = fuse_mount(fuse, &fuse->fd, reterr);
	if (r < 0)
		return r;
	/*
	 * libfuse takes a descriptor that is mounted already in this form. So mounting and
	 * unmounting stay ours: its own unmount is always lazy and may hit another's mount.
	 */
	(void)snprintf(fd_path, sizeof(fd_path), "/dev/fd/%d", fuse->fd);
	if (fuse_session_mount(fuse->session, fd_path) != 0) {
		(void)close(fuse->fd);
		return ferry_error_set(reterr, -EIO, "libfuse refuses the descriptor %d", fuse->fd);
	}
	fuse->watch = (struct ferry_watch){.run = on_readable, .fd = fuse->fd};
	r = fuse->loop->ops->watch_start(fuse->loop, &fuse->watch, FERRY_WATCH_READ);
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot watch the mount %s: %s", fuse->mountpoint,
				       strerror(-r));
	fuse->is_reading = true;
	return 0;
}

int ferry_fuse_open(const struct ferry_fuse_config *config, struct ferry_fuse **ret,
		    struct ferry_error *reterr)
{
	_cleanup_(fuse_freep) struct ferry_fuse *fuse = NULL;
	size_t length;
	int r;

	ferry_assert(config && config->loop && config->mountpoint);
	ferry_assert(ret);
	length = strlen(config->mountpoint);
	if (length >= FERRY_FUSE_MOUNTPOINT_MAX || config->mountpoint[0] != '/')
		return ferry_error_set(reterr, -EINVAL,
				       "the mount point must be an absolute path of less than %d "
				       "bytes",
				       FERRY_FUSE_MOUNTPOINT_MAX);
	fuse = calloc(1, sizeof(*fuse));
	if (!fuse)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the FUSE front end");
	fuse->loop = config->loop;
	fuse->events = config->events;
	fuse->fd = -1;
	fuse->is_single_file = config->is_single_file;
	memcpy(fuse->mountpoint, config->mountpoint, length + 1);
	fuse->ino_next = config->is_single_file ? FUSE_ROOT_ID : FUSE_ROOT_ID + 1;
	fuse->arena_waiter.run = on_arena_room;
	fuse->arena_task.run = on_arena_task;
	fuse->retry_timer.run = on_retry_timer;
	fuse->close_timer.run = on_close_timer;
	fuse->close_task.run = on_close_task;
	ferry_list_init(&fuse->free);
	for (size_t i = 0; i < FERRY_FUSE_REQUESTS_MAX; i++) {
		ferry_list_init(&fuse->requests[i].link);
		ferry_list_append(&fuse->free, &fuse->requests[i].link);
	}
	r = session_start(fuse, reterr);
	if (r < 0) {
		fuse_unmount(fuse);
		return r;
	}
	*ret = TAKE_PTR(fuse);
	return 0;
}

static bool is_file_name(const char *name)
{
	return name && name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       !strchr(name, '/') && strlen(name) < FERRY_EVENT_NAME_MAX;
}

int ferry_fuse_add(struct ferry_fuse *fuse, struct ferry_block *block, struct ferry_error *reterr)
{
	struct fuse_volume *slot = NULL;

	ferry_assert(fuse && block);
	ferry_assert(block->loop == fuse->loop && block->arena);
	ferry_assert(!fuse->is_closing);
	if (!is_file_name(block->name))
		return ferry_error_set(reterr, -EINVAL, "the volume's name cannot name a file");
	if (block->size_blocks > (uint64_t)INT64_MAX / block->block_bytes)
		return ferry_error_set(reterr, -EFBIG, "volume %s is too large for a file",
				       block->name);
	for (size_t i = 0; i < FERRY_FUSE_VOLUMES_MAX; i++) {
		struct fuse_volume *volume = &fuse->volumes[i];

		if (!volume->block) {
			slot = slot ? slot : volume;
			continue;
		}
		if (strcmp(volume->block->name, block->name) == 0)
			return ferry_error_set(reterr, -EEXIST, "there is a file %s already",
					       block->name);
	}
	if (!slot || (fuse->is_single_file && fuse->ino_next != FUSE_ROOT_ID))
		return ferry_error_set(reterr, -ENOSPC, "no room for volume %s at %s", block->name,
				       fuse->mountpoint);
	*slot = (struct fuse_volume){
		.fuse = fuse,
		.block = block,
		.ino = fuse->ino_next++,
		.removed_task = {.run = on_removed_task},
	};
	ferry_list_init(&slot->waiting);
	return 0;
}

int ferry_fuse_remove(struct ferry_fuse *fuse, struct ferry_block *block,
		      void (*on_removed)(void *context), void *context)
{
	ferry_assert(fuse && block && on_removed);
	FERRY_ASSERT_ON_LOOP(fuse->loop);
	for (size_t i = 0; i < FERRY_FUSE_VOLUMES_MAX; i++) {
		struct fuse_volume *volume = &fuse->volumes[i];

		if (volume->block != block)
			continue;
		if (volume->is_removed)
			return -EALREADY;
		volume->is_removed = true;
		volume->on_removed = on_removed;
		volume->context = context;
		if (fuse->stalled && fuse->stalled->volume == volume)
			fuse_stalled_retry(fuse); /* It is refused now. */
		fuse_request_over(volume);
		return 0;
	}
	return -ENOENT;
}

uint32_t ferry_fuse_opens(const struct ferry_fuse *fuse, const struct ferry_block *block)
{
	ferry_assert(fuse && block);
	FERRY_ASSERT_ON_LOOP(fuse->loop);
	for (size_t i = 0; i < FERRY_FUSE_VOLUMES_MAX; i++)
		if (fuse->volumes[i].block == block && !fuse->volumes[i].is_removed)
			return fuse->volumes[i].opens;
	return 0;
}

void ferry_fuse_counters_get(const struct ferry_fuse *fuse, struct ferry_fuse_counters *ret)
{
	ferry_assert(fuse);
	ferry_assert(ret);
	*ret = fuse->counters;
}
