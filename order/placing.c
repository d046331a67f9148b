/* placing.c - stores one order, and waits for its decision if asked to.
 *
 *   order_placing_start     checks, packs, makes the id; adds the waiter
 *     order_stored          stored, or found, or refused
 *       on_moved            it left PENDING, according to the answer to an own move
 *       on_order            … or according to a read
 *       time_is_up          it is answered as it is
 *         finish            the only exit
 *
 * The waiter is added before storing, so that it cannot miss the decision. */
#include <stdio.h>
#include <string.h>

#include "access.h"
#include "check.h"
#include "order/order_internal.h"

/* How long an answer may wait for a decision: a little less than the caller waits, so that the answer
 * still arrives. */
static int64_t wait_ms(int64_t remaining_ms, int64_t max_ms)
{
	if (remaining_ms == INT64_MAX)
		return max_ms;
	/* Time for the way back; and gRPC sends a deadline as two or three digits, rounded up, so
	 * that the one that arrives can be 1 % too late. */
	remaining_ms -= RT_MIN(remaining_ms / 10, 50 + remaining_ms / 100);
	return RT_MAX(0, RT_MIN(remaining_ms, max_ms));
}

static void finish(struct order_placing *placing)
{
	struct order *order = placing->order;

	rt_timer_stop(order->loop, &placing->timer);
	order_watch_remove(order->partitions[placing->op.partition].watch, &placing->waiter);
	placing->waiting = false;
	placing->done(placing);
	order_call_end(order);
}

/* The record as an Order, with the id and content of this placing. */
static Tandem__Order__V1__Order *view(struct order_placing *placing,
				      const struct order_record *record)
{
	struct order_record known = *record;
	Tandem__Order__V1__Order *order;

	known.order_id = placing->order_id;
	order = order_view(placing->arena, &known, placing->content, 0);
	/* The size of an answer to placing is known before (check_result_max). */
	if (order != NULL)
		order->n_returns = 0;
	return order;
}

static void on_order(struct order_waiter *waiter, const struct order_record *record)
{
	struct order_placing *placing = RT_CONTAINER_OF(waiter, struct order_placing, waiter);
	Tandem__Order__V1__Order *order;

	/* NULL: it is not stored yet. While the store has not answered the placing, its answer comes
	 * later than this one, so it is at least as new. */
	if (!placing->waiting || record == NULL || record->state == ORDER_PENDING)
		return;
	order = view(placing, record);
	if (order == NULL)
		return;
	placing->result = order;
	finish(placing);
}

/* The placing's own data and the move make a complete record. */
static void on_moved(struct order_waiter *waiter, const struct order_move_op *move)
{
	const struct order_place_op *op =
		&RT_CONTAINER_OF(waiter, struct order_placing, waiter)->op;
	const struct order_record record = {
		.state = move->state,
		.version = move->version,
		.placed = op->placed,
		.placed_length = op->placed_length,
		.detail = move->data,
		.detail_length = move->data_length,
		.hold_ms = op->hold_ms,
		.history = move->history,
	};

	on_order(waiter, &record);
}

void order_placing_answer_now(struct order_placing *placing)
{
	placing->wait = false;
	if (placing->waiting)
		finish(placing);
}

static void time_is_up(struct rt_timer *timer)
{
	order_placing_answer_now(RT_CONTAINER_OF(timer, struct order_placing, timer));
}

static void on_stop(struct order_waiter *waiter)
{
	struct order_placing *placing = RT_CONTAINER_OF(waiter, struct order_placing, waiter);

	order_watch_remove(placing->order->partitions[placing->op.partition].watch, waiter);
	order_placing_answer_now(placing);
}

static void conflict(struct order_placing *placing)
{
	rt_status_set(&placing->status, RT_CODE_ALREADY_EXISTS,
		      "request_id was used before, with other content: use a new one");
	rt_status_info(&placing->status, "REQUEST_ID_REUSED");
}

/* For callers who cannot ask the archive. */
static void perhaps_dropped(struct order_placing *placing, const char *order_id)
{
	snprintf(placing->order_id, sizeof(placing->order_id), "%s", order_id);
	placing->perhaps_dropped = true;
	rt_status_set(&placing->status, RT_CODE_FAILED_PRECONDITION,
		      "an order with this request_id may be in the archive: place it through the "
		      "gateway, which asks there");
	rt_status_info(&placing->status, "REQUEST_ID_PERHAPS_ARCHIVED");
}

/* What the function call has done. */
static void note_span(struct rt_span *span, const struct order_place_op *op, int status)
{
	rt_span_stored(span);
	if (status != RT_OK || op->outcome != ORDER_PLACED)
		return;
	span->published = (struct rt_span_event){ .context = "order",
						  .type = order_event_type(ORDER_EV_PLACED),
						  .partition = op->partition,
						  .attempt = 1,
						  .seq = 1 };
}

static void order_stored(struct order_place_op *op, int status)
{
	struct order_placing *placing = RT_CONTAINER_OF(op, struct order_placing, op);
	struct order_counts *counts = &placing->order->counts;

	if (placing->span != NULL)
		note_span(placing->span, op, status);
	order_load_end(placing->order->load, op->partition);
	if (status == RT_FULL && op->stream_full) {
		order_status_stream_full(&placing->status, placing->order);
		finish(placing);
		return;
	}
	if (status != RT_OK) {
		rt_status_from(&placing->status, status, "storing the order");
		finish(placing);
		return;
	}
	order_count(op->outcome == ORDER_PLACED          ? counts->placed
		    : op->outcome == ORDER_PLACED_BEFORE ? counts->placed_before
		    : op->outcome == ORDER_CONFLICT      ? counts->conflicts
		    : op->outcome == ORDER_TOO_MANY      ? counts->too_many
							 : counts->perhaps_dropped,
		    1);
	if (op->outcome == ORDER_TOO_MANY) {
		access_pending(&placing->status, op->pending_max);
		finish(placing);
		return;
	}
	if (op->outcome == ORDER_PERHAPS_DROPPED) {
		perhaps_dropped(placing, op->earlier_id);
		finish(placing);
		return;
	}
	if (op->outcome == ORDER_CONFLICT) {
		conflict(placing);
		finish(placing);
		return;
	}
	if (op->earlier_id != NULL)
		snprintf(placing->order_id, sizeof(placing->order_id), "%s", op->earlier_id);
	placing->result = view(placing, &op->record);
	if (placing->result == NULL) {
		order_status_damaged(&placing->status, placing->order_id);
		finish(placing);
	} else if (placing->wait && placing->waiter.node != NULL && op->earlier_id == NULL &&
		   op->record.state == ORDER_PENDING) {
		placing->waiting = true;
		if (placing->span != NULL)
			placing->span->waited = true;
	} else {
		finish(placing);
	}
}

static void new_id(struct order_placing *placing, int64_t now_ms)
{
	struct order *order = placing->order;

	if (order->random_left < 10) {
		rt_loop_random_bytes(order->loop, order->random, sizeof(order->random));
		order->random_left = sizeof(order->random);
	}
	order->random_left -= 10;
	order_id_new(now_ms, order->random + order->random_left, placing->order_id);
	placing->op.fresh = true;
}

/* The order's id and its partition. */
static void name_order(struct order_placing *placing, int64_t now_ms)
{
	const struct order *order = placing->order;
	const char *customer_id = placing->request->customer_id;
	unsigned int bucket;

	if (placing->request->request_id[0] != '\0')
		order_id_of_request(customer_id, placing->request->request_id, placing->order_id);
	else
		new_id(placing, now_ms);
	if (order->partition_count == 1)
		return;
	bucket = rt_bucket(customer_id, strlen(customer_id));
	order_id_put_bucket(bucket, placing->order_id);
	placing->op.partition = rt_bucket_partition(bucket, order->partition_count);
}

/* Makes the content from the bytes that are stored, so that the request may go. */
static void detach(struct order_placing *placing)
{
	Tandem__Order__V1__OrderPlaced *copy = tandem__order__v1__order_placed__unpack(
		rt_arena_allocator(placing->arena), placing->op.placed_length, placing->op.placed);

	/* We packed these bytes ourselves: unpacking cannot fail. */
	placing->content = copy->content;
	placing->request = NULL;
}

bool order_placing_start(struct order_placing *placing)
{
	struct order *order = placing->order;
	int64_t now_ms = rt_loop_unix_ms(order->loop);
	Tandem__Order__V1__OrderPlaced message = TANDEM__ORDER__V1__ORDER_PLACED__INIT;
	struct order_place_op *op = &placing->op;

	if (placing->request == NULL) {
		rt_status_set(&placing->status, RT_CODE_INVALID_ARGUMENT, "request is missing");
		rt_status_info(&placing->status, "LIMIT_BROKEN");
		rt_status_violation(&placing->status, "request", "is missing");
		return false;
	}
	if (!placing->checked && !check_request(&placing->request->base, &placing->status))
		return false;
	if (placing->call != NULL &&
	    !access_customer(placing->call, placing->request->customer_id, &placing->status))
		return false;
	if (order->context->stopping) {
		order_status_stopping(&placing->status);
		return false;
	}
	placing->wait = placing->request->wait_for_decision;
	placing->content = order_content(placing->arena, placing->request);
	message.content = placing->content;
	op->placed = order_pack(placing->arena, &message.base, &op->placed_length);
	name_order(placing, now_ms);
	if (placing->detach)
		detach(placing);
	op->order_id = placing->order_id;
	op->customer_id = placing->content->customer_id;
	op->hold_ms = order_hold_ms(placing->content);
	op->now_ms = now_ms;
	op->retry_due_ms =
		RT_MIN(order_retry_at(order, now_ms, 1), now_ms + order->clock.decision_ms);
	if (placing->span != NULL)
		rt_span_order(placing->span, placing->order_id);
	op->traceparent =
		order_traceparent(placing->span, placing->traceparent, placing->own_traceparent);
	op->tracestate = placing->tracestate;
	op->pending_max = placing->pending_max;
	op->asked = placing->asked;
	op->actor = placing->actor;
	op->done = order_stored;
	placing->waiter.on_order = on_order;
	placing->waiter.on_moved = on_moved;
	placing->waiter.on_stop = on_stop;
	/* Too many wait already: answer without waiting. */
	if (placing->wait) {
		order_watch_add(order->partitions[op->partition].watch, &placing->waiter,
				placing->order_id, 1, false);
		rt_timer_start(order->loop, &placing->timer,
			       wait_ms(placing->remaining_ms, placing->wait_max_ms), time_is_up);
	}
	order_call_begin(order);
	order_load_begin(order->load, op->partition);
	order_store_place(order->store, op);
	return true;
}

void order_placing_done(struct order_placing *placing)
{
	rt_status_done(&placing->status);
}

void order_placing_result(const struct order_placing *placing,
			  Tandem__Order__V1__PlaceOrderResult *ret)
{
	tandem__order__v1__place_order_result__init(ret);
	if (placing->status.code == 0) {
		ret->result_case = TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER;
		ret->order = placing->result;
	} else {
		ret->result_case = TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ERROR;
		ret->error = rt_status_to_proto(&placing->status);
	}
}

void order_result_done(Tandem__Order__V1__PlaceOrderResult *result)
{
	if (result->result_case == TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ERROR)
		google__rpc__status__free_unpacked(result->error, NULL);
}
