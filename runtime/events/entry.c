/* entry.c - reads the events of an entry.
 *
 * It counts the names, makes an event of each, then gives each event its items from the EventBatch. */
#include "entry.h"

#include <hiredis/hiredis.h>
#include <string.h>

#include "redis/redis.h"

#define TEXT_MAX 256 /* bytes of a type or a subject */

/* EventBatch's field numbers. */
enum { LIST_DATA = 1, LIST_ATTEMPT, LIST_TRACEPARENT, LIST_ACTOR, LIST_TRACESTATE };

struct rt_slice rt_entry_field(const struct rt_fields *fields, const char *name)
{
	size_t length = strlen(name);

	for (size_t i = 0; i + 1 < fields->count; i += 2)
		if (fields->list[i].length == length &&
		    memcmp(fields->list[i].data, name, length) == 0)
			return fields->list[i + 1];
	return (struct rt_slice){ NULL, 0 };
}

/* A number without a sign or spaces. */
static bool read_number(struct rt_slice text, uint64_t *ret)
{
	uint64_t n = 0;

	if (text.length == 0 || text.length > 20)
		return false;
	for (size_t i = 0; i < text.length; i++) {
		uint64_t digit = (uint64_t)(unsigned char)text.data[i] - '0';

		if (digit > 9 || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*ret = n;
	return true;
}

static bool is_word(struct rt_slice text)
{
	return text.data != NULL && text.length > 0 && text.length <= TEXT_MAX &&
	       memchr(text.data, '\0', text.length) == NULL;
}

static uint32_t attempt_of(uint64_t n)
{
	return (uint32_t)RT_MIN(RT_MAX(n, 1), (uint64_t)UINT32_MAX);
}

/* ---- a single event ---- */

static const char *read_single(const struct rt_fields *fields, struct rt_entry_event *event)
{
	uint64_t attempt = 1;

	event->type = rt_entry_field(fields, "type");
	event->subject = rt_entry_field(fields, "subject");
	event->time = rt_entry_field(fields, "time");
	event->traceparent = rt_entry_field(fields, "traceparent");
	event->tracestate = rt_entry_field(fields, "tracestate");
	event->actor = rt_entry_field(fields, "actor");
	event->data = rt_entry_field(fields, "data");
	if (!is_word(event->type))
		return "not an event: bad type";
	if (!is_word(event->subject))
		return "not an event: bad subject";
	if (!read_number(rt_entry_field(fields, "seq"), &event->seq))
		return "not an event: bad seq";
	if (!read_number(rt_entry_field(fields, "attempt"), &attempt))
		attempt = 1;
	event->attempt = attempt_of(attempt);
	return NULL;
}

/* ---- EventBatch ---- */

/* The bytes not read yet. */
struct walk {
	const uint8_t *at, *end;
};

static bool walk_varint(struct walk *walk, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && walk->at < walk->end; shift += 7) {
		uint8_t byte = *walk->at++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret = value;
			return true;
		}
	}
	return false;
}

/* Reads the next record, which must be length-delimited, as all of ours are. */
static bool walk_record(struct walk *walk, uint64_t *ret_number, struct rt_slice *ret)
{
	uint64_t tag, length;

	if (!walk_varint(walk, &tag) || tag > UINT32_MAX || (tag & 7) != 2 ||
	    !walk_varint(walk, &length) || length > (uint64_t)(walk->end - walk->at))
		return false;
	*ret_number = tag >> 3;
	*ret = (struct rt_slice){ (const char *)walk->at, (size_t)length };
	walk->at += length;
	return true;
}

static bool read_attempts(struct rt_slice packed, struct rt_entry_event *events, size_t count)
{
	struct walk walk = { (const uint8_t *)packed.data,
			     (const uint8_t *)packed.data + packed.length };
	uint64_t attempt;

	for (size_t i = 0; i < count; i++) {
		if (!walk_varint(&walk, &attempt))
			return false;
		events[i].attempt = attempt_of(attempt);
	}
	return walk.at == walk.end;
}

static const char *read_batch(struct rt_slice batch, struct rt_entry_event *events, size_t count)
{
	static const char fault[] = "not an event: its batch does not parse";
	struct walk walk = { (const uint8_t *)batch.data,
			     (const uint8_t *)batch.data + batch.length };
	size_t datas = 0, attempts = 0, traceparents = 0, tracestates = 0, actors = 0;
	struct rt_slice value;
	uint64_t number;

	while (walk.at < walk.end) {
		if (!walk_record(&walk, &number, &value))
			return fault;
		if (number == LIST_DATA && datas < count)
			events[datas++].data = value;
		else if (number == LIST_TRACEPARENT && traceparents < count)
			events[traceparents++].traceparent = value;
		else if (number == LIST_TRACESTATE && tracestates < count)
			events[tracestates++].tracestate = value;
		else if (number == LIST_ACTOR && actors < count)
			events[actors++].actor = value;
		else if (number == LIST_DATA || number == LIST_TRACEPARENT ||
			 number == LIST_TRACESTATE || number == LIST_ACTOR ||
			 (number == LIST_ATTEMPT &&
			  (attempts++ > 0 || !read_attempts(value, events, count))))
			return fault;
	}
	if ((datas != 0 && datas != count) || (traceparents != 0 && traceparents != count) ||
	    (tracestates != 0 && tracestates != count) || (actors != 0 && actors != count))
		return fault;
	return NULL;
}

/* ---- the names ---- */

/* Not the name of a type. `replayed` marks an entry that came back from the dead letters. */
static bool is_reserved(struct rt_slice name)
{
	return (name.length == 4 && memcmp(name.data, "time", 4) == 0) ||
	       (name.length == 5 && memcmp(name.data, "batch", 5) == 0) ||
	       (name.length == 8 && memcmp(name.data, "replayed", 8) == 0);
}

/* Appends the events that a field names. */
static const char *read_names(struct rt_slice type, struct rt_slice names, struct rt_slice time,
			      struct rt_entry_event *events, size_t *count)
{
	const char *at = names.data, *end;

	if (!is_word(type))
		return "not an event: bad type";
	if (at == NULL)
		return "not an event: bad subject";
	end = at + names.length;
	for (;; at++) {
		const char *stop = memchr(at, ' ', (size_t)(end - at)), *slash;
		struct rt_entry_event *event = &events[*count];

		if (stop == NULL)
			stop = end;
		slash = memrchr(at, '/', (size_t)(stop - at));
		if (slash == NULL)
			return "not an event: bad subject";
		*event = (struct rt_entry_event){ .type = type,
						  .subject = { at, (size_t)(slash - at) },
						  .time = time,
						  .attempt = 1 };
		if (!is_word(event->subject))
			return "not an event: bad subject";
		if (!read_number((struct rt_slice){ slash + 1, (size_t)(stop - slash - 1) },
				 &event->seq))
			return "not an event: bad seq";
		(*count)++;
		at = stop;
		if (at == end)
			return NULL;
	}
}

static size_t names_count(const struct rt_fields *fields)
{
	size_t count = 0;

	for (size_t i = 0; i + 1 < fields->count; i += 2) {
		struct rt_slice names = fields->list[i + 1];

		if (is_reserved(fields->list[i]))
			continue;
		count++;
		for (const char *at = names.data;
		     at != NULL && (at = memchr(at, ' ', names.length - (size_t)(at - names.data)));
		     at++)
			count++;
	}
	return count;
}

const char *rt_entry_read(const struct rt_fields *fields, struct rt_entry_event **ret,
			  size_t *ret_count)
{
	bool single = rt_entry_field(fields, "type").data != NULL ||
		      rt_entry_field(fields, "subject").data != NULL;
	size_t count_max = single ? 1 : names_count(fields), count = 0;
	struct rt_slice time = rt_entry_field(fields, "time");
	struct rt_slice batch = rt_entry_field(fields, "batch");
	struct rt_entry_event *events;
	const char *fault = NULL;

	*ret = NULL;
	*ret_count = 0;
	if (count_max == 0 || count_max > RT_ENTRY_EVENTS_MAX)
		return count_max == 0 ? "not an event: bad type" : "too many events";
	events = rt_alloc(count_max * sizeof(*events));
	if (single) {
		count = 1;
		fault = read_single(fields, events);
	}
	for (size_t i = 0; !single && fault == NULL && i + 1 < fields->count; i += 2)
		if (!is_reserved(fields->list[i]))
			fault = read_names(fields->list[i], fields->list[i + 1], time, events,
					   &count);
	if (!single && fault == NULL && batch.data != NULL)
		fault = read_batch(batch, events, count);
	if (fault != NULL) {
		free(events);
		return fault;
	}
	*ret = events;
	*ret_count = count;
	return NULL;
}

const char *rt_entry_fields(const struct redisReply *reply, struct rt_slice *texts,
			    struct rt_fields *ret)
{
	*ret = (struct rt_fields){ texts, 0 };
	if (!rt_reply_is_array(reply, 0))
		return "not an event: no fields";
	for (size_t i = 0; i < reply->elements; i++) {
		const struct redisReply *text = reply->element[i];

		if (!rt_reply_is_string(text))
			return "not an event: a field is not a text";
		texts[i] = (struct rt_slice){ text->str, text->len };
	}
	ret->count = reply->elements;
	return NULL;
}

const char *rt_entry_read_reply(const struct redisReply *fields, struct rt_entry_event **ret,
				size_t *ret_count)
{
	size_t count = rt_reply_is_array(fields, 0) ? fields->elements : 0;
	struct rt_slice *texts = rt_alloc(count * sizeof(*texts) + 1);
	struct rt_fields list;
	const char *fault = rt_entry_fields(fields, texts, &list);

	*ret = NULL;
	*ret_count = 0;
	if (fault == NULL)
		fault = rt_entry_read(&list, ret, ret_count);
	free(texts);
	return fault;
}
