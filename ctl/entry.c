/* entry.c - the entries of the streams, as views of Redis replies. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "ctl.h"
#include "events/entry.h"

#define PAGE "500"

void ctl_key(char key[CTL_KEY], const char *context, int partition, const char *rest)
{
	snprintf(key, CTL_KEY, "%s:{%d}:%s", context, partition, rest);
}

static bool read_half(const char *text, char end, uint64_t *ret, const char **ret_rest)
{
	uint64_t n = 0;
	const char *digit = text;

	for (; *digit >= '0' && *digit <= '9'; digit++) {
		uint64_t value = (uint64_t)(*digit - '0');

		if (n > (UINT64_MAX - value) / 10)
			return false;
		n = n * 10 + value;
	}
	if (digit == text || *digit != end)
		return false;
	*ret = n;
	*ret_rest = digit + 1;
	return true;
}

bool ctl_stream_id(const char *text, uint64_t *ret_ms, uint64_t *ret_n)
{
	const char *rest;
	uint64_t ms, n;

	if (!read_half(text, '-', &ms, &rest) || !read_half(rest, '\0', &n, &rest))
		return false;
	*ret_ms = ms;
	*ret_n = n;
	return true;
}

int64_t ctl_ms(int64_t ms)
{
	return RT_MIN(RT_MAX(ms, INT64_C(0)), RT_TIME_MS_MAX);
}

int64_t ctl_stream_id_ms(const char *text)
{
	uint64_t ms = 0, n = 0;

	(void)ctl_stream_id(text, &ms, &n);
	return (int64_t)RT_MIN(ms, (uint64_t)RT_TIME_MS_MAX);
}

int ctl_stream_id_compare(const char *a, const char *b)
{
	uint64_t a_ms = 0, a_n = 0, b_ms = 0, b_n = 0;

	(void)ctl_stream_id(a, &a_ms, &a_n);
	(void)ctl_stream_id(b, &b_ms, &b_n);
	if (a_ms != b_ms)
		return a_ms < b_ms ? -1 : 1;
	return a_n == b_n ? 0 : a_n < b_n ? -1 : 1;
}

void ctl_place(char place[CTL_PLACE], const struct ctl *ctl, int partition, const char *stream_id)
{
	if (ctl->partitions > 1)
		snprintf(place, CTL_PLACE, "%d/%s", partition, stream_id);
	else
		snprintf(place, CTL_PLACE, "%s", stream_id);
}

const char *ctl_place_read(const char *place, int *ret_partition)
{
	const char *id = place;
	uint64_t partition, ms, n;

	*ret_partition = -1;
	if (strchr(place, '/') != NULL) {
		if (!read_half(place, '/', &partition, &id) || partition >= RT_PARTITIONS_MAX)
			return NULL;
		*ret_partition = (int)partition;
	}
	return ctl_stream_id(id, &ms, &n) ? id : NULL;
}

/* Reads an entry whose event has a field for each part. False: it is not an entry. */
static bool read_single(const redisReply *reply, const char *context, int partition,
			struct ctl_entry *entry)
{
	const redisReply *fields, *data;
	const char *stream_id;

	if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    reply->element[1]->type != REDIS_REPLY_ARRAY)
		return false;
	stream_id = ctl_text(reply->element[0], NULL);
	fields = reply->element[1];
	if (stream_id == NULL || fields->elements % 2 != 0)
		return false;
	for (size_t i = 0; i < fields->elements; i++) {
		if (fields->element[i]->type != REDIS_REPLY_STRING)
			return false;
	}
	*entry = (struct ctl_entry){ .context = context,
				     .partition = partition,
				     .stream_id = stream_id,
				     .data = "",
				     .fields = fields };
	/* A name may come twice: the producer's field comes before the dead letter's. */
	entry->id = ctl_text(ctl_named(fields, "id"), "");
	entry->type = ctl_text(ctl_named(fields, "type"), "");
	entry->subject = ctl_text(ctl_named(fields, "subject"), "");
	entry->seq = ctl_text(ctl_named(fields, "seq"), "");
	entry->time = ctl_text(ctl_named(fields, "time"), "");
	entry->attempt = ctl_text(ctl_named(fields, "attempt"), "");
	entry->traceparent = ctl_text(ctl_named(fields, "traceparent"), "");
	entry->tracestate = ctl_text(ctl_named(fields, "tracestate"), "");
	entry->actor = ctl_text(ctl_named(fields, "actor"), "");
	entry->stream = ctl_text(ctl_named(fields, "stream"), "");
	entry->dead_stream_id = ctl_text(ctl_named(fields, "stream_id"), "");
	entry->group = ctl_text(ctl_named(fields, "group"), "");
	entry->reason = ctl_text(ctl_named(fields, "reason"), "");
	entry->deliveries = ctl_text(ctl_named(fields, "deliveries"), "");
	entry->dead_time = ctl_text(ctl_named(fields, "dead_time"), "");
	entry->replayed = ctl_text(ctl_named(fields, "replayed"), "");
	data = ctl_named(fields, "data");
	if (data != NULL) {
		entry->data = data->str;
		entry->data_length = data->len;
	}
	return true;
}

static redisReply *text_reply(struct rt_arena *arena, struct rt_slice text)
{
	redisReply *reply = rt_arena_take(arena, sizeof(*reply));

	*reply = (redisReply){ .type = REDIS_REPLY_STRING, .len = text.length };
	reply->str = rt_arena_take(arena, text.length + 1);
	if (text.length > 0)
		memcpy(reply->str, text.data, text.length);
	reply->str[text.length] = '\0';
	return reply;
}

static struct rt_slice slice_of(const char *text)
{
	return (struct rt_slice){ text, strlen(text) };
}

/* Makes an entry with a field for each part from one event of an entry. */
static redisReply *single_reply(struct rt_arena *arena, redisReply *stream_id,
				const struct rt_entry_event *event)
{
	const struct {
		const char *name;
		struct rt_slice value;
		bool left_out;
	} fields[] = {
		{ "id",
		  slice_of(rt_arena_printf(arena, "%.*s/%" PRIu64, (int)event->subject.length,
					   event->subject.data, event->seq)),
		  false },
		{ "type", event->type, false },
		{ "subject", event->subject, false },
		{ "seq", slice_of(rt_arena_printf(arena, "%" PRIu64, event->seq)), false },
		{ "time", event->time, false },
		{ "data", event->data, false },
		{ "attempt", slice_of(rt_arena_printf(arena, "%" PRIu32, event->attempt)),
		  event->attempt == 1 },
		{ "traceparent", event->traceparent, event->traceparent.length == 0 },
		{ "actor", event->actor, event->actor.length == 0 },
		{ "tracestate", event->tracestate, event->tracestate.length == 0 },
	};
	redisReply *entry = rt_arena_take(arena, sizeof(*entry));
	redisReply *list = rt_arena_take(arena, sizeof(*list));

	*entry = (redisReply){ .type = REDIS_REPLY_ARRAY, .elements = 2 };
	entry->element = rt_arena_take(arena, 2 * sizeof(*entry->element));
	entry->element[0] = stream_id;
	entry->element[1] = list;
	*list = (redisReply){ .type = REDIS_REPLY_ARRAY };
	list->element = rt_arena_take(arena, 2 * RT_LENGTH(fields) * sizeof(*list->element));
	for (size_t i = 0; i < RT_LENGTH(fields); i++) {
		if (fields[i].left_out)
			continue;
		list->element[list->elements++] = text_reply(arena, slice_of(fields[i].name));
		list->element[list->elements++] = text_reply(arena, fields[i].value);
	}
	return entry;
}

size_t ctl_entry_read(const redisReply *reply, const char *context, int partition,
		      struct rt_arena *arena, struct ctl_entry **ret)
{
	struct ctl_entry whole;
	struct rt_entry_event *events;
	size_t count;

	*ret = NULL;
	if (!read_single(reply, context, partition, &whole))
		return 0;
	if (whole.type[0] != '\0' || whole.subject[0] != '\0' ||
	    rt_entry_read_reply(whole.fields, &events, &count) != NULL) {
		*ret = rt_arena_take(arena, sizeof(whole));
		**ret = whole;
		return 1;
	}
	*ret = rt_arena_take(arena, count * sizeof(**ret));
	for (size_t i = 0; i < count; i++) {
		(void)read_single(single_reply(arena, reply->element[0], &events[i]), context,
				  partition, &(*ret)[i]);
		(*ret)[i].index = i;
	}
	free(events);
	return count;
}

/* A field that Tandem writes as a number becomes a number; any other content is text. */
static json_t *field_json(const char *name, const redisReply *value)
{
	static const char *const numbers[] = { "seq", "attempt", "deliveries", "replayed" };
	int64_t n;

	for (size_t i = 0; i < RT_LENGTH(numbers); i++) {
		if (strcmp(name, numbers[i]) == 0 && strlen(value->str) == (size_t)value->len &&
		    rt_parse_int(value->str, INT64_MIN, INT64_MAX, &n))
			return json_integer(n);
	}
	return rt_json_string(value->str, value->len);
}

/* The name of a field in JSON: clearer where needed. The original entry of a dead letter has a stream
 * id, too. */
static const char *field_name(const char *name)
{
	return strcmp(name, "stream_id") == 0 ? "original_stream_id"
	       : strcmp(name, "id") == 0      ? "event_id"
					      : name;
}

json_t *ctl_entry_json(const struct ctl *ctl, const struct ctl_entry *entry)
{
	json_t *json = json_object();
	const char *why = NULL;

	json_object_set_new(json, "context", json_null());
	json_object_set_new(json, "stream_id", json_null());
	for (size_t i = 0; i + 1 < entry->fields->elements; i += 2) {
		const redisReply *name = entry->fields->element[i];
		const redisReply *value = entry->fields->element[i + 1];
		char *key = rt_text_shown(name->str, name->len);
		json_t *content = NULL;

		if (strcmp(key, "data") == 0)
			content = ctl_bytes_json(entry->type, value->str, value->len, true, &why);
		json_object_set_new(json, field_name(key),
				    content != NULL ? content : field_json(key, value));
		if (strcmp(key, "data") == 0 && content == NULL)
			json_object_set_new(json, "undecoded", json_string(why));
		free(key);
	}
	/* Set last, so that no field of the entry can replace them. */
	json_object_set_new(json, "context", json_string(entry->context));
	json_object_set_new(json, "stream_id", json_string(entry->stream_id));
	if (ctl->partitions > 1)
		json_object_set_new(json, "partition", json_integer(entry->partition));
	return json;
}

const char *ctl_parse_type(struct argp_state *state, const char *type, bool full_too)
{
	struct rt_buf names = { 0 };
	const char *known;
	bool good = full_too && strchr(type, '.') != NULL;

	for (size_t i = 0; !good && (known = ctl_event_type(i)) != NULL; i++) {
		good = strcmp(type, known) == 0 || strcmp(type, ctl_short_type(known)) == 0;
		rt_buf_printf(&names, "%s %s", i == 0 ? "" : ",", ctl_short_type(known));
	}
	rt_buf_add(&names, "", 1);
	if (!good)
		argp_error(state, "--type: %s is not one of%s", type, names.data);
	rt_buf_done(&names);
	return type;
}

bool ctl_filter_passes(const struct ctl_filter *filter, const struct ctl_entry *entry)
{
	if (filter->context != NULL && strcmp(filter->context, entry->context) != 0)
		return false;
	if (filter->order != NULL && strcmp(filter->order, entry->subject) != 0)
		return false;
	if (filter->type != NULL && strcmp(filter->type, entry->type) != 0 &&
	    strcmp(filter->type, ctl_short_type(entry->type)) != 0)
		return false;
	return filter->reason == NULL || strstr(entry->reason, filter->reason) != NULL;
}

/* ---- ranges ---- */

void ctl_entries_add(struct ctl_entries *entries, const struct ctl_entry *entry)
{
	entries->list = rt_grow(entries->list, entries->count, &entries->capacity, sizeof(*entry));
	entries->list[entries->count++] = *entry;
}

static void page_done(struct ctl_page *page)
{
	freeReplyObject(page->reply);
	rt_arena_done(&page->arena);
}

/* Adds the entries of one page that pass the filter. The page is kept if there are any. */
static void add_page(struct ctl_entries *entries, const struct ctl_range *range, redisReply *page,
		     int64_t *matched)
{
	struct ctl_page kept = { .reply = page };
	size_t before = entries->count;

	for (size_t i = 0; i < page->elements && *matched < range->count_max; i++) {
		struct ctl_entry *events;
		size_t count = ctl_entry_read(page->element[i], range->context, range->partition,
					      &kept.arena, &events);

		for (size_t j = 0; j < count && *matched < range->count_max; j++) {
			/* The last event of an entry is the newest. */
			const struct ctl_entry *event =
				&events[range->newest_first ? count - 1 - j : j];

			if (range->filter != NULL && !ctl_filter_passes(range->filter, event))
				continue;
			ctl_entries_add(entries, event);
			(*matched)++;
		}
	}
	if (entries->count == before) {
		page_done(&kept);
		return;
	}
	entries->pages =
		rt_realloc(entries->pages, (entries->page_count + 1) * sizeof(*entries->pages));
	entries->pages[entries->page_count++] = kept;
}

bool ctl_entries_read(struct ctl *ctl, const struct ctl_range *range, struct ctl_entries *entries,
		      bool *ret_complete)
{
	char next[64];
	int64_t matched = 0, seen = 0;
	size_t got = 0;
	bool full = false;

	snprintf(next, sizeof(next), "%s", range->newest_first ? range->to : range->from);
	do {
		redisReply *page = range->newest_first ? ctl_redis(ctl, "XREVRANGE", range->key,
								   next, range->from, "COUNT", PAGE)
						       : ctl_redis(ctl, "XRANGE", range->key, next,
								   range->to, "COUNT", PAGE);

		if (page == NULL)
			return false;
		if (page->type != REDIS_REPLY_ARRAY) {
			freeReplyObject(page);
			break;
		}
		got = page->elements;
		full = got == strtoul(PAGE, NULL, 10);
		seen += (int64_t)got;
		if (got > 0 && page->element[got - 1]->type == REDIS_REPLY_ARRAY &&
		    page->element[got - 1]->elements > 0)
			snprintf(next, sizeof(next), "(%s",
				 ctl_text(page->element[got - 1]->element[0], "-"));
		add_page(entries, range, page, &matched);
	} while (full && seen < range->scan_max && matched < range->count_max);
	if (ret_complete != NULL)
		*ret_complete = !full;
	return true;
}

bool ctl_entries_about(struct ctl *ctl, const char *context, int partition, const char *key,
		       const char *order, struct ctl_entries *entries)
{
	const struct ctl_filter filter = { .order = order };
	const struct ctl_range range = {
		.context = context,
		.partition = partition,
		.key = key,
		.from = "-",
		.to = "+",
		.count_max = 1000,
		.scan_max = 200000,
		.filter = &filter,
	};

	return ctl_entries_read(ctl, &range, entries, NULL);
}

void ctl_entries_done(struct ctl_entries *entries)
{
	for (size_t i = 0; i < entries->page_count; i++)
		page_done(&entries->pages[i]);
	free(entries->pages);
	free(entries->list);
	*entries = (struct ctl_entries){ 0 };
}

/* ---- streams and their readers ---- */

static void copy_id(char to[48], const redisReply *reply)
{
	uint64_t ms, n;
	const char *text = ctl_text(reply, "");

	snprintf(to, 48, "%s", ctl_stream_id(text, &ms, &n) ? text : "0-0");
}

bool ctl_stream_read(struct ctl *ctl, const char *key, struct ctl_stream *stream)
{
	redisReply *reply = ctl_redis_try(ctl, "XINFO", "STREAM", key);
	const redisReply *first;

	*stream = (struct ctl_stream){ .first = "0-0", .last = "0-0", .deleted = "0-0" };
	if (reply == NULL)
		return false;
	if (reply->type == REDIS_REPLY_ERROR) {
		bool missing = strncmp(reply->str, "ERR no such key", 15) == 0;

		if (!missing)
			ctl_error("Redis, XINFO STREAM %s: %s", key, reply->str);
		freeReplyObject(reply);
		return missing;
	}
	stream->exists = true;
	stream->length = ctl_count(ctl_named(reply, "length"));
	first = ctl_named(reply, "first-entry");
	if (first != NULL && first->type == REDIS_REPLY_ARRAY && first->elements > 0)
		copy_id(stream->first, first->element[0]);
	copy_id(stream->last, ctl_named(reply, "last-generated-id"));
	copy_id(stream->deleted, ctl_named(reply, "max-deleted-entry-id"));
	freeReplyObject(reply);
	return true;
}

bool ctl_stream_groups(struct ctl *ctl, const char *key, struct ctl_stream *stream,
		       redisReply **ret)
{
	*ret = NULL;
	if (!ctl_stream_read(ctl, key, stream))
		return false;
	if (!stream->exists)
		return true;
	*ret = ctl_redis(ctl, "XINFO", "GROUPS", key);
	return *ret != NULL;
}

int64_t ctl_stream_events_from(struct ctl *ctl, const char *key, const struct ctl_stream *stream,
			       const char *from)
{
	redisReply *reply = ctl_redis(ctl, "XRANGE", key, from, "+", "COUNT", "1");
	struct rt_arena arena = { 0 };
	struct ctl_entry *events;
	uint64_t ms, last_n = 0, first_n = 0;
	int64_t count = 0;

	if (reply == NULL)
		return -1;
	if (reply->elements == 1) {
		count = (int64_t)ctl_entry_read(reply->element[0], "", 0, &arena, &events);
		if (count > 0 && ctl_stream_id(events[0].stream_id, &ms, &first_n) &&
		    ctl_stream_id(stream->last, &ms, &last_n) && last_n >= first_n)
			count += (int64_t)(last_n - first_n);
	}
	rt_arena_done(&arena);
	freeReplyObject(reply);
	return count;
}

/* As lag_of in runtime/events/events.lua. */
int64_t ctl_stream_lag(struct ctl *ctl, const char *key, const struct ctl_stream *stream,
		       const char *delivered)
{
	uint64_t ms, last_n = 0, delivered_n = 0;
	char from[64];
	redisReply *rest;
	struct rt_arena arena = { 0 };
	int64_t count = 0;

	if (stream->length == 0)
		return 0;
	if (ctl_stream_id_compare(delivered, stream->first) < 0)
		return ctl_stream_events_from(ctl, key, stream, "-");
	(void)ctl_stream_id(stream->last, &ms, &last_n);
	(void)ctl_stream_id(delivered, &ms, &delivered_n);
	if (last_n >= delivered_n && ctl_stream_id_compare(delivered, stream->deleted) >= 0)
		return (int64_t)RT_MIN(last_n - delivered_n, (uint64_t)CTL_COUNT_MAX);
	snprintf(from, sizeof(from), "(%s", delivered);
	rest = ctl_redis(ctl, "XRANGE", key, from, "+", "COUNT", "1000");
	if (rest == NULL)
		return -1;
	for (size_t i = 0; i < rest->elements; i++) {
		struct ctl_entry *events;

		count += (int64_t)ctl_entry_read(rest->element[i], "", 0, &arena, &events);
	}
	rt_arena_done(&arena);
	freeReplyObject(rest);
	return count;
}

bool ctl_readers_read(struct ctl *ctl, const char *key, const char *group, size_t length,
		      struct ctl_readers *readers)
{
	struct rt_args args = { 0 };
	redisReply *reply;

	*readers = (struct ctl_readers){ .seen_ms = -1 };
	rt_args_str(&args, "XINFO");
	rt_args_str(&args, "CONSUMERS");
	rt_args_str(&args, key);
	rt_args_add(&args, group, length);
	reply = ctl_redis_args(ctl, &args, 0, true); /* an error: no stream yet, or no group */
	rt_args_done(&args);
	if (reply == NULL)
		return false;
	readers->group = reply->type == REDIS_REPLY_ARRAY;
	for (size_t i = 0; readers->group && i < reply->elements; i++) {
		int64_t idle_ms = ctl_number(ctl_named(reply->element[i], "idle"));

		readers->consumers++;
		readers->seen_ms =
			readers->seen_ms < 0 ? idle_ms : RT_MIN(readers->seen_ms, idle_ms);
	}
	freeReplyObject(reply);
	return true;
}

json_t *ctl_consumers_json(struct ctl *ctl, const char *key, const redisReply *group)
{
	const char *const strings[] = { "XINFO", "CONSUMERS", key };
	redisReply *reply = ctl_redis_named(ctl, strings, RT_LENGTH(strings), group);
	json_t *list = json_array();

	for (size_t i = 0; reply != NULL && i < reply->elements; i++) {
		const redisReply *one = reply->element[i], *name = ctl_named(one, "name");

		if (name != NULL && name->type == REDIS_REPLY_STRING)
			json_array_append_new(
				list, json_pack("{s:o, s:I, s:I}", "name",
						rt_json_string(name->str, name->len), "pending",
						(json_int_t)ctl_count(ctl_named(one, "pending")),
						"seen_ms",
						(json_int_t)ctl_count(ctl_named(one, "idle"))));
	}
	freeReplyObject(reply);
	return list;
}

/* ---- time ---- */

void ctl_age(char text[CTL_AGE], int64_t ms)
{
	double s = (double)ms / 1000;

	if (ms < 1000)
		snprintf(text, CTL_AGE, "%" PRId64 " ms", ms);
	else if (s < 120)
		snprintf(text, CTL_AGE, "%.1f s", s);
	else if (s < 7200)
		snprintf(text, CTL_AGE, "%.0f min", s / 60);
	else if (s < 172800)
		snprintf(text, CTL_AGE, "%.1f h", s / 3600);
	else
		snprintf(text, CTL_AGE, "%.1f d", s / 86400);
}
