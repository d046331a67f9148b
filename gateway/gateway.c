/* gateway.c - the gateway put together: two services in front of two clients. */
#include <string.h>

#include "parts.h"

/* The index of a method; the descriptor always has it. */
static unsigned method_index(const ProtobufCServiceDescriptor *descriptor, const char *name)
{
	unsigned index = 0;

	while (index < descriptor->n_methods && strcmp(descriptor->methods[index].name, name) != 0)
		index++;
	return index;
}

static void count_things(struct gateway *gateway, struct rt_metrics *metrics)
{
	if (metrics == NULL)
		return;
	gateway->alone = rt_metric_plain(metrics, RT_COUNTER, "tandem_gateway_single_orders_total",
					 "Orders sent one by one: traced, or with little time.");
	gateway->refused =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_gateway_refused_orders_total",
				"Orders refused because too many were under way.");
	gateway->followed =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_gateway_followed_orders_total",
				"Orders watched because their batch came back undecided.");
}

int gateway_new(struct rt_loop *loop, const struct gateway_options *options, struct gateway **ret)
{
	const ProtobufCServiceDescriptor *order = &tandem__order__v1__order_service__descriptor;
	struct gateway *gateway;

	if (options->batch_max < 1 || options->batch_max > GATEWAY_BATCH_MAX ||
	    options->batches_in_flight < 1 || options->waiting_max < 1 || options->timeout_ms < 1)
		return RT_INVALID;
	gateway = rt_alloc(sizeof(*gateway));
	gateway->loop = loop;
	gateway->options = *options;
	gateway->place_order = method_index(order, "PlaceOrder");
	gateway->batch_place_orders = method_index(order, "BatchPlaceOrders");
	gateway->stream_orders = method_index(order, "StreamOrders");
	gateway->watch_order = method_index(order, "WatchOrder");
	gateway->requests = rt_alloc((size_t)options->batch_max * sizeof(*gateway->requests));
	gateway_route_init(&gateway->order, gateway, options->order);
	gateway_route_init(&gateway->inventory, gateway, options->inventory);
	count_things(gateway, options->metrics);
	gateway->placing = gateway_batch_new(gateway, false);
	gateway->deciding = gateway_batch_new(gateway, true);
	if (gateway->placing == NULL || gateway->deciding == NULL)
		goto fail;
	*ret = gateway;
	return RT_OK;
fail:
	gateway_free(gateway);
	return RT_INVALID;
}

ProtobufCService *gateway_order_rpc(struct gateway *gateway)
{
	return &gateway->order.base;
}

ProtobufCService *gateway_inventory_rpc(struct gateway *gateway)
{
	return &gateway->inventory.base;
}

void gateway_free(struct gateway *gateway)
{
	if (gateway == NULL)
		return;
	rt_batch_free(gateway->placing);
	rt_batch_free(gateway->deciding);
	free(gateway->requests);
	free(gateway);
}
