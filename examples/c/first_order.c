/* first_order.c - puts stock in, places an order, and says how it was decided.
 *
 *   first_order [TARGET]   127.0.0.1:50051
 *
 * With Tandem's own runtime, which carries the services that protobuf-c generates over gRPC (examples/run c). Calls are
 * asynchronous: a loop runs, and each call ends in a callback, once. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/base.h"
#include "loop/loop.h"
#include "rpc/rpc.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

static char sku[] = "tea", customer[] = "me"; /* protobuf-c's texts are not const */
static struct rt_loop *loop;
static ProtobufCService *orders;
static int result = 1;

/* Every call has a deadline. */
static void call(ProtobufCService *client, const char *method, const ProtobufCMessage *request,
		 struct rt_client_op *op)
{
	const ProtobufCServiceDescriptor *service = client->descriptor;
	const ProtobufCMethodDescriptor *found =
		protobuf_c_service_descriptor_get_method_by_name(service, method);

	op->timeout_ms = 5000;
	rt_client_start(client, (unsigned)(found - service->methods), request, op);
}

static bool failed(const struct rt_client_op *op)
{
	if (op->status.code == 0)
		return false;
	fprintf(stderr, "%s: %s\n", rt_code_name(op->status.code), op->status.message);
	rt_loop_stop(loop);
	return true;
}

static void placed(struct rt_client_op *op, const ProtobufCMessage *answer)
{
	const Tandem__Order__V1__PlaceOrderResponse *response = (const void *)answer;

	if (failed(op))
		return;
	printf("%s %s\n", response->order->order_id,
	       protobuf_c_enum_descriptor_get_value(&tandem__order__v1__order_status__descriptor,
						    (int)response->order->status)
		       ->name);
	result = 0;
	rt_loop_stop(loop);
}

static void adjusted(struct rt_client_op *op, const ProtobufCMessage *answer)
{
	static struct rt_client_op placing = { .done = placed };
	Tandem__Order__V1__PlaceOrderRequest request = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT;
	Tandem__Order__V1__OrderLine *lines[] = { &line };
	uint64_t random[2];
	char id[33];

	(void)answer;
	if (failed(op))
		return;
	if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
		perror("getrandom");
		rt_loop_stop(loop);
		return;
	}
	snprintf(id, sizeof(id), "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
	line.sku = sku;
	line.quantity = 2;
	request.request_id = id; /* kept for a retry: the same id never places a second order */
	request.customer_id = customer;
	request.lines = lines;
	request.n_lines = RT_LENGTH(lines);
	request.wait_for_decision = true;
	call(orders, "PlaceOrder", &request.base, &placing);
}

static void stop(void *user)
{
	(void)user;
	rt_loop_stop(loop);
}

int main(int argc, char **argv)
{
	Tandem__Inventory__V1__AdjustStockRequest stock =
		TANDEM__INVENTORY__V1__ADJUST_STOCK_REQUEST__INIT;
	struct rt_client_op adjusting = { .done = adjusted };
	struct rt_channel_options options = { 0 };
	struct rt_channel *channel;
	ProtobufCService *inventory;

	rt_rpc_init();
	if (rt_loop_new(&loop) != RT_OK ||
	    rt_channel_new(loop, argc > 1 ? argv[1] : "127.0.0.1:50051", &options, &channel) !=
		    RT_OK)
		return 1;
	inventory = rt_client_new(channel, &tandem__inventory__v1__inventory_service__descriptor);
	orders = rt_client_new(channel, &tandem__order__v1__order_service__descriptor);
	stock.sku = sku;
	stock.delta = 10;
	call(inventory, "AdjustStock", &stock.base, &adjusting);
	rt_loop_run(loop); /* until stop */
	rt_client_free(inventory);
	rt_client_free(orders);
	rt_channel_free(channel, stop, NULL);
	rt_loop_run(loop);
	rt_loop_free(loop);
	rt_rpc_shutdown();
	return result;
}
