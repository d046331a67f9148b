/* streams.c - streams and their groups, as in t_stream.c of Redis 7.0, with its counters (entries-read,
 * lag). Plain sorted arrays: a simulation's streams are short. */
#include <inttypes.h>
#include <stdio.h>

#include "internal.h"

#define ERROR_ID "ERR Invalid stream ID specified as stream command argument"

/* ---- ids ---- */

static const struct memory_id id_min = { 0, 0 }, id_max = { UINT64_MAX, UINT64_MAX };

int memory_id_compare(struct memory_id a, struct memory_id b)
{
	if (a.ms != b.ms)
		return a.ms < b.ms ? -1 : 1;
	if (a.n != b.n)
		return a.n < b.n ? -1 : 1;
	return 0;
}

static bool id_above(struct memory_id a, struct memory_id b)
{
	return memory_id_compare(a, b) > 0;
}

static bool number_parse(const char *text, const char **ret_end, uint64_t *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	*ret = strtoull(text, &end, 10);
	*ret_end = end;
	return end - text <= 20;
}

static bool id_parse(const char *text, uint64_t missing_n, struct memory_id *ret)
{
	const char *end;

	ret->n = missing_n;
	return number_parse(text, &end, &ret->ms) &&
	       (*end == '\0' ||
		(*end == '-' && number_parse(end + 1, &end, &ret->n) && *end == '\0'));
}

bool memory_id_parse(const char *text, struct memory_id *ret)
{
	return id_parse(text, 0, ret);
}

/* Returns the end. */
static char *number_format(uint64_t n, char *text)
{
	char digits[20];
	size_t count = 0;

	for (; n >= 10; n /= 10)
		digits[count++] = (char)('0' + n % 10);
	*text++ = (char)('0' + n);
	while (count > 0)
		*text++ = digits[--count];
	return text;
}

/* Not snprintf: ids are a good part of what a simulation writes. */
void memory_id_format(struct memory_id id, char text[MEMORY_ID_TEXT])
{
	text = number_format(id.ms, text);
	*text++ = '-';
	*number_format(id.n, text) = '\0';
}

static struct memory_id id_next(struct memory_id id)
{
	return (struct memory_id){ id.n == UINT64_MAX ? id.ms + 1 : id.ms, id.n + 1 };
}

static struct memory_id id_before(struct memory_id id)
{
	return (struct memory_id){ id.n == 0 ? id.ms - 1 : id.ms, id.n - 1 };
}

static bool arg_id(struct memory_call *call, size_t i, struct memory_id *ret)
{
	return id_parse(call->argv[i].data, 0, ret) || fail(call, ERROR_ID);
}

/* A bound of a range. */
static bool arg_bound(struct memory_call *call, size_t i, bool is_end, struct memory_id *ret)
{
	const char *text = call->argv[i].data;
	bool exclusive = text[0] == '(';

	if (strcmp(text, "-") == 0 || strcmp(text, "+") == 0)
		*ret = text[0] == '-' ? id_min : id_max;
	else if (!id_parse(text + exclusive, is_end ? UINT64_MAX : 0, ret))
		return fail(call, ERROR_ID);
	if (!exclusive)
		return true;
	if (memory_id_compare(*ret, is_end ? id_min : id_max) == 0)
		return fail(call, "ERR invalid %s ID for the interval", is_end ? "end" : "start");
	*ret = is_end ? id_before(*ret) : id_next(*ret);
	return true;
}

/* Ids from argument i on. */
static bool arg_ids(struct memory_call *call, size_t i)
{
	struct memory_id id;

	for (; i < call->argc; i++)
		if (!arg_id(call, i, &id))
			return false;
	return true;
}

/* ---- entries ---- */

static void entry_done(struct memory_entry *entry)
{
	free(entry->fields);
}

static void group_free(struct memory_group *group)
{
	for (size_t i = 0; i < group->consumer_count; i++) {
		free(group->consumers[i]->name);
		free(group->consumers[i]);
	}
	free(group->consumers);
	free(group->pending);
	free(group->name);
	free(group);
}

void stream_done(struct memory_stream *stream)
{
	for (size_t i = 0; i < stream->count; i++)
		entry_done(&stream->entries[i]);
	for (size_t i = 0; i < stream->group_count; i++)
		group_free(stream->groups[i]);
	free(stream->entries);
	free(stream->groups);
}

const char *memory_entry_field(const struct memory_entry *entry, const char *name)
{
	for (size_t i = 0; i + 1 < entry->field_count; i += 2)
		if (strcmp(entry->fields[i].data, name) == 0)
			return entry->fields[i + 1].data;
	return "";
}

/* The index of the first entry that is not below `id`. */
static size_t stream_index(const struct memory_stream *stream, struct memory_id id)
{
	size_t from = 0, to = stream->count;

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (memory_id_compare(stream->entries[middle].id, id) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static const struct memory_entry *stream_at(const struct memory_stream *stream, struct memory_id id)
{
	size_t at = stream_index(stream, id);

	return at < stream->count && memory_id_compare(stream->entries[at].id, id) == 0
		       ? &stream->entries[at]
		       : NULL;
}

size_t memory_stream_after(const struct memory_stream *stream, struct memory_id after)
{
	return memory_id_compare(after, id_max) == 0 ? stream->count
						     : stream_index(stream, id_next(after));
}

static void entries_remove(struct memory_stream *stream, size_t from, size_t count)
{
	for (size_t i = from; i < from + count; i++)
		entry_done(&stream->entries[i]);
	stream->count -= count;
	if (count > 0)
		memmove(&stream->entries[from], &stream->entries[from + count],
			(stream->count - from) * sizeof(*stream->entries));
}

/* All of them in one block. */
static struct memory_text *fields_copy(const struct memory_text *from, size_t count)
{
	size_t size = count * sizeof(*from);
	struct memory_text *fields;
	char *at;

	for (size_t i = 0; i < count; i++)
		size += from[i].length + 1;
	fields = rt_realloc(NULL, size);
	at = (char *)(fields + count);
	for (size_t i = 0; i < count; i++) {
		fields[i] = (struct memory_text){ at, from[i].length };
		memcpy(at, from[i].data, from[i].length);
		at[from[i].length] = '\0';
		at += from[i].length + 1;
	}
	return fields;
}

struct memory_entry memory_entry_copy(const struct memory_entry *entry)
{
	struct memory_entry copy = *entry;

	copy.fields = fields_copy(entry->fields, entry->field_count);
	return copy;
}

static struct memory_group *group_copy(const struct memory_group *group)
{
	struct memory_group *copy = rt_alloc(sizeof(*copy));

	*copy = *group;
	copy->name = rt_strdup(group->name);
	copy->consumers = rt_realloc(NULL, (group->consumer_count + 1) * sizeof(*copy->consumers));
	for (size_t i = 0; i < group->consumer_count; i++) {
		copy->consumers[i] = rt_alloc(sizeof(*copy->consumers[i]));
		*copy->consumers[i] = *group->consumers[i];
		copy->consumers[i]->name = rt_strdup(group->consumers[i]->name);
	}
	copy->pending_room = group->pending_count;
	copy->pending = rt_realloc(NULL, (group->pending_count + 1) * sizeof(*copy->pending));
	for (size_t i = 0; i < group->pending_count; i++) {
		size_t at = 0;

		copy->pending[i] = group->pending[i];
		while (group->consumers[at] != group->pending[i].consumer)
			at++;
		copy->pending[i].consumer = copy->consumers[at];
	}
	return copy;
}

struct memory_stream stream_copy(const struct memory_stream *stream)
{
	struct memory_stream copy = *stream;

	copy.room = stream->count;
	copy.entries = rt_realloc(NULL, (stream->count + 1) * sizeof(*copy.entries));
	for (size_t i = 0; i < stream->count; i++)
		copy.entries[i] = memory_entry_copy(&stream->entries[i]);
	copy.groups = rt_realloc(NULL, (stream->group_count + 1) * sizeof(*copy.groups));
	for (size_t i = 0; i < stream->group_count; i++)
		copy.groups[i] = group_copy(stream->groups[i]);
	return copy;
}

static const struct memory_stream no_stream;

/* The call's stream; without one an empty stream, which must not be changed. */
static struct memory_stream *stream_of(const struct memory_call *call)
{
	return call->key == NULL ? (struct memory_stream *)(uintptr_t)&no_stream
				 : &call->key->stream;
}

redisReply *run_xlen(struct memory_call *call)
{
	return reply_int(call, (int64_t)stream_of(call)->count);
}

static void stream_add(struct memory_stream *stream, struct memory_entry entry)
{
	if (stream->count == stream->room) {
		stream->room = RT_MAX(2 * stream->room, 16);
		stream->entries =
			rt_realloc(stream->entries, stream->room * sizeof(*stream->entries));
	}
	stream->entries[stream->count++] = entry;
	stream->last = entry.id;
	stream->added++;
}

/* XADD key [MAXLEN n] id|* field value … */
redisReply *run_xadd(struct memory_call *call)
{
	struct memory_id id = { (uint64_t)call->now_ms, 0 };
	size_t at = arg_is(call, 2, "MAXLEN") ? 4 : 2;
	struct memory_stream *stream;
	int64_t length_max = INT64_MAX;
	bool automatic;

	if (at > 2 && !arg_int(call, 3, &length_max))
		return call->error;
	automatic = strcmp(call->argv[at].data, "*") == 0;
	if (!automatic && !arg_id(call, at, &id))
		return call->error;
	if (call->argc % 2 == 0 || call->argc < at + 3)
		return reply_error(call, "ERR wrong number of arguments for 'xadd' command");
	if (memory_id_compare(id, id_min) == 0)
		return reply_error(call, "ERR The ID specified in XADD must be greater than 0-0");
	if (!key_fits(call))
		return call->error;
	stream = &key_make(call)->stream;
	if (automatic && id.ms <= stream->last.ms)
		id = id_next(stream->last);
	if (!id_above(id, stream->last))
		return reply_error(call, "ERR The ID specified in XADD is equal or smaller than "
					 "the target stream top item");
	stream_add(stream, (struct memory_entry){
				   .id = id,
				   .fields = fields_copy(call->argv + at + 1, call->argc - at - 1),
				   .field_count = call->argc - at - 1 });
	if (stream->count > (size_t)length_max)
		entries_remove(stream, 0, stream->count - (size_t)length_max);
	call->redis->writes++;
	call->redis->news++;
	return reply_id(call, id);
}

static redisReply *reply_entry(struct memory_call *call, const struct memory_entry *entry)
{
	redisReply *fields = reply_array(call, entry->field_count);

	for (size_t i = 0; i < entry->field_count; i++)
		reply_push(fields, reply_text(call, &entry->fields[i]));
	return reply_list(call, "dr", entry->id, fields);
}

/* XRANGE key start end [COUNT n]; XREVRANGE key end start … */
redisReply *run_xrange(struct memory_call *call)
{
	bool backwards = strstr(call->command->name, "REV") != NULL;
	const struct memory_stream *stream;
	struct memory_id start, end;
	redisReply *answer;
	int64_t count = INT64_MAX;
	size_t from, to;

	if (!arg_bound(call, backwards ? 3 : 2, false, &start) ||
	    !arg_bound(call, backwards ? 2 : 3, true, &end))
		return call->error;
	if (call->argc != 4 && (call->argc != 6 || !arg_is(call, 4, "COUNT")))
		return reply_error(call, ERROR_SYNTAX);
	if ((call->argc == 6 && !arg_int(call, 5, &count)) || !key_fits(call))
		return call->error;
	if (call->key != NULL && count <= 0)
		return reply_nil(call);
	stream = stream_of(call);
	from = stream_index(stream, start);
	to = RT_MAX(memory_stream_after(stream, end), from);
	count = RT_MIN(RT_MAX(count, 0), (int64_t)(to - from));
	answer = reply_array(call, (size_t)count);
	for (size_t i = 0; i < (size_t)count; i++)
		reply_push(answer,
			   reply_entry(call, &stream->entries[backwards ? to - 1 - i : from + i]));
	return answer;
}

redisReply *run_xdel(struct memory_call *call)
{
	struct memory_stream *stream = stream_of(call);
	struct memory_id id;
	int64_t count = 0;

	if (call->key == NULL)
		return reply_int(call, 0);
	if (!arg_ids(call, 2))
		return call->error;
	for (size_t i = 2; i < call->argc; i++) {
		const struct memory_entry *entry;

		arg_id(call, i, &id);
		entry = stream_at(stream, id);
		if (entry == NULL)
			continue;
		entries_remove(stream, (size_t)(entry - stream->entries), 1);
		if (id_above(id, stream->deleted))
			stream->deleted = id;
		count++;
	}
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

/* XTRIM key MINID id, or MAXLEN n */
redisReply *run_xtrim(struct memory_call *call)
{
	bool by_id = arg_is(call, 2, "MINID");
	struct memory_stream *stream;
	struct memory_id low;
	int64_t length = 0;
	size_t count;

	if (call->argc != 4 || (!by_id && !arg_is(call, 2, "MAXLEN")))
		return reply_error(call, ERROR_SYNTAX);
	if (by_id ? !arg_id(call, 3, &low) : !arg_int(call, 3, &length))
		return call->error;
	if (!key_fits(call))
		return call->error;
	stream = stream_of(call);
	if (by_id)
		count = stream_index(stream, low);
	else
		count = stream->count - RT_MIN(stream->count, (size_t)RT_MAX(length, 0));
	if (count > 0)
		entries_remove(stream, 0, count);
	call->redis->writes += count > 0;
	return reply_int(call, (int64_t)count);
}

/* ---- what a group has read ---- */

static struct memory_id first_id(const struct memory_stream *stream)
{
	return stream->count == 0 ? id_min : stream->entries[0].id;
}

/* Whether an entry was deleted at or behind `from`. */
static bool has_gap(const struct memory_stream *stream, struct memory_id from)
{
	return stream->count > 0 && id_above(stream->deleted, id_min) &&
	       !id_above(from, stream->deleted);
}

/* How many entries there ever were up to `id`; -1: not known. */
static int64_t distance(const struct memory_stream *stream, struct memory_id id)
{
	int64_t gone = stream->added - (int64_t)stream->count;

	if (stream->added == 0)
		return 0;
	if (!id_above(id, stream->last) &&
	    (stream->count == 0 || memory_id_compare(id, stream->last) == 0))
		return stream->added;
	if (id_above(id, stream->last))
		return -1;
	if (memory_id_compare(stream->deleted, id_min) == 0 ||
	    id_above(first_id(stream), stream->deleted)) {
		int order = memory_id_compare(id, first_id(stream));

		if (order <= 0)
			return gone + (order == 0);
	}
	return -1;
}

static redisReply *reply_int_or_nil(struct memory_call *call, bool known, int64_t n)
{
	return known ? reply_int(call, n) : reply_nil(call);
}

static redisReply *reply_lag(struct memory_call *call, const struct memory_stream *stream,
			     const struct memory_group *group)
{
	int64_t read = group->entries_read;

	if (stream->added == 0)
		return reply_int(call, 0);
	if (read < 0 || has_gap(stream, group->delivered))
		read = distance(stream, group->delivered);
	return reply_int_or_nil(call, read >= 0, stream->added - read);
}

/* ---- groups ---- */

struct memory_group *memory_group_find(const struct memory_stream *stream, const char *name)
{
	for (size_t i = 0; i < stream->group_count; i++)
		if (strcmp(stream->groups[i]->name, name) == 0)
			return stream->groups[i];
	return NULL;
}

/* The group named behind the key; NULL: there is none. */
static struct memory_group *group_of(const struct memory_call *call)
{
	return memory_group_find(stream_of(call), call->argv[call->command->key + 1].data);
}

/* The same; without it the call fails. */
static bool arg_group(struct memory_call *call, struct memory_group **ret)
{
	*ret = group_of(call);
	return *ret != NULL || fail(call, "NOGROUP No such key '%s' or consumer group '%s'",
				    call->argv[1].data, call->argv[2].data);
}

static struct memory_consumer *consumer_find(const struct memory_group *group, const char *name)
{
	for (size_t i = 0; i < group->consumer_count; i++)
		if (strcmp(group->consumers[i]->name, name) == 0)
			return group->consumers[i];
	return NULL;
}

/* The consumer, created if it does not exist; it is seen now. */
static struct memory_consumer *consumer_seen(struct memory_call *call, struct memory_group *group,
					     const char *name)
{
	struct memory_consumer *consumer = consumer_find(group, name);
	size_t at = 0;

	if (consumer == NULL) {
		consumer = rt_alloc(sizeof(*consumer));
		consumer->name = rt_strdup(name);
		group->consumers = rt_realloc(group->consumers,
					      (group->consumer_count + 1) * sizeof(consumer));
		while (at < group->consumer_count && strcmp(group->consumers[at]->name, name) < 0)
			at++;
		memmove(&group->consumers[at + 1], &group->consumers[at],
			(group->consumer_count++ - at) * sizeof(consumer));
		group->consumers[at] = consumer;
	}
	consumer->seen_ms = call->now_ms;
	return consumer;
}

static int64_t pending_of(const struct memory_group *group, const struct memory_consumer *consumer)
{
	int64_t count = 0;

	for (size_t i = 0; i < group->pending_count; i++)
		count += group->pending[i].consumer == consumer;
	return count;
}

/* The index of the first one that is not below `id`. */
static size_t pending_index(const struct memory_group *group, struct memory_id id)
{
	size_t at = 0;

	while (at < group->pending_count && id_above(id, group->pending[at].id))
		at++;
	return at;
}

/* NULL: not pending. */
static struct memory_pending *pending_find(const struct memory_group *group, struct memory_id id)
{
	size_t at = pending_index(group, id);

	return at < group->pending_count && memory_id_compare(group->pending[at].id, id) == 0
		       ? &group->pending[at]
		       : NULL;
}

static void pending_remove(struct memory_group *group, const struct memory_pending *pending)
{
	size_t at = (size_t)(pending - group->pending);

	group->pending_count--;
	memmove(&group->pending[at], &group->pending[at + 1],
		(group->pending_count - at) * sizeof(*pending));
}

static void pending_add(struct memory_group *group, struct memory_pending pending)
{
	size_t at = pending_index(group, pending.id);

	if (pending_find(group, pending.id) == NULL) {
		if (group->pending_count == group->pending_room) {
			group->pending_room = RT_MAX(2 * group->pending_room, 16);
			group->pending =
				rt_realloc(group->pending, group->pending_room * sizeof(pending));
		}
		memmove(&group->pending[at + 1], &group->pending[at],
			(group->pending_count++ - at) * sizeof(pending));
	}
	group->pending[at] = pending;
}

/* ---- XGROUP ---- */

#define ERROR_NO_KEY                                                                               \
	"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want "  \
	"to use the MKSTREAM option to create an empty stream automatically."

/* XGROUP CREATE key group id [MKSTREAM] */
redisReply *run_xgroup_create(struct memory_call *call)
{
	struct memory_group *group;
	struct memory_stream *stream;
	struct memory_id start;
	size_t at = 0;

	if (call->argc > 5 && (call->argc > 6 || !arg_is(call, 5, "MKSTREAM")))
		return reply_error(call, ERROR_SYNTAX);
	if (call->key == NULL && call->argc == 5)
		return reply_error(call, ERROR_NO_KEY);
	if (!arg_id(call, 4, &start))
		return call->error;
	if (group_of(call) != NULL)
		return reply_error(call, "BUSYGROUP Consumer Group name already exists");
	stream = &key_make(call)->stream;
	group = rt_alloc(sizeof(*group));
	*group = (struct memory_group){ .name = rt_strdup(call->argv[3].data),
					.delivered = start,
					.entries_read = -1 };
	stream->groups = rt_realloc(stream->groups, (stream->group_count + 1) * sizeof(group));
	while (at < stream->group_count && strcmp(stream->groups[at]->name, group->name) < 0)
		at++;
	memmove(&stream->groups[at + 1], &stream->groups[at],
		(stream->group_count++ - at) * sizeof(group));
	stream->groups[at] = group;
	call->redis->writes++;
	call->redis->news++;
	return reply_ok(call);
}

/* The group of a subcommand; the key and the group must exist. */
static bool arg_group_there(struct memory_call *call, struct memory_group **ret)
{
	if (!key_fits(call))
		return false;
	*ret = group_of(call);
	if (call->key == NULL)
		return fail(call, strcasecmp(call->argv[0].data, "XINFO") == 0 ? "ERR no such key"
									       : ERROR_NO_KEY);
	call->redis->writes++;
	call->redis->news++;
	return *ret != NULL || fail(call, "NOGROUP No such consumer group '%s' for key name '%s'",
				    call->argv[3].data, call->argv[2].data);
}

/* XGROUP SETID key group id [ENTRIESREAD n] */
redisReply *run_xgroup_setid(struct memory_call *call)
{
	struct memory_group *group;
	struct memory_id start;
	int64_t read = -1;

	if (call->argc != 5 && (call->argc != 7 || !arg_is(call, 5, "ENTRIESREAD")))
		return reply_error(call, ERROR_SYNTAX);
	if (call->argc == 7 && !arg_int(call, 6, &read))
		return call->error;
	if (read < -1)
		return reply_error(call, "ERR value for ENTRIESREAD must be positive or -1");
	if (!arg_group_there(call, &group) || !arg_id(call, 4, &start))
		return call->error;
	group->delivered = start;
	group->entries_read = read;
	return reply_ok(call);
}

redisReply *run_xgroup_destroy(struct memory_call *call)
{
	struct memory_stream *stream = stream_of(call);
	struct memory_group *group = group_of(call);
	size_t at = 0;

	if (call->key == NULL)
		return reply_error(call, ERROR_NO_KEY);
	if (group == NULL)
		return reply_int(call, 0);
	while (stream->groups[at] != group)
		at++;
	memmove(&stream->groups[at], &stream->groups[at + 1],
		(--stream->group_count - at) * sizeof(group));
	group_free(group);
	call->redis->writes++;
	call->redis->news++;
	return reply_int(call, 1);
}

redisReply *run_xgroup_createconsumer(struct memory_call *call)
{
	struct memory_group *group;

	if (!arg_group_there(call, &group))
		return call->error;
	if (consumer_find(group, call->argv[4].data) != NULL)
		return reply_int(call, 0);
	consumer_seen(call, group, call->argv[4].data);
	return reply_int(call, 1);
}

redisReply *run_xgroup_delconsumer(struct memory_call *call)
{
	struct memory_consumer *consumer;
	struct memory_group *group;
	int64_t held = 0;
	size_t at = 0;

	if (!arg_group_there(call, &group))
		return call->error;
	consumer = consumer_find(group, call->argv[4].data);
	if (consumer == NULL)
		return reply_int(call, 0);
	for (size_t i = group->pending_count; i-- > 0;) {
		if (group->pending[i].consumer != consumer)
			continue;
		pending_remove(group, &group->pending[i]);
		held++;
	}
	while (group->consumers[at] != consumer)
		at++;
	memmove(&group->consumers[at], &group->consumers[at + 1],
		(--group->consumer_count - at) * sizeof(consumer));
	free(consumer->name);
	free(consumer);
	return reply_int(call, held);
}

/* ---- XINFO ---- */

redisReply *run_xinfo_stream(struct memory_call *call)
{
	const struct memory_stream *stream = stream_of(call);
	redisReply *first = reply_nil(call), *last = first;

	if (call->key == NULL)
		return reply_error(call, "ERR no such key");
	if (stream->count > 0) {
		first = reply_entry(call, &stream->entries[0]);
		last = reply_entry(call, &stream->entries[stream->count - 1]);
	}
	return reply_list(call, "sisisisdsdsisdsisrsr", "length", (int64_t)stream->count,
			  "radix-tree-keys", INT64_C(1), "radix-tree-nodes", INT64_C(2),
			  "last-generated-id", stream->last, "max-deleted-entry-id",
			  stream->deleted, "entries-added", stream->added,
			  "recorded-first-entry-id", first_id(stream), "groups",
			  (int64_t)stream->group_count, "first-entry", first, "last-entry", last);
}

redisReply *run_xinfo_groups(struct memory_call *call)
{
	const struct memory_stream *stream = stream_of(call);
	redisReply *answer = reply_array(call, stream->group_count);

	if (call->key == NULL)
		return reply_error(call, "ERR no such key");
	for (size_t i = 0; i < stream->group_count; i++) {
		const struct memory_group *group = stream->groups[i];

		reply_push(answer, reply_list(call, "sssisisdsrsr", "name", group->name,
					      "consumers", (int64_t)group->consumer_count,
					      "pending", (int64_t)group->pending_count,
					      "last-delivered-id", group->delivered, "entries-read",
					      reply_int_or_nil(call, group->entries_read >= 0,
							       group->entries_read),
					      "lag", reply_lag(call, stream, group)));
	}
	return answer;
}

redisReply *run_xinfo_consumers(struct memory_call *call)
{
	struct memory_group *group;
	redisReply *answer;

	if (!arg_group_there(call, &group))
		return call->error;
	answer = reply_array(call, group->consumer_count);
	for (size_t i = 0; i < group->consumer_count; i++) {
		const struct memory_consumer *consumer = group->consumers[i];

		reply_push(answer, reply_list(call, "sssisi", "name", consumer->name, "pending",
					      pending_of(group, consumer), "idle",
					      RT_MAX(call->now_ms - consumer->seen_ms, 0)));
	}
	return answer;
}

/* ---- XPENDING ---- */

static redisReply *pending_summary(struct memory_call *call, const struct memory_group *group)
{
	redisReply *rows = reply_array(call, group->consumer_count), *nil = reply_nil(call);
	size_t count = group->pending_count;
	char text[24];

	if (count == 0)
		return reply_list(call, "irrr", INT64_C(0), nil, nil, nil);
	for (size_t i = 0; i < group->consumer_count; i++) {
		int64_t held = pending_of(group, group->consumers[i]);

		snprintf(text, sizeof(text), "%" PRId64, held);
		if (held > 0)
			reply_push(rows, reply_list(call, "ss", group->consumers[i]->name, text));
	}
	return reply_list(call, "iddr", (int64_t)count, group->pending[0].id,
			  group->pending[count - 1].id, rows);
}

/* XPENDING key group [[IDLE ms] start end count [consumer]] */
redisReply *run_xpending(struct memory_call *call)
{
	size_t at = arg_is(call, 3, "IDLE") ? 5 : 3;
	const struct memory_consumer *consumer = NULL;
	struct memory_id start = id_min, end = id_min;
	struct memory_group *group;
	int64_t count = 0, idle_ms = 0;
	redisReply *answer;

	if (call->argc != 3 && (call->argc < at + 3 || call->argc > at + 4))
		return reply_error(call, ERROR_SYNTAX);
	if (call->argc > 3 &&
	    (!arg_int(call, at + 2, &count) || (at == 5 && !arg_int(call, 4, &idle_ms)) ||
	     !arg_bound(call, at, false, &start) || !arg_bound(call, at + 1, true, &end)))
		return call->error;
	if (!key_fits(call) || !arg_group(call, &group))
		return call->error;
	if (call->argc == 3)
		return pending_summary(call, group);
	answer = reply_array(call, group->pending_count);
	if (call->argc == at + 4) {
		consumer = consumer_find(group, call->argv[at + 3].data);
		if (consumer == NULL)
			return answer;
	}
	for (size_t i = pending_index(group, start);
	     i < group->pending_count && !id_above(group->pending[i].id, end) && count > 0; i++) {
		const struct memory_pending *pending = &group->pending[i];
		int64_t idle = RT_MAX(call->now_ms - pending->delivered_ms, 0);

		if ((consumer != NULL && pending->consumer != consumer) || idle < idle_ms)
			continue;
		reply_push(answer, reply_list(call, "dsii", pending->id, pending->consumer->name,
					      idle, pending->deliveries));
		count--;
	}
	return answer;
}

/* ---- XREAD, XREADGROUP ---- */

/* The options in front of STREAMS, and how many streams are read. */
struct reading {
	size_t stream, streams; /* the first one's argument */
	size_t count;
	bool blocks;
};

static bool arg_reading(struct memory_call *call, size_t i, struct reading *ret)
{
	int64_t count = 0, block_ms;

	*ret = (struct reading){ .blocks = false };
	for (; i + 1 < call->argc && !arg_is(call, i, "STREAMS"); i += 2) {
		bool blocks = arg_is(call, i, "BLOCK");

		if (!blocks && !arg_is(call, i, "COUNT"))
			return fail(call, ERROR_SYNTAX);
		if (!arg_int(call, i + 1, blocks ? &block_ms : &count))
			return false;
		ret->blocks = ret->blocks || blocks;
	}
	if (i + 2 > call->argc)
		return fail(call, ERROR_SYNTAX);
	if ((call->argc - i - 1) % 2 != 0)
		return fail(call, "ERR Unbalanced XREAD list of streams: for each stream key an ID "
				  "or '$' must be specified.");
	if (ret->blocks && call->scripted)
		return fail(call, "ERR %s command is not allowed with BLOCK option from scripts",
			    call->argv[0].data);
	ret->count = count > 0 ? (size_t)count : SIZE_MAX;
	ret->stream = i + 1;
	ret->streams = (call->argc - i - 1) / 2;
	return true;
}

static const char *id_text(const struct memory_call *call, const struct reading *reading,
			   size_t stream)
{
	return call->argv[stream + reading->streams].data;
}

/* Of each stream, what `one` gives; NULL: nothing, and if that is so of all, a read that blocks waits. Redis looks at all
 * streams first (`check`), and reads none if there is an error. */
static redisReply *read_each(struct memory_call *call, const struct reading *reading,
			     bool (*check)(struct memory_call *call, const struct reading *reading,
					   size_t stream),
			     redisReply *(*one)(struct memory_call *call,
						const struct reading *reading, size_t stream))
{
	size_t from = reading->stream, end = reading->stream + reading->streams;
	redisReply *answer = reply_array(call, reading->streams);

	for (size_t i = from; i < end; i++) {
		call->key = key_find(call, i);
		if (!key_fits(call) || !check(call, reading, i))
			return call->error;
	}
	for (size_t i = from; i < end; i++) {
		redisReply *entries;

		call->key = key_find(call, i);
		entries = one(call, reading, i);
		if (entries != NULL)
			reply_push(answer, reply_list(call, "sr", call->argv[i].data, entries));
	}
	if (answer->elements > 0)
		return answer;
	return reading->blocks ? NULL : reply_nil(call);
}

static bool check_after(struct memory_call *call, const struct reading *reading, size_t stream)
{
	struct memory_id after;

	return arg_id(call, stream + reading->streams, &after);
}

static redisReply *read_after(struct memory_call *call, const struct reading *reading,
			      size_t stream)
{
	const struct memory_stream *from = stream_of(call);
	struct memory_id after;
	redisReply *entries;
	size_t first, count;

	(void)memory_id_parse(id_text(call, reading, stream), &after);
	first = memory_stream_after(from, after);
	count = RT_MIN(reading->count, from->count - first);
	if (count == 0)
		return NULL;
	entries = reply_array(call, count);
	for (size_t i = first; i < first + count; i++)
		reply_push(entries, reply_entry(call, &from->entries[i]));
	return entries;
}

/* XREAD [COUNT n] [BLOCK ms] STREAMS key … id … */
redisReply *run_xread(struct memory_call *call)
{
	struct reading reading;

	return arg_reading(call, 1, &reading) ? read_each(call, &reading, check_after, read_after)
					      : call->error;
}

static redisReply *read_new(struct memory_call *call, const struct reading *reading,
			    struct memory_group *group)
{
	struct memory_stream *stream = stream_of(call);
	size_t from = memory_stream_after(stream, group->delivered);
	size_t count = RT_MIN(reading->count, stream->count - from);
	struct memory_consumer *consumer;
	redisReply *entries;

	if (count == 0)
		return NULL;
	consumer = consumer_seen(call, group, call->argv[3].data);
	entries = reply_array(call, count);
	for (size_t i = from; i < from + count; i++) {
		const struct memory_entry *entry = &stream->entries[i];

		if (group->entries_read >= 0 && !has_gap(stream, entry->id))
			group->entries_read++;
		else
			group->entries_read = distance(stream, entry->id);
		group->delivered = entry->id;
		pending_add(group, (struct memory_pending){ .id = entry->id,
							    .consumer = consumer,
							    .delivered_ms = call->now_ms,
							    .deliveries = 1 });
		reply_push(entries, reply_entry(call, entry));
		if (call->redis->on_delivered != NULL)
			call->redis->on_delivered(call->redis->user, consumer->name, entry);
	}
	call->redis->writes++;
	return entries;
}

/* The consumer's pending entries; this counts as a delivery. */
static redisReply *read_again(struct memory_call *call, const struct reading *reading,
			      struct memory_group *group, struct memory_id after)
{
	struct memory_consumer *consumer = consumer_seen(call, group, call->argv[3].data);
	redisReply *entries = reply_array(call, group->pending_count);

	for (size_t i = 0; i < group->pending_count && entries->elements < reading->count; i++) {
		struct memory_pending *pending = &group->pending[i];
		const struct memory_entry *entry = stream_at(stream_of(call), pending->id);

		if (pending->consumer != consumer || !id_above(pending->id, after))
			continue;
		if (entry != NULL) {
			pending->delivered_ms = call->now_ms;
			pending->deliveries++;
		}
		reply_push(entries, entry != NULL
					    ? reply_entry(call, entry)
					    : reply_list(call, "dr", pending->id, reply_nil(call)));
	}
	return entries;
}

static bool check_group(struct memory_call *call, const struct reading *reading, size_t stream)
{
	struct memory_id after;

	if (memory_group_find(stream_of(call), call->argv[2].data) == NULL)
		return fail(call,
			    "NOGROUP No such key '%s' or consumer group '%s' in XREADGROUP "
			    "with GROUP option",
			    call->argv[stream].data, call->argv[2].data);
	return strcmp(id_text(call, reading, stream), ">") == 0 ||
	       arg_id(call, stream + reading->streams, &after);
}

static redisReply *read_group(struct memory_call *call, const struct reading *reading,
			      size_t stream)
{
	struct memory_group *group = memory_group_find(stream_of(call), call->argv[2].data);
	struct memory_id after;

	if (strcmp(id_text(call, reading, stream), ">") == 0)
		return read_new(call, reading, group);
	(void)memory_id_parse(id_text(call, reading, stream), &after);
	return read_again(call, reading, group, after);
}

/* XREADGROUP GROUP group consumer [COUNT n] [BLOCK ms] STREAMS key … id … */
redisReply *run_xreadgroup(struct memory_call *call)
{
	struct reading reading;

	return arg_reading(call, 4, &reading) ? read_each(call, &reading, check_group, read_group)
					      : call->error;
}

/* ---- acknowledging and claiming ---- */

redisReply *run_xack(struct memory_call *call)
{
	struct memory_group *group = group_of(call);
	struct memory_id id;
	int64_t count = 0;

	if (group == NULL)
		return reply_int(call, 0);
	if (!arg_ids(call, 3))
		return call->error;
	for (size_t i = 3; i < call->argc; i++) {
		const struct memory_pending *pending;

		arg_id(call, i, &id);
		pending = pending_find(group, id);
		if (pending == NULL)
			continue;
		pending_remove(group, pending);
		count++;
	}
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

static void claim(struct memory_call *call, struct memory_group *group,
		  struct memory_pending *pending, int64_t deliveries)
{
	pending->consumer = consumer_seen(call, group, call->argv[3].data);
	pending->delivered_ms = call->now_ms;
	pending->deliveries = deliveries;
	call->redis->writes++;
}

/* XCLAIM key group consumer min-idle id … [RETRYCOUNT n] JUSTID */
redisReply *run_xclaim(struct memory_call *call)
{
	int64_t idle_ms, retries = -1;
	struct memory_group *group;
	struct memory_id id;
	redisReply *answer;
	size_t end = 5;
	bool recounts;

	if (!arg_group(call, &group))
		return call->error;
	if (!arg_int(call, 4, &idle_ms))
		return reply_error(call, "ERR Invalid min-idle-time argument for XCLAIM");
	while (end < call->argc && id_parse(call->argv[end].data, 0, &id))
		end++;
	recounts = arg_is(call, end, "RETRYCOUNT");
	if (recounts && !arg_int(call, end + 1, &retries))
		return reply_error(call, "ERR Invalid RETRYCOUNT option argument for XCLAIM");
	if (!arg_is(call, call->argc - 1, "JUSTID") || end + (recounts ? 3 : 1) != call->argc)
		return reply_error(call, "ERR Unrecognized XCLAIM option '%s'",
				   call->argv[call->argc - 1].data);
	answer = reply_array(call, end);
	for (size_t i = 5; i < end; i++) {
		const struct memory_entry *entry;
		struct memory_pending *pending;

		arg_id(call, i, &id);
		entry = stream_at(stream_of(call), id);
		pending = pending_find(group, id);
		if (entry == NULL && pending != NULL)
			pending_remove(group, pending);
		if (entry == NULL || pending == NULL ||
		    call->now_ms - pending->delivered_ms < idle_ms)
			continue;
		claim(call, group, pending, retries >= 0 ? retries : pending->deliveries);
		reply_push(answer, reply_id(call, id));
	}
	return answer;
}

/* XAUTOCLAIM key group consumer min-idle start [COUNT n] */
redisReply *run_xautoclaim(struct memory_call *call)
{
	bool counted = call->argc == 8 && arg_is(call, 6, "COUNT");
	int64_t idle_ms, count = 100;
	struct memory_group *group;
	struct memory_id start;
	redisReply *entries, *gone;
	size_t at;

	if (!arg_int(call, 4, &idle_ms))
		return reply_error(call, "ERR Invalid min-idle-time argument for XAUTOCLAIM");
	if (!arg_bound(call, 5, false, &start))
		return call->error;
	if (call->argc != 6 && !counted)
		return reply_error(call, ERROR_SYNTAX);
	if (counted && (!arg_int(call, 7, &count) || count < 1))
		return reply_error(call, "ERR COUNT must be > 0");
	if (!key_fits(call) || !arg_group(call, &group))
		return call->error;
	entries = reply_array(call, group->pending_count);
	gone = reply_array(call, group->pending_count);
	at = pending_index(group, start);
	for (int64_t tries = count * 10; tries > 0 && count > 0 && at < group->pending_count;
	     tries--) {
		struct memory_pending *pending = &group->pending[at];
		const struct memory_entry *entry = stream_at(stream_of(call), pending->id);

		if (entry == NULL) {
			reply_push(gone, reply_id(call, pending->id));
			pending_remove(group, pending);
			count--;
			continue;
		}
		at++;
		if (call->now_ms - pending->delivered_ms < idle_ms)
			continue;
		claim(call, group, pending, pending->deliveries + 1);
		reply_push(entries, reply_entry(call, entry));
		count--;
	}
	return reply_list(call, "drr", at < group->pending_count ? group->pending[at].id : id_min,
			  entries, gone);
}
