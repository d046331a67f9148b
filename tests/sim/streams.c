/* streams.c - see streams.h. Plain sorted arrays: a simulation's streams are short. */
#include "streams.h"

#undef NDEBUG /* a simulation that cannot fail is none */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

struct named {
	struct memory_stream stream;
	UT_hash_handle hh; /* by stream.name */
};
struct memory_streams {
	struct named *all;
	uint64_t lives;
	bool in_step, added;
	struct rt_list waiters;
};

int memory_id_compare(struct memory_id a, struct memory_id b)
{
	if (a.ms != b.ms)
		return a.ms < b.ms ? -1 : 1;
	if (a.n != b.n)
		return a.n < b.n ? -1 : 1;
	return 0;
}

bool memory_id_parse(const char *text, struct memory_id *ret)
{
	char *end = NULL;
	int64_t ms = strtoll(text, &end, 10);

	if (end == text)
		return false;
	ret->ms = ms;
	ret->n = *end == '-' ? strtoull(end + 1, NULL, 10) : 0;
	return true;
}

void memory_id_format(struct memory_id id, char text[MEMORY_ID_TEXT])
{
	snprintf(text, MEMORY_ID_TEXT, "%" PRId64 "-%" PRIu64, id.ms, id.n);
}

/* ---- entries ---- */

const char *memory_entry_field(const struct memory_entry *entry, const char *name)
{
	for (size_t i = 0; i + 1 < entry->field_count; i += 2)
		if (strcmp(entry->fields[i], name) == 0)
			return entry->fields[i + 1];
	return "";
}

void memory_entry_copy(struct memory_entry *to, const struct memory_entry *from)
{
	to->id = from->id;
	to->field_count = from->field_count;
	to->fields = rt_alloc((from->field_count + 1) * sizeof(*to->fields));
	to->lengths = rt_alloc((from->field_count + 1) * sizeof(*to->lengths));
	for (size_t i = 0; i < from->field_count; i++) {
		to->lengths[i] = from->lengths[i];
		to->fields[i] = rt_alloc(from->lengths[i] + 1);
		if (from->lengths[i] > 0)
			memcpy(to->fields[i], from->fields[i], from->lengths[i]);
	}
}

void memory_entry_done(struct memory_entry *entry)
{
	for (size_t i = 0; i < entry->field_count; i++)
		free(entry->fields[i]);
	free(entry->fields);
	free(entry->lengths);
	*entry = (struct memory_entry){ 0 };
}

/* ---- streams ---- */

struct memory_streams *memory_streams_new(void)
{
	struct memory_streams *streams = rt_alloc(sizeof(*streams));

	rt_list_init(&streams->waiters);
	return streams;
}

static void group_done(struct memory_group *group)
{
	free(group->name);
	for (size_t i = 0; i < group->pending_count; i++)
		free(group->pending[i].consumer);
	for (size_t i = 0; i < group->consumer_count; i++)
		free(group->consumers[i].name);
	free(group->pending);
	free(group->consumers);
}

static void stream_done(struct memory_stream *stream)
{
	for (size_t i = 0; i < stream->count; i++)
		memory_entry_done(&stream->entries[i]);
	for (size_t i = 0; i < stream->group_count; i++)
		group_done(&stream->groups[i]);
	free(stream->entries);
	free(stream->groups);
	free(stream->name);
}

void memory_streams_free(struct memory_streams *streams)
{
	struct named *named, *next;

	if (streams == NULL)
		return;
	HASH_ITER (hh, streams->all, named, next) {
		HASH_DEL(streams->all, named);
		stream_done(&named->stream);
		free(named);
	}
	free(streams);
}

static struct named *find(struct memory_streams *streams, const char *name)
{
	struct named *named;

	HASH_FIND_STR(streams->all, name, named);
	return named;
}

struct memory_stream *memory_stream_find(struct memory_streams *streams, const char *name)
{
	struct named *named = find(streams, name);

	return named == NULL ? NULL : &named->stream;
}

struct memory_stream *memory_stream_get(struct memory_streams *streams, const char *name)
{
	struct named *named = find(streams, name);

	if (named == NULL) {
		named = rt_alloc(sizeof(*named));
		named->stream.name = rt_strdup(name);
		named->stream.life = ++streams->lives;
		HASH_ADD_KEYPTR(hh, streams->all, named->stream.name, strlen(name), named);
	}
	return &named->stream;
}

void memory_stream_delete(struct memory_streams *streams, const char *name)
{
	struct named *named = find(streams, name);

	if (named == NULL)
		return;
	HASH_DEL(streams->all, named);
	stream_done(&named->stream);
	free(named);
}

void memory_streams_wait(struct memory_streams *streams, struct memory_waiter *waiter)
{
	rt_list_push(&streams->waiters, &waiter->link);
}

void memory_streams_unwait(struct memory_waiter *waiter)
{
	rt_list_remove(&waiter->link);
}

void memory_streams_wake(struct memory_streams *streams)
{
	struct rt_list due, *link;

	/* Whoever is woken may end others' waiting, too. */
	rt_list_init(&due);
	rt_list_move(&due, &streams->waiters);
	while ((link = rt_list_pop(&due)) != NULL) {
		struct memory_waiter *waiter = RT_CONTAINER_OF(link, struct memory_waiter, link);

		rt_list_push(&streams->waiters, link);
		waiter->woken(waiter);
	}
}

void memory_streams_step(struct memory_streams *streams)
{
	assert(!streams->in_step);
	streams->in_step = true;
	streams->added = false;
}

void memory_streams_step_end(struct memory_streams *streams)
{
	streams->in_step = false;
	if (streams->added)
		memory_streams_wake(streams);
}

void memory_stream_add(struct memory_streams *streams, const char *name,
		       const struct memory_entry *entry)
{
	struct memory_stream *stream = memory_stream_get(streams, name);

	assert(memory_id_compare(entry->id, stream->last) > 0);
	stream->entries =
		rt_realloc(stream->entries, (stream->count + 1) * sizeof(*stream->entries));
	memory_entry_copy(&stream->entries[stream->count++], entry);
	stream->last = entry->id;
	streams->added = true;
	if (!streams->in_step)
		memory_streams_wake(streams);
}

struct memory_id memory_publish(struct memory_streams *streams, const char *name, int64_t now_ms,
				const struct memory_event *event)
{
	struct memory_id last = memory_stream_get(streams, name)->last;
	char seq[24], id[160], time[RT_TIME_TEXT], attempt[12];
	char *fields[16];
	size_t lengths[16], count = 0;
	struct memory_entry entry = { .id = { .ms = RT_MAX(now_ms, last.ms), .n = last.n + 1 } };

	snprintf(seq, sizeof(seq), "%" PRIu64, event->seq);
	snprintf(id, sizeof(id), "%s/%s", event->subject, seq);
	snprintf(attempt, sizeof(attempt), "%" PRIu32, event->attempt);
	rt_time_format(now_ms, time);
#define FIELD(name_, value_, length_)                                                              \
	do {                                                                                       \
		fields[count] = (char *)(uintptr_t)(name_);                                        \
		lengths[count++] = strlen(name_);                                                  \
		fields[count] = (char *)(uintptr_t)(value_);                                       \
		lengths[count++] = (length_);                                                      \
	} while (0)
	FIELD("id", id, strlen(id));
	FIELD("type", event->type, strlen(event->type));
	FIELD("subject", event->subject, strlen(event->subject));
	FIELD("seq", seq, strlen(seq));
	FIELD("time", time, strlen(time));
	FIELD("data", event->data, event->data_length);
	if (event->attempt > 1)
		FIELD("attempt", attempt, strlen(attempt));
	if (event->traceparent != NULL && event->traceparent[0] != '\0')
		FIELD("traceparent", event->traceparent, strlen(event->traceparent));
#undef FIELD
	entry.fields = fields;
	entry.lengths = lengths;
	entry.field_count = count;
	memory_stream_add(streams, name, &entry);
	return entry.id;
}

size_t memory_stream_after(const struct memory_stream *stream, struct memory_id after)
{
	size_t at = stream->count;

	while (at > 0 && memory_id_compare(stream->entries[at - 1].id, after) > 0)
		at--;
	return at;
}

const struct memory_entry *memory_stream_at(const struct memory_stream *stream, struct memory_id id)
{
	for (size_t i = stream->count; i-- > 0;) {
		int order = memory_id_compare(stream->entries[i].id, id);

		if (order == 0)
			return &stream->entries[i];
		if (order < 0)
			break;
	}
	return NULL;
}

static void remove_entries(struct memory_stream *stream, size_t from, size_t count)
{
	for (size_t i = from; i < from + count; i++)
		memory_entry_done(&stream->entries[i]);
	memmove(&stream->entries[from], &stream->entries[from + count],
		(stream->count - from - count) * sizeof(*stream->entries));
	stream->count -= count;
}

void memory_stream_remove(struct memory_stream *stream, struct memory_id id)
{
	const struct memory_entry *entry = memory_stream_at(stream, id);

	if (entry != NULL)
		remove_entries(stream, (size_t)(entry - stream->entries), 1);
}

size_t memory_stream_trim(struct memory_stream *stream, struct memory_id low)
{
	size_t count = 0;

	while (count < stream->count && memory_id_compare(stream->entries[count].id, low) < 0)
		count++;
	if (count > 0)
		remove_entries(stream, 0, count);
	return count;
}

/* ---- groups ---- */

struct memory_group *memory_group_find(struct memory_stream *stream, const char *name)
{
	for (size_t i = 0; i < stream->group_count; i++)
		if (strcmp(stream->groups[i].name, name) == 0)
			return &stream->groups[i];
	return NULL;
}

struct memory_group *memory_group_make(struct memory_stream *stream, const char *name,
				       struct memory_id delivered)
{
	struct memory_group *group = memory_group_find(stream, name);

	if (group != NULL)
		return group;
	stream->groups =
		rt_realloc(stream->groups, (stream->group_count + 1) * sizeof(*stream->groups));
	group = &stream->groups[stream->group_count++];
	*group = (struct memory_group){ .name = rt_strdup(name), .delivered = delivered };
	return group;
}

void memory_group_destroy(struct memory_stream *stream, const char *name)
{
	struct memory_group *group = memory_group_find(stream, name);

	if (group == NULL)
		return;
	group_done(group);
	*group = stream->groups[--stream->group_count];
}

void memory_group_saw(struct memory_group *group, const char *consumer, int64_t now_ms)
{
	for (size_t i = 0; i < group->consumer_count; i++) {
		if (strcmp(group->consumers[i].name, consumer) == 0) {
			group->consumers[i].seen_ms = now_ms;
			return;
		}
	}
	group->consumers = rt_realloc(group->consumers,
				      (group->consumer_count + 1) * sizeof(*group->consumers));
	group->consumers[group->consumer_count++] =
		(struct memory_consumer){ .name = rt_strdup(consumer), .seen_ms = now_ms };
}

struct memory_pending *memory_group_pending(struct memory_group *group, struct memory_id id)
{
	for (size_t i = 0; i < group->pending_count; i++)
		if (memory_id_compare(group->pending[i].id, id) == 0)
			return &group->pending[i];
	return NULL;
}

void memory_group_deliver(struct memory_group *group, struct memory_id id, const char *consumer,
			  int64_t now_ms, uint32_t deliveries)
{
	struct memory_pending *pending = memory_group_pending(group, id);

	if (pending == NULL) {
		size_t at = group->pending_count;

		group->pending = rt_realloc(group->pending,
					    (group->pending_count + 1) * sizeof(*group->pending));
		while (at > 0 && memory_id_compare(group->pending[at - 1].id, id) > 0)
			at--;
		memmove(&group->pending[at + 1], &group->pending[at],
			(group->pending_count - at) * sizeof(*group->pending));
		group->pending_count++;
		pending = &group->pending[at];
		*pending = (struct memory_pending){ .id = id };
	}
	free(pending->consumer);
	pending->consumer = rt_strdup(consumer);
	pending->delivered_ms = now_ms;
	pending->deliveries = deliveries;
}

bool memory_group_ack(struct memory_group *group, struct memory_id id)
{
	struct memory_pending *pending = memory_group_pending(group, id);
	size_t at;

	if (pending == NULL)
		return false;
	at = (size_t)(pending - group->pending);
	free(pending->consumer);
	group->pending_count--;
	memmove(pending, pending + 1, (group->pending_count - at) * sizeof(*pending));
	return true;
}

void memory_group_drop_consumer(struct memory_group *group, const char *consumer)
{
	for (size_t i = 0; i < group->consumer_count; i++) {
		if (strcmp(group->consumers[i].name, consumer) == 0) {
			free(group->consumers[i].name);
			group->consumers[i] = group->consumers[--group->consumer_count];
			return;
		}
	}
}

/* ---- trimming, as in runtime/events/events.lua ---- */

static struct memory_id group_needs(const struct memory_group *group)
{
	struct memory_id next = group->delivered;

	if (group->pending_count > 0)
		return group->pending[0].id;
	next.n++;
	return next;
}

static bool is_ghost(const struct memory_group *group, int64_t now_ms, int64_t ghost_ms)
{
	for (size_t i = 0; i < group->consumer_count; i++)
		if (now_ms - group->consumers[i].seen_ms <= ghost_ms)
			return false;
	return true;
}

/* The id of the entry with number `wanted`: ids grow with n, so their ms can be bisected. */
static struct memory_id id_of_number(const struct memory_stream *stream, int64_t from, int64_t to,
				     uint64_t wanted)
{
	while (from < to) {
		int64_t middle = from + (to - from + 1) / 2;
		size_t at = 0;

		while (at < stream->count && stream->entries[at].id.ms < middle)
			at++;
		if (at < stream->count && stream->entries[at].id.n <= wanted)
			from = middle;
		else
			to = middle - 1;
	}
	return (struct memory_id){ .ms = from, .n = wanted };
}

static struct memory_id trim_id(const struct memory_stream *stream, struct memory_id low,
				int64_t now_ms, int64_t retain_ms, int64_t retain_count)
{
	struct memory_id first = stream->entries[0].id;
	struct memory_id cut = { .ms = RT_MAX(0, now_ms - retain_ms) };

	if ((int64_t)low.n - retain_count > (int64_t)first.n) {
		struct memory_id by_count = low;

		if (retain_count > 0)
			by_count = id_of_number(stream, first.ms, low.ms,
						low.n - (uint64_t)retain_count);
		if (memory_id_compare(cut, by_count) < 0)
			cut = by_count;
	}
	return memory_id_compare(cut, low) < 0 ? cut : low;
}

struct memory_trim memory_trim(struct memory_streams *streams, const char *name, int64_t now_ms,
			       int64_t retain_ms, int64_t retain_count, int64_t ghost_ms)
{
	struct memory_stream *stream = memory_stream_find(streams, name);
	struct memory_trim answer = { 0 };
	struct memory_id low = { 0 };

	if (stream == NULL)
		return answer;
	answer.length = (int64_t)stream->count;
	if (stream->count == 0 || stream->group_count == 0)
		return answer;
	for (size_t i = 0; i < stream->group_count; i++) {
		struct memory_id needs = group_needs(&stream->groups[i]);

		if (is_ghost(&stream->groups[i], now_ms, ghost_ms)) {
			if (answer.ghost_count++ == 0)
				snprintf(answer.ghost, sizeof(answer.ghost), "%s",
					 stream->groups[i].name);
		}
		if (i == 0 || memory_id_compare(needs, low) < 0) {
			low = needs;
			snprintf(answer.holder, sizeof(answer.holder), "%s",
				 stream->groups[i].name);
		}
	}
	answer.trimmed = (int64_t)memory_stream_trim(
		stream, trim_id(stream, low, now_ms, retain_ms, retain_count));
	answer.length -= answer.trimmed;
	answer.held = RT_MIN((int64_t)stream->last.n - (int64_t)low.n + 1, answer.length);
	if (answer.held <= 0) {
		answer.held = 0;
		answer.holder[0] = '\0';
	}
	return answer;
}
