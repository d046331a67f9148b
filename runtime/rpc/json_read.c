/* json_read.c - JSON → the bytes of a message; see json.h.
 *
 *   message_bytes        an object: each member is a field
 *     field_bytes          one value, a list, or a map
 *       value_bytes          tag and value
 *         scalars in a table of what JSON may say for each type
 *
 * Bytes, not a message of protobuf-c: whoever takes calls takes bytes, and checks them. What is wrong is named where it
 * stands, "lines[3].sku": each level puts its own part in front as it returns. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "json_internal.h"

#define DURATION_SECONDS_MAX INT64_C(315576000000)
#define PART_MAX             64 /* bytes of a name that are shown */

struct reading {
	struct rt_buf *bytes;
	struct rt_wire_fault *fault;
	int depth;
};

static bool message_bytes(struct reading *reading, const ProtobufCMessageDescriptor *type,
			  const json_t *json);

static bool refuse(struct reading *reading, const char *what)
{
	reading->fault->field[0] = '\0';
	reading->fault->what = what;
	return false;
}

/* Puts a part of the path in front of what stands there; cuts what does not fit. False, for callers to return. */
static bool inside(struct reading *reading, const char *part)
{
	char *field = reading->fault->field, inner[sizeof(reading->fault->field)];
	char *shown = rt_text_shown(part, strnlen(part, PART_MAX));
	const char *between = field[0] != '\0' && field[0] != '[' ? "." : "";

	memcpy(inner, field, sizeof(inner));
	snprintf(field, sizeof(inner), "%.60s%s%.64s", shown, between, inner);
	free(shown);
	return false;
}

/* ---- bytes ---- */

static void put_varint(struct rt_buf *bytes, uint64_t value)
{
	uint8_t text[10];
	size_t length = 0;

	do {
		text[length++] = (uint8_t)((value & 0x7f) | (value >= 0x80 ? 0x80 : 0));
		value >>= 7;
	} while (value > 0);
	rt_buf_add(bytes, text, length);
}

static void put_tag(struct rt_buf *bytes, uint32_t number, unsigned int wire)
{
	put_varint(bytes, (uint64_t)number << 3 | wire);
}

static void put_block(struct rt_buf *bytes, uint32_t number, const void *data, size_t length)
{
	put_tag(bytes, number, 2);
	put_varint(bytes, length);
	rt_buf_add(bytes, data, length);
}

/* The lowest bytes, in the order of the wire. */
static void put_fixed(struct rt_buf *bytes, uint64_t value, size_t count)
{
	uint8_t text[8];

	for (size_t i = 0; i < count; i++)
		text[i] = (uint8_t)(value >> (8 * i));
	rt_buf_add(bytes, text, count);
}

/* ---- numbers ---- */

/* What a whole number may be; below 0: its two's complement. */
struct range {
	int64_t least;
	uint64_t most;
	const char *what;
};

static const struct range *range_of(ProtobufCType type)
{
	static const struct range
		i32 = { INT32_MIN, INT32_MAX,
			"is not a whole number from -2147483648 to 2147483647" },
		u32 = { 0, UINT32_MAX, "is not a whole number from 0 to 4294967295" },
		i64 = { INT64_MIN, INT64_MAX,
			"is not a whole number from -9223372036854775808 to 9223372036854775807" },
		u64 = { 0, UINT64_MAX, "is not a whole number from 0 to 18446744073709551615" };

	switch (type) {
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return &u32;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return &u64;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return &i64;
	default:
		return &i32;
	}
}

/* Decimal digits, perhaps behind a minus; nothing else. */
static bool text_number(const char *text, bool *ret_negative, uint64_t *ret)
{
	char *end = NULL;

	*ret_negative = *text == '-';
	text += *ret_negative;
	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

/* With a point or an exponent, too. strtod would take blanks, hexadecimal and names, as well. */
static bool text_real(const char *text, double *ret)
{
	char *end = NULL;

	if (*text == '\0' || strspn(text, "0123456789+-.eE") != strlen(text))
		return false;
	*ret = strtod(text, &end);
	return *end == '\0' && isfinite(*ret);
}

/* Its sign, and how large it is without that. "1e3" is one, too. */
static bool whole_number(const json_t *json, bool *ret_negative, uint64_t *ret)
{
	const char *text = json_string_value(json);
	double real;

	if (text != NULL && text_number(text, ret_negative, ret))
		return true;
	if (json_is_integer(json)) {
		json_int_t n = json_integer_value(json);

		*ret_negative = n < 0;
		*ret = n < 0 ? -(uint64_t)n : (uint64_t)n;
		return true;
	}
	if (text == NULL)
		real = json_is_real(json) ? json_real_value(json) : NAN;
	else if (!isdigit((unsigned char)text[*text == '-']) || !text_real(text, &real))
		return false;
	/* Beyond 2^53 a double does not say which number is meant. */
	if (!(fabs(real) <= 9007199254740992.0) || real != floor(real))
		return false;
	*ret_negative = real < 0;
	*ret = (uint64_t)fabs(real);
	return true;
}

static bool read_whole(struct reading *reading, ProtobufCType type, const json_t *json,
		       uint64_t *ret)
{
	const struct range *range = range_of(type);
	bool negative = false;
	uint64_t size = 0;

	if (!whole_number(json, &negative, &size) ||
	    size > (negative ? -(uint64_t)range->least : range->most))
		return refuse(reading, range->what);
	*ret = negative ? -size : size;
	return true;
}

static bool read_real(struct reading *reading, const json_t *json, double *ret)
{
	static const struct {
		const char *text;
		double value;
	} names[] = { { "NaN", NAN }, { "Infinity", INFINITY }, { "-Infinity", -INFINITY } };
	const char *text = json_string_value(json);

	if (text == NULL) {
		*ret = json_number_value(json);
		return json_is_number(json) || refuse(reading, "is not a number");
	}
	for (size_t i = 0; i < RT_LENGTH(names); i++) {
		if (strcmp(text, names[i].text) == 0) {
			*ret = names[i].value;
			return true;
		}
	}
	return text_real(text, ret) || refuse(reading, "is not a number");
}

static bool read_enum(struct reading *reading, const ProtobufCFieldDescriptor *field,
		      const json_t *json, uint64_t *ret)
{
	const char *name = json_string_value(json);
	const ProtobufCEnumValue *value;

	if (name == NULL) {
		if (!json_is_number(json))
			return refuse(reading, "is neither a name nor a number of its enum");
		return read_whole(reading, PROTOBUF_C_TYPE_INT32, json, ret);
	}
	value = protobuf_c_enum_descriptor_get_value_by_name(field->descriptor, name);
	if (value == NULL)
		return refuse(reading, "is no name of its enum");
	*ret = (uint64_t)(int64_t)value->value;
	return true;
}

static uint64_t zigzag(uint64_t value)
{
	return value << 1 ^ ((value >> 63) != 0 ? UINT64_MAX : 0);
}

/* ---- times ---- */

/* ".123" into nanoseconds; *at is moved behind it. Without a point: 0. */
static bool read_fraction(const char **at, int32_t *ret)
{
	int32_t nanos = 0, digits = 0;

	*ret = 0;
	if (**at != '.')
		return true;
	for ((*at)++; isdigit((unsigned char)**at) && digits < 9; (*at)++, digits++)
		nanos = nanos * 10 + (**at - '0');
	if (digits == 0)
		return false;
	for (; digits < 9; digits++)
		nanos *= 10;
	*ret = nanos;
	return true;
}

/* "Z", "+01:00" */
static bool read_zone(const char *at, int64_t *ret_seconds)
{
	int hours, minutes;

	*ret_seconds = 0;
	if (strcmp(at, "Z") == 0)
		return true;
	if ((at[0] != '+' && at[0] != '-') || strlen(at) != 6 || at[3] != ':' ||
	    !isdigit((unsigned char)at[1]) || !isdigit((unsigned char)at[2]) ||
	    !isdigit((unsigned char)at[4]) || !isdigit((unsigned char)at[5]))
		return false;
	hours = (at[1] - '0') * 10 + at[2] - '0';
	minutes = (at[4] - '0') * 10 + at[5] - '0';
	*ret_seconds = (at[0] == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return hours < 24 && minutes < 60;
}

static bool put_seconds(struct reading *reading, int64_t seconds, int32_t nanos)
{
	if (seconds != 0) {
		put_tag(reading->bytes, 1, 0);
		put_varint(reading->bytes, (uint64_t)seconds);
	}
	if (nanos != 0) {
		put_tag(reading->bytes, 2, 0);
		put_varint(reading->bytes, (uint64_t)(int64_t)nanos);
	}
	return true;
}

static bool timestamp_bytes(struct reading *reading, const json_t *json)
{
	static const char what[] =
		"is not a time as RFC 3339 has it, from 1970 to 9999, like 2026-11-23T01:02:03Z";
	const char *text = json_string_value(json), *at;
	char whole[RT_TIME_TEXT];
	int64_t ms, zone, seconds;
	int32_t nanos;

	if (text == NULL || strlen(text) < 20)
		return refuse(reading, what);
	snprintf(whole, sizeof(whole), "%.19s.000Z", text);
	at = text + 19;
	if (!rt_time_parse(whole, &ms) || !read_fraction(&at, &nanos) || !read_zone(at, &zone))
		return refuse(reading, what);
	seconds = ms / 1000 - zone;
	if (seconds < 0 || seconds > JSON_SECONDS_MAX)
		return refuse(reading, what);
	return put_seconds(reading, seconds, nanos);
}

static bool duration_bytes(struct reading *reading, const json_t *json)
{
	static const char what[] = "is not a duration in seconds, like \"90s\" or \"1.5s\"";
	const char *text = json_string_value(json), *at;
	char digits[16];
	uint64_t seconds;
	int32_t nanos;
	size_t length;
	bool negative, sign;

	if (text == NULL)
		return refuse(reading, what);
	negative = *text == '-';
	length = strspn(text + negative, "0123456789");
	if (length == 0 || length >= sizeof(digits))
		return refuse(reading, what);
	snprintf(digits, sizeof(digits), "%.*s", (int)length, text + negative);
	at = text + negative + length;
	if (!text_number(digits, &sign, &seconds) || !read_fraction(&at, &nanos) ||
	    strcmp(at, "s") != 0 || seconds > DURATION_SECONDS_MAX)
		return refuse(reading, what);
	return put_seconds(reading, negative ? -(int64_t)seconds : (int64_t)seconds,
			   negative ? -nanos : nanos);
}

/* ---- fields ---- */

static bool string_bytes(struct reading *reading, uint32_t number, const json_t *json)
{
	if (!json_is_string(json))
		return refuse(reading, "is not a string");
	put_block(reading->bytes, number, json_string_value(json), json_string_length(json));
	return true;
}

static bool binary_bytes(struct reading *reading, uint32_t number, const json_t *json)
{
	size_t length = json_string_length(json), decoded = 0;
	uint8_t *data;
	bool good;

	if (!json_is_string(json))
		return refuse(reading, "is not a string in base64");
	data = rt_alloc(RT_BASE64_DECODED(length));
	good = rt_base64_decode(json_string_value(json), length, data, &decoded);
	if (good)
		put_block(reading->bytes, number, data, decoded);
	free(data);
	return good || refuse(reading, "is not a string in base64");
}

static bool nested_bytes(struct reading *reading, const ProtobufCFieldDescriptor *field,
			 const json_t *json)
{
	struct rt_buf inner = { 0 }, *outer = reading->bytes;
	bool good;

	if (reading->depth == RT_WIRE_DEPTH_MAX)
		return refuse(reading, "is nested too deeply");
	reading->depth++;
	reading->bytes = &inner;
	good = message_bytes(reading, field->descriptor, json);
	reading->bytes = outer;
	reading->depth--;
	if (good)
		put_block(outer, field->id, inner.data, inner.length);
	rt_buf_done(&inner);
	return good;
}

static bool real_bytes(struct reading *reading, const ProtobufCFieldDescriptor *field,
		       const json_t *json)
{
	bool is_double = field->type == PROTOBUF_C_TYPE_DOUBLE;
	double real = 0;
	uint64_t bits = 0;
	float narrow;

	if (!read_real(reading, json, &real))
		return false;
	if (is_double) {
		memcpy(&bits, &real, sizeof(real));
	} else {
		uint32_t narrow_bits;

		narrow = (float)real;
		if (isfinite(real) && !isfinite(narrow))
			return refuse(reading, "is too large");
		memcpy(&narrow_bits, &narrow, sizeof(narrow));
		bits = narrow_bits;
	}
	put_tag(reading->bytes, field->id, is_double ? 1 : 5);
	put_fixed(reading->bytes, bits, is_double ? 8 : 4);
	return true;
}

static bool whole_bytes(struct reading *reading, const ProtobufCFieldDescriptor *field,
			const json_t *json)
{
	uint64_t value = 0;

	if (!(field->type == PROTOBUF_C_TYPE_ENUM ? read_enum(reading, field, json, &value)
						  : read_whole(reading, field->type, json, &value)))
		return false;
	switch (field->type) {
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
		put_tag(reading->bytes, field->id, 1);
		put_fixed(reading->bytes, value, 8);
		break;
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_SFIXED32:
		put_tag(reading->bytes, field->id, 5);
		put_fixed(reading->bytes, value, 4);
		break;
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SINT64:
		value = zigzag(value);
		/* fall through */
	default:
		put_tag(reading->bytes, field->id, 0);
		put_varint(reading->bytes, value);
	}
	return true;
}

static bool value_bytes(struct reading *reading, const ProtobufCFieldDescriptor *field,
			const json_t *json)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return string_bytes(reading, field->id, json);
	case PROTOBUF_C_TYPE_BYTES:
		return binary_bytes(reading, field->id, json);
	case PROTOBUF_C_TYPE_MESSAGE:
		return nested_bytes(reading, field, json);
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_DOUBLE:
		return real_bytes(reading, field, json);
	case PROTOBUF_C_TYPE_BOOL:
		if (!json_is_boolean(json))
			return refuse(reading, "is neither true nor false");
		put_tag(reading->bytes, field->id, 0);
		put_varint(reading->bytes, json_is_true(json));
		return true;
	default:
		return whole_bytes(reading, field, json);
	}
}

static bool list_bytes(struct reading *reading, const ProtobufCFieldDescriptor *field,
		       const json_t *json)
{
	char part[PART_MAX + 1];

	if (!json_is_array(json))
		return refuse(reading, "is not a list");
	for (size_t i = 0; i < json_array_size(json); i++) {
		const json_t *item = json_array_get(json, i);

		if (json_is_null(item) ? !refuse(reading, "is null")
				       : !value_bytes(reading, field, item)) {
			snprintf(part, sizeof(part), "[%zu]", i);
			return inside(reading, part);
		}
	}
	return true;
}

static bool entry_bytes(struct reading *reading, const ProtobufCFieldDescriptor *field,
			const char *key, const json_t *json)
{
	const ProtobufCMessageDescriptor *type = field->descriptor;
	struct rt_buf inner = { 0 }, *outer = reading->bytes;
	bool good;

	reading->bytes = &inner;
	put_block(&inner, type->fields[0].id, key, strlen(key));
	good = json_is_null(json) ? refuse(reading, "is null")
				  : value_bytes(reading, &type->fields[1], json);
	reading->bytes = outer;
	if (good)
		put_block(outer, field->id, inner.data, inner.length);
	rt_buf_done(&inner);
	return good || inside(reading, key);
}

static bool map_bytes(struct reading *reading, const ProtobufCFieldDescriptor *field,
		      const json_t *json)
{
	json_t *map = (json_t *)(uintptr_t)json; /* not changed */
	const char *key;
	json_t *value;

	if (!json_is_object(json))
		return refuse(reading, "is not an object");
	json_object_foreach(map, key, value)
	{
		if (!entry_bytes(reading, field, key, value))
			return false;
	}
	return true;
}

static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessageDescriptor *type,
						const char *name)
{
	char text[JSON_NAME_TEXT];

	for (unsigned int i = 0; i < type->n_fields; i++) {
		json_name(type->fields[i].name, text);
		if (strcmp(name, text) == 0 || strcmp(name, type->fields[i].name) == 0)
			return &type->fields[i];
	}
	return NULL;
}

/* Whether a member before this one is the same field by its other name, or another one of its oneof. */
static bool is_there(const ProtobufCMessageDescriptor *type, json_t *object, const char *until,
		     const ProtobufCFieldDescriptor *field)
{
	bool one_of = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
	const ProtobufCFieldDescriptor *other;
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		if (strcmp(key, until) == 0)
			return false;
		other = json_is_null(value) ? NULL : field_of(type, key);
		if (other != NULL &&
		    (other == field ||
		     (one_of && other->quantifier_offset == field->quantifier_offset &&
		      (other->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)))
			return true;
	}
	return false;
}

static bool field_bytes(struct reading *reading, const ProtobufCFieldDescriptor *field,
			const json_t *json)
{
	if (json_is_map(field))
		return map_bytes(reading, field, json);
	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return list_bytes(reading, field, json);
	return value_bytes(reading, field, json);
}

static bool message_bytes(struct reading *reading, const ProtobufCMessageDescriptor *type,
			  const json_t *json)
{
	json_t *object = (json_t *)(uintptr_t)json; /* not changed */
	const ProtobufCFieldDescriptor *field;
	const char *key;
	json_t *value;

	if (type == &google__protobuf__timestamp__descriptor)
		return timestamp_bytes(reading, json);
	if (type == &google__protobuf__duration__descriptor)
		return duration_bytes(reading, json);
	if (type == &google__protobuf__any__descriptor)
		return refuse(reading, "is not taken in JSON");
	if (!json_is_object(json))
		return refuse(reading, "is not an object");
	json_object_foreach(object, key, value)
	{
		field = field_of(type, key);
		if (field == NULL)
			refuse(reading, "is no field of its message");
		else if (json_is_null(value))
			continue;
		else if (is_there(type, object, key, field))
			refuse(reading, "is there twice, or excludes another field that is there");
		else if (field_bytes(reading, field, value))
			continue;
		return inside(reading, field != NULL ? field->name : key);
	}
	return true;
}

bool rt_json_to_bytes(const ProtobufCMessageDescriptor *type, const json_t *json,
		      struct rt_buf *bytes, struct rt_wire_fault *fault)
{
	struct reading reading = { .bytes = bytes, .fault = fault };

	return message_bytes(&reading, type, json);
}
