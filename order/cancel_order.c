/* cancel_order.c - CancelOrder: cancels a PENDING or RESERVED order. */
#include "order/order_internal.h"

ORDER_HANDLER(order_cancel_order, CancelOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	Tandem__Order__V1__OrderCancelled event = TANDEM__ORDER__V1__ORDER_CANCELLED__INIT;
	struct order_client_move *move;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	move = rt_alloc(sizeof(*move));
	move->closure = (ProtobufCClosure)closure;
	move->call = closure_data;
	move->response = &tandem__order__v1__cancel_order_response__descriptor;
	event.reason = request->reason;
	move->op.data = order_pack(&move->arena, &event.base, &move->op.data_length);
	move->op.order_id = request->order_id;
	move->op.input = ORDER_IN_CANCEL;
	move->op.expected_version = request->expected_version;
	order_client_move(order, move);
}
