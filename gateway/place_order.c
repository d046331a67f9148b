/* place_order.c - PlaceOrder: one order, sent by placing.c. */
#include "gateway_internal.h"

struct place {
	struct gateway_placing placing;
	struct rt_call *call;
	ProtobufCClosure closure;
};

static void place_done(struct gateway_placing *placing, const ProtobufCBinaryData *order,
		       const struct rt_status *status)
{
	struct place *place = RT_CONTAINER_OF(placing, struct place, placing);

	rt_call_on_cancel(place->call, NULL, NULL);
	if (order != NULL) {
		gateway_result response = TANDEM__ORDER__V1__PACKED_ORDER_RESULT__INIT;

		response.result_case = TANDEM__ORDER__V1__PACKED_ORDER_RESULT__RESULT_ORDER;
		response.order = *order;
		place->closure(&response.base, place->call);
	} else {
		rt_call_fail(place->call, status);
	}
	free(place);
}

static void place_cancelled(struct rt_call *call, void *user)
{
	struct place *place = user;

	gateway_place_abandon(&place->placing);
	rt_call_finish(call);
	free(place);
}

void gateway_place_order(struct gateway *gateway, ProtobufCClosure closure, struct rt_call *call)
{
	struct rt_status status = { 0 };
	struct place *place = rt_alloc(sizeof(*place));

	place->call = call;
	place->closure = closure;
	place->placing.remaining_ms = rt_call_remaining_ms(call);
	place->placing.traceparent = rt_call_traceparent(call);
	place->placing.tracestate = rt_call_tracestate(call);
	place->placing.is_call = true;
	place->placing.actor = rt_call_actor(call);
	place->placing.done = place_done;
	if (gateway_place_call(gateway, &place->placing, call, &status)) {
		rt_call_on_cancel(call, place_cancelled, place);
		return;
	}
	rt_call_fail(call, &status);
	rt_status_done(&status);
	free(place);
}
