/* connect.c - asks the gateway and Redis, and waits for the answer: the loop runs until it is
 * there. */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "service/service.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define LOOK_MS          10 /* between two looks at a connection that comes up */
#define REDIS_CONNECT_MS 3000

void ctl_error(const char *format, ...)
{
	va_list args;
	char *text = NULL, *printable;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	printable = rt_text_shown(text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
	fflush(stdout);
	fprintf(stderr, "tandemctl: %s\n", printable);
	free(printable);
	free(text);
}

int ctl_agree(bool yes, const char *format, ...)
{
	char answer[16] = "", *text = NULL;
	va_list args;
	int code = CTL_NEGATIVE;

	if (yes)
		return CTL_OK;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (!isatty(STDIN_FILENO)) {
		ctl_error("%s? Nobody can be asked here, nothing was changed: --yes goes on",
			  text == NULL ? "" : text);
		code = CTL_USAGE;
	} else {
		char *shown =
			rt_text_shown(text == NULL ? "" : text, text == NULL ? 0 : strlen(text));

		fflush(stdout);
		fprintf(stderr, "%s? [y/N] ", shown);
		free(shown);
		if (fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] | 0x20) == 'y')
			code = CTL_OK;
		else
			ctl_error("nothing was changed");
	}
	free(text);
	return code;
}

static struct rt_loop *loop_of(struct ctl *ctl)
{
	if (ctl->loop == NULL && rt_loop_new(&ctl->loop) != RT_OK) {
		ctl_error("the event loop cannot be made");
		exit(CTL_UNAVAILABLE);
	}
	return ctl->loop;
}

int64_t ctl_now_ms(struct ctl *ctl)
{
	return rt_loop_unix_ms(loop_of(ctl));
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
	/* It ignores SIGPIPE, which its own sockets do not raise: they are written with MSG_NOSIGNAL,
	 * as Redis's. `tandemctl … | head -1` is to end quietly, as its reader does. */
	signal(SIGPIPE, SIG_DFL);
}

static struct rt_channel *channel_of(struct ctl *ctl)
{
	if (ctl->channel == NULL) {
		const struct rt_channel_options options = { .message_max_bytes = 64 << 20 };
		char *target = ctl_target(ctl->gateway);

		ctl_rpc_init();
		if (rt_channel_new(loop_of(ctl), target, &options, &ctl->channel) != RT_OK) {
			ctl_error("not an address: %s", ctl->gateway);
			exit(CTL_USAGE);
		}
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

/* The error with what its details say. */
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

		/* The reason says to machines what the message says to people. */
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

struct asked {
	struct rt_client_op op;
	struct ctl *ctl;
	ProtobufCMessage *response;
	bool (*on_message)(const ProtobufCMessage *message, void *user);
	void *user;
	bool enough; /* the caller has seen what it wanted */
	int code;
};

/* The answer is gone after the callback, so it is kept as a copy. */
static ProtobufCMessage *copy(const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = rt_alloc(length + 1);
	ProtobufCMessage *made;

	protobuf_c_message_pack(message, bytes);
	made = protobuf_c_message_unpack(message->descriptor, NULL, length, bytes);
	free(bytes);
	return made;
}

static void asked_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct asked *asked = RT_CONTAINER_OF(op, struct asked, op);

	if (asked->enough)
		asked->code = CTL_OK;
	else if (op->status.code != 0)
		print_status(&op->status);
	if (!asked->enough)
		asked->code = ctl_exit_of(op->status.code);
	if (response != NULL)
		asked->response = copy(response);
	rt_loop_stop(asked->ctl->loop);
}

static void asked_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct asked *asked = RT_CONTAINER_OF(op, struct asked, op);

	if (asked->enough || asked->on_message(message, asked->user))
		return;
	asked->enough = true;
	rt_client_cancel(op);
}

static unsigned method_index(const ProtobufCServiceDescriptor *descriptor, const char *name)
{
	unsigned index = 0;

	while (index < descriptor->n_methods && strcmp(descriptor->methods[index].name, name) != 0)
		index++;
	return index;
}

int ctl_call(struct ctl *ctl, ProtobufCService *client, const char *method,
	     const ProtobufCMessage *request, ProtobufCMessage **ret)
{
	struct asked asked = {
		.op = { .timeout_ms = ctl->timeout_ms, .done = asked_done },
		.ctl = ctl,
	};

	rt_client_start(client, method_index(client->descriptor, method), request, &asked.op);
	rt_loop_run(ctl->loop);
	if (asked.code != CTL_OK)
		return asked.code;
	if (asked.response == NULL) {
		ctl_error("%s answered nothing", method);
		return CTL_UNAVAILABLE;
	}
	*ret = asked.response;
	return CTL_OK;
}

int ctl_call_stream(struct ctl *ctl, ProtobufCService *client, const char *method,
		    const ProtobufCMessage *request,
		    bool (*on_message)(const ProtobufCMessage *message, void *user), void *user)
{
	struct asked asked = {
		.op = { .on_message = asked_message, .done = asked_done },
		.ctl = ctl,
		.on_message = on_message,
		.user = user,
	};

	rt_client_start(client, method_index(client->descriptor, method), request, &asked.op);
	rt_loop_run(ctl->loop);
	return asked.code;
}

/* ---- Redis ---- */

/* The password of the user, or "" and the default user where nobody has made a password. */
static bool read_password(struct ctl *ctl)
{
	const char *var = getenv("TANDEM_VAR");
	char *path = NULL;
	struct rt_redis_settings settings = { 0 };
	bool standard = ctl->redis_password_file == NULL;
	int rc = RT_OK;

	path = standard ? rt_printf("%s/secrets/ops", var == NULL || var[0] == '\0' ? "var" : var)
			: rt_strdup(ctl->redis_password_file);
	if (standard && access(path, R_OK) != 0) {
		ctl->redis_user = "";
		ctl->redis_password = rt_strdup("");
		ctl->ops_password_missing = rt_strdup(path);
	} else {
		settings.password_file = path;
		rc = rt_redis_settings_password(&settings, &ctl->redis_password);
	}
	free(path);
	return rc == RT_OK;
}

struct wait {
	struct rt_timer timer;
	struct ctl *ctl;
	int64_t until_ms;
};

static void look(struct rt_timer *timer)
{
	struct wait *wait = RT_CONTAINER_OF(timer, struct wait, timer);
	struct ctl *ctl = wait->ctl;
	const char *error = rt_redis_error(ctl->redis);

	if (rt_redis_up(ctl->redis) || rt_loop_now(ctl->loop) >= wait->until_ms ||
	    (error[0] != '\0' && strncmp(error, "not connected yet", 17) != 0))
		rt_loop_stop(ctl->loop);
	else
		rt_timer_start(ctl->loop, &wait->timer, LOOK_MS, look);
}

static void redis_state(struct rt_redis *redis, bool up, void *user)
{
	struct ctl *ctl = user;

	(void)redis;
	if (up)
		rt_loop_stop(ctl->loop);
}

bool ctl_redis_open(struct ctl *ctl)
{
	struct rt_redis_options options = {
		.host = ctl->redis_host,
		.port = (int)ctl->redis_port,
		.unix_path = ctl->redis_socket,
		.name = "tandemctl",
		.timeout_ms = ctl->timeout_ms,
		.pending_max = 64,
		.on_state = redis_state,
		.user_data = ctl,
		.follow_clock = true,
	};
	struct wait wait = { .ctl = ctl };

	if (ctl->redis == NULL) {
		if (!read_password(ctl))
			return false;
		options.user = ctl->redis_user;
		options.password = ctl->redis_password;
		if (rt_redis_new(loop_of(ctl), &options, &ctl->redis) != RT_OK) {
			ctl_error("not an address of Redis: %s:%" PRId64, ctl->redis_host,
				  ctl->redis_port);
			return false;
		}
	}
	if (!rt_redis_up(ctl->redis)) {
		wait.until_ms = rt_loop_now(ctl->loop) + REDIS_CONNECT_MS;
		rt_timer_start(ctl->loop, &wait.timer, LOOK_MS, look);
		rt_loop_run(ctl->loop);
		rt_timer_stop(ctl->loop, &wait.timer);
	}
	if (rt_redis_up(ctl->redis))
		return true;
	if (ctl->redis_socket[0] != '\0')
		ctl_error("Redis at %s: %s", ctl->redis_socket, rt_redis_error(ctl->redis));
	else
		ctl_error("Redis at %s:%" PRId64 ": %s", ctl->redis_host, ctl->redis_port,
			  rt_redis_error(ctl->redis));
	return false;
}

struct redis_asked {
	struct rt_redis_op op;
	struct ctl *ctl;
	redisReply *reply;
	int status;
};

redisReply *ctl_reply_copy(const redisReply *reply)
{
	redisReply *made = rt_alloc(sizeof(*made));

	made->type = reply->type;
	made->integer = reply->integer;
	if (reply->str != NULL) {
		/* Bytes, not a text: rt_strndup would end at a NUL. */
		made->str = rt_alloc(reply->len + 1);
		memcpy(made->str, reply->str, reply->len);
		made->len = reply->len;
	}
	if (reply->elements > 0) {
		made->element = rt_alloc(reply->elements * sizeof(redisReply *));
		made->elements = reply->elements;
		for (size_t i = 0; i < reply->elements; i++)
			made->element[i] = ctl_reply_copy(reply->element[i]);
	}
	return made;
}

static void redis_done(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct redis_asked *asked = RT_CONTAINER_OF(op, struct redis_asked, op);

	asked->status = status;
	if (reply != NULL)
		asked->reply = ctl_reply_copy(reply);
	rt_loop_stop(asked->ctl->loop);
}

/* What a command is called in an error: its name and the key it is about. */
static char *command_text(const struct rt_args *args)
{
	static const struct {
		const char *name;
		int key_at; /* 0: it has no key, or one that goes without saying */
	} commands[] = { { "EVAL", 3 }, { "FCALL", 3 }, { "XINFO", 2 }, { "XREAD", 0 },
			 { "ACL", 0 },  { "SCAN", 0 },  { "CONFIG", 0 } };
	int key_at = 1;

	for (size_t i = 0; i < RT_LENGTH(commands); i++) {
		if (strcmp(args->argv[0], commands[i].name) == 0)
			key_at = commands[i].key_at;
	}
	if (key_at == 0 || key_at >= args->count || args->argv[key_at][0] == '\0')
		return rt_strdup(args->argv[0]);
	return rt_printf("%s %s", args->argv[0], args->argv[key_at]);
}

redisReply *ctl_redis_args(struct ctl *ctl, struct rt_args *args, int64_t timeout_ms,
			   bool errors_too)
{
	struct redis_asked asked = { .ctl = ctl };
	char *name = command_text(args);

	if (!ctl_redis_open(ctl)) {
		rt_args_clear(args);
		free(name);
		return NULL;
	}
	rt_redis_send(ctl->redis, &asked.op, args, timeout_ms, redis_done);
	rt_args_clear(args);
	rt_loop_run(ctl->loop);
	if (asked.status == RT_DENIED && ctl->ops_password_missing != NULL) {
		ctl->denied = true;
		if (!ctl->deny_quietly)
			ctl_error("Redis, %s: only the user ops may do this, and its password file "
				  "cannot be read: %s (TANDEM_VAR, --redis-password-file)",
				  name, ctl->ops_password_missing);
		freeReplyObject(RT_TAKE(asked.reply));
	} else if (asked.reply == NULL) {
		ctl_error("Redis, %s: %s", name, rt_status_text(asked.status));
	} else if (asked.status != RT_OK && !errors_too) {
		ctl_error("Redis, %s: %s", name,
			  asked.reply->str == NULL ? rt_status_text(asked.status)
						   : asked.reply->str);
		freeReplyObject(asked.reply);
		asked.reply = NULL;
	}
	free(name);
	return asked.reply;
}

redisReply *ctl_redis_words(struct ctl *ctl, const char *const *words, size_t count)
{
	struct rt_args args = { 0 };
	redisReply *reply;

	for (size_t i = 0; i < count; i++)
		rt_args_str(&args, words[i]);
	reply = ctl_redis_args(ctl, &args, 0, false);
	rt_args_done(&args);
	return reply;
}

redisReply *ctl_redis_named(struct ctl *ctl, const char *const *words, size_t count,
			    const redisReply *name)
{
	struct rt_args args = { 0 };
	redisReply *reply;

	for (size_t i = 0; i < count; i++)
		rt_args_str(&args, words[i]);
	if (name != NULL && name->str != NULL)
		rt_args_add(&args, name->str, name->len);
	else
		rt_args_str(&args, "");
	reply = ctl_redis_args(ctl, &args, 0, false);
	rt_args_done(&args);
	return reply;
}

const redisReply *ctl_named(const redisReply *reply, const char *name)
{
	if (reply == NULL || reply->type != REDIS_REPLY_ARRAY)
		return NULL;
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		if (strcmp(ctl_text(reply->element[i], ""), name) == 0)
			return reply->element[i + 1];
	}
	return NULL;
}

const char *ctl_text(const redisReply *reply, const char *otherwise)
{
	if (reply == NULL || reply->str == NULL ||
	    (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS) ||
	    strlen(reply->str) != reply->len)
		return otherwise;
	return reply->str;
}

int64_t ctl_number(const redisReply *reply)
{
	int64_t n = 0;

	if (reply == NULL)
		return 0;
	if (reply->type == REDIS_REPLY_INTEGER)
		return reply->integer;
	(void)rt_parse_int(ctl_text(reply, "0"), INT64_MIN, INT64_MAX, &n);
	return n;
}

/* ---- the end ---- */

static void channel_ended(void *user)
{
	struct ctl *ctl = user;

	rt_loop_stop(ctl->loop);
}

void ctl_connections_done(struct ctl *ctl)
{
	if (ctl->channel != NULL) {
		if (ctl->order != NULL)
			rt_client_free(ctl->order);
		if (ctl->inventory != NULL)
			rt_client_free(ctl->inventory);
		rt_channel_free(ctl->channel, channel_ended, ctl);
		rt_loop_run(ctl->loop);
		rt_rpc_shutdown();
	}
	rt_redis_free(ctl->redis);
	free(ctl->redis_password);
	free(ctl->ops_password_missing);
	rt_loop_free(ctl->loop);
}
