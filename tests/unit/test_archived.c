/* The gateway between callers, an order service that has dropped some orders, and an archive that has them. Both are fakes
 * over one table of orders: no network, a clock driven by hand. */
#include <string.h>

#include "check.h"
#include "details.h"
#include "gateway/gateway_internal.h"
#include "google/rpc/status.pb-c.h"
#include "list_position.h"
#include "run.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"

#define CONFIRMED  TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CONFIRMED
#define REJECTED   TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_REJECTED
#define BASE_MS    1764000000000
#define TRACE      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define STATE      "rojo=1"
#define HERE       "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa" /* with the order service */
#define GONE       "ord_baaaaaaaaaaaaaaaaaaaaaaaaa" /* in the archive alone */
#define LOST       "ord_caaaaaaaaaaaaaaaaaaaaaaaaa" /* likewise, but it was never settled */
#define NOWHERE    "ord_daaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHERS     "ord_eaaaaaaaaaaaaaaaaaaaaaaaaa" /* dropped, of another customer */
#define ORDERS_MAX 400

typedef Tandem__Order__V1__Order order_message;

static struct known {
	char order_id[31];
	const char *customer_id;
	int64_t ms;
	int status;
	bool here, archived, settled;
} orders[ORDERS_MAX];
static size_t order_count;

static struct fake {
	int archive_fails; /* with this code; 0: it answers */
	bool hold;         /* the archive does not answer */
	bool drops;        /* the order service says that it has dropped orders */
	size_t placed;     /* orders */
	size_t stop_with;  /* so many are on their way when the gateway is stopped */
	size_t found_max;  /* how many ids the archive looks for in a call; 0: any number */
	size_t look_max;   /* how many orders a search looks at; 0: any number */
	struct rt_call *held;
	bool cancelled;
	size_t asked, searched; /* how often the archive was */
	int64_t remaining_ms;
	char traceparent[80], tracestate[80], owner[RT_IDENTITY_OWNER];
} fake;

static const struct known *find(const char *order_id)
{
	for (size_t i = 0; i < order_count; i++)
		if (strcmp(orders[i].order_id, order_id) == 0)
			return &orders[i];
	return NULL;
}

static void add(const char *order_id, const char *customer_id, bool here, bool archived,
		bool settled)
{
	struct known *known = &orders[order_count++];

	*known = (struct known){ .customer_id = customer_id,
				 .ms = BASE_MS,
				 .status = CONFIRMED,
				 .here = here,
				 .archived = archived,
				 .settled = settled };
	snprintf(known->order_id, sizeof(known->order_id), "%s", order_id);
}

static void view(const struct known *known, order_message *order,
		 Google__Protobuf__Timestamp *created)
{
	tandem__order__v1__order__init(order);
	google__protobuf__timestamp__init(created);
	created->seconds = known->ms / 1000;
	created->nanos = (int32_t)(known->ms % 1000) * 1000000;
	order->order_id = (char *)(uintptr_t)known->order_id;
	order->customer_id = (char *)(uintptr_t)known->customer_id;
	order->status = (Tandem__Order__V1__OrderStatus)known->status;
	order->version = 4;
	order->settled = known->settled;
	order->create_time = created;
}

/* ---- the order service ---- */

static void not_found(struct rt_status *status, const char *order_id)
{
	rt_status_set(status, RT_CODE_NOT_FOUND, "there is no order %s", order_id);
	rt_status_info(status, "ORDER_NOT_FOUND");
}

/* Each such response has the one field, and the request's id is its first. */
static void answer_one(const char *order_id, const ProtobufCMessageDescriptor *type,
		       ProtobufCClosure closure, struct rt_call *call)
{
	Tandem__Order__V1__GetOrderResponse response = { .base = PROTOBUF_C_MESSAGE_INIT(type) };
	const struct known *known = find(order_id);
	Google__Protobuf__Timestamp created;
	struct rt_status status = { 0 };
	order_message order;

	if (known != NULL && known->here) {
		view(known, &order, &created);
		response.order = &order;
		closure(&response.base, call);
		return;
	}
	not_found(&status, order_id);
	rt_call_fail(call, &status);
	rt_status_done(&status);
}

#define FAKE(method, Method)                                                                       \
	static void fake_##method(Tandem__Order__V1__OrderService_Service *service,                \
				  const Tandem__Order__V1__##Method##Request *request,             \
				  Tandem__Order__V1__##Method##Response_Closure closure,           \
				  void *data)
#define FAKE_ONE(method, Method)                                                                   \
	FAKE(method, Method)                                                                       \
	{                                                                                          \
		(void)service;                                                                     \
		answer_one(request->order_id, &tandem__order__v1__##method##_response__descriptor, \
			   (ProtobufCClosure)closure, data);                                       \
	}
FAKE_ONE(get_order, GetOrder)
FAKE_ONE(confirm_order, ConfirmOrder)
FAKE_ONE(cancel_order, CancelOrder)
FAKE_ONE(extend_hold, ExtendHold)
FAKE_ONE(return_order, ReturnOrder)
FAKE_ONE(explain_order, ExplainOrder) /* of orders that are not here */

FAKE(watch_order, WatchOrder)
{
	struct rt_status status = { 0 };

	(void)service, (void)closure;
	not_found(&status, request->order_id);
	rt_call_fail(data, &status);
	rt_status_done(&status);
}

/* Both requests, and both responses, have the one field. */
static void answer_many(const Tandem__Order__V1__BatchConfirmOrdersRequest *request,
			const ProtobufCMessageDescriptor *type, ProtobufCClosure closure,
			struct rt_call *call)
{
	Tandem__Order__V1__BatchConfirmOrdersResponse response = { .base = PROTOBUF_C_MESSAGE_INIT(
									   type) };
	Tandem__Order__V1__MoveOrderResult results[CHECK_BATCH_MAX], *list[CHECK_BATCH_MAX];
	order_message order = TANDEM__ORDER__V1__ORDER__INIT;
	struct rt_status status = { 0 };
	Google__Rpc__Status *error;

	not_found(&status, "it");
	error = rt_status_to_proto(&status);
	response.n_orders = request->n_requests;
	response.orders = list;
	for (size_t i = 0; i < request->n_requests; i++) {
		const struct known *known = find(gateway_order_id(&request->requests[i]->base));

		list[i] = &results[i];
		tandem__order__v1__move_order_result__init(list[i]);
		if (known != NULL && known->here) {
			list[i]->result_case = TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ORDER;
			list[i]->order = &order;
		} else {
			list[i]->result_case = TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ERROR;
			list[i]->error = error;
		}
	}
	closure(&response.base, call);
	google__rpc__status__free_unpacked(error, NULL);
	rt_status_done(&status);
}

#define FAKE_MANY(method, Method)                                                                  \
	FAKE(method, Method)                                                                       \
	{                                                                                          \
		(void)service;                                                                     \
		answer_many((const void *)request,                                                 \
			    &tandem__order__v1__##method##_response__descriptor,                   \
			    (ProtobufCClosure)closure, data);                                      \
	}
FAKE_MANY(batch_confirm_orders, BatchConfirmOrders)
FAKE_MANY(batch_cancel_orders, BatchCancelOrders)

/* The order service has its orders by time and id. */
static int by_id(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	if (x->ms != y->ms)
		return x->ms > y->ms ? -1 : 1;
	return -strcmp(x->order_id, y->order_id);
}

FAKE(list_orders, ListOrders)
{
	Tandem__Order__V1__ListOrdersResponse response =
		TANDEM__ORDER__V1__LIST_ORDERS_RESPONSE__INIT;
	static struct known sorted[ORDERS_MAX];
	order_message messages[ORDERS_MAX], *list[ORDERS_MAX];
	Google__Protobuf__Timestamp created[ORDERS_MAX];
	struct list_position position, last = { .ms = 0 };
	char name[LIST_POSITION_NAME], *token = NULL;
	size_t looked_at = 0;

	(void)service;
	list_position_name(request, name);
	CU_ASSERT_FATAL(list_position_read(name, request->page_token, &position));
	memcpy(sorted, orders, sizeof(orders));
	qsort(sorted, order_count, sizeof(*sorted), by_id);
	response.orders = list;
	for (size_t i = 0; i < order_count && token == NULL; i++) {
		const struct known *known = &sorted[i];

		if (!known->here || !list_position_before(&position, known->ms, known->order_id))
			continue;
		if (looked_at++ == check_page_size(request->page_size)) {
			token = list_position_token(name, &last);
			break;
		}
		last.ms = known->ms;
		memcpy(last.order_id, known->order_id, sizeof(last.order_id));
		if (request->status != 0 && (int)request->status != known->status)
			continue;
		list[response.n_orders] = &messages[response.n_orders];
		view(known, &messages[response.n_orders], &created[response.n_orders]);
		response.n_orders++;
	}
	if (token != NULL)
		response.next_page_token = token;
	response.dropped = fake.drops;
	closure(&response, data);
	free(token);
}

#define FAKE_OTHER(method, Method)                                                                 \
	FAKE(method, Method)                                                                       \
	{                                                                                          \
		(void)service, (void)request, (void)closure;                                       \
		rt_call_failf(data, RT_CODE_UNIMPLEMENTED, #Method);                               \
	}
FAKE_OTHER(place_order, PlaceOrder)
FAKE_OTHER(batch_place_orders, BatchPlaceOrders)
FAKE_OTHER(stream_orders, StreamOrders)

static Tandem__Order__V1__OrderService_Service fake_service =
	TANDEM__ORDER__V1__ORDER_SERVICE__INIT(fake_);
/* Never called; it is there to be routed to. */
static ProtobufCService fake_inventory = {
	.descriptor = &tandem__inventory__v1__inventory_service__descriptor,
	.invoke = protobuf_c_service_invoke_internal
};

/* ---- placing: of an id that is not here it says that it was perhaps dropped ---- */

/* What a request would store; its id is its request_id. */
static void placed_text(const Tandem__Order__V1__PlaceOrderRequest *request, char text[32])
{
	snprintf(text, 32, "quantity %u", request->lines[0]->quantity);
}

static void answer_item(const Tandem__Order__V1__PlacementItem *item,
			Tandem__Order__V1__PlacementAnswer *answer, struct rt_arena *arena)
{
	Tandem__Order__V1__PlaceOrderRequest *request =
		tandem__order__v1__place_order_request__unpack(
			rt_arena_allocator(arena), item->request.len, item->request.data);
	order_message *order = rt_arena_take(arena, sizeof(*order));
	Tandem__Order__V1__PerhapsDropped *perhaps = rt_arena_take(arena, sizeof(*perhaps));
	char *text = rt_arena_take(arena, 32);

	CU_ASSERT_PTR_NOT_NULL_FATAL(request);
	tandem__order__v1__placement_answer__init(answer);
	answer->number = item->number;
	if (item->asked) {
		tandem__order__v1__order__init(order);
		order->order_id = request->request_id;
		order->status = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING;
		answer->result_case = TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ORDER;
		answer->order.len = tandem__order__v1__order__get_packed_size(order);
		answer->order.data = rt_arena_take(arena, answer->order.len);
		tandem__order__v1__order__pack(order, answer->order.data);
		fake.placed++;
		return;
	}
	tandem__order__v1__perhaps_dropped__init(perhaps);
	placed_text(request, text);
	perhaps->order_id = request->request_id;
	perhaps->placed = (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
	answer->result_case = TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_PERHAPS_DROPPED;
	answer->perhaps_dropped = perhaps;
}

static void items_came(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	const Tandem__Order__V1__PlaceRequest *request = (const void *)message;
	Tandem__Order__V1__PlaceResponse response = TANDEM__ORDER__V1__PLACE_RESPONSE__INIT;
	Tandem__Order__V1__PlacementAnswer answers[GATEWAY_BATCH_MAX], *list[GATEWAY_BATCH_MAX];
	Tandem__Order__V1__PlaceResponse_Closure *closure = user;
	struct rt_arena arena = { .chunks = NULL };

	if (message == NULL)
		return;
	for (size_t i = 0; i < request->n_items; i++) {
		list[i] = &answers[i];
		answer_item(request->items[i], &answers[i], &arena);
	}
	response.answers = list;
	response.n_answers = request->n_items;
	(*closure)(&response, call);
	rt_arena_done(&arena);
	rt_call_read(call, items_came, user);
}

static void placement_cancelled(struct rt_call *call, void *user)
{
	(void)user;
	rt_call_failf(call, RT_CODE_CANCELLED, "cancelled");
}

static void fake_place(Tandem__Order__V1__PlacementService_Service *service,
		       const Tandem__Order__V1__PlaceRequest *request,
		       Tandem__Order__V1__PlaceResponse_Closure closure, void *data)
{
	static Tandem__Order__V1__PlaceResponse_Closure kept;

	(void)service, (void)request;
	kept = closure;
	rt_call_on_cancel(data, placement_cancelled, NULL);
	rt_call_read(data, items_came, &kept);
}

static Tandem__Order__V1__PlacementService_Service fake_placement =
	TANDEM__ORDER__V1__PLACEMENT_SERVICE__INIT(fake_);

/* ---- the archive ---- */

static void held_cancelled(struct rt_call *call, void *user)
{
	(void)user;
	fake.cancelled = true;
	rt_call_failf(call, RT_CODE_CANCELLED, "cancelled");
}

/* True: the call needs no answer. */
static bool archive_fails(struct rt_call *call)
{
	const char *traceparent = rt_call_metadata(call, "traceparent", NULL);
	const char *tracestate = rt_call_metadata(call, "tracestate", NULL);

	fake.remaining_ms = rt_call_remaining_ms(call);
	snprintf(fake.traceparent, sizeof(fake.traceparent), "%s",
		 traceparent == NULL ? "" : traceparent);
	snprintf(fake.tracestate, sizeof(fake.tracestate), "%s",
		 tracestate == NULL ? "" : tracestate);
	snprintf(fake.owner, sizeof(fake.owner), "%s", rt_call_identity(call)->owner);
	if (fake.hold) {
		fake.held = call;
		rt_call_on_cancel(call, held_cancelled, NULL);
		return true;
	}
	if (fake.archive_fails != 0)
		rt_call_failf(call, fake.archive_fails, "as the test wants");
	return fake.archive_fails != 0;
}

static void archive_get(const Tandem__Archive__V1__GetArchivedOrderRequest *request,
			ProtobufCClosure closure, struct rt_call *call)
{
	Tandem__Archive__V1__GetArchivedOrderResponse response =
		TANDEM__ARCHIVE__V1__GET_ARCHIVED_ORDER_RESPONSE__INIT;
	Tandem__Archive__V1__ArchivedOrder archived = TANDEM__ARCHIVE__V1__ARCHIVED_ORDER__INIT;
	Tandem__Order__V1__OrderLifeEvent event = TANDEM__ORDER__V1__ORDER_LIFE_EVENT__INIT;
	Tandem__Order__V1__OrderLifeEvent *events[] = { &event };
	const struct known *known = find(request->order_id);
	const char *owner = rt_call_identity(call)->owner;
	Google__Protobuf__Timestamp created;
	order_message order;

	fake.asked++;
	if (archive_fails(call))
		return;
	if (known == NULL || !known->archived ||
	    (owner[0] != '\0' && strcmp(owner, known->customer_id) != 0)) {
		rt_call_failf(call, RT_CODE_NOT_FOUND, "not archived");
		return;
	}
	view(known, &order, &created);
	event.text = (char *)(uintptr_t) "It was settled.";
	archived.order = &order;
	response.order = &archived;
	response.events = events;
	response.n_events = 1;
	closure(&response.base, call);
}

/* The archive has them by time and the order in which they came to it. */
static int by_number(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return x->ms != y->ms ? (x->ms > y->ms ? -1 : 1) : 0;
}

static void sort_stable(struct known *sorted)
{
	for (size_t i = 1; i < order_count; i++)
		for (size_t k = i; k > 0 && by_number(&sorted[k - 1], &sorted[k]) > 0; k--) {
			struct known swap = sorted[k];

			sorted[k] = sorted[k - 1];
			sorted[k - 1] = swap;
		}
}

static int64_t ms_of(const Google__Protobuf__Timestamp *time, int64_t without)
{
	return time == NULL ? without : time->seconds * 1000 + time->nanos / 1000000;
}

static void archive_search(const Tandem__Archive__V1__SearchOrdersRequest *request,
			   ProtobufCClosure closure, struct rt_call *call)
{
	Tandem__Archive__V1__SearchOrdersResponse response =
		TANDEM__ARCHIVE__V1__SEARCH_ORDERS_RESPONSE__INIT;
	static struct known sorted[ORDERS_MAX];
	order_message messages[ORDERS_MAX];
	Tandem__Archive__V1__ArchivedOrder archived[ORDERS_MAX], *list[ORDERS_MAX];
	Google__Protobuf__Timestamp created[ORDERS_MAX], complete;
	const Tandem__Archive__V1__OrderFilter *filter = request->filter;
	size_t looked_at = 0;
	char token[24];
	int64_t begin = 0, last_ms = 0;

	fake.searched++;
	if (archive_fails(call))
		return;
	(void)rt_parse_int(request->page_token, 0, ORDERS_MAX, &begin);
	memcpy(sorted, orders, sizeof(orders));
	sort_stable(sorted);
	response.orders = list;
	for (size_t i = (size_t)begin; i < order_count; i++) {
		const struct known *known = &sorted[i];
		size_t n = response.n_orders;

		if (!known->archived || strcmp(known->customer_id, filter->customer_id) != 0 ||
		    known->ms < ms_of(filter->from_time, 0) ||
		    known->ms >= ms_of(filter->to_time, INT64_MAX))
			continue;
		if (n == check_page_size(request->page_size) ||
		    (fake.look_max > 0 && looked_at == fake.look_max)) {
			snprintf(token, sizeof(token), "%zu", i);
			response.next_page_token = token;
			google__protobuf__timestamp__init(&complete);
			complete.seconds = last_ms / 1000;
			complete.nanos = (int32_t)(last_ms % 1000) * 1000000;
			response.complete_after_time = &complete;
			break;
		}
		looked_at++;
		last_ms = known->ms;
		if (filter->status != 0 && (int)filter->status != known->status)
			continue;
		tandem__archive__v1__archived_order__init(&archived[n]);
		view(known, &messages[n], &created[n]);
		archived[n].order = &messages[n];
		list[n] = &archived[n];
		response.n_orders++;
	}
	closure(&response.base, call);
}

/* Every order that is archived was placed with a quantity of 1. */
static void archive_find(const Tandem__Archive__V1__FindOrdersRequest *request,
			 ProtobufCClosure closure, struct rt_call *call)
{
	Tandem__Archive__V1__FindOrdersResponse response =
		TANDEM__ARCHIVE__V1__FIND_ORDERS_RESPONSE__INIT;
	Tandem__Archive__V1__FoundOrder found[64], *list[64];
	Tandem__Archive__V1__ArchivedOrder archived[64];
	order_message messages[64];
	Google__Protobuf__Timestamp created[64];
	static char placed[] = "quantity 1";

	fake.asked++;
	if (archive_fails(call))
		return;
	response.orders = list;
	for (size_t i = 0; i < request->n_order_ids; i++) {
		const struct known *known = find(request->order_ids[i]);
		size_t n = response.n_orders;

		if (fake.found_max > 0 && i == fake.found_max)
			break;
		response.answered++;
		if (known == NULL || !known->archived)
			continue;
		view(known, &messages[n], &created[n]);
		tandem__archive__v1__archived_order__init(&archived[n]);
		archived[n].order = &messages[n];
		tandem__archive__v1__found_order__init(&found[n]);
		found[n].order = &archived[n];
		found[n].placed = (ProtobufCBinaryData){ strlen(placed), (uint8_t *)placed };
		list[n] = &found[n];
		response.n_orders++;
	}
	closure(&response.base, call);
}

static void archive_invoke(ProtobufCService *service, unsigned method,
			   const ProtobufCMessage *request, ProtobufCClosure closure, void *data)
{
	const char *name = service->descriptor->methods[method].name;

	if (strcmp(name, "GetArchivedOrder") == 0)
		archive_get((const void *)request, closure, data);
	else if (strcmp(name, "SearchOrders") == 0)
		archive_search((const void *)request, closure, data);
	else if (strcmp(name, "FindOrders") == 0)
		archive_find((const void *)request, closure, data);
	else
		rt_call_failf(data, RT_CODE_UNIMPLEMENTED, "%s", name);
}

static ProtobufCService fake_archive = { .descriptor =
						 &tandem__archive__v1__archive_service__descriptor,
					 .invoke = archive_invoke };

/* ---- the world and its callers ---- */

static struct world {
	struct rt_loop *loop;
	ProtobufCService *order, *placement, *inventory, *archive, *client;
	struct gateway *gateway;
	int stopped;
} world;

static void teardown(void)
{
	rt_loop_run_due(world.loop);
	world.stopped = 0;
	CU_ASSERT_EQUAL(world.gateway->placing_count, fake.stop_with);
	gateway_stop(world.gateway, tests_count, &world.stopped);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(world.stopped, 1);
	rt_client_free(world.client);
	gateway_free(world.gateway);
	rt_client_free(world.order);
	rt_client_free(world.placement);
	rt_client_free(world.inventory);
	rt_client_free(world.archive);
	rt_loop_run_due(world.loop);
	rt_loop_free(world.loop);
}

static void begin(bool with_archive)
{
	struct gateway_options options = {
		.connections = 1, .batch_max = 128, .orders_max = 100, .timeout_ms = 30000
	};

	fake = (struct fake){ .archive_fails = 0 };
	order_count = 0;
	add(HERE, "zoe", true, true, false);
	add(GONE, "zoe", false, true, true);
	add(LOST, "zoe", false, true, false);
	add(OTHERS, "yan", false, true, true);
	CU_ASSERT_FATAL(rt_loop_new_manual(BASE_MS, 1, &world.loop) == RT_OK);
	world.order = rt_client_local(world.loop, &fake_service.base, NULL, NULL);
	world.placement = rt_client_local(world.loop, &fake_placement.base, NULL, NULL);
	world.inventory = rt_client_local(world.loop, &fake_inventory, NULL, NULL);
	world.archive = rt_client_local(world.loop, &fake_archive, NULL, NULL);
	options.order = world.order;
	options.placement = world.placement;
	options.inventory = world.inventory;
	options.archive = with_archive ? world.archive : NULL;
	CU_ASSERT_FATAL(gateway_new(world.loop, &options, &world.gateway) == RT_OK);
	world.client = rt_client_local(world.loop, gateway_order_rpc(world.gateway), NULL, NULL);
}

static void setup(void)
{
	begin(true);
}

struct caller {
	struct rt_client_op op;
	int done, code;
	size_t messages; /* of a stream */
	char message[300];
	struct details details;
	ProtobufCMessage *response; /* a copy; NULL: it failed */
};

static ProtobufCMessage *copy_of(const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *packed = rt_alloc(length + 1);
	ProtobufCMessage *copy;

	protobuf_c_message_pack(message, packed);
	copy = protobuf_c_message_unpack(message->descriptor, NULL, length, packed);
	free(packed);
	return copy;
}

static void caller_done(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct caller *caller = RT_CONTAINER_OF(op, struct caller, op);

	caller->done++;
	caller->code = op->status.code;
	snprintf(caller->message, sizeof(caller->message), "%s",
		 op->status.message == NULL ? "" : op->status.message);
	caller->details = details_of(&op->status);
	if (message != NULL)
		caller->response = copy_of(message);
}

static void caller_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct caller *caller = RT_CONTAINER_OF(op, struct caller, op);

	caller->messages++;
	if (caller->response != NULL)
		protobuf_c_message_free_unpacked(caller->response, NULL);
	caller->response = copy_of(message);
}

static void caller_free(struct caller *caller)
{
	if (caller->response != NULL)
		protobuf_c_message_free_unpacked(caller->response, NULL);
	caller->response = NULL;
}

static const struct rt_identity *identity; /* of the callers; NULL: nobody is asked */

static void start_within(struct caller *caller, const char *method, const ProtobufCMessage *request,
			 int64_t timeout_ms)
{
	memset(caller, 0, sizeof(*caller));
	caller->op.timeout_ms = timeout_ms;
	caller->op.traceparent = TRACE;
	caller->op.tracestate = STATE;
	caller->op.caller = identity;
	caller->op.done = caller_done;
	if (strcmp(method, "WatchOrder") == 0)
		caller->op.on_message = caller_message;
	rt_client_start(world.client,
			gateway_method_index(&tandem__order__v1__order_service__descriptor, method),
			request, &caller->op);
	rt_loop_run_due(world.loop);
}

static void start(struct caller *caller, const char *method, const ProtobufCMessage *request)
{
	start_within(caller, method, request, 7000);
}

/* A request whose first field is the order's id. */
static void call(struct caller *caller, const char *method, const char *order_id)
{
	const ProtobufCMethodDescriptor *found = protobuf_c_service_descriptor_get_method_by_name(
		&tandem__order__v1__order_service__descriptor, method);
	union {
		ProtobufCMessage base;
		Tandem__Order__V1__GetOrderRequest get;
		Tandem__Order__V1__ReturnOrderRequest back;
		Tandem__Order__V1__ExtendHoldRequest extend;
		char room[256];
	} request;
	Google__Protobuf__Timestamp later = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	later.seconds = BASE_MS / 1000 + 3600;
	protobuf_c_message_init(found->input, &request);
	request.get.order_id = (char *)(uintptr_t)order_id;
	if (strcmp(method, "ReturnOrder") == 0)
		request.back.return_id = (char *)(uintptr_t) "r";
	if (strcmp(method, "ExtendHold") == 0)
		request.extend.hold_expire_time = &later;
	start(caller, method, &request.base);
}

static const char *answered_id(const struct caller *caller)
{
	const Tandem__Order__V1__GetOrderResponse *response = (const void *)caller->response;

	return response == NULL || response->order == NULL ? "" : response->order->order_id;
}

/* ---- one order ---- */

static void reads(void)
{
	static const struct {
		const char *why, *method, *order_id;
		int code;
		size_t asked;
	} rows[] = {
		{ "the order service has it", "GetOrder", HERE, 0, 0 },
		{ "the archive has it", "GetOrder", GONE, 0, 1 },
		{ "it was never settled", "GetOrder", LOST, RT_CODE_NOT_FOUND, 1 },
		{ "nobody has it", "GetOrder", NOWHERE, RT_CODE_NOT_FOUND, 1 },
		{ "no order can have this id", "GetOrder", "ord_1", RT_CODE_NOT_FOUND, 0 },
		{ "a watch", "WatchOrder", GONE, 0, 1 },
		{ "a watch of nothing", "WatchOrder", NOWHERE, RT_CODE_NOT_FOUND, 1 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct caller caller;

		fake.asked = 0;
		call(&caller, rows[i].method, rows[i].order_id);
		TEST_ROW(caller.done == 1 && caller.code == rows[i].code, rows[i].why);
		TEST_ROW(fake.asked == rows[i].asked, rows[i].why);
		TEST_ROW(strcmp(answered_id(&caller), rows[i].code == 0 ? rows[i].order_id : "") ==
				 0,
			 rows[i].why);
		if (rows[i].code == RT_CODE_NOT_FOUND)
			TEST_ROW(strcmp(caller.details.reason, "ORDER_NOT_FOUND") == 0,
				 rows[i].why);
		caller_free(&caller);
	}
}

static void explained(void)
{
	const Tandem__Order__V1__ExplainOrderResponse *response;
	struct caller caller;

	call(&caller, "ExplainOrder", GONE);
	CU_ASSERT_EQUAL(caller.code, 0);
	response = (const void *)caller.response;
	CU_ASSERT_PTR_NOT_NULL_FATAL(response);
	CU_ASSERT_STRING_EQUAL(response->explanation->order->order_id, GONE);
	CU_ASSERT_EQUAL_FATAL(response->explanation->n_events, 1);
	CU_ASSERT_STRING_EQUAL(response->explanation->events[0]->text, "It was settled.");
	CU_ASSERT_STRING_EQUAL(response->explanation->because, "CONFIRMED.");
	CU_ASSERT(strstr(response->explanation->next, "in the archive alone") != NULL);
	caller_free(&caller);
}

/* A watch that is resumed behind the order's last version ends without a message. */
static void watched(void)
{
	Tandem__Order__V1__WatchOrderRequest request = TANDEM__ORDER__V1__WATCH_ORDER_REQUEST__INIT;
	static const size_t messages[] = { 1, 1, 1, 1, 0, 0 };

	request.order_id = (char *)(uintptr_t)GONE;
	for (size_t version = 0; version < RT_LENGTH(messages); version++) {
		struct caller caller;

		request.after_version = version;
		start(&caller, "WatchOrder", &request.base);
		CU_ASSERT_EQUAL(caller.done, 1);
		CU_ASSERT_EQUAL(caller.code, 0);
		CU_ASSERT_EQUAL(caller.messages, messages[version]);
		caller_free(&caller);
	}
}

static void moves(void)
{
	static const char *const methods[] = { "ConfirmOrder", "CancelOrder", "ExtendHold",
					       "ReturnOrder" };

	for (size_t i = 0; i < RT_LENGTH(methods); i++) {
		struct caller caller;

		call(&caller, methods[i], GONE);
		TEST_ROW(caller.code == RT_CODE_FAILED_PRECONDITION, methods[i]);
		TEST_ROW(strcmp(caller.details.reason, "ORDER_ARCHIVED") == 0, methods[i]);
		TEST_ROW(strcmp(caller.details.subject, GONE) == 0, methods[i]);
		TEST_ROW(strstr(caller.message, "is CONFIRMED, and archived") != NULL, methods[i]);
		call(&caller, methods[i], NOWHERE);
		TEST_ROW(caller.code == RT_CODE_NOT_FOUND, methods[i]);
		call(&caller, methods[i], LOST);
		TEST_ROW(caller.code == RT_CODE_NOT_FOUND, methods[i]);
	}
}

/* The archive hears who asks, in which trace, and until when. */
static void on_whose_behalf(void)
{
	static const struct rt_identity zoe = { .role = RT_ROLE_CUSTOMER, .owner = "zoe" };
	struct caller caller;

	identity = &zoe;
	call(&caller, "GetOrder", GONE);
	CU_ASSERT_EQUAL(caller.code, 0);
	CU_ASSERT_STRING_EQUAL(fake.owner, "zoe");
	CU_ASSERT_STRING_EQUAL(fake.traceparent, TRACE);
	CU_ASSERT_STRING_EQUAL(fake.tracestate, STATE);
	CU_ASSERT_EQUAL(fake.remaining_ms, 7000);
	caller_free(&caller);
	call(&caller, "GetOrder", OTHERS);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_NOT_FOUND);
	CU_ASSERT_STRING_EQUAL(caller.details.reason, "ORDER_NOT_FOUND");
	call(&caller, "ConfirmOrder", OTHERS);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_NOT_FOUND);
	identity = NULL;
}

static void archive_away(void)
{
	static const struct {
		int archive, caller;
	} rows[] = {
		{ RT_CODE_UNAVAILABLE, RT_CODE_UNAVAILABLE },
		{ RT_CODE_INTERNAL, RT_CODE_UNAVAILABLE },
		{ RT_CODE_UNIMPLEMENTED, RT_CODE_UNAVAILABLE },
		{ RT_CODE_RESOURCE_EXHAUSTED, RT_CODE_RESOURCE_EXHAUSTED },
		{ RT_CODE_DEADLINE_EXCEEDED, RT_CODE_DEADLINE_EXCEEDED },
	};
	struct caller caller;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		fake.archive_fails = rows[i].archive;
		call(&caller, "GetOrder", GONE);
		CU_ASSERT_EQUAL(caller.done, 1);
		CU_ASSERT_EQUAL(caller.code, rows[i].caller);
		if (rows[i].caller != RT_CODE_UNAVAILABLE)
			continue;
		CU_ASSERT_STRING_EQUAL(caller.details.reason, "ARCHIVE_AWAY");
		CU_ASSERT(caller.details.retry_ms > 0);
		CU_ASSERT(strstr(caller.message, "the archive cannot be asked") != NULL);
	}
	/* What the order service has does not need it. */
	call(&caller, "GetOrder", HERE);
	CU_ASSERT_EQUAL(caller.code, 0);
	caller_free(&caller);
}

static void no_archive(void)
{
	struct caller caller;

	teardown();
	begin(false);
	call(&caller, "GetOrder", GONE);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_NOT_FOUND);
	call(&caller, "WatchOrder", GONE);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_NOT_FOUND);
	call(&caller, "CancelOrder", GONE);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_NOT_FOUND);
}

/* The caller goes while the archive is asked. */
static void left(void)
{
	static const char *const methods[] = { "GetOrder", "WatchOrder", "ConfirmOrder",
					       "ExplainOrder" };

	fake.hold = true;
	for (size_t i = 0; i < RT_LENGTH(methods); i++) {
		struct caller caller;

		fake.cancelled = false;
		call(&caller, methods[i], GONE);
		TEST_ROW(caller.done == 0, methods[i]);
		rt_client_cancel(&caller.op);
		rt_loop_run_due(world.loop);
		TEST_ROW(caller.done == 1 && caller.code == RT_CODE_CANCELLED, methods[i]);
		rt_loop_advance(world.loop, 200);
		TEST_ROW(fake.cancelled, methods[i]);
	}
}

/* ---- batches ---- */

static void batch_of(struct caller *caller, const char *const *ids, size_t count)
{
	Tandem__Order__V1__BatchConfirmOrdersRequest request =
		TANDEM__ORDER__V1__BATCH_CONFIRM_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__ConfirmOrderRequest items[64], *list[64];

	for (size_t i = 0; i < count; i++) {
		list[i] = &items[i];
		tandem__order__v1__confirm_order_request__init(list[i]);
		items[i].order_id = (char *)(uintptr_t)ids[i];
	}
	request.requests = list;
	request.n_requests = count;
	start(caller, "BatchConfirmOrders", &request.base);
}

static void batches(void)
{
	static const char *const ids[] = { HERE, GONE, NOWHERE, LOST, "ord_1", GONE };
	static const int codes[] = { 0,
				     RT_CODE_FAILED_PRECONDITION,
				     RT_CODE_NOT_FOUND,
				     RT_CODE_NOT_FOUND,
				     RT_CODE_NOT_FOUND,
				     RT_CODE_FAILED_PRECONDITION };
	const Tandem__Order__V1__BatchConfirmOrdersResponse *response;
	struct caller caller;

	batch_of(&caller, ids, RT_LENGTH(ids));
	CU_ASSERT_EQUAL_FATAL(caller.code, 0);
	response = (const void *)caller.response;
	CU_ASSERT_EQUAL_FATAL(response->n_orders, RT_LENGTH(ids));
	for (size_t i = 0; i < RT_LENGTH(ids); i++) {
		const Tandem__Order__V1__MoveOrderResult *result = response->orders[i];
		bool moved =
			result->result_case == TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ORDER;

		CU_ASSERT_EQUAL(moved ? 0 : result->error->code, codes[i]);
	}
	CU_ASSERT_EQUAL(fake.asked, 4);
	caller_free(&caller);
	fake.asked = 0;
	batch_of(&caller, ids, 1);
	CU_ASSERT_EQUAL(caller.code, 0);
	CU_ASSERT_EQUAL(fake.asked, 0);
	caller_free(&caller);
}

/* Those that the archive is needed for fail, the others do not. */
static void batch_without_archive(void)
{
	static const char *const ids[] = { GONE, HERE };
	const Tandem__Order__V1__BatchConfirmOrdersResponse *response;
	struct caller caller;

	fake.archive_fails = RT_CODE_UNAVAILABLE;
	batch_of(&caller, ids, 2);
	CU_ASSERT_EQUAL_FATAL(caller.code, 0);
	response = (const void *)caller.response;
	CU_ASSERT_EQUAL(response->orders[0]->error->code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(response->orders[1]->result_case,
			TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ORDER);
	caller_free(&caller);
}

/* More than are asked for at once; and the caller goes. */
static void large_batches(void)
{
	const Tandem__Order__V1__BatchConfirmOrdersResponse *response;
	const char *ids[50];
	struct caller caller;

	for (size_t i = 0; i < RT_LENGTH(ids); i++)
		ids[i] = GONE;
	batch_of(&caller, ids, RT_LENGTH(ids));
	CU_ASSERT_EQUAL_FATAL(caller.code, 0);
	response = (const void *)caller.response;
	for (size_t i = 0; i < RT_LENGTH(ids); i++)
		CU_ASSERT_EQUAL(response->orders[i]->error->code, RT_CODE_FAILED_PRECONDITION);
	CU_ASSERT_EQUAL(fake.asked, RT_LENGTH(ids));
	caller_free(&caller);
	fake.asked = 0;
	fake.hold = true;
	batch_of(&caller, ids, RT_LENGTH(ids));
	CU_ASSERT_EQUAL(caller.done, 0);
	CU_ASSERT_EQUAL(fake.asked, 16);
	rt_client_cancel(&caller.op);
	rt_loop_run_due(world.loop);
	rt_loop_advance(world.loop, 200);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT(fake.cancelled);
	CU_ASSERT_EQUAL(fake.asked, 16);
}

/* ---- orders that were perhaps placed before ---- */

static void place(struct caller *caller, const char *request_id, uint32_t quantity,
		  int64_t timeout_ms)
{
	Tandem__Order__V1__PlaceOrderRequest request = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT, *lines = &line;

	line.sku = (char *)(uintptr_t) "tea";
	line.quantity = quantity;
	request.request_id = (char *)(uintptr_t)request_id;
	request.customer_id = (char *)(uintptr_t) "zoe";
	request.lines = &lines;
	request.n_lines = 1;
	start_within(caller, "PlaceOrder", &request.base, timeout_ms);
}

static void placed_before(void)
{
	static const struct {
		const char *why, *request_id;
		uint32_t quantity;
		int code;
		size_t placed;
	} rows[] = {
		{ "the archive has its order", GONE, 1, 0, 0 },
		{ "it was for another request", GONE, 2, RT_CODE_ALREADY_EXISTS, 0 },
		{ "by chance: it was never used", NOWHERE, 1, 0, 1 },
		{ "its order was lost", LOST, 1, 0, 1 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct caller caller;

		fake.asked = fake.placed = 0;
		place(&caller, rows[i].request_id, rows[i].quantity, 7000);
		TEST_ROW(caller.done == 1 && caller.code == rows[i].code, rows[i].why);
		TEST_ROW(fake.asked == 1 && fake.placed == rows[i].placed, rows[i].why);
		TEST_ROW(strcmp(answered_id(&caller),
				rows[i].code == 0 ? rows[i].request_id : "") == 0,
			 rows[i].why);
		if (rows[i].code != 0)
			TEST_ROW(strcmp(caller.details.reason, "REQUEST_ID_REUSED") == 0,
				 rows[i].why);
		caller_free(&caller);
	}
}

/* The order service has said whose it is, so the gateway asks for itself: only it may. */
static void asks_for_itself(void)
{
	static const struct rt_identity zoe = { .role = RT_ROLE_CUSTOMER, .owner = "zoe" };
	struct caller caller;

	identity = &zoe;
	snprintf(fake.owner, sizeof(fake.owner), "none");
	place(&caller, GONE, 1, 7000);
	CU_ASSERT_EQUAL(caller.code, 0);
	CU_ASSERT_STRING_EQUAL(fake.owner, "");
	caller_free(&caller);
	identity = NULL;
}

static void placed_while_the_archive_is_away(void)
{
	struct caller caller;

	fake.archive_fails = RT_CODE_UNAVAILABLE;
	place(&caller, NOWHERE, 1, 7000);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_STRING_EQUAL(caller.details.reason, "ARCHIVE_AWAY");
	CU_ASSERT(caller.details.retry_ms > 0);
	CU_ASSERT_EQUAL(fake.placed, 0);
	teardown();
	begin(false);
	place(&caller, NOWHERE, 1, 7000);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(fake.placed, 0);
}

/* Those of a turn are one question; what does not fit into its answer is asked again. */
static void many_placed_before(void)
{
	static const char *const ids[] = { GONE, NOWHERE, LOST };
	Tandem__Order__V1__BatchPlaceOrdersRequest request =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__PlaceOrderRequest items[20], *list[20];
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT, *lines = &line;

	line.sku = (char *)(uintptr_t) "tea";
	line.quantity = 1;
	request.requests = list;
	request.n_requests = RT_LENGTH(items);
	for (size_t i = 0; i < RT_LENGTH(items); i++) {
		list[i] = &items[i];
		tandem__order__v1__place_order_request__init(list[i]);
		items[i].request_id = (char *)(uintptr_t)ids[i % 3];
		items[i].customer_id = (char *)(uintptr_t) "zoe";
		items[i].lines = &lines;
		items[i].n_lines = 1;
	}
	for (size_t most = 0; most < 8; most += 7) {
		const Tandem__Order__V1__BatchPlaceOrdersResponse *response;
		struct caller caller;

		fake.found_max = most;
		fake.asked = fake.placed = 0;
		start(&caller, "BatchPlaceOrders", &request.base);
		CU_ASSERT_EQUAL_FATAL(caller.code, 0);
		response = (const void *)caller.response;
		CU_ASSERT_EQUAL_FATAL(response->n_orders, RT_LENGTH(items));
		for (size_t i = 0; i < RT_LENGTH(items); i++)
			CU_ASSERT_STRING_EQUAL(response->orders[i]->order->order_id, ids[i % 3]);
		CU_ASSERT_EQUAL(fake.asked, most == 0 ? 1 : 3);
		CU_ASSERT_EQUAL(fake.placed, 13);
		caller_free(&caller);
	}
}

/* The caller goes, or its time is over, while the archive is asked; what that answers later concerns nobody. */
static void left_while_asked(void)
{
	struct caller caller;

	fake.hold = true;
	place(&caller, GONE, 1, 7000);
	CU_ASSERT_EQUAL(caller.done, 0);
	rt_client_cancel(&caller.op);
	rt_loop_run_due(world.loop);
	rt_loop_advance(world.loop, 200);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(world.gateway->placing_count, 0);
	rt_call_on_cancel(fake.held, NULL, NULL);
	rt_call_failf(fake.held, RT_CODE_NOT_FOUND, "late");
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(fake.placed, 0);
	place(&caller, GONE, 1, 0);
	rt_loop_advance(world.loop, 29999);
	CU_ASSERT_EQUAL(caller.done, 0);
	rt_loop_advance(world.loop, 1);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_DEADLINE_EXCEEDED);
}

static void stopped_while_asked(void)
{
	struct caller caller;

	fake.hold = true;
	fake.stop_with = 1;
	place(&caller, GONE, 1, 7000);
	CU_ASSERT_EQUAL(caller.done, 0);
	teardown();
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_UNAVAILABLE);
	begin(true);
}

/* ---- lists ---- */

#define CUSTOMER "list"

/* Pages of the list from the first to the last; false: one failed. Sets how many pages there were. */
static bool list_all(int32_t page_size, int status, char ids[ORDERS_MAX][31], size_t *ret_count,
		     size_t *ret_pages)
{
	Tandem__Order__V1__ListOrdersRequest request = TANDEM__ORDER__V1__LIST_ORDERS_REQUEST__INIT;
	char token[200] = "";

	*ret_count = *ret_pages = 0;
	do {
		const Tandem__Order__V1__ListOrdersResponse *response;
		struct caller caller;

		request.customer_id = (char *)(uintptr_t)CUSTOMER;
		request.page_size = page_size;
		request.page_token = token;
		request.status = (Tandem__Order__V1__OrderStatus)status;
		start(&caller, "ListOrders", &request.base);
		if (caller.code != 0)
			return false;
		response = (const void *)caller.response;
		CU_ASSERT_FATAL(response->n_orders <= check_page_size(page_size));
		CU_ASSERT_FATAL(*ret_count + response->n_orders <= ORDERS_MAX);
		CU_ASSERT_FALSE(response->dropped);
		for (size_t i = 0; i < response->n_orders; i++)
			memcpy(ids[(*ret_count)++], response->orders[i]->order_id, 31);
		snprintf(token, sizeof(token), "%s", response->next_page_token);
		CU_ASSERT_FATAL(++*ret_pages < 4 * ORDERS_MAX);
		caller_free(&caller);
	} while (token[0] != '\0');
	return true;
}

/* The orders that a list must have, in their order. */
static size_t expected(int status, char ids[ORDERS_MAX][31])
{
	static struct known sorted[ORDERS_MAX];
	size_t count = 0;

	memcpy(sorted, orders, sizeof(orders));
	qsort(sorted, order_count, sizeof(*sorted), by_id);
	for (size_t i = 0; i < order_count; i++)
		if (strcmp(sorted[i].customer_id, CUSTOMER) == 0 &&
		    (sorted[i].here || (sorted[i].archived && sorted[i].settled)) &&
		    (status == 0 || sorted[i].status == status))
			memcpy(ids[count++], sorted[i].order_id, 31);
	return count;
}

/* Orders of a customer: some with the order service, some dropped, some with both, many at the same millisecond. */
static void make_orders(size_t count, uint64_t random, int64_t milliseconds)
{
	order_count = 0;
	for (size_t i = 0; i < count; i++) {
		char order_id[] = "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa";
		uint64_t now = random = random * 6364136223846793005U + 1442695040888963407U;

		now >>= 33;
		order_id[10] = rt_base32_letter((unsigned int)(now % 32));
		order_id[11] = rt_base32_letter((unsigned int)(i / 32));
		order_id[12] = rt_base32_letter((unsigned int)(i % 32));
		add(order_id, CUSTOMER, now % 3 == 0, true, true);
		orders[i].archived = now % 3 != 0 || now % 7 < 4;
		orders[i].settled = now % 3 != 0 || now % 2 == 0;
		orders[i].status = now % 5 == 0 ? REJECTED : CONFIRMED;
		orders[i].ms = BASE_MS + (int64_t)(now / 64 % (uint64_t)milliseconds);
	}
}

/* However many there are at a time, however large pages are and however little a search finds: each is listed once, in its
 * place. */
static void merged(void)
{
	static const int32_t sizes[] = { 1, 3, 10, 1000 };
	static char wanted[ORDERS_MAX][31], got[ORDERS_MAX][31];

	fake.drops = true;
	for (uint64_t seed = 0; seed < 60; seed++) {
		static const int64_t spreads[] = { 1, 4, 50, 5000 };
		int status = seed % 3 == 0 ? REJECTED : 0;
		size_t count, wanted_count, pages;

		make_orders(1 + seed * 3, seed, spreads[seed % 4]);
		fake.look_max = seed % 5 == 0 ? 2 : 0;
		wanted_count = expected(status, wanted);
		CU_ASSERT_FATAL(list_all(sizes[seed / 4 % 4], status, got, &count, &pages));
		CU_ASSERT_EQUAL_FATAL(count, wanted_count);
		CU_ASSERT_EQUAL_FATAL(memcmp(got, wanted, count * 31), 0);
	}
}

/* A page costs one search, however many orders are dropped. */
static void costs_a_search(void)
{
	static char got[ORDERS_MAX][31];
	size_t count, pages;

	fake.drops = true;
	make_orders(300, 7, 1000000);
	CU_ASSERT_FATAL(list_all(10, 0, got, &count, &pages));
	CU_ASSERT_EQUAL(fake.searched, pages);
	CU_ASSERT(pages <= count / 10 + 10);
}

static void nothing_dropped(void)
{
	static char got[ORDERS_MAX][31];
	size_t count, pages;

	make_orders(100, 7, 1000);
	fake.archive_fails = RT_CODE_UNAVAILABLE;
	CU_ASSERT(list_all(10, 0, got, &count, &pages));
	CU_ASSERT_EQUAL(fake.searched, 0);
	fake.drops = true;
	CU_ASSERT_FALSE(list_all(10, 0, got, &count, &pages));
	CU_ASSERT_EQUAL(fake.searched, 1);
}

static void list_left(void)
{
	Tandem__Order__V1__ListOrdersRequest request = TANDEM__ORDER__V1__LIST_ORDERS_REQUEST__INIT;
	struct caller caller;

	fake.drops = fake.hold = true;
	make_orders(30, 7, 1000);
	request.customer_id = (char *)(uintptr_t)CUSTOMER;
	start(&caller, "ListOrders", &request.base);
	CU_ASSERT_EQUAL(caller.done, 0);
	rt_client_cancel(&caller.op);
	rt_loop_run_due(world.loop);
	rt_loop_advance(world.loop, 200);
	CU_ASSERT_EQUAL(caller.done, 1);
	CU_ASSERT(fake.cancelled);
}

static const struct test tests[] = {
	{ "who answers for an order", reads },
	{ "the explanation of an archived order", explained },
	{ "a watch of an archived order", watched },
	{ "an archived order cannot be changed", moves },
	{ "the archive hears who asks", on_whose_behalf },
	{ "the archive is away", archive_away },
	{ "there is no archive", no_archive },
	{ "the caller goes", left },
	{ "items of batches", batches },
	{ "a batch while the archive is away", batch_without_archive },
	{ "large batches", large_batches },
	{ "requests that were perhaps made before", placed_before },
	{ "the gateway asks for itself", asks_for_itself },
	{ "perhaps placed before, and the archive is away", placed_while_the_archive_is_away },
	{ "many that were perhaps placed before", many_placed_before },
	{ "the caller goes while the archive is asked", left_while_asked },
	{ "the gateway is stopped while the archive is asked", stopped_while_asked },
	{ "lists of both", merged },
	{ "a page costs a search", costs_a_search },
	{ "nothing was dropped: the archive is not asked", nothing_dropped },
	{ "the caller of a list goes", list_left },
};

TESTS_MAIN_EACH("archived", setup, teardown, tests)
