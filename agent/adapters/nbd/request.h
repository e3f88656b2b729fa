/*
 * request.h - what becomes of one request: I/O of the block port, then a reply.
 *
 * Owns:    nothing: slots are the connection's.
 * Callers: connection.c.
 * Thread:  the server's loop.
 * Rooms:   rank 4; private to adapters/nbd.
 */
#pragma once

#include "agent/adapters/nbd/connection.h"

/* Put the slot among the connection's free ones; drops its data. */
void ferry_nbd_slot_release(struct ferry_nbd_slot *slot);

/* Memory for a WRITE's data. -ENOBUFS: not now. */
int ferry_nbd_slot_take(struct ferry_nbd_slot *slot) FERRY_MUST_CHECK;

/* The request is whole and valid: carry it out and queue its reply. */
void ferry_nbd_slot_start(struct ferry_nbd_slot *slot);

/* Queue the reply that the request isn't valid; @error is the protocol's. */
void ferry_nbd_slot_refuse(struct ferry_nbd_slot *slot, uint32_t error);

/* Try the parked requests again, in order. */
void ferry_nbd_parked_retry(struct ferry_nbd_connection *connection);

/* Send answers and replies until there are none or the socket is full. Negative errno: broken. */
int ferry_nbd_replies_send(struct ferry_nbd_connection *connection) FERRY_MUST_CHECK;

/* connection.c: an I/O of a dead connection is back. */
void ferry_nbd_connection_reap(struct ferry_nbd_connection *connection);
