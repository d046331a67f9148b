/* connect.c - calls to the gateway; the loop runs while an answer is awaited. */
#include <signal.h>
#include <string.h>

#include "commands.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "tandem/archive/v1/archive_service.pb-c.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define HEALTHY_EVERY_MS 5
#define HEALTHY_MAX_MS   2000
#define PAGE_MAX         1000 /* items that a page is asked for at most */

struct rt_loop *ctl_loop(struct ctl *ctl)
{
	if (ctl->loop == NULL && rt_loop_new(&ctl->loop) != RT_OK) {
		ctl_error("the event loop cannot be created");
		exit(CTL_UNAVAILABLE);
	}
	return ctl->loop;
}

int64_t ctl_now_ms(struct ctl *ctl)
{
	return rt_loop_unix_ms(ctl_loop(ctl));
}

/* ---- the gateway ---- */

char *ctl_target(const char *listen)
{
	if (strncmp(listen, "0.0.0.0:", 8) == 0)
		return rt_printf("127.0.0.1:%s", listen + 8);
	if (strncmp(listen, "[::]:", 5) == 0)
		return rt_printf("[::1]:%s", listen + 5);
	return rt_strdup(listen);
}

void ctl_rpc_init(void)
{
	rt_rpc_init();
	/* rt_rpc_init ignores SIGPIPE, but sockets do not raise it here: gRPC and hiredis write with
	 * MSG_NOSIGNAL. With the default, `tandemctl … | head -1` ends quietly. */
	signal(SIGPIPE, SIG_DFL);
}

static void read_token(struct ctl *ctl)
{
	struct rt_buf text = { 0 };
	char error[400];

	if (rt_file_read(ctl->token_file, RT_FILE_SECRET, 16384, &text, error, sizeof(error)) !=
	    RT_OK) {
		ctl_error("the token file cannot be used: %s", error);
		exit(CTL_USAGE);
	}
	ctl->token = rt_strndup(text.data, strcspn(text.data, "\r\n"));
	rt_file_erase(&text);
}

/* The targets are one or several addresses, with commas between. */
static bool all_local(const char *target)
{
	while (*target != '\0') {
		size_t length = strcspn(target, ",");
		char *one = rt_strndup(target, length);
		bool local = rt_listen_local(one);

		free(one);
		if (!local)
			return false;
		target += length + (target[length] == ',');
	}
	return true;
}

void ctl_secure(struct ctl *ctl, struct rt_loop *loop, const char *target,
		struct rt_channel_options *options, struct rt_tls **ret_tls)
{
	const struct rt_tls_options tls = {
		.certificate = ctl->tls_cert != NULL ? ctl->tls_cert : "",
		.key = ctl->tls_key != NULL ? ctl->tls_key : "",
		.authorities = ctl->tls_ca != NULL ? ctl->tls_ca : "",
		.purpose = "gateway",
		.quiet = true,
	};

	*ret_tls = NULL;
	if (tls.authorities[0] != '\0') {
		if (rt_tls_new(loop, &tls, ret_tls) != RT_OK)
			exit(CTL_USAGE); /* the log has said why */
	} else if (tls.certificate[0] != '\0' || tls.key[0] != '\0') {
		ctl_error("--tls-cert and --tls-key need --tls-ca");
		exit(CTL_USAGE);
	}
	options->tls = *ret_tls;
	if (ctl->token_file == NULL || ctl->token_file[0] == '\0')
		return;
	if (*ret_tls == NULL && !all_local(target)) {
		ctl_error("the token would be sent unencrypted to %s%s", target,
			  ctl_hint(ctl, ": set --tls-ca"));
		exit(CTL_USAGE);
	}
	if (ctl->token == NULL)
		read_token(ctl);
	options->token = ctl->token;
}

struct healthy {
	struct rt_timer timer;
	struct rt_loop *loop;
	struct rt_channel *channel;
	int64_t deadline_ms;
};

static void look_for_healthy(struct rt_timer *timer)
{
	struct healthy *healthy = RT_CONTAINER_OF(timer, struct healthy, timer);

	if (rt_channel_usable(healthy->channel, 0) ||
	    rt_loop_now(healthy->loop) >= healthy->deadline_ms)
		rt_loop_stop(healthy->loop);
	else
		rt_timer_start(healthy->loop, timer, HEALTHY_EVERY_MS, look_for_healthy);
}

void ctl_use_healthy(struct rt_loop *loop, struct rt_channel *channel, const char *target)
{
	struct healthy healthy = { .loop = loop, .channel = channel };

	if (strchr(target, ',') == NULL)
		return;
	rt_channel_check_health(channel, tandem__order__v1__order_service__descriptor.name, NULL,
				NULL);
	healthy.deadline_ms = rt_loop_now(loop) + HEALTHY_MAX_MS;
	rt_timer_start(loop, &healthy.timer, 0, look_for_healthy);
	rt_loop_run(loop);
}

static struct rt_channel *channel_of(struct ctl *ctl)
{
	if (ctl->channel == NULL) {
		struct rt_channel_options options = { .message_max_bytes = 64 << 20 };
		char *target = ctl_target(ctl->gateway);

		ctl_rpc_init();
		ctl_secure(ctl, ctl_loop(ctl), target, &options, &ctl->grpc_tls);
		if (rt_channel_new(ctl_loop(ctl), target, &options, &ctl->channel) != RT_OK) {
			ctl_error("not an address: %s", ctl->gateway);
			exit(CTL_USAGE);
		}
		ctl_use_healthy(ctl_loop(ctl), ctl->channel, target);
		free(target);
	}
	return ctl->channel;
}

ProtobufCService *ctl_order_service(struct ctl *ctl)
{
	if (ctl->order == NULL)
		ctl->order = rt_client_new(channel_of(ctl),
					   &tandem__order__v1__order_service__descriptor);
	return ctl->order;
}

ProtobufCService *ctl_inventory_service(struct ctl *ctl)
{
	if (ctl->inventory == NULL)
		ctl->inventory = rt_client_new(
			channel_of(ctl), &tandem__inventory__v1__inventory_service__descriptor);
	return ctl->inventory;
}

ProtobufCService *ctl_archive_service(struct ctl *ctl)
{
	if (ctl->archive == NULL)
		ctl->archive = rt_client_new(channel_of(ctl),
					     &tandem__archive__v1__archive_service__descriptor);
	return ctl->archive;
}

int ctl_exit_of(int code)
{
	switch (code) {
	case 0:
		return CTL_OK;
	case RT_CODE_NOT_FOUND:
	case RT_CODE_ALREADY_EXISTS:
	case RT_CODE_FAILED_PRECONDITION:
	case RT_CODE_ABORTED:
	case RT_CODE_OUT_OF_RANGE:
		return CTL_NEGATIVE;
	case RT_CODE_INVALID_ARGUMENT:
		return CTL_USAGE;
	default:
		return CTL_UNAVAILABLE;
	}
}

/* Prints the error and its details. */
static void print_status(const struct rt_status *status)
{
	Google__Rpc__Status *proto = rt_status_to_proto(status);

	ctl_error("%s: %s", rt_code_name(status->code),
		  status->message == NULL ? "" : status->message);
	for (size_t i = 0; i < proto->n_details; i++) {
		const Google__Protobuf__Any *any = proto->details[i];
		const char *slash = strrchr(any->type_url, '/'), *why;
		const char *type = slash == NULL ? any->type_url : slash + 1;
		json_t *detail = ctl_bytes_json(type, any->value.data, any->value.len, false, &why);
		struct rt_buf line = { 0 };

		/* ErrorInfo is for machines: it says the same as the message. */
		if (detail != NULL && strcmp(type, "google.rpc.ErrorInfo") != 0) {
			ctl_json_line(detail, &line);
			ctl_error("  %s: %.*s", ctl_short_type(type), (int)line.length,
				  line.data == NULL ? "" : line.data);
		}
		rt_buf_done(&line);
		json_decref(detail);
	}
	google__rpc__status__free_unpacked(proto, NULL);
}

struct call {
	struct rt_client_op op;
	struct ctl *ctl;
	ProtobufCMessage *response;
	bool (*on_message)(const ProtobufCMessage *message, void *user);
	void *user;
	bool enough; /* on_message has returned false */
	int code;
};

/* A copy of the answer, which is freed after the callback. */
static ProtobufCMessage *copy_message(const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = rt_alloc(length + 1);
	ProtobufCMessage *made;

	protobuf_c_message_pack(message, bytes);
	made = protobuf_c_message_unpack(message->descriptor, NULL, length, bytes);
	free(bytes);
	return made;
}

static void call_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	if (call->enough)
		call->code = CTL_OK;
	else if (op->status.code != 0)
		print_status(&op->status);
	if (!call->enough)
		call->code = ctl_exit_of(op->status.code);
	if (response != NULL)
		call->response = copy_message(response);
	rt_loop_stop(call->ctl->loop);
}

static void call_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	if (call->enough || call->on_message(message, call->user))
		return;
	call->enough = true;
	rt_client_cancel(op);
}

static unsigned method_index(const ProtobufCServiceDescriptor *descriptor, const char *name)
{
	return (unsigned)(protobuf_c_service_descriptor_get_method_by_name(descriptor, name) -
			  descriptor->methods);
}

int ctl_call(struct ctl *ctl, ProtobufCService *client, const char *method,
	     const ProtobufCMessage *request, ProtobufCMessage **ret)
{
	struct call call = {
		.op = { .timeout_ms = ctl->timeout_ms, .done = call_done },
		.ctl = ctl,
	};

	rt_client_start(client, method_index(client->descriptor, method), request, &call.op);
	rt_loop_run(ctl->loop);
	if (call.code != CTL_OK)
		return call.code;
	if (call.response == NULL) {
		ctl_error("%s answered nothing", method);
		return CTL_UNAVAILABLE;
	}
	*ret = call.response;
	return CTL_OK;
}

static void *field_of(const ProtobufCMessage *message, const char *name)
{
	return (char *)(uintptr_t)message +
	       protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name)->offset;
}

int ctl_call_list(struct ctl *ctl, struct ctl_list *list)
{
	int32_t *page_size = field_of(list->request, "page_size");
	char **page_token = field_of(list->request, "page_token");
	int code = CTL_OK;

	list->next = rt_strdup(*page_token);
	do {
		/* The answers of all lists have the same layout: items, next_page_token. */
		const Tandem__Order__V1__ListOrdersResponse *page;
		ProtobufCMessage *response = NULL;

		*page_size = (int32_t)RT_MIN(list->items_max - list->count, PAGE_MAX);
		*page_token = list->next;
		code = ctl_call(ctl, list->client, list->method, list->request, &response);
		if (code != CTL_OK)
			break;
		page = (const void *)response;
		list->count += (int64_t)page->n_orders;
		for (size_t i = 0; i < page->n_orders && code == CTL_OK; i++)
			code = list->on_item(&page->orders[i]->base, list->user);
		free(list->next);
		list->next = rt_strdup(page->next_page_token);
		protobuf_c_message_free_unpacked(response, NULL);
	} while (code == CTL_OK && list->next[0] != '\0' && list->count < list->items_max);
	return code;
}

int ctl_call_stream(struct ctl *ctl, ProtobufCService *client, const char *method,
		    const ProtobufCMessage *request,
		    bool (*on_message)(const ProtobufCMessage *message, void *user), void *user)
{
	struct call call = {
		.op = { .on_message = call_message, .done = call_done },
		.ctl = ctl,
		.on_message = on_message,
		.user = user,
	};

	rt_client_start(client, method_index(client->descriptor, method), request, &call.op);
	rt_loop_run(ctl->loop);
	return call.code;
}

/* ---- the end ---- */

static void channel_ended(void *user)
{
	struct ctl *ctl = user;

	rt_loop_stop(ctl->loop);
}

static void nodes_done(struct ctl *ctl)
{
	for (size_t i = 0; i < ctl->node_count; i++) {
		rt_redis_free(ctl->nodes[i]->redis);
		free(ctl->nodes[i]->host);
		free(ctl->nodes[i]);
	}
	free(ctl->nodes);
	free(ctl->of_slot);
}

void ctl_connections_done(struct ctl *ctl)
{
	if (ctl->channel != NULL) {
		if (ctl->order != NULL)
			rt_client_free(ctl->order);
		if (ctl->inventory != NULL)
			rt_client_free(ctl->inventory);
		if (ctl->archive != NULL)
			rt_client_free(ctl->archive);
		rt_channel_free(ctl->channel, channel_ended, ctl);
		rt_loop_run(ctl->loop);
		rt_tls_free(ctl->grpc_tls);
		rt_rpc_shutdown();
	}
	nodes_done(ctl);
	rt_redis_tls_free(ctl->tls);
	if (ctl->token != NULL)
		explicit_bzero(ctl->token, strlen(ctl->token));
	free(ctl->token);
	free(ctl->password_file);
	free(ctl->ops_password_missing);
	free(ctl->who);
	free(ctl->from);
	for (size_t i = 0; i < ctl->other_count; i++)
		free(ctl->others[i]);
	free(ctl->others);
	rt_loop_free(ctl->loop);
}
