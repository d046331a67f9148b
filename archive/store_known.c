/* store_known.c - the orders that the writer keeps in mind.
 *
 * They are in a queue, since the oldest is forgotten first, and in a table, where an order is at the first free place from its
 * hash on. */
#include "store_known.h"

#include <string.h>

#include "store_index.h"

#define PLACES_MIN   1024
#define REUSED_BYTES 1024 /* at most, of a life or of lines whose order is forgotten */
#define CACHE_LINE   64

/* ---- the table ---- */

/* Of an id, which is random. */
static uint32_t hash_of(const char id[ARCHIVE_ID_BYTES])
{
	uint64_t words[ARCHIVE_ID_BYTES / 8], h;

	memcpy(words, id, ARCHIVE_ID_BYTES);
	h = (words[0] ^ words[1]) * UINT64_C(0x9e3779b97f4a7c15);
	h = (h ^ h >> 32 ^ words[2]) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 32 ^ words[3]) * UINT64_C(0xc4ceb9fe1a85ec53);
	return (uint32_t)(h >> 32);
}

static void id_from(const struct archive_text *order_id, char id[ARCHIVE_ID_BYTES])
{
	memset(id, 0, ARCHIVE_ID_BYTES);
	memcpy(id, order_id->data, RT_MIN(order_id->length, (size_t)ARCHIVE_ORDER_ID));
}

static size_t next_place(const struct archive_known_orders *orders, size_t place)
{
	return (place + 1) & (orders->place_count - 1);
}

static size_t place_of(const struct archive_known_orders *orders, uint32_t hash)
{
	return hash & (orders->place_count - 1);
}

static void take_place(struct archive_known_orders *orders, struct archive_known *known)
{
	size_t at = place_of(orders, known->hash);

	while (orders->places[at].known != NULL)
		at = next_place(orders, at);
	orders->places[at] = (struct archive_known_place){ known, known->hash };
}

/* The larger table has the same orders. */
static void make_room(struct archive_known_orders *orders)
{
	struct archive_known_place *places = orders->places;

	if (2 * (orders->count + 1) <= orders->place_count)
		return;
	orders->place_count = orders->place_count == 0 ? PLACES_MIN : 2 * orders->place_count;
	orders->places = rt_alloc(orders->place_count * sizeof(*orders->places));
	free(places);
	for (struct archive_known *known = orders->oldest; known != NULL; known = known->newer)
		take_place(orders, known);
}

/* Those behind it move up, unless they are where they should be. */
static void leave_place(struct archive_known_orders *orders, const struct archive_known *known)
{
	const size_t mask = orders->place_count - 1;
	size_t at = place_of(orders, known->hash), next;

	while (orders->places[at].known != known)
		at = next_place(orders, at);
	for (next = next_place(orders, at); orders->places[next].known != NULL;
	     next = next_place(orders, next)) {
		size_t from = place_of(orders, orders->places[next].hash);

		if (((next - from) & mask) < ((next - at) & mask))
			continue;
		orders->places[at] = orders->places[next];
		at = next;
	}
	orders->places[at] = (struct archive_known_place){ 0 };
}

/* ---- the queue ---- */

/* The oldest leaves it. */
static struct archive_known *take_oldest(struct archive_known_orders *orders)
{
	struct archive_known *known = orders->oldest;

	leave_place(orders, known);
	orders->oldest = known->newer;
	if (orders->oldest == NULL)
		orders->newest = NULL;
	orders->count--;
	return known;
}

static void add_newest(struct archive_known_orders *orders, struct archive_known *known)
{
	if (orders->newest != NULL)
		orders->newest->newer = known;
	else
		orders->oldest = known;
	orders->newest = known;
	orders->count++;
	take_place(orders, known);
}

static void known_free(struct archive_known *known)
{
	rt_buf_done(&known->life);
	free(known->lines);
	free(known);
}

/* Mostly it takes the place of the oldest one, whose memory is waited for once, not once to be freed and once more. */
static struct archive_known *new_known(struct archive_known_orders *orders, uint64_t batch)
{
	struct archive_known *known = orders->oldest;
	struct rt_buf life;

	if (orders->count < orders->max || known == NULL || known->batch == batch ||
	    known->life.capacity > REUSED_BYTES || known->lines_bytes > REUSED_BYTES)
		return rt_alloc(sizeof(*known));
	take_oldest(orders);
	if (orders->oldest != NULL) { /* which is next */
		__builtin_prefetch(&orders->places[place_of(orders, orders->oldest->hash)], 1);
		archive_known_near(orders->oldest->newer);
	}
	life = known->life;
	life.length = 0;
	*known = (struct archive_known){ .life = life,
					 .lines = known->lines,
					 .lines_bytes = known->lines_bytes };
	return known;
}

struct archive_known *archive_known_find(struct archive_known_orders *orders,
					 const struct archive_text *order_id, uint32_t hash,
					 uint64_t batch)
{
	char id[ARCHIVE_ID_BYTES];
	struct archive_known *known = NULL;

	id_from(order_id, id);
	make_room(orders);
	for (size_t at = place_of(orders, hash); orders->places[at].known != NULL;
	     at = next_place(orders, at))
		if (orders->places[at].hash == hash &&
		    memcmp(orders->places[at].known->order_id, id, ARCHIVE_ID_BYTES) == 0) {
			known = orders->places[at].known;
			break;
		}
	if (known == NULL) {
		known = new_known(orders, batch);
		memcpy(known->order_id, id, ARCHIVE_ID_BYTES);
		known->key = archive_key(KEY_ID, id, strnlen(id, ARCHIVE_ID_BYTES));
		known->hash = hash;
		add_newest(orders, known);
	}
	known->batch = batch;
	return known;
}

void archive_known_forget_oldest(struct archive_known_orders *orders)
{
	while (orders->count > orders->max)
		known_free(take_oldest(orders));
}

void archive_known_forget_all(struct archive_known_orders *orders)
{
	struct archive_known *known = orders->oldest, *newer;

	for (; known != NULL; known = newer) {
		newer = known->newer;
		known_free(known);
	}
	free(orders->places);
	*orders = (struct archive_known_orders){ .max = orders->max };
}

/* ---- what is needed soon ---- */

uint32_t archive_known_ahead(const struct archive_known_orders *orders,
			     const struct archive_text *order_id)
{
	char id[ARCHIVE_ID_BYTES];
	uint32_t hash;

	id_from(order_id, id);
	hash = hash_of(id);
	if (orders->place_count > 0)
		__builtin_prefetch(&orders->places[place_of(orders, hash)], 1);
	return hash;
}

void archive_known_near(const struct archive_known *known)
{
	if (known == NULL)
		return;
	for (size_t i = 0; i < sizeof(*known); i += CACHE_LINE)
		__builtin_prefetch((const char *)known + i, 1);
}

void archive_known_nearer(const struct archive_known *known)
{
	if (known == NULL)
		return;
	__builtin_prefetch(known->life.data, 1);
	__builtin_prefetch(known->lines, 1);
	__builtin_prefetch(known->placed.data);
}
