/* redis.c - sends commands to Redis, waits for their replies, and reads these.
 *
 * Redis is one process or a cluster: the first node is asked. In a cluster a command goes to the master of its
 * key's slot; MOVED says that the slot is elsewhere by now: then the nodes are asked again, and the command is sent
 * again, since it did not happen. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "redis/key_slot.h"

#define LOOK_MS          10 /* between two looks at a connection that is being made */
#define REDIS_CONNECT_MS 3000

/* Whether a password can be read; connections read it themselves. Else the reason is on stderr. */
static bool password_good(const char *path)
{
	char error[RT_PASSWORD_ERROR], *password;

	if (rt_password_read(path, &password, NULL, error) != RT_OK) {
		ctl_error("a password file cannot be used: %s", error);
		return false;
	}
	rt_password_free(password);
	return true;
}

/* Finds the user's password file. If it is missing: "" and the default user. */
static bool find_password(struct ctl *ctl)
{
	const char *var = getenv("TANDEM_VAR");
	bool standard = ctl->redis_password_file == NULL;
	char *path = standard ? rt_printf("%s/secrets/ops",
					  var == NULL || var[0] == '\0' ? CTL_VAR : var)
			      : rt_strdup(ctl->redis_password_file);

	if (standard && access(path, R_OK) != 0) {
		ctl->redis_user = "";
		ctl->ops_password_missing = path;
		path = rt_strdup("");
	}
	if (!password_good(path)) {
		free(path);
		return false;
	}
	ctl->password_file = path;
	return true;
}

bool ctl_redis_login(struct ctl *ctl, struct rt_redis_login *ret)
{
	if (ctl->password_file == NULL && !find_password(ctl))
		return false;
	*ret = (struct rt_redis_login){ .user = ctl->redis_user,
					.password_file = ctl->password_file };
	return true;
}

bool ctl_sentinel_login(struct ctl *ctl, struct rt_redis_login *ret)
{
	bool open = ctl->sentinel_password_file[0] == '\0';

	ctl->sentinel_known = ctl->sentinel_known || password_good(ctl->sentinel_password_file);
	*ret = (struct rt_redis_login){ .user = open ? "" : ctl->sentinel_user,
					.password_file = ctl->sentinel_password_file };
	return ctl->sentinel_known;
}

bool ctl_tls_open(struct ctl *ctl, const struct rt_redis_url *url)
{
	const struct rt_redis_tls_files files = { ctl->redis_tls_ca, ctl->redis_tls_cert,
						  ctl->redis_tls_key };
	bool has_ca = files.ca != NULL && files.ca[0] != '\0', secure;
	char error[RT_PASSWORD_ERROR];
	int rc = rt_redis_url_secure(url, ctl->redis_tls || has_ca, &secure, error, sizeof(error));

	if (rc == RT_OK && secure && ctl->tls == NULL)
		rc = rt_redis_tls_new(&files, &ctl->tls, error);
	if (rc != RT_OK)
		ctl_error("TLS to Redis: %s", error);
	return rc == RT_OK;
}

struct wait {
	struct rt_timer timer;
	struct ctl *ctl;
	const struct rt_redis *redis;
	int64_t until_ms;
};

static void check_connection(struct rt_timer *timer)
{
	struct wait *wait = RT_CONTAINER_OF(timer, struct wait, timer);
	struct ctl *ctl = wait->ctl;
	const char *error = rt_redis_error(wait->redis);

	if (rt_redis_up(wait->redis) || rt_loop_now(ctl->loop) >= wait->until_ms ||
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

/* Whether a node's clock is followed: that of one of them, not the mean of several. */
static bool has_clock(const struct ctl *ctl)
{
	for (size_t i = 0; i < ctl->node_count; i++)
		if (ctl->nodes[i]->redis != NULL && rt_redis_up(ctl->nodes[i]->redis))
			return true;
	return false;
}

/* False: not an address, or the password cannot be read; the reason is on stderr. */
static bool node_make(struct ctl *ctl, struct ctl_node *node)
{
	struct rt_redis_options options = {
		.host = node->host,
		.port = node->port,
		.unix_path = node->port == 0 ? node->host : NULL,
		.tls = ctl->tls,
		.name = "tandemctl",
		.timeout_ms = ctl->timeout_ms,
		.pending_max = 64,
		.on_state = redis_state,
		.user_data = ctl,
		.follow_clock = !node->sentinel && !has_clock(ctl),
	};
	struct rt_redis_login login;

	if (node->sentinel ? !ctl_sentinel_login(ctl, &login) : !ctl_redis_login(ctl, &login))
		return false;
	options.user = login.user;
	options.password_file = login.password_file;
	if (rt_redis_new(ctl_loop(ctl), &options, &node->redis) == RT_OK)
		return true;
	ctl_error("not an address of Redis: %s:%d", node->host, node->port);
	return false;
}

/* Waits until connected. */
static bool node_open(struct ctl *ctl, struct ctl_node *node)
{
	struct wait wait = { .ctl = ctl };

	if (node->redis == NULL && !node_make(ctl, node))
		return false;
	if (rt_redis_up(node->redis))
		return true;
	wait.redis = node->redis;
	wait.until_ms = rt_loop_now(ctl->loop) + REDIS_CONNECT_MS;
	rt_timer_start(ctl->loop, &wait.timer, LOOK_MS, check_connection);
	rt_loop_run(ctl->loop);
	rt_timer_stop(ctl->loop, &wait.timer);
	return rt_redis_up(node->redis);
}

static void say_unreachable(const struct ctl_node *node)
{
	if (node->redis == NULL)
		return; /* the reason is on stderr */
	if (node->port == 0)
		ctl_error("Redis at %s: %s", node->host, rt_redis_error(node->redis));
	else
		ctl_error("Redis at %s:%d: %s", node->host, node->port,
			  rt_redis_error(node->redis));
}

bool ctl_redis_up(const struct ctl *ctl)
{
	return ctl->asked != NULL && ctl->asked->redis != NULL && rt_redis_up(ctl->asked->redis);
}

/* ---- one command at one node ---- */

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

/* Sends a command to a node that is connected, and waits for its end. */
static void ask(struct ctl *ctl, struct ctl_node *node, struct rt_args *args, int64_t timeout_ms,
		struct redis_call *call)
{
	*call = (struct redis_call){ .ctl = ctl };
	ctl->asked = node;
	rt_redis_send(node->redis, &call->op, args, timeout_ms, redis_done);
	rt_loop_run(ctl->loop);
}

/* ---- the nodes of a cluster ---- */

static struct ctl_node *node_of(struct ctl *ctl, const char *host, int port)
{
	struct ctl_node *node;

	for (size_t i = 0; i < ctl->node_count; i++)
		if (ctl->nodes[i]->port == port && strcmp(ctl->nodes[i]->host, host) == 0)
			return ctl->nodes[i];
	node = rt_alloc(sizeof(*node));
	node->host = rt_strdup(host);
	node->port = port;
	ctl->nodes = rt_realloc(ctl->nodes, (ctl->node_count + 1) * sizeof(struct ctl_node *));
	ctl->nodes[ctl->node_count++] = node;
	return node;
}

/* The node that { host, port, … } of a row of CLUSTER SLOTS names; NULL: none. */
static struct ctl_node *node_named(struct ctl *ctl, const struct ctl_node *asked,
				   const redisReply *name)
{
	const char *host;
	int64_t port;

	if (name->type != REDIS_REPLY_ARRAY || name->elements < 2)
		return NULL;
	host = ctl_text(name->element[0], "");
	port = ctl_number(name->element[1]);
	if (port < 1 || port > 65535)
		return NULL;
	/* A node that does not know its own address leaves it out. */
	return node_of(ctl, host[0] == '\0' ? asked->host : host, (int)port);
}

/* Takes over what a node says about slots. */
static void map_read(struct ctl *ctl, const struct ctl_node *asked, const redisReply *rows)
{
	for (size_t i = 0; i < ctl->node_count; i++)
		ctl->nodes[i]->listed = ctl->nodes[i]->master = false;
	if (ctl->of_slot == NULL)
		ctl->of_slot = rt_alloc(RT_REDIS_SLOTS * sizeof(*ctl->of_slot));
	memset(ctl->of_slot, 0, RT_REDIS_SLOTS * sizeof(*ctl->of_slot));
	for (size_t i = 0; i < rows->elements; i++) {
		const redisReply *row = rows->element[i];
		struct ctl_node *master = NULL;
		int64_t first, last;

		if (row->type != REDIS_REPLY_ARRAY || row->elements < 3)
			continue;
		first = RT_MAX(0, ctl_number(row->element[0]));
		last = RT_MIN(RT_REDIS_SLOTS - 1, ctl_number(row->element[1]));
		for (size_t n = 2; n < row->elements; n++) {
			struct ctl_node *node = node_named(ctl, asked, row->element[n]);

			if (node == NULL)
				continue;
			node->listed = true;
			if (n > 2)
				continue;
			master = node;
			master->master = true;
		}
		for (int64_t slot = first; slot <= last; slot++)
			ctl->of_slot[slot] = master;
	}
}

/* Asks a node where the slots are. False: it does not say; one Redis never does. */
static bool map_ask(struct ctl *ctl, struct ctl_node *node)
{
	struct rt_args args = { 0 };
	struct redis_call call;
	bool good;

	rt_args_str(&args, "CLUSTER");
	rt_args_str(&args, "SLOTS");
	ask(ctl, node, &args, 0, &call);
	rt_args_done(&args);
	good = call.reply != NULL && call.reply->type == REDIS_REPLY_ARRAY &&
	       call.reply->elements > 0;
	if (good)
		map_read(ctl, node, call.reply);
	freeReplyObject(call.reply);
	return good;
}

/* Asks the nodes one after the other, `first` first. */
static bool map_again(struct ctl *ctl, struct ctl_node *first)
{
	if (node_open(ctl, first) && map_ask(ctl, first))
		return true;
	for (size_t i = 0; i < ctl->node_count; i++)
		if (ctl->nodes[i] != first && node_open(ctl, ctl->nodes[i]) &&
		    map_ask(ctl, ctl->nodes[i]))
			return true;
	return false;
}

/* Where Redis was said to be. */
static void said_url(const struct ctl *ctl, struct rt_redis_url *ret)
{
	char error[160];
	bool socket = ctl->redis_socket[0] != '\0';

	if (ctl->redis_url[0] != '\0') {
		(void)rt_redis_url_parse(ctl->redis_url, ret, error, sizeof(error));
		return;
	}
	*ret = (struct rt_redis_url){ .count = 1 };
	ret->addresses[0].port = socket ? 0 : (int)ctl->redis_port;
	snprintf(ret->addresses[0].host, sizeof(ret->addresses[0].host), "%s",
		 socket ? ctl->redis_socket : ctl->redis_host);
}

/* Asks a sentinel for the master. False: it does not answer, or knows none of this name; *why says so. */
static bool ask_sentinel(struct ctl *ctl, const struct rt_redis_address *address, const char *name,
			 struct rt_redis_address *ret, char **why)
{
	struct ctl_node sentinel = { .host = (char *)(uintptr_t)address->host,
				     .port = address->port,
				     .sentinel = true };
	struct rt_args args = { 0 };
	struct redis_call call = { 0 };
	int64_t port = 0;

	if (node_open(ctl, &sentinel)) {
		rt_args_str(&args, "SENTINEL");
		rt_args_str(&args, "GET-MASTER-ADDR-BY-NAME");
		rt_args_str(&args, name);
		ask(ctl, &sentinel, &args, 0, &call);
		rt_args_done(&args);
	}
	if (call.reply != NULL && call.reply->type == REDIS_REPLY_ARRAY &&
	    call.reply->elements == 2) {
		snprintf(ret->host, sizeof(ret->host), "%s", ctl_text(call.reply->element[0], ""));
		port = ctl_number(call.reply->element[1]);
		ret->port = (int)port;
	}
	free(*why);
	*why = rt_printf("%s:%d: %s", address->host, address->port,
			 sentinel.redis == NULL                  ? "not asked"
			 : !rt_redis_up(sentinel.redis)          ? rt_redis_error(sentinel.redis)
			 : call.reply == NULL                    ? rt_status_text(call.status)
			 : call.reply->type == REDIS_REPLY_ERROR ? call.reply->str
								 : "it knows no such master");
	freeReplyObject(call.reply);
	rt_redis_free(sentinel.redis);
	ctl->asked = NULL;
	return port > 0 && port <= 65535 && ret->host[0] != '\0';
}

/* Whether a server that a sentinel names is there and does not say that it is something else. *why says so. */
static bool is_master(struct ctl *ctl, const struct rt_redis_address *address, char **why)
{
	struct ctl_node *node = node_of(ctl, address->host, address->port);
	struct rt_args args = { 0 };
	struct redis_call call = { 0 };
	const redisReply *role = NULL;
	bool good = node_open(ctl, node);

	if (good) {
		rt_args_str(&args, "HELLO");
		ask(ctl, node, &args, 0, &call);
		rt_args_done(&args);
		ctl->asked = NULL;
		role = call.reply == NULL ? NULL : ctl_named(call.reply, "role");
		good = role == NULL || strcmp(ctl_text(role, ""), "master") == 0;
	}
	free(*why);
	*why = rt_printf("%s:%d: %s", address->host, address->port,
			 node->redis == NULL         ? "not asked"
			 : !rt_redis_up(node->redis) ? rt_redis_error(node->redis)
						     : "this is not a master now");
	freeReplyObject(call.reply);
	return good;
}

/* Puts the master that the sentinels name in place of them. One of them may be behind the others. */
static bool find_master(struct ctl *ctl, struct rt_redis_url *url)
{
	struct rt_redis_address master;
	char *why = NULL;

	for (size_t i = 0; i < url->count; i++) {
		if (!ask_sentinel(ctl, &url->addresses[i], url->master, &master, &why) ||
		    !is_master(ctl, &master, &why))
			continue;
		url->addresses[0] = master;
		url->count = 1;
		free(why);
		return true;
	}
	ctl_error("Redis: no sentinel says where the master %s is; the last one, %s", url->master,
		  why);
	free(why);
	return false;
}

/* The first node is one that answers. */
static void put_first(struct ctl *ctl, struct ctl_node *node)
{
	for (size_t i = 0; i < ctl->node_count; i++)
		if (ctl->nodes[i] == node)
			ctl->nodes[i] = ctl->nodes[0];
	ctl->nodes[0] = node;
}

/* Connects, and finds out whether it is a cluster. False: the reason is on stderr. */
static bool nodes_open(struct ctl *ctl)
{
	struct rt_redis_url url;

	if (ctl->node_count > 0)
		return true;
	said_url(ctl, &url);
	if (!ctl_tls_open(ctl, &url))
		return false;
	if (url.kind == RT_TOPOLOGY_SENTINEL && !find_master(ctl, &url))
		return false;
	for (size_t i = 0; i < url.count; i++) {
		struct ctl_node *seed = node_of(ctl, url.addresses[i].host, url.addresses[i].port);

		if (!node_open(ctl, seed))
			continue;
		put_first(ctl, seed);
		if (!map_ask(ctl, seed))
			seed->listed = seed->master = true;
		return true;
	}
	say_unreachable(ctl->nodes[0]);
	return false;
}

void ctl_redis_url(struct ctl *ctl, struct rt_redis_url *ret)
{
	said_url(ctl, ret);
	if (!ctl_is_cluster(ctl))
		return;
	*ret = (struct rt_redis_url){ .kind = RT_TOPOLOGY_CLUSTER,
				      .tls = ctl->tls != NULL ? RT_REDIS_TLS_YES
							      : RT_REDIS_TLS_OPEN };
	for (size_t i = 0; i < ctl->node_count && ret->count < RT_REDIS_SEEDS_MAX; i++) {
		struct rt_redis_address *address = &ret->addresses[ret->count];

		if (!ctl->nodes[i]->listed || ctl->nodes[i]->port == 0)
			continue;
		ret->count++;
		address->port = ctl->nodes[i]->port;
		snprintf(address->host, sizeof(address->host), "%s", ctl->nodes[i]->host);
	}
}

struct ctl_node *ctl_node_next(struct ctl *ctl, const struct ctl_node *after, bool masters)
{
	size_t i = 0;

	if (!nodes_open(ctl))
		return NULL;
	if (after != NULL) {
		while (i < ctl->node_count && ctl->nodes[i] != after)
			i++;
		i++;
	}
	for (; i < ctl->node_count; i++)
		if (ctl->nodes[i]->listed && (ctl->nodes[i]->master || !masters))
			return ctl->nodes[i];
	return NULL;
}

struct ctl_node *ctl_node_of_key(const struct ctl *ctl, const char *key)
{
	return ctl->of_slot == NULL ? ctl->nodes[0] : ctl->of_slot[rt_key_slot(key)];
}

bool ctl_is_cluster(const struct ctl *ctl)
{
	return ctl->of_slot != NULL;
}

/* ---- commands ---- */

#define SENDS_MAX 5 /* of one command, while slots move */

/* The key of a command; NULL: it has none. */
static const char *command_key(const struct rt_args *args)
{
	static const struct {
		const char *name;
		int key_at; /* 0: it has no key */
	} commands[] = { { "EVAL", 3 },   { "FCALL", 3 },    { "XINFO", 2 }, { "XGROUP", 2 },
			 { "ACL", 0 },    { "SCAN", 0 },     { "INFO", 0 },  { "CONFIG", 0 },
			 { "CLIENT", 0 }, { "FUNCTION", 0 }, { "ROLE", 0 },  { "CLUSTER", 0 } };
	const char *name = args->count > 0 ? args->argv[0] : "";
	int key_at = 1;

	for (size_t i = 0; i < RT_LENGTH(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			key_at = commands[i].key_at;
	}
	for (int i = 1; strcmp(name, "XREAD") == 0 && i < args->count; i++)
		if (strcmp(args->argv[i], "STREAMS") == 0)
			key_at = i + 1;
	return key_at == 0 || key_at >= args->count ? NULL : args->argv[key_at];
}

/* A command's name in errors: with the key it is about. */
static char *command_text(const struct rt_args *args)
{
	const char *name = args->count > 0 ? args->argv[0] : "", *key = command_key(args);

	if (key == NULL || key[0] == '\0' || strcmp(name, "XREAD") == 0)
		return rt_strdup(name);
	return rt_printf("%s %s", name, key);
}

/* Where a command goes: to the master of its key. NULL: no node serves it. */
static struct ctl_node *choose_node(struct ctl *ctl, const struct rt_args *args)
{
	const char *key = command_key(args);

	if (ctl->on != NULL)
		return ctl->on;
	return key == NULL ? ctl_node_next(ctl, NULL, true) : ctl_node_of_key(ctl, key);
}

static bool is_moved(const struct redis_call *call)
{
	return call->reply != NULL && call->reply->type == REDIS_REPLY_ERROR &&
	       strncmp(call->reply->str, "MOVED ", 6) == 0;
}

/* Sends a command to where its key is, again when that has changed: it did not happen then. False: the
 * reason is on stderr. */
static bool send_command(struct ctl *ctl, struct rt_args *args, int64_t timeout_ms,
			 struct redis_call *call)
{
	for (int sends = 1; nodes_open(ctl); sends++) {
		struct ctl_node *node = choose_node(ctl, args);
		bool last = sends == SENDS_MAX || ctl->on != NULL || !ctl_is_cluster(ctl);

		if (node != NULL && node_open(ctl, node)) {
			ask(ctl, node, args, timeout_ms, call);
			if (last || !is_moved(call))
				return true;
			freeReplyObject(RT_TAKE(call->reply));
		} else if (last && node == NULL) {
			ctl_error("Redis: no node of the cluster serves %s", command_key(args));
			return false;
		} else if (last) {
			say_unreachable(node);
			return false;
		}
		if (!map_again(ctl, node != NULL ? node : ctl->nodes[0])) {
			ctl_error("Redis: no node of the cluster answers");
			return false;
		}
	}
	return false;
}

redisReply *ctl_redis_args(struct ctl *ctl, struct rt_args *args, int64_t timeout_ms,
			   bool errors_too)
{
	struct redis_call call;
	char *name = command_text(args);
	bool sent = send_command(ctl, args, timeout_ms, &call);

	rt_args_clear(args);
	if (!sent) {
		free(name);
		return NULL;
	}
	if (call.status == RT_DENIED && strcmp(ctl->redis_user, "ops") != 0) {
		ctl->denied = true;
		if (!ctl->deny_quietly && ctl->ops_password_missing == NULL)
			ctl_error("Redis, %s: the user %s may not do this%s", name,
				  ctl->redis_user[0] == '\0' ? "default" : ctl->redis_user,
				  ctl_hint(ctl, ": --redis-user ops"));
		else if (!ctl->deny_quietly)
			ctl_error("Redis, %s: only the user ops may do this, and its password file "
				  "cannot be read: %s%s",
				  name, ctl->ops_password_missing,
				  ctl_hint(ctl, " (TANDEM_VAR, --redis-password-file)"));
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

int64_t ctl_count(const redisReply *reply)
{
	return RT_MIN(RT_MAX(ctl_number(reply), INT64_C(0)), CTL_COUNT_MAX);
}
