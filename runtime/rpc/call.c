/* call.c - a server call as its handler sees it, the same on every transport.
 *
 * Callbacks that cannot run at once (a handler must not be called back from within its own call
 * to us) are marked as due and run by one deferred task. Nothing is called back once the handler
 * has ended the call. */
#include "call_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

/* ---- arena ---- */

#define CHUNK_MIN_BYTES 4096
struct rpc_chunk {
	struct rpc_chunk *next;
	size_t size; /* of what follows */
	_Alignas(16) char bytes[];
};

static void *arena_allocate(void *allocator_data, size_t size)
{
	return rpc_arena_alloc(allocator_data, size);
}

static void arena_free(void *allocator_data, void *pointer)
{
	(void)allocator_data;
	(void)pointer;
}

void rpc_arena_init(struct rpc_arena *arena)
{
	arena->allocator = (ProtobufCAllocator){
		.alloc = arena_allocate,
		.free = arena_free,
		.allocator_data = arena,
	};
	arena->chunks = NULL;
	arena->at = arena->first;
	arena->end = arena->first + sizeof(arena->first);
}

void *rpc_arena_alloc(struct rpc_arena *arena, size_t size_bytes)
{
	size_t size = (size_bytes + 15) & ~(size_t)15;
	struct rpc_chunk *chunk;
	char *p = arena->at;

	if (size <= (size_t)(arena->end - p)) {
		arena->at += size;
		return p;
	}
	/* Twice the last one, so that a large message needs few. */
	chunk = rt_realloc(NULL, sizeof(*chunk) +
					 (size = RT_MAX(size, arena->chunks == NULL
								      ? CHUNK_MIN_BYTES
								      : arena->chunks->size * 2)));
	chunk->size = size;
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	arena->end = chunk->bytes + size;
	arena->at = chunk->bytes + ((size_bytes + 15) & ~(size_t)15);
	return chunk->bytes;
}

char *rpc_arena_copy(struct rpc_arena *arena, const void *data, size_t length)
{
	char *copy = rpc_arena_alloc(arena, length + 1);

	if (length > 0)
		memcpy(copy, data, length);
	copy[length] = '\0';
	return copy;
}

void rpc_arena_reset(struct rpc_arena *arena)
{
	while (arena->chunks != NULL) {
		struct rpc_chunk *chunk = arena->chunks;

		arena->chunks = chunk->next;
		free(chunk);
	}
	arena->at = arena->first;
	arena->end = arena->first + sizeof(arena->first);
}

ProtobufCMessage *rpc_unpack(struct rpc_arena *arena, const ProtobufCMessageDescriptor *descriptor,
			     const uint8_t *data, size_t length, bool from_server,
			     struct rt_status *status)
{
	static const uint8_t nothing[1];
	int code = from_server ? RT_CODE_INTERNAL : RT_CODE_INVALID_ARGUMENT;
	ProtobufCMessage *message;
	struct rt_wire_fault fault;

	if (data == NULL)
		data = nothing; /* an empty message may come without bytes */
	if (!rt_wire_check(descriptor, data, length, &fault)) {
		rt_status_set(status, code, "%s%s%s %s", descriptor->name,
			      fault.field[0] != '\0' ? ": " : "", fault.field, fault.what);
		if (!from_server)
			rt_status_violation(status, fault.field, "%s", fault.what);
		return NULL;
	}
	message = protobuf_c_message_unpack(descriptor, &arena->allocator, length, data);
	if (message == NULL)
		rt_status_set(status, code, "%s does not parse", descriptor->name);
	return message;
}

/* ---- metadata ---- */

static bool metadata_legal(const char *key, const void *value, size_t length)
{
	size_t key_length = strlen(key);
	const char *text = value;

	if (key_length == 0 || strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != key_length)
		return false;
	if (key_length > 4 && strcmp(key + key_length - 4, "-bin") == 0)
		return true;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	}
	return true;
}

void rpc_metadata_add(struct rpc_metadata **list, struct rpc_arena *arena, const char *key,
		      const void *value, size_t length)
{
	struct rpc_metadata *entry;

	if (!metadata_legal(key, value, length))
		return;
	entry = rpc_arena_alloc(arena, sizeof(*entry));
	entry->next = NULL;
	entry->key = rpc_arena_copy(arena, key, strlen(key));
	entry->value = rpc_arena_copy(arena, value, length);
	entry->length = length;
	while (*list != NULL)
		list = &(*list)->next;
	*list = entry;
}

const struct rpc_metadata *rpc_metadata_find(const struct rpc_metadata *list, const char *key)
{
	while (list != NULL && strcmp(list->key, key) != 0)
		list = list->next;
	return list;
}

/* ---- methods and their metrics, named like those of go-grpc-middleware ---- */

static const char *const method_labels[] = { "grpc_type", "grpc_service", "grpc_method", NULL };
static const char *const handled_labels[] = { "grpc_type", "grpc_service", "grpc_method",
					      "grpc_code", NULL };

static const char *method_type(const struct rpc_method *method)
{
	if (method->client_streams)
		return method->server_streams ? "bidi_stream" : "client_stream";
	return method->server_streams ? "server_stream" : "unary";
}

static struct rt_series *method_series(const struct rpc_method *method, struct rt_metrics *metrics,
				       enum rt_metric_type type, const char *side, const char *what,
				       const char *help)
{
	const char *values[] = { method_type(method), method->service_name,
				 method->descriptor->name };
	char *name = rt_printf("grpc_%s_%s", side, what);
	struct rt_series *series =
		rt_metric_series(rt_metric(metrics, type, name, help, method_labels), values);

	free(name);
	return series;
}

static void method_metrics(struct rpc_method *method, struct rt_metrics *metrics, const char *side)
{
	char *name = rt_printf("grpc_%s_handled_total", side);

	method->started = method_series(method, metrics, RT_COUNTER, side, "started_total",
					"Calls that began.");
	method->received = method_series(method, metrics, RT_COUNTER, side, "msg_received_total",
					 "Messages that came in.");
	method->sent = method_series(method, metrics, RT_COUNTER, side, "msg_sent_total",
				     "Messages that went out.");
	method->seconds = method_series(method, metrics, RT_HISTOGRAM, side, "handling_seconds",
					"Time from a call's begin to its end.");
	method->handled = rt_metric(metrics, RT_COUNTER, name,
				    "Calls that ended, whatever their status.", handled_labels);
	free(name);
}

void rpc_method_init(struct rpc_method *method, const ProtobufCServiceDescriptor *service,
		     const char *service_name, unsigned index, struct rt_metrics *metrics,
		     const char *side)
{
	method->service_name = rt_strdup(service_name != NULL ? service_name : service->name);
	method->descriptor = &service->methods[index];
	method->index = index;
	method->path = rt_printf("/%s/%s", method->service_name, method->descriptor->name);
	rpc_descriptors_method(method->service_name, method->descriptor->name,
			       &method->client_streams, &method->server_streams);
	if (metrics != NULL)
		method_metrics(method, metrics, side);
}

void rpc_method_done(struct rpc_method *method)
{
	free(method->path);
	free(method->service_name);
}

void rpc_method_count(struct rt_series *series)
{
	if (series != NULL)
		rt_series_add(series, 1);
}

static struct rt_series *handled_series(struct rpc_method *method, int code)
{
	/* As Go prints them: the dashboards that exist expect it. */
	static const char *const names[RPC_CODES] = {
		"OK",
		"Canceled",
		"Unknown",
		"InvalidArgument",
		"DeadlineExceeded",
		"NotFound",
		"AlreadyExists",
		"PermissionDenied",
		"ResourceExhausted",
		"FailedPrecondition",
		"Aborted",
		"OutOfRange",
		"Unimplemented",
		"Internal",
		"Unavailable",
		"DataLoss",
		"Unauthenticated",
	};
	const char *values[] = { method_type(method), method->service_name,
				 method->descriptor->name, NULL };

	if (code < 0 || code >= RPC_CODES)
		code = RT_CODE_UNKNOWN;
	if (method->handled_by_code[code] == NULL) {
		values[3] = names[code];
		method->handled_by_code[code] = rt_metric_series(method->handled, values);
	}
	return method->handled_by_code[code];
}

void rpc_method_ended(struct rpc_method *method, int code, int64_t started_ns)
{
	if (method->handled == NULL)
		return;
	rt_series_add(handled_series(method, code), 1);
	rt_series_observe(method->seconds, (double)(rt_monotonic_ns() - started_ns) / 1e9);
}

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
	call->ops->settle(call);
}

/* gRPC cancels a call at its deadline by a clock that it reads now and then: so many ms early. */
#define DEADLINE_EARLY_MS 10

/* What a call is told for which nobody waits any more. It may be heard all the same, by a client whose
 * own deadline has not passed. */
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

static void end_call(struct rt_call *call, const ProtobufCMessage *answer,
		     const struct rt_status *status)
{
	assert(!call->ended);
	/* A failure that comes too late is told as what came first. */
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
		return; /* nobody reads it */
	rpc_method_count(call->method->sent);
	call->ops->send(call, message);
}

void rt_call_fail(struct rt_call *call, const struct rt_status *status)
{
	static const struct rt_status unset = { .code = RT_CODE_UNKNOWN };

	/* A failure is none with the code OK. */
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

void rt_call_finish(struct rt_call *call)
{
	static const struct rt_status ok;

	end_call(call, NULL, &ok);
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
		rpc_arena_reset(call->messages);
	if (!call->half_closed && !call->cancelled) {
		call->ops->read(call);
		return;
	}
	call->on_message_due = true;
	rt_loop_defer(call->loop, &call->later);
}

struct rt_message *rt_call_keep_message(struct rt_call *call)
{
	return (struct rt_message *)RT_TAKE(call->messages);
}

void rt_message_free(struct rt_message *message)
{
	struct rpc_arena *arena = (struct rpc_arena *)message;

	if (arena == NULL)
		return;
	rpc_arena_reset(arena);
	free(arena);
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

const char *rt_call_peer(const struct rt_call *call)
{
	return call->ops->peer(call);
}

/* ---- the transport's side ---- */

void rpc_call_init(struct rt_call *call, const struct rpc_call_ops *ops, struct rt_loop *loop)
{
	call->ops = ops;
	call->loop = loop;
	call->later.run = run_later;
	rpc_arena_init(&call->arena);
}

void rpc_call_begin(struct rt_call *call, ProtobufCService *service, struct rpc_method *method)
{
	call->service = service;
	call->method = method;
	rpc_method_count(method->started);
	if (method->handled != NULL)
		call->started_ns = rt_monotonic_ns();
}

void rpc_call_handle(struct rt_call *call, const uint8_t *data, size_t length)
{
	struct rpc_method *method = call->method;
	ProtobufCMessage *request = NULL;

	/* First of all: calls that are reset as fast as they are made must cost nothing. */
	if (rt_call_cancelled(call)) {
		end_call(call, NULL, gone(call));
		return;
	}
	if (!method->client_streams) {
		struct rt_status status = { 0 };

		request = rpc_unpack(&call->arena, method->descriptor->input, data, length, false,
				     &status);
		if (request == NULL) {
			rpc_call_refuse(call, &status);
			rt_status_done(&status);
			return;
		}
		rpc_method_count(method->received);
	}
	RT_FAILPOINT2("rpc.arrived", method->descriptor->name);
	call->service->invoke(call->service, method->index, request, answer_call, call);
}

void rpc_call_bad_message(struct rt_call *call)
{
	if (call->ended)
		return;
	/* The handler must not take half a stream for a whole one: it sees a call that was
	 * cancelled, the client sees why. */
	rpc_call_cancelled(call);
	rpc_call_half_closed(call);
}

void rpc_call_message(struct rt_call *call, const uint8_t *data, size_t length)
{
	ProtobufCMessage *message;

	if (call->ended)
		return;
	if (call->messages == NULL) {
		call->messages = rt_realloc(NULL, sizeof(*call->messages));
		rpc_arena_init(call->messages);
	}
	message = rpc_unpack(call->messages, call->method->descriptor->input, data, length, false,
			     &call->forced);
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

void rpc_call_done(struct rt_call *call)
{
	const struct rpc_call_ops *ops = call->ops;
	struct rt_loop *loop = call->loop;

	rpc_arena_reset(&call->arena);
	rt_message_free((struct rt_message *)call->messages);
	rt_status_done(&call->forced);
	/* The arena's first bytes stay as they are: clearing them would cost more than the rest. */
	call->method = NULL;
	call->service = NULL;
	call->messages = NULL;
	call->initial = call->trailing = NULL;
	call->queued_bytes = 0;
	call->ended = call->cancelled = call->reading = call->half_closed = false;
	call->on_message_due = call->on_cancel_due = call->on_drained_due = false;
	call->on_message = NULL;
	call->on_cancel = NULL;
	call->on_drained = NULL;
	call->ops = ops;
	call->loop = loop;
}

/* ---- clients ---- */

/* The call of a generated proxy function: an op of its own, freed with its end. */
struct invocation {
	struct rt_client_op op;
	ProtobufCClosure closure;
	void *closure_data;
};

static void invocation_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct invocation *invocation = RT_CONTAINER_OF(op, struct invocation, op);

	invocation->closure(message, invocation->closure_data);
}

static void invocation_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct invocation *invocation = RT_CONTAINER_OF(op, struct invocation, op);

	invocation->closure(response, invocation->closure_data);
	free(invocation);
}

#define INVOKE_TIMEOUT_MS 30000
static void client_invoke(ProtobufCService *service, unsigned method_index,
			  const ProtobufCMessage *input, ProtobufCClosure closure,
			  void *closure_data)
{
	struct rpc_client *client = (struct rpc_client *)(void *)service;
	struct invocation *invocation = rt_alloc(sizeof(*invocation));

	invocation->closure = closure;
	invocation->closure_data = closure_data;
	invocation->op.timeout_ms = INVOKE_TIMEOUT_MS;
	invocation->op.done = invocation_done;
	if (client->methods[method_index].server_streams)
		invocation->op.on_message = invocation_message;
	if (!client->methods[method_index].client_streams) {
		rt_client_start(service, method_index, input, &invocation->op);
		return;
	}
	/* A stream of one. */
	rt_client_start(service, method_index, NULL, &invocation->op);
	rt_client_send(&invocation->op, input);
	rt_client_half_close(&invocation->op);
}

static void client_destroy(ProtobufCService *service)
{
	rt_client_free(service);
}

void rpc_client_init(struct rpc_client *client, const struct rpc_client_ops *ops,
		     const ProtobufCServiceDescriptor *descriptor, struct rt_metrics *metrics)
{
	client->service.descriptor = descriptor;
	client->service.invoke = client_invoke;
	client->service.destroy = client_destroy;
	client->ops = ops;
	client->methods = rt_alloc(descriptor->n_methods * sizeof(*client->methods));
	for (unsigned i = 0; i < descriptor->n_methods; i++)
		rpc_method_init(&client->methods[i], descriptor, NULL, i, metrics, "client");
}

void rpc_client_done(struct rpc_client *client)
{
	for (unsigned i = 0; i < client->service.descriptor->n_methods; i++)
		rpc_method_done(&client->methods[i]);
	free(client->methods);
}

void rpc_client_end(struct rt_client_op *op, const struct rt_status *status,
		    const ProtobufCMessage *response)
{
	op->status = *status; /* lent, not copied: the op may be gone after done */
	op->done(op, response);
}

void rpc_client_sent(struct rt_client_op *op, size_t before_bytes, size_t now_bytes)
{
	const size_t low = RT_CALL_QUEUE_MAX_BYTES / 2;

	if (before_bytes > low && now_bytes <= low && op->on_drained != NULL)
		op->on_drained(op);
}

void rt_client_free(ProtobufCService *service)
{
	struct rpc_client *client = (struct rpc_client *)(void *)service;

	if (client != NULL)
		client->ops->free(client);
}

void rt_client_start(ProtobufCService *service, unsigned method_index,
		     const ProtobufCMessage *request, struct rt_client_op *op)
{
	struct rpc_client *client = (struct rpc_client *)(void *)service;

	RT_FAILPOINT2("rpc.call", client->methods[method_index].descriptor->name);
	client->ops->start(client, &client->methods[method_index], request, op);
}

void rt_client_cancel(struct rt_client_op *op)
{
	((struct rpc_client_call *)op->call)->ops->cancel(op);
}

void rt_client_send(struct rt_client_op *op, const ProtobufCMessage *message)
{
	((struct rpc_client_call *)op->call)->ops->send(op, message);
}

size_t rt_client_queued_bytes(const struct rt_client_op *op)
{
	return ((struct rpc_client_call *)op->call)->ops->queued_bytes(op);
}

void rt_client_half_close(struct rt_client_op *op)
{
	((struct rpc_client_call *)op->call)->ops->half_close(op);
}

const char *rt_client_metadata(const struct rt_client_op *op, const char *key, size_t *ret_length)
{
	return ((struct rpc_client_call *)op->call)->ops->metadata(op, key, ret_length);
}
