/* cancel_order.c - CancelOrder: calls a PENDING or RESERVED order off. */
#include "order/order_internal.h"

struct cancel_order {
	struct order *order;
	struct order_move_op op;
	struct rt_arena arena;
	Tandem__Order__V1__CancelOrderResponse_Closure closure;
	struct rt_call *call;
};

static void move_stored(struct order_move_op *op, int rc)
{
	struct cancel_order *cancel = RT_CONTAINER_OF(op, struct cancel_order, op);
	struct order *order = cancel->order;
	Tandem__Order__V1__CancelOrderResponse response =
		TANDEM__ORDER__V1__CANCEL_ORDER_RESPONSE__INIT;
	struct rt_status status = { .code = 0 };

	order_moved(order, op, rc);
	if (order_move_status(op, rc, "cancelled", &status)) {
		response.order = order_view(&cancel->arena, &op->record, NULL, 0);
		if (response.order == NULL)
			order_status_damaged(&status, op->order_id);
	}
	if (status.code == 0)
		cancel->closure(&response, cancel->call);
	else
		order_fail(cancel->call, &status);
	rt_arena_done(&cancel->arena);
	free(cancel);
	order_call_end(order);
}

ORDER_HANDLER(order_cancel_order, CancelOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	Tandem__Order__V1__OrderCancelled event = TANDEM__ORDER__V1__ORDER_CANCELLED__INIT;
	struct cancel_order *cancel;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	cancel = rt_alloc(sizeof(*cancel));
	cancel->order = order;
	cancel->closure = closure;
	cancel->call = closure_data;
	event.reason = request->reason;
	cancel->op.data = order_pack(&cancel->arena, &event.base, &cancel->op.data_length);
	cancel->op.order_id = request->order_id;
	cancel->op.input = ORDER_IN_CANCEL;
	cancel->op.expected_version = request->expected_version;
	cancel->op.now_ms = rt_loop_unix_ms(order->loop);
	cancel->op.retry_due_ms = order_retry_at(order, cancel->op.now_ms, 1);
	cancel->op.traceparent = order_traceparent(cancel->call);
	cancel->op.want_record = true;
	cancel->op.done = move_stored;
	order_call_begin(order);
	order_move(order, &cancel->op);
}
