/* confirm_order.c - ConfirmOrder: buys a RESERVED order. */
#include "order/order_internal.h"

struct confirm_order {
	struct order *order;
	struct order_move_op op;
	Tandem__Order__V1__ConfirmOrderResponse_Closure closure;
	struct rt_call *call;
};

static void move_stored(struct order_move_op *op, int rc)
{
	struct confirm_order *confirm = RT_CONTAINER_OF(op, struct confirm_order, op);
	struct order *order = confirm->order;
	Tandem__Order__V1__ConfirmOrderResponse response =
		TANDEM__ORDER__V1__CONFIRM_ORDER_RESPONSE__INIT;
	struct rt_arena arena = { .chunks = NULL };
	struct rt_status status = { .code = 0 };

	order_moved(order, op, rc);
	if (order_move_status(op, rc, "confirmed", &status)) {
		response.order = order_view(&arena, &op->record, NULL, 0);
		if (response.order == NULL)
			order_status_damaged(&status, op->order_id);
	}
	if (status.code == 0)
		confirm->closure(&response, confirm->call);
	else
		order_fail(confirm->call, &status);
	rt_arena_done(&arena);
	free(confirm);
	order_call_end(order);
}

ORDER_HANDLER(order_confirm_order, ConfirmOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct confirm_order *confirm;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	confirm = rt_alloc(sizeof(*confirm));
	confirm->order = order;
	confirm->closure = closure;
	confirm->call = closure_data;
	confirm->op.order_id = request->order_id;
	confirm->op.input = ORDER_IN_CONFIRM;
	confirm->op.expected_version = request->expected_version;
	confirm->op.now_ms = rt_loop_unix_ms(order->loop);
	confirm->op.retry_due_ms = order_retry_at(order, confirm->op.now_ms, 1);
	confirm->op.traceparent = order_traceparent(confirm->call);
	confirm->op.want_record = true;
	confirm->op.done = move_stored;
	order_call_begin(order);
	order_move(order, &confirm->op);
}
