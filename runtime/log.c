/* log.c - lines are put together in a buffer on the stack and written with one write(2), so lines
 * of several threads never mix and logging never allocates.
 *
 * Every byte from outside is escaped: a value cannot forge a line, a field or a terminal escape.
 * What does not fit into the line is left out from where it no longer fits, and the line says so
 * (cut=true); in JSON it stays one valid object. */
#include "log.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
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

/* All of `bytes`, or nothing and the line is full. */
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

/* Goes into the room kept free: for what closes a value or the line. */
static void put_tail(struct line *line, const char *text)
{
	size_t length = RT_MIN(strlen(text), sizeof(line->text) - line->length);

	memcpy(line->text + line->length, text, length);
	line->length += length;
}

/* The escape of what takes `length` bytes of `value`: the character `c`, or one byte that is none
 * (0). JSON has no bytes: what is not UTF-8 is shown as the code point of the same number. */
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

	switch (kv->kind) {
	case RT_KV_STRING:
		put_string(line, kv->string);
		return;
	case RT_KV_INT:
		snprintf(number, sizeof(number), "%lld", (long long)kv->integer);
		break;
	case RT_KV_REAL:
		if (as_json && !isfinite(kv->real))
			snprintf(number, sizeof(number), "null");
		else
			snprintf(number, sizeof(number), "%.6g", kv->real);
		break;
	}
	put_text(line, number);
}

/* A field is there whole, or its value is a string cut short, or it is not there at all. */
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

static void put_head(struct line *line, enum rt_log_level level, const char *fact)
{
	char time_text[RT_TIME_TEXT];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	rt_time_format((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, time_text);
	if (!as_json) {
		put_text(line, time_text);
		put_text(line, " ");
		put_text(line, level_names[level]);
		put_text(line, " ");
		put_escaped(line, fact);
		return;
	}
	put_text(line, "{\"time\":\"");
	put_text(line, time_text);
	put_text(line, "\",\"level\":\"");
	put_text(line, level_names[level]);
	put_text(line, "\",\"service\":");
	put_quoted(line, service_name);
	put_text(line, ",\"fact\":");
	put_quoted(line, fact);
}

void rt_log_write(enum rt_log_level level, const char *fact, const struct rt_kv *kv)
{
	struct line line;

	line.length = 0;
	line.full = false;
	put_head(&line, level, fact);
	for (; kv->key != NULL && !line.full; kv++)
		put_field(&line, kv);
	if (line.full)
		put_tail(&line, as_json ? ",\"cut\":true" : " cut=true");
	if (as_json)
		put_tail(&line, "}");
	if (line_sink != NULL) {
		line.text[line.length] = '\0';
		line_sink(line.text, line_sink_user);
		return;
	}
	put_tail(&line, "\n");
	/* A log that cannot be written has nowhere to be reported. */
	if (write(STDERR_FILENO, line.text, line.length) < 0)
		return;
}
