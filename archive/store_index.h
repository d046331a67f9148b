/* store_index.h - how orders are found: by postings, which lie in segments.
 *
 * A posting says that an order has a key: its id, its customer, a SKU, a label, a status. A key is a number: the kind, and
 * 44 bits of a hash of the text. So what a posting leads to is compared with what was asked for. store_postings.h has
 * how they are stored.
 *
 * Ids and customers come in no order. In one index over all orders each new order would change pages of its own, and the
 * more orders there are the more of writing is writing pages. So postings lie in segments, each of some ten thousand orders
 * whose numbers follow one another, and the segment is the upper part of the key that is stored. Only in the newest one much
 * changes, and it is small; a search looks into one segment after another.
 *
 * Before an order is written it must be known whether it is there. Which segments may have an id is kept in memory, for the
 * writer and for who looks for many ids: 32 bits an order, of which an id has five; where it is not, they say "may" once in
 * 16 000 times. Each time costs a look into the database. */
#ifndef ARCHIVE_STORE_INDEX_H
#define ARCHIVE_STORE_INDEX_H

#include "store_internal.h"

#define ARCHIVE_SEGMENT_ORDERS 32768

enum archive_key_kind {
	KEY_ID,
	KEY_CUSTOMER,
	KEY_SKU,
	KEY_LABEL,
	KEY_STATUS,
	KEY_PACKED = 7 /* of a bucket: store_postings.h */
};
#define ARCHIVE_HASH_BITS 44
#define ARCHIVE_KIND_BITS 3 /* 16 bits are left for the segment */

int64_t archive_key(enum archive_key_kind kind, const char *text, size_t length);
int64_t archive_key_of_label(const struct archive_text *key, const struct archive_text *value);
/* Of a status in which an order stays. Those that may still leave theirs have an index of their own. */
int64_t archive_key_of_status(int status);
static inline int64_t archive_key_of(int kind, uint64_t hash)
{
	return (int64_t)((uint64_t)kind << ARCHIVE_HASH_BITS | hash);
}
static inline bool archive_status_has_key(int status)
{
	return status > 2; /* neither pending nor reserved */
}
static inline enum archive_key_kind archive_kind_of_key(int64_t key)
{
	return (enum archive_key_kind)(key >> ARCHIVE_HASH_BITS);
}
/* As it is stored. */
static inline int64_t archive_key_in(size_t segment, int64_t key)
{
	return (int64_t)segment << (ARCHIVE_HASH_BITS + ARCHIVE_KIND_BITS) | key;
}

/* Number i is of the orders from first_no[i] on. There is one at least: the first begins at 0. */
struct archive_segments {
	int64_t *first_no;
	size_t count, capacity;
	int64_t orders; /* in the newest one, when they were loaded */
};
int archive_segments_load(struct db *db, struct archive_segments *ret);
int archive_segments_add(struct db *db, struct archive_segments *segments, int64_t first_no);
size_t archive_segment_of(const struct archive_segments *segments, int64_t no);
void archive_segments_done(struct archive_segments *segments);

/* Threads: the writer's adds, every thread asks. */
struct archive_ids; /* opaque; store.h has new and free */
void archive_ids_add(struct archive_ids *ids, size_t segment, int64_t key);
/* Many of them at once, which waits less for memory. */
struct archive_new_ids {
	struct archive_new_id {
		size_t segment;
		int64_t key;
	} * list;
	size_t count, capacity;
};
void archive_ids_note(struct archive_new_ids *ids, size_t segment, int64_t key);
void archive_ids_add_noted(struct archive_ids *ids, struct archive_new_ids *noted);
void archive_new_ids_done(struct archive_new_ids *ids);
/* It will be asked for soon whether this segment, or one before it, may have it. */
void archive_ids_ahead(const struct archive_ids *ids, size_t segment, int64_t key);
/* The last segment before `below` that may have it; `below`: none has. Without `ids`, or while they are not loaded, each
 * may have it. */
bool archive_ids_before(const struct archive_ids *ids, int64_t key, size_t *below);
void archive_ids_all_added(struct archive_ids *ids);
/* Another process has written: they are to be loaded again. */
void archive_ids_forget(struct archive_ids *ids);
bool archive_ids_loaded(const struct archive_ids *ids);

/* Sorts by the key, and keeps the order of those with the same one. `spare` has room for as many. */
struct archive_sorted {
	uint64_t key;
	size_t at; /* in the caller's list */
};
void archive_sort(struct archive_sorted *list, struct archive_sorted *spare, size_t count);

#endif
