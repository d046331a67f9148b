/* get_order.c - GetOrder: reads one order. */
#include "order/order_internal.h"

struct get_order {
	struct order *order;
	struct order_get_op op;
	Tandem__Order__V1__GetOrderResponse_Closure closure;
	struct rt_call *call;
};

static void order_read(struct order_get_op *op, int rc)
{
	struct get_order *get = RT_CONTAINER_OF(op, struct get_order, op);
	struct order *order = get->order;
	struct rt_status status = { .code = 0 };

	if (rc != RT_OK) {
		rt_call_fail_from(get->call, rc, "reading the order");
	} else if (op->found) {
		order_answer(get->call, (ProtobufCClosure)get->closure,
			     &tandem__order__v1__get_order_response__descriptor, &op->record);
	} else {
		order_status_not_found(&status, op->order_id);
		order_fail(get->call, &status);
	}
	free(get);
	order_call_end(order);
}

static void order_found(void *user, int status, int partition)
{
	struct get_order *get = user;

	get->op.partition = partition;
	get->op.found = false;
	if (partition >= 0)
		order_store_get(get->order->store, &get->op);
	else
		order_read(&get->op, status);
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
	order_find(order, get->call, request->order_id, order_found, get);
}
