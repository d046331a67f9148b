/* store.h - the atomic operations on the order service's data.
 *
 * store_redis.c does them; the simulation runs it on a Redis in memory. Asynchronous: fill the
 * in-fields of an embedded op, submit it, and `done(op, status)` runs exactly once, on the loop, never
 * before the submit has returned. Input strings and bytes stay the caller's and must live until
 * done. Outputs live until done returns. Each op says in which partition it happens: that of its order, or of
 * its customer.
 *
 * Statuses: RT_OK; RT_LOST, RT_TIMEOUT (it may or may not have happened); RT_UNCONFIRMED (it happened, and may be
 * lost); RT_BUSY, RT_FULL,
 * RT_DENIED, RT_UNREADY (it did not); RT_CANCELED. */
#ifndef ORDER_STORE_H
#define ORDER_STORE_H

#include "base/base.h"
#include "events/events.h"
#include "order_step.h"

#define ORDER_ID_PREFIX "ord_"
#define ORDER_ID_LENGTH (4 + RT_BASE32_128)

/* A stored order. */
struct order_record {
	const char *order_id;
	enum order_state state;
	uint64_t version;
	const uint8_t *placed; /* packed tandem.order.v1.OrderPlaced: the request, as published */
	size_t placed_length;
	/* Data of the event that ended it (Rejected, Cancelled, Expired) or of the last return, and OrderActors: fields of both, no number is in
	 * both. */
	const uint8_t *detail;
	size_t detail_length;
	int64_t hold_ms;
	uint32_t attempt; /* of the request that is under way */
	/* "placed@<unix ms>-<n> reserved+<ms>-<n> …": each event of the order, when (first absolute,
	 * then since the first) and the second half of its stream id (<unix ms>-<n>). The times are
	 * those of the ids, which never go back; if an id is ahead of the time, "~<unix ms>"
	 * follows it with the time. A repeated request is written "again+<ms>-<n>"; from
	 * the 8th repeat on (attempt 9) it replaces the "again" before it. Ends with a NUL or a line feed. */
	const char *history;
};

struct order_store;

/* Stores a new order and publishes OrderPlaced, or finds that it was placed before. */
struct order_place_op {
	struct rt_batch_item item; /* the store's */
	/* In. */
	int partition;
	const char *order_id;
	bool fresh; /* the id was just made at random: it cannot have been used before */
	bool asked; /* the archive has no order with this id */
	const char *customer_id;
	const uint8_t *placed;
	size_t placed_length;
	int64_t hold_ms, now_ms, retry_due_ms;
	const char *traceparent, *tracestate; /* "" or NULL: none */
	const char *actor;                    /* who places it (rt_call_actor); likewise */
	int64_t pending_max; /* most orders of its customer that inventory has not answered; 0: any number */
	/* Out. */
	enum {
		ORDER_PLACED,
		ORDER_PLACED_BEFORE,
		ORDER_CONFLICT,
		ORDER_TOO_MANY, /* not placed: pending_max */
		/* Not placed: perhaps it was before, and the order was dropped. Only the archive knows. */
		ORDER_PERHAPS_DROPPED,
	} outcome;
	bool stream_full; /* RT_FULL because the event stream has reached its hard length */
	const char *
		earlier_id; /* PLACED_BEFORE, when the order has another id: see functions.lua; PERHAPS_DROPPED: that it
			      * had */
	struct order_record record; /* PLACED, PLACED_BEFORE */
	void (*done)(struct order_place_op *op, int status);
};

/* Gives an order an input: state, event, timer and acknowledgement in one step. */
struct order_move_op {
	struct rt_batch_item item;
	/* In. */
	int partition;
	const char *order_id;
	enum order_input input;
	uint64_t expected_version; /* 0: any */
	/* EXTEND: when the hold is to end, and how long it may be in all. */
	int64_t hold_until_ms, hold_max_ms;
	/* Data of the event, when the rule publishes one that ends the order (Rejected, Cancelled,
	 * Expired) or is a return: stored as detail. Empty: such an event carries the stored detail. */
	const uint8_t *data;
	size_t data_length;
	size_t stored_length; /* of the order's content, when it is published again; 0: not known */
	int64_t now_ms, retry_due_ms;
	const char *traceparent, *tracestate;
	const char *actor;    /* who asks for it (rt_call_actor); NULL or "": nobody who is known */
	struct rt_span *span; /* of what moves it; NULL: it is not traced */
	/* The event that is the input. Its entry is acknowledged in the same step, whatever the outcome, except
	 * when the order is unknown; NULL: none. */
	struct rt_event *event;
	bool want_record, want_history;
	/* Out. */
	enum {
		ORDER_MOVED,    /* the rule moved it, or asked again */
		ORDER_STAYED,   /* nothing to do */
		ORDER_REFUSED,  /* the status does not allow it */
		ORDER_MISMATCH, /* expected_version */
		ORDER_UNKNOWN,  /* no such order */
		ORDER_GONE, /* nor such an order; orders are dropped here, and it may be one of them */
		ORDER_BEYOND, /* EXTEND: longer than hold_max_ms, or ORDER_EXTENSIONS_MAX times before */
	} outcome;
	enum order_state state; /* after it; not for UNKNOWN and GONE */
	uint64_t version;
	int64_t age_ms;             /* only when MOVED: since the order was placed */
	struct order_record record; /* only when wanted and known */
	const char *history;        /* only when MOVED and wanted, as a record's; else NULL */
	void (*done)(struct order_move_op *op, int status);
};

/* Drops a settled order that the archive has: it is removed, and its last event published, in the step that acknowledges
 * the entry which says so. */
struct order_drop_op {
	struct rt_batch_item item;
	/* In. */
	int partition;
	const char *order_id;
	uint64_t version; /* that the archive has; an order that has another one by now stays */
	int64_t kept_ms;  /* an order stays as long after its last change; the same for all */
	int64_t now_ms;
	struct rt_event *event; /* of the archive's stream; NULL: none */
	/* Out. */
	bool dropped; /* else there is no such order, or it stays */
	void (*done)(struct order_drop_op *op, int status);
};

struct order_get_op {
	struct rt_batch_item item;
	int partition;
	const char *order_id;
	bool found;
	struct order_record record;
	void (*done)(struct order_get_op *op, int status);
};

/* A customer's orders, newest first. */
struct order_list_op {
	struct rt_batch_item item;
	int partition;
	const char *customer_id;
	size_t count_max;
	size_t bytes_max; /* of their stored data, plus 512 for each; the first is always returned */
	int64_t before_ms; /* continue after (created, id) of the last one; INT64_MAX: at the newest */
	const char *before_id;        /* "" with INT64_MAX */
	struct order_record *records; /* without damaged ones */
	size_t record_count;
	const char *last_id; /* the last that was read, damaged or not; "": none */
	bool more;           /* after it */
	int64_t dropped_ms; /* when the newest order that was dropped here had been placed; 0: none was */
	void (*done)(struct order_list_op *op, int status);
};

/* Orders whose timer has run out; their timers are set to lease_until_ms, so that other instances
 * skip them until then. `queued`: inventory has not read the order's last request yet, so it is late,
 * not lost. */
struct order_due_op {
	struct rt_batch_item item;
	int partition;
	int64_t now_ms, lease_until_ms;
	size_t count_max;
	struct order_due {
		struct order_record record;
		bool queued;
	} * due;
	size_t due_count;
	int64_t timer_count; /* orders with a timer, due or not: all that are not settled */
	void (*done)(struct order_due_op *op, int status);
};

/* Sets an order's timer, if it is still at this version. */
struct order_timer_op {
	struct rt_batch_item item;
	int partition;
	const char *order_id;
	uint64_t version;
	size_t stored_length; /* of the order's content */
	int64_t due_ms;
	void (*done)(struct order_timer_op *op, int status);
};

/* Reads the events of order:{p}:events after an id, for watchers. With "$": none, and `last` is where
 * the stream ends now. Without block_ms it does not wait, and its answer keeps the order with those of
 * place and move: events that they published earlier are reported earlier. */
struct order_tail_op {
	int partition;
	const char *after; /* stream id, or "$" */
	int64_t block_ms;
	struct order_tail_entry {
		const char *stream_id, *type, *subject;
		uint64_t seq;
	} * entries;
	size_t entry_count;
	char last[48]; /* where to continue */
	void (*done)(struct order_tail_op *op, int status);
};

extern const struct rt_functions order_functions; /* generated from functions.lua */
struct order_store_options {
	const struct rt_redis_options *redis; /* for connections of its own; not kept */
	int64_t stream_length_max; /* of a stream: above it order_place ends with RT_FULL */
	int partition_count;
};
/* `stores`: of order_functions, one for each partition; borrowed. */
int order_store_new(struct rt_loop *loop, struct rt_store *const *stores,
		    const struct order_store_options *options, struct order_store **ret);
void order_store_place(struct order_store *store, struct order_place_op *op);
void order_store_move(struct order_store *store, struct order_move_op *op);
void order_store_drop(struct order_store *store, struct order_drop_op *op);
void order_store_get(struct order_store *store, struct order_get_op *op);
void order_store_list(struct order_store *store, struct order_list_op *op);
void order_store_due(struct order_store *store, struct order_due_op *op);
void order_store_timer(struct order_store *store, struct order_timer_op *op);
void order_store_tail(struct order_store *store, struct order_tail_op *op);
/* `published` reports the entries of each batch of place or move in the partition, before its `done`s: those after
 * `before`, up to `last`, and no others. NULL: none. */
void order_store_on_published(struct order_store *store, int partition,
			      void (*published)(void *user, const char *before, const char *last),
			      void *user);
/* Interrupts the read of a partition's tail: it ends with RT_CANCELED, or with the entries it got. */
void order_store_tail_interrupt(struct order_store *store, int partition);
/* Before rt_store_free, which ends all operations but the tail. Takes NULL. */
void order_store_free(struct order_store *store);

#endif
