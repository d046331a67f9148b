/* stream_redis.c - the stream source over Redis.
 *
 * The blocking XREADGROUP has a connection of its own, because answers come in order and a read
 * that waits would hold up everything behind it. All else shares the service's connection.
 *
 * XAUTOCLAIM does not say how often an entry was delivered; XPENDING does, so it is sent just ahead
 * of it, in the same write, and what it counted is remembered for the one answer.
 *
 * Entries point into hiredis's reply: nothing is copied, and they end with the callback. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "redis/redis.h"
#include "stream_internal.h"

#define COUNTED_MAX 1024 /* entries whose deliveries are remembered; callers ask for fewer */
#define ID_TEXT     48

struct counted {
	char id[ID_TEXT];
	uint32_t deliveries;
};
/* Entries of others that are taken over: XPENDING, then XAUTOCLAIM. */
struct again {
	struct rt_redis_op count, fetch;
	struct rt_stream_op *op;
	struct counted *counted;
	size_t counted_count;
};
struct stream_redis {
	struct rt_stream_source source;
	struct rt_redis *reader, *commands;
	char *stream, *group, *consumer;
	char *own_stream, *cursor_key;
	const struct rt_functions *functions;
	int64_t timeout_ms; /* of the reader, on top of the time a read waits */
	struct again claim;
	struct rt_redis_op read_op, pending_op, renew_op, recount_op, ack_op, bury_op, maintain_op;
	struct rt_stream_op *read, *pending, *renew, *recount, *ack, *bury, *maintain, *ensure;
	struct rt_redis_op groups_op, cursor_op, stream_op, create_op;
	struct rt_stream_info *maintain_info;
	char cursor[ID_TEXT]; /* ensure: where to create the group */
};

static struct stream_redis *of_source(struct rt_stream_source *source)
{
	return RT_CONTAINER_OF(source, struct stream_redis, source);
}

/* Ends an operation that gives no entries. */
static void finish(struct rt_stream_op *op, int status)
{
	op->entries = NULL;
	op->entry_count = 0;
	op->done(op, status);
}

/* ---- replies to entries ---- */

static bool is_array(const redisReply *reply, size_t elements_min)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements >= elements_min;
}

static bool is_text(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_STRING;
}

static bool entry_fill(struct rt_entry *entry, const redisReply *reply, char **fields,
		       size_t *lengths)
{
	if (!is_array(reply, 2) || !is_text(reply->element[0]))
		return false;
	*entry = (struct rt_entry){ .stream_id = reply->element[0]->str,
				    .fields = fields,
				    .lengths = lengths };
	if (reply->element[1]->type == REDIS_REPLY_NIL)
		return true; /* deleted from the stream */
	if (!is_array(reply->element[1], 0))
		return false;
	for (size_t i = 0; i < reply->element[1]->elements; i++) {
		const redisReply *text = reply->element[1]->element[i];

		if (!is_text(text))
			return false;
		fields[i] = text->str;
		lengths[i] = (size_t)text->len;
	}
	entry->field_count = reply->element[1]->elements;
	return true;
}

static uint32_t deliveries_of(const struct again *again, const char *id)
{
	for (size_t i = 0; again != NULL && i < again->counted_count; i++) {
		if (strcmp(again->counted[i].id, id) == 0)
			return again->counted[i].deliveries + 1; /* and this one */
	}
	return 0;
}

/* What stands behind the fields, where it does; else the entry is new. */
static uint32_t deliveries_told(const redisReply *entry)
{
	if (entry->elements < 3 || entry->element[2]->type != REDIS_REPLY_INTEGER)
		return 1;
	return (uint32_t)RT_MIN(entry->element[2]->integer, (long long)UINT32_MAX - 1);
}

/* Runs done with the entries of a reply's array; all of it lives in one block until then. */
static void finish_entries(struct rt_stream_op *op, const redisReply *list,
			   const struct again *again)
{
	size_t texts = 0, at = 0;
	struct rt_entry *entries;
	char **fields;
	size_t *lengths;

	for (size_t i = 0; i < list->elements; i++) {
		const redisReply *entry = list->element[i];

		if (is_array(entry, 2) && is_array(entry->element[1], 0))
			texts += entry->element[1]->elements;
	}
	entries = rt_alloc(list->elements * sizeof(*entries) + 1);
	fields = rt_alloc(texts * sizeof(*fields) + 1);
	lengths = rt_alloc(texts * sizeof(*lengths) + 1);
	op->entries = entries;
	op->entry_count = 0;
	for (size_t i = 0; i < list->elements; i++) {
		struct rt_entry *entry = &entries[op->entry_count];

		if (list->element[i]->type == REDIS_REPLY_NIL)
			continue; /* Redis before 7: claimed and gone from the stream */
		if (!entry_fill(entry, list->element[i], fields + at, lengths + at)) {
			op->entry_count = 0;
			op->done(op, RT_PROTOCOL);
			goto out;
		}
		at += entry->field_count;
		entry->deliveries = again != NULL ? deliveries_of(again, entry->stream_id)
						  : deliveries_told(list->element[i]);
		op->entry_count++;
	}
	op->done(op, RT_OK);
out:
	free(entries);
	free(fields);
	free(lengths);
}

/* The answer of XREADGROUP: nil, or [[stream, entries]]. */
static void finish_read(struct rt_stream_op *op, int status, const redisReply *reply)
{
	if (status != RT_OK)
		finish(op, status);
	else if (reply->type == REDIS_REPLY_NIL)
		finish(op, RT_OK);
	else if (is_array(reply, 1) && is_array(reply->element[0], 2) &&
		 is_array(reply->element[0]->element[1], 0))
		finish_entries(op, reply->element[0]->element[1], NULL);
	else
		finish(op, RT_PROTOCOL);
}

/* ---- reading ---- */

static void read_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream_redis *self = RT_CONTAINER_OF(redis_op, struct stream_redis, read_op);

	finish_read(RT_TAKE(self->read), status, reply);
}

static void stream_read(struct rt_stream_source *source, struct rt_stream_op *op, int64_t block_ms)
{
	struct stream_redis *self = of_source(source);
	struct rt_args args = { .count = 0 };

	op->source = source;
	self->read = op;
	rt_args_str(&args, "XREADGROUP");
	rt_args_str(&args, "GROUP");
	rt_args_str(&args, self->group);
	rt_args_str(&args, self->consumer);
	rt_args_str(&args, "COUNT");
	rt_args_int(&args, op->count_max);
	if (block_ms > 0) {
		/* BLOCK 0 would wait for ever. */
		rt_args_str(&args, "BLOCK");
		rt_args_int(&args, block_ms);
	}
	rt_args_str(&args, "STREAMS");
	rt_args_str(&args, self->stream);
	rt_args_str(&args, ">");
	rt_redis_send(self->reader, &self->read_op, &args, RT_MAX(block_ms, 0) + self->timeout_ms,
		      read_done);
	rt_args_done(&args);
}

static void stream_interrupt(struct rt_stream_source *source)
{
	struct stream_redis *self = of_source(source);

	/* Redis forgets a read whose connection is closed. CLIENT UNBLOCK would be kinder, but it
	 * is an administrator's command. */
	if (self->read != NULL)
		rt_redis_reset(self->reader);
}

/* ---- entries that were delivered before ---- */

static void again_counted(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct again *again = RT_CONTAINER_OF(redis_op, struct again, count);

	again->counted_count = 0;
	if (status != RT_OK || !is_array(reply, 0))
		return; /* the fetch behind it ends the same way, or the counts stay unknown */
	for (size_t i = 0; i < reply->elements && i < COUNTED_MAX; i++) {
		const redisReply *row = reply->element[i];
		struct counted *counted = &again->counted[again->counted_count];

		if (!is_array(row, 4) || !is_text(row->element[0]) ||
		    row->element[3]->type != REDIS_REPLY_INTEGER)
			continue;
		snprintf(counted->id, sizeof(counted->id), "%s", row->element[0]->str);
		counted->deliveries =
			(uint32_t)RT_MIN(row->element[3]->integer, (long long)UINT32_MAX - 1);
		again->counted_count++;
	}
}

static void pending_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream_redis *self = RT_CONTAINER_OF(redis_op, struct stream_redis, pending_op);
	struct rt_stream_op *op = RT_TAKE(self->pending);

	if (status != RT_OK)
		finish(op, status);
	else if (!is_array(reply, 0))
		finish(op, RT_PROTOCOL);
	else
		finish_entries(op, reply, NULL);
}

static void stream_pending(struct rt_stream_source *source, struct rt_stream_op *op)
{
	struct stream_redis *self = of_source(source);
	struct rt_args args = { .count = 0 };

	op->source = source;
	self->pending = op;
	rt_args_function(&args, self->functions, "pending");
	rt_args_str(&args, "2");
	rt_args_str(&args, self->own_stream);
	rt_args_str(&args, self->stream);
	rt_args_str(&args, self->group);
	rt_args_str(&args, self->consumer);
	rt_args_str(&args, op->cursor);
	rt_args_int(&args, op->count_max);
	rt_redis_send(self->commands, &self->pending_op, &args, 0, pending_done);
	rt_args_done(&args);
}

static void claim_fetched(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct again *again = RT_CONTAINER_OF(redis_op, struct again, fetch);
	struct rt_stream_op *op = RT_TAKE(again->op);

	if (status != RT_OK) {
		finish(op, status);
	} else if (!is_array(reply, 2) || !is_text(reply->element[0]) ||
		   !is_array(reply->element[1], 0)) {
		finish(op, RT_PROTOCOL);
	} else {
		snprintf(op->next_cursor, sizeof(op->next_cursor), "%s", reply->element[0]->str);
		/* Ids that are pending but no longer in the stream; Redis has forgotten them now. */
		op->lost_count = reply->elements > 2 ? reply->element[2]->elements : 0;
		finish_entries(op, reply->element[1], again);
	}
}

static void stream_claim(struct rt_stream_source *source, struct rt_stream_op *op)
{
	struct stream_redis *self = of_source(source);
	struct rt_args args = { .count = 0 };

	op->source = source;
	op->lost_count = 0;
	snprintf(op->next_cursor, sizeof(op->next_cursor), "0-0");
	self->claim.op = op;
	rt_args_str(&args, "XPENDING");
	rt_args_str(&args, self->stream);
	rt_args_str(&args, self->group);
	rt_args_str(&args, "IDLE");
	rt_args_int(&args, op->idle_ms);
	rt_args_str(&args, op->cursor);
	rt_args_str(&args, "+");
	rt_args_int(&args, op->count_max);
	rt_redis_send(self->commands, &self->claim.count, &args, 0, again_counted);
	rt_args_clear(&args);
	rt_args_str(&args, "XAUTOCLAIM");
	rt_args_str(&args, self->stream);
	rt_args_str(&args, self->group);
	rt_args_str(&args, self->consumer);
	rt_args_int(&args, op->idle_ms);
	rt_args_str(&args, op->cursor);
	rt_args_str(&args, "COUNT");
	rt_args_int(&args, op->count_max);
	rt_redis_send(self->commands, &self->claim.fetch, &args, 0, claim_fetched);
	rt_args_done(&args);
}

/* ---- acknowledging ---- */

static void renew_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	(void)reply;
	finish(RT_TAKE(RT_CONTAINER_OF(redis_op, struct stream_redis, renew_op)->renew), status);
}

static void recount_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream_redis *self = RT_CONTAINER_OF(redis_op, struct stream_redis, recount_op);

	(void)reply;
	finish(RT_TAKE(self->recount), status);
}

/* Claims what is one's own: that restarts the idle clock. `recount`: and sets the count. */
static void claim_own(struct stream_redis *self, const struct rt_stream_op *op, bool recount)
{
	struct rt_args args = { .count = 0 };

	rt_args_str(&args, "XCLAIM");
	rt_args_str(&args, self->stream);
	rt_args_str(&args, self->group);
	rt_args_str(&args, self->consumer);
	rt_args_str(&args, "0");
	for (size_t i = 0; i < op->id_count; i++)
		rt_args_str(&args, op->ids[i]);
	if (recount) {
		rt_args_str(&args, "RETRYCOUNT");
		rt_args_int(&args, op->deliveries);
	}
	rt_args_str(&args, "JUSTID");
	rt_redis_send(self->commands, recount ? &self->recount_op : &self->renew_op, &args, 0,
		      recount ? recount_done : renew_done);
	rt_args_done(&args);
}

static void stream_renew(struct rt_stream_source *source, struct rt_stream_op *op)
{
	struct stream_redis *self = of_source(source);

	op->source = source;
	self->renew = op;
	claim_own(self, op, false);
}

static void stream_recount(struct rt_stream_source *source, struct rt_stream_op *op)
{
	struct stream_redis *self = of_source(source);

	op->source = source;
	self->recount = op;
	claim_own(self, op, true);
}

static void ack_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	(void)reply;
	finish(RT_TAKE(RT_CONTAINER_OF(redis_op, struct stream_redis, ack_op)->ack), status);
}

static void stream_ack(struct rt_stream_source *source, struct rt_stream_op *op)
{
	struct stream_redis *self = of_source(source);
	struct rt_args args = { .count = 0 };

	op->source = source;
	self->ack = op;
	rt_args_str(&args, "XACK");
	rt_args_str(&args, self->stream);
	rt_args_str(&args, self->group);
	for (size_t i = 0; i < op->id_count; i++)
		rt_args_str(&args, op->ids[i]);
	rt_redis_send(self->commands, &self->ack_op, &args, 0, ack_done);
	rt_args_done(&args);
}

static void bury_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	(void)reply;
	finish(RT_TAKE(RT_CONTAINER_OF(redis_op, struct stream_redis, bury_op)->bury), status);
}

static void stream_bury(struct rt_stream_source *source, struct rt_stream_op *op)
{
	struct stream_redis *self = of_source(source);
	struct rt_args args = { .count = 0 };
	char now[RT_TIME_TEXT];

	op->source = source;
	self->bury = op;
	rt_time_format(rt_loop_unix_ms(source->loop), now);
	rt_args_function(&args, self->functions, "bury");
	rt_args_str(&args, "2");
	rt_args_str(&args, self->own_stream);
	rt_args_str(&args, self->stream);
	rt_args_str(&args, self->group);
	rt_args_str(&args, now);
	rt_args_str(&args, op->reason);
	for (size_t i = 0; i < op->id_count; i++)
		rt_args_str(&args, op->ids[i]);
	rt_redis_send(self->commands, &self->bury_op, &args, 0, bury_done);
	rt_args_done(&args);
}

/* ---- the group ----
 *
 *   stream_ensure
 *     ensure_groups    the group is there: done. A full Redis would refuse to make it
 *     ensure_cursor    how far had the group come?
 *     ensure_stream    is the stream still the one the cursor is about?
 *     ensure_created   the group is there
 */

static bool id_parse(const char *id, uint64_t *ret_ms, uint64_t *ret_n)
{
	int end = 0;

	return sscanf(id, "%" SCNu64 "-%" SCNu64 "%n", ret_ms, ret_n, &end) == 2 && id[end] == '\0';
}

static bool id_less(const char *a, const char *b)
{
	uint64_t a_ms, a_n, b_ms, b_n;

	return id_parse(a, &a_ms, &a_n) && id_parse(b, &b_ms, &b_n) &&
	       (a_ms < b_ms || (a_ms == b_ms && a_n < b_n));
}

static void ensure_created(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream_redis *self = RT_CONTAINER_OF(redis_op, struct stream_redis, create_op);
	bool there = status == RT_REMOTE && strncmp(reply->str, "BUSYGROUP", 9) == 0;

	finish(RT_TAKE(self->ensure), there ? RT_OK : status);
}

/* The value of a flat { name, value, … } reply; NULL: none, or not a text. */
static const char *named(const redisReply *reply, const char *name)
{
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		if (is_text(reply->element[i]) && is_text(reply->element[i + 1]) &&
		    strcmp(reply->element[i]->str, name) == 0)
			return reply->element[i + 1]->str;
	}
	return NULL;
}

static void ensure_stream(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream_redis *self = RT_CONTAINER_OF(redis_op, struct stream_redis, stream_op);
	const char *last;

	if (status != RT_OK && status != RT_REMOTE) {
		finish(RT_TAKE(self->ensure), status);
		return;
	}
	last = status == RT_OK ? named(reply, "last-generated-id") : NULL;
	if (last == NULL)
		last = "0-0";
	/* A stream that ends before the cursor was made anew since: all of it is unread. */
	if (id_less(last, self->cursor))
		snprintf(self->cursor, sizeof(self->cursor), "0");
	rt_redis_command(self->commands, &self->create_op, 6,
			 (const char *[]){ "XGROUP", "CREATE", self->stream, self->group,
					   self->cursor, "MKSTREAM" },
			 NULL, 0, ensure_created);
}

static void ensure_cursor(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream_redis *self = RT_CONTAINER_OF(redis_op, struct stream_redis, cursor_op);
	uint64_t ms, n;

	if (status != RT_OK) {
		finish(RT_TAKE(self->ensure), status);
		return;
	}
	if (is_text(reply) && id_parse(reply->str, &ms, &n))
		snprintf(self->cursor, sizeof(self->cursor), "%" PRIu64 "-%" PRIu64, ms, n);
	else
		snprintf(self->cursor, sizeof(self->cursor), "0");
	rt_redis_command(self->commands, &self->stream_op, 3,
			 (const char *[]){ "XINFO", "STREAM", self->stream }, NULL, 0,
			 ensure_stream);
}

static void ensure_groups(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream_redis *self = RT_CONTAINER_OF(redis_op, struct stream_redis, groups_op);

	for (size_t i = 0; status == RT_OK && i < reply->elements; i++) {
		const char *name = named(reply->element[i], "name");

		if (name != NULL && strcmp(name, self->group) == 0) {
			finish(RT_TAKE(self->ensure), RT_OK);
			return;
		}
	}
	if (status != RT_OK && status != RT_REMOTE) { /* remote: there is no such key */
		finish(RT_TAKE(self->ensure), status);
		return;
	}
	rt_redis_command(self->commands, &self->cursor_op, 3,
			 (const char *[]){ "HGET", self->cursor_key, self->stream }, NULL, 0,
			 ensure_cursor);
}

static void stream_ensure(struct rt_stream_source *source, struct rt_stream_op *op)
{
	struct stream_redis *self = of_source(source);

	op->source = source;
	self->ensure = op;
	rt_redis_command(self->commands, &self->groups_op, 3,
			 (const char *[]){ "XINFO", "GROUPS", self->stream }, NULL, 0,
			 ensure_groups);
}

/* ---- housekeeping ---- */

static void maintain_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream_redis *self = RT_CONTAINER_OF(redis_op, struct stream_redis, maintain_op);
	struct rt_stream_info *info = self->maintain_info;
	uint64_t ms, n;

	if (status == RT_OK) {
		*info = (struct rt_stream_info){ .pending = 0 };
		if (!is_array(reply, 3) || reply->element[0]->type != REDIS_REPLY_INTEGER ||
		    !is_text(reply->element[1]) || reply->element[2]->type != REDIS_REPLY_INTEGER) {
			finish(RT_TAKE(self->maintain), RT_PROTOCOL);
			return;
		}
		info->pending = reply->element[0]->integer;
		info->lag = reply->element[2]->integer;
		if (id_parse(reply->element[1]->str, &ms, &n)) {
			int64_t age = rt_loop_unix_ms(self->source.loop) - (int64_t)ms;

			info->oldest_pending_ms = RT_MAX(age, 1);
		}
	}
	finish(RT_TAKE(self->maintain), status);
}

static void stream_maintain(struct rt_stream_source *source, struct rt_stream_op *op,
			    struct rt_stream_info *info)
{
	struct stream_redis *self = of_source(source);
	struct rt_args args = { .count = 0 };

	op->source = source;
	self->maintain = op;
	self->maintain_info = info;
	rt_args_function(&args, self->functions, "cursor");
	rt_args_str(&args, "2");
	rt_args_str(&args, self->own_stream);
	rt_args_str(&args, self->stream);
	rt_args_str(&args, self->group);
	rt_args_str(&args, self->consumer);
	rt_args_int(&args, op->idle_ms);
	rt_redis_send(self->commands, &self->maintain_op, &args, 0, maintain_done);
	rt_args_done(&args);
}

/* ---- life ---- */

static void stream_free(struct rt_stream_source *source)
{
	struct stream_redis *self = of_source(source);

	rt_redis_free(self->reader);
	free(self->stream);
	free(self->group);
	free(self->consumer);
	free(self->own_stream);
	free(self->cursor_key);
	free(self->claim.counted);
	free(self);
}

static const struct rt_stream_ops stream_ops = {
	.read = stream_read,
	.pending = stream_pending,
	.claim = stream_claim,
	.renew = stream_renew,
	.recount = stream_recount,
	.ack = stream_ack,
	.bury = stream_bury,
	.ensure = stream_ensure,
	.maintain = stream_maintain,
	.interrupt = stream_interrupt,
	.free = stream_free,
};

int rt_stream_redis_new(struct rt_loop *loop, const struct rt_stream_redis_options *options,
			struct rt_stream_source **ret)
{
	struct stream_redis *self = rt_alloc(sizeof(*self));
	struct rt_redis_options reader = *options->reader;
	const char *context = options->functions->name;
	char *name = rt_printf("%s-reader", reader.name != NULL ? reader.name : context);
	int rc;

	self->source = (struct rt_stream_source){ .ops = &stream_ops, .loop = loop };
	self->commands = options->commands;
	self->stream = rt_strdup(options->stream);
	self->group = rt_strdup(options->group);
	self->consumer = rt_strdup(options->consumer);
	self->own_stream = rt_printf("%s:{%d}:events", context, options->partition);
	self->cursor_key = rt_printf("%s:{%d}:cursor", context, options->partition);
	self->functions = options->functions;
	self->claim.counted = rt_alloc(COUNTED_MAX * sizeof(struct counted));
	self->timeout_ms = reader.timeout_ms > 0 ? reader.timeout_ms : 2000;
	reader.name = name;
	reader.on_state = NULL; /* its answers tell */
	rc = rt_redis_new(loop, &reader, &self->reader);
	free(name);
	if (rc != RT_OK)
		goto fail;
	*ret = &self->source;
	return RT_OK;
fail:
	stream_free(&self->source);
	return rc;
}
