/* store_moves.c - rows of movements.
 *
 * A row is packed so, movement by movement: kind, quantity (zigzag), the order's number or 0, how many milliseconds before
 * the row's it was (zigzag), actor, data; as in store_life.h. */
#include "store_moves.h"

#include "store_life.h"
#include "store_sql.h"

#define AHEAD 16 /* movements: so far ahead memory is asked for */

void archive_moves_add(struct archive_moves *moves, const struct archive_move *move)
{
	moves->list = rt_grow(moves->list, moves->count, &moves->capacity, sizeof(*moves->list));
	moves->list[moves->count++] = *move;
}

/* By the SKU. Those of a SKU stay in the order in which they were archived. */
static struct archive_sorted *sorted(const struct archive_moves *moves, struct rt_arena *arena)
{
	struct archive_sorted *list = rt_arena_take(arena, 2 * moves->count * sizeof(*list) + 1);

	for (size_t i = 0; i < moves->count; i++)
		list[i] = (struct archive_sorted){ (uint64_t)moves->list[i].key, i };
	archive_sort(list, list + moves->count, moves->count);
	return list;
}

static bool same_sku(const struct archive_move *a, const struct archive_move *b)
{
	return a->sku.length == b->sku.length &&
	       memcmp(a->sku.data, b->sku.data, a->sku.length) == 0;
}

/* What comes soon after a movement. */
static void will_use(const struct archive_moves *moves, const struct archive_sorted *order,
		     size_t i)
{
	if (i + AHEAD >= moves->count)
		return;
	__builtin_prefetch(&moves->list[order[i + AHEAD].at]);
	__builtin_prefetch(moves->list[order[i + AHEAD / 2].at].sku.data);
}

/* How many of those from `first` on share a row, and when the last of them was. */
static size_t row_count(const struct archive_moves *moves, const struct archive_sorted *order,
			size_t first, int64_t *ret_last_ms)
{
	const struct archive_move *from = &moves->list[order[first].at];
	int64_t first_ms = from->time_ms, last_ms = first_ms;
	size_t count = 1;

	while (count < MOVES_MAX && first + count < moves->count) {
		const struct archive_move *next = &moves->list[order[first + count].at];

		will_use(moves, order, first + count);
		if (!same_sku(next, from) ||
		    RT_MAX(last_ms, next->time_ms) - RT_MIN(first_ms, next->time_ms) >=
			    MOVES_SPAN_MS)
			break;
		first_ms = RT_MIN(first_ms, next->time_ms);
		last_ms = RT_MAX(last_ms, next->time_ms);
		count++;
	}
	*ret_last_ms = last_ms;
	return count;
}

static int put_row(struct db *db, const struct archive_moves *moves,
		   const struct archive_sorted *order, size_t count, int64_t last_ms,
		   int64_t *serial, struct rt_buf *packed)
{
	const struct archive_text *sku = &moves->list[order->at].sku;

	packed->length = 0;
	for (size_t i = 0; i < count; i++) {
		const struct archive_move *move = &moves->list[order[i].at];
		uint8_t *from = (uint8_t *)rt_buf_room(
			packed, 6 * ARCHIVE_NUMBER_MAX + move->actor.length + move->data.length);
		uint8_t *at = archive_put_number(from, (uint64_t)move->kind);

		at = archive_put_signed(at, move->quantity);
		at = archive_put_number(at, (uint64_t)move->order_no);
		at = archive_put_signed(at, last_ms - move->time_ms);
		at = archive_put_text(at, &move->actor);
		at = archive_put_text(at, &move->data);
		packed->length += (size_t)(at - from);
	}
	return db->ops->queue(
		db, &sql_put_movements,
		(const struct db_value[]){
			{ .type = DB_TEXT, .data = sku->data, .length = sku->length },
			db_number(archive_next_no(serial, last_ms, count)),
			{ .type = DB_BLOB, .data = packed->data, .length = packed->length } },
		3, NULL, NULL);
}

int archive_moves_put(struct db *db, struct archive_moves *moves, int64_t *serial,
		      struct rt_arena *arena)
{
	const struct archive_sorted *order = sorted(moves, arena);
	struct rt_buf packed = { 0 };
	int rc = RT_OK;

	for (size_t i = 0, count; rc == RT_OK && i < moves->count; i += count) {
		int64_t last_ms;

		count = row_count(moves, order, i, &last_ms);
		rc = put_row(db, moves, &order[i], count, last_ms, serial, &packed);
	}
	moves->count = 0;
	rt_buf_done(&packed);
	return rc;
}

void archive_moves_done(struct archive_moves *moves)
{
	free(moves->list);
	*moves = (struct archive_moves){ .count = 0 };
}

size_t archive_moves_read(int64_t row_no, const struct db_value *packed,
			  struct archive_move list[MOVES_MAX], int64_t numbers[MOVES_MAX])
{
	const uint8_t *data = (const uint8_t *)packed->data;
	struct archive_packed from = { data, data + packed->length, false };
	size_t count = 0;

	while (from.at < from.end && count < MOVES_MAX) {
		struct archive_move *move = &list[count++];

		*move = (struct archive_move){ .kind = (int)archive_take_number(&from) };
		move->quantity = archive_take_signed(&from);
		move->order_no = (int64_t)archive_take_number(&from);
		move->time_ms = (row_no >> ARCHIVE_NO_BITS) - archive_take_signed(&from);
		move->actor = archive_take_text(&from);
		move->data = archive_take_text(&from);
		if (from.broken)
			return 0;
	}
	for (size_t i = 0; i < count; i++)
		numbers[i] = row_no - (int64_t)(count - 1 - i);
	return count;
}
