/* server_call.c - a server call over gRPC: its memory, what it receives, and its end. A client's stream
 * is read only when the handler asks. RECV_CLOSE, which tells of a cancellation, is started when the
 * handler wants to hear of it, and with the last batch at the latest; no call is freed before it has
 * come back. */
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <string.h>

#include "server_internal.h"

#define POOL_MAX 512

static const struct rpc_call_ops server_call_ops;

struct server_call *rpc_server_call_new(struct rt_server *server)
{
	struct rt_list *pooled = rt_list_pop(&server->pool);
	struct server_call *call;

	if (pooled != NULL) {
		server->pool_count--;
		return RT_CONTAINER_OF(pooled, struct server_call, link);
	}
	call = rt_alloc(sizeof(*call));
	rt_list_init(&call->link);
	call->server = server;
	grpc_metadata_array_init(&call->metadata);
	rpc_call_init(&call->base, &server_call_ops, server->loop);
	return call;
}

void rpc_server_call_free(struct server_call *call)
{
	rpc_call_done(&call->base);
	grpc_metadata_array_destroy(&call->metadata);
	free(call);
}

void rpc_server_call_release(struct server_call *call)
{
	struct rt_server *server = call->server;

	rpc_call_reset(&call->base);
	if (call->grpc != NULL)
		grpc_call_unref(call->grpc);
	call->grpc = NULL;
	call->metadata.count = 0;
	call->method = NULL;
	call->close_started = call->close_with_end = call->close_done = false;
	call->initial_sent = false;
	call->send_started = call->end_due = call->end_started = call->end_done = false;
	call->read_started = false;
	call->lost = 0;
	if (server->pool_count == POOL_MAX || server->closing) {
		rpc_server_call_free(call);
		return;
	}
	rt_list_push(&server->pool, &call->link);
	server->pool_count++;
}

static void call_settle(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	struct rt_server *server = call->server;

	if (!call->end_done || !call->close_done || call->send_started || call->read_started ||
	    rpc_call_busy(base))
		return;
	rt_list_remove(&call->link);
	server->active_count--;
	rpc_server_call_release(call);
	rpc_server_call_ended(server);
}

static void call_closed(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, close_tag);

	(void)ok;
	call->close_done = true;
	if (call->lost != 0 || !call->end_started)
		rpc_call_cancelled(&call->base);
	rpc_server_send_next(call);
	call_settle(&call->base);
}

void rpc_server_watch(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	grpc_op op;

	if (call->close_started)
		return;
	memset(&op, 0, sizeof(op));
	rpc_server_add_close(call, &op);
	rpc_queue_start(call->server->queue, call->grpc, &op, 1, &call->close_tag, call_closed);
}

/* As gRPC has it: the status, and a header that says what would be understood. Among the trailers,
 * because gRPC makes one block of both where no message lies between, and of the initial metadata
 * keeps only what is not its own. */
void rpc_server_set_compressed(struct server_call *call, struct rt_status *status)
{
	rt_call_set_trailing(&call->base, "grpc-accept-encoding", "identity", strlen("identity"));
	rt_status_set(status, RT_CODE_UNIMPLEMENTED,
		      "the message is compressed; only messages that are not are accepted");
}

static void refuse_compressed_message(struct server_call *call)
{
	rpc_server_set_compressed(call, &call->base.forced);
	rpc_call_bad_message(&call->base);
}

static void call_read(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, read_tag);
	grpc_byte_buffer *buffer = RT_TAKE(call->received);
	struct rpc_bytes bytes;

	call->read_started = false;
	if (!ok || buffer == NULL) {
		if (buffer != NULL)
			grpc_byte_buffer_destroy(buffer);
		/* The end of the stream, or of the client? RECV_CLOSE may come too late to tell. */
		if (!ok || grpc_call_failed_before_recv_message(call->grpc))
			rpc_call_cancelled(&call->base);
		rpc_call_half_closed(&call->base);
	} else {
		if (rpc_bytes_read(&bytes, buffer))
			rpc_call_message(&call->base, bytes.data, bytes.length);
		else
			refuse_compressed_message(call);
		rpc_bytes_done(&bytes);
	}
	call_settle(&call->base);
}

static void server_read(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &call->received;
	call->read_started = true;
	rpc_queue_start(call->server->queue, call->grpc, &op, 1, &call->read_tag, call_read);
}

static int64_t server_remaining_ms(const struct rt_call *base)
{
	const struct server_call *call = RT_CONTAINER_OF(base, const struct server_call, base);
	gpr_timespec left, now;

	if (gpr_time_cmp(call->deadline, gpr_inf_future(call->deadline.clock_type)) == 0)
		return INT64_MAX;
	now = gpr_now(call->deadline.clock_type);
	left = gpr_time_sub(call->deadline, now);
	return left.tv_sec * 1000 + left.tv_nsec / 1000000;
}

static const char *server_metadata(const struct rt_call *base, const char *key, size_t *ret_length)
{
	const struct server_call *call = RT_CONTAINER_OF(base, const struct server_call, base);

	return rpc_metadata_received(&call->metadata, key,
				     (struct rt_arena *)(uintptr_t)&call->base.arena, ret_length);
}

static const char *server_peer(const struct rt_call *base)
{
	const struct server_call *call = RT_CONTAINER_OF(base, const struct server_call, base);
	char *peer = grpc_call_get_peer(call->grpc);
	char *copy = rt_arena_copy((struct rt_arena *)(uintptr_t)&base->arena, peer, strlen(peer));

	gpr_free(peer);
	return copy;
}

static const struct rpc_call_ops server_call_ops = {
	.send = rpc_server_send,
	.end = rpc_server_end,
	.read = server_read,
	.watch = rpc_server_watch,
	.remaining_ms = server_remaining_ms,
	.metadata = server_metadata,
	.peer = server_peer,
	.settle = call_settle,
};
