/* get_stock.c - GetStock: the counters of one SKU. */
#include "check.h"
#include "inventory_internal.h"

struct get {
	struct inventory *inventory;
	Tandem__Inventory__V1__GetStockResponse_Closure closure;
	void *closure_data;
	struct inventory_stock_op op;
};

static void stock_read(struct inventory_stock_op *op, int rc)
{
	struct get *get = RT_CONTAINER_OF(op, struct get, op);
	struct inventory *inventory = get->inventory;

	if (rc != RT_OK) {
		struct rt_status status = { .code = 0 };

		rt_status_from(&status, rc, "reading the stock");
		rt_call_fail(get->closure_data, &status);
		rt_status_done(&status);
	} else if (!op->found) {
		rt_call_failf(get->closure_data, RT_CODE_NOT_FOUND,
			      "there never was any stock of SKU %s", op->sku);
	} else {
		Tandem__Inventory__V1__GetStockResponse response =
			TANDEM__INVENTORY__V1__GET_STOCK_RESPONSE__INIT;
		Tandem__Inventory__V1__Stock stock = inventory_stock_message(op->sku, &op->stock);

		response.stock = &stock;
		get->closure(&response, get->closure_data);
	}
	free(get);
	rt_context_release(inventory->context);
}

void inventory_get_stock(Tandem__Inventory__V1__InventoryService_Service *service,
			 const Tandem__Inventory__V1__GetStockRequest *request,
			 Tandem__Inventory__V1__GetStockResponse_Closure closure,
			 void *closure_data)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	struct rt_status status = { .code = 0 };
	struct get *get;

	if (!check_request(&request->base, &status)) {
		rt_call_fail(closure_data, &status);
		rt_status_done(&status);
		return;
	}
	get = rt_alloc(sizeof(*get));
	get->inventory = inventory;
	get->closure = closure;
	get->closure_data = closure_data;
	get->op.sku = request->sku;
	get->op.done = stock_read;
	rt_context_hold(inventory->context);
	inventory_store_stock(inventory->store, &get->op);
}
