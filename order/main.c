/* main.c - tandem-order: settings, Redis, the subscription to inventory's events, the service. */
#include "base/base.h"
#include "contexts.h"
#include "order.h"
#include "service/context.h"
#include "store.h"

#define ANSWERS        "inventory:{0}:events"
#define READY_EVERY_MS 200

struct settings {
	struct rt_service_settings service; /* first */
	struct rt_context_settings context;
	int64_t stream_length_max;
	int64_t decision_ms, retry_min_ms, retry_max_ms, timers_every_ms;
};

#define AT(member) offsetof(struct settings, member)
static const struct rt_setting settings_table[] = {
	RT_CONTEXT_SETTINGS(struct settings, context, "order"),
	{ "stream-length-max", RT_SETTING_INT, AT(stream_length_max), "1000000", 100,
	  INT64_C(1000000000), "Entries in the own event stream past which orders are refused." },
	{ "decision-timeout", RT_SETTING_DURATION, AT(decision_ms), "2m", 100, 30 * RT_DAY_MS,
	  "An order that inventory has not answered for so long expires." },
	{ "retry-min", RT_SETTING_DURATION, AT(retry_min_ms), "2s", 10, RT_DAY_MS,
	  "A request without an answer is published again after so long; doubles." },
	{ "retry-max", RT_SETTING_DURATION, AT(retry_max_ms), "30s", 10, RT_DAY_MS,
	  "The longest pause between two repeats of a request." },
	{ "timers-every", RT_SETTING_DURATION, AT(timers_every_ms), "250ms", 10, 60000,
	  "How often orders whose timer ran out are looked for." },
	RT_SETTING_END,
};

struct own {
	struct order_store *store;
	struct order *order;
	struct rt_check redis_check, events_check, storage_check;
	struct rt_timer ready_timer;
	struct rt_task end;
	struct rt_service *service;
};
static struct own parts; /* one a process; its readiness is looked at to the end */

static void note_ready(struct rt_timer *timer)
{
	struct own *own = RT_CONTAINER_OF(timer, struct own, ready_timer);
	const char *problem = order_store_redis_problem(own->store);
	char full[200];

	if (problem == NULL)
		rt_check_ready(&own->redis_check);
	else
		rt_check_failed(&own->redis_check, "%s", problem);
	if (order_ready(own->order))
		rt_check_ready(&own->events_check);
	else if (problem != NULL)
		rt_check_failed(&own->events_check, "waits for Redis");
	else
		rt_check_failed(&own->events_check, ANSWERS " is not being read");
	if (order_storage_problem(own->order, full, sizeof(full)))
		rt_check_failed(&own->storage_check, "%s", full);
	else
		rt_check_ready(&own->storage_check);
	rt_timer_start(own->service->loop, timer, READY_EVERY_MS, note_ready);
}

static int new_order(struct rt_service *service, struct own *own, struct rt_stream_source *source)
{
	const struct settings *settings = service->settings;
	const struct rt_context_settings *context = &settings->context;
	struct order_options options = {
		.store = own->store,
		.inventory = source,
		.events = rt_context_events(context, ANSWERS, service->metrics),
		.clock = { .decision_ms = settings->decision_ms,
			   .retry_min_ms = settings->retry_min_ms,
			   .retry_max_ms = settings->retry_max_ms },
		.stream_length_max = settings->stream_length_max,
		.timers_every_ms = settings->timers_every_ms,
		.trim_every_ms = context->trim_every_ms,
		.retain_ms = context->retain_ms,
		.retain_count = context->retain_count,
		.ghost_ms = context->ghost_ms,
		.metrics = service->metrics,
	};

	return order_new(service->loop, &options, &own->order);
}

static int make_parts(struct rt_service *service, struct own *own, const char *password)
{
	const struct settings *settings = service->settings;
	struct rt_redis_options redis =
		rt_context_redis(&settings->context, "tandem-order", password);
	struct order_store_redis_options store = {
		.redis = &redis,
		.stream_length_max = settings->stream_length_max,
		.partition = RT_CONTEXT_PARTITION,
		.metrics = service->metrics,
	};
	struct rt_stream_source *source = NULL;
	int rc = order_store_redis_new(service->loop, &store, &own->store);

	if (rc == RT_OK)
		rc = rt_context_source(service->loop, &order_functions, ANSWERS, &redis,
				       order_store_redis_connection(own->store), &source);
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
	rc = rt_redis_settings_password(&settings->context.redis, &password);
	if (rc != RT_OK)
		return rc;
	rc = make_parts(service, own, password);
	free(password);
	if (rc != RT_OK) {
		RT_LOG(RT_ERROR, "cannot start", RT_S("reason", rt_status_text(rc)));
		return rc;
	}
	rt_readiness_add(service->readiness, &own->redis_check, "redis", NULL);
	rt_readiness_add(service->readiness, &own->events_check, "events", NULL);
	rt_readiness_add(service->readiness, &own->storage_check, "storage", NULL);
	rt_server_add(service->server, order_rpc(own->order));
	rt_server_add(service->server, order_placement_rpc(own->order));
	order_start(own->order);
	note_ready(&own->ready_timer);
	return RT_OK;
}

static void drain(struct rt_service *service)
{
	order_drain(((struct own *)service->own)->order);
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
		.listen = ORDER_LISTEN,
		.admin_listen = ORDER_ADMIN_LISTEN,
		.functions = order_functions.code,
		.functions_length = order_functions.code_length,
		.start = start,
		.drain = drain,
		.stop = stop,
	};

	return rt_service_run(&definition, argc, argv);
}
