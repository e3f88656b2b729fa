/*
 * device.h - a local path to a lun: a block device or a regular file, by io_uring.
 *
 * The device is opened with O_DIRECT and held exclusively: O_EXCL for a block device (the kernel
 * then refuses mounts and other claims), an open-file-description lock for a file. A filesystem
 * without O_DIRECT (tmpfs before Linux 6.6) is used through the page cache, and
 * ferry_device_note() says so.
 *
 * What may be concluded from the kernel's errors is in conclude.h.
 *
 * The path is up when open returns; on_state() tells of changes after that. It goes down when the
 * device vanishes (removed, offline, shorter than it was) and comes up anew when a probe, once
 * a second, can read its last block at the old size; and so it does when it is renewed. The kernel
 * cannot be asked to give up on an I/O: there is no reset, and attempts end when they end.
 *
 * Owns:    the descriptor, the requests in flight, the probe.
 * Callers: agent/main opens and closes it; core sees struct ferry_path only.
 * Thread:  the loop's.
 * Rooms:   conclude.h, multipath.h and ring.h are the parts that are private to this folder.
 */
#pragma once

#include "agent/adapters/uring/loop.h"
#include "agent/base/error.h"
#include "agent/ports/flusher.h"
#include "agent/ports/path.h"

enum {
	FERRY_DEVICE_DEPTH_DEFAULT = 128,
	FERRY_DEVICE_DEPTH_MAX = 1024,
};

struct ferry_device_config {
	const char *path; /* Of a block device or a regular file. */
	struct ferry_node node;
	uint32_t depth; /* Attempts in flight; 0: the default. */
	/* A file's logical block size, 512 or 4096; 0: 512. A block device's own must equal it. */
	uint32_t block_bytes;
	/* The owner's, see struct ferry_path. All may be NULL. */
	void (*on_state)(struct ferry_path *path, bool is_up, enum ferry_cause cause);
	void (*on_room)(struct ferry_path *path);
	void *context;
};

struct ferry_device;

/*
 * Open config->path. Start-up only: may block, allocates.
 * -ENOENT, -EACCES, -EROFS; -EBUSY: mounted, or held by another program or agent; -ENOTBLK: not a
 * block device or a regular file; -EINVAL: its size or block size does not fit; -EMLINK: it would
 * never fail, since it sits on a multipath map that queues; -ENOSPC: the loop has no room for
 * this depth; -ENOMEM, -EIO.
 */
int ferry_device_open(struct ferry_uring_loop *loop, const struct ferry_device_config *config,
		      struct ferry_device **ret, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Valid as long as the device. */
struct ferry_path *ferry_device_path(struct ferry_device *device);
const struct ferry_lun_identity *ferry_device_identity(const struct ferry_device *device);

/* Something that an administrator should know although it works, or NULL. */
const char *ferry_device_note(const struct ferry_device *device);

/* The open device, for a flusher. Valid as long as the device. */
int ferry_device_descriptor(const struct ferry_device *device);

/*
 * Before any I/O: what is to be durable is made so by @flusher, which outlives the device's I/O,
 * and not by the kernel, whose EIO of a flush is the path's as well as the disk's. FUA then is a
 * write and a flush. A device without a volatile cache has nothing to flush, and needs none.
 */
void ferry_device_flush_by(struct ferry_device *device, struct ferry_flusher *flusher);

/*
 * Accept nothing more, and release @device if nothing is in flight. NULL is a no-op.
 * -EBUSY: an I/O is in flight, or this is one of its callbacks; call again later, or leave the
 * process without: its memory and descriptor must stay until the kernel is done.
 */
int ferry_device_close(struct ferry_device *device) FERRY_MUST_CHECK;
