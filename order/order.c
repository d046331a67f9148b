/* order.c - makes the order service, and ends it.
 *
 * The context (runtime/context) owns the connection, the subscription to inventory's events and the
 * trimming of the own stream. A stop ends the timers and answers the waiting callers; then the context
 * waits for operations of the store. */
#include <stdio.h>
#include <string.h>

#include "order/order_internal.h"

#define TIMERS_EVERY_MS 250
/* Longer than any request of an order to inventory takes: one that arrives later than INVENTORY_LATE_MS finds out whether
 * the order was dropped. */
#define KEPT_MS     60000
#define WAITERS_MAX 100000

/* Warns when a group holds half of the stream's limit, and logs when it no longer does. */
static void note_held(void *data, const struct rt_partition *partition)
{
	struct order *order = data;
	struct order_partition *own = &order->partitions[partition->number];
	const struct rt_trim_op *trim = &partition->trim;
	bool filling = order->stream_length_max > 0 && trim->held >= order->stream_length_max / 2;

	if (filling == own->filling)
		return;
	own->filling = filling;
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

/* ---- metrics ---- */

static void register_decided(struct order_counts *counts, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "status", NULL };
	/* Without the settled states: settling is not a decision. */
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

static void register_settled(struct order_counts *counts, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "status", NULL };
	static const struct {
		enum order_state state;
		const char *name[1];
	} states[] = {
		{ ORDER_CONFIRMED, { "confirmed" } },
		{ ORDER_CANCELLED, { "cancelled" } },
		{ ORDER_EXPIRED, { "expired" } },
		{ ORDER_REJECTED, { "rejected" } },
	};
	struct rt_metric *seconds = rt_metric(
		metrics, RT_HISTOGRAM_LONG, "tandem_order_settled_seconds",
		"Time from placing an order until it was settled, by its last status.", labels);

	for (size_t i = 0; i < RT_LENGTH(states); i++)
		counts->settled_seconds[states[i].state] =
			rt_metric_series(seconds, states[i].name);
}

static void register_metrics(struct order_counts *counts, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "outcome", NULL };
	struct rt_metric *placed;

	if (metrics == NULL)
		return;
	placed = rt_metric(metrics, RT_COUNTER, "tandem_orders_placed_total",
			   "Orders that clients placed: new ones, repeats of a request, "
			   "requests that reused an id for other content, and those that may "
			   "be repeats of an order in the archive.",
			   labels);
	counts->placed = rt_metric_series(placed, (const char *const[]){ "new" });
	counts->placed_before = rt_metric_series(placed, (const char *const[]){ "repeated" });
	counts->conflicts = rt_metric_series(placed, (const char *const[]){ "conflict" });
	counts->too_many = rt_metric_series(placed, (const char *const[]){ "too_many" });
	counts->perhaps_dropped =
		rt_metric_series(placed, (const char *const[]){ "perhaps_archived" });
	counts->dropped = rt_metric_plain(metrics, RT_COUNTER, "tandem_orders_dropped_total",
					  "Settled orders that were dropped, because the archive "
					  "has them.");
	register_decided(counts, metrics);
	register_settled(counts, metrics);
	counts->decision_seconds =
		rt_metric_plain(metrics, RT_HISTOGRAM, "tandem_order_decision_seconds",
				"Time from placing an order to inventory's answer.");
	counts->republished =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_orders_republished_total",
				"Requests that were published again because no answer came.");
	counts->unsettled = rt_metric_plain(metrics, RT_GAUGE, "tandem_orders_unsettled",
					    "Orders with a timer: reserved, or waiting for an "
					    "answer of inventory.");
	counts->overdue = rt_metric_plain(metrics, RT_GAUGE, "tandem_orders_due",
					  "Orders whose timer had run out at the last check.");
	counts->waiters = rt_metric_plain(metrics, RT_GAUGE, "tandem_order_waiters",
					  "Calls that wait for an order to change.");
}

/* ---- the service ---- */

static int make_store(struct order *order, const struct order_options *options)
{
	const struct rt_context *context = order->context;
	const struct order_store_options store = {
		.redis = context->redis,
		.stream_length_max =
			options->stream_length_max > 0 ? options->stream_length_max : INT64_MAX,
		.partition_count = context->partition_count,
	};
	struct rt_store **stores = rt_alloc((size_t)context->partition_count * sizeof(*stores));
	int rc;

	for (int p = 0; p < context->partition_count; p++)
		stores[p] = context->partitions[p].store;
	rc = order_store_new(context->loop, stores, &store, &order->store);
	free(stores);
	return rc;
}

/* Its timer is set to at most retry_max_ms and a quarter; it is looked at a moment later, or after a lease. */
static void make_unanswered(struct order *order, int partition)
{
	static const char *const labels[] = { "partition", NULL };
	struct order_unanswered *unanswered = &order->partitions[partition].unanswered;
	char number[16];
	const char *const value[] = { number };

	if (order->context->metrics == NULL)
		return;
	snprintf(number, sizeof(number), "%d", partition);
	unanswered->keep_ms = 2 * order->clock.retry_max_ms + 2000;
	unanswered->seconds = rt_metric_series(
		rt_metric(order->context->metrics, RT_GAUGE,
			  "tandem_order_oldest_unanswered_seconds",
			  "For how long inventory has not answered the oldest request that was "
			  "repeated, or waits to be read.",
			  labels),
		value);
}

static int make(struct rt_context *context, const void *given, void **ret_data)
{
	const struct order_options *options = given;
	struct order *order = rt_alloc(sizeof(*order));
	int rc;

	*ret_data = order;
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
	order->kept_ms = options->kept_ms == 0 ? KEPT_MS : RT_MAX(options->kept_ms, 0);
	order->hold_max_ms = options->hold_max_ms > 0 ? options->hold_max_ms : CHECK_HOLD_MAX_MS;
	register_metrics(&order->counts, context->metrics);
	order->partition_count = context->partition_count;
	order->partitions = rt_alloc((size_t)order->partition_count * sizeof(*order->partitions));
	rc = make_store(order, options);
	if (rc != RT_OK)
		return rc;
	rc = order_load_new(order, context, options->load_every_ms, order_placements_send_load,
			    &order->load);
	if (rc != RT_OK)
		return rc;
	for (int p = 0; p < order->partition_count; p++) {
		order->partitions[p].watch = order_watch_new(order->loop, order->store, p,
							     WAITERS_MAX, order->counts.waiters);
		make_unanswered(order, p);
		order->partitions[p].timers = order_timers_new(
			order, p,
			options->timers_every_ms > 0 ? options->timers_every_ms : TIMERS_EVERY_MS);
	}
	return RT_OK;
}

static ProtobufCService *service(void *data, size_t number)
{
	struct order *order = data;
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

static void start(void *data)
{
	struct order *order = data;

	for (int p = 0; p < order->partition_count; p++)
		order_timers_start(order->partitions[p].timers);
}

static void drain(void *data)
{
	struct order *order = data;

	order->draining = true;
	order_placements_close(order, false);
}

static void watch_stopped(void *user)
{
	order_call_end(user);
}

static void stop(void *data)
{
	struct order *order = data;

	order_load_stop(order->load);
	for (int p = 0; p < order->partition_count; p++) {
		order_call_begin(order);
		order_timers_stop(order->partitions[p].timers, order_call_end);
	}
	order_placements_close(order, true);
	for (int p = 0; p < order->partition_count; p++) {
		order_call_begin(order);
		order_watch_stop(order->partitions[p].watch, watch_stopped, order);
	}
}

static void data_free(void *data)
{
	struct order *order = data;

	for (int p = 0; p < order->partition_count; p++) {
		order_timers_free(order->partitions[p].timers);
		order_watch_free(order->partitions[p].watch);
	}
	order_load_free(order->load);
	order_store_free(order->store);
	free(order->partitions);
	free(order);
}

const struct rt_context_domain order_domain = {
	.name = "order",
	.functions = &order_functions,
	.subscriptions = { { "inventory", order_on_inventory_event },
			   { "archive", order_on_archive_event } },
	.follower = "archive",
	.make = make,
	.service = service,
	.start = start,
	.on_trimmed = note_held,
	.storage_problem = order_storage_problem,
	.drain = drain,
	.stop = stop,
	.free = data_free,
};
