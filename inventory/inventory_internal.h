/* inventory_internal.h - shared by the files of the inventory service only. */
#ifndef INVENTORY_INTERNAL_H
#define INVENTORY_INTERNAL_H

#include "inventory.h"
#include "rpc/rpc.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"

struct inventory {
	Tandem__Inventory__V1__InventoryService_Service service; /* first: a handler gets this */
	struct rt_context *context;
	struct rt_loop *loop;
	struct inventory_store *store;
	struct rt_series *answers[STOCK_ANSWER_COUNT]; /* NULL without metrics */
	struct rt_series *unexpected, *owed;
};

/* One handler a file, as tandem.inventory.v1.InventoryService has them. */
#define INVENTORY_HANDLER(name, Method)                                                            \
	void name(Tandem__Inventory__V1__InventoryService_Service *service,                        \
		  const Tandem__Inventory__V1__##Method##Request *request,                         \
		  Tandem__Inventory__V1__##Method##Response_Closure closure, void *closure_data)
INVENTORY_HANDLER(inventory_adjust_stock, AdjustStock);
INVENTORY_HANDLER(inventory_batch_adjust_stock, BatchAdjustStock);
INVENTORY_HANDLER(inventory_get_stock, GetStock);
INVENTORY_HANDLER(inventory_list_stock, ListStock);
INVENTORY_HANDLER(inventory_get_reservation, GetReservation);

/* common.c. Counters as a message; its strings are borrowed. */
Tandem__Inventory__V1__Stock inventory_stock_message(const char *sku, const struct stock *stock);
/* Fills an adjustment from its request: strings are borrowed. */
void inventory_adjust_fill(struct inventory_adjust_op *op, struct rt_loop *loop,
			   const Tandem__Inventory__V1__AdjustStockRequest *request);
/* True: the adjustment took effect, now or before. False: the status says why not. */
bool inventory_adjust_status(const struct inventory_adjust_op *op, int rc,
			     struct rt_status *status);

/* Counts a request that was served, and warns of what should not happen. */
void inventory_count_served(struct inventory *inventory, const struct inventory_request_op *op);

/* events_order.c: the subscription's handler; `user` is the struct inventory. */
void inventory_on_order_event(struct rt_event *event, void *user);
/* split.c. Serves the request of an event whose lines lie in several partitions, and finishes the event; what `from`
 * points to is copied. */
void inventory_split_begin(struct inventory *inventory, const struct inventory_request_op *from);
/* What was known of the order's partition before its record was read. */
struct inventory_known {
	int64_t generation;
	uint64_t epoch;
};
/* The same for a request that was not served because the record, which it has read, is split. */
void inventory_split_go_on(struct inventory *inventory, const struct inventory_request_op *from,
			   const struct inventory_known *known);

#endif
