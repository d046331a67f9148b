/* delivered.c - see delivered.h. */
#include "delivered.h"

#include <CUnit/Basic.h>

#include "run_until.h"

static struct {
	struct rt_loop *loop;
	struct rt_events *events;
	struct rt_event *list[256];
	size_t count, taken;
	bool stopped;
} delivered;

static void on_event(struct rt_event *event, void *user)
{
	(void)user;
	CU_ASSERT_FATAL(delivered.count < RT_LENGTH(delivered.list));
	delivered.list[delivered.count++] = event;
}

void delivered_start(struct rt_loop *loop, struct rt_store *store,
		     const struct rt_redis_options *redis, const struct rt_functions *functions,
		     const char *stream)
{
	struct rt_stream_options from = { .commands = rt_store_redis(store),
					  .stream = stream,
					  .group = functions->name,
					  .consumer = "test",
					  .functions = functions };
	const struct rt_events_options options = { RT_EVENTS_DEFAULTS, .name = stream,
						   .on_event = on_event };

	delivered.loop = loop;
	delivered.count = delivered.taken = 0;
	delivered.stopped = false;
	CU_ASSERT_FATAL(rt_reads_new(loop, redis, 0, from.group, from.consumer, &from.reads) ==
			RT_OK);
	CU_ASSERT_FATAL(rt_events_new(loop, rt_stream_new(loop, &from), &options,
				      &delivered.events) == RT_OK);
	rt_reads_release(from.reads);
	rt_events_start(delivered.events);
}

static bool is_there(void)
{
	return delivered.taken < delivered.count;
}

struct rt_event *delivered_next(void)
{
	run_until_so(delivered.loop, is_there);
	return delivered.list[delivered.taken++];
}

static void on_stopped(void *user)
{
	(void)user;
	delivered.stopped = true;
}

static bool has_stopped(void)
{
	return delivered.stopped;
}

void delivered_stop(void)
{
	rt_events_stop(delivered.events, on_stopped, NULL);
	while (is_there())
		rt_event_retry(delivered.list[delivered.taken++], RT_CANCELED);
	run_until_so(delivered.loop, has_stopped);
	rt_events_free(delivered.events);
}
