/* connection.c - a connection over a socket, kept up.
 *
 * hiredis connects and parses (its synchronous context in non-blocking mode); the life of the
 * connection is here, so that a context is only ever freed by go_down, never underneath one of
 * hiredis's own callbacks. In the order things happen:
 *
 *   connect_now          a socket, not connected yet
 *     socket_connected   writable: SO_ERROR says whether it worked
 *       secured          TLS, if there is any: the handshake is over
 *       greet            AUTH, CLIENT SETNAME, TIME (some), PING: a server that loads its data is not up
 *         greeted        up
 *   connection_command   into the output buffer
 *     run_turn           end of the turn: one write
 *     socket_ready       answers, in order: the first command under way gets the first
 *   go_down              after any failure: everything under way ends, connect again later
 */
#include "connection_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define RETRY_MIN_MS   50
#define RETRY_MAX_MS   2000
#define READER_KEEP    1048576 /* bytes of buffer that an idle reader keeps */
#define GREETING_BYTES 4096    /* more than a greeting has */

static void connect_now(struct rt_timer *timer);

static struct redis_connection *connection_of(struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, struct redis_connection, common.redis);
}

static const struct redis_connection *const_connection_of(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct redis_connection, common.redis);
}

/* Closes the socket and ends everything under way. */
static void close_down(struct redis_connection *connection, int status)
{
	struct rt_list gone;

	connection->state = REDIS_AWAY;
	rt_timer_stop(connection->common.loop, &connection->connect);
	rt_timer_stop(connection->common.loop, &connection->deadline);
	redis_clock_stop(&connection->clock);
	rt_watch_free(RT_TAKE(connection->watch));
	if (connection->context != NULL)
		redisFree(RT_TAKE(connection->context));
	redis_commands_take(connection, &gone);
	redis_tls_end(connection);
	connection->greetings_left = 0;
	redis_common_set_up(&connection->common, false);
	redis_commands_end(connection, &gone, status);
}

/* The connection failed (connection->error says why): connects again later. */
static void go_down(struct redis_connection *connection)
{
	redis_trouble_away(connection);
	connection->denial_logged = false;
	close_down(connection, RT_LOST);
	rt_timer_start(connection->common.loop, &connection->connect,
		       rt_loop_around(connection->common.loop, connection->retry_ms), connect_now);
	connection->retry_ms = RT_MIN(connection->retry_ms * 2, RETRY_MAX_MS);
}

static void deadline_passed(struct rt_timer *timer)
{
	struct redis_connection *connection =
		RT_CONTAINER_OF(timer, struct redis_connection, deadline);
	int64_t now = rt_loop_now(connection->common.loop), first;

	/* If this process was held up, the answers may wait in the socket. */
	if (redis_commands_deadline(connection) <= now && !redis_commands_read(connection)) {
		go_down(connection);
		return;
	}
	first = redis_commands_deadline(connection);
	if (first <= now) {
		redis_trouble_set(connection, "no answer in time", "");
		go_down(connection);
	} else if (first != INT64_MAX) {
		rt_timer_start(connection->common.loop, timer, first - now, deadline_passed);
	}
}

/* The loop sends it at the end of this turn. */
static void send_command(struct redis_connection *connection, struct rt_redis_op *op, int argc,
			 const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct rt_timer *deadline = &connection->deadline;

	op->deadline_ms = rt_loop_now(connection->common.loop) + timeout_ms;
	redis_commands_add(connection, op, argc, argv, lengths);
	if (!rt_timer_running(deadline) || deadline->due_ms > op->deadline_ms)
		rt_timer_start(connection->common.loop, deadline, timeout_ms, deadline_passed);
	rt_loop_defer_last(connection->common.loop, &connection->turn);
}

static void connection_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			       const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct redis_connection *connection = connection_of(redis);

	redis_commands_name(op, argc, argv, lengths);
	if (connection->common.up && RT_FAILPOINT2_STATUS("redis.command", op->what) != RT_OK)
		redis_common_refuse(&connection->common, op, RT_LOST);
	else if (redis_common_admit(&connection->common, op))
		send_command(connection, op, argc, argv, lengths,
			     timeout_ms > 0 ? timeout_ms : connection->common.options.timeout_ms);
}

static void run_turn(struct rt_task *task)
{
	struct redis_connection *connection = RT_CONTAINER_OF(task, struct redis_connection, turn);

	if (connection->freed) {
		free(connection);
		return;
	}
	if (connection->reset && connection->state != REDIS_AWAY) {
		redis_trouble_set(connection, "given up by this side", "");
		close_down(connection, RT_CANCELED);
		rt_timer_start(connection->common.loop, &connection->connect, 0, connect_now);
	}
	connection->reset = false;
	if (connection->state >= REDIS_GREETING && !redis_commands_write(connection))
		go_down(connection);
}

static void go_up(struct redis_connection *connection)
{
	connection->state = REDIS_UP;
	connection->retry_ms = RETRY_MIN_MS;
	connection->error[0] = '\0';
	redis_trouble_back(connection);
	rt_timer_stop(connection->common.loop, &connection->connect);
	redis_common_set_up(&connection->common, true);
}

static void greeted(struct rt_redis_op *op, int status, const redisReply *reply);

static void send_greeting(struct redis_connection *connection, struct rt_redis_op *op, int argc,
			  const char *const *argv)
{
	*op = (struct rt_redis_op){ .redis = &connection->common.redis, .done = greeted };
	rt_list_init(&op->link);
	redis_commands_name(op, argc, argv, NULL);
	send_command(connection, op, argc, argv, NULL, connection->common.options.timeout_ms);
}

static void greeted(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct redis_connection *connection = connection_of(op->redis);
	bool is_auth = op == &connection->greetings[0] && connection->common.options.user != NULL;

	if (reply == NULL)
		return; /* the connection was lost; go_down does the rest */
	/* A user need not be allowed to set a name or to ping, and a full disk (MISCONF, to a PING)
	 * still lets others read. */
	if (status == RT_UNREADY ||
	    (status != RT_OK && (is_auth || rt_redis_reply_begins(reply, "NOAUTH")))) {
		redis_trouble_set(connection, is_auth ? "AUTH" : "greeting", reply->str);
		/* redis_commands_read stops, socket_ready takes it down. */
		connection->state = REDIS_AWAY;
		return;
	}
	if (status == RT_OK && reply->type == REDIS_REPLY_ARRAY &&
	    !redis_clock_greeted(&connection->clock, reply)) {
		send_greeting(connection, op, 1, (const char *[]){ "TIME" });
		return;
	}
	if (--connection->greetings_left == 0)
		go_up(connection);
}

static void add_greeting(struct redis_connection *connection, int argc, const char *const *argv)
{
	send_greeting(connection, &connection->greetings[connection->greetings_left++], argc, argv);
}

/* The file of the password is read each time, so that a new password needs no restart. False: it cannot be. */
static bool add_auth(struct redis_connection *connection)
{
	const struct rt_redis_options *options = &connection->common.options;
	char error[RT_PASSWORD_ERROR], *password = NULL;

	if (options->password_file != NULL &&
	    rt_password_read(options->password_file, &password, NULL, error) != RT_OK) {
		redis_trouble_set(connection, "password file", error);
		return false;
	}
	redis_commands_reserve(connection, GREETING_BYTES); /* no copy stays behind when it grows */
	add_greeting(connection, 3,
		     (const char *[]){ "AUTH", options->user,
				       password != NULL ? password : options->password });
	rt_password_free(password);
	return true;
}

/* False: there is nothing to greet with. */
static bool greet(struct redis_connection *connection)
{
	const struct rt_redis_options *options = &connection->common.options;

	connection->state = REDIS_GREETING;
	if (options->user != NULL && !add_auth(connection))
		return false;
	if (options->name != NULL)
		add_greeting(connection, 3, (const char *[]){ "CLIENT", "SETNAME", options->name });
	if (options->follow_clock) {
		redis_clock_greet(&connection->clock);
		add_greeting(connection, 1, (const char *[]){ "TIME" });
	}
	add_greeting(connection, 1, (const char *[]){ "PING" });
	return true;
}

/* TLS's handshake goes on. False: it failed. */
static bool secure(struct redis_connection *connection)
{
	if (!redis_commands_read(connection))
		return false;
	if (redis_tls_ready(connection) && !greet(connection))
		return false;
	return redis_commands_write(connection);
}

/* False: connecting failed. */
static bool socket_connected(struct redis_connection *connection)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(connection->context->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error != 0) {
		redis_trouble_set(connection, "cannot connect", strerror(error));
		return false;
	}
	if (connection->common.options.tls == NULL)
		return greet(connection);
	connection->state = REDIS_SECURING;
	return redis_tls_begin(connection) && redis_commands_write(connection);
}

static void socket_ready(void *user, int events)
{
	struct redis_connection *connection = user;
	bool alive = true;

	if (connection->state == REDIS_CONNECTING) {
		alive = socket_connected(connection);
	} else if (connection->state == REDIS_SECURING) {
		alive = secure(connection);
	} else {
		if (events & RT_READABLE)
			alive = redis_commands_read(connection);
		if (alive && (events & RT_WRITABLE))
			alive = redis_commands_write(connection);
	}
	if (!alive)
		go_down(connection);
}

static void connect_timeout(struct rt_timer *timer)
{
	struct redis_connection *connection =
		RT_CONTAINER_OF(timer, struct redis_connection, connect);

	redis_trouble_set(connection,
			  connection->state == REDIS_SECURING ? "TLS" : "cannot connect",
			  "no answer in time");
	go_down(connection);
}

static void connect_now(struct rt_timer *timer)
{
	struct redis_connection *connection =
		RT_CONTAINER_OF(timer, struct redis_connection, connect);
	redisContext *context;

	if (connection->common.options.unix_path != NULL)
		context = redisConnectUnixNonBlock(connection->common.options.unix_path);
	else
		context = redisConnectNonBlock(connection->common.options.host,
					       connection->common.options.port);
	connection->context = context;
	if (context == NULL || context->err != 0) {
		redis_trouble_set(connection, "cannot connect",
				  context == NULL ? "out of memory" : context->errstr);
		go_down(connection);
		return;
	}
	context->reader->maxbuf = READER_KEEP;
	context->reader->fn = &redis_reply_functions;
	context->reader->privdata = &connection->replies;
	rt_arena_reset(&connection->replies,
		       REDIS_REPLIES_KEEP); /* of an answer that arrived only in part */
	if (rt_watch_new(connection->common.loop, context->fd, socket_ready, connection,
			 &connection->watch) != RT_OK) {
		redis_trouble_set(connection, "cannot connect", "cannot watch the socket");
		go_down(connection);
		return;
	}
	connection->state = REDIS_CONNECTING;
	rt_watch_set(connection->watch, RT_WRITABLE);
	rt_timer_start(connection->common.loop, &connection->connect,
		       connection->common.options.timeout_ms, connect_timeout);
}

static void connection_reset(struct rt_redis *redis)
{
	struct redis_connection *connection = connection_of(redis);

	connection->reset = true;
	rt_loop_defer_last(connection->common.loop, &connection->turn);
}

static const char *connection_error(const struct rt_redis *redis)
{
	return redis_common_is_up(redis) ? "" : const_connection_of(redis)->error;
}

static void connection_free(struct rt_redis *redis)
{
	struct redis_connection *connection = connection_of(redis);

	connection->common.options.on_state = NULL;
	close_down(connection, RT_CANCELED);
	redis_common_done(&connection->common);
	rt_arena_done(&connection->replies);
	rt_buf_done(&connection->out);
	if (connection->turn.queued)
		connection->freed = true;
	else
		free(connection);
}

static const struct rt_redis_ops connection_ops = {
	.command = connection_command,
	.reset = connection_reset,
	.up = redis_common_is_up,
	.error = connection_error,
	.pending = redis_common_pending,
	.free = connection_free,
};

int rt_redis_new(struct rt_loop *loop, const struct rt_redis_options *options,
		 struct rt_redis **ret)
{
	struct redis_connection *connection;

	if (options->connect != NULL)
		return options->connect(options->connector, loop, options, ret);
	connection = rt_alloc(sizeof(*connection));
	redis_common_init(&connection->common, &connection_ops, loop, options);
	if (connection->common.options.unix_path == NULL &&
	    connection->common.options.host == NULL) {
		redis_common_done(&connection->common);
		free(connection);
		return RT_INVALID;
	}
	redis_clock_init(&connection->clock, connection);
	connection->retry_ms = RETRY_MIN_MS;
	connection->turn.run = run_turn;
	rt_list_init(&connection->pending);
	redis_trouble_set(connection, "not connected yet", "");
	rt_timer_start(loop, &connection->connect, 0, connect_now);
	*ret = &connection->common.redis;
	return RT_OK;
}
