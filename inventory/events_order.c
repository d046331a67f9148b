/* events_order.c - handles the events of order:{p}:events.
 *
 *   inventory_on_order_event   which request is it, and for which lines?
 *     store->request           counters, reservation, answer and acknowledgement, one step
 *       request_served         the event is done, or will be delivered again
 *     store->reserve           the same for a new order, with others, if several partitions are in one Redis
 *       whole_tried            if it was not served: store->request
 *     split.c                  if the lines lie in several partitions, or the order's record says so
 *
 * An event that is not a request (stock.h) is acknowledged and ignored; a request that cannot be read
 * is poison. A request that could not be stored is delivered again, and is answered from the record if
 * it was stored after all. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "inventory_internal.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define REASON_MAX 64

struct request {
	struct inventory *inventory;
	ProtobufCMessage *message; /* owns the SKUs; NULL without lines */
	struct inventory_known known;
	struct inventory_conclude_op op;
	struct inventory_line lines[]; /* of op.request */
};

static void request_free(struct request *request)
{
	if (request->message != NULL)
		protobuf_c_message_free_unpacked(request->message, NULL);
	free(request);
}

static void request_served(struct inventory_request_op *op, int status)
{
	struct request *request = RT_CONTAINER_OF(op, struct request, op.request);
	struct rt_event *event = op->event;

	RT_FAILPOINT2("inventory.served", stock_request_type(op->request));
	if (status == RT_OK && !op->served) {
		inventory_note_call(event);
		inventory_split_go_on(request->inventory, op, &request->known);
		request_free(request);
	} else if (status == RT_OK) {
		inventory_count_served(request->inventory, op);
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
static const char *lines_fill(struct request *request, Tandem__Order__V1__OrderLine *const *lines,
			      size_t count)
{
	struct inventory_request_op *op = &request->op.request;

	for (size_t i = 0; i < count; i++) {
		const Tandem__Order__V1__OrderLine *line = lines[i];
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

/* What carries the lines of a request; NULL: nothing does. */
static const ProtobufCMessageDescriptor *message_of(enum stock_request kind)
{
	switch (kind) {
	case STOCK_REQ_RESERVE:
		return &tandem__order__v1__order_placed__descriptor;
	case STOCK_REQ_RETURN:
		return &tandem__order__v1__order_returned__descriptor;
	case STOCK_REQ_RELEASE:
		return &tandem__order__v1__order_cancelled__descriptor;
	case STOCK_REQ_EXPIRE:
		return &tandem__order__v1__order_expired__descriptor;
	case STOCK_REQ_REJECT:
	case STOCK_REQ_REJECT_AGAIN:
		return &tandem__order__v1__order_rejected__descriptor;
	default:
		return NULL;
	}
}

static bool must_have_lines(enum stock_request kind)
{
	return kind == STOCK_REQ_RESERVE || kind == STOCK_REQ_RETURN;
}

/* The lines in such a message, and how many. */
static Tandem__Order__V1__OrderLine **lines_of(const ProtobufCMessage *message,
					       enum stock_request kind, size_t *ret_count)
{
	const Tandem__Order__V1__OrderContent *content;

	switch (kind) {
	case STOCK_REQ_RESERVE:
		content = ((const Tandem__Order__V1__OrderPlaced *)message)->content;
		*ret_count = content != NULL ? content->n_lines : 0;
		return content != NULL ? content->lines : NULL;
	case STOCK_REQ_RETURN:
		*ret_count = ((const Tandem__Order__V1__OrderReturned *)message)->n_lines;
		return ((const Tandem__Order__V1__OrderReturned *)message)->lines;
	case STOCK_REQ_RELEASE:
		*ret_count = ((const Tandem__Order__V1__OrderCancelled *)message)->n_lines;
		return ((const Tandem__Order__V1__OrderCancelled *)message)->lines;
	case STOCK_REQ_EXPIRE:
		*ret_count = ((const Tandem__Order__V1__OrderExpired *)message)->n_lines;
		return ((const Tandem__Order__V1__OrderExpired *)message)->lines;
	default:
		*ret_count = ((const Tandem__Order__V1__OrderRejected *)message)->n_lines;
		return ((const Tandem__Order__V1__OrderRejected *)message)->lines;
	}
}

/* An event as a request with its lines; NULL and the reason when it is not valid. */
static struct request *request_with_lines(const struct rt_event *event, enum stock_request kind,
					  char reason[REASON_MAX])
{
	const ProtobufCMessageDescriptor *descriptor = message_of(kind);
	Tandem__Order__V1__OrderLine **lines;
	struct rt_wire_fault fault;
	ProtobufCMessage *message;
	struct request *request;
	const char *fault_text;
	size_t count;

	snprintf(reason, REASON_MAX, "the content is not a valid %s", descriptor->short_name);
	if (!rt_wire_check(descriptor, event->data, event->data_length, &fault))
		return NULL;
	message = protobuf_c_message_unpack(descriptor, NULL, event->data_length, event->data);
	if (message == NULL)
		return NULL;
	lines = lines_of(message, kind, &count);
	if ((count < 1 && must_have_lines(kind)) || count > CHECK_LINES_MAX) {
		protobuf_c_message_free_unpacked(message, NULL);
		return NULL;
	}
	request = rt_alloc(sizeof(*request) + count * sizeof(request->lines[0]));
	request->message = message;
	fault_text = lines_fill(request, lines, count);
	if (fault_text == NULL)
		return request;
	snprintf(reason, REASON_MAX, "%s", fault_text);
	request_free(request);
	return NULL;
}

/* Whether some line's stock is in another partition than the order. */
static bool is_split(const struct request *request)
{
	const struct inventory_request_op *op = &request->op.request;

	for (size_t i = 0; i < op->line_count; i++)
		if (inventory_store_partition(request->inventory->store, op->lines[i].sku) !=
		    op->partition)
			return true;
	return false;
}

/* Reserved, or there is more to it: then as any other request. */
static void whole_tried(struct inventory_request_op *op, int status)
{
	const struct request *request = RT_CONTAINER_OF(op, struct request, op.request);

	if (status != RT_OK || op->served) {
		request_served(op, status);
		return;
	}
	inventory_note_call(op->event);
	op->done = request_served;
	inventory_store_request(request->inventory->store, op);
}

/* It goes along with the split ones. */
static bool goes_along(const struct inventory *inventory, const struct inventory_request_op *op)
{
	return inventory_is_new(op) && !op->late && inventory_store_is_together(inventory->store);
}

static void request_send(struct request *request)
{
	struct inventory *inventory = request->inventory;
	struct inventory_request_op *op = &request->op.request;

	if (is_split(request)) {
		inventory_split_begin(inventory, op);
		request_free(request);
		return;
	}
	request->known.generation = inventory_store_generation(inventory->store, op->partition);
	request->known.epoch = inventory_store_epoch(inventory->store, op->partition);
	if (goes_along(inventory, op)) {
		op->done = whole_tried;
		request->op.generation = INVENTORY_NO_GENERATION;
		inventory_store_reserve(inventory->store, &request->op);
	} else {
		inventory_store_request(inventory->store, op);
	}
}

/* When an event was published; 0: it does not say. */
static int64_t time_of(struct inventory *inventory, const struct rt_event *event)
{
	if (strcmp(event->time, inventory->last_time) != 0) {
		if (!rt_time_parse(event->time, &inventory->last_time_ms))
			return 0;
		snprintf(inventory->last_time, sizeof(inventory->last_time), "%s", event->time);
	}
	return inventory->last_time_ms;
}

/* When the order asked, and whether that is long ago. When it is dropped, nothing has happened to it for longer. */
static void note_time(struct inventory *inventory, struct inventory_request_op *op)
{
	op->asked_ms = time_of(inventory, op->event);
	/* With late_ms < 0 each is, even if the clock has gone back since. */
	op->late = op->asked_ms > 0 &&
		   (inventory->late_ms < 0 || op->now_ms - op->asked_ms >= inventory->late_ms);
	if (op->request == STOCK_REQ_DROP)
		op->asked_ms = RT_MAX(op->asked_ms - RT_MAX(inventory->late_ms, 0), 0);
}

void inventory_on_order_event(struct rt_event *event, void *user)
{
	struct inventory *inventory = user;
	bool one_partition = inventory_store_partitions(inventory->store) == 1;
	enum stock_request kind;
	char reason[REASON_MAX];
	struct inventory_request_op *op;
	struct request *request;

	if (!stock_request_parse(event->type, event->attempt, &kind)) {
		rt_event_ignore(event);
		return;
	}
	RT_FAILPOINT2("inventory.request", stock_request_type(kind));
	if (!check_order_id(event->subject)) {
		rt_event_poison(event, "the subject is not an order id");
		return;
	}
	if (must_have_lines(kind) || (!one_partition && message_of(kind) != NULL)) {
		request = request_with_lines(event, kind, reason);
		if (request == NULL) {
			rt_event_poison(event, reason);
			return;
		}
	} else {
		request = rt_alloc(sizeof(*request));
	}
	request->inventory = inventory;
	op = &request->op.request;
	op->partition = event->partition;
	op->order_id = event->subject;
	op->request = kind;
	op->seq = event->seq;
	op->attempt = event->attempt;
	op->now_ms = rt_loop_unix_ms(inventory->loop);
	op->traceparent = event->own_traceparent;
	op->tracestate = event->tracestate;
	op->event = event;
	op->done = request_served;
	note_time(inventory, op);
	request_send(request);
}
