/* explain_why.c - makes the two sentences from the facts. Pure. */
#include <inttypes.h>
#include <string.h>

#include "explain.h"

static const char *asked_to(enum order_state state)
{
	switch (state) {
	case ORDER_PENDING:
		return "reserve the order";
	case ORDER_CONFIRMING:
		return "commit the reservation";
	case ORDER_RETURNING:
		return "make available what came back";
	default:
		return "release what it holds";
	}
}

static void terminate(struct rt_buf *text)
{
	rt_buf_add(text, "", 1);
	text->length--;
}

/* Says what is wrong with the readers of a stream; nothing when they read. */
static void say_readers(struct rt_buf *text, const char *who, const struct ctl_readers *readers)
{
	char age[CTL_AGE];

	if (!readers->group) {
		rt_buf_printf(text, "; %s has no consumer group there", who);
	} else if (readers->consumers == 0 || readers->seen_ms < 0) {
		rt_buf_printf(text, "; %s has no consumer there", who);
	} else if (readers->seen_ms > CTL_ABSENT_MS) {
		ctl_age(age, readers->seen_ms);
		rt_buf_printf(text, "; %s was last seen %s ago", who, age);
	}
}

static void say_pending(struct rt_buf *text, const struct explain_delivery *delivery)
{
	char age[CTL_AGE];

	ctl_age(age, delivery->idle_ms);
	rt_buf_printf(text, "%s has been with consumer %s for %s, delivery %" PRId64,
		      delivery->type, delivery->consumer, age, delivery->deliveries);
	if (delivery->idle_ms > CTL_ABSENT_MS)
		rt_buf_printf(text, "; that consumer seems to have ended");
}

static void say_aside(struct rt_buf *text, const char *who, const struct explain_delivery *delivery)
{
	char age[CTL_AGE];

	ctl_age(age, delivery->aside_ms);
	rt_buf_printf(text, "%s has set %s aside for %s: it ", who, delivery->type, age);
	if (delivery->failed > 0)
		rt_buf_printf(text, "failed %" PRId64 " time%s, and ", delivery->failed,
			      delivery->failed == 1 ? "" : "s");
	rt_buf_printf(text, "waits for %s", delivery->waits);
}

static void say_dead(struct rt_buf *text, const char *who, const struct explain_delivery *delivery)
{
	rt_buf_printf(text, "%s could not process %s (%s): it is dead letter %s", who,
		      delivery->type, delivery->reason, delivery->stream_id);
}

/* True, and says so: inventory has answered, and the order service has not processed the answer. */
static bool say_answer(struct rt_buf *text, const struct explain_facts *facts)
{
	const struct explain_delivery *answer = &facts->answer;

	switch (answer->where) {
	case EXPLAIN_QUEUED:
		rt_buf_printf(text,
			      "inventory answered with %s, which the order service has not read "
			      "yet, %" PRId64 " events are ahead of it",
			      answer->type, answer->ahead);
		say_readers(text, "the order service", &facts->order);
		return true;
	case EXPLAIN_PENDING:
		rt_buf_printf(text, "inventory answered, and ");
		say_pending(text, answer);
		return true;
	case EXPLAIN_ASIDE:
		rt_buf_printf(text, "inventory answered, and ");
		say_aside(text, "the order service", answer);
		say_readers(text, "the order service", &facts->order);
		return true;
	case EXPLAIN_DEAD:
		say_dead(text, "the order service", answer);
		return true;
	case EXPLAIN_LOST:
		rt_buf_printf(text,
			      "inventory answered with %s, which was lost from its stream before "
			      "the order service read it",
			      answer->type);
		return true;
	case EXPLAIN_NO_EVENT:
	case EXPLAIN_DONE:
		break;
	}
	return false;
}

static void say_request(struct rt_buf *text, const struct explain_facts *facts)
{
	const struct explain_delivery *request = &facts->request;

	switch (request->where) {
	case EXPLAIN_QUEUED:
		rt_buf_printf(text,
			      "inventory has not read %s yet, %" PRId64 " events are ahead of it",
			      request->type, request->ahead);
		say_readers(text, "inventory", &facts->inventory);
		break;
	case EXPLAIN_PENDING:
		say_pending(text, request);
		break;
	case EXPLAIN_ASIDE:
		say_aside(text, "inventory", request);
		say_readers(text, "inventory", &facts->inventory);
		break;
	case EXPLAIN_DEAD:
		say_dead(text, "inventory", request);
		break;
	case EXPLAIN_LOST:
		rt_buf_printf(text, "%s was lost from the stream before inventory read it",
			      request->type);
		say_readers(text, "inventory", &facts->inventory);
		break;
	case EXPLAIN_DONE:
		if (facts->reservation != STOCK_NONE)
			rt_buf_printf(text,
				      "inventory processed %s (its reservation is %s), but there "
				      "is no answer in its stream",
				      request->type, stock_state_text(facts->reservation));
		else
			rt_buf_printf(text, "inventory acknowledged %s without an effect",
				      request->type);
		break;
	case EXPLAIN_NO_EVENT:
		rt_buf_printf(text, "the order's history has no such request");
		break;
	}
}

void explain_because(const struct explain_facts *facts, struct rt_buf *text)
{
	const char *status = order_state_status(facts->state);

	rt_buf_printf(text, "%s", status);
	if (facts->status_reason[0] != '\0')
		rt_buf_printf(text, " (%s)", facts->status_reason);
	if (facts->state == ORDER_RESERVED) {
		rt_buf_printf(text, ": inventory holds every line; the order waits to be confirmed "
				    "or cancelled");
	} else if (order_state_waits(facts->state)) {
		rt_buf_printf(text, ": inventory was asked to %s", asked_to(facts->state));
		if (facts->attempt > 1)
			rt_buf_printf(text, ", %" PRIu32 " times", facts->attempt);
		rt_buf_printf(text, "; ");
		if (!say_answer(text, facts))
			say_request(text, facts);
	} else {
		rt_buf_printf(text, ": final, and inventory has answered its last request");
	}
	rt_buf_printf(text, ".");
	terminate(text);
}

/* The order service looks for timers that are due more often than that. */
#define OVERDUE_MS 5000

/* "at 2026-… (in 3.2 s)". */
static void say_when(struct rt_buf *text, const struct explain_facts *facts)
{
	char at[RT_TIME_TEXT], age[CTL_AGE];
	int64_t left_ms = facts->timer_ms - facts->now_ms;

	rt_time_format(facts->timer_ms, at);
	ctl_age(age, left_ms < 0 ? -left_ms : left_ms);
	if (left_ms >= 0)
		rt_buf_printf(text, "at %s (in %s)", at, age);
	else
		rt_buf_printf(text, "at %s (overdue by %s%s)", at, age,
			      left_ms < -OVERDUE_MS ? "; is the order service running?" : "");
}

void explain_next(const struct explain_facts *facts, struct rt_buf *text)
{
	bool waits = order_state_waits(facts->state);

	if (order_state_settled(facts->state)) {
		rt_buf_printf(text, "Nothing: the order is settled.");
		terminate(text);
		return;
	}
	if (facts->request.where == EXPLAIN_DEAD)
		rt_buf_printf(text, "When its cause is fixed: tandemctl dead replay %s. ",
			      facts->request.stream_id);
	if (facts->answer.where == EXPLAIN_DEAD)
		rt_buf_printf(text, "When its cause is fixed: tandemctl dead replay %s. ",
			      facts->answer.stream_id);
	if (facts->timer_ms < 0) {
		rt_buf_printf(text, "Nothing by itself: the order has no timer. "
				    "tandemctl audit --repair sets one.");
	} else if (waits) {
		rt_buf_printf(text, "Inventory answers, or is asked again ");
		say_when(text, facts);
		rt_buf_printf(text, ".");
	} else {
		rt_buf_printf(text, "ConfirmOrder or CancelOrder; without either it expires ");
		say_when(text, facts);
		rt_buf_printf(text, ".");
	}
	terminate(text);
}
