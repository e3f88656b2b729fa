/*
 * device.c - the life of one device, by control commands, one at a time:
 *
 *   NONE      ADD_DEV, SET_PARAMS, open the queue, START_DEV            LIVE
 *   FINDING   (recover.c) START_USER_RECOVERY, open the queue, END_...  LIVE
 *   any       STOP_DEV, all slots come back, close the queue, DEL_DEV   NONE
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/adapters/ublk/private.h"

/* The offered slots are sent off at the end of a turn; what the kernel does not take comes back. */
#define OFFERED_NS (2 * FERRY_NS_PER_MS)
/* How often it is asked whether the last slot is back. */
#define OVER_NS (10 * FERRY_NS_PER_MS)

void ublk_say(struct ublk_device *device, enum ferry_severity severity, const char *format, ...)
{
	struct ferry_ublk *ublk = device->ublk;
	struct ferry_event event = {.kind = FERRY_EVENT_ADMIN,
				    .severity = severity,
				    .time_ns = ferry_loop_now_ns(ublk->config.loop)};
	char text[FERRY_EVENT_TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	ferry_event_emit(ublk->config.events, event, "volume %s: %s", device->volume.block->name,
			 text);
}

int ublk_driver_open(struct ferry_ublk *ublk)
{
	char path[300];

	if (ublk->control_fd >= 0)
		return 0;
	(void)snprintf(path, sizeof(path), "%.250s/ublk-control", ublk->folder);
	ublk->control_fd = open(path, O_RDWR | O_CLOEXEC);
	return ublk->control_fd < 0 ? -errno : 0;
}

/* ---- Steps. ---- */

static void control_done(struct ferry_command *command, int result)
{
	struct ublk_device *device = FERRY_CONTAINER_OF(command, struct ublk_device, control);

	ferry_assert(device->is_in_control);
	device->is_in_control = false;
	device->on_control(device, result);
	ublk_device_news(device);
}

void ublk_control(struct ublk_device *device, uint32_t code, const void *buffer,
		  size_t buffer_bytes, uint64_t data,
		  void (*next)(struct ublk_device *device, int result))
{
	struct ferry_ublk *ublk = device->ublk;
	struct ublksrv_ctrl_cmd words = {
		.dev_id = device->id,
		.queue_id = UINT16_MAX,
		.len = (uint16_t)buffer_bytes,
		.addr = (uintptr_t)buffer,
		.data = {data},
	};
	int r;

	ferry_assert(!device->is_in_control && !ferry_timer_is_started(&device->timer));
	ferry_assert(ublk->control_fd >= 0);
	device->control =
		(struct ferry_command){.fd = ublk->control_fd, .code = code, .run = control_done};
	memcpy(device->control.payload, &words, sizeof(words));
	device->is_in_control = true;
	device->on_control = next;
	r = ferry_command_control(ublk->config.commands, &device->control);
	ferry_assert(r == 0); /* Each device has one; and there is room for more. */
}
_Static_assert((int)FERRY_UBLK_DEVICES_MAX <= (int)FERRY_COMMAND_CONTROLS_MAX,
	       "a device's command always has room");

static void timer_run(struct ferry_timer *timer)
{
	struct ublk_device *device = FERRY_CONTAINER_OF(timer, struct ublk_device, timer);

	device->on_timer(device);
	ublk_device_news(device);
}

void ublk_after(struct ublk_device *device, uint64_t delay_ns,
		void (*next)(struct ublk_device *device))
{
	ferry_assert(!device->is_in_control);
	device->timer.run = timer_run;
	device->on_timer = next;
	ferry_timer_start_in(device->ublk->config.loop, &device->timer, delay_ns);
}

void ublk_device_is(struct ublk_device *device, uint32_t id)
{
	device->id = id;
	(void)snprintf(device->name, sizeof(device->name), "/dev/ublkb%u", id);
}

/* ---- Stopping. ---- */

static void deleted(struct ublk_device *device, int result)
{
	if (result < 0 && result != -ENODEV)
		ublk_say(device, FERRY_SEVERITY_WARNING, "%s cannot be deleted: %s", device->name,
			 strerror(-result));
	ublk_device_gone(device);
}

static void stop_if_over(struct ublk_device *device)
{
	if (!ublk_queue_is_over(device)) {
		ublk_after(device, OVER_NS, stop_if_over);
		return;
	}
	ublk_queue_close(device);
	ublk_control(device, UBLK_U_CMD_DEL_DEV_ASYNC, NULL, 0, 0, deleted);
}

static void stopped(struct ublk_device *device, int result)
{
	if (result < 0)
		ublk_say(device, FERRY_SEVERITY_WARNING, "%s does not stop: %s", device->name,
			 strerror(-result));
	stop_if_over(device);
}

/* Also of one that was never started: this alone gives all slots back. */
static void stop_now(struct ublk_device *device)
{
	ublk_control(device, UBLK_U_CMD_STOP_DEV, NULL, 0, 0, stopped);
}

/* What was under way when the device was to be stopped has ended. */
static void interrupted(struct ublk_device *device, int result)
{
	if (device->control.code == UBLK_U_CMD_ADD_DEV && result < 0) {
		ublk_device_gone(device);
		return;
	}
	if (device->control.code == UBLK_U_CMD_ADD_DEV)
		ublk_device_is(device, device->info.dev_id);
	stop_now(device);
}

void ublk_device_stop(struct ublk_device *device, int error, const char *why)
{
	ferry_assert(device->state == UBLK_WAITING || device->state == UBLK_STARTING ||
		     device->state == UBLK_LIVE);
	device->state = UBLK_STOPPING;
	device->error = error;
	(void)snprintf(device->why, sizeof(device->why), "%s", why);
	if (why[0])
		ublk_say(device, FERRY_SEVERITY_ERROR, "%s is removed: %s", device->name, why);
	ferry_timer_stop(device->ublk->config.loop, &device->timer);
	if (!device->is_in_control)
		stop_now(device);
	else
		device->on_control = interrupted;
}

/* ---- Starting. ---- */

static void fail(struct ublk_device *device, int error, const char *what)
{
	char why[sizeof(device->why)];

	(void)snprintf(why, sizeof(why), "the ublk driver: %s: %s", what, strerror(-error));
	ublk_device_stop(device, error, why);
}

static void live(struct ublk_device *device, int result)
{
	if (result < 0) {
		fail(device, result, device->is_recovery ? "recovery" : "start");
		return;
	}
	device->state = UBLK_LIVE;
	if (!device->is_recovery)
		return;
	device->ublk->counters.recovered++;
	ublk_say(device, FERRY_SEVERITY_NOTICE,
		 "%s of an earlier agent is served again, its I/O goes on", device->name);
}

static void offered(struct ublk_device *device)
{
	if (device->queue_error < 0) {
		fail(device, device->queue_error, "its queue");
		return;
	}
	ublk_control(device,
		     device->is_recovery ? UBLK_U_CMD_END_USER_RECOVERY : UBLK_U_CMD_START_DEV,
		     NULL, 0, (uint64_t)getpid(), live);
}

void ublk_device_serve(struct ublk_device *device)
{
	int r = ublk_queue_open(device);

	ferry_assert(device->state == UBLK_STARTING);
	if (r < 0)
		fail(device, r, "its queue cannot be opened");
	else
		ublk_after(device, OFFERED_NS, offered);
}

static void params_set(struct ublk_device *device, int result)
{
	if (result < 0)
		fail(device, result, "the volume's limits");
	else
		ublk_device_serve(device);
}

static void added(struct ublk_device *device, int result)
{
	if (result < 0) {
		device->error = result;
		(void)snprintf(device->why, sizeof(device->why),
			       "the ublk driver makes no device: %s", strerror(-result));
		ublk_device_gone(device);
		return;
	}
	ublk_device_is(device, device->info.dev_id);
	if (!ublk_info_is_right(&device->info)) {
		ublk_device_stop(device, -ENODEV,
				 "the kernel's ublk lacks what Ferry needs: Linux 6.9 or later");
		return;
	}
	ublk_params_make(device->volume.block, &device->params);
	ublk_control(device, UBLK_U_CMD_SET_PARAMS, &device->params, sizeof(device->params), 0,
		     params_set);
}

void ublk_device_start(struct ublk_device *device)
{
	int r = ublk_driver_open(device->ublk);

	ferry_assert(device->state == UBLK_NONE);
	device->error = 0;
	if (r < 0) {
		device->error = -ENODEV;
		(void)snprintf(device->why, sizeof(device->why), UBLK_NO_DRIVER, strerror(-r));
		ublk_device_news(device);
		return;
	}
	device->state = UBLK_STARTING;
	device->is_recovery = false;
	device->id = UINT32_MAX;
	ublk_info_make(device->label, getpid(), &device->info);
	ublk_control(device, UBLK_U_CMD_ADD_DEV, &device->info, sizeof(device->info), 0, added);
}
