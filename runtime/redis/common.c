/* common.c - what every connection has, over a socket and of a topology: options of its own, who waits for it, and
 * operations that end without having been sent: in the next turn, because `done` never runs before the submit
 * has returned. */
#include "connection_internal.h"

#include <string.h>

#define TIMEOUT_MS  2000
#define PENDING_MAX 4096

/* ---- options ---- */

static bool is_blank(const char *s)
{
	return s == NULL || *s == '\0';
}

static const char *keep(struct rt_arena *texts, const char *s)
{
	return is_blank(s) ? NULL : rt_arena_copy(texts, s, strlen(s));
}

static const char *keep_password(struct rt_arena *texts, const char *s)
{
	return is_blank(s) ? "" : keep(texts, s);
}

static void keep_login(struct rt_redis_login *own, const struct rt_redis_login *login,
		       struct rt_arena *texts)
{
	own->user = keep(texts, login->user);
	own->password = keep_password(texts, login->password);
	own->password_file = keep(texts, login->password_file);
}

void redis_options_copy(struct rt_redis_options *own, const struct rt_redis_options *options,
			struct rt_arena *texts)
{
	*own = *options;
	own->unix_path = keep(texts, options->unix_path);
	own->host = keep(texts, options->host);
	own->user = keep(texts, options->user);
	own->name = keep(texts, options->name);
	own->password_file = keep(texts, options->password_file);
	own->password = keep_password(texts, options->password);
	keep_login(&own->deploy, &options->deploy, texts);
	keep_login(&own->sentinel, &options->sentinel, texts);
	if (own->unix_path != NULL)
		own->tls = NULL;
	if (own->timeout_ms <= 0)
		own->timeout_ms = TIMEOUT_MS;
	if (own->pending_max == 0)
		own->pending_max = PENDING_MAX;
}

/* ---- up ---- */

void rt_redis_await(struct rt_redis *redis, struct rt_redis_waiter *waiter,
		    void (*up)(struct rt_redis_waiter *waiter))
{
	waiter->up = up;
	rt_list_remove(&waiter->link);
	rt_list_push(&redis->waiters, &waiter->link);
}

void rt_redis_notify_up(struct rt_redis *redis)
{
	struct rt_list now, *link;

	rt_list_init(&now);
	rt_list_move(&now, &redis->waiters);
	while ((link = rt_list_pop(&now)) != NULL) {
		struct rt_redis_waiter *waiter =
			RT_CONTAINER_OF(link, struct rt_redis_waiter, link);

		waiter->up(waiter);
	}
}

void redis_common_set_up(struct redis_common *common, bool up)
{
	if (common->up == up)
		return;
	common->up = up;
	if (up)
		common->redis.epoch++;
	if (common->options.on_state != NULL)
		common->options.on_state(&common->redis, up, common->options.user_data);
	if (up)
		rt_redis_notify_up(&common->redis);
}

bool redis_common_is_up(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct redis_common, redis)->up;
}

size_t redis_common_pending(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct redis_common, redis)->pending;
}

/* ---- refused ---- */

/* With `status` or, when it is RT_OK, each with its own. */
static void end_refused(struct redis_common *common, int status)
{
	struct rt_list now, *at;

	/* Moved aside: what these callbacks send, and is refused, waits for the next time. */
	rt_list_init(&now);
	rt_list_move(&now, &common->refused);
	while ((at = rt_list_pop(&now)) != NULL) {
		struct rt_redis_op *op = RT_CONTAINER_OF(at, struct rt_redis_op, link);

		op->done(op, status != RT_OK ? status : op->status, NULL);
	}
}

static void end_due(struct rt_timer *timer)
{
	end_refused(RT_CONTAINER_OF(timer, struct redis_common, end), RT_OK);
}

void redis_common_refuse(struct redis_common *common, struct rt_redis_op *op, int status)
{
	op->status = status;
	rt_list_push(&common->refused, &op->link);
	if (!rt_timer_running(&common->end))
		rt_timer_start(common->loop, &common->end, 0, end_due);
}

bool redis_common_admit(struct redis_common *common, struct rt_redis_op *op)
{
	bool room = common->pending < common->options.pending_max;

	if (!common->up || !room)
		redis_common_refuse(common, op, common->up ? RT_BUSY : RT_LOST);
	return common->up && room;
}

/* ---- the whole ---- */

void redis_common_init(struct redis_common *common, const struct rt_redis_ops *ops,
		       struct rt_loop *loop, const struct rt_redis_options *options)
{
	common->redis.ops = ops;
	rt_list_init(&common->redis.waiters);
	common->loop = loop;
	redis_options_copy(&common->options, options, &common->texts);
	rt_list_init(&common->refused);
}

void redis_common_done(struct redis_common *common)
{
	while (!rt_list_empty(&common->refused))
		end_refused(common, RT_CANCELED);
	rt_timer_stop(common->loop, &common->end);
	rt_arena_done(&common->texts);
}
