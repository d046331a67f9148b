/* store_postings.c - rows of postings.
 *
 * A row is packed so, posting by posting: the order's number less that of the posting before (zigzag), the rest of the key's
 * hash, as in store_life.h. */
#include "store_postings.h"

#include "store_life.h"
#include "store_sql.h"

#define BUCKET_BITS 9
#define REST_BITS   (ARCHIVE_HASH_BITS - BUCKET_BITS)
#define REST_MASK   ((UINT64_C(1) << REST_BITS) - 1)
#define AHEAD       16   /* postings: so far ahead memory is asked for */
#define ROUND_MAX   16   /* segments that are asked in a turn, per id */
#define ROW_BYTES   1800 /* more would not lie in one page of 8 KiB, as older files have */

static int64_t bucket_of(int64_t key)
{
	return (int64_t)KEY_PACKED << ARCHIVE_HASH_BITS | key >> REST_BITS;
}

static uint64_t rest_of(int64_t key)
{
	return (uint64_t)key & REST_MASK;
}

/* ---- writing ---- */

void archive_postings_add(struct archive_postings *postings, size_t segment, int64_t key,
			  int64_t no)
{
	postings->list = rt_grow(postings->list, postings->count, &postings->capacity,
				 sizeof(*postings->list));
	postings->list[postings->count++] = (struct archive_posting){
		.key = archive_key_in(segment, bucket_of(key)), .rest = rest_of(key), .no = no
	};
}

/* In the order of the keys: neighbours go to the same page. */
static struct archive_sorted *sorted(const struct archive_postings *postings,
				     struct rt_arena *arena)
{
	size_t count = postings->count;
	struct archive_sorted *list = rt_arena_take(arena, 2 * count * sizeof(*list) + 1);

	for (size_t i = 0; i < count; i++)
		list[i] = (struct archive_sorted){ (uint64_t)postings->list[i].key, i };
	archive_sort(list, list + count, count);
	return list;
}

/* Packs those from `first` on that share a row; returns how many. */
static size_t pack_row(const struct archive_postings *postings, const struct archive_sorted *order,
		       size_t first, struct rt_buf *packed)
{
	int64_t last_no = 0;
	size_t i = first;

	packed->length = 0;
	for (;
	     i < postings->count && order[i].key == order[first].key && packed->length < ROW_BYTES;
	     i++) {
		const struct archive_posting *posting = &postings->list[order[i].at];
		uint8_t *from = (uint8_t *)rt_buf_room(packed, 2 * ARCHIVE_NUMBER_MAX);
		uint8_t *at = archive_put_signed(from, posting->no - last_no);

		if (i + AHEAD < postings->count)
			__builtin_prefetch(&postings->list[order[i + AHEAD].at]);
		at = archive_put_number(at, posting->rest);
		packed->length += (size_t)(at - from);
		last_no = posting->no;
	}
	return i - first;
}

int archive_postings_put(struct db *db, struct archive_postings *postings, int64_t *serial,
			 struct rt_arena *arena)
{
	const struct archive_sorted *order = sorted(postings, arena);
	struct rt_buf packed = { 0 };
	int rc = RT_OK;

	for (size_t i = 0, count; rc == RT_OK && i < postings->count; i += count) {
		count = pack_row(postings, order, i, &packed);
		rc = db->ops->queue(
			db, &sql_put_postings,
			(const struct db_value[]){
				db_number((int64_t)order[i].key),
				db_number(++*serial),
				{ .type = DB_BLOB, .data = packed.data, .length = packed.length } },
			3, NULL, NULL);
	}
	postings->count = 0;
	rt_buf_done(&packed);
	return rc;
}

void archive_postings_done(struct archive_postings *postings)
{
	free(postings->list);
	*postings = (struct archive_postings){ .count = 0 };
}

/* ---- reading ---- */

static struct archive_packed packed_of(const struct db_value *value)
{
	const uint8_t *data = (const uint8_t *)value->data;

	return (struct archive_packed){ data, data + value->length, false };
}

static bool next(struct archive_packed *from, int64_t *no, uint64_t *rest)
{
	if (from->at == from->end)
		return false;
	*no += archive_take_signed(from);
	*rest = archive_take_number(from);
	return !from->broken;
}

static void read_row(const struct db_value *columns, void *user)
{
	const struct archive_wanted_key *wanted = user;
	const uint64_t wanted_rest = rest_of(wanted->key);
	struct archive_packed from;
	uint64_t rest;
	int64_t no = 0;

	if (columns[1].type == DB_NULL) {
		wanted->found(columns[0].number, wanted->user);
		return;
	}
	from = packed_of(&columns[1]);
	while (next(&from, &no, &rest))
		if (rest == wanted_rest)
			wanted->found(no, wanted->user);
}

int archive_postings_ask(struct db *db, size_t segment, struct archive_wanted_key *wanted)
{
	return db->ops->queue(db, &sql_read_postings,
			      (const struct db_value[]){
				      db_number(archive_key_in(segment, bucket_of(wanted->key))),
				      db_number(archive_key_in(segment, wanted->key)) },
			      2, read_row, wanted);
}

struct loading {
	struct archive_ids *ids;
	size_t segment;
};

static void load_row(const struct db_value *columns, void *user)
{
	const struct loading *loading = user;
	int64_t key = columns[0].number - archive_key_in(loading->segment, 0), no = 0;
	struct archive_packed from;
	uint64_t rest;

	if (columns[1].type == DB_NULL) {
		archive_ids_add(loading->ids, loading->segment, key);
		return;
	}
	key = (key - bucket_of(0)) << REST_BITS;
	from = packed_of(&columns[1]);
	while (next(&from, &no, &rest))
		archive_ids_add(loading->ids, loading->segment, key | (int64_t)rest);
}

static int load_segment(struct db *db, size_t segment, struct archive_ids *ids)
{
	const int64_t first = archive_key_of(KEY_ID, 0), last = archive_key_of(KEY_ID + 1, 0),
		      from[] = { first, bucket_of(first) }, to[] = { last, bucket_of(last) };
	struct loading loading = { ids, segment };
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < RT_LENGTH(from); i++)
		rc = db->ops->queue(
			db, &sql_read_ids,
			(const struct db_value[]){ db_number(archive_key_in(segment, from[i])),
						   db_number(archive_key_in(segment, to[i])) },
			2, load_row, &loading);
	return rc == RT_OK ? db->ops->flush(db) : rc;
}

/* Segment by segment, since a driver may hold all rows of an answer. */
int archive_ids_load(struct db *db, const struct archive_segments *segments,
		     struct archive_ids *ids)
{
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < segments->count; i++)
		rc = load_segment(db, i, ids);
	if (rc == RT_OK)
		archive_ids_all_added(ids);
	return rc;
}

/* ---- looking for ids ---- */

/* What may be an order that is looked for. */
struct archive_candidates {
	struct candidate {
		struct archive_wanted *wanted;
		int64_t no;
	} * list;
	size_t count, capacity;
	struct archive_wanted_key *keys; /* of each that is looked for */
};

static void note_candidate(int64_t no, void *user)
{
	struct archive_wanted *wanted = user;
	struct archive_candidates *candidates = wanted->candidates;

	candidates->list = rt_grow(candidates->list, candidates->count, &candidates->capacity,
				   sizeof(*candidates->list));
	candidates->list[candidates->count++] = (struct candidate){ wanted, no };
}

static void found(const struct db_value *columns, void *user)
{
	struct archive_wanted *wanted = user;

	if (wanted->found) /* in a newer segment, in the same turn */
		return;
	wanted->found = true;
	wanted->row(columns, wanted->user);
}

/* Asks up to `round` segments. True: there may be others. */
static bool ask(struct db *db, const struct archive_ids *ids, struct archive_wanted *wanted,
		struct archive_wanted_key *key, size_t round, int *rc)
{
	*key = (struct archive_wanted_key){ wanted->key, note_candidate, wanted };
	for (size_t i = 0; i < round; i++) {
		if (!archive_ids_before(ids, wanted->key, &wanted->below))
			return false;
		*rc = archive_postings_ask(db, wanted->below, key);
		if (*rc != RT_OK)
			return false;
	}
	return true;
}

/* Reads the orders that the turn's postings lead to. */
static int read_candidates(struct db *db, const struct db_statement *statement,
			   struct archive_candidates *candidates)
{
	int rc = db->ops->flush(db);

	for (size_t i = 0; rc == RT_OK && i < candidates->count; i++) {
		const struct candidate *candidate = &candidates->list[i];

		if (!candidate->wanted->found)
			rc = db->ops->queue(
				db, statement,
				(const struct db_value[]){ db_number(candidate->no),
							   db_text(candidate->wanted->order_id) },
				2, found, candidate->wanted);
	}
	candidates->count = 0;
	return rc == RT_OK ? db->ops->flush(db) : rc;
}

/* Newest first: most often it is there. */
int archive_index_find(struct db *db, const struct archive_segments *segments,
		       const struct archive_ids *ids, const struct db_statement *statement,
		       struct archive_wanted *list, size_t count)
{
	struct archive_candidates candidates = { .keys = rt_alloc((count + 1) *
								  sizeof(*candidates.keys)) };
	bool more = count > 0;
	int rc = RT_OK;

	for (size_t i = 0; i < count; i++) {
		list[i].below = segments->count;
		list[i].candidates = &candidates;
	}
	for (size_t round = 1; rc == RT_OK && more; round = RT_MIN(2 * round, (size_t)ROUND_MAX)) {
		more = false;
		for (size_t i = 0; rc == RT_OK && i < count; i++)
			if (!list[i].found)
				more = ask(db, ids, &list[i], &candidates.keys[i], round, &rc) ||
				       more;
		if (rc == RT_OK)
			rc = read_candidates(db, statement, &candidates);
	}
	free(candidates.list);
	free(candidates.keys);
	return rc;
}
