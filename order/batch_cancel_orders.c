/* batch_cancel_orders.c - BatchCancelOrders: each item succeeds or fails by itself. */
#include "check.h"
#include "order/order_internal.h"

static void fill(struct order_moving *moving, const ProtobufCMessage *request)
{
	order_moving_cancel(moving, (const void *)request);
}

ORDER_HANDLER(order_batch_cancel_orders, BatchCancelOrders)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);

	if (check_call(closure_data, &request->base))
		order_batch_moves(order, closure_data, (ProtobufCClosure)closure,
				  &tandem__order__v1__batch_cancel_orders_response__descriptor,
				  (ProtobufCMessage *const *)request->requests, request->n_requests,
				  fill);
}
