/* functions.c - a context's Redis functions: what they are called, whether the server has this version
 * of them, and a watch over that.
 *
 *   ask                  a call of the function "version", with the number of partitions
 *     version_asked      missing, or another version: FUNCTION LOAD REPLACE
 *       functions_loaded
 *         note_answer    what rt_functions_watch_problem says from now on */
#include "redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#define EVERY_MS 1000

void rt_args_function(struct rt_args *args, const struct rt_functions *functions,
		      const char *function)
{
	const char *const parts[] = { functions->name, function, functions->version };
	size_t start = args->text.length;

	rt_args_str(args, "FCALL");
	for (size_t i = 0; i < RT_LENGTH(parts); i++) {
		if (i > 0)
			rt_buf_add(&args->text, "_", 1);
		rt_buf_add(&args->text, parts[i], strlen(parts[i]));
	}
	rt_args_add(args, NULL, 0);
	args->lengths[args->count - 1] = args->text.length - start;
	args->text_at[args->count - 1] = start + 1;
}

static void report_change(struct rt_functions_watch *watch)
{
	if (watch->changed != NULL)
		rt_loop_defer(watch->loop, watch->changed);
}

static void set_problem(struct rt_functions_watch *watch, const char *what, const char *detail)
{
	snprintf(watch->problem, sizeof(watch->problem), "%s%s", what, detail);
}

/* How the asking ended; `missing`: the functions were not there, and `status` is how loading them ended. */
static void note_answer(struct rt_functions_watch *watch, int status, const redisReply *reply,
			bool missing)
{
	bool refused = reply != NULL && reply->type == REDIS_REPLY_ERROR;

	watch->asking = false;
	if (watch->stopped || !rt_redis_up(watch->redis))
		return;
	/* Other errors do not mean that they are missing: the calls themselves report them. */
	watch->loaded = status == RT_OK || (watch->loaded && !missing);
	watch->mismatch = refused && rt_redis_reply_begins(reply, "PARTITIONS");
	if (status == RT_OK)
		set_problem(watch, "", "");
	else if (missing)
		snprintf(watch->problem, sizeof(watch->problem),
			 "Redis lacks the functions %s_%s: load them (tandemctl functions load)",
			 watch->functions->name, watch->functions->version);
	else
		set_problem(watch, "Redis would not run a function: ",
			    refused ? reply->str : rt_status_text(status));
	report_change(watch);
}

static void functions_loaded(struct rt_redis_op *op, int status, const redisReply *reply)
{
	note_answer(RT_CONTAINER_OF(op, struct rt_functions_watch, op), status, reply, true);
}

static void version_asked(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct rt_functions_watch *watch = RT_CONTAINER_OF(op, struct rt_functions_watch, op);
	const struct rt_functions *functions = watch->functions;
	bool missing =
		status == RT_UNREADY && rt_redis_reply_begins(reply, "ERR Function not found");
	bool same = status == RT_OK && reply->type == REDIS_REPLY_STRING &&
		    strcmp(reply->str, functions->version) == 0;

	if (same || (status != RT_OK && !missing))
		note_answer(watch, status, reply, false);
	else
		rt_redis_command(watch->redis, op, 4,
				 (const char *[]){ "FUNCTION", "LOAD", "REPLACE", functions->code },
				 (const size_t[]){ 8, 4, 7, functions->code_length }, 0,
				 functions_loaded);
}

static void ask(struct rt_functions_watch *watch)
{
	struct rt_args args = { .count = 0 };

	if (watch->asking || watch->stopped || !rt_redis_up(watch->redis))
		return;
	watch->asking = true;
	rt_args_function(&args, watch->functions, "version");
	rt_args_str(&args, "1");
	rt_args_str(&args, watch->own_stream);
	rt_args_int(&args, watch->partition_count);
	rt_redis_send(watch->redis, &watch->op, &args, 0, version_asked);
	rt_args_done(&args);
}

static void look(struct rt_timer *timer)
{
	struct rt_functions_watch *watch = RT_CONTAINER_OF(timer, struct rt_functions_watch, timer);

	if (watch->asking)
		set_problem(watch, "Redis does not answer", "");
	ask(watch);
	rt_timer_start(watch->loop, timer, EVERY_MS, look);
}

void rt_functions_watch_start(struct rt_functions_watch *watch, struct rt_loop *loop,
			      struct rt_redis *redis, const struct rt_functions *functions,
			      const char *own_stream, int partition_count)
{
	watch->loop = loop;
	watch->redis = redis;
	watch->functions = functions;
	watch->own_stream = own_stream;
	watch->partition_count = partition_count;
	set_problem(watch, "not connected to Redis yet", "");
	rt_timer_start(loop, &watch->timer, EVERY_MS, look);
}

void rt_functions_watch_state(struct rt_functions_watch *watch, bool up)
{
	watch->loaded = false;
	if (up) {
		set_problem(watch, "connected to Redis just now", "");
		ask(watch);
	} else {
		report_change(watch);
	}
}

void rt_functions_watch_ended(struct rt_functions_watch *watch, int status)
{
	if (status != RT_UNREADY || watch->stopped || !rt_redis_up(watch->redis))
		return;
	set_problem(watch, "Redis refused a function", ""); /* the next check finds out why */
	ask(watch);
}

void rt_functions_watch_stop(struct rt_functions_watch *watch)
{
	watch->stopped = true;
	watch->loaded = false;
	if (watch->loop != NULL)
		rt_timer_stop(watch->loop, &watch->timer);
}

const char *rt_functions_watch_problem(const struct rt_functions_watch *watch)
{
	if (!rt_redis_up(watch->redis))
		return rt_redis_error(watch->redis);
	return watch->problem[0] != '\0' ? watch->problem : NULL;
}
