/* order_step.h - the rules of an order: which input moves it where, and what inventory is asked for.
 *
 * Pure: no I/O, no clock. The tables here and in order_step.c are the only place for rules. The Redis
 * functions run them, because only they see the status at the instant of the change: during the build
 * tables.c writes them into the library as Lua. The service, ctl and the audit read them in C.
 *
 *   PENDING ─reserved──▶ RESERVED ─confirm─▶ CONFIRMED~ ─committed─▶ CONFIRMED ─return─▶ RETURNED~ ─returned─▶ CONFIRMED
 *      │                    ├─extend──▶ RESERVED, its hold ends later
 *      │                    ├─cancel──▶ CANCELLED~ ─released──▶ CANCELLED
 *      │                    └─hold ran out──▶ EXPIRED~ ─released──▶ EXPIRED
 *      ├─unavailable──▶ REJECTED
 *      ├─cancel──▶ CANCELLED~
 *      └─decision deadline──▶ EXPIRED~                 (~: not settled: inventory was asked)
 *
 * Once the archive has all of a settled order it is dropped: then there is no such order any more.
 *
 * Only after a loss of stored data: RESERVED ─unavailable─▶ REJECTED~ ◀─reserved─ REJECTED, and
 * REJECTED~ ─released─▶ REJECTED; a reservation reopens CANCELLED and EXPIRED, too. */
#ifndef ORDER_STEP_H
#define ORDER_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* State: letter (in the functions' answers; never stored), stored form, status, settled. */
#define ORDER_STATES(X)                                                                            \
	X(PENDING, 'P', "PENDING", "PENDING", false)                                               \
	X(RESERVED, 'R', "RESERVED", "RESERVED", false)                                            \
	X(REJECTING, 'j', "REJECTED~", "REJECTED", false)                                          \
	X(REJECTED, 'J', "REJECTED", "REJECTED", true)                                             \
	X(CONFIRMING, 'c', "CONFIRMED~", "CONFIRMED", false)                                       \
	X(CONFIRMED, 'C', "CONFIRMED", "CONFIRMED", true)                                          \
	X(RETURNING, 'b', "RETURNED~", "CONFIRMED", false)                                         \
	X(CANCELLING, 'x', "CANCELLED~", "CANCELLED", false)                                       \
	X(CANCELLED, 'X', "CANCELLED", "CANCELLED", true)                                          \
	X(EXPIRING, 'e', "EXPIRED~", "EXPIRED", false)                                             \
	X(EXPIRED, 'E', "EXPIRED", "EXPIRED", true)
#define ORDER_STATE_ENUM(name, letter, text, status, settled) ORDER_##name,
enum order_state { ORDER_STATES(ORDER_STATE_ENUM) ORDER_STATE_COUNT };
#undef ORDER_STATE_ENUM

/* What can happen to an order, and its letter (in the functions' arguments). */
#define ORDER_INPUTS(X)                                                                            \
	X(INVENTORY_RESERVED, 'r')                                                                 \
	X(INVENTORY_UNAVAILABLE, 'u')                                                              \
	X(INVENTORY_COMMITTED, 'm')                                                                \
	X(INVENTORY_RELEASED, 'l')                                                                 \
	X(INVENTORY_RETURNED, 'b')                                                                 \
	X(CONFIRM, 'f')            /* a client's */                                                \
	X(CANCEL, 'n')             /* a client's */                                                \
	X(EXTEND, 'e')             /* a client's */                                                \
	X(RETURN, 't')             /* a client's */                                                \
	X(REQUEST_UNANSWERED, 'a') /* the retry timer ran out */                                   \
	X(DEADLINE_PASSED, 'd')    /* no decision in time */                                       \
	X(HOLD_RAN_OUT, 'h')                                                                       \
	X(ARCHIVED, 'v') /* the archive has all of it, up to this version */
#define ORDER_INPUT_ENUM(name, letter) ORDER_IN_##name,
enum order_input { ORDER_INPUTS(ORDER_INPUT_ENUM) ORDER_INPUT_COUNT };
#undef ORDER_INPUT_ENUM

/* The event that a move publishes: type, word in the order's history, whether its content is kept as
 * the order's detail. That of EXTENDED is not: the order's hold says it. */
#define ORDER_EVENTS(X)                                                                            \
	X(NOTHING, NULL, NULL, false)                                                              \
	X(PLACED, "tandem.order.v1.OrderPlaced", "placed", false)                                  \
	X(RESERVED, "tandem.order.v1.OrderReserved", "reserved", false)                            \
	X(REJECTED, "tandem.order.v1.OrderRejected", "rejected", true)                             \
	X(EXTENDED, "tandem.order.v1.OrderHoldExtended", "extended", false)                        \
	X(CONFIRMED, "tandem.order.v1.OrderConfirmed", "confirmed", false)                         \
	X(RETURNED, "tandem.order.v1.OrderReturned", "returned", true)                             \
	X(CANCELLED, "tandem.order.v1.OrderCancelled", "cancelled", true)                          \
	X(EXPIRED, "tandem.order.v1.OrderExpired", "expired", true)                                \
	X(SETTLED, "tandem.order.v1.OrderSettled", "settled", false)                               \
	X(DROPPED, "tandem.order.v1.OrderDropped", "dropped", false)
#define ORDER_AGAIN_WORD                               "again" /* in the history: the last request was published once more */
#define ORDER_EXTENSIONS_MAX                           20 /* of an order's hold: each takes its place in the history */
#define ORDER_EVENT_ENUM(name, type, word, has_detail) ORDER_EV_##name,
enum order_event { ORDER_EVENTS(ORDER_EVENT_ENUM) ORDER_EVENT_COUNT };
#undef ORDER_EVENT_ENUM

/* What an input does in a state. */
enum order_verdict {
	ORDER_MOVES,   /* a new version: state, event and timer as the rule says */
	ORDER_AGAIN,   /* the request is published once more, attempt + 1; no new version */
	ORDER_STAYS,   /* already done, or already under way: nothing to do, and no error */
	ORDER_REFUSES, /* a client asked for what the status does not allow */
	ORDER_DROPS,   /* the order is removed, and its last event published */
};
enum order_timer {
	ORDER_TIMER_KEEP,
	ORDER_TIMER_NONE, /* removed: settled */
	/* The event asks inventory for something, and is published again until it is answered. */
	ORDER_TIMER_RETRY,
	ORDER_TIMER_HOLD, /* the end of the order's hold */
};
struct order_rule {
	enum order_state state;
	enum order_input input;
	enum order_verdict verdict;
	enum order_state to;
	enum order_event event;
	enum order_timer timer;
};
/* The rule for a pair: every pair has exactly one. */
const struct order_rule *order_rule(enum order_state state, enum order_input input);
/* The state an event leads to; the same when no rule publishes it in this state. */
enum order_state order_state_after(enum order_state state, enum order_event event);

/* State from its stored form, and back. False: no such state. */
bool order_state_parse(const char *text, size_t length, enum order_state *ret);
const char *order_state_text(enum order_state state);   /* "CANCELLED~" */
const char *order_state_status(enum order_state state); /* "CANCELLED" */
bool order_state_settled(enum order_state state);
bool order_state_final(enum order_state state);
/* Inventory was asked for something, and has not answered. */
bool order_state_waits(enum order_state state);
const char *order_event_type(enum order_event event); /* NULL: NOTHING's */
const char *order_event_word(enum order_event event); /* NULL: NOTHING's */
bool order_event_has_detail(enum order_event event);
/* The letters in the functions' arguments and answers. */
char order_input_letter(enum order_input input);
char order_state_letter(enum order_state state);
bool order_state_of_letter(char letter, enum order_state *ret);

/* When to publish a request again: attempt 1 was just sent at `now_ms`. Doubles from min to max,
 * ±25 % by `jitter` (0…999). Unix ms. */
int64_t order_retry_due(int64_t now_ms, uint32_t attempt, int64_t min_ms, int64_t max_ms,
			uint32_t jitter);

/* What an unsettled order's timer means when it runs out. */
struct order_clock {
	int64_t decision_ms; /* PENDING for longer than this: DEADLINE_PASSED */
	int64_t retry_min_ms, retry_max_ms;
};
enum order_input order_timer_input(enum order_state state, int64_t created_ms, int64_t now_ms,
				   const struct order_clock *clock);

#endif
