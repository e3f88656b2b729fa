/*
 * client.h - the control plane's other end: one connection to one agent, one call at a time.
 *
 * Owns:    the connection and gRPC's client threads.
 * Callers: agent/cli; tests. Never in the agent's process.
 * Thread:  one.
 * Rooms:   rank 4.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "agent/base/error.h"

struct ferry_grpc_client;

/*
 * Connect. -ENOENT and -ECONNREFUSED: no agent is running; -EACCES: the socket is another's.
 * @socket_path is looked at by connect(2) itself, so that the reason is the system's own.
 */
int ferry_grpc_client_open(const char *socket_path, struct ferry_grpc_client **ret,
			   struct ferry_error *reterr) FERRY_MUST_CHECK;
/* NULL is a no-op. */
void ferry_grpc_client_close(struct ferry_grpc_client *client);

/*
 * Call @method ("/ferry.v1.Ferry/GetStatus") and wait for the answer, at most @timeout_ns.
 * @ret receives the answer; free it with protobuf_c_message_free_unpacked().
 * -ETIMEDOUT; -ENOENT: the agent knows no such thing; -EPERM: refused; -EINVAL; -ECONNREFUSED:
 * the agent went away or is stopping; -EOPNOTSUPP: the agent is too old for this; -EIO: any
 * other failure. @reterr has the agent's words.
 */
int ferry_grpc_client_call(struct ferry_grpc_client *client, const char *method,
			   const ProtobufCMessage *input, const ProtobufCMessageDescriptor *output,
			   uint64_t timeout_ns, ProtobufCMessage **ret,
			   struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * The same for a stream: @on_message for each answer (it is freed afterwards) until the stream
 * ends or it returns false. @timeout_ns: 0 is forever. 0: the stream ended well or was left.
 */
int ferry_grpc_client_stream(struct ferry_grpc_client *client, const char *method,
			     const ProtobufCMessage *input,
			     const ProtobufCMessageDescriptor *output, uint64_t timeout_ns,
			     bool (*on_message)(const ProtobufCMessage *message, void *context),
			     void *context, struct ferry_error *reterr) FERRY_MUST_CHECK;
