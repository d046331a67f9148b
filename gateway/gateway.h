/* gateway.h - where a call enters: edge checks, batching, routing. Keeps nothing.
 *
 *   place_order.c   PlaceOrder: gathered into BatchPlaceOrders
 *   stream_orders.c StreamOrders: each item on the same way
 *   route.c         everything else: checked and passed on, deadline and traceparent with it
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include <protobuf-c/protobuf-c.h>

#include "loop.h"
#include "metrics.h"

struct gateway; /* opaque */

struct gateway_options {
	ProtobufCService *order,
		*inventory;        /* clients (rt_client_new, rt_client_local); borrowed */
	int64_t batch_max;         /* orders in a BatchPlaceOrders, 128 */
	int64_t batches_in_flight; /* 8 */
	int64_t waiting_max;       /* orders waiting to be sent, 20000; more: RESOURCE_EXHAUSTED */
	int64_t timeout_ms;        /* for calls without a deadline of their own, 30000 */
	struct rt_metrics *metrics;
};
int gateway_new(struct rt_loop *loop, const struct gateway_options *options, struct gateway **ret);
ProtobufCService *gateway_order_rpc(struct gateway *gateway);     /* borrowed */
ProtobufCService *gateway_inventory_rpc(struct gateway *gateway); /* borrowed */
/* Every call must have ended. Takes NULL. */
void gateway_free(struct gateway *gateway);

#endif
