/* wire.c - walks protobuf bytes along a descriptor and says what is wrong with them.
 *
 * One pass, no allocation. A message is a row of records: a varint tag (field number, wire type)
 * and a value whose length follows from the wire type. Fields that the descriptor knows are checked (strings,
 * sub-messages, packed numbers), unknown ones are skipped; groups are refused, as protobuf-c does.
 *
 * The path of the field at fault is built only when there is a fault, from the inside out: each level,
 * as it returns, puts its field's name in front. The index of a repeated field is then counted by
 * reading the level's records again. */
#include "wire.h"

#include <stdio.h>
#include <string.h>

#include "text.h"

struct walk {
	struct rt_wire_fault *fault;
	size_t fields;
};

/* At most 10 bytes; the bits above 64 are dropped, as everyone does. */
static bool read_varint(struct rt_wire_cursor *cursor, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t byte;

		if (cursor->at == cursor->end)
			return false;
		byte = *cursor->at++;
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret = value;
			return true;
		}
	}
	return false;
}

static bool skip(struct rt_wire_cursor *cursor, uint64_t length)
{
	if (length > (uint64_t)(cursor->end - cursor->at))
		return false;
	cursor->at += length;
	return true;
}

bool rt_wire_read(struct rt_wire_cursor *cursor, struct rt_wire_record *ret)
{
	const uint8_t *start = cursor->at;
	uint64_t tag, n;

	if (!read_varint(cursor, &tag))
		return false;
	/* Field numbers have 29 bits and begin at 1; a tag takes 5 bytes at most. */
	if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff || cursor->at - start > 5)
		return false;
	ret->number = (uint32_t)(tag >> 3);
	ret->wire = (unsigned)(tag & 7);
	ret->value = cursor->at;
	switch (ret->wire) {
	case RT_WIRE_VARINT:
		if (!read_varint(cursor, &ret->varint))
			return false;
		break;
	case RT_WIRE_FIXED64:
		if (!skip(cursor, 8))
			return false;
		break;
	case RT_WIRE_FIXED32:
		if (!skip(cursor, 4))
			return false;
		break;
	case RT_WIRE_LENGTH:
		if (!read_varint(cursor, &n))
			return false;
		ret->value = cursor->at;
		if (!skip(cursor, n))
			return false;
		break;
	default: /* groups, and the two that do not exist */
		return false;
	}
	ret->length = (size_t)(cursor->at - ret->value);
	return true;
}

static unsigned wire_type_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return RT_WIRE_FIXED32;
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return RT_WIRE_FIXED64;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return RT_WIRE_LENGTH;
	default:
		return RT_WIRE_VARINT;
	}
}

/* Puts "name." or "name[index]." in front of the path; cuts what does not fit at its end. */
static void prepend(struct rt_wire_fault *fault, const char *name, long index)
{
	char inner[sizeof(fault->field)];
	const char *dot = fault->field[0] != '\0' ? "." : "";

	memcpy(inner, fault->field, sizeof(inner));
	if (index < 0)
		snprintf(fault->field, sizeof(fault->field), "%.64s%s%.62s", name, dot, inner);
	else
		snprintf(fault->field, sizeof(fault->field), "%.48s[%ld]%s%.56s", name, index, dot,
			 inner);
}

/* The index of the one at `value` among the fields `number`. */
static long index_of(const uint8_t *data, const uint8_t *end, uint32_t number, const uint8_t *value)
{
	struct rt_wire_cursor cursor = { data, end };
	struct rt_wire_record record;
	long index = 0;

	while (cursor.at < end && rt_wire_read(&cursor, &record) && record.value != value) {
		if (record.number == number)
			index++;
	}
	return index;
}

static bool refuse(struct walk *walk, const char *what)
{
	walk->fault->what = what;
	return false;
}

/* The length must be that of whole numbers. */
static bool packed_fine(ProtobufCType type, const struct rt_wire_record *record)
{
	struct rt_wire_cursor cursor = { record->value, record->value + record->length };
	uint64_t ignored;

	switch (wire_type_of(type)) {
	case RT_WIRE_FIXED32:
		return record->length % 4 == 0;
	case RT_WIRE_FIXED64:
		return record->length % 8 == 0;
	default:
		while (cursor.at < cursor.end) {
			if (!read_varint(&cursor, &ignored))
				return false;
		}
		return true;
	}
}

static bool check_message(struct walk *walk, const ProtobufCMessageDescriptor *descriptor,
			  const uint8_t *data, size_t length, int depth);

static bool check_field(struct walk *walk, const ProtobufCFieldDescriptor *field,
			const struct rt_wire_record *record, int depth)
{
	unsigned expected = wire_type_of(field->type);

	if (record->wire != expected) {
		/* A sender may pack numbers, however they are declared. */
		if (record->wire != RT_WIRE_LENGTH || field->label != PROTOBUF_C_LABEL_REPEATED)
			return refuse(walk, "has the wrong wire type");
		if (!packed_fine(field->type, record))
			return refuse(walk, "holds malformed packed numbers");
		return true;
	}
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		if (rt_utf8_valid(record->value, record->length))
			return true;
		return refuse(walk, memchr(record->value, 0, record->length) != NULL
					    ? "holds a NUL character"
					    : "is not valid UTF-8");
	case PROTOBUF_C_TYPE_MESSAGE:
		if (depth == RT_WIRE_DEPTH_MAX)
			return refuse(walk, "is nested too deep");
		return check_message(walk, field->descriptor, record->value, record->length,
				     depth + 1);
	default:
		return true;
	}
}

/* Mostly the fields have the numbers from 1 on. */
static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessageDescriptor *descriptor,
						uint32_t number)
{
	if (number >= 1 && number <= descriptor->n_fields &&
	    descriptor->fields[number - 1].id == number)
		return &descriptor->fields[number - 1];
	return protobuf_c_message_descriptor_get_field(descriptor, number);
}

static bool check_message(struct walk *walk, const ProtobufCMessageDescriptor *descriptor,
			  const uint8_t *data, size_t length, int depth)
{
	struct rt_wire_cursor cursor = { data, data + length };
	const ProtobufCFieldDescriptor *field = NULL;
	struct rt_wire_record record;

	while (cursor.at < cursor.end) {
		if (!rt_wire_read(&cursor, &record))
			return refuse(walk, "is malformed or cut off");
		if (++walk->fields > RT_WIRE_FIELDS_MAX)
			return refuse(walk, "has too many fields");
		/* Repeated fields are adjacent: mostly it is the field found last. */
		if (field == NULL || field->id != record.number)
			field = field_of(descriptor, record.number);
		if (field == NULL || check_field(walk, field, &record, depth))
			continue;
		prepend(walk->fault, field->name,
			field->label != PROTOBUF_C_LABEL_REPEATED
				? -1
				: index_of(data, cursor.end, record.number, record.value));
		return false;
	}
	return true;
}

bool rt_wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t length,
		   struct rt_wire_fault *fault)
{
	struct walk walk = { .fault = fault };

	fault->field[0] = '\0';
	fault->what = NULL;
	return check_message(&walk, descriptor, data, length, 1);
}
