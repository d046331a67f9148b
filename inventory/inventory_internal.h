/* inventory_internal.h - shared by the files of the inventory service only. */
#ifndef INVENTORY_INTERNAL_H
#define INVENTORY_INTERNAL_H

#include "inventory.h"
#include "rpc/rpc.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"

struct inventory_reconcile_series { /* NULL without metrics */
	struct rt_series *runs, *released, *committed, *reserved, *cancelled, *waiting;
};
struct inventory {
	Tandem__Inventory__V1__InventoryService_Service service; /* first: a handler gets this */
	struct rt_context *context;
	struct rt_loop *loop;
	struct inventory_store *store;
	struct rt_series *answers[STOCK_ANSWER_COUNT]; /* NULL without metrics */
	struct rt_series *unexpected, *owed;
	int64_t ask_ms, sweep_after_ms, late_ms;
	char last_time
		[RT_TIME_TEXT]; /* of the last event, and what that is: those of an entry have the same */
	int64_t last_time_ms;
	size_t compare_max;
	struct inventory_reconcile_series reconcile_series;
	struct inventory_reconciler *reconciler; /* NULL with one partition */
};

/* One handler a file, as tandem.inventory.v1.InventoryService has them. */
#define INVENTORY_HANDLER(name, Method)                                                            \
	void name(Tandem__Inventory__V1__InventoryService_Service *service,                        \
		  const Tandem__Inventory__V1__##Method##Request *request,                         \
		  Tandem__Inventory__V1__##Method##Response_Closure closure, void *closure_data)
INVENTORY_HANDLER(inventory_adjust_stock, AdjustStock);
INVENTORY_HANDLER(inventory_batch_adjust_stock, BatchAdjustStock);
INVENTORY_HANDLER(inventory_set_low_stock_threshold, SetLowStockThreshold);
INVENTORY_HANDLER(inventory_get_stock, GetStock);
INVENTORY_HANDLER(inventory_list_stock, ListStock);
INVENTORY_HANDLER(inventory_get_reservation, GetReservation);
INVENTORY_HANDLER(inventory_list_reservations, ListReservations);

/* common.c. Counters as a message; its strings are borrowed. */
Tandem__Inventory__V1__Stock inventory_stock_message(const char *sku, const struct stock *stock);
/* Who makes a call, for the trail; the strings are the call's. */
struct inventory_caller {
	const char *who, *from;
};
struct inventory_caller inventory_caller_of(const struct rt_call *call);
/* Fills an adjustment from its request: strings are borrowed. */
void inventory_adjust_fill(struct inventory_adjust_op *op, struct rt_loop *loop,
			   const struct inventory_caller *caller,
			   const Tandem__Inventory__V1__AdjustStockRequest *request);
/* True: the adjustment took effect, now or before; the log says so when it did now. False: the status says why not. */
bool inventory_adjust_status(const struct inventory_adjust_op *op, int rc,
			     struct rt_status *status);

/* Notes the function call whose operations are being ended in the span of an event. NULL: there is none. */
void inventory_note_call(const struct rt_event *event);
/* Counts a request that was served, and warns of what should not happen. */
void inventory_count_served(struct inventory *inventory, const struct inventory_request_op *op);

/* events_order.c: the subscription's handler; `user` is the struct inventory. */
void inventory_on_order_event(struct rt_event *event, void *user);
/* split.c. Serves the request of an event whose lines lie in several partitions, and finishes the event; what `from`
 * points to is copied. */
void inventory_split_begin(struct inventory *inventory, const struct inventory_request_op *from);
/* Whether it asks for a new order, with which most likely nobody has begun. */
bool inventory_is_new(const struct inventory_request_op *op);
/* What was known of the order's partition before its record was read. */
struct inventory_known {
	int64_t generation;
	uint64_t epoch;
};
/* The same for a request that was not served because the record, which it has read, is split. */
void inventory_split_go_on(struct inventory *inventory, const struct inventory_request_op *from,
			   const struct inventory_known *known);

/* mend.c. What is stored of one order after a loss: its parts are brought in line with its record. */
struct inventory_mended {
	int64_t released, committed, reserved; /* parts that became so */
	int64_t cancelled;                     /* orders that lost their reservation */
	int64_t owed;                          /* orders whose sale cannot be had */
};
enum inventory_pass {
	INVENTORY_PASS_ENDED, /* orders whose record is UNAVAILABLE or RELEASED */
	INVENTORY_PASS_SOLD,  /* COMMITTED */
	INVENTORY_PASS_HELD,  /* RESERVED, or none */
	INVENTORY_PASSES,
	INVENTORY_PASS_SWEEP, /* releases a part that is held for an order without a record */
};
struct inventory_mend {
	struct inventory *inventory;
	int partition;      /* the order's */
	int64_t generation; /* of it */
	enum inventory_pass pass;
	const char *order_id;            /* copied */
	int found;                       /* where a part was found; -1: its record was */
	const char *lines;               /* of that; copied */
	struct inventory_mended *mended; /* what is done is added */
	void (*done)(void *user, int status);
	void *user;
};
void inventory_mend(const struct inventory_mend *mend);
/* What is done to the parts of an order whose record is in this state. */
enum part_action inventory_mend_action(enum stock_state record);

/* in_step.c. For several partitions. Whether orders of partition p with parts in q may be served. */
bool inventory_in_step(const struct inventory *inventory, int p, int q);
/* A call was refused because its generation is an older one: asks for the one of now. */
void inventory_ask_generation(const struct inventory *inventory, int p);
struct inventory_reconciler *inventory_reconciler_new(struct inventory *inventory);
void inventory_reconcile_metrics(struct inventory_reconcile_series *series,
				 struct rt_metrics *metrics);
void inventory_reconciler_start(struct inventory_reconciler *reconciler);
void inventory_reconciler_stop(struct inventory_reconciler *reconciler); /* holds the context */
void inventory_reconciler_free(struct inventory_reconciler *reconciler); /* takes NULL */

#endif
