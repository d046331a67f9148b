/* stream_orders.c - StreamOrders: orders for as long as the client sends them.
 *
 *   order_stream_orders → read_more → on_message: an item is started → read_more …
 *     item_placed: its answer is sent → read_more
 *   when the client half-closes or is gone, the call ends with the last item
 *
 * At most IN_FLIGHT_MAX items are under way, and none is read while the client does not take its
 * answers: reading is the flow control. Each item has its own arena, because items end in any
 * order. It keeps nothing of the message, which the next read frees. */
#include "check.h"
#include "order/order_internal.h"

#define IN_FLIGHT_MAX 256
#define WAIT_MAX_MS   60000

struct stream {
	struct order *order;
	Tandem__Order__V1__StreamOrdersResponse_Closure closure;
	struct rt_call *call;
	const char *traceparent, *tracestate; /* read once: the call keeps a copy of each state */
	struct rt_list items;                 /* under way */
	size_t in_flight;
	bool reading, paused, ended;
	int busy; /* functions that use it now: it must not be freed */
};

struct stream_item {
	struct order_placing placing;
	struct rt_arena arena;
	struct rt_list link;
	struct stream *stream;
	uint64_t sequence;
};

static void on_message(struct rt_call *call, const ProtobufCMessage *message, void *user);

/* Frees the stream once it has ended and no function uses it; every user calls this last. */
static void stream_leave(struct stream *stream)
{
	if (--stream->busy > 0 || !stream->ended || stream->in_flight > 0 || stream->paused)
		return;
	rt_call_on_cancel(stream->call, NULL, NULL);
	rt_call_finish(stream->call);
	free(stream);
}

static void on_drained(struct rt_call *call, void *user);

static void read_more(struct stream *stream)
{
	if (stream->reading || stream->ended || stream->paused ||
	    stream->in_flight >= IN_FLIGHT_MAX)
		return;
	if (rt_call_queued_bytes(stream->call) > RT_CALL_QUEUE_MAX_BYTES) {
		stream->paused = true;
		rt_call_on_drained(stream->call, on_drained, stream);
		return;
	}
	stream->reading = true;
	rt_call_read(stream->call, on_message, stream);
}

static void on_drained(struct rt_call *call, void *user)
{
	struct stream *stream = user;

	(void)call;
	stream->busy++;
	stream->paused = false;
	read_more(stream);
	stream_leave(stream);
}

static void send_result(struct stream_item *item)
{
	Tandem__Order__V1__StreamOrdersResponse response =
		TANDEM__ORDER__V1__STREAM_ORDERS_RESPONSE__INIT;
	Tandem__Order__V1__PlaceOrderResult result;

	order_placing_result(&item->placing, &result);
	response.order = &result;
	response.sequence = item->sequence;
	item->stream->closure(&response, item->stream->call);
	order_result_done(&result);
}

static void item_placed(struct order_placing *placing)
{
	struct stream_item *item = RT_CONTAINER_OF(placing, struct stream_item, placing);
	struct stream *stream = item->stream;

	stream->busy++;
	send_result(item);
	rt_list_remove(&item->link);
	order_placing_done(placing);
	rt_arena_done(&item->arena);
	free(item);
	stream->in_flight--;
	read_more(stream);
	stream_leave(stream);
}

static void start_item(struct stream *stream, const Tandem__Order__V1__StreamOrdersRequest *message)
{
	struct stream_item *item = rt_alloc(sizeof(*item));
	struct order_placing *placing = &item->placing;

	item->stream = stream;
	item->sequence = message->sequence;
	rt_list_init(&item->link);
	rt_list_push(&stream->items, &item->link);
	stream->in_flight++;
	placing->order = stream->order;
	placing->arena = &item->arena;
	placing->request = message->request;
	placing->call = stream->call;
	placing->traceparent = stream->traceparent;
	placing->tracestate = stream->tracestate;
	placing->actor = rt_call_actor(stream->call);
	placing->done = item_placed;
	placing->detach = true;
	placing->remaining_ms = rt_call_remaining_ms(stream->call);
	placing->wait_max_ms = WAIT_MAX_MS;
	if (!order_placing_start(placing))
		item_placed(placing);
}

static void on_message(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	struct stream *stream = user;

	(void)call;
	stream->busy++;
	stream->reading = false;
	if (message == NULL)
		stream->ended = true;
	else
		start_item(stream, (const Tandem__Order__V1__StreamOrdersRequest *)message);
	read_more(stream);
	stream_leave(stream);
}

/* The client has gone. A pending read ends, too. */
static void on_cancel(struct rt_call *call, void *user)
{
	struct stream *stream = user;
	struct rt_list *link = stream->items.next;

	(void)call;
	stream->busy++;
	stream->paused = false;
	rt_call_on_drained(stream->call, NULL, NULL);
	if (!stream->reading)
		stream->ended = true;
	while (link != &stream->items) {
		struct stream_item *item = RT_CONTAINER_OF(link, struct stream_item, link);

		link = link->next;
		order_placing_answer_now(&item->placing);
	}
	stream_leave(stream);
}

ORDER_HANDLER(order_stream_orders, StreamOrders)
{
	struct stream *stream = rt_alloc(sizeof(*stream));

	(void)request;
	stream->order = RT_CONTAINER_OF(service, struct order, service);
	stream->closure = closure;
	stream->call = closure_data;
	stream->traceparent = rt_call_traceparent(stream->call);
	stream->tracestate = rt_call_tracestate(stream->call);
	rt_list_init(&stream->items);
	rt_call_on_cancel(stream->call, on_cancel, stream);
	read_more(stream);
}
