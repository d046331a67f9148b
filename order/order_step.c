/* order_step.c - the rules of an order as one table: 11 states × 13 inputs, every pair a row.
 *
 * Rows that only a loss of stored data can reach are complete, too: they lead to a state in which
 * orders and stock agree again, or stay, so that the retry timer and the audit keep seeing the order. */
#include <string.h>

#include "base/base.h"
#include "order_step.h"

#define STATE_LETTER(name, letter, text, status, settled) [ORDER_##name] = (letter),
static const char state_letters[] = { ORDER_STATES(STATE_LETTER) };
#define STATE_TEXT(name, letter, text, status, settled) [ORDER_##name] = (text),
static const char *const state_text[] = { ORDER_STATES(STATE_TEXT) };
#define STATE_STATUS(name, letter, text, status, settled) [ORDER_##name] = (status),
static const char *const state_status[] = { ORDER_STATES(STATE_STATUS) };
#define STATE_SETTLED(name, letter, text, status, settled) [ORDER_##name] = (settled),
static const bool state_settled[] = { ORDER_STATES(STATE_SETTLED) };
#define INPUT_LETTER(name, letter) [ORDER_IN_##name] = (letter),
static const char input_letters[] = { ORDER_INPUTS(INPUT_LETTER) };
#define EVENT_TYPE(name, type, word, has_detail) [ORDER_EV_##name] = (type),
static const char *const event_types[] = { ORDER_EVENTS(EVENT_TYPE) };
#define EVENT_WORD(name, type, word, has_detail) [ORDER_EV_##name] = (word),
static const char *const event_words[] = { ORDER_EVENTS(EVENT_WORD) };
#define EVENT_HAS_DETAIL(name, type, word, has_detail) [ORDER_EV_##name] = (has_detail),
static const bool event_has_detail[] = { ORDER_EVENTS(EVENT_HAS_DETAIL) };

#define ROW(from, input, verdict, to, event, timer)                                                \
	[ORDER_##from][ORDER_IN_##input] = { ORDER_##from, ORDER_IN_##input, ORDER_##verdict,      \
					     ORDER_##to,   ORDER_EV_##event, ORDER_TIMER_##timer }
#define STAYS(from, input)   ROW(from, input, STAYS, from, NOTHING, KEEP)
#define REFUSES(from, input) ROW(from, input, REFUSES, from, NOTHING, KEEP)
#define DROPS(from, input)   ROW(from, input, DROPS, from, DROPPED, NONE)

/* clang-format off */
static const struct order_rule rules[ORDER_STATE_COUNT][ORDER_INPUT_COUNT] = {
	/*  in this state  when this happens      it        to          publishing timer */

	ROW(PENDING,    INVENTORY_RESERVED,    MOVES, RESERVED,   RESERVED,  HOLD),
	ROW(PENDING,    INVENTORY_UNAVAILABLE, MOVES, REJECTED,   REJECTED,  NONE),
	/* Its confirm was lost with stored data, the sale was not: the sale counts. */
	ROW(PENDING,    INVENTORY_COMMITTED,   MOVES, CONFIRMING, CONFIRMED, RETRY),
	/* Data was lost, and the release is recorded: every repeat of the request would find it. Called off; the
	 * release is requested once more, as for RESERVED. */
	ROW(PENDING,    INVENTORY_RELEASED,    MOVES, CANCELLING, CANCELLED, RETRY),
	STAYS(PENDING, INVENTORY_RETURNED),
	REFUSES(PENDING, CONFIRM),
	ROW(PENDING,    CANCEL,                MOVES, CANCELLING, CANCELLED, RETRY),
	REFUSES(PENDING, EXTEND),
	REFUSES(PENDING, RETURN),
	ROW(PENDING,    REQUEST_UNANSWERED,    AGAIN, PENDING,    PLACED,    RETRY),
	ROW(PENDING,    DEADLINE_PASSED,       MOVES, EXPIRING,   EXPIRED,   RETRY),
	/* No hold runs yet: a timer that was read before the last move. */
	STAYS(PENDING,  HOLD_RAN_OUT),
	/* Not settled: there is more to come. */
	STAYS(PENDING, ARCHIVED),

	/* Delivered twice. */
	STAYS(RESERVED, INVENTORY_RESERVED),
	/* The reservation was lost, and its repeat refused: nothing is held, and it must not be
	 * sold. Inventory is asked to release what it may still hold. */
	ROW(RESERVED,   INVENTORY_UNAVAILABLE, MOVES, REJECTING,  REJECTED,  RETRY),
	/* As in PENDING: the sale counts. */
	ROW(RESERVED,   INVENTORY_COMMITTED,   MOVES, CONFIRMING, CONFIRMED, RETRY),
	/* The reservation was lost. The release is requested once more; a repeat changes nothing. */
	ROW(RESERVED,   INVENTORY_RELEASED,    MOVES, CANCELLING, CANCELLED, RETRY),
	STAYS(RESERVED, INVENTORY_RETURNED),
	ROW(RESERVED,   CONFIRM,               MOVES, CONFIRMING, CONFIRMED, RETRY),
	ROW(RESERVED,   CANCEL,                MOVES, CANCELLING, CANCELLED, RETRY),
	/* Only if it ends later then, and within its limits: functions.lua. */
	ROW(RESERVED,   EXTEND,                MOVES, RESERVED,   EXTENDED,  HOLD),
	REFUSES(RESERVED, RETURN),
	/* The answer won against the retry timer. */
	STAYS(RESERVED, REQUEST_UNANSWERED),
	/* The answer won against the deadline. */
	STAYS(RESERVED, DEADLINE_PASSED),
	ROW(RESERVED,   HOLD_RAN_OUT,          MOVES, EXPIRING,   EXPIRED,   RETRY),
	STAYS(RESERVED, ARCHIVED),

	/* The release that was already requested covers it. */
	STAYS(REJECTING, INVENTORY_RESERVED),
	/* This may be the old refusal, delivered again, so stock may still be held. The repeated
	 * request is answered anyway. */
	STAYS(REJECTING, INVENTORY_UNAVAILABLE),
	/* Sold and refused at once cannot be repaired here: stays unsettled, so that it is noticed. */
	STAYS(REJECTING, INVENTORY_COMMITTED),
	ROW(REJECTING,  INVENTORY_RELEASED,    MOVES, REJECTED,   SETTLED,   NONE),
	STAYS(REJECTING, INVENTORY_RETURNED),
	REFUSES(REJECTING, CONFIRM),
	REFUSES(REJECTING, CANCEL),
	REFUSES(REJECTING, EXTEND),
	REFUSES(REJECTING, RETURN),
	ROW(REJECTING,  REQUEST_UNANSWERED,    AGAIN, REJECTING,  REJECTED,  RETRY),
	/* Timers that were read before the last move. */
	STAYS(REJECTING, DEADLINE_PASSED),
	STAYS(REJECTING, HOLD_RAN_OUT),
	STAYS(REJECTING, ARCHIVED),

	/* The refusal was lost with stored data, and a repeated request found stock: inventory holds
	 * it for an order that was refused, and is asked to release it. */
	ROW(REJECTED,   INVENTORY_RESERVED,    MOVES, REJECTING,  REJECTED,  RETRY),
	/* Delivered twice. */
	STAYS(REJECTED, INVENTORY_UNAVAILABLE),
	/* Sold and refused at once cannot be repaired here: the audit reports it. */
	STAYS(REJECTED, INVENTORY_COMMITTED),
	/* Delivered twice, or found by an OrderRejected that asked for nothing. */
	STAYS(REJECTED, INVENTORY_RELEASED),
	STAYS(REJECTED, INVENTORY_RETURNED),
	REFUSES(REJECTED, CONFIRM),
	REFUSES(REJECTED, CANCEL),
	REFUSES(REJECTED, EXTEND),
	REFUSES(REJECTED, RETURN),
	/* Final and settled: timers that were read before the last move. */
	STAYS(REJECTED, REQUEST_UNANSWERED),
	STAYS(REJECTED, DEADLINE_PASSED),
	STAYS(REJECTED, HOLD_RAN_OUT),
	DROPS(REJECTED, ARCHIVED),

	/* Late or twice: the commit is on its way. */
	STAYS(CONFIRMING, INVENTORY_RESERVED),
	/* The client has its confirmation: ask for the commit until it is answered. */
	STAYS(CONFIRMING, INVENTORY_UNAVAILABLE),
	ROW(CONFIRMING, INVENTORY_COMMITTED,   MOVES, CONFIRMED,  SETTLED,   NONE),
	/* As for unavailable. */
	STAYS(CONFIRMING, INVENTORY_RELEASED),
	STAYS(CONFIRMING, INVENTORY_RETURNED),
	/* Asked for already. */
	STAYS(CONFIRMING, CONFIRM),
	REFUSES(CONFIRMING, CANCEL),
	REFUSES(CONFIRMING, EXTEND),
	REFUSES(CONFIRMING, RETURN),
	ROW(CONFIRMING, REQUEST_UNANSWERED,    AGAIN, CONFIRMING, CONFIRMED, RETRY),
	/* Decided long ago. */
	STAYS(CONFIRMING, DEADLINE_PASSED),
	/* The confirm won against the hold. */
	STAYS(CONFIRMING, HOLD_RAN_OUT),
	STAYS(CONFIRMING, ARCHIVED),

	/* Late or twice: sold is sold. */
	STAYS(CONFIRMED, INVENTORY_RESERVED),
	STAYS(CONFIRMED, INVENTORY_UNAVAILABLE),
	STAYS(CONFIRMED, INVENTORY_COMMITTED),
	/* Sold and released at once cannot be repaired here: the audit reports it. */
	STAYS(CONFIRMED, INVENTORY_RELEASED),
	STAYS(CONFIRMED, INVENTORY_RETURNED),
	/* Done already. */
	STAYS(CONFIRMED, CONFIRM),
	REFUSES(CONFIRMED, CANCEL),
	REFUSES(CONFIRMED, EXTEND),
	/* Within what was bought and did not come back before: order_return.h. */
	ROW(CONFIRMED,  RETURN,                MOVES, RETURNING,  RETURNED,  RETRY),
	/* Final and settled: timers that were read before the last move. */
	STAYS(CONFIRMED, REQUEST_UNANSWERED),
	STAYS(CONFIRMED, DEADLINE_PASSED),
	STAYS(CONFIRMED, HOLD_RAN_OUT),
	DROPS(CONFIRMED, ARCHIVED),

	/* Sold is sold; late or twice. */
	STAYS(RETURNING, INVENTORY_RESERVED),
	STAYS(RETURNING, INVENTORY_UNAVAILABLE),
	STAYS(RETURNING, INVENTORY_COMMITTED),
	/* As for CONFIRMED: it stays unsettled, so that it is noticed. */
	STAYS(RETURNING, INVENTORY_RELEASED),
	/* Only the answer to this version's request: one to an earlier return does not cover this one. */
	ROW(RETURNING,  INVENTORY_RETURNED,    MOVES, CONFIRMED,  SETTLED,   NONE),
	/* Done already. */
	STAYS(RETURNING, CONFIRM),
	REFUSES(RETURNING, CANCEL),
	REFUSES(RETURNING, EXTEND),
	/* More comes back: the request says what came back in all, so the earlier one needs no answer. */
	ROW(RETURNING,  RETURN,                MOVES, RETURNING,  RETURNED,  RETRY),
	ROW(RETURNING,  REQUEST_UNANSWERED,    AGAIN, RETURNING,  RETURNED,  RETRY),
	/* Decided long ago. */
	STAYS(RETURNING, DEADLINE_PASSED),
	STAYS(RETURNING, HOLD_RAN_OUT),
	STAYS(RETURNING, ARCHIVED),

	/* The cancel overtook the answer: the release is on its way and covers it. */
	STAYS(CANCELLING, INVENTORY_RESERVED),
	/* Nothing was held; the release is still answered. */
	STAYS(CANCELLING, INVENTORY_UNAVAILABLE),
	/* Sold and cancelled at once cannot be repaired here: stays unsettled, so that it is noticed. */
	STAYS(CANCELLING, INVENTORY_COMMITTED),
	ROW(CANCELLING, INVENTORY_RELEASED,    MOVES, CANCELLED,  SETTLED,   NONE),
	STAYS(CANCELLING, INVENTORY_RETURNED),
	REFUSES(CANCELLING, CONFIRM),
	/* Asked for already. */
	STAYS(CANCELLING, CANCEL),
	REFUSES(CANCELLING, EXTEND),
	REFUSES(CANCELLING, RETURN),
	ROW(CANCELLING, REQUEST_UNANSWERED,    AGAIN, CANCELLING, CANCELLED, RETRY),
	/* The cancel won against the deadline, and against the hold. */
	STAYS(CANCELLING, DEADLINE_PASSED),
	STAYS(CANCELLING, HOLD_RAN_OUT),
	STAYS(CANCELLING, ARCHIVED),

	/* The answer arrived after the order was settled: stock may be held, so the release is
	 * requested again. It is keyed by the order: a repeat changes nothing. */
	ROW(CANCELLED,  INVENTORY_RESERVED,    MOVES, CANCELLING, CANCELLED, RETRY),
	/* Late or twice: nothing is held. */
	STAYS(CANCELLED, INVENTORY_UNAVAILABLE),
	/* Sold and cancelled at once cannot be repaired here: the audit reports it. */
	STAYS(CANCELLED, INVENTORY_COMMITTED),
	/* Delivered twice. */
	STAYS(CANCELLED, INVENTORY_RELEASED),
	STAYS(CANCELLED, INVENTORY_RETURNED),
	REFUSES(CANCELLED, CONFIRM),
	/* Done already. */
	STAYS(CANCELLED, CANCEL),
	REFUSES(CANCELLED, EXTEND),
	REFUSES(CANCELLED, RETURN),
	/* Final and settled: timers that were read before the last move. */
	STAYS(CANCELLED, REQUEST_UNANSWERED),
	STAYS(CANCELLED, DEADLINE_PASSED),
	STAYS(CANCELLED, HOLD_RAN_OUT),
	DROPS(CANCELLED, ARCHIVED),

	/* The deadline overtook the answer: the release is on its way and covers it. */
	STAYS(EXPIRING, INVENTORY_RESERVED),
	/* Nothing was held; the release is still answered. */
	STAYS(EXPIRING, INVENTORY_UNAVAILABLE),
	/* Sold and expired at once cannot be repaired here: stays unsettled, so that it is noticed. */
	STAYS(EXPIRING, INVENTORY_COMMITTED),
	ROW(EXPIRING,   INVENTORY_RELEASED,    MOVES, EXPIRED,    SETTLED,   NONE),
	STAYS(EXPIRING, INVENTORY_RETURNED),
	REFUSES(EXPIRING, CONFIRM),
	REFUSES(EXPIRING, CANCEL),
	REFUSES(EXPIRING, EXTEND),
	REFUSES(EXPIRING, RETURN),
	ROW(EXPIRING,   REQUEST_UNANSWERED,    AGAIN, EXPIRING,   EXPIRED,   RETRY),
	/* Expired already. */
	STAYS(EXPIRING, DEADLINE_PASSED),
	STAYS(EXPIRING, HOLD_RAN_OUT),
	STAYS(EXPIRING, ARCHIVED),

	/* As for CANCELLED. */
	ROW(EXPIRED,    INVENTORY_RESERVED,    MOVES, EXPIRING,   EXPIRED,   RETRY),
	STAYS(EXPIRED,  INVENTORY_UNAVAILABLE),
	STAYS(EXPIRED,  INVENTORY_COMMITTED),
	STAYS(EXPIRED,  INVENTORY_RELEASED),
	STAYS(EXPIRED, INVENTORY_RETURNED),
	REFUSES(EXPIRED, CONFIRM),
	REFUSES(EXPIRED, CANCEL),
	REFUSES(EXPIRED, EXTEND),
	REFUSES(EXPIRED, RETURN),
	STAYS(EXPIRED,  REQUEST_UNANSWERED),
	STAYS(EXPIRED,  DEADLINE_PASSED),
	STAYS(EXPIRED,  HOLD_RAN_OUT),
	DROPS(EXPIRED, ARCHIVED),
};
/* clang-format on */

const struct order_rule *order_rule(enum order_state state, enum order_input input)
{
	return &rules[state][input];
}

enum order_state order_state_after(enum order_state state, enum order_event event)
{
	for (int input = 0; input < ORDER_INPUT_COUNT; input++)
		if (rules[state][input].event == event)
			return rules[state][input].to;
	return state;
}

bool order_state_parse(const char *text, size_t length, enum order_state *ret)
{
	for (int state = 0; state < ORDER_STATE_COUNT; state++)
		if (strlen(state_text[state]) == length &&
		    memcmp(state_text[state], text, length) == 0) {
			*ret = (enum order_state)state;
			return true;
		}
	return false;
}

const char *order_state_text(enum order_state state)
{
	return state_text[state];
}

const char *order_state_status(enum order_state state)
{
	return state_status[state];
}

bool order_state_settled(enum order_state state)
{
	return state_settled[state];
}

bool order_state_final(enum order_state state)
{
	return state != ORDER_PENDING && state != ORDER_RESERVED;
}

bool order_state_waits(enum order_state state)
{
	return !state_settled[state] && state != ORDER_RESERVED;
}

const char *order_event_type(enum order_event event)
{
	return event_types[event];
}

const char *order_event_word(enum order_event event)
{
	return event_words[event];
}

bool order_event_has_detail(enum order_event event)
{
	return event_has_detail[event];
}

char order_input_letter(enum order_input input)
{
	return input_letters[input];
}

char order_state_letter(enum order_state state)
{
	return state_letters[state];
}

bool order_state_of_letter(char letter, enum order_state *ret)
{
	const char *at = memchr(state_letters, letter, sizeof(state_letters));

	if (at == NULL)
		return false;
	*ret = (enum order_state)(at - state_letters);
	return true;
}

int64_t order_retry_due(int64_t now_ms, uint32_t attempt, int64_t min_ms, int64_t max_ms,
			uint32_t jitter)
{
	int64_t delay_ms = min_ms;

	for (uint32_t i = 1; i < attempt && delay_ms < max_ms; i++)
		delay_ms *= 2;
	delay_ms = RT_MIN(delay_ms, max_ms);
	/* 0…999 makes 75 % … 125 %. */
	return now_ms + delay_ms * 3 / 4 + delay_ms * (int64_t)jitter / 2000;
}

enum order_input order_timer_input(enum order_state state, int64_t created_ms, int64_t now_ms,
				   const struct order_clock *clock)
{
	if (state == ORDER_RESERVED)
		return ORDER_IN_HOLD_RAN_OUT;
	if (state == ORDER_PENDING && now_ms - created_ms >= clock->decision_ms)
		return ORDER_IN_DEADLINE_PASSED;
	return ORDER_IN_REQUEST_UNANSWERED;
}
