/* turns.c - which of a partition's streams is read next. */
#include "turns.h"

#define STEPS 8 /* a step is this part of what is still to come */

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

/* Of one stream: a part of what is still to come. */
static size_t step_of(size_t events)
{
	size_t left = ARCHIVE_EVENTS_ENOUGH - RT_MIN(events, (size_t)ARCHIVE_EVENTS_ENOUGH);

	return RT_MIN(RT_MAX(left / STEPS, (size_t)ARCHIVE_EVENTS_STEP),
		      (size_t)ARCHIVE_EVENTS_READ);
}

size_t archive_turn_entries(const struct archive_turn *orders, const struct archive_turn *inventory,
			    enum archive_turns turn, size_t events)
{
	size_t entries, step = step_of(events);

	if (turn == ARCHIVE_READ_ORDERS)
		entries = step / events_of(orders);
	else if (turn == ARCHIVE_READ_INVENTORY)
		entries = step / events_of(inventory);
	else
		entries = ARCHIVE_EVENTS_READ / RT_MAX(events_of(orders), events_of(inventory));
	return RT_MAX(RT_MIN(entries, (size_t)ARCHIVE_ENTRIES_MAX), (size_t)1);
}
