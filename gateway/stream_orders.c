/* stream_orders.c - StreamOrders: placing.c sends each order that the client sends; answers go out in the
 * order in which they come.
 *
 *   stream_message          an order came: it is checked and placed, and the next is read
 *     item_done             its answer goes out with the client's sequence number
 *   stream_message(NULL)    the client has sent all: the call ends with the last answer
 *   stream_cancelled        the client has gone: orders under way go on without it
 *
 * Flow control: at most ITEMS_MAX orders of a stream are under way, and no order is read while the
 * client is slow to read its answers. The rest waits in the client, by HTTP/2's flow control. */
#include "gateway_internal.h"

#define ITEMS_MAX 512

struct stream {
	struct gateway *gateway;
	struct rt_call *call;
	ProtobufCClosure closure;
	const char *traceparent, *tracestate; /* the call's: of all its orders */
	struct rt_list items;
	size_t count;
	bool reading;  /* stream_message will be called */
	bool draining; /* stream_drained will be called */
	bool complete; /* the client has sent all */
	bool gone;     /* the client has gone */
};

struct item {
	struct gateway_placing placing;
	struct rt_list link;
	struct stream *stream;
	uint64_t sequence;
};

static void stream_message(struct rt_call *call, const ProtobufCMessage *message, void *user);

static void item_free(struct item *item)
{
	rt_list_remove(&item->link);
	item->stream->count--;
	free(item);
}

static void send_answer(struct stream *stream, uint64_t sequence, const ProtobufCBinaryData *order,
			const struct rt_status *status)
{
	Tandem__Order__V1__PackedStreamOrdersResponse response =
		TANDEM__ORDER__V1__PACKED_STREAM_ORDERS_RESPONSE__INIT;
	gateway_result result = TANDEM__ORDER__V1__PACKED_ORDER_RESULT__INIT;
	Google__Rpc__Status *error = NULL;

	if (order != NULL) {
		result.result_case = TANDEM__ORDER__V1__PACKED_ORDER_RESULT__RESULT_ORDER;
		result.order = *order;
	} else {
		error = rt_status_to_proto(status);
		result.result_case = TANDEM__ORDER__V1__PACKED_ORDER_RESULT__RESULT_ERROR;
		result.error = error;
	}
	response.order = &result;
	response.sequence = sequence;
	stream->closure(&response.base, stream->call);
	if (error != NULL)
		google__rpc__status__free_unpacked(error, NULL);
}

static void stream_drained(struct rt_call *call, void *user);

/* Reads the next order if there is room, ends the call if there is nothing more to do. May free the
 * stream. */
static void stream_go_on(struct stream *stream)
{
	struct rt_call *call = stream->call;

	if (stream->reading || stream->draining)
		return;
	if (stream->gone) {
		rt_call_finish(call);
		free(stream);
	} else if (stream->complete) {
		if (stream->count > 0)
			return;
		rt_call_on_cancel(call, NULL, NULL);
		rt_call_finish(call);
		free(stream);
	} else if (rt_call_queued_bytes(call) > RT_CALL_QUEUE_MAX_BYTES) {
		stream->draining = true;
		rt_call_on_drained(call, stream_drained, stream);
	} else if (stream->count < ITEMS_MAX) {
		stream->reading = true;
		rt_call_read(call, stream_message, stream);
	}
}

static void stream_drained(struct rt_call *call, void *user)
{
	struct stream *stream = user;

	(void)call;
	stream->draining = false;
	stream_go_on(stream);
}

static void item_done(struct gateway_placing *placing, const ProtobufCBinaryData *order,
		      const struct rt_status *status)
{
	struct item *item = RT_CONTAINER_OF(placing, struct item, placing);
	struct stream *stream = item->stream;

	send_answer(stream, item->sequence, order, status);
	item_free(item);
	stream_go_on(stream);
}

/* Places one order of the stream. If it cannot be placed its answer says why, and the stream goes on. */
static void stream_place(struct stream *stream,
			 const Tandem__Order__V1__StreamOrdersRequest *message)
{
	struct rt_status status = { 0 };
	struct item *item;

	if (message->request == NULL) {
		rt_status_set(&status, RT_CODE_INVALID_ARGUMENT, "request is missing");
		rt_status_violation(&status, "request", "is missing");
		send_answer(stream, message->sequence, NULL, &status);
		rt_status_done(&status);
		return;
	}
	item = rt_alloc(sizeof(*item));
	item->stream = stream;
	item->sequence = message->sequence;
	rt_list_init(&item->link);
	rt_list_push(&stream->items, &item->link);
	stream->count++;
	item->placing.remaining_ms = rt_call_remaining_ms(stream->call);
	item->placing.call = stream->call;
	item->placing.traceparent = stream->traceparent;
	item->placing.tracestate = stream->tracestate;
	item->placing.actor = rt_call_actor(stream->call);
	item->placing.done = item_done;
	if (gateway_place(stream->gateway, &item->placing, message->request, &status))
		return;
	send_answer(stream, item->sequence, NULL, &status);
	rt_status_done(&status);
	item_free(item);
}

static void stream_message(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	struct stream *stream = user;

	(void)call;
	stream->reading = false;
	if (message == NULL)
		stream->complete = true;
	else if (!stream->gone)
		stream_place(stream, (const void *)message);
	stream_go_on(stream);
}

static void stream_cancelled(struct rt_call *call, void *user)
{
	struct stream *stream = user;

	(void)call;
	stream->gone = true;
	for (struct rt_list *link = rt_list_pop(&stream->items); link != NULL;
	     link = rt_list_pop(&stream->items)) {
		struct item *item = RT_CONTAINER_OF(link, struct item, link);

		gateway_place_abandon(&item->placing);
		item_free(item);
	}
	/* stream_drained may never be called now; a read that is under way ends with NULL. */
	if (stream->draining) {
		rt_call_on_drained(stream->call, NULL, NULL);
		stream->draining = false;
	}
	stream_go_on(stream);
}

void gateway_stream_orders(struct gateway *gateway, ProtobufCClosure closure, struct rt_call *call)
{
	struct stream *stream = rt_alloc(sizeof(*stream));

	stream->gateway = gateway;
	stream->call = call;
	stream->closure = closure;
	stream->traceparent = rt_call_traceparent(call);
	stream->tracestate = rt_call_tracestate(call);
	rt_list_init(&stream->items);
	rt_call_on_cancel(call, stream_cancelled, stream);
	stream_go_on(stream);
}
