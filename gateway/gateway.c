/* gateway.c - makes the gateway: a service in front of each client. */
#include "gateway_internal.h"
#include "loop/loop.h"

static void register_metrics(struct gateway *gateway, struct rt_metrics *metrics)
{
	if (metrics == NULL)
		return;
	rt_batch_metrics(metrics, "place", &gateway->batches, &gateway->batch_items);
	gateway_shed_metrics(gateway, metrics);
	gateway->refused =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_gateway_refused_orders_total",
				"Orders refused because too many were under way.");
}

int gateway_new(struct rt_loop *loop, const struct gateway_options *options, struct gateway **ret)
{
	const ProtobufCServiceDescriptor *order = &tandem__order__v1__order_service__descriptor;
	struct gateway *gateway;

	if (options->batch_max < 1 || options->batch_max > GATEWAY_BATCH_MAX ||
	    (options->order_channel == NULL && options->connections < 1) ||
	    options->orders_max < 1 || options->timeout_ms < 1)
		return RT_INVALID;
	gateway = rt_alloc(sizeof(*gateway));
	gateway->loop = loop;
	gateway->options = *options;
	gateway->place_order = gateway_method_index(order, "PlaceOrder");
	gateway->batch_place_orders = gateway_method_index(order, "BatchPlaceOrders");
	gateway->stream_orders = gateway_method_index(order, "StreamOrders");
	gateway->watch_order = gateway_method_index(order, "WatchOrder");
	gateway_route_init(&gateway->order, gateway, options->order, options->order_channel);
	gateway_route_init(&gateway->inventory, gateway, options->inventory,
			   options->inventory_channel);
	if (options->archive != NULL)
		gateway_route_init(&gateway->archive, gateway, options->archive,
				   options->archive_channel);
	register_metrics(gateway, options->metrics);
	gateway_questions_new(gateway);
	gateway_streams_new(gateway);
	*ret = gateway;
	return RT_OK;
}

ProtobufCService *gateway_order_rpc(struct gateway *gateway)
{
	return &gateway->order.base;
}

ProtobufCService *gateway_inventory_rpc(struct gateway *gateway)
{
	return &gateway->inventory.base;
}

ProtobufCService *gateway_archive_rpc(struct gateway *gateway)
{
	return &gateway->archive.base;
}

static void close_streams(struct rt_task *task)
{
	struct gateway *gateway = RT_CONTAINER_OF(task, struct gateway, stop_task);
	bool closed = gateway_streams_close(gateway);

	if (gateway_questions_close(gateway) && closed)
		gateway->stopped(gateway->stopped_user);
	else if (gateway->send_task.queued || gateway->ask_task.queued)
		rt_loop_defer(gateway->loop, &gateway->stop_task);
}

void gateway_stop(struct gateway *gateway, void (*stopped)(void *user), void *user)
{
	gateway->stopping = true;
	gateway_shed_stop(gateway);
	gateway->stopped = stopped;
	gateway->stopped_user = user;
	gateway->stop_task.run = close_streams;
	rt_loop_defer(gateway->loop, &gateway->stop_task);
}

void gateway_free(struct gateway *gateway)
{
	if (gateway == NULL)
		return;
	gateway_streams_free(gateway);
	gateway_route_done(&gateway->order);
	gateway_route_done(&gateway->inventory);
	gateway_route_done(&gateway->archive);
	free(gateway);
}
