/* store_postings.h - rows of postings: those of a batch are gathered, and each bucket's become one row.
 *
 * A bucket is what some bits of a key's hash select of the keys of a kind, within a segment. An id or a customer comes once
 * in a batch or so; a row for each would be most of what an order costs. So a row holds the postings that a batch adds to a
 * bucket, and who looks for a key reads all rows of its bucket in a segment: a few, of some hundred postings.
 *
 * What a row holds stays: an order that has got another number or status since is still named under its former one. So who
 * finds an order compares it with what was asked for.
 *
 * Versions 1 and 2 of the tables had a row for each posting, under the key itself; such rows are found as well. */
#ifndef ARCHIVE_STORE_POSTINGS_H
#define ARCHIVE_STORE_POSTINGS_H

#include "store_index.h"

struct archive_posting {
	int64_t key; /* of the bucket, as it is stored */
	uint64_t rest;
	int64_t no;
};
struct archive_postings {
	struct archive_posting *list;
	size_t count, capacity;
};
void archive_postings_add(struct archive_postings *postings, size_t segment, int64_t key,
			  int64_t no);
/* Queues their rows, and forgets them. `serial`: of the last row that there is. */
int archive_postings_put(struct db *db, struct archive_postings *postings, int64_t *serial,
			 struct rt_arena *arena);
void archive_postings_done(struct archive_postings *postings);

/* A key that is looked for in a segment. It stays where it is until the next flush. */
struct archive_wanted_key {
	int64_t key;
	void (*found)(int64_t no, void *user); /* some may be named twice */
	void *user;
};
int archive_postings_ask(struct db *db, size_t segment, struct archive_wanted_key *wanted);
/* Adds all ids that the database has. */
int archive_ids_load(struct db *db, const struct archive_segments *segments,
		     struct archive_ids *ids);

/* Orders that are looked for by their ids. `row` gets the order that is found. */
struct archive_candidates;
struct archive_wanted {
	const char *order_id;
	int64_t key;
	db_row *row;
	void *user;
	/* The search's own. */
	size_t below;
	bool found;
	struct archive_candidates *candidates;
};
/* `statement` selects what `row` wants where the order's number is $1, its id $2. */
int archive_index_find(struct db *db, const struct archive_segments *segments,
		       const struct archive_ids *ids, const struct db_statement *statement,
		       struct archive_wanted *list, size_t count);

#endif
