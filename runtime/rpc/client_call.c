/* client_call.c - a client call under way: what it sends and receives, and its end. */
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <string.h>

#include "client_internal.h"

#define STATUS_DETAILS_KEY "grpc-status-details-bin"

/* A server ends a call at its deadline, too, and may be the first: then gRPC says that it was cancelled. */
#define DEADLINE_EARLY_MS 10

static bool deadline_has_passed(const struct client_call *call)
{
	gpr_timespec early = gpr_time_from_millis(DEADLINE_EARLY_MS, GPR_TIMESPAN);
	gpr_timespec soon = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), early);

	return !call->cancelled && gpr_time_cmp(call->deadline, soon) <= 0;
}

/* The status that came. Its texts are copied: they are rarely there. */
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
	if (message != NULL)
		rpc_method_count(call->method->received);
	return message;
}

void rpc_client_free_if_idle(struct remote_client *client)
{
	if (!client->freed || client->calls > 0)
		return;
	free(client->registered);
	rpc_client_done(&client->base);
	free(client);
}

static void call_finish(struct client_call *call)
{
	struct rt_channel *channel = call->channel;
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
	rpc_client_end(call->op, &call->status, response);
	client->calls--;
	rpc_client_call_release(call);
	rpc_client_free_if_idle(client);
	rpc_channel_call_ended(channel);
}

static void finish_if_idle(struct client_call *call)
{
	if (call->status_done && !call->send_started && !call->read_started)
		call_finish(call);
}

void rpc_client_status_came(struct rpc_tag *tag, bool ok)
{
	struct client_call *call = RT_CONTAINER_OF(tag, struct client_call, status_tag);

	(void)ok; /* of such a batch always true; the status tells */
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

void rpc_client_message_sent(struct rpc_tag *tag, bool ok)
{
	struct client_call *call = RT_CONTAINER_OF(tag, struct client_call, send_tag);
	size_t before_bytes = call->queued_bytes;

	call->send_started = false;
	if (call->sending != NULL)
		grpc_byte_buffer_destroy(RT_TAKE(call->sending));
	call->queued_bytes -= call->sending_bytes;
	call->sending_bytes = 0;
	if (!ok)
		drop_outgoing(call); /* the status tells why */
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
	rpc_queue_start(call->channel->queue, call->grpc, &op, 1, &call->send_tag,
			rpc_client_message_sent);
}

void rpc_client_queue(struct client_call *call, grpc_byte_buffer *buffer, size_t length)
{
	call->queued_bytes += length;
	rpc_outgoing_add(&call->outgoing, buffer, length);
	send_next(call);
}

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
	rpc_client_read_next(call);
}

void rpc_client_read_next(struct client_call *call)
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
