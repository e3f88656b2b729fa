/*
 * private.h - the parts that tests look at one by one.
 *
 * Owns:    nothing.
 * Callers: agent/adapters/uevent only.
 * Thread:  any.
 * Rooms:   private.
 */
#pragma once

#include <sys/types.h>

#include "agent/adapters/uevent/uevent.h"

enum {
	FERRY_UEVENT_BYTES_MAX = 8192, /* The kernel's own bound is 2 KiB and a path. */
	FERRY_UEVENT_DEPTH_MAX = 8,    /* Of devices upon devices. */
};

/* The device of an event that tells of a reset, as it is below /sys; NULL: it tells of other. */
const char *ferry_uevent_reset_of(const char *event, size_t length_bytes);

/*
 * Whether the SCSI device @devpath ("/devices/...") is beneath the block device @number, however
 * many others are between them. NULL: whether any is.
 */
bool ferry_uevent_is_beneath(const char *sysfs, dev_t number, const char *devpath);
