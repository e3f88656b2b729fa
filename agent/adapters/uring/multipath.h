/*
 * multipath.h - whether a block device sits on a multipath map that queues when it has no path.
 *
 * Such a device never fails: its I/O hangs until a path comes back, and a failure that is never
 * reported cannot be carried by a peer.
 *
 * Owns:    nothing.
 * Callers: device_open.c.
 * Thread:  any; start-up only: reads sysfs, asks device-mapper.
 * Rooms:   private to adapters/uring.
 */
#pragma once

#include <sys/types.h>

#include "agent/base/error.h"

enum {
	FERRY_DM_TABLE_BYTES_MAX = 64 * 1024,
	FERRY_MULTIPATH_DEPTH_MAX = 16,	   /* Of devices on devices. */
	FERRY_MULTIPATH_DEVICES_MAX = 256, /* Looked at in all. */
};

/*
 * Read the targets that the DM_TABLE_STATUS ioctl returned (struct dm_target_spec and a string,
 * each pointing to the next; linux/dm-ioctl.h). 1: a multipath target has the feature
 * queue_if_no_path; 0: none has; -EBADMSG: this is no such list.
 */
int ferry_multipath_table_queues(const void *targets, size_t size_bytes,
				 uint32_t targets_count) FERRY_MUST_CHECK;

/* Ask device-mapper for the table of @number. As above, or the ioctl's error. */
int ferry_multipath_ask(dev_t number) FERRY_MUST_CHECK;

/*
 * Look at the device @number and at all that it sits on, through @sysfs ("/sys"). @ask is
 * ferry_multipath_ask(), or a test's.
 * 0: fine. -EMLINK: it queues, or nobody can tell of a multipath map whether it does.
 */
int ferry_multipath_check(const char *sysfs, dev_t number, int (*ask)(dev_t number),
			  struct ferry_error *reterr) FERRY_MUST_CHECK;
