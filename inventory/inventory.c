/* inventory.c - the inventory service's parts put together, its housekeeping, its end.
 *
 * Every trim_every_ms the own stream is trimmed to what some group still needs. A stop ends the
 * subscription, then waits for the RPCs that wait for the store and for a trim that is under way. */
#include <string.h>

#include "base/base.h"
#include "inventory_internal.h"

#define TRIM_EVERY_MS 5000

static void trim_later(struct inventory *inventory);

static void stop_check(struct inventory *inventory)
{
	if (!inventory->stopping || !inventory->orders_stopped || inventory->calls > 0 ||
	    inventory->trimming || inventory->stopped == NULL)
		return;
	RT_TAKE(inventory->stopped)(inventory->stopped_user);
}

/* Warns once about a group that nobody reads for, and again when it is another one. */
static void note_ghost(struct inventory *inventory, const struct rt_trim_op *trim)
{
	if (strcmp(inventory->ghost, trim->ghost) == 0)
		return;
	memcpy(inventory->ghost, trim->ghost, sizeof(inventory->ghost));
	if (trim->ghost_count > 0)
		RT_LOG(RT_WARN, "a group without a consumer holds back the trimming of the stream",
		       RT_S("group", trim->ghost), RT_I("ghosts", trim->ghost_count),
		       RT_I("length", trim->length));
}

static void trimmed(struct rt_trim_op *op, int status)
{
	struct inventory *inventory = RT_CONTAINER_OF(op, struct inventory, trim);

	inventory->trimming = false;
	if (status == RT_OK) {
		note_ghost(inventory, op);
		if (inventory->trimmed != NULL) {
			rt_series_add(inventory->trimmed, (double)op->trimmed);
			rt_series_set(inventory->stream_length, (double)op->length);
			rt_series_set(inventory->stream_held, (double)op->held);
			rt_series_set(inventory->ghosts, (double)op->ghost_count);
		}
	} else {
		RT_LOG(RT_DEBUG, "the stream was not trimmed",
		       RT_S("status", rt_status_name(status)));
	}
	if (inventory->stopping)
		stop_check(inventory);
	else
		trim_later(inventory);
}

static void trim_now(struct rt_timer *timer)
{
	struct inventory *inventory = RT_CONTAINER_OF(timer, struct inventory, trim_timer);

	inventory->trimming = true;
	inventory->trim.now_ms = rt_loop_unix_ms(inventory->loop);
	inventory->trim.done = trimmed;
	inventory->store->ops->trim(inventory->store, &inventory->trim);
}

static void trim_later(struct inventory *inventory)
{
	rt_timer_start(inventory->loop, &inventory->trim_timer, inventory->trim_every_ms, trim_now);
}

void inventory_call_begin(struct inventory *inventory)
{
	inventory->calls++;
}

void inventory_call_end(struct inventory *inventory)
{
	inventory->calls--;
	stop_check(inventory);
}

static void inventory_register(struct inventory *inventory, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "answer", NULL };
	static const char *const names[STOCK_ANSWER_COUNT][1] = {
		[STOCK_ANS_NOTHING] = { "nothing" },
		[STOCK_ANS_RESERVED] = { "reserved" },
		[STOCK_ANS_UNAVAILABLE] = { "unavailable" },
		[STOCK_ANS_COMMITTED] = { "committed" },
		[STOCK_ANS_RELEASED] = { "released" },
	};
	struct rt_metric *answers;

	if (metrics == NULL)
		return;
	answers = rt_metric(metrics, RT_COUNTER, "tandem_reservations_total",
			    "Requests of orders that were served, by what was answered.", labels);
	for (size_t i = 0; i < STOCK_ANSWER_COUNT; i++)
		inventory->answers[i] = rt_metric_series(answers, names[i]);
	inventory->odd = rt_metric_plain(metrics, RT_COUNTER, "tandem_reservations_odd_total",
					 "Requests that cannot come unless something was lost, "
					 "such as a release of what is sold.");
	inventory->stream_length = rt_metric_plain(metrics, RT_GAUGE, "tandem_stream_length",
						   "Entries of the own event stream.");
	inventory->trimmed = rt_metric_plain(metrics, RT_COUNTER, "tandem_stream_trimmed_total",
					     "Entries trimmed off the own event stream.");
	inventory->stream_held =
		rt_metric_plain(metrics, RT_GAUGE, "tandem_stream_held_entries",
				"Entries of the own event stream that some group has not "
				"acknowledged.");
	inventory->ghosts =
		rt_metric_plain(metrics, RT_GAUGE, "tandem_stream_ghost_groups",
				"Groups of the own event stream without a live consumer.");
}

int inventory_new(struct rt_loop *loop, const struct inventory_options *options,
		  struct inventory **ret)
{
	struct inventory *inventory = rt_alloc(sizeof(*inventory));
	struct rt_events_options events = options->events;
	int rc;

	inventory->service = (Tandem__Inventory__V1__InventoryService_Service)
		TANDEM__INVENTORY__V1__INVENTORY_SERVICE__INIT(inventory_);
	inventory->loop = loop;
	inventory->store = options->store;
	inventory->trim_every_ms =
		options->trim_every_ms > 0 ? options->trim_every_ms : TRIM_EVERY_MS;
	inventory->trim.retain_ms = options->retain_ms;
	inventory->trim.retain_count = options->retain_count;
	inventory->trim.ghost_ms = options->ghost_ms;
	inventory_register(inventory, options->metrics);
	events.on_event = inventory_on_order_event;
	events.user_data = inventory;
	rc = rt_events_new(loop, options->orders, &events, &inventory->orders);
	if (rc != RT_OK) {
		/* What was handed over stays with the caller when nothing was made of it. */
		free(inventory);
		return rc;
	}
	*ret = inventory;
	return RT_OK;
}

ProtobufCService *inventory_rpc(struct inventory *inventory)
{
	return &inventory->service.base;
}

void inventory_start(struct inventory *inventory)
{
	rt_events_start(inventory->orders);
	trim_later(inventory);
}

bool inventory_ready(const struct inventory *inventory)
{
	return inventory->store->ops->ready(inventory->store) && rt_events_ready(inventory->orders);
}

static void orders_stopped(void *user)
{
	struct inventory *inventory = user;

	inventory->orders_stopped = true;
	stop_check(inventory);
}

void inventory_stop(struct inventory *inventory, void (*stopped)(void *user), void *user)
{
	inventory->stopping = true;
	inventory->stopped = stopped;
	inventory->stopped_user = user;
	rt_timer_stop(inventory->loop, &inventory->trim_timer);
	rt_events_stop(inventory->orders, orders_stopped, inventory);
}

void inventory_free(struct inventory *inventory)
{
	if (inventory == NULL)
		return;
	rt_timer_stop(inventory->loop, &inventory->trim_timer);
	rt_events_free(inventory->orders);
	inventory->store->ops->free(inventory->store);
	free(inventory);
}
