/* store_index.c - keys, segments, and which segments may have an id.
 *
 * The ids of 64 segments share a table of 2^20 words of 64 bits. A word stands for a bit of a hash, and each of its bits for
 * a segment: five words, taken together, say at once which of the 64 segments may have an id. */
#include "store_index.h"

#include "store_sql.h"

#define GROUP_BITS  64 /* segments of a table */
#define GROUP_WORDS ((size_t)1 << 20)
#define GROUPS_MAX  256 /* 5 * 10^8 orders; each segment behind them may have every id */
#define HASHES      5
#define AHEAD       8 /* ids: so far ahead memory is asked for */

struct archive_ids {
	uint64_t *groups[GROUPS_MAX];
	bool loaded;
};

/* ---- keys ---- */

/* FNV-1a, and what spreads it over all bits. */
static uint64_t hash(uint64_t from, const char *text, size_t length)
{
	uint64_t h = from;

	for (size_t i = 0; i < length; i++)
		h = (h ^ (uint8_t)text[i]) * UINT64_C(1099511628211);
	return h;
}

static int64_t key_from(enum archive_key_kind kind, uint64_t h)
{
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	h = (h ^ h >> 33) >> (64 - ARCHIVE_HASH_BITS);
	return archive_key_of((int)kind, h);
}

#define HASH_START UINT64_C(14695981039346656037)

int64_t archive_key(enum archive_key_kind kind, const char *text, size_t length)
{
	return key_from(kind, hash(HASH_START, text, length));
}

/* A NUL between them is hashed, too: "a" "bc" is not "ab" "c". */
int64_t archive_key_of_label(const struct archive_text *key, const struct archive_text *value)
{
	uint64_t h = hash(HASH_START, key->data, key->length);

	return key_from(KEY_LABEL, hash(hash(h, "", 1), value->data, value->length));
}

int64_t archive_key_of_status(int status)
{
	return archive_key_of(KEY_STATUS, (uint64_t)status);
}

/* ---- segments ---- */

static void note_segment(struct archive_segments *segments, int64_t first_no)
{
	segments->first_no = rt_grow(segments->first_no, segments->count, &segments->capacity,
				     sizeof(*segments->first_no));
	segments->first_no[segments->count++] = first_no;
}

static void read_segment(const struct db_value *columns, void *user)
{
	struct archive_segments *segments = user;

	note_segment(segments, columns[0].number);
	segments->orders = columns[1].number;
}

int archive_segments_load(struct db *db, struct archive_segments *ret)
{
	int rc;

	ret->count = 0;
	ret->orders = 0;
	rc = db->ops->queue(db, &sql_read_segments, NULL, 0, read_segment, ret);
	if (rc == RT_OK)
		rc = db->ops->flush(db);
	if (rc == RT_OK && ret->count == 0)
		note_segment(ret, 0);
	return rc;
}

int archive_segments_add(struct db *db, struct archive_segments *segments, int64_t first_no)
{
	note_segment(segments, first_no);
	segments->orders = 0;
	return db->ops->queue(db, &sql_put_segment,
			      (const struct db_value[]){ db_number((int64_t)segments->count - 1),
							 db_number(first_no), db_number(0) },
			      3, NULL, NULL);
}

size_t archive_segment_of(const struct archive_segments *segments, int64_t no)
{
	size_t low = 0, high = segments->count;

	if (no >= segments->first_no[high - 1]) /* most often */
		return high - 1;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (segments->first_no[middle] <= no)
			low = middle;
		else
			high = middle;
	}
	return low;
}

void archive_segments_done(struct archive_segments *segments)
{
	free(segments->first_no);
	*segments = (struct archive_segments){ .count = 0 };
}

/* ---- which segments may have an id ---- */

struct archive_ids *archive_ids_new(void)
{
	return rt_alloc(sizeof(struct archive_ids));
}

void archive_ids_free(struct archive_ids *ids)
{
	if (ids == NULL)
		return;
	for (size_t i = 0; i < GROUPS_MAX; i++)
		free(ids->groups[i]);
	free(ids);
}

static size_t word_of(int64_t key, size_t i)
{
	uint64_t h = (uint64_t)key, step = h >> 20 | 1;

	return (size_t)((h + i * step) & (GROUP_WORDS - 1));
}

static uint64_t *group_of(struct archive_ids *ids, size_t number)
{
	uint64_t *group = __atomic_load_n(&ids->groups[number], __ATOMIC_ACQUIRE);

	if (group != NULL)
		return group;
	group = rt_alloc(GROUP_WORDS * sizeof(*group));
	__atomic_store_n(&ids->groups[number], group, __ATOMIC_RELEASE);
	return group;
}

void archive_ids_add(struct archive_ids *ids, size_t segment, int64_t key)
{
	uint64_t *group, bit = UINT64_C(1) << segment % GROUP_BITS;

	if (segment / GROUP_BITS >= GROUPS_MAX)
		return;
	group = group_of(ids, segment / GROUP_BITS);
	for (size_t i = 0; i < HASHES; i++) {
		/* One thread writes: nothing is lost between these. */
		uint64_t *word = &group[word_of(key, i)];

		__atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) | bit,
				 __ATOMIC_RELAXED);
	}
}

void archive_ids_note(struct archive_new_ids *ids, size_t segment, int64_t key)
{
	ids->list = rt_grow(ids->list, ids->count, &ids->capacity, sizeof(*ids->list));
	ids->list[ids->count++] = (struct archive_new_id){ segment, key };
}

void archive_ids_add_noted(struct archive_ids *ids, struct archive_new_ids *noted)
{
	for (size_t i = 0; i < noted->count; i++) {
		if (i + AHEAD < noted->count)
			archive_ids_ahead(ids, noted->list[i + AHEAD].segment,
					  noted->list[i + AHEAD].key);
		archive_ids_add(ids, noted->list[i].segment, noted->list[i].key);
	}
	noted->count = 0;
}

void archive_new_ids_done(struct archive_new_ids *ids)
{
	free(ids->list);
	*ids = (struct archive_new_ids){ .count = 0 };
}

void archive_ids_ahead(const struct archive_ids *ids, size_t segment, int64_t key)
{
	const uint64_t *group =
		segment / GROUP_BITS < GROUPS_MAX
			? __atomic_load_n(&ids->groups[segment / GROUP_BITS], __ATOMIC_ACQUIRE)
			: NULL;

	for (size_t i = 0; group != NULL && i < HASHES; i++)
		__builtin_prefetch(&group[word_of(key, i)], 1);
}

/* Which segments of a group may have it. */
static uint64_t candidates(const struct archive_ids *ids, size_t number, int64_t key)
{
	const uint64_t *group;
	uint64_t bits = UINT64_MAX;

	if (number >= GROUPS_MAX)
		return bits;
	group = __atomic_load_n(&ids->groups[number], __ATOMIC_ACQUIRE);
	if (group == NULL)
		return 0;
	/* All of them, so that the memory is waited for once. */
	for (size_t i = 0; i < HASHES; i++)
		bits &= __atomic_load_n(&group[word_of(key, i)], __ATOMIC_RELAXED);
	return bits;
}

bool archive_ids_before(const struct archive_ids *ids, int64_t key, size_t *below)
{
	if (*below == 0)
		return false;
	if (ids == NULL || !archive_ids_loaded(ids)) {
		--*below;
		return true;
	}
	for (size_t number = (*below - 1) / GROUP_BITS + 1; number-- > 0;) {
		size_t first = number * GROUP_BITS, room = *below - first;
		uint64_t bits = candidates(ids, number, key);

		if (room < GROUP_BITS)
			bits &= (UINT64_C(1) << room) - 1;
		if (bits != 0) {
			*below = first + 63 - (size_t)__builtin_clzll(bits);
			return true;
		}
		*below = first;
		if (first == 0)
			break;
	}
	return false;
}

void archive_ids_all_added(struct archive_ids *ids)
{
	__atomic_store_n(&ids->loaded, true, __ATOMIC_RELEASE);
}

void archive_ids_forget(struct archive_ids *ids)
{
	__atomic_store_n(&ids->loaded, false, __ATOMIC_RELEASE);
}

bool archive_ids_loaded(const struct archive_ids *ids)
{
	return __atomic_load_n(&ids->loaded, __ATOMIC_ACQUIRE);
}

/* ---- sorting ---- */

#define DIGIT_BITS 8
#define DIGITS     ((size_t)1 << DIGIT_BITS)

/* By one digit after another, from the lowest on: the keys are many and short. */
void archive_sort(struct archive_sorted *list, struct archive_sorted *spare, size_t count)
{
	struct archive_sorted *from = list, *to = spare, *other;

	for (unsigned int shift = 0; shift < 64 && count > 1; shift += DIGIT_BITS) {
		size_t places[DIGITS] = { 0 }, sum = 0;

		for (size_t i = 0; i < count; i++)
			places[from[i].key >> shift & (DIGITS - 1)]++;
		if (places[from[0].key >> shift & (DIGITS - 1)] == count)
			continue; /* all have the same digit */
		for (size_t i = 0; i < DIGITS; i++) {
			size_t n = places[i];

			places[i] = sum;
			sum += n;
		}
		for (size_t i = 0; i < count; i++)
			to[places[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
		other = from;
		from = to;
		to = other;
	}
	if (from != list)
		memcpy(list, from, count * sizeof(*list));
}
