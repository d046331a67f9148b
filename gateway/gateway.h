/* gateway.h - where calls enter: checks, batching, routing. The gateway stores nothing.
 *
 *   placing.c       sends orders to the order service, gathered, over long-lived streams
 *   perhaps_dropped.c   of orders that were perhaps placed before, asks the archive
 *   place_order.c, stream_orders.c, batch_place_orders.c   the RPCs that place orders with it
 *   route.c         all other RPCs: checked and passed on, with deadline and traceparent
 *   archived.c, archived_list.c, archived_batch.c   what the order service does not have any more, from the archive
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "loop/loop.h"
#include "shedding.h"

struct gateway; /* opaque */

struct gateway_options {
	/* Clients (rt_client_new, rt_client_local); borrowed. */
	ProtobufCService *order, *placement, *inventory;
	ProtobufCService *archive; /* NULL: there is none */
	/* Their channels: which instances there are. NULL, for clients without a channel: `connections`
	 * of the order service, all of which serve. */
	struct rt_channel *order_channel, *inventory_channel, *archive_channel;
	int64_t connections;
	int64_t batch_max;  /* orders in a message, 128 */
	int64_t orders_max; /* orders under way, 20000; one more: RESOURCE_EXHAUSTED */
	/* Orders of a customer that are on their way, or that inventory has not answered; 0: no limit. Of callers with the
	 * role alone. */
	int64_t pending_per_caller;
	/* From when on new orders are refused in part (shedding.h). */
	struct shed_limits shed;
	int64_t timeout_ms; /* for calls without a deadline of their own, 30000 */
	struct rt_metrics *metrics;
};
int gateway_new(struct rt_loop *loop, const struct gateway_options *options, struct gateway **ret);
ProtobufCService *gateway_order_rpc(struct gateway *gateway);     /* borrowed */
ProtobufCService *gateway_inventory_rpc(struct gateway *gateway); /* borrowed */
ProtobufCService *gateway_archive_rpc(struct gateway *gateway);   /* borrowed */
/* Ends the streams to the order service, and the orders that are still on them. `stopped` runs once,
 * never before this returns. */
void gateway_stop(struct gateway *gateway, void (*stopped)(void *user), void *user);
/* Before the first call, or after stopped, when every call has ended. Takes NULL. */
void gateway_free(struct gateway *gateway);

#endif
