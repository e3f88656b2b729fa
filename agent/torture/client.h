/*
 * client.h - an NBD client that never blocks: connects, asks for one export, carries requests.
 *
 * A connection that is lost, refused or closed takes its requests with it: each is reported once,
 * with -ESHUTDOWN. The caller connects anew.
 *
 * Owns:    one socket and its buffers.
 * Callers: load.c; agent/cli, for a device of the kernel's own client.
 * Thread:  the caller's, one.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/io.h"

enum {
	TORTURE_CLIENT_DEPTH_MAX = 64,
	TORTURE_CLIENT_IO_BYTES_MAX = 128 * 1024,
	TORTURE_CLIENT_EXPORT_BYTES = 64,
	TORTURE_CLIENT_PATH_BYTES = 108,
	TORTURE_CLIENT_HOST_BYTES = 64,
};

enum torture_client_state {
	TORTURE_CLIENT_OFF = 1,
	TORTURE_CLIENT_GREETING, /* Waits for the server's first word. */
	TORTURE_CLIENT_ASKING,	 /* Waits for the answer about the export. */
	TORTURE_CLIENT_READY,
};

struct torture_request {
	enum ferry_op op; /* 0: this place is free. */
	uint32_t length_bytes;
	uint64_t cookie;
	void *context;
};

struct torture_client {
	/* Of its address. */
	char path[TORTURE_CLIENT_PATH_BYTES]; /* Of a unix socket, or empty: */
	char host[TORTURE_CLIENT_HOST_BYTES];
	char port[8];
	char export[TORTURE_CLIENT_EXPORT_BYTES];

	/* Of the export, once READY. */
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint16_t flags; /* The protocol's. */

	enum torture_client_state state;
	int fd;
	uint32_t in_flight;
	uint64_t cookie_next;
	uint64_t unasked; /* Replies to nothing that was asked: a second completion. */
	struct torture_request requests[TORTURE_CLIENT_DEPTH_MAX];
	uint8_t *in;
	uint32_t in_used;
	uint8_t *out;
	uint32_t out_used;

	/* Never from inside torture_client_submit(). @error: 0 or negative. @data: of a READ. */
	void (*on_reply)(struct torture_client *client, void *context, int error,
			 const uint8_t *data);
	void *context;
};

/*
 * @uri: nbd+unix:///EXPORT?socket=PATH or nbd://ADDRESS:PORT/EXPORT, as `ferry volumes` prints
 * them. -EINVAL: it is neither. -ENOMEM. Connects nothing yet.
 */
int torture_client_init(struct torture_client *client, const char *uri,
			struct ferry_error *reterr) FERRY_MUST_CHECK;
void torture_client_done(struct torture_client *client);

/* Begin to connect. An error: nothing listens there now. */
int torture_client_connect(struct torture_client *client);
void torture_client_close(struct torture_client *client);
/* Its socket, the caller's from now on. READY, and nothing in flight. -EBADMSG: see there. */
int torture_client_take(struct torture_client *client) FERRY_MUST_CHECK;

/* -EAGAIN: too much is in flight. @data: of a WRITE, copied. Only while READY. */
int torture_client_submit(struct torture_client *client, enum ferry_op op, uint32_t flags,
			  uint64_t offset_bytes, uint32_t length_bytes, const void *data,
			  void *context) FERRY_MUST_CHECK;

/* For poll(2): what it waits for now. */
short torture_client_events(const struct torture_client *client);
/* Something of it has come. */
void torture_client_run(struct torture_client *client, short ready);
