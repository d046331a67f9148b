/* batch_moves.c - what BatchConfirmOrders and BatchCancelOrders have in common: many moves in one call, each of which
 * succeeds or fails by itself.
 *
 *   order_batch_moves        order_moving_start for each; the store gathers them
 *     item_moved …           the last one
 *       send_answer          all results, in the order of the requests
 *
 * An order in the store's answer lasts no longer than item_moved, so its part of the answer is packed there; without
 * lines, labels and returns, which could make the answer too large. If nothing could be reached the call fails as a whole: no
 * item is at fault. One arena serves the whole call. */
#include "check.h"
#include "order/order_internal.h"

struct batch {
	struct rt_arena arena;
	ProtobufCClosure closure;
	const ProtobufCMessageDescriptor *response;
	struct rt_call *call;
	size_t count, pending, unavailable;
	struct item {
		struct batch *batch;
		struct order_moving moving;
		uint8_t *packed; /* NULL: moving.status says why not */
		size_t packed_length;
	} items[];
};

static void fill_result(const struct item *item, Tandem__Order__V1__MoveOrderResult *ret)
{
	ProtobufCAllocator *allocator = rt_arena_allocator(&item->batch->arena);

	tandem__order__v1__move_order_result__init(ret);
	if (item->packed != NULL) {
		ret->result_case = TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ORDER;
		ret->order = tandem__order__v1__order__unpack(allocator, item->packed_length,
							      item->packed);
	} else {
		ret->result_case = TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ERROR;
		ret->error = rt_status_to_proto(&item->moving.status);
	}
}

static void send_results(struct batch *batch)
{
	/* Each such response has the one field. */
	Tandem__Order__V1__BatchConfirmOrdersResponse response = { .base = PROTOBUF_C_MESSAGE_INIT(
									   batch->response) };
	Tandem__Order__V1__MoveOrderResult *results =
		rt_arena_take(&batch->arena, batch->count * sizeof(*results));

	response.n_orders = batch->count;
	response.orders = rt_arena_take(&batch->arena, batch->count * sizeof(*response.orders));
	for (size_t i = 0; i < batch->count; i++) {
		fill_result(&batch->items[i], &results[i]);
		response.orders[i] = &results[i];
	}
	batch->closure(&response.base, batch->call);
	for (size_t i = 0; i < batch->count; i++)
		if (batch->items[i].packed == NULL)
			google__rpc__status__free_unpacked(results[i].error, NULL);
}

static void item_ended(struct batch *batch)
{
	if (--batch->pending > 0)
		return;
	if (batch->unavailable == batch->count)
		rt_call_fail(batch->call, &batch->items[0].moving.status);
	else
		send_results(batch);
	for (size_t i = 0; i < batch->count; i++)
		rt_status_done(&batch->items[i].moving.status);
	rt_arena_done(&batch->arena);
	free(batch);
}

static void item_moved(struct order_moving *moving)
{
	struct item *item = RT_CONTAINER_OF(moving, struct item, moving);
	Tandem__Order__V1__Order *order = moving->result;

	if (order != NULL) {
		order->n_lines = order->n_labels = order->n_returns = 0;
		item->packed = order_pack(moving->arena, &order->base, &item->packed_length);
	}
	item->batch->unavailable += moving->status.code == RT_CODE_UNAVAILABLE;
	item_ended(item->batch);
}

/* Checks an item: its limits, and the form of the id. */
static bool item_is_valid(struct order *order, struct order_moving *moving,
			  const ProtobufCMessage *request)
{
	if (!check_request(request, &moving->status))
		return false;
	if (!check_order_id(moving->op.order_id))
		order_status_not_found(&moving->status, moving->op.order_id);
	else if (order->context->stopping)
		order_status_stopping(&moving->status);
	else
		return true;
	return false;
}

void order_batch_moves(struct order *order, struct rt_call *call, ProtobufCClosure closure,
		       const ProtobufCMessageDescriptor *response,
		       ProtobufCMessage *const *requests, size_t count,
		       void (*fill)(struct order_moving *moving, const ProtobufCMessage *request))
{
	struct batch *batch = rt_alloc(sizeof(*batch) + count * sizeof(batch->items[0]));

	batch->closure = closure;
	batch->response = response;
	batch->call = call;
	batch->count = count;
	batch->pending = count + 1;
	for (size_t i = 0; i < count; i++) {
		struct item *item = &batch->items[i];

		item->batch = batch;
		item->moving.order = order;
		item->moving.call = call;
		item->moving.arena = &batch->arena;
		item->moving.done = item_moved;
		fill(&item->moving, requests[i]);
		if (item_is_valid(order, &item->moving, requests[i]))
			order_moving_start(&item->moving);
		else
			item_moved(&item->moving);
	}
	item_ended(batch);
}
