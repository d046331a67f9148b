/* store_known.h - the orders that the writer keeps in mind: as the database has them, or as it is about to.
 *
 * Some ten thousand are more than the processor's caches hold, and an event's order is any of them. So a batch's orders are
 * asked for some events ahead: then the memory is there when it is needed (archive_known_ahead, archive_known_near). */
#ifndef ARCHIVE_STORE_KNOWN_H
#define ARCHIVE_STORE_KNOWN_H

#include "store.h"
#include "store_content.h"

#define ARCHIVE_ID_BYTES 32 /* of an order id, with what is 0 behind it */

struct archive_line {
	int64_t key; /* the SKU's */
	char *sku;   /* behind the list */
	uint32_t quantity, sku_length;
};
/* An order's row. */
struct archive_known {
	char order_id[ARCHIVE_ID_BYTES];
	struct archive_known *newer; /* the next that was made */
	int64_t key;
	uint32_t hash;
	bool looked_up;
	bool settled, has_placed;
	int64_t no;      /* 0: the database has none, as far as is known */
	int64_t dropped; /* the time of the entry that said so; 0: it is not */
	int status;
	int64_t stock_state;
	uint64_t version, stock_version;
	int64_t updated_ms;
	struct rt_buf life;
	int64_t life_ms; /* of the last event in it */
	/* The order's events in it: its version before it was dropped, unless some are missing. */
	uint64_t order_events;
	struct archive_line *lines;
	size_t line_count, lines_bytes; /* how much memory the lines have */
	uint64_t batch;                 /* in which it was found last */
	/* Of the batch that is being written. */
	bool touched;
	struct archive_known *next;
	int64_t stored_no;  /* 0: its row is new */
	int stored_status;  /* that has a posting; 0: none */
	size_t stored_life; /* bytes of its life, with the room in it */
	bool stored_kept;   /* settled, and not dropped */
	struct archive_text placed;
	const struct archive_content *content;
};

/* Zeroed, it is empty; `max` is how many are kept, and more of them only while a batch needs them. */
struct archive_known_orders {
	size_t max, count;
	struct archive_known *oldest, *newest;
	struct archive_known_place {
		struct archive_known *known;
		uint32_t hash;
	} * places; /* a table, half of it empty */
	size_t place_count;
};

/* It will be found soon. Returns the id's hash. */
uint32_t archive_known_ahead(const struct archive_known_orders *orders,
			     const struct archive_text *order_id);
/* The one with this id, or a new one. `batch` is greater than that of the batch before. */
struct archive_known *archive_known_find(struct archive_known_orders *orders,
					 const struct archive_text *order_id, uint32_t hash,
					 uint64_t batch);
/* It, and what it points to, will be used soon: first one, then the other. Both take NULL. */
void archive_known_near(const struct archive_known *known);
void archive_known_nearer(const struct archive_known *known);
/* Those that are too many, the oldest first. */
void archive_known_forget_oldest(struct archive_known_orders *orders);
void archive_known_forget_all(struct archive_known_orders *orders);

#endif
