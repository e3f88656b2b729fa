#include <grpc/byte_buffer_reader.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/grpc/internal.h"

/*
 * The life of a call: expected (handed to gRPC to be filled) → accepted → handled → finishing
 * (its status is known) → finished (the status is handed to gRPC). The close event comes at any
 * time after it was accepted; the memory goes when the last operation has come back.
 */

static void call_accepted(struct ferry_grpc_op *op, bool ok);
static void call_sent(struct ferry_grpc_op *op, bool ok);
static void call_closed(struct ferry_grpc_op *op, bool ok);

void ferry_grpc_call_expect(struct ferry_grpc_server *server,
			    const struct ferry_grpc_method *method)
{
	struct ferry_grpc_call *call;
	grpc_call_error error;

	call = calloc(1, sizeof(*call));
	ferry_assert(call); /* Bounded: FERRY_GRPC_CALLS_MAX and one for each method. */
	call->server = server;
	call->method = method;
	call->refs = 1;
	call->accept_op.run = call_accepted;
	call->send_op.run = call_sent;
	call->close_op.run = call_closed;
	ferry_list_init(&call->link);
	ferry_list_init(&call->stream_link);
	grpc_metadata_array_init(&call->metadata);
	grpc_call_details_init(&call->details);
	if (method)
		error = grpc_server_request_registered_call(
			server->server, server->registered[method - ferry_grpc_methods],
			&call->call, &call->deadline, &call->metadata, &call->input, server->cq,
			server->cq, &call->accept_op);
	else
		error = grpc_server_request_call(server->server, &call->call, &call->details,
						 &call->metadata, server->cq, server->cq,
						 &call->accept_op);
	ferry_assert(error == GRPC_CALL_OK);
}

void ferry_grpc_call_hold(struct ferry_grpc_call *call)
{
	ferry_assert(call->refs > 0);
	call->refs++;
}

void ferry_grpc_call_drop(struct ferry_grpc_call *call)
{
	ferry_assert(call->refs > 0);
	if (--call->refs > 0)
		return;
	ferry_assert(!call->slot && !ferry_list_is_linked(&call->stream_link));
	if (call->is_accepted) {
		ferry_list_remove(&call->link);
		call->server->calls_count--;
	}
	if (call->message)
		grpc_byte_buffer_destroy(call->message);
	if (call->input)
		grpc_byte_buffer_destroy(call->input);
	grpc_metadata_array_destroy(&call->metadata);
	grpc_call_details_destroy(&call->details);
	if (call->call)
		grpc_call_unref(call->call);
	free(call);
}

static void call_start(struct ferry_grpc_call *call, struct ferry_grpc_op *op, const grpc_op *ops,
		       size_t ops_count)
{
	grpc_call_error error;

	ferry_grpc_call_hold(call);
	error = grpc_call_start_batch(call->call, ops, ops_count, op, NULL);
	ferry_assert(error == GRPC_CALL_OK); /* Else a bug here; never the peer's doing. */
}

/* Send what is due: headers, the message, and the status if that was the last, in one batch. */
void ferry_grpc_call_flush(struct ferry_grpc_call *call)
{
	grpc_slice text = grpc_empty_slice();
	grpc_byte_buffer *message;
	grpc_op ops[3] = {0};
	size_t count = 0;

	if (call->is_sending || call->is_finished)
		return;
	if (!call->message && !call->is_finishing && call->refill) {
		call->refill(call);
		if (call->is_finished) /* It finished the call, which came by here again. */
			return;
	}
	if (!call->message && !call->is_finishing)
		return;
	message = TAKE_PTR(call->message);
	if (message && !call->is_cancelled) {
		ops[count].op = GRPC_OP_SEND_MESSAGE;
		ops[count++].data.send_message.send_message = message;
	}
	if (call->is_finishing) {
		text = grpc_slice_from_copied_string(call->status_text);
		ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
		ops[count].data.send_status_from_server.status = call->status;
		ops[count++].data.send_status_from_server.status_details = &text;
		call->is_finished = true;
	}
	if (count > 0 && !call->is_headers_sent) {
		ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
		call->is_headers_sent = true;
	}
	if (count > 0) {
		call->is_sending = true;
		call_start(call, &call->send_op, ops, count);
	}
	if (message)
		grpc_byte_buffer_destroy(message);
	grpc_slice_unref(text);
	if (call->is_finished)
		ferry_grpc_call_drop(call); /* The reference of ferry_grpc_call_expect(). */
}

static void call_sent(struct ferry_grpc_op *op, bool ok)
{
	struct ferry_grpc_call *call = FERRY_CONTAINER_OF(op, struct ferry_grpc_call, send_op);

	ferry_assert(call->is_sending);
	call->is_sending = false;
	if (!ok)
		call->is_cancelled = true;
	ferry_grpc_call_flush(call);
	ferry_grpc_call_drop(call);
}

void ferry_grpc_call_send(struct ferry_grpc_call *call, const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	grpc_slice slice;

	ferry_assert(!call->message && !call->is_finishing);
	slice = grpc_slice_malloc(length);
	(void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
	call->message = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	if (!call->method->is_stream)
		ferry_grpc_call_finish(call, GRPC_STATUS_OK, "%s", "");
}

void ferry_grpc_call_finish(struct ferry_grpc_call *call, grpc_status_code status,
			    const char *format, ...)
{
	va_list arguments;

	if (call->is_finishing)
		return;
	call->is_finishing = true;
	call->refill = NULL;
	ferry_list_remove(&call->stream_link);
	call->status = status;
	va_start(arguments, format);
	(void)vsnprintf(call->status_text, sizeof(call->status_text), format, arguments);
	va_end(arguments);
	ferry_grpc_text_repair(call->status_text, sizeof(call->status_text));
	ferry_grpc_call_flush(call);
}

void ferry_grpc_call_stream(struct ferry_grpc_call *call,
			    void (*refill)(struct ferry_grpc_call *call))
{
	ferry_assert(call->method->is_stream && !call->refill);
	call->refill = refill;
	ferry_list_append(&call->server->streams, &call->stream_link);
	ferry_grpc_call_flush(call);
}

/* However it came about: answered, cancelled by the client, past its deadline, or cut off. */
static void call_closed(struct ferry_grpc_op *op, bool ok)
{
	struct ferry_grpc_call *call = FERRY_CONTAINER_OF(op, struct ferry_grpc_call, close_op);

	(void)ok;
	call->is_ended = true;
	if (call->close_cancelled)
		call->is_cancelled = true;
	if (call->slot)
		ferry_grpc_request_cancel(call);
	ferry_grpc_call_finish(call, GRPC_STATUS_CANCELLED, "%s", "");
	ferry_grpc_call_drop(call);
}

static ProtobufCMessage *call_unpack(struct ferry_grpc_call *call)
{
	grpc_byte_buffer_reader reader;
	ProtobufCMessage *message = NULL;
	grpc_slice slice;

	if (!call->input || !grpc_byte_buffer_reader_init(&reader, call->input))
		return NULL;
	slice = grpc_byte_buffer_reader_readall(&reader);
	/* Our requests are flat, so what is in them cannot nest. */
	if (GRPC_SLICE_LENGTH(slice) <= FERRY_GRPC_RECEIVE_BYTES_MAX)
		message = protobuf_c_message_unpack(call->method->input, NULL,
						    GRPC_SLICE_LENGTH(slice),
						    GRPC_SLICE_START_PTR(slice));
	grpc_slice_unref(slice);
	grpc_byte_buffer_reader_destroy(&reader);
	return message;
}

static void call_handle(struct ferry_grpc_call *call)
{
	ProtobufCMessage *input;

	input = call_unpack(call);
	if (!input) {
		ferry_grpc_call_finish(call, GRPC_STATUS_INVALID_ARGUMENT,
				       "the request cannot be read");
		return;
	}
	call->method->handle(call, input);
	protobuf_c_message_free_unpacked(input, NULL);
}

static void call_accepted(struct ferry_grpc_op *op, bool ok)
{
	struct ferry_grpc_call *call = FERRY_CONTAINER_OF(op, struct ferry_grpc_call, accept_op);
	struct ferry_grpc_server *server = call->server;
	grpc_op close_op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

	if (!ok) { /* The server is shutting down. */
		ferry_grpc_call_drop(call);
		return;
	}
	ferry_grpc_call_expect(server, call->method);
	call->is_accepted = true;
	ferry_list_append(&server->calls, &call->link);
	server->calls_count++;
	close_op.data.recv_close_on_server.cancelled = &call->close_cancelled;
	call_start(call, &call->close_op, &close_op, 1);

	ferry_grpc_call_hold(call); /* A handler that finishes it may drop the last reference. */
	if (!call->method)
		ferry_grpc_call_finish(call, GRPC_STATUS_UNIMPLEMENTED,
				       "this agent knows no such call");
	else if (server->is_stopping)
		ferry_grpc_call_finish(call, GRPC_STATUS_UNAVAILABLE, "the agent is stopping");
	else if (server->calls_count > FERRY_GRPC_CALLS_MAX)
		ferry_grpc_call_finish(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
				       "too many calls at once (at most %d)", FERRY_GRPC_CALLS_MAX);
	else
		call_handle(call);
	ferry_grpc_call_drop(call);
}
