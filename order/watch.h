/* watch.h - notifies waiters when an order of a partition changes.
 *
 * An order with waiters is a node. This instance's own moves notify waiters directly, from the answer to
 * the move. Moves of other instances, and own moves whose answer was lost, are found in the own
 * stream: its tail is read while there are nodes, from the end of the own entries. An entry of a
 * node's order makes the node read the order from the store and pass it to its waiters. So any
 * instance may decide an order, and any other may have the waiters.
 *
 * A waiter misses no version, gets none twice, and gets nothing older than itself: a read that was
 * under way when it was added is not for it. The tail's position is fixed before an order is read. While the
 * tail starts (or restarts after a failure) nodes are marked, and read once it has its position. In case
 * entries are deleted from the stream before the tail reads them, a node is read again every few seconds. */
#ifndef ORDER_WATCH_H
#define ORDER_WATCH_H

#include "base/base.h"
#include "store.h"

/* How many orders are read at the same time, at most. */
#define ORDER_WATCH_READS_MAX 128

struct order_watch; /* opaque */

struct order_waiter {
	struct rt_list link;
	struct order_watch_node *node; /* NULL: does not wait */
	/* The order was read and is newer than the version this waiter knows; NULL: there is no such
	 * order. May remove this waiter, or others. */
	void (*on_order)(struct order_waiter *waiter, const struct order_record *record);
	/* This instance has moved the order: outcome, state, version, data and history of the move are
	 * set. NULL: the waiter needs the whole record, which is read. May remove waiters. */
	void (*on_moved)(struct order_waiter *waiter, const struct order_move_op *move);
	/* The order could not be read; it will be tried again. NULL: ignored. May remove waiters. */
	void (*on_failed)(struct order_waiter *waiter, int status);
	/* The service stops. Must remove the waiter. */
	void (*on_stop)(struct order_waiter *waiter);
	uint64_t known_version; /* set by the watch before on_order and on_moved */
	uint64_t first_read;    /* the node's first read that began after this waiter was added */
};

/* `waiters`: a gauge that counts the waiters of all watches; NULL: none. */
struct order_watch *order_watch_new(struct rt_loop *loop, struct order_store *store, int partition,
				    size_t waiters_max, struct rt_series *waiters);
/* Waits for versions of the order after `known`, which it has reached for certain. `read`: also reads
 * it now. False: there are too many waiters, or the service stops. */
bool order_watch_add(struct order_watch *watch, struct order_waiter *waiter, const char *order_id,
		     uint64_t known, bool read);
/* Does the order have waiters? */
bool order_watch_has(const struct order_watch *watch, const char *order_id);
/* A move was answered, whatever its outcome: notifies waiters that do not know this version. */
void order_watch_moved(struct order_watch *watch, const struct order_move_op *move);
/* Reads the order again, and notifies this waiter even if the version is not new. */
void order_watch_read(struct order_watch *watch, struct order_waiter *waiter);
/* Removes a waiter; also one that is not waiting. */
void order_watch_remove(struct order_watch *watch, struct order_waiter *waiter);
/* Calls on_stop of every waiter; `stopped` runs when nothing is under way, possibly at once. */
void order_watch_stop(struct order_watch *watch, void (*stopped)(void *user), void *user);
void order_watch_free(struct order_watch *watch); /* before the first, or after stopped */

#endif
