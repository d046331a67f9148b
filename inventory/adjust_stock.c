/* adjust_stock.c - AdjustStock: puts stock in or takes it out.
 *
 *   inventory_adjust_stock    the request is checked
 *     stock_adjusted          answers with the counters after it, or why the store refused it */
#include "check.h"
#include "inventory_internal.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"

struct adjust {
	struct inventory *inventory;
	Tandem__Inventory__V1__AdjustStockResponse_Closure closure;
	struct rt_call *call;
	struct inventory_adjust_op op;
};

/* What the function call has done. */
static void note_span(struct rt_span *span, const struct adjust *adjust, int rc)
{
	const struct inventory_adjust_op *op = &adjust->op;

	rt_span_stored(span);
	if (rc != RT_OK || op->outcome != INVENTORY_ADJUSTED)
		return;
	span->published.context = "inventory";
	span->published.type = tandem__inventory__v1__stock_adjusted__descriptor.name;
	span->published.partition = inventory_store_partition(adjust->inventory->store, op->sku);
}

static void stock_adjusted(struct inventory_adjust_op *op, int rc)
{
	struct adjust *adjust = RT_CONTAINER_OF(op, struct adjust, op);
	struct inventory *inventory = adjust->inventory;
	struct rt_status status = { .code = 0 };

	if (rt_call_span(adjust->call) != NULL)
		note_span(rt_call_span(adjust->call), adjust, rc);
	if (inventory_adjust_status(op, rc, &status)) {
		Tandem__Inventory__V1__AdjustStockResponse response =
			TANDEM__INVENTORY__V1__ADJUST_STOCK_RESPONSE__INIT;
		Tandem__Inventory__V1__Stock stock = inventory_stock_message(op->sku, &op->stock);

		response.stock = &stock;
		adjust->closure(&response, adjust->call);
	} else {
		rt_call_fail(adjust->call, &status);
	}
	rt_status_done(&status);
	free(adjust);
	rt_context_release(inventory->context);
}

INVENTORY_HANDLER(inventory_adjust_stock, AdjustStock)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	struct inventory_caller caller = inventory_caller_of(closure_data);
	struct adjust *adjust;

	if (!check_call(closure_data, &request->base))
		return;
	adjust = rt_alloc(sizeof(*adjust));
	adjust->inventory = inventory;
	adjust->closure = closure;
	adjust->call = closure_data;
	inventory_adjust_fill(&adjust->op, inventory->loop, &caller, request);
	adjust->op.done = stock_adjusted;
	rt_context_hold(inventory->context);
	inventory_store_adjust(inventory->store, &adjust->op);
}
