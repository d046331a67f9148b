/* A deadline that passes, for every RPC of all three services: before the call arrives, and while it is
 * under way. The call then ends with DEADLINE_EXCEEDED; when the client has gone, with CANCELLED; never
 * with UNAVAILABLE. Calls come from a transport of this test's own, which sets how much time is left. */
#include <string.h>

#include "gateway/gateway.h"
#include "inventory/inventory.h"
#include "order/order.h"
#include "rpc/call_internal.h"
#include "run.h"
#include "sim/stored.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"
#include "tandem/order/v1/placement.pb-c.h"

#define NOW      INT64_C(1764000000000)
#define ORDER_ID "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa"

/* ---- the three services ---- */

static struct world {
	struct rt_loop *loop;
	struct memory_redis *redis;
	struct memory_host host;
	struct rt_context *order, *inventory;
	struct gateway *gateway;
	ProtobufCService *to_order, *to_placement, *to_inventory;
	int stopped;
} world;

/* Redis takes its time. */
static int be_slow(void *user, const struct memory_io *io, int64_t *delay_ms)
{
	(void)user;
	*delay_ms = io->after ? 500 : 0;
	return RT_OK;
}

static void world_new(void)
{
	const struct order_options order = {
		.clock = { .decision_ms = 60000, .retry_min_ms = 2000, .retry_max_ms = 20000 },
	};
	struct rt_context_options options = { .events = { RT_EVENTS_DEFAULTS },
					      .retain_ms = 3600000,
					      .retain_count = 1000,
					      .stale_ms = 600000,
					      .domain_options = &order };
	struct gateway_options gateway = {
		.connections = 1, .batch_max = 128, .orders_max = 1000, .timeout_ms = 30000
	};

	world = (struct world){ .stopped = 0 };
	CU_ASSERT_FATAL(rt_loop_new_manual(NOW, 7, &world.loop) == RT_OK);
	world.redis = memory_redis_new(world.loop);
	stored_load(world.redis);
	memory_host_init(&world.host, world.redis, "p", be_slow, NULL);
	world.order = stored_context(&world.host, &order_domain, options, "c1");
	options.domain_options = NULL;
	world.inventory = stored_context(&world.host, &inventory_domain, options, "c1");
	rt_context_start(world.order);
	rt_context_start(world.inventory);
	gateway.order = world.to_order =
		rt_client_local(world.loop, order_rpc(world.order->data), NULL, NULL);
	gateway.placement = world.to_placement =
		rt_client_local(world.loop, order_placement_rpc(world.order->data), NULL, NULL);
	gateway.inventory = world.to_inventory =
		rt_client_local(world.loop, inventory_rpc(world.inventory->data), NULL, NULL);
	CU_ASSERT_FATAL(gateway_new(world.loop, &gateway, &world.gateway) == RT_OK);
	rt_loop_advance(world.loop, 10000); /* until they are connected and read their streams */
}

static void world_free(void)
{
	gateway_stop(world.gateway, tests_count, &world.stopped);
	rt_loop_advance(world.loop, 1000);
	rt_context_stop(world.order, tests_count, &world.stopped);
	rt_context_stop(world.inventory, tests_count, &world.stopped);
	rt_loop_advance(world.loop, 10000);
	CU_ASSERT_EQUAL_FATAL(world.stopped, 3);
	rt_client_free(world.to_order);
	rt_client_free(world.to_placement);
	rt_client_free(world.to_inventory);
	rt_loop_run_due(world.loop);
	gateway_free(world.gateway);
	rt_context_free(world.order);
	rt_context_free(world.inventory);
	memory_redis_free(world.redis);
	rt_loop_free(world.loop);
}

/* ---- a call ---- */

struct probe {
	struct rt_call call;
	struct rpc_method method;
	int64_t remaining_ms;
	bool watched;
	int ends, code;
};

static struct probe *probe_of(const struct rt_call *call)
{
	return RT_CONTAINER_OF((struct rt_call *)(uintptr_t)call, struct probe, call);
}

static void probe_send(struct rt_call *call, const ProtobufCMessage *message)
{
	(void)call;
	(void)message;
}

static void probe_end(struct rt_call *call, const ProtobufCMessage *answer,
		      const struct rt_status *status)
{
	(void)answer;
	probe_of(call)->ends++;
	probe_of(call)->code = status->code;
}

static void probe_nothing(struct rt_call *call)
{
	(void)call;
}

static void probe_watch(struct rt_call *call)
{
	probe_of(call)->watched = true;
}

static int64_t probe_remaining(const struct rt_call *call)
{
	return probe_of(call)->remaining_ms;
}

static const char *probe_metadata(const struct rt_call *call, const char *key, size_t *ret_length)
{
	(void)call;
	(void)key;
	(void)ret_length;
	return NULL;
}

static const char *probe_peer(const struct rt_call *call)
{
	(void)call;
	return "test";
}

static const struct rpc_call_ops ops = { .send = probe_send,
					 .end = probe_end,
					 .read = probe_nothing,
					 .watch = probe_watch,
					 .remaining_ms = probe_remaining,
					 .metadata = probe_metadata,
					 .peer = probe_peer,
					 .release = probe_nothing };

/* A valid request of each type, packed. */
static const struct {
	const ProtobufCMessageDescriptor *type;
	const char *bytes;
} requests[] = {
	{ &tandem__order__v1__place_order_request__descriptor,
	  "\x12\001c\x1a\x05\x0a\001s\x10\x01\x30\x01" },
	{ &rt_unread_descriptor, "\x12\001c\x1a\x05\x0a\001s\x10\x01\x30\x01" },
	{ &tandem__order__v1__batch_place_orders_request__descriptor,
	  "\x0a\x0c\x12\001c\x1a\x05\x0a\001s\x10\x01\x30\x01" },
	{ &tandem__order__v1__get_order_request__descriptor, "\x0a\x1e" ORDER_ID },
	{ &tandem__order__v1__list_orders_request__descriptor, "\x0a\001c" },
	{ &tandem__order__v1__watch_order_request__descriptor, "\x0a\x1e" ORDER_ID },
	{ &tandem__order__v1__confirm_order_request__descriptor, "\x0a\x1e" ORDER_ID },
	{ &tandem__order__v1__cancel_order_request__descriptor, "\x0a\x1e" ORDER_ID },
	{ &tandem__order__v1__batch_confirm_orders_request__descriptor,
	  "\x0a\x20\x0a\x1e" ORDER_ID },
	{ &tandem__order__v1__batch_cancel_orders_request__descriptor,
	  "\x0a\x20\x0a\x1e" ORDER_ID },
	{ &tandem__order__v1__extend_hold_request__descriptor,
	  "\x0a\x1e" ORDER_ID "\x12\x02\x08\x01" },
	{ &tandem__order__v1__return_order_request__descriptor, "\x0a\x1e" ORDER_ID "\x12\001r" },
	{ &tandem__order__v1__explain_order_request__descriptor, "\x0a\x1e" ORDER_ID },
	{ &tandem__inventory__v1__adjust_stock_request__descriptor, "\x0a\001s\x10\x02" },
	{ &tandem__inventory__v1__set_low_stock_threshold_request__descriptor,
	  "\x0a\001s\x10\x02" },
	{ &tandem__inventory__v1__batch_adjust_stock_request__descriptor,
	  "\x0a\x05\x0a\001s\x10\x02" },
	{ &tandem__inventory__v1__get_stock_request__descriptor, "\x0a\001s" },
	{ &tandem__inventory__v1__list_stock_request__descriptor, "" },
	{ &tandem__inventory__v1__get_reservation_request__descriptor, "\x0a\x1e" ORDER_ID },
	{ &tandem__inventory__v1__list_reservations_request__descriptor, "\x0a\001s" },
};

static const char *request_bytes(const struct rpc_method *method)
{
	for (size_t i = 0; i < RT_LENGTH(requests); i++)
		if (requests[i].type == method->descriptor->input)
			return requests[i].bytes;
	CU_ASSERT_FATAL(method->client_streams);
	return "";
}

static struct probe *begin(ProtobufCService *service, unsigned index, int64_t remaining_ms)
{
	struct probe *probe = rt_alloc(sizeof(*probe));
	const char *bytes;

	probe->remaining_ms = remaining_ms;
	rpc_method_init(&probe->method, service->descriptor, NULL, index, NULL, "server");
	rpc_call_init(&probe->call, &ops, world.loop);
	rpc_call_begin(&probe->call, service, &probe->method);
	bytes = request_bytes(&probe->method);
	rpc_call_handle(&probe->call, (const uint8_t *)bytes, strlen(bytes));
	return probe;
}

/* The client is lost, as gRPC reports it. */
static void lose(struct probe *probe, int64_t remaining_ms)
{
	probe->remaining_ms = remaining_ms;
	if (probe->watched && !probe->call.ended)
		rpc_call_cancelled(&probe->call);
	if (probe->method.client_streams && !probe->call.ended)
		rpc_call_half_closed(&probe->call);
	rt_loop_advance(world.loop, 5000);
}

static void end(struct probe *probe)
{
	CU_ASSERT_EQUAL(probe->ends, 1);
	rpc_method_done(&probe->method);
	rpc_call_done(&probe->call);
	free(probe);
}

/* ---- the table ---- */

static size_t services(ProtobufCService *list[5])
{
	list[0] = order_rpc(world.order->data);
	list[1] = order_placement_rpc(world.order->data);
	list[2] = inventory_rpc(world.inventory->data);
	list[3] = gateway_order_rpc(world.gateway);
	list[4] = gateway_inventory_rpc(world.gateway);
	return 5;
}

static void for_each_method(void (*check)(ProtobufCService *service, unsigned index))
{
	ProtobufCService *list[5];
	size_t count;

	world_new();
	count = services(list);
	for (size_t i = 0; i < count; i++)
		for (unsigned m = 0; m < list[i]->descriptor->n_methods; m++)
			check(list[i], m);
	world_free();
}

static void before_it_arrives(ProtobufCService *service, unsigned index)
{
	size_t stored = memory_stream_find(world.redis, STORED_ORDERS)->count;
	struct probe *probe = begin(service, index, 0);

	rt_loop_advance(world.loop, 2000);
	TEST_ROW(probe->code == RT_CODE_DEADLINE_EXCEEDED, probe->method.path);
	TEST_ROW(memory_stream_find(world.redis, STORED_ORDERS)->count == stored,
		 probe->method.path);
	end(probe);
}

/* The clocks of both sides never agree to the millisecond. */
static void under_way(ProtobufCService *service, unsigned index, int64_t remaining_ms, int code)
{
	struct probe *probe = begin(service, index, 60000);
	bool done = probe->call.ended;

	rt_loop_advance(world.loop, 10);
	TEST_ROW(done || !probe->call.ended, probe->method.path);
	lose(probe, remaining_ms);
	/* A handler that does not watch for a cancel may end the call as it likes: no client sees it. */
	TEST_ROW(probe->code == code || !probe->watched, probe->method.path);
	TEST_ROW(probe->code != RT_CODE_UNAVAILABLE, probe->method.path);
	TEST_ROW(probe->code != RT_CODE_CANCELLED || code == RT_CODE_CANCELLED, probe->method.path);
	end(probe);
}

static void deadline_passes(ProtobufCService *service, unsigned index)
{
	under_way(service, index, 0, RT_CODE_DEADLINE_EXCEEDED);
	under_way(service, index, 2, RT_CODE_DEADLINE_EXCEEDED);
}

static void client_goes(ProtobufCService *service, unsigned index)
{
	under_way(service, index, 50000, RT_CODE_CANCELLED);
}

static void test_before_it_arrives(void)
{
	for_each_method(before_it_arrives);
}

static void test_deadline_passes(void)
{
	for_each_method(deadline_passes);
}

static void test_client_goes(void)
{
	for_each_method(client_goes);
}

static const struct test tests[] = {
	{ "before it arrives: nothing is done", test_before_it_arrives },
	{ "while it is under way", test_deadline_passes },
	{ "a client that goes: CANCELLED", test_client_goes },
};

TESTS_MAIN("deadlines", tests)
