#include <ctype.h>

#include "agent/cli/cli.h"

enum { PREFIX_BYTES = 64 };

/* "PoolState" → "POOL_STATE_", what its values' names begin with. */
static void prefix_of(const ProtobufCEnumDescriptor *type, char ret[PREFIX_BYTES])
{
	size_t length = 0;

	for (const char *c = type->short_name; *c && length + 3 < PREFIX_BYTES; c++) {
		if (isupper((unsigned char)*c) && c != type->short_name)
			ret[length++] = '_';
		ret[length++] = (char)toupper((unsigned char)*c);
	}
	ret[length++] = '_';
	ret[length] = '\0';
}

void cli_enum_name(const ProtobufCEnumDescriptor *type, int value, char ret[32])
{
	const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(type, value);
	char prefix[PREFIX_BYTES];
	const char *name;
	size_t length = 0;

	if (!found) {
		(void)snprintf(ret, 32, "%d", value);
		return;
	}
	prefix_of(type, prefix);
	name = found->name;
	if (strncmp(name, prefix, strlen(prefix)) == 0)
		name += strlen(prefix);
	for (; name[length] && length < 31; length++)
		ret[length] = (char)tolower((unsigned char)name[length]);
	ret[length] = '\0';
}

static struct json_object *value_of(const ProtobufCFieldDescriptor *field, const void *member)
{
	char name[32];

	switch ((int)field->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return json_object_new_boolean(*(const protobuf_c_boolean *)member);
	case PROTOBUF_C_TYPE_UINT32:
		return json_object_new_int64(*(const uint32_t *)member);
	case PROTOBUF_C_TYPE_UINT64:
		return json_object_new_uint64(*(const uint64_t *)member);
	case PROTOBUF_C_TYPE_STRING:
		return json_object_new_string(*(char *const *)member);
	case PROTOBUF_C_TYPE_ENUM:
		cli_enum_name(field->descriptor, *(const int *)member, name);
		return json_object_new_string(name);
	case PROTOBUF_C_TYPE_MESSAGE:
		if (!*(ProtobufCMessage *const *)member)
			return NULL; /* JSON's null. */
		return cli_json_of(*(ProtobufCMessage *const *)member);
	default:
		ferry_assert(field->type == PROTOBUF_C_TYPE_BOOL); /* ferry.proto has no other. */
		return NULL;
	}
}

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
	switch ((int)field->type) {
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_ENUM:
		return sizeof(uint32_t);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_UINT64:
		return sizeof(uint64_t);
	default:
		return sizeof(void *);
	}
}

struct json_object *cli_json_of(const ProtobufCMessage *message)
{
	struct json_object *object = json_object_new_object();
	const char *base = (const char *)message;

	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const void *member = base + field->offset;
		struct json_object *value;

		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			const char *items = *(char *const *)member;
			size_t count;

			memcpy(&count, base + field->quantifier_offset, sizeof(count));
			value = json_object_new_array();
			for (size_t k = 0; k < count; k++)
				json_object_array_add(value,
						      value_of(field, items + k * size_of(field)));
		} else {
			value = value_of(field, member);
		}
		json_object_object_add(object, field->name, value);
	}
	return object;
}
