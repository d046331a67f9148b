/* main.c - tandem-order: settings, Redis, the subscription to inventory's events, the service. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "order.h"
#include "redis.h"
#include "service.h"

#define PARTITION        0
#define READY_EVERY_MS   200
#define PENDING_COMMANDS 100000

extern const struct rt_functions order_functions; /* functions.lua, embedded */

struct settings {
	struct rt_service_settings service; /* first */
	struct rt_redis_settings redis;
	int64_t stream_length_max;
	int64_t decision_ms, retry_min_ms, retry_max_ms;
	int64_t timers_every_ms, trim_every_ms, retain_ms, retain_count, ghost_ms;
	int64_t read_count_max, in_flight_max, parked_max, deliveries_max;
	int64_t event_retry_min_ms, event_retry_max_ms, claim_idle_ms, claim_every_ms;
	int64_t consumer_idle_ms;
};

#define AT(member) offsetof(struct settings, member)
#define DAY        INT64_C(86400000)
static const struct rt_setting settings_table[] = {
	RT_REDIS_SETTINGS(struct settings, redis, "order"),
	{ "stream-length-max", RT_SETTING_INT, AT(stream_length_max), "1000000", 100,
	  INT64_C(1000000000), "Entries in the own event stream past which orders are refused." },
	{ "decision-timeout", RT_SETTING_DURATION, AT(decision_ms), "2m", 100, 30 * DAY,
	  "An order that inventory has not answered for so long expires." },
	{ "retry-min", RT_SETTING_DURATION, AT(retry_min_ms), "2s", 10, DAY,
	  "A request without an answer is published again after so long; doubles." },
	{ "retry-max", RT_SETTING_DURATION, AT(retry_max_ms), "30s", 10, DAY,
	  "The longest pause between two repeats of a request." },
	{ "timers-every", RT_SETTING_DURATION, AT(timers_every_ms), "250ms", 10, 60000,
	  "How often orders whose timer ran out are looked for." },
	{ "trim-every", RT_SETTING_DURATION, AT(trim_every_ms), "5s", 100, DAY,
	  "How often the own event stream is trimmed." },
	{ "retain", RT_SETTING_DURATION, AT(retain_ms), "1h", 0, 365 * DAY,
	  "Events that every group has acknowledged are kept for so long …" },
	{ "retain-count", RT_SETTING_INT, AT(retain_count), "100000", 0, INT64_C(1000000000),
	  "… and at most so many of them." },
	{ "ghost-after", RT_SETTING_DURATION, AT(ghost_ms), "10m", 1000, 365 * DAY,
	  "A group whose consumers have been gone for so long is reported." },
	{ "read-count", RT_SETTING_INT, AT(read_count_max), "256", 1, 10000,
	  "Events in one read of inventory's stream." },
	{ "events-in-flight", RT_SETTING_INT, AT(in_flight_max), "1024", 1, 1000000,
	  "Events being handled; reading stops there." },
	{ "events-parked", RT_SETTING_INT, AT(parked_max), "4096", 1, 1000000,
	  "Events waiting for a retry, or behind one; reading stops there." },
	{ "deliveries-max", RT_SETTING_INT, AT(deliveries_max), "8", 1, 1000,
	  "An event that failed so often goes to the dead letters." },
	{ "event-retry-min", RT_SETTING_DURATION, AT(event_retry_min_ms), "100ms", 1, DAY,
	  "An event that failed is tried again after so long; doubles." },
	{ "event-retry-max", RT_SETTING_DURATION, AT(event_retry_max_ms), "10s", 1, DAY,
	  "The longest pause between two tries of an event." },
	{ "claim-idle", RT_SETTING_DURATION, AT(claim_idle_ms), "15s", 100, DAY,
	  "Events that another consumer has held for so long are taken over." },
	{ "claim-every", RT_SETTING_DURATION, AT(claim_every_ms), "5s", 50, DAY,
	  "How often such events are looked for." },
	{ "consumer-idle", RT_SETTING_DURATION, AT(consumer_idle_ms), "1h", 1000, 365 * DAY,
	  "Consumers that have been gone for so long and hold nothing are removed." },
	RT_SETTING_END,
};

struct own {
	struct order_store *store;
	struct order *order;
	struct rt_ready redis_ready, events_ready;
	struct rt_timer ready_timer;
	struct rt_task end;
	struct rt_service *service;
};
static struct own parts; /* one a process; the admin port looks at it to the end */

static void note_ready(struct rt_timer *timer)
{
	struct own *own = RT_CONTAINER_OF(timer, struct own, ready_timer);

	atomic_store(&own->redis_ready.ready, own->store->ops->ready(own->store));
	atomic_store(&own->events_ready.ready, order_ready(own->order));
	rt_timer_start(own->service->loop, timer, READY_EVERY_MS, note_ready);
}

/* Unique for the process, also when a container always has the same pid. */
static void name_consumer(struct rt_loop *loop, char *name, size_t size)
{
	char host[64] = "host";
	uint32_t random;

	gethostname(host, sizeof(host) - 1);
	rt_loop_random_bytes(loop, &random, sizeof(random));
	snprintf(name, size, "%s-%ld-%08" PRIx32, host, (long)getpid(), random);
}

static int new_source(struct rt_service *service, struct own *own,
		      const struct rt_redis_options *redis, struct rt_stream_source **ret)
{
	char consumer[128];
	struct rt_stream_redis_options options = {
		.reader = redis,
		.commands = order_store_redis_connection(own->store),
		.stream = "inventory:{0}:events",
		.group = "order",
		.consumer = consumer,
		.context = "order",
		.partition = PARTITION,
	};

	name_consumer(service->loop, consumer, sizeof(consumer));
	return rt_stream_redis_new(service->loop, &options, ret);
}

static int new_order(struct rt_service *service, struct own *own, struct rt_stream_source *source)
{
	const struct settings *settings = service->settings;
	struct order_options options = {
		.store = own->store,
		.inventory = source,
		.events = { RT_EVENTS_DEFAULTS },
		.clock = { .decision_ms = settings->decision_ms,
			   .retry_min_ms = settings->retry_min_ms,
			   .retry_max_ms = settings->retry_max_ms },
		.timers_every_ms = settings->timers_every_ms,
		.trim_every_ms = settings->trim_every_ms,
		.retain_ms = settings->retain_ms,
		.retain_count = settings->retain_count,
		.ghost_ms = settings->ghost_ms,
		.metrics = service->metrics,
	};

	options.events.name = "inventory:{0}:events";
	options.events.metrics = service->metrics;
	options.events.read_count_max = (int)settings->read_count_max;
	options.events.in_flight_max = (int)settings->in_flight_max;
	options.events.parked_max = (int)settings->parked_max;
	options.events.deliveries_max = (int)settings->deliveries_max;
	options.events.retry_min_ms = settings->event_retry_min_ms;
	options.events.retry_max_ms =
		RT_MAX(settings->event_retry_min_ms, settings->event_retry_max_ms);
	options.events.claim_idle_ms = settings->claim_idle_ms;
	options.events.claim_every_ms = settings->claim_every_ms;
	options.events.consumer_idle_ms = settings->consumer_idle_ms;
	return order_new(service->loop, &options, &own->order);
}

static int make_parts(struct rt_service *service, struct own *own, const char *password)
{
	const struct settings *settings = service->settings;
	struct rt_redis_options redis = {
		.host = settings->redis.host,
		.port = (int)settings->redis.port,
		.unix_path = settings->redis.unix_path,
		.user = settings->redis.user,
		.password = password,
		.name = "tandem-order",
		.timeout_ms = settings->redis.timeout_ms,
		.pending_max = PENDING_COMMANDS,
	};
	struct order_store_redis_options store = {
		.redis = &redis,
		.stream_length_max = settings->stream_length_max,
		.partition = PARTITION,
		.metrics = service->metrics,
	};
	struct rt_stream_source *source = NULL;
	int rc = order_store_redis_new(service->loop, &store, &own->store);

	if (rc == RT_OK)
		rc = new_source(service, own, &redis, &source);
	if (rc == RT_OK)
		rc = new_order(service, own, source);
	return rc;
}

static int start(struct rt_service *service)
{
	const struct settings *settings = service->settings;
	struct own *own = &parts;
	char *password = NULL;
	int rc;

	service->own = own;
	own->service = service;
	rc = rt_redis_settings_password(&settings->redis, &password);
	if (rc != RT_OK)
		return rc;
	rc = make_parts(service, own, password);
	free(password);
	if (rc != RT_OK) {
		RT_LOG(RT_ERROR, "cannot start", RT_S("reason", rt_status_text(rc)));
		return rc;
	}
	rt_admin_check(service->admin, &own->redis_ready, "redis");
	rt_admin_check(service->admin, &own->events_ready, "events");
	rt_server_add(service->server, order_rpc(own->order));
	order_start(own->order);
	note_ready(&own->ready_timer);
	return RT_OK;
}

static void end(struct rt_task *task)
{
	struct own *own = RT_CONTAINER_OF(task, struct own, end);

	order_free(own->order);
	rt_service_stopped(own->service);
}

/* May be called by a command's done, where its connection must not be freed. */
static void stopped(void *user)
{
	struct own *own = user;

	own->end.run = end;
	rt_loop_defer(own->service->loop, &own->end);
}

static void stop(struct rt_service *service)
{
	struct own *own = service->own;

	rt_timer_stop(service->loop, &own->ready_timer);
	order_stop(own->order, stopped, own);
}

int main(int argc, char **argv)
{
	const struct rt_service_definition definition = {
		.program = { .service = "order",
			     .about = "Places orders, and brings each to exactly one outcome.",
			     .settings = settings_table,
			     .settings_size = sizeof(struct settings) },
		.listen = "127.0.0.1:50052",
		.admin_listen = "127.0.0.1:9102",
		.functions = order_functions.code,
		.functions_length = order_functions.code_length,
		.start = start,
		.stop = stop,
	};

	return rt_service_run(&definition, argc, argv);
}
