/* wire.h - checks protobuf bytes before protobuf-c unpacks them.
 *
 * protobuf-c 1.4.1 accepts invalid UTF-8, cuts strings at an embedded NUL and recurses without a
 * limit. rt_wire_check walks the bytes by the message's descriptor, without allocating, and
 * refuses what the specification of proto3 forbids or what we do not want to see:
 * malformed or truncated encoding, string fields that are not UTF-8 or hold a NUL byte, nesting
 * deeper than RT_WIRE_DEPTH_MAX, more than RT_WIRE_FIELDS_MAX fields.
 *
 * Source: protobuf.dev/programming-guides/encoding; UTF-8: RFC 3629. */
#ifndef RT_WIRE_H
#define RT_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "rt.h"

#define RT_WIRE_DEPTH_MAX  32
#define RT_WIRE_FIELDS_MAX 1000000

struct rt_wire_fault {
	char field[128];  /* path of the field at fault, "lines[3].sku"; "" : the message itself */
	const char *what; /* "is not valid UTF-8", … */
};
/* True when the bytes are fine; else *fault says what is not. */
bool rt_wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t length,
		   struct rt_wire_fault *fault);

/* A message field by field, for who needs few of them and no memory for it. */
enum rt_wire_type {
	RT_WIRE_VARINT = 0,
	RT_WIRE_FIXED64 = 1,
	RT_WIRE_LENGTH = 2,
	RT_WIRE_FIXED32 = 5
};
struct rt_wire_cursor {
	const uint8_t *at, *end;
};
struct rt_wire_record {
	uint32_t number;
	unsigned wire;
	uint64_t varint;      /* RT_WIRE_VARINT: its value */
	const uint8_t *value; /* RT_WIRE_LENGTH: what the length counts */
	size_t length;
};
/* Reads the record that is next, where at < end. False: it is malformed or cut off. */
bool rt_wire_read(struct rt_wire_cursor *cursor, struct rt_wire_record *ret);

#endif
