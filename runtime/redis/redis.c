/* redis.c - one pipelined connection, kept up.
 *
 * hiredis connects, formats and parses (its synchronous context in non-blocking mode); the queue
 * of commands, the deadlines and the life of the connection are here, so that a context is only
 * ever freed by redis_down, never underneath one of hiredis's own callbacks. In the order things
 * happen:
 *
 *   redis_connect           a socket, not connected yet
 *     redis_connected       writable: SO_ERROR tells
 *       redis_greet         AUTH, CLIENT SETNAME, TIME, PING: a server that loads its data is not up
 *         redis_greeted     up
 *   rt_redis_command        into the output buffer
 *     redis_turn            end of the turn: one write
 *     redis_read            answers, in order: the first command under way gets the first
 *   redis_down              whatever went wrong: everything under way ends, connect again later
 */
#include "redis.h"

#include <ctype.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "loop/clock.h"

#define RETRY_MIN_MS  50
#define RETRY_MAX_MS  2000
#define READ_BYTES    16384
#define READS_MAX     64      /* in one turn: others on the loop want to run, too */
#define READER_KEEP   1048576 /* of buffer that an idle reader keeps */
#define OUT_KEEP      1048576 /* the same of what is to be sent */
#define TIMEOUT_MS    2000
#define PENDING_MAX   4096
#define GREETINGS_MAX 4
#define TIME_EVERY_MS 1000

enum redis_state { REDIS_AWAY, REDIS_CONNECTING, REDIS_GREETING, REDIS_UP };

struct rt_redis {
	struct rt_loop *loop;
	struct rt_redis_options options;
	char *host, *unix_path, *user, *password, *password_file, *name;
	enum redis_state state;
	redisContext *context;
	struct rt_watch *watch;
	struct rt_list pending; /* sent, in order */
	size_t pending_count;
	struct rt_buf out;       /* commands in Redis's protocol … */
	size_t out_sent;         /* … of which so much is sent */
	struct rt_arena replies; /* the answer that is being read, or told */
	struct rt_list refused;  /* never sent: end with op->status at the end of the turn */
	struct rt_task turn;
	struct rt_timer connect;  /* away: when to try; connecting, greeting: when to give up */
	struct rt_timer deadline; /* no later than the first deadline of the commands under way */
	struct rt_redis_op greetings[GREETINGS_MAX];
	size_t greetings_left;
	struct {
		struct rt_clock clock;
		int64_t sent_us; /* of the TIME under way */
		struct rt_redis_op op, name_op;
		struct rt_timer timer;
		bool wall_is_wrong, naming;
		struct rt_series *offset_seconds; /* NULL without metrics */
	} time;
	int64_t retry_ms;
	bool freed; /* while `turn` was queued: the task frees */
	bool reset; /* asked for; `turn` does it */
	char error[256];
	char told[256];   /* the last error that was logged, until it is up again */
	bool denied_told; /* since it is up */
};

static void redis_connect(struct rt_timer *timer);
static void redis_deadline_passed(struct rt_timer *timer);

static void redis_set_error(struct rt_redis *redis, const char *what, const char *detail)
{
	snprintf(redis->error, sizeof(redis->error), "%s%s%s", what, *detail == '\0' ? "" : ": ",
		 detail);
}

/* Failpoints, at each step of each command, named after it (FCALL: after the function, without its
 * version):
 *   redis.command   about to be sent; may fail: it was not
 *   redis.written   in the kernel's hands
 *   redis.answer    the answer is here and its caller does not know; may fail: it was lost
 *   redis.done      the caller has done what it does */
#ifdef TANDEM_FAILPOINTS
static void point_name(struct rt_redis_op *op, int argc, const char *const *argv,
		       const size_t *lengths)
{
	bool function = argc > 1 &&
			(strcasecmp(argv[0], "FCALL") == 0 || strcasecmp(argv[0], "FCALL_RO") == 0);
	const char *what = argv[function ? 1 : 0];
	size_t length = lengths != NULL ? lengths[function ? 1 : 0] : strlen(what);
	const char *version = function ? memrchr(what, '_', length) : NULL;

	if (version != NULL)
		length = (size_t)(version - what);
	snprintf(op->what, sizeof(op->what), "%.*s", (int)length, what);
	for (char *p = op->what; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	op->written = false;
}

static void points_written(struct rt_redis *redis)
{
	for (struct rt_list *link = redis->pending.next; link != &redis->pending;
	     link = link->next) {
		struct rt_redis_op *op = RT_CONTAINER_OF(link, struct rt_redis_op, link);

		if (!op->written)
			RT_FAILPOINT2("redis.written", op->what);
		op->written = true;
	}
}
#else
#define point_name(op, argc, argv, lengths) ((void)0)
#define points_written(redis)               ((void)0)
#endif

/* Nothing is left to be sent; what a burst made large is not kept. */
static void redis_clear_out(struct rt_redis *redis)
{
	redis->out.length = 0;
	redis->out_sent = 0;
	if (redis->out.capacity > OUT_KEEP)
		rt_buf_done(&redis->out);
}

static void redis_end(struct rt_redis_op *op, int status, const redisReply *reply)
{
	op->done(op, status, reply);
}

/* Closes the socket and ends everything under way. */
static void redis_close(struct rt_redis *redis, int status)
{
	bool was_up = redis->state == REDIS_UP;
	int64_t now = rt_loop_now(redis->loop);
	struct rt_list gone, *link;

	redis->state = REDIS_AWAY;
	rt_timer_stop(redis->loop, &redis->connect);
	rt_timer_stop(redis->loop, &redis->deadline);
	rt_watch_free(RT_TAKE(redis->watch));
	if (redis->context != NULL)
		redisFree(RT_TAKE(redis->context));
	redis_clear_out(redis);
	rt_list_init(&gone);
	rt_list_move(&gone, &redis->pending);
	rt_timer_stop(redis->loop, &redis->time.timer);
	redis->pending_count = 0;
	redis->greetings_left = 0;
	if (was_up && redis->options.on_state != NULL)
		redis->options.on_state(redis, false, redis->options.user_data);
	while ((link = rt_list_pop(&gone)) != NULL) {
		struct rt_redis_op *op = RT_CONTAINER_OF(link, struct rt_redis_op, link);
		bool late = status == RT_LOST && op->deadline_ms <= now;

		redis_end(op, late ? RT_TIMEOUT : status, NULL);
	}
}

/* ---- what an operator should know ---- */

static bool redis_speaks(const struct rt_redis *redis)
{
	return redis->options.log_trouble && redis->options.on_state != NULL;
}

/* What to do about the error; NULL: wait, or start Redis. */
static char *redis_fix(const struct rt_redis *redis)
{
	const char *file = redis->password_file != NULL ? redis->password_file : "no file";

	if (strstr(redis->error, "WRONGPASS") != NULL)
		return rt_printf("Redis must have the user %s, enabled, with the password in the "
				 "first line of %s (--redis-user, --redis-password-file); "
				 "it is tried again until then",
				 redis->user, file);
	if (strstr(redis->error, "NOAUTH") != NULL)
		return rt_strdup("set --redis-user and --redis-password-file");
	if (strstr(redis->error, "not Redis's protocol") != NULL)
		return rt_strdup("something else than Redis answers there: "
				 "see --redis-host, --redis-port and --redis-socket");
	return NULL;
}

static char *redis_address(const struct rt_redis *redis)
{
	if (redis->unix_path != NULL)
		return rt_strdup(redis->unix_path);
	return rt_printf("%s:%d", redis->host, redis->options.port);
}

/* Each reason once: attempts follow each other quickly. */
static void redis_tell_away(struct rt_redis *redis)
{
	char *address, *fix;

	if (!redis_speaks(redis) || strcmp(redis->told, redis->error) == 0)
		return;
	snprintf(redis->told, sizeof(redis->told), "%s", redis->error);
	address = redis_address(redis);
	fix = redis_fix(redis);
	if (fix != NULL)
		RT_LOG(RT_ERROR, "Redis cannot be used", RT_S("redis", address),
		       RT_S("reason", redis->error), RT_S("fix", fix));
	else
		RT_LOG(RT_WARN, "Redis is away", RT_S("redis", address),
		       RT_S("reason", redis->error));
	free(fix);
	free(address);
}

static void redis_tell_back(struct rt_redis *redis)
{
	char *address;

	if (!redis_speaks(redis) || redis->told[0] == '\0')
		return;
	redis->told[0] = '\0';
	address = redis_address(redis);
	RT_LOG(RT_INFO, "Redis is back", RT_S("redis", address));
	free(address);
}

/* The first of each connection. */
static void redis_tell_denied(struct rt_redis *redis, const char *reason)
{
	if (!redis_speaks(redis) || redis->denied_told || redis->state != REDIS_UP)
		return;
	redis->denied_told = true;
	RT_LOG(RT_ERROR, "Redis denies the user a command", RT_S("user", redis->user),
	       RT_S("reason", reason),
	       RT_S("fix", "give the user its rights again; scripts/lib/redis-open does"));
}

/* The connection is of no use any more (redis->error says why): connect again later. */
static void redis_down(struct rt_redis *redis)
{
	int64_t spread = redis->retry_ms / 2 + 1;
	int64_t delay =
		redis->retry_ms * 3 / 4 + (int64_t)rt_loop_random(redis->loop, (uint64_t)spread);

	redis_tell_away(redis);
	redis->denied_told = false;
	redis_close(redis, RT_LOST);
	redis->retry_ms = RT_MIN(redis->retry_ms * 2, RETRY_MAX_MS);
	rt_timer_start(redis->loop, &redis->connect, delay, redis_connect);
}

static bool reply_begins(const redisReply *reply, const char *word)
{
	size_t length = strlen(word);

	return strncmp(reply->str, word, length) == 0 &&
	       (reply->str[length] == ' ' || reply->str[length] == '\0');
}

static int reply_status(const redisReply *reply)
{
	static const struct {
		const char *word;
		int status;
	} words[] = {
		{ "OOM", RT_FULL },
		{ "MISCONF", RT_FULL },
		{ "NOPERM", RT_DENIED },
		{ "NOAUTH", RT_DENIED },
		{ "WRONGPASS", RT_DENIED },
		{ "NOGROUP", RT_NOGROUP },
		{ "UNBLOCKED", RT_NOGROUP },
		{ "LOADING", RT_UNREADY },
		{ "READONLY", RT_UNREADY },
		{ "MASTERDOWN", RT_UNREADY },
		{ "BUSY", RT_UNREADY },
		{ "NOREPLICAS", RT_UNREADY },
		{ "TRYAGAIN", RT_UNREADY },
		{ "CLUSTERDOWN", RT_UNREADY },
		{ "NOSCRIPT", RT_UNREADY },
		{ "ERR Function not found", RT_UNREADY },
		/* What NOPERM becomes inside of a function. */
		{ "ERR The user executing the script can't", RT_DENIED },
	};

	if (reply->type != REDIS_REPLY_ERROR)
		return RT_OK;
	for (size_t i = 0; i < RT_LENGTH(words); i++) {
		if (reply_begins(reply, words[i].word))
			return words[i].status;
	}
	return RT_REMOTE;
}

/* Puts a command into the output buffer and its op into the queue. */
/* A length after its mark ('*' or '$'), with the end of the line. */
static char *put_length(char *at, char mark, size_t length)
{
	char digits[20];
	int count = 0;

	*at++ = mark;
	do {
		digits[count++] = (char)('0' + length % 10);
		length /= 10;
	} while (length > 0);
	while (count > 0)
		*at++ = digits[--count];
	*at++ = '\r';
	*at++ = '\n';
	return at;
}

/* Appends a command in Redis's protocol (RESP). hiredis's own formatting took a fifth of the order
 * service's time. */
static void redis_format(struct rt_buf *out, int argc, const char *const *argv,
			 const size_t *lengths)
{
	size_t size = 24;
	char *at;

	for (int i = 0; i < argc; i++)
		size += 26 + (lengths != NULL ? lengths[i] : strlen(argv[i]));
	if (out->length + size > out->capacity) {
		out->capacity = RT_MAX(out->capacity * 2, out->length + size);
		out->data = rt_realloc(out->data, out->capacity);
	}
	at = put_length(out->data + out->length, '*', (size_t)argc);
	for (int i = 0; i < argc; i++) {
		size_t length = lengths != NULL ? lengths[i] : strlen(argv[i]);

		at = put_length(at, '$', length);
		if (length > 0)
			memcpy(at, argv[i], length);
		at += length;
		*at++ = '\r';
		*at++ = '\n';
	}
	out->length = (size_t)(at - out->data);
}

static void redis_enqueue(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			  const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	redis_format(&redis->out, argc, argv, lengths);
	op->deadline_ms = rt_loop_now(redis->loop) + timeout_ms;
	rt_list_push(&redis->pending, &op->link);
	redis->pending_count++;
	if (!rt_timer_running(&redis->deadline) || redis->deadline.due_ms > op->deadline_ms)
		rt_timer_start(redis->loop, &redis->deadline, timeout_ms, redis_deadline_passed);
	rt_loop_defer(redis->loop, &redis->turn);
}

void rt_redis_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
		      const char *const *argv, const size_t *lengths, int64_t timeout_ms,
		      void (*done)(struct rt_redis_op *op, int status, const redisReply *reply))
{
	rt_list_init(&op->link);
	op->redis = redis;
	op->done = done;
	op->status = RT_OK;
	point_name(op, argc, argv, lengths);
	if (redis->state != REDIS_UP)
		op->status = RT_LOST;
	else if (RT_FAILPOINT2_STATUS("redis.command", op->what) != RT_OK)
		op->status = RT_LOST;
	else if (redis->pending_count >= redis->options.pending_max)
		op->status = RT_BUSY;
	if (op->status != RT_OK) {
		rt_list_push(&redis->refused, &op->link);
		rt_loop_defer(redis->loop, &redis->turn);
		return;
	}
	redis_enqueue(redis, op, argc, argv, lengths,
		      timeout_ms > 0 ? timeout_ms : redis->options.timeout_ms);
}

/* False: the connection is gone (and not taken down yet). */
static bool redis_write(struct rt_redis *redis)
{
	bool done;

	while (redis->out_sent < redis->out.length) {
		ssize_t sent = send(redis->context->fd, redis->out.data + redis->out_sent,
				    redis->out.length - redis->out_sent, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (sent < 0) {
			redis_set_error(redis, "write failed", strerror(errno));
			return false;
		}
		redis->out_sent += (size_t)sent;
	}
	done = redis->out_sent == redis->out.length;
	if (done) {
		redis_clear_out(redis);
		points_written(redis);
	}
	rt_watch_set(redis->watch, done ? RT_READABLE : RT_READABLE | RT_WRITABLE);
	return true;
}

static void redis_refuse(struct rt_redis *redis, int status)
{
	struct rt_list refused, *link;

	/* Moved aside: what these callbacks send and is refused waits for the next turn. */
	rt_list_init(&refused);
	rt_list_move(&refused, &redis->refused);
	while ((link = rt_list_pop(&refused)) != NULL) {
		struct rt_redis_op *op = RT_CONTAINER_OF(link, struct rt_redis_op, link);

		redis_end(op, status != RT_OK ? status : op->status, NULL);
	}
}

static void redis_turn(struct rt_task *task)
{
	struct rt_redis *redis = RT_CONTAINER_OF(task, struct rt_redis, turn);

	if (redis->freed) {
		free(redis);
		return;
	}
	redis_refuse(redis, RT_OK);
	if (redis->reset && redis->state != REDIS_AWAY) {
		redis_set_error(redis, "given up by this side", "");
		redis_close(redis, RT_CANCELED);
		rt_timer_start(redis->loop, &redis->connect, 0, redis_connect);
	}
	redis->reset = false;
	if ((redis->state == REDIS_GREETING || redis->state == REDIS_UP) && !redis_write(redis))
		redis_down(redis);
}

static void redis_tell(struct rt_redis_op *op, const redisReply *reply)
{
#ifdef TANDEM_FAILPOINTS
	char what[sizeof(op->what)];

	memcpy(what, op->what, sizeof(what)); /* the op may be gone after its done */
	if (RT_FAILPOINT2_STATUS("redis.answer", what) != RT_OK)
		redis_end(op, RT_LOST, NULL);
	else
		redis_end(op, reply_status(reply), reply);
	RT_FAILPOINT2("redis.done", what);
#else
	redis_end(op, reply_status(reply), reply);
#endif
}

/* ---- answers: all of one live in the connection's arena until its command has seen it ---- */

static redisReply *reply_new(const redisReadTask *task, int type)
{
	redisReply *reply = rt_arena_take(task->privdata, sizeof(*reply));

	*reply = (redisReply){ .type = type };
	if (task->parent != NULL)
		((redisReply *)task->parent->obj)->element[task->idx] = reply;
	return reply;
}

static void *reply_string(const redisReadTask *task, char *text, size_t length)
{
	redisReply *reply = reply_new(task, task->type);

	reply->str = rt_arena_take(task->privdata, length + 1);
	memcpy(reply->str, text, length);
	reply->str[length] = '\0';
	reply->len = length;
	return reply;
}

#if HIREDIS_MAJOR >= 1
typedef size_t reply_count;
#else
typedef int reply_count;
#endif
static void *reply_array(const redisReadTask *task, reply_count count)
{
	redisReply *reply = reply_new(task, REDIS_REPLY_ARRAY);

	reply->elements = (size_t)count;
	reply->element = rt_arena_take(task->privdata, (size_t)count * sizeof(reply->element[0]));
	memset(reply->element, 0, (size_t)count * sizeof(reply->element[0]));
	return reply;
}

static void *reply_integer(const redisReadTask *task, long long value)
{
	redisReply *reply = reply_new(task, REDIS_REPLY_INTEGER);

	reply->integer = value;
	return reply;
}

static void *reply_nil(const redisReadTask *task)
{
	return reply_new(task, REDIS_REPLY_NIL);
}

static void reply_leave(void *reply)
{
	(void)reply; /* goes with the arena */
}

static redisReplyObjectFunctions reply_functions = {
	.createString = reply_string,
	.createArray = reply_array,
	.createInteger = reply_integer,
	.createNil = reply_nil,
	.freeObject = reply_leave,
};

/* Gives one answer to the command that waits for it. False: there is none, a fault. */
static bool redis_answer(struct rt_redis *redis, redisReply *reply)
{
	struct rt_list *link = rt_list_pop(&redis->pending);
	struct rt_redis_op *op;

	if (link == NULL) {
		redis_set_error(redis, "unasked answer",
				reply->type == REDIS_REPLY_ERROR ? reply->str : "");
		return false;
	}
	redis->pending_count--;
	op = RT_CONTAINER_OF(link, struct rt_redis_op, link);
	if (reply_status(reply) == RT_DENIED)
		redis_tell_denied(redis, reply->str);
	redis_tell(op, reply);
	rt_arena_reset(&redis->replies);
	return true;
}

/* Answers all that has arrived so far. False: the connection is of no use. */
static bool redis_parse(struct rt_redis *redis)
{
	void *reply = NULL;

	while (redis->state == REDIS_GREETING || redis->state == REDIS_UP) {
		if (redisReaderGetReply(redis->context->reader, &reply) != REDIS_OK) {
			redis_set_error(redis, "not Redis's protocol",
					redis->context->reader->errstr);
			return false;
		}
		if (reply == NULL)
			return true;
		if (!redis_answer(redis, reply))
			return false;
	}
	return false; /* the greeting failed */
}

/* False: the connection is gone (and not taken down yet). */
static bool redis_read(struct rt_redis *redis)
{
	char bytes[READ_BYTES];

	for (int i = 0; i < READS_MAX; i++) {
		ssize_t length = recv(redis->context->fd, bytes, sizeof(bytes), 0);

		if (length < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
				return true;
			redis_set_error(redis, "read failed", strerror(errno));
			return false;
		}
		if (length == 0) {
			redis_set_error(redis, "closed by the server", "");
			return false;
		}
		if (redisReaderFeed(redis->context->reader, bytes, (size_t)length) != REDIS_OK) {
			redis_set_error(redis, "read failed", redis->context->reader->errstr);
			return false;
		}
		if (!redis_parse(redis))
			return false;
		if ((size_t)length < sizeof(bytes))
			return true;
	}
	return true;
}

static int64_t redis_first_deadline(const struct rt_redis *redis)
{
	int64_t first = INT64_MAX;

	for (struct rt_list *link = redis->pending.next; link != &redis->pending;
	     link = link->next) {
		struct rt_redis_op *op = RT_CONTAINER_OF(link, struct rt_redis_op, link);

		first = RT_MIN(first, op->deadline_ms);
	}
	return first;
}

static void redis_deadline_passed(struct rt_timer *timer)
{
	struct rt_redis *redis = RT_CONTAINER_OF(timer, struct rt_redis, deadline);
	int64_t now = rt_loop_now(redis->loop), first;

	/* When this process was held up, the answers lie in the socket. */
	if (redis_first_deadline(redis) <= now && !redis_read(redis)) {
		redis_down(redis);
		return;
	}
	first = redis_first_deadline(redis);
	if (first <= now) {
		redis_set_error(redis, "no answer in time", "");
		redis_down(redis);
	} else if (first != INT64_MAX) {
		rt_timer_start(redis->loop, timer, first - now, redis_deadline_passed);
	}
}

/* ---- the server's clock (clock.h) ---- */

static void name_told(struct rt_redis_op *op, int status, const redisReply *reply)
{
	(void)status;
	(void)reply;
	op->redis->time.naming = false;
}

/* CLIENT LIST shows which connections come from a machine whose clock is wrong. */
static void tell_name(struct rt_redis *redis, int64_t ahead_ms)
{
	char name[128];

	if (redis->options.name == NULL || redis->time.naming || redis->state != REDIS_UP)
		return;
	snprintf(name, sizeof(name), "%s", redis->options.name);
	if (redis->time.wall_is_wrong)
		snprintf(name, sizeof(name), "%.96s@clock%+lld", redis->options.name,
			 (long long)(ahead_ms / 1000));
	redis->time.naming = true;
	redis->time.name_op.redis = redis;
	rt_redis_command(redis, &redis->time.name_op, 3,
			 (const char *[]){ "CLIENT", "SETNAME", name }, NULL, 0, name_told);
}

static void compare_wall(struct rt_redis *redis)
{
	int64_t ahead_ms = rt_clock_wall_ahead_ms(redis->time.clock.offset_us);
	bool wrong = ahead_ms > RT_CLOCK_WRONG_MS || ahead_ms < -RT_CLOCK_WRONG_MS;

	if (redis->time.offset_seconds != NULL)
		rt_series_set(redis->time.offset_seconds, (double)ahead_ms / 1000);
	if (wrong == redis->time.wall_is_wrong)
		return;
	redis->time.wall_is_wrong = wrong;
	if (wrong)
		RT_LOG(RT_WARN, "this machine's clock is wrong: Redis's time is used",
		       RT_I("ahead_ms", ahead_ms));
	else
		RT_LOG(RT_INFO, "this machine's clock is right again", RT_I("ahead_ms", ahead_ms));
	tell_name(redis, ahead_ms);
}

static int64_t reply_us(const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[1]->type != REDIS_REPLY_STRING)
		return -1;
	return strtoll(reply->element[0]->str, NULL, 10) * 1000000 +
	       strtoll(reply->element[1]->str, NULL, 10);
}

static void note_time(struct rt_redis *redis, const redisReply *reply)
{
	int64_t server_us = reply_us(reply);

	if (server_us < 0)
		return;
	rt_clock_sample(&redis->time.clock, redis->time.sent_us, rt_monotonic_ns() / 1000,
			server_us);
	rt_loop_set_unix(redis->loop, redis->time.clock.offset_us);
	compare_wall(redis);
}

static void ask_time(struct rt_timer *timer);

static void time_told(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct rt_redis *redis = op->redis;

	if (redis->state != REDIS_UP)
		return; /* the greeting asks anew */
	if (status == RT_OK)
		note_time(redis, reply);
	rt_timer_start(redis->loop, &redis->time.timer, TIME_EVERY_MS, ask_time);
}

static void ask_time(struct rt_timer *timer)
{
	struct rt_redis *redis = RT_CONTAINER_OF(timer, struct rt_redis, time.timer);

	redis->time.sent_us = rt_monotonic_ns() / 1000;
	redis->time.op.redis = redis;
	rt_redis_command(redis, &redis->time.op, 1, (const char *[]){ "TIME" }, NULL, 0, time_told);
}

static void redis_greeted(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct rt_redis *redis = op->redis;
	bool is_auth = op == &redis->greetings[0] && redis->options.user != NULL;

	if (reply == NULL)
		return; /* the connection went; redis_down sees to the rest */
	/* A user need not be allowed to set a name or to ping, and a full disk (MISCONF, to a PING)
	 * still lets others read. */
	if (status == RT_UNREADY ||
	    (status != RT_OK && (is_auth || reply_begins(reply, "NOAUTH")))) {
		redis_set_error(redis, is_auth ? "AUTH" : "greeting", reply->str);
		redis->state = REDIS_AWAY; /* redis_parse stops, redis_ready takes it down */
		return;
	}
	if (status == RT_OK && reply->type == REDIS_REPLY_ARRAY)
		note_time(redis, reply);
	if (--redis->greetings_left > 0)
		return;
	redis->state = REDIS_UP;
	if (redis->options.follow_clock)
		rt_timer_start(redis->loop, &redis->time.timer, TIME_EVERY_MS, ask_time);
	if (redis->time.wall_is_wrong)
		tell_name(redis, rt_clock_wall_ahead_ms(redis->time.clock.offset_us));
	redis->retry_ms = RETRY_MIN_MS;
	redis->error[0] = '\0';
	redis_tell_back(redis);
	rt_timer_stop(redis->loop, &redis->connect);
	if (redis->options.on_state != NULL)
		redis->options.on_state(redis, true, redis->options.user_data);
}

static void redis_greeting(struct rt_redis *redis, int argc, const char *const *argv)
{
	struct rt_redis_op *op = &redis->greetings[redis->greetings_left++];

	*op = (struct rt_redis_op){ .redis = redis, .done = redis_greeted };
	rt_list_init(&op->link);
	point_name(op, argc, argv, NULL);
	redis_enqueue(redis, op, argc, argv, NULL, redis->options.timeout_ms);
}

static void redis_greet(struct rt_redis *redis)
{
	redis->state = REDIS_GREETING;
	if (redis->options.user != NULL)
		redis_greeting(redis, 3, (const char *[]){ "AUTH", redis->user, redis->password });
	if (redis->options.name != NULL)
		redis_greeting(redis, 3, (const char *[]){ "CLIENT", "SETNAME", redis->name });
	if (redis->options.follow_clock) {
		redis->time.sent_us = rt_monotonic_ns() / 1000;
		redis_greeting(redis, 1, (const char *[]){ "TIME" });
	}
	redis_greeting(redis, 1, (const char *[]){ "PING" });
}

/* False: connecting failed. */
static bool redis_connected(struct rt_redis *redis)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(redis->context->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error != 0) {
		redis_set_error(redis, "cannot connect", strerror(error));
		return false;
	}
	redis_greet(redis);
	return true;
}

static void redis_ready(void *user, int events)
{
	struct rt_redis *redis = user;
	bool alive = true;

	if (redis->state == REDIS_CONNECTING) {
		alive = redis_connected(redis);
	} else {
		if (events & RT_READABLE)
			alive = redis_read(redis);
		if (alive && (events & RT_WRITABLE))
			alive = redis_write(redis);
	}
	if (!alive)
		redis_down(redis);
}

static void redis_connect_timeout(struct rt_timer *timer)
{
	struct rt_redis *redis = RT_CONTAINER_OF(timer, struct rt_redis, connect);

	redis_set_error(redis, "cannot connect", "no answer in time");
	redis_down(redis);
}

static void redis_connect(struct rt_timer *timer)
{
	struct rt_redis *redis = RT_CONTAINER_OF(timer, struct rt_redis, connect);
	redisContext *context;

	if (redis->unix_path != NULL)
		context = redisConnectUnixNonBlock(redis->unix_path);
	else
		context = redisConnectNonBlock(redis->host, redis->options.port);
	redis->context = context;
	if (context == NULL || context->err != 0) {
		redis_set_error(redis, "cannot connect",
				context == NULL ? "out of memory" : context->errstr);
		redis_down(redis);
		return;
	}
	context->reader->maxbuf = READER_KEEP;
	context->reader->fn = &reply_functions;
	context->reader->privdata = &redis->replies;
	rt_arena_reset(&redis->replies); /* of an answer that never came whole */
	if (rt_watch_new(redis->loop, context->fd, redis_ready, redis, &redis->watch) != RT_OK) {
		redis_set_error(redis, "cannot connect", "cannot watch the socket");
		redis_down(redis);
		return;
	}
	redis->state = REDIS_CONNECTING;
	rt_watch_set(redis->watch, RT_WRITABLE);
	rt_timer_start(redis->loop, &redis->connect, redis->options.timeout_ms,
		       redis_connect_timeout);
}

static bool is_blank(const char *s)
{
	return s == NULL || *s == '\0';
}

static char *copy_or_null(const char *s)
{
	return is_blank(s) ? NULL : rt_strdup(s);
}

int rt_redis_new(struct rt_loop *loop, const struct rt_redis_options *options,
		 struct rt_redis **ret)
{
	struct rt_redis *redis;

	if (is_blank(options->unix_path) && is_blank(options->host))
		return RT_INVALID;
	redis = rt_alloc(sizeof(*redis));
	redis->loop = loop;
	redis->options = *options;
	redis->unix_path = copy_or_null(options->unix_path);
	redis->host = copy_or_null(options->host);
	redis->user = copy_or_null(options->user);
	redis->name = copy_or_null(options->name);
	redis->password_file = copy_or_null(options->password_file);
	redis->password = rt_strdup(options->password != NULL ? options->password : "");
	/* Nothing of the caller's is kept, not even by mistake. */
	redis->options.host = redis->host;
	redis->options.unix_path = redis->unix_path;
	redis->options.user = redis->user;
	redis->options.password = redis->password;
	redis->options.name = redis->name;
	redis->options.password_file = redis->password_file;
	if (redis->options.timeout_ms <= 0)
		redis->options.timeout_ms = TIMEOUT_MS;
	if (redis->options.pending_max == 0)
		redis->options.pending_max = PENDING_MAX;
	if (redis->options.metrics != NULL && redis->options.follow_clock)
		redis->time.offset_seconds = rt_metric_plain(
			redis->options.metrics, RT_GAUGE, "tandem_clock_offset_seconds",
			"How far this machine's wall clock is ahead of Redis's, by which is "
			"decided.");
	redis->retry_ms = RETRY_MIN_MS;
	redis->turn.run = redis_turn;
	rt_list_init(&redis->pending);
	rt_list_init(&redis->refused);
	redis_set_error(redis, "not connected yet", "");
	rt_timer_start(loop, &redis->connect, 0, redis_connect);
	*ret = redis;
	return RT_OK;
}

void rt_redis_free(struct rt_redis *redis)
{
	if (redis == NULL)
		return;
	redis->options.on_state = NULL;
	redis_close(redis, RT_CANCELED);
	/* What the callbacks sent meanwhile was refused. */
	while (!rt_list_empty(&redis->refused))
		redis_refuse(redis, RT_CANCELED);
	free(redis->host);
	free(redis->unix_path);
	free(redis->user);
	free(redis->password);
	free(redis->password_file);
	free(redis->name);
	rt_arena_done(&redis->replies);
	rt_buf_done(&redis->out);
	if (redis->turn.queued)
		redis->freed = true;
	else
		free(redis);
}

void rt_redis_reset(struct rt_redis *redis)
{
	redis->reset = true;
	rt_loop_defer(redis->loop, &redis->turn);
}

bool rt_redis_up(const struct rt_redis *redis)
{
	return redis->state == REDIS_UP;
}

const char *rt_redis_error(const struct rt_redis *redis)
{
	return redis->state == REDIS_UP ? "" : redis->error;
}

size_t rt_redis_pending(const struct rt_redis *redis)
{
	return redis->pending_count;
}

/* Arguments. */

static void args_reserve(struct rt_args *args)
{
	if (args->count < args->capacity)
		return;
	args->capacity = args->capacity == 0 ? 16 : args->capacity * 2;
	args->argv = rt_realloc(args->argv, (size_t)args->capacity * sizeof(*args->argv));
	args->lengths = rt_realloc(args->lengths, (size_t)args->capacity * sizeof(*args->lengths));
	args->text_at = rt_realloc(args->text_at, (size_t)args->capacity * sizeof(*args->text_at));
}

void rt_args_add(struct rt_args *args, const void *data, size_t length)
{
	args_reserve(args);
	args->argv[args->count] = length == 0 ? "" : data;
	args->lengths[args->count] = length;
	args->text_at[args->count] = 0;
	args->count++;
}

void rt_args_str(struct rt_args *args, const char *s)
{
	rt_args_add(args, s, strlen(s));
}

void rt_args_copy(struct rt_args *args, const void *data, size_t length)
{
	size_t at = args->text.length;

	rt_buf_add(&args->text, data, length);
	rt_args_add(args, NULL, 0);
	args->lengths[args->count - 1] = length;
	args->text_at[args->count - 1] = at + 1;
}

void rt_args_int(struct rt_args *args, int64_t n)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%lld", (long long)n);

	rt_args_copy(args, text, (size_t)length);
}

void rt_args_clear(struct rt_args *args)
{
	args->count = 0;
	args->text.length = 0;
}

void rt_args_done(struct rt_args *args)
{
	free(args->argv);
	free(args->lengths);
	free(args->text_at);
	rt_buf_done(&args->text);
	*args = (struct rt_args){ .count = 0 };
}

void rt_redis_send(struct rt_redis *redis, struct rt_redis_op *op, struct rt_args *args,
		   int64_t timeout_ms,
		   void (*done)(struct rt_redis_op *op, int status, const redisReply *reply))
{
	/* Only now: the text may have moved while it grew. */
	for (int i = 0; i < args->count; i++) {
		if (args->text_at[i] != 0 && args->lengths[i] != 0)
			args->argv[i] = args->text.data + args->text_at[i] - 1;
	}
	rt_redis_command(redis, op, args->count, args->argv, args->lengths, timeout_ms, done);
}

/* Functions. */

void rt_args_function(struct rt_args *args, const struct rt_functions *functions,
		      const char *function)
{
	const char *const parts[] = { functions->name, function, functions->version };
	size_t start = args->text.length;

	rt_args_str(args, "FCALL");
	for (size_t i = 0; i < RT_LENGTH(parts); i++) {
		if (i > 0)
			rt_buf_add(&args->text, "_", 1);
		rt_buf_add(&args->text, parts[i], strlen(parts[i]));
	}
	rt_args_add(args, NULL, 0);
	args->lengths[args->count - 1] = args->text.length - start;
	args->text_at[args->count - 1] = start + 1;
}

static void functions_note(struct rt_functions_op *ensure, int status, const redisReply *reply)
{
	bool told = status != RT_OK && reply != NULL && reply->type == REDIS_REPLY_ERROR;

	snprintf(ensure->error, sizeof(ensure->error), "%s", told ? reply->str : "");
}

static void functions_loaded(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct rt_functions_op *ensure = RT_CONTAINER_OF(op, struct rt_functions_op, op);

	functions_note(ensure, status, reply);
	ensure->done(ensure, status);
}

static void functions_asked(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct rt_functions_op *ensure = RT_CONTAINER_OF(op, struct rt_functions_op, op);
	const struct rt_functions *functions = ensure->functions;
	bool missing = status == RT_UNREADY && reply_begins(reply, "ERR Function not found");
	bool same = status == RT_OK && reply->type == REDIS_REPLY_STRING &&
		    strcmp(reply->str, functions->version) == 0;

	if (same || (status != RT_OK && !missing)) {
		functions_note(ensure, status, reply);
		ensure->done(ensure, status);
		return;
	}
	ensure->missing = true;
	rt_redis_command(ensure->redis, op, 4,
			 (const char *[]){ "FUNCTION", "LOAD", "REPLACE", functions->code },
			 (const size_t[]){ 8, 4, 7, functions->code_length }, 0, functions_loaded);
}

void rt_functions_ensure(struct rt_redis *redis, struct rt_functions_op *op,
			 const struct rt_functions *functions,
			 void (*done)(struct rt_functions_op *op, int status))
{
	struct rt_args args = { .count = 0 };

	op->redis = redis;
	op->functions = functions;
	op->done = done;
	op->missing = false;
	op->error[0] = '\0';
	rt_args_function(&args, functions, "version");
	rt_args_str(&args, "0");
	rt_redis_send(redis, &op->op, &args, 0, functions_asked);
	rt_args_done(&args);
}
