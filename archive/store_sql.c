/* store_sql.c - the statements. */
#include "store_sql.h"

/* 0 is that of store_schema.c. */
enum {
	FIND_ORDER = 1,
	PUT_ORDER,
	CHANGE_ORDER,
	DELETE_ORDER,
	PUT_POSTINGS,
	READ_POSTINGS,
	PUT_MOVEMENTS,
	PUT_POSITION,
	READ_POSITION,
	PUT_GAP,
	PUT_UNREADABLE,
	PUT_NUMBER,
	READ_NUMBER,
	LAST_ORDER,
	READ_SEGMENTS,
	PUT_SEGMENT,
	READ_IDS,
	GET_ORDER,
	ORDER_ID,
	MOVEMENTS,
	MOVEMENTS_AROUND,
	RELEASABLE,
	COUNT_KEPT,
	COUNT_TAKEN_BACK,
	TAKE_BACK,
	STREAMS,
	GAPS,
	UNREADABLE,
	WALK,
	WALK_OPEN = WALK + 2,
	WALK_NUMBER = WALK_OPEN + 2,
	STATEMENTS
};
_Static_assert(STATEMENTS <= DB_STATEMENTS_MAX, "too many statements");

const struct db_statement sql_find_order = {
	.number = FIND_ORDER,
	.sql = "SELECT o.order_no, o.status, o.settled, o.dropped, o.version, o.stock_version, "
	       "o.stock_state, o.updated_ms, o.placed, o.life FROM orders o "
	       "WHERE o.order_no = $1 AND o.order_id = $2"
};
const struct db_statement sql_put_order = {
	.number = PUT_ORDER,
	.sql = "INSERT INTO orders (order_no, order_id, customer_id, partition_no, status, "
	       "settled, dropped, version, stock_version, stock_state, updated_ms, placed, life) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
	.rows = true
};
const struct db_statement sql_change_order = {
	.number = CHANGE_ORDER,
	.sql = "UPDATE orders SET status = $2, settled = $3, dropped = $4, version = $5, "
	       "stock_version = $6, stock_state = $7, updated_ms = $8, life = $9 "
	       "WHERE order_no = $1"
};
const struct db_statement sql_delete_order = { .number = DELETE_ORDER,
					       .sql = "DELETE FROM orders WHERE order_no = $1" };
const struct db_statement sql_put_postings = {
	.number = PUT_POSTINGS,
	.sql = "INSERT INTO postings (posting_key, order_no, postings) VALUES ($1, $2, $3)",
	.rows = true
};
const struct db_statement sql_read_postings = {
	.number = READ_POSTINGS,
	.sql = "SELECT order_no, postings FROM postings WHERE posting_key IN ($1, $2)"
};
const struct db_statement sql_put_movements = {
	.number = PUT_MOVEMENTS,
	.sql = "INSERT INTO stock_movements (sku, movement_no, moves) VALUES ($1, $2, $3)",
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
const struct db_statement sql_last_order = {
	.number = LAST_ORDER, .sql = "SELECT order_no FROM orders ORDER BY order_no DESC LIMIT 1"
};
const struct db_statement sql_read_segments = {
	.number = READ_SEGMENTS, .sql = "SELECT first_no, orders FROM segments ORDER BY segment"
};
const struct db_statement sql_put_segment = {
	.number = PUT_SEGMENT,
	.sql = "INSERT INTO segments (segment, first_no, orders) VALUES ($1, $2, $3) "
	       "ON CONFLICT (segment) DO UPDATE SET orders = excluded.orders"
};
const struct db_statement sql_read_ids = { .number = READ_IDS,
					   .sql = "SELECT posting_key, postings FROM postings "
						  "WHERE posting_key >= $1 AND posting_key < $2" };

#define ORDER_COLUMNS                                                                              \
	"SELECT o.order_no, o.order_id, o.customer_id, o.status, o.settled, o.version, "           \
	"o.updated_ms, o.placed, o.life, o.dropped FROM "

const struct db_statement sql_get_order = { .number = GET_ORDER,
					    .sql = ORDER_COLUMNS
					    "orders o WHERE o.order_no = $1 AND o.order_id = $2" };
const struct db_statement sql_order_id = {
	.number = ORDER_ID, .sql = "SELECT order_id FROM orders WHERE order_no = $1"
};
const struct db_statement sql_movements = {
	.number = MOVEMENTS,
	.sql = "SELECT movement_no, moves FROM stock_movements WHERE sku = $1 AND "
	       "movement_no > $2 AND movement_no < $3 ORDER BY movement_no DESC LIMIT $4"
};
const struct db_statement sql_movements_around = {
	.number = MOVEMENTS_AROUND,
	.sql = "SELECT movement_no, moves FROM stock_movements WHERE sku = $1 AND "
	       "movement_no >= $2 ORDER BY movement_no LIMIT 1"
};

/* A stream without a position has a gap or an unreadable entry. */
const struct db_statement sql_streams = {
	.number = STREAMS,
	.sql = "SELECT s.stream, COALESCE(p.id, '0-0'), COALESCE(p.events, 0) FROM "
	       "(SELECT stream FROM positions UNION SELECT stream FROM gaps "
	       "UNION SELECT stream FROM unreadable) s "
	       "LEFT JOIN positions p ON p.stream = s.stream ORDER BY s.stream"
};
const struct db_statement sql_gaps = {
	.number = GAPS,
	.sql = "SELECT after_id, before_id, events, found_ms, reason FROM gaps WHERE stream = $1 "
	       "ORDER BY found_ms DESC, before_id DESC LIMIT $2"
};
const struct db_statement sql_unreadable = {
	.number = UNREADABLE,
	.sql = "SELECT id, reason FROM unreadable WHERE stream = $1 ORDER BY id DESC LIMIT $2"
};

/* As the index orders_to_release has it. */
#define KEPT                                                                                       \
	"FROM orders WHERE partition_no = $1 AND settled = 1 AND dropped = 0 AND "                 \
	"customer_id IS NOT NULL"
const struct db_statement sql_releasable = {
	.number = RELEASABLE,
	.sql = "SELECT order_id, version, updated_ms, order_no " KEPT
	       " AND (updated_ms, order_no) > ($2, $3) AND updated_ms <= $4"
	       " ORDER BY updated_ms, order_no LIMIT $5"
};
const struct db_statement sql_count_kept = { .number = COUNT_KEPT, .sql = "SELECT COUNT(*) " KEPT };

/* As the index orders_dropped has it. */
#define DROPPED_SINCE "WHERE partition_no = $1 AND dropped >= $2 AND dropped > 1"
const struct db_statement sql_count_taken_back = {
	.number = COUNT_TAKEN_BACK,
	.sql = "SELECT COUNT(*) FROM orders " DROPPED_SINCE
	       " AND settled = 1 AND customer_id IS NOT NULL"
};
const struct db_statement sql_take_back = {
	.number = TAKE_BACK,
	.sql = "UPDATE orders SET dropped = 0, version = version - 1 " DROPPED_SINCE
};

#define WALK_ALL                                                                                   \
	ORDER_COLUMNS "orders o WHERE o.order_no > $1 AND o.order_no < $2 ORDER BY o.order_no "
#define WALK_ALL_OPEN                                                                              \
	ORDER_COLUMNS "orders o WHERE o.settled = 0 AND o.order_no > $1 AND o.order_no < $2 "      \
		      "ORDER BY o.order_no "
const struct db_statement sql_walk[2] = { { .number = WALK, .sql = WALK_ALL "DESC LIMIT $3" },
					  { .number = WALK + 1, .sql = WALK_ALL "LIMIT $3" } };
const struct db_statement sql_walk_open[2] = {
	{ .number = WALK_OPEN, .sql = WALK_ALL_OPEN "DESC LIMIT $3" },
	{ .number = WALK_OPEN + 1, .sql = WALK_ALL_OPEN "LIMIT $3" }
};
const struct db_statement sql_walk_number = { .number = WALK_NUMBER,
					      .sql = ORDER_COLUMNS
					      "orders o WHERE o.order_no = $1" };
