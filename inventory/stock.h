/* stock.h - the rules of stock and reservations.
 *
 * Pure: no I/O. The tables here and in stock.c are the only place for what each request does to a
 * reservation. The Redis functions run them: during the build tables.c writes them into the library.
 *
 *   none ─placed─▶ RESERVED ─commit─▶ COMMITTED ─return─▶ RETURNED (some of it, or all)
 *     │     │          └─release─▶ RELEASED
 *     │     └▶ UNAVAILABLE ─release─▶ RELEASED   (a retry never turns a refusal into a sale)
 *     └─release (it overtook its order)─▶ RELEASED
 *
 * When the order is dropped its reservation is: then there is none any more, and of a sale the sum of all that were
 * dropped is kept for each SKU.
 *
 * Every request whose order waits is answered, a repeated one with the recorded answer. A
 * change of state gives exactly one answer: its version is the answer's seq. */
#ifndef INVENTORY_STOCK_H
#define INVENTORY_STOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STOCK_STATES(X)                                                                            \
	X(NONE, 'N', "")                                                                           \
	X(RESERVED, 'R', "RESERVED")                                                               \
	X(UNAVAILABLE, 'U', "UNAVAILABLE")                                                         \
	X(COMMITTED, 'C', "COMMITTED")                                                             \
	X(RELEASED, 'L', "RELEASED")                                                               \
	X(RETURNED, 'B', "RETURNED")
#define STOCK_STATE_ENUM(name, letter, text) STOCK_##name,
enum stock_state { STOCK_STATES(STOCK_STATE_ENUM) STOCK_STATE_COUNT };
#undef STOCK_STATE_ENUM

/* What an order can ask for, by which event, and from which attempt on. OrderRejected usually follows
 * the refusal and asks for nothing; a repeated one needs an answer. */
#define STOCK_REQUESTS(X)                                                                          \
	X(RESERVE, 'r', "tandem.order.v1.OrderPlaced", 1)                                          \
	X(COMMIT, 'm', "tandem.order.v1.OrderConfirmed", 1)                                        \
	X(RELEASE, 'l', "tandem.order.v1.OrderCancelled", 1)                                       \
	X(EXPIRE, 'e', "tandem.order.v1.OrderExpired", 1)                                          \
	X(REJECT, 'j', "tandem.order.v1.OrderRejected", 1)                                         \
	X(REJECT_AGAIN, 'k', "tandem.order.v1.OrderRejected", 2)                                   \
	X(RETURN, 'b', "tandem.order.v1.OrderReturned", 1)                                         \
	/* The order is no longer kept, since it has ended and the archive has it. */              \
	X(DROP, 'd', "tandem.order.v1.OrderDropped", 1)
#define STOCK_REQUEST_ENUM(name, letter, type, attempt_min) STOCK_REQ_##name,
enum stock_request { STOCK_REQUESTS(STOCK_REQUEST_ENUM) STOCK_REQUEST_COUNT };
#undef STOCK_REQUEST_ENUM

/* The answers. */
#define STOCK_ANSWERS(X)                                                                           \
	X(NOTHING, '-', NULL)                                                                      \
	X(RESERVED, 'R', "tandem.inventory.v1.InventoryReserved")                                  \
	X(UNAVAILABLE, 'U', "tandem.inventory.v1.InventoryUnavailable")                            \
	X(COMMITTED, 'C', "tandem.inventory.v1.InventoryCommitted")                                \
	X(RELEASED, 'L', "tandem.inventory.v1.InventoryReleased")                                  \
	X(RETURNED, 'B', "tandem.inventory.v1.InventoryReturned")
#define STOCK_ANSWER_ENUM(name, letter, type) STOCK_ANS_##name,
enum stock_answer { STOCK_ANSWERS(STOCK_ANSWER_ENUM) STOCK_ANSWER_COUNT };
#undef STOCK_ANSWER_ENUM

enum stock_effect {
	STOCK_KEEP,      /* counters stay */
	STOCK_TRY,       /* available → reserved for every line, or UNAVAILABLE */
	STOCK_COMMIT_IT, /* reserved → committed */
	STOCK_GIVE_BACK, /* reserved → available */
	/* committed → available: what came back in all, as the request says it, and was not available before. Never more than
	 * was sold. */
	STOCK_TAKE_BACK,
	/* Removed. What was sold stays committed: it is added to what was sold and dropped. */
	STOCK_DROP_IT,
	/* Of parts only (parts.h). */
	STOCK_TAKE,      /* available → committed */
	STOCK_HOLD_IT,   /* committed → reserved */
	STOCK_CALL_BACK, /* committed → available */
};
struct stock_rule {
	enum stock_state state;
	enum stock_request request;
	enum stock_effect effect;
	enum stock_state to; /* STOCK_TRY: RESERVED, or UNAVAILABLE when short */
	enum stock_answer answer;
	bool unexpected; /* cannot happen unless something was lost: counted, warned about */
};
const struct stock_rule *stock_rule(enum stock_state state, enum stock_request request);
/* COMMITTED, or RETURNED. */
bool stock_state_sold(enum stock_state state);
bool stock_state_parse(const char *text, enum stock_state *ret);
const char *stock_state_text(enum stock_state state);
/* Which request an event of this type and attempt is; false: it is not a request. */
bool stock_request_parse(const char *type, uint32_t attempt, enum stock_request *ret);
const char *stock_request_type(enum stock_request request);
const char *stock_answer_type(enum stock_answer answer);
/* The letters in the functions' arguments and answers. */
char stock_request_letter(enum stock_request request);
char stock_state_letter(enum stock_state state);
char stock_answer_letter(enum stock_answer answer);
bool stock_state_of_letter(char letter, enum stock_state *ret);
bool stock_answer_of_letter(char letter, enum stock_answer *ret);

/* The counters of a SKU. received = available + reserved + committed, always. */
struct stock {
	uint64_t available, reserved, committed, received, version;
	uint64_t threshold; /* fewer available are low; 0: none is set */
};
#define STOCK_MAX 1000000000000 /* received at most: exact in the functions' doubles */
bool stock_adds_up(const struct stock *stock);
bool stock_is_low(const struct stock *stock);

#endif
