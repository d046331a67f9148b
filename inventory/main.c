/* main.c - tandem-inventory: settings, Redis, the subscription to the orders' events, the service. */
#include "base/base.h"
#include "contexts.h"
#include "inventory.h"
#include "service/context.h"

#define ORDERS         "order:{0}:events"
#define READY_EVERY_MS 200

struct settings {
	struct rt_service_settings service; /* first */
	struct rt_context_settings context;
};

static const struct rt_setting settings_table[] = {
	RT_CONTEXT_SETTINGS(struct settings, context, "inventory"),
	RT_SETTING_END,
};

struct own {
	struct rt_service *service;
	struct inventory_store *store;
	struct inventory *inventory;
	struct rt_check redis_check, events_check;
	struct rt_timer ready_timer;
	struct rt_task end;
};
static struct own parts; /* one a process; its readiness is looked at to the end */

static void note_ready(struct rt_timer *timer)
{
	struct own *own = RT_CONTAINER_OF(timer, struct own, ready_timer);
	const char *problem = inventory_store_redis_problem(own->store);

	if (problem == NULL)
		rt_check_ready(&own->redis_check);
	else
		rt_check_failed(&own->redis_check, "%s", problem);
	if (inventory_ready(own->inventory))
		rt_check_ready(&own->events_check);
	else if (problem != NULL)
		rt_check_failed(&own->events_check, "waits for Redis");
	else
		rt_check_failed(&own->events_check, ORDERS " is not being read");
	rt_timer_start(own->service->loop, timer, READY_EVERY_MS, note_ready);
}

/* The store, the subscription over its connection and one of its own, and the service of both. */
static int make_parts(struct rt_service *service, struct own *own, const char *password)
{
	const struct settings *settings = service->settings;
	const struct rt_context_settings *context = &settings->context;
	struct rt_redis_options redis = rt_context_redis(context, "tandem-inventory", password);
	struct inventory_store_redis_options store = { .redis = &redis,
						       .partition = RT_CONTEXT_PARTITION,
						       .metrics = service->metrics };
	struct inventory_options options = {
		.events = rt_context_events(context, ORDERS, service->metrics),
		.trim_every_ms = context->trim_every_ms,
		.retain_ms = context->retain_ms,
		.retain_count = context->retain_count,
		.ghost_ms = context->ghost_ms,
		.metrics = service->metrics,
	};
	int rc = inventory_store_redis_new(service->loop, &store, &own->store);

	if (rc != RT_OK)
		return rc;
	rc = rt_context_source(service->loop, &inventory_functions, ORDERS, &redis,
			       inventory_store_redis_connection(own->store), &options.orders);
	if (rc != RT_OK)
		return rc;
	options.store = own->store;
	return inventory_new(service->loop, &options, &own->inventory);
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
	rt_server_add(service->server, inventory_rpc(own->inventory));
	inventory_start(own->inventory);
	note_ready(&own->ready_timer);
	return RT_OK;
}

/* The connections must not go while one of their commands ends: in the next turn. */
static void end(struct rt_task *task)
{
	struct own *own = RT_CONTAINER_OF(task, struct own, end);

	inventory_free(own->inventory);
	rt_service_stopped(own->service);
}

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
	inventory_stop(own->inventory, stopped, own);
}

int main(int argc, char **argv)
{
	const struct rt_service_definition definition = {
		.program = { .service = "inventory",
			     .about = "Keeps stock, reserves it for orders, and answers by events.",
			     .settings = settings_table,
			     .settings_size = sizeof(struct settings) },
		.listen = INVENTORY_LISTEN,
		.admin_listen = INVENTORY_ADMIN_LISTEN,
		.functions = inventory_functions.code,
		.functions_length = inventory_functions.code_length,
		.start = start,
		.stop = stop,
	};

	return rt_service_run(&definition, argc, argv);
}
