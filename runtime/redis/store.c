/* store.c - a context's store on Redis: its connection, the watch over its functions, its queues. */
#include "connection_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WAIT_MS "300" /* commands behind a WAIT wait, too: well below a command's timeout */

struct rt_store_queue {
	struct rt_list link; /* store->queues */
	struct rt_store *store;
	const struct rt_store_step *step;
	void *user;
	struct rt_batch *batch;
};

struct rt_store {
	struct rt_loop *loop;
	struct rt_redis *redis;
	const struct rt_functions *functions;
	struct rt_functions_watch watch;
	struct rt_redis_options deploy; /* how the deploy user connects, with its texts */
	struct rt_arena texts;
	struct rt_metrics *metrics;
	char *events_key, *mark_key;
	bool seen; /* the data was there once */
	struct rt_redis_op look_op;
	bool looks;             /* whether it still is */
	struct rt_series *gone; /* how often it was not; NULL: no metrics */
	int replicas;           /* that a WAIT asks for; 0: none */
	char replicas_text[12];
	/* Runs whose durable command was answered: those that the WAIT under way covers, and later ones. */
	struct rt_list covered, answered;
	struct rt_redis_op wait;
	bool waits; /* one is under way */
	uint64_t wait_epoch;
	struct rt_list queues;
	struct rt_args args; /* of the command that is being put together */
	struct rt_list refused;
	struct rt_task refuse;
	bool freed; /* while the task was queued: the task frees */
};

/* An operation that ends without having been sent. */
struct refused {
	struct rt_list link;
	struct rt_store_queue *queue;
	void *op;
	int status;
};

/* ---- runs ---- */

static void run_end(struct rt_store_run *run, int status, const struct redisReply *reply)
{
	const struct rt_store_step *step = run->queue->step;
	bool whole = step->whole_answer || step->count_max == 1;
	struct rt_list *item;

	if (status == RT_OK && !whole && !rt_reply_is_array(reply, run->batch.count))
		status = RT_PROTOCOL;
	if (run->call.function != NULL) {
		run->call.answered_us = rt_wall_us();
		rt_function_answered = &run->call;
	}
	for (; (item = rt_list_pop(&run->batch.items)) != NULL; run->index++) {
		int rc = status;

		if (rc == RT_OK && step->decode != NULL)
			rc = step->decode(run, item, whole ? reply : reply->element[run->index]);
		step->end(item, rc);
	}
	rt_function_answered = NULL;
	rt_batch_finish(&run->batch);
}

static void run_answered(struct rt_redis_op *op, int status, const struct redisReply *reply);
static void run_kept(struct rt_redis_op *op, int status, const struct redisReply *reply);

static void run_command(struct rt_store_run *run)
{
	struct rt_store *store = run->queue->store;
	bool waits = run->queue->step->durable && store->replicas > 0;
	static uint64_t traced;

	run->commands++;
	if (rt_tracing && run->commands == 1)
		run->call = (struct rt_function_call){ .function = run->queue->step->name,
						       .count = run->batch.count,
						       .sent_us = rt_wall_us(),
						       .number = ++traced };
	rt_redis_send(store->redis, &run->op, run->args, 0, waits ? run_kept : run_answered);
}

/* ---- replicas ---- */

/* Goes on with runs whose answer was kept. */
static void runs_go_on(struct rt_store *store, struct rt_list *runs, int status)
{
	struct rt_list *link;

	while ((link = rt_list_pop(runs)) != NULL) {
		struct rt_store_run *run = RT_CONTAINER_OF(link, struct rt_store_run, link);
		struct rt_arena kept = run->kept;
		/* Behind another connection may be another master, which knows nothing of it. */
		bool same = run->epoch == store->wait_epoch;

		run->kept = (struct rt_arena){ .chunks = NULL };
		run_answered(&run->op, status == RT_OK && !same ? RT_UNCONFIRMED : status,
			     run->reply); /* may free the run */
		rt_arena_done(&kept);
	}
}

static void replicas_waited(struct rt_redis_op *op, int status, const struct redisReply *reply);

/* One WAIT at a time: it covers all that was answered before it, and several would add up, while no replica answers, to
 * more than a command's timeout. */
static void wait_for_replicas(struct rt_store *store)
{
	if (store->waits || rt_list_empty(&store->answered))
		return;
	store->waits = true;
	rt_list_move(&store->covered, &store->answered);
	store->wait_epoch = rt_redis_epoch(store->redis);
	rt_redis_command(store->redis, &store->wait, 3,
			 (const char *[]){ "WAIT", store->replicas_text, WAIT_MS }, NULL, 0,
			 replicas_waited);
}

static void replicas_waited(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct rt_store *store = RT_CONTAINER_OF(op, struct rt_store, wait);
	struct rt_list runs;

	if (status != RT_CANCELED && (status != RT_OK || rt_reply_int(reply) < store->replicas))
		status = RT_UNCONFIRMED;
	store->waits = false;
	rt_list_init(&runs);
	rt_list_move(&runs, &store->covered);
	runs_go_on(store, &runs, status);
	wait_for_replicas(store);
}

static void run_kept(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct rt_store_run *run = RT_CONTAINER_OF(op, struct rt_store_run, op);
	struct rt_store *store = run->queue->store;

	rt_batch_leave(&run->batch);
	if (status != RT_OK) {
		run_answered(op, status, reply);
		return;
	}
	run->reply = rt_reply_copy(&run->kept, reply);
	run->epoch = rt_redis_epoch(store->redis);
	rt_list_init(&run->link);
	rt_list_push(&store->answered, &run->link);
	wait_for_replicas(store);
}

static void run_answered(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct rt_store_run *run = RT_CONTAINER_OF(op, struct rt_store_run, op);
	const struct rt_store_queue *queue = run->queue;

	rt_batch_leave(&run->batch);
	rt_functions_watch_ended(&queue->store->watch, status);
	rt_args_clear(run->args);
	if (queue->step->answered != NULL && queue->step->answered(run, &status, reply))
		run_command(run);
	else
		run_end(run, status, reply);
}

/* Operations that waited while the connection became another one. */
static void end_outdated(struct rt_store_run *run, const struct rt_store_step *step)
{
	struct rt_list items, *item;

	rt_list_init(&items);
	rt_list_move(&items, &run->batch.items);
	while ((item = rt_list_pop(&items)) != NULL) {
		if (!step->outdated(item)) {
			rt_list_push(&run->batch.items, item);
			continue;
		}
		run->batch.count--;
		step->end(item, RT_LOST);
	}
}

static void run_send(struct rt_batch_run *batch_run, void *user)
{
	struct rt_store_run *run = RT_CONTAINER_OF(batch_run, struct rt_store_run, batch);
	struct rt_store_queue *queue = user;
	const struct rt_store_step *step = queue->step;
	struct rt_store *store = queue->store;

	run->queue = queue;
	run->user = queue->user;
	run->args = &store->args;
	if (step->needs_functions && !store->watch.loaded) {
		run_end(run, rt_redis_up(store->redis) ? RT_UNREADY : RT_LOST, NULL);
		return;
	}
	if (step->outdated != NULL)
		end_outdated(run, step);
	if (run->batch.count == 0) {
		rt_batch_finish(&run->batch);
		return;
	}
	rt_args_clear(run->args);
	if (step->function != NULL)
		rt_store_call(run, step->function, NULL);
	if (step->begin != NULL)
		step->begin(run);
	if (step->encode != NULL) {
		RT_STORE_FOR_EACH(const struct rt_batch_item, item, run)
		{
			step->encode(run, item);
		}
	}
	run_command(run);
}

static struct rt_batch_gate *run_gate(void *user)
{
	const struct rt_store_queue *queue = user;

	return queue->store->redis != NULL ? queue->store->redis->gate : NULL;
}

/* ---- operations that are refused ---- */

static void end_refused(struct rt_store *store, const int *status)
{
	struct rt_list now, *link;

	rt_list_init(&now);
	rt_list_move(&now, &store->refused);
	while ((link = rt_list_pop(&now)) != NULL) {
		struct refused *refused = RT_CONTAINER_OF(link, struct refused, link);

		refused->queue->step->end(refused->op, status != NULL ? *status : refused->status);
		free(refused);
	}
}

static void refuse_run(struct rt_task *task)
{
	struct rt_store *store = RT_CONTAINER_OF(task, struct rt_store, refuse);

	if (store->freed)
		free(store);
	else
		end_refused(store, NULL);
}

void rt_store_refuse(struct rt_store_queue *queue, void *op, int status)
{
	struct refused *refused = rt_alloc(sizeof(*refused));

	refused->queue = queue;
	refused->op = op;
	refused->status = status;
	rt_list_init(&refused->link);
	rt_list_push(&queue->store->refused, &refused->link);
	rt_loop_defer(queue->store->loop, &queue->store->refuse);
}

void rt_store_add(struct rt_store_queue *queue, void *op)
{
	if (!rt_batch_add(queue->batch, op))
		rt_store_refuse(queue, op, RT_BUSY);
}

/* ---- the store ---- */

static void data_looked_for(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct rt_store *store = RT_CONTAINER_OF(op, struct rt_store, look_op);

	store->looks = false;
	if (status != RT_OK || rt_reply_int(reply) != 0)
		return;
	if (store->gone != NULL)
		rt_series_add(store->gone, 1);
	RT_LOG(RT_ERROR, "the data in Redis is gone: it begins anew, without orders and stock",
	       RT_S("stream", store->events_key),
	       RT_S("fix", "if that was not meant, stop all services and restore the data"));
}

/* Behind a new connection may be a Redis without the data. To be sent before the functions are asked, which begin it. */
static void look_for_data(struct rt_store *store)
{
	if (store->looks)
		return;
	store->looks = true;
	rt_redis_command(store->redis, &store->look_op, 2,
			 (const char *[]){ "EXISTS", store->mark_key }, NULL, 0, data_looked_for);
}

static void on_state(struct rt_redis *redis, bool up, void *user)
{
	struct rt_store *store = user;

	(void)redis;
	store->seen = store->seen || store->watch.loaded;
	if (up && store->seen)
		look_for_data(store);
	rt_functions_watch_state(&store->watch, up);
}

/* The deploy user has a connection of its own, made like the store's. */
static void deploy_as(struct rt_store *store, const struct rt_redis_options *redis)
{
	struct rt_redis_options options = *redis;

	if (redis->deploy.user == NULL || redis->deploy.user[0] == '\0')
		return;
	options.user = redis->deploy.user;
	options.password = redis->deploy.password;
	options.password_file = redis->deploy.password_file;
	options.name = NULL;
	options.blocks = true;
	options.log_trouble = options.follow_clock = false;
	options.metrics = NULL;
	redis_options_copy(&store->deploy, &options, &store->texts);
	store->watch.deploy = &store->deploy;
}

int rt_store_new(struct rt_loop *loop, const struct rt_store_options *options,
		 struct rt_store **ret)
{
	struct rt_store *store = rt_alloc(sizeof(*store));
	struct rt_redis_options redis = *options->redis;
	const char *context =
		options->context != NULL ? options->context : options->functions->name;
	int rc;

	store->loop = loop;
	store->functions = options->functions;
	store->metrics = options->metrics;
	if (store->metrics != NULL)
		store->gone = rt_metric_plain(store->metrics, RT_COUNTER, "tandem_data_gone_total",
					      "Times that Redis came back without the data of a "
					      "partition.");
	store->events_key = rt_printf("%s:{%d}:events", context, options->partition);
	store->mark_key = rt_printf("%s:{%d}:partitions", context, options->partition);
	store->replicas = options->replicas;
	snprintf(store->replicas_text, sizeof(store->replicas_text), "%d", options->replicas);
	store->refuse.run = refuse_run;
	rt_list_init(&store->queues);
	rt_list_init(&store->covered);
	rt_list_init(&store->answered);
	rt_list_init(&store->refused);
	redis.on_state = on_state;
	redis.user_data = store;
	redis.follow_clock = true;
	redis.partition = options->partition;
	redis.metrics = options->metrics;
	rc = rt_redis_new(loop, &redis, &store->redis);
	if (rc != RT_OK) {
		free(store->events_key);
		free(store->mark_key);
		free(store);
		return rc;
	}
	store->watch.changed = options->changed;
	deploy_as(store, &redis);
	rt_functions_watch_start(&store->watch, loop, store->redis, options->functions,
				 store->events_key, RT_MAX(options->partition_count, 1));
	*ret = store;
	return RT_OK;
}

int rt_store_queue_new(struct rt_store *store, const struct rt_store_step *step, void *user,
		       struct rt_store_queue **ret)
{
	struct rt_store_queue *queue = rt_alloc(sizeof(*queue));
	const struct rt_batch_options options = {
		.count_max = step->count_max,
		.in_flight_max = step->in_flight_max,
		.gather = step->gather,
		.waiting_max = step->waiting_max,
		.weight_max = step->weight_max,
		.run_size = sizeof(struct rt_store_run),
		.send = run_send,
		.user_data = queue,
		.metrics = step->name != NULL ? store->metrics : NULL,
		.step = step->name,
		.gate = step->gather > 0 ? run_gate : NULL,
	};
	int rc = rt_batch_new(store->loop, &options, &queue->batch);

	if (rc != RT_OK) {
		free(queue);
		return rc;
	}
	queue->store = store;
	queue->step = step;
	queue->user = user;
	rt_list_init(&queue->link);
	rt_list_push(&store->queues, &queue->link);
	*ret = queue;
	return RT_OK;
}

/* What is under way ends with the connection. */
void rt_store_free(struct rt_store *store)
{
	static const int canceled = RT_CANCELED;
	struct rt_list *link;

	if (store == NULL)
		return;
	rt_functions_watch_stop(&store->watch);
	store->waits = true; /* no further one */
	rt_redis_free(RT_TAKE(store->redis));
	runs_go_on(store, &store->answered, RT_CANCELED);
	end_refused(store, &canceled);
	while ((link = rt_list_pop(&store->queues)) != NULL) {
		struct rt_store_queue *queue = RT_CONTAINER_OF(link, struct rt_store_queue, link);
		struct rt_batch_item *item;

		while ((item = rt_batch_pop(queue->batch)) != NULL)
			queue->step->end(item, RT_CANCELED);
		rt_batch_free(queue->batch);
		free(queue);
	}
	rt_args_done(&store->args);
	rt_arena_done(&store->texts);
	free(store->events_key);
	free(store->mark_key);
	if (store->refuse.queued)
		store->freed = true;
	else
		free(store);
}

struct rt_redis *rt_store_redis(struct rt_store *store)
{
	return store->redis;
}

const char *rt_store_problem(const struct rt_store *store)
{
	return rt_functions_watch_problem(&store->watch);
}

const char *rt_store_refusal(const struct rt_store *store)
{
	return rt_redis_up(store->redis) && !store->watch.asking ? rt_store_problem(store) : NULL;
}

bool rt_store_mismatch(const struct rt_store *store)
{
	return store->watch.mismatch;
}

/* ---- commands ---- */

void rt_store_call_keys(struct rt_store_run *run, const char *function, const char *const *keys,
			size_t count)
{
	rt_args_function(run->args, run->queue->store->functions, function);
	rt_args_int(run->args, (int64_t)count);
	for (size_t i = 0; i < count; i++)
		rt_args_str(run->args, keys[i]);
}

void rt_store_call(struct rt_store_run *run, const char *function, const char *second_key)
{
	const char *const keys[] = { run->queue->store->events_key, second_key };

	rt_store_call_keys(run, function, keys, second_key != NULL ? 2 : 1);
}

void rt_store_add_time(struct rt_store_run *run, int64_t now_ms)
{
	char time[RT_TIME_TEXT];

	rt_time_format(now_ms, time);
	rt_args_int(run->args, now_ms);
	rt_args_copy(run->args, time, strlen(time));
}

/* ---- answers ---- */

bool rt_reply_is_array(const struct redisReply *reply, size_t length_min)
{
	return reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements >= length_min;
}

bool rt_reply_is_string(const struct redisReply *reply)
{
	return reply->type == REDIS_REPLY_STRING;
}

const char *rt_reply_text(const struct redisReply *reply)
{
	if (rt_reply_is_array(reply, 1))
		reply = reply->element[0];
	return reply != NULL && rt_reply_is_string(reply) ? reply->str : NULL;
}

int64_t rt_reply_int(const struct redisReply *reply)
{
	if (reply->type == REDIS_REPLY_INTEGER)
		return reply->integer;
	if (reply->type == REDIS_REPLY_STRING)
		return strtoll(reply->str, NULL, 10);
	return 0;
}
