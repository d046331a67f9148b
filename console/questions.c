/* questions.c - see questions.h. */
#include "questions.h"

#include <string.h>

#define LETTERS   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS    "0123456789"
#define TEXT_MAX  512 /* bytes of 128 characters */
#define LOGIN_MAX 8

#define QUICK_MS 10000
#define SLOW_MS  60000

#define LIMIT                                                                                      \
	{                                                                                          \
		"limit", "--limit=", KIND_NUMBER, false                                            \
	}
#define PAGE                                                                                       \
	{                                                                                          \
		"page_token", "--page-token=", KIND_TOKEN, false                                   \
	}

const struct question questions[] = {
	{ "/api/order", RIGHT_LOOK, QUICK_MS, { "explain" }, { { "id", NULL, KIND_TEXT, true } } },
	{ "/api/orders",
	  RIGHT_LOOK,
	  SLOW_MS,
	  { "order", "list" },
	  { { "customer", NULL, KIND_TEXT, true },
	    { "status", "--status=", KIND_STATUS, false },
	    LIMIT,
	    PAGE } },
	{ "/api/events",
	  RIGHT_LOOK,
	  QUICK_MS,
	  { "events", "tail" },
	  { { "count", "--count=", KIND_NUMBER, false },
	    { "until", "--until=", KIND_TIME, false },
	    { "order", "--order=", KIND_TEXT, false },
	    { "context", "--context=", KIND_CONTEXT, false } } },
	{ "/api/stock", RIGHT_LOOK, SLOW_MS, { "stock", "list" }, { LIMIT, PAGE } },
	{ "/api/sku",
	  RIGHT_LOOK,
	  QUICK_MS,
	  { "stock", "get" },
	  { { "sku", NULL, KIND_SKU, true } } },
	{ "/api/holders",
	  RIGHT_LOOK,
	  SLOW_MS,
	  { "stock", "holders" },
	  { { "sku", NULL, KIND_SKU, true }, LIMIT, PAGE } },
	{ "/api/archive/orders",
	  RIGHT_LOOK,
	  SLOW_MS,
	  { "archive", "search" },
	  { { "customer", "--customer=", KIND_TEXT, false },
	    { "status", "--status=", KIND_STATUS, false },
	    { "since", "--since=", KIND_TIME, false },
	    { "until", "--until=", KIND_TIME, false },
	    { "sku", "--sku=", KIND_SKU, false },
	    { "label", "--label=", KIND_LABEL, false },
	    { "oldest", "--oldest-first", KIND_FLAG, false },
	    LIMIT,
	    PAGE } },
	{ "/api/archive/order",
	  RIGHT_LOOK,
	  QUICK_MS,
	  { "archive", "show" },
	  { { "id", NULL, KIND_TEXT, true } } },
	{ "/api/archive/movements",
	  RIGHT_LOOK,
	  SLOW_MS,
	  { "archive", "movements" },
	  { { "sku", NULL, KIND_SKU, true },
	    { "since", "--since=", KIND_TIME, false },
	    { "until", "--until=", KIND_TIME, false },
	    LIMIT,
	    PAGE } },
	{ "/api/streams", RIGHT_LOOK, QUICK_MS, { "events", "lag" }, { { 0 } } },
	{ "/api/aside", RIGHT_LOOK, QUICK_MS, { "events", "aside" }, { { 0 } } },
	{ "/api/dead",
	  RIGHT_LOOK,
	  QUICK_MS,
	  { "dead", "list" },
	  { LIMIT,
	    { "order", "--order=", KIND_TEXT, false },
	    { "context", "--context=", KIND_CONTEXT, false } } },
	{ "/api/doctor", RIGHT_CHECK, SLOW_MS, { "doctor" }, { { 0 } } },
	{ "/api/audit", RIGHT_CHECK, SLOW_MS, { "audit" }, { { 0 } } },
	{ "/api/trail", RIGHT_CHECK, QUICK_MS, { "trail" }, { LIMIT } },
	{ "/api/dead/replay",
	  RIGHT_OPERATE,
	  QUICK_MS,
	  { "dead", "replay" },
	  { { "id", NULL, KIND_ENTRY, true },
	    { "context", "--context=", KIND_CONTEXT, true },
	    { "why", "--why=", KIND_WHY, true },
	    { "force", "--force", KIND_FLAG, false } } },
	{ "/api/dead/discard",
	  RIGHT_OPERATE,
	  QUICK_MS,
	  { "dead", "discard" },
	  { { "id", NULL, KIND_ENTRY, true },
	    { "context", "--context=", KIND_CONTEXT, true },
	    { "why", "--why=", KIND_WHY, true } } },
};
const size_t question_count = RT_LENGTH(questions);

const struct question *question_find(const char *path)
{
	for (size_t i = 0; i < question_count; i++)
		if (strcmp(questions[i].path, path) == 0)
			return &questions[i];
	return NULL;
}

/* ---- values ---- */

static size_t characters(const char *text)
{
	size_t count = 0;

	for (; *text != '\0'; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

static bool only(const char *text, const char *of, size_t most)
{
	size_t length = strlen(text);

	return length > 0 && length <= most && strspn(text, of) == length;
}

static bool is_text(const char *text, size_t characters_max, size_t bytes_max)
{
	uint32_t wrong;
	size_t length = strlen(text);

	return length > 0 && length <= bytes_max && rt_text_printable(text, &wrong) &&
	       characters(text) <= characters_max;
}

static bool is_label(const char *text)
{
	size_t key = strcspn(text, "=");

	return text[key] == '=' && key >= 1 && key <= 64 && strlen(text + key + 1) <= 256 &&
	       is_text(text, 321, 321);
}

static bool is_entry(const char *text)
{
	const char *slash = strchr(text, '/'), *id = slash == NULL ? text : slash + 1;
	size_t first = strspn(id, DIGITS), second;

	if (slash != NULL &&
	    (slash == text || strspn(text, DIGITS) != (size_t)(slash - text) || slash - text > 4))
		return false;
	if (first == 0 || first > 20 || id[first] != '-')
		return false;
	second = strspn(id + first + 1, DIGITS);
	return second > 0 && second <= 20 && id[first + 1 + second] == '\0';
}

static bool is_good(enum kind kind, const char *text, const char **ret_wanted)
{
	int64_t number;

	switch (kind) {
	case KIND_TEXT:
		*ret_wanted = "1 to 128 printable characters";
		return is_text(text, 128, TEXT_MAX);
	case KIND_WHY:
		*ret_wanted = "1 to 256 printable bytes";
		return is_text(text, 256, 256);
	case KIND_SKU:
		*ret_wanted = "1 to 64 letters, digits, '.', '_' and '-'";
		return only(text, LETTERS DIGITS "._-", 64);
	case KIND_STATUS:
		*ret_wanted = "a status, such as reserved";
		return only(text, LETTERS, 32);
	case KIND_NUMBER:
		*ret_wanted = "a number from 1 to 10000";
		return rt_parse_int(text, 1, 10000, &number);
	case KIND_TOKEN:
		*ret_wanted = "what the page before has said";
		return only(text, LETTERS DIGITS "+/=_-.", 1024);
	case KIND_ENTRY:
		*ret_wanted = "the id of an entry, such as 1764000000123-0";
		return is_entry(text);
	case KIND_CONTEXT:
		*ret_wanted = "the name of a context, such as order";
		return only(text, LETTERS, 32);
	case KIND_TIME:
		*ret_wanted = "a time, such as 2026-11-23T01:02:03.004Z";
		return rt_time_parse(text, &number);
	case KIND_LABEL:
		*ret_wanted = "a label, such as shop=north";
		return is_label(text);
	case KIND_FLAG:
	default:
		*ret_wanted = "true or false";
		return strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
	}
}

/* ---- words ---- */

const char *const *question_words(const struct question *question, const char *const *login,
				  const char *(*value_of)(void *user, const char *name), void *user,
				  struct rt_arena *arena, struct rt_buf *error)
{
	const char **words = rt_arena_take(
		arena, sizeof(char *) * (QUESTION_WORDS + LOGIN_MAX + QUESTION_ASKS + 4));
	const char *arguments[QUESTION_ASKS] = { NULL };
	size_t count = 0, argument_count = 0;

	for (size_t i = 0; i < QUESTION_WORDS && question->words[i] != NULL; i++)
		words[count++] = question->words[i];
	words[count++] = "--json";
	for (size_t i = 0; i < LOGIN_MAX && login[i] != NULL; i++)
		words[count++] = login[i];
	for (size_t i = 0; i < QUESTION_ASKS && question->parameters[i].name != NULL; i++) {
		const struct parameter *parameter = &question->parameters[i];
		const char *value = value_of(user, parameter->name), *wanted;

		if (value == NULL || value[0] == '\0') {
			if (!parameter->required)
				continue;
			rt_buf_printf(error, "%s is missing", parameter->name);
			return NULL;
		}
		if (!is_good(parameter->kind, value, &wanted)) {
			rt_buf_printf(error, "%s: not %s", parameter->name, wanted);
			return NULL;
		}
		if (parameter->kind == KIND_FLAG) {
			if (strcmp(value, "true") == 0)
				words[count++] = parameter->option;
		} else if (parameter->option != NULL) {
			words[count++] = rt_arena_printf(arena, "%s%s", parameter->option, value);
		} else {
			arguments[argument_count++] = value;
		}
	}
	words[count++] = "--";
	for (size_t i = 0; i < argument_count; i++)
		words[count++] = arguments[i];
	words[count] = NULL;
	return words;
}
