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
		  { false, 7 },
		  { false, 9 },
		  10,
		  ARCHIVE_READ_NONE },
		{ "the orders are behind", { true, 7 }, { false, 9 }, 10, ARCHIVE_READ_ORDERS },
		{ "both have more, the orders are behind",
		  { true, 7 },
		  { true, 9 },
		  10,
		  ARCHIVE_READ_ORDERS },
		{ "both have more, inventory is behind",
		  { true, 9 },
		  { true, 7 },
		  10,
		  ARCHIVE_READ_INVENTORY },
		{ "at the same time the answers are wanted",
		  { true, 9 },
		  { true, 9 },
		  10,
		  ARCHIVE_READ_INVENTORY },
		{ "inventory is behind, and has no more: it may have by now",
		  { true, 9 },
		  { false, 7 },
		  10,
		  ARCHIVE_READ_BOTH },
		{ "inventory is ahead, the orders have no more: they may have by now",
		  { false, 7 },
		  { true, 9 },
		  10,
		  ARCHIVE_READ_BOTH },
		{ "enough, and the orders are ahead",
		  { true, 9 },
		  { true, 7 },
		  ENOUGH,
		  ARCHIVE_READ_NONE },
		{ "enough, but the orders are behind",
		  { true, 7 },
		  { true, 9 },
		  ENOUGH,
		  ARCHIVE_READ_ORDERS },
		{ "enough, and no more orders are there",
		  { false, 7 },
		  { true, 9 },
		  ENOUGH,
		  ARCHIVE_READ_NONE },
		{ "too many, whoever is behind", { true, 7 }, { true, 9 }, MAX, ARCHIVE_READ_NONE },
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
		struct archive_turn orders = { true, 0 }, inventory = { true, 0 };
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

static const struct test tests[] = {
	{ "what is read next", test_turns },
	{ "streams with unequal entries are read side by side", test_side_by_side },
};

TESTS_MAIN("archive_turns", tests)
