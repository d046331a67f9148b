/* reads.c - the blocking XREADGROUP: one connection reads the streams of several partitions that lie in one Redis.
 *
 * A read wakes Redis and this process, whatever it brings. With a connection for each stream, the entries that are
 * written to eight partitions one after the other cost eight reads; this way mostly one.
 *
 *   WAITS ──the one under way has ended: goes with all others that wait──▶ UNDER WAY ──▶ done
 *     └──interrupted──▶ GIVEN UP ──▶ done
 *
 * What asks while a read is under way waits for its end: a read that goes without some stream blocks for a moment only. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "reads_internal.h"
#include "redis/redis.h"

#define LATE_BLOCK_MS 20 /* how long a read blocks that goes without some stream */
#define TIMEOUT_MS    2000
#define QUOTED        128 /* bytes of a stream's name in an error */

struct rt_reads {
	struct rt_loop *loop;
	struct rt_redis *redis;
	char *group, *consumer;
	size_t members;
	struct rt_list waiting, given_up, under_way; /* struct rt_read */
	struct rt_task task; /* sends what waits, once all of a turn have asked */
	struct rt_redis_op op;
	bool busy;
	bool released;      /* by who made it: the streams that have joined keep it */
	bool freed;         /* while the task was queued: the task frees */
	int64_t timeout_ms; /* on top of the time a read blocks */
};

struct rt_redis *rt_reads_redis(const struct rt_reads *reads)
{
	return reads->redis;
}

static struct rt_read *first_of(const struct rt_list *list)
{
	return rt_list_empty(list) ? NULL : RT_CONTAINER_OF(list->next, struct rt_read, link);
}

static void end(struct rt_read *read, int status, const redisReply *entries)
{
	rt_list_remove(&read->link);
	read->state = RT_READ_NONE;
	read->done(read, status, entries);
}

/* ---- answers ---- */

/* nil, or [[stream, entries] …]. */
static bool is_answer(const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_NIL)
		return true;
	if (!rt_reply_is_array(reply, 0))
		return false;
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *part = reply->element[i];

		if (!rt_reply_is_array(part, 2) || !rt_reply_is_string(part->element[0]) ||
		    !rt_reply_is_array(part->element[1], 0))
			return false;
	}
	return true;
}

static const redisReply *entries_of(const redisReply *reply, const char *stream)
{
	for (size_t i = 0; reply->type != REDIS_REPLY_NIL && i < reply->elements; i++) {
		if (strcmp(reply->element[i]->element[0]->str, stream) == 0)
			return reply->element[i]->element[1];
	}
	return NULL;
}

/* Redis reads all streams or none, and names one that is gone or lacks the group. A stream that is deleted while the read
 * blocks is not named: the next read says which it was. */
static int status_of_gone(const struct rt_read *read, const struct rt_read *named, bool alone,
			  const redisReply *error)
{
	bool deleted = strncmp(error->str, "UNBLOCKED", strlen("UNBLOCKED")) == 0;

	if (alone || read == named || (named == NULL && !deleted))
		return RT_NOGROUP;
	return RT_OK;
}

static struct rt_read *named_in(const redisReply *error, const struct rt_list *list)
{
	char quoted[QUOTED];

	for (struct rt_list *at = list->next; at != list; at = at->next) {
		struct rt_read *read = RT_CONTAINER_OF(at, struct rt_read, link);

		snprintf(quoted, sizeof(quoted), "'%s'", read->stream);
		if (strstr(error->str, quoted) != NULL)
			return read;
	}
	return NULL;
}

static void read_done(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct rt_reads *reads = RT_CONTAINER_OF(op, struct rt_reads, op);
	const struct rt_read *named = NULL;
	struct rt_list over;
	struct rt_read *read;
	bool alone;

	reads->busy = false;
	rt_list_init(&over);
	rt_list_move(&over, &reads->under_way); /* those that ask again wait for the next one */
	alone = over.next == over.prev;
	if (status == RT_OK && !is_answer(reply))
		status = RT_PROTOCOL;
	if (status == RT_NOGROUP)
		named = named_in(reply, &over);
	while ((read = first_of(&over)) != NULL) {
		if (status == RT_OK)
			end(read, RT_OK, entries_of(reply, read->stream));
		else if (status == RT_NOGROUP)
			end(read, status_of_gone(read, named, alone, reply), NULL);
		else
			end(read, status, NULL);
	}
	rt_loop_defer(reads->loop, &reads->task);
}

/* ---- asking ---- */

static void send_waiting(struct rt_reads *reads)
{
	struct rt_args args = { .count = 0 };
	struct rt_read *read = first_of(&reads->waiting);
	int count_max = read->count_max;
	int64_t block_ms = read->block_ms;
	size_t going = 0;

	rt_list_move(&reads->under_way, &reads->waiting);
	for (struct rt_list *at = reads->under_way.next; at != &reads->under_way; at = at->next) {
		read = RT_CONTAINER_OF(at, struct rt_read, link);
		read->state = RT_READ_UNDER_WAY;
		count_max = RT_MIN(count_max, read->count_max);
		block_ms = RT_MIN(block_ms, read->block_ms);
		going++;
	}
	if (going < reads->members)
		block_ms = RT_MIN(block_ms, LATE_BLOCK_MS);
	rt_args_str(&args, "XREADGROUP");
	rt_args_str(&args, "GROUP");
	rt_args_str(&args, reads->group);
	rt_args_str(&args, reads->consumer);
	rt_args_str(&args, "COUNT");
	rt_args_int(&args, count_max);
	if (block_ms > 0) {
		/* BLOCK 0 would wait forever. */
		rt_args_str(&args, "BLOCK");
		rt_args_int(&args, block_ms);
	}
	rt_args_str(&args, "STREAMS");
	for (struct rt_list *at = reads->under_way.next; at != &reads->under_way; at = at->next)
		rt_args_str(&args, RT_CONTAINER_OF(at, struct rt_read, link)->stream);
	for (size_t i = 0; i < going; i++)
		rt_args_str(&args, ">");
	reads->busy = true;
	rt_redis_send(reads->redis, &reads->op, &args, RT_MAX(block_ms, 0) + reads->timeout_ms,
		      read_done);
	rt_args_done(&args);
}

static void on_task(struct rt_task *task)
{
	struct rt_reads *reads = RT_CONTAINER_OF(task, struct rt_reads, task);
	struct rt_read *read;

	if (reads->freed) {
		free(reads);
		return;
	}
	while ((read = first_of(&reads->given_up)) != NULL)
		end(read, RT_CANCELED, NULL);
	if (!reads->busy && !rt_list_empty(&reads->waiting))
		send_waiting(reads);
}

void rt_reads_ask(struct rt_reads *reads, struct rt_read *read)
{
	read->state = RT_READ_WAITS;
	rt_list_push(&reads->waiting, &read->link);
	rt_loop_defer(reads->loop, &reads->task);
}

void rt_reads_interrupt(struct rt_reads *reads, struct rt_read *read)
{
	if (read->state == RT_READ_WAITS) {
		read->state = RT_READ_GIVEN_UP;
		rt_list_remove(&read->link);
		rt_list_push(&reads->given_up, &read->link);
		rt_loop_defer(reads->loop, &reads->task);
	} else if (read->state == RT_READ_UNDER_WAY && reads->busy) {
		/* Redis forgets a read whose connection is closed. CLIENT UNBLOCK would be better, but it
		 * is an administrator's command. */
		rt_redis_reset(reads->redis);
	}
}

/* ---- life ---- */

static void free_if_over(struct rt_reads *reads)
{
	if (!reads->released || reads->members > 0)
		return;
	rt_redis_free(reads->redis);
	free(reads->group);
	free(reads->consumer);
	if (reads->task.queued)
		reads->freed = true;
	else
		free(reads);
}

void rt_reads_join(struct rt_reads *reads, struct rt_read *read)
{
	rt_list_init(&read->link);
	read->state = RT_READ_NONE;
	reads->members++;
}

void rt_reads_leave(struct rt_reads *reads, struct rt_read *read)
{
	rt_list_remove(&read->link);
	reads->members--;
	free_if_over(reads);
}

void rt_reads_release(struct rt_reads *reads)
{
	if (reads == NULL)
		return;
	reads->released = true;
	free_if_over(reads);
}

int rt_reads_new(struct rt_loop *loop, const struct rt_redis_options *options, int partition,
		 const char *group, const char *consumer, struct rt_reads **ret)
{
	struct rt_reads *reads = rt_alloc(sizeof(*reads));
	struct rt_redis_options own = *options;
	char *name = rt_printf("%s-reader", own.name != NULL ? own.name : group);
	int rc;

	reads->loop = loop;
	reads->task.run = on_task;
	rt_list_init(&reads->waiting);
	rt_list_init(&reads->given_up);
	rt_list_init(&reads->under_way);
	reads->group = rt_strdup(group);
	reads->consumer = rt_strdup(consumer);
	reads->timeout_ms = own.timeout_ms > 0 ? own.timeout_ms : TIMEOUT_MS;
	own.name = name;
	own.on_state = NULL; /* its answers show it */
	own.partition = partition;
	own.blocks = true;
	rc = rt_redis_new(loop, &own, &reads->redis);
	free(name);
	if (rc != RT_OK) {
		rt_reads_release(reads);
		return rc;
	}
	*ret = reads;
	return RT_OK;
}
