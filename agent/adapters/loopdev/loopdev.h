/*
 * loopdev.h - loop devices over volumes' files: what applications see as /dev/loopN.
 *
 * Direct I/O, the volume's own block size, no partition scan. The device's own record of its file
 * (device and inode number, and the path as text) is the only state: nothing is kept here.
 *
 * Owns:    nothing that lives longer than a call.
 * Callers: agent/main's control side, agent/cli (`ferry attach`, `ferry detach`).
 * Thread:  any, but NEVER the data thread: these calls open, stat and flush the volume's file, so
 *          they wait for the FUSE front end, which answers on the data thread.
 * Rooms:   adapters/fuse makes the files.
 */
#pragma once

#include "agent/base/error.h"

enum { FERRY_LOOPDEV_PATH_MAX = 32 };

/*
 * Have a loop device over @file (absolute), with direct I/O. One that is there already is
 * returned: attaching twice is once. Dead ones, left over the same path by an agent that died, are
 * detached if nobody uses them; they would only give errors.
 * @ret_device receives "/dev/loopN".
 * -EBUSY: attached with another block size or access; -EAGAIN: others were quicker, each time;
 * -ENODEV: no loop driver; -EOPNOTSUPP: the kernel gives no direct I/O here; and open(2)'s.
 */
int ferry_loopdev_attach(const char *file, uint32_t block_bytes, bool is_read_only,
			 char ret_device[FERRY_LOOPDEV_PATH_MAX],
			 struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The device over @file. -ENOENT: none; or stat(2)'s errors. */
int ferry_loopdev_find(const char *file, char ret_device[FERRY_LOOPDEV_PATH_MAX],
		       struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Detach the devices over what was @file: its agent has died, or has withdrawn it, so that they
 * give only errors. -EBUSY: one of them is in use (mounted, or open), and stays.
 */
int ferry_loopdev_clear(const char *file, struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Detach @device ("/dev/loopN"), if it is over @file; also if the agent behind @file has died.
 * -EBUSY: in use (mounted, or open): it stays; -ENODEV: it is over something else, or over
 * nothing; open(2)'s errors.
 */
int ferry_loopdev_detach(const char *device, const char *file,
			 struct ferry_error *reterr) FERRY_MUST_CHECK;
