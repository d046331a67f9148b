/* client.c - client calls over gRPC core: how they start.
 *
 * A call with a unary answer to a unary request is one batch: metadata, message and half-close go
 * out, metadata, message and status come back, one completion. Calls that stream have one batch
 * for each thing under way:
 *
 *   begin   initial metadata (and the request, if it does not stream)
 *   send    a message or the half-close; further ones wait in a queue
 *   read    one message after the other, until there is none
 *   status  the end; the call is done when it has come and nothing else is under way */
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <string.h>

#include "client_internal.h"

static const struct rpc_client_ops remote_ops;

static void fill_text(grpc_metadata *entry, const char *key, const char *value)
{
	entry->key = grpc_slice_from_copied_string(key);
	entry->value = grpc_slice_from_copied_string(value);
}

static size_t fill_metadata(const struct rt_client_op *op, grpc_metadata *array)
{
	size_t count = 0;

	if (op->traceparent != NULL && op->traceparent[0] != '\0')
		fill_text(&array[count++], "traceparent", op->traceparent);
	for (const char *const *pair = op->metadata;
	     pair != NULL && pair[0] != NULL && count < RPC_METADATA_SENT_MAX; pair += 2)
		fill_text(&array[count++], pair[0], pair[1]);
	return count;
}

static size_t add_status(struct client_call *call, grpc_op *op)
{
	op->op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	op->data.recv_status_on_client.status = &call->code;
	op->data.recv_status_on_client.status_details = &call->message;
	op->data.recv_status_on_client.trailing_metadata = &call->trailing;
	return 1;
}

/* The whole of a unary call. */
static void start_unary(struct client_call *call, grpc_op *ops, size_t count)
{
	ops[count].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[count++].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
	ops[count].op = GRPC_OP_RECV_MESSAGE;
	ops[count++].data.recv_message.recv_message = &call->received;
	count += add_status(call, &ops[count]);
	rpc_queue_start(call->channel->queue, call->grpc, ops, count, &call->status_tag,
			rpc_client_status_came);
}

static void start_streaming(struct client_call *call, const grpc_op *ops, size_t count)
{
	struct rpc_queue *queue = call->channel->queue;
	grpc_op status;

	memset(&status, 0, sizeof(status));
	add_status(call, &status);
	rpc_queue_start(queue, call->grpc, &status, 1, &call->status_tag, rpc_client_status_came);
	call->send_started = true;
	rpc_queue_start(queue, call->grpc, ops, count, &call->send_tag, rpc_client_message_sent);
	rpc_client_read_next(call);
}

static void start_call(struct client_call *call, const ProtobufCMessage *request)
{
	struct rt_client_op *op = call->op;
	grpc_metadata metadata[RPC_METADATA_SENT_MAX + 1];
	size_t metadata_count = fill_metadata(op, metadata), count = 0;
	grpc_op ops[6];

	memset(ops, 0, sizeof(ops));
	ops[count].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[count].data.send_initial_metadata.metadata = metadata;
	ops[count++].data.send_initial_metadata.count = metadata_count;
	if (request != NULL) {
		call->sending = rpc_pack(request, &call->sending_bytes);
		call->queued_bytes = call->sending_bytes;
		ops[count].op = GRPC_OP_SEND_MESSAGE;
		ops[count++].data.send_message.send_message = call->sending;
		ops[count++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
		rpc_method_count(call->method->sent);
		call->half_closed = true;
	}
	if (call->method->client_streams || call->method->server_streams)
		start_streaming(call, ops, count);
	else
		start_unary(call, ops, count);
	rpc_metadata_unref(metadata, metadata_count);
}

static void remote_start(struct rpc_client *base, struct rpc_method *method,
			 const ProtobufCMessage *request, struct rt_client_op *op)
{
	struct remote_client *client = RT_CONTAINER_OF(base, struct remote_client, base);
	struct rt_channel *channel = client->channel;
	struct client_call *call = rpc_client_call_new(channel);
	unsigned connection = op->connection > 0
				      ? (unsigned)(op->connection - 1) % (unsigned)channel->count
				      : rpc_channel_next_connection(channel);
	unsigned methods = base->service.descriptor->n_methods;
	gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);

	if (op->timeout_ms > 0)
		deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
					gpr_time_from_millis(op->timeout_ms, GPR_TIMESPAN));
	call->base.ops = &remote_ops;
	op->call = call;
	call->deadline = deadline;
	call->client = client;
	call->method = method;
	call->op = op;
	call->message = grpc_empty_slice();
	client->calls++;
	rt_list_push(&channel->calls, &call->link);
	rpc_method_count(method->started);
	if (method->handled != NULL)
		call->started_ns = rt_monotonic_ns();
	call->grpc = grpc_channel_create_registered_call(
		channel->connections[connection], NULL, GRPC_PROPAGATE_DEFAULTS,
		rpc_queue_grpc(channel->queue),
		client->registered[connection * methods + method->index], deadline, NULL);
	start_call(call, method->client_streams ? NULL : request);
	if (channel->closing)
		grpc_call_cancel(call->grpc, NULL);
}

static void remote_cancel(struct rt_client_op *op)
{
	struct client_call *call = op->call;

	call->cancelled = true;
	grpc_call_cancel(call->grpc, NULL);
}

static void remote_send(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct client_call *call = op->call;
	grpc_byte_buffer *buffer;
	size_t length;

	if (call->half_closed)
		return;
	buffer = rpc_pack(message, &length);
	rpc_method_count(call->method->sent);
	rpc_client_queue(call, buffer, length);
}

static size_t remote_queued_bytes(const struct rt_client_op *op)
{
	const struct client_call *call = op->call;

	return call->queued_bytes;
}

static void remote_half_close(struct rt_client_op *op)
{
	struct client_call *call = op->call;

	if (call->half_closed)
		return;
	call->half_closed = true;
	rpc_client_queue(call, NULL, 0);
}

static const char *remote_metadata(const struct rt_client_op *op, const char *key,
				   size_t *ret_length)
{
	struct client_call *call = op->call;
	const char *value = rpc_metadata_received(&call->trailing, key, &call->arena, ret_length);

	if (value != NULL)
		return value;
	return rpc_metadata_received(&call->initial, key, &call->arena, ret_length);
}

static void remote_free(struct rpc_client *base)
{
	struct remote_client *client = RT_CONTAINER_OF(base, struct remote_client, base);

	client->freed = true;
	rpc_client_free_if_idle(client);
}

static const struct rpc_client_ops remote_ops = {
	.start = remote_start,
	.cancel = remote_cancel,
	.send = remote_send,
	.queued_bytes = remote_queued_bytes,
	.half_close = remote_half_close,
	.metadata = remote_metadata,
	.free = remote_free,
};

ProtobufCService *rt_client_new(struct rt_channel *channel,
				const ProtobufCServiceDescriptor *descriptor)
{
	struct remote_client *client = rt_alloc(sizeof(*client));
	size_t methods = descriptor->n_methods;

	client->channel = channel;
	rpc_client_init(&client->base, &remote_ops, descriptor, channel->metrics);
	client->registered = rt_alloc((size_t)channel->count * methods * sizeof(void *));
	for (size_t i = 0; i < (size_t)channel->count; i++) {
		for (size_t m = 0; m < methods; m++)
			client->registered[i * methods + m] = grpc_channel_register_call(
				channel->connections[i], client->base.methods[m].path, NULL, NULL);
	}
	return &client->base.service;
}
