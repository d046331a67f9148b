/* moving.c - a move that a client asks for, for the RPCs that confirm, cancel or extend, one order or many.
 *
 *   order_moving_start      whose order is it, and where?
 *     partition_found       → store->move, with those of this turn of the loop
 *       move_stored         done: the order after it, or why not
 *
 *   order_move_one          the same for a call that is about one order, and answers with it
 *     one_moved             the answer */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "order/order_internal.h"

#define NOT_SETTLED_RETRY_MS 200

/* ---- errors ---- */

static void precondition(const struct order_move_op *op, struct rt_status *status, const char *what,
			 const char *text)
{
	rt_status_set(status, RT_CODE_FAILED_PRECONDITION, "%s", text);
	rt_status_info(status, what);
	rt_status_precondition(status, what, op->order_id, text);
}

static void refused(const struct order_move_op *op, struct rt_status *status)
{
	static const struct {
		const char *which, *may;
	} moves[ORDER_INPUT_COUNT] = {
		[ORDER_IN_CONFIRM] = { "a RESERVED order", "be confirmed" },
		[ORDER_IN_CANCEL] = { "a PENDING or RESERVED order", "be cancelled" },
		[ORDER_IN_EXTEND] = { "a RESERVED order", "be held longer" },
		[ORDER_IN_RETURN] = { "a CONFIRMED order", "come back" },
	};
	char *text;

	if (op->input == ORDER_IN_RETURN && op->state == ORDER_CONFIRMING) {
		rt_status_set(status, RT_CODE_UNAVAILABLE,
			      "the sale of order %s is not settled yet: try again", op->order_id);
		rt_status_info(status, "NOT_SETTLED");
		rt_status_retry(status, NOT_SETTLED_RETRY_MS);
		return;
	}
	text = rt_printf("order %s is %s: only %s can %s", op->order_id,
			 order_state_status(op->state), moves[op->input].which,
			 moves[op->input].may);

	precondition(op, status, "ORDER_STATUS", text);
	free(text);
}

static void beyond(const struct order_move_op *op, struct rt_status *status)
{
	char *text = rt_printf("the hold of order %s cannot be extended so: it lasts %" PRId64
			       " s in all at most, and is extended %d times at most",
			       op->order_id, op->hold_max_ms / 1000, ORDER_EXTENSIONS_MAX);

	precondition(op, status, "HOLD_LIMIT", text);
	free(text);
}

/* True when the move was done; else false, and the status says why not. */
static bool move_status(const struct order_move_op *op, int rc, struct rt_status *status)
{
	if (rc != RT_OK) {
		rt_status_from(status, rc, "moving the order");
		return false;
	}
	switch (op->outcome) {
	case ORDER_MOVED:
	case ORDER_STAYED:
		return true;
	case ORDER_REFUSED:
		refused(op, status);
		return false;
	case ORDER_BEYOND:
		beyond(op, status);
		return false;
	case ORDER_MISMATCH:
		rt_status_set(status, RT_CODE_ABORTED,
			      "order %s is at version %" PRIu64 ", not at %" PRIu64
			      ": read it again",
			      op->order_id, op->version, op->expected_version);
		rt_status_info(status, "VERSION_MISMATCH");
		return false;
	case ORDER_UNKNOWN:
	case ORDER_GONE:
		break;
	}
	order_status_not_found(status, op->order_id);
	return false;
}

/* ---- a move ---- */

static void moving_ended(struct order_moving *moving, int rc)
{
	struct order *order = moving->order;

	if (move_status(&moving->op, rc, &moving->status)) {
		moving->result = order_view(moving->arena, &moving->op.record, NULL, 0);
		if (moving->result == NULL)
			order_status_damaged(&moving->status, moving->op.order_id);
	}
	moving->done(moving);
	order_call_end(order);
}

static void move_stored(struct order_move_op *op, int rc)
{
	struct order_moving *moving = RT_CONTAINER_OF(op, struct order_moving, op);

	order_moved(moving->order, op, rc);
	moving_ended(moving, rc);
}

static void partition_found(void *user, int status, int partition)
{
	struct order_moving *moving = user;

	moving->op.partition = partition;
	moving->op.outcome = ORDER_UNKNOWN;
	if (partition >= 0)
		order_move(moving->order, &moving->op);
	else
		moving_ended(moving, status);
}

void order_moving_start(struct order_moving *moving)
{
	struct order *order = moving->order;
	struct order_move_op *op = &moving->op;

	op->now_ms = rt_loop_unix_ms(order->loop);
	op->retry_due_ms = order_retry_at(order, op->now_ms, 1);
	op->traceparent = order_traceparent(op->span, rt_call_traceparent(moving->call),
					    moving->own_traceparent);
	op->tracestate = rt_call_tracestate(moving->call);
	op->actor = rt_call_actor(moving->call);
	op->want_record = true;
	op->done = move_stored;
	order_call_begin(order);
	if (moving->found)
		order_move(order, op);
	else
		order_find(order, moving->call, op->order_id, partition_found, moving);
}

void order_moving_confirm(struct order_moving *moving,
			  const Tandem__Order__V1__ConfirmOrderRequest *request)
{
	moving->op.order_id = request->order_id;
	moving->op.input = ORDER_IN_CONFIRM;
	moving->op.expected_version = request->expected_version;
}

void order_moving_cancel(struct order_moving *moving,
			 const Tandem__Order__V1__CancelOrderRequest *request)
{
	Tandem__Order__V1__OrderCancelled event = TANDEM__ORDER__V1__ORDER_CANCELLED__INIT;

	event.reason = request->reason;
	order_moving_data(moving, &event.base);
	moving->op.order_id = request->order_id;
	moving->op.input = ORDER_IN_CANCEL;
	moving->op.expected_version = request->expected_version;
}

void order_moving_data(struct order_moving *moving, const ProtobufCMessage *event)
{
	moving->op.data = order_pack(moving->arena, event, &moving->op.data_length);
}

/* ---- a call about one order ---- */

struct one {
	struct order_moving moving;
	struct rt_arena arena;
	ProtobufCClosure closure;
	const ProtobufCMessageDescriptor *response;
};

static void one_moved(struct order_moving *moving)
{
	struct one *one = RT_CONTAINER_OF(moving, struct one, moving);
	/* Each such response has the one field. */
	Tandem__Order__V1__GetOrderResponse response = { .base = PROTOBUF_C_MESSAGE_INIT(
								 one->response) };

	if (moving->result != NULL) {
		response.order = moving->result;
		one->closure(&response.base, moving->call);
	} else {
		order_fail(moving->call, &moving->status);
	}
	rt_arena_done(&one->arena);
	free(one);
}

struct order_moving *order_move_one(struct order *order, struct rt_call *call,
				    ProtobufCClosure closure,
				    const ProtobufCMessageDescriptor *response)
{
	struct one *one = rt_alloc(sizeof(*one));

	one->closure = closure;
	one->response = response;
	one->moving.order = order;
	one->moving.call = call;
	one->moving.arena = &one->arena;
	one->moving.op.span = rt_call_span(call);
	one->moving.done = one_moved;
	return &one->moving;
}
