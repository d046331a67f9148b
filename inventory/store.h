/* store.h - the atomic operations on the inventory service's data.
 *
 * The same conventions as order/store.h: asynchronous, `done` exactly once, inputs borrowed until
 * done, outputs valid until done returns. store_redis.c does them (functions.lua lists the keys);
 * the simulation runs it on a Redis in memory.
 *
 * Requests and adjustments of one batch take effect in their order, at the same instant:
 * the latest now_ms among them. An item whose records are damaged (written by hand) ends
 * with RT_REMOTE, changes nothing and is not acknowledged.
 *
 * One store serves all partitions. What concerns an order goes to the order's partition, which the
 * operation names; what concerns a SKU to the SKU's. Operations of the same kind that go to the same
 * partition in one turn of the loop go in one call. */
#ifndef INVENTORY_STORE_H
#define INVENTORY_STORE_H

#include "base/base.h"
#include "events/events.h"
#include "parts.h"
#include "stock.h"

struct inventory_line {
	const char *sku;
	uint32_t quantity;
};
struct inventory_shortage {
	const char *sku;
	uint32_t requested;
	uint64_t available;
	bool unknown; /* there was no such SKU */
};

/* A line of a split order (parts.h), or of what is stored of an order. */
struct inventory_split_line {
	struct inventory_line line;
	int partition; /* where its stock is; -1: with its record, whose order is not split */
	bool was_short;
	uint64_t available; /* when it was short */
	bool unknown;       /* it was short because there was no such SKU */
	uint32_t returned;  /* how many of a sale came back */
};
/* What is stored of an order: its record, or a part. */
struct inventory_record {
	enum stock_state state; /* NONE: there is none, and nothing else is set but updated_ms */
	uint64_t version;
	int64_t updated_ms; /* NONE: orders that were asked for up to then were dropped, if they are not there; 0: none */
	uint64_t returned_at; /* RETURNED: the order's version whose request said what came back */
	struct inventory_split_line *lines;
	size_t line_count;
	void *memory; /* the store's */
};

/* Reads lines as they are stored. False: they are damaged. What was read so far is freed with
 * inventory_record_done, also then. */
bool inventory_record_read_lines(const char *text, struct inventory_record *ret);
void inventory_record_done(struct inventory_record *record);
/* Reads counters as they are stored: "available reserved committed received version", or the same and " threshold". */
bool inventory_stock_read(const char *text, struct stock *ret);

struct inventory_store;

/* Serves one request of an order: counters, reservation, answer and acknowledgement in one step. A request of a split
 * order changes nothing: its record is read. */
struct inventory_request_op {
	struct rt_batch_item item;
	/* In. */
	int partition; /* the order's */
	const char *order_id;
	enum stock_request request;
	bool only_reads; /* the record is wanted, nothing is served */
	const struct inventory_line
		*lines; /* RESERVE; RETURN: what came back in all; each SKU once */
	size_t line_count;
	uint64_t seq;     /* of the event that asks */
	uint32_t attempt; /* of that event; the answer to a repeat carries it, too */
	int64_t now_ms;
	/* When the order asked; 0: not known. DROP: when none of its requests can be older. `late`: that is long ago, so the
	 * order may have been dropped since. */
	int64_t asked_ms;
	bool late;
	const char *traceparent, *tracestate;
	struct rt_event
		*event; /* the request; its entry is acknowledged in the same step; NULL: none */
	/* Out. */
	bool served;
	/* When it was served. */
	enum stock_state before, after;
	enum stock_answer answer;
	/* When it was not served. */
	struct inventory_record record;
	void (*done)(struct inventory_request_op *op, int status);
};

/* Concludes a request of a split order whose parts have been seen to: record, answer and acknowledgement in one step.
 * Served only if the record has still the state that was read. RT_UNREADY: the generation is an older one. */
struct inventory_conclude_op {
	struct inventory_request_op request; /* first; its lines and only_reads are not used */
	int64_t generation; /* of the order's partition, when the record was read */
	enum stock_state read;
	enum split_verdict verdict;
	const struct inventory_split_line
		*lines; /* when there was no record; RETURN: what came back in all */
	size_t line_count;
};

/* Holds, commits or releases an order's part, or notes what came back of it. */
struct inventory_part_op {
	struct rt_batch_item item;
	/* In. */
	int partition; /* of the stock */
	int order_partition;
	int64_t generation; /* of order_partition, when the record was read */
	const char *order_id;
	enum part_action action;
	const char *traceparent; /* of what asks for it, for the log; NULL or "": none */
	const struct inventory_line *
		lines; /* those whose stock is there: at least one, each SKU once; RETURN: how many came back in all */
	const uint32_t *returned; /* TO_RETURNED: of each line, how many came back; else NULL */
	size_t line_count;
	int64_t now_ms;
	/* As in struct inventory_request_op; for the actions of a reconciliation the record's updated_ms. */
	int64_t asked_ms;
	/* Out. RT_UNREADY: the generation is an older one, and nothing has changed. */
	struct inventory_record
		part; /* its state behind it; its lines are set when UNAVAILABLE only */
	bool changed; /* for the actions of a reconciliation: whether it did anything */
	void (*done)(struct inventory_part_op *op, int status);
};

/* A call of one of the functions for reconciliations and lists (functions.lua), whose arguments and answers are texts. */
#define INVENTORY_CALL_ARGS 9
struct inventory_call_op {
	struct rt_batch_item item;
	int partition;
	const char *function; /* "reconcile" */
	const char
		*argv[INVENTORY_CALL_ARGS]; /* behind the key; ended by NULL unless all are used */
	/* Out: at least `wanted` texts. */
	size_t wanted;
	const char **texts;
	size_t count;
	void (*done)(struct inventory_call_op *op, int status);
};

/* Puts stock in or takes it out. */
struct inventory_adjust_op {
	struct rt_batch_item item;
	/* In. */
	const char *sku;
	int64_t delta;
	const char *request_id; /* "": every call takes effect */
	const char *reason;     /* kept in the event, and in the trail */
	const char *who, *from; /* for the event and the trail; who "": nobody who is known */
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

/* Sets the threshold of a SKU. */
struct inventory_threshold_op {
	struct rt_batch_item item;
	/* In. */
	const char *sku;
	uint64_t threshold;     /* 0: none */
	const char *reason;     /* kept in the trail */
	const char *who, *from; /* as of an adjustment */
	int64_t now_ms;
	/* Out. */
	bool found;
	struct stock stock; /* with its threshold */
	void (*done)(struct inventory_threshold_op *op, int status);
};

struct inventory_stock_op {
	struct rt_batch_item item;
	const char *sku;
	bool found;
	struct stock stock;
	void (*done)(struct inventory_stock_op *op, int status);
};

/* All SKUs in byte order, of all partitions. */
struct inventory_list_op {
	const char *after; /* SKU; "": from the first */
	size_t count_max;
	struct inventory_listed {
		const char *sku;
		struct stock stock;
	} * stocks;
	size_t stock_count;
	bool more;
	void (*done)(struct inventory_list_op *op, int status);
};

struct inventory_reservation_op {
	struct rt_batch_item item;
	int partition; /* the order's */
	const char *order_id;
	bool found;
	enum stock_state state;
	uint64_t version;
	int64_t updated_ms;
	struct inventory_line *lines;
	uint32_t *returned; /* of each line, how many came back */
	size_t line_count;
	struct inventory_shortage *shortages;
	size_t shortage_count;
	void (*done)(struct inventory_reservation_op *op, int status);
	struct inventory_record record; /* the store's */
};

extern const struct rt_functions inventory_functions; /* generated from functions.lua */
/* `stores` are those of the partitions 0 … count − 1, of inventory_functions; they are borrowed. */
int inventory_store_new(struct rt_store *const *stores, int count, struct inventory_store **ret);
int inventory_store_partitions(const struct inventory_store *store);
/* The partition of a SKU's stock. */
int inventory_store_partition(const struct inventory_store *store, const char *sku);
/* The generation of a partition, in which its split orders may be served; INVENTORY_NO_GENERATION: it is not known.
 * Whoever reads a record notes it before, and hands it on. */
#define INVENTORY_NO_GENERATION (-1)
int64_t inventory_store_generation(const struct inventory_store *store, int partition);
/* At first it is 0. A call that is refused because its generation is older sets it to INVENTORY_NO_GENERATION; so does
 * another connection than the one with this epoch, over which it was learned. */
void inventory_store_set_generation(struct inventory_store *store, int partition,
				    int64_t generation, uint64_t epoch);
/* The highest generation for which a call with an older one was refused; 0: none was. */
int64_t inventory_store_refused_for(const struct inventory_store *store, int partition);
/* Changes when the connection to the partition's master was lost: what was read before may be of another master. */
uint64_t inventory_store_epoch(const struct inventory_store *store, int partition);
void inventory_store_request(struct inventory_store *store, struct inventory_request_op *op);
void inventory_store_conclude(struct inventory_store *store, struct inventory_conclude_op *op);
/* Whether there are several partitions, and all in one Redis that is no cluster: then one step may concern several of them. */
bool inventory_store_is_together(const struct inventory_store *store);
/* Then: reserves a new order, if it is split with its parts, and concludes it, in one step. Its request is RESERVE, and nothing was
 * read. Without `lines` it is not split: its request's lines count, it is not late, and its generation is INVENTORY_NO_GENERATION. Not
 * served if there is more to it: somebody else has begun with it, it may have been dropped, or it makes something low. */
void inventory_store_reserve(struct inventory_store *store, struct inventory_conclude_op *op);
void inventory_store_part(struct inventory_store *store, struct inventory_part_op *op);
void inventory_store_call(struct inventory_store *store, struct inventory_call_op *op);
void inventory_store_adjust(struct inventory_store *store, struct inventory_adjust_op *op);
void inventory_store_threshold(struct inventory_store *store, struct inventory_threshold_op *op);
void inventory_store_stock(struct inventory_store *store, struct inventory_stock_op *op);
void inventory_store_list(struct inventory_store *store, struct inventory_list_op *op);
void inventory_store_reservation(struct inventory_store *store,
				 struct inventory_reservation_op *op);
/* No operation may be waiting or under way. Takes NULL. */
void inventory_store_free(struct inventory_store *store);

#endif
