/* test_archive_turns.c - of two streams the one that is behind is read, and inventory's is never stored ahead of the orders'
 * while there is more of theirs. */
#include "archive/turns.h"

#include "run.h"

#define ENOUGH ARCHIVE_EVENTS_ENOUGH
#define MAX    ARCHIVE_EVENTS_MAX

static void test_turns(void)
{
	static const struct {
		const char *what;
		struct archive_turn orders, inventory;
		size_t events;
		enum archive_turns next;
	} rows[] = {
		{ "both are read to their ends",
		  { .more = false, .ms = 7 },
		  { .more = false, .ms = 9 },
		  10,
		  ARCHIVE_READ_NONE },
		{ "the orders are behind",
		  { .more = true, .ms = 7 },
		  { .more = false, .ms = 9 },
		  10,
		  ARCHIVE_READ_ORDERS },
		{ "both have more, the orders are behind",
		  { .more = true, .ms = 7 },
		  { .more = true, .ms = 9 },
		  10,
		  ARCHIVE_READ_ORDERS },
		{ "both have more, inventory is behind",
		  { .more = true, .ms = 9 },
		  { .more = true, .ms = 7 },
		  10,
		  ARCHIVE_READ_INVENTORY },
		{ "at the same time the answers are wanted",
		  { .more = true, .ms = 9 },
		  { .more = true, .ms = 9 },
		  10,
		  ARCHIVE_READ_INVENTORY },
		{ "inventory is behind, and has no more: it may have by now",
		  { .more = true, .ms = 9 },
		  { .more = false, .ms = 7 },
		  10,
		  ARCHIVE_READ_BOTH },
		{ "inventory is ahead, the orders have no more: they may have by now",
		  { .more = false, .ms = 7 },
		  { .more = true, .ms = 9 },
		  10,
		  ARCHIVE_READ_BOTH },
		{ "enough, and the orders are ahead",
		  { .more = true, .ms = 9 },
		  { .more = true, .ms = 7 },
		  ENOUGH,
		  ARCHIVE_READ_NONE },
		{ "enough, but the orders are behind",
		  { .more = true, .ms = 7 },
		  { .more = true, .ms = 9 },
		  ENOUGH,
		  ARCHIVE_READ_ORDERS },
		{ "enough, and no more orders are there",
		  { .more = false, .ms = 7 },
		  { .more = true, .ms = 9 },
		  ENOUGH,
		  ARCHIVE_READ_NONE },
		{ "too many, whoever is behind",
		  { .more = true, .ms = 7 },
		  { .more = true, .ms = 9 },
		  MAX,
		  ARCHIVE_READ_NONE },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(archive_next_turn(&rows[i].orders, &rows[i].inventory, rows[i].events) ==
				 rows[i].next,
			 rows[i].what);
}

/* Two streams over the same time, whose entries hold unequal shares of it: while there is more of the orders, inventory is
 * ahead by no more than one of its reads, and both come to their end. */
static void test_side_by_side(void)
{
	static const uint64_t strides[][2] = { { 1, 5 }, { 5, 1 }, { 3, 3 }, { 1, 40 } };
	const uint64_t end = 1000;

	for (size_t i = 0; i < RT_LENGTH(strides); i++) {
		struct archive_turn orders = { .more = true }, inventory = orders;
		size_t reads = 0;
		enum archive_turns next;

		while ((next = archive_next_turn(&orders, &inventory, 0)) != ARCHIVE_READ_NONE) {
			if ((next & ARCHIVE_READ_ORDERS) != 0)
				orders.ms = RT_MIN(orders.ms + strides[i][0], end);
			if ((next & ARCHIVE_READ_INVENTORY) != 0)
				inventory.ms = RT_MIN(inventory.ms + strides[i][1], end);
			orders.more = orders.ms < end;
			inventory.more = inventory.ms < end;
			CU_ASSERT(inventory.ms <= orders.ms + strides[i][1]);
			CU_ASSERT_FATAL(++reads < 3 * end);
		}
		CU_ASSERT(orders.ms == end && inventory.ms == end);
	}
}

static void test_entries(void)
{
	static const struct {
		const char *what;
		struct archive_turn orders, inventory;
		enum archive_turns turn;
		size_t events;
		size_t entries;
	} rows[] = {
		{ "nothing is known yet",
		  { .ms = 0 },
		  { .ms = 0 },
		  ARCHIVE_READ_BOTH,
		  ENOUGH - 800,
		  256 },
		{ "nothing is there",
		  { .entries = 5, .events = 5 },
		  { .entries = 5, .events = 5 },
		  ARCHIVE_READ_NONE,
		  ENOUGH - 800,
		  256 },
		{ "small entries, of one",
		  { .entries = 256, .events = 300 },
		  { .ms = 0 },
		  ARCHIVE_READ_ORDERS,
		  ENOUGH - 800,
		  256 },
		{ "entries that could not be read",
		  { .entries = 9 },
		  { .entries = 9 },
		  ARCHIVE_READ_BOTH,
		  ENOUGH - 800,
		  256 },
		{ "large ones, of both",
		  { .entries = 10, .events = 1000 },
		  { .entries = 10, .events = 500 },
		  ARCHIVE_READ_BOTH,
		  ENOUGH - 800,
		  80 },
		{ "inventory's are larger",
		  { .entries = 10, .events = 1000 },
		  { .entries = 10, .events = 2000 },
		  ARCHIVE_READ_BOTH,
		  ENOUGH - 800,
		  40 },
		{ "the orders alone",
		  { .entries = 10, .events = 1000 },
		  { .entries = 10, .events = 2000 },
		  ARCHIVE_READ_ORDERS,
		  ENOUGH - 800,
		  8 },
		{ "inventory alone",
		  { .entries = 10, .events = 1000 },
		  { .entries = 10, .events = 2000 },
		  ARCHIVE_READ_INVENTORY,
		  ENOUGH - 800,
		  4 },
		{ "the orders alone, of a batch that is small",
		  { .entries = 10, .events = 1000 },
		  { .entries = 10, .events = 2000 },
		  ARCHIVE_READ_ORDERS,
		  ENOUGH / 2,
		  62 },
		{ "inventory alone, of a batch that is empty",
		  { .entries = 10, .events = 1000 },
		  { .entries = 10, .events = 2000 },
		  ARCHIVE_READ_INVENTORY,
		  0,
		  40 },
		{ "inventory alone, of a batch that is large enough",
		  { .entries = 10, .events = 1000 },
		  { .entries = 10, .events = 2000 },
		  ARCHIVE_READ_INVENTORY,
		  MAX,
		  4 },
		{ "one at least",
		  { .entries = 1, .events = 5000 },
		  { .ms = 0 },
		  ARCHIVE_READ_ORDERS,
		  ENOUGH - 800,
		  1 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(archive_turn_entries(&rows[i].orders, &rows[i].inventory, rows[i].turn,
					      rows[i].events) == rows[i].entries,
			 rows[i].what);
}

/* Streams that have more and more, in entries of 100 events, of which inventory's last as long as two of the orders': when a
 * batch is large enough inventory is not ahead, and the orders are by a step at most. */
static void test_batches_end_evenly(void)
{
	struct archive_turn orders = { .more = true }, inventory = orders;

	for (int batch = 0; batch < 50; batch++) {
		enum archive_turns next = ARCHIVE_READ_BOTH;
		size_t events = 0;

		while (next != ARCHIVE_READ_NONE) {
			size_t entries = archive_turn_entries(&orders, &inventory, next, events);

			if ((next & ARCHIVE_READ_ORDERS) != 0)
				orders = (struct archive_turn){ true, orders.ms + entries, entries,
								100 * entries };
			if ((next & ARCHIVE_READ_INVENTORY) != 0)
				inventory = (struct archive_turn){ true, inventory.ms + 2 * entries,
								   entries, 100 * entries };
			events += 100 * entries * (next == ARCHIVE_READ_BOTH ? 2 : 1);
			next = archive_next_turn(&orders, &inventory, events);
		}
		CU_ASSERT(events >= ENOUGH && events < MAX);
		CU_ASSERT(orders.ms >= inventory.ms);
		CU_ASSERT(100 * (orders.ms - inventory.ms) <= ARCHIVE_EVENTS_STEP);
	}
}

static const struct test tests[] = {
	{ "how many entries are read", test_entries },
	{ "batches end evenly", test_batches_end_evenly },
	{ "what is read next", test_turns },
	{ "streams with unequal entries are read side by side", test_side_by_side },
};

TESTS_MAIN("archive_turns", tests)
