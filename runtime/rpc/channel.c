/* channel.c - connections to a target. gRPC opens and closes them; while the target is away, calls
 * fail at once with UNAVAILABLE. */
#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <string.h>

#include "client_internal.h"

#define METADATA_MAX_BYTES   (16 * 1024)
#define RECONNECT_MIN_MS     100
#define RECONNECT_MAX_MS     2000
#define KEEPALIVE_MS         10000
#define KEEPALIVE_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_MS   5000
#define POOL_MAX             256 /* calls whose memory is kept */

static grpc_channel *connect_one(const char *target, int64_t message_max_bytes)
{
	grpc_arg args[] = {
		RPC_INT_ARG(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, message_max_bytes),
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
	};
	grpc_channel_args list = { .num_args = RT_LENGTH(args), .args = args };
	grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
	grpc_channel *channel = grpc_channel_create(target, credentials, &list);

	grpc_channel_credentials_release(credentials);
	return channel;
}

static void run_freed(struct rt_task *task)
{
	struct rt_channel *channel = RT_CONTAINER_OF(task, struct rt_channel, freed_task);
	void (*freed)(void *user) = channel->freed;
	void *user = channel->freed_user;
	struct rt_list *link;

	while ((link = rt_list_pop(&channel->pool)) != NULL)
		rpc_client_call_free(RT_CONTAINER_OF(link, struct client_call, link));
	for (int i = 0; i < channel->count; i++)
		grpc_channel_destroy(channel->connections[i]);
	rpc_queue_unref(channel->queue);
	free(channel->connections);
	free(channel->avoided);
	free(channel);
	if (freed != NULL)
		freed(user);
}

/* The addresses of a target, as texts one after the other in a copy. 0: one of them is empty. */
static size_t split_target(const char *target, char **ret_addresses)
{
	char *addresses = rt_strdup(target);
	size_t count = 1;

	for (char *at = addresses; *at != '\0'; at++) {
		if (*at == ',') {
			*at = '\0';
			count++;
		}
	}
	for (const char *at = addresses; at < addresses + strlen(target) + 1;
	     at += strlen(at) + 1) {
		if (*at == '\0')
			count = 0;
	}
	*ret_addresses = addresses;
	return count;
}

static void connect_all(struct rt_channel *channel, const char *addresses, size_t address_count,
			int64_t message_max_bytes)
{
	const char *address = addresses;

	for (int i = 0; i < channel->count; i++) {
		bool last = (size_t)i % address_count == address_count - 1;

		channel->connections[i] = connect_one(address, message_max_bytes);
		address = last ? addresses : address + strlen(address) + 1;
	}
}

int rt_channel_new(struct rt_loop *loop, const char *target,
		   const struct rt_channel_options *options, struct rt_channel **ret)
{
	char *addresses;
	size_t address_count = split_target(target, &addresses);
	struct rt_channel *channel;
	int64_t message_max_bytes = options->message_max_bytes > 0 ? options->message_max_bytes
								   : RPC_MESSAGE_STANDARD_BYTES;

	if (address_count == 0) {
		free(addresses);
		return RT_INVALID;
	}
	channel = rt_alloc(sizeof(*channel));
	channel->loop = loop;
	channel->metrics = options->metrics;
	channel->freed_task.run = run_freed;
	rt_list_init(&channel->calls);
	rt_list_init(&channel->pool);
	channel->queue = rpc_queue_ref(loop);
	channel->count = (int)address_count * RT_MAX(options->connections, 1);
	channel->connections = rt_alloc((size_t)channel->count * sizeof(*channel->connections));
	channel->avoided = rt_alloc((size_t)channel->count * sizeof(*channel->avoided));
	connect_all(channel, addresses, address_count, message_max_bytes);
	free(addresses);
	*ret = channel;
	return RT_OK;
}

int rt_channel_connections(const struct rt_channel *channel)
{
	return channel->count;
}

void rt_channel_avoid(struct rt_channel *channel, int connection, bool avoid)
{
	channel->avoided[connection] = avoid;
}

bool rt_channel_avoided(const struct rt_channel *channel, int connection)
{
	return channel->avoided[connection];
}

unsigned rpc_channel_next_connection(struct rt_channel *channel)
{
	unsigned count = (unsigned)channel->count, first = channel->turn++ % count;

	for (unsigned i = 0; i < count; i++) {
		unsigned connection = (first + i) % count;

		if (!channel->avoided[connection])
			return connection;
	}
	return first;
}

void rpc_channel_call_ended(struct rt_channel *channel)
{
	if (channel->closing && rt_list_empty(&channel->calls))
		rt_loop_defer(channel->loop, &channel->freed_task);
}

void rt_channel_free(struct rt_channel *channel, void (*freed)(void *user), void *user)
{
	if (channel == NULL) {
		if (freed != NULL)
			freed(user);
		return;
	}
	channel->closing = true;
	channel->freed = freed;
	channel->freed_user = user;
	for (struct rt_list *link = channel->calls.next; link != &channel->calls; link = link->next)
		grpc_call_cancel(RT_CONTAINER_OF(link, struct client_call, link)->grpc, NULL);
	rpc_channel_call_ended(channel);
}

/* ---- the memory of its calls, kept for the next ones ---- */

struct client_call *rpc_client_call_new(struct rt_channel *channel)
{
	struct rt_list *pooled = rt_list_pop(&channel->pool);
	struct client_call *call;

	if (pooled != NULL) {
		channel->pool_count--;
		return RT_CONTAINER_OF(pooled, struct client_call, link);
	}
	call = rt_alloc(sizeof(*call));
	rt_list_init(&call->link);
	call->channel = channel;
	grpc_metadata_array_init(&call->initial);
	grpc_metadata_array_init(&call->trailing);
	return call;
}

void rpc_client_call_free(struct client_call *call)
{
	grpc_metadata_array_destroy(&call->initial);
	grpc_metadata_array_destroy(&call->trailing);
	rt_arena_done(&call->arena);
	free(call);
}

void rpc_client_call_release(struct client_call *call)
{
	struct rt_channel *channel = call->channel;

	rpc_outgoing_drop(&call->outgoing);
	if (call->received != NULL)
		grpc_byte_buffer_destroy(RT_TAKE(call->received));
	grpc_slice_unref(call->message);
	grpc_call_unref(RT_TAKE(call->grpc));
	rt_status_done(&call->status);
	rt_arena_reset(&call->arena, RPC_ARENA_KEEP_BYTES);
	call->sending_bytes = call->queued_bytes = 0;
	call->initial.count = call->trailing.count = 0;
	call->send_started = call->read_started = call->initial_asked = false;
	call->status_done = call->half_closed = call->cancelled = false;
	call->op = NULL;
	rt_list_remove(&call->link);
	if (channel->pool_count == POOL_MAX) {
		rpc_client_call_free(call);
		return;
	}
	rt_list_push(&channel->pool, &call->link);
	channel->pool_count++;
}
