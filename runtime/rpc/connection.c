/* connection.c - a connection to one address. gRPC opens it, and opens it again when it breaks. */
#include <grpc/slice.h>
#include <stdio.h>
#include <string.h>

#include "client_internal.h"
#include "tls_internal.h"

#define METADATA_MAX_BYTES   (16 * 1024)
#define RECONNECT_MIN_MS     100
#define RECONNECT_MAX_MS     2000
#define KEEPALIVE_MS         10000
#define KEEPALIVE_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_MS   5000

/* `host`: the name that a certificate must have, when it is not that of the address. */
static grpc_channel *grpc_channel_new(const struct rt_channel *channel, const char *address,
				      const char *host)
{
	grpc_arg args[] = {
		RPC_INT_ARG(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, channel->message_max_bytes),
		RPC_INT_ARG(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX_BYTES),
		/* Nothing is compressed, and nothing unpacked (decision 021). */
		RPC_INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
		RPC_INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
		/* Each channel has a connection of its own. */
		RPC_INT_ARG(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
		RPC_INT_ARG(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_MIN_MS),
		RPC_INT_ARG(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MAX_MS),
		/* Despite its name: how long one attempt may take. */
		RPC_INT_ARG(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_TIMEOUT_MS),
		RPC_INT_ARG(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 1000),
		/* Detects a peer that hangs, or vanished without closing. */
		RPC_INT_ARG(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
		RPC_INT_ARG(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
		/* Callers know what may be repeated; gRPC does not. */
		RPC_INT_ARG(GRPC_ARG_ENABLE_RETRIES, 0),
		RPC_INT_ARG(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
		RPC_INT_ARG(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
		RPC_INT_ARG(GRPC_ARG_ENABLE_CHANNELZ, 0),
		/* The last. */
		{ .type = GRPC_ARG_STRING,
		  .key = (char *)(uintptr_t)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
		  .value.string = (char *)(uintptr_t)host },
	};
	grpc_channel_args list = { .num_args = RT_LENGTH(args) - (host == NULL), .args = args };
	grpc_channel_credentials *credentials = channel->tls != NULL
							? rpc_tls_channel_credentials(channel->tls)
							: grpc_insecure_credentials_create();
	grpc_channel *made = grpc_channel_create(address, credentials, &list);

	grpc_channel_credentials_release(credentials);
	return made;
}

static struct rpc_connection *connection_new(struct rt_channel *channel, grpc_channel *grpc,
					     const char *address)
{
	struct rpc_connection *connection = rt_alloc(sizeof(*connection));

	connection->channel = channel;
	connection->address = rt_strdup(address);
	connection->grpc = grpc;
	rt_list_init(&connection->calls);
	snprintf(connection->probe.reason, sizeof(connection->probe.reason), "not asked yet");
	return connection;
}

struct rpc_connection *rpc_connection_new(struct rt_channel *channel, const char *address,
					  const struct rpc_name *name)
{
	const char *host = name != NULL ? rpc_name_host(name) : NULL;
	struct rpc_connection *connection;

	/* Whoever listens at a unix socket is on this machine. */
	if (strncmp(address, "unix:", 5) == 0)
		host = "localhost";
	connection = connection_new(
		channel, grpc_channel_new(channel, address, channel->tls != NULL ? host : NULL),
		address);
	connection->name = name;
	connection->renewal = channel->renewal;
	connection->avoided = channel->prober != NULL; /* until it says that it serves */
	return connection;
}

struct rpc_connection *rpc_connection_nowhere(struct rt_channel *channel, const char *target)
{
	char *why = rt_printf("no address is known for %s", target);
	struct rpc_connection *connection = connection_new(
		channel, grpc_lame_client_channel_create(target, GRPC_STATUS_UNAVAILABLE, why), "");

	free(why);
	return connection;
}

void rpc_connection_free(struct rpc_connection *connection)
{
	if (connection == NULL)
		return;
	grpc_channel_destroy(connection->grpc);
	free(connection->methods);
	free(connection->address);
	free(connection);
}

void *rpc_connection_method(struct rpc_connection *connection, size_t number, const char *path)
{
	size_t count = connection->channel->method_count;

	if (number >= connection->method_count) {
		connection->methods = rt_realloc(connection->methods, count * sizeof(void *));
		memset(connection->methods + connection->method_count, 0,
		       (count - connection->method_count) * sizeof(void *));
		connection->method_count = count;
	}
	if (connection->methods[number] == NULL)
		connection->methods[number] =
			grpc_channel_register_call(connection->grpc, path, NULL, NULL);
	return connection->methods[number];
}

bool rpc_connection_usable(const struct rpc_connection *connection)
{
	const struct rt_channel *channel = connection->channel;
	grpc_connectivity_state state;

	if (connection->avoided || connection->leaving || channel->closing)
		return false;
	state = grpc_channel_check_connectivity_state(connection->grpc, 0);
	/* What is asked for its health is up. Else it may come up with the first call. */
	return state == GRPC_CHANNEL_READY ||
	       (channel->prober == NULL && state != GRPC_CHANNEL_TRANSIENT_FAILURE);
}

void rpc_connection_end_calls(struct rpc_connection *connection, const char *why)
{
	/* None ends in here: gRPC says so later. */
	for (struct rt_list *link = connection->calls.next; link != &connection->calls;
	     link = link->next) {
		struct client_call *call = RT_CONTAINER_OF(link, struct client_call, link);

		if (call->op != &connection->probe.op)
			grpc_call_cancel_with_status(call->grpc, GRPC_STATUS_UNAVAILABLE, why,
						     NULL);
	}
}
