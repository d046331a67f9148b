/* web.c - see web.h.
 *
 *   on_request
 *     begin            the headers are there: is the host ours?
 *     take_body        of a POST, as it comes
 *     answer           all is there
 *       serve_file, serve_live, serve_alarms, serve_me
 *       sign_in, sign_out
 *       serve_question   who asks may; its words; tandemctl is run; what it printed */
#include "web.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "questions.h"
#include "request.h"

#define BODY_BYTES_MAX  (SECRET_BYTES_MAX + 4096)
#define CONNECTIONS_MAX 96
#define IDLE_S          75
#define ALIVE_MS        15000 /* a stream that has nothing to say shows that it lives */
#define SIGN_IN_MS      10000
#define LOGIN_WORDS     8
#define POLICY                                                                                     \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "          \
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
#define JSON "application/json; charset=utf-8"

struct web {
	struct web_options options;
	struct rt_http *http;
	char cookie[48];      /* its name: pages of another port have another */
	pthread_mutex_t lock; /* of how many streams there are, and of saying so */
	int64_t streams;
	struct rt_metric *requests;
	struct rt_series *streams_open;
};

/* A request. */
struct exchange {
	struct rt_buf body;
	bool too_long;
	json_t *fields; /* of a POST */
	struct MHD_Connection *connection;
};

static int64_t now_ms(void)
{
	return rt_monotonic_ns() / 1000000;
}

static const char *header(struct exchange *exchange, const char *name)
{
	return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

/* ---- answers ---- */

static void add_headers(const struct web *web, struct MHD_Response *response, const char *type)
{
	static const char *const always[][2] = {
		{ "Content-Security-Policy", POLICY },
		{ "X-Content-Type-Options", "nosniff" },
		{ "Referrer-Policy", "no-referrer" },
		{ "Cross-Origin-Opener-Policy", "same-origin" },
		{ "Cross-Origin-Resource-Policy", "same-origin" },
		{ "Cache-Control", "no-store" },
	};

	for (size_t i = 0; i < RT_LENGTH(always); i++)
		MHD_add_response_header(response, always[i][0], always[i][1]);
	MHD_add_response_header(response, "Content-Type", type);
	if (web->options.tls != NULL)
		MHD_add_response_header(response, "Strict-Transport-Security", "max-age=31536000");
}

/* Sends the response, which it takes. */
static enum MHD_Result queue(struct web *web, struct exchange *exchange, unsigned int status,
			     struct MHD_Response *response)
{
	char text[8];
	enum MHD_Result result;

	snprintf(text, sizeof(text), "%u", status);
	rt_series_add(rt_metric_series(web->requests, (const char *const[]){ text, NULL }), 1);
	result = MHD_queue_response(exchange->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* Takes `text`. `cookie` NULL: none is set. */
static enum MHD_Result respond_with(struct web *web, struct exchange *exchange, unsigned int status,
				    struct rt_buf *text, const char *cookie)
{
	struct MHD_Response *response;

	rt_buf_add(text, NULL, 0);
	response = MHD_create_response_from_buffer(text->length, text->data, MHD_RESPMEM_MUST_FREE);
	if (response == NULL) {
		rt_buf_done(text);
		return MHD_NO;
	}
	add_headers(web, response, JSON);
	if (cookie != NULL)
		MHD_add_response_header(response, "Set-Cookie", cookie);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, "Allow", "GET, HEAD, POST");
	return queue(web, exchange, status, response);
}

static void add_json(struct rt_buf *text, json_t *json)
{
	char *dumped = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);

	rt_buf_printf(text, "%s", dumped == NULL ? "null" : dumped);
	free(dumped);
	json_decref(json);
}

/* A JSON string of text from outside. */
static void add_text(struct rt_buf *text, const char *string, size_t length)
{
	char *shown = rt_text_shown(string, length);

	add_json(text, json_string(shown));
	free(shown);
}

static enum MHD_Result RT_PRINTF(4, 5) refuse(struct web *web, struct exchange *exchange,
					      unsigned int status, const char *format, ...);
static enum MHD_Result refuse(struct web *web, struct exchange *exchange, unsigned int status,
			      const char *format, ...)
{
	struct rt_buf text = { 0 };
	char reason[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	rt_buf_printf(&text, "{\"error\":");
	add_text(&text, reason, strlen(reason));
	rt_buf_printf(&text, "}\n");
	return respond_with(web, exchange, status, &text, NULL);
}

/* ---- who asks ---- */

static bool cookie_of(const struct web *web, struct exchange *exchange,
		      char cookie[SESSION_COOKIE + 1])
{
	return request_cookie(header(exchange, "Cookie"), web->cookie, cookie, SESSION_COOKIE);
}

/* False: nobody who has signed in. */
static bool session_of(struct web *web, struct exchange *exchange, struct session *ret)
{
	char cookie[SESSION_COOKIE + 1];

	return cookie_of(web, exchange, cookie) &&
	       sessions_use(web->options.sessions, cookie, now_ms(), ret);
}

/* What a page asks by itself is no use of its session. */
static void note_use(struct web *web, struct exchange *exchange)
{
	struct session session = { 0 };

	if (header(exchange, "Tandem-Refresh") == NULL)
		(void)session_of(web, exchange, &session);
	session_done(&session);
}

static bool may_look(struct web *web, struct exchange *exchange)
{
	char cookie[SESSION_COOKIE + 1];

	return !web->options.public || (cookie_of(web, exchange, cookie) &&
					sessions_alive(web->options.sessions, cookie, now_ms()));
}

/* ---- the page ---- */

static enum MHD_Result serve_file(struct web *web, struct exchange *exchange,
				  const struct page_file *file)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		file->length, (void *)(uintptr_t)file->data, MHD_RESPMEM_PERSISTENT);

	if (response == NULL)
		return MHD_NO;
	add_headers(web, response, file->type);
	return queue(web, exchange, MHD_HTTP_OK, response);
}

static const struct page_file *find_file(const char *path)
{
	if (strcmp(path, "/") == 0)
		path = "/index.html";
	for (size_t i = 0; i < page_file_count; i++)
		if (strcmp(page_files[i].path, path) == 0)
			return &page_files[i];
	return NULL;
}

static enum MHD_Result serve_me(struct web *web, struct exchange *exchange)
{
	struct rt_buf text = { 0 };
	struct session session = { 0 };
	bool known = session_of(web, exchange, &session);

	add_json(&text, json_pack("{s:s, s:b, s:b, s:s, s:b}", "version", TANDEM_VERSION, "public",
				  web->options.public, "signed_in", known, "name",
				  known ? session.name : "", "tokens",
				  web->options.operator_password_file[0] != '\0'));
	session_done(&session);
	return respond_with(web, exchange, MHD_HTTP_OK, &text, NULL);
}

/* ---- alarms ---- */

static enum MHD_Result serve_alarms(struct web *web, struct exchange *exchange)
{
	struct rt_buf text = { 0 }, error = { 0 };
	enum MHD_Result result;

	note_use(web, exchange);
	if (prometheus_alarms(web->options.prometheus, now_ms(), &text, &error))
		result = respond_with(web, exchange, MHD_HTTP_OK, &text, NULL);
	else
		result = refuse(web, exchange, MHD_HTTP_BAD_GATEWAY, "%s", error.data);
	rt_buf_done(&error);
	return result;
}

/* ---- live ---- */

struct stream {
	struct web *web;
	char cookie[SESSION_COOKIE + 1]; /* where only who has signed in may look */
	struct rt_buf text;              /* not sent yet */
	size_t sent;
	uint64_t serial;
};

/* Waits for something to say. False: the stream ends. */
static bool next_text(struct stream *stream)
{
	struct web_options *options = &stream->web->options;
	struct rt_buf point = { 0 };

	stream->text.length = stream->sent = 0;
	if (options->public && !sessions_alive(options->sessions, stream->cookie, now_ms()))
		return false;
	if (collector_wait(options->collector, &stream->serial, ALIVE_MS, &point))
		rt_buf_printf(&stream->text, "event: point\ndata: %.*s\n\n", (int)point.length,
			      point.data);
	else
		rt_buf_printf(&stream->text, ": alive\n\n");
	rt_buf_done(&point);
	return !collector_ended(options->collector);
}

static ssize_t read_stream(void *user, uint64_t position, char *data, size_t most)
{
	struct stream *stream = user;
	size_t length;

	(void)position;
	if (stream->sent == stream->text.length && !next_text(stream))
		return MHD_CONTENT_READER_END_OF_STREAM;
	length = RT_MIN(most, stream->text.length - stream->sent);
	memcpy(data, stream->text.data + stream->sent, length);
	stream->sent += length;
	return (ssize_t)length;
}

/* False: there are as many as there may be. */
static bool count_stream(struct web *web, int by)
{
	bool good;

	pthread_mutex_lock(&web->lock);
	good = by < 0 || web->streams < web->options.streams_max;
	web->streams += good ? by : 0;
	rt_series_set(web->streams_open, (double)web->streams);
	pthread_mutex_unlock(&web->lock);
	return good;
}

static void stream_free(void *user)
{
	struct stream *stream = user;

	(void)count_stream(stream->web, -1);
	rt_buf_done(&stream->text);
	free(stream);
}

static enum MHD_Result serve_live(struct web *web, struct exchange *exchange)
{
	struct MHD_Response *response;
	struct stream *stream;

	if (!count_stream(web, 1))
		return refuse(web, exchange, MHD_HTTP_SERVICE_UNAVAILABLE,
			      "%lld pages are open, and there may be no more (the setting pages)",
			      (long long)web->options.streams_max);
	stream = rt_alloc(sizeof(*stream));
	stream->web = web;
	(void)cookie_of(web, exchange, stream->cookie);
	rt_buf_printf(&stream->text, "retry: 2000\nevent: history\ndata: ");
	collector_history(web->options.collector, &stream->text, &stream->serial);
	rt_buf_printf(&stream->text, "\n\n");
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 64 * 1024, read_stream,
						     stream, stream_free);
	if (response == NULL) {
		stream_free(stream);
		return MHD_NO;
	}
	add_headers(web, response, "text/event-stream; charset=utf-8");
	return queue(web, exchange, MHD_HTTP_OK, response);
}

/* ---- questions ---- */

static const char *argument_of(void *user, const char *name)
{
	struct exchange *exchange = user;
	const char *value = NULL;
	size_t length = 0;

	if (exchange->fields != NULL)
		return json_string_value(json_object_get(exchange->fields, name));
	if (MHD_lookup_connection_value_n(exchange->connection, MHD_GET_ARGUMENT_KIND, name,
					  strlen(name), &value, &length) != MHD_YES ||
	    value == NULL)
		return NULL;
	/* One with a NUL in it is no value: no kind takes this. */
	return strlen(value) == length ? value : "\n";
}

/* As whom tandemctl asks; the words end with NULL. `session` NULL: for who looks. */
static void login_words(const struct web *web, const struct question *question,
			const struct session *session, struct rt_arena *arena,
			const char *words[LOGIN_WORDS + 1])
{
	const struct web_options *options = &web->options;
	const char *user = options->reader_user, *password = options->reader_password_file;
	const char *token = options->reader_token_file;
	size_t count = 0;

	if (session != NULL && session->way == WAY_PASSWORD) {
		user = "ops";
		password = ASK_SECRET_PATH;
	} else if (session != NULL) {
		user = options->operator_user;
		password = options->operator_password_file;
		token = ASK_SECRET_PATH;
	}
	words[count++] = rt_arena_printf(arena, "--redis-user=%s", user);
	words[count++] = rt_arena_printf(arena, "--redis-password-file=%s", password);
	if (token[0] != '\0')
		words[count++] = rt_arena_printf(arena, "--token-file=%s", token);
	if (question->right == RIGHT_OPERATE)
		words[count++] = rt_arena_printf(arena, "--for=%s in the console", session->name);
	words[count] = NULL;
}

/* What it said on standard error, line by line: behind the program's name, with semicolons between. */
static void add_said(struct rt_buf *text, const struct answer *answer)
{
	static const char name[] = "tandemctl:";
	struct rt_buf said = { 0 };

	for (const char *at = answer->err.data; *at != '\0';) {
		if (strncmp(at, name, sizeof(name) - 1) == 0)
			at += sizeof(name) - 1;
		at += strspn(at, " ");
		rt_buf_printf(&said, "%s%.*s", said.length > 0 ? "; " : "", (int)strcspn(at, "\n"),
			      at);
		at += strcspn(at, "\n");
		at += *at == '\n';
	}
	add_text(text, said.data == NULL ? "" : said.data, said.length);
	rt_buf_done(&said);
}

/* Lines of JSON become items. False: a line is something else. */
static bool add_items(struct rt_buf *text, const struct answer *answer)
{
	const char *at = answer->out.data;
	bool first = true;

	while (*at != '\0') {
		size_t length = strcspn(at, "\n");

		if (length < 2 || at[0] != '{' || at[length - 1] != '}' || at[length] != '\n')
			return false;
		if (!first)
			rt_buf_add(text, ",", 1);
		rt_buf_add(text, at, length);
		first = false;
		at += length + 1;
	}
	return true;
}

static unsigned int status_of(const struct answer *answer)
{
	static const unsigned int statuses[] = { MHD_HTTP_OK, MHD_HTTP_NOT_FOUND,
						 MHD_HTTP_BAD_REQUEST,
						 MHD_HTTP_SERVICE_UNAVAILABLE };

	switch (answer->end) {
	case ASK_ENDED:
		if (answer->code < 0 || (size_t)answer->code >= RT_LENGTH(statuses))
			return MHD_HTTP_INTERNAL_SERVER_ERROR;
		/* What it could say counts: a part of the answer, or an answer that is no. */
		return answer->out.length > 0 ? MHD_HTTP_OK : statuses[answer->code];
	case ASK_BUSY:
	case ASK_LEFT: /* nobody reads it */
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	case ASK_LATE:
		return MHD_HTTP_GATEWAY_TIMEOUT;
	case ASK_TOO_LONG:
		return MHD_HTTP_BAD_GATEWAY;
	case ASK_FAILED:
	default:
		return MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
}

static const char *end_text(const struct answer *answer)
{
	switch (answer->end) {
	case ASK_BUSY:
		return "too many ask at the same time: try again";
	case ASK_LATE:
		return "no answer in time";
	case ASK_TOO_LONG:
		return "the answer is too long: ask for less";
	case ASK_LEFT:
		return "nobody waits for the answer";
	case ASK_ENDED:
	case ASK_FAILED:
	default:
		return "";
	}
}

static enum MHD_Result respond_answer(struct web *web, struct exchange *exchange, bool changes,
				      const struct answer *answer)
{
	unsigned int status = status_of(answer);
	const char *end = end_text(answer);
	struct rt_buf text = { 0 };

	if (end[0] != '\0')
		return refuse(web, exchange, status, "%s%s", end,
			      changes && answer->end != ASK_BUSY
				      ? "; it may have been done all the same: see the trail"
				      : "");
	rt_buf_printf(&text, "{\"items\":[");
	if (status == MHD_HTTP_OK && !add_items(&text, answer)) {
		rt_buf_done(&text);
		return refuse(web, exchange, MHD_HTTP_INTERNAL_SERVER_ERROR,
			      "tandemctl printed something that is not JSON");
	}
	rt_buf_printf(&text, "],\"code\":%d,\"%s\":", answer->code,
		      status == MHD_HTTP_OK ? "said" : "error");
	add_said(&text, answer);
	rt_buf_printf(&text, "}\n");
	return respond_with(web, exchange, status, &text, NULL);
}

/* -1: it is not known. */
static int socket_of(struct exchange *exchange)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	return info == NULL ? -1 : info->connect_fd;
}

/* Runs tandemctl with checked words. A change that was begun goes on when the browser leaves. */
static enum MHD_Result ask_question(struct web *web, struct exchange *exchange,
				    const struct question *question, const struct session *session)
{
	const char *login[LOGIN_WORDS + 1];
	struct rt_arena arena = { 0 };
	struct rt_buf error = { 0 };
	struct answer answer;
	enum MHD_Result result;
	const char *const *words;

	login_words(web, question, session, &arena, login);
	words = question_words(question, login, argument_of, exchange, &arena, &error);
	if (words == NULL) {
		result = refuse(web, exchange, MHD_HTTP_BAD_REQUEST, "%s", error.data);
	} else {
		asker_ask(web->options.asker, words, session != NULL ? session->secret : NULL,
			  question->right == RIGHT_OPERATE ? -1 : socket_of(exchange),
			  question->deadline_ms, &answer);
		if (question->right == RIGHT_OPERATE)
			RT_LOG(RT_INFO, "an operator has changed something",
			       RT_S("operator", session->name), RT_S("what", question->path),
			       RT_I("exit_code", answer.code));
		result = respond_answer(web, exchange, question->right == RIGHT_OPERATE, &answer);
		answer_done(&answer);
	}
	rt_buf_done(&error);
	rt_arena_done(&arena);
	return result;
}

static enum MHD_Result serve_question(struct web *web, struct exchange *exchange,
				      const struct question *question)
{
	struct session session = { 0 };
	bool known = false, own;
	enum MHD_Result result;

	if (question->right == RIGHT_LOOK)
		note_use(web, exchange);
	else
		known = session_of(web, exchange, &session);
	/* Whose rights count: those of the operator where something is changed, or more is seen. */
	own = known && (question->right == RIGHT_OPERATE ||
			(question->right == RIGHT_CHECK && session.way == WAY_PASSWORD));
	if (question->right == RIGHT_OPERATE && !known)
		result = refuse(web, exchange, MHD_HTTP_UNAUTHORIZED,
				"only an operator may do this: sign in");
	else if (own && session.way == WAY_TOKEN && web->options.operator_password_file[0] == '\0')
		result = refuse(web, exchange, MHD_HTTP_FORBIDDEN,
				"the console has no password for Redis that may do this (its "
				"setting operator-password-file): sign in with that of ops");
	else
		result = ask_question(web, exchange, question, own ? &session : NULL);
	session_done(&session);
	return result;
}

/* ---- signing in and out ---- */

static void cookie_text(const struct web *web, const char *value, char text[160])
{
	snprintf(text, 160, "%s=%s; Path=/; HttpOnly; SameSite=Strict%s%s", web->cookie, value,
		 web->options.tls != NULL ? "; Secure" : "", value[0] == '\0' ? "; Max-Age=0" : "");
}

/* Redis, or the gateway, knows the secret as an operator's? */
static void try_secret(struct web *web, enum way way, const char *secret, struct answer *ret)
{
	static const char as_ops[] = "--redis-password-file=" ASK_SECRET_PATH;
	static const char with_token[] = "--token-file=" ASK_SECRET_PATH;
	static const char *const password[] = {
		"trail", "--json", "--limit=1", "--context=order", "--redis-user=ops", as_ops, NULL
	};
	static const char *const token[] = { "auth", "try", "--json", with_token, NULL };

	asker_ask(web->options.asker, way == WAY_PASSWORD ? password : token, secret, -1,
		  SIGN_IN_MS, ret);
}

static bool is_secret(const char *secret)
{
	size_t length = secret == NULL ? 0 : strlen(secret);

	if (length == 0 || length > SECRET_BYTES_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (secret[i] <= ' ' || secret[i] > '~')
			return false;
	return true;
}

/* True: it is one; else the request is answered. */
static bool secret_good(struct web *web, struct exchange *exchange, enum way way,
			const char *secret, enum MHD_Result *ret)
{
	struct answer answer;
	bool good, wrong;

	try_secret(web, way, secret, &answer);
	good = answer.end == ASK_ENDED && answer.code == 0;
	/* Else nobody could be asked. */
	wrong = answer.end == ASK_ENDED &&
		(answer.code == 1 || strstr(answer.err.data, "WRONGPASS") != NULL ||
		 strstr(answer.err.data, "password") != NULL);
	if (!good && wrong) {
		sessions_refused(web->options.sessions, now_ms());
		RT_LOG(RT_WARN, "signing in was refused",
		       RT_S("way", way == WAY_PASSWORD ? "password" : "token"));
		*ret = refuse(web, exchange, MHD_HTTP_FORBIDDEN, "%s",
			      way == WAY_PASSWORD
				      ? "that is not the password of ops"
				      : "the gateway does not know it as an operator's");
	} else if (!good) {
		*ret = respond_answer(web, exchange, false, &answer);
	}
	answer_done(&answer);
	return good;
}

static enum MHD_Result sign_in(struct web *web, struct exchange *exchange)
{
	const char *way_text = argument_of(exchange, "way");
	const char *secret = argument_of(exchange, "secret");
	bool password = way_text != NULL && strcmp(way_text, "password") == 0;
	enum way way = password ? WAY_PASSWORD : WAY_TOKEN;
	char cookie[SESSION_COOKIE + 1], name[SESSION_NAME_BYTES], text[160];
	struct rt_buf body = { 0 };
	enum MHD_Result result;

	if (!password && (way_text == NULL || strcmp(way_text, "token") != 0))
		return refuse(web, exchange, MHD_HTTP_BAD_REQUEST, "way: not password or token");
	if (!is_secret(secret))
		return refuse(web, exchange, MHD_HTTP_BAD_REQUEST,
			      "secret: not 1 to %d characters of ASCII without blanks",
			      SECRET_BYTES_MAX);
	if (!sessions_may_try(web->options.sessions, now_ms()))
		return refuse(web, exchange, MHD_HTTP_TOO_MANY_REQUESTS,
			      "too many were refused in the last minute: wait");
	if (!secret_good(web, exchange, way, secret, &result))
		return result;
	if (cookie_of(web, exchange, cookie)) /* in place of who was signed in here */
		sessions_end(web->options.sessions, cookie);
	session_name(way, secret, name);
	sessions_begin(web->options.sessions, way, name, secret, now_ms(), cookie);
	RT_LOG(RT_INFO, "an operator has signed in", RT_S("operator", name));
	cookie_text(web, cookie, text);
	explicit_bzero(cookie, sizeof(cookie));
	add_json(&body, json_pack("{s:s}", "name", name));
	result = respond_with(web, exchange, MHD_HTTP_OK, &body, text);
	explicit_bzero(text, sizeof(text));
	return result;
}

static enum MHD_Result sign_out(struct web *web, struct exchange *exchange)
{
	char cookie[SESSION_COOKIE + 1], text[160];
	struct rt_buf body = { 0 };

	if (cookie_of(web, exchange, cookie))
		sessions_end(web->options.sessions, cookie);
	cookie_text(web, "", text);
	rt_buf_printf(&body, "{}\n");
	return respond_with(web, exchange, MHD_HTTP_OK, &body, text);
}

/* ---- requests ---- */

static enum MHD_Result answer_get(struct web *web, struct exchange *exchange, const char *path)
{
	const struct page_file *file = find_file(path);
	const struct question *question = question_find(path);

	if (file != NULL)
		return serve_file(web, exchange, file);
	/* Pages of other sites could not read the answer, but make us work for it. */
	if (strncmp(path, "/api/", 5) == 0 && !request_own(header(exchange, "Sec-Fetch-Site")))
		return refuse(web, exchange, MHD_HTTP_FORBIDDEN,
			      "refused: it comes from another site");
	if (strcmp(path, "/api/me") == 0)
		return serve_me(web, exchange);
	if (strncmp(path, "/api/", 5) == 0 && !may_look(web, exchange))
		return refuse(web, exchange, MHD_HTTP_UNAUTHORIZED, "sign in first");
	if (strcmp(path, "/api/live") == 0)
		return serve_live(web, exchange);
	if (strcmp(path, "/api/alarms") == 0)
		return serve_alarms(web, exchange);
	if (question == NULL)
		return refuse(web, exchange, MHD_HTTP_NOT_FOUND, "there is no such page");
	if (question->right == RIGHT_OPERATE)
		return refuse(web, exchange, MHD_HTTP_METHOD_NOT_ALLOWED, "only POST");
	return serve_question(web, exchange, question);
}

static enum MHD_Result answer_post(struct web *web, struct exchange *exchange, const char *path)
{
	const struct question *question = question_find(path);
	const char *refused =
		request_refused(header(exchange, "Host"), header(exchange, "Origin"),
				header(exchange, "Sec-Fetch-Site"),
				header(exchange, "Content-Type"), web->options.tls != NULL);

	if (refused != NULL)
		return refuse(web, exchange, MHD_HTTP_FORBIDDEN, "refused: %s", refused);
	if (exchange->too_long)
		return refuse(web, exchange, MHD_HTTP_CONTENT_TOO_LARGE,
			      "the body has more than %d bytes", BODY_BYTES_MAX);
	exchange->fields = json_loadb(exchange->body.data == NULL ? "" : exchange->body.data,
				      exchange->body.length, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(exchange->fields))
		return refuse(web, exchange, MHD_HTTP_BAD_REQUEST, "the body is no JSON object");
	if (strcmp(path, "/api/sign-in") == 0)
		return sign_in(web, exchange);
	if (strcmp(path, "/api/sign-out") == 0)
		return sign_out(web, exchange);
	if (question == NULL)
		return refuse(web, exchange, MHD_HTTP_NOT_FOUND, "there is no such page");
	if (question->right != RIGHT_OPERATE)
		return refuse(web, exchange, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET");
	return serve_question(web, exchange, question);
}

static enum MHD_Result answer_request(struct web *web, struct exchange *exchange, const char *path,
				      const char *method)
{
	if (!rt_http_known(web->http, exchange->connection))
		return refuse(web, exchange, MHD_HTTP_FORBIDDEN,
			      "a client certificate is required");
	if (!request_host_good(header(exchange, "Host"), web->options.hosts, web->options.public))
		return refuse(web, exchange, MHD_HTTP_MISDIRECTED_REQUEST,
			      "that is not a name of this console (its setting hosts)");
	if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
		return answer_get(web, exchange, path);
	if (strcmp(method, "POST") == 0)
		return answer_post(web, exchange, path);
	return refuse(web, exchange, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET, HEAD and POST");
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *path,
				  const char *method, const char *version, const char *body,
				  size_t *body_length, void **state)
{
	struct web *web = user;
	struct exchange *exchange = *state;

	(void)version;
	/* Called first with the headers; then with each part of the body; then without one. */
	if (exchange == NULL) {
		*state = exchange = rt_alloc(sizeof(*exchange));
		exchange->connection = connection;
		return MHD_YES;
	}
	if (*body_length > 0) {
		exchange->too_long =
			exchange->too_long || exchange->body.length + *body_length > BODY_BYTES_MAX;
		if (!exchange->too_long)
			rt_buf_add(&exchange->body, body, *body_length);
		*body_length = 0;
		return MHD_YES;
	}
	return answer_request(web, exchange, path, method);
}

/* Strings of JSON that may be secrets are overwritten: jansson frees them as they are. */
static void wipe_fields(json_t *fields)
{
	const char *secret = json_string_value(json_object_get(fields, "secret"));

	if (secret != NULL)
		explicit_bzero((char *)(uintptr_t)secret, strlen(secret));
	json_decref(fields);
}

static void on_end(void *user, struct MHD_Connection *connection, void **state,
		   enum MHD_RequestTerminationCode code)
{
	struct exchange *exchange = *state;

	(void)user, (void)connection, (void)code;
	if (exchange == NULL)
		return;
	wipe_fields(exchange->fields);
	rt_file_erase(&exchange->body);
	free(exchange);
	*state = NULL;
}

/* ---- life ---- */

int web_new(const struct web_options *options, struct web **ret)
{
	static const char *const labels[] = { "status", NULL };
	struct web *web = rt_alloc(sizeof(*web));
	const struct rt_http_options http = {
		.listen = options->listen,
		.tls = options->tls,
		.connections_max = CONNECTIONS_MAX,
		.idle_s = IDLE_S,
		.threads = true,
		.on_request = on_request,
		.on_end = on_end,
		.user = web,
	};
	int rc;

	web->options = *options;
	pthread_mutex_init(&web->lock, NULL);
	web->requests = rt_metric(options->metrics, RT_COUNTER, "tandem_console_requests_total",
				  "Requests of browsers, by the status of the answer.", labels);
	web->streams_open = rt_metric_plain(options->metrics, RT_GAUGE, "tandem_console_pages",
					    "Pages that are open and are told what happens.");
	rc = rt_http_new(&http, &web->http);
	if (rc != RT_OK) {
		web_free(web);
		return rc;
	}
	snprintf(web->cookie, sizeof(web->cookie), "tandem_console_%d", rt_http_port(web->http));
	*ret = web;
	return RT_OK;
}

int web_start(struct web *web)
{
	return rt_http_start(web->http);
}

void web_free(struct web *web)
{
	if (web == NULL)
		return;
	rt_http_free(web->http);
	pthread_mutex_destroy(&web->lock);
	free(web);
}

int web_port(const struct web *web)
{
	return rt_http_port(web->http);
}
