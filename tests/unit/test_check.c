/* test_check.c - every limit of the contract: a value at the limit, one beyond it, and the field that
 * the error names. */
#include "check.h"
#include "details.h"
#include "run.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#include <string.h>

typedef Tandem__Order__V1__PlaceOrderRequest PlaceOrder;
typedef Tandem__Order__V1__PlaceOrderRequest__LabelsEntry Label;

/* A valid request, with room for a case to break it. */
struct place {
	PlaceOrder request;
	Tandem__Order__V1__OrderLine lines[CHECK_LINES_MAX + 1], *line_list[CHECK_LINES_MAX + 1];
	Label labels[CHECK_LABELS_MAX + 1], *label_list[CHECK_LABELS_MAX + 1];
	Google__Protobuf__Duration hold;
	char skus[CHECK_LINES_MAX + 1][8];
	char text[1024];
};

static void place_init(struct place *place)
{
	tandem__order__v1__place_order_request__init(&place->request);
	for (size_t i = 0; i <= CHECK_LINES_MAX; i++) {
		snprintf(place->skus[i], sizeof(place->skus[i]), "sku-%zu", i);
		tandem__order__v1__order_line__init(&place->lines[i]);
		place->lines[i].sku = place->skus[i];
		place->lines[i].quantity = 1;
		place->line_list[i] = &place->lines[i];
	}
	for (size_t i = 0; i <= CHECK_LABELS_MAX; i++) {
		tandem__order__v1__place_order_request__labels_entry__init(&place->labels[i]);
		place->labels[i].key = place->skus[i];
		place->labels[i].value = place->skus[i];
		place->label_list[i] = &place->labels[i];
	}
	google__protobuf__duration__init(&place->hold);
	place->hold.seconds = 60;
	place->request.customer_id = place->skus[0];
	place->request.lines = place->line_list;
	place->request.n_lines = 1;
	place->request.labels = place->label_list;
	memset(place->text, 'x', sizeof(place->text) - 1);
	place->text[sizeof(place->text) - 1] = '\0';
}

/* A text of so many characters. */
static char *text_of(struct place *place, size_t length)
{
	place->text[length] = '\0';
	return place->text;
}

/* The same of characters that are not ASCII: two bytes each. */
static char *wide_text_of(struct place *place, size_t length)
{
	for (size_t i = 0; i < length; i++)
		memcpy(place->text + 2 * i, "\xc3\xa9", 2);
	return text_of(place, 2 * length);
}

/* The request's only label. */
static Label *label_of(struct place *place)
{
	place->request.n_labels = 1;
	return &place->labels[0];
}

static void hold_for(struct place *place, int64_t seconds, int32_t nanos)
{
	place->request.hold = &place->hold;
	place->hold.seconds = seconds;
	place->hold.nanos = nanos;
}

/* Two lines of one SKU. */
static void add_up(struct place *place, uint32_t first, uint32_t second)
{
	place->request.n_lines = 2;
	place->lines[1].sku = place->lines[0].sku;
	place->lines[0].quantity = first;
	place->lines[1].quantity = second;
}

/* The part of a key that an error shows. */
#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

#define CASES(X)                                                                                   \
	X(nothing_wrong, "", (void)0)                                                              \
	X(customer_missing, "customer_id", place->request.customer_id = (char *)"")                \
	X(customer_128, "", place->request.customer_id = text_of(place, 128))                      \
	X(customer_129, "customer_id", place->request.customer_id = text_of(place, 129))           \
	X(customer_128_wide, "", place->request.customer_id = wide_text_of(place, 128))            \
	X(customer_129_wide, "customer_id", place->request.customer_id = wide_text_of(place, 129)) \
	X(customer_control, "customer_id", place->request.customer_id = (char *)"a\nb")            \
	X(request_id_128, "", place->request.request_id = text_of(place, 128))                     \
	X(request_id_129, "request_id", place->request.request_id = text_of(place, 129))           \
	X(request_id_control, "request_id", place->request.request_id = (char *)"\x7f")            \
	X(no_lines, "lines", place->request.n_lines = 0)                                           \
	X(lines_100, "", place->request.n_lines = 100)                                             \
	X(lines_101, "lines", place->request.n_lines = 101)                                        \
	X(quantity_0, "lines[0].quantity", place->lines[0].quantity = 0)                           \
	X(quantity_max, "", place->lines[0].quantity = 1000000)                                    \
	X(quantity_more, "lines[0].quantity", place->lines[0].quantity = 1000001)                  \
	X(quantity_huge, "lines[0].quantity", place->lines[0].quantity = UINT32_MAX)               \
	X(sum_max, "", add_up(place, 999999, 1))                                                   \
	X(sum_more, "lines[1].quantity", add_up(place, 1000000, 1))                                \
	X(sku_missing, "lines[0].sku", place->lines[0].sku = (char *)"")                           \
	X(sku_64, "", place->lines[0].sku = text_of(place, 64))                                    \
	X(sku_65, "lines[0].sku", place->lines[0].sku = text_of(place, 65))                        \
	X(sku_every_character, "", place->lines[0].sku = (char *)"azAZ09._-")                      \
	X(sku_space, "lines[0].sku", place->lines[0].sku = (char *)"a b")                          \
	X(sku_equals, "lines[0].sku", place->lines[0].sku = (char *)"a=b")                         \
	X(sku_wide, "lines[0].sku", place->lines[0].sku = (char *)"caf\xc3\xa9")                   \
	X(last_sku, "lines[99].sku", place->request.n_lines = 100;                                 \
	  place->lines[99].sku = (char *)"/")                                                      \
	X(labels_16, "", place->request.n_labels = 16)                                             \
	X(labels_17, "labels", place->request.n_labels = 17)                                       \
	X(label_key_64, "", label_of(place)->key = text_of(place, 64))                             \
	X(label_key_missing, "labels[\"\"].key", label_of(place)->key = (char *)"")                \
	X(label_key_65, "labels[\"" X64 "\"].key", label_of(place)->key = text_of(place, 65))      \
	X(label_value_256, "", label_of(place)->value = text_of(place, 256))                       \
	X(label_value_257, "labels[\"sku-0\"].value",                                              \
	  label_of(place)->value = text_of(place, 257))                                            \
	X(hold_1s, "", hold_for(place, 1, 0))                                                      \
	X(hold_less, "hold", hold_for(place, 0, 999999999))                                        \
	X(hold_negative, "hold", hold_for(place, INT64_MIN, 0))                                    \
	X(hold_30d, "", hold_for(place, 2592000, 0))                                               \
	X(hold_more, "hold", hold_for(place, 2592000, 1))                                          \
	X(hold_huge, "hold", hold_for(place, INT64_MAX, 0))                                        \
	X(hold_nanos, "hold", hold_for(place, 60, 1000000000))                                     \
	X(hold_nanos_negative, "hold", hold_for(place, 60, -1))

#define SPOIL(name, field, code)                                                                   \
	static void name(struct place *place)                                                      \
	{                                                                                          \
		(void)place;                                                                       \
		code;                                                                              \
	}
/* clang-format off */
CASES(SPOIL)
static const struct {
	const char *name, *field;
	void (*spoil)(struct place *place);
} place_cases[] = {
#define ENTRY(name, field, code) { #name, field, name },
	CASES(ENTRY)
};
/* clang-format on */

/* `field` "": the message is fine; else exactly this one is at fault. */
static void expect(const char *name, const ProtobufCMessage *message, const char *field)
{
	struct rt_status status = { .code = 0 };
	bool good = check_request(message, &status);
	struct details details = details_of(&status);

	TEST_ROW(good == (field[0] == '\0'), name);
	TEST_ROW(status.code == (good ? 0 : RT_CODE_INVALID_ARGUMENT), name);
	TEST_ROW(details.field_count == (good ? 0 : 1), name);
	TEST_ROW(strcmp(details.fields, field) == 0, name);
	if (!good)
		TEST_ROW(details.described && strstr(status.message, field) != NULL, name);
	rt_status_done(&status);
}

static void test_place_order(void)
{
	for (size_t i = 0; i < RT_LENGTH(place_cases); i++) {
		struct place place;

		place_init(&place);
		place_cases[i].spoil(&place);
		expect(place_cases[i].name, &place.request.base, place_cases[i].field);
	}
}

#define PACKED_MAX 65536

/* Whether the one pass takes these bytes. What it takes, the two others take, too, and alike. */
static bool takes_packed(const char *name, const uint8_t *bytes, size_t length)
{
	struct rt_wire_fault fault;
	struct rt_status status = { .code = 0 };
	PlaceOrder *request;
	bool wait;

	if (!check_packed_order(bytes, length, &wait))
		return false;
	TEST_ROW(rt_wire_check(&tandem__order__v1__place_order_request__descriptor, bytes, length,
			       &fault),
		 name);
	request = tandem__order__v1__place_order_request__unpack(NULL, length, bytes);
	CU_ASSERT_PTR_NOT_NULL_FATAL(request);
	TEST_ROW(check_request(&request->base, &status), name);
	TEST_ROW((request->wait_for_decision != 0) == wait, name);
	rt_status_done(&status);
	tandem__order__v1__place_order_request__free_unpacked(request, NULL);
	return true;
}

/* Each case packed, as it is and with up to three bytes changed. */
static void test_packed(void)
{
	static uint8_t bytes[PACKED_MAX], spoiled[PACKED_MAX];
	uint32_t random = 1;
	size_t taken = 0;

	for (size_t i = 0; i < RT_LENGTH(place_cases); i++) {
		struct place place;
		size_t length;

		place_init(&place);
		place.request.wait_for_decision = i % 2 == 0;
		place_cases[i].spoil(&place);
		length = tandem__order__v1__place_order_request__get_packed_size(&place.request);
		CU_ASSERT_FATAL(length <= PACKED_MAX);
		tandem__order__v1__place_order_request__pack(&place.request, bytes);
		if (takes_packed(place_cases[i].name, bytes, length))
			taken++;
		for (int round = 0; round < 2000; round++) {
			memcpy(spoiled, bytes, length);
			for (int change = 0; change < 3; change++) {
				random = random * 1664525 + 1013904223;
				spoiled[(random >> 8) % length] = (uint8_t)(random >> 24);
			}
			takes_packed(place_cases[i].name, spoiled, length);
		}
	}
	/* Else this would be a check of nothing. */
	CU_ASSERT(taken >= 5);
}

/* A request of the usual kind takes the one pass, with and without what it may leave out. */
static void test_packed_plain(void)
{
	static const char least[] = "\x12\001c\x1a\x05\x0a\001s\x10\x01";
	static const char most[] =
		"\x0a\x02r1\x12\001c\x1a\x05\x0a\001s\x10\x01\x1a\x07\x0a\001s\x10\x80"
		"\x89\x3d\x30\x01";
	bool wait = true;

	CU_ASSERT(takes_packed("least", (const uint8_t *)least, sizeof(least) - 1));
	CU_ASSERT(check_packed_order((const uint8_t *)least, sizeof(least) - 1, &wait) && !wait);
	CU_ASSERT_FALSE(takes_packed("a line of 1000000 and one of 1", (const uint8_t *)most,
				     sizeof(most) - 1));
	for (size_t length = 0; length < sizeof(least) - 1; length++)
		CU_ASSERT_FALSE(check_packed_order((const uint8_t *)least, length, &wait));
}

static struct details faults_of(const struct place *place)
{
	struct rt_status status = { .code = 0 };
	struct details details;

	CU_ASSERT_FALSE(check_request(&place->request.base, &status));
	details = details_of(&status);
	rt_status_done(&status);
	return details;
}

static void test_every_fault_is_listed(void)
{
	struct place place;

	place_init(&place);
	place.request.customer_id = (char *)"";
	place.request.n_lines = 2;
	place.lines[0].quantity = 0;
	place.lines[1].sku = (char *)" ";
	CU_ASSERT_STRING_EQUAL(faults_of(&place).fields,
			       "customer_id lines[0].quantity lines[1].sku");
	place_init(&place);
	place.request.n_lines = 100;
	for (size_t i = 0; i < 100; i++)
		place.lines[i].quantity = 0;
	CU_ASSERT_EQUAL(faults_of(&place).field_count, CHECK_VIOLATIONS_MAX);
}

/* Quantities of one SKU are added up over all lines, whatever stands between. */
static void test_hidden_sum(void)
{
	struct place place;

	place_init(&place);
	place.request.n_lines = 3;
	place.lines[0].quantity = 500000;
	place.lines[2].sku = place.lines[0].sku;
	place.lines[2].quantity = 500001;
	expect("a line apart", &place.request.base, "lines[2].quantity");
}

static void test_other_orders(void)
{
	char long_text[300];
	PlaceOrder place = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT, *items[1001];
	Tandem__Order__V1__BatchPlaceOrdersRequest batch =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__GetOrderRequest get = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;
	Tandem__Order__V1__ListOrdersRequest list = TANDEM__ORDER__V1__LIST_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__WatchOrderRequest watch = TANDEM__ORDER__V1__WATCH_ORDER_REQUEST__INIT;
	Tandem__Order__V1__ConfirmOrderRequest confirm =
		TANDEM__ORDER__V1__CONFIRM_ORDER_REQUEST__INIT;
	Tandem__Order__V1__CancelOrderRequest cancel =
		TANDEM__ORDER__V1__CANCEL_ORDER_REQUEST__INIT;
	Tandem__Order__V1__ExplainOrderRequest explain =
		TANDEM__ORDER__V1__EXPLAIN_ORDER_REQUEST__INIT;
	Tandem__Order__V1__StreamOrdersRequest stream =
		TANDEM__ORDER__V1__STREAM_ORDERS_REQUEST__INIT;

	memset(long_text, 'x', sizeof(long_text));
	long_text[257] = '\0';
	expect("batch of none", &batch.base, "requests");
	/* Items have results of their own. */
	for (size_t i = 0; i < RT_LENGTH(items); i++)
		items[i] = &place;
	batch.requests = items;
	batch.n_requests = 1000;
	expect("batch of 1000", &batch.base, "");
	batch.n_requests = 1001;
	expect("batch of 1001", &batch.base, "requests");
	expect("get without id", &get.base, "order_id");
	get.order_id = (char *)"nobody knows";
	expect("an id that cannot be is not found, later", &get.base, "");
	get.order_id = long_text;
	expect("get with a long id", &get.base, "order_id");
	expect("list without customer", &list.base, "customer_id");
	list.customer_id = (char *)"ann";
	expect("list", &list.base, "");
	list.page_size = -1;
	expect("page_size below 0", &list.base, "page_size");
	list.page_size = INT32_MAX;
	expect("page_size above 1000 counts as 1000", &list.base, "");
	list.status = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_EXPIRED;
	expect("the last status", &list.base, "");
	list.status = (Tandem__Order__V1__OrderStatus)7;
	expect("no such status", &list.base, "status");
	expect("watch without id", &watch.base, "order_id");
	expect("confirm without id", &confirm.base, "order_id");
	expect("cancel without id", &cancel.base, "order_id");
	cancel.order_id = (char *)"ord_x";
	cancel.reason = long_text;
	expect("reason of 257", &cancel.base, "reason");
	long_text[256] = '\0';
	expect("reason of 256", &cancel.base, "");
	expect("explain without id", &explain.base, "order_id");
	expect("an item of a stream has its own outcome", &stream.base, "");
}

static void test_moves(void)
{
	Tandem__Order__V1__ConfirmOrderRequest
		confirm = TANDEM__ORDER__V1__CONFIRM_ORDER_REQUEST__INIT,
		*confirms[1001];
	Tandem__Order__V1__CancelOrderRequest cancel =
						      TANDEM__ORDER__V1__CANCEL_ORDER_REQUEST__INIT,
					      *cancels[1001];
	Tandem__Order__V1__BatchConfirmOrdersRequest confirm_all =
		TANDEM__ORDER__V1__BATCH_CONFIRM_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__BatchCancelOrdersRequest cancel_all =
		TANDEM__ORDER__V1__BATCH_CANCEL_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__ExtendHoldRequest extend = TANDEM__ORDER__V1__EXTEND_HOLD_REQUEST__INIT;
	Google__Protobuf__Timestamp until = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	for (size_t i = 0; i < RT_LENGTH(confirms); i++) {
		confirms[i] = &confirm;
		cancels[i] = &cancel;
	}
	expect("confirms none", &confirm_all.base, "requests");
	expect("cancels none", &cancel_all.base, "requests");
	confirm_all.requests = confirms;
	cancel_all.requests = cancels;
	/* Items have results of their own. */
	confirm_all.n_requests = cancel_all.n_requests = 1000;
	expect("confirms 1000", &confirm_all.base, "");
	expect("cancels 1000", &cancel_all.base, "");
	confirm_all.n_requests = cancel_all.n_requests = 1001;
	expect("confirms 1001", &confirm_all.base, "requests");
	expect("cancels 1001", &cancel_all.base, "requests");

	extend.order_id = (char *)"some order";
	expect("until when?", &extend.base, "hold_expire_time");
	extend.hold_expire_time = &until;
	expect("the first time", &extend.base, "");
	until.seconds = 253402300799;
	until.nanos = 999999999;
	expect("the last time", &extend.base, "");
	until.nanos++;
	expect("a second more", &extend.base, "hold_expire_time");
	until.nanos = -1;
	expect("nanos below 0", &extend.base, "hold_expire_time");
	until.nanos = 0;
	until.seconds++;
	expect("the year 10000", &extend.base, "hold_expire_time");
	until.seconds = -1;
	expect("before 1970", &extend.base, "hold_expire_time");
	until.seconds = 1;
	extend.order_id = (char *)"";
	expect("extend without id", &extend.base, "order_id");
}

static void test_inventory(void)
{
	char long_text[300];
	Tandem__Inventory__V1__AdjustStockRequest adjust =
		TANDEM__INVENTORY__V1__ADJUST_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__BatchAdjustStockRequest batch =
		TANDEM__INVENTORY__V1__BATCH_ADJUST_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__SetLowStockThresholdRequest threshold =
		TANDEM__INVENTORY__V1__SET_LOW_STOCK_THRESHOLD_REQUEST__INIT;
	Tandem__Inventory__V1__GetStockRequest get = TANDEM__INVENTORY__V1__GET_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__ListStockRequest list =
		TANDEM__INVENTORY__V1__LIST_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__GetReservationRequest reservation =
		TANDEM__INVENTORY__V1__GET_RESERVATION_REQUEST__INIT;

	memset(long_text, 'x', sizeof(long_text));
	long_text[257] = '\0';
	adjust.delta = 1;
	expect("adjust without SKU", &adjust.base, "sku");
	adjust.sku = (char *)"apple";
	expect("adjust", &adjust.base, "");
	adjust.delta = 0;
	expect("delta 0", &adjust.base, "delta");
	adjust.delta = 1000000000;
	expect("delta at most", &adjust.base, "");
	adjust.delta = -1000000000;
	expect("delta at least", &adjust.base, "");
	adjust.delta = 1000000001;
	expect("delta more", &adjust.base, "delta");
	adjust.delta = INT64_MIN;
	expect("delta least", &adjust.base, "delta");
	adjust.delta = 1;
	adjust.reason = long_text;
	expect("reason of 257", &adjust.base, "reason");
	long_text[129] = '\0';
	expect("reason of 129", &adjust.base, "");
	adjust.request_id = long_text;
	expect("request_id of 129", &adjust.base, "request_id");
	expect("batch of none", &batch.base, "requests");
	batch.n_requests = 1001;
	expect("batch of 1001", &batch.base, "requests");
	expect("threshold without SKU", &threshold.base, "sku");
	threshold.sku = (char *)"apple";
	threshold.low_stock_threshold = 1000000000000;
	expect("threshold at most", &threshold.base, "");
	threshold.low_stock_threshold++;
	expect("threshold more", &threshold.base, "low_stock_threshold");
	expect("get without SKU", &get.base, "sku");
	list.page_size = -5;
	expect("page_size below 0", &list.base, "page_size");
	expect("reservation without id", &reservation.base, "order_id");
}

static void test_page_sizes_and_ids(void)
{
	CU_ASSERT_EQUAL(check_page_size(0), 50);
	CU_ASSERT_EQUAL(check_page_size(1), 1);
	CU_ASSERT_EQUAL(check_page_size(1000), 1000);
	CU_ASSERT_EQUAL(check_page_size(1001), 1000);
	CU_ASSERT_TRUE(check_order_id("ord_aaaaaaaaaaaaaaaaaaaaaaaaaa"));
	CU_ASSERT_FALSE(check_order_id("ord_aaaaaaaaaaaaaaaaaaaaaaaaa"));
	CU_ASSERT_FALSE(check_order_id("ord_aaaaaaaaaaaaaaaaaaaaaaaaaaa"));
	CU_ASSERT_FALSE(check_order_id("ORD_aaaaaaaaaaaaaaaaaaaaaaaaaa"));
	CU_ASSERT_FALSE(check_order_id("ord_aaaaaaaaaaaaaaaaaaaaaaaaa!"));
	CU_ASSERT_FALSE(check_order_id(""));
}

/* Characters that are not printable: no customer_id, request_id or order_id may contain one. */
static void only_printable(void)
{
	static const struct {
		const char *character, *name; /* name NULL: it is taken */
	} rows[] = {
		{ " ", NULL },
		{ "~", NULL },
		{ "\xc2\xa0", NULL },         /* a blank that does not break */
		{ "\xc3\xa9", NULL },         /* é */
		{ "\xd7\x90", NULL },         /* alef: written from right to left, yet a letter */
		{ "\xf0\x9f\x98\x80", NULL }, /* a face */
		{ "\x01", "U+0001" },
		{ "\n", "U+000A" },
		{ "\x1b", "U+001B" },
		{ "\x7f", "U+007F" },
		{ "\xc2\x80", "U+0080" },
		{ "\xc2\x9b", "U+009B" },
		{ "\xc2\xad", "U+00AD" },
		{ "\xd8\x9c", "U+061C" },
		{ "\xe2\x80\x8b", "U+200B" },
		{ "\xe2\x80\x8d", "U+200D" },
		{ "\xe2\x80\x8e", "U+200E" },
		{ "\xe2\x80\xa8", "U+2028" },
		{ "\xe2\x80\xa9", "U+2029" },
		{ "\xe2\x80\xaa", "U+202A" },
		{ "\xe2\x80\xae", "U+202E" },
		{ "\xe2\x81\xa0", "U+2060" },
		{ "\xe2\x81\xa6", "U+2066" },
		{ "\xe2\x81\xa9", "U+2069" },
		{ "\xef\xbb\xbf", "U+FEFF" },
		{ "\xf3\xa0\x80\x81", "U+E0001" },
		{ "\xf3\xa0\x81\xbf", "U+E007F" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		Tandem__Order__V1__GetOrderRequest get = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;
		struct rt_status status = { 0 };
		struct place place;
		char word[16], said[64];

		snprintf(word, sizeof(word), "a%sb", rows[i].character);
		snprintf(said, sizeof(said), "request_id holds %s, which is not printable",
			 rows[i].name);
		place_init(&place);
		place.request.customer_id = word;
		place.request.request_id = word;
		get.order_id = word;
		TEST_ROW(check_request(&place.request.base, &status) == (rows[i].name == NULL),
			 rows[i].character);
		if (rows[i].name != NULL)
			TEST_ROW(strcmp(status.message, said) == 0, status.message);
		rt_status_done(&status);
		TEST_ROW(check_request(&get.base, &status) == (rows[i].name == NULL),
			 rows[i].character);
		rt_status_done(&status);
	}
}

static const struct test tests[] = {
	{ "only printable characters", only_printable },
	{ "limits of PlaceOrder", test_place_order },
	{ "packed, in one pass: what it takes is fine", test_packed },
	{ "packed, in one pass: the usual request", test_packed_plain },
	{ "every fault is listed", test_every_fault_is_listed },
	{ "equal SKUs apart are added up", test_hidden_sum },
	{ "limits of the other order requests", test_other_orders },
	{ "batches of moves, and holds", test_moves },
	{ "limits of inventory's requests", test_inventory },
	{ "page sizes and order ids", test_page_sizes_and_ids },
};

TESTS_MAIN("check", tests)
