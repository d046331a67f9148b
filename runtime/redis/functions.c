/* functions.c - a context's Redis functions: what they are called, whether the server has this version
 * of them, and a watch over that.
 *
 *   ask                  a call of the function "version", with the number of partitions
 *     version_asked      missing, or another version:
 *       load_as_deploy   a connection of the deploy user: FUNCTION LOAD
 *         deploy_over    closed; ask once more
 *       functions_loaded without a deploy user: FUNCTION LOAD REPLACE as this one
 *         note_answer    what rt_functions_watch_problem says from now on */
#include "redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#define EVERY_MS 1000
/* Looks again so often before a missing answer counts. */
#define WAITS   3
#define WAIT_MS 100

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

static void set_deploy_error(struct rt_functions_watch *watch, const char *error)
{
	snprintf(watch->deploy_error, sizeof(watch->deploy_error), "%s", error);
}

static void note_missing(struct rt_functions_watch *watch)
{
	const struct rt_functions *functions = watch->functions;

	if (watch->deploy == NULL)
		snprintf(
			watch->problem, sizeof(watch->problem),
			"Redis lacks the functions %s_%s: load them (tandemctl functions load), or "
			"set --redis-deploy-user",
			functions->name, functions->version);
	else
		snprintf(watch->problem, sizeof(watch->problem),
			 "Redis lacks the functions %s_%s, and the user %s does not load them: %s",
			 functions->name, functions->version, watch->deploy->user,
			 watch->deploy_error);
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
		note_missing(watch);
	else if (refused && rt_redis_reply_begins(reply, "ERR unknown command"))
		set_problem(watch, "Redis has no functions: version 7.0 or later is needed", "");
	else
		set_problem(watch, "Redis would not run a function: ",
			    refused ? reply->str : rt_status_text(status));
	report_change(watch);
}

static void ask(struct rt_functions_watch *watch);

/* Asked once more: the question is what begins the data. */
static void ask_loaded(struct rt_functions_watch *watch)
{
	watch->deployed = true;
	watch->asking = false;
	ask(watch);
}

static void functions_loaded(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct rt_functions_watch *watch = RT_CONTAINER_OF(op, struct rt_functions_watch, op);

	if (status == RT_OK)
		ask_loaded(watch);
	else
		note_answer(watch, status, reply, true);
}

/* ---- the deploy user ---- */

/* Not inside of the connection's own callbacks: it is freed here. */
static void deploy_over(struct rt_timer *timer)
{
	struct rt_functions_watch *watch =
		RT_CONTAINER_OF(timer, struct rt_functions_watch, deploy_timer);
	const char *error = rt_redis_error(watch->deployer);

	if (!watch->deployed && watch->deploy_error[0] == '\0')
		set_deploy_error(watch, *error != '\0' ? error : "no answer in time");
	rt_redis_free(RT_TAKE(watch->deployer));
	if (watch->deployed)
		ask_loaded(watch);
	else
		note_answer(watch, RT_UNREADY, NULL, true);
}

static void deploy_loaded(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct rt_functions_watch *watch =
		RT_CONTAINER_OF(op, struct rt_functions_watch, deploy_op);
	const struct rt_functions *functions = watch->functions;
	bool there = reply != NULL && reply->type == REDIS_REPLY_ERROR &&
		     strstr(reply->str, "already exists") != NULL; /* another one was quicker */
	char *library;

	if (watch->deployer == NULL)
		return; /* it is being freed */
	watch->deployed = status == RT_OK || there;
	if (watch->deployed)
		set_deploy_error(watch, "they are loaded, and not found");
	else
		set_deploy_error(watch, reply != NULL ? reply->str : rt_status_text(status));
	if (status == RT_OK) {
		library = rt_printf("%s_%s", functions->name, functions->version);
		RT_LOG(RT_INFO, "the functions were missing, and are loaded",
		       RT_S("library", library), RT_S("user", watch->deploy->user));
		free(library);
	}
	rt_timer_start(watch->loop, &watch->deploy_timer, 0, deploy_over);
}

static void deployer_state(struct rt_redis *redis, bool up, void *user)
{
	struct rt_functions_watch *watch = user;
	const struct rt_functions *functions = watch->functions;

	if (up)
		rt_redis_command(redis, &watch->deploy_op, 3,
				 (const char *[]){ "FUNCTION", "LOAD", functions->code },
				 (const size_t[]){ 8, 4, functions->code_length }, 0,
				 deploy_loaded);
}

static void load_as_deploy(struct rt_functions_watch *watch)
{
	struct rt_redis_options options = *watch->deploy;

	options.on_state = deployer_state;
	options.user_data = watch;
	set_deploy_error(watch, "");
	if (rt_redis_new(watch->loop, &options, &watch->deployer) == RT_OK) {
		rt_timer_start(watch->loop, &watch->deploy_timer, options.timeout_ms, deploy_over);
	} else {
		set_deploy_error(watch, "it cannot connect");
		note_answer(watch, RT_UNREADY, NULL, true);
	}
}

/* ---- asking ---- */

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
	else if (watch->stopped || watch->deployed)
		note_answer(watch, status, reply, true);
	else if (watch->deploy != NULL)
		load_as_deploy(watch);
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
	watch->waits = 0;
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

	/* If this process has stood still meanwhile, the answer may be there, and unread, or the question unsent. */
	if (watch->asking && watch->waits++ < WAITS) {
		rt_timer_start(watch->loop, timer, WAIT_MS, look);
		return;
	}
	if (watch->asking && watch->deployer == NULL)
		set_problem(watch, "Redis does not answer", "");
	watch->deployed = false;
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
	if (watch->loop == NULL)
		return;
	rt_timer_stop(watch->loop, &watch->timer);
	rt_timer_stop(watch->loop, &watch->deploy_timer);
	rt_redis_free(RT_TAKE(watch->deployer));
}

const char *rt_functions_watch_problem(const struct rt_functions_watch *watch)
{
	if (!rt_redis_up(watch->redis))
		return rt_redis_error(watch->redis);
	return watch->problem[0] != '\0' ? watch->problem : NULL;
}
