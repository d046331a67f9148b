/* common.c - helpers of several RPCs: a call's metadata, common errors, what a move counts for, answering with one
 * order. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "order/order_internal.h"

static bool partition_problem(const struct order *order, const struct rt_trim_op *trim, char *text,
			      size_t size)
{
	size_t length;

	if (trim->memory_full) {
		snprintf(text, size, "Redis has reached its maxmemory: no order can be stored");
		return true;
	}
	if (order->stream_length_max == 0 || trim->length < order->stream_length_max)
		return false;
	length = (size_t)snprintf(text, size,
				  "the event stream of orders has reached its limit of %" PRId64
				  " events",
				  order->stream_length_max);
	if (trim->held > 0 && length < size)
		snprintf(text + length, size - length,
			 ": consumer group %s has not acknowledged %" PRId64 " of them",
			 trim->holder, trim->held);
	return true;
}

bool order_storage_problem(const void *data, char *text, size_t size)
{
	const struct order *order = data;

	for (int p = 0; p < order->partition_count; p++)
		if (partition_problem(order, &order->context->partitions[p].trim, text, size))
			return true;
	return false;
}

/* Counts the move when it was a decision. */
static void count_decision(struct order *order, const struct order_move_op *op)
{
	bool rejected = op->state == ORDER_REJECTED || op->state == ORDER_REJECTING;

	if (op->outcome != ORDER_MOVED || op->input == ORDER_IN_REQUEST_UNANSWERED ||
	    op->input == ORDER_IN_EXTEND || op->input == ORDER_IN_RETURN)
		return;
	if (rejected && op->input != ORDER_IN_INVENTORY_UNAVAILABLE)
		return; /* already decided */
	order_count(order->counts.decided[op->state], 1);
	if (order->counts.decision_seconds != NULL &&
	    (op->input == ORDER_IN_INVENTORY_RESERVED ||
	     op->input == ORDER_IN_INVENTORY_UNAVAILABLE) &&
	    (op->state == ORDER_RESERVED || op->state == ORDER_REJECTED))
		rt_series_observe(order->counts.decision_seconds, (double)op->age_ms / 1000);
}

static void count_settled(struct order *order, const struct order_move_op *op)
{
	struct rt_series *seconds = order->counts.settled_seconds[op->state];

	if (op->input == ORDER_IN_INVENTORY_RETURNED)
		return; /* it was settled before */
	if (seconds != NULL && op->outcome == ORDER_MOVED)
		rt_series_observe(seconds, (double)op->age_ms / 1000);
}

void order_move(struct order *order, struct order_move_op *op)
{
	op->want_history = order_watch_has(order->partitions[op->partition].watch, op->order_id);
	order_store_move(order->store, op);
}

/* Which event a move published. */
static enum order_event published_by(const struct order_move_op *op)
{
	for (enum order_state from = 0; from < ORDER_STATE_COUNT; from++) {
		const struct order_rule *rule = order_rule(from, op->input);

		if (rule->verdict == ORDER_MOVES && rule->to == op->state)
			return rule->event;
		if (rule->verdict == ORDER_AGAIN && from == op->state)
			return rule->event;
	}
	return ORDER_EV_NOTHING;
}

/* What the function call has done, for the span of what moves the order. */
static void note_span(const struct order_move_op *op, int status)
{
	struct rt_span *span = op->span;

	rt_span_stored(span);
	if (status != RT_OK || op->outcome != ORDER_MOVED)
		return;
	span->published.context = "order";
	span->published.type = order_event_type(published_by(op));
	span->published.partition = op->partition;
	span->published.seq = op->version;
	if (op->input == ORDER_IN_REQUEST_UNANSWERED || op->input == ORDER_IN_INVENTORY_COMMITTED ||
	    op->input == ORDER_IN_INVENTORY_RELEASED || op->input == ORDER_IN_EXTEND ||
	    op->input == ORDER_IN_INVENTORY_RETURNED || op->input == ORDER_IN_RETURN)
		return;
	span->decision = order_state_status(op->state);
	if (op->input == ORDER_IN_INVENTORY_RESERVED || op->input == ORDER_IN_INVENTORY_UNAVAILABLE)
		span->age_ms = op->age_ms;
}

void order_moved(struct order *order, const struct order_move_op *op, int status)
{
	if (op->span != NULL)
		note_span(op, status);
	if (status != RT_OK || op->outcome == ORDER_UNKNOWN || op->outcome == ORDER_GONE)
		return;
	count_decision(order, op);
	count_settled(order, op);
	if (op->outcome == ORDER_MOVED && op->input != ORDER_IN_REQUEST_UNANSWERED)
		order_unanswered_moved(&order->partitions[op->partition].unanswered, op->order_id);
	order_watch_moved(order->partitions[op->partition].watch, op);
}

const char *order_traceparent(const struct rt_span *span, const char *came,
			      char text[RT_TRACEPARENT_TEXT])
{
	if (span == NULL)
		return came;
	rt_span_traceparent(span, text);
	return text;
}

int64_t order_retry_at(struct order *order, int64_t now_ms, uint32_t attempt)
{
	return order_retry_due(now_ms, attempt, order->clock.retry_min_ms,
			       order->clock.retry_max_ms,
			       (uint32_t)rt_loop_random(order->loop, 1000));
}

void order_status_not_found(struct rt_status *status, const char *order_id)
{
	rt_status_set(status, RT_CODE_NOT_FOUND, "there is no order %s", order_id);
	rt_status_info(status, "ORDER_NOT_FOUND");
}

void order_status_damaged(struct rt_status *status, const char *order_id)
{
	rt_status_set(status, RT_CODE_DATA_LOSS,
		      "the stored order %s cannot be read: ask an operator", order_id);
	rt_status_info(status, "ORDER_DAMAGED");
}

void order_status_stopping(struct rt_status *status)
{
	rt_status_set(status, RT_CODE_UNAVAILABLE, "the order service is stopping: try again");
	rt_status_info(status, "STOPPING");
	rt_status_retry(status, 1000);
}

void order_status_stream_full(struct rt_status *status, const struct order *order)
{
	char text[200];

	/* The stream may have come to its limit since the last trim. */
	if (!order_storage_problem(order, text, sizeof(text)))
		snprintf(text, sizeof(text),
			 "the event stream of orders has reached its limit of %" PRId64 " events",
			 order->stream_length_max);
	rt_status_set(status, RT_CODE_RESOURCE_EXHAUSTED, "%s", text);
	rt_status_info(status, "STREAM_FULL");
	rt_status_retry(status, order->context->trim_every_ms);
}

void order_fail(struct rt_call *call, struct rt_status *status)
{
	rt_call_fail(call, status);
	rt_status_done(status);
}

bool order_check_one(struct order *order, struct rt_call *call, const ProtobufCMessage *request,
		     const char *order_id)
{
	struct rt_status status = { .code = 0 };

	if (rt_call_span(call) != NULL)
		rt_span_order(rt_call_span(call), order_id);
	if (check_request(request, &status)) {
		/* Not a valid id: no order can have it. */
		if (!check_order_id(order_id))
			order_status_not_found(&status, order_id);
		else if (order->context->stopping)
			order_status_stopping(&status);
		else
			return true;
	}
	order_fail(call, &status);
	return false;
}

void order_answer(struct rt_call *call, ProtobufCClosure closure,
		  const ProtobufCMessageDescriptor *response, const struct order_record *record)
{
	/* Each such response has the one field. */
	Tandem__Order__V1__GetOrderResponse answer = { .base = PROTOBUF_C_MESSAGE_INIT(response) };
	struct rt_arena arena = { .chunks = NULL };
	struct rt_status status = { .code = 0 };

	answer.order = order_view(&arena, record, NULL, 0);
	if (answer.order != NULL) {
		closure(&answer.base, call);
	} else {
		order_status_damaged(&status, record->order_id);
		order_fail(call, &status);
	}
	rt_arena_done(&arena);
}
