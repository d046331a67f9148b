/* functions.c - see functions.h. */
#include "functions.h"

#include <stdio.h>

#define EVERY_MS 1000

static void set_problem(struct rt_functions_watch *watch, const char *what, const char *detail)
{
	snprintf(watch->problem, sizeof(watch->problem), "%s%s", what, detail);
}

static void set_missing(struct rt_functions_watch *watch)
{
	snprintf(watch->problem, sizeof(watch->problem),
		 "Redis lacks the functions %s_%s: load them (tandemctl functions load)",
		 watch->functions->name, watch->functions->version);
}

static void asked(struct rt_functions_op *op, int status)
{
	struct rt_functions_watch *watch = RT_CONTAINER_OF(op, struct rt_functions_watch, op);

	watch->asking = false;
	if (watch->stopped || !rt_redis_up(watch->redis))
		return;
	/* Other errors do not mean that they are missing: then the calls themselves tell. */
	watch->loaded = status == RT_OK || (watch->loaded && !op->missing);
	if (status == RT_OK)
		set_problem(watch, "", "");
	else if (op->missing)
		set_missing(watch);
	else
		set_problem(watch, "Redis would not run a function: ",
			    op->error[0] != '\0' ? op->error : rt_status_text(status));
}

static void ask(struct rt_functions_watch *watch)
{
	if (watch->asking || watch->stopped || !rt_redis_up(watch->redis))
		return;
	watch->asking = true;
	rt_functions_ensure(watch->redis, &watch->op, watch->functions, asked);
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
			      struct rt_redis *redis, const struct rt_functions *functions)
{
	watch->loop = loop;
	watch->redis = redis;
	watch->functions = functions;
	set_problem(watch, "not connected to Redis yet", "");
	rt_timer_start(loop, &watch->timer, EVERY_MS, look);
}

void rt_functions_watch_state(struct rt_functions_watch *watch, bool up)
{
	watch->loaded = false;
	if (up) {
		set_problem(watch, "connected to Redis just now", "");
		ask(watch);
	}
}

void rt_functions_watch_ended(struct rt_functions_watch *watch, int status)
{
	if (status != RT_UNREADY || watch->stopped || !rt_redis_up(watch->redis))
		return;
	set_problem(watch, "Redis refused a function", ""); /* why is known in a moment */
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
