/* call.c - a server call as its handler sees it, the same on every transport.
 *
 * Callbacks that cannot run at once (a handler must not be called back from within its own call
 * to us) are marked as due and run by one deferred task. Nothing is called back once the handler
 * has ended the call. */
#include "call_internal.h"
#include "callers_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the handler's side ---- */

/* Runs what is due. Any of it may end the call, and then the rest is no longer due. */
static void run_later(struct rt_task *task)
{
	struct rt_call *call = RT_CONTAINER_OF(task, struct rt_call, later);

	if (call->on_cancel_due && !call->ended) {
		void (*on_cancel)(struct rt_call *, void *) = RT_TAKE(call->on_cancel);

		call->on_cancel_due = false;
		if (on_cancel != NULL)
			on_cancel(call, call->on_cancel_user);
	}
	if (call->on_message_due && !call->ended) {
		call->on_message_due = false;
		call->reading = false;
		call->on_message(call, NULL, call->on_message_user);
	}
	if (call->on_drained_due && !call->ended) {
		void (*on_drained)(struct rt_call *, void *) = RT_TAKE(call->on_drained);

		call->on_drained_due = false;
		if (on_drained != NULL)
			on_drained(call, call->on_drained_user);
	}
	call->ops->release(call);
}

/* gRPC cancels a call at its deadline by a clock that it reads now and then: so many ms early. */
#define DEADLINE_EARLY_MS 10

/* The status of a call for which nobody waits any more. A client whose own deadline has not passed may
 * still receive it. */
static const struct rt_status *gone(const struct rt_call *call)
{
	static const struct rt_status late = {
		.code = RT_CODE_DEADLINE_EXCEEDED,
		.message = (char *)(uintptr_t) "the call's deadline has passed",
	};
	static const struct rt_status left = {
		.code = RT_CODE_CANCELLED,
		.message = (char *)(uintptr_t) "the caller has gone",
	};

	return rt_call_remaining_ms(call) <= DEADLINE_EARLY_MS ? &late : &left;
}

const ProtobufCMessageDescriptor rt_unread_descriptor = {
	.magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
	.name = "unread",
	.sizeof_message = sizeof(ProtobufCMessage),
};

ProtobufCBinaryData rt_call_request(struct rt_call *call)
{
	ProtobufCBinaryData request = call->request;

	request.data = (uint8_t *)rt_arena_copy(&call->arena, request.data, request.len);
	return request;
}

const ProtobufCMessage *rt_call_unpack(struct rt_call *call, const ProtobufCMessageDescriptor *type,
				       struct rt_status *status)
{
	return rpc_unpack(&call->arena, type, call->request.data, call->request.len, false, status);
}

static void end_span(struct rt_call *call, int code)
{
	struct rt_span *span = RT_TAKE(call->span);

	if (span == NULL)
		return;
	rt_span_code(span, code);
	rt_span_end(span);
}

static void end_call(struct rt_call *call, const ProtobufCMessage *answer,
		     const struct rt_status *status)
{
	assert(!call->ended);
	/* If the call was cancelled before it failed, the client gets the cancellation. */
	if (call->forced.code == 0 &&
	    (call->cancelled || (status->code != 0 && rt_call_remaining_ms(call) <= 0))) {
		answer = NULL;
		status = gone(call);
	}
	if (call->forced.code != 0) {
		answer = NULL;
		status = &call->forced;
	}
	call->ended = true;
	end_span(call, status->code);
	if (answer != NULL)
		rpc_method_count(call->method->sent);
	rpc_method_ended(call->method, status->code, call->started_ns);
	call->ops->end(call, answer, status);
}

/* What handlers get as their closure. */
static void answer_call(const ProtobufCMessage *message, void *closure_data)
{
	static const struct rt_status ok;
	struct rt_call *call = closure_data;

	if (message == NULL) {
		rt_call_failf(call, RT_CODE_INTERNAL, "%s gave no answer", call->method->path);
		return;
	}
	if (!call->method->server_streams) {
		end_call(call, message, &ok);
		return;
	}
	if (call->cancelled)
		return; /* no client reads it */
	rpc_method_count(call->method->sent);
	call->ops->send(call, message);
}

void rt_call_fail(struct rt_call *call, const struct rt_status *status)
{
	static const struct rt_status unset = { .code = RT_CODE_UNKNOWN };

	/* A failure never has the code OK. */
	end_call(call, NULL, status->code != 0 ? status : &unset);
}

void rt_call_failf(struct rt_call *call, int code, const char *format, ...)
{
	struct rt_status status = { 0 };
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	rt_status_set(&status, code, "%s", text != NULL ? text : format);
	free(text);
	rt_call_fail(call, &status);
	rt_status_done(&status);
}

void rt_call_fail_from(struct rt_call *call, int rc, const char *what)
{
	struct rt_status status = { 0 };

	rt_status_from(&status, rc, what);
	rt_call_fail(call, &status);
	rt_status_done(&status);
}

void rt_call_finish(struct rt_call *call)
{
	static const struct rt_status ok;

	end_call(call, NULL, &ok);
}

const struct rt_identity *rt_call_identity(const struct rt_call *call)
{
	return call->identity;
}

size_t rt_call_queued_bytes(const struct rt_call *call)
{
	return call->queued_bytes;
}

void rt_call_on_drained(struct rt_call *call, void (*on_drained)(struct rt_call *call, void *user),
			void *user)
{
	call->on_drained = on_drained;
	call->on_drained_user = user;
	if (on_drained == NULL || call->queued_bytes > RT_CALL_QUEUE_MAX_BYTES / 2)
		return;
	call->on_drained_due = true;
	rt_loop_defer(call->loop, &call->later);
}

void rt_call_read(struct rt_call *call,
		  void (*on_message)(struct rt_call *call, const ProtobufCMessage *message,
				     void *user),
		  void *user)
{
	assert(!call->reading);
	call->on_message = on_message;
	call->on_message_user = user;
	call->reading = true;
	if (call->messages != NULL)
		rt_arena_reset(&call->messages->arena, RPC_ARENA_KEEP_BYTES);
	if (!call->half_closed && !call->cancelled) {
		call->ops->read(call);
		return;
	}
	call->on_message_due = true;
	rt_loop_defer(call->loop, &call->later);
}

struct rt_message *rt_call_keep_message(struct rt_call *call)
{
	return RT_TAKE(call->messages);
}

void rt_message_free(struct rt_message *message)
{
	if (message == NULL)
		return;
	rt_arena_done(&message->arena);
	free(message);
}

void rt_call_on_cancel(struct rt_call *call, void (*on_cancel)(struct rt_call *call, void *user),
		       void *user)
{
	call->on_cancel = on_cancel;
	call->on_cancel_user = user;
	if (on_cancel == NULL)
		return;
	if (!call->cancelled) {
		call->ops->watch(call);
		return;
	}
	call->on_cancel_due = true;
	rt_loop_defer(call->loop, &call->later);
}

bool rt_call_cancelled(const struct rt_call *call)
{
	return call->cancelled || rt_call_remaining_ms(call) <= 0;
}

int64_t rt_call_remaining_ms(const struct rt_call *call)
{
	return call->ops->remaining_ms(call);
}

const char *rt_call_metadata(const struct rt_call *call, const char *key, size_t *ret_length)
{
	return call->ops->metadata(call, key, ret_length);
}

void rt_call_set_initial(struct rt_call *call, const char *key, const void *value, size_t length)
{
	rpc_metadata_add(&call->initial, &call->arena, key, value, length);
}

void rt_call_set_trailing(struct rt_call *call, const char *key, const void *value, size_t length)
{
	rpc_metadata_add(&call->trailing, &call->arena, key, value, length);
}

/* Both are made when they are first asked for; most calls never are. */
const char *rt_call_peer(const struct rt_call *call)
{
	struct rt_call *kept = (struct rt_call *)(uintptr_t)call;

	if (kept->peer == NULL)
		kept->peer = call->ops->peer(call);
	return kept->peer;
}

const char *rt_call_actor(const struct rt_call *call)
{
	struct rt_call *kept = (struct rt_call *)(uintptr_t)call;
	char text[RT_ACTOR_TEXT];

	if (call->identity->name[0] == '\0')
		return "";
	if (kept->actor == NULL) {
		rt_identity_actor(call->identity, text);
		kept->actor = rt_arena_copy(&kept->arena, text, strlen(text));
	}
	return kept->actor;
}

struct rt_span *rt_call_span(const struct rt_call *call)
{
	return call->span;
}

const char *rt_call_traceparent(const struct rt_call *call)
{
	struct rt_call *kept = (struct rt_call *)(uintptr_t)call;
	struct rt_trace trace;
	const char *value;
	size_t length = 0;
	char *text;

	if (kept->traceparent != NULL)
		return kept->traceparent;
	kept->traceparent = "";
	value = rt_call_metadata(call, "traceparent", &length);
	if (value == NULL || !rt_trace_parse(value, length, &trace))
		return "";
	/* Whatever version it came in: others may read only this one. */
	text = rt_arena_take(&kept->arena, RT_TRACEPARENT_TEXT);
	rt_trace_format(&trace, text);
	kept->traceparent = text;
	return text;
}

const char *rt_call_tracestate(const struct rt_call *call)
{
	const char *value;
	size_t length = 0;

	if (rt_call_traceparent(call)[0] == '\0')
		return "";
	value = rt_call_metadata(call, "tracestate", &length);
	return value != NULL && rt_trace_state_valid(value, length) ? value : "";
}

/* ---- the transport's side ---- */

const struct rt_identity rpc_everybody = { .role = RT_ROLE_OPERATOR, .expires_ms = INT64_MAX };

void rpc_call_init(struct rt_call *call, const struct rpc_call_ops *ops, struct rt_loop *loop)
{
	call->ops = ops;
	call->loop = loop;
	call->later.run = run_later;
}

static void begin_span(struct rt_call *call)
{
	call->span = rt_arena_take(&call->arena, sizeof(*call->span));
	rt_span_begin(call->span, RT_SPAN_SERVED, call->service->descriptor->name);
	call->span->method = call->method->descriptor->name;
	call->span->lasts = call->method->client_streams || call->method->server_streams;
	rt_span_carried(call->span, rt_call_traceparent(call));
	if (call->span->carried)
		call->span->state = rt_call_tracestate(call);
}

void rpc_call_begin(struct rt_call *call, ProtobufCService *service, struct rpc_method *method)
{
	call->service = service;
	call->method = method;
	call->identity = &rpc_everybody;
	call->actor = call->peer = call->traceparent = NULL;
	rpc_method_count(method->started);
	if (method->handled != NULL)
		call->started_ns = rt_monotonic_ns();
	if (rt_tracing && method->traced)
		begin_span(call);
}

void rpc_call_handle(struct rt_call *call, const uint8_t *data, size_t length)
{
	static const ProtobufCMessage unread = { .descriptor = &rt_unread_descriptor };
	struct rpc_method *method = call->method;
	const ProtobufCMessage *request = NULL;

	/* First, so that calls that are reset as fast as they are made cost nothing. */
	if (rt_call_cancelled(call)) {
		end_call(call, NULL, gone(call));
		return;
	}
	if (!method->client_streams) {
		struct rt_status status = { 0 };

		/* protobuf-c takes it without const. */
		call->request = (ProtobufCBinaryData){ length, (uint8_t *)(uintptr_t)data };
		request = method->descriptor->input == &rt_unread_descriptor
				  ? &unread
				  : rt_call_unpack(call, method->descriptor->input, &status);
		if (request == NULL) {
			rpc_call_refuse(call, &status);
			rt_status_done(&status);
			return;
		}
		rpc_method_count(method->received);
	}
	RT_FAILPOINT2("rpc.arrived", method->descriptor->name);
	call->service->invoke(call->service, method->index, request, answer_call, call);
	call->request = (ProtobufCBinaryData){ 0, NULL };
}

void rpc_call_bad_message(struct rt_call *call)
{
	if (call->ended)
		return;
	/* The handler must not mistake half a stream for a whole one: it sees a call that was
	 * cancelled, the client sees why. */
	rpc_call_cancelled(call);
	rpc_call_half_closed(call);
}

void rpc_call_message(struct rt_call *call, const uint8_t *data, size_t length)
{
	ProtobufCMessage *message;

	if (call->ended)
		return;
	if (call->messages == NULL)
		call->messages = rt_alloc(sizeof(*call->messages));
	message = rpc_unpack(&call->messages->arena, call->method->descriptor->input, data, length,
			     false, &call->forced);
	if (message == NULL) {
		rpc_call_bad_message(call);
		return;
	}
	rpc_method_count(call->method->received);
	call->reading = false;
	call->on_message(call, message, call->on_message_user);
}

void rpc_call_half_closed(struct rt_call *call)
{
	call->half_closed = true;
	if (call->ended || !call->reading || call->on_message_due)
		return;
	call->reading = false;
	call->on_message(call, NULL, call->on_message_user);
}

void rpc_call_cancelled(struct rt_call *call)
{
	void (*on_cancel)(struct rt_call *, void *) = RT_TAKE(call->on_cancel);

	if (call->cancelled) {
		call->on_cancel = on_cancel; /* due already */
		return;
	}
	call->cancelled = true;
	if (on_cancel != NULL && !call->ended)
		on_cancel(call, call->on_cancel_user);
}

void rpc_call_sent(struct rt_call *call, size_t bytes)
{
	void (*on_drained)(struct rt_call *, void *);

	call->queued_bytes -= bytes;
	if (call->ended || call->on_drained == NULL || call->on_drained_due ||
	    call->queued_bytes > RT_CALL_QUEUE_MAX_BYTES / 2)
		return;
	on_drained = RT_TAKE(call->on_drained);
	on_drained(call, call->on_drained_user);
}

void rpc_call_refuse(struct rt_call *call, const struct rt_status *status)
{
	end_call(call, NULL, status);
}

bool rpc_call_busy(const struct rt_call *call)
{
	return call->later.queued;
}

void rpc_call_reset(struct rt_call *call)
{
	rt_arena_reset(&call->arena, RPC_ARENA_KEEP_BYTES);
	rt_message_free(call->messages);
	rt_status_done(&call->forced);
	call->method = NULL;
	call->service = NULL;
	call->messages = NULL;
	call->span = NULL;
	call->initial = call->trailing = NULL;
	call->queued_bytes = 0;
	call->ended = call->cancelled = call->reading = call->half_closed = false;
	call->on_message_due = call->on_cancel_due = call->on_drained_due = false;
	call->on_message = NULL;
	call->on_cancel = NULL;
	call->on_drained = NULL;
}

void rpc_call_done(struct rt_call *call)
{
	rpc_call_reset(call);
	rt_arena_done(&call->arena);
}
