/* inventory.c - makes the inventory service. The context (runtime/context) owns the connection, the
 * subscription to the orders' events and the trimming of the own stream; when it stops, it waits for
 * the RPCs that wait for the store. */
#include "base/base.h"
#include "inventory_internal.h"

static void register_metrics(struct inventory *inventory, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "answer", NULL };
	static const char *const names[STOCK_ANSWER_COUNT][1] = {
		[STOCK_ANS_NOTHING] = { "nothing" },
		[STOCK_ANS_RESERVED] = { "reserved" },
		[STOCK_ANS_UNAVAILABLE] = { "unavailable" },
		[STOCK_ANS_COMMITTED] = { "committed" },
		[STOCK_ANS_RELEASED] = { "released" },
		[STOCK_ANS_RETURNED] = { "returned" },
	};
	struct rt_metric *answers;

	if (metrics == NULL)
		return;
	answers = rt_metric(metrics, RT_COUNTER, "tandem_reservations_total",
			    "Requests of orders that were served, by answer.", labels);
	for (size_t i = 0; i < STOCK_ANSWER_COUNT; i++)
		inventory->answers[i] = rt_metric_series(answers, names[i]);
	inventory->unexpected =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_reservations_unexpected_total",
				"Requests that are possible only after a loss of data, "
				"such as a release of sold stock.");
	inventory->owed = rt_metric_plain(
		metrics, RT_COUNTER, "tandem_commits_owed_total",
		"Attempts to sell stock that was reserved and is not there (any more).");
	inventory_reconcile_metrics(&inventory->reconcile_series, metrics);
}

static int make(struct rt_context *context, const void *options, void **ret_data)
{
	const struct inventory_options *settings = options;
	struct inventory *inventory = rt_alloc(sizeof(*inventory));
	struct rt_store **stores;
	int rc;

	*ret_data = inventory;
	inventory->service = (Tandem__Inventory__V1__InventoryService_Service)
		TANDEM__INVENTORY__V1__INVENTORY_SERVICE__INIT(inventory_);
	inventory->context = context;
	inventory->loop = context->loop;
	inventory->sweep_after_ms =
		settings != NULL ? settings->sweep_after_ms : INVENTORY_SWEEP_AFTER_MS;
	inventory->late_ms =
		settings == NULL || settings->late_ms == 0 ? INVENTORY_LATE_MS : settings->late_ms;
	inventory->ask_ms =
		settings != NULL && settings->ask_ms > 0 ? settings->ask_ms : INVENTORY_ASK_MS;
	inventory->compare_max = settings != NULL && settings->compare_max > 0
					 ? settings->compare_max
					 : INVENTORY_COMPARE_MAX;
	register_metrics(inventory, context->metrics);
	stores = rt_alloc((size_t)context->partition_count * sizeof(struct rt_store *));
	for (int p = 0; p < context->partition_count; p++)
		stores[p] = context->partitions[p].store;
	rc = inventory_store_new(stores, context->partition_count, &inventory->store);
	free(stores);
	if (rc == RT_OK && context->partition_count > 1)
		inventory->reconciler = inventory_reconciler_new(inventory);
	return rc;
}

static void start(void *data)
{
	const struct inventory *inventory = data;

	if (inventory->reconciler != NULL)
		inventory_reconciler_start(inventory->reconciler);
}

static void stop(void *data)
{
	const struct inventory *inventory = data;

	if (inventory->reconciler != NULL)
		inventory_reconciler_stop(inventory->reconciler);
}

static ProtobufCService *service(void *data, size_t number)
{
	return number == 0 ? inventory_rpc(data) : NULL;
}

ProtobufCService *inventory_rpc(struct inventory *inventory)
{
	return &inventory->service.base;
}

static void data_free(void *data)
{
	struct inventory *inventory = data;

	inventory_reconciler_free(inventory->reconciler);
	inventory_store_free(inventory->store);
	free(inventory);
}

const struct rt_context_domain inventory_domain = {
	.name = "inventory",
	.functions = &inventory_functions,
	.subscriptions = { { "order", inventory_on_order_event } },
	.follower = "archive",
	.make = make,
	.service = service,
	.start = start,
	.stop = stop,
	.free = data_free,
};
