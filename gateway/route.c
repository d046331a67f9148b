/* route.c - all methods without a file of their own: checks the request and passes it on to the
 * service. The service's answer goes back unchanged: message, status, details.
 *
 *   route_invoke            the call enters: is the request valid?
 *     route_message         streamed answers: each is passed on as it comes
 *     route_done            the call to the service has ended
 *   route_cancelled         the caller has gone: the call to the service is cancelled, and ends
 */
#include "check.h"
#include "gateway_internal.h"

struct route {
	struct gateway *gateway;
	struct rt_call *call;
	ProtobufCClosure closure;
	bool streaming; /* the answer is a stream */
	bool overrun;   /* the caller reads too slowly */
	struct rt_client_op op;
};

static void route_cancelled(struct rt_call *call, void *user)
{
	struct route *route = user;

	(void)call;
	rt_client_cancel(&route->op);
}

static void route_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct route *route = RT_CONTAINER_OF(op, struct route, op);

	/* Only WatchOrder is a stream here. An order has few versions, so even a caller that does
	 * not read hardly reaches this limit. */
	if (rt_call_queued_bytes(route->call) > RT_CALL_QUEUE_MAX_BYTES) {
		route->overrun = true;
		rt_client_cancel(op);
		return;
	}
	route->closure(message, route->call);
}

static void route_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct route *route = RT_CONTAINER_OF(op, struct route, op);
	struct rt_call *call = route->call;
	struct rt_status status = { 0 };

	rt_call_on_cancel(call, NULL, NULL);
	if (route->overrun) {
		rt_status_set(&status, RT_CODE_RESOURCE_EXHAUSTED,
			      "the messages of the stream are not read fast enough");
		rt_status_retry(&status, GATEWAY_RETRY_MS);
		rt_call_fail(call, &status);
	} else if (op->status.code != 0) {
		gateway_status_copy(&status, &op->status);
		rt_call_fail(call, &status);
	} else if (route->streaming) {
		rt_call_finish(call);
	} else if (response != NULL) {
		route->closure(response, call);
	} else {
		rt_call_failf(call, RT_CODE_INTERNAL, "the service answered nothing");
	}
	rt_status_done(&status);
	free(route);
}

static void route_start(struct gateway_service *service, unsigned method_index,
			const ProtobufCMessage *request, ProtobufCClosure closure,
			struct rt_call *call)
{
	struct gateway *gateway = service->gateway;
	struct route *route = rt_alloc(sizeof(*route));
	int64_t remaining_ms = rt_call_remaining_ms(call);

	route->gateway = gateway;
	route->call = call;
	route->closure = closure;
	route->streaming = service == &gateway->order && method_index == gateway->watch_order;
	route->op.traceparent = rt_call_metadata(call, "traceparent", NULL);
	route->op.done = route_done;
	if (route->streaming) {
		/* A watch may last as long as its order: without a deadline of the caller's it ends
		 * with the order, or when the caller goes. */
		route->op.timeout_ms = remaining_ms == INT64_MAX ? 0 : remaining_ms;
		route->op.on_message = route_message;
	} else {
		route->op.timeout_ms =
			remaining_ms == INT64_MAX ? gateway->options.timeout_ms : remaining_ms;
	}
	rt_client_start(service->client, method_index, request, &route->op);
	rt_call_on_cancel(call, route_cancelled, route);
}

static void route_invoke(ProtobufCService *base, unsigned method_index,
			 const ProtobufCMessage *request, ProtobufCClosure closure,
			 void *closure_data)
{
	struct gateway_service *service = RT_CONTAINER_OF(base, struct gateway_service, base);
	struct gateway *gateway = service->gateway;
	struct rt_status status = { 0 };
	struct rt_call *call = closure_data;

	if (service == &gateway->order && method_index == gateway->place_order) {
		gateway_place_order(gateway, closure, call);
	} else if (service == &gateway->order && method_index == gateway->stream_orders) {
		gateway_stream_orders(gateway, closure, call);
	} else if (!check_request(request, &status)) {
		rt_call_fail(call, &status);
	} else if (service == &gateway->order && method_index == gateway->batch_place_orders) {
		gateway_batch_place_orders(gateway, request, closure, call);
	} else {
		route_start(service, method_index, request, closure, call);
	}
	rt_status_done(&status);
}

void gateway_route_init(struct gateway_service *service, struct gateway *gateway,
			ProtobufCService *client)
{
	const ProtobufCServiceDescriptor *descriptor = client->descriptor;

	service->methods = rt_alloc(descriptor->n_methods * sizeof(*service->methods));
	for (unsigned i = 0; i < descriptor->n_methods; i++) {
		service->methods[i] = descriptor->methods[i];
		if (service == &gateway->order && i == gateway->place_order)
			service->methods[i].input = &rt_unread_descriptor;
	}
	service->descriptor = *descriptor;
	service->descriptor.methods = service->methods;
	service->base.descriptor = &service->descriptor;
	service->base.invoke = route_invoke;
	service->gateway = gateway;
	service->client = client;
}

void gateway_route_done(struct gateway_service *service)
{
	free(service->methods);
}
