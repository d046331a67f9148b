/* store_moves.h - movements of stock: those of a batch are gathered, and each SKU's become one row.
 *
 * A row has the number of its newest movement, and holds up to MOVES_MAX that happened within MOVES_SPAN_MS. The movements
 * in it have the numbers that end there. So what an order moves costs a part of a row, and a list of movements walks along
 * the rows of a SKU, newest first. */
#ifndef ARCHIVE_STORE_MOVES_H
#define ARCHIVE_STORE_MOVES_H

#include "store_internal.h"

#define MOVES_MAX     100
#define MOVES_SPAN_MS 1000

/* Texts and bytes are borrowed until they are put. */
struct archive_move {
	struct archive_text sku;
	int64_t key; /* the SKU's (store_index.h) */
	int kind;    /* enum archive_movement_kind */
	int64_t quantity;
	int64_t order_no; /* 0: of no order */
	int64_t time_ms;
	struct archive_text actor, data;
};
struct archive_moves {
	struct archive_move *list;
	size_t count, capacity;
};
void archive_moves_add(struct archive_moves *moves, const struct archive_move *move);
/* Queues their rows, and forgets them. */
int archive_moves_put(struct db *db, struct archive_moves *moves, int64_t *serial,
		      struct rt_arena *arena);
void archive_moves_done(struct archive_moves *moves);

/* Those of a row, oldest first, and their numbers; 0: it cannot be read. */
size_t archive_moves_read(int64_t row_no, const struct db_value *packed,
			  struct archive_move list[MOVES_MAX], int64_t numbers[MOVES_MAX]);

#endif
