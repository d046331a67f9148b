/* context.c - see context.h. */
#include "context.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define PENDING_COMMANDS 100000

struct rt_redis_options rt_context_redis(const struct rt_context_settings *settings,
					 const char *name, const char *password)
{
	return (struct rt_redis_options){
		.host = settings->redis.host,
		.port = (int)settings->redis.port,
		.unix_path = settings->redis.unix_path,
		.user = settings->redis.user,
		.password = password,
		.password_file = settings->redis.password_file,
		.log_trouble = true,
		.name = name,
		.timeout_ms = settings->redis.timeout_ms,
		.pending_max = PENDING_COMMANDS,
	};
}

struct rt_events_options rt_context_events(const struct rt_context_settings *settings,
					   const char *stream, struct rt_metrics *metrics)
{
	struct rt_events_options options = { RT_EVENTS_DEFAULTS };

	options.name = stream;
	options.metrics = metrics;
	options.read_count_max = (int)settings->read_count_max;
	options.in_flight_max = (int)settings->in_flight_max;
	options.parked_max = (int)settings->parked_max;
	options.deliveries_max = (int)settings->deliveries_max;
	options.retry_min_ms = settings->event_retry_min_ms;
	options.retry_max_ms = RT_MAX(settings->event_retry_min_ms, settings->event_retry_max_ms);
	options.claim_idle_ms = settings->claim_idle_ms;
	options.claim_every_ms = settings->claim_every_ms;
	options.consumer_idle_ms = settings->consumer_idle_ms;
	return options;
}

int rt_context_source(struct rt_loop *loop, const struct rt_functions *functions,
		      const char *stream, const struct rt_redis_options *redis,
		      struct rt_redis *commands, struct rt_stream_source **ret)
{
	char host[64] = "host", consumer[128];
	struct rt_stream_redis_options options = {
		.reader = redis,
		.commands = commands,
		.stream = stream,
		.group = functions->name,
		.consumer = consumer,
		.functions = functions,
		.partition = RT_CONTEXT_PARTITION,
	};
	uint32_t random;

	/* Unique for the process, also when a container always has the same pid. Behind the '@':
	 * which functions it calls, so that an operator sees which are in use. */
	gethostname(host, sizeof(host) - 1);
	rt_loop_random_bytes(loop, &random, sizeof(random));
	snprintf(consumer, sizeof(consumer), "%s-%ld-%08" PRIx32 "@%s", host, (long)getpid(),
		 random, functions->version);
	return rt_stream_redis_new(loop, &options, ret);
}
