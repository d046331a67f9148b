/* store_sql.c - the statements, and what events mean for an order. */
#include "store_sql.h"

/* 0 is that of store_schema.c. */
enum {
	FIND_ORDER = 1,
	PUT_ORDER,
	CHANGE_ORDER,
	PUT_EVENT,
	PUT_LINE,
	PUT_LABEL,
	PUT_MOVEMENT,
	PUT_POSITION,
	READ_POSITION,
	PUT_GAP,
	PUT_UNREADABLE,
	PUT_NUMBER,
	READ_NUMBER,
	RENUMBER_ORDER,
	RENUMBER_EVENTS,
	READ_EVENTS,
	GET_ORDER,
	MOVEMENTS,
	SEARCH, /* and those behind it */
};
_Static_assert(SEARCH + 2 * SQL_SEARCHES <= DB_STATEMENTS_MAX, "too many statements");

const struct db_statement sql_find_order = {
	.number = FIND_ORDER,
	.sql = "SELECT order_no, status, settled, version, stock_version, stock_state, placed_ms, "
	       "updated_ms, placed FROM orders WHERE order_id = $1"
};
const struct db_statement sql_put_order = {
	.number = PUT_ORDER,
	.sql = "INSERT INTO orders (order_no, order_id, customer_id, status, settled, version, "
	       "stock_version, stock_state, placed_ms, updated_ms, placed, detail) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
	.rows = true
};
const struct db_statement sql_change_order = {
	.number = CHANGE_ORDER,
	.sql = "UPDATE orders SET customer_id = COALESCE($2, customer_id), status = $3, settled = "
	       "$4, "
	       "version = $5, stock_version = $6, stock_state = $7, updated_ms = $8, "
	       "placed = COALESCE($9, placed), detail = COALESCE($10, detail) WHERE order_no = $1"
};
const struct db_statement sql_put_event = {
	.number = PUT_EVENT,
	.sql = "INSERT INTO order_events (order_no, context, version, kind, time_ms, actor, data) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7)",
	.rows = true
};
const struct db_statement sql_put_line = {
	.number = PUT_LINE,
	.sql = "INSERT INTO order_lines (sku, order_no, quantity) VALUES ($1, $2, $3) "
	       "ON CONFLICT DO NOTHING",
	.rows = true
};
const struct db_statement sql_put_label = {
	.number = PUT_LABEL,
	.sql = "INSERT INTO order_labels (label, value, order_no) VALUES ($1, $2, $3) "
	       "ON CONFLICT DO NOTHING",
	.rows = true
};
const struct db_statement sql_put_movement = {
	.number = PUT_MOVEMENT,
	.sql = "INSERT INTO stock_movements (sku, movement_no, kind, quantity, order_no, actor, "
	       "data) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7)",
	.rows = true
};
const struct db_statement sql_put_position = {
	.number = PUT_POSITION,
	.sql = "INSERT INTO positions (stream, id, events) VALUES ($1, $2, $3) "
	       "ON CONFLICT (stream) DO UPDATE SET id = excluded.id, "
	       "events = positions.events + excluded.events"
};
const struct db_statement sql_read_position = {
	.number = READ_POSITION, .sql = "SELECT id, events FROM positions WHERE stream = $1"
};
const struct db_statement sql_put_gap = {
	.number = PUT_GAP,
	.sql = "INSERT INTO gaps (stream, after_id, before_id, events, found_ms, reason) "
	       "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"
};
const struct db_statement sql_put_unreadable = {
	.number = PUT_UNREADABLE,
	.sql = "INSERT INTO unreadable (stream, id, reason, data) VALUES ($1, $2, $3, $4) "
	       "ON CONFLICT DO NOTHING"
};
const struct db_statement sql_put_number = {
	.number = PUT_NUMBER,
	.sql = "INSERT INTO numbers (name, value) VALUES ($1, $2) "
	       "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
};
const struct db_statement sql_read_number = { .number = READ_NUMBER,
					      .sql = "SELECT value FROM numbers WHERE name = $1" };
const struct db_statement sql_renumber_order = {
	.number = RENUMBER_ORDER,
	.sql = "UPDATE orders SET order_no = $1, placed_ms = $3 WHERE order_no = $2"
};
const struct db_statement sql_renumber_events = {
	.number = RENUMBER_EVENTS,
	.sql = "UPDATE order_events SET order_no = $1 WHERE order_no = $2"
};
const struct db_statement sql_read_events = {
	.number = READ_EVENTS,
	.sql = "SELECT context, version, kind, time_ms, actor, data FROM order_events "
	       "WHERE order_no = $1 ORDER BY context, version"
};

#define ORDER_COLUMNS                                                                              \
	"SELECT o.order_no, o.order_id, o.customer_id, o.status, o.settled, o.version, "           \
	"o.placed_ms, o.updated_ms, o.placed, o.detail FROM "

const struct db_statement sql_get_order = { .number = GET_ORDER,
					    .sql = ORDER_COLUMNS "orders o WHERE o.order_id = $1" };
const struct db_statement sql_movements = {
	.number = MOVEMENTS,
	.sql = "SELECT m.movement_no, m.kind, m.quantity, o.order_id, m.actor, m.data "
	       "FROM stock_movements m LEFT JOIN orders o ON o.order_no = m.order_no "
	       "WHERE m.sku = $1 AND m.movement_no > $2 AND m.movement_no < $3 "
	       "ORDER BY m.movement_no DESC LIMIT $4"
};

/* CROSS JOIN: SQLite takes the tables in this order. */
#define BETWEEN(no, first, second) no " > $" first " AND " no " < $" second " ORDER BY " no
#define SEARCH_BY(by, from, no, first, second, third)                                              \
	{                                                                                          \
		{ .number = SEARCH + 2 * (by),                                                     \
		  .sql = ORDER_COLUMNS from BETWEEN(no, first, second) " DESC LIMIT $" third },    \
		{                                                                                  \
			.number = SEARCH + 2 * (by) + 1,                                           \
			.sql = ORDER_COLUMNS from BETWEEN(no, first, second) " LIMIT $" third      \
		}                                                                                  \
	}
const struct db_statement sql_search[SQL_SEARCHES][2] = {
	[SQL_ALL] = SEARCH_BY(SQL_ALL, "orders o WHERE ", "o.order_no", "1", "2", "3"),
	[SQL_BY_CUSTOMER] = SEARCH_BY(SQL_BY_CUSTOMER, "orders o WHERE o.customer_id = $1 AND ",
				      "o.order_no", "2", "3", "4"),
	[SQL_BY_LABEL] = SEARCH_BY(SQL_BY_LABEL,
				   "order_labels l CROSS JOIN orders o WHERE l.label = $1 AND "
				   "l.value = $2 AND o.order_no = l.order_no AND ",
				   "l.order_no", "3", "4", "5"),
	[SQL_BY_SKU] = SEARCH_BY(SQL_BY_SKU,
				 "order_lines l CROSS JOIN orders o WHERE l.sku = $1 AND "
				 "o.order_no = l.order_no AND ",
				 "l.order_no", "2", "3", "4"),
	[SQL_BY_STATUS] = SEARCH_BY(SQL_BY_STATUS, "orders o WHERE o.status = $1 AND ",
				    "o.order_no", "2", "3", "4"),
};

/* ---- what events mean ---- */

static const struct {
	const char *kind;
	int status;
	bool has_detail;
} meanings[] = {
	{ "OrderPlaced", 1, false },    { "OrderReserved", 2, false }, { "OrderRejected", 3, true },
	{ "OrderConfirmed", 4, false }, { "OrderCancelled", 5, true }, { "OrderExpired", 6, true },
	{ "OrderReturned", 4, true },
};

int archive_status_of(const struct archive_text *kind)
{
	for (size_t i = 0; i < RT_LENGTH(meanings); i++)
		if (archive_is(kind, meanings[i].kind))
			return meanings[i].status;
	return 0;
}

bool archive_of_stock(const struct archive_text *kind)
{
	return archive_is(kind, "StockAdjusted") || archive_is(kind, "StockLow");
}

bool archive_has_detail(const struct archive_text *kind)
{
	for (size_t i = 0; i < RT_LENGTH(meanings); i++)
		if (archive_is(kind, meanings[i].kind))
			return meanings[i].has_detail;
	return false;
}
