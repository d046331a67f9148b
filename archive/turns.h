/* turns.h - which of a partition's streams is read next, and when a batch is large enough.
 *
 * A read takes as many entries of each stream, and those of the one may hold more events than those of the other. If both
 * were always read, inventory's events would come ahead, and be stored before the orders that they follow from: each of
 * these orders is written twice, since it gets another number when its OrderPlaced comes. So the stream that is behind is
 * read on alone.
 *
 * What is read of the one beyond the other's end is one more change of a row for each event, which costs more than the
 * row did. So a stream that is alone is read in small steps when the batch is almost large enough; before that in larger ones,
 * since each costs Redis and the archive a wake-up. */
#ifndef ARCHIVE_TURNS_H
#define ARCHIVE_TURNS_H

#include "base/base.h"

#define ARCHIVE_EVENTS_ENOUGH 100000 /* in a batch: more make it hardly cheaper */
#define ARCHIVE_EVENTS_MAX    200000 /* no more is read into it, whichever stream is behind */
#define ARCHIVE_EVENTS_STEP   800    /* in a read of one stream alone, about, at least */
#define ARCHIVE_EVENTS_READ   8000   /* of each, if both are read */
#define ARCHIVE_ENTRIES_MAX   256    /* of each in a read */

/* How far a stream was read. */
struct archive_turn {
	bool more;              /* there may be more at once */
	uint64_t ms;            /* of its last entry's id */
	size_t entries, events; /* of its last read that brought some */
};
enum archive_turns {
	ARCHIVE_READ_NONE,
	ARCHIVE_READ_ORDERS,
	ARCHIVE_READ_INVENTORY,
	ARCHIVE_READ_BOTH /* the sum of the others */
};
/* What is read before a batch of so many events is written. */
enum archive_turns archive_next_turn(const struct archive_turn *orders,
				     const struct archive_turn *inventory, size_t events);

/* How many entries of each stream are asked for then: by how many events were in one, and are in the batch. */
size_t archive_turn_entries(const struct archive_turn *orders, const struct archive_turn *inventory,
			    enum archive_turns turn, size_t events);

#endif
