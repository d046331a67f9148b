/* confirm_order.c - ConfirmOrder: buys a RESERVED order. */
#include "order/order_internal.h"

ORDER_HANDLER(order_confirm_order, ConfirmOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct order_moving *moving;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	moving = order_move_one(order, closure_data, (ProtobufCClosure)closure,
				&tandem__order__v1__confirm_order_response__descriptor);
	order_moving_confirm(moving, request);
	order_moving_start(moving);
}
