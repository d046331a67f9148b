/* subscription.c - how the consumer gets its entries: reads, claims and renews them.
 *
 *   IDLE ─start▶ CONNECTING ─both connections up▶ ENSURING ─group there▶ RECOVERING ─own pending read▶ READING
 *                   ▲                                │                       │                           │
 *                   └──────── back-off ────────── WAITING ◀─────────── anything failed ──────────────────┘
 *
 * One setter: events_set. Entries go to events->admit. */
#include <stdio.h>
#include <string.h>

#include "events_internal.h"

#define WAIT_MIN_MS 100 /* back-off of the subscription itself */
#define WAIT_MAX_MS 2000

/* ---- reading ---- */

static bool is_running(const struct rt_events *events)
{
	return events->state != IDLE && events->state != STOPPING && events->state != STOPPED;
}

bool rt_events_ready(const struct rt_events *events)
{
	return events->state == READING;
}

void events_set(struct rt_events *events, enum state state)
{
	bool was_ready = rt_events_ready(events);

	events->state = state;
	if (rt_events_ready(events) != was_ready && events->options.changed != NULL)
		rt_loop_defer(events->loop, events->options.changed);
}

static void subscribe(struct rt_events *events);

static void on_wait_over(struct rt_timer *timer)
{
	struct rt_events *events = RT_CONTAINER_OF(timer, struct rt_events, wait);

	if (events->read.busy || events->ensure.busy)
		rt_timer_start(events->loop, timer, WAIT_MIN_MS, on_wait_over);
	else
		subscribe(events);
}

/* Something failed: starts again after a back-off; the first time, if the connection was lost, as soon as it is back. */
static void subscribe_later(struct rt_events *events, int status)
{
	int64_t delay;

	if (!is_running(events) || events->state == CONNECTING || events->state == WAITING)
		return;
	if (status == RT_NOGROUP) {
		if (!events->rebuilding)
			RT_LOG(RT_WARN, "consumer group or stream is gone: creating it again",
			       RT_S("stream", events->name));
		events->rebuilding = true;
		events_count(events, REBUILT, 1);
	} else if (!events->failing) {
		RT_LOG(RT_WARN, "events cannot be read: trying again", RT_S("stream", events->name),
		       RT_S("error", rt_status_text(status)));
		events->failing = true;
	}
	events_set(events, WAITING);
	events->recover_waits = false;
	delay = events->wait_ms > WAIT_MIN_MS || rt_stream_connected(events->stream)
			? events_back_off(events, events->wait_ms, WAIT_MAX_MS, 0)
			: 0;
	events->wait_ms = RT_MIN(events->wait_ms * 2, WAIT_MAX_MS);
	rt_timer_start(events->loop, &events->wait, delay, on_wait_over);
}

static void read_done(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, read.op);

	events_op_end(events, &events->read);
	if (status == RT_OK) {
		if (events->failing || events->rebuilding)
			RT_LOG(RT_INFO, "events are read again", RT_S("stream", events->name));
		events->failing = events->rebuilding = false;
		events->wait_ms = WAIT_MIN_MS;
		events->admit(events, stream_op, false, NEW);
	} else {
		subscribe_later(events, status);
	}
	events->pump(events);
}

static void read_more(struct rt_events *events)
{
	int wanted = events_room(events);

	if (events->state != READING || events->read.busy || wanted == 0)
		return;
	events_op_begin(events, &events->read, read_done);
	events->read.op.count_max = wanted;
	rt_stream_read(events->stream, &events->read.op, events->options.block_ms);
}

static void own_pending_read(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, pending.op);
	bool aside = stream_op->aside;

	events_op_end(events, &events->pending);
	if (status == RT_NOGROUP && aside)
		status = RT_OK; /* no event was ever set aside */
	if (status != RT_OK) {
		subscribe_later(events, status);
	} else if (stream_op->entry_count > 0) {
		snprintf(events->pending_cursor, sizeof(events->pending_cursor), "%s",
			 stream_op->entries[stream_op->entry_count - 1].stream_id);
		events->admit(events, stream_op, aside, OWN);
		events->recover_waits = true;
	} else if (!aside) {
		snprintf(events->pending_cursor, sizeof(events->pending_cursor), "0");
		events->pending_aside = true;
		events->recover_waits = true;
	} else if (events->state == RECOVERING) {
		events_set(events, READING);
	}
	events->pump(events); /* continues reading when there is room */
}

static void recover_more(struct rt_events *events)
{
	int wanted = events_room(events);

	if (events->state != RECOVERING || !events->recover_waits || events->pending.busy ||
	    wanted == 0)
		return;
	events->recover_waits = false;
	events_op_begin(events, &events->pending, own_pending_read);
	events->pending.op.aside = events->pending_aside;
	events->pending.op.count_max = wanted;
	events->pending.op.cursor = events->pending_cursor;
	rt_stream_pending(events->stream, &events->pending.op);
}

static void group_ensured(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, ensure.op);

	events_op_end(events, &events->ensure);
	if (status != RT_OK) {
		subscribe_later(events, status);
	} else if (events->state == ENSURING) {
		events_set(events, RECOVERING);
		snprintf(events->pending_cursor, sizeof(events->pending_cursor), "0");
		events->pending_aside = false;
		events->recover_waits = true;
	}
	events->pump(events);
}

static void stream_connected(void *user)
{
	struct rt_events *events = user;

	if (events->state == CONNECTING)
		subscribe(events);
}

void events_forget_done(struct rt_events *events)
{
	if (events->epoch == rt_stream_epoch(events->stream))
		return;
	entries_remove(&events->acking);
	entries_remove(&events->asiding);
}

static void subscribe(struct rt_events *events)
{
	if (!rt_stream_connected(events->stream)) {
		events_set(events, CONNECTING);
		rt_stream_await(events->stream, stream_connected, events);
		return;
	}
	events_set(events, ENSURING);
	events_forget_done(events);
	events->epoch = rt_stream_epoch(events->stream);
	events->life++;
	events_op_begin(events, &events->ensure, group_ensured);
	rt_stream_ensure(events->stream, &events->ensure.op);
}

/* ---- claiming and renewing ---- */

static void claim_more(struct rt_events *events);

/* A sweep goes over the stream, then over aside:…. */
static void entries_claimed(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, claim.op);
	bool aside = stream_op->aside;

	events_op_end(events, &events->claim);
	if (status == RT_OK || (status == RT_NOGROUP && aside)) {
		events_count(events, CLAIMED, stream_op->entry_count);
		events->admit(events, stream_op, aside, CLAIM);
		snprintf(events->claim_cursor, sizeof(events->claim_cursor), "%s",
			 stream_op->next_cursor);
		if (strcmp(events->claim_cursor, "0-0") == 0)
			events->claim_aside = !aside;
		if (strcmp(events->claim_cursor, "0-0") != 0 || !aside)
			claim_more(events);
	}
	events->pump(events);
}

static void claim_more(struct rt_events *events)
{
	int wanted = events_room(events);

	if (events->state != READING || events->claim.busy || wanted == 0)
		return;
	events_op_begin(events, &events->claim, entries_claimed);
	events->claim.op.aside = events->claim_aside;
	events->claim.op.count_max = wanted;
	events->claim.op.idle_ms = events->options.claim_idle_ms;
	events->claim.op.cursor = events->claim_cursor;
	rt_stream_claim(events->stream, &events->claim.op);
}

/* Begins an operation if it has ids; else frees their list. */
static bool op_begin_if_any(struct rt_events *events, struct op *op,
			    void (*done)(struct rt_stream_op *op, int status))
{
	if (op->op.id_count == 0) {
		free(RT_TAKE(op->ids));
		return false;
	}
	events_op_begin(events, op, done);
	return true;
}

static void renew_more(struct rt_events *events);

static void entries_renewed(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, renew.op);

	events_op_end(events, &events->renew);
	if (status == RT_OK || status == RT_NOGROUP)
		renew_more(events); /* the other stream, and more of this one */
	events->pump(events);
}

/* Restarts the idle clocks of entries held for long, before others claim them. */
static void renew_more(struct rt_events *events)
{
	int64_t now = rt_loop_now(events->loop);
	struct entry *entry, *next;
	struct op *op = &events->renew;

	if (events->state != READING || op->busy)
		return;
	events_op_ids(op, OP_IDS_MAX);
	HASH_ITER (hh, events->held.entries, entry, next) {
		if (now - entry->touched_ms < events->options.claim_idle_ms / 3)
			continue;
		if (op->op.id_count == 0)
			op->op.aside = entry->aside;
		if (op->op.id_count == OP_IDS_MAX || entry->aside != op->op.aside)
			continue;
		events_op_id(op, stream_id_of(entry));
		entry->touched_ms = now;
	}
	if (op_begin_if_any(events, op, entries_renewed))
		rt_stream_renew(events->stream, &op->op);
}

static void deliveries_recounted(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, recount.op);
	struct entry *entry;

	for (size_t i = 0; status != RT_OK && i < stream_op->id_count; i++) {
		entry = entry_find(&events->held, stream_op->ids[i], stream_op->aside);
		if (entry != NULL)
			entry->recount = true;
	}
	if (status != RT_OK)
		events->held.recount_wanted = false; /* all go with the next claims */
	events_op_end(events, &events->recount);
	events->pump(events);
}

/* Sends deliveries to the group: for all entries of a stream that have the same number. */
static void recount_more(struct rt_events *events)
{
	struct entry *entry, *next;
	struct op *op = &events->recount;

	if (events->state != READING || op->busy || !events->held.recount_wanted)
		return;
	events->held.recount_wanted = false;
	events_op_ids(op, OP_IDS_MAX);
	HASH_ITER (hh, events->held.entries, entry, next) {
		if (!entry->recount)
			continue;
		if (op->op.id_count == 0) {
			op->op.aside = entry->aside;
			op->op.deliveries = entry->deliveries;
		}
		if (op->op.id_count == OP_IDS_MAX || entry->aside != op->op.aside ||
		    entry->deliveries != op->op.deliveries) {
			events->held.recount_wanted = true;
			continue;
		}
		entry->recount = false;
		events_op_id(op, stream_id_of(entry));
	}
	if (op_begin_if_any(events, op, deliveries_recounted))
		rt_stream_recount(events->stream, &op->op);
}

static void on_claim_time(struct rt_timer *timer)
{
	struct rt_events *events = RT_CONTAINER_OF(timer, struct rt_events, claim_timer);

	rt_timer_start(events->loop, timer,
		       events_back_off(events, events->options.claim_every_ms,
				       events->options.claim_every_ms, 0),
		       on_claim_time);
	renew_more(events);                 /* sent first, so that we do not claim our own */
	events->held.recount_wanted = true; /* try failed ones again */
	recount_more(events);
	/* A sweep that stopped for lack of room continues where it stopped. */
	claim_more(events);
}

/* ---- maintenance ---- */

static void group_maintained(struct rt_stream_op *stream_op, int status)
{
	struct rt_events *events = RT_CONTAINER_OF(stream_op, struct rt_events, maintain.op);

	events_op_end(events, &events->maintain);
	if (status == RT_OK) {
		events->info = events->info_next;
		events_gauge(events, LAG, (double)events->info.lag);
		events_gauge(events, ASIDE, (double)events->info.aside);
		events_gauge(events, PENDING, (double)events->info.pending);
		events_gauge(events, OLDEST, (double)events->info.oldest_pending_ms / 1000);
	}
	events->pump(events);
}

static void on_maintain_time(struct rt_timer *timer)
{
	struct rt_events *events = RT_CONTAINER_OF(timer, struct rt_events, maintain_timer);

	rt_timer_start(events->loop, timer, events->options.maintain_every_ms, on_maintain_time);
	if (events->state != READING || events->maintain.busy)
		return;
	events_op_begin(events, &events->maintain, group_maintained);
	events->maintain.op.idle_ms = events->options.consumer_idle_ms;
	rt_stream_maintain(events->stream, &events->maintain.op, &events->info_next);
}

/* ---- for the consumer ---- */

void subscription_init(struct rt_events *events)
{
	events->wait_ms = WAIT_MIN_MS;
	events->per_entry = 1;
	snprintf(events->claim_cursor, sizeof(events->claim_cursor), "0-0");
	/* Renewing happens with claiming, and must come twice before others claim an entry. */
	events->options.claim_every_ms = RT_MIN(events->options.claim_every_ms,
						RT_MAX(events->options.claim_idle_ms / 3, 1));
}

void subscription_start(struct rt_events *events)
{
	rt_timer_start(events->loop, &events->maintain_timer, events->options.maintain_every_ms,
		       on_maintain_time);
	/* The first sweep at a random time, so that instances started together spread out. */
	rt_timer_start(
		events->loop, &events->claim_timer,
		(int64_t)rt_loop_random(events->loop, (uint64_t)events->options.claim_every_ms),
		on_claim_time);
	subscribe(events);
}

void subscription_stop(struct rt_events *events)
{
	events_set(events, STOPPING);
	rt_timer_stop(events->loop, &events->wait);
	rt_timer_stop(events->loop, &events->claim_timer);
	rt_timer_stop(events->loop, &events->maintain_timer);
	if (events->read.busy)
		rt_stream_interrupt(events->stream);
}

void subscription_check(struct rt_events *events)
{
	if ((events->state != RECOVERING && events->state != READING) ||
	    events->epoch == rt_stream_epoch(events->stream))
		return;
	if (events->read.busy) /* it may be answered by another server than the commands */
		rt_stream_interrupt(events->stream);
	subscribe_later(events, RT_LOST);
}

void subscription_more(struct rt_events *events)
{
	recount_more(events);
	recover_more(events);
	read_more(events);
}
