/* server_call.c - a server call over gRPC: its memory, what it sends and receives, and its end. A
 * streaming answer is a queue: one send at a time, its end sent with the last message. A client's stream
 * is read only when the handler asks, and its caller's budgets allow it.
 *
 * RECV_CLOSE reports a cancellation. As a batch of its own it costs a tenth of a call that is soon over, so
 * it is for calls that last, if their handler asks: streams at once, a unary call when it has not ended
 * after WATCH_MS. All others have it in their last batch: gRPC would take a call without it for abandoned
 * when we release it, and cancel it, which costs more. No call is released before RECV_CLOSE has come back. */
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <string.h>

#include "server_internal.h"

#define POOL_MAX 512
/* The longest that a handler may not know that its unary call was cancelled. Longer than nearly every call
 * takes, shorter than anybody waits for. */
#define WATCH_MS 100

static const struct rpc_call_ops server_call_ops;

struct server_call *rpc_server_call_new(struct rt_server *server)
{
	struct rt_list *pooled = rt_list_pop(&server->pool);
	struct server_call *call;

	if (pooled != NULL) {
		server->pool_count--;
		server->pool_least = RT_MIN(server->pool_least, server->pool_count);
		return RT_CONTAINER_OF(pooled, struct server_call, link);
	}
	server->pool_least = 0;
	call = rt_alloc(sizeof(*call));
	rt_list_init(&call->link);
	rt_list_init(&call->unwatched_link);
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

void rt_server_rest(struct rt_server *server)
{
	size_t unneeded;

	if (server == NULL)
		return;
	unneeded = (server->pool_least + 1) / 2;
	for (; unneeded > 0; unneeded--) {
		server->pool_count--;
		rpc_server_call_free(
			RT_CONTAINER_OF(rt_list_pop(&server->pool), struct server_call, link));
	}
	server->pool_least = server->pool_count;
}

void rpc_server_call_release(struct server_call *call)
{
	struct rt_server *server = call->server;

	rpc_call_reset(&call->base);
	if (call->grpc != NULL)
		grpc_call_unref(call->grpc);
	call->grpc = NULL;
	rt_status_done(&call->status); /* it may never have been sent */
	rpc_metadata_reset(&call->metadata);
	call->method = NULL;
	call->close_started = call->close_with_end = call->close_done = false;
	call->initial_sent = false;
	call->send_started = call->end_due = call->end_started = call->end_done = false;
	call->read_started = call->gone = false;
	call->lost = 0;
	if (server->pool_count == POOL_MAX || server->closing) {
		rpc_server_call_free(call);
		return;
	}
	rt_list_push(&server->pool, &call->link);
	server->pool_count++;
}

static void call_release(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	struct rt_server *server = call->server;

	if (!call->end_done || !call->close_done || call->send_started || call->read_started ||
	    rpc_call_busy(base))
		return;
	rt_list_remove(&call->link);
	server->active_count--;
	rpc_caller_left(call);
	rpc_server_call_release(call);
	rpc_server_call_ended(server);
}

/* ---- what it sends ---- */

static void call_sent(struct rpc_tag *tag, bool ok);

/* Drops what waits to be sent. A handler that waits for the queue to drain is notified. */
static void drop_outgoing(struct server_call *call)
{
	rpc_call_sent(&call->base, rpc_outgoing_drop(&call->outgoing));
}

static void add_close(struct server_call *call, grpc_op *op)
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
		rt_list_remove(&call->unwatched_link);
		if (!call->close_started) {
			add_close(call, &ops[count++]);
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
	if (call->close_done || call->gone) {
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
	rpc_caller_sent(call);
	if (call->sending != NULL)
		grpc_byte_buffer_destroy(RT_TAKE(call->sending));
	call->sending_bytes = 0;
	if (call->end_started) {
		call->end_done = true;
		if (call->close_with_end)
			call->close_done = true;
	}
	if (!ok)
		drop_outgoing(call); /* the connection is gone; RECV_CLOSE notifies the handler */
	rpc_call_sent(&call->base, bytes);
	rpc_server_send_next(call);
	call_release(&call->base);
}

static void server_send(struct rt_call *base, const ProtobufCMessage *message)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	grpc_byte_buffer *buffer;
	size_t length;

	if (call->close_done)
		return;
	buffer = rpc_pack(message, &length);
	base->queued_bytes += length;
	rpc_caller_sends(call, length);
	rpc_outgoing_add(&call->outgoing, buffer, length);
	rpc_server_send_next(call);
}

static void server_end(struct rt_call *base, const ProtobufCMessage *answer,
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
	/* Once the client has gone, nobody receives it. */
	if (status->code != 0 && !call->close_done && !call->gone)
		rt_status_copy(&call->status, status);
	if (answer == NULL) {
		rpc_server_send_next(call);
		return;
	}
	call->sending = rpc_pack(answer, &call->sending_bytes);
	if (!rpc_caller_may_send(call, call->sending_bytes, &call->status)) {
		grpc_byte_buffer_destroy(RT_TAKE(call->sending));
		call->sending_bytes = 0;
	}
	base->queued_bytes = call->sending_bytes;
	start_send(call, true);
}

/* ---- what it receives ---- */

static void read_now(struct rt_timer *timer);

static void call_closed(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, close_tag);

	(void)ok;
	call->close_done = true;
	if (call->lost != 0 || !call->end_started)
		rpc_call_cancelled(&call->base);
	if (rt_timer_running(&call->read_timer))
		read_now(&call->read_timer);
	rpc_server_send_next(call);
	call_release(&call->base);
}

void rpc_server_watch(struct server_call *call)
{
	grpc_op op;

	if (call->close_started)
		return;
	rt_list_remove(&call->unwatched_link);
	memset(&op, 0, sizeof(op));
	add_close(call, &op);
	rpc_queue_start(call->server->queue, call->grpc, &op, 1, &call->close_tag, call_closed);
}

void rpc_server_call_gone(struct server_call *call)
{
	call->gone = true;
	rpc_call_cancelled(&call->base);
	rpc_server_watch(call);
	rpc_call_handle(&call->base, NULL, 0);
}

static void watch_those_that_last(struct rt_timer *timer)
{
	struct rt_server *server = RT_CONTAINER_OF(timer, struct rt_server, watch_timer);
	struct rt_list *unwatched = &server->unwatched;

	while (!rt_list_empty(unwatched)) {
		struct server_call *call =
			RT_CONTAINER_OF(unwatched->next, struct server_call, unwatched_link);
		int64_t left_ms = call->watch_ms - rt_loop_now(server->loop);

		if (left_ms > 0) {
			rt_timer_start(server->loop, timer, left_ms, watch_those_that_last);
			return;
		}
		rpc_server_watch(call);
	}
}

static void server_watch(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	struct rt_server *server = call->server;

	if (call->close_started || !rt_list_empty(&call->unwatched_link))
		return;
	call->watch_ms = rt_loop_now(server->loop) + WATCH_MS;
	rt_list_push(&server->unwatched, &call->unwatched_link);
	if (!rt_timer_running(&server->watch_timer))
		rt_timer_start(server->loop, &server->watch_timer, WATCH_MS, watch_those_that_last);
}

/* As gRPC does it: the status, and a header that lists the encodings we accept. It goes into the
 * trailers: without a message in between, gRPC makes one block of both, and drops its own headers from
 * the initial metadata. */
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
		/* The end of the stream, or of the client? RECV_CLOSE may come too late to know. */
		if (!ok || grpc_call_failed_before_recv_message(call->grpc))
			rpc_call_cancelled(&call->base);
		rpc_call_half_closed(&call->base);
	} else {
		rpc_caller_received(call, grpc_byte_buffer_length(buffer));
		if (rpc_bytes_read(&bytes, buffer))
			rpc_call_message(&call->base, bytes.data, bytes.length);
		else
			refuse_compressed_message(call);
		rpc_bytes_done(&bytes);
	}
	call_release(&call->base);
}

static void read_now(struct rt_timer *timer)
{
	struct server_call *call = RT_CONTAINER_OF(timer, struct server_call, read_timer);
	grpc_op op;

	rt_timer_stop(call->server->loop, timer);
	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &call->received;
	rpc_queue_start(call->server->queue, call->grpc, &op, 1, &call->read_tag, call_read);
}

/* What is not read stays with the client, by HTTP/2's flow control. */
static void server_read(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	int64_t wait_ms = rpc_caller_read_wait_ms(call);

	call->read_started = true;
	if (wait_ms > 0)
		rt_timer_start(base->loop, &call->read_timer, wait_ms, read_now);
	else
		read_now(&call->read_timer);
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
	char *uri = grpc_call_get_peer(call->grpc);
	char *text = rpc_peer_text((struct rt_arena *)(uintptr_t)&base->arena, uri);

	gpr_free(uri);
	return text;
}

static const struct rpc_call_ops server_call_ops = {
	.send = server_send,
	.end = server_end,
	.read = server_read,
	.watch = server_watch,
	.remaining_ms = server_remaining_ms,
	.metadata = server_metadata,
	.peer = server_peer,
	.release = call_release,
};
