/* get_order.c - GetOrder: reads one order. */
#include "order/order_internal.h"

struct get_order {
	struct order *order;
	struct order_get_op op;
	Tandem__Order__V1__GetOrderResponse_Closure closure;
	struct rt_call *call;
};

static void send_answer(struct get_order *get)
{
	Tandem__Order__V1__GetOrderResponse response = TANDEM__ORDER__V1__GET_ORDER_RESPONSE__INIT;
	struct rt_arena arena = { .chunks = NULL };
	struct rt_status status = { .code = 0 };

	response.order = order_view(&arena, &get->op.record, NULL, 0);
	if (response.order != NULL) {
		get->closure(&response, get->call);
	} else {
		order_status_damaged(&status, get->op.order_id);
		order_fail(get->call, &status);
	}
	rt_arena_done(&arena);
}

static void order_read(struct order_get_op *op, int rc)
{
	struct get_order *get = RT_CONTAINER_OF(op, struct get_order, op);
	struct order *order = get->order;
	struct rt_status status = { .code = 0 };

	if (rc == RT_OK && op->found) {
		send_answer(get);
	} else {
		if (rc != RT_OK)
			rt_status_from(&status, rc, "reading the order");
		else
			order_status_not_found(&status, op->order_id);
		order_fail(get->call, &status);
	}
	free(get);
	order_call_end(order);
}

ORDER_HANDLER(order_get_order, GetOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct get_order *get;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	get = rt_alloc(sizeof(*get));
	get->order = order;
	get->closure = closure;
	get->call = closure_data;
	get->op.order_id = request->order_id;
	get->op.done = order_read;
	order_call_begin(order);
	order_store_get(order->store, &get->op);
}
