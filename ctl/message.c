/* message.c - prints any message as JSON, by its descriptor, and JSON as text for people. */
#include <string.h>

#include "base/base.h"
#include "ctl.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"

/* The contents of events. */
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
};

const char *ctl_event_type(size_t i)
{
	return i < RT_LENGTH(known) ? known[i]->name : NULL;
}

const ProtobufCMessageDescriptor *ctl_descriptor(const char *type)
{
	for (size_t i = 0; i < RT_LENGTH(known); i++) {
		if (strcmp(known[i]->name, type) == 0)
			return known[i];
	}
	return rt_json_detail_type(type);
}

/* ---- message → JSON ---- */

json_t *ctl_json_text(const char *text)
{
	return text == NULL ? json_null() : rt_json_string(text, strlen(text));
}

json_t *ctl_message_json(const ProtobufCMessage *message, bool defaults)
{
	return rt_json_of_message(message, defaults ? RT_JSON_DEFAULTS : 0);
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

	*reterr_why = "the type is not known";
	if (descriptor == NULL)
		return NULL;
	*reterr_why = "the bytes are not a message of this type";
	return rt_json_of_bytes(descriptor, data, length, defaults ? RT_JSON_DEFAULTS : 0);
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
