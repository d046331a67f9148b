/* redis.c - sends commands to Redis, waits for their replies, and reads these. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "service/service.h"

#define LOOK_MS          10 /* between two looks at a connection that is being made */
#define REDIS_CONNECT_MS 3000

/* Reads the password of the user. If the file is missing: "" and the default user. */
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

static void check_connection(struct rt_timer *timer)
{
	struct wait *wait = RT_CONTAINER_OF(timer, struct wait, timer);
	struct ctl *ctl = wait->ctl;
	const char *error = rt_redis_error(ctl->redis);

	if (rt_redis_up(ctl->redis) || rt_loop_now(ctl->loop) >= wait->until_ms ||
	    (error[0] != '\0' && strncmp(error, "not connected yet", 17) != 0))
		rt_loop_stop(ctl->loop);
	else
		rt_timer_start(ctl->loop, &wait->timer, LOOK_MS, check_connection);
}

static void redis_state(struct rt_redis *redis, bool up, void *user)
{
	struct ctl *ctl = user;

	(void)redis;
	if (up)
		rt_loop_stop(ctl->loop);
}

/* Waits until connected. False: the reason is on stderr. */
static bool redis_open(struct ctl *ctl)
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
		if (rt_redis_new(ctl_loop(ctl), &options, &ctl->redis) != RT_OK) {
			ctl_error("not an address of Redis: %s:%" PRId64, ctl->redis_host,
				  ctl->redis_port);
			return false;
		}
	}
	if (!rt_redis_up(ctl->redis)) {
		wait.until_ms = rt_loop_now(ctl->loop) + REDIS_CONNECT_MS;
		rt_timer_start(ctl->loop, &wait.timer, LOOK_MS, check_connection);
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

struct redis_call {
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
		/* Bytes: rt_strndup would stop at a NUL. */
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
	struct redis_call *call = RT_CONTAINER_OF(op, struct redis_call, op);

	call->status = status;
	if (reply != NULL)
		call->reply = ctl_reply_copy(reply);
	rt_loop_stop(call->ctl->loop);
}

/* A command's name in errors: with the key it is about. */
static char *command_text(const struct rt_args *args)
{
	static const struct {
		const char *name;
		int key_at; /* 0: it has no key, or only an obvious one */
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
	struct redis_call call = { .ctl = ctl };
	char *name = command_text(args);

	if (!redis_open(ctl)) {
		rt_args_clear(args);
		free(name);
		return NULL;
	}
	rt_redis_send(ctl->redis, &call.op, args, timeout_ms, redis_done);
	rt_args_clear(args);
	rt_loop_run(ctl->loop);
	if (call.status == RT_DENIED && ctl->ops_password_missing != NULL) {
		ctl->denied = true;
		if (!ctl->deny_quietly)
			ctl_error("Redis, %s: only the user ops may do this, and its password file "
				  "cannot be read: %s (TANDEM_VAR, --redis-password-file)",
				  name, ctl->ops_password_missing);
		freeReplyObject(RT_TAKE(call.reply));
	} else if (call.reply == NULL) {
		ctl_error("Redis, %s: %s", name, rt_status_text(call.status));
	} else if (call.status != RT_OK && !errors_too) {
		ctl_error("Redis, %s: %s", name,
			  call.reply->str == NULL ? rt_status_text(call.status) : call.reply->str);
		freeReplyObject(call.reply);
		call.reply = NULL;
	}
	free(name);
	return call.reply;
}

redisReply *ctl_redis_strings(struct ctl *ctl, bool errors_too, const char *const *strings,
			      size_t count)
{
	struct rt_args args = { 0 };
	redisReply *reply;

	for (size_t i = 0; i < count; i++)
		rt_args_str(&args, strings[i]);
	reply = ctl_redis_args(ctl, &args, 0, errors_too);
	rt_args_done(&args);
	return reply;
}

redisReply *ctl_redis_named(struct ctl *ctl, const char *const *strings, size_t count,
			    const redisReply *name)
{
	struct rt_args args = { 0 };
	redisReply *reply;

	for (size_t i = 0; i < count; i++)
		rt_args_str(&args, strings[i]);
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
