/* test_order_rpc.c - the order service as its clients and its neighbours see it: RPCs, inventory's
 * events and timers, on a Redis in memory and a manual clock. */
#include "base/base.h"
#include "check.h"
#include "details.h"
#include "google/rpc/status.pb-c.h"
#include "order/order.h"
#include "rpc/rpc.h"
#include "run.h"
#include "sim/stored.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"
#include "tandem/order/v1/placement.pb-c.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <string.h>

#define NOW              INT64_C(1764000000000)
#define NO_ID            "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HOLD_STANDARD_MS (15 * 60000)

#define PENDING   TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING
#define RESERVED  TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED
#define CANCELLED TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CANCELLED

typedef Tandem__Order__V1__Order Order;
typedef Tandem__Order__V1__PlaceOrderRequest PlaceOrder;
typedef Tandem__Order__V1__PlaceOrderResult PlaceResult;
typedef Tandem__Order__V1__BatchPlaceOrdersRequest Batch;
typedef Tandem__Order__V1__BatchPlaceOrdersResponse BatchAnswer;

#define MESSAGES_MAX 400

struct fixture {
	struct rt_loop *loop;
	struct memory_redis *redis;
	struct memory_host host;
	struct rt_context *context;
	struct order *order;
	struct rt_metrics *metrics;
	ProtobufCService *client, *placement;
	const char *fail; /* operations of this name fail … */
	int status;       /* … with this */
	bool after;       /* … after their effect */
	int io;           /* operations named `fail` that were seen */
	const char *slow; /* operations of this name … */
	bool slow_after;  /* … take longer after their effect, or before it, … */
	int64_t slow_ms;  /* … by this */
	int stopped;
	struct call *calls; /* every call that was begun */
	struct gateway_stream *streams;
	int partitions; /* 0: 1 */
};
/* The instance that the helpers below use. */
static struct fixture first, *f = &first;

/* A call and everything that it received. */
struct call {
	struct rt_client_op op;
	struct call *next;
	int ends;
	struct rt_status status;
	ProtobufCMessage *answer;                 /* of a unary call */
	ProtobufCMessage *messages[MESSAGES_MAX]; /* of a stream */
	size_t count;
};

/* A gateway's stream, and the results of its items. */
struct gateway_stream {
	struct rt_client_op op;
	struct gateway_stream *next;
	struct fixture *f;
	int ends, code;
	size_t messages, largest; /* that came; bytes */
	size_t answers;
	size_t loads; /* how often there is to do how much was told, and what last */
	uint64_t events, oldest_ms, store_ms, wait_ms, held, taken, stored;
	uint32_t memory_permille;
	struct {
		int times, code, status;
		struct details details; /* of an error */
		char order_id[ORDER_ID_LENGTH + 1];
	} of[6000]; /* by number */
};

/* ---- the fixture ---- */

static int fault(void *user, const struct memory_io *io, int64_t *delay_ms)
{
	struct fixture *of = user;

	if (of->slow != NULL && strcmp(of->slow, io->what) == 0 && io->after == of->slow_after)
		*delay_ms = of->slow_ms;
	if (of->fail == NULL || strcmp(of->fail, io->what) != 0 || io->after != of->after)
		return RT_OK;
	of->io++;
	return of->status;
}

static void fail(const char *what, int status)
{
	f->fail = what;
	f->status = status;
}

/* The store does it, but its answer comes late. */
static void answer_late(const char *what, int64_t ms)
{
	f->slow = what;
	f->slow_after = true;
	f->slow_ms = ms;
}

static void begin_order(void)
{
	const struct order_options order = {
		.clock = { .decision_ms = 60000, .retry_min_ms = 2000, .retry_max_ms = 20000 },
		.timers_every_ms = 250,
	};
	const struct rt_context_options options = { .events = { RT_EVENTS_DEFAULTS },
						    .trim_every_ms = 5000,
						    .retain_ms = 3600000,
						    .retain_count = 100000,
						    .stale_ms = 600000,
						    .partition_count = f->partitions,
						    .domain_options = &order,
						    .metrics = f->metrics = rt_metrics_new() };

	memory_host_init(&f->host, f->redis, "order", fault, f);
	f->context = stored_context(&f->host, &order_domain, options, "c1");
	f->order = f->context->data;
	rt_loop_run_due(f->loop); /* it is connected */
	f->client = rt_client_local(f->loop, order_rpc(f->order), NULL, NULL);
	f->placement = rt_client_local(f->loop, order_placement_rpc(f->order), NULL, NULL);
	rt_context_start(f->context);
	rt_loop_run_due(f->loop);
}

static void setup(void)
{
	first = (struct fixture){ .loop = NULL };
	CU_ASSERT_FATAL(rt_loop_new_manual(NOW, 7, &f->loop) == RT_OK);
	f->redis = memory_redis_new(f->loop);
	stored_load(f->redis);
	begin_order();
	CU_ASSERT_TRUE(rt_context_ready(f->context));
}

static void begin_stop(void)
{
	rt_context_stop(f->context, tests_count, &f->stopped);
	rt_loop_run_due(f->loop);
}

static void stop(void)
{
	begin_stop();
	rt_loop_advance(f->loop, 10000);
}

/* Each call has ended once. */
static void free_calls(void)
{
	while (f->calls != NULL) {
		struct call *call = f->calls;

		f->calls = call->next;
		CU_ASSERT_EQUAL(call->ends, 1);
		rt_status_done(&call->status);
		if (call->answer != NULL)
			protobuf_c_message_free_unpacked(call->answer, NULL);
		for (size_t i = 0; i < call->count; i++)
			protobuf_c_message_free_unpacked(call->messages[i], NULL);
		free(call);
	}
}

static void free_streams(void)
{
	while (f->streams != NULL) {
		struct gateway_stream *stream = f->streams;

		f->streams = stream->next;
		CU_ASSERT_EQUAL(stream->ends, 1);
		free(stream);
	}
}

static void end_order(void)
{
	if (f->stopped == 0)
		stop();
	CU_ASSERT_EQUAL_FATAL(f->stopped, 1);
	rt_client_free(f->client);
	rt_client_free(f->placement);
	rt_loop_run_due(f->loop);
	rt_context_free(f->context);
	rt_metrics_free(f->metrics);
	free_calls();
	free_streams();
}

static void teardown(void)
{
	end_order();
	memory_redis_free(f->redis);
	rt_loop_free(f->loop);
}

/* ---- calls ---- */

static ProtobufCMessage *copy_of(const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = rt_alloc(length + 1);
	ProtobufCMessage *copy;

	protobuf_c_message_pack(message, bytes);
	copy = protobuf_c_message_unpack(message->descriptor, NULL, length, bytes);
	CU_ASSERT_FATAL(copy != NULL);
	free(bytes);
	return copy;
}

static void on_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	call->ends++;
	rt_status_copy(&call->status, &op->status);
	if (response != NULL)
		call->answer = copy_of(response);
}

static void on_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	CU_ASSERT_FATAL(call->count < MESSAGES_MAX);
	call->messages[call->count++] = copy_of(message);
}

/* Who makes the calls; NULL: nobody is asked. */
static const struct rt_identity *caller;
static const struct rt_identity anna = { .role = RT_ROLE_CUSTOMER,
					 .way = RT_AUTH_KEY,
					 .name = "Zoë",
					 .owner = "ann",
					 .by = "key 9f86d081" };
static const struct rt_identity olga = {
	.role = RT_ROLE_OPERATOR, .way = RT_AUTH_CERTIFICATE, .name = "CN:ops", .by = "certificate"
};
static const struct rt_identity edge = { .role = RT_ROLE_GATEWAY,
					 .way = RT_AUTH_CERTIFICATE,
					 .name = "CN:gateway" };
#define ANNA "customer Zoë (key 9f86d081)"
#define OLGA "operator CN:ops (certificate)"

static struct call *begin(const char *method, const ProtobufCMessage *request, int64_t timeout_ms)
{
	struct call *call = rt_alloc(sizeof(*call));
	const ProtobufCServiceDescriptor *service = &tandem__order__v1__order_service__descriptor;
	const ProtobufCMethodDescriptor *found =
		protobuf_c_service_descriptor_get_method_by_name(service, method);

	CU_ASSERT_FATAL(found != NULL);
	*call = (struct call){
		.op = { .timeout_ms = timeout_ms, .caller = caller, .done = on_done },
		.next = f->calls
	};
	f->calls = call;
	if (strcmp(method, "WatchOrder") == 0 || strcmp(method, "StreamOrders") == 0)
		call->op.on_message = on_message;
	rt_client_start(f->client, (unsigned)(found - service->methods), request, &call->op);
	rt_loop_run_due(f->loop);
	return call;
}

/* Ended with this code; prints another one. */
static void expect_code(const struct call *call, int code)
{
	CU_ASSERT_EQUAL(call->ends, 1);
	CU_ASSERT_EQUAL(call->status.code, code);
	if (call->ends == 1 && call->status.code != code)
		printf("\n    %s: %s", rt_code_name(call->status.code), call->status.message);
}

/* A call that has ended with this code. */
static struct call *rpc(const char *method, const ProtobufCMessage *request, int code)
{
	struct call *call = begin(method, request, 1000);

	expect_code(call, code);
	return call;
}

static void half_close(struct rt_client_op *op)
{
	rt_client_half_close(op);
	rt_loop_run_due(f->loop);
}

static void give_up(struct call *call)
{
	rt_client_cancel(&call->op);
	rt_loop_run_due(f->loop);
	expect_code(call, RT_CODE_CANCELLED);
}

/* Every answer with one order in it has it as field 1. */
static const Order *order_of(const struct call *call)
{
	CU_ASSERT_FATAL(call->answer != NULL);
	return ((Tandem__Order__V1__PlaceOrderResponse *)call->answer)->order;
}

/* "3C", "4C!": version, first letter of the status (J: rejected, X: cancelled), settled. */
static const char *brief(const Order *order)
{
	static const char letters[] = "?PRJCXE";
	static char text[4][32];
	static int turn;
	char *kept = text[turn++ % 4];

	snprintf(kept, sizeof(text[0]), "%d%c%s", (int)order->version, letters[order->status],
		 order->settled ? "!" : "");
	return kept;
}

/* Has ended well, with an order that looks so; returns the order. */
static const Order *expect_order(const struct call *call, const char *look)
{
	expect_code(call, 0);
	CU_ASSERT_STRING_EQUAL(brief(order_of(call)), look);
	return order_of(call);
}

/* ---- requests ---- */

struct place {
	PlaceOrder request;
	Tandem__Order__V1__OrderLine line, *lines[1];
};

static const ProtobufCMessage *place_request(struct place *place, const char *customer_id,
					     const char *request_id, uint32_t quantity)
{
	tandem__order__v1__place_order_request__init(&place->request);
	tandem__order__v1__order_line__init(&place->line);
	place->line.sku = (char *)"apple";
	place->line.quantity = quantity;
	place->lines[0] = &place->line;
	place->request.lines = place->lines;
	place->request.n_lines = 1;
	place->request.customer_id = (char *)(uintptr_t)customer_id;
	place->request.request_id = (char *)(uintptr_t)request_id;
	return &place->request.base;
}

static struct call *place_order(const char *customer_id, const char *request_id, uint32_t quantity,
				int code)
{
	struct place request;

	return rpc("PlaceOrder", place_request(&request, customer_id, request_id, quantity), code);
}

static double metric(enum rt_metric_type type, const char *name)
{
	return rt_series_value(rt_metric_plain(f->metrics, type, name, ""));
}

/* Places an order and returns its id, which lives as long as the fixture. */
static const char *place(void)
{
	return order_of(place_order("ann", "", 3, 0))->order_id;
}

/* Begins a PlaceOrder that waits for the decision. */
static struct call *place_and_wait(const char *request_id, int64_t timeout_ms)
{
	struct place request;

	place_request(&request, "ann", request_id, 3);
	request.request.wait_for_decision = true;
	return begin("PlaceOrder", &request.request.base, timeout_ms);
}

static struct call *get(const char *order_id, int code)
{
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	return rpc("GetOrder", &request.base, code);
}

/* Inventory publishes an event about an order. */
static void answer_with(const char *order_id, const char *type, uint64_t seq, const void *data,
			size_t length)
{
	char full[128], stream[64];

	snprintf(full, sizeof(full), "tandem.inventory.v1.%s", type);
	snprintf(stream, sizeof(stream), "inventory:{%d}:events",
		 stored_partition_of(f->redis, order_id));
	stored_publish(f->redis, stream, rt_loop_unix_ms(f->loop),
		       &(struct stored_event){ .type = full,
					       .subject = order_id,
					       .seq = seq,
					       .data = data,
					       .data_length = length });
	rt_loop_run_due(f->loop);
}

static void answer(const char *order_id, const char *type)
{
	answer_with(order_id, type, 1, "", 0);
}

static struct order_record record_of(const char *order_id)
{
	struct order_record record = { .order_id = NULL };

	CU_ASSERT_TRUE_FATAL(stored_order(f->redis, order_id, &record));
	return record;
}

static size_t dead_letters(void)
{
	const struct memory_stream *dead = memory_stream_find(f->redis, "order:{0}:dead");

	return dead == NULL ? 0 : dead->count;
}

static size_t pending_events(void)
{
	struct memory_stream *stream = memory_stream_find(f->redis, STORED_INVENTORY);

	return memory_group_find(stream, "order")->pending_count;
}

/* Part of the n-th last event that was published in a stream (1: the last), valid for a few calls. */
static const char *event_field_of(const char *key, size_t nth_last, const char *name)
{
	static char kept[8][1024], seq[24], attempt[12];
	static int turn;
	const struct memory_stream *stream = memory_stream_find(f->redis, key);
	char *text = kept[turn++ % 8];
	struct rt_entry_event *events = NULL;
	size_t at = stream == NULL ? 0 : stream->count, count = 0;

	while (at-- > 0) {
		count = stored_events(&stream->entries[at], &events);
		if (count >= nth_last)
			break;
		nth_last -= count;
		free(RT_TAKE(events));
	}
	CU_ASSERT_FATAL(events != NULL);
	const struct rt_entry_event *event = &events[count - nth_last];
	snprintf(seq, sizeof(seq), "%" PRIu64, event->seq);
	snprintf(attempt, sizeof(attempt), "%" PRIu32, event->attempt);
	const struct {
		const char *name;
		struct rt_slice value;
	} parts[] = {
		{ "type", event->type },
		{ "subject", event->subject },
		{ "data", event->data },
		{ "traceparent", event->traceparent },
		{ "tracestate", event->tracestate },
		{ "actor", event->actor },
		{ "seq", { seq, strlen(seq) } },
		{ "attempt", { attempt, strlen(attempt) } },
	};
	text[0] = '\0';
	for (size_t i = 0; i < RT_LENGTH(parts); i++)
		if (strcmp(parts[i].name, name) == 0)
			snprintf(text, sizeof(kept[0]), "%.*s", (int)parts[i].value.length,
				 parts[i].value.data == NULL ? "" : parts[i].value.data);
	free(events);
	return text;
}

static const char *event_field(size_t nth_last, const char *name)
{
	return event_field_of(STORED_ORDERS, nth_last, name);
}

/* The order of the last event. */
static const char *last_order(void)
{
	return event_field(1, "subject");
}

static size_t published_count(void)
{
	const struct memory_stream *stream = memory_stream_find(f->redis, STORED_ORDERS);
	size_t count = 0;

	for (size_t i = 0; stream != NULL && i < stream->count; i++) {
		struct rt_entry_event *events;

		count += stored_events(&stream->entries[i], &events);
		free(events);
	}
	return count;
}

/* ---- PlaceOrder ---- */

static void test_place(void)
{
	struct call *other;
	const Order *order = expect_order(place_order("ann", "r1", 3, 0), "1P");

	CU_ASSERT_EQUAL(strlen(order->order_id), ORDER_ID_LENGTH);
	CU_ASSERT_STRING_EQUAL(order->customer_id, "ann");
	CU_ASSERT_EQUAL(order->n_lines, 1);
	CU_ASSERT_EQUAL(order->lines[0]->quantity, 3);
	CU_ASSERT_EQUAL(order->create_time->seconds, NOW / 1000);
	CU_ASSERT_EQUAL(published_count(), 1);
	/* The same once more: the same order, nothing new. */
	other = place_order("ann", "r1", 3, 0);
	CU_ASSERT_STRING_EQUAL(order_of(other)->order_id, order->order_id);
	CU_ASSERT_EQUAL(published_count(), 1);
	/* Other content: refused, and the message does not name the first order. */
	other = place_order("ann", "r1", 4, RT_CODE_ALREADY_EXISTS);
	CU_ASSERT_STRING_EQUAL(details_of(&other->status).reason, "REQUEST_ID_REUSED");
	CU_ASSERT_PTR_NULL(strstr(other->status.message, order->order_id));
	/* Another customer's request of the same name is another order. */
	other = place_order("bob", "r1", 3, 0);
	CU_ASSERT_STRING_NOT_EQUAL(order_of(other)->order_id, order->order_id);
	/* Without a request_id every call places one. */
	place();
	place();
	CU_ASSERT_EQUAL(published_count(), 4);
}

static void test_place_refused(void)
{
	struct call *call = place_order("", "", 0, RT_CODE_INVALID_ARGUMENT);

	CU_ASSERT_EQUAL(details_of(&call->status).field_count, 2);
	fail("order_place", RT_LOST);
	call = place_order("ann", "", 3, RT_CODE_UNAVAILABLE);
	CU_ASSERT_TRUE(details_of(&call->status).retry_ms > 0);
	f->status = RT_FULL;
	call = place_order("ann", "", 3, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT_TRUE(details_of(&call->status).retry_ms > 0);
	CU_ASSERT_EQUAL(published_count(), 0);
}

static void test_place_and_wait(void)
{
	const char *order_id;
	struct call *call = place_and_wait("r1", 5000), *again;

	CU_ASSERT_EQUAL(call->ends, 0);
	order_id = last_order();
	/* A repeat waits, too. */
	again = place_and_wait("r1", 5000);
	CU_ASSERT_EQUAL(again->ends, 0);
	rt_loop_advance(f->loop, 40);
	answer(order_id, "InventoryReserved");
	expect_order(call, "2R");
	CU_ASSERT_STRING_EQUAL(order_of(call)->order_id, order_id);
	CU_ASSERT_EQUAL(order_of(call)->hold_expire_time->seconds,
			(NOW + 40 + HOLD_STANDARD_MS) / 1000);
	expect_order(again, "2R");
	/* Already decided: no waiting. */
	again = place_and_wait("r1", 5000);
	expect_order(again, "2R");
}

/* No decision comes: the answer still arrives in time. */
static void test_place_without_decision(void)
{
	struct call *call = place_and_wait("", 2000);

	rt_loop_advance(f->loop, 1925);
	CU_ASSERT_EQUAL(call->ends, 0);
	rt_loop_advance(f->loop, 15);
	expect_order(call, "1P");
	call = place_and_wait("", 100);
	rt_loop_advance(f->loop, 95);
	expect_code(call, 0);
	/* The client goes: nothing is left behind, and the order stays. */
	call = place_and_wait("", 60000);
	give_up(call);
	CU_ASSERT_EQUAL(stored_timers(f->redis, 0)->count, 3);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_order_waiters"), 0);
}

/* A repeat whose answer is on its way learns the decision from a read that was sent before it. */
static void test_decided_before_stored(void)
{
	const char *order_id;
	struct call *call = place_and_wait("r1", 5000), *again;

	order_id = last_order();
	answer_late("hmget", 100);
	answer(order_id, "InventoryReserved");
	answer_late("order_place", 500);
	again = place_and_wait("r1", 5000);
	rt_loop_advance(f->loop, 200);
	expect_code(call, 0);
	CU_ASSERT_EQUAL(again->ends, 0);
	rt_loop_advance(f->loop, 400);
	expect_order(again, "2R");
}

/* ---- BatchPlaceOrders, StreamOrders ---- */

static void test_batch(void)
{
	struct place items[4];
	PlaceOrder *list[4];
	Batch request = TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_REQUEST__INIT;
	BatchAnswer *response;

	place_request(&items[0], "ann", "r1", 1);
	place_request(&items[1], "ann", "r2", 0);
	place_request(&items[2], "ann", "r1", 1);
	place_request(&items[3], "ann", "r1", 2);
	for (size_t i = 0; i < 4; i++)
		list[i] = &items[i].request;
	request.requests = list;
	rpc("BatchPlaceOrders", &request.base, RT_CODE_INVALID_ARGUMENT);
	request.n_requests = 4;
	response = (void *)rpc("BatchPlaceOrders", &request.base, 0)->answer;
	CU_ASSERT_EQUAL_FATAL(response->n_orders, 4);
	CU_ASSERT_EQUAL(response->orders[0]->result_case,
			TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER);
	CU_ASSERT_EQUAL(response->orders[1]->result_case,
			TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ERROR);
	CU_ASSERT_EQUAL(response->orders[1]->error->code, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(response->orders[1]->error->n_details, 2);
	CU_ASSERT_STRING_EQUAL(response->orders[2]->order->order_id,
			       response->orders[0]->order->order_id);
	CU_ASSERT_EQUAL(response->orders[3]->error->code, RT_CODE_ALREADY_EXISTS);
	/* All of them refused. */
	list[0] = list[2] = list[3] = &items[1].request;
	response = (void *)rpc("BatchPlaceOrders", &request.base, 0)->answer;
	CU_ASSERT_EQUAL(response->orders[3]->error->code, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(published_count(), 1);
}

static void test_batch_waits(void)
{
	struct place items[2];
	PlaceOrder *list[] = { &items[0].request, &items[1].request };
	Batch request = TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_REQUEST__INIT;
	BatchAnswer *response;
	struct call *call;
	const char *decided;

	place_request(&items[0], "ann", "r1", 1);
	place_request(&items[1], "ann", "r2", 1);
	items[0].request.wait_for_decision = items[1].request.wait_for_decision = true;
	request.requests = list;
	request.n_requests = 2;
	call = begin("BatchPlaceOrders", &request.base, 30000);
	decided = event_field(2, "subject");
	answer(decided, "InventoryReserved");
	CU_ASSERT_EQUAL(call->ends, 0);
	/* The other is not decided within the second that a batch waits. */
	rt_loop_advance(f->loop, 999);
	CU_ASSERT_EQUAL(call->ends, 0);
	rt_loop_advance(f->loop, 1);
	expect_code(call, 0);
	response = (void *)call->answer;
	CU_ASSERT_EQUAL(response->orders[0]->order->status, RESERVED);
	CU_ASSERT_EQUAL(response->orders[1]->order->status, PENDING);
	/* Both decided: at once. */
	answer(event_field(2, "subject"), "InventoryReserved");
	call = begin("BatchPlaceOrders", &request.base, 30000);
	expect_code(call, 0);
	/* The client goes meanwhile. */
	items[0].request.request_id = (char *)"r3";
	call = begin("BatchPlaceOrders", &request.base, 30000);
	CU_ASSERT_EQUAL(call->ends, 0);
	give_up(call);
}

static void stream_send(struct call *call, uint64_t sequence, PlaceOrder *request)
{
	Tandem__Order__V1__StreamOrdersRequest message =
		TANDEM__ORDER__V1__STREAM_ORDERS_REQUEST__INIT;

	message.sequence = sequence;
	message.request = request;
	rt_client_send(&call->op, &message.base);
}

static void test_stream(void)
{
	struct place request;
	int seen[303] = { 0 };
	int good = 0, missing = 0, broken = 0;
	struct call *call = begin("StreamOrders", NULL, 60000);

	for (uint64_t i = 0; i < 300; i++) {
		place_request(&request, "ann", "", (uint32_t)i + 1);
		stream_send(call, i, &request.request);
	}
	stream_send(call, 300, NULL);
	place_request(&request, "", "", 1);
	stream_send(call, 301, &request.request);
	place_request(&request, "ann", "r1", 7);
	request.request.wait_for_decision = true;
	stream_send(call, 302, &request.request);
	rt_loop_run_due(f->loop);
	CU_ASSERT_EQUAL(call->ends, 0);
	CU_ASSERT_EQUAL(call->count, 302); /* one waits for its decision */
	half_close(&call->op);
	CU_ASSERT_EQUAL(call->ends, 0);
	answer(last_order(), "InventoryReserved");
	expect_code(call, 0);
	CU_ASSERT_EQUAL_FATAL(call->count, 303);
	for (size_t i = 0; i < call->count; i++) {
		Tandem__Order__V1__StreamOrdersResponse *response = (void *)call->messages[i];
		const PlaceResult *result = response->order;

		CU_ASSERT_FATAL(response->sequence < 303);
		seen[response->sequence]++;
		if (response->sequence == 300)
			missing = result->error->code;
		else if (response->sequence == 301)
			broken = result->error->code;
		else if (response->sequence == 302)
			CU_ASSERT_EQUAL(result->order->status, RESERVED)
		else
			good += result->order->lines[0]->quantity == response->sequence + 1;
	}
	for (size_t i = 0; i < RT_LENGTH(seen); i++)
		CU_ASSERT_EQUAL(seen[i], 1);
	CU_ASSERT_EQUAL(good, 300);
	CU_ASSERT_EQUAL(missing, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(broken, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(published_count(), 302); /* 301 placed, one reserved */
}

/* No more than 256 are under way, however fast the client sends. */
static void test_stream_is_bounded(void)
{
	struct place request;
	struct call *call;

	answer_late("order_place", 100);
	call = begin("StreamOrders", NULL, 60000);
	place_request(&request, "ann", "", 1);
	for (uint64_t i = 0; i < 300; i++)
		stream_send(call, i, &request.request);
	rt_loop_run_due(f->loop);
	/* Batches of 1, 128 and 64 were sent; the other 63 are too few for one more. */
	CU_ASSERT_EQUAL(published_count(), 256 - 63);
	/* The client goes: operations under way end, nothing more is read. */
	give_up(call);
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT(published_count() <= 300);
	/* An empty stream ends well. */
	call = begin("StreamOrders", NULL, 60000);
	half_close(&call->op);
	expect_code(call, 0);
}

/* ---- PlacementService ---- */

static void placement_came(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct gateway_stream *stream = RT_CONTAINER_OF(op, struct gateway_stream, op);
	const Tandem__Order__V1__PlaceResponse *response = (const void *)message;

	if (response->load != NULL) {
		CU_ASSERT_EQUAL(response->n_answers, 0);
		stream->loads++;
		stream->events = response->load->events;
		stream->oldest_ms = response->load->oldest_ms;
		stream->store_ms = response->load->store_ms;
		stream->held = response->load->held;
		stream->taken = response->load->taken_per_second;
		stream->stored = response->load->stored_per_second;
		stream->wait_ms = response->load->wait_ms;
		stream->memory_permille = response->load->memory_permille;
		return;
	}
	stream->messages++;
	stream->largest = RT_MAX(stream->largest, protobuf_c_message_get_packed_size(message));
	for (size_t i = 0; i < response->n_answers; i++) {
		const Tandem__Order__V1__PlacementAnswer *answer = response->answers[i];
		uint64_t number = answer->number;
		struct rt_status status = { .code = 0 };

		CU_ASSERT_FATAL(number < RT_LENGTH(stream->of));
		stream->answers++;
		stream->of[number].times++;
		if (answer->result_case == TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ORDER) {
			Tandem__Order__V1__Order *order = tandem__order__v1__order__unpack(
				NULL, answer->order.len, answer->order.data);

			CU_ASSERT_PTR_NOT_NULL_FATAL(order);
			stream->of[number].status = (int)order->status;
			snprintf(stream->of[number].order_id, ORDER_ID_LENGTH + 1, "%s",
				 order->order_id);
			tandem__order__v1__order__free_unpacked(order, NULL);
			continue;
		}
		rt_status_from_proto(&status, answer->error);
		stream->of[number].code = status.code;
		stream->of[number].details = details_of(&status);
		rt_status_done(&status);
	}
}

static void placement_ended(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct gateway_stream *stream = RT_CONTAINER_OF(op, struct gateway_stream, op);

	(void)response;
	stream->ends++;
	stream->code = op->status.code;
}

static void expect_end(const struct gateway_stream *stream, int code)
{
	CU_ASSERT_EQUAL(stream->ends, 1);
	CU_ASSERT_EQUAL(stream->code, code);
}

static struct gateway_stream *open_placement(void)
{
	struct gateway_stream *stream = rt_alloc(sizeof(*stream));

	stream->f = f;
	stream->next = f->streams;
	f->streams = stream;
	stream->op.on_message = placement_came;
	stream->op.done = placement_ended;
	stream->op.caller = caller;
	rt_client_start(f->placement, 0, NULL, &stream->op);
	return stream;
}

static Tandem__Order__V1__PlacementItem item_of(uint64_t number, struct place *place,
						int64_t timeout_ms)
{
	Tandem__Order__V1__PlacementItem item = TANDEM__ORDER__V1__PLACEMENT_ITEM__INIT;

	item.number = number;
	if (place != NULL) {
		item.request.len =
			tandem__order__v1__place_order_request__get_packed_size(&place->request);
		item.request.data = rt_alloc(item.request.len);
		tandem__order__v1__place_order_request__pack(&place->request, item.request.data);
	}
	item.timeout_ms = timeout_ms;
	return item;
}

/* One message with these items, which it frees. */
static void send_items(struct gateway_stream *stream, Tandem__Order__V1__PlacementItem *items,
		       size_t count)
{
	Tandem__Order__V1__PlaceRequest request = TANDEM__ORDER__V1__PLACE_REQUEST__INIT;
	Tandem__Order__V1__PlacementItem *list[256];

	CU_ASSERT_FATAL(count <= RT_LENGTH(list));
	for (size_t i = 0; i < count; i++)
		list[i] = &items[i];
	request.n_items = count;
	request.items = list;
	rt_client_send(&stream->op, &request.base);
	for (size_t i = 0; i < count; i++)
		free(items[i].request.data);
}

static void send_waiting(struct gateway_stream *stream, uint64_t number, const char *request_id,
			 int64_t timeout_ms)
{
	Tandem__Order__V1__PlacementItem item;
	struct place place;

	place_request(&place, "ann", request_id, 1);
	place.request.wait_for_decision = true;
	item = item_of(number, &place, timeout_ms);
	send_items(stream, &item, 1);
	rt_loop_run_due(stream->f->loop);
}

/* A gateway says who places an item; of others' items it is themselves. */
static void test_items_have_actors(void)
{
	static const struct row {
		const char *name;
		const struct rt_identity *caller;
		const char *said, *recorded;
	} rows[] = {
		{ "a gateway", &edge, ANNA, ANNA },
		{ "a gateway that does not know", &edge, "", "" },
		{ "where nobody is asked", NULL, ANNA, ANNA },
		{ "an operator", &olga, ANNA, OLGA },
	};
	char too_long[RT_ACTOR_TEXT + 1];
	const char *const bad[] = { "x\x1b[31m", "\n", too_long };
	Tandem__Order__V1__PlacementItem item;
	struct place request;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct gateway_stream *stream;

		caller = rows[i].caller;
		stream = open_placement();
		place_request(&request, "ann", "", 1);
		item = item_of(1, &request, 5000);
		item.actor = (char *)(uintptr_t)rows[i].said;
		send_items(stream, &item, 1);
		rt_loop_run_due(f->loop);
		TEST_ROW(stream->of[1].status == PENDING, rows[i].name);
		TEST_ROW(strcmp(event_field(1, "actor"), rows[i].recorded) == 0, rows[i].name);
		half_close(&stream->op);
	}
	memset(too_long, 'x', RT_ACTOR_TEXT);
	too_long[RT_ACTOR_TEXT] = '\0';
	caller = &edge;
	for (size_t i = 0; i < RT_LENGTH(bad); i++) {
		struct gateway_stream *stream = open_placement();

		place_request(&request, "ann", "", 1);
		item = item_of(1, &request, 5000);
		item.actor = (char *)(uintptr_t)bad[i];
		send_items(stream, &item, 1);
		rt_loop_run_due(f->loop);
		TEST_ROW(stream->of[1].code == RT_CODE_INVALID_ARGUMENT, bad[i]);
		half_close(&stream->op);
	}
	caller = NULL;
}

static void cancel_items(struct gateway_stream *stream, uint64_t *numbers, size_t count)
{
	Tandem__Order__V1__PlaceRequest request = TANDEM__ORDER__V1__PLACE_REQUEST__INIT;

	request.n_cancelled_numbers = count;
	request.cancelled_numbers = numbers;
	rt_client_send(&stream->op, &request.base);
	rt_loop_run_due(stream->f->loop);
}

/* A decided order, one that waits, and others that cannot be: in one message. */
static void test_items(void)
{
	struct place plain, waits, known, broken;
	Tandem__Order__V1__PlacementItem items[6];
	struct gateway_stream *stream = open_placement();

	send_waiting(stream, 100, "r1", 5000);
	answer(last_order(), "InventoryReserved");
	CU_ASSERT_EQUAL(stream->of[100].status, RESERVED);
	place_request(&plain, "ann", "r2", 2);
	place_request(&waits, "ann", "r3", 3);
	place_request(&known, "ann", "r1", 1);
	place_request(&broken, "ann", "r4", 0);
	waits.request.wait_for_decision = known.request.wait_for_decision = true;
	items[0] = item_of(0, &waits, 5000);
	items[1] = item_of(1, &known, 5000);
	items[2] = item_of(2, &plain, 5000);
	items[3] = item_of(3, &broken, 5000);
	items[4] = item_of(4, NULL, 5000);
	items[5] = item_of(5, &plain, 0);
	items[2].traceparent = (char *)"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	items[2].tracestate = (char *)"rojo=1";
	items[0].traceparent = (char *)"no traceparent";
	items[0].tracestate = (char *)"rojo=1";
	send_items(stream, items, 6);
	rt_loop_run_due(f->loop);
	CU_ASSERT_STRING_EQUAL(event_field(1, "traceparent"), items[2].traceparent);
	CU_ASSERT_STRING_EQUAL(event_field(1, "tracestate"), "rojo=1");
	CU_ASSERT_STRING_EQUAL(event_field(2, "traceparent"), "");
	CU_ASSERT_STRING_EQUAL(event_field(2, "tracestate"), "");
	/* All but the one that waits, though it came first. */
	CU_ASSERT_EQUAL(stream->answers, 6);
	CU_ASSERT_EQUAL(stream->of[0].times, 0);
	CU_ASSERT_EQUAL(stream->of[1].status, RESERVED);
	CU_ASSERT_STRING_EQUAL(stream->of[1].order_id, stream->of[100].order_id);
	CU_ASSERT_EQUAL(stream->of[2].status, PENDING);
	CU_ASSERT_EQUAL(stream->of[3].code, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(stream->of[4].code, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_EQUAL(stream->of[5].code, RT_CODE_DEADLINE_EXCEEDED);
	answer(event_field(2, "subject"), "InventoryReserved");
	CU_ASSERT_EQUAL(stream->of[0].status, RESERVED);
	/* The gateway ends it. */
	half_close(&stream->op);
	expect_end(stream, 0);
}

static void send_plain(struct gateway_stream *stream, uint64_t number)
{
	Tandem__Order__V1__PlacementItem item;
	struct place place;

	place_request(&place, "ann", "", 1);
	item = item_of(number, &place, 5000);
	send_items(stream, &item, 1);
}

/* While orders come, and until inventory has acknowledged all, gateways are told how much there is to do. */
static void test_load_is_told(void)
{
	struct gateway_stream *stream = open_placement(), *other = open_placement();
	size_t loads;

	memory_do(f->redis, "XGROUP", "CREATE", "order:{0}:events", "inventory", "0", "MKSTREAM",
		  NULL);
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT_EQUAL(stream->loads, 0);
	for (uint64_t i = 0; i < 3; i++) {
		send_plain(stream, i);
		rt_loop_advance(f->loop, 50);
	}
	CU_ASSERT_EQUAL(stream->loads, 1);
	CU_ASSERT_EQUAL(stream->events, 2);
	CU_ASSERT_EQUAL(stream->oldest_ms, 100);
	CU_ASSERT_EQUAL(stream->store_ms, 0);
	CU_ASSERT_EQUAL(stream->memory_permille, 0);
	CU_ASSERT_EQUAL(other->loads, 1);
	/* It goes on while inventory is behind, and tells of it as long as it is. */
	rt_loop_advance(f->loop, 10150);
	CU_ASSERT_EQUAL(stream->events, 3);
	CU_ASSERT(stream->oldest_ms > 10000);
	CU_ASSERT_EQUAL(stream->store_ms, 0);
	CU_ASSERT_EQUAL(stream->wait_ms, 0); /* nothing is delivered: it is away */
	/* Requests that are repeated meanwhile are delivered with the next read. */
	for (int i = 0; i < 5 && stream->events > 0; i++) {
		memory_do(f->redis, "XREADGROUP", "GROUP", "inventory", "c", "STREAMS",
			  "order:{0}:events", ">", NULL);
		rt_loop_advance(f->loop, 400);
	}
	/* Delivered, perhaps to one that was killed: others go on beside it. Its age counts. */
	CU_ASSERT_EQUAL(stream->events, 0);
	CU_ASSERT(stream->oldest_ms > 10000);
	memory_do(f->redis, "XGROUP", "DESTROY", "order:{0}:events", "inventory", NULL);
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT_EQUAL(stream->events, 0);
	/* And then, after a while, no more. */
	rt_loop_advance(f->loop, 3000);
	loads = stream->loads;
	rt_loop_advance(f->loop, 10000);
	CU_ASSERT_EQUAL(stream->loads, loads);
	send_plain(stream, 6);
	rt_loop_advance(f->loop, 150);
	CU_ASSERT_EQUAL(stream->loads, loads + 1);
	half_close(&stream->op);
	half_close(&other->op);
}

static void acknowledge_one(void)
{
	const struct redisReply *reply =
		memory_do(f->redis, "XREADGROUP", "GROUP", "inventory", "c", "COUNT", "1",
			  "STREAMS", "order:{0}:events", ">", NULL);
	char id[48];

	CU_ASSERT_FATAL(reply != NULL && reply->elements == 1);
	snprintf(id, sizeof(id), "%s", reply->element[0]->element[1]->element[0]->element[0]->str);
	memory_do(f->redis, "XACK", "order:{0}:events", "inventory", id, NULL);
}

/* Told is how long what waits takes at the rate of now. */
static void test_load_is_a_time(void)
{
	struct gateway_stream *stream = open_placement();
	uint64_t number = 0;

	memory_do(f->redis, "XGROUP", "CREATE", "order:{0}:events", "inventory", "0", "MKSTREAM",
		  NULL);
	/* A hundred a second come, and half of them are acknowledged. */
	for (int i = 0; i < 180; i++) {
		send_plain(stream, number++);
		rt_loop_advance(f->loop, 10);
		if (i % 2 == 0)
			acknowledge_one();
	}
	CU_ASSERT(stream->events >= 80);
	CU_ASSERT(stream->wait_ms > stream->events * 15 && stream->wait_ms < stream->events * 25);
	CU_ASSERT(stream->taken >= 40 && stream->taken <= 60);
	CU_ASSERT(stream->stored >= 90 && stream->stored <= 110);
	CU_ASSERT_EQUAL(stream->store_ms, 0);
	/* It is the same while Redis takes longer to say it than from one look to the next. */
	answer_late("order_behind", 250);
	for (int i = 0; i < 240; i++) {
		send_plain(stream, number++);
		rt_loop_advance(f->loop, 10);
		if (i % 2 == 0)
			acknowledge_one();
		/* A rate of answers at once and of late ones is none. */
		CU_ASSERT(i < 100 || (stream->wait_ms > stream->events * 15 &&
				      stream->wait_ms < stream->events * 25));
	}
	answer_late(NULL, 0);
	rt_loop_advance(f->loop, 400);
	/* Redis stores nothing: it is away, and nobody knows how long what waits will take. */
	answer_late("order_place", 3000);
	for (int i = 0; i < 1500; i++)
		send_plain(stream, number++);
	rt_loop_advance(f->loop, 2000);
	CU_ASSERT_EQUAL(stream->held, 1500);
	CU_ASSERT_EQUAL(stream->store_ms, 0);
	answer_late(NULL, 0);
	rt_loop_advance(f->loop, 4000);
	CU_ASSERT_EQUAL(stream->held, 0);
	CU_ASSERT_EQUAL(stream->store_ms, 0);
	half_close(&stream->op);
}

static void test_items_out_of_time(void)
{
	uint64_t numbers[] = { 7, 1, 99, 1 };
	struct gateway_stream *stream = open_placement();

	send_waiting(stream, 0, "r0", 2000);
	send_waiting(stream, 1, "r1", 60000);
	send_waiting(stream, 2, "r2", 60000);
	rt_loop_advance(f->loop, 1929);
	CU_ASSERT_EQUAL(stream->answers, 0);
	/* A little before the time is up. */
	rt_loop_advance(f->loop, 1);
	CU_ASSERT_EQUAL(stream->answers, 1);
	CU_ASSERT_EQUAL(stream->of[0].status, PENDING);
	/* A cancelled item is answered; unknown numbers are ignored. */
	cancel_items(stream, numbers, RT_LENGTH(numbers));
	CU_ASSERT_EQUAL(stream->answers, 2);
	CU_ASSERT_EQUAL(stream->of[1].times, 1);
	/* The gateway goes: the last one waits no longer. */
	rt_client_cancel(&stream->op);
	rt_loop_run_due(f->loop);
	CU_ASSERT_EQUAL(stream->ends, 1);
	begin_stop();
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT_EQUAL(f->stopped, 1);
}

/* Far more orders than a second stores wait for their decision: all are stored at once. */
static void test_all_that_wait_are_stored(void)
{
	static struct place places[250];
	Tandem__Order__V1__PlacementItem items[250];
	struct gateway_stream *stream = open_placement();

	for (uint64_t i = 0; i < 5000; i += 250) {
		for (size_t j = 0; j < 250; j++) {
			place_request(&places[j], "ann", "", 1);
			places[j].request.wait_for_decision = true;
			items[j] = item_of(i + j, &places[j], 30000);
		}
		send_items(stream, items, 250);
	}
	rt_loop_run_due(f->loop);
	CU_ASSERT_EQUAL(published_count(), 5000);
	CU_ASSERT_EQUAL(stream->answers, 0);
	rt_loop_advance(f->loop, 30000);
	CU_ASSERT_EQUAL(stream->answers, 5000);
}

/* The largest orders there are: no message comes near the limit. */
static void test_large_items(void)
{
	static char skus[100][CHECK_SKU_MAX + 1];
	Tandem__Order__V1__OrderLine line[100], *lines[100];
	Tandem__Order__V1__PlacementItem items[250];
	struct place place;
	struct gateway_stream *stream = open_placement();

	place_request(&place, "ann", "", 1);
	for (size_t i = 0; i < 100; i++) {
		snprintf(skus[i], sizeof(skus[i]), "sku-%060zu", i);
		tandem__order__v1__order_line__init(&line[i]);
		line[i].sku = skus[i];
		line[i].quantity = CHECK_QUANTITY_MAX;
		lines[i] = &line[i];
	}
	place.request.lines = lines;
	place.request.n_lines = 100;
	for (uint64_t i = 0; i < 1000; i += 125) {
		for (size_t j = 0; j < 125; j++)
			items[j] = item_of(i + j, &place, 30000);
		send_items(stream, items, 125);
	}
	rt_loop_run_due(f->loop);
	CU_ASSERT_EQUAL(stream->answers, 1000);
	CU_ASSERT_EQUAL(stream->of[999].status, PENDING);
	CU_ASSERT(stream->largest < 2 * 1024 * 1024);
	CU_ASSERT(stream->messages < 100);
}

/* The service drains: open streams end, and each item that was stored is answered. */
static void test_drain_of_streams(void)
{
	struct gateway_stream *idle = open_placement(), *busy = open_placement(), *late;

	send_waiting(busy, 0, "r0", 60000);
	send_waiting(busy, 1, "r1", 60000);
	order_domain.drain(f->order);
	rt_loop_run_due(f->loop);
	expect_end(idle, 0);
	CU_ASSERT_EQUAL(busy->ends, 0);
	late = open_placement();
	rt_loop_run_due(f->loop);
	expect_end(late, RT_CODE_UNAVAILABLE);
	/* New items are refused; those that wait for their decision have a little time. */
	send_waiting(busy, 2, "r2", 60000);
	CU_ASSERT_EQUAL(busy->of[2].code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_STRING_EQUAL(busy->of[2].details.reason, "STOPPING");
	answer(event_field(2, "subject"), "InventoryReserved");
	CU_ASSERT_EQUAL(busy->of[0].status, RESERVED);
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT_EQUAL(busy->of[1].status, PENDING);
	expect_end(busy, 0);
	CU_ASSERT_EQUAL(published_count(), 3); /* two placed, one reserved */
}

/* A stop waits for a stream's operations in the store. */
static void test_stop_with_streams(void)
{
	struct gateway_stream *stream = open_placement();

	answer_late("order_place", 100);
	send_waiting(stream, 0, "r0", 60000);
	begin_stop();
	CU_ASSERT_EQUAL(f->stopped, 0);
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT_EQUAL(f->stopped, 1);
	CU_ASSERT_EQUAL(stream->of[0].status, PENDING);
	CU_ASSERT_EQUAL(stream->ends, 1);
}

/* ---- GetOrder, ListOrders ---- */

static void test_get(void)
{
	struct call *call;
	const char *order_id = place();

	CU_ASSERT_STRING_EQUAL(order_of(get(order_id, 0))->order_id, order_id);
	fail("hmget", RT_TIMEOUT);
	get(order_id, RT_CODE_DEADLINE_EXCEEDED);
	f->fail = NULL;
	call = get(NO_ID, RT_CODE_NOT_FOUND);
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).reason, "ORDER_NOT_FOUND");
	get("what is this", RT_CODE_NOT_FOUND);
	get("", RT_CODE_INVALID_ARGUMENT);
}

/* The request's token is valid only for its own list, and only unchanged. */
static void test_token_of_another_list(Tandem__Order__V1__ListOrdersRequest request)
{
	char cut[128], longer[128], changed[128];
	const struct {
		const char *name, *customer, *token;
		Tandem__Order__V1__OrderStatus status;
	} rows[] = {
		{ "another customer", "bob", request.page_token, 0 },
		{ "another filter", "ann", request.page_token, PENDING },
		{ "cut", "ann", cut, 0 },
		{ "longer", "ann", longer, 0 },
		{ "changed", "ann", changed, 0 },
		{ "garbage", "ann", "garbage", 0 },
		{ "an order's id", "ann", NO_ID, 0 },
	};

	snprintf(cut, sizeof(cut), "%.*s", (int)strlen(request.page_token) - 1, request.page_token);
	snprintf(longer, sizeof(longer), "%sa", request.page_token);
	snprintf(changed, sizeof(changed), "%s", request.page_token);
	changed[20] = changed[20] == '1' ? '2' : '1'; /* within the time */
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct call *call;

		request.customer_id = (char *)(uintptr_t)rows[i].customer;
		request.page_token = (char *)(uintptr_t)rows[i].token;
		request.status = rows[i].status;
		call = begin("ListOrders", &request.base, 1000);
		TEST_ROW(call->status.code == RT_CODE_INVALID_ARGUMENT, rows[i].name);
		TEST_ROW(strcmp(details_of(&call->status).fields, "page_token") == 0, rows[i].name);
	}
}

static void test_list(void)
{
	struct call *call;
	char token[128];
	const char *order_ids[5];
	Tandem__Order__V1__ListOrdersRequest request = TANDEM__ORDER__V1__LIST_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__ListOrdersResponse *response;
	size_t seen = 0;

	for (size_t i = 0; i < 5; i++) {
		order_ids[i] = place();
		rt_loop_advance(f->loop, i % 2 == 0 ? 0 : 1);
	}
	answer(order_ids[2], "InventoryReserved");
	request.customer_id = (char *)"ann";
	for (int page = 0; page < 3; page++) {
		/* Each page may have another size. */
		request.page_size = (int[]){ 1, 3, 1000000 }[page];
		request.page_token = token;
		if (page == 0)
			token[0] = '\0';
		call = rpc("ListOrders", &request.base, 0);
		response = (void *)call->answer;
		CU_ASSERT_EQUAL(response->n_orders, page == 1 ? 3 : 1);
		for (size_t i = 0; i < response->n_orders; i++)
			for (size_t j = 0; j < 5; j++)
				if (strcmp(response->orders[i]->order_id, order_ids[j]) == 0)
					seen |= (size_t)1 << j;
		CU_ASSERT_EQUAL(response->next_page_token[0] == '\0', page == 2);
		snprintf(token, sizeof(token), "%s", response->next_page_token);
		if (page < 2) {
			request.page_token = token;
			test_token_of_another_list(request);
		}
	}
	CU_ASSERT_EQUAL(seen, 31);
	request.page_token = (char *)"";
	request.page_size = 0;
	request.status = RESERVED;
	call = begin("ListOrders", &request.base, 1000);
	response = (void *)call->answer;
	CU_ASSERT_EQUAL_FATAL(response->n_orders, 1);
	CU_ASSERT_STRING_EQUAL(response->orders[0]->order_id, order_ids[2]);
	request.customer_id = (char *)"nobody";
	call = rpc("ListOrders", &request.base, 0);
	CU_ASSERT_EQUAL(((Tandem__Order__V1__ListOrdersResponse *)call->answer)->n_orders, 0);
	fail("order_list", RT_LOST);
	rpc("ListOrders", &request.base, RT_CODE_UNAVAILABLE);
}

/* ---- ConfirmOrder, CancelOrder ---- */

static struct call *confirm(const char *order_id, uint64_t expected, int code)
{
	Tandem__Order__V1__ConfirmOrderRequest request =
		TANDEM__ORDER__V1__CONFIRM_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	request.expected_version = expected;
	return rpc("ConfirmOrder", &request.base, code);
}

static struct call *cancel(const char *order_id, const char *reason, int code)
{
	Tandem__Order__V1__CancelOrderRequest request =
		TANDEM__ORDER__V1__CANCEL_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	request.reason = (char *)(uintptr_t)reason;
	return rpc("CancelOrder", &request.base, code);
}

static void test_confirm(void)
{
	const char *order_id = place();
	struct call *call = confirm(order_id, 0, RT_CODE_FAILED_PRECONDITION);

	CU_ASSERT_PTR_NOT_NULL(strstr(call->status.message, "PENDING"));
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).subject, order_id);
	answer(order_id, "InventoryReserved");
	call = confirm(order_id, 1, RT_CODE_ABORTED);
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).reason, "VERSION_MISMATCH");
	for (int i = 0; i < 2; i++) /* twice is once */
		expect_order(confirm(order_id, i == 0 ? 2 : 0, 0), "3C");
	answer(order_id, "InventoryCommitted");
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_CONFIRMED);
	cancel(order_id, "", RT_CODE_FAILED_PRECONDITION);
	confirm(NO_ID, 0, RT_CODE_NOT_FOUND);
	fail("order_move", RT_LOST);
	confirm(order_id, 0, RT_CODE_UNAVAILABLE);
}

static void test_cancel(void)
{
	const char *order_id = place();
	const Order *order = expect_order(cancel(order_id, "changed my mind", 0), "2X");

	CU_ASSERT_STRING_EQUAL(order->status_reason, "changed my mind");
	/* The answer to the placing comes late; the release covers it. */
	answer(order_id, "InventoryReserved");
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_CANCELLING);
	answer(order_id, "InventoryReleased");
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_CANCELLED);
	/* Later still: released again, with the client's reason. */
	answer(order_id, "InventoryReserved");
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_CANCELLING);
	CU_ASSERT_STRING_EQUAL(event_field(1, "type"), "tandem.order.v1.OrderCancelled");
	answer(order_id, "InventoryReleased");
	order = expect_order(cancel(order_id, "again", 0), "5X!");
	CU_ASSERT_STRING_EQUAL(order->status_reason, "changed my mind");
	cancel(NO_ID, "", RT_CODE_NOT_FOUND);
	CU_ASSERT_EQUAL(pending_events(), 0);
}

/* ---- ExtendHold ---- */

static struct call *extend(const char *order_id, int64_t until_ms, uint64_t expected, int code)
{
	Tandem__Order__V1__ExtendHoldRequest request = TANDEM__ORDER__V1__EXTEND_HOLD_REQUEST__INIT;
	Google__Protobuf__Timestamp until = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	until.seconds = until_ms / 1000;
	until.nanos = (int32_t)(until_ms % 1000) * 1000000 + 999999; /* below a ms: cut off */
	request.order_id = (char *)(uintptr_t)order_id;
	request.hold_expire_time = &until;
	request.expected_version = expected;
	return rpc("ExtendHold", &request.base, code);
}

static int64_t held_until(const Order *order)
{
	return order->hold_expire_time == NULL ? 0
					       : order->hold_expire_time->seconds * 1000 +
							 order->hold_expire_time->nanos / 1000000;
}

static void test_extend(void)
{
	const char *order_id = place();
	int64_t first_ms, until_ms;
	struct call *call = extend(order_id, rt_loop_unix_ms(f->loop) + RT_DAY_MS, 0,
				   RT_CODE_FAILED_PRECONDITION);

	CU_ASSERT_PTR_NOT_NULL(strstr(call->status.message, "PENDING"));
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).subject, order_id);
	answer(order_id, "InventoryReserved");
	first_ms = held_until(expect_order(get(order_id, 0), "2R"));
	until_ms = first_ms + 3600000;
	call = extend(order_id, until_ms, 1, RT_CODE_ABORTED);
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).reason, "VERSION_MISMATCH");
	for (int i = 0; i < 2; i++) /* twice is once */
		CU_ASSERT_EQUAL(held_until(expect_order(extend(order_id, until_ms, 0, 0), "3R")),
				until_ms);
	CU_ASSERT_STRING_EQUAL(event_field(1, "type"), "tandem.order.v1.OrderHoldExtended");
	/* Sooner: nothing changes. */
	CU_ASSERT_EQUAL(held_until(expect_order(extend(order_id, first_ms, 3, 0), "3R")), until_ms);
	call = extend(order_id, first_ms + 30 * RT_DAY_MS, 0, RT_CODE_FAILED_PRECONDITION);
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).reason, "HOLD_LIMIT");
	/* The first end passes; the second ends it. */
	rt_loop_advance(f->loop, first_ms + 1000 - rt_loop_unix_ms(f->loop));
	expect_order(get(order_id, 0), "3R");
	rt_loop_advance(f->loop, until_ms + 1000 - rt_loop_unix_ms(f->loop));
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_EXPIRING);
	extend(order_id, until_ms + 1, 0, RT_CODE_FAILED_PRECONDITION);
	extend(NO_ID, until_ms, 0, RT_CODE_NOT_FOUND);
	fail("order_move", RT_LOST);
	extend(order_id, until_ms, 0, RT_CODE_UNAVAILABLE);
}

/* ---- ReturnOrder ---- */

/* `apples`: 0: all that is left. */
static struct call *give_back(const char *order_id, const char *return_id, uint32_t apples,
			      int code)
{
	Tandem__Order__V1__ReturnOrderRequest request =
		TANDEM__ORDER__V1__RETURN_ORDER_REQUEST__INIT;
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT,
				     *lines[] = { &line };

	line.sku = (char *)"apple";
	line.quantity = apples;
	request.order_id = (char *)(uintptr_t)order_id;
	request.return_id = (char *)(uintptr_t)return_id;
	request.reason = (char *)"broken";
	if (apples > 0) {
		request.lines = lines;
		request.n_lines = 1;
	}
	return rpc("ReturnOrder", &request.base, code);
}

/* Inventory answers the request of this version of the order. */
static void answer_returned(const char *order_id, uint64_t order_version)
{
	Tandem__Inventory__V1__InventoryReturned event =
		TANDEM__INVENTORY__V1__INVENTORY_RETURNED__INIT;
	uint8_t data[16];

	event.order_version = order_version;
	answer_with(order_id, "InventoryReturned", order_version - 2, data,
		    protobuf_c_message_pack(&event.base, data));
}

static void test_return(void)
{
	const char *order_id = place(); /* three apples */
	const Order *order;
	struct call *call;

	give_back(order_id, "r1", 1, RT_CODE_FAILED_PRECONDITION);
	answer(order_id, "InventoryReserved");
	call = give_back(order_id, "r1", 1, RT_CODE_FAILED_PRECONDITION);
	CU_ASSERT_PTR_NOT_NULL(strstr(call->status.message, "is RESERVED: only a CONFIRMED order"));
	confirm(order_id, 0, 0);
	/* The sale may be on its way still. */
	call = give_back(order_id, "r1", 1, RT_CODE_UNAVAILABLE);
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).reason, "NOT_SETTLED");
	answer(order_id, "InventoryCommitted");
	for (int i = 0; i < 2; i++) { /* twice is once */
		order = expect_order(give_back(order_id, "r1", 1, 0), "5C");
		CU_ASSERT_EQUAL_FATAL(order->n_returns, 1);
		CU_ASSERT_STRING_EQUAL(order->returns[0]->return_id, "r1");
		CU_ASSERT_STRING_EQUAL(order->returns[0]->reason, "broken");
		CU_ASSERT_EQUAL(order->returns[0]->lines[0]->quantity, 1);
	}
	CU_ASSERT_STRING_EQUAL(event_field(1, "type"), "tandem.order.v1.OrderReturned");
	call = give_back(order_id, "r1", 2, RT_CODE_ALREADY_EXISTS);
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).reason, "RETURN_ID_USED");
	call = give_back(order_id, "r2", 3, RT_CODE_FAILED_PRECONDITION);
	CU_ASSERT_STRING_EQUAL(details_of(&call->status).reason, "RETURN_LIMIT");
	CU_ASSERT_PTR_NOT_NULL(
		strstr(call->status.message, "3 of apple were bought, and 1 came back"));
	/* More comes back while the first is not settled: its answer does not settle the second. */
	expect_order(give_back(order_id, "r2", 1, 0), "6C");
	answer_returned(order_id, 5);
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_RETURNING);
	/* No answer: asked again, in the same words. */
	rt_loop_advance(f->loop, 3000);
	CU_ASSERT_STRING_EQUAL(event_field(1, "attempt"), "2");
	CU_ASSERT_STRING_EQUAL(event_field(1, "data"), event_field(2, "data"));
	answer_returned(order_id, 6);
	order = expect_order(get(order_id, 0), "7C!");
	CU_ASSERT_EQUAL(order->n_returns, 2);
	answer_returned(order_id, 6); /* delivered twice */
	expect_order(get(order_id, 0), "7C!");
	/* The rest. */
	order = expect_order(give_back(order_id, "r3", 0, 0), "8C");
	CU_ASSERT_EQUAL(order->returns[2]->lines[0]->quantity, 1);
	answer_returned(order_id, 8);
	give_back(order_id, "r4", 0, RT_CODE_FAILED_PRECONDITION);
	give_back(NO_ID, "r1", 1, RT_CODE_NOT_FOUND);
	cancel(order_id, "", RT_CODE_FAILED_PRECONDITION);
	expect_order(confirm(order_id, 0, 0), "9C!");
	CU_ASSERT_EQUAL(pending_events(), 0);
	CU_ASSERT_EQUAL(dead_letters(), 0);
	fail("order_move", RT_LOST);
	give_back(order_id, "r3", 0, RT_CODE_UNAVAILABLE); /* what was only read may be lost yet */
	fail("hmget", RT_LOST);
	give_back(order_id, "r3", 0, RT_CODE_UNAVAILABLE);
}

/* ---- BatchConfirmOrders, BatchCancelOrders ---- */

static struct call *confirm_all(const char *const *order_ids, size_t count, int code)
{
	Tandem__Order__V1__BatchConfirmOrdersRequest batch =
		TANDEM__ORDER__V1__BATCH_CONFIRM_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__ConfirmOrderRequest requests[8], *list[8];

	for (size_t i = 0; i < count; i++) {
		tandem__order__v1__confirm_order_request__init(&requests[i]);
		requests[i].order_id = (char *)(uintptr_t)order_ids[i];
		list[i] = &requests[i];
	}
	batch.requests = list;
	batch.n_requests = count;
	return rpc("BatchConfirmOrders", &batch.base, code);
}

static struct call *cancel_all(const char *const *order_ids, size_t count, int code)
{
	Tandem__Order__V1__BatchCancelOrdersRequest batch =
		TANDEM__ORDER__V1__BATCH_CANCEL_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__CancelOrderRequest requests[8], *list[8];
	char too_long[300];

	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	for (size_t i = 0; i < count; i++) {
		tandem__order__v1__cancel_order_request__init(&requests[i]);
		requests[i].order_id = (char *)(uintptr_t)order_ids[i];
		requests[i].reason = i == 2 ? too_long : (char *)"changed my mind";
		list[i] = &requests[i];
	}
	batch.requests = list;
	batch.n_requests = count;
	return rpc("BatchCancelOrders", &batch.base, code);
}

/* What became of item i of either batch: "3C", or the code of its error. */
static const char *moved(const struct call *call, size_t i)
{
	const Tandem__Order__V1__BatchConfirmOrdersResponse *response = (const void *)call->answer;
	const Tandem__Order__V1__MoveOrderResult *result;

	CU_ASSERT_FATAL(response != NULL && i < response->n_orders);
	result = response->orders[i];
	if (result->result_case != TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ORDER)
		return rt_code_name(result->error->code);
	/* Of any size together they fit into an answer. */
	CU_ASSERT(result->order->n_lines == 0 && result->order->n_labels == 0);
	CU_ASSERT(result->order->customer_id[0] != '\0');
	return brief(result->order);
}

static void test_batch_confirm(void)
{
	const char *ids[5];
	struct call *call;

	for (size_t i = 0; i < 3; i++)
		ids[i] = rt_strdup(place());
	ids[3] = NO_ID;
	ids[4] = ids[0];
	answer(ids[0], "InventoryReserved");
	answer(ids[2], "InventoryReserved");
	call = confirm_all(ids, 5, 0);
	CU_ASSERT_STRING_EQUAL(moved(call, 0), "3C");
	CU_ASSERT_STRING_EQUAL(moved(call, 1), "FAILED_PRECONDITION");
	CU_ASSERT_STRING_EQUAL(moved(call, 2), "3C");
	CU_ASSERT_STRING_EQUAL(moved(call, 3), "NOT_FOUND");
	CU_ASSERT_STRING_EQUAL(moved(call, 4), "3C"); /* twice is once */
	CU_ASSERT_EQUAL(record_of(ids[2]).state, ORDER_CONFIRMING);
	/* Nothing could be reached: no item is at fault. */
	fail("order_move", RT_LOST);
	confirm_all(ids, 3, RT_CODE_UNAVAILABLE);
	/* One of them has an answer of its own: no order can have this id. */
	ids[3] = "nobody knows";
	call = confirm_all(&ids[2], 2, 0);
	CU_ASSERT_STRING_EQUAL(moved(call, 0), "UNAVAILABLE");
	CU_ASSERT_STRING_EQUAL(moved(call, 1), "NOT_FOUND");
	confirm_all(ids, 0, RT_CODE_INVALID_ARGUMENT);
	for (size_t i = 0; i < 3; i++)
		free((void *)(uintptr_t)ids[i]);
}

static void test_batch_cancel(void)
{
	const char *ids[3];
	struct call *call;

	for (size_t i = 0; i < 3; i++)
		ids[i] = rt_strdup(place());
	answer(ids[1], "InventoryReserved");
	call = cancel_all(ids, 3, 0);
	CU_ASSERT_STRING_EQUAL(moved(call, 0), "2X");
	CU_ASSERT_STRING_EQUAL(moved(call, 1), "3X");
	CU_ASSERT_STRING_EQUAL(moved(call, 2), "INVALID_ARGUMENT");
	CU_ASSERT_STRING_EQUAL(expect_order(get(ids[1], 0), "3X")->status_reason,
			       "changed my mind");
	expect_order(get(ids[2], 0), "1P");
	for (size_t i = 0; i < 3; i++)
		free((void *)(uintptr_t)ids[i]);
}

/* ---- WatchOrder ---- */

static struct call *watch(const char *order_id, uint64_t after_version)
{
	Tandem__Order__V1__WatchOrderRequest request = TANDEM__ORDER__V1__WATCH_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	request.after_version = after_version;
	return begin("WatchOrder", &request.base, 0);
}

/* "1P 2R 3C 4C!" */
static const char *seen(const struct call *call)
{
	static char text[1024];
	size_t length = 0;

	text[0] = '\0';
	for (size_t i = 0; i < call->count; i++)
		length += (size_t)snprintf(
			text + length, sizeof(text) - length, "%s%s", i == 0 ? "" : " ",
			brief(((Tandem__Order__V1__WatchOrderResponse *)call->messages[i])->order));
	return text;
}

static void test_watch(void)
{
	const char *order_id = place();
	struct call *call = watch(order_id, 0);
	struct call *late, *resumed, *ahead;

	CU_ASSERT_STRING_EQUAL(seen(call), "1P");
	rt_loop_advance(f->loop, 100);
	answer(order_id, "InventoryReserved");
	CU_ASSERT_STRING_EQUAL(seen(call), "1P 2R");
	late = watch(order_id, 0);
	CU_ASSERT_STRING_EQUAL(seen(late), "2R");
	resumed = watch(order_id, 1);
	CU_ASSERT_STRING_EQUAL(seen(resumed), "2R");
	ahead = watch(order_id, 2);
	CU_ASSERT_STRING_EQUAL(seen(ahead), "");
	confirm(order_id, 0, 0);
	CU_ASSERT_STRING_EQUAL(seen(call), "1P 2R 3C");
	CU_ASSERT_EQUAL(call->ends, 0);
	answer(order_id, "InventoryCommitted");
	CU_ASSERT_STRING_EQUAL(seen(call), "1P 2R 3C 4C!");
	CU_ASSERT_STRING_EQUAL(seen(late), "2R 3C 4C!");
	CU_ASSERT_STRING_EQUAL(seen(resumed), "2R 3C 4C!");
	CU_ASSERT_STRING_EQUAL(seen(ahead), "3C 4C!");
	expect_code(call, 0);
	expect_code(late, 0);
	/* Settled: a watch gets the last state and ends, also when it has seen that version or a later one. */
	call = watch(order_id, 0);
	CU_ASSERT_STRING_EQUAL(seen(call), "4C!");
	call = watch(order_id, 9);
	CU_ASSERT_STRING_EQUAL(seen(call), "");
	expect_code(call, 0);
	call = watch(NO_ID, 0);
	expect_code(call, RT_CODE_NOT_FOUND);
}

/* The instance that decides an order wakes its own waiters: the stream need not be read for it. */
static void test_waiters_without_the_tail(void)
{
	struct call *call, *watched;
	const char *order_id;

	fail("xrevrange", RT_LOST);
	call = place_and_wait("r1", 5000);
	order_id = last_order();
	watched = watch(order_id, 0);
	CU_ASSERT(f->io > 0);
	answer(order_id, "InventoryReserved");
	expect_order(call, "2R");
	CU_ASSERT_STRING_EQUAL(seen(watched), "1P 2R");
	give_up(watched);
}

/* Two changes between two reads: a watch gets both. */
static void test_watch_sees_every_version(void)
{
	const char *order_id = place();
	struct call *call = watch(order_id, 0);

	fail("hmget", RT_LOST);
	answer(order_id, "InventoryReserved");
	cancel(order_id, "", 0);
	answer(order_id, "InventoryReleased");
	CU_ASSERT_STRING_EQUAL(seen(call), "1P");
	f->fail = NULL;
	rt_loop_advance(f->loop, 6000);
	CU_ASSERT_STRING_EQUAL(seen(call), "1P 2R 3X 4X!");
	expect_code(call, 0);
}

/* Another instance's entries are deleted before the tail has read them, while others follow: the changes
 * are found by reading the order again. */
static void test_watch_looks_again(void)
{
	struct call *call;
	const char *order_id = place();
	struct fixture another = first;

	another.calls = NULL;
	f = &another;
	begin_order();
	call = watch(order_id, 0);
	f = &first;
	another.slow = "xread";
	another.slow_ms = 500;
	rt_loop_advance(f->loop, 100); /* the next read of its tail is slow */
	answer(order_id, "InventoryReserved");
	memory_do(f->redis, "XTRIM", STORED_ORDERS, "MAXLEN", "0", NULL);
	place();
	rt_loop_advance(f->loop, 4000);
	CU_ASSERT_STRING_EQUAL(seen(call), "1P");
	rt_loop_advance(f->loop, 2000);
	CU_ASSERT_STRING_EQUAL(seen(call), "1P 2R");
	give_up(call);
	f = &another;
	end_order();
	f = &first;
}

static void test_watch_without_a_store(void)
{
	struct call *call;
	const char *order_id = place();

	memory_host_cut(&f->host, true);
	call = watch(order_id, 0);
	expect_code(call, RT_CODE_UNAVAILABLE);
	CU_ASSERT_TRUE(details_of(&call->status).retry_ms > 0);
	memory_host_back(&f->host);
	/* A watch that is open lasts through an outage, and misses nothing. */
	call = watch(order_id, 0);
	memory_host_cut(&f->host, true);
	rt_loop_advance(f->loop, 3000);
	CU_ASSERT_EQUAL(call->ends, 0);
	memory_host_back(&f->host);
	answer(order_id, "InventoryReserved");
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT_STRING_EQUAL(seen(call), "1P 2R");
	give_up(call);
}

/* ---- ExplainOrder ---- */

static const Tandem__Order__V1__OrderExplanation *explain(const char *order_id, int code)
{
	Tandem__Order__V1__ExplainOrderRequest request =
		TANDEM__ORDER__V1__EXPLAIN_ORDER_REQUEST__INIT;
	const Tandem__Order__V1__ExplainOrderResponse *answer;

	request.order_id = (char *)(uintptr_t)order_id;
	answer = (void *)rpc("ExplainOrder", &request.base, code)->answer;
	return answer == NULL ? NULL : answer->explanation;
}

static void test_explain(void)
{
	const char *order_id = place();
	const Tandem__Order__V1__OrderExplanation *life;

	rt_loop_advance(f->loop, 3000);
	life = explain(order_id, 0);
	CU_ASSERT_STRING_EQUAL(life->order->order_id, order_id);
	CU_ASSERT_EQUAL_FATAL(life->n_events, 2);
	CU_ASSERT_STRING_EQUAL(life->events[0]->kind, "tandem.order.v1.OrderPlaced");
	CU_ASSERT_STRING_EQUAL(life->events[0]->context, "order");
	CU_ASSERT_EQUAL(life->events[0]->version, 1);
	CU_ASSERT_EQUAL(life->events[0]->time->seconds, NOW / 1000);
	CU_ASSERT_STRING_EQUAL(life->events[0]->stream_id, "1764000000000-1");
	CU_ASSERT_STRING_EQUAL(life->events[1]->kind, "again");
	CU_ASSERT_PTR_NOT_NULL(strstr(life->events[1]->text, "attempt 2"));
	CU_ASSERT_PTR_NOT_NULL(strstr(life->because, "asked 2 times"));
	CU_ASSERT_PTR_NOT_NULL(strstr(life->next, "expires at 2025-11-24T16:01:00.000Z"));
	answer(order_id, "InventoryReserved");
	life = explain(order_id, 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(life->because, "RESERVED"));
	CU_ASSERT_PTR_NOT_NULL(strstr(life->next, "expires at 2025-11-24T16:15:03.000Z"));
	cancel(order_id, "too dear", 0);
	life = explain(order_id, 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(life->because, "CANCELLED, too dear"));
	CU_ASSERT_PTR_NOT_NULL(strstr(life->because, "release what it holds"));
	answer(order_id, "InventoryReleased");
	life = explain(order_id, 0);
	CU_ASSERT_EQUAL(life->n_events, 5);
	CU_ASSERT_STRING_EQUAL(life->because, "CANCELLED: too dear.");
	CU_ASSERT_STRING_EQUAL(life->next, "Nothing: the order is settled.");
	explain(NO_ID, RT_CODE_NOT_FOUND);
}

static void expect_step(const struct call *call, size_t i, const char *actor, const char *text)
{
	const Tandem__Order__V1__OrderExplanation *life =
		((const Tandem__Order__V1__ExplainOrderResponse *)(const void *)call->answer)
			->explanation;

	CU_ASSERT_FATAL(i < life->n_events);
	TEST_ROW(strcmp(life->events[i]->actor, actor) == 0, text);
	TEST_ROW(strstr(life->events[i]->text, text) != NULL, text);
}

static struct call *explained(const char *order_id)
{
	Tandem__Order__V1__ExplainOrderRequest request =
		TANDEM__ORDER__V1__EXPLAIN_ORDER_REQUEST__INIT;

	caller = NULL;
	request.order_id = (char *)(uintptr_t)order_id;
	return rpc("ExplainOrder", &request.base, 0);
}

/* Each of those who place, confirm and cancel is in the event and in the explanation. */
static void test_explain_who(void)
{
	const char *bought, *given_up, *forgotten;
	struct call *life;

	caller = &anna;
	bought = place();
	CU_ASSERT_STRING_EQUAL(event_field(1, "actor"), ANNA);
	given_up = place();
	forgotten = place();
	answer(bought, "InventoryReserved");
	CU_ASSERT_STRING_EQUAL(event_field(1, "actor"), "");
	caller = &olga;
	confirm(bought, 0, 0);
	CU_ASSERT_STRING_EQUAL(event_field(1, "actor"), OLGA);
	caller = &anna;
	cancel(given_up, "too dear", 0);
	CU_ASSERT_STRING_EQUAL(event_field(1, "actor"), ANNA);
	answer(forgotten, "InventoryReserved");
	answer(given_up, "InventoryReleased");
	answer(bought, "InventoryCommitted");
	rt_loop_advance(f->loop, 15 * 60000 + 1000);

	life = explained(bought);
	expect_step(life, 0, ANNA, "The order was placed by " ANNA ": ");
	expect_step(life, 1, "inventory", "Inventory holds every line.");
	expect_step(life, 2, OLGA, "The order was confirmed by " OLGA ". ");
	expect_step(life, 3, "inventory", "Inventory answered the last request.");
	life = explained(given_up);
	expect_step(life, 1, ANNA, "The order was cancelled by " ANNA ". ");
	life = explained(forgotten);
	expect_step(life, 2, "timer", "The order was ended by its timer. ");
	/* Where nobody is asked nothing is said. */
	life = explained(place());
	CU_ASSERT_STRING_EQUAL(event_field(1, "actor"), "");
	expect_step(life, 0, "", "The order was placed: ");
}

/* ---- inventory's events ---- */

static void test_rejected(void)
{
	const char *order_id;
	Tandem__Inventory__V1__InventoryUnavailable event =
		TANDEM__INVENTORY__V1__INVENTORY_UNAVAILABLE__INIT;
	Tandem__Inventory__V1__ReservationShortage shortage =
		TANDEM__INVENTORY__V1__RESERVATION_SHORTAGE__INIT;
	Tandem__Inventory__V1__ReservationShortage unknown =
		TANDEM__INVENTORY__V1__RESERVATION_SHORTAGE__INIT;
	Tandem__Inventory__V1__ReservationShortage *shortages[] = { &shortage, &unknown };
	uint8_t data[128];
	const Order *order;

	shortage.sku = (char *)"apple";
	shortage.requested = 3;
	shortage.available = 2;
	unknown.sku = (char *)"pear";
	unknown.requested = 1;
	unknown.unknown = true;
	event.shortages = shortages;
	event.n_shortages = 2;
	order_id = place();
	answer_with(order_id, "InventoryUnavailable", 1, data,
		    protobuf_c_message_pack(&event.base, data));
	order = expect_order(get(order_id, 0), "2J!");
	CU_ASSERT_EQUAL_FATAL(order->n_shortages, 2);
	CU_ASSERT(!order->shortages[0]->unknown && order->shortages[1]->unknown);
	CU_ASSERT_STRING_EQUAL(order->shortages[0]->sku, "apple");
	CU_ASSERT_EQUAL(order->shortages[0]->requested, 3);
	CU_ASSERT_EQUAL(order->shortages[0]->available, 2);
	/* Held after all: inventory is asked to give it back, until it has answered. */
	answer(order_id, "InventoryReserved");
	CU_ASSERT_STRING_EQUAL(event_field(1, "type"), "tandem.order.v1.OrderRejected");
	CU_ASSERT_STRING_EQUAL(event_field(1, "data"), event_field(2, "data"));
	CU_ASSERT_EQUAL(expect_order(get(order_id, 0), "3J")->n_shortages, 2);
	answer(order_id, "InventoryReleased");
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_REJECTED);
	CU_ASSERT_STRING_EQUAL(event_field(1, "type"), "tandem.order.v1.OrderSettled");
	CU_ASSERT_EQUAL(pending_events(), 0);
}

static void test_events_that_are_not_answers(void)
{
	static const struct {
		const char *why, *type, *subject, *data;
		bool dead;
	} rows[] = {
		{ "not for us", "StockAdjusted", "apple", "", false },
		{ "not for us, either", "StockLow", "apple", "", false },
		{ "unknown type", "InventoryMoved", NULL, "", true },
		{ "unknown order", "InventoryReserved", NO_ID, "", true },
		{ "unknown order, and nothing is held", "InventoryReleased", NO_ID, "", false },
		{ "no order id", "InventoryReserved", "apple", "", true },
		{ "not protobuf", "InventoryUnavailable", NULL, "\x0a\x7f", true },
		{ "not protobuf", "InventoryReserved", NULL, "\xff", true },
		{ "a field of a newer version", "InventoryReserved", NULL, "\x78\x01", false },
	};
	const char *order_id = place();

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		size_t before = dead_letters();

		answer_with(rows[i].subject == NULL ? order_id : rows[i].subject, rows[i].type,
			    i + 1, rows[i].data, strlen(rows[i].data));
		rt_loop_advance(f->loop, 100);
		TEST_ROW(dead_letters() == before + rows[i].dead, rows[i].why);
		TEST_ROW(pending_events() == 0, rows[i].why);
	}
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_RESERVED);
	/* Another major version is not guessed. */
	stored_publish(f->redis, STORED_INVENTORY, NOW,
		       &(struct stored_event){ .type = "tandem.inventory.v2.InventoryReserved",
					       .subject = order_id,
					       .seq = 9,
					       .data = "" });
	rt_loop_run_due(f->loop);
	CU_ASSERT_EQUAL(dead_letters(), 6);
}

/* The effect was stored, its answer lost: the event comes again, and changes nothing. */
static void test_event_again(void)
{
	const char *order_id = place();

	fail("order_move", RT_LOST);
	f->after = true;
	answer(order_id, "InventoryReserved");
	CU_ASSERT_EQUAL(f->io, 1);
	f->fail = NULL;
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_RESERVED);
	CU_ASSERT_EQUAL(record_of(order_id).version, 2);
	CU_ASSERT_EQUAL(published_count(), 2);
	CU_ASSERT_EQUAL(dead_letters(), 0);
}

/* ---- timers ---- */

static void test_requests_again(void)
{
	const char *order_id = place();
	uint32_t attempts;

	rt_loop_advance(f->loop, 1400); /* 2 s less a quarter at the least */
	CU_ASSERT_EQUAL(record_of(order_id).attempt, 1);
	rt_loop_advance(f->loop, 1400); /* and a quarter more, and the tick, at the most */
	CU_ASSERT_EQUAL(record_of(order_id).attempt, 2);
	CU_ASSERT_STRING_EQUAL(event_field(1, "attempt"), "2");
	CU_ASSERT_STRING_EQUAL(event_field(1, "seq"), "1");
	rt_loop_advance(f->loop, 50000);
	attempts = record_of(order_id).attempt;
	CU_ASSERT(attempts >= 4 && attempts <= 7); /* 2, 4, 8, 16, 20 s */
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_PENDING);
	/* The decision deadline. */
	rt_loop_advance(f->loop, 7600);
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_EXPIRING);
	CU_ASSERT_STRING_EQUAL(event_field(1, "type"), "tandem.order.v1.OrderExpired");
	/* Asked again until it is answered. */
	rt_loop_advance(f->loop, 3000);
	CU_ASSERT_EQUAL(record_of(order_id).attempt, 2);
	answer(order_id, "InventoryReleased");
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_EXPIRED);
	CU_ASSERT_PTR_NULL(stored_timers(f->redis, 0));
	rt_loop_advance(f->loop, 100000);
	CU_ASSERT_EQUAL(record_of(order_id).version, 3);
}

static void test_hold_runs_out(void)
{
	struct place request;
	struct call *call;
	Google__Protobuf__Duration hold = GOOGLE__PROTOBUF__DURATION__INIT;
	const char *order_id;
	const Order *order;
	Tandem__Order__V1__OrderExpired *event;

	place_request(&request, "ann", "", 3);
	hold.seconds = 5;
	request.request.hold = &hold;
	call = begin("PlaceOrder", &request.request.base, 1000);
	order_id = order_of(call)->order_id;
	rt_loop_advance(f->loop, 100);
	answer(order_id, "InventoryReserved");
	rt_loop_advance(f->loop, 4900);
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_RESERVED);
	rt_loop_advance(f->loop, 400);
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_EXPIRING);
	event = tandem__order__v1__order_expired__unpack(NULL, record_of(order_id).detail_length,
							 record_of(order_id).detail);
	CU_ASSERT_FATAL(event != NULL);
	CU_ASSERT_EQUAL(event->deadline->seconds, (NOW + 100 + 5000) / 1000);
	tandem__order__v1__order_expired__free_unpacked(event, NULL);
	order = expect_order(get(order_id, 0), "3E");
	CU_ASSERT_STRING_EQUAL(order->status_reason, "not confirmed within its hold");
	confirm(order_id, 0, RT_CODE_FAILED_PRECONDITION);
}

/* While the request is in the stream unread, it is late, not lost: it is not sent again. */
static void test_late_is_not_lost(void)
{
	const char *order_id;

	memory_do(f->redis, "XGROUP", "CREATE", STORED_ORDERS, "inventory", "0", "MKSTREAM", NULL);
	order_id = place();
	rt_loop_advance(f->loop, 20000);
	CU_ASSERT_EQUAL(record_of(order_id).attempt, 1);
	CU_ASSERT_EQUAL(published_count(), 1);
	/* Trimmed away before it was read: lost. */
	memory_do(f->redis, "XTRIM", STORED_ORDERS, "MAXLEN", "0", NULL);
	rt_loop_advance(f->loop, 30000);
	CU_ASSERT(record_of(order_id).attempt > 1);
	/* The deadline counts all the same. */
	rt_loop_advance(f->loop, 12000);
	CU_ASSERT_EQUAL(record_of(order_id).state, ORDER_EXPIRING);
}

/* An instance dies while it has leases: others take them when the leases run out. */
static void test_leases_run_out(void)
{
	const char *order_id = place();

	fail("order_move", RT_LOST);
	rt_loop_advance(f->loop, 3000);
	CU_ASSERT_EQUAL(f->io, 1);
	CU_ASSERT_EQUAL(record_of(order_id).attempt, 1);
	f->fail = NULL;
	rt_loop_advance(f->loop, 1800);
	CU_ASSERT_EQUAL(record_of(order_id).attempt, 2);
}

/* More due orders than one read returns are handled without waiting for ticks. */
static void test_many_due(void)
{
	for (int i = 0; i < 600; i++)
		place();
	rt_loop_advance(f->loop, 2800);
	CU_ASSERT_EQUAL(published_count(), 1200);
	CU_ASSERT_EQUAL(metric(RT_COUNTER, "tandem_orders_republished_total"), 600);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_orders_unsettled"), 600);
}

static double unanswered_seconds(void)
{
	static const char *const labels[] = { "partition", NULL }, *const value[] = { "0" };

	return rt_series_value(
		rt_metric_series(rt_metric(f->metrics, RT_GAUGE,
					   "tandem_order_oldest_unanswered_seconds", "", labels),
				 value));
}

static void test_oldest_unanswered(void)
{
	const char *one = place(), *other;

	rt_loop_advance(f->loop, 1000);
	other = place();
	CU_ASSERT_EQUAL(unanswered_seconds(), 0);
	rt_loop_advance(f->loop, 9000);
	CU_ASSERT(unanswered_seconds() > 9.7 && unanswered_seconds() <= 10);
	/* Answered: the other one is the oldest as soon as its own timer has run out. */
	answer(one, "InventoryReserved");
	CU_ASSERT_EQUAL(unanswered_seconds(), 0);
	rt_loop_advance(f->loop, 12000);
	CU_ASSERT(unanswered_seconds() > 20 && unanswered_seconds() <= 21.1);
	answer(other, "InventoryReserved");
	rt_loop_advance(f->loop, 10000);
	CU_ASSERT_EQUAL(unanswered_seconds(), 0);
	/* A reserved order waits for its client, not for inventory. */
	confirm(one, 0, 0);
	rt_loop_advance(f->loop, 5000);
	CU_ASSERT(unanswered_seconds() > 4.7 && unanswered_seconds() <= 5);
	/* Another instance moves it: it is not seen any more. */
	memory_do(f->redis, "ZREM", "order:{0}:timers", one, NULL);
	rt_loop_advance(f->loop, 38000);
	CU_ASSERT(unanswered_seconds() > 40);
	rt_loop_advance(f->loop, 5000);
	CU_ASSERT_EQUAL(unanswered_seconds(), 0);
}

static double settled_count(const char *status)
{
	static const char *const labels[] = { "status", NULL };

	return rt_series_value(
		rt_metric_series(rt_metric(f->metrics, RT_HISTOGRAM_LONG,
					   "tandem_order_settled_seconds", "", labels),
				 &status));
}

static void test_settled_seconds(void)
{
	const char *order_id = place();

	answer(order_id, "InventoryReserved");
	confirm(order_id, 0, 0);
	CU_ASSERT_EQUAL(settled_count("confirmed"), 0);
	answer(order_id, "InventoryCommitted");
	answer(order_id, "InventoryCommitted"); /* twice is once */
	CU_ASSERT_EQUAL(settled_count("confirmed"), 1);
	answer(place(), "InventoryUnavailable");
	CU_ASSERT_EQUAL(settled_count("rejected"), 1);
	place();
	rt_loop_advance(f->loop, 61000);
	CU_ASSERT_EQUAL(settled_count("expired"), 0);
	CU_ASSERT_EQUAL(settled_count("cancelled"), 0);
}

/* The content of the largest entry, in bytes. */
static size_t largest_entry(void)
{
	const struct memory_stream *stream = memory_stream_find(f->redis, STORED_ORDERS);
	size_t largest = 0;

	for (size_t i = 0; i < stream->count; i++) {
		struct rt_entry_event *events;
		size_t count = stored_events(&stream->entries[i], &events), bytes = 0;

		for (size_t j = 0; j < count; j++)
			bytes += events[j].data.length;
		largest = RT_MAX(largest, bytes);
		free(events);
	}
	return largest;
}

/* Requests of large orders that are sent again at once do not all go into one entry. */
static void test_many_large_due(void)
{
	Tandem__Order__V1__OrderLine lines[CHECK_LINES_MAX], *list[CHECK_LINES_MAX];
	char skus[CHECK_LINES_MAX][CHECK_SKU_MAX + 1];
	struct place request;

	for (int i = 0; i < CHECK_LINES_MAX; i++) {
		tandem__order__v1__order_line__init(&lines[i]);
		snprintf(skus[i], sizeof(skus[i]), "%0*d", CHECK_SKU_MAX, i);
		lines[i].sku = skus[i];
		lines[i].quantity = 1;
		list[i] = &lines[i];
	}
	for (int i = 0; i < 200; i++) { /* some 7 kB each */
		place_request(&request, "ann", "", 1);
		request.request.lines = list;
		request.request.n_lines = CHECK_LINES_MAX;
		(void)rpc("PlaceOrder", &request.request.base, 0);
	}
	rt_loop_advance(f->loop, 2800);
	CU_ASSERT_EQUAL(published_count(), 400);
	CU_ASSERT(largest_entry() <= 128 * 1024);
}

/* ---- the end ---- */

static void test_stop(void)
{
	struct call *waiting = place_and_wait("r1", 60000), *watching = watch(place(), 0);

	stop();
	CU_ASSERT_EQUAL(f->stopped, 1);
	expect_order(waiting, "1P");
	CU_ASSERT_STRING_EQUAL(seen(watching), "1P");
	expect_code(watching, RT_CODE_UNAVAILABLE);
	CU_ASSERT_TRUE(details_of(&watching->status).retry_ms > 0);
	place_order("ann", "", 3, RT_CODE_UNAVAILABLE);
}

/* A stop waits for the answers of the store. */
static void test_stop_waits(void)
{
	struct place request;
	struct call *call;

	answer_late("order_place", 300);
	call = begin("PlaceOrder", place_request(&request, "ann", "", 3), 1000);
	begin_stop();
	CU_ASSERT_EQUAL(f->stopped, 0);
	rt_loop_advance(f->loop, 400);
	CU_ASSERT_EQUAL(f->stopped, 1);
	expect_code(call, 0);
}

/* ---- partitions ---- */

/* Ends the instance, and begins another with partitions, on no data. */
static void begin_partitions(int count)
{
	end_order();
	memory_do(f->redis, "DEL", "order:{0}:partitions", "order:{0}:events", NULL);
	f->stopped = 0;
	f->partitions = count;
	begin_order();
	CU_ASSERT_TRUE(rt_context_ready(f->context));
}

static void test_partitions(void)
{
	Tandem__Order__V1__ListOrdersRequest list = TANDEM__ORDER__V1__LIST_ORDERS_REQUEST__INIT;
	const char *customers[] = { "ann", "bob", "carl", "dora", "emil", "fay", "gus", "ida" };
	unsigned int used = 0;
	struct call *call;

	begin_partitions(8);
	for (size_t i = 0; i < RT_LENGTH(customers); i++) {
		unsigned int bucket = rt_bucket(customers[i], strlen(customers[i]));
		char key[64], order_id[ORDER_ID_LENGTH + 1];

		used |= 1U << rt_bucket_partition(bucket, 8);
		snprintf(order_id, sizeof(order_id), "%s",
			 expect_order(place_order(customers[i], i % 2 == 0 ? "" : "r", 3, 0), "1P")
				 ->order_id);
		CU_ASSERT_EQUAL(check_order_bucket(order_id), (int)bucket);
		snprintf(key, sizeof(key), "order:{%d}:orders", rt_bucket_partition(bucket, 8));
		CU_ASSERT_PTR_NOT_NULL(
			memory_field(memory_find(f->redis, key, MEMORY_HASH), order_id));
		if (i % 2 != 0) /* the same request finds it */
			CU_ASSERT_STRING_EQUAL(
				order_of(place_order(customers[i], "r", 3, 0))->order_id, order_id);
		call = watch(order_id, 0);
		answer(order_id, "InventoryReserved");
		expect_order(get(order_id, 0), "2R");
		expect_order(confirm(order_id, 0, 0), "3C");
		answer(order_id, "InventoryCommitted");
		expect_order(get(order_id, 0), "4C!");
		CU_ASSERT_STRING_EQUAL(seen(call), "1P 2R 3C 4C!");
		expect_code(call, 0);
		list.customer_id = (char *)(uintptr_t)customers[i];
		call = rpc("ListOrders", &list.base, 0);
		CU_ASSERT_EQUAL(((Tandem__Order__V1__ListOrdersResponse *)call->answer)->n_orders,
				1);
	}
	CU_ASSERT(used != 0 && (used & (used - 1)) != 0); /* not all in one */
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_orders_unsettled"), 0);
	/* Timers run in every partition: each order is sent again, and expires. */
	for (size_t i = 0; i < RT_LENGTH(customers); i++)
		place_order(customers[i], "late", 3, 0);
	rt_loop_advance(f->loop, 1000);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_orders_unsettled"), 8);
	rt_loop_advance(f->loop, 70000);
	for (size_t i = 0; i < RT_LENGTH(customers); i++)
		expect_order(place_order(customers[i], "late", 3, 0), "2E");
	get(NO_ID, RT_CODE_NOT_FOUND);
	fail("hmget", RT_LOST);
	get(NO_ID, RT_CODE_UNAVAILABLE);
}

/* The lines of the last event of the order's partition; NULL: it carries none. */
static const char *lines_released(const char *order_id)
{
	static char text[128];
	char key[64];
	const char *type, *data;
	Tandem__Order__V1__OrderCancelled *cancelled;
	Tandem__Order__V1__OrderExpired *expired;
	Tandem__Order__V1__OrderLine *line = NULL;

	snprintf(key, sizeof(key), "order:{%d}:events", stored_partition_of(f->redis, order_id));
	type = event_field_of(key, 1, "type");
	data = event_field_of(key, 1, "data");
	CU_ASSERT_STRING_EQUAL(event_field_of(key, 1, "subject"), order_id);
	cancelled = tandem__order__v1__order_cancelled__unpack(NULL, strlen(data),
							       (const uint8_t *)data);
	expired =
		tandem__order__v1__order_expired__unpack(NULL, strlen(data), (const uint8_t *)data);
	if (strcmp(type, "tandem.order.v1.OrderCancelled") == 0 && cancelled != NULL &&
	    cancelled->n_lines == 1)
		line = cancelled->lines[0];
	if (strcmp(type, "tandem.order.v1.OrderExpired") == 0 && expired != NULL &&
	    expired->n_lines == 1)
		line = expired->lines[0];
	text[0] = '\0';
	if (line != NULL)
		snprintf(text, sizeof(text), "%s=%d", line->sku, (int)line->quantity);
	if (cancelled != NULL)
		tandem__order__v1__order_cancelled__free_unpacked(cancelled, NULL);
	if (expired != NULL)
		tandem__order__v1__order_expired__free_unpacked(expired, NULL);
	return text;
}

static void test_partitions_release(void)
{
	const char *order_id;

	/* With one partition inventory's own record has them. */
	order_id = place();
	expect_order(cancel(order_id, "no", 0), "2X");
	CU_ASSERT_STRING_EQUAL(lines_released(order_id), "");
	begin_partitions(4);
	order_id = place();
	CU_ASSERT_STRING_EQUAL(expect_order(cancel(order_id, "no", 0), "2X")->status_reason, "no");
	CU_ASSERT_STRING_EQUAL(lines_released(order_id), "apple=3");
	/* Asked again: the same. What is stored is what the client said. */
	rt_loop_advance(f->loop, 5000);
	CU_ASSERT_STRING_EQUAL(lines_released(order_id), "apple=3");
	CU_ASSERT_EQUAL(record_of(order_id).detail_length, strlen("no") + 2);
	order_id = place();
	answer(order_id, "InventoryReserved");
	rt_loop_advance(f->loop, HOLD_STANDARD_MS + 1000);
	expect_order(get(order_id, 0), "3E");
	CU_ASSERT_STRING_EQUAL(lines_released(order_id), "apple=3");
}

/* Of an order that was placed while there was one partition, and was moved to another since. */
static void test_partitions_old_id(void)
{
	const char *old = "ord_aerukz4jvn777p777777777774";
	char *new_id;
	struct call *call;

	begin_partitions(8);
	new_id = rt_strdup(place());
	const struct order_record record = record_of(new_id);
	char *text = rt_printf("RESERVED 2 60000 placed@%" PRId64 "-1 reserved+5-2\n%zu\n%.*s", NOW,
			       record.placed_length, (int)record.placed_length,
			       (const char *)record.placed);

	memory_do(f->redis, "HSET", "order:{5}:orders", old, text, NULL);
	expect_order(get(old, 0), "2R");
	call = watch(old, 0);
	expect_order(confirm(old, 0, 0), "3C");
	CU_ASSERT_STRING_EQUAL(seen(call), "2R 3C");
	give_up(call);
	cancel(old, "", RT_CODE_FAILED_PRECONDITION);
	expect_code(watch(NO_ID, 0), RT_CODE_NOT_FOUND);
	confirm(NO_ID, 0, RT_CODE_NOT_FOUND);
	free(text);
	free(new_id);
}

int main(void)
{
	static const struct test tests[] = {
		{ "PlaceOrder places, once", test_place },
		{ "PlaceOrder refuses, with the reason", test_place_refused },
		{ "PlaceOrder waits for the decision", test_place_and_wait },
		{ "PlaceOrder does not wait too long", test_place_without_decision },
		{ "a decision that comes before the answer of the store",
		  test_decided_before_stored },
		{ "an own decision reaches waiters without the tail",
		  test_waiters_without_the_tail },
		{ "BatchPlaceOrders answers each item", test_batch },
		{ "BatchPlaceOrders waits a second", test_batch_waits },
		{ "StreamOrders answers each", test_stream },
		{ "StreamOrders is bounded", test_stream_is_bounded },
		{ "Place answers each item", test_items },
		{ "gateways are told how much there is to do", test_load_is_told },
		{ "gateways are told how long what waits takes", test_load_is_a_time },
		{ "a gateway says who places its items", test_items_have_actors },
		{ "Place: items that are out of time, or cancelled", test_items_out_of_time },
		{ "Place: orders that wait for their decision are stored",
		  test_all_that_wait_are_stored },
		{ "Place: messages stay small", test_large_items },
		{ "Place: a drain ends the streams", test_drain_of_streams },
		{ "Place: a stop waits for the store", test_stop_with_streams },
		{ "GetOrder", test_get },
		{ "ListOrders and its pages", test_list },
		{ "ConfirmOrder", test_confirm },
		{ "CancelOrder, and late answers", test_cancel },
		{ "ExtendHold", test_extend },
		{ "ReturnOrder", test_return },
		{ "BatchConfirmOrders", test_batch_confirm },
		{ "BatchCancelOrders", test_batch_cancel },
		{ "WatchOrder", test_watch },
		{ "WatchOrder sends every version", test_watch_sees_every_version },
		{ "WatchOrder reads the order again", test_watch_looks_again },
		{ "WatchOrder while the store is away", test_watch_without_a_store },
		{ "ExplainOrder", test_explain },
		{ "ExplainOrder says who it was", test_explain_who },
		{ "with partitions: orders lie where their customers do", test_partitions },
		{ "with partitions: a release carries the lines", test_partitions_release },
		{ "with partitions: an id without a bucket", test_partitions_old_id },
		{ "inventory refuses", test_rejected },
		{ "events that are not answers", test_events_that_are_not_answers },
		{ "an event comes again", test_event_again },
		{ "requests are sent again, then orders expire", test_requests_again },
		{ "a hold runs out", test_hold_runs_out },
		{ "a late request is not sent again", test_late_is_not_lost },
		{ "leases run out", test_leases_run_out },
		{ "many are due at once", test_many_due },
		{ "the oldest unanswered request", test_oldest_unanswered },
		{ "how long until orders are settled", test_settled_seconds },
		{ "many large ones are due at once", test_many_large_due },
		{ "a stop ends calls that wait", test_stop },
		{ "a stop waits for the store", test_stop_waits },
	};

	tests_log_nothing();
	return tests_run_each("order_rpc", setup, teardown, tests, RT_LENGTH(tests));
}
