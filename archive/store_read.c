/* store_read.c - searches, orders and movements.
 *
 * A search walks along the postings that leave the fewest orders: the customer's, the label's, the SKU's, the status's,
 * segment by segment; or along all orders. What it finds is compared with all that is asked for. So a page costs what it
 * looks at, which is bounded, and not what there is. */
#include <stdio.h>
#include <string.h>

#include "store_index.h"
#include "store_internal.h"
#include "store_life.h"
#include "store_moves.h"
#include "store_postings.h"
#include "store_sql.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define CHUNK         250 /* orders in a read, where not all that are found may fit */
#define SEGMENTS_TURN 16  /* that are asked in a turn */
#define ROWS_TURN     32  /* rows of movements */

static struct archive_text copy(struct rt_arena *arena, const struct db_value *value)
{
	if (value->type == DB_NULL)
		return (struct archive_text){ 0 };
	return (struct archive_text){ rt_arena_copy(arena, value->data, value->length),
				      value->length };
}

static const char *copy_text(struct rt_arena *arena, const struct archive_text *text)
{
	return text->length > 0 ? rt_arena_copy(arena, text->data, text->length) : "";
}

/* Of the event that gave the order its status. */
static struct archive_text detail_of(struct rt_arena *arena, const struct db_value *life)
{
	struct archive_life_reader reader = archive_life_read(life->data, life->length);
	struct archive_text detail = { 0 };
	struct archive_event event;
	enum archive_kind kind;

	while (archive_life_next(&reader, &kind, &event))
		if (archive_has_detail(kind))
			detail = event.data;
	if (detail.length > 0)
		detail.data = rt_arena_copy(arena, detail.data, detail.length);
	return detail;
}

static bool status_has_detail(int status)
{
	for (int kind = 0; kind < ARCHIVE_KINDS; kind++)
		if (archive_has_detail((enum archive_kind)kind) &&
		    archive_status_of((enum archive_kind)kind) == status)
			return true;
	return false;
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
		.placed_ms = columns[0].number >> ARCHIVE_NO_BITS,
		.updated_ms = columns[6].number,
		.placed = copy(arena, &columns[7]),
		.dropped = columns[9].number != 0,
	};
	if (status_has_detail(order->status))
		order->detail = detail_of(arena, &columns[8]);
}

/* ---- search ---- */

struct search {
	const struct archive_filter *filter;
	int64_t key; /* that it walks along, or one of these */
#define ALL_ORDERS  (-1)
#define OPEN_ORDERS (-2)
	struct rt_arena *arena;
	struct archive_orders *found;
	size_t count_max;
	size_t chunk;     /* looked at in this read, at most */
	size_t looked_at; /* in this read */
	int64_t last;     /* that was looked at */
	int64_t queued;   /* the last that was to be */
};

static int64_t key_for(const struct archive_filter *filter)
{
	if (filter->customer_id != NULL)
		return archive_key(KEY_CUSTOMER, filter->customer_id, strlen(filter->customer_id));
	if (filter->label_key != NULL)
		return archive_key_of_label(
			&(struct archive_text){ filter->label_key, strlen(filter->label_key) },
			&(struct archive_text){ filter->label_value, strlen(filter->label_value) });
	if (filter->sku != NULL)
		return archive_key(KEY_SKU, filter->sku, strlen(filter->sku));
	if (filter->status == 0)
		return ALL_ORDERS;
	return archive_status_has_key(filter->status) ? archive_key_of_status(filter->status)
						      : OPEN_ORDERS;
}

/* Whether the postings alone do not answer. */
static bool asks_more(const struct archive_filter *filter)
{
	int asked = (filter->customer_id != NULL) + (filter->label_key != NULL) +
		    (filter->sku != NULL) + (filter->status != 0);

	return asked > 1 || (filter->status != 0 && !archive_status_has_key(filter->status));
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

static bool fits(const struct archive_filter *filter, const struct db_value *columns)
{
	if (filter->status != 0 && filter->status != (int)columns[3].number)
		return false;
	if (filter->customer_id != NULL &&
	    (columns[2].type == DB_NULL || strcmp(filter->customer_id, columns[2].data) != 0))
		return false;
	return (filter->sku == NULL && filter->label_key == NULL) ||
	       content_fits(filter, &columns[7]);
}

static void look_at(const struct db_value *columns, void *user)
{
	struct search *search = user;
	struct archive_orders *found = search->found;

	if (found->more)
		return;
	if (!fits(search->filter, columns)) {
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

static void look_at_next(const struct db_value *columns, void *user)
{
	struct search *search = user;

	search->looked_at++;
	look_at(columns, search);
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

static int walk_all(struct db *db, struct search *search, int64_t above, int64_t below)
{
	const struct db_statement *statements =
		search->key == OPEN_ORDERS ? sql_walk_open : sql_walk;
	int rc = db->ops->queue(db, &statements[search->filter->oldest_first],
				(const struct db_value[]){ db_number(above), db_number(below),
							   db_number((int64_t)search->chunk) },
				3, look_at_next, search);

	return rc == RT_OK ? db->ops->flush(db) : rc;
}

/* The postings of one key in one segment. */
struct numbers {
	struct archive_wanted_key wanted;
	int64_t above, below; /* those between are wanted */
	int64_t *list;
	size_t count, capacity;
};

static void note_number(int64_t no, void *user)
{
	struct numbers *numbers = user;

	if (no <= numbers->above || no >= numbers->below)
		return;
	numbers->list =
		rt_grow(numbers->list, numbers->count, &numbers->capacity, sizeof(*numbers->list));
	numbers->list[numbers->count++] = no;
}

static int compare(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Reads the orders with these numbers, as many as are still to be looked at. */
static int look_at_numbers(struct db *db, struct search *search, const struct numbers *numbers)
{
	const size_t count = numbers->count;
	int64_t before = 0;
	int rc = RT_OK;

	if (count > 1)
		qsort(numbers->list, count, sizeof(*numbers->list), compare);
	for (size_t i = 0; rc == RT_OK && i < count && search->looked_at < search->chunk; i++) {
		int64_t no = numbers->list[search->filter->oldest_first ? i : count - 1 - i];

		if (no == before) /* it is named twice */
			continue;
		before = search->queued = no;
		search->looked_at++;
		rc = db->ops->queue(db, &sql_walk_number,
				    (const struct db_value[]){ db_number(no) }, 1, look_at, search);
	}
	return rc;
}

/* `count` segments from `first` on, in the direction of the search. */
static int walk_segments(struct db *db, struct search *search, size_t first, size_t count,
			 int64_t above, int64_t below)
{
	struct numbers turn[SEGMENTS_TURN] = { 0 };
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < count; i++) {
		struct numbers *numbers = &turn[i];

		*numbers = (struct numbers){ .wanted = { search->key, note_number, numbers },
					     .above = above,
					     .below = below };
		rc = archive_postings_ask(db, search->filter->oldest_first ? first + i : first - i,
					  &numbers->wanted);
	}
	if (rc == RT_OK)
		rc = db->ops->flush(db);
	for (size_t i = 0; i < count; i++) {
		if (rc == RT_OK)
			rc = look_at_numbers(db, search, &turn[i]);
		free(turn[i].list);
	}
	return rc == RT_OK ? db->ops->flush(db) : rc;
}

static int walk_key(struct db *db, const struct archive_segments *segments, struct search *search,
		    int64_t above, int64_t below)
{
	size_t low = archive_segment_of(segments, RT_MAX(above, 0)),
	       high = archive_segment_of(segments, RT_MAX(below - 1, 0)), turn = 1;
	bool up = search->filter->oldest_first;
	int rc = RT_OK;

	search->queued = search->last;
	for (size_t done = 0, all = high - low + 1;
	     rc == RT_OK && done < all && search->looked_at < search->chunk; done += turn) {
		turn = RT_MIN(done == 0 ? 1 : RT_MIN(2 * turn, (size_t)SEGMENTS_TURN), all - done);
		rc = walk_segments(db, search, up ? low + done : high - done, turn, above, below);
	}
	/* Behind a number of which there is no order any more, too. */
	if (!search->found->more)
		search->last = search->queued;
	return rc;
}

int archive_store_search(struct archive_store *store, const struct archive_filter *filter,
			 int64_t after, size_t count_max, size_t look_max, struct rt_arena *arena,
			 struct archive_orders *ret)
{
	struct search search = { .filter = filter,
				 .key = key_for(filter),
				 .arena = arena,
				 .found = ret,
				 .count_max = count_max,
				 .chunk = asks_more(filter) ? RT_MAX((size_t)CHUNK, count_max + 1)
							    : count_max + 1,
				 .last = after };
	struct db *db = archive_store_db(store);
	const struct archive_segments *segments;
	size_t looked_at = 0;
	int rc = archive_store_segments(store, &segments);

	*ret = (struct archive_orders){ .list = rt_arena_take(arena, (count_max + 1) *
									     sizeof(*ret->list)) };
	while (rc == RT_OK && !ret->more) {
		int64_t above, below;

		bounds(filter, search.last, &above, &below);
		search.looked_at = 0;
		if (above >= below)
			break;
		rc = search.key < 0 ? walk_all(db, &search, above, below)
				    : walk_key(db, segments, &search, above, below);
		looked_at += search.looked_at;
		if (search.looked_at < search.chunk) /* there are no others */
			break;
		ret->more = ret->more || looked_at >= look_max;
	}
	ret->after = search.last;
	return rc;
}

/* ---- an order ---- */

struct reading {
	struct rt_arena *arena;
	struct archive_life *life;
	size_t capacity;
};

static void add_event(struct reading *reading, const struct archive_event *event)
{
	struct archive_life *life = reading->life;
	size_t at = life->event_count;

	if (at == reading->capacity) {
		size_t bytes = at * sizeof(*life->events);
		struct archive_life_event *events = rt_arena_take(
			reading->arena, 2 * (reading->capacity + 8) * sizeof(*events));

		if (bytes > 0)
			memcpy(events, life->events, bytes);
		life->events = events;
		reading->capacity = 2 * (reading->capacity + 8);
	}
	/* The order's, then inventory's, each by version. */
	for (; at > 0; at--) {
		const struct archive_life_event *before = &life->events[at - 1];

		if (before->context < event->context ||
		    (before->context == event->context && before->version <= event->version))
			break;
		life->events[at] = *before;
	}
	life->events[at] = (struct archive_life_event){
		.context = event->context,
		.version = event->version,
		.kind = copy_text(reading->arena, &event->kind),
		.time_ms = event->time_ms,
		.actor = copy_text(reading->arena, &event->actor),
		.data = { copy_text(reading->arena, &event->data), event->data.length },
	};
	life->event_count++;
}

static void read_order(const struct db_value *columns, void *user)
{
	struct reading *reading = user;
	struct archive_life_reader reader = archive_life_read(columns[8].data, columns[8].length);
	struct archive_event event;
	enum archive_kind kind;

	fill_order(reading->arena, columns, &reading->life->order);
	while (archive_life_next(&reader, &kind, &event))
		add_event(reading, &event);
}

int archive_store_order(struct archive_store *store, const char *order_id, struct rt_arena *arena,
			struct archive_life *ret)
{
	struct reading reading = { .arena = arena, .life = ret };
	struct archive_wanted wanted = { .order_id = order_id,
					 .key = archive_key(KEY_ID, order_id, strlen(order_id)),
					 .row = read_order,
					 .user = &reading };
	const struct archive_segments *segments;
	int rc = archive_store_segments(store, &segments);

	*ret = (struct archive_life){ .event_count = 0 };
	if (rc == RT_OK)
		rc = archive_index_find(archive_store_db(store), segments, archive_store_ids(store),
					&sql_get_order, &wanted, 1);
	return rc != RT_OK || wanted.found ? rc : RT_NOT_FOUND;
}

/* ---- many orders by their ids ---- */

struct finding {
	struct rt_arena *arena;
	struct archive_order *order;
};

static void read_found(const struct db_value *columns, void *user)
{
	const struct finding *finding = user;

	fill_order(finding->arena, columns, finding->order);
}

int archive_store_find(struct archive_store *store, char *const *order_ids, size_t count,
		       struct rt_arena *arena, struct archive_order *list)
{
	struct archive_wanted *wanted = rt_arena_take(arena, (count + 1) * sizeof(*wanted));
	struct finding *finding = rt_arena_take(arena, (count + 1) * sizeof(*finding));
	const struct archive_segments *segments;
	int rc = archive_store_segments(store, &segments);

	for (size_t i = 0; i < count; i++) {
		list[i] = (struct archive_order){ .order_id = NULL };
		finding[i] = (struct finding){ arena, &list[i] };
		wanted[i] = (struct archive_wanted){ .order_id = order_ids[i],
						     .key = archive_key(KEY_ID, order_ids[i],
									strlen(order_ids[i])),
						     .row = read_found,
						     .user = &finding[i] };
	}
	if (rc == RT_OK)
		rc = archive_index_find(archive_store_db(store), segments, archive_store_ids(store),
					&sql_get_order, wanted, count);
	return rc;
}

/* ---- what may be dropped ---- */

struct releasing {
	struct archive_releasable *list;
	size_t count;
};

static void read_releasable(const struct db_value *columns, void *user)
{
	struct releasing *releasing = user;
	struct archive_releasable *found = &releasing->list[releasing->count++];

	*found = (struct archive_releasable){ .version = (uint64_t)columns[1].number,
					      .updated_ms = columns[2].number,
					      .no = columns[3].number };
	snprintf(found->order_id, sizeof(found->order_id), "%s", columns[0].data);
}

int archive_store_releasable(struct archive_store *store, int partition,
			     const struct archive_releasable *after, int64_t before_ms,
			     size_t count_max, struct archive_releasable *list, size_t *ret_count)
{
	struct releasing releasing = { .list = list };
	struct db *db = archive_store_db(store);
	int rc = db->ops->queue(
		db, &sql_releasable,
		(const struct db_value[]){ db_number(partition), db_number(after->updated_ms),
					   db_number(after->no), db_number(before_ms),
					   db_number((int64_t)count_max) },
		5, read_releasable, &releasing);

	if (rc == RT_OK)
		rc = db->ops->flush(db);
	if (rc == RT_OK && releasing.count > 0 && db->ops->sync != NULL)
		rc = db->ops->sync(db);
	*ret_count = releasing.count;
	return rc;
}

static void read_count(const struct db_value *columns, void *user)
{
	*(int64_t *)user = columns[0].number;
}

int archive_store_kept(struct archive_store *store, int partition, int64_t *ret)
{
	struct db *db = archive_store_db(store);
	int rc = db->ops->queue(db, &sql_count_kept,
				(const struct db_value[]){ db_number(partition) }, 1, read_count,
				ret);

	return rc == RT_OK ? db->ops->flush(db) : rc;
}

/* ---- movements ---- */

struct moving {
	struct rt_arena *arena;
	struct archive_movements *found;
	int64_t *order_numbers; /* of those that are found */
	const char *sku;
	size_t count_max;
	int64_t from_ms, to_ms, below;
	size_t rows; /* in this turn */
	int64_t last_row;
};

static void add_movement(struct moving *moving, int64_t no, const struct archive_move *move)
{
	struct archive_movements *found = moving->found;

	if (no >= moving->below || move->time_ms < moving->from_ms ||
	    (moving->to_ms > 0 && move->time_ms >= moving->to_ms) || found->more)
		return;
	if (found->count == moving->count_max) {
		found->more = true;
		return;
	}
	found->after = no;
	moving->order_numbers[found->count] = move->order_no;
	found->list[found->count++] = (struct archive_movement){
		.no = no,
		.sku = moving->sku,
		.kind = move->kind,
		.quantity = move->quantity,
		.actor = copy_text(moving->arena, &move->actor),
		.time_ms = move->time_ms,
		.data = { copy_text(moving->arena, &move->data), move->data.length },
	};
}

static void read_movements(const struct db_value *columns, void *user)
{
	struct archive_move list[MOVES_MAX];
	int64_t numbers[MOVES_MAX];
	struct moving *moving = user;
	size_t count = archive_moves_read(columns[0].number, &columns[1], list, numbers);

	moving->rows++;
	moving->last_row = columns[0].number;
	for (size_t i = count; i-- > 0;)
		add_movement(moving, numbers[i], &list[i]);
}

static void read_order_id(const struct db_value *columns, void *user)
{
	struct db_value *id = user;

	*id = columns[0];
	id->data = rt_strdup(columns[0].data);
}

/* Which orders they are of. */
static int name_orders(struct db *db, struct moving *moving)
{
	struct archive_movements *found = moving->found;
	struct db_value *ids = rt_arena_take(moving->arena, (found->count + 1) * sizeof(*ids));
	int rc = RT_OK;

	for (size_t i = 0; i < found->count; i++)
		ids[i] = (struct db_value){ .type = DB_NULL };
	for (size_t i = 0; rc == RT_OK && i < found->count; i++)
		if (moving->order_numbers[i] != 0)
			rc = db->ops->queue(
				db, &sql_order_id,
				(const struct db_value[]){ db_number(moving->order_numbers[i]) }, 1,
				read_order_id, &ids[i]);
	if (rc == RT_OK)
		rc = db->ops->flush(db);
	for (size_t i = 0; i < found->count; i++) {
		if (ids[i].data == NULL)
			continue;
		found->list[i].order_id = rt_arena_copy(moving->arena, ids[i].data, ids[i].length);
		free((char *)(uintptr_t)ids[i].data);
	}
	return rc;
}

/* The row that holds `after` among others: its number is that of its last one. */
static int read_around(struct db *db, struct moving *moving, int64_t after)
{
	int rc = db->ops->queue(db, &sql_movements_around,
				(const struct db_value[]){ db_text(moving->sku), db_number(after) },
				2, read_movements, moving);

	return rc == RT_OK ? db->ops->flush(db) : rc;
}

int archive_store_movements(struct archive_store *store, const char *sku, int64_t from_ms,
			    int64_t to_ms, int64_t after, size_t count_max, struct rt_arena *arena,
			    struct archive_movements *ret)
{
	struct moving moving = { .arena = arena,
				 .found = ret,
				 .order_numbers =
					 rt_arena_take(arena, (count_max + 1) * sizeof(int64_t)),
				 .sku = sku,
				 .count_max = count_max,
				 .from_ms = from_ms,
				 .to_ms = to_ms,
				 .below = after > 0 ? after : INT64_MAX };
	/* A row holds what is up to MOVES_SPAN_MS older than its number says. */
	const struct archive_filter times = { .from_ms = from_ms,
					      .to_ms = to_ms > 0 ? to_ms + MOVES_SPAN_MS : 0 };
	struct db *db = archive_store_db(store);
	int64_t above, below;
	int rc = RT_OK;

	*ret = (struct archive_movements){ .list = rt_arena_take(
						   arena, (count_max + 1) * sizeof(*ret->list)) };
	bounds(&times, after, &above, &below);
	if (after > 0)
		rc = read_around(db, &moving, after);
	moving.last_row = below;
	while (rc == RT_OK && !ret->more) {
		moving.rows = 0;
		rc = db->ops->queue(db, &sql_movements,
				    (const struct db_value[]){ db_text(sku), db_number(above),
							       db_number(moving.last_row),
							       db_number(ROWS_TURN) },
				    4, read_movements, &moving);
		if (rc == RT_OK)
			rc = db->ops->flush(db);
		if (moving.rows < ROWS_TURN) /* there are no others */
			break;
	}
	return rc == RT_OK ? name_orders(db, &moving) : rc;
}
