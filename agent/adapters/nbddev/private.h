/*
 * private.h - what the adapter asks of the kernel; tests ask another one.
 *
 * Owns:    nothing.
 * Callers: nbddev.c and ask.c ask, netlink.c answers.
 * Thread:  any.
 * Rooms:   private to adapters/nbddev.
 */
#pragma once

#include "agent/adapters/nbddev/nbddev.h"

struct nbddev_kernel {
	const char *sys_block; /* "/sys/block" */
	const char *dev;       /* "/dev" */

	/* Any free device. -ENODEV: no driver. */
	int (*connect)(const char *identity, int fd, const struct ferry_nbddev_shape *shape,
		       uint32_t *ret_index);
	/*
	 * Offer another connection to device @index, if it is still @identity's. 0: it took it, for
	 * its own is dead, or let it be; -EINVAL: it has been disconnected, or is another's.
	 */
	int (*reconnect)(const char *identity, uint32_t index, int fd);
	/* No I/O of it is left afterwards; it is free with its last user. */
	int (*disconnect)(uint32_t index);
};

extern const struct nbddev_kernel nbddev_netlink;

/* ---- nbddev.c: as in nbddev.h, and what a question there says. ---- */

int nbddev_attach(const struct nbddev_kernel *kernel, const char *uri, const char *label, int fd,
		  const struct ferry_nbddev_shape *shape, char ret_device[FERRY_NBDDEV_PATH_MAX],
		  struct ferry_error *reterr) FERRY_MUST_CHECK;
int nbddev_find(const struct nbddev_kernel *kernel, const char *uri,
		char ret_device[FERRY_NBDDEV_PATH_MAX],
		struct ferry_error *reterr) FERRY_MUST_CHECK;
int nbddev_end_dead(const struct nbddev_kernel *kernel, const char *uri,
		    struct ferry_error *reterr) FERRY_MUST_CHECK;
int nbddev_detach(const struct nbddev_kernel *kernel, const char *uri,
		  struct ferry_error *reterr) FERRY_MUST_CHECK;
int nbddev_return(const struct nbddev_kernel *kernel, const char *uri, const char *label,
		  const struct ferry_nbddev_shape *shape, int *ret_fd) FERRY_MUST_CHECK;
int nbddev_end(const struct nbddev_kernel *kernel, const char *uri) FERRY_MUST_CHECK;
uint32_t nbddev_clear(const struct nbddev_kernel *kernel, const char *path,
		      const char *const volumes[], uint32_t volumes_count);

/* ---- ask.c ---- */

int nbddev_ask(const struct nbddev_kernel *kernel, struct ferry_loop *loop,
	       const struct ferry_nbddev_question *question, ferry_nbddev_answered_fn *on_answer,
	       void *context, struct ferry_nbddev_asking **ret) FERRY_MUST_CHECK;
