/* store.c - writes to the database.
 *
 *   archive_store_write
 *     look_up            what the database has of the batch's orders that are not in mind
 *     apply              each event, the orders' before inventory's: changes what is in mind
 *     put_orders         a row for each order that changed, however many of its events there were; its postings
 *     put_rest           movements, positions, gaps, entries that cannot be read
 *     COMMIT
 *
 * What is in mind of an order (struct archive_known) is what the database has, or nothing: after a failure all of it is
 * forgotten. */
#include <stdio.h>
#include <string.h>

#include "store_content.h"
#include "store_index.h"
#include "store_internal.h"
#include "store_known.h"
#include "store_life.h"
#include "store_moves.h"
#include "store_postings.h"
#include "store_sql.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define KEEP_BYTES ((size_t)1 << 20)
#define AHEAD      16 /* events: so far ahead memory is asked for */
#define LIFE_ROOM  40 /* bytes: three events more, of which one says who it was */

/* What inventory did last for an order. */
enum stock_state {
	STOCK_NOTHING,
	STOCK_IS_RESERVED = 2,
	STOCK_IS_COMMITTED,
	STOCK_IS_RELEASED,
	STOCK_IS_UNAVAILABLE
};

struct archive_store {
	struct db *db;
	char error[ARCHIVE_ERROR];
	struct archive_ids *ids, *own_ids;
	int64_t segment_orders;
	struct archive_segments segments;
	/* The writer's. */
	struct archive_known_orders orders;
	bool loaded; /* what follows */
	int64_t serial, last_no, posting_rows;
	uint64_t batches;
	/* Of the batch that is being written. */
	struct touched {
		struct archive_known *first, **end; /* in the order in which they were */
	} fresh, changed;                           /* that have no row yet, and that have one */
	struct archive_written written;
	struct rt_arena arena;
	struct archive_moves moves;
	struct archive_postings postings;
	struct archive_new_ids new_ids;
	struct archive_known **known; /* of each event; NULL: it concerns no order */
};

struct db *archive_store_db(struct archive_store *store)
{
	return store->db;
}

struct archive_ids *archive_store_ids(struct archive_store *store)
{
	return store->ids;
}

int archive_store_segments(struct archive_store *store, const struct archive_segments **ret)
{
	*ret = &store->segments;
	return archive_segments_load(store->db, &store->segments);
}

/* ---- values ---- */

static struct db_value bytes(const struct archive_text *s)
{
	return (struct db_value){ .type = s->length > 0 ? DB_BLOB : DB_NULL,
				  .data = s->data,
				  .length = s->length };
}

/* A row that grows moves others out of its page. So an order that is not settled has room for what is to come. */
static struct db_value life_value(struct archive_known *known)
{
	static const char room[LIFE_ROOM];
	size_t length = known->life.length;

	if (length > known->stored_life)
		known->stored_life = known->settled ? length : length + LIFE_ROOM;
	while (known->life.length < known->stored_life)
		rt_buf_add(&known->life, room,
			   RT_MIN(sizeof(room), known->stored_life - known->life.length));
	known->life.length = length; /* the next event's place */
	return (struct db_value){ .type = DB_BLOB,
				  .data = known->life.data,
				  .length = known->stored_life };
}

static int put(struct archive_store *store, const struct db_statement *statement,
	       const struct db_value *values, size_t count)
{
	return store->db->ops->queue(store->db, statement, values, count, NULL, NULL);
}
#define PUT(store, statement, ...)                                                                 \
	put(store, &(statement), (const struct db_value[]){ __VA_ARGS__ },                         \
	    RT_LENGTH(((const struct db_value[]){ __VA_ARGS__ })))

/* ---- what is in mind ---- */

static void forget_all(struct archive_store *store)
{
	archive_known_forget_all(&store->orders);
	store->loaded = false;
}

static void keep_lines(struct archive_known *known, const struct archive_content *content)
{
	size_t n = content->line_count, size = n * sizeof(*known->lines) + 1;
	char *at;

	for (size_t i = 0; i < n; i++)
		size += content->lines[i].sku.length;
	if (size > known->lines_bytes) {
		known->lines = rt_realloc(known->lines, size);
		known->lines_bytes = size;
	}
	known->line_count = n;
	at = (char *)&known->lines[n];
	for (size_t i = 0; i < n; i++) {
		const struct archive_text *sku = &content->lines[i].sku;

		memcpy(at, sku->data, sku->length);
		known->lines[i] =
			(struct archive_line){ .key = archive_key(KEY_SKU, sku->data, sku->length),
					       .sku = at,
					       .quantity = content->lines[i].quantity,
					       .sku_length = (uint32_t)sku->length };
		at += sku->length;
	}
}

/* The status that has a posting. */
static int posted(const struct archive_known *known)
{
	return archive_status_has_key(known->status) ? known->status : 0;
}

/* Whether the order service may drop it, and has not yet. */
static bool is_kept(const struct archive_known *known)
{
	return known->settled && known->dropped == 0 && known->has_placed;
}

/* That it was dropped may have been lost, and another event have the same version: it is not counted. */
static void count_event(struct archive_known *known, enum archive_kind kind,
			const struct archive_event *event)
{
	known->order_events += event->context == ARCHIVE_ORDER && kind != ORDER_DROPPED;
}

/* Of the one that is found. */
struct looked_up {
	struct archive_store *store;
	struct archive_known *known;
};

static void read_known(const struct db_value *columns, void *user)
{
	const struct looked_up *looked_up = user;
	struct archive_known *known = looked_up->known;
	const struct archive_content *content;
	struct archive_life_reader reader = archive_life_read(columns[9].data, columns[9].length);
	struct archive_event event;
	enum archive_kind kind;

	known->no = known->stored_no = columns[0].number;
	known->status = (int)columns[1].number;
	known->stored_status = posted(known);
	known->settled = columns[2].number != 0;
	known->dropped = columns[3].number;
	known->version = (uint64_t)columns[4].number;
	known->stock_version = (uint64_t)columns[5].number;
	known->stock_state = columns[6].number;
	known->updated_ms = columns[7].number;
	while (archive_life_next(&reader, &kind, &event)) {
		known->life_ms = event.time_ms;
		count_event(known, kind, &event);
	}
	known->stored_life = columns[9].length;
	rt_buf_add(&known->life, columns[9].data,
		   (size_t)((const char *)reader.packed.at - columns[9].data));
	known->has_placed = columns[8].type == DB_BLOB;
	known->stored_kept = is_kept(known);
	if (!known->has_placed)
		return;
	content = archive_content_read(&(struct archive_text){ columns[8].data, columns[8].length },
				       &looked_up->store->arena);
	if (content != NULL)
		keep_lines(known, content);
}

static bool concerns_order(const struct archive_event *event)
{
	return event->context == ARCHIVE_ORDER || !archive_of_stock(&event->kind);
}

static void read_number(const struct db_value *columns, void *user)
{
	*(int64_t *)user = columns[0].number;
}

/* What a writer needs to know of the database as a whole. */
static int load(struct archive_store *store)
{
	struct db *db = store->db;
	int rc;

	store->serial = store->last_no = store->posting_rows = 0;
	rc = db->ops->queue(db, &sql_read_number, (const struct db_value[]){ db_text("serial") }, 1,
			    read_number, &store->serial);
	if (rc == RT_OK)
		rc = db->ops->queue(db, &sql_read_number,
				    (const struct db_value[]){ db_text("posting_rows") }, 1,
				    read_number, &store->posting_rows);
	if (rc == RT_OK)
		rc = db->ops->queue(db, &sql_last_order, NULL, 0, read_number, &store->last_no);
	if (rc == RT_OK)
		rc = archive_segments_load(db, &store->segments);
	if (rc == RT_OK && !archive_ids_loaded(store->ids))
		rc = archive_ids_load(db, &store->segments, store->ids);
	store->loaded = rc == RT_OK;
	return rc;
}

/* Finds, or makes, the orders of the batch's events. Returns how many were not looked up yet: those of `list`. */
static size_t find_orders(struct archive_store *store, const struct archive_batch *batch,
			  struct archive_known **list)
{
	const struct archive_event *events = batch->events;
	uint32_t hashes[AHEAD]; /* of the next events */
	size_t count = 0;

	for (size_t i = 0; i < RT_MIN(batch->event_count, (size_t)AHEAD); i++)
		hashes[i] = archive_known_ahead(&store->orders, &events[i].subject);
	for (size_t i = 0; i < batch->event_count; i++) {
		struct archive_known *known = NULL;

		if (concerns_order(&events[i]))
			known = archive_known_find(&store->orders, &events[i].subject,
						   hashes[i % AHEAD], store->batches);
		if (i + AHEAD < batch->event_count)
			hashes[i % AHEAD] =
				archive_known_ahead(&store->orders, &events[i + AHEAD].subject);
		store->known[i] = known;
		if (known == NULL || known->looked_up)
			continue;
		known->looked_up = true;
		list[count++] = known;
	}
	return count;
}

/* Leaves those that the database may have: few, most are new. Returns how many. */
static size_t keep_old(const struct archive_store *store, struct archive_known **list, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		size_t below = store->segments.count;

		if (i + AHEAD < count)
			archive_ids_ahead(store->ids, below - 1, list[i + AHEAD]->key);
		if (archive_ids_before(store->ids, list[i]->key, &below))
			list[kept++] = list[i];
	}
	return kept;
}

static int look_up(struct archive_store *store, const struct archive_batch *batch)
{
	size_t room = batch->event_count + 1, count;
	struct archive_known **known = rt_arena_take(&store->arena, room * sizeof(*known));
	struct archive_wanted *list;
	struct looked_up *users;

	store->known = rt_arena_take(&store->arena, room * sizeof(*store->known));
	count = keep_old(store, known, find_orders(store, batch, known));
	list = rt_arena_take(&store->arena, (count + 1) * sizeof(*list));
	users = rt_arena_take(&store->arena, (count + 1) * sizeof(*users));
	for (size_t i = 0; i < count; i++) {
		users[i] = (struct looked_up){ store, known[i] };
		list[i] = (struct archive_wanted){ .order_id = known[i]->order_id,
						   .key = known[i]->key,
						   .row = read_known,
						   .user = &users[i] };
	}
	return archive_index_find(store->db, &store->segments, store->ids, &sql_find_order, list,
				  count);
}

/* ---- events of orders ---- */

/* An order that is not in the database yet gets its number with its first event. */
static void touch(struct archive_store *store, struct archive_known *known, int64_t time_ms)
{
	if (known->no == 0) {
		known->no = archive_next_no(&store->serial, time_ms, 1);
		known->updated_ms = time_ms;
		store->written.orders++;
	}
	if (!known->touched) {
		struct touched *list = known->stored_no == 0 ? &store->fresh : &store->changed;

		known->touched = true;
		known->next = NULL;
		*list->end = known;
		list->end = &known->next;
	}
}

static void note_event(struct archive_known *known, enum archive_kind kind,
		       const struct archive_event *event)
{
	archive_life_add(&known->life, known->life_ms, kind, event);
	known->life_ms = event->time_ms;
	count_event(known, kind, event);
}

static void note_movements(struct archive_store *store, const struct archive_known *known, int kind,
			   int64_t time_ms)
{
	for (size_t i = 0; i < known->line_count; i++)
		archive_moves_add(&store->moves,
				  &(struct archive_move){ .sku = { known->lines[i].sku,
								   known->lines[i].sku_length },
							  .key = known->lines[i].key,
							  .kind = kind,
							  .quantity = known->lines[i].quantity,
							  .order_no = known->no,
							  .time_ms = time_ms });
	store->written.movements += known->line_count;
}

/* An event of inventory, as a movement of stock; 0: it moves none. */
static int movement_of(enum archive_kind kind, int64_t *state)
{
	static const struct {
		int64_t state;
		int movement;
	} rows[ARCHIVE_KINDS] = {
		[INVENTORY_RESERVED] = { STOCK_IS_RESERVED, ARCHIVE_RESERVED },
		[INVENTORY_COMMITTED] = { STOCK_IS_COMMITTED, ARCHIVE_COMMITTED },
		[INVENTORY_RELEASED] = { STOCK_IS_RELEASED, ARCHIVE_RELEASED },
		[INVENTORY_UNAVAILABLE] = { STOCK_IS_UNAVAILABLE, 0 },
	};
	int64_t before = *state;

	if (rows[kind].state == STOCK_NOTHING)
		return 0;
	*state = rows[kind].state;
	if (*state == before || (*state == STOCK_IS_RELEASED && before != STOCK_IS_RESERVED))
		return 0; /* nothing was held */
	return rows[kind].movement;
}

/* Inventory's events of an order came before its OrderPlaced: now its time is known, and with it its number; and what they
 * moved. */
static void complete(struct archive_store *store, struct archive_known *known, int64_t placed_ms)
{
	struct archive_life_reader reader = archive_life_read(known->life.data, known->life.length);
	int64_t state = STOCK_NOTHING;
	struct archive_event event;
	enum archive_kind kind;

	known->no = archive_next_no(&store->serial, placed_ms, 1);
	while (archive_life_next(&reader, &kind, &event)) {
		int movement = event.context == ARCHIVE_INVENTORY ? movement_of(kind, &state) : 0;

		if (movement != 0)
			note_movements(store, known, movement, event.time_ms);
	}
}

static void apply_placed(struct archive_store *store, struct archive_known *known,
			 const struct archive_event *event)
{
	const struct archive_content *content;

	if (known->has_placed)
		return;
	content = archive_content_read(&event->data, &store->arena);
	if (content != NULL) {
		known->has_placed = true;
		known->placed = event->data;
		known->content = content;
		keep_lines(known, content);
		if (known->no != 0)
			complete(store, known, event->time_ms);
	}
	touch(store, known, event->time_ms);
}

/* The last return of an order, as movements. Inventory's answer does not say what came back. */
static void apply_returned(struct archive_store *store, const struct archive_known *known,
			   const struct archive_event *event)
{
	const Tandem__Order__V1__OrderReturned *returned =
		tandem__order__v1__order_returned__unpack(rt_arena_allocator(&store->arena),
							  event->data.length,
							  (const uint8_t *)event->data.data);
	const Tandem__Order__V1__OrderReturn *last;

	if (returned == NULL || returned->n_returns == 0)
		return;
	last = returned->returns[returned->n_returns - 1];
	for (size_t i = 0; i < last->n_lines; i++) {
		const char *sku = last->lines[i]->sku;
		size_t length = strlen(sku);

		archive_moves_add(&store->moves,
				  &(struct archive_move){ .sku = { sku, length },
							  .key = archive_key(KEY_SKU, sku, length),
							  .kind = ARCHIVE_RETURNED,
							  .quantity = last->lines[i]->quantity,
							  .order_no = known->no,
							  .time_ms = event->time_ms });
	}
	store->written.movements += last->n_lines;
}

static void apply_order(struct archive_store *store, struct archive_known *known,
			const struct archive_event *event)
{
	enum archive_kind kind = archive_kind_of(&event->kind);
	int status = archive_status_of(kind);
	bool repeat = event->version <= known->version;

	if (kind == ORDER_PLACED) {
		bool was_complete = known->has_placed;

		apply_placed(store, known, event);
		/* It comes last, and belongs to the order all the same. */
		if (repeat && !was_complete && known->has_placed) {
			note_event(known, kind, event);
			return;
		}
	}
	if (repeat) {
		store->written.repeats++;
		return;
	}
	touch(store, known, event->time_ms);
	known->version = event->version;
	if (kind != ORDER_DROPPED) /* which changes nothing of the order */
		known->updated_ms = event->time_ms;
	if (status > 0) {
		known->status = status;
		known->settled = false;
	}
	/* Refused at once: nothing is asked of inventory any more. An order of which an event is missing here is not taken for
	 * settled: what the event said is in Redis alone, so it must not be dropped. */
	if (kind == ORDER_SETTLED || (kind == ORDER_REJECTED && event->version == 2))
		known->settled = known->order_events + 1 == event->version;
	if (kind == ORDER_DROPPED) {
		known->dropped = RT_MAX(event->entry_ms, 1);
		store->written.dropped++;
	}
	if (kind == ORDER_RETURNED && known->no != 0)
		apply_returned(store, known, event);
	note_event(known, kind, event);
}

static void apply_inventory(struct archive_store *store, struct archive_known *known,
			    const struct archive_event *event)
{
	enum archive_kind kind = archive_kind_of(&event->kind);
	int movement;

	if (event->version <= known->stock_version) {
		store->written.repeats++;
		return;
	}
	touch(store, known, event->time_ms);
	known->stock_version = event->version;
	movement = movement_of(kind, &known->stock_state);
	note_event(known, kind, event);
	if (movement != 0)
		note_movements(store, known, movement, event->time_ms);
}

static void apply_adjusted(struct archive_store *store, const struct archive_event *event)
{
	const Tandem__Inventory__V1__StockAdjusted *adjusted =
		tandem__inventory__v1__stock_adjusted__unpack(rt_arena_allocator(&store->arena),
							      event->data.length,
							      (const uint8_t *)event->data.data);

	store->written.movements++;
	archive_moves_add(&store->moves, &(struct archive_move){
						 .sku = event->subject,
						 .key = archive_key(KEY_SKU, event->subject.data,
								    event->subject.length),
						 .kind = ARCHIVE_ADJUSTED,
						 .quantity = adjusted != NULL ? adjusted->delta : 0,
						 .time_ms = event->time_ms,
						 .actor = event->actor,
						 .data = event->data });
}

/* What comes soon after an event. */
static void will_use(const struct archive_store *store, const struct archive_batch *batch, size_t i)
{
	if (i + AHEAD >= batch->event_count)
		return;
	archive_known_near(store->known[i + AHEAD]);
	archive_known_nearer(store->known[i + AHEAD / 2]);
}

/* The orders' events first: inventory's follow from them. */
static void apply(struct archive_store *store, const struct archive_batch *batch)
{
	for (size_t i = 0; i < batch->event_count; i++) {
		will_use(store, batch, i);
		if (batch->events[i].context == ARCHIVE_ORDER)
			apply_order(store, store->known[i], &batch->events[i]);
	}
	for (size_t i = 0; i < batch->event_count; i++) {
		const struct archive_event *event = &batch->events[i];

		will_use(store, batch, i);
		if (event->context != ARCHIVE_INVENTORY)
			continue;
		if (store->known[i] != NULL)
			apply_inventory(store, store->known[i], event);
		else if (archive_is(&event->kind, "StockAdjusted"))
			apply_adjusted(store, event);
	}
}

/* ---- rows ---- */

static void note_posting(struct archive_store *store, int64_t no, int64_t key)
{
	size_t segment = archive_segment_of(&store->segments, no);

	archive_postings_add(&store->postings, segment, key, no);
	if (archive_kind_of_key(key) == KEY_ID)
		archive_ids_note(&store->new_ids, segment, key);
}

static void note_content(struct archive_store *store, const struct archive_known *known)
{
	const struct archive_content *content = known->content;

	note_posting(store, known->no,
		     archive_key(KEY_CUSTOMER, content->customer.data, content->customer.length));
	for (size_t i = 0; i < known->line_count; i++)
		note_posting(store, known->no, known->lines[i].key);
	for (size_t i = 0; i < content->label_count; i++)
		note_posting(
			store, known->no,
			archive_key_of_label(&content->labels[i].key, &content->labels[i].value));
}

static int put_new(struct archive_store *store, struct archive_known *known, int partition)
{
	struct db_value customer = { .type = DB_NULL };

	if (known->content != NULL)
		customer = (struct db_value){ .type = DB_TEXT,
					      .data = known->content->customer.data,
					      .length = known->content->customer.length };
	note_posting(store, known->no, known->key);
	if (known->content != NULL)
		note_content(store, known);
	if (known->no >= store->segments.first_no[store->segments.count - 1])
		store->segments.orders++;
	store->last_no = RT_MAX(store->last_no, known->no);
	return PUT(store, sql_put_order, db_number(known->no), db_text(known->order_id), customer,
		   db_number(partition), db_number(known->status), db_number(known->settled),
		   db_number(known->dropped), db_number((int64_t)known->version),
		   db_number((int64_t)known->stock_version), db_number(known->stock_state),
		   db_number(known->updated_ms), bytes(&known->placed), life_value(known));
}

/* It gets another number. The postings of the former one lead to nothing. */
static int take_away(struct archive_store *store, struct archive_known *known)
{
	int rc = PUT(store, sql_delete_order, db_number(known->stored_no));

	known->stored_no = 0;
	known->stored_status = 0;
	return rc;
}

static int put_order(struct archive_store *store, struct archive_known *known, int partition)
{
	int rc = RT_OK;

	if (known->stored_no != 0 && known->stored_no != known->no)
		rc = take_away(store, known);
	if (rc != RT_OK)
		return rc;
	if (posted(known) != 0 && known->stored_status != posted(known))
		note_posting(store, known->no, archive_key_of_status(known->status));
	if (known->stored_no == 0)
		rc = put_new(store, known, partition);
	else
		rc = PUT(store, sql_change_order, db_number(known->no), db_number(known->status),
			 db_number(known->settled), db_number(known->dropped),
			 db_number((int64_t)known->version),
			 db_number((int64_t)known->stock_version), db_number(known->stock_state),
			 db_number(known->updated_ms), life_value(known));
	store->written.kept += is_kept(known) - known->stored_kept;
	known->stored_no = known->no;
	known->stored_status = posted(known);
	known->stored_kept = is_kept(known);
	known->touched = false;
	known->placed = (struct archive_text){ 0 };
	known->content = NULL;
	return rc;
}

/* The newest segment is full: those that come are of the next one. */
static int begin_segment(struct archive_store *store)
{
	if (store->segments.orders < store->segment_orders)
		return RT_OK;
	return archive_segments_add(store->db, &store->segments, store->last_no + 1);
}

static int put_list(struct archive_store *store, struct archive_known *first, int partition)
{
	int rc = RT_OK;

	for (struct archive_known *known = first; rc == RT_OK && known != NULL;
	     known = known->next) {
		archive_known_nearer(known->next);
		if (known->next != NULL)
			archive_known_near(known->next->next);
		rc = put_order(store, known, partition);
	}
	return rc;
}

static int put_orders(struct archive_store *store, int partition)
{
	size_t newest;
	int rc = begin_segment(store);

	/* The new ones first, all together. */
	if (rc == RT_OK)
		rc = put_list(store, store->fresh.first, partition);
	if (rc == RT_OK)
		rc = put_list(store, store->changed.first, partition);
	archive_ids_add_noted(store->ids, &store->new_ids);
	if (rc == RT_OK)
		rc = archive_postings_put(store->db, &store->postings, &store->posting_rows,
					  &store->arena);
	newest = store->segments.count - 1;
	return rc != RT_OK ? rc
			   : PUT(store, sql_put_segment, db_number((int64_t)newest),
				 db_number(store->segments.first_no[newest]),
				 db_number(store->segments.orders));
}

static int put_rest(struct archive_store *store, const struct archive_batch *batch)
{
	int rc = archive_moves_put(store->db, &store->moves, &store->serial, &store->arena);

	if (rc == RT_OK)
		rc = PUT(store, sql_put_number, db_text("serial"), db_number(store->serial));
	if (rc == RT_OK)
		rc = PUT(store, sql_put_number, db_text("posting_rows"),
			 db_number(store->posting_rows));
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

/* Orders of which the stream does not say any more that they were dropped. What is in mind of them is as it was. */
static int take_back(struct archive_store *store, const struct archive_batch *batch,
		     int64_t lost_from_ms)
{
	const struct db_ops *ops = store->db->ops;
	const struct db_value values[] = { db_number(batch->partition), db_number(lost_from_ms) };
	int64_t count = 0;
	int rc;

	forget_all(store);
	rc = ops->queue(store->db, &sql_count_taken_back, values, 2, read_number, &count);
	if (rc == RT_OK)
		rc = ops->queue(store->db, &sql_take_back, values, 2, NULL, NULL);
	if (rc == RT_OK)
		rc = ops->flush(store->db);
	store->written.taken_back += (size_t)count;
	store->written.kept += count;
	return rc;
}

/* Nobody else has written since the batch was begun. Then looks up what the batch needs. */
static int begin_batch(struct archive_store *store, const struct archive_batch *batch)
{
	struct archive_position *stored =
		rt_arena_take(&store->arena, batch->position_count * sizeof(*stored) + 1);
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < batch->position_count; i++) {
		memcpy(stored[i].stream, batch->positions[i].stream, sizeof(stored[i].stream));
		rc = ask_position(store, &stored[i]);
	}
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
	for (size_t i = 0; rc == RT_OK && i < batch->position_count; i++)
		if (batch->positions[i].lost_from_ms > 0)
			rc = take_back(store, batch, batch->positions[i].lost_from_ms);
	if (rc == RT_OK && !store->loaded)
		rc = load(store);
	return rc == RT_OK ? look_up(store, batch) : rc;
}

static void begin_lists(struct archive_store *store)
{
	store->fresh = (struct touched){ NULL, &store->fresh.first };
	store->changed = (struct touched){ NULL, &store->changed.first };
}

static void end_batch(struct archive_store *store)
{
	begin_lists(store);
	store->postings.count = store->new_ids.count = 0;
	store->moves.count = 0;
	rt_arena_reset(&store->arena, KEEP_BYTES);
	archive_known_forget_oldest(&store->orders);
}

int archive_store_write(struct archive_store *store, const struct archive_batch *batch,
			struct archive_written *ret)
{
	const struct db_ops *ops = store->db->ops;
	int rc;

	store->written = (struct archive_written){ 0 };
	store->batches++;
	RT_FAILPOINT("archive.begin");
	rc = ops->script(store->db, ops->begin);
	if (rc == RT_OK)
		rc = begin_batch(store, batch);
	if (rc == RT_OK)
		apply(store, batch);
	if (rc == RT_OK)
		rc = put_orders(store, batch->partition);
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
		*ret = store->written;
		return RT_OK;
	}
	memcpy(store->error, store->db->error, sizeof(store->error));
	(void)ops->script(store->db, "ROLLBACK");
	forget_all(store);
	if (rc == RT_BUSY)
		archive_ids_forget(store->ids);
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
	begin_lists(store);
	store->orders.max =
		options->cache_orders > 0 ? (size_t)options->cache_orders : ARCHIVE_CACHE_ORDERS;
	store->ids = options->ids;
	if (store->ids == NULL && options->writes)
		store->ids = store->own_ids = archive_ids_new();
	store->segment_orders =
		options->segment_orders > 0 ? options->segment_orders : ARCHIVE_SEGMENT_ORDERS;
	*ret = store;
	return RT_OK;
}

void archive_store_close(struct archive_store *store)
{
	if (store == NULL)
		return;
	forget_all(store);
	archive_moves_done(&store->moves);
	archive_segments_done(&store->segments);
	archive_ids_free(store->own_ids);
	rt_arena_done(&store->arena);
	archive_postings_done(&store->postings);
	archive_new_ids_done(&store->new_ids);
	store->db->ops->close(store->db);
	free(store);
}

const char *archive_store_error(const struct archive_store *store)
{
	return store->error[0] != '\0' ? store->error : store->db->error;
}
