/* http_calls.c - see http_calls_internal.h. A request, thread by thread:
 *
 *   libmicrohttpd's thread                       the loop
 *   on_request
 *     begin           may it, and what is it?
 *     take_body       as it comes
 *     ask             messages → protobuf  ───▶  start        rt_http_call_start
 *                     set aside                  on_message   kept in `answers`; woken, if there may be more
 *                                                done         the status is there; woken, a long one in its turn
 *   respond_one       an answer that is the only one
 *   read_stream       all others, as they come ▶ sent         the handler may go on
 *   on_end            answered, or gone        ▶ left         the call is cancelled
 *
 * Between the threads stands one lock. An exchange lives until both have let it go (`users`).
 *
 * libmicrohttpd does not look at a connection that is set aside, so the loop looks once a second whether its client has gone
 * (look), and at the same time ends bodies that take too long.
 *
 * What is held is bounded: a body by the largest message; all bodies and answers together by HELD_MAX_BYTES, beyond which
 * requests are refused, but for small ones (SMALL_BYTES) whose answers are small, so that large ones do not keep others out;
 * connections by CONNECTIONS_MAX: for one more one without a call goes.
 *
 * Writing an answer as JSON takes a quarter of a millisecond for SMALL_BYTES of protobuf, and libmicrohttpd's thread goes through all
 * connections that it may go on with before it reads again. So of longer answers it may go on with one at a time (`turns`): requests of
 * others come in between. */
#include "http_calls_internal.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "grpc/health/v1/health.pb-c.h"
#include "http.h"
#include "http_origins.h"
#include "http_protocol.h"
#include "interpose/interpose.h"

#define CONNECTIONS_MAX 1024
#define IDLE_S          30
#define CLOSE_MS        1000 /* for answers that are made, at the end */
#define CLOSE_EVERY_MS  10
#define LOOK_MS         1000
#define BODY_MS         30000
#define HELD_MAX_BYTES  (INT64_C(48) * 1024 * 1024)
#define NO_ROOM         "requests and answers of others take %lld bytes, which is all there is"
#define SMALL_BYTES     ((size_t)16 * 1024)
#define BLOCK_BYTES     (32 * 1024)
#define RETRY_MS        1000
#define PREFLIGHT_AGE   "7200"
#define REQUEST_HEADERS                                                                            \
	"authorization, connect-protocol-version, connect-timeout-ms, content-type, "              \
	"grpc-timeout, "                                                                           \
	"traceparent, tracestate, x-grpc-web, x-user-agent"
#define ANSWER_HEADERS "grpc-message, grpc-status, grpc-status-details-bin, retry-after"

struct rt_http_calls {
	struct rt_loop *loop;
	struct rt_http *http;
	struct rt_server *server;
	const ProtobufCServiceDescriptor *const *services;
	size_t message_max_bytes;
	bool tls;
	struct http_origins *origins;
	struct rt_metric *requests;
	struct rt_series *held;
	struct rt_timer look_timer;
	pthread_mutex_t lock; /* of what follows, and of what exchanges say is behind it */
	struct rt_list exchanges;
	struct rt_list turns; /* exchanges whose answers are long; the first is awake */
	size_t exchange_count;
	size_t pending; /* calls that have not ended, and tasks that have not run */
	int64_t held_bytes;
	bool closing, given_up; /* answers that are not written are not written any more */
	struct rt_timer closing_timer;
	int64_t close_by_ms;
	void (*closed)(void *user);
	void *closed_user;
};

/* A message of an answer that has not gone yet. */
struct answer {
	struct answer *next;
	struct rt_buf bytes;
};

struct exchange {
	struct rt_http_calls *calls;
	struct MHD_Connection *connection;
	/* What has come; libmicrohttpd's thread. */
	struct http_format format;
	bool formatted; /* `format` is known */
	const ProtobufCMethodDescriptor *method;
	char *origin; /* that may read the answer; or NULL */
	char *path, *authorization, *traceparent, *tracestate;
	struct rt_buf body;
	struct http_messages messages;
	int64_t timeout_ms;
	bool preflight, asked, called;
	bool closes; /* the connection, when it is answered */
	bool one_answer; /* the method answers once; messages of those that stream wait for the client one by one */
	unsigned int refused; /* its status of HTTP; 0: it is not */
	struct rt_status refusal;
	/* What is being sent; the same thread. */
	struct rt_buf text;
	size_t text_at;
	bool end_written;
	/* The loop's. */
	struct rt_http_call call;
	struct rt_task start_task, left_task, sent_task;
	/* Behind the lock. */
	struct rt_list link; /* calls->exchanges */
	struct rt_list turn; /* calls->turns; empty: it waits for none */
	int users;
	int fd;
	int64_t begun_ms;
	int64_t held_bytes;
	bool complete; /* its body is there */
	bool under_way, left, suspended, sent_posted;
	bool no_room; /* the answer was too large, beside those of others */
	size_t sent_bytes;
	struct answer *answers, **answers_end;
	bool ended;
	struct rt_status status;
};

static int64_t now_ms(void)
{
	return rt_monotonic_ns() / 1000000;
}

/* ---- exchanges ---- */

/* The lock is held. */
static void hold(struct exchange *exchange, int64_t bytes)
{
	struct rt_http_calls *calls = exchange->calls;

	exchange->held_bytes += bytes;
	calls->held_bytes += bytes;
	rt_series_set(calls->held, (double)calls->held_bytes);
}

/* Whether a body or an answer of so many bytes may be held. The lock is held. */
static bool has_room(const struct rt_http_calls *calls, size_t bytes)
{
	return calls->held_bytes <= HELD_MAX_BYTES || bytes <= SMALL_BYTES;
}

static void say_no_room(struct rt_status *status)
{
	rt_status_set(status, RT_CODE_RESOURCE_EXHAUSTED, NO_ROOM, (long long)HELD_MAX_BYTES);
	rt_status_retry(status, RETRY_MS);
}

/* Takes NULL. */
static void answer_free(struct answer *answer)
{
	if (answer == NULL)
		return;
	rt_buf_done(&answer->bytes);
	free(answer);
}

static void drop_answers(struct exchange *exchange)
{
	struct answer *answer;

	while ((answer = exchange->answers) != NULL) {
		exchange->answers = answer->next;
		answer_free(answer);
	}
	exchange->answers_end = &exchange->answers;
}

static void exchange_free(struct exchange *exchange)
{
	drop_answers(exchange);
	http_messages_done(&exchange->messages);
	rt_buf_done(&exchange->body);
	rt_buf_done(&exchange->text);
	rt_status_done(&exchange->refusal);
	rt_status_done(&exchange->status);
	rt_http_peer_free(exchange->call.peer);
	free(exchange->origin);
	free(exchange->path);
	free(exchange->authorization);
	free(exchange->traceparent);
	free(exchange->tracestate);
	free(exchange);
}

static void let_go(struct exchange *exchange)
{
	struct rt_http_calls *calls = exchange->calls;
	bool last;

	pthread_mutex_lock(&calls->lock);
	last = --exchange->users == 0;
	if (last)
		hold(exchange, -exchange->held_bytes);
	pthread_mutex_unlock(&calls->lock);
	if (last)
		exchange_free(exchange);
}

/* Until finished. The lock is held. */
static void post(struct exchange *exchange, struct rt_task *task)
{
	exchange->users++;
	exchange->calls->pending++;
	rt_loop_post(exchange->calls->loop, task);
}

/* On the loop. */
static void finished(struct exchange *exchange)
{
	struct rt_http_calls *calls = exchange->calls;

	let_go(exchange);
	pthread_mutex_lock(&calls->lock);
	calls->pending--;
	pthread_mutex_unlock(&calls->lock);
}

/* There is something to send. The lock is held. */
static void wake(struct exchange *exchange)
{
	if (!exchange->suspended || exchange->left)
		return;
	exchange->suspended = false;
	MHD_resume_connection(exchange->connection);
}

/* Its only answer is there, or a status. The lock is held. */
static void wake_in_turn(struct exchange *exchange)
{
	struct rt_list *turns = &exchange->calls->turns;
	bool first = rt_list_empty(turns);

	if (exchange->format.json && exchange->answers != NULL && !exchange->left &&
	    exchange->answers->bytes.length > SMALL_BYTES) {
		rt_list_push(turns, &exchange->turn);
		if (!first)
			return;
	}
	wake(exchange);
}

/* Its answer is written, or nobody waits for it any longer. The lock is held. */
static void pass_turn(struct exchange *exchange)
{
	struct rt_list *turns = &exchange->calls->turns;
	bool first = turns->next == &exchange->turn;

	rt_list_remove(&exchange->turn);
	if (first && !rt_list_empty(turns))
		wake(RT_CONTAINER_OF(turns->next, struct exchange, turn));
}

/* The lock is held. */
static void set_aside(struct exchange *exchange)
{
	exchange->suspended = true;
	MHD_suspend_connection(exchange->connection);
}

/* ---- on the loop ---- */

static void on_message(struct rt_http_call *call, struct rt_buf *bytes)
{
	struct exchange *exchange = RT_CONTAINER_OF(call, struct exchange, call);
	struct answer *answer = rt_alloc(sizeof(*answer));

	answer->bytes = *bytes;
	*bytes = (struct rt_buf){ 0 };
	pthread_mutex_lock(&exchange->calls->lock);
	if (exchange->one_answer && !has_room(exchange->calls, answer->bytes.length)) {
		exchange->no_room = true;
		pthread_mutex_unlock(&exchange->calls->lock);
		answer_free(answer);
		return;
	}
	*exchange->answers_end = answer;
	exchange->answers_end = &answer->next;
	hold(exchange, (int64_t)answer->bytes.length);
	/* The only answer of a call is not read before its status is there. */
	if (!exchange->one_answer)
		wake(exchange);
	pthread_mutex_unlock(&exchange->calls->lock);
}

static void done(struct rt_http_call *call, const struct rt_status *status)
{
	struct exchange *exchange = RT_CONTAINER_OF(call, struct exchange, call);
	struct rt_http_calls *calls = exchange->calls;

	pthread_mutex_lock(&calls->lock);
	rt_status_copy(&exchange->status, status);
	if (exchange->no_room && status->code == 0)
		say_no_room(&exchange->status);
	exchange->ended = true;
	exchange->under_way = false;
	if (exchange->one_answer)
		wake_in_turn(exchange);
	else
		wake(exchange);
	pthread_mutex_unlock(&calls->lock);
	finished(exchange);
}

static void start(struct rt_task *task)
{
	struct exchange *exchange = RT_CONTAINER_OF(task, struct exchange, start_task);

	exchange->call.messages = exchange->messages.list;
	exchange->call.message_count = exchange->messages.count;
	exchange->call.path = exchange->path;
	exchange->call.authorization = exchange->authorization;
	exchange->call.traceparent = exchange->traceparent;
	exchange->call.tracestate = exchange->tracestate;
	exchange->call.timeout_ms = exchange->timeout_ms;
	exchange->call.on_message = on_message;
	exchange->call.done = done;
	rt_http_call_start(exchange->calls->server, &exchange->call);
}

static void left(struct rt_task *task)
{
	struct exchange *exchange = RT_CONTAINER_OF(task, struct exchange, left_task);

	rt_http_call_cancel(&exchange->call);
	finished(exchange);
}

static void sent(struct rt_task *task)
{
	struct exchange *exchange = RT_CONTAINER_OF(task, struct exchange, sent_task);
	size_t bytes;

	pthread_mutex_lock(&exchange->calls->lock);
	bytes = exchange->sent_bytes;
	exchange->sent_bytes = 0;
	exchange->sent_posted = false;
	pthread_mutex_unlock(&exchange->calls->lock);
	rt_http_call_sent(&exchange->call, bytes);
	finished(exchange);
}

/* Of those that are set aside, whose client has gone; with a reference for each. The lock is held. */
static size_t find_left(struct rt_http_calls *calls, struct exchange **list)
{
	size_t count = 0;

	for (struct rt_list *link = calls->exchanges.next; link != &calls->exchanges;
	     link = link->next) {
		struct exchange *exchange = RT_CONTAINER_OF(link, struct exchange, link);
		struct pollfd fd = { .fd = exchange->fd, .events = POLLRDHUP };

		if (exchange->under_way && poll(&fd, 1, 0) > 0) {
			exchange->users++;
			list[count++] = exchange;
		} else if (!exchange->complete && now_ms() - exchange->begun_ms > BODY_MS) {
			shutdown(exchange->fd, SHUT_RDWR); /* libmicrohttpd closes it */
		}
	}
	return count;
}

static void look(struct rt_timer *timer)
{
	struct rt_http_calls *calls = RT_CONTAINER_OF(timer, struct rt_http_calls, look_timer);
	struct exchange **list;
	size_t count;

	pthread_mutex_lock(&calls->lock);
	list = rt_alloc((calls->exchange_count + 1) * sizeof(*list));
	count = find_left(calls, list);
	pthread_mutex_unlock(&calls->lock);
	for (size_t i = 0; i < count; i++) {
		rt_http_call_cancel(&list[i]->call);
		let_go(list[i]);
	}
	free(list);
	rt_timer_start(calls->loop, timer, LOOK_MS, look);
}

/* ---- answers ---- */

/* Sends the response, which it takes. */
static enum MHD_Result queue(struct exchange *exchange, unsigned int status,
			     struct MHD_Response *response, const char *type)
{
	static const char *const protocols[] = { "connect", "connect-stream", "grpc-web" };
	char text[8];
	enum MHD_Result result;

	if (response == NULL)
		return MHD_NO;
	snprintf(text, sizeof(text), "%u", status);
	rt_series_add(rt_metric_series(
			      exchange->calls->requests,
			      (const char *const[]){ exchange->formatted
							     ? protocols[exchange->format.protocol]
							     : "none",
						     text, NULL }),
		      1);
	if (type != NULL)
		MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Vary", "Origin");
	if (exchange->origin != NULL) {
		MHD_add_response_header(response, "Access-Control-Allow-Origin", exchange->origin);
		MHD_add_response_header(response, "Access-Control-Expose-Headers", ANSWER_HEADERS);
	}
	if (exchange->calls->tls)
		MHD_add_response_header(response, "Strict-Transport-Security", "max-age=31536000");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED || exchange->preflight)
		MHD_add_response_header(response, "Allow", "POST, OPTIONS");
	if (status == MHD_HTTP_UNAUTHORIZED)
		MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
	if (exchange->closes)
		MHD_add_response_header(response, "Connection", "close");
	if (status == MHD_HTTP_UNSUPPORTED_MEDIA_TYPE)
		MHD_add_response_header(response, "Accept-Post", http_formats);
	result = MHD_queue_response(exchange->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* Takes `text`. */
static struct MHD_Response *response_of(struct rt_buf *text)
{
	struct MHD_Response *response;

	rt_buf_add(text, "", 0);
	response = MHD_create_response_from_buffer(text->length, text->data, MHD_RESPMEM_MUST_FREE);
	if (response == NULL)
		rt_buf_done(text);
	return response;
}

static enum MHD_Result respond_preflight(struct exchange *exchange)
{
	struct rt_buf nothing = { 0 };
	struct MHD_Response *response = response_of(&nothing);

	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, "Access-Control-Allow-Methods", "POST");
	MHD_add_response_header(response, "Access-Control-Allow-Headers", REQUEST_HEADERS);
	MHD_add_response_header(response, "Access-Control-Max-Age", PREFLIGHT_AGE);
	return queue(exchange, MHD_HTTP_NO_CONTENT, response, NULL);
}

/* `http_status` 0: the one that Connect has for the code. */
static enum MHD_Result respond_error(struct exchange *exchange, const struct rt_status *status,
				     unsigned int http_status)
{
	struct rt_buf text = { 0 };
	unsigned int usual = http_error_write(status, &text);
	struct MHD_Response *response = response_of(&text);
	int64_t retry_ms = rt_status_retry_ms(status);
	char seconds[24];

	if (response != NULL && retry_ms >= 0) { /* for those that do not look into details */
		snprintf(seconds, sizeof(seconds), "%lld", (long long)(retry_ms + 999) / 1000);
		MHD_add_response_header(response, "Retry-After", seconds);
	}
	return queue(exchange, http_status != 0 ? http_status : usual, response,
		     "application/json");
}

/* The first of the answers that have not gone; NULL: there is none. The lock is held. */
static struct answer *take_answer(struct exchange *exchange)
{
	struct answer *answer = exchange->answers;

	if (answer == NULL)
		return NULL;
	exchange->answers = answer->next;
	if (exchange->answers == NULL)
		exchange->answers_end = &exchange->answers;
	exchange->sent_bytes += answer->bytes.length;
	hold(exchange, -(int64_t)answer->bytes.length);
	if (exchange->under_way && !exchange->sent_posted) {
		exchange->sent_posted = true;
		post(exchange, &exchange->sent_task);
	}
	return answer;
}

/* The text is held until the client has read it. */
static enum MHD_Result respond_unary(struct exchange *exchange)
{
	struct rt_http_calls *calls = exchange->calls;
	struct answer *answer;
	struct rt_buf text = { 0 };
	bool written, room;

	if (exchange->status.code != 0)
		return respond_error(exchange, &exchange->status, 0);
	pthread_mutex_lock(&calls->lock);
	answer = take_answer(exchange);
	pthread_mutex_unlock(&calls->lock);
	written = answer != NULL && http_message_write(&exchange->format, exchange->method->output,
						       &answer->bytes, &text);
	answer_free(answer);
	pthread_mutex_lock(&calls->lock);
	room = has_room(calls, text.length);
	if (written && room)
		hold(exchange, (int64_t)text.length);
	pthread_mutex_unlock(&calls->lock);
	if (written && room)
		return queue(exchange, MHD_HTTP_OK, response_of(&text),
			     exchange->format.content_type);
	rt_buf_done(&text);
	if (written)
		say_no_room(&exchange->status);
	else
		rt_status_set(&exchange->status, RT_CODE_INTERNAL, "the answer cannot be written");
	return respond_error(exchange, &exchange->status, 0);
}

/* Writes what is next. False: there is nothing yet, and the connection is set aside. */
static bool next_text(struct exchange *exchange)
{
	struct answer *answer;
	bool ended;

	exchange->text.length = exchange->text_at = 0;
	pthread_mutex_lock(&exchange->calls->lock);
	answer = take_answer(exchange);
	ended = answer == NULL && exchange->ended;
	if (answer == NULL && !ended)
		set_aside(exchange);
	pthread_mutex_unlock(&exchange->calls->lock);
	if (answer != NULL) {
		(void)http_message_write(&exchange->format, exchange->method->output,
					 &answer->bytes, &exchange->text);
		answer_free(answer);
	} else if (ended) {
		exchange->end_written = true;
		http_end_write(&exchange->format, &exchange->status, &exchange->text);
	}
	return answer != NULL || ended;
}

static ssize_t read_stream(void *user, uint64_t position, char *data, size_t most)
{
	struct exchange *exchange = user;
	size_t length;

	(void)position;
	while (exchange->text_at == exchange->text.length) {
		if (exchange->end_written)
			return MHD_CONTENT_READER_END_OF_STREAM;
		if (!next_text(exchange))
			return 0;
	}
	length = RT_MIN(most, exchange->text.length - exchange->text_at);
	memcpy(data, exchange->text.data + exchange->text_at, length);
	exchange->text_at += length;
	return (ssize_t)length;
}

static enum MHD_Result respond_stream(struct exchange *exchange)
{
	return queue(exchange, MHD_HTTP_OK,
		     MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_stream,
						       exchange, NULL),
		     exchange->format.content_type);
}

static enum MHD_Result respond_one(struct exchange *exchange)
{
	struct rt_http_calls *calls = exchange->calls;
	enum MHD_Result result;
	bool given_up;

	pthread_mutex_lock(&calls->lock);
	given_up = calls->given_up;
	pthread_mutex_unlock(&calls->lock);
	if (given_up) {
		result = MHD_NO;
	} else if (exchange->format.protocol == HTTP_CONNECT) {
		result = respond_unary(exchange);
	} else {
		(void)next_text(exchange); /* written now: it is its turn */
		result = respond_stream(exchange);
	}
	pthread_mutex_lock(&calls->lock);
	pass_turn(exchange);
	pthread_mutex_unlock(&calls->lock);
	return result;
}

/* Envelopes say how it ended by themselves. */
static enum MHD_Result respond_refusal(struct exchange *exchange)
{
	if (!exchange->formatted || exchange->format.protocol == HTTP_CONNECT ||
	    exchange->refused != MHD_HTTP_OK)
		return respond_error(exchange, &exchange->refusal,
				     exchange->refused != MHD_HTTP_OK ? exchange->refused : 0);
	rt_status_copy(&exchange->status, &exchange->refusal);
	exchange->ended = true;
	return respond_stream(exchange);
}

/* ---- what it is ---- */

static const char *header(const struct exchange *exchange, const char *name)
{
	return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

static char *header_copy(const struct exchange *exchange, const char *name)
{
	return rt_strdup(header(exchange, name));
}

/* The first refusal counts. `http_status` MHD_HTTP_OK: the usual one. */
static void RT_PRINTF(4, 5) refuse(struct exchange *exchange, unsigned int http_status, int code,
				   const char *format, ...);
static void refuse(struct exchange *exchange, unsigned int http_status, int code,
		   const char *format, ...)
{
	char text[512];
	va_list args;

	if (exchange->refused != 0)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	exchange->refused = http_status;
	rt_status_set(&exchange->refusal, code, "%s", text);
}

/* How often a request has each of these. */
struct framing {
	size_t lengths, encodings, hosts;
};

static enum MHD_Result count_framing(void *user, enum MHD_ValueKind kind, const char *name,
				     const char *value)
{
	struct framing *framing = user;

	(void)kind, (void)value;
	framing->lengths += strcasecmp(name, "Content-Length") == 0;
	framing->encodings += strcasecmp(name, "Transfer-Encoding") == 0;
	framing->hosts += strcasecmp(name, "Host") == 0;
	return MHD_YES;
}

/* A proxy in front may take another one of two lengths than libmicrohttpd, and what is the rest of a body here for the next
 * request. So nothing that comes behind such a one is read (RFC 9112, 6.3). */
static bool framing_good(struct exchange *exchange)
{
	struct framing framing = { 0 };

	(void)MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, count_framing,
					&framing);
	if (framing.lengths + framing.encodings <= 1 && framing.hosts <= 1)
		return true;
	exchange->closes = true;
	refuse(exchange, MHD_HTTP_BAD_REQUEST, RT_CODE_INVALID_ARGUMENT,
	       "the request has more than one of %s",
	       framing.hosts > 1 ? "Host" : "Content-Length and Transfer-Encoding");
	return false;
}

/* Browsers say by themselves for which page they ask. So whoever says nothing is none, and a page that may not is refused
 * whatever it asks for: also where a foreign name was made to lead here. */
static bool origin_good(struct exchange *exchange)
{
	const struct rt_http_calls *calls = exchange->calls;
	const char *origin = header(exchange, "Origin");
	bool good = origin == NULL || http_origins_allow(calls->origins, origin);

	if (good)
		exchange->origin = rt_strdup(origin);
	else
		refuse(exchange, MHD_HTTP_FORBIDDEN, RT_CODE_PERMISSION_DENIED,
		       "pages of %.200s may not call here: see the setting http-allow-origin",
		       origin);
	return good;
}

static const ProtobufCMethodDescriptor *method_in(const ProtobufCServiceDescriptor *service,
						  const char *path)
{
	size_t length = strlen(service->name);

	if (path[0] != '/' || strncmp(path + 1, service->name, length) != 0 ||
	    path[1 + length] != '/')
		return NULL;
	return protobuf_c_service_descriptor_get_method_by_name(service, path + 2 + length);
}

static const ProtobufCServiceDescriptor *find_method(struct exchange *exchange)
{
	const ProtobufCServiceDescriptor *const *services = exchange->calls->services;
	const ProtobufCServiceDescriptor *health = &grpc__health__v1__health__descriptor;

	for (; services != NULL && *services != NULL; services++) {
		exchange->method = method_in(*services, exchange->path);
		if (exchange->method != NULL)
			return *services;
	}
	exchange->method = method_in(health, exchange->path);
	return exchange->method != NULL ? health : NULL;
}

/* Streams have other types than calls with one answer, so that a client that takes one for the other is told so. */
static bool type_good(struct exchange *exchange, const ProtobufCServiceDescriptor *service)
{
	bool client_streams = false, server_streams = false, streams;
	const char *type = header(exchange, "Content-Type");

	(void)rt_descriptors_method(service->name, exchange->method->name, &client_streams,
				    &server_streams);
	streams = client_streams || server_streams;
	exchange->one_answer = !server_streams;
	if (!http_format_of(type, &exchange->format)) {
		refuse(exchange, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, RT_CODE_INVALID_ARGUMENT,
		       "the content type is none of %s", http_formats);
		return false;
	}
	exchange->formatted = true;
	if (exchange->format.protocol == HTTP_GRPC_WEB ||
	    streams == (exchange->format.protocol == HTTP_CONNECT_STREAM))
		return true;
	refuse(exchange, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, RT_CODE_INVALID_ARGUMENT,
	       streams ? "%s streams: its content type is application/connect+json or +proto"
		       : "%s does not stream: its content type is application/json or "
			 "application/proto",
	       exchange->path);
	return false;
}

static void check_headers(struct exchange *exchange)
{
	static const char *const encodings[] = { "Content-Encoding", "Connect-Content-Encoding",
						 "grpc-encoding" };
	const char *version = header(exchange, "Connect-Protocol-Version");
	bool grpc = exchange->format.protocol == HTTP_GRPC_WEB;

	for (size_t i = 0; i < RT_LENGTH(encodings); i++) {
		const char *encoding = header(exchange, encodings[i]);

		if (encoding != NULL && strcasecmp(encoding, "identity") != 0)
			refuse(exchange, MHD_HTTP_OK, RT_CODE_UNIMPLEMENTED,
			       "the message is compressed; only messages that are not are "
			       "accepted");
	}
	if (!grpc && version != NULL && strcmp(version, "1") != 0)
		refuse(exchange, MHD_HTTP_OK, RT_CODE_INVALID_ARGUMENT,
		       "connect-protocol-version is not 1");
	if (exchange->refused == 0 &&
	    !http_timeout_read(&exchange->format,
			       header(exchange, grpc ? "grpc-timeout" : "Connect-Timeout-Ms"),
			       &exchange->timeout_ms, &exchange->refusal))
		exchange->refused = MHD_HTTP_OK;
}

/* Who calls at the gRPC port has shown a certificate, where one is required; this is not to be a way around it. */
static void identify(struct exchange *exchange)
{
	struct rt_http_calls *calls = exchange->calls;
	void **kept = rt_http_data(exchange->connection);
	char uri[RT_HTTP_PEER_TEXT], *names[RT_HTTP_NAMES_MAX];
	size_t count = 0;
	bool shown;

	if (!rt_http_known(calls->http, exchange->connection))
		refuse(exchange, MHD_HTTP_OK, RT_CODE_UNAUTHENTICATED,
		       "a client certificate is required");
	if (*kept == NULL) {
		shown = rt_http_names(calls->http, exchange->connection, names, &count);
		rt_http_peer(exchange->connection, uri);
		*kept = rt_http_peer_new(uri, shown ? (const char *const *)names : NULL, count);
		while (count > 0)
			free(names[--count]);
	}
	exchange->call.peer = rt_http_peer_hold(*kept);
}

static void begin(struct exchange *exchange, const char *http_method)
{
	const ProtobufCServiceDescriptor *service;

	if (!framing_good(exchange) || !origin_good(exchange))
		return;
	exchange->preflight = strcmp(http_method, "OPTIONS") == 0;
	if (exchange->preflight)
		return;
	if (strcmp(http_method, "POST") != 0) {
		refuse(exchange, MHD_HTTP_METHOD_NOT_ALLOWED, RT_CODE_UNIMPLEMENTED,
		       "calls are made by POST");
		return;
	}
	service = find_method(exchange);
	if (service == NULL) {
		refuse(exchange, MHD_HTTP_NOT_FOUND, RT_CODE_UNIMPLEMENTED, "unknown method %.200s",
		       exchange->path);
		return;
	}
	if (!type_good(exchange, service))
		return;
	check_headers(exchange);
	identify(exchange);
	exchange->authorization = header_copy(exchange, "Authorization");
	exchange->traceparent = header_copy(exchange, "traceparent");
	exchange->tracestate = header_copy(exchange, "tracestate");
}

/* ---- requests ---- */

static struct exchange *exchange_new(struct rt_http_calls *calls, struct MHD_Connection *connection,
				     const char *path)
{
	struct exchange *exchange = rt_alloc(sizeof(*exchange));

	exchange->calls = calls;
	exchange->connection = connection;
	exchange->path = rt_strdup(path);
	exchange->answers_end = &exchange->answers;
	exchange->start_task.run = start;
	exchange->left_task.run = left;
	exchange->sent_task.run = sent;
	exchange->users = 1;
	exchange->begun_ms = now_ms();
	exchange->fd =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	pthread_mutex_lock(&calls->lock);
	rt_list_init(&exchange->turn);
	rt_list_init(&exchange->link);
	rt_list_push(&calls->exchanges, &exchange->link);
	calls->exchange_count++;
	pthread_mutex_unlock(&calls->lock);
	return exchange;
}

/* Base64 takes a third more, and the head of an envelope its bytes. */
static size_t body_most(const struct exchange *exchange)
{
	size_t most = exchange->calls->message_max_bytes;

	if (!exchange->formatted || exchange->format.protocol == HTTP_CONNECT)
		return most;
	return (most + 1024) * (exchange->format.base64 ? 4 : 3) / 3;
}

/* What is refused is read all the same: a client that is still sending would not see the answer. */
static void take_body(struct exchange *exchange, const char *data, size_t length)
{
	struct rt_http_calls *calls = exchange->calls;
	bool full;

	if (exchange->refused != 0 || exchange->preflight)
		return;
	if (length > body_most(exchange) - exchange->body.length) {
		refuse(exchange, MHD_HTTP_OK, RT_CODE_RESOURCE_EXHAUSTED,
		       "the body is larger than %zu bytes", body_most(exchange));
		return;
	}
	pthread_mutex_lock(&calls->lock);
	full = !has_room(calls, exchange->body.length + length);
	if (!full)
		hold(exchange, (int64_t)length);
	pthread_mutex_unlock(&calls->lock);
	if (full) {
		refuse(exchange, MHD_HTTP_OK, RT_CODE_RESOURCE_EXHAUSTED, NO_ROOM,
		       (long long)HELD_MAX_BYTES);
		rt_status_retry(&exchange->refusal, RETRY_MS);
		return;
	}
	rt_buf_add(&exchange->body, data, length);
}

/* The body is there. */
static enum MHD_Result ask(struct exchange *exchange)
{
	struct rt_http_calls *calls = exchange->calls;

	if (exchange->refused == 0 && !exchange->preflight &&
	    !http_messages_read(&exchange->format, exchange->method->input, &exchange->body,
				calls->message_max_bytes, &exchange->messages, &exchange->refusal))
		exchange->refused = MHD_HTTP_OK;
	if (exchange->format.json)
		rt_buf_done(&exchange->body);
	pthread_mutex_lock(&calls->lock);
	exchange->complete = true;
	if (calls->closing && exchange->refused == 0) {
		refuse(exchange, MHD_HTTP_OK, RT_CODE_UNAVAILABLE, "the server is shutting down");
		rt_status_retry(&exchange->refusal, RETRY_MS);
	}
	if (exchange->refused == 0 && !exchange->preflight) {
		exchange->under_way = true;
		post(exchange, &exchange->start_task);
		if (exchange->one_answer)
			set_aside(exchange);
	}
	pthread_mutex_unlock(&calls->lock);
	if (exchange->refused != 0)
		return respond_refusal(exchange);
	if (exchange->preflight)
		return respond_preflight(exchange);
	exchange->called = true;
	rt_connection_call(exchange->fd, true);
	return exchange->one_answer ? MHD_YES : respond_stream(exchange);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *body,
				  size_t *body_length, void **state)
{
	struct exchange *exchange = *state;

	(void)version;
	if (exchange == NULL) {
		*state = exchange = exchange_new(user, connection, url);
		begin(exchange, method);
		return MHD_YES;
	}
	if (*body_length > 0) {
		take_body(exchange, body, *body_length);
		*body_length = 0;
		return MHD_YES;
	}
	if (exchange->asked)
		return respond_one(exchange);
	exchange->asked = true;
	return ask(exchange);
}

static void on_end(void *user, struct MHD_Connection *connection, void **state,
		   enum MHD_RequestTerminationCode code)
{
	struct rt_http_calls *calls = user;
	struct exchange *exchange = *state;

	(void)connection, (void)code;
	if (exchange == NULL)
		return;
	if (exchange->called)
		rt_connection_call(exchange->fd, false);
	pthread_mutex_lock(&calls->lock);
	rt_list_remove(&exchange->link);
	calls->exchange_count--;
	exchange->left = true;
	pass_turn(exchange);
	if (exchange->under_way)
		post(exchange, &exchange->left_task);
	pthread_mutex_unlock(&calls->lock);
	let_go(exchange);
}

static void on_close(void *data)
{
	rt_http_peer_free(data);
}

/* ---- start and end ---- */

/* Whether an answer has not gone yet. The lock is held. */
static bool is_answering(const struct rt_http_calls *calls)
{
	for (struct rt_list *link = calls->exchanges.next; link != &calls->exchanges;
	     link = link->next) {
		if (RT_CONTAINER_OF(link, struct exchange, link)->complete)
			return true;
	}
	return false;
}

/* Nothing may be set aside when libmicrohttpd ends. The lock is held. */
static void give_up_answers(struct rt_http_calls *calls)
{
	struct rt_list *link;

	calls->given_up = true;
	while ((link = rt_list_pop(&calls->turns)) != NULL)
		wake(RT_CONTAINER_OF(link, struct exchange, turn));
}

/* Answers get the time to go; what is under way on the loop has to end first. */
static void close_if_done(struct rt_timer *timer)
{
	struct rt_http_calls *calls = RT_CONTAINER_OF(timer, struct rt_http_calls, closing_timer);
	bool done_with;

	pthread_mutex_lock(&calls->lock);
	done_with = calls->pending == 0 && (!is_answering(calls) || now_ms() >= calls->close_by_ms);
	if (done_with)
		give_up_answers(calls);
	pthread_mutex_unlock(&calls->lock);
	if (done_with)
		calls->closed(calls->closed_user);
	else
		rt_timer_start(calls->loop, timer, CLOSE_EVERY_MS, close_if_done);
}

static void add_metrics(struct rt_http_calls *calls, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "protocol", "status", NULL };

	calls->requests =
		rt_metric(metrics, RT_COUNTER, "tandem_http_requests_total",
			  "Requests over HTTP, by protocol and by HTTP's status; how calls "
			  "ended is in grpc_server_handled_total, whatever they came by.",
			  labels);
	calls->held = rt_metric_plain(metrics, RT_GAUGE, "tandem_http_held_bytes",
				      "Bytes of requests and answers over HTTP that are held.");
}

int rt_http_calls_new(struct rt_loop *loop, const struct rt_http_calls_options *options,
		      struct rt_http_calls **ret)
{
	struct rt_http_calls *calls = rt_alloc(sizeof(*calls));
	const struct rt_http_options http = {
		.listen = options->listen,
		.tls = options->tls,
		.connections_max = CONNECTIONS_MAX,
		.idle_s = IDLE_S,
		.suspends = true,
		.on_request = on_request,
		.on_end = on_end,
		.on_close = on_close,
		.user = calls,
	};
	int rc;

	calls->loop = loop;
	calls->server = options->server;
	calls->services = options->services;
	calls->message_max_bytes = (size_t)options->message_max_bytes;
	calls->tls = options->tls != NULL;
	rt_list_init(&calls->exchanges);
	rt_list_init(&calls->turns);
	pthread_mutex_init(&calls->lock, NULL);
	add_metrics(calls, options->metrics);
	rc = http_origins_read(options->allow_origins, &calls->origins);
	if (rc == RT_OK)
		rc = rt_http_new(&http, &calls->http);
	if (rc == RT_OK)
		*ret = calls;
	else
		rt_http_calls_free(calls);
	return rc;
}

int rt_http_calls_start(struct rt_http_calls *calls)
{
	rt_timer_start(calls->loop, &calls->look_timer, LOOK_MS, look);
	return rt_http_start(calls->http);
}

int rt_http_calls_port(const struct rt_http_calls *calls)
{
	return rt_http_port(calls->http);
}

void rt_http_calls_close(struct rt_http_calls *calls, void (*closed)(void *user), void *user)
{
	calls->closed = closed;
	calls->closed_user = user;
	pthread_mutex_lock(&calls->lock);
	calls->closing = true;
	pthread_mutex_unlock(&calls->lock);
	calls->close_by_ms = now_ms() + CLOSE_MS;
	rt_timer_start(calls->loop, &calls->closing_timer, 0, close_if_done);
}

void rt_http_calls_free(struct rt_http_calls *calls)
{
	if (calls == NULL)
		return;
	rt_timer_stop(calls->loop, &calls->look_timer);
	rt_timer_stop(calls->loop, &calls->closing_timer);
	rt_http_free(calls->http);
	pthread_mutex_destroy(&calls->lock);
	http_origins_free(calls->origins);
	free(calls);
}
