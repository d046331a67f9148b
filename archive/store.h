/* store.h - the archive's database: what happened to orders and stock, and how far the streams were read.
 *
 * There is one implementation (store.c) in SQL that both databases understand, over a thin driver for each: SQLite
 * (store_sqlite.c) and PostgreSQL (store_postgresql.c). The name of a database says which: a URL that begins with
 * "postgresql://", else the path of SQLite's file.
 *
 * Exactly once: a batch holds the events of a part of some streams, and the positions behind them. One transaction stores
 * both. So what is stored never differs from the positions, whatever dies in between. An event that its stream holds twice
 * (a request that was repeated, an answer that was) has the same subject and version, and is stored once.
 *
 * An order is one row, with all that happened to it packed into a value (store_life.h). It has a number that grows with the
 * time of its placing; every index ends with it (store_index.h). So each search walks along one index, newest or oldest
 * first, from a number on: it costs what it looks at.
 *
 * Everything here blocks. A store is a connection; one thread at a time uses it. */
#ifndef ARCHIVE_STORE_H
#define ARCHIVE_STORE_H

#include "base/base.h"

struct archive_store; /* opaque */
/* Which orders there may be: the stores of a process may share it, so that who reads need not look everywhere. The writer
 * fills it at its first batch. 8 MiB for four million orders. */
struct archive_ids; /* opaque */
struct archive_ids *archive_ids_new(void);
void archive_ids_free(struct archive_ids *ids); /* takes NULL */

#define ARCHIVE_ERROR        300 /* bytes of a reason, for a person */
#define ARCHIVE_STREAM_ID    48
#define ARCHIVE_SKU_MAX      64
#define ARCHIVE_ORDER_ID     30
#define ARCHIVE_NO_BITS      20 /* of the number of an order or a movement, below its milliseconds */
#define ARCHIVE_CACHE_ORDERS 100000 /* whose state a writer keeps in mind */

struct archive_store_options {
	const char *database;
	bool writes;      /* it makes and migrates the tables; else it only reads */
	int64_t cache_kb; /* of SQLite's pages; 0: 65536 */
	int sleep_ms;     /* how long SQLite waits for a lock; 0: 5000 */
	/* Borrowed; NULL: a writer has its own, a reader does without. */
	struct archive_ids *ids;
	int64_t segment_orders; /* 0: as many as is good (store_index.h); few in tests */
	int64_t cache_orders;   /* whose state a writer keeps in mind; 0: ARCHIVE_CACHE_ORDERS */
};
/* RT_OK; RT_LOST: it is away; RT_INVALID: it cannot be used as it is (of a newer version, not a database); another status.
 * Then the reason is in `error`. */
int archive_store_open(const struct archive_store_options *options, struct archive_store **ret,
		       char error[ARCHIVE_ERROR]);
void archive_store_close(struct archive_store *store); /* takes NULL */
/* The reason for the last status that was not RT_OK. */
const char *archive_store_error(const struct archive_store *store);

/* ---- writing ---- */

enum archive_context { ARCHIVE_ORDER, ARCHIVE_INVENTORY };

/* An event. Texts and bytes need no NUL and are borrowed for the call. */
struct archive_event {
	enum archive_context context; /* whose stream it was in */
	struct archive_text {
		const char *data;
		size_t length;
	} kind,          /* "OrderPlaced": its type without the package */
		subject, /* an order id or a SKU */
		actor, data;
	uint64_t version;
	int64_t time_ms;
	int64_t entry_ms; /* of the id of its entry, which never goes back in a stream that loses nothing */
};
/* Whether an event of inventory is about a SKU, not about an order. StockLow is one: nothing is kept of it, since it says what
 * follows from the movements and a threshold. */
bool archive_of_stock(const struct archive_text *kind);
/* A stream and how far it was read. */
struct archive_position {
	char stream[48];            /* "order:{0}:events" */
	char id[ARCHIVE_STREAM_ID]; /* of the last entry; "0-0": none */
	int64_t events;             /* of it that were stored, ever */
	/* Of a batch: where it begins. If the stored position is another one, the batch is refused. */
	char from[ARCHIVE_STREAM_ID];
	/* Of a batch, of the orders' stream: it has lost entries with these times and later ones, since a master was lost with
	 * them. Orders that they said to be dropped may be there again: they are not taken for dropped any more. 0: it
	 * has lost none. */
	int64_t lost_from_ms;
};
/* Events of a stream that nobody will know any more. */
struct archive_gap {
	const char *stream;
	char after[ARCHIVE_STREAM_ID], before[ARCHIVE_STREAM_ID]; /* ids of entries */
	int64_t events; /* how many; 0: that is not known */
	int64_t found_ms;
	const char *reason; /* for a person */
};
/* An entry that holds no events that can be read: it is kept as it is. */
struct archive_unreadable {
	const char *stream, *id, *reason;
	const void *data; /* its fields: of each its length in decimal, a line's end, its bytes */
	size_t length;
};
struct archive_batch {
	int partition; /* whose streams they are */
	const struct archive_event *events;
	size_t event_count;
	const struct archive_position *positions; /* `events` says how many this batch adds */
	size_t position_count;
	const struct archive_gap *gaps;
	size_t gap_count;
	const struct archive_unreadable *unreadable;
	size_t unreadable_count;
};
struct archive_written {
	size_t orders;     /* new ones */
	size_t repeats;    /* events that were stored before */
	size_t movements;  /* of stock */
	size_t dropped;    /* orders that the order service has dropped */
	size_t taken_back; /* orders that may be there again, though they were dropped */
	int64_t kept;      /* by how many there are more settled ones that it has */
};
/* Stores all of it or nothing. RT_OK; RT_FULL: the disk is full; RT_LOST: the database is away; RT_BUSY: another one writes
 * to it, or has: the positions are to be read again; another status. After a failure the store is to be closed. */
int archive_store_write(struct archive_store *store, const struct archive_batch *batch,
			struct archive_written *ret);
/* Sets id and events of `position` as they are stored; "0-0" and 0 if they are not. */
int archive_store_position(struct archive_store *store, struct archive_position *position);

/* ---- what the order service may drop ---- */

/* A settled order that it still has, and that is archived with its content. */
struct archive_releasable {
	char order_id[ARCHIVE_ORDER_ID + 1];
	uint64_t version;
	int64_t updated_ms, no; /* what they are sorted by */
};
/* Up to `count_max` of a partition's that have not changed since `before_ms`, the one that changed least recently first,
 * behind `after` (zeroed: from the start). When this returns they are on the disk. */
int archive_store_releasable(struct archive_store *store, int partition,
			     const struct archive_releasable *after, int64_t before_ms,
			     size_t count_max, struct archive_releasable *list, size_t *ret_count);
/* How many there are of a partition. Counts them. */
int archive_store_kept(struct archive_store *store, int partition, int64_t *ret);

/* ---- reading ---- */

/* An order as it is stored. Its texts and bytes live as long as the arena that was given. */
struct archive_order {
	int64_t no; /* grows with the time of its placing */
	const char *order_id;
	const char *customer_id; /* NULL: OrderPlaced is not known */
	int status;              /* as tandem.order.v1.OrderStatus */
	bool settled, dropped;
	uint64_t version;
	int64_t placed_ms, updated_ms;
	struct archive_text placed; /* tandem.order.v1.OrderPlaced; empty: it is not known */
	struct archive_text detail; /* of the event that ended it; or empty */
};
struct archive_filter {
	const char *customer_id;             /* NULL: any */
	int status;                          /* 0: any */
	int64_t from_ms, to_ms;              /* placed from, and before; 0: no bound */
	const char *sku;                     /* NULL: any */
	const char *label_key, *label_value; /* NULL: any */
	bool oldest_first;
};
struct archive_orders {
	struct archive_order *list;
	size_t count;
	bool more;     /* there may be further ones */
	int64_t after; /* then: where they begin */
};
/* Up to `count_max` orders that fit, behind the number `after` (0: from the start). Of those that the index finds it looks
 * at `look_max` at most, so there may be fewer, or none, and `more` all the same. */
int archive_store_search(struct archive_store *store, const struct archive_filter *filter,
			 int64_t after, size_t count_max, size_t look_max, struct rt_arena *arena,
			 struct archive_orders *ret);

struct archive_life_event {
	enum archive_context context;
	const char *kind, *actor; /* actor "": not known */
	uint64_t version;
	int64_t time_ms;
	struct archive_text data;
};
struct archive_life {
	struct archive_order order;
	struct archive_life_event *events; /* the order's, then inventory's, each by version */
	size_t event_count;
};
/* RT_NOT_FOUND: there is no such order. */
int archive_store_order(struct archive_store *store, const char *order_id, struct rt_arena *arena,
			struct archive_life *ret);

/* Fills `list`, which has a place for each id. Those that are not there have no order_id. */
int archive_store_find(struct archive_store *store, char *const *order_ids, size_t count,
		       struct rt_arena *arena, struct archive_order *list);

/* A stream as it was read, with what is missing of it. */
struct archive_stream {
	struct archive_position position; /* `from` is not set */
	struct archive_gap *gaps;         /* the latest, newest first */
	size_t gap_count;
	struct archive_unreadable *unreadable; /* likewise; without data */
	size_t unreadable_count;
};
struct archive_streams {
	struct archive_stream *list; /* by name */
	size_t count;
};
/* All of which something was read, or is missing; of each up to `count_max` gaps and unreadable entries. */
int archive_store_streams(struct archive_store *store, size_t count_max, struct rt_arena *arena,
			  struct archive_streams *ret);

enum archive_movement_kind {
	ARCHIVE_ADJUSTED = 1,
	ARCHIVE_RESERVED,
	ARCHIVE_COMMITTED,
	ARCHIVE_RELEASED,
	ARCHIVE_RETURNED,
};
struct archive_movement {
	int64_t no; /* grows with time */
	const char *sku;
	int kind;             /* enum archive_movement_kind */
	int64_t quantity;     /* of an adjustment: negative when taken out */
	const char *order_id; /* NULL: an adjustment */
	const char *actor;    /* "": not known */
	int64_t time_ms;
	struct archive_text data; /* of an adjustment: tandem.inventory.v1.StockAdjusted */
};
struct archive_movements {
	struct archive_movement *list;
	size_t count;
	bool more;
	int64_t after;
};
/* Of one SKU, newest first. */
int archive_store_movements(struct archive_store *store, const char *sku, int64_t from_ms,
			    int64_t to_ms, int64_t after, size_t count_max, struct rt_arena *arena,
			    struct archive_movements *ret);

#endif
