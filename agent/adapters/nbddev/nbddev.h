/*
 * nbddev.h - the kernel's own NBD client: volumes as /dev/nbdN.
 *
 * The kernel is given one connection to the agent's NBD socket whose handshake is over, and the
 * volume's URI as the device's identity (`backend`, Linux 5.14): it is the only state, and it is
 * the kernel's. The device waits for its server for ever (timeout 0: the agent alone decides how
 * long an I/O is held), but it ends with the connection (dead_conn_timeout 0): nobody can tell the
 * kernel that another node has served the volume since, so what it holds is never sent again.
 * Then new I/O gets errors at once; what was in flight gets them when somebody ends the device:
 * the next agent as it starts (_clear), or, after the pool was given up, an attach or detach.
 *
 * Owns:    nothing that lives longer than a call.
 * Callers: agent/cli (`ferry attach`, `ferry detach`), agent/data.c at its start.
 * Thread:  any, but NEVER the data thread once it serves: the kernel waits for our answers.
 * Rooms:   adapters/nbd is the server; adapters/loopdev the other device that the asker makes.
 */
#pragma once

#include "agent/base/error.h"

enum { FERRY_NBDDEV_PATH_MAX = 32, FERRY_NBDDEV_IDENTITY_BYTES = 256 };

/* What the server said of the export. */
struct ferry_nbddev_shape {
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint16_t flags; /* The protocol's, of transmission. */
};

/*
 * Make a device over the connection @fd, which stays the caller's to close. @identity: whose it is,
 * the volume's URI. Only where ferry_nbddev_find() finds none.
 * @ret_device receives "/dev/nbdN".
 * -ENODEV: no driver (or not for this network namespace); -EOPNOTSUPP: it is too old; -EPERM; and
 * the driver's.
 */
int ferry_nbddev_attach(const char *identity, int fd, const struct ferry_nbddev_shape *shape,
			char ret_device[FERRY_NBDDEV_PATH_MAX],
			struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The device that has @identity, whether its server is alive or not. -ENOENT: none. */
int ferry_nbddev_find(const char *identity, char ret_device[FERRY_NBDDEV_PATH_MAX],
		      struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * End the device of @identity if its server has gone: its I/O gets errors, also what was in flight.
 * -EBUSY: that is done, but it is in use (mounted, or open), and stays till it is not.
 */
int ferry_nbddev_end_dead(const char *identity, struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Remove the device of @identity, alive or dead. -ENOENT: there is none; -EBUSY: in use; a dead
 * one's I/O has ended, with errors.
 */
int ferry_nbddev_detach(const char *identity, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* End what is dead of the server behind the unix socket @path. Returns how many: none is 0. */
uint32_t ferry_nbddev_clear(const char *path);
