/* load_tail.c - reads decisions from order:{0}:events with XREAD, as any client of Redis can, from the
 * end that the stream has at the start of the run. */
#include <hiredis/hiredis.h>
#include <string.h>

#include "events/entry.h"
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

static bool has_type(const struct rt_entry_event *event, enum order_event type)
{
	const char *name = order_event_type(type);

	return event->type.length == strlen(name) &&
	       memcmp(event->type.data, name, event->type.length) == 0;
}

static void tail_entry(struct tail *tail, const redisReply *entry, int64_t now_ns)
{
	struct rt_entry_event *events;
	char subject[128];
	size_t count;

	if (rt_entry_read_reply(entry->element[1], &events, &count) != NULL)
		return;
	tail->load->count.tail_entries += count;
	for (size_t i = 0; i < count; i++) {
		bool reserved = has_type(&events[i], ORDER_EV_RESERVED);

		if (!reserved && !has_type(&events[i], ORDER_EV_REJECTED))
			continue;
		(void)snprintf(subject, sizeof(subject), "%.*s", (int)events[i].subject.length,
			       events[i].subject.data);
		load_decided(tail->load, subject, reserved, now_ns);
	}
	free(events);
}

static void tail_entries_read(struct rt_redis_op *op, int status, const redisReply *reply)
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

	rt_redis_command(tail->redis, &tail->op, RT_LENGTH(argv), argv, NULL, 10000,
			 tail_entries_read);
}

/* XINFO STREAM: the id to read from. A stream that does not exist yet is read from its start. */
static void tail_end_found(struct rt_redis_op *op, int status, const redisReply *reply)
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
		tail_fail(tail, "the end of the order stream cannot be read from Redis");
		return;
	}
	tail->reading = true;
	tail_read(tail);
	tail->next(tail->load);
}

static void tail_connected(struct rt_redis *redis, bool up, void *user)
{
	struct tail *tail = user;
	const char *argv[] = { "XINFO", "STREAM", STREAM };

	(void)redis;
	if (up && !tail->reading)
		rt_redis_command(tail->redis, &tail->op, RT_LENGTH(argv), argv, NULL, 0,
				 tail_end_found);
}

static void tail_timed_out(struct rt_timer *timer)
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
		.on_state = tail_connected,
		.user_data = tail,
	};

	tail->load = load;
	tail->next = next;
	load->tail = tail;
	if (rt_redis_new(load->loop, &options, &tail->redis) != RT_OK)
		tail_fail(tail, "no connection to Redis can be made");
	rt_timer_start(load->loop, &tail->retry, 5000, tail_timed_out);
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
