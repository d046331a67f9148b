/* watch_order.c - WatchOrder: the order as it is, then every change, until nothing more will happen.
 *
 *   order_watch_order → a waiter that reads at once
 *     on_order           sends each version not yet sent, including those between two reads, which
 *                        the record's history has
 *     on_drained         the client takes messages again: reads again
 *     on_cancel          the client has gone */
#include <string.h>

#include "order/order_internal.h"

struct watch_order {
	struct order *order;
	struct order_waiter waiter;
	Tandem__Order__V1__WatchOrderResponse_Closure closure;
	struct rt_call *call;
	char order_id[ORDER_ID_LENGTH + 1];
	int partition;
	uint64_t sent; /* the highest version sent, or not wanted */
	bool began;    /* it was read once */
	bool paused;
};

/* The only exit: with an error, or OK when `status` is NULL. */
static void finish(struct watch_order *watch, struct rt_status *status)
{
	struct order *order = watch->order;

	order_watch_remove(order->partitions[watch->partition].watch, &watch->waiter);
	rt_call_on_cancel(watch->call, NULL, NULL);
	rt_call_on_drained(watch->call, NULL, NULL);
	if (status != NULL)
		order_fail(watch->call, status);
	else
		rt_call_finish(watch->call);
	free(watch);
}

static bool send_version(struct watch_order *watch, const struct order_record *record,
			 uint64_t version)
{
	Tandem__Order__V1__WatchOrderResponse response =
		TANDEM__ORDER__V1__WATCH_ORDER_RESPONSE__INIT;
	struct rt_arena arena = { .chunks = NULL };

	response.order = order_view(&arena, record, NULL, version);
	if (response.order != NULL) {
		watch->sent = version;
		watch->closure(&response, watch->call);
	}
	rt_arena_done(&arena);
	return response.order != NULL;
}

static void on_drained(struct rt_call *call, void *user)
{
	struct watch_order *watch = user;

	(void)call;
	watch->paused = false;
	order_watch_read(watch->order->partitions[watch->partition].watch, &watch->waiter);
}

/* Sends the versions not yet sent; false when the client must read first. */
static bool send_versions(struct watch_order *watch, const struct order_record *record, bool *good)
{
	*good = true;
	while (watch->sent < record->version) {
		if (rt_call_queued_bytes(watch->call) > RT_CALL_QUEUE_MAX_BYTES) {
			watch->paused = true;
			rt_call_on_drained(watch->call, on_drained, watch);
			return false;
		}
		*good = send_version(watch, record, watch->sent + 1);
		if (!*good)
			return false;
	}
	return true;
}

static void on_order(struct order_waiter *waiter, const struct order_record *record)
{
	struct watch_order *watch = RT_CONTAINER_OF(waiter, struct watch_order, waiter);
	struct rt_status status = { .code = 0 };
	bool good;

	if (record == NULL) {
		order_status_not_found(&status, watch->order_id);
		finish(watch, &status);
		return;
	}
	if (watch->paused)
		return;
	/* A caller that knows no version gets the current state, not the history. */
	if (!watch->began && watch->sent == 0)
		watch->sent = record->version - 1;
	else if (watch->began && record->version < watch->sent) /* those were lost with a master */
		watch->sent = record->version - 1;
	watch->began = true;
	if (send_versions(watch, record, &good) && order_state_settled(record->state)) {
		finish(watch, NULL);
	} else if (!good) {
		order_status_damaged(&status, watch->order_id);
		finish(watch, &status);
	}
}

/* A caller that has already seen the order stays connected through an outage. */
static void on_failed(struct order_waiter *waiter, int rc)
{
	struct watch_order *watch = RT_CONTAINER_OF(waiter, struct watch_order, waiter);
	struct rt_status status = { .code = 0 };

	if (watch->began)
		return;
	rt_status_from(&status, rc, "reading the order");
	finish(watch, &status);
}

static void on_stop(struct order_waiter *waiter)
{
	struct rt_status status = { .code = 0 };

	order_status_stopping(&status);
	finish(RT_CONTAINER_OF(waiter, struct watch_order, waiter), &status);
}

static void on_cancel(struct rt_call *call, void *user)
{
	(void)call;
	finish(user, NULL);
}

static void order_found(void *user, int rc, int partition)
{
	struct watch_order *watch = user;
	struct rt_status status = { .code = 0 };

	watch->partition = partition;
	if (partition < 0 && rc == RT_OK) {
		order_status_not_found(&status, watch->order_id);
	} else if (partition < 0) {
		rt_status_from(&status, rc, "reading the order");
	} else if (order_watch_add(watch->order->partitions[partition].watch, &watch->waiter,
				   watch->order_id, 0, true)) {
		rt_call_on_cancel(watch->call, on_cancel, watch);
		return;
	} else {
		rt_status_set(&status, RT_CODE_RESOURCE_EXHAUSTED, "too many orders are watched");
		rt_status_info(&status, "TOO_MANY_WATCHED");
		rt_status_retry(&status, 1000);
	}
	order_fail(watch->call, &status);
	free(watch);
}

ORDER_HANDLER(order_watch_order, WatchOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct watch_order *watch;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	watch = rt_alloc(sizeof(*watch));
	watch->order = order;
	watch->closure = closure;
	watch->call = closure_data;
	watch->sent = request->after_version;
	memcpy(watch->order_id, request->order_id, ORDER_ID_LENGTH);
	watch->waiter.on_order = on_order;
	watch->waiter.on_failed = on_failed;
	watch->waiter.on_stop = on_stop;
	order_find(order, watch->call, watch->order_id, order_found, watch);
}
