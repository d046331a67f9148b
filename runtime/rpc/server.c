/* server.c - server calls over gRPC core.
 *
 * A call's life, in the order things happen:
 *
 *   arm               a struct server_call waits for a call of its method
 *     call_arrived    one came, the request with it; another is armed in its place
 *     rpc_call_handle the handler runs … and ends the call, now or later
 *     start_send      initial metadata, message, status and "tell me when it is over": one batch
 *     call_sent
 *   call_settle       nothing is under way any more: back to the pool
 *
 * A streaming answer is a queue: one send at a time, its end sent with the last message. A
 * client's stream is read only when the handler asks. RECV_CLOSE, which tells of a cancellation,
 * is started when the handler wants to hear of it, and with the last batch at the latest; no call
 * is freed before it has come back.
 *
 * Calls of unknown methods come as generic ones and are answered UNIMPLEMENTED. */
#include "server_internal.h"

#include <assert.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <string.h>

#include "base/base.h"
#include "interpose/interpose.h"
#include "queue_internal.h"

/* Requested calls kept open for each method. gRPC as Debian builds it looks through every open
 * tag of the queue at each completion (a check of its debug builds): 64 a method cost a sixth of
 * a call. With fewer, calls that come in one read wait inside gRPC until the next is armed, which
 * is at once. */
#define ARMED_STANDARD       8
#define ARMED_UNKNOWN        2
#define POOL_MAX             512
#define CALLS_STANDARD       10000
#define CONNECTIONS_STANDARD 4096
#define METADATA_MAX_BYTES   (16 * 1024)
#define METADATA_SENT_MAX    16
#define BUSY_RETRY_MS        1000
#define LEAVING_RETRY_MS     1000
#define LINGER_MS            50

struct server_method {
	struct rpc_method base;
	struct server_method *next;
	ProtobufCService *service;
	void *registered; /* gRPC's */
	int armed;
	bool always;
};

/* A message of a streaming answer that waits for its turn. */
struct outgoing {
	struct outgoing *next;
	grpc_byte_buffer *buffer;
	size_t length;
};

struct server_call {
	struct rt_call base;
	struct rt_list link; /* armed: none; under way: server->active; else: server->pool */
	struct rt_server *server;
	struct server_method *method; /* NULL: of an unknown one */
	grpc_call *grpc;
	gpr_timespec deadline;
	grpc_metadata_array metadata;
	grpc_call_details details; /* of an unknown method */
	grpc_byte_buffer *received;
	int lost; /* what RECV_CLOSE says */

	struct outgoing *outgoing, **outgoing_end;
	grpc_byte_buffer *sending;
	size_t sending_bytes;
	struct rt_status status;

	struct rpc_tag arrive_tag, close_tag, read_tag, send_tag;
	bool close_started, close_with_end, close_done;
	bool initial_sent, send_started, end_due, end_started, end_done;
	bool read_started;
};

struct rt_server {
	struct rt_loop *loop;
	struct rpc_queue *queue;
	grpc_server *grpc; /* NULL before the start */
	char *listen;
	int64_t message_max_bytes, calls_max, connections_max, farewell_ms;
	bool reuse_port;
	struct rt_metrics *metrics;
	int port;
	struct server_method *methods, **methods_end;
	const char **service_names;
	size_t service_count;
	struct rt_list active, pool;
	size_t active_count, armed_count, pool_count;
	struct rt_status busy;    /* what calls beyond calls_max hear */
	struct rt_status leaving; /* what calls that come during the farewell hear */
	struct rpc_health *health;
	struct rpc_reflection *reflection;

	bool draining, closing, shut_down; /* farewell, no new calls, gRPC has ended */
	struct rpc_tag shutdown_tag;
	struct rt_timer farewell_timer, linger_timer, grace_timer;
	struct rt_task drained_task;
	void (*drained)(void *user);
	void *drained_user;
};

static void arm(struct rt_server *server, struct server_method *method);
static void linger_if_idle(struct rt_server *server);
static void check_drained(struct rt_server *server);

/* ---- memory of calls ---- */

static const struct rpc_call_ops server_call_ops;

static struct server_call *call_new(struct rt_server *server)
{
	struct rt_list *pooled = rt_list_pop(&server->pool);
	struct server_call *call;

	if (pooled != NULL) {
		server->pool_count--;
		return RT_CONTAINER_OF(pooled, struct server_call, link);
	}
	call = rt_alloc(sizeof(*call));
	rt_list_init(&call->link);
	call->server = server;
	call->outgoing_end = &call->outgoing;
	grpc_metadata_array_init(&call->metadata);
	rpc_call_init(&call->base, &server_call_ops, server->loop);
	return call;
}

static void call_free(struct server_call *call)
{
	rpc_call_done(&call->base);
	grpc_metadata_array_destroy(&call->metadata);
	free(call);
}

/* Back to the pool, as good as new. */
static void call_release(struct server_call *call)
{
	struct rt_server *server = call->server;

	rpc_call_done(&call->base);
	if (call->grpc != NULL)
		grpc_call_unref(call->grpc);
	call->grpc = NULL;
	call->metadata.count = 0;
	call->method = NULL;
	call->close_started = call->close_with_end = call->close_done = false;
	call->initial_sent = false;
	call->send_started = call->end_due = call->end_started = call->end_done = false;
	call->read_started = false;
	call->lost = 0;
	if (server->pool_count == POOL_MAX || server->closing) {
		call_free(call);
		return;
	}
	rt_list_push(&server->pool, &call->link);
	server->pool_count++;
}

/* What waits will not be sent. A handler that waits for the queue to drain hears of it. */
static void drop_outgoing(struct server_call *call)
{
	size_t bytes = 0;

	while (call->outgoing != NULL) {
		struct outgoing *outgoing = call->outgoing;

		call->outgoing = outgoing->next;
		bytes += outgoing->length;
		grpc_byte_buffer_destroy(outgoing->buffer);
		free(outgoing);
	}
	call->outgoing_end = &call->outgoing;
	rpc_call_sent(&call->base, bytes);
}

static void call_settle(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	struct rt_server *server = call->server;

	if (!call->end_done || !call->close_done || call->send_started || call->read_started ||
	    rpc_call_busy(base))
		return;
	rt_list_remove(&call->link);
	server->active_count--;
	call_release(call);
	if (server->closing)
		linger_if_idle(server);
	check_drained(server);
}

/* ---- sending ---- */

static void fill_metadata(const struct rpc_metadata *list, grpc_metadata *array, size_t *count)
{
	for (; list != NULL && *count < METADATA_SENT_MAX; list = list->next) {
		array[*count].key = grpc_slice_from_copied_string(list->key);
		array[*count].value = grpc_slice_from_copied_buffer(list->value, list->length);
		++*count;
	}
}

static void free_metadata(grpc_metadata *array, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		grpc_slice_unref(array[i].key);
		grpc_slice_unref(array[i].value);
	}
}

static void call_sent(struct rpc_tag *tag, bool ok);
static void call_closed(struct rpc_tag *tag, bool ok);

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

	fill_metadata(call->base.trailing, trailing, trailing_count);
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
	grpc_metadata initial[METADATA_SENT_MAX], trailing[METADATA_SENT_MAX + 1];
	size_t initial_count = 0, trailing_count = 0, count = 0;
	grpc_slice message = grpc_empty_slice();
	grpc_op ops[4];

	memset(ops, 0, sizeof(ops));
	if (!call->initial_sent) {
		fill_metadata(call->base.initial, initial, &initial_count);
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
			add_close(call, &ops[count++]);
			call->close_with_end = true;
		}
	}
	call->send_started = true;
	rpc_queue_start(call->server->queue, call->grpc, ops, count, &call->send_tag, call_sent);
	/* gRPC has its own references by now. */
	free_metadata(initial, initial_count);
	free_metadata(trailing, trailing_count);
	grpc_slice_unref(message);
}

/* Sends what is next, if something is and nothing is under way. */
static void send_next(struct server_call *call)
{
	struct outgoing *outgoing = call->outgoing;

	if (call->send_started || call->end_done)
		return;
	if (call->close_done) {
		/* The client is gone: there is nobody to send to. */
		drop_outgoing(call);
		call->end_done = call->end_due;
		return;
	}
	if (outgoing != NULL) {
		call->outgoing = outgoing->next;
		if (call->outgoing == NULL)
			call->outgoing_end = &call->outgoing;
		call->sending = outgoing->buffer;
		call->sending_bytes = outgoing->length;
		free(outgoing);
	} else if (!call->end_due) {
		return;
	}
	start_send(call, call->end_due && call->outgoing == NULL);
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
	send_next(call);
	call_settle(&call->base);
}

static void server_send(struct rt_call *base, const ProtobufCMessage *message)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	struct outgoing *outgoing;

	if (call->close_done)
		return;
	outgoing = rt_alloc(sizeof(*outgoing));
	outgoing->buffer = rpc_pack(message, &outgoing->length);
	base->queued_bytes += outgoing->length;
	*call->outgoing_end = outgoing;
	call->outgoing_end = &outgoing->next;
	send_next(call);
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
	/* Nobody gets it once the client is gone. */
	if (status->code != 0 && !call->close_done)
		rt_status_copy(&call->status, status);
	if (answer == NULL) {
		send_next(call);
		return;
	}
	call->sending = rpc_pack(answer, &call->sending_bytes);
	base->queued_bytes = call->sending_bytes;
	start_send(call, true);
}

/* ---- receiving ---- */

static void call_closed(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, close_tag);

	(void)ok;
	call->close_done = true;
	if (call->lost != 0 || !call->end_started)
		rpc_call_cancelled(&call->base);
	send_next(call);
	call_settle(&call->base);
}

static void server_watch(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	grpc_op op;

	if (call->close_started)
		return;
	memset(&op, 0, sizeof(op));
	add_close(call, &op);
	rpc_queue_start(call->server->queue, call->grpc, &op, 1, &call->close_tag, call_closed);
}

/* As gRPC has it: the status, and a header that says what would be understood. Among the trailers,
 * because gRPC makes one block of both where no message lies between, and of the initial metadata
 * keeps only what is not its own. */
static void set_compressed(struct server_call *call, struct rt_status *status)
{
	rt_call_set_trailing(&call->base, "grpc-accept-encoding", "identity", strlen("identity"));
	rt_status_set(status, RT_CODE_UNIMPLEMENTED,
		      "the message is compressed; only messages that are not are accepted");
}

static void refuse_compressed_message(struct server_call *call)
{
	set_compressed(call, &call->base.forced);
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
		/* The end of the stream, or of the client? RECV_CLOSE may come too late to tell. */
		if (!ok || grpc_call_failed_before_recv_message(call->grpc))
			rpc_call_cancelled(&call->base);
		rpc_call_half_closed(&call->base);
	} else {
		if (rpc_bytes_read(&bytes, buffer))
			rpc_call_message(&call->base, bytes.data, bytes.length);
		else
			refuse_compressed_message(call);
		rpc_bytes_done(&bytes);
	}
	call_settle(&call->base);
}

static void server_read(struct rt_call *base)
{
	struct server_call *call = RT_CONTAINER_OF(base, struct server_call, base);
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &call->received;
	call->read_started = true;
	rpc_queue_start(call->server->queue, call->grpc, &op, 1, &call->read_tag, call_read);
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

	for (size_t i = 0; i < call->metadata.count; i++) {
		const grpc_metadata *entry = &call->metadata.metadata[i];
		size_t length = GRPC_SLICE_LENGTH(entry->value);

		if (grpc_slice_str_cmp(entry->key, key) != 0)
			continue;
		if (ret_length != NULL)
			*ret_length = length;
		return rpc_arena_copy((struct rpc_arena *)(uintptr_t)&call->base.arena,
				      GRPC_SLICE_START_PTR(entry->value), length);
	}
	return NULL;
}

static const char *server_peer(const struct rt_call *base)
{
	const struct server_call *call = RT_CONTAINER_OF(base, const struct server_call, base);
	char *peer = grpc_call_get_peer(call->grpc);
	char *copy =
		rpc_arena_copy((struct rpc_arena *)(uintptr_t)&base->arena, peer, strlen(peer));

	gpr_free(peer);
	return copy;
}

static const struct rpc_call_ops server_call_ops = {
	.send = server_send,
	.end = server_end,
	.read = server_read,
	.watch = server_watch,
	.remaining_ms = server_remaining_ms,
	.metadata = server_metadata,
	.peer = server_peer,
	.settle = call_settle,
};

/* ---- calls come ---- */

static void handle_arrived(struct server_call *call)
{
	struct rt_server *server = call->server;
	struct server_method *method = call->method;
	grpc_byte_buffer *buffer = RT_TAKE(call->received);
	struct rt_status status = { 0 };
	struct rpc_bytes bytes = { 0 };

	rpc_call_begin(&call->base, method->service, &method->base);
	if ((int64_t)server->active_count > server->calls_max && !method->always) {
		rpc_call_refuse(&call->base, &server->busy);
	} else if (server->draining && !method->always) {
		rpc_call_refuse(&call->base, &server->leaving);
	} else if (method->base.client_streams) {
		server_watch(&call->base);
		rpc_call_handle(&call->base, NULL, 0);
	} else if (buffer == NULL) {
		rt_status_set(&status, RT_CODE_INVALID_ARGUMENT, "the request message is missing");
		rpc_call_refuse(&call->base, &status);
	} else {
		if (method->base.server_streams)
			server_watch(&call->base);
		if (rpc_bytes_read(&bytes, buffer)) {
			rpc_call_handle(&call->base, bytes.data, bytes.length);
		} else {
			set_compressed(call, &status);
			rpc_call_refuse(&call->base, &status);
		}
		rpc_bytes_done(&bytes);
		buffer = NULL;
	}
	if (buffer != NULL)
		grpc_byte_buffer_destroy(buffer);
	rt_status_done(&status);
}

static void call_arrived(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, arrive_tag);
	struct rt_server *server = call->server;
	struct server_method *method = call->method;

	server->armed_count--;
	if (!ok) { /* the server shuts down */
		call_release(call);
		check_drained(server);
		return;
	}
	if (!server->closing)
		arm(server, method);
	rt_list_push(&server->active, &call->link);
	server->active_count++;
	handle_arrived(call);
}

static void unknown_arrived(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, arrive_tag);
	struct rt_server *server = call->server;

	server->armed_count--;
	if (!ok) {
		call_release(call);
		check_drained(server);
		return;
	}
	if (!server->closing)
		arm(server, NULL);
	rt_list_push(&server->active, &call->link);
	server->active_count++;
	call->end_due = true;
	call->base.ended = true;
	rt_status_set(&call->status, RT_CODE_UNIMPLEMENTED, "unknown method %.*s",
		      (int)RT_MIN(GRPC_SLICE_LENGTH(call->details.method), (size_t)200),
		      (const char *)GRPC_SLICE_START_PTR(call->details.method));
	grpc_call_details_destroy(&call->details);
	send_next(call);
}

/* Makes one more call of the method (NULL: of unknown ones) welcome. */
static void arm(struct rt_server *server, struct server_method *method)
{
	struct server_call *call = call_new(server);
	grpc_completion_queue *cq = rpc_queue_grpc(server->queue);
	grpc_call_error error;

	call->method = method;
	server->armed_count++;
	if (method != NULL) {
		error = grpc_server_request_registered_call(
			server->grpc, method->registered, &call->grpc, &call->deadline,
			&call->metadata, method->base.client_streams ? NULL : &call->received, cq,
			cq, rpc_queue_tag(&call->arrive_tag, call_arrived));
	} else {
		grpc_call_details_init(&call->details);
		error = grpc_server_request_call(server->grpc, &call->grpc, &call->details,
						 &call->metadata, cq, cq,
						 rpc_queue_tag(&call->arrive_tag, unknown_arrived));
	}
	if (error != GRPC_CALL_OK) {
		RT_LOG(RT_ERROR, "gRPC takes no more calls",
		       RT_S("reason", grpc_call_error_to_string(error)));
		server->armed_count--;
		call_release(call);
	}
}

/* ---- the server ---- */

int rt_server_new(struct rt_loop *loop, const struct rt_server_options *options,
		  struct rt_server **ret)
{
	struct rt_server *server = rt_alloc(sizeof(*server));

	server->loop = loop;
	server->listen = rt_strdup(options->listen);
	server->message_max_bytes = options->message_max_bytes > 0 ? options->message_max_bytes
								   : RPC_MESSAGE_STANDARD_BYTES;
	server->calls_max = options->calls_max > 0 ? options->calls_max : CALLS_STANDARD;
	server->connections_max =
		options->connections_max > 0 ? options->connections_max : CONNECTIONS_STANDARD;
	server->farewell_ms = options->farewell_ms;
	server->reuse_port = options->reuse_port;
	server->metrics = options->metrics;
	server->methods_end = &server->methods;
	rt_list_init(&server->active);
	rt_list_init(&server->pool);
	rt_status_set(&server->busy, RT_CODE_RESOURCE_EXHAUSTED,
		      "%lld calls are under way, which is all this server takes",
		      (long long)server->calls_max);
	rt_status_retry(&server->busy, BUSY_RETRY_MS);
	rt_status_set(&server->leaving, RT_CODE_UNAVAILABLE, "the server is going down");
	rt_status_retry(&server->leaving, LEAVING_RETRY_MS);
	server->queue = rpc_queue_ref(loop);
	server->health = rpc_health_new(server, options->readiness);
	server->reflection = rpc_reflection_new(server);
	*ret = server;
	return RT_OK;
}

void rpc_server_add(struct rt_server *server, const struct rpc_server_service *service)
{
	const ProtobufCServiceDescriptor *descriptor = service->service->descriptor;

	for (unsigned i = 0; i < descriptor->n_methods; i++) {
		struct server_method *method = rt_alloc(sizeof(*method));

		method->service = service->service;
		method->armed = service->armed;
		method->always = service->always;
		rpc_method_init(&method->base, descriptor, service->name, i, server->metrics,
				"server");
		if (method->base.client_streams || method->base.server_streams)
			method->always = false;
		*server->methods_end = method;
		server->methods_end = &method->next;
	}
	server->service_names =
		rt_realloc(server->service_names,
			   (server->service_count + 1) * sizeof(*server->service_names));
	server->service_names[server->service_count++] =
		service->name != NULL ? service->name : descriptor->name;
}

void rt_server_add(struct rt_server *server, ProtobufCService *service)
{
	struct rpc_server_service added = { .service = service, .armed = ARMED_STANDARD };

	rpc_server_add(server, &added);
}

const char *rpc_server_service_name(const struct rt_server *server, size_t index)
{
	return index < server->service_count ? server->service_names[index] : NULL;
}

static grpc_server *create_grpc_server(const struct rt_server *server)
{
#define INT_ARG(name, number)                                                                      \
	{ .type = GRPC_ARG_INTEGER,                                                                \
	  .key = (char *)(uintptr_t)(name),                                                        \
	  .value.integer = (int)RT_MIN((int64_t)(number), INT32_MAX) }
	grpc_arg args[] = {
		INT_ARG(GRPC_ARG_ALLOW_REUSEPORT, server->reuse_port),
		INT_ARG(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, server->message_max_bytes),
		INT_ARG(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX_BYTES),
		/* Nothing is compressed, and nothing unpacked (decision 021): gRPC would look at
		 * the size of a message after it has unpacked it. */
		INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
		INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
		INT_ARG(GRPC_ARG_MAX_CONCURRENT_STREAMS, server->calls_max),
		/* Clients may ping every 5 s, with and without calls. */
		INT_ARG(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
		INT_ARG(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000),
		/* A client that vanished without a word is found out. */
		INT_ARG(GRPC_ARG_KEEPALIVE_TIME_MS, 60000),
		INT_ARG(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000),
		INT_ARG(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10000),
		INT_ARG(GRPC_ARG_ENABLE_CHANNELZ, 0),
	};
#undef INT_ARG
	grpc_channel_args list = { .num_args = RT_LENGTH(args), .args = args };

	return grpc_server_create(&list, NULL);
}

static void register_methods(struct rt_server *server)
{
	for (struct server_method *method = server->methods; method != NULL;
	     method = method->next) {
		method->registered = grpc_server_register_method(
			server->grpc, method->base.path, NULL,
			method->base.client_streams ? GRPC_SRM_PAYLOAD_NONE
						    : GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER,
			0);
	}
}

int rt_server_start(struct rt_server *server)
{
	grpc_server_credentials *credentials;

	/* gRPC would take the path away from who listens there. */
	if (strncmp(server->listen, "unix:", 5) == 0 && rt_listen_unix_taken(server->listen + 5))
		return RT_SYSTEM;
	credentials = grpc_insecure_server_credentials_create();
	/* This also makes the linker take the guard along. */
	rt_accept_guard_limit(server->connections_max);
	server->grpc = create_grpc_server(server);
	grpc_server_register_completion_queue(server->grpc, rpc_queue_grpc(server->queue), NULL);
	register_methods(server);
	server->port = grpc_server_add_http2_port(server->grpc, server->listen, credentials);
	grpc_server_credentials_release(credentials);
	if (server->port == 0) {
		grpc_server_destroy(RT_TAKE(server->grpc));
		return RT_SYSTEM;
	}
	grpc_server_start(server->grpc);
	for (struct server_method *method = server->methods; method != NULL;
	     method = method->next) {
		for (int i = 0; i < method->armed; i++)
			arm(server, method);
	}
	for (int i = 0; i < ARMED_UNKNOWN; i++)
		arm(server, NULL);
	return RT_OK;
}

int rt_server_port(const struct rt_server *server)
{
	return server->port;
}

size_t rt_server_calls(const struct rt_server *server)
{
	return server->active_count;
}

/* ---- the end ---- */

static void run_drained(struct rt_task *task)
{
	struct rt_server *server = RT_CONTAINER_OF(task, struct rt_server, drained_task);

	server->drained(server->drained_user);
}

static void check_drained(struct rt_server *server)
{
	if (!server->shut_down || server->active_count > 0 || server->armed_count > 0 ||
	    server->drained_task.run != NULL)
		return;
	rt_timer_stop(server->loop, &server->farewell_timer);
	rt_timer_stop(server->loop, &server->linger_timer);
	rt_timer_stop(server->loop, &server->grace_timer);
	server->drained_task.run = run_drained;
	rt_loop_defer(server->loop, &server->drained_task);
}

static void on_shut_down(struct rpc_tag *tag, bool ok)
{
	struct rt_server *server = RT_CONTAINER_OF(tag, struct rt_server, shutdown_tag);

	(void)ok;
	server->shut_down = true;
	check_drained(server);
}

/* No new calls. gRPC cancels what reaches it from now on without a word: that is why those who call
 * without a pause were given the farewell to notice. */
static void close_server(struct rt_server *server)
{
	if (server->closing)
		return;
	server->closing = true;
	rpc_queue_tag(&server->shutdown_tag, on_shut_down);
	grpc_server_shutdown_and_notify(server->grpc, rpc_queue_grpc(server->queue),
					&server->shutdown_tag);
	rpc_queue_expect(server->queue, &server->shutdown_tag);
}

static void on_linger_over(struct rt_timer *timer)
{
	struct rt_server *server = RT_CONTAINER_OF(timer, struct rt_server, linger_timer);

	close_server(server);
	grpc_server_cancel_all_calls(server->grpc);
}

/* Once nothing runs, connections are closed and not waited for: a client that sleeps reads a goodbye
 * only when it wakes. The last answers are given the time to leave. */
static void linger_if_idle(struct rt_server *server)
{
	if (server->active_count == 0)
		rt_timer_start(server->loop, &server->linger_timer, LINGER_MS, on_linger_over);
}

/* With calls that run, connections are told to go, each when its calls are done. Without, there is no
 * such time between, in which gRPC would cancel what still comes. */
static void on_farewell_over(struct rt_timer *timer)
{
	struct rt_server *server = RT_CONTAINER_OF(timer, struct rt_server, farewell_timer);

	if (server->active_count > 0)
		close_server(server);
	else
		linger_if_idle(server);
}

/* Calls that still run hear that they are cancelled, and their clients that it is our doing. */
static void on_grace_over(struct rt_timer *timer)
{
	struct rt_server *server = RT_CONTAINER_OF(timer, struct rt_server, grace_timer);
	struct rt_list late;

	close_server(server);
	rt_list_init(&late);
	rt_list_move(&late, &server->active);
	while (!rt_list_empty(&late)) {
		struct rt_list *link = rt_list_pop(&late);
		struct server_call *call = RT_CONTAINER_OF(link, struct server_call, link);

		rt_list_push(&server->active, link);
		if (!call->base.ended) {
			rt_status_set(&call->base.forced, RT_CODE_UNAVAILABLE,
				      "the server is going down");
			rpc_call_cancelled(&call->base);
		}
	}
	grpc_server_cancel_all_calls(server->grpc);
}

void rt_server_drain(struct rt_server *server, int64_t grace_ms, void (*drained)(void *user),
		     void *user)
{
	assert(!server->draining);
	server->draining = true;
	server->drained = drained;
	server->drained_user = user;
	rpc_health_close(server->health);
	rpc_reflection_close(server->reflection);
	if (server->grpc == NULL) {
		server->shut_down = true;
		check_drained(server);
		return;
	}
	rt_timer_start(server->loop, &server->grace_timer, grace_ms, on_grace_over);
	rt_timer_start(server->loop, &server->farewell_timer, server->farewell_ms,
		       on_farewell_over);
}

void rt_server_free(struct rt_server *server)
{
	struct rt_list *link;

	if (server == NULL)
		return;
	if (server->grpc != NULL)
		grpc_server_destroy(server->grpc);
	while ((link = rt_list_pop(&server->pool)) != NULL)
		call_free(RT_CONTAINER_OF(link, struct server_call, link));
	rpc_health_free(server->health);
	rpc_reflection_free(server->reflection);
	while (server->methods != NULL) {
		struct server_method *method = server->methods;

		server->methods = method->next;
		rpc_method_done(&method->base);
		free(method);
	}
	rpc_queue_unref(server->queue);
	rt_status_done(&server->busy);
	rt_status_done(&server->leaving);
	free(server->service_names);
	free(server->listen);
	free(server);
}
