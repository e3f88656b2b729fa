/*
 * flusher.h - the flusher port for the kernel's SCSI disks: SYNCHRONIZE CACHE by SG_IO.
 *
 * fsync(2) says EIO when the session was given up and when the target could not write its cache.
 * SG_IO has the command's own end: the target's status and sense, or the kernel's word that the way
 * failed. What is neither counts as the target's failure, as EIO does: a loss that is taken for a
 * broken path would be forgotten.
 *
 * SG_IO blocks, so a thread does it, one command at a time. Whoever comes meanwhile waits for the
 * next one, all of them for the same: a command covers what was acknowledged before it was sent.
 *
 * A whole SCSI disk only. A dm-multipath map has paths of its own, and fails when it has none left;
 * for a partition, another bus, a map or a file the kernel flushes as ever.
 *
 * Owns:    a duplicate of the disk's descriptor, the thread.
 * Callers: agent/data_pool.c; adapters/uring/device.c through the port.
 * Thread:  the pool's data loop; within, the adapter's own.
 * Rooms:   private.h.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/flusher.h"
#include "agent/ports/loop.h"

struct ferry_sgio_flusher_config {
	struct ferry_loop *loop;
	int fd; /* The disk's, open for writing; read at open only. */
	/* A unit attention that a command met, before the request ends; may be NULL. */
	void (*on_unit_attention)(uint8_t asc, uint8_t ascq, void *context);
	void *context;
};

struct ferry_sgio_flusher;

/*
 * Start-up only: allocates. -EOPNOTSUPP: the kernel has to flush this one; -ENOMEM, -EMFILE,
 * -EAGAIN.
 */
int ferry_sgio_flusher_open(const struct ferry_sgio_flusher_config *config,
			    struct ferry_sgio_flusher **ret,
			    struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The port. Valid as long as the flusher. */
struct ferry_flusher *ferry_sgio_flusher_port(struct ferry_sgio_flusher *flusher);

/*
 * NULL is a no-op. Requests that have not ended never do. A thread that hangs in the kernel stays
 * there, with the descriptor, until the command is over, and then ends by itself.
 */
void ferry_sgio_flusher_close(struct ferry_sgio_flusher *flusher);
