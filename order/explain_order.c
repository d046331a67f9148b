/* explain_order.c - ExplainOrder: what happened to an order, why it has its status, and what comes
 * next; from the order service's own data. */
#include <inttypes.h>
#include <stdio.h>

#include "order/order_internal.h"

/* A history is bounded (store.h); more than this is left out. */
#define EVENTS_MAX 200

struct explain_order {
	struct order *order;
	struct order_get_op op;
	struct rt_arena arena;
	Tandem__Order__V1__ExplainOrderResponse_Closure closure;
	struct rt_call *call;
};

/* `by`: " by …", or "". */
static char *text_of(struct rt_arena *arena, const struct order_history_item *item,
		     const Tandem__Order__V1__Order *order, uint32_t attempt, const char *by)
{
	uint64_t pieces = 0;

	switch (item->event) {
	case ORDER_EV_PLACED:
		for (size_t i = 0; i < order->n_lines; i++)
			pieces += order->lines[i]->quantity;
		return rt_arena_printf(arena,
				       "The order was placed%s: %" PRIu64
				       " pieces of %zu SKUs. Inventory was asked to reserve them.",
				       by, pieces, order->n_lines);
	case ORDER_EV_RESERVED:
		return rt_arena_printf(arena, "Inventory holds every line.");
	case ORDER_EV_REJECTED:
		if (item->version > 2) /* not the answer to the placing */
			return rt_arena_printf(arena,
					       "Inventory could not hold every line. It was asked "
					       "to release what it may still hold.");
		return rt_arena_printf(arena, "Inventory could not hold every line.");
	case ORDER_EV_EXTENDED:
		return rt_arena_printf(arena, "The order's hold was extended%s.", by);
	case ORDER_EV_CONFIRMED:
		return rt_arena_printf(arena,
				       "The order was confirmed%s. Inventory was asked to commit "
				       "the reservation.",
				       by);
	case ORDER_EV_RETURNED:
		return rt_arena_printf(arena,
				       "Items came back%s. Inventory was asked to make them "
				       "available.",
				       by);
	case ORDER_EV_CANCELLED:
		return rt_arena_printf(arena,
				       "The order was cancelled%s. Inventory was asked to release "
				       "what it holds.",
				       by);
	case ORDER_EV_EXPIRED:
		return rt_arena_printf(arena, "The order was ended by its timer. Inventory was "
					      "asked to release what it holds.");
	case ORDER_EV_SETTLED:
		return rt_arena_printf(arena, "Inventory answered the last request.");
	default:
		return rt_arena_printf(arena,
				       "No answer came: inventory was asked again, "
				       "attempt %" PRIu32 ".",
				       attempt);
	}
}

static Tandem__Order__V1__OrderLifeEvent *life_event(struct rt_arena *arena,
						     const struct order_record *record,
						     const struct order_history_item *item,
						     const Tandem__Order__V1__Order *order,
						     uint32_t attempt)
{
	Tandem__Order__V1__OrderLifeEvent *event = rt_arena_take(arena, sizeof(*event));
	const char *type = order_event_type(item->event);
	const char *actor = order_history_actor(arena, record, item);
	const char *by = actor[0] == '\0' ? "" : rt_arena_printf(arena, " by %s", actor);

	tandem__order__v1__order_life_event__init(event);
	event->time = order_timestamp(arena, item->unix_ms);
	event->context = rt_arena_printf(arena, "order");
	event->kind = rt_arena_printf(arena, "%s", type == NULL ? "again" : type);
	event->text = text_of(arena, item, order, attempt, by);
	event->actor = (char *)(uintptr_t)actor;
	event->stream_id = rt_arena_printf(arena, "%s", item->stream_id);
	event->version = item->version;
	return event;
}

/* Fills the events from the history; returns when the last request was sent, in unix ms. */
static int64_t fill_events(struct rt_arena *arena, const struct order_record *record,
			   Tandem__Order__V1__OrderExplanation *explanation)
{
	struct order_history history;
	struct order_history_item item = { .unix_ms = 0 };
	uint32_t attempt = 1;

	explanation->events = rt_arena_take(arena, EVENTS_MAX * sizeof(*explanation->events));
	order_history_begin(&history, record->history);
	while (order_history_next(&history, &item)) {
		/* The last of several repeats has the stored attempt. */
		attempt = item.again ? attempt + 1 : 1;
		if (item.again && order_history_at_end(&history))
			attempt = record->attempt;
		if (explanation->n_events < EVENTS_MAX)
			explanation->events[explanation->n_events++] =
				life_event(arena, record, &item, explanation->order, attempt);
	}
	return item.unix_ms;
}

static const char *asked_to(enum order_state state)
{
	if (state == ORDER_CONFIRMING)
		return "commit the reservation";
	return state == ORDER_RETURNING ? "make available what came back" : "release what it holds";
}

static char *because(struct rt_arena *arena, const struct order_record *record,
		     const Tandem__Order__V1__Order *order)
{
	const char *status = order_state_status(record->state);

	switch (record->state) {
	case ORDER_PENDING:
		return rt_arena_printf(arena,
				       "PENDING: inventory has been asked %" PRIu32
				       " times to reserve the order and has not answered yet.",
				       record->attempt);
	case ORDER_RESERVED:
		return rt_arena_printf(arena, "RESERVED: inventory holds every line, and the order "
					      "has not been confirmed or cancelled yet.");
	case ORDER_REJECTING:
	case ORDER_CONFIRMING:
	case ORDER_RETURNING:
	case ORDER_CANCELLING:
	case ORDER_EXPIRING:
		return rt_arena_printf(arena,
				       "%s%s%s: decided, but inventory has been asked %" PRIu32
				       " times to %s and has not answered yet.",
				       status, order->status_reason[0] == '\0' ? "" : ", ",
				       order->status_reason, record->attempt,
				       asked_to(record->state));
	default:
		return rt_arena_printf(arena, "%s%s%s.", status,
				       order->status_reason[0] == '\0' ? "" : ": ",
				       order->status_reason);
	}
}

static char *next(const struct order *order, struct rt_arena *arena,
		  const struct order_record *record, const Tandem__Order__V1__Order *shown,
		  int64_t asked_ms)
{
	char retry[RT_TIME_TEXT], end[RT_TIME_TEXT];
	int64_t created_ms = order_created_ms(record);

	rt_time_format(order_retry_due(asked_ms, record->attempt, order->clock.retry_min_ms,
				       order->clock.retry_max_ms, 500),
		       retry);
	switch (record->state) {
	case ORDER_PENDING:
		rt_time_format(created_ms + order->clock.decision_ms, end);
		return rt_arena_printf(arena,
				       "Inventory answers; without an answer it is asked again "
				       "at about %s, and the order expires at %s.",
				       retry, end);
	case ORDER_RESERVED:
		rt_time_format(shown->hold_expire_time->seconds * 1000 +
				       shown->hold_expire_time->nanos / 1000000,
			       end);
		return rt_arena_printf(
			arena, "ConfirmOrder or CancelOrder; without either it expires at %s.",
			end);
	case ORDER_REJECTING:
	case ORDER_CONFIRMING:
	case ORDER_RETURNING:
	case ORDER_CANCELLING:
	case ORDER_EXPIRING:
		return rt_arena_printf(arena,
				       "Inventory answers, and the order is settled; without an "
				       "answer it is asked again at about %s.",
				       retry);
	default:
		return rt_arena_printf(arena, "Nothing: the order is settled.");
	}
}

static bool send_answer(struct explain_order *explain)
{
	Tandem__Order__V1__ExplainOrderResponse response =
		TANDEM__ORDER__V1__EXPLAIN_ORDER_RESPONSE__INIT;
	Tandem__Order__V1__OrderExplanation explanation =
		TANDEM__ORDER__V1__ORDER_EXPLANATION__INIT;
	const struct order_record *record = &explain->op.record;
	struct rt_arena *arena = &explain->arena;
	int64_t asked_ms;

	explanation.order = order_view(arena, record, NULL, 0);
	if (explanation.order == NULL)
		return false;
	asked_ms = fill_events(arena, record, &explanation);
	explanation.because = because(arena, record, explanation.order);
	explanation.next = next(explain->order, arena, record, explanation.order, asked_ms);
	response.explanation = &explanation;
	explain->closure(&response, explain->call);
	return true;
}

static void order_read(struct order_get_op *op, int rc)
{
	struct explain_order *explain = RT_CONTAINER_OF(op, struct explain_order, op);
	struct order *order = explain->order;
	struct rt_status status = { .code = 0 };

	if (rc != RT_OK)
		rt_status_from(&status, rc, "reading the order");
	else if (!op->found)
		order_status_not_found(&status, op->order_id);
	else if (!send_answer(explain))
		order_status_damaged(&status, op->order_id);
	if (status.code != 0)
		order_fail(explain->call, &status);
	rt_arena_done(&explain->arena);
	free(explain);
	order_call_end(order);
}

static void order_found(void *user, int status, int partition)
{
	struct explain_order *explain = user;

	explain->op.partition = partition;
	explain->op.found = false;
	if (partition >= 0)
		order_store_get(explain->order->store, &explain->op);
	else
		order_read(&explain->op, status);
}

ORDER_HANDLER(order_explain_order, ExplainOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct explain_order *explain;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	explain = rt_alloc(sizeof(*explain));
	explain->order = order;
	explain->closure = closure;
	explain->call = closure_data;
	explain->op.order_id = request->order_id;
	explain->op.done = order_read;
	order_call_begin(order);
	order_find(order, explain->call, request->order_id, order_found, explain);
}
