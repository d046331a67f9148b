/* set_low_stock_threshold.c - SetLowStockThreshold: below which quantity stock of a SKU is low.
 *
 *   inventory_set_low_stock_threshold   the request is checked
 *     threshold_set                     answers with the counters */
#include <inttypes.h>

#include "base/base.h"
#include "check.h"
#include "inventory_internal.h"

struct set {
	struct inventory *inventory;
	Tandem__Inventory__V1__SetLowStockThresholdResponse_Closure closure;
	struct rt_call *call;
	struct inventory_threshold_op op;
};

static void set_answer(const struct set *set)
{
	Tandem__Inventory__V1__SetLowStockThresholdResponse response =
		TANDEM__INVENTORY__V1__SET_LOW_STOCK_THRESHOLD_RESPONSE__INIT;
	const struct inventory_threshold_op *op = &set->op;
	Tandem__Inventory__V1__Stock stock = inventory_stock_message(op->sku, &op->stock);

	RT_LOG(RT_INFO, "operator set a threshold of stock",
	       RT_S("who", op->who[0] == '\0' ? "anonymous" : op->who), RT_S("from", op->from),
	       RT_S("sku", op->sku), RT_I("threshold", (int64_t)op->threshold),
	       RT_S("why", op->reason));
	response.stock = &stock;
	set->closure(&response, set->call);
}

static void threshold_set(struct inventory_threshold_op *op, int rc)
{
	struct set *set = RT_CONTAINER_OF(op, struct set, op);
	struct inventory *inventory = set->inventory;

	if (rt_call_span(set->call) != NULL)
		rt_span_stored(rt_call_span(set->call));
	if (rc != RT_OK)
		rt_call_fail_from(set->call, rc, "setting the threshold");
	else if (!op->found)
		rt_call_failf(set->call, RT_CODE_NOT_FOUND, "there was never any stock of SKU %s",
			      op->sku);
	else
		set_answer(set);
	free(set);
	rt_context_release(inventory->context);
}

INVENTORY_HANDLER(inventory_set_low_stock_threshold, SetLowStockThreshold)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	struct inventory_caller caller = inventory_caller_of(closure_data);
	struct set *set;

	if (!check_call(closure_data, &request->base))
		return;
	set = rt_alloc(sizeof(*set));
	set->inventory = inventory;
	set->closure = closure;
	set->call = closure_data;
	set->op.sku = request->sku;
	set->op.threshold = request->low_stock_threshold;
	set->op.reason = request->reason;
	set->op.who = caller.who;
	set->op.from = caller.from;
	set->op.now_ms = rt_loop_unix_ms(inventory->loop);
	set->op.done = threshold_set;
	rt_context_hold(inventory->context);
	inventory_store_threshold(inventory->store, &set->op);
}
