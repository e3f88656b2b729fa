/*
 * grpc.h - gRPC: the control plane's server.
 *
 * Serves proto/ferry.proto and grpc.health.v1 on a unix socket of mode 0600. The socket is ours:
 * a lock file beside it keeps a second server from taking it over, and each connection's user is
 * looked at before gRPC sees it. gRPC's own threads only bring news; every handler and every
 * answer runs on the loop.
 *
 * Owns:    the socket, its lock file, gRPC's server and threads, the last events.
 * Callers: agent/main; tests.
 * Thread:  the cluster loop, for everything.
 * Rooms:   rank 4. client.h beside it is the other end, for agent/cli.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/control.h"
#include "agent/ports/events.h"
#include "agent/ports/loop.h"

enum {
	FERRY_GRPC_EVENTS_MAX = 1024, /* Kept for `ferry events`; older ones are dropped. */
	FERRY_GRPC_CALLS_MAX = 64,    /* At once; more are refused. */
	FERRY_GRPC_REQUESTS_MAX = 16, /* Of these, in the agent's hands. */
	FERRY_GRPC_RECEIVE_BYTES_MAX = 64 * 1024,
};

struct ferry_grpc_server;

struct ferry_grpc_config {
	const char *socket_path; /* Its directory must be there. Copied. */
	const char *version;
	uint32_t wire_version;
	struct ferry_loop *loop;
	struct ferry_control *control;
	/* Runs once, on the loop, when a shutdown is over. May be NULL. */
	void (*on_stopped)(void *context);
	void *context;
};

/*
 * Start-up only. Starts threads: signals are blocked in them. -EADDRINUSE: another agent serves
 * this socket; or the socket calls' errors.
 */
int ferry_grpc_server_open(const struct ferry_grpc_config *config, struct ferry_grpc_server **ret,
			   struct ferry_error *reterr) FERRY_MUST_CHECK;

/* At this moment. -EADDRINUSE: an agent serves this socket; or open(2)'s and flock(2)'s errors. */
int ferry_grpc_check_unserved(const char *socket_path, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* What grpc.health.v1 says, of "" and of "ferry.v1.Ferry". Not serving after open. */
void ferry_grpc_server_set_serving(struct ferry_grpc_server *server, bool is_serving);

/* Keep @event and send it to those who watch. @self stands for "this node". */
void ferry_grpc_server_publish(struct ferry_grpc_server *server, const struct ferry_event *event,
			       uint64_t time_wall_ns, struct ferry_node self);

/*
 * Take no more calls, end the streams, let requests have @grace_ns to be answered, then cancel
 * them. Requests in the agent's hands still want their ferry_control_done().
 */
void ferry_grpc_server_shutdown(struct ferry_grpc_server *server, uint64_t grace_ns);
bool ferry_grpc_server_is_stopped(const struct ferry_grpc_server *server);

/*
 * Free it; NULL is a no-op. If it isn't stopped, stops it with no grace and waits. No request
 * may be in the agent's hands.
 */
void ferry_grpc_server_close(struct ferry_grpc_server *server);
