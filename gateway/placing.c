/* placing.c - sends each order to an instance of the order service, as an item on a stream that lasts as
 * long as the connection to it.
 *
 *   gateway_place           the order waits for the end of the turn
 *     send_gathered         all waiting orders leave in one message …
 *     answers_received      … and each is answered on its own: stored, or decided, or refused
 *   gateway_place_abandon   its caller has gone: do not send it, or do not wait for its decision
 *   stream_ended            orders sent and not answered fail; or are sent again, when the instance
 *                           says that it has not looked at them, or when they have a request_id and
 *                           another instance serves
 *
 * Of an order that was perhaps placed before, and dropped, the archive is asked (perhaps_dropped.c); then it waits again.
 *
 * There is one stream for each connection, opened when there is something to send. The next order goes to
 * an instance that stores none, or else to the one that owes the fewest answers, in turn among equals. A lone order leaves at the end of its turn.
 * While every instance is storing orders, new ones gather until one is done, or until half a message is
 * full: a few large messages cost the services less than many small ones. Orders that only wait for their
 * decision delay no others.
 *
 * gRPC reconnects by itself; while no instance is there, streams fail at once, with the orders on them. */
#include <string.h>

#include "access.h"
#include "check.h"
#include "gateway_internal.h"
#include "interpose/interpose.h"

/* A message that has reached this size is sent; far below the message limit of the order service. */
#define MESSAGE_BYTES (1024 * 1024)
#define METHOD_PLACE  0 /* the only one of PlacementService */

static void metric_add(struct rt_series *series, size_t by)
{
	if (series != NULL)
		rt_series_add(series, (double)by);
}

/* Enough waits for a message to a stream that is storing orders. */
static bool has_gathered(const struct gateway *gateway)
{
	return gateway->waiting_count >= RT_MAX((size_t)gateway->options.batch_max / 2, 1);
}

static bool may_send(const struct gateway *gateway)
{
	if (gateway->stopping || gateway->waiting_count == 0)
		return false;
	return gateway->storing_streams < gateway->stream_count || has_gathered(gateway);
}

static void send_soon(struct gateway *gateway)
{
	rt_loop_defer(gateway->loop, &gateway->send_task);
}

static void storing_begins(struct gateway_stream *stream)
{
	if (stream->storing_count++ == 0)
		stream->gateway->storing_streams++;
}

static void storing_ends(struct gateway_stream *stream)
{
	if (--stream->storing_count == 0)
		stream->gateway->storing_streams--;
}

/* ---- the end of an order ---- */

/* Counts one more order of its customer. False: there are too many on their way already. */
static bool customer_begins(struct gateway_placing *placing, struct rt_status *status)
{
	struct gateway *gateway = placing->gateway;
	const char *customer_id = rt_call_identity(placing->call)->owner;
	int64_t max = gateway->options.pending_per_caller;
	struct gateway_customer *customer;

	if (max == 0 || customer_id[0] == '\0')
		return true;
	HASH_FIND_STR(gateway->customers, customer_id, customer);
	if (customer == NULL) {
		customer = rt_alloc(sizeof(*customer) + strlen(customer_id) + 1);
		memcpy(customer->customer_id, customer_id, strlen(customer_id) + 1);
		HASH_ADD_STR(gateway->customers, customer_id, customer);
	}
	if (customer->placing_count >= (size_t)max) {
		metric_add(gateway->refused, 1);
		access_pending(status, max);
		return false;
	}
	customer->placing_count++;
	placing->customer = customer;
	return true;
}

static void customer_ends(struct gateway_placing *placing)
{
	struct gateway_customer *customer = RT_TAKE(placing->customer);

	if (customer == NULL || --customer->placing_count > 0)
		return;
	HASH_DEL(placing->gateway->customers, customer);
	free(customer);
}

/* Removes it from the list or table that holds it. */
static void placing_remove(struct gateway_placing *placing)
{
	struct gateway *gateway = placing->gateway;

	rt_timer_stop(gateway->loop, &placing->timer);
	switch (placing->stage) {
	case PLACING_WAITS:
		rt_list_remove(&placing->link);
		gateway->waiting_count--;
		break;
	case PLACING_SENT:
		HASH_DEL(placing->stream->sent, placing);
		if (!placing->wait_for_decision)
			storing_ends(placing->stream);
		break;
	case PLACING_ASKS:
		if (placing->question != NULL)
			gateway_question_abandon(placing->question);
		break;
	case PLACING_ENDS:
		rt_list_remove(&placing->link);
		break;
	}
	free(RT_TAKE(placing->owned));
	customer_ends(placing);
	gateway->placing_count--;
	if (may_send(gateway))
		send_soon(gateway);
}

/* ---- spans ---- */

static void begin_span(struct gateway_placing *placing)
{
	struct rt_span *span = &placing->span;

	rt_span_begin(span, RT_SPAN_ITEM_CALLED,
		      tandem__order__v1__placement_service__descriptor.name);
	span->method = tandem__order__v1__placement_service__descriptor.methods[METHOD_PLACE].name;
	span->number = placing->number;
	if (placing->cause != NULL && placing->cause->carried)
		rt_span_cause(span, placing->cause);
	rt_span_traceparent(span, placing->own_traceparent);
}

/* The id in a packed Order: its first field. "": there is none. */
static void read_order_id(const ProtobufCBinaryData *order, char order_id[RT_TRACE_SUBJECT])
{
	size_t length =
		order != NULL && order->len > 2 && order->data[0] == 10 ? order->data[1] : 0;

	if (length >= RT_TRACE_SUBJECT || length + 2 > (order != NULL ? order->len : 0))
		length = 0;
	if (length > 0)
		memcpy(order_id, order->data + 2, length);
	order_id[length] = '\0';
}

/* One of several orders of a call, in its own trace: that of the call is another, to which it has a link. */
static void end_linked(struct rt_span *span, struct rt_span *call)
{
	struct rt_span link;

	rt_span_begin_own(call);
	link = *call;
	link.kind = RT_SPAN_LINK;
	rt_span_end_linked(span, &link, 1);
}

/* Only now the order's id is known, and with it the trace, unless the caller had one. */
static void end_span(struct gateway_placing *placing, const ProtobufCBinaryData *order, int code)
{
	struct rt_span *span = &placing->span;
	char order_id[RT_TRACE_SUBJECT];

	if (span->kind == RT_SPAN_NONE)
		return;
	read_order_id(order, order_id);
	if (placing->is_call && placing->cause != NULL) {
		rt_span_concerns(placing->cause, order_id);
		rt_span_cause(span, placing->cause);
	} else {
		rt_span_concerns(span, order_id);
	}
	rt_span_code(span, code);
	if (span->sampled && placing->cause != NULL && !placing->is_call && !span->carried)
		end_linked(span, placing->cause);
	else
		rt_span_end(span);
	span->kind = RT_SPAN_NONE;
}

/* It ends without an answer. Where the caller began the trace, what the order service did with the order is below it. */
static void leave_span(struct gateway_placing *placing, int code)
{
	struct rt_span *span = &placing->span;

	if (span->kind != RT_SPAN_NONE && span->carried) {
		rt_span_code(span, code);
		rt_span_end(span);
	}
	span->kind = RT_SPAN_NONE;
}

static void placing_end(struct gateway_placing *placing, const ProtobufCBinaryData *order,
			const struct rt_status *status)
{
	placing_remove(placing);
	end_span(placing, order, status->code);
	placing->done(placing, order, status);
}

/* With a status that came from the order service. */
static void placing_refused(struct gateway_placing *placing, const struct rt_status *from)
{
	struct rt_status status = { 0 };

	gateway_status_copy(&status, from);
	placing_end(placing, NULL, &status);
	rt_status_done(&status);
}

static void placing_fail(struct gateway_placing *placing, int code, const char *message)
{
	struct rt_status status = { 0 };

	rt_status_set(&status, code, "%s", message);
	placing_refused(placing, &status);
	rt_status_done(&status);
}

/* Only for orders whose caller sets no deadline. */
static void timeout_passed(struct rt_timer *timer)
{
	placing_fail(RT_CONTAINER_OF(timer, struct gateway_placing, timer),
		     RT_CODE_DEADLINE_EXCEEDED, "the order service did not answer in time");
}

/* ---- answers ---- */

/* The archive has answered. */
static void archive_answered(struct gateway_placing *placing, const ProtobufCBinaryData *order,
			     const struct rt_status *status)
{
	struct gateway *gateway = placing->gateway;

	placing->question = NULL;
	if (order != NULL) {
		placing_end(placing, order, status);
	} else if (status->code != 0) {
		placing_refused(placing, status);
	} else if (gateway->stopping) {
		placing_fail(placing, RT_CODE_UNAVAILABLE, "the gateway is shutting down");
	} else {
		leave_span(placing, 0);
		placing->asked = true;
		placing->stage = PLACING_WAITS;
		rt_list_init(&placing->link);
		rt_list_push(&gateway->waiting, &placing->link);
		gateway->waiting_count++;
		if (may_send(gateway))
			send_soon(gateway);
	}
}

/* The order service does not know whether it was placed before. */
static void ask_archive(struct gateway_placing *placing,
			const Tandem__Order__V1__PerhapsDropped *perhaps)
{
	struct gateway *gateway = placing->gateway;

	if (gateway->options.archive == NULL) {
		placing_fail(
			placing, RT_CODE_UNAVAILABLE,
			"an order with this request_id may have been placed, and archived, and "
			"this gateway knows no archive");
		return;
	}
	HASH_DEL(placing->stream->sent, placing);
	if (!placing->wait_for_decision)
		storing_ends(placing->stream);
	placing->stage = PLACING_ASKS;
	placing->question = gateway_question_ask(placing, perhaps, archive_answered);
	if (may_send(gateway))
		send_soon(gateway);
}

static void end_answered(struct gateway_placing *placing,
			 const Tandem__Order__V1__PlacementAnswer *answer)
{
	static const struct rt_status ok;
	struct rt_status status = { 0 };

	switch (answer->result_case) {
	case TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ORDER:
		placing_end(placing, &answer->order, &ok);
		break;
	case TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ERROR:
		rt_status_from_proto(&status, answer->error);
		if (status.code == 0)
			rt_status_set(&status, RT_CODE_INTERNAL,
				      "the order service answered an error with code OK");
		placing_refused(placing, &status);
		rt_status_done(&status);
		break;
	case TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_PERHAPS_DROPPED:
		ask_archive(placing, answer->perhaps_dropped);
		break;
	case TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT__NOT_SET:
	default:
		placing_fail(placing, RT_CODE_INTERNAL, "the order service answered no order");
		break;
	}
}

static void answers_received(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct gateway_stream *stream = RT_CONTAINER_OF(op, struct gateway_stream, op);
	const Tandem__Order__V1__PlaceResponse *response = (const void *)message;

	if (response->load != NULL)
		gateway_shed_note(stream, response->load);
	if (response->n_answers > 1)
		rt_cork();
	for (size_t i = 0; i < response->n_answers; i++) {
		const Tandem__Order__V1__PlacementAnswer *answer = response->answers[i];
		struct gateway_placing *placing;

		HASH_FIND(hh, stream->sent, &answer->number, sizeof(answer->number), placing);
		if (placing != NULL) /* else it was abandoned */
			end_answered(placing, answer);
	}
	rt_uncork();
}

/* Puts these orders back, before those that wait. */
static void send_again(struct gateway *gateway, struct rt_list *unsent, size_t unsent_count)
{
	struct rt_list *link;

	while ((link = rt_list_pop(&gateway->waiting)) != NULL)
		rt_list_push(unsent, link);
	rt_list_move(&gateway->waiting, unsent);
	gateway->waiting_count += unsent_count;
	if (may_send(gateway))
		send_soon(gateway);
}

static bool is_usable(const struct gateway_stream *stream)
{
	const struct rt_channel *channel = stream->gateway->options.order_channel;

	return channel == NULL || rt_channel_usable(channel, stream->connection);
}

static bool another_serves(const struct gateway *gateway, const struct gateway_stream *stream)
{
	for (size_t i = 0; i < gateway->stream_count; i++)
		if (gateway->streams[i] != stream && is_usable(gateway->streams[i]))
			return true;
	return false;
}

/* Placed a second time it is found by its request_id. */
static bool is_repeatable(const struct gateway_placing *placing)
{
	gateway_place_request *request = tandem__order__v1__place_order_request__unpack(
		NULL, placing->request.len, placing->request.data);
	bool repeatable = request != NULL && request->request_id[0] != '\0';

	if (request != NULL)
		tandem__order__v1__place_order_request__free_unpacked(request, NULL);
	return repeatable;
}

static void stream_ended(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct gateway_stream *stream = RT_CONTAINER_OF(op, struct gateway_stream, op);
	struct gateway *gateway = stream->gateway;
	bool unseen = op->status.code == 0;
	bool elsewhere = another_serves(gateway, stream);
	struct gateway_placing *placing, *next;
	struct rt_list failed, unsent;
	struct rt_status status = { 0 };
	size_t unsent_count = 0;

	(void)response;
	stream->open = stream->leaving = false;
	gateway_shed_lost(stream);
	stream->cancelled_count = 0;
	rt_list_init(&failed);
	rt_list_init(&unsent);
	HASH_ITER (hh, stream->sent, placing, next) {
		HASH_DEL(stream->sent, placing);
		if (!placing->wait_for_decision)
			storing_ends(stream);
		rt_list_init(&placing->link);
		if (!placing->again && !gateway->stopping &&
		    (unseen || (elsewhere && is_repeatable(placing)))) {
			leave_span(placing, unseen ? RT_CODE_UNAVAILABLE : op->status.code);
			placing->again = true;
			placing->stage = PLACING_WAITS;
			rt_list_push(&unsent, &placing->link);
			unsent_count++;
		} else {
			placing->stage = PLACING_ENDS;
			rt_list_push(&failed, &placing->link);
		}
	}
	send_again(gateway, &unsent, unsent_count);
	if (unseen)
		rt_status_set(&status, RT_CODE_UNAVAILABLE, "the order service is shutting down");
	else
		rt_status_copy(&status, &op->status);
	/* The callback of one may abandon another. */
	while (!rt_list_empty(&failed))
		placing_refused(RT_CONTAINER_OF(failed.next, struct gateway_placing, link),
				&status);
	rt_status_done(&status);
	if (gateway->stopping)
		rt_loop_defer(gateway->loop, &gateway->stop_task);
}

static void stream_drained(struct rt_client_op *op)
{
	send_soon(RT_CONTAINER_OF(op, struct gateway_stream, op)->gateway);
}

/* The address of its instance is gone: what was sent is still answered. */
static void stream_leaves(struct rt_client_op *op)
{
	struct gateway_stream *stream = RT_CONTAINER_OF(op, struct gateway_stream, op);

	stream->leaving = true;
	rt_client_half_close(op);
}

/* ---- sending ---- */

/* There is one for each connection that the channel may have now. */
static void streams_follow(struct gateway *gateway)
{
	struct rt_channel *channel = gateway->options.order_channel;
	size_t wanted = channel == NULL ? (size_t)gateway->options.connections
					: (size_t)rt_channel_connections(channel);

	/* One stays when no address is known: it says so. */
	while (gateway->stream_count < RT_MAX(wanted, 1)) {
		struct gateway_stream *stream = rt_alloc(sizeof(*stream));

		stream->gateway = gateway;
		stream->connection = (int)gateway->stream_count + 1;
		gateway->streams = rt_grow(gateway->streams, gateway->stream_count,
					   &gateway->stream_capacity, sizeof(stream));
		gateway->streams[gateway->stream_count++] = stream;
	}
}

/* Does it owe less than another: is it idle, or else, are fewer orders on it? */
static bool owes_less(const struct gateway_stream *stream, const struct gateway_stream *than)
{
	bool idle = stream->storing_count == 0;

	if (idle != (than->storing_count == 0))
		return idle;
	return HASH_COUNT(stream->sent) < HASH_COUNT(than->sent);
}

/* The one that owes the least, of those that are usable, or of all; NULL: each has enough to send, or
 * leaves. */
static struct gateway_stream *least_loaded(const struct gateway *gateway, bool usable)
{
	struct gateway_stream *least = NULL;

	for (size_t i = 0; i < gateway->stream_count; i++) {
		struct gateway_stream *stream =
			gateway->streams[(gateway->turn + i) % gateway->stream_count];

		if (least != NULL && !owes_less(stream, least))
			continue;
		if (stream->leaving || (usable && !is_usable(stream)))
			continue;
		if (stream->open && rt_client_queued_bytes(&stream->op) > RT_CALL_QUEUE_MAX_BYTES)
			continue;
		least = stream;
	}
	return least;
}

/* The stream for the next message; NULL: it has to wait. */
static struct gateway_stream *next_stream(struct gateway *gateway)
{
	const struct rt_channel *channel = gateway->options.order_channel;
	bool usable =
		gateway->stream_count > 1 && (channel == NULL || rt_channel_usable(channel, 0));
	struct gateway_stream *stream = least_loaded(gateway, usable);

	if (stream == NULL || (stream->storing_count > 0 && !has_gathered(gateway)))
		return NULL;
	gateway->turn = (size_t)stream->connection;
	return stream;
}

static void stream_open(struct gateway_stream *stream)
{
	struct gateway *gateway = stream->gateway;

	if (stream->open)
		return;
	stream->op = (struct rt_client_op){
		.connection = stream->connection,
		.on_drained = stream_drained,
		.on_leave = stream_leaves,
		.on_message = answers_received,
		.done = stream_ended,
	};
	stream->open = true;
	rt_client_start(gateway->options.placement, METHOD_PLACE, NULL, &stream->op);
}

/* Makes an item of the first waiting order and marks it as sent. False: its deadline has passed, and
 * it has failed. */
static bool take_waiting(struct gateway_stream *stream, Tandem__Order__V1__PlacementItem *item,
			 size_t *bytes)
{
	struct gateway *gateway = stream->gateway;
	struct gateway_placing *placing =
		RT_CONTAINER_OF(gateway->waiting.next, struct gateway_placing, link);
	int64_t left_ms = placing->deadline_ms - rt_loop_now(gateway->loop);

	if (left_ms <= 0) {
		placing_fail(placing, RT_CODE_DEADLINE_EXCEEDED,
			     "the deadline passed before the order could be sent");
		return false;
	}
	rt_list_remove(&placing->link);
	gateway->waiting_count--;
	placing->stage = PLACING_SENT;
	placing->stream = stream;
	placing->number = ++gateway->number;
	HASH_ADD(hh, stream->sent, number, sizeof(placing->number), placing);
	if (!placing->wait_for_decision)
		storing_begins(stream);
	tandem__order__v1__placement_item__init(item);
	item->number = placing->number;
	item->request = placing->request;
	item->timeout_ms = left_ms;
	item->asked = placing->asked;
	if (placing->wait_for_decision && placing->wait_max_ms > 0)
		item->timeout_ms = RT_MIN(left_ms, placing->wait_max_ms);
	if (rt_tracing)
		begin_span(placing);
	item->traceparent =
		rt_tracing ? placing->own_traceparent : (char *)(uintptr_t)placing->traceparent;
	item->tracestate = (char *)(uintptr_t)placing->tracestate;
	if (placing->customer != NULL)
		item->pending_max = (uint32_t)gateway->options.pending_per_caller;
	if (placing->actor != NULL)
		item->actor = (char *)(uintptr_t)placing->actor;
	*bytes += placing->request.len;
	return true;
}

/* Sends at most `items_max` orders, and the numbers of those that were cancelled. */
static void send_message(struct gateway_stream *stream, size_t items_max)
{
	struct gateway *gateway = stream->gateway;
	Tandem__Order__V1__PlaceRequest request = TANDEM__ORDER__V1__PLACE_REQUEST__INIT;
	size_t bytes = 0;

	while (!rt_list_empty(&gateway->waiting) && request.n_items < items_max &&
	       bytes < MESSAGE_BYTES) {
		Tandem__Order__V1__PlacementItem *item = &gateway->items[request.n_items];

		if (!take_waiting(stream, item, &bytes))
			continue;
		gateway->item_list[request.n_items++] = item;
	}
	request.items = gateway->item_list;
	request.n_cancelled_numbers = stream->cancelled_count;
	request.cancelled_numbers = stream->cancelled;
	stream->cancelled_count = 0;
	if (request.n_items > 0) {
		metric_add(gateway->batches, 1);
		metric_add(gateway->batch_items, request.n_items);
		stream_open(stream);
	} else if (request.n_cancelled_numbers == 0) {
		return;
	}
	rt_client_send(&stream->op, &request.base);
}

static void send_gathered(struct rt_task *task)
{
	struct gateway *gateway = RT_CONTAINER_OF(task, struct gateway, send_task);

	streams_follow(gateway);
	while (may_send(gateway)) {
		struct gateway_stream *stream = next_stream(gateway);

		if (stream == NULL)
			break; /* until one has drained, or is idle */
		send_message(stream, (size_t)gateway->options.batch_max);
	}
	for (size_t i = 0; i < gateway->stream_count; i++) {
		struct gateway_stream *stream = gateway->streams[i];

		if (stream->cancelled_count > 0)
			send_message(stream, 0);
	}
}

/* ---- what the RPCs call ---- */

/* The order has passed its checks, and waits from now on. False: *status says why not. */
static bool placing_start(struct gateway *gateway, struct gateway_placing *placing,
			  struct rt_status *status)
{
	int64_t left_ms = placing->remaining_ms;

	if (placing->request.len > GATEWAY_ORDER_MAX_BYTES) {
		rt_status_set(status, RT_CODE_INVALID_ARGUMENT,
			      "the order is larger than %d bytes: it has unknown fields",
			      GATEWAY_ORDER_MAX_BYTES);
		rt_status_info(status, "LIMIT_BROKEN");
		return false;
	}
	if (gateway->stopping) {
		rt_status_set(status, RT_CODE_UNAVAILABLE, "the gateway is shutting down");
		rt_status_retry(status, GATEWAY_RETRY_MS);
		return false;
	}
	if (gateway->placing_count >= (size_t)gateway->options.orders_max) {
		metric_add(gateway->refused, 1);
		rt_status_from(status, RT_BUSY, "placing the order");
		return false;
	}
	placing->gateway = gateway;
	placing->cause = rt_call_span(placing->call);
	if (!gateway_shed_admits(gateway, status) || !customer_begins(placing, status))
		return false;
	if (left_ms == INT64_MAX) {
		left_ms = gateway->options.timeout_ms;
		rt_timer_start(gateway->loop, &placing->timer, left_ms, timeout_passed);
	}
	placing->deadline_ms = rt_loop_now(gateway->loop) + left_ms;
	placing->stage = PLACING_WAITS;
	rt_list_init(&placing->link);
	rt_list_push(&gateway->waiting, &placing->link);
	gateway->waiting_count++;
	gateway->placing_count++;
	if (may_send(gateway))
		send_soon(gateway);
	return true;
}

bool gateway_place_call(struct gateway *gateway, struct gateway_placing *placing,
			struct rt_call *call, struct rt_status *status)
{
	const gateway_place_request *request;

	placing->call = call;
	placing->request = rt_call_request(call);
	if (rt_call_identity(call)->owner[0] != '\0' ||
	    !check_packed_order(placing->request.data, placing->request.len,
				&placing->wait_for_decision)) {
		request = (const void *)rt_call_unpack(
			call, &tandem__order__v1__place_order_request__descriptor, status);
		if (request == NULL || !check_request(&request->base, status) ||
		    !access_customer(call, request->customer_id, status))
			return false;
		placing->wait_for_decision = request->wait_for_decision;
	}
	return placing_start(gateway, placing, status);
}

bool gateway_place(struct gateway *gateway, struct gateway_placing *placing,
		   const gateway_place_request *request, struct rt_status *status)
{
	size_t length;

	if (!check_request(&request->base, status) ||
	    !access_customer(placing->call, request->customer_id, status))
		return false;
	length = tandem__order__v1__place_order_request__get_packed_size(request);
	placing->owned = rt_alloc(length);
	placing->request = (ProtobufCBinaryData){ length, placing->owned };
	tandem__order__v1__place_order_request__pack(request, placing->owned);
	placing->wait_for_decision = request->wait_for_decision;
	if (placing_start(gateway, placing, status))
		return true;
	free(RT_TAKE(placing->owned));
	return false;
}

static void note_cancelled(struct gateway_stream *stream, uint64_t number)
{
	stream->cancelled = rt_grow(stream->cancelled, stream->cancelled_count,
				    &stream->cancelled_capacity, sizeof(*stream->cancelled));
	stream->cancelled[stream->cancelled_count++] = number;
	send_soon(stream->gateway);
}

void gateway_place_abandon(struct gateway_placing *placing)
{
	if (placing->stage == PLACING_SENT && placing->wait_for_decision)
		note_cancelled(placing->stream, placing->number);
	placing_remove(placing);
	leave_span(placing, RT_CODE_CANCELLED);
}

/* ---- making and ending the streams ---- */

void gateway_streams_new(struct gateway *gateway)
{
	size_t batch_max = (size_t)gateway->options.batch_max;

	gateway->send_task.run = send_gathered;
	rt_list_init(&gateway->waiting);
	gateway->items = rt_alloc(batch_max * sizeof(*gateway->items));
	gateway->item_list = rt_alloc(batch_max * sizeof(*gateway->item_list));
	streams_follow(gateway);
}

bool gateway_streams_close(struct gateway *gateway)
{
	bool closed = true;

	while (!rt_list_empty(&gateway->waiting))
		placing_fail(RT_CONTAINER_OF(gateway->waiting.next, struct gateway_placing, link),
			     RT_CODE_UNAVAILABLE, "the gateway is shutting down");
	for (size_t i = 0; i < gateway->stream_count; i++) {
		if (!gateway->streams[i]->open)
			continue;
		rt_client_cancel(&gateway->streams[i]->op);
		closed = false;
	}
	return closed && !gateway->send_task.queued;
}

void gateway_streams_free(struct gateway *gateway)
{
	for (size_t i = 0; i < gateway->stream_count; i++) {
		free(gateway->streams[i]->cancelled);
		free(gateway->streams[i]);
	}
	free(gateway->streams);
	free(gateway->items);
	free(gateway->item_list);
}
