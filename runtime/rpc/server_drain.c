/* server_drain.c - a server's graceful end. */
#include <assert.h>

#include "server_internal.h"

#define LINGER_MS 50

static void run_drained(struct rt_task *task)
{
	struct rt_server *server = RT_CONTAINER_OF(task, struct rt_server, drained_task);

	server->drained(server->drained_user);
}

void rpc_server_check_drained(struct rt_server *server)
{
	if (!server->shut_down || server->active_count > 0 || server->armed_count > 0 ||
	    server->drained_task.run != NULL)
		return;
	rt_timer_stop(server->loop, &server->farewell_timer);
	rt_timer_stop(server->loop, &server->linger_timer);
	rt_timer_stop(server->loop, &server->grace_timer);
	rt_timer_stop(server->loop, &server->watch_timer);
	server->drained_task.run = run_drained;
	rt_loop_defer(server->loop, &server->drained_task);
}

static void on_shut_down(struct rpc_tag *tag, bool ok)
{
	struct rt_server *server = RT_CONTAINER_OF(tag, struct rt_server, shutdown_tag);

	(void)ok;
	server->shut_down = true;
	rpc_server_check_drained(server);
}

/* No new calls. gRPC silently cancels calls that arrive from now on: that is why farewell_timer gave
 * clients that call without a pause the time to notice. */
static void close_server(struct rt_server *server)
{
	if (server->closing)
		return;
	server->closing = true;
	rpc_queue_tag(&server->shutdown_tag, on_shut_down);
	grpc_server_shutdown_and_notify(server->grpc, rpc_queue_grpc(server->queue),
					&server->shutdown_tag);
	rpc_queue_expect(server->queue, &server->shutdown_tag);
}

static void on_linger_over(struct rt_timer *timer)
{
	struct rt_server *server = RT_CONTAINER_OF(timer, struct rt_server, linger_timer);

	close_server(server);
	grpc_server_cancel_all_calls(server->grpc);
}

/* Once no call runs, connections are closed without waiting for the clients: one that sleeps reads
 * GOAWAY only when it wakes. The last answers get the time to leave. */
static void linger_if_idle(struct rt_server *server)
{
	if (server->active_count == 0)
		rt_timer_start(server->loop, &server->linger_timer, LINGER_MS, on_linger_over);
}

void rpc_server_call_ended(struct rt_server *server)
{
	if (server->closing)
		linger_if_idle(server);
	rpc_server_check_drained(server);
}

/* If calls run, each connection gets GOAWAY and closes when its calls are done. If none runs, this
 * step is skipped, because gRPC would cancel calls that still arrive during it. */
static void on_farewell_over(struct rt_timer *timer)
{
	struct rt_server *server = RT_CONTAINER_OF(timer, struct rt_server, farewell_timer);

	if (server->active_count > 0)
		close_server(server);
	else
		linger_if_idle(server);
}

/* Cancels the calls that still run; their clients get a status that says that the server did it. */
static void on_grace_over(struct rt_timer *timer)
{
	struct rt_server *server = RT_CONTAINER_OF(timer, struct rt_server, grace_timer);
	struct rt_list late;

	close_server(server);
	rt_list_init(&late);
	rt_list_move(&late, &server->active);
	while (!rt_list_empty(&late)) {
		struct rt_list *link = rt_list_pop(&late);
		struct server_call *call = RT_CONTAINER_OF(link, struct server_call, link);

		rt_list_push(&server->active, link);
		if (!call->base.ended) {
			rt_status_set(&call->base.forced, RT_CODE_UNAVAILABLE,
				      "the server is shutting down");
			rpc_call_cancelled(&call->base);
		}
	}
	grpc_server_cancel_all_calls(server->grpc);
}

void rt_server_drain(struct rt_server *server, int64_t grace_ms, void (*drained)(void *user),
		     void *user)
{
	assert(!server->draining);
	server->draining = true;
	server->drained = drained;
	server->drained_user = user;
	for (struct rpc_server_plugin *plugin = server->plugins; plugin != NULL;
	     plugin = plugin->next)
		plugin->drain(plugin);
	if (server->grpc == NULL) {
		server->shut_down = true;
		rpc_server_check_drained(server);
		return;
	}
	rt_timer_start(server->loop, &server->grace_timer, grace_ms, on_grace_over);
	rt_timer_start(server->loop, &server->farewell_timer, server->farewell_ms,
		       on_farewell_over);
}
