/* stock.c - the rules of stock.h as one table.
 *
 * Each pair of state and request has exactly one row; rows are sorted by state, then by request. */
#include "stock.h"

#include <string.h>

/* Short names keep a row on a line. */
#define S(name) STOCK_##name
#define Q(name) STOCK_REQ_##name
#define A(name) STOCK_ANS_##name

static const struct stock_rule rules[STOCK_STATE_COUNT * STOCK_REQUEST_COUNT] = {
	/* state, request, effect, to, answer, unexpected */

	/* A new order. */
	{ S(NONE), Q(RESERVE), STOCK_TRY, S(RESERVED), A(RESERVED), false },
	/* Confirmed, but nothing is known of a reservation: ours was lost. Nothing is recorded, so
	 * that a late OrderPlaced can still reserve and the repeated confirm then commits. */
	{ S(NONE), Q(COMMIT), STOCK_KEEP, S(NONE), A(NOTHING), true },
	/* The release overtook its order: a tombstone, for the late OrderPlaced to find. */
	{ S(NONE), Q(RELEASE), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	{ S(NONE), Q(EXPIRE), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	/* Rejected although nothing was ever refused here: the refusal was lost. Tombstone. */
	{ S(NONE), Q(REJECT), STOCK_KEEP, S(RELEASED), A(RELEASED), true },
	{ S(NONE), Q(REJECT_AGAIN), STOCK_KEEP, S(RELEASED), A(RELEASED), true },
	/* Returned, but nothing is known of a sale: ours was lost. The order keeps asking, and the audit names it. */
	{ S(NONE), Q(RETURN), STOCK_KEEP, S(NONE), A(NOTHING), true },
	/* Dropped already. */
	{ S(NONE), Q(DROP), STOCK_KEEP, S(NONE), A(NOTHING), false },

	/* Asked again: the answer was lost or late, or the event was delivered twice. */
	{ S(RESERVED), Q(RESERVE), STOCK_KEEP, S(RESERVED), A(RESERVED), false },
	{ S(RESERVED), Q(COMMIT), STOCK_COMMIT_IT, S(COMMITTED), A(COMMITTED), false },
	{ S(RESERVED), Q(RELEASE), STOCK_GIVE_BACK, S(RELEASED), A(RELEASED), false },
	{ S(RESERVED), Q(EXPIRE), STOCK_GIVE_BACK, S(RELEASED), A(RELEASED), false },
	/* The order ended as rejected while its stock is held: nothing else would release it. */
	{ S(RESERVED), Q(REJECT), STOCK_GIVE_BACK, S(RELEASED), A(RELEASED), true },
	{ S(RESERVED), Q(REJECT_AGAIN), STOCK_GIVE_BACK, S(RELEASED), A(RELEASED), true },
	/* Not sold yet: the commit was lost with stored data. */
	{ S(RESERVED), Q(RETURN), STOCK_KEEP, S(RESERVED), A(NOTHING), true },
	/* An order that has ended holds nothing: something was lost. Nobody else would release it. */
	{ S(RESERVED), Q(DROP), STOCK_GIVE_BACK, S(NONE), A(NOTHING), true },

	/* A refusal stays, even when there is stock by now. */
	{ S(UNAVAILABLE), Q(RESERVE), STOCK_KEEP, S(UNAVAILABLE), A(UNAVAILABLE), false },
	/* A confirm of what was refused: the order missed the refusal, publish it again. */
	{ S(UNAVAILABLE), Q(COMMIT), STOCK_KEEP, S(UNAVAILABLE), A(UNAVAILABLE), true },
	/* Cancelled or expired before the refusal was read. The order waits for a release; a state
	 * of its own gives that answer a seq of its own. */
	{ S(UNAVAILABLE), Q(RELEASE), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	{ S(UNAVAILABLE), Q(EXPIRE), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	/* The order has handled the refusal: the usual end, and it waits for nothing. */
	{ S(UNAVAILABLE), Q(REJECT), STOCK_KEEP, S(UNAVAILABLE), A(NOTHING), false },
	/* An earlier reservation was lost, but the order knows of it: it waits for a release. */
	{ S(UNAVAILABLE), Q(REJECT_AGAIN), STOCK_KEEP, S(RELEASED), A(RELEASED), true },
	/* Never sold. */
	{ S(UNAVAILABLE), Q(RETURN), STOCK_KEEP, S(UNAVAILABLE), A(NOTHING), true },
	{ S(UNAVAILABLE), Q(DROP), STOCK_DROP_IT, S(NONE), A(NOTHING), false },

	/* A repeated old OrderPlaced: answer the current state. */
	{ S(COMMITTED), Q(RESERVE), STOCK_KEEP, S(COMMITTED), A(COMMITTED), false },
	{ S(COMMITTED), Q(COMMIT), STOCK_KEEP, S(COMMITTED), A(COMMITTED), false },
	/* Sold stays sold: a confirmed order cannot also have ended in another way. */
	{ S(COMMITTED), Q(RELEASE), STOCK_KEEP, S(COMMITTED), A(COMMITTED), true },
	{ S(COMMITTED), Q(EXPIRE), STOCK_KEEP, S(COMMITTED), A(COMMITTED), true },
	{ S(COMMITTED), Q(REJECT), STOCK_KEEP, S(COMMITTED), A(COMMITTED), true },
	{ S(COMMITTED), Q(REJECT_AGAIN), STOCK_KEEP, S(COMMITTED), A(COMMITTED), true },
	{ S(COMMITTED), Q(RETURN), STOCK_TAKE_BACK, S(RETURNED), A(RETURNED), false },
	{ S(COMMITTED), Q(DROP), STOCK_DROP_IT, S(NONE), A(NOTHING), false },

	/* The late OrderPlaced finds the tombstone, or an old one was delivered again. */
	{ S(RELEASED), Q(RESERVE), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	/* Released stock may be held by others by now: report it to the order. */
	{ S(RELEASED), Q(COMMIT), STOCK_KEEP, S(RELEASED), A(RELEASED), true },
	{ S(RELEASED), Q(RELEASE), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	{ S(RELEASED), Q(EXPIRE), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	/* Released already: the answer was lost, or the event was delivered twice. */
	{ S(RELEASED), Q(REJECT), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	{ S(RELEASED), Q(REJECT_AGAIN), STOCK_KEEP, S(RELEASED), A(RELEASED), false },
	/* Not sold any more: it cannot come back once more. */
	{ S(RELEASED), Q(RETURN), STOCK_KEEP, S(RELEASED), A(NOTHING), true },
	{ S(RELEASED), Q(DROP), STOCK_DROP_IT, S(NONE), A(NOTHING), false },

	/* What came back stays said: a repeated request is answered with the current state. */
	{ S(RETURNED), Q(RESERVE), STOCK_KEEP, S(RETURNED), A(RETURNED), false },
	{ S(RETURNED), Q(COMMIT), STOCK_KEEP, S(RETURNED), A(RETURNED), false },
	/* As for COMMITTED. */
	{ S(RETURNED), Q(RELEASE), STOCK_KEEP, S(RETURNED), A(RETURNED), true },
	{ S(RETURNED), Q(EXPIRE), STOCK_KEEP, S(RETURNED), A(RETURNED), true },
	{ S(RETURNED), Q(REJECT), STOCK_KEEP, S(RETURNED), A(RETURNED), true },
	{ S(RETURNED), Q(REJECT_AGAIN), STOCK_KEEP, S(RETURNED), A(RETURNED), true },
	/* More comes back; or the request was repeated, or overtaken by a later one, and nothing does. */
	{ S(RETURNED), Q(RETURN), STOCK_TAKE_BACK, S(RETURNED), A(RETURNED), false },
	{ S(RETURNED), Q(DROP), STOCK_DROP_IT, S(NONE), A(NOTHING), false },
};
#undef S
#undef Q
#undef A

#define STOCK_STATE_LETTER(name, letter, text)                [STOCK_##name] = (letter),
#define STOCK_STATE_TEXT(name, letter, text)                  [STOCK_##name] = (text),
#define STOCK_REQUEST_LETTER(name, letter, type, attempt_min) [STOCK_REQ_##name] = (letter),
#define STOCK_REQUEST_TYPE(name, letter, type, attempt_min)   [STOCK_REQ_##name] = (type),
#define STOCK_REQUEST_FROM(name, letter, type, attempt_min)   [STOCK_REQ_##name] = (attempt_min),
#define STOCK_ANSWER_LETTER(name, letter, type)               [STOCK_ANS_##name] = (letter),
#define STOCK_ANSWER_TYPE(name, letter, type)                 [STOCK_ANS_##name] = (type),
static const char state_letters[STOCK_STATE_COUNT] = { STOCK_STATES(STOCK_STATE_LETTER) };
static const char *const state_texts[STOCK_STATE_COUNT] = { STOCK_STATES(STOCK_STATE_TEXT) };
static const char request_letters[STOCK_REQUEST_COUNT] = { STOCK_REQUESTS(STOCK_REQUEST_LETTER) };
static const char *const request_types[STOCK_REQUEST_COUNT] = { STOCK_REQUESTS(
	STOCK_REQUEST_TYPE) };
static const uint32_t request_attempts[STOCK_REQUEST_COUNT] = { STOCK_REQUESTS(
	STOCK_REQUEST_FROM) };
static const char answer_letters[STOCK_ANSWER_COUNT] = { STOCK_ANSWERS(STOCK_ANSWER_LETTER) };
static const char *const answer_types[STOCK_ANSWER_COUNT] = { STOCK_ANSWERS(STOCK_ANSWER_TYPE) };
const struct stock_rule *stock_rule(enum stock_state state, enum stock_request request)
{
	return &rules[(unsigned)state * STOCK_REQUEST_COUNT + (unsigned)request];
}

bool stock_state_parse(const char *text, enum stock_state *ret)
{
	for (int state = STOCK_RESERVED; state < STOCK_STATE_COUNT; state++) {
		if (strcmp(text, state_texts[state]) == 0) {
			*ret = (enum stock_state)state;
			return true;
		}
	}
	return false;
}

bool stock_state_sold(enum stock_state state)
{
	return state == STOCK_COMMITTED || state == STOCK_RETURNED;
}

const char *stock_state_text(enum stock_state state)
{
	return state_texts[state];
}

bool stock_state_of_letter(char letter, enum stock_state *ret)
{
	const char *at = memchr(state_letters, letter, sizeof(state_letters));

	if (at == NULL)
		return false;
	*ret = (enum stock_state)(at - state_letters);
	return true;
}

bool stock_answer_of_letter(char letter, enum stock_answer *ret)
{
	const char *at = memchr(answer_letters, letter, sizeof(answer_letters));

	if (at == NULL)
		return false;
	*ret = (enum stock_answer)(at - answer_letters);
	return true;
}

char stock_request_letter(enum stock_request request)
{
	return request_letters[request];
}

char stock_state_letter(enum stock_state state)
{
	return state_letters[state];
}

char stock_answer_letter(enum stock_answer answer)
{
	return answer_letters[answer];
}

bool stock_request_parse(const char *type, uint32_t attempt, enum stock_request *ret)
{
	/* Backwards, because the requests of a type are sorted by their attempts. */
	for (int request = STOCK_REQUEST_COUNT - 1; request >= 0; request--) {
		if (attempt >= request_attempts[request] &&
		    strcmp(type, request_types[request]) == 0) {
			*ret = (enum stock_request)request;
			return true;
		}
	}
	return false;
}

const char *stock_request_type(enum stock_request request)
{
	return request_types[request];
}

const char *stock_answer_type(enum stock_answer answer)
{
	return answer_types[answer];
}

bool stock_adds_up(const struct stock *stock)
{
	/* Each at most STOCK_MAX: then the sum cannot wrap around. */
	return stock->available <= STOCK_MAX && stock->reserved <= STOCK_MAX &&
	       stock->committed <= STOCK_MAX &&
	       stock->received == stock->available + stock->reserved + stock->committed;
}

bool stock_is_low(const struct stock *stock)
{
	return stock->available < stock->threshold;
}
