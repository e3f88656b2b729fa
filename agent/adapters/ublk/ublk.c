/* ublk.c - the front end: which volumes are shown, and who waits for what of them. */
#include "agent/adapters/ublk/ublk.h"

#include <stdlib.h>
#include <unistd.h>

#include "agent/adapters/ublk/private.h"

static struct ublk_device *device_find(const struct ferry_ublk *ublk,
				       const struct ferry_block *block)
{
	ferry_assert(ublk && block);
	FERRY_ASSERT_ON_LOOP(ublk->config.loop);
	for (size_t i = 0; i < FERRY_UBLK_DEVICES_MAX; i++)
		if (ublk->devices[i].volume.block == block)
			/* What is const here is who asks, not the front end itself. */
			return (struct ublk_device *)(uintptr_t)&ublk->devices[i];
	return NULL;
}

/* ---- News. ---- */

void ublk_device_news(struct ublk_device *device)
{
	ferry_task_post(device->ublk->config.loop, &device->news_task);
}

void ublk_device_gone(struct ublk_device *device)
{
	ferry_assert(!device->is_in_control && ublk_queue_is_over(device));
	device->state = UBLK_NONE;
	device->name[0] = '\0';
	device->id = UINT32_MAX;
	ublk_device_news(device);
}

static void attach_answer(struct ublk_device *device, int error, const char *text)
{
	void (*on_attached)(int, const char *, void *) = TAKE_PTR(device->on_attached);

	if (on_attached)
		on_attached(error, text, device->attach_context);
}

static void attach_news(struct ublk_device *device)
{
	if (!device->on_attached)
		return;
	if (device->is_removed || device->is_leaving)
		attach_answer(device, -ESHUTDOWN, "the volume is being withdrawn");
	else if (device->state == UBLK_LIVE)
		attach_answer(device, 0, device->name);
	else if (device->state == UBLK_NONE && device->error < 0)
		attach_answer(device, device->error, device->why);
	else if (device->state == UBLK_NONE)
		ublk_device_start(device);
}

static void removal_news(struct ublk_device *device)
{
	void (*on_removed)(void *) = device->on_removed;

	if (!device->is_removed)
		return;
	if (device->state == UBLK_WAITING || device->state == UBLK_STARTING ||
	    device->state == UBLK_LIVE)
		ublk_device_stop(device, 0, "");
	if (device->state != UBLK_NONE)
		return;
	device->ublk->config.commands->ops->unreserve(device->ublk->config.commands,
						      FERRY_UBLK_DEPTH);
	device->volume.block = NULL;
	device->is_removed = false;
	on_removed(device->remove_context);
}

/* Nothing of it is under way here; what is left of it is the kernel's. */
static void left_news(struct ublk_device *device)
{
	void (*on_left)(void *) = device->on_left;

	if (!on_left || device->is_in_control || device->state == UBLK_STOPPING ||
	    device->requests_count > 0)
		return;
	device->on_left = NULL;
	on_left(device->left_context);
}

static void on_news(struct ferry_task *task)
{
	struct ublk_device *device = FERRY_CONTAINER_OF(task, struct ublk_device, news_task);
	void (*on_detached)(int, const char *, void *);

	if (!device->volume.block)
		return;
	if (device->on_detached && device->state == UBLK_NONE) {
		on_detached = TAKE_PTR(device->on_detached);
		on_detached(0, "", device->detach_context);
	}
	attach_news(device);
	removal_news(device);
	left_news(device);
}

/* ---- What is asked. ---- */

int ferry_ublk_open(const struct ferry_ublk_config *config, struct ferry_ublk **ret,
		    struct ferry_error *reterr)
{
	struct ferry_ublk *ublk = calloc(1, sizeof(*ublk));
	struct ferry_event note = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_WARNING};
	int r;

	ferry_assert(config && config->loop && config->commands);
	if (!ublk)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the ublk front end");
	ublk->config = *config;
	ublk->folder = config->devices ? config->devices : "/dev";
	ublk->control_fd = -1;
	for (size_t i = 0; i < FERRY_UBLK_DEVICES_MAX; i++)
		ublk->devices[i].fd = -1;
	r = ublk_driver_open(ublk);
	if (r < 0)
		ferry_event_emit(config->events, note, UBLK_NO_DRIVER, strerror(-r));
	*ret = ublk;
	return 0;
}

int ferry_ublk_add(struct ferry_ublk *ublk, const struct ferry_ublk_volume *volume,
		   struct ferry_error *reterr)
{
	struct ublk_device *device = NULL;
	int r;

	ferry_assert(volume->block && volume->block->loop == ublk->config.loop);
	if (device_find(ublk, volume->block))
		return ferry_error_set(reterr, -EEXIST, "volume %s is shown by ublk already",
				       volume->block->name);
	for (size_t i = 0; i < FERRY_UBLK_DEVICES_MAX && !device; i++)
		if (!ublk->devices[i].volume.block)
			device = &ublk->devices[i];
	r = device ? ublk->config.commands->ops->reserve(ublk->config.commands, FERRY_UBLK_DEPTH)
		   : -ENOSPC;
	if (r < 0)
		return ferry_error_set(reterr, r, "no room for volume %s at the ublk front end",
				       volume->block->name);
	memset(device, 0, sizeof(*device));
	device->ublk = ublk;
	device->volume = *volume;
	device->label = ublk_label_of(&volume->label, volume->block->name);
	device->state = UBLK_NONE;
	device->id = UINT32_MAX;
	device->news_task.run = on_news;
	device->volume.label = (struct ferry_ublk_label){0}; /* Its strings are the caller's. */
	ublk_queue_init(device);
	ublk_find(device);
	return 0;
}

/* It cannot be asked for that just now: @on_done has run. */
static bool is_refused(const struct ublk_device *device, bool is_starting,
		       void (*on_done)(int error, const char *text, void *context), void *context)
{
	ferry_assert(on_done);
	if (!device)
		on_done(-ENODEV, "it is not shown by ublk: see the log", context);
	else if (device->on_attached || device->on_detached || device->is_removed ||
		 device->is_leaving || is_starting)
		on_done(-EBUSY, "it is being attached, detached or withdrawn just now", context);
	else
		return false;
	return true;
}

void ferry_ublk_attach(struct ferry_ublk *ublk, struct ferry_block *block,
		       void (*on_done)(int error, const char *text, void *context), void *context)
{
	struct ublk_device *device = device_find(ublk, block);

	if (is_refused(device, /* is_starting= */ false, on_done, context))
		return;
	device->error = 0;
	device->on_attached = on_done;
	device->attach_context = context;
	ublk_device_news(device);
}

void ferry_ublk_detach(struct ferry_ublk *ublk, struct ferry_block *block,
		       void (*on_done)(int error, const char *text, void *context), void *context)
{
	struct ublk_device *device = device_find(ublk, block);
	bool is_starting =
		device && (device->state == UBLK_FINDING || device->state == UBLK_STARTING);

	if (is_refused(device, is_starting, on_done, context))
		return;
	device->on_detached = on_done;
	device->detach_context = context;
	if (device->state == UBLK_LIVE || device->state == UBLK_WAITING)
		ublk_device_stop(device, 0, "");
	ublk_device_news(device);
}

int ferry_ublk_remove(struct ferry_ublk *ublk, struct ferry_block *block,
		      void (*on_removed)(void *context), void *context)
{
	struct ublk_device *device = device_find(ublk, block);

	ferry_assert(on_removed);
	if (!device)
		return -ENOENT;
	if (device->is_removed)
		return -EALREADY;
	device->is_removed = true;
	device->on_removed = on_removed;
	device->remove_context = context;
	if (device->is_leaving) { /* The kernel waits for each answer before it lets go of it. */
		device->is_leaving = false;
		ublk_queue_refuse(device);
	}
	ublk_device_news(device);
	return 0;
}

const char *ferry_ublk_device(const struct ferry_ublk *ublk, const struct ferry_block *block)
{
	const struct ublk_device *device = device_find(ublk, block);

	return device && device->state == UBLK_LIVE ? device->name : "";
}

int ferry_ublk_leave(struct ferry_ublk *ublk, struct ferry_block *block,
		     void (*on_left)(void *context), void *context)
{
	struct ublk_device *device = device_find(ublk, block);

	ferry_assert(on_left);
	if (!device)
		return -ENOENT;
	if (device->is_leaving || device->is_removed)
		return -EALREADY;
	device->is_leaving = true;
	device->on_left = on_left;
	device->left_context = context;
	/* A new one that nobody has been told of goes; any other stays for the next agent. */
	if (device->state == UBLK_STARTING && !device->is_recovery)
		ublk_device_stop(device, 0, "");
	else if (device->state != UBLK_STOPPING)
		ferry_timer_stop(ublk->config.loop, &device->timer);
	ublk_queue_leave(device);
	ublk_device_news(device);
	return 0;
}

struct ferry_ublk *ferry_ublk_free(struct ferry_ublk *ublk)
{
	if (!ublk)
		return NULL;
	for (size_t i = 0; i < FERRY_UBLK_DEVICES_MAX; i++) {
		struct ublk_device *device = &ublk->devices[i];

		if (!device->volume.block)
			continue;
		ferry_timer_stop(ublk->config.loop, &device->timer);
		ferry_task_cancel(ublk->config.loop, &device->news_task);
		ublk_queue_close(device);
	}
	if (ublk->control_fd >= 0)
		(void)close(ublk->control_fd);
	free(ublk);
	return NULL;
}

void ferry_ublk_counters_get(const struct ferry_ublk *ublk, struct ferry_ublk_counters *ret)
{
	ferry_assert(ublk && ret);
	*ret = ublk->counters;
}
