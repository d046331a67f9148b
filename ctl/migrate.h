/* migrate.h - what the files of `tandemctl migrate` share.
 *
 * A store of some partitions is copied into an empty one of more. migrate.c says in which steps; migrate_copy.c
 * reads the source page by page, and writes or compares what each page becomes; migrate_totals.c adds up a store. */
#ifndef MIGRATE_H
#define MIGRATE_H

#include "ctl.h"
#include "inventory/stock.h"
#include "order/order_step.h"

/* What is copied, and where to. */
struct migration {
	struct ctl *source, *target;     /* with their numbers of partitions */
	bool compares;                   /* with what the target has; else writes it there */
	struct migration_batch *batches; /* by partition of the target */
	size_t bytes;                    /* in all of them */
	int64_t orders, orders_all;      /* gone through; in the source */
	int64_t reservations;            /* of orders of this partition */
	int64_t differences;             /* found by comparing */
	int64_t told_ns;                 /* when the progress was printed last */
	struct ctl_entries own;          /* of the target's trails, from before it was emptied */
};

/* Goes through all data of the source, but for its streams and marks. False: it could not be read or written, or
 * something in it is damaged; the reason is on stderr. */
bool migration_go(struct migration *migration);
/* Gives each partition of the target its streams, groups and cursors, so that all goes on behind the source's
 * last events. */
bool migration_begin_streams(const struct migration *migration);

/* Reads the target's trails. False: Redis could not be asked; the reason is on stderr. */
bool migration_read_own(struct migration *migration);

/* The last ids of all streams of a store: another text means that something was published. False: Redis could not be
 * asked. */
bool migration_ends(struct ctl *ctl, struct rt_buf *text);

/* ---- totals (migrate_totals.c) ---- */

/* A sum over SKUs, and a hash of what each of them contributes: equal hashes mean equal sums for each SKU. */
struct migration_sum {
	uint64_t sum, hash;
};
struct migration_totals {
	int64_t orders[ORDER_STATE_COUNT], timers, reservations[STOCK_STATE_COUNT], skus, listed;
	struct migration_sum held, sold; /* by reservations or their parts */
	struct migration_sum available, reserved, committed, received; /* counters */
};
/* Adds up a store. False: Redis could not be asked, or something is damaged; the reason is on stderr. */
bool migration_totals(struct ctl *ctl, struct migration_totals *totals);
/* Prints both; with --json one line each. Returns how many totals differ. */
int migration_compare(const struct ctl *ctl, const struct migration_totals *source,
		      const struct migration_totals *target);

#endif
