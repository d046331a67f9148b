/* local.c - client and server calls within one process, through the loop: for the simulation
 * and for tests. No gRPC, no threads, so it works on manual loops.
 *
 * A call is two queues of packets, one to the server and one to the client. Messages are packed
 * and unpacked as on a wire; a packet arrives in a later turn, after its delay. Each packet is
 * subject to the fault hook: one that fails breaks the call like a lost connection does, the
 * client sees UNAVAILABLE and the server a cancellation.
 *
 *   to server:  REQUEST, MESSAGE …, HALF_CLOSE      to client:  MESSAGE …, END
 *
 * The call is freed when the client has its end, the handler has ended it, and no deferred
 * function needs it. */
#include <string.h>

#include "call_internal.h"

struct local_client {
	struct rpc_client base;
	struct rt_loop *loop;
	ProtobufCService *service;
	int (*fault)(void *user, const char *step, int64_t *delay_ms);
	void *user;
	size_t calls;
	bool freed;
};

enum packet_kind { REQUEST, MESSAGE, HALF_CLOSE, END };
struct packet {
	struct rt_list link;
	enum packet_kind kind;
	int64_t due_ms;
	struct rt_status status; /* END */
	bool has_data;
	size_t length;
	uint8_t data[];
};

struct local_call {
	struct rt_call base;
	struct rpc_client_call client_base;
	struct local_client *client;
	struct rt_client_op *op; /* NULL: the client has its end */
	struct rpc_arena client_arena;
	struct rt_list to_server, to_client;
	int64_t server_due_ms, client_due_ms; /* packets do not overtake each other */
	int64_t deadline_ms;
	struct rpc_metadata *metadata; /* the client's */
	struct rt_timer deadline_timer, due_timer;
	struct rt_task deliver_task;
	size_t client_queued_bytes;
	bool server_began, server_ended, half_closed;
	struct rt_status broken; /* what the client hears soon, instead of anything else */
};

static const struct rpc_client_ops local_client_ops;
static const struct rpc_call_ops local_call_ops;

/* ---- memory ---- */

static void drop_packets(struct rt_list *packets)
{
	struct rt_list *link;

	while ((link = rt_list_pop(packets)) != NULL) {
		struct packet *packet = RT_CONTAINER_OF(link, struct packet, link);

		rt_status_done(&packet->status);
		free(packet);
	}
}

static void client_free_if_idle(struct local_client *client)
{
	if (!client->freed || client->calls > 0)
		return;
	rpc_client_done(&client->base);
	free(client);
}

static void local_settle(struct rt_call *base)
{
	struct local_call *call = RT_CONTAINER_OF(base, struct local_call, base);
	struct local_client *client = call->client;

	if (call->op != NULL || (call->server_began && !call->server_ended) ||
	    rpc_call_busy(base) || call->deliver_task.queued)
		return;
	rt_timer_stop(client->loop, &call->deadline_timer);
	rt_timer_stop(client->loop, &call->due_timer);
	drop_packets(&call->to_server);
	drop_packets(&call->to_client);
	rpc_arena_reset(&call->client_arena);
	rt_status_done(&call->broken);
	rpc_call_done(base);
	free(call);
	client->calls--;
	client_free_if_idle(client);
}

/* ---- packets ---- */

static void deliver_soon(struct local_call *call)
{
	rt_loop_defer(call->client->loop, &call->deliver_task);
}

/* The call is broken in the middle: the client hears `code`, the server that it is cancelled. */
static void break_call(struct local_call *call, int code, const char *why)
{
	if (call->broken.code != 0)
		return;
	rt_status_set(&call->broken, code, "%s", why);
	drop_packets(&call->to_client);
	deliver_soon(call);
}

/* Asks the fault hook; false: the packet is lost and the call broken. */
static bool pass(struct local_call *call, const char *step, int64_t *delay_ms)
{
	struct local_client *client = call->client;
	int rc;

	*delay_ms = 0;
	if (client->fault == NULL)
		return true;
	rc = client->fault(client->user, step, delay_ms);
	if (rc == RT_OK)
		return true;
	break_call(call, RT_CODE_UNAVAILABLE, rt_status_text(rc));
	return false;
}

/* Sends a packet on its way; NULL when it is lost. */
static struct packet *send_packet(struct local_call *call, bool to_server, enum packet_kind kind,
				  const ProtobufCMessage *message)
{
	static const char *const steps[] = { "request", "message", "message", "response" };
	size_t length = message != NULL ? protobuf_c_message_get_packed_size(message) : 0;
	int64_t now = rt_loop_now(call->client->loop), delay;
	int64_t *last = to_server ? &call->server_due_ms : &call->client_due_ms;
	struct packet *packet;

	if (call->broken.code != 0 || !pass(call, steps[kind], &delay))
		return NULL;
	packet = rt_alloc(sizeof(*packet) + length);
	packet->kind = kind;
	packet->due_ms = *last = RT_MAX(*last, now + delay);
	packet->has_data = message != NULL;
	packet->length = length;
	if (message != NULL)
		protobuf_c_message_pack(message, packet->data);
	rt_list_init(&packet->link);
	rt_list_push(to_server ? &call->to_server : &call->to_client, &packet->link);
	deliver_soon(call);
	return packet;
}

/* ---- the client's end ---- */

static void finish_client(struct local_call *call, const struct rt_status *status,
			  const ProtobufCMessage *response)
{
	struct rt_client_op *op = RT_TAKE(call->op);

	rt_timer_stop(call->client->loop, &call->deadline_timer);
	rpc_client_end(op, status, response);
	/* The server hears when the client is gone first. */
	if (call->server_began && !call->server_ended) {
		rpc_call_cancelled(&call->base);
		rpc_call_half_closed(&call->base);
		rpc_call_sent(&call->base, call->base.queued_bytes);
	}
}

static void deliver_end(struct local_call *call, struct packet *packet)
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

static void deliver_to_client(struct local_call *call, struct packet *packet)
{
	struct rt_status status = { 0 };
	ProtobufCMessage *message;

	if (packet->kind == END) {
		deliver_end(call, packet);
		return;
	}
	message = rpc_unpack(&call->client_arena, call->base.method->descriptor->output,
			     packet->data, packet->length, true, &status);
	if (message == NULL)
		break_call(call, status.code, status.message);
	else if (call->op->on_message != NULL)
		call->op->on_message(call->op, message);
	rpc_arena_reset(&call->client_arena);
	rt_status_done(&status);
	if (!call->server_ended)
		rpc_call_sent(&call->base, packet->length);
}

/* ---- the server's end ---- */

static void deliver_to_server(struct local_call *call, struct packet *packet)
{
	struct local_client *client = call->client;
	struct rpc_method *method = call->base.method;
	struct rt_status status = { 0 };

	switch (packet->kind) {
	case REQUEST:
		call->server_began = true;
		rpc_call_begin(&call->base, client->service, method);
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
	case MESSAGE:
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

/* The first packet if it may arrive now; else NULL, and *next is when it may. */
static struct packet *due_packet(struct rt_list *packets, int64_t now, int64_t *next)
{
	struct packet *packet;

	if (rt_list_empty(packets))
		return NULL;
	packet = RT_CONTAINER_OF(packets->next, struct packet, link);
	if (packet->due_ms > now) {
		*next = RT_MIN(*next, packet->due_ms);
		return NULL;
	}
	return packet;
}

static struct packet *next_for_server(struct local_call *call, int64_t now, int64_t *next)
{
	struct packet *packet = due_packet(&call->to_server, now, next);

	/* Messages wait until they are asked for. */
	if (packet != NULL && packet->kind == MESSAGE && !call->base.reading)
		return NULL;
	return packet;
}

static void on_due(struct rt_timer *timer)
{
	deliver_soon(RT_CONTAINER_OF(timer, struct local_call, due_timer));
}

/* One packet each way a turn: as slow as two processes are at the least, and what arrives can be
 * told apart by turns. */
static void deliver(struct rt_task *task)
{
	struct local_call *call = RT_CONTAINER_OF(task, struct local_call, deliver_task);
	struct rt_loop *loop = call->client->loop;
	int64_t now = rt_loop_now(loop), next = INT64_MAX;
	struct packet *packet;

	if (call->op != NULL && call->broken.code != 0)
		finish_client(call, &call->broken, NULL);
	if (call->op != NULL && !call->server_ended) {
		packet = next_for_server(call, now, &next);
		if (packet != NULL) {
			rt_list_remove(&packet->link);
			deliver_to_server(call, packet);
			free(packet);
			deliver_soon(call);
		}
	}
	if (call->op != NULL && call->broken.code == 0) {
		packet = due_packet(&call->to_client, now, &next);
		if (packet != NULL) {
			rt_list_remove(&packet->link);
			deliver_to_client(call, packet);
			rt_status_done(&packet->status);
			free(packet);
			deliver_soon(call);
		}
	}
	if (call->op != NULL && next != INT64_MAX && !call->deliver_task.queued)
		rt_timer_start(loop, &call->due_timer, next - now, on_due);
	local_settle(&call->base);
}

static void on_deadline(struct rt_timer *timer)
{
	struct local_call *call = RT_CONTAINER_OF(timer, struct local_call, deadline_timer);

	break_call(call, RT_CODE_DEADLINE_EXCEEDED, "the deadline has passed");
}

/* ---- operations of the server's side ---- */

static void local_send(struct rt_call *base, const ProtobufCMessage *message)
{
	struct local_call *call = RT_CONTAINER_OF(base, struct local_call, base);
	struct packet *packet;

	if (call->op == NULL)
		return;
	packet = send_packet(call, false, MESSAGE, message);
	if (packet != NULL)
		base->queued_bytes += packet->length;
}

static void local_end(struct rt_call *base, const ProtobufCMessage *answer,
		      const struct rt_status *status)
{
	struct local_call *call = RT_CONTAINER_OF(base, struct local_call, base);
	struct packet *packet = NULL;

	call->server_ended = true;
	if (call->op != NULL)
		packet = send_packet(call, false, END, answer);
	if (packet != NULL)
		rt_status_copy(&packet->status, status);
	deliver_soon(call); /* where the call is freed if that was the last of it */
}

static void local_read(struct rt_call *base)
{
	deliver_soon(RT_CONTAINER_OF(base, struct local_call, base));
}

static void local_watch(struct rt_call *base)
{
	(void)base; /* a cancellation is always told */
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
	.settle = local_settle,
};

/* ---- operations of the client's side ---- */

static void copy_metadata(struct local_call *call, const struct rt_client_op *op)
{
	struct rpc_arena *arena = &call->base.arena;

	if (op->traceparent != NULL && op->traceparent[0] != '\0')
		rpc_metadata_add(&call->metadata, arena, "traceparent", op->traceparent,
				 strlen(op->traceparent));
	for (const char *const *pair = op->metadata; pair != NULL && pair[0] != NULL; pair += 2)
		rpc_metadata_add(&call->metadata, arena, pair[0], pair[1], strlen(pair[1]));
}

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
	rpc_arena_init(&call->client_arena);
	rt_list_init(&call->to_server);
	rt_list_init(&call->to_client);
	call->deliver_task.run = deliver;
	client->calls++;
	copy_metadata(call, op);
	call->deadline_ms = INT64_MAX;
	if (op->timeout_ms > 0) {
		call->deadline_ms = rt_loop_now(client->loop) + op->timeout_ms;
		rt_timer_start(client->loop, &call->deadline_timer, op->timeout_ms, on_deadline);
	}
	send_packet(call, true, REQUEST, method->client_streams ? NULL : request);
	if (!method->client_streams)
		call->half_closed = true;
}

static struct local_call *call_of(const struct rt_client_op *op)
{
	return RT_CONTAINER_OF(op->call, struct local_call, client_base);
}

static void local_cancel(struct rt_client_op *op)
{
	break_call(call_of(op), RT_CODE_CANCELLED, "cancelled by the client");
}

static void local_client_send(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct local_call *call = call_of(op);
	struct packet *packet;

	if (call->half_closed)
		return;
	packet = send_packet(call, true, MESSAGE, message);
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
	send_packet(call, true, HALF_CLOSE, NULL);
}

static const char *local_answer_metadata(const struct rt_client_op *op, const char *key,
					 size_t *ret_length)
{
	const struct local_call *call = call_of(op);
	const struct rpc_metadata *entry = rpc_metadata_find(call->base.trailing, key);

	if (entry == NULL)
		entry = rpc_metadata_find(call->base.initial, key);
	if (entry != NULL && ret_length != NULL)
		*ret_length = entry->length;
	return entry != NULL ? entry->value : NULL;
}

static void local_free(struct rpc_client *base)
{
	struct local_client *client = RT_CONTAINER_OF(base, struct local_client, base);

	client->freed = true;
	client_free_if_idle(client);
}

static const struct rpc_client_ops local_client_ops = {
	.start = local_start,
	.cancel = local_cancel,
	.send = local_client_send,
	.queued_bytes = local_queued_bytes,
	.half_close = local_half_close,
	.metadata = local_answer_metadata,
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
