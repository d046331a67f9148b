/* common.c - helpers of several RPCs: Stock messages, requests for adjustments and their results; and of both ways in
 * which requests of orders are served. */
#include <inttypes.h>

#include "inventory_internal.h"

Tandem__Inventory__V1__Stock inventory_stock_message(const char *sku, const struct stock *stock)
{
	Tandem__Inventory__V1__Stock message = TANDEM__INVENTORY__V1__STOCK__INIT;

	/* protobuf-c has no const strings; it is never written. */
	message.sku = (char *)(uintptr_t)sku;
	message.available = stock->available;
	message.reserved = stock->reserved;
	message.committed = stock->committed;
	message.received = stock->received;
	message.version = stock->version;
	message.low_stock_threshold = stock->threshold;
	return message;
}

struct inventory_caller inventory_caller_of(const struct rt_call *call)
{
	return (struct inventory_caller){ rt_call_actor(call), rt_call_peer(call) };
}

void inventory_adjust_fill(struct inventory_adjust_op *op, struct rt_loop *loop,
			   const struct inventory_caller *caller,
			   const Tandem__Inventory__V1__AdjustStockRequest *request)
{
	op->who = caller->who;
	op->from = caller->from;
	op->sku = request->sku;
	op->delta = request->delta;
	op->request_id = request->request_id;
	op->reason = request->reason;
	op->now_ms = rt_loop_unix_ms(loop);
}

static void short_status(const struct inventory_adjust_op *op, struct rt_status *status)
{
	char *description =
		rt_printf("%" PRIu64 " of SKU %s are available, %" PRId64 " were to be taken",
			  op->stock.available, op->sku, -op->delta);

	rt_status_set(status, RT_CODE_FAILED_PRECONDITION, "only %s", description);
	rt_status_precondition(status, "STOCK", op->sku, description);
	free(description);
}

bool inventory_adjust_status(const struct inventory_adjust_op *op, int rc, struct rt_status *status)
{
	if (rc != RT_OK) {
		rt_status_from(status, rc, "adjusting the stock");
		return false;
	}
	switch (op->outcome) {
	case INVENTORY_ADJUSTED:
		RT_LOG(RT_INFO, "operator changed stock",
		       RT_S("who", op->who[0] == '\0' ? "anonymous" : op->who),
		       RT_S("from", op->from), RT_S("sku", op->sku), RT_I("delta", op->delta),
		       RT_S("why", op->reason));
		return true;
	case INVENTORY_ADJUSTED_BEFORE:
		return true;
	case INVENTORY_CONFLICT:
		rt_status_set(status, RT_CODE_ALREADY_EXISTS,
			      "request_id was used for another adjustment of SKU %s", op->sku);
		return false;
	case INVENTORY_SHORT:
		short_status(op, status);
		return false;
	case INVENTORY_OVERFLOW:
		rt_status_set(status, RT_CODE_OUT_OF_RANGE,
			      "%" PRIu64 " of SKU %s were received: more than %" PRIu64
			      " in all cannot be counted",
			      op->stock.received, op->sku, (uint64_t)STOCK_MAX);
		return false;
	}
	rt_status_set(status, RT_CODE_INTERNAL, "the adjustment of SKU %s has no outcome", op->sku);
	return false;
}

void inventory_note_call(const struct rt_event *event)
{
	if (event != NULL && event->span != NULL)
		rt_span_stored(event->span);
}

/* What the function call has done, for the span of the event that asked for it. */
static void note_span(struct rt_span *span, const struct inventory_request_op *op)
{
	rt_span_stored(span);
	span->published = (struct rt_span_event){ .context = "inventory",
						  .type = stock_answer_type(op->answer),
						  .partition = op->partition,
						  .attempt = op->attempt };
	span->compensates = op->before == STOCK_RESERVED && op->after == STOCK_RELEASED;
}

void inventory_count_served(struct inventory *inventory, const struct inventory_request_op *op)
{
	bool unexpected = stock_rule(op->before, op->request)->unexpected;
	char trace[RT_TRACE_ID_TEXT];

	if (op->event != NULL && op->event->span != NULL)
		note_span(op->event->span, op);
	if (unexpected)
		RT_LOG(RT_WARN, "unexpected request of an order", RT_S("order_id", op->order_id),
		       RT_S("request", stock_request_type(op->request)),
		       RT_S("reservation", stock_state_text(op->before)),
		       RT_S("trace_id", rt_trace_find(op->traceparent, op->order_id, trace)));
	if (inventory->unexpected == NULL)
		return;
	rt_series_add(inventory->answers[op->answer], 1);
	if (unexpected)
		rt_series_add(inventory->unexpected, 1);
}
