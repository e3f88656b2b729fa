/*
 * nbd.h - the NBD front end: volumes for every program that speaks the NBD protocol.
 *
 * Fixed newstyle, structured replies, base:allocation (all of it data), no TLS. It listens on unix
 * sockets and on TCP, loopback only unless told otherwise: NBD as such knows no authentication.
 * Requests become struct ferry_io as they are: an unaligned one is refused, never rounded.
 * Everything is bounded: connections, requests of each, memory of the arena that each may hold,
 * and the time that a silent client may hold it.
 *
 * Owns:    its sockets, the connections and their request slots; all memory is taken at start.
 * Callers: agent/main (wiring), tests.
 * Thread:  the data loop of the exports' volumes; start and stop too.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/block.h"
#include "agent/ports/loop.h"

enum {
	FERRY_NBD_LISTENERS_MAX = 4,
	FERRY_NBD_CONNECTIONS_DEFAULT = 64,
	FERRY_NBD_CONNECTIONS_MAX = 1024,
	FERRY_NBD_REQUESTS_MAX = 64, /* Of one connection, received and not yet answered. */
};

struct ferry_nbd_server;

/* Zero in a field means its default. Copied; the strings too. */
struct ferry_nbd_config {
	struct ferry_loop *loop;
	/*
	 * Where to listen: "unix:PATH", "tcp:HOST:PORT", "tcp:[V6]:PORT"; at least one. HOST is an
	 * address or "localhost"; PORT 0: any free one, see ferry_nbd_server_port().
	 */
	const char *listen[FERRY_NBD_LISTENERS_MAX];
	uint32_t listen_count;
	bool allow_remote;	   /* Permit TCP addresses other than loopback. */
	uint32_t socket_mode;	   /* Of unix sockets; default 0600. */
	uint32_t connections_max;  /* Default FERRY_NBD_CONNECTIONS_DEFAULT. */
	uint64_t handshake_ns_max; /* From accept to the first request; default 10 s. */
	uint64_t silence_ns_max;   /* A client that holds memory and does nothing; default 60 s. */
	uint64_t stop_ns_max;	   /* For I/O in flight at stop; default 5 s. */
	uint32_t held_bytes_max;   /* Of one connection in the arena; default 1/8 of it. */
};

struct ferry_nbd_export {
	const char *name;	 /* 1..128 bytes; copied. */
	const char *description; /* For people, at most 128 bytes; copied; may be NULL. */
	struct ferry_block *block;
	bool is_default; /* What a client gets that names none. */
	bool is_read_only;
};

/* Since the start; `connections` and `requests_in_flight` are of now. */
struct ferry_nbd_counters {
	uint64_t connections;
	uint64_t connections_accepted;
	uint64_t connections_refused; /* Beyond connections_max, or no descriptor was left. */
	uint64_t connections_broken;  /* The client broke the protocol. */
	uint64_t connections_timed_out;
	uint64_t requests_in_flight;
	uint64_t reads;
	uint64_t writes;
	uint64_t flushes;
	uint64_t trims;
	uint64_t write_zeroes;
	uint64_t block_statuses;
	uint64_t read_bytes; /* Done without an error. */
	uint64_t write_bytes;
	uint64_t requests_refused; /* Invalid as such: range, alignment, flags, read-only. */
	uint64_t requests_failed;  /* The volume reported an error. */
};

/*
 * Listen. May block for a moment (name look-up of "localhost").
 * Errors: -EINVAL a bad address or number; -EADDRINUSE another server holds it; -EEXIST something
 * that isn't a socket is in the way; -ENOENT the socket's directory is missing; -EACCES not
 * loopback without allow_remote, or no permission; -ENOMEM; message in @reterr.
 */
int ferry_nbd_server_start(const struct ferry_nbd_config *config, struct ferry_nbd_server **ret,
			   struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Offer a volume. It is borrowed until the removal or the stop is over.
 * Errors: -EEXIST the name is taken; -ENOSPC too many exports; -EINVAL; message in @reterr.
 */
int ferry_nbd_server_export_add(struct ferry_nbd_server *server,
				const struct ferry_nbd_export *export,
				struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Withdraw it: nobody new gets it, its clients' I/O in flight may finish within the stop deadline
 * and they are disconnected. @on_removed runs once, later, when the volume isn't used any more.
 * -ENOENT: no such export (or it is being removed); @on_removed won't run.
 */
int ferry_nbd_server_export_remove(struct ferry_nbd_server *server, const char *name,
				   void (*on_removed)(void *context),
				   void *context) FERRY_MUST_CHECK;

/*
 * Take over @fd, one end of a stream socket whose other end behaves as a client after a handshake
 * for that export, without any option. An error closes it: -ENOENT: no such export; -EMFILE:
 * connections_max; or the loop's.
 */
int ferry_nbd_server_adopt(struct ferry_nbd_server *server, const char *name,
			   int fd) FERRY_MUST_CHECK;

/* How many clients use it now. 0: there is no such export. */
uint32_t ferry_nbd_server_export_clients(const struct ferry_nbd_server *server, const char *name);

/*
 * Stop listening, let I/O in flight finish within the deadline, disconnect everyone. What the
 * volume gives up meanwhile (-ESHUTDOWN) is not answered; the same where an export is removed.
 * @on_stopped runs once, later, when the last I/O is back: then free. I/O that the volume keeps
 * longer than the deadline is waited for all the same, its clients are gone by then.
 */
void ferry_nbd_server_stop(struct ferry_nbd_server *server, void (*on_stopped)(void *context),
			   void *context);

/* Of a server that has stopped, or never had an export. NULL is a no-op. Returns NULL. */
struct ferry_nbd_server *ferry_nbd_server_free(struct ferry_nbd_server *server);

/* The TCP port of config->listen[index]; 0 for a unix socket. */
uint16_t ferry_nbd_server_port(const struct ferry_nbd_server *server, uint32_t index);

const struct ferry_nbd_counters *ferry_nbd_server_counters(const struct ferry_nbd_server *server);
