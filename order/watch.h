/* watch.h - who waits for an order to change.
 *
 * An order with waiters is a node. What this instance moves it tells them itself, from the answer to the
 * move. What other instances publish, or this one when the answer to it was lost, is found in the
 * own stream: its tail is read while there are nodes, from where the own entries end. An entry of a
 * node's order makes the node read the order from the store, and what was read goes to its
 * waiters. So any instance may decide an order, and any other may have the waiters.
 *
 * A waiter misses no version, gets none twice, and gets nothing older than itself: a read that was
 * under way when it came is not for it. The tail's place is fixed before an order is read. While the tail
 * starts (or starts again after a failure) nodes are marked, and read once it has its place. Should entries
 * be deleted from the stream before the tail has seen them, a node is read again every few seconds. */
#ifndef ORDER_WATCH_H
#define ORDER_WATCH_H

#include "base/base.h"
#include "store.h"

/* Orders that are read at a time, at most. */
#define ORDER_WATCH_READS_MAX 128

struct order_watch; /* opaque */

struct order_waiter {
	struct rt_list link;
	struct order_watch_node *node; /* NULL: does not wait */
	/* The order was read and is newer than what this waiter was told; NULL: there is no such
	 * order. May remove this waiter, or others. */
	void (*on_order)(struct order_waiter *waiter, const struct order_record *record);
	/* This instance has moved the order: outcome, state, version, data and history of the move are
	 * what is known. NULL: it needs the whole record, which is read. May remove waiters. */
	void (*on_moved)(struct order_waiter *waiter, const struct order_move_op *move);
	/* The order could not be read; it will be tried again. NULL: does not care. May remove
	 * waiters. */
	void (*on_failed)(struct order_waiter *waiter, int status);
	/* The service stops. Must remove the waiter. */
	void (*on_stop)(struct order_waiter *waiter);
	uint64_t told_version; /* set by the watch before on_order and on_moved */
	uint64_t first_read;   /* of the node's, that began after it came */
};

struct order_watch *order_watch_new(struct rt_loop *loop, struct order_store *store,
				    size_t waiters_max, struct rt_series *waiters);
/* Waits for versions of the order behind `known`, which it certainly has. `read`: also looks what it
 * is now. False: too many wait, or the service stops. */
bool order_watch_add(struct order_watch *watch, struct order_waiter *waiter, const char *order_id,
		     uint64_t known, bool read);
/* Does somebody wait for this order? */
bool order_watch_has(const struct order_watch *watch, const char *order_id);
/* An answer to a move came, whatever its outcome: notifies waiters that do not know this version. */
void order_watch_moved(struct order_watch *watch, const struct order_move_op *move);
/* Reads the order again, and notifies this waiter even if the version is not new. */
void order_watch_read(struct order_watch *watch, struct order_waiter *waiter);
/* Removes a waiter; also one that is not waiting. */
void order_watch_remove(struct order_watch *watch, struct order_waiter *waiter);
/* Tells every waiter to go; `stopped` runs when nothing is under way, at once if nothing is. */
void order_watch_stop(struct order_watch *watch, void (*stopped)(void *user), void *user);
void order_watch_free(struct order_watch *watch); /* before the first, or after stopped */

#endif
