/* What tandemctl prints: messages as JSON and as text, tables, stream ids, the two sentences at the
 * end of an explanation; and the manual, help and completion made from the tables of commands. */
#include <string.h>

#include "ctl/commands.h"
#include "ctl/ctl.h"
#include "ctl/explain.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "run.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

/* ---- messages ---- */

/* Frees `json`. */
static bool json_is_text(json_t *json, const char *expected)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
	bool same = strcmp(text, expected) == 0;

	if (!same)
		printf("\n    is       %s\n    expected %s\n", text, expected);
	free(text);
	json_decref(json);
	return same;
}

/* The JSON of `message` as one line of text. */
static bool json_is(const ProtobufCMessage *message, bool defaults, const char *expected)
{
	return json_is_text(ctl_message_json(message, defaults), expected);
}

static void every_kind_of_field(void)
{
	Tandem__Order__V1__Order order = TANDEM__ORDER__V1__ORDER__INIT;
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT, *lines = &line;
	Tandem__Order__V1__Order__LabelsEntry label = TANDEM__ORDER__V1__ORDER__LABELS_ENTRY__INIT;
	Tandem__Order__V1__Order__LabelsEntry *labels = &label;
	Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	CU_ASSERT(json_is(&order.base, false, "{}"));
	CU_ASSERT(json_is(
		&order.base, true,
		"{\"order_id\":\"\",\"customer_id\":\"\",\"lines\":[],"
		"\"status\":\"ORDER_STATUS_UNSPECIFIED\",\"status_reason\":\"\","
		"\"shortages\":[],\"version\":0,\"settled\":false,\"labels\":{},\"returns\":[]}"));
	line.sku = (char *)"apple";
	line.quantity = 3000000000;
	label.key = (char *)"colour";
	label.value = (char *)"red \"and\" green";
	time.seconds = 1764000000;
	time.nanos = 123456789;
	order.lines = &lines;
	order.n_lines = 1;
	order.labels = &labels;
	order.n_labels = 1;
	order.create_time = &time;
	order.version = (1ULL << 53) + 1; /* exact, and a number */
	order.settled = true;
	order.status = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_REJECTED;
	CU_ASSERT(json_is(&order.base, false,
			  "{\"lines\":[{\"sku\":\"apple\",\"quantity\":3000000000}],"
			  "\"status\":\"ORDER_STATUS_REJECTED\","
			  "\"version\":9007199254740993,\"settled\":true,"
			  "\"create_time\":\"2025-11-24T16:00:00.123Z\","
			  "\"labels\":{\"colour\":\"red \\\"and\\\" green\"}}"));
	order.version =
		UINT64_MAX; /* more than JSON here has an integer for: rounded, and a number */
	{
		json_t *json = ctl_message_json(&order.base, false);

		CU_ASSERT(json_is_number(json_object_get(json, "version")));
		CU_ASSERT_EQUAL(json_number_value(json_object_get(json, "version")), 0x1p64);
		json_decref(json);
	}
	order.status = (Tandem__Order__V1__OrderStatus)77; /* from a newer server */
	order.n_lines = order.n_labels = 0;
	order.create_time = NULL;
	order.version = 0;
	CU_ASSERT(json_is(&order.base, false, "{\"status\":77,\"settled\":true}"));
}

static void signed_duration_and_oneof(void)
{
	Tandem__Inventory__V1__StockAdjusted adjusted = TANDEM__INVENTORY__V1__STOCK_ADJUSTED__INIT;
	Tandem__Order__V1__OrderContent content = TANDEM__ORDER__V1__ORDER_CONTENT__INIT;
	Tandem__Order__V1__PlaceOrderResult result = TANDEM__ORDER__V1__PLACE_ORDER_RESULT__INIT;
	Google__Protobuf__Duration hold = GOOGLE__PROTOBUF__DURATION__INIT;
	Google__Rpc__Status error = GOOGLE__RPC__STATUS__INIT;

	adjusted.delta = -5;
	CU_ASSERT(json_is(&adjusted.base, false, "{\"delta\":-5}"));
	hold.seconds = 90;
	content.hold = &hold;
	CU_ASSERT(json_is(&content.base, false, "{\"hold\":\"90s\"}"));
	hold.nanos = 500000000;
	CU_ASSERT(json_is(&content.base, false, "{\"hold\":\"90.500s\"}"));
	/* Of a oneof only the field that is set, also with defaults. */
	CU_ASSERT(json_is(&result.base, true, "{}"));
	error.code = 6;
	result.result_case = TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ERROR;
	result.error = &error;
	CU_ASSERT(json_is(&result.base, true,
			  "{\"error\":{\"code\":6,\"message\":\"\",\"details\":[]}}"));
}

static void details_and_bytes(void)
{
	static const struct {
		const char *bytes, *base64;
	} rows[] = { { "", "" },
		     { "f", "Zg==" },
		     { "fo", "Zm8=" },
		     { "foo", "Zm9v" },
		     { "foobar", "Zm9vYmFy" } };
	Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
	struct rt_status with_details = { 0 };
	Google__Rpc__Status *proto;

	rt_status_set(&with_details, RT_CODE_UNAVAILABLE, "away");
	rt_status_retry(&with_details, 1500);
	proto = rt_status_to_proto(&with_details);
	CU_ASSERT(json_is(&proto->base, false,
			  "{\"code\":14,\"message\":\"away\","
			  "\"details\":[{\"retry_delay\":\"1.500s\"}]}"));
	google__rpc__status__free_unpacked(proto, NULL);
	rt_status_done(&with_details);
	/* A detail of an unknown type is shown as type and bytes. */
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT, *list = &any;
		char expected[128];

		any.type_url = (char *)"type.googleapis.com/a.b.C";
		any.value.data = (uint8_t *)(uintptr_t)rows[i].bytes;
		any.value.len = strlen(rows[i].bytes);
		status.details = &list;
		status.n_details = 1;
		snprintf(expected, sizeof(expected),
			 "{\"details\":[{\"type_url\":\"type.googleapis.com/a.b.C\"%s%s%s}]}",
			 rows[i].base64[0] == '\0' ? "" : ",\"value\":\"", rows[i].base64,
			 rows[i].base64[0] == '\0' ? "" : "\"");
		TEST_ROW(json_is(&status.base, false, expected), rows[i].base64);
	}
}

static void packed_bytes(void)
{
	static const struct {
		const char *name, *type, *data;
		size_t length;
		const char *json; /* NULL: refused */
	} rows[] = {
		{ "empty", "tandem.order.v1.OrderReserved", "", 0, "{}" },
		{ "a string", "tandem.order.v1.OrderCancelled", "\x0a\x02no", 4,
		  "{\"reason\":\"no\"}" },
		{ "cut off", "tandem.order.v1.OrderCancelled", "\x0a\x05no", 4, NULL },
		{ "not UTF-8", "tandem.order.v1.OrderCancelled", "\x0a\x02\xff\xfe", 4, NULL },
		{ "a NUL", "tandem.order.v1.OrderCancelled", "\x0a\x02n\0", 4, NULL },
		{ "unknown type", "tandem.order.v9.OrderCancelled", "", 0, NULL },
		{ "no type", "", "", 0, NULL },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *why = NULL;
		json_t *json =
			ctl_bytes_json(rows[i].type, rows[i].data, rows[i].length, false, &why);

		if (rows[i].json == NULL)
			TEST_ROW(json == NULL && why != NULL, rows[i].name);
		else
			TEST_ROW(json != NULL && json_is_text(json, rows[i].json), rows[i].name);
	}
}

static void text_for_people(void)
{
	static const struct {
		const char *json, *line;
	} rows[] = {
		{ "{}", "" },
		{ "{\"a\":1,\"b\":\"two words\",\"c\":\"x\",\"d\":\"\"}",
		  "a=1 b=\"two words\" c=x d=\"\"" },
		{ "{\"lines\":[{\"sku\":\"a\",\"n\":1},{\"sku\":\"b\"}],\"in\":{\"t\":true}}",
		  "lines[sku=a n=1, sku=b] in{t=true}" },
		{ "{\"esc\":\"\\u001b[31m\"}", "esc=\"\\x1b[31m\"" },
		{ "{\"list\":[1,2.5,null,false]}", "list[1 2.5 - false]" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		json_t *json = json_loads(rows[i].json, JSON_DECODE_ANY, NULL);
		struct rt_buf line = { 0 };

		ctl_json_line(json, &line);
		rt_buf_add(&line, "", 1);
		TEST_ROW(strcmp(line.data, rows[i].line) == 0, rows[i].json);
		rt_buf_done(&line);
		json_decref(json);
	}
}

static void nothing_unprintable(void)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *shown;
	} rows[] = {
		{ "plain", 5, "plain" },
		{ "gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f" },
		{ "\x1b]0;x\x07", 6, "\\x1b]0;x\\x07" },
		{ "a\0b", 3, "a\\x00b" },
		{ "\xc3", 1, "\\xc3" },
		{ "\xff\xfe", 2, "\\xff\\xfe" },
		{ "\xc2\x9b", 2, "\\xc2\\x9b" }, /* CSI as one C1 character */
		{ "line\nline", 9, "line\\x0aline" },
		{ "\xe2\x80\xae"
		  "cba",
		  6,
		  "\\xe2\\x80\\xae"
		  "cba" }, /* from right to left */
		{ "a\xe2\x80\x8b"
		  "b",
		  5,
		  "a\\xe2\\x80\\x8b"
		  "b" },                                           /* a zero-width blank */
		{ "a\xe2\x80\xa8", 4, "a\\xe2\\x80\\xa8" },        /* a line's end */
		{ "\xf3\xa0\x81\x81", 4, "\\xf3\\xa0\\x81\\x81" }, /* a tag */
		{ "\xed\xa0\x80", 3, "\\xed\\xa0\\x80" },          /* half a pair */
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char *shown = rt_text_shown(rows[i].bytes, rows[i].length);

		TEST_ROW(strcmp(shown, rows[i].shown) == 0, rows[i].shown);
		free(shown);
	}
}

/* What a command prints with --json is pure ASCII, whatever is in it. */
static void json_is_ascii(void)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *line;
	} rows[] = {
		{ "plain", 5, "\"plain\"\n" },
		{ "a\0b", 3, "\"a\\u0000b\"\n" },
		{ "\x1b[2J", 4, "\"\\u001B[2J\"\n" },
		{ "\x7f", 1, "\"\\u007F\"\n" },
		{ "\xc2\x9b", 2, "\"\\u009B\"\n" },
		{ "gr\xc3\xbc\xc3\x9f", 6, "\"gr\\u00FC\\u00DF\"\n" },
		{ "\xe2\x80\xae", 3, "\"\\u202E\"\n" },
		{ "\xf3\xa0\x81\x81", 4, "\"\\uDB40\\uDC41\"\n" },
		{ "\xff", 1, "\"\\\\xff\"\n" }, /* no character: its bytes */
	};
	FILE *terminal = stdout;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char *text = NULL;
		size_t length = 0;

		stdout = open_memstream(&text, &length);
		ctl_json_print(rt_json_string(rows[i].bytes, rows[i].length));
		fclose(stdout);
		stdout = terminal;
		TEST_ROW(strcmp(text, rows[i].line) == 0, text);
		free(text);
	}
}

/* ---- replies ---- */

/* Bytes may hold NULs: a copy is as long as the original. */
static void replies_are_copied_whole(void)
{
	static const char bytes[] = "\0\0a\0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
	redisReply text = { .type = REDIS_REPLY_STRING,
			    .str = (char *)(uintptr_t)bytes,
			    .len = sizeof(bytes) };
	redisReply number = { .type = REDIS_REPLY_INTEGER, .integer = -7 };
	redisReply *elements[] = { &text, &number };
	const redisReply list = { .type = REDIS_REPLY_ARRAY, .elements = 2, .element = elements };
	redisReply *copy = ctl_reply_copy(&list);

	CU_ASSERT_EQUAL_FATAL(copy->elements, 2);
	CU_ASSERT_EQUAL_FATAL(copy->element[0]->len, sizeof(bytes));
	CU_ASSERT_EQUAL(memcmp(copy->element[0]->str, bytes, sizeof(bytes)), 0);
	CU_ASSERT_EQUAL(copy->element[0]->str[sizeof(bytes)], '\0');
	CU_ASSERT_EQUAL(copy->element[1]->integer, -7);
	freeReplyObject(copy);
}

/* ---- streams ---- */

static void stream_ids(void)
{
	static const struct {
		const char *text;
		bool good;
	} rows[] = {
		{ "1764000000123-17", true },
		{ "0-0", true },
		{ "1764000000123", false },
		{ "-1", false },
		{ "1-", false },
		{ "1-2x", false },
		{ "1-2-3", false },
		{ "", false },
		{ "18446744073709551615-18446744073709551615", true },
		{ "18446744073709551616-1", false },
		{ "99999999999999999999-1", false },
	};
	uint64_t ms = 0, n = 0;

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(ctl_stream_id(rows[i].text, &ms, &n) == rows[i].good, rows[i].text);
	CU_ASSERT(ctl_stream_id("12-34", &ms, &n) && ms == 12 && n == 34);
	CU_ASSERT(ctl_stream_id_compare("2-1", "10-1") < 0);
	CU_ASSERT(ctl_stream_id_compare("2-9", "2-10") < 0);
	CU_ASSERT(ctl_stream_id_compare("3-1", "2-10") > 0);
	CU_ASSERT(ctl_stream_id_compare("2-10", "2-10") == 0);
	CU_ASSERT(ctl_stream_id_compare("18446744073709551615-1", "2-10") > 0);
	CU_ASSERT_EQUAL(ctl_stream_id_ms("1764000000123-17"), 1764000000123);
	CU_ASSERT_EQUAL(ctl_stream_id_ms("18446744073709551615-1"), RT_TIME_MS_MAX);
	CU_ASSERT_EQUAL(ctl_stream_id_ms("x"), 0);
}

static redisReply text_reply(const char *text)
{
	return (redisReply){ .type = REDIS_REPLY_STRING,
			     .str = (char *)(uintptr_t)text,
			     .len = strlen(text) };
}

/* Reads the events of an entry of `count` fields and values, as a view of the arguments. */
static size_t read_events(const char *const *texts, size_t count, struct rt_arena *arena,
			  struct ctl_entry **ret)
{
	static redisReply values[32], fields, id, top, *list[32], *pair[2];

	for (size_t i = 0; i < count; i++) {
		values[i] = text_reply(texts[i]);
		list[i] = &values[i];
	}
	id = text_reply("5-6");
	fields = (redisReply){ .type = REDIS_REPLY_ARRAY, .elements = count, .element = list };
	pair[0] = &id;
	pair[1] = &fields;
	top = (redisReply){ .type = REDIS_REPLY_ARRAY, .elements = 2, .element = pair };
	return ctl_entry_read(&top, "order", 0, arena, ret);
}

static const struct ctl alone = { .partitions = 1 }, several = { .partitions = 8 };

/* An entry of one event. */
static bool read_entry(const char *const *texts, size_t count, struct rt_arena *arena,
		       struct ctl_entry *ret)
{
	struct ctl_entry *list;

	if (read_events(texts, count, arena, &list) != 1)
		return false;
	*ret = *list;
	return true;
}

static void entries(void)
{
	static const char *const event[] = {
		"id", "o/1",  "type",      "tandem.order.v1.OrderCancelled", "subject", "o", "seq",
		"1",  "data", "\x0a\x02no"
	};
	static const char *const elsewhere[] = { "context", "moon", "stream_id", "1-1" };
	static const char *const strange[] = { "no", "event", "\x1b[2J", "\xff" };
	struct rt_arena arena = { 0 };
	struct ctl_entry entry, *list;
	redisReply nil = { .type = REDIS_REPLY_NIL };
	redisReply nul = { .type = REDIS_REPLY_STRING, .str = (char *)(uintptr_t) "7\0x" };

	CU_ASSERT_FATAL(read_entry(event, RT_LENGTH(event), &arena, &entry));
	CU_ASSERT_STRING_EQUAL(ctl_short_type(entry.type), "OrderCancelled");
	CU_ASSERT_STRING_EQUAL(entry.attempt, "");
	CU_ASSERT(json_is_text(ctl_entry_json(&alone, &entry),
			       "{\"context\":\"order\",\"stream_id\":\"5-6\",\"event_id\":\"o/1\","
			       "\"type\":\"tandem.order.v1.OrderCancelled\",\"subject\":\"o\","
			       "\"seq\":1,\"data\":{\"reason\":\"no\",\"lines\":[]}}"));
	/* An entry that is not an event is shown, too. */
	CU_ASSERT_FATAL(read_entry(strange, RT_LENGTH(strange), &arena, &entry));
	CU_ASSERT_STRING_EQUAL(entry.type, "");
	CU_ASSERT(json_is_text(ctl_entry_json(&alone, &entry),
			       "{\"context\":\"order\",\"stream_id\":\"5-6\",\"no\":\"event\","
			       "\"\\\\x1b[2J\":\"\\\\xff\"}"));
	/* No field of an entry overrides where it is. */
	CU_ASSERT_FATAL(read_entry(elsewhere, RT_LENGTH(elsewhere), &arena, &entry));
	CU_ASSERT(json_is_text(ctl_entry_json(&alone, &entry),
			       "{\"context\":\"order\",\"stream_id\":\"5-6\","
			       "\"original_stream_id\":\"1-1\"}"));
	/* Of several partitions. */
	entry.partition = 5;
	CU_ASSERT(json_is_text(ctl_entry_json(&several, &entry),
			       "{\"context\":\"order\",\"stream_id\":\"5-6\","
			       "\"original_stream_id\":\"1-1\",\"partition\":5}"));
	/* Bytes with a NUL are not text. */
	nul.len = 3;
	CU_ASSERT_STRING_EQUAL(ctl_text(&nul, "otherwise"), "otherwise");
	nul.len = 1;
	CU_ASSERT_STRING_EQUAL(ctl_text(&nul, "otherwise"), "7");
	CU_ASSERT_EQUAL(ctl_number(&nul), 7);
	CU_ASSERT_EQUAL(ctl_entry_read(&nil, "order", 0, &arena, &list), 0);
	CU_ASSERT_EQUAL(ctl_entry_read(NULL, "order", 0, &arena, &list), 0);
	rt_arena_done(&arena);
}

/* Each event of an entry of several is shown as if it had its own entry. */
static void entries_of_many_events(void)
{
	static const char *const plain[] = { "tandem.order.v1.OrderReserved", "o/2 p/2", "time",
					     "2025-11-24T16:00:00.000Z" };
	static const char *const full[] = { "tandem.order.v1.OrderSettled",
					    "o/4",
					    "tandem.order.v1.OrderCancelled",
					    "p/3 q/7",
					    "time",
					    "2025-11-24T16:00:00.000Z",
					    "batch",
					    "\x0a\x00"
					    "\x0a\x04\x0a\x02no"
					    "\x0a\x00"
					    "\x12\x03\x01\x01\x03"
					    "\x1a\x00\x1a\x00\x1a\x03"
					    "0-1" };
	static const char *const damaged[] = { "tandem.order.v1.OrderReserved", "o/2", "batch",
					       "\x0a\xff" };
	static const struct {
		const char *id, *type, *seq, *attempt, *traceparent;
		size_t data_length;
	} expected[] = {
		{ "o/4", "OrderSettled", "4", "", "", 0 },
		{ "p/3", "OrderCancelled", "3", "", "", 4 },
		{ "q/7", "OrderCancelled", "7", "3", "0-1", 0 },
	};
	static redisReply values[8], fields, id, top, *list[8], *pair[2];
	struct rt_arena arena = { 0 };
	struct ctl_entry *events;

	CU_ASSERT_EQUAL_FATAL(read_events(plain, RT_LENGTH(plain), &arena, &events), 2);
	CU_ASSERT_STRING_EQUAL(events[0].id, "o/2");
	CU_ASSERT_EQUAL(events[1].index, 1);
	CU_ASSERT(json_is_text(ctl_entry_json(&alone, &events[1]),
			       "{\"context\":\"order\",\"stream_id\":\"5-6\",\"event_id\":\"p/2\","
			       "\"type\":\"tandem.order.v1.OrderReserved\",\"subject\":\"p\","
			       "\"seq\":2,\"time\":\"2025-11-24T16:00:00.000Z\",\"data\":{}}"));
	/* Its batch contains NULs. */
	for (size_t i = 0; i < RT_LENGTH(full); i++) {
		values[i] = text_reply(full[i]);
		list[i] = &values[i];
	}
	values[7].len = 2 + 6 + 2 + 5 + 2 + 2 + 5;
	id = text_reply("5-6");
	fields = (redisReply){ .type = REDIS_REPLY_ARRAY, .elements = 8, .element = list };
	pair[0] = &id;
	pair[1] = &fields;
	top = (redisReply){ .type = REDIS_REPLY_ARRAY, .elements = 2, .element = pair };
	CU_ASSERT_EQUAL_FATAL(ctl_entry_read(&top, "order", 0, &arena, &events), 3);
	for (size_t i = 0; i < RT_LENGTH(expected); i++) {
		TEST_ROW(strcmp(events[i].id, expected[i].id) == 0, expected[i].id);
		TEST_ROW(strcmp(ctl_short_type(events[i].type), expected[i].type) == 0,
			 expected[i].id);
		TEST_ROW(strcmp(events[i].seq, expected[i].seq) == 0, expected[i].id);
		TEST_ROW(strcmp(events[i].attempt, expected[i].attempt) == 0, expected[i].id);
		TEST_ROW(strcmp(events[i].traceparent, expected[i].traceparent) == 0,
			 expected[i].id);
		TEST_ROW(events[i].data_length == expected[i].data_length, expected[i].id);
		TEST_ROW(strcmp(events[i].time, "2025-11-24T16:00:00.000Z") == 0, expected[i].id);
	}
	/* An entry that cannot be split is shown as it is. */
	CU_ASSERT_EQUAL_FATAL(read_events(damaged, RT_LENGTH(damaged), &arena, &events), 1);
	CU_ASSERT(json_is_text(
		ctl_entry_json(&alone, &events[0]),
		"{\"context\":\"order\",\"stream_id\":\"5-6\","
		"\"tandem.order.v1.OrderReserved\":\"o/2\",\"batch\":\"\\\\x0a\\\\xff\"}"));
	rt_arena_done(&arena);
}

/* A stream keeps its order; in the same millisecond a cause comes before its effect. */
static void order_of_events(void)
{
	static const struct {
		const char *context, *stream_id, *type, *subject;
		size_t index;
	} rows[] = {
		/* As they are read: each stream with its newest first. */
		{ "order", "6-1", "tandem.order.v1.OrderConfirmed", "a", 0 },
		{ "order", "5-9", "tandem.order.v1.OrderSettled", "a", 0 },
		{ "order", "5-8", "tandem.order.v1.OrderPlaced", "b", 0 },
		{ "order", "5-6", "tandem.order.v1.OrderCancelled", "a", 0 },
		{ "order", "5-5", "moon.v1.Rose", "a", 0 },
		{ "order", "5-4", "tandem.order.v1.OrderReserved", "c", 1 },
		{ "order", "5-4", "tandem.order.v1.OrderReserved", "a", 0 },
		{ "order", "5-2", "tandem.order.v1.OrderPlaced", "a", 0 },
		{ "order", "4-1", "tandem.order.v1.OrderPlaced", "c", 0 },
		{ "inventory", "5-70", "tandem.inventory.v1.StockAdjusted", "b", 0 },
		{ "inventory", "5-61", "tandem.inventory.v1.InventoryReserved", "b", 0 },
		{ "inventory", "5-60", "tandem.inventory.v1.InventoryReleased", "a", 0 },
		{ "inventory", "5-3", "tandem.inventory.v1.InventoryReserved", "a", 0 },
	};
	static const char *const expected[] = {
		"4-1", "5-2",  "5-3", "5-4",  "5-4",  "5-5", "5-6",
		"5-8", "5-60", "5-9", "5-61", "5-70", "6-1",
	};
	struct ctl_entries entries = { 0 };

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		ctl_entries_add(&entries, &(struct ctl_entry){ .context = rows[i].context,
							       .stream_id = rows[i].stream_id,
							       .type = rows[i].type,
							       .subject = rows[i].subject,
							       .index = rows[i].index });
	ctl_entries_sort(&entries);
	for (size_t i = 0; i < RT_LENGTH(expected); i++)
		TEST_ROW(strcmp(entries.list[i].stream_id, expected[i]) == 0, expected[i]);
	CU_ASSERT_STRING_EQUAL(entries.list[3].subject, "a");
	CU_ASSERT_STRING_EQUAL(entries.list[4].subject, "c");
	ctl_entries_done(&entries);
}

/* Where there are several partitions a stream id says of which. */
static void places(void)
{
	static const struct {
		const char *text, *id; /* NULL: it is none */
		int partition;
	} rows[] = {
		{ "5-6", "5-6", -1 },    { "0/5-6", "5-6", 0 },  { "1023/5-6", "5-6", 1023 },
		{ "1024/5-6", NULL, 0 }, { "/5-6", NULL, 0 },    { "-1/5-6", NULL, 0 },
		{ "1/", NULL, 0 },       { "1/2/5-6", NULL, 0 }, { "x/5-6", NULL, 0 },
		{ "ord_a/1", NULL, 0 },  { "", NULL, 0 },        { "1/5", NULL, 0 },
	};
	char place[CTL_PLACE];
	int partition;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *id = ctl_place_read(rows[i].text, &partition);

		TEST_ROW((id == NULL) == (rows[i].id == NULL), rows[i].text);
		if (id == NULL || rows[i].id == NULL)
			continue;
		TEST_ROW(strcmp(id, rows[i].id) == 0, rows[i].text);
		TEST_ROW(partition == rows[i].partition, rows[i].text);
	}
	ctl_place(place, &alone, 0, "5-6");
	CU_ASSERT_STRING_EQUAL(place, "5-6");
	ctl_place(place, &several, 7, "5-6");
	CU_ASSERT_STRING_EQUAL(place, "7/5-6");
}

/* In one millisecond an effect follows its cause, which is in the same partition. */
static void order_of_events_in_partitions(void)
{
	static const struct {
		int partition;
		const char *context, *stream_id, *type;
	} rows[] = {
		{ 1, "order", "5-1", "tandem.order.v1.OrderPlaced" },
		{ 1, "order", "5-2", "tandem.order.v1.OrderReserved" },
		{ 1, "inventory", "5-1", "tandem.inventory.v1.InventoryReserved" },
		{ 0, "order", "5-1", "tandem.order.v1.OrderPlaced" },
		{ 0, "inventory", "5-9", "tandem.inventory.v1.InventoryReserved" },
		{ 0, "order", "6-9", "tandem.order.v1.OrderReserved" },
		{ 1, "inventory", "4-7", "tandem.inventory.v1.StockAdjusted" },
	};
	static const char *const expected[] = { "1/4-7", "0/5-1", "0/5-9", "1/5-1",
						"1/5-1", "1/5-2", "0/6-9" };
	struct ctl_entries entries = { 0 };
	char place[CTL_PLACE];

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		ctl_entries_add(&entries, &(struct ctl_entry){ .partition = rows[i].partition,
							       .context = rows[i].context,
							       .stream_id = rows[i].stream_id,
							       .type = rows[i].type,
							       .subject = "a" });
	ctl_entries_sort(&entries);
	for (size_t i = 0; i < RT_LENGTH(expected); i++) {
		ctl_place(place, &several, entries.list[i].partition, entries.list[i].stream_id);
		TEST_ROW(strcmp(place, expected[i]) == 0, expected[i]);
	}
	CU_ASSERT_STRING_EQUAL(entries.list[3].context, "order");
	ctl_entries_done(&entries);
}

/* What waits for each other can only be made by hand; it is shown all the same. */
static void order_of_impossible_events(void)
{
	static const char *const types[] = { "OrderSettled", "InventoryReleased", "OrderReserved",
					     "InventoryReserved" };
	struct ctl_entries entries = { 0 };

	for (size_t i = 0; i < 4; i++)
		ctl_entries_add(&entries,
				&(struct ctl_entry){ .context = i % 2 == 0 ? "order" : "inventory",
						     .stream_id = i < 2 ? "5-1" : "5-2",
						     .type = types[i],
						     .subject = "a" });
	ctl_entries_sort(&entries);
	CU_ASSERT_EQUAL(entries.count, 4);
	for (size_t i = 0; i < 4; i++) {
		size_t found = 0;

		for (size_t j = 0; j < 4; j++)
			found += entries.list[j].type == types[i];
		TEST_ROW(found == 1, types[i]);
	}
	ctl_entries_done(&entries);
}

static void filters(void)
{
	static const char *const event[] = { "type",    "tandem.order.v1.OrderPlaced",
					     "subject", "o",
					     "reason",  "not a message" };
	static const struct {
		const char *name;
		struct ctl_filter filter;
		bool passes;
	} rows[] = {
		{ "nothing asked", { 0 }, true },
		{ "its order", { .order = "o" }, true },
		{ "another order", { .order = "p" }, false },
		{ "short type", { .type = "OrderPlaced" }, true },
		{ "full type", { .type = "tandem.order.v1.OrderPlaced" }, true },
		{ "part of a type", { .type = "Placed" }, false },
		{ "part of the reason", { .reason = "a mess" }, true },
		{ "another reason", { .reason = "b" }, false },
		{ "its context", { .context = "order" }, true },
		{ "the other context", { .context = "inventory" }, false },
		{ "all at once", { .order = "o", .type = "OrderPlaced", .reason = "not" }, true },
		{ "all but one", { .order = "p", .type = "OrderPlaced" }, false },
	};
	struct rt_arena arena = { 0 };
	struct ctl_entry entry;

	CU_ASSERT_FATAL(read_entry(event, RT_LENGTH(event), &arena, &entry));
	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(ctl_filter_passes(&rows[i].filter, &entry) == rows[i].passes,
			 rows[i].name);
	rt_arena_done(&arena);
}

static void ages(void)
{
	static const struct {
		int64_t ms;
		const char *text;
	} rows[] = {
		{ 0, "0 ms" },          { 999, "999 ms" },    { 1500, "1.5 s" },
		{ 119900, "119.9 s" },  { 600000, "10 min" }, { 7200000, "2.0 h" },
		{ 259200000, "3.0 d" },
	};
	char text[CTL_AGE];

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		ctl_age(text, rows[i].ms);
		TEST_ROW(strcmp(text, rows[i].text) == 0, rows[i].text);
	}
}

static void exit_codes(void)
{
	static const int expected[17] = {
		[0] = CTL_OK,
		[RT_CODE_CANCELLED] = CTL_UNAVAILABLE,
		[RT_CODE_UNKNOWN] = CTL_UNAVAILABLE,
		[RT_CODE_INVALID_ARGUMENT] = CTL_USAGE,
		[RT_CODE_DEADLINE_EXCEEDED] = CTL_UNAVAILABLE,
		[RT_CODE_NOT_FOUND] = CTL_NEGATIVE,
		[RT_CODE_ALREADY_EXISTS] = CTL_NEGATIVE,
		[RT_CODE_PERMISSION_DENIED] = CTL_UNAVAILABLE,
		[RT_CODE_RESOURCE_EXHAUSTED] = CTL_UNAVAILABLE,
		[RT_CODE_FAILED_PRECONDITION] = CTL_NEGATIVE,
		[RT_CODE_ABORTED] = CTL_NEGATIVE,
		[RT_CODE_OUT_OF_RANGE] = CTL_NEGATIVE,
		[RT_CODE_UNIMPLEMENTED] = CTL_UNAVAILABLE,
		[RT_CODE_INTERNAL] = CTL_UNAVAILABLE,
		[RT_CODE_UNAVAILABLE] = CTL_UNAVAILABLE,
		[RT_CODE_DATA_LOSS] = CTL_UNAVAILABLE,
		[RT_CODE_UNAUTHENTICATED] = CTL_UNAVAILABLE,
	};

	for (int code = 0; code < 17; code++)
		CU_ASSERT_EQUAL(ctl_exit_of(code), expected[code]);
}

/* ---- explain ---- */

#define NOW 1764000000000
/* An order that has asked inventory for something, and asks again in 500 ms. */
#define ASKS(of, ...)                                                                              \
	{                                                                                          \
		.state = of, .timer_ms = NOW + 500, __VA_ARGS__                                    \
	}
#define QUEUED(name, before) .where = EXPLAIN_QUEUED, .type = name, .ahead = before
#define DELIVERED(name, ms, times)                                                                 \
	.where = EXPLAIN_PENDING, .type = name, .consumer = "inventory-7", .idle_ms = ms,          \
	.deliveries = times
#define ASIDE(name, ms, times, what)                                                               \
	.where = EXPLAIN_ASIDE, .type = name, .aside_ms = ms, .failed = times, .waits = what
#define DEAD(name, id, why) .where = EXPLAIN_DEAD, .type = name, .stream_id = id, .reason = why
#define READERS(count, ms)  .group = true, .consumers = count, .seen_ms = ms

static const struct {
	const char *name;
	struct explain_facts facts;
	const char *because, *next; /* what they must say */
} explanations[] = {
	{ "settled",
	  { .state = ORDER_CANCELLED, .status_reason = "called off", .timer_ms = -1 },
	  "CANCELLED (called off): final",
	  "Nothing: the order is settled." },
	{ "reserved",
	  { .state = ORDER_RESERVED, .timer_ms = NOW + 60000 },
	  "RESERVED: inventory holds every line",
	  "it expires at 2025-11-24T16:01:00.000Z (in 60.0 s)" },
	{ "reserved, no timer",
	  { .state = ORDER_RESERVED, .timer_ms = -1 },
	  "RESERVED",
	  "no timer. tandemctl audit --repair" },
	{ "timer overdue",
	  { .state = ORDER_RESERVED, .timer_ms = NOW - 60000 },
	  "RESERVED",
	  "overdue by 60.0 s; is the order service running?" },
	{ "timer just due",
	  { .state = ORDER_RESERVED, .timer_ms = NOW - 58 },
	  "RESERVED",
	  "overdue by 58 ms)" },
	{ "queued, inventory is there",
	  ASKS(ORDER_PENDING, .attempt = 1, .request = { QUEUED("OrderPlaced", 12) },
	       .inventory = { READERS(1, 100) }),
	  "has not read OrderPlaced yet, 12 events are ahead of it.",
	  "or is asked again at 2025-11-24T16:00:00.500Z (in 500 ms)." },
	{ "queued, inventory is away",
	  ASKS(ORDER_PENDING, .request = { QUEUED("OrderPlaced", 0) },
	       .inventory = { READERS(1, 300000) }),
	  "inventory was last seen 5 min ago.", "asked again" },
	{ "queued, no consumer",
	  ASKS(ORDER_PENDING, .request = { QUEUED("OrderPlaced", 0) },
	       .inventory = { READERS(0, -1) }),
	  "inventory has no consumer there", "asked again" },
	{ "queued, no group", ASKS(ORDER_PENDING, .request = { QUEUED("OrderPlaced", 0) }),
	  "inventory has no consumer group there", "asked again" },
	{ "with a consumer",
	  ASKS(ORDER_CONFIRMING, .attempt = 3, .request = { DELIVERED("OrderConfirmed", 2000, 2) },
	       .inventory = { READERS(1, 100) }),
	  "commit the reservation, 3 times; OrderConfirmed has been with consumer "
	  "inventory-7 for 2.0 s, delivery 2.",
	  "asked again" },
	{ "with a dead consumer",
	  ASKS(ORDER_PENDING, .request = { DELIVERED("OrderPlaced", 20000, 1) },
	       .inventory = { READERS(1, 100) }),
	  "that consumer seems to have ended", "asked again" },
	{ "set aside",
	  ASKS(ORDER_PENDING, .request = { ASIDE("OrderPlaced", 3200, 2, "its next try") },
	       .inventory = { READERS(1, 100) }),
	  "inventory has set OrderPlaced aside for 3.2 s: it failed 2 times, and waits "
	  "for its next try.",
	  "asked again" },
	{ "set aside behind another, and inventory is down",
	  ASKS(ORDER_CANCELLING,
	       .request = { ASIDE("OrderCancelled", 400, 0,
				  "OrderPlaced (o/1), which is tried again") },
	       .inventory = { READERS(1, 300000) }),
	  "OrderCancelled aside for 400 ms: it waits for OrderPlaced (o/1), which is tried "
	  "again; inventory was last seen 5 min ago.",
	  "asked again" },
	{ "the answer is set aside",
	  ASKS(ORDER_PENDING, .request = { .where = EXPLAIN_DONE, .type = "OrderPlaced" },
	       .answer = { ASIDE("InventoryReserved", 900, 1, "its next try") },
	       .order = { READERS(1, 100) }),
	  "inventory answered, and the order service has set InventoryReserved aside for "
	  "900 ms: it failed 1 time, and waits for its next try.",
	  "asked again" },
	{ "a dead letter",
	  ASKS(ORDER_PENDING, .request = { DEAD("OrderPlaced", "7-0", "not a message") },
	       .inventory = { READERS(1, 100) }),
	  "could not process OrderPlaced (not a message): it is dead letter 7-0",
	  "tandemctl dead replay 7-0" },
	{ "lost",
	  ASKS(ORDER_CANCELLING, .request = { .where = EXPLAIN_LOST, .type = "OrderCancelled" },
	       .inventory = { READERS(1, 100) }),
	  "release what it holds; OrderCancelled was lost from the stream", "asked again" },
	{ "done, but the answer is lost",
	  ASKS(ORDER_PENDING, .reservation = STOCK_RESERVED,
	       .request = { .where = EXPLAIN_DONE, .type = "OrderPlaced" },
	       .inventory = { READERS(1, 100) }),
	  "its reservation is RESERVED), but there is no answer", "asked again" },
	{ "acknowledged without an effect",
	  ASKS(ORDER_PENDING, .request = { .where = EXPLAIN_DONE, .type = "OrderPlaced" }),
	  "acknowledged OrderPlaced without an effect", "asked again" },
	{ "answered, not read",
	  ASKS(ORDER_PENDING, .request = { .where = EXPLAIN_DONE, .type = "OrderPlaced" },
	       .answer = { QUEUED("InventoryReserved", 3) }, .order = { READERS(2, 40000) }),
	  "answered with InventoryReserved, which the order service has not read yet, 3 "
	  "events are ahead of it; the order service was last seen 40.0 s ago",
	  "asked again" },
	{ "the answer is a dead letter",
	  ASKS(ORDER_PENDING, .answer = { DEAD("InventoryReserved", "9-0", "no seq") }),
	  "the order service could not process InventoryReserved (no seq)",
	  "tandemctl dead replay 9-0" },
};

static void why_and_what_next(void)
{
	for (size_t i = 0; i < RT_LENGTH(explanations); i++) {
		struct explain_facts facts = explanations[i].facts;
		struct rt_buf because = { 0 }, next = { 0 };

		facts.now_ms = NOW;
		if (facts.status_reason == NULL)
			facts.status_reason = "";
		explain_because(&facts, &because);
		explain_next(&facts, &next);
		TEST_ROW(strstr(because.data, explanations[i].because) != NULL,
			 explanations[i].name);
		TEST_ROW(strstr(next.data, explanations[i].next) != NULL, explanations[i].name);
		TEST_ROW(because.data[because.length - 1] == '.', explanations[i].name);
		rt_buf_done(&because);
		rt_buf_done(&next);
	}
}

/* ---- made from the tables of commands ---- */

static char *manual(void)
{
	static char *text; /* gcc takes what fclose leaves there for a local's address */
	static size_t size;
	FILE *file = open_memstream(&text, &size);

	ctl_manual(file);
	fclose(file);
	return text;
}

/* What stands in the manual for a text of the tables; freed by the caller. */
static char *as_roff(const char *before, const char *text)
{
	struct rt_buf roff = { 0 };

	rt_buf_printf(&roff, "%s", before);
	for (; *text != '\0'; text++)
		rt_buf_printf(&roff, *text == '-' ? "\\-" : "%c", *text);
	rt_buf_add(&roff, "", 1);
	return roff.data;
}

static bool options_are_there(const char *page, const struct argp_option *option)
{
	bool all = true;

	for (; option != NULL && (option->name != NULL || option->doc != NULL); option++) {
		char *name = option->name == NULL ? NULL : as_roff("\\fB\\-\\-", option->name);

		if (name != NULL && strstr(page, name) == NULL) {
			printf("\n    not in the manual: --%s\n", option->name);
			all = false;
		}
		free(name);
	}
	return all;
}

static void the_manual_has_it_all(void)
{
	char *page = manual();

	CU_ASSERT(options_are_there(page, ctl_common_argp.options));
	for (size_t i = 0; i < ctl_command_count; i++) {
		char name[CTL_COMMAND], *heading, *section, *next;

		ctl_command_name(ctl_commands[i], name);
		heading = rt_printf("\n.SS %s\n", name);
		section = strstr(page, heading);
		TEST_ROW(section != NULL, name);
		free(heading);
		if (section == NULL)
			continue;
		/* In its own section, not in another command's. */
		next = strstr(section + 1, "\n.SS ");
		section = next == NULL ? rt_strdup(section)
				       : rt_strndup(section, (size_t)(next - section));
		TEST_ROW(options_are_there(section, ctl_commands[i]->options), name);
		TEST_ROW(strstr(section, "tandemctl ") != NULL, name);
		free(section);
	}
	/* A line of text never begins a request, and all of it is ASCII. */
	for (char *line = page; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
		line += *line == '\n';
		CU_ASSERT(line[0] != '\'' &&
			  (line[0] != '.' || (line[1] >= 'A' && line[1] <= 'Z') ||
			   strncmp(line, ".nf\n", 4) == 0 || strncmp(line, ".fi\n", 4) == 0));
	}
	for (const char *c = page; *c != '\0'; c++)
		CU_ASSERT_FATAL((unsigned char)*c < 0x80);
	free(page);
}

static void one_line_of_help_each(void)
{
	for (size_t i = 0; i < ctl_command_count; i++) {
		char name[CTL_COMMAND];

		ctl_command_name(ctl_commands[i], name);
		/* argp would break a longer line of the list. */
		TEST_ROW(strlen(ctl_commands[i]->about) <= 58 && strlen(name) <= 17, name);
	}
}

static void completion(void)
{
	static const struct {
		const char *words,
			*offered; /* separated by blanks; "+x": x is among them; "-x": not */
	} rows[] = {
		{ "", "order stock archive explain events dead audit doctor top trail groups drain "
		      "migrate "
		      "load functions "
		      "auth" },
		{ "or", "order stock archive explain events dead audit doctor top trail groups "
			"drain migrate "
			"load functions "
			"auth" },
		{ "order ", "place get list watch confirm cancel extend return" },
		{ "--json order ", "place get list watch confirm cancel extend return" },
		{ "--gateway h:1 stock ", "adjust threshold get list holders" },
		{ "--gateway=h:1 dead ", "list show replay discard" },
		{ "nothing ", "" },
		{ "order nothing ", "" },
		{ "order place ", "+--hold +--json +--help -place -order" },
		{ "order place apple=2 ", "+--hold -place" },
		{ "explain --", "+--json +--redis-port -explain -audit -why" },
		{ "dead replay --", "+--why +--force" },
		{ "dead replay --why ", "" },
		{ "--", "+--json +--version -order" },
		{ "events tail --context ", "order inventory archive" },
		{ "events tail -c ", "order inventory archive" },
		{ "events tail -fc ", "order inventory archive" },
		{ "events tail --context order ", "+--type -inventory" },
		{ "events tail --type ", "+OrderPlaced +StockAdjusted -ErrorInfo" },
		{ "order list --status ", "PENDING RESERVED REJECTED CONFIRMED CANCELLED EXPIRED" },
		{ "auth ", "new-key check show-token try" },
		{ "auth new-key --role ", "customer support stock gateway operator" },
		{ "auth check --callers ", "<file>" },
		{ "load --mode ", "unary batch stream" },
		{ "load --saturate ", "+--rate" },
		{ "load --out ", "<file>" },
		{ "order place --customer ", "" },
		{ "order confirm ", "+--expected-version -order" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char line[128], *words[16], *text = NULL, *next = line, *is, *word, *rest;
		size_t size = 0;
		int count = 0;
		FILE *file = open_memstream(&text, &size);

		snprintf(line, sizeof(line), "%s", rows[i].words);
		while (next != NULL)
			words[count++] = strsep(&next, " ");
		ctl_complete(file, count, words);
		fclose(file);
		for (char *c = text; *c != '\0'; c++)
			if (*c == '\n')
				*c = c[1] == '\0' ? '\0' : ' ';
		if (strpbrk(rows[i].offered, "+") == NULL) {
			TEST_ROW(strcmp(text, rows[i].offered) == 0, rows[i].words);
			free(text);
			continue;
		}
		is = rt_printf(" %s ", text);
		rest = next = rt_strdup(rows[i].offered);
		while ((word = strsep(&next, " ")) != NULL) {
			char *one = rt_printf(" %s ", word + 1);

			TEST_ROW((strstr(is, one) != NULL) == (word[0] == '+'), rows[i].words);
			free(one);
		}
		free(rest);
		free(is);
		free(text);
	}
}

static const struct test tests[] = {
	{ "every kind of field, with and without defaults", every_kind_of_field },
	{ "signed numbers, durations, oneofs", signed_duration_and_oneof },
	{ "details of errors, bytes as base64", details_and_bytes },
	{ "packed bytes are checked before they are read", packed_bytes },
	{ "JSON as text for people", text_for_people },
	{ "nothing unprintable reaches a terminal", nothing_unprintable },
	{ "replies are copied whole", replies_are_copied_whole },
	{ "JSON is pure ASCII", json_is_ascii },
	{ "stream ids", stream_ids },
	{ "entries, also invalid ones", entries },
	{ "entries of many events", entries_of_many_events },
	{ "order of events", order_of_events },
	{ "where an entry is, as text", places },
	{ "order of events in several partitions", order_of_events_in_partitions },
	{ "order of impossible events", order_of_impossible_events },
	{ "filters", filters },
	{ "ages", ages },
	{ "exit codes", exit_codes },
	{ "why, and what next", why_and_what_next },
	{ "the manual has every command and option", the_manual_has_it_all },
	{ "the list of commands fits", one_line_of_help_each },
	{ "completion of the command line", completion },
};

TESTS_MAIN("ctl", tests)
