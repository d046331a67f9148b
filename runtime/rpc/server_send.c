/* server_send.c - what a server call sends. A streaming answer is a queue: one send at a time, its
 * end sent with the last message. */
#include <grpc/slice.h>
#include <string.h>

#include "server_internal.h"

static void call_sent(struct rpc_tag *tag, bool ok);

/* What waits will not be sent. A handler that waits for the queue to drain hears of it. */
static void drop_outgoing(struct server_call *call)
{
	rpc_call_sent(&call->base, rpc_outgoing_drop(&call->outgoing));
}

void rpc_server_add_close(struct server_call *call, grpc_op *op)
{
	op->op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	op->data.recv_close_on_server.cancelled = &call->lost;
	call->close_started = true;
}

/* The status of a call that did not go well: its texts become slices and metadata. */
static void add_status(struct server_call *call, grpc_op *op, grpc_metadata *trailing,
		       size_t *trailing_count, grpc_slice *message)
{
	struct rt_status *status = &call->status;

	*trailing_count = rpc_metadata_fill(call->base.trailing, trailing);
	if (status->details != NULL) {
		grpc_metadata *details = &trailing[(*trailing_count)++];

		details->key = grpc_slice_from_static_string("grpc-status-details-bin");
		details->value =
			grpc_slice_from_copied_buffer(status->details, status->details_length);
	}
	op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	op->data.send_status_from_server.status = (grpc_status_code)status->code;
	op->data.send_status_from_server.trailing_metadata = trailing;
	op->data.send_status_from_server.trailing_metadata_count = *trailing_count;
	if (status->message != NULL) {
		*message = grpc_slice_from_copied_string(status->message);
		op->data.send_status_from_server.status_details = message;
	}
}

/* One batch: what has not been sent of initial metadata, the message in `sending`, the end. */
static void start_send(struct server_call *call, bool with_end)
{
	grpc_metadata initial[RPC_METADATA_SENT_MAX], trailing[RPC_METADATA_SENT_MAX + 1];
	size_t initial_count = 0, trailing_count = 0, count = 0;
	grpc_slice message = grpc_empty_slice();
	grpc_op ops[4];

	memset(ops, 0, sizeof(ops));
	if (!call->initial_sent) {
		initial_count = rpc_metadata_fill(call->base.initial, initial);
		ops[count].op = GRPC_OP_SEND_INITIAL_METADATA;
		ops[count].data.send_initial_metadata.metadata = initial;
		ops[count++].data.send_initial_metadata.count = initial_count;
		call->initial_sent = true;
	}
	if (call->sending != NULL) {
		ops[count].op = GRPC_OP_SEND_MESSAGE;
		ops[count++].data.send_message.send_message = call->sending;
	}
	if (with_end) {
		add_status(call, &ops[count++], trailing, &trailing_count, &message);
		call->end_started = true;
		if (!call->close_started) {
			rpc_server_add_close(call, &ops[count++]);
			call->close_with_end = true;
		}
	}
	call->send_started = true;
	rpc_queue_start(call->server->queue, call->grpc, ops, count, &call->send_tag, call_sent);
	/* gRPC has its own references by now. */
	rpc_metadata_unref(initial, initial_count);
	rpc_metadata_unref(trailing, trailing_count);
	grpc_slice_unref(message);
}

void rpc_server_send_next(struct server_call *call)
{
	if (call->send_started || call->end_done)
		return;
	if (call->close_done) {
		/* The client is gone: there is nobody to send to. */
		drop_outgoing(call);
		call->end_done = call->end_due;
		return;
	}
	if (!rpc_outgoing_take(&call->outgoing, &call->sending, &call->sending_bytes) &&
	    !call->end_due)
		return;
	start_send(call, call->end_due && call->outgoing.first == NULL);
}

static void call_sent(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, send_tag);
	size_t bytes = call->sending_bytes;

	call->send_started = false;
	if (call->sending != NULL)
		grpc_byte_buffer_destroy(RT_TAKE(call->sending));
	call->sending_bytes = 0;
	if (call->end_started) {
		rt_status_done(&call->status);
		call->end_done = true;
		if (call->close_with_end)
			call->close_done = true;
	}
	if (!ok)
		drop_outgoing(call); /* the connection is gone; RECV_CLOSE tells the handler */
	rpc_call_sent(&call->base, bytes);
	rpc_server_send_next(call);
	call->base.ops->settle(&call->base);
}

void rpc_server_send(struct rt_call *base, const ProtobufCMessage *message)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	grpc_byte_buffer *buffer;
	size_t length;

	if (call->close_done)
		return;
	buffer = rpc_pack(message, &length);
	base->queued_bytes += length;
	rpc_outgoing_add(&call->outgoing, buffer, length);
	rpc_server_send_next(call);
}

void rpc_server_end(struct rt_call *base, const ProtobufCMessage *answer,
		    const struct rt_status *status)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);

	if (base->method != NULL)
		RT_FAILPOINT2("rpc.answer", base->method->descriptor->name);
	call->end_due = true;
	if (call->close_done) {
		drop_outgoing(call);
		call->end_done = !call->send_started;
		if (call->end_done) {
			/* Not now: the handler is still in its call of us. */
			rt_loop_defer(base->loop, &base->later);
			return;
		}
	}
	/* Nobody gets it once the client is gone. */
	if (status->code != 0 && !call->close_done)
		rt_status_copy(&call->status, status);
	if (answer == NULL) {
		rpc_server_send_next(call);
		return;
	}
	call->sending = rpc_pack(answer, &call->sending_bytes);
	base->queued_bytes = call->sending_bytes;
	start_send(call, true);
}
