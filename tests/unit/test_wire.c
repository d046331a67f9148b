/* The check of protobuf bytes: what protobuf-c would swallowor fail on, is named. */
#include <CUnit/Basic.h>
#include <google/protobuf/descriptor.pb-c.h>
#include <string.h>
#include <tandem/order/v1/order_service.pb-c.h>

#include "base/base.h"

#define PLACE  &tandem__order__v1__place_order_request__descriptor
#define BATCH  &tandem__order__v1__batch_place_orders_request__descriptor
#define SOURCE &google__protobuf__source_code_info__descriptor

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
	{ "a string", PLACE,
	  BYTES("\x12\x03"
		"bob"),
	  NULL, NULL },
	{ "UTF-8", PLACE, BYTES("\x12\x05\xe2\x82\xac\xc3\xa4"), NULL, NULL },
	{ "lines", PLACE, BYTES("\x1a\x07\x0a\x03pea\x10\x02\x1a\x02\x10\x01"), NULL, NULL },
	{ "unknown fields of every wire type", PLACE,
	  BYTES("\xa0\x06\x01\xa1\x06"
		"12345678\xa2\x06\x02\xff\x00\xa5\x06"
		"1234"),
	  NULL, NULL },
	{ "packed numbers", &google__protobuf__source_code_info__location__descriptor,
	  BYTES("\x0a\x03\x01\xff\x01"), NULL, NULL },
	{ "numbers one by one where packed is declared",
	  &google__protobuf__source_code_info__location__descriptor, BYTES("\x08\x01\x08\x02"),
	  NULL, NULL },
	{ "a varint of ten bytes", PLACE, BYTES("\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	  NULL, NULL },

	{ "a NUL cuts a C string", PLACE,
	  BYTES("\x12\x03"
		"b\0b"),
	  "holds a NUL character", "customer_id" },
	{ "no UTF-8", PLACE, BYTES("\x12\x02\xc3\x28"), "is not valid UTF-8", "customer_id" },
	{ "a surrogate", PLACE, BYTES("\x12\x03\xed\xa0\x80"), "is not valid UTF-8",
	  "customer_id" },
	{ "overlong", PLACE, BYTES("\x12\x02\xc0\xaf"), "is not valid UTF-8", "customer_id" },
	{ "a character cut off", PLACE, BYTES("\x12\x02\xe2\x82"), "is not valid UTF-8",
	  "customer_id" },
	{ "the second line's sku", PLACE, BYTES("\x1a\x02\x10\x01\x1a\x03\x0a\x01\xff"),
	  "is not valid UTF-8", "lines[1].sku" },
	{ "a map's value", PLACE, BYTES("\x22\x06\x0a\x01k\x12\x01\x00"), "holds a NUL character",
	  "labels[0].value" },
	{ "two levels of repeated", BATCH,
	  BYTES("\x0a\x00\x0a\x00\x0a\x09\x1a\x02\x10\x01\x1a\x03\x0a\x01\xff"),
	  "is not valid UTF-8", "requests[2].lines[1].sku" },
	{ "cut in the tag", PLACE, BYTES("\x92"), "is malformed or cut off", "" },
	{ "cut in the length", PLACE, BYTES("\x12\x80"), "is malformed or cut off", "" },
	{ "longer than it is", PLACE,
	  BYTES("\x12\x05"
		"bob"),
	  "is malformed or cut off", "" },
	{ "a length beyond all bounds", PLACE,
	  BYTES("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "is malformed or cut off", "" },
	{ "cut in a line", PLACE, BYTES("\x1a\x02\x0a\x05"), "is malformed or cut off",
	  "lines[0]" },
	{ "a varint of eleven bytes", PLACE,
	  BYTES("\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "is malformed or cut off",
	  "" },
	{ "a varint without an end", PLACE, BYTES("\x30\xff"), "is malformed or cut off", "" },
	{ "field number 0", PLACE, BYTES("\x02\x00"), "is malformed or cut off", "" },
	{ "field number 2^29", PLACE, BYTES("\x82\x80\x80\x80\x10\x00"), "is malformed or cut off",
	  "" },
	{ "a group", PLACE, BYTES("\x0b\x0c"), "is malformed or cut off", "" },
	{ "wire type 7", PLACE, BYTES("\x0f\x01"), "is malformed or cut off", "" },
	{ "fixed64 cut off", PLACE,
	  BYTES("\xa1\x06"
		"1234567"),
	  "is malformed or cut off", "" },
	{ "fixed32 cut off", PLACE,
	  BYTES("\xa5\x06"
		"123"),
	  "is malformed or cut off", "" },
	{ "a number where a string belongs", PLACE, BYTES("\x10\x01"), "has the wrong wire type",
	  "customer_id" },
	{ "a string where a number belongs", PLACE, BYTES("\x32\x01\x01"),
	  "has the wrong wire type", "wait_for_decision" },
	{ "packed numbers cut off", &google__protobuf__source_code_info__location__descriptor,
	  BYTES("\x0a\x02\x01\xff"), "holds malformed packed numbers", "path[0]" },
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
		if (!right)
			printf("\n%s: %s %s\n", row->why, fine ? "fine" : fault.field,
			       fine ? "" : fault.what);
		CU_ASSERT(right);
		/* What passes, protobuf-c must be able to unpack. */
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

/* Every byte of a good message changed to every value: what passes the check, protobuf-c
 * unpacks; what protobuf-c refuses, so does the check. */
static void test_agrees_with_protobuf_c(void)
{
	static const char good[] = "\x0a\x01r\x12\x03"
				   "bob\x1a\x07\x0a\x03pea\x10\x02\x22\x06\x0a\x01k\x12\x01v"
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

int main(void)
{
	CU_pSuite suite;
	unsigned failures;

	CU_initialize_registry();
	suite = CU_add_suite("wire", NULL, NULL);
	CU_add_test(suite, "each fault is named", test_table);
	CU_add_test(suite, "nesting ends at the limit", test_depth);
	CU_add_test(suite, "fields end at the limit", test_field_count);
	CU_add_test(suite, "what passes can be unpacked", test_agrees_with_protobuf_c);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failures = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failures == 0 ? 0 : 1;
}
