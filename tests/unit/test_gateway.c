/* The gateway between a caller and an order service that does what the test says: no network, a
 * clock driven by hand. */
#include <string.h>

#include "check.h"
#include "gateway/parts.h"
#include "google/rpc/error_details.pb-c.h"
#include "run.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"

#define CALLS_MAX 4096
#define PENDING   TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING
#define RESERVED  TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED
#define TRACE     "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

typedef Tandem__Order__V1__PlaceOrderRequest place_request;

/* ---- the order service behind ---- */

/* A call that the fake keeps until the test answers it. */
struct kept {
	struct rt_call *call;
	const ProtobufCMessage *request;
	ProtobufCClosure closure;
	bool cancelled;
};

static struct fake {
	struct rt_loop *loop;
	bool hold;   /* keep batches and single orders */
	int fail;    /* a gRPC code: every call fails with it */
	bool retry;  /* … and brings RetryInfo of 7 s */
	bool short_; /* batches come back with an order too few */
	int status;  /* of the orders answered; PENDING or RESERVED */
	struct kept batches[CALLS_MAX], singles[CALLS_MAX], watches[CALLS_MAX];
	size_t batch_count, single_count, watch_count;
	size_t under_way, under_way_max; /* batches */
	size_t orders;                   /* all that were asked for */
	size_t items_max;                /* of the largest batch */
	int64_t remaining_ms;            /* of the last call */
	char traceparent[80];            /* of the last call */
	uint64_t after_version;          /* of the last watch */
} fake;

static void look_at(struct rt_call *call)
{
	const char *traceparent = rt_call_metadata(call, "traceparent", NULL);

	fake.remaining_ms = rt_call_remaining_ms(call);
	snprintf(fake.traceparent, sizeof(fake.traceparent), "%s",
		 traceparent == NULL ? "" : traceparent);
}

static bool fails(struct rt_call *call)
{
	struct rt_status status = { 0 };

	if (fake.fail == 0)
		return false;
	rt_status_set(&status, fake.fail, "as the test wants");
	rt_status_info(&status, "TEST");
	if (fake.retry)
		rt_status_retry(&status, 7000);
	rt_call_fail(call, &status);
	rt_status_done(&status);
	return true;
}

static void kept_cancelled(struct rt_call *call, void *user)
{
	struct kept *kept = user;

	kept->cancelled = true;
	rt_call_failf(call, RT_CODE_CANCELLED, "cancelled");
}

static struct kept *keep(struct kept *list, size_t *count, struct rt_call *call,
			 const void *request, ProtobufCClosure closure)
{
	struct kept *kept = &list[(*count)++];

	*kept = (struct kept){ .call = call, .request = request, .closure = closure };
	rt_call_on_cancel(call, kept_cancelled, kept);
	return kept;
}

/* The order made of a request: its id is the request's id, its version 1. */
static void make_order(gateway_order *order, const place_request *request)
{
	tandem__order__v1__order__init(order);
	order->order_id = request->request_id;
	order->customer_id = request->customer_id;
	order->status = (Tandem__Order__V1__OrderStatus)fake.status;
	order->version = 1;
}

static void answer_batch(size_t index)
{
	struct kept *kept = &fake.batches[index];
	const Tandem__Order__V1__BatchPlaceOrdersRequest *request = (const void *)kept->request;
	Tandem__Order__V1__BatchPlaceOrdersResponse response =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_RESPONSE__INIT;
	Tandem__Order__V1__PlaceOrderResult results[GATEWAY_BATCH_MAX], *list[GATEWAY_BATCH_MAX];
	gateway_order orders[GATEWAY_BATCH_MAX];
	struct rt_status refusal = { 0 };
	Google__Rpc__Status *error;

	CU_ASSERT_FATAL(kept->call != NULL && !kept->cancelled);
	rt_status_set(&refusal, RT_CODE_ALREADY_EXISTS, "used before");
	rt_status_info(&refusal, "TEST");
	error = rt_status_to_proto(&refusal);
	for (size_t i = 0; i < request->n_requests; i++) {
		list[i] = &results[i];
		tandem__order__v1__place_order_result__init(&results[i]);
		if (strcmp(request->requests[i]->customer_id, "refused") == 0) {
			results[i].result_case =
				TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ERROR;
			results[i].error = error;
		} else {
			make_order(&orders[i], request->requests[i]);
			results[i].result_case =
				TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER;
			results[i].order = &orders[i];
		}
	}
	response.n_orders = request->n_requests - (fake.short_ ? 1 : 0);
	response.orders = list;
	fake.under_way--;
	rt_call_on_cancel(kept->call, NULL, NULL);
	kept->closure(&response.base, RT_TAKE(kept->call));
	google__rpc__status__free_unpacked(error, NULL);
	rt_status_done(&refusal);
}

static void fake_batch_place_orders(Tandem__Order__V1__OrderService_Service *service,
				    const Tandem__Order__V1__BatchPlaceOrdersRequest *request,
				    Tandem__Order__V1__BatchPlaceOrdersResponse_Closure closure,
				    void *data)
{
	(void)service;
	look_at(data);
	fake.orders += request->n_requests;
	fake.items_max = RT_MAX(fake.items_max, request->n_requests);
	if (fails(data)) {
		fake.batch_count++;
		return;
	}
	fake.under_way++;
	fake.under_way_max = RT_MAX(fake.under_way_max, fake.under_way);
	keep(fake.batches, &fake.batch_count, data, request, (ProtobufCClosure)closure);
	if (!fake.hold)
		answer_batch(fake.batch_count - 1);
}

static void fake_place_order(Tandem__Order__V1__OrderService_Service *service,
			     const place_request *request,
			     Tandem__Order__V1__PlaceOrderResponse_Closure closure, void *data)
{
	Tandem__Order__V1__PlaceOrderResponse response =
		TANDEM__ORDER__V1__PLACE_ORDER_RESPONSE__INIT;
	gateway_order order;

	(void)service;
	look_at(data);
	fake.orders++;
	fake.single_count++;
	if (fails(data))
		return;
	if (fake.hold) {
		fake.single_count--;
		keep(fake.singles, &fake.single_count, data, request, (ProtobufCClosure)closure);
		return;
	}
	make_order(&order, request);
	response.order = &order;
	closure(&response, data);
}

static void fake_watch_order(Tandem__Order__V1__OrderService_Service *service,
			     const Tandem__Order__V1__WatchOrderRequest *request,
			     Tandem__Order__V1__WatchOrderResponse_Closure closure, void *data)
{
	(void)service;
	look_at(data);
	fake.after_version = request->after_version;
	if (fails(data)) {
		fake.watch_count++;
		return;
	}
	keep(fake.watches, &fake.watch_count, data, request, (ProtobufCClosure)closure);
}

static void fake_get_order(Tandem__Order__V1__OrderService_Service *service,
			   const Tandem__Order__V1__GetOrderRequest *request,
			   Tandem__Order__V1__GetOrderResponse_Closure closure, void *data)
{
	Tandem__Order__V1__GetOrderResponse response = TANDEM__ORDER__V1__GET_ORDER_RESPONSE__INIT;
	gateway_order order = TANDEM__ORDER__V1__ORDER__INIT;

	(void)service;
	look_at(data);
	if (fails(data))
		return;
	if (fake.hold) {
		keep(fake.singles, &fake.single_count, data, request, (ProtobufCClosure)closure);
		return;
	}
	order.order_id = request->order_id;
	response.order = &order;
	closure(&response, data);
}

#define FAKE_OTHER(method, Method)                                                                 \
	static void fake_##method(Tandem__Order__V1__OrderService_Service *service,                \
				  const Tandem__Order__V1__##Method##Request *request,             \
				  Tandem__Order__V1__##Method##Response_Closure closure,           \
				  void *data)                                                      \
	{                                                                                          \
		(void)service, (void)request, (void)closure;                                       \
		rt_call_failf(data, RT_CODE_UNIMPLEMENTED, #Method);                               \
	}
FAKE_OTHER(stream_orders, StreamOrders)
FAKE_OTHER(list_orders, ListOrders)
FAKE_OTHER(confirm_order, ConfirmOrder)
FAKE_OTHER(cancel_order, CancelOrder)
FAKE_OTHER(explain_order, ExplainOrder)

static Tandem__Order__V1__OrderService_Service fake_service =
	TANDEM__ORDER__V1__ORDER_SERVICE__INIT(fake_);
/* Never called; it is there to be routed to. */
static Tandem__Inventory__V1__InventoryService_Service fake_inventory = {
	.base = { .descriptor = &tandem__inventory__v1__inventory_service__descriptor,
		  .invoke = protobuf_c_service_invoke_internal },
};

/* ---- the world and its callers ---- */

static struct world {
	struct rt_loop *loop;
	ProtobufCService *order, *inventory, *client; /* the last: the caller's */
	struct rt_metrics *metrics;
	struct gateway *gateway;
} world;

static void world_new(struct gateway_options options)
{
	fake = (struct fake){ .status = PENDING };
	CU_ASSERT_FATAL(rt_loop_new_manual(1764000000000, 1, &world.loop) == RT_OK);
	fake.loop = world.loop;
	world.metrics = rt_metrics_new();
	world.order = rt_client_local(world.loop, &fake_service.base, NULL, NULL);
	world.inventory = rt_client_local(world.loop, &fake_inventory.base, NULL, NULL);
	options.batch_max = options.batch_max != 0 ? options.batch_max : 128;
	options.batches_in_flight = options.batches_in_flight != 0 ? options.batches_in_flight : 8;
	options.waiting_max = options.waiting_max != 0 ? options.waiting_max : 20000;
	options.timeout_ms = options.timeout_ms != 0 ? options.timeout_ms : 30000;
	options.order = world.order;
	options.inventory = world.inventory;
	options.metrics = world.metrics;
	CU_ASSERT_FATAL(gateway_new(world.loop, &options, &world.gateway) == RT_OK);
	world.client = rt_client_local(world.loop, gateway_order_rpc(world.gateway), NULL, NULL);
}

/* What is not given is as in production. */
#define WORLD(...) world_new((struct gateway_options){ .metrics = NULL, __VA_ARGS__ })

static void world_free(void)
{
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(world.gateway->alone_count, 0);
	CU_ASSERT_EQUAL(rt_batch_waiting(world.gateway->placing), 0);
	CU_ASSERT_EQUAL(rt_batch_in_flight(world.gateway->placing), 0);
	CU_ASSERT_EQUAL(rt_batch_waiting(world.gateway->deciding), 0);
	CU_ASSERT_EQUAL(rt_batch_in_flight(world.gateway->deciding), 0);
	rt_client_free(world.client);
	gateway_free(world.gateway);
	rt_client_free(world.order);
	rt_client_free(world.inventory);
	rt_loop_settle(world.loop);
	rt_metrics_free(world.metrics);
	rt_loop_free(world.loop);
}

/* A caller's call, and how it ended. */
struct caller {
	struct rt_client_op op;
	int done; /* how often */
	int code;
	char message[200];
	char order_id[CHECK_ID_MAX + 1];
	int status; /* of the order */
	char info[64];
	int64_t retry_ms; /* -1: no RetryInfo */
	char violation[128];
	int64_t at_ms;
	size_t messages;
	uint64_t sequences[1024]; /* of a stream's answers */
	int codes[1024];
};

static void read_details(struct caller *caller, const struct rt_status *status)
{
	Google__Rpc__Status *proto = rt_status_to_proto(status);

	caller->retry_ms = -1;
	for (size_t i = 0; i < proto->n_details; i++) {
		const Google__Protobuf__Any *any = proto->details[i];
		const char *type = strrchr(any->type_url, '/') + 1;

		if (strcmp(type, "google.rpc.RetryInfo") == 0) {
			Google__Rpc__RetryInfo *retry = google__rpc__retry_info__unpack(
				NULL, any->value.len, any->value.data);

			caller->retry_ms = retry->retry_delay->seconds * 1000 +
					   retry->retry_delay->nanos / 1000000;
			google__rpc__retry_info__free_unpacked(retry, NULL);
		} else if (strcmp(type, "google.rpc.ErrorInfo") == 0) {
			Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(
				NULL, any->value.len, any->value.data);

			snprintf(caller->info, sizeof(caller->info), "%s", info->reason);
			google__rpc__error_info__free_unpacked(info, NULL);
		} else if (strcmp(type, "google.rpc.BadRequest") == 0) {
			Google__Rpc__BadRequest *bad = google__rpc__bad_request__unpack(
				NULL, any->value.len, any->value.data);

			snprintf(caller->violation, sizeof(caller->violation), "%s",
				 bad->field_violations[0]->field);
			google__rpc__bad_request__free_unpacked(bad, NULL);
		}
	}
	google__rpc__status__free_unpacked(proto, NULL);
}

static void caller_ended(struct rt_client_op *op)
{
	struct caller *caller = RT_CONTAINER_OF(op, struct caller, op);

	caller->done++;
	caller->code = op->status.code;
	caller->at_ms = rt_loop_now(world.loop);
	snprintf(caller->message, sizeof(caller->message), "%s",
		 op->status.message == NULL ? "" : op->status.message);
	read_details(caller, &op->status);
}

/* Every answer with one order in it has it as field 1. */
static void caller_done(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct caller *caller = RT_CONTAINER_OF(op, struct caller, op);
	const Tandem__Order__V1__PlaceOrderResponse *response = (const void *)message;

	caller_ended(op);
	if (response != NULL && response->order != NULL) {
		snprintf(caller->order_id, sizeof(caller->order_id), "%s",
			 response->order->order_id);
		caller->status = (int)response->order->status;
	}
}

static unsigned method(const char *name)
{
	const ProtobufCServiceDescriptor *descriptor =
		&tandem__order__v1__order_service__descriptor;
	unsigned index = 0;

	while (strcmp(descriptor->methods[index].name, name) != 0)
		index++;
	return index;
}

/* What a PlaceOrder of the tests says. */
struct wish {
	const char *id, *customer, *sku;
	bool wait;
	int64_t timeout_ms;
	const char *traceparent;
};

static void fill(place_request *request, Tandem__Order__V1__OrderLine *line,
		 Tandem__Order__V1__OrderLine **lines, const struct wish *wish)
{
	tandem__order__v1__place_order_request__init(request);
	tandem__order__v1__order_line__init(line);
	line->sku = (char *)(uintptr_t)(wish->sku == NULL ? "apple" : wish->sku);
	line->quantity = 1;
	*lines = line;
	request->request_id = (char *)(uintptr_t)wish->id;
	request->customer_id =
		(char *)(uintptr_t)(wish->customer == NULL ? "customer" : wish->customer);
	request->lines = lines;
	request->n_lines = 1;
	request->wait_for_decision = wish->wait;
}

static void place_wish(struct caller *caller, struct wish wish)
{
	place_request request;
	Tandem__Order__V1__OrderLine line, *lines;

	fill(&request, &line, &lines, &wish);
	memset(caller, 0, sizeof(*caller));
	caller->op.timeout_ms = wish.timeout_ms;
	caller->op.traceparent = wish.traceparent;
	caller->op.done = caller_done;
	rt_client_start(world.client, method("PlaceOrder"), &request.base, &caller->op);
}
#define PLACE(caller, ...) place_wish(caller, (struct wish){ __VA_ARGS__ })

static void get(struct caller *caller, const char *order_id, int64_t timeout_ms,
		const char *traceparent)
{
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	memset(caller, 0, sizeof(*caller));
	caller->op.timeout_ms = timeout_ms;
	caller->op.traceparent = traceparent;
	caller->op.done = caller_done;
	rt_client_start(world.client, method("GetOrder"), &request.base, &caller->op);
}

static void watched(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct caller *caller = RT_CONTAINER_OF(op, struct caller, op);
	const Tandem__Order__V1__WatchOrderResponse *response = (const void *)message;

	caller->messages++;
	caller->status = (int)response->order->status;
}

static void ended(struct rt_client_op *op, const ProtobufCMessage *message)
{
	(void)message;
	caller_ended(op);
}

static void watch(struct caller *caller, const char *order_id, int64_t timeout_ms)
{
	Tandem__Order__V1__WatchOrderRequest request = TANDEM__ORDER__V1__WATCH_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	memset(caller, 0, sizeof(*caller));
	caller->op.timeout_ms = timeout_ms;
	caller->op.on_message = watched;
	caller->op.done = ended;
	rt_client_start(world.client, method("WatchOrder"), &request.base, &caller->op);
}

/* The fake tells a watcher of the order's next state. */
static void tell(size_t index, const char *order_id, int status)
{
	Tandem__Order__V1__WatchOrderResponse response =
		TANDEM__ORDER__V1__WATCH_ORDER_RESPONSE__INIT;
	gateway_order order = TANDEM__ORDER__V1__ORDER__INIT;

	CU_ASSERT_FATAL(index < fake.watch_count && !fake.watches[index].cancelled);
	order.order_id = (char *)(uintptr_t)order_id;
	order.status = (Tandem__Order__V1__OrderStatus)status;
	order.version = 2;
	response.order = &order;
	fake.watches[index].closure(&response.base, fake.watches[index].call);
	rt_loop_settle(world.loop);
}

#define ORDER_A "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa"

/* ---- batching ---- */

static void lone_order(void)
{
	struct caller caller;

	WORLD();
	PLACE(&caller, .id = "a");
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, 0);
	CU_ASSERT_EQUAL(caller.status, PENDING);
	CU_ASSERT_STRING_EQUAL(caller.order_id, "a");
	CU_ASSERT_EQUAL(fake.batch_count, 1);
	CU_ASSERT_EQUAL(fake.items_max, 1);
	/* Not held back: the clock stands. */
	CU_ASSERT_EQUAL(caller.at_ms, rt_loop_now(world.loop));
	CU_ASSERT_EQUAL(fake.remaining_ms, 30000);
	world_free();
}

static void under_load(void)
{
	static struct caller callers[1000];
	char id[16];

	WORLD(.batch_max = 16, .batches_in_flight = 3);
	fake.hold = true;
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		snprintf(id, sizeof(id), "order-%zu", i);
		PLACE(&callers[i], .id = id, .timeout_ms = 20000);
	}
	rt_loop_settle(world.loop);
	for (size_t i = 0; i < fake.batch_count; i++) {
		answer_batch(i);
		rt_loop_settle(world.loop);
	}
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		snprintf(id, sizeof(id), "order-%zu", i);
		CU_ASSERT_EQUAL(callers[i].done, 1);
		CU_ASSERT_EQUAL(callers[i].code, 0);
		CU_ASSERT_STRING_EQUAL(callers[i].order_id, id);
	}
	CU_ASSERT_EQUAL(fake.orders, 1000);
	CU_ASSERT_EQUAL(fake.items_max, 16);
	CU_ASSERT_EQUAL(fake.under_way_max, 3);
	/* All but the first few are full. */
	CU_ASSERT(fake.batch_count <= 1000 / 16 + 4);
	world_free();
}

static void each_its_own_error(void)
{
	struct caller callers[3];

	WORLD();
	fake.hold = true;
	PLACE(&callers[0], .id = "a");
	PLACE(&callers[1], .id = "b", .customer = "refused");
	PLACE(&callers[2], .id = "c");
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL_FATAL(fake.batch_count, 1);
	answer_batch(0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(callers[0].code, 0);
	CU_ASSERT_EQUAL(callers[1].code, RT_CODE_ALREADY_EXISTS);
	CU_ASSERT_STRING_EQUAL(callers[1].message, "used before");
	CU_ASSERT_STRING_EQUAL(callers[1].info, "TEST");
	CU_ASSERT_EQUAL(callers[2].code, 0);
	CU_ASSERT_STRING_EQUAL(callers[2].order_id, "c");
	world_free();
}

static void batch_fails(void)
{
	static const struct {
		const char *name;
		int fail;
		bool retry, short_;
		int code;
		int64_t retry_ms;
	} rows[] = {
		{ "away, without advice", RT_CODE_UNAVAILABLE, false, false, RT_CODE_UNAVAILABLE,
		  GATEWAY_RETRY_MS },
		{ "away, with advice", RT_CODE_UNAVAILABLE, true, false, RT_CODE_UNAVAILABLE,
		  7000 },
		{ "full", RT_CODE_RESOURCE_EXHAUSTED, true, false, RT_CODE_RESOURCE_EXHAUSTED,
		  7000 },
		{ "a result too few", 0, false, true, RT_CODE_INTERNAL, -1 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct caller callers[2];

		WORLD();
		fake.fail = rows[i].fail;
		fake.retry = rows[i].retry;
		fake.short_ = rows[i].short_;
		PLACE(&callers[0], .id = "a");
		PLACE(&callers[1], .id = "b");
		rt_loop_settle(world.loop);
		for (size_t j = 0; j < 2; j++) {
			TEST_ROW(callers[j].done == 1, rows[i].name);
			TEST_ROW(callers[j].code == rows[i].code, rows[i].name);
			TEST_ROW(callers[j].retry_ms == rows[i].retry_ms, rows[i].name);
		}
		world_free();
	}
}

static void too_many(void)
{
	static struct caller callers[20];
	int refused = 0;

	WORLD(.batch_max = 4, .batches_in_flight = 1, .waiting_max = 10);
	fake.hold = true;
	for (size_t i = 0; i < 4; i++)
		PLACE(&callers[i], .id = "first");
	rt_loop_settle(world.loop);
	/* One batch of four is under way; of sixteen more, ten may wait. */
	for (size_t i = 4; i < 20; i++)
		PLACE(&callers[i], .id = "then");
	rt_loop_settle(world.loop);
	for (size_t i = 0; i < 20; i++) {
		if (callers[i].done == 0)
			continue;
		refused++;
		CU_ASSERT_EQUAL(callers[i].code, RT_CODE_RESOURCE_EXHAUSTED);
		CU_ASSERT(callers[i].retry_ms > 0);
	}
	CU_ASSERT_EQUAL(refused, 6);
	for (size_t i = 0; i < fake.batch_count; i++) {
		answer_batch(i);
		rt_loop_settle(world.loop);
	}
	CU_ASSERT_EQUAL(fake.orders, 14);
	world_free();
}

/* ---- callers who go, and deadlines ---- */

static void cancelled_while_waiting(void)
{
	struct caller first, second, third;

	WORLD(.batches_in_flight = 1);
	fake.hold = true;
	PLACE(&first, .id = "a");
	rt_loop_settle(world.loop);
	PLACE(&second, .id = "b");
	PLACE(&third, .id = "c");
	rt_loop_settle(world.loop);
	rt_client_cancel(&second.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(second.done, 1);
	CU_ASSERT_EQUAL(second.code, RT_CODE_CANCELLED);
	answer_batch(0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL_FATAL(fake.batch_count, 2);
	CU_ASSERT_EQUAL(fake.orders, 2); /* the second was never sent */
	answer_batch(1);
	rt_loop_settle(world.loop);
	CU_ASSERT_STRING_EQUAL(first.order_id, "a");
	CU_ASSERT_STRING_EQUAL(third.order_id, "c");
	world_free();
}

static void cancelled_when_sent(void)
{
	struct caller first, second;

	WORLD();
	fake.hold = true;
	PLACE(&first, .id = "a");
	PLACE(&second, .id = "b");
	rt_loop_settle(world.loop);
	rt_client_cancel(&first.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(first.done, 1);
	CU_ASSERT_EQUAL(first.code, RT_CODE_CANCELLED);
	CU_ASSERT(!fake.batches[0].cancelled);
	answer_batch(0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(first.done, 1);
	CU_ASSERT_EQUAL(second.code, 0);
	CU_ASSERT_STRING_EQUAL(second.order_id, "b");
	world_free();
}

static void cancelled_at_once(void)
{
	static struct caller callers[500];

	WORLD();
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		PLACE(&callers[i], .id = "reset");
		rt_client_cancel(&callers[i].op);
	}
	rt_loop_settle(world.loop);
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		CU_ASSERT_EQUAL(callers[i].done, 1);
		CU_ASSERT_EQUAL(callers[i].code, RT_CODE_CANCELLED);
	}
	CU_ASSERT_EQUAL(fake.orders, 0);
	world_free();
}

static void deadlines(void)
{
	struct caller first, soon, late;

	WORLD(.batches_in_flight = 1);
	fake.hold = true;
	PLACE(&first, .id = "a", .timeout_ms = 9000);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.remaining_ms, 9000);
	PLACE(&soon, .id = "b", .timeout_ms = 100);
	PLACE(&late, .id = "c", .timeout_ms = 5000);
	rt_loop_advance(world.loop, 101);
	CU_ASSERT_EQUAL(soon.done, 1);
	CU_ASSERT_EQUAL(soon.code, RT_CODE_DEADLINE_EXCEEDED);
	answer_batch(0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.orders, 2); /* the one whose time was over was not sent */
	CU_ASSERT_EQUAL(fake.remaining_ms, 4899);
	answer_batch(1);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(late.code, 0);
	world_free();
}

static void latest_deadline(void)
{
	struct caller callers[3];

	WORLD();
	fake.hold = true;
	PLACE(&callers[0], .id = "a", .timeout_ms = 200);
	PLACE(&callers[1], .id = "b", .timeout_ms = 4000);
	PLACE(&callers[2], .id = "c", .timeout_ms = 1000);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.remaining_ms, 4000);
	rt_loop_advance(world.loop, 300);
	CU_ASSERT_EQUAL(callers[0].code, RT_CODE_DEADLINE_EXCEEDED);
	CU_ASSERT_EQUAL(callers[2].done, 0);
	answer_batch(0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(callers[0].done, 1);
	CU_ASSERT_EQUAL(callers[1].code, 0);
	CU_ASSERT_EQUAL(callers[2].code, 0);
	/* A day's deadline does not make a day's call. */
	PLACE(&callers[0], .id = "d", .timeout_ms = 86400000);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.remaining_ms, 30000);
	answer_batch(1);
	world_free();
}

static void without_deadline(void)
{
	struct caller first, second;

	WORLD(.batches_in_flight = 1, .timeout_ms = 1000);
	fake.hold = true;
	PLACE(&first, .id = "a");
	rt_loop_advance(world.loop, 10);
	PLACE(&second, .id = "b");
	rt_loop_advance(world.loop, 1000);
	/* The batch ran into its own deadline; the other one was sent late or not at all. */
	CU_ASSERT_EQUAL(first.done, 1);
	CU_ASSERT_EQUAL(first.code, RT_CODE_DEADLINE_EXCEEDED);
	rt_loop_advance(world.loop, 1000);
	CU_ASSERT_EQUAL(second.done, 1);
	CU_ASSERT_EQUAL(second.code, RT_CODE_DEADLINE_EXCEEDED);
	fake.under_way = 0;
	world_free();
}

/* ---- waiting for the decision ---- */

static void waiting_apart(void)
{
	struct caller waits, other;

	WORLD(.batches_in_flight = 1);
	fake.hold = true;
	fake.status = RESERVED;
	PLACE(&waits, .id = "a", .wait = true, .timeout_ms = 5000);
	PLACE(&other, .id = "b");
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL_FATAL(fake.batch_count, 2);
	answer_batch(1);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(waits.done + other.done, 1);
	answer_batch(0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(waits.status, RESERVED);
	CU_ASSERT_EQUAL(other.code, 0);
	CU_ASSERT_EQUAL(fake.watch_count, 0);
	world_free();
}

/* Who places waits for the batch before; who waits for the decision does not: it may take long. */
static void deciding_side_by_side(void)
{
	struct caller waiting[2], placing[2];

	WORLD();
	fake.hold = true;
	fake.status = RESERVED;
	for (size_t i = 0; i < 2; i++) {
		PLACE(&waiting[i], .id = "a", .wait = true, .timeout_ms = 5000);
		PLACE(&placing[i], .id = "b");
		rt_loop_settle(world.loop);
	}
	CU_ASSERT_EQUAL_FATAL(fake.batch_count, 3);
	for (size_t i = 0; i < 3; i++)
		answer_batch(i);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL_FATAL(fake.batch_count, 4);
	answer_batch(3);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(waiting[0].done + waiting[1].done + placing[0].done + placing[1].done, 4);
	world_free();
}

static void followed(void)
{
	struct caller caller;

	WORLD();
	PLACE(&caller, .id = ORDER_A, .wait = true, .timeout_ms = 5000);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.done, 0);
	CU_ASSERT_EQUAL_FATAL(fake.watch_count, 1);
	CU_ASSERT_EQUAL(fake.after_version, 1);
	CU_ASSERT_EQUAL(fake.remaining_ms, 4900);
	tell(0, ORDER_A, PENDING); /* news, but no decision */
	CU_ASSERT_EQUAL(caller.done, 0);
	tell(0, ORDER_A, RESERVED);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, 0);
	CU_ASSERT_EQUAL(caller.status, RESERVED);
	CU_ASSERT(fake.watches[0].cancelled); /* not watched any longer */
	world_free();
}

static void undecided_at_the_deadline(void)
{
	struct caller caller;

	WORLD();
	PLACE(&caller, .id = ORDER_A, .wait = true, .timeout_ms = 2000);
	rt_loop_advance(world.loop, 1929);
	CU_ASSERT_EQUAL(caller.done, 0);
	rt_loop_advance(world.loop, 1);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, 0);
	CU_ASSERT_EQUAL(caller.status, PENDING);
	CU_ASSERT_STRING_EQUAL(caller.order_id, ORDER_A);
	world_free();
}

static void watch_breaks(void)
{
	struct caller caller;

	WORLD();
	fake.hold = true;
	PLACE(&caller, .id = ORDER_A, .wait = true, .timeout_ms = 3000);
	rt_loop_settle(world.loop);
	answer_batch(0);
	fake.fail = RT_CODE_UNAVAILABLE;
	rt_loop_advance(world.loop, 1000);
	CU_ASSERT_EQUAL(caller.done, 0);
	/* Tried again, with a pause in between. */
	CU_ASSERT(fake.watch_count >= 4 && fake.watch_count <= 12);
	fake.fail = 0;
	rt_loop_advance(world.loop, 250);
	CU_ASSERT_EQUAL(caller.done, 0);
	tell(fake.watch_count - 1, ORDER_A, RESERVED);
	CU_ASSERT_EQUAL(caller.code, 0);
	CU_ASSERT_EQUAL(caller.status, RESERVED);
	world_free();
}

static void followed_and_cancelled(void)
{
	struct caller watching, paused;

	WORLD();
	fake.hold = true;
	PLACE(&watching, .id = ORDER_A, .wait = true, .timeout_ms = 3000);
	rt_loop_settle(world.loop);
	answer_batch(0);
	rt_loop_settle(world.loop);
	rt_client_cancel(&watching.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(watching.code, RT_CODE_CANCELLED);
	CU_ASSERT(fake.watches[0].cancelled);
	PLACE(&paused, .id = ORDER_A, .wait = true, .timeout_ms = 3000);
	rt_loop_settle(world.loop);
	answer_batch(1);
	fake.fail = RT_CODE_UNAVAILABLE;
	rt_loop_settle(world.loop);
	rt_client_cancel(&paused.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(paused.done, 1);
	CU_ASSERT_EQUAL(rt_loop_next_due(world.loop), INT64_MAX); /* no timer left behind */
	world_free();
}

static void follow_bound(void)
{
	struct caller first, second;

	WORLD(.waiting_max = 1);
	PLACE(&first, .id = ORDER_A, .wait = true, .timeout_ms = 3000);
	rt_loop_settle(world.loop);
	PLACE(&second, .id = "b", .wait = true, .timeout_ms = 3000);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(first.done, 0);
	/* Placed, and that is what it is told; it can watch by itself. */
	CU_ASSERT_EQUAL(second.code, 0);
	CU_ASSERT_EQUAL(second.status, PENDING);
	tell(0, ORDER_A, RESERVED);
	world_free();
}

static void alone(void)
{
	static const struct {
		const char *name;
		struct wish wish;
		size_t singles, batches;
		const char *traceparent;
	} rows[] = {
		{ "plain", { .id = "a" }, 0, 1, "" },
		{ "traced", { .id = "a", .traceparent = TRACE }, 1, 0, TRACE },
		{ "empty trace", { .id = "a", .traceparent = "" }, 0, 1, "" },
		{ "waits, little time", { .id = "a", .wait = true, .timeout_ms = 1499 }, 1, 0, "" },
		{ "waits, enough time", { .id = "a", .wait = true, .timeout_ms = 1500 }, 0, 1, "" },
		{ "little time", { .id = "a", .timeout_ms = 50 }, 0, 1, "" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct caller caller;

		WORLD();
		fake.status = RESERVED;
		place_wish(&caller, rows[i].wish);
		rt_loop_settle(world.loop);
		TEST_ROW(caller.done == 1 && caller.code == 0, rows[i].name);
		TEST_ROW(caller.status == RESERVED, rows[i].name);
		TEST_ROW(fake.single_count == rows[i].singles, rows[i].name);
		TEST_ROW(fake.batch_count == rows[i].batches, rows[i].name);
		TEST_ROW(strcmp(fake.traceparent, rows[i].traceparent) == 0, rows[i].name);
		world_free();
	}
}

static void alone_and_cancelled(void)
{
	struct caller first, second;

	WORLD(.waiting_max = 1);
	fake.hold = true;
	PLACE(&first, .id = "a", .traceparent = TRACE, .timeout_ms = 4000);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.remaining_ms, 4000);
	PLACE(&second, .id = "b", .traceparent = TRACE);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(second.code, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT(second.retry_ms > 0);
	rt_client_cancel(&first.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(first.done, 1);
	CU_ASSERT(fake.singles[0].cancelled);
	world_free();
}

/* ---- the edge ---- */

static void limits(void)
{
	static const struct {
		const char *name;
		struct wish wish;
		const char *field;
	} rows[] = {
		{ "bad SKU", { .id = "a", .sku = "no spaces" }, "lines[0].sku" },
		{ "no customer", { .id = "a", .customer = "" }, "customer_id" },
		{ "control character", { .id = "a\n" }, "request_id" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct caller caller;

		WORLD();
		place_wish(&caller, rows[i].wish);
		rt_loop_settle(world.loop);
		TEST_ROW(caller.code == RT_CODE_INVALID_ARGUMENT, rows[i].name);
		TEST_ROW(strcmp(caller.violation, rows[i].field) == 0, rows[i].name);
		TEST_ROW(fake.orders == 0, rows[i].name);
		world_free();
	}
}

/* Fields nobody knows would be packed into the batch again: 128 such orders make it too large. */
static void unknown_fields(void)
{
	static uint8_t junk[GATEWAY_ORDER_MAX_BYTES];
	ProtobufCMessageUnknownField field = { .tag = 999,
					       .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
					       .len = sizeof(junk),
					       .data = junk };
	const struct wish wish = { .id = "a" };
	struct caller caller;
	place_request request;
	Tandem__Order__V1__OrderLine line, *lines;

	WORLD();
	/* The bytes of a length-prefixed unknown field begin with its length. */
	junk[0] = (uint8_t)(((sizeof(junk) - 2) & 0x7f) | 0x80);
	junk[1] = (uint8_t)((sizeof(junk) - 2) >> 7);
	fill(&request, &line, &lines, &wish);
	request.base.n_unknown_fields = 1;
	request.base.unknown_fields = &field;
	memset(&caller, 0, sizeof(caller));
	caller.op.done = caller_done;
	rt_client_start(world.client, method("PlaceOrder"), &request.base, &caller.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(fake.orders, 0);
	world_free();
}

static void bad_options(void)
{
	static const struct gateway_options rows[] = {
		{ .batch_max = 0, .batches_in_flight = 1, .waiting_max = 1, .timeout_ms = 1 },
		{ .batch_max = GATEWAY_BATCH_MAX + 1,
		  .batches_in_flight = 1,
		  .waiting_max = 1,
		  .timeout_ms = 1 },
		{ .batch_max = 1, .batches_in_flight = 0, .waiting_max = 1, .timeout_ms = 1 },
		{ .batch_max = 1, .batches_in_flight = 1, .waiting_max = 0, .timeout_ms = 1 },
		{ .batch_max = 1, .batches_in_flight = 1, .waiting_max = 1, .timeout_ms = 0 },
	};
	struct gateway *gateway = NULL;

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		CU_ASSERT_EQUAL(gateway_new(NULL, &rows[i], &gateway), RT_INVALID);
	CU_ASSERT_PTR_NULL(gateway);
	gateway_free(NULL);
}

/* ---- passing on ---- */

static void passed_on(void)
{
	static const struct {
		const char *name;
		int fail;
		bool retry;
		int64_t retry_ms;
		const char *order_id;
		int code;
	} rows[] = {
		{ "found", 0, false, -1, ORDER_A, 0 },
		{ "not found, details unchanged", RT_CODE_NOT_FOUND, false, -1, ORDER_A,
		  RT_CODE_NOT_FOUND },
		{ "away: advice is added", RT_CODE_UNAVAILABLE, false, GATEWAY_RETRY_MS, ORDER_A,
		  RT_CODE_UNAVAILABLE },
		{ "away: advice is kept", RT_CODE_UNAVAILABLE, true, 7000, ORDER_A,
		  RT_CODE_UNAVAILABLE },
		{ "checked here", 0, false, -1, "", RT_CODE_INVALID_ARGUMENT },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct caller caller;

		WORLD();
		fake.fail = rows[i].fail;
		fake.retry = rows[i].retry;
		get(&caller, rows[i].order_id, 700, TRACE);
		rt_loop_settle(world.loop);
		TEST_ROW(caller.done == 1, rows[i].name);
		TEST_ROW(caller.code == rows[i].code, rows[i].name);
		TEST_ROW(caller.retry_ms == rows[i].retry_ms, rows[i].name);
		if (caller.code == RT_CODE_INVALID_ARGUMENT) {
			TEST_ROW(fake.remaining_ms == 0, rows[i].name); /* never asked */
		} else {
			TEST_ROW(fake.remaining_ms == 700, rows[i].name);
			TEST_ROW(strcmp(fake.traceparent, TRACE) == 0, rows[i].name);
		}
		if (rows[i].fail != 0) {
			TEST_ROW(strcmp(caller.info, "TEST") == 0, rows[i].name);
			TEST_ROW(strcmp(caller.message, "as the test wants") == 0, rows[i].name);
		}
		world_free();
	}
}

static void passed_on_without_deadline(void)
{
	struct caller caller;

	WORLD(.timeout_ms = 1234);
	fake.hold = true;
	get(&caller, ORDER_A, 0, NULL);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.remaining_ms, 1234);
	rt_loop_advance(world.loop, 1300);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_DEADLINE_EXCEEDED);
	world_free();
}

static void passed_on_and_cancelled(void)
{
	struct caller caller;

	WORLD();
	fake.hold = true;
	get(&caller, ORDER_A, 0, NULL);
	rt_loop_settle(world.loop);
	rt_client_cancel(&caller.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_CANCELLED);
	CU_ASSERT(fake.singles[0].cancelled);
	world_free();
}

static void watching(void)
{
	struct caller caller;

	WORLD();
	watch(&caller, ORDER_A, 0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.remaining_ms, INT64_MAX); /* lasts as long as the order */
	tell(0, ORDER_A, PENDING);
	tell(0, ORDER_A, RESERVED);
	CU_ASSERT_EQUAL(caller.messages, 2);
	CU_ASSERT_EQUAL(caller.status, RESERVED);
	CU_ASSERT_EQUAL(caller.done, 0);
	rt_call_on_cancel(fake.watches[0].call, NULL, NULL);
	rt_call_finish(fake.watches[0].call);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, 0);
	/* Again, and this time the watcher goes. */
	watch(&caller, ORDER_A, 5000);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.remaining_ms, 5000);
	rt_client_cancel(&caller.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_CANCELLED);
	CU_ASSERT(fake.watches[1].cancelled);
	world_free();
}

/* ---- StreamOrders ---- */

static void streamed(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct caller *caller = RT_CONTAINER_OF(op, struct caller, op);
	const Tandem__Order__V1__StreamOrdersResponse *response = (const void *)message;
	const Tandem__Order__V1__PlaceOrderResult *result = response->order;
	bool placed = result->result_case == TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER;

	CU_ASSERT_FATAL(caller->messages < RT_LENGTH(caller->sequences));
	caller->sequences[caller->messages] = response->sequence;
	caller->codes[caller->messages++] = placed ? 0 : result->error->code;
}

static void stream_open(struct caller *caller)
{
	memset(caller, 0, sizeof(*caller));
	caller->op.on_message = streamed;
	caller->op.done = ended;
	rt_client_start(world.client, method("StreamOrders"), NULL, &caller->op);
}

static void stream_send(struct caller *caller, uint64_t sequence, struct wish wish)
{
	Tandem__Order__V1__StreamOrdersRequest message =
		TANDEM__ORDER__V1__STREAM_ORDERS_REQUEST__INIT;
	place_request request;
	Tandem__Order__V1__OrderLine line, *lines;

	fill(&request, &line, &lines, &wish);
	message.sequence = sequence;
	if (wish.id != NULL)
		message.request = &request;
	rt_client_send(&caller->op, &message.base);
}

static void streaming(void)
{
	static struct caller caller;

	WORLD();
	stream_open(&caller);
	stream_send(&caller, 11, (struct wish){ .id = "a" });
	stream_send(&caller, 12, (struct wish){ .id = "b", .sku = "no spaces" });
	stream_send(&caller, 13, (struct wish){ .id = NULL });
	stream_send(&caller, 14, (struct wish){ .id = "d", .customer = "refused" });
	stream_send(&caller, 15, (struct wish){ .id = "e" });
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.messages, 5);
	CU_ASSERT_EQUAL(caller.done, 0);
	for (size_t i = 0; i < caller.messages; i++) {
		static const int codes[] = { 0, RT_CODE_INVALID_ARGUMENT, RT_CODE_INVALID_ARGUMENT,
					     RT_CODE_ALREADY_EXISTS, 0 };
		uint64_t sequence = caller.sequences[i];

		CU_ASSERT_FATAL(sequence >= 11 && sequence <= 15);
		CU_ASSERT_EQUAL(caller.codes[i], codes[sequence - 11]);
		for (size_t j = 0; j < i; j++)
			CU_ASSERT_NOT_EQUAL(caller.sequences[j], sequence);
	}
	CU_ASSERT_EQUAL(fake.orders, 3);
	rt_client_half_close(&caller.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, 0);
	world_free();
}

static void stream_bound(void)
{
	static struct caller caller;

	WORLD(.batch_max = 100, .batches_in_flight = 2);
	fake.hold = true;
	stream_open(&caller);
	for (uint64_t i = 0; i < 1000; i++)
		stream_send(&caller, i, (struct wish){ .id = "a" });
	rt_client_half_close(&caller.op);
	rt_loop_settle(world.loop);
	/* 512 of a stream at most: what is sent, and what waits. */
	CU_ASSERT_EQUAL(fake.orders + rt_batch_waiting(world.gateway->placing), 512);
	for (size_t i = 0; i < fake.batch_count; i++) {
		answer_batch(i);
		rt_loop_settle(world.loop);
	}
	CU_ASSERT_EQUAL(fake.orders, 1000);
	CU_ASSERT_EQUAL(caller.messages, 1000);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, 0);
	world_free();
}

static void stream_cancelled_midway(void)
{
	static struct caller caller;

	WORLD(.batch_max = 4, .batches_in_flight = 1);
	fake.hold = true;
	stream_open(&caller);
	for (uint64_t i = 0; i < 10; i++)
		stream_send(&caller, i, (struct wish){ .id = "a" });
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL_FATAL(fake.batch_count, 1);
	rt_client_cancel(&caller.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_CANCELLED);
	answer_batch(0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(fake.batch_count, 1); /* those that waited were dropped */
	CU_ASSERT_EQUAL(caller.messages, 0);
	world_free();
}

static void stream_half_closed_first(void)
{
	static struct caller caller;

	WORLD();
	fake.hold = true;
	stream_open(&caller);
	stream_send(&caller, 1, (struct wish){ .id = "a" });
	rt_client_half_close(&caller.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.done, 0); /* its answer is still to come */
	answer_batch(0);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.messages, 1);
	CU_ASSERT_EQUAL(caller.done, 1);
	/* And one without any order. */
	stream_open(&caller);
	rt_client_half_close(&caller.op);
	rt_loop_settle(world.loop);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, 0);
	world_free();
}

static const struct test tests[] = {
	{ "a lone order goes at once", lone_order },
	{ "under load: full batches, few under way, each caller its own order", under_load },
	{ "each item has its own error", each_its_own_error },
	{ "a batch that fails fails each of its orders", batch_fails },
	{ "one too many is refused, with RetryInfo", too_many },
	{ "cancelled while it waits: never sent", cancelled_while_waiting },
	{ "cancelled when it is sent: the others do not notice", cancelled_when_sent },
	{ "reset as fast as made: nothing is asked", cancelled_at_once },
	{ "its deadline passes while it waits: never sent", deadlines },
	{ "a batch has the latest deadline of its orders, within the timeout", latest_deadline },
	{ "without a deadline the timeout is one", without_deadline },
	{ "who waits for the decision does not hold up the others", waiting_apart },
	{ "waiting for decisions goes on side by side", deciding_side_by_side },
	{ "undecided in the batch: followed until it is decided", followed },
	{ "undecided at the deadline: PENDING, in time", undecided_at_the_deadline },
	{ "a watch that breaks is tried again", watch_breaks },
	{ "a followed order's caller goes", followed_and_cancelled },
	{ "too many to follow: told that it is PENDING", follow_bound },
	{ "who travels alone", alone },
	{ "alone, and cancelled or one too many", alone_and_cancelled },
	{ "limits are checked at the edge", limits },
	{ "an order swollen with unknown fields is refused", unknown_fields },
	{ "options out of range", bad_options },
	{ "passed on with deadline and traceparent, and back with details", passed_on },
	{ "passed on without a deadline", passed_on_without_deadline },
	{ "passed on, and the caller goes", passed_on_and_cancelled },
	{ "a watch goes through, both ends can end it", watching },
	{ "a stream: answers carry the sequence, faults do not end it", streaming },
	{ "a stream has a bound", stream_bound },
	{ "a stream's client goes", stream_cancelled_midway },
	{ "a stream ends with its last answer", stream_half_closed_first },
};

int main(void)
{
	return tests_run("gateway", tests, RT_LENGTH(tests));
}
