/*
 * nbddev.h - the kernel's own NBD client: volumes as /dev/nbdN.
 *
 * The kernel is given one connection to the agent's NBD server whose handshake is over, and an
 * identity for the device (`backend`, Linux 5.14): URI#LABEL, the volume's URI and which lun it is
 * on. That is the only state, and it is the kernel's. The device waits for an answer for ever
 * (timeout 0: the agent alone decides how long an I/O is held).
 *
 * A device outlives its agent. When its connection is dead the kernel holds what was sent and not
 * answered, and new I/O for hold_s (dead_conn_timeout); that then gets errors, what was sent goes
 * on waiting. Nobody tells the kernel whether another node has served the volume meanwhile: so the
 * next agent, once it serves and knows that nothing of the last one can land any more, gives the
 * device a new connection (_return), or ends it (_end), and with it all that it holds. With a new
 * connection the kernel sends again what was not answered, within 5 s; also after hold_s, when
 * some I/O has had errors: what did is never sent.
 *
 * Owns:    nothing that lives longer than a call; but a thread for each question under way.
 * Callers: agent/cli (`ferry attach`, `ferry detach`), agent/cluster_nbddev.c, and agent/data.c
 *          at its start.
 * Thread:  any, but NEVER the data thread once it serves: the kernel waits for our answers. A loop
 *          that others wait for asks by ferry_nbddev_ask().
 * Rooms:   adapters/nbd is the server; adapters/loopdev the other device that the asker makes.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/loop.h"

enum {
	FERRY_NBDDEV_PATH_MAX = 32,
	FERRY_NBDDEV_IDENTITY_BYTES = 256,
	FERRY_NBDDEV_LABEL_BYTES = 64,	 /* With the NUL. */
	FERRY_NBDDEV_READ_ONLY = 1 << 1, /* Of flags. */
};

/* What the server said of the export, and how long I/O is held without one. */
struct ferry_nbddev_shape {
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint16_t flags; /* The protocol's, of transmission. */
	uint32_t hold_s;
};

/*
 * Make a device over the connection @fd, which stays the caller's to close. @uri: the volume's.
 * @label: which lun it is on. Only where ferry_nbddev_find() finds none.
 * @ret_device receives "/dev/nbdN".
 * -ENODEV: no driver (or not for this network namespace); -EOPNOTSUPP: it is too old; -EPERM;
 * -ENAMETOOLONG; and the driver's.
 */
int ferry_nbddev_attach(const char *uri, const char *label, int fd,
			const struct ferry_nbddev_shape *shape,
			char ret_device[FERRY_NBDDEV_PATH_MAX],
			struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The volume's device, whether its server is alive or not. -ENOENT: none. */
int ferry_nbddev_find(const char *uri, char ret_device[FERRY_NBDDEV_PATH_MAX],
		      struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * End the volume's device if its server has gone: its I/O gets errors, also what was in flight.
 * -EBUSY: that is done, but it is in use (mounted, or open), and stays till it is not.
 */
int ferry_nbddev_end_dead(const char *uri, struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Remove the volume's device, alive or dead. -ENOENT: there is none; -EBUSY: in use; a dead one's
 * I/O has ended, with errors.
 */
int ferry_nbddev_detach(const char *uri, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* What becomes of the device that an earlier agent has left. */
struct ferry_nbddev_question {
	char uri[FERRY_NBDDEV_IDENTITY_BYTES];
	/*
	 * Connect it to this one; fd is the server's end of a connection whose handshake is over,
	 * the asker's. One that is not of @label or not of @shape (hold_s apart) is ended: -ESTALE.
	 * -ENOENT: there is none; -EAGAIN: there is one, and its connection is alive: that of an
	 * agent in another mount namespace, or of one that the kernel has not yet let go.
	 */
	bool goes_on;
	/* Else: end it, if its connection is dead. How many: none is 0; -EAGAIN: as above. */
	char label[FERRY_NBDDEV_LABEL_BYTES];
	struct ferry_nbddev_shape shape;
};

struct ferry_nbddev_asking;

/* @fd: -1 without a connection. What was asked is over, and not to be closed. */
typedef void ferry_nbddev_answered_fn(void *context, int answer, int fd);

/* 0: @on_answer runs once, on @loop. Or -errno: for want of memory, descriptors, threads. */
int ferry_nbddev_ask(struct ferry_loop *loop, const struct ferry_nbddev_question *question,
		     ferry_nbddev_answered_fn *on_answer, void *context,
		     struct ferry_nbddev_asking **ret) FERRY_MUST_CHECK;

/* Before that: it is done or left, within 2 s, and nobody is told. NULL is a no-op. */
struct ferry_nbddev_asking *ferry_nbddev_ask_close(struct ferry_nbddev_asking *asking);

/*
 * End what is dead of the server behind the unix socket @path, but for @volumes. Returns how many:
 * none is 0.
 */
uint32_t ferry_nbddev_clear(const char *path, const char *const volumes[], uint32_t volumes_count);
