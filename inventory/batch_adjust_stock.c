/* batch_adjust_stock.c - BatchAdjustStock: many adjustments in one call, each with its own outcome.
 *
 *   inventory_batch_adjust_stock   the batch is checked, then each item; invalid ones end at once
 *     item_adjusted (for each)     the valid ones were stored or refused, in one step or a few
 *       batch_finish               the last one answers the call */
#include "check.h"
#include "google/rpc/status.pb-c.h"
#include "inventory_internal.h"

struct batch;
struct item {
	struct batch *batch;
	struct inventory_adjust_op op;
	Tandem__Inventory__V1__AdjustStockResult result;
	Tandem__Inventory__V1__Stock stock;
};
struct batch {
	struct inventory *inventory;
	Tandem__Inventory__V1__BatchAdjustStockResponse_Closure closure;
	struct rt_call *call;
	struct inventory_caller caller;
	size_t waiting; /* items under way, and one for the handler itself */
	size_t count;
	struct item items[];
};

static void item_fail(struct item *item, struct rt_status *status)
{
	item->result.result_case = TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__RESULT_ERROR;
	item->result.error = rt_status_to_proto(status);
	rt_status_done(status);
}

static void batch_finish(struct batch *batch)
{
	Tandem__Inventory__V1__BatchAdjustStockResponse response =
		TANDEM__INVENTORY__V1__BATCH_ADJUST_STOCK_RESPONSE__INIT;
	struct inventory *inventory = batch->inventory;

	if (--batch->waiting > 0)
		return;
	response.n_stocks = batch->count;
	response.stocks = rt_alloc(batch->count * sizeof(*response.stocks));
	for (size_t i = 0; i < batch->count; i++)
		response.stocks[i] = &batch->items[i].result;
	batch->closure(&response, batch->call);
	free(response.stocks);
	for (size_t i = 0; i < batch->count; i++) {
		if (batch->items[i].result.result_case ==
		    TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__RESULT_ERROR)
			google__rpc__status__free_unpacked(batch->items[i].result.error, NULL);
	}
	free(batch);
	rt_context_release(inventory->context);
}

static void item_adjusted(struct inventory_adjust_op *op, int rc)
{
	struct item *item = RT_CONTAINER_OF(op, struct item, op);
	struct rt_status status = { .code = 0 };

	if (rt_call_span(item->batch->call) != NULL)
		rt_span_stored(rt_call_span(item->batch->call));
	if (inventory_adjust_status(op, rc, &status)) {
		item->stock = inventory_stock_message(op->sku, &op->stock);
		item->result.result_case = TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__RESULT_STOCK;
		item->result.stock = &item->stock;
	} else {
		item_fail(item, &status);
	}
	batch_finish(item->batch);
}

static void item_start(struct item *item, const Tandem__Inventory__V1__AdjustStockRequest *request)
{
	struct inventory *inventory = item->batch->inventory;
	struct rt_status status = { .code = 0 };

	item->result = (Tandem__Inventory__V1__AdjustStockResult)
		TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__INIT;
	if (!check_request(&request->base, &status)) {
		item_fail(item, &status);
		return;
	}
	inventory_adjust_fill(&item->op, inventory->loop, &item->batch->caller, request);
	item->op.done = item_adjusted;
	item->batch->waiting++;
	inventory_store_adjust(inventory->store, &item->op);
}

INVENTORY_HANDLER(inventory_batch_adjust_stock, BatchAdjustStock)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	struct batch *batch;

	if (!check_call(closure_data, &request->base))
		return;
	batch = rt_alloc(sizeof(*batch) + request->n_requests * sizeof(batch->items[0]));
	batch->inventory = inventory;
	batch->closure = closure;
	batch->call = closure_data;
	batch->caller = inventory_caller_of(closure_data);
	batch->count = request->n_requests;
	batch->waiting = 1;
	rt_context_hold(inventory->context);
	for (size_t i = 0; i < batch->count; i++) {
		batch->items[i].batch = batch;
		item_start(&batch->items[i], request->requests[i]);
	}
	batch_finish(batch);
}
