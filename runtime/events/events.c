/* events.c - the consumer: hands delivered events to their handler, and finishes or retries them. subscription.c
 * reads and claims entries; held.c keeps their state; consumer.c has what both use.
 *
 * An entry (one setter: entry_set), from the stream or from aside:…:
 *
 *   READY ──▶ HANDED ──all finished, acknowledged by their command──▶ gone
 *     ▲          │ ├──some set aside, or no command──▶ FINISHING ──▶ gone
 *     │          │ └──an outage──▶ RETRY ─back-off─▶ READY
 *     └─ BEHIND ◀┘ it is alone in its entry, and its subject is blocked
 *
 * An event is open, then handed over, then has an outcome: done, ignored, failed, poison or behind. An event
 * that failed by its own fault, is poison or is behind another one of its subject is set aside in FINISHING:
 * it comes back as an entry of its own, in RETRY or BEHIND. A subject exists in `subjects` only while one of
 * its events is being retried (a blocker).
 *
 * Deliveries, as the group counts them, are failures: a claim counts one, since the consumer that had
 * the entry did not come back; a handling that failed by the event's own fault counts one. Outages do
 * not count: neither does reading own entries again, nor a claim whose entry was then delayed by an outage,
 * or behind another event. recount_more in subscription.c sends the count to the group, so that it
 * outlives this process.
 *
 * After a lost connection the master may be another one, without the last entries of the former. So nothing is handed
 * over until the group is ensured, and then only what is delivered again or anew (life); the rest is forgotten. So is
 * what waits to be acknowledged after it was done over the connection of before (events_forget_done), and an entry of which
 * some events were done over that is handled as a whole once more. What is with a handler already must not be stored over the
 * new connection (rt_event_is_current).
 *
 * Only pump() calls handlers, and finishing an event only queues: nothing re-enters. */
#include "events.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "events_internal.h"

/* An outage is no reason to try an event less and less often: it goes on soon after the end. */
#define OUTAGE_RETRY_MAX_MS 1000

#define LINKS_MAX        64 /* of a read */
#define ACK_GATHER_MS    20 /* far below claim_idle_ms */
#define ACK_GATHER_SHARE 8  /* of in_flight_max: when so many events wait, no others are awaited */

static struct rt_events *owner_of(const struct entry *entry)
{
	return RT_CONTAINER_OF(entry->held, struct rt_events, held);
}

static void on_retry(struct rt_timer *timer);
static void pump(struct rt_events *events);

/* ---- metrics ---- */

static void metrics_init(struct rt_events *events)
{
	static const char *const labels[] = { "stream", NULL };
	static const char *const counter_names[COUNTERS][2] = {
		[RECEIVED] = { "tandem_events_received_total", "Events taken in." },
		[DONE] = { "tandem_events_done_total", "Events whose effect was stored." },
		[IGNORED] = { "tandem_events_ignored_total", "Events that had no effect." },
		[RETRIED] = { "tandem_events_retried_total", "Events to be handled again." },
		[DEAD] = { "tandem_events_dead_total", "Events moved to the dead letters." },
		[CLAIMED] = { "tandem_events_claimed_total",
			      "Entries claimed from other consumers." },
		[LOST] = { "tandem_events_lost_total",
			   "Pending entries that were deleted from the stream." },
		[REDELIVERED] = { "tandem_events_redelivered_total",
				  "Events taken in that had been delivered before." },
		[REBUILT] = { "tandem_events_rebuilds_total",
			      "Times the group or its stream was gone." },
	};
	static const char *const gauge_names[GAUGES][2] = {
		[IN_FLIGHT] = { "tandem_events_in_flight", "Events handed over, not finished." },
		[PARKED] = { "tandem_events_parked", "Events that wait for a retry." },
		[ASIDE] = { "tandem_events_aside",
			    "Events set aside: they failed, or wait behind one that did." },
		[LAG] = { "tandem_events_lag", "Events written, not delivered." },
		[PENDING] = { "tandem_events_pending", "Entries delivered, not acknowledged." },
		[OLDEST] = { "tandem_events_oldest_pending_seconds",
			     "Age of the oldest entry not acknowledged." },
	};
	const char *values[] = { events->name };
	struct rt_metrics *metrics = events->options.metrics;

	if (metrics == NULL)
		return;
	for (size_t i = 0; i < COUNTERS; i++)
		events->counters[i] =
			rt_metric_series(rt_metric(metrics, RT_COUNTER, counter_names[i][0],
						   counter_names[i][1], labels),
					 values);
	for (size_t i = 0; i < GAUGES; i++)
		events->gauges[i] = rt_metric_series(
			rt_metric(metrics, RT_GAUGE, gauge_names[i][0], gauge_names[i][1], labels),
			values);
}

/* ---- counting what is held ---- */

static void report_held(struct rt_events *events)
{
	events_gauge(events, IN_FLIGHT, (double)events_in_flight(events));
	events_gauge(events, PARKED, (double)events_parked(events));
}

/* ---- finishing and retrying entries ---- */

static void entry_finish(struct entry *entry, struct rt_list *queue)
{
	entry_set(entry, FINISHING);
	rt_list_push(queue, &entry->link);
}

static void entry_dead_letter(struct entry *entry, const char *reason)
{
	entry->reason = rt_strdup(reason);
	entry_finish(entry, &owner_of(entry)->dead);
}

static void entry_retry_within(struct entry *entry, int64_t max_ms)
{
	struct rt_events *events = owner_of(entry);
	int64_t min_ms = events->options.retry_min_ms;

	entry_set(entry, RETRY);
	entry->outage = false;
	rt_timer_start(events->loop, &entry->retry,
		       events_back_off(events, min_ms, RT_MAX(min_ms, max_ms), entry->tries),
		       on_retry);
	entry->tries++;
}

static void entry_retry_later(struct entry *entry)
{
	entry_retry_within(entry, owner_of(entry)->options.retry_max_ms);
}

/* ---- taking in delivered entries ---- */

/* Finishes an entry that was delivered too often: it moves to the dead letters; or all its events are set
 * aside, if it has several and any may be at fault. False: it was not too often. */
static bool delivered_too_often(struct entry *entry)
{
	uint32_t max = (uint32_t)owner_of(entry)->options.deliveries_max;
	char reason[96];

	if (entry->count > 1 && entry->deliveries > RT_MAX(max / 2, 1U)) {
		for (size_t i = 0; i < entry->count; i++)
			entry->events[i].outcome = MUST_WAIT;
		entry->claimed = false; /* the claim counts */
		entry_finish(entry, &owner_of(entry)->asiding);
		return true;
	}
	if (entry->deliveries <= max)
		return false;
	snprintf(reason, sizeof(reason), "delivered %u times", (unsigned int)entry->deliveries);
	if (entry->whole) {
		entry_dead_letter(entry, reason);
	} else { /* its dead letter gets a field for each part */
		entry->events[0].outcome = POISONED;
		entry->events[0].reason = rt_strdup(reason);
		entry_finish(entry, &owner_of(entry)->asiding);
	}
	return true;
}

static bool is_text(const struct rt_slice *slice, const char *text)
{
	return slice->length == strlen(text) && memcmp(slice->data, text, slice->length) == 0;
}

static bool has_events(const struct entry *entry, const struct rt_entry_event *list, size_t count)
{
	bool same = entry->count == count;

	for (size_t i = 0; i < count && same; i++) {
		const struct rt_event *event = &entry->events[i].event;

		same = list[i].seq == event->seq && is_text(&list[i].subject, event->subject) &&
		       is_text(&list[i].type, event->type);
	}
	return same;
}

/* An entry that is held was delivered again. Over another connection: behind that may be a master that has lost what was done
 * for some of its events. */
static void admit_again(struct entry *entry, const struct rt_entry *from)
{
	struct rt_events *events = owner_of(entry);

	if (entry->life != events->life && entry->done > 0) {
		if (entry->state == HANDED)
			entry->anew = true;
		else if (entry->state != FINISHING)
			entry_reopen(entry);
	}

	/* Its acknowledgement may have found no group. */
	entry->again = true;
	entry->life = events->life;
	entry->touched_ms = rt_loop_now(events->loop);
	if (from->deliveries > entry->deliveries)
		entry_count(entry, entry->deliveries); /* a claim of our own entry */
}

/* Another master, which lacks the entry that is held, has given its id to another one. The latter stays pending, to be
 * claimed, if the former cannot be forgotten yet. True: it is. */
static bool forget_former(struct entry *entry)
{
	if (entry->state == HANDED || entry->state == FINISHING)
		return false;
	entry_remove(entry);
	return true;
}

static void admit_entry(struct rt_events *events, const struct rt_entry *from, bool aside,
			enum way way)
{
	struct rt_entry_event *list = NULL;
	const char *fault = NULL;
	struct entry *entry = entry_find(&events->held, from->stream_id, aside);
	uint32_t deliveries = from->deliveries;
	size_t event_count = 0;

	if (deliveries == 0)
		deliveries = way == CLAIM ? 2 : 1; /* unknown, but at least this */
	if (from->fields.count > 0)
		fault = rt_entry_read(&from->fields, &list, &event_count);
	if (entry != NULL && (entry->life == events->life || from->fields.count == 0 ||
			      has_events(entry, list, event_count))) {
		admit_again(entry, from);
		free(list);
		return;
	}
	if (entry != NULL && !forget_former(entry)) {
		free(list);
		return;
	}
	entry = entry_new(&events->held, from->stream_id, aside, deliveries, list, event_count);
	entry->whole = rt_entry_field(&from->fields, "type").data != NULL;
	free(list);
	entry->life = events->life;
	entry->claimed = way == CLAIM;
	events_count(events, RECEIVED, weight_of(entry));
	if (way != NEW)
		events_count(events, REDELIVERED, weight_of(entry));
	if (from->fields.count == 0) {
		events_count(events, LOST, 1);
		entry_finish(entry, &events->acking);
	} else if (fault != NULL) {
		entry_dead_letter(entry, fault);
	} else if (aside && !entry->whole) {
		entry_dead_letter(entry, "not an event: an entry that was set aside has one");
	} else if (!delivered_too_often(entry)) {
		rt_list_push(&events->held.ready, &entry->link);
	}
}

/* Takes in the entries of an operation. */
static void admit_all(struct rt_events *events, const struct rt_stream_op *op, bool aside,
		      enum way way)
{
	size_t lost = 0, before = events->held.counts[READY];

	for (size_t i = 0; i < op->entry_count; i++) {
		lost += op->entries[i].fields.count == 0;
		admit_entry(events, &op->entries[i], aside, way);
	}
	if (way == NEW && op->entry_count > 0)
		events->per_entry =
			RT_MAX((events->held.counts[READY] - before) / op->entry_count, 1);
	lost += op->lost_count;
	events_count(events, LOST, op->lost_count);
	if (lost > 0)
		RT_LOG(RT_WARN, "events lost: pending, but deleted from the stream",
		       RT_S("stream", events->name), RT_I("entries", lost));
}

/* ---- finishing: acknowledging, dead letters, setting aside ---- */

static void on_ack_retry_time(struct rt_timer *timer)
{
	pump(RT_CONTAINER_OF(timer, struct rt_events, ack_retry));
}

static void on_ack_time(struct rt_timer *timer)
{
	struct rt_events *events = RT_CONTAINER_OF(timer, struct rt_events, ack_gather);

	events->ack_now = true;
	pump(events);
}

/* An acknowledgement of its own is not urgent, and wakes Redis and then this process: so they gather for a
 * moment, unless many wait. True: not yet. */
static bool ack_gathers(struct rt_events *events)
{
	size_t many = (size_t)events->options.in_flight_max / ACK_GATHER_SHARE;

	if (events->ack_now || events->state == STOPPING || events->held.counts[FINISHING] >= many)
		return false;
	if (!rt_timer_running(&events->ack_gather))
		rt_timer_start(events->loop, &events->ack_gather, ACK_GATHER_MS, on_ack_time);
	return true;
}

/* Ends one of these operations. True: it was done, or there is no group any more. Otherwise its entries go back
 * to the head of the queue; when stopping they stay pending. */
static bool ack_ended(struct rt_events *events, struct op *op, int status, struct rt_list *queue)
{
	struct rt_list waiting, *link;

	events_op_end(events, op);
	if (status == RT_OK || status == RT_NOGROUP) {
		events->ack_retry_ms = events->options.retry_min_ms;
		return true;
	}
	rt_list_init(&waiting);
	rt_list_move(&waiting, queue);
	while ((link = rt_list_pop(&op->entries)) != NULL)
		rt_list_push(queue, link);
	while ((link = rt_list_pop(&waiting)) != NULL)
		rt_list_push(queue, link);
	if (events->ack_retry_ms == events->options.retry_min_ms)
		RT_LOG(RT_WARN, "events cannot be acknowledged: trying again",
		       RT_S("stream", events->name), RT_S("error", rt_status_text(status)));
	rt_timer_start(
		events->loop, &events->ack_retry,
		events_back_off(events, events->ack_retry_ms, events->options.retry_max_ms, 0),
		on_ack_retry_time);
	events->ack_retry_ms = RT_MIN(events->ack_retry_ms * 2, events->options.retry_max_ms);
	return false;
}

static bool may_finish(const struct rt_events *events, const struct op *op,
		       const struct rt_list *queue)
{
	return !op->busy && !rt_list_empty(queue) && !rt_timer_running(&events->ack_retry);
}

static void entries_acked(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, ack.op);

	if (ack_ended(events, &events->ack, status, &events->acking))
		entries_remove(&events->ack.entries);
	pump(events);
}

static void ack_more(struct rt_events *events)
{
	struct op *op = &events->ack;

	if (!may_finish(events, op, &events->acking) || ack_gathers(events))
		return;
	op->op.aside = RT_CONTAINER_OF(events->acking.next, struct entry, link)->aside;
	events_op_ids(op, OP_IDS_MAX);
	while (op->op.id_count < OP_IDS_MAX && !rt_list_empty(&events->acking)) {
		struct entry *entry = RT_CONTAINER_OF(events->acking.next, struct entry, link);

		if (entry->aside != op->op.aside)
			break;
		rt_list_remove(&entry->link);
		rt_list_push(&op->entries, &entry->link);
		events_op_id(op, entry->ack_id);
	}
	if (rt_list_empty(&events->acking)) {
		events->ack_now = false;
		rt_timer_stop(events->loop, &events->ack_gather);
	}
	events_op_begin(events, op, entries_acked);
	rt_stream_ack(events->stream, &op->op);
}

static void log_dead_letter(struct rt_events *events, const struct entry *entry,
			    const struct rt_event *event, uint32_t deliveries, const char *reason)
{
	char trace[RT_TRACE_ID_TEXT];

	events_count(events, DEAD, 1);
	RT_LOG(RT_WARN, "event moved to the dead letters", RT_S("stream", events->name),
	       RT_S("stream_id", stream_id_of(entry)), RT_S("type", event->type),
	       RT_S("subject", event->subject), RT_I("deliveries", deliveries),
	       RT_S("reason", reason),
	       RT_S("trace_id", rt_trace_find(event->traceparent, event->subject, trace)));
}

static void dead_letters_stored(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, dead_letter.op);
	static const struct rt_event none = { .type = "", .subject = "" };

	if (status == RT_OK) {
		for (struct rt_list *link = events->dead_letter.entries.next;
		     link != &events->dead_letter.entries; link = link->next) {
			const struct entry *entry = RT_CONTAINER_OF(link, struct entry, link);

			log_dead_letter(events, entry,
					entry->count > 0 ? &entry->events[0].event : &none,
					entry->deliveries, entry->reason);
		}
	}
	if (ack_ended(events, &events->dead_letter, status, &events->dead))
		entries_remove(&events->dead_letter.entries);
	pump(events);
}

/* Takes the entries at the head of the queue that have the same stream and reason. */
static void dead_letter_more(struct rt_events *events)
{
	const struct entry *first;
	struct op *op = &events->dead_letter;

	if (!may_finish(events, op, &events->dead))
		return;
	first = RT_CONTAINER_OF(events->dead.next, struct entry, link);
	op->op.reason = first->reason;
	op->op.aside = first->aside;
	events_op_ids(op, OP_IDS_MAX);
	while (op->op.id_count < OP_IDS_MAX && !rt_list_empty(&events->dead)) {
		struct entry *entry = RT_CONTAINER_OF(events->dead.next, struct entry, link);

		if (strcmp(entry->reason, first->reason) != 0 || entry->aside != first->aside)
			break;
		rt_list_remove(&entry->link);
		rt_list_push(&op->entries, &entry->link);
		events_op_id(op, stream_id_of(entry));
	}
	events_op_begin(events, op, dead_letters_stored);
	rt_stream_dead_letter(events->stream, &op->op);
}

/* Whether the event leaves its entry, and with how many deliveries and which reason. */
static bool leaves_entry(struct event *event, struct rt_aside *ret)
{
	const struct entry *entry = event->entry;
	const struct rt_events *events = owner_of(entry);

	*ret = (struct rt_aside){ .event = &event->event, .deliveries = entry->deliveries };
	switch (event->outcome) {
	case POISONED:
		ret->reason = event->reason;
		return true;
	case MUST_WAIT:
		ret->deliveries -=
			entry->claimed && entry->deliveries > 1; /* as entry_uncount_claim */
		return true;
	case FAILED:
		if (entry->deliveries < (uint32_t)events->options.deliveries_max) {
			ret->deliveries = entry->deliveries + 1;
			return true;
		}
		free(event->reason);
		event->reason =
			rt_printf("failed %u times, at last: %s", (unsigned int)entry->deliveries,
				  rt_status_text(event->status));
		ret->reason = event->reason;
		return true;
	default:
		return false;
	}
}

/* Holds the entry in aside:… that the event now has. */
static void hold_aside(struct rt_events *events, struct event *event, const struct rt_aside *aside)
{
	const struct rt_event *from = &event->event;
	const struct rt_entry_event single = {
		.type = { from->type, strlen(from->type) },
		.subject = { from->subject, strlen(from->subject) },
		.time = { from->time, strlen(from->time) },
		.traceparent = { from->traceparent, strlen(from->traceparent) },
		.tracestate = { from->tracestate, strlen(from->tracestate) },
		.actor = { from->actor, strlen(from->actor) },
		.data = { (const char *)from->data, from->data_length },
		.seq = from->seq,
		.attempt = from->attempt,
	};
	struct entry *entry;
	struct subject *subject;

	if (entry_find(&events->held, aside->stream_id, true) != NULL)
		return;
	entry = entry_new(&events->held, aside->stream_id, true, aside->deliveries, &single, 1);
	entry->whole = true;
	entry->life = events->life;
	if (event->outcome == FAILED) {
		entry->events[0].blocked = RT_TAKE(event->blocked);
		entry->tries = 0;
		if (events->state == STOPPING)
			entry_remove(entry);
		else
			entry_retry_later(entry);
		return;
	}
	subject = blocker_of(&entry->events[0]);
	if (subject == NULL) {
		rt_list_push(&events->held.ready, &entry->link);
		return;
	}
	entry_set(entry, BEHIND);
	rt_list_push(&subject->behind, &entry->link);
}

static void aside_stored(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, set_aside.op);
	struct rt_aside *asides = RT_TAKE(stream_op->asides);

	if (status == RT_OK && !stream_op->taken) {
		struct rt_list *link = events->set_aside.entries.next;
		struct entry *entry = RT_CONTAINER_OF(link, struct entry, link);

		for (size_t i = 0; i < stream_op->aside_count; i++) {
			struct event *event = RT_CONTAINER_OF(
				(struct rt_event *)(uintptr_t)asides[i].event, struct event, event);

			if (asides[i].reason != NULL)
				log_dead_letter(events, entry, &event->event, asides[i].deliveries,
						asides[i].reason);
			else
				hold_aside(events, event, &asides[i]);
		}
	}
	if (ack_ended(events, &events->set_aside, status, &events->asiding))
		entries_remove(&events->set_aside.entries);
	free(asides);
	pump(events);
}

static void set_aside_more(struct rt_events *events)
{
	struct entry *entry;
	struct op *op = &events->set_aside;
	struct rt_list *link;

	if (!may_finish(events, op, &events->asiding))
		return;
	link = rt_list_pop(&events->asiding);
	entry = RT_CONTAINER_OF(link, struct entry, link);
	rt_list_push(&op->entries, link);
	op->op.asides = rt_alloc(entry->count * sizeof(*op->op.asides));
	op->op.aside_count = 0;
	for (size_t i = 0; i < entry->count; i++)
		op->op.aside_count +=
			leaves_entry(&entry->events[i], &op->op.asides[op->op.aside_count]);
	events_op_ids(op, 1);
	events_op_id(op, entry->ack_id);
	events_op_begin(events, op, aside_stored);
	rt_stream_set_aside(events->stream, &op->op);
}

/* ---- handing over ---- */

/* Whether the status is the event's own fault, not an outage. */
static bool is_events_fault(int status)
{
	switch (status) {
	case RT_LOST:
	case RT_TIMEOUT:
	case RT_BUSY:
	case RT_FULL:
	case RT_DENIED:
	case RT_UNREADY:
	case RT_UNCONFIRMED:
	case RT_CANCELED:
	case RT_NOGROUP:
	case RT_NOMEM:
	case RT_SYSTEM:
		return false;
	default:
		return true;
	}
}

/* An outage: all events that are not done come again. */
static void entry_put_off(struct entry *entry)
{
	entry_uncount_claim(entry);
	entry->acked = false;
	if (owner_of(entry)->state == STOPPING) {
		entry_remove(entry);
		return;
	}
	for (size_t i = 0; i < entry->count; i++) {
		struct event *event = &entry->events[i];

		if (event->outcome != FAILED)
			continue;
		event_block(event);
		if (!is_events_fault(event->status))
			event->outcome = OPEN;
	}
	entry_retry_within(entry,
			   RT_MIN(OUTAGE_RETRY_MAX_MS, owner_of(entry)->options.retry_max_ms));
	entry->outage = true;
}

/* The event of a `whole` entry has failed, or is poison. */
static void whole_failed(struct entry *entry)
{
	struct event *event = &entry->events[0];
	struct rt_aside aside;

	if (event->outcome == FAILED)
		event_block(event);
	(void)leaves_entry(event, &aside);
	if (aside.reason != NULL) {
		entry_dead_letter(entry, aside.reason);
		return;
	}
	entry_count(entry, aside.deliveries);
	entry->claimed = false;
	event->outcome = OPEN;
	entry->acked = false;
	if (owner_of(entry)->state == STOPPING)
		entry_remove(entry);
	else
		entry_retry_later(entry);
}

/* All events of an entry that was handed over have an outcome. */
static void entry_decided(struct entry *entry)
{
	struct rt_events *events = owner_of(entry);
	bool some_leave = false;

	if (entry->life != events->life) { /* it comes again, if it is there at all */
		entry_remove(entry);
		return;
	}
	if (entry->anew) {
		entry_reopen(entry);
		entry_ready(entry);
		return;
	}
	for (size_t i = 0; i < entry->count; i++) {
		struct event *event = &entry->events[i];

		if (event->outcome == FAILED && !is_events_fault(event->status)) {
			entry_put_off(entry);
			return;
		}
		some_leave = some_leave || event->outcome > IGNORED_IT;
	}
	if (some_leave && entry->whole) {
		whole_failed(entry);
	} else if (some_leave) {
		for (size_t i = 0; i < entry->count; i++)
			if (entry->events[i].outcome == FAILED)
				event_block(&entry->events[i]);
		entry_finish(entry, &events->asiding);
	} else if (entry->acked && !entry->again) {
		entry_remove(entry);
	} else {
		entry_finish(entry, &events->acking);
	}
}

/* Parks an entry of a single event whose subject another event blocks. */
static bool park_behind(struct entry *entry)
{
	struct subject *subject = entry->whole ? blocker_of(&entry->events[0]) : NULL;

	if (subject == NULL)
		return false;
	entry_uncount_claim(entry);
	entry_set(entry, BEHIND);
	rt_list_push(&subject->behind, &entry->link);
	return true;
}

/* What became of the handing over is the event's own: it begins anew with each delivery. */
static void begin_span(struct rt_events *events, struct entry *entry, struct event *event,
		       int64_t age_ms)
{
	struct rt_event *of = &event->event;
	struct handling *handling;
	struct rt_span *span;

	if (entry->handlings == NULL) /* not rt_alloc: each is set as a whole */
		entry->handlings = rt_realloc(NULL, entry->count * sizeof(*entry->handlings));
	handling = &entry->handlings[event - entry->events];
	span = &handling->span;
	rt_span_begin_at(span, RT_SPAN_PROCESSED, events->options.group, events->handed_us);
	rt_span_carried(span, of->traceparent);
	span->state = of->tracestate;
	if (!rt_span_order(span, of->subject) && !span->known)
		return;
	if (events->last_type == NULL || strcmp(events->last_type, of->type) != 0)
		events->last_type = rt_trace_name(of->type);
	span->event = (struct rt_span_event){ .context = events->options.context,
					      .type = events->last_type,
					      .partition = of->partition,
					      .attempt = of->attempt,
					      .seq = of->seq };
	span->repeats = of->attempt > 1;
	span->age_ms = age_ms;
	of->span = span;
	rt_span_traceparent(span, handling->traceparent);
	of->own_traceparent = handling->traceparent;
	if (!span->sampled || events->link_count == LINKS_MAX)
		return;
	if (events->links == NULL)
		events->links = rt_alloc(LINKS_MAX * sizeof(*events->links));
	events->links[events->link_count] = *span;
	events->links[events->link_count].state = NULL; /* the event may end before the read */
	events->links[events->link_count++].kind = RT_SPAN_LINK;
}

static void end_span(struct rt_event *event, bool failed)
{
	struct rt_span *span = RT_TAKE(event->span);

	if (span == NULL)
		return;
	span->failed = failed;
	rt_span_end(span);
}

/* The read that brought events whose traces are sampled. */
static void end_read(struct rt_events *events)
{
	struct rt_span read;

	rt_span_begin(&read, RT_SPAN_RECEIVED, events->options.group);
	read.begin_us = events->handed_us;
	read.number = events->handed_count;
	read.event = (struct rt_span_event){ .context = events->options.context,
					     .partition = events->options.partition };
	rt_span_end_linked(&read, events->links, events->link_count);
	events->link_count = 0;
}

static void hand_over(struct entry *entry)
{
	struct rt_events *events = owner_of(entry);
	bool traced = rt_tracing && events->options.context != NULL;
	int64_t age_ms =
		traced ? rt_loop_unix_ms(events->loop) - strtoll(stream_id_of(entry), NULL, 10) : 0;

	entry_set(entry, HANDED);
	entry->unfinished = 1; /* so that it is not decided before the end of this loop */
	for (size_t i = 0; i < entry->count; i++) {
		struct event *event = &entry->events[i];

		if (event->outcome != OPEN)
			continue;
		if (!entry->whole && blocker_of(event) != NULL) {
			event->outcome = MUST_WAIT;
			continue;
		}
		if (events->state == STOPPING) { /* a handler stopped us */
			event->outcome = FAILED;
			event->status = RT_CANCELED;
			continue;
		}
		event->outcome = UNFINISHED;
		entry->unfinished++;
		event->event.span = NULL;
		event->event.own_traceparent = event->event.traceparent;
		if (traced)
			begin_span(events, entry, event, age_ms);
		events->options.on_event(&event->event, events->options.user_data);
	}
	if (--entry->unfinished == 0)
		entry_decided(entry);
}

/* While stopping: drops entries that no handler has. They stay pending. */
static void drop_waiting(struct rt_events *events)
{
	bool ack_failed = rt_timer_running(&events->ack_retry); /* not tried again */
	struct rt_list *const queues[] = { &events->acking, &events->dead, &events->asiding };
	struct entry *entry, *next;

	/* In two rounds: entries behind a dropped one become ready only then. */
	for (int round = 0; round < 2; round++) {
		HASH_ITER (hh, events->held.entries, entry, next) {
			if (entry->state == RETRY || entry->state == READY)
				entry_remove(entry);
		}
	}
	for (size_t i = 0; ack_failed && i < RT_LENGTH(queues); i++)
		entries_remove(queues[i]);
}

static void stop_if_quiet(struct rt_events *events)
{
	void (*stopped)(void *user) = events->stopped;

	if (events->state != STOPPING || events->under_way > 0 || events_in_flight(events) > 0)
		return;
	if (events->held.entries != NULL)
		return;
	events_set(events, STOPPED);
	rt_timer_stop(events->loop, &events->ack_retry);
	rt_timer_stop(events->loop, &events->ack_gather);
	stopped(events->stopped_user); /* may free */
}

static void finish_more(struct rt_events *events)
{
	events_forget_done(events);
	ack_more(events);
	dead_letter_more(events);
	set_aside_more(events);
}

/* Does everything that can be done now. The only place that calls handlers. */
static void pump(struct rt_events *events)
{
	bool handed = false;
	struct rt_list *link;

	if (events->pumping)
		return;
	events->pumping = true;
	events->handed_count = 0;
	if (rt_tracing)
		events->handed_us = rt_turn_us();
	if (events->state == STOPPING)
		drop_waiting(events);
	else
		subscription_check(events);
	while ((events->state == RECOVERING || events->state == READING) &&
	       events_in_flight(events) < (size_t)events->options.in_flight_max &&
	       (link = rt_list_pop(&events->held.ready)) != NULL) {
		struct entry *entry = RT_CONTAINER_OF(link, struct entry, link);

		if (entry->life != events->life) {
			entry_remove(entry);
			continue;
		}
		if (park_behind(entry))
			continue;
		handed = true;
		events->handed_count += entry->count;
		hand_over(entry);
	}
	if (events->link_count > 0)
		end_read(events);
	if (handed && events->options.on_batch_end != NULL)
		events->options.on_batch_end(events->options.user_data);
	events->pumping = false;
	finish_more(events);
	subscription_more(events);
	report_held(events);
	/* Stopping ends in a later turn: callers on the stack still use us. */
	if (events->state == STOPPING)
		rt_loop_defer(events->loop, &events->task);
}

static void on_task(struct rt_task *task)
{
	struct rt_events *events = RT_CONTAINER_OF(task, struct rt_events, task);

	if (events->freed) {
		free(events);
		return;
	}
	if (events->state == STOPPING) {
		drop_waiting(events);
		finish_more(events);
		report_held(events);
		stop_if_quiet(events);
		return;
	}
	pump(events);
}

/* ---- the handler's side ---- */

static void event_finished(struct rt_event *base, enum outcome outcome, enum counter counter)
{
	struct event *event = RT_CONTAINER_OF(base, struct event, event);
	struct entry *entry = event->entry;
	struct rt_events *events = owner_of(entry);

	if (counter < COUNTERS)
		events_count(events, counter, 1);
	event->outcome = outcome;
	end_span(base, outcome == FAILED || outcome == POISONED);
	if (outcome == DONE_WITH || outcome == IGNORED_IT) {
		entry->done++;
		event_unblock(event); /* the rest of its entry may take longer */
	}
	entry->command = NULL; /* it has ended, and another one may get its address */
	rt_loop_defer(events->loop, &events->task);
	if (--entry->unfinished == 0)
		entry_decided(entry);
}

void rt_event_done(struct rt_event *event)
{
	event_finished(event, DONE_WITH, DONE);
}

void rt_event_ignore(struct rt_event *event)
{
	event_finished(event, IGNORED_IT, IGNORED);
}

void rt_event_retry(struct rt_event *base, int status)
{
	RT_CONTAINER_OF(base, struct event, event)->status = status;
	event_finished(base, FAILED, RETRIED);
}

void rt_event_poison(struct rt_event *base, const char *reason)
{
	RT_CONTAINER_OF(base, struct event, event)->reason =
		rt_strdup(reason != NULL && reason[0] != '\0' ? reason : "poison");
	event_finished(base, POISONED, COUNTERS);
}

const char *rt_event_ack(struct rt_event *base, const void *command)
{
	struct entry *entry = RT_CONTAINER_OF(base, struct event, event)->entry;

	if (entry->command != command)
		entry->in_command = 0;
	entry->command = command;
	entry->in_command++;
	if (entry->anew || entry->in_command + entry->done != entry->count)
		return NULL;
	entry->acked = true;
	return entry->ack_id;
}

void rt_event_not_acked(struct rt_event *base)
{
	struct entry *entry = RT_CONTAINER_OF(base, struct event, event)->entry;

	entry->acked = false;
	entry->command = NULL; /* as in event_finished */
}

bool rt_event_is_current(const struct rt_event *base)
{
	const struct entry *entry = RT_CONTAINER_OF(base, const struct event, event)->entry;
	const struct rt_events *events = owner_of(entry);

	return entry->life == events->life && events->epoch == rt_stream_epoch(events->stream);
}

const void *rt_event_entry(const struct rt_event *base)
{
	return RT_CONTAINER_OF((struct rt_event *)(uintptr_t)base, struct event, event)->entry;
}

static void on_retry(struct rt_timer *timer)
{
	struct entry *entry = RT_CONTAINER_OF(timer, struct entry, retry);
	struct rt_events *events = owner_of(entry);

	entry_ready(entry);
	pump(events);
}

void rt_events_outage_over(struct rt_events *events)
{
	struct entry *entry, *next;
	bool any = false;

	HASH_ITER (hh, events->held.entries, entry, next) {
		if (entry->state != RETRY || !entry->outage)
			continue;
		rt_timer_stop(events->loop, &entry->retry);
		entry_ready(entry);
		any = true;
	}
	if (any)
		rt_loop_defer(events->loop, &events->task);
}

/* ---- life ---- */

int rt_events_new(struct rt_loop *loop, struct rt_stream *stream,
		  const struct rt_events_options *options, struct rt_events **ret)
{
	struct rt_events *events;

	if (options->on_event == NULL || options->name == NULL || options->read_count_max < 1 ||
	    options->in_flight_max < 1 || options->parked_max < 1 || options->deliveries_max < 1 ||
	    options->retry_min_ms < 1 || options->retry_max_ms < options->retry_min_ms ||
	    options->claim_idle_ms < 1 || options->claim_every_ms < 1 ||
	    options->maintain_every_ms < 1)
		return RT_INVALID;
	events = rt_alloc(sizeof(*events));
	events->loop = loop;
	events->stream = stream;
	events->options = *options;
	events->name = rt_strdup(options->name);
	events->options.name = events->name;
	events->pump = pump;
	events->admit = admit_all;
	subscription_init(events);
	events->ack_retry_ms = options->retry_min_ms;
	events->task.run = on_task;
	held_init(&events->held, loop, options->partition);
	rt_list_init(&events->acking);
	rt_list_init(&events->dead);
	rt_list_init(&events->asiding);
	rt_list_init(&events->ack.entries);
	rt_list_init(&events->dead_letter.entries);
	rt_list_init(&events->set_aside.entries);
	metrics_init(events);
	*ret = events;
	return RT_OK;
}

void rt_events_start(struct rt_events *events)
{
	if (events->state == IDLE)
		subscription_start(events);
}

void rt_events_stop(struct rt_events *events, void (*stopped)(void *user), void *user)
{
	events->stopped = stopped;
	events->stopped_user = user;
	subscription_stop(events);
	rt_loop_defer(events->loop, &events->task);
}

void rt_events_free(struct rt_events *events)
{
	if (events == NULL)
		return;
	rt_stream_free(events->stream);
	assert(events->held.entries == NULL && events->held.subjects == NULL);
	free(events->name);
	free(events->links);
	if (events->task.queued)
		events->freed = true;
	else
		free(events);
}

struct rt_stream_info rt_events_info(const struct rt_events *events)
{
	return events->info;
}
