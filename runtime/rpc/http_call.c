/* http_call.c - server calls that another port has read; see rpc.h. The third transport, beside gRPC and local.c.
 *
 *   rt_http_call_start      finds the method; the rest in a task, because nothing is called back from within it
 *     begin                 is there room, who calls, may it? Then the handler runs
 *     http_read             the next of the messages that came; behind the last the client's half is closed
 *     http_send, http_end   messages of the answer, packed; the status
 *   finish                  in a task: the handler may still be in its call of us
 *
 * The handler's call (struct server_call) is the same as of gRPC, so that callers.c and the drain know one kind; of gRPC's
 * part nothing is used. */
#include <string.h>

#include "server_internal.h"

struct http_call {
	struct server_call call;
	struct rt_http_call *http; /* NULL: it has had its end */
	size_t next;               /* of its messages */
	int64_t deadline_ms;
	struct rt_timer deadline_timer;
	struct rt_task begin_task, read_task, finish_task;
	bool ended; /* by the handler */
};

/* ---- the end ---- */

static struct http_call *of(const struct rt_call *base)
{
	const struct server_call *call = RT_CONTAINER_OF(base, const struct server_call, base);

	return RT_CONTAINER_OF(call, struct http_call, call);
}

static void http_release(struct rt_call *base)
{
	struct http_call *call = of(base);
	struct rt_server *server = call->call.server;

	if (call->http != NULL || rpc_call_busy(base) || call->read_task.queued)
		return;
	rt_list_remove(&call->call.link);
	server->active_count--;
	rpc_caller_left(&call->call);
	rt_status_done(&call->call.status);
	rpc_call_done(base);
	free(call);
	rpc_server_call_ended(server);
}

static void finish(struct rt_task *task)
{
	struct http_call *call = RT_CONTAINER_OF(task, struct http_call, finish_task);
	struct rt_http_call *http = RT_TAKE(call->http);

	rt_timer_stop(call->call.server->loop, &call->deadline_timer);
	rt_timer_stop(call->call.server->loop, &call->call.read_timer);
	http->served = NULL;
	call->call.http = NULL;
	http->done(http, &call->call.status);
	http_release(&call->call.base);
}

/* ---- what it sends ---- */

static void pass_on(struct http_call *call, const ProtobufCMessage *message)
{
	struct rt_buf bytes = { 0 };
	size_t length = protobuf_c_message_get_packed_size(message);

	bytes.data = rt_alloc(length + 1);
	bytes.length = bytes.capacity = length;
	protobuf_c_message_pack(message, (uint8_t *)bytes.data);
	call->http->on_message(call->http, &bytes);
}

static void http_send(struct rt_call *base, const ProtobufCMessage *message)
{
	struct http_call *call = of(base);
	size_t length = protobuf_c_message_get_packed_size(message);

	base->queued_bytes += length;
	rpc_caller_sends(&call->call, length);
	pass_on(call, message);
}

static void http_end(struct rt_call *base, const ProtobufCMessage *answer,
		     const struct rt_status *status)
{
	struct http_call *call = of(base);

	call->ended = true;
	if (base->method != NULL)
		RT_FAILPOINT2("rpc.answer", base->method->descriptor->name);
	if (status->code != 0)
		rt_status_copy(&call->call.status, status);
	else if (answer != NULL &&
		 rpc_caller_may_send(&call->call, protobuf_c_message_get_packed_size(answer),
				     &call->call.status))
		pass_on(call, answer);
	/* It waits elsewhere from now on, where such answers have a bound of their own. */
	rpc_caller_sent(&call->call);
	rt_loop_defer(base->loop, &call->finish_task);
}

/* ---- what it receives ---- */

static void read_next(struct rt_task *task)
{
	struct http_call *call = RT_CONTAINER_OF(task, struct http_call, read_task);
	const ProtobufCBinaryData *message;

	if (call->http == NULL || call->ended) {
		http_release(&call->call.base);
		return;
	}
	if (call->next == call->http->message_count) {
		rpc_call_half_closed(&call->call.base);
		return;
	}
	message = &call->http->messages[call->next++];
	rpc_caller_received(&call->call, message->len);
	rpc_call_message(&call->call.base, message->data, message->len);
}

static void may_read(struct rt_timer *timer)
{
	struct server_call *call = RT_CONTAINER_OF(timer, struct server_call, read_timer);

	rt_loop_defer(call->base.loop, &of(&call->base)->read_task);
}

static void http_read(struct rt_call *base)
{
	struct http_call *call = of(base);
	int64_t wait_ms =
		call->next < call->http->message_count ? rpc_caller_read_wait_ms(&call->call) : 0;

	if (wait_ms > 0)
		rt_timer_start(base->loop, &call->call.read_timer, wait_ms, may_read);
	else
		rt_loop_defer(base->loop, &call->read_task);
}

static void http_watch(struct rt_call *base)
{
	(void)base; /* a cancellation is always reported */
}

static int64_t http_remaining_ms(const struct rt_call *base)
{
	const struct http_call *call = of(base);

	return call->deadline_ms == INT64_MAX ? INT64_MAX
					      : call->deadline_ms - rt_loop_now(base->loop);
}

static const char *http_metadata(const struct rt_call *base, const char *key, size_t *ret_length)
{
	const struct rt_http_call *http = of(base)->http;
	const char *value = strcmp(key, "traceparent") == 0  ? http->traceparent
			    : strcmp(key, "tracestate") == 0 ? http->tracestate
							     : NULL;

	if (value != NULL && ret_length != NULL)
		*ret_length = strlen(value);
	return value;
}

static const char *http_peer(const struct rt_call *base)
{
	return rpc_peer_text((struct rt_arena *)(uintptr_t)&base->arena, of(base)->http->peer->uri);
}

static const struct rpc_call_ops http_call_ops = {
	.send = http_send,
	.end = http_end,
	.read = http_read,
	.watch = http_watch,
	.remaining_ms = http_remaining_ms,
	.metadata = http_metadata,
	.peer = http_peer,
	.release = http_release,
};

/* ---- start ---- */

static void cancel(struct http_call *call)
{
	struct rt_call *base = &call->call.base;

	rpc_call_cancelled(base);
	if (!call->ended)
		rpc_call_half_closed(base);
	/* Nobody reads what is queued; a handler that waits for that goes on. */
	rpc_call_sent(base, base->queued_bytes);
}

static void deadline_passed(struct rt_timer *timer)
{
	cancel(RT_CONTAINER_OF(timer, struct http_call, deadline_timer));
}

static void refuse_unknown(struct http_call *call)
{
	call->ended = call->call.base.ended = true;
	rt_status_set(&call->call.status, RT_CODE_UNIMPLEMENTED, "unknown method %.200s",
		      call->http->path);
	rt_loop_defer(call->call.base.loop, &call->finish_task);
}

static void begin(struct rt_task *task)
{
	struct http_call *call = RT_CONTAINER_OF(task, struct http_call, begin_task);
	struct rt_server *server = call->call.server;
	struct server_method *method = call->call.method;
	struct rt_call *base = &call->call.base;
	const struct rt_http_call *http = call->http;
	struct rt_status status = { 0 };
	bool streams = method != NULL && method->base.client_streams;
	size_t length = http->message_count > 0 && !streams ? http->messages[0].len : 0;

	if (method == NULL) {
		refuse_unknown(call);
		return;
	}
	rpc_call_begin(base, method->service, &method->base);
	if ((int64_t)server->active_count > server->calls_max && !method->always) {
		rpc_call_refuse(base, &server->busy);
	} else if (server->draining && !method->always) {
		rpc_call_refuse(base, &server->leaving);
	} else if (!rpc_caller_admit(&call->call, length, &status)) {
		rpc_call_refuse(base, &status);
	} else if (streams) {
		rpc_call_handle(base, NULL, 0);
	} else if (http->message_count != 1) {
		rt_status_set(&status, RT_CODE_INVALID_ARGUMENT,
			      "the request is %zu messages instead of one", http->message_count);
		rpc_call_refuse(base, &status);
	} else {
		rpc_call_handle(base, http->messages[0].data, length);
	}
	rt_status_done(&status);
}

static struct server_method *method_of(const struct rt_server *server, const char *path)
{
	struct server_method *method = server->methods;

	while (method != NULL && strcmp(method->base.path, path) != 0)
		method = method->next;
	return method;
}

void rt_http_call_start(struct rt_server *server, struct rt_http_call *http)
{
	struct http_call *call = rt_alloc(sizeof(*call));

	rt_list_init(&call->call.unwatched_link);
	rt_list_init(&call->call.link);
	rpc_call_init(&call->call.base, &http_call_ops, server->loop);
	call->call.server = server;
	call->call.method = method_of(server, http->path);
	call->call.http = call->http = http;
	http->served = call;
	call->begin_task.run = begin;
	call->read_task.run = read_next;
	call->finish_task.run = finish;
	call->deadline_ms = INT64_MAX;
	rt_list_push(&server->active, &call->call.link);
	server->active_count++;
	if (http->timeout_ms > 0) {
		call->deadline_ms = rt_loop_now(server->loop) + http->timeout_ms;
		rt_timer_start(server->loop, &call->deadline_timer, http->timeout_ms,
			       deadline_passed);
	}
	rt_loop_defer(server->loop, &call->begin_task);
}

void rt_http_call_cancel(struct rt_http_call *http)
{
	struct http_call *call = http->served;

	if (call == NULL)
		return;
	if (rt_timer_running(&call->call.read_timer)) {
		rt_timer_stop(call->call.server->loop, &call->call.read_timer);
		rt_loop_defer(call->call.base.loop, &call->read_task);
	}
	cancel(call);
}

void rt_http_call_sent(struct rt_http_call *http, size_t bytes)
{
	struct http_call *call = http->served;

	if (call != NULL)
		rpc_call_sent(&call->call.base, RT_MIN(bytes, call->call.base.queued_bytes));
}
