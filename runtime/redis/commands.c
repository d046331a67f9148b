/* commands.c - the commands under way on one connection: formatted as they come, sent in one write,
 * answered in order. */
#include "connection_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define READ_BYTES 16384
#define READS_MAX  64      /* in one turn: then others on the loop run */
#define OUT_KEEP   1048576 /* bytes of send buffer kept while idle */

/* Failpoints, at each step of each command, with its name (FCALL: the function's, without its
 * version):
 *   redis.command   about to be sent; may fail: it is not sent
 *   redis.written   written to the socket
 *   redis.answer    the answer has arrived, the caller was not called yet; may fail: it is lost
 *   redis.done      the caller's callback has returned */
#ifdef TANDEM_FAILPOINTS
void redis_commands_name(struct rt_redis_op *op, int argc, const char *const *argv,
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

static void points_written(struct redis_connection *connection)
{
	for (struct rt_list *link = connection->pending.next; link != &connection->pending;
	     link = link->next) {
		struct rt_redis_op *op = RT_CONTAINER_OF(link, struct rt_redis_op, link);

		if (!op->written)
			RT_FAILPOINT2("redis.written", op->what);
		op->written = true;
	}
}
#else
#define points_written(connection) ((void)0)
#endif

/* Everything was sent; frees a buffer that a burst made large. */
static void clear(struct rt_buf *out, size_t *sent)
{
	out->length = 0;
	*sent = 0;
	if (out->capacity > OUT_KEEP)
		rt_buf_done(out);
}

static void clear_out(struct redis_connection *connection)
{
	/* Before it is up, a password. */
	if (connection->state != REDIS_UP && connection->out.length > 0)
		explicit_bzero(connection->out.data, connection->out.length);
	clear(&connection->out, &connection->out_sent);
}

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

static void reserve(struct rt_buf *out, size_t size)
{
	if (out->length + size <= out->capacity)
		return;
	out->capacity = RT_MAX(out->capacity * 2, out->length + size);
	out->data = rt_realloc(out->data, out->capacity);
}

void redis_commands_reserve(struct redis_connection *connection, size_t bytes)
{
	reserve(&connection->out, bytes);
}

/* Appends a command in Redis's protocol (RESP). hiredis's own formatting took a fifth of the order
 * service's time. */
static void format(struct rt_buf *out, int argc, const char *const *argv, const size_t *lengths)
{
	size_t size = 24;
	char *at;

	for (int i = 0; i < argc; i++)
		size += 26 + (lengths != NULL ? lengths[i] : strlen(argv[i]));
	reserve(out, size);
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

void redis_commands_add(struct redis_connection *connection, struct rt_redis_op *op, int argc,
			const char *const *argv, const size_t *lengths)
{
	format(&connection->out, argc, argv, lengths);
	rt_list_push(&connection->pending, &op->link);
	connection->common.pending++;
}

/* False: errno says why nothing more can be sent. */
static bool send_all(int fd, const struct rt_buf *out, size_t *all_sent)
{
	while (*all_sent < out->length) {
		ssize_t sent =
			send(fd, out->data + *all_sent, out->length - *all_sent, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		*all_sent += (size_t)sent;
	}
	return true;
}

/* What is to be sent, sealed if there is TLS. False: it cannot be sealed. */
static bool choose_out(struct redis_connection *connection, struct rt_buf **out, size_t **sent)
{
	*out = &connection->out;
	*sent = &connection->out_sent;
	if (connection->tls == NULL)
		return true;
	if (!redis_tls_seal(connection))
		return false;
	clear_out(connection);
	redis_tls_out(connection, out, sent);
	return true;
}

bool redis_commands_write(struct redis_connection *connection)
{
	struct rt_buf *out;
	size_t *sent;
	bool done;

	if (!choose_out(connection, &out, &sent))
		return false;
	if (!send_all(connection->context->fd, out, sent)) {
		redis_trouble_set(connection, "write failed", strerror(errno));
		return false;
	}
	done = *sent == out->length;
	if (done) {
		if (connection->tls == NULL)
			clear_out(connection);
		else
			clear(out, sent);
		points_written(connection);
	}
	rt_watch_set(connection->watch, done ? RT_READABLE : RT_READABLE | RT_WRITABLE);
	return true;
}

static void end_answered(struct rt_redis_op *op, const redisReply *reply)
{
#ifdef TANDEM_FAILPOINTS
	char what[sizeof(op->what)];

	memcpy(what, op->what, sizeof(what)); /* the op may be gone after its done */
	if (RT_FAILPOINT2_STATUS("redis.answer", what) != RT_OK)
		op->done(op, RT_LOST, NULL);
	else
		op->done(op, rt_redis_reply_status(reply), reply);
	RT_FAILPOINT2("redis.done", what);
#else
	op->done(op, rt_redis_reply_status(reply), reply);
#endif
}

/* Gives one answer to the command that waits for it. False: no command waits, which is a fault. */
static bool answer(struct redis_connection *connection, redisReply *reply)
{
	struct rt_list *link = rt_list_pop(&connection->pending);
	struct rt_redis_op *op;

	if (link == NULL) {
		redis_trouble_set(connection, "unasked answer",
				  reply->type == REDIS_REPLY_ERROR ? reply->str : "");
		return false;
	}
	connection->common.pending--;
	op = RT_CONTAINER_OF(link, struct rt_redis_op, link);
	if (rt_redis_reply_status(reply) == RT_DENIED)
		redis_trouble_denied(connection, reply->str);
	end_answered(op, reply);
	rt_arena_reset(&connection->replies, REDIS_REPLIES_KEEP);
	return true;
}

/* Handles all answers that have arrived. False: the connection cannot be used any more. */
static bool parse(struct redis_connection *connection)
{
	void *reply = NULL;

	while (connection->state == REDIS_GREETING || connection->state == REDIS_UP) {
		if (redisReaderGetReply(connection->context->reader, &reply) != REDIS_OK) {
			redis_trouble_set(connection, "not Redis's protocol",
					  connection->context->reader->errstr);
			return false;
		}
		if (reply == NULL)
			return true;
		if (!answer(connection, reply))
			return false;
	}
	return false; /* the greeting failed */
}

/* Reads what the server says. False: as above. */
static bool feed(struct redis_connection *connection, const char *bytes, size_t length)
{
	if (redisReaderFeed(connection->context->reader, bytes, length) != REDIS_OK) {
		redis_trouble_set(connection, "read failed", connection->context->reader->errstr);
		return false;
	}
	return parse(connection);
}

/* The same of what arrived sealed. */
static bool feed_sealed(struct redis_connection *connection, const char *bytes, size_t length)
{
	enum redis_taken taken;
	char plain[READ_BYTES];
	struct rt_buf *out;
	size_t got, *sent;

	redis_tls_give(connection, bytes, length);
	while ((taken = redis_tls_take(connection, plain, sizeof(plain), &got)) == REDIS_TAKEN) {
		if (connection->state == REDIS_SECURING) {
			redis_trouble_set(connection, "unasked answer", "");
			return false;
		}
		if (!feed(connection, plain, got))
			return false;
	}
	if (taken == REDIS_TAKEN_ALL)
		return true;
	/* It is told why. */
	redis_tls_out(connection, &out, &sent);
	(void)send_all(connection->context->fd, out, sent);
	return false;
}

bool redis_commands_read(struct redis_connection *connection)
{
	char bytes[READ_BYTES];
	bool alive;

	for (int i = 0; i < READS_MAX; i++) {
		ssize_t length = recv(connection->context->fd, bytes, sizeof(bytes), 0);

		if (length < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
				return true;
			redis_trouble_set(connection, "read failed", strerror(errno));
			return false;
		}
		if (length == 0) {
			redis_trouble_set(connection,
					  connection->state == REDIS_SECURING
						  ? "TLS: closed by the server in the handshake"
						  : "closed by the server",
					  "");
			return false;
		}
		alive = connection->tls == NULL ? feed(connection, bytes, (size_t)length)
						: feed_sealed(connection, bytes, (size_t)length);
		if (!alive)
			return false;
		if ((size_t)length < sizeof(bytes))
			return true;
	}
	return true;
}

int64_t redis_commands_deadline(const struct redis_connection *connection)
{
	int64_t first = INT64_MAX;

	for (struct rt_list *link = connection->pending.next; link != &connection->pending;
	     link = link->next) {
		struct rt_redis_op *op = RT_CONTAINER_OF(link, struct rt_redis_op, link);

		first = RT_MIN(first, op->deadline_ms);
	}
	return first;
}

void redis_commands_take(struct redis_connection *connection, struct rt_list *taken)
{
	clear_out(connection);
	rt_list_init(taken);
	rt_list_move(taken, &connection->pending);
	connection->common.pending = 0;
}

void redis_commands_end(struct redis_connection *connection, struct rt_list *taken, int status)
{
	int64_t now = rt_loop_now(connection->common.loop);
	struct rt_list *link;

	while ((link = rt_list_pop(taken)) != NULL) {
		struct rt_redis_op *op = RT_CONTAINER_OF(link, struct rt_redis_op, link);
		bool late = status == RT_LOST && op->deadline_ms <= now;

		op->done(op, late ? RT_TIMEOUT : status, NULL);
	}
}
