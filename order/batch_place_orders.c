/* batch_place_orders.c - BatchPlaceOrders: each item succeeds or fails by itself.
 *
 *   order_batch_place_orders    order_placing_start for each; the store gathers them
 *     item_placed …             the last one
 *       send_answer             all results, in the order of the requests
 *     on_cancel                 items stop waiting for their decision
 *
 * One arena serves the whole call. */
#include "check.h"
#include "order/order_internal.h"

#define WAIT_MAX_MS 1000

struct batch_place {
	struct order *order;
	struct rt_arena arena;
	Tandem__Order__V1__BatchPlaceOrdersResponse_Closure closure;
	struct rt_call *call;
	size_t count, pending;
	struct order_placing items[];
};

static void send_answer(struct batch_place *batch)
{
	Tandem__Order__V1__BatchPlaceOrdersResponse response =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_RESPONSE__INIT;
	Tandem__Order__V1__PlaceOrderResult *results =
		rt_arena_take(&batch->arena, batch->count * sizeof(*results));

	response.n_orders = batch->count;
	response.orders = rt_arena_take(&batch->arena, batch->count * sizeof(*response.orders));
	for (size_t i = 0; i < batch->count; i++) {
		order_placing_result(&batch->items[i], &results[i]);
		response.orders[i] = &results[i];
	}
	batch->closure(&response, batch->call);
	for (size_t i = 0; i < batch->count; i++) {
		order_result_done(&results[i]);
		order_placing_done(&batch->items[i]);
	}
	rt_arena_done(&batch->arena);
	free(batch);
}

static void item_ended(struct batch_place *batch)
{
	if (--batch->pending == 0)
		send_answer(batch);
}

static void on_cancel(struct rt_call *call, void *user)
{
	struct batch_place *batch = user;

	(void)call;
	/* One more keeps the batch while its items end. */
	batch->pending++;
	for (size_t i = 0; i < batch->count; i++)
		order_placing_answer_now(&batch->items[i]);
	item_ended(batch);
}

/* An item finds its batch through the arena. */
static void item_placed(struct order_placing *placing)
{
	item_ended(RT_CONTAINER_OF(placing->arena, struct batch_place, arena));
}

ORDER_HANDLER(order_batch_place_orders, BatchPlaceOrders)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct batch_place *batch;
	const char *traceparent, *tracestate;
	int64_t remaining_ms;

	if (!check_call(closure_data, &request->base))
		return;
	batch = rt_alloc(sizeof(*batch) + request->n_requests * sizeof(batch->items[0]));
	batch->order = order;
	batch->closure = closure;
	batch->call = closure_data;
	batch->count = request->n_requests;
	batch->pending = request->n_requests + 1;
	traceparent = rt_call_traceparent(batch->call);
	tracestate = rt_call_tracestate(batch->call);
	remaining_ms = rt_call_remaining_ms(batch->call);
	for (size_t i = 0; i < batch->count; i++) {
		struct order_placing *item = &batch->items[i];

		item->order = order;
		item->arena = &batch->arena;
		item->request = request->requests[i];
		item->call = batch->call;
		item->traceparent = traceparent;
		item->tracestate = tracestate;
		item->actor = rt_call_actor(batch->call);
		item->remaining_ms = remaining_ms;
		item->wait_max_ms = WAIT_MAX_MS;
		item->done = item_placed;
		if (!order_placing_start(item))
			batch->pending--;
	}
	if (batch->pending > 1)
		rt_call_on_cancel(batch->call, on_cancel, batch);
	item_ended(batch);
}
