/* archive.h - the archive: a context that reads. It keeps what happened to orders and stock in a database
 * (store.h), where they can be searched for and exported; and says which orders need not be kept in Redis any more.
 *
 *   reader.c …        reads the streams of a partition, a batch at a time, and says how far they are stored
 *   release.c         says which orders may be dropped
 *   worker.c          the threads that use the database
 *   store.c …         the database
 *   search_orders.c, get_archived_order.c, list_stock_movements.c, export_orders.c,
 *   find_orders.c     the RPCs
 */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include "context/context.h"

struct archive_options {
	char *database;   /* store.h; borrowed */
	int64_t cache_kb; /* of each connection of SQLite */
	int64_t write_every_ms;
	int64_t reading_threads;
	int64_t release_after_ms; /* 0: never */
	int64_t release_count;    /* 0: no bound */
	int64_t release_min_age_ms;
};
extern const struct rt_functions archive_functions; /* generated */
extern const struct rt_context_domain archive_domain;

#endif
