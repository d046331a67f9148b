/* inventory.h - the inventory service put together from its parts: rules, store, RPCs,
 * subscription. main.c gives it the real parts, the simulation gives it memory.
 *
 *   adjust_stock.c …  one file per RPC          events_order.c   what it listens to
 *   stock.c           the rules                 store.h          what it keeps
 *   functions.lua     the atomic steps
 */
#ifndef INVENTORY_H
#define INVENTORY_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "events/events.h"
#include "store.h"

struct inventory; /* opaque */

struct inventory_options {
	struct inventory_store *store;   /* owned once inventory_new has succeeded */
	struct rt_stream_source *orders; /* the subscription to order:{p}:events; likewise */
	struct rt_events_options events; /* on_event and user_data are set here */
	int64_t trim_every_ms, retain_ms, retain_count, ghost_ms; /* as in order.h */
	struct rt_metrics *metrics;                               /* NULL: none */
};
int inventory_new(struct rt_loop *loop, const struct inventory_options *options,
		  struct inventory **ret);
/* tandem.inventory.v1.InventoryService; borrowed. */
ProtobufCService *inventory_rpc(struct inventory *inventory);
void inventory_start(struct inventory *inventory);
bool inventory_ready(const struct inventory *inventory);
void inventory_stop(struct inventory *inventory, void (*stopped)(void *user), void *user);
void inventory_free(struct inventory *inventory); /* before the start, or after stopped */

#endif
