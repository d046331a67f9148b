/* turns.c - which of a partition's streams is read next. */
#include "turns.h"

enum archive_turns archive_next_turn(const struct archive_turn *orders,
				     const struct archive_turn *inventory, size_t events)
{
	if (events >= ARCHIVE_EVENTS_MAX)
		return ARCHIVE_READ_NONE;
	if (orders->more && orders->ms < inventory->ms)
		return ARCHIVE_READ_ORDERS;
	/* The orders may be ahead: then inventory's event is one more change of a row. */
	if (events >= ARCHIVE_EVENTS_ENOUGH)
		return ARCHIVE_READ_NONE;
	if (inventory->more && inventory->ms <= orders->ms)
		return ARCHIVE_READ_INVENTORY;
	return orders->more || inventory->more ? ARCHIVE_READ_BOTH : ARCHIVE_READ_NONE;
}

/* In an entry, rounded up; 1: that is not known. */
static size_t events_of(const struct archive_turn *turn)
{
	return turn->events > turn->entries ? (turn->events - 1) / turn->entries + 1 : 1;
}

size_t archive_turn_entries(const struct archive_turn *orders, const struct archive_turn *inventory,
			    enum archive_turns turn)
{
	size_t entries;

	if (turn == ARCHIVE_READ_ORDERS)
		entries = ARCHIVE_EVENTS_STEP / events_of(orders);
	else if (turn == ARCHIVE_READ_INVENTORY)
		entries = ARCHIVE_EVENTS_STEP / events_of(inventory);
	else
		entries = ARCHIVE_EVENTS_READ / RT_MAX(events_of(orders), events_of(inventory));
	return RT_MAX(RT_MIN(entries, (size_t)ARCHIVE_ENTRIES_MAX), (size_t)1);
}
