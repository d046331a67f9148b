/* test_order_record.c - requests become content, records become orders, histories are read. */
#include "check.h"
#include "order/order_record.h"
#include "run.h"

#include <string.h>

#define ID "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa"

typedef Tandem__Order__V1__PlaceOrderRequest PlaceOrder;
typedef Tandem__Order__V1__OrderLine Line;
typedef Tandem__Order__V1__PlaceOrderRequest__LabelsEntry Label;

static Line *line(struct rt_arena *arena, const char *sku, uint32_t quantity)
{
	Line *made = rt_arena_take(arena, sizeof(*made));

	tandem__order__v1__order_line__init(made);
	made->sku = rt_arena_printf(arena, "%s", sku);
	made->quantity = quantity;
	return made;
}

static Label *label(struct rt_arena *arena, const char *key, const char *value)
{
	Label *made = rt_arena_take(arena, sizeof(*made));

	tandem__order__v1__place_order_request__labels_entry__init(made);
	made->key = rt_arena_printf(arena, "%s", key);
	made->value = rt_arena_printf(arena, "%s", value);
	return made;
}

/* Packs what a request means; the bytes are in the arena. */
static uint8_t *packed(struct rt_arena *arena, const PlaceOrder *request, size_t *ret_length)
{
	Tandem__Order__V1__OrderPlaced placed = TANDEM__ORDER__V1__ORDER_PLACED__INIT;

	placed.content = order_content(arena, request);
	return order_pack(arena, &placed.base, ret_length);
}

static void test_content(void)
{
	struct rt_arena arena = { .chunks = NULL };
	PlaceOrder request = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
	Line *lines[] = { line(&arena, "pear", 1), line(&arena, "apple", 2),
			  line(&arena, "pear", 3), line(&arena, "apple", 4),
			  line(&arena, "fig", 5) };
	Label *labels[] = { label(&arena, "b", "1"), label(&arena, "a", "2"),
			    label(&arena, "c", "3"), label(&arena, "b", "4"),
			    label(&arena, "a", "5") };
	Google__Protobuf__Duration hold = GOOGLE__PROTOBUF__DURATION__INIT;
	Tandem__Order__V1__OrderContent *content;

	request.customer_id = (char *)"ann";
	request.lines = lines;
	request.n_lines = 5;
	request.labels = labels;
	request.n_labels = 5;
	content = order_content(&arena, &request);
	CU_ASSERT_STRING_EQUAL(content->customer_id, "ann");
	CU_ASSERT_EQUAL_FATAL(content->n_lines, 3);
	CU_ASSERT_STRING_EQUAL(content->lines[0]->sku, "pear");
	CU_ASSERT_EQUAL(content->lines[0]->quantity, 4);
	CU_ASSERT_STRING_EQUAL(content->lines[1]->sku, "apple");
	CU_ASSERT_EQUAL(content->lines[1]->quantity, 6);
	CU_ASSERT_STRING_EQUAL(content->lines[2]->sku, "fig");
	CU_ASSERT_EQUAL(content->lines[2]->quantity, 5);
	CU_ASSERT_EQUAL_FATAL(content->n_labels, 3);
	CU_ASSERT_STRING_EQUAL(content->labels[0]->key, "a");
	CU_ASSERT_STRING_EQUAL(content->labels[0]->value, "5");
	CU_ASSERT_STRING_EQUAL(content->labels[1]->key, "b");
	CU_ASSERT_STRING_EQUAL(content->labels[1]->value, "4");
	CU_ASSERT_STRING_EQUAL(content->labels[2]->key, "c");
	/* The request is as it was. */
	CU_ASSERT_EQUAL(lines[0]->quantity, 1);
	CU_ASSERT_EQUAL(order_hold_ms(content), CHECK_HOLD_STANDARD_MS);
	hold.seconds = 2;
	hold.nanos = 345999999;
	request.hold = &hold;
	CU_ASSERT_EQUAL(order_hold_ms(order_content(&arena, &request)), 2345);
	rt_arena_done(&arena);
}

/* Requests that mean the same have the same bytes: that is how a repeat is recognised. */
static void test_same_meaning(void)
{
	struct rt_arena arena = { .chunks = NULL };
	PlaceOrder a = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
	PlaceOrder b = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
	Line *a_lines[] = { line(&arena, "pear", 4), line(&arena, "fig", 1) };
	Line *b_lines[] = { line(&arena, "pear", 1), line(&arena, "fig", 1),
			    line(&arena, "pear", 3) };
	Label *a_labels[] = { label(&arena, "x", "1"), label(&arena, "y", "2") };
	Label *b_labels[] = { label(&arena, "y", "2"), label(&arena, "x", "1") };
	Google__Protobuf__Duration hold = GOOGLE__PROTOBUF__DURATION__INIT;
	ProtobufCMessageUnknownField unknown = { .tag = 77,
						 .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT,
						 .len = 1,
						 .data = (uint8_t *)"\x01" };
	uint8_t *a_bytes, *b_bytes;
	size_t a_length, b_length;

	a.customer_id = b.customer_id = (char *)"ann";
	a.lines = a_lines;
	a.n_lines = 2;
	a.labels = a_labels;
	a.n_labels = b.n_labels = 2;
	b.lines = b_lines;
	b.n_lines = 3;
	b.labels = b_labels;
	hold.seconds = 900;
	b.hold = &hold;
	b.wait_for_decision = true;
	/* A newer client's unknown fields of a line are not kept. */
	b_lines[1]->base.n_unknown_fields = 1;
	b_lines[1]->base.unknown_fields = &unknown;
	a_bytes = packed(&arena, &a, &a_length);
	b_bytes = packed(&arena, &b, &b_length);
	CU_ASSERT_EQUAL_FATAL(a_length, b_length);
	CU_ASSERT_EQUAL(memcmp(a_bytes, b_bytes, a_length), 0);
	a_lines[0]->quantity = 5;
	a_bytes = packed(&arena, &a, &a_length);
	CU_ASSERT(a_length != b_length || memcmp(a_bytes, b_bytes, a_length) != 0);
	rt_arena_done(&arena);
}

static void test_history(void)
{
	static const struct {
		const char *text;
		int items;
		bool whole;
		enum order_event last;
		bool again;
		int64_t unix_ms;
		uint64_t version;
		const char *stream_id;
	} rows[] = {
		{ "placed@1000-1", 1, true, ORDER_EV_PLACED, false, 1000, 1, "1000-1" },
		{ "placed@1000-1 reserved+15-2", 2, true, ORDER_EV_RESERVED, false, 1015, 2,
		  "1015-2" },
		{ "placed@1000-1 again+5-9", 2, true, ORDER_EV_NOTHING, true, 1005, 1, "1005-9" },
		{ "placed@1000-1 reserved+0-2 confirmed+3-3 settled+4-18446744073709551615", 4,
		  true, ORDER_EV_SETTLED, false, 1004, 4, "1004-18446744073709551615" },
		{ "placed@1000-1 cancelled+-500-2", 2, true, ORDER_EV_CANCELLED, false, 500, 2,
		  "500-2" },
		/* Followed by the content. */
		{ "placed@1000-1 reserved+15-2\n7\n", 2, true, ORDER_EV_RESERVED, false, 1015, 2,
		  "1015-2" },
		{ "placed@1000-1 \n7", 1, true, ORDER_EV_PLACED, false, 1000, 1, "1000-1" },
		/* What an operator's editor may leave behind. */
		{ "", 0, true, ORDER_EV_NOTHING, false, 0, 0, "" },
		{ "reserved+1-2", 0, false, ORDER_EV_NOTHING, false, 0, 0, "" },
		{ "placed@9000-1~1000", 1, true, ORDER_EV_PLACED, false, 1000, 1, "9000-1" },
		{ "placed@9000-1~1000 reserved+15-2~1020", 2, true, ORDER_EV_RESERVED, false, 1020,
		  2, "9015-2" },
		{ "placed@1000-1 reserved+8000-2~1020 settled+8001-3", 3, true, ORDER_EV_SETTLED,
		  false, 9001, 3, "9001-3" },
		{ "placed@9000-1~", 0, false, ORDER_EV_NOTHING, false, 0, 0, "" },
		{ "placed@9000-1~-5", 0, false, ORDER_EV_NOTHING, false, 0, 0, "" },
		{ "placed@9000-1~1000x", 0, false, ORDER_EV_NOTHING, false, 0, 0, "" },
		{ "placed@1000", 0, false, ORDER_EV_NOTHING, false, 0, 0, "" },
		{ "placed@1000-", 0, false, ORDER_EV_NOTHING, false, 0, 0, "" },
		{ "placed@1000-1x", 0, false, ORDER_EV_NOTHING, false, 0, 0, "" },
		{ "placed@1000-1 sold+1-2", 1, false, ORDER_EV_PLACED, false, 1000, 1, "1000-1" },
		{ "placed@1000-1 placed@1-2", 1, false, ORDER_EV_PLACED, false, 1000, 1, "1000-1" },
		{ "placed@1000-1 expired+1-222222222222222222222", 1, false, ORDER_EV_PLACED, false,
		  1000, 1, "1000-1" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct order_history history;
		struct order_history_item item = { .stream_id = "" };
		int items = 0;

		order_history_begin(&history, rows[i].text);
		while (order_history_next(&history, &item))
			items++;
		TEST_ROW(items == rows[i].items, rows[i].text);
		TEST_ROW(order_history_at_end(&history) == rows[i].whole, rows[i].text);
		TEST_ROW(item.event == rows[i].last, rows[i].text);
		TEST_ROW(item.again == rows[i].again, rows[i].text);
		TEST_ROW(item.unix_ms == rows[i].unix_ms, rows[i].text);
		TEST_ROW(item.version == rows[i].version, rows[i].text);
		TEST_ROW(strcmp(item.stream_id, rows[i].stream_id) == 0, rows[i].text);
	}
}

/* An order's stored text, and the record read from it; without a record: the text is damaged. */
struct read_row {
	const char *text;
	bool good;
	enum order_state state;
	uint64_t version;
	int64_t hold_ms;
	uint32_t attempt;
	const char *placed, *detail;
};

static void check_record(const struct order_record *record, const struct read_row *row)
{
	struct order_history history;
	struct order_history_item item;

	TEST_ROW(record->state == row->state, row->text);
	TEST_ROW(record->version == row->version, row->text);
	TEST_ROW(record->hold_ms == row->hold_ms, row->text);
	TEST_ROW(record->attempt == row->attempt, row->text);
	TEST_ROW(strncmp(record->history, "placed@5-1", 10) == 0, row->text);
	order_history_begin(&history, record->history);
	while (order_history_next(&history, &item))
		TEST_ROW(item.unix_ms <= 6, row->text);
	TEST_ROW(order_history_at_end(&history), row->text);
	TEST_ROW(record->placed_length == strlen(row->placed), row->text);
	TEST_ROW(memcmp(record->placed, row->placed, record->placed_length) == 0, row->text);
	TEST_ROW(record->detail_length == strlen(row->detail), row->text);
	TEST_ROW((record->detail == NULL) == (record->detail_length == 0), row->text);
	TEST_ROW(record->detail == NULL ||
			 memcmp(record->detail, row->detail, record->detail_length) == 0,
		 row->text);
}

static void test_read(void)
{
	static const struct read_row rows[] = {
		{ "PENDING 1 900000 placed@5-1\n3\nabc", true, ORDER_PENDING, 1, 900000, 1, "abc",
		  "" },
		{ "CANCELLED~ 3 0 attempt=12 placed@5-1 cancelled+1-2\n3\nabcdef", true,
		  ORDER_CANCELLING, 3, 0, 12, "abc", "def" },
		{ "REJECTED 2 60000 placed@5-1 rejected+1-2\n0\n\n1\n", true, ORDER_REJECTED, 2,
		  60000, 1, "", "\n1\n" },
		{ "RESERVED 2 60000 attempt=4294967295 placed@5-1\n0\n", true, ORDER_RESERVED, 2,
		  60000, 4294967295, "", "" },
		{ .text = "" },
		{ .text = "PENDING" },
		{ .text = "PENDING " },
		{ .text = " 1 900000 placed@5-1\n3\nabc" },
		{ .text = "SOLD 1 900000 placed@5-1\n3\nabc" },
		{ .text = "PENDING~ 1 900000 placed@5-1\n3\nabc" },
		{ .text = "PENDING 1" },
		{ .text = "PENDING 1 " },
		{ .text = "PENDING x 900000 placed@5-1\n3\nabc" },
		{ .text = "PENDING -1 900000 placed@5-1\n3\nabc" },
		{ .text = "PENDING  1 900000 placed@5-1\n3\nabc" },
		{ .text = "PENDING 1 900000" },
		{ .text = "PENDING 1 9s placed@5-1\n3\nabc" },
		{ .text = "PENDING 1 99999999999999999999 placed@5-1\n3\nabc" },
		{ .text = "PENDING 99999999999999999999 1 placed@5-1\n3\nabc" },
		{ .text = "PENDING 1 900000 attempt= placed@5-1\n3\nabc" },
		{ .text = "PENDING 1 900000 attempt=x placed@5-1\n3\nabc" },
		{ .text = "PENDING 1 900000 attempt=4294967296 placed@5-1\n3\nabc" },
		{ .text = "PENDING 1 900000 attempt=2" },
		{ .text = "PENDING 1 900000 placed@5-1" },
		{ .text = "PENDING 1 900000 placed@5-1\n" },
		{ .text = "PENDING 1 900000 placed@5-1\n3" },
		{ .text = "PENDING 1 900000 placed@5-1\nabc" },
		{ .text = "PENDING 1 900000 placed@5-1\n\nabc" },
		{ .text = "PENDING 1 900000 placed@5-1\n4\nabc" },
		{ .text = "PENDING 1 900000 placed@5-1\n-3\nabc" },
		{ .text = "PENDING 1 900000 placed@5-1\n99999999999999999999\nabc" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		/* In a block of its length, with the NUL of answers of Redis: sanitizers find reads
		 * past the end. */
		size_t length = strlen(rows[i].text);
		char *text = memcpy(rt_alloc(length + 1), rows[i].text, length);
		struct order_record record = { .order_id = "untouched" };

		TEST_ROW(order_record_read(text, length, ID, &record) == rows[i].good,
			 rows[i].text);
		if (rows[i].good)
			check_record(&record, &rows[i]);
		else
			TEST_ROW(strcmp(record.order_id, "untouched") == 0, rows[i].text);
		free(text);
	}
}

static struct order_record record_of(struct rt_arena *arena, enum order_state state,
				     uint64_t version, const char *history)
{
	PlaceOrder request = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
	Line *lines[] = { line(arena, "apple", 2), line(arena, "pear", 3) };
	Label *labels[] = { label(arena, "k", "v") };
	struct order_record record = { .order_id = ID,
				       .state = state,
				       .version = version,
				       .hold_ms = 60000,
				       .attempt = 1,
				       .history = history };

	request.customer_id = (char *)"ann";
	request.lines = lines;
	request.n_lines = 2;
	request.labels = labels;
	request.n_labels = 1;
	record.placed = packed(arena, &request, &record.placed_length);
	return record;
}

static int64_t ms_of(const Google__Protobuf__Timestamp *time)
{
	return time == NULL ? -1 : time->seconds * 1000 + time->nanos / 1000000;
}

static void test_view(void)
{
	struct rt_arena arena = { .chunks = NULL };
	struct order_record record =
		record_of(&arena, ORDER_RESERVED, 2, "placed@1000007-1 reserved+15-2");
	Tandem__Order__V1__Order *order = order_view(&arena, &record, NULL, 0);

	CU_ASSERT_FATAL(order != NULL);
	CU_ASSERT_STRING_EQUAL(order->order_id, ID);
	CU_ASSERT_STRING_EQUAL(order->customer_id, "ann");
	CU_ASSERT_EQUAL_FATAL(order->n_lines, 2);
	CU_ASSERT_STRING_EQUAL(order->lines[1]->sku, "pear");
	CU_ASSERT_EQUAL(order->lines[1]->quantity, 3);
	CU_ASSERT_EQUAL(order->status, TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED);
	CU_ASSERT_STRING_EQUAL(order->status_reason, "");
	CU_ASSERT_EQUAL(order->n_shortages, 0);
	CU_ASSERT_EQUAL(order->version, 2);
	CU_ASSERT_FALSE(order->settled);
	CU_ASSERT_EQUAL(ms_of(order->create_time), 1000007);
	CU_ASSERT_EQUAL(ms_of(order->update_time), 1000022);
	CU_ASSERT_EQUAL(ms_of(order->hold_expire_time), 1060022);
	CU_ASSERT_EQUAL_FATAL(order->n_labels, 1);
	CU_ASSERT_STRING_EQUAL(order->labels[0]->key, "k");
	CU_ASSERT_STRING_EQUAL(order->labels[0]->value, "v");
	rt_arena_done(&arena);
}

/* Versions between two reads are taken from the history. */
static void test_view_of_versions(void)
{
	static const char history[] = "placed@1000-1 again+5-2 reserved+10-3 cancelled+20-4 "
				      "again+25-5 settled+30-6 cancelled+40-7 settled+50-8";
	static const struct {
		int64_t updated_ms;
		int status;
		bool settled, hold;
	} rows[] = {
		{ 1000, TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING, false, false },
		{ 1010, TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED, false, true },
		{ 1020, TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CANCELLED, false, false },
		{ 1030, TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CANCELLED, true, false },
		{ 1040, TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CANCELLED, false, false },
		{ 1050, TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CANCELLED, true, false },
	};
	struct rt_arena arena = { .chunks = NULL };
	struct order_record record = record_of(&arena, ORDER_CANCELLED, 6, history);

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		Tandem__Order__V1__Order *order = order_view(&arena, &record, NULL, i + 1);

		CU_ASSERT_FATAL(order != NULL);
		CU_ASSERT_EQUAL(order->version, i + 1);
		CU_ASSERT_EQUAL((int)order->status, rows[i].status);
		CU_ASSERT_EQUAL(order->settled, rows[i].settled);
		CU_ASSERT_EQUAL(ms_of(order->create_time), 1000);
		CU_ASSERT_EQUAL(ms_of(order->update_time), rows[i].updated_ms);
		CU_ASSERT_EQUAL(order->hold_expire_time != NULL, rows[i].hold);
	}
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 7));
	rt_arena_done(&arena);
}

static void test_reasons(void)
{
	struct rt_arena arena = { .chunks = NULL };
	struct order_record record =
		record_of(&arena, ORDER_REJECTED, 2, "placed@1000-1 rejected+15-2");
	Tandem__Order__V1__OrderRejected rejected = TANDEM__ORDER__V1__ORDER_REJECTED__INIT;
	Tandem__Order__V1__OrderCancelled cancelled = TANDEM__ORDER__V1__ORDER_CANCELLED__INIT;
	Tandem__Order__V1__OrderExpired expired = TANDEM__ORDER__V1__ORDER_EXPIRED__INIT;
	Tandem__Order__V1__Shortage shortages[5], *list[5];
	Tandem__Order__V1__Order *order;

	for (uint32_t i = 0; i < 5; i++) {
		tandem__order__v1__shortage__init(&shortages[i]);
		shortages[i].sku = rt_arena_printf(&arena, "sku%u", i);
		shortages[i].requested = 10 + i;
		shortages[i].available = i;
		list[i] = &shortages[i];
	}
	rejected.shortages = list;
	rejected.n_shortages = 5;
	record.detail = order_pack(&arena, &rejected.base, &record.detail_length);
	order = order_view(&arena, &record, NULL, 0);
	CU_ASSERT_FATAL(order != NULL);
	CU_ASSERT_TRUE(order->settled);
	CU_ASSERT_EQUAL_FATAL(order->n_shortages, 5);
	CU_ASSERT_STRING_EQUAL(order->shortages[4]->sku, "sku4");
	CU_ASSERT_EQUAL(order->shortages[4]->requested, 14);
	CU_ASSERT_EQUAL(order->shortages[4]->available, 4);
	CU_ASSERT_STRING_EQUAL(order->status_reason,
			       "out of stock: sku0: 10 wanted, 0 there; sku1: 11 wanted, 1 there; "
			       "sku2: 12 wanted, 2 there; and 2 more");
	shortages[1].unknown = true;
	record.detail = order_pack(&arena, &rejected.base, &record.detail_length);
	order = order_view(&arena, &record, NULL, 0);
	CU_ASSERT_TRUE(order->shortages[1]->unknown);
	CU_ASSERT_STRING_EQUAL(
		order->status_reason,
		"out of stock: sku0: 10 wanted, 0 there; sku1: there is no such SKU; "
		"sku2: 12 wanted, 2 there; and 2 more");
	for (uint32_t i = 0; i < 5; i++)
		shortages[i].unknown = true;
	rejected.n_shortages = 2;
	record.detail = order_pack(&arena, &rejected.base, &record.detail_length);
	CU_ASSERT_STRING_EQUAL(
		order_view(&arena, &record, NULL, 0)->status_reason,
		"unknown SKU: sku0: there is no such SKU; sku1: there is no such SKU");
	/* Not of the version before it. */
	order = order_view(&arena, &record, NULL, 1);
	CU_ASSERT_EQUAL(order->n_shortages, 0);
	CU_ASSERT_STRING_EQUAL(order->status_reason, "");

	record = record_of(&arena, ORDER_CANCELLING, 2, "placed@1000-1 cancelled+15-2");
	CU_ASSERT_STRING_EQUAL(order_view(&arena, &record, NULL, 0)->status_reason,
			       "cancelled by the client");
	cancelled.reason = (char *)"changed my mind";
	record.detail = order_pack(&arena, &cancelled.base, &record.detail_length);
	CU_ASSERT_STRING_EQUAL(order_view(&arena, &record, NULL, 0)->status_reason,
			       "changed my mind");

	record = record_of(&arena, ORDER_EXPIRED, 3, "placed@1000-1 expired+15-2 settled+16-3");
	CU_ASSERT_STRING_EQUAL(order_view(&arena, &record, NULL, 0)->status_reason,
			       "not decided or confirmed in time");
	expired.reason = (char *)"too slow";
	record.detail = order_pack(&arena, &expired.base, &record.detail_length);
	CU_ASSERT_STRING_EQUAL(order_view(&arena, &record, NULL, 0)->status_reason, "too slow");
	rt_arena_done(&arena);
}

static void test_damaged(void)
{
	static const char *const histories[] = {
		"placed@9223372036854775807-1 reserved+9223372036854775807-2",
		"placed@253402300800000-1 reserved+0-2",
		"placed@253402300799999-1 reserved+1-2",
		"placed@1000-1 reserved+-1001-2",
		"placed@-5-1 reserved+0-2",
		"placed@1000-1 reserved+-9223372036854775808-2",
		"placed@ 1000-1 reserved+0-2",
		"placed@1000-1~253402300800000 reserved+0-2",
		"placed@1000-1~ 5 reserved+0-2",
		"placed@1000-1 reserved+ 5-2",
		"placed@1000-1 reserved+0-184467440737095516150",
	};
	struct rt_arena arena = { .chunks = NULL };
	struct order_record record = record_of(&arena, ORDER_PENDING, 1, "placed@1000-1");

	CU_ASSERT_PTR_NOT_NULL(order_view(&arena, &record, NULL, 0));
	record.version = 2;
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	record.version = 1;
	record.history = "";
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	CU_ASSERT_EQUAL(order_created_ms(&record), 0);
	record.history = "placed@1000-1";
	record.placed = (const uint8_t *)"\x0a\x7f";
	record.placed_length = 2;
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	record.placed_length = 0;
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	/* Texts that are invalid in protobuf. */
	record.placed = (const uint8_t *)"\x0a\x03\x0a\x01\xff";
	record.placed_length = 5;
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	record.placed = (const uint8_t *)"\x0a\x03\x0a\x01\0";
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	record.placed = NULL;
	record.placed_length = 0;
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	record = record_of(&arena, ORDER_PENDING, 1, "placed@1000-1");
	/* Numbers out of range. */
	record.hold_ms = INT64_MAX;
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	record.hold_ms = -1;
	CU_ASSERT_PTR_NULL(order_view(&arena, &record, NULL, 0));
	for (size_t i = 0; i < RT_LENGTH(histories); i++) {
		record = record_of(&arena, ORDER_RESERVED, 2, histories[i]);
		TEST_ROW(order_view(&arena, &record, NULL, 0) == NULL, histories[i]);
	}
	record = record_of(&arena, ORDER_RESERVED, 2, "placed@1000-1 reserved+-1000-2");
	CU_ASSERT_PTR_NOT_NULL(order_view(&arena, &record, NULL, 0));
	/* A stream's ids may be anything when the time stands beside them. */
	record = record_of(&arena, ORDER_PENDING, 1, "placed@9007199254740991-1~1000");
	CU_ASSERT_PTR_NOT_NULL(order_view(&arena, &record, NULL, 0));
	/* A detail that does not parse does not hide other fields. */
	record = record_of(&arena, ORDER_REJECTED, 2, "placed@1000-1 rejected+1-2");
	record.detail = (const uint8_t *)"\x0a\x7f";
	record.detail_length = 2;
	CU_ASSERT_FATAL(order_view(&arena, &record, NULL, 0) != NULL);
	CU_ASSERT_STRING_EQUAL(order_view(&arena, &record, NULL, 0)->status_reason, "out of stock");
	rt_arena_done(&arena);
}

static void test_arena(void)
{
	struct rt_arena arena = { .chunks = NULL };
	char *pieces[200];
	char *text;

	for (size_t i = 0; i < 200; i++) {
		pieces[i] = rt_arena_take(&arena, i * 7 + 1);
		CU_ASSERT_EQUAL((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
		memset(pieces[i], (int)i, i * 7 + 1);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t j = 0; j < i * 7 + 1; j++)
			CU_ASSERT_EQUAL((unsigned char)pieces[i][j], i);
	text = rt_arena_take(&arena, 1000000);
	memset(text, 'x', 1000000);
	text[999] = '\0';
	text = rt_arena_printf(&arena, "%s!", text);
	CU_ASSERT_EQUAL(strlen(text), 1000);
	CU_ASSERT_EQUAL(text[999], '!');
	rt_arena_done(&arena);
	rt_arena_done(&arena);
}

int main(void)
{
	static const struct test tests[] = {
		{ "the content of a request", test_content },
		{ "the same meaning, the same bytes", test_same_meaning },
		{ "histories", test_history },
		{ "a stored text, and every damage to it", test_read },
		{ "a record as an order", test_view },
		{ "an order as of each version", test_view_of_versions },
		{ "reasons and shortages", test_reasons },
		{ "damaged records", test_damaged },
		{ "the arena", test_arena },
	};

	return tests_run("order_record", tests, RT_LENGTH(tests));
}
