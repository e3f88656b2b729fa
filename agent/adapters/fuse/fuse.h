/*
 * fuse.h - volumes as files: a front end by libfuse3's low-level interface.
 *
 * A mount whose root is a directory with one regular file per volume, or, for a single volume, a
 * mount whose root is that file. Any kernel makes a block device of such a file: a loop device
 * with direct I/O (adapters/loopdev). There is no page cache between (FOPEN_DIRECT_IO), so what a
 * client wrote is what the volume acknowledged; ranges that are not whole blocks get EINVAL.
 *
 *   read, write          READ, WRITE; with O_DSYNC or O_SYNC the WRITE is FUA
 *   fsync, fdatasync     FLUSH; so is close(2) of any descriptor
 *   fallocate            PUNCH_HOLE: WRITE_ZEROES that may unmap, since a hole reads as zeroes
 *                        and DISCARD's content is undefined; ZERO_RANGE: WRITE_ZEROES, no unmap
 *   truncate             EPERM, except to the size that it has (so no O_TRUNC)
 *
 * Owns:    the mount, the session and the requests in flight; not the volumes.
 * Callers: agent/main.
 * Thread:  open and the rest on the loop's thread. Nothing here waits for the mount itself, and
 *          no other code on that thread may look at a path below the mount: it would wait for
 *          itself. Attaching loop devices waits for the mount too: another thread's work.
 * Rooms:   adapters/nbd is the other front end.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/block.h"
#include "agent/ports/events.h"
#include "agent/ports/loop.h"

enum {
	FERRY_FUSE_VOLUMES_MAX = 64,
	FERRY_FUSE_REQUESTS_MAX = 256, /* In flight; more wait in the kernel. */
};

struct ferry_fuse;

struct ferry_fuse_config {
	struct ferry_loop *loop;
	/*
	 * Where to mount: an empty directory, or with @is_single_file a regular file. Made, and
	 * removed again at close, if there is none; its parent must be there. Absolute.
	 */
	const char *mountpoint;
	bool is_single_file;
	struct ferry_events *events; /* May be NULL. */
};

struct ferry_fuse_counters {
	uint64_t reads, writes, flushes, zeroes; /* That were started. */
	uint64_t read_bytes, write_bytes;
	uint64_t refused; /* Unaligned, beyond the end, read-only, an unknown file. */
	uint64_t failed;  /* That the volume answered with an error. */
	uint64_t stalled; /* Writes that had to wait for room in the arena. */
	uint32_t in_flight;
};

/*
 * Mount. Start-up only: may block. A mount that a dead agent left at that place is removed, which
 * an event tells. The caller holds the lock that keeps a second agent out: a living one is only
 * told apart here by asking it.
 * -EBUSY: something living is mounted there; -ENOTEMPTY, -ENOTDIR, -ENOENT (no parent);
 * -ENODEV, -EPERM, -EACCES: no FUSE for us here.
 */
int ferry_fuse_open(const struct ferry_fuse_config *config, struct ferry_fuse **ret,
		    struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Show @block, borrowed until it is removed, as a file with its name.
 * -EINVAL: not a name for a file; -EEXIST; -ENOSPC: FERRY_FUSE_VOLUMES_MAX, or a single file.
 */
int ferry_fuse_add(struct ferry_fuse *fuse, struct ferry_block *block,
		   struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Hide @block: from now on its file is unknown, also to those who have it open (ENODEV).
 * @on_removed runs once, later, when none of its requests is in flight: then @block may be closed.
 * -ENOENT: it is not shown (on_removed() never runs). -EALREADY: being removed.
 */
int ferry_fuse_remove(struct ferry_fuse *fuse, struct ferry_block *block,
		      void (*on_removed)(void *context), void *context) FERRY_MUST_CHECK;

/* How many descriptors of its file are open, a loop device's among them. 0: it is not shown. */
uint32_t ferry_fuse_opens(const struct ferry_fuse *fuse, const struct ferry_block *block);

/*
 * Unmount. New requests get ESHUTDOWN, those in flight are waited for until @deadline_ns (of the
 * loop's clock), then their callers get an error; but @fuse, the volumes and on_done() of their
 * I/Os stay until the last I/O is done. Then @fuse is freed and @on_closed runs: once, later.
 * If the mount is in use (a loop device, a shell) it is detached lazily and an event says so.
 */
void ferry_fuse_close(struct ferry_fuse *fuse, uint64_t deadline_ns,
		      void (*on_closed)(void *context), void *context);

void ferry_fuse_counters_get(const struct ferry_fuse *fuse, struct ferry_fuse_counters *ret);
