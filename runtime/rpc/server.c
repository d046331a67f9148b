/* server.c - what a server serves, and how it starts. */
#include "server_internal.h"

#include <grpc/grpc_security.h>
#include <string.h>

#include "interpose/interpose.h"

/* Requested calls kept open for each method. gRPC as Debian builds it looks through every open
 * tag of the queue at each completion (a check of its debug builds): 64 a method cost a sixth of
 * a call. With fewer, calls that come in one read wait inside gRPC until the next is armed, which
 * is at once. */
#define ARMED_STANDARD       8
#define ARMED_UNKNOWN        2
#define CALLS_STANDARD       10000
#define CONNECTIONS_STANDARD 4096
#define METADATA_MAX_BYTES   (16 * 1024)
#define BUSY_RETRY_MS        1000
#define LEAVING_RETRY_MS     1000

struct rt_server *rpc_server_new(struct rt_loop *loop, const struct rt_server_options *options)
{
	struct rt_server *server = rt_alloc(sizeof(*server));

	server->loop = loop;
	server->listen = rt_strdup(options->listen);
	server->message_max_bytes = options->message_max_bytes > 0 ? options->message_max_bytes
								   : RPC_MESSAGE_STANDARD_BYTES;
	server->calls_max = options->calls_max > 0 ? options->calls_max : CALLS_STANDARD;
	server->connections_max =
		options->connections_max > 0 ? options->connections_max : CONNECTIONS_STANDARD;
	server->farewell_ms = options->farewell_ms;
	server->reuse_port = options->reuse_port;
	server->metrics = options->metrics;
	server->methods_end = &server->methods;
	rt_list_init(&server->active);
	rt_list_init(&server->pool);
	rt_status_set(&server->busy, RT_CODE_RESOURCE_EXHAUSTED,
		      "%lld calls are under way, which is all this server takes",
		      (long long)server->calls_max);
	rt_status_retry(&server->busy, BUSY_RETRY_MS);
	rt_status_set(&server->leaving, RT_CODE_UNAVAILABLE, "the server is going down");
	rt_status_retry(&server->leaving, LEAVING_RETRY_MS);
	server->queue = rpc_queue_ref(loop);
	return server;
}

void rpc_server_add(struct rt_server *server, const struct rpc_server_service *service)
{
	const ProtobufCServiceDescriptor *descriptor = service->service->descriptor;

	for (unsigned i = 0; i < descriptor->n_methods; i++) {
		struct server_method *method = rt_alloc(sizeof(*method));

		method->service = service->service;
		method->armed = service->armed;
		method->always = service->always;
		rpc_method_init(&method->base, descriptor, service->name, i, server->metrics,
				"server");
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
	struct rpc_server_service added = { .service = service, .armed = ARMED_STANDARD };

	rpc_server_add(server, &added);
}

void rpc_server_add_part(struct rt_server *server, struct rpc_server_part *part)
{
	part->next = server->parts;
	server->parts = part;
}

const char *rpc_server_service_name(const struct rt_server *server, size_t index)
{
	return index < server->service_count ? server->service_names[index] : NULL;
}

static grpc_server *create_grpc_server(const struct rt_server *server)
{
#define INT_ARG(name, number)                                                                      \
	{ .type = GRPC_ARG_INTEGER,                                                                \
	  .key = (char *)(uintptr_t)(name),                                                        \
	  .value.integer = (int)RT_MIN((int64_t)(number), INT32_MAX) }
	grpc_arg args[] = {
		INT_ARG(GRPC_ARG_ALLOW_REUSEPORT, server->reuse_port),
		INT_ARG(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, server->message_max_bytes),
		INT_ARG(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX_BYTES),
		/* Nothing is compressed, and nothing unpacked (decision 021): gRPC would look at
		 * the size of a message after it has unpacked it. */
		INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
		INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
		INT_ARG(GRPC_ARG_MAX_CONCURRENT_STREAMS, server->calls_max),
		/* Clients may ping every 5 s, with and without calls. */
		INT_ARG(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
		INT_ARG(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000),
		/* A client that vanished without a word is found out. */
		INT_ARG(GRPC_ARG_KEEPALIVE_TIME_MS, 60000),
		INT_ARG(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000),
		INT_ARG(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10000),
		INT_ARG(GRPC_ARG_ENABLE_CHANNELZ, 0),
	};
#undef INT_ARG
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
static void tell_interposed(const struct rt_server *server)
{
	static const char *const labels[] = { "mode", NULL };
	bool polls = rpc_queue_polls(server->queue);
	struct rt_metric *mode;

	if (rt_accept_guard_problem() != NULL)
		RT_LOG(RT_WARN, "connections have no limit",
		       RT_S("reason", rt_accept_guard_problem()));
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
}

int rt_server_start(struct rt_server *server)
{
	grpc_server_credentials *credentials;

	/* gRPC would take the path away from who listens there. */
	if (strncmp(server->listen, "unix:", 5) == 0 && rt_listen_unix_taken(server->listen + 5))
		return RT_SYSTEM;
	credentials = grpc_insecure_server_credentials_create();
	/* This also makes the linker take the guard along. */
	rt_accept_guard_limit(server->connections_max);
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
	tell_interposed(server);
	for (struct server_method *method = server->methods; method != NULL;
	     method = method->next) {
		for (int i = 0; i < method->armed; i++)
			rpc_server_arm(server, method);
	}
	for (int i = 0; i < ARMED_UNKNOWN; i++)
		rpc_server_arm(server, NULL);
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
	if (server->grpc != NULL)
		grpc_server_destroy(server->grpc);
	while ((link = rt_list_pop(&server->pool)) != NULL)
		rpc_server_call_free(RT_CONTAINER_OF(link, struct server_call, link));
	while (server->parts != NULL) {
		struct rpc_server_part *part = server->parts;

		server->parts = part->next;
		part->free(part);
	}
	while (server->methods != NULL) {
		struct server_method *method = server->methods;

		server->methods = method->next;
		rpc_method_done(&method->base);
		free(method);
	}
	rpc_queue_unref(server->queue);
	rt_status_done(&server->busy);
	rt_status_done(&server->leaving);
	free(server->service_names);
	free(server->listen);
	free(server);
}
