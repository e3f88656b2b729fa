/*
 * internal.h - what the files of this folder share.
 *
 * Owns:    see fuse.h.
 * Callers: fuse.c (life, pump), mount.c (mounting), request.c (I/O), ops.c (names, attributes).
 * Thread:  the loop's.
 * Rooms:   this folder only.
 */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "agent/adapters/fuse/fuse.h"
#include "agent/base/list.h"

enum {
	FERRY_FUSE_TURN_MAX = 32,    /* Requests per readiness, so that others get a turn. */
	FERRY_FUSE_BACKGROUND = 128, /* Asynchronous requests that the kernel keeps going. */
	FERRY_FUSE_MOUNTPOINT_MAX = 512,
	FERRY_FUSE_RETRY_MS = 1,
};
_Static_assert((int)FERRY_FUSE_BACKGROUND < (int)FERRY_FUSE_REQUESTS_MAX,
	       "room for synchronous requests besides the background");

struct fuse_volume {
	struct ferry_fuse *fuse;
	struct ferry_block *block; /* NULL: the slot is free. */
	fuse_ino_t ino;		   /* Never used again in the life of a mount. */
	struct ferry_list waiting; /* Requests that the volume had no room for, in order. */
	uint32_t in_flight;	   /* Requests, the waiting ones included. */
	uint32_t opens;		   /* Descriptors of its file; a loop device has one. */
	bool is_removed;
	void (*on_removed)(void *context);
	void *context;
	struct ferry_task removed_task;
};

struct fuse_request {
	fuse_req_t req;
	struct fuse_volume *volume;
	struct ferry_io io;
	uint64_t left_blocks;	/* A range's blocks after those of @io, still to be done. */
	struct ferry_list link; /* In free, or in volume->waiting. */
};

struct ferry_fuse {
	struct ferry_loop *loop;
	struct ferry_events *events;
	struct fuse_session *session;
	int fd; /* The session's. */
	struct ferry_watch watch;
	bool is_reading;
	struct fuse_buf buffer; /* The session's memory of one request. */

	/* The one write that found the arena empty; its data is still in @buffer. */
	struct fuse_request *stalled;
	const char *stalled_data;
	struct ferry_arena_waiter arena_waiter;
	struct ferry_task arena_task;

	struct fuse_volume volumes[FERRY_FUSE_VOLUMES_MAX];
	struct fuse_request requests[FERRY_FUSE_REQUESTS_MAX];
	struct ferry_list free;
	fuse_ino_t ino_next;
	struct ferry_timer retry_timer; /* The volume is full, and with others' I/O. */
	struct ferry_fuse_counters counters;

	char mountpoint[FERRY_FUSE_MOUNTPOINT_MAX];
	bool is_single_file;
	bool is_mounted;
	bool is_made; /* The mount point was made by us. */

	bool is_closing;
	bool is_cut; /* The kernel's side is gone: replies go to /dev/null. */
	struct ferry_timer close_timer;
	struct ferry_task close_task;
	void (*on_closed)(void *context);
	void *close_context;
};

/* mount.c. Mount @fuse->mountpoint; @ret_fd receives /dev/fuse's descriptor, non-blocking. */
int fuse_mount(struct ferry_fuse *fuse, int *ret_fd, struct ferry_error *reterr) FERRY_MUST_CHECK;
/* Unmount, lazily if need be, and remove the mount point if it was made by us. */
void fuse_unmount(struct ferry_fuse *fuse);

/* ops.c */
extern const struct fuse_lowlevel_ops ferry_fuse_lowlevel_ops;
/* The volume of @ino, or NULL. */
struct fuse_volume *fuse_volume_find(struct ferry_fuse *fuse, fuse_ino_t ino);

/* request.c: the operations that become I/O. */
void fuse_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		  struct fuse_file_info *fi);
void fuse_op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		   struct fuse_file_info *fi);
void fuse_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fuse_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fuse_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		       struct fuse_file_info *fi);
/* Try the stalled write again. */
void fuse_stalled_retry(struct ferry_fuse *fuse);
/* Submit what waits for room in its volume. */
void fuse_volume_retry(struct fuse_volume *volume);

/* fuse.c */
/* Read requests if there is room for one, else leave them in the kernel. */
void fuse_reading_update(struct ferry_fuse *fuse);
/* A request of @volume is over: go on with what waits for that. */
void fuse_request_over(struct fuse_volume *volume);
