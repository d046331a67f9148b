/* message.c - prints any message as JSON, by its descriptor, and JSON as text for people. */
#include <inttypes.h>
#include <math.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/base.h"
#include "ctl.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define DEPTH_MAX 32 /* as in rt_wire_check */

static json_t *message_json(const ProtobufCMessage *message, bool defaults, int depth);

/* The contents of events (package tandem), then the details of errors. */
static const ProtobufCMessageDescriptor *const known[] = {
	&tandem__order__v1__order_placed__descriptor,
	&tandem__order__v1__order_reserved__descriptor,
	&tandem__order__v1__order_rejected__descriptor,
	&tandem__order__v1__order_hold_extended__descriptor,
	&tandem__order__v1__order_confirmed__descriptor,
	&tandem__order__v1__order_returned__descriptor,
	&tandem__order__v1__order_cancelled__descriptor,
	&tandem__order__v1__order_expired__descriptor,
	&tandem__order__v1__order_settled__descriptor,
	&tandem__inventory__v1__inventory_reserved__descriptor,
	&tandem__inventory__v1__inventory_unavailable__descriptor,
	&tandem__inventory__v1__inventory_released__descriptor,
	&tandem__inventory__v1__inventory_committed__descriptor,
	&tandem__inventory__v1__inventory_returned__descriptor,
	&tandem__inventory__v1__stock_adjusted__descriptor,
	&tandem__inventory__v1__stock_low__descriptor,
	&google__rpc__error_info__descriptor,
	&google__rpc__retry_info__descriptor,
	&google__rpc__bad_request__descriptor,
	&google__rpc__precondition_failure__descriptor,
	&google__rpc__resource_info__descriptor,
};

const char *ctl_event_type(size_t i)
{
	return strncmp(known[i]->name, "tandem.", 7) == 0 ? known[i]->name : NULL;
}

const ProtobufCMessageDescriptor *ctl_descriptor(const char *type)
{
	for (size_t i = 0; i < RT_LENGTH(known); i++) {
		if (strcmp(known[i]->name, type) == 0)
			return known[i];
	}
	return NULL;
}

/* ---- message → JSON ---- */

json_t *ctl_json_string(const char *text, size_t length)
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

json_t *ctl_json_text(const char *text)
{
	return text == NULL ? json_null() : ctl_json_string(text, strlen(text));
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

/* Messages that have their own text form in protobuf's JSON. NULL: `message` has none. */
static json_t *well_known_json(const ProtobufCMessage *message)
{
	if (message->descriptor == &google__protobuf__timestamp__descriptor) {
		const Google__Protobuf__Timestamp *t = (const void *)message;
		char text[RT_TIME_TEXT];

		if (t->seconds < -62135596800 || t->seconds > 253402300799)
			return json_integer(t->seconds);
		rt_time_format(t->seconds * 1000 + t->nanos / 1000000, text);
		return json_string(text);
	}
	if (message->descriptor == &google__protobuf__duration__descriptor) {
		const Google__Protobuf__Duration *d = (const void *)message;

		if (d->nanos == 0)
			return json_sprintf("%" PRId64 "s", d->seconds);
		return json_sprintf("%.3fs", (double)d->seconds + d->nanos / 1e9);
	}
	if (message->descriptor == &google__protobuf__any__descriptor) {
		const Google__Protobuf__Any *any = (const void *)message;
		const char *slash = strrchr(any->type_url, '/');
		const char *why;

		return ctl_bytes_json(slash == NULL ? any->type_url : slash + 1, any->value.data,
				      any->value.len, false, &why);
	}
	return NULL;
}

static json_t *unsigned_json(uint64_t n)
{
	/* Always a number. jansson's integers are int64: a larger value is rounded to a double. */
	return n <= INT64_MAX ? json_integer((json_int_t)n) : json_real((double)n);
}

static json_t *real_json(double real)
{
	return isfinite(real) ? json_real(real) : json_null();
}

/* The value at `at`. */
static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *at, bool defaults,
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
		return json_integer(*(const int64_t *)at);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return json_integer(*(const uint32_t *)at);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return unsigned_json(*(const uint64_t *)at);
	case PROTOBUF_C_TYPE_FLOAT:
		return real_json((double)*(const float *)at);
	case PROTOBUF_C_TYPE_DOUBLE:
		return real_json(*(const double *)at);
	case PROTOBUF_C_TYPE_BOOL:
		return json_boolean(*(const protobuf_c_boolean *)at);
	case PROTOBUF_C_TYPE_ENUM:
		value = protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)at);
		return value == NULL ? json_integer(*(const int *)at) : json_string(value->name);
	case PROTOBUF_C_TYPE_STRING:
		return ctl_json_string(*(char *const *)at, strlen(*(char *const *)at));
	case PROTOBUF_C_TYPE_BYTES:
		return bytes_json(at);
	case PROTOBUF_C_TYPE_MESSAGE:
		return message_json(*(ProtobufCMessage *const *)at, defaults, depth + 1);
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

/* protobuf-c does not mark the entries of a map: they are messages "…Entry" of key and value. */
static bool is_map(const ProtobufCFieldDescriptor *field)
{
	const ProtobufCMessageDescriptor *entry = field->descriptor;
	size_t length;

	if (field->type != PROTOBUF_C_TYPE_MESSAGE)
		return false;
	length = strlen(entry->name);
	return length > 5 && strcmp(entry->name + length - 5, "Entry") == 0 &&
	       entry->n_fields == 2 && strcmp(entry->fields[0].name, "key") == 0 &&
	       strcmp(entry->fields[1].name, "value") == 0 &&
	       entry->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

static json_t *repeated_json(const ProtobufCFieldDescriptor *field, const char *list, size_t count,
			     bool defaults, int depth)
{
	bool map = is_map(field);
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
						       entry + type->fields[1].offset, defaults,
						       depth));
		} else {
			json_array_append_new(json, value_json(field, at, defaults, depth));
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

static json_t *message_json(const ProtobufCMessage *message, bool defaults, int depth)
{
	const char *base = (const char *)message;
	json_t *json;

	if (message == NULL || depth > DEPTH_MAX)
		return json_null();
	json = well_known_json(message);
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
				json_object_set_new(json, field->name,
						    repeated_json(field,
								  *(char *const *)(const void *)at,
								  count, defaults, depth));
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
		json_object_set_new(json, field->name, value_json(field, at, defaults, depth));
	}
	return json;
}

json_t *ctl_message_json(const ProtobufCMessage *message, bool defaults)
{
	return message_json(message, defaults, 0);
}

const char *ctl_short_type(const char *type)
{
	const char *dot = strrchr(type, '.');

	return dot == NULL ? type : dot + 1;
}

json_t *ctl_bytes_json(const char *type, const void *data, size_t length, bool defaults,
		       const char **reterr_why)
{
	const ProtobufCMessageDescriptor *descriptor = ctl_descriptor(type);
	struct rt_wire_fault fault;
	ProtobufCMessage *message;
	json_t *json;

	*reterr_why = "the type is not known";
	if (descriptor == NULL)
		return NULL;
	*reterr_why = "the bytes are not a message of this type";
	if (!rt_wire_check(descriptor, data, length, &fault))
		return NULL;
	message = protobuf_c_message_unpack(descriptor, NULL, length, data);
	if (message == NULL)
		return NULL;
	json = ctl_message_json(message, defaults);
	protobuf_c_message_free_unpacked(message, NULL);
	return json;
}

/* ---- JSON → text ---- */

void ctl_json_print(json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

	/* DEL is the only invisible character that jansson does not escape. */
	for (const char *at = text; at != NULL && *at != '\0'; at++) {
		if (*at == '\x7f')
			fputs("\\u007F", stdout);
		else
			putchar(*at);
	}
	putchar('\n');
	fflush(stdout);
	free(text);
	json_decref(json);
}

static void scalar_text(const json_t *json, struct rt_buf *text)
{
	char *printable;

	switch (json_typeof(json)) {
	case JSON_STRING:
		printable = rt_text_shown(json_string_value(json), json_string_length(json));
		/* Quoted only when the end of the text would not be clear. */
		if (printable[0] == '\0' || strpbrk(printable, " =[]{}\"") != NULL)
			rt_buf_printf(text, "\"%s\"", printable);
		else
			rt_buf_printf(text, "%s", printable);
		free(printable);
		break;
	case JSON_INTEGER:
		rt_buf_printf(text, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
		break;
	case JSON_REAL:
		rt_buf_printf(text, "%g", json_real_value(json));
		break;
	case JSON_TRUE:
		rt_buf_printf(text, "true");
		break;
	case JSON_FALSE:
		rt_buf_printf(text, "false");
		break;
	case JSON_NULL:
		rt_buf_printf(text, "-");
		break;
	case JSON_OBJECT:
	case JSON_ARRAY:
		break;
	}
}

void ctl_json_line(const json_t *json, struct rt_buf *line)
{
	const char *separator = "";
	const json_t *value;
	const char *key;
	size_t i;

	if (json_is_object(json)) {
		/* jansson's macros take it without const, but do not change it. */
		json_object_foreach((json_t *)(uintptr_t)json, key, value)
		{
			char *name = rt_text_shown(key, strlen(key));
			const char *open = json_is_object(value)  ? "{"
					   : json_is_array(value) ? "["
								  : "=";
			const char *close = json_is_object(value)  ? "}"
					    : json_is_array(value) ? "]"
								   : "";

			rt_buf_printf(line, "%s%s%s", separator, name, open);
			ctl_json_line(value, line);
			rt_buf_printf(line, "%s", close);
			separator = " ";
			free(name);
		}
	} else if (json_is_array(json)) {
		json_array_foreach(json, i, value)
		{
			rt_buf_printf(line, "%s", separator);
			ctl_json_line(value, line);
			separator = json_is_object(value) ? ", " : " ";
		}
	} else {
		scalar_text(json, line);
	}
}

/* Whether it fits on the line of its name: a scalar, a list of scalars, or empty. */
static bool is_flat(const json_t *json)
{
	const json_t *value;
	size_t i;

	if (json_is_object(json))
		return json_object_size(json) == 0;
	json_array_foreach(json, i, value)
	{
		if (json_is_object(value) || json_is_array(value))
			return false;
	}
	return true;
}

void ctl_json_block(const json_t *json, int indent)
{
	const json_t *value;
	const char *key;
	size_t i;

	if (json_is_array(json)) {
		json_array_foreach(json, i, value)
		{
			struct rt_buf line = { 0 };

			ctl_json_line(value, &line);
			printf("%*s- %.*s\n", indent, "", (int)line.length,
			       line.data == NULL ? "" : line.data);
			rt_buf_done(&line);
		}
		return;
	}
	json_object_foreach((json_t *)(uintptr_t)json, key, value)
	{
		char *name = rt_text_shown(key, strlen(key));

		printf("%*s%s:", indent, "", name);
		free(name);
		if (is_flat(value)) {
			struct rt_buf line = { 0 };

			ctl_json_line(value, &line);
			printf(" %.*s\n", (int)line.length, line.data == NULL ? "" : line.data);
			rt_buf_done(&line);
		} else {
			putchar('\n');
			ctl_json_block(value, indent + 2);
		}
	}
}
