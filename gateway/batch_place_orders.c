/* batch_place_orders.c - BatchPlaceOrders: placing.c sends each order; one answer for all.
 *
 *   gateway_batch_place_orders   each item is checked and placed by itself
 *     item_done …                its result is kept until the last one has come
 *       send_answer
 *   batch_cancelled              the caller has gone */
#include <string.h>

#include "check.h"
#include "gateway_internal.h"

/* How long an item that waits for its decision may delay the answer. */
#define WAIT_MAX_MS 1000

struct batch;

struct batch_item {
	struct gateway_placing placing;
	struct batch *batch;
	bool placing_now;
	gateway_result result; /* its content is owned; not set yet */
};

struct batch {
	struct rt_call *call;
	ProtobufCClosure closure;
	size_t count, pending;
	size_t unavailable_count; /* items that failed with UNAVAILABLE */
	struct batch_item items[];
};

static void batch_free(struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++) {
		gateway_result *result = &batch->items[i].result;

		if (result->result_case == TANDEM__ORDER__V1__PACKED_ORDER_RESULT__RESULT_ORDER)
			free(result->order.data);
		if (result->result_case == TANDEM__ORDER__V1__PACKED_ORDER_RESULT__RESULT_ERROR)
			google__rpc__status__free_unpacked(result->error, NULL);
	}
	free(batch);
}

static void send_answer(struct batch *batch)
{
	Tandem__Order__V1__PackedBatchPlaceOrdersResponse response =
		TANDEM__ORDER__V1__PACKED_BATCH_PLACE_ORDERS_RESPONSE__INIT;
	gateway_result **list = rt_alloc(batch->count * sizeof(*list));

	for (size_t i = 0; i < batch->count; i++)
		list[i] = &batch->items[i].result;
	response.n_orders = batch->count;
	response.orders = list;
	batch->closure(&response.base, batch->call);
	free(list);
}

static void end_if_done(struct batch *batch)
{
	struct rt_status status = { 0 };

	if (batch->pending > 0)
		return;
	rt_call_on_cancel(batch->call, NULL, NULL);
	if (batch->unavailable_count == batch->count) {
		/* No item is at fault: the caller should try the whole call again. */
		rt_status_from_proto(&status, batch->items[0].result.error);
		rt_call_fail(batch->call, &status);
		rt_status_done(&status);
	} else {
		send_answer(batch);
	}
	batch_free(batch);
}

static void keep_result(struct batch_item *item, const ProtobufCBinaryData *order,
			const struct rt_status *status)
{
	gateway_result *result = &item->result;

	item->placing_now = false;
	item->batch->pending--;
	if (order != NULL) {
		result->result_case = TANDEM__ORDER__V1__PACKED_ORDER_RESULT__RESULT_ORDER;
		result->order.data = rt_alloc(order->len + 1);
		result->order.len = order->len;
		memcpy(result->order.data, order->data, order->len);
		return;
	}
	result->result_case = TANDEM__ORDER__V1__PACKED_ORDER_RESULT__RESULT_ERROR;
	result->error = rt_status_to_proto(status);
	if (status->code == RT_CODE_UNAVAILABLE)
		item->batch->unavailable_count++;
}

static void item_done(struct gateway_placing *placing, const ProtobufCBinaryData *order,
		      const struct rt_status *status)
{
	struct batch_item *item = RT_CONTAINER_OF(placing, struct batch_item, placing);

	keep_result(item, order, status);
	end_if_done(item->batch);
}

static void batch_cancelled(struct rt_call *call, void *user)
{
	struct batch *batch = user;

	for (size_t i = 0; i < batch->count; i++)
		if (batch->items[i].placing_now)
			gateway_place_abandon(&batch->items[i].placing);
	rt_call_finish(call);
	batch_free(batch);
}

void gateway_batch_place_orders(struct gateway *gateway, const ProtobufCMessage *message,
				ProtobufCClosure closure, struct rt_call *call)
{
	const Tandem__Order__V1__BatchPlaceOrdersRequest *request = (const void *)message;
	const char *traceparent = rt_call_traceparent(call);
	const char *tracestate = rt_call_tracestate(call);
	int64_t remaining_ms = rt_call_remaining_ms(call);
	struct batch *batch =
		rt_alloc(sizeof(*batch) + request->n_requests * sizeof(batch->items[0]));

	batch->call = call;
	batch->closure = closure;
	batch->count = request->n_requests;
	batch->pending = request->n_requests;
	rt_call_on_cancel(call, batch_cancelled, batch);
	for (size_t i = 0; i < batch->count; i++) {
		struct batch_item *item = &batch->items[i];
		struct rt_status status = { 0 };

		tandem__order__v1__packed_order_result__init(&item->result);
		item->batch = batch;
		item->placing.call = call;
		item->placing.traceparent = traceparent;
		item->placing.tracestate = tracestate;
		item->placing.actor = rt_call_actor(call);
		item->placing.remaining_ms = remaining_ms;
		item->placing.wait_max_ms = WAIT_MAX_MS;
		item->placing.done = item_done;
		item->placing_now =
			gateway_place(gateway, &item->placing, request->requests[i], &status);
		if (!item->placing_now)
			keep_result(item, NULL, &status);
		rt_status_done(&status);
	}
	end_if_done(batch);
}
