/* Protobuf's JSON mapping, both ways: each kind of field, and everything that JSON may say and must not. */
#include <interop.pb-c.h>
#include <string.h>

#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "rpc/json.h"
#include "rpc/rpc.h"
#include "run.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define EVERY (&grpc__testing__every_kind__descriptor)

/* JSON → bytes → JSON; NULL: refused, and *fault says why. Freed by the caller. */
static char *again(const ProtobufCMessageDescriptor *type, const char *text,
		   struct rt_wire_fault *fault)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL), *back = NULL;
	struct rt_buf bytes = { 0 };
	char *printed = NULL;

	memset(fault, 0, sizeof(*fault));
	CU_ASSERT_PTR_NOT_NULL_FATAL(json);
	if (rt_json_to_bytes(type, json, &bytes, fault)) {
		back = rt_json_of_bytes(type, bytes.data, bytes.length, RT_JSON_MAPPING);
		CU_ASSERT_PTR_NOT_NULL_FATAL(back);
		printed = json_dumps(back, JSON_COMPACT | JSON_ENCODE_ANY);
		json_decref(back);
	}
	rt_buf_done(&bytes);
	json_decref(json);
	return printed;
}

static void every_kind_is_read_and_written(void)
{
	static const struct {
		const char *text, *expected; /* NULL: the same */
	} rows[] = {
		{ "{}", NULL },
		{ "{\"i32\":-2147483648,\"s32\":-1,\"sf32\":2147483647}", NULL },
		{ "{\"u32\":4294967295,\"f32\":1}", NULL },
		{ "{\"i64\":\"-9223372036854775808\",\"s64\":\"-1\",\"sf64\":"
		  "\"9223372036854775807\"}",
		  NULL },
		{ "{\"u64\":\"18446744073709551615\",\"f64\":\"1\"}", NULL },
		{ "{\"narrow\":0.5,\"wide\":-1e+300}",
		  "{\"narrow\":0.5,\"wide\":-1.0000000000000001e300}" },
		{ "{\"narrow\":\"NaN\",\"wide\":\"-Infinity\"}", NULL },
		{ "{\"wide\":\"1.5\",\"narrow\":\"Infinity\"}",
		  "{\"narrow\":\"Infinity\",\"wide\":1.5}" },
		{ "{\"yes\":true,\"kind\":\"COMPRESSABLE\"}", "{\"yes\":true}" },
		{ "{\"kind\":7}", NULL }, /* enums are open */
		{ "{\"text\":\"a\\\"b\",\"raw\":\"AP8=\"}", NULL },
		{ "{\"raw\":\"-_8\"}", "{\"raw\":\"+/8=\"}" },
		{ "{\"inner\":{}}", NULL },
		{ "{\"inner\":{\"value\":true},\"manyNumbers\":[0,1,-1],\"manyTexts\":[\"\",\"a\"]"
		  "}",
		  NULL },
		{ "{\"manyInner\":[{},{\"value\":true}],\"byName\":{\"\":{},\"a\":{\"value\":true}}"
		  "}",
		  NULL },
		{ "{\"firstOne\":\"\"}", NULL },
		{ "{\"secondOne\":{}}", NULL },
		/* Other spellings. */
		{ "{\"many_numbers\":[1]}", "{\"manyNumbers\":[1]}" },
		{ "{\"i32\":\"-7\",\"u32\":1.0,\"i64\":5,\"u64\":1e3}",
		  "{\"i32\":-7,\"u32\":1,\"i64\":\"5\",\"u64\":\"1000\"}" },
		{ "{\"i32\":\"1e3\",\"s32\":\"-2.0\",\"u64\":\"5E2\",\"i64\":\"-1.5e1\"}",
		  "{\"i32\":1000,\"s32\":-2,\"i64\":\"-15\",\"u64\":\"500\"}" },
		{ "{\"i32\":null,\"inner\":null,\"manyTexts\":null,\"byName\":null}", "{}" },
		{ "{\"firstOne\":null,\"secondOne\":{}}", "{\"secondOne\":{}}" },
	};
	struct rt_wire_fault fault;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *expected = rows[i].expected != NULL ? rows[i].expected : rows[i].text;
		char *found = again(EVERY, rows[i].text, &fault);

		TEST_ROW(found != NULL && strcmp(found, expected) == 0, rows[i].text);
		if (found == NULL || strcmp(found, expected) != 0)
			printf(" (%s; %s %s)", found, fault.field, fault.what);
		free(found);
	}
}

static void what_is_wrong_is_named(void)
{
	static const char i32[] = "is not a whole number from -2147483648 to 2147483647";
	static const char u32[] = "is not a whole number from 0 to 4294967295";
	static const char u64[] = "is not a whole number from 0 to 18446744073709551615";
	static const struct {
		const char *text, *field, *what;
	} rows[] = {
		{ "[]", "", "is not an object" },
		{ "null", "", "is not an object" },
		{ "{\"other\":1}", "other", "is no field of its message" },
		{ "{\"I32\":1}", "I32", "is no field of its message" },
		{ "{\"i32\":2147483648}", "i32", i32 },
		{ "{\"i32\":-2147483649}", "i32", i32 },
		{ "{\"i32\":1.5}", "i32", i32 },
		{ "{\"i32\":true}", "i32", i32 },
		{ "{\"i32\":\"\"}", "i32", i32 },
		{ "{\"i32\":\" 1\"}", "i32", i32 },
		{ "{\"i32\":\"1x\"}", "i32", i32 },
		{ "{\"i32\":\"+1\"}", "i32", i32 },
		{ "{\"i32\":\"1e\"}", "i32", i32 },
		{ "{\"i32\":\"e1\"}", "i32", i32 },
		{ "{\"i32\":\"1.5\"}", "i32", i32 },
		{ "{\"i32\":\"0x1\"}", "i32", i32 },
		{ "{\"i32\":\"1e400\"}", "i32", i32 },
		{ "{\"u32\":-1}", "u32", u32 },
		{ "{\"u64\":-1}", "u64", u64 },
		{ "{\"u64\":\"18446744073709551616\"}", "u64", u64 },
		{ "{\"u64\":1e17}", "u64", u64 }, /* a double does not say which */
		{ "{\"i64\":\"9223372036854775808\"}", "i64",
		  "is not a whole number from -9223372036854775808 to 9223372036854775807" },
		{ "{\"wide\":\"0x1\"}", "wide", "is not a number" },
		{ "{\"wide\":\"\"}", "wide", "is not a number" },
		{ "{\"wide\":[]}", "wide", "is not a number" },
		{ "{\"narrow\":1e300}", "narrow", "is too large" },
		{ "{\"yes\":\"true\"}", "yes", "is neither true nor false" },
		{ "{\"kind\":\"OTHER\"}", "kind", "is no name of its enum" },
		{ "{\"kind\":true}", "kind", "is neither a name nor a number of its enum" },
		{ "{\"text\":1}", "text", "is not a string" },
		{ "{\"raw\":\"a\"}", "raw", "is not a string in base64" },
		{ "{\"raw\":\"a b=\"}", "raw", "is not a string in base64" },
		{ "{\"raw\":\"AP8==\"}", "raw", "is not a string in base64" },
		{ "{\"raw\":1}", "raw", "is not a string in base64" },
		{ "{\"inner\":[]}", "inner", "is not an object" },
		{ "{\"inner\":{\"value\":1}}", "inner.value", "is neither true nor false" },
		{ "{\"manyNumbers\":{}}", "many_numbers", "is not a list" },
		{ "{\"manyNumbers\":[1,\"x\"]}", "many_numbers[1]", i32 },
		{ "{\"manyTexts\":[null]}", "many_texts[0]", "is null" },
		{ "{\"manyInner\":[{},{\"value\":1}]}", "many_inner[1].value",
		  "is neither true nor false" },
		{ "{\"byName\":[]}", "by_name", "is not an object" },
		{ "{\"byName\":{\"a\":null}}", "by_name.a", "is null" },
		{ "{\"byName\":{\"a\":{\"b\":1}}}", "by_name.a.b", "is no field of its message" },
		{ "{\"firstOne\":\"a\",\"secondOne\":{}}", "second_one",
		  "is there twice, or excludes another field that is there" },
		{ "{\"manyTexts\":[\"a\"],\"many_texts\":[\"b\"]}", "many_texts",
		  "is there twice, or excludes another field that is there" },
	};
	struct rt_wire_fault fault;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char *found = again(EVERY, rows[i].text, &fault);
		bool good = found == NULL && strcmp(fault.field, rows[i].field) == 0 &&
			    strcmp(fault.what, rows[i].what) == 0;

		TEST_ROW(good, rows[i].text);
		if (!good)
			printf(" (%s; %s %s)", found, fault.field, found == NULL ? fault.what : "");
		free(found);
	}
}

static void times(void)
{
	static const char timestamp[] =
		"is not a time as RFC 3339 has it, from 1970 to 9999, like 2026-11-23T01:02:03Z";
	static const char duration[] = "is not a duration in seconds, like \"90s\" or \"1.5s\"";
	static const struct {
		const ProtobufCMessageDescriptor *type;
		const char *text, *expected;
	} rows[] = {
		{ &google__protobuf__timestamp__descriptor, "2026-11-23T01:02:03Z",
		  "2026-11-23T01:02:03.000Z" },
		{ &google__protobuf__timestamp__descriptor, "2026-11-23T01:02:03.5+01:30",
		  "2026-11-22T23:32:03.500Z" },
		{ &google__protobuf__timestamp__descriptor, "2026-11-23T01:02:03.000000001Z",
		  "2026-11-23T01:02:03.000000001Z" },
		{ &google__protobuf__timestamp__descriptor, "1970-01-01T00:00:00Z",
		  "1970-01-01T00:00:00.000Z" },
		{ &google__protobuf__timestamp__descriptor, "2026-02-30T01:02:03Z", NULL },
		{ &google__protobuf__timestamp__descriptor, "2026-11-23 01:02:03Z", NULL },
		{ &google__protobuf__timestamp__descriptor, "2026-11-23T01:02:03", NULL },
		{ &google__protobuf__timestamp__descriptor, "2026-11-23T01:02:03.Z", NULL },
		{ &google__protobuf__timestamp__descriptor, "2026-11-23T01:02:03.0000000001Z",
		  NULL },
		{ &google__protobuf__timestamp__descriptor, "2026-11-23T01:02:03+24:00", NULL },
		{ &google__protobuf__timestamp__descriptor, "1970-01-01T00:00:00+01:00", NULL },
		{ &google__protobuf__timestamp__descriptor, "1969-12-31T23:59:59Z", NULL },
		{ &google__protobuf__duration__descriptor, "90s", "90s" },
		{ &google__protobuf__duration__descriptor, "1.5s", "1.500000000s" },
		{ &google__protobuf__duration__descriptor, "-0.000000001s", "-0.000000001s" },
		{ &google__protobuf__duration__descriptor, "-315576000000s", "-315576000000s" },
		{ &google__protobuf__duration__descriptor, "315576000001s", NULL },
		{ &google__protobuf__duration__descriptor, "1", NULL },
		{ &google__protobuf__duration__descriptor, "s", NULL },
		{ &google__protobuf__duration__descriptor, "1m", NULL },
		{ &google__protobuf__duration__descriptor, "--1s", NULL },
		{ &google__protobuf__duration__descriptor, "11111111111111111111s", NULL },
	};
	struct rt_wire_fault fault;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		bool is_time = rows[i].type == &google__protobuf__timestamp__descriptor;
		char *text = rt_printf("\"%s\"", rows[i].text);
		char *expected = rt_printf("\"%s\"", rows[i].expected);
		char *found = again(rows[i].type, text, &fault);

		TEST_ROW(rows[i].expected == NULL
				 ? found == NULL &&
					   strcmp(fault.what, is_time ? timestamp : duration) == 0
				 : found != NULL && strcmp(found, expected) == 0,
			 rows[i].text);
		free(text);
		free(expected);
		free(found);
	}
}

/* Whatever its type: nothing that is asked has one. */
static void an_any_is_not_taken(void)
{
	const ProtobufCMessageDescriptor *type = &google__rpc__status__descriptor;
	struct rt_wire_fault fault;
	char *found = again(type, "{\"code\":5,\"details\":[{}]}", &fault);

	CU_ASSERT_PTR_NULL(found);
	CU_ASSERT_STRING_EQUAL(fault.field, "details[0]");
	CU_ASSERT_STRING_EQUAL(fault.what, "is not taken in JSON");
	free(found);
}

/* An Any says which type it has. */
static void details_of_errors(void)
{
	struct rt_status status = { 0 };
	struct Google__Rpc__Status *proto;
	json_t *json;
	char *text;

	rt_status_set(&status, RT_CODE_INVALID_ARGUMENT, "no");
	rt_status_violation(&status, "sku", "is empty");
	proto = rt_status_to_proto(&status);
	json = rt_json_of_message(&proto->base, RT_JSON_MAPPING);
	text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	CU_ASSERT_STRING_EQUAL(
		text,
		"{\"code\":3,\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.BadRequest\","
		"\"fieldViolations\":[{\"description\":\"is "
		"empty\",\"field\":\"sku\"}]}],\"message\":\"no\"}");
	free(text);
	json_decref(json);
	google__rpc__status__free_unpacked(proto, NULL);
	rt_status_done(&status);
}

/* The path is cut, and nothing is written beyond it. */
static void a_long_path(void)
{
	struct rt_wire_fault fault;
	char text[700] = "{\"byName\":{\"";
	char *found;

	memset(text + strlen(text), 'a', 600);
	snprintf(text + 612, sizeof(text) - 612, "\":{\"value\":1}}}");
	found = again(EVERY, text, &fault);
	CU_ASSERT_PTR_NULL(found);
	CU_ASSERT(strncmp(fault.field, "by_name.aaaa", 12) == 0);
	CU_ASSERT(strlen(fault.field) < sizeof(fault.field));
	free(found);
}

static const struct test tests[] = {
	{ "every kind of field is read and written", every_kind_is_read_and_written },
	{ "what is wrong is named", what_is_wrong_is_named },
	{ "times and durations", times },
	{ "an Any is not taken", an_any_is_not_taken },
	{ "the details of errors", details_of_errors },
	{ "a long path", a_long_path },
};

TESTS_MAIN("json", tests)
