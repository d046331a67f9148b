/* Log lines: their two forms, escaping, cutting. */
#include "log.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "run.h"
#include "text.h"

static char last[8192];
static int line_count;

static void keep(const char *line, void *user)
{
	(void)user;
	snprintf(last, sizeof(last), "%s", line);
	line_count++;
}

static void use(bool json)
{
	rt_log_init("order", RT_INFO, json);
	rt_log_sink(keep, NULL);
	last[0] = '\0';
	line_count = 0;
}

/* The line behind its time. */
static const char *rest(void)
{
	char time_text[RT_TIME_TEXT];
	int64_t ms;

	snprintf(time_text, sizeof(time_text), "%.24s", last);
	CU_ASSERT_FATAL(rt_time_parse(time_text, &ms));
	return last + RT_TIME_TEXT;
}

static void text_lines(void)
{
	use(false);
	RT_LOG(RT_INFO, "order placed", RT_S("order_id", "ord_1"), RT_I("version", 1),
	       RT_R("took_ms", 0.25));
	CU_ASSERT_STRING_EQUAL(rest(), "info order placed order_id=ord_1 version=1 took_ms=0.25");
	RT_LOG(RT_ERROR, "no fields");
	CU_ASSERT_STRING_EQUAL(rest(), "error no fields");
	CU_ASSERT_EQUAL(line_count, 2);
}

static const struct {
	const char *value, *text, *json;
} escapes[] = {
	{ "plain", "k=plain", "plain" },
	{ NULL, "k=-", NULL },
	{ "", "k=\"\"", "" },
	{ "-", "k=\"-\"", "-" }, /* told apart from NULL */
	{ "two words", "k=\"two words\"", "two words" },
	{ "a=b", "k=\"a=b\"", "a=b" },
	{ "say \"hi\"", "k=\"say \\\"hi\\\"\"", "say \"hi\"" },
	{ "back\\slash", "k=\"back\\\\slash\"", "back\\slash" },
	{ "two\nlines", "k=\"two\\nlines\"", "two\nlines" },
	{ "\x1b[31mred", "k=\"\\x1b[31mred\"", "\x1b[31mred" },
	{ "del\x7f", "k=\"del\\x7f\"", "del\x7f" },
	{ "gr\xc3\xbc\xc3\x9f", "k=\"gr\xc3\xbc\xc3\x9f\"", "gr\xc3\xbc\xc3\x9f" },
	{ "\xf0\x9f\x98\x80", "k=\"\xf0\x9f\x98\x80\"", "\xf0\x9f\x98\x80" },
	{ "c1\xc2\x9b", "k=\"c1\\xc2\\x9b\"", "c1\xc2\x9b" },
	{ "latin\xfc", "k=\"latin\\xfc\"", "latin\xc3\xbc" },                    /* a lone byte */
	{ "cut\xe2\x82", "k=\"cut\\xe2\\x82\"", "cut\xc3\xa2\xc2\x82" },         /* at the end */
	{ "\xc0\xaf", "k=\"\\xc0\\xaf\"", "\xc3\x80\xc2\xaf" },                  /* overlong */
	{ "\xe0\x80\xaf", "k=\"\\xe0\\x80\\xaf\"", "\xc3\xa0\xc2\x80\xc2\xaf" }, /* of three */
	{ "\xf0\x80\x80\xaf", "k=\"\\xf0\\x80\\x80\\xaf\"",
	  "\xc3\xb0\xc2\x80\xc2\x80\xc2\xaf" }, /* of four */
	{ "\xf4\x90\x80\x80", "k=\"\\xf4\\x90\\x80\\x80\"",
	  "\xc3\xb4\xc2\x90\xc2\x80\xc2\x80" }, /* beyond Unicode */
	{ "rtl\xe2\x80\xae", "k=\"rtl\\xe2\\x80\\xae\"", "rtl\xe2\x80\xae" },
	{ "zero\xe2\x80\x8b", "k=\"zero\\xe2\\x80\\x8b\"", "zero\xe2\x80\x8b" },
	{ "line\xe2\x80\xa8", "k=\"line\\xe2\\x80\\xa8\"", "line\xe2\x80\xa8" },
	{ "mark\xef\xbb\xbf", "k=\"mark\\xef\\xbb\\xbf\"", "mark\xef\xbb\xbf" },
	{ "tag\xf3\xa0\x81\x81", "k=\"tag\\xf3\\xa0\\x81\\x81\"", "tag\xf3\xa0\x81\x81" },
	{ "\xed\xa0\x80", "k=\"\\xed\\xa0\\x80\"", "\xc3\xad\xc2\xa0\xc2\x80" }, /* surrogate */
};

static void escaping(void)
{
	use(false);
	for (size_t i = 0; i < RT_LENGTH(escapes); i++) {
		char wanted[100];

		RT_LOG(RT_WARN, "f", RT_S("k", escapes[i].value));
		snprintf(wanted, sizeof(wanted), "warn f %s", escapes[i].text);
		TEST_ROW(strcmp(rest(), wanted) == 0, escapes[i].text);
	}
}

/* Of what a person does not see nothing is in the line itself, in either form. */
static void nothing_hidden(void)
{
	for (int json = 0; json < 2; json++) {
		use(json != 0);
		for (size_t i = 0; i < RT_LENGTH(escapes); i++) {
			RT_LOG(RT_INFO, "f", RT_S("k", escapes[i].value));
			TEST_ROW(rt_text_printable(last, NULL), escapes[i].text);
		}
	}
}

static void json_lines(void)
{
	json_t *line;
	json_error_t error;

	use(true);
	RT_LOG(RT_WARN, "slow", RT_I("big", INT64_MIN), RT_R("nan", NAN), RT_R("half", 0.5));
	line = json_loads(last, JSON_REJECT_DUPLICATES, &error);
	CU_ASSERT_PTR_NOT_NULL_FATAL(line);
	CU_ASSERT_EQUAL(strlen(json_string_value(json_object_get(line, "time"))), 24);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(line, "level")), "warn");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(line, "service")), "order");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(line, "fact")), "slow");
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(line, "big")), INT64_MIN);
	CU_ASSERT(json_is_null(json_object_get(line, "nan")));
	CU_ASSERT_EQUAL(json_real_value(json_object_get(line, "half")), 0.5);
	json_decref(line);
	for (size_t i = 0; i < RT_LENGTH(escapes); i++) {
		const char *value;

		RT_LOG(RT_INFO, "f", RT_S("k", escapes[i].value));
		line = json_loads(last, 0, &error);
		CU_ASSERT_PTR_NOT_NULL_FATAL(line);
		value = json_string_value(json_object_get(line, "k"));
		if (escapes[i].json == NULL)
			TEST_ROW(json_is_null(json_object_get(line, "k")), escapes[i].text);
		else
			TEST_ROW(value != NULL && strcmp(value, escapes[i].json) == 0,
				 escapes[i].text);
		json_decref(line);
	}
}

/* Values of every length around the limit: never longer than a line may be, always one valid
 * object, and marked when something is missing. */
static void cutting(void)
{
	static char value[5000];
	json_error_t error;

	for (int json = 0; json < 2; json++) {
		use(json);
		for (size_t length = 3900; length < 4300; length++) {
			json_t *line = NULL;
			bool cut;

			memset(value, length % 2 ? 'x' : '"', sizeof(value));
			value[length] = '\0';
			RT_LOG(RT_INFO, "f", RT_S("first", value), RT_I("second", 12345678));
			CU_ASSERT_FATAL(strlen(last) < 4096);
			cut = strstr(last, "second") == NULL;
			if (!json) {
				CU_ASSERT_FATAL(cut == (strstr(last, " cut=true") != NULL));
				continue;
			}
			line = json_loads(last, 0, &error);
			CU_ASSERT_PTR_NOT_NULL_FATAL(line);
			CU_ASSERT_FATAL(cut == json_is_true(json_object_get(line, "cut")));
			json_decref(line);
		}
	}
	/* A fact alone may be too long, too. */
	use(true);
	memset(value, 'y', sizeof(value) - 1);
	RT_LOG(RT_INFO, value, RT_I("k", 1));
	{
		json_t *line = json_loads(last, 0, &error);

		CU_ASSERT_PTR_NOT_NULL_FATAL(line);
		json_decref(line);
	}
}

static int evaluated;

static int count_evaluation(void)
{
	return ++evaluated;
}

static void levels(void)
{
	enum rt_log_level level = RT_ERROR;

	use(false);
	evaluated = 0;
	RT_LOG(RT_DEBUG, "quiet", RT_I("n", count_evaluation()));
	CU_ASSERT_EQUAL(line_count, 0);
	CU_ASSERT_EQUAL(evaluated, 0); /* arguments of a line that is off cost nothing */
	CU_ASSERT(!rt_log_on(RT_DEBUG));
	rt_log_init("order", RT_DEBUG, false);
	RT_LOG(RT_DEBUG, "loud", RT_I("n", count_evaluation()));
	CU_ASSERT_STRING_EQUAL(rest(), "debug loud n=1");
	CU_ASSERT(rt_log_level_parse("debug", &level) && level == RT_DEBUG);
	CU_ASSERT(rt_log_level_parse("error", &level) && level == RT_ERROR);
	CU_ASSERT(!rt_log_level_parse("Error", &level));
	CU_ASSERT(!rt_log_level_parse("", &level));
}

/* Without a sink: one line on stderr, newline at the end. */
static void to_stderr(void)
{
	char got[200] = "";
	int fds[2], saved = dup(STDERR_FILENO);
	ssize_t length;

	use(false);
	rt_log_sink(NULL, NULL);
	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	RT_LOG(RT_INFO, "one", RT_I("n", 1));
	dup2(saved, STDERR_FILENO);
	length = read(fds[0], got, sizeof(got) - 1);
	CU_ASSERT_EQUAL(length, RT_TIME_TEXT + (ssize_t)strlen("info one n=1\n"));
	CU_ASSERT_STRING_EQUAL(got + RT_TIME_TEXT, "info one n=1\n");
	close(fds[0]);
	close(fds[1]);
	close(saved);
}

static const struct test tests[] = {
	{ "nothing hidden", nothing_hidden },
	{ "key=value lines", text_lines },
	{ "no value can forge a line or a field", escaping },
	{ "JSON lines", json_lines },
	{ "long lines are cut and say so", cutting },
	{ "levels", levels },
	{ "lines go to stderr", to_stderr },
};

int main(void)
{
	return tests_run("log", tests, RT_LENGTH(tests));
}
