/* store.h - the atomic operations on the inventory service's data.
 *
 * The same conventions as order/store.h: asynchronous, `done` exactly once, inputs borrowed until
 * done, outputs valid until done returns. store_redis.c does them (functions.lua lists the keys);
 * the simulation runs it on a Redis in memory.
 *
 * Requests and adjustments of one batch take effect in their order, at the same instant:
 * the latest now_ms among them. An item whose records are damaged (written by hand) ends
 * with RT_REMOTE, changes nothing and is not acknowledged. */
#ifndef INVENTORY_STORE_H
#define INVENTORY_STORE_H

#include "base/base.h"
#include "events/events.h"
#include "stock.h"

struct inventory_line {
	const char *sku;
	uint32_t quantity;
};
struct inventory_shortage {
	const char *sku;
	uint32_t requested;
	uint64_t available;
};

struct inventory_store;

/* Serves one request of an order: counters, reservation, answer and acknowledgement in one step. */
struct inventory_request_op {
	struct rt_batch_item item;
	/* In. */
	const char *order_id;
	enum stock_request request;
	const struct inventory_line *lines; /* RESERVE: each SKU once */
	size_t line_count;
	uint64_t seq;     /* of the event that asks */
	uint32_t attempt; /* of that event; the answer to a repeat carries it, too */
	int64_t now_ms;
	const char *traceparent;
	struct rt_event
		*event; /* the request; its entry is acknowledged in the same step; NULL: none */
	/* Out. */
	enum stock_state before, after;
	enum stock_answer answer;
	void (*done)(struct inventory_request_op *op, int status);
};

/* Puts stock in or takes it out. */
struct inventory_adjust_op {
	struct rt_batch_item item;
	/* In. */
	const char *sku;
	int64_t delta;
	const char *request_id; /* "": every call takes effect */
	const char *reason;     /* kept in the event */
	int64_t now_ms;
	/* Out. */
	enum {
		INVENTORY_ADJUSTED,
		INVENTORY_ADJUSTED_BEFORE, /* the same request_id, the same content */
		INVENTORY_CONFLICT, /* the same request_id, other content; stock is not set */
		INVENTORY_SHORT,    /* more than is available */
		INVENTORY_OVERFLOW, /* received would pass STOCK_MAX */
	} outcome;
	/* After the adjustment; for a repeat, after the first one; when refused, as it is. */
	struct stock stock;
	void (*done)(struct inventory_adjust_op *op, int status);
};

struct inventory_stock_op {
	struct rt_batch_item item;
	const char *sku;
	bool found;
	struct stock stock;
	void (*done)(struct inventory_stock_op *op, int status);
};

/* All SKUs in byte order. */
struct inventory_list_op {
	struct rt_batch_item item;
	const char *after; /* SKU; "": from the first */
	size_t count_max;
	struct inventory_listed {
		const char *sku;
		struct stock stock;
	} * stocks;
	size_t stock_count;
	bool more;
	void (*done)(struct inventory_list_op *op, int status);
	void *memory; /* the store's */
};

struct inventory_reservation_op {
	struct rt_batch_item item;
	const char *order_id;
	bool found;
	enum stock_state state;
	uint64_t version;
	int64_t updated_ms;
	struct inventory_line *lines;
	size_t line_count;
	struct inventory_shortage *shortages;
	size_t shortage_count;
	void (*done)(struct inventory_reservation_op *op, int status);
	void *memory;
};

extern const struct rt_functions inventory_functions; /* generated from functions.lua */
/* `store` is borrowed, of inventory_functions. */
int inventory_store_new(struct rt_store *store, int partition, struct inventory_store **ret);
void inventory_store_request(struct inventory_store *store, struct inventory_request_op *op);
void inventory_store_adjust(struct inventory_store *store, struct inventory_adjust_op *op);
void inventory_store_stock(struct inventory_store *store, struct inventory_stock_op *op);
void inventory_store_list(struct inventory_store *store, struct inventory_list_op *op);
void inventory_store_reservation(struct inventory_store *store,
				 struct inventory_reservation_op *op);
/* No operation may be waiting or under way. Takes NULL. */
void inventory_store_free(struct inventory_store *store);

#endif
