/* list_stock.c - ListStock: a page of counters, by SKU. A position is the last SKU of the previous
 * page: a new SKU after it appears on a later page, and no SKU appears twice. */
#include <string.h>

#include "check.h"
#include "inventory_internal.h"
#include "page_token.h"

#define LIST "ListStock"

struct list {
	struct inventory *inventory;
	Tandem__Inventory__V1__ListStockResponse_Closure closure;
	struct rt_call *call;
	struct inventory_list_op op;
};

static void list_answer(struct list *list, const struct inventory_list_op *op)
{
	Tandem__Inventory__V1__ListStockResponse response =
		TANDEM__INVENTORY__V1__LIST_STOCK_RESPONSE__INIT;
	/* One more than needed, because a page may be empty. */
	Tandem__Inventory__V1__Stock *stocks = rt_alloc((op->stock_count + 1) * sizeof(*stocks));
	char *token = NULL;

	response.stocks = rt_alloc((op->stock_count + 1) * sizeof(*response.stocks));
	for (size_t i = 0; i < op->stock_count; i++) {
		stocks[i] = inventory_stock_message(op->stocks[i].sku, &op->stocks[i].stock);
		response.stocks[i] = &stocks[i];
	}
	response.n_stocks = op->stock_count;
	if (op->more && op->stock_count > 0)
		response.next_page_token = token =
			page_token_new(LIST, stocks[op->stock_count - 1].sku);
	list->closure(&response, list->call);
	free(token);
	free(response.stocks);
	free(stocks);
}

static void stock_listed(struct inventory_list_op *op, int rc)
{
	struct list *list = RT_CONTAINER_OF(op, struct list, op);
	struct inventory *inventory = list->inventory;

	if (rc == RT_OK) {
		list_answer(list, op);
	} else {
		rt_call_fail_from(list->call, rc, "listing the stock");
	}
	free(list);
	rt_context_release(inventory->context);
}

INVENTORY_HANDLER(inventory_list_stock, ListStock)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	struct rt_status status = { .code = 0 };
	const char *after = "";
	struct list *list;

	if (!check_call(closure_data, &request->base))
		return;
	if (request->page_token[0] != '\0')
		after = page_token_read(LIST, request->page_token);
	if (after == NULL) {
		page_token_status(&status);
		rt_call_fail(closure_data, &status);
		rt_status_done(&status);
		return;
	}
	list = rt_alloc(sizeof(*list));
	list->inventory = inventory;
	list->closure = closure;
	list->call = closure_data;
	list->op.after = after;
	list->op.count_max = check_page_size(request->page_size);
	list->op.done = stock_listed;
	rt_context_hold(inventory->context);
	inventory_store_list(inventory->store, &list->op);
}
