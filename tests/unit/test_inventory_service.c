/* test_inventory_service.c - the whole inventory service on a real redis-server: how it handles events,
 * and what its callers get. Calls go through rt_client_local, packed and unpacked as on
 * a wire. */
#include "base/base.h"
#include "events/stream_internal.h"
#include "google/rpc/status.pb-c.h"
#include "inventory/inventory.h"
#include "redis/redis.h"
#include "redis_server.h"
#include "rpc/rpc.h"
#include "run.h"
#include "run_until.h"
#include "sim/stored.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"

#include <stdio.h>
#include <string.h>

#define EVENTS  "inventory:{0}:events"
#define ORDERS  "order:{0}:events"
#define STOCK   "inventory:{0}:stock"
#define RECORDS "inventory:{0}:r"
#define DEAD    "inventory:{0}:dead"
/* Order ids: the prefix, 25 characters, and one that ends 128 bits: a, e, i, m, q … */
#define ID(last) "ord_aaaaaaaaaaaaaaaaaaaaaaaaa" last

static struct redis_server server;

struct fixture {
	struct rt_loop *loop;
	struct rt_metrics *metrics;
	struct rt_context *context;
	struct inventory *inventory;
	ProtobufCService *client;
	int stopped;
};
static struct fixture f;

struct call {
	struct rt_client_op op;
	int ends, code;
	char message[256];
	ProtobufCMessage *response; /* a copy: the answer lives until done returns */
};
static struct call call;

/* ---- running ---- */

static void run_until(bool (*wanted)(void))
{
	run_until_so(f.loop, wanted);
}

static bool is_ready(void)
{
	return rt_context_ready(f.context);
}

static bool metric_is(const char *line);

/* Everything in the order stream was delivered and acknowledged, and the service knows. */
static bool is_quiet(void)
{
	redisReply *groups = redis_server_command(&server, "XINFO GROUPS " ORDERS);
	redisReply *stream = redis_server_command(&server, "XINFO STREAM " ORDERS);
	bool quiet = groups->elements == 1 && groups->element[0]->element[5]->integer == 0 &&
		     strcmp(groups->element[0]->element[7]->str, stream->element[7]->str) == 0;

	freeReplyObject(groups);
	freeReplyObject(stream);
	return quiet && metric_is("tandem_events_in_flight{stream=\"" ORDERS "\"} 0");
}

static void setup(void)
{
	struct rt_redis_options redis = { .unix_path = server.socket, .name = "test" };
	struct rt_context_options options = { .redis = &redis,
					      .events = { RT_EVENTS_DEFAULTS },
					      .consumer = "test",
					      .trim_every_ms = 50,
					      .stale_ms = 1000 };

	redis_server_do(&server, "FLUSHALL");
	f = (struct fixture){ .metrics = rt_metrics_new() };
	CU_ASSERT_FATAL(rt_loop_new(&f.loop) == RT_OK);
	options.metrics = f.metrics;
	options.events.block_ms = 100;
	options.events.deliveries_max = 2;
	options.events.retry_min_ms = 1;
	options.events.retry_max_ms = 5;
	CU_ASSERT_FATAL(rt_context_new(f.loop, &inventory_domain, &options, &f.context) == RT_OK);
	f.inventory = f.context->data;
	f.client = rt_client_local(f.loop, inventory_rpc(f.inventory), NULL, NULL);
	rt_context_start(f.context);
	run_until(is_ready);
}

static void teardown(void)
{
	if (call.response != NULL)
		protobuf_c_message_free_unpacked(RT_TAKE(call.response), NULL);
	if (f.context == NULL)
		return;
	if (f.stopped == 0) {
		rt_context_stop(f.context, tests_count, &f.stopped);
		run_until_count(f.loop, &f.stopped, 1);
	}
	rt_context_free(f.context);
	rt_client_free(f.client);
	rt_loop_free(f.loop);
	rt_metrics_free(f.metrics);
}

/* A counter as /metrics shows it. */
static bool metric_is(const char *line)
{
	struct rt_buf text = { NULL, 0, 0 };
	char *wanted = rt_printf("\n%s\n", line);
	bool good;

	rt_metrics_write(f.metrics, &text);
	rt_buf_add(&text, "", 1);
	good = strstr(text.data, wanted) != NULL;
	free(wanted);
	rt_buf_done(&text);
	return good;
}

static void stock_set(const char *sku, const char *counters)
{
	redis_server_do(&server, "HSET " STOCK " %s %s", sku, counters);
}

static void stock_is(const char *sku, const char *counters)
{
	CU_ASSERT_STRING_EQUAL(redis_server_text(&server, "HGET " STOCK " %s", sku), counters);
}

/* A reservation without its time. */
static bool record_is(const char *order_id, const char *state, const char *lines)
{
	char record[256], found_state[32], found_lines[256] = "";

	snprintf(record, sizeof(record), "%s",
		 redis_server_text(&server, "HGET " RECORDS " %s", order_id));
	return sscanf(record, "%31s %*s %*s %255[^\n]", found_state, found_lines) >= 1 &&
	       strcmp(found_state, state) == 0 && strcmp(found_lines, lines) == 0;
}

/* ---- events ---- */

struct line {
	const char *sku;
	uint32_t quantity;
};

static void add_event(const char *type, const char *order_id, const void *data, size_t length)
{
	freeReplyObject(redis_server_command(&server,
					     "XADD " ORDERS " * id %s/1 type %s subject %s seq 1 "
					     "time 2026-11-23T01:02:03.004Z data %b",
					     order_id, type, order_id, data, length));
}

/* The content of an OrderPlaced; returns its length. */
static size_t pack_placed(const struct line *lines, size_t count, uint8_t *packed)
{
	Tandem__Order__V1__OrderPlaced placed = TANDEM__ORDER__V1__ORDER_PLACED__INIT;
	Tandem__Order__V1__OrderContent content = TANDEM__ORDER__V1__ORDER_CONTENT__INIT;
	Tandem__Order__V1__OrderLine messages[128], *list[128];

	CU_ASSERT_FATAL(count <= 128);
	for (size_t i = 0; i < count; i++) {
		tandem__order__v1__order_line__init(&messages[i]);
		messages[i].sku = (char *)(uintptr_t)lines[i].sku;
		messages[i].quantity = lines[i].quantity;
		list[i] = &messages[i];
	}
	content.customer_id = (char[]){ "customer" };
	content.n_lines = count;
	content.lines = list;
	placed.content = &content;
	return tandem__order__v1__order_placed__pack(&placed, packed);
}

static void add_placed(const char *order_id, const struct line *lines, size_t count)
{
	uint8_t packed[16384];
	size_t length = pack_placed(lines, count, packed);

	add_event("tandem.order.v1.OrderPlaced", order_id, packed, length);
}

#define PLACED(id, ...)                                                                            \
	add_placed(id, (const struct line[]){ __VA_ARGS__ },                                       \
		   sizeof((const struct line[]){ __VA_ARGS__ }) / sizeof(struct line))

static void orders_are_served(void)
{
	stock_set("apple", "9 0 0 9 1");
	PLACED(ID("a"), { "apple", 4 });
	/* Lines with the same SKU are added up. */
	PLACED(ID("e"), { "apple", 2 }, { "pear", 1 }, { "apple", 3 });
	PLACED(ID("i"), { "apple", 2 }, { "apple", 3 });
	run_until(is_quiet);
	CU_ASSERT(record_is(ID("a"), "RESERVED", "apple=4"));
	CU_ASSERT(record_is(ID("e"), "UNAVAILABLE", "apple=5 pear=1/00"));
	CU_ASSERT(record_is(ID("i"), "RESERVED", "apple=5"));
	add_event("tandem.order.v1.OrderReserved", ID("a"), "", 0);
	add_event("tandem.order.v1.OrderConfirmed", ID("a"), "", 0);
	add_event("tandem.order.v1.OrderRejected", ID("e"), "", 0);
	add_event("tandem.order.v1.OrderExpired", ID("i"), "", 0);
	add_event("tandem.order.v1.OrderCancelled", ID("m"), "", 0);
	add_event("tandem.order.v1.OrderSettled", ID("a"), "", 0);
	/* An event that is not a request changes nothing. */
	add_event("tandem.order.v1.OrderForgotten", "nobody", "", 0);
	add_event("tandem.order.v2.OrderPlaced", ID("q"), "", 0);
	run_until(is_quiet);
	CU_ASSERT(record_is(ID("a"), "COMMITTED", "apple=4"));
	CU_ASSERT(record_is(ID("e"), "UNAVAILABLE", "apple=5 pear=1/00"));
	CU_ASSERT(record_is(ID("i"), "RELEASED", "apple=5"));
	CU_ASSERT(record_is(ID("m"), "RELEASED", ""));
	stock_is("apple", "5 0 4 9 5");
	CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS " DEAD), 0);
	CU_ASSERT(metric_is("tandem_reservations_total{answer=\"reserved\"} 2"));
	CU_ASSERT(metric_is("tandem_reservations_total{answer=\"unavailable\"} 1"));
	CU_ASSERT(metric_is("tandem_reservations_total{answer=\"released\"} 2"));
	CU_ASSERT(metric_is("tandem_reservations_total{answer=\"committed\"} 1"));
	CU_ASSERT(metric_is("tandem_reservations_total{answer=\"nothing\"} 1"));
	CU_ASSERT(metric_is("tandem_reservations_unexpected_total 0"));
	/* A cancel of sold stock is unexpected, and answered with the state as it is. */
	add_event("tandem.order.v1.OrderCancelled", ID("a"), "", 0);
	run_until(is_quiet);
	CU_ASSERT(record_is(ID("a"), "COMMITTED", "apple=4"));
	CU_ASSERT(metric_is("tandem_reservations_unexpected_total 1"));
}

/* An event that cannot be decoded goes to the dead letters at once, with the reason; orders are served. */
static void invalid_events(void)
{
	static const struct line many[101] = { { "apple", 1 } };
	static const struct line quantity_0[] = { { "apple", 0 } };
	static const struct line too_many[] = { { "apple", 600000 }, { "apple", 400001 } };
	static const struct line blank[] = { { "app le", 1 } };
	static const struct line nameless[] = { { "", 1 } };
	static const char letters[] =
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	static const struct line lengthy[] = { { letters, 1 } };
	static const struct {
		const char *why, *type, *order_id, *data;
		const struct line *lines;
		size_t count;
	} rows[] = {
		{ "the subject is not an order id", "tandem.order.v1.OrderCancelled", "ord_1", "",
		  NULL, 0 },
		{ "the content is not a valid OrderPlaced", "tandem.order.v1.OrderPlaced", ID("q"),
		  "\xff\xff", NULL, 0 },
		{ "the content is not a valid OrderPlaced", "tandem.order.v1.OrderPlaced", ID("q"),
		  "", NULL, 0 },
		{ "the content is not a valid OrderPlaced", NULL, ID("q"), NULL, many, 0 },
		{ "the content is not a valid OrderPlaced", NULL, ID("q"), NULL, many, 101 },
		{ "a line of the order has no valid quantity", NULL, ID("q"), NULL, quantity_0, 1 },
		{ "a line of the order has no valid quantity", NULL, ID("q"), NULL, too_many, 2 },
		{ "a line of the order has no valid SKU", NULL, ID("q"), NULL, blank, 1 },
		{ "a line of the order has no valid SKU", NULL, ID("q"), NULL, nameless, 1 },
		{ "a line of the order has no valid SKU", NULL, ID("q"), NULL, lengthy, 1 },
	};

	CU_ASSERT_EQUAL(strlen(letters), 65);
	stock_set("apple", "9 0 0 9 1");
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct line lines[101];
		redisReply *dead;
		bool found = false;

		redis_server_do(&server, "DEL " DEAD);
		for (size_t k = 0; k < rows[i].count; k++)
			lines[k] = rows[i].lines[rows[i].count > 100 ? 0 : k];
		if (rows[i].data != NULL)
			add_event(rows[i].type, rows[i].order_id, rows[i].data,
				  strlen(rows[i].data));
		else
			add_placed(rows[i].order_id, lines, rows[i].count);
		run_until(is_quiet);
		dead = redis_server_command(&server, "XRANGE " DEAD " - +");
		TEST_ROW(dead->elements == 1, rows[i].why);
		for (size_t k = 0;
		     dead->elements == 1 && k < dead->element[0]->element[1]->elements; k++)
			found = found || strcmp(dead->element[0]->element[1]->element[k]->str,
						rows[i].why) == 0;
		TEST_ROW(found, rows[i].why);
		freeReplyObject(dead);
		TEST_ROW(redis_server_int(&server, "EXISTS " EVENTS " " RECORDS) == 0, rows[i].why);
	}
	PLACED(ID("a"), { "apple", 4 });
	run_until(is_quiet);
	CU_ASSERT(record_is(ID("a"), "RESERVED", "apple=4"));
	stock_is("apple", "5 4 0 9 2");
}

/* Damaged counters: the event is tried again, then becomes a dead letter; others are served. */
static void damage(void)
{
	stock_set("apple", "9 0 0 9 1");
	stock_set("bad", "many");
	PLACED(ID("a"), { "bad", 1 });
	PLACED(ID("e"), { "apple", 1 });
	run_until(is_quiet);
	CU_ASSERT(record_is(ID("e"), "RESERVED", "apple=1"));
	CU_ASSERT_EQUAL(redis_server_int(&server, "HEXISTS " RECORDS " " ID("a")), 0);
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " DEAD), 1);
	stock_is("bad", "many");
}

/* ---- calls ---- */

static void call_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	(void)op;
	call.ends++;
	call.code = call.op.status.code;
	snprintf(call.message, sizeof(call.message), "%s",
		 call.op.status.message != NULL ? call.op.status.message : "");
	if (response != NULL) {
		size_t length = protobuf_c_message_get_packed_size(response);
		uint8_t *packed = rt_alloc(length + 1);

		protobuf_c_message_pack(response, packed);
		call.response =
			protobuf_c_message_unpack(response->descriptor, NULL, length, packed);
		free(packed);
	}
}

static void call_start(const char *method, const ProtobufCMessage *request)
{
	const ProtobufCServiceDescriptor *descriptor = f.client->descriptor;
	unsigned index = 0;

	if (call.response != NULL)
		protobuf_c_message_free_unpacked(call.response, NULL);
	call = (struct call){ .op = { .timeout_ms = 10000, .done = call_done } };
	while (index < descriptor->n_methods &&
	       strcmp(descriptor->methods[index].name, method) != 0)
		index++;
	CU_ASSERT_FATAL(index < descriptor->n_methods);
	rt_client_start(f.client, index, request, &call.op);
}

/* The response as its own type; NULL when the call failed. */
static void *call_run(const char *method, const ProtobufCMessage *request)
{
	call_start(method, request);
	run_until_count(f.loop, &call.ends, 1);
	return call.response;
}

static void call_fails(const char *method, const ProtobufCMessage *request, int code)
{
	CU_ASSERT_PTR_NULL(call_run(method, request));
	CU_ASSERT_EQUAL(call.code, code);
}

static Tandem__Inventory__V1__AdjustStockRequest adjust_request(const char *sku, int64_t delta,
								const char *request_id)
{
	Tandem__Inventory__V1__AdjustStockRequest request =
		TANDEM__INVENTORY__V1__ADJUST_STOCK_REQUEST__INIT;

	request.sku = (char *)(uintptr_t)sku;
	request.delta = delta;
	request.request_id = (char *)(uintptr_t)request_id;
	request.reason = (char *)(uintptr_t) "a test";
	return request;
}

static bool stock_equal(const Tandem__Inventory__V1__Stock *stock, const char *sku,
			uint64_t available, uint64_t received, uint64_t version)
{
	return stock != NULL && strcmp(stock->sku, sku) == 0 && stock->available == available &&
	       stock->received == received && stock->version == version;
}

static void adjusting(void)
{
	static const struct {
		const char *reason, *sku;
		int64_t delta;
		const char *request_id;
		int code;
		const char *message; /* part of it; NULL: an answer */
		uint64_t available, version;
	} rows[] = {
		{ "stock comes in", "apple", 9, "r1", 0, NULL, 9, 1 },
		{ "the same again", "apple", 9, "r1", 0, NULL, 9, 1 },
		{ "stock goes out", "apple", -2, "", 0, NULL, 7, 2 },
		{ "the first one again, later", "apple", 9, "r1", 0, NULL, 9, 1 },
		{ "other content", "apple", 8, "r1", RT_CODE_ALREADY_EXISTS, "another adjustment",
		  0, 0 },
		{ "more than there is", "apple", -8, "", RT_CODE_FAILED_PRECONDITION,
		  "only 7 of SKU apple are available, 8 were to be taken", 0, 0 },
		{ "nothing", "apple", 0, "", RT_CODE_INVALID_ARGUMENT, "delta", 0, 0 },
		{ "too much", "apple", 1000000001, "", RT_CODE_INVALID_ARGUMENT, "delta", 0, 0 },
		{ "no SKU", "", 1, "", RT_CODE_INVALID_ARGUMENT, "sku", 0, 0 },
		{ "more than can be counted", "fig", 1, "", RT_CODE_OUT_OF_RANGE, "1000000000000",
		  0, 0 },
	};

	stock_set("fig", "1000000000000 0 0 1000000000000 1");
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		Tandem__Inventory__V1__AdjustStockRequest request =
			adjust_request(rows[i].sku, rows[i].delta, rows[i].request_id);
		Tandem__Inventory__V1__AdjustStockResponse *response =
			call_run("AdjustStock", &request.base);

		TEST_ROW(call.code == rows[i].code, rows[i].reason);
		TEST_ROW((response == NULL) == (rows[i].message != NULL), rows[i].reason);
		if (rows[i].message != NULL)
			TEST_ROW(strstr(call.message, rows[i].message) != NULL, rows[i].reason);
		else
			TEST_ROW(stock_equal(response->stock, rows[i].sku, rows[i].available,
					     rows[i].available, rows[i].version),
				 rows[i].reason);
	}
	stock_is("apple", "7 0 0 7 2");
}

/* Each item of a batch ends by itself, in its place. */
static void adjusting_many(void)
{
	Tandem__Inventory__V1__BatchAdjustStockRequest request =
		TANDEM__INVENTORY__V1__BATCH_ADJUST_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__AdjustStockRequest items[] = {
		adjust_request("apple", 3, "r1"), adjust_request("bad sku", 3, ""),
		adjust_request("pear", -1, ""),   adjust_request("apple", 3, "r1"),
		adjust_request("apple", 1, ""),
	};
	Tandem__Inventory__V1__AdjustStockRequest *list[RT_LENGTH(items)];
	Tandem__Inventory__V1__BatchAdjustStockResponse *response;

	for (size_t i = 0; i < RT_LENGTH(items); i++)
		list[i] = &items[i];
	request.requests = list;
	call_run("BatchAdjustStock", &request.base);
	CU_ASSERT_EQUAL(call.code, RT_CODE_INVALID_ARGUMENT); /* none */
	request.n_requests = RT_LENGTH(items);
	response = call_run("BatchAdjustStock", &request.base);
	CU_ASSERT_FATAL(response != NULL && response->n_stocks == RT_LENGTH(items));
	CU_ASSERT(stock_equal(response->stocks[0]->stock, "apple", 3, 3, 1));
	CU_ASSERT_EQUAL_FATAL(response->stocks[1]->result_case,
			      TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__RESULT_ERROR);
	CU_ASSERT_EQUAL(response->stocks[1]->error->code, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL_FATAL(response->stocks[2]->result_case,
			      TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__RESULT_ERROR);
	CU_ASSERT_EQUAL(response->stocks[2]->error->code, RT_CODE_FAILED_PRECONDITION);
	CU_ASSERT(stock_equal(response->stocks[3]->stock, "apple", 3, 3, 1));
	CU_ASSERT(stock_equal(response->stocks[4]->stock, "apple", 4, 4, 2));
}

static void setting_a_threshold(void)
{
	Tandem__Inventory__V1__SetLowStockThresholdRequest set =
		TANDEM__INVENTORY__V1__SET_LOW_STOCK_THRESHOLD_REQUEST__INIT;
	Tandem__Inventory__V1__GetStockRequest get = TANDEM__INVENTORY__V1__GET_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__AdjustStockRequest adjust = adjust_request("apple", 9, "");
	const Tandem__Inventory__V1__SetLowStockThresholdResponse *response;
	const Tandem__Inventory__V1__GetStockResponse *got;

	set.sku = get.sku = (char[]){ "apple" };
	set.low_stock_threshold = 7;
	call_fails("SetLowStockThreshold", &set.base, RT_CODE_NOT_FOUND);
	CU_ASSERT_PTR_NOT_NULL(call_run("AdjustStock", &adjust.base));
	response = call_run("SetLowStockThreshold", &set.base);
	CU_ASSERT_FATAL(response != NULL && response->stock != NULL);
	CU_ASSERT(stock_equal(response->stock, "apple", 9, 9, 2));
	CU_ASSERT_EQUAL(response->stock->low_stock_threshold, 7);
	got = call_run("GetStock", &get.base);
	CU_ASSERT_FATAL(got != NULL && got->stock != NULL);
	CU_ASSERT_EQUAL(got->stock->low_stock_threshold, 7);
	set.low_stock_threshold = 1000000000001;
	call_fails("SetLowStockThreshold", &set.base, RT_CODE_INVALID_ARGUMENT);
	set.low_stock_threshold = 1000000000000;
	CU_ASSERT_PTR_NOT_NULL(call_run("SetLowStockThreshold", &set.base));
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " EVENTS), 2); /* adjusted, low */
}

static void reading(void)
{
	Tandem__Inventory__V1__GetStockRequest get = TANDEM__INVENTORY__V1__GET_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__ListStockRequest list =
		TANDEM__INVENTORY__V1__LIST_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__GetStockResponse *got;
	Tandem__Inventory__V1__ListStockResponse *listed;
	static const char *const skus[] = { "a", "b", "c" };
	static const char *const no_tokens[] = { "a", "b", "no sku", "0123456789abcdef",
						 "0123456789abcdefb" };
	char token[96];

	listed = call_run("ListStock", &list.base);
	CU_ASSERT_FATAL(listed != NULL);
	CU_ASSERT_EQUAL(listed->n_stocks, 0);
	CU_ASSERT_STRING_EQUAL(listed->next_page_token, "");
	for (size_t i = 0; i < RT_LENGTH(skus); i++) {
		Tandem__Inventory__V1__AdjustStockRequest request =
			adjust_request(skus[i], (int64_t)i + 1, "");

		CU_ASSERT_PTR_NOT_NULL(call_run("AdjustStock", &request.base));
	}
	get.sku = (char[]){ "b" };
	got = call_run("GetStock", &get.base);
	CU_ASSERT(got != NULL && stock_equal(got->stock, "b", 2, 2, 1));
	get.sku = (char[]){ "never-seen" };
	call_fails("GetStock", &get.base, RT_CODE_NOT_FOUND);
	get.sku = (char[]){ "no sku" };
	call_fails("GetStock", &get.base, RT_CODE_INVALID_ARGUMENT);
	for (size_t i = 0; i < RT_LENGTH(no_tokens); i++) {
		list.page_token = (char *)(uintptr_t)no_tokens[i];
		CU_ASSERT_PTR_NULL(call_run("ListStock", &list.base));
		TEST_ROW(call.code == RT_CODE_INVALID_ARGUMENT, no_tokens[i]);
	}
	list.page_token = (char[]){ "" };
	list.page_size = 2;
	listed = call_run("ListStock", &list.base);
	CU_ASSERT_FATAL(listed != NULL && listed->n_stocks == 2);
	CU_ASSERT(stock_equal(listed->stocks[0], "a", 1, 1, 1));
	CU_ASSERT(stock_equal(listed->stocks[1], "b", 2, 2, 1));
	snprintf(token, sizeof(token), "%s", listed->next_page_token);
	CU_ASSERT_NOT_EQUAL(token[0], '\0');
	list.page_token = token;
	/* A token that is cut is invalid; with another page_size a token is valid. */
	token[strlen(token) - 1] = '\0';
	call_fails("ListStock", &list.base, RT_CODE_INVALID_ARGUMENT);
	token[strlen(token)] = 'b';
	list.page_size = 0;
	listed = call_run("ListStock", &list.base);
	CU_ASSERT_FATAL(listed != NULL && listed->n_stocks == 1);
	CU_ASSERT(stock_equal(listed->stocks[0], "c", 3, 3, 1));
	CU_ASSERT_STRING_EQUAL(listed->next_page_token, "");
	list.page_size = -1;
	call_fails("ListStock", &list.base, RT_CODE_INVALID_ARGUMENT);
}

static void reading_a_reservation(void)
{
	Tandem__Inventory__V1__GetReservationRequest request =
		TANDEM__INVENTORY__V1__GET_RESERVATION_REQUEST__INIT;
	Tandem__Inventory__V1__GetReservationResponse *response;
	const Tandem__Inventory__V1__Reservation *reservation;

	stock_set("apple", "9 0 0 9 1");
	PLACED(ID("a"), { "apple", 4 }, { "pear", 7 });
	run_until(is_quiet);
	request.order_id = (char[]){ ID("a") };
	response = call_run("GetReservation", &request.base);
	CU_ASSERT_FATAL(response != NULL && response->reservation != NULL);
	reservation = response->reservation;
	CU_ASSERT_STRING_EQUAL(reservation->order_id, ID("a"));
	CU_ASSERT_EQUAL(reservation->state,
			TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_UNAVAILABLE);
	CU_ASSERT_EQUAL(reservation->version, 1);
	CU_ASSERT_FATAL(reservation->n_lines == 2 && reservation->n_shortages == 1);
	CU_ASSERT_STRING_EQUAL(reservation->lines[0]->sku, "apple");
	CU_ASSERT_EQUAL(reservation->lines[0]->quantity, 4);
	CU_ASSERT_STRING_EQUAL(reservation->shortages[0]->sku, "pear");
	CU_ASSERT_EQUAL(reservation->shortages[0]->requested, 7);
	CU_ASSERT_EQUAL(reservation->shortages[0]->available, 0);
	CU_ASSERT_TRUE(reservation->shortages[0]->unknown);
	CU_ASSERT(reservation->update_time != NULL &&
		  reservation->update_time->seconds > 1700000000);
	request.order_id = (char[]){ ID("e") };
	call_fails("GetReservation", &request.base, RT_CODE_NOT_FOUND);
}

/* ---- who holds a SKU ---- */

static Tandem__Inventory__V1__ListReservationsRequest holders_request(const char *sku, int size)
{
	Tandem__Inventory__V1__ListReservationsRequest request =
		TANDEM__INVENTORY__V1__LIST_RESERVATIONS_REQUEST__INIT;

	request.sku = (char *)(uintptr_t)sku;
	request.page_size = size;
	return request;
}

/* Which of the orders "o<number>" are listed, from `token` on, which is then that of the next page. Returns how many
 * there are. */
static size_t holders_page(const char *sku, int size, char token[128], bool found[])
{
	Tandem__Inventory__V1__ListReservationsRequest request = holders_request(sku, size);
	const Tandem__Inventory__V1__ListReservationsResponse *page;

	request.page_token = token;
	page = call_run("ListReservations", &request.base);
	CU_ASSERT_PTR_NOT_NULL_FATAL(page);
	CU_ASSERT(page->n_reservations <= (size_t)size);
	for (size_t i = 0; i < page->n_reservations; i++) {
		const Tandem__Inventory__V1__Reservation *reservation = page->reservations[i];
		long number = strtol(reservation->order_id + 1, NULL, 10);

		CU_ASSERT_FATAL(reservation->n_lines == 1);
		CU_ASSERT_STRING_EQUAL(reservation->lines[0]->sku, sku);
		CU_ASSERT_EQUAL(reservation->lines[0]->quantity, number % 5 + 1);
		CU_ASSERT_EQUAL(reservation->update_time->seconds, 1700000000 + number);
		found[number] = true;
	}
	snprintf(token, 128, "%s", page->next_page_token);
	return page->n_reservations;
}

/* Makes the orders o<from> … o<to>: a third is like "RESERVED 1 1700000007000 pear=1 apple=3", in the hash r and every
 * other one in parts; the rest does not hold apples. */
static void holders_make(int from, int to)
{
	static const char script[] =
		"for n = ARGV[1] + 0, ARGV[2] + 0 do\n"
		"  local ms, q, kind = (1700000000 + n) * 1000, n % 5 + 1, n % 6\n"
		"  local r, parts\n"
		"  if kind == 0 then r = 'RESERVED 1 %d pear=1 apple=' .. q end\n"
		"  if kind == 1 then r = 'RESERVED 1 %d pineapple=9 apple2=9' end\n"
		"  if kind == 2 then r = 'COMMITTED 2 %d apple=' .. q end\n"
		"  if kind == 3 then r, parts = 'RESERVED 1 %d apple=' .. q .. '@0', "
		"'RESERVED 0 %d apple=' .. q end\n"
		"  if kind == 4 then r = 'UNAVAILABLE 1 %d apple=3/1' end\n"
		"  if kind == 5 then parts = 'RELEASED 0 %d apple=' .. q end\n"
		"  if r then redis.call('HSET', KEYS[1], 'o' .. n, string.format(r, ms)) end\n"
		"  if parts then redis.call('HSET', KEYS[2], 'o' .. n, string.format(parts, ms)) "
		"end\n"
		"end";

	redis_server_do(&server, "EVAL %s 2 " RECORDS " inventory:{0}:parts %d %d", script, from,
			to);
}

static void holders_are(const bool found[], int from, int to)
{
	for (int n = from; n <= to; n++)
		CU_ASSERT_EQUAL(found[n], n % 3 == 0);
}

static void listing_reservations(void)
{
	bool found[4000] = { false };
	char token[128] = "";
	size_t count = 0;

	holders_make(0, 99);
	CU_ASSERT_EQUAL(holders_page("fig", 50, token, found), 0);
	CU_ASSERT_STRING_EQUAL(token, "");
	/* All on one page: the sum says that there are no more. */
	stock_set("apple", "5 102 9 116 3");
	CU_ASSERT_EQUAL(holders_page("apple", 34, token, found), 34);
	CU_ASSERT_STRING_EQUAL(token, "");
	holders_are(found, 0, 99);
	/* Page by page; while the hashes grow, so that Redis keeps them in another form and another order. */
	stock_set("apple", "5 1000000 9 1000014 3");
	memset(found, 0, sizeof(found));
	for (int more = 100; more == 100 || token[0] != '\0'; more += 100) {
		count += holders_page("apple", 7, token, found);
		if (more < 4000)
			holders_make(more, more + 99);
	}
	holders_are(found, 0, 99);
	CU_ASSERT(count >= 34);
	/* Of many. */
	memset(found, 0, sizeof(found));
	count = 0;
	do {
		count += holders_page("apple", 64, token, found);
	} while (token[0] != '\0');
	holders_are(found, 0, 3999);
	CU_ASSERT_EQUAL(count, 1334);
}

/* A page ends after some time, also without anything on it. */
static void listing_among_many(void)
{
	bool found[16] = { false };
	char token[128] = "";
	size_t pages = 0;

	redis_server_do(&server, "EVAL %s 1 " RECORDS,
			"for n = 1, 150000 do redis.call('HSET', KEYS[1], 'p' .. n, "
			"'COMMITTED 2 1700000000000 apple=1') end");
	holders_make(0, 15);
	/* Without stock, or with nothing reserved, there is nothing more to look for. */
	holders_page("apple", 50, token, found);
	CU_ASSERT_STRING_EQUAL(token, "");
	stock_set("apple", "5 0 9 14 3");
	holders_page("apple", 50, token, found);
	CU_ASSERT_STRING_EQUAL(token, "");
	stock_set("apple", "5 100 9 114 3");
	memset(found, 0, sizeof(found));
	do {
		holders_page("apple", 50, token, found);
		pages++;
	} while (token[0] != '\0');
	CU_ASSERT(pages >= 2);
	holders_are(found, 0, 15);
}

static void listing_refused(void)
{
	Tandem__Inventory__V1__ListReservationsRequest request = holders_request("apple", 1);
	const Tandem__Inventory__V1__ListReservationsResponse *page;
	static const char *const no_tokens[] = { "a", "0123456789abcdef",
						 "0123456789abcdef0 0 0 " };
	char token[128];

	holders_make(0, 11);
	stock_set("apple", "5 100 9 114 3");
	page = call_run("ListReservations", &request.base);
	CU_ASSERT_FATAL(page != NULL && page->n_reservations == 1);
	snprintf(token, sizeof(token), "%s", page->next_page_token);
	request.page_token = token;
	request.sku = (char[]){ "pear" };
	call_fails("ListReservations", &request.base, RT_CODE_INVALID_ARGUMENT);
	request.sku = (char[]){ "apple" };
	for (size_t i = 0; i < RT_LENGTH(no_tokens); i++) {
		request.page_token = (char *)(uintptr_t)no_tokens[i];
		call_fails("ListReservations", &request.base, RT_CODE_INVALID_ARGUMENT);
	}
	request.page_token = (char[]){ "" };
	request.sku = (char[]){ "no sku" };
	call_fails("ListReservations", &request.base, RT_CODE_INVALID_ARGUMENT);
	request.sku = (char[]){ "apple" };
	request.page_size = -1;
	call_fails("ListReservations", &request.base, RT_CODE_INVALID_ARGUMENT);
}

/* ---- Redis comes and goes ---- */

static void redis_goes(void)
{
	Tandem__Inventory__V1__GetStockRequest get = TANDEM__INVENTORY__V1__GET_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__AdjustStockRequest adjust = adjust_request("apple", 1, "");

	get.sku = (char[]){ "apple" };
	redis_server_kill(&server);
	call_fails("GetStock", &get.base, RT_CODE_UNAVAILABLE);
	call_fails("AdjustStock", &adjust.base, RT_CODE_UNAVAILABLE);
	CU_ASSERT_FALSE(rt_context_ready(f.context));
	redis_server_restart(&server); /* without its data, and without the functions */
	run_until(is_ready);
	stock_set("apple", "9 0 0 9 1");
	PLACED(ID("a"), { "apple", 4 });
	run_until(is_quiet);
	CU_ASSERT(record_is(ID("a"), "RESERVED", "apple=4"));
	CU_ASSERT_PTR_NOT_NULL(call_run("AdjustStock", &adjust.base));
}

/* How slow the store is for the operation `what`; everything else ends at once. */
struct slow {
	const char *what;
	int64_t delay_ms;
};

static int delay_io(void *user, const struct memory_io *io, int64_t *delay_ms)
{
	const struct slow *slow = user;

	if (!io->after && strcmp(io->what, slow->what) == 0)
		*delay_ms = slow->delay_ms;
	return RT_OK;
}

/* A service in memory, on a manual clock, so that nothing but `slow` delays it. */
static struct memory_redis *begin_in_memory(struct memory_host *host, struct slow *slow)
{
	const struct rt_context_options options = { .events = { RT_EVENTS_DEFAULTS },
						    .trim_every_ms = 5000 };
	struct memory_redis *redis;

	teardown();
	f = (struct fixture){ .stopped = 0 };
	CU_ASSERT_FATAL(rt_loop_new_manual(1764000000000, 1, &f.loop) == RT_OK);
	redis = memory_redis_new(f.loop);
	stored_load(redis);
	memory_host_init(host, redis, "inventory", delay_io, slow);
	f.context = stored_context(host, &inventory_domain, options, "test");
	f.inventory = f.context->data;
	f.client = rt_client_local(f.loop, inventory_rpc(f.inventory), NULL, NULL);
	rt_context_start(f.context);
	return redis;
}

static void end_in_memory(struct memory_redis *redis)
{
	rt_context_free(RT_TAKE(f.context));
	rt_client_free(f.client);
	memory_redis_free(redis);
	rt_loop_free(f.loop);
}

/* Stops the service while an operation is under way that takes a second: the stop waits for it. */
static void stop_during(const char *what, bool with_call)
{
	struct slow slow = { what, 1000 };
	Tandem__Inventory__V1__AdjustStockRequest adjust = adjust_request("apple", 1, "");
	struct memory_host host;
	struct memory_redis *redis = begin_in_memory(&host, &slow);

	rt_loop_advance(f.loop, 5000); /* a trim begins */
	if (with_call) {
		rt_loop_advance(f.loop, 100);
		call_start("AdjustStock", &adjust.base);
	}
	rt_loop_run_due(f.loop);
	rt_context_stop(f.context, tests_count, &f.stopped);
	rt_loop_advance(f.loop, 990 - (with_call ? 0 : 100));
	CU_ASSERT_EQUAL(f.stopped, 0);
	rt_loop_advance(f.loop, 500);
	CU_ASSERT_EQUAL(f.stopped, 1);
	if (with_call)
		CU_ASSERT(call.ends == 1 && call.code == 0);
	end_in_memory(redis);
}

static void stopping(void)
{
	stop_during("inventory_adjust", true);
	stop_during("inventory_trim", false);
}

static void publish_placed(struct memory_redis *redis, const char *order_id)
{
	uint8_t packed[256];
	size_t length = pack_placed(&(const struct line){ "apple", 1 }, 1, packed);

	stored_publish(redis, ORDERS, rt_loop_unix_ms(f.loop),
		       &(struct stored_event){ .type = "tandem.order.v1.OrderPlaced",
					       .subject = order_id,
					       .seq = 1,
					       .data = packed,
					       .data_length = length });
	rt_loop_run_due(f.loop);
}

/* One request is under way when its master is gone, and another waits behind it. The new master knows neither order. */
static void orders_of_another_master(void)
{
	struct slow slow = { "inventory_request", 1000 };
	struct memory_host host;
	struct memory_redis *redis = begin_in_memory(&host, &slow);

	rt_loop_advance(f.loop, 1000);
	memory_do(redis, "HSET", STOCK, "apple", "9 0 0 9 1", NULL);
	memory_master_lags(redis, 0);
	publish_placed(redis, ID("a"));
	publish_placed(redis, ID("e"));
	slow.delay_ms = 0;
	memory_master_fails_over(redis, 0, 0);
	rt_loop_advance(f.loop, 10000);
	CU_ASSERT_PTR_NULL(memory_find(redis, RECORDS, MEMORY_HASH));
	publish_placed(redis, ID("i"));
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(memory_find(redis, RECORDS, MEMORY_HASH));
	CU_ASSERT_PTR_NOT_NULL(memory_field(memory_find(redis, RECORDS, MEMORY_HASH), ID("i")));
	rt_context_stop(f.context, tests_count, &f.stopped);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_EQUAL_FATAL(f.stopped, 1);
	end_in_memory(redis);
}

/* The own stream is trimmed once every group has read it. */
static bool is_trimmed(void)
{
	return metric_is("tandem_stream_trimmed_total{stream=\"inventory:{0}:events\"} 1");
}

static void trims(void)
{
	add_event("tandem.order.v1.OrderCancelled", ID("a"), "", 0);
	run_until(is_quiet);
	add_event("tandem.order.v1.OrderCancelled", ID("e"), "", 0);
	run_until(is_quiet);
	redis_server_do(&server, "XGROUP CREATE " EVENTS " order 0");
	redis_server_do(&server, "XREADGROUP GROUP order c COUNT 1 STREAMS " EVENTS " >");
	redis_server_do(&server, "EVAL %s 1 " EVENTS,
			"return redis.call('XACK', KEYS[1], 'order',"
			" redis.call('XRANGE', KEYS[1], '-', '+')[1][1])");
	run_until(is_trimmed);
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " EVENTS), 1);
}

int main(void)
{
	static const struct test tests[] = {
		{ "orders are served", orders_are_served },
		{ "events that cannot be decoded become dead letters", invalid_events },
		{ "damaged counters do not stop other orders", damage },
		{ "stock is adjusted", adjusting },
		{ "many adjustments, each with its own result", adjusting_many },
		{ "a threshold is set", setting_a_threshold },
		{ "stock is read", reading },
		{ "a reservation is read", reading_a_reservation },
		{ "who holds a SKU is listed", listing_reservations },
		{ "who holds a SKU is found among many", listing_among_many },
		{ "a list of who holds a SKU is refused", listing_refused },
		{ "Redis ends and comes back empty", redis_goes },
		{ "a stop waits for calls, and for a trim", stopping },
		{ "what waits when a master is lost is not stored at the next",
		  orders_of_another_master },
		{ "the stream is trimmed", trims },
	};
	int rc;

	tests_log_nothing();
	redis_server_start(&server, NULL);
	rc = tests_run_each("inventory_service", setup, teardown, tests, RT_LENGTH(tests));
	redis_server_done(&server);
	return rc;
}
