/*
 * connection.h - one client: its socket, its handshake, its requests in flight.
 *
 * Owns:    struct connection and struct request, all taken at the server's start.
 * Callers: server.c.
 * Thread:  the server's loop.
 * Rooms:   rank 4; private to adapters/nbd.
 */
#pragma once

#include <sys/uio.h>

#include "agent/adapters/nbd/nbd.h"
#include "agent/adapters/nbd/negotiation.h"
#include "agent/adapters/nbd/protocol.h"

enum {
	/* Headers, and whole options; the data of writes goes past it, straight to the arena. */
	FERRY_NBD_IN_BYTES = FERRY_NBD_OPTION_HEADER_BYTES + FERRY_NBD_OPTION_BYTES_MAX,
	/* Read at most so much ahead of a request: what is data of a write there gets copied. */
	FERRY_NBD_AHEAD_BYTES = 1024,
	/* What a client may announce and we throw away, so that it may live on after its error. */
	FERRY_NBD_DRAIN_BYTES_MAX = 64 * 1024 * 1024,
	FERRY_NBD_OPTION_DRAIN_BYTES_MAX = 64 * 1024,
	FERRY_NBD_SCRATCH_BYTES = 64 * 1024,
	FERRY_NBD_READ_ROUNDS_MAX = 16, /* Per readiness: the other clients want their turn. */
	FERRY_NBD_IOV_MAX = 128,
};

struct ferry_nbd_connection;

enum ferry_nbd_phase {
	FERRY_NBD_PHASE_FREE = 1,
	FERRY_NBD_PHASE_FLAGS,	      /* Awaits the client's flags. */
	FERRY_NBD_PHASE_OPTIONS,      /* Haggles. */
	FERRY_NBD_PHASE_TRANSMISSION, /* Carries requests. */
	FERRY_NBD_PHASE_CLOSING,      /* Reads no more; answers what is in flight. */
	FERRY_NBD_PHASE_DEAD,	      /* The socket is closed; awaits the I/O in flight. */
};

/* One request, from its header to the last byte of its reply. */
struct ferry_nbd_slot {
	struct ferry_nbd_connection *connection;
	struct ferry_list link; /* connection->free, ->parked or ->replies; or none: in flight. */
	struct ferry_nbd_request request;
	struct ferry_io io;
	uint64_t range_left_blocks; /* TRIM, WRITE_ZEROES: beyond the part in @io. */
	uint32_t held_bytes;	    /* Of the arena, on behalf of the client. */
	uint32_t header_bytes;
	bool has_flush_left; /* TRIM with FUA: a flush follows. */
	uint8_t header[FERRY_NBD_REPLY_HEADER_BYTES_MAX];
};

struct ferry_nbd_connection {
	struct ferry_nbd_server *server;
	struct ferry_list link;	       /* server->free or server->connections. */
	struct ferry_list parked_link; /* server->parked, while some request is parked. */
	enum ferry_nbd_phase phase;
	struct ferry_watch watch;
	struct ferry_timer timer; /* The handshake's deadline, then the watch over silence. */
	struct ferry_task work;
	struct ferry_arena_waiter waiter;
	uint64_t progress_ns; /* When bytes last moved. */

	struct ferry_nbd_negotiation negotiation;
	struct ferry_block *block;	     /* Of the export; from TRANSMISSION on. */
	const struct ferry_nbd_shape *shape; /* Of the export. */

	/* Receiving. */
	struct ferry_nbd_slot *receiving; /* A WRITE whose data is being received or drained. */
	struct ferry_nbd_option option;	  /* Whose data is being drained. */
	uint32_t received_bytes;	  /* Of receiving's data. */
	uint32_t drain_bytes;		  /* To be thrown away. */
	uint32_t drain_error;		  /* The protocol's, for receiving, after the drain. */
	uint32_t in_start, in_end;
	bool is_draining; /* Until drain_bytes is 0 and the client was told. */
	bool wants_arena; /* receiving has no memory yet: waits. */
	bool has_ended;	  /* The client has closed its side. */

	/* Requests. */
	struct ferry_list free;
	struct ferry_list parked; /* The volume said -EAGAIN. */
	uint32_t in_flight_count; /* In the volume's hands. */
	uint32_t held_bytes;
	uint32_t held_bytes_max;

	/* Sending. */
	struct ferry_list replies;
	uint32_t sent_bytes; /* Of the first of replies. */
	uint32_t out_start, out_end;
	bool is_write_blocked;

	uint8_t in[FERRY_NBD_IN_BYTES];
	uint8_t out[FERRY_NBD_ANSWER_BYTES_MAX]; /* The handshake's answers. */
	struct ferry_nbd_slot slots[FERRY_NBD_REQUESTS_MAX];
};

struct ferry_nbd_listener {
	struct ferry_nbd_server *server;
	struct ferry_watch watch;
	struct ferry_timer pause; /* After accept() failed for lack of something. */
	char path[108];		  /* Of a unix socket; empty for TCP. */
	uint64_t device, inode;	  /* Of the socket's file: unlink one's own only. */
	int lock_fd;
	uint16_t port;
};

struct ferry_nbd_export_slot {
	struct ferry_block *block;
	char name[FERRY_NBD_NAME_BYTES_MAX + 1];
	char description[FERRY_NBD_NAME_BYTES_MAX + 1];
	uint32_t connections_count;
	struct ferry_nbd_shape shape; /* shapes[] of the server has it while it is on offer. */
	bool is_used;
	bool is_removing;
	struct ferry_timer deadline; /* Of the removal. */
	struct ferry_task removed;
	void (*on_removed)(void *context);
	void *context;
	struct ferry_nbd_server *server;
};

struct ferry_nbd_server {
	struct ferry_nbd_config config; /* Without the strings. */
	struct ferry_loop *loop;
	struct ferry_nbd_listener listeners[FERRY_NBD_LISTENERS_MAX];
	uint32_t listeners_count;
	struct ferry_nbd_shape shapes[FERRY_NBD_EXPORTS_MAX];
	struct ferry_nbd_export_slot exports[FERRY_NBD_EXPORTS_MAX];
	uint32_t export_default;
	struct ferry_nbd_connection *all; /* config.connections_max of them. */
	struct ferry_list free;
	struct ferry_list connections;
	struct ferry_list parked; /* Connections with a parked request, in turn. */
	struct ferry_timer retry; /* Parked, and nothing of ours is in flight. */
	struct ferry_task kick;
	struct ferry_timer stop_deadline;
	struct ferry_task stopped;
	bool is_stopping;
	void (*on_stopped)(void *context);
	void *stop_context;
	struct ferry_nbd_counters counters;
	uint8_t *scratch; /* FERRY_NBD_SCRATCH_BYTES, for what is thrown away. */
};

/* server.c: a connection is free again, its last I/O is back. */
void ferry_nbd_server_connection_freed(struct ferry_nbd_connection *connection);

/* Once, at the server's start. */
void ferry_nbd_connection_init(struct ferry_nbd_connection *connection,
			       struct ferry_nbd_server *server);

/* Take over @fd (non-blocking). On an error the caller closes it. */
int ferry_nbd_connection_open(struct ferry_nbd_connection *connection, int fd) FERRY_MUST_CHECK;

/* The same, where the handshake for export number @export is over. */
int ferry_nbd_connection_adopt(struct ferry_nbd_connection *connection, int fd,
			       uint32_t export) FERRY_MUST_CHECK;

/* Read no more, answer what is in flight, then close. May free the connection at once. */
void ferry_nbd_connection_drain(struct ferry_nbd_connection *connection);

/* Close now; the I/O in flight finishes unheard. May free the connection at once. */
void ferry_nbd_connection_kill(struct ferry_nbd_connection *connection);

/* The volume may have room again: parked requests try. */
void ferry_nbd_connection_kick(struct ferry_nbd_connection *connection);
