/* test_order_step.c - the rules of an order: every pair of state and input, with its reason. */
#include "base/base.h"
#include "inventory/stock.h"
#include "order/order_step.h"
#include "run.h"
#include "tandem/order/v1/order_events.pb-c.h"

#include <string.h>

static const struct {
	const char *why;
	enum order_state from;
	enum order_input input;
	enum order_verdict verdict;
	enum order_state to;
	enum order_event event;
	enum order_timer timer;
} rows[] = {
#define MOVES(why, from, input, to, event, timer)                                                  \
	{                                                                                          \
		why, ORDER_##from, ORDER_IN_##input, ORDER_MOVES, ORDER_##to, ORDER_EV_##event,    \
			ORDER_TIMER_##timer                                                        \
	}
#define AGAIN(why, from, input, event, timer)                                                      \
	{                                                                                          \
		why, ORDER_##from, ORDER_IN_##input, ORDER_AGAIN, ORDER_##from, ORDER_EV_##event,  \
			ORDER_TIMER_##timer                                                        \
	}
#define STAYS(why, from, input)                                                                    \
	{                                                                                          \
		why, ORDER_##from, ORDER_IN_##input, ORDER_STAYS, ORDER_##from, ORDER_EV_NOTHING,  \
			ORDER_TIMER_KEEP                                                           \
	}
#define REFUSES(why, from, input)                                                                  \
	{                                                                                          \
		why, ORDER_##from, ORDER_IN_##input, ORDER_REFUSES, ORDER_##from,                  \
			ORDER_EV_NOTHING, ORDER_TIMER_KEEP                                         \
	}
#define DROPS(why, from, input)                                                                    \
	{                                                                                          \
		why, ORDER_##from, ORDER_IN_##input, ORDER_DROPS, ORDER_##from, ORDER_EV_DROPPED,  \
			ORDER_TIMER_NONE                                                           \
	}
	/* clang-format off */
	MOVES("stock is held", PENDING, INVENTORY_RESERVED, RESERVED, RESERVED, HOLD),
	MOVES("stock was short", PENDING, INVENTORY_UNAVAILABLE, REJECTED, REJECTED, NONE),
	MOVES("the sale outlived its confirm", PENDING, INVENTORY_COMMITTED, CONFIRMING, CONFIRMED, RETRY),
	MOVES("released for good: call off", PENDING, INVENTORY_RELEASED, CANCELLING, CANCELLED, RETRY),
	STAYS("nothing is awaited that came back", PENDING, INVENTORY_RETURNED),
	REFUSES("nothing to buy yet", PENDING, CONFIRM),
	MOVES("called off before the answer", PENDING, CANCEL, CANCELLING, CANCELLED, RETRY),
	REFUSES("nothing is held yet", PENDING, EXTEND),
	REFUSES("nothing was bought", PENDING, RETURN),
	AGAIN("OrderPlaced or its answer was lost", PENDING, REQUEST_UNANSWERED, PLACED, RETRY),
	MOVES("nobody answered in time", PENDING, DEADLINE_PASSED, EXPIRING, EXPIRED, RETRY),
	STAYS("no hold runs before the reservation", PENDING, HOLD_RAN_OUT),
	STAYS("there is more to come", PENDING, ARCHIVED),

	STAYS("delivered twice", RESERVED, INVENTORY_RESERVED),
	MOVES("the reservation was lost and its repeat refused", RESERVED, INVENTORY_UNAVAILABLE, REJECTING, REJECTED, RETRY),
	MOVES("the sale outlived its confirm", RESERVED, INVENTORY_COMMITTED, CONFIRMING, CONFIRMED, RETRY),
	MOVES("the reservation was lost: release again, call off", RESERVED, INVENTORY_RELEASED, CANCELLING, CANCELLED, RETRY),
	STAYS("nothing is awaited that came back", RESERVED, INVENTORY_RETURNED),
	MOVES("bought", RESERVED, CONFIRM, CONFIRMING, CONFIRMED, RETRY),
	MOVES("called off", RESERVED, CANCEL, CANCELLING, CANCELLED, RETRY),
	MOVES("it needs more time", RESERVED, EXTEND, RESERVED, EXTENDED, HOLD),
	REFUSES("nothing was bought", RESERVED, RETURN),
	STAYS("the answer won against the retry timer", RESERVED, REQUEST_UNANSWERED),
	STAYS("the answer won against the deadline", RESERVED, DEADLINE_PASSED),
	MOVES("nobody confirmed in time", RESERVED, HOLD_RAN_OUT, EXPIRING, EXPIRED, RETRY),
	STAYS("there is more to come", RESERVED, ARCHIVED),

	STAYS("asked to give back already, which covers it", REJECTING, INVENTORY_RESERVED),
	STAYS("perhaps the first refusal once more: no answer", REJECTING, INVENTORY_UNAVAILABLE),
	STAYS("unsettled, so that it is seen", REJECTING, INVENTORY_COMMITTED),
	MOVES("given back", REJECTING, INVENTORY_RELEASED, REJECTED, SETTLED, NONE),
	STAYS("nothing is awaited that came back", REJECTING, INVENTORY_RETURNED),
	REFUSES("nothing is held to buy", REJECTING, CONFIRM),
	REFUSES("final, and not by the client", REJECTING, CANCEL),
	REFUSES("nothing is held", REJECTING, EXTEND),
	REFUSES("nothing was bought", REJECTING, RETURN),
	AGAIN("OrderRejected or its answer was lost", REJECTING, REQUEST_UNANSWERED, REJECTED, RETRY),
	STAYS("decided long ago", REJECTING, DEADLINE_PASSED),
	STAYS("decided long ago", REJECTING, HOLD_RAN_OUT),
	STAYS("there is more to come", REJECTING, ARCHIVED),

	MOVES("it holds stock after all: to be given back", REJECTED, INVENTORY_RESERVED, REJECTING, REJECTED, RETRY),
	STAYS("delivered twice", REJECTED, INVENTORY_UNAVAILABLE),
	STAYS("cannot be repaired here, the audit names it", REJECTED, INVENTORY_COMMITTED),
	STAYS("delivered twice", REJECTED, INVENTORY_RELEASED),
	STAYS("nothing is awaited that came back", REJECTED, INVENTORY_RETURNED),
	REFUSES("nothing is held to buy", REJECTED, CONFIRM),
	REFUSES("final, and not by the client", REJECTED, CANCEL),
	REFUSES("nothing is held", REJECTED, EXTEND),
	REFUSES("nothing was bought", REJECTED, RETURN),
	STAYS("settled: an old timer", REJECTED, REQUEST_UNANSWERED),
	STAYS("settled: an old timer", REJECTED, DEADLINE_PASSED),
	STAYS("settled: an old timer", REJECTED, HOLD_RAN_OUT),
	DROPS("the archive has it", REJECTED, ARCHIVED),

	STAYS("late or twice, the commit is on its way", CONFIRMING, INVENTORY_RESERVED),
	STAYS("the client was answered that it bought", CONFIRMING, INVENTORY_UNAVAILABLE),
	MOVES("sold", CONFIRMING, INVENTORY_COMMITTED, CONFIRMED, SETTLED, NONE),
	STAYS("the client was answered that it bought", CONFIRMING, INVENTORY_RELEASED),
	STAYS("nothing is awaited that came back", CONFIRMING, INVENTORY_RETURNED),
	STAYS("confirming twice is OK", CONFIRMING, CONFIRM),
	REFUSES("bought already", CONFIRMING, CANCEL),
	REFUSES("bought already", CONFIRMING, EXTEND),
	REFUSES("not settled yet", CONFIRMING, RETURN),
	AGAIN("OrderConfirmed or its answer was lost", CONFIRMING, REQUEST_UNANSWERED, CONFIRMED, RETRY),
	STAYS("decided long ago", CONFIRMING, DEADLINE_PASSED),
	STAYS("the confirm won against the hold", CONFIRMING, HOLD_RAN_OUT),
	STAYS("there is more to come", CONFIRMING, ARCHIVED),

	STAYS("sold is sold", CONFIRMED, INVENTORY_RESERVED),
	STAYS("sold is sold", CONFIRMED, INVENTORY_UNAVAILABLE),
	STAYS("delivered twice", CONFIRMED, INVENTORY_COMMITTED),
	STAYS("cannot be repaired here, the audit names it", CONFIRMED, INVENTORY_RELEASED),
	STAYS("nothing is awaited that came back", CONFIRMED, INVENTORY_RETURNED),
	STAYS("confirming twice is OK", CONFIRMED, CONFIRM),
	REFUSES("bought already", CONFIRMED, CANCEL),
	REFUSES("bought already", CONFIRMED, EXTEND),
	MOVES("some of it comes back", CONFIRMED, RETURN, RETURNING, RETURNED, RETRY),
	STAYS("settled: an old timer", CONFIRMED, REQUEST_UNANSWERED),
	STAYS("settled: an old timer", CONFIRMED, DEADLINE_PASSED),
	STAYS("settled: an old timer", CONFIRMED, HOLD_RAN_OUT),
	DROPS("the archive has it", CONFIRMED, ARCHIVED),

	STAYS("sold is sold", RETURNING, INVENTORY_RESERVED),
	STAYS("sold is sold", RETURNING, INVENTORY_UNAVAILABLE),
	STAYS("delivered twice", RETURNING, INVENTORY_COMMITTED),
	STAYS("unsettled, so that it is seen", RETURNING, INVENTORY_RELEASED),
	MOVES("it is available again", RETURNING, INVENTORY_RETURNED, CONFIRMED, SETTLED, NONE),
	STAYS("confirming twice is OK", RETURNING, CONFIRM),
	REFUSES("bought already", RETURNING, CANCEL),
	REFUSES("bought already", RETURNING, EXTEND),
	MOVES("more comes back", RETURNING, RETURN, RETURNING, RETURNED, RETRY),
	AGAIN("OrderReturned or its answer was lost", RETURNING, REQUEST_UNANSWERED, RETURNED, RETRY),
	STAYS("decided long ago", RETURNING, DEADLINE_PASSED),
	STAYS("decided long ago", RETURNING, HOLD_RAN_OUT),
	STAYS("there is more to come", RETURNING, ARCHIVED),

	STAYS("the release is on its way and covers it", CANCELLING, INVENTORY_RESERVED),
	STAYS("the release is still answered", CANCELLING, INVENTORY_UNAVAILABLE),
	STAYS("unsettled, so that it is seen", CANCELLING, INVENTORY_COMMITTED),
	MOVES("given back", CANCELLING, INVENTORY_RELEASED, CANCELLED, SETTLED, NONE),
	STAYS("nothing is awaited that came back", CANCELLING, INVENTORY_RETURNED),
	REFUSES("called off already", CANCELLING, CONFIRM),
	STAYS("cancelling twice is OK", CANCELLING, CANCEL),
	REFUSES("called off already", CANCELLING, EXTEND),
	REFUSES("nothing was bought", CANCELLING, RETURN),
	AGAIN("OrderCancelled or its answer was lost", CANCELLING, REQUEST_UNANSWERED, CANCELLED, RETRY),
	STAYS("the cancel won against the deadline", CANCELLING, DEADLINE_PASSED),
	STAYS("the cancel won against the hold", CANCELLING, HOLD_RAN_OUT),
	STAYS("there is more to come", CANCELLING, ARCHIVED),

	MOVES("it may hold stock: release again", CANCELLED, INVENTORY_RESERVED, CANCELLING, CANCELLED, RETRY),
	STAYS("late: nothing is held", CANCELLED, INVENTORY_UNAVAILABLE),
	STAYS("cannot be repaired here, the audit names it", CANCELLED, INVENTORY_COMMITTED),
	STAYS("delivered twice", CANCELLED, INVENTORY_RELEASED),
	STAYS("nothing is awaited that came back", CANCELLED, INVENTORY_RETURNED),
	REFUSES("called off already", CANCELLED, CONFIRM),
	STAYS("cancelling twice is OK", CANCELLED, CANCEL),
	REFUSES("called off already", CANCELLED, EXTEND),
	REFUSES("nothing was bought", CANCELLED, RETURN),
	STAYS("settled: an old timer", CANCELLED, REQUEST_UNANSWERED),
	STAYS("settled: an old timer", CANCELLED, DEADLINE_PASSED),
	STAYS("settled: an old timer", CANCELLED, HOLD_RAN_OUT),
	DROPS("the archive has it", CANCELLED, ARCHIVED),

	STAYS("the release is on its way and covers it", EXPIRING, INVENTORY_RESERVED),
	STAYS("the release is still answered", EXPIRING, INVENTORY_UNAVAILABLE),
	STAYS("unsettled, so that it is seen", EXPIRING, INVENTORY_COMMITTED),
	MOVES("given back", EXPIRING, INVENTORY_RELEASED, EXPIRED, SETTLED, NONE),
	STAYS("nothing is awaited that came back", EXPIRING, INVENTORY_RETURNED),
	REFUSES("too late to buy", EXPIRING, CONFIRM),
	REFUSES("final, and not by the client", EXPIRING, CANCEL),
	REFUSES("too late", EXPIRING, EXTEND),
	REFUSES("nothing was bought", EXPIRING, RETURN),
	AGAIN("OrderExpired or its answer was lost", EXPIRING, REQUEST_UNANSWERED, EXPIRED, RETRY),
	STAYS("expired already", EXPIRING, DEADLINE_PASSED),
	STAYS("expired already", EXPIRING, HOLD_RAN_OUT),
	STAYS("there is more to come", EXPIRING, ARCHIVED),

	MOVES("it may hold stock: release again", EXPIRED, INVENTORY_RESERVED, EXPIRING, EXPIRED, RETRY),
	STAYS("late: nothing is held", EXPIRED, INVENTORY_UNAVAILABLE),
	STAYS("cannot be repaired here, the audit names it", EXPIRED, INVENTORY_COMMITTED),
	STAYS("delivered twice", EXPIRED, INVENTORY_RELEASED),
	STAYS("nothing is awaited that came back", EXPIRED, INVENTORY_RETURNED),
	REFUSES("too late to buy", EXPIRED, CONFIRM),
	REFUSES("final, and not by the client", EXPIRED, CANCEL),
	REFUSES("too late", EXPIRED, EXTEND),
	REFUSES("nothing was bought", EXPIRED, RETURN),
	STAYS("settled: an old timer", EXPIRED, REQUEST_UNANSWERED),
	STAYS("settled: an old timer", EXPIRED, DEADLINE_PASSED),
	STAYS("settled: an old timer", EXPIRED, HOLD_RAN_OUT),
	DROPS("the archive has it", EXPIRED, ARCHIVED),
	/* clang-format on */
};

static void test_every_pair(void)
{
	int seen[ORDER_STATE_COUNT][ORDER_INPUT_COUNT] = { 0 };

	CU_ASSERT_EQUAL(RT_LENGTH(rows), ORDER_STATE_COUNT * ORDER_INPUT_COUNT);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const struct order_rule *rule = order_rule(rows[i].from, rows[i].input);

		seen[rows[i].from][rows[i].input]++;
		TEST_ROW(rule->state == rows[i].from, rows[i].why);
		TEST_ROW(rule->input == rows[i].input, rows[i].why);
		TEST_ROW(rule->verdict == rows[i].verdict, rows[i].why);
		TEST_ROW(rule->to == rows[i].to, rows[i].why);
		TEST_ROW(rule->event == rows[i].event, rows[i].why);
		TEST_ROW(rule->timer == rows[i].timer, rows[i].why);
	}
	for (int state = 0; state < ORDER_STATE_COUNT; state++)
		for (int input = 0; input < ORDER_INPUT_COUNT; input++)
			CU_ASSERT_EQUAL(seen[state][input], 1);
}

/* What asks leaves the order waiting for an answer, and is said in an event that is a request to
 * inventory. What asks for nothing changes nothing there. */
static void expect_asks(const struct order_rule *rule)
{
	bool asks = rule->timer == ORDER_TIMER_RETRY;
	bool waits = !order_state_settled(rule->to) && rule->to != ORDER_RESERVED;
	enum stock_request request = STOCK_REQUEST_COUNT;
	const char *type = order_event_type(rule->event);

	if (type == NULL) {
		CU_ASSERT_FALSE(asks);
		return;
	}
	CU_ASSERT_EQUAL(asks, waits);
	if (rule->verdict == ORDER_DROPS) /* inventory drops its reservation, and answers nothing */
		return;
	if (asks)
		CU_ASSERT_TRUE(stock_request_parse(type, 1, &request))
	else if (stock_request_parse(type, 1, &request))
		/* The refusal was read, so inventory holds nothing. */
		CU_ASSERT(rule->input == ORDER_IN_INVENTORY_UNAVAILABLE &&
			  stock_rule(STOCK_UNAVAILABLE, request)->to == STOCK_UNAVAILABLE);
}

/* What must hold of any table of rules, whatever its rows say. */
static void test_the_table_is_sane(void)
{
	for (int state = 0; state < ORDER_STATE_COUNT; state++)
		for (int input = 0; input < ORDER_INPUT_COUNT; input++) {
			const struct order_rule *rule =
				order_rule((enum order_state)state, (enum order_input)input);
			bool client = input == ORDER_IN_CONFIRM || input == ORDER_IN_CANCEL ||
				      input == ORDER_IN_EXTEND || input == ORDER_IN_RETURN;

			/* Only a client can be refused; an event or a timer is never an error. */
			CU_ASSERT(rule->verdict != ORDER_REFUSES || client);
			/* A new version and its event belong together. */
			if (rule->verdict == ORDER_MOVES || rule->verdict == ORDER_AGAIN ||
			    rule->verdict == ORDER_DROPS)
				CU_ASSERT_NOT_EQUAL(rule->event, ORDER_EV_NOTHING)
			else
				CU_ASSERT_EQUAL(rule->event, ORDER_EV_NOTHING);
			/* A moved order has a timer exactly while it is not settled. */
			if (rule->verdict == ORDER_MOVES)
				CU_ASSERT_EQUAL(order_state_settled(rule->to),
						rule->timer == ORDER_TIMER_NONE);
			/* Nothing is dropped to which something is still to happen. */
			if (rule->verdict == ORDER_DROPS)
				CU_ASSERT_TRUE(order_state_settled(rule->state));
			/* An event that is published sets the timer, which shows whether it asks for something. */
			CU_ASSERT_EQUAL(rule->event == ORDER_EV_NOTHING,
					rule->timer == ORDER_TIMER_KEEP);
			expect_asks(rule);
			/* Only a move leads to another state. */
			CU_ASSERT(rule->verdict == ORDER_MOVES || rule->to == rule->state);
			/* A final order never takes another outcome. */
			if (order_state_final(rule->state))
				CU_ASSERT_STRING_EQUAL(order_state_status(rule->state),
						       order_state_status(rule->to));
		}
}

static void test_states(void)
{
	static const struct {
		const char *text, *status;
		bool known;
		enum order_state state;
		bool settled, final;
	} states[] = {
		{ "PENDING", "PENDING", true, ORDER_PENDING, false, false },
		{ "RESERVED", "RESERVED", true, ORDER_RESERVED, false, false },
		{ "REJECTED", "REJECTED", true, ORDER_REJECTED, true, true },
		{ "REJECTED~", "REJECTED", true, ORDER_REJECTING, false, true },
		{ "CONFIRMED~", "CONFIRMED", true, ORDER_CONFIRMING, false, true },
		{ "CONFIRMED", "CONFIRMED", true, ORDER_CONFIRMED, true, true },
		{ "RETURNED~", "CONFIRMED", true, ORDER_RETURNING, false, true },
		{ "CANCELLED~", "CANCELLED", true, ORDER_CANCELLING, false, true },
		{ "CANCELLED", "CANCELLED", true, ORDER_CANCELLED, true, true },
		{ "EXPIRED~", "EXPIRED", true, ORDER_EXPIRING, false, true },
		{ "EXPIRED", "EXPIRED", true, ORDER_EXPIRED, true, true },
		{ .text = "PENDING~" },
		{ .text = "RESERVED~" },
		{ .text = "CONFIRMED~~" },
		{ .text = "CONFIRME" },
		{ .text = "" },
		{ .text = "Pending" },
	};

	for (size_t i = 0; i < RT_LENGTH(states); i++) {
		enum order_state state = ORDER_STATE_COUNT;

		CU_ASSERT_EQUAL(order_state_parse(states[i].text, strlen(states[i].text), &state),
				states[i].known);
		if (!states[i].known) {
			CU_ASSERT_EQUAL(state, ORDER_STATE_COUNT);
			continue;
		}
		CU_ASSERT_EQUAL(state, states[i].state);
		CU_ASSERT_STRING_EQUAL(order_state_text(state), states[i].text);
		CU_ASSERT_STRING_EQUAL(order_state_status(state), states[i].status);
		CU_ASSERT_EQUAL(order_state_settled(state), states[i].settled);
		CU_ASSERT_EQUAL(order_state_final(state), states[i].final);
	}
}

/* An event has the name of the message that is its content. */
static void test_events(void)
{
	static const struct {
		enum order_event event;
		const ProtobufCMessageDescriptor *message;
	} events[] = {
		{ ORDER_EV_PLACED, &tandem__order__v1__order_placed__descriptor },
		{ ORDER_EV_RESERVED, &tandem__order__v1__order_reserved__descriptor },
		{ ORDER_EV_REJECTED, &tandem__order__v1__order_rejected__descriptor },
		{ ORDER_EV_EXTENDED, &tandem__order__v1__order_hold_extended__descriptor },
		{ ORDER_EV_CONFIRMED, &tandem__order__v1__order_confirmed__descriptor },
		{ ORDER_EV_RETURNED, &tandem__order__v1__order_returned__descriptor },
		{ ORDER_EV_CANCELLED, &tandem__order__v1__order_cancelled__descriptor },
		{ ORDER_EV_EXPIRED, &tandem__order__v1__order_expired__descriptor },
		{ ORDER_EV_SETTLED, &tandem__order__v1__order_settled__descriptor },
		{ ORDER_EV_DROPPED, &tandem__order__v1__order_dropped__descriptor },
	};

	CU_ASSERT_EQUAL(RT_LENGTH(events), ORDER_EVENT_COUNT - 1);
	for (size_t i = 0; i < RT_LENGTH(events); i++) {
		enum order_event event = events[i].event;

		CU_ASSERT_STRING_EQUAL(order_event_type(event), events[i].message->name);
		CU_ASSERT_EQUAL(order_event_has_detail(event),
				event != ORDER_EV_PLACED && event != ORDER_EV_EXTENDED &&
					events[i].message->n_fields > 0);
	}
	CU_ASSERT_PTR_NULL(order_event_type(ORDER_EV_NOTHING));
	CU_ASSERT_PTR_NULL(order_event_word(ORDER_EV_NOTHING));
}

/* Every move's event leads from one state of the history to the next. */
static void test_state_after(void)
{
	for (int state = 0; state < ORDER_STATE_COUNT; state++)
		for (int input = 0; input < ORDER_INPUT_COUNT; input++) {
			const struct order_rule *rule =
				order_rule((enum order_state)state, (enum order_input)input);

			CU_ASSERT_EQUAL(order_state_after(rule->state, rule->event), rule->to);
		}
	CU_ASSERT_EQUAL(order_state_after(ORDER_PENDING, ORDER_EV_SETTLED), ORDER_PENDING);
}

static void test_retry_due(void)
{
	static const struct {
		const char *why;
		uint32_t attempt, jitter;
		int64_t due;
	} cases[] = {
		{ "the first, early", 1, 0, 1000 + 75 },
		{ "the first, middle", 1, 500, 1000 + 100 },
		{ "the first, late", 1, 999, 1000 + 124 },
		{ "doubles", 2, 500, 1000 + 200 },
		{ "doubles again", 4, 500, 1000 + 800 },
		{ "up to the longest", 5, 500, 1000 + 1000 },
		{ "and no longer", 4000000000U, 500, 1000 + 1000 },
	};

	for (size_t i = 0; i < RT_LENGTH(cases); i++)
		TEST_ROW(order_retry_due(1000, cases[i].attempt, 100, 1000, cases[i].jitter) ==
				 cases[i].due,
			 cases[i].why);
}

static void test_timer_input(void)
{
	static const struct order_clock clock = { .decision_ms = 1000 };
	static const struct {
		const char *why;
		enum order_state state;
		int64_t now_ms;
		enum order_input input;
	} cases[] = {
		{ "young", ORDER_PENDING, 5999, ORDER_IN_REQUEST_UNANSWERED },
		{ "too old", ORDER_PENDING, 6000, ORDER_IN_DEADLINE_PASSED },
		{ "the clock stepped back", ORDER_PENDING, 10, ORDER_IN_REQUEST_UNANSWERED },
		{ "reserved", ORDER_RESERVED, 5001, ORDER_IN_HOLD_RAN_OUT },
		{ "asked to commit", ORDER_CONFIRMING, 99999, ORDER_IN_REQUEST_UNANSWERED },
		{ "asked to release", ORDER_CANCELLING, 99999, ORDER_IN_REQUEST_UNANSWERED },
		{ "asked to release", ORDER_EXPIRING, 99999, ORDER_IN_REQUEST_UNANSWERED },
		{ "asked to release", ORDER_REJECTING, 99999, ORDER_IN_REQUEST_UNANSWERED },
		{ "settled", ORDER_CONFIRMED, 99999, ORDER_IN_REQUEST_UNANSWERED },
	};

	for (size_t i = 0; i < RT_LENGTH(cases); i++)
		TEST_ROW(order_timer_input(cases[i].state, 5000, cases[i].now_ms, &clock) ==
				 cases[i].input,
			 cases[i].why);
}

int main(void)
{
	static const struct test tests[] = {
		{ "every pair has its rule", test_every_pair },
		{ "what must hold for every row", test_the_table_is_sane },
		{ "states are parsed and named", test_states },
		{ "an event has the name of its content", test_events },
		{ "an event gives the state after it", test_state_after },
		{ "retries back off", test_retry_due },
		{ "the input of a timer", test_timer_input },
	};

	return tests_run("order_step", tests, RT_LENGTH(tests));
}
