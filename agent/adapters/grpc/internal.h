/*
 * internal.h - what the files of adapters/grpc share.
 *
 * Owns:    see grpc.h.
 * Callers: this folder only.
 * Thread:  the cluster loop, but for the pump thread in pump.c.
 * Rooms:   rank 4.
 */
#pragma once

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <limits.h>
#include <protobuf-c/protobuf-c.h>
#include <pthread.h>

#include "agent/adapters/grpc/grpc.h"
#include "agent/base/list.h"
#include "ferry.pb-c.h"
#include "health.pb-c.h"

/* protoc-c's initialisers cast const away; gcc sees that they are another's code, clang doesn't. */
#pragma GCC diagnostic ignored "-Wcast-qual"

/* A tag on the completion queue: the pump brings it to the loop, which runs it. */
struct ferry_grpc_op {
	void (*run)(struct ferry_grpc_op *op, bool ok);
};

struct ferry_grpc_call;

struct ferry_grpc_method {
	const char *path;
	const ProtobufCMessageDescriptor *input;
	void (*handle)(struct ferry_grpc_call *call, const ProtobufCMessage *input);
	bool is_stream; /* Of answers. */
	/* Which op of ferry_control_ops; as an offset into it. For handlers of requests. */
	size_t control_op;
};

enum { FERRY_GRPC_METHODS_MAX = 24 };
extern const struct ferry_grpc_method ferry_grpc_methods[];
extern const size_t ferry_grpc_methods_count;

/* One request in the agent's hands. */
struct ferry_grpc_slot {
	struct ferry_control_request request;
	struct ferry_grpc_call *call; /* NULL: the slot is free. */
};

struct ferry_grpc_call {
	struct ferry_grpc_server *server;
	const struct ferry_grpc_method *method; /* NULL: no such method. */
	grpc_call *call;
	grpc_call_details details;
	grpc_metadata_array metadata;
	gpr_timespec deadline;
	grpc_byte_buffer *input;
	struct ferry_grpc_op accept_op, send_op, close_op;
	uint32_t refs;
	bool is_accepted;
	int close_cancelled;	     /* The core's until close_op runs. */
	bool is_cancelled, is_ended; /* Ended: the close event came. */
	bool is_headers_sent, is_sending, is_finishing, is_finished;
	grpc_status_code status;
	char status_text[FERRY_ERROR_MESSAGE_MAX];
	grpc_byte_buffer *message; /* To be sent next. */

	/*
	 * Streams: called when nothing is to be sent and nothing is under way; may give one
	 * message or finish. So a slow reader costs no memory: what it misses, it misses.
	 */
	void (*refill)(struct ferry_grpc_call *call);
	struct ferry_list stream_link; /* In server->streams, while it has refill. */
	uint64_t cursor;	       /* Events: the next sequence. */
	bool is_following;
	int health_sent; /* Health: the last status sent; 0: none. */
	bool is_health_known;

	struct ferry_grpc_slot *slot;
	struct ferry_list link; /* In server->calls, from accept on. */
};

struct ferry_grpc_event {
	struct ferry_event event;
	uint64_t time_wall_ns;
};

struct ferry_grpc_server {
	struct ferry_grpc_config config;
	char version[32];
	char socket_path[108];
	int lock_fd;
	struct ferry_watch listen_watch; /* fd: -1 while there is none. */
	bool is_bound;

	grpc_server *server;
	grpc_completion_queue *cq;
	void *registered[FERRY_GRPC_METHODS_MAX];
	bool is_started, is_stopping, is_stopped, is_serving;
	struct ferry_grpc_op shutdown_op;
	struct ferry_timer grace_timer;

	pthread_t pump;
	bool is_pumping;
	int pipe_fds[2];
	struct ferry_watch pipe_watch;

	struct ferry_list calls;
	uint32_t calls_count;
	struct ferry_list streams;
	struct ferry_grpc_slot *slots; /* FERRY_GRPC_REQUESTS_MAX of them. */

	struct ferry_grpc_event *events; /* A ring: sequence s is at s % FERRY_GRPC_EVENTS_MAX. */
	uint64_t events_next;		 /* The next sequence; the first is 1. */
};

/* listen.c: the socket, and connections from it. */
int ferry_grpc_listen(struct ferry_grpc_server *server,
		      struct ferry_error *reterr) FERRY_MUST_CHECK;
void ferry_grpc_listen_start(struct ferry_grpc_server *server);
void ferry_grpc_unlisten(struct ferry_grpc_server *server);

/* pump.c: from the completion queue to the loop. */
int ferry_grpc_pump_start(struct ferry_grpc_server *server) FERRY_MUST_CHECK;
void ferry_grpc_pump_drain(struct ferry_grpc_server *server);

/* call.c: the life of one call. */
void ferry_grpc_call_expect(struct ferry_grpc_server *server,
			    const struct ferry_grpc_method *method);
void ferry_grpc_call_finish(struct ferry_grpc_call *call, grpc_status_code status,
			    const char *format, ...) FERRY_PRINTF(3, 4);
void ferry_grpc_call_send(struct ferry_grpc_call *call, const ProtobufCMessage *message);
void ferry_grpc_call_flush(struct ferry_grpc_call *call);
void ferry_grpc_call_hold(struct ferry_grpc_call *call);
void ferry_grpc_call_drop(struct ferry_grpc_call *call);
void ferry_grpc_call_stream(struct ferry_grpc_call *call,
			    void (*refill)(struct ferry_grpc_call *call));

/* handlers.c */
void ferry_grpc_handle_request(struct ferry_grpc_call *call, const ProtobufCMessage *input);
void ferry_grpc_handle_version(struct ferry_grpc_call *call, const ProtobufCMessage *input);
bool ferry_grpc_text_is_valid(const char *text, size_t size_bytes);
void ferry_grpc_request_cancel(struct ferry_grpc_call *call);

/* events.c */
void ferry_grpc_handle_watch(struct ferry_grpc_call *call, const ProtobufCMessage *input);

/* health.c */
void ferry_grpc_handle_health_check(struct ferry_grpc_call *call, const ProtobufCMessage *input);
void ferry_grpc_handle_health_watch(struct ferry_grpc_call *call, const ProtobufCMessage *input);

/* encode.c: answers of the control port as messages. -ENOMEM. */
int ferry_grpc_encode(struct ferry_grpc_call *call, struct ferry_control_request *request);
/* Replace what is not UTF-8 by '?', in place. */
void ferry_grpc_text_repair(char *text, size_t size_bytes);
