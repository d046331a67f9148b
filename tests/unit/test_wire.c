/* The check of protobuf bytes: it names the fault that protobuf-c would ignore or fail on. */
#include <google/protobuf/descriptor.pb-c.h>
#include <string.h>
#include <tandem/order/v1/order_service.pb-c.h>

#include "base/base.h"
#include "run.h"

#define PLACE &tandem__order__v1__place_order_request__descriptor
#define BATCH &tandem__order__v1__batch_place_orders_request__descriptor
#define PATHS &google__protobuf__source_code_info__location__descriptor
#define CUT   "is malformed or cut off"
#define BAD   "is not valid UTF-8"

struct row {
	const char *why;
	const ProtobufCMessageDescriptor *descriptor;
	const char *bytes;
	size_t length;
	const char *what; /* NULL: fine */
	const char *field;
};
#define BYTES(s) s, sizeof(s) - 1

static const struct row rows[] = {
	{ "nothing is an empty message", PLACE, BYTES(""), NULL, NULL },
	{ "a string", PLACE, BYTES("\x12\003bob"), NULL, NULL },
	{ "UTF-8", PLACE, BYTES("\x12\x05\xe2\x82\xac\xc3\xa4"), NULL, NULL },
	{ "lines", PLACE, BYTES("\x1a\x07\x0a\x03pea\x10\x02\x1a\x02\x10\x01"), NULL, NULL },
	{ "unknown fields of every wire type", PLACE,
	  BYTES("\xa0\x06\x01\xa1\00612345678\xa2\x06\x02\xff\x00\xa5\0061234"), NULL, NULL },
	{ "packed numbers", PATHS, BYTES("\x0a\x03\x01\xff\x01"), NULL, NULL },
	{ "numbers one by one where packed is declared", PATHS, BYTES("\x08\x01\x08\x02"), NULL,
	  NULL },
	{ "a varint of ten bytes", PLACE, BYTES("\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	  NULL, NULL },

	{ "a NUL cuts a C string", PLACE, BYTES("\x12\003b\0b"), "holds a NUL character",
	  "customer_id" },
	{ "not UTF-8", PLACE, BYTES("\x12\x02\xc3\x28"), BAD, "customer_id" },
	{ "a surrogate", PLACE, BYTES("\x12\x03\xed\xa0\x80"), BAD, "customer_id" },
	{ "overlong", PLACE, BYTES("\x12\x02\xc0\xaf"), BAD, "customer_id" },
	{ "a character cut off", PLACE, BYTES("\x12\x02\xe2\x82"), BAD, "customer_id" },
	{ "the second line's sku", PLACE, BYTES("\x1a\x02\x10\x01\x1a\x03\x0a\x01\xff"), BAD,
	  "lines[1].sku" },
	{ "a map's value", PLACE, BYTES("\x22\x06\x0a\x01k\x12\x01\x00"), "holds a NUL character",
	  "labels[0].value" },
	{ "two levels of repeated", BATCH,
	  BYTES("\x0a\x00\x0a\x00\x0a\x09\x1a\x02\x10\x01\x1a\x03\x0a\x01\xff"), BAD,
	  "requests[2].lines[1].sku" },
	{ "cut in the tag", PLACE, BYTES("\x92"), CUT, "" },
	{ "cut in the length", PLACE, BYTES("\x12\x80"), CUT, "" },
	{ "longer than it is", PLACE, BYTES("\x12\005bob"), CUT, "" },
	{ "a length beyond all bounds", PLACE,
	  BYTES("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), CUT, "" },
	{ "cut in a line", PLACE, BYTES("\x1a\x02\x0a\x05"), CUT, "lines[0]" },
	{ "a varint of eleven bytes", PLACE,
	  BYTES("\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), CUT, "" },
	{ "a varint without an end", PLACE, BYTES("\x30\xff"), CUT, "" },
	{ "field number 0", PLACE, BYTES("\x02\x00"), CUT, "" },
	{ "field number 2^29", PLACE, BYTES("\x82\x80\x80\x80\x10\x00"), CUT, "" },
	{ "a group", PLACE, BYTES("\x0b\x0c"), CUT, "" },
	{ "wire type 7", PLACE, BYTES("\x0f\x01"), CUT, "" },
	{ "fixed64 cut off", PLACE, BYTES("\xa1\0061234567"), CUT, "" },
	{ "fixed32 cut off", PLACE, BYTES("\xa5\006123"), CUT, "" },
	{ "a number where a string belongs", PLACE, BYTES("\x10\x01"), "has the wrong wire type",
	  "customer_id" },
	{ "a string where a number belongs", PLACE, BYTES("\x32\x01\x01"),
	  "has the wrong wire type", "wait_for_decision" },
	{ "packed numbers cut off", PATHS, BYTES("\x0a\x02\x01\xff"),
	  "holds malformed packed numbers", "path[0]" },
};

static void test_table(void)
{
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const struct row *row = &rows[i];
		const uint8_t *bytes = (const uint8_t *)row->bytes;
		struct rt_wire_fault fault;
		bool fine = rt_wire_check(row->descriptor, bytes, row->length, &fault);
		bool right = fine == (row->what == NULL);

		if (!fine && row->what != NULL)
			right = strcmp(fault.what, row->what) == 0 &&
				strcmp(fault.field, row->field) == 0;
		TEST_ROW(right, row->why);
		/* protobuf-c must be able to unpack what passes the check. */
		if (fine) {
			ProtobufCMessage *message = protobuf_c_message_unpack(row->descriptor, NULL,
									      row->length, bytes);

			CU_ASSERT_PTR_NOT_NULL(message);
			protobuf_c_message_free_unpacked(message, NULL);
		}
	}
}

/* DescriptorProto holds itself (field 3), so it can be nested at will. */
static void test_depth(void)
{
	uint8_t bytes[2 * 100];
	struct rt_wire_fault fault;

	for (int depth = 1; depth <= 40; depth++) {
		size_t length = (size_t)(depth - 1) * 2;

		for (size_t i = 0; i < length; i += 2) {
			bytes[i] = 3 << 3 | 2;
			bytes[i + 1] = (uint8_t)(length - i - 2);
		}
		CU_ASSERT_EQUAL(rt_wire_check(&google__protobuf__descriptor_proto__descriptor,
					      bytes, length, &fault),
				depth <= RT_WIRE_DEPTH_MAX);
	}
	CU_ASSERT_STRING_EQUAL(fault.what, "is nested too deep");
	/* The path is cut, not overrun. */
	CU_ASSERT(strlen(fault.field) < sizeof(fault.field));
	CU_ASSERT_EQUAL(strncmp(fault.field, "nested_type[0].nested_type[0]", 29), 0);
}

static void test_field_count(void)
{
	size_t length = ((size_t)RT_WIRE_FIELDS_MAX + 1) * 2;
	uint8_t *bytes = rt_alloc(length);
	struct rt_wire_fault fault;

	for (size_t i = 0; i < length; i += 2)
		bytes[i] = 1 << 3 | 2;
	CU_ASSERT_TRUE(rt_wire_check(BATCH, bytes, length - 2, &fault));
	CU_ASSERT_FALSE(rt_wire_check(BATCH, bytes, length, &fault));
	CU_ASSERT_STRING_EQUAL(fault.what, "has too many fields");
	free(bytes);
}

/* Every byte of a good message changed to every value: protobuf-c unpacks what passes the check, and
 * the check refuses what protobuf-c refuses. */
static void test_agrees_with_protobuf_c(void)
{
	static const char good[] =
		"\x0a\x01r\x12\003bob\x1a\x07\x0a\x03pea\x10\x02\x22\x06\x0a\x01k\x12\x01v"
		"\x2a\x02\x08\x05\x30\x01";
	uint8_t bytes[sizeof(good) - 1];
	int passed = 0;

	for (size_t i = 0; i < sizeof(bytes); i++) {
		for (int value = 0; value < 256; value++) {
			struct rt_wire_fault fault;
			ProtobufCMessage *message;

			memcpy(bytes, good, sizeof(bytes));
			bytes[i] = (uint8_t)value;
			if (!rt_wire_check(PLACE, bytes, sizeof(bytes), &fault))
				continue;
			passed++;
			message = protobuf_c_message_unpack(PLACE, NULL, sizeof(bytes), bytes);
			CU_ASSERT_PTR_NOT_NULL(message);
			protobuf_c_message_free_unpacked(message, NULL);
		}
	}
	CU_ASSERT(passed > 1000);
}

static const struct test tests[] = {
	{ "each fault is named", test_table },
	{ "nesting ends at the limit", test_depth },
	{ "fields end at the limit", test_field_count },
	{ "what passes can be unpacked", test_agrees_with_protobuf_c },
};

TESTS_MAIN("wire", tests)
