/* archived_batch.c - BatchConfirmOrders and BatchCancelOrders of orders that the order service does not have: those that
 * the archive has are refused for what they are.
 *
 *   gateway_archived_batch   is an item's error NOT_FOUND?
 *     ask_for_next           some are asked for at once …
 *       item_came            … and each answer takes the place of the item's error
 *     end_batch              the last one has come */
#include <string.h>

#include "check.h"
#include "gateway_internal.h"
#include "google/rpc/status.pb-c.h"

#define AT_ONCE 16 /* a batch leaves room for others in the archive's queue */

/* Both requests, and both responses, have the one field. */
typedef Tandem__Order__V1__BatchConfirmOrdersRequest batch_request;
typedef Tandem__Order__V1__BatchConfirmOrdersResponse batch_response;

struct batch {
	struct gateway *gateway;
	struct rt_call *call;
	ProtobufCClosure closure;
	struct rt_arena arena;
	batch_response *response; /* in the arena */
	size_t next, pending;     /* the next item to be asked for; how many are being asked for */
	struct asked {
		struct batch *batch;
		const char *order_id; /* NULL: it need not be asked for */
		struct rt_client_op op;
	} items[];
};

static bool is_unknown(const Tandem__Order__V1__MoveOrderResult *result)
{
	return result->result_case == TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ERROR &&
	       result->error->code == RT_CODE_NOT_FOUND;
}

static void set_error(struct batch *batch, size_t index, const struct rt_status *status)
{
	Google__Rpc__Status *error = rt_status_to_proto(status);
	size_t length = google__rpc__status__get_packed_size(error);
	uint8_t *packed = rt_arena_take(&batch->arena, length + 1);

	google__rpc__status__pack(error, packed);
	google__rpc__status__free_unpacked(error, NULL);
	batch->response->orders[index]->error =
		google__rpc__status__unpack(rt_arena_allocator(&batch->arena), length, packed);
}

static void end_batch(struct batch *batch)
{
	rt_call_on_cancel(batch->call, NULL, NULL);
	batch->closure(&batch->response->base, batch->call);
	rt_arena_done(&batch->arena);
	free(batch);
}

static void ask_for_next(struct batch *batch);

static void item_came(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct asked *item = RT_CONTAINER_OF(op, struct asked, op);
	struct batch *batch = item->batch;
	const Tandem__Order__V1__Order *order = gateway_archived_settled((const void *)message);
	struct rt_status status = { 0 };

	if (op->status.code == 0 && order != NULL)
		gateway_archived_refuses(&status, order);
	else if (op->status.code != 0 && op->status.code != RT_CODE_NOT_FOUND)
		gateway_archived_away(&status, &op->status,
				      "the order service does not have this order");
	if (status.code != 0)
		set_error(batch, (size_t)(item - batch->items), &status);
	rt_status_done(&status);
	item->order_id = NULL;
	batch->pending--;
	ask_for_next(batch);
}

static void ask_for_next(struct batch *batch)
{
	for (; batch->next < batch->response->n_orders && batch->pending < AT_ONCE; batch->next++) {
		struct asked *item = &batch->items[batch->next];

		if (item->order_id == NULL)
			continue;
		batch->pending++;
		item->op.done = item_came;
		gateway_archived_ask(batch->gateway, batch->call, item->order_id, &item->op);
	}
	if (batch->pending == 0)
		end_batch(batch);
}

/* What is being asked for ends, and nothing more is asked for. */
static void caller_left(struct rt_call *call, void *user)
{
	struct batch *batch = user;
	size_t asked = batch->next;

	(void)call;
	batch->next = batch->response->n_orders;
	for (size_t i = 0; i < asked; i++)
		if (batch->items[i].order_id != NULL)
			rt_client_cancel(&batch->items[i].op);
}

bool gateway_archived_batch(const struct gateway_passed *passed)
{
	const batch_request *request = (const void *)passed->request;
	const batch_response *response = (const void *)passed->response;
	size_t unknown = 0, length;
	struct batch *batch;
	uint8_t *packed;

	if (response == NULL || response->n_orders != request->n_requests)
		return false;
	batch = rt_alloc(sizeof(*batch) + response->n_orders * sizeof(batch->items[0]));
	for (size_t i = 0; i < response->n_orders; i++) {
		const char *order_id = gateway_order_id(&request->requests[i]->base);

		batch->items[i].batch = batch;
		if (!is_unknown(response->orders[i]) || !check_order_id(order_id))
			continue;
		batch->items[i].order_id = order_id;
		unknown++;
	}
	if (unknown == 0) {
		free(batch);
		return false;
	}
	batch->gateway = passed->gateway;
	batch->call = passed->call;
	batch->closure = passed->closure;
	length = protobuf_c_message_get_packed_size(&response->base);
	packed = rt_arena_take(&batch->arena, length + 1);
	protobuf_c_message_pack(&response->base, packed);
	batch->response = (void *)protobuf_c_message_unpack(
		response->base.descriptor, rt_arena_allocator(&batch->arena), length, packed);
	rt_call_on_cancel(batch->call, caller_left, batch);
	ask_for_next(batch);
	return true;
}
