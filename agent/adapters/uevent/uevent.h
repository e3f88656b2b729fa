/*
 * uevent.h - what the kernel says of its SCSI disks: that one of them reported a reset.
 *
 * The kernel's SCSI layer keeps a UNIT ATTENTION 29h (power on, reset) from whoever reads and
 * writes: it sends the command again. But it tells everybody who listens, by a uevent of the SCSI
 * device, SDEV_UA=POWER_ON_RESET_OCCURRED (drivers/scsi/scsi_error.c, scsi_report_sense()), a
 * moment after the command met it. So this is a hint, to look what has become of the lun; it proves
 * nothing: a LUN RESET does it too, and so may a new session of the kernel's. Silence proves
 * nothing either: LIO reports no 29h after its restart (docs/fault-model.md).
 *
 * Owns:    a netlink socket.
 * Callers: agent/data_pool.c.
 * Thread:  the pool's data loop.
 * Rooms:   private.h.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/loop.h"

struct ferry_uevent_config {
	struct ferry_loop *loop;
	const char *path; /* The block device; the disks beneath it are looked up at each event. */
	/* One of them reported a reset, or events were lost. */
	void (*on_reset)(void *context);
	void *context;
};

struct ferry_uevent;

/* Start-up only. -EOPNOTSUPP: no SCSI disk is beneath it; or why the kernel cannot be heard. */
int ferry_uevent_open(const struct ferry_uevent_config *config, struct ferry_uevent **ret,
		      struct ferry_error *reterr) FERRY_MUST_CHECK;

/* NULL is a no-op. */
void ferry_uevent_close(struct ferry_uevent *uevent);
