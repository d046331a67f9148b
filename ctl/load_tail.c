/* load_tail.c - decisions as anyone can see them: the entries of order:{0}:events, read plainly
 * (XREAD), from the end of the stream at the start of the run. */
#include <hiredis/hiredis.h>
#include <string.h>

#include "load.h"
#include "order/order_step.h"

#define STREAM "order:{0}:events"

struct tail {
	struct load *load;
	struct rt_redis *redis;
	struct rt_redis_op op;
	char last[64];
	bool reading;
	void (*next)(struct load *load);
	struct rt_timer retry;
};

static void tail_read(struct tail *tail);

static void tail_fail(struct tail *tail, const char *why)
{
	struct load *load = tail->load;

	load->error = why;
	load->sending = false;
	rt_loop_stop(load->loop);
}

static void tail_entry(struct tail *tail, const redisReply *entry, int64_t now_ns)
{
	const redisReply *fields = entry->element[1];
	const char *type = NULL, *subject = NULL;

	if (fields->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i + 1 < fields->elements; i += 2) {
		if (strcmp(fields->element[i]->str, "type") == 0)
			type = fields->element[i + 1]->str;
		else if (strcmp(fields->element[i]->str, "subject") == 0)
			subject = fields->element[i + 1]->str;
	}
	tail->load->count.tail_entries++;
	if (type == NULL || subject == NULL)
		return;
	if (strcmp(type, order_event_type(ORDER_EV_RESERVED)) == 0)
		load_decided(tail->load, subject, true, now_ns);
	else if (strcmp(type, order_event_type(ORDER_EV_REJECTED)) == 0)
		load_decided(tail->load, subject, false, now_ns);
}

static void tail_got(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct tail *tail = RT_CONTAINER_OF(op, struct tail, op);
	int64_t now_ns = rt_monotonic_ns();

	if (status == RT_CANCELED)
		return;
	if (status != RT_OK) {
		tail_fail(tail, "the order stream cannot be read");
		return;
	}
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1) {
		const redisReply *entries = reply->element[0]->element[1];

		for (size_t i = 0; i < entries->elements; i++)
			tail_entry(tail, entries->element[i], now_ns);
		if (entries->elements > 0)
			(void)snprintf(tail->last, sizeof(tail->last), "%s",
				       entries->element[entries->elements - 1]->element[0]->str);
	}
	tail_read(tail);
}

static void tail_read(struct tail *tail)
{
	const char *argv[] = { "XREAD", "COUNT",   "1000", "BLOCK",
			       "1000",  "STREAMS", STREAM, tail->last };

	rt_redis_command(tail->redis, &tail->op, RT_LENGTH(argv), argv, NULL, 10000, tail_got);
}

/* XINFO STREAM: the id to go on from. A stream that is not there yet is read from its start. */
static void tail_at_end(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct tail *tail = RT_CONTAINER_OF(op, struct tail, op);

	if (status == RT_CANCELED)
		return;
	(void)snprintf(tail->last, sizeof(tail->last), "0-0");
	if (status == RT_OK) {
		for (size_t i = 0; i + 1 < reply->elements; i += 2)
			if (reply->element[i]->str != NULL &&
			    strcmp(reply->element[i]->str, "last-generated-id") == 0)
				(void)snprintf(tail->last, sizeof(tail->last), "%s",
					       reply->element[i + 1]->str);
	} else if (status != RT_REMOTE) {
		tail_fail(tail, "Redis cannot be asked for the order stream");
		return;
	}
	tail->reading = true;
	tail_read(tail);
	tail->next(tail->load);
}

static void tail_up(struct rt_redis *redis, bool up, void *user)
{
	struct tail *tail = user;
	const char *argv[] = { "XINFO", "STREAM", STREAM };

	(void)redis;
	if (up && !tail->reading)
		rt_redis_command(tail->redis, &tail->op, RT_LENGTH(argv), argv, NULL, 0,
				 tail_at_end);
}

static void tail_too_late(struct rt_timer *timer)
{
	struct tail *tail = RT_CONTAINER_OF(timer, struct tail, retry);

	if (!tail->reading)
		tail_fail(tail, "Redis cannot be reached to read the order stream");
}

void load_tail_start(struct load *load, void (*next)(struct load *load))
{
	struct tail *tail = rt_alloc(sizeof(*tail));
	struct rt_redis_options options = {
		.host = load->options.redis_host,
		.port = (int)load->options.redis_port,
		.unix_path = load->options.redis_socket,
		.name = "tandemctl-load",
		.timeout_ms = 5000,
		.pending_max = 16,
		.on_state = tail_up,
		.user_data = tail,
	};

	tail->load = load;
	tail->next = next;
	load->tail = tail;
	if (rt_redis_new(load->loop, &options, &tail->redis) != RT_OK)
		tail_fail(tail, "no connection to Redis can be made");
	rt_timer_start(load->loop, &tail->retry, 5000, tail_too_late);
}

void load_tail_free(struct load *load)
{
	struct tail *tail = load->tail;

	if (tail == NULL)
		return;
	rt_timer_stop(load->loop, &tail->retry);
	rt_redis_free(tail->redis);
	free(tail);
	load->tail = NULL;
}
