/* The gateway between a caller and an order service that does what the test says: no network, a
 * clock driven by hand. */
#include <string.h>

#include "check.h"
#include "details.h"
#include "gateway/gateway_internal.h"
#include "google/rpc/status.pb-c.h"
#include "run.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"

#define CALLS_MAX   4096
#define PENDING     TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING
#define RESERVED    TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED
#define TRACE       "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define LATER_TRACE "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what"
#define STATE       "rojo=1"

typedef gateway_place_request place_request;
typedef Tandem__Order__V1__Order order_message;

/* ---- the order service behind ---- */

/* A call that the fake keeps until the test answers it. */
struct kept {
	struct rt_call *call;
	const ProtobufCMessage *request;
	ProtobufCClosure closure;
	bool cancelled;
};

/* A message of a placement stream, kept until the test answers it. */
struct kept_message {
	struct rt_message *memory;
	const Tandem__Order__V1__PlaceRequest *request;
	size_t stream; /* in fake.streams */
};

static struct fake {
	struct rt_loop *loop;
	bool hold;  /* keep orders and calls */
	int fail;   /* a gRPC code: every call fails with it, streams at once */
	bool retry; /* … and brings RetryInfo of 7 s */
	int status; /* of the orders answered; PENDING or RESERVED */
	struct kept singles[CALLS_MAX], watches[CALLS_MAX], streams[CALLS_MAX];
	struct kept_message messages[CALLS_MAX];
	size_t single_count, watch_count, stream_count, message_count;
	size_t orders;          /* all that were asked for */
	size_t items_max;       /* of the largest message */
	size_t cancelled_count; /* numbers in cancelled */
	uint64_t cancelled[CALLS_MAX];
	int64_t remaining_ms;      /* of the last call or item */
	char traceparent[80];      /* of the last call or item */
	char tracestate[80];       /* likewise */
	char actor[RT_ACTOR_TEXT]; /* likewise */
	uint64_t after_version;    /* of the last watch */
} fake;

static void look_at(struct rt_call *call)
{
	const char *traceparent = rt_call_metadata(call, "traceparent", NULL);
	const char *tracestate = rt_call_metadata(call, "tracestate", NULL);

	fake.remaining_ms = rt_call_remaining_ms(call);
	snprintf(fake.traceparent, sizeof(fake.traceparent), "%s",
		 traceparent == NULL ? "" : traceparent);
	snprintf(fake.tracestate, sizeof(fake.tracestate), "%s",
		 tracestate == NULL ? "" : tracestate);
	snprintf(fake.actor, sizeof(fake.actor), "%s", rt_call_actor(call));
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

/* The order made of a request, packed: its id is the request's id, its version 1. */
static ProtobufCBinaryData make_order(const place_request *request)
{
	order_message order = TANDEM__ORDER__V1__ORDER__INIT;
	ProtobufCBinaryData packed;

	order.order_id = request->request_id;
	order.customer_id = request->customer_id;
	order.status = (Tandem__Order__V1__OrderStatus)fake.status;
	order.version = 1;
	packed.len = tandem__order__v1__order__get_packed_size(&order);
	packed.data = rt_alloc(packed.len);
	tandem__order__v1__order__pack(&order, packed.data);
	return packed;
}

/* The request in an item; freed by the caller. */
static place_request *request_of(const Tandem__Order__V1__PlacementItem *item)
{
	place_request *request = tandem__order__v1__place_order_request__unpack(
		NULL, item->request.len, item->request.data);

	CU_ASSERT_PTR_NOT_NULL_FATAL(request);
	return request;
}

/* Answers some of a message's items, each as its customer_id says. */
static void send_answers(size_t index, size_t first, size_t count)
{
	struct kept_message *kept = &fake.messages[index];
	Tandem__Order__V1__PlaceResponse response = TANDEM__ORDER__V1__PLACE_RESPONSE__INIT;
	Tandem__Order__V1__PlacementAnswer answers[GATEWAY_BATCH_MAX], *list[GATEWAY_BATCH_MAX];
	struct rt_status refusal = { 0 };
	Google__Rpc__Status *error;

	CU_ASSERT_FATAL(index < fake.message_count && first + count <= kept->request->n_items);
	rt_status_set(&refusal, RT_CODE_ALREADY_EXISTS, "used before");
	rt_status_info(&refusal, "TEST");
	error = rt_status_to_proto(&refusal);
	for (size_t i = 0; i < count; i++) {
		const Tandem__Order__V1__PlacementItem *item = kept->request->items[first + i];
		place_request *request = request_of(item);

		list[i] = &answers[i];
		tandem__order__v1__placement_answer__init(&answers[i]);
		answers[i].number = item->number;
		if (strcmp(request->customer_id, "refused") == 0) {
			answers[i].result_case = TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ERROR;
			answers[i].error = error;
		} else if (strcmp(request->customer_id, "nothing") != 0) {
			answers[i].result_case = TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ORDER;
			answers[i].order = make_order(request);
		}
		tandem__order__v1__place_order_request__free_unpacked(request, NULL);
	}
	response.n_answers = count;
	response.answers = list;
	fake.streams[kept->stream].closure(&response.base, fake.streams[kept->stream].call);
	for (size_t i = 0; i < count; i++)
		if (answers[i].result_case == TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ORDER)
			free(answers[i].order.data);
	google__rpc__status__free_unpacked(error, NULL);
	rt_status_done(&refusal);
}

static void answer_items(size_t index, size_t first, size_t count)
{
	send_answers(index, first, count);
	rt_loop_run_due(fake.loop);
}

static void answer_message(size_t index)
{
	answer_items(index, 0, fake.messages[index].request->n_items);
}

static void answer_messages(void)
{
	for (size_t i = 0; i < fake.message_count; i++)
		answer_message(i);
}

static void message_came(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	const Tandem__Order__V1__PlaceRequest *request = (const void *)message;
	struct kept_message *kept;

	if (message == NULL)
		return;
	kept = &fake.messages[fake.message_count++];
	*kept = (struct kept_message){ .request = request };
	kept->memory = rt_call_keep_message(call);
	kept->stream = (size_t)((struct kept *)user - fake.streams);
	fake.orders += request->n_items;
	fake.items_max = RT_MAX(fake.items_max, request->n_items);
	for (size_t i = 0; i < request->n_cancelled_numbers; i++)
		fake.cancelled[fake.cancelled_count++] = request->cancelled_numbers[i];
	if (request->n_items > 0) {
		const Tandem__Order__V1__PlacementItem *last = request->items[request->n_items - 1];

		fake.remaining_ms = last->timeout_ms;
		snprintf(fake.traceparent, sizeof(fake.traceparent), "%s", last->traceparent);
		snprintf(fake.tracestate, sizeof(fake.tracestate), "%s", last->tracestate);
		snprintf(fake.actor, sizeof(fake.actor), "%s", last->actor);
	}
	rt_call_read(call, message_came, user);
	if (!fake.hold && request->n_items > 0)
		send_answers(fake.message_count - 1, 0, request->n_items);
}

/* The order service ends a stream: with OK, or as an outage does. */
static void end_stream(size_t index, int code)
{
	struct rt_call *call = fake.streams[index].call;

	rt_call_on_cancel(call, NULL, NULL);
	fake.streams[index].cancelled = true; /* answered no more */
	if (code == 0)
		rt_call_finish(call);
	else
		rt_call_failf(call, code, "as the test wants");
	rt_loop_run_due(fake.loop);
}

static void fake_place(Tandem__Order__V1__PlacementService_Service *service,
		       const Tandem__Order__V1__PlaceRequest *request,
		       Tandem__Order__V1__PlaceResponse_Closure closure, void *data)
{
	struct kept *kept;

	(void)service;
	if (fails(data)) {
		fake.stream_count++;
		return;
	}
	kept = keep(fake.streams, &fake.stream_count, data, request, (ProtobufCClosure)closure);
	rt_call_read(data, message_came, kept);
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
	order_message order = TANDEM__ORDER__V1__ORDER__INIT;

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
FAKE_OTHER(place_order, PlaceOrder)
FAKE_OTHER(batch_place_orders, BatchPlaceOrders)
FAKE_OTHER(stream_orders, StreamOrders)
FAKE_OTHER(list_orders, ListOrders)
FAKE_OTHER(confirm_order, ConfirmOrder)
FAKE_OTHER(cancel_order, CancelOrder)
FAKE_OTHER(batch_confirm_orders, BatchConfirmOrders)
FAKE_OTHER(batch_cancel_orders, BatchCancelOrders)
FAKE_OTHER(extend_hold, ExtendHold)
FAKE_OTHER(return_order, ReturnOrder)
FAKE_OTHER(explain_order, ExplainOrder)

static Tandem__Order__V1__OrderService_Service fake_service =
	TANDEM__ORDER__V1__ORDER_SERVICE__INIT(fake_);
static Tandem__Order__V1__PlacementService_Service fake_placement =
	TANDEM__ORDER__V1__PLACEMENT_SERVICE__INIT(fake_);
/* Never called; it is there to be routed to. */
static Tandem__Inventory__V1__InventoryService_Service fake_inventory = {
	.base = { .descriptor = &tandem__inventory__v1__inventory_service__descriptor,
		  .invoke = protobuf_c_service_invoke_internal },
};

/* ---- the world and its callers ---- */

static struct world {
	struct rt_loop *loop;
	ProtobufCService *order, *placement, *inventory, *client; /* the last: the caller's */
	struct rt_metrics *metrics;
	struct gateway *gateway;
	int stopped;
} world;

static void world_free(void)
{
	if (world.loop == NULL)
		return;
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(world.gateway->placing_count, 0);
	CU_ASSERT_EQUAL(world.gateway->waiting_count, 0);
	CU_ASSERT_EQUAL(world.gateway->storing_streams, 0);
	world.stopped = 0;
	gateway_stop(world.gateway, tests_count, &world.stopped);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(world.stopped, 1);
	for (size_t i = 0; i < fake.message_count; i++)
		rt_message_free(fake.messages[i].memory);
	rt_client_free(world.client);
	gateway_free(world.gateway);
	rt_client_free(world.order);
	rt_client_free(world.placement);
	rt_client_free(world.inventory);
	rt_loop_run_due(world.loop);
	rt_metrics_free(world.metrics);
	rt_loop_free(world.loop);
	world = (struct world){ .loop = NULL };
}

static void world_new(struct gateway_options options)
{
	world_free();
	fake = (struct fake){ .status = PENDING };
	CU_ASSERT_FATAL(rt_loop_new_manual(1764000000000, 1, &world.loop) == RT_OK);
	fake.loop = world.loop;
	world.metrics = rt_metrics_new();
	world.order = rt_client_local(world.loop, &fake_service.base, NULL, NULL);
	world.inventory = rt_client_local(world.loop, &fake_inventory.base, NULL, NULL);
	world.placement = rt_client_local(world.loop, &fake_placement.base, NULL, NULL);
	options.connections = options.connections != 0 ? options.connections : 1;
	options.batch_max = options.batch_max != 0 ? options.batch_max : 128;
	options.orders_max = options.orders_max != 0 ? options.orders_max : 20000;
	options.timeout_ms = options.timeout_ms != 0 ? options.timeout_ms : 30000;
	options.order = world.order;
	options.placement = world.placement;
	options.inventory = world.inventory;
	options.metrics = world.metrics;
	CU_ASSERT_FATAL(gateway_new(world.loop, &options, &world.gateway) == RT_OK);
	world.client = rt_client_local(world.loop, gateway_order_rpc(world.gateway), NULL, NULL);
}

/* Replaces the current world; options that are not given are as in production. */
#define WORLD(...) world_new((struct gateway_options){ .metrics = NULL, __VA_ARGS__ })

static void setup(void)
{
	WORLD();
}

/* A caller's call, and how it ended. */
struct caller {
	struct rt_client_op op;
	int done; /* how often */
	int code;
	char message[200];
	char order_id[CHECK_ID_MAX + 1];
	int status; /* of the order */
	struct details details;
	int64_t at_ms;
	size_t messages;
	uint64_t sequences[1024]; /* of a stream's answers */
	int codes[1024];
};

static void caller_ended(struct rt_client_op *op)
{
	struct caller *caller = RT_CONTAINER_OF(op, struct caller, op);

	caller->done++;
	caller->code = op->status.code;
	caller->at_ms = rt_loop_now(world.loop);
	snprintf(caller->message, sizeof(caller->message), "%s",
		 op->status.message == NULL ? "" : op->status.message);
	caller->details = details_of(&op->status);
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

struct batch_caller {
	struct caller caller;
	size_t count;
	int codes[8];
	char ids[8][32];
};

static void batch_ended(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct batch_caller *batch = RT_CONTAINER_OF(op, struct batch_caller, caller.op);
	const Tandem__Order__V1__BatchPlaceOrdersResponse *response = (const void *)message;

	caller_ended(op);
	if (response == NULL)
		return;
	batch->count = response->n_orders;
	for (size_t i = 0; i < response->n_orders; i++) {
		const Tandem__Order__V1__PlaceOrderResult *result = response->orders[i];

		if (result->result_case == TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER)
			snprintf(batch->ids[i], 32, "%s", result->order->order_id);
		else
			batch->codes[i] = result->error->code;
	}
}

static const struct rt_identity *identity; /* of the callers; NULL: nobody is asked */

/* Begins a call of the caller's; the method decides how answers are read. */
static void start(struct caller *caller, const char *name, const ProtobufCMessage *request,
		  int64_t timeout_ms, const char *traceparent)
{
	const ProtobufCServiceDescriptor *service = &tandem__order__v1__order_service__descriptor;
	const ProtobufCMethodDescriptor *found =
		protobuf_c_service_descriptor_get_method_by_name(service, name);

	memset(caller, 0, sizeof(*caller));
	caller->op.timeout_ms = timeout_ms;
	caller->op.traceparent = traceparent;
	caller->op.tracestate = STATE;
	caller->op.caller = identity;
	caller->op.done = caller_done;
	if (strcmp(name, "WatchOrder") == 0 || strcmp(name, "StreamOrders") == 0) {
		caller->op.on_message = strcmp(name, "WatchOrder") == 0 ? watched : streamed;
		caller->op.done = ended;
	} else if (strcmp(name, "BatchPlaceOrders") == 0) {
		caller->op.done = batch_ended;
	}
	rt_client_start(world.client, (unsigned)(found - service->methods), request, &caller->op);
}

/* The fields of a PlaceOrder that tests set. */
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
	start(caller, "PlaceOrder", &request.base, wish.timeout_ms, wish.traceparent);
}
#define PLACE(caller, ...) place_wish(caller, (struct wish){ __VA_ARGS__ })
/* The same, and all that comes of it at once. */
#define PLACED(caller, ...) (PLACE(caller, __VA_ARGS__), rt_loop_run_due(world.loop))

static void get(struct caller *caller, const char *order_id, int64_t timeout_ms,
		const char *traceparent)
{
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	start(caller, "GetOrder", &request.base, timeout_ms, traceparent);
	rt_loop_run_due(world.loop);
}

static void watch(struct caller *caller, const char *order_id, int64_t timeout_ms)
{
	Tandem__Order__V1__WatchOrderRequest request = TANDEM__ORDER__V1__WATCH_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	start(caller, "WatchOrder", &request.base, timeout_ms, NULL);
	rt_loop_run_due(world.loop);
}

static void expect_end(const struct caller *caller, int code)
{
	CU_ASSERT_EQUAL(caller->done, 1);
	CU_ASSERT_EQUAL(caller->code, code);
}

/* The caller goes. */
static void give_up(struct caller *caller)
{
	rt_client_cancel(&caller->op);
	rt_loop_run_due(world.loop);
	expect_end(caller, RT_CODE_CANCELLED);
}

static void half_close(struct caller *caller)
{
	rt_client_half_close(&caller->op);
	rt_loop_run_due(world.loop);
}

/* The fake sends a watcher the order's next state. */
static void send_state(size_t index, const char *order_id, int status)
{
	Tandem__Order__V1__WatchOrderResponse response =
		TANDEM__ORDER__V1__WATCH_ORDER_RESPONSE__INIT;
	order_message order = TANDEM__ORDER__V1__ORDER__INIT;

	CU_ASSERT_FATAL(index < fake.watch_count && !fake.watches[index].cancelled);
	order.order_id = (char *)(uintptr_t)order_id;
	order.status = (Tandem__Order__V1__OrderStatus)status;
	order.version = 2;
	response.order = &order;
	fake.watches[index].closure(&response.base, fake.watches[index].call);
	rt_loop_run_due(world.loop);
}

#define ORDER_A "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa"

/* ---- gathered ---- */

static void lone_order(void)
{
	struct caller caller;

	PLACED(&caller, .id = "a");
	expect_end(&caller, 0);
	CU_ASSERT_EQUAL(caller.status, PENDING);
	CU_ASSERT_STRING_EQUAL(caller.order_id, "a");
	CU_ASSERT_EQUAL(fake.message_count, 1);
	CU_ASSERT_EQUAL(fake.items_max, 1);
	/* It was sent without a delay: the clock has not moved. */
	CU_ASSERT_EQUAL(caller.at_ms, rt_loop_now(world.loop));
	CU_ASSERT_EQUAL(fake.remaining_ms, 30000);
	/* The next one goes the same way. */
	PLACED(&caller, .id = "b", .traceparent = TRACE, .timeout_ms = 700);
	CU_ASSERT_STRING_EQUAL(caller.order_id, "b");
	CU_ASSERT_EQUAL(fake.stream_count, 1);
	CU_ASSERT_EQUAL(fake.remaining_ms, 700);
	CU_ASSERT_STRING_EQUAL(fake.traceparent, TRACE);
	CU_ASSERT_STRING_EQUAL(fake.tracestate, STATE);
	/* One of a later version is passed on as of this one; without one there is no state, either. */
	PLACED(&caller, .id = "c", .traceparent = LATER_TRACE);
	CU_ASSERT_STRING_EQUAL(fake.traceparent, TRACE);
	CU_ASSERT_STRING_EQUAL(fake.tracestate, STATE);
	PLACED(&caller, .id = "d", .traceparent = "not one");
	CU_ASSERT_STRING_EQUAL(fake.traceparent, "");
	CU_ASSERT_STRING_EQUAL(fake.tracestate, "");
}

static void under_load(void)
{
	static struct caller callers[1000];
	char id[16];

	WORLD(.batch_max = 16);
	fake.hold = true;
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		snprintf(id, sizeof(id), "order-%zu", i);
		PLACE(&callers[i], .id = id, .timeout_ms = 20000);
	}
	rt_loop_run_due(world.loop);
	answer_messages();
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		snprintf(id, sizeof(id), "order-%zu", i);
		expect_end(&callers[i], 0);
		CU_ASSERT_STRING_EQUAL(callers[i].order_id, id);
	}
	CU_ASSERT_EQUAL(fake.orders, 1000);
	CU_ASSERT_EQUAL(fake.items_max, 16);
	CU_ASSERT(fake.message_count <= 1000 / 16 + 4);
}

/* While orders are being stored others gather, until half a message has, or until they are stored. */
static void gathering(void)
{
	struct caller first, second, waits, more[8];

	WORLD(.batch_max = 8);
	fake.hold = true;
	PLACED(&first, .id = "a");
	PLACED(&second, .id = "b");
	CU_ASSERT_EQUAL(fake.orders, 1);
	answer_message(0);
	CU_ASSERT_EQUAL(fake.orders, 2);
	for (size_t i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(fake.orders, 2);
		PLACED(&more[i], .id = "c");
	}
	CU_ASSERT_EQUAL(fake.orders, 6);
	CU_ASSERT_EQUAL(fake.message_count, 3);
	answer_message(1);
	answer_message(2);
	/* Orders that wait for their decision do not delay others. */
	PLACED(&waits, .id = "d", .wait = true);
	PLACED(&more[4], .id = "e");
	CU_ASSERT_EQUAL(fake.orders, 8);
	answer_message(4);
	CU_ASSERT_EQUAL(more[4].done, 1);
	CU_ASSERT_EQUAL(waits.done, 0);
	fake.status = RESERVED;
	answer_message(3);
	CU_ASSERT_EQUAL(waits.status, RESERVED);
}

/* Answers come in any order, some of a message before others. */
static void each_by_itself(void)
{
	struct caller callers[4];

	fake.hold = true;
	PLACE(&callers[0], .id = "a", .wait = true);
	PLACE(&callers[1], .id = "b", .customer = "refused");
	PLACE(&callers[2], .id = "c");
	PLACED(&callers[3], .id = "d", .customer = "nothing");
	CU_ASSERT_EQUAL_FATAL(fake.message_count, 1);
	answer_items(0, 2, 2);
	CU_ASSERT_EQUAL(callers[0].done + callers[1].done, 0);
	expect_end(&callers[2], 0);
	CU_ASSERT_STRING_EQUAL(callers[2].order_id, "c");
	expect_end(&callers[3], RT_CODE_INTERNAL);
	answer_items(0, 1, 1);
	expect_end(&callers[1], RT_CODE_ALREADY_EXISTS);
	CU_ASSERT_STRING_EQUAL(callers[1].message, "used before");
	CU_ASSERT_STRING_EQUAL(callers[1].details.reason, "TEST");
	answer_items(0, 0, 1);
	answer_items(0, 0, 4); /* again: their callers are gone */
	rt_loop_run_due(world.loop);
	expect_end(&callers[0], 0);
}

static void stream_fails(void)
{
	static const struct {
		const char *name;
		int fail;
		bool retry;
		int code;
		int64_t retry_ms;
	} rows[] = {
		{ "away, without advice", RT_CODE_UNAVAILABLE, false, RT_CODE_UNAVAILABLE,
		  GATEWAY_RETRY_MS },
		{ "away, with advice", RT_CODE_UNAVAILABLE, true, RT_CODE_UNAVAILABLE, 7000 },
		{ "full", RT_CODE_RESOURCE_EXHAUSTED, true, RT_CODE_RESOURCE_EXHAUSTED, 7000 },
		{ "going down", RT_CODE_CANCELLED, false, RT_CODE_UNAVAILABLE, GATEWAY_RETRY_MS },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct caller callers[2];

		WORLD();
		fake.fail = rows[i].fail;
		fake.retry = rows[i].retry;
		PLACE(&callers[0], .id = "a");
		PLACED(&callers[1], .id = "b", .wait = true);
		for (size_t j = 0; j < 2; j++) {
			TEST_ROW(callers[j].done == 1, rows[i].name);
			TEST_ROW(callers[j].code == rows[i].code, rows[i].name);
			TEST_ROW(callers[j].details.retry_ms == rows[i].retry_ms, rows[i].name);
		}
		/* It is back: the next order finds it. */
		fake.fail = 0;
		PLACED(&callers[0], .id = "c");
		TEST_ROW(callers[0].code == 0, rows[i].name);
	}
}

/* The connection is lost: orders that were sent may be stored or not, the others go by the next stream. */
static void stream_breaks(void)
{
	struct caller sent, waits, unsent;

	fake.hold = true;
	PLACE(&sent, .id = "a");
	PLACED(&waits, .id = "b", .wait = true);
	PLACED(&unsent, .id = "c");
	CU_ASSERT_EQUAL(fake.orders, 2);
	end_stream(0, RT_CODE_UNAVAILABLE);
	expect_end(&sent, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(sent.details.retry_ms, GATEWAY_RETRY_MS);
	expect_end(&waits, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(unsent.done, 0);
	CU_ASSERT_EQUAL(fake.stream_count, 2);
	CU_ASSERT_EQUAL(fake.orders, 3);
	answer_message(1);
	expect_end(&unsent, 0);
	CU_ASSERT_STRING_EQUAL(unsent.order_id, "c");
}

/* The order service drains, and has not looked at the orders that it did not answer. */
static void stream_is_ended(void)
{
	struct caller callers[3];
	place_request *again;

	fake.hold = true;
	PLACE(&callers[0], .id = "a");
	PLACE(&callers[1], .id = "b", .wait = true);
	PLACED(&callers[2], .id = "c");
	answer_items(0, 0, 1);
	end_stream(0, 0);
	expect_end(&callers[0], 0);
	CU_ASSERT_EQUAL(callers[1].done + callers[2].done, 0);
	CU_ASSERT_EQUAL_FATAL(fake.message_count, 2);
	CU_ASSERT_EQUAL(fake.messages[1].request->n_items, 2);
	again = request_of(fake.messages[1].request->items[0]);
	CU_ASSERT_STRING_EQUAL(again->request_id, "b");
	tandem__order__v1__place_order_request__free_unpacked(again, NULL);
	answer_items(1, 1, 1);
	/* An order is not sent again for ever to a service that only drains. */
	end_stream(1, 0);
	expect_end(&callers[2], 0);
	expect_end(&callers[1], RT_CODE_UNAVAILABLE);
	CU_ASSERT(callers[1].details.retry_ms > 0);
}

static void connections(void)
{
	static struct caller callers[12];

	WORLD(.connections = 3, .batch_max = 2);
	fake.hold = true;
	for (size_t i = 0; i < 12; i++)
		PLACE(&callers[i], .id = "");
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(fake.stream_count, 3);
	CU_ASSERT_EQUAL_FATAL(fake.message_count, 6);
	for (size_t i = 0; i < 6; i++) {
		size_t on_stream = 0;

		for (size_t j = 0; j < 6; j++)
			on_stream += fake.messages[j].stream == fake.messages[i].stream;
		CU_ASSERT_EQUAL(on_stream, 2);
	}
	/* One is lost, with only the orders that were on it. */
	end_stream(1, RT_CODE_UNAVAILABLE);
	for (size_t i = 0; i < 6; i++)
		if (fake.messages[i].stream != 1)
			answer_message(i);
	for (size_t code = 0, lost = 0; code < 12; code++) {
		lost += callers[code].code == RT_CODE_UNAVAILABLE;
		CU_ASSERT_EQUAL(callers[code].done, 1);
		CU_ASSERT(code < 11 || lost == 4);
	}
}

/* A stream is lost: orders with a request_id go by another, once, the rest fail. */
static void sent_by_another(void)
{
	static struct caller callers[3];

	WORLD(.connections = 2);
	fake.hold = true;
	PLACE(&callers[0], .id = "a");
	PLACE(&callers[1], .id = "");
	PLACE(&callers[2], .id = "c", .wait = true);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL_FATAL(fake.message_count, 1);
	end_stream(0, RT_CODE_UNAVAILABLE);
	expect_end(&callers[1], RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(callers[1].details.retry_ms, GATEWAY_RETRY_MS);
	CU_ASSERT_EQUAL(callers[0].done + callers[2].done, 0);
	CU_ASSERT_EQUAL_FATAL(fake.message_count, 2);
	CU_ASSERT_EQUAL(fake.messages[1].stream, 1);
	CU_ASSERT_EQUAL(fake.messages[1].request->n_items, 2);
	answer_items(1, 0, 1);
	expect_end(&callers[0], 0);
	CU_ASSERT_STRING_EQUAL(callers[0].order_id, "a");
	end_stream(1, RT_CODE_UNAVAILABLE);
	expect_end(&callers[2], RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(fake.message_count, 2);
}

/* With one instance nothing is sent again: it may be away for long. */
static void sent_by_no_other(void)
{
	struct caller caller;

	fake.hold = true;
	PLACE(&caller, .id = "a");
	rt_loop_run_due(world.loop);
	end_stream(0, RT_CODE_UNAVAILABLE);
	expect_end(&caller, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(fake.message_count, 1);
}

/* An instance that is slow to store delays no order while another has none. */
static void owes_least(bool wait)
{
	static struct caller callers[6];

	WORLD(.connections = 2, .batch_max = 100);
	fake.hold = true;
	for (size_t i = 0; i < 6; i++) {
		PLACE(&callers[i], .id = "", .wait = wait);
		rt_loop_run_due(world.loop);
		/* The first two have a stream each, and all others the one that has answered. */
		if (i > 0)
			answer_message(i);
		CU_ASSERT_EQUAL(callers[i].done, i > 0);
		CU_ASSERT_EQUAL(fake.message_count, i + 1);
		CU_ASSERT_EQUAL(fake.messages[i].stream, i > 0);
	}
	answer_message(0);
	expect_end(&callers[0], 0);
}

static void least_loaded(void)
{
	owes_least(false);
	owes_least(true);
}

static void too_many(void)
{
	static struct caller callers[20];
	int refused = 0;

	WORLD(.orders_max = 14);
	fake.hold = true;
	for (size_t i = 0; i < 4; i++)
		PLACE(&callers[i], .id = "first", .wait = true);
	rt_loop_run_due(world.loop);
	for (size_t i = 4; i < 20; i++)
		PLACE(&callers[i], .id = "then");
	rt_loop_run_due(world.loop);
	for (size_t i = 0; i < 20; i++) {
		if (callers[i].done == 0)
			continue;
		refused++;
		expect_end(&callers[i], RT_CODE_RESOURCE_EXHAUSTED);
		CU_ASSERT(callers[i].details.retry_ms > 0);
	}
	CU_ASSERT_EQUAL(refused, 6);
	answer_messages();
	CU_ASSERT_EQUAL(fake.orders, 14);
}

/* Orders so large that few fit: a message keeps its bound in bytes. */
static void large_orders(void)
{
	static struct caller callers[200];
	static char skus[100][CHECK_SKU_MAX + 1];
	Tandem__Order__V1__OrderLine line[100], *lines[100];
	place_request request;
	size_t largest = 0;

	WORLD(.batch_max = GATEWAY_BATCH_MAX);
	fake.hold = true;
	tandem__order__v1__place_order_request__init(&request);
	for (size_t i = 0; i < 100; i++) {
		snprintf(skus[i], sizeof(skus[i]), "sku-%060zu", i);
		tandem__order__v1__order_line__init(&line[i]);
		line[i].sku = skus[i];
		line[i].quantity = CHECK_QUANTITY_MAX;
		lines[i] = &line[i];
	}
	request.customer_id = (char *)"customer";
	request.lines = lines;
	request.n_lines = 100;
	for (size_t i = 0; i < RT_LENGTH(callers); i++)
		start(&callers[i], "PlaceOrder", &request.base, 0, NULL);
	rt_loop_run_due(world.loop);
	for (size_t i = 0; i < fake.message_count; i++) {
		largest =
			RT_MAX(largest,
			       protobuf_c_message_get_packed_size(&fake.messages[i].request->base));
		answer_message(i);
	}
	CU_ASSERT_EQUAL(fake.orders, RT_LENGTH(callers));
	CU_ASSERT(largest > 512 * 1024 && largest < 2 * 1024 * 1024);
}

/* ---- callers that go, and deadlines ---- */

static void cancelled_while_waiting(void)
{
	struct caller first, second, third;

	fake.hold = true;
	PLACED(&first, .id = "a");
	PLACE(&second, .id = "b");
	PLACED(&third, .id = "c");
	give_up(&second);
	answer_message(0);
	CU_ASSERT_EQUAL_FATAL(fake.message_count, 2);
	CU_ASSERT_EQUAL(fake.orders, 2); /* the second was never sent */
	answer_message(1);
	CU_ASSERT_STRING_EQUAL(first.order_id, "a");
	CU_ASSERT_STRING_EQUAL(third.order_id, "c");
	CU_ASSERT_EQUAL(fake.cancelled_count, 0);
}

static void cancelled_when_sent(void)
{
	struct caller first, second, waits;
	uint64_t number;

	fake.hold = true;
	PLACE(&first, .id = "a");
	PLACE(&second, .id = "b");
	PLACED(&waits, .id = "c", .wait = true);
	give_up(&first);
	CU_ASSERT_EQUAL(fake.cancelled_count, 0); /* it is stored anyhow */
	/* The one that waits for its decision is cancelled there. */
	give_up(&waits);
	number = fake.messages[0].request->items[2]->number;
	CU_ASSERT_EQUAL_FATAL(fake.cancelled_count, 1);
	CU_ASSERT_EQUAL(fake.cancelled[0], number);
	CU_ASSERT(!fake.streams[0].cancelled);
	answer_message(0);
	CU_ASSERT_EQUAL(first.done + waits.done, 2);
	expect_end(&second, 0);
	CU_ASSERT_STRING_EQUAL(second.order_id, "b");
}

static void cancelled_at_once(void)
{
	static struct caller callers[500];

	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		PLACE(&callers[i], .id = "reset");
		rt_client_cancel(&callers[i].op);
	}
	rt_loop_run_due(world.loop);
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		expect_end(&callers[i], RT_CODE_CANCELLED);
	}
	CU_ASSERT_EQUAL(fake.orders, 0);
}

static void deadlines(void)
{
	struct caller first, soon, late;

	fake.hold = true;
	PLACED(&first, .id = "a", .timeout_ms = 9000);
	CU_ASSERT_EQUAL(fake.remaining_ms, 9000);
	PLACE(&soon, .id = "b", .timeout_ms = 100);
	PLACE(&late, .id = "c", .timeout_ms = 5000);
	rt_loop_advance(world.loop, 101);
	expect_end(&soon, RT_CODE_DEADLINE_EXCEEDED);
	answer_message(0);
	CU_ASSERT_EQUAL(fake.orders, 2); /* the one whose time was over was not sent */
	CU_ASSERT_EQUAL(fake.remaining_ms, 4899);
	answer_message(1);
	expect_end(&late, 0);
	/* It passes while the order service has the order: others are not affected. */
	PLACE(&soon, .id = "d", .timeout_ms = 100, .wait = true);
	PLACE(&late, .id = "e", .timeout_ms = 5000);
	rt_loop_advance(world.loop, 101);
	expect_end(&soon, RT_CODE_DEADLINE_EXCEEDED);
	CU_ASSERT_EQUAL(late.done, 0);
	answer_message(2);
	expect_end(&late, 0);
}

static void without_deadline(void)
{
	struct caller first, second;

	WORLD(.timeout_ms = 1000);
	fake.hold = true;
	PLACE(&first, .id = "a");
	rt_loop_advance(world.loop, 10);
	PLACE(&second, .id = "b");
	rt_loop_advance(world.loop, 989);
	CU_ASSERT_EQUAL(first.done, 0);
	rt_loop_advance(world.loop, 1);
	expect_end(&first, RT_CODE_DEADLINE_EXCEEDED);
	CU_ASSERT_EQUAL(second.done, 0);
	CU_ASSERT_EQUAL(fake.orders, 2); /* it waited behind the first one */
	CU_ASSERT_EQUAL(fake.remaining_ms, 10);
	rt_loop_advance(world.loop, 10);
	expect_end(&second, RT_CODE_DEADLINE_EXCEEDED);
	rt_loop_advance(world.loop,
			SHED_STALE_MS + 1000); /* the looks at the load have ended, too */
	CU_ASSERT_EQUAL(rt_loop_next_due(world.loop), INT64_MAX);
}

static void stop(void)
{
	struct caller sent, unsent;

	world.stopped = 0;
	fake.hold = true;
	PLACED(&sent, .id = "a");
	PLACED(&unsent, .id = "b");
	gateway_stop(world.gateway, tests_count, &world.stopped);
	CU_ASSERT_EQUAL(world.stopped, 0);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(world.stopped, 1);
	expect_end(&sent, RT_CODE_UNAVAILABLE);
	expect_end(&unsent, RT_CODE_UNAVAILABLE);
	PLACED(&unsent, .id = "c");
	expect_end(&unsent, RT_CODE_UNAVAILABLE);
}

/* ---- BatchPlaceOrders ---- */

static void place_batch(struct batch_caller *batch, int64_t timeout_ms, const struct wish *wishes,
			size_t count)
{
	Tandem__Order__V1__BatchPlaceOrdersRequest request =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_REQUEST__INIT;
	place_request requests[8], *list[8];
	Tandem__Order__V1__OrderLine line[8], *lines[8];

	for (size_t i = 0; i < count; i++) {
		fill(&requests[i], &line[i], &lines[i], &wishes[i]);
		list[i] = &requests[i];
	}
	request.n_requests = count;
	request.requests = list;
	memset(batch, 0, sizeof(*batch));
	start(&batch->caller, "BatchPlaceOrders", &request.base, timeout_ms, TRACE);
	rt_loop_run_due(world.loop);
}

static void batches(void)
{
	static const struct wish wishes[] = {
		{ .id = "a" },
		{ .id = "b", .sku = "no spaces" },
		{ .id = "c", .customer = "refused" },
		{ .id = "d", .wait = true },
	};
	struct batch_caller batch;

	fake.hold = true;
	place_batch(&batch, 5000, wishes, 4);
	CU_ASSERT_EQUAL(fake.orders, 3);
	CU_ASSERT_STRING_EQUAL(fake.traceparent, TRACE);
	CU_ASSERT_STRING_EQUAL(fake.tracestate, STATE);
	/* The one that waits for its decision has a second. */
	CU_ASSERT_EQUAL(fake.remaining_ms, 1000);
	CU_ASSERT_EQUAL(fake.messages[0].request->items[0]->timeout_ms, 5000);
	answer_items(0, 0, 2);
	CU_ASSERT_EQUAL(batch.caller.done, 0);
	answer_items(0, 2, 1);
	expect_end(&batch.caller, 0);
	CU_ASSERT_EQUAL_FATAL(batch.count, 4);
	CU_ASSERT_STRING_EQUAL(batch.ids[0], "a");
	CU_ASSERT_EQUAL(batch.codes[1], RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(batch.codes[2], RT_CODE_ALREADY_EXISTS);
	CU_ASSERT_STRING_EQUAL(batch.ids[3], "d");
	/* No item is valid: nothing is sent. */
	place_batch(&batch, 5000, &wishes[1], 1);
	expect_end(&batch.caller, 0);
	CU_ASSERT_EQUAL(batch.codes[0], RT_CODE_INVALID_ARGUMENT);
	place_batch(&batch, 5000, wishes, 0);
	expect_end(&batch.caller, RT_CODE_INVALID_ARGUMENT);
	/* The caller goes, with one answered and one not. */
	place_batch(&batch, 5000, &wishes[2], 2);
	answer_items(1, 0, 1);
	give_up(&batch.caller);
	CU_ASSERT_EQUAL(fake.cancelled_count, 1);
	/* The order service is away: the call fails, not each item. */
	fake.fail = RT_CODE_UNAVAILABLE;
	end_stream(0, RT_CODE_UNAVAILABLE);
	place_batch(&batch, 5000, wishes, 1);
	expect_end(&batch.caller, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(batch.caller.details.retry_ms, GATEWAY_RETRY_MS);
}

/* ---- limits and options ---- */

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
		rt_loop_run_due(world.loop);
		TEST_ROW(caller.code == RT_CODE_INVALID_ARGUMENT, rows[i].name);
		TEST_ROW(strcmp(caller.details.fields, rows[i].field) == 0, rows[i].name);
		TEST_ROW(fake.orders == 0, rows[i].name);
	}
}

/* Unknown fields would be packed into the batch again: 128 such orders would make it too large. */
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

	/* The bytes of a length-prefixed unknown field begin with its length. */
	junk[0] = (uint8_t)(((sizeof(junk) - 2) & 0x7f) | 0x80);
	junk[1] = (uint8_t)((sizeof(junk) - 2) >> 7);
	fill(&request, &line, &lines, &wish);
	request.base.n_unknown_fields = 1;
	request.base.unknown_fields = &field;
	start(&caller, "PlaceOrder", &request.base, 0, NULL);
	rt_loop_run_due(world.loop);
	expect_end(&caller, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(fake.orders, 0);
}

static void bad_options(void)
{
#define OPTIONS(batch, streams, orders, ms)                                                        \
	{                                                                                          \
		.batch_max = batch, .connections = streams, .orders_max = orders, .timeout_ms = ms \
	}
	static const struct gateway_options rows[] = {
		OPTIONS(0, 1, 1, 1), OPTIONS(GATEWAY_BATCH_MAX + 1, 1, 1, 1),
		OPTIONS(1, 0, 1, 1), OPTIONS(1, 1, 0, 1),
		OPTIONS(1, 1, 1, 0),
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
		TEST_ROW(caller.done == 1, rows[i].name);
		TEST_ROW(caller.code == rows[i].code, rows[i].name);
		TEST_ROW(caller.details.retry_ms == rows[i].retry_ms, rows[i].name);
		if (caller.code == RT_CODE_INVALID_ARGUMENT) {
			TEST_ROW(fake.remaining_ms == 0, rows[i].name); /* never asked */
		} else {
			TEST_ROW(fake.remaining_ms == 700, rows[i].name);
			TEST_ROW(strcmp(fake.traceparent, TRACE) == 0, rows[i].name);
			TEST_ROW(strcmp(fake.tracestate, STATE) == 0, rows[i].name);
		}
		if (rows[i].fail != 0) {
			TEST_ROW(strcmp(caller.details.reason, "TEST") == 0, rows[i].name);
			TEST_ROW(strcmp(caller.message, "as the test wants") == 0, rows[i].name);
		}
	}
}

static void passed_on_without_deadline(void)
{
	struct caller caller;

	WORLD(.timeout_ms = 1234);
	fake.hold = true;
	get(&caller, ORDER_A, 0, NULL);
	CU_ASSERT_EQUAL(fake.remaining_ms, 1234);
	rt_loop_advance(world.loop, 1300);
	expect_end(&caller, RT_CODE_DEADLINE_EXCEEDED);
}

static void passed_on_and_cancelled(void)
{
	struct caller caller;

	fake.hold = true;
	get(&caller, ORDER_A, 0, NULL);
	give_up(&caller);
	CU_ASSERT(fake.singles[0].cancelled);
}

static void watching(void)
{
	struct caller caller;

	watch(&caller, ORDER_A, 0);
	CU_ASSERT_EQUAL(fake.remaining_ms, INT64_MAX); /* lasts as long as the order */
	send_state(0, ORDER_A, PENDING);
	send_state(0, ORDER_A, RESERVED);
	CU_ASSERT_EQUAL(caller.messages, 2);
	CU_ASSERT_EQUAL(caller.status, RESERVED);
	CU_ASSERT_EQUAL(caller.done, 0);
	rt_call_on_cancel(fake.watches[0].call, NULL, NULL);
	rt_call_finish(fake.watches[0].call);
	rt_loop_run_due(world.loop);
	expect_end(&caller, 0);
	/* Once more, and the watcher goes. */
	watch(&caller, ORDER_A, 5000);
	CU_ASSERT_EQUAL(fake.remaining_ms, 5000);
	give_up(&caller);
	CU_ASSERT(fake.watches[1].cancelled);
}

/* ---- StreamOrders ---- */

static void stream_open(struct caller *caller)
{
	start(caller, "StreamOrders", NULL, 0, NULL);
}

static void send_wish(struct caller *caller, uint64_t sequence, struct wish wish)
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

#define STREAM_SEND(caller, sequence, ...) send_wish(caller, sequence, (struct wish){ __VA_ARGS__ })

/* Order and inventory learn who calls, whichever way it comes. */
static void passed_on_who_calls(void)
{
	static const struct rt_identity zoe = {
		.role = RT_ROLE_CUSTOMER, .name = "Zoë", .owner = "customer", .by = "token"
	};
	static const struct wish wishes[] = { { .id = "b" } };
	static const char actor[] = "customer Zoë (token)";
	struct caller caller;
	struct batch_caller batch;

	identity = &zoe;
	PLACED(&caller, .id = "a");
	expect_end(&caller, 0);
	CU_ASSERT_STRING_EQUAL(fake.actor, actor);
	fake.actor[0] = '\0';
	place_batch(&batch, 5000, wishes, 1);
	expect_end(&batch.caller, 0);
	CU_ASSERT_STRING_EQUAL(fake.actor, actor);
	fake.actor[0] = '\0';
	stream_open(&caller);
	STREAM_SEND(&caller, 1, .id = "c");
	rt_loop_run_due(world.loop);
	CU_ASSERT_STRING_EQUAL(fake.actor, actor);
	half_close(&caller);
	fake.actor[0] = '\0';
	get(&caller, ORDER_A, 0, NULL);
	CU_ASSERT_STRING_EQUAL(fake.actor, actor);
	identity = NULL;
	PLACED(&caller, .id = "d");
	CU_ASSERT_STRING_EQUAL(fake.actor, "");
}

static void streaming(void)
{
	static struct caller caller;

	stream_open(&caller);
	STREAM_SEND(&caller, 11, .id = "a");
	STREAM_SEND(&caller, 12, .id = "b", .sku = "no spaces");
	STREAM_SEND(&caller, 13, .id = NULL);
	STREAM_SEND(&caller, 14, .id = "d", .customer = "refused");
	STREAM_SEND(&caller, 15, .id = "e");
	rt_loop_run_due(world.loop);
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
	half_close(&caller);
	expect_end(&caller, 0);
}

static void stream_bound(void)
{
	static struct caller caller;

	WORLD(.batch_max = 100);
	fake.hold = true;
	stream_open(&caller);
	for (uint64_t i = 0; i < 1000; i++)
		STREAM_SEND(&caller, i, .id = "a");
	half_close(&caller);
	/* At most 512 orders of a stream are sent or wait. */
	CU_ASSERT_EQUAL(fake.orders + world.gateway->waiting_count, 512);
	answer_messages();
	CU_ASSERT_EQUAL(fake.orders, 1000);
	CU_ASSERT_EQUAL(caller.messages, 1000);
	expect_end(&caller, 0);
}

static void stream_cancelled_midway(void)
{
	static struct caller caller;

	WORLD(.batch_max = 100);
	fake.hold = true;
	stream_open(&caller);
	for (uint64_t i = 0; i < 10; i++)
		STREAM_SEND(&caller, i, .id = "a");
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL_FATAL(fake.message_count, 1);
	give_up(&caller);
	answer_message(0);
	CU_ASSERT_EQUAL(fake.message_count, 1); /* those that waited were dropped */
	CU_ASSERT_EQUAL(caller.messages, 0);
}

static void stream_half_closed_first(void)
{
	static struct caller caller;

	fake.hold = true;
	stream_open(&caller);
	STREAM_SEND(&caller, 1, .id = "a");
	half_close(&caller);
	CU_ASSERT_EQUAL(caller.done, 0); /* its answer is still to come */
	answer_message(0);
	CU_ASSERT_EQUAL(caller.messages, 1);
	CU_ASSERT_EQUAL(caller.done, 1);
	/* And one without any order. */
	stream_open(&caller);
	half_close(&caller);
	expect_end(&caller, 0);
}

/* ---- refused early ---- */

static uint64_t events_wait; /* for inventory */

/* The order service at the end of a stream says how much there is to do, several times. */
static void say_load(size_t stream, uint64_t wait_ms, int times)
{
	Tandem__Order__V1__PlaceResponse response = TANDEM__ORDER__V1__PLACE_RESPONSE__INIT;
	Tandem__Order__V1__PlacementLoad load = TANDEM__ORDER__V1__PLACEMENT_LOAD__INIT;

	load.events = events_wait;
	load.wait_ms = wait_ms;
	response.load = &load;
	for (int i = 0; i < times; i++) {
		rt_loop_advance(world.loop, 200);
		fake.streams[stream].closure(&response.base, fake.streams[stream].call);
		rt_loop_run_due(world.loop);
	}
}

static bool metric_is(const char *line)
{
	struct rt_buf text = { NULL, 0, 0 };
	char *wanted = rt_printf("\n%s\n", line);
	bool good;

	rt_metrics_write(world.metrics, &text);
	rt_buf_add(&text, "", 1);
	good = strstr(text.data, wanted) != NULL;
	free(wanted);
	rt_buf_done(&text);
	return good;
}

/* Places orders; returns how many were refused, each at once and with advice. */
static int placed_refused(int count)
{
	int refused = 0;

	for (int i = 0; i < count; i++) {
		struct caller caller;
		int64_t now_ms = rt_loop_now(world.loop);

		PLACED(&caller, .id = "a");
		CU_ASSERT_EQUAL(caller.done, 1);
		if (caller.code == 0)
			continue;
		refused++;
		CU_ASSERT_EQUAL(caller.code, RT_CODE_RESOURCE_EXHAUSTED);
		CU_ASSERT_STRING_EQUAL(caller.details.reason, "OVERLOADED");
		CU_ASSERT(caller.details.retry_ms >= 500 && caller.details.retry_ms <= 2500);
		CU_ASSERT_EQUAL(caller.at_ms, now_ms);
	}
	return refused;
}

static void shed(void)
{
	struct caller caller;

	WORLD(.shed.of = { [SHED_EVENTS] = 100 }, .shed.events_few = 10);
	CU_ASSERT_EQUAL(placed_refused(100), 0);
	/* A few take long while inventory is away: that is none. */
	events_wait = 10;
	say_load(0, 5000, 20);
	CU_ASSERT_EQUAL(placed_refused(100), 0);
	events_wait = 20;
	say_load(0, 200, 20);
	CU_ASSERT_EQUAL(placed_refused(100), 0);
	say_load(0, 550, 20);
	CU_ASSERT_EQUAL(placed_refused(100), 50); /* (275 - 50) / 450 */
	CU_ASSERT(metric_is("tandem_gateway_load{cause=\"events\"} 2.75"));
	CU_ASSERT(metric_is("tandem_gateway_shed_orders_total{cause=\"events\"} 50"));
	say_load(0, 5000, 20);
	CU_ASSERT_EQUAL(placed_refused(100), 100);
	/* All else goes on. */
	get(&caller, ORDER_A, 0, NULL);
	expect_end(&caller, 0);
	say_load(0, 0, 25);
	CU_ASSERT_EQUAL(placed_refused(100), 0);
	CU_ASSERT(metric_is("tandem_gateway_shed_share 0"));
	CU_ASSERT(metric_is("tandem_gateway_shed_orders_total{cause=\"events\"} 150"));
}

/* Storing is slow: as many are taken as are stored, and so many are never under way that the last would wait for more than
 * three times the limit. */
static void shed_storing(void)
{
	static struct caller callers[1200];
	Tandem__Order__V1__PlaceResponse response = TANDEM__ORDER__V1__PLACE_RESPONSE__INIT;
	Tandem__Order__V1__PlacementLoad load = TANDEM__ORDER__V1__PLACEMENT_LOAD__INIT;
	int refused = 0, taken = 0;

	WORLD(.shed.of = { [SHED_STORING] = 100 });
	response.load = &load;
	load.store_ms = 200;
	load.stored_per_second = 1000;
	CU_ASSERT_EQUAL(placed_refused(1), 0);
	for (int i = 0; i < 30; i++) {
		refused = placed_refused(200);
		rt_loop_advance(world.loop, 100);
		fake.streams[0].closure(&response.base, fake.streams[0].call);
	}
	/* 2000 a second come, 1000 are stored, and it takes 0.1 s too long. */
	CU_ASSERT(abs(refused - 110) <= 1);
	fake.hold = true;
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		PLACED(&callers[i], .id = "a");
		taken += callers[i].done == 0;
	}
	CU_ASSERT_EQUAL(taken, 301);
	answer_messages();
	/* Those whose partition is away do not count. */
	load.held = 400;
	fake.streams[0].closure(&response.base, fake.streams[0].call);
	taken = 0;
	for (size_t i = 0; i < RT_LENGTH(callers); i++) {
		PLACED(&callers[i], .id = "a");
		taken += callers[i].done == 0;
	}
	CU_ASSERT(taken > 320);
	fake.hold = false;
	answer_messages();
}

static double arrivals_wait_ms; /* what the kernel says */
double __wrap_rt_arrivals_wait_ms(void);
double __wrap_rt_arrivals_wait_ms(void)
{
	return arrivals_wait_ms;
}

/* Calls wait before they are read: that counts where many orders come. */
static void shed_arriving(void)
{
	int refused = 0;

	WORLD(.shed.of = { [SHED_ARRIVING] = 50 });
	arrivals_wait_ms = 500;
	for (int i = 0; i < 10; i++) { /* 300 a second */
		refused += placed_refused(30);
		rt_loop_advance(world.loop, 100);
	}
	CU_ASSERT_EQUAL(refused, 0);
	for (int i = 0; i < 10; i++) { /* 3000 */
		refused = placed_refused(300);
		rt_loop_advance(world.loop, 100);
	}
	CU_ASSERT(refused > 100);
	arrivals_wait_ms = 0;
	rt_loop_advance(world.loop, 1000);
	refused = placed_refused(300);
	CU_ASSERT_EQUAL(refused, 0);
}

/* Of several instances the one with the most to do counts; one that has gone or says nothing does not. */
static void shed_by_instances(void)
{
	struct caller callers[2];

	WORLD(.connections = 2, .shed.of = { [SHED_EVENTS] = 100 });
	events_wait = 1;
	fake.hold = true;
	PLACED(&callers[0], .id = "a");
	PLACED(&callers[1], .id = "b");
	answer_messages();
	fake.hold = false;
	CU_ASSERT_EQUAL_FATAL(fake.stream_count, 2);
	say_load(0, 5000, 20);
	say_load(1, 0, 1);
	CU_ASSERT_EQUAL(placed_refused(20), 20);
	end_stream(0, RT_CODE_UNAVAILABLE);
	say_load(1, 0, 20);
	CU_ASSERT_EQUAL(placed_refused(20), 0);
	say_load(1, 5000, 20);
	CU_ASSERT_EQUAL(placed_refused(20), 20);
	rt_loop_advance(world.loop, SHED_STALE_MS + 1000);
	CU_ASSERT_EQUAL(placed_refused(20), 0);
	CU_ASSERT(metric_is("tandem_gateway_shed_share 0"));
}

/* What an instance says is taken for no more than it can be, and for nothing when it is gone. */
static void load_that_is_no_load(void)
{
	struct caller caller;

	WORLD(.shed.of = { [SHED_EVENTS] = 100 });
	PLACED(&caller, .id = "a");
	events_wait = 1;
	say_load(0, UINT64_MAX, 20);
	CU_ASSERT_EQUAL(placed_refused(20), 20);
	CU_ASSERT(metric_is("tandem_gateway_load{cause=\"events\"} 36000"));
	end_stream(0, RT_CODE_UNAVAILABLE);
	CU_ASSERT(metric_is("tandem_gateway_load{cause=\"events\"} 0"));
}

/* ---- spans ---- */

/* Ids that are traces. */
#define PLACED_A "ord_7slxoqzsmv3gkylbovxgs3lfna"
#define PLACED_B "ord_7777777777777777777777777y"

static void note_queued(void *user, size_t count)
{
	(void)user, (void)count;
}

static void trace_begin(double ratio)
{
	rt_trace_start(&(struct rt_trace_options){ .ratio = ratio, .queued = note_queued });
}

/* The n-th span that waits to be sent, if it is of this kind. */
static const struct rt_span *span_at(size_t n, enum rt_span_kind kind)
{
	const struct rt_span *span = rt_trace_at(n);

	CU_ASSERT_FATAL(n < rt_trace_queued());
	CU_ASSERT_EQUAL(span->kind, kind);
	return span;
}

static bool same_id(const uint8_t *a, const uint8_t *b, size_t length)
{
	return memcmp(a, b, length) == 0;
}

/* Orders of a call with a traceparent are below the call, in its trace. */
static void spans_of_a_batch(void)
{
	static const struct wish wishes[] = { { .id = PLACED_A }, { .id = PLACED_B } };
	struct batch_caller batch;
	const struct rt_span *call;

	trace_begin(0);
	place_batch(&batch, 5000, wishes, 2);
	CU_ASSERT_EQUAL_FATAL(rt_trace_queued(), 3);
	call = span_at(2, RT_SPAN_SERVED);
	for (size_t i = 0; i < 2; i++) {
		const struct rt_span *item = span_at(i, RT_SPAN_ITEM_CALLED);

		CU_ASSERT(same_id(item->trace_id, call->trace_id, 16));
		CU_ASSERT(same_id(item->parent, call->id, 8));
		CU_ASSERT_STRING_EQUAL(item->state, STATE);
		CU_ASSERT_STRING_EQUAL(item->subject, wishes[i].id);
	}
	/* What the order service gets names the order's own span. */
	CU_ASSERT(strncmp(fake.traceparent, TRACE, 36) == 0);
	CU_ASSERT(strncmp(fake.traceparent + 36, &TRACE[36], 16) != 0);
	rt_trace_stop();
}

/* Without one each order has its own trace, and a link to the call, which is in another. So it is with orders of a stream
 * that come when the call is known already. */
static void spans_of_a_stream(void)
{
	const struct rt_span *items[2], *call;
	struct caller caller;

	trace_begin(1);
	stream_open(&caller);
	STREAM_SEND(&caller, 1, .id = PLACED_A);
	rt_loop_run_due(world.loop);
	STREAM_SEND(&caller, 2, .id = PLACED_B);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL_FATAL(rt_trace_queued(), 4);
	half_close(&caller);
	expect_end(&caller, 0);
	CU_ASSERT_EQUAL_FATAL(rt_trace_queued(), 5);
	call = span_at(4, RT_SPAN_SERVED);
	for (size_t i = 0; i < 2; i++) {
		const struct rt_span *link = span_at(2 * i + 1, RT_SPAN_LINK);

		items[i] = span_at(2 * i, RT_SPAN_ITEM_CALLED);
		CU_ASSERT(same_id(link->trace_id, call->trace_id, 16));
		CU_ASSERT(same_id(link->id, call->id, 8));
		CU_ASSERT_FALSE(same_id(items[i]->trace_id, call->trace_id, 16));
		CU_ASSERT(same_id(items[i]->parent, (const uint8_t[8]){ 0 }, 8));
	}
	CU_ASSERT_FALSE(same_id(items[0]->trace_id, items[1]->trace_id, 16));
	rt_trace_stop();
}

/* An order whose caller goes, or that is sent again, leaves no gap in the trace that its caller began. */
static void spans_without_an_answer(void)
{
	struct caller callers[2];

	WORLD(.connections = 2);
	trace_begin(0);
	fake.hold = true;
	PLACED(&callers[0], .id = "a", .traceparent = TRACE);
	give_up(&callers[0]);
	CU_ASSERT_EQUAL_FATAL(rt_trace_queued(), 2);
	CU_ASSERT_EQUAL(span_at(0, RT_SPAN_ITEM_CALLED)->code, RT_CODE_CANCELLED);
	CU_ASSERT_EQUAL(span_at(1, RT_SPAN_SERVED)->code, RT_CODE_CANCELLED);
	answer_messages();
	rt_trace_drop(2, true);
	PLACED(&callers[1], .id = "b", .traceparent = TRACE);
	end_stream(fake.messages[1].stream, 0);
	CU_ASSERT_EQUAL_FATAL(fake.message_count, 3);
	CU_ASSERT_EQUAL_FATAL(rt_trace_queued(), 1);
	CU_ASSERT_EQUAL(span_at(0, RT_SPAN_ITEM_CALLED)->code, RT_CODE_UNAVAILABLE);
	answer_message(2);
	expect_end(&callers[1], 0);
	CU_ASSERT_EQUAL_FATAL(rt_trace_queued(), 3);
	CU_ASSERT_EQUAL(span_at(1, RT_SPAN_ITEM_CALLED)->code, 0);
	rt_trace_stop();
}

static const struct test tests[] = {
	{ "spans of a batch", spans_of_a_batch },
	{ "spans of a stream", spans_of_a_stream },
	{ "spans of orders without an answer", spans_without_an_answer },
	{ "load that is none", load_that_is_no_load },
	{ "more orders than can be served are refused in part", shed },
	{ "as many orders are taken as are stored", shed_storing },
	{ "calls that wait before they are read", shed_arriving },
	{ "the instance with the most to do counts", shed_by_instances },
	{ "a lone order is sent at once", lone_order },
	{ "under load: full messages, each caller its own order", under_load },
	{ "orders gather while others are stored, not while they wait", gathering },
	{ "each is answered by itself", each_by_itself },
	{ "a stream that fails fails each of its orders", stream_fails },
	{ "a stream breaks: orders that were sent fail, others use the next stream",
	  stream_breaks },
	{ "a stream is ended: orders without an answer are sent again", stream_is_ended },
	{ "a stream for each connection, in turn", connections },
	{ "a lost stream's orders go by another", sent_by_another },
	{ "a lost stream's orders, and no other", sent_by_no_other },
	{ "the stream that owes the fewest answers", least_loaded },
	{ "orders beyond the bound are refused, with RetryInfo", too_many },
	{ "large orders: messages stay small", large_orders },
	{ "cancelled while it waits: never sent", cancelled_while_waiting },
	{ "cancelled after it was sent: the others are answered", cancelled_when_sent },
	{ "cancelled at once: never sent", cancelled_at_once },
	{ "its deadline passes: while it waits, and when it is sent", deadlines },
	{ "without a deadline the timeout applies", without_deadline },
	{ "a stop ends what is under way", stop },
	{ "BatchPlaceOrders answers each item", batches },
	{ "limits are checked by the gateway", limits },
	{ "an order swollen with unknown fields is refused", unknown_fields },
	{ "options out of range", bad_options },
	{ "passed on with deadline and traceparent, and back with details", passed_on },
	{ "passed on with who calls", passed_on_who_calls },
	{ "passed on without a deadline", passed_on_without_deadline },
	{ "passed on, and cancelled", passed_on_and_cancelled },
	{ "a watch is passed on, both sides can end it", watching },
	{ "a stream: answers carry the sequence, faults do not end it", streaming },
	{ "a stream has a bound", stream_bound },
	{ "a stream is cancelled", stream_cancelled_midway },
	{ "a stream ends with its last answer", stream_half_closed_first },
};

TESTS_MAIN_EACH("gateway", setup, world_free, tests)
