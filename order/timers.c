/* timers.c - due timers: requests without an answer, orders without a decision, holds that ran out.
 *
 *   every every_ms   look → due_listed: each due order is leased to this instance
 *     order_timer_input says what its timer means
 *       queued       inventory has not read its request yet: late, not lost; the timer is set again,
 *                    together with those of the others in the list
 *       else         store->move: asked again, or expired
 *     the last one has ended → look again at once if there may be more, else at the next tick
 *
 * If this instance dies or loses Redis, its lease runs out and the order is due again. */
#include <stdio.h>

#include "base/base.h"
#include "order/order_internal.h"

#define COUNT_MAX 256
#define LEASE_MS  1500

/* Not const: protobuf-c has no const strings. */
static char undecided_reason[] = "inventory did not answer in time";
static char unconfirmed_reason[] = "not confirmed within its hold";

struct order_timers {
	struct order *order;
	int partition;
	int64_t every_ms;
	struct rt_timer tick;
	struct order_due_op due;
	size_t pending;    /* operations under way: moves, timers, the list of due orders */
	int64_t unsettled; /* timers, and of them due ones, at the last check */
	size_t overdue;
	bool more, stopping;
	void (*stopped)(struct order *order);
};

/* One order that was due. */
struct due {
	struct order_timers *timers;
	char order_id[ORDER_ID_LENGTH + 1];
	struct rt_arena arena; /* of the event's data */
	enum order_input input;
	struct order_move_op move;
	struct order_timer_op timer;
	struct rt_span span;
	char own_traceparent[RT_TRACEPARENT_TEXT];
};

static void look(struct rt_timer *tick);

static void order_ended(struct order_timers *timers)
{
	if (--timers->pending > 0)
		return;
	if (!timers->stopping)
		rt_timer_start(timers->order->loop, &timers->tick,
			       timers->more ? 0 : timers->every_ms, look);
	else if (timers->stopped != NULL)
		RT_TAKE(timers->stopped)(timers->order);
}

static void due_end(struct due *due)
{
	struct order_timers *timers = due->timers;

	rt_arena_done(&due->arena);
	free(due);
	order_ended(timers);
}

/* ---- spans ---- */

/* The timer was set when this event was published. */
static enum order_event waits_since(enum order_state state)
{
	if (state == ORDER_RESERVED)
		return ORDER_EV_RESERVED;
	return order_rule(state, ORDER_IN_REQUEST_UNANSWERED)->event;
}

static void begin_span(struct due *due, const struct order_record *record,
		       const struct order_trace *trace)
{
	static const char *const names[ORDER_INPUT_COUNT] = {
		[ORDER_IN_REQUEST_UNANSWERED] = "request unanswered",
		[ORDER_IN_DEADLINE_PASSED] = "deadline passed",
		[ORDER_IN_HOLD_RAN_OUT] = "hold ran out",
	};
	bool again = due->input == ORDER_IN_REQUEST_UNANSWERED;
	struct rt_span *span = &due->span;

	rt_span_begin(span, RT_SPAN_TIMER, names[due->input]);
	rt_span_carried(span, trace->traceparent);
	span->state = trace->tracestate;
	rt_span_order(span, due->order_id);
	span->repeats = again;
	span->event.type = order_event_type(waits_since(record->state));
	span->event.attempt = record->attempt;
	span->published.attempt = again ? record->attempt + 1 : 1;
	due->move.span = span;
}

static void end_span(struct due *due, int status)
{
	if (due->move.span == NULL)
		return;
	due->span.failed = status != RT_OK;
	rt_span_end(&due->span);
}

static void move_stored(struct order_move_op *op, int status)
{
	struct due *due = RT_CONTAINER_OF(op, struct due, move);
	struct order *order = due->timers->order;
	char trace[RT_TRACE_ID_TEXT];

	order_moved(order, op, status);
	end_span(due, status);
	if (status == RT_OK && op->outcome == ORDER_MOVED) {
		if (op->input == ORDER_IN_REQUEST_UNANSWERED)
			order_count(order->counts.republished, 1);
		RT_LOG(RT_DEBUG, "a timer ran out", RT_S("order_id", op->order_id),
		       RT_S("status", order_state_status(op->state)), RT_I("version", op->version),
		       RT_S("asked_again", op->input == ORDER_IN_REQUEST_UNANSWERED ? "yes" : "no"),
		       RT_S("trace_id", rt_trace_find(op->traceparent, op->order_id, trace)));
	}
	due_end(due);
}

static void timer_set(struct order_timer_op *op, int status)
{
	(void)status; /* failed: the lease runs out */
	due_end(RT_CONTAINER_OF(op, struct due, timer));
}

/* The data of OrderExpired: inventory did not answer, or the client did not confirm, in time. */
static void expire_data(struct due *due, const struct order_record *record)
{
	Tandem__Order__V1__OrderExpired expired = TANDEM__ORDER__V1__ORDER_EXPIRED__INIT;
	const struct order_clock *clock = &due->timers->order->clock;
	Tandem__Order__V1__Order *order;

	if (due->input == ORDER_IN_DEADLINE_PASSED) {
		expired.reason = undecided_reason;
		expired.deadline =
			order_timestamp(&due->arena, order_created_ms(record) + clock->decision_ms);
	} else {
		expired.reason = unconfirmed_reason;
		order = order_view(&due->arena, record, NULL, 0);
		expired.deadline = order == NULL ? NULL : order->hold_expire_time;
	}
	due->move.data = order_pack(&due->arena, &expired.base, &due->move.data_length);
}

/* When the next repeat is due; for a PENDING order never after its deadline. */
static int64_t next_due(struct order *order, const struct order_record *record, int64_t now_ms,
			uint32_t attempt)
{
	int64_t due_ms = order_retry_at(order, now_ms, attempt);

	if (record->state == ORDER_PENDING)
		due_ms = RT_MIN(due_ms, RT_MAX(now_ms, order_created_ms(record) +
							       order->clock.decision_ms));
	return due_ms;
}

static void handle(struct order_timers *timers, const struct order_due *found, int64_t now_ms)
{
	struct order *order = timers->order;
	const struct order_record *record = &found->record;
	struct due *due = rt_alloc(sizeof(*due));
	struct order_trace trace;

	due->timers = timers;
	due->input =
		order_timer_input(record->state, order_created_ms(record), now_ms, &order->clock);
	snprintf(due->order_id, sizeof(due->order_id), "%s", record->order_id);
	timers->pending++;
	if (due->input == ORDER_IN_REQUEST_UNANSWERED && found->queued) {
		due->timer.partition = timers->partition;
		due->timer.order_id = due->order_id;
		due->timer.version = record->version;
		due->timer.stored_length = record->placed_length + record->detail_length;
		due->timer.due_ms = next_due(order, record, now_ms, record->attempt);
		due->timer.done = timer_set;
		order_store_timer(order->store, &due->timer);
		return;
	}
	if (due->input != ORDER_IN_REQUEST_UNANSWERED)
		expire_data(due, record);
	else
		due->move.stored_length = record->placed_length + record->detail_length;
	due->move.partition = timers->partition;
	due->move.order_id = due->order_id;
	due->move.input = due->input;
	due->move.expected_version = record->version;
	due->move.now_ms = now_ms;
	/* Asked again: with a longer interval. Expired: a new request, its first attempt. */
	due->move.retry_due_ms = due->input == ORDER_IN_REQUEST_UNANSWERED
					 ? next_due(order, record, now_ms, record->attempt + 1)
					 : order_retry_at(order, now_ms, 1);
	due->move.done = move_stored;
	trace = order_record_trace(&due->arena, record);
	if (rt_tracing)
		begin_span(due, record, &trace);
	due->move.traceparent =
		order_traceparent(due->move.span, trace.traceparent, due->own_traceparent);
	due->move.tracestate = trace.tracestate;
	order_move(order, &due->move);
}

/* The metrics are those of all partitions: each adds how its own numbers have changed. */
static void note_counts(struct order_timers *timers, const struct order_due_op *op)
{
	const struct order_counts *counts = &timers->order->counts;

	order_count(counts->unsettled, (double)(op->timer_count - timers->unsettled));
	order_count(counts->overdue, (double)op->due_count - (double)timers->overdue);
	timers->unsettled = op->timer_count;
	timers->overdue = op->due_count;
}

static void due_listed(struct order_due_op *op, int status)
{
	struct order_timers *timers = RT_CONTAINER_OF(op, struct order_timers, due);
	struct order_unanswered *unanswered =
		&timers->order->partitions[timers->partition].unanswered;

	if (status == RT_OK && !timers->stopping) {
		timers->more = op->due_count == COUNT_MAX;
		note_counts(timers, op);
		for (size_t i = 0; i < op->due_count; i++) {
			order_unanswered_note(unanswered, &op->due[i].record, op->now_ms);
			handle(timers, &op->due[i], op->now_ms);
		}
		order_unanswered_looked(unanswered, op->now_ms);
	}
	order_ended(timers);
}

static void look(struct rt_timer *tick)
{
	struct order_timers *timers = RT_CONTAINER_OF(tick, struct order_timers, tick);
	struct order *order = timers->order;
	int64_t now_ms = rt_loop_unix_ms(order->loop);

	timers->more = false;
	timers->pending++;
	timers->due = (struct order_due_op){ .partition = timers->partition,
					     .now_ms = now_ms,
					     .lease_until_ms = now_ms + LEASE_MS,
					     .count_max = COUNT_MAX,
					     .done = due_listed };
	order_store_due(order->store, &timers->due);
}

struct order_timers *order_timers_new(struct order *order, int partition, int64_t every_ms)
{
	struct order_timers *timers = rt_alloc(sizeof(*timers));

	timers->order = order;
	timers->partition = partition;
	timers->every_ms = every_ms;
	return timers;
}

void order_timers_start(struct order_timers *timers)
{
	rt_timer_start(timers->order->loop, &timers->tick, timers->every_ms, look);
}

void order_timers_stop(struct order_timers *timers, void (*stopped)(struct order *order))
{
	timers->stopping = true;
	timers->stopped = stopped;
	rt_timer_stop(timers->order->loop, &timers->tick);
	if (timers->pending == 0)
		RT_TAKE(timers->stopped)(timers->order);
}

void order_timers_free(struct order_timers *timers)
{
	if (timers == NULL)
		return;
	rt_timer_stop(timers->order->loop, &timers->tick);
	free(timers);
}
