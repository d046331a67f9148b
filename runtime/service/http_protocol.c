/* http_protocol.c - see http_protocol.h. */
#include "http_protocol.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "google/protobuf/any.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "rpc/json.h"

#define ENVELOPE_BYTES      5
#define FLAG_COMPRESSED     0x01
#define FLAG_CONNECT_END    0x02
#define FLAG_TRAILERS       0x80
#define TIMEOUT_DIGITS_MOST 10
#define TIMEOUT_MOST_MS     INT64_C(31536000000) /* a year */

/* Of the tree of a message in JSON. The largest that is asked for, 1000 orders of 100 lines as short as they may be, has 54 MB. */
#define TREE_MAX_BYTES ((size_t)16 * 1024 * 1024)
#define TREE_FACTOR    16 /* of the largest message, if that is more */

/* ---- formats ---- */

static const struct {
	const char *content_type;
	enum http_protocol protocol;
	const char *answer;
	bool json, base64;
} formats[] = {
	{ "application/json", HTTP_CONNECT, "application/json", true, false },
	{ "application/proto", HTTP_CONNECT, "application/proto", false, false },
	{ "application/connect+json", HTTP_CONNECT_STREAM, "application/connect+json", true,
	  false },
	{ "application/connect+proto", HTTP_CONNECT_STREAM, "application/connect+proto", false,
	  false },
	{ "application/grpc-web", HTTP_GRPC_WEB, "application/grpc-web+proto", false, false },
	{ "application/grpc-web+proto", HTTP_GRPC_WEB, "application/grpc-web+proto", false, false },
	{ "application/grpc-web+json", HTTP_GRPC_WEB, "application/grpc-web+json", true, false },
	{ "application/grpc-web-text", HTTP_GRPC_WEB, "application/grpc-web-text+proto", false,
	  true },
	{ "application/grpc-web-text+proto", HTTP_GRPC_WEB, "application/grpc-web-text+proto",
	  false, true },
};
const char http_formats[] =
	"application/json, application/proto, application/connect+json, application/connect+proto, "
	"application/grpc-web, application/grpc-web+proto, application/grpc-web+json, "
	"application/grpc-web-text, application/grpc-web-text+proto";

/* Parameters do not matter, but that a charset is UTF-8. */
static bool is_type(const char *text, const char *type)
{
	size_t length = strlen(type);

	if (strncasecmp(text, type, length) != 0)
		return false;
	for (text += length;;) {
		text += strspn(text, " \t");
		if (*text == '\0')
			return true;
		if (*text != ';')
			return false;
		text += 1 + strspn(text + 1, " \t");
		length = strcspn(text, "; \t");
		if (strncasecmp(text, "charset=", 8) == 0 &&
		    !(length == 13 && strncasecmp(text + 8, "utf-8", 5) == 0) &&
		    !(length == 15 && strncasecmp(text + 8, "\"utf-8\"", 7) == 0))
			return false;
		text += strcspn(text, ";");
	}
}

bool http_format_of(const char *content_type, struct http_format *ret)
{
	for (size_t i = 0; content_type != NULL && i < RT_LENGTH(formats); i++) {
		if (!is_type(content_type, formats[i].content_type))
			continue;
		*ret = (struct http_format){ formats[i].protocol, formats[i].answer,
					     formats[i].json, formats[i].base64 };
		return true;
	}
	return false;
}

/* ---- deadlines ---- */

/* "100m" in ms, rounded up; a unit of gRPC. -1: it is none. */
static int64_t grpc_timeout(int64_t n, const char *unit)
{
	static const struct {
		char unit;
		int64_t ns;
	} units[] = { { 'H', INT64_C(3600000000000) },
		      { 'M', INT64_C(60000000000) },
		      { 'S', 1000000000 },
		      { 'm', 1000000 },
		      { 'u', 1000 },
		      { 'n', 1 } };

	for (size_t i = 0; i < RT_LENGTH(units) && unit[0] != '\0' && unit[1] == '\0'; i++) {
		if (units[i].unit != *unit)
			continue;
		if (units[i].ns >= 1000000)
			return RT_MIN(n, TIMEOUT_MOST_MS) * (units[i].ns / 1000000);
		return (n * units[i].ns + 999999) / 1000000;
	}
	return -1;
}

bool http_timeout_read(const struct http_format *format, const char *text, int64_t *ret_ms,
		       struct rt_status *status)
{
	bool grpc = format->protocol == HTTP_GRPC_WEB;
	const char *name = grpc ? "grpc-timeout" : "connect-timeout-ms";
	char digits[TIMEOUT_DIGITS_MOST + 1];
	size_t length;
	int64_t ms = -1, n;

	*ret_ms = 0;
	if (text == NULL)
		return true;
	length = strspn(text, "0123456789");
	if (length > 0 && length <= (grpc ? TIMEOUT_DIGITS_MOST - 2 : TIMEOUT_DIGITS_MOST)) {
		snprintf(digits, sizeof(digits), "%.*s", (int)length, text);
		n = (int64_t)strtoull(digits, NULL, 10);
		ms = grpc ? grpc_timeout(n, text + length) : text[length] == '\0' ? n : -1;
	}
	if (ms < 0) {
		rt_status_set(status, RT_CODE_INVALID_ARGUMENT, "%s is not %s", name,
			      grpc ? "up to 8 digits and one of H, M, S, m, u, n"
				   : "a whole number of milliseconds, up to 10 digits");
		rt_status_violation(status, name, "is no time");
		return false;
	}
	/* A deadline that has passed already is one nonetheless. */
	*ret_ms = RT_MIN(RT_MAX(ms, INT64_C(1)), TIMEOUT_MOST_MS);
	return true;
}

/* ---- what comes ---- */

static bool refuse(struct rt_status *status, int code, const char *what)
{
	rt_status_set(status, code, "%s", what);
	return false;
}

/* Base64 may end and go on: clients encode piece by piece. */
static bool decode_base64(struct rt_buf *body)
{
	uint8_t *to = (uint8_t *)body->data;
	size_t length = 0, decoded;

	if (body->length % 4 != 0)
		return false;
	for (size_t at = 0; at < body->length;) {
		const char *from = body->data + at;
		const char *padding = memchr(from, '=', body->length - at);
		size_t piece = body->length - at;
		uint8_t *bytes;
		bool good;

		if (padding != NULL)
			piece = RT_MIN(((size_t)(padding - from) / 4 + 1) * 4, piece);
		bytes = rt_alloc(RT_BASE64_DECODED(piece));
		good = rt_base64_decode(from, piece, bytes, &decoded);
		if (good) /* shorter than what it stands for */
			memmove(to + length, bytes, decoded);
		free(bytes);
		if (!good)
			return false;
		length += decoded;
		at += piece;
	}
	body->length = length;
	return true;
}

static void add_message(struct http_messages *messages, size_t *capacity, void *data, size_t length)
{
	messages->list =
		rt_grow(messages->list, messages->count, capacity, sizeof(*messages->list));
	messages->list[messages->count++] = (ProtobufCBinaryData){ length, data };
}

static bool split_envelopes(struct rt_buf *body, size_t most_bytes, struct http_messages *messages,
			    struct rt_status *status)
{
	uint8_t *at = (uint8_t *)body->data, *end = at + body->length;
	size_t capacity = 0;

	while (at < end) {
		size_t length;

		if (end - at < ENVELOPE_BYTES)
			return refuse(status, RT_CODE_INVALID_ARGUMENT,
				      "the body ends within the head of an envelope");
		length = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
		if ((at[0] & FLAG_COMPRESSED) != 0)
			return refuse(status, RT_CODE_UNIMPLEMENTED,
				      "the message is compressed; only messages that are not are "
				      "accepted");
		if (at[0] != 0)
			return refuse(status, RT_CODE_INVALID_ARGUMENT,
				      "an envelope has flags that are not known");
		if (length > most_bytes) {
			rt_status_set(status, RT_CODE_RESOURCE_EXHAUSTED,
				      "the message is larger than %zu bytes", most_bytes);
			return false;
		}
		at += ENVELOPE_BYTES;
		if (length > (size_t)(end - at))
			return refuse(status, RT_CODE_INVALID_ARGUMENT,
				      "the body ends within a message");
		add_message(messages, &capacity, at, length);
		at += length;
	}
	return true;
}

/* About what jansson takes for the tree of a text: the more, the less a value says. "{}," takes a hundred times its bytes. */
static size_t tree_bytes(const ProtobufCBinaryData *text)
{
	static const uint8_t costs[256] = { ['{'] = 224, ['['] = 128, [':'] = 80, [','] = 64 };
	size_t bytes = text->len;
	bool quoted = false;

	for (size_t i = 0; i < text->len; i++) {
		uint8_t c = text->data[i];

		if (c == '"')
			quoted = !quoted;
		else if (c == '\\' && quoted)
			i++;
		else if (!quoted)
			bytes += costs[c];
	}
	return bytes;
}

/* Appends what a text in JSON is to `to`. */
static bool read_json(const ProtobufCMessageDescriptor *type, const ProtobufCBinaryData *text,
		      size_t most_bytes, struct rt_buf *to, struct rt_status *status)
{
	size_t tree_most = RT_MAX(TREE_MAX_BYTES, TREE_FACTOR * most_bytes);
	struct rt_wire_fault fault = { .field = "" };
	json_error_t error;
	json_t *json;
	char *shown;
	bool good;

	if (tree_bytes(text) > tree_most) {
		rt_status_set(status, RT_CODE_RESOURCE_EXHAUSTED,
			      "the message has so many values that reading its JSON would take "
			      "more than %zu bytes",
			      tree_most);
		return false;
	}
	json = json_loadb((const char *)text->data, text->len,
			  JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (json == NULL) {
		shown = rt_text_shown(error.text, strlen(error.text));
		rt_status_set(status, RT_CODE_INVALID_ARGUMENT,
			      "the message is not JSON: line %d, column %d: %s", error.line,
			      error.column, shown);
		free(shown);
		return false;
	}
	good = rt_json_to_bytes(type, json, to, &fault);
	json_decref(json);
	if (!good) {
		rt_status_set(status, RT_CODE_INVALID_ARGUMENT, "%s%s%s %s", type->name,
			      fault.field[0] != '\0' ? ": " : "", fault.field, fault.what);
		rt_status_violation(status, fault.field, "%s", fault.what);
	}
	return good;
}

static bool read_jsons(const ProtobufCMessageDescriptor *type, size_t most_bytes,
		       struct http_messages *messages, struct rt_status *status)
{
	size_t at = 0;

	for (size_t i = 0; i < messages->count; i++) {
		size_t before = messages->own.length;

		if (!read_json(type, &messages->list[i], most_bytes, &messages->own, status))
			return false;
		messages->list[i].len = messages->own.length - before;
		if (messages->list[i].len > most_bytes) {
			rt_status_set(status, RT_CODE_RESOURCE_EXHAUSTED,
				      "the message is larger than %zu bytes", most_bytes);
			return false;
		}
	}
	for (size_t i = 0; i < messages->count; i++) { /* it does not move any more */
		messages->list[i].data = (uint8_t *)messages->own.data + at;
		at += messages->list[i].len;
	}
	return true;
}

bool http_messages_read(const struct http_format *format, const ProtobufCMessageDescriptor *type,
			struct rt_buf *body, size_t most_bytes, struct http_messages *ret,
			struct rt_status *status)
{
	size_t capacity = 0;

	rt_buf_add(body, "", 0);
	rt_buf_add(&ret->own, "", 0);
	if (format->base64 && !decode_base64(body))
		return refuse(status, RT_CODE_INVALID_ARGUMENT, "the body is not base64");
	if (format->protocol == HTTP_CONNECT)
		add_message(ret, &capacity, body->data, body->length);
	else if (!split_envelopes(body, most_bytes, ret, status))
		return false;
	return !format->json || read_jsons(type, most_bytes, ret, status);
}

void http_messages_done(struct http_messages *messages)
{
	rt_buf_done(&messages->own);
	free(messages->list);
	messages->list = NULL;
	messages->count = 0;
}

/* ---- what goes ---- */

static void write_json(json_t *json, struct rt_buf *to)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);

	rt_buf_add(to, text == NULL ? "null" : text, text == NULL ? 4 : strlen(text));
	free(text);
	json_decref(json);
}

static void add_base64(struct rt_buf *to, const void *data, size_t length)
{
	char *text = rt_alloc((length + 2) / 3 * 4 + 1);
	int written = EVP_EncodeBlock((unsigned char *)text, data, (int)length);

	rt_buf_add(to, text, (size_t)written);
	free(text);
}

static void write_envelope(const struct http_format *format, uint8_t flags,
			   const struct rt_buf *content, struct rt_buf *to)
{
	size_t length = content->length;
	const uint8_t head[ENVELOPE_BYTES] = { flags, (uint8_t)(length >> 24),
					       (uint8_t)(length >> 16), (uint8_t)(length >> 8),
					       (uint8_t)length };
	struct rt_buf plain = { 0 };

	if (!format->base64) {
		rt_buf_add(to, head, sizeof(head));
		rt_buf_add(to, content->data, length);
		return;
	}
	rt_buf_add(&plain, head, sizeof(head));
	rt_buf_add(&plain, content->data, length);
	add_base64(to, plain.data, plain.length);
	rt_buf_done(&plain);
}

bool http_message_write(const struct http_format *format, const ProtobufCMessageDescriptor *type,
			const struct rt_buf *message, struct rt_buf *to)
{
	struct rt_buf text = { 0 };
	json_t *json = NULL;

	if (format->json) {
		json = rt_json_of_bytes(type, message->data, message->length, RT_JSON_MAPPING);
		if (json == NULL)
			return false;
		write_json(json, &text);
	}
	if (format->protocol == HTTP_CONNECT)
		rt_buf_add(to, format->json ? text.data : message->data,
			   format->json ? text.length : message->length);
	else
		write_envelope(format, 0, format->json ? &text : message, to);
	rt_buf_done(&text);
	return true;
}

/* "invalid_argument" */
static json_t *connect_code(int code)
{
	char text[32];

	if (code == RT_CODE_CANCELLED)
		return json_string("canceled");
	snprintf(text, sizeof(text), "%s", rt_code_name(code));
	for (char *at = text; *at != '\0'; at++)
		*at = (char)tolower((unsigned char)*at);
	return json_string(text);
}

static json_t *detail_json(const Google__Protobuf__Any *any)
{
	const char *slash = strrchr(any->type_url, '/');
	const char *name = slash == NULL ? any->type_url : slash + 1;
	const ProtobufCMessageDescriptor *type = rt_json_detail_type(name);
	struct rt_buf value = { 0 };
	json_t *json = json_object(), *debug = NULL;

	add_base64(&value, any->value.data, any->value.len);
	while (value.length > 0 && value.data[value.length - 1] == '=')
		value.length--;
	json_object_set_new(json, "type", rt_json_string(name, strlen(name)));
	json_object_set_new(json, "value",
			    json_stringn(value.data == NULL ? "" : value.data, value.length));
	if (type != NULL)
		debug = rt_json_of_bytes(type, any->value.data, any->value.len, RT_JSON_MAPPING);
	if (debug != NULL)
		json_object_set_new(json, "debug", debug);
	rt_buf_done(&value);
	return json;
}

static json_t *error_json(const struct rt_status *status)
{
	Google__Rpc__Status *proto = rt_status_to_proto(status);
	json_t *json = json_object(), *details = json_array();

	json_object_set_new(json, "code", connect_code(status->code));
	if (status->message != NULL && status->message[0] != '\0')
		json_object_set_new(json, "message",
				    rt_json_string(status->message, strlen(status->message)));
	for (size_t i = 0; proto != NULL && i < proto->n_details; i++)
		json_array_append_new(details, detail_json(proto->details[i]));
	if (json_array_size(details) > 0)
		json_object_set(json, "details", details);
	json_decref(details);
	if (proto != NULL)
		google__rpc__status__free_unpacked(proto, NULL);
	return json;
}

/* As gRPC writes it: what is not plain as %XX. */
static void add_percent(struct rt_buf *to, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text >= ' ' && *text <= '~' && *text != '%')
			rt_buf_add(to, text, 1);
		else
			rt_buf_printf(to, "%%%02X", (unsigned int)(uint8_t)*text);
	}
}

static void write_trailers(const struct rt_status *status, struct rt_buf *to)
{
	rt_buf_printf(to, "grpc-status: %d\r\n", status->code);
	if (status->message != NULL && status->message[0] != '\0') {
		rt_buf_printf(to, "grpc-message: ");
		add_percent(to, status->message);
		rt_buf_printf(to, "\r\n");
	}
	if (status->details != NULL) {
		rt_buf_printf(to, "grpc-status-details-bin: ");
		add_base64(to, status->details, status->details_length);
		rt_buf_printf(to, "\r\n");
	}
}

void http_end_write(const struct http_format *format, const struct rt_status *status,
		    struct rt_buf *to)
{
	struct rt_buf text = { 0 };
	json_t *json;

	if (format->protocol == HTTP_GRPC_WEB) {
		write_trailers(status, &text);
	} else {
		json = json_object();
		if (status->code != 0)
			json_object_set_new(json, "error", error_json(status));
		write_json(json, &text);
	}
	write_envelope(format, format->protocol == HTTP_GRPC_WEB ? FLAG_TRAILERS : FLAG_CONNECT_END,
		       &text, to);
	rt_buf_done(&text);
}

unsigned int http_error_write(const struct rt_status *status, struct rt_buf *to)
{
	/* As the Connect protocol has it, by code. */
	static const unsigned int statuses[] = { 200, 499, 500, 400, 504, 404, 409, 403, 429,
						 400, 409, 400, 501, 500, 503, 500, 401 };

	write_json(error_json(status), to);
	if (status->code < 0 || (size_t)status->code >= RT_LENGTH(statuses))
		return 500;
	return statuses[status->code];
}
