/* held.c - see held_internal.h. An event points into the bytes of its entry. */
#include "held_internal.h"

#include <stdio.h>
#include <string.h>

void held_init(struct held *held, struct rt_loop *loop, int partition)
{
	*held = (struct held){ .loop = loop, .partition = partition };
	rt_list_init(&held->ready);
}

/* ---- the states of an entry ---- */

const char *stream_id_of(const struct entry *entry)
{
	return entry->ack_id + entry->aside;
}

size_t weight_of(const struct entry *entry)
{
	return RT_MAX(entry->count, (size_t)1);
}

void entry_set(struct entry *entry, enum entry_state state)
{
	struct held *held = entry->held;

	held->counts[entry->state] -= weight_of(entry);
	entry->state = state;
	held->counts[state] += weight_of(entry);
}

void entry_ready(struct entry *entry)
{
	entry_set(entry, READY);
	rt_list_push(&entry->held->ready, &entry->link);
}

void entry_count(struct entry *entry, uint32_t deliveries)
{
	entry->deliveries = deliveries;
	for (size_t i = 0; i < entry->count; i++)
		entry->events[i].event.deliveries = deliveries;
	entry->recount = true;
	entry->held->recount_wanted = true;
}

void entry_uncount_claim(struct entry *entry)
{
	if (entry->claimed && entry->deliveries > 1)
		entry_count(entry, entry->deliveries - 1);
	entry->claimed = false;
}

/* ---- blocked subjects ---- */

void event_block(struct event *event)
{
	struct held *held = event->entry->held;
	const char *name = event->event.subject;
	struct subject *subject;

	if (event->blocked != NULL)
		return;
	HASH_FIND_STR(held->subjects, name, subject);
	if (subject == NULL) {
		subject = rt_alloc(sizeof(*subject));
		subject->name = rt_strdup(name);
		rt_list_init(&subject->behind);
		HASH_ADD_KEYPTR(hh, held->subjects, subject->name, strlen(subject->name), subject);
	}
	subject->blockers++;
	event->blocked = subject;
}

void event_unblock(struct event *event)
{
	struct held *held = event->entry->held;
	struct subject *subject = RT_TAKE(event->blocked);
	struct rt_list *link;

	if (subject == NULL || --subject->blockers > 0)
		return;
	while ((link = rt_list_pop(&subject->behind)) != NULL)
		entry_ready(RT_CONTAINER_OF(link, struct entry, link));
	HASH_DEL(held->subjects, subject);
	free(subject->name);
	free(subject);
}

struct subject *blocker_of(const struct event *event)
{
	struct subject *subject;

	if (event->blocked != NULL)
		return NULL; /* it is the blocker, or one of them */
	HASH_FIND_STR(event->entry->held->subjects, event->event.subject, subject);
	return subject;
}

/* ---- making and freeing ---- */

/* Appends a text and a NUL to the bytes. */
static const char *append_text(char **at, const char *data, size_t length)
{
	char *text = *at;

	if (length > 0)
		memcpy(text, data, length);
	text[length] = '\0';
	*at += length + 1;
	return text;
}

/* Of a tracestate that is worth handing on. */
static size_t state_length(const struct rt_entry_event *from)
{
	const struct rt_slice *parent = &from->traceparent, *state = &from->tracestate;
	struct rt_trace trace;

	return state->length > 0 && rt_trace_state_valid(state->data, state->length) &&
			       rt_trace_parse(parent->data, parent->length, &trace)
		       ? state->length
		       : 0;
}

static void event_fill(struct event *event, const struct rt_entry_event *from, char **at)
{
	event->event = (struct rt_event){
		.stream_id = stream_id_of(event->entry),
		.type = append_text(at, from->type.data, from->type.length),
		.subject = append_text(at, from->subject.data, from->subject.length),
		.seq = from->seq,
		.time = append_text(at, from->time.data, from->time.length),
		.attempt = from->attempt,
		.traceparent = append_text(at, from->traceparent.data, from->traceparent.length),
		.tracestate = append_text(at, from->tracestate.data, state_length(from)),
		.actor = append_text(at, from->actor.data, from->actor.length),
		.data_length = from->data.length,
		.deliveries = event->entry->deliveries,
		.partition = event->entry->held->partition,
	};
	event->event.data = (const uint8_t *)append_text(at, from->data.data, from->data.length);
}

struct entry *entry_new(struct held *held, const char *stream_id, bool aside, uint32_t deliveries,
			const struct rt_entry_event *list, size_t count)
{
	struct entry *entry = rt_alloc(sizeof(*entry) + count * sizeof(entry->events[0]));
	size_t total = aside + strlen(stream_id) + 1;
	char *at;

	for (size_t i = 0; i < count; i++)
		total += list[i].type.length + list[i].subject.length + list[i].time.length +
			 list[i].traceparent.length + list[i].tracestate.length +
			 list[i].actor.length + list[i].data.length + 7;
	at = entry->bytes = rt_alloc(total);
	if (aside)
		*at++ = '+';
	append_text(&at, stream_id, strlen(stream_id));
	entry->ack_id = entry->bytes;
	entry->held = held;
	entry->aside = aside;
	entry->deliveries = deliveries;
	entry->touched_ms = rt_loop_now(held->loop);
	entry->count = count;
	rt_list_init(&entry->link);
	for (size_t i = 0; i < count; i++) {
		entry->events[i].entry = entry;
		event_fill(&entry->events[i], &list[i], &at);
	}
	HASH_ADD_KEYPTR(hh, held->entries, entry->ack_id, strlen(entry->ack_id), entry);
	held->counts[READY] += weight_of(entry);
	return entry;
}

struct entry *entry_find(const struct held *held, const char *stream_id, bool aside)
{
	char ack_id[64];
	struct entry *entry;

	snprintf(ack_id, sizeof(ack_id), "%s%s", aside ? "+" : "", stream_id);
	HASH_FIND_STR(held->entries, ack_id, entry);
	return entry;
}

void entry_remove(struct entry *entry)
{
	struct held *held = entry->held;

	entry_set(entry, READY);
	held->counts[READY] -= weight_of(entry);
	HASH_DEL(held->entries, entry);
	rt_timer_stop(held->loop, &entry->retry);
	rt_list_remove(&entry->link);
	for (size_t i = 0; i < entry->count; i++) {
		event_unblock(&entry->events[i]);
		free(entry->events[i].reason);
	}
	free(entry->reason);
	free(entry->handlings);
	free(entry->bytes);
	free(entry);
}

void entry_reopen(struct entry *entry)
{
	for (size_t i = 0; i < entry->count; i++) {
		entry->events[i].outcome = OPEN;
		free(RT_TAKE(entry->events[i].reason));
	}
	entry->done = 0;
	entry->acked = entry->anew = false;
}

void entries_remove(struct rt_list *entries)
{
	struct rt_list *link;

	while ((link = rt_list_pop(entries)) != NULL)
		entry_remove(RT_CONTAINER_OF(link, struct entry, link));
}
