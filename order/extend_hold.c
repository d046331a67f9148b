/* extend_hold.c - ExtendHold: lets the reservation of a RESERVED order last longer. */
#include "order/order_internal.h"

ORDER_HANDLER(order_extend_hold, ExtendHold)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	Tandem__Order__V1__OrderHoldExtended event = TANDEM__ORDER__V1__ORDER_HOLD_EXTENDED__INIT;
	struct order_moving *moving;
	int64_t until_ms;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	moving = order_move_one(order, closure_data, (ProtobufCClosure)closure,
				&tandem__order__v1__extend_hold_response__descriptor);
	until_ms = request->hold_expire_time->seconds * 1000 +
		   request->hold_expire_time->nanos / 1000000;
	event.hold_expire_time = order_timestamp(moving->arena, until_ms);
	order_moving_data(moving, &event.base);
	moving->op.order_id = request->order_id;
	moving->op.input = ORDER_IN_EXTEND;
	moving->op.expected_version = request->expected_version;
	moving->op.hold_until_ms = until_ms;
	moving->op.hold_max_ms = order->hold_max_ms;
	order_moving_start(moving);
}
