/*
 * room.h - what the files of adapters/tcp share.
 *
 * Owns:    nothing; shapes and prototypes.
 * Callers: this folder, and its tests.
 * Thread:  the data loop.
 * Rooms:   adapters/tcp.
 */
#pragma once

#include <sys/socket.h>

#include "agent/adapters/tcp/tcp.h"

enum { TCP_WHY_MAX = 160, TCP_NAME_MAX = 80 };

/* An address as the kernel wants it. */
struct tcp_address {
	union {
		struct sockaddr any;
		struct sockaddr_storage room;
	};
	socklen_t length_bytes;
};

/* -EINVAL: not numeric. */
int tcp_address_parse(const char *text, uint16_t port, struct tcp_address *ret,
		      struct ferry_error *reterr);
/* "10.0.0.1:4711", for people. */
void tcp_address_format(const struct tcp_address *address, char ret[TCP_NAME_MAX]);
/* A socket that does not block, on its way to TCP_NODELAY. Or a negative errno. */
int tcp_socket_open(const struct tcp_address *address);
/* What every connection gets; failures are ignored: they cost speed, not safety. */
void tcp_socket_tune(int fd, uint64_t dead_after_ns);

/* One connection from its beginning until both ends have proven themselves. */
struct tcp_greeting {
	struct ferry_loop *loop;
	struct ferry_watch watch; /* fd < 0: this greeting is free. */
	struct ferry_timer deadline;
	struct ferry_handshake handshake;
	struct ferry_handshake_config config;
	void *owner; /* The connector or the listener. */
	uint64_t began_ns;
	bool is_connecting;
	bool is_watched;
	char name[TCP_NAME_MAX];
	uint8_t in[FERRY_HANDSHAKE_FRAME_BYTES_MAX];
	uint32_t in_bytes;
	uint8_t out[2 * FERRY_HANDSHAKE_FRAME_BYTES_MAX];
	uint32_t out_bytes;
	uint32_t out_sent_bytes;
	/*
	 * Once. 0: the handshake is COMPLETE and @fd the callee's. Else the socket is closed and
	 * @fd -1. The greeting is free again.
	 */
	void (*on_end)(struct tcp_greeting *greeting, int r, int fd,
		       const struct ferry_error *error);
};

void tcp_greeting_init(struct tcp_greeting *greeting, struct ferry_loop *loop);
/* Begin on @fd, which is the greeting's from here on, on errors too (on_end() doesn't run then). */
int tcp_greeting_start(struct tcp_greeting *greeting, int fd, bool is_connecting,
		       const struct ferry_handshake_config *config, struct ferry_error *reterr);
/* Give up without on_end(). A free greeting is a no-op. */
void tcp_greeting_stop(struct tcp_greeting *greeting);

enum tcp_link_state {
	TCP_LINK_DOWN = 1,
	TCP_LINK_UP,
	TCP_LINK_CUT, /* The socket is closed; the callbacks that say so are still to run. */
};

/* One connection after its handshake, and the room for it before. */
struct tcp_link {
	struct ferry_link link;
	struct ferry_loop *loop;
	struct ferry_events *events;
	struct ferry_node self;
	struct ferry_incarnation incarnation;
	struct ferry_incarnation peer_incarnation;
	uint64_t features;		   /* That both ends have... */
	uint8_t secret[FERRY_PROOF_BYTES]; /* ...of the connection that is up. */
	uint64_t dead_after_ns;
	/* After on_down(): the connector's or the listener's turn. */
	void (*on_over)(struct tcp_link *link);

	enum tcp_link_state state;
	bool is_running; /* A callback of ours is on the stack. */
	bool is_watched;
	struct ferry_watch watch;
	struct ferry_task task;
	struct ferry_timer tick;
	uint64_t up_ns;
	uint64_t received_ns;
	uint64_t sent_ns;
	uint64_t pinged_ns;
	uint64_t ticked_ns;
	char why[TCP_WHY_MAX];

	/* Out. */
	struct ferry_list queue;
	uint32_t queue_count;
	bool is_blocked; /* The socket is full. */
	uint64_t ping_sequence;
	struct ferry_message ping; /* In the queue or not: its link says. */
	struct ferry_message pong;

	/* In. */
	uint8_t *buffer; /* FERRY_TCP_BUFFER_BYTES; [start, end) is read and not yet digested. */
	uint32_t buffer_start;
	uint32_t buffer_end;
	uint32_t readahead_bytes;
	bool has_header;
	bool is_paused; /* The owner has no room for the payload. */
	bool is_resuming;
	struct ferry_wire_header header;
	struct ferry_segments segments;
	uint32_t payload_bytes; /* How much of the payload is here. */

	struct ferry_tcp_counters counters;
};

void tcp_link_init(struct tcp_link *link, struct ferry_loop *loop, struct ferry_events *events,
		   const struct ferry_handshake_config *handshake, uint64_t dead_after_ns);
/* -ENOMEM. */
int tcp_link_buffer_take(struct tcp_link *link);
/*
 * Down to up, by a greeting that is complete: @fd is the link's from here on, on errors too. Runs
 * on_up(): not inside a call.
 */
void tcp_link_adopt(struct tcp_link *link, int fd, struct tcp_greeting *greeting);
/* -ENOTCONN. */
int tcp_link_secret(const struct tcp_link *link, uint8_t ret[FERRY_PROOF_BYTES]);
/* Up to cut; else a no-op. The callbacks run from a task. */
void tcp_link_cut(struct tcp_link *link, const char *format, ...) FERRY_PRINTF(2, 3);
/* Cut to down, now: each on_sent(), on_down(), on_over(). */
void tcp_link_settle(struct tcp_link *link);
/* Nothing of it is in the loop any more; the buffer is freed. It must be down. */
void tcp_link_done(struct tcp_link *link);

void tcp_counters_add(struct ferry_tcp_counters *sum, const struct ferry_tcp_counters *counters);
