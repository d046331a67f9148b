/* health.c - grpc.health.v1: Check and Watch, for "" (all) and every service of the server, answered
 * from the process's readiness. A Watch of an unknown service gets SERVICE_UNKNOWN and goes on, as the
 * definition requires. */
#include <grpc/health/v1/health.pb-c.h>
#include <string.h>

#include "server_internal.h"

typedef Grpc__Health__V1__HealthCheckRequest check_request;
typedef Grpc__Health__V1__HealthCheckResponse check_response;

struct rpc_health {
	struct rpc_server_plugin plugin;
	Grpc__Health__V1__Health_Service service;
	struct rt_server *server;
	struct rt_readiness *readiness; /* NULL: always ready */
	struct rt_list watchers;
	bool closed;
};

struct watcher {
	struct rt_list link;
	struct rt_call *call;
	Grpc__Health__V1__HealthCheckResponse_Closure closure;
	char *service;
	Grpc__Health__V1__HealthCheckResponse__ServingStatus sent;
};

static bool is_known(const struct rpc_health *health, const char *service)
{
	const struct rt_server *server = health->server;

	if (service[0] == '\0')
		return true;
	for (size_t i = 0; i < server->service_count; i++) {
		if (strcmp(server->service_names[i], service) == 0)
			return true;
	}
	return false;
}

static check_response response_for(const struct rpc_health *health, const char *service)
{
	check_response response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	bool ready = !health->closed &&
		     (health->readiness == NULL || rt_readiness_ready(health->readiness, service));

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name
	if (!is_known(health, service))
		response.status = STATUS(SERVICE_UNKNOWN);
	else
		response.status = ready ? STATUS(SERVING) : STATUS(NOT_SERVING);
	return response;
}

static void health_check(Grpc__Health__V1__Health_Service *service, const check_request *request,
			 Grpc__Health__V1__HealthCheckResponse_Closure closure, void *closure_data)
{
	struct rpc_health *health = RT_CONTAINER_OF(service, struct rpc_health, service);
	check_response response = response_for(health, request->service);

	if (is_known(health, request->service))
		closure(&response, closure_data);
	else
		rt_call_failf(closure_data, RT_CODE_NOT_FOUND, "unknown service %.100s",
			      request->service);
}

static void end_watcher(struct watcher *watcher)
{
	rt_list_remove(&watcher->link);
	rt_call_finish(watcher->call);
	free(watcher->service);
	free(watcher);
}

static void on_watcher_gone(struct rt_call *call, void *user)
{
	(void)call;
	end_watcher(user);
}

static void health_watch(Grpc__Health__V1__Health_Service *service, const check_request *request,
			 Grpc__Health__V1__HealthCheckResponse_Closure closure, void *closure_data)
{
	struct rpc_health *health = RT_CONTAINER_OF(service, struct rpc_health, service);
	struct watcher *watcher = rt_alloc(sizeof(*watcher));
	check_response response;

	watcher->call = closure_data;
	watcher->closure = closure;
	watcher->service = rt_strdup(request->service);
	response = response_for(health, watcher->service);
	watcher->sent = response.status;
	rt_list_init(&watcher->link);
	rt_list_push(&health->watchers, &watcher->link);
	closure(&response, closure_data);
	if (health->closed)
		end_watcher(watcher);
	else
		rt_call_on_cancel(watcher->call, on_watcher_gone, watcher);
}

/* Sends each Watch whose status has changed the new one. */
static void notify_watchers(void *user)
{
	struct rpc_health *health = user;

	for (struct rt_list *link = health->watchers.next; link != &health->watchers;
	     link = link->next) {
		struct watcher *watcher = RT_CONTAINER_OF(link, struct watcher, link);
		check_response response = response_for(health, watcher->service);

		if (response.status == watcher->sent)
			continue;
		watcher->sent = response.status;
		watcher->closure(&response, watcher->call);
	}
}

/* Sends NOT_SERVING to the Watch streams and ends them. */
static void health_drain(struct rpc_server_plugin *plugin)
{
	struct rpc_health *health = RT_CONTAINER_OF(plugin, struct rpc_health, plugin);

	health->closed = true;
	notify_watchers(health);
	while (!rt_list_empty(&health->watchers))
		/* Each leaves the list, elsewhere: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		end_watcher(RT_CONTAINER_OF(health->watchers.next, struct watcher, link));
}

static void health_free(struct rpc_server_plugin *plugin)
{
	struct rpc_health *health = RT_CONTAINER_OF(plugin, struct rpc_health, plugin);

	if (health->readiness != NULL)
		rt_readiness_watch(health->readiness, NULL, NULL);
	free(health);
}

struct rpc_server_plugin *rpc_health_new(struct rt_server *server, struct rt_readiness *readiness)
{
	struct rpc_health *health = rt_alloc(sizeof(*health));

	health->plugin.services[0] =
		(struct rpc_server_service){ .service = (ProtobufCService *)&health->service,
					     .always = true };
	health->plugin.drain = health_drain;
	health->plugin.free = health_free;
	health->service = (Grpc__Health__V1__Health_Service)GRPC__HEALTH__V1__HEALTH__INIT(health_);
	health->server = server;
	health->readiness = readiness;
	rt_list_init(&health->watchers);
	if (readiness != NULL)
		rt_readiness_watch(readiness, notify_watchers, health);
	return &health->plugin;
}
