#include "agent/adapters/grpc/client.h"

#include <fcntl.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { OPS_MAX = 6, ANSWER_BYTES_MAX = 4 * 1024 * 1024 };

struct ferry_grpc_client {
	grpc_channel *channel;
	grpc_completion_queue *cq;
};

/* One call under way. */
struct exchange {
	grpc_call *call;
	grpc_metadata_array headers, trailers;
	grpc_byte_buffer *answer;
	grpc_status_code status;
	grpc_slice text;
};

static int socket_connect(const char *path, struct ferry_error *reterr)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	r = snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (r <= 0 || (size_t)r >= sizeof(address.sun_path))
		return ferry_error_set(reterr, -ENAMETOOLONG, "%s: the path is too long", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "cannot make a socket: %s", strerror(-r));
	}
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	else if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	else
		return fd;
	close(fd);
	if (r == -ENOENT || r == -ECONNREFUSED)
		return ferry_error_set(reterr, r, "no agent is running here (%s: %s)", path,
				       strerror(-r));
	if (r == -EACCES)
		return ferry_error_set(reterr, r, "%s: %s: are you root?", path, strerror(-r));
	return ferry_error_set(reterr, r, "%s: %s", path, strerror(-r));
}

int ferry_grpc_client_open(const char *socket_path, struct ferry_grpc_client **ret,
			   struct ferry_error *reterr)
{
	/* http_proxy in the environment would divert even this. */
	grpc_arg arguments[] = {
		{.type = GRPC_ARG_INTEGER,
		 .key = (char *)(uintptr_t)GRPC_ARG_ENABLE_HTTP_PROXY,
		 .value.integer = 0},
		{.type = GRPC_ARG_INTEGER,
		 .key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
		 .value.integer = ANSWER_BYTES_MAX},
	};
	const grpc_channel_args list = {FERRY_ARRAY_COUNT(arguments), arguments};
	grpc_channel_credentials *credentials;
	struct ferry_grpc_client *client;
	int fd;

	ferry_assert(socket_path && ret);
	fd = socket_connect(socket_path, reterr);
	if (fd < 0)
		return fd;
	client = calloc(1, sizeof(*client));
	if (!client) {
		close(fd);
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	}
	grpc_init();
	credentials = grpc_insecure_credentials_create();
	client->channel = grpc_channel_create_from_fd("ferry", fd, credentials, &list);
	grpc_channel_credentials_release(credentials);
	client->cq = grpc_completion_queue_create_for_next(NULL);
	*ret = client;
	return 0;
}

void ferry_grpc_client_close(struct ferry_grpc_client *client)
{
	grpc_event event;

	if (!client)
		return;
	grpc_channel_destroy(client->channel);
	grpc_completion_queue_shutdown(client->cq);
	do {
		event = grpc_completion_queue_next(client->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC),
						   NULL);
	} while (event.type != GRPC_QUEUE_SHUTDOWN);
	grpc_completion_queue_destroy(client->cq);
	grpc_shutdown();
	free(client);
}

static gpr_timespec deadline_in(uint64_t timeout_ns)
{
	if (timeout_ns == 0)
		return gpr_inf_future(GPR_CLOCK_MONOTONIC);
	return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
			    gpr_time_from_nanos((int64_t)timeout_ns, GPR_TIMESPAN));
}

/* Start a batch and wait for it: gRPC ends every batch once the call's deadline has passed. */
static void batch_run(struct ferry_grpc_client *client, struct exchange *exchange,
		      const grpc_op *ops, size_t count)
{
	grpc_call_error error;

	error = grpc_call_start_batch(exchange->call, ops, count, exchange, NULL);
	ferry_assert(error == GRPC_CALL_OK);
	(void)grpc_completion_queue_next(client->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

static void exchange_begin(struct ferry_grpc_client *client, struct exchange *exchange,
			   const char *method, const ProtobufCMessage *input, uint64_t timeout_ns)
{
	size_t length = protobuf_c_message_get_packed_size(input);
	grpc_slice slice = grpc_slice_malloc(length);
	grpc_slice path;
	grpc_byte_buffer *request;
	grpc_op ops[OPS_MAX] = {0};
	size_t count = 0;

	memset(exchange, 0, sizeof(*exchange));
	exchange->text = grpc_empty_slice();
	exchange->status = GRPC_STATUS_UNKNOWN;
	grpc_metadata_array_init(&exchange->headers);
	grpc_metadata_array_init(&exchange->trailers);
	(void)protobuf_c_message_pack(input, GRPC_SLICE_START_PTR(slice));
	request = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	path = grpc_slice_from_copied_string(method);
	exchange->call =
		grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->cq,
					 path, NULL, deadline_in(timeout_ns), NULL);
	grpc_slice_unref(path);
	ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[count].op = GRPC_OP_SEND_MESSAGE;
	ops[count++].data.send_message.send_message = request;
	ops[count++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	batch_run(client, exchange, ops, count);
	grpc_byte_buffer_destroy(request);
	ops[0] = (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA};
	ops[0].data.recv_initial_metadata.recv_initial_metadata = &exchange->headers;
	batch_run(client, exchange, ops, 1);
}

/* The next answer, or NULL when there is none any more. */
static ProtobufCMessage *exchange_next(struct ferry_grpc_client *client, struct exchange *exchange,
				       const ProtobufCMessageDescriptor *output)
{
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
	grpc_byte_buffer_reader reader;
	ProtobufCMessage *message = NULL;
	grpc_slice slice;

	op.data.recv_message.recv_message = &exchange->answer;
	batch_run(client, exchange, &op, 1);
	if (!exchange->answer)
		return NULL;
	if (grpc_byte_buffer_reader_init(&reader, exchange->answer)) {
		slice = grpc_byte_buffer_reader_readall(&reader);
		message = protobuf_c_message_unpack(output, NULL, GRPC_SLICE_LENGTH(slice),
						    GRPC_SLICE_START_PTR(slice));
		grpc_slice_unref(slice);
		grpc_byte_buffer_reader_destroy(&reader);
	}
	grpc_byte_buffer_destroy(TAKE_PTR(exchange->answer));
	return message;
}

static int errno_of(grpc_status_code status)
{
	switch ((int)status) {
	case GRPC_STATUS_OK:
		return 0;
	case GRPC_STATUS_DEADLINE_EXCEEDED:
		return -ETIMEDOUT;
	case GRPC_STATUS_NOT_FOUND:
		return -ENOENT;
	case GRPC_STATUS_FAILED_PRECONDITION:
	case GRPC_STATUS_PERMISSION_DENIED:
		return -EPERM;
	case GRPC_STATUS_INVALID_ARGUMENT:
	case GRPC_STATUS_OUT_OF_RANGE:
		return -EINVAL;
	case GRPC_STATUS_UNAVAILABLE:
		return -ECONNREFUSED;
	case GRPC_STATUS_UNIMPLEMENTED:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

static int exchange_end(struct ferry_grpc_client *client, struct exchange *exchange, bool was_left,
			struct ferry_error *reterr)
{
	grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
	char *text;
	int r;

	if (was_left)
		(void)grpc_call_cancel(exchange->call, NULL);
	op.data.recv_status_on_client.trailing_metadata = &exchange->trailers;
	op.data.recv_status_on_client.status = &exchange->status;
	op.data.recv_status_on_client.status_details = &exchange->text;
	batch_run(client, exchange, &op, 1);
	r = was_left ? 0 : errno_of(exchange->status);
	if (r == -ECONNREFUSED) {
		(void)ferry_error_set(reterr, r, "the agent went away or is stopping");
	} else if (r < 0) {
		text = grpc_slice_to_c_string(exchange->text);
		/* The library's own words, when the agent has said nothing. */
		if (r == -ETIMEDOUT && (!text[0] || strncasecmp(text, "deadline", 8) == 0))
			(void)ferry_error_set(reterr, r, "no answer in time");
		else
			(void)ferry_error_set(reterr, r, r == -ETIMEDOUT ? "not in time: %s" : "%s",
					      text);
		gpr_free(text);
	}
	grpc_metadata_array_destroy(&exchange->headers);
	grpc_metadata_array_destroy(&exchange->trailers);
	grpc_slice_unref(exchange->text);
	grpc_call_unref(exchange->call);
	return r;
}

int ferry_grpc_client_call(struct ferry_grpc_client *client, const char *method,
			   const ProtobufCMessage *input, const ProtobufCMessageDescriptor *output,
			   uint64_t timeout_ns, ProtobufCMessage **ret, struct ferry_error *reterr)
{
	struct exchange exchange;
	ProtobufCMessage *message;
	int r;

	ferry_assert(client && method && input && output && ret);
	ferry_assert(timeout_ns > 0);
	exchange_begin(client, &exchange, method, input, timeout_ns);
	message = exchange_next(client, &exchange, output);
	r = exchange_end(client, &exchange, false, reterr);
	if (r == 0 && !message)
		r = ferry_error_set(reterr, -EIO, "the agent's answer cannot be read");
	if (r < 0) {
		if (message)
			protobuf_c_message_free_unpacked(message, NULL);
		return r;
	}
	*ret = message;
	return 0;
}

int ferry_grpc_client_stream(struct ferry_grpc_client *client, const char *method,
			     const ProtobufCMessage *input,
			     const ProtobufCMessageDescriptor *output, uint64_t timeout_ns,
			     bool (*on_message)(const ProtobufCMessage *message, void *context),
			     void *context, struct ferry_error *reterr)
{
	struct exchange exchange;
	ProtobufCMessage *message;
	bool is_wanted = true;

	ferry_assert(client && method && input && output);
	ferry_assert(on_message);
	exchange_begin(client, &exchange, method, input, timeout_ns);
	while (is_wanted && (message = exchange_next(client, &exchange, output))) {
		is_wanted = on_message(message, context);
		protobuf_c_message_free_unpacked(message, NULL);
	}
	return exchange_end(client, &exchange, !is_wanted, reterr);
}
