/* load_tail.c - reads decisions from the order service's streams with XREAD, as any client of Redis can, from
 * the ends that they have at the start of the run.
 *
 * Each partition's stream has a connection, because reading waits. A connection that breaks, or whose partition
 * moves to another server, goes on reading where it was. */
#include <hiredis/hiredis.h>
#include <string.h>

#include "events/entry.h"
#include "load.h"
#include "order/order_step.h"

#define CONNECT_MS 5000

struct stream {
	struct tail *tail;
	struct rt_redis *redis;
	struct rt_redis_op op;
	char key[CTL_KEY], last[64];
	bool found, asking; /* its end is known; a command is under way */
};

struct tail {
	struct load *load;
	struct rt_topology *topology;
	struct stream *streams;
	int count, found;
	void (*next)(struct load *load);
	struct rt_timer retry;
};

static void stream_read(struct stream *stream);

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

/* What waits for the connection to be up again. */
static bool is_away(int status)
{
	return status == RT_LOST || status == RT_UNREADY || status == RT_NOGROUP;
}

static void stream_entries_read(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct stream *stream = RT_CONTAINER_OF(op, struct stream, op);
	int64_t now_ns = rt_monotonic_ns();

	stream->asking = false;
	if (status == RT_CANCELED)
		return;
	if (is_away(status)) {
		if (rt_redis_up(stream->redis))
			stream_read(stream);
		return;
	}
	if (status != RT_OK) {
		tail_fail(stream->tail, "an order stream cannot be read");
		return;
	}
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1) {
		const redisReply *entries = reply->element[0]->element[1];

		for (size_t i = 0; i < entries->elements; i++)
			tail_entry(stream->tail, entries->element[i], now_ns);
		if (entries->elements > 0)
			(void)snprintf(stream->last, sizeof(stream->last), "%s",
				       entries->element[entries->elements - 1]->element[0]->str);
	}
	stream_read(stream);
}

static void stream_read(struct stream *stream)
{
	const char *argv[] = { "XREAD", "COUNT",   "1000",      "BLOCK",
			       "1000",  "STREAMS", stream->key, stream->last };

	stream->asking = true;
	rt_redis_command(stream->redis, &stream->op, RT_LENGTH(argv), argv, NULL, 10000,
			 stream_entries_read);
}

/* XINFO STREAM: the id to read from. A stream that does not exist yet is read from its start. */
static void stream_end_found(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct stream *stream = RT_CONTAINER_OF(op, struct stream, op);
	struct tail *tail = stream->tail;

	stream->asking = false;
	if (status == RT_CANCELED || is_away(status))
		return;
	(void)snprintf(stream->last, sizeof(stream->last), "0-0");
	if (status == RT_OK) {
		for (size_t i = 0; i + 1 < reply->elements; i += 2)
			if (reply->element[i]->str != NULL &&
			    strcmp(reply->element[i]->str, "last-generated-id") == 0)
				(void)snprintf(stream->last, sizeof(stream->last), "%s",
					       reply->element[i + 1]->str);
	} else if (status != RT_REMOTE) {
		tail_fail(tail, "the end of an order stream cannot be read from Redis");
		return;
	}
	stream->found = true;
	tail->found++;
	stream_read(stream);
	if (tail->found == tail->count)
		tail->next(tail->load);
}

static void stream_connected(struct rt_redis *redis, bool up, void *user)
{
	struct stream *stream = user;
	const char *argv[] = { "XINFO", "STREAM", stream->key };

	(void)redis;
	if (!up || stream->asking)
		return;
	if (stream->found) {
		stream_read(stream);
		return;
	}
	stream->asking = true;
	rt_redis_command(stream->redis, &stream->op, RT_LENGTH(argv), argv, NULL, 0,
			 stream_end_found);
}

static void tail_timed_out(struct rt_timer *timer)
{
	struct tail *tail = RT_CONTAINER_OF(timer, struct tail, retry);

	if (tail->found < tail->count)
		tail_fail(tail, "Redis cannot be reached to read the order streams");
}

/* Connects to one partition's stream. */
static int stream_start(struct tail *tail, int partition)
{
	struct stream *stream = &tail->streams[partition];
	struct rt_redis_options options = {
		.name = "tandemctl-load",
		.user = tail->load->options.login.user,
		.password_file = tail->load->options.login.password_file,
		.tls = tail->load->options.tls,
		.timeout_ms = 5000,
		.pending_max = 16,
		.on_state = stream_connected,
		.user_data = stream,
		.partition = partition,
		.blocks = true,
	};

	stream->tail = tail;
	ctl_key(stream->key, "order", partition, "events");
	rt_topology_use(tail->topology, &options);
	return rt_redis_new(tail->load->loop, &options, &stream->redis);
}

void load_tail_start(struct load *load, void (*next)(struct load *load))
{
	const struct rt_redis_options shared = { .name = "tandemctl-load",
						 .timeout_ms = 5000,
						 .user = load->options.login.user,
						 .password_file = load->options.login.password_file,
						 .sentinel = load->options.sentinel,
						 .tls = load->options.tls };
	struct tail *tail = rt_alloc(sizeof(*tail));
	int rc;

	tail->load = load;
	tail->next = next;
	tail->count = load->options.partitions;
	tail->streams = rt_alloc((size_t)tail->count * sizeof(*tail->streams));
	load->tail = tail;
	rc = rt_topology_new(load->loop, &load->options.redis, &shared, tail->count,
			     &tail->topology);
	for (int p = 0; p < tail->count && rc == RT_OK; p++)
		rc = stream_start(tail, p);
	if (rc != RT_OK)
		tail_fail(tail, "no connection to Redis can be made");
	rt_timer_start(load->loop, &tail->retry, CONNECT_MS, tail_timed_out);
}

void load_tail_free(struct load *load)
{
	struct tail *tail = load->tail;

	if (tail == NULL)
		return;
	rt_timer_stop(load->loop, &tail->retry);
	for (int p = 0; p < tail->count; p++)
		rt_redis_free(tail->streams[p].redis);
	rt_topology_free(tail->topology);
	free(tail->streams);
	free(tail);
	load->tail = NULL;
}
