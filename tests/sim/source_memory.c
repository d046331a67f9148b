/* source_memory.c - a subscription to a stream in memory: what runtime/events/stream_redis.c is to Redis.
 *
 * Commands share one link; the read that waits is on its own, as there. Entries are copied when
 * they set out, and live until the operation's done has returned. */
#include <stdio.h>
#include <string.h>

#include "memory_redis.h"

struct source;

/* One operation under way. Each kind has its own, since one of each may be. */
struct command {
	struct memory_op op;
	struct source *source;
	struct rt_stream_op *user;
	struct rt_stream_info *info, info_now;
	int status;
	struct rt_entry *entries;
	size_t count;
	char next_cursor[48];
	size_t lost_count;
};

struct source {
	struct rt_stream_source base;
	struct memory_link link;
	char *stream, *group, *consumer, *context;
	struct memory_wait read;
	struct rt_stream_op *read_user;
	struct command read_result;
};

static struct source *of(struct rt_stream_source *base)
{
	return RT_CONTAINER_OF(base, struct source, base);
}

/* ---- the group, as it is now ---- */

static struct memory_group *group_now(struct source *source)
{
	struct memory_stream *stream =
		memory_stream_find(source->link.redis->streams, source->stream);
	struct memory_group *group =
		stream == NULL ? NULL : memory_group_find(stream, source->group);

	return group;
}

static int64_t now_of(const struct source *source)
{
	return rt_loop_unix_ms(source->link.redis->loop);
}

/* ---- entries on their way ---- */

/* NULL: it was deleted from the stream; its id alone is delivered. */
static void take(struct source *source, struct command *command, struct memory_id id,
		 const struct memory_entry *from, uint32_t deliveries)
{
	struct rt_entry *entry;
	char text[MEMORY_ID_TEXT];

	command->entries =
		rt_realloc(command->entries, (command->count + 1) * sizeof(*command->entries));
	entry = &command->entries[command->count++];
	*entry = (struct rt_entry){ .deliveries = deliveries };
	memory_id_format(id, text);
	entry->stream_id = rt_strdup(text);
	if (from != NULL) {
		struct memory_redis *redis = source->link.redis;
		struct memory_entry copy;

		if (redis->on_delivered != NULL)
			redis->on_delivered(redis->user, &source->link, from);

		memory_entry_copy(&copy, from);
		entry->fields = copy.fields;
		entry->lengths = copy.lengths;
		entry->field_count = copy.field_count;
	}
}

static void let_go(struct command *command)
{
	for (size_t i = 0; i < command->count; i++) {
		struct rt_entry *entry = &command->entries[i];

		for (size_t j = 0; j < entry->field_count; j++)
			free(entry->fields[j]);
		free(entry->fields);
		free(entry->lengths);
		free(entry->stream_id);
	}
	free(command->entries);
	command->entries = NULL;
	command->count = 0;
}

static void hand_over(struct command *command, struct rt_stream_op *user, int status)
{
	bool good = status == RT_OK;

	user->entries = good ? command->entries : NULL;
	user->entry_count = good ? command->count : 0;
	user->lost_count = good ? command->lost_count : 0;
	if (good)
		memcpy(user->next_cursor, command->next_cursor, sizeof(user->next_cursor));
	user->done(user, status);
	let_go(command);
}

/* ---- read ---- */

static bool read_look(struct memory_wait *wait)
{
	struct source *source = RT_CONTAINER_OF(wait, struct source, read);
	struct memory_group *group = group_now(source);
	struct memory_stream *stream;
	size_t at;

	if (group == NULL) {
		source->read_result.status = RT_NOGROUP;
		return true;
	}
	stream = memory_stream_find(source->link.redis->streams, source->stream);
	at = memory_stream_after(stream, group->delivered);
	if (at == stream->count)
		return false;
	memory_group_saw(group, source->consumer, now_of(source));
	for (int n = 0; at < stream->count && n < source->read_user->count_max; at++, n++) {
		const struct memory_entry *entry = &stream->entries[at];

		group->delivered = entry->id;
		memory_group_deliver(group, entry->id, source->consumer, now_of(source), 1);
		take(source, &source->read_result, entry->id, entry, 1);
	}
	return true;
}

static void read_finish(struct memory_wait *wait, int status)
{
	struct source *source = RT_CONTAINER_OF(wait, struct source, read);
	struct command result = source->read_result;

	source->read_result = (struct command){ .status = RT_OK };
	hand_over(&result, RT_TAKE(source->read_user), status == RT_OK ? result.status : status);
}

static void source_read(struct rt_stream_source *base, struct rt_stream_op *user, int64_t block_ms)
{
	struct source *source = of(base);

	user->source = base;
	source->read_user = user;
	source->read.look = read_look;
	source->read.finish = read_finish;
	memory_wait_start(&source->read, &source->link, "read", block_ms);
}

static void source_interrupt(struct rt_stream_source *base)
{
	memory_wait_interrupt(&of(base)->read, RT_CANCELED);
}

/* ---- commands ---- */

static void command_finish(struct memory_op *op, int status)
{
	struct command *command = RT_CONTAINER_OF(op, struct command, op);

	if (status == RT_OK)
		status = command->status;
	if (status == RT_OK && command->info != NULL)
		*command->info = command->info_now;
	hand_over(command, command->user, status);
	free(command);
}

static struct command *submit(struct rt_stream_source *base, struct rt_stream_op *user,
			      const char *what, void (*effect)(struct memory_op *op))
{
	struct command *command = rt_alloc(sizeof(*command));

	user->source = base;
	command->source = of(base);
	command->user = user;
	command->op.effect = effect;
	command->op.finish = command_finish;
	memory_link_submit(&of(base)->link, &command->op, what, "");
	return command;
}

static struct command *of_op(struct memory_op *op, struct memory_group **ret_group)
{
	struct command *command = RT_CONTAINER_OF(op, struct command, op);

	*ret_group = group_now(command->source);
	if (*ret_group == NULL)
		command->status = RT_NOGROUP;
	return command;
}

static void pending_effect(struct memory_op *op)
{
	struct memory_group *group;
	struct command *command = of_op(op, &group);
	struct source *source = command->source;
	struct memory_stream *stream;
	struct memory_id after = { 0 };

	if (group == NULL)
		return;
	stream = memory_stream_find(source->link.redis->streams, source->stream);
	memory_id_parse(command->user->cursor, &after);
	memory_group_saw(group, source->consumer, now_of(source));
	for (size_t i = 0; i < group->pending_count; i++) {
		struct memory_pending *pending = &group->pending[i];

		if (command->count == (size_t)command->user->count_max)
			break;
		if (memory_id_compare(pending->id, after) <= 0 ||
		    strcmp(pending->consumer, source->consumer) != 0)
			continue;
		pending->delivered_ms = now_of(source);
		take(source, command, pending->id, memory_stream_at(stream, pending->id),
		     pending->deliveries);
	}
}

static void source_pending(struct rt_stream_source *base, struct rt_stream_op *user)
{
	submit(base, user, "pending", pending_effect);
}

/* XAUTOCLAIM: entries that are gone from the stream leave the pending list, whatever their age. */
static void claim_effect(struct memory_op *op)
{
	struct memory_group *group;
	struct command *command = of_op(op, &group);
	struct source *source = command->source;
	struct memory_stream *stream;
	struct memory_id from = { 0 };
	size_t at = 0;

	snprintf(command->next_cursor, sizeof(command->next_cursor), "0-0");
	if (group == NULL)
		return;
	stream = memory_stream_find(source->link.redis->streams, source->stream);
	memory_id_parse(command->user->cursor, &from);
	memory_group_saw(group, source->consumer, now_of(source));
	while (at < group->pending_count && memory_id_compare(group->pending[at].id, from) < 0)
		at++;
	while (at < group->pending_count) {
		struct memory_pending *pending = &group->pending[at];
		const struct memory_entry *entry = memory_stream_at(stream, pending->id);

		if (command->count == (size_t)command->user->count_max) {
			memory_id_format(pending->id, command->next_cursor);
			break;
		}
		if (entry == NULL) {
			command->lost_count++;
			memory_group_ack(group, pending->id);
			continue;
		}
		at++;
		if (now_of(source) - pending->delivered_ms < command->user->idle_ms)
			continue;
		memory_group_deliver(group, pending->id, source->consumer, now_of(source),
				     pending->deliveries + 1);
		take(source, command, entry->id, entry, pending->deliveries);
	}
}

static void source_claim(struct rt_stream_source *base, struct rt_stream_op *user)
{
	submit(base, user, "claim", claim_effect);
}

static void renew_effect(struct memory_op *op)
{
	struct memory_group *group;
	struct command *command = of_op(op, &group);
	struct source *source = command->source;

	for (size_t i = 0; group != NULL && i < command->user->id_count; i++) {
		struct memory_pending *pending;
		struct memory_id id;

		if (!memory_id_parse(command->user->ids[i], &id))
			continue;
		pending = memory_group_pending(group, id);
		if (pending != NULL)
			memory_group_deliver(group, id, source->consumer, now_of(source),
					     command->user->deliveries > 0
						     ? command->user->deliveries
						     : pending->deliveries);
	}
}

static void source_renew(struct rt_stream_source *base, struct rt_stream_op *user)
{
	submit(base, user, "renew", renew_effect);
}

static void source_recount(struct rt_stream_source *base, struct rt_stream_op *user)
{
	submit(base, user, "recount", renew_effect);
}

/* XACK of a group that is gone answers 0: that is no error. */
static void ack_effect(struct memory_op *op)
{
	struct command *command = RT_CONTAINER_OF(op, struct command, op);
	struct source *source = command->source;

	for (size_t i = 0; i < command->user->id_count; i++)
		memory_ack(source->link.redis, source->stream, source->group,
			   command->user->ids[i]);
}

static void source_ack(struct rt_stream_source *base, struct rt_stream_op *user)
{
	submit(base, user, "ack", ack_effect);
}

static void bury_one(struct source *source, struct memory_id id, const char *reason)
{
	struct memory_streams *streams = source->link.redis->streams;
	const struct memory_entry *entry =
		memory_stream_at(memory_stream_find(streams, source->stream), id);
	char *dead = rt_printf("%s:{0}:dead", source->context);
	struct memory_stream *letters = memory_stream_get(streams, dead);
	struct memory_entry copy = { 0 };
	char text[MEMORY_ID_TEXT], deliveries[16], time[RT_TIME_TEXT];
	const char *more[] = { "stream",     source->stream, "stream_id", text,
			       "group",      source->group,  "reason",    reason,
			       "deliveries", deliveries,     "dead_time", time };

	memory_id_format(id, text);
	rt_time_format(now_of(source), time);
	snprintf(deliveries, sizeof(deliveries), "%u",
		 (unsigned int)memory_group_pending(group_now(source), id)->deliveries);
	if (entry != NULL)
		memory_entry_copy(&copy, entry);
	copy.fields = rt_realloc(copy.fields,
				 (copy.field_count + RT_LENGTH(more)) * sizeof(*copy.fields));
	copy.lengths = rt_realloc(copy.lengths,
				  (copy.field_count + RT_LENGTH(more)) * sizeof(*copy.lengths));
	for (size_t i = 0; i < RT_LENGTH(more); i++) {
		copy.lengths[copy.field_count] = strlen(more[i]);
		copy.fields[copy.field_count++] = rt_strdup(more[i]);
	}
	copy.id = (struct memory_id){ .ms = RT_MAX(now_of(source), letters->last.ms),
				      .n = letters->last.n + 1 };
	memory_stream_add(streams, dead, &copy);
	memory_entry_done(&copy);
	free(dead);
}

static void bury_effect(struct memory_op *op)
{
	struct memory_group *group;
	struct command *command = of_op(op, &group);
	struct source *source = command->source;

	for (size_t i = 0; i < command->user->id_count; i++) {
		struct memory_id id;

		if (group == NULL || !memory_id_parse(command->user->ids[i], &id) ||
		    memory_group_pending(group, id) == NULL)
			continue;
		bury_one(source, id, command->user->reason);
		memory_group_ack(group, id);
	}
}

static void source_bury(struct rt_stream_source *base, struct rt_stream_op *user)
{
	submit(base, user, "bury", bury_effect);
}

/* ---- the group ---- */

static struct memory_cursor *cursor_of(struct source *source)
{
	char *key = rt_printf("%s %s", source->context, source->stream);
	struct memory_cursor *cursor = memory_cursor(source->link.redis, key);

	free(key);
	return cursor;
}

static void ensure_effect(struct memory_op *op)
{
	struct source *source = RT_CONTAINER_OF(op, struct command, op)->source;
	struct memory_stream *stream =
		memory_stream_get(source->link.redis->streams, source->stream);
	struct memory_id mark = cursor_of(source)->mark;

	/* A cursor ahead of the stream is about an earlier one: everything is new. */
	if (memory_id_compare(stream->last, mark) < 0)
		mark = (struct memory_id){ 0 };
	memory_group_make(stream, source->group, mark);
}

static void source_ensure(struct rt_stream_source *base, struct rt_stream_op *user)
{
	submit(base, user, "ensure", ensure_effect);
}

static void drop_idle(struct source *source, struct memory_group *group, int64_t idle_ms)
{
	for (size_t i = 0; i < group->consumer_count;) {
		const struct memory_consumer *consumer = &group->consumers[i];
		bool holds = strcmp(consumer->name, source->consumer) == 0 ||
			     now_of(source) - consumer->seen_ms <= idle_ms;

		for (size_t j = 0; j < group->pending_count && !holds; j++)
			holds = strcmp(group->pending[j].consumer, consumer->name) == 0;
		if (holds)
			i++;
		else
			memory_group_drop_consumer(group, consumer->name);
	}
}

static void tend_effect(struct memory_op *op)
{
	struct memory_group *group;
	struct command *command = of_op(op, &group);
	struct source *source = command->source;
	struct rt_stream_info *info = &command->info_now;
	struct memory_stream *stream;
	struct memory_id mark;

	if (group == NULL)
		return;
	stream = memory_stream_find(source->link.redis->streams, source->stream);
	memory_group_saw(group, source->consumer, now_of(source));
	mark = group->delivered;
	info->pending = (int64_t)group->pending_count;
	info->lag = (int64_t)(stream->count - memory_stream_after(stream, group->delivered));
	if (group->pending_count > 0) {
		mark = group->pending[0].id;
		info->oldest_pending_ms = RT_MAX(now_of(source) - mark.ms, 1);
		mark.n--;
	}
	cursor_of(source)->mark = mark;
	drop_idle(source, group, command->user->idle_ms);
}

static void source_tend(struct rt_stream_source *base, struct rt_stream_op *user,
			struct rt_stream_info *info)
{
	submit(base, user, "tend", tend_effect)->info = info;
}

/* ---- life ---- */

static void source_free(struct rt_stream_source *base)
{
	struct source *source = of(base);

	memory_link_done(&source->link);
	free(source->stream);
	free(source->group);
	free(source->consumer);
	free(source->context);
	free(source);
}

static const struct rt_stream_ops ops = {
	.read = source_read,
	.pending = source_pending,
	.claim = source_claim,
	.renew = source_renew,
	.recount = source_recount,
	.ack = source_ack,
	.bury = source_bury,
	.ensure = source_ensure,
	.tend = source_tend,
	.interrupt = source_interrupt,
	.free = source_free,
};

struct rt_stream_source *source_memory_new(struct memory_redis *redis,
					   const struct memory_source_options *options)
{
	struct source *source = rt_alloc(sizeof(*source));

	source->base.ops = &ops;
	source->base.loop = redis->loop;
	source->stream = rt_strdup(options->stream);
	source->group = rt_strdup(options->group);
	source->consumer = rt_strdup(options->consumer);
	source->context = rt_strdup(options->context);
	memory_link_init(&source->link, redis, options->process, options->fault, options->user);
	return &source->base;
}

struct memory_link *source_memory_link(struct rt_stream_source *base)
{
	return &of(base)->link;
}
