/* events_inventory.c - handles the events of inventory:{p}:events.
 *
 *   order_on_inventory_event   which input is it?
 *     store->move              state, event, timer and acknowledgement, one step
 *       move_stored            the event is done, or will be delivered again
 *
 * StockAdjusted and StockLow concern no order: they are acknowledged and ignored. An event that cannot be parsed is
 * poison, and so is an answer to an unknown order; but that nothing is held for one that was lost with its master
 * (inventory/reconcile.c) is as it should be, and where orders are dropped a late answer to one of them, too. */
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "order/order_internal.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"

/* Not const: protobuf-c has no const strings. */
static char lost_reason[] = "inventory no longer holds the order's stock";

struct answer {
	struct order *order;
	struct rt_event *event;
	struct order_move_op op;
	struct rt_arena arena; /* of op.data */
};

/* What inventory publishes about orders. */
static const struct {
	const ProtobufCMessageDescriptor *descriptor;
	enum order_input input;
} types[] = {
	{ &tandem__inventory__v1__inventory_reserved__descriptor, ORDER_IN_INVENTORY_RESERVED },
	{ &tandem__inventory__v1__inventory_unavailable__descriptor,
	  ORDER_IN_INVENTORY_UNAVAILABLE },
	{ &tandem__inventory__v1__inventory_committed__descriptor, ORDER_IN_INVENTORY_COMMITTED },
	{ &tandem__inventory__v1__inventory_released__descriptor, ORDER_IN_INVENTORY_RELEASED },
	{ &tandem__inventory__v1__inventory_returned__descriptor, ORDER_IN_INVENTORY_RETURNED },
};

static void move_stored(struct order_move_op *op, int status)
{
	struct answer *answer = RT_CONTAINER_OF(op, struct answer, op);
	struct order *order = answer->order;
	struct rt_event *event = answer->event;
	char trace[RT_TRACE_ID_TEXT];

	order_moved(order, op, status);
	if (status == RT_OK && op->outcome == ORDER_GONE) {
		rt_event_done(event);
	} else if (status == RT_OK && op->outcome == ORDER_UNKNOWN) {
		RT_LOG(RT_WARN, "inventory answered an unknown order",
		       RT_S("order_id", event->subject), RT_S("type", event->type),
		       RT_S("trace_id", rt_trace_find(event->traceparent, event->subject, trace)));
		if (op->input == ORDER_IN_INVENTORY_RELEASED)
			rt_event_ignore(event);
		else
			rt_event_poison(event, "no such order");
	} else if (status == RT_OK) {
		rt_event_done(event);
	} else {
		rt_event_retry(event, status);
	}
	rt_arena_done(&answer->arena);
	free(answer);
	order_call_end(order);
}

/* The answer to a return is one to the request of a version: an earlier one, or a late one, settles nothing. */
static bool expect_version(struct answer *answer)
{
	Tandem__Inventory__V1__InventoryReturned *returned =
		tandem__inventory__v1__inventory_returned__unpack(
			rt_arena_allocator(&answer->arena), answer->event->data_length,
			answer->event->data);

	if (returned == NULL || returned->order_version == 0)
		return false;
	answer->op.expected_version = returned->order_version;
	return true;
}

/* The data of the event that may be published: OrderRejected for shortages; OrderCancelled for a
 * reservation that is gone although the order needs it. False: the content does not parse. */
static bool make_data(struct answer *answer)
{
	Tandem__Order__V1__OrderCancelled cancelled = TANDEM__ORDER__V1__ORDER_CANCELLED__INIT;
	Tandem__Order__V1__OrderRejected rejected = TANDEM__ORDER__V1__ORDER_REJECTED__INIT;
	Tandem__Inventory__V1__InventoryUnavailable *unavailable;
	struct rt_arena *arena = &answer->arena;
	struct order_move_op *op = &answer->op;

	if (op->input == ORDER_IN_INVENTORY_RELEASED) {
		cancelled.reason = lost_reason;
		op->data = order_pack(arena, &cancelled.base, &op->data_length);
	}
	if (op->input == ORDER_IN_INVENTORY_RETURNED)
		return expect_version(answer);
	if (op->input != ORDER_IN_INVENTORY_UNAVAILABLE)
		return true;
	unavailable = tandem__inventory__v1__inventory_unavailable__unpack(
		rt_arena_allocator(arena), answer->event->data_length, answer->event->data);
	if (unavailable == NULL || unavailable->n_shortages > CHECK_LINES_MAX)
		return false;
	rejected.n_shortages = unavailable->n_shortages;
	rejected.shortages =
		rt_arena_take(arena, (rejected.n_shortages + 1) * sizeof(*rejected.shortages));
	for (size_t i = 0; i < rejected.n_shortages; i++) {
		const Tandem__Inventory__V1__ReservationShortage *from = unavailable->shortages[i];
		Tandem__Order__V1__Shortage *shortage = rt_arena_take(arena, sizeof(*shortage));

		tandem__order__v1__shortage__init(shortage);
		shortage->sku = from->sku;
		shortage->requested = from->requested;
		shortage->available = from->available;
		shortage->unknown = from->unknown;
		rejected.shortages[i] = shortage;
	}
	op->data = order_pack(arena, &rejected.base, &op->data_length);
	return true;
}

static void move(struct order *order, struct rt_event *event, enum order_input input)
{
	struct answer *answer = rt_alloc(sizeof(*answer));
	struct order_move_op *op = &answer->op;

	answer->order = order;
	answer->event = event;
	op->partition = event->partition;
	op->order_id = event->subject;
	op->input = input;
	op->now_ms = rt_loop_unix_ms(order->loop);
	op->retry_due_ms = order_retry_at(order, op->now_ms, 1);
	op->span = event->span;
	op->traceparent = event->own_traceparent;
	op->tracestate = event->tracestate;
	op->event = event;
	op->done = move_stored;
	if (!make_data(answer)) {
		rt_arena_done(&answer->arena);
		free(answer);
		rt_event_poison(event, "the content does not parse");
		return;
	}
	order_call_begin(order);
	order_move(order, op);
}

static bool concerns_no_order(const char *type)
{
	return strcmp(type, tandem__inventory__v1__stock_adjusted__descriptor.name) == 0 ||
	       strcmp(type, tandem__inventory__v1__stock_low__descriptor.name) == 0;
}

void order_on_inventory_event(struct rt_event *event, void *user)
{
	struct rt_wire_fault fault;
	size_t i = 0;

	while (i < RT_LENGTH(types) && strcmp(event->type, types[i].descriptor->name) != 0)
		i++;
	if (i == RT_LENGTH(types) && concerns_no_order(event->type)) {
		rt_event_ignore(event);
	} else if (i == RT_LENGTH(types)) {
		rt_event_poison(event, "unknown type of event");
	} else if (!check_order_id(event->subject)) {
		rt_event_poison(event, "the subject is not an order id");
	} else if (event->data_length > 0 &&
		   !rt_wire_check(types[i].descriptor, event->data, event->data_length, &fault)) {
		rt_event_poison(event, "the content does not parse");
	} else {
		move(user, event, types[i].input);
	}
}
