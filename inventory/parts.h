/* parts.h - the rules of split orders: orders whose stock lies in several partitions, or in another one than
 * their record.
 *
 * Pure: no I/O. In each partition where such an order has lines it has a part, which holds that partition's
 * stock for it; the record in the order's own partition says what became of all of them. The states are those
 * of stock.h:
 *
 *   none ─hold─▶ RESERVED ─commit─▶ COMMITTED
 *     │    │        └─release─▶ RELEASED
 *     │    └▶ UNAVAILABLE
 *     ├─release (before the hold, which then finds it)─▶ RELEASED
 *     └─commit (the part was lost): taken from what is available─▶ COMMITTED, or still none
 *
 * A part whose items came back stays COMMITTED, and says how many; it is never RETURNED.
 *
 * Nothing but a reconciliation (reconcile.c) does more than that. Parts never leave UNAVAILABLE, COMMITTED and RELEASED: whoever was late, or stopped for any time, cannot
 * hold anything for an order that others have decided.
 *
 * When the order is dropped its parts are, then its record. Whoever is late finds neither: so calls say of which time they
 * are, and an order whose requests are all older than what was dropped in the partition, and that is not there, was
 * dropped, too (functions.lua: part).
 *
 * A request of a split order is served in steps, each of which is one call in one partition and safe to
 * repeat: the record is read; each part is held, committed or released; if one was refused all are
 * released; and the record is concluded, if it is still the one that was read. Otherwise it is decided
 * anew, by the record as it is. */
#ifndef INVENTORY_PARTS_H
#define INVENTORY_PARTS_H

#include "stock.h"

/* What is done to a part; its letter in the function's arguments. */
#define PART_ACTIONS(X)                                                                            \
	X(HOLD, 'h')                                                                               \
	X(COMMIT, 'c')                                                                             \
	X(RELEASE, 'f')                                                                            \
	X(RETURN, 'b')                                                                             \
	X(DROP, 'd')                                                                               \
	/* After a loss of data: to what the record says, as far as it can be had. */              \
	X(TO_RESERVED, 'R')                                                                        \
	X(TO_COMMITTED, 'C')                                                                       \
	X(TO_RETURNED, 'B') /* sold, and of that so much came back as the record says */           \
	X(TO_RELEASED, 'L')                                                                        \
	/* There is no record: it has forgotten the sale, if any. */                               \
	X(TO_UNSOLD, 'N')
#define PART_ACTION_ENUM(name, letter) PART_##name,
enum part_action { PART_ACTIONS(PART_ACTION_ENUM) PART_ACTION_COUNT };
#undef PART_ACTION_ENUM
char part_action_letter(enum part_action action);

struct part_rule {
	enum stock_state state;
	enum part_action action;
	enum stock_effect effect;
	enum stock_state to; /* STOCK_TRY: RESERVED, or UNAVAILABLE when short;
			      * STOCK_TAKE: COMMITTED, or the state stays when short */
};
const struct part_rule *part_rule(enum stock_state state, enum part_action action);

/* What is known of an order's parts: a set of states. */
#define PARTS_ARE(state) (1U << (unsigned)(state))

/* What comes next for a request. */
enum split_step {
	SPLIT_HOLD, /* each part */
	SPLIT_COMMIT,
	SPLIT_RELEASE,
	SPLIT_CONCLUDE, /* the record */
	SPLIT_OWED,     /* a promised part cannot be had: nothing is concluded */
	SPLIT_RETURN,   /* each part of which something came back */
	SPLIT_DROP,
};
/* What the parts say of the order; its letter in the function's arguments. */
#define SPLIT_VERDICTS(X)                                                                          \
	X(DONE, 'd')     /* as the rule of stock.h says */                                         \
	X(REFUSED, 'u')  /* some line was short */                                                 \
	X(RELEASED, 'l') /* a hold found a part that is released */
#define SPLIT_VERDICT_ENUM(name, letter) SPLIT_IS_##name,
enum split_verdict { SPLIT_VERDICTS(SPLIT_VERDICT_ENUM) SPLIT_VERDICT_COUNT };
#undef SPLIT_VERDICT_ENUM
char split_verdict_letter(enum split_verdict verdict);

/* The first step of a request that has read this record. */
enum split_step split_first(enum stock_request request, enum stock_state record);
/* The step behind one that was made in every part: `parts` are the states behind it. The verdict is
 * DONE in the beginning. */
enum split_step split_next(enum split_step step, unsigned parts, enum split_verdict *verdict);

#endif
