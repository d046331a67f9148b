/* store_read.c - searches, orders and movements.
 *
 * A search walks along the index that leaves the fewest orders: the customer's, the label's, the SKU's, the status's, or all
 * by time. What else is asked for is looked at in each order that it finds. So a page costs what it looks at, which is
 * bounded, and not what there is. */
#include <stdio.h>
#include <string.h>

#include "store_internal.h"
#include "store_sql.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define CHUNK 500 /* orders in a read, where not all that are found may fit */

static struct archive_text copy(struct rt_arena *arena, const struct db_value *value)
{
	if (value->type == DB_NULL)
		return (struct archive_text){ 0 };
	return (struct archive_text){ rt_arena_copy(arena, value->data, value->length),
				      value->length };
}

static void fill_order(struct rt_arena *arena, const struct db_value *columns,
		       struct archive_order *order)
{
	*order = (struct archive_order){
		.no = columns[0].number,
		.order_id = copy(arena, &columns[1]).data,
		.customer_id = copy(arena, &columns[2]).data,
		.status = (int)columns[3].number,
		.settled = columns[4].number != 0,
		.version = (uint64_t)columns[5].number,
		.placed_ms = columns[6].number,
		.updated_ms = columns[7].number,
		.placed = copy(arena, &columns[8]),
		.detail = copy(arena, &columns[9]),
	};
}

/* ---- search ---- */

struct search {
	const struct archive_filter *filter;
	enum sql_search by;
	struct rt_arena *arena;
	struct archive_orders *found;
	size_t count_max;
	size_t looked_at; /* in this read */
	int64_t last;     /* that was looked at */
};

static enum sql_search index_for(const struct archive_filter *filter)
{
	if (filter->customer_id != NULL)
		return SQL_BY_CUSTOMER;
	if (filter->label_key != NULL)
		return SQL_BY_LABEL;
	if (filter->sku != NULL)
		return SQL_BY_SKU;
	return filter->status != 0 ? SQL_BY_STATUS : SQL_ALL;
}

/* Whether the index alone does not answer. */
static bool asks_more(const struct archive_filter *filter)
{
	int asked = (filter->customer_id != NULL) + (filter->label_key != NULL) +
		    (filter->sku != NULL) + (filter->status != 0);

	return asked > 1;
}

static bool has_line(const Tandem__Order__V1__OrderContent *content, const char *sku)
{
	for (size_t i = 0; i < content->n_lines; i++)
		if (strcmp(content->lines[i]->sku, sku) == 0)
			return true;
	return false;
}

static bool has_label(const Tandem__Order__V1__OrderContent *content, const char *key,
		      const char *value)
{
	for (size_t i = 0; i < content->n_labels; i++)
		if (strcmp(content->labels[i]->key, key) == 0 &&
		    strcmp(content->labels[i]->value, value) == 0)
			return true;
	return false;
}

/* Whether the text stands somewhere in the packed message: if not, it need not be unpacked. */
static bool may_have(const struct db_value *packed, const char *text)
{
	return text == NULL || memmem(packed->data, packed->length, text, strlen(text)) != NULL;
}

static bool content_fits(const struct archive_filter *filter, const struct db_value *packed)
{
	Tandem__Order__V1__OrderPlaced *placed;
	bool fits;

	if (packed->type != DB_BLOB || !may_have(packed, filter->sku) ||
	    (filter->label_key != NULL && !may_have(packed, filter->label_value)))
		return false;
	placed = tandem__order__v1__order_placed__unpack(NULL, packed->length,
							 (const uint8_t *)packed->data);
	fits = placed != NULL && placed->content != NULL;
	fits = fits && (filter->sku == NULL || has_line(placed->content, filter->sku));
	fits = fits && (filter->label_key == NULL ||
			has_label(placed->content, filter->label_key, filter->label_value));
	tandem__order__v1__order_placed__free_unpacked(placed, NULL);
	return fits;
}

static bool fits(const struct search *search, const struct db_value *columns)
{
	const struct archive_filter *filter = search->filter;
	bool content = (filter->sku != NULL && search->by != SQL_BY_SKU) ||
		       (filter->label_key != NULL && search->by != SQL_BY_LABEL);

	if (filter->status != 0 && filter->status != (int)columns[3].number)
		return false;
	return !content || content_fits(filter, &columns[8]);
}

static void look_at(const struct db_value *columns, void *user)
{
	struct search *search = user;
	struct archive_orders *found = search->found;

	search->looked_at++;
	if (found->more)
		return;
	if (!fits(search, columns)) {
		search->last = columns[0].number;
		return;
	}
	if (found->count == search->count_max) { /* the page is full, and this one is left */
		found->more = true;
		return;
	}
	search->last = columns[0].number;
	fill_order(search->arena, columns, &found->list[found->count++]);
}

/* What the index is asked for, behind what it is an index of. */
static size_t index_values(const struct search *search, struct db_value *values)
{
	const struct archive_filter *filter = search->filter;

	switch (search->by) {
	case SQL_BY_CUSTOMER:
		values[0] = db_text(filter->customer_id);
		return 1;
	case SQL_BY_LABEL:
		values[0] = db_text(filter->label_key);
		values[1] = db_text(filter->label_value);
		return 2;
	case SQL_BY_SKU:
		values[0] = db_text(filter->sku);
		return 1;
	case SQL_BY_STATUS:
		values[0] = db_number(filter->status);
		return 1;
	default:
		return 0;
	}
}

/* Numbers between which those of the orders lie: of their times, and of where the page begins. */
static void bounds(const struct archive_filter *filter, int64_t after, int64_t *ret_above,
		   int64_t *ret_below)
{
	*ret_above = filter->from_ms > 0 ? (filter->from_ms << ARCHIVE_NO_BITS) - 1 : -1;
	*ret_below = filter->to_ms > 0 ? filter->to_ms << ARCHIVE_NO_BITS : INT64_MAX;
	if (after == 0)
		return;
	if (filter->oldest_first)
		*ret_above = RT_MAX(*ret_above, after);
	else
		*ret_below = RT_MIN(*ret_below, after);
}

int archive_store_search(struct archive_store *store, const struct archive_filter *filter,
			 int64_t after, size_t count_max, size_t look_max, struct rt_arena *arena,
			 struct archive_orders *ret)
{
	struct search search = { .filter = filter,
				 .by = index_for(filter),
				 .arena = arena,
				 .found = ret,
				 .count_max = count_max,
				 .last = after };
	size_t chunk = asks_more(filter) ? RT_MAX((size_t)CHUNK, count_max + 1) : count_max + 1;
	struct db *db = archive_store_db(store);
	size_t looked_at = 0;
	int rc;

	*ret = (struct archive_orders){ .list = rt_arena_take(arena, (count_max + 1) *
									     sizeof(*ret->list)) };
	do {
		struct db_value values[5];
		size_t count = index_values(&search, values);
		int64_t above, below;

		bounds(filter, search.last, &above, &below);
		values[count++] = db_number(above);
		values[count++] = db_number(below);
		values[count++] = db_number((int64_t)chunk);
		search.looked_at = 0;
		rc = db->ops->queue(db, &sql_search[search.by][filter->oldest_first], values, count,
				    look_at, &search);
		if (rc == RT_OK)
			rc = db->ops->flush(db);
		if (rc != RT_OK)
			return rc;
		looked_at += search.looked_at;
		if (search.looked_at < chunk) /* there are no others */
			break;
		ret->more = ret->more || looked_at >= look_max;
	} while (!ret->more);
	ret->after = search.last;
	return RT_OK;
}

/* ---- an order ---- */

struct reading {
	struct rt_arena *arena;
	struct archive_life *life;
	size_t capacity;
	bool found;
};

static void read_order(const struct db_value *columns, void *user)
{
	struct reading *reading = user;

	reading->found = true;
	fill_order(reading->arena, columns, &reading->life->order);
}

static void read_event(const struct db_value *columns, void *user)
{
	struct reading *reading = user;
	struct archive_life *life = reading->life;

	if (life->event_count == reading->capacity) {
		size_t bytes = life->event_count * sizeof(*life->events);
		struct archive_life_event *events = rt_arena_take(
			reading->arena, 2 * (reading->capacity + 8) * sizeof(*events));

		if (bytes > 0)
			memcpy(events, life->events, bytes);
		life->events = events;
		reading->capacity = 2 * (reading->capacity + 8);
	}
	life->events[life->event_count++] = (struct archive_life_event){
		.context = (enum archive_context)columns[0].number,
		.version = (uint64_t)columns[1].number,
		.kind = copy(reading->arena, &columns[2]).data,
		.time_ms = columns[3].number,
		.actor = columns[4].type == DB_NULL ? "" : copy(reading->arena, &columns[4]).data,
		.data = copy(reading->arena, &columns[5]),
	};
}

int archive_store_order(struct archive_store *store, const char *order_id, struct rt_arena *arena,
			struct archive_life *ret)
{
	struct reading reading = { .arena = arena, .life = ret };
	struct db *db = archive_store_db(store);
	struct db_value value = db_text(order_id);
	int rc;

	*ret = (struct archive_life){ .event_count = 0 };
	rc = db->ops->queue(db, &sql_get_order, &value, 1, read_order, &reading);
	if (rc == RT_OK)
		rc = db->ops->flush(db);
	if (rc != RT_OK)
		return rc;
	if (!reading.found)
		return RT_NOT_FOUND;
	value = db_number(ret->order.no);
	rc = db->ops->queue(db, &sql_read_events, &value, 1, read_event, &reading);
	return rc == RT_OK ? db->ops->flush(db) : rc;
}

/* ---- movements ---- */

struct moving {
	struct rt_arena *arena;
	struct archive_movements *found;
	const char *sku;
	size_t count_max;
};

static void read_movement(const struct db_value *columns, void *user)
{
	struct moving *moving = user;
	struct archive_movements *found = moving->found;

	if (found->count == moving->count_max) {
		found->more = true;
		return;
	}
	found->after = columns[0].number;
	found->list[found->count++] = (struct archive_movement){
		.no = columns[0].number,
		.sku = moving->sku,
		.kind = (int)columns[1].number,
		.quantity = columns[2].number,
		.order_id = copy(moving->arena, &columns[3]).data,
		.actor = columns[4].type == DB_NULL ? "" : copy(moving->arena, &columns[4]).data,
		.time_ms = columns[0].number >> ARCHIVE_NO_BITS,
		.data = copy(moving->arena, &columns[5]),
	};
}

int archive_store_movements(struct archive_store *store, const char *sku, int64_t from_ms,
			    int64_t to_ms, int64_t after, size_t count_max, struct rt_arena *arena,
			    struct archive_movements *ret)
{
	const struct archive_filter times = { .from_ms = from_ms, .to_ms = to_ms };
	struct moving moving = { .arena = arena, .found = ret, .sku = sku, .count_max = count_max };
	struct db *db = archive_store_db(store);
	int64_t above, below;
	int rc;

	*ret = (struct archive_movements){ .list = rt_arena_take(
						   arena, (count_max + 1) * sizeof(*ret->list)) };
	bounds(&times, after, &above, &below);
	rc = db->ops->queue(db, &sql_movements,
			    (const struct db_value[]){ db_text(sku), db_number(above),
						       db_number(below),
						       db_number((int64_t)count_max + 1) },
			    4, read_movement, &moving);
	return rc == RT_OK ? db->ops->flush(db) : rc;
}
