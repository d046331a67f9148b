/* streams.c - streams and their groups, as t_stream.c of Redis 7.0 has them: also what it counts
 * (entries-read, lag) and when. Plain sorted arrays: a simulation's streams are short. */
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

void memory_id_format(struct memory_id id, char text[MEMORY_ID_TEXT])
{
	snprintf(text, MEMORY_ID_TEXT, "%" PRIu64 "-%" PRIu64, id.ms, id.n);
}

static struct memory_id id_next(struct memory_id id)
{
	return (struct memory_id){ id.n == UINT64_MAX ? id.ms + 1 : id.ms, id.n + 1 };
}

static struct memory_id id_before(struct memory_id id)
{
	return (struct memory_id){ id.n == 0 ? id.ms - 1 : id.ms, id.n - 1 };
}

/* A bound of a range. NULL, or an error. */
static redisReply *range_bound(struct memory_call *call, size_t i, bool is_end,
			       struct memory_id *ret)
{
	const char *text = call->argv[i].data;
	bool exclusive = text[0] == '(';

	if (strcmp(text, "-") == 0 || strcmp(text, "+") == 0)
		*ret = text[0] == '-' ? id_min : id_max;
	else if (!id_parse(text + exclusive, is_end ? UINT64_MAX : 0, ret))
		return reply_error(call, ERROR_ID);
	if (!exclusive)
		return NULL;
	if (memory_id_compare(*ret, is_end ? id_min : id_max) == 0)
		return reply_error(call, "ERR invalid %s ID for the interval",
				   is_end ? "end" : "start");
	*ret = is_end ? id_before(*ret) : id_next(*ret);
	return NULL;
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

/* All of it lies in one block. */
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

/* Its stream; NULL in *ret: none. Returns NULL, or an error. */
static redisReply *stream_get(struct memory_call *call, size_t i, struct memory_stream **ret)
{
	struct memory_key *key;

	bool good = key_get(call, i, MEMORY_STREAM, &key);

	*ret = good && key != NULL ? &key->stream : NULL;
	return good ? NULL : reply_error(call, ERROR_TYPE);
}

redisReply *run_xlen(struct memory_call *call)
{
	struct memory_stream *stream = NULL;
	redisReply *error = stream_get(call, 1, &stream);

	if (error != NULL)
		return error;
	return reply_int(call, stream == NULL ? 0 : (int64_t)stream->count);
}

/* XADD key id|* field value … */
redisReply *run_xadd(struct memory_call *call)
{
	struct memory_id id = { (uint64_t)call->now_ms, 0 };
	bool automatic = strcmp(call->argv[2].data, "*") == 0;
	struct memory_stream *stream = NULL;
	struct memory_key *key;

	if (!automatic && !id_parse(call->argv[2].data, 0, &id))
		return reply_error(call, ERROR_ID);
	if (call->argc % 2 == 0)
		return reply_error(call, "ERR wrong number of arguments for 'xadd' command");
	if (!automatic && memory_id_compare(id, id_min) == 0)
		return reply_error(call, "ERR The ID specified in XADD must be greater than 0-0");
	if (!key_make(call, 1, MEMORY_STREAM, &key))
		return reply_error(call, ERROR_TYPE);
	stream = &key->stream;
	if (automatic && id.ms <= stream->last.ms)
		id = id_next(stream->last);
	if (!id_above(id, stream->last))
		return reply_error(call, "ERR The ID specified in XADD is equal or smaller than "
					 "the target stream top item");
	if (stream->count == stream->room) {
		stream->room = RT_MAX(2 * stream->room, 16);
		stream->entries =
			rt_realloc(stream->entries, stream->room * sizeof(*stream->entries));
	}
	stream->entries[stream->count++] =
		(struct memory_entry){ .id = id,
				       .fields = fields_copy(call->argv + 3, call->argc - 3),
				       .field_count = call->argc - 3 };
	stream->last = id;
	stream->added++;
	call->redis->writes++;
	return reply_id(call, id);
}

static redisReply *reply_entry(struct memory_call *call, const struct memory_entry *entry)
{
	redisReply *answer = reply_array(call, 2), *fields = reply_array(call, entry->field_count);

	for (size_t i = 0; i < entry->field_count; i++)
		reply_push(fields, reply_text(call, &entry->fields[i]));
	reply_push(answer, reply_id(call, entry->id));
	reply_push(answer, fields);
	return answer;
}

/* key start end [COUNT n]; backwards: key end start … */
static redisReply *range(struct memory_call *call, bool backwards)
{
	struct memory_id start = id_min, end = id_min;
	struct memory_stream *stream = NULL;
	redisReply *error, *answer;
	int64_t count = -1;
	size_t from, to;

	error = range_bound(call, backwards ? 3 : 2, false, &start);
	if (error == NULL)
		error = range_bound(call, backwards ? 2 : 3, true, &end);
	if (error != NULL)
		return error;
	if (call->argc != 4 && (call->argc != 6 || !arg_is(call, 4, "COUNT")))
		return reply_error(call, ERROR_SYNTAX);
	if (call->argc == 6 && !arg_int(call, 5, &count))
		return reply_error(call, ERROR_INT);
	if (call->argc == 6)
		count = RT_MAX(count, 0);
	error = stream_get(call, 1, &stream);
	if (error != NULL)
		return error;
	if (stream == NULL)
		return reply_array(call, 0);
	if (count == 0)
		return reply_nil(call);
	from = stream_index(stream, start);
	to = RT_MAX(memory_stream_after(stream, end), from);
	if (count < 0 || (size_t)count > to - from)
		count = (int64_t)(to - from);
	answer = reply_array(call, (size_t)count);
	for (size_t i = 0; i < (size_t)count; i++)
		reply_push(answer,
			   reply_entry(call, &stream->entries[backwards ? to - 1 - i : from + i]));
	return answer;
}

redisReply *run_xrange(struct memory_call *call)
{
	return range(call, false);
}

redisReply *run_xrevrange(struct memory_call *call)
{
	return range(call, true);
}

/* Ids from argument i on, checked before anything is done. */
static redisReply *ids_check(struct memory_call *call, size_t i)
{
	struct memory_id id;

	for (; i < call->argc; i++)
		if (!id_parse(call->argv[i].data, 0, &id))
			return reply_error(call, ERROR_ID);
	return NULL;
}

redisReply *run_xdel(struct memory_call *call)
{
	struct memory_stream *stream = NULL;
	redisReply *error = stream_get(call, 1, &stream);
	int64_t count = 0;

	if (error != NULL)
		return error;
	if (stream == NULL)
		return reply_int(call, 0);
	error = ids_check(call, 2);
	if (error != NULL)
		return error;
	for (size_t i = 2; i < call->argc; i++) {
		const struct memory_entry *entry;
		struct memory_id id = id_min;

		id_parse(call->argv[i].data, 0, &id);
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
	struct memory_stream *stream = NULL;
	struct memory_id low;
	redisReply *error;
	int64_t length = 0;
	size_t count;

	if (call->argc != 4 || (!by_id && !arg_is(call, 2, "MAXLEN")))
		return reply_error(call, ERROR_SYNTAX);
	if (by_id && !id_parse(call->argv[3].data, 0, &low))
		return reply_error(call, ERROR_ID);
	if (!by_id && !arg_int(call, 3, &length))
		return reply_error(call, ERROR_INT);
	if (length < 0)
		return reply_error(call, "ERR The MAXLEN argument must be >= 0.");
	error = stream_get(call, 1, &stream);
	if (error != NULL)
		return error;
	if (stream == NULL)
		return reply_int(call, 0);
	count = by_id ? stream_index(stream, low) : RT_MAX(stream->count, (size_t)length);
	if (!by_id)
		count -= (size_t)length;
	entries_remove(stream, 0, count);
	call->redis->writes += count > 0;
	return reply_int(call, (int64_t)count);
}

/* ---- what a group has read ---- */

static struct memory_id first_id(const struct memory_stream *stream)
{
	return stream->count == 0 ? id_min : stream->entries[0].id;
}

/* Was something deleted at or behind `from`? */
static bool has_gap(const struct memory_stream *stream, struct memory_id from)
{
	return stream->count > 0 && id_above(stream->deleted, id_min) &&
	       !id_above(from, stream->deleted);
}

/* How many entries there ever were up to `id`; -1: nobody knows. */
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

/* The group that argument i + 1 names, of the stream that argument i names. NULL in *ret: one of them
 * is not there. Returns NULL, or an error. */
static redisReply *group_get(struct memory_call *call, size_t i, struct memory_stream **ret_stream,
			     struct memory_group **ret)
{
	redisReply *error = stream_get(call, i, ret_stream);

	*ret = NULL;
	if (error == NULL && *ret_stream != NULL)
		*ret = memory_group_find(*ret_stream, call->argv[i + 1].data);
	return error;
}

static redisReply *no_group(struct memory_call *call, size_t i, const char *where)
{
	return reply_error(call, "NOGROUP No such key '%s' or consumer group '%s'%s",
			   call->argv[i].data, call->argv[i + 1].data, where);
}

static struct memory_consumer *consumer_find(const struct memory_group *group, const char *name)
{
	for (size_t i = 0; i < group->consumer_count; i++)
		if (strcmp(group->consumers[i]->name, name) == 0)
			return group->consumers[i];
	return NULL;
}

/* Made if need be; seen now. */
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

static bool group_start(struct memory_call *call, const struct memory_stream *stream,
			struct memory_id *ret)
{
	*ret = id_min;
	if (strcmp(call->argv[4].data, "$") != 0)
		return id_parse(call->argv[4].data, 0, ret);
	if (stream != NULL)
		*ret = stream->last;
	return true;
}

/* The number behind ENTRIESREAD, argument i; -1 without it. Returns NULL, or an error. */
static redisReply *entries_read(struct memory_call *call, size_t i, int64_t *ret)
{
	*ret = -1;
	if (i == call->argc)
		return NULL;
	if (i + 2 != call->argc || !arg_is(call, i, "ENTRIESREAD"))
		return reply_error(call, ERROR_SYNTAX);
	if (!arg_int(call, i + 1, ret))
		return reply_error(call, ERROR_INT);
	return *ret >= -1 ? NULL
			  : reply_error(call, "ERR value for ENTRIESREAD must be positive or -1");
}

/* XGROUP CREATE key group id [MKSTREAM] [ENTRIESREAD n] */
static redisReply *group_create(struct memory_call *call)
{
	bool make = arg_is(call, 5, "MKSTREAM");
	struct memory_stream *stream = NULL;
	struct memory_group *group;
	struct memory_key *key;
	struct memory_id start;
	int64_t read;
	redisReply *error = entries_read(call, 5u + make, &read);
	size_t at = 0;

	if (error == NULL)
		error = group_get(call, 2, &stream, &group);
	if (error != NULL)
		return error;
	if (stream == NULL && !make)
		return reply_error(call,
				   "ERR The XGROUP subcommand requires the key to exist. Note "
				   "that for CREATE you may want to use the MKSTREAM option to "
				   "create an empty stream automatically.");
	if (!group_start(call, stream, &start))
		return reply_error(call, ERROR_ID);
	if (group != NULL)
		return reply_error(call, "BUSYGROUP Consumer Group name already exists");
	key_make(call, 2, MEMORY_STREAM, &key);
	stream = &key->stream;
	group = rt_alloc(sizeof(*group));
	*group = (struct memory_group){ .name = rt_strdup(call->argv[3].data),
					.delivered = start,
					.entries_read = read };
	stream->groups =
		rt_realloc(stream->groups, (stream->group_count + 1) * sizeof(*stream->groups));
	while (at < stream->group_count && strcmp(stream->groups[at]->name, group->name) < 0)
		at++;
	memmove(&stream->groups[at + 1], &stream->groups[at],
		(stream->group_count++ - at) * sizeof(*stream->groups));
	stream->groups[at] = group;
	return reply_ok(call);
}

/* XGROUP SETID key group id [ENTRIESREAD n] */
static redisReply *group_set_id(struct memory_call *call, struct memory_stream *stream,
				struct memory_group *group)
{
	struct memory_id start;
	int64_t read = -1;

	if (!group_start(call, stream, &start))
		return reply_error(call, ERROR_ID);
	entries_read(call, 5, &read);
	group->delivered = start;
	group->entries_read = read;
	return reply_ok(call);
}

static redisReply *group_destroy(struct memory_call *call, struct memory_stream *stream,
				 struct memory_group *group)
{
	size_t at = 0;

	if (group == NULL)
		return reply_int(call, 0);
	while (stream->groups[at] != group)
		at++;
	memmove(&stream->groups[at], &stream->groups[at + 1],
		(--stream->group_count - at) * sizeof(group));
	group_free(group);
	return reply_int(call, 1);
}

static redisReply *consumer_delete(struct memory_call *call, struct memory_group *group)
{
	struct memory_consumer *consumer = consumer_find(group, call->argv[4].data);
	int64_t held = 0;
	size_t at = 0;

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

/* Which subcommand it is; -1 and an error: none. */
static int subcommand(struct memory_call *call, const char *command, const char *const *names,
		      const int *arities, size_t count, redisReply **error)
{
	for (size_t i = 0; i < count; i++) {
		if (!arg_is(call, 1, names[i]))
			continue;
		if (memory_arity_fits(arities[i], call->argc))
			return (int)i;
		*error = call->scripted
				 ? reply_error(call, ERROR_SCRIPT_ARITY)
				 : reply_error(call,
					       "ERR wrong number of arguments for '%s|%s' command",
					       command, names[i]);
		return -1;
	}
	*error = call->scripted ? reply_error(call, ERROR_SCRIPT_UNKNOWN)
				: reply_error(call, "ERR unknown subcommand '%s'. Try %s HELP.",
					      call->argv[1].data, call->argv[0].data);
	return -1;
}

redisReply *run_xgroup(struct memory_call *call)
{
	static const char *const names[] = { "create", "setid", "destroy", "delconsumer" };
	static const int arities[] = { -5, -5, 4, 5 };
	struct memory_stream *stream = NULL;
	struct memory_group *group;
	redisReply *error = NULL;
	int64_t read;
	int which = subcommand(call, "xgroup", names, arities, RT_LENGTH(names), &error);

	if (which < 0)
		return error;
	if (which == 0 && call->redis->memory_full && !call->scripted)
		return reply_error(call, ERROR_OOM);
	call->redis->writes++;
	if (which == 0)
		return group_create(call);
	error = which == 1 ? entries_read(call, 5, &read) : NULL;
	if (error == NULL)
		error = group_get(call, 2, &stream, &group);
	if (error != NULL)
		return error;
	if (stream == NULL)
		return reply_error(call,
				   "ERR The XGROUP subcommand requires the key to exist. Note "
				   "that for CREATE you may want to use the MKSTREAM option to "
				   "create an empty stream automatically.");
	if (which == 2)
		return group_destroy(call, stream, group);
	if (group == NULL)
		return reply_error(call, "NOGROUP No such consumer group '%s' for key name '%s'",
				   call->argv[3].data, call->argv[2].data);
	return which == 1 ? group_set_id(call, stream, group) : consumer_delete(call, group);
}

/* ---- XINFO ---- */

static redisReply *info_stream(struct memory_call *call, const struct memory_stream *stream)
{
	redisReply *answer = reply_array(call, 20);
	const struct memory_entry *entries = stream->entries;
	bool any = stream->count > 0;

	reply_named(call, answer, "length", reply_int(call, (int64_t)stream->count));
	reply_named(call, answer, "radix-tree-keys", reply_int(call, any));
	reply_named(call, answer, "radix-tree-nodes", reply_int(call, 1 + any));
	reply_named(call, answer, "last-generated-id", reply_id(call, stream->last));
	reply_named(call, answer, "max-deleted-entry-id", reply_id(call, stream->deleted));
	reply_named(call, answer, "entries-added", reply_int(call, stream->added));
	reply_named(call, answer, "recorded-first-entry-id", reply_id(call, first_id(stream)));
	reply_named(call, answer, "groups", reply_int(call, (int64_t)stream->group_count));
	reply_named(call, answer, "first-entry",
		    any ? reply_entry(call, &entries[0]) : reply_nil(call));
	reply_named(call, answer, "last-entry",
		    any ? reply_entry(call, &entries[stream->count - 1]) : reply_nil(call));
	return answer;
}

static redisReply *info_groups(struct memory_call *call, const struct memory_stream *stream)
{
	redisReply *answer = reply_array(call, stream->group_count);

	for (size_t i = 0; i < stream->group_count; i++) {
		const struct memory_group *group = stream->groups[i];
		redisReply *row = reply_array(call, 12);

		reply_named(call, row, "name", reply_str(call, group->name));
		reply_named(call, row, "consumers",
			    reply_int(call, (int64_t)group->consumer_count));
		reply_named(call, row, "pending", reply_int(call, (int64_t)group->pending_count));
		reply_named(call, row, "last-delivered-id", reply_id(call, group->delivered));
		reply_named(call, row, "entries-read",
			    reply_int_or_nil(call, group->entries_read >= 0, group->entries_read));
		reply_named(call, row, "lag", reply_lag(call, stream, group));
		reply_push(answer, row);
	}
	return answer;
}

static redisReply *info_consumers(struct memory_call *call, const struct memory_group *group)
{
	redisReply *answer = reply_array(call, group->consumer_count);

	for (size_t i = 0; i < group->consumer_count; i++) {
		const struct memory_consumer *consumer = group->consumers[i];
		redisReply *row = reply_array(call, 6);

		reply_named(call, row, "name", reply_str(call, consumer->name));
		reply_named(call, row, "pending", reply_int(call, pending_of(group, consumer)));
		reply_named(call, row, "idle",
			    reply_int(call, RT_MAX(call->now_ms - consumer->seen_ms, 0)));
		reply_push(answer, row);
	}
	return answer;
}

redisReply *run_xinfo(struct memory_call *call)
{
	static const char *const names[] = { "stream", "groups", "consumers" };
	static const int arities[] = { 3, 3, 4 };
	struct memory_stream *stream = NULL;
	struct memory_group *group;
	redisReply *error = NULL;
	int which = subcommand(call, "xinfo", names, arities, RT_LENGTH(names), &error);

	if (which < 0)
		return error;
	error = stream_get(call, 2, &stream);
	if (error != NULL)
		return error;
	if (stream == NULL)
		return reply_error(call, "ERR no such key");
	if (which != 2)
		return which == 0 ? info_stream(call, stream) : info_groups(call, stream);
	group = memory_group_find(stream, call->argv[3].data);
	if (group == NULL)
		return reply_error(call, "NOGROUP No such consumer group '%s' for key name '%s'",
				   call->argv[3].data, call->argv[2].data);
	return info_consumers(call, group);
}

/* ---- XPENDING ---- */

static redisReply *pending_summary(struct memory_call *call, const struct memory_group *group)
{
	redisReply *answer = reply_array(call, 4), *rows;
	size_t count = group->pending_count;

	reply_push(answer, reply_int(call, (int64_t)count));
	reply_push(answer, count == 0 ? reply_nil(call) : reply_id(call, group->pending[0].id));
	reply_push(answer,
		   count == 0 ? reply_nil(call) : reply_id(call, group->pending[count - 1].id));
	rows = count == 0 ? reply_nil(call) : reply_array(call, group->consumer_count);
	for (size_t i = 0; count > 0 && i < group->consumer_count; i++) {
		int64_t held = pending_of(group, group->consumers[i]);
		redisReply *row = reply_array(call, 2);
		char text[24];

		if (held == 0)
			continue;
		snprintf(text, sizeof(text), "%" PRId64, held);
		reply_push(row, reply_str(call, group->consumers[i]->name));
		reply_push(row, reply_str(call, text));
		reply_push(rows, row);
	}
	reply_push(answer, rows);
	return answer;
}

/* XPENDING key group [[IDLE ms] start end count [consumer]] */
redisReply *run_xpending(struct memory_call *call)
{
	size_t at = arg_is(call, 3, "IDLE") ? 5 : 3;
	const struct memory_consumer *consumer = NULL;
	struct memory_id start = id_min, end = id_min;
	struct memory_stream *stream = NULL;
	struct memory_group *group;
	int64_t count = 0, idle_ms = 0;
	redisReply *error, *answer;

	if (call->argc != 3 && (call->argc < at + 3 || call->argc > at + 4))
		return reply_error(call, ERROR_SYNTAX);
	if (call->argc > 3) {
		if (!arg_int(call, at + 2, &count) || (at == 5 && !arg_int(call, 4, &idle_ms)))
			return reply_error(call, ERROR_INT);
		error = range_bound(call, at, false, &start);
		if (error == NULL)
			error = range_bound(call, at + 1, true, &end);
		if (error != NULL)
			return error;
	}
	error = group_get(call, 1, &stream, &group);
	if (error != NULL)
		return error;
	if (group == NULL)
		return no_group(call, 1, "");
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
		redisReply *row = reply_array(call, 4);

		if ((consumer != NULL && pending->consumer != consumer) || idle < idle_ms)
			continue;
		reply_push(row, reply_id(call, pending->id));
		reply_push(row, reply_str(call, pending->consumer->name));
		reply_push(row, reply_int(call, idle));
		reply_push(row, reply_int(call, pending->deliveries));
		reply_push(answer, row);
		count--;
	}
	return answer;
}

/* ---- XREAD, XREADGROUP ---- */

/* What comes in front of STREAMS; one stream is read. */
struct reading {
	size_t stream; /* the argument */
	int64_t count; /* -1: all */
	int64_t block_ms;
	bool blocks;
};

static redisReply *reading_parse(struct memory_call *call, size_t i, struct reading *ret)
{
	*ret = (struct reading){ .count = -1 };
	for (; i + 1 < call->argc && !arg_is(call, i, "STREAMS"); i += 2) {
		bool is_count = arg_is(call, i, "COUNT");

		if (!is_count && !arg_is(call, i, "BLOCK"))
			return reply_error(call, ERROR_SYNTAX);
		if (!arg_int(call, i + 1, is_count ? &ret->count : &ret->block_ms))
			return reply_error(call, is_count ? ERROR_INT
							  : "ERR timeout is not an integer or out "
							    "of range");
		ret->blocks = ret->blocks || !is_count;
	}
	if (i + 3 != call->argc)
		return reply_error(call, ERROR_SYNTAX);
	if (ret->blocks && call->scripted)
		return reply_error(call,
				   "ERR %s command is not allowed with BLOCK option from scripts",
				   call->argv[0].data);
	if (ret->count <= 0)
		ret->count = -1;
	ret->stream = i + 1;
	return NULL;
}

/* [[stream, entries]] */
static redisReply *reply_reading(struct memory_call *call, const struct reading *reading,
				 redisReply *entries)
{
	redisReply *answer = reply_array(call, 1), *row = reply_array(call, 2);

	reply_push(row, reply_text(call, &call->argv[reading->stream]));
	reply_push(row, entries);
	reply_push(answer, row);
	return answer;
}

static redisReply *reply_waits(struct memory_call *call, const struct reading *reading)
{
	return reading->blocks ? NULL : reply_nil(call);
}

static size_t reading_count(const struct reading *reading, size_t there)
{
	return reading->count < 0 ? there : RT_MIN(there, (size_t)reading->count);
}

redisReply *run_xread(struct memory_call *call)
{
	struct memory_stream *stream = NULL;
	struct reading reading;
	struct memory_id after;
	redisReply *error = reading_parse(call, 1, &reading), *entries;
	size_t from, count;

	if (error == NULL)
		error = stream_get(call, reading.stream, &stream);
	if (error == NULL)
		error = ids_check(call, reading.stream + 1);
	if (error != NULL)
		return error;
	id_parse(call->argv[reading.stream + 1].data, 0, &after);
	from = stream == NULL ? 0 : memory_stream_after(stream, after);
	if (stream == NULL || from == stream->count)
		return reply_waits(call, &reading);
	count = reading_count(&reading, stream->count - from);
	entries = reply_array(call, count);
	for (size_t i = from; i < from + count; i++)
		reply_push(entries, reply_entry(call, &stream->entries[i]));
	return reply_reading(call, &reading, entries);
}

static redisReply *read_new(struct memory_call *call, const struct reading *reading,
			    struct memory_stream *stream, struct memory_group *group)
{
	size_t from = memory_stream_after(stream, group->delivered);
	size_t count = reading_count(reading, stream->count - from);
	struct memory_consumer *consumer;
	redisReply *entries;

	if (count == 0)
		return reply_waits(call, reading);
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
	return reply_reading(call, reading, entries);
}

/* What the consumer holds already; it counts as a delivery. */
static redisReply *read_again(struct memory_call *call, const struct reading *reading,
			      const struct memory_stream *stream, struct memory_group *group,
			      struct memory_id after)
{
	struct memory_consumer *consumer = consumer_seen(call, group, call->argv[3].data);
	redisReply *entries = reply_array(call, group->pending_count);
	size_t count = reading_count(reading, group->pending_count);

	for (size_t i = 0; i < group->pending_count && entries->elements < count; i++) {
		struct memory_pending *pending = &group->pending[i];
		const struct memory_entry *entry = stream_at(stream, pending->id);
		redisReply *gone;

		if (pending->consumer != consumer || !id_above(pending->id, after))
			continue;
		if (entry != NULL) {
			pending->delivered_ms = call->now_ms;
			pending->deliveries++;
			reply_push(entries, reply_entry(call, entry));
			continue;
		}
		gone = reply_array(call, 2);
		reply_push(gone, reply_id(call, pending->id));
		reply_push(gone, reply_nil(call));
		reply_push(entries, gone);
	}
	return reply_reading(call, reading, entries);
}

/* XREADGROUP GROUP group consumer [COUNT n] [BLOCK ms] STREAMS key id */
redisReply *run_xreadgroup(struct memory_call *call)
{
	struct memory_group *group = NULL;
	struct memory_stream *stream = NULL;
	struct reading reading;
	struct memory_id after;
	redisReply *error = reading_parse(call, 4, &reading);
	const char *id;

	if (error == NULL)
		error = stream_get(call, reading.stream, &stream);
	if (error != NULL)
		return error;
	if (stream != NULL)
		group = memory_group_find(stream, call->argv[2].data);
	if (group == NULL)
		return reply_error(call,
				   "NOGROUP No such key '%s' or consumer group '%s' in XREADGROUP "
				   "with GROUP option",
				   call->argv[reading.stream].data, call->argv[2].data);
	id = call->argv[reading.stream + 1].data;
	if (strcmp(id, ">") == 0)
		return read_new(call, &reading, stream, group);
	if (!id_parse(id, 0, &after))
		return reply_error(call, ERROR_ID);
	return read_again(call, &reading, stream, group, after);
}

/* ---- what was delivered ---- */

redisReply *run_xack(struct memory_call *call)
{
	struct memory_stream *stream = NULL;
	struct memory_group *group;
	redisReply *error = group_get(call, 1, &stream, &group);
	int64_t count = 0;

	if (error != NULL)
		return error;
	if (group == NULL)
		return reply_int(call, 0);
	error = ids_check(call, 3);
	if (error != NULL)
		return error;
	for (size_t i = 3; i < call->argc; i++) {
		const struct memory_pending *pending;
		struct memory_id id = id_min;

		id_parse(call->argv[i].data, 0, &id);
		pending = pending_find(group, id);
		if (pending == NULL)
			continue;
		pending_remove(group, pending);
		count++;
	}
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

/* XCLAIM key group consumer min-idle id … [RETRYCOUNT n] [JUSTID] */
redisReply *run_xclaim(struct memory_call *call)
{
	int64_t idle_ms, retries = -1;
	bool just_id = false;
	struct memory_stream *stream = NULL;
	struct memory_group *group;
	struct memory_id id;
	redisReply *error = group_get(call, 1, &stream, &group), *answer;
	size_t ids_end = 5;

	if (error != NULL)
		return error;
	if (group == NULL)
		return no_group(call, 1, "");
	if (!arg_int(call, 4, &idle_ms))
		return reply_error(call, "ERR Invalid min-idle-time argument for XCLAIM");
	while (ids_end < call->argc && id_parse(call->argv[ids_end].data, 0, &id))
		ids_end++;
	for (size_t i = ids_end; i < call->argc; i++) {
		if (arg_is(call, i, "JUSTID"))
			just_id = true;
		else if (!arg_is(call, i, "RETRYCOUNT") || i + 1 == call->argc)
			return reply_error(call, "ERR Unrecognized XCLAIM option '%s'",
					   call->argv[i].data);
		else if (!arg_int(call, ++i, &retries))
			return reply_error(call,
					   "ERR Invalid RETRYCOUNT option argument for XCLAIM");
	}
	answer = reply_array(call, ids_end);
	for (size_t i = 5; i < ids_end; i++) {
		const struct memory_entry *entry;
		struct memory_pending *pending;

		id_parse(call->argv[i].data, 0, &id);
		entry = stream_at(stream, id);
		pending = pending_find(group, id);
		if (entry == NULL && pending != NULL)
			pending_remove(group, pending);
		if (entry == NULL || pending == NULL ||
		    call->now_ms - pending->delivered_ms < idle_ms)
			continue;
		pending->consumer = consumer_seen(call, group, call->argv[3].data);
		pending->delivered_ms = call->now_ms;
		pending->deliveries = retries >= 0 ? retries : pending->deliveries + !just_id;
		reply_push(answer, just_id ? reply_id(call, id) : reply_entry(call, entry));
	}
	call->redis->writes++;
	return answer;
}

/* XAUTOCLAIM key group consumer min-idle start [COUNT n] [JUSTID] */
redisReply *run_xautoclaim(struct memory_call *call)
{
	bool just_id = arg_is(call, call->argc - 1, "JUSTID");
	size_t options = call->argc - 6 - just_id, at;
	int64_t idle_ms, count = 100;
	struct memory_stream *stream = NULL;
	struct memory_group *group;
	struct memory_id start;
	redisReply *error, *answer, *entries, *gone;

	if (!arg_int(call, 4, &idle_ms))
		return reply_error(call, "ERR Invalid min-idle-time argument for XAUTOCLAIM");
	error = range_bound(call, 5, false, &start);
	if (error != NULL)
		return error;
	if (options != 0 && (options != 2 || !arg_is(call, 6, "COUNT")))
		return reply_error(call, ERROR_SYNTAX);
	if (options == 2 && (!arg_int(call, 7, &count) || count < 1))
		return reply_error(call, "ERR COUNT must be > 0");
	error = group_get(call, 1, &stream, &group);
	if (error != NULL)
		return error;
	if (group == NULL)
		return no_group(call, 1, "");
	entries = reply_array(call, group->pending_count);
	gone = reply_array(call, group->pending_count);
	at = pending_index(group, start);
	for (int64_t tries = count * 10; tries > 0 && count > 0 && at < group->pending_count;
	     tries--) {
		struct memory_pending *pending = &group->pending[at];
		const struct memory_entry *entry = stream_at(stream, pending->id);

		if (entry == NULL) {
			reply_push(gone, reply_id(call, pending->id));
			pending_remove(group, pending);
			count--;
			continue;
		}
		at++;
		if (call->now_ms - pending->delivered_ms < idle_ms)
			continue;
		pending->consumer = consumer_seen(call, group, call->argv[3].data);
		pending->delivered_ms = call->now_ms;
		pending->deliveries += !just_id;
		reply_push(entries, just_id ? reply_id(call, entry->id) : reply_entry(call, entry));
		count--;
	}
	call->redis->writes++;
	answer = reply_array(call, 3);
	reply_push(answer,
		   reply_id(call, at < group->pending_count ? group->pending[at].id : id_min));
	reply_push(answer, entries);
	reply_push(answer, gone);
	return answer;
}
