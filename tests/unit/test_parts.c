/* test_parts.c - the rules of split orders, without Redis. */
#include "base/base.h"
#include "inventory/parts.h"
#include "run.h"

/* Once there, a part stays (parts.h): whoever comes late holds nothing. */
static bool is_final(enum stock_state state)
{
	return state == STOCK_UNAVAILABLE || state == STOCK_COMMITTED || state == STOCK_RELEASED;
}

static void every_pair_has_its_rule(void)
{
	for (int state = 0; state < STOCK_STATE_COUNT; state++) {
		for (int action = 0; action < PART_ACTION_COUNT; action++) {
			const struct part_rule *rule =
				part_rule((enum stock_state)state, (enum part_action)action);

			CU_ASSERT(rule->state == (enum stock_state)state);
			CU_ASSERT(rule->action == (enum part_action)action);
			if (is_final(rule->state) && rule->action <= PART_RELEASE)
				CU_ASSERT(rule->to == rule->state && rule->effect == STOCK_KEEP);
			/* Safe to repeat: what comes back is said in all. */
			CU_ASSERT(part_rule(rule->to, rule->action)->to == rule->to);
			CU_ASSERT(part_rule(rule->to, rule->action)->effect == STOCK_KEEP ||
				  part_rule(rule->to, rule->action)->effect == STOCK_TAKE_BACK);
			/* Only a return takes back, only what is sold, and it stays sold. */
			if (rule->effect == STOCK_TAKE_BACK)
				CU_ASSERT((rule->action == PART_RETURN ||
					   rule->action == PART_TO_RETURNED) &&
					  rule->state == STOCK_COMMITTED &&
					  rule->to == STOCK_COMMITTED);
			if (rule->action == PART_RETURN)
				CU_ASSERT_EQUAL(rule->to, rule->state);
			/* Only of a dropped order nothing is left. */
			if (rule->action == PART_DROP)
				CU_ASSERT(rule->to == STOCK_NONE || rule->state == STOCK_RETURNED)
			else
				CU_ASSERT(rule->to != STOCK_NONE || rule->state == STOCK_NONE);
			CU_ASSERT(rule->to != STOCK_RETURNED || rule->state == STOCK_RETURNED);
		}
	}
	CU_ASSERT_EQUAL(part_rule(STOCK_NONE, PART_RELEASE)->to, STOCK_RELEASED);
	CU_ASSERT_EQUAL(part_rule(STOCK_NONE, PART_COMMIT)->effect, STOCK_TAKE);
	CU_ASSERT_EQUAL(part_rule(STOCK_COMMITTED, PART_RETURN)->effect, STOCK_TAKE_BACK);
}

/* What an order may be told only after every part was released: that it is refused or released. */
static void what_ends_an_order_is_answered_after_the_release(void)
{
	for (int request = 0; request < STOCK_REQUEST_COUNT; request++) {
		for (int state = 0; state < STOCK_STATE_COUNT; state++) {
			const struct stock_rule *rule =
				stock_rule((enum stock_state)state, (enum stock_request)request);
			enum split_step step = split_first(rule->request, rule->state);

			if (rule->to == STOCK_RELEASED && rule->state != rule->to)
				CU_ASSERT_EQUAL(step, SPLIT_RELEASE);
			if (rule->request == STOCK_REQ_RESERVE &&
			    (rule->answer == STOCK_ANS_UNAVAILABLE ||
			     rule->answer == STOCK_ANS_RELEASED))
				CU_ASSERT_EQUAL(step, SPLIT_RELEASE);
			/* What moves counters of a whole order moves those of the parts. */
			if (rule->effect == STOCK_TRY)
				CU_ASSERT_EQUAL(step, SPLIT_HOLD);
			if (rule->effect == STOCK_COMMIT_IT)
				CU_ASSERT_EQUAL(step, SPLIT_COMMIT);
			if (rule->request == STOCK_REQ_DROP) {
				CU_ASSERT_EQUAL(step, rule->state == STOCK_NONE ? SPLIT_CONCLUDE
										: SPLIT_DROP);
				continue;
			}
			if (rule->effect == STOCK_GIVE_BACK)
				CU_ASSERT_EQUAL(step, SPLIT_RELEASE);
			/* Sold stays sold. */
			if (stock_state_sold(rule->state))
				CU_ASSERT_EQUAL(step, rule->effect == STOCK_TAKE_BACK
							      ? SPLIT_RETURN
							      : SPLIT_CONCLUDE);
		}
	}
}

static void steps_follow_what_the_parts_say(void)
{
#define P(state) PARTS_ARE(STOCK_##state)
	static const struct {
		const char *reason;
		enum split_step step;
		unsigned parts;
		enum split_step next;
		enum split_verdict verdict;
	} rows[] = {
		{ "all held", SPLIT_HOLD, P(RESERVED), SPLIT_CONCLUDE, SPLIT_IS_DONE },
		{ "one is short", SPLIT_HOLD, P(RESERVED) | P(UNAVAILABLE), SPLIT_RELEASE,
		  SPLIT_IS_REFUSED },
		{ "a tombstone", SPLIT_HOLD, P(RESERVED) | P(RELEASED), SPLIT_RELEASE,
		  SPLIT_IS_RELEASED },
		{ "a refusal and a tombstone", SPLIT_HOLD, P(UNAVAILABLE) | P(RELEASED),
		  SPLIT_RELEASE, SPLIT_IS_REFUSED },
		{ "sold by another", SPLIT_HOLD, P(RESERVED) | P(COMMITTED), SPLIT_CONCLUDE,
		  SPLIT_IS_DONE },
		{ "all sold", SPLIT_COMMIT, P(COMMITTED), SPLIT_CONCLUDE, SPLIT_IS_DONE },
		{ "one is gone", SPLIT_COMMIT, P(COMMITTED) | P(NONE), SPLIT_OWED, SPLIT_IS_DONE },
		{ "one was released", SPLIT_COMMIT, P(RELEASED), SPLIT_OWED, SPLIT_IS_DONE },
		{ "one was refused", SPLIT_COMMIT, P(COMMITTED) | P(UNAVAILABLE), SPLIT_OWED,
		  SPLIT_IS_DONE },
		{ "all came back", SPLIT_RETURN, P(COMMITTED), SPLIT_CONCLUDE, SPLIT_IS_DONE },
		{ "one that came back is gone", SPLIT_RETURN, P(COMMITTED) | P(NONE), SPLIT_OWED,
		  SPLIT_IS_DONE },
		{ "all dropped", SPLIT_DROP, P(NONE), SPLIT_CONCLUDE, SPLIT_IS_DONE },
		{ "all released", SPLIT_RELEASE, P(RELEASED) | P(UNAVAILABLE), SPLIT_CONCLUDE,
		  SPLIT_IS_DONE },
	};
#undef P

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		enum split_verdict verdict = SPLIT_IS_DONE;
		enum split_step next = split_next(rows[i].step, rows[i].parts, &verdict);

		TEST_ROW(next == rows[i].next && verdict == rows[i].verdict, rows[i].reason);
	}
}

/* The release behind a refusal does not forget it. */
static void a_refusal_lasts_through_the_release(void)
{
	enum split_verdict verdict = SPLIT_IS_REFUSED;

	CU_ASSERT_EQUAL(split_next(SPLIT_RELEASE, PARTS_ARE(STOCK_RELEASED), &verdict),
			SPLIT_CONCLUDE);
	CU_ASSERT_EQUAL(verdict, SPLIT_IS_REFUSED);
}

static const struct test tests[] = {
	{ "every pair has its rule", every_pair_has_its_rule },
	{ "what ends an order is answered after the release",
	  what_ends_an_order_is_answered_after_the_release },
	{ "steps follow what the parts say", steps_follow_what_the_parts_say },
	{ "a refusal lasts through the release", a_refusal_lasts_through_the_release },
};

TESTS_MAIN("parts", tests)
