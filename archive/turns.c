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
