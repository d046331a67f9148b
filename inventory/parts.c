/* parts.c - the rules of parts.h. */
#include "parts.h"

/* Short names keep a row on a line. */
#define S(name) STOCK_##name

static const struct part_rule rules[STOCK_STATE_COUNT * PART_ACTION_COUNT] = {
	/* state, action, effect, to */

	{ S(NONE), PART_HOLD, STOCK_TRY, S(RESERVED) },
	/* It was promised, and is gone: only after a loss of data. */
	{ S(NONE), PART_COMMIT, STOCK_TAKE, S(COMMITTED) },
	/* A tombstone, for a late hold to find. */
	{ S(NONE), PART_RELEASE, STOCK_KEEP, S(RELEASED) },
	/* Not sold, as far as is known: it cannot come back. */
	{ S(NONE), PART_RETURN, STOCK_KEEP, S(NONE) },
	{ S(NONE), PART_DROP, STOCK_KEEP, S(NONE) },
	{ S(NONE), PART_TO_RESERVED, STOCK_TRY, S(RESERVED) },
	{ S(NONE), PART_TO_COMMITTED, STOCK_TAKE, S(COMMITTED) },
	{ S(NONE), PART_TO_RETURNED, STOCK_TAKE, S(COMMITTED) },
	{ S(NONE), PART_TO_RELEASED, STOCK_KEEP, S(RELEASED) },
	{ S(NONE), PART_TO_UNSOLD, STOCK_KEEP, S(NONE) },

	{ S(RESERVED), PART_HOLD, STOCK_KEEP, S(RESERVED) },
	{ S(RESERVED), PART_COMMIT, STOCK_COMMIT_IT, S(COMMITTED) },
	{ S(RESERVED), PART_RELEASE, STOCK_GIVE_BACK, S(RELEASED) },
	{ S(RESERVED), PART_RETURN, STOCK_KEEP, S(RESERVED) },
	/* Its record does not hold it: something was lost. */
	{ S(RESERVED), PART_DROP, STOCK_GIVE_BACK, S(NONE) },
	{ S(RESERVED), PART_TO_RESERVED, STOCK_KEEP, S(RESERVED) },
	{ S(RESERVED), PART_TO_COMMITTED, STOCK_COMMIT_IT, S(COMMITTED) },
	{ S(RESERVED), PART_TO_RETURNED, STOCK_COMMIT_IT, S(COMMITTED) },
	{ S(RESERVED), PART_TO_RELEASED, STOCK_GIVE_BACK, S(RELEASED) },
	{ S(RESERVED), PART_TO_UNSOLD, STOCK_KEEP, S(RESERVED) },

	/* A refusal stays, even when there is stock by now. */
	{ S(UNAVAILABLE), PART_HOLD, STOCK_KEEP, S(UNAVAILABLE) },
	{ S(UNAVAILABLE), PART_COMMIT, STOCK_KEEP, S(UNAVAILABLE) },
	{ S(UNAVAILABLE), PART_RELEASE, STOCK_KEEP, S(UNAVAILABLE) },
	{ S(UNAVAILABLE), PART_RETURN, STOCK_KEEP, S(UNAVAILABLE) },
	{ S(UNAVAILABLE), PART_DROP, STOCK_DROP_IT, S(NONE) },
	{ S(UNAVAILABLE), PART_TO_RESERVED, STOCK_TRY, S(RESERVED) },
	{ S(UNAVAILABLE), PART_TO_COMMITTED, STOCK_TAKE, S(COMMITTED) },
	{ S(UNAVAILABLE), PART_TO_RETURNED, STOCK_TAKE, S(COMMITTED) },
	{ S(UNAVAILABLE), PART_TO_RELEASED, STOCK_KEEP, S(UNAVAILABLE) },
	{ S(UNAVAILABLE), PART_TO_UNSOLD, STOCK_KEEP, S(UNAVAILABLE) },

	/* Sold stays sold. */
	{ S(COMMITTED), PART_HOLD, STOCK_KEEP, S(COMMITTED) },
	{ S(COMMITTED), PART_COMMIT, STOCK_KEEP, S(COMMITTED) },
	{ S(COMMITTED), PART_RELEASE, STOCK_KEEP, S(COMMITTED) },
	{ S(COMMITTED), PART_RETURN, STOCK_TAKE_BACK, S(COMMITTED) },
	{ S(COMMITTED), PART_DROP, STOCK_DROP_IT, S(NONE) },
	{ S(COMMITTED), PART_TO_RESERVED, STOCK_HOLD_IT, S(RESERVED) },
	{ S(COMMITTED), PART_TO_COMMITTED, STOCK_KEEP, S(COMMITTED) },
	{ S(COMMITTED), PART_TO_RETURNED, STOCK_TAKE_BACK, S(COMMITTED) },
	{ S(COMMITTED), PART_TO_RELEASED, STOCK_CALL_BACK, S(RELEASED) },
	{ S(COMMITTED), PART_TO_UNSOLD, STOCK_HOLD_IT, S(RESERVED) },

	{ S(RELEASED), PART_HOLD, STOCK_KEEP, S(RELEASED) },
	{ S(RELEASED), PART_COMMIT, STOCK_KEEP, S(RELEASED) },
	{ S(RELEASED), PART_RELEASE, STOCK_KEEP, S(RELEASED) },
	{ S(RELEASED), PART_RETURN, STOCK_KEEP, S(RELEASED) },
	{ S(RELEASED), PART_DROP, STOCK_DROP_IT, S(NONE) },
	/* The record has forgotten the release. If it cannot be had again, the order is called off. */
	{ S(RELEASED), PART_TO_RESERVED, STOCK_TRY, S(RESERVED) },
	{ S(RELEASED), PART_TO_COMMITTED, STOCK_TAKE, S(COMMITTED) },
	{ S(RELEASED), PART_TO_RETURNED, STOCK_TAKE, S(COMMITTED) },
	{ S(RELEASED), PART_TO_RELEASED, STOCK_KEEP, S(RELEASED) },
	{ S(RELEASED), PART_TO_UNSOLD, STOCK_KEEP, S(RELEASED) },

	/* No part is in this state. */
	{ S(RETURNED), PART_HOLD, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_COMMIT, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_RELEASE, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_RETURN, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_DROP, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_TO_RESERVED, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_TO_COMMITTED, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_TO_RETURNED, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_TO_RELEASED, STOCK_KEEP, S(RETURNED) },
	{ S(RETURNED), PART_TO_UNSOLD, STOCK_KEEP, S(RETURNED) },
};
#undef S

const struct part_rule *part_rule(enum stock_state state, enum part_action action)
{
	return &rules[(unsigned)state * PART_ACTION_COUNT + (unsigned)action];
}

#define PART_ACTION_LETTER(name, letter) [PART_##name] = (letter),
char part_action_letter(enum part_action action)
{
	static const char letters[PART_ACTION_COUNT] = { PART_ACTIONS(PART_ACTION_LETTER) };

	return letters[action];
}

#define SPLIT_VERDICT_LETTER(name, letter) [SPLIT_IS_##name] = (letter),
char split_verdict_letter(enum split_verdict verdict)
{
	static const char letters[SPLIT_VERDICT_COUNT] = { SPLIT_VERDICTS(SPLIT_VERDICT_LETTER) };

	return letters[verdict];
}

/* What is answered, and what is written, follows from stock_rule alone. Which parts must have been seen to
 * before is decided here. */
enum split_step split_first(enum stock_request request, enum stock_state record)
{
	switch (request) {
	case STOCK_REQ_RESERVE:
		if (record == STOCK_NONE)
			return SPLIT_HOLD;
		/* A refusal or a release is answered again only when no part can hold anything any
		 * more: an answer may let the order end. */
		if (record == STOCK_UNAVAILABLE || record == STOCK_RELEASED)
			return SPLIT_RELEASE;
		return SPLIT_CONCLUDE;
	case STOCK_REQ_COMMIT:
		return record == STOCK_RESERVED ? SPLIT_COMMIT : SPLIT_CONCLUDE;
	case STOCK_REQ_DROP:
		return record == STOCK_NONE ? SPLIT_CONCLUDE : SPLIT_DROP;
	case STOCK_REQ_RETURN:
		return stock_state_sold(record) ? SPLIT_RETURN : SPLIT_CONCLUDE;
	case STOCK_REQ_REJECT:
		/* The usual end of a refusal. Nothing is written or answered, and all parts were released before
		 * the record was written. */
		if (record == STOCK_UNAVAILABLE)
			return SPLIT_CONCLUDE;
		break;
	default:
		break;
	}
	/* Also where there is no record: a hold may be under way. */
	return stock_state_sold(record) ? SPLIT_CONCLUDE : SPLIT_RELEASE;
}

enum split_step split_next(enum split_step step, unsigned parts, enum split_verdict *verdict)
{
	switch (step) {
	case SPLIT_HOLD:
		if ((parts & PARTS_ARE(STOCK_UNAVAILABLE)) != 0)
			*verdict = SPLIT_IS_REFUSED;
		else if ((parts & PARTS_ARE(STOCK_RELEASED)) != 0)
			*verdict = SPLIT_IS_RELEASED;
		return *verdict == SPLIT_IS_DONE ? SPLIT_CONCLUDE : SPLIT_RELEASE;
	case SPLIT_COMMIT:
	case SPLIT_RETURN:
		return parts == PARTS_ARE(STOCK_COMMITTED) ? SPLIT_CONCLUDE : SPLIT_OWED;
	default:
		return SPLIT_CONCLUDE;
	}
}
