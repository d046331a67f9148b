/* local.c - client and server calls within one process, through the loop: for the simulation
 * and for tests. No gRPC, no threads, so it works on manual loops.
 *
 * A call is two queues of packets, one to the server and one to the client (local_packets.c):
 *
 *   to server:  REQUEST, MESSAGE …, HALF_CLOSE      to client:  MESSAGE …, END
 *
 * The call is freed when the client has its end, the handler has ended it, and no deferred
 * function needs it. */
#include <string.h>

#include "local_internal.h"

static const struct rpc_client_ops local_client_ops;
static const struct rpc_call_ops local_call_ops;

static void client_free_if_idle(struct local_client *client)
{
	if (!client->freed || client->calls > 0)
		return;
	rpc_client_done(&client->base);
	free(client);
}

static void local_release(struct rt_call *base)
{
	struct local_call *call = RT_CONTAINER_OF(base, struct local_call, base);
	struct local_client *client = call->client;

	if (call->op != NULL || (call->server_began && !call->server_ended) ||
	    rpc_call_busy(base) || call->deliver_task.queued)
		return;
	rt_timer_stop(client->loop, &call->deadline_timer);
	rt_timer_stop(client->loop, &call->due_timer);
	rpc_packets_drop(&call->to_server);
	rpc_packets_drop(&call->to_client);
	rt_arena_done(&call->client_arena);
	rt_status_done(&call->broken);
	rpc_call_done(base);
	free(call);
	client->calls--;
	client_free_if_idle(client);
}

/* ---- the client's end ---- */

static void finish_client(struct local_call *call, const struct rt_status *status,
			  const ProtobufCMessage *response)
{
	struct rt_client_op *op = RT_TAKE(call->op);

	rt_timer_stop(call->client->loop, &call->deadline_timer);
	rpc_client_end(op, status, response);
	/* The server is notified if the client goes first. */
	if (call->server_began && !call->server_ended) {
		rpc_call_cancelled(&call->base);
		rpc_call_half_closed(&call->base);
		rpc_call_sent(&call->base, call->base.queued_bytes);
	}
}

static void deliver_end(struct local_call *call, struct local_packet *packet)
{
	const struct rpc_method *method = call->base.method;
	struct rt_status status = packet->status;
	ProtobufCMessage *response = NULL;

	packet->status = (struct rt_status){ 0 };
	if (status.code == 0 && packet->has_data)
		response = rpc_unpack(&call->client_arena, method->descriptor->output, packet->data,
				      packet->length, true, &status);
	finish_client(call, &status, response);
	rt_status_done(&status);
}

static void deliver_to_client(struct local_call *call, struct local_packet *packet)
{
	struct rt_status status = { 0 };
	ProtobufCMessage *message;

	if (packet->kind == LOCAL_END) {
		deliver_end(call, packet);
		return;
	}
	message = rpc_unpack(&call->client_arena, call->base.method->descriptor->output,
			     packet->data, packet->length, true, &status);
	if (message == NULL)
		rpc_packets_break(call, status.code, status.message);
	else if (call->op->on_message != NULL)
		call->op->on_message(call->op, message);
	rt_arena_reset(&call->client_arena, RPC_ARENA_KEEP_BYTES);
	rt_status_done(&status);
	if (!call->server_ended)
		rpc_call_sent(&call->base, packet->length);
}

/* ---- the server's end ---- */

static void deliver_to_server(struct local_call *call, struct local_packet *packet)
{
	struct local_client *client = call->client;
	struct rpc_method *method = call->base.method;
	struct rt_status status = { 0 };

	switch (packet->kind) {
	case LOCAL_REQUEST:
		call->server_began = true;
		rpc_call_begin(&call->base, client->service, method);
		if (call->caller != NULL)
			call->base.identity = call->caller;
		if (packet->length > RPC_MESSAGE_STANDARD_BYTES) {
			rt_status_set(&status, RT_CODE_RESOURCE_EXHAUSTED,
				      "the message is larger than %d bytes",
				      RPC_MESSAGE_STANDARD_BYTES);
			rpc_call_refuse(&call->base, &status);
			rt_status_done(&status);
		} else {
			rpc_call_handle(&call->base, packet->data, packet->length);
		}
		break;
	case LOCAL_MESSAGE:
		call->client_queued_bytes -= packet->length;
		rpc_call_message(&call->base, packet->data, packet->length);
		if (call->op != NULL)
			rpc_client_sent(call->op, call->client_queued_bytes + packet->length,
					call->client_queued_bytes);
		break;
	default:
		rpc_call_half_closed(&call->base);
		break;
	}
}

/* ---- delivery ---- */

static struct local_packet *next_for_server(struct local_call *call, int64_t now, int64_t *next)
{
	struct local_packet *packet = rpc_packets_due(&call->to_server, now, next);

	/* Messages wait until they are asked for. */
	if (packet != NULL && packet->kind == LOCAL_MESSAGE && !call->base.reading)
		return NULL;
	return packet;
}

static void on_due(struct rt_timer *timer)
{
	rpc_packets_deliver_soon(RT_CONTAINER_OF(timer, struct local_call, due_timer));
}

/* One packet each way a turn: no faster than two processes can be, and each arrival has a turn of
 * its own. */
static void deliver(struct rt_task *task)
{
	struct local_call *call = RT_CONTAINER_OF(task, struct local_call, deliver_task);
	struct rt_loop *loop = call->client->loop;
	int64_t now = rt_loop_now(loop), next = INT64_MAX;
	struct local_packet *packet;

	if (call->op != NULL && call->broken.code != 0)
		finish_client(call, &call->broken, NULL);
	if (call->op != NULL && !call->server_ended) {
		packet = next_for_server(call, now, &next);
		if (packet != NULL) {
			rt_list_remove(&packet->link);
			deliver_to_server(call, packet);
			rpc_packets_free(packet);
			rpc_packets_deliver_soon(call);
		}
	}
	if (call->op != NULL && call->broken.code == 0) {
		packet = rpc_packets_due(&call->to_client, now, &next);
		if (packet != NULL) {
			rt_list_remove(&packet->link);
			deliver_to_client(call, packet);
			rpc_packets_free(packet);
			rpc_packets_deliver_soon(call);
		}
	}
	if (call->op != NULL && next != INT64_MAX && !call->deliver_task.queued)
		rt_timer_start(loop, &call->due_timer, next - now, on_due);
	local_release(&call->base);
}

static void on_deadline(struct rt_timer *timer)
{
	struct local_call *call = RT_CONTAINER_OF(timer, struct local_call, deadline_timer);

	rpc_packets_break(call, RT_CODE_DEADLINE_EXCEEDED, "the deadline has passed");
}

/* ---- operations of the server's side ---- */

static void local_send(struct rt_call *base, const ProtobufCMessage *message)
{
	struct local_call *call = RT_CONTAINER_OF(base, struct local_call, base);
	struct local_packet *packet;

	if (call->op == NULL)
		return;
	packet = rpc_packets_send(call, false, LOCAL_MESSAGE, message);
	if (packet != NULL)
		base->queued_bytes += packet->length;
}

static void local_end(struct rt_call *base, const ProtobufCMessage *answer,
		      const struct rt_status *status)
{
	struct local_call *call = RT_CONTAINER_OF(base, struct local_call, base);
	struct local_packet *packet = NULL;

	call->server_ended = true;
	if (call->op != NULL)
		packet = rpc_packets_send(call, false, LOCAL_END, answer);
	if (packet != NULL)
		rt_status_copy(&packet->status, status);
	rpc_packets_deliver_soon(call); /* where the call is freed if that was the last of it */
}

static void local_read(struct rt_call *base)
{
	rpc_packets_deliver_soon(RT_CONTAINER_OF(base, struct local_call, base));
}

static void local_watch(struct rt_call *base)
{
	(void)base; /* a cancellation is always reported */
}

static int64_t local_remaining_ms(const struct rt_call *base)
{
	const struct local_call *call = RT_CONTAINER_OF(base, const struct local_call, base);

	if (call->deadline_ms == INT64_MAX)
		return INT64_MAX;
	return call->deadline_ms - rt_loop_now(base->loop);
}

static const char *local_metadata(const struct rt_call *base, const char *key, size_t *ret_length)
{
	const struct local_call *call = RT_CONTAINER_OF(base, const struct local_call, base);
	const struct rpc_metadata *entry = rpc_metadata_find(call->metadata, key);

	if (entry != NULL && ret_length != NULL)
		*ret_length = entry->length;
	return entry != NULL ? entry->value : NULL;
}

static const char *local_peer(const struct rt_call *base)
{
	(void)base;
	return "local";
}

static const struct rpc_call_ops local_call_ops = {
	.send = local_send,
	.end = local_end,
	.read = local_read,
	.watch = local_watch,
	.remaining_ms = local_remaining_ms,
	.metadata = local_metadata,
	.peer = local_peer,
	.release = local_release,
};

/* ---- operations of the client's side ---- */

static void local_start(struct rpc_client *base, struct rpc_method *method,
			const ProtobufCMessage *request, struct rt_client_op *op)
{
	struct local_client *client = RT_CONTAINER_OF(base, struct local_client, base);
	struct local_call *call = rt_alloc(sizeof(*call));

	rpc_call_init(&call->base, &local_call_ops, client->loop);
	call->base.method = method;
	call->client_base.ops = &local_client_ops;
	call->client = client;
	call->op = op;
	op->call = &call->client_base;
	rt_list_init(&call->to_server);
	rt_list_init(&call->to_client);
	call->deliver_task.run = deliver;
	client->calls++;
	if (op->traceparent != NULL && op->traceparent[0] != '\0')
		rpc_metadata_add(&call->metadata, &call->base.arena, "traceparent", op->traceparent,
				 strlen(op->traceparent));
	if (op->tracestate != NULL && op->tracestate[0] != '\0')
		rpc_metadata_add(&call->metadata, &call->base.arena, "tracestate", op->tracestate,
				 strlen(op->tracestate));
	if (op->caller != NULL)
		call->caller = (const struct rt_identity *)(const void *)rt_arena_copy(
			&call->base.arena, (const char *)op->caller, sizeof(*op->caller));
	call->deadline_ms = INT64_MAX;
	if (op->timeout_ms > 0) {
		call->deadline_ms = rt_loop_now(client->loop) + op->timeout_ms;
		rt_timer_start(client->loop, &call->deadline_timer, op->timeout_ms, on_deadline);
	}
	rpc_packets_send(call, true, LOCAL_REQUEST, method->client_streams ? NULL : request);
	if (!method->client_streams)
		call->half_closed = true;
}

static struct local_call *call_of(const struct rt_client_op *op)
{
	return RT_CONTAINER_OF(op->call, struct local_call, client_base);
}

static void local_cancel(struct rt_client_op *op)
{
	rpc_packets_break(call_of(op), RT_CODE_CANCELLED, "cancelled by the client");
}

static void local_client_send(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct local_call *call = call_of(op);
	struct local_packet *packet;

	if (call->half_closed)
		return;
	packet = rpc_packets_send(call, true, LOCAL_MESSAGE, message);
	if (packet != NULL)
		call->client_queued_bytes += packet->length;
}

static size_t local_queued_bytes(const struct rt_client_op *op)
{
	return call_of(op)->client_queued_bytes;
}

static void local_half_close(struct rt_client_op *op)
{
	struct local_call *call = call_of(op);

	if (call->half_closed)
		return;
	call->half_closed = true;
	rpc_packets_send(call, true, LOCAL_HALF_CLOSE, NULL);
}

static void local_free(struct rpc_client *base)
{
	struct local_client *client = RT_CONTAINER_OF(base, struct local_client, base);

	client->freed = true;
	client_free_if_idle(client);
}

static void local_go_on(struct rt_client_op *op)
{
	op->held = false;
}

static const struct rpc_client_ops local_client_ops = {
	.start = local_start,
	.go_on = local_go_on,
	.cancel = local_cancel,
	.send = local_client_send,
	.queued_bytes = local_queued_bytes,
	.half_close = local_half_close,
	.free = local_free,
};

ProtobufCService *rt_client_local(struct rt_loop *loop, ProtobufCService *service,
				  int (*fault)(void *user, const char *step, int64_t *delay_ms),
				  void *user)
{
	struct local_client *client = rt_alloc(sizeof(*client));

	client->loop = loop;
	client->service = service;
	client->fault = fault;
	client->user = user;
	rpc_client_init(&client->base, &local_client_ops, service->descriptor, NULL);
	return &client->base.service;
}
