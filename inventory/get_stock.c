/* get_stock.c - GetStock: the counters of one SKU. */
#include "check.h"
#include "inventory_internal.h"

struct get {
	struct inventory *inventory;
	Tandem__Inventory__V1__GetStockResponse_Closure closure;
	struct rt_call *call;
	struct inventory_stock_op op;
};

static void stock_read(struct inventory_stock_op *op, int rc)
{
	struct get *get = RT_CONTAINER_OF(op, struct get, op);
	struct inventory *inventory = get->inventory;

	if (rc != RT_OK) {
		rt_call_fail_from(get->call, rc, "reading the stock");
	} else if (!op->found) {
		rt_call_failf(get->call, RT_CODE_NOT_FOUND, "there was never any stock of SKU %s",
			      op->sku);
	} else {
		Tandem__Inventory__V1__GetStockResponse response =
			TANDEM__INVENTORY__V1__GET_STOCK_RESPONSE__INIT;
		Tandem__Inventory__V1__Stock stock = inventory_stock_message(op->sku, &op->stock);

		response.stock = &stock;
		get->closure(&response, get->call);
	}
	free(get);
	rt_context_release(inventory->context);
}

INVENTORY_HANDLER(inventory_get_stock, GetStock)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	struct get *get;

	if (!check_call(closure_data, &request->base))
		return;
	get = rt_alloc(sizeof(*get));
	get->inventory = inventory;
	get->closure = closure;
	get->call = closure_data;
	get->op.sku = request->sku;
	get->op.done = stock_read;
	rt_context_hold(inventory->context);
	inventory_store_stock(inventory->store, &get->op);
}
