/*
 * sgio.h - the fence port for the kernel's own SCSI disks: persistent reservations by SG_IO.
 *
 * A whole SCSI disk (/dev/sdX and its other names), or a dm-multipath map of such: a registration
 * is one nexus', so a map has one for each of its paths, all with the same key, and whoever
 * preempts the key preempts them all.
 *
 * SG_IO blocks until the target has answered, which PREEMPT AND ABORT may put off for as long as
 * one of the victim's writes hangs in its backend. So a thread of the adapter's own does it, one
 * request at a time; a second one reads keys while the first is busy, since a FLUSH may wait for
 * that. A request that has no answer in time ends -ETIMEDOUT, and the next one waits
 * until the thread is back. What a PREEMPT AND ABORT that was given up has proven in the end is not
 * lost: the next PREEMPT of the same victim is told so, unless registrations have changed since.
 *
 * Where PREEMPT AND ABORT is known not to prove that the victim's writes are dead, the ability says
 * so, and PREEMPT is refused, unless a quiesce time is promised for the storage, or the
 * administrator says that a test has shown otherwise. That is the
 * kernel's own target (LIO, vendor LIO-ORG): there it aborts nothing of a registrant that does not
 * hold the reservation, and LUN RESET passes over the commands of a session that is closing
 * (tests/vm). What does prove it there, a login by the victim's name, only an initiator of Ferry's
 * own can do: with LIO configure the lun by iscsi=.
 *
 * What the kernel does by itself, and what follows: it sends a command again that was aborted
 * (TASK ABORTED) or whose session was lost. So an attempt that is proven dead at the lun may be
 * sent once more as long as it has not ended here, and this node must not register again before
 * (design, rule 13): path.h's renew() waits for that.
 *
 * Owns:    descriptors of the disks, the thread.
 * Callers: agent/data_pool.c; the engine through the port.
 * Thread:  the pool's data loop; within, the adapter's own.
 * Rooms:   private.h.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/fence.h"
#include "agent/ports/loop.h"

struct ferry_sgio_config {
	struct ferry_loop *loop;
	const char *path;    /* The block device; read at open only. */
	uint64_t timeout_ns; /* Of each request; 0: 5 s. */
	/* ABORT or QUIESCE, as the administrator says; 0: by what the target is known to do. */
	enum ferry_laying_way laying;
	uint64_t quiesce_time_ns; /* Promised for this storage; 0: none. */
	/* A unit attention that one of our commands met; may be NULL. */
	void (*on_unit_attention)(uint8_t asc, uint8_t ascq, void *context);
	void *context;
};

struct ferry_sgio;

/*
 * See what the device can do, and start the thread. Start-up only: may block.
 * -EOPNOTSUPP: it has no reservations that Ferry could use, and @reterr says why: its class is "no
 * reservations". -EIO, -ENOENT, -EPERM (CAP_SYS_RAWIO is wanted), -EAGAIN, -ENOMEM: it cannot be
 * known.
 */
int ferry_sgio_open(const struct ferry_sgio_config *config, struct ferry_sgio **ret,
		    struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The port. RESET is -EOPNOTSUPP here: the kernel's session is not ours to end. */
struct ferry_fence *ferry_sgio_fence(struct ferry_sgio *sgio);

/*
 * NULL is a no-op. Requests that have not ended never do. A thread that hangs in the kernel stays
 * there until the target has answered, and then ends by itself.
 */
void ferry_sgio_close(struct ferry_sgio *sgio);
