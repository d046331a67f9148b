/* json.c - messages → JSON; see json.h. The way back is json_read.c. */
#include "json.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "json_internal.h"

static json_t *message_json(const ProtobufCMessage *message, unsigned int flags, int depth);

const ProtobufCMessageDescriptor *rt_json_detail_type(const char *name)
{
	static const ProtobufCMessageDescriptor *const known[] = {
		&google__rpc__error_info__descriptor,
		&google__rpc__retry_info__descriptor,
		&google__rpc__bad_request__descriptor,
		&google__rpc__precondition_failure__descriptor,
		&google__rpc__resource_info__descriptor,
	};

	for (size_t i = 0; i < RT_LENGTH(known); i++) {
		if (strcmp(known[i]->name, name) == 0)
			return known[i];
	}
	return NULL;
}

json_t *rt_json_string(const char *text, size_t length)
{
	json_t *json = json_stringn(text, length);
	char *printable;

	if (json != NULL)
		return json;
	printable = rt_text_shown(text, length);
	json = json_string(printable);
	free(printable);
	return json;
}

static json_t *bytes_json(const ProtobufCBinaryData *bytes)
{
	char *text = rt_alloc((bytes->len + 2) / 3 * 4 + 1);
	json_t *json;

	EVP_EncodeBlock((unsigned char *)text, bytes->data, (int)bytes->len); /* base64 */
	json = json_string(text);
	free(text);
	return json;
}

/* ---- messages that have their own form ---- */

static json_t *timestamp_json(const Google__Protobuf__Timestamp *t, unsigned int flags)
{
	char text[RT_TIME_TEXT + 16];

	if (t->seconds < JSON_SECONDS_MIN || t->seconds > JSON_SECONDS_MAX || t->nanos < 0 ||
	    t->nanos > 999999999)
		return json_integer(t->seconds);
	rt_time_format(t->seconds * 1000 + t->nanos / 1000000, text);
	if ((flags & RT_JSON_MAPPING) != 0 && t->nanos % 1000000 != 0) /* "….004Z" */
		snprintf(text + RT_TIME_TEXT - 2, 16, "%06dZ", (int)(t->nanos % 1000000));
	return json_string(text);
}

static json_t *duration_json(const Google__Protobuf__Duration *d, unsigned int flags)
{
	if (d->nanos == 0)
		return json_sprintf("%" PRId64 "s", d->seconds);
	if ((flags & RT_JSON_MAPPING) == 0)
		return json_sprintf("%.3fs", (double)d->seconds + d->nanos / 1e9);
	return json_sprintf("%s%" PRIu64 ".%09us", d->seconds < 0 || d->nanos < 0 ? "-" : "",
			    d->seconds < 0 ? -(uint64_t)d->seconds : (uint64_t)d->seconds,
			    d->nanos < 0 ? -(unsigned int)d->nanos : (unsigned int)d->nanos);
}

static json_t *any_json(const Google__Protobuf__Any *any, unsigned int flags)
{
	const char *slash = strrchr(any->type_url, '/');
	const ProtobufCMessageDescriptor *type =
		rt_json_detail_type(slash == NULL ? any->type_url : slash + 1);
	json_t *json = NULL;

	if (type != NULL)
		json = rt_json_of_bytes(type, any->value.data, any->value.len, flags);
	if ((flags & RT_JSON_MAPPING) == 0)
		return json;
	if (json == NULL) {
		json = json_object();
		json_object_set_new(json, "value", bytes_json(&any->value));
	}
	json_object_set_new(json, "@type", rt_json_string(any->type_url, strlen(any->type_url)));
	return json;
}

/* NULL: `message` has no form of its own. */
static json_t *well_known_json(const ProtobufCMessage *message, unsigned int flags)
{
	if (message->descriptor == &google__protobuf__timestamp__descriptor)
		return timestamp_json((const void *)message, flags);
	if (message->descriptor == &google__protobuf__duration__descriptor)
		return duration_json((const void *)message, flags);
	if (message->descriptor == &google__protobuf__any__descriptor)
		return any_json((const void *)message, flags);
	return NULL;
}

/* ---- values ---- */

static json_t *signed_json(int64_t n, unsigned int flags)
{
	return (flags & RT_JSON_MAPPING) != 0 ? json_sprintf("%" PRId64, n) : json_integer(n);
}

static json_t *unsigned_json(uint64_t n, unsigned int flags)
{
	if ((flags & RT_JSON_MAPPING) != 0)
		return json_sprintf("%" PRIu64, n);
	/* Always a number. jansson's integers are int64: a larger value is rounded to a double. */
	return n <= INT64_MAX ? json_integer((json_int_t)n) : json_real((double)n);
}

static json_t *real_json(double real, unsigned int flags)
{
	if (isfinite(real))
		return json_real(real);
	if ((flags & RT_JSON_MAPPING) == 0)
		return json_null();
	return json_string(isnan(real) ? "NaN" : real > 0 ? "Infinity" : "-Infinity");
}

/* The value at `at`. */
static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *at, unsigned int flags,
			  int depth)
{
	const ProtobufCEnumValue *value;

	switch (field->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		return json_integer(*(const int32_t *)at);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return signed_json(*(const int64_t *)at, flags);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return json_integer(*(const uint32_t *)at);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return unsigned_json(*(const uint64_t *)at, flags);
	case PROTOBUF_C_TYPE_FLOAT:
		return real_json((double)*(const float *)at, flags);
	case PROTOBUF_C_TYPE_DOUBLE:
		return real_json(*(const double *)at, flags);
	case PROTOBUF_C_TYPE_BOOL:
		return json_boolean(*(const protobuf_c_boolean *)at);
	case PROTOBUF_C_TYPE_ENUM:
		value = protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)at);
		return value == NULL ? json_integer(*(const int *)at) : json_string(value->name);
	case PROTOBUF_C_TYPE_STRING:
		return rt_json_string(*(char *const *)at, strlen(*(char *const *)at));
	case PROTOBUF_C_TYPE_BYTES:
		return bytes_json(at);
	case PROTOBUF_C_TYPE_MESSAGE:
		return message_json(*(ProtobufCMessage *const *)at, flags, depth + 1);
	}
	return json_null();
}

static size_t size_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_ENUM:
		break;
	}
	return 4;
}

bool json_is_map(const ProtobufCFieldDescriptor *field)
{
	const ProtobufCMessageDescriptor *entry = field->descriptor;
	size_t length;

	if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label != PROTOBUF_C_LABEL_REPEATED)
		return false;
	length = strlen(entry->name);
	return length > 5 && strcmp(entry->name + length - 5, "Entry") == 0 &&
	       entry->n_fields == 2 && strcmp(entry->fields[0].name, "key") == 0 &&
	       strcmp(entry->fields[1].name, "value") == 0 &&
	       entry->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

static json_t *repeated_json(const ProtobufCFieldDescriptor *field, const char *list, size_t count,
			     unsigned int flags, int depth)
{
	bool map = json_is_map(field);
	json_t *json = map ? json_object() : json_array();

	for (size_t i = 0; i < count; i++) {
		const char *at = list + i * size_of(field->type);

		if (map) {
			const char *entry = *(const char *const *)(const void *)at;
			const ProtobufCMessageDescriptor *type = field->descriptor;
			const char *key =
				*(char *const *)(const void *)(entry + type->fields[0].offset);

			json_object_set_new(json, key,
					    value_json(&type->fields[1],
						       entry + type->fields[1].offset, flags,
						       depth));
		} else {
			json_array_append_new(json, value_json(field, at, flags, depth));
		}
	}
	return json;
}

/* Whether a field has the default value, which proto3 does not send. */
static bool is_default(const ProtobufCFieldDescriptor *field, const char *at)
{
	static const uint64_t zero = 0;

	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return **(const char *const *)(const void *)at == '\0';
	case PROTOBUF_C_TYPE_BYTES:
		return ((const ProtobufCBinaryData *)(const void *)at)->len == 0;
	default:
		return memcmp(at, &zero, size_of(field->type)) == 0;
	}
}

/* ---- messages ---- */

void json_name(const char *name, char text[JSON_NAME_TEXT])
{
	size_t length = 0;
	bool upper = false;

	for (; *name != '\0' && length < JSON_NAME_TEXT - 1; name++) {
		if (*name != '_')
			text[length++] = upper ? (char)toupper((unsigned char)*name) : *name;
		upper = *name == '_';
	}
	text[length] = '\0';
}

static void set_field(json_t *json, const ProtobufCFieldDescriptor *field, json_t *value,
		      unsigned int flags)
{
	char name[JSON_NAME_TEXT];

	json_name(field->name, name);
	json_object_set_new(json, (flags & RT_JSON_MAPPING) != 0 ? name : field->name, value);
}

static json_t *message_json(const ProtobufCMessage *message, unsigned int flags, int depth)
{
	bool defaults = (flags & RT_JSON_DEFAULTS) != 0;
	const char *base = (const char *)message;
	json_t *json;

	if (message == NULL || depth > RT_WIRE_DEPTH_MAX)
		return json_null();
	json = well_known_json(message, flags);
	if (json != NULL)
		return json;
	json = json_object();
	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const char *at = base + field->offset;
		const void *quantifier = base + field->quantifier_offset;

		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t count = *(const size_t *)quantifier;

			if (count > 0 || defaults)
				set_field(json, field,
					  repeated_json(field, *(char *const *)(const void *)at,
							count, flags, depth),
					  flags);
			continue;
		}
		if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
			if (*(const uint32_t *)quantifier != field->id)
				continue;
		} else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
			if (*(const void *const *)(const void *)at == NULL)
				continue;
		} else if (!defaults && is_default(field, at)) {
			continue;
		}
		set_field(json, field, value_json(field, at, flags, depth), flags);
	}
	return json;
}

json_t *rt_json_of_message(const ProtobufCMessage *message, unsigned int flags)
{
	return message_json(message, flags, 0);
}

json_t *rt_json_of_bytes(const ProtobufCMessageDescriptor *type, const void *data, size_t length,
			 unsigned int flags)
{
	static const uint8_t nothing[1];
	struct rt_wire_fault fault;
	ProtobufCMessage *message;
	json_t *json;

	if (data == NULL)
		data = nothing;
	if (!rt_wire_check(type, data, length, &fault))
		return NULL;
	message = protobuf_c_message_unpack(type, NULL, length, data);
	if (message == NULL)
		return NULL;
	json = rt_json_of_message(message, flags);
	protobuf_c_message_free_unpacked(message, NULL);
	return json;
}
