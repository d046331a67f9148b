/* client.c - channels, and client calls over gRPC core.
 *
 * A call with a unary answer to a unary request is one batch: metadata, message and half-close go
 * out, metadata, message and status come back, one completion. Calls that stream have one batch
 * for each thing under way:
 *
 *   begin   initial metadata (and the request, if it does not stream)
 *   send    a message or the half-close; further ones wait in a queue
 *   read    one message after the other, until there is none
 *   status  the end; the call is done when it has come and nothing else is under way
 *
 * A channel connects by itself. While its target is away calls fail at once with UNAVAILABLE. */
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <string.h>

#include "call_internal.h"
#include "queue_internal.h"

#define METADATA_MAX_BYTES   (16 * 1024)
#define METADATA_SENT_MAX    16
#define RECONNECT_MIN_MS     100
#define RECONNECT_MAX_MS     2000
#define KEEPALIVE_MS         10000
#define KEEPALIVE_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_MS   5000
#define POOL_MAX             256
#define STATUS_DETAILS_KEY   "grpc-status-details-bin"

struct rt_channel {
	struct rt_loop *loop;
	struct rpc_queue *queue;
	grpc_channel **connections;
	bool *avoided; /* of each */
	int count;
	unsigned turn;
	struct rt_metrics *metrics;
	struct rt_list calls, pool;
	size_t pool_count;
	bool closing;
	struct rt_task freed_task;
	void (*freed)(void *user);
	void *freed_user;
};

struct remote_client {
	struct rpc_client base;
	struct rt_channel *channel;
	void **registered; /* [connection * methods + method]: gRPC's */
	size_t calls;
	bool freed;
};

struct outgoing {
	struct outgoing *next;
	grpc_byte_buffer *buffer; /* NULL: the half-close */
	size_t length;
};

struct client_call {
	struct rpc_client_call base;
	struct rt_list link;
	struct rt_channel *channel;
	struct remote_client *client;
	struct rpc_method *method;
	struct rt_client_op *op;
	grpc_call *grpc;
	struct rpc_arena arena;
	int64_t started_ns;
	gpr_timespec deadline;
	bool cancelled; /* by us */

	grpc_metadata_array initial, trailing;
	grpc_status_code code;
	grpc_slice message;
	grpc_byte_buffer *received;
	struct rt_status status; /* of our own making, when the answer does not parse */

	struct outgoing *outgoing, **outgoing_end;
	grpc_byte_buffer *sending;
	size_t sending_bytes, queued_bytes;
	struct rpc_tag send_tag, read_tag, status_tag;
	bool send_started, read_started, initial_asked, status_done, half_closed;
};

static const struct rpc_client_ops remote_ops;

/* ---- memory of calls ---- */

static struct client_call *call_new(struct rt_channel *channel)
{
	struct rt_list *pooled = rt_list_pop(&channel->pool);
	struct client_call *call;

	if (pooled != NULL) {
		channel->pool_count--;
		return RT_CONTAINER_OF(pooled, struct client_call, link);
	}
	call = rt_alloc(sizeof(*call));
	rt_list_init(&call->link);
	rpc_arena_init(&call->arena);
	call->base.ops = &remote_ops;
	call->channel = channel;
	call->outgoing_end = &call->outgoing;
	grpc_metadata_array_init(&call->initial);
	grpc_metadata_array_init(&call->trailing);
	return call;
}

static void call_free(struct client_call *call)
{
	grpc_metadata_array_destroy(&call->initial);
	grpc_metadata_array_destroy(&call->trailing);
	free(call);
}

static void drop_outgoing(struct client_call *call)
{
	while (call->outgoing != NULL) {
		struct outgoing *outgoing = call->outgoing;

		call->outgoing = outgoing->next;
		if (outgoing->buffer != NULL)
			grpc_byte_buffer_destroy(outgoing->buffer);
		free(outgoing);
	}
	call->outgoing_end = &call->outgoing;
	call->queued_bytes = 0;
}

static void call_release(struct client_call *call)
{
	struct rt_channel *channel = call->channel;

	drop_outgoing(call);
	if (call->received != NULL)
		grpc_byte_buffer_destroy(RT_TAKE(call->received));
	grpc_slice_unref(call->message);
	grpc_call_unref(RT_TAKE(call->grpc));
	rt_status_done(&call->status);
	rpc_arena_reset(&call->arena);
	call->sending_bytes = 0;
	call->initial.count = call->trailing.count = 0;
	call->send_started = call->read_started = call->initial_asked = false;
	call->status_done = call->half_closed = call->cancelled = false;
	call->op = NULL;
	rt_list_remove(&call->link);
	if (channel->pool_count == POOL_MAX) {
		call_free(call);
		return;
	}
	rt_list_push(&channel->pool, &call->link);
	channel->pool_count++;
}

/* ---- the end ---- */

static void client_free_if_idle(struct remote_client *client)
{
	if (!client->freed || client->calls > 0)
		return;
	free(client->registered);
	rpc_client_done(&client->base);
	free(client);
}

static void channel_free_if_idle(struct rt_channel *channel)
{
	if (channel->closing && rt_list_empty(&channel->calls))
		rt_loop_defer(channel->loop, &channel->freed_task);
}

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
	call_release(call);
	client_free_if_idle(client);
	channel_free_if_idle(channel);
}

static void finish_if_idle(struct client_call *call)
{
	if (call->status_done && !call->send_started && !call->read_started)
		call_finish(call);
}

static void status_came(struct rpc_tag *tag, bool ok)
{
	struct client_call *call = RT_CONTAINER_OF(tag, struct client_call, status_tag);

	(void)ok; /* of such a batch always true; the status tells */
	if (!call->send_started && call->sending != NULL) /* a unary request */
		grpc_byte_buffer_destroy(RT_TAKE(call->sending));
	call->status_done = true;
	finish_if_idle(call);
}

/* ---- calls that stream ---- */

static void send_next(struct client_call *call);
static void read_next(struct client_call *call);

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
		drop_outgoing(call); /* the status tells why */
	send_next(call);
	if (ok && !call->status_done)
		rpc_client_sent(call->op, before_bytes, call->queued_bytes);
	finish_if_idle(call);
}

static void send_next(struct client_call *call)
{
	struct outgoing *outgoing = call->outgoing;
	grpc_op op;

	if (call->send_started || outgoing == NULL)
		return;
	if (call->status_done) {
		drop_outgoing(call);
		return;
	}
	memset(&op, 0, sizeof(op));
	if (outgoing->buffer != NULL) {
		op.op = GRPC_OP_SEND_MESSAGE;
		op.data.send_message.send_message = outgoing->buffer;
	} else {
		op.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	}
	call->sending = outgoing->buffer;
	call->sending_bytes = outgoing->length;
	call->outgoing = outgoing->next;
	if (call->outgoing == NULL)
		call->outgoing_end = &call->outgoing;
	free(outgoing);
	call->send_started = true;
	rpc_queue_start(call->channel->queue, call->grpc, &op, 1, &call->send_tag, message_sent);
}

static void queue_outgoing(struct client_call *call, grpc_byte_buffer *buffer, size_t length)
{
	struct outgoing *outgoing = rt_alloc(sizeof(*outgoing));

	outgoing->buffer = buffer;
	outgoing->length = length;
	call->queued_bytes += length;
	*call->outgoing_end = outgoing;
	call->outgoing_end = &outgoing->next;
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
	rpc_arena_reset(&call->arena);
	read_next(call);
}

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

/* ---- start ---- */

static void fill_text(grpc_metadata *entry, const char *key, const char *value)
{
	entry->key = grpc_slice_from_copied_string(key);
	entry->value = grpc_slice_from_copied_string(value);
}

static size_t fill_metadata(const struct rt_client_op *op, grpc_metadata *array)
{
	size_t count = 0;

	if (op->traceparent != NULL && op->traceparent[0] != '\0')
		fill_text(&array[count++], "traceparent", op->traceparent);
	for (const char *const *pair = op->metadata;
	     pair != NULL && pair[0] != NULL && count < METADATA_SENT_MAX; pair += 2)
		fill_text(&array[count++], pair[0], pair[1]);
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

/* The whole of a unary call. */
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
	struct rt_client_op *op = call->op;
	grpc_metadata metadata[METADATA_SENT_MAX + 1];
	size_t metadata_count = fill_metadata(op, metadata), count = 0;
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
	for (size_t i = 0; i < metadata_count; i++) {
		grpc_slice_unref(metadata[i].key);
		grpc_slice_unref(metadata[i].value);
	}
}

/* The one whose turn it is; not one that is avoided, unless all are. */
static unsigned next_connection(struct rt_channel *channel)
{
	unsigned count = (unsigned)channel->count, first = channel->turn++ % count;

	for (unsigned i = 0; i < count; i++) {
		unsigned connection = (first + i) % count;

		if (!channel->avoided[connection])
			return connection;
	}
	return first;
}

static void remote_start(struct rpc_client *base, struct rpc_method *method,
			 const ProtobufCMessage *request, struct rt_client_op *op)
{
	struct remote_client *client = RT_CONTAINER_OF(base, struct remote_client, base);
	struct rt_channel *channel = client->channel;
	struct client_call *call = call_new(channel);
	unsigned connection = op->connection > 0
				      ? (unsigned)(op->connection - 1) % (unsigned)channel->count
				      : next_connection(channel);
	unsigned methods = base->service.descriptor->n_methods;
	gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);

	if (op->timeout_ms > 0)
		deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
					gpr_time_from_millis(op->timeout_ms, GPR_TIMESPAN));
	op->call = call;
	call->deadline = deadline;
	call->client = client;
	call->method = method;
	call->op = op;
	call->message = grpc_empty_slice();
	client->calls++;
	rt_list_push(&channel->calls, &call->link);
	rpc_method_count(method->started);
	if (method->handled != NULL)
		call->started_ns = rt_monotonic_ns();
	call->grpc = grpc_channel_create_registered_call(
		channel->connections[connection], NULL, GRPC_PROPAGATE_DEFAULTS,
		rpc_queue_grpc(channel->queue),
		client->registered[connection * methods + method->index], deadline, NULL);
	start_call(call, method->client_streams ? NULL : request);
	if (channel->closing)
		grpc_call_cancel(call->grpc, NULL);
}

/* ---- the rest of the operations ---- */

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
	queue_outgoing(call, buffer, length);
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
	queue_outgoing(call, NULL, 0);
}

static const char *find_in(struct client_call *call, const grpc_metadata_array *array,
			   const char *key, size_t *ret_length)
{
	for (size_t i = 0; i < array->count; i++) {
		const grpc_metadata *entry = &array->metadata[i];
		size_t length = GRPC_SLICE_LENGTH(entry->value);

		if (grpc_slice_str_cmp(entry->key, key) != 0)
			continue;
		if (ret_length != NULL)
			*ret_length = length;
		return rpc_arena_copy(&call->arena, GRPC_SLICE_START_PTR(entry->value), length);
	}
	return NULL;
}

static const char *remote_metadata(const struct rt_client_op *op, const char *key,
				   size_t *ret_length)
{
	struct client_call *call = op->call;
	const char *value = find_in(call, &call->trailing, key, ret_length);

	return value != NULL ? value : find_in(call, &call->initial, key, ret_length);
}

static void remote_free(struct rpc_client *base)
{
	struct remote_client *client = RT_CONTAINER_OF(base, struct remote_client, base);

	client->freed = true;
	client_free_if_idle(client);
}

static const struct rpc_client_ops remote_ops = {
	.start = remote_start,
	.cancel = remote_cancel,
	.send = remote_send,
	.queued_bytes = remote_queued_bytes,
	.half_close = remote_half_close,
	.metadata = remote_metadata,
	.free = remote_free,
};

ProtobufCService *rt_client_new(struct rt_channel *channel,
				const ProtobufCServiceDescriptor *descriptor)
{
	struct remote_client *client = rt_alloc(sizeof(*client));
	size_t methods = descriptor->n_methods;

	client->channel = channel;
	rpc_client_init(&client->base, &remote_ops, descriptor, channel->metrics);
	client->registered = rt_alloc((size_t)channel->count * methods * sizeof(void *));
	for (size_t i = 0; i < (size_t)channel->count; i++) {
		for (size_t m = 0; m < methods; m++)
			client->registered[i * methods + m] = grpc_channel_register_call(
				channel->connections[i], client->base.methods[m].path, NULL, NULL);
	}
	return &client->base.service;
}

/* ---- channels ---- */

static grpc_channel *connect_one(const char *target, int64_t message_max_bytes)
{
#define INT_ARG(name, number)                                                                      \
	{ .type = GRPC_ARG_INTEGER,                                                                \
	  .key = (char *)(uintptr_t)(name),                                                        \
	  .value.integer = (int)RT_MIN((int64_t)(number), INT32_MAX) }
	grpc_arg args[] = {
		INT_ARG(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, message_max_bytes),
		INT_ARG(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX_BYTES),
		/* Nothing is compressed, and nothing unpacked (decision 021). */
		INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
		INT_ARG(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
		/* Each channel has a connection of its own. */
		INT_ARG(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
		INT_ARG(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_MIN_MS),
		INT_ARG(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MAX_MS),
		/* Whatever its name: how long one attempt may take. */
		INT_ARG(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_TIMEOUT_MS),
		INT_ARG(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 1000),
		/* A peer that hangs, or vanished without a word, is found out. */
		INT_ARG(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
		INT_ARG(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
		/* Callers know what may be repeated; gRPC does not. */
		INT_ARG(GRPC_ARG_ENABLE_RETRIES, 0),
		INT_ARG(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
		INT_ARG(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
		INT_ARG(GRPC_ARG_ENABLE_CHANNELZ, 0),
	};
#undef INT_ARG
	grpc_channel_args list = { .num_args = RT_LENGTH(args), .args = args };
	grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
	grpc_channel *channel = grpc_channel_create(target, credentials, &list);

	grpc_channel_credentials_release(credentials);
	return channel;
}

static void run_freed(struct rt_task *task)
{
	struct rt_channel *channel = RT_CONTAINER_OF(task, struct rt_channel, freed_task);
	void (*freed)(void *user) = channel->freed;
	void *user = channel->freed_user;
	struct rt_list *link;

	while ((link = rt_list_pop(&channel->pool)) != NULL)
		call_free(RT_CONTAINER_OF(link, struct client_call, link));
	for (int i = 0; i < channel->count; i++)
		grpc_channel_destroy(channel->connections[i]);
	rpc_queue_unref(channel->queue);
	free(channel->connections);
	free(channel->avoided);
	free(channel);
	if (freed != NULL)
		freed(user);
}

/* The addresses of a target, as texts one after the other in a copy. 0: one of them is empty. */
static size_t split_target(const char *target, char **ret_addresses)
{
	char *addresses = rt_strdup(target);
	size_t count = 1;

	for (char *at = addresses; *at != '\0'; at++) {
		if (*at == ',') {
			*at = '\0';
			count++;
		}
	}
	for (const char *at = addresses; at < addresses + strlen(target) + 1;
	     at += strlen(at) + 1) {
		if (*at == '\0')
			count = 0;
	}
	*ret_addresses = addresses;
	return count;
}

static void connect_all(struct rt_channel *channel, const char *addresses, size_t address_count,
			int64_t message_max_bytes)
{
	const char *address = addresses;

	for (int i = 0; i < channel->count; i++) {
		bool last = (size_t)i % address_count == address_count - 1;

		channel->connections[i] = connect_one(address, message_max_bytes);
		address = last ? addresses : address + strlen(address) + 1;
	}
}

int rt_channel_new(struct rt_loop *loop, const char *target,
		   const struct rt_channel_options *options, struct rt_channel **ret)
{
	char *addresses;
	size_t address_count = split_target(target, &addresses);
	struct rt_channel *channel;
	int64_t message_max_bytes = options->message_max_bytes > 0 ? options->message_max_bytes
								   : RPC_MESSAGE_STANDARD_BYTES;

	if (address_count == 0) {
		free(addresses);
		return RT_INVALID;
	}
	channel = rt_alloc(sizeof(*channel));
	channel->loop = loop;
	channel->metrics = options->metrics;
	channel->freed_task.run = run_freed;
	rt_list_init(&channel->calls);
	rt_list_init(&channel->pool);
	channel->queue = rpc_queue_ref(loop);
	channel->count = (int)address_count * RT_MAX(options->connections, 1);
	channel->connections = rt_alloc((size_t)channel->count * sizeof(*channel->connections));
	channel->avoided = rt_alloc((size_t)channel->count * sizeof(*channel->avoided));
	connect_all(channel, addresses, address_count, message_max_bytes);
	free(addresses);
	*ret = channel;
	return RT_OK;
}

int rt_channel_connections(const struct rt_channel *channel)
{
	return channel->count;
}

void rt_channel_avoid(struct rt_channel *channel, int connection, bool avoid)
{
	channel->avoided[connection] = avoid;
}

bool rt_channel_avoided(const struct rt_channel *channel, int connection)
{
	return channel->avoided[connection];
}

void rt_channel_free(struct rt_channel *channel, void (*freed)(void *user), void *user)
{
	if (channel == NULL) {
		if (freed != NULL)
			freed(user);
		return;
	}
	channel->closing = true;
	channel->freed = freed;
	channel->freed_user = user;
	for (struct rt_list *link = channel->calls.next; link != &channel->calls; link = link->next)
		grpc_call_cancel(RT_CONTAINER_OF(link, struct client_call, link)->grpc, NULL);
	channel_free_if_idle(channel);
}
