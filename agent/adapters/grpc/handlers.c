#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/grpc/internal.h"

typedef void (*control_op)(struct ferry_control *control, struct ferry_control_request *request);

/* The length of the UTF-8 sequence at @text, or 0. RFC 3629: no overlong forms, no surrogates. */
static size_t utf8_length(const uint8_t *text, size_t left_bytes)
{
	uint8_t lead = text[0];
	uint8_t low = 0x80, high = 0xbf;
	size_t length;

	if (lead < 0x80)
		return 1;
	if (lead >= 0xc2 && lead <= 0xdf)
		length = 2;
	else if (lead >= 0xe0 && lead <= 0xef)
		length = 3;
	else if (lead >= 0xf0 && lead <= 0xf4)
		length = 4;
	else
		return 0;
	if (length > left_bytes)
		return 0;
	if (lead == 0xe0)
		low = 0xa0;
	if (lead == 0xed)
		high = 0x9f;
	if (lead == 0xf0)
		low = 0x90;
	if (lead == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++) {
		if (text[i] < 0x80 || text[i] > 0xbf)
			return 0;
	}
	return length;
}

/* Not empty, shorter than @size_bytes, UTF-8, no control characters. */
bool ferry_grpc_text_is_valid(const char *text, size_t size_bytes)
{
	size_t length_bytes = strlen(text);
	const uint8_t *bytes = (const uint8_t *)text;

	if (length_bytes == 0 || length_bytes >= size_bytes)
		return false;
	for (size_t i = 0; i < length_bytes;) {
		size_t step = utf8_length(bytes + i, length_bytes - i);

		if (step == 0 || bytes[i] < 0x20 || bytes[i] == 0x7f)
			return false;
		i += step;
	}
	return true;
}

void ferry_grpc_text_repair(char *text, size_t size_bytes)
{
	size_t length_bytes = strnlen(text, size_bytes);
	uint8_t *bytes = (uint8_t *)text;

	if (length_bytes == size_bytes) /* The answerer's mistake; not worth a crash. */
		text[--length_bytes] = '\0';
	for (size_t i = 0; i < length_bytes;) {
		size_t step = utf8_length(bytes + i, length_bytes - i);

		if (step == 0)
			bytes[i] = '?';
		i += step ? step : 1;
	}
}

static grpc_status_code status_of(int error)
{
	switch (-error) {
	case ENOENT:
		return GRPC_STATUS_NOT_FOUND;
	case EPERM:
	case EACCES:
	case EBUSY:
	case ESTALE:
		return GRPC_STATUS_FAILED_PRECONDITION;
	case ETIMEDOUT:
		return GRPC_STATUS_DEADLINE_EXCEEDED;
	case EINVAL:
		return GRPC_STATUS_INVALID_ARGUMENT;
	case ESHUTDOWN:
		return GRPC_STATUS_UNAVAILABLE;
	case EAGAIN:
		return GRPC_STATUS_ABORTED;
	case EOPNOTSUPP:
		return GRPC_STATUS_UNIMPLEMENTED;
	default:
		return GRPC_STATUS_INTERNAL;
	}
}

static void on_request_done(struct ferry_control_request *request, int error, const char *message)
{
	struct ferry_grpc_slot *slot = FERRY_CONTAINER_OF(request, struct ferry_grpc_slot, request);
	struct ferry_grpc_call *call = slot->call;

	ferry_assert(call && call->slot == slot);
	FERRY_ASSERT_ON_LOOP(call->server->config.loop);
	if (error == 0 && !call->is_finishing)
		error = ferry_grpc_encode(call, request);
	if (error < 0)
		ferry_grpc_call_finish(call, status_of(error), "%s",
				       message && *message ? message : strerror(-error));
	call->slot = NULL;
	slot->call = NULL;
	ferry_grpc_call_drop(call);
}

void ferry_grpc_request_cancel(struct ferry_grpc_call *call)
{
	struct ferry_control *control = call->server->config.control;

	ferry_assert(call->slot);
	if (control->ops->cancelled)
		control->ops->cancelled(control, &call->slot->request);
}

static struct ferry_grpc_slot *slot_take(struct ferry_grpc_call *call)
{
	struct ferry_grpc_server *server = call->server;

	ferry_assert(!call->slot);
	for (size_t i = 0; i < FERRY_GRPC_REQUESTS_MAX; i++) {
		struct ferry_grpc_slot *slot = &server->slots[i];

		if (slot->call)
			continue;
		memset(&slot->request, 0, sizeof(slot->request));
		slot->call = call;
		call->slot = slot;
		ferry_grpc_call_hold(call); /* Until on_request_done(). */
		return slot;
	}
	return NULL;
}

static char *text_of(struct ferry_control_request *request, const char *name)
{
	if (strcmp(name, "pool") == 0)
		return request->pool;
	if (strcmp(name, "volume") == 0)
		return request->volume;
	if (strcmp(name, "node") == 0)
		return request->node;
	if (strcmp(name, "faults") == 0)
		return request->faults;
	ferry_assert(strcmp(name, "key") == 0);
	return request->key;
}

static bool *flag_of(struct ferry_control_request *request, const char *name)
{
	if (strcmp(name, "force") == 0)
		return &request->is_force;
	if (strcmp(name, "take") == 0)
		return &request->is_take;
	if (strcmp(name, "remove") == 0)
		return &request->is_remove;
	ferry_assert(strcmp(name, "foreign") == 0);
	return &request->is_foreign;
}

/* A node's fencing is from all its pools, unless one is named. */
static bool may_be_empty(const ProtobufCMessage *input, const char *name)
{
	return strcmp(name, "pool") == 0 &&
	       (input->descriptor == &ferry__v1__fence_request__descriptor ||
		input->descriptor == &ferry__v1__get_fence_request__descriptor);
}

/* ForcePool's; more than a cluster has are refused. */
static const char *nodes_copy(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *input,
			      struct ferry_control_request *request)
{
	const char *base = (const char *)input;
	size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
	const uint32_t *nodes = *(uint32_t *const *)(const void *)(base + field->offset);

	ferry_assert(field->type == PROTOBUF_C_TYPE_UINT32 && strcmp(field->name, "nodes") == 0);
	if (count > FERRY_NODES_MAX)
		return "more nodes than a cluster has";
	for (size_t i = 0; i < count; i++)
		request->nodes.nodes[i].v = nodes[i];
	request->nodes.count = (uint32_t)count;
	return NULL;
}

/*
 * Every field of our requests is one that the control port has by the same name. What is wrong with
 * it, or NULL.
 */
static const char *argument_copy(const ProtobufCFieldDescriptor *field,
				 const ProtobufCMessage *input,
				 struct ferry_control_request *request)
{
	const char *at = (const char *)input + field->offset;
	const char *text;

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return nodes_copy(field, input, request);
	if (field->type == PROTOBUF_C_TYPE_BOOL) {
		*flag_of(request, field->name) = *(const protobuf_c_boolean *)(const void *)at;
		return NULL;
	}
	ferry_assert(field->type == PROTOBUF_C_TYPE_STRING);
	text = *(char *const *)(const void *)at;
	if (!text[0] && may_be_empty(input, field->name))
		return NULL;
	if (!ferry_grpc_text_is_valid(text, FERRY_CONTROL_NAME_BYTES))
		return "a name is empty, longer than 63 bytes or not UTF-8";
	(void)snprintf(text_of(request, field->name), FERRY_CONTROL_NAME_BYTES, "%s", text);
	return NULL;
}

static uint64_t deadline_of(const struct ferry_grpc_call *call)
{
	gpr_timespec left;

	if (gpr_time_cmp(call->deadline, gpr_inf_future(call->deadline.clock_type)) == 0)
		return UINT64_MAX;
	left = gpr_time_sub(call->deadline, gpr_now(call->deadline.clock_type));
	return ferry_loop_now_ns(call->server->config.loop) +
	       (left.tv_sec < 0 ? 0
				: (uint64_t)left.tv_sec * FERRY_NS_PER_S + (uint64_t)left.tv_nsec);
}

void ferry_grpc_handle_request(struct ferry_grpc_call *call, const ProtobufCMessage *input)
{
	struct ferry_control *control = call->server->config.control;
	struct ferry_grpc_slot *slot;
	control_op op;

	memcpy(&op, (const char *)control->ops + call->method->control_op, sizeof(op));
	if (!op) {
		ferry_grpc_call_finish(call, GRPC_STATUS_UNIMPLEMENTED,
				       "this agent cannot do that");
		return;
	}
	slot = slot_take(call);
	if (!slot) {
		ferry_grpc_call_finish(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
				       "too many requests at once (at most %d); ask again",
				       FERRY_GRPC_REQUESTS_MAX);
		return;
	}
	slot->request.on_done = on_request_done;
	slot->request.deadline_ns = deadline_of(call);
	for (unsigned i = 0; i < input->descriptor->n_fields; i++) {
		const char *wrong =
			argument_copy(&input->descriptor->fields[i], input, &slot->request);

		if (!wrong)
			continue;
		on_request_done(&slot->request, -EINVAL, wrong);
		return;
	}
	op(control, &slot->request);
}

void ferry_grpc_handle_version(struct ferry_grpc_call *call, const ProtobufCMessage *input)
{
	Ferry__V1__Version version = FERRY__V1__VERSION__INIT;
	char api[] = "ferry.v1";

	(void)input;
	version.version = call->server->version;
	version.wire_version = call->server->config.wire_version;
	version.api = api;
	ferry_grpc_call_send(call, &version.base);
}
