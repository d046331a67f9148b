/* order.c - the order service's parts put together, its end, and what its RPCs have in common.
 *
 * The context (runtime/context) keeps the connection, the subscription to inventory's events and the
 * trimming of the own stream. A stop ends the timers and answers those who wait; then the context waits
 * for what waits for the store. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "order/order_internal.h"

#define TIMERS_EVERY_MS    250
#define WAITERS_MAX        100000
#define TRACEPARENT_LENGTH 55

/* ---- storage ---- */

/* Warns when a group comes to hold half of what the stream may have, and says when it is over. */
static void note_held(void *own)
{
	struct order *order = own;
	const struct rt_trim_op *trim = &order->context->trim;
	bool filling = order->stream_length_max > 0 && trim->held >= order->stream_length_max / 2;

	if (filling == order->filling)
		return;
	order->filling = filling;
	if (filling)
		RT_LOG(RT_WARN,
		       "a consumer group that does not acknowledge fills the stream: at the limit "
		       "no order is accepted",
		       RT_S("group", trim->holder), RT_I("held", trim->held),
		       RT_I("limit", order->stream_length_max));
	else
		RT_LOG(RT_INFO, "no consumer group fills the stream any more",
		       RT_I("length", trim->length));
}

/* Storage was full at the last trim: Redis's memory, or the event stream, which has a hard length. */
static bool storage_problem(const void *own, char *text, size_t size)
{
	const struct order *order = own;
	const struct rt_trim_op *trim = &order->context->trim;
	size_t length;

	if (trim->memory_full) {
		snprintf(text, size, "Redis has reached its maxmemory and takes no order");
		return true;
	}
	if (order->stream_length_max == 0 || trim->length < order->stream_length_max)
		return false;
	length = (size_t)snprintf(text, size,
				  "the event stream of orders has reached its limit of %" PRId64
				  " entries",
				  order->stream_length_max);
	if (trim->held > 0 && length < size)
		snprintf(text + length, size - length,
			 ": consumer group %s has not acknowledged %" PRId64 " of them",
			 trim->holder, trim->held);
	return true;
}

/* ---- what RPCs have in common ---- */

/* Counts a decision: `state` is what a move led to. */
static void count_decision(struct order *order, const struct order_move_op *op)
{
	bool rejected = op->state == ORDER_REJECTED || op->state == ORDER_REJECTING;

	if (op->outcome != ORDER_MOVED || op->input == ORDER_IN_REQUEST_UNANSWERED)
		return;
	if (rejected && op->input != ORDER_IN_INVENTORY_UNAVAILABLE)
		return; /* decided before: it gives back, or is settled */
	order_count(order->counts.decided[op->state], 1);
	if (order->counts.decision_seconds != NULL &&
	    (op->input == ORDER_IN_INVENTORY_RESERVED ||
	     op->input == ORDER_IN_INVENTORY_UNAVAILABLE) &&
	    (op->state == ORDER_RESERVED || op->state == ORDER_REJECTED))
		rt_series_observe(order->counts.decision_seconds, (double)op->age_ms / 1000);
}

void order_move(struct order *order, struct order_move_op *op)
{
	op->want_history = order_watch_has(order->watch, op->order_id);
	order_store_move(order->store, op);
}

void order_moved(struct order *order, const struct order_move_op *op, int status)
{
	if (status != RT_OK || op->outcome == ORDER_UNKNOWN)
		return;
	count_decision(order, op);
	order_watch_moved(order->watch, op);
}

const char *order_traceparent(struct rt_call *call)
{
	size_t length = 0;
	const char *value = rt_call_metadata(call, "traceparent", &length);

	return value != NULL && order_is_traceparent(value, length) ? value : "";
}

bool order_is_traceparent(const char *text, size_t length)
{
	/* Version 00 of W3C Trace Context: 2, 32, 16 and 2 hexadecimal digits and their dashes. */
	return length == TRACEPARENT_LENGTH &&
	       strspn(text, "0123456789abcdef-") == TRACEPARENT_LENGTH;
}

int64_t order_retry_at(struct order *order, int64_t now_ms, uint32_t attempt)
{
	return order_retry_due(now_ms, attempt, order->clock.retry_min_ms,
			       order->clock.retry_max_ms,
			       (uint32_t)rt_loop_random(order->loop, 1000));
}

int64_t order_wait_ms(int64_t remaining_ms, int64_t max_ms)
{
	if (remaining_ms == INT64_MAX)
		return max_ms;
	/* Time for the way back; and gRPC sends a deadline as two or three digits, rounded up, so
	 * that the one that arrives can be 1 % too late. */
	remaining_ms -= RT_MIN(remaining_ms / 10, 50 + remaining_ms / 100);
	return RT_MAX(0, RT_MIN(remaining_ms, max_ms));
}

void order_status_not_found(struct rt_status *status, const char *order_id)
{
	rt_status_set(status, RT_CODE_NOT_FOUND, "there is no order %s", order_id);
	rt_status_info(status, "ORDER_NOT_FOUND");
}

void order_status_damaged(struct rt_status *status, const char *order_id)
{
	rt_status_set(status, RT_CODE_DATA_LOSS,
		      "the stored order %s cannot be read: ask an operator", order_id);
	rt_status_info(status, "ORDER_DAMAGED");
}

void order_status_stopping(struct rt_status *status)
{
	rt_status_set(status, RT_CODE_UNAVAILABLE, "the order service is stopping: try again");
	rt_status_info(status, "STOPPING");
	rt_status_retry(status, 1000);
}

void order_status_stream_full(struct rt_status *status, const struct order *order)
{
	char text[200];

	/* The stream may have come to its limit since the last trim. */
	if (!storage_problem(order, text, sizeof(text)))
		snprintf(text, sizeof(text),
			 "the event stream of orders has reached its limit of %" PRId64 " entries",
			 order->stream_length_max);
	rt_status_set(status, RT_CODE_RESOURCE_EXHAUSTED, "%s", text);
	rt_status_info(status, "STREAM_FULL");
	rt_status_retry(status, order->context->trim_every_ms);
}

void order_fail(struct rt_call *call, struct rt_status *status)
{
	rt_call_fail(call, status);
	rt_status_done(status);
}

bool order_check_one(struct order *order, struct rt_call *call, const ProtobufCMessage *request,
		     const char *order_id)
{
	struct rt_status status = { .code = 0 };

	if (check_request(request, &status)) {
		/* What cannot be an id is no order's. */
		if (!check_order_id(order_id))
			order_status_not_found(&status, order_id);
		else if (order->context->stopping)
			order_status_stopping(&status);
		else
			return true;
	}
	order_fail(call, &status);
	return false;
}

static void refused(const struct order_move_op *op, const char *wanted, struct rt_status *status)
{
	const char *stands = order_state_status(op->state);
	bool confirm = op->input == ORDER_IN_CONFIRM;
	char *description =
		rt_printf("order %s is %s: only %s order can be %s", op->order_id, stands,
			  confirm ? "a RESERVED" : "a PENDING or RESERVED", wanted);

	rt_status_set(status, RT_CODE_FAILED_PRECONDITION, "%s", description);
	rt_status_info(status, "ORDER_STATUS");
	rt_status_precondition(status, "ORDER_STATUS", op->order_id, description);
	free(description);
}

bool order_move_status(const struct order_move_op *op, int rc, const char *wanted,
		       struct rt_status *status)
{
	if (rc != RT_OK) {
		rt_status_from(status, rc, "moving the order");
		return false;
	}
	switch (op->outcome) {
	case ORDER_MOVED:
	case ORDER_STAYED:
		return true;
	case ORDER_REFUSED:
		refused(op, wanted, status);
		return false;
	case ORDER_MISMATCH:
		rt_status_set(status, RT_CODE_ABORTED,
			      "order %s is at version %" PRIu64 ", not at %" PRIu64
			      ": read it again",
			      op->order_id, op->version, op->expected_version);
		rt_status_info(status, "VERSION_MISMATCH");
		return false;
	case ORDER_UNKNOWN:
		break;
	}
	order_status_not_found(status, op->order_id);
	return false;
}

/* ---- metrics ---- */

static void register_decided(struct order_counts *counts, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "status", NULL };
	/* Settling decides nothing: those states are not counted. */
	static const struct {
		enum order_state state;
		const char *name[1];
	} states[] = {
		{ ORDER_RESERVED, { "reserved" } },    { ORDER_REJECTED, { "rejected" } },
		{ ORDER_REJECTING, { "rejected" } },   { ORDER_CONFIRMING, { "confirmed" } },
		{ ORDER_CANCELLING, { "cancelled" } }, { ORDER_EXPIRING, { "expired" } },
	};
	struct rt_metric *decided =
		rt_metric(metrics, RT_COUNTER, "tandem_orders_decided_total",
			  "Orders that moved, by the status they moved to.", labels);

	for (size_t i = 0; i < RT_LENGTH(states); i++)
		counts->decided[states[i].state] = rt_metric_series(decided, states[i].name);
}

static void register_metrics(struct order_counts *counts, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "outcome", NULL };
	struct rt_metric *placed;

	if (metrics == NULL)
		return;
	placed = rt_metric(metrics, RT_COUNTER, "tandem_orders_placed_total",
			   "Orders that clients placed: new ones, repeats of a request, and "
			   "requests that reused an id for other content.",
			   labels);
	counts->placed = rt_metric_series(placed, (const char *const[]){ "new" });
	counts->placed_before = rt_metric_series(placed, (const char *const[]){ "repeated" });
	counts->conflicts = rt_metric_series(placed, (const char *const[]){ "conflict" });
	register_decided(counts, metrics);
	counts->decision_seconds =
		rt_metric_plain(metrics, RT_HISTOGRAM, "tandem_order_decision_seconds",
				"From an order's placing to inventory's answer.");
	counts->republished =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_orders_republished_total",
				"Requests that were published again for want of an answer.");
	counts->unsettled = rt_metric_plain(metrics, RT_GAUGE, "tandem_orders_unsettled",
					    "Orders with a timer: reserved, or waiting for an "
					    "answer of inventory.");
	counts->overdue = rt_metric_plain(metrics, RT_GAUGE, "tandem_orders_due",
					  "Orders whose timer had run out at the last look.");
	counts->waiters = rt_metric_plain(metrics, RT_GAUGE, "tandem_order_waiters",
					  "Calls that wait for an order to change.");
}

/* ---- the whole ---- */

static int make(struct rt_context *context, const void *given, void **ret_own)
{
	const struct order_options *options = given;
	struct order *order = rt_alloc(sizeof(*order));
	int rc;

	*ret_own = order;
	order->service =
		(Tandem__Order__V1__OrderService_Service)TANDEM__ORDER__V1__ORDER_SERVICE__INIT(
			order_);
	order->placement = (Tandem__Order__V1__PlacementService_Service)
		TANDEM__ORDER__V1__PLACEMENT_SERVICE__INIT(order_);
	rt_list_init(&order->placements);
	order->context = context;
	order->loop = context->loop;
	order->clock = options->clock;
	order->stream_length_max = options->stream_length_max;
	register_metrics(&order->counts, context->metrics);
	rc = order_store_new(context->loop,
			     &(struct order_store_options){
				     .store = context->store,
				     .redis = context->redis,
				     .partition = context->partition,
				     .stream_length_max = options->stream_length_max > 0
								  ? options->stream_length_max
								  : INT64_MAX },
			     &order->store);
	if (rc != RT_OK)
		return rc;
	order->watch =
		order_watch_new(order->loop, order->store, WAITERS_MAX, order->counts.waiters);
	order->timers = order_timers_new(
		order, options->timers_every_ms > 0 ? options->timers_every_ms : TIMERS_EVERY_MS);
	return RT_OK;
}

static ProtobufCService *service(void *own, size_t number)
{
	struct order *order = own;
	ProtobufCService *const services[] = { &order->service.base, &order->placement.base };

	return number < RT_LENGTH(services) ? services[number] : NULL;
}

ProtobufCService *order_rpc(struct order *order)
{
	return &order->service.base;
}

ProtobufCService *order_placement_rpc(struct order *order)
{
	return &order->placement.base;
}

static void start(void *own)
{
	order_timers_start(((struct order *)own)->timers);
}

static void drain(void *own)
{
	struct order *order = own;

	order->draining = true;
	order_placements_close(order, false);
}

static void watch_stopped(void *user)
{
	order_call_end(user);
}

static void stop(void *own)
{
	struct order *order = own;

	order_call_begin(order);
	order_timers_stop(order->timers, order_call_end);
	order_placements_close(order, true);
	order_call_begin(order);
	order_watch_stop(order->watch, watch_stopped, order);
}

static void own_free(void *own)
{
	struct order *order = own;

	order_timers_free(order->timers);
	order_watch_free(order->watch);
	order_store_free(order->store);
	free(order);
}

const struct rt_context_domain order_domain = {
	.name = "order",
	.functions = &order_functions,
	.subscriptions = { { "inventory", order_on_inventory_event } },
	.make = make,
	.service = service,
	.start = start,
	.on_trimmed = note_held,
	.storage_problem = storage_problem,
	.drain = drain,
	.stop = stop,
	.free = own_free,
};
