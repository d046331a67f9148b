/* events.c - the consumer: what is delivered, who holds it, and what becomes of it.
 *
 * The subscription (one setter: set_state):
 *
 *   IDLE ─start▶ ENSURING ─group there▶ RECOVERING ─own pending read▶ READING
 *                   ▲                       │                           │
 *                   └──── back-off ── WAITING ◀──── anything failed ────┘
 *
 * An event (one setter: event_set):
 *
 *               ┌──────────────── behind is free ────────────────┐
 *               ▼                                                │
 *   entry ──▶ READY ──▶ HANDED ──done──▶ gone                  BEHIND
 *               ▲         │ ├──ignore──▶ ACKING ──▶ gone         ▲
 *     back-off  │         │ └──poison──▶ BURYING ──▶ gone        │
 *               └─ RETRY ◀┘                       its subject is blocked: READY ─┘
 *
 * HANDED, ACKING and BURYING count as in flight, RETRY and BEHIND as parked. A subject exists in
 * `subjects` only while one of its events is in its retries (a blocker); then others of it go
 * BEHIND.
 *
 * Deliveries, as the group counts them, are failures: a claim counts one, since the consumer that had
 * the entry did not come back; a handling that failed for the event's own fault counts one. What the
 * surroundings did is taken back: reading own entries again counts nothing, and neither does a claim
 * whose event was then put off because of an outage, or behind another event. What an event counts
 * is told to the group (recount_more), so that it outlives this process.
 *
 * Handlers are called by pump() alone, and finishing one only queues: nothing re-enters. */
#include "events.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "stream_internal.h"

#define TEXT_MAX       256 /* bytes of a type or a subject */
#define IDS_MAX        512 /* in one acknowledgement, renewal or burial */
#define WAIT_MIN_MS    100 /* back-off of the subscription itself */
#define WAIT_MAX_MS    2000
#define FIRST_FAILURES 3  /* at the start the connections are still being made */
#define RETRY_EXPONENT 20 /* doublings after which a back-off surely is at its end */

enum state { IDLE, ENSURING, RECOVERING, READING, WAITING, STOPPING, STOPPED };
enum event_state { READY, HANDED, RETRY, BEHIND, ACKING, BURYING, EVENT_STATES };

/* Of which one event at least is in its retries. */
struct subject {
	char *name;
	size_t blockers;
	struct rt_list behind;
	UT_hash_handle hh;
};

struct event {
	struct rt_event event;
	struct rt_events *owner;
	enum event_state state;
	struct rt_list link;   /* ready, behind, acking, burying, or on the way with one of them */
	struct rt_timer retry; /* in RETRY */
	struct subject *blocked; /* blocks this one; NULL: none */
	unsigned int tries;
	int64_t touched_ms; /* delivered or renewed: the idle clock of the group */
	bool again;         /* delivered once more while it was held: acknowledge it explicitly */
	bool sound;         /* it parsed */
	bool claimed;       /* its claim is counted, and it was not handled since */
	bool recount;       /* the group counts something else */
	char *reason;       /* of its burial */
	UT_hash_handle hh;  /* by stream id */
	char bytes[];
};

struct op {
	struct rt_stream_op op;
	bool busy;
	struct rt_list events; /* ack, bury: that it is about */
	char **ids;            /* ack, bury, renew: copies */
};

enum counter {
	RECEIVED,
	DONE,
	IGNORED,
	RETRIED,
	BURIED,
	CLAIMED,
	LOST,
	REDELIVERED,
	REBUILT,
	COUNTERS
};
enum gauge { IN_FLIGHT, PARKED, LAG, PENDING, OLDEST, GAUGES };

struct rt_events {
	struct rt_loop *loop;
	struct rt_stream_source *source;
	struct rt_events_options options;
	char *name;
	enum state state;
	struct event *held; /* all, by stream id */
	struct subject *subjects;
	struct rt_list ready, acking, burying;
	size_t counts[EVENT_STATES];
	struct op read, pending, claim, renew, recount, ack, bury, ensure, maintain;
	bool recount_wanted;
	size_t under_way; /* ops that are busy */
	char pending_cursor[48], claim_cursor[48];
	bool recover_waits; /* for room: the next page of own pending entries */
	int64_t wait_ms;
	struct rt_timer wait, claim_timer, maintain_timer;
	struct rt_timer ack_retry; /* back-off of acknowledging and burying */
	int64_t ack_retry_ms;
	bool rebuilding, failing;    /* said so */
	int failures, failures_told; /* in a row; from how many on it is worth a line */
	struct rt_stream_info info, info_next;
	struct rt_task task;
	bool pumping, freed;
	void (*stopped)(void *user);
	void *stopped_user;
	struct rt_series *counters[COUNTERS], *gauges[GAUGES];
};

static void pump(struct rt_events *events);
static void begin(struct rt_events *events);
static void on_retry(struct rt_timer *timer);

/* ---- metrics ---- */

static void count(struct rt_events *events, enum counter which, size_t by)
{
	if (events->counters[which] != NULL && by > 0)
		rt_series_add(events->counters[which], (double)by);
}

static void gauge(struct rt_events *events, enum gauge which, double value)
{
	if (events->gauges[which] != NULL)
		rt_series_set(events->gauges[which], value);
}

static void metrics_init(struct rt_events *events)
{
	static const char *const labels[] = { "stream", NULL };
	static const char *const counter_names[COUNTERS][2] = {
		[RECEIVED] = { "tandem_events_received_total", "Entries taken in." },
		[DONE] = { "tandem_events_done_total", "Events whose effect was stored." },
		[IGNORED] = { "tandem_events_ignored_total", "Events without an effect." },
		[RETRIED] = { "tandem_events_retried_total", "Handlings put off." },
		[BURIED] = { "tandem_events_buried_total", "Entries moved to the dead letters." },
		[CLAIMED] = { "tandem_events_claimed_total", "Entries taken over." },
		[LOST] = { "tandem_events_lost_total",
			   "Entries that were pending and are gone from the stream." },
		[REDELIVERED] = { "tandem_events_redelivered_total",
				  "Entries taken in that had been delivered before." },
		[REBUILT] = { "tandem_events_rebuilds_total",
			      "Times the group or its stream had vanished." },
	};
	static const char *const gauge_names[GAUGES][2] = {
		[IN_FLIGHT] = { "tandem_events_in_flight", "Events handed over, not finished." },
		[PARKED] = { "tandem_events_parked", "Events that wait for a retry." },
		[LAG] = { "tandem_events_lag", "Entries written, not delivered." },
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

static size_t in_flight(const struct rt_events *events)
{
	return events->counts[HANDED] + events->counts[ACKING] + events->counts[BURYING];
}

static size_t parked(const struct rt_events *events)
{
	return events->counts[RETRY] + events->counts[BEHIND];
}

/* How many entries may be asked for. A claim that is under way has its place in the bound; a read
 * has not, or one that waits for long could leave no place for claims ever. So a read and a claim
 * together can bring read_count_max too many; these are ready, and handed over within the bound. */
static int room(const struct rt_events *events)
{
	size_t coming = events->claim.busy ? (size_t)events->claim.op.count_max : 0;
	size_t flying, waiting;

	flying = in_flight(events) + events->counts[READY] + coming;
	waiting = parked(events) + coming;
	if (flying >= (size_t)events->options.in_flight_max ||
	    waiting >= (size_t)events->options.parked_max)
		return 0;
	flying = (size_t)events->options.in_flight_max - flying;
	waiting = (size_t)events->options.parked_max - waiting;
	return (int)RT_MIN(RT_MIN(flying, waiting), (size_t)events->options.read_count_max);
}

/* Doubles from `min` to `max`, ±25 %. */
static int64_t back_off(struct rt_events *events, int64_t min, int64_t max, unsigned int tries)
{
	int64_t ms = RT_MIN(min << RT_MIN(tries, RETRY_EXPONENT), max);

	return ms * 3 / 4 + (int64_t)rt_loop_random(events->loop, (uint64_t)(ms / 2 + 1));
}

/* ---- events ---- */

static void event_set(struct event *event, enum event_state state)
{
	struct rt_events *events = event->owner;

	events->counts[event->state]--;
	event->state = state;
	events->counts[state]++;
	gauge(events, IN_FLIGHT, (double)in_flight(events));
	gauge(events, PARKED, (double)parked(events));
}

static void event_free(struct event *event)
{
	rt_timer_stop(event->owner->loop, &event->retry);
	rt_list_remove(&event->link);
	free(event->reason);
	free(event);
}

/* The event's retries are over: what waited behind it goes on, in order. */
static void event_unblock(struct event *event)
{
	struct rt_events *events = event->owner;
	struct subject *subject = RT_TAKE(event->blocked);
	struct rt_list *link;

	if (subject == NULL || --subject->blockers > 0)
		return;
	while ((link = rt_list_pop(&subject->behind)) != NULL) {
		event_set(RT_CONTAINER_OF(link, struct event, link), READY);
		rt_list_push(&events->ready, link);
	}
	HASH_DEL(events->subjects, subject);
	free(subject->name);
	free(subject);
}

/* Forgets an event; it is finished, or stays pending for others. */
static void event_remove(struct event *event)
{
	struct rt_events *events = event->owner;

	event_unblock(event);
	event_set(event, READY);
	events->counts[READY]--;
	HASH_DEL(events->held, event);
	event_free(event);
}

/* From its first retry on an event holds its subject up. */
static void event_block(struct event *event)
{
	struct rt_events *events = event->owner;
	const char *name = event->event.subject;
	struct subject *subject;

	if (event->blocked != NULL || !event->sound)
		return;
	HASH_FIND_STR(events->subjects, name, subject);
	if (subject == NULL) {
		subject = rt_alloc(sizeof(*subject));
		subject->name = rt_strdup(name);
		rt_list_init(&subject->behind);
		HASH_ADD_KEYPTR(hh, events->subjects, subject->name, strlen(subject->name),
				subject);
	}
	subject->blockers++;
	event->blocked = subject;
}

static void event_count(struct event *event, uint32_t deliveries)
{
	event->event.deliveries = deliveries;
	event->recount = true;
	event->owner->recount_wanted = true;
}

/* It was not the event that failed: its claim does not count. */
static void event_uncount_claim(struct event *event)
{
	if (event->claimed && event->event.deliveries > 1)
		event_count(event, event->event.deliveries - 1);
	event->claimed = false;
}

static void event_bury(struct event *event, const char *reason)
{
	event->reason = rt_strdup(reason);
	event_set(event, BURYING);
	rt_list_push(&event->owner->burying, &event->link);
}

/* ---- entries to events ---- */

static const char *field_find(const struct rt_entry *entry, const char *name, size_t *ret_length)
{
	for (size_t i = 0; i + 1 < entry->field_count; i += 2) {
		if (strcmp(entry->fields[i], name) == 0) {
			*ret_length = entry->lengths[i + 1];
			return entry->fields[i + 1];
		}
	}
	*ret_length = 0;
	return NULL;
}

/* A number without sign or blanks. */
static bool number_parse(const char *text, size_t length, uint64_t *ret)
{
	uint64_t n = 0;

	if (length == 0 || length > 20)
		return false;
	for (size_t i = 0; i < length; i++) {
		uint64_t digit = (uint64_t)(unsigned char)text[i] - '0';

		if (digit > 9 || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*ret = n;
	return true;
}

static bool is_word(const char *text, size_t length)
{
	return text != NULL && length > 0 && length <= TEXT_MAX && strlen(text) == length;
}

/* Appends a text to the event's bytes. */
static const char *keep(char **at, const void *bytes, size_t length)
{
	char *kept = *at;

	if (length > 0)
		memcpy(kept, bytes, length);
	kept[length] = '\0';
	*at += length + 1;
	return kept;
}

/* Copies an entry. NULL in *ret_fault, or what is wrong with it; then only the stream id counts. */
static struct event *event_new(struct rt_events *events, const struct rt_entry *entry,
			       const char **ret_fault)
{
	static const char *const names[] = { "type", "subject", "time", "traceparent", "data" };
	const char *texts[RT_LENGTH(names)], *seq, *attempt, *kept[RT_LENGTH(names)];
	size_t lengths[RT_LENGTH(names)], seq_length, attempt_length, total = 0;
	uint64_t seq_number = 0, attempt_number = 1;
	char seq_text[24], *at;
	struct event *event;

	*ret_fault = NULL;
	for (size_t i = 0; i < RT_LENGTH(names); i++) {
		texts[i] = field_find(entry, names[i], &lengths[i]);
		total += lengths[i] + 1;
	}
	seq = field_find(entry, "seq", &seq_length);
	attempt = field_find(entry, "attempt", &attempt_length);
	if (!is_word(texts[0], lengths[0]))
		*ret_fault = "not an event: bad type";
	else if (!is_word(texts[1], lengths[1]))
		*ret_fault = "not an event: bad subject";
	else if (seq == NULL || !number_parse(seq, seq_length, &seq_number))
		*ret_fault = "not an event: bad seq";
	if (attempt == NULL || !number_parse(attempt, attempt_length, &attempt_number) ||
	    attempt_number == 0)
		attempt_number = 1;
	snprintf(seq_text, sizeof(seq_text), "/%llu", (unsigned long long)seq_number);
	total += strlen(entry->stream_id) + 1 + lengths[1] + strlen(seq_text) + 1;
	event = rt_alloc(sizeof(*event) + total);
	at = event->bytes;
	for (size_t i = 0; i < RT_LENGTH(names); i++)
		kept[i] = keep(&at, texts[i], lengths[i]);
	event->owner = events;
	event->sound = *ret_fault == NULL;
	event->touched_ms = rt_loop_now(events->loop);
	rt_list_init(&event->link);
	event->event = (struct rt_event){
		.type = kept[0],
		.subject = kept[1],
		.time = kept[2],
		.traceparent = kept[3],
		.data = (const uint8_t *)kept[4],
		.data_length = lengths[4],
		.stream_id = keep(&at, entry->stream_id, strlen(entry->stream_id)),
		.seq = seq_number,
		.attempt = (uint32_t)RT_MIN(attempt_number, UINT32_MAX),
		.deliveries = entry->deliveries,
		.id = at,
	};
	/* The id is made, not read: it is what repeats are recognised by. */
	at = mempcpy(at, kept[1], strlen(kept[1]));
	memcpy(at, seq_text, strlen(seq_text) + 1);
	return event;
}

/* How an entry came. */
enum way { NEW, OWN, CLAIM };

/* Takes a delivered entry in. */
static void admit(struct rt_events *events, const struct rt_entry *entry, enum way way)
{
	const char *fault;
	char reason[96];
	struct event *event;

	HASH_FIND_STR(events->held, entry->stream_id, event);
	if (event != NULL) {
		/* Its acknowledgement may have met a group that was gone. */
		event->again = true;
		event->touched_ms = rt_loop_now(events->loop);
		if (entry->deliveries > event->event.deliveries)
			event_count(event, event->event.deliveries); /* it claimed its own */
		return;
	}
	event = event_new(events, entry, &fault);
	if (event->event.deliveries == 0)
		event->event.deliveries = way == CLAIM ? 2 : 1; /* unknown, but not less */
	event->claimed = way == CLAIM;
	HASH_ADD_KEYPTR(hh, events->held, event->event.stream_id, strlen(event->event.stream_id),
			event);
	events->counts[READY]++;
	count(events, RECEIVED, 1);
	if (way != NEW)
		count(events, REDELIVERED, 1);
	if (entry->field_count == 0) {
		count(events, LOST, 1);
		event_set(event, ACKING);
		rt_list_push(&events->acking, &event->link);
	} else if (fault != NULL) {
		event_bury(event, fault);
	} else if (event->event.deliveries > (uint32_t)events->options.deliveries_max) {
		snprintf(reason, sizeof(reason), "delivered %u times",
			 (unsigned int)event->event.deliveries);
		event_bury(event, reason);
	} else {
		rt_list_push(&events->ready, &event->link);
	}
}

static void admit_all(struct rt_events *events, const struct rt_stream_op *op, enum way way)
{
	size_t lost = 0;

	for (size_t i = 0; i < op->entry_count; i++) {
		lost += op->entries[i].field_count == 0;
		admit(events, &op->entries[i], way);
	}
	lost += op->lost_count;
	count(events, LOST, op->lost_count);
	if (lost > 0)
		RT_LOG(RT_WARN, "events lost: pending, but gone from the stream",
		       RT_S("stream", events->name), RT_I("count", lost));
}

/* ---- operations: each begins with op_begin and ends with op_end ---- */

static void op_begin(struct rt_events *events, struct op *op,
		     void (*done)(struct rt_stream_op *op, int status))
{
	op->busy = true;
	op->op.source = events->source;
	op->op.done = done;
	op->op.entries = NULL;
	op->op.entry_count = 0;
	op->op.lost_count = 0;
	events->under_way++;
}

static void op_end(struct rt_events *events, struct op *op)
{
	for (size_t i = 0; op->ids != NULL && i < op->op.id_count; i++)
		free(op->ids[i]);
	free(RT_TAKE(op->ids));
	op->op.id_count = 0;
	op->busy = false;
	events->under_way--;
}

static void op_ids(struct op *op, size_t count_max)
{
	op->ids = rt_alloc(count_max * sizeof(*op->ids));
	op->op.ids = (const char *const *)op->ids;
	op->op.id_count = 0;
}

static void op_id(struct op *op, const struct event *event)
{
	op->ids[op->op.id_count++] = rt_strdup(event->event.stream_id);
}

/* ---- the subscription ---- */

static bool is_running(const struct rt_events *events)
{
	return events->state != IDLE && events->state != STOPPING && events->state != STOPPED;
}

static void set_state(struct rt_events *events, enum state state)
{
	events->state = state;
}

static void on_wait_over(struct rt_timer *timer)
{
	begin(RT_CONTAINER_OF(timer, struct rt_events, wait));
}

/* Something failed: again from the start, after a back-off. */
static void fail(struct rt_events *events, int status)
{
	int64_t delay;

	if (!is_running(events) || events->state == WAITING)
		return;
	if (status == RT_NOGROUP) {
		if (!events->rebuilding)
			RT_LOG(RT_WARN, "consumer group or stream is gone: making it anew",
			       RT_S("stream", events->name));
		events->rebuilding = true;
		count(events, REBUILT, 1);
	} else if (!events->failing && ++events->failures >= events->failures_told) {
		RT_LOG(RT_WARN, "events cannot be read: trying again", RT_S("stream", events->name),
		       RT_S("error", rt_status_text(status)));
		events->failing = true;
	}
	set_state(events, WAITING);
	events->recover_waits = false;
	delay = back_off(events, events->wait_ms, WAIT_MAX_MS, 0);
	events->wait_ms = RT_MIN(events->wait_ms * 2, WAIT_MAX_MS);
	rt_timer_start(events->loop, &events->wait, delay, on_wait_over);
}

static void read_done(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, read.op);

	op_end(events, &events->read);
	if (status == RT_OK) {
		if (events->failing || events->rebuilding)
			RT_LOG(RT_INFO, "events are read again", RT_S("stream", events->name));
		events->failing = events->rebuilding = false;
		events->failures = 0;
		events->wait_ms = WAIT_MIN_MS;
		admit_all(events, stream_op, NEW);
	} else {
		fail(events, status);
	}
	pump(events);
}

static void read_more(struct rt_events *events)
{
	int wanted = room(events);

	if (events->state != READING || events->read.busy || wanted == 0)
		return;
	op_begin(events, &events->read, read_done);
	events->read.op.count_max = wanted;
	events->source->ops->read(events->source, &events->read.op, events->options.block_ms);
}

static void recover_more(struct rt_events *events);

static void recovered(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, pending.op);

	op_end(events, &events->pending);
	if (status != RT_OK) {
		fail(events, status);
	} else if (stream_op->entry_count == 0) {
		if (events->state == RECOVERING)
			set_state(events, READING);
		events->failures_told = 1;
	} else {
		snprintf(events->pending_cursor, sizeof(events->pending_cursor), "%s",
			 stream_op->entries[stream_op->entry_count - 1].stream_id);
		admit_all(events, stream_op, OWN);
		events->recover_waits = true;
	}
	pump(events); /* reads on, when there is room */
}

static void recover_more(struct rt_events *events)
{
	int wanted = room(events);

	if (events->state != RECOVERING || !events->recover_waits || events->pending.busy ||
	    wanted == 0)
		return;
	events->recover_waits = false;
	op_begin(events, &events->pending, recovered);
	events->pending.op.count_max = wanted;
	events->pending.op.cursor = events->pending_cursor;
	events->source->ops->pending(events->source, &events->pending.op);
}

static void ensured(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, ensure.op);

	op_end(events, &events->ensure);
	if (status != RT_OK) {
		fail(events, status);
	} else if (events->state == ENSURING) {
		set_state(events, RECOVERING);
		snprintf(events->pending_cursor, sizeof(events->pending_cursor), "0");
		events->recover_waits = true;
	}
	pump(events);
}

static void begin(struct rt_events *events)
{
	set_state(events, ENSURING);
	op_begin(events, &events->ensure, ensured);
	events->source->ops->ensure(events->source, &events->ensure.op);
}

/* ---- claiming and renewing ---- */

static void claim_more(struct rt_events *events);

static void claimed(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, claim.op);

	op_end(events, &events->claim);
	if (status == RT_OK) {
		count(events, CLAIMED, stream_op->entry_count);
		admit_all(events, stream_op, CLAIM);
		snprintf(events->claim_cursor, sizeof(events->claim_cursor), "%s",
			 stream_op->next_cursor);
		if (strcmp(events->claim_cursor, "0-0") != 0)
			claim_more(events);
	}
	pump(events);
}

static void claim_more(struct rt_events *events)
{
	int wanted = room(events);

	if (events->state != READING || events->claim.busy || wanted == 0)
		return;
	op_begin(events, &events->claim, claimed);
	events->claim.op.count_max = wanted;
	events->claim.op.idle_ms = events->options.claim_idle_ms;
	events->claim.op.cursor = events->claim_cursor;
	events->source->ops->claim(events->source, &events->claim.op);
}

static void renew_more(struct rt_events *events);

static void renewed(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, renew.op);
	bool more = stream_op->id_count == IDS_MAX;

	op_end(events, &events->renew);
	if (status == RT_OK && more)
		renew_more(events);
	pump(events);
}

/* Restarts the idle clock of what is held for long, before others take it for dead. */
static void renew_more(struct rt_events *events)
{
	int64_t now = rt_loop_now(events->loop);
	struct event *event, *next;

	if (events->state != READING || events->renew.busy)
		return;
	op_ids(&events->renew, IDS_MAX);
	HASH_ITER (hh, events->held, event, next) {
		if (now - event->touched_ms < events->options.claim_idle_ms / 3)
			continue;
		if (events->renew.op.id_count == IDS_MAX)
			break;
		op_id(&events->renew, event);
		event->touched_ms = now;
	}
	if (events->renew.op.id_count == 0) {
		free(RT_TAKE(events->renew.ids));
		return;
	}
	op_begin(events, &events->renew, renewed);
	events->source->ops->renew(events->source, &events->renew.op);
}

static void recounted(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, recount.op);
	struct event *event;

	for (size_t i = 0; status != RT_OK && i < stream_op->id_count; i++) {
		HASH_FIND_STR(events->held, stream_op->ids[i], event);
		if (event != NULL)
			event->recount = true; /* with the next claims */
	}
	op_end(events, &events->recount);
	pump(events);
}

/* Tells the group what events count: those that count the same go together. */
static void recount_more(struct rt_events *events)
{
	struct event *event, *next;

	if (events->state != READING || events->recount.busy || !events->recount_wanted)
		return;
	events->recount_wanted = false;
	op_ids(&events->recount, IDS_MAX);
	HASH_ITER (hh, events->held, event, next) {
		if (!event->recount)
			continue;
		if (events->recount.op.id_count == IDS_MAX ||
		    (events->recount.op.id_count > 0 &&
		     event->event.deliveries != events->recount.op.deliveries)) {
			events->recount_wanted = true;
			continue;
		}
		events->recount.op.deliveries = event->event.deliveries;
		event->recount = false;
		op_id(&events->recount, event);
	}
	if (events->recount.op.id_count == 0) {
		free(RT_TAKE(events->recount.ids));
		return;
	}
	op_begin(events, &events->recount, recounted);
	events->source->ops->recount(events->source, &events->recount.op);
}

static void on_claim_time(struct rt_timer *timer)
{
	struct rt_events *events = RT_CONTAINER_OF(timer, struct rt_events, claim_timer);

	rt_timer_start(
		events->loop, timer,
		back_off(events, events->options.claim_every_ms, events->options.claim_every_ms, 0),
		on_claim_time);
	renew_more(events);            /* sent first: so own entries are not claimed back */
	events->recount_wanted = true; /* what failed is tried again */
	recount_more(events);
	/* A sweep that stopped for want of room goes on where it stopped. */
	claim_more(events);
}

/* ---- tending ---- */

static void group_maintained(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, maintain.op);

	op_end(events, &events->maintain);
	if (status == RT_OK) {
		events->info = events->info_next;
		gauge(events, LAG, (double)events->info.lag);
		gauge(events, PENDING, (double)events->info.pending);
		gauge(events, OLDEST, (double)events->info.oldest_pending_ms / 1000);
	}
	pump(events);
}

static void on_maintain_time(struct rt_timer *timer)
{
	struct rt_events *events = RT_CONTAINER_OF(timer, struct rt_events, maintain_timer);

	rt_timer_start(events->loop, timer, events->options.maintain_every_ms, on_maintain_time);
	if (events->state != READING || events->maintain.busy)
		return;
	op_begin(events, &events->maintain, group_maintained);
	events->maintain.op.idle_ms = events->options.consumer_idle_ms;
	events->source->ops->maintain(events->source, &events->maintain.op, &events->info_next);
}

/* ---- acknowledging and burying ---- */

static void on_ack_retry_time(struct rt_timer *timer)
{
	pump(RT_CONTAINER_OF(timer, struct rt_events, ack_retry));
}

/* Ends an acknowledgement or a burial. RT_NOGROUP: nobody is left to tell. */
static void ack_ended(struct rt_events *events, struct op *op, int status, struct rt_list *queue)
{
	bool good = status == RT_OK || status == RT_NOGROUP;
	struct rt_list waiting, *link;

	op_end(events, op);
	if (good) {
		events->ack_retry_ms = events->options.retry_min_ms;
		while ((link = rt_list_pop(&op->events)) != NULL)
			event_remove(RT_CONTAINER_OF(link, struct event, link));
		return;
	}
	/* Back to the head of the queue; when stopping the entries stay pending instead. */
	rt_list_init(&waiting);
	rt_list_move(&waiting, queue);
	while ((link = rt_list_pop(&op->events)) != NULL)
		rt_list_push(queue, link);
	while ((link = rt_list_pop(&waiting)) != NULL)
		rt_list_push(queue, link);
	if (events->ack_retry_ms == events->options.retry_min_ms)
		RT_LOG(RT_WARN, "events cannot be acknowledged: trying again",
		       RT_S("stream", events->name), RT_S("error", rt_status_text(status)));
	rt_timer_start(events->loop, &events->ack_retry,
		       back_off(events, events->ack_retry_ms, events->options.retry_max_ms, 0),
		       on_ack_retry_time);
	events->ack_retry_ms = RT_MIN(events->ack_retry_ms * 2, events->options.retry_max_ms);
}

static void acked(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, ack.op);

	ack_ended(events, &events->ack, status, &events->acking);
	pump(events);
}

static void ack_more(struct rt_events *events)
{
	struct rt_list *link;

	if (events->ack.busy || rt_list_empty(&events->acking) ||
	    rt_timer_running(&events->ack_retry))
		return;
	op_ids(&events->ack, IDS_MAX);
	while (events->ack.op.id_count < IDS_MAX && (link = rt_list_pop(&events->acking)) != NULL) {
		rt_list_push(&events->ack.events, link);
		op_id(&events->ack, RT_CONTAINER_OF(link, struct event, link));
	}
	op_begin(events, &events->ack, acked);
	events->source->ops->ack(events->source, &events->ack.op);
}

static void buried(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, bury.op);

	if (status == RT_OK) {
		for (struct rt_list *link = events->bury.events.next; link != &events->bury.events;
		     link = link->next) {
			const struct event *event = RT_CONTAINER_OF(link, struct event, link);

			count(events, BURIED, 1);
			RT_LOG(RT_WARN, "event buried", RT_S("stream", events->name),
			       RT_S("stream_id", event->event.stream_id),
			       RT_S("type", event->event.type),
			       RT_S("subject", event->event.subject),
			       RT_I("deliveries", event->event.deliveries),
			       RT_S("reason", event->reason));
		}
	}
	ack_ended(events, &events->bury, status, &events->burying);
	pump(events);
}

/* Those at the head of the queue that share a reason go together. */
static void bury_more(struct rt_events *events)
{
	const char *reason;

	if (events->bury.busy || rt_list_empty(&events->burying) ||
	    rt_timer_running(&events->ack_retry))
		return;
	reason = RT_CONTAINER_OF(events->burying.next, struct event, link)->reason;
	op_ids(&events->bury, IDS_MAX);
	while (events->bury.op.id_count < IDS_MAX && !rt_list_empty(&events->burying)) {
		struct event *event = RT_CONTAINER_OF(events->burying.next, struct event, link);

		if (strcmp(event->reason, reason) != 0)
			break;
		rt_list_remove(&event->link);
		rt_list_push(&events->bury.events, &event->link);
		op_id(&events->bury, event);
	}
	op_begin(events, &events->bury, buried);
	events->bury.op.reason = reason;
	events->source->ops->bury(events->source, &events->bury.op);
}

/* ---- handing over ---- */

/* Parks an event whose subject is blocked by another. */
static bool park_behind(struct rt_events *events, struct event *event)
{
	struct subject *subject;

	if (event->blocked != NULL)
		return false; /* it is the blocker, or one of them */
	HASH_FIND_STR(events->subjects, event->event.subject, subject);
	if (subject == NULL)
		return false;
	event_uncount_claim(event);
	event_set(event, BEHIND);
	rt_list_push(&subject->behind, &event->link);
	return true;
}

/* While stopping: lets go of what is not in somebody's hands. It stays pending. */
static void drop_waiting(struct rt_events *events)
{
	bool in_vain = rt_timer_running(&events->ack_retry); /* it failed: once is enough */
	struct event *event, *next;

	/* In two rounds: what waited behind a dropped one is ready only then. */
	for (int round = 0; round < 2; round++) {
		/* The first of a list has no predecessor: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		HASH_ITER (hh, events->held, event, next) {
			if (event->state == RETRY || event->state == READY ||
			    (in_vain && event->state == ACKING && !events->ack.busy) ||
			    (in_vain && event->state == BURYING && !events->bury.busy))
				event_remove(event);
		}
	}
}

static void stop_if_quiet(struct rt_events *events)
{
	void (*stopped)(void *user) = events->stopped;

	if (events->state != STOPPING || events->under_way > 0 || in_flight(events) > 0)
		return;
	set_state(events, STOPPED);
	rt_timer_stop(events->loop, &events->ack_retry);
	stopped(events->stopped_user); /* may free */
}

/* Moves everything on that can move. The only place that calls handlers. */
static void pump(struct rt_events *events)
{
	bool handed = false;
	struct rt_list *link;

	if (events->pumping)
		return;
	events->pumping = true;
	if (events->state == STOPPING)
		drop_waiting(events);
	while (events->state != STOPPING &&
	       in_flight(events) < (size_t)events->options.in_flight_max &&
	       (link = rt_list_pop(&events->ready)) != NULL) {
		struct event *event = RT_CONTAINER_OF(link, struct event, link);

		if (park_behind(events, event))
			continue;
		event_set(event, HANDED);
		handed = true;
		events->options.on_event(&event->event, events->options.user_data);
	}
	if (handed && events->options.on_batch_end != NULL)
		events->options.on_batch_end(events->options.user_data);
	events->pumping = false;
	ack_more(events);
	bury_more(events);
	recount_more(events);
	recover_more(events);
	read_more(events);
	/* The end, if it is one, comes in a turn of its own: somebody up the stack still looks. */
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
		ack_more(events);
		bury_more(events);
		stop_if_quiet(events);
		return;
	}
	pump(events);
}

/* ---- the handler's side ---- */

static struct event *handed(struct rt_event *base)
{
	struct event *event = RT_CONTAINER_OF(base, struct event, event);

	rt_loop_defer(event->owner->loop, &event->owner->task);
	return event;
}

void rt_event_done(struct rt_event *base)
{
	struct event *event = handed(base);

	count(event->owner, DONE, 1);
	if (event->again) {
		event_set(event, ACKING);
		rt_list_push(&event->owner->acking, &event->link);
	} else {
		event_remove(event);
	}
}

void rt_event_ignore(struct rt_event *base)
{
	struct event *event = handed(base);

	count(event->owner, IGNORED, 1);
	event_set(event, ACKING);
	rt_list_push(&event->owner->acking, &event->link);
}

/* Does the status speak about the event, or about what is around it? */
static bool is_events_fault(int status)
{
	switch (status) {
	case RT_LOST:
	case RT_TIMEOUT:
	case RT_BUSY:
	case RT_FULL:
	case RT_DENIED:
	case RT_UNREADY:
	case RT_CANCELED:
	case RT_NOGROUP:
	case RT_NOMEM:
	case RT_SYSTEM:
		return false;
	default:
		return true;
	}
}

static void on_retry(struct rt_timer *timer)
{
	struct event *event = RT_CONTAINER_OF(timer, struct event, retry);
	struct rt_events *events = event->owner;

	event_set(event, READY);
	rt_list_push(&events->ready, &event->link);
	pump(events);
}

void rt_event_retry(struct rt_event *base, int status)
{
	struct event *event = handed(base);
	struct rt_events *events = event->owner;
	char reason[160];

	count(events, RETRIED, 1);
	if (is_events_fault(status)) {
		if (event->event.deliveries >= (uint32_t)events->options.deliveries_max) {
			snprintf(reason, sizeof(reason), "failed %u times, at last: %s",
				 (unsigned int)event->event.deliveries, rt_status_text(status));
			event_block(event);
			event_bury(event, reason);
			return;
		}
		event_count(event, event->event.deliveries + 1);
		event->claimed = false;
	} else {
		event_uncount_claim(event);
	}
	if (events->state == STOPPING) {
		event_remove(event);
		return;
	}
	event_block(event);
	event_set(event, RETRY);
	rt_timer_start(events->loop, &event->retry,
		       back_off(events, events->options.retry_min_ms, events->options.retry_max_ms,
				event->tries),
		       on_retry);
	event->tries++;
}

void rt_event_poison(struct rt_event *base, const char *reason)
{
	event_bury(handed(base), reason != NULL ? reason : "poison");
}

/* ---- life ---- */

int rt_events_new(struct rt_loop *loop, struct rt_stream_source *source,
		  const struct rt_events_options *options, struct rt_events **ret)
{
	struct rt_events *events;
	struct op *ops[2];

	if (options->on_event == NULL || options->name == NULL || options->read_count_max < 1 ||
	    options->in_flight_max < 1 || options->parked_max < 1 || options->deliveries_max < 1 ||
	    options->retry_min_ms < 1 || options->retry_max_ms < options->retry_min_ms ||
	    options->claim_idle_ms < 1 || options->claim_every_ms < 1 ||
	    options->maintain_every_ms < 1)
		return RT_INVALID;
	events = rt_alloc(sizeof(*events));
	events->loop = loop;
	events->source = source;
	events->options = *options;
	events->name = rt_strdup(options->name);
	events->options.name = events->name;
	/* Renewing goes with claiming, and must come twice before others call an entry dead. */
	events->options.claim_every_ms =
		RT_MIN(options->claim_every_ms, RT_MAX(options->claim_idle_ms / 3, 1));
	events->wait_ms = WAIT_MIN_MS;
	events->failures_told = FIRST_FAILURES;
	events->ack_retry_ms = options->retry_min_ms;
	events->task.run = on_task;
	snprintf(events->claim_cursor, sizeof(events->claim_cursor), "0-0");
	rt_list_init(&events->ready);
	rt_list_init(&events->acking);
	rt_list_init(&events->burying);
	ops[0] = &events->ack;
	ops[1] = &events->bury;
	for (size_t i = 0; i < RT_LENGTH(ops); i++)
		rt_list_init(&ops[i]->events);
	metrics_init(events);
	*ret = events;
	return RT_OK;
}

void rt_events_start(struct rt_events *events)
{
	if (events->state != IDLE)
		return;
	rt_timer_start(events->loop, &events->maintain_timer, events->options.maintain_every_ms,
		       on_maintain_time);
	/* The first sweep at a random moment, so that instances started together spread out. */
	rt_timer_start(
		events->loop, &events->claim_timer,
		(int64_t)rt_loop_random(events->loop, (uint64_t)events->options.claim_every_ms),
		on_claim_time);
	begin(events);
}

void rt_events_stop(struct rt_events *events, void (*stopped)(void *user), void *user)
{
	events->stopped = stopped;
	events->stopped_user = user;
	set_state(events, STOPPING);
	rt_timer_stop(events->loop, &events->wait);
	rt_timer_stop(events->loop, &events->claim_timer);
	rt_timer_stop(events->loop, &events->maintain_timer);
	if (events->read.busy)
		events->source->ops->interrupt(events->source);
	rt_loop_defer(events->loop, &events->task);
}

void rt_events_free(struct rt_events *events)
{
	if (events == NULL)
		return;
	events->source->ops->free(events->source);
	assert(events->held == NULL && events->subjects == NULL);
	free(events->name);
	if (events->task.queued)
		events->freed = true;
	else
		free(events);
}

bool rt_events_ready(const struct rt_events *events)
{
	return events->state == READING;
}

struct rt_stream_info rt_events_info(const struct rt_events *events)
{
	return events->info;
}
