/* fuzz_entry.c - the fields of an entry of a stream. The events that rt_entry_read returns must have valid
 * words, inside the entry, one for each name; and the same batch as protobuf-c unpacks, if it can. A byte before
 * each field selects its name, or says that the name follows. */
#include "events/entry.h"
#include "fuzz.h"
#include "tandem/events/v1/events.pb-c.h"

#define FIELDS_MAX 12

/* In a separate block, so that sanitizers find reads past its end. */
static struct rt_slice own(const char *bytes, size_t length)
{
	char *copy = rt_alloc(RT_MAX(length, (size_t)1));

	memcpy(copy, bytes, length);
	return (struct rt_slice){ copy, length };
}

static struct rt_slice name_of(struct fuzz *fuzz)
{
	static const char *const names[] = { "type",  "subject",   "seq",   "time",
					     "data",  "attempt",   "batch", "traceparent",
					     "actor", "tracestate" };
	uint8_t which = fuzz_byte(fuzz);
	const char *bytes;
	size_t length;

	if (which < RT_LENGTH(names))
		return own(names[which], strlen(names[which]));
	bytes = fuzz_bytes(fuzz, &length);
	return own(bytes, length);
}

static bool lies_in(struct rt_slice part, const struct rt_fields *fields)
{
	for (size_t i = 0; i < fields->count; i++) {
		const struct rt_slice *all = &fields->list[i];

		if (part.data >= all->data && part.data + part.length <= all->data + all->length)
			return true;
	}
	return part.length == 0;
}

static void check_word(struct rt_slice word, const struct rt_fields *fields)
{
	FUZZ_MUST(word.length > 0 && word.length <= 256 && lies_in(word, fields));
	FUZZ_MUST(memchr(word.data, '\0', word.length) == NULL);
}

static bool same(const void *a, size_t a_length, struct rt_slice b)
{
	return a_length == b.length && (a_length == 0 || memcmp(a, b.data, a_length) == 0);
}

/* Compares with the batch as protobuf-c unpacks it. */
static void check_batch(const struct rt_fields *fields, const struct rt_entry_event *events,
			size_t count)
{
	struct rt_slice packed = rt_entry_field(fields, "batch");
	Tandem__Events__V1__EventBatch *batch = tandem__events__v1__event_batch__unpack(
		NULL, packed.length, (const uint8_t *)packed.data);

	if (batch == NULL)
		return;
	FUZZ_MUST(batch->n_data == 0 || batch->n_data == count);
	FUZZ_MUST(batch->n_attempt == 0 || batch->n_attempt == count);
	FUZZ_MUST(batch->n_traceparent == 0 || batch->n_traceparent == count);
	FUZZ_MUST(batch->n_actor == 0 || batch->n_actor == count);
	FUZZ_MUST(batch->n_tracestate == 0 || batch->n_tracestate == count);
	for (size_t i = 0; i < batch->n_data; i++)
		FUZZ_MUST(same(batch->data[i].data, batch->data[i].len, events[i].data));
	/* A number past 32 bits becomes the largest one here, but is truncated there. */
	for (size_t i = 0; i < batch->n_attempt; i++)
		FUZZ_MUST(events[i].attempt == UINT32_MAX ||
			  events[i].attempt == RT_MAX(batch->attempt[i], 1U));
	for (size_t i = 0; i < batch->n_traceparent; i++)
		FUZZ_MUST(same(batch->traceparent[i], events[i].traceparent.length,
			       events[i].traceparent));
	for (size_t i = 0; i < batch->n_actor; i++)
		FUZZ_MUST(same(batch->actor[i], events[i].actor.length, events[i].actor));
	for (size_t i = 0; i < batch->n_tracestate; i++)
		FUZZ_MUST(same(batch->tracestate[i], events[i].tracestate.length,
			       events[i].tracestate));
	tandem__events__v1__event_batch__free_unpacked(batch, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz fuzz = { data, data + size };
	struct rt_slice texts[2 * FIELDS_MAX];
	struct rt_fields fields = { texts, 0 };
	struct rt_entry_event *events;
	const char *fault;
	size_t count;

	while (fuzz.at < fuzz.end && fields.count < RT_LENGTH(texts)) {
		const char *bytes;
		size_t length;

		texts[fields.count++] = name_of(&fuzz);
		bytes = fuzz_bytes(&fuzz, &length);
		texts[fields.count++] = own(bytes, length);
	}
	fault = rt_entry_read(&fields, &events, &count);
	FUZZ_MUST(fault == NULL ? events != NULL && count > 0 && count <= RT_ENTRY_EVENTS_MAX
				: events == NULL && count == 0 && rt_text_printable(fault, NULL));
	for (size_t i = 0; i < count; i++) {
		check_word(events[i].type, &fields);
		check_word(events[i].subject, &fields);
		FUZZ_MUST(lies_in(events[i].time, &fields));
		FUZZ_MUST(lies_in(events[i].traceparent, &fields));
		FUZZ_MUST(lies_in(events[i].tracestate, &fields));
		FUZZ_MUST(lies_in(events[i].actor, &fields));
		FUZZ_MUST(lies_in(events[i].data, &fields));
		FUZZ_MUST(events[i].attempt > 0);
	}
	if (fault == NULL && rt_entry_field(&fields, "type").data == NULL)
		check_batch(&fields, events, count);
	free(events);
	for (size_t i = 0; i < fields.count; i++)
		free((char *)(uintptr_t)texts[i].data);
	return 0;
}
