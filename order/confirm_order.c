/* confirm_order.c - ConfirmOrder: buys a RESERVED order. */
#include "order/order_internal.h"

ORDER_HANDLER(order_confirm_order, ConfirmOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct order_client_move *move;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	move = rt_alloc(sizeof(*move));
	move->closure = (ProtobufCClosure)closure;
	move->call = closure_data;
	move->response = &tandem__order__v1__confirm_order_response__descriptor;
	move->op.order_id = request->order_id;
	move->op.input = ORDER_IN_CONFIRM;
	move->op.expected_version = request->expected_version;
	order_client_move(order, move);
}
