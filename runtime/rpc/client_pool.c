/* client_pool.c - the memory of a channel's calls, kept for the next ones. */
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>

#include "client_internal.h"

#define POOL_MAX 256

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
