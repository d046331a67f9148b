/* server_clock.c - the server's clock, asked every second; the loop follows it (loop/loop.h). */
#include "connection_internal.h"

#include <stdio.h>

#define EVERY_MS 1000
/* While a service starts, an answer can be slow, and a slow one says little. Decisions use this clock
 * as soon as the connection is up, so several samples are taken: one of them will be quick. */
#define GREETING_SAMPLES 5

static void name_set(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct redis_clock *clock = RT_CONTAINER_OF(op, struct redis_clock, name_op);

	(void)status;
	(void)reply;
	clock->naming = false;
}

/* CLIENT LIST shows which connections come from a machine whose clock is wrong. */
static void set_name(struct redis_clock *clock, int64_t ahead_ms)
{
	char name[128];

	if (clock->name == NULL || clock->naming || !rt_redis_up(clock->redis))
		return;
	snprintf(name, sizeof(name), "%s", clock->name);
	if (clock->wall_is_wrong)
		snprintf(name, sizeof(name), "%.96s@clock%+lld", clock->name,
			 (long long)(ahead_ms / 1000));
	clock->naming = true;
	rt_redis_command(clock->redis, &clock->name_op, 3,
			 (const char *[]){ "CLIENT", "SETNAME", name }, NULL, 0, name_set);
}

static void compare_wall(struct redis_clock *clock)
{
	int64_t ahead_ms = rt_clock_wall_ahead_ms(clock->clock.offset_us);
	bool wrong = ahead_ms > RT_CLOCK_WRONG_MS || ahead_ms < -RT_CLOCK_WRONG_MS;

	if (clock->offset_seconds != NULL)
		rt_series_set(clock->offset_seconds, (double)ahead_ms / 1000);
	if (wrong == clock->wall_is_wrong)
		return;
	clock->wall_is_wrong = wrong;
	if (wrong)
		RT_LOG(RT_WARN, "this machine's clock is wrong: Redis's time is used",
		       RT_I("ahead_ms", ahead_ms));
	else
		RT_LOG(RT_INFO, "this machine's clock is right again", RT_I("ahead_ms", ahead_ms));
	set_name(clock, ahead_ms);
}

static int64_t reply_us(const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[1]->type != REDIS_REPLY_STRING)
		return -1;
	return strtoll(reply->element[0]->str, NULL, 10) * 1000000 +
	       strtoll(reply->element[1]->str, NULL, 10);
}

static void clock_asked(struct redis_clock *clock)
{
	clock->sent_us = rt_monotonic_ns() / 1000;
}

static void clock_sample(struct redis_clock *clock, const redisReply *reply)
{
	int64_t server_us = reply_us(reply);

	if (server_us < 0)
		return;
	rt_clock_sample(&clock->clock, clock->sent_us, rt_monotonic_ns() / 1000, server_us);
	rt_loop_set_unix(clock->loop, clock->clock.offset_us);
	compare_wall(clock);
}

void redis_clock_greet(struct redis_clock *clock)
{
	clock->greeting_samples = 0;
	clock_asked(clock);
}

bool redis_clock_greeted(struct redis_clock *clock, const redisReply *reply)
{
	clock_sample(clock, reply);
	clock_asked(clock);
	return ++clock->greeting_samples >= GREETING_SAMPLES;
}

static void ask_time(struct rt_timer *timer);

static void time_answered(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct redis_clock *clock = RT_CONTAINER_OF(op, struct redis_clock, op);

	if (!rt_redis_up(clock->redis))
		return; /* the greeting asks again */
	if (status == RT_OK)
		clock_sample(clock, reply);
	rt_timer_start(clock->loop, &clock->timer, EVERY_MS, ask_time);
}

static void ask_time(struct rt_timer *timer)
{
	struct redis_clock *clock = RT_CONTAINER_OF(timer, struct redis_clock, timer);

	clock_asked(clock);
	rt_redis_command(clock->redis, &clock->op, 1, (const char *[]){ "TIME" }, NULL, 0,
			 time_answered);
}

static void clock_up(struct rt_redis_waiter *waiter)
{
	struct redis_clock *clock = RT_CONTAINER_OF(waiter, struct redis_clock, up);

	rt_redis_await(clock->redis, &clock->up, clock_up);
	rt_timer_start(clock->loop, &clock->timer, EVERY_MS, ask_time);
	if (clock->wall_is_wrong)
		set_name(clock, rt_clock_wall_ahead_ms(clock->clock.offset_us));
}

void redis_clock_init(struct redis_clock *clock, struct redis_connection *connection)
{
	const struct rt_redis_options *options = &connection->common.options;

	clock->loop = connection->common.loop;
	clock->redis = &connection->common.redis;
	clock->name = options->name;
	if (options->metrics != NULL && options->follow_clock)
		clock->offset_seconds = rt_metric_plain(
			options->metrics, RT_GAUGE, "tandem_clock_offset_seconds",
			"How far this machine's wall clock is ahead of Redis's, by which is "
			"decided.");
	rt_list_init(&clock->up.link);
	if (options->follow_clock)
		rt_redis_await(clock->redis, &clock->up, clock_up);
}

void redis_clock_stop(struct redis_clock *clock)
{
	rt_timer_stop(clock->loop, &clock->timer);
}
