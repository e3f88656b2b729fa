/*
 * recover.c - devices that an earlier agent has left.
 *
 * The kernel knows each device's label. One with this volume's is served again, if it may be and
 * the lun is the same; else it is removed, and its users get errors. All others are nobody's
 * business here.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/ublk/private.h"

#define AGAIN_NS (50 * FERRY_NS_PER_MS)

enum { SAY_AFTER_TRIES = 100 }; /* 5 s, and each 5 s again. */

/* Numbers of the devices that there are; what does not look like one is not one. */
static int candidates_list(struct ublk_device *device)
{
	DIR *folder = opendir(device->ublk->folder);
	const struct dirent *entry;

	if (!folder)
		return -errno;
	device->candidates_count = 0;
	while (device->candidates_count < UBLK_CANDIDATES_MAX && (entry = readdir(folder))) {
		const char *digits = entry->d_name + strlen("ublkc");
		unsigned long number;
		char *end;

		if (strncmp(entry->d_name, "ublkc", strlen("ublkc")) != 0 || digits[0] < '0' ||
		    digits[0] > '9')
			continue;
		number = strtoul(digits, &end, 10);
		if (*end == '\0' && number < UINT32_MAX)
			device->candidates[device->candidates_count++] = (uint32_t)number;
	}
	(void)closedir(folder);
	return 0;
}

static void look(struct ublk_device *device);

static void again(struct ublk_device *device)
{
	device->state = UBLK_WAITING;
	if (device->is_leaving)
		return;
	if (++device->tries_count % SAY_AFTER_TRIES == 0)
		ublk_say(device, FERRY_SEVERITY_WARNING,
			 "%s waits: the kernel has not let go of the agent before this one",
			 device->name);
	ublk_after(device, AGAIN_NS, look);
}

static void recovery_started(struct ublk_device *device, int result)
{
	if (result == -EBUSY) {
		again(device); /* The dead agent's last file is being closed. */
		return;
	}
	device->state = UBLK_STARTING;
	device->is_recovery = true;
	if (result < 0)
		ublk_device_stop(device, 0, strerror(-result));
	else
		ublk_device_serve(device);
}

static void params_got(struct ublk_device *device, int result)
{
	device->state = UBLK_WAITING;
	if (result < 0 || !ublk_params_fit(device->volume.block, &device->params))
		ublk_device_stop(device, 0, "the volume is no longer what it was");
	else
		ublk_control(device, UBLK_U_CMD_START_USER_RECOVERY, NULL, 0, 0, recovery_started);
}

/* It is this volume's, and its agent is dead: its control socket's lock is ours now. */
static void found(struct ublk_device *device)
{
	const struct ublksrv_ctrl_dev_info *info = &device->info;

	device->state = UBLK_WAITING;
	if (info->state == UBLK_S_DEV_DEAD) {
		ublk_device_stop(device, 0, ""); /* It was never started, and never will be. */
	} else if (!device->volume.may_recover) {
		ublk_device_stop(device, 0,
				 "another node serves it, or what that agent sent may still land");
	} else if (info->ublksrv_flags != device->label) {
		ublk_device_stop(device, 0, "another lun's, or another node has served it since");
	} else if (!ublk_info_is_right(info)) {
		ublk_device_stop(device, 0, "the volume is no longer what it was");
	} else if (info->state == UBLK_S_DEV_QUIESCED) {
		device->params.len = sizeof(device->params);
		ublk_control(device, UBLK_U_CMD_GET_PARAMS, &device->params, sizeof(device->params),
			     0, params_got);
	} else {
		again(device); /* The kernel has not noticed yet. */
	}
}

static void find_next(struct ublk_device *device);

static void looked(struct ublk_device *device, int result)
{
	if (result == 0 && ublk_label_is_kin(device->info.ublksrv_flags, device->label))
		found(device);
	else
		find_next(device);
}

static void look(struct ublk_device *device)
{
	ublk_control(device, UBLK_U_CMD_GET_DEV_INFO, &device->info, sizeof(device->info), 0,
		     looked);
}

static void find_next(struct ublk_device *device)
{
	device->state = UBLK_FINDING;
	if (device->candidates_count == 0) {
		ublk_device_gone(device);
		return;
	}
	ublk_device_is(device, device->candidates[--device->candidates_count]);
	device->info = (struct ublksrv_ctrl_dev_info){0};
	look(device);
}

void ublk_find(struct ublk_device *device)
{
	ferry_assert(device->state == UBLK_NONE);
	device->tries_count = 0;
	if (ublk_driver_open(device->ublk) < 0 || candidates_list(device) < 0)
		return; /* Without a driver there are none. */
	find_next(device);
}
