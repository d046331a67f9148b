/* store_sql.h - every statement of the archive, and what the parts of the store share. */
#ifndef ARCHIVE_STORE_SQL_H
#define ARCHIVE_STORE_SQL_H

#include <string.h>

#include "store_index.h"
#include "store_internal.h"

/* The last of `count` numbers in a row for what happened then: they are greater than those of earlier milliseconds. */
static inline int64_t archive_next_no(int64_t *serial, int64_t time_ms, size_t count)
{
	const int64_t mask = ((int64_t)1 << ARCHIVE_NO_BITS) - 1;

	*serial = *serial + (int64_t)count <= mask ? *serial + (int64_t)count : (int64_t)count;
	return time_ms << ARCHIVE_NO_BITS | *serial;
}

struct db *archive_store_db(struct archive_store *store);
struct archive_ids *archive_store_ids(struct archive_store *store);
/* The reader's, loaded anew at each call. */
int archive_store_segments(struct archive_store *store, const struct archive_segments **ret);

extern const struct db_statement sql_streams, sql_gaps, sql_unreadable;
extern const struct db_statement sql_find_order, sql_put_order, sql_change_order, sql_delete_order,
	sql_put_postings, sql_read_postings, sql_put_movements, sql_put_position, sql_read_position,
	sql_put_gap, sql_put_unreadable, sql_put_number, sql_read_number, sql_last_order,
	sql_read_segments, sql_put_segment, sql_read_ids, sql_get_order, sql_order_id,
	sql_movements, sql_movements_around, sql_releasable, sql_count_kept, sql_count_taken_back,
	sql_take_back;
/* All orders by time, and those that are not settled: newest first and oldest first. The order with a number. */
extern const struct db_statement sql_walk[2], sql_walk_open[2], sql_walk_number;

#endif
