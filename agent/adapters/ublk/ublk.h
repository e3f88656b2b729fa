/*
 * ublk.h - volumes as block devices of the kernel's own, /dev/ublkbN: a front end by the ublk
 * driver.
 *
 * One queue per device, on the data thread. Requests become struct ferry_io as they are; the kernel
 * is told the volume's limits, so it never asks for more. Data is copied once, between the
 * application's pages and the arena (UBLK_F_USER_COPY): a device holds no buffers of its own, and a
 * ghost's memory is never the application's.
 *
 * A device outlives the agent. If the agent dies, or is stopped with the device attached, the
 * kernel holds its I/O, and what was in flight it asks for again from the next agent
 * (UBLK_F_USER_RECOVERY_REISSUE). Which device is whose the kernel itself remembers: each bears a
 * label (ferry_ublk_label) of agent, volume and lun; there is no other state that could be stale.
 * A write that is asked for again may be in flight still, from the agent that died. So a volume is
 * shown here only when nothing of an earlier agent can land any more (design, rule 8), or, where
 * that is not known, with may_recover = false: then a device that is found is removed, and its
 * users get errors.
 *
 *   READ, WRITE      at most 1 MiB; WRITE with FUA
 *   FLUSH            the device says that it has a volatile cache
 *   DISCARD          if the volume can; up to 8 MiB each, the kernel splits
 *   WRITE_ZEROES     up to 8 MiB each; NOUNMAP keeps the space
 *
 * Owns:    the control device, each device's queue and request slots; not the volumes.
 * Callers: agent/data*.c.
 * Thread:  the data loop's.
 * Rooms:   ports/command.h is how commands get to the driver. nbd and fuse are the other front
 * ends.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/block.h"
#include "agent/ports/command.h"
#include "agent/ports/events.h"
#include "agent/ports/identity.h"
#include "agent/ports/loop.h"

enum {
	FERRY_UBLK_DEVICES_MAX = 16,
	FERRY_UBLK_DEPTH = 64, /* Requests of one device at a time; more wait in the kernel. */
	FERRY_UBLK_NAME_BYTES = 32,
};

struct ferry_ublk;

struct ferry_ublk_config {
	struct ferry_loop *loop;
	struct ferry_commands *commands;
	struct ferry_events *events; /* May be NULL. */
	const char *devices;	     /* NULL: "/dev"; tests have their own. */
};

/* Who serves what, for the device's label: the same after a restart of the agent, and else not. */
struct ferry_ublk_label {
	const char *agent; /* What no other agent on this machine has: its run directory. */
	struct ferry_node node;
	struct ferry_uuid lineage;
	struct ferry_epoch tenure; /* Since when nobody else has served it. If this alone... */
	struct ferry_uuid lun;	   /* ...or this differs, it is another volume of the same name. */
};

struct ferry_ublk_volume {
	struct ferry_block *block; /* Borrowed until it is removed. */
	struct ferry_ublk_label label;
	bool may_recover; /* One with this label: nothing of then can land any more. */
};

struct ferry_ublk_counters {
	uint64_t reads, writes, flushes, discards, zeroes; /* That were started. */
	uint64_t fuas;					   /* Of the writes. */
	uint64_t refused;				   /* The kernel should not have asked. */
	uint64_t failed;    /* That the volume answered with an error. */
	uint64_t recovered; /* Devices of an earlier agent. */
};

/* Takes memory; the driver need not be there yet: an event says so. -ENOMEM. */
int ferry_ublk_open(const struct ferry_ublk_config *config, struct ferry_ublk **ret,
		    struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Show a volume: what an earlier agent's device of it is still there is served again. Others come
 * by ferry_ublk_attach(). -ENOSPC: FERRY_UBLK_DEVICES_MAX; -EEXIST.
 */
int ferry_ublk_add(struct ferry_ublk *ublk, const struct ferry_ublk_volume *volume,
		   struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Have a device of it, or say which there is. @on_done runs once; from inside only to refuse.
 * @error: 0; -ENODEV: no driver, one that is too old, or not shown; -EBUSY: it is being attached,
 * detached or removed just now; or the driver's. @text: 0: "/dev/ublkbN"; else why, for people.
 */
void ferry_ublk_attach(struct ferry_ublk *ublk, struct ferry_block *block,
		       void (*on_done)(int error, const char *text, void *context), void *context);

/*
 * Remove its device, if it has one; who uses it gets errors: whoever asks has made sure that nobody
 * does (an O_EXCL open, not on this thread). @on_done as for attach.
 */
void ferry_ublk_detach(struct ferry_ublk *ublk, struct ferry_block *block,
		       void (*on_done)(int error, const char *text, void *context), void *context);

/*
 * Withdraw the volume, its device too, though it was left. @on_removed runs once, later, when none
 * of its requests is in flight. Not before on_left(). -ENOENT: it is not shown; -EALREADY: being
 * removed.
 */
int ferry_ublk_remove(struct ferry_ublk *ublk, struct ferry_block *block,
		      void (*on_removed)(void *context), void *context) FERRY_MUST_CHECK;

/* "/dev/ublkbN", or "" if it has no device that is served. */
const char *ferry_ublk_device(const struct ferry_ublk *ublk, const struct ferry_block *block);

/*
 * The agent stops: from now on the volume's requests wait in the kernel for the next one. @on_left
 * runs once, later, when none is in flight any more. -ENOENT: it is not shown; -EALREADY.
 */
int ferry_ublk_leave(struct ferry_ublk *ublk, struct ferry_block *block,
		     void (*on_left)(void *context), void *context) FERRY_MUST_CHECK;

/*
 * When the loop has run for the last time. What was not removed is the kernel's, whether it was
 * left or not. NULL is a no-op. Returns NULL.
 */
struct ferry_ublk *ferry_ublk_free(struct ferry_ublk *ublk);

void ferry_ublk_counters_get(const struct ferry_ublk *ublk, struct ferry_ublk_counters *ret);
