/* inventory.h - the inventory service, made of rules, store, RPCs and subscription. main.c runs it as
 * a program; the simulation gives it a Redis in memory.
 *
 *   adjust_stock.c …  one file per RPC          events_order.c   handles the orders' events
 *   stock.c           the rules                 store.h          what it stores
 *   functions.lua     the atomic steps
 */
#ifndef INVENTORY_H
#define INVENTORY_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "context/context.h"
#include "store.h"

struct inventory; /* opaque */

#define INVENTORY_ASK_MS         1000
#define INVENTORY_SWEEP_AFTER_MS 60000
#define INVENTORY_COMPARE_MAX    100000
/* Shorter than an order is kept after its last change (order.c); longer than requests of orders that are kept mostly take. */
#define INVENTORY_LATE_MS 20000
/* The domain's options; NULL: the defaults. */
struct inventory_options {
	int64_t ask_ms; /* between two questions to a master whether it is another one; 0: the default */
	int64_t sweep_after_ms; /* after a reconciliation (reconcile.c) */
	int64_t late_ms; /* an older request finds out whether its order was dropped; 0: the default, < 0: each does */
	size_t compare_max; /* parts of a reconciliation, and orders to mend, in memory; 0: the default */
};

/* Makes a struct inventory. */
extern const struct rt_context_domain inventory_domain;
/* tandem.inventory.v1.InventoryService; borrowed. */
ProtobufCService *inventory_rpc(struct inventory *inventory);

#endif
