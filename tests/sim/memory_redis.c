/* memory_redis.c - the links of memory_redis.h and the sets by score.
 *
 * A link has two queues and two timers: the first request takes effect when it is due and goes
 * over to the answers; the first answer is handed over when it is due. What is behind a delayed
 * one waits, as on a real connection. */
#include "memory_redis.h"

#undef NDEBUG /* a simulation that cannot fail is none */
#include <assert.h>
#include <string.h>

const char *const memory_bug_names[MEMORY_BUGS] = {
	[MEMORY_BUG_SKIP_ACK] = "skip-ack",
	[MEMORY_BUG_FORGET_TOMBSTONE] = "forget-tombstone",
	[MEMORY_BUG_ANSWER_ANEW] = "answer-anew",
	[MEMORY_BUG_SKIP_COMPENSATION] = "skip-compensation",
};

/* ---- sets by score ---- */

static int compare(const struct memory_zset_entry *entry, const char *member, int64_t score)
{
	if (entry->score != score)
		return entry->score < score ? -1 : 1;
	return strcmp(entry->member, member);
}

static size_t place_of(const struct memory_zset *zset, const char *member, int64_t score)
{
	size_t from = 0, to = zset->count;

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (compare(&zset->entries[middle], member, score) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static bool find(const struct memory_zset *zset, const char *member, size_t *ret)
{
	for (size_t i = 0; i < zset->count; i++) {
		if (strcmp(zset->entries[i].member, member) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

void memory_zset_set(struct memory_zset *zset, const char *member, int64_t score)
{
	size_t at;

	if (find(zset, member, &at) && zset->entries[at].score == score)
		return;
	memory_zset_remove(zset, member);
	if (zset->count == zset->capacity) {
		zset->capacity = RT_MAX(zset->capacity * 2, 16);
		zset->entries = rt_realloc(zset->entries, zset->capacity * sizeof(*zset->entries));
	}
	at = place_of(zset, member, score);
	memmove(&zset->entries[at + 1], &zset->entries[at],
		(zset->count - at) * sizeof(*zset->entries));
	zset->entries[at].member = rt_strdup(member);
	zset->entries[at].score = score;
	zset->count++;
}

void memory_zset_remove(struct memory_zset *zset, const char *member)
{
	size_t at;

	if (!find(zset, member, &at))
		return;
	free(zset->entries[at].member);
	zset->count--;
	memmove(&zset->entries[at], &zset->entries[at + 1],
		(zset->count - at) * sizeof(*zset->entries));
}

bool memory_zset_score(const struct memory_zset *zset, const char *member, int64_t *ret)
{
	size_t at;

	if (!find(zset, member, &at))
		return false;
	*ret = zset->entries[at].score;
	return true;
}

void memory_zset_done(struct memory_zset *zset)
{
	for (size_t i = 0; i < zset->count; i++)
		free(zset->entries[i].member);
	free(zset->entries);
	*zset = (struct memory_zset){ 0 };
}

/* ---- effects that come too late ---- */

static void late_ends(struct memory_op *op)
{
	rt_timer_stop(op->owner->redis->loop, &op->late_timer);
	rt_list_remove(&op->link);
	op->finish(op, RT_CANCELED);
}

static void take_effect(struct memory_op *op)
{
	struct memory_streams *streams = op->owner->redis->streams;

	memory_streams_step(streams);
	op->effect(op);
	memory_streams_step_end(streams);
}

static void late_comes(struct rt_timer *timer)
{
	struct memory_op *op = RT_CONTAINER_OF(timer, struct memory_op, late_timer);

	take_effect(op);
	late_ends(op);
}

static void late_start(struct memory_redis *redis, const struct memory_op *op, int64_t delay_ms)
{
	struct memory_op *copy = op->copy(op);

	copy->owner = redis->late_link;
	copy->effect = op->effect;
	copy->finish = op->finish;
	rt_list_init(&copy->link);
	rt_list_push(&redis->late, &copy->link);
	rt_timer_start(redis->loop, &copy->late_timer, delay_ms, late_comes);
}

size_t memory_redis_late(const struct memory_redis *redis)
{
	size_t count = 0;

	for (const struct rt_list *at = redis->late.next; at != &redis->late; at = at->next)
		count++;
	return count;
}

/* ---- the Redis ---- */

struct memory_redis *memory_redis_new(struct rt_loop *loop)
{
	struct memory_redis *redis = rt_alloc(sizeof(*redis));

	redis->loop = loop;
	redis->streams = memory_streams_new();
	redis->orders = memory_orders_new();
	redis->inventory = memory_inventory_new();
	rt_list_init(&redis->late);
	redis->late_link = rt_alloc(sizeof(*redis->late_link));
	memory_link_init(redis->late_link, redis, "late", NULL, NULL);
	return redis;
}

void memory_redis_free(struct memory_redis *redis)
{
	if (redis == NULL)
		return;
	while (!rt_list_empty(&redis->late))
		late_ends(RT_CONTAINER_OF(redis->late.next, struct memory_op, link));
	memory_orders_free(redis->orders);
	memory_inventory_free(redis->inventory);
	memory_streams_free(redis->streams);
	for (size_t i = 0; i < RT_LENGTH(redis->cursors); i++)
		free(redis->cursors[i].key);
	free(redis->late_link);
	free(redis);
}

struct memory_cursor *memory_cursor(struct memory_redis *redis, const char *key)
{
	size_t i = 0;

	while (redis->cursors[i].key != NULL && strcmp(redis->cursors[i].key, key) != 0) {
		i++;
		assert(i < RT_LENGTH(redis->cursors));
	}
	if (redis->cursors[i].key == NULL)
		redis->cursors[i].key = rt_strdup(key);
	return &redis->cursors[i];
}

void memory_ack(struct memory_redis *redis, const char *stream_name, const char *group_name,
		const char *id_text)
{
	struct memory_stream *stream = memory_stream_find(redis->streams, stream_name);
	struct memory_group *group = stream == NULL ? NULL : memory_group_find(stream, group_name);
	struct memory_id id;

	if (group != NULL && redis->bug != MEMORY_BUG_SKIP_ACK && memory_id_parse(id_text, &id))
		memory_group_ack(group, id);
}

/* ---- links ---- */

static struct memory_op *first_of(struct rt_list *queue)
{
	return rt_list_empty(queue) ? NULL : RT_CONTAINER_OF(queue->next, struct memory_op, link);
}

static void requests_due(struct rt_timer *timer);
static void answers_due(struct rt_timer *timer);

static void arm(struct memory_link *link)
{
	struct rt_loop *loop = link->redis->loop;
	struct memory_op *request = first_of(&link->requests);
	struct memory_op *answer = first_of(&link->answers);

	if (request != NULL && !rt_timer_running(&link->request_timer))
		rt_timer_start(loop, &link->request_timer,
			       RT_MAX(request->due_ms - rt_loop_now(loop), 0), requests_due);
	if (answer != NULL && !rt_timer_running(&link->answer_timer))
		rt_timer_start(loop, &link->answer_timer,
			       RT_MAX(answer->due_ms - rt_loop_now(loop), 0), answers_due);
}

static int ask(struct memory_link *link, const struct memory_op *op, bool after, int64_t *delay_ms)
{
	struct memory_io io = {
		.link = link, .what = op->what, .subject = op->subject, .after = after
	};

	*delay_ms = 0;
	return link->fault == NULL ? RT_OK : link->fault(link->user, &io, delay_ms);
}

/* One request takes effect, or does not; its answer sets out. */
static void serve(struct memory_link *link, struct memory_op *op)
{
	int64_t delay_ms = 0;
	int status;

	if (op->status == RT_OK && link->dead)
		op->status = RT_CANCELED;
	if (op->status == RT_OK) {
		take_effect(op);
		status = ask(link, op, true, &delay_ms);
		/* The hook may have killed or cut the link. */
		op->status = link->dead ? RT_CANCELED : status;
	}
	op->due_ms = rt_loop_now(link->redis->loop) + delay_ms;
	rt_list_push(&link->answers, &op->link);
}

static void requests_due(struct rt_timer *timer)
{
	struct memory_link *link = RT_CONTAINER_OF(timer, struct memory_link, request_timer);
	int64_t now = rt_loop_now(link->redis->loop);
	struct memory_op *op;

	while ((op = first_of(&link->requests)) != NULL && op->due_ms <= now) {
		rt_list_remove(&op->link);
		serve(link, op);
	}
	arm(link);
}

static void answers_due(struct rt_timer *timer)
{
	struct memory_link *link = RT_CONTAINER_OF(timer, struct memory_link, answer_timer);
	int64_t now = rt_loop_now(link->redis->loop);
	struct memory_op *op;
	struct rt_list due;

	rt_list_init(&due);
	while ((op = first_of(&link->answers)) != NULL && op->due_ms <= now) {
		rt_list_remove(&op->link);
		rt_list_push(&due, &op->link);
	}
	arm(link);
	while ((op = first_of(&due)) != NULL) {
		rt_list_remove(&op->link);
		op->finish(op, op->status);
	}
}

void memory_link_init(struct memory_link *link, struct memory_redis *redis, const char *process,
		      memory_fault_hook *fault, void *user)
{
	*link = (struct memory_link){
		.redis = redis, .process = process, .fault = fault, .user = user
	};
	rt_list_init(&link->requests);
	rt_list_init(&link->answers);
	rt_list_init(&link->waits);
}

#define LATE_AFTER_MS 100 /* a caller's patience, as the simulation has it */

void memory_link_submit(struct memory_link *link, struct memory_op *op, const char *what,
			const char *subject)
{
	int64_t delay_ms = 0;

	op->owner = link;
	op->what = what;
	op->subject = subject;
	if (link->dead)
		op->status = RT_CANCELED;
	else if (link->away)
		op->status = RT_LOST;
	else
		op->status = ask(link, op, false, &delay_ms);
	if (op->status == MEMORY_LATE) {
		op->status = op->copy == NULL ? RT_LOST : RT_TIMEOUT;
		if (op->copy != NULL)
			late_start(link->redis, op, delay_ms);
		delay_ms = RT_MIN(delay_ms, LATE_AFTER_MS);
	}
	if (link->dead)
		op->status = RT_CANCELED;
	op->due_ms = rt_loop_now(link->redis->loop) + delay_ms;
	rt_list_push(&link->requests, &op->link);
	arm(link);
}

/* Ends what is on its way, from the loop. */
static void lose(struct memory_link *link, int status)
{
	struct rt_loop *loop = link->redis->loop;
	struct rt_list *element;

	for (element = link->waits.next; element != &link->waits; element = element->next)
		memory_wait_interrupt(RT_CONTAINER_OF(element, struct memory_wait, link), status);
	for (element = link->answers.next; element != &link->answers; element = element->next) {
		struct memory_op *op = RT_CONTAINER_OF(element, struct memory_op, link);

		op->status = status;
		op->due_ms = rt_loop_now(loop);
	}
	while ((element = rt_list_pop(&link->requests)) != NULL) {
		struct memory_op *op = RT_CONTAINER_OF(element, struct memory_op, link);

		op->status = status;
		op->due_ms = rt_loop_now(loop);
		rt_list_push(&link->answers, &op->link);
	}
	rt_timer_stop(loop, &link->request_timer);
	rt_timer_stop(loop, &link->answer_timer);
	arm(link);
}

void memory_link_cut(struct memory_link *link, bool away)
{
	link->away = away;
	lose(link, RT_LOST);
}

void memory_link_back(struct memory_link *link)
{
	link->away = false;
}

void memory_link_kill(struct memory_link *link)
{
	link->dead = true;
	lose(link, RT_CANCELED);
}

/* ---- reads that wait ---- */

static void wait_home(struct rt_timer *timer)
{
	struct memory_wait *wait = RT_CONTAINER_OF(timer, struct memory_wait, timer);

	rt_list_remove(&wait->link);
	wait->under_way = false;
	wait->finish(wait, wait->status);
}

static void wait_ends(struct memory_wait *wait, int status, int64_t delay_ms)
{
	if (wait->waiting)
		memory_streams_unwait(&wait->waiter);
	wait->waiting = false;
	wait->status = status;
	rt_timer_start(wait->owner->redis->loop, &wait->timer, delay_ms, wait_home);
}

static void wait_answered(struct memory_wait *wait)
{
	struct memory_link *link = wait->owner;
	struct memory_io io = { .link = link, .what = wait->what, .subject = "", .after = true };
	int64_t delay_ms = 0;
	int status = link->fault == NULL ? RT_OK : link->fault(link->user, &io, &delay_ms);

	wait_ends(wait, link->dead ? RT_CANCELED : status, delay_ms);
}

static void wait_over(struct rt_timer *timer)
{
	wait_answered(RT_CONTAINER_OF(timer, struct memory_wait, timer));
}

static void wait_woken(struct memory_waiter *waiter)
{
	struct memory_wait *wait = RT_CONTAINER_OF(waiter, struct memory_wait, waiter);

	if (wait->look(wait))
		wait_answered(wait);
}

static void wait_arrives(struct rt_timer *timer)
{
	struct memory_wait *wait = RT_CONTAINER_OF(timer, struct memory_wait, timer);
	struct memory_redis *redis = wait->owner->redis;

	if (wait->status != RT_OK) {
		wait_home(timer);
	} else if (wait->look(wait) || wait->block_ms <= 0) {
		wait_answered(wait);
	} else {
		wait->waiting = true;
		wait->waiter.woken = wait_woken;
		memory_streams_wait(redis->streams, &wait->waiter);
		rt_timer_start(redis->loop, &wait->timer, wait->block_ms, wait_over);
	}
}

void memory_wait_start(struct memory_wait *wait, struct memory_link *link, const char *what,
		       int64_t block_ms)
{
	struct memory_io io = { .link = link, .what = what, .subject = "" };
	int64_t delay_ms = 0;

	assert(!wait->under_way);
	wait->owner = link;
	wait->what = what;
	wait->block_ms = block_ms;
	wait->under_way = true;
	wait->status = RT_OK;
	rt_list_push(&link->waits, &wait->link);
	if (!link->dead && !link->away && link->fault != NULL)
		wait->status = link->fault(link->user, &io, &delay_ms);
	if (link->away)
		wait->status = RT_LOST;
	if (link->dead)
		wait->status = RT_CANCELED;
	rt_timer_start(link->redis->loop, &wait->timer, delay_ms, wait_arrives);
}

void memory_wait_interrupt(struct memory_wait *wait, int status)
{
	if (wait->under_way)
		wait_ends(wait, status, 0);
}

void memory_link_done(struct memory_link *link)
{
	struct rt_list *element;

	link->dead = true;
	do {
		lose(link, RT_CANCELED);
		while ((element = rt_list_pop(&link->answers)) != NULL) {
			struct memory_op *op = RT_CONTAINER_OF(element, struct memory_op, link);

			op->finish(op, RT_CANCELED);
		}
		while (!rt_list_empty(&link->waits)) {
			struct memory_wait *wait =
				RT_CONTAINER_OF(link->waits.next, struct memory_wait, link);

			rt_timer_stop(link->redis->loop, &wait->timer);
			wait_home(&wait->timer);
		}
	} while (!rt_list_empty(&link->requests)); /* a done sent something more */
	rt_timer_stop(link->redis->loop, &link->request_timer);
	rt_timer_stop(link->redis->loop, &link->answer_timer);
}
