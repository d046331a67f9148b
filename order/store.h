/* store.h - what the order service keeps, as the few atomic operations it needs.
 *
 * store_redis.c does them; the simulation runs it on a Redis in memory. Asynchronous: fill the
 * in-fields of an embedded op, submit it, get `done(op, status)` exactly once, on the loop, never
 * before the submit returned. Strings and bytes given in stay the caller's and must live until
 * done. What comes out lives until done returns.
 *
 * Statuses: RT_OK; RT_LOST, RT_TIMEOUT (it may or may not have happened); RT_BUSY, RT_FULL,
 * RT_DENIED, RT_UNREADY (it did not); RT_CANCELED. */
#ifndef ORDER_STORE_H
#define ORDER_STORE_H

#include "base/base.h"
#include "events/events.h"
#include "order_step.h"

#define ORDER_ID_PREFIX "ord_"
#define ORDER_ID_LENGTH (4 + RT_BASE32_128)

/* An order as it is stored. */
struct order_record {
	const char *order_id;
	enum order_state state;
	uint64_t version;
	const uint8_t *placed; /* packed tandem.order.v1.OrderPlaced: the request, as published */
	size_t placed_length;
	const uint8_t *detail; /* data of the event that ended it (Rejected, Cancelled, Expired) */
	size_t detail_length;
	int64_t hold_ms;
	uint32_t attempt; /* of the request that is under way */
	/* "placed@<unix ms>-<n> reserved+<ms>-<n> …": each event of the order, when (first absolute,
	 * then since the first) and the second half of its stream id (<unix ms>-<n>). The times are
	 * those of the ids, which never go back; where an id lies ahead of the time, "~<unix ms>"
	 * behind it tells the time. A repeated request is written "again+<ms>-<n>"; from
	 * the 8th repeat on (attempt 9) it replaces the "again" before it. */
	const char *history;
};

struct order_store;

/* Stores a new order and publishes OrderPlaced, or finds that it was placed before. */
struct order_place_op {
	struct rt_batch_item item; /* the store's */
	/* In. */
	const char *order_id;
	bool fresh; /* the id was just made at random: nobody can have used it */
	const char *customer_id;
	const uint8_t *placed;
	size_t placed_length;
	int64_t hold_ms, now_ms, retry_due_ms;
	const char *traceparent; /* "" : none */
	/* Out. */
	enum { ORDER_PLACED, ORDER_PLACED_BEFORE, ORDER_CONFLICT } outcome;
	bool stream_full;           /* why RT_FULL: the event stream has reached its hard length */
	struct order_record record; /* PLACED, PLACED_BEFORE */
	void (*done)(struct order_place_op *op, int status);
};

/* Gives an order an input: state, event, timer and acknowledgement in one step. */
struct order_move_op {
	struct rt_batch_item item;
	/* In. */
	const char *order_id;
	enum order_input input;
	uint64_t expected_version; /* 0: any */
	/* Of the event, when the rule publishes one that ends the order (Rejected, Cancelled,
	 * Expired): kept as detail. Empty: such an event carries the detail that is kept. */
	const uint8_t *data;
	size_t data_length;
	int64_t now_ms, retry_due_ms;
	const char *traceparent;
	/* Entry of inventory:{p}:events to acknowledge, whatever the outcome, but for an unknown
	 * order; NULL: none. */
	const char *ack_id;
	bool want_record, want_history;
	/* Out. */
	enum {
		ORDER_MOVED,    /* the rule moved it, or asked again */
		ORDER_STAYED,   /* nothing to do */
		ORDER_REFUSED,  /* the status does not allow it */
		ORDER_MISMATCH, /* expected_version */
		ORDER_UNKNOWN,  /* no such order */
	} outcome;
	enum order_state state; /* after it; not for UNKNOWN */
	uint64_t version;
	int64_t age_ms;             /* only when MOVED: since the order was placed */
	struct order_record record; /* only when wanted and known */
	const char *history;        /* only when MOVED and wanted; NULL: it was not told */
	void (*done)(struct order_move_op *op, int status);
};

struct order_get_op {
	struct rt_batch_item item;
	const char *order_id;
	bool found;
	struct order_record record;
	void (*done)(struct order_get_op *op, int status);
};

/* A customer's orders, newest first. */
struct order_list_op {
	struct rt_batch_item item;
	const char *customer_id;
	size_t count_max;
	size_t bytes_max; /* of what is stored of them, 512 added to each; one comes all the same */
	int64_t before_ms; /* go on behind (created, id) of the last one; INT64_MAX: at the newest */
	const char *before_id;        /* "" with INT64_MAX */
	struct order_record *records; /* without those that are damaged */
	size_t record_count;
	const char *last_id; /* the last that was looked at, damaged or not; "": none */
	bool more;           /* behind it */
	void (*done)(struct order_list_op *op, int status);
};

/* Orders whose timer has run out; their timers are set to lease_until_ms, so that other instances
 * leave them alone for so long. `queued`: the order's last request still lies in the stream,
 * ahead of what inventory has read: it is late, not lost. */
struct order_due_op {
	struct rt_batch_item item;
	int64_t now_ms, lease_until_ms;
	size_t count_max;
	struct order_due {
		struct order_record record;
		bool queued;
	} * due;
	size_t due_count;
	int64_t timer_count; /* orders with a timer, due or not: those that are not settled */
	void (*done)(struct order_due_op *op, int status);
};

/* Sets an order's timer, if it is still at this version. */
struct order_timer_op {
	struct rt_batch_item item;
	const char *order_id;
	uint64_t version;
	int64_t due_ms;
	void (*done)(struct order_timer_op *op, int status);
};

/* What was published, for those who watch: entries of order:{p}:events after an id. With "$": no
 * entries, and `last` is where the stream ends now. Without block_ms it does not wait, and its answer
 * comes in order with those of place and move: what they published before is told before. */
struct order_tail_op {
	const char *after; /* stream id, or "$" */
	int64_t block_ms;
	struct order_tail_entry {
		const char *stream_id, *type, *subject;
		uint64_t seq;
	} * entries;
	size_t entry_count;
	char last[48]; /* where to go on */
	void (*done)(struct order_tail_op *op, int status);
};

extern const struct rt_functions order_functions; /* generated from functions.lua */
struct order_store_options {
	struct rt_store *store;               /* borrowed; of order_functions */
	const struct rt_redis_options *redis; /* for a connection of its own; not kept */
	int64_t stream_length_max;            /* past it order_place answers RT_FULL */
	int partition;
};
int order_store_new(struct rt_loop *loop, const struct order_store_options *options,
		    struct order_store **ret);
void order_store_place(struct order_store *store, struct order_place_op *op);
void order_store_move(struct order_store *store, struct order_move_op *op);
void order_store_get(struct order_store *store, struct order_get_op *op);
void order_store_list(struct order_store *store, struct order_list_op *op);
void order_store_due(struct order_store *store, struct order_due_op *op);
void order_store_timer(struct order_store *store, struct order_timer_op *op);
void order_store_tail(struct order_store *store, struct order_tail_op *op);
/* Tells what each batch of place or move has published, ahead of its `done`s: the entries behind `before`,
 * up to `last`, and none of others. NULL: nobody asks. */
void order_store_on_published(struct order_store *store,
			      void (*published)(void *user, const char *before, const char *last),
			      void *user);
/* Gives up the tail that is being read: it ends with RT_CANCELED, or with what it got. */
void order_store_tail_interrupt(struct order_store *store);
/* Before rt_store_free, which ends what is under way but for the tail. Takes NULL. */
void order_store_free(struct order_store *store);

#endif
