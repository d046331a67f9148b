/* audit_rules.c - which states of an order and of its reservation may occur together. Pure.
 *
 * FINE: the pair is right, or the order's timer repairs it: inventory is asked again until it has
 * answered. */
#include "audit.h"

#define PART_FIX                                                                                   \
	"compare the parts that `tandemctl explain` shows, and set the fields in "                 \
	"inventory:{q}:parts and inventory:{q}:stock by hand"

static const struct audit_fault_info faults[AUDIT_FAULT_COUNT] = {
	[AUDIT_ORDER_DAMAGED] = { "order-damaged", "the order's record cannot be read",
				  "restore the field from a copy of the append-only file",
				  AUDIT_BY_HAND },
	[AUDIT_NO_ORDER_ID] = { "no-order-id",
				"an order, a reservation or a timer has a name with a NUL in it, "
				"which no order has",
				"find out what wrote it, and delete it with redis-cli",
				AUDIT_BY_HAND },
	[AUDIT_VERSION_GAP] = { "version-gap",
				"the history does not have one event for each version",
				"compare `tandemctl explain` with its record and repair its "
				"history by hand",
				AUDIT_BY_HAND },
	[AUDIT_NO_TIMER] = { "no-timer", "the order is not settled and nothing will move it on",
			     "--repair sets its timer: to the end of the hold, or to now, and its "
			     "request is published again",
			     AUDIT_SET_TIMER },
	[AUDIT_TIMER_OF_SETTLED] = { "timer-of-settled", "the order is settled and has a timer",
				     "--repair removes the timer", AUDIT_DROP_TIMER },
	[AUDIT_TIMER_WITHOUT_ORDER] = { "timer-without-order",
					"a timer of an order that does not exist",
					"--repair removes the timer", AUDIT_DROP_TIMER },
	[AUDIT_RESERVATION_DAMAGED] = { "reservation-damaged",
					"the reservation's record cannot be read",
					"restore the field from a copy of the append-only file",
					AUDIT_BY_HAND },
	[AUDIT_RESERVATION_WITHOUT_ORDER] = { "reservation-without-order",
					      "stock is held for an order that does not exist",
					      "--repair releases it", AUDIT_RELEASE },
	[AUDIT_SOLD_WITHOUT_ORDER] = { "sold-without-order",
				       "stock was sold to an order that does not exist",
				       "find out who bought it (`tandemctl events show --order`); "
				       "put it back with `tandemctl stock adjust` if nobody did",
				       AUDIT_BY_HAND },
	[AUDIT_ORDER_WITHOUT_RESERVATION] = { "order-without-reservation",
					      "the order is RESERVED and nothing is held for it",
					      "--repair asks inventory again: it reserves, or "
					      "answers that it cannot",
					      AUDIT_RESERVE },
	[AUDIT_SOLD_UNCONFIRMED] = { "sold-unconfirmed",
				     "stock was sold to an order that is not confirmed",
				     "--repair asks inventory again: its answer reaches the order",
				     AUDIT_RESERVE },
	[AUDIT_CONFIRM_WITHOUT_RESERVATION] = { "confirm-without-reservation",
						"the order is being confirmed, and nothing is held "
						"for it",
						"--repair reserves again, if there is stock; the "
						"commit follows by itself",
						AUDIT_RESERVE },
	[AUDIT_CONFIRMED_NOT_SOLD] = { "confirmed-not-sold",
				       "the order is CONFIRMED and its stock only held",
				       "--repair commits it", AUDIT_COMMIT },
	[AUDIT_CONFIRMED_WITHOUT_STOCK] = { "confirmed-without-stock",
					    "the order is CONFIRMED and inventory sold nothing",
					    "there is no stock for what the customer bought: place "
					    "a new order for them, or inform them",
					    AUDIT_BY_HAND },
	[AUDIT_HOLD_OF_ENDED] = { "hold-of-ended", "stock is held for an order that has ended",
				  "--repair releases it", AUDIT_RELEASE },
	[AUDIT_SOLD_OF_ENDED] = { "sold-of-ended",
				  "stock was sold to an order that ended without a sale",
				  "decide which is right; if the order is, put the stock back "
				  "with `tandemctl stock adjust`",
				  AUDIT_BY_HAND },
	[AUDIT_ENDED_WITHOUT_RECORD] = { "ended-without-record",
					 "the order has ended and inventory has no record of it: a "
					 "late request would reserve",
					 "--repair writes a record that it was released",
					 AUDIT_RELEASE },
	[AUDIT_LINES_DIFFER] = { "lines-differ",
				 "the lines reserved are not the lines ordered, or other items "
				 "came back",
				 "compare `tandemctl order get` with the reservation; cancel the "
				 "order, or repair the field by hand",
				 AUDIT_BY_HAND },
	[AUDIT_NOT_ARCHIVED] = { "not-archived",
				 "the order is settled, and the archive has read its events and "
				 "does not have it",
				 "the archive's database was changed by other hands, or restored: "
				 "restore it from an older copy, so that it reads again what the "
				 "streams still have",
				 AUDIT_BY_HAND },
	[AUDIT_ARCHIVED_DIFFERS] = { "archived-differs",
				     "the order is settled, and the archive has another status or "
				     "version of it, though it has read its events",
				     "what a master lost and did again has the same versions: "
				     "`tandemctl order get` says what is true",
				     AUDIT_BY_HAND },
	[AUDIT_ARCHIVED_NOT_STORED] = { "archived-not-stored",
					"the archive has the order, or a later version of it, and "
					"Redis has not; nor was it dropped",
					"Redis has lost it (a master failed with durability "
					"`local`, or came back with older data): the archive has "
					"what it was, `tandemctl archive show`",
					AUDIT_BY_HAND },
	[AUDIT_PART_DAMAGED] = { "part-damaged",
				 "a part of the reservation, in another partition, cannot be read",
				 "restore the field from a copy of the append-only file",
				 AUDIT_BY_HAND },
	[AUDIT_PART_WITHOUT_RECORD] = { "part-without-record",
					"a partition holds stock for an order, and no reservation "
					"names it",
					"--repair releases it, if the order has ended or the "
					"reservation names other partitions; otherwise the order "
					"asks again",
					AUDIT_PARTS },
	[AUDIT_PART_SOLD_WITHOUT_RECORD] = { "part-sold-without-record",
					     "a partition sold stock to an order, and no "
					     "reservation names it",
					     PART_FIX, AUDIT_BY_HAND },
	[AUDIT_PART_MISSING] = { "part-missing",
				 "the reservation names stock of a partition that holds none for "
				 "it",
				 "--repair takes it from what is available. If that is short: a "
				 "RESERVED order is released, and so cancelled; a sale stays owed",
				 AUDIT_PARTS },
	[AUDIT_PART_SOLD_UNCONFIRMED] = { "part-sold-unconfirmed",
					  "a partition sold what the reservation only holds",
					  "confirm the order; or cancel it, and audit again",
					  AUDIT_BY_HAND },
	[AUDIT_PART_NOT_SOLD] = { "part-not-sold",
				  "the reservation is sold, and a partition only holds its part",
				  "--repair sells it", AUDIT_PARTS },
	[AUDIT_PART_HELD] = { "part-held",
			      "a partition holds stock for a reservation that holds nothing",
			      "--repair releases it", AUDIT_PARTS },
	[AUDIT_PART_SOLD] = { "part-sold",
			      "a partition sold stock for a reservation that holds nothing",
			      "--repair makes it available again", AUDIT_PARTS },
	[AUDIT_PART_DIFFERS] = { "part-differs",
				 "a part has other lines than the reservation names, or belongs to "
				 "another partition's order",
				 PART_FIX, AUDIT_BY_HAND },
	[AUDIT_STOCK_DAMAGED] = { "stock-damaged", "the counters cannot be read",
				  "find the last good ones with `tandemctl events show --order "
				  "SKU` and set the field by hand",
				  AUDIT_BY_HAND },
	[AUDIT_STOCK_MISSING] = { "stock-missing", "a SKU has reservations and no counters",
				  "find the last good ones with `tandemctl events show --order "
				  "SKU` and set the field by hand",
				  AUDIT_BY_HAND },
	[AUDIT_STOCK_SUM] = { "stock-sum", "received is not available + reserved + committed",
			      "--repair-counters sets them to the sums of the reservations, if "
			      "received is right",
			      AUDIT_COUNTERS },
	[AUDIT_RESERVED_SUM] = { "reserved-sum", "reserved is not what the reservations add up to",
				 "--repair-counters sets it, if the reservations are right",
				 AUDIT_COUNTERS },
	[AUDIT_COMMITTED_SUM] = { "committed-sum",
				  "committed is not what the reservations add up to",
				  "--repair-counters sets it, if the reservations are right",
				  AUDIT_COUNTERS },
};

const struct audit_fault_info *audit_fault_info(enum audit_fault fault)
{
	return &faults[fault];
}

#define FINE AUDIT_FAULT_COUNT
#define LOST AUDIT_ORDER_WITHOUT_RESERVATION
#define HELD AUDIT_HOLD_OF_ENDED
#define SOLD AUDIT_SOLD_OF_ENDED
#define GONE AUDIT_CONFIRMED_WITHOUT_STOCK
#define BARE AUDIT_ENDED_WITHOUT_RECORD

/* clang-format off */
static const enum audit_fault pairs[ORDER_STATE_COUNT][STOCK_STATE_COUNT] = {
	/* order \ reservation  none       RESERVED  UNAVAILABLE  COMMITTED  RELEASED  RETURNED */
	[ORDER_PENDING]    = { FINE,       FINE,     FINE,        FINE,      FINE,     FINE },
	[ORDER_RESERVED]   = { LOST,       FINE,     LOST,        AUDIT_SOLD_UNCONFIRMED, LOST,
				           AUDIT_SOLD_UNCONFIRMED },
	[ORDER_REJECTING]  = { FINE,       FINE,     FINE,        SOLD,      FINE,     SOLD },
	[ORDER_REJECTED]   = { BARE,       HELD,     FINE,        SOLD,      FINE,     SOLD },
	[ORDER_CONFIRMING] = { AUDIT_CONFIRM_WITHOUT_RESERVATION,
				           FINE,     GONE,        FINE,      GONE,     FINE },
	[ORDER_CONFIRMED]  = { GONE, AUDIT_CONFIRMED_NOT_SOLD, GONE, FINE,   GONE,     FINE },
	[ORDER_RETURNING]  = { GONE, AUDIT_CONFIRMED_NOT_SOLD, GONE, FINE,   GONE,     FINE },
	[ORDER_CANCELLING] = { FINE,       FINE,     FINE,        SOLD,      FINE,     SOLD },
	[ORDER_CANCELLED]  = { BARE,       HELD,     FINE,        SOLD,      FINE,     SOLD },
	[ORDER_EXPIRING]   = { FINE,       FINE,     FINE,        SOLD,      FINE,     SOLD },
	[ORDER_EXPIRED]    = { BARE,       HELD,     FINE,        SOLD,      FINE,     SOLD },
};
/* clang-format on */

static enum audit_fault judge_pair(const struct audit_case *one)
{
	if (one->ordered)
		return pairs[one->state][one->stock];
	switch (one->stock) {
	case STOCK_RESERVED:
		return AUDIT_RESERVATION_WITHOUT_ORDER;
	case STOCK_COMMITTED:
	case STOCK_RETURNED:
		return AUDIT_SOLD_WITHOUT_ORDER;
	default: /* holds nothing */
		return FINE;
	}
}

/* clang-format off */
static const enum audit_fault part_pairs[STOCK_STATE_COUNT][STOCK_STATE_COUNT] = {
	/* reservation \ part   none   RESERVED  UNAVAILABLE  COMMITTED  RELEASED  (RETURNED: no part is) */
	[STOCK_NONE]        = { FINE, AUDIT_PART_WITHOUT_RECORD, FINE,
				AUDIT_PART_SOLD_WITHOUT_RECORD, FINE, AUDIT_PART_DAMAGED },
	[STOCK_RESERVED]    = { AUDIT_PART_MISSING, FINE, AUDIT_PART_MISSING,
				AUDIT_PART_SOLD_UNCONFIRMED, AUDIT_PART_MISSING, AUDIT_PART_DAMAGED },
	[STOCK_UNAVAILABLE] = { FINE, AUDIT_PART_HELD, FINE, AUDIT_PART_SOLD, FINE, AUDIT_PART_DAMAGED },
	[STOCK_COMMITTED]   = { AUDIT_PART_MISSING, AUDIT_PART_NOT_SOLD, AUDIT_PART_MISSING, FINE,
				AUDIT_PART_MISSING, AUDIT_PART_DAMAGED },
	[STOCK_RELEASED]    = { FINE, AUDIT_PART_HELD, FINE, AUDIT_PART_SOLD, FINE, AUDIT_PART_DAMAGED },
	[STOCK_RETURNED]    = { AUDIT_PART_MISSING, AUDIT_PART_NOT_SOLD, AUDIT_PART_MISSING, FINE,
				AUDIT_PART_MISSING, AUDIT_PART_DAMAGED },
};
/* clang-format on */

static enum audit_fault judge_part(const struct audit_case *one, const struct audit_part *part)
{
	bool ended = one->stock == STOCK_UNAVAILABLE || one->stock == STOCK_RELEASED;
	enum audit_fault fault;

	if (part->damaged)
		return AUDIT_PART_DAMAGED;
	/* A reservation that has ended need not say what was tried. */
	fault = part_pairs[part->named || ended ? one->stock : STOCK_NONE][part->state];
	return fault == FINE && part->differs ? AUDIT_PART_DIFFERS : fault;
}

/* Each kind once. */
static size_t add_fault(enum audit_fault found[AUDIT_FAULTS_MAX], size_t count,
			enum audit_fault fault)
{
	bool known = fault == FINE || count == AUDIT_FAULTS_MAX;

	for (size_t i = 0; i < count; i++)
		known = known || found[i] == fault;
	if (!known)
		found[count++] = fault;
	return count;
}

static size_t judge_parts(const struct audit_case *one, enum audit_fault found[AUDIT_FAULTS_MAX],
			  size_t count)
{
	for (size_t i = 0; i < one->part_count && !one->reservation_damaged; i++)
		count = add_fault(found, count, judge_part(one, &one->parts[i]));
	return count;
}

static enum audit_fault judge_timer(const struct audit_case *one)
{
	if (!one->ordered)
		return one->timed ? AUDIT_TIMER_WITHOUT_ORDER : FINE;
	if (order_state_settled(one->state))
		return one->timed ? AUDIT_TIMER_OF_SETTLED : FINE;
	return one->timed ? FINE : AUDIT_NO_TIMER;
}

size_t audit_judge(const struct audit_case *one, enum audit_fault found[AUDIT_FAULTS_MAX])
{
	bool both = one->ordered && !one->order_damaged && !one->reservation_damaged;
	size_t count = 0;
	enum audit_fault fault;

	if (one->order_damaged)
		found[count++] = AUDIT_ORDER_DAMAGED;
	if (one->reservation_damaged)
		found[count++] = AUDIT_RESERVATION_DAMAGED;
	/* A damaged record cannot be compared. */
	if (one->order_damaged)
		return judge_parts(one, found, count);
	if (one->ordered && one->history_gap)
		count = add_fault(found, count, AUDIT_VERSION_GAP);
	fault = one->reservation_damaged ? FINE : judge_pair(one);
	if (fault == FINE && both && one->lines_differ)
		fault = AUDIT_LINES_DIFFER;
	count = add_fault(found, count, fault);
	return judge_parts(one, found, add_fault(found, count, judge_timer(one)));
}

enum audit_fault audit_judge_archived(const struct audit_archived *one)
{
	bool expected = one->stored && one->settled && one->read;

	if (expected && !one->archived)
		return AUDIT_NOT_ARCHIVED;
	if (one->lost)
		return FINE;
	if (one->archived && !one->dropped && !one->stored)
		return AUDIT_ARCHIVED_NOT_STORED;
	if (one->archived && one->stored && one->archived_version > one->version)
		return AUDIT_ARCHIVED_NOT_STORED;
	if (expected &&
	    (one->archived_version != one->version || one->archived_status != one->status))
		return AUDIT_ARCHIVED_DIFFERS;
	return FINE;
}
