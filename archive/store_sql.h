/* store_sql.h - every statement of the archive, and what its two halves (store.c writes, store_read.c reads) share. */
#ifndef ARCHIVE_STORE_SQL_H
#define ARCHIVE_STORE_SQL_H

#include <string.h>

#include "store_internal.h"

struct db *archive_store_db(struct archive_store *store);

static inline bool archive_is(const struct archive_text *text, const char *word)
{
	size_t length = strlen(word);

	return text->length == length && memcmp(text->data, word, length) == 0;
}

/* The status in which an event leaves its order, as tandem.order.v1.OrderStatus; 0: as it was. */
int archive_status_of(const struct archive_text *kind);
/* Whether its message says why the order has its status. */
bool archive_has_detail(const struct archive_text *kind);

extern const struct db_statement sql_find_order, sql_put_order, sql_change_order, sql_put_event,
	sql_put_line, sql_put_label, sql_put_movement, sql_put_position, sql_read_position,
	sql_put_gap, sql_put_unreadable, sql_put_number, sql_read_number, sql_renumber_order,
	sql_renumber_events, sql_read_events, sql_get_order, sql_movements;
/* Orders by one index each, newest first and oldest first. */
enum sql_search { SQL_ALL, SQL_BY_CUSTOMER, SQL_BY_LABEL, SQL_BY_SKU, SQL_BY_STATUS, SQL_SEARCHES };
extern const struct db_statement sql_search[SQL_SEARCHES][2];

#endif
