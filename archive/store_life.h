/* store_life.h - an order's life as it is stored: the events of its two streams, one behind the other in one value. So an
 * order is one row, which is written once when it is placed and once when it ends.
 *
 * Of each event: a byte with its context (the lowest bit) and the number of its kind, which is never 0; its version; its time, as
 * milliseconds behind the event before it; if the kind has no number, its text; actor; data. Numbers are varints as
 * protobuf has them, those that may be negative in zigzag; a length stands before texts and bytes. The data of OrderPlaced
 * is not here: the row has a column for it. Bytes that are 0 may follow: room for what is to come. */
#ifndef ARCHIVE_STORE_LIFE_H
#define ARCHIVE_STORE_LIFE_H

#include <string.h>

#include "store.h"

static inline bool archive_is(const struct archive_text *text, const char *word)
{
	size_t length = strlen(word);

	return text->length == length && memcmp(text->data, word, length) == 0;
}

/* The numbers are stored: a new kind comes at the end. */
enum archive_kind {
	KIND_OTHER = 1, /* its text is stored */
	ORDER_PLACED,
	ORDER_RESERVED,
	ORDER_REJECTED,
	ORDER_CONFIRMED,
	ORDER_CANCELLED,
	ORDER_EXPIRED,
	ORDER_HOLD_EXTENDED,
	ORDER_RETURNED,
	ORDER_SETTLED,
	ORDER_DROPPED,
	INVENTORY_RESERVED,
	INVENTORY_UNAVAILABLE,
	INVENTORY_COMMITTED,
	INVENTORY_RELEASED,
	INVENTORY_RETURNED,
	ARCHIVE_KINDS
};
enum archive_kind archive_kind_of(const struct archive_text *text);
/* The status in which an event leaves its order, as tandem.order.v1.OrderStatus; 0: as it was. */
int archive_status_of(enum archive_kind kind);
/* Whether its message says why the order has its status. */
bool archive_has_detail(enum archive_kind kind);

/* Varints, for this, for postings and for movements: written at `at`, where there is room; returns what is behind. */
#define ARCHIVE_NUMBER_MAX 10 /* bytes */
static inline uint8_t *archive_put_number(uint8_t *at, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		*at++ = (uint8_t)(n | 0x80);
	*at++ = (uint8_t)n;
	return at;
}
static inline uint8_t *archive_put_signed(uint8_t *at, int64_t n)
{
	return archive_put_number(at, (uint64_t)n << 1 ^ (n < 0 ? UINT64_MAX : 0));
}
static inline uint8_t *archive_put_text(uint8_t *at, const struct archive_text *text)
{
	at = archive_put_number(at, text->length);
	if (text->length > 0)
		memcpy(at, text->data, text->length);
	return at + text->length;
}
struct archive_packed {
	const uint8_t *at, *end;
	bool broken; /* what was read last is not there */
};
uint64_t archive_take_number(struct archive_packed *from);
int64_t archive_take_signed(struct archive_packed *from);
struct archive_text archive_take_text(struct archive_packed *from);

/* `last_ms`: of the event before it; 0: there is none. */
void archive_life_add(struct rt_buf *life, int64_t last_ms, enum archive_kind kind,
		      const struct archive_event *event);
struct archive_life_reader {
	struct archive_packed packed;
	int64_t last_ms;
};
static inline struct archive_life_reader archive_life_read(const void *data, size_t length)
{
	const uint8_t *bytes = data;

	return (struct archive_life_reader){ .packed = { bytes, bytes + length, false } };
}
/* False: there are no others. Texts lie in what is read. */
bool archive_life_next(struct archive_life_reader *reader, enum archive_kind *ret_kind,
		       struct archive_event *ret);

#endif
