/* route.c - all methods without a file of their own: checks the request and passes it on to the
 * service. The service's answer goes back unchanged: message, status, details.
 *
 *   route_invoke            the call enters: is the request valid?
 *     route_send            … an instance gets it
 *     route_message         streamed answers: each is passed on as it comes
 *     route_done            the call to the service has ended; or another instance gets it, or the archive
 *   route_cancelled         the caller has gone: the call to the service is cancelled, and ends
 *
 * What the order service does not have may be in the archive (archived.c). A call that reads is sent
 * once more when its instance has gone, and another serves. WatchOrder goes on there with the versions
 * that its caller has not seen. */
#include <string.h>

#include "check.h"
#include "gateway_internal.h"

/* A watch that ends so soon after it was sent on fails; one that lasted may go on once more. */
#define WATCH_AGAIN_MS 1000

struct route {
	struct gateway_service *service;
	unsigned method_index;
	const ProtobufCMessage *request;
	struct rt_call *call;
	ProtobufCClosure closure;
	bool streaming; /* the answer is a stream */
	bool overrun;   /* the caller reads too slowly */
	bool again;     /* it was sent more than once */
	int64_t sent_ms;
	uint64_t version; /* of a watch: the last that was passed on */
	struct rt_client_op op;
};

static void route_cancelled(struct rt_call *call, void *user)
{
	struct route *route = user;

	(void)call;
	rt_client_cancel(&route->op);
}

static bool is_watch(const struct route *route)
{
	const struct gateway *gateway = route->service->gateway;

	return route->service == &gateway->order && route->method_index == gateway->watch_order;
}

/* The caller of a long stream takes messages again. */
static void route_drained(struct rt_call *call, void *user)
{
	struct route *route = user;

	(void)call;
	rt_client_go_on(&route->op);
}

static void route_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct route *route = RT_CONTAINER_OF(op, struct route, op);
	const Tandem__Order__V1__WatchOrderResponse *response = (const void *)message;

	if (!is_watch(route)) {
		route->closure(message, route->call);
		if (rt_call_queued_bytes(route->call) > RT_CALL_QUEUE_MAX_BYTES) {
			op->held = true;
			rt_call_on_drained(route->call, route_drained, route);
		}
		return;
	}
	/* An order has few versions, so even a caller that does not read hardly reaches this limit. */
	if (rt_call_queued_bytes(route->call) > RT_CALL_QUEUE_MAX_BYTES) {
		route->overrun = true;
		rt_client_cancel(op);
		return;
	}
	if (response->order != NULL)
		route->version = response->order->version;
	route->closure(message, route->call);
}

/* The call has failed because its instance is gone, and another may be asked. */
static bool may_send_again(const struct route *route)
{
	const struct gateway_service *service = route->service;
	const struct rt_client_op *op = &route->op;
	int64_t since_ms = rt_loop_now(service->gateway->loop) - route->sent_ms;

	if (op->status.code != RT_CODE_UNAVAILABLE && op->status.code != RT_CODE_CANCELLED)
		return false;
	if (!service->reads[route->method_index] || service->channel == NULL ||
	    rt_call_cancelled(route->call) || rt_call_remaining_ms(route->call) <= 0)
		return false;
	if (route->again && !(route->streaming && since_ms >= WATCH_AGAIN_MS))
		return false;
	return !rt_channel_usable(service->channel, op->connection) &&
	       rt_channel_usable(service->channel, 0);
}

static void route_send(struct route *route);

/* Of a watch: what its caller need not be sent any more. */
static uint64_t seen_version(const struct route *route)
{
	const Tandem__Order__V1__WatchOrderRequest *request = (const void *)route->request;

	return is_watch(route) ? RT_MAX(route->version, request->after_version) : 0;
}

static void route_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct route *route = RT_CONTAINER_OF(op, struct route, op);
	struct rt_call *call = route->call;
	struct rt_status status = { 0 };
	const struct gateway_passed passed = {
		.gateway = route->service->gateway,
		.request = route->request,
		.call = call,
		.closure = route->closure,
		.response = response,
		.status = &op->status,
		.version = seen_version(route),
	};

	if (!route->overrun && may_send_again(route)) {
		route->again = true;
		route_send(route);
		return;
	}
	rt_call_on_cancel(call, NULL, NULL);
	rt_call_on_drained(call, NULL, NULL);
	if (gateway_archived_takes(&passed, route->service->archived[route->method_index])) {
		/* It ends from there. */
	} else if (route->overrun) {
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

static void route_send(struct route *route)
{
	struct gateway_service *service = route->service;
	int64_t remaining_ms = rt_call_remaining_ms(route->call);
	Tandem__Order__V1__WatchOrderRequest watch;
	const ProtobufCMessage *request = route->request;

	route->sent_ms = rt_loop_now(service->gateway->loop);
	route->op = (struct rt_client_op){
		.traceparent = rt_call_traceparent(route->call),
		.tracestate = rt_call_tracestate(route->call),
		.cause = rt_call_span(route->call),
		.caller = rt_call_identity(route->call),
		.caller_call = route->call,
		.timeout_ms = remaining_ms,
		.done = route_done,
	};
	if (route->streaming) {
		/* A watch may last as long as its order: without a deadline of the caller's it ends
		 * with the order, or when the caller goes. */
		if (remaining_ms == INT64_MAX)
			route->op.timeout_ms = 0;
		route->op.on_message = route_message;
		if (is_watch(route) && route->version > 0) {
			watch = *(
				const Tandem__Order__V1__WatchOrderRequest *)(const void *)request;
			watch.after_version = route->version;
			request = &watch.base;
		}
	} else if (remaining_ms == INT64_MAX) {
		route->op.timeout_ms = service->gateway->options.timeout_ms;
	}
	rt_client_start(service->client, route->method_index, request, &route->op);
}

/* Its trace is that of the order that the request names; else it has one of its own. */
static void begin_trace(struct rt_span *span, const ProtobufCMessage *request)
{
	rt_span_concerns(span, gateway_order_id(request));
}

static void route_start(struct gateway_service *service, unsigned method_index,
			const ProtobufCMessage *request, ProtobufCClosure closure,
			struct rt_call *call)
{
	struct route *route = rt_alloc(sizeof(*route));

	route->service = service;
	route->method_index = method_index;
	route->request = request;
	route->call = call;
	route->closure = closure;
	route->streaming = service->streams[method_index];
	if (rt_call_span(call) != NULL)
		begin_trace(rt_call_span(call), request);
	route_send(route);
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

static bool is_read(const char *method)
{
	static const char *const verbs[] = { "Get", "List", "Explain", "Watch", "Search" };

	for (size_t i = 0; i < RT_LENGTH(verbs); i++)
		if (strncmp(method, verbs[i], strlen(verbs[i])) == 0)
			return true;
	return false;
}

/* Of those that are passed on. */
static bool is_stream(const char *method)
{
	return strncmp(method, "Watch", 5) == 0 || strncmp(method, "Export", 6) == 0;
}

void gateway_route_init(struct gateway_service *service, struct gateway *gateway,
			ProtobufCService *client, struct rt_channel *channel)
{
	const ProtobufCServiceDescriptor *descriptor = client->descriptor;

	service->methods = rt_alloc(descriptor->n_methods * sizeof(*service->methods));
	service->reads = rt_alloc(descriptor->n_methods * sizeof(*service->reads));
	service->streams = rt_alloc(descriptor->n_methods * sizeof(*service->streams));
	service->archived = rt_alloc(descriptor->n_methods * sizeof(*service->archived));
	for (unsigned i = 0; i < descriptor->n_methods; i++) {
		service->methods[i] = descriptor->methods[i];
		service->reads[i] = is_read(descriptor->methods[i].name);
		service->streams[i] = is_stream(descriptor->methods[i].name);
		if (service == &gateway->order)
			service->archived[i] = gateway_archived_kind(descriptor->methods[i].name);
		if (service == &gateway->order && i == gateway->place_order)
			service->methods[i].input = &rt_unread_descriptor;
	}
	service->descriptor = *descriptor;
	service->descriptor.methods = service->methods;
	service->base.descriptor = &service->descriptor;
	service->base.invoke = route_invoke;
	service->gateway = gateway;
	service->client = client;
	service->channel = channel;
}

void gateway_route_done(struct gateway_service *service)
{
	free(service->methods);
	free(service->reads);
	free(service->streams);
	free(service->archived);
}
