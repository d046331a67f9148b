/* shedding.h - which part of the new orders is refused, because order, inventory and Redis cannot keep up.
 *
 * Pure: no I/O, and the time is an argument. The order service says several times a second how much there is to do
 * (PlacementLoad), and the gateway knows how long calls wait before it reads them. Each number has a limit; the largest of the
 * parts that they ask to refuse counts, and says what the cause is.
 *
 * Where the number is how long a queue takes, and it is known how many orders a second leave the queue, so many are
 * taken: less while the queue is above its limit, more while it is below, so that it is at its limit SHED_BACK_MS later.
 * That holds for whatever rate orders come at. Of all others nothing is refused up to the limit; from there the part grows with the
 * number, up to all, at SHED_FULL times the limit, and ends below half of the limit.
 *
 * It begins when a number was above its limit for some time, so that a burst refuses nothing. When nothing is known any
 * more nothing is refused.
 *
 * Confirming, cancelling and reading are never refused: they make the load less, or tell callers what they have. */
#ifndef GATEWAY_SHEDDING_H
#define GATEWAY_SHEDDING_H

#include <stdbool.h>
#include <stdint.h>

/* The causes; as they are in the metrics, in the log and in settings. */
#define SHED_CAUSES(X)                                                                             \
	X(EVENTS, "events", "inventory is behind with events of orders")                           \
	X(AGE, "age", "inventory has not answered an event of an order for long")                  \
	X(STORING, "storing", "storing an order takes long")                                       \
	X(ARRIVING, "arriving", "the gateway is behind with reading calls")                        \
	X(MEMORY, "memory", "Redis's memory is nearly full")
#define SHED_CAUSE_ENUM(name, word, text) SHED_##name,
enum shed_cause { SHED_CAUSES(SHED_CAUSE_ENUM) SHED_CAUSE_COUNT };
#undef SHED_CAUSE_ENUM
const char *shed_cause_word(enum shed_cause cause);
const char *shed_cause_text(enum shed_cause cause);

#define SHED_BACK_MS 1000
#define SHED_QUEUE                                                                                 \
	3 /* times the limit: as much as may be in the queue for storing, once some are refused */
#define SHED_FULL 5 /* times the limit: all are refused. Of the memory: when all is used */
/* Of the memory alone not all are refused: Redis itself refuses those that have no room, and an order that is sent
 * again is still found. */
#define SHED_MEMORY_MOST 0.9
#define SHED_STALE_MS    3000 /* what is older is not known any more */

/* Times in ms; thousandths of the memory. 0: no limit. */
struct shed_limits {
	int64_t of[SHED_CAUSE_COUNT];
	int64_t events_few; /* so many events may wait: how long these take does not count */
};
struct shed_load {
	int64_t of[SHED_CAUSE_COUNT];
	/* Orders a second that leave the queue whose time this is, of late; 0: it is none, or that is not known. */
	double flow[SHED_CAUSE_COUNT];
	double offered; /* new orders a second, of late */
};
/* Zeroed memory refuses nothing. */
struct shedding {
	bool on;
	double share; /* of the new orders that is refused, 0 to 1 */
	enum shed_cause cause;
	int64_t looked_ms;
	int64_t asked_ms; /* before that nothing was asked for */
	double owed;      /* orders to refuse that were not */
};

/* The part that this load asks to refuse, and why. `on`: some are refused already. */
double shed_pressure(const struct shed_limits *limits, const struct shed_load *load, bool on,
		     enum shed_cause *ret_cause);
/* This is known now. True: it has begun, or ended. */
bool shed_look(struct shedding *shedding, const struct shed_limits *limits,
	       const struct shed_load *load, int64_t now_ms);
/* Nothing was heard for SHED_STALE_MS: it has ended. True if it was on. */
bool shed_forget(struct shedding *shedding, int64_t now_ms);
/* Whether the next order is to be refused. */
bool shed_refuses(struct shedding *shedding);

#endif
