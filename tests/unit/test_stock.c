/* test_stock.c - the rules of stock: every pair of state and request with its reason, what must hold
 * for the table as a whole, and the arithmetic of the counters. */
#include "inventory/stock.h"
#include "run.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"

#include <string.h>

static const struct {
	const char *reason;
	enum stock_state state;
	enum stock_request request;
	enum stock_effect effect;
	enum stock_state to;
	enum stock_answer answer;
	bool unexpected;
} pairs[] = {
#define PAIR(why, state, request, effect, to, answer, unexpected)                                  \
	{                                                                                          \
		why, STOCK_##state, STOCK_REQ_##request, STOCK_##effect, STOCK_##to,               \
			STOCK_ANS_##answer, unexpected                                             \
	}
#define FIT(...)        PAIR(__VA_ARGS__, false)
#define UNEXPECTED(...) PAIR(__VA_ARGS__, true)
	/* clang-format off */
	FIT("a new order asks for its stock", NONE, RESERVE, TRY, RESERVED, RESERVED),
	UNEXPECTED("a confirm without a reservation waits for the late order", NONE, COMMIT, KEEP, NONE, NOTHING),
	FIT("a cancel that overtook its order leaves a tombstone", NONE, RELEASE, KEEP, RELEASED, RELEASED),
	FIT("an expiry that overtook its order leaves a tombstone", NONE, EXPIRE, KEEP, RELEASED, RELEASED),
	UNEXPECTED("a rejection of what was never refused leaves a tombstone", NONE, REJECT, KEEP, RELEASED, RELEASED),
	UNEXPECTED("so does a repeated one", NONE, REJECT_AGAIN, KEEP, RELEASED, RELEASED),
	UNEXPECTED("nothing is known of a sale that could come back", NONE, RETURN, KEEP, NONE, NOTHING),
	FIT("what was dropped is dropped", NONE, DROP, KEEP, NONE, NOTHING),

	FIT("a repeated order gets its recorded answer", RESERVED, RESERVE, KEEP, RESERVED, RESERVED),
	FIT("a confirm sells what is held", RESERVED, COMMIT, COMMIT_IT, COMMITTED, COMMITTED),
	FIT("a cancel gives back what is held", RESERVED, RELEASE, GIVE_BACK, RELEASED, RELEASED),
	FIT("an expiry gives back what is held", RESERVED, EXPIRE, GIVE_BACK, RELEASED, RELEASED),
	UNEXPECTED("a rejected order must not hold stock", RESERVED, REJECT, GIVE_BACK, RELEASED, RELEASED),
	UNEXPECTED("nor may it when it asks again", RESERVED, REJECT_AGAIN, GIVE_BACK, RELEASED, RELEASED),
	UNEXPECTED("what is not sold does not come back", RESERVED, RETURN, KEEP, RESERVED, NOTHING),
	UNEXPECTED("a dropped order must not hold stock", RESERVED, DROP, GIVE_BACK, NONE, NOTHING),

	FIT("a refusal stays a refusal", UNAVAILABLE, RESERVE, KEEP, UNAVAILABLE, UNAVAILABLE),
	UNEXPECTED("a confirm of what was refused gets the refusal", UNAVAILABLE, COMMIT, KEEP, UNAVAILABLE, UNAVAILABLE),
	FIT("a cancel before the refusal was read is answered", UNAVAILABLE, RELEASE, KEEP, RELEASED, RELEASED),
	FIT("an expiry before the refusal was read is answered", UNAVAILABLE, EXPIRE, KEEP, RELEASED, RELEASED),
	FIT("a rejection is what a refusal leads to", UNAVAILABLE, REJECT, KEEP, UNAVAILABLE, NOTHING),
	UNEXPECTED("a rejection that is sent again waits for a release", UNAVAILABLE, REJECT_AGAIN, KEEP, RELEASED, RELEASED),
	UNEXPECTED("what was refused does not come back", UNAVAILABLE, RETURN, KEEP, UNAVAILABLE, NOTHING),
	FIT("a refusal is dropped with its order", UNAVAILABLE, DROP, DROP_IT, NONE, NOTHING),

	FIT("an old order comes again after the sale", COMMITTED, RESERVE, KEEP, COMMITTED, COMMITTED),
	FIT("a repeated confirm gets its recorded answer", COMMITTED, COMMIT, KEEP, COMMITTED, COMMITTED),
	UNEXPECTED("a cancel does not take back a sale", COMMITTED, RELEASE, KEEP, COMMITTED, COMMITTED),
	UNEXPECTED("an expiry does not take back a sale", COMMITTED, EXPIRE, KEEP, COMMITTED, COMMITTED),
	UNEXPECTED("a rejection does not take back a sale", COMMITTED, REJECT, KEEP, COMMITTED, COMMITTED),
	UNEXPECTED("nor does a repeated one", COMMITTED, REJECT_AGAIN, KEEP, COMMITTED, COMMITTED),
	FIT("what was sold comes back", COMMITTED, RETURN, TAKE_BACK, RETURNED, RETURNED),
	FIT("a sale is dropped with its order", COMMITTED, DROP, DROP_IT, NONE, NOTHING),

	FIT("a late order finds the tombstone", RELEASED, RESERVE, KEEP, RELEASED, RELEASED),
	UNEXPECTED("what was given back cannot be sold", RELEASED, COMMIT, KEEP, RELEASED, RELEASED),
	FIT("a repeated cancel gets its recorded answer", RELEASED, RELEASE, KEEP, RELEASED, RELEASED),
	FIT("a repeated expiry gets its recorded answer", RELEASED, EXPIRE, KEEP, RELEASED, RELEASED),
	FIT("a rejection of what was given back gets its recorded answer", RELEASED, REJECT, KEEP, RELEASED, RELEASED),
	FIT("so does a repeated one", RELEASED, REJECT_AGAIN, KEEP, RELEASED, RELEASED),
	UNEXPECTED("what was given back does not come back once more", RELEASED, RETURN, KEEP, RELEASED, NOTHING),
	FIT("a release is dropped with its order", RELEASED, DROP, DROP_IT, NONE, NOTHING),

	FIT("an old order comes again after the return", RETURNED, RESERVE, KEEP, RETURNED, RETURNED),
	FIT("an old confirm comes again after the return", RETURNED, COMMIT, KEEP, RETURNED, RETURNED),
	UNEXPECTED("a cancel does not take back a sale", RETURNED, RELEASE, KEEP, RETURNED, RETURNED),
	UNEXPECTED("an expiry does not take back a sale", RETURNED, EXPIRE, KEEP, RETURNED, RETURNED),
	UNEXPECTED("a rejection does not take back a sale", RETURNED, REJECT, KEEP, RETURNED, RETURNED),
	UNEXPECTED("nor does a repeated one", RETURNED, REJECT_AGAIN, KEEP, RETURNED, RETURNED),
	FIT("more comes back, or nothing does", RETURNED, RETURN, TAKE_BACK, RETURNED, RETURNED),
	FIT("a sale of which some came back is dropped with its order", RETURNED, DROP, DROP_IT, NONE, NOTHING),
	/* clang-format on */
};

static void every_pair(void)
{
	bool seen[STOCK_STATE_COUNT][STOCK_REQUEST_COUNT] = { { false } };

	for (size_t i = 0; i < RT_LENGTH(pairs); i++) {
		const struct stock_rule *rule = stock_rule(pairs[i].state, pairs[i].request);

		TEST_ROW(!seen[pairs[i].state][pairs[i].request], pairs[i].reason);
		seen[pairs[i].state][pairs[i].request] = true;
		TEST_ROW(rule->state == pairs[i].state, pairs[i].reason);
		TEST_ROW(rule->request == pairs[i].request, pairs[i].reason);
		TEST_ROW(rule->effect == pairs[i].effect, pairs[i].reason);
		TEST_ROW(rule->to == pairs[i].to, pairs[i].reason);
		TEST_ROW(rule->answer == pairs[i].answer, pairs[i].reason);
		TEST_ROW(rule->unexpected == pairs[i].unexpected, pairs[i].reason);
	}
	CU_ASSERT_EQUAL(RT_LENGTH(pairs), STOCK_STATE_COUNT * STOCK_REQUEST_COUNT);
}

/* What must hold for the table whatever its rows are. */
static void table_as_a_whole(void)
{
	for (size_t i = 0; i < RT_LENGTH(pairs); i++) {
		const struct stock_rule *rule = stock_rule(pairs[i].state, pairs[i].request);
		const struct stock_rule *again = stock_rule(rule->to, rule->request);

		/* When the order is dropped there is nothing any more, and nobody waits for an answer. */
		if (rule->request == STOCK_REQ_DROP)
			TEST_ROW(rule->to == STOCK_NONE && rule->answer == STOCK_ANS_NOTHING,
				 pairs[i].reason);
		else
			TEST_ROW(rule->effect != STOCK_DROP_IT, pairs[i].reason);
		/* A change is an event of its own. */
		if (rule->to != rule->state && rule->request != STOCK_REQ_DROP)
			TEST_ROW(rule->answer != STOCK_ANS_NOTHING, pairs[i].reason);
		/* Only held stock can be sold or given back, and only a new order can reserve. */
		if (rule->effect == STOCK_COMMIT_IT || rule->effect == STOCK_GIVE_BACK)
			TEST_ROW(rule->state == STOCK_RESERVED, pairs[i].reason);
		if (rule->effect == STOCK_TRY)
			TEST_ROW(rule->state == STOCK_NONE, pairs[i].reason);
		/* Whatever leaves RESERVED moves the counters. */
		if (rule->state == STOCK_RESERVED && rule->to != STOCK_RESERVED)
			TEST_ROW(rule->effect != STOCK_KEEP, pairs[i].reason);
		/* The same request once more changes nothing and gets the same answer, unless
		 * no answer is expected. */
		/* (what comes back is said in all, so that nothing comes back twice). */
		TEST_ROW(again->effect == (rule->effect == STOCK_TAKE_BACK ? STOCK_TAKE_BACK
									   : STOCK_KEEP) &&
				 again->to == rule->to,
			 pairs[i].reason);
		TEST_ROW(again->answer == rule->answer || again->answer == STOCK_ANS_NOTHING,
			 pairs[i].reason);
		/* Only what was sold comes back. */
		if (rule->effect == STOCK_TAKE_BACK)
			TEST_ROW(stock_state_sold(rule->state) && stock_state_sold(rule->to),
				 pairs[i].reason);
		/* A final state never changes before the order is dropped; a sale otherwise than by a return. */
		if (rule->request == STOCK_REQ_DROP)
			continue;
		if ((stock_state_sold(rule->state) && rule->effect != STOCK_TAKE_BACK) ||
		    rule->state == STOCK_RELEASED)
			TEST_ROW(rule->to == rule->state && rule->effect == STOCK_KEEP,
				 pairs[i].reason);
	}
	/* A repeat of a refused order gets the refusal: the functions rely on it. */
	CU_ASSERT_EQUAL(stock_rule(STOCK_UNAVAILABLE, STOCK_REQ_RESERVE)->to, STOCK_UNAVAILABLE);
}

/* Serves a request for some of one SKU by the rules. */
static void serve(enum stock_state *state, uint64_t *available, uint64_t *reserved,
		  enum stock_request request, uint64_t quantity)
{
	const struct stock_rule *rule = stock_rule(*state, request);

	*state = rule->to;
	switch (rule->effect) {
	case STOCK_KEEP:
		break;
	case STOCK_TRY:
		if (*available < quantity) {
			*state = STOCK_UNAVAILABLE;
			break;
		}
		*available -= quantity;
		*reserved += quantity;
		break;
	case STOCK_COMMIT_IT:
	case STOCK_TAKE_BACK:
	case STOCK_DROP_IT:
		CU_FAIL("no commit, return or drop was requested");
		break;
	case STOCK_TAKE:
	case STOCK_HOLD_IT:
	case STOCK_CALL_BACK:
		CU_FAIL("only parts are taken so");
		break;
	case STOCK_GIVE_BACK:
		CU_ASSERT(*reserved >= quantity);
		*reserved -= quantity;
		*available += quantity;
		break;
	}
}

/* Placed and cancelled (or expired), each delivered up to twice, in every order: nothing is held in
 * the end, whether there was stock or not. */
static void requests_commute(void)
{
	static const enum stock_request ends[] = { STOCK_REQ_RELEASE, STOCK_REQ_EXPIRE };

	for (size_t end = 0; end < RT_LENGTH(ends); end++) {
		for (unsigned order = 0; order < 16; order++) {
			for (uint64_t received = 0; received <= 5; received += 5) {
				enum stock_state state = STOCK_NONE;
				uint64_t available = received, reserved = 0;

				/* Bit i: is the i-th delivery the end? At least one of each. */
				if (order == 0 || order == 15)
					continue;
				for (int i = 0; i < 4; i++)
					serve(&state, &available, &reserved,
					      (order >> i & 1) != 0 ? ends[end] : STOCK_REQ_RESERVE,
					      3);
				CU_ASSERT_EQUAL(state, STOCK_RELEASED);
				CU_ASSERT_EQUAL(available, received);
				CU_ASSERT_EQUAL(reserved, 0);
			}
		}
	}
}

static void names(void)
{
	enum stock_state state = STOCK_NONE;
	enum stock_request request;
	enum stock_answer answer;

	for (int i = STOCK_RESERVED; i < STOCK_STATE_COUNT; i++) {
		CU_ASSERT(stock_state_parse(stock_state_text((enum stock_state)i), &state));
		CU_ASSERT_EQUAL((int)state, i);
	}
	CU_ASSERT_FALSE(stock_state_parse("", &state));
	CU_ASSERT_FALSE(stock_state_parse("reserved", &state));
	for (int i = 0; i < STOCK_REQUEST_COUNT; i++) {
		bool again = i == STOCK_REQ_REJECT_AGAIN;
		const char *type = stock_request_type((enum stock_request)i);

		CU_ASSERT(stock_request_parse(type, again ? 2 : 1, &request));
		CU_ASSERT_EQUAL((int)request, i);
		CU_ASSERT(stock_request_parse(type, UINT32_MAX, &request));
		CU_ASSERT_EQUAL((int)request, i == STOCK_REQ_REJECT ? STOCK_REQ_REJECT_AGAIN : i);
	}
	CU_ASSERT_FALSE(stock_request_parse("tandem.order.v1.OrderReserved", 1, &request));
	CU_ASSERT_FALSE(stock_request_parse("", 1, &request));
	CU_ASSERT_STRING_EQUAL(stock_answer_type(STOCK_ANS_RESERVED),
			       tandem__inventory__v1__inventory_reserved__descriptor.name);
	CU_ASSERT_STRING_EQUAL(stock_answer_type(STOCK_ANS_UNAVAILABLE),
			       tandem__inventory__v1__inventory_unavailable__descriptor.name);
	CU_ASSERT_STRING_EQUAL(stock_answer_type(STOCK_ANS_COMMITTED),
			       tandem__inventory__v1__inventory_committed__descriptor.name);
	CU_ASSERT_STRING_EQUAL(stock_answer_type(STOCK_ANS_RELEASED),
			       tandem__inventory__v1__inventory_released__descriptor.name);
	CU_ASSERT_STRING_EQUAL(stock_answer_type(STOCK_ANS_RETURNED),
			       tandem__inventory__v1__inventory_returned__descriptor.name);
	CU_ASSERT_PTR_NULL(stock_answer_type(STOCK_ANS_NOTHING));
	CU_ASSERT(stock_state_of_letter('L', &state) && state == STOCK_RELEASED);
	CU_ASSERT_FALSE(stock_state_of_letter('?', &state));
	CU_ASSERT(stock_answer_of_letter('-', &answer) && answer == STOCK_ANS_NOTHING);
	CU_ASSERT_FALSE(stock_answer_of_letter('\0', &answer));
	CU_ASSERT_EQUAL(stock_request_letter(STOCK_REQ_COMMIT), 'm');
}

static void adding_up(void)
{
	static const struct stock wrong[] = {
		{ 1, 1, 1, 4, 1, 0 },
		{ 1, 1, 1, 2, 1, 0 },
		/* Adds up only because it wraps around. */
		{ UINT64_MAX, 1, 0, 0, 1, 0 },
		{ STOCK_MAX + 1ull, 0, 0, STOCK_MAX + 1ull, 1, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(wrong); i++)
		CU_ASSERT_FALSE(stock_adds_up(&wrong[i]));
}

static const struct test tests[] = {
	{ "every pair of state and request", every_pair },
	{ "what must hold for the table as a whole", table_as_a_whole },
	{ "placed and cancelled commute, however often they are delivered", requests_commute },
	{ "names and letters", names },
	{ "counters that do not add up are noticed", adding_up },
};

TESTS_MAIN("stock", tests)
