/* place_order.c - PlaceOrder: stores one order, and waits for its decision if asked to.
 *
 *   order_place_order       order_placing_start
 *     order_placed          answers with the order as it was stored, or decided,
 *                           or as it is a little before the caller's deadline
 *     on_cancel             the caller has gone; the order stays */
#include "order/order_internal.h"

#define WAIT_MAX_MS 600000

struct place_order {
	struct order_placing placing;
	struct rt_arena arena;
	Tandem__Order__V1__PlaceOrderResponse_Closure closure;
	struct rt_call *call;
};

static void order_placed(struct order_placing *placing)
{
	struct place_order *place = RT_CONTAINER_OF(placing, struct place_order, placing);

	if (placing->status.code == 0) {
		Tandem__Order__V1__PlaceOrderResponse response =
			TANDEM__ORDER__V1__PLACE_ORDER_RESPONSE__INIT;

		response.order = placing->result;
		place->closure(&response, place->call);
	} else {
		rt_call_fail(place->call, &placing->status);
	}
	order_placing_done(placing);
	rt_arena_done(&place->arena);
	free(place);
}

static void on_cancel(struct rt_call *call, void *user)
{
	struct place_order *place = user;

	(void)call;
	order_placing_answer_now(&place->placing);
}

ORDER_HANDLER(order_place_order, PlaceOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct place_order *place;

	place = rt_alloc(sizeof(*place));
	place->closure = closure;
	place->call = closure_data;
	place->placing.order = order;
	place->placing.arena = &place->arena;
	place->placing.request = request;
	place->placing.call = place->call;
	place->placing.traceparent = rt_call_traceparent(place->call);
	place->placing.tracestate = rt_call_tracestate(place->call);
	place->placing.span = rt_call_span(place->call);
	place->placing.actor = rt_call_actor(place->call);
	place->placing.remaining_ms = rt_call_remaining_ms(place->call);
	place->placing.wait_max_ms = WAIT_MAX_MS;
	place->placing.done = order_placed;
	if (!order_placing_start(&place->placing))
		order_placed(&place->placing);
	else if (request->wait_for_decision)
		rt_call_on_cancel(place->call, on_cancel, place);
}
