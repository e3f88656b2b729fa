/*
 * listener.h - the addresses that a server listens on.
 *
 * Owns:    the listening sockets, and a unix socket's file and lock.
 * Callers: server.c.
 * Thread:  the server's loop.
 * Rooms:   rank 4; private to adapters/nbd.
 */
#pragma once

#include "agent/adapters/nbd/connection.h"

/* Make @listener listen on @address; accepting is the caller's. Errors as for server_start. */
int ferry_nbd_listener_open(struct ferry_nbd_listener *listener, const char *address,
			    const struct ferry_nbd_config *config,
			    struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Close, and take away one's own socket file and lock. A listener that isn't open is a no-op. */
void ferry_nbd_listener_close(struct ferry_nbd_listener *listener);
