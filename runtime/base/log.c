/* log.c - lines are put together in a buffer on the stack and written with one write(2), so lines
 * of several threads never mix and logging never allocates.
 *
 * A reader that stalls must not hold up a service (rt_log_never_wait). O_NONBLOCK would be seen by
 * everybody who shares standard error with us, down to the shell, so it is not set there:
 *   pipe, terminal   opened a second time, for us alone, with O_NONBLOCK
 *                    (where that is not allowed: asked with poll before each write)
 *   socket           sent to with MSG_DONTWAIT
 *   file             written with write(2)
 * A line for which there is no room is dropped and counted; when there is room again, one line reports
 * how many were. If a line was written in part, its rest is written first.
 *
 * Every byte from outside is escaped: a value cannot forge a line, a field or a terminal escape.
 * A line that is too long is cut where it no longer fits, and says so (cut=true); in JSON it stays
 * one valid object. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

#define LINE_MAX_BYTES 4096
/* Kept free for the end of a cut line: a quote, ,"cut":true}, a newline. */
#define TAIL_BYTES 24

struct line {
	char text[LINE_MAX_BYTES];
	size_t length;
	bool full;
};

static const char *const level_names[] = {
	[RT_ERROR] = "error",
	[RT_WARN] = "warn",
	[RT_INFO] = "info",
	[RT_DEBUG] = "debug",
};

static atomic_int level_max = RT_INFO;
static bool as_json;
static const char *service_name = "";
static void (*line_sink)(const char *line, void *user);
static void *line_sink_user;

static enum { OUT_PLAIN, OUT_OWN, OUT_ASK, OUT_SOCKET } out_kind;
static int out_fd = STDERR_FILENO;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER; /* for what follows */
static char out_rest[LINE_MAX_BYTES]; /* the rest of a line that was written in part */
static size_t out_rest_length;
static uint64_t out_dropped; /* and not reported yet */
static struct rt_series *out_dropped_series;

void rt_log_init(const char *service, enum rt_log_level level, bool json)
{
	service_name = service;
	as_json = json;
	atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}

void rt_log_sink(void (*sink)(const char *line, void *user), void *user)
{
	line_sink = sink;
	line_sink_user = user;
}

bool rt_log_on(enum rt_log_level level)
{
	return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

bool rt_log_level_parse(const char *text, enum rt_log_level *ret)
{
	for (size_t i = 0; i < RT_LENGTH(level_names); i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*ret = (enum rt_log_level)i;
			return true;
		}
	}
	return false;
}

/* Appends all of `bytes`, or nothing and marks the line as full. */
static void put(struct line *line, const char *bytes, size_t length)
{
	if (line->full || line->length + length > sizeof(line->text) - TAIL_BYTES) {
		line->full = true;
		return;
	}
	memcpy(line->text + line->length, bytes, length);
	line->length += length;
}

static void put_text(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

/* Uses the room kept free: for the end of a value or of the line. */
static void put_tail(struct line *line, const char *text)
{
	size_t length = RT_MIN(strlen(text), sizeof(line->text) - line->length);

	memcpy(line->text + line->length, text, length);
	line->length += length;
}

/* The escape of the first `length` bytes of `value`: the character `c`, or a byte that is none (0).
 * JSON has no bytes: what is not UTF-8 is shown as the code point of the same number. */
static void put_escape(struct line *line, const char *value, size_t length, uint32_t c)
{
	char escape[24];
	size_t at = 0;

	if (length == 0)
		c = (unsigned char)value[0];
	if (*value == '"' || *value == '\\') {
		snprintf(escape, sizeof(escape), "\\%c", *value);
	} else if (*value == '\n') {
		snprintf(escape, sizeof(escape), "\\n");
	} else if (!as_json) {
		for (size_t i = 0; i < RT_MAX(length, (size_t)1); i++)
			at += (size_t)snprintf(escape + at, sizeof(escape) - at, "\\x%02x",
					       (unsigned char)value[i]);
	} else if (c > 0xffff) {
		snprintf(escape, sizeof(escape), "\\u%04x\\u%04x", 0xd7c0 + (c >> 10),
			 0xdc00 + (c & 0x3ff));
	} else {
		snprintf(escape, sizeof(escape), "\\u%04x", c);
	}
	put_text(line, escape);
}

/* The characters of `value` with escapes, without quotes around them. More than a line holds is
 * not looked at. */
static void put_escaped(struct line *line, const char *value)
{
	size_t left = strnlen(value, LINE_MAX_BYTES);

	while (left > 0 && !line->full) {
		uint32_t c = 0;
		size_t length = rt_utf8_decode(value, left, &c);

		if (length > 0 && rt_character_printable(c) && c != '"' && c != '\\')
			put(line, value, length);
		else
			put_escape(line, value, length, c);
		length = RT_MAX(length, (size_t)1);
		value += length;
		left -= length;
	}
}

static void put_quoted(struct line *line, const char *value)
{
	put(line, "\"", 1);
	if (line->full)
		return;
	put_escaped(line, value);
	put_tail(line, "\"");
}

/* Needs no quotes in key=value form. */
static bool plain(const char *value)
{
	for (const unsigned char *p = (const unsigned char *)value; *p != '\0'; p++) {
		if (*p <= 0x20 || *p == '"' || *p == '\\' || *p == '=' || *p >= 0x7f)
			return false;
	}
	return value[0] != '\0' && strcmp(value, "-") != 0;
}

static void put_string(struct line *line, const char *value)
{
	if (value == NULL)
		put_text(line, as_json ? "null" : "-");
	else if (as_json || !plain(value))
		put_quoted(line, value);
	else
		put_escaped(line, value);
}

static void put_value(struct line *line, const struct rt_kv *kv)
{
	char number[40];

	if (kv->kind == RT_KV_STRING) {
		put_string(line, kv->string);
		return;
	}
	snprintf(number, sizeof(number), "%lld", (long long)kv->integer);
	put_text(line, number);
}

/* A field is written whole, or its string value is cut, or it is left out. */
static void put_field(struct line *line, const struct rt_kv *kv)
{
	size_t before = line->length;

	put_text(line, as_json ? ",\"" : " ");
	put_escaped(line, kv->key);
	put_text(line, as_json ? "\":" : "=");
	if (!line->full) {
		size_t value_at = line->length;

		put_value(line, kv);
		if (line->length > value_at)
			return;
	}
	if (line->full)
		line->length = before;
}

static void put_head(struct line *line, enum rt_log_level level, const char *msg)
{
	char time_text[RT_TIME_TEXT];

	rt_time_format(rt_wall_us() / 1000, time_text);
	if (!as_json) {
		put_text(line, time_text);
		put_text(line, " ");
		put_text(line, level_names[level]);
		put_text(line, " ");
		put_escaped(line, msg);
		return;
	}
	put_text(line, "{\"time\":\"");
	put_text(line, time_text);
	put_text(line, "\",\"level\":\"");
	put_text(line, level_names[level]);
	put_text(line, "\",\"service\":");
	put_quoted(line, service_name);
	put_text(line, ",\"msg\":");
	put_quoted(line, msg);
}

static void make_line(struct line *line, enum rt_log_level level, const char *msg,
		      const struct rt_kv *kv)
{
	line->length = 0;
	line->full = false;
	put_head(line, level, msg);
	for (; kv->key != NULL && !line->full; kv++)
		put_field(line, kv);
	if (line->full)
		put_tail(line, as_json ? ",\"cut\":true" : " cut=true");
	if (as_json)
		put_tail(line, "}");
}

/* ---- writing ---- */

/* How many bytes were written; -1: none, for now. */
static ssize_t out_some(const char *text, size_t length)
{
	struct pollfd room = { .fd = out_fd, .events = POLLOUT };

	if (out_kind == OUT_SOCKET)
		return send(out_fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* A pipe with room takes a line at once, unless another process fills it first. */
	if (out_kind == OUT_ASK && (poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0))
		return -1;
	return write(out_fd, text, length);
}

/* False: nothing was written. */
static bool out_line(const char *text, size_t length)
{
	ssize_t written = out_some(text, length);

	if (written <= 0)
		return false;
	out_rest_length = length - (size_t)written;
	memmove(out_rest, text + written, out_rest_length);
	return true;
}

/* Writes what is left from before: the rest of a line, and how many were dropped. True: all of it. */
static bool out_owed(void)
{
	struct line line;

	if (out_rest_length > 0 && (!out_line(out_rest, out_rest_length) || out_rest_length > 0))
		return false;
	if (out_dropped == 0)
		return true;
	make_line(&line, RT_WARN, "log lines were dropped, nobody read them",
		  (const struct rt_kv[]){ RT_I("count", out_dropped), RT_S(NULL, NULL) });
	put_tail(&line, "\n");
	if (!out_line(line.text, line.length))
		return false;
	out_dropped = 0;
	return out_rest_length == 0;
}

void rt_log_write(enum rt_log_level level, const char *msg, const struct rt_kv *kv)
{
	struct line line;

	make_line(&line, level, msg, kv);
	if (line_sink != NULL) {
		line.text[line.length] = '\0';
		line_sink(line.text, line_sink_user);
		return;
	}
	put_tail(&line, "\n");
	pthread_mutex_lock(&out_lock);
	if (!out_owed() || !out_line(line.text, line.length)) {
		out_dropped++;
		if (out_dropped_series != NULL)
			rt_series_add(out_dropped_series, 1);
	}
	pthread_mutex_unlock(&out_lock);
}

bool rt_log_flush(int64_t wait_ms)
{
	struct pollfd room = { .fd = out_fd, .events = POLLOUT };
	int64_t end_ms = 0, now_ms;
	bool done;

	for (;;) {
		pthread_mutex_lock(&out_lock);
		done = out_owed();
		pthread_mutex_unlock(&out_lock);
		now_ms = rt_monotonic_ns() / 1000000;
		if (end_ms == 0)
			end_ms = now_ms + wait_ms;
		/* A file always has room, or never; a reader that has gone does not come back. */
		if (done || now_ms >= end_ms || out_kind == OUT_PLAIN ||
		    poll(&room, 1, (int)(end_ms - now_ms)) != 1 || (room.revents & POLLOUT) == 0)
			return done;
	}
}

void rt_log_never_wait(struct rt_series *dropped)
{
	static bool done;
	struct stat stat;

	pthread_mutex_lock(&out_lock);
	out_dropped_series = dropped;
	pthread_mutex_unlock(&out_lock);
	if (done || fstat(STDERR_FILENO, &stat) < 0)
		return;
	done = true;
	if (S_ISSOCK(stat.st_mode)) {
		out_kind = OUT_SOCKET;
	} else if (S_ISFIFO(stat.st_mode) || S_ISCHR(stat.st_mode)) {
		/* Stays open as long as the process, as standard error does. */
		out_fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		out_kind = out_fd >= 0 ? OUT_OWN : OUT_ASK;
		if (out_fd < 0)
			out_fd = STDERR_FILENO;
	}
}
