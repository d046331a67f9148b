/* stream.c - a subscription in Redis.
 *
 * The blocking XREADGROUP has its own connection (reads.c), because answers come in order and a read that
 * waits would delay all commands after it. Everything else shares the service's connection.
 *
 * XAUTOCLAIM does not report how often an entry was delivered; XPENDING does, so it is sent just before
 * it, in the same write, and its counts are kept for that answer.
 *
 * Entries point into hiredis's reply: nothing is copied, and they end with the callback. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "reads_internal.h"
#include "redis/redis.h"
#include "stream_internal.h"

#define COUNTED_MAX 1024 /* entries whose deliveries are kept; callers ask for fewer */
#define ID_TEXT     48

struct counted {
	char id[ID_TEXT];
	uint32_t deliveries;
};
/* Takes over entries of other consumers: XPENDING, then XAUTOCLAIM. They are answered in this order, but the second
 * one ends first if it cannot be sent. */
struct claim {
	struct rt_redis_op count, fetch;
	bool counting; /* the first one is under way */
	int failed;    /* how the second one ended before it, if it did */
	struct rt_stream_op *op;
	struct counted *counted;
	size_t counted_count;
};
struct stream {
	struct rt_stream base;
	struct rt_reads *reads;
	struct rt_read read;
	struct rt_stream_op *read_op;
	struct rt_redis *commands;
	struct rt_redis_waiter waiter; /* for one of the two at a time */
	void (*connected)(void *user);
	void *connected_user;
	char *name, *group, *consumer, *aside; /* aside: the stream of events that were set aside */
	char *own_stream, *cursor_key;
	const struct rt_functions *functions;
	struct claim claim;
	struct rt_redis_op pending_op, renew_op, recount_op, ack_op, aside_op, dead_letter_op,
		maintain_op;
	struct rt_stream_op *pending, *renew, *recount, *ack, *set_aside, *dead_letter, *maintain,
		*ensure;
	struct rt_redis_op groups_op, cursor_op, stream_op, create_op, consumer_op;
	struct rt_stream_info *maintain_info;
	char cursor[ID_TEXT]; /* ensure: where to create the group */
};

static struct stream *of_base(struct rt_stream *base)
{
	return RT_CONTAINER_OF(base, struct stream, base);
}

/* The stream that an operation uses. */
static const char *key_of(const struct stream *self, const struct rt_stream_op *op)
{
	return op->aside ? self->aside : self->name;
}

/* Ends an operation without entries. */
static void finish(struct rt_stream_op *op, int status)
{
	op->entries = NULL;
	op->entry_count = 0;
	op->done(op, status);
}

/* ---- replies to entries ---- */

static bool entry_fill(struct rt_entry *entry, const redisReply *reply, struct rt_slice *texts)
{
	const redisReply *fields;

	if (!rt_reply_is_array(reply, 2) || !rt_reply_is_string(reply->element[0]))
		return false;
	fields = reply->element[1];
	*entry = (struct rt_entry){ .stream_id = reply->element[0]->str };
	if (fields->type == REDIS_REPLY_NIL)
		return true; /* deleted from the stream */
	return rt_entry_fields(fields, texts, &entry->fields) == NULL;
}

static uint32_t deliveries_of(const struct claim *claim, const char *id)
{
	for (size_t i = 0; claim != NULL && i < claim->counted_count; i++) {
		if (strcmp(claim->counted[i].id, id) == 0)
			return claim->counted[i].deliveries + 1; /* with this one */
	}
	return 0;
}

/* The number after the fields, if there is one; otherwise the entry is new. */
static uint32_t deliveries_in(const redisReply *entry)
{
	if (entry->elements < 3 || entry->element[2]->type != REDIS_REPLY_INTEGER)
		return 1;
	return (uint32_t)RT_MIN(entry->element[2]->integer, (long long)UINT32_MAX - 1);
}

/* Runs done with the entries of a reply's array; they live until then. */
static void finish_entries(struct rt_stream_op *op, const redisReply *list,
			   const struct claim *claim)
{
	size_t count = 0, at = 0;
	struct rt_entry *entries;
	struct rt_slice *texts;
	int status = RT_OK;

	for (size_t i = 0; i < list->elements; i++) {
		const redisReply *entry = list->element[i];

		if (rt_reply_is_array(entry, 2) && rt_reply_is_array(entry->element[1], 0))
			count += entry->element[1]->elements;
	}
	entries = rt_alloc(list->elements * sizeof(*entries) + 1);
	texts = rt_alloc(count * sizeof(*texts) + 1);
	op->entries = entries;
	op->entry_count = 0;
	for (size_t i = 0; status == RT_OK && i < list->elements; i++) {
		struct rt_entry *entry = &entries[op->entry_count];

		if (list->element[i]->type == REDIS_REPLY_NIL)
			continue; /* Redis before 7: claimed and gone from the stream */
		if (!entry_fill(entry, list->element[i], texts + at)) {
			op->entry_count = 0;
			status = RT_PROTOCOL;
			break;
		}
		at += entry->fields.count;
		entry->deliveries = claim != NULL ? deliveries_of(claim, entry->stream_id)
						  : deliveries_in(list->element[i]);
		op->entry_count++;
	}
	op->done(op, status);
	free(entries);
	free(texts);
}

/* ---- reading ---- */

static void read_done(struct rt_read *read, int status, const redisReply *entries)
{
	struct stream *self = RT_CONTAINER_OF(read, struct stream, read);
	struct rt_stream_op *op = RT_TAKE(self->read_op);

	if (entries == NULL)
		finish(op, status);
	else
		finish_entries(op, entries, NULL);
}

bool rt_stream_connected(const struct rt_stream *stream)
{
	const struct stream *self = RT_CONTAINER_OF(stream, const struct stream, base);

	return rt_redis_up(self->commands) && rt_redis_up(rt_reads_redis(self->reads));
}

uint64_t rt_stream_epoch(const struct rt_stream *stream)
{
	return rt_redis_epoch(RT_CONTAINER_OF(stream, const struct stream, base)->commands);
}

static void wait_for_connections(struct stream *self);

static void connection_up(struct rt_redis_waiter *waiter)
{
	wait_for_connections(RT_CONTAINER_OF(waiter, struct stream, waiter));
}

static void wait_for_connections(struct stream *self)
{
	if (!rt_redis_up(self->commands))
		rt_redis_await(self->commands, &self->waiter, connection_up);
	else if (!rt_redis_up(rt_reads_redis(self->reads)))
		rt_redis_await(rt_reads_redis(self->reads), &self->waiter, connection_up);
	else
		self->connected(self->connected_user);
}

void rt_stream_await(struct rt_stream *stream, void (*connected)(void *user), void *user)
{
	struct stream *self = of_base(stream);

	self->connected = connected;
	self->connected_user = user;
	wait_for_connections(self);
}

void rt_stream_read(struct rt_stream *stream, struct rt_stream_op *op, int64_t block_ms)
{
	struct stream *self = of_base(stream);

	self->read_op = op;
	self->read.count_max = op->count_max;
	self->read.block_ms = block_ms;
	rt_reads_ask(self->reads, &self->read);
}

void rt_stream_interrupt(struct rt_stream *stream)
{
	struct stream *self = of_base(stream);

	rt_reads_interrupt(self->reads, &self->read);
}

/* ---- entries that were delivered before ---- */

static void claim_counted(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct claim *claim = RT_CONTAINER_OF(redis_op, struct claim, count);

	claim->counted_count = 0;
	claim->counting = false;
	if (claim->failed != RT_OK) {
		finish(RT_TAKE(claim->op), claim->failed);
		return;
	}
	if (status != RT_OK || !rt_reply_is_array(reply, 0))
		return; /* the fetch fails the same way, or the counts stay unknown */
	for (size_t i = 0; i < reply->elements && i < COUNTED_MAX; i++) {
		const redisReply *row = reply->element[i];
		struct counted *counted = &claim->counted[claim->counted_count];

		if (!rt_reply_is_array(row, 4) || !rt_reply_is_string(row->element[0]) ||
		    row->element[3]->type != REDIS_REPLY_INTEGER)
			continue;
		snprintf(counted->id, sizeof(counted->id), "%s", row->element[0]->str);
		counted->deliveries =
			(uint32_t)RT_MIN(row->element[3]->integer, (long long)UINT32_MAX - 1);
		claim->counted_count++;
	}
}

static void pending_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, pending_op);
	struct rt_stream_op *op = RT_TAKE(self->pending);

	if (status != RT_OK)
		finish(op, status);
	else if (!rt_reply_is_array(reply, 0))
		finish(op, RT_PROTOCOL);
	else
		finish_entries(op, reply, NULL);
}

void rt_stream_pending(struct rt_stream *stream, struct rt_stream_op *op)
{
	struct stream *self = of_base(stream);
	struct rt_args args = { .count = 0 };

	self->pending = op;
	rt_args_function(&args, self->functions, "pending");
	rt_args_str(&args, "2");
	rt_args_str(&args, self->own_stream);
	rt_args_str(&args, key_of(self, op));
	rt_args_str(&args, self->group);
	rt_args_str(&args, self->consumer);
	rt_args_str(&args, op->cursor);
	rt_args_int(&args, op->count_max);
	rt_redis_send(self->commands, &self->pending_op, &args, 0, pending_done);
	rt_args_done(&args);
}

static void claim_fetched(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct claim *claim = RT_CONTAINER_OF(redis_op, struct claim, fetch);
	struct rt_stream_op *op;

	if (claim->counting) {
		claim->failed = status;
		return;
	}
	op = RT_TAKE(claim->op);
	if (status != RT_OK) {
		finish(op, status);
	} else if (!rt_reply_is_array(reply, 2) || !rt_reply_is_string(reply->element[0]) ||
		   !rt_reply_is_array(reply->element[1], 0)) {
		finish(op, RT_PROTOCOL);
	} else {
		snprintf(op->next_cursor, sizeof(op->next_cursor), "%s", reply->element[0]->str);
		/* Ids that were pending but are no longer in the stream; Redis has removed them. */
		op->lost_count = reply->elements > 2 ? reply->element[2]->elements : 0;
		finish_entries(op, reply->element[1], claim);
	}
}

void rt_stream_claim(struct rt_stream *stream, struct rt_stream_op *op)
{
	struct stream *self = of_base(stream);
	struct rt_args args = { .count = 0 };

	op->lost_count = 0;
	snprintf(op->next_cursor, sizeof(op->next_cursor), "0-0");
	self->claim.op = op;
	self->claim.counting = true;
	self->claim.failed = RT_OK;
	rt_args_str(&args, "XPENDING");
	rt_args_str(&args, key_of(self, op));
	rt_args_str(&args, self->group);
	rt_args_str(&args, "IDLE");
	rt_args_int(&args, op->idle_ms);
	rt_args_str(&args, op->cursor);
	rt_args_str(&args, "+");
	rt_args_int(&args, op->count_max);
	rt_redis_send(self->commands, &self->claim.count, &args, 0, claim_counted);
	rt_args_clear(&args);
	rt_args_str(&args, "XAUTOCLAIM");
	rt_args_str(&args, key_of(self, op));
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
	finish(RT_TAKE(RT_CONTAINER_OF(redis_op, struct stream, renew_op)->renew), status);
}

static void recount_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, recount_op);

	(void)reply;
	finish(RT_TAKE(self->recount), status);
}

/* Claims own entries, which restarts their idle clocks; with `recount` also sets their count. */
static void claim_own(struct stream *self, const struct rt_stream_op *op, bool recount)
{
	struct rt_args args = { .count = 0 };

	rt_args_str(&args, "XCLAIM");
	rt_args_str(&args, key_of(self, op));
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

void rt_stream_renew(struct rt_stream *stream, struct rt_stream_op *op)
{
	struct stream *self = of_base(stream);

	self->renew = op;
	claim_own(self, op, false);
}

void rt_stream_recount(struct rt_stream *stream, struct rt_stream_op *op)
{
	struct stream *self = of_base(stream);

	self->recount = op;
	claim_own(self, op, true);
}

static void ack_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	(void)reply;
	finish(RT_TAKE(RT_CONTAINER_OF(redis_op, struct stream, ack_op)->ack), status);
}

/* Entries of aside:… are also deleted: a function does both. */
void rt_stream_ack(struct rt_stream *stream, struct rt_stream_op *op)
{
	struct stream *self = of_base(stream);
	struct rt_args args = { .count = 0 };

	self->ack = op;
	if (op->aside) {
		rt_args_function(&args, self->functions, "acknowledge");
		rt_args_str(&args, "2");
		rt_args_str(&args, self->own_stream);
	} else {
		rt_args_str(&args, "XACK");
	}
	rt_args_str(&args, self->name);
	rt_args_str(&args, self->group);
	for (size_t i = 0; i < op->id_count; i++)
		rt_args_str(&args, op->ids[i]);
	rt_redis_send(self->commands, &self->ack_op, &args, 0, ack_done);
	rt_args_done(&args);
}

/* { stream id or "" for each event }, or nil: the entry is no longer ours. */
static void aside_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, aside_op);
	struct rt_stream_op *op = RT_TAKE(self->set_aside);

	op->taken = status == RT_OK && reply->type == REDIS_REPLY_NIL;
	if (status == RT_OK && !op->taken && !rt_reply_is_array(reply, op->aside_count))
		status = RT_PROTOCOL;
	for (size_t i = 0; status == RT_OK && !op->taken && i < op->aside_count; i++) {
		struct rt_aside *aside = &op->asides[i];

		if (!rt_reply_is_string(reply->element[i]) ||
		    (reply->element[i]->len == 0) != (aside->reason != NULL))
			status = RT_PROTOCOL;
		else
			snprintf(aside->stream_id, sizeof(aside->stream_id), "%s",
				 reply->element[i]->str);
	}
	finish(op, status);
}

void rt_stream_set_aside(struct rt_stream *stream, struct rt_stream_op *op)
{
	struct stream *self = of_base(stream);
	struct rt_args args = { .count = 0 };
	char now[RT_TIME_TEXT], seq[24];

	self->set_aside = op;
	rt_time_format(rt_loop_unix_ms(stream->loop), now);
	rt_args_function(&args, self->functions, "set_aside");
	rt_args_str(&args, "2");
	rt_args_str(&args, self->own_stream);
	rt_args_str(&args, self->name);
	rt_args_str(&args, self->group);
	rt_args_str(&args, self->consumer);
	rt_args_str(&args, op->ids[0]);
	rt_args_str(&args, now);
	for (size_t i = 0; i < op->aside_count; i++) {
		const struct rt_aside *aside = &op->asides[i];
		const struct rt_event *event = aside->event;

		rt_args_str(&args, aside->reason != NULL ? aside->reason : "");
		rt_args_int(&args, aside->deliveries);
		rt_args_str(&args, event->type);
		rt_args_str(&args, event->subject);
		rt_args_copy(&args, seq,
			     (size_t)snprintf(seq, sizeof(seq), "%" PRIu64, event->seq));
		rt_args_str(&args, event->time);
		rt_args_int(&args, event->attempt);
		rt_args_trace(&args, event->traceparent, event->tracestate);
		rt_args_str(&args, event->actor);
		rt_args_add(&args, event->data, event->data_length);
	}
	rt_redis_send(self->commands, &self->aside_op, &args, 0, aside_done);
	rt_args_done(&args);
}

static void dead_letter_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	(void)reply;
	finish(RT_TAKE(RT_CONTAINER_OF(redis_op, struct stream, dead_letter_op)->dead_letter),
	       status);
}

void rt_stream_dead_letter(struct rt_stream *stream, struct rt_stream_op *op)
{
	struct stream *self = of_base(stream);
	struct rt_args args = { .count = 0 };
	char now[RT_TIME_TEXT];

	self->dead_letter = op;
	rt_time_format(rt_loop_unix_ms(stream->loop), now);
	rt_args_function(&args, self->functions, "dead_letter");
	rt_args_str(&args, "2");
	rt_args_str(&args, self->own_stream);
	rt_args_str(&args, key_of(self, op));
	rt_args_str(&args, self->group);
	rt_args_str(&args, now);
	rt_args_str(&args, op->reason);
	for (size_t i = 0; i < op->id_count; i++)
		rt_args_str(&args, op->ids[i]);
	rt_redis_send(self->commands, &self->dead_letter_op, &args, 0, dead_letter_done);
	rt_args_done(&args);
}

/* ---- the group ----
 *
 *   stream_ensure
 *     ensure_groups        the group exists: on to the consumer. A full Redis would refuse to create the group
 *       ensure_cursor      how far had the group come?
 *       ensure_stream      is it still the stream for which the cursor was stored?
 *       ensure_created     the group exists
 *     consumer_created     so does the consumer, before it has read anything: whoever looks sees who reads
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

static void consumer_created(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, consumer_op);

	(void)reply;
	/* A full Redis refuses; reading creates it, too, as soon as there is something to read. */
	finish(RT_TAKE(self->ensure), status == RT_FULL ? RT_OK : status);
}

static void ensure_consumer(struct stream *self)
{
	rt_redis_command(self->commands, &self->consumer_op, 5,
			 (const char *[]){ "XGROUP", "CREATECONSUMER", self->name, self->group,
					   self->consumer },
			 NULL, 0, consumer_created);
}

static void ensure_created(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, create_op);

	if (status == RT_OK || (status == RT_REMOTE && strncmp(reply->str, "BUSYGROUP", 9) == 0))
		ensure_consumer(self);
	else
		finish(RT_TAKE(self->ensure), status);
}

/* The value of a flat { name, value, … } reply; NULL: none, or not a text. */
static const char *named(const redisReply *reply, const char *name)
{
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		if (rt_reply_is_string(reply->element[i]) &&
		    rt_reply_is_string(reply->element[i + 1]) &&
		    strcmp(reply->element[i]->str, name) == 0)
			return reply->element[i + 1]->str;
	}
	return NULL;
}

static void ensure_stream(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, stream_op);
	const char *last;

	if (status != RT_OK && status != RT_REMOTE) {
		finish(RT_TAKE(self->ensure), status);
		return;
	}
	last = status == RT_OK ? named(reply, "last-generated-id") : NULL;
	if (last == NULL)
		last = "0-0";
	/* A stream that ends before the cursor was created later: all of it is unread. */
	if (id_less(last, self->cursor))
		snprintf(self->cursor, sizeof(self->cursor), "0");
	rt_redis_command(self->commands, &self->create_op, 6,
			 (const char *[]){ "XGROUP", "CREATE", self->name, self->group,
					   self->cursor, "MKSTREAM" },
			 NULL, 0, ensure_created);
}

static void ensure_cursor(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, cursor_op);
	uint64_t ms, n;

	if (status != RT_OK) {
		finish(RT_TAKE(self->ensure), status);
		return;
	}
	if (rt_reply_is_string(reply) && id_parse(reply->str, &ms, &n))
		snprintf(self->cursor, sizeof(self->cursor), "%" PRIu64 "-%" PRIu64, ms, n);
	else
		snprintf(self->cursor, sizeof(self->cursor), "0");
	rt_redis_command(self->commands, &self->stream_op, 3,
			 (const char *[]){ "XINFO", "STREAM", self->name }, NULL, 0, ensure_stream);
}

static void ensure_groups(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, groups_op);

	for (size_t i = 0; status == RT_OK && i < reply->elements; i++) {
		const char *name = named(reply->element[i], "name");

		if (name != NULL && strcmp(name, self->group) == 0) {
			ensure_consumer(self);
			return;
		}
	}
	if (status != RT_OK && status != RT_REMOTE) { /* remote: the key does not exist */
		finish(RT_TAKE(self->ensure), status);
		return;
	}
	rt_redis_command(self->commands, &self->cursor_op, 3,
			 (const char *[]){ "HGET", self->cursor_key, self->name }, NULL, 0,
			 ensure_cursor);
}

void rt_stream_ensure(struct rt_stream *stream, struct rt_stream_op *op)
{
	struct stream *self = of_base(stream);

	self->ensure = op;
	rt_redis_command(self->commands, &self->groups_op, 3,
			 (const char *[]){ "XINFO", "GROUPS", self->name }, NULL, 0, ensure_groups);
}

/* ---- maintenance ---- */

static void maintain_done(struct rt_redis_op *redis_op, int status, const redisReply *reply)
{
	struct stream *self = RT_CONTAINER_OF(redis_op, struct stream, maintain_op);
	struct rt_stream_info *info = self->maintain_info;
	uint64_t ms, n;

	if (status == RT_OK) {
		*info = (struct rt_stream_info){ .pending = 0 };
		if (!rt_reply_is_array(reply, 7) ||
		    reply->element[0]->type != REDIS_REPLY_INTEGER ||
		    !rt_reply_is_string(reply->element[1]) ||
		    reply->element[2]->type != REDIS_REPLY_INTEGER) {
			finish(RT_TAKE(self->maintain), RT_PROTOCOL);
			return;
		}
		info->pending = reply->element[0]->integer;
		info->lag = reply->element[2]->integer;
		info->aside = rt_reply_int(reply->element[6]);
		if (id_parse(reply->element[1]->str, &ms, &n)) {
			int64_t age = rt_loop_unix_ms(self->base.loop) - (int64_t)ms;

			info->oldest_pending_ms = RT_MAX(age, 1);
		}
	}
	finish(RT_TAKE(self->maintain), status);
}

void rt_stream_maintain(struct rt_stream *stream, struct rt_stream_op *op,
			struct rt_stream_info *info)
{
	struct stream *self = of_base(stream);
	struct rt_args args = { .count = 0 };

	self->maintain = op;
	self->maintain_info = info;
	rt_args_function(&args, self->functions, "cursor");
	rt_args_str(&args, "2");
	rt_args_str(&args, self->own_stream);
	rt_args_str(&args, self->name);
	rt_args_str(&args, self->group);
	rt_args_str(&args, self->consumer);
	rt_args_int(&args, op->idle_ms);
	rt_redis_send(self->commands, &self->maintain_op, &args, 0, maintain_done);
	rt_args_done(&args);
}

/* ---- life ---- */

void rt_stream_free(struct rt_stream *stream)
{
	struct stream *self;

	if (stream == NULL)
		return;
	self = of_base(stream);
	rt_redis_forget(&self->waiter);
	rt_reads_leave(self->reads, &self->read);
	free(self->name);
	free(self->group);
	free(self->consumer);
	free(self->aside);
	free(self->own_stream);
	free(self->cursor_key);
	free(self->claim.counted);
	free(self);
}

struct rt_stream *rt_stream_new(struct rt_loop *loop, const struct rt_stream_options *options)
{
	struct stream *self = rt_alloc(sizeof(*self));
	const char *context = options->group;

	self->base.loop = loop;
	rt_list_init(&self->waiter.link);
	self->commands = options->commands;
	self->name = rt_strdup(options->stream);
	self->group = rt_strdup(options->group);
	self->consumer = rt_strdup(options->consumer);
	self->own_stream = rt_printf("%s:{%d}:events", context, options->partition);
	self->cursor_key = rt_printf("%s:{%d}:cursor", context, options->partition);
	/* As aside_of in events.lua. */
	self->aside = rt_printf("%s:{%d}:aside:%.*s", context, options->partition,
				(int)strcspn(options->stream, ":"), options->stream);
	self->functions = options->functions;
	self->claim.counted = rt_alloc(COUNTED_MAX * sizeof(struct counted));
	self->read.stream = self->name;
	self->read.done = read_done;
	self->reads = options->reads;
	rt_reads_join(self->reads, &self->read);
	return &self->base;
}
