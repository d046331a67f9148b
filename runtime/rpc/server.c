/* server.c - what a server serves, how it starts, and calls as they come. Each takes the call that was armed
 * for its method, and another is armed in its place. Calls of unknown methods come as generic ones and
 * are answered UNIMPLEMENTED.
 *
 * One call is armed for each method. More save nothing, because those that come together wait inside gRPC
 * only until the next is armed, which is at once, before the first is handled; and they cost: gRPC as Debian
 * builds it looks through all open tags of the queue at each completion (a check of its debug builds). */
#include "server_internal.h"
#include "tls_internal.h"

#include <grpc/slice.h>
#include <string.h>

#include "interpose/interpose.h"

#define CALLS_STANDARD       10000
#define CONNECTIONS_STANDARD 4096
#define METADATA_MAX_BYTES   (16 * 1024)
#define BUSY_RETRY_MS        1000
#define LEAVING_RETRY_MS     1000

/* Serves it under the given name, if any, instead of its descriptor's. */
static void add_service(struct rt_server *server, const struct rpc_server_service *service)
{
	const ProtobufCServiceDescriptor *descriptor = service->service->descriptor;

	for (unsigned i = 0; i < descriptor->n_methods; i++) {
		struct server_method *method = rt_alloc(sizeof(*method));

		method->service = service->service;
		method->always = service->always;
		rpc_method_init(&method->base, descriptor, service->name, i, server->metrics,
				"server");
		method->roles = server->access != NULL ? server->access(method->base.path) : ~0u;
		if (method->roles == 0) {
			RT_LOG(RT_ERROR, "a method has no row in the table of roles",
			       RT_S("method", method->base.path));
			server->unlisted = true;
		}
		if (method->base.client_streams || method->base.server_streams)
			method->always = false;
		*server->methods_end = method;
		server->methods_end = &method->next;
	}
	server->service_names =
		rt_realloc(server->service_names,
			   (server->service_count + 1) * sizeof(*server->service_names));
	server->service_names[server->service_count++] =
		service->name != NULL ? service->name : descriptor->name;
}

void rt_server_add(struct rt_server *server, ProtobufCService *service)
{
	struct rpc_server_service added = { .service = service };

	add_service(server, &added);
}

static void add_plugin(struct rt_server *server, struct rpc_server_plugin *plugin)
{
	plugin->next = server->plugins;
	server->plugins = plugin;
	for (size_t i = 0; i < RT_LENGTH(plugin->services) && plugin->services[i].service != NULL;
	     i++)
		add_service(server, &plugin->services[i]);
}

/* How many streams a connection may open at once. A client waits with more; somewhat more than its budget, so that
 * it gets to know of that. */
static int64_t streams_max(const struct rt_server *server, const struct rt_server_options *options)
{
	int64_t budget = options->budgets.connection.calls;

	if (options->inner || budget == 0)
		return server->calls_max;
	return RT_MIN(server->calls_max, budget + budget / 4 + 1);
}

int rt_server_new(struct rt_loop *loop, const struct rt_server_options *options,
		  struct rt_server **ret)
{
	struct rt_server *server = rt_alloc(sizeof(*server));

	server->loop = loop;
	server->listen = rt_strdup(options->listen);
	server->tls = options->tls;
	server->message_max_bytes = options->message_max_bytes > 0 ? options->message_max_bytes
								   : RPC_MESSAGE_STANDARD_BYTES;
	server->calls_max = options->calls_max > 0 ? options->calls_max : CALLS_STANDARD;
	server->connections_max =
		options->connections_max > 0 ? options->connections_max : CONNECTIONS_STANDARD;
	server->streams_max = streams_max(server, options);
	server->connections_per_address = options->connections_per_address;
	server->farewell_ms = options->farewell_ms;
	server->reuse_port = options->reuse_port;
	server->metrics = options->metrics;
	server->access = options->access;
	server->callers = rpc_callers_new(loop, options);
	server->methods_end = &server->methods;
	rt_list_init(&server->active);
	rt_list_init(&server->pool);
	rt_list_init(&server->unwatched);
	rt_status_set(&server->busy, RT_CODE_RESOURCE_EXHAUSTED,
		      "%lld calls are under way, which is all this server takes",
		      (long long)server->calls_max);
	rt_status_retry(&server->busy, BUSY_RETRY_MS);
	rt_status_set(&server->leaving, RT_CODE_UNAVAILABLE, "the server is shutting down");
	rt_status_retry(&server->leaving, LEAVING_RETRY_MS);
	server->queue = rpc_queue_ref(loop);
	add_plugin(server, rpc_health_new(server, options->readiness));
	add_plugin(server, rpc_reflection_new(server));
	*ret = server;
	return RT_OK;
}

/* ---- calls come ---- */

static void handle_arrived(struct server_call *call)
{
	struct rt_server *server = call->server;
	struct server_method *method = call->method;
	grpc_byte_buffer *buffer = RT_TAKE(call->received);
	struct rt_status status = { 0 };
	struct rpc_bytes bytes = { 0 };
	size_t length = buffer != NULL ? grpc_byte_buffer_length(buffer) : 0;

	rpc_call_begin(&call->base, method->service, &method->base);
	if (buffer == NULL && !method->base.client_streams &&
	    grpc_call_failed_before_recv_message(call->grpc)) {
		rpc_server_call_gone(call);
		return;
	}
	if ((int64_t)server->active_count > server->calls_max && !method->always) {
		rpc_call_refuse(&call->base, &server->busy);
	} else if (server->draining && !method->always) {
		rpc_call_refuse(&call->base, &server->leaving);
	} else if (!rpc_caller_admit(call, length, &status)) {
		rpc_call_refuse(&call->base, &status);
	} else if (method->base.client_streams) {
		rpc_server_watch(call);
		rpc_call_handle(&call->base, NULL, 0);
	} else if (buffer == NULL) {
		rt_status_set(&status, RT_CODE_INVALID_ARGUMENT, "the request message is missing");
		rpc_call_refuse(&call->base, &status);
	} else {
		if (method->base.server_streams)
			rpc_server_watch(call);
		if (rpc_bytes_read(&bytes, buffer)) {
			rpc_call_handle(&call->base, bytes.data, bytes.length);
		} else {
			rpc_server_set_compressed(call, &status);
			rpc_call_refuse(&call->base, &status);
		}
		rpc_bytes_done(&bytes);
		buffer = NULL;
	}
	if (buffer != NULL)
		grpc_byte_buffer_destroy(buffer);
	rt_status_done(&status);
}

static void refuse_unknown(struct server_call *call)
{
	call->end_due = true;
	call->base.ended = true;
	rt_status_set(&call->status, RT_CODE_UNIMPLEMENTED, "unknown method %.*s",
		      (int)RT_MIN(GRPC_SLICE_LENGTH(call->details.method), (size_t)200),
		      (const char *)GRPC_SLICE_START_PTR(call->details.method));
	grpc_call_details_destroy(&call->details);
	rpc_server_send_next(call);
}

static void arm(struct rt_server *server, struct server_method *method);

static void call_arrived(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, arrive_tag);
	struct rt_server *server = call->server;

	server->armed_count--;
	if (!ok) { /* the server shuts down */
		rpc_server_call_release(call);
		rpc_server_check_drained(server);
		return;
	}
	if (!server->closing)
		arm(server, call->method);
	rt_list_push(&server->active, &call->link);
	server->active_count++;
	if (call->method != NULL)
		handle_arrived(call);
	else
		refuse_unknown(call);
}

/* Arms one more call of the method (NULL: of unknown methods). */
static void arm(struct rt_server *server, struct server_method *method)
{
	struct server_call *call = rpc_server_call_new(server);
	grpc_completion_queue *cq = rpc_queue_grpc(server->queue);
	void *tag = rpc_queue_tag(&call->arrive_tag, call_arrived);
	grpc_call_error error;

	call->method = method;
	server->armed_count++;
	if (method != NULL) {
		error = grpc_server_request_registered_call(
			server->grpc, method->registered, &call->grpc, &call->deadline,
			&call->metadata, method->base.client_streams ? NULL : &call->received, cq,
			cq, tag);
	} else {
		grpc_call_details_init(&call->details);
		error = grpc_server_request_call(server->grpc, &call->grpc, &call->details,
						 &call->metadata, cq, cq, tag);
	}
	if (error != GRPC_CALL_OK) {
		RT_LOG(RT_ERROR, "gRPC takes no more calls",
		       RT_S("reason", grpc_call_error_to_string(error)));
		server->armed_count--;
		rpc_server_call_release(call);
	}
}

/* ---- start and end ---- */

static grpc_server *create_grpc_server(const struct rt_server *server)
{
	grpc_arg args[] = {
		RPC_INT_ARG(GRPC_ARG_ALLOW_REUSEPORT, server->reuse_port),
		RPC_INT_ARG(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, server->message_max_bytes),
		RPC_INT_ARG(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX_BYTES),
		/* Nothing is compressed, and nothing unpacked (decision 021): gRPC would look at
		 * the size of a message after it has unpacked it. */
		RPC_INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
		RPC_INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
		RPC_INT_ARG(GRPC_ARG_MAX_CONCURRENT_STREAMS, server->streams_max),
		/* Clients may ping every 5 s, with and without calls. */
		RPC_INT_ARG(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
		RPC_INT_ARG(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000),
		/* Detects a client that vanished without closing. */
		RPC_INT_ARG(GRPC_ARG_KEEPALIVE_TIME_MS, 60000),
		RPC_INT_ARG(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000),
		RPC_INT_ARG(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10000),
		RPC_INT_ARG(GRPC_ARG_ENABLE_CHANNELZ, 0),
	};
	grpc_channel_args list = { .num_args = RT_LENGTH(args), .args = args };

	return grpc_server_create(&list, NULL);
}

static void register_methods(struct rt_server *server)
{
	for (struct server_method *method = server->methods; method != NULL;
	     method = method->next) {
		method->registered = grpc_server_register_method(
			server->grpc, method->base.path, NULL,
			method->base.client_streams ? GRPC_SRM_PAYLOAD_NONE
						    : GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER,
			0);
	}
}

/* Which of the tricks of interpose/ are in place. */
static void report_interposed(const struct rt_server *server)
{
	static const char *const labels[] = { "mode", NULL };
	bool polls = rpc_queue_polls(server->queue);
	struct rt_metric *mode;

	if (rt_accept_guard_problem() != NULL)
		RT_LOG(RT_WARN, "connections have no limit",
		       RT_S("reason", rt_accept_guard_problem()));
	if (rt_http2_guard_problem() != NULL)
		RT_LOG(RT_WARN, "what connections bring has no limit",
		       RT_S("reason", rt_http2_guard_problem()));
	if (rt_polling_problem() != NULL)
		RT_LOG(RT_INFO, "a thread waits for gRPC", RT_S("reason", rt_polling_problem()));
	if (server->metrics == NULL)
		return;
	mode = rt_metric(server->metrics, RT_GAUGE, "tandem_grpc_polling",
			 "Who waits for gRPC's sockets: 1 for the loop's epoll, or for a thread.",
			 labels);
	rt_series_set(rt_metric_series(mode, (const char *const[]){ "epoll" }), polls);
	rt_series_set(rt_metric_series(mode, (const char *const[]){ "thread" }), !polls);
	rt_series_set(rt_metric_plain(server->metrics, RT_GAUGE, "tandem_accept_guard",
				      "1 if connections are limited and a lack of descriptors "
				      "does not end accepting."),
		      rt_accept_guard_problem() == NULL);
	rt_series_set(rt_metric_plain(server->metrics, RT_GAUGE, "tandem_http2_guard",
				      "1 if connections that bring too much are closed."),
		      rt_http2_guard_problem() == NULL);
	rt_series_set(
		rt_metric_plain(server->metrics, RT_GAUGE, "tandem_grpc_corking",
				"1 if answers that are ready together are sent in one write."),
		rt_corking_problem() == NULL);
}

int rt_server_start(struct rt_server *server)
{
	grpc_server_credentials *credentials;

	if (server->unlisted)
		return RT_INVALID;
	/* gRPC would delete the socket of a process that listens there. */
	if (strncmp(server->listen, "unix:", 5) == 0 && rt_listen_unix_taken(server->listen + 5))
		return RT_SYSTEM;
	credentials = server->tls != NULL ? rpc_tls_server_credentials(server->tls)
					  : grpc_insecure_server_credentials_create();
	/* This also makes the linker include the guards. */
	rt_accept_guard_init();
	rt_connections_limit(&(struct rt_connection_limits){
		.connections_max = server->connections_max,
		.connections_per_address = server->connections_per_address,
		.streams_max = server->streams_max,
		.message_max_bytes = server->message_max_bytes,
	});
	rt_connections_metrics(server->metrics);
	server->grpc = create_grpc_server(server);
	grpc_server_register_completion_queue(server->grpc, rpc_queue_grpc(server->queue), NULL);
	register_methods(server);
	server->port = grpc_server_add_http2_port(server->grpc, server->listen, credentials);
	grpc_server_credentials_release(credentials);
	if (server->port == 0) {
		grpc_server_destroy(RT_TAKE(server->grpc));
		return RT_SYSTEM;
	}
	grpc_server_start(server->grpc);
	report_interposed(server);
	for (struct server_method *method = server->methods; method != NULL; method = method->next)
		arm(server, method);
	arm(server, NULL);
	return RT_OK;
}

int rt_server_port(const struct rt_server *server)
{
	return server->port;
}

size_t rt_server_calls(const struct rt_server *server)
{
	return server->active_count;
}

void rt_server_free(struct rt_server *server)
{
	struct rt_list *link;

	if (server == NULL)
		return;
	rt_connections_metrics(NULL);
	if (server->grpc != NULL)
		grpc_server_destroy(server->grpc);
	while ((link = rt_list_pop(&server->pool)) != NULL)
		rpc_server_call_free(RT_CONTAINER_OF(link, struct server_call, link));
	while (server->plugins != NULL) {
		struct rpc_server_plugin *plugin = server->plugins;

		server->plugins = plugin->next;
		plugin->free(plugin);
	}
	while (server->methods != NULL) {
		struct server_method *method = server->methods;

		server->methods = method->next;
		rpc_method_done(&method->base);
		free(method);
	}
	rpc_callers_free(server->callers);
	rpc_queue_unref(server->queue);
	rt_status_done(&server->busy);
	rt_status_done(&server->leaving);
	free(server->service_names);
	free(server->listen);
	free(server);
}
