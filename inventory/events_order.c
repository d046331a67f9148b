/* events_order.c - handles the events of order:{p}:events.
 *
 *   inventory_on_order_event   which request is it, and for which lines?
 *     store->request           counters, reservation, answer and acknowledgement, one step
 *       request_served         the event is done, or will be delivered again
 *
 * An event that is not a request (stock.h) is acknowledged and ignored; a request that cannot be read
 * is poison. A request that could not be stored is delivered again, and is answered from the record if
 * it was stored after all. */
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "inventory_internal.h"
#include "tandem/order/v1/order_events.pb-c.h"

struct request {
	struct inventory *inventory;
	struct rt_event *event;
	Tandem__Order__V1__OrderPlaced *placed; /* owns the SKUs; NULL except for OrderPlaced */
	struct inventory_request_op op;
	struct inventory_line lines[]; /* of op */
};

static void request_free(struct request *request)
{
	if (request->placed != NULL)
		tandem__order__v1__order_placed__free_unpacked(request->placed, NULL);
	free(request);
}

static void count_served(struct inventory *inventory, const struct inventory_request_op *op)
{
	bool unexpected = stock_rule(op->before, op->request)->unexpected;

	if (unexpected)
		RT_LOG(RT_WARN, "unexpected request of an order", RT_S("order_id", op->order_id),
		       RT_S("request", stock_request_type(op->request)),
		       RT_S("reservation", stock_state_text(op->before)));
	if (inventory->unexpected == NULL)
		return;
	rt_series_add(inventory->answers[op->answer], 1);
	if (unexpected)
		rt_series_add(inventory->unexpected, 1);
}

static void request_served(struct inventory_request_op *op, int status)
{
	struct request *request = RT_CONTAINER_OF(op, struct request, op);
	struct rt_event *event = request->event;

	if (status == RT_OK) {
		count_served(request->inventory, op);
		request_free(request);
		rt_event_done(event);
	} else if (status == RT_INVALID) {
		request_free(request);
		rt_event_poison(event, "the lines of the order are not valid");
	} else {
		request_free(request);
		rt_event_retry(event, status);
	}
}

static bool sku_valid(const char *sku)
{
	size_t length =
		strspn(sku, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return length > 0 && length <= CHECK_SKU_MAX && sku[length] == '\0';
}

/* Fills request->lines, adding up lines with the same SKU (the order service has done so already,
 * but an event may come from elsewhere). Returns what is wrong, or NULL. */
static const char *lines_fill(struct request *request)
{
	const Tandem__Order__V1__OrderContent *content = request->placed->content;
	struct inventory_request_op *op = &request->op;

	for (size_t i = 0; i < content->n_lines; i++) {
		const Tandem__Order__V1__OrderLine *line = content->lines[i];
		size_t at = 0;
		uint64_t sum;

		if (!sku_valid(line->sku))
			return "a line of the order has no valid SKU";
		while (at < op->line_count && strcmp(request->lines[at].sku, line->sku) != 0)
			at++;
		sum = (at < op->line_count ? request->lines[at].quantity : 0) +
		      (uint64_t)line->quantity;
		if (line->quantity < 1 || sum > CHECK_QUANTITY_MAX)
			return "a line of the order has no valid quantity";
		request->lines[at].sku = line->sku;
		request->lines[at].quantity = (uint32_t)sum;
		if (at == op->line_count)
			op->line_count++;
	}
	op->lines = request->lines;
	return NULL;
}

/* An OrderPlaced as a request with its lines; NULL and *ret_reason when it is not valid. */
static struct request *request_placed(const struct rt_event *event, const char **ret_reason)
{
	const ProtobufCMessageDescriptor *descriptor = &tandem__order__v1__order_placed__descriptor;
	Tandem__Order__V1__OrderPlaced *placed;
	struct rt_wire_fault fault;
	struct request *request;

	*ret_reason = "the content is not a valid OrderPlaced";
	if (!rt_wire_check(descriptor, event->data, event->data_length, &fault))
		return NULL;
	placed = tandem__order__v1__order_placed__unpack(NULL, event->data_length, event->data);
	if (placed == NULL)
		return NULL;
	if (placed->content == NULL || placed->content->n_lines < 1 ||
	    placed->content->n_lines > CHECK_LINES_MAX) {
		tandem__order__v1__order_placed__free_unpacked(placed, NULL);
		return NULL;
	}
	request = rt_alloc(sizeof(*request) + placed->content->n_lines * sizeof(request->lines[0]));
	request->placed = placed;
	*ret_reason = lines_fill(request);
	if (*ret_reason == NULL)
		return request;
	request_free(request);
	return NULL;
}

void inventory_on_order_event(struct rt_event *event, void *user)
{
	struct inventory *inventory = user;
	enum stock_request kind;
	struct request *request;
	const char *reason;

	if (!stock_request_parse(event->type, event->attempt, &kind)) {
		rt_event_ignore(event);
		return;
	}
	if (!check_order_id(event->subject)) {
		rt_event_poison(event, "the subject is not an order id");
		return;
	}
	if (kind == STOCK_REQ_RESERVE) {
		request = request_placed(event, &reason);
		if (request == NULL) {
			rt_event_poison(event, reason);
			return;
		}
	} else {
		request = rt_alloc(sizeof(*request));
	}
	request->inventory = inventory;
	request->event = event;
	request->op.order_id = event->subject;
	request->op.request = kind;
	request->op.seq = event->seq;
	request->op.attempt = event->attempt;
	request->op.now_ms = rt_loop_unix_ms(inventory->loop);
	request->op.traceparent = event->traceparent;
	request->op.event = event;
	request->op.done = request_served;
	inventory_store_request(inventory->store, &request->op);
}
