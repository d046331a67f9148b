/* reader_batch.c - entries become a batch: their events, what is missing between them, and what cannot be read. */
#include <string.h>

#include "check.h"
#include "events/entry.h"
#include "reader_internal.h"
#include "tandem/order/v1/order_events.pb-c.h"

/* It is looked for what is left of a stream so long before the first new entry, then longer. */
#define LEFT_MIN_MS 1000
#define KEEP_BYTES  ((size_t)1 << 20) /* of a batch's memory */

static struct archive_text keep(struct archive_reader_batch *batch, const struct rt_slice *slice)
{
	if (slice->length == 0)
		return (struct archive_text){ 0 };
	return (struct archive_text){ rt_arena_copy(&batch->arena, slice->data, slice->length),
				      slice->length };
}

void archive_reader_add_gap(struct archive_reader_stream *stream,
			    struct archive_reader_batch *batch, const char *before, int64_t events,
			    const char *reason)
{
	struct archive_gap *gap;

	batch->gaps = rt_grow(batch->gaps, batch->stored.gap_count, &batch->gap_capacity,
			      sizeof(*batch->gaps));
	gap = &batch->gaps[batch->stored.gap_count++];
	*gap = (struct archive_gap){ .stream = stream->position.stream,
				     .events = events,
				     .found_ms = rt_loop_unix_ms(stream->partition->archive->loop),
				     .reason = reason };
	snprintf(gap->after, sizeof(gap->after), "%s", batch->positions[stream->context].id);
	snprintf(gap->before, sizeof(gap->before), "%s", before);
}

/* The first time in a batch counts. */
static void note_back(struct archive_reader_batch *batch, const char *id)
{
	uint64_t n;

	if (batch->before_back[0] != '\0' || !archive_reader_id(id, &batch->back_ms, &n))
		return;
	snprintf(batch->before_back, sizeof(batch->before_back), "(%s", id);
	batch->looked_ms = LEFT_MIN_MS;
}

/* Compares the number of an entry with that of the one before. `count`: of its events. One that was added by hand has the number
 * 0, or begins the numbers anew without a loss. */
static void look_for_gap(struct archive_reader_stream *stream, struct archive_reader_batch *batch,
			 const char *id, uint64_t n, size_t count)
{
	uint64_t first = n - RT_MIN(n, (uint64_t)count);

	if (first > stream->n)
		archive_reader_add_gap(stream, batch, id, (int64_t)(first - stream->n),
				       strcmp(batch->positions[stream->context].id, "0-0") == 0
					       ? "they were gone when the archive began"
					       : "they were gone before they were archived");
	else if (first < stream->n)
		archive_reader_add_gap(stream, batch, id, 0, ARCHIVE_READER_WENT_BACK);
	/* Where nothing is left of the stream nothing is of the orders. */
	if (first < stream->n && first > 0 && stream->context == ARCHIVE_ORDER)
		note_back(batch, id);
}

/* What an event of orders holds, if that is shown later; NULL: it is not. */
static const ProtobufCMessageDescriptor *content_of(const struct archive_text *kind)
{
	static const struct {
		const char *kind;
		const ProtobufCMessageDescriptor *content;
	} kinds[] = {
		{ "OrderPlaced", &tandem__order__v1__order_placed__descriptor },
		{ "OrderRejected", &tandem__order__v1__order_rejected__descriptor },
		{ "OrderCancelled", &tandem__order__v1__order_cancelled__descriptor },
		{ "OrderExpired", &tandem__order__v1__order_expired__descriptor },
		{ "OrderReturned", &tandem__order__v1__order_returned__descriptor },
	};

	for (size_t i = 0; i < RT_LENGTH(kinds); i++)
		if (kind->length == strlen(kinds[i].kind) &&
		    memcmp(kind->data, kinds[i].kind, kind->length) == 0)
			return kinds[i].content;
	return NULL;
}

/* What is the same for many events of an entry, one behind the other. */
struct alike {
	struct rt_slice type, time;
	struct archive_text kind;
	const ProtobufCMessageDescriptor *content;
	bool kind_valid, of_stock;
	int64_t time_ms;
};

/* Whether a subject is what it should be: an order id, or a SKU. */
static const char *fault_of_subject(const struct rt_slice *from, bool of_stock)
{
	static const char sku_letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	char subject[ARCHIVE_SKU_MAX + 1];

	if (from->length >= sizeof(subject))
		return "its subject is too long";
	memcpy(subject, from->data, from->length);
	subject[from->length] = '\0';
	if (of_stock)
		return strspn(subject, sku_letters) == from->length ? NULL
								    : "its subject is not a SKU";
	return check_order_id(subject) ? NULL : "its subject is not an order id";
}

/* What is wrong with an event, or NULL. */
static const char *fault_of(const struct alike *alike, const struct rt_entry_event *event)
{
	const char *fault = fault_of_subject(&event->subject, alike->of_stock);
	struct rt_wire_fault wrong;

	if (fault != NULL)
		return fault;
	if (!alike->kind_valid || !rt_utf8_valid(event->actor.data, event->actor.length))
		return "a text is not UTF-8";
	if (event->seq > INT64_MAX)
		return "its version is too large";
	if (alike->content != NULL &&
	    !rt_wire_check(alike->content, (const uint8_t *)event->data.data, event->data.length,
			   &wrong))
		return "its content is not valid";
	return NULL;
}

/* An event's time, or that of its entry's id. */
static int64_t time_of(const struct rt_slice *time, uint64_t entry_ms)
{
	char text[RT_TIME_TEXT];
	int64_t ms;

	if (time->length == sizeof(text) - 1) {
		memcpy(text, time->data, time->length);
		text[time->length] = '\0';
		if (rt_time_parse(text, &ms))
			return ms;
	}
	return (int64_t)RT_MIN(entry_ms, (uint64_t)RT_TIME_MS_MAX);
}

/* The type without its package. */
static struct rt_slice short_type(const struct rt_slice *type)
{
	const char *dot = memrchr(type->data, '.', type->length);
	size_t skip = dot != NULL ? (size_t)(dot - type->data) + 1 : 0;

	return (struct rt_slice){ type->data + skip, type->length - skip };
}

static bool same(const struct rt_slice *a, const struct rt_slice *b)
{
	return a->data == b->data && a->length == b->length;
}

/* The entry's events point to the same texts as long as these are the same. */
static void note_alike(struct alike *alike, struct archive_reader_batch *batch,
		       enum archive_context context, uint64_t entry_ms,
		       const struct rt_entry_event *event)
{
	if (!same(&alike->time, &event->time) || alike->type.data == NULL) {
		alike->time = event->time;
		alike->time_ms = time_of(&event->time, entry_ms);
	}
	if (!same(&alike->type, &event->type)) {
		const struct rt_slice kind = short_type(&event->type);

		alike->type = event->type;
		alike->kind = keep(batch, &kind);
		alike->kind_valid = rt_utf8_valid(kind.data, kind.length);
		alike->of_stock = context == ARCHIVE_INVENTORY && archive_of_stock(&alike->kind);
		alike->content = context == ARCHIVE_ORDER ? content_of(&alike->kind) : NULL;
	}
}

/* Returns what is wrong with the event, or NULL: it is in the batch. */
static const char *add_event(struct archive_reader_batch *batch, enum archive_context context,
			     uint64_t entry_ms, struct alike *alike,
			     const struct rt_entry_event *from)
{
	struct archive_event *event;
	const char *fault;

	note_alike(alike, batch, context, entry_ms, from);
	fault = fault_of(alike, from);
	if (fault != NULL)
		return fault;
	batch->events = rt_grow(batch->events, batch->stored.event_count, &batch->event_capacity,
				sizeof(*batch->events));
	event = &batch->events[batch->stored.event_count++];
	*event = (struct archive_event){ .context = context,
					 .kind = alike->kind,
					 .subject = keep(batch, &from->subject),
					 .actor = keep(batch, &from->actor),
					 .data = keep(batch, &from->data),
					 .version = from->seq,
					 .time_ms = alike->time_ms,
					 .entry_ms = (int64_t)entry_ms };
	return NULL;
}

/* An entry that cannot be read, as it is: of each field its length, a line's end and its bytes. */
static void add_unreadable(struct archive_reader_stream *stream, struct archive_reader_batch *batch,
			   const char *id, const redisReply *fields, const char *reason)
{
	struct rt_buf text = { 0 };
	struct archive_unreadable *entry;

	for (size_t i = 0; rt_reply_is_array(fields, 0) && i < fields->elements; i++) {
		if (!rt_reply_is_string(fields->element[i]))
			continue;
		rt_buf_printf(&text, "%zu\n", fields->element[i]->len);
		rt_buf_add(&text, fields->element[i]->str, fields->element[i]->len);
	}
	batch->unreadable = rt_grow(batch->unreadable, batch->stored.unreadable_count,
				    &batch->unreadable_capacity, sizeof(*batch->unreadable));
	entry = &batch->unreadable[batch->stored.unreadable_count++];
	*entry = (struct archive_unreadable){
		.stream = stream->position.stream,
		.id = rt_arena_copy(&batch->arena, id, strlen(id)),
		.reason = reason,
		.data = rt_arena_copy(&batch->arena, text.length > 0 ? text.data : "", text.length),
		.length = text.length
	};
	rt_buf_done(&text);
	RT_LOG(RT_WARN, "an entry cannot be read: it is archived as it is",
	       RT_S("stream", stream->position.stream), RT_S("id", id), RT_S("reason", reason));
}

static bool add_entry(struct archive_reader_stream *stream, struct archive_reader_batch *batch,
		      const redisReply *entry)
{
	struct archive_position *position = &batch->positions[stream->context];
	struct alike alike = { .kind_valid = false };
	struct rt_entry_event *list;
	const char *fault, *id;
	uint64_t ms, n;
	size_t count;

	if (!rt_reply_is_array(entry, 2) || !rt_reply_is_string(entry->element[0]))
		return false;
	id = entry->element[0]->str;
	if (strlen(id) >= sizeof(position->id) || !archive_reader_id(id, &ms, &n))
		return false;
	fault = rt_entry_read_reply(entry->element[1], &list, &count);
	if (fault == NULL)
		look_for_gap(stream, batch, id, n, count);
	for (size_t i = 0; i < count; i++) {
		const char *wrong = add_event(batch, stream->context, ms, &alike, &list[i]);

		if (wrong == NULL)
			position->events++;
		else
			fault = wrong;
	}
	free(list);
	if (fault != NULL)
		add_unreadable(stream, batch, id, entry->element[1], fault);
	snprintf(position->id, sizeof(position->id), "%s", id);
	stream->n = n;
	stream->turn.ms = ms;
	return true;
}

static struct archive_reader_stream *stream_called(struct archive_partition *partition,
						   const redisReply *name)
{
	for (size_t i = 0; rt_reply_is_string(name) && i < ARCHIVE_STREAMS; i++)
		if (strcmp(partition->streams[i].position.stream, name->str) == 0)
			return &partition->streams[i];
	return NULL;
}

static bool add_entries(struct archive_partition *partition, struct archive_reader_stream *stream,
			const redisReply *entries)
{
	struct archive_reader_batch *batch = &partition->batch;
	const int64_t *events = &batch->positions[stream->context].events, before = *events;

	for (size_t i = 0; i < entries->elements; i++)
		if (!add_entry(stream, batch, entries->element[i]))
			return false;
	stream->turn.more = entries->elements >= partition->asked;
	stream->turn.entries = entries->elements;
	stream->turn.events = (size_t)(*events - before);
	return true;
}

/* [[stream, [entry, …]], …] */
bool archive_reader_fill(struct archive_partition *partition, const redisReply *reply)
{
	struct archive_reader_batch *batch = &partition->batch;

	batch->begun = true;
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *part = reply->element[i];
		struct archive_reader_stream *stream;

		if (!rt_reply_is_array(part, 2) || !rt_reply_is_array(part->element[1], 0))
			return false;
		stream = stream_called(partition, part->element[0]);
		if (stream == NULL || !add_entries(partition, stream, part->element[1]))
			return false;
	}
	return true;
}

void archive_reader_clear(struct archive_partition *partition)
{
	struct archive_reader_batch *batch = &partition->batch;

	rt_arena_reset(&batch->arena, KEEP_BYTES);
	batch->stored = (struct archive_batch){ .event_count = 0 };
	batch->begun = false;
	batch->before_back[0] = '\0';
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++) {
		const struct archive_position *stored = &partition->streams[i].position;

		batch->positions[i] = *stored;
		batch->positions[i].events = batch->positions[i].lost_from_ms = 0;
		memcpy(batch->positions[i].from, stored->id, sizeof(batch->positions[i].from));
	}
}
