/* client.c - client calls over gRPC core.
 *
 * A call with a unary answer to a unary request is one batch: metadata, message and half-close go
 * out, metadata, message and status come back, one completion. Calls that stream have one batch
 * for each thing under way:
 *
 *   begin   initial metadata (and the request, if it does not stream)
 *   send    a message or the half-close; further ones wait in a queue
 *   read    one message after the other, until there is none
 *   status  the end; the call is done when it has come and nothing else is under way */
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <string.h>

#include "callers_internal.h"
#include "client_internal.h"

static const struct rpc_client_ops remote_ops;

#define STATUS_DETAILS_KEY "grpc-status-details-bin"

/* A server ends a call at its deadline, too, and may be the first: then gRPC says that it was cancelled. */
#define DEADLINE_EARLY_MS 10

static bool deadline_has_passed(const struct client_call *call)
{
	gpr_timespec early = gpr_time_from_millis(DEADLINE_EARLY_MS, GPR_TIMESPAN);
	gpr_timespec soon = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), early);

	return !call->cancelled && gpr_time_cmp(call->deadline, soon) <= 0;
}

/* The status received. Its texts are copied: few statuses have any. */
static void read_status(struct client_call *call)
{
	struct rt_status *status = &call->status;

	status->code = (int)call->code;
	if (status->code == 0)
		return;
	if (status->code == RT_CODE_CANCELLED && deadline_has_passed(call)) {
		rt_status_set(status, RT_CODE_DEADLINE_EXCEEDED, "the deadline has passed");
		return;
	}
	status->message = rt_strndup((const char *)GRPC_SLICE_START_PTR(call->message),
				     GRPC_SLICE_LENGTH(call->message));
	for (size_t i = 0; i < call->trailing.count; i++) {
		const grpc_metadata *entry = &call->trailing.metadata[i];
		size_t length = GRPC_SLICE_LENGTH(entry->value);

		if (grpc_slice_str_cmp(entry->key, STATUS_DETAILS_KEY) != 0 || length == 0)
			continue;
		free(status->details);
		status->details = rt_alloc(length);
		status->details_length = length;
		memcpy(status->details, GRPC_SLICE_START_PTR(entry->value), length);
	}
}

/* The message in `received`, in the arena; NULL after noting in `status` what is wrong. */
static ProtobufCMessage *read_message(struct client_call *call)
{
	struct rpc_bytes bytes;
	ProtobufCMessage *message = NULL;

	if (!rpc_bytes_read(&bytes, RT_TAKE(call->received)))
		rt_status_set(&call->status, RT_CODE_INTERNAL,
			      "%s came compressed, although that was not offered",
			      call->method->descriptor->output->name);
	else
		message = rpc_unpack(&call->arena, call->method->descriptor->output, bytes.data,
				     bytes.length, true, &call->status);
	rpc_bytes_done(&bytes);
	if (message != NULL) {
		rpc_method_count(call->method->received);
		call->connection->received++;
	}
	return message;
}

static void free_if_idle(struct remote_client *client)
{
	if (!client->freed || client->calls > 0)
		return;
	rpc_client_done(&client->base);
	free(client);
}

static void end_span(struct client_call *call)
{
	struct rt_span *span = &call->span;

	if (span->kind == RT_SPAN_NONE)
		return;
	rt_span_code(span, call->status.code);
	rt_span_end(span);
}

static void call_finish(struct client_call *call)
{
	struct rt_channel *channel = call->channel;
	struct rpc_connection *connection = call->connection;
	struct remote_client *client = call->client;
	ProtobufCMessage *response = NULL;

	if (call->status.code == 0)
		read_status(call);
	if (call->status.code == 0 && !call->method->server_streams) {
		if (call->received == NULL)
			rt_status_set(&call->status, RT_CODE_INTERNAL, "%s came without an answer",
				      call->method->path);
		else
			response = read_message(call);
	}
	rpc_method_ended(call->method, call->status.code, call->started_ns);
	end_span(call);
	rpc_client_end(call->op, &call->status, response);
	client->calls--;
	connection->balanced_count -= call->balanced;
	rpc_client_call_release(call);
	free_if_idle(client);
	rpc_channel_call_ended(channel, connection);
}

static void finish_if_idle(struct client_call *call)
{
	if (call->status_done && !call->send_started && !call->read_started)
		call_finish(call);
}

static void status_came(struct rpc_tag *tag, bool ok)
{
	struct client_call *call = RT_CONTAINER_OF(tag, struct client_call, status_tag);

	(void)ok; /* always true for such a batch; the status counts */
	if (!call->send_started && call->sending != NULL) /* a unary request */
		grpc_byte_buffer_destroy(RT_TAKE(call->sending));
	call->status_done = true;
	finish_if_idle(call);
}

static void send_next(struct client_call *call);

static void drop_outgoing(struct client_call *call)
{
	rpc_outgoing_drop(&call->outgoing);
	call->queued_bytes = 0;
}

static void message_sent(struct rpc_tag *tag, bool ok)
{
	struct client_call *call = RT_CONTAINER_OF(tag, struct client_call, send_tag);
	size_t before_bytes = call->queued_bytes;

	call->send_started = false;
	if (call->sending != NULL)
		grpc_byte_buffer_destroy(RT_TAKE(call->sending));
	call->queued_bytes -= call->sending_bytes;
	call->sending_bytes = 0;
	if (!ok)
		drop_outgoing(call); /* the status says why */
	send_next(call);
	if (ok && !call->status_done)
		rpc_client_sent(call->op, before_bytes, call->queued_bytes);
	finish_if_idle(call);
}

static void send_next(struct client_call *call)
{
	grpc_op op;

	if (call->send_started || call->outgoing.first == NULL)
		return;
	if (call->status_done) {
		drop_outgoing(call);
		return;
	}
	rpc_outgoing_take(&call->outgoing, &call->sending, &call->sending_bytes);
	memset(&op, 0, sizeof(op));
	if (call->sending != NULL) {
		op.op = GRPC_OP_SEND_MESSAGE;
		op.data.send_message.send_message = call->sending;
	} else {
		op.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	}
	call->send_started = true;
	rpc_queue_start(call->channel->queue, call->grpc, &op, 1, &call->send_tag, message_sent);
}

/* A message (NULL: the half-close) is sent when those before it are. */
static void queue_message(struct client_call *call, grpc_byte_buffer *buffer, size_t length)
{
	call->queued_bytes += length;
	rpc_outgoing_add(&call->outgoing, buffer, length);
	send_next(call);
}

static void read_next(struct client_call *call);

static void message_came(struct rpc_tag *tag, bool ok)
{
	struct client_call *call = RT_CONTAINER_OF(tag, struct client_call, read_tag);
	ProtobufCMessage *message;

	call->read_started = false;
	if (!ok || call->received == NULL || !call->method->server_streams) {
		finish_if_idle(call);
		return;
	}
	message = read_message(call);
	if (message == NULL) {
		grpc_call_cancel(call->grpc, NULL); /* the status is ours: set already */
	} else if (call->op->on_message != NULL) {
		call->op->on_message(call->op, message);
	}
	rt_arena_reset(&call->arena, RPC_ARENA_KEEP_BYTES);
	if (!call->op->held || call->status_done)
		read_next(call);
}

/* Asks for the next message, and for the initial metadata if nobody has. */
static void read_next(struct client_call *call)
{
	grpc_op ops[2];
	size_t count = 0;

	memset(ops, 0, sizeof(ops));
	if (!call->initial_asked) {
		call->initial_asked = true;
		ops[count].op = GRPC_OP_RECV_INITIAL_METADATA;
		ops[count++].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
	}
	ops[count].op = GRPC_OP_RECV_MESSAGE;
	ops[count++].data.recv_message.recv_message = &call->received;
	call->read_started = true;
	rpc_queue_start(call->channel->queue, call->grpc, ops, count, &call->read_tag,
			message_came);
}

/* ---- how it starts ---- */

#define METADATA_MAX 5

static bool is_there(const char *text)
{
	return text != NULL && text[0] != '\0';
}

/* Returns the number of entries. */
static size_t fill_metadata(const struct client_call *call, grpc_metadata entries[METADATA_MAX])
{
	const struct rt_client_op *op = call->op;
	const char *authorization = call->channel->authorization;
	char caller[RPC_CALLER_BYTES], from[RPC_FROM_BYTES], own[RT_TRACEPARENT_TEXT];
	const char *traceparent = call->span.kind != RT_SPAN_NONE ? own : op->traceparent;
	size_t count = 0;

	if (call->span.kind != RT_SPAN_NONE)
		rt_span_traceparent(&call->span, own);
	if (is_there(traceparent)) {
		entries[count].key = grpc_slice_from_static_string("traceparent");
		entries[count++].value = grpc_slice_from_copied_string(traceparent);
		if (is_there(op->tracestate)) {
			entries[count].key = grpc_slice_from_static_string("tracestate");
			entries[count++].value = grpc_slice_from_copied_string(op->tracestate);
		}
	}
	if (op->caller != NULL && (op->caller != &rpc_everybody || call->channel->tls != NULL)) {
		entries[count].key = grpc_slice_from_static_string(RPC_CALLER_KEY);
		entries[count++].value =
			grpc_slice_from_copied_buffer(caller, rpc_caller_pack(op->caller, caller));
		entries[count].key = grpc_slice_from_static_string(RPC_FROM_KEY);
		entries[count++].value = grpc_slice_from_copied_buffer(
			from, rpc_from_pack(op->caller,
					    op->caller_call != NULL ? rt_call_peer(op->caller_call)
								    : NULL,
					    from));
	}
	if (authorization != NULL) {
		entries[count].key = grpc_slice_from_static_string("authorization");
		entries[count++].value = grpc_slice_from_copied_string(authorization);
	}
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

/* Starts the one batch of a unary call. */
static void start_unary(struct client_call *call, grpc_op *ops, size_t count)
{
	ops[count].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[count++].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
	ops[count].op = GRPC_OP_RECV_MESSAGE;
	ops[count++].data.recv_message.recv_message = &call->received;
	count += add_status(call, &ops[count]);
	rpc_queue_start(call->channel->queue, call->grpc, ops, count, &call->status_tag,
			status_came);
}

static void start_streaming(struct client_call *call, const grpc_op *ops, size_t count)
{
	struct rpc_queue *queue = call->channel->queue;
	grpc_op status;

	memset(&status, 0, sizeof(status));
	add_status(call, &status);
	rpc_queue_start(queue, call->grpc, &status, 1, &call->status_tag, status_came);
	call->send_started = true;
	rpc_queue_start(queue, call->grpc, ops, count, &call->send_tag, message_sent);
	read_next(call);
}

static void start_call(struct client_call *call, const ProtobufCMessage *request)
{
	grpc_metadata metadata[METADATA_MAX];
	size_t metadata_count = fill_metadata(call, metadata), count = 0;
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
	bool balanced = op->connection == 0 && !method->client_streams && !method->server_streams;
	struct rpc_connection *connection = rpc_channel_connection(channel, &op->connection);
	size_t number = client->first_method + method->index;
	gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);

	if (op->timeout_ms > 0)
		deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
					gpr_time_from_millis(op->timeout_ms, GPR_TIMESPAN));
	call->base.ops = &remote_ops;
	op->call = call;
	call->deadline = deadline;
	call->connection = connection;
	call->balanced = balanced;
	connection->balanced_count += balanced;
	call->client = client;
	call->method = method;
	call->op = op;
	call->message = grpc_empty_slice();
	client->calls++;
	channel->call_count++;
	rt_list_push(&connection->calls, &call->link);
	rpc_method_count(method->started);
	if (method->handled != NULL)
		call->started_ns = rt_monotonic_ns();
	call->span.kind = RT_SPAN_NONE;
	if (rt_tracing && op->cause != NULL) {
		rt_span_begin(&call->span, RT_SPAN_CALLED, client->base.service.descriptor->name);
		call->span.method = method->descriptor->name;
		rt_span_cause(&call->span, op->cause);
		call->span.lasts = method->client_streams || method->server_streams;
	}
	call->grpc = grpc_channel_create_registered_call(
		connection->grpc, NULL, GRPC_PROPAGATE_DEFAULTS, rpc_queue_grpc(channel->queue),
		rpc_connection_method(connection, number, method->path), deadline, NULL);
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
	queue_message(call, buffer, length);
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
	queue_message(call, NULL, 0);
}

static void remote_free(struct rpc_client *base)
{
	struct remote_client *client = RT_CONTAINER_OF(base, struct remote_client, base);

	client->freed = true;
	free_if_idle(client);
}

static void remote_go_on(struct rt_client_op *op)
{
	struct client_call *call = RT_CONTAINER_OF(op->call, struct client_call, base);

	op->held = false;
	if (!call->read_started && !call->status_done)
		read_next(call);
}

static const struct rpc_client_ops remote_ops = {
	.start = remote_start,
	.go_on = remote_go_on,
	.cancel = remote_cancel,
	.send = remote_send,
	.queued_bytes = remote_queued_bytes,
	.half_close = remote_half_close,
	.free = remote_free,
};

ProtobufCService *rt_client_new(struct rt_channel *channel,
				const ProtobufCServiceDescriptor *descriptor)
{
	struct remote_client *client = rt_alloc(sizeof(*client));

	client->channel = channel;
	client->first_method = channel->method_count;
	channel->method_count += descriptor->n_methods;
	rpc_client_init(&client->base, &remote_ops, descriptor, channel->metrics);
	return &client->base.service;
}
