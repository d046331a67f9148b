/* store.c - writes to the database.
 *
 *   archive_store_write
 *     look_up            what the database has of the batch's orders that are not in mind: one flush
 *     apply              each event, the orders' before inventory's: changes what is in mind, queues rows
 *     put_orders         a row for each order that changed, however many of its events there were
 *     put_rest           positions, gaps, entries that cannot be read
 *     COMMIT
 *
 * What is in mind of an order (struct known) is what the database has, or nothing: after a failure all of it is
 * forgotten. */
#include <stdio.h>
#include <string.h>

#include "store_internal.h"
#include "store_sql.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define uthash_fatal(text) abort()
#include <uthash.h>

/* What inventory did last for an order. */
enum stock_state { STOCK_NOTHING, STOCK_IS_RESERVED = 2, STOCK_IS_COMMITTED, STOCK_IS_RELEASED };

struct line {
	char sku[ARCHIVE_SKU_MAX + 1];
	uint32_t quantity;
};
struct known {
	UT_hash_handle hh; /* the oldest first */
	char order_id[ARCHIVE_ORDER_ID + 1];
	int64_t no; /* 0: the database has none, as far as is known */
	bool looked_up;
	int status;
	bool settled, has_placed;
	int64_t stock_state;
	uint64_t version, stock_version;
	int64_t placed_ms, updated_ms;
	struct line *lines;
	size_t line_count;
	/* Of the batch that is being written. */
	bool touched, is_new;
	struct known *next;
	struct archive_text placed, detail; /* of the batch's events */
	char *customer_id;
};

struct archive_store {
	struct db *db;
	char error[ARCHIVE_ERROR];
	struct known *orders;
	int64_t serial;
	bool serial_known;
	/* Of the batch that is being written. */
	struct known *touched;
	struct archive_written *written;
};

struct db *archive_store_db(struct archive_store *store)
{
	return store->db;
}

/* ---- values ---- */

static struct db_value slice(const struct archive_text *s)
{
	return (struct db_value){ .type = s->length > 0 ? DB_TEXT : DB_NULL,
				  .data = s->data,
				  .length = s->length };
}

static struct db_value bytes(const struct archive_text *s)
{
	return (struct db_value){ .type = s->length > 0 ? DB_BLOB : DB_NULL,
				  .data = s->data,
				  .length = s->length };
}

static int put(struct archive_store *store, const struct db_statement *statement,
	       const struct db_value *values, size_t count)
{
	return store->db->ops->queue(store->db, statement, values, count, NULL, NULL);
}
#define PUT(store, statement, ...)                                                                 \
	put(store, &(statement), (const struct db_value[]){ __VA_ARGS__ },                         \
	    RT_LENGTH(((const struct db_value[]){ __VA_ARGS__ })))

/* A number for what happened then: it is greater than those of earlier milliseconds. */
static int64_t next_no(struct archive_store *store, int64_t time_ms)
{
	store->serial = (store->serial + 1) & (((int64_t)1 << ARCHIVE_NO_BITS) - 1);
	return time_ms << ARCHIVE_NO_BITS | store->serial;
}

/* ---- what is in mind ---- */

/* uthash makes the next one the head of the table, which clang's analyzer does not see. */
static void forget(struct archive_store *store, struct known *known)
{
	HASH_DEL(store->orders, known);
	free(known->lines);
	free(known->customer_id);
	free(known);
}

static void forget_all(struct archive_store *store)
{
	while (store->orders != NULL)
		/* It leaves the table: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		forget(store, store->orders);
	store->serial_known = false;
}

static void forget_oldest(struct archive_store *store)
{
	while (HASH_COUNT(store->orders) > ARCHIVE_CACHE_ORDERS)
		forget(store, store->orders);
}

static struct known *find(struct archive_store *store, const struct archive_text *order_id)
{
	struct known *known;

	HASH_FIND(hh, store->orders, order_id->data, (unsigned int)order_id->length, known);
	if (known != NULL)
		return known;
	known = rt_alloc(sizeof(*known));
	memcpy(known->order_id, order_id->data, RT_MIN(order_id->length, ARCHIVE_ORDER_ID));
	HASH_ADD(hh, store->orders, order_id, (unsigned int)strlen(known->order_id), known);
	return known;
}

static void keep_lines(struct known *known, Tandem__Order__V1__OrderLine *const *lines, size_t n)
{
	free(known->lines);
	known->lines = rt_alloc(n * sizeof(*known->lines) + 1);
	known->line_count = n;
	for (size_t i = 0; i < n; i++) {
		snprintf(known->lines[i].sku, sizeof(known->lines[i].sku), "%s", lines[i]->sku);
		known->lines[i].quantity = lines[i]->quantity;
	}
}

static void read_known(const struct db_value *columns, void *user)
{
	struct known *known = user;
	Tandem__Order__V1__OrderPlaced *placed;

	known->no = columns[0].number;
	known->status = (int)columns[1].number;
	known->settled = columns[2].number != 0;
	known->version = (uint64_t)columns[3].number;
	known->stock_version = (uint64_t)columns[4].number;
	known->stock_state = columns[5].number;
	known->placed_ms = columns[6].number;
	known->updated_ms = columns[7].number;
	known->has_placed = columns[8].type == DB_BLOB;
	if (!known->has_placed)
		return;
	placed = tandem__order__v1__order_placed__unpack(NULL, columns[8].length,
							 (const uint8_t *)columns[8].data);
	if (placed != NULL && placed->content != NULL)
		keep_lines(known, placed->content->lines, placed->content->n_lines);
	tandem__order__v1__order_placed__free_unpacked(placed, NULL);
}

static bool concerns_order(const struct archive_event *event)
{
	return event->context == ARCHIVE_ORDER || !archive_of_stock(&event->kind);
}

static void read_serial(const struct db_value *columns, void *user)
{
	*(int64_t *)user = columns[0].number;
}

static int look_up(struct archive_store *store, const struct archive_batch *batch)
{
	int rc = RT_OK;

	if (!store->serial_known) {
		rc = store->db->ops->queue(store->db, &sql_read_number,
					   (const struct db_value[]){ db_text("serial") }, 1,
					   read_serial, &store->serial);
		store->serial_known = rc == RT_OK;
	}
	for (size_t i = 0; rc == RT_OK && i < batch->event_count; i++) {
		struct known *known;

		if (!concerns_order(&batch->events[i]))
			continue;
		known = find(store, &batch->events[i].subject);
		if (known->looked_up)
			continue;
		known->looked_up = true;
		rc = store->db->ops->queue(store->db, &sql_find_order,
					   (const struct db_value[]){ db_text(known->order_id) }, 1,
					   read_known, known);
	}
	return rc;
}

/* ---- events of orders ---- */

/* An order that is not in the database yet gets its number with its first event. */
static void touch(struct archive_store *store, struct known *known, int64_t time_ms)
{
	if (known->no == 0) {
		known->no = next_no(store, time_ms);
		known->placed_ms = known->updated_ms = time_ms;
		known->is_new = true;
		store->written->orders++;
	}
	if (!known->touched) {
		known->touched = true;
		known->next = store->touched;
		store->touched = known;
	}
}

static int put_event(struct archive_store *store, const struct known *known,
		     const struct archive_event *event)
{
	static const struct archive_text nothing = { 0 };
	bool placed = archive_is(&event->kind, "OrderPlaced");

	return PUT(store, sql_put_event, db_number(known->no), db_number(event->context),
		   db_number((int64_t)event->version), slice(&event->kind),
		   db_number(event->time_ms), slice(&event->actor),
		   bytes(placed ? &nothing : &event->data));
}

static int put_movements(struct archive_store *store, const struct known *known, int kind,
			 int64_t time_ms)
{
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < known->line_count; i++) {
		rc = PUT(store, sql_put_movement, db_text(known->lines[i].sku),
			 db_number(next_no(store, time_ms)), db_number(kind),
			 db_number(known->lines[i].quantity), db_number(known->no),
			 { .type = DB_NULL }, { .type = DB_NULL });
		store->written->movements++;
	}
	return rc;
}

static int put_content(struct archive_store *store, const struct known *known,
		       const Tandem__Order__V1__OrderContent *content)
{
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < content->n_lines; i++)
		rc = PUT(store, sql_put_line, db_text(content->lines[i]->sku), db_number(known->no),
			 db_number(content->lines[i]->quantity));
	for (size_t i = 0; rc == RT_OK && i < content->n_labels; i++)
		rc = PUT(store, sql_put_label, db_text(content->labels[i]->key),
			 db_text(content->labels[i]->value), db_number(known->no));
	return rc;
}

/* An event of inventory, as a movement of stock; 0: it moves none. */
static int movement_of(const struct archive_text *kind, int64_t before, int64_t *ret_state)
{
	static const struct {
		const char *kind;
		int64_t state;
		int movement;
	} rows[] = {
		{ "InventoryReserved", STOCK_IS_RESERVED, ARCHIVE_RESERVED },
		{ "InventoryCommitted", STOCK_IS_COMMITTED, ARCHIVE_COMMITTED },
		{ "InventoryReleased", STOCK_IS_RELEASED, ARCHIVE_RELEASED },
		{ "InventoryUnavailable", 5, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		if (!archive_is(kind, rows[i].kind))
			continue;
		*ret_state = rows[i].state;
		if (rows[i].state == before ||
		    (rows[i].state == STOCK_IS_RELEASED && before != STOCK_IS_RESERVED))
			return 0; /* nothing was held */
		return rows[i].movement;
	}
	*ret_state = before;
	return 0;
}

struct former {
	struct archive_store *store;
	struct known *known;
	int64_t state;
	size_t count;
	struct {
		int movement;
		int64_t time_ms;
	} moves[8];
};

static void read_former(const struct db_value *columns, void *user)
{
	struct former *former = user;
	const struct archive_text kind = { columns[2].data, columns[2].length };
	int movement;

	if (columns[0].number != ARCHIVE_INVENTORY)
		return;
	movement = movement_of(&kind, former->state, &former->state);
	if (movement == 0 || former->count == RT_LENGTH(former->moves))
		return;
	former->moves[former->count].movement = movement;
	former->moves[former->count++].time_ms = columns[3].number;
}

/* Inventory's events of an order came before its OrderPlaced: now its time is known, and with it its number; and what they
 * moved. */
static int complete(struct archive_store *store, struct known *known, int64_t placed_ms)
{
	struct former former = { .store = store, .known = known };
	const struct db_ops *ops = store->db->ops;
	int64_t former_no = known->no;
	int rc;

	known->no = next_no(store, placed_ms);
	known->placed_ms = placed_ms;
	rc = PUT(store, sql_renumber_order, db_number(known->no), db_number(former_no),
		 db_number(placed_ms));
	if (rc == RT_OK)
		rc = PUT(store, sql_renumber_events, db_number(known->no), db_number(former_no));
	if (rc == RT_OK)
		rc = ops->queue(store->db, &sql_read_events,
				(const struct db_value[]){ db_number(known->no) }, 1, read_former,
				&former);
	if (rc == RT_OK)
		rc = ops->flush(store->db);
	for (size_t i = 0; rc == RT_OK && i < former.count; i++)
		rc = put_movements(store, known, former.moves[i].movement, former.moves[i].time_ms);
	return rc;
}

static int apply_placed(struct archive_store *store, struct known *known,
			const struct archive_event *event)
{
	Tandem__Order__V1__OrderPlaced *placed;
	bool was_there = known->no != 0;
	int rc = RT_OK;

	if (known->has_placed)
		return RT_OK;
	placed = tandem__order__v1__order_placed__unpack(NULL, event->data.length,
							 (const uint8_t *)event->data.data);
	if (placed == NULL || placed->content == NULL) {
		tandem__order__v1__order_placed__free_unpacked(placed, NULL);
		touch(store, known, event->time_ms);
		return RT_OK;
	}
	known->has_placed = true;
	known->placed = event->data;
	free(known->customer_id);
	known->customer_id = rt_strdup(placed->content->customer_id);
	keep_lines(known, placed->content->lines, placed->content->n_lines);
	/* Its row may have been queued in no batch yet: then it is as good as new. */
	if (was_there && !known->is_new)
		rc = complete(store, known, event->time_ms);
	touch(store, known, event->time_ms);
	if (rc == RT_OK)
		rc = put_content(store, known, placed->content);
	tandem__order__v1__order_placed__free_unpacked(placed, NULL);
	return rc;
}

static int apply_order(struct archive_store *store, const struct archive_event *event)
{
	struct known *known = find(store, &event->subject);
	bool repeat = event->version <= known->version;
	int rc = RT_OK, status;

	if (archive_is(&event->kind, "OrderPlaced"))
		rc = apply_placed(store, known, event);
	if (rc != RT_OK)
		return rc;
	if (repeat) {
		store->written->repeats++;
		return RT_OK;
	}
	touch(store, known, event->time_ms);
	known->version = event->version;
	known->updated_ms = event->time_ms;
	status = archive_status_of(&event->kind);
	if (status > 0) {
		known->status = status;
		known->settled = false;
	}
	/* Refused at once: nothing is asked of inventory any more. */
	if (archive_is(&event->kind, "OrderSettled") ||
	    (archive_is(&event->kind, "OrderRejected") && event->version == 2))
		known->settled = true;
	if (archive_has_detail(&event->kind))
		known->detail = event->data;
	return put_event(store, known, event);
}

static int apply_inventory(struct archive_store *store, const struct archive_event *event)
{
	struct known *known = find(store, &event->subject);
	int movement, rc;

	if (event->version <= known->stock_version) {
		store->written->repeats++;
		return RT_OK;
	}
	touch(store, known, event->time_ms);
	known->stock_version = event->version;
	movement = movement_of(&event->kind, known->stock_state, &known->stock_state);
	rc = put_event(store, known, event);
	if (rc == RT_OK && movement != 0)
		rc = put_movements(store, known, movement, event->time_ms);
	return rc;
}

static int apply_adjusted(struct archive_store *store, const struct archive_event *event)
{
	Tandem__Inventory__V1__StockAdjusted *adjusted =
		tandem__inventory__v1__stock_adjusted__unpack(NULL, event->data.length,
							      (const uint8_t *)event->data.data);
	int64_t delta = adjusted != NULL ? adjusted->delta : 0;

	tandem__inventory__v1__stock_adjusted__free_unpacked(adjusted, NULL);
	store->written->movements++;
	return PUT(store, sql_put_movement, slice(&event->subject),
		   db_number(next_no(store, event->time_ms)), db_number(ARCHIVE_ADJUSTED),
		   db_number(delta), { .type = DB_NULL }, slice(&event->actor),
		   bytes(&event->data));
}

/* The orders' events first: inventory's follow from them. */
static int apply(struct archive_store *store, const struct archive_batch *batch)
{
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < batch->event_count; i++)
		if (batch->events[i].context == ARCHIVE_ORDER)
			rc = apply_order(store, &batch->events[i]);
	for (size_t i = 0; rc == RT_OK && i < batch->event_count; i++)
		if (batch->events[i].context == ARCHIVE_INVENTORY &&
		    concerns_order(&batch->events[i]))
			rc = apply_inventory(store, &batch->events[i]);
		else if (archive_is(&batch->events[i].kind, "StockAdjusted"))
			rc = apply_adjusted(store, &batch->events[i]);
	return rc;
}

/* ---- rows ---- */

static int put_order(struct archive_store *store, const struct known *known)
{
	const struct db_value customer = { .type = known->customer_id != NULL ? DB_TEXT : DB_NULL,
					   .data = known->customer_id,
					   .length = known->customer_id != NULL
							     ? strlen(known->customer_id)
							     : 0 };

	if (known->is_new)
		return PUT(store, sql_put_order, db_number(known->no), db_text(known->order_id),
			   customer, db_number(known->status), db_number(known->settled),
			   db_number((int64_t)known->version),
			   db_number((int64_t)known->stock_version), db_number(known->stock_state),
			   db_number(known->placed_ms), db_number(known->updated_ms),
			   bytes(&known->placed), bytes(&known->detail));
	return PUT(store, sql_change_order, db_number(known->no), customer,
		   db_number(known->status), db_number(known->settled),
		   db_number((int64_t)known->version), db_number((int64_t)known->stock_version),
		   db_number(known->stock_state), db_number(known->updated_ms),
		   bytes(&known->placed), bytes(&known->detail));
}

static int put_orders(struct archive_store *store)
{
	int rc = RT_OK;

	/* The new ones first, all together. */
	for (int changed = 0; changed < 2; changed++)
		for (struct known *known = store->touched; rc == RT_OK && known != NULL;
		     known = known->next)
			if (known->is_new == (changed == 0))
				rc = put_order(store, known);
	return rc;
}

static int put_rest(struct archive_store *store, const struct archive_batch *batch)
{
	int rc = PUT(store, sql_put_number, db_text("serial"), db_number(store->serial));

	for (size_t i = 0; rc == RT_OK && i < batch->position_count; i++)
		rc = PUT(store, sql_put_position, db_text(batch->positions[i].stream),
			 db_text(batch->positions[i].id), db_number(batch->positions[i].events));
	for (size_t i = 0; rc == RT_OK && i < batch->gap_count; i++) {
		const struct archive_gap *gap = &batch->gaps[i];

		rc = PUT(store, sql_put_gap, db_text(gap->stream), db_text(gap->after),
			 db_text(gap->before), db_number(gap->events), db_number(gap->found_ms),
			 db_text(gap->reason));
	}
	for (size_t i = 0; rc == RT_OK && i < batch->unreadable_count; i++) {
		const struct archive_unreadable *entry = &batch->unreadable[i];

		rc = PUT(store, sql_put_unreadable, db_text(entry->stream), db_text(entry->id),
			 db_text(entry->reason),
			 { .type = DB_BLOB, .data = entry->data, .length = entry->length });
	}
	return rc;
}

/* ---- a batch ---- */

static void read_position(const struct db_value *columns, void *user)
{
	struct archive_position *position = user;

	snprintf(position->id, sizeof(position->id), "%s", columns[0].data);
	position->events = columns[1].number;
}

static int ask_position(struct archive_store *store, struct archive_position *position)
{
	snprintf(position->id, sizeof(position->id), "0-0");
	position->events = 0;
	return store->db->ops->queue(store->db, &sql_read_position,
				     (const struct db_value[]){ db_text(position->stream) }, 1,
				     read_position, position);
}

/* Nobody else has written since the batch was begun. Looks up what the batch needs in the same turn. */
static int begin_batch(struct archive_store *store, const struct archive_batch *batch)
{
	struct archive_position *stored = rt_alloc(batch->position_count * sizeof(*stored) + 1);
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < batch->position_count; i++) {
		memcpy(stored[i].stream, batch->positions[i].stream, sizeof(stored[i].stream));
		rc = ask_position(store, &stored[i]);
	}
	if (rc == RT_OK)
		rc = look_up(store, batch);
	if (rc == RT_OK)
		rc = store->db->ops->flush(store->db);
	for (size_t i = 0; rc == RT_OK && i < batch->position_count; i++) {
		if (strcmp(stored[i].id, batch->positions[i].from) == 0)
			continue;
		rc = RT_BUSY;
		snprintf(store->db->error, sizeof(store->db->error),
			 "another process has archived %s up to %s", stored[i].stream,
			 stored[i].id);
	}
	free(stored);
	return rc;
}

static void end_batch(struct archive_store *store)
{
	struct known *known, *next;

	for (known = store->touched; known != NULL; known = next) {
		next = known->next;
		known->next = NULL;
		known->touched = known->is_new = false;
		known->placed = known->detail = (struct archive_text){ 0 };
		free(known->customer_id);
		known->customer_id = NULL;
	}
	store->touched = NULL;
	forget_oldest(store);
}

int archive_store_write(struct archive_store *store, const struct archive_batch *batch,
			struct archive_written *ret)
{
	const struct db_ops *ops = store->db->ops;
	struct archive_written written = { 0 };
	int rc;

	store->written = &written;
	RT_FAILPOINT("archive.begin");
	rc = ops->script(store->db, ops->begin);
	if (rc == RT_OK)
		rc = begin_batch(store, batch);
	if (rc == RT_OK)
		rc = apply(store, batch);
	if (rc == RT_OK)
		rc = put_orders(store);
	if (rc == RT_OK)
		rc = put_rest(store, batch);
	if (rc == RT_OK)
		rc = ops->flush(store->db);
	RT_FAILPOINT("archive.commit");
	if (rc == RT_OK)
		rc = ops->script(store->db, "COMMIT");
	RT_FAILPOINT("archive.committed");
	end_batch(store);
	if (rc == RT_OK) {
		*ret = written;
		return RT_OK;
	}
	memcpy(store->error, store->db->error, sizeof(store->error));
	(void)ops->script(store->db, "ROLLBACK");
	forget_all(store);
	return rc;
}

int archive_store_position(struct archive_store *store, struct archive_position *position)
{
	int rc = ask_position(store, position);

	if (rc == RT_OK)
		rc = store->db->ops->flush(store->db);
	if (rc != RT_OK)
		memcpy(store->error, store->db->error, sizeof(store->error));
	return rc;
}

/* ---- life ---- */

int archive_store_open(const struct archive_store_options *options, struct archive_store **ret,
		       char error[ARCHIVE_ERROR])
{
	bool postgresql = strncmp(options->database, "postgresql://", 13) == 0 ||
			  strncmp(options->database, "postgres://", 11) == 0;
	struct archive_store *store;
	struct db *db;
	int rc = postgresql ? db_postgresql_open(options, &db, error)
			    : db_sqlite_open(options, &db, error);

	if (rc != RT_OK)
		return rc;
	rc = options->writes ? store_migrate(db) : store_check(db);
	if (rc != RT_OK) {
		snprintf(error, ARCHIVE_ERROR, "%s", db->error);
		db->ops->close(db);
		return rc;
	}
	store = rt_alloc(sizeof(*store));
	store->db = db;
	*ret = store;
	return RT_OK;
}

void archive_store_close(struct archive_store *store)
{
	if (store == NULL)
		return;
	forget_all(store);
	store->db->ops->close(store->db);
	free(store);
}

const char *archive_store_error(const struct archive_store *store)
{
	return store->error[0] != '\0' ? store->error : store->db->error;
}
